"""torch's operator database with its arguments mutated: the calls that an honest caller never writes.

Every try is made from a seed alone: one of the database's samples, in which one to three arguments are exchanged for
hostile ones (sizes at the edges of the integers, other dtypes, empty and overlapping tensors, values that are no numbers).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

import torch
from further_calls import as_arguments, by_hand, relatives
from operator_samples import CannotBeWrittenError, full_name, write
from torch import Tensor

INTEGERS = (-1, 0, 1, 2, 3, 7, -2, 2**16, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, -(2**63), -(2**31))
FLOATS = (0.0, -0.0, -1.0, 0.5, 1e-320, 1e308, 2.0**63, math.nan, math.inf, -math.inf)
TEXTS = ("", "none", "mean", "sum", "max", "min", "reflect", "replicate", "circular", "bilinear", "nearest", "tanh",
         "fro", "nuc", "linear", "lower", "trunc", "floor", "ij", "i->i", "x")  # fmt: skip
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool,
          torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)  # fmt: skip

LARGEST = 4096
"""Elements of a tensor that a mutation may make: what breaks breaks when it is small, too."""


@dataclass(frozen=True)
class Call:
    """A function, method or operator of the database and what it is called with."""

    operator: Any
    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output_process_fn_grad: Any = None
    """What a sample of the database has beside its arguments; nothing here asks for it."""


@dataclass(frozen=True)
class Try:
    """One try: its text, its tensors, and the operator that it came from."""

    family: str
    expression: str
    inputs: dict[str, Tensor]


def calls(per_operator: int = 8, largest: int = 2500) -> list[list[Call]]:
    """The database's small samples, and what it has none of, as accepted calls: a list for each operator."""
    from torch.testing._internal.common_methods_invocations import op_db

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = {f"torch.{operator.name}" for operator in op_db}
        listed = []
        for operator in op_db:
            listed.append(_calls(operator, per_operator, largest))
            listed += [_as(relative, listed[-1][:4]) for relative in relatives(operator, known)]
        listed += [[Call(operator, *as_arguments(given)) for given in lines] for operator, lines in by_hand()]
    return [found for found in listed if found]


def _as(operator: Any, found: list[Call]) -> list[Call]:
    """The same calls of another operator."""
    return [call for call in (replace(call, operator=operator) for call in found) if _written(call)]


