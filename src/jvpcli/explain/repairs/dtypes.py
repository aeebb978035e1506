"""Operands of different dtypes."""

from __future__ import annotations

import ast

import torch

from jvpcli.explain.guilty import Guilty
from jvpcli.explain.repairs.edits import Edits, out_of_place
from jvpcli.explain.table.entry import Found

CASTS = {
    torch.float32: ".float()", torch.float64: ".double()", torch.int64: ".long()", torch.bool: ".bool()",
    torch.float16: ".half()", torch.bfloat16: ".bfloat16()", torch.complex64: ".cfloat()", torch.complex128: ".cdouble()",
}  # fmt: skip


def casting(guilty: Guilty, found: Found) -> Edits:
    """The operand that loses nothing cast to the other's dtype, then the reverse; integers to floats."""
    yield from out_of_place(guilty)
    tensors = [*guilty.tensors, *guilty.listed]
    dtypes = list(dict.fromkeys(operand.value.dtype for operand in tensors))
    if len(dtypes) > 1:
        common = dtypes[0]
        for dtype in dtypes[1:]:
            common = torch.promote_types(common, dtype)
        for target in dict.fromkeys((common, *dtypes)):
            others = [operand for operand in tensors if operand.value.dtype != target]
            yield guilty.edited(*(operand.behind(CASTS.get(target, f".to({target})")) for operand in others))
    for suffix in (".float()", ".long()", ".bool()"):
        for operand in tensors:
            yield guilty.with_suffix(operand, suffix)
    if isinstance(guilty.node, ast.Subscript) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[1], ".long()")
    for operand in tensors:
        yield guilty.with_suffix(operand, ".real") if operand.value.is_complex() else None
