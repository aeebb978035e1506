"""What a program may read from an object, and set on it: by what the object is."""

from __future__ import annotations

import builtins
import dataclasses
import enum
import io
import operator
import re
import string
import sys
import types
from _string import formatter_field_name_split  # type: ignore[import-not-found]
from abc import ABC
from collections import ChainMap, Counter, UserDict, UserList, abc, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator, ExitStack
from copy import deepcopy
from functools import lru_cache, partial, wraps
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau, SequentialLR
from torch.utils.data import DataLoader, Dataset
from torch.utils.hooks import RemovableHandle

from jvpcli.closed.arguments import Parser
from jvpcli.closed.ordered import OrderedDict, Saving
from jvpcli.closed.savings import GradScaler
from jvpcli.closed.streams import Kept
from jvpcli.closed.syntax import METHODS, READABLE
from jvpcli.closed.words import BytesIO, Inert, Named, Namespace
from jvpcli.errors import ForbiddenError, UnknownNameError
from jvpcli.language import catalog, limits

OF_TENSORS = frozenset({
    "grad", "data", "requires_grad", "requires_grad_", "detach_", "backward", "is_leaf", "retain_grad", "retains_grad",
    "register_hook", "numpy", "grad_fn", "cpu", "tolist", "item", "size", "stride", "is_cuda", "output_nr", "new_zeros",
    "new_ones",
})  # fmt: skip
"""What a tensor has beside the catalogue's methods and properties."""

PLAIN: dict[type, frozenset[str]] = {
    str: frozenset({"join", "split", "strip", "lstrip", "rstrip", "upper", "lower", "startswith", "endswith", "replace", "title",
                    "format", "format_map", "translate", "maketrans", "count", "find", "index", "isdigit", "capitalize",
                    "splitlines", "rsplit", "partition",
                    "rpartition", "isalpha", "isalnum", "isspace", "isupper", "islower", "casefold", "removeprefix",
                    "removesuffix", "rfind", "rindex", "swapcase", "isidentifier", "isnumeric", "isdecimal", "istitle"}),
    list: frozenset({"append", "extend", "insert", "pop", "remove", "reverse", "sort", "index", "count", "clear", "copy"}),
    tuple: frozenset({"index", "count"}),
    dict: frozenset({"keys", "values", "items", "get", "pop", "update", "setdefault", "copy", "clear", "popitem"}),
    set: frozenset({"add", "discard", "remove", "union", "intersection", "difference", "update", "issubset", "issuperset",
    "pop", "clear", "copy", "isdisjoint", "symmetric_difference", "intersection_update", "difference_update",
    "symmetric_difference_update"}),
    frozenset: frozenset({"union", "intersection", "difference", "issubset", "issuperset", "isdisjoint", "symmetric_difference",
                          "copy"}),
    int: frozenset({"real", "imag", "bit_length", "numerator", "denominator", "conjugate", "as_integer_ratio", "bit_count"}),
    bool: frozenset(),
    float: frozenset({"real", "imag", "is_integer", "conjugate", "as_integer_ratio", "hex", "fromhex"}),
    complex: frozenset({"real", "imag", "conjugate"}),
    range: frozenset({"start", "stop", "step", "index", "count"}),
    slice: frozenset({"start", "stop", "step", "indices"}),
    deque: frozenset({"append", "appendleft", "pop", "popleft", "extend", "clear", "maxlen", "rotate", "remove", "count",
                      "extendleft", "index", "insert", "reverse", "copy"}),
    torch.Size: frozenset({"numel", "index", "count"}),
    torch.device: frozenset({"type", "index"}),
    torch.dtype: catalog.object_fields("dtype"),
    torch.finfo: catalog.object_fields("finfo"),
    torch.iinfo: catalog.object_fields("iinfo"),
    np.finfo: frozenset({"eps", "min", "max", "tiny", "resolution", "bits"}),
    np.iinfo: frozenset({"min", "max", "bits"}),
    RemovableHandle: frozenset({"remove"}),
    property: frozenset({"getter", "setter", "deleter"}),
    type(sys.version_info): frozenset({"major", "minor", "micro"}),
    type(sys.float_info): frozenset({"max", "min", "epsilon", "dig", "mant_dig"}),
    dataclasses.Field: frozenset({"name", "default", "default_factory", "init", "repr", "compare", "kw_only", "metadata"}),
    type(lru_cache(len)): frozenset({"cache_info", "cache_clear"}),
    type(lru_cache(len).cache_info()): frozenset({"hits", "misses", "maxsize", "currsize"}),
    BytesIO: frozenset({"seek"}),
    io.StringIO: frozenset({"write", "getvalue", "read", "readline", "readlines", "seek", "tell", "close", "truncate",
                            "writelines", "flush"}),
    string.Template: frozenset({"substitute", "safe_substitute", "template"}),
    ExitStack: frozenset({"enter_context", "callback", "pop_all", "close"}),
    types.GeneratorType: frozenset({"send", "throw", "close"}),
    re.Pattern: frozenset({"sub", "findall", "split", "match", "search", "fullmatch", "finditer", "pattern"}),
    re.Match: frozenset({"group", "groups", "groupdict", "start", "end", "span"}),
}  # fmt: skip
"""What may be read from Python's and torch's plain objects, by their very type."""
PLAIN |= dict.fromkeys((OrderedDict, defaultdict, Counter), PLAIN[dict] | {
    "most_common", "move_to_end", "subtract", "total", "elements", "default_factory"})  # fmt: skip
PLAIN[types.MappingProxyType] = frozenset({"keys", "values", "items", "get"})

