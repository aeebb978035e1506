"""Functions of tensors whose Jacobians the engine is checked on, and the oracle they are checked against."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jvpcli.jacobians import engine
from jvpcli.jacobians.engine import Computed
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.terms import Workspace
from jvpcli.report import OutputPlan, Way

Function = Callable[..., Tensor]


def oracle(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The matrices (m, n) row by row, by `torch.autograd.grad` alone."""
    rows = []
    for entry in output.reshape(-1).unbind():
        found = torch.autograd.grad(entry, list(inputs), retain_graph=True, allow_unused=True)
        rows.append([torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)])
    return [
        torch.stack([row[k].reshape(-1) for row in rows]) if rows else x.new_zeros(0, x.numel())
        for k, x in enumerate(inputs)
    ]


def leaves_of(values: Sequence[Tensor]) -> list[Tensor]:
    return [x.detach().clone().requires_grad_() for x in values]


def compute(output: Tensor, inputs: Sequence[Tensor], work: Workspace | None = None, **options: Any) -> Computed:
    """What the engine gives for one output; `options` are those of a plan, and a mode says that local maps are multiplied."""
    planned, work = engine.plan(output, inputs, **options), work or Workspace()
    if planned.mode != "auto" and not planned.graph.whole:
        work.structure(work.key(*planned.key), lambda: Way("accumulated", planned.mode, 0, 0, 0, True))
    return engine.compute(planned, work)


def plan(output: Tensor, inputs: Sequence[Tensor], **options: Any) -> OutputPlan:
    """What the engine would do for one output."""
    return engine.plan(output, inputs, **options).report


def check_map(found: LinearMap, expected: Tensor, tolerance: float = 1e-8) -> None:
    """Every view of the map against the dense oracle (m, n)."""
    close = {"rtol": tolerance, "atol": tolerance * (1 + float(expected.abs().max() if expected.numel() else 0))}
    assert tuple(found.to_dense().shape) == found.out_shape + found.in_shape
    torch.testing.assert_close(found.to_dense().reshape(expected.shape), expected, **close)
    assert found.structure in {
        "zero",
        "identity",
        "diagonal",
        "selection",
        "banded",
        "block_diagonal",
        "strided_blocks",
        "triangular",
        "block_triangular",
        "sparse",
        "dense",
        "unknown",
    }
    if hasattr(found, "entries"):
        rows, cols, values = found.entries()
        scattered = torch.zeros_like(expected)
        scattered[rows, cols] = values.to(expected.dtype)  # every place at most once, or this differs
        torch.testing.assert_close(scattered, expected, **close)
        assert found.nnz == values.numel()
        pattern = torch.zeros(expected.shape, dtype=torch.bool)
        pattern[rows, cols] = True
        assert not bool((expected.abs() > close["atol"]).logical_and(~pattern).any()), "a dependency was missed"
    v = torch.linspace(-1, 2, max(found.m, 1), dtype=expected.dtype)[: found.m].reshape(found.out_shape)
    u = torch.linspace(1, -2, max(found.n, 1), dtype=expected.dtype)[: found.n].reshape(found.in_shape)
    scale = {"rtol": 1e-6, "atol": 1e-6 * (1 + float(expected.abs().sum()))}
    torch.testing.assert_close(found.pullback(v), (v.reshape(-1) @ expected).reshape(found.in_shape), **scale)
    torch.testing.assert_close(found.pushforward(u), (expected @ u.reshape(-1)).reshape(found.out_shape), **scale)


def check_function(function: Function, values: Sequence[Tensor], **options: Any) -> Computed:
    """The engine against the oracle for one function at one point."""
    leaves = leaves_of(values)
    output = function(*leaves)
    expected = oracle(output, leaves)
    computed = compute(output, leaves, **options)
    for found, matrix in zip(computed.maps, expected, strict=True):
        check_map(found, matrix)
    return computed


