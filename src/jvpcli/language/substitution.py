"""Modules that have other tensors for a time: while a function that uses them runs, and while backward passes of it do.

A backward pass may run a module again: a checkpoint does, and the backward of an `autograd.Function` that solves an equation.
It finds the parameters there that the run forwards had.  No run leaves anything behind in the modules' buffers, nor in other
tensors that a function writes to: where it begins to, it is run again from the start, with copies in their places.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, starmap
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.utils.hooks import RemovableHandle

from jvpcli.language.readings import memory, tensors_in, watching

DOUBLE: Mapping[torch.dtype, torch.dtype] = {
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.float32), torch.float64),
    **dict.fromkeys((torch.complex32, torch.complex64), torch.complex128),
}
"""The double-precision dtype of each dtype that has one."""


def run_with(
    function: Callable[[], Any],
    inputs: Iterable[Any],
    modules: Iterable[nn.Module],
    parameters: Mapping[int, Tensor],
    double: bool = False,
    written: Iterable[Place] = (),
) -> Any:
    """What a function gives while modules have other parameters, and copies of their buffers.

    The modules are as before when this returns.  Backward passes of the result find them as the function has left them.

    Args:
        function: it may use the modules.
        inputs: the result is computed from the tensors among these, and from the modules.
        modules: those that the function may use.
        parameters: by the `id` of a parameter or buffer what stands for it, wherever it is shared.
        double: whether all others are taken in double precision.
        written: further places of tensors that it writes to, which have copies meanwhile.
    """
    kinds = ("_parameters", "_buffers") if parameters or double else ("_buffers",)
    own = [*_places(modules, kinds)]
    places = [*{place.key: place for place in (*own, *written)}.values()] if written else own
    if not places:
        return function()
    held, watch, hooks = _Held(places, [place.tensor for place in places]), watching(), RemovableHandle.next_id
    with torch._C.DisableTorchFunction():  # nobody who watches the function is told of it
        others = held.tensors
        if parameters or double:
            others = [
                parameters.get(id(x), _in_double(x) if double and position < len(own) else x)
                for position, x in enumerate(held.tensors)
            ]
            given = {id(x) for x in parameters.values()}
            others = [x.clone() if place.is_copied and id(x) in given else x for place, x in zip(places, others, strict=True)]
    try:
        _Held(places, others).put_copies()
        if watch is not None:
            with torch._C.DisableTorchFunction():
                watch.made |= {memory(place.tensor) for place in places if place.is_copied and place.tensor is not None}
        result = function()
        left = _Held(places, [place.tensor for place in places])
    finally:
        held.put()
    unseen = watch is None or watch.packed or RemovableHandle.next_id != hooks
    with torch._C.DisableTorchFunction():  # nobody who watches the function need hear of it, which takes longer than to do it
        _keep(result, inputs, left, held, unseen)
    return result


def run_beside(function: Callable[[], Any], places: Sequence[Place]) -> Any:
    """What a function gives while copies are in some places: `run_with`, where nobody watches, and no code runs backwards."""
    held = _Held(places, [place.tensor for place in places])
    try:
        held.put_copies()
        return function()
    finally:
        held.put()


class Noted(NamedTuple):
    """What was noted of a run that others do the same as, so that they need not be watched: no numbers went to Python.

    Attributes:
        weighed, packed: as `Readings` has them.
        custom: there are `torch.autograd.Function`s of the user's own in its graph.
        random, drew: as an `Evaluation` has it.
        made: of each output its form, and how many nodes autograd made for it.
        agreed: by output, how its rows were taken together as one is by itself; as `Sweep` has it.
    """

    weighed: bool
    packed: bool
    custom: bool
    random: tuple[int, Tensor] | None
    drew: bool
    made: Hashable
    agreed: dict[str, set[bool]]

    @property
    def runs_backwards(self) -> bool:
        """Whether code of the user's own runs in backward passes."""
        return self.custom or self.packed


