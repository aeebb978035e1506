"""Real nets and programs, by inputs and by parameters, as `benchmarks.nets` measures them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    return Case(f"bundle adjustment, {seen} views", residuals, (torch.randn(cameras, 9) / 10, places))


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


class Decoder(nn.Module):
    """A language model: the losses of all next words, by a cell that is applied word by word."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell, self.out = nn.Embedding(50, 8), nn.LSTMCell(8, 12), nn.Linear(12, 50)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 12)
        state, losses, words = (h, h), [], self.table(x)
        for t in range(x.shape[1] - 1):
            state = self.cell(words[:, t], state)
            losses.append(F.cross_entropy(self.out(state[0]), x[:, t + 1], reduction="none"))
        return torch.stack(losses, 1)


class States(nn.Module):
    """What a cell gives at every step."""

    def __init__(self, cell: nn.Module, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden = cell, hidden

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.shape[0], self.hidden), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            found.append(h)
        return torch.stack(found, 1)


class Tokens(nn.Module):
    """The next word's scores by two blocks of a transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(30, width), nn.Parameter(torch.randn(16, width) / 4)
        self.blocks, self.out = nn.Sequential(Block(width), Block(width)), nn.Linear(width, 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(self.table(x) + self.places[: x.shape[1]])[:, -1])


class Gated(nn.Module):
    """Three rounds of messages, which a cell takes in."""

    def __init__(self, nodes: int, edges: int, width: int) -> None:
        super().__init__()
        self.ends = torch.randint(nodes, (2, edges))
        self.message, self.cell = mlp(2 * width, 16, width), nn.GRUCell(width, width)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.ends
        for _ in range(3):
            sent = self.message(torch.cat([x[source], x[target]], -1))
            x = self.cell(torch.zeros_like(x).index_add(0, target, sent), x)
        return x.sum(-1)


class Attending(nn.Module):
    """Messages that are weighed by attention along the edges of a graph."""

    def __init__(self, nodes: int, edges: int, width: int) -> None:
        super().__init__()
        self.ends = torch.randint(nodes, (2, edges))
        self.up, self.score = nn.Linear(width, width), nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.ends
        h = self.up(x)
        weight = F.leaky_relu(self.score(torch.cat([h[source], h[target]], -1))[:, 0], 0.2).exp()
        total = torch.zeros(len(x)).index_add(0, target, weight) + 1e-6
        return F.elu(torch.zeros_like(h).index_add(0, target, (weight / total[target])[:, None] * h[source]))


def predicted(scale: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    """The mean of a Gaussian process at nine places."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-((a[:, None] - b[None]) / scale.exp()).pow(2).sum(-1) / 2)

    factor = torch.linalg.cholesky(kernel(x, x) + noise.exp() * torch.eye(len(x)))
    places = torch.linspace(-1, 1, 18).reshape(9, 2)
    return kernel(places, x) @ torch.cholesky_solve(torch.sin(3 * x[:, :1]), factor)[:, 0]


class Radial(nn.Module):
    """Eight radial layers of a flow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.centre, self.sizes = nn.Parameter(torch.randn(8, width)), nn.Parameter(torch.rand(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        for centre, (inner, outer) in zip(self.centre, self.sizes, strict=True):
            away = x - centre
            x = x + outer * away / (inner.exp() + away.norm(dim=-1, keepdim=True))
        return x


class Leapfrog(nn.Module):
    """Twelve steps in a potential that a net gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 24), nn.Linear(24, 1)

    def force(self, q: Tensor) -> Tensor:
        return ((1 - torch.tanh(self.up(q)) ** 2) * self.down.weight[0]) @ self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, -1)
        for _ in range(12):
            p = p - 0.05 * self.force(q)
            q = q + 0.1 * p
            p = p - 0.05 * self.force(q)
        return torch.cat([q, p], -1)


def depthwise() -> nn.Module:
    first = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8)]
    last = [nn.SiLU(), nn.Conv2d(8, 16, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6)]
    return nn.Sequential(*first, *last)


