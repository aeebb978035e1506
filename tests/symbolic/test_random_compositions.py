"""Random compositions: what is derived is true, and a wrong rule is never shown."""

from __future__ import annotations

import os
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jvpcli
from jvpcli.symbolic import atoms, forms, operations, rules, scalars

EXAMPLES = int(os.environ.get("JVP_COMPOSITIONS", "12"))
"""In a run of all tests; `make fuzz` draws 300 new ones, which take a few minutes."""

UNARY = ["torch.sin({})", "torch.tanh({})", "torch.exp(-{}**2)", "torch.sigmoid({})", "{}**2", "F.softplus({})", "torch.relu({})",
         "{} - {}.mean()", "torch.softmax({}, -1)", "torch.log_softmax({}, -1)", "-{}", "{}.abs()", "2*{} + 1", "{}.flip(-1)",
         "{}.cumsum(-1)", "1/(1 + {}**2)", "{}/(1 + {}.norm())", "torch.relu({})**2",
         "F.smooth_l1_loss({}, y, reduction='none')", "torch.atan(y/(1 + {}**2))"]  # fmt: skip
BINARY = ["{} + {}", "{}*{}", "{} - 2*{}", "{}*{}.sum()", "torch.maximum({}, {})", "torch.outer({}, {}) @ x",
          "torch.hypot({}, {})", "torch.linalg.cross({}, {})"]
LINEAR = ["A @ {}", "{} @ A", "A @ torch.diag({}) @ y"]
LAST = [
    "{}",
    "{}.sum()",
    "({}**2).sum()",
    "{} @ y",
    "torch.outer({}, y)",
    "torch.logsumexp({}, 0)",
    "{}.norm()",
    "{}.var()",
    "{}[1:]",
]


@st.composite
def expressions(draw):
    """An expression of vectors x and y of three entries and a matrix A."""

    def vector(depth):
        if depth == 0:
            return draw(st.sampled_from(["x", "y"]))
        form = draw(st.sampled_from(UNARY + BINARY + LINEAR))
        inner = f"({vector(depth - 1)})"
        return form.format(inner, f"({vector(0)})") if form in BINARY else form.replace("{}", inner)

    return draw(st.sampled_from(LAST)).replace("{}", f"({vector(draw(st.integers(1, 3)))})")


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(expressions())
def test_what_is_shown_is_true(expression):
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(2))
    A = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    tensors = {name: t for name, t in {"x": x, "y": y, "A": A}.items() if re.search(rf"\b{name}\b", expression)}
    result = jvpcli.derive(expression, tensors)
    leaves = {name: tensors[name].clone().requires_grad_() for name in result.vjp}
    out = eval(expression, {"torch": torch, "F": torch.nn.functional, **leaves})
    v = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(out, list(leaves.values()), v, allow_unused=True)
    for (name, product), want in zip(result.vjp.items(), wanted, strict=True):
        assert product.torch is not None, (name, product)
        got = torch.as_tensor(eval(product.torch, {"torch": torch, "v": v, **tensors}))
        torch.testing.assert_close(
            got, torch.zeros_like(leaves[name]) if want is None else want, rtol=1e-7, atol=1e-8
        )


CASES = {
    "product": ("torch.outer(x, x)", {"x": (3,)}),
    "sin": ("torch.sin(x)", {"x": (3,)}),
    "softmax": ("torch.softmax(x, 0)", {"x": (3,)}),
    "inv": ("torch.linalg.inv(X)", {"X": (3, 3)}),
    "matmul": ("A @ x", {"A": (3, 4), "x": (4,)}),
    "power": ("x**3", {"x": (3,)}),
}


def broken_rules():
    """(what is broken, how): each a rule of its own made wrong."""
    scalar = scalars.SCALARS["sin"]
    wrong = type(scalar)(
        scalar.torch,
        scalar.compute,
        (lambda p: forms.scaled(forms.fn("cos", p), Fraction(3, 2)),),
        scalar.text,
        scalar.latex,
    )
    yield "sin", lambda patch: patch.setitem(scalars.SCALARS, "sin", wrong)
    for name in ("softmax", "inv"):
        rule = atoms.ATOMS[name]
        yield (
            name,
            lambda patch, name=name, rule=rule: patch.setitem(
                atoms.ATOMS, name, lambda *given: forms.scaled(rule(*given), -1)
            ),
        )
    yield (
        "matmul",
        lambda patch: patch.setitem(
            operations.OPERATIONS, "matmul", lambda a, b: operations.matrices.matmul(operations.entries.times_of(a, 2), b)
        ),
    )
    yield (
        "product",
        lambda patch: patch.setattr(rules, "of_factor", lambda *given: forms.scaled(_of_factor(*given), 2)),
    )
    yield "power", lambda patch: patch.setattr(rules, "power", lambda base, e: forms.power(base, e + 1))


_of_factor = rules.of_factor


@pytest.mark.parametrize(
    ("name", "breaks"), list(broken_rules()), ids=lambda given: given if isinstance(given, str) else ""
)
def test_a_wrong_rule_is_never_shown(name, breaks, monkeypatch):
    expression, shapes = CASES[name]
    torch.manual_seed(0)
    tensors = {x: torch.randn(shape, dtype=torch.float64) for x, shape in shapes.items()}
    assert all(p.torch for p in jvpcli.derive(expression, tensors).vjp.values())
    breaks(monkeypatch)
    broken = jvpcli.derive(expression, tensors)
    assert all(p.torch is None and p.formula is None and p.reason for p in broken.vjp.values())
    assert all(form is None for form in broken.formula.values())
    assert not any(broken.cases.values())
