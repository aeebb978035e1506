"""What Python says in other statements, and its own library: gradients are those of Python running the same text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import jvpcli
from jvpcli.errors import JvpError

HEAD = "import torch\nimport torch.nn as nn\nfrom torch.func import grad, jacrev, vmap, hessian\ntorch.manual_seed(0)\n"
X = "x = torch.tensor([1., -2., 3.], dtype=torch.float64, requires_grad=True)\n"

PROGRAMS = {
    "the library": """
import functools, itertools, operator
from itertools import accumulate, chain, pairwise, zip_longest
from functools import reduce
def weigh(row):
    return sum((k + 1) * item for k, item in enumerate(row))
y = reduce(lambda a, b: a * b + a, x) + reduce(operator.mul, [x, x.sum()], 2.).sum()
y = y + weigh(accumulate(x)) + weigh(accumulate(x, operator.mul, initial=2.)) + weigh(chain(x, [x.sum()], ()))
for k, (i, j) in enumerate(itertools.product(range(3), repeat=2)):
    y = y + k * x[i] * x[j] ** 2
for pairs in (itertools.combinations(x, 2), itertools.permutations(x, 2), itertools.combinations_with_replacement(x, 2)):
    y = y + weigh(a * b ** 2 for a, b in pairs) * len(list(itertools.permutations(range(3))))
y = y + weigh(b - a * a for a, b in pairwise(x)) + weigh(itertools.islice(x, 2)) + weigh(itertools.islice(x, 0, 3, 2))
y = y + weigh(itertools.starmap(torch.mul, [(x[0], x[1]), (x[1], x[2])])) + sum(itertools.repeat(x[2], 3))
y = y + sum(a * b for a, b in zip_longest(x, [1., 2.], fillvalue=5.)) + weigh(chain.from_iterable([x, x * 2]))
y = y + weigh(sorted(x)) + 2 * weigh(sorted(x, key=lambda t: t ** 2, reverse=True)) + weigh(sorted([3, 1, 2]))
y = y + weigh(v * k for k, v in sorted([(1, x[0]), (0, x[1]), (1, x[2])], key=operator.itemgetter(0), reverse=True))
y = y + weigh(filter(lambda t: t > 0, x)) + (any(t > 2 for t in x) + 2 * all(t > 0 for t in x) + all([])) * x[1]
q, r = divmod(7, 3)
(y + q * x[0] ** r + pow(x[1], 2) + functools.reduce(lambda a, b: a - b, [5, 2, 1]) * x[2]).backward()
""",
    "names that the program gives to something else": """
def sorted(items):
    return items * 2
def f(filter):
    return filter ** 2
any = x * 3
(sorted(x) + f(x) + any).sum().backward()
""",
    "decorators": """
import functools
from functools import lru_cache, partial, wraps
def twice(function):
    @wraps(function)
    def inner(*given, **named):
        return 2 * function(*given, **named)
    return inner
@twice
@twice
def square(t, *, k=1.):
    return k * t ** 2
@lru_cache(maxsize=None)
def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)
@grad
def slope(t):
    return (t ** 4).sum()
@partial(vmap, in_dims=(0, None))
def scaled(t, k):
    return t * k
@torch.no_grad()
def held(t):
    return t.sum()
y = square(x, k=3.).sum() + factorial(4) * x[0] + (slope(x) * scaled(x, x[1])).sum() * held(x)
y.backward()
""",
    "generators": """
def powers(t, n):
    value = t
    for k in range(n):
        if k == 3:
            return
        yield value
        value = value * t
def both(t):
    yield t.sum()
    yield from [t.prod(), t[0]]
    yield from powers(t, 2)
def batches(rows, size):
    order = torch.randperm(len(rows))
    for at in range(0, len(rows), size):
        yield rows[order[at:at + size]], at
y = sum((k + 1) * p.sum() for k, p in enumerate(powers(x, 5)))
for p in both(x):
    y = y + p.pow(2).sum()
for rows, at in batches(x, 2):
    y = y + (at + 1) * rows.prod()
(y + torch.stack(list(powers(x, 2))).prod()).backward()
""",
    "modes, annotations and names": """
