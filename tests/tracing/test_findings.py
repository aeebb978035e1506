"""Where gradients go wrong: the step, the entry, the cause; and rewrites that are tried."""

from __future__ import annotations

import math
import shlex
from itertools import pairwise

import pytest
import torch

import jvpcli
from jvpcli.answers.trace import follow, trace
from jvpcli.errors import EvaluationError, NotDifferentiableError, UsageError
from jvpcli.request import Request
from jvpcli.tracing.rewrites import stable_forms


def findings(expression, grad_outputs=(), wrt=None, dtype="float32", **inputs):
    report = trace(Request(expression, inputs, grad_outputs=grad_outputs, wrt=wrt, dtype=dtype))
    return report, report.findings


def only(expression, **rest):
    report, found = findings(expression, **rest)
    assert len(found) == 1, found
    return report, found[0]


def gradient_by_torch(expression, inputs):
    """Of the sum, of the expression run by Python itself, at inputs given as on the command line (vectors, float32)."""
    leaves = {n: torch.tensor([float(part) for part in text.split(",")]) for n, text in inputs.items()}
    leaves = {n: (x if "," in inputs[n] else x[0]).requires_grad_() for n, x in leaves.items()}
    *statements, last = expression.split("; ")
    scope = {"torch": torch, "F": torch.nn.functional, **leaves}
    for statement in statements:
        exec(statement, scope)
    return torch.autograd.grad(eval(last, scope).sum(), list(leaves.values()), allow_unused=True)


# What is not finite

NOT_FINITE = [
    # expression, inputs, code, text of the guilty step, entry with its value, part of the reason
    ("torch.sqrt(x).mul(0).sum()", {"x": "0,1"}, "nan", "torch.sqrt(x)", "x[0] = 0", "0·∞"),
    ("torch.where(x>0, torch.log(x), 0*x)", {"x": "-1,0,2"}, "nan", "torch.log(x)", "x[1] = 0", "masks the result"),
    ("x/x.norm()", {"x": "0,0"}, "nan", "x/x.norm()", "x.norm() = 0", "0/0"),
    ("n = x.norm(); b = x/n; b.sum()", {"x": "0,0"}, "nan", "x/n", "n = 0", "0/0"),
    ("torch.sqrt((x**2).sum())", {"x": "0,0"}, "nan", "torch.sqrt((x**2).sum())", "(x**2).sum() = 0", "0·∞"),
    ("x.pow(0.5).sum()", {"x": "4,0"}, "inf", "x.pow(0.5)", "x[1] = 0", "∞"),
    ("torch.log(x)", {"x": "1,0"}, "inf", "torch.log(x)", "x[1] = 0", "∞"),
    ("torch.acos(x)", {"x": "0,1"}, "inf", "torch.acos(x)", "x[1] = 1", "∞"),
    ("[torch.sqrt(x[i])*3 for i in range(2)][1]", {"x": "4,0"}, "inf", "torch.sqrt(x[i])", "x[i] (2) = 0", "∞"),
    ("torch.log(torch.exp(x).sum())", {"x": "1000,1"}, "nan", "torch.exp(x)", "x[0] = 1000", "0·∞"),
    ("torch.log(torch.softmax(x, 0))", {"x": "0,500"}, "nan", "torch.log(torch.softmax(x, 0))", "= 0", "∞"),
    ("torch.exp(x)*0", {"x": "1000,0"}, "nan", "torch.exp(x)", "x[0] = 1000", "0·∞"),
    ("torch.log(x).masked_fill(x <= 0, 0)", {"x": "1,0"}, "nan", "torch.log(x)", "x[1] = 0", "masks the result"),
    ("torch.sqrt(x)*torch.log(w)", {"x": "0,0", "w": "0,0"}, "nan", "torch.sqrt(x)*torch.log(w)", "= 0", "∞"),
    ("w*torch.sqrt(x - 1)", {"x": "1,2", "w": "0,1"}, "nan", "torch.sqrt(x - 1)", "(x - 1)[0] = 0", "0·∞"),
    ("x.where(x > 1, x.log())", {"x": "2,0"}, "inf", "x.log()", "x[1] = 0", "∞"),
]