ERRORS = (
    "Exception", "ArithmeticError", "AssertionError", "AttributeError", "IndexError", "KeyError", "LookupError",
    "NotImplementedError", "RuntimeError", "StopIteration", "TypeError", "ValueError", "ZeroDivisionError", "OverflowError",
    "ImportError", "ModuleNotFoundError", "OSError", "FileNotFoundError", "NameError", "FloatingPointError", "Warning",
    "UserWarning", "RuntimeWarning", "DeprecationWarning", "FutureWarning", "UnicodeError", "RecursionError", "EOFError",
    "IOError", "EnvironmentError", "TimeoutError", "PermissionError", "FileExistsError", "IsADirectoryError",
    "NotADirectoryError", "ConnectionError", "InterruptedError", "BufferError", "MemoryError", "UnboundLocalError",
    "SyntaxError", "PendingDeprecationWarning", "ResourceWarning", "ImportWarning", "SyntaxWarning", "UnicodeWarning",
    "BytesWarning", "SystemExit",
)  # fmt: skip
"""Python's own errors that a program has by their names: none of those that read memory by numbers which they are told."""

ROOTS = frozenset(each for base in (
    dict, list, tuple, set, frozenset, str, int, float, complex, ABC, defaultdict, Counter, deque, ChainMap,
    UserDict, UserList, abc.MutableMapping, abc.MutableSequence, abc.MutableSet, abc.Iterator, abc.Callable, abc.Hashable,
    AbstractContextManager, ContextDecorator, enum.Enum, enum.IntEnum, enum.Flag, enum.IntFlag,
    *([enum.StrEnum] if hasattr(enum, "StrEnum") else []),
    *(getattr(builtins, name) for name in ERRORS)) for each in base.__mro__)  # fmt: skip
"""Types of Python's that a program's classes may be derived from: what C trusts of one is C's own."""

OF_MODULES = frozenset({
    "parameters", "named_parameters", "buffers", "named_buffers", "children", "named_children", "modules", "named_modules",
    "zero_grad", "train", "eval", "training", "to", "float", "double", "half", "cpu", "requires_grad_", "state_dict",
    "load_state_dict", "apply", "register_buffer", "register_parameter", "register_module", "add_module", "register_forward_hook",
    "register_forward_pre_hook", "register_full_backward_hook", "forward", "extra_repr", "get_parameter", "get_submodule",
    "append", "update_parameters",
    "extend", "insert", "keys", "values", "items", "update", "pop", "reset_parameters", "flatten_parameters", "__init__",
    "__call__",
})  # fmt: skip
"""What a module has beside its parameters and parts, its plain numbers, and what the program gives it."""

OF_OPTIMIZERS = frozenset({"step", "zero_grad", "param_groups", "add_param_group", "state_dict", "load_state_dict", "defaults"})
OF_SCHEDULES = frozenset({"step", "get_last_lr", "last_epoch", "base_lrs", "best", "num_bad_epochs"})
SCHEDULES = (LRScheduler, ReduceLROnPlateau)
OF_STATES = frozenset({"state_dict", "load_state_dict"})
SPARSE = frozenset({"to_sparse", "to_sparse_coo", "to_sparse_csr", "coalesce", "to_dense"})
OF_CONTEXTS = frozenset({
    "save_for_backward", "saved_tensors", "mark_non_differentiable", "mark_dirty", "needs_input_grad", "set_materialize_grads",
    "save_for_forward",
})  # fmt: skip
OF_DISTRIBUTIONS = frozenset({
    "sample", "rsample", "log_prob", "entropy", "mean", "variance", "stddev", "loc", "scale", "probs", "logits", "cdf", "icdf",
    "mode", "perplexity", "batch_shape", "event_shape", "has_rsample", "has_enumerate_support", "enumerate_support",
    "base_dist", "component_distribution", "mixture_distribution", "concentration", "concentration0", "concentration1", "rate",
    "df", "low", "high", "total_count", "covariance_matrix", "precision_matrix", "scale_tril", "param_shape", "temperature",
})  # fmt: skip
OF_TRANSFORMS = frozenset({"inv", "log_abs_det_jacobian", "loc", "scale", "exponent", "parts", "sign", "bijective"})  # fmt: skip
FAMILIES: tuple[tuple[type, frozenset[str]], ...] = (
    (Tensor, OF_TENSORS),
    (nn.Module, OF_MODULES),
    (Optimizer, OF_OPTIMIZERS),
    *((each, OF_SCHEDULES) for each in SCHEDULES),
    (torch.autograd.function.FunctionCtx, OF_CONTEXTS),
    (torch.distributions.Distribution, OF_DISTRIBUTIONS),
    (torch.distributions.Transform, OF_TRANSFORMS),
    (DataLoader, frozenset({"dataset", "batch_size"})),
    (Parser, frozenset({"add_argument", "add_argument_group", "add_mutually_exclusive_group", "set_defaults", "parse_args",
                        "parse_known_args"})),
    (GradScaler, frozenset({"scale", "unscale_", "step", "update", "get_scale", "is_enabled"})),
    (Dataset, frozenset({"tensors", "indices", "dataset"})),
    (StopIteration, frozenset({"args", "value"})),
    (ImportError, frozenset({"args", "name", "msg"})),
    (BaseException, frozenset({"args", "add_note"})),
    (enum.Enum, frozenset({"name", "value"})),
    (torch.Generator, frozenset({"manual_seed", "initial_seed", "device"})),
    (forward_ad.UnpackedDualTensor, frozenset({"primal", "tangent"})),
    (np.ndarray, catalog.ARRAY_METHODS | {*catalog.ARRAY_FIELDS, "dtype", "size"}),
    (np.generic, catalog.ARRAY_METHODS | {*catalog.ARRAY_FIELDS, "dtype", "size"}),
    (PackedSequence, frozenset(PackedSequence._fields)),
    (UserDict, PLAIN[dict] | {"data"}),
    (ChainMap, PLAIN[dict] | {"maps", "new_child", "parents"}),
    (UserList, PLAIN[list] | {"data"}),
    (abc.Mapping, PLAIN[dict]),
    (abc.Set, frozenset({"isdisjoint", "add", "discard", "remove", "pop", "clear"})),
    (abc.Sequence, PLAIN[list]),
)
"""What may be read from objects of a class, the program's own that are derived from it included."""

