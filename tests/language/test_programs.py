"""Programs with blocks, functions and lists that change give what plain Python gives, running the same text."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from jvpcli.errors import EvaluationError, ExpressionSyntaxError, ForbiddenError, JvpError, LimitError, UnknownNameError
from jvpcli.language.evaluate import Evaluation, evaluate
from jvpcli.language.parse import parse

X = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
W = torch.arange(12.0, dtype=torch.float64).reshape(4, 3) / 7 - 0.5
SCOPE = {"x": X, "W": W, "s": torch.tensor(2.0, dtype=torch.float64)}

PROGRAMS = {
    "for over a range": """
        y = x
        for i in range(3):
            y = torch.sin(y) * (i + 1)
        y
    """,
    "an input is assigned anew": """
        for i in range(3):
            x = x * s
        x + 1
    """,
    "augmented in a loop": """
        h = x.clone()
        first = h
        for row in W.T:
            h += row
        h * first
    """,
    "for over pairs": """
        total = 0.0
        for i, (a, b) in enumerate(zip(x, W)):
            total = total + i * a * b.sum()
        total * x
    """,
    "for over a list, and its variable afterwards": """
        for k in [x, x * 2, x * 3]:
            y = k.exp()
        y + k
    """,
    "append": """
        rows = []
        for i in range(4):
            rows.append(x[i] * W[i])
        torch.stack(rows)
    """,
    "a list has two names": """
        a = []
        b = a
        a.append(x)
        b.append(x * 2)
        b += [x * 3]
        sum(a) * len(b)
    """,
    "lists in lists": """
        table = [[] for _ in range(3)]
        for i in range(6):
            table[i % 3].append(x * i)
        last = table.pop()
        table[0][1] = s
        torch.stack([v.sum() for row in [*table, last] for v in row])[:4] * x
    """,
    "other methods of lists": """
        a = [x, x + 1]
        b = a.copy()
        a.insert(0, s)
        a.extend([x * 2, x * 3])
        a.reverse()
        c = a.pop(1)
        b.clear()
        c + a[0] + a[-1] + len(b)
    """,
    "a list as a default is shared": """
        def f(t, seen=[]):
            seen.append(t)
            return sum(seen)
        f(x)
        f(x * 2) + f(s)
    """,
    "if, elif, else": """
        y = x
        for k in range(4):
            if x[k] > 2:
                y = y * 2
            elif x[k] < 0:
                y = y - 1
            else:
                y = y.sin()
        y
    """,
    "break, continue and else": """
        y = x * 0
        for k in range(10):
            if k == 1:
                continue
            if k > 5:
                break
            y = y + x ** k
        else:
            y = y * 100
        for k in range(2):
            pass
        else:
            y = y + 1
        y
    """,
    "while": """
        y = x
        n = 0
        while y.abs().sum() < 100 and n < 50:
            y = y * 2
            n += 1
        else:
            y = y + n
        y
    """,
    "a function": """
        def f(t, w=2.0, *rest, scale=1.0):
            h = torch.tanh(t) * w
            for r in rest:
                h = h + r
            return h * scale
        f(x) + f(x, 3.0) + f(x, 1, s, x, scale=s) + f(w=x, t=s)
    """,
    "several returns": """
        def f(t):
            if t.sum() > 2.4:
                return t * 2
            for k in range(5):
                if k == 3:
                    return t * k
            return t
        f(x), f(x * 0), f(x + 5)
    """,
    "no return": """
        def f(t):
            t = t * 2
        x if f(x) is None else s
    """,
    "recursion": """
        def power(t, n):
            if n == 0:
                return torch.ones_like(t)
            return t * power(t, n - 1)
        power(x, 5)
    """,
    "locals are a call's own": """
        def f(n):
            y = x * n
            if n > 0:
                z = f(n - 1)
                return y + z * n
            return y
        f(4)
    """,
    "late names": """
        def f(t):
            return t * factor
        factor = 2
        a = f(x)
        factor = s
        a + f(x)
    """,
    "closures": """
        def scaled(w):
            def inner(t):
                return t * w + offset
            offset = w * 2
            return inner
        f, g = scaled(2.0), scaled(s)
        f(x) * g(x)
    """,
    "lambdas": """
        square = lambda t: t ** 2
        twice = lambda f, t: f(f(t))
        twice(square, x) + (lambda a, b=3: a * b)(x) + [lambda t: t.sin(), torch.cos][1](x)
    """,
    "lambdas in a loop see its variable's last value": """
        fs = []
        for k in range(3):
            fs.append(lambda t: t * k)
        gs = [lambda t: t * j for j in range(3)]
        hs = [lambda t, j=j: t * j for j in range(3)]
        fs[0](x) + gs[0](x) + hs[1](x)
    """,
    "swapping": """
        a, b = x, x * 2
        for _ in range(3):
            a, b = b, a + b
        c = a
        a = a * 2
        a + b * c
    """,
    "names in branches": """
        if x.sum() > 0:
            y = x * 2
            z = y
        else:
            y = x
        y = y * z
        y
    """,
    "an item of a view": """
        y = torch.zeros(4, 3, dtype=x.dtype)
        for i in range(4):
            y[i] = x[i] * W[i]
            y[i, 0] += 1
        y
    """,
    "mode": """
        with torch.no_grad():
            k = x * 2
            with torch.enable_grad():
                m = x * 3
        k * x + m
    """,
    "what is passed over": """
        import torch
        import torch.nn as nn, math as m
        import torch.nn.functional as Fn
        from torch import sin, pi as half
        '''a docstring'''
        def f(t: torch.Tensor, n: int = 2) -> torch.Tensor:
            '''what it does'''
            assert n > 0, "no"
            return t ** n
        y: torch.Tensor = f(x)
        z: int
        print("y is", y)
        y
        ...
        pass
        out = sin(y) * half * m.pi + Fn.relu(x) + nn.functional.relu(x)
        print(out)
    """,
    "main": """
        def main():
            return x.sin()
        if __name__ == "__main__":
            y = main()
        y * 2
    """,
    "rebinding in a comprehension's place": """
        k = 2.0
        y = sum([k * x for k in range(3)])
        y * k
    """,
    "a tuple and a star": """
        def f(*parts):
            a, *rest = parts
            return a + sum(rest)
        args = [x, x * 2]
        args.append(s)
        f(*args, x)
    """,
    "Newton": """
        def newton(z, target, steps=6):
            for _ in range(steps):
                z = z - (z * z - target) / (2 * z)
            return z
        newton(torch.ones_like(x), x.abs() + 1)
    """,
    "dictionaries": """
        layers = {"w": W[0], "b": x[0] * 2, 3: x}
        def step(p, rate=0.1):
            return {name: value - rate * value.sin() for name, value in p.items()}
        for k in range(3):
            layers = step(layers, rate=0.1 * k)
        layers["b"] = layers.get("c", layers["b"] * 2) + layers.pop(3)
        layers.update(d=x, **{"e": x * 3})
        layers.setdefault("d", 1.0)
        both = {**layers, "n": len(layers)}
        del both["e"]
        sum(both[name].sum() for name in both if name != "n") * both["n"] + ("e" in both) + ("e" in layers)
    """,
    "keywords": """
        def outer(*given, scale=1.0, **others):
            return inner(*given[::-1], **others) * scale
        def inner(a, b=2.0, /, c=3.0, *, d=4.0):
            return a * b + c * d
        options = dict(scale=0.5, d=W.sum())
        pick = lambda **k: k["t"] * len(k)
        outer(x, x.sum(), **options) + outer(x, c=x) + torch.sum(W, **{"dim": 0, "keepdim": True}).sum() + pick(t=x, u=0)
    """,
    "functions under other names": """
        f = torch.sin
        table = {"relu": torch.relu, "tanh": torch.tanh}
        @torch.no_grad()
        def half(t):
            return t * 0.5
        y = f(x) + table["tanh"](x) + half(x) * x
        del f, table
        y
    """,
    "text that is only printed": """
        for k in range(2):
            message = f"turn {k}: {x.sum():.2f}"
            print(message)
        def f(message):
            return message * 2
        f(x)
    """,
    "RNN": """
        h = torch.zeros(3, dtype=x.dtype)
        hidden = []
        for t in range(len(x)):
            h = torch.tanh(W[t] * x[t] + h)
            hidden.append(h)
        loss = 0
        for h in hidden:
            loss += (h ** 2).sum()
        loss
    """,
}


def text(name: str) -> str:
    return textwrap.dedent(PROGRAMS[name]).strip()


def by_python(source: str, scope: dict[str, Any]) -> Any:
    """What the last statement gives, by Python itself: its expression, or what it prints or assigns."""
    *lines, last = source.split("\n")
    scope = {"torch": torch, "F": F, "math": math, "__name__": "__main__", **scope}
    exec("\n".join(lines), scope)
    return eval(last.removeprefix("print"), scope)


def flat(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [part for item in value for part in flat(item)]


def run(source: str, wrt: tuple[str, ...] = (), **scope: torch.Tensor) -> Evaluation:
    return evaluate(parse(source, (scope or SCOPE).keys()), scope or SCOPE, wrt=wrt)


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_pythons(name: str) -> None:
    source = text(name)
    leaves = {key: value.clone().requires_grad_() for key, value in SCOPE.items()}
    expected = flat(by_python(source, dict(leaves)))
    evaluation = run(source, wrt=tuple(SCOPE))
    found = list(evaluation.outputs.values())
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad([y.sum() for y in ys], list(xs.values()), allow_unused=True, materialize_grads=True)
        for ys, xs in ((expected, leaves), (found, {key: evaluation.inputs.get(key, leaves[key]) for key in leaves}))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_step_is_the_text_of_its_place(name: str) -> None:
    """Steps of loops and functions have their own line, and each turn's a slot of its own."""
    source = text(name)
    evaluation = run(source)
    slots = [step.slot for step in evaluation.tape]
    assert len(set(slots)) == len(slots)
    for step in evaluation.tape:
        assert not step.bodies
        assert source[slice(*step.span)].strip()
        assert step.kind in ("call", "builtin", "method", "attr", "op", "unpack")


