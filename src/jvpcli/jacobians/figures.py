"""Report builders: tensors in, plain data out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import is_out_of_memory
from jvpcli.jacobians.linear_map import LinearMap, as_numpy
from jvpcli.language.values import dtype_name
from jvpcli.report import Cotangent, InputValue, Jacobian, Value
from jvpcli.request import Tell

LARGEST_DENSE = 1_000_000
"""Above this many elements an array is never written out dense."""


def array(tensor: Tensor) -> np.ndarray | None:
    """A copy of the numbers of a tensor, which others may write to later on, or None above the size that is written out dense."""
    return None if (tensor.numel() or _written(tensor.shape)) > LARGEST_DENSE else as_numpy(tensor).copy()


def _written(shape: tuple[int, ...]) -> int:
    """Entries, or of an array without any the empty lists, that would be written."""
    return math.prod(itertools.takewhile(bool, shape))


def input_value(tensor: Tensor, differentiated: bool) -> InputValue:
    """An input's entry in the report."""
    return InputValue(tuple(tensor.shape), dtype_name(tensor.dtype), str(tensor.device), differentiated, array(tensor))


def value(tensor: Tensor) -> Value:
    """An output's, a vjp's or a jvp's entry in the report."""
    return Value(tuple(tensor.shape), dtype_name(tensor.dtype), array(tensor))


def cotangent(source: str, tensor: Tensor) -> Cotangent:
    """A cotangent's or tangent's entry in the report."""
    return Cotangent(source, tuple(tensor.shape), dtype_name(tensor.dtype), array(tensor))


def jacobian(
    linear_map: LinearMap, dtype: torch.dtype, wanted: str = "auto", tell: Tell | None = None
) -> Jacobian:
    """A Jacobian's entry in the report, in the format wanted: auto, dense, sparse or none.

    `auto` writes it dense up to the largest size, then as its nonzeros up to the same number of them.  `dtype` is the
    input's; that of a complex output's entries is complex.
    """
    shape = linear_map.out_shape + linear_map.in_shape
    size, nnz = linear_map.m * linear_map.n, linear_map.nnz
    aside = linear_map.aside
    if wanted == "none":
        entry: dict[str, Any] = {"format": "omitted", "reason": "asked for with --jacobian none"}
    elif nnz is None:
        entry = {"format": "omitted", "reason": f"its {size} elements do not fit into the memory limit"}
        if linear_map.structure == "unknown":
            entry |= _summary(linear_map, tell)
    elif wanted != "sparse" and _written(shape) <= LARGEST_DENSE:
        entry = {"format": "dense", "value": array(linear_map.numbers())}
        entry["imaginary"] = None if aside is None else array(aside.reshape(shape))
    elif wanted != "dense" and nnz <= LARGEST_DENSE:
        rows, cols, values = linear_map.entries()
        axes = (*_axes(rows, linear_map.out_shape), *_axes(cols, linear_map.in_shape))
        entry = {"format": "coo", "indices": axes, "values": array(values)}
        entry["imaginary"] = None if aside is None else array(aside[rows, cols])
    else:
        entry = {
            "format": "omitted",
            "reason": f"{size} elements, {nnz} of them not zero: more than the {LARGEST_DENSE} that are written out",
        }
    dtype = dtype.to_complex() if linear_map.of_complex[0] else dtype
    entry["scale"] = scale(linear_map.scale)
    return Jacobian(shape, dtype_name(dtype), nnz, linear_map.structure, linear_map.structure_from, **entry)


def scale(number: Tensor | None) -> np.ndarray | None:
    """The number that an identity is times, for the report; None for any other kind."""
    return None if number is None else array(number)


def _summary(linear_map: LinearMap, tell: Tell | None) -> dict[str, Any]:
    """What is told of a map that is not held."""
    from jvpcli.jacobians.matrix_free import OperatorMap

    try:
        summary = linear_map.summary(tell) if isinstance(linear_map, OperatorMap) else None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        summary = None
    if summary is None:
        return {}
    return {"frobenius_norm": summary.frobenius_norm, "diagonal": array(summary.diagonal)}


def _axes(flat: Tensor, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Row-major positions as one array of indices an axis."""
    return np.unravel_index(flat.cpu().numpy(), shape) if shape else ()
