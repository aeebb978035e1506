"""The derivatives of atoms: functions of tensors that keep their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    fn,
    of,
    power,
    scaled,
    times,
)

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
        return of(Atom(name, args, by))

    return rule


def _move(args: tuple[Lam, ...], at: tuple[Axis, ...], by: tuple[Index, ...], params: tuple) -> Poly:
    name, *more = params
    more = more[:3] if name == "pick" else more  # what stands where nothing is picked is a constant
    if name.startswith("adjoint "):
        return of(Move(name.removeprefix("adjoint "), tuple(more), by, at))
    return of(Move(name, tuple(more), at, by))


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
    ("is_max", 0): lambda *_: (),
    ("is_min", 0): lambda *_: (),
    ("move", 0): _move,
}
"""∂(entry `at` of an atom)/∂(entry `by` of its argument)."""
