"""What PyTorch does where a function has a kink: at entries that are equally large, and at norms that are zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from jvpcli.symbolic.forms import Atom, Factor, Fn, Poly, Power, atom, fresh, indices, mapped, total
from jvpcli.symbolic.verification import Named, value

SHARING = {name: f"shared_{name}" for name in ("maximum", "minimum")}
"""Functions of two entries, and those with the same values whose derivative is right where both are equal, too."""

EXTREMES = {"amax": "is_max", "amin": "is_min"}
"""Atoms along axes, and those that are 1 where such an entry stands."""


def settled(poly: Poly, points: Sequence[Named]) -> Poly:
    """The same form, with derivatives that are PyTorch's where it has a kink at one of the points.

    What arrives at the larger one of equal entries is shared among them, and nothing goes back through a root of zero.
    """
    return tuple(replace(term, factors=tuple(_settled(f, points) for f in term.factors)) for term in poly)


def _settled(factor: Factor, points: Sequence[Named]) -> Factor:
    kink = any(_at_kink(factor, tensors) for tensors in points)
    factor = mapped(factor, lambda axis: axis, lambda poly: settled(poly, points))
    match factor:
        case Fn(name, args) if kink:
            return Fn(SHARING[name], args)
        case Atom() if kink:
            return replace(factor, params=("shared",))
        case Power(base) if kink:
            return Fn("flat_root", (base,))
    return factor


def _at_kink(factor: Factor, tensors: Named) -> bool:
    match factor:
        case Fn(name, (a, b)) if name in SHARING:
            axes = tuple(indices(a) | indices(b))
            return bool((value(a, axes, tensors) == value(b, axes, tensors)).any())
        case Atom(name, (lam,)) if name in EXTREMES:
            rest = tuple(indices(lam.body) - set(lam.over))
            places = tuple(fresh(index.size) for index in lam.over)
            count = total(atom(EXTREMES[name], lam, at=places), places)
            return bool((value(count, rest, tensors) > 1).any())
        case Power(base, exponent) if exponent == Fraction(1, 2):
            return bool((value(base, tuple(indices(base)), tensors) == 0).any())
    return False
