"""What is noted down of a run: its calls of torch, where their tensors come from, hooks, changes in place, and what raised."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import BackwardHook

from jvpcli.recording.nodes import is_leaf
from jvpcli.recording.places import Place, Point, pieces


@dataclass(eq=False)
class Call:
    """One call of a function of torch.

    Attributes:
        number: calls count from 0.
        function: what was called.
        arguments, keywords: with `Result`, `Given` or `Cut` where a tensor stands.
        point: where in the user's code.
        modules: the modules that were running, the outermost first.
        recorded: whether autograd recorded graphs.
        casts: the autocast in force, as `Equation` has it.
        differentiable: whether a result carries a gradient.
        depth: how many steps without a gradient it stands upon.
        state: where the call draws random numbers, whose they are and the state that they started from.
        results: the tensors that it gave, while they live, by the indices that lead to them.
        hooks: by the same indices the hooks of these tensors, each by its number.
    """

    number: int
    function: Callable[..., Any]
    arguments: Any
    keywords: Any
    point: Point | None
    modules: tuple[Any, ...]
    recorded: bool
    casts: tuple[tuple[str, torch.dtype], ...] = ()
    differentiable: bool = False
    depth: int = 0
    state: tuple[torch.Generator, Tensor] | None = None
    results: dict[tuple[int, ...], weakref.ref[Tensor]] = field(default_factory=dict)
    hooks: dict[tuple[int, ...], Mapping[int, Any]] = field(default_factory=dict)

    @property
    def place(self) -> Place | None:
        """Where in the user's code."""
        return None if self.point is None else self.point.place()

    def alive(self) -> dict[tuple[int, ...], Tensor]:
        """Those of its results that live; where a graph alone held one, torch has to be told that it is in use again."""
        found = {path: x for path, reference in self.results.items() if (x := reference()) is not None}
        for x in found.values():
            x._fix_weakref()  # type: ignore[attr-defined]
        return found


@dataclass(eq=False, slots=True)
class Hook:
    """A hook of a tensor or module, which is called as ever; `gave` says whether it has given a gradient back so far."""

    function: Callable[..., Any]
    gave: bool = False

    def __call__(self, *given: Any) -> Any:
        """What the hook gives back."""
        found = self.function(*given)
        self.gave |= found is not None
        return found


def hooked_step(name: str) -> Any:
    """A class of torch's of some name, whose `apply` takes a hook and a tensor: the tensor, whose backward the hook is.

    Its methods are partials, since functions would be taken for the user's own.
    """
    methods = {"forward": staticmethod(partial(_with_hook)), "backward": staticmethod(partial(_through_hook))}
    return type(name, (torch.autograd.Function,), methods)


def _with_hook(ctx: Any, hook: Hook, tensor: Tensor) -> Tensor:
    ctx.hook = hook
    return tensor.clone()


def _through_hook(ctx: Any, gradient: Tensor) -> Any:
    found = ctx.hook.function(gradient)
    return None, gradient if found is None else found


class ModuleHooks:
    """The backward hooks of one call of a module, which torch puts around what goes into it and what comes out."""

    def __init__(self, own: BackwardHook) -> None:
        self._own = own
        own.user_hooks, own.user_pre_hooks = [*map(Hook, own.user_hooks)], [*map(Hook, own.user_pre_hooks)]

    @cached_property
    def _again(self) -> BackwardHook:
        """Those that have given a gradient back, as they are put around another run."""
        given = [[hook.function for hook in hooks if hook.gave] for hooks in (self._own.user_hooks, self._own.user_pre_hooks)]
        return BackwardHook(self._own.module, *given)

    def backward_hook_of_inputs(self, values: Any) -> Any:
        """What goes into the module, where it runs again."""
        return self._again.setup_input_hook(values)

    def backward_hook_of_outputs(self, values: Any) -> Any:
        """What comes out of it."""
        return self._again.setup_output_hook(values)