SIMPLE = frozenset({Tensor, nn.Parameter, int, float, complex, bool, str, type(None), type(Ellipsis), slice, range, torch.dtype,
                    torch.Size, torch.memory_format, torch.layout, torch.Generator, Kept, torch.ScriptObject}
                   | {each for each in vars(np).values() if isinstance(each, type)
                      and issubclass(each, (np.number, np.bool_, np.str_))})  # fmt: skip
LISTS = (list, tuple, set, frozenset, deque)
DICTS = (dict, OrderedDict, defaultdict, Counter)
NUMBERS = frozenset({int, float, bool, complex, *(kind for kind in SIMPLE if issubclass(kind, np.generic))})
"""What torch's and numpy's functions may be given: plain values, lists of them, and types of numbers."""
ARRAYS = frozenset({np.ndarray})
RESULTS = frozenset(each for each in vars(torch.return_types).values() if isinstance(each, type))
"""The named tuples that torch's functions give."""

ELSEWHERE = re.compile(
    r"(torch\.sparse\..*|meta|xla|lazy|mps|xpu|hpu|vulkan|mtia|privateuseone|ipu|fpga|maia|ve|ort|mkldnn|opengl|opencl|ideep|hip)(:\d+)?"
)
"""Devices that hold no numbers, or that no guard knows; and kinds of tensors that are sparse."""

INNER = frozenset(vars(nn.Module())) - {"training"}
"""Where a module keeps what it is: nothing of it may be read or set."""

OURS = "__jvp_program__"
"""The attribute of the program's own classes: whether it is this program's alone."""


def word(name: Any) -> str:
    """A name of an attribute that has no meaning for Python, or one that can be read.

    Raises:
        ForbiddenError: it has another, or is none.
    """
    if type(name) is not str or (name.startswith("__") and name not in READABLE):
        raise ForbiddenError(f"The attribute `{name}` can't be used.")
    return name


def is_own(kind: Any) -> bool:
    """Whether a class is one of the program's own."""
    return isinstance(kind, type) and OURS in vars(kind)


def is_alone(kind: Any) -> bool:
    """Whether a class is this program's alone: what is set on it is seen by no other."""
    return is_own(kind) and bool(vars(kind)[OURS])


def owned(kind: Any) -> Any:
    """A class of ours as one of the program's own, but for what is set on it: other programs have it, too.

    numpy asks what it makes an array of for its length, in the middle of a list that this may change: no array is made of them.
    """
    for name, value in {**APART, OURS: False}.items():
        setattr(kind, name, value)
    return kind


def is_pythons(kind: type) -> bool:
    """Whether a class is one of the program's own, in which nobody but it and Python have a part."""
    return bool(_own_classes(kind)) and all(is_own(each) or each in ROOTS for each in kind.__mro__)


CALLED = ("forward", "setup_context", "backward", "vjp", "jvp", "vmap")
"""What torch calls of a `Function`."""

BACKWARD_HOOKS = frozenset({"register_full_backward_hook", "register_full_backward_pre_hook"})
ACCUMULATED = "register_post_accumulate_grad_hook"


def own_entry(kind: type, name: str) -> Any:
    """What a program's class, or one of the program's that it is derived from, holds by a name; None: torch's own is found."""
    return next((vars(each).get(name) if is_own(each) else None for each in kind.__mro__ if name in vars(each)), None)


def has_guard(function: Any) -> bool:
    """Whether what is called is a function of the program, which has the guards with it wherever it is called."""
    if isinstance(function, partial):
        return has_guard(function.func)
    if type(function) is types.MethodType:
        return has_guard(function.__func__)
    if _own_classes(type(function)) and not isinstance(function, nn.Module):
        function = own_entry(type(function), "__call__")
    return type(function) is types.FunctionType and bool(function.__globals__.get(OURS))