def settled() -> nn.Module:
    """Batch norm with the statistics that it has learned."""
    first = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)]
    return nn.Sequential(*first, nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()


class Dilated(nn.Module):
    """Gated convolutions that look further and further back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 6, 1), nn.Conv1d(6, 1, 1)
        self.gates = nn.ModuleList([nn.Conv1d(6, 12, 2, dilation=1 << k) for k in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for k, gate in enumerate(self.gates):
            a, b = gate(F.pad(h, (1 << k, 0))).chunk(2, 1)
            h = h + a.tanh() * b.sigmoid()
        return self.last(h)[:, 0]


class Hyper(nn.Module):
    """A net that gives each sample a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3, 16, 35)

    def forward(self, x: Tensor) -> Tensor:
        w, b = self.net(x[:, :3]).split((30, 5), -1)
        return torch.relu(torch.bmm(w.view(-1, 5, 6), x[:, 3:, None])[..., 0] + b)


class Splines(nn.Module):
    """A layer of sums of learned functions of one number each."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.weight, self.grid = nn.Parameter(torch.randn(outer, inner, 6) / 3), torch.linspace(-2, 2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bip,oip->bo", torch.exp(-((x[..., None] - self.grid) ** 2)), self.weight)


def divergence(a: Tensor, b: Tensor) -> Tensor:
    """Of two clouds of points, by optimal transport."""

    def transport(x: Tensor, y: Tensor) -> Tensor:
        c = ((x[:, None] - y[None]) ** 2).sum(-1)
        f = torch.zeros(len(x))
        for _ in range(8):
            g = -torch.logsumexp(2 * (f[:, None] - c), 0) / 2
            f = -torch.logsumexp(2 * (g[None] - c), 1) / 2
        return f.mean() + g.mean()

    return transport(a, b) - transport(a, a) / 2 - transport(b, b) / 2


def rope(x: Tensor) -> Tensor:
    """Twenty steps of masses between springs, above a floor."""
    p, v = x.unbind()
    for _ in range(20):
        d = p[1:] - p[:-1]
        size = d.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        pull = F.pad(5 * (size - 1) * d / size, (0, 0, 1, 1))
        v = 0.99 * (v + 0.02 * (pull[1:] - pull[:-1] + torch.tensor([0.0, -1.0])))
        p = p + 0.02 * v
        v, p = torch.where(p < -0.01, -v / 2, v), p.clamp(min=-0.01)
    return torch.stack([p, v])


def bounces(x: Tensor) -> Tensor:
    """Where a ball is in forty steps."""
    h, v = x.unbind()
    found = []
    for _ in range(40):
        v = v - 0.49
        h = h + 0.05 * v
        v, h = torch.where(h < 0, -0.8 * v, v), torch.where(h < 0, -h, h)
        found.append(h)
    return torch.stack(found)


def fluid(x: Tensor) -> Tensor:
    """Three steps of particles that push each other away."""
    p, v = x[:, :2], x[:, 2:]
    for _ in range(3):
        d = p[:, None] - p[None]
        near = (1 - (d**2).sum(-1)).clamp(min=0) ** 2
        pressure = (near.sum(1) - 1).clamp(min=0)
        v = v + 0.01 * (((pressure[:, None] + pressure[None]) * near)[..., None] * d).sum(1)
        p = p + 0.05 * v
    return torch.cat([p, v], 1)


def fixed_point(w: Tensor, x: Tensor) -> Tensor:
    z = torch.zeros_like(x)
    for _ in range(15):
        z = torch.tanh(z @ w + x)
    return z


def smoothed(x: Tensor) -> Tensor:
    """By the Fourier transform."""
    waves = torch.fft.rfft(x)
    return (torch.fft.irfft(waves * torch.exp(-torch.arange(waves.shape[-1]) / 4), n=x.shape[-1]) * x).tanh()


def hidden(moves: Tensor, shows: Tensor, first: Tensor) -> Tensor:
    """Log likelihoods of a hidden Markov model, step by step."""
    a, moves, shows, found = first.log_softmax(-1), moves.log_softmax(-1), shows.log_softmax(-1), []
    for seen in (0, 2, 1, 1, 3, 0, 2, 3, 1, 0, 1, 2) * 2:
        a = torch.logsumexp(a[:, None] + moves, 0) + shows[:, seen]
        found.append(torch.logsumexp(a, 0))
    return torch.stack(found)


def filtered(a: Tensor, drift: Tensor, noise: Tensor) -> Tensor:
    """Log likelihoods of observations under a Kalman filter."""
    m, p, found, seen = torch.zeros(4), torch.eye(4), [], torch.eye(2, 4)
    for t in range(10):
        m, p = a @ m, a @ p @ a.T + drift.exp() * torch.eye(4)
        s, off = seen @ p @ seen.T + noise.exp() * torch.eye(2), torch.tensor([1.0, 0.5]) * (t % 3) - seen @ m
        gain = torch.linalg.solve(s, seen @ p).T
        m, p = m + gain @ off, p - gain @ seen @ p
        found.append(-(off @ torch.linalg.solve(s, off)) / 2 - torch.logdet(s) / 2)
    return torch.stack(found)


def arm(q: Tensor) -> Tensor:
    """Where the joints of a robot's arm are."""
    t, found, none, one = torch.eye(4), [], torch.zeros(()), torch.ones(())
    for k, angle in enumerate(q):
        c, s = angle.cos(), angle.sin()
        turned = (c, -s, none, one, s, c, none, none, none, none, one, one)
        bent = (c, none, s, one, none, one, none, one, -s, none, c, none)
        t = t @ torch.stack([*(turned if k % 2 else bent), none, none, none, one]).view(4, 4)
        found.append(t[:3, 3])
    return torch.stack(found)


