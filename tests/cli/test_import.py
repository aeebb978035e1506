"""`--import FILE.py`: the user's own code in expressions, whatever it does; none of it runs without the option."""

from __future__ import annotations

import json
import re

import pytest
import torch

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
    ("def f(x):\n    return {x}\n", "f(x)", 5, "`f` returns a set"),
    ("def f(x):\n    return {'a': x}\n", "f(x).b", 3, "`.b` can't be read from the dict, which has [\"a\"]"),
    ("def f(x):\n    return {'a': x}\n", "f(x)['b']", 5, "no item 'b' in the dict, which has [\"a\"]"),
    ("def f(x):\n    return {'a': x}\n", "f(x)['__class__']", 5, "no item '__class__'"),
    ("def f(x):\n    return {'a': x}\n", "f(x).__class__", 3, "names that begin with an underscore"),
    ("def f(x):\n    return {'a': x}\n", "torch.sin(f(x))", 5, "This is the dict, which has [\"a\"]: use one of those."),
    ("def f(x):\n    return {'a': x}\n", "f(f(x))", 5, "use one of those"),
    ("def f(x):\n    return {'a': x}\n", "[a for a in f(x)]", 5, "has no items to go through"),
    ("def f(x):\n    return {'a': 3}\n", "f(x)", 6, "plain number 3"),
    ("def f(x):\n    return x\n", "f(x).nope", 3, "A tensor has no `.nope`"),
    ("def f(x):\n    return x.to('meta')\n", "f(x)", 5, "on the device meta, which has a shape and no numbers"),
    ("def f(x):\n    return x.detach().numpy()\n", "f(x)", 5, "`f` returns a ndarray"),
    ("def f(x):\n    return 3\n", "f(x)", 6, "plain number 3"),
    ("def f(x):\n    return None\n", "f(x)", 6, "gives None"),
    ("def f(x):\n    x.mul_(2)\n    return x\n", "f(x)", 5, "line 2: RuntimeError: a leaf Variable"),
    ("def f(x):\n    x.data.mul_(2)\n    return x\n", "f(x)", 5, "`x` is changed in place"),
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


def test_a_layer_that_does_not_fit_its_input_is_named(jvp, written):
    text = "from torch import nn\nnet = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(5, 1)))\n"
    error = json.loads(jvp("inspect", "net(x)", "--import", written(text), "--x", "1,2;3,4", "--json").out)["error"]
    assert error["explanation"].startswith("Linear 1.1 was made for in_features=5 and gets 3, the size of axis 1 of its input.")
    assert error["hints"] == ["in_features=3 where the Linear is made, or 5 features from the step before it"]
    assert error["causes"] == error["cures"] == []


@pytest.mark.parametrize(
    ("expression", "path", "titles"),
    [
        ("deep(x)", "inner.1", ["deep.inner.1"]),
        ("net(x)", "net.1", ["net.1"]),
        ("net(x)", "net", ["net.0", "net.1", "y"]),
        ("deep(x)", "deep.inner.0", ["deep.inner.0"]),
        ("deep.inner(x) + 1", "deep.inner.1", ["deep.inner.1"]),
        ("deep.inner(x) + 1", "deep.inner.7", None),
    ],
)
def test_steps_of_a_module_by_its_path_with_the_net_s_name_or_without(jvp, written, expression, path, titles):
    more = "deep = nn.ModuleDict({'inner': net})\ndeep.forward = lambda x: deep['inner'](x)\n"
    asked = expression, "--import", written(MODEL + more), "--x", "1,2"
    outcome = jvp("trace", *asked, "--step", path)
    if titles is None:
        assert outcome.code == 2
        assert f"there is no module {path!r} among the steps" in outcome.err
        return
    steps = json.loads(jvp("trace", *asked, "--json").out)["steps"]
    assert [step["source"] for step in steps if step.get("module")] == [f"{titles[0].rpartition('.')[0]}.{k}" for k in range(3)]
    backward = outcome.out.partition("Backward pass")[2]
    assert re.findall(r"^ +\d+ +(\S+)", backward, re.MULTILINE)[::-1] == titles  # the last step stands first


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


