"""What is measured: functions of tensors, and whether their Jacobian is structured (nnz ≤ m·n/4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A function and where it is differentiated."""

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    structured: bool


def _laplacian(x: Tensor) -> Tensor:
    u = x.view(64, 64)
    p = F.pad(u[None, None], (1, 1, 1, 1))[0, 0]
    return (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u).reshape(-1)


def _brusselator(z: Tensor) -> Tensor:
    u, v = z.reshape(2, -1)

    def diffuse(w: Tensor) -> Tensor:
        return torch.roll(w, 1) + torch.roll(w, -1) - 2 * w

    return torch.cat([1 + u * u * v - 4 * u + 0.1 * diffuse(u), 3 * u - u * u * v + 0.1 * diffuse(v)])


def _recurrence(x: Tensor) -> Tensor:
    h, states = x[0], []
    for t in range(x.shape[0]):
        h = torch.tanh(0.9 * h + x[t])
        states.append(h)
    return torch.stack(states)


def make_constants() -> dict[str, Tensor]:
    """What the functions close over; every tensor float32, from one seed."""
    torch.manual_seed(0)
    r = torch.randn
    return {
        "big": r(512, 512) / 22,
        "w1": r(512, 256) / 16,
        "w2": r(512, 512) / 22,
        "w3": r(10, 512) / 22,
        "bias": r(512),
        "point": r(256),
        "blocks": r(512, 8, 8),
        "kernel": r(1, 1, 5),
        "rhs": r(64),
        "keys": r(32, 16),
        "values": r(32, 16),
        "wide": r(128, 64) / 8,
        "picks": torch.randint(0, 4096, (4096,)),
        "up": r(1, 1, 4, 4) / 4,
        "grouped": r(8, 2, 3, 3) / 4,
    }


def make_cases() -> dict[str, Case]:
    """The table; the rivals' versions of the same functions are in `rivals`."""
    c = make_constants()
    big, w1, w2, w3, bias, point, blocks = (c[k] for k in ("big", "w1", "w2", "w3", "bias", "point", "blocks"))
    kernel, rhs, keys, values, wide, picks = (c[k] for k in ("kernel", "rhs", "keys", "values", "wide", "picks"))
    up, grouped = c["up"], c["grouped"]
    r = torch.randn
    square = r(64, 64) + 8 * torch.eye(64)

    def mlp(x: Tensor) -> Tensor:
        return w3 @ torch.relu(w2 @ torch.relu(w1 @ x + bias) + bias)

    def mlp_weights(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
        return e @ torch.relu(c @ torch.relu(a @ point + b) + d) + f

    def outer(x: Tensor) -> Tensor:
        return torch.outer(x, x)

    table = [
        ("outer 64", outer, (r(64),), True),
        ("outer 256", outer, (r(256),), True),
        ("outer 512", outer, (r(512),), True),
        ("sin 4096", lambda x: torch.sin(x), (r(4096),), True),
        ("sin 20000", lambda x: torch.sin(x), (r(20000),), True),
        ("softmax 2048", lambda x: torch.softmax(x, 0), (r(2048),), False),
        ("tanh(Wx) 512", lambda x: torch.tanh(big @ x), (r(512),), False),
        ("MLP to x", mlp, (r(256),), False),
        ("MLP to weights", mlp_weights, (w1, bias, w2, bias.clone(), w3, r(10)), False),
        ("conv1d 2048", lambda x: F.conv1d(x[None, None], kernel, padding=2)[0, 0], (r(2048),), True),
        ("Laplacian 64x64", _laplacian, (r(4096),), True),
        ("block-diagonal", lambda x: torch.bmm(blocks, x.view(512, 8, 1)).reshape(-1), (r(4096),), True),
        ("cumsum 2048", lambda x: x.cumsum(0), (r(2048),), False),
        ("Brusselator 2048", _brusselator, (r(2048),), True),
        ("sum of squares", lambda x: (x * x).sum(), (r(100000),), False),
        ("inv 16x16", lambda x: torch.linalg.inv(x), (r(16, 16) + 4 * torch.eye(16),), False),
        ("solve to A 64", lambda a: torch.linalg.solve(a, rhs), (square,), False),
        ("logsumexp rows", lambda x: torch.logsumexp(x, 1), (r(128, 128),), True),
        ("layer_norm rows", lambda x: F.layer_norm(x, (64,)), (r(64, 64),), True),
        ("attention to Q", lambda q: torch.softmax(q @ keys.T / 4, -1) @ values, (r(32, 16),), True),
        ("MLP of a batch", lambda x: torch.tanh(x @ wide.T) @ wide, (r(64, 64),), True),
        ("gather", lambda x: x[picks] * x.sin(), (r(4096),), True),
        ("recurrence 64", _recurrence, (r(64),), False),
        ("einsum batch", lambda x: torch.einsum("bij,bjk->bik", x, x), (r(32, 8, 8),), True),
        ("stencil then dense", lambda x: big[:64] @ (x.roll(1) - 2 * x + x.roll(-1)).tanh(), (r(512),), False),
        ("softmax then gather", lambda x: torch.softmax(x, 1)[:, ::4].flatten(), (r(64, 64),), True),
        ("avg-pool 64x64", lambda x: F.avg_pool2d(x, 3, 1, 1), (r(1, 1, 64, 64),), True),
        ("pad circular", lambda x: F.pad(x, (2, 2), mode="circular"), (r(1, 1, 4096),), True),
        ("interpolate", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (r(1, 1, 48, 48),), True),
        ("transposed conv", lambda x: F.conv_transpose2d(x, up, stride=2, padding=1), (r(1, 1, 32, 32),), True),
        ("grouped conv", lambda x: F.conv2d(x, grouped, padding=1, groups=4), (r(1, 8, 16, 16),), True),
        ("fold", lambda x: F.fold(x, (48, 48), 3), (r(1, 9, 46 * 46),), True),
        ("small: 4 to 3", lambda x: torch.stack([x[0] * x[1], x[2].sin(), x.sum()]), (r(4),), False),
        ("small: MLP 16", lambda x: torch.tanh(big[:8, :16] @ torch.tanh(big[:16, :16] @ x)), (r(16),), False),
    ]
    return {name: Case(name, function, inputs, structured) for name, function, inputs, structured in table}
