"""Programs of classes, and of what changes parameters, as Python runs them between guards and without any."""

from __future__ import annotations

import textwrap

import pytest
import torch
from executed import by_python, fits

from jvpcli.answers import report_of
from jvpcli.errors import ForbiddenError, JvpError
from jvpcli.language.pasted import as_meant
from jvpcli.render.json import to_dict
from jvpcli.request import Request

HEAD = "import numpy as np\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"

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
        class Net(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.k = k
                self.a.register_forward_hook(lambda m, i, o: o * k)
            def forward(self, x):
                return torch.tanh(self.a(x))
        net, other = Net(2.), Net(3.)
        handle = net.register_forward_hook(scaled)
        net.a.register_forward_pre_hook(lambda m, i: i[0] + 1)
        chain = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        chain[0].register_forward_hook(keep("fc"))
        chain.register_forward_hook(lambda m, i, o: feats.append(o))
        x = torch.tensor([[1., 2.]], requires_grad=True)
        y = net(x) * other(x) + chain(x)
        handle.remove()
        (y.sum() + acts["fc"].pow(2).sum() * feats[0].sum()).backward()
        """,
    "operators, items, hasattr, other modules and dtypes, updates by gradients": """
        from collections import namedtuple
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
        Weights = namedtuple("Weights", ["first", "second"])
        pair = Pair(torch.tensor(2., dtype=dtype), power=2)
        both = Weights(pair.weight * 2, 3.)
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
        y = other(net(x))
        del p, layer
        y.pow(2).sum().backward()
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
    "called with other values of its parameters": """
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


CHANGES = {
    "several draws in one change, behind another": """
        r = torch.rand(2)
        net = nn.Linear(2, 2)
        for p in net.parameters():
            p.data = torch.rand(p.shape) * r.sum()
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "apply": """
        def init(m):
            m.weight.data.normal_(0, 1)
            m.bias.data = torch.rand(2)
            m.bias.data += torch.rand(2)
        net = nn.Linear(2, 2)
        net.apply(init)
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "a seed in between": """
        r = torch.rand(2)
        torch.manual_seed(5)
        net = nn.Linear(2, 2)
        net.weight.data = torch.rand(2, 2) * r
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "numpy's": """
        np.random.seed(0)
        r = torch.from_numpy(np.random.randn(2)).float()
        net = nn.Linear(2, 2)
        net.weight.data = torch.from_numpy(np.random.randn(2, 2)).float()
        net.bias.data = torch.from_numpy(np.random.randn(2)).float() * r
        q = torch.from_numpy(np.random.randn(2)).float()
        net(r * q).pow(2).sum().backward()
        """,
    "a parameter that draws nothing": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.w = nn.Parameter(torch.ones(2))
                for p in self.parameters():
                    nn.init.uniform_(p, -1, 1)
            def forward(self, x):
                return self.a(x) + self.w
        net = Net()
        net(torch.rand(3, 2)).pow(2).sum().backward()
        """,
    "items of a Sequential": """
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        nn.init.normal_(net[0].weight, std=1 / np.sqrt(2))
        net[-1].bias.data[0] = 4.
        net(torch.ones(2)).pow(2).sum().backward()
        """,
    "shared memory": """
        a = nn.Linear(2, 2)
        net = nn.Linear(2, 2)
        net.weight.data = a.weight.data
        with torch.no_grad():
            a.weight.mul_(3)
        net(torch.ones(2)).pow(2).sum().backward()
        """,
    "a part that has a name, and another default": """
        x = torch.tensor([1., 2.], requires_grad=True)
        a, act = nn.Linear(2, 1), nn.Tanh()
        lin = nn.Linear(2, 3)
        nn.init.uniform_(lin.weight)
        net = nn.Sequential(lin, act)
        (net(x).sum() * lin.bias.sum() * x[torch.ByteTensor([1, 0]).bool()]).sum().backward()
        """,
    "a tensor under another name": """
        net = nn.Linear(2, 1)
        w = torch.zeros(1, 2)
        v = w[0]
        v += 5
        net.weight.data = w * 1
        net(torch.ones(2)).pow(2).sum().backward()
        """,
}


def program(text: str) -> str:
    return HEAD + textwrap.dedent(text).strip() + "\n"


def answered(text: str, command: str = "inspect") -> dict:
    """What the command line answers to a program."""
    return to_dict(report_of(as_meant(Request(text, command=command), may_run=True)))


PROGRAMS = {**MODULES, **FUNCTIONS, **CONTEXTS, **CHANGES}


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_pythons(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = program(PROGRAMS[name])
    document = answered(text)
    said = {each["code"] for each in document["warnings"]}
    assert ("as_python" in said) or "class " not in text
    assert "other_gradient" not in said
    ours = [*document["vjp"].values()]
    for gradient in by_python(text, monkeypatch):
        ours.remove(next(each for each in ours if fits(each, gradient)))
    assert not any(torch.tensor(each["value"]).any() for each in ours)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_backward_passes_and_a_wrong_one_is_found(name: str) -> None:
    text = program(FUNCTIONS[name])
    verdict = answered(text, "check")["verdict"]
    assert verdict == ("wrong_backward" if name == "in a module" else "pass")  # which passes on what clamp cuts off
    if name != "in a module":
        other = text.replace("return grad_output * 2 * x", "return grad_output * 3 * x").replace("3 * x * x", "2 * x * x")
        other = other.replace("grad_output * result", "grad_output * result * 2").replace("g * b + h", "g * b - h")
        other = other.replace("*= ctx.slope", "*= -ctx.slope").replace("grad_output.mm(weight)", "grad_output.mm(-weight)")
        other = other.replace("times(g * b)", "times(g + b)")
        assert other != text
        assert answered(other, "check")["verdict"] == "wrong_backward"


def test_gradcheck_asks_for_the_derivative_that_it_compares() -> None:
    text = program(FUNCTIONS["a mask, and a number of its own"]).rpartition("leaky(x, 0.1)")[0]
    text += "assert torch.autograd.gradcheck(Leaky.apply, (x.double().detach().requires_grad_(), 0.1))\n"
    assert answered(text, "check")["verdict"] == "pass"
    assert answered(text.replace("*= ctx.slope", "*= -ctx.slope"), "check")["verdict"] == "wrong_backward"
    (found,) = answered(text)["vjp"].values()
    assert fits(found, torch.tensor([[1, 0.1], [1, 0.1]]))


def test_a_backward_that_is_differentiable_once_has_no_derivative() -> None:
    asked = "g, = torch.autograd.grad(Scaled.apply(a, b).sum(), a, create_graph=True)\ng.sum().backward()"
    text = program(FUNCTIONS["once, with a static method and a value of the class"])
    text = text.replace("Scaled.apply(a, b).sum().backward()", asked)
    with pytest.raises(RuntimeError) as expected:
        exec(text, {})
    with pytest.raises(JvpError) as caught:
        answered(text)
    assert caught.value.torch_message == str(expected.value)


@pytest.mark.parametrize("command", ["inspect", "trace", "check"])
def test_second_derivatives_through_a_backward(command: str) -> None:
    """d²/dx² of exp(x²), by a backward that is differentiated: in closed form."""
    found = answered(program(FUNCTIONS["a derivative of the backward"]), command)
    if command == "check":
        assert found["verdict"] == "pass"
        return
    x = torch.tensor([0.1, 0.2], dtype=torch.float64)
    first, second = 2 * x * (x * x).exp(), (2 + 4 * x * x) * (x * x).exp()
    assert fits(found["vjp"]["x"], 2 * first * second)


def test_steps_of_a_method_have_their_own_lines() -> None:
    sources = [step["source"] for step in answered(program(MODULES["a net"]), "trace")["steps"]]
    assert any("self.fc1(x)" in source for source in sources)
    assert any("self.fc2(x)" in source for source in sources)


@pytest.mark.parametrize("unused", ["", "def unused():\n    pass\n"])
def test_the_language_does_not_read_a_class(unused: str) -> None:
    """Where a program may not be run, the class is named, and what works; one in a function is a class, too."""
    for text, line in ((f"{unused}class A(dict):\n    pass\nx * 2", 1), (f"{unused}def f():\n    class A: pass\nx * 2", 2)):
        with pytest.raises(ForbiddenError):
            report_of(as_meant(Request(f"{text}\nx.sum().backward()", {"x": "1,2"}, call=1)))
        with pytest.raises(ForbiddenError) as caught:
            report_of(as_meant(Request(text, {"x": "1,2"})))
        line += unused.count("\n")
        assert caught.value.message == f"Only Python can run the class `A` on line {line}."
        assert caught.value.source is not None
        assert caught.value.span is not None
        assert caught.value.source[slice(*caught.value.span)].startswith("class A")
        assert caught.value.hints[0].endswith(": jvp inspect EXPR --import FILE.py")
