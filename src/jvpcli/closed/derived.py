"""Functions that torch.func and torch.autograd.functional make of a program's own: what is asked when one is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from inspect import GEN_SUSPENDED, getgeneratorstate
from itertools import chain
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from jvpcli.closed.words import Ended
from jvpcli.errors import LimitError
from jvpcli.recording.derivatives import read_dual


@dataclass(frozen=True)
class Asked:
    """A derivative of a function.

    Attributes:
        function: what is differentiated.
        arguments: what it is called with, by position.
        keywords: what it is called with by name.
        places: the positions of the arguments that it is differentiated by.
        cotangent, tangent: what the call gives of them; None: nothing.
        ignored: whether its second result is left out (`has_aux`).
        base: what the function is itself the derivative of; None: it is none.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    places: tuple[int, ...]
    cotangent: Any = None
    tangent: Any = None
    ignored: bool = False
    base: Callable[..., Any] | None = None


class After(Enum):
    """What is there of a graph after a derivative call: nothing, itself, or one of the call's own, too.

    The graph of a derivative of a function is torch's own.
    """

    GIVEN_UP, KEPT, CREATED, FUNCTION = range(4)


MOST_TURNS = 3_000_000
"""Turns of loops and calls of functions."""

AT_ONCE = 10_000
"""For how many of them there are bytes at once: for all would be pages of memory that most programs never need."""

KEPT = 256
"""How many generators are kept at least until it is looked which of them have come to their end."""


