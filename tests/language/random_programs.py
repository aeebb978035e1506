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

net = nn.Sequential(nn.Tanh(), nn.Softplus())
a = torch.sin(x)
b = x * 2 + w
c = a
items = [a, b]
"""
NAMES = ("a", "b", "c")
HOSTILE = (
    "class A: pass", "nn.init.zeros_(net)", "net[0].weight = open", "net.load_state_dict(torch.load('CANARY'))",
    "net.load_state_dict({'__class__': a})", "def f(t): t.apply(f)\nnet.apply(f)",
    "for p in net.parameters(): p.__class__ = f", "for p in net.modules(): p.forward = f", "x.register_hook(open)",
    "b.register_hook(b)", "x.register_hook(lambda v: v.__class__)", "b.register_hook(lambda v: torch.load('CANARY'))",
    "import os", "from os import system", "exec('x')", "f.__globals__", "net.__class__", "net._modules",
    "net.register_forward_hook(print)", "a.register_hook(lambda g: g * 0)", "net[0].forward.__func__", "net.apply(print)",
    "net.__dict__", "torch.nn.utils.parametrize.register_parametrization(net, 'weight', f)", "torch.save(net, 'a')",
    "net.state_dict()", "nn.Module()", "nn.Sequential.__init__(net)",
    "torch.func.functional_call(net, {'__class__': a}, a)", "import pickle\npickle.loads(b'')", "net.__reduce__()",
    "net.__setstate__({})", "net.to(torch.os)", "net.share_memory()", "items.append(items)",
    "torch.func.grad(torch.load)(a)", "torch.vmap(open)(a)", "d.__code__", "d.__defaults__", "torch.optim.SGD.__init__(a)",
    "torch.optim.os", "torch.autograd.Function", "torch.autograd.graph.saved_tensors_hooks(f, f)",
    "torch.func.jacrev(f).__wrapped__", "(lambda: a).__closure__", "def h(): nonlocal a\nh()", "global a", "del torch",
    "with open('a') as q: pass", "try: a\nexcept: b", "f = torch.autograd.grad\nf.__globals__", "a.grad_fn.next_functions",
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
        f"torch.where({one} > 0, {sub}, {other})", f"{one}.detach() * x", f"g(net, {sub})",
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