@pytest.mark.parametrize(("expression", "inputs", "code", "step", "entry", "reason"), NOT_FINITE)
def test_the_guilty_step_is_named_and_the_rewrite_cures_it(expression, inputs, code, step, entry, reason):
    assert not all(g.isfinite().all() for g in gradient_by_torch(expression, inputs) if g is not None)
    report, finding = only(expression, **inputs)
    assert finding.code == code
    assert report.steps[finding.step].source == step
    assert entry in finding.message
    assert reason in finding.message
    assert finding.rewrite is not None
    cured = gradient_by_torch(finding.rewrite, inputs)
    assert all(g.isfinite().all() for g in cured if g is not None)
    assert finding.rewrite in finding.message


@pytest.mark.parametrize("case", NOT_FINITE, ids=lambda case: case[0])
def test_the_hint_is_a_command_that_runs(case):
    expression, inputs = case[:2]
    _, finding = only(expression, **inputs)
    (hint,) = finding.hints
    words = shlex.split(hint)
    assert words[:3] == ["jvp", "trace", finding.rewrite]
    again = {}
    rest = iter(words[3:])
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        again[name] = value if equals else next(rest)
    assert again == inputs
    _, found = findings(words[2], **again)
    assert not [f for f in found if f.code in ("nan", "inf")]


def test_a_cure_that_masks_changes_no_value():
    report, finding = only("torch.where(x>0, torch.log(x), 0*x)", x="-1,0,2")
    assert finding.rewrite == "torch.where(x>0, torch.log(torch.where(x>0, x, 1)), 0*x)"
    cured, _ = findings(finding.rewrite, x="-1,0,2")
    assert cured.outputs["y"].value.tolist() == report.outputs["y"].value.tolist()


def test_what_cannot_be_cured_is_not_suggested():
    _, finding = only("x*1e38*1e38", x="1,2")
    assert (finding.code, finding.rewrite, finding.hints) == ("inf", None, ())
    assert "more than the dtype holds" in finding.message


def test_a_cotangent_that_is_not_finite_is_to_blame_itself():
    _, finding = only("x*2", x="1,2", grad_outputs=((None, "nan,1"),))
    assert (finding.code, finding.step) == ("nan", None)
    assert "cotangent given" in finding.message


def test_precision_decides_the_number_that_is_added():
    for dtype, number in (("float64", "1e-16"), ("float32", "1e-7"), ("float16", "1e-4")):
        _, finding = only("torch.sqrt(x)", x="0,1", dtype=dtype)
        assert finding.rewrite in (f"torch.sqrt(x + {number})", f"torch.sqrt(x.clamp_min({number}))")


@pytest.mark.parametrize(
    ("source", "replaced"),
    [
        ("torch.log(torch.exp(x).sum())", ["torch.logsumexp(torch.flatten(x), 0)"]),
        ("torch.log(torch.exp(x*2).sum(1))", ["torch.logsumexp(x*2, 1)"]),
        ("x.exp().sum(0).log()", ["torch.logsumexp(x, 0)"]),
        ("F.softmax(x, 1).log()", ["torch.log_softmax(x, 1)"]),
        ("torch.log(torch.sigmoid(a + b))", ["F.logsigmoid(a + b)"]),
        ("F.softmax(x, -1, ).log() + torch.log(torch.softmax(x * 2, dim=1))", ["torch.log_softmax(x, -1)"]),
        ("torch.log1p(torch.exp(x))", ["F.softplus(x)"]),
        ("torch.log(1 + (2 * x).exp())", ["F.softplus(2 * x)"]),
        ("torch.log(torch.exp(x - w) + 1.0)", ["F.softplus(x - w)"]),
        ("x.exp().log1p()", ["F.softplus(x)"]),
        ("torch.log(1 - torch.sigmoid(x))", ["F.logsigmoid(-x)"]),
        ("(1 - (x * w).sigmoid()).log()", ["F.logsigmoid(-(x * w))"]),
        ("torch.exp(x) / (1 + torch.exp(x))", ["torch.sigmoid(x)"]),
        ("x[0].exp() / (torch.exp(x[0]) + 1)", ["torch.sigmoid(x[0])"]),
        ("torch.exp(x) / (1 + torch.exp(w))", []),
        ("torch.log(2 + torch.exp(x))", []),
        ("torch.log(torch.sigmoid(x) - 1)", []),
        ("torch.log1p(x)", []),
        ("torch.log(x)", []),
        ("torch.log(x.sum())", []),
        ("log(", []),
    ],
)
def test_stable_forms(source, replaced):
    assert [new for _, new in stable_forms(source)] == replaced