def no_array(*_: Any, **__: Any) -> Any:
    """Refuses to make an array of what it is a method of.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError("No array is made of objects of the program.")


APART: Mapping[str, Any] = {OURS: True, "__array__": no_array, "__array_ufunc__": None}
"""What a class of a program is known by, and what keeps numpy from making an array of its objects."""

owned(OrderedDict)


def _own_classes(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if is_own(each)]


def _remembered(ask: Callable[..., Any]) -> Callable[..., Any]:
    """A question about a type, whose answers are remembered while the type lives: a program's goes with the program, and with
    it all that its functions hold."""
    answers: WeakKeyDictionary[type, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(ask)
    def asked(kind: type, *more: str) -> Any:
        known = answers.setdefault(kind, {})
        if more not in known:
            known[more] = ask(kind, *more)
        return known[more]

    return asked


@_remembered
def _of_type(kind: Any) -> frozenset[str]:
    """What may be read from objects of a type, whatever they hold."""
    if kind in PLAIN:
        return PLAIN[kind]
    found = next((names for family, names in FAMILIES if issubclass(kind, family)), frozenset())
    if _own_classes(kind):
        found = found.union(*(PLAIN[each] for each in kind.__mro__ if each in PLAIN))
    if kind in RESULTS:
        found = frozenset(name for name in dir(kind) if catalog.is_field(name))
    return found


def read(value: Any, name: str) -> Any:
    """What the attribute is read from: the object itself, or what stands for it.

    Raises:
        ForbiddenError: it may not be read.
        UnknownNameError: a namespace has no such name.
    """
    kind: Any = type(value)
    if issubclass(kind, str) and name in WIDENING and not _gives(kind, name):
        return _Formatting(exact(value))
    if value is dict and name == "fromkeys":
        return value
    if kind in ARRAYS or isinstance(value, np.generic):
        return _OfArray(value)
    if name == "grad_fn" and kind in TENSORS:
        return _WithNode(value)
    if name in ("cuda", "to") and isinstance(value, (Tensor, nn.Module)):
        return _AtHome(value)
    if name == "state_dict" and isinstance(value, nn.Module) and not _gives(kind, name):
        return Saving(value)
    if kind in TENSORS and name in SPARSE:
        return _Filled(value)
    if name == "type" and kind in TENSORS:
        return _Typed(value)
    if name in BACKWARD_HOOKS and isinstance(value, nn.Module) and not _gives(kind, name):
        return _Hooked(value)
    if name in OF_STATES and isinstance(value, SCHEDULES) and not _gives(kind, name):
        return _Scheduled(value)
    if name == ACCUMULATED and kind in TENSORS:
        return _Hooked(value)
    if kind is _Node and name in ("name", "next_functions", "variable"):
        return value
    if kind is _Node and name[:2] != "__" and name in dir(value._node):
        raise ForbiddenError(f"`.{name}` of a node of the graph can't be used in a program.")
    if name in _of_type(kind) or (kind in TENSORS and _is_of_tensors(name)):
        if name.startswith("__") and not _own_classes(kind):
            raise _refused(value, name)
        return value
    if (issubclass(kind, Inert) and not name.startswith("_")) or kind is _Formatting:
        return value
    if kind is Namespace or kind is Named:
        if name in vars(value) and (name[:2] != "__" or name in ("__version__", "__name__")):
            return value
        raise UnknownNameError(f"There is no `{value!r}.{name}` in a program.")
    if kind is super:
        own: Any = value.__self_class__
        if name in WIDENING and issubclass(own, str) and not _passes_on(value, own, name):
            return _Formatting(exact(value.__self__))
        if name == "state_dict" and issubclass(own, nn.Module) and not _passes_on(value, own, name):
            return Saving(value)
        if (name in ALLOCATING or name in ABOVE) and _owner_above(value, name) is not None:
            return _above(value, name)
        given = name == "__init__" or (name in _of_type(own) and name not in BACKWARD_HOOKS) or _passes_on(value, own, name)
        if _own_classes(own) and given:
            return value
        raise _refused(value, name)
    if kind is types.SimpleNamespace and (name in vars(value) or name == "__dict__"):
        return _WithDict(value) if name == "__dict__" else value
    if kind is _AtHome:
        return value
    if kind in FUNCTIONS and name == "__name__":
        return value
    if issubclass(kind, BaseException) and name in ("__cause__", "__context__", "__notes__"):
        return value
    if has_names(value) and (name in TOLD or name == "__wrapped__" or name[0] != "_"):
        return value
    if is_own(value):  # a class of the program
        if name in ("__init__", *TOLD) or (name == "apply" and issubclass(value, torch.autograd.Function)):
            return value
        if _gives(value, name):
            return value
        if isinstance(value, enum.EnumMeta) and (name == "__members__" or name in value.__members__):
            return value
        raise _refused(value, name)
    if isinstance(value, type) and value in ROOTS:
        return _of_root(value, name)
    if (value is nn.Module and name == "__init__") or (value is nn.Embedding and name == "from_pretrained"):
        return value
    if name == "__name__" and isinstance(value, type) and issubclass(value, nn.Module):
        return value
    if isinstance(value, nn.Module) and (is_part(value, name) or _is_computed(value, name)):
        return value
    if _own_classes(kind):
        if name == "__class__":
            return _OfClass(kind)
        if (name not in INNER and (name in _held(value) or _gives(kind, name))):
            return value
        if name == "__dict__" and is_pythons(kind) and hasattr(value, name):
            return _WithDict(value)
        if isinstance(value, tuple) and name in getattr(kind, "_fields", ()):
            return value
        if not name.startswith("__") and not hasattr(kind, name) and not isinstance(value, nn.Module):
            return value  # Python's own AttributeError
        raise _refused(value, name)
    if isinstance(value, nn.Module) and name in vars(value) and name not in INNER and _is_plain(vars(value)[name]):
        return value
    if isinstance(value, torch.autograd.function.FunctionCtx) and name in vars(value):
        return value
    if not name.startswith("_") and kind not in (Namespace, Named) and not hasattr(value, name):
        return value  # Python's own AttributeError
    raise _refused(value, name)


def storable(value: Any, index: Any = slice(None)) -> Any:
    """What an item is set of: no array of objects, whose methods would run while numpy goes through it.

    Args:
        value: what the item is of.
        index: which item; a slice where that isn't known before.

    Raises:
        ForbiddenError: it is one.
    """
    if type(index) is slice and isinstance(value, list) and type(value).__setitem__ is list.__setitem__:
        return _Sliced(value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise ForbiddenError("An item of an array of objects can't be set in a program.")
    return value


class _Sliced:
    """A list of which a slice is set."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __setitem__(self, index: Any, given: Any) -> None:
        set_item(self._items, index, given)


def set_item(items: list[Any], index: Any, given: Any) -> None:
    """`list.__setitem__(items, index, given)`, of a slice with what is given gone through before: C has counted the places that
    it sets by then, and what gives the items could change the list."""
    plain = type(index) is not slice or type(given) in (list, tuple)
    list.__setitem__(items, index, given if plain else list(given))


def device(*given: Any, **named: Any) -> torch.device:
    """`torch.device(…)`, of those that hold numbers.

    Raises:
        ForbiddenError: it is another.
    """
    check_given((found := torch.device(*given, **named),))
    return found


LOOKED_AT = frozenset({"cuda", "to", "state_dict", ACCUMULATED}) | BACKWARD_HOOKS
"""What is never read from the object itself of torch's that has it."""


@_remembered
def is_free(kind: Any, name: str) -> bool:
    """Whether `read` gives any object of a type itself for a name, whatever it holds."""
    if name[0] == "_" or name in LOOKED_AT or (issubclass(kind, str) and name in WIDENING):
        return False
    if kind in TENSORS and name in ("grad_fn", "type", *SPARSE):
        return False
    if kind in ARRAYS or issubclass(kind, (np.generic, type, super, Inert)):
        return False
    if name in _of_type(kind) or (kind in TENSORS and _is_of_tensors(name)):
        return True
    return _is_of_program(kind, name)


@_remembered
def is_free_to_set(kind: Any, name: str) -> bool:
    """Whether `settable` gives any object of a type itself for a name, whatever it holds."""
    if kind in TENSORS:
        return name in ("grad", "requires_grad")
    return name[0] != "_" and not issubclass(kind, (type, Inert)) and _is_of_program(kind, name)


