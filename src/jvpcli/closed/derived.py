"""Functions that torch.func and torch.autograd.functional make of a program's own: what is asked when one is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


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
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    places: tuple[int, ...]
    cotangent: Any = None
    tangent: Any = None
    ignored: bool = False


@dataclass
class Watch:
    """The derivative calls of a program, counted as it makes them.

    Attributes:
        target: the one that is asked about; None: none.
        meet: is handed it.
        depth: how many derivatives of functions are under way: what is asked inside of one is a part of it.
        lines: the line of each that was made.
        failed: what the last one raised, of those that are no derivatives of functions; None: it went well.
        ended: what was refused, after which the program does nothing more; None: nothing.
        pulls: whether torch.func.vjp has given a derivative that may be asked for later: it trusts integers uncounted until then.
    """

    target: int | None = None
    meet: Callable[[Any], None] = lambda call: None
    depth: int = 0
    lines: list[int] = field(default_factory=list)
    failed: BaseException | None = None
    ended: BaseException | None = None
    pulls: bool = False

    @property
    def count(self) -> int:
        """How many were made."""
        return len(self.lines)

    def counts(self, line: int) -> None:
        """Counts a call on a line."""
        self.lines.append(line)
        self.failed = None

    def asked(self, call: Callable[[], Asked], line: int) -> None:
        """Counts a derivative of a function that is no part of another, and hands it on if it is the one."""
        if self.depth:
            return
        self.counts(line)
        if self.count == self.target:
            self.meet(call())

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Inside, what is asked is a part of another derivative."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


class Derived:
    """A derivative of a function, as torch.func makes it; calling it is asking for it.

    Attributes:
        function: what is differentiated.
        of: what torch makes of it.
        places: the positions of the arguments that it differentiates by.
    """

    __slots__ = ("_line", "_watch", "aux", "function", "of", "places")

    def __init__(
        self, watch: Watch, line: Callable[[], int], function: Any, of: Any, places: Any = 0, aux: bool = False
    ) -> None:
        self._watch, self._line, self.function, self.of, self.aux = watch, line, function, of, aux
        self.places = tuple(places) if isinstance(places, (tuple, list)) else (places,)

    def __deepcopy__(self, memo: Any) -> Derived:
        """Itself, as of a function."""
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Asks for the derivative there."""
        watch = self._watch
        watch.asked(lambda: Asked(self.function, arguments, keywords, self.places, ignored=self.aux), self._line())
        with watch.inside():
            return self.of(*arguments, **keywords)


def transforms(watch: Watch, line: Callable[[], int]) -> dict[str, Any]:
    """torch.func as a program has it."""
    func = torch.func

    def derived(of: Callable[..., Any], second: bool = False) -> Callable[..., Any]:
        def make(function: Any, argnums: Any = 0, has_aux: bool = False, **options: Any) -> Derived:
            given = {} if second else {"has_aux": has_aux}
            made = of(function, argnums, **given, **options)
            inner = func.grad(function, argnums) if second else function
            return Derived(watch, line, inner, made, argnums, has_aux and not second)

        return make

    def vmap(function: Any, in_dims: Any = 0, out_dims: Any = 0, **options: Any) -> Any:
        made = torch.vmap(function, in_dims, out_dims, **options)
        if not isinstance(function, Derived):
            return made
        return Derived(watch, line, torch.vmap(function.function, in_dims), made, function.places, function.aux)

    def jvp(function: Any, primals: Any, tangents: Any, **options: Any) -> Any:
        watch.asked(lambda: Asked(function, tuple(primals), {}, tuple(range(len(primals))), tangent=tangents), line())
        with watch.inside():
            return func.jvp(function, primals, tangents, **options)

    def vjp(function: Any, *primals: Any, **options: Any) -> Any:
        with watch.inside():
            value, pull, *rest = func.vjp(function, *primals, **options)
        watch.pulls = True

        def pulled(*cotangents: Any, **more: Any) -> Any:
            given = cotangents[0] if len(cotangents) == 1 else cotangents
            watch.asked(lambda: Asked(function, primals, {}, tuple(range(len(primals))), cotangent=given), line())
            with watch.inside():
                return pull(*cotangents, **more)

        return (value, pulled, *rest)

    return {
        "grad": derived(func.grad), "grad_and_value": derived(func.grad_and_value), "jacrev": derived(func.jacrev),
        "jacfwd": derived(func.jacfwd), "hessian": derived(func.hessian, second=True), "vmap": vmap, "jvp": jvp, "vjp": vjp,
        "functional_call": func.functional_call, "stack_module_state": func.stack_module_state,
    }  # fmt: skip


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
            watch.asked(lambda: Asked(function, tuple(given), {}, places, **ways), line())
            with watch.inside():
                return getattr(functional, name)(
                    func, inputs, *(() if name in ("jacobian", "hessian") else (v,)), **options
                )

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
