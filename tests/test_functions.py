"""Jacobians, VJPs and JVPs of many functions, compared with torch.autograd.functional in float64."""

from __future__ import annotations

import pytest
import torch

import jvpcli

FUNCTIONS = [
    # expression, shapes of x, w, b (those that it uses)
    ("torch.outer(x, x)", [(4,)]),
    ("torch.outer(x, w)", [(3,), (5,)]),
    ("x * w", [(3, 1), (1, 4)]),
    ("x + w", [(2, 3), ()]),
    ("x - w", [(), (3,)]),
    ("x / (w * w + 1)", [(2, 3), (3,)]),
    ("x @ w", [(2, 3), (3, 4)]),
    ("x @ w", [(3,), (3,)]),
    ("x @ w", [(2, 3, 4), (4, 2)]),
    ("torch.bmm(x, w)", [(2, 3, 4), (2, 4, 1)]),
    ("torch.einsum('bij,jk->bik', x, w)", [(2, 2, 3), (3, 2)]),
    ("F.linear(x, w, b)", [(3,), (2, 3), (2,)]),
    ("torch.addmm(b, x, w)", [(2, 3), (3, 4), (4,)]),
    ("torch.kron(x, w)", [(2, 2), (1, 3)]),
    ("torch.dot(x, w)", [(4,), (4,)]),
    ("torch.mv(x, w)", [(2, 3), (3,)]),
    ("torch.cross(x, w, dim=-1)", [(2, 3), (2, 3)]),
    ("x.sum()", [(2, 3)]),
    ("x.sum(0)", [(2, 3)]),
    ("x.mean(dim=1, keepdim=True)", [(2, 3)]),
    ("x.prod()", [(4,)]),
    ("x.var()", [(5,)]),
    ("x.std(0)", [(3, 2)]),
    ("x.norm()", [(2, 3)]),
    ("torch.linalg.norm(x, dim=1)", [(2, 3)]),
    ("torch.logsumexp(x, 0)", [(3, 2)]),
    ("x.cumsum(0)", [(4,)]),
    ("x.cumprod(1)", [(2, 3)]),
    ("x.max()", [(5,)]),
    ("x.max(0).values", [(3, 2)]),
    ("torch.sort(x).values", [(5,)]),
    ("torch.topk(x, 2).values", [(5,)]),
    ("x.amax(1)", [(2, 3)]),
    ("x.median()", [(5,)]),
    ("torch.sin(x)", [(2, 3)]),
    ("torch.exp(-x**2)", [(3,)]),
    ("torch.tanh(x)", [()]),
    ("torch.sigmoid(x)", [(0,)]),
    ("torch.relu(x)", [(4,)]),
    ("F.gelu(x)", [(4,)]),
    ("F.silu(x)", [(4,)]),
    ("F.softplus(x)", [(4,)]),
    ("F.leaky_relu(x, 0.1)", [(4,)]),
    ("F.elu(x)", [(4,)]),
    ("F.softmax(x, dim=-1)", [(2, 3)]),
    ("F.log_softmax(x, dim=0)", [(2, 3)]),
    ("F.layer_norm(x, (3,))", [(2, 3)]),
    ("F.normalize(x, dim=1)", [(2, 3)]),
    ("F.conv1d(x, w)", [(1, 2, 5), (3, 2, 2)]),
    ("F.conv2d(x, w, padding=1, stride=2)", [(1, 1, 4, 3), (2, 1, 3, 3)]),
    ("F.max_pool1d(x, 2)", [(1, 1, 6)]),
    ("F.avg_pool2d(x, 2)", [(1, 1, 4, 4)]),
    ("F.pad(x, (1, 2))", [(2, 3)]),
    ("F.mse_loss(x, w)", [(2, 3), (2, 3)]),
    ("F.cosine_similarity(x, w, dim=1)", [(2, 3), (2, 3)]),
    ("F.scaled_dot_product_attention(x, w, b)", [(1, 2, 3), (1, 4, 3), (1, 4, 3)]),
    ("torch.linalg.inv(x)", [(3, 3)]),
    ("torch.linalg.det(x)", [(3, 3)]),
    ("torch.linalg.solve(x, w)", [(3, 3), (3, 2)]),
    ("torch.linalg.matrix_exp(x)", [(2, 2)]),
    ("torch.linalg.svdvals(x)", [(3, 2)]),
    ("torch.linalg.eigvalsh(x + x.T)", [(3, 3)]),
    ("torch.linalg.cholesky(x @ x.T + 3 * torch.eye(3, dtype=torch.float64))", [(3, 3)]),
    ("torch.trace(x)", [(3, 3)]),
    ("x.T", [(2, 3)]),
    ("x.reshape(3, 2)", [(2, 3)]),
    ("x.flip(0)", [(4,)]),
    ("torch.roll(x, 1, 0)", [(4,)]),
    ("x[1:, ::2]", [(3, 4)]),
    ("x[..., None] * w", [(2,), (3,)]),
    ("x[torch.tensor([2, 0, 0])]", [(3, 2)]),
    ("torch.cat([x, w], dim=0)", [(2, 3), (1, 3)]),
    ("torch.stack([x[0] * x[1], torch.sin(x[0])])", [(2,)]),
    ("torch.diag(x)", [(3,)]),
    ("torch.tril(x)", [(3, 3)]),
    ("x.repeat(2, 1)", [(2, 3)]),
    ("x.expand(4, 3)", [(1, 3)]),
    ("torch.where(x > 0, x, 2 * x)", [(4,)]),
    ("torch.clamp(x, -0.5, 0.5)", [(4,)]),
    ("torch.gather(x, 1, torch.tensor([[0, 2], [1, 1]]))", [(2, 3)]),
    ("torch.cdist(x, w)", [(2, 3), (4, 3)]),
    ("torch.fft.irfft(torch.fft.rfft(x))", [(6,)]),
    ("torch.special.expit(x)", [(3,)]),
    ("x.clone().mul_(2)", [(3,)]),
    ("(x.sum(), torch.outer(x, w))", [(2,), (3,)]),
    ("[x[i] ** 2 for i in range(3)]", [(3,)]),
    ("sum(x[i] * (i + 1) for i in range(3))", [(3,)]),
    ("x.sum(1)", [(2, 0)]),
    ("x.reshape(0)", [(0, 3)]),
    ("math.pi * x", [()]),
]


