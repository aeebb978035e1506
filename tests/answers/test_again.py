"""A question that is asked again of other numbers has the document that it has when it is asked alone."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian as torchs_own

import jvpcli
from jvpcli.answers import question
from jvpcli.answers.inspect import inspect
from jvpcli.errors import JvpError
from jvpcli.jacobians.operations import REGULAR, REGULAR_NAMES, is_regular, operation
from jvpcli.language.readings import nodes_below
from jvpcli.render.json import error_to_json, to_json
from jvpcli.request import Request

POINTS = (
    [0.5, 1.25, 0.75, 1.5],
    [-1.0, 2.0, -0.5, 0.25],
    [0.0, 0.0, 1.0, -1.0],
    [-3.0, -2.0, -1.0, -0.5],
    ["Infinity", 1.0, 2.0, 3.0],
)


def document(expression: str, inputs: dict, wrt: tuple[str, ...] | None = None) -> bytes:
    try:
        return to_json(inspect(Request(expression, inputs, wrt)))
    except JvpError as error:
        return error_to_json(error)


TEXTS = ["torch.outer(x, x)", "torch.log(-x)", "torch.sqrt(x * x) - x", "x.norm()", "torch.relu(x)", "x.floor() * x", "2 * x"]


@pytest.mark.parametrize(
    ("expression", "asked", "wrt"),
    [
        *[(text, [{"x": x} for x in POINTS], None) for text in TEXTS],
        ("torch.tanh(W * x)", [{"x": POINTS[0], "W": W} for W in ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0])], ("x",)),
    ],
)
def test_what_was_found_out_before_changes_no_document(expression, asked, wrt):
    alone = []
    for inputs in asked:
        question._courses.cache_clear()
        alone.append(document(expression, inputs, wrt))
    for _ in range(2):
        assert [document(expression, inputs, wrt) for inputs in asked] == alone


# Operations that have no kink


REGULAR_TEXTS = """
x * x; torch.addcmul(x, x, x); torch.lerp(x, x * x, x); x.cos(); x.cosh(); x.sin(); x.sinh(); x.tan(); x.tanh(); x.exp()
x.exp2(); x.expm1(); x.log(); x.log2(); x.log10(); x.log1p(); torch.logaddexp(x, 2 * x); torch.logaddexp2(x, 2 * x); x.sqrt()
x.rsqrt(); x.reciprocal(); x.acos(); (1 + x).acosh(); x.asin(); x.asinh(); x.atan(); x.atanh(); x.sigmoid()
F.logsigmoid(x); x.erf()
x.erfc(); x.erfinv(); F.gelu(x); F.silu(x); F.mish(x); x.reshape(2, 2).tril(); x.reshape(2, 2).triu(); torch.deg2rad(x)
torch.rad2deg(x)
torch.logsumexp(x, 0); torch.softmax(x, 0); torch.log_softmax(x, 0); x.reshape(2, 2) @ x.reshape(2, 2)
torch.bmm(x.reshape(1, 2, 2), x.reshape(1, 2, 2)); torch.mv(x.reshape(2, 2), x[:2]); torch.dot(x, x)
torch.addmm(x.reshape(2, 2), x.reshape(2, 2), x.reshape(2, 2)); torch.addmv(x[:2], x.reshape(2, 2), x[:2])
torch.baddbmm(x.reshape(1, 2, 2), x.reshape(1, 2, 2), x.reshape(1, 2, 2)); torch.addr(x.reshape(2, 2), x[:2], x[2:])
torch.addbmm(x.reshape(2, 2), x.reshape(1, 2, 2), x.reshape(1, 2, 2)); F.conv1d(x.reshape(1, 1, 4), x[:2].reshape(1, 1, 2))
F.mse_loss(x, x * x); F.layer_norm(x, (4,)); F.group_norm(x.reshape(1, 2, 2), 1); torch.linalg.inv(x.reshape(2, 2) + torch.eye(2))
torch.linalg.solve(x.reshape(2, 2) + torch.eye(2), x[:2]); torch.linalg.cross(x[:3], x[1:]); x**3; x**1.5; x**-1; x / (1 + x)
F.scaled_dot_product_attention(x.reshape(1, 2, 2), x.reshape(1, 2, 2), x.reshape(1, 2, 2))
"""


def each(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split(";")]


def at(text: str, x: torch.Tensor) -> torch.Tensor:
    return eval(text, {"torch": torch, "F": torch.nn.functional, "x": x})


def test_derivatives_of_regular_operations_are_continuous():
    seen = set()
    for text in each(REGULAR_TEXTS):
        x = torch.tensor([0.3, 0.45, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            nodes = nodes_below(at(text.replace("eye(2)", "eye(2).double()"), x).grad_fn)
        assert is_regular(nodes), text
        seen |= {operation(node) for node in nodes}
        for seed in range(3):
            torch.manual_seed(seed)
            point, step = 0.2 + 0.7 * torch.rand(4, dtype=torch.float64), 1e-9 * torch.randn(4, dtype=torch.float64)
            code = text.replace("eye(2)", "eye(2).double()")
            before, after = (torchs_own(lambda x, code=code: at(code, x), point + side * step) for side in (-1, 1))
            torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-6)
    assert set(REGULAR_NAMES.split()) - seen <= {"Linear", "SafeSoftmax"}, set(REGULAR_NAMES.split()) - seen
    assert set(REGULAR_NAMES.split()) <= REGULAR


@pytest.mark.parametrize(
    "text",
    ["x.abs()", "x.relu()", "x.norm()", "torch.hypot(x, x)", "torch.atan2(x, x)", "x**x", "torch.xlogy(x, x)", "x.floor() * x",
     "torch.div(x, 2, rounding_mode='floor')", "x.std()", "x.max()", "torch.sort(x).values", "torch.where(x > 0, x, 2 * x)"],
)  # fmt: skip
def test_what_may_have_a_kink_is_not_regular(text):
    assert not is_regular(nodes_below(at(text, torch.ones(4, requires_grad=True)).grad_fn))


def test_a_steep_slope_is_no_kink():
    """The derivative of a sine that turns thousands of times over a few roundings differs on both sides, and has no jump."""
    for text in ("(1e6 * x).sin()", "1 / (x - 1)"):
        report = jvpcli.inspect(text, x=[1.0 + 2e-6, 2.0]).report
        assert not [warning for warning in report.warnings if warning.code == "kink"]
    report = jvpcli.inspect("x.abs()", x=[0.0, 2.0]).report
    assert [warning.code for warning in report.warnings] == ["kink"]
