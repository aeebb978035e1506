"""Programs that Python runs between guards, against Python running the same text without any."""

from __future__ import annotations

import argparse
import math

import pytest
import torch
from executed import as_run, by_python, fits

import jvpcli
from jvpcli.answers import report_of
from jvpcli.answers.executed import WITHOUT_GUARDS
from jvpcli.closed.arguments import Parser
from jvpcli.closed.derived import Watch
from jvpcli.closed.execution import Settings, asks_for_none, compiled, run_through
from jvpcli.closed.words import Ended
from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError, ShapeMismatchError, UnknownNameError
from jvpcli.render.json import to_dict
from jvpcli.request import Request

PROGRAMS = {
    "a constant that is changed through a view, and gone when it is asked for": """
import numpy as np
import torch
class Table:
    pass
t = torch.tensor([0.5, -1.0, 0.25], requires_grad=True)
a = torch.full((1, 3), -2.0)
a[0][2] = 0.0
a[0][:1] = np.finfo(np.float32).eps.item() + 1.0
for f in torch.tensor([[1.0, 2.0, 0.5], [0.3, 1.0, 2.0]]):
    a = (a + t * f).tanh()
a.sum().backward()
""",
    "a class, and a loop that trains it": """
import torch, torch.nn as nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)
net = Net([2, 4, 1])
opt = torch.optim.Adam(net.parameters(), lr=0.05)
x = torch.randn(8, 2)
for step in range(20):
    opt.zero_grad()
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
    print("step {:3d} loss {:.4f}".format(step, loss.item()), f"{loss.item():8.3e}", "%d" % step)
""",
    "a dataclass of settings": """
from dataclasses import dataclass, field
import torch
@dataclass
class Config:
    rate: float = 0.1
    steps: int = 5
    start: list = field(default_factory=lambda: [1.0, 2.0])
def train(config):
    w = torch.tensor(config.start, requires_grad=True)
    for _ in range(config.steps):
        loss = (w ** 2).sum()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= config.rate * w.grad
    return w
train(Config(steps=4))
""",
    "batches that are shuffled": """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(1)
x = torch.randn(12, 3)
data = TensorDataset(x, x.sum(1, keepdim=True))
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(3):
    for a, b in DataLoader(data, batch_size=5, shuffle=True):
        opt.zero_grad()
        torch.nn.functional.mse_loss(net(a), b).backward()
        opt.step()
""",
    "products by torch.mm, with a class": """
import torch
class Products:
    def __call__(self, a, b):
        return torch.mm(torch.mm(a, b), a)
torch.manual_seed(0)
a, b = torch.randn(2, 2, requires_grad=True), torch.randn(2, 2, requires_grad=True)
Products()(a, b).sin().sum().backward()
""",
    "numbers that numpy draws": """
import numpy as np, torch
class Data:
    np.random.seed(3)
    x = np.random.sample(4) + np.random.exponential(size=4) + np.random.poisson(2., 4) + np.random.ranf()
np.random.shuffle(Data.x)
w = torch.ones(4, dtype=torch.float64, requires_grad=True)
(w.tanh() * torch.from_numpy(Data.x)).sum().backward()
""",
    "a transformer of layers, on an array that is resized": """
import itertools, numpy as np, torch, torch.nn as nn
import torch.autograd.anomaly_mode as anomaly_mode
anomaly_mode.set_detect_anomaly(False)
torch.set_default_device("cpu")
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)
        self.whole = nn.Transformer(4, 2, 1, 1, 8, batch_first=True)
    def forward(self, x):
        return self.whole(self.encoder(x), x)
torch.manual_seed(0)
a = np.linspace(0, 1, 24)
a.resize((2, 3, 4))
pairs = len(list(itertools.combinations_with_replacement(range(3), 2)))
net = Net()
vars()["net"](torch.from_numpy(a).float()).pow(pairs).mean().backward()
""",
    "gradients that are asked of tensors after their first use": """
import torch
class Points:
    given, made = torch.tensor([1., 2.]), torch.tensor([3., 4.]) + 1
    before = given * 2, made.exp()
for x in (Points.given, Points.made):
    x.requires_grad_()
(Points.given * Points.made * Points.before[0] * Points.before[1].sin()).sum().backward()
""",
    "pylab's names": """
from pylab import *
import torch
class Line:
    x = linspace(0, pi, 4)
figure(figsize=(3, 2))
plot(Line.x, sin(Line.x) + random())
w = torch.ones(4, dtype=torch.float64, requires_grad=True)
(w ** 2 * torch.from_numpy(cos(Line.x))).sum().backward()
""",
    "frames of an animation": """
import torch
import matplotlib.pyplot as plt
class Shown:
    frames = []
fig, ax = plt.subplots()
w = torch.ones(2, requires_grad=True)
for k in range(3):
    (w ** 2).sum().backward()
    Shown.frames.append(ax.plot([k], [k]) + [ax.text(0, 0, f"{k}", transform=ax.transAxes)])
""",
    "LBFGS with a closure": """
import torch
x = torch.tensor([-1.0, 2.0], requires_grad=True)
opt = torch.optim.LBFGS([x], lr=0.5, max_iter=4)
def closure():
    opt.zero_grad()
    loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    loss.backward()
    return loss
for _ in range(3):
    opt.step(closure)
""",
    "a loop that is left early": """
import torch
w = torch.tensor([3.0], requires_grad=True)
best, patience, losses = float("inf"), 0, []
while True:
    loss = (w - 1).abs().sum() + 0.1 * torch.cos(5 * w).sum()
    loss.backward()
    w.data -= 0.2 * w.grad
    w.grad.zero_()
    losses.append(loss.item())
    if losses[-1] < best - 1e-4:
        best, patience = losses[-1], 0
    else:
        patience += 1
    if patience >= 3 or len(losses) > 50:
        break
""",
    "a copy as the target": """
import copy, torch, torch.nn as nn
torch.manual_seed(2)
online = nn.Linear(3, 2)
target = copy.deepcopy(online)
for p in target.parameters():
    p.requires_grad_(False)
for k in range(3):
    x = torch.randn(4, 3)
    loss = ((online(x) - target(x)) ** 2).mean() + online(x).mean()
    online.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p, q in zip(online.parameters(), target.parameters()):
            p -= 0.1 * p.grad
            q.mul_(0.9).add_(0.1 * p)
""",
    "modules made in functions": """
import torch, torch.nn as nn
torch.manual_seed(0)
def block(a, b, act=nn.Tanh):
    return nn.Sequential(nn.Linear(a, b), act())
def make(depth):
    return nn.Sequential(*[block(3, 3) for _ in range(depth)], nn.Linear(3, 1))
nets = {name: make(k + 1) for k, name in enumerate(["one", "two"])}
for name, net in nets.items():
    net(torch.ones(2, 3)).sum().backward()
""",
    "what is inherited": """
import torch, torch.nn as nn
torch.manual_seed(0)
class Base(nn.Module):
    scale = 2.0
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, n)
    def body(self, x):
        raise NotImplementedError
    def forward(self, x):
        return self.body(self.fc(x)) * self.scale
class Wave(Base):
    def __init__(self, n, **options):
        super().__init__(n)
        self.shift = nn.Parameter(torch.full((n,), options.get("shift", 0.0)))
    def body(self, x):
        return torch.sin(x + self.shift)
net = Wave(3, shift=0.5)
getattr(net(torch.ones(2, 3)), "sum")().backward()
""",
    "a Function with its own backward": """
import torch
class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * (x.abs() <= ctx.limit).to(g.dtype) * 3, None
apply = Clipped.apply
x = torch.tensor([-2.0, 0.5, 1.0], requires_grad=True)
for limit in (3.0, 1.0):
    y = apply(x, limit)
    x.grad = None
    (y ** 2).sum().backward()
""",
    "a schedule and groups": """
import torch
torch.manual_seed(0)
a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
opt = torch.optim.SGD([{"params": a.parameters()}, {"params": b.parameters(), "lr": 0.5}], lr=0.1)
schedule = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
for step in range(6):
    if step == 3:
        for group in opt.param_groups:
            group["lr"] *= 0.1
    opt.zero_grad()
    loss = b(torch.tanh(a(torch.ones(3, 2)))).pow(2).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], 1.0)
    opt.step()
    schedule.step()
""",
    "functional_call": """
import torch
from torch.func import functional_call
torch.manual_seed(0)
net = torch.nn.Linear(2, 1)
fast = {name: p.clone() for name, p in net.named_parameters()}
for _ in range(2):
    loss = functional_call(net, fast, (torch.ones(3, 2),)).pow(2).sum()
    gs = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
    fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), gs)}
functional_call(net, fast, (torch.ones(3, 2),)).sum().backward()
""",
    "first-order meta-learning": """
import torch
torch.manual_seed(0)
ws = [torch.randn(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)]
def net(x, ws):
    return torch.tanh(x @ ws[0] + ws[1])
total = 0
for task in range(2):
    x = torch.randn(3, 2)
    fast = [w.clone() for w in ws]
    g = torch.autograd.grad(net(x, fast).pow(2).sum(), fast)
    fast = [w - 0.1 * d for w, d in zip(fast, g)]
    total += net(x, fast).sum()
torch.autograd.grad(total, ws)
""",
    "a Hessian row by row": """
import torch
x = torch.tensor([1.5, 2.5], requires_grad=True)
y = x.pow(2).prod() + torch.exp(x[0])
g, = torch.autograd.grad(y, x, create_graph=True)
h = y.new_zeros(2, 2)
for k in range(2):
    h[k, :].add_(torch.autograd.grad(g[k], x, create_graph=True)[0])
torch.autograd.grad(h.sum(), x)
""",
    "leaves inside of functions": """
import torch
def solve(a, guess):
    u = torch.tensor(guess, requires_grad=True)
    v = torch.ones(2, requires_grad=True)
    for _ in range(3):
        r = ((u * a + v) ** 2).sum()
        gu, gv = torch.autograd.grad(r, (u, v))
        u = (u - 0.1 * gu).detach().requires_grad_()
        v = (v - 0.1 * gv).detach().requires_grad_()
    return u, v
[solve(torch.tensor(k), [1.0, -1.0]) for k in (1.0, 2.0)]
""",
    "a call in a try": """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = (x ** 3).sum()
y.backward()
try:
    y.backward()
except RuntimeError as error:
    message = str(error)
    x.grad = None
    (x ** 2).sum().backward()
finally:
    done = True
""",
    "another default dtype": """
import torch
torch.set_default_dtype(torch.float64)
w = torch.tensor([0.1, 0.2], requires_grad=True)
m = torch.eye(2) * 1e-9 + 1
assert w.dtype is torch.float64, "the default"
((m @ w) ** 2).sum().backward()
""",
    "hooks that look": """
import torch
torch.manual_seed(0)
seen = {}
net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
def keep(name):
    def hook(module, given, out):
        seen[name] = out.detach().mean().item()
    return hook
for name, part in net.named_modules():
    part.register_forward_hook(keep(name))
net(torch.ones(2, 2)).sum().backward()
""",
    "numpy, closures and a generator": """
import numpy as np, torch
np.random.seed(3)
def batches(n):
    for k in range(n):
        yield torch.from_numpy(np.random.randn(2)).float()
def counter():
    count = 0
    def add():
        nonlocal count
        count += 1
        return count
    return add
add = counter()
w = torch.ones(2, requires_grad=True)
for b in batches(4):
    w.grad = None
    (torch.sin(w * b) * add()).sum().backward()
""",
    "operators of one's own": """
import torch
class Value:
    def __init__(self, t):
        self.t = t
    def __add__(self, other):
        return Value(self.t + other.t)
    def __mul__(self, other):
        return Value(self.t * other.t)
    def __repr__(self):
        return f"Value({self.t})"
a, b = (torch.tensor(k, requires_grad=True) for k in (2.0, 3.0))
out = Value(a) * Value(b) + Value(a)
print(out)
out.t.backward()
""",
    "several outputs and cotangents": """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
w = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
outs = [w @ x, x * x]
weights = [torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])]
for scale in (1, 2):
    got = torch.autograd.grad(outs, [x, w], [scale * v for v in weights], retain_graph=True)
""",
    "complex numbers": """
import torch
z = torch.tensor([1 + 2j, -1j], requires_grad=True)
def energy(z):
    return (z * z.conj()).real.sum()
for _ in range(2):
    z.grad = None
    energy(z * z).backward()
""",
    "in place, views and masks": """
import torch
x = torch.arange(6.0).reshape(2, 3).requires_grad_()
buf = torch.zeros(3, 2)
for i in range(3):
    for j in range(2):
        buf[i, j] = x[j, i] ** 2 if (i + j) % 2 else torch.sin(x[j, i])
buf[buf > 3] *= 0.5
buf.sum().backward()
""",
    "a graph penalty": """
import torch
torch.manual_seed(0)
critic = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
for _ in range(2):
    x = torch.randn(3, 2, requires_grad=True)
    out = critic(x)
    g = torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True, retain_graph=True)[0]
    loss = out.mean() + 10 * ((g.norm(2, dim=1) - 1) ** 2).mean()
    critic.zero_grad()
    loss.backward()
""",
    "gradients that backward leaves with a graph": """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
w = torch.tensor(0.5, requires_grad=True)
for power in (2, 3):
    (w * x ** power).sum().backward(create_graph=True)
both = x.grad
x.grad = w.grad = None
(both * both).sum().backward()
""",
    "a transform inside of a loss": """
import torch
from torch.func import jacfwd, vmap
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
scale = torch.tensor(2.0, requires_grad=True)
def u(x):
    return scale * net(x).squeeze(-1)
for step in range(2):
    points = torch.rand(4, 2) * 2
    slopes = vmap(jacfwd(u))(points)
    curves = vmap(jacfwd(jacfwd(u)))(points).diagonal(dim1=-2, dim2=-1).sum(-1)
    net.zero_grad()
    scale.grad = None
    ((curves + slopes[:, 0]) ** 2).mean().backward()
""",
    "a graph that is gone back through in a transform": """
import torch
x = torch.tensor([[0.1, 0.2], [0.3, -0.4]], requires_grad=True)
y = torch.tanh(x @ torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
def row(v):
    return torch.autograd.grad(y, x, v.repeat(2, 1), create_graph=True)[0]
(torch.vmap(row)(torch.eye(2)) ** 2).sum().backward()
""",
    "a net that is copied": """
import copy, torch
torch.manual_seed(0)
class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(2, 2)
    def forward(self, x):
        return torch.tanh(self.lin(x))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
net = Net()
late = copy.deepcopy(net)
for p, q in zip(net.parameters(), late.parameters()):
    q.data.mul_(0.5)
((net(torch.ones(1, 2)) - late(torch.ones(1, 2)).detach()) ** 2).sum().backward()
""",
    "checkpoints, a cast and a scaler": """
import torch
from torch.utils.checkpoint import checkpoint
torch.manual_seed(0)
net = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
for step in range(3):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.ones(2, 4)
        for layer in net:
            x = torch.tanh(checkpoint(layer, x, use_reentrant=False))
        loss = x.float().pow(2).mean()
    opt.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(opt)
    scaler.update()
""",
    "a command line, files, texts and a clock": """
import argparse, itertools, os.path, re, string, sys, time, torch
from collections import defaultdict
from typing import Dict, Generic, List, TypeVar
T = TypeVar("T")
class Log(Generic[T]):
    def __init__(self):
        self.values: Dict[str, List[float]] = defaultdict(list)
parser = argparse.ArgumentParser(description="fits")
parser.add_argument("--learning-rate", "-r", type=float, default="0.25")
parser.add_argument("--steps", type=int, default=3, help="turns")
parser.add_argument("--fast", action="store_true")
args, _ = parser.parse_known_args([])
assert sorted(vars(args)) == ["fast", "learning_rate", "steps"] and not args.fast
words = re.sub(r"[,.]", "", "to be, or not to be.").split()
w = torch.tensor([float(string.ascii_lowercase.index(word[0])) for word in words], requires_grad=True)
log, start, path = Log(), time.time(), os.path.join("runs", "one")
for turn in itertools.count(1):
    loss = (w ** 2).mean()
    w.grad = None
    loss.backward()
    with torch.no_grad():
        w -= args.learning_rate * w.grad
    log.values["loss"].append(loss.item())
    print("%d %.2fs" % (turn, time.time() - start), format(loss.item(), ".3f"), f"{len(log.values):2d}")
    if turn == args.steps:
        if not os.path.exists(path):
            sys.exit()
loss.backward()
""",
    "a leaf that is found in the graph": """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = (x * 3).exp()
node = y.grad_fn.next_functions[0][0]
leaf = node.next_functions[0][0].variable
(y * leaf.detach()).sum().backward()
""",
    "hooks of what a loop makes, of a leaf, and one that is taken away": """
import torch
w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
handles = []
for turn in range(3):
    w.grad = None
    w.register_hook(lambda g: g * 3)
    h = w * 2
    late = h.sin()
    handles.append(h.register_hook(lambda g: g * 0.5))
    h.register_hook(lambda g: g + 1)
    h.register_hook(lambda g: print(g))
    if turn == 2:
        handles[-1].remove()
    (h ** 2 * late).sum().backward()
""",
    "hooks of modules, of which some look": """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
seen = []
for part in net:
    part.register_full_backward_hook(lambda module, given, arrived: tuple(None if g is None else 2 * g for g in given))
    part.register_full_backward_hook(lambda module, given, arrived: seen.append(arrived))
x = torch.ones(4, 2, requires_grad=True)
for turn in range(2):
    net.zero_grad()
    x.grad = None
    net(x).pow(2).sum().backward()
""",
    "a hook of what is differentiated by": """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
hs = [x]
for k in range(3):
    hs.append(hs[-1] * (k + 1))
    hs[-1].register_hook(lambda g, k=k: g + k)
torch.autograd.grad(hs[-1].sum(), hs[1])
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_last_derivative_is_that_of_python(name, monkeypatch):
    state = torch.default_generator.get_state()
    report = as_run(PROGRAMS[name])
    assert torch.equal(torch.default_generator.get_state(), state)
    assert torch.get_default_dtype() is torch.float32
    assert [notice.code for notice in report.warnings if notice.code in ("as_python", "other_gradient")] == [
        "as_python"
    ]
    ours = [*to_dict(report)["vjp"].values()]
    theirs = by_python(PROGRAMS[name], monkeypatch)
    assert len(ours) == len(theirs)
    for g in theirs:
        ours.remove(next(each for each in ours if fits(each, g)))


def test_a_second_result_is_not_differentiated():
    """d/dt Σ k t² = 2 k t, whatever `has_aux` gives beside it, of one row or of each."""
    lines = ["import torch", "k, x = 2., torch.tensor([[1., 2.]])", "f = lambda t: ((k * t ** 2).sum(), t * 5)"]
    for asked in ("torch.func.grad(f, has_aux=True)(x)", "torch.vmap(torch.func.grad(f, has_aux=True))(x)"):
        found = to_dict(as_run("\n".join([*lines, asked])))
        assert found["outputs"].keys() == {"y"}
        assert found["vjp"]["t"]["value"] == [[4.0, 8.0]]


def test_rows_of_vmap_ask_for_their_products_together():
    """Rows of the identity, along whatever axis, pull the rows of the Jacobian back: d x³ / dx is 3 x² on the diagonal."""
    start = "import torch\nx = torch.tensor([1., 2.], requires_grad=True)\ny = x ** 3\n"
    row = "def row(v):\n    return torch.autograd.grad(y, x, v)\n"
    inside = "torch.vmap(lambda v: torch.autograd.grad(x ** 3, x, v)[0])(torch.eye(2))"
    for asked in (inside, "torch.vmap(row)(torch.eye(2))", "torch.vmap(row, in_dims=1)(torch.tensor([[1., 0.], [0., 1.]]))"):
        found = to_dict(as_run(f"{start}{row}{asked}\n"))
        assert found["vjp"]["x"]["value"] == [[3.0, 0.0], [0.0, 12.0]]


def test_directions_may_be_dictionaries():
    """d Σ a² b / d(a, b) is (2 a b, a²), and its Jacobian [[2 b, 2 a], [2 a, 0]]."""
    start = "import torch\none = torch.ones(())\np, u = {'a': 3 * one, 'b': 5 * one}, {'a': one, 'b': 2 * one}\n"
    start += "f = torch.func.grad(lambda p: p['a'] ** 2 * p['b'])\n"
    pulled = to_dict(as_run(f"{start}torch.func.vjp(f, p)[1](u)\n"))["vjp"]
    assert [found["value"] for found in pulled.values()] == [10 + 12, 6]
    pushed = to_dict(as_run(f"{start}torch.func.jvp(f, (p,), (u,))\n"))["jvp"]
    assert [found["value"] for found in pushed.values()] == [10 + 12, 6]


def test_what_pytorch_raises_in_a_derivative_of_a_function_is_told():
    """torch.func changes no tensor from outside of the function, and autograd.functional takes no rows of vmap: that of a row is
    a part of what vmap runs."""
    count = "import torch\nn = torch.zeros(2)\ndef f(t):\n    n.add_(t)\n    return t.sum()\ntorch.func.grad(f)(torch.ones(2))\n"
    rows = "import torch\nj = torch.autograd.functional.jacobian\ntorch.vmap(lambda t: j(torch.sin, t))(torch.ones(2, 3))\n"
    with pytest.raises(EvaluationError, match="PyTorch raises in the call on line") as raised:
        as_run(count)
    assert "mutate a captured Tensor" in raised.value.torch_message
    with pytest.raises(EvaluationError, match=r"the program ends on line 3 with .* inside of a function being transformed"):
        as_run(rows)


def test_what_pytorch_raises_in_the_call_is_told():
    text = "import torch\nx = torch.ones(2, requires_grad=True)\ny = x * 2\ny.backward(torch.ones(3))\n"
    with pytest.raises(Exception, match="shape") as raised:
        as_run(text)
    assert "Mismatch in shape" in (raised.value.torch_message or "")


def test_no_numbers_are_shown_that_python_does_not_give():
    """x is moved between its two uses, out of autograd's sight: the steps, run again, would give [5, 7]; PyTorch gives [4, 6]."""
    text = (
        "import torch\nx = torch.tensor([1., 2.], requires_grad=True)\nz = x.clone() + 1\n"
        "with torch.no_grad():\n    x += 1\n(x * z).sum().backward()\n"
    )
    with pytest.raises(EvaluationError, match="call on line 6 can't be taken apart") as raised:
        as_run(text)
    assert "gave x[0] the gradient 4, and these steps give 5" in (raised.value.explanation or "")


SHOWN = """
import logging, torch
import matplotlib.pyplot as plt
import tqdm
from tqdm import tqdm as bar, trange
log = logging.getLogger(__name__)
fig, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
_, axes = plt.subplots(2, 3)
line, = left.plot([1, 2])
w = torch.tensor([1.0, 2.0], requires_grad=True)
turns = bar(range(3), desc="turns")
for k in turns:
    loss = (w ** 2).sum()
    w.grad = None
    loss.backward()
    w.data -= 0.1 * w.grad
    turns.set_postfix(loss=f"{loss.item():.3f}")
    log.info("%d %.3f", k, loss.item())
for k in trange(2):
    w.data *= 1.5
for k in tqdm.tqdm([1, 2, 3]):
    w.data += 1
for k, axis in enumerate(axes.flat):
    w.data -= 0.5
    axis.set_title(f"{k}")
for row in axes[:, 1:]:
    w.data *= len(row)
w.grad = None
(w ** 3).sum().backward()
plt.show()
"""
"""w goes to .8³ of itself and 1.5² of that, +3, −6 · ½, and twice · 2: 4.608 w."""


def test_what_only_shows_something_changes_no_numbers():
    found = to_dict(as_run(SHOWN))["vjp"]["w"]["value"]
    assert found == pytest.approx([3 * (4.608 * start) ** 2 for start in (1, 2)])


@pytest.mark.parametrize(
    "line", ["for batch in wandb.batches: pass", "if wandb.rate > 1: pass", "k = float(wandb.rate)", "k = wandb.rate * w"]
)
def test_no_number_hangs_on_what_is_only_shown(line):
    """What Python would go on to ask for isn't known, so that nothing is answered."""
    text = f"import torch, wandb\nw = torch.ones(2, requires_grad=True)\nw.sum().backward()\n{line}\n(w ** 2).sum().backward()\n"
    with pytest.raises(ForbiddenError, match="isn't known") as error:
        as_run(text)
    assert (error.value.source, error.value.hints) == (line, WITHOUT_GUARDS)


def test_a_function_with_a_backward_inside_of_a_transform():
    """dy/dx of x² is told to be 3 x."""
    text = (
        "import torch\nclass Own(torch.autograd.Function):\n    generate_vmap_rule = True\n    @staticmethod\n"
        "    def forward(x):\n        return x ** 2\n    @staticmethod\n    def setup_context(ctx, given, out):\n"
        "        ctx.save_for_backward(*given)\n    @staticmethod\n    def backward(ctx, g):\n"
        "        return 3 * ctx.saved_tensors[0] * g\ntorch.func.jacrev(Own.apply)(torch.tensor([1., 2.]))\n"
    )
    assert to_dict(as_run(text))["vjp"]["x0"]["value"] == [3.0, 6.0]


def test_a_tangent_that_is_read_is_a_derivative():
    """d/dx (x² y) · v = 2 x y v, at the last of two levels."""
    text = (
        "import torch\nimport torch.autograd.forward_ad as fwAD\nx, y = torch.tensor([1., 2.]), torch.tensor([3., 4.])\n"
        "for k in (1., 2.):\n    with fwAD.dual_level():\n        dual = fwAD.make_dual(x, torch.tensor([k, 1.]))\n"
        "        assert fwAD.unpack_dual(dual).tangent is not None\n        out = fwAD.unpack_dual(dual ** 2 * y)\n"
        "        print(out.primal, out.tangent)\n"
    )
    assert to_dict(as_run(text))["jvp"]["out"]["value"] == [12.0, 16.0]


def test_gradcheck_asks_for_the_derivative_that_it_checks():
    text = (
        "import torch\nfrom torch.autograd import gradcheck\nx = torch.tensor([1., 2.], dtype=torch.double, requires_grad=True)\n"
        "assert gradcheck(lambda x, k: k * x ** 2, (x, 3.0))\n"
    )
    assert to_dict(as_run(text))["vjp"]["x"]["value"] == [6.0, 12.0]


def test_gradgradcheck_asks_for_the_derivative_of_the_gradient():
    """The gradient of the sum of k x³ is 3 k x², its Jacobian diag(6 k x); by what requires a gradient alone."""
    text = (
        "import torch\nfrom torch.autograd import gradgradcheck\n"
        "x = torch.tensor([1., 2.], dtype=torch.double, requires_grad=True)\nk = torch.tensor([2., 1.], dtype=torch.double)\n"
        "class Cube:\n    def __call__(self, x, k):\n        return k * x ** 3\nassert gradgradcheck(Cube(), (x, k))\n"
    )
    found = as_run(text)
    assert to_dict(found)["jacobian"]["y"]["x"]["value"] == [[12.0, 0.0], [0.0, 12.0]]
    assert [*found.vjp] == ["x"]


def test_a_second_derivative_that_loses_what_forward_keeps_is_wrong_by_no_hook():
    """∂(6·g)/∂x is 0; the backward multiplies by a constant copy of 2x and divides by x."""
    text = (
        "import torch\nfrom torch.autograd import Function, gradgradcheck\nclass Six(Function):\n"
        "    @staticmethod\n    def forward(ctx, x):\n        ctx.twice, ctx.x = 2 * x, x\n        return 6 * x\n"
        "    @staticmethod\n    def backward(ctx, g):\n        return 3 * g * ctx.twice / ctx.x\n"
        "gradgradcheck(Six.apply, torch.tensor([1., 2.], dtype=torch.double, requires_grad=True))\n"
    )
    report = as_run(text, "check")
    assert (report.verdict, report.worst.numeric) == ("wrong_backward", 0)
    assert report.explanation == "What the code computes has another derivative than autograd finds in it."


def test_steps_are_noted_down_as_late_as_may_do():
    """From the last call before on that gave its graph up, or kept one without making another, or from the beginning on."""
    start = "import torch\nx = torch.ones(2, requires_grad=True)\ny = (x ** 3).sum()\n"
    kept, made = "y.backward(retain_graph=True)\n", "g, = torch.autograd.grad(y, x, create_graph=True)\n"
    for text, begins in (
        (f"{start}y.backward()\ny = (x ** 2).sum()\n{made}g.sum().backward()\n", (1, 0)),
        (f"{start}{kept}{kept}y.backward()\n", (2, 0)),
        (f"{start}y.backward()\ny = (x ** 2).sum()\n{kept}y.backward()\n", (2, 1, 0)),
        (f"{start}{made}torch.func.grad(lambda x: (x ** 2).sum())(x)\n", (1, 0)),
    ):
        seen, error = run_through(compiled(text), Settings())
        assert error is None
        assert seen.begins(seen.count) == begins


def test_functions_that_nobody_calls_are_told():
    step = "def step(x):\n    x.sum().backward()\n"
    assert asks_for_none(step) == "The program asks for no derivative: it defines `step`, and nothing calls it."
    both = f"{step}class Net:\n    pass\nprint(1)\n"
    assert asks_for_none(both) == "The program asks for no derivative: it defines `step` and `Net`, and nothing calls them."
    assert asks_for_none(f"{step}step\n") == "The program asks for no derivative."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("open('data.txt')\n", "A program reads no files"),
        ("import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n", "needs data on its"),
        ("input()\n", "`input` can't be used"),
        ("import torch\n(torch.ones(1, requires_grad=True) * 2).grad_fn.register_hook(print)\n", "`.register_hook` of a node"),
    ],
    ids=["module", "file", "argument", "input", "hook of a node"],
)
def test_what_ends_a_program_is_told(text, told):
    assert told in str(run_through(compiled(text), Settings())[1])


