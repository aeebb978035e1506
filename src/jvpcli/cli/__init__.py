"""The door: argv, streams and exit codes; one small module a command."""
