"""The command-line inspector of Jacobians and vector-Jacobian products for PyTorch."""