def r(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape) * 7)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def laplacian(u: Tensor) -> Tensor:
    p = F.pad(u[None, None], (1, 1, 1, 1))[0, 0]
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u


def brusselator(z: Tensor) -> Tensor:
    u, v = z.reshape(2, -1)

    def diffuse(w: Tensor) -> Tensor:
        return torch.roll(w, 1) + torch.roll(w, -1) - 2 * w

    return torch.cat([1 + u * u * v - 4 * u + 0.1 * diffuse(u), 3 * u - u * u * v + 0.1 * diffuse(v)])


def in_place(x: Tensor) -> Tensor:
    a = x.clone()
    a[1:3] = x[:2] * 2
    a[0].mul_(x[4])
    return a.sin_() * a


def recurrence(x: Tensor) -> Tensor:
    h, out = x[0], []
    for t in range(x.shape[0]):
        h = torch.tanh(h * 0.5 + x[t])
        out.append(h)
    return torch.stack(out)


W, K, V, B = r(16, 16, seed=1), r(12, 6, seed=2), r(12, 6, seed=3), r(16, seed=4)

CASES: dict[str, tuple[Function, list[Tensor], str]] = {
    "outer": (lambda x: torch.outer(x, x), [r(6)], "sparse"),
    "sin": (torch.sin, [r(7)], "diagonal"),
    "softmax": (lambda x: torch.softmax(x, 0), [r(7)], "dense"),
    "softmax inner axis": (lambda x: torch.softmax(x, 1), [r(2, 3, 4)], ""),
    "log_softmax": (lambda x: F.log_softmax(x, 0), [r(3, 4)], ""),
    "tanh(Wx)": (lambda x: torch.tanh(W @ x), [r(16)], "dense"),
    "mlp": (lambda x: W[:5] @ torch.relu(W @ torch.relu(W @ x + B)), [r(16)], "dense"),
    "mlp weights": (lambda w, v: W[:5] @ torch.relu(w @ torch.relu(v @ B)), [r(16, 16), r(16, 16, seed=9)], ""),
    "conv1d": (lambda x: F.conv1d(x[None, None], W[None, None, 0, :5], padding=2)[0, 0], [r(30)], "banded"),
    "laplacian": (laplacian, [r(6, 5)], "banded"),
    "blocks": (lambda x: torch.tanh(x.view(10, 8) @ W[:8, :8].T).reshape(-1), [r(80)], ""),
    "cumsum": (lambda x: x.cumsum(0), [r(9)], "triangular"),
    "brusselator": (brusselator, [r(32)], "sparse"),
    "sum of squares": (lambda x: (x * x).sum(), [r(50)], "dense"),
    "inverse": (torch.linalg.inv, [r(4, 4)], "dense"),
    "solve": (lambda a: torch.linalg.solve(a, B), [r(16, 16)], "dense"),
    "solve batch": (lambda a, b: torch.linalg.solve(a, b), [r(3, 4, 4), r(3, 4, 2)], "block_diagonal"),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), [r(5, 6)], "block_diagonal"),
    "layer norm": (lambda x: F.layer_norm(x, (6,), B[:6], B[6:12]), [r(5, 6)], ""),
    "attention": (lambda q: torch.softmax(q @ K.T / 4, -1) @ V, [r(8, 6)], ""),
    "identity": (lambda x: x, [r(3)], "identity"),
    "scaled identity": (lambda x: (3 * x).reshape(2, 3).flatten(), [r(6)], "identity"),
    "zero": (lambda x: x.detach() + 0 * x, [r(4)], ""),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [r(2, 3, 4), r(2, 4, 5)], "block_diagonal"),
    "stack": (lambda x: torch.stack([x[i] * x[i + 1] for i in range(9)]), [r(10)], "banded"),
    "in place": (in_place, [r(5)], ""),
    "normalise": (lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), [r(4, 5)], ""),
    "residual": (lambda x: reduce(lambda h, _: h + torch.sin(h) * h.sum(), range(5), x), [r(5)], "dense"),
    "index": (lambda x: x[torch.tensor([0, 0, 2])].cumprod(0) * x[:3], [r(5)], ""),
    "index_put": (
        lambda x: x.index_put((torch.tensor([0, 2]),), x[1:3] * 3).scatter_add(0, torch.tensor([1, 1]), x[:2]),
        [r(5)],
        "",
    ),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=2), [r(2, 4, 5, 6), r(6, 2, 3, 3)], ""),
    "conv_transpose2d": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, groups=2, output_padding=1),
        [r(1, 4, 3, 4), r(4, 3, 3, 3)],
        "",
    ),
    "dilated conv": (lambda x: F.conv1d(x, r(2, 3, 3), padding=2, dilation=2), [r(1, 3, 7)], ""),
    "sort": (lambda x: torch.sort(x, 0)[0] * x.max(0).values, [r(5, 3)], ""),
    "max_pool": (lambda x: F.max_pool2d(x, 2), [r(1, 2, 4, 6)], "selection"),
    "group norm": (lambda x: F.group_norm(x, 2), [r(2, 4, 3)], ""),
    "repeat": (lambda x: x.repeat(2, 3).flip(1).diagonal(), [r(4, 2)], "selection"),
    "roll then product": (lambda x: torch.softmax(torch.roll(x, 2, 1), 1)[:, ::2].T @ x, [r(4, 6)], ""),
    "recurrence": (recurrence, [r(6)], "triangular"),
    "embedding": (lambda w: F.embedding(torch.tensor([[0, 2], [2, 1]]), w, padding_idx=1), [r(4, 3)], ""),
    "where": (lambda x, y: torch.where(x > 0, x * y, y[:1].exp()), [r(3, 4), r(3, 4, seed=5)], ""),
    "0-d": (lambda x: x.sin() * x, [r()], "diagonal"),
    "0-d broadcast": (lambda x, y: x * y + x, [r(), r(2, 3)], ""),
    "empty output": (lambda x: x[:0] * 2, [r(4)], "zero"),
    "empty input": (lambda x, y: torch.cat([x, y]).sum(), [r(0), r(3)], "zero"),
    "eigenvalues": (lambda x: torch.linalg.eigvalsh(x @ x.T), [r(4, 3)], ""),
    "outer then matmul": (lambda x: torch.outer(x, x) @ x, [r(5)], "dense"),
    "diag embed": (lambda x: torch.diag_embed(x.sin()) @ x, [r(5)], ""),
    "trace of product": (lambda x: torch.trace(x @ x), [r(4, 4)], "dense"),
    "tril": (lambda x: torch.tril(x) @ B[:4], [r(4, 4)], ""),
    "pad cut": (lambda x: F.pad(x, (-1, 2, 1, 0)) * 2, [r(3, 4)], ""),
    "block_diag": (
        lambda x: torch.block_diag(
            x * x, B[:2].reshape(1, 2), (x[:1] * 3).reshape(()), x[:0], (x.sin() * 2).reshape(2, 3), x[2:4].reshape(2, 1)
        ),
        [r(6)],
        "",
    ),
    "cat with constants": (lambda x: torch.cat([B[:3], x, B[:2], x * x]), [r(4)], ""),
    "axes cut on both sides": (
        lambda x: (x + x.sum()).index_put((torch.tensor([0, -1]),), x[:1] * 3, accumulate=True),
        [r(2, 3)],
        "",
    ),
    "split": (lambda x: torch.cat([p * p.sum() for p in x.split([1, 3, 2])]), [r(6)], ""),
}


def slow_rules(task: Callable[[], object]) -> list[str]:
    """What torch warns of as it takes operations of a batch one by one."""
    torch._C._debug_only_display_vmap_fallback_warnings(True)
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            task()
        return [str(each.message) for each in found if "performance drop" in str(each.message)]
    finally:
        torch._C._debug_only_display_vmap_fallback_warnings(False)
