"""Real nets and programs, by inputs and by parameters: is the plan that is chosen the best one?

    python -m benchmarks.nets [WORD ...]      # the cases whose names hold a word

For each case: what the chosen way takes, each strategy of our own, and each of torch's ways, in milliseconds of processor
time of one thread, the evaluation included; index arrays of an earlier call are not used.  The ratios are the chosen way's
time by that of our best strategy and of torch's best way, and that of a first call, which makes the plan too, by torch's
best way: none should be over 1.3.  Where the system tells, the memory that the chosen way and torch's best one take at most
is told, too, in MiB.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jvpcli.jacobians.engine import compute, plan
from jvpcli.jacobians.terms import Workspace
from jvpcli.report import Way

LIMIT = 20.0
"""Seconds after which a way is given up."""

LARGEST = 1 << 28
"""Entries of a Jacobian, and of the one-hot basis of a vectorized way, that are still tried."""

ALLOWED = 1.3


@dataclass(frozen=True)
class Case:
    """A function of some tensors, which is differentiated to all of them; `samples` is how torch users take it apart.

    `per_sample` gives the Jacobian by `vmap` over the samples of a batch, where there is such a way.
    """

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    per_sample: Callable[[], Any] | None = None


def to_parameters(name: str, net: nn.Module, x: Tensor) -> Case:
    """A net as a function of its parameters."""
    names = [key for key, _ in net.named_parameters()]
    values = tuple([p.detach() for p in net.parameters()])

    def function(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))

    def one(parameters: tuple[Tensor, ...], sample: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (sample[None],))[0]

    mixes = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules()) or x.shape[0] == 1
    samples = None if mixes else lambda: torch.vmap(torch.func.jacrev(one), (None, 0))(values, x)
    return Case(f"{name} to θ, batch {x.shape[0]}", function, values, samples)


def to_input(name: str, net: nn.Module, x: Tensor) -> Case:
    """A net as a function of its input."""
    for p in net.parameters():
        p.requires_grad_(False)
    mixes = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules()) or x.shape[0] == 1
    samples = None if mixes else lambda: torch.vmap(torch.func.jacrev(lambda s: net(s[None])[0]))(x)
    return Case(f"{name} to x, batch {x.shape[0]}", net, (x,), samples)


class Recurrent(nn.Module):
    """The outputs of a cell that is applied step by step, along axis 1."""

    def __init__(self, cell: nn.Module, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden, self.out = cell, hidden, nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.hidden)
        state: Any = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


class Block(nn.Module):
    """A transformer's block with one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v)
        return x + self.down(F.gelu(self.up(self.second(x))))


class Residual(nn.Module):
    """Two residual blocks of convolutions, with batch norm or without."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) if norm else nn.Identity() for _ in range(4)])
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for k in (0, 2):
            y = F.relu(self.norms[k](self.convs[k](x)))
            x = F.relu(x + self.norms[k + 1](self.convs[k + 1](y)))
        return self.head(x.mean((2, 3)))


class Words(nn.Module):
    """A bag of embedded words, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(200, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.table(x)).mean(1))


def mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def wide_cnn(side: int) -> nn.Module:
    """The net of the neural-tangent-kernel tutorial, for images of `side`."""
    convs = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten()]
    return nn.Sequential(*convs, nn.Linear(32 * (side - 6) ** 2, 10))


def lenet() -> nn.Module:
    pool = nn.MaxPool2d(2)
    convs = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), pool, nn.Conv2d(6, 16, 5), nn.ReLU(), pool, nn.Flatten()]
    return nn.Sequential(*convs, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def autoencoder() -> nn.Module:
    down = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()]
    up = [nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1)]
    return nn.Sequential(*down, *up)


def heat(u: Tensor) -> Tensor:
    """Ten steps of the heat equation on a ring."""
    for _ in range(10):
        u = u + 0.1 * (torch.roll(u, 1) - 2 * u + torch.roll(u, -1))
    return u


def burgers(u: Tensor) -> Tensor:
    """Three steps of Burgers' equation in a plane, with walls."""
    for _ in range(3):
        p = F.pad(u[None, None], (1, 1, 1, 1))[0, 0]
        flow = u * (p[1:-1, 2:] - p[1:-1, :-2]) / 2
        u = u - 0.05 * flow + 0.1 * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
    return u


