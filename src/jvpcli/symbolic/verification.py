"""What a form is worth: evaluated sum by sum as it is written, to be compared with PyTorch's own numbers; and at kinks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.evaluate import default_dtype, evaluate_value
from jvpcli.language.parse import parse
from jvpcli.symbolic.forms import (
    Atom,
    Delta,
    Factor,
    Fn,
    Index,
    Move,
    Poly,
    Power,
    Sym,
    Term,
    atom,
    fresh,
    indices,
    mapped,
    total,
)
from jvpcli.symbolic.moves import MOVES
from jvpcli.symbolic.scalars import SCALARS

Named = Mapping[str, Tensor]


def value(poly: Poly, axes: Sequence[Index], tensors: Named) -> Tensor:
    """A form as a tensor with the axes that are given: every sum is carried out as it is written."""
    found = torch.zeros([i.size for i in axes], dtype=torch.float64)
    for term in poly:
        found = found + _term(term, axes, tensors)
    return found


def _term(term: Term, axes: Sequence[Index], tensors: Named) -> Tensor:
    operands: list[Any] = [torch.tensor(float(term.coefficient), dtype=torch.float64), []]
    numbers: dict[Index, int] = {}
    for i in (*axes, *term.sums):
        operands += [torch.ones(i.size, dtype=torch.float64), [numbers.setdefault(i, len(numbers))]]
    for factor in term.factors:
        own = sorted(indices(factor), key=lambda i: i.number)
        operands += [_factor(factor, own, tensors), [numbers[i] for i in own]]
    return torch.einsum(*operands, [numbers[i] for i in axes])


def _factor(factor: Factor, axes: Sequence[Index], tensors: Named) -> Tensor:
    match factor:
        case Sym(name, at):
            return _entries(tensors[name].to(torch.float64), at, axes)
        case Delta(a, b):
            size = max(i.size for i in (a, b) if isinstance(i, Index))
            return _entries(torch.eye(size, dtype=torch.float64), (a, b), axes)
        case Power(base, e):
            return value(base, axes, tensors) ** (int(e) if e.denominator == 1 else float(e))
        case Fn(name, args):
            return torch.as_tensor(SCALARS[name].compute(*(value(a, axes, tensors) for a in args))).to(torch.float64)
        case Move(name, params, out, into):
            return _entries(_matrix(name, params, [_size(a) for a in into]), (*out, *into), axes)
        case Atom(name, (), at):
            identity = torch.eye(3, dtype=torch.float64)
            return _entries(torch.linalg.cross(identity[:, None], identity[None]), at, axes)
        case Atom(name, (lam,), at, params):
            rest = sorted(indices(lam.body) - set(lam.over), key=lambda i: i.number)
            inner = value(lam.body, (*rest, *lam.over), tensors)
            return _entries(_atom(name, inner, len(rest), params), (*rest, *at), axes)
    raise AssertionError(factor)


def _size(a: Index | int) -> int:
    return a.size if isinstance(a, Index) else a + 1


def _entries(x: Tensor, at: Sequence[Index | int], axes: Sequence[Index]) -> Tensor:
    """The entries of `x` at the places that `at` names, an axis for each index."""
    for k, place in reversed(list(enumerate(at))):
        if isinstance(place, int):
            x = x.select(k, place)
    left = [a for a in at if isinstance(a, Index)]
    number = {i: k for k, i in enumerate(axes)}
    return torch.einsum(x, [number[i] for i in left], list(range(len(axes))))


def _atom(name: str, x: Tensor, rest: int, params: tuple[Any, ...]) -> Tensor:
    dims = tuple(range(rest, x.dim()))
    match name:
        case "softmax" | "log_softmax" | "cumprod":
            return getattr(torch, name)(x, dims[0])
        case "values" | "indices":
            function, options = params
            return getattr(getattr(torch, function)(x, dim=dims[0], **dict(options)), name).to(torch.float64)
        case "logsumexp":
            return torch.logsumexp(x, dims)
        case "prod":
            return x.prod(dims[0])
        case "amax" | "amin":
            return getattr(x, name)(dims)
        case "is_max" | "is_min":
            return (x == getattr(x, f"a{name[3:]}")(dims, keepdim=True)).to(torch.float64)
        case "inv" | "det" | "cholesky" | "pinv" | "matrix_exp":
            return getattr(torch.linalg, name)(x)
        case "eigenvalues" | "eigenvectors":
            return getattr(torch.linalg.eigh(x), name)
        case "left_vectors" | "singular_values" | "right_vectors":
            part = {"left_vectors": 0, "singular_values": 1, "right_vectors": 2}[name]
            return torch.linalg.svd(x, full_matrices=False)[part]
        case "logdet":
            return torch.logdet(x)
        case "one_hot":
            return torch.nn.functional.one_hot(x.long(), params[0]).to(torch.float64)
        case "move":
            own, *more = params
            shape = x.shape[rest:]
            moved = MOVES[own.removeprefix("adjoint ")]
            text = moved.code(own.startswith("adjoint "), tuple(more), 0)
            before = x.shape[:rest]
            return _each(text, x.reshape(math.prod(before), *shape)).reshape((*before, *_shape(text, shape)))
    raise AssertionError(name)


def _run(text: str, x: Tensor) -> Tensor:
    """The code of a move, which is our own text, on a tensor."""
    text = text.replace("KIND", ".double()")
    code = f"(x){text}" if text.startswith((".", "[")) else text.format("x")
    found: Tensor = eval(code, {"torch": torch, "x": x})
    return found


def _matrix(name: str, params: tuple[Any, ...], shape: Sequence[int]) -> Tensor:
    """The matrix of a move: output axes, then input axes."""
    size, text = math.prod(shape), MOVES[name].code(False, params, 0)
    rows = _each(text, torch.eye(size, dtype=torch.float64).reshape(size, *shape))
    return rows.T.reshape((*_shape(text, shape), *shape))


def _shape(text: str, shape: Sequence[int]) -> torch.Size:
    return _run(text, torch.zeros(tuple(shape), dtype=torch.float64)).shape


def _each(text: str, rows: Tensor) -> Tensor:
    """What the code of a move makes of each tensor of several, a row for each."""
    found = [_run(text, row).reshape(-1) for row in rows]
    return torch.stack(found) if found else torch.zeros(0, math.prod(_shape(text, rows.shape[1:])), dtype=torch.float64)


def evaluated(text: str, scope: Mapping[str, Tensor]) -> Tensor:
    """What an expression of the language gives."""
    program = parse(text, [name for name in scope if name.isidentifier()])
    with default_dtype(torch.float64):
        found = torch.as_tensor(evaluate_value(program, {name: scope[name] for name in program.inputs}))
    return found.to(torch.float64)


# What PyTorch does at kinks: at entries that are equally large, and at norms that are zero

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
