"""The chain rule step by step: replayed, pulled back, and where a gradient goes wrong."""