def lorenz(x: Tensor) -> Tensor:
    """A hundred Euler steps of Lorenz' system."""
    for _ in range(100):
        a, b, c = x.unbind()
        x = x + 0.01 * torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])
    return x


def kalman(a: Tensor, p: Tensor) -> Tensor:
    """Covariances of a filter."""
    for _ in range(5):
        p = a @ p @ a.T + 0.1 * torch.eye(p.shape[0])
        p = p - p @ torch.linalg.solve(p + torch.eye(p.shape[0]), p)
    return p


def sinkhorn(c: Tensor) -> Tensor:
    """Optimal transport, ten sweeps."""
    f = torch.zeros(c.shape[0])
    for _ in range(10):
        g = -torch.logsumexp(f[:, None] - c, 0)
        f = -torch.logsumexp(g[None] - c, 1)
    return torch.exp(f[:, None] + g[None] - c).sum(0)


def volumes(u: Tensor) -> Tensor:
    """Forty steps of Burgers' equation on a ring, by upwind fluxes."""
    for _ in range(40):
        flux = torch.maximum(u, torch.roll(u, -1)) ** 2 / 2
        u = u - 0.1 * (flux - torch.roll(flux, 1))
    return u


def bundle(cameras: int, points: int, seen: int) -> Case:
    """Where cameras (turn, shift, focal length, distortion) see points, less where these were seen."""
    camera, point = torch.randint(cameras, (seen,)), torch.randint(points, (seen,))
    places = torch.randn(points, 3) + torch.tensor([0.0, 0.0, 5.0])
    where = torch.randn(seen, 2)

    def residuals(a: Tensor, x: Tensor) -> Tensor:
        a, x = a[camera], x[point]
        angle = (a[:, :3] ** 2).sum(1, keepdim=True).add(1e-9).sqrt()
        axis = a[:, :3] / angle
        along = (axis * x).sum(1, keepdim=True) * axis * (1 - angle.cos())
        q = x * angle.cos() + torch.linalg.cross(axis, x) * angle.sin() + along + a[:, 3:6]
        seen = -q[:, :2] / q[:, 2:]
        square = (seen**2).sum(1, keepdim=True)
        return a[:, 6:7] * (1 + a[:, 7:8] * square + a[:, 8:] * square**2) * seen - where

    return Case("bundle adjustment", residuals, (torch.randn(cameras, 9) / 10, places))


def likelihood(x: Tensor, scale: Tensor) -> Tensor:
    """The log likelihood of some observations under a Gaussian process."""
    k = torch.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / scale**2) + 0.1 * torch.eye(len(x))
    y = torch.sin(3 * x[:, 0])
    return -(y @ torch.cholesky_solve(y[:, None], torch.linalg.cholesky(k))).sum() / 2 - torch.logdet(k) / 2


class Coupling(nn.Module):
    """Four affine coupling layers of a flow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList([mlp(width // 2, 32, width) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        for net in self.nets:
            scale, shift = net(a).chunk(2, -1)
            a, b = b * torch.exp(torch.tanh(scale)) + shift, a
        return torch.cat([a, b], -1)


class Messages(nn.Module):
    """Two rounds of messages along the edges of a graph."""

    def __init__(self, nodes: int, edges: int, width: int) -> None:
        super().__init__()
        self.ends = torch.randint(nodes, (2, edges))
        self.message, self.update = nn.Linear(2 * width, width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.ends
        for _ in range(2):
            sent = torch.relu(self.message(torch.cat([x[source], x[target]], -1)))
            x = torch.tanh(self.update(torch.cat([x, torch.zeros_like(x).index_add(0, target, sent)], -1)))
        return x


class Motion(nn.Module):
    """Ten Runge-Kutta steps along the vector field of a net."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.field = mlp(width, 32, width)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(10):
            a = self.field(x)
            b = self.field(x + 0.05 * a)
            c = self.field(x + 0.05 * b)
            x = x + (a + 2 * b + 2 * c + self.field(x + 0.1 * c)) / 60
        return x


