"""Is the gradient right?  Finite differences, forward against reverse mode, and the verdict."""
