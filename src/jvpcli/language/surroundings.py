"""What a Python function can do depends on its code and on what it finds around it: whether all of that is as it was.

A run that was watched (`readings`) shows what every later one does, as long as nothing has changed that could lead it another
way: the code of all functions that names in the code lead to, and whatever else they lead to, but for the numbers in tensors.
Those lead nowhere if none of them went to Python as it ran, decided the size of anything, or let something fail that the code
catches.  What can't be read so is taken for something that changes: names of
things that nobody knows here, such as a clock, and what another library holds.
"""

from __future__ import annotations

import builtins
import dis
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice, pairwise
from operator import itemgetter
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    EllipsisType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionMeta
from torch.nn.modules import module as nn_module
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from jvpcli.language import catalog
from jvpcli.language.evaluate import MARK, Evaluation, as_leaf, call_of, outputs_of, seeded
from jvpcli.language.readings import FORMS, name_of, tensors_in, top_hooks, traits
from jvpcli.language.substitution import MOST, ModuleFunction, Noted, Place, code_within, run_beside, run_with

if TYPE_CHECKING:
    from jvpcli.language.trees import Arguments

PLAIN = frozenset(
    (NoneType, EllipsisType, bool, int, float, complex, str, bytes, range, torch.Size, torch.dtype, torch.device, torch.layout,
     torch.memory_format)
)  # fmt: skip
"""Values that can't be changed, and are compared."""

BUILTINS = vars(builtins)

OPERATIONS = torch._C._VariableFunctionsClass  # type: ignore[attr-defined]
"""What torch's functions are methods of."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""Modules that write to their buffers as they are trained, and never else."""

MODES = (torch.no_grad, torch.enable_grad, torch.set_grad_enabled)
"""Classes of torch's own whose objects lead nowhere."""

BUILTIN_NAMES = """
len range zip enumerate reversed min max sum abs float int bool complex str tuple list dict set frozenset isinstance issubclass
slice sorted all any map filter round pow divmod super type iter next callable NotImplemented Ellipsis
"""
"""Of Python's own functions and classes those that do the same each time."""

OTHER_NAMES = """
nn functional linalg special fft func utils autograd Tensor Parameter Module Function grad vjp jvp vmap jacrev jacfwd hessian
functional_call no_grad enable_grad set_grad_enabled requires_grad requires_grad_ is_leaf apply checkpoint
save_for_backward saved_tensors needs_input_grad mark_non_differentiable set_materialize_grads forward backward
append extend insert pop get keys values items update index count copy format join split startswith endswith
parameters named_parameters children named_children modules named_modules get_parameter get_submodule get_buffer
training __init__ __class__ __name__ __qualname__ _forward_unimplemented
"""
"""What else does the same each time, or is looked at where it is found: of tensors, modules, functions and containers."""

LAYOUT = frozenset(("stride", "is_contiguous", "storage_offset", "data_ptr", "is_conj", "is_neg", "is_shared", "is_pinned"))
"""What tells how a tensor's memory is laid out, and nothing here compares: also where something else has such a name."""

SIZING = frozenset(
    ("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount", "repeat_interleave", "one_hot",
     "tensor_split", "to_sparse", "coalesce")
)  # fmt: skip
"""Operations whose results have sizes that depend on numbers; Python may ask for those."""

NAMING = frozenset(("buffers", "named_buffers", "get_buffer", "state_dict"))
"""What leads to a module's buffers without their names."""