def _calls(operator: Any, count: int, largest: int) -> list[Call]:
    """Samples of floating point (of another kind where there is none), and half as many of whole numbers."""
    kinds = (torch.float32, torch.float64, torch.int64, torch.complex64, torch.bool)
    first = next((dtype for dtype in kinds if operator.supports_dtype(dtype, "cpu")), None)
    whole = torch.int64 if operator.supports_dtype(torch.int64, "cpu") and first is not torch.int64 else None
    small: list[Call] = []
    for dtype, wanted in ((first, count), (whole, count // 2)):
        if dtype is not None:
            samples = islice(operator.sample_inputs("cpu", dtype), 40)
            found = (Call(operator, plain(s.input), plain(tuple(s.args)), plain(dict(s.kwargs))) for s in samples)
            small += islice((call for call in found if _is_small(call, largest) and _written(call)), wanted)
    return small


def plain(value: Any) -> Any:
    """The value with tensors that require no grad, so that a mutation may do anything with them."""
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def _is_small(call: Call, largest: int) -> bool:
    return all(leaf.numel() <= largest for _, leaf in leaves(call) if isinstance(leaf, Tensor))


def _written(call: Call) -> bool:
    try:
        write(call.operator, call)
    except CannotBeWrittenError:
        return False
    return True


# Mutations: each a function of a random source and a value, giving another value

Path = tuple[Any, ...]
"""Where an argument stands: "input", or "args" or "kwargs" with its place, and on into lists."""


def leaves(call: Call) -> list[tuple[Path, Any]]:
    """Every argument with its place; a list of integers (a size, a stride) is one, and each of its items too."""
    found: list[tuple[Path, Any]] = []

    def walk(path: Path, value: Any) -> None:
        if type(value) in (list, tuple):
            if path not in (("args",),):
                found.append((path, value))
            for index, item in enumerate(value[:8]):
                walk((*path, index), item)
        else:
            found.append((path, value))

    walk(("input",), call.input)
    walk(("args",), call.args)
    for name, value in call.kwargs.items():
        walk(("kwargs", name), value)
    return found


def mutate(random: Random, call: Call) -> Call:
    """The call with one to three arguments exchanged, dropped or swapped."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        kind = random.random()
        if kind < 0.06 and call.kwargs:
            dropped = random.choice(sorted(call.kwargs))
            call = replace(call, kwargs={name: value for name, value in call.kwargs.items() if name != dropped})
        elif kind < 0.1 and call.args:
            call = replace(call, args=call.args[:-1])
        elif kind < 0.13 and call.args:
            at = random.randrange(len(call.args))
            call = replace(call, input=call.args[at], args=(*call.args[:at], call.input, *call.args[at + 1 :]))
        elif kind < 0.18:
            call = _all_tensors(random, call)
        else:
            path, value = _choose(random, leaves(call))
            root = {"input": call.input, "args": call.args, "kwargs": call.kwargs}
            call = replace(call, **_exchanged(root, path, mutated(random, value)))
    return call


def _all_tensors(random: Random, call: Call) -> Call:
    """All tensors of one other dtype, or all at the edges of what their dtype holds."""
    root: dict[str, Any] = {"input": call.input, "args": call.args, "kwargs": call.kwargs}
    dtype = random.choice((*DTYPES, None, None, None))
    for path, value in leaves(call):
        if isinstance(value, Tensor):
            root = _exchanged(root, path, value.to(dtype) if dtype else _hostile_values(random, value))
    return replace(call, **root)


def _choose(random: Random, found: list[tuple[Path, Any]]) -> tuple[Path, Any]:
    """Arguments other than the first are where the trust is."""
    later = [leaf for leaf in found if leaf[0] != ("input",)]
    return random.choice(later if later and random.random() < 0.6 else found)


def _exchanged(whole: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(whole, dict):
        return {**whole, first: _exchanged(whole[first], tuple(rest), value)}
    items = list(whole)
    items[first] = _exchanged(items[first], tuple(rest), value)
    return _listed_as(whole, items)


def _listed_as(whole: Any, items: list[Any]) -> Any:
    """The items as a list, or as a tuple where they were one or a size."""
    return items if isinstance(whole, list) else tuple(items)


def mutated(random: Random, value: Any) -> Any:
    """Another value in the place of this one, mostly of its kind."""
    if random.random() < 0.05:
        return random.choice((None, True, 1, 0.5, "x", (), [1, 1], torch.ones(()), torch.ones(2, 3)))
    kind = next((kind for kind in MUTATIONS if isinstance(value, kind)), None)
    return MUTATIONS[kind](random, value) if kind else random.choice((None, *INTEGERS, *FLOATS))


def _number(random: Random, value: int) -> Any:
    return value + random.choice((-1, 1, 2)) if random.random() < 0.3 else random.choice(INTEGERS)


def _real(random: Random, value: float) -> Any:
    return random.choice((*FLOATS, *FLOATS, None, 1, 2**62))


def _listed(random: Random, value: Sequence[Any]) -> Any:
    items, kind = list(value), random.randrange(6)
    numbers = all(type(item) is int for item in items)
    if kind == 0 and items:
        del items[random.randrange(len(items))]
    elif kind == 1:
        items.insert(random.randrange(len(items) + 1), random.choice(items or [1]))
    elif kind == 2 and numbers:
        items = [random.choice(INTEGERS) for _ in items]
    elif kind == 3 and items:
        at = random.randrange(len(items))
        items[at] = mutated(random, items[at])
    elif kind == 4:
        random.shuffle(items)
    else:
        return random.choice(((), None, random.choice(INTEGERS), items[:1] * 9))
    return _listed_as(value, items)


def _tensor(random: Random, x: Tensor) -> Any:
    value = random.choice(TENSOR_MUTATIONS)(random, x)
    return value if value.numel() <= LARGEST else x


def _cast(random: Random, x: Tensor) -> Tensor:
    return x.to(random.choice(DTYPES))


def _emptied(random: Random, x: Tensor) -> Tensor:
    return x.narrow(random.randrange(x.ndim), 0, 0) if x.ndim else x.new_zeros(0)


def _scalar(random: Random, x: Tensor) -> Tensor:
    return x.flatten()[0] if x.numel() else x.new_zeros(())


def _transposed(random: Random, x: Tensor) -> Tensor:
    return x.transpose(random.randrange(x.ndim), random.randrange(x.ndim)) if x.ndim else x


def _expanded(random: Random, x: Tensor) -> Tensor:
    """Many elements in one place of memory: a stride of 0."""
    if not x.ndim or not x.numel():
        return x.expand(random.choice((1, 3)), *x.shape)
    dim = random.randrange(x.ndim)
    return x.narrow(dim, 0, 1).expand(*x.shape[:dim], x.shape[dim] + random.choice((0, 0, 1)), *x.shape[dim + 1 :])


def _strided(random: Random, x: Tensor) -> Tensor:
    """Every second element: neighbours in the tensor are none in memory."""
    return x.repeat_interleave(2, -1)[..., ::2] if x.ndim else x


def _overlapping(random: Random, x: Tensor) -> Tensor:
    return x.flatten().unfold(0, min(2, x.numel()), 1) if x.numel() else x


def _longer(random: Random, x: Tensor) -> Tensor:
    dim = random.randrange(x.ndim) if x.ndim else 0
    return torch.cat([x, x.narrow(dim, 0, min(1, x.shape[dim]))], dim) if x.ndim else x.reshape(1)


def _shorter(random: Random, x: Tensor) -> Tensor:
    dim = random.randrange(x.ndim) if x.ndim else 0
    return x.narrow(dim, 0, max(x.shape[dim] - 1, 0)) if x.ndim else x


def _deeper(random: Random, x: Tensor) -> Tensor:
    return x.unsqueeze(random.randrange(x.ndim + 1))


def _flatter(random: Random, x: Tensor) -> Tensor:
    return x.flatten() if random.random() < 0.5 or not x.ndim else x.select(0, 0) if x.shape[0] else x.flatten()


def _hostile_values(random: Random, x: Tensor) -> Tensor:
    """One element, or all of them, at an edge of what the dtype holds."""
    if x.dtype is torch.bool:
        return ~x
    if x.is_floating_point() or x.is_complex():
        value = random.choice((math.nan, math.inf, -math.inf, 0.0, -1.0, min(1e30, torch.finfo(x.dtype).max), 0.5))
    else:
        limits = torch.iinfo(x.dtype)
        value = random.choice((*(n for n in INTEGERS if limits.min <= n <= limits.max), limits.max, limits.min))
    if random.random() < 0.4 or not x.numel():
        return torch.full_like(x, value)
    changed = x.clone().contiguous()
    changed.view(-1)[random.randrange(x.numel())] = value
    return changed


TENSOR_MUTATIONS: tuple[Callable[[Random, Tensor], Tensor], ...] = (
    _cast, _cast, _emptied, _emptied, _scalar, _transposed, _expanded, _strided, _overlapping, _longer, _longer,
    _shorter, _shorter, _deeper, _flatter, _hostile_values, _hostile_values, _hostile_values,
)  # fmt: skip

MUTATIONS: dict[type, Callable[[Random, Any], Any]] = {
    Tensor: _tensor,
    bool: lambda random, value: random.choice((not value, not value, None, *INTEGERS[:6])),
    int: _number,
    float: _real,
    str: lambda random, value: random.choice(TEXTS),
    torch.dtype: lambda random, value: random.choice(DTYPES),
    list: _listed,
    tuple: _listed,
}


def one_try(seed: str, number: int, found: list[list[Call]]) -> Try | None:
    """A try by its number under a seed; None where the mutated call has no text.  -1, -2, … are the calls unchanged."""
    random = Random(f"{seed}:{number}")
    if number < 0:
        honest = [call for calls in found for call in calls]
        call = honest[-number % len(honest)]
    else:
        several = [random.choice(random.choice(found)) for _ in range(2)]
        call = mutate(random, max(several, key=lambda call: len(leaves(call))))  # more arguments, more to get wrong
    try:
        written = write(call.operator, call)
    except Exception:
        return None  # it has no text: a spelling read the mutated arguments themselves
    return Try(full_name(call.operator), written.expression, written.inputs)


# A try as a command


def as_command(attempt: Try) -> str:
    """The try as the words of `jvp inspect`, for a report that can be run."""
    from shlex import join

    used = {name: x for name, x in attempt.inputs.items() if re.search(rf"\b{name}\b", attempt.expression)}
    words = [word for name, value in used.items() for word in ("-i", f"{name}={as_value(value)}")]
    return join(["jvp", "inspect", attempt.expression, *words])


def as_value(x: Tensor) -> str:
    """A tensor as a VALUE that gives it again, with its strides."""
    dtype = str(x.dtype)
    if x.is_contiguous():
        flat = _numbers(x.reshape(-1).tolist())
        return f"torch.tensor({flat}, dtype={dtype}).reshape({tuple(x.shape)})"
    length = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    flat = _numbers(x.as_strided((length,), (1,)).tolist())
    return f"torch.tensor({flat}, dtype={dtype}).as_strided({tuple(x.shape)}, {tuple(x.stride())})"


def _numbers(values: list[Any]) -> str:
    text = repr(values).replace("nan", "math.nan").replace("inf", "math.inf")
    return f"[{values[0]!r}]*{len(values)}" if len(set(map(repr, values))) == 1 and values and "n" not in text else text