def aligned(x: Tensor, y: Tensor) -> Tensor:
    """The soft distance of two series, by dynamic programming over single numbers."""
    d, far, best = (x[:, None] - y[None]) ** 2, torch.tensor(1e3), {(-1, -1): torch.zeros(())}
    for i, j in itertools.product(range(len(x)), range(len(y))):
        before = [best.get(place, far) for place in ((i - 1, j), (i, j - 1), (i - 1, j - 1))]
        best[i, j] = d[i, j] - torch.logsumexp(-torch.stack(before), 0)
    return best[len(x) - 1, len(y) - 1]


def train(a: Tensor) -> Tensor:
    """A product of matrices, whose size is kept."""
    v = torch.ones(a.shape[-1])
    for each in a:
        v = each.T @ v
        v = v / v.norm()
    return v


def options(x: Tensor) -> Tensor:
    """Prices under a volatility that is random, by 64 paths."""
    start, speed, mean, size = x.exp()
    drawn = torch.randn(20, 2, 64, generator=torch.Generator().manual_seed(0))
    s, v = torch.zeros(64), start.expand(64)
    for a, b in drawn:
        s = s - 0.025 * v + (0.05 * v).sqrt() * a
        v = (v + 0.05 * speed * (mean - v) + size * (0.05 * v).sqrt() * b).clamp(min=1e-4)
    return torch.stack([F.softplus(20 * (s.exp() - strike)).mean() / 20 for strike in (0.8, 0.9, 1.0, 1.1, 1.2)])


def rays(x: Tensor) -> Tensor:
    """How far rays go until they meet a ball or the floor."""
    way, t = F.normalize(F.pad(x, (0, 1), value=1.0), dim=-1), torch.zeros(len(x))
    for _ in range(16):
        p = way * t[:, None]
        t = t + torch.minimum((p - torch.tensor([0.0, 0.0, 3.0])).norm(dim=-1) - 1, p[:, 1] + 1.5)
    return t


def root(x: Tensor) -> Tensor:
    """By as many of Newton's steps as it takes."""
    z = torch.ones_like(x)
    while float((z**3 - x.abs() - 1).abs().max()) > 1e-4:
        z = z - (z**3 - x.abs() - 1) / (3 * z**2)
    return z