def _is_of_program(kind: Any, name: str) -> bool:
    """Whether an attribute of objects of a program's class is the program's own: torch and Python have none of the name."""
    others = [each for each in kind.__mro__ if not is_own(each)]
    return len(others) < len(kind.__mro__) and name not in INNER and not any(name in vars(each) for each in others)


def settable(value: Any, name: str) -> Any:
    """What an attribute is set on: the object itself, or what looks at what it is set to.

    Raises:
        ForbiddenError: it may not be set.
    """
    kind = type(value)
    if issubclass(kind, Inert):
        return value
    if kind in TENSORS and name in ("grad", "requires_grad"):
        return value
    if kind in TENSORS and name == "data":
        return _Data(value)
    if kind in TENSORS and name == "retain_grad":  # set in the place of a call: what Python has of it is a value
        return _Shadowing(value)
    if name == "__dict__" and isinstance(value, dict) and is_pythons(kind) and not _slots(kind):
        return _AsItems(value)
    if has_names(value) and (name in TOLD or name[0] != "_"):
        return value
    if name.startswith("__") or name == OURS:
        raise _refused(value, name)
    if kind is types.SimpleNamespace:
        return value
    if isinstance(value, torch.autograd.function.FunctionCtx) and not hasattr(kind, name):
        return value
    if is_own(value) and name in CALLED and issubclass(value, torch.autograd.Function):
        raise _refused(value, name)
    if is_alone(value) and not hasattr(type(value), name) and not _is_inner(value, name):
        return value  # a class of the program: what all its objects share
    if _own_classes(kind) and name not in INNER and not _is_inner(kind, name):
        return value
    if isinstance(value, nn.Module) and is_part(value, name):
        return value
    if isinstance(value, nn.Module) and name in vars(value) and name not in INNER and _is_plain(vars(value)[name]):
        return value
    if isinstance(value, nn.Module) and name[:1] not in ("_", "") and not hasattr(value, name):
        return value  # as a parameter that was deleted before
    raise _refused(value, name)


def is_part(module: nn.Module, name: str) -> bool:
    """Whether a module has a parameter, part or buffer of the name: in what torch itself keeps them in."""
    held = (vars(module).get(each) for each in ("_parameters", "_modules", "_buffers"))
    return name[:2] != "__" and any(isinstance(each, dict) and type(each) in DICTS and name in each for each in held)


def _is_computed(module: nn.Module, name: str) -> bool:
    """Whether a module has a tensor of the name that torch computes from its parameters, before it is called or as it is read."""
    if name in INNER or name[:2] == "__":
        return False
    made = vars(type(module)).get(name)
    by_torch = type(made) is property and getattr(made.fget, "__globals__", None) is vars(parametrize)
    return by_torch or type(vars(module).get(name)) in TENSORS


def _is_inner(kind: type, name: str) -> bool:
    """Whether torch keeps something of its own by the name, in the classes that one of the program's is derived from."""
    if not name.startswith("_"):
        return False
    return name == "_backward_cls" or any(name in vars(each) for each in kind.__mro__ if not is_own(each))


def _slots(kind: type) -> bool:
    return not hasattr(kind, "__dictoffset__") or kind.__dictoffset__ == 0


def _held(value: Any) -> Any:
    found = getattr(value, "__dict__", {})
    return found if type(found) is dict else {}


def _gives(kind: type, name: str) -> bool:
    """Whether a class of the program, or one that it is derived from and that is another's of the program, has the attribute."""
    if (name.startswith("__") and name not in ABOVE) or name == "_backward_cls":
        return False
    if issubclass(kind, enum.Enum) and name[0] == "_":  # what an enumeration is kept in
        return name in ABOVE and any(type(vars(each).get(name)) is types.FunctionType for each in _own_classes(kind))
    return any(name in vars(each) for each in _own_classes(kind))


def _passes_on(value: Any, kind: type, name: str) -> bool:
    """Whether what `super()` finds by a name is the program's: not what torch or Python have by it."""
    if not _gives(kind, name):
        return False
    return name in ("__len__", "__getitem__") or is_own(_found_above(value, name))


def _found_above(value: Any, name: str) -> Any:
    """The class in which `super()` finds a name; None: in none."""
    above = value.__self_class__.__mro__
    return next((each for each in above[above.index(value.__thisclass__) + 1 :] if name in vars(each)), None)


def _owner_above(value: Any, name: str) -> Any:
    """The same, where it is the program's own or Python's, of which nothing but the object itself is trusted."""
    owner = _found_above(value, name)
    return owner if owner is not None and (is_own(owner) or owner in ROOTS) else None


def _above(value: Any, name: str) -> Any:
    """What `super()` gives by a name with a meaning for Python."""
    if name == "__new__":
        return types.SimpleNamespace(__new__=_new(value.__thisclass__, value.__new__))
    if name in ALLOCATING:
        return types.SimpleNamespace(**{name: partial(_set_above, getattr(value, name), value.__self__)})
    if name == "__setitem__" and _found_above(value, name) is list:
        return types.SimpleNamespace(__setitem__=partial(set_item, value.__self__))
    return value


def _of_root(root: Any, name: str) -> Any:
    """What may be read from one of Python's own types: its methods as functions.

    Raises:
        ForbiddenError: it may not be read.
    """
    if root is list and name == "__setitem__":
        return types.SimpleNamespace(__setitem__=set_item)
    if name == "__name__" or (name in ABOVE and hasattr(root, name)) or (name in _of_type(root) and name not in WIDENING):
        return root
    if name == "__new__":
        return types.SimpleNamespace(__new__=_new(root, root.__new__))
    if name in ALLOCATING and hasattr(root, name):
        return types.SimpleNamespace(**{name: partial(_set_of, getattr(root, name))})
    if name[:1] != "_" and not hasattr(root, name):
        return root  # Python's own AttributeError
    raise _refused(root, name)