@pytest.mark.parametrize(
    "pasted",
    [
        ">>> y = x\n>>> for i in range(2):\n...     y = y * x\n...\n>>> y\ntensor([1., 8.])\n>>> y.sum()\ntensor(9.)",
        "In [1]: y = x\n\nIn [2]: for i in range(2):\n   ...:     y = y * x\n   ...:\n\nIn [3]: y.sum()\nOut[3]: tensor(9.)",
        "    y = x\n    for i in range(2):\n        y = y * x\n\n    y.sum()\n",
        "In [1]:\ny = x\nfor i in range(2):\n    y = y * x\n\ny\nOut[1]:\ntensor([1., 8.])\n\n"
        "In [2]:\ny.sum()\n\nOut[2]:\ntensor(9.)",
        "y = x\n    for i in range(2):\n        y = y * x  # a comment\n    # and another\n    y.sum()",
    ],
)
def test_sessions_and_indented_texts(pasted: str) -> None:
    torch.testing.assert_close(run(pasted, x=X).outputs["out"], (X**3).sum())


REFUSED = [
    ("class A(dict):\n    pass\nA(x)", ForbiddenError, "class A(dict):", "Only Python can run the class `A` on line 1."),
    ("y = x\ntry:\n    y = x\nfinally:\n    pass\ny", ForbiddenError, "try:", "`try` is not part of the language."),
    ("with open('a') as f:\n    pass\nx", ForbiddenError, "open('a')", "Only torch.enable_grad"),
    ("with torch.no_grad() as g:\n    pass\nx", ForbiddenError, "torch.no_grad()", "Only torch.enable_grad"),
    ("@torch.jit.ignore\ndef f(t):\n    return t\nf(x)", ForbiddenError, "torch.jit.ignore",
     "This decorator can't be carried out"),
    ("def f(t):\n    return t",
     ExpressionSyntaxError, "def f(t):", "The program ends where `f` is defined, and nothing calls it."),
    ("lambda t: t**2", ExpressionSyntaxError, "lambda t: t**2", "The result is a function, and nothing calls it."),
    ("x, torch.func.grad(torch.sin)", ExpressionSyntaxError, "torch.func.grad(torch.sin)", "The result is a function"),
    ("def f(t):\n    return t\nx\nf", ExpressionSyntaxError, "def f(t):\n    return t", "The result is a function"),
    ("for i in range(3):\n    print(i)", ExpressionSyntaxError, "for i in range(3):", "The program ends with a statement that"),
    ("return x", ExpressionSyntaxError, "return x", "`return` stands outside of a function."),
    ("if x.sum() > 0:\n    break\nx", ExpressionSyntaxError, "break", "`break` stands outside of a loop."),
    ("for i in x:\n    def f(t):\n        continue\nx",
     ExpressionSyntaxError, "continue", "`continue` stands outside of a loop."),
    ("def f(t):\n    nonlocal y\n    y = t\nf(x)", ForbiddenError, "nonlocal y", "`nonlocal` is not part of the language"),
    ("y = 1.\nz = x * 2\ndef f():\n    global y\n    y = 3.\nf()\nz * y", ForbiddenError, "global y",
     "`global` is not part of the language"),
    ("torch.func.grad(**{'func': torch.sin})(x)", ForbiddenError, "**{'func': torch.sin}", "`**` can't be used in a call."),
    ("for x.T in W:\n    pass\nx", ExpressionSyntaxError, "x.T", "A loop's variable must be a name"),
    ("for k in x:\n    s = f'{k}'\ntorch.einsum(s, x)", ForbiddenError, "s", "Text can't be formatted inside an expression."),
    ("async def f():\n    pass\nx", ForbiddenError, "async def f():", "`async` is not part of the language."),
    ("def f(t):\n    yield t\nf(x)", ForbiddenError, "yield t", "`yield` is not part of the language."),
    ("import os\nos.system('ls')\nx", (ForbiddenError, UnknownNameError), "os.system", None),
    ("from os import system as sin\nsin('ls')", (ForbiddenError, UnknownNameError), "sin", None),
]