def inputs_for(shapes: list[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in zip("xwb", shapes, strict=False)
    }


@pytest.mark.parametrize(("expression", "shapes"), FUNCTIONS, ids=[f"{e} {s}" for e, s in FUNCTIONS])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_and_products(expression, shapes, mode, oracle):
    inputs = inputs_for(shapes)
    expected = oracle(expression, inputs)
    tangents = {name: torch.randn_like(x) for name, x in inputs.items()}
    result = jvpcli.inspect(expression, inputs, mode=mode, grad_outputs="randn", tangent=tangents)
    names = list(result.outputs)
    vjp = {name: torch.zeros_like(x) for name, x in inputs.items()}
    for (number, name), jacobian in expected.items():
        y = names[number]
        found = result.jacobian[y, name]
        assert found.shape == jacobian.shape
        torch.testing.assert_close(found, jacobian)
        v = torch.as_tensor(result.report.grad_outputs[y].value)
        vjp[name] += torch.tensordot(v, jacobian, dims=v.dim())
        entry = result.report.jacobian[y][name]
        assert entry.nnz == torch.count_nonzero(found)
        assert entry.shape == tuple(jacobian.shape)
    for name, x in inputs.items():
        torch.testing.assert_close(result.vjp[name], vjp[name])
        assert result.vjp[name].shape == x.shape
    for number, y in enumerate(names):
        pushed = sum(torch.tensordot(expected[number, n], u, dims=u.dim()) for n, u in tangents.items())
        torch.testing.assert_close(result.jvp[y], pushed)


def test_there_are_enough_functions():
    assert len({expression for expression, _ in FUNCTIONS}) >= 60
