"""Benchmarks of the derivative engine against its peers; `python -m benchmarks.run`."""
