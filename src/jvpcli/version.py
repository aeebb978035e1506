"""The version of jvp."""

__version__ = "0.1.0"
