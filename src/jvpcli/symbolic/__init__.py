"""Closed forms of derivatives: a program in indices, differentiated, and brought back to matrices and PyTorch code."""
