"""What of a text as it was copied is its program, and what stays an error."""

from __future__ import annotations

import ast

import pytest

from jvpcli.errors import ExpressionSyntaxError
from jvpcli.language.source import read_source

COPIED = {
    "a fence of a page, and what it prints in another": (
        "Here it is:\n\n```python\ny = x * 2\nprint(y)\n```\nIt prints\n```\ntensor([2., 4.])\n```\n", "y = x * 2\nprint(y)"),
    "commands of a notebook": ("!pip install torch\n%matplotlib inline\ny = x % 2\n%timeit -n 10 y.sum()", "y = x % 2\ny.sum()"),
    "a traceback of Python's": (
        "y = x * 2\ny.backward()\n\nTraceback (most recent call last):\n  File \"a.py\", line 2, in <module>\n"
        "    y.backward()\nRuntimeError: grad can be implicitly created only for scalar outputs\n", "y = x * 2\ny.backward()"),
    "a traceback of IPython's": (
        "y.backward()\n" + "-" * 60 + "\nRuntimeError       Traceback (most recent call last)\n<ipython-input-3> in <module>\n"
        "----> 1 y.backward()\n\nRuntimeError: no such thing", "y.backward()"),
    "answers between": (
        "y = (x ** 2).sum()\nprint(y)\ntensor(5., grad_fn=<SumBackward0>)\ny.backward()\nx.grad\ntensor([[2.,\n         4.]])",
        "y = (x ** 2).sum()\nprint(y)\ny.backward()\nx.grad"),
    "answers that Python could read": ("y = x + 1\ny\ntensor([2., 3.])", "y = x + 1\ny"),
    "an answer by an older PyTorch, behind shorter prompts": (
        ">> y = x - 1\n>> y\nVariable containing:\n 1\n[torch.FloatTensor of size 1]", "y = x - 1\ny"),
    "lines behind > on a page": (
        "y = x * 2\n> y.sum().backward()\n> (x.grad)\ntensor([2.])", "y = x * 2\ny.sum().backward()\nx.grad"),
    "the print of Python 2": ("if x > 0:\n    print 'above', x  # so it is\nprint x.grad",
    "if x > 0:\n    print('above', x)\nprint(x.grad)"),
}  # fmt: skip

KEPT = {
    "tensor is a name here": "from torch import tensor\ntensor([1.0])",
    "a comparison": "y = (x\n< 3)",
    "a comparison with what is above it": "y = (x\n> three) * (x \\\n> four)",
    "a remainder": "y = (x\n% three)",
}


@pytest.mark.parametrize("name", COPIED)
def test_what_is_copied_along_is_left_out(name: str) -> None:
    text, program = COPIED[name]
    assert ast.unparse(read_source(text)[1]) == ast.unparse(ast.parse(program))


@pytest.mark.parametrize("name", KEPT)
def test_what_python_reads_is_left_as_it_is(name: str) -> None:
    assert ast.unparse(read_source(KEPT[name])[1]) == ast.unparse(ast.parse(KEPT[name]))


@pytest.mark.parametrize("text", ["2*x +", "2*x +\ny", "with torch.no_grad()\n    y = x", "(x + 1\ny = 3", "y = x $ 2\n3"])
def test_a_mistake_stays_one(text: str) -> None:
    with pytest.raises(ExpressionSyntaxError):
        read_source(text)
