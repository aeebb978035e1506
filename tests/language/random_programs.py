"""Random programs for the fuzzers: functions, loops, lists, modules, and derivatives inside of them, which all end.

What they mean is what Python says that the same text means: `by_python` runs it, and no hostile one.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from random_expressions import ATTEMPTS, FORBIDDEN, mutated
from torch import Tensor

from jvpcli.answers.question import pose
from jvpcli.errors import EvaluationError
from jvpcli.request import Request

MEMORY_LIMIT = 200_000_000

MESSAGE = 60
"""Characters of a message: what follows names addresses and versions."""

HEADER = """\
def f(t, u=None):
    if u is None:
        return t.cos() + t
    t = t - u
    return t

def g(h, t, k=2):
    for _ in range(k):
        t = h(t) * 0.5
    return t

def d(u, by, v=None):
    return torch.autograd.grad(
        u, by, torch.ones_like(u) if v is None else v, create_graph=True, allow_unused=True, materialize_grads=True
    )[0]

class S(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t, k=1.0):
        ctx.save_for_backward(t)
        ctx.k = k
        return t.sin() * k

    @staticmethod
    def backward(ctx, v):
        t, = ctx.saved_tensors
        return v * t.cos() * ctx.k, None

class M(nn.Module):
    def __init__(self, k, depth=2):
        super().__init__()
        self.k = k
        self.acts = nn.ModuleList()
        for _ in range(depth):
            self.acts.append(nn.Tanh())
        self.named = nn.ModuleDict({"one": nn.Tanh(), "two": nn.Softplus()})
        self.reset()

    def reset(self, shift=0.25):
        self.shift = shift

    @staticmethod
    def half(t):
        return t * 0.5

    @classmethod
    def quarter(cls, t):
        return cls.half(cls.half(t))

    @property
    def twice(self):
        return self.k * 2

    def scaled(self, t):
        return t * self.k

    def forward(self, t, which="one"):
        for act in self.acts:
            t = act(self.scaled(t)) + t
        for name, act in self.named.items():
            t = M.half(act(t)) + self.shift
        return self.named[which](t) * self.twice

class R(M):
    def forward(self, t, which="two"):
        return super().forward(t, which) + M.scaled(self, t)

net = nn.Sequential(nn.Tanh(), nn.Softplus())
m, r = M(0.5), R(0.25, depth=1)
a = torch.sin(x)
b = x * 2 + w
c = a
items = [a, b]
"""
NAMES = ("a", "b", "c")
HOSTILE = (
    "class A: pass", "class A(dict): pass\na = A(k=a)['k']",
    "class A(nn.Module):\n    def __getattr__(self, k): return k\nA().os",
    "class A(M):\n    def __init__(self): super().__init__(2, depth=10**9)\na = A()(a)", "m.__class__", "m.__dict__",
    "m._modules", "class A:\n    def __init__(self): self.k = A()\nA()", "S.forward.__code__", "S.__mro__", "S.apply.__self__",
    "S.apply.__func__", "class A(S):\n    @staticmethod\n    def forward(ctx, t): return ctx.__class__\na = A.apply(a)",
    "m.forward.__globals__", "S(a)",
    "class A(S):\n    @staticmethod\n    def backward(ctx, v): return A.apply(v)\na = A.apply(a)", "S.apply(S)",
    "m.k.__class__", "class A(S):\n    @staticmethod\n    def forward(ctx, t): return A.apply(t)\na = A.apply(a)",
    "m.named.__class__", "m.named.items().__class__", "m.named['__class__']", "m.acts.append(open)", "m.named['k'] = open",
    "nn.init.constant_(m.k, open)", "nn.init.zeros_(net)", "net[0].weight = open", "net.load_state_dict(torch.load('CANARY'))",
    "net.load_state_dict({'__class__': a})", "m.apply(open)", "m.apply(m.apply)", "def f(t): t.apply(f)\nnet.apply(f)",
    "for p in net.parameters(): p.__class__ = f", "for p in net.modules(): p.forward = f", "M.half.__globals__", "M.quarter(M)",
    "getattr(m, '__class__')", "getattr(m, a)", "setattr(m, '__class__', M)", "x.register_hook(open)", "b.register_hook(b)",
    "x.register_hook(lambda v: v.__class__)", "b.register_hook(lambda v: torch.load('CANARY'))",
    "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: object = open\nA().k('CANARY')",
    "m.register_buffer('a', a)", "class A(torch.nn.Linear): pass\na = A(3, 3)(a)", "class A(metaclass=M): pass", "m.k = torch",
    "S.apply = f", "setattr(m, 'k', a)", "class A:\n    k = __import__('os')\nA().k", "m.acts.__class__", "m.acts[0].__class__",
    "M.forward(m, a)", "super().__init__()", "import os", "from os import system", "exec('x')", "f.__globals__",
    "net.__class__", "net._modules", "net.register_forward_hook(print)", "a.register_hook(lambda g: g * 0)",
    "net[0].forward.__func__", "net.apply(print)", "net.__dict__",
    "torch.nn.utils.parametrize.register_parametrization(net, 'weight', f)", "torch.save(net, 'a')", "net.state_dict()",
    "nn.Module()", "nn.Sequential.__init__(net)", "torch.func.functional_call(net, {'__class__': a}, a)",
    "import pickle\npickle.loads(b'')", "net.__reduce__()", "net.__setstate__({})", "net.to(torch.os)", "net.share_memory()",
    "items.append(items)", "torch.func.grad(torch.load)(a)", "torch.vmap(open)(a)", "d.__code__", "d.__defaults__",
    "torch.optim.SGD.__init__(a)", "torch.optim.os", "torch.autograd.Function",
    "torch.autograd.graph.saved_tensors_hooks(f, f)", "torch.func.jacrev(f).__wrapped__", "(lambda: a).__closure__",
    "def h(): nonlocal a\nh()", "global a", "del torch", "with open('a') as q: pass", "try: a\nexcept: b",
    "f = torch.autograd.grad\nf.__globals__", "a.grad_fn.next_functions",
)  # fmt: skip

ENDLESS = (
    "def f(t): return f(t)\nf(a)", "h = lambda q: q(q)\nh(h)", "while True: a = a + 1", "for _ in range(10**9): pass",
    "while True: items.append(items)", "def f(t): return f(f(t))\nf(a)", "n = 2\nwhile True: n *= n",
)  # fmt: skip
"""What only a limit stops, which takes a second or two."""


def inputs() -> dict[str, Tensor]:
    """The tensors that a program reads."""
    return {
        "x": torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64),
        "w": torch.tensor([0.5, 0.2, -0.9], dtype=torch.float64),
    }


Meaning = list[Tensor] | str
"""The values and the gradients of their sum by x and w; or how PyTorch's message begins."""


