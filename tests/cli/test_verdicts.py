"""`jvp check`: verdict, exit code, the worst entry with both numbers and the words, for cases with known answers."""

from __future__ import annotations

import json
import math

import pytest

OPS = '''
import random

import torch
from torch.autograd import Function


def operation(forward, backward):
    """An autograd.Function's apply, of plain functions."""
    return type("Op", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}).apply


def saving(function):
    def forward(ctx, *tensors):
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    return forward


def with_x(gradient):
    return lambda ctx, g: gradient(*ctx.saved_tensors, g)


def one_off(x, g):
    cosine = x.cos()
    cosine[..., 1] += 0.25
    return g * cosine


square = saving(lambda x: x**2)
factor = operation(square, with_x(lambda x, g: 3 * x * g))
right = operation(square, with_x(lambda x, g: 2 * x * g))
nan = operation(square, with_x(lambda x, g: g * x * torch.tensor([2.0, float("nan")], dtype=x.dtype)))
zero = operation(square, with_x(lambda x, g: torch.zeros_like(g)))
nothing = operation(square, with_x(lambda x, g: None))
transposed = operation(saving(lambda a, b: a @ b), with_x(lambda a, b, g: (g @ b, a.T @ g)))
missing = operation(saving(lambda x: x * x.sum()), with_x(lambda x, g: g * x.sum()))
one_entry = operation(saving(torch.sin), with_x(one_off))
averaged = operation(saving(lambda x, b: x + b), with_x(lambda x, b, g: (g, g.mean(0))))
too_many = operation(square, with_x(lambda x, g: (g, g)))
too_few = operation(saving(lambda x, w: x * w), with_x(lambda x, w, g: g))
misshapen = operation(square, with_x(lambda x, g: torch.ones(7)))
a_float = operation(square, with_x(lambda x, g: 3.0))

stale_value = []


def stale_forward(ctx, x):
    stale_value.append(x.clone())
    return x**2


stale = operation(stale_forward, lambda ctx, g: 2 * stale_value[0] * g)


class WrongJvp(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g

    @staticmethod
    def jvp(ctx, t):
        return ctx.saved_tensors[0] * t


wrong_jvp = WrongJvp.apply


def through_data(x):
    return x * x.data


def through_numpy(x):
    return x + torch.as_tensor(x.detach().numpy() ** 2)


def noisy(x):
    return x * random.random()


dropout = torch.nn.Dropout()
'''

PASS, KINK, PRECISION, BREAK, RANDOM, WRONG = (
    "pass", "kink", "precision", "graph_break", "nondeterministic", "wrong_backward"
)  # fmt: skip
NAN, INF = math.nan, math.inf

