"""What the script in a page works with: names, shapes, and numbers as base64 of typed arrays.

The numbers travel as they are in memory (little-endian), so that NaN and infinities need no words and a large
Jacobian stays small.  Above `EXACT` entries float64 goes as float32: the page shows five digits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from jvpcli.render.matrix import Matrix, jacobians, pattern
from jvpcli.report import Contraction, InspectReport, Jacobian

EXACT = 4096
"""Arrays up to this many entries keep float64."""

BUDGET = 1_000_000
"""Bytes of Jacobians (before base64) that a page holds; beyond it a picture in blocks stands for them."""

LONGEST = 65_536
"""Rows or columns up to which v and the result are held entry by entry."""

MOST_LIT = 65_536
"""Entries of a Jacobian up to which a page holds where the parts of its formula apply."""

MAP_SIDE = 400
"""Blocks along each side of the picture of a Jacobian that is too large for the page."""

Data = dict[str, Any]


def script_block(document: Mapping[str, Any]) -> Markup:
    """JSON for a script element: `<` is written as an escape, so that nothing in a string can end the element."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def inspect_data(report: InspectReport, words: Mapping[str, str]) -> Data:
    """Everything that the explorable part of an `inspect` page needs; `words` are what it calls things."""
    pairs = list(jacobians(report))
    budget = BUDGET // max(1, len(pairs))
    return {
        "kind": "inspect",
        "words": words,
        "outputs": {
            name: {
                "shape": y.shape,
                "value": vector(y.value),
                "v": vector(report.grad_outputs[name].value) if name in report.grad_outputs else None,
            }
            for name, y in report.outputs.items()
        },
        "inputs": {
            name: {
                "shape": x.shape,
                "value": vector(x.value),
                "result": vector(report.vjp[name].value) if name in report.vjp else None,
            }
            for name, x in report.inputs.items()
        },
        "pairs": [_pair(report, y, x, jacobian, matrix, budget) for y, x, jacobian, matrix in pairs],
    }


def _pair(report: InspectReport, y: str, x: str, jacobian: Jacobian, matrix: Matrix | None, budget: int) -> Data:
    contraction = report.contraction.get(y, {}).get(x)
    base: Data = {
        "y": y,
        "x": x,
        "axes": index_letters(contraction),
        "editable": not any("complex" in dtype for dtype in (report.outputs[y].dtype, jacobian.dtype)),
    }
    if matrix is None:
        return {**base, "format": "none"}
    if np.iscomplexobj(matrix.values) or "complex" in report.outputs[y].dtype:
        base["exact"] = _followable(report, y, x, matrix)
    base["scale"] = matrix.largest()
    base["blocks"] = pattern(matrix).diagonal_blocks
    if max(matrix.m, matrix.n) <= LONGEST:
        size = matrix.m * matrix.n
        smaller = size <= EXACT or _bytes(size, matrix.values) <= _sparse_bytes(matrix)
        if jacobian.value is not None and smaller and _bytes(size, matrix.values) <= budget:
            return {**base, "format": "dense", "values": array(jacobian.value)}
        if _sparse_bytes(matrix) <= budget:
            return {**base, "format": "csr", **_rows(matrix)}
    side = min(MAP_SIDE, int((budget / 4) ** 0.5))
    picture = matrix.blocks(side, side)
    return {**base, "format": "map", "height": picture.shape[0], "width": picture.shape[1], "values": array(picture)}


def _followable(report: InspectReport, y: str, x: str, matrix: Matrix) -> bool:
    """Whether v and this Jacobian alone make the result; of a complex function that need not be so."""
    v, result = report.grad_outputs.get(y), report.vjp.get(x)
    if v is None or v.value is None or result is None or result.value is None or len(report.grad_outputs) > 1:
        return False
    made = np.zeros(matrix.n, np.complex128)
    np.add.at(made, matrix.cols, v.value.reshape(-1)[matrix.rows] * matrix.values)
    return bool(np.allclose(made, result.value.reshape(-1), rtol=1e-4, atol=1e-6, equal_nan=True))


def _rows(matrix: Matrix) -> Data:
    """Compressed sparse rows: how many nonzeros each row has, their columns, and the numbers."""
    counts = np.bincount(matrix.rows, minlength=matrix.m)
    return {"counts": array(_narrow(counts)), "cols": array(_narrow(matrix.cols)), "values": array(matrix.values)}


def _sparse_bytes(matrix: Matrix) -> int:
    return _bytes(matrix.nnz, matrix.values) + matrix.nnz * (2 if matrix.n <= 65_536 else 4) + 2 * matrix.m


def _bytes(count: int, values: np.ndarray) -> int:
    width = 8 if values.dtype.itemsize >= 8 and count <= EXACT else 4
    return count * width * (2 if np.iscomplexobj(values) else 1)


def _narrow(whole: np.ndarray) -> np.ndarray:
    return whole.astype(np.uint16 if whole.size == 0 or whole.max() < 65_536 else np.uint32)


def vector(values: np.ndarray | None) -> Data | None:
    """An array of a report, or None where it is missing or too long for a page."""
    if values is None or (values.size > LONGEST and not _constant(values)):
        return None
    return array(values)


def array(values: np.ndarray) -> Data:
    """`{"type", "data"}`: base64 of the flattened array; `{"fill", "count"}` where all entries are the same.

    A complex array has its imaginary part as `imaginary`.
    """
    flat = values.reshape(-1)
    if np.iscomplexobj(flat):
        return {**array(flat.real), "imaginary": array(flat.imag)}
    if flat.dtype.kind not in "uf":
        flat = flat.astype(np.float64)
    if flat.dtype.kind == "f" and (flat.dtype.itemsize < 4 or flat.size > EXACT):
        with np.errstate(over="ignore"):
            narrow = flat.astype(np.float32)
        flat = narrow if np.array_equal(np.isfinite(narrow), np.isfinite(flat)) else flat
    if flat.size > 1 and _constant(flat):
        return {"fill": float(flat[0]), "count": flat.size}
    flat = np.ascontiguousarray(flat, flat.dtype.newbyteorder("<"))
    return {"type": f"{flat.dtype.kind}{flat.dtype.itemsize}", "data": base64.b64encode(flat.tobytes()).decode()}


def _constant(values: np.ndarray) -> bool:
    flat = values.reshape(-1)
    return bool(flat.size and np.isfinite(flat[0]) and (flat == flat[0]).all())


def index_letters(contraction: Contraction | None) -> tuple[str, str]:
    """The letters of the output's and of the input's axes; nothing for an output without a cotangent."""
    return split_einsum(contraction.einsum) if contraction else ("", "")


def split_einsum(einsum: str) -> tuple[str, str]:
    """The letters of the output's and of the input's axes: `jk` and `i` of `jk,jki->i`."""
    operands, _, result = einsum.partition("->")
    return operands.partition(",")[0], result


def facts(matrix: Matrix | None) -> Data | None:
    """What is told of a sparse Jacobian beside its picture: nonzeros, bandwidth, blocks."""
    if matrix is None:
        return None
    found = pattern(matrix)
    return {
        "nnz": found.nnz,
        "size": matrix.m * matrix.n,
        "lower": found.lower,
        "upper": found.upper,
        "bandwidth": found.bandwidth,
        "blocks": found.diagonal_blocks,
    }
