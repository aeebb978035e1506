"""Local Jacobians: each node of the graph that torch has made, as a structured map to its operands."""