CASES = [
    # expression, options, verdict, [output index, input, input index, autograd's number, the true one], words
    ("torch.outer(x, x)", "--x 1,2,3,4", PASS, None, "agrees"),
    ("torch.tanh(x @ W)", "--x 1,2 --W 1,2,3;4,5,6", PASS, None, "agrees"),
    ("right(x)", "--x 1,2", PASS, None, "agrees"),
    ("(x.sum(), 2 * x, x.max())", "--x 1,2,3", PASS, None, "agrees"),
    ("torch.topk(x, 2)", "--x 1,5,3", PASS, None, "agrees"),
    ("x * i", "--x 1,2 --i torch.tensor([3,4])", PASS, None, "agrees"),
    ("torch.abs(z) ** 2", "--z 1+2j,3", PASS, None, "agrees"),
    ("x.sum()", "--x []", PASS, None, "agrees"),
    ("x**3", "--x 1e30 --dtype float64", PASS, None, "agrees"),
    ("x**2", "--x 1e-30,1", PASS, None, "agrees"),
    ("torch.log(x)", "--x 1e-30,1e-6", PASS, None, "agrees"),
    ("torch.acos(x)", "--x 0.99999999 --dtype float64", PASS, None, "agrees"),
    ("torch.linalg.cholesky(A)", "--A 1,1;1,1.000001 --dtype float64", PASS, None, "agrees"),
    ("torch.sin(100000 * x)", "--x 1.3 --dtype float64", PASS, None, "agrees"),
    ("torch.sin(x)", "--x 0.1,0.7 --dtype float16", PASS, None, "agrees"),
    ("F.softmax(x, 0)", "--x 1,2,3 --dtype bfloat16", PASS, None, "agrees"),
    ("x * (x > 2)", "--x 1,5,3", PASS, None, "agrees"),
    ("x[x.argmax()]", "--x 1,5,3", PASS, None, "agrees"),
    ("F.dropout(x)", "--x 1,2,3 --seed 1", PASS, None, "agrees"),
    ("torch.round(x) + x", "--x 1.2,2.7", PASS, None, "agrees"),
    ("torch.floor(10 * x) / 10", "--x 1.23,", PASS, None, "agrees"),
    ("torch.sign(x)", "--x 3,", PASS, None, "agrees"),
    ("1 - torch.sigmoid(x)", "--x 12,18,40", PASS, None, "agrees"),
    ("wrong_jvp(x)", "--x 1,2 --mode reverse", PASS, None, "agrees"),
    ("factor(x)", "--x 1,2 --rtol 0.6", PASS, None, "agrees"),
    ("right(x)", "--x 1,2 --batched --undefined all --nondet-tol 0", PASS, None, "agrees"),
    ("F.normalize(x, dim=0)", "--x 0,0", PASS, None, "agrees"),
    ("F.layer_norm(x, (1,), w)", "--x 1.3;2.7 --w 1.7, --dtype float64", PASS, None, "agrees"),
    ("averaged(x, b)", "--x [[1,2]] --b 5,6", PASS, None, "agrees"),
    # no single derivative; the true number is the mean of the sides, but that isn't what counts
    ("torch.relu(x)", "--x 2,0", KINK, [[1], "x", [1], 0, 0.5], "0 from below, 1 from above"),
    ("torch.abs(x)", "--x 0", KINK, [[], "x", [], 0, 0], "-1 from below, 1 from above"),
    ("x.max()", "--x 1,2,2", KINK, [[], "x", [1], 0.5, 0.5], "0 from below, 1 from above"),
    ("torch.clamp(x, 0, 1)", "--x 0.5,1", KINK, [[1], "x", [1], 1, 0.5], "1 from below, 0 from above"),
    ("torch.sqrt(x)", "--x 4,0", KINK, [[1], "x", [1], INF, INF], "from above its derivative grows without end"),
    ("torch.acos(x)", "--x 0,1", KINK, [[1], "x", [1], -INF, -INF], "from below its derivative grows without end"),
    ("x.norm()", "--x 0,0", KINK, [[], "x", [0], 0, 0], "-1 from below, 1 from above"),
    ("F.elu(x, alpha=2.0)", "--x 0,1", KINK, [[0], "x", [0], 2, 1.5], "2 from below, 1 from above"),
    ("x * (x > 1)", "--x 5,1", KINK, [[1], "x", [1], 0, INF], "jumps"),
    ("torch.relu(x) - torch.relu(-x)", "--x 0,1", KINK, [[0], "x", [0], 0, 1], "`torch.relu(x)` has a kink"),
    # right in float64
    ("(1 - torch.cos(x)) / x**2", "--x 1e-3", PRECISION, [[], "x", [], ..., -1e-3 / 12], "float32 rounding leaves"),
    ("torch.log(1 + torch.exp(x))", "--x 100", PRECISION, [[], "x", [], NAN, 1], "float32 rounding leaves NaN"),
    ("torch.exp(x)", "--x 1,12 --dtype float16", PRECISION, [[1], "x", [1], INF, math.exp(12)], "float16 rounding leaves inf"),
    ("torch.exp(x)", "--x 88,100", PRECISION, [[1], "x", [1], INF, math.exp(100)], "float32 rounding leaves inf"),
    ("torch.sqrt(x * x + 1) - x", "--x 300 --dtype bfloat16", PRECISION, [[], "x", [], ..., -1 / (2 * 300**2)], "bfloat16"),
    ("(1 - torch.cos(x)) / x**2", "--x 1e-6 --dtype float64", PRECISION, [[], "x", [], ..., -1e-6 / 12], "even in double"),
    # cut on the way
    ("x * x.detach()", "--x 1,2", BREAK, [[1], "x", [1], 2, 4], "`x.detach()` cuts the graph"),
    ("x * x.sum().item()", "--x 1,2", BREAK, [[1], "x", [0], 0, 2], "`x.sum().item()` cuts the graph"),
    ("torch.tensor([x[0], x[1]]) * x", "--x 1,2", BREAK, [[1], "x", [1], 2, 4], "`torch.tensor([x[0], x[1]])` cuts"),
    ("x * float(x[1])", "--x 1,2", BREAK, [[1], "x", [1], 2, 4], "`float(x[1])` cuts"),
    ("x * x.tolist()[0]", "--x 3,-2", BREAK, [[0], "x", [0], 3, 6], "`x.tolist()` cuts"),
    ("x.long() * x", "--x 1.5,", BREAK, [[0], "x", [0], 1, 2.5], "`x.long()` is a staircase"),
    ("(x > 0).float()", "--x 3,", BREAK, [[0], "x", [0], 0, 1 / 8], "`x > 0` decides something"),
    ("x.argmax()", "--x 1,5,3", BREAK, [[], "x", [1], 0, -0.1], "`x.argmax()` decides something"),
    ("torch.where(x > 0, torch.sqrt(x), 0 * x)", "--x -1,1", BREAK, [[0], "x", [0], NAN, 0], "0 times either is NaN"),
    ("through_data(x)", "--x 1,2", BREAK, [[1], "x", [1], 2, 4], "(own.py, line 77) cuts"),
    ("through_numpy(x)", "--x 1,2", BREAK, [[1], "x", [1], 1, 5], "cuts the graph"),
    # not repeatable
    ("F.dropout(x)", "--x 1,2,3", RANDOM, None, "under another seed"),
    ("dropout(x)", "--x 1,2,3", RANDOM, None, "under another seed"),
    ("noisy(x)", "--x 1,2 --seed 0", RANDOM, None, "evaluated again"),
    # a wrong formula
    ("factor(x)", "--x 1,2", WRONG, [[1], "x", [1], 6, 4], "Op.backward"),
    ("transposed(a, b)", "--a 1,2;3,4 --b 5,6;7,8", WRONG, [[0, 1], "a", [0, 0], 7, 6], "Op.backward"),
    ("missing(x)", "--x 1,2", WRONG, [[1], "x", [0], 0, 2], "Op.backward"),
    ("stale(x) + stale(2 * x)", "--x 1,2", WRONG, [[1], "x", [1], 12, 20], "Op.backward"),
    ("nan(x)", "--x 1,2", WRONG, [[1], "x", [1], NAN, 4], "Op.backward"),
    ("zero(x)", "--x 1,2", WRONG, [[1], "x", [1], 0, 4], "Op.backward"),
    ("nothing(x)", "--x 1,2", WRONG, [[1], "x", [1], 0, 4], "Op.backward"),
    ("one_entry(x)", "--x 1,2,3", WRONG, [[1], "x", [1], math.cos(2) + 0.25, math.cos(2)], "Op.backward"),
    ("averaged(x, b)", "--x 1,2;3,4 --b 5,6", WRONG, [[0, 0], "b", [0], 0.5, 1], "Op.backward"),
    ("wrong_jvp(x)", "--x 1,2", WRONG, [[1], "x", [1], 2, 4], "WrongJvp.jvp"),
    ("torch.exp(factor(x).sum())", "--x 0.5,0.1", WRONG, [[], "x", [0], 1.5 * math.exp(0.26), math.exp(0.26)], "Op.backward"),
]  # fmt: skip