def adaptive(x: Tensor) -> Tensor:
    """An oscillator, by steps as long as their error allows."""
    t, h = 0.0, 0.1

    def slope(y: Tensor) -> Tensor:
        return torch.stack([y[1], -y[0] - 0.2 * y[1] ** 3])

    while t < 1.5:
        a = slope(x)
        b = slope(x + h * a)
        if float((h / 2 * (b - a)).norm()) < 1e-2:
            t, x, h = t + h, x + h / 2 * (a + b), min(1.5 * h, 0.3)
        else:
            h = h / 2
    return x


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
        to_parameters("states of a GRU", States(nn.GRUCell(4, 10), 10), r(2, 15, 4)),
        to_input("states of an RNN", States(nn.RNNCell(4, 8), 8), r(1, 30, 4)),
        to_parameters("language model", Decoder(), torch.randint(0, 50, (2, 13))),
        to_parameters("two blocks", Tokens(12), torch.randint(0, 30, (2, 16))),
        Case("gated graph network", Gated(25, 80, 6), (r(25, 6),)),
        Case("attending graph network", Attending(30, 120, 8), (r(30, 8),)),
        to_parameters("attending graph network", Attending(30, 120, 8), r(30, 8)),
        Case("mean of a Gaussian process", predicted, (r(2) / 3, torch.tensor(-1.0), r(20, 2))),
        to_input("radial flow", Radial(3), r(30, 3)),
        to_parameters("radial flow", Radial(3), r(6, 3)),
        to_input("leapfrog", Leapfrog(3), r(5, 6)),
        to_parameters("leapfrog", Leapfrog(3), r(1, 6)),
        to_parameters("depthwise CNN", depthwise(), r(1, 3, 12, 12)),
        to_parameters("depthwise CNN", depthwise(), r(2, 3, 12, 12)),
        to_parameters("depthwise CNN", depthwise(), r(8, 3, 12, 12)),
        to_parameters("CNN with settled norms", settled(), r(1, 1, 14, 14)),
        to_parameters("CNN with settled norms", settled(), r(8, 1, 14, 14)),
        to_parameters("dilated net", Dilated(), r(1, 1, 24)),
        to_input("dilated net", Dilated(), r(2, 1, 24)),
        to_parameters("hypernet", Hyper(), r(8, 9)),
        to_input("hypernet", Hyper(), r(30, 9)),
        to_parameters("spline net", nn.Sequential(Splines(4, 6), Splines(6, 3)), r(10, 4)),
        to_parameters("small MLP", mlp(6, 12, 12, 3), r(16, 6)),
        Case("Sinkhorn divergence", divergence, (r(10, 2), r(12, 2))),
        Case("rope", rope, (torch.stack([torch.stack([torch.arange(8.0), torch.rand(8)], -1), r(8, 2) / 3]),)),
        Case("bouncing ball", bounces, (torch.tensor([1.0, 0.5]),)),
        Case("fluid", fluid, (torch.cat([2 * torch.rand(20, 2), r(20, 2) / 5], 1),)),
        Case("fixed point", fixed_point, (r(12, 12) / 5, r(3, 12))),
        Case("spectral filter", smoothed, (r(3, 32),)),
        Case("hidden Markov model", hidden, (r(5, 5), r(5, 4), r(5))),
        Case("Kalman likelihood", filtered, (r(4, 4) / 3, torch.tensor(-1.0), torch.tensor(-1.0))),
        Case("robot arm", arm, (r(7),)),
        Case("soft alignment", aligned, (r(9), r(10))),
        Case("product of matrices", train, (r(12, 4, 4),)),
        Case("stochastic volatility", options, (r(4) / 3 - 1,)),
        Case("ray marching", rays, (r(40, 2) / 3,)),
        Case("root by a loop", root, (r(50),)),
        Case("adaptive steps", adaptive, (r(2),)),
    ]