@pytest.mark.parametrize(
    "refused",
    [
        "np.add(1, 1, out=a)", "torch.rand(2, names=None)", "'{0.__class__}'.format(3)",
        "torch.nn.functional.dropout(x, names=0)",
        "torch.utils.data.DataLoader([1, 2], in_order=0)", "hasattr(torch.nn.ReLU(), '_parameters')",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "around",
    [
        "try:\n    {}\nexcept Exception:\n    pass\n",
        "try:\n    {}\nexcept:\n    pass\n",
        "for k in range(1):\n    try:\n        {}\n    finally:\n        break\n",
        "class C:\n    def __enter__(self):\n        pass\n    def __exit__(self, *e):\n        return True\nwith C():\n    {}\n",
        "import contextlib\nwith contextlib.suppress(Exception):\n    {}\n",
        "import contextlib\n@contextlib.contextmanager\ndef held():\n    yield\nwith held():\n    {}\n",
    ],
    ids=["except", "bare except", "finally", "with", "suppress", "a function that is a context"],
)
def test_a_refusal_ends_the_program_whatever_catches_it(refused, around):
    """Python would go on with what these give: no number of what follows is its."""
    text = f"import numpy as np\nimport torch\na, x = np.ones(2), torch.ones(2, requires_grad=True)\n{around.format(refused)}"
    seen, error = run_through(compiled(f"{text}x.sum().backward()\n"), Settings())
    assert isinstance(error, ForbiddenError)
    assert seen.count == 0


def test_what_asks_for_no_derivative_is_refused_as_the_language_refuses_it():
    with pytest.raises(ForbiddenError, match="not read"):
        as_run("import torch\nx = torch.ones(2)\nprint(x.sum())\n")


@pytest.mark.parametrize(
    "text",
    [
        "while True:\n    pass\n",
        "[0 for k in range(10**7)]\n",
        "{k: {j for j in range(10**4)} for k in range(10**4)}\n",
        "sum(0 for k in range(10**7))\n",
        "for k in [1, 2]:\n    try:\n        [0 for j in range(10**7)]\n    except Exception:\n        pass\n",
        "f = lambda k: k\nall(map(f, range(1, 10**7)))\n",
    ],
)
def test_a_program_without_an_end_is_told_to_have_too_many_turns(text):
    with pytest.raises(LimitError, match="turns of loops and calls"):
        as_run(f"import torch\nx = torch.ones(2, requires_grad=True)\nx.sum().backward()\n{text}")


def test_each_turn_raises_what_was_refused_until_that_is_over():
    watch, refusal = Watch(), ForbiddenError("no")
    assert next(watch.turns)
    assert watch.end(refusal).error is refusal
    for _ in range(2):
        with pytest.raises(Ended) as told:
            next(watch.turns)
        assert told.value.error is refusal
    watch.ended = None
    assert next(watch.turns)


WHOLE = (0, -1, 7, 64, -65, 3900, 2**63, -(2**64), 2**2047, -(2**2048), 2**4090)


@pytest.mark.parametrize("operator", ["*", "**", "<<", "%"])
def test_operators_on_whole_numbers_are_pythons_and_end_where_they_grow_too_large(operator):
    for left in WHOLE:
        for right in [each for each in WHOLE if operator in "*%" or abs(each) < 4000]:
            if (operator in "%<<" and right <= 0) or (operator == "**" and right < 0):
                continue
            result = eval(f"({left}) {operator} ({right})")
            told = f"assert c == {result:#x}" if abs(result) < 2**5000 else ""
            for change in (f"c = a {operator} b", f"c = a\nc {operator}= b"):
                ended = run_through(compiled(f"a, b = {left}, {right}\n{change}\n{told}\n"), Settings())[1]
                assert ended is None or (isinstance(ended, LimitError) and abs(result) >= 2**1500)
                assert isinstance(ended, LimitError) or abs(result) < 2**4097


def test_single_numbers_inside_of_vmap_are_let_through_as_outside():
    """Complex, whole, and truth values, one of each sample: no decision may hang on what they are."""
    text = """
import torch
x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
z = torch.vmap(lambda a: (a * a).abs() * (a + 2j).abs())(x + 1j)
whole = torch.vmap(lambda n, a: (n + 1) * a)(torch.arange(3) + 5000, x)
truth = torch.vmap(lambda n, a: (n > 5001) * a)(torch.arange(3) + 5000, x)
(z + whole + truth).sum().backward()
"""
    scope: dict = {}
    exec(text, scope)
    found = to_dict(as_run(text))["vjp"]["x"]["value"]
    torch.testing.assert_close(torch.tensor(found), scope["x"].grad)


DETECTED = {
    "torch.autograd.set_detect_anomaly(True)\n{call}": True,
    "torch.autograd.set_detect_anomaly(True)\ntorch.autograd.set_detect_anomaly(False)\n{call}": False,
    "torch.autograd.set_detect_anomaly(True, check_nan=False)\n{call}": False,
    "with torch.autograd.detect_anomaly():\n    {call}": True,
    "with torch.autograd.set_detect_anomaly(True):\n    pass\n{call}": False,
    "with torch.autograd.detect_anomaly():\n    pass\n{call}": False,
    "from torch.autograd import anomaly_mode\nanomaly_mode.set_detect_anomaly(mode=True)\n{call}": True,
}


@pytest.mark.parametrize("around", DETECTED)
@pytest.mark.parametrize("call", ["y.backward()", "g, = torch.autograd.grad(y, x)"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected")
def test_where_anomaly_detection_raises_in_python_that_is_told(around, call):
    text = "import torch\nx = torch.tensor([0.0, 1.0], requires_grad=True)\ny = (torch.sqrt(x) * 0).sum()\n"
    text += f"{around.format(call=call)}\n"
    with torch.autograd.set_detect_anomaly(False):
        try:
            exec(text, {})
            said = None
        except RuntimeError as error:
            said = str(error)
    assert (said is not None) is DETECTED[around]
    if said is None:
        assert [math.isnan(float(value)) for value in to_dict(as_run(text))["vjp"]["x"]["value"]] == [True, False]
    else:
        with pytest.raises(EvaluationError) as raised:
            as_run(text)
        assert raised.value.torch_message == said
        assert "sqrt has an infinite slope at 0" in " ".join(raised.value.causes)
    assert not torch.is_anomaly_enabled()


def test_torch_s_own_calls_of_the_program_stand_behind_the_guard():
    """A hook runs as torch goes back, with the guard's mode taken away: what it asks of torch is looked at all the same."""
    hook = "def hook(g):\n    torch.as_strided(torch.ones(2), (2,), (1,), 10**6)\n    seen.append(g)\n"
    start = f"import torch\nseen = []\n{hook}x = torch.ones(2, requires_grad=True)\n"
    generated = "x.sum().backward(inputs=(torch.as_strided(x, (2,), (1,), 10**6) for k in range(1)))\n"
    for way in ("y = x * 1\ny.register_hook(hook)\ny.sum().backward()\n", generated):
        with pytest.raises((ForbiddenError, EvaluationError)):
            as_run(start + way)


SAVED = """
import torch, torch.nn as nn
from pathlib import Path
__author__ = "a name"
net, other, third = nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(2, 1)
torch.save(obj=net.state_dict(), f="net.pth")
torch.save({"net": net.state_dict(), "step": 3, "loss": net(torch.ones(2))}, Path(".") / "all.pth")
with torch.no_grad():
    for p in net.parameters():
        p.zero_()
other.load_state_dict(torch.load(f="net.pth"))
third.load_state_dict(torch.load(Path(".") / "all.pth", weights_only=False)["net"])
(other(torch.ones(3, 2)) ** 2 * third(torch.ones(3, 2))).sum().backward()
"""


def test_what_is_saved_is_loaded_again(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = list(to_dict(as_run(SAVED))["vjp"].values())
    assert not list(tmp_path.iterdir())
    expected = by_python(SAVED, monkeypatch)
    assert len(expected) == 4
    assert all(any(fits(each, g) for each in found) for g in expected)


def test_of_what_is_saved_only_tensors_numbers_and_texts_are_loaded():
    start = "import torch\nfrom pathlib import Path\nnet = torch.nn.Linear(2, 1)\n"
    for lines, told in (
        ("torch.save(net, 'a')\ntorch.load('a')\n", "alone can be loaded"),
        ("torch.save(1, Path('a'))\ntorch.load(Path('a') / 'b')\n", "`a/b` is none"),
        ("torch.load('a')\n", "`a` is none"),
    ):
        assert told in str(run_through(compiled(start + lines), Settings())[1])


def test_what_is_no_error_of_python_s_syntax_is_not_told():
    """The language reads no `f()[0] = 1`; Python does, and why it ends elsewhere is told."""
    text = "x = torch.ones(2, requires_grad=True)\ny = x * 2\ny.flatten()[::2] = 0.0\ny.sum().backward()\n"
    assert to_dict(report_of(Request(text, pasted=Request(text))))["vjp"]["x"]["value"] == [0, 2]
    refused = text.replace("y.sum()", "socket.gethostname(y)\ny.sum()").replace("x =", "import socket\nx =", 1)
    with pytest.raises(JvpError) as error:
        report_of(Request(refused, pasted=Request(refused)))
    assert (error.value.message, error.value.source) == ("`import socket`: there is no socket in a program.", "import socket")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.resize((3, 3))", "another number of entries"),
        ("a.resize(2, -2)", "another number of entries"),
        ("torch.set_default_device('meta')", "no device of a program"),
        ("(lambda: vars())()", "of a function"),
    ],
)
def test_what_could_reach_other_memory_is_refused(line, told):
    text = f"import numpy as np, torch\na = np.zeros(4)\n{line}\n"
    assert told in str(run_through(compiled(text), Settings())[1])


def test_a_name_that_the_language_does_not_know_is_none_that_python_misses():
    text = "import torch\nx = torch.ones(2)\nprint(sorted(x.tolist()))\n"
    for kind in (ForbiddenError, UnknownNameError):
        with pytest.raises(JvpError) as error:
            report_of(Request(text, pasted=Request(text), refusal=kind("There is no `sorted`.")))
        assert "asks for no derivative" in f"{error.value.message} {error.value.explanation}"


def test_a_notebook_s_command_may_stand_in_a_block_alone():
    start = "import os\nx = torch.ones(2, requires_grad=True)\n"
    text = start + "if not os.path.exists('data'):\n  !wget data\n(x ** 2).sum().backward()\n"
    assert to_dict(report_of(Request(text, pasted=Request(text))))["vjp"]["x"]["value"] == [2, 2]


def test_an_error_that_can_t_say_what_it_is_ends_a_program_as_any_other():
    silent = "class Silent(Exception):\n    def __str__(self):\n        return self.words\n"
    with pytest.raises(JvpError) as error:
        as_run(f"import torch\n{silent}x = torch.ones(2, requires_grad=True)\nraise Silent\nx.sum().backward()\n")
    assert "line 6 with Silent: <exception str() failed>" in f"{error.value.message}\n{error.value.explanation}"


def test_what_a_program_ends_with_is_told_where_it_does_and_not_why_the_language_reads_none():
    start = "import torch\nclass Net:\n    pass\nx = torch.ones(2, requires_grad=True)\n"
    for line, told, source in (
        ("if x.sum() > 1: raise ValueError('above one')", "line 5 with ValueError: above one", "raise ValueError('above one')"),
        ("[0][1]", "line 5 with IndexError: list index out of range", "[0][1]"),
        ("Net().words", "line 5 with AttributeError: 'Net' object has no attribute 'words'", "Net().words"),
    ):
        with pytest.raises(JvpError) as error:
            as_run(f"{start}{line}\nx.sum().backward()\n")
        found = error.value
        assert told in found.message
        assert source == (found.source and found.span and found.source[slice(*found.span)])
        assert found.explanation == "Python ran it between guards, since the language does not read it."


@pytest.mark.parametrize("name", ["data", "--data", "-d"])
@pytest.mark.parametrize("options", [{}, {"default": None}, {"default": [1]}], ids=str)
def test_arguments_that_may_be_left_out_are_what_they_are_in_argparse(name, options):
    found = []
    for parser in (argparse.ArgumentParser(), Parser()):
        parser.add_argument(name, nargs="*", **options)
        found.append(vars(parser.parse_args([])))
    assert found[0] == found[1]


ENDS = {
    "the call's own value": "g, = torch.autograd.grad(y, x, create_graph=True)\n",
    "what is made of it": "g = torch.autograd.grad(y, x, create_graph=True)[0]\np = (g.norm() - 1) ** 2\nprint(p)\n",
    "two values": "a, b = torch.autograd.grad(y, (x, w), create_graph=True)\n",
    "a name alone, after another value": "g, = torch.autograd.grad(y, x, create_graph=True)\nh = g * w\ng\n",
    "a second derivative": (
        "g, = torch.autograd.grad(y, x, create_graph=True)\n"
        "h, = torch.autograd.grad(g.sum(), x, create_graph=True)\nm = h.mean()\n"
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_last_call_that_makes_a_graph_is_an_equation_as_in_the_language(name):
    text = (
        "x = torch.tensor([1., 2., 3.], requires_grad=True)\nw = torch.tensor([1., 1., 2.], requires_grad=True)\n"
        f"y = (w * x ** 3).sum()\n{ENDS[name]}"
    )
    executed, read = as_run(text), jvpcli.inspect(text).report
    assert [*executed.outputs] == [*read.outputs]
    assert {*executed.vjp} == {*read.vjp}
    for leaf, product in read.vjp.items():
        assert executed.vjp[leaf].value.tolist() == product.value.tolist()
    assert "is an equation of the program" in executed.warnings[-1].message


def test_a_call_that_makes_a_graph_is_explained_where_it_is_picked_or_is_all_that_has_one():
    start = "x = torch.tensor([1., 2.], requires_grad=True)\n"
    call = "g, = torch.autograd.grad({}.sum(), x, create_graph=True)\nn = g.sum().item()\n"
    assert as_run(start + call.format("(x ** 3)"), call=1).vjp["x"].value.tolist() == [3, 12]
    assert as_run(start + call.format("(5 * x)")).vjp["x"].value.tolist() == [5, 5]
    kept = start + "(x ** 3).sum().backward(create_graph=True)\nn = x.grad.sum().item()\n"
    assert as_run(kept).vjp["x"].value.tolist() == [3, 12]  # which has no value


def test_a_call_in_a_function_that_makes_a_graph_is_an_equation_by_its_own_value():
    text = """
def slopes(by):
    x = torch.tensor([1., 2.], requires_grad=True)
    u = (by * x ** 4).sum()
    for _ in range(2):
        u, = torch.autograd.grad(u.sum(), x, create_graph=True)
    return u.tolist()

slopes(2.)
"""
    found = as_run(text)
    assert found.vjp["x"].value.tolist() == [48, 96]  # d/dx of 24·x²
    assert [call.explained for call in found.calls] == [False]


BUGGY = {
    "a layer of another width": (
        "import torch.nn as nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(8, 2)\n    def forward(self, x):\n        return self.fc(x)\n"
        "Net()(torch.ones(3, 5)).sum().backward()\n",
        ShapeMismatchError, "A linear layer for 8 features gets 5", "line 7, in forward, module fc: self.fc(x)",
        "Linear fc was made for in_features=8 and gets 5",
    ),
    "a loss of plain numbers": (
        "class A: pass\nx = torch.ones(2, requires_grad=True)\nloss = torch.tensor((x * 2).sum().item())\nloss.backward()\n",
        EvaluationError, "PyTorch raises in the call on line 4: there is no graph: ", "line 3: (x * 2).sum().item()",
        "the graph ends at line 3, `(x * 2).sum().item()`: it gives plain numbers",
    ),
    "a graph that is walked twice": (
        "x, total = torch.ones(2, requires_grad=True), 0\nfor k in range(2):\n    total += (x * k).sum()\n    total.backward()\n",
        EvaluationError, "PyTorch raises in the call on line 4: the graph was used up ", "line 4: total.backward()",
        "The backward pass at line 4, `total.backward()`, went through 3 of the same steps before",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGGY)
def test_what_a_program_s_error_means_is_told_by_its_own_steps(name):
    text, kind, message, place, meaning = BUGGY[name]
    with pytest.raises(kind) as caught:
        as_run(text)
    error = caught.value
    assert error.message.startswith(message)
    assert error.details[0] == place
    assert error.explanation.startswith(meaning) or f": {meaning}" in error.explanation.splitlines()[0]


def test_an_error_that_the_program_catches_is_told_by_itself():
    text = (
        "class A: pass\nx = torch.ones(2, requires_grad=True)\ny = x.detach().sum()\n"
        "try:\n    y.backward()\nexcept RuntimeError:\n    pass\n"
    )
    with pytest.raises(EvaluationError) as caught:
        as_run(text)
    assert caught.value.message.startswith("PyTorch raises in the call on line 5: there is no graph: ")
    assert caught.value.causes


def test_where_a_program_ends_after_what_is_asked_is_said():
    """A leaf that is moved becomes another tensor, which has no `.grad`: Python ends at the next step."""
    text = (
        "class A: pass\nw = torch.ones(2, requires_grad=True)\nfor k in range(3):\n    loss = (w ** 2).sum()\n"
        "    loss.backward()\n    w = w - 0.1 * w.grad\n"
    )
    told = as_run(text).warnings[-1].message
    assert "on line 5; the program ends on line 6 with TypeError: unsupported operand type(s) for *: " in told


@pytest.mark.parametrize("name", ["torch.ones(3)", "property(lambda self: 1 / 0)", "property(lambda self: exit())"])
def test_an_error_that_tells_lies_of_its_name_is_told_by_what_it_says(name: str) -> None:
    text = f"""
class Lost(NameError):
    name = {name}
raise Lost("gone")
"""
    with pytest.raises(JvpError, match=r"Lost: gone"):
        as_run(text)