def by_python(source: str) -> Meaning:
    """By Python itself, running the text."""
    text, _, last = source.rpartition("\n")
    leaves = {name: value.requires_grad_() for name, value in inputs().items()}
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, **leaves}
    try:
        exec(text, names)
        values = list(eval(last, names))
        total = sum(y.sum() for y in values)
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        return str(error)[:MESSAGE]
    return [*(y.detach() for y in values), *gradients]


def by_jvp(source: str) -> Meaning:
    """By jvp, as a request on the command line is read and evaluated.

    Raises:
        JvpError: but where PyTorch's own functions fail.
    """
    given = {name: ",".join(map(str, value.tolist())) for name, value in inputs().items()}
    try:
        evaluation = pose(Request(source, given, tuple(given), dtype="float64", memory_limit=MEMORY_LIMIT)).evaluation
        values = list(evaluation.outputs.values())
        total = sum(y.sum() for y in values)
        gradients = torch.autograd.grad(
            total, [evaluation.inputs[name] for name in given], allow_unused=True, materialize_grads=True
        )
    except EvaluationError as error:
        if error.torch_message is None:
            raise
        return error.torch_message[:MESSAGE]
    except RuntimeError as error:
        return str(error)[:MESSAGE]
    return [*(y.detach() for y in values), *gradients]


def program(random: Random) -> str:
    """The text of a program whose meaning Python may be asked for."""
    lines: list[str] = []
    _block(random, lines, "", 0)
    return f"{HEADER}{chr(10).join(lines)}\n(a, b, c, sum(items), len(items) * x)"


def hostile(random: Random) -> str:
    """The text of a program with a break-out in it, or with characters changed: nobody else is to run it."""
    *lines, last = program(random).split("\n")
    if random.random() < 0.3:
        return mutated(random, "\n".join([*lines, last]))
    for _ in range(random.randrange(1, 3)):
        families = (HOSTILE, HOSTILE, ATTEMPTS, FORBIDDEN) if random.random() < 0.99 else (ENDLESS,)
        attempt = random.choice(random.choice(families))
        at = random.choice([k for k, line in enumerate(lines) if line and line[0] not in " )"] + [len(lines)])
        lines[at:at] = attempt.split("\n") if random.random() < 0.7 else [f"a = a + {attempt.split(chr(10))[-1]}"]
    return "\n".join([*lines, last])