NAMED = """
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
import torch

Pair = namedtuple("Pair", "first second")


@dataclass
class Result:
    logits: torch.Tensor
    loss: torch.Tensor
    step: int = 7
    cache: object = None


class Output(OrderedDict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def as_dict(x):
    return {"logits": x**2, "rest": (x.sum(), {"deep": x * 3}), "note": "text", 0: x.exp()}


def as_dataclass(x):
    return Result(x**2, x.sum(), cache=open)


def as_output(x):
    return Output(logits=x**2, loss=x.sum())


def as_pair(x):
    return Pair(x**2, x.sum())


def several(x):
    return x**2, None, "text", x.sum()


def sparse(x):
    return {"y": torch.diag(x).to_sparse()}
"""

SQUARE, SUM = "x**2", "x.sum()"


@pytest.mark.parametrize(
    ("expression", "same", "left_out"),
    [
        ("as_dict(x)['logits']", {"y": SQUARE}, []),
        ("as_dict(x)['rest'][1]['deep'] * 2", {"y": "x * 6"}, []),
        ("as_dict(x)[0]", {"y": "x.exp()"}, []),
        ("as_dataclass(x).logits.sum()", {"y": f"({SQUARE}).sum()"}, []),
        ("h = as_dataclass(x); h.logits * h.loss * h.step", {"y": f"{SQUARE} * {SUM} * 7"}, []),
        ("as_output(x).logits + as_output(x)['loss']", {"y": f"{SQUARE} + {SUM}"}, []),
        ("a, b = as_pair(x); a * b", {"y": f"{SQUARE} * {SUM}"}, []),
        ("as_pair(x).second", {"y": SUM}, []),
        ("def f(z):\n    return as_dict(z)['logits'].sum()\nf(x * 2)", {"y": "(4 * x**2).sum()"}, []),
        ("as_dict(x)",
         {'y["logits"]': SQUARE, 'y["rest"][0]': SUM, 'y["rest"][1]["deep"]': "x * 3", "y[0]": "x.exp()"}, ['y["note"]']),
        ("as_dataclass(x)", {"y.logits": SQUARE, "y.loss": SUM}, ["y.step", "y.cache"]),
        ("out = as_output(x)", {"out.logits": SQUARE, "out.loss": SUM}, []),
        ("as_pair(x)", {"y.first": SQUARE, "y.second": SUM}, []),
        ("several(x)", {"y0": SQUARE, "y1": SUM}, ["y[2]"]),
        ("as_dict(x)['rest'], x * 2", {"y0[0]": SUM, 'y0[1]["deep"]': "x * 3", "y1": "x * 2"}, []),
        ("sparse(x)['y']", {"y": "torch.diag(x)"}, []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["inspect", "trace", "check"])
def test_named_parts_of_results(jvp, written, command, expression, same, left_out):
    """Each part is what the function computes it by; what is no tensor is left out, and said so."""
    arguments = ("--x", "1,2,3", "--dtype", "float64", "--json")
    found = json.loads(jvp(command, expression, "--import", written(NAMED), *arguments).out)
    plain = json.loads(jvp(command, f"{', '.join(same.values())}", *arguments).out)
    assert found["ok"], found
    if command == "check":
        assert found["passed"]
        return
    assert list(found["outputs"]) == list(same)
    values = [each["value"] for each in plain["outputs"].values()]
    assert [each["value"] for each in found["outputs"].values()] == values
    assert found["vjp"]["x"]["value"] == pytest.approx(plain["vjp"]["x"]["value"])
    if command == "inspect":
        told = [each["message"] for each in found["warnings"] if each["claim"] == "no_tensor"]
        assert [message.partition(" is ")[0] for message in told] == left_out
        assert [each["x"]["structure"] for each in found["jacobian"].values()] != []


def test_cotangents_by_the_names_of_parts(jvp, written):
    weights = ("-g", 'o["logits"]=1,10,100', "-g", 'o["rest"][0]=2', "-g", 'o["rest"][1]["deep"]=none', "-g", "o[0]=none")
    found = json.loads(jvp("inspect", "o = as_dict(x)", "--import", written(NAMED), "--x", "1,2,3", *weights, "--json").out)
    assert found["vjp"]["x"]["value"] == [2 * 1 + 2, 2 * 2 * 10 + 2, 2 * 3 * 100 + 2]


NET = """
import torch
from torch import nn

torch.manual_seed(3)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 1))])
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 2)})
        self.ids = nn.Embedding(4, 2)

    def forward(self, x, scale=1.0, *, mask=None):
        h = self.layers[1](self.layers[0](x))
        return (h if mask is None else h * mask) * scale


net = Net()
other = nn.Linear(2, 2)
"""


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("net.layers[0](x)", "net.layers.0(x)"),
        ("net.layers.1.1(net.layers.0(x)) * 1.5", "net.layers[1][1](net.layers[0](x)) * 1.5"),
        ("net.layers[-1][-1](net.layers[-2](x))", "net.layers[1][1](net.layers[0](x))"),
        ('net.heads["a"](x)', "net.heads.a(x)"),
        ("é = net.layers.0(x); net.layers.1(é)", "net(x)"),
        ("net(x, scale=2.0, mask=x[:, :1])", "net(x) * 2 * x[:, :1]"),
    ],
)
def test_submodules_by_number(jvp, written, expression, same):
    arguments = ("--import", written(NET), "--x", "1,2;3,4;5,6", "--wrt", "x,*.weight", "--json")
    found, expected = (json.loads(jvp("inspect", text, *arguments).out) for text in (expression, same))
    assert found["ok"], found
    assert found["vjp"].items() <= expected["vjp"].items()
    assert set(found["vjp"]) > {"x"}
    assert not any(name.startswith("other") for name in found["vjp"])