@dataclass(frozen=True)
class ModuleFunction:
    """A module as a function of its arguments and of some of its parameters, which leaves the module as it was.

    Attributes:
        module: the module.
        parameters: the names, as in its `state_dict`, of those parameters that are given, as keywords.
        double: whether its other parameters and its buffers are taken in double precision.
        written: the places of further tensors that it writes to, as far as that is known.
        tied: other names of the `parameters` that were asked for, too, and the name that each stands under.
    """

    module: nn.Module
    parameters: tuple[str, ...] = ()
    double: bool = False
    written: list[Place] = field(default_factory=list, compare=False)
    tied: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def __name__(self) -> str:
        return type(self.module).__name__

    @property
    def __wrapped__(self) -> nn.Module:
        return self.module

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it; keywords with the names of `parameters` are their values."""
        given = {name: keywords.pop(name) for name in self.parameters}
        own = dict(self.module.named_parameters(remove_duplicate=False)) if given else {}
        replaced = {id(own[name]): value for name, value in given.items()}
        call = partial(self.module, *arguments, **keywords)
        return run_with(call, (arguments, keywords, given), (self.module,), replaced, self.double, self.written)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is held: in a module's dictionary of parameters or buffers, by a variable of a function or an object.

    While a function runs that may write to it, a copy is there.
    """

    tensors: Any
    name: str
    is_copied: bool

    @property
    def key(self) -> tuple[Any, str]:
        """Which variable it is, whatever tensor is there."""
        if isinstance(self.tensors, _Within):
            return Place(self.tensors.owner, self.tensors.name, True).key, self.name
        return id(self.tensors.owner if isinstance(self.tensors, (_Cell, _Items, _Attributes)) else self.tensors), self.name

    @property
    def tensor(self) -> Any:
        """What is there; None: nothing."""
        return self.tensors[self.name] if self.name in self.tensors else None  # noqa: SIM401  TorchScript has no `get`


@dataclass(frozen=True, slots=True)
class _Held:
    """Places, and a tensor for each (or None)."""

    places: Sequence[Place]
    tensors: Sequence[Any]

    def put(self) -> None:
        """Put the tensors in their places."""
        for place, tensor in zip(self.places, self.tensors, strict=True):
            place.tensors[place.name] = tensor

    def put_copies(self) -> None:
        """Put the tensors in their places; of some copies, which may be written to: of one that is in several places one."""
        with torch._C.DisableTorchFunction():  # nobody who watches the function is told of them
            copied = {id(x): x for place, x in zip(self.places, self.tensors, strict=True) if place.is_copied and x is not None}
            copies = _copies(copied)
            for place, tensor in zip(self.places, self.tensors, strict=True):
                place.tensors[place.name] = copies[id(tensor)] if place.is_copied and tensor is not None else tensor

    def is_as(self, other: _Held) -> bool:
        """Whether other tensors for the same places are these, or copies of these."""
        pairs = zip(self.places, self.tensors, other.tensors, strict=True)
        return all(a is b or (place.is_copied and a is not None and b is not None and _same(a, b)) for place, a, b in pairs)


