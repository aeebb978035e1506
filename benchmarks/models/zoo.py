"""The models: what `--import` runs, and what Python calls.  Everything is in double precision, on one seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


# --- images ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a way around them (He et al. 2016)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.around = nn.Identity()
        if stride > 1 or before != width:
            self.around = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.around(x))


def resnet(width: int = 4, classes: int = 5) -> nn.Module:
    """ResNet-18: a stem, four stages of two blocks, a mean over the picture, a linear layer."""
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    stages: list[nn.Module] = []
    before = width
    for k in range(4):
        stages += [Block(before, width << k, 1 + (k > 0)), Block(width << k, width << k, 1)]
        before = width << k
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class Encoder(nn.Module):
    """A layer of a transformer, the norms in front (Vaswani et al. 2017; Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in self.qkv(self.norms[0](x)).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if self.causal:
            after = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(after, float("-inf"))
        x = x + self.out((torch.softmax(scores, -1) @ v).transpose(-3, -2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class ViT(nn.Module):
    """Patches as words (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 5, width))
        self.layers = nn.Sequential(Encoder(width, 2), Encoder(width, 2), nn.LayerNorm(width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        words = self.patches(x).flatten(2).transpose(1, 2)
        words = torch.cat([self.token.expand(len(x), -1, -1), words], 1) + self.places
        return self.head(self.layers(words)[:, 0])


# --- sequences -------------------------------------------------------------------------------------------------------


class GPT(nn.Module):
    """A causal transformer from embedded words on; the head is the table of the words (Radford et al. 2018)."""

    def __init__(self, width: int = 8, words: int = 11, length: int = 6) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(length, width))
        self.layers = nn.Sequential(Encoder(width, 2, causal=True), Encoder(width, 2, causal=True), nn.LayerNorm(width))
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.table.weight

    def forward(self, embedded: Tensor) -> Tensor:
        return self.head(self.layers(embedded + self.places))


class Last(nn.Module):
    """A recurrent net, read at every step."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.out = cell(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x)[0])


# --- physics ---------------------------------------------------------------------------------------------------------


class Field(nn.Module):
    """A small net of two coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.stack([x, t], -1))[..., 0]


wave = Field()


def pinn(x: Tensor, t: Tensor) -> Tensor:
    """The residual u_t + u u_x − ν u_xx of Burgers' equation at collocation points (Raissi et al. 2019)."""
    x, t = (z if z.requires_grad else z.clone().requires_grad_() for z in (x, t))
    u = wave(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return u_t + u * u_x - 0.01 * u_xx


def pinn_plain(x: Tensor, t: Tensor) -> Tensor:
    """The same by transforms, point by point."""

    def residual(a: Tensor, b: Tensor) -> Tensor:
        slope = torch.func.grad(wave, 0)
        return torch.func.grad(wave, 1)(a, b) + wave(a, b) * slope(a, b) - 0.01 * torch.func.grad(slope)(a, b)

    return torch.vmap(residual)(x, t)


class Dynamics(nn.Module):
    """dy/dt of a neural ordinary differential equation (Chen et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, y: Tensor) -> Tensor:
        return self.net(y)


dynamics = Dynamics()
STEPS, H = 8, 0.1


def rk4(y: Tensor) -> Tensor:
    """A step of the classical Runge–Kutta method."""
    a = dynamics(y)
    b = dynamics(y + H / 2 * a)
    c = dynamics(y + H / 2 * b)
    return y + H / 6 * (a + 2 * b + 2 * c + dynamics(y + H * c))


def ode(y: Tensor) -> Tensor:
    """The end of the trajectory, every step recorded."""
    for _ in range(STEPS):
        y = rk4(y)
    return y


class Adjoint(torch.autograd.Function):
    """The same end; backwards each step is run again from where it began, and only those places are kept."""

    @staticmethod
    def forward(ctx, y: Tensor, *parameters: Tensor) -> Tensor:
        places = [y]
        for _ in range(STEPS):
            places.append(rk4(places[-1]))
        ctx.places, ctx.parameters = places[:-1], parameters
        return places[-1]

    @staticmethod
    def backward(ctx, g: Tensor):
        sums = [torch.zeros_like(p) for p in ctx.parameters]
        for place in reversed(ctx.places):
            with torch.enable_grad():
                y = place.detach().requires_grad_()
                g, *found = torch.autograd.grad(rk4(y), (y, *ctx.parameters), g)
            sums = [s + f for s, f in zip(sums, found, strict=True)]
        return (g, *sums)


def ode_adjoint(y: Tensor) -> Tensor:
    """The end of the trajectory by `Adjoint`."""
    return Adjoint.apply(y, *dynamics.parameters())


def volumes(u: Tensor) -> Tensor:
    """The residual of an implicit step of Burgers' equation by finite volumes: upwind fluxes, and none at the left wall."""
    flux = F.pad(u**2 / 2, (1, 0))
    return u + 0.1 * (flux[1:] - flux[:-1])


# --- adversaries and flows -------------------------------------------------------------------------------------------

critic = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1))


def penalty(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss of WGAN-GP, with the penalty on its gradients between the samples (Gulrajani et al. 2017)."""
    between = 0.3 * real + 0.7 * fake
    between = between if between.requires_grad else between.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return critic(fake).mean() - critic(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()


def penalty_plain(real: Tensor, fake: Tensor) -> Tensor:
    """The same by transforms."""
    slope = torch.func.vmap(torch.func.grad(lambda z: critic(z)[0]))(0.3 * real + 0.7 * fake)
    return critic(fake).mean() - critic(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()


class Coupling(nn.Module):
    """A normalising flow of affine couplings (Dinh et al. 2017): the density of each sample."""

    def __init__(self, width: int = 4, layers: int = 3) -> None:
        super().__init__()
        half = width // 2
        self.nets = nn.ModuleList([nn.Sequential(nn.Linear(half, 8), nn.Tanh(), nn.Linear(8, width)) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        logdet = x.new_zeros(len(x))
        for net in self.nets:
            a, b = x.chunk(2, -1)
            shift, scale = net(a).chunk(2, -1)
            scale = torch.tanh(scale)
            x, logdet = torch.cat([b * scale.exp() + shift, a], -1), logdet + scale.sum(-1)
        return logdet - 0.5 * (x**2).sum(-1)


class Autoregressive(nn.Module):
    """A masked flow (Papamakarios et al. 2017): what comes out at k depends on what goes in up to k."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.shift, self.scale = (nn.Parameter(torch.randn(width, width) / 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return (x - x @ self.shift.triu(1)) * torch.exp(-torch.tanh(x @ self.scale.triu(1)))


# --- graphs and estimation -------------------------------------------------------------------------------------------

NODES = 12
SENDERS = torch.arange(NODES).repeat(2)
RECEIVERS = torch.cat([(torch.arange(NODES) + 1) % NODES, (torch.arange(NODES) - 1) % NODES])


class Messages(nn.Module):
    """A step of message passing on a ring (Gilmer et al. 2017)."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(2 * width, 6), nn.Tanh(), nn.Linear(6, width))
        self.update = nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        sent = self.message(torch.cat([h[SENDERS], h[RECEIVERS]], -1))
        arrived = torch.zeros_like(h).index_add(0, RECEIVERS, sent)
        return torch.tanh(self.update(torch.cat([h, arrived], -1)))


def kalman(z: Tensor, noise: Tensor) -> Tensor:
    """The log-likelihood of positions that are measured, a constant velocity assumed (Kalman 1960)."""
    move, seen, one = z.new_tensor([[1.0, 1.0], [0.0, 1.0]]), z.new_tensor([[1.0, 0.0]]), torch.eye(2, dtype=z.dtype)
    m, p, total = z.new_zeros(2), one, z.new_zeros(())
    q, r = noise.exp()
    for k in range(len(z)):
        m, p = move @ m, move @ p @ move.T + q * one
        s = seen @ p @ seen.T + r
        gain = torch.linalg.solve(s, seen @ p).T
        off = z[k] - seen @ m
        total = total - 0.5 * (torch.logdet(s) + off @ torch.linalg.solve(s, off))
        m, p = m + gain @ off, p - gain @ seen @ p
    return total


CAMERAS, POINTS, SIGHTS = 10, 100, 500
CAMERA = torch.arange(SIGHTS) % CAMERAS
POINT = torch.randperm(5 * POINTS) % POINTS


def reprojected(cameras: Tensor, points: Tensor) -> Tensor:
    """The 1,000 residuals of bundle adjustment: 500 sights of points by cameras that are turned and moved."""
    turn, shift = cameras[CAMERA, :3], cameras[CAMERA, 3:]
    x = points[POINT]
    angle = torch.sqrt((turn**2).sum(-1, keepdim=True) + 1e-12)
    axis = turn / angle
    along = axis * (axis * x).sum(-1, keepdim=True)
    x = x * torch.cos(angle) + torch.linalg.cross(axis, x) * torch.sin(angle) + along * (1 - torch.cos(angle)) + shift
    return x[:, :2] / (x[:, 2:] + 10)


# --- ways of running -------------------------------------------------------------------------------------------------


class Rounded(torch.autograd.Function):
    """A rounding through which gradients go as if it were not there (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g


def straight(x: Tensor) -> Tensor:
    """The same written with detach."""
    return x + (torch.round(x) - x).detach()


def quantized(x: Tensor) -> Tensor:
    """A layer whose activations are rounded."""
    return small(Rounded.apply(4 * x) / 4)


def quantized_plain(x: Tensor) -> Tensor:
    """The same for transforms."""
    return small((4 * x + (torch.round(4 * x) - 4 * x).detach()) / 4)


small = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
normed = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
compiled = torch.compile(small, backend="eager")
attention = nn.MultiheadAttention(4, 2, batch_first=True)


def normed_plain(x: Tensor) -> Tensor:
    """The net with a batch norm, without the statistics that it gathers."""
    first, norm, between, last = normed
    return last(between(F.batch_norm(first(x), None, None, norm.weight, norm.bias, training=True)))


def stored(x: Tensor) -> Tensor:
    """A net whose activations are not kept, but computed again backwards."""
    return checkpoint(small, x, use_reentrant=False)


def attended(x: Tensor) -> Tensor:
    """A sequence that attends to itself."""
    return attention(x, x, x, need_weights=False)[0]


def attended_plain(x: Tensor) -> Tensor:
    """The same, written out."""
    q, k, v = (F.linear(x, w, b) for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True))
    q, k, v = (part.unflatten(-1, (2, -1)).transpose(-3, -2) for part in (q, k, v))
    mixed = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, -1) @ v
    return attention.out_proj(mixed.transpose(-3, -2).flatten(-2))


@dataclass
class Output:
    """What models of libraries give: several tensors by name."""

    logits: Tensor
    hidden: Tensor


def described(x: Tensor) -> Output:
    """A model that gives an object."""
    return Output(small(x), small[:2](x))


def logits(x: Tensor) -> Tensor:
    """What is looked at of it."""
    return described(x).logits


resnet18, vit, gpt = resnet().eval(), ViT(), GPT()
lstm, gru = Last(nn.LSTM), Last(nn.GRU)
coupling, autoregressive, messages = Coupling(), Autoregressive(), Messages()
torch.set_default_dtype(torch.float32)
