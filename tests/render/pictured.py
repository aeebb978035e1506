"""Reports of Jacobians that no expression is needed for: any array, dense or as its nonzeros."""

from __future__ import annotations

from math import prod

import numpy as np

from jvpcli.report import Comparison, Contraction, Cotangent, InputValue, InspectReport, Jacobian, Plan, Value


def report_of(values: np.ndarray, output_axes: int = 1, *, coo: bool = False, v: np.ndarray | None = None) -> InspectReport:
    """The report of a linear function y = J x with this Jacobian at x = 1."""
    out_shape, in_shape = values.shape[:output_axes], values.shape[output_axes:]
    indices = tuple(np.nonzero(values))
    return report_of_nonzeros(out_shape, in_shape, indices, values[indices], values=None if coo else values, v=v)


def report_of_nonzeros(
    out_shape: tuple[int, ...],
    in_shape: tuple[int, ...],
    indices: tuple[np.ndarray, ...],
    nonzeros: np.ndarray,
    *,
    values: np.ndarray | None = None,
    v: np.ndarray | None = None,
) -> InspectReport:
    """The same from the nonzeros alone."""
    m, n = prod(out_shape), prod(in_shape)
    rows = np.ravel_multi_index(indices[: len(out_shape)], out_shape) if out_shape else np.zeros(nonzeros.size, int)
    cols = np.ravel_multi_index(indices[len(out_shape) :], in_shape) if in_shape else np.zeros(nonzeros.size, int)
    v = np.ones(out_shape, np.float32) if v is None else v
    result, y = np.zeros(n), np.zeros(m)
    np.add.at(result, cols, v.reshape(-1)[rows] * nonzeros)
    np.add.at(y, rows, nonzeros)
    form = {"format": "dense", "value": values} if values is not None else {
        "format": "coo", "indices": indices, "values": nonzeros
    }  # fmt: skip
    letters = "ijklmnop"
    into, out = letters[: len(in_shape)], letters[len(in_shape) : len(in_shape) + len(out_shape)]
    dtype = str(nonzeros.dtype)
    return InspectReport(
        expression="J x",
        inputs={"x": InputValue(in_shape, dtype, "cpu", True, np.ones(in_shape, nonzeros.dtype))},
        outputs={"y": Value(out_shape, dtype, y.reshape(out_shape).astype(nonzeros.dtype))},
        grad_outputs={"y": Cotangent("given", out_shape, dtype, v)},
        jacobian={"y": {"x": Jacobian(out_shape + in_shape, dtype, nonzeros.size, "sparse", "values", **form)}},
        vjp={"x": Value(in_shape, dtype, result.reshape(in_shape).astype(nonzeros.dtype))},
        contraction={"y": {"x": Contraction(f"{out},{out}{into}->{into}", "∂L/∂x = …", "A product.")}},
        comparison=Comparison(n, 0, 0.0),
        plan=Plan(mode="reverse", passes=1, peak_bytes=1, reason="for a test", strategy="dense"),
    )


def banded(size: int, width: int = 3, seed: int = 0) -> InspectReport:
    """A square Jacobian with `width` diagonals of random numbers."""
    reach = np.arange(size)[:, None] + np.arange(width) - width // 2
    inside = (reach >= 0) & (reach < size)
    rows = np.broadcast_to(np.arange(size)[:, None], reach.shape)[inside]
    values = np.random.default_rng(seed).normal(size=rows.size).astype(np.float32)
    return report_of_nonzeros((size,), (size,), (rows, reach[inside]), values)


def scattered(size: int, nnz: int, seed: int = 0) -> InspectReport:
    """A square Jacobian with nonzeros anywhere."""
    random = np.random.default_rng(seed)
    flat = np.sort(random.choice(size * size, nnz, replace=False))
    values = random.normal(size=nnz).astype(np.float32)
    return report_of_nonzeros((size,), (size,), (flat // size, flat % size), values)