def _same(a: Tensor, b: Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_() if tensor.requires_grad and tensor.is_leaf else tensor.clone()


def _copies(tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Copies of tensors, by `id`; those of views are views of the copy of what they are views of, where that is among them."""
    copies: dict[int, Tensor] = {}
    for key, x in tensors.items():
        base = x._base if x._is_view() and not (x.is_conj() or x.is_neg()) else None
        if base is not None and id(base) in tensors and base.dtype == x.dtype and base.is_contiguous() and not base.requires_grad:
            whole = copies[id(base)] = copies[id(base)] if id(base) in copies else _copy(base)
            copies[key] = whole.as_strided(x.shape, x.stride(), x.storage_offset() - base.storage_offset())
        elif key not in copies:
            copies[key] = _copy(x)
    return copies


def _places(modules: Iterable[nn.Module], kinds: Sequence[str]) -> Iterator[Place]:
    seen, waiting = set[int](), list[nn.Module | None](modules)
    while waiting:
        part = waiting.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            waiting += part._modules.values()  # as `modules()` does, in a quarter of its time
            for kind in kinds:
                tensors = getattr(part, kind)
                if tensors:
                    yield from [Place(tensors, name, kind == "_buffers") for name, x in tensors.items() if x is not None]


def _in_double(tensor: Tensor) -> Tensor:
    return tensor.detach().to(DOUBLE.get(tensor.dtype, tensor.dtype)).requires_grad_(tensor.requires_grad)


@contextmanager
def unwritten(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The modules' buffers are as before when this is left, whatever has written to them inside."""
    kept = [(place, place.tensor, place.tensor.clone()) for place in _places(modules, ("_buffers",))]
    try:
        yield
    finally:
        for place, tensor, copy in kept:
            place.tensors[place.name] = tensor
            if not torch.equal(tensor, copy):  # torch counts not every change as a new version
                tensor.copy_(copy)


def tied(names: Iterable[str], parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Those of the names whose parameter stands under an earlier one of them too, and that name."""
    first: dict[int, str] = {}
    known = {name: first.setdefault(id(parameters[name]), name) for name in names if name in parameters}
    return {name: other for name, other in known.items() if name != other}


# In backward passes


def _keep(result: Any, inputs: Iterable[Any], left: _Held, before: _Held, unseen: bool) -> None:
    """Have the backward passes of a result find modules as they were left, and leave them as before.

    Where no code of the user's own runs in them nobody looks: there are no custom functions, and none of the hooks that nodes
    don't tell of (`unseen`).  Where nothing was left otherwise hooks find them so anyway.
    """
    outputs = [y for y in tensors_in(result) if y.grad_fn is not None]
    given = [x for x in tensors_in(tuple(inputs)) if x.requires_grad]
    own = list(_own_nodes(outputs, given))
    if not own and (not unseen or left.is_as(before)):
        return

    def enter(_: Tensor | None) -> None:
        """A gradient arrives."""

        def leave() -> None:
            """What the pass holds until its end, also where it fails."""

        weakref.finalize(leave, before.put).atexit = False
        torch.autograd.Variable._execution_engine.queue_callback(leave)
        left.put_copies()

    def follow(gradient: Tensor | None) -> None:
        """A pass backwards from a gradient with a graph of its own comes by the same operations; None: there is none."""
        if gradient is not None and gradient.grad_fn is not None:
            _attend(gradient, enter)

    for y in outputs:
        _attend(y, enter)
    for x in given:
        _attend(x, follow)
    for node in own:
        _run_inside(node, left, before)


def _attend(tensor: Tensor, hook: Callable[[Any], None]) -> None:
    """As `tensor.register_hook` does, without counting as a hook that the user's code has registered."""
    hooks: dict[Any, Any] | None = tensor._backward_hooks
    if hooks is None:
        hooks = tensor._backward_hooks = OrderedDict()
        if tensor.grad_fn is not None:
            tensor.grad_fn._register_hook_dict(tensor)
    others = dict(hooks)
    hooks.clear()  # torch goes by the order of the dict itself, which `move_to_end` leaves as it is
    hooks[id(hook)] = hook
    hooks.update(others)


def _own_nodes(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Iterator[Any]:
    """The nodes of `autograd.Function`s between some tensors."""
    seen = {x.grad_fn for x in inputs}
    waiting = [y.grad_fn for y in outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [edge for edge, _ in node.next_functions]
            if isinstance(node, BackwardCFunction):
                yield node


def _run_inside(node: Any, left: _Held, before: _Held) -> None:
    """Have a node find modules as they were left, whoever calls it."""
    kind, reference = type(node), weakref.ref(node)

    def apply(*gradients: Any) -> Any:
        left.put_copies()
        try:
            return kind.apply(reference(), *gradients)
        finally:
            before.put()

    node.apply = apply


# The modules of a Python function

MOST = 1000
"""Up to so many items of a list or dict are looked at."""


def modules_of(*functions: Any) -> tuple[nn.Module, ...]:
    """The modules that Python functions may use: themselves, what they are bound to, their closures, globals that they name."""
    if len(functions) == 1 and _names_packages_alone(functions[0]):
        return ()
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    waiting = list(functions)
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, nn.Module):
                found[id(value)] = value
            else:
                waiting += _within(value)
    return tuple(found.values())


class WrittenError(BaseException):
    """A function begins to write to a tensor that it did not make: it is to run again, with copies in these places."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__("a tensor from outside of a function is written to")
        self.places = places


def holding(tensors: Iterable[Tensor], *functions: Any) -> list[Place]:
    """Where Python functions find the memory of some tensors: in what they refer to, as `modules_of` looks for modules."""
    sought = {memory(tensor) for tensor in tensors}
    found: list[Place] = []
    seen: set[int] = set()
    waiting = list(functions)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, Tensor):
            continue
        seen.add(id(value))
        waiting += _within(value)
        waiting += [part for part in _parts(value) if isinstance(part, (list, tuple))]
        for held, pairs in chain.from_iterable(starmap(_with_tuples, _variables(value))):
            found += [Place(held, name, True) for name, x in pairs if isinstance(x, Tensor) and memory(x) in sought]
    return list({place.key: place for place in found}.values())


def _parts(value: Any) -> Iterable[Any]:
    """What a collection, a module or an object holds, up to so many items."""
    if isinstance(value, (list, tuple, dict)):
        held: Any = value
    else:
        held = {} if isinstance(value, (type, ModuleType, Tensor)) else getattr(value, "__dict__", {})
    return () if len(held) > MOST else held.values() if isinstance(held, dict) else held


def _variables(value: Any) -> Iterator[tuple[Any, Iterable[tuple[str, Any]]]]:
    """What a function or an object has tensors in, by name."""
    if isinstance(value, FunctionType):
        names = {name for code in code_within(value.__code__) for name in code.co_names}
        scope = value.__globals__
        yield scope, [(name, scope[name]) for name in names if name in scope]
        yield from [(_Cell(cell), [("", cell.cell_contents)]) for cell in value.__closure__ or () if is_filled(cell)]
    elif isinstance(value, dict):
        yield value, [*value.items()] if len(value) <= MOST else ()
    elif isinstance(value, list):
        yield _Items(value), [(str(place), x) for place, x in enumerate(value)] if len(value) <= MOST else ()
    elif isinstance(value, nn.Module):
        yield value._parameters, value._parameters.items()
        yield vars(value), vars(value).items()
        yield from _of_classes(type(value))
    elif isinstance(value, type):
        yield from _of_classes(value)
    elif not isinstance(value, (ModuleType, MethodType)) and isinstance(held := getattr(value, "__dict__", None), dict):
        yield held, [*held.items()]
        yield from _of_classes(type(value))


def _with_tuples(held: Any, pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[Any, list[tuple[str, Any]]]]:
    """The variables, and those of the tuples in them, one inside the other."""
    pairs = list(pairs)
    yield held, pairs
    for name, value in pairs:
        if isinstance(value, tuple) and len(value) <= MOST:
            yield from _with_tuples(_Within(held, name), [(str(place), x) for place, x in enumerate(value)])


def _of_classes(kind: type) -> Iterator[tuple[Any, Iterable[tuple[str, Any]]]]:
    """What a class and those that it is derived from have tensors in, by name."""
    yield from [(_Attributes(owner), list(vars(owner).items())) for owner in kind.__mro__]


@dataclass(frozen=True)
class _Cell:
    """A variable of a closure, as a dictionary of one value."""

    owner: CellType

    def __contains__(self, name: str) -> bool:
        return is_filled(self.owner)

    def __getitem__(self, name: str) -> Any:
        return self.owner.cell_contents

    def __setitem__(self, name: str, value: Any) -> None:
        self.owner.cell_contents = value


@dataclass(frozen=True)
class _Items:
    """A list, as a dictionary by position; one that has grown shorter has less."""

    owner: list[Any]

    def __contains__(self, name: str) -> bool:
        return int(name) < len(self.owner)

    def __getitem__(self, name: str) -> Any:
        return self.owner[int(name)]

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            self.owner[int(name)] = value


@dataclass(frozen=True)
class _Within:
    """A tuple that a variable holds, as a dictionary by position: another takes its place there."""

    owner: Any
    name: str

    @property
    def _value(self) -> tuple[Any, ...]:
        value = Place(self.owner, self.name, True).tensor
        return value if isinstance(value, tuple) else ()

    def __contains__(self, name: str) -> bool:
        return int(name) < len(self._value)

    def __getitem__(self, name: str) -> Any:
        return self._value[int(name)]

    def __setitem__(self, name: str, value: Any) -> None:
        before, place = self._value, int(name)
        if name in self and before[place] is not value:
            new, kind = [*before[:place], value, *before[place + 1 :]], type(before)
            # torch's own results are made by their class alone, and others may be made of something else
            self.owner[self.name] = kind(new) if hasattr(kind, "n_sequence_fields") else tuple.__new__(kind, new)


@dataclass(frozen=True)
class _Attributes:
    """What a class itself holds, as a dictionary: its own lets nobody write to it."""

    owner: type

    def __contains__(self, name: str) -> bool:
        return name in vars(self.owner)

    def __getitem__(self, name: str) -> Any:
        return vars(self.owner)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.owner, name, value)


def _names_packages_alone(function: Any) -> bool:
    """Whether a function refers to packages, such as torch, and to nothing else: most small ones do, and are called often."""
    if type(function) is not FunctionType or function.__closure__ or function.__dict__:
        return False
    code, scope = function.__code__, function.__globals__
    held = [scope[name] for name in code.co_names if name in scope]
    return {*map(type, held)} <= {ModuleType} and CodeType not in {*map(type, code.co_consts)}


def _within(value: Any) -> list[Any]:
    """What a function refers to, or an object holds, that may be modules or functions that use some."""
    if isinstance(value, FunctionType):
        if (value.__module__ or "").partition(".")[0] == "torch":  # code that is evaluated may have no module
            return []
        names = {name for code in code_within(value.__code__) for name in code.co_names}
        cells = [cell.cell_contents for cell in value.__closure__ or () if is_filled(cell)]
        return [*cells, *(value.__globals__.get(name) for name in names), *vars(value).values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    kinds: tuple[type, ...] = (nn.Module, FunctionType, dict)
    if not isinstance(value, (list, tuple, dict)):  # of what may be data no lists are looked through
        kinds = (*kinds, list, tuple)
    return [part for part in _parts(value) if isinstance(part, kinds)]


def code_within(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_within(constant)


def is_filled(cell: CellType) -> bool:
    """Whether a variable of a closure has a value yet."""
    try:
        _ = cell.cell_contents
    except ValueError:  # a name that is bound later
        return False
    return True
