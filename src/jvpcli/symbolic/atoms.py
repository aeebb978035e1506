"""The derivatives of atoms: functions of tensors that keep their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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

AtomRule = Callable[[tuple[Lam, ...], tuple[Axis, ...], tuple[Index, ...], tuple], Poly]


def _softmax(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    here = atom("softmax", *args, at=at)
    return add(times(here, of(Delta(at[0], by[0]))), scaled(times(here, atom("softmax", *args, at=by)), -1))


def _log_softmax(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return add(of(Delta(at[0], by[0])), scaled(atom("softmax", *args, at=by), -1))


def _logsumexp(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    if len(by) == 1:
        return atom("softmax", *args, at=by)
    return fn("exp", add(args[0](*by), scaled(atom("logsumexp", *args), -1)))


def _inv(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return scaled(times(atom("inv", *args, at=(at[0], by[0])), atom("inv", *args, at=(by[1], at[1]))), -1)


def _det(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return times(atom("det", *args), atom("inv", *args, at=by[::-1]))


def _logdet(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return atom("inv", *args, at=by[::-1])


def _prod(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return times(atom("prod", *args), power(args[0](*by), -1))


def _amax(name: str) -> AtomRule:
    def rule(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
        here = of(Atom(name, args, by))
        if not params:
            return here
        places = tuple(fresh(index.size) for index in by)  # it is shared among all that are as large
        return times(here, power(total(of(Atom(name, args, places)), places), -1))

    return rule


def _move(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    name, *more = params
    more = more[:3] if name == "pick" else more  # what stands where nothing is picked is a constant
    if name.startswith("adjoint "):
        return of(Move(name.removeprefix("adjoint "), tuple(more), by, at))
    return of(Move(name, tuple(more), at, by))


def _picks(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    """What an entry picked by its size is: the one that stands there."""
    place = Lam((), atom("indices", *args, at=at, params=params))
    return atom("one_hot", place, at=by, params=(by[0].size,))


def _cumprod(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    until = of(Move("cumsum", (0, 1), at, by))
    return times(atom("cumprod", *args, at=at), until, power(args[0](*by), -1))


def _cholesky(args: tuple[Lam, ...], arriving: Arriving, by: tuple[Index, ...]) -> Poly:
    """dL = L·Φ(L⁻¹ dA L⁻ᵀ), where Φ takes the lower triangle and half the diagonal; dA is symmetric."""
    n = by[0].size
    i, j, k, p, q, r, s = (fresh(n) for _ in range(7))
    inverse = Lam((r, s), atom("cholesky", *args, at=(r, s)))
    inside = Lam((k, j), total_of(arriving(i, j), atom("cholesky", *args, at=(i, k)), (i,)))
    upper = Atom("cholesky", args, (j, k))
    is_upper = all(upper in term.factors for term in inside.body)  # as for what reads the diagonal of L alone

    def part(diagonal: int, a: Index, b: Index) -> Poly:
        if is_upper and diagonal < 0:
            return ()
        half = times(of(Delta(p, q)), inside(q, q)) if is_upper else moved(inside, "tril", (diagonal,), inside.shape)(p, q)
        return scaled(total(times(half, atom("inv", inverse, at=(p, a)), atom("inv", inverse, at=(q, b))), (p, q)), "1/2")

    return add(part(0, *by), part(-1, *by[::-1]))


def _pinv(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    """dP = −P dA P + P Pᵀ dAᵀ (I − A P) + (I − P A) dAᵀ Pᵀ P, where the rank stays."""
    (i, j), (a, b) = at, by
    m, n = by[0].size, by[1].size

    def p(x: Axis, y: Axis) -> Poly:
        return atom("pinv", *args, at=(x, y))

    k, t, r, s = fresh(m), fresh(m), fresh(n), fresh(n)
    residual = add(of(Delta(a, j)), scaled(total(times(args[0](a, r), p(r, j)), (r,)), -1))
    null = add(of(Delta(i, b)), scaled(total(times(p(i, t), args[0](t, b)), (t,)), -1))
    return add(
        scaled(times(p(i, a), p(b, j)), -1),
        times(total(times(p(i, k), p(b, k)), (k,)), residual),
        times(null, total(times(p(s, a), p(s, j)), (s,))),
    )


def _matrix_exp(args: tuple[Lam, ...], arriving: Arriving, by: tuple[Index, ...]) -> Poly:
    (i, j), x = args[0].over, args[0]
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


def _eigenvalues(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return times(*(atom("eigenvectors", *args, at=(i, at[0])) for i in by))


def _eigenvectors(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    """∂u_k = Σ_{l≠k} u_l (u_lᵀ dA u_k)/(λ_k − λ_l), where dA is symmetric."""
    (i, k), (a, b) = at, by
    m = fresh(by[0].size)
    same = of(Delta(m, k))
    gap = add(atom("eigenvalues", *args, at=(k,)), scaled(atom("eigenvalues", *args, at=(m,)), -1), same)

    def part(a: Axis, b: Axis) -> Poly:
        u = [atom("eigenvectors", *args, at=where) for where in ((i, m), (a, m), (b, k))]
        return total(times(number("1/2"), add(number(1), scaled(same, -1)), power(gap, -1), *u), (m,))

    return add(part(a, b), part(b, a))


def _singular_values(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    return times(
        atom("left_vectors", *args, at=(by[0], at[0])), atom("right_vectors", *args, at=(at[0], by[1]))
    )


Arriving = Callable[[Index, Index], Poly]
"""What arrives at an entry of a matrix."""

BACKWARD: Mapping[str, Callable[[tuple[Lam, ...], Arriving, tuple[Index, ...]], Poly]] = {
    "matrix_exp": _matrix_exp,
    "cholesky": _cholesky,
}
"""Σ (what arrives)·∂(atom)/∂(entry `by` of its argument): atoms whose derivative is short as it goes back."""


def _by_entries(name: str) -> AtomRule:
    """The derivative of one entry: what goes back where a one arrives at it alone."""

    def rule(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
        return BACKWARD[name](args, lambda *own: times(*(of(Delta(a, b)) for a, b in zip(at, own, strict=True))), by)

    return rule


ATOMS: Mapping[tuple[str, int], AtomRule] = {
    ("softmax", 0): _softmax,
    ("log_softmax", 0): _log_softmax,
    ("logsumexp", 0): _logsumexp,
    ("inv", 0): _inv,
    ("det", 0): _det,
    ("logdet", 0): _logdet,
    ("prod", 0): _prod,
    ("amax", 0): _amax("is_max"),
    ("amin", 0): _amax("is_min"),
    **{(name, 0): lambda *_: () for name in ("is_max", "is_min", "indices", "one_hot")},
    ("values", 0): _picks,
    ("cumprod", 0): _cumprod,
    ("cholesky", 0): _by_entries("cholesky"),
    ("pinv", 0): _pinv,
    ("matrix_exp", 0): _by_entries("matrix_exp"),
    ("eigenvalues", 0): _eigenvalues,
    ("eigenvectors", 0): _eigenvectors,
    ("singular_values", 0): _singular_values,
    ("move", 0): _move,
}
"""∂(entry `at` of an atom)/∂(entry `by` of its argument)."""

