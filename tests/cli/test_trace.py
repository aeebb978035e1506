"""`jvp trace` at the door: options, streams, files, exit codes."""

from __future__ import annotations

import json
import shlex
import warnings

import pytest

OUTER = ("y = torch.outer(x, x); z = y**2", "--x", "1,2,3,4")


def document(outcome, code=0):
    assert outcome.code == code, outcome
    assert outcome.err == ""
    assert outcome.out.count("\n") == 1
    return json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))


def test_the_example(jvp):
    result = document(jvp("trace", "torch.outer(x, x)", "--x", "1,2,3,4", "--json"))
    (step,) = result["steps"]
    assert [part["value"] for part in step["contributions"]] == [[10.0] * 4] * 2
    assert result["vjp"]["x"]["value"] == [20.0] * 4
    assert result["findings"] == []


def test_text_goes_to_stdout_and_nothing_else_does(jvp):
    outcome = jvp("trace", *OUTER)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("y = torch.outer(x, x); z = y**2\n")
    assert "∂L/∂x = [60., 120., 180., 240.]  from step 0, position 0" in outcome.out


def test_options_are_shared_with_inspect(jvp):
    argv = ("trace", "(x*w, x.sum())", "--x", "1,2", "--w=3,-4", "-g", "none", "-g", "y1=2", "--dtype", "float64")
    result = document(jvp(*argv, "--wrt", "x", "--json"))
    assert result["vjp"] == {"x": {"shape": [2], "dtype": "float64", "value": [2.0, 2.0]}}
    assert result["inputs"]["w"]["differentiated"] is False


def test_one_step(jvp):
    outcome = jvp("trace", *OUTER, "--step", "1")
    assert outcome.code == 0
    assert "Step 1 of 2: pow" in outcome.out
    assert "Forward pass" not in outcome.out
    opened = document(jvp("trace", *OUTER, "--step", "1", "--json"))["steps"]
    assert "value" in opened[1]["local_jacobians"][0]
    assert "value" not in opened[0]["local_jacobians"][0]


def test_a_step_that_is_not_there(jvp):
    error = document(jvp("trace", *OUTER, "--step", "2", "--json"), code=2)["error"]
    assert error["code"] == "usage"
    assert "from 0 to 1" in error["message"]


def test_the_graph_is_written(jvp, tmp_path):
    file = tmp_path / "graph.dot"
    outcome = jvp("trace", *OUTER, "--dot", str(file))
    assert outcome.code == 0
    assert 'step_0 -> step_1 [label="(4, 4)"];' in file.read_text()
    refused = jvp("trace", *OUTER, "--dot", str(tmp_path / "no" / "graph.dot"))
    assert refused.code == 2
    assert refused.out == ""
    assert "cannot be written" in " ".join(refused.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("torch.sqrt(x).mul(0).sum()", "--x", "0,1"), "nan"),
        (("torch.where(x>0, torch.log(x), 0*x)", "--x=-1,0,2"), "nan"),
        (("x/x.norm()", "--x", "0,0"), "nan"),
        (("torch.relu(x).sum()", "--x=-1,2"), "zero"),
        (("(x*x.detach()).sum()", "--x", "1,2"), "zero"),
        (("torch.linalg.norm(x)", "--x", "0,0"), "zero"),
    ],
)
def test_findings_and_their_hints(jvp, argv, code):
    (finding,) = document(jvp("trace", *argv, "--json"))["findings"]
    assert finding["code"] == code
    assert finding["message"] in " ".join(jvp("trace", *argv, COLUMNS="10000").out.split())
    for hint in finding["hints"]:
        again = document(jvp(*shlex.split(hint)[1:], "--json"))
        assert not [found for found in again["findings"] if found["code"] in ("nan", "inf")]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("x.detach()*2", "--x", "1,2"), 6),
        (("torch.sinn(x)", "--x", "1,2"), 3),
        (("x@x", "--x", "1,2;3,4;5,6"), 4),
        (("x*2", "--x", "1,2", "-g", "1,2,3"), 4),
        (("y = x.exp(); y.mul_(2); y", "--x", "1,2"), 5),
        (("torch.linalg.inv(x)", "--x", "0,0;0,0"), 5),
        ((), 2),
        (("x*2", "--x", "1", "--step", "one"), 2),
    ],
)
def test_exit_codes(jvp, argv, code):
    outcome = jvp("trace", *argv)
    assert (outcome.code, outcome.out) == (code, "")
    assert "Traceback" not in outcome.err
    if argv:
        assert document(jvp("trace", *argv, "--json"), code)["ok"] is False