def _expression(random: Random, loops: int, depth: int = 0) -> str:
    """Derivatives of derivatives double their graph with each turn: none stand in loops within loops."""
    one, other = random.choice(NAMES), random.choice(NAMES)
    sub = _expression(random, loops, depth + 1) if depth < 2 else one
    choices = [
        f"{one} + {other}", f"{one} * 0.5", f"torch.sin({sub})", f"f({one})", f"f({sub}, u={other})", "items[-1] * 1.0",
        f"({sub} if {other}.sum() > 0 else {other} * 2)", f"g(lambda t: t * 0.5 + {one}, {sub})", f"net({sub})",
        f"torch.vmap(lambda t: t ** 2 + t)({sub})", f"torch.stack([t for t in ({one}, {other})]).mean(0)",
        f"torch.where({one} > 0, {sub}, {other})", f"{one}.detach() * x", f"m({sub})", f"m.scaled({sub}) + {other}",
        f"r({sub})", f"M.quarter({sub})", f"m({sub}, which='two')",
        f"S.apply({sub})", f"S.apply({one}, 0.5) * {other}", f"g(m, {sub})", f"g(S.apply, {sub})",
    ]  # fmt: skip
    if loops < 2:
        choices += [
            f"d({one}, x)", f"d(({sub}).sum(), {random.choice(('x', 'w'))})", f"d({one}, w, {other})",
            f"torch.func.grad(lambda t: (t * {one}).sin().sum())({other})", f"torch.func.jacrev(f)({one}) @ {other}",
            f"torch.func.jvp(torch.sin, ({one},), ({other},))[1]",
        ]  # fmt: skip
    if loops < 1:
        choices += [
            f"d(d({one} * x ** 2, x), x)", f"torch.func.hessian(lambda t: (t ** 3).sum() * t[0])({one}) @ {other}",
            f"torch.autograd.functional.vhp(lambda t: (t ** 3).sum(), {one}, {other}, create_graph=True)[1]",
        ]  # fmt: skip
    return random.choice(choices)


def _block(random: Random, lines: list[str], indent: str, depth: int) -> None:
    for _ in range(random.randrange(1, 5 if depth == 0 else 3)):
        kind, name = random.randrange(14 if depth < 3 else 7), random.choice(NAMES)
        if kind <= 3:
            lines.append(f"{indent}{name} = {_expression(random, depth)}")
        elif kind == 4:
            lines.append(f"{indent}{name} {random.choice(('+=', '*=', '-='))} {random.choice(('0.5', 'x', 'w'))}")
        elif kind == 5:
            lines.append(f"{indent}items.append({_expression(random, depth)})")
        elif kind == 6:
            lines.append(f"{indent}{name}[{random.randrange(3)}] = {random.choice(NAMES)}.sum()")
        elif kind == 7:
            lines.append(f"{indent}if {name}.sum() > {random.randrange(-2, 3)}:")
            _block(random, lines, f"{indent}    ", depth + 1)
            lines.append(f"{indent}else:")
            _block(random, lines, f"{indent}    ", depth + 1)
        elif kind == 8:
            lines.append(f"{indent}for i{depth} in range({random.randrange(4)}):")
            _block(random, lines, f"{indent}    ", depth + 1)
            if random.random() < 0.5:
                lines.append(f"{indent}    if {name}.abs().max() > 4: {random.choice(('break', 'continue'))}")
        elif kind == 9:
            lines.append(f"{indent}{name}, {random.choice(NAMES)} = {random.choice(NAMES)} * 1, {random.choice(NAMES)}")
        elif kind == 10:
            lines.append(f"{indent}for k{depth}, v{depth} in enumerate(items[:2]):")
            lines.append(f"{indent}    {name} = {name} * 0.5 + v{depth} * k{depth}")
        elif kind == 11:
            lines.append(f"{indent}with torch.no_grad():")
            lines.append(f"{indent}    {name} = {_expression(random, depth)}")
        elif kind == 12:
            lines += [f"{indent}n{depth} = 0", f"{indent}while n{depth} < {random.randrange(4)}:", f"{indent}    n{depth} += 1"]
            lines.append(f"{indent}    {name} = {_expression(random, depth)}")
        else:
            lines += [f"{indent}def p{depth}(t, k={random.choice(NAMES)}):", f"{indent}    u = t * k"]
            derived = ("d(u.sum(), t)", "d(u, x)") if depth < 2 else ()
            lines.append(f"{indent}    return {random.choice(('u + b', 'u if u.sum() > 0 else t', *derived))}")
            lines.append(f"{indent}{name} = p{depth}({random.choice(NAMES)})")
