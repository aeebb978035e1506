"""The answers: a file each, which reads from top to bottom in the order of its stages."""