@pytest.mark.parametrize(("source", "kind", "guilty", "message"), REFUSED)
def test_what_cannot_be_read_is_named_itself(source: str, kind: Any, guilty: str, message: str | None) -> None:
    with pytest.raises(kind) as caught:
        run(source)
    assert caught.value.span is not None
    assert source[slice(*caught.value.span)] == guilty
    assert message is None or caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("lambda t: t**2", "Give what it computes: t ** 2"),
        ("f = lambda t: (t +\n  1)", "Give what it computes: t + 1"),
        ("def f(a, b=2):\n    return a * b\nf", "Call it: f(a, b)"),
        ("torch.func.jacrev(torch.sin)", "Call it: torch.func.jacrev(torch.sin)(x)"),
    ],
)
def test_a_function_that_nothing_calls_comes_with_what_to_write(source: str, hint: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        run(source)
    assert list(caught.value.hints) == [hint]


def test_a_name_that_may_stand_for_a_function_is_one_where_it_does() -> None:
    given = "f = lambda t: t**2\nif x.sum() < 0:\n    f = f(x)\nf"
    torch.testing.assert_close(run(given, x=-X).outputs["f"], X**2)


FAILING = [
    ("if x.sum() > 100:\n    y = x\ny", "y", "`y` has no value here."),
    ("def f(a, b):\n    return a\nf(x)", "f(x)", "`f` needs a value for `b`."),
    ("def f(a):\n    return a\nf(x, x)", "f(x, x)", "`f` takes 1 positional argument, and 2 were given."),
    ("def f(a):\n    return a\nf(x, a=x)", "f(x, a=x)", "`f` is given `a` twice."),
    ("def f(a):\n    return a\nf(b=x)", "f(b=x)", "`f` has no parameter `b`."),
    ("def f(a, /):\n    return a\nf(a=x)", "f(a=x)", "`f` has no parameter `a`."),
    ("f = lambda t: t\ny = x\ny(x)", "y(x)", "A tensor of shape (4,) can't be called."),
    ("def f(t):\n    raise ValueError('no')\nf(x)", "raise ValueError('no')", "The program raises an error here"),
    ("a = []\na.pop()\nx", "a.pop()", "A list of 0 items has no item -1 to take out."),
    ("a = [x]\na.append(x)\na[5] = x\nx", "a[5]", "A list of 2 items has no item 5."),
    ("y = x\ny.append(x)", "y.append(x)", "`.append` can't be used on a tensor of shape (4,)."),
    ("f = lambda t: t\nf(**x)", "f(**x)", "What follows `**` in a call must be a dictionary."),
    ("f = lambda t: t\nf(**{'t': x}, **{'t': x})", "f(**{'t': x}, **{'t': x})", "`t` is given twice."),
    ("f = lambda t: t\nf(**{'t.weight': x})", "f(**{'t.weight': x})",
     "The keys of a dictionary that follows `**` must be names."),
    ("d = {'a': x, 2: x}\nd['b']", "d['b']", "The dictionary has no 'b'; its keys are 'a', 2."),
    ("d = {x: 1}\nx", "{x: 1}", "A key is text, a number or a tuple of such here, and this is a tensor of shape (4,)."),
    ("d = {'a': x}\nd.append(x)", "d.append(x)", "`.append` can't be used on a dictionary."),
    ("d = [x]\nd.keys()", "d.keys()", "`.keys` can't be used on a list."),
    ("d = {'a': x}\ntorch.stack(d)", "torch.stack(d)", "A dictionary can't stand here: what it holds is taken by its keys"),
    ("d = dict([x])", "dict([x])", "A dictionary is made of pairs of a key and a value."),
    ("torch.manual_seed(2**64)\nx", "torch.manual_seed(2**64)", "A seed is a whole number"),
    ("torch.manual_seed(x)\nx", "torch.manual_seed(x)", "A seed is a whole number"),
    ("y = x * 2\ndel y\ny", "y", "`y` has no value here."),
    ("a = [x]\ndel a[3]\nx", "a[3]", "A list of 1 items has no item 3 to take out."),
    ("def f(t):\n    return t.reshape(3)\nf(x)", "t.reshape(3)", "The shapes in `reshape` don't fit"),
    ("y = x * 1\nwith torch.no_grad():\n    y += 1\ny", "y += 1", "`y` is changed in place where autograd does not see it."),
]


@pytest.mark.parametrize(("source", "guilty", "message"), FAILING)
def test_failures_have_their_own_place(source: str, guilty: str, message: str) -> None:
    with pytest.raises(JvpError) as caught:
        run(source, wrt=("x",))
    assert caught.value.message.startswith(message)
    if guilty != "y":
        assert caught.value.span is not None
        assert source[slice(*caught.value.span)] == guilty


ENDLESS = [
    "while True:\n    pass\nx",
    "while True:\n    x = x * 1.0\nx",
    "def f(t):\n    return f(t)\nf(x)",
    "def f(t):\n    return f(f(t))\nf(x)",
    "f = lambda g: g(g)\nf(f)",
    "def f(t):\n    for k in range(100000):\n        for j in range(100000):\n            pass\n    return t\nf(x)",
    "a = [x]\nfor i in range(1000):\n    a = [a, a]\na",
    "a = [x]\nfor i in range(1000):\n    a = [a]\nlen(a) * x",
    "a = [x]\na.append(a)\nsum(a)",
    "a = [x]\na.append(a)\na",
    "a = [x]\nwhile True:\n    a += a\nx",
    "a = []\nwhile True:\n    a.append(0)\nx",
    "n = 2\nwhile True:\n    n *= n\nx",
    "n = 2\nwhile True:\n    n **= 2\nx",
    "n = 1\nwhile True:\n    n <<= 100\nx",
    "a = [0] * 100000\nwhile True:\n    a.insert(0, 1)\nx",
    "a = [0] * 100000\nwhile True:\n    a.copy()\nx",
    "def f(*a):\n    return f(*a, *a)\nf(x)",
    "n = 0\nfor k in range(50000):\n    " + "n = n + 1; m = n; " * 100 + "\nx * n",
    "def f(g, n):\n    return lambda t: f(g, n + 1)(t)\nf(x, 0)(x)",
    "d = {}\nn = 0\nwhile True:\n    d[n] = n\n    n += 1\nx",
    "d = {}\nwhile True:\n    d = {**d, len(d): d}\nx",
    "d = {}\nwhile True:\n    d.update({len(d): 0})\n    e = d.copy()\nx",
    "d = {k: k for k in range(10**9)}\nx",
    "d = {k * (2**61 - 1): 0 for k in range(90000)}\nx",
    "d = {}\nfor k in range(90000):\n    d.setdefault(k * (2**61 - 1), 0)\nx",
    "def f(**k):\n    return f(a=k)\nf()",
    "def f(t):\n    nonlocal_ = t\n    return f(**{'t': nonlocal_})\nf(x)",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_what_does_not_end_is_a_limit(source: str) -> None:
    with pytest.raises(LimitError) as caught:
        run(source)
    assert caught.value.message.endswith(".")


BREAKING_OUT = [
    "f = lambda t: t\nf.__globals__", "f = lambda t: t\nf.__code__", "f = lambda t: t\nf.around", "f = lambda t: t\nf.equation",
    "def f(t):\n    return t\nf.__class__", "def f(t):\n    return t\nf.name", "a = []\na.append.__self__", "a = []\na.items",
    "a = []\na.__class__", "a = [x]\na.append(x)\na.sort()", "f = torch.sin\nf.__module__\n(lambda: x)()",
    "f = torch.load\n(lambda: x)()",
    "(lambda t: t.__class__)(x)", "(lambda t=torch.os: t)()", "(lambda t: t.numpy())(x)", "f = lambda torch: torch.os\nf(x)",
    "def torch(t):\n    return t\ntorch(x)", "def f(t=open('a')):\n    return t\nf()",
    "def __init__(t):\n    return t\n__init__(x)",
    "import os\n(lambda: os)()", "import os\nf = lambda: os.system('ls')\nf()", "from torch import load\nload('a')\n",
    "from torch import os\nos.remove('a')", "import torch as t\nt.os.remove('a')", "import torch.os as q\nq.remove('a')",
    "import builtins as b\nb.eval('1')", "from builtins import eval\neval('1')", "from torch import *\nload('a')",
    "import torch.nn.functional as F\nF.torch.os.remove('a')", "f = lambda: x\nf = f.__call__\nf()",
    "eval = lambda t: t\nprint(eval(x))\n__import__('os')",
    "[f for f in [lambda: x]][0].__closure__", "(lambda *a: a)(x).__class__", "def f():\n    return f\nf().__dict__",
    "exec = torch.sin\n(lambda: exec.__self__)()", "for torch in [x]:\n    pass\nx", "for __x__ in [x]:\n    pass\nx",
    "def f(__x__):\n    return x\nf(x)", "lambda __class__: x",
    "d = {}\nd.__class__", "d = {}\nd.keys.__self__", "d = {'a': x}\nd.entries", "dict.__subclasses__()", "dict.fromkeys",
    "{}.__class__",
    "x.sum(**{'__class__': 1})", "torch.sum(x, **{'out': x})", "torch.zeros(3, **{'requires_grad': True})",
    "d = {'a': x}\nd.fromkeys(x)",
    "f = lambda **k: k\nf(out=x)", "(torch := x)", "(__class__ := x)", "def f():\n    global torch\n    torch = x\nf()",
    "def f():\n    global __builtins__\n    __builtins__ = x\nf()", "@open\ndef f(t):\n    return t\nf('a')",
    "@torch.load\ndef f(t):\n    return t\nf", "del torch.sin\nx", "del x.data\nx", "x.to(**{'device': 'meta'})",
    "f = torch.zeros\nf(3, **{'out': x})", "d = {'f': torch.load}\nx", "f = torch.load\nf('a')",
    "F.dropout(x, **{'_stacklevel': 3}, __class__=1)",
]  # fmt: skip


@pytest.mark.parametrize("source", BREAKING_OUT)
def test_nothing_can_be_reached(source: str) -> None:
    with pytest.raises(JvpError) as caught:
        evaluate(parse(source), {"x": X})
    assert caught.value.code in ("forbidden", "unknown_name", "syntax", "not_differentiable", "evaluation"), caught.value.message


FUNCTIONS_AS_VALUES = [
    "f = lambda t: t\ntorch.sin(f)", "f = lambda t: t\ntorch.stack([f])", "f = lambda t: t\nx + f", "f = lambda t: t\nx[f]",
    "f = lambda t: t\nlen(f)", "f = lambda t: t\nmax(x, key=f)", "f = lambda t: t\nx.apply_(f)", "f = lambda t: t\nlist(f)",
    "f = lambda t: t\nf", "f = torch.sin\ng = lambda: 0\nf", "f = lambda t: t\nx.index_put(f, x)",

    "f = lambda t: t\nf + f", "f = lambda t: t\ny = x.clone()\ny[0] = f\ny", "f = lambda t: t\ntorch.tensor(f)",
    "f = lambda t: t\nf.sum()",
    "f = lambda t: t\ntorch.tensor([[f]])", "f = lambda t: t\ntorch.as_tensor(f)",
    "f = lambda t: t\nF.triplet_margin_with_distance_loss(x, x, x, distance_function=f)",
]  # fmt: skip


@pytest.mark.parametrize("source", FUNCTIONS_AS_VALUES)
def test_a_function_is_no_argument_of_torchs(source: str) -> None:
    with pytest.raises(JvpError):
        evaluate(parse(source), {"x": X})


def test_under_no_grad_the_graph_ends() -> None:
    evaluation = run("with torch.no_grad():\n    k = x * 2\nk * x", wrt=("x",), x=X)
    (gradient,) = torch.autograd.grad(evaluation.outputs["y"].sum(), evaluation.inputs["x"])
    torch.testing.assert_close(gradient, X * 2)
    assert [step.recorded for step in evaluation.tape] == [False, True]


def test_an_unset_name_in_a_function() -> None:
    with pytest.raises(EvaluationError, match="has no value here"):
        run("def f(t):\n    if t.sum() > 100:\n        z = t\n    return z\nf(x)")