def _new(root: type, make: Callable[..., Any]) -> Callable[..., Any]:
    """`__new__` of a class of Python's or the program's: of the program's own, of which C trusts nothing but what Python makes.

    Raises:
        ForbiddenError: by the call: it is another class.
    """

    def made(kind: Any, *arguments: Any, **keywords: Any) -> Any:
        if not (isinstance(kind, type) and is_pythons(kind) and issubclass(kind, root)):
            raise ForbiddenError(f"`__new__` of `{root.__name__}` makes objects of the program's own classes alone.")
        return make(kind, *arguments, **keywords)

    return made


def _set_above(change: Callable[..., Any], value: Any, name: Any, *given: Any) -> None:
    """`super().__setattr__(name, given)` and `super().__delattr__(name)`"""
    _check_settable(value, name)
    change(name, *given)


def _set_of(change: Callable[..., Any], value: Any, name: Any, *given: Any) -> None:
    """`object.__setattr__(value, name, given)` and `object.__delattr__(value, name)`"""
    _check_settable(value, name)
    change(value, name, *given)


def _check_settable(value: Any, name: Any) -> None:
    own = type(value) is types.SimpleNamespace or _own_classes(type(value))
    if not own or settable(value, word(name)) is not value:
        raise _refused(value, name)


ALLOCATING = frozenset({"__new__", "__setattr__", "__delattr__"})
"""What makes an object, or changes its attributes: it is looked at as it is called."""

ABOVE = METHODS - ALLOCATING - {
    f"__{name}__" for name in ("getattr", "mul", "rmul", "imul", "mod", "rmod", "imod", "pow", "rpow", "ipow", "lshift",
                               "rlshift", "ilshift", "round", "format", "class_getitem", "set_name")}  # fmt: skip
"""Methods with a meaning for Python that are read by their names: none makes a number or a text of any size."""

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType)
TOLD = ("__name__", "__qualname__", "__doc__")
"""What functions and classes tell of themselves."""


def has_names(value: Any) -> bool:
    """Whether what is called is a function of the program, or a method that is one."""
    function = value.__func__ if type(value) is types.MethodType else value
    return type(function) is types.FunctionType and bool(function.__globals__.get(OURS))


class Attributes(MutableMapping[str, Any]):
    """`vars(x)` of an object of the program: its attributes by their names.

    Args:
        value: the object.
    """

    def __init__(self, value: Any) -> None:
        self._of, self._held = value, vars(value)

    def __getitem__(self, name: str) -> Any:
        return self._held[name]

    def __setitem__(self, name: str, value: Any) -> None:
        _check_settable(self._of, name)
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return repr(self._held)

    def copy(self) -> dict[str, Any]:
        """A dictionary of them."""
        return dict(self._held)


PLAIN[Attributes] = PLAIN[dict]


class _OfClass:
    """`x.__class__` of an object of the program: its very class, whatever else it is taken for."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._kind


class _WithDict:
    """`x.__dict__`"""

    __slots__ = ("_of",)

    def __init__(self, value: Any) -> None:
        self._of = value

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return Attributes(self._of)


class _AsItems:
    """`self.__dict__ = self`: the attributes of a dictionary of the program are its items from then on."""

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "_value", value)

    def __setattr__(self, name: str, given: Any) -> None:
        value = object.__getattribute__(self, "_value")
        if given is not value:
            raise _refused(value, name)
        kind = type(value)
        if not is_alone(kind):
            raise _refused(value, name)
        for word_, function in (("__getattr__", _item), ("__setattr__", dict.__setitem__), ("__delattr__", _without)):
            if word_ not in vars(kind):
                setattr(kind, word_, function)


def _item(value: Any, name: str) -> Any:
    if name[:2] == "__" or not dict.__contains__(value, name):
        raise AttributeError(f"'{type(value).__name__}' object has no attribute '{name}'")  # as Python says it
    return dict.__getitem__(value, name)


def _without(value: Any, name: str) -> None:
    if not dict.__contains__(value, name):
        raise AttributeError(name)
    dict.__delitem__(value, name)


def exact(value: Any) -> Any:
    """A number, text or list of a program's class as Python's own, which is what C goes by."""
    kind = type(value)
    if not _own_classes(kind):
        return value
    for root, plain in EXACT:
        if isinstance(value, root) and not hasattr(kind, "_fields"):
            return plain(value)
    return value


EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__int__), (float, float.__float__), (str, str.__str__), (list, list.copy),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))))  # fmt: skip
"""How what is derived from a type is made what C takes it for; named tuples are taken as they are."""


def exacted(value: Any, depth: int = 0) -> Any:
    """An argument of torch's with the numbers, texts and lists of a program's classes in it as Python's own."""
    kind = type(value)
    if kind in SIMPLE or depth > MOST_DEEP:
        return value
    if kind is not list and kind is not tuple:
        found = exact(value)
        return value if found is value else exacted(found, depth + 1)
    inner = [exacted(each, depth + 1) for each in value]
    return value if all(map(operator.is_, inner, value)) else kind(inner)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (int, float, bool, str, complex)


def _is_of_tensors(name: str) -> bool:
    return catalog.is_method(name) or catalog.is_property(name)


TENSORS = frozenset({Tensor, nn.Parameter, nn.BytesIO}) if hasattr(nn, "BytesIO") else frozenset({Tensor, nn.Parameter})


def _refused(value: Any, name: str) -> ForbiddenError:
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    return ForbiddenError(f"`.{name}` can't be read or set on a `{kind}` in a program.")


class _Data:
    """`x.data = numbers`: of the same shape, so that what a graph has saved stays what it is."""

    def __init__(self, tensor: Tensor) -> None:
        object.__setattr__(self, "_tensor", tensor)

    def __getattribute__(self, name: str) -> Any:
        tensor = object.__getattribute__(self, "_tensor")
        return tensor.data if name == "data" else None

    def __setattr__(self, name: str, value: Any) -> None:
        tensor: Tensor = object.__getattribute__(self, "_tensor")
        if type(value) not in TENSORS or (value.shape, value.dtype, value.device) != (
            tensor.shape,
            tensor.dtype,
            tensor.device,
        ):
            raise ForbiddenError("`.data` is set to a tensor of another shape or dtype, or to something else.")
        tensor.data = value