class First(nn.Module):
    """The first of a module's results."""

    def __init__(self, module: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.module, self.times = module, times

    def forward(self, x: Tensor) -> Tensor:
        return self.module(*[x] * self.times)[0]


class UNet(nn.Module):
    """Down and up once, with a bridge."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        bridge = F.relu(self.first(x))
        return self.last(torch.cat([bridge, self.up(F.relu(self.down(F.max_pool2d(bridge, 2))))], 1)).tanh()


class Causal(nn.Module):
    """Fused attention of several heads, which sees what was before alone."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Scan(nn.Module):
    """A selective state space, step by step."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(-torch.rand(width, states))
        self.into, self.out, self.step = nn.Linear(width, states), nn.Linear(width, states), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.shape[0], *self.rate.shape), []
        step, into, out = F.softplus(self.step(x))[..., None], self.into(x), self.out(x)
        for t in range(x.shape[1]):
            h = h * torch.exp(step[:, t] * self.rate) + step[:, t] * into[:, t, None] * x[:, t, :, None]
            found.append((h * out[:, t, None]).sum(-1))
        return torch.stack(found, 1)


class Planar(nn.Module):
    """Eight planar layers of a flow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(8, width) / 2), nn.Parameter(torch.randn(8, width) / 2)

    def forward(self, x: Tensor) -> Tensor:
        for w, u in zip(self.w, self.u, strict=True):
            x = x + u * torch.tanh(x @ w)[..., None]
        return x


class Mixture(nn.Module):
    """The log likelihood of a mixture of Gaussians, given by a net."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3, 20, 12)

    def forward(self, x: Tensor) -> Tensor:
        weight, mean, scale = self.net(x[:, :3]).chunk(3, -1)
        return torch.logsumexp(F.log_softmax(weight, -1) - scale - ((x[:, 3:] - mean) / scale.exp()) ** 2 / 2, -1)


def pendula(x: Tensor) -> Tensor:
    """Double pendula, sixty steps."""
    for _ in range(60):
        a, b, p, q = x.unbind(-1)
        s, c = torch.sin(a - b), torch.cos(a - b)
        dp = (torch.sin(b) * c - s * (q**2 + p**2 * c) - 2 * torch.sin(a)) / (2 - c**2)
        dq = (s * (2 * p**2 + q**2 * c) + 2 * torch.sin(a) * c - 2 * torch.sin(b)) / (2 - c**2)
        x = x + 0.02 * torch.stack([p, q, dp, dq], -1)
    return x


def bodies(x: Tensor) -> Tensor:
    """Five steps of bodies that attract each other."""
    p, v = x[:, :2], x[:, 2:]
    for _ in range(5):
        d = p[None] - p[:, None]
        v = v + 0.05 * (d / ((d**2).sum(-1, keepdim=True) + 0.1) ** 1.5).sum(1)
        p = p + 0.05 * v
    return torch.cat([p, v], 1)


def newton(a: Tensor, b: Tensor) -> Tensor:
    """Six of Newton's steps to a root."""
    x = torch.zeros_like(b)
    for _ in range(6):
        x = x - torch.linalg.solve(a + torch.diag(3 * x**2), a @ x + x**3 - b)
    return x


def limited_flow(u: Tensor) -> Tensor:
    """Twelve steps of advection with limited slopes."""
    for _ in range(12):
        a, b = u - torch.roll(u, 1), torch.roll(u, -1) - u
        flux = u + 0.35 * torch.where(a * b > 0, torch.where(a.abs() < b.abs(), a, b), 0)
        u = u - 0.3 * (flux - torch.roll(flux, 1))
    return u


