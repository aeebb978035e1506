"""Numbers, shapes and arrays as text."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np


def shape_text(shape: tuple[int, ...]) -> str:
    """`(4, 4)`, `(4,)`, and `()` with what that means."""
    return str(tuple(shape)) if shape else "() a single number"


def number_text(value: Any) -> str:
    """A number in at most five significant digits: `20`, `0.3333`, `1.2e-07`, `nan`."""
    if isinstance(value, (complex, np.complexfloating)):
        imaginary = number_text(value.imag)
        return f"{number_text(value.real)}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    return f"{value:.5g}"


def kind_text(structure: str, scale: np.ndarray | None) -> str:
    """A kind of Jacobian in words: `block-diagonal`, `identity`, and `2 × identity` or `(0+2j) × identity`."""
    kind = structure.replace("_", "-")
    if scale is None or scale == 1:
        return kind
    number = number_text(scale.item())
    return f"({number}) × {kind}" if np.iscomplexobj(scale) else f"{number} × {kind}"


SHORTER = ((60, 4), (0, 4), (0, 3), (0, 2), (0, 1))
"""Up to how many entries all are shown, and how many at both ends of an axis otherwise: more and more is left out."""

LONGEST = 10
"""As many lines an array takes where leaving entries out can make it so short."""


def array_text(array: np.ndarray | None, *, lines: int | None = LONGEST, width: int = 100) -> str:
    """An array as PyTorch prints it: `[20., 20., 20., 20.]`; the middle of a large one is left out, for so many lines.

    Of many axes the ends alone take more: they stand one after the other.  None: nothing is left out.
    """
    if array is None:
        return "(too large to be written out)"
    text, moderate = "", _moderate(array)
    for most, edge in [(array.size, 4)] if lines is None else SHORTER:
        text = np.array2string(
            array,
            separator=", ",
            precision=4,
            threshold=most,
            edgeitems=edge,
            max_line_width=width,
            floatmode="maxprec",
            suppress_small=moderate,
        )
        if lines is None or text.count("\n") < lines:
            return text
    return fill(" ".join(text.split()).replace("[ ", "["), width, subsequent_indent=" ", break_on_hyphens=False)


def _moderate(array: np.ndarray) -> bool:
    """Whether all entries read well without exponents."""
    sizes = np.abs(array[np.isfinite(array) & (array != 0)]) if array.size else array
    return bool(sizes.size) and float(sizes.max()) < 1e5 and float(sizes.min()) >= 1e-3  # halves end below 1e5


def bytes_text(size: float) -> str:
    """`64 B`, `1.5 MB`, `17 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def index_text(flat: int, shape: tuple[int, ...]) -> str:
    """`[1,2]` for the row-major position of an entry; nothing for a 0-d array."""
    if not shape:
        return ""
    return "[" + ",".join(str(int(i)) for i in np.unravel_index(flat, shape)) + "]"