@pytest.mark.parametrize("expression", ["torch.sqrt(x)", "(2*torch.sqrt(x)).view(-1)", "torch.where(x > -1, torch.sqrt(x), x)"])
def test_zeros_of_the_operations_stay_zeros_and_are_told_of(jvp, expression):
    result = document(jvp("trace", expression, "--x", "1,0,4", "--json"))
    assert result["product"]["not_finite"] == 1
    told = [each["message"] for each in result["warnings"]]
    assert told == [
        "2 entries of ∂y/∂x where PyTorch's own passes (a backward pass a row, as in torch.autograd.functional.jacobian) give "
        "NaN, as 0 times ∞ or NaN, are zero by the operations, and shown as zero"
    ]


@pytest.mark.parametrize("expression", ["(x**2).sqrt()", "torch.sqrt(x*x) + 0*x"])
def test_what_is_nan_at_the_point_alone_is_not_called_zero(jvp, expression):
    """The derivative of x² is zero at 0, by the point and not by the operations: 0·∞ is NaN there, as torch says."""
    result = document(jvp("trace", expression, "--x", "1,0,4", "--json"))
    assert result["vjp"]["x"]["value"][1] == "NaN"
    assert result["product"]["not_finite"] >= 1


def test_an_identity_says_what_it_is_times(jvp):
    outcome = jvp("trace", "-2.5*x", "--x", "1,2")
    assert "→ x  -2.5 × identity (2, 2), 2 of 4  -2.5 · v_i  = [-2.5, -2.5]" in outcome.out
    (step,) = document(jvp("trace", "-2.5*x", "--x", "1,2", "--json"))["steps"]
    assert [(j["structure"], j["scale"]) for j in step["local_jacobians"]] == [("identity", -2.5)]


def test_numbers_of_half_precision_are_written_without_a_warning(jvp):
    """Half precision ends at 65504, below the number that sizes are compared with."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = jvp("trace", "(x*x).sum()", "--x", "torch.tensor([300., 1.], dtype=torch.float16)")
    assert outcome.code == 0
    assert "∂L/∂x = [300., 1.]" in outcome.out
    assert outcome.err == "warning (nonfinite): 1 of 1 entries of y is not finite, the first y = inf\n"


def test_no_letter_stands_for_two_tensors(jvp):
    """What has no name is marked where an input is called as the letter that stands for it."""
    plain, marked = (jvp("trace", f"({n}*{n}).sum()", f"--{n}", "1,2", "--json").out for n in "xz")
    of_plain, of_marked = ([[each["formula"] for each in step["local_jacobians"]] for step in json.loads(text)["steps"]]
                           for text in (plain, marked))  # fmt: skip
    assert of_plain == [["∂L/∂x_i = v_i · ∂z_i/∂x_i"] * 2, ["∂L/∂a_i = v · ∂y/∂a_i"]]
    assert of_marked == [["∂L/∂z_i = v_i · ∂z′_i/∂z_i"] * 2, ["∂L/∂a′_i = v · ∂y/∂a′_i"]]
    assert "z′: the result, and a′, b′, …: the operands of a step" in jvp("trace", "(a*a).sum()", "--a", "1,2").out