@dataclass
class Watch:
    """The derivative calls of a program, counted as it makes them.

    Attributes:
        target: the one that is asked about; None: none.
        meet: is handed it.
        begin: the one from which on steps are noted down; None: they are not.
        start: has them noted down.
        carry: carries out what torch does out of the guard's sight, of a function and its arguments.
        depth: how many derivatives of functions are under way: what is asked inside of one is a part of it.
        lines: the line of each that was made.
        after: of each, what is there after it of the graph that it went through.
        failed: what those raised that did, by their numbers from 1.
        given: what the last has given that was made.
        ended: what was refused, after which the program does nothing more; None: nothing.
        pulls: whether torch.func.vjp has given a derivative that may be asked for later: it trusts integers uncounted until then.
        finds_nan: whether a backward pass raises where a step of it gives NaN.
        left: bytes for the next turns of loops and calls; none once it has ended.
        kept: its generators that may stop inside of a block with an end of its own, which runs when they are closed.
        most: how many are kept until it is looked which of them have come to their end.
        turns: gives something for each turn.

    Raises:
        Ended: by `turns`: the program has ended, or takes more turns than it may.
    """

    target: int | None = None
    meet: Callable[[Any], None] = lambda call: None
    begin: int | None = None
    start: Callable[[], None] = lambda: None
    carry: Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any] = lambda function, arguments, keywords: function(
        *arguments, **keywords
    )
    depth: int = 0
    lines: list[int] = field(default_factory=list)
    after: list[After] = field(default_factory=list)
    failed: dict[int, BaseException] = field(default_factory=dict)
    given: Any = None
    ended: BaseException | None = None
    pulls: bool = False
    finds_nan: bool = False
    left: bytearray = field(default_factory=bytearray, repr=False)
    kept: list[GeneratorType[Any, Any, Any]] = field(default_factory=list, repr=False)
    most: int = KEPT
    turns: Iterator[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.turns = chain.from_iterable(self._taken())

    def _taken(self) -> Iterator[Iterable[int]]:
        """A byte for each turn, which C itself takes away one by one; where none is left, it is asked why."""
        while True:
            for _ in range(0, MOST_TURNS, AT_ONCE):
                self.left = bytearray(b"1") * AT_ONCE
                yield self.left
                if not self.left:
                    break
            yield iter(self._refuse, None)

    def _refuse(self) -> None:
        """Ends the program that takes a turn: it is refused something, or has taken them all."""
        if self.ended is not None:
            raise Ended(self.ended)
        if self.left:
            raise self.end(LimitError(f"The program takes more than {MOST_TURNS:,} turns of loops and calls."))

    def end(self, error: BaseException) -> Ended:
        """What ends the program, at its next turn at the latest."""
        self.ended = error
        self.left.clear()
        return Ended(error)

    def keep(self, generator: GeneratorType[Any, Any, Any]) -> GeneratorType[Any, Any, Any]:
        """A generator, which lives until it is closed: Python closes it where it is thrown away, in the middle of anything."""
        if len(self.kept) >= self.most:
            self.kept[:] = [each for each in self.kept if each.gi_frame is not None]
            self.most = max(KEPT, 2 * len(self.kept))
        self.kept.append(generator)
        return generator

    def thrown_away(self) -> int:
        """The line of a generator that the program has let go of before its end; 0: there is none."""
        alone = _references([object()])[0]
        counts = zip(self.kept, _references(self.kept), strict=True)
        thrown = (each for each, count in counts if count == alone and getgeneratorstate(each) == GEN_SUSPENDED)
        return next((each.gi_code.co_firstlineno for each in thrown), 0)

    def close(self) -> None:
        """Closes what is left of generators: no turn is taken any more."""
        ended, self.ended = self.ended, LimitError("The program has come to its end.")
        self.left.clear()
        for each in reversed(self.kept):
            with suppress(BaseException):
                each.close()
        self.kept.clear()
        self.ended = ended

    @property
    def count(self) -> int:
        """How many were made."""
        return len(self.lines)

    @property
    def creates_value(self) -> bool:
        """Whether the last gives a value with a graph of its own, as `create_graph=True` has it."""
        return self.after[-1] is After.CREATED and self.given is not None

    def counts(self, line: int, call: Callable[[], Any], after: After) -> int:
        """Counts a call on a line, and hands it on if it is the one; its number."""
        self.lines.append(line)
        self.after.append(after)
        number = self.count
        if number == self.target:
            self.meet(call())
        if number == self.begin:
            self.start()
        return number

    def begins(self, number: int) -> tuple[int, ...]:
        """The calls before one from which on its steps may be noted down, the likeliest first; 0: all are.

        What was computed up to a call that gave its graph up can't be differentiated any more; what was only kept seldom is.
        """
        if number <= self.count and self.after[number - 1] is After.FUNCTION:
            return tuple(dict.fromkeys((number - 1, 0)))
        passed = ({After.GIVEN_UP, After.KEPT}, {After.GIVEN_UP})
        found = (next((k for k in range(number - 1, 0, -1) if self.after[k - 1] in each), 0) for each in passed)
        return tuple(dict.fromkeys((*found, 0)))

    def asked(self, call: Callable[[], Asked], line: int) -> int:
        """Counts a derivative of a function that is no part of another, nor of what vmap runs; its number, 0 of one that is."""
        return 0 if self.depth or peek_interpreter_stack() is not None else self.counts(line, call, After.FUNCTION)

    def inside(self, number: int, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        """What a function gives: what is asked as it runs is a part of another derivative; what it raises is noted by the number
        of that, but of 0.
        """
        self.depth += 1
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            if number:
                self.failed[number] = error
            raise
        finally:
            self.depth -= 1


def _references(held: Sequence[Any]) -> list[int]:
    """How many references there are to each of what is held."""
    return [sys.getrefcount(each) for each in held]


class Derived:
    """A derivative of a function, as torch.func makes it; calling it is asking for it.

    Attributes:
        function: what is differentiated.
        of: what torch makes of it.
        places: the positions of the arguments that it differentiates by.
        base: what the function is itself the derivative of; None: it is none.
    """

    __slots__ = ("_line", "_watch", "aux", "base", "function", "of", "places")

    def __init__(
        self,
        watch: Watch,
        line: Callable[[], int],
        function: Any,
        of: Any,
        places: Any = 0,
        aux: bool = False,
        base: Callable[..., Any] | None = None,
    ) -> None:
        self._watch, self._line, self.function, self.of, self.aux = watch, line, function, of, aux
        self.places = tuple(places) if isinstance(places, (tuple, list)) else (places,)
        self.base = function.function if isinstance(function, Derived) else base

    def __deepcopy__(self, memo: Any) -> Derived:
        """Itself, as of a function."""
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Asks for the derivative there."""
        watch = self._watch
        number = watch.asked(
            lambda: Asked(self.function, arguments, keywords, self.places, ignored=self.aux, base=self.base),
            self._line(),
        )
        return watch.inside(number, watch.carry, self.of, arguments, keywords)


def transforms(watch: Watch, line: Callable[[], int]) -> dict[str, Any]:
    """torch.func as a program has it."""
    func = torch.func

    def derived(of: Callable[..., Any], second: bool = False) -> Callable[..., Any]:
        def make(function: Any, argnums: Any = 0, has_aux: bool = False, **options: Any) -> Derived:
            given = {} if second else {"has_aux": has_aux}
            made = of(function, argnums, **given, **options)
            inner = func.grad(function, argnums) if second else function
            return Derived(watch, line, inner, made, argnums, has_aux and not second, function if second else None)

        return make

    def vmap(function: Any, in_dims: Any = 0, out_dims: Any = 0, **options: Any) -> Any:
        made = torch.vmap(function, in_dims, out_dims, **options)
        if not isinstance(function, Derived):
            return lambda *arguments, **keywords: watch.carry(made, arguments, keywords)
        return Derived(watch, line, torch.vmap(function.function, in_dims), made, function.places, function.aux)

    def jvp(function: Any, primals: Any, tangents: Any, **options: Any) -> Any:
        number = watch.asked(lambda: Asked(function, tuple(primals), {}, tuple(range(len(primals))), tangent=tangents), line())
        return watch.inside(number, watch.carry, func.jvp, (function, primals, tangents), options)

    def vjp(function: Any, *primals: Any, **options: Any) -> Any:
        value, pull, *rest = watch.inside(0, func.vjp, function, *primals, **options)
        watch.pulls = True

        def pulled(*cotangents: Any, **more: Any) -> Any:
            given = cotangents[0] if len(cotangents) == 1 else cotangents
            number = watch.asked(lambda: Asked(function, primals, {}, tuple(range(len(primals))), cotangent=given), line())
            return watch.inside(number, pull, *cotangents, **more)

        return (value, pulled, *rest)

    return {
        "grad": derived(func.grad), "grad_and_value": derived(func.grad_and_value), "jacrev": derived(func.jacrev),
        "jacfwd": derived(func.jacfwd), "hessian": derived(func.hessian, second=True), "vmap": vmap, "jvp": jvp, "vjp": vjp,
        "functional_call": func.functional_call, "stack_module_state": func.stack_module_state,
    }  # fmt: skip


def make_functional(model: nn.Module, disable_autograd_tracking: bool = False) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """functorch.make_functional: a module without buffers as a function of its parameters, and copies of these.

    Raises:
        RuntimeError: it has buffers.
    """
    if list(model.buffers()):
        raise RuntimeError(
            "make_functional(model): `model` has buffers. Please use make_functional_with_buffers(model) instead."
        )
    given, params, _ = make_functional_with_buffers(model, disable_autograd_tracking)
    return lambda params, *arguments, **keywords: given(params, (), *arguments, **keywords), params


def make_functional_with_buffers(
    model: nn.Module, disable_autograd_tracking: bool = False
) -> tuple[Callable[..., Any], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """functorch.make_functional_with_buffers: a module as a function of its parameters and buffers, and copies of these.

    torch's own leaves tensors without memory in the module, which no guard may see.
    """
    own, held = dict(model.named_parameters()), dict(model.named_buffers())

    def function(params: Any, buffers: Any, *arguments: Any, **keywords: Any) -> Any:
        state = {**dict(zip(own, params, strict=True)), **dict(zip(held, buffers, strict=True))}
        return torch.func.functional_call(model, state, arguments, keywords)

    params = tuple(p.detach().clone().requires_grad_(p.requires_grad and not disable_autograd_tracking) for p in own.values())
    return function, params, tuple(x.detach().clone() for x in held.values())


def functionals(watch: Watch, line: Callable[[], int]) -> dict[str, Any]:
    """torch.autograd.functional as a program has it."""
    functional = torch.autograd.functional

    def asking(name: str, direction: str | None = None) -> Callable[..., Any]:
        def ask(func: Any, inputs: Any, v: Any = None, **options: Any) -> Any:
            given: Sequence[Any] = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
            places = tuple(range(len(given)))
            second = name in ("hessian", "vhp", "hvp")
            function = torch.func.grad(func, places if len(places) > 1 else 0) if second else func
            ways = {} if direction is None or v is None else {direction: v}
            base = func if second else None
            number = watch.asked(lambda: Asked(function, tuple(given), {}, places, base=base, **ways), line())
            arguments = (func, inputs) if name in ("jacobian", "hessian") else (func, inputs, v)
            return watch.inside(number, watch.carry, getattr(functional, name), arguments, options)

        return ask

    ways = {
        "jacobian": None,
        "hessian": None,
        "vjp": "cotangent",
        "vhp": "cotangent",
        "jvp": "tangent",
        "hvp": "tangent",
    }
    return {name: asking(name, direction) for name, direction in ways.items()}


def checks(watch: Watch, line: Callable[[], int]) -> dict[str, Any]:
    """What compares derivatives with finite differences, as a program has it: the derivative is what is asked for."""

    def checking(second: bool) -> Callable[..., bool]:
        def gradcheck(func: Any, inputs: Any, *_: Any, **__: Any) -> bool:
            given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
            places = tuple(k for k, x in enumerate(given) if isinstance(x, torch.Tensor) and x.requires_grad)
            values = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in given)
            function = _gradient(func, places) if second else func
            watch.asked(lambda: Asked(function, values, {}, places, base=func if second else None), line())
            return True

        return gradcheck

    return {"gradcheck": checking(False), "gradgradcheck": checking(True)}


def _gradient(func: Callable[..., Any], places: Sequence[int]) -> Callable[..., tuple[Tensor, ...]]:
    """The gradients of the sum of all that a function gives by its arguments at some places, as backward has them."""

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            values = [x.requires_grad_() if k in places and not x.requires_grad else x for k, x in enumerate(arguments)]
            found = func(*values)
            outputs = [y for y in (found if isinstance(found, (tuple, list)) else (found,)) if y.requires_grad]
            ones = [torch.ones_like(y) for y in outputs]
            return torch.autograd.grad(outputs, [values[k] for k in places], ones, create_graph=True)

    return gradient


def forward(watch: Watch, line: Callable[[], int]) -> dict[str, Any]:
    """torch.autograd.forward_ad as a program has it: the tangent of what was computed from dual tensors is asked for."""
    duals: list[tuple[torch.Tensor, torch.Tensor]] = []

    def held() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(x, v) for x, v in duals if forward_ad.unpack_dual(x).tangent is not None]  # those of other levels have none

    def make_dual(tensor: Any, tangent: Any, *, level: Any = None) -> Any:
        made = forward_ad.make_dual(tensor, tangent, level=level)
        duals[:] = [*held(), (made, tangent)]
        return made

    def unpack_dual(tensor: Any, *, level: Any = None) -> Any:
        found = forward_ad.unpack_dual(tensor, level=level)
        if found.tangent is not None and not any(tensor is dual for dual, _ in duals) and not watch.depth:
            watch.counts(line(), lambda: read_dual(tensor, *zip(*held(), strict=True)), After.CREATED)
        return found

    return {"dual_level": forward_ad.dual_level, "make_dual": make_dual, "unpack_dual": unpack_dual}


def anomalies(watch: Watch) -> dict[str, Any]:
    """torch's anomaly detection as a program has it: it is on while torch goes back, which is when it may raise."""
    return {
        "set_detect_anomaly": lambda mode, check_nan=True: _Detecting(watch, bool(mode and check_nan)).begun(),
        "detect_anomaly": lambda check_nan=True: _Detecting(watch, bool(check_nan)),
    }


class _Detecting:
    """Anomaly detection, switched as torch switches it: from a call of `set_detect_anomaly` on, and in a block of either."""

    __slots__ = ("_before", "_finds", "_watch")

    def __init__(self, watch: Watch, finds: bool) -> None:
        self._watch, self._finds, self._before = watch, finds, watch.finds_nan

    def begun(self) -> _Detecting:
        """Itself, switched on or off."""
        self._watch.finds_nan = self._finds
        return self

    def __enter__(self) -> None:
        self.begun()

    def __exit__(self, *error: Any) -> None:
        self._watch.finds_nan = self._before