BRANCHING = ("IMPORT_", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME", "LOAD_NAME", "LOAD_BUILD_CLASS", "SETUP_FINALLY")
"""Instructions by which names come to mean something that is not found under them before, or code goes on where some failed."""

CALLED = ("forward", "backward", "setup_context", "jvp", "vmap", "apply", "_call_impl", "_compiled_call_impl", "_slow_forward")
"""What torch calls of a class of the user's own, or of a module, without a name in the code."""

COMPILED = (WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType, MethodWrapperType)
"""What only classes have that are not written in Python."""

HOLDING = (Tensor, tuple, list, dict, set, str, int, float, complex)
"""What holds more than attributes, also where a class of the user's own is derived from it."""

MADE = frozenset(("__init__", "__new__", "__post_init__"))
"""What runs where an object is made."""

LEADING = frozenset(("type", "__class__"))
"""Names that lead from an object to its class, which may make others."""

BOUND = (staticmethod, classmethod, property)
"""What functions of a class may be wrapped in."""

SHOWN = frozenset(("__repr__", "__str__", "__format__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"))
"""What is not done with objects where nothing but tensors is computed."""


@lru_cache(maxsize=1)
def known_names() -> frozenset[str]:
    """Names of which it is known that what they name does the same for the same operands; where a class has them, it tells."""
    errors = [name for name, value in BUILTINS.items() if isinstance(value, type) and issubclass(value, BaseException)]
    return catalog.names().union(BUILTIN_NAMES.split(), OTHER_NAMES.split(), errors) - LAYOUT


class Asking(TorchFunctionMode):
    """Notes whether numbers of tensors go to Python inside, or the sizes that they decide, which may decide there what runs.

    Attributes:
        asked: so they did, or may.
        packed: what operations keep for the backward pass went through hooks, which run code there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.packed = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        result = func(*args, **kwargs) if kwargs else func(*args)
        self.packed = self.packed or top_hooks(True) is not None
        self.asked = self.asked or _is_sized_by_numbers(func, args, kwargs or {})
        if isinstance(result, str) or not (isinstance(result, (Tensor, torch.UntypedStorage, *FORMS)) or traits(func)[1]):
            self.asked = self.asked or next(tensors_in(result), None) is None
        return result


def _is_sized_by_numbers(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the size of what a torch function gives may depend on numbers in tensors: a mask's, or a whole number's."""
    name, given = name_of(func), [*args[type(func) in COMPILED :], *kwargs.values()]
    if name in SIZING or (name == "where" and len(args) + len(kwargs) == 1):
        return True
    given += [part for each in given if type(each) in (tuple, list) for part in each]
    given += [end for each in given if type(each) is slice for end in (each.start, each.stop, each.step)]
    whole = [x for x in given if isinstance(x, Tensor) and not (x.is_floating_point() or x.is_complex())]
    return any(x.ndim == 0 or (name == "__getitem__" and x.dtype in (torch.bool, torch.uint8)) for x in whole)


class _ChangingError(Exception):
    """There is something of which it can't be told whether it is as it was."""


class _Fixed(NamedTuple):
    """What some names stand for in a module of torch's own."""

    space: Mapping[str, Any]
    named: Callable[[Mapping[str, Any]], Any]
    values: Any


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a function can come by.

    Attributes:
        names: all names in its code, and in that of the functions that they lead to.
        marks: what was found, in the order of the walk; nothing of it keeps what it was found in.
        fixed: what was found in torch itself.
    """

    names: frozenset[str]
    marks: list[Any]
    fixed: Sequence[_Fixed]

    def again(self, function: Any) -> list[Place] | None:
        """The buffers of the modules that a function may use, where it finds the same now; else None."""
        if not _is_plain_there():
            return None
        walk = _Walk(self.names)
        try:
            walk.see(function)
            same = walk.marks == self.marks and all(named(space) == values for space, named, values in self.fixed)
        except Exception:  # it goes too deep, another thread changes it, or it runs code of its own as it is looked at
            return None
        if not same:
            return None
        if not walk.buffers:
            return []
        return [Place(buffers, name, True) for buffers in walk.buffers for name, x in buffers.items() if x is not None]


def evaluated_again(
    function: Callable[..., Any], wrt: Sequence[str], arguments: Arguments, before: Noted, places: Sequence[Place]
) -> Evaluation:
    """What a Python function of tensors gives where it does the same as a run that was watched: nobody watches this one.

    It is called while autograd records.

    Args:
        function: it is called with the `arguments`, all of them tensors.
        wrt: the names of those that are differentiated.
        before: what was noted of the other run.
        places: of the buffers that it may use.

    Raises:
        Whatever the function itself raises.
    """
    leaves = {name: as_leaf(name, x, name in wrt, copy=False) for name, x in arguments.given.items()}
    given = {name: x if x.requires_grad else x.clone() for name, x in leaves.items()}  # it may write to those
    own: Callable[..., Any] = function.module if isinstance(function, ModuleFunction) and not function.parameters else function
    call = call_of(own, given, arguments)
    with seeded(0 if before.drew else None, leaves.values()):
        if not places or isinstance(own, ModuleFunction):  # which sees to its buffers itself
            result = call()
        elif before.runs_backwards:
            result = run_with(call, given.values(), (), {}, written=places)
        else:
            result = run_beside(call, places)
    outputs, left_out = outputs_of(result, given, arguments)
    order = tuple([name for name in leaves if name in wrt])
    return Evaluation(None, leaves, outputs, (), {}, order, weighed=before.weighed, random=before.random, left_out=left_out)


def surroundings_of(function: Any) -> Surroundings | None:
    """The surroundings of a function; None where something in them is not known to be the same whenever it looks the same."""
    names = frozenset(CALLED)
    try:
        while True:
            walk = _Walk(names, [])
            walk.see(function)
            walk.see_what_is_everywhere()
            more = names.union(*[code.co_names for code in walk.codes])
            if more == names:
                break
            names = more
        _refuse_unknown(walk, known_names())
    except Exception:  # as in `again`
        return None
    return Surroundings(names, walk.marks, walk.fixed or ()) if _is_plain_there() else None


def _is_plain_there() -> bool:
    """Whether nobody else listens to what torch and its modules do, or to what is kept for backward passes."""
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        return False
    if top_hooks is not bool and top_hooks(True) is not None:
        return False
    forward, backward = nn_module._global_forward_hooks, nn_module._global_backward_hooks
    return not (forward or nn_module._global_forward_pre_hooks or backward or nn_module._global_backward_pre_hooks)


def _refuse_unknown(walk: _Walk, known: frozenset[str]) -> None:
    stored = set[str]()
    for code in walk.codes:
        steps = [*dis.get_instructions(code)]
        stored.update([each.argval for each in steps if each.opname == "STORE_ATTR"])
        branches = any(each.opname.startswith(BRANCHING) for each in steps)
        catches = any(a.opname == "PUSH_EXC_INFO" != b.opname != "WITH_EXCEPT_START" for a, b in pairwise(steps))
        if branches or catches or code.co_name in ("__exit__", "__aexit__"):  # which may catch, too
            raise _ChangingError(code.co_name)
    named = {name for code in walk.codes for name in code.co_names}
    # functions and classes of torch's own are `given`, whatever they are called here
    if not LAYOUT.isdisjoint(named) or not (named - walk.found - stored) | walk.given <= known:
        raise _ChangingError("a name of which nobody knows what it does")


@lru_cache(maxsize=1024)
def _names_of(code: CodeType) -> tuple[tuple[CodeType, ...], tuple[str, ...]]:
    codes = tuple(code_within(code))
    return codes, tuple(dict.fromkeys(name for each in codes for name in each.co_names))


@lru_cache(maxsize=1)
def _first_keys() -> tuple[str, ...]:
    """What every module has before anything of its own."""
    return tuple(vars(nn.Module()))


@lru_cache(maxsize=4096)
def _is_torchs(name: str | None) -> bool:
    return name is not None and (name == "torch" or name.startswith("torch."))


class _Walk:
    """A walk through all that a function can come by.

    Attributes:
        names: those that lead on.
        marks, fixed: as `Surroundings` has them; `fixed` is None where it is known already.
        codes: code of the user's own.
        found: those of the names that stand for something of the user's own.
        given: the names of what is torch's or Python's own.
        buffers: those of all modules.
    """

    def __init__(self, names: frozenset[str], fixed: list[_Fixed] | None = None) -> None:
        self.names, self.fixed = names, fixed
        self.marks: list[Any] = [RemovableHandle.next_id, len(vars(Tensor)), len(vars(nn.Module))]
        self.codes: list[CodeType] = []
        self.found, self.given = set[str](), set[str]()
        self._seen: dict[int, int] = {}
        self._tensors: dict[int, int] = {}
        self._classes, self._known = set[Any](), set[Any]()
        self.buffers: list[Mapping[str, Tensor | None]] = []
        self._names_buffers = not names.isdisjoint(NAMING)
        self._asks_for_gradients = "grad" in names
        self._makes = not names.isdisjoint(LEADING)

    def see(self, value: Any) -> None:
        """Walk on from a value.

        Raises:
            _ChangingError: nobody knows what it is.
        """
        kind, marks = type(value), self.marks
        if kind in PLAIN:
            marks += (kind, repr(value) if kind is float else value)  # 0.0 equals -0.0
            return
        if kind is nn.Parameter or kind is Tensor:
            held, needs, tensors = value.__dict__, value.requires_grad, self._tensors
            if held and not self.names.isdisjoint(held):
                raise _ChangingError("a tensor with attributes")
            if kind is Tensor and (value.grad_fn is not None or (needs and hasattr(value, MARK))):
                raise _ChangingError("a graph that leads elsewhere")
            marks += (tensors.setdefault(id(value), len(tensors)), value.shape, value.dtype, needs, value.device)
            if self._asks_for_gradients:
                marks.append(value.grad is None)
            return
        place, count = self._seen.get(id(value)), len(self._seen)
        if place is not None:
            marks.append(place)
            return
        if count == MOST:
            raise _ChangingError("more than is worth looking at")
        self._seen[id(value)] = count
        look = LOOKS.get(kind)
        if look is not None:
            look(self, value)
        elif isinstance(value, nn.Module):
            self._module(value, kind)
        elif isinstance(value, type):
            self._type(value)
        else:
            self._object(value, kind)

    def see_what_is_everywhere(self) -> None:
        """Look at Python's own functions, and at methods of tensors and modules in Python; a new one is told by their number."""
        self._fix(BUILTINS, self.names)
        for space in (vars(Tensor), vars(nn.Module)):
            self._fix(space, self.names.union([name for name, value in space.items() if name[:2] == "__" and callable(value)]))

    def _function(self, function: FunctionType) -> None:
        code, scope = function.__code__, function.__globals__
        self.marks.append(code)
        if _is_torchs(function.__module__):
            self.given.add(function.__name__)
            self._fix_calls(function)
            self._cells(function)
            return
        codes, names = _names_of(code)
        self.codes += codes
        for name in names:
            if name in scope:
                self.found.add(name)
                self.see(scope[name])
            elif name in BUILTINS:
                self.given.add(name)
        self._cells(function)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()):
            self.see(value)

    def _cells(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # a name that is bound later
                content = None
            self.see(content)

    def _method(self, method: MethodType) -> None:
        self.see(method.__func__)
        self.see(method.__self__)

    def _partial(self, function: partial[Any]) -> None:
        self.see(function.func)
        self._items((*function.args, *function.keywords, *function.keywords.values()))

    def _builtin(self, function: Any) -> None:
        owner = getattr(function, "__self__", None)
        where = owner.__name__ if isinstance(owner, ModuleType) else None
        if not (owner is OPERATIONS or where in ("builtins", "math", "_operator") or _is_torchs(where)):
            raise _ChangingError("a method of an object, or of a library that is not written in Python")
        self.marks.append(function)
        self.given.add(function.__name__)

    def _package(self, package: ModuleType) -> None:
        if package.__name__ == "math" or _is_torchs(package.__name__):
            self.marks.append(package)
            self._fix_package(package)
            return
        self.marks.append(ref(package))
        space = vars(package)
        if "__getattr__" in space:
            raise _ChangingError("a module that makes what it is asked for")
        there = [name for name in self.names if name in space]
        self.found.update(there)
        self._items([space[name] for name in there])

    def _fix_package(self, package: ModuleType) -> None:
        if self.fixed is None or package in self._known:
            return
        self._known.add(package)
        for name, value in self._fix(vars(package), self.names):
            if isinstance(value, ModuleType):
                self._fix_package(value)
            elif isinstance(value, FunctionType):
                self.given.add(name)
                self._fix_calls(value)
            elif callable(value):
                self.given.add(name)

    def _fix_calls(self, function: Any) -> None:
        """Of a function of torch's own what it calls may be replaced, too."""
        if self.fixed is None or function in self._known:
            return
        self._known.add(function)
        if type(function) is not FunctionType or not _is_torchs(function.__module__):
            raise _ChangingError("a function of torch's that was replaced")
        scope, names = function.__globals__, function.__code__.co_names
        packages = [scope[name] for name in names if isinstance(scope.get(name), ModuleType)]
        for space in (scope, *map(vars, packages)):
            self._fix(space, names)

    def _fix(self, space: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
        there = [name for name in names if name in space]
        if there and self.fixed is not None:
            named = itemgetter(*there)
            self.fixed.append(_Fixed(space, named, named(space)))
        return [(name, space[name]) for name in there]

    def _items(self, values: Iterable[Any]) -> None:
        for value in values:
            self.see(value)

    def _sequence(self, values: Any) -> None:
        self.marks += (type(values), len(values))
        if len(values) > MOST:
            raise _ChangingError("more than is worth looking at")
        self._items(values)

    def _mapping(self, values: Mapping[Any, Any]) -> None:
        self._sequence(values)
        self._items(values.values())

    def _module(self, module: nn.Module, kind: type[nn.Module]) -> None:
        held, marks = module.__dict__, self.marks
        if held["_forward_hooks"] or held["_forward_pre_hooks"] or held["_backward_hooks"] or held["_backward_pre_hooks"]:
            raise _ChangingError("a module with hooks")
        if self.fixed is not None and tuple(held)[: len(_first_keys())] != _first_keys():
            raise _ChangingError("a module of another form")
        marks.append(len(held))
        marks.append(held["training"])
        is_own = not _is_torchs(kind.__module__)
        if is_own:
            marks.append(ref(kind))
            self._class(kind)
        else:
            marks.append(kind)
            marks.append(kind.forward)
            self._fix_calls(kind.forward)
        whole = not is_own or _is_torchs(kind.__mro__[-3].__module__)  # what `forward` reads has names elsewhere
        for name, value in islice(held.items(), len(_first_keys()), None):
            if whole or name in self.names:
                if is_own:
                    self.found.add(name)
                marks.append(name)
                self.see(value)
        buffers = held["_buffers"]
        if buffers and (held["training"] or kind not in NORMS or self._names_buffers or not self.names.isdisjoint(buffers)):
            self.buffers.append(buffers)
        for parts in (held["_parameters"], buffers, held["_modules"]):
            if parts:
                if self.fixed is not None:
                    self.found.update(parts)
                marks += parts
                for part in parts.values():
                    self.see(part)

    def _type(self, kind: type) -> None:
        if _is_torchs(kind.__module__) or kind.__module__ == "builtins":
            self.marks.append(kind)
            self.given.add(kind.__name__)
        else:
            self._class(kind, made=True)

    def _object(self, value: Any, kind: type) -> None:
        if kind in MODES:
            self.marks.append(kind)
            return
        held = getattr(value, "__dict__", None)
        if held is None or _is_torchs(kind.__module__) or isinstance(value, HOLDING):
            raise _ChangingError(kind.__name__)
        if kind is not SimpleNamespace:
            self._class(kind)
        there = [name for name in held if name in self.names]
        self.found.update(there)
        self.marks += there
        self._items([held[name] for name in there])

    def _class(self, kind: type, made: bool = False) -> None:
        """What a class of the user's own gives its objects; `made`: they are made there, too."""
        made = made or self._makes
        if (kind, made) in self._classes:
            return
        self._classes.add((kind, made))
        if type(kind) not in (type, FunctionMeta):
            raise _ChangingError("a class that is made in another way")
        for base in kind.__mro__:
            if _is_torchs(base.__module__) or base.__module__ == "builtins":
                self.marks.append(base)
                if _is_torchs(base.__module__) and not issubclass(kind, (nn.Module, torch.autograd.Function)):
                    raise _ChangingError("an object that torch's own code gives its methods")
                if issubclass(base, nn.Module) and base is not nn.Module and "forward" in vars(base):
                    self.see(vars(base)["forward"])
                continue
            self.marks.append(ref(base))
            for name, value in vars(base).items():
                if name == "__slots__" or type(value) in COMPILED:
                    raise _ChangingError("a class that is not written in Python, or keeps what it has in slots")
                special = name[:2] == "__" == name[-2:] and (callable(value) or type(value) in BOUND)
                if name in self.names or (special and name not in SHOWN and (made or name not in MADE)):
                    self.found.add(name)
                    self.marks.append(name)
                    self._attribute(value)

    def _attribute(self, value: Any) -> None:
        kind = type(value)
        if kind not in BOUND:
            self.see(value)
            return
        self.marks.append(kind)
        self._items((value.fget, value.fset) if kind is property else (value.__func__,))


LOOKS: Mapping[type, Callable[[_Walk, Any], None]] = {
    FunctionType: _Walk._function,
    MethodType: _Walk._method,
    partial: _Walk._partial,
    BuiltinFunctionType: _Walk._builtin,
    ModuleType: _Walk._package,
    tuple: _Walk._sequence,
    list: _Walk._sequence,
    dict: _Walk._mapping,
    OrderedDict: _Walk._mapping,
}
"""How each kind of what a function may come by is looked at."""
