"""The derivatives of atoms: functions of tensors that keep their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jvpcli.symbolic.forms import (
    Atom,
    Axis,
    Delta,
    Index,
    Lam,
    Move,
    Poly,
    add,
    atom,
    distributed,
    fn,
    fresh,
    indices,
    normal,
    number,
    of,
    power,
    scaled,
    times,
    total,
    total_of,
)
from jvpcli.symbolic.operations.shapes import moved

AtomRule = Callable[[Lam, tuple[Axis, ...], tuple[Index, ...], tuple[Any, ...]], Poly]
"""∂(entry `at` of an atom of a tensor, with its params)/∂(entry `by` of the tensor)."""

Arriving = Callable[[Index, Index], Poly]
"""What arrives at an entry of a matrix."""


def _logsumexp(x: Lam, by: tuple[Index, ...]) -> Poly:
    if len(by) == 1:
        return atom("softmax", x, at=by)
    return fn("exp", add(x(*by), scaled(atom("logsumexp", x), -1)))


def _largest(name: str, x: Lam, by: tuple[Index, ...], params: tuple[Any, ...]) -> Poly:
    here = of(Atom(name, (x,), by))
    if not params:
        return here
    places = tuple(fresh(index.size) for index in by)  # it is shared among all that are as large
    return times(here, power(total(of(Atom(name, (x,), places)), places), -1))


def _move(at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple[Any, ...]) -> Poly:
    name, *more = params
    more = more[:3] if name == "pick" else more  # what stands where nothing is picked is a constant
    if name.startswith("adjoint "):
        return of(Move(name.removeprefix("adjoint "), tuple(more), by, at))
    return of(Move(name, tuple(more), at, by))


def _picked(x: Lam, at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple[Any, ...]) -> Poly:
    """What an entry picked by its size is: the one that stands there."""
    place = Lam((), atom("indices", x, at=at, params=params))
    return atom("one_hot", place, at=by, params=(by[0].size,))


def _cholesky(x: Lam, arriving: Arriving, by: tuple[Index, ...]) -> Poly:
    """dL = L·Φ(L⁻¹ dA L⁻ᵀ), where Φ takes the lower triangle and half the diagonal; dA is symmetric."""
    n = by[0].size
    i, j, k, p, q, r, s = (fresh(n) for _ in range(7))
    inverse = Lam((r, s), atom("cholesky", x, at=(r, s)))
    inside = Lam((k, j), total_of(arriving(i, j), atom("cholesky", x, at=(i, k)), (i,)))
    upper = Atom("cholesky", (x,), (j, k))
    is_upper = all(upper in term.factors for term in inside.body)  # as for what reads the diagonal of L alone

    def part(diagonal: int, a: Index, b: Index) -> Poly:
        if is_upper and diagonal < 0:
            return ()
        half = times(of(Delta(p, q)), inside(q, q)) if is_upper else moved(inside, "tril", (diagonal,), inside.shape)(p, q)
        return scaled(total(times(half, atom("inv", inverse, at=(p, a)), atom("inv", inverse, at=(q, b))), (p, q)), "1/2")

    return add(part(0, *by), part(-1, *by[::-1]))


def _pinv(x: Lam, at: tuple[Axis, ...], by: tuple[Index, ...]) -> Poly:
    """dP = −P dA P + P Pᵀ dAᵀ (I − A P) + (I − P A) dAᵀ Pᵀ P, where the rank stays."""
    (i, j), (a, b) = at, by
    m, n = by[0].size, by[1].size

    def p(row: Axis, column: Axis) -> Poly:
        return atom("pinv", x, at=(row, column))

    k, t, r, s = fresh(m), fresh(m), fresh(n), fresh(n)
    residual = add(of(Delta(a, j)), scaled(total(times(x(a, r), p(r, j)), (r,)), -1))
    null = add(of(Delta(i, b)), scaled(total(times(p(i, t), x(t, b)), (t,)), -1))
    return add(
        scaled(times(p(i, a), p(b, j)), -1),
        times(total(times(p(i, k), p(b, k)), (k,)), residual),
        times(null, total(times(p(s, a), p(s, j)), (s,))),
    )


def _matrix_exp(x: Lam, arriving: Arriving, by: tuple[Index, ...]) -> Poly:
    i, j = x.over
    p, q = fresh(i.size), fresh(i.size)
    direction = arriving(p, q)
    deltas = (Delta(p, q), Delta(q, p))
    if all(any(d in term.factors for d in deltas) for term in direction):  # E = c·I: exp changes as that of a number does
        numbers = add(*(normal(replace(t, factors=tuple(f for f in t.factors if f not in deltas))) for t in direction))
        if not {p, q} & indices(numbers):
            return distributed(atom("matrix_exp", x, at=by[::-1]), numbers)
    return _slope(Lam((j, i), x.body), arriving, by)


def _slope(x: Lam, direction: Callable[[Index, Index], Poly], at: tuple[Axis, ...]) -> Poly:
    """The derivative of exp(X) along E: the block beside exp(X) in exp([[X, E], [0, X]])."""
    n = x.shape[0]
    i, j = fresh(n), fresh(n)
    e = Lam((i, j), direction(i, j))

    def put(block: Lam, left: int, top: int) -> Lam:
        widths = (left, n - left, top, n - top)
        cuts = f"{top}:{top + n}, {left}:{left + n}"
        return moved(block, "pad", (widths, cuts), (2 * n, 2 * n))

    blocks = [put(x, 0, 0), put(e, n, 0), put(x, n, n)]
    p, q, r, s = (fresh(2 * n) for _ in range(4))
    block = Lam((p, q), add(*(b(p, q) for b in blocks)))
    whole = Lam((r, s), atom("matrix_exp", block, at=(r, s)))
    return moved(whole, "slice", (f":{n}, {n}:", (n, 0, 0, n)), (n, n))(*at)


def _eigenvectors(x: Lam, at: tuple[Axis, ...], by: tuple[Index, ...]) -> Poly:
    """∂u_k = Σ_{l≠k} u_l (u_lᵀ dA u_k)/(λ_k − λ_l), where dA is symmetric."""
    (i, k), (a, b) = at, by
    m = fresh(by[0].size)
    same = of(Delta(m, k))
    gap = add(atom("eigenvalues", x, at=(k,)), scaled(atom("eigenvalues", x, at=(m,)), -1), same)

    def part(a: Axis, b: Axis) -> Poly:
        u = [atom("eigenvectors", x, at=where) for where in ((i, m), (a, m), (b, k))]
        return total(times(number("1/2"), add(number(1), scaled(same, -1)), power(gap, -1), *u), (m,))

    return add(part(a, b), part(b, a))


BACKWARD: Mapping[str, Callable[[Lam, Arriving, tuple[Index, ...]], Poly]] = {"matrix_exp": _matrix_exp, "cholesky": _cholesky}
"""Σ (what arrives)·∂(atom)/∂(entry `by` of its argument): atoms whose derivative is short as it goes back."""


def _by_entries(name: str) -> AtomRule:
    """The derivative of one entry: what goes back where a one arrives at it alone."""
    return lambda x, at, by, _: BACKWARD[name](x, lambda p, q: times(of(Delta(at[0], p)), of(Delta(at[1], q))), by)


ATOMS: Mapping[str, AtomRule] = {
    "softmax": lambda x, at, by, _: add(
        times(atom("softmax", x, at=at), of(Delta(at[0], by[0]))),
        scaled(times(atom("softmax", x, at=at), atom("softmax", x, at=by)), -1),
    ),
    "log_softmax": lambda x, at, by, _: add(of(Delta(at[0], by[0])), scaled(atom("softmax", x, at=by), -1)),
    "logsumexp": lambda x, at, by, _: _logsumexp(x, by),
    "inv": lambda x, at, by, _: scaled(times(atom("inv", x, at=(at[0], by[0])), atom("inv", x, at=(by[1], at[1]))), -1),
    "det": lambda x, at, by, _: times(atom("det", x), atom("inv", x, at=by[::-1])),
    "logdet": lambda x, at, by, _: atom("inv", x, at=by[::-1]),
    "prod": lambda x, at, by, _: times(atom("prod", x), power(x(*by), -1)),
    "amax": lambda x, at, by, params: _largest("is_max", x, by, params),
    "amin": lambda x, at, by, params: _largest("is_min", x, by, params),
    **{name: lambda *_: () for name in ("is_max", "is_min", "indices", "one_hot")},
    "values": _picked,
    "cumprod": lambda x, at, by, _: times(
        atom("cumprod", x, at=at), of(Move("cumsum", (0, 1), at, by)), power(x(*by), -1)
    ),
    "cholesky": _by_entries("cholesky"),
    "pinv": lambda x, at, by, _: _pinv(x, at, by),
    "matrix_exp": _by_entries("matrix_exp"),
    "eigenvalues": lambda x, at, by, _: times(*(atom("eigenvectors", x, at=(i, at[0])) for i in by)),
    "eigenvectors": lambda x, at, by, _: _eigenvectors(x, at, by),
    "singular_values": lambda x, at, by, _: times(
        atom("left_vectors", x, at=(by[0], at[0])), atom("right_vectors", x, at=(at[0], by[1]))
    ),
    "move": lambda x, at, by, params: _move(at, by, params),
}
"""By an atom's name; others have no derivative in closed form."""