w: torch.Tensor = torch.tensor([2., 1., 1.], dtype=torch.float64, requires_grad=True)
torch.set_grad_enabled(False)
held = x * 2
torch.set_grad_enabled(True)
act = getattr(torch, "tanh")
first = next(iter(x))
terms = {f"t{k}": act(x) * k for k in range(3)}
for k in range(2):
    key = "t"
    key = f"{key}{k}"
    terms[key] = terms[f"t{k + 1}"] + first
((terms["t0"] * terms["t1"]).sum() + (held * x * w).sum()).backward()
""",
    "dual numbers and linearize": """
import torch.autograd.forward_ad as fwAD
from torch.func import linearize
c = torch.tensor([2., 0., 1.], dtype=torch.float64)
def f(t):
    return t.sin() * t * c
with fwAD.dual_level():
    a, b = fwAD.make_dual(x.detach(), c), torch.ones(3, dtype=torch.float64)
    y = f(a) + b * a
    along = fwAD.unpack_dual(y).tangent
p = torch.tensor([1., 2., 3.], dtype=torch.float64)
value, push = linearize(f, p)
(x * along + x ** 2 * push(c)).sum().backward()
""",
    "gradients of .grad": """
(x ** 3).sum().backward(create_graph=True)
x.grad.sum().backward(create_graph=True)
x.grad.pow(2).sum().backward()
""",
    "axes by the keys of a dictionary, and one number of any shape": """
held = {"w": torch.ones(3, 2, dtype=torch.float64), "b": torch.tensor(2., dtype=torch.float64)}
y = vmap(lambda p, t: (p["w"] * t).sum() * p["b"] * t, in_dims=({"w": 0, "b": None}, 0))(held, x)
h = torch.autograd.functional.hessian(lambda t: (t ** 3).sum(0, keepdim=True), x, create_graph=True)
(y.pow(2).sum() + h.pow(2).sum()).backward()
""",
}

MODULES = {
    "objects in the arguments of constructors, classes by words, methods that make modules": """
import argparse
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
class Mode(Enum):
    PLAIN = 0
    DOUBLE = 1
@dataclass
class Config:
    hidden: int = 3
    mode: Mode = Mode.PLAIN
ACTS = {"tanh": nn.Tanh, "relu": nn.ReLU}
settings = dict(act="tanh", inputs=2)
more = {"bias": False}
parser = argparse.ArgumentParser(description="train")
parser.add_argument("--hidden-size", "-n", type=int, default="4")
parser.add_argument("--no-bias", action="store_true")
parser.add_argument("--rate", type=float, default=0.5, dest="scale")
args = parser.parse_args()
inner = SimpleNamespace(width=2, depth=2)
class Base(nn.Module, ABC):
    @abstractmethod
    def encode(self, t):
        ...
    def forward(self, t):
        return self.encode(t).sum()
class Net(Base):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.width = inner.width
        self.body = self._make(config.hidden, inner.depth)
        self.head = Net.last(config.hidden)
        self.names = 2
        for k in range(self.names):
            setattr(self, f"part{k}", nn.Linear(2, 2))
    def _make(self, n, depth):
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(self.width, n), nn.Tanh()]
            self.width = n
        return nn.Sequential(*layers)
    @staticmethod
    def last(n):
        return nn.Linear(n, 1, **more)
    def encode(self, t):
        for k in range(self.names):
            t = t + getattr(self, f"part{k}")(t)
        t = self.head(self.body(t))
        return t * 2 if self.config.mode is Mode.DOUBLE else t
net = Net(Config(args.hidden_size, mode=Mode.DOUBLE))
chain = nn.Sequential(nn.Linear(settings["inputs"], 3, bias=not args.no_bias), ACTS[settings["act"]](), nn.Linear(3, 1))
x = torch.tensor([[1., 2.]], requires_grad=True)
loss = net(x) + chain(x).sum() * args.scale
for m in chain:
    if isinstance(m, (nn.Linear, nn.Conv2d)):
        loss = loss + m.weight.pow(2).sum()
