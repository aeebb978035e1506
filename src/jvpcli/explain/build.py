"""Report builders: tensors in, plain data out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jvpcli.derive.linear_map import LinearMap
from jvpcli.report import Cotangent, InputValue, Jacobian, Value

LARGEST_DENSE = 1_000_000
"""Above this many elements an array is never written out dense."""


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def array(tensor: Tensor) -> np.ndarray | None:
    """The numbers of a tensor, or None above the size that is written out dense."""
    if tensor.numel() > LARGEST_DENSE:
        return None
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    if tensor.dtype is torch.complex32:
        tensor = tensor.to(torch.complex64)
    return tensor.numpy()


def input_value(tensor: Tensor, differentiated: bool) -> InputValue:
    """An input's entry in the report."""
    return InputValue(tuple(tensor.shape), dtype_name(tensor.dtype), str(tensor.device), differentiated, array(tensor))


def value(tensor: Tensor) -> Value:
    """An output's, a vjp's or a jvp's entry in the report."""
    return Value(tuple(tensor.shape), dtype_name(tensor.dtype), array(tensor))


def cotangent(source: str, tensor: Tensor) -> Cotangent:
    """A cotangent's or tangent's entry in the report."""
    return Cotangent(source, tuple(tensor.shape), dtype_name(tensor.dtype), array(tensor))


def jacobian(linear_map: LinearMap, structure_from: str, wanted: str = "auto") -> Jacobian:
    """A Jacobian's entry in the report, in the format wanted: auto, dense, sparse or none.

    `auto` writes it dense up to the largest size, then as its nonzeros up to the same number of them.
    """
    shape = linear_map.out_shape + linear_map.in_shape
    size = linear_map.m * linear_map.n
    dense = linear_map.to_dense() if wanted != "none" and size <= LARGEST_DENSE else None
    nnz = linear_map.nnz
    entry: dict[str, object] = {}
    if wanted == "none":
        entry = {"format": "omitted", "reason": "asked for with --jacobian none"}
    elif wanted != "sparse" and dense is not None:
        entry = {"format": "dense", "value": array(dense)}
    elif nnz <= LARGEST_DENSE and dense is not None:
        where = dense.nonzero(as_tuple=True)
        entry = {
            "format": "coo",
            "indices": tuple(axis.numpy() for axis in where[: len(shape)]),
            "values": array(dense[where] if shape else dense.reshape(-1)[: dense.count_nonzero()]),
        }
    else:
        entry = {
            "format": "omitted",
            "reason": f"{size} elements, {nnz} of them not zero: more than the {LARGEST_DENSE} that are written out",
        }
    dtype = dense.dtype if dense is not None else torch.float32
    return Jacobian(shape, dtype_name(dtype), nnz, linear_map.structure, structure_from, **entry)  # type: ignore[arg-type]