def make_cases() -> list[Case]:
    """The table."""
    torch.manual_seed(0)
    r = torch.randn
    words = lambda n: torch.randint(0, 200, (n, 12))  # noqa: E731
    signal_net = nn.Sequential(nn.Conv1d(2, 8, 5), nn.GELU(), nn.AvgPool1d(2), nn.Conv1d(8, 4, 5), nn.Flatten())
    normed = nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 6))
    grouped = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))
    w, big, square, tall = r(24, 24) / 5, r(40, 40) / 6, r(600, 600) / 25, r(5000, 20) / 4
    return [
        to_input("MLP", mlp(64, 128, 128, 10), r(1, 64)),
        to_input("MLP", mlp(64, 128, 128, 10), r(32, 64)),
        to_parameters("MLP", mlp(64, 128, 128, 10), r(1, 64)),
        to_parameters("MLP", mlp(64, 128, 128, 10), r(32, 64)),
        to_input("deep MLP", mlp(*[32] * 12), r(8, 32)),
        to_parameters("deep MLP", mlp(*[32] * 12), r(4, 32)),
        to_input("small CNN", wide_cnn(16), r(1, 3, 16, 16)),
        to_input("small CNN", wide_cnn(16), r(2, 3, 16, 16)),
        to_parameters("small CNN", wide_cnn(16), r(1, 3, 16, 16)),
        to_parameters("small CNN", wide_cnn(16), r(2, 3, 16, 16)),
        to_parameters("tangent-kernel CNN", wide_cnn(32), r(5, 3, 32, 32)),
        to_parameters("tangent-kernel CNN", wide_cnn(32), r(20, 3, 32, 32)),
        to_input("LeNet", lenet(), r(1, 1, 16, 16)),
        to_input("LeNet", lenet(), r(8, 1, 16, 16)),
        to_parameters("LeNet", lenet(), r(1, 1, 16, 16)),
        to_parameters("LeNet", lenet(), r(8, 1, 16, 16)),
        to_input("autoencoder", autoencoder(), r(1, 1, 16, 16)),
        to_parameters("autoencoder", autoencoder(), r(2, 1, 16, 16)),
        to_input("conv1d net", signal_net, r(4, 2, 40)),
        to_parameters("conv1d net", signal_net, r(4, 2, 40)),
        to_input("grouped CNN", grouped, r(2, 8, 8, 8)),
        to_input("ResNet", Residual(norm=False), r(2, 3, 12, 12)),
        to_parameters("ResNet", Residual(norm=False), r(2, 3, 12, 12)),
        to_input("ResNet with batch norm", Residual(norm=True), r(4, 3, 8, 8)),
        to_parameters("ResNet with batch norm", Residual(norm=True), r(4, 3, 8, 8)),
        to_input("MLP with batch norm", normed, r(16, 12)),
        to_parameters("MLP with batch norm", normed, r(16, 12)),
        to_input("RNN", Recurrent(nn.RNNCell(6, 16), 16), r(4, 20, 6)),
        to_parameters("RNN", Recurrent(nn.RNNCell(6, 16), 16), r(4, 20, 6)),
        to_input("LSTM", Recurrent(nn.LSTMCell(6, 16), 16), r(4, 12, 6)),
        to_parameters("LSTM", Recurrent(nn.LSTMCell(6, 16), 16), r(4, 12, 6)),
        to_parameters("GRU", Recurrent(nn.GRUCell(6, 16), 16), r(1, 12, 6)),
        to_input("transformer block", Block(16), r(1, 10, 16)),
        to_input("transformer block", Block(16), r(3, 10, 16)),
        to_parameters("transformer block", Block(16), r(1, 10, 16)),
        to_parameters("words", Words(), words(1)),
        to_parameters("words", Words(), words(16)),
        Case("heat on a ring", heat, (r(500),)),
        Case("Burgers in a plane", burgers, (r(20, 20),)),
        Case("Lorenz", lorenz, (r(3),)),
        Case("Kalman filter", kalman, (r(5, 5) / 3, torch.eye(5))),
        Case("Sinkhorn", sinkhorn, (r(12, 15),)),
        Case("einsum chain", lambda a, b: torch.einsum("bij,bjk,kl->bil", a, b, w).tanh(), (r(4, 12, 16), r(4, 16, 24))),
        Case("power iteration", lambda a: (a @ (a @ (a @ torch.ones(20)))) / (a @ torch.ones(20)).norm(), (r(20, 20),)),
        Case("distances", lambda x: torch.exp(-((x[:, None] - x[None]) ** 2).sum(-1)), (r(24, 3),)),
        to_input("fused LSTM", First(nn.LSTM(6, 16, batch_first=True)), r(3, 20, 6)),
        to_parameters("fused LSTM", First(nn.LSTM(6, 16, batch_first=True)), r(3, 20, 6)),
        to_input("attention", First(nn.MultiheadAttention(16, 2, batch_first=True), 3), r(2, 12, 16)),
        to_parameters("attention", First(nn.MultiheadAttention(16, 2, batch_first=True), 3), r(2, 12, 16)),
        to_input("flow", Coupling(12), r(16, 12)),
        to_parameters("flow", Coupling(12), r(4, 12)),
        Case("graph network", Messages(30, 90, 8), (r(30, 8),)),
        to_input("neural ODE", Motion(4), r(8, 4)),
        to_parameters("neural ODE", Motion(4), r(8, 4)),
        Case("finite volumes", volumes, (r(200),)),
        to_input("U-net", UNet(4), r(1, 1, 16, 16)),
        to_parameters("U-net", UNet(4), r(2, 1, 16, 16)),
        to_parameters("residual CNN", Residual(norm=False), r(1, 3, 12, 12)),
        to_parameters("residual CNN", Residual(norm=False), r(8, 3, 12, 12)),
        to_input("causal attention", Causal(24, 3), r(2, 14, 24)),
        to_parameters("causal attention", Causal(24, 3), r(2, 14, 24)),
        to_input("selective scan", Scan(6, 4), r(2, 25, 6)),
        to_parameters("selective scan", Scan(6, 4), r(1, 25, 6)),
        to_input("planar flow", Planar(6), r(40, 6)),
        to_input("mixture density", Mixture(), r(32, 4)),
        to_parameters("mixture density", Mixture(), r(32, 4)),
        Case("double pendulum", pendula, (r(4),)),
        Case("double pendula", pendula, (r(30, 4),)),
        Case("attracting bodies", bodies, (r(12, 4),)),
        Case("Newton's method", newton, (r(6, 6) / 3 + 3 * torch.eye(6), r(6))),
        Case("limited slopes", limited_flow, (r(256),)),
        bundle(40, 1000, 5000),
        bundle(4, 20, 60),
        Case("Gaussian process", likelihood, (r(30, 2), torch.tensor(0.7))),
        Case("pooling, then exp", lambda x: F.avg_pool2d(x, 2).exp(), (r(1, 1, 64, 64),)),
        Case("rows", lambda a: torch.einsum("ij,kj->ik", a, big).tanh(), (r(60, 40),)),
        Case("softmax of a product", lambda x: torch.softmax(square @ x, 0), (r(600),)),
        Case("right side", lambda b: torch.linalg.solve(square[:128, :128] + 9 * torch.eye(128), b), (r(128),)),
        Case("matrix exponential", lambda a: torch.linalg.matrix_exp(a), (r(12, 12) / 4,)),
        Case("tall layer", lambda x: torch.tanh(tall @ x), (r(20),)),
        Case("wide layer", lambda x: torch.tanh(tall.T @ x), (r(5000),)),
        Case("outer product", lambda x: torch.outer(x, x), (r(4),)),
        Case("matrix functions", lambda a: torch.linalg.inv(a @ a.T + torch.eye(10)).logdet().exp() * a, (r(10, 10),)),
    ]


