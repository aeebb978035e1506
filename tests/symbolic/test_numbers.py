"""Numbers of formulas: roots and parts of π are written as such, and are the numbers that they stand for."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as some

from jvpcli.render.html.formulas import Kinds
from jvpcli.render.html.formulas import math as set_as_formula
from jvpcli.symbolic.writing import LATEX, TEXT

WHOLE = some.integers(1, 400)


def read(text: str) -> float:
    """A number's text as Python reads it."""
    text = re.sub(r"√(\d+|π)", r"√(\1)", text)
    return float(eval(text.replace("√", "sqrt").replace("·", "*").replace("π", "pi"), vars(math).copy()))


@given(WHOLE, WHOLE, some.sampled_from([-1, 0, 1]), some.booleans(), some.booleans())
def test_a_root_or_a_part_of_pi_is_written_as_one(a, b, power, is_root, is_negative):
    value = a / b * math.pi**power
    value = (math.sqrt(value) if is_root else value) * (-1 if is_negative else 1)
    text = TEXT.number(Fraction(str(value)))
    assert "." not in text
    assert math.isclose(read(text), value, rel_tol=1e-15)
    assert "<code>" not in set_as_formula(text.replace("-", "−"), Kinds())  # the page has it, too


@given(some.decimals(min_value="0.001", max_value=1000, places=9))
def test_digits_that_somebody_wrote_stay(value):
    text = TEXT.number(Fraction(value))
    assert float(text if "/" not in text else Fraction(text)) == float(value)


@pytest.mark.parametrize(
    ("value", "text", "latex"),
    [
        (1 / math.sqrt(3), "1/√3", r"\tfrac{1}{\sqrt{3}}"),
        (1 / math.sqrt(2 * math.pi), "1/√(2·π)", r"\tfrac{1}{\sqrt{2 \, \pi}}"),
        (math.pi / 180, "π/180", r"\tfrac{\pi}{180}"),
        (-3 * math.sqrt(2), "-3·√2", r"-3 \, \sqrt{2}"),
        (1 / (4 * math.pi), "1/(4·π)", r"\tfrac{1}{4 \, \pi}"),
        (math.e, "2.71828182846", "2.71828182846"),
    ],
)
def test_how_it_is_written(value, text, latex):
    assert (TEXT.number(Fraction(str(value))), LATEX.number(Fraction(str(value)))) == (text, latex)