@dataclass(frozen=True, eq=False)
class Given:
    """A tensor that no recorded call gave: a parameter, data.  `version` counts its changes in place so far.

    `required` says whether it required a gradient then: what was made of it before that was asked of it has no gradient by it.
    """

    tensor: Tensor
    version: int
    required: bool = True

    def is_constant(self) -> bool:
        """Whether it was a constant then, and is none any more."""
        return not self.required and self.tensor.requires_grad and is_leaf(self.tensor)

    def key(self) -> int:
        """What tells it from other tensors, and from itself as it was a constant."""
        return -id(self.tensor) if self.is_constant() else id(self.tensor)


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """A tensor that a call gave: `path` leads to it in what the call returned.  `writes` changed its memory since.

    Of a gradient without a graph there are the `numbers`, too: what it is the gradient of may be gone.
    """

    call: Call
    path: tuple[int, ...]
    writes: tuple[Call, ...] = ()
    numbers: Cut | None = None
    required: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Cut:
    """A tensor with a gradient that is taken by a step without one: its numbers, and the call, while something keeps it."""

    tensor: Tensor
    version: int
    call: weakref.ref[Call]
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """A change in place of a tensor that a derivative may need, by the call of that number; `before`: its version then.

    `shapes` are its own and, where it is a view, that of the tensor that it is a view of, whose version is the same.
    """

    number: int
    tensor: weakref.ref[Tensor]
    shapes: tuple[tuple[int, ...], ...]
    before: int
    producer: str
    point: Point | None


@dataclass(frozen=True)
class Attempt:
    """A call that raised, with what it was given."""

    function: Callable[..., Any]
    arguments: Sequence[Any]
    keywords: dict[str, Any]
    point: Point | None
    modules: tuple[Any, ...]
    error: BaseException


# What is one step, though it calls torch many times: a transform of torch.func, of a function of the user's


class Reading(TorchFunctionMode):
    """Notes which tensors are read in a `with` block that were not made in it.

    Attributes:
        outside: these tensors, by their `id`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outside: dict[int, Tensor] = {}
        self._made: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries the call out."""
        for x in pieces((args, kwargs or {})):
            if isinstance(x, Tensor) and id(x) not in self._made and not torch._C._functorch.is_functorch_wrapped_tensor(x):
                self.outside[id(x)] = x
        result = func(*args, **(kwargs or {}))
        self._made |= {id(x): x for x in pieces((result,)) if id(x) not in self.outside}
        return result


class Whole:
    """A call as a step of a program: a function of all the tensors that it reads.

    Args:
        function, arguments, keywords: what is called, as it was when it was noted down.
        tensors: what it read then, those among its arguments and others: what takes their places where it is called again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        tensors: Sequence[Tensor],
    ) -> None:
        self._call, self._tensors = (function, tuple(arguments), dict(keywords)), tuple(tensors)
        self.__name__ = getattr(function, "__name__", "call")

    def __call__(self, *tensors: Tensor) -> Any:
        """What the call gives of other tensors."""
        function, arguments, keywords = self._call
        places = {id(old): new for old, new in zip(self._tensors, tensors, strict=True)}
        with _Replacing(places):
            return function(*_replaced(arguments, places), **_replaced(keywords, places))


class _Replacing(TorchFunctionMode):
    """In a `with` block torch is given tensors in the places of others, which are named by their `id`."""

    def __init__(self, places: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries the call out."""
        return func(*_replaced(args, self._places), **_replaced(kwargs or {}, self._places))


def _replaced(value: Any, places: Mapping[int, Tensor]) -> Any:
    """A value with other tensors in the places of its own."""
    if isinstance(value, Tensor):
        return places.get(id(value), value)
    if isinstance(value, dict):
        return {key: _replaced(part, places) for key, part in value.items()}
    return type(value)([_replaced(part, places) for part in value]) if type(value) in (tuple, list) else value
