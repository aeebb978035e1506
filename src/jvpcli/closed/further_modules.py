"""Modules of Python's own that a program asks for now and then: each is loaded only where it is imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jvpcli.closed import reach
from jvpcli.closed.words import INERT, Namespace
from jvpcli.errors import ForbiddenError

NAMES = {
    "bisect": ("bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"),
    "cmath": ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "isclose", "isfinite", "isinf", "isnan",
              "log", "log10", "phase", "polar", "rect", "sin", "sinh", "sqrt", "tan", "tanh", "pi", "e", "tau", "inf", "nan"),
    "heapq": ("heapify", "heappop", "heappush", "heappushpop", "heapreplace", "merge", "nlargest", "nsmallest"),
    "numbers": ("Number", "Complex", "Real", "Rational", "Integral"),
    "statistics": ("fmean", "geometric_mean", "harmonic_mean", "mean", "median", "median_high", "median_low", "mode", "multimode",
                   "pstdev", "pvariance", "stdev", "variance"),
}  # fmt: skip
"""What a program has of each: functions and numbers that give what they give for their arguments alone."""

INDENTED = 100
"""The widest step by which a text of JSON may be set in."""


def further_module(root: str) -> Namespace | None:
    """A module by its name; None: a program has none of that name."""
    if root == "json":
        return Namespace("json", {"dumps": _written, "loads": _read, "dump": INERT})
    if root not in NAMES:
        return None
    module = import_module(root)
    return Namespace(root, {name: getattr(module, name) for name in NAMES[root]})


def _written(value: Any, *, indent: Any = None, **options: Any) -> str:
    """`json.dumps(value)`, of plain values; none of what is asked besides makes a text of any size."""
    import json

    for name in options.keys() - {"sort_keys", "ensure_ascii", "allow_nan"}:
        raise ForbiddenError(f"The argument `{name}` of json.dumps can't be used in a program.")
    indent, value = reach.exact(indent), dict(value) if isinstance(value, reach.Attributes) else value
    if (isinstance(indent, int) and indent > INDENTED) or (isinstance(indent, str) and len(indent) > INDENTED):
        raise ForbiddenError(f"A text of JSON is set in by at most {INDENTED} characters.")
    return json.dumps(value, indent=indent, **options)


def _read(text: Any) -> Any:
    """`json.loads(text)`"""
    import json

    return json.loads(text)