class _Shadowing:
    """`x.retain_grad = True`, which hides the method of the name."""

    def __init__(self, tensor: Tensor) -> None:
        object.__setattr__(self, "_tensor", tensor)

    def __setattr__(self, name: str, value: Any) -> None:
        if not _is_plain(value):
            raise ForbiddenError("`.retain_grad` is set to something else than a plain value.")
        object.__setattr__(object.__getattribute__(self, "_tensor"), name, value)


class _Node:
    """A node of a graph, as it is looked at: it can't be called."""

    __slots__ = ("_node",)

    def __init__(self, node: Any) -> None:
        self._node = node

    def name(self) -> str:
        """What the node is called."""
        return str(self._node.name())

    @property
    def next_functions(self) -> tuple[Any, ...]:
        """The nodes that it goes on to, each with the number of its result."""
        return tuple((None if node is None else _Node(node), place) for node, place in self._node.next_functions)

    @property
    def variable(self) -> Any:
        """The leaf whose gradient the node gathers; Python's own AttributeError where it gathers none."""
        return self._node.variable


class _WithNode:
    """`x.grad_fn`"""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    @property
    def grad_fn(self) -> _Node | None:
        """The node that made the tensor; None: it was made by none."""
        return None if self._tensor.grad_fn is None else _Node(self._tensor.grad_fn)


class _Typed:
    """`x.type(dtype)`, where `torch.FloatTensor` stands for its dtype, too."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def type(self, dtype: Any = None, *rest: Any) -> Any:
        """The tensor with another dtype; without one what its own is called."""
        kind = getattr(dtype, "dtype", None) if type(dtype) is Named else dtype
        if isinstance(kind, str) and not re.fullmatch(r"torch\.\w+", kind):
            raise ForbiddenError(f"A tensor can't be made a `{kind}` in a program.")
        return self._tensor.type() if kind is None else self._tensor.type(kind, *rest)


class _OfArray:
    """What may be read from an array of numpy's, its methods looked at as its functions are."""

    def __init__(self, value: Any) -> None:
        self._array = value

    def __getattribute__(self, name: str) -> Any:
        array: Any = object.__getattribute__(self, "_array")
        kind: Any = type(array)
        if name == "resize" and isinstance(array, np.ndarray):
            return partial(_resized, array)
        found = getattr(array, name)  # Python's own AttributeError
        if name not in _of_type(kind) or (isinstance(array, np.ndarray) and array.dtype.hasobject):
            raise _refused(array, name)
        return of_arrays(found) if callable(found) else found


def _resized(array: Any, *shape: Any) -> None:
    """`a.resize(shape)` of as many entries: its memory stays, which others may see."""
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if not all(type(each) is int and each >= 0 for each in wanted) or prod(wanted) != array.size:
        raise ForbiddenError("`.resize` to another number of entries can't be used in a program.")
    array.shape = wanted


def of_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numpy's on numbers alone: what leaves entries unwritten, or makes arrays of objects, is refused."""

    def made(*arguments: Any, **keywords: Any) -> Any:
        check_given((*arguments, *keywords.values()))
        for name in keywords.keys() & {"out", "where", "like", "subok", "signature", "casting", "order"}:
            raise ForbiddenError(f"The argument `{name}` can't be used in a program.")
        found = function(*arguments, **keywords)
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, (np.ndarray, np.generic)) and each.dtype.kind not in "biufcU":
                raise ForbiddenError("An array of anything but numbers can't be used.")
        return found

    made.__name__ = made.__qualname__ = getattr(function, "__name__", made.__name__)
    return made


def here(device: Any) -> Any:
    """Where a program's tensors are, in the place of a GPU; anything else as it is."""
    named = isinstance(device, (str, torch.device)) and str(device).partition(":")[0] == "cuda"
    return torch.device("cpu") if named else device


class _AtHome:
    """`x.cuda()` and `x.to("cuda")`, which stays where it is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def cuda(self, *_: Any, **__: Any) -> Any:
        """The value itself; of a tensor a copy, as on another device."""
        return self._value.clone() if isinstance(self._value, Tensor) else self._value

    def to(self, *arguments: Any, **keywords: Any) -> Any:
        """The same; of another dtype, or like another tensor, as torch has it.

        A module that is told to hold no numbers keeps its own: whoever calls it gives it others in their place.
        """
        if isinstance(self._value, nn.Module) and "meta" in map(str, (*arguments, *keywords.values())):
            return self._value
        plain, named = [*map(here, arguments)], {name: here(value) for name, value in keywords.items()}
        moves = any(a is not b for a, b in zip((*plain, *named.values()), (*arguments, *keywords.values()), strict=True))
        found = self._value.to(*plain, **named)
        return found.clone() if moves and found is self._value and isinstance(found, Tensor) else found


class _Hooked:
    """`m.register_full_backward_hook(f)` and its kind: torch calls f while it goes through a graph, where no guard is."""

    def __init__(self, value: nn.Module | Tensor) -> None:
        self._value = value

    def __getattr__(self, name: str) -> Callable[..., RemovableHandle]:
        """What registers a function of the program by the method of the name, and refuses another."""

        def registered(hook: Any, **options: Any) -> RemovableHandle:
            if not has_guard(hook):
                raise ForbiddenError("A hook of a backward pass is a function of the program.")
            handle: RemovableHandle = getattr(self._value, name)(hook, **{each: bool(given) for each, given in options.items()})
            return handle

        return registered


class _Scheduled:
    """What may be told of a schedule, and set again: its numbers, and nothing of what it calls.

    Raises:
        ForbiddenError: it is made of others.
    """

    def __init__(self, value: Any) -> None:
        if isinstance(value, (SequentialLR, ChainedScheduler)):
            raise ForbiddenError("The state of a schedule that is made of others can't be used in a program.")
        self._held = vars(value)

    def state_dict(self) -> dict[str, Any]:
        """Its numbers, by their names."""
        return {name: deepcopy(each) for name, each in self._held.items() if name != "optimizer" and _are_plain(each)}

    def load_state_dict(self, state_dict: Any) -> None:
        """Sets them.

        Raises:
            ForbiddenError: it holds none by such a name, or something else is given.
        """
        known = self.state_dict()
        for name, each in dict(state_dict).items():
            if type(name) is not str or name not in known or not _are_plain(each):
                raise ForbiddenError(f"The state of a schedule can't be set by `{name}` in a program.")
            self._held[name] = deepcopy(each)


def _are_plain(value: Any) -> bool:
    """Whether a value is made of numbers and words alone, in lists and dictionaries."""
    if type(value) in (list, tuple):
        return all(map(_are_plain, value))
    if type(value) in (dict, Counter):
        return all(map(_are_plain, (*value, *value.values())))
    return _is_plain(value)


SPARSE_LEAF = "A sparse tensor that is differentiated by can't be used in a program."


class _Filled:
    """`x.to_sparse()`, `x.coalesce()` and `x.to_dense()`, which leave the numbers of a tensor as they are."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def to_sparse(self, *_: Any, **__: Any) -> Tensor:
        """The numbers of a constant.

        Raises:
            ForbiddenError: it has a gradient.
        """
        if self._tensor.requires_grad:
            raise ForbiddenError(SPARSE_LEAF)
        return self._tensor.clone()

    to_sparse_coo = to_sparse_csr = to_sparse

    def coalesce(self) -> Tensor:
        """The tensor itself."""
        return self._tensor

    to_dense = coalesce


