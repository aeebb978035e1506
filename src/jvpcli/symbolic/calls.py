"""What the functions of tensors that keep their names are called in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jvpcli.symbolic.expressions import Expr, call, postfix


def _along(text: str, whole: str | None = None) -> Callable[[Expr, str, bool, int], Expr]:
    def write(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
        form = whole if whole is not None and all_axes else text
        return call(form.replace("DIM", dim), x, ndim=ndim, matrix=None)

    return write


def picking(part: str, function: str, options: Sequence[tuple[str, Any]]) -> Callable[[Expr, str, bool, int], Expr]:
    """The entries that a function picks along an axis, or where they stand."""
    if part == "indices" and function in ("sort", "max", "min"):
        more = "".join(f", {name}={value}" for name, value in options)
        return _method(f".arg{function}(DIM{more})", f".arg{function}({f'0{more}' if more else ''})")
    if part == "values" and function in ("max", "min"):
        return _method(f".a{function}(DIM)", f".a{function}()")
    given = "".join(f", {name}={value}" for name, value in options)
    return _along(f"torch.{function}({{0}}, dim=DIM{given}).{part}")


def _truth(text: str) -> Callable[[Expr, str, bool, int], Expr]:
    return lambda x, dim, all_axes, ndim: Expr("truth", (x,), text.replace("DIM", dim), ndim)


def _method(text: str, whole: str) -> Callable[[Expr, str, bool, int], Expr]:
    def write(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
        return postfix(x, whole if all_axes else text.replace("DIM", dim), ndim)

    return write


def _softmax(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
    return call(f"torch.softmax({{0}}, {dim})", x, ndim=ndim, matrix="softmax({0})" if ndim == 1 else None)


ALONG: Mapping[str, Callable[[Expr, str, bool, int], Expr]] = {
    "softmax": _softmax,
    "cumprod": _along("torch.cumprod({0}, DIM)"),
    "log_softmax": _along("torch.log_softmax({0}, DIM)"),
    "logsumexp": _along("torch.logsumexp({0}, DIM)"),
    "prod": _method(".prod(DIM)", ".prod()"),
    "amax": _method(".amax(DIM)", ".amax()"),
    "amin": _method(".amin(DIM)", ".amin()"),
    "is_max": _truth("({0} == {0}.amax(DIM, keepdim=True))"),
    "is_min": _truth("({0} == {0}.amin(DIM, keepdim=True))"),
}
"""Atoms along axes, wherever those stand."""


WHOLE: Mapping[str, tuple[str, str]] = {
    "inv": ("torch.linalg.inv({0})", "inv({0})"),
    "det": ("torch.linalg.det({0})", "det({0})"),
    "logdet": ("torch.logdet({0})", "logdet({0})"),
    "cholesky": ("torch.linalg.cholesky({0})", "chol({0})"),
    "pinv": ("torch.linalg.pinv({0})", "pinv({0})"),
    "matrix_exp": ("torch.linalg.matrix_exp({0})", "expm({0})"),
    "eigenvalues": ("torch.linalg.eigvalsh({0})", ""),
    "eigenvectors": ("torch.linalg.eigh({0}).eigenvectors", ""),
    "singular_values": ("torch.linalg.svdvals({0})", ""),
    "left_vectors": ("torch.linalg.svd({0}, full_matrices=False).U", ""),
    "right_vectors": ("torch.linalg.svd({0}, full_matrices=False).Vh", ""),
    "one_hot": ("torch.nn.functional.one_hot({0}, %s)", ""),
}
"""Atoms of matrices, with batches in front."""