loss = loss + dict(chain.named_parameters())["0.weight"].sum() * next(chain.parameters()).sum()
loss.backward()
print({name: p.grad for name, p in net.named_parameters()}, [p.grad for p in chain.parameters()], x.grad)
""",
}

LEAVES = [
    "ws = [torch.full((2,), 1. + sum([1. for _ in range(2)]) + _, requires_grad=True) for _ in range(3)]",
    "ws = [torch.full((2,), k + 1., requires_grad=True) for k in range(3)]",
    "sizes = [1, 2, 3]\nws = tuple(torch.full((2,), float(a * b), requires_grad=True) for a, b in zip(sizes, sizes[::-1]))",
    "n = 3\nws = [nn.Parameter(torch.full((2,), k + 1.)) for k in range(n)]",
]

REFUSED = {
    "loss is computed anew": """
w = torch.ones(2, requires_grad=True)
def losses():
    for k in range(2):
        yield (w * k).pow(2).sum()
for loss in losses():
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
""",
    "the scale changes": """
k = 1.
def scaled(t):
    for _ in range(2):
        yield t * k
y = 0.
for t in scaled(torch.ones(2, requires_grad=True)):
    y = y + t.sum()
    k = k * 2
y.backward()
""",
    "a generator that is kept": "def items(t):\n    yield t\n    yield t * 2\nx = torch.ones(2, requires_grad=True)\n"
    "g = items(x)\n(sum(g) + sum(g)).sum().backward()",
    "a cache of what is drawn": "from functools import lru_cache\n@lru_cache\ndef noise(n):\n    return torch.rand(n)\n"
    "x = torch.ones(2, requires_grad=True)\n(x * noise(2) * noise(2)).sum().backward()",
    "an option that has to be given": "import argparse\np = argparse.ArgumentParser()\n"
    "p.add_argument('--n', type=int, required=True)\na = p.parse_args()\n"
    "x = torch.ones(2, requires_grad=True)\n(x * a.n).sum().backward()",
    "leaves that nobody counts": "n = int(torch.tensor(2).item())\n"
    "ws = [torch.ones(2, requires_grad=True) for _ in range(n)]\n(ws[0] * ws[1]).sum().backward()",
    "an option of another type": "import argparse\np = argparse.ArgumentParser()\n"
    "p.add_argument('--n', type=len, default='abc')\na = p.parse_args()\n"
    "x = torch.ones(2, requires_grad=True)\n(x * a.n).sum().backward()",
    "text of a tensor": "x = torch.ones(2, requires_grad=True)\nheld = {f'{x}': x}\nsum(held.values()).sum().backward()",
}


def plainly(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(text, scope)
    return scope


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_pythons(name: str) -> None:
    text = f"{HEAD}{X}{PROGRAMS[name]}"
    torch.testing.assert_close(jvpcli.inspect(text).vjp["x"], plainly(text)["x"].grad.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_parameters_are_pythons(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program"])
    text = f"{HEAD}{MODULES[name]}"
    scope = plainly(text)
    nets = {key: net for key, net in scope.items() if isinstance(net, nn.Module) and key != "m"}
    made = {f"{key}.{part}": p for key, net in nets.items() for part, p in net.named_parameters()}
    expected = {key: p.grad for key, p in {**made, **{key: x for key, x in scope.items() if key == "x"}}.items()}
    torch.testing.assert_close(dict(jvpcli.inspect(text).vjp), expected)


@pytest.mark.parametrize("text", LEAVES)
def test_each_leaf_of_a_list_is_one(text: str) -> None:
    whole = f"{HEAD}{text}\n(ws[0] * ws[1] ** 2 * ws[2] ** 3).sum().backward()"
    expected = {f"ws_{k}": w.grad for k, w in enumerate(plainly(whole)["ws"])}
    torch.testing.assert_close(dict(jvpcli.inspect(whole).vjp), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(JvpError):
        jvpcli.inspect(f"{HEAD}{REFUSED[name]}")


def test_a_long_chain_is_read_without_going_down_it() -> None:
    chain = " + ".join(["x"] * 3000)
    text = f"x = torch.tensor(2., requires_grad=True)\nact = getattr(torch, 'sin')\ny = {chain}\n(y + any([x > 1])).backward()"
    with pytest.raises(JvpError, match="too long to be read"):  # as every program with such an expression is
        jvpcli.inspect(text)