# --- what is measured ------------------------------------------------------------------------------------------------


class TooLongError(Exception):
    """A way took more than LIMIT."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLongError inside after so many seconds."""

    def stop(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(way: Callable[[], Any]) -> float:
    """Processor time of the quickest of some calls, in ms; infinite where it fails or takes too long."""
    times: list[float] = []
    try:
        with limited(LIMIT):
            way()
            while len(times) < 3 or (sum(times) < 0.4 and len(times) < 60):
                start = time.process_time()
                way()
                times.append(time.process_time() - start)
    except (RuntimeError, ValueError, MemoryError, TooLongError):
        pass
    except Exception as error:  # a strategy that can't be gone, or one of torch's that does not know an operation
        if "Error" not in type(error).__name__:
            raise
    return 1e3 * min(times, default=float("inf"))


def peak(way: Callable[[], Any]) -> float:
    """MiB that a call takes at most over what there was before, in a fork; NaN where the system does not tell.

    What was freed and is used again counts as nothing.
    """
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            way()
            with open("/proc/self/clear_refs", "w") as reset:
                reset.write("5")
            before = _kilobytes("VmRSS")
            found = way()
            os.write(writing, str(_kilobytes("VmHWM") - before).encode())
            del found
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return max(0, int(told)) / 1024 if told else float("nan")


def _kilobytes(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


def our_ways(case: Case) -> dict[str, Callable[[], Any]]:
    """The chosen way, with the plan found made and with all planning; each strategy; the evaluation alone."""

    def evaluated() -> tuple[Tensor, list[Tensor]]:
        leaves = [x.clone().requires_grad_() for x in case.inputs]
        return case.function(*leaves), leaves

    def gone(way: Way) -> Callable[[], Any]:
        def go() -> Any:
            planned, work = plan(*evaluated()), Workspace()
            work.structure(work.key(*planned.key), lambda: way)
            done = compute(planned, work)
            if (done.way.strategy, done.way.mode) != (way.strategy, way.mode):
                raise RuntimeError("another way was gone")
            return done.maps

        return go

    planned = plan(*evaluated())
    strategies = [("accumulated", "reverse"), ("accumulated", "forward"), ("dense", "reverse"), ("dense", "forward")]
    if planned.graph.n > 8 * planned.graph.m:
        strategies = [each for each in strategies if each[1] == "reverse"]
    if planned.graph.spine:
        strategies.append(("batched", "reverse"))
    ways = {" ".join(each): gone(Way(*each, 0, 0, 0, True)) for each in strategies}
    return {"chosen": gone(planned.chosen), "first": lambda: compute(plan(*evaluated())).maps, **ways, "evaluating": evaluated}


def torch_ways(case: Case) -> dict[str, Callable[[], Any]]:
    """Torch's ways."""
    every = tuple(range(len(case.inputs)))
    m, n = case.function(*case.inputs).numel(), sum(x.numel() for x in case.inputs)
    jacobian = torch.autograd.functional.jacobian
    ways = {
        "loop": lambda: jacobian(case.function, case.inputs),
        "vectorized": lambda: jacobian(case.function, case.inputs, vectorize=True),
        "jacrev": lambda: torch.func.jacrev(case.function, every)(*case.inputs),
    }
    if n <= 8 * m and n * (n + m) <= LARGEST:
        ways["jacfwd"] = lambda: torch.func.jacfwd(case.function, every)(*case.inputs)
    if case.per_sample:
        ways["vmap"] = case.per_sample
    return ways


def main(words: list[str]) -> int:
    """Measures and prints; 1 where a plan was not good enough."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    worst: list[tuple[float, str]] = []
    logs: list[float] = []
    for case in make_cases():
        if words and not any(word.lower() in case.name.lower() for word in words):
            continue
        m, n = case.function(*case.inputs).numel(), sum(x.numel() for x in case.inputs)
        our, their = our_ways(case), torch_ways(case)
        ours, theirs = ({name: measure(way) for name, way in ways.items()} for ways in (our, their))
        leaves = [x.clone().requires_grad_() for x in case.inputs]
        way = plan(case.function(*leaves), leaves).chosen
        chosen, first, best = ours.pop("chosen"), ours.pop("first"), min(theirs.values())
        evaluating = ours.pop("evaluating")
        ratios = chosen / min(ours.values()), chosen / best, first / best
        told = "  ".join(f"{name} {ms:.4g}" for name, ms in {**ours, **theirs, "evaluating": evaluating}.items())
        print(f"{case.name} ({m}×{n}): {way.strategy} {way.mode} {chosen:.4g} ms, at first {first:.4g} ms | {told}", flush=True)
        held = peak(our["chosen"]), peak(their[min(theirs, key=lambda name: theirs[name])])
        mark = f"; memory {held[0]:.1f} against {held[1]:.1f} MiB" + ("  <-- over" if max(ratios) > ALLOWED else "")
        told = f"by our best other {ratios[0]:.2f}, by torch's best {ratios[1]:.2f}, at first {ratios[2]:.2f}"
        print(f"    {told}{mark}", flush=True)
        logs += [log(ratios[1])] if ratios[1] else []
        if max(ratios) > ALLOWED:
            worst.append((max(ratios), f"{case.name}: {told}"))
    print(f"\n{len(logs)} cases; geometric mean by torch's best: {exp(sum(logs) / max(1, len(logs))):.3f}; over {ALLOWED}:")
    for ratio, name in sorted(worst, reverse=True):
        print(f"    {ratio:8.2f}  {name}")
    return int(bool(worst))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