PADDING = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs"})
WIDENING = PADDING | {"format", "format_map"}
"""Methods of texts by which a few characters make a text of any width."""


class _Formatting:
    """`text.format(…)` without what reads attributes and items of what it formats; `text.ljust(width)` of a bounded width."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __getattr__(self, name: str) -> Any:
        if name not in PADDING:
            raise AttributeError(name)

        def padded(width: Any = 8, *fill: Any) -> str:
            if type(width) is not int or width > MOST_WIDE:
                raise ForbiddenError("A text of any width can't be made.")
            return str(getattr(self._text, name)(width, *fill))

        return padded

    def format(self, *arguments: Any, **keywords: Any) -> str:
        """The text with its fields filled in."""
        return _Fields().vformat(self._text, arguments, keywords)

    def format_map(self, mapping: Any) -> str:
        """The same, from a mapping."""
        return _Fields().vformat(self._text, (), mapping)


class _Fields(string.Formatter):
    """Fills in the fields of a text with what a program may read, and makes none of any width."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a field is filled in with, and the name that it begins with."""
        first, rest = formatter_field_name_split(field_name)
        found = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            found = getattr(read(found, word(name)), name) if is_attribute else found[name]
        return found, first

    def format_field(self, value: Any, format_spec: str) -> str:
        """The text of a value."""
        if _wide(format_spec):
            raise ForbiddenError("A format of any width can't be used.")
        return format(value, format_spec)


def _wide(spec: str) -> bool:
    digits = "".join(mark if mark.isdigit() else " " for mark in spec).split()
    return any(len(each) > 3 for each in digits)


BITS = {"Mult": "op:mul", "Pow": "op:pow", "LShift": "op:lshift"}
"""Operators whose result's size is known from two whole numbers."""

MOST_ITEMS = 10_000_000

MOST_WIDE = 999
"""Characters that a text is widened to."""


FLOATING = frozenset({float, Tensor, nn.Parameter})
"""Types of which an operator makes nothing large, whatever the other operand is."""

MOST_WHOLE = {"Mult": (1 << 2048, 1 << 2048), "Pow": (1 << 63, 64), "LShift": (1 << 63, 4000), "Mod": (1 << 4096, 1 << 4096)}
"""How large two whole numbers may be, by which an operator makes nothing large."""


def check_sizes(name: str, left: Any, right: Any) -> None:
    """Refuse what an operator would make too large.

    Raises:
        ForbiddenError: that is so.
    """
    left, right = exact(left), exact(right)
    if name in BITS:
        limits.check_plain(BITS[name], (left, right), {})
    for one, other in ((left, right), (right, left)):
        counted = name == "Mult" and isinstance(one, int) and isinstance(other, (str, list, tuple, bytes))
        if counted and len(other) * max(one, 0) > MOST_ITEMS:
            raise ForbiddenError("A list or text of so many items can't be used.")
    if name == "Mod" and isinstance(left, bytes):
        raise ForbiddenError("A format of bytes can't be used.")
    if name == "Mod" and isinstance(left, str) and (len(left) > 10_000 or _wide(left) or "*" in left):
        raise ForbiddenError("A format of any width can't be used.")


MOST_DEEP = 20
"""How deep the lists are nested that torch is given."""


def check_given(values: Any, depth: int = 0) -> None:
    """Refuse objects of the program's own as arguments of torch's and numpy's functions, which would run their methods inside.

    Raises:
        ForbiddenError: there is one, or they nest too deeply.
    """
    if depth > MOST_DEEP:
        raise ForbiddenError("Lists in lists of this depth can't be given to torch.")
    for value in values:
        kind = type(value)
        if kind is str or kind is torch.device:
            if ELSEWHERE.fullmatch(str(value)):
                raise ForbiddenError(f"`{value}` is no device of a program: cpu is.")
            continue
        if kind in SIMPLE or (kind is types.FunctionType and value.__globals__.get(OURS)):
            continue
        named = isinstance(value, tuple) and (kind in RESULTS or (kind.__bases__ == (tuple,) and kind.__iter__ is tuple.__iter__))
        if named or kind in LISTS:
            check_given(value, depth + 1)
        elif kind in DICTS:
            check_given(value.values(), depth + 1)
        elif not (value.dtype.kind in "biufcU" if kind in ARRAYS else isinstance(value, type) and value in NUMBERS):
            raise ForbiddenError(f"A `{kind.__name__}` can't be given to torch or numpy in a program.")
