"""Derivatives of index forms: the rule of sums, of products, of powers, of scalar functions, and of atoms."""

from __future__ import annotations

from fractions import Fraction

from jvpcli.symbolic.atoms import ATOMS, BACKWARD, AtomRule
from jvpcli.symbolic.factoring import collected
from jvpcli.symbolic.forms import (
    Atom,
    Delta,
    Factor,
    Fn,
    Index,
    NoClosedFormError,
    Poly,
    Power,
    Sym,
    Term,
    add,
    distributed,
    fresh,
    indices,
    names,
    number,
    of,
    parts,
    power,
    renamed,
    times,
    total,
    total_of,
)
from jvpcli.symbolic.scalars import SCALARS


def derivative(poly: Poly, name: str, at: tuple[Index, ...]) -> Poly:
    """∂(form)/∂(entry `at` of the tensor `name`)."""
    found: list[Poly] = []
    for term in poly:
        for k, factor in enumerate(term.factors):
            inner = of_factor(factor, name, at)
            if inner:
                others = (Term(term.coefficient, (), (*term.factors[:k], *term.factors[k + 1 :])),)
                found.append(add(*(total(times(others, (one,)), term.sums) for one in inner)))
    return add(*found)


def of_factor(factor: Factor, name: str, at: tuple[Index, ...]) -> Poly:
    """The derivative of one factor."""
    match factor:
        case Sym(own, axes):
            if own != name:
                return ()
            return times(*(of(Delta(a, b)) for a, b in zip(axes, at, strict=True))) if at else number(1)
        case Power(base, e):
            inner = derivative(base, name, at)
            return distributed(times(number(e), power(base, e - 1)), inner) if inner else ()
        case Fn(own, args):
            partials = SCALARS[own].partials
            slopes = ((partial, derivative(arg, name, at)) for partial, arg in zip(partials, args, strict=True))
            return add(*(distributed(partial(*args), inner) for partial, inner in slopes if inner))
        case Atom(own, (x,), axes, params):
            places = tuple(fresh(index.size) for index in x.over)
            inner = derivative(x(*places), name, at)
            return total_of(_rule(own)(x, axes, places, params), inner, places) if inner else ()
    return ()


def pulled(poly: Poly, weight: Poly, over: tuple[Index, ...], name: str, at: tuple[Index, ...]) -> Poly:
    """Σ_over weight·∂(form)/∂(entry `at` of `name`), from the outside in: what arrives at an argument stays one factor."""
    found: list[Poly] = []
    for term in poly:
        own = {s: fresh(s.size) for s in term.sums}
        (inner,) = renamed((Term(term.coefficient, (), term.factors),), own)
        term = Term(term.coefficient, tuple(own.values()), inner.factors)
        every = (*over, *term.sums)
        for k, factor in enumerate(term.factors):
            if name not in names((Term(Fraction(1), (), (factor,)),)):
                continue
            arriving = times(weight, (Term(term.coefficient, (), (*term.factors[:k], *term.factors[k + 1 :])),))
            found.append(_into(factor, arriving, every, name, at))
    return add(*found)


def _into(factor: Factor, arriving: Poly, over: tuple[Index, ...], name: str, at: tuple[Index, ...]) -> Poly:
    match factor:
        case Sym():
            return total_of(arriving, of_factor(factor, name, at), over)
        case Power(base, e):
            return _onward(times(arriving, number(e), power(base, e - 1)), base, over, name, at)
        case Fn(own, args):
            partials = zip(args, SCALARS[own].partials, strict=True)
            into = (_onward(times(arriving, part(*args)), arg, over, name, at) for arg, part in partials if name in names(arg))
            return add(*into)
        case Atom(own, (x,), axes, params):
            places = tuple(fresh(index.size) for index in x.over)
            inner = x(*places)
            kept = tuple(i for i in over if i in indices(inner))
            if own in BACKWARD and not kept:
                weight = _arriving(factor, arriving, over, places)
            else:
                gone = tuple(i for i in over if i not in kept)
                weight = total_of(arriving, _rule(own)(x, axes, places, params), gone)
            return pulled(inner, collected(weight, through=False), (*kept, *places), name, at)
    return ()


def _rule(name: str) -> AtomRule:
    """The derivative of an atom.

    Raises:
        NoClosedFormError: it has none.
    """
    if name not in ATOMS:
        raise NoClosedFormError(f"the derivative of {name} has no closed form here")
    return ATOMS[name]


def _arriving(factor: Atom, arriving: Poly, over: tuple[Index, ...], by: tuple[Index, ...]) -> Poly:
    """What arrives at the argument of an atom whose derivative is known as it goes back."""

    def weight(*at: Index) -> Poly:
        deltas = times(*(of(Delta(a, b)) for a, b in zip(factor.at, at, strict=True)))
        return total_of(arriving, deltas, over)

    return BACKWARD[factor.name](factor.args[0], weight, by)


def _onward(weight: Poly, arg: Poly, over: tuple[Index, ...], name: str, at: tuple[Index, ...]) -> Poly:
    """What arrives at an argument, summed over what the argument does not depend on, goes on into it."""
    kept = tuple(i for i in over if i in indices(arg))
    gone = tuple(i for i in over if i not in kept)
    return pulled(arg, collected(total(weight, gone), through=False), kept, name, at)


def chooses(poly: Poly) -> bool:
    """Whether values choose what an entry of a form or of its derivative is: the larger one, what is positive."""
    factors = [factor for term in poly for factor in term.factors]
    here = any(isinstance(f, (Fn, Atom)) and f.name in CHOICES for f in factors)
    return here or any(chooses(inner) for f in factors for inner in parts(f))


CHOICES = frozenset(
    {
        "sign", "positive", "less", "not", "where", "abs", "relu", "maximum", "minimum", "floor", "ceil", "round", "trunc",
        "i0e", "i1e", "at_most", "equal", "unequal", "fmax", "fmin", "clamp_min", "clamp_max", "clamp", "hardtanh",
        "shared_maximum", "shared_minimum", "flat_root", "amax", "amin", "is_max", "is_min", "values", "indices",
    }
)  # fmt: skip
"""Functions that jump or have a kink; not read off their derivatives, which are what is to be verified."""