@pytest.mark.parametrize(
    ("expression", "rewrite"),
    [
        ("torch.log1p(torch.exp(x)) + w", "F.softplus(x) + w"),
        ("torch.log(1 + torch.exp(w * x)) * 2", "F.softplus(w * x) * 2"),
        ("(1 - torch.sigmoid(w * x)).log().sum()", "F.logsigmoid(-(w * x)).sum()"),
        ("w * (x.exp() / (1 + x.exp()))", "w * (torch.sigmoid(x))"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stable_form_is_offered_and_is_the_same_function(expression, rewrite, dtype):
    _, finding = only(expression, x="1000,1,-3", w="1,2,1", dtype=str(dtype).removeprefix("torch."))
    assert finding.rewrite == rewrite
    assert "(tried)" in finding.message
    x, w = torch.tensor([[5.0, 1, -3], [1, 2, 1]], dtype=torch.float64)
    values = [eval(text, {"torch": torch, "F": torch.nn.functional, "x": x, "w": w}) for text in (expression, rewrite)]
    torch.testing.assert_close(*values, rtol=1e-8, atol=1e-8)


# Zeros

ZEROS = [
    # expression, inputs, reason, text of the step (None: no single one), parts of the message
    ("torch.relu(x).sum()", {"x": "-1,2"}, "saturated", "torch.relu(x)", ["x[0] = -1", "1 of 2"]),
    ("x.clamp(0, 1).sum()", {"x": "-1,.5,3"}, "saturated", "x.clamp(0, 1)", ["x[0] = -1", "2 of 3"]),
    ("torch.tanh(x)", {"x": "100,0"}, "saturated", "torch.tanh(x)", ["x[0] = 100"]),
    ("x.max()", {"x": "1,3,2"}, "saturated", "x.max()", ["x[0] = 1", "2 of 3"]),
    (
        "(x*x.detach()).sum()",
        {"x": "1,2"},
        "structural",
        "x.detach()",
        [".detach() ends the graph", "treats x as a constant"],
    ),
    (
        "with torch.no_grad():\n    c = x * 2\n(x * c).sum()",
        {"x": "1,2"},
        "structural",
        "x * 2",
        ["unrecorded, under torch.no_grad() or the like, ends the graph", "treats x as a constant"],
    ),
    ("x*x.sum().item()", {"x": "1,2"}, "structural", "x.sum().item()", ["a plain float"]),
    ("torch.round(x)", {"x": "1.2,2.6"}, "structural", "torch.round(x)", ["piecewise constant", "2 of 2"]),
    ("torch.sign(x)", {"x": "1.2,-2.6"}, "structural", "torch.sign(x)", ["piecewise constant"]),
    ("x[:2].sum()", {"x": "1,2,3"}, "structural", "x[:2]", ["x[2] = 3", "does not use it"]),
    ("x[0]*2 + x[1]", {"x": "1,2,3"}, "structural", None, ["x[2] = 3", "steps 0 and 2"]),
    ("y = x*1; y[0] = 5.; y", {"x": "1,2,3"}, "structural", "y[0]", ["overwrites it"]),
    ("w*x.argmax()", {"x": "1,2", "w": "3,4"}, "structural", "x.argmax()", ["no gradient reaches x", "whole numbers"]),
    ("x.detach()*2 + w", {"x": "1,2", "w": "3,4"}, "structural", "x.detach()", [".detach()"]),
    ("torch.softmax(x, 0).sum()", {"x": "1,2,3"}, "cancelled", "torch.softmax(x, 0)", ["cancel"]),
    ("x - x", {"x": "1,2,3"}, "cancelled", "x - x", ["cancel"]),
    ("x.sin()*0 + x - x*1", {"x": "1,2,3"}, "cancelled", None, ["cancel"]),
    ("torch.linalg.norm(x)", {"x": "0,0"}, "kink", "torch.linalg.norm(x)", ["PyTorch chooses 0"]),
    ("x.abs()", {"x": "0,1"}, "kink", "x.abs()", ["x[0] = 0", "PyTorch chooses 0"]),
    ("x**2", {"x": "0,1"}, "stationary", "x**2", ["x[0] = 0"]),
    ("torch.cos(x)*2", {"x": "0,1"}, "stationary", "torch.cos(x)", ["x[0] = 0"]),
    ("torch.relu(torch.sin(w*x) - 5).sum()", {"x": "1,2", "w": "2"}, "saturated", "torch.relu(torch.sin(w*x) - 5)", []),
]


@pytest.mark.parametrize(("expression", "inputs", "reason", "step", "parts"), ZEROS)
def test_zeros(expression, inputs, reason, step, parts):
    report, found = findings(expression, dtype="float64", **inputs)
    assert {f.code for f in found} == {"zero"}
    steps = {f: None if f.step is None else report.steps[f.step].source for f in found}
    match = [f for f in found if f.reason == reason and steps[f] == step and all(part in f.message for part in parts)]
    assert len(match) == 1, found


def test_two_causes_in_one_step_are_told_apart():
    _, found = findings("torch.relu(x).sum()", x="-1,0,2")
    assert {(f.reason, "x[0] = -1" in f.message, "x[1] = 0" in f.message) for f in found} == {
        ("saturated", True, False),
        ("kink", False, True),
    }


def test_a_dead_unit_is_found_behind_other_steps():
    """x[1] is only used by a unit that is dead: the zero is made at the relu, not at the product or the sum."""
    report, finding = only("h = torch.relu(w*x); (h*3).sum()", x="1,-2", w="1,1", wrt=("x",))
    assert report.steps[finding.step].source == "torch.relu(w*x)"
    assert "(w*x)[1] = -2" in finding.message


def test_weights_of_zero_are_no_finding():
    assert findings("x*2", x="1,2", grad_outputs=((None, "0,1"),))[1] == ()
    assert findings("x*2", x="1,2", grad_outputs=((None, "zeros"),))[1] == ()


@pytest.mark.parametrize(
    ("expression", "inputs"),
    [
        ("torch.outer(x, x)", {"x": "1,2,3,4"}),
        ("torch.sin(x)*x", {"x": "1,2"}),
        ("torch.where(x > 0, x, -x)", {"x": "1,-2"}),
        ("x/x.shape[0]", {"x": "1,-2"}),
        ("x[torch.tensor([1, 0])]*x[x.argmax()]", {"x": "1,2"}),
        ("torch.linalg.inv(x)", {"x": "1,2;3,4"}),
        ("torch.tanh(W @ x)", {"W": "1,2;3,4", "x": "0.1,0.2"}),
        ("F.layer_norm(x, (3,))", {"x": "1,2,4"}),
        ("x[:0]", {"x": "1,2"}),
    ],
)
def test_nothing_is_found_where_all_is_well(expression, inputs):
    assert findings(expression, grad_outputs=((None, "randn"),), **inputs)[1] == ()


def test_dropped_entries():
    report, finding = only("F.dropout(x, 0.5)", x="1,2,3,4")
    assert "does not use it with this seed" in finding.message
    dropped = [i for i, g in enumerate(report.vjp["x"].value) if g == 0]
    assert f"x[{dropped[0]}]" in finding.message
    assert f"{len(dropped)} of 4" in finding.message


# Vanishing and exploding


def test_vanishing_names_the_steepest_step():
    text = "h = x; " + "; ".join(["h = torch.sigmoid(h*0.1)"] * 6) + "; h"
    report, finding = only(text, x="0,1", dtype="float64")
    assert finding.code == "vanishing"
    assert report.steps[finding.step].source == "h*0.1"
    norms = [step.norm for step in report.steps]
    assert all(before <= after for before, after in pairwise(norms))


TENTHS = "W = torch.tensor([[.1], [.2], [-.3]], dtype=torch.float64).expand(3, 3)"
"""Its columns add up to a rounding."""


@pytest.mark.parametrize(
    ("text", "claim", "culprit"),
    [
        ("torch.floor(x) + x*1e-9", "norm_ratio", "x*1e-9"),
        (f"{TENTHS}; W @ (torch.sign(x)*x.abs())", "cancelled_rounding", "W @ (torch.sign(x)*x.abs())"),
        ("x.round()*2 + x.cumsum(0)*1e-12", "norm_ratio", "x.cumsum(0)*1e-12"),
    ],
)
def test_a_step_that_passes_nothing_on_is_not_what_makes_the_rest_small(text, claim, culprit):
    """A staircase's local Jacobian is zero: of it no term cancels, and what comes to the input comes another way."""
    report, found = findings(text, x="0.7,-1.3,2.2", dtype="float64")
    assert [report.steps[finding.step].source for finding in found if finding.claim == claim] == [culprit]


def test_exploding():
    """d/dx exp(exp(x)) = exp(exp(x))·exp(x): at 3 the outer step gives exp(e³) ≈ 5.3e8, the inner one 20."""
    report, finding = only("torch.exp(torch.exp(x))", x="3")
    assert finding.code == "exploding"
    assert report.steps[finding.step].index == 1
    assert "×5.3e+08" in finding.message


def test_a_norm_is_right_where_squares_overflow():
    report, _ = findings("x*1e30", x="3e5,4e5", dtype="float32")
    assert report.steps[0].norm == pytest.approx(math.sqrt(2))
    assert findings("(x*1e30)*1", x="3,4")[0].vjp["x"].value[0] == pytest.approx(1e30)
    assert findings("(x*1e-30)*1e30", x="3,4")[0].steps[0].norm == pytest.approx(math.sqrt(2) * 1e30)


# What is refused


def test_the_steps_of_a_function_are_those_of_its_text():
    report = trace(Request(lambda x: torch.sin(x) * 2, {"x": [1.0]}))
    assert [(step.op, step.source) for step in report.steps] == [
        ("torch.sin", "torch.sin(x)"),
        ("mul", "torch.sin(x) * 2"),
    ]
    assert all(step.file == __file__ for step in report.steps)
    assert report.vjp["x"].value.tolist() == [float(2 * torch.tensor(1.0).cos())]


def test_a_step_that_is_not_there():
    with pytest.raises(UsageError, match="numbered from 0 to 0"):
        trace(Request("x*2", {"x": "1"}), step=7)


@pytest.mark.parametrize(
    ("expression", "end"),
    [
        ("torch.sin(x.detach()*2)", "x.detach()"),
        ("torch.sin(x).argmax()", "torch.sin(x).argmax()"),
        ("y = (x > 0).float(); y*3", "x > 0"),
    ],
)
def test_where_nothing_can_be_differentiated_the_end_of_the_graph_is_marked(expression, end):
    with pytest.raises(NotDifferentiableError) as caught:
        trace(Request(expression, {"x": "1,2"}))
    assert expression[slice(*caught.value.span)] == end


def test_what_torch_cannot_differentiate_is_said_in_its_words():
    with pytest.raises(EvaluationError) as caught:
        trace(Request("y = x.exp(); y.mul_(2); y", {"x": "1,2"}))
    assert "inplace operation" in caught.value.torch_message


def test_the_report_compares_both_ways():
    tracing = follow(Request("y = torch.outer(x, x); z = y**2", {"x": "1,2,3,4"}))
    assert (tracing.report.comparison.compared, tracing.report.comparison.largest_difference) == (4, 0.0)
    assert tracing.report.product.compared == 64
    assert tracing.report.product.largest_difference < 1e-4
    assert tracing.vjp["x"].tolist() == [120.0, 240.0, 360.0, 480.0]


def test_an_input_that_is_not_finite_is_named():
    _, finding = only("torch.exp(x)*2", x="1,nan")
    assert "The input itself is not finite: x[1] = nan" in finding.message


def test_one_cause_is_told_once_for_several_inputs():
    _, found = findings("torch.softmax(W @ x, 0).sum()", W="1,2;3,4", x="0.1,0.2", dtype="float64")
    assert len({f.message for f in found}) == len(found)


def test_functions_of_the_users_own_file_are_steps(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import torch\ndef half_relu(x):\n    return torch.relu(x) / 2\n")
    report = trace(Request("half_relu(x).sum()", {"x": "-1,4"}, imports=(str(file),)))
    assert [step.source for step in report.steps] == ["torch.relu(x)", "torch.relu(x) / 2", "half_relu(x).sum()"]
    assert [(step.file, step.line) for step in report.steps] == [(str(file), 3), (str(file), 3), (None, None)]
    assert [step.span for step in report.steps] == [(0, 12), (0, 12), (0, 18)]
    assert report.vjp["x"].value.tolist() == [0.0, 0.5]
    (finding,) = report.findings
    assert (finding.code, finding.step, finding.reason) == ("zero", 0, "saturated")


def test_rewrites_around_imported_functions(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def twice(x):\n    return 2 * x\n")
    report = trace(Request("twice(torch.sqrt(x))", {"x": "0,4"}, imports=(str(file),)))
    (finding,) = report.findings
    assert finding.rewrite == "twice(torch.sqrt(x + 1e-7))"
    assert f"--import {file}" in finding.hints[0]


# Cures keep the function


def values_near(expression, inputs, seed):
    """y and ∂(sum)/∂x by Python at inputs a little off (all by the same for each expression), in float32."""
    generator = torch.Generator().manual_seed(seed)
    near = {}
    for name, text in inputs.items():
        parts = [float(part) for part in text.split(",")]
        noise = (torch.rand(len(parts), generator=generator) - 0.5) * (1e-2, 1e-4)[seed % 2]
        near[name] = ",".join(repr(p + (abs(p) or 1) * n) for p, n in zip(parts, noise.tolist(), strict=True))
    leaves = {n: torch.tensor([float(part) for part in text.split(",")]) for n, text in near.items()}
    *statements, last = expression.split("; ")
    scope = {"torch": torch, "F": torch.nn.functional, **leaves}
    for statement in statements:
        exec(statement, scope)
    y = eval(last, scope)
    return [y, *(g for g in gradient_by_torch(expression, near) if g is not None)]


@pytest.mark.parametrize("case", NOT_FINITE, ids=lambda case: case[0])
def test_a_cure_keeps_the_function_or_says_what_it_changes(case):
    expression, inputs = case[:2]
    _, finding = only(expression, **inputs)
    if "other numbers change" in finding.message:
        return
    for seed in range(6):
        for old, new in zip(
            values_near(expression, inputs, seed), values_near(finding.rewrite, inputs, seed), strict=True
        ):
            finite = old.isfinite()
            torch.testing.assert_close(
                new[finite], old[finite], rtol=1e-4, atol=1e-4 * float(old[finite].abs().sum() + 1)
            )


@pytest.mark.parametrize(
    ("expression", "changed"),
    [
        ("torch.sqrt(x).sum()", "y is 1.000316"),
        ("torch.acos(1 - x)", "y[0] is 0.0004883 instead of 0"),
        ("torch.log(x)", "instead of"),
    ],
)
def test_what_a_cure_changes_is_said(expression, changed):
    _, finding = only(expression, x="0,1")
    assert "the gradient is finite (tried), but other numbers change: " in finding.message
    assert changed in finding.message


def test_a_cure_that_makes_another_function_is_not_shown(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "def loss(x):\n"
        "    return torch.where(x > 0, torch.ones_like(x), torch.zeros_like(x)).sum() + torch.sqrt(x.clamp(min=0)).sum() * 0\n"
    )
    report = trace(Request("loss(x)", {"x": "0,0"}, imports=(str(file),)))
    (finding,) = report.findings
    assert report.outputs["y"].value.tolist() == 0.0
    assert (finding.code, finding.rewrite, finding.hints) == ("nan", None, ())


REPEATED = [
    ("torch.linalg.eigh(A)[1].sum()", "1,0;0,1", "the eigenvalue 1 is repeated here, and the eigenvectors"),
    ("torch.linalg.eigh(A)[1].abs().sum()", "2,0,0;0,2,0;0,0,5", "the eigenvalue 2 is repeated"),
    ("torch.linalg.eigh(A.float())[1].sum()", "1,0;0,1", "the eigenvalue 1 is repeated"),
    ("torch.linalg.svd(A)[0].sum()", "1,0;0,1", "the singular value 1 is repeated here, and the singular vectors"),
    ("torch.linalg.svd(A)[2].sum()", "1,2,3;2,4,6;3,6,9", "is repeated"),
    ("torch.linalg.svd(A, full_matrices=False)[0].sum()", "1,2;2,4;3,6", "is repeated"),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("expression", "matrix", "words"), REPEATED)
def test_vectors_of_repeated_values_are_named_and_nothing_cures_them(expression, matrix, words, dtype):
    _, finding = only(expression, A=matrix, dtype=dtype)
    assert finding.code in ("nan", "inf", "exploding")
    assert words in finding.message
    assert (finding.rewrite, finding.hints) == (None, ())


def test_values_that_are_not_repeated_or_whose_vectors_are_not_used_are_not_blamed():
    for expression, matrix in (
        ("torch.linalg.eigvalsh(A).sum()", "1,0;0,1"),
        ("torch.linalg.svdvals(A).sum()", "1,0;0,1"),
        ("torch.linalg.eigh(A)[0].sum() * 1e9", "1,0;0,1"),
        ("torch.linalg.eigh(A)[1].sum()", "1,0;0,2"),
        ("torch.linalg.svd(A)[0].sum()", "1,2;2,4"),
    ):
        assert not any("repeated" in f.message for f in findings(expression, A=matrix, dtype="float64")[1])


def test_a_loss_that_refuses_what_a_cure_would_give_it():
    _, finding = only("F.binary_cross_entropy(p, t)", p="1,0,1", t="0,1,1", dtype="float64")
    assert finding.claim == "becomes_not_finite"


def test_every_sentence_has_a_code():
    for expression, inputs, *_ in (*NOT_FINITE, *ZEROS):
        assert all(finding.claim for finding in findings(expression, **inputs)[1])


OVERFLOWS = [
    ("torch.exp(x) * 0", "1000", "float64", False),
    ("torch.exp(x) * 0", "100", "float32", False),
    ("torch.cosh(x) * 0", "100,1", "float32", False),
    ("torch.log(x) * 0", "0", "float32", True),
    ("torch.sqrt(x) * 0", "0,1", "float64", True),
    ("torch.acos(x) * 0", "1,0.5", "float32", True),
]


@pytest.mark.parametrize(("expression", "x", "dtype", "infinite"), OVERFLOWS)
def test_an_overflow_is_not_called_an_infinite_derivative(expression, x, dtype, infinite):
    """The derivative of exp at 100 is 2.7e43, which float32 does not hold; that of a root at 0 is infinite."""
    _, found = only(expression, x=x, dtype=dtype)
    words = "the derivative there is" if infinite else "the derivative that PyTorch computes there is"
    assert words in found.message
    assert found.claim == "becomes_not_finite"


OTHER_FUNCTIONS = [
    # expression, input, what clamping would make of it, and a point where the original is finite and that is another number
    ("torch.exp(x).log()", "100,1", "torch.exp(x.clamp(-44, 44)).log()", [60.0, 1.0]),
    ("torch.logsumexp(x, 0)", "-inf,-inf", "torch.logsumexp(x.clamp_min(1e-7), 0)", [-1.0, -2.0]),
]


@pytest.mark.parametrize(("expression", "x", "clamped", "point"), OTHER_FUNCTIONS)
def test_a_cure_is_compared_where_the_original_is_finite_though_that_is_far_off(expression, x, clamped, point):
    _, found = only(expression, x=x)
    assert found.rewrite is None
    scope = {"torch": torch, "x": torch.tensor(point, dtype=torch.float64)}
    original, other = (float(eval(text, scope).sum()) for text in (expression, clamped))
    assert math.isfinite(original)
    assert abs(other - original) > 0.1


@pytest.mark.parametrize("expression", ["(x.half() * 300 * 300).float().sum()", "(x.half() ** 9 * 300).float()"])
def test_what_overflows_by_a_product_is_not_clamped_as_an_exponent(expression):
    """With the operand within ±5 the gradient is finite, and 0 where in truth it is large."""
    _, found = only(expression, x="4,3")
    assert found.code == "inf"
    assert "clamp" not in found.message


def test_a_cure_that_spoils_the_value_is_not_shown():
    _, found = only("(x / (x > 0)).sum()", x="0,1")
    assert found.rewrite is None


def test_the_nan_of_a_basis_vector_is_no_derivative():
    """A backward pass of one row adds 1/0 and 0/0 along what is broadcast; of ones it gives ∞, as torch.autograd.grad does."""
    x, w = torch.ones(5, 1, requires_grad=True), torch.zeros(5)
    assert torch.autograd.grad((x / w).sum(), x)[0].isinf().all()
    (found,) = jvpcli.trace("torch.div(x, w)", x=x.detach(), w=w, wrt="x").to_dict()["findings"][:1]
    assert "the derivative there is ∞: 1/0 already in the forward pass" in found["message"]


def test_complex_numbers_that_are_not_finite_are_told_of():
    (finding,) = jvpcli.trace("x.exp().exp()", x=torch.tensor(100 + 1j)).report.findings
    assert finding.message.startswith("the gradient becomes nan in step 1, `x.exp().exp()`, at x.exp() = inf+infj")