@pytest.mark.parametrize(
    ("expression", "options", "code", "message", "hint"),
    [
        ("net.layers[7](x)", (), 3, "There is no `net.layers.7` to call.", "Did you mean net.layers.1?"),
        ("x.0", (), 3, "Invalid syntax.", None),
        ("net.layers[0](x)", ("--wrt", "net.layers.0.wieght"), 2, "the inputs are x; the parameters are net.layers.0.weight,",
         "Did you mean net.layers.0.weight?"),
        ("net.layers[0](x)", ("--wrt", "*.nothing"), 2, "--wrt names '*.nothing', which is not an input", None),
        ("net.ids(torch.tensor([1, 2])) + i", (), 6, "there is nothing to differentiate: i is int64", 'jvp inspect "net.ids('),
    ],
)  # fmt: skip
def test_what_is_not_there(jvp, written, expression, options, code, message, hint):
    given = ("--i", "torch.tensor([1, 2])") if "i" in expression.split() else ("--x", "1,2;3,4")
    found = jvp("inspect", expression, "--import", written(NET), *given, *options, "--json")
    assert found.code == code
    assert message in json.loads(found.out)["error"]["message"]
    assert hint is None or any(each.startswith(hint) for each in json.loads(found.out)["error"]["hints"])


AGAIN = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)


class Growth(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.5))

    def forward(self, y):
        return self.a * y


growth = Growth()


def solved(y):
    for _ in range(4):
        y = y + growth(y) / 4
    return y


class Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, *parameters):
        ctx.save_for_backward(y)
        ctx.parameters = parameters
        return solved(y)

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            y = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(solved(y), (y, *ctx.parameters), g)


def adjoint(y):
    return Adjoint.apply(y, *growth.parameters())


def nested(y):
    return torch.tanh(adjoint(2 * y))


net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.BatchNorm1d(3))


def stored(y):
    return checkpoint(net, y, use_reentrant=False)


first, second = nn.Linear(2, 2), nn.Linear(2, 2)
second.weight = first.weight


def tied(y):
    return second(torch.tanh(first(y)))
