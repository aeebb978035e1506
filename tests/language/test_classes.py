"""Classes of a program against Python that runs the same text: modules of torch.nn, plain objects, Functions with a backward."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import jvpcli
from jvpcli.errors import JvpError
from jvpcli.language.names import copied

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"

MODULES = {
    "one module under two names, in a list and in a sequence": """
        class Net(nn.Module):
            def __init__(self, width=None):
                super().__init__()
                n = width or 2
                self.a = self.b = nn.Linear(n, 2)
                self.same = nn.ModuleList([nn.Linear(2, 2)] * 2)
                last = nn.Linear(2, 2)
                self.chain = nn.Sequential(last, nn.Tanh(), last)
            def forward(self, x):
                for layer in self.same:
                    x = torch.tanh(layer(x))
                return self.chain(self.b(self.a(x)))
        net, other = Net(), Net(2)
        x = torch.tensor([[1., 2.]], requires_grad=True)
        (net(x) + other(x)).sum().backward()
        """,
    "hooks that give something back, or keep what is used on": """
        acts, feats = {}, []
        def keep(name):
            def hook(module, given, output):
                acts[name] = output
            return hook
        def scaled(module, args, output):
            out = output * module.k + module.a.weight.sum() * args[0]
            return out
        def twice(module, grad_input, grad_output):
            g = grad_input[0]
            if g is not None:
                return (g * 2,)
        class Net(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.k = k
                self.a.register_full_backward_hook(self.cut)
                self.a.register_forward_hook(lambda m, i, o: o * k)
            def cut(self, m, given, _):
                return tuple(g.clamp(-0.1 * self.k, 0.1) for g in given)
            def forward(self, x):
                h = torch.tanh(self.a(x))
                h.register_hook(lambda g: g * self.k)
                return h
        net, other = Net(2.), Net(3.)
        handle = net.register_forward_hook(scaled)
        net.a.register_forward_pre_hook(lambda m, i: i[0] + 1)
        chain = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        chain[0].register_forward_hook(keep("fc"))
        chain[1].register_full_backward_hook(twice)
        chain[1].register_full_backward_pre_hook(lambda m, g: (g[0].clamp(-0.5, 0.5),))
        chain.register_forward_hook(lambda m, i, o: feats.append(o))
        x = torch.tensor([[1., 2.]], requires_grad=True)
        y = net(x) * other(x) + chain(x)
        handle.remove()
        (y.sum() + acts["fc"].pow(2).sum() * feats[0].sum()).backward()
        """,
    "operators, items, hasattr, other modules and dtypes, updates by gradients": """
        from collections import namedtuple
        from typing import NamedTuple
        dtype = torch.float64
        class Data:
            def __init__(self, n, scale=1.):
                self.xs = torch.arange(n * 2., dtype=dtype).reshape(n, 2)
                self.scale = scale
            def __len__(self):
                return len(self.xs)
            def __getitem__(self, i):
                return self.xs[i], i * self.scale
            def __add__(self, other):
                return self.xs * other.scale + other.xs
        class Net(nn.Module):
            def __init__(self, bias, dtype=None):
                super().__init__()
                self.fc = nn.Linear(2, 3, dtype=dtype)
                self.out = nn.Linear(3, 3)
                if bias:
                    self.b = nn.Parameter(torch.ones(3))
            def forward(self, x):
                x = self.fc(x)
                if not hasattr(self, "b"):
                    return self.out(x)
                elif x.sum() > -9:
                    y = self.out(x + self.b)
                else:
                    y = x
                return y
        data, more = Data(3), Data(3, 2.)
        net, other = Net(True).to(torch.float64), Net(False, dtype)
        net.out = nn.Linear(net.out.in_features, 1, dtype=torch.double)
        other.out = nn.Identity()
        chain = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 3))
        chain.to(dtype=dtype)
        chain[2] = nn.Linear(2, 1, dtype=dtype)
        Pair = namedtuple("Pair", "weight, power")
        class Weights(NamedTuple):
            first: torch.Tensor
            second: float = 3.
        pair = Pair(torch.tensor(2., dtype=dtype), power=2)
        both = Weights(pair.weight * 2)
        one, two = both
        def scaled(given):
            return given[0] * given[1]
        def loss():
            total = nn.utils.parameters_to_vector(net.parameters()).norm()
            total = total * scaled(both) * both.first * one * two * len(pair) * pair[0] * sum(pair)
            total = total + ((chain(data + more) - other(more + data).sum())).pow(pair.power).sum()
            for k in range(len(data)):
                x, y = data[k]
                total = total + (net(x) - y).pow(2).sum()
            return total
        grads = torch.autograd.grad(loss(), [*net.parameters()])
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads):
                p -= 0.01 * g
        loss().backward()
        """,
    "super, __call__, values and defaults of a class": """
        s = 2.0
        class A(nn.Module):
            k = s * 2
            noise = torch.randn(2)
            act = torch.tanh
            cube = lambda self, x: x ** 3
            def __init__(self, n):
                super().__init__()
                self.l = nn.Linear(n, n)
            def forward(self, x):
                return self.act(self.l(x)) * self.k
            @property
            def scale(self):
                return self.k + 1
        class B(A):
            def act(self, x):
                return self.cube(x)
            def __call__(self, x, shift=s):
                return super().__call__(x) * 5 + shift * self.noise * x
            def forward(self, x):
                return super().forward(x) * self.scale * A.k
            @property
            def scale(self):
                return super().scale * 2
        s = 7.0
        b, c = B(2), B(2)
        x = torch.tensor([1., 2.], requires_grad=True)
        (b(x) * c(x)).sum().backward()
        """,
    "classes derived from those of torch.nn": """
        class Scaled(nn.Linear):
            def __init__(self, *sizes, scale=2.):
                super().__init__(*sizes)
                self.scale = nn.Parameter(torch.tensor(scale))
                self.register_buffer("mask", torch.tril(torch.ones(2, 2)))
                self.weight.data.mul_(2)
            def reset_parameters(self):
                nn.init.normal_(self.weight)
                nn.init.constant_(tensor=self.bias, val=0.1)
            def forward(self, x):
                return super().forward(x) * self.scale + F.linear(x, self.mask * self.weight)
        class Kept(Scaled):
            def __init__(self, n):
                super().__init__(n, n, scale=3.)
                self.more = nn.Linear(n, n)
            def forward(self, x):
                return self.more(super().forward(x)) + self.weight.sum() * self.in_features
        class Drop(nn.Dropout):
            def forward(self, x):
                return F.dropout(x, self.p, self.training) * 2
        class Chain(nn.Sequential):
            def forward(self, x):
                for layer in self:
                    x = layer(x) + x
                return super().forward(x) * len(self) + self[0].weight.sum()
        class Grown(nn.Sequential):
            def __init__(self, *sizes):
                super().__init__()
                for a, b in zip(sizes, sizes[1:]):
                    self.append(nn.Linear(a, b))
                self.add_module("act", nn.Tanh())
        class Layers(nn.ModuleList):
            def through(self, x):
                for layer in self:
                    x = layer(x)
                return x
        class Last(nn.GRU):
            def forward(self, x):
                return super().forward(x)[0][:, -1]
        net = nn.Sequential(Kept(2), Drop(0.4), Chain(nn.Linear(2, 2), nn.ReLU()), Grown(2, 3, 2), Scaled(2, 2))
        for m in net.modules():
            if isinstance(m, Chain):
                m[0].bias.data.fill_(0.5)
            elif isinstance(m, Scaled) and type(m) != Scaled:
                m.bias.data.fill_(0.25)
        net.eval()
        del m
        layers, last = Layers([nn.Linear(2, 2), Scaled(2, 1)]), Last(2, 2, batch_first=True)
        x = torch.tensor([[1., 2.], [3., -1.]], requires_grad=True)
        (layers.through(net(x)).sum() + last(x[None]).sum()).backward()
        """,
    "super of a class that it names, modules that a sequence is given later": """
        class A(nn.Linear):
            def forward(self, x):
                return super(A, self).forward(x) * 2
        class B(A):
            def __init__(self):
                super(B, self).__init__(2, 2)
            def forward(self, x):
                return super(A, self).forward(x) * 5
        class S(nn.Sequential):
            def __init__(self):
                super().__init__(nn.Linear(2, 2))
                self.act = nn.Tanh()
                self.k = 3.
                self.w = nn.Parameter(torch.ones(2))
                self.append(nn.Linear(2, 2))
            def forward(self, x):
                return super().forward(x) * self.k * self.w
        b, s = B(), S()
        x = torch.tensor([1., 2.], requires_grad=True)
        (b(s(x)) * len(s)).sum().backward()
        """,
    "lists that grow in loops, and sequences that are gone through": """
        layers, prev = [], 2
        for width in (3, 2):
            layers.append(nn.Linear(prev, width))
            if width > 2:
                layers += [nn.Tanh()]
            prev = width
        net = nn.Sequential(*layers)
        other = nn.Sequential(nn.Linear(prev, 2), nn.Tanh(), nn.Linear(2, 2))
        other.append(nn.Linear(2, 1))
        heads = nn.ModuleDict({"a": nn.Linear(2, 2).double().float()})
        x = torch.tensor([1., 2.], requires_grad=True)
        y = net(x)
        for layer in other[:-1]:
            y = torch.relu(layer(y)) + prev
        y = other[-1](other[:2](y)) * len(other) + getattr(other[0], "weight").sum() + heads["a"](y).sum()
        del layers, layer
        y.sum().backward()
        """,
    "hooks that only look, another dtype, parameters by name": """
        kept, seen = {}, []
        def keep(name):
            def hook(module, given, output):
                kept[name] = output.detach()
            return hook
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 2)
                self.gradient = None
            def look(self, gradient):
                self.gradient = gradient
            def forward(self, x):
                y = self.l(x)
                y.register_hook(self.look)
                return y
        net, other = Net(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net = net.double()
        other.double()
        other[1].load_state_dict({"weight": torch.eye(2) * 3, "bias": torch.ones(2)})
        for k in range(1, 3):
            other[0].bias.data += k
        for p in other[1].parameters():
            p.requires_grad = False
        net.l.register_forward_hook(keep("l"))
        handle = net.l.register_full_backward_hook(lambda m, i, o: seen.append(o))
        for layer in other:
            layer.register_forward_pre_hook(lambda m, given: print(given[0].shape))
        x = torch.ones(2, dtype=torch.float64, requires_grad=True)
        h = x.register_hook(lambda g: 3 * g)
        y = other(net(x))
        del p, layer
        y.pow(2).sum().backward()
        h.remove()
        print(kept["l"], seen)
        """,
    "sizes that are computed, functions and lists that make modules": """
        def block(a, b, act=True):
            parts = [nn.Linear(a, b)]
            if act:
                parts.append(nn.Tanh())
            return nn.Sequential(*parts)
        class Head(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.first = block(n, n - 1)
                self.last = nn.Linear(n - 1, 1)
            @classmethod
            def of(cls, data):
                return cls(data.size(-1))
            def forward(self, t):
                return self.last(self.first(t))
        x = torch.randn(4, 3, requires_grad=True)
        rows, columns = x.shape
        layers = [nn.Linear(columns, columns) for _ in range(2)]
        body, net = block(columns, rows), nn.Linear(rows, len(layers) + 1)
        head = Head(3)
        h = layers[1](torch.relu(layers[0](x)))
        head(net(body(h))).pow(2).sum().backward()
        """,
    "a frozen weight by its name, a compiled module, numbers set behind autograd": """
        net = nn.Linear(2, 2)
        net.weight.requires_grad = False
        other = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        other[0].weight.data[1][0] = 0.5
        other = torch.jit.script(other)
        x = torch.tensor([1., 2.], requires_grad=True)
        x.data[1] = 5.
        x.data *= 2
        held = sum(p.numel() for p in net.parameters() if p.requires_grad)
        y = F.linear(other(x), net.weight, net.bias) + sum(p.sum() for p in net.parameters())
        y.pow(2).sum().backward()
        """,
    "functions that stand before what they read, a part's mode": """
        def loss(x):
            return net(x).pow(2).sum()
        double = lambda x: 2 * net(x).sum()
        class model(nn.Module):
            def __init__(self):
                super().__init__()
                self.l, self.d = nn.Linear(2, 2), nn.Dropout(0.5)
            def forward(self, x):
                return self.d(self.l(x))
        net = model()
        net.d.eval()
        model = model()
        model.eval()
        x = torch.tensor([[1., 2.]], requires_grad=True)
        (loss(x) + double(x) + model(x).sum()).backward()
        """,
    "a mode that stands between leaves of one name": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.d = nn.Dropout(0.5)
            def forward(self, x):
                return self.d(x)
        net = Net()
        net.eval()
        x = torch.ones(1, 2, requires_grad=True)
        w = 2 * x
        x = torch.ones(3, 2, requires_grad=True)
        net(x).sum().backward()
        """,
    "a net": """
        class Net(nn.Module):
            '''Two layers.'''
            def __init__(self, width, bias=True):
                super(Net, self).__init__()
                self.fc1 = nn.Linear(2, width)
                self.fc2 = nn.Linear(width, 1, bias=bias)
                self.scale = 2.0

            def forward(self, x):
                x = torch.tanh(self.fc1(x))
                return self.fc2(x) * self.scale
        net = Net(3, bias=False)
        x = torch.tensor([[1., 2.], [3., -1.]], requires_grad=True)
        y = net(x).sum()
        y.backward()
        """,
    "layers of a list, and a parameter": """
        class Net(nn.Module):
            def __init__(self, layers):
                super().__init__()
                self.depth = len(layers) - 1
                self.layers = nn.ModuleList([nn.Linear(layers[i], layers[i + 1]) for i in range(self.depth)])
                self.w = nn.Parameter(torch.randn(1, layers[-1]))
                self.act = nn.Tanh()

            def forward(self, x):
                for i in range(self.depth - 1):
                    x = self.act(self.layers[i](x))
                return self.layers[-1](x) * self.w
        sizes = [2, 3, 4]
        net = Net(sizes)
        x = torch.ones(5, 2, requires_grad=True)
        net(x).pow(2).mean().backward()
        """,
    "a list that grows, a Sequential of it": """
        class Net(nn.Module):
            def __init__(self, n_in, n_hidden, n_out, depth=2):
                super().__init__()
                layers = []
                layers.append(nn.Linear(n_in, n_hidden))
                layers.append(nn.Tanh())
                for _ in range(depth - 1):
                    layers.append(nn.Linear(n_hidden, n_hidden))
                    layers += [nn.Sigmoid()]
                layers.append(nn.Linear(n_hidden, n_out))
                self.net = nn.Sequential(*layers)

            def forward(self, x):
                return self.net(x)
        model = Net(1, 4, 2)
        x = torch.linspace(0, 1, 5).view(-1, 1).requires_grad_(True)
        u = model(x)
        u.sum().backward()
        """,
    "modules in modules, and one of the program in a Sequential": """
        class Sine(nn.Module):
            def forward(self, x):
                return torch.sin(x)
        class Block(nn.Module):
            def __init__(self, n, rate):
                super().__init__()
                self.fc = nn.Linear(n, n)
                self.rate = rate
            def forward(self, x):
                return x + self.rate * F.relu(self.fc(x))
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(nn.Linear(2, 3), Sine(), Block(3, rate=0.5))
                self.a, self.b = Block(3, 1.0), nn.Linear(3, 1)
            def forward(self, x):
                h = self.body(x)
                return self.b(self.a(h)).squeeze(-1)
        net = Net()
        x = torch.tensor([[0.5, -1.0]], requires_grad=True)
        net(x).sum().backward()
        """,
    "methods, a property, a static one, an attribute that forward sets": """
        class Model(torch.nn.Module):
            order = 2
            def __init__(self):
                super().__init__()
                self.lin = torch.nn.Linear(2, 2)
                self.seen = 0.0
            @staticmethod
            def square(z):
                return z * z
            @property
            def total(self):
                return self.lin.weight.sum()
            def features(self, x, power=1):
                return self.square(self.lin(x)) ** power
            def loss(self, x):
                return self(x).sum() + self.total
            def forward(self, x):
                self.kept = self.features(x, power=self.order)
                return self.kept
        model = Model()
        x = torch.tensor([1., 2.], requires_grad=True)
        loss = model.loss(x) + model.kept.mean()
        loss.backward()
        """,
    "derived from a class of the program": """
        class Base(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.fc = nn.Linear(n, n)
            def act(self, x):
                return torch.tanh(x)
            def forward(self, x):
                return self.act(self.fc(x))
        class Sines(Base):
            def __init__(self, n, w=3.0):
                super().__init__(n)
                self.w = w
            def act(self, x):
                return torch.sin(self.w * x)
        f, g = 1.0, 2.0
        base = Base(2)
        sines = Sines(2, w=2.0)
        x = torch.tensor([0.3, 0.4], requires_grad=True)
        (f * base(x) * g * sines.forward(x)).sum().backward()
        """,
    "two objects of a class": """
        class Critic(nn.Module):
            def __init__(self):
                super(Critic, self).__init__()
                self.main = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
            def forward(self, x):
                return self.main(x)
        d1 = Critic()
        d2 = Critic()
        real = torch.randn(3, 2)
        x = torch.rand(3, 2, requires_grad=True)
        out = d1(x) - d2(x) + d1(real)
        out.mean().backward()
        """,
    "a penalty on the gradient": """
        class D(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
            def forward(self, x):
                return self.fc(x).view(-1)
        netD = D()
        x = torch.randn(4, 2, requires_grad=True)
        g = torch.autograd.grad(netD(x), x, grad_outputs=torch.ones(4), create_graph=True, retain_graph=True)[0]
        penalty = ((g.norm(2, dim=1) - 1) ** 2).mean()
        penalty.backward()
        """,
    "a plain object that holds a net": """
        class Solver:
            def __init__(self, nu):
                self.nu = nu
                self.net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
            def residual(self, x):
                u = self.net(x)
                du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
                return du + self.nu * u
            def loss(self, x):
                return (self.residual(x) ** 2).mean()
        solver = Solver(nu=0.1)
        x = torch.linspace(0, 1, 4)[:, None].requires_grad_()
        loss = solver.loss(x)
        loss.backward()
        """,
    "a loop over the parts of a Sequential": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.seq = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
                self.norm = nn.LayerNorm(2)
            def forward(self, x):
                outs = []
                for layer in self.seq:
                    x = layer(x)
                    outs.append(x)
                return self.norm(sum(outs)) + self.seq[0].weight.sum() + len(self.seq)
        net = Net()
        x = torch.tensor([[0.2, 1.0]], requires_grad=True)
        net(x)[0, 0].backward()
        """,
    "evaluation mode, dropout by self.training": """
        class Net(nn.Module):
            def __init__(self, p):
                super().__init__()
                self.fc = nn.Linear(3, 3)
                self.drop = nn.Dropout(p)
            def forward(self, x):
                x = self.drop(self.fc(x))
                return F.dropout(x, 0.5, training=self.training) if self.training else x * 2
        net = Net(0.5)
        net.eval()
        x = torch.ones(3, requires_grad=True)
        net(x).sum().backward()
        """,
    "conditions and a buffer in __init__": """
        class Net(nn.Module):
            def __init__(self, kind="tanh", n=3, depth=None):
                super().__init__()
                if kind == "relu":
                    self.act = nn.ReLU()
                elif kind == "tanh":
                    self.act = torch.tanh
                else:
                    raise ValueError(kind)
                self.depth = 2 if depth is None else depth
                self.register_buffer("freqs", torch.arange(1, n + 1).float())
                self.out = nn.Linear(n * self.depth // 2, 1)
            def forward(self, x):
                return self.out(self.act(x * self.freqs))
        net = Net()
        x = torch.tensor([[0.7]], requires_grad=True)
        net(x).backward()
        """,
    "an object without a name of its own": """
        class Double(nn.Module):
            def forward(self, x):
                return 2 * x
        x = torch.ones(2, requires_grad=True)
        Double()(x).sum().backward()
        """,
    "gradients by the parameters, in PyTorch's order": """
        class Part(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 2)
                self.v = nn.Parameter(torch.randn(2))
            def forward(self, x):
                return self.l(x) * self.v
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.part = Part()
                self.out = nn.Sequential(nn.Tanh(), nn.Linear(2, 1))
                self.w = nn.Parameter(torch.randn(2))
            def forward(self, x):
                return self.out(self.part(x) * self.w)
        net = Net()
        x = torch.ones(3, 2)
        loss = net(x).pow(2).sum()
        grads = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        total = sum((k + 1) * (g * g).sum() for k, g in enumerate(grads))
        total.backward()
        """,
    "parts with names, and classes by name": """
        from collections import OrderedDict
        class Net(nn.Module):
            def __init__(self, sizes, activation=nn.Tanh):
                super().__init__()
                self.depth = len(sizes) - 1
                self.activation = activation
                last = nn.Sigmoid
                parts = list()
                for i in range(self.depth - 1):
                    parts.append(("layer_%d" % i, nn.Linear(sizes[i], sizes[i + 1])))
                    parts.append(("activation_%d" % i, self.activation()))
                parts.append(("layer_%d" % (self.depth - 1), nn.Linear(sizes[-2], sizes[-1])))
                parts.append(("last", last()))
                self.layers = nn.Sequential(OrderedDict(parts))
            def forward(self, x):
                return self.layers(x)
        net = Net([2, 3, 3, 1])
        x = torch.ones(3, 2, requires_grad=True)
        net(x).sum().backward()
        """,
    "parameters that are set before their first use": """
        import math
        W = torch.rand(2)
        class Lin(nn.Module):
            def __init__(self, i, o, bias=True):
                super().__init__()
                self.weight = nn.Parameter(torch.empty(o, i))
                self.bias = nn.Parameter(torch.Tensor(o)) if bias else None
                self.reset(a=math.sqrt(5))
            def reset(self, a):
                nn.init.kaiming_uniform_(self.weight, a=a)
                if self.bias is not None:
                    bound = 1. / math.sqrt(self.weight.size(1))
                    self.bias.data.uniform_(-bound, bound)
            def forward(self, x):
                return F.linear(x, self.weight, self.bias)
        class Net(nn.Module):
            def __init__(self, sizes):
                super().__init__()
                layers = []
                for a, b in zip(sizes[:-1], sizes[1:]):
                    layer = nn.Linear(a, b)
                    nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
                    nn.init.zeros_(layer.bias)
                    layers.append(layer)
                    layers.append(nn.Tanh())
                self.net = nn.Sequential(*layers)
                self.a, self.b, self.own, self.conv = nn.Linear(2, 2), nn.Linear(2, 2), Lin(2, 2), nn.Conv1d(1, 1, 2)
                self.w = nn.Parameter(W * torch.rand(2))
                self.fixed = nn.Linear(2, 2).requires_grad_(False)
                for m in self.modules():
                    if isinstance(m, (nn.Linear, nn.Conv2d)) and m.in_features == 3:
                        nn.init.orthogonal_(m.weight)
                        if m.bias is not None:
                            nn.init.constant_(m.bias, 0.1)
                self.apply(self._init)
                self.b.weight = self.a.weight
                with torch.no_grad():
                    self.b.bias[0] = 3.0
                    self.a.bias *= 2
            def _init(self, m):
                name = m.__class__.__name__
                if name.find("Conv") != -1:
                    nn.init.normal_(m.weight.data, 0.0, 0.5)
            def forward(self, x):
                return self.own(self.b(self.a(self.net(x)))) * self.w * W + self.fixed(x) * self.conv(x[None, :1]).sum()
        def shrink(model, by=0.5):
            for name, p in model.named_parameters():
                if "weight" in name and p.dim() > 1:
                    p.data.mul_(by)
                elif name.endswith("bias"):
                    p.data = p.data - 0.01
        net, other = Net([2, 3, 2]), Net([2, 3, 2])
        shrink(net.net, by=0.25)
        net.own.weight.data = torch.rand(2, 2) + W
        net.own.bias = nn.Parameter(torch.eye(2)[0])
        for p in net.conv.parameters():
            p.requires_grad = False
        other.load_state_dict(net.state_dict())
        for p, q in zip(net.a.parameters(), other.a.parameters()):
            q.data.copy_(0.9 * p.data + 0.1 * q.data)
        other.net.requires_grad_(False)
        other.a.bias.requires_grad_(False)
        x = torch.randn(3, 2, requires_grad=True)
        (net(x) * other(x) * torch.rand(2)).sum().backward()
        """,
    "collections of parts, by name and by place": """
        class Net(nn.Module):
            def __init__(self, *sizes, act=nn.Tanh, **options):
                super().__init__()
                self.layers = nn.ModuleList()
                for a, b in zip(sizes, sizes[1:]):
                    self.layers.append(nn.Linear(a, b, **options))
                self.layers.extend([nn.Linear(2, 2), act()])
                self.named = nn.ModuleDict({"one": nn.Linear(2, 2), f"{'t'}wo": nn.Linear(2, 2)})
                self.named["three"] = act()
                self.more = nn.ModuleDict([["tanh", nn.Tanh()], ["relu", nn.ReLU()]])
                self.ps = nn.ParameterList([torch.rand(2) for _ in range(2)])
                self.ps.append(nn.Parameter(torch.ones(2)))
                self.pd = nn.ParameterDict({k: nn.Parameter(torch.rand(2)) for k in ("a", "b")})
                self.body = nn.Sequential()
                for i in range(2):
                    self.body.append(nn.Linear(2, 2))
                    self.body.add_module(f"act{i}", nn.Tanh())
                    self.add_module("extra%d" % i, nn.Linear(2, 2))
                    setattr(self, f"further{i}", nn.Linear(2, 2))
                self.register_parameter("w", nn.Parameter(torch.rand(2)))
                self.register_parameter("none", None)
                self.register_buffer("k", torch.ones(2), persistent=False)
                self.seen = []
            def forward(self, x, act="tanh", which="b"):
                for i, layer in enumerate(self.layers[:-1]):
                    x = x + layer(x) * i
                for name, part in self.named.items():
                    x = self.more[act](part(x))
                for name in self.named:
                    x = x + self.named[name](x)
                for part in self.named.values():
                    x = part(x)
                for i, p in enumerate(self.ps):
                    x = x * p + i
                if self.none is None:
                    x = self.body(x) * self.w * self.pd[which] + self.k * len(self.ps) + self.extra1(getattr(self, "further0")(x))
                self.seen.append(x)
                return sum(self.seen) + len(self.seen)
        net = Net(2, 2, 2, bias=False)
        tail = nn.Sequential()
        tail.append(nn.Tanh())
        x = torch.ones(1, 2, requires_grad=True)
        (net(x) + tail(x)).sum().backward()
        """,
    "methods of classes, annotations, a mixin, records": """
        from dataclasses import dataclass
        from typing import Optional
        @dataclass(frozen=True)
        class Config:
            k: float
            n: int = 2
            def scaled(self, x):
                return self.k * x ** self.n
        class Scale:
            def twice(self, x):
                return 2 * x
        class A(nn.Module):
            factor: float = 2.0
            unset: torch.Tensor
            def __init__(self, n: int = 2, p: Optional[float] = None) -> None:
                super().__init__()
                self.fc: nn.Linear = nn.Linear(n, n)
            @staticmethod
            def act(x):
                return torch.tanh(x)
            @classmethod
            def big(cls, x):
                return cls.act(x) * cls.factor
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                h: torch.Tensor = self.fc(x)
                return A.act(h) + self.big(x)
        class B(A, Scale):
            factor = 3.0
            def __init__(self):
                A.__init__(self, 2)
            def forward(self, x):
                return self.twice(A.forward(self, x)) + super(B, self).forward(x)
        net, config = B(), Config(k=3.0)
        x = torch.tensor([1., 2.], requires_grad=True)
        (net(x) + A.act(x) + B.big(x) + config.scaled(x) * config.n).sum().backward()
        """,
    "hooks that give a gradient back": """
        hook = torch.tensor([2., 3.])
        x = torch.tensor([1., 2.], requires_grad=True)
        def clip(g):
            print(g)
            return g.clamp(-4, 4)
        def half(g):
            if g.sum() > 1:
                return g / 2
        found = x ** 2
        z = found * 3
        found.register_hook(clip)
        found.register_hook(lambda apply: apply * hook)
        z.register_hook(half)
        x.register_hook(lambda gradient: gradient + 1)
        z.sum().backward()
        """,
    "given to a function": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 1)
            def forward(self, x):
                return self.l(x)
        def loss(model, x):
            return model(x).pow(2).sum()
        net = Net()
        x = torch.ones(3, 2, requires_grad=True)
        loss(net, x).backward()
        """,
}

FUNCTIONS = {
    "a square": """
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x ** 2
            @staticmethod
            def backward(ctx, grad_output):
                x, = ctx.saved_tensors
                return grad_output * 2 * x
        x = torch.tensor([1., -2.], requires_grad=True)
        y = Square.apply(x)
        y.backward(torch.tensor([1., 3.]))
        """,
    "a mask, and a number of its own": """
        class Leaky(torch.autograd.Function):
            @staticmethod
            def forward(ctx, input, slope):
                ctx.save_for_backward(input)
                ctx.slope = slope
                return torch.where(input > 0, input, slope * input)
            @staticmethod
            def backward(ctx, grad_output):
                input, = ctx.saved_tensors
                grad_input = grad_output.clone()
                grad_input[input < 0] *= ctx.slope
                return grad_input, None
        leaky = Leaky.apply
        x = torch.tensor([[1., -2.], [0.5, -3.]], requires_grad=True)
        leaky(x, 0.1).sum().backward()
        """,
    "a layer, by what needs a gradient": """
        class LinearFunction(torch.autograd.Function):
            @staticmethod
            def forward(ctx, input, weight, bias=None):
                ctx.save_for_backward(input, weight, bias)
                output = input.mm(weight.t())
                if bias is not None:
                    output += bias.unsqueeze(0).expand_as(output)
                return output
            @staticmethod
            def backward(ctx, grad_output):
                input, weight, bias = ctx.saved_tensors
                grad_input = grad_weight = grad_bias = None
                if ctx.needs_input_grad[0]:
                    grad_input = grad_output.mm(weight)
                if ctx.needs_input_grad[1]:
                    grad_weight = grad_output.t().mm(input)
                if bias is not None and ctx.needs_input_grad[2]:
                    grad_bias = grad_output.sum(0)
                return grad_input, grad_weight, grad_bias
        x = torch.tensor([[1., 2.], [3., 4.], [0., 1.]], requires_grad=True)
        w = torch.tensor([[0.5, -1.]], requires_grad=True)
        b = torch.tensor([0.3], requires_grad=True)
        y = LinearFunction.apply(x, w, b)
        (y ** 2).sum().backward()
        """,
    "several results": """
        class Both(torch.autograd.Function):
            @staticmethod
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return a * b, a + b
            @staticmethod
            def backward(ctx, g, h):
                a, b = ctx.saved_tensors
                return g * b + h, g * a + h
        a = torch.tensor([1., 2.], requires_grad=True)
        b = torch.tensor([3., 5.], requires_grad=True)
        p, s = Both.apply(a, b)
        (p * s).sum().backward()
        """,
    "with setup_context": """
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(x):
                return x ** 3
            @staticmethod
            def setup_context(ctx, inputs, output):
                x, = inputs
                ctx.save_for_backward(x)
            @staticmethod
            def backward(ctx, g):
                x, = ctx.saved_tensors
                return g * 3 * x * x
        x = torch.tensor([2., 3.], requires_grad=True)
        Cube.apply(x).sum().backward()
        """,
    "a derivative of the backward": """
        class Exp(torch.autograd.Function):
            @staticmethod
            def forward(ctx, i):
                result = i.exp()
                ctx.save_for_backward(result)
                return result
            @staticmethod
            def backward(ctx, grad_output):
                result, = ctx.saved_tensors
                return grad_output * result
        x = torch.tensor([0.1, 0.2], requires_grad=True)
        g, = torch.autograd.grad(Exp.apply(x * x).sum(), x, create_graph=True)
        (g ** 2).sum().backward()
        """,
    "once, with a static method and a value of the class": """
        from torch.autograd.function import once_differentiable
        class Scaled(torch.autograd.Function):
            scale = 2.0
            @staticmethod
            def times(t):
                return t * Scaled.scale
            @staticmethod
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return Scaled.times(a * b)
            @staticmethod
            @once_differentiable
            def backward(ctx, g):
                a, b = ctx.saved_tensors
                return Scaled.times(g * b), Scaled.times(g * a)
        a = torch.tensor([1., 2.], requires_grad=True)
        b = torch.tensor([3., 4.], requires_grad=True)
        Scaled.apply(a, b).sum().backward()
        """,
    "in a module": """
        class Clamp(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clamp(0, 1)
            @staticmethod
            def backward(ctx, g):
                return g
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 2)
            def forward(self, x):
                return Clamp.apply(self.fc(x) * 3)
        net = Net()
        x = torch.tensor([[1., 2.]], requires_grad=True)
        net(x).sum().backward()
        """,
}


CONTEXTS = {
    "what is not differentiable, and no zeros for what is not reached": """
        class Parts(torch.autograd.Function):
            @staticmethod
            def forward(ctx, a, b):
                above, twice = a > 1, a * 2
                ctx.mark_non_differentiable(above, twice)
                ctx.set_materialize_grads(False)
                ctx.save_for_backward(a, b)
                return a * b, a + b, above, twice
            @staticmethod
            def backward(ctx, g, h, _, k):
                a, b = ctx.saved_tensors
                if h is not None or k is not None:
                    return h * 100, k
                return g * b, g * a
        a = torch.tensor([1., 2.], requires_grad=True)
        b = torch.tensor([3., 4.], requires_grad=True)
        y, z, above, twice = Parts.apply(a, b)
        (y * above * twice).sum().backward()
        """,
}


def program(text: str) -> str:
    return HEAD + textwrap.dedent(text).strip() + "\n"


def plainly(text: str) -> dict[str, Any]:
    """What Python makes of a program."""
    scope: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(text, scope)
    return scope


def gradients(scope: dict[str, Any]) -> dict[str, Tensor]:
    """What `.grad` of the leaves and parameters holds, by their names in jvp."""
    held = {name: value for name, value in scope.items() if isinstance(value, Tensor) and value.is_leaf}
    for name, value in scope.items():
        parts = {name: value} if isinstance(value, nn.Module) else {}
        if not parts and hasattr(value, "__dict__") and type(value).__module__ == "builtins":
            parts = {f"{name}.{key}": part for key, part in vars(value).items() if isinstance(part, nn.Module)}
        listed = value if isinstance(value, list) else []
        parts |= {f"{name}.{k}": part for k, part in enumerate(listed) if isinstance(part, nn.Module)}
        held.update({f"{root}.{key}": x for root, part in parts.items() for key, x in part.named_parameters()})
    parameters = {id(x) for name, x in held.items() if "." in name}  # which a loop leaves under a name of its own, too
    held = {name: x for name, x in held.items() if "." in name or id(x) not in parameters}
    return {name: x.grad for name, x in held.items() if x.grad is not None}


PROGRAMS = {**MODULES, **FUNCTIONS, **CONTEXTS}


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_gradients_are_pythons(text: str) -> None:
    expected = gradients(plainly(program(text)))
    found = jvpcli.inspect(program(text)).vjp
    unreached = {name for name, x in found.items() if name not in expected and not x.any()}
    assert {*expected} == {*found} - unreached
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_frozen_parameter_gets_no_gradient() -> None:
    with pytest.raises(JvpError, match=r"`net\.weight` is frozen"):
        jvpcli.inspect("net = nn.Linear(2, 1); net.weight.requires_grad = False; net(x)", {"x": [1.0, 2.0]}, wrt=["net.weight"])


def test_functions_of_a_module_and_its_parameters() -> None:
    lines = "x = torch.tensor([1., 2.])\nnet = nn.Linear(2, 2)\n"
    call = "def loss(p, t):\n    return f(p, t).sin().sum()\ntorch.func.grad(loss)(params, x)"
    scope = plainly(f"{HEAD}{lines}y = net(x).sin().sum()\ny.backward()\n")
    given = jvpcli.inspect(f"{HEAD}from functorch import make_functional\n{lines}f, params = make_functional(net)\n{call}")
    assert {*given.vjp} == {"net.weight", "net.bias"}
    for name, found in given.vjp.items():
        torch.testing.assert_close(found, gradients(scope)[name])


def test_a_value_in_memory_that_others_read_is_not_set_apart() -> None:
    lines = "shared = torch.ones(2)\nx = torch.autograd.Variable(shared, requires_grad=True)\nx.data[0] = 7\n"
    with pytest.raises(JvpError, match="in place where autograd does not see it"):
        jvpcli.inspect(f"{HEAD}{lines}(x * shared).sum().backward()")


def test_functional_call_of_an_object() -> None:
    text = program("""
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.l = nn.Linear(2, 2)
                self.w = nn.Parameter(torch.ones(2))
            def forward(self, x):
                return torch.tanh(self.l(x)) * self.w
        net = Net()
        x = torch.tensor([[1., 2.]])
        g = torch.autograd.grad(net(x).sum(), net.parameters(), create_graph=True)
        fast = {name: p - 0.1 * d for (name, p), d in zip(net.named_parameters(), g)}
        out = torch.func.functional_call(net, fast, (x,)).pow(2).sum()
        out.backward()
        """)
    expected = gradients(plainly(text))
    found = jvpcli.inspect(text).vjp
    assert {*expected} == {*found}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_backward_passes_and_a_wrong_one_is_found(name: str) -> None:
    text = program(FUNCTIONS[name])
    verdict = jvpcli.check(text).verdict
    assert verdict == ("wrong_backward" if name == "in a module" else "pass")  # which passes on what clamp cuts off
    if name != "in a module":
        other = text.replace("def backward(ctx, g", "def backward(ctx, *g_").replace("return g", "return 2 * g")
        other = text.replace("return grad_output * 2 * x", "return grad_output * 3 * x").replace("3 * x * x", "2 * x * x")
        other = other.replace("grad_output * result", "grad_output * result * 2").replace("g * b + h", "g * b - h")
        other = other.replace("*= ctx.slope", "*= -ctx.slope").replace("grad_output.mm(weight)", "grad_output.mm(-weight)")
        other = other.replace("times(g * b)", "times(g + b)")
        assert other != text
        assert jvpcli.check(other).verdict == "wrong_backward"


def test_a_backward_that_is_differentiable_once_has_no_derivative() -> None:
    asked = "g, = torch.autograd.grad(Scaled.apply(a, b).sum(), a, create_graph=True)\ng.sum().backward()"
    text = program(FUNCTIONS["once, with a static method and a value of the class"])
    text = text.replace("Scaled.apply(a, b).sum().backward()", asked)
    with pytest.raises(RuntimeError) as expected:
        plainly(text)
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(text)
    assert caught.value.torch_message == str(expected.value)


@pytest.mark.parametrize("command", ["inspect", "trace", "check"])
def test_second_derivatives_through_a_backward(command: str) -> None:
    """d²/dx² of exp(x²), by a backward that is differentiated: in closed form."""
    text = program(FUNCTIONS["a derivative of the backward"])
    if command == "check":
        assert jvpcli.check(text).verdict == "pass"
        return
    x = torch.tensor([0.1, 0.2], dtype=torch.float64)
    first, second = 2 * x * (x * x).exp(), (2 + 4 * x * x) * (x * x).exp()
    found = jvpcli.inspect(text) if command == "inspect" else jvpcli.trace(text)
    torch.testing.assert_close(found.vjp["x"].double(), 2 * first * second, rtol=1e-5, atol=1e-6)


NET = """
class Net(nn.Module):
    def __init__(self, n=2):
        super().__init__()
        self.l = nn.Linear(n, 2)
        {line}
    def forward(self, t):
        return self.l(t)
net = Net()
{after}
net(torch.ones(2)).sum().backward()
"""

REFUSED = [
    ("nn.init.zeros_(self.l)", "", "nn.init.zeros_(self.l)", "`net.l` is no parameter that can be changed here"),
    ("", "nn.init.zeros_(net.l.weight, 3)", "nn.init.zeros_(net.l.weight, 3)", "`nn.init.zeros_` refuses its arguments"),
    ("", "net.l.weight.data = torch.ones(2, 2).double()", None, "`net.l.weight` is a tensor of shape (2, 2), float32, and"),
    ("", "y = net(torch.ones(2))\nnet.l.bias.data.zero_()\nz = y\nz.sum().backward()", "net.l.bias.data.zero_()",
     "`net` is changed behind a use of it"),
    ("", "net.load_state_dict({})", "net.load_state_dict({})", "`net` and what it is given have parameters of other names"),
    ("", "net.load_state_dict(torch.load('w'))", None, "load_state_dict takes the state_dict() of a module"),
    ("", "net.apply(lambda m: m.weight.data.zero_())", None, "`this` is no function that can be carried out here"),
    ("", "net.l.register_full_backward_hook(lambda m, i, o: o)", None, "This hook reads `o`, the gradient of the output"),
    ("", "y = net(torch.ones(2))\nnet.register_forward_hook(lambda m, i, o: o * y)", None, "This registers a hook behind a"),
    ("", "h = net.l.register_forward_pre_hook(lambda m, i: i[0] * 2)\nh.remove()", "h.remove()", "This takes a hook of"),
    ("", "for m in net.children(): m.register_forward_hook(lambda m, i, o: o * 2)", None, "A hook of a module that does"),
    ("", "net.l.weight.register_hook(lambda g: g * 2)", None, "A hook of a module's parameter"),
    ("", "y = net(torch.ones(2))\nnet.l = nn.Linear(2, 1)\n(net(torch.ones(2)) * y).sum()", None, "`net` is changed behind"),
    ("", "class V(nn.Linear):\n    def __len__(self):\n        return 0\nV(2, 2)(x)", None, "A `class` runs only from a file"),
    ("", "nn.Linear(2, 2, dtype=torch.complex64)(torch.ones(2))", None, "A constructor takes plain numbers"),
    ("self.l = nn.Linear(2, 2)", "", "self.l = nn.Linear(2, 2)", "`l` is a module, and is set a second time here"),
    ("for k in range(int(torch.rand(1))): pass", "", "range(int(torch.rand(1)))", "What this goes through isn't known"),
    ("self.k = self.unknown", "", "self.unknown", "`self.unknown` has no value yet"),
    ("a = nn.Linear(2, 2); self.b = nn.Linear(2, 3); self.a = a", "", "nn.Linear(2, 3)",
     "Modules get their names in another order"),
    ("", "net2 = Net(3, 4)", "Net(3, 4)", "`__init__` of `Net` isn't called with what it takes"),
    ("self.m = nn.ModuleList(unknown)", "", "nn.ModuleList(unknown)", "What this list holds isn't known"),
    ("self.m = nn.Sequential(self.n, nn.Linear(2, 2)); self.n = 2", "", "self.n", "`self.n` has no value yet"),
    ("k = nn.Linear(2, 2); s = nn.Sequential(k, nn.Tanh()); self.k = k", "", None, "A module that is a part of another one"),
    ("", "import collections\nP = collections.namedtuple('P', 'a b')\np = P(1., 2.)\np.a = 3.", None, "`p` is a tuple"),
    ("", "import copy\nm = [copy.deepcopy(net)]", "copy.deepcopy(net)", "A copy of `net` can't be made"),
    ("", "d = torch.complex64\nnet = net.to(d)", "net.to(d)", "A module can't be given another dtype here"),
    ("", "net = lambda t: t", "net = lambda t: t", "`net` is an object, and is bound a second time"),
    ("self.a = [[0] * 4000] * 4000", "", "[[0] * 4000] * 4000", "A list of a class holds at most 5,000 items"),
    ("a = [0]\n        for k in range(40): a = a + a", "", "a + a", "A list of a class holds at most 5,000 items"),
    ("", "y = net.l2(torch.ones(2))", "net.l2", "There is no function `net.l2`."),
    ("", "y = net(torch.ones(2))\nnet.eval()\nz = y", "net.eval()", "`net` has one mode throughout a program here"),
]


@pytest.mark.parametrize(("line", "after", "place", "message"), REFUSED)
def test_what_is_not_read_is_named_at_its_place(line: str, after: str, place: str, message: str) -> None:
    text = HEAD + NET.format(line=line or "pass", after=after)
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(text)
    assert caught.value.message.startswith(message)
    assert caught.value.span is not None
    assert caught.value.source is not None
    assert place is None or caught.value.source[slice(*caught.value.span)] == place


WHOLE = [
    ("class A(nn.Module):\n    def __init__(self):\n        self.l = nn.Linear(2, 2)\nx = A()",
     "Modules and parameters can be set only"),
    ("class A:\n    def forward(self, x):\n        return x\na = A()\ny = a(x)", "An object of `A` is no value by itself"),
    ("class A:\n    def __setattr__(self, k, v):\n        pass\na = A()\ny = a.k", "A `class` runs only from a file of yours"),
    ("class A:\n    def __init__(self):\n        self.w = 1\n    @property\n    def w(self):\n        return 2\na = A()",
     "`w` is a method with a decorator"),
    *((f"class A(nn.Linear):\n    def {name}(self, *t):\n        return x\na = A(2, 2)\na.eval()\ny = a(x)",
       f"`{name}` is what torch") for name in ("eval", "train", "zero_grad", "_call_impl")),
    ("class A(nn.Linear):\n    def f(self, x):\n        return super(open, self).forward(x)\na = A(2, 2)\ny = a.f(x)",
     "This `super` names no class"),
    ("def make(l=[]):\n    l.append(nn.Linear(2, 2))\n    return nn.Sequential(*l)\na = make()\ny = a(x)",
     "`l` is one list for all"),
    ("l = [nn.Tanh()]\nfor k in range(40):\n    l.extend(l)\nnet = nn.Sequential(*l)\ny = net(x)",
     "A list of a class holds at most"),
    ("class A:\n" + "".join(f"    def m{k}(self, x):\n        {'x = x + 1; ' * 100}return x\n" for k in range(20))
     + "class B:\n    def __init__(self):\n        self.all = [A() for _ in range(400)]\nb = B()\ny = x",
     "The methods of all objects of the program have more than 100,000 parts"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WHOLE)
def test_what_a_class_may_not_do(text: str, message: str) -> None:
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(HEAD + text + "\ny = x * 2", {"x": [1.0, 2.0]})
    assert caught.value.message.startswith(message)
    assert caught.value.span is not None


def test_steps_of_a_method_have_their_own_lines() -> None:
    trace = jvpcli.trace(program(MODULES["a net"]))
    sources = [step.source for step in trace.report.steps]
    assert any("self.fc1(x)" in source for source in sources)
    assert any("self.fc2(x)" in source for source in sources)


def test_what_hangs_on_a_node_that_python_shares_is_not_copied():
    """A reader of tracebacks leaves a file's tree on `ast.Load()`, which is one object for all trees."""

    class Uncopied:
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

    shared = ast.parse("x", mode="eval").body.ctx
    shared.parent = Uncopied()
    try:
        node = ast.parse("f(x + 1)[0]", mode="eval").body
        assert ast.dump(copied(node)) == ast.dump(node)
        assert copied(node) is not node
    finally:
        del shared.parent
