"""Index forms as text and as LaTeX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.forms import (
    ADJOINT,
    EPSILON,
    Atom,
    Axis,
    Delta,
    Factor,
    Fn,
    Index,
    Lam,
    Move,
    Poly,
    Power,
    Sym,
    Term,
    indices,
)
from jvpcli.symbolic.scalars import SCALARS

LETTERS = "ijklmnpqrstabcdefgh"


def unused(taken: Iterable[str]) -> str:
    """A letter for an index that none of `taken` is."""
    used = set(taken)
    more = (f"{c}{k}" for k in itertools.count(1) for c in LETTERS)
    return next(c for c in itertools.chain(LETTERS, more) if c not in used)


SUPERSCRIPT = str.maketrans("-0123456789/", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᐟ")


@dataclass(frozen=True)
class Style:
    """How the pieces of a form are put on paper."""

    latex: bool

    def entry(self, name: str, at: str) -> str:
        """How an entry of a tensor is written."""
        return style_entry(self.name(name), at, self)

    def name(self, name: str) -> str:
        """How a tensor is."""
        if not self.latex or len(name) == 1:
            return name
        return rf"\mathrm{{{name}}}".replace("_", r"\_")

    def number(self, value: Fraction) -> str:
        """How a number is, without digits that are not there."""
        if value.denominator == 1:
            return str(value)
        if value.denominator <= 1000:
            if self.latex:
                return rf"{'-' if value < 0 else ''}\tfrac{{{abs(value.numerator)}}}{{{value.denominator}}}"
            return str(value)
        return of_roots(value, self.latex) or f"{float(value):.12g}"

    @property
    def dot(self) -> str:
        """Between factors."""
        return r" \, " if self.latex else "·"

    @property
    def minus(self) -> str:
        """In front of what is taken off."""
        return "-" if self.latex else "−"


TEXT, LATEX = Style(False), Style(True)

PI = Fraction("3.14159265358979323846264338327950288")

ROUNDED = Fraction(1, 2 * 10**15)
"""How far a number may be from another that it stands for, in proportion: what two roundings to double precision leave."""


def of_roots(value: Fraction, latex: bool) -> str | None:
    """A number such as 1/√3, π/180 or √(2/π), of which the digits say nothing; None: it is none of small whole numbers."""
    size = abs(value)
    for of_root, base in ((False, size), (True, size * size)):
        for power in (1, -1, 0):  # the number, or its square, is a quotient of whole numbers times π to this power
            quotient = (base / PI**power).limit_denominator(1000)
            if quotient and quotient.numerator <= 1000 and abs(base / PI**power / quotient - 1) < ROUNDED:
                above = _rooted(quotient.numerator, of_root, power > 0, latex)
                below = _rooted(quotient.denominator, of_root, power < 0, latex)
                return ("-" if value < 0 else "") + _divided(above, below, latex)
    return None


def _rooted(n: int, of_root: bool, has_pi: bool, latex: bool) -> list[str]:
    """The factors of a whole number, times π or not, or of its root: what is a square stands in front of the root."""
    pi = [r"\pi" if latex else "π"] if has_pi else []
    if not of_root:
        return [str(n)] * (n > 1) + pi
    front = max(k for k in range(1, math.isqrt(n) + 1) if n % (k * k) == 0)
    inner = [str(n // front**2)] * (n > front**2) + pi
    if not inner:
        return [str(front)] * (front > 1)
    within = (r" \, " if latex else "·").join(inner)
    root = rf"\sqrt{{{within}}}" if latex else f"√({within})" if len(inner) > 1 else f"√{within}"
    return [str(front)] * (front > 1) + [root]


def _divided(above: list[str], below: list[str], latex: bool) -> str:
    if latex:
        over, under = (r" \, ".join(each) or "1" for each in (above, below))
        return over if not below else rf"\tfrac{{{over}}}{{{under}}}"
    over, under = "·".join(above) or "1", "·".join(below)
    return over if not below else f"{over}/({under})" if len(below) > 1 else f"{over}/{under}"


def written(poly: Poly, letters: Mapping[Index, str], style: Style = TEXT, taken: Iterable[str] = ()) -> str:
    """A form as text; `letters` name its free indices, and those bound ones that have a letter already.

    No other is called as one of `taken`.
    """
    if not poly:
        return "0"
    return _with(poly, letters, {letters[i] for i in indices(poly) if i in letters} | set(taken), style)


def _term(term: Term, letters: Mapping[Index, str], taken: Iterable[str], style: Style) -> str:
    """A term without its sign."""
    size = abs(term.coefficient)
    used = set(taken)
    letters = dict(letters)
    for s in term.sums:
        if letters.get(s) is None or letters[s] in used:
            letters[s] = unused(used)
        used.add(letters[s])
    above = [f for f in term.factors if not (isinstance(f, Power) and f.exponent < 0)]
    below = [Power(f.base, -f.exponent) for f in term.factors if isinstance(f, Power) and f.exponent < 0]
    outside = [f for f in above if not (set(indices(f)) & set(term.sums))] if term.sums else above
    below_outside = [f for f in below if not (set(indices(f)) & set(term.sums))]
    inside = [f for f in above if f not in outside] if term.sums else []
    below_inside = [f for f in below if f not in below_outside]
    pieces = [style.number(size)] if size != 1 else []
    pieces += [_factor(f, letters, used, style) for f in sorted(outside, key=_rank)]
    if term.sums:
        sign = (
            rf"\sum_{{{' '.join(letters[s] for s in term.sums)}}} "
            if style.latex
            else f"Σ_{''.join(letters[s] for s in term.sums)} "
        )
        inner = (
            style.dot.join(
                _factor(f, letters, used, style) for f in sorted(inside, key=_rank)
            )
            or "1"
        )
        pieces.append(sign + _quotient(inner, below_inside, letters, used, style))
    return _quotient(style.dot.join(pieces) or "1", below_outside, letters, used, style, bool(term.sums))


def _rank(factor: Factor) -> int:
    return 0 if isinstance(factor, Delta) else 2 if isinstance(factor, Power) and factor.exponent == 1 else 1


def _quotient(
    above: str, below: list[Power], letters: Mapping[Index, str], taken: set[str], style: Style, wrap: bool = False
) -> str:
    if not below:
        return above
    under = style.dot.join(
        _factor(f, letters, taken, style, alone=style.latex and len(below) == 1) for f in below
    )
    if style.latex:
        return rf"\frac{{{above}}}{{{under}}}"
    above = f"({above})" if wrap else above
    return f"{above}/{under}" if len(below) == 1 else f"{above}/({under})"


def _factor(
    factor: Factor, letters: Mapping[Index, str], taken: Iterable[str], style: Style, alone: bool = False
) -> str:
    def axes(at: tuple[Axis, ...]) -> str:
        names = [str(a) if isinstance(a, int) else letters.get(a, "?") for a in at]
        return ("," if any(len(n) > 1 or n.isdigit() for n in names) and len(names) > 1 else "").join(names)

    def inner(poly: Poly) -> str:
        used = {letters[i] for i in indices(poly) if i in letters} | set(taken)
        return _with(poly, letters, used, style)

    match factor:
        case Sym(name, at):
            return style.entry(name, axes(at))
        case Delta(a, b):
            by_letter = sorted((a, b), key=lambda c: (isinstance(c, int), LETTERS.find(letters.get(c, "?"))))  # type: ignore
            return style_entry(r"\delta" if style.latex else "δ", axes(tuple(by_letter)), style)
        case Power(base, e):
            text = inner(base)
            plain = len(base) == 1 and base[0].coefficient == 1 and len(base[0].factors) == 1 and not base[0].sums
            is_power = plain and isinstance(base[0].factors[0], Power)
            if e == Fraction(1, 2):
                return rf"\sqrt{{{text}}}" if style.latex else f"√({text})" if not plain or is_power else f"√{text}"
            if e == 1:
                return text if alone or (plain and not is_power) else f"({text})"
            if (
                not plain
                or is_power
                or (isinstance(base[0].factors[0], Fn) and SCALARS[base[0].factors[0].name].text[:1] in "{")
            ):
                text = rf"\left({text}\right)" if style.latex else f"({text})"
            return f"{{{text}}}^{{{e}}}" if style.latex else text + str(e).translate(SUPERSCRIPT)
        case Fn(name, args):
            form = SCALARS[name].latex if style.latex else SCALARS[name].text
            texts = [inner(a) for a in args]
            if name == "power":
                texts = [t if t.isidentifier() or t.isdigit() else f"({t})" for t in texts]
            return form.format(*texts)
        case Atom(own, (), at) if own == EPSILON:
            return style_entry(r"\varepsilon" if style.latex else "ε", axes(at), style)
        case Atom(name, args, at, params):
            shown = [_tensor(lam, letters, taken, style) for lam in args]
            name = moved_name(params) if name == "move" else name
            label = chosen_name(name, *params) if name in ("values", "indices") else name.replace(ADJOINT, "")
            if name.startswith(ADJOINT):
                label += "ᵀ" if not style.latex else "^T"
            if style.latex:
                label = rf"\operatorname{{{label}}}".replace("^T}", "}^T").replace("_", r"\_")
            return style_entry(f"{label}({', '.join(shown)})", axes(at), style)
        case Move(name, params, out, into):
            name = moved_name((name, *params))
            return style_entry(rf"\operatorname{{{name}}}" if style.latex else name, axes((*out, *into)), style)
    raise AssertionError(factor)


def chosen_name(part: str, function: str, options: tuple[tuple[str, Any], ...]) -> str:
    """What picks entries by their sizes, or the positions of those."""
    told = ", ".join(f"{name}={value}" for name, value in options)
    return ("arg" if part == "indices" else "") + function + (f"[{told}]" if told else "")


MOST_TOLD = 12
"""Of picked places, how many a formula tells."""


def moved_name(params: tuple[Any, ...]) -> str:
    """What a move is called, with what tells it from others of its kind."""
    own, *more = params
    told: Any = more[0]
    match own.replace(ADJOINT, ""):
        case "reshape":
            told = "×".join(map(str, more[1]))
        case "windows":
            told = "×".join(map(str, more[0]))
        case "pad":
            told = more[1]
        case "flip" | "pick":
            told = ",".join(map(str, more[0][:MOST_TOLD])) + (",…" if len(more[0]) > MOST_TOLD else "")
    return f"{own}[{told}]" if told != 0 or own.replace(ADJOINT, "") not in ("tril", "triu") else own


def style_entry(text: str, at: str, style: Style) -> str:
    """How an entry of a function of tensors is written."""
    return text if not at else f"{text}_{{{at}}}" if style.latex else f"{text}_{at}"


def _with(poly: Poly, letters: Mapping[Index, str], taken: set[str], style: Style) -> str:
    if not poly:
        return "0"
    pieces = []
    for k, term in enumerate(ordered(poly)):
        text = _term(term, letters, taken, style)
        sign = style.minus if term.coefficient < 0 else ("+" if k else "")
        pieces.append(f"{sign}{text}" if k == 0 else f" {sign} {text}")
    return "".join(pieces)


def ordered(poly: Poly) -> Poly:
    """The terms in the order in which they are written: no sum begins with a minus that need not, or stands alone in another."""
    flat = tuple(inner for term in poly for inner in _summands(term))
    return tuple(sorted(flat, key=lambda term: term.coefficient < 0)) if flat and flat[0].coefficient < 0 else flat


def _summands(term: Term) -> Poly:
    match term:
        case Term(Fraction(numerator=1, denominator=1), (), (Power(base, Fraction(numerator=1, denominator=1)),)):
            return base
    return (term,)


def _tensor(lam: Lam, letters: Mapping[Index, str], taken: Iterable[str], style: Style) -> str:
    """A tensor: its name alone where it is one, else its entry with dots for what runs."""
    only = (
        lam.body[0].factors[0]
        if len(lam.body) == 1 and len(lam.body[0].factors) == 1 and not lam.body[0].sums
        else None
    )
    if isinstance(only, Sym) and lam.body[0].coefficient == 1 and only.at == lam.over:
        return style.name(only.name)
    dots = dict.fromkeys(lam.over, "•" if not style.latex else r"\bullet") if len(lam.over) == 1 else {}
    used = set(taken)
    names = dict(letters)
    for index in lam.over:
        names[index] = dots.get(index) or unused(used)
        used.add(names[index])
    return _with(lam.body, names, used, style)