@pytest.fixture(scope="module")
def own_code(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OPS)
    return str(path)


def own_names():
    scope = {}
    exec(OPS, scope)
    return [name for name in scope if not name.startswith("_")]


OWN = own_names()


def arguments(expression, options, own_code):
    own = any(f"{name}(" in expression.replace(f".{name}(", "") for name in OWN)
    return ["check", expression, *options.split(), *(["--import", own_code] if own else [])]


@pytest.mark.parametrize(("expression", "options", "verdict", "entry", "words"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_the_verdict(jvp, own_code, expression, options, verdict, entry, words):
    argv = arguments(expression, options, own_code)
    done = jvp(*argv, "--json")
    found = json.loads(done.out)
    assert (found["verdict"], found["passed"], done.code) == (verdict, verdict == PASS, 0 if verdict == PASS else 8), found
    assert words in found["explanation"]
    if entry is not None:
        output_index, name, input_index, analytic, numeric = entry
        worst = found["worst"]
        assert (worst["output_index"], worst["input"], worst["input_index"]) == (output_index, name, input_index)
        assert float(worst["numeric"]) == pytest.approx(numeric, rel=0.02, abs=1e-6 if abs(numeric) > 1e-3 or not numeric else 0)
        if analytic is not ...:
            assert float(worst["analytic"]) == pytest.approx(analytic, rel=0.005, abs=1e-6, nan_ok=True)
    text = jvp(*argv, COLUMNS="200")
    assert text.code == done.code
    assert ("passed" in text.out) == (verdict == PASS)
    assert all(word in " ".join(text.out.split()) for word in words.split())


@pytest.mark.parametrize(
    ("expression", "options", "words"),
    [
        ("too_many(x)", "--x 1,2", "returned 2 gradients; forward takes 1 argument"),
        ("too_few(x, w)", "--x 1,2 --w 3,4", "returned 1 gradient; forward takes 2 arguments"),
        ("misshapen(x)", "--x 1,2", "has shape (7,); the argument has shape (2,)"),
        ("a_float(x)", "--x 1,2", "returned a float"),
    ],
)
def test_what_a_backward_may_not_return_is_explained(jvp, own_code, expression, options, words):
    for command in ("check", "inspect"):
        done = jvp(command, *arguments(expression, options, own_code)[1:], "--json")
        error = json.loads(done.out)["error"]
        assert (done.code, error["code"]) == (5, "evaluation")
        assert words in error["message"]
        assert error["explanation"]


def test_detaching_by_data_cuts_the_graph(jvp):
    done = jvp("check", "x * x.data", "--x", "1,2")
    assert done.code == 8
    assert "failed: graph_break" in done.out


def test_a_derivative_that_is_rightly_zero_is_noted(jvp):
    done = jvp("check", "torch.round(x)", "--x", "1.2,2.7")
    assert done.code == 0
    assert "`torch.round(x)` is a staircase: its derivative is zero (or there is none)" in " ".join(done.err.split())
    assert "To pass the gradient straight through a rounding: x + (torch.round(x) - x).detach()." in " ".join(done.err.split())
    assert jvp("check", "torch.round(x)", "--x", "1.2,2.7", "-q").err == ""


def test_forward_mode_alone(jvp, own_code):
    done = jvp("check", "wrong_jvp(x)", "--x", "1,2", "--mode", "forward", "--import", own_code)
    assert done.code == 8
    assert "failed: wrong_backward, the formula of forward mode is wrong" in done.out
    assert "does not give the derivative of forward." in " ".join(done.out.split())
    assert json.loads(jvp("check", "x**2", "--x", "1,2", "--mode", "forward", "--json").out)["mode"] == "forward"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--atol", "-1", "--atol takes a number from 0 on, not -1"),
        ("--rtol", "inf", "--rtol takes a number from 0 on, not inf"),
        ("--undefined", "some", "--undefined is one of functions, all, none, not 'some'"),
    ],
)
def test_tolerances_that_are_none(jvp, option, value, message):
    done = jvp("check", "x**2", "--x", "1,2", option, value, "--json")
    assert (done.code, json.loads(done.out)["error"]["message"]) == (2, message)
