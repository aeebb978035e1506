"""`--import FILE.py`: the user's own code in expressions, whatever it does; none of it runs without the option."""

from __future__ import annotations

import json

import pytest

MODEL = """
import torch
from torch import nn

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.w * self.calls


counting = Counting()


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def weighted(x):
    return (x * counting.w).sum()
"""


@pytest.fixture
def written(tmp_path):
    """Writes a file and gives its path."""

    def write(text, name="own.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("expression", "wrt", "expected"),
    [
        ("counting(x)", "x,counting.w", {"x": [3, 4], "counting.w": [1, 2]}),  # the buffer counts one call, always
        ("weighted(x)", "counting.w", {"counting.w": [1, 2]}),
        ("Square.apply(x)", "x", {"x": [2, 4]}),
        ("torch.outer(Square.apply(x), x).sum()", None, {"x": [11, 17]}),
    ],
)
def test_own_functions_and_modules(jvp, written, expression, wrt, expected):
    path, more = written(MODEL), [] if wrt is None else ["--wrt", wrt]
    for command in ("inspect", "trace"):
        done = jvp(command, expression, "--import", path, "--x", "1,2", *more, "--json")
        vjp = json.loads(done.out)["vjp"]
        assert (done.code, {name: entry["value"] for name, entry in vjp.items()}) == (0, expected)
    assert jvp("check", expression, "--import", path, "--x", "1,2", *more).code == 0


def test_parameters_by_dotted_names(jvp, written):
    done = jvp("inspect", "net(x)", "--import", written(MODEL), "--x", "1,2", "--wrt", "x,net.0.weight", "--json")
    document = json.loads(done.out)
    assert document["jacobian"]["y"]["net.0.weight"]["shape"] == [1, 3, 2]
    assert list(document["vjp"]) == ["x", "net.0.weight"]


HOSTILE = [
    # what the file says, the expression, exit code, words of the message
    ("def f(x):\n    return x *\n", "f(x)", 2, "line 2: SyntaxError: invalid syntax"),
    ("raise RuntimeError('no good')\n", "f(x)", 2, "line 1: RuntimeError: no good"),
    ("import nowhere_at_all\n", "f(x)", 2, "No module named 'nowhere_at_all'"),
    ("import sys\nsys.exit(0)\n", "f(x)", 2, "line 2: SystemExit: 0"),
    ("import sys\ndef f(x):\n    sys.exit(0)\n", "f(x)", 5, "line 3: SystemExit: 0"),
    ("def f(x):\n    return f(x)\n", "f(x)", 5, "RecursionError"),
    ("def f(x):\n    return x.nope\n", "f(x)", 5, "line 2: AttributeError"),
    ("def f(x, w):\n    return x\n", "f(x)", 5, "missing 1 required positional argument"),
    ("def f(x):\n    return {'a': x}\n", "f(x)", 5, "`f` returns a dict"),
    ("def f(x):\n    return x.detach().numpy()\n", "f(x)", 5, "`f` returns a ndarray"),
    ("def f(x):\n    return 3\n", "f(x)", 6, "plain number 3"),
    ("def f(x):\n    return None\n", "f(x)", 6, "gives None"),
    ("def f(x):\n    x.mul_(2)\n    return x\n", "f(x)", 5, "line 2: RuntimeError: a leaf Variable"),
    ("def f(x):\n    x.data.mul_(2)\n    return x\n", "f(x)", 5, "changes `x` in place"),
    ("g = 3\n", "f(x)", 3, "no function `f`"),
    ("_f = abs\n", "_f(x)", 3, "_f"),
    ("from torch.autograd import Function\nclass B(Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x\n"
     "    @staticmethod\n    def backward(ctx, g):\n        raise SystemExit\n", "B.apply(x)", 5, "line 8: SystemExit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expression", "code", "words"), HOSTILE)
def test_what_own_code_does_wrong_is_told(jvp, written, text, expression, code, words):
    for command in ("inspect", "trace", "check"):
        done = jvp(command, expression, "--import", written(text), "--x", "1,2", "--json")
        document = json.loads(done.out)
        assert (done.code, document["ok"]) == (code, False), done
        assert words in document["error"]["message"]


def test_a_file_that_is_not_there(jvp, written):
    for path in ("missing.py", "."):
        assert jvp("inspect", "f(x)", "--import", path, "--x", "1").code == 2
    done = jvp("inspect", "f(x)", "--import", written("f = abs", "own.txt"), "--x", "1", "--json")
    assert (done.code, json.loads(done.out)["error"]["hints"]) == (2, ["--import takes a file that ends in .py."])


def test_global_state(jvp, written):
    counter = written("N = 0\ndef f(x):\n    global N\n    N += 1\n    return x * N\n")
    assert '"nondeterministic"' in jvp("check", "f(x)", "--import", counter, "--x", "1,2", "--json").out
    inference = written("import torch\ntorch.set_grad_enabled(False)\ndef f(x):\n    return x**2\n")
    assert jvp("check", "f(x)", "--import", inference, "--x", "1,2").code == 0


def test_prints_do_not_reach_stdout(shell, written):
    path = written(
        "import os, subprocess\nprint('one', flush=True)\nos.write(1, b'two\\n')\nsubprocess.run(['echo', 'three'])\n"
        "def f(x):\n    print('four')\n    return x * 2\n"
    )
    done = shell(f"jvp inspect 'f(x)' --import {path} --x 1,2 --json")
    assert json.loads(done.out)["vjp"]["x"]["value"] == [2, 2]
    assert all(word in done.err for word in ("one", "two", "three", "four"))


def test_no_own_code_runs_without_the_option(jvp, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    for name in ("own.py", "torch_plugin.py", "sitecustomize.py", "conftest.py", "ops.py", "numpy.py"):
        (tmp_path / name).write_text(f"open({str(ran)!r}, 'w')\ndef f(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    assert jvp("inspect", "f(x)", "--x", "1,2").code == 3
    assert jvp("inspect", "own.f(x)", "--x", "1,2").code == 3
    line = '{"expression": "f(x)", "inputs": {"x": [1]}, "import": ["own.py"]}'
    assert "no field `import`" in jvp("batch", "-", stdin=line).out
    assert jvp("batch", "-", "--import", "own.py", stdin="").code == 2
    assert not ran.exists()


def test_the_help_says_that_code_runs(jvp):
    for command in ("inspect", "trace", "check"):
        text = " ".join(jvp(command, "--help").out.split())
        assert "Runs this file of yours" in text
        assert "No other code of yours ever runs" in text