"""

PLAIN = {
    "adjoint(y)": lambda y, a: y * (1 + a / 4) ** 4,
    "nested(y)": lambda y, a: torch.tanh(2 * y * (1 + a / 4) ** 4),
}


@pytest.mark.parametrize("expression", PLAIN)
def test_a_module_that_runs_again_in_backward_has_the_parameters_that_are_asked_about(jvp, written, expression):
    """The closed form of four Euler steps, differentiated by torch in double precision."""
    path, y = written(AGAIN), [1.0, -0.25]
    values = torch.tensor(y, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    by_y, by_a = torch.autograd.functional.jacobian(PLAIN[expression], values)
    more = ("--import", path, "--y", "1,-0.25", "--wrt", "y,growth.a", "--json")
    document = json.loads(jvp("inspect", expression, *more).out)
    assert "jacobian" in document, document
    (jacobian,) = document["jacobian"].values()
    torch.testing.assert_close(torch.tensor(jacobian["y"]["value"]), by_y.float())
    torch.testing.assert_close(torch.tensor(jacobian["growth.a"]["value"]), by_a.float())
    for command in ("inspect", "trace"):
        vjp = json.loads(jvp(command, expression, *more).out)["vjp"]
        torch.testing.assert_close(torch.tensor(vjp["growth.a"]["value"]), by_a.sum().float())
    checked = json.loads(jvp("check", expression, *more).out)
    assert (checked["verdict"], checked["max_error"] < 1e-8) == ("pass", True)


def test_a_checkpointed_module_in_every_answer(jvp, written):
    """Its batch norm couples the samples, and counts its runs; double precision goes through the checkpoint too."""
    path = written(AGAIN)
    given = ("--import", path, "--y", "1,2;0.5,-1;3,0", "--wrt", "net.0.weight,net.2.weight", "--json")
    documents = {
        expression: {c: json.loads(jvp(c, expression, *given).out) for c in ("inspect", "trace", "check", "hessian")}
        for expression in ("stored(y)", "net(y)")
    }
    for command, plain in documents["net(y)"].items():
        stored = documents["stored(y)"][command]
        assert stored["ok"], stored
        if command == "check":
            assert stored["verdict"] == "pass"
        else:
            for name, entry in plain["vjp" if command != "hessian" else "gradient"].items():
                found = stored["vjp" if command != "hessian" else "gradient"][name]
                torch.testing.assert_close(torch.tensor(found["value"]), torch.tensor(entry["value"]))
    for x, row in documents["net(y)"]["hessian"]["hessian"].items():
        for w, entry in row.items():
            found = documents["stored(y)"]["hessian"]["hessian"][x][w]
            torch.testing.assert_close(torch.tensor(found["value"]), torch.tensor(entry["value"]))


@pytest.mark.parametrize("command", ["inspect", "trace", "check", "hessian"])
@pytest.mark.parametrize(("wrt", "kept", "other"), [
    ("first.weight,second.weight", "first.weight", "second.weight"),
    ("second.weight,first.bias,first.weight", "second.weight", "first.weight"),
])  # fmt: skip
def test_tied_parameters_are_one(jvp, written, command, wrt, kept, other):
    path = written(AGAIN)
    document = json.loads(jvp(command, "tied(y)", "--import", path, "--y", "1,2", "--wrt", wrt, "--json").out)
    assert [w["message"] for w in document["warnings"] if w["code"] == "tied"] == [
        f"{other} is the same parameter as {kept}: what stands under {kept} is the derivative by both together"
    ]
    if command == "inspect":
        torch.manual_seed(0)
        alone = json.loads(jvp("inspect", "tied(y)", "--import", path, "--y", "1,2", "--wrt", other, "--json").out)
        assert document["vjp"][kept] == alone["vjp"][other]
        assert other not in document["inputs"]
        assert not [w for w in alone["warnings"] if w["code"] == "tied"]


def test_tied_parameters_sum_their_places(jvp, written):
    """What stands under the one name is the sum of the partial derivatives by the two places."""
    torch.manual_seed(0)
    namespace = {}
    exec(AGAIN, namespace)
    first, second, y = namespace["first"], namespace["second"], torch.tensor([1.0, 2.0])

    def places(a, b):
        return torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(y, a, first.bias)), b, second.bias)

    parts = torch.autograd.functional.jacobian(places, (first.weight, first.weight))
    given = ("--import", written(AGAIN), "--y", "1,2", "--wrt", "first.weight,second.weight", "--json")
    found = json.loads(jvp("inspect", "tied(y)", *given).out)["jacobian"]["out"]["first.weight"]["value"]
    torch.testing.assert_close(torch.tensor(found), parts[0] + parts[1])

