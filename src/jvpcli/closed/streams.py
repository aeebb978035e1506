"""Streams of random numbers that a program makes."""

from __future__ import annotations

import torch


class Kept(torch.Generator):
    """A stream that begins where it was told to first, whatever a program tells it."""

    @classmethod
    def begun(cls, seed: int) -> Kept:
        """One that begins from a seed."""
        stream = cls()
        torch.Generator.manual_seed(stream, seed)
        return stream

    def manual_seed(self, seed: int) -> torch.Generator:
        """Begins nothing anew."""
        return self
