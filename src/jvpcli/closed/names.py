"""What a program finds by its names: Python's functions, torch, numpy and what else may be imported, each name of a list."""

from __future__ import annotations

import builtins
import inspect
import operator
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._functorch import make_functional
from torch.autograd import Function

from jvpcli.closed import integers, reach, syntax
from jvpcli.closed.derived import Watch, checks, forward, functionals, transforms
from jvpcli.closed.given import Given, as_own
from jvpcli.closed.library import PLOTTED, SHOWN, is_absent, leave, library, opened
from jvpcli.closed.saved import saving
from jvpcli.closed.savings import Autocast, savings
from jvpcli.closed.words import INERT, Ended, Inert, Named, Namespace, Types, parts_of
from jvpcli.errors import ForbiddenError, LimitError, UsageError
from jvpcli.language import catalog, limits
from jvpcli.language.array_names import DTYPES, NAMES
from jvpcli.language.modules import CLASSES
from jvpcli.program import PROGRAM

MOST_TURNS = 3_000_000
"""Turns of loops and calls of functions."""

ERRORS = (
    "Exception", "ArithmeticError", "AssertionError", "AttributeError", "IndexError", "KeyError", "LookupError",
    "NotImplementedError", "RuntimeError", "StopIteration", "TypeError", "ValueError", "ZeroDivisionError", "OverflowError",
    "ImportError", "ModuleNotFoundError", "OSError", "FileNotFoundError", "NameError", "FloatingPointError", "Warning",
    "UserWarning", "RuntimeWarning", "DeprecationWarning", "FutureWarning",
)  # fmt: skip
PURE = (
    "abs", "all", "any", "bool", "callable", "complex", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int",
    "len", "list", "map", "max", "min", "next", "object", "property", "range", "repr", "reversed", "round", "set", "slice",
    "sorted", "chr", "ord", "bin", "hex", "id", "hash",
    "staticmethod", "classmethod", "str", "sum", "super", "tuple", "zip", "NotImplemented", "Ellipsis",
)  # fmt: skip
"""What a program has of Python's own."""

WHOLE = ("Transformer", "TransformerEncoder", "TransformerDecoder")
"""Modules that are made of layers, beside those of the language."""

CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Module")
"""Modules that hold others."""

OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "LBFGS",
)  # fmt: skip
"""Classes of torch.optim."""

SCHEDULES = (
    "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts", "LambdaLR", "MultiplicativeLR", "OneCycleLR", "CyclicLR", "ReduceLROnPlateau",
)  # fmt: skip
"""Classes of torch.optim.lr_scheduler."""

WAYS = ("foreach", "fused", "capturable", "differentiable")
"""How an optimizer carries a step out, where it is asked for by True."""


class _Dataset(torch.utils.data.Dataset[Any]):
    """A data set, several of which in a row are one of which no array is made."""

    def __add__(self, other: Any) -> Any:
        return _Row([self, other])


class _Row(_Dataset, torch.utils.data.ConcatDataset[Any]):
    """Data sets in a row."""

    __array__ = reach.no_array
    __array_ufunc__ = None


BASES = (nn.Module, Function, object, _Dataset, *(getattr(builtins, name) for name in ERRORS))
"""What a program's classes may be derived from, beside its own and those of torch.nn."""


class Program:
    """A program as it runs: its names, and how many turns it has taken."""

    def __init__(
        self,
        seed: int,
        keeps_seed: bool,
        watch: Watch,
        inside: Callable[[], AbstractContextManager[Any] | None],
        given: Mapping[str, Given],
    ) -> None:
        self.turns = 0
        self.watch = watch
        self.given = given
        self.inside = inside
        self.spaces = {
            **_spaces(),
            **library(self.over, seed, keeps_seed),
            "numpy": _numpy(seed, keeps_seed),
            **_deriving(watch, keeps_seed, self._kept),
        }
        self.globals: dict[str, Any] = {"__name__": "__main__", reach.OURS: True}
        self.globals["__builtins__"] = {**_builtins(), **self._guards(), **_spared(self.spaces)}

    # Guards

    def _guards(self) -> dict[str, Any]:
        def binary(name: str, left: Any, right: Any) -> Any:
            return OPERATORS[name](left, right) if reach.are_bounded(left, right) else made(OPERATORS, name, left, right)

        def changed(name: str, left: Any, right: Any) -> Any:
            return CHANGES[name](left, right) if reach.are_bounded(left, right) else made(CHANGES, name, left, right)

        @self._kept
        def made(operators: Mapping[str, Callable[..., Any]], name: str, left: Any, right: Any) -> Any:
            reach.check_sizes(name, left, right)
            return operators[name](left, right)

        return {
            syntax.READ: self._known(_read, reach.is_free),
            syntax.SET: self._known(reach.settable, reach.is_free_to_set),
            syntax.STORE: self._kept(reach.storable),
            syntax.FETCH: self._fetch,
            syntax.TURN: self.turn,
            syntax.INSIDE: _Inside(self),
            syntax.WITHIN: self.within,
            syntax.OVER: self.over,
            syntax.BINARY: binary,
            syntax.CHANGED: changed,
            syntax.RESUMED: self.resumed,
            syntax.GIVEN: self._given,
            syntax.PARTS: parts_of,
            "__build_class__": self._build,
            "__import__": _loaded,
            "getattr": lambda *given: self._getattr(*given),
            "setattr": self._kept(self._set),
            "hasattr": lambda *given: self._hasattr(*given),
            "dir": lambda *given: self._dir(*given),
            "globals": lambda: {name: x for name, x in self.globals.items() if name[:2] != "__"},
            "vars": self._kept(self._vars),
            "open": self._kept(opened),
        }

    def _vars(self, *values: Any) -> dict[str, Any]:
        """`vars(x)`; without one the names of the program, where it stands in no function."""
        if values:
            return _vars(*values)
        if sys._getframe(2).f_code.co_name != "<module>":
            raise ForbiddenError("vars() of a function can't be used in a program.")
        return {name: x for name, x in self.globals.items() if name[:2] != "__"}

    def _set(self, value: Any, name: Any, given: Any) -> None:
        word = reach.word(name)
        setattr(reach.settable(value, word), word, given)

    def _given(self, name: str, *own: Any) -> Any:
        """What is given for a name, of the kind of the program's own value.

        Raises:
            Ended: a VALUE can't stand for that.
        """
        try:
            return as_own(name, self.given[name], *own)
        except UsageError as error:
            raise self.end(error) from None

    def _kept(self, guard: Callable[..., Any]) -> Callable[..., Any]:
        """A guard, whose refusal ends the program whatever it catches."""

        def kept(*arguments: Any, **keywords: Any) -> Any:
            try:
                return guard(*arguments, **keywords)
            except ForbiddenError as error:
                raise self.end(error) from None

        return kept

    def _known(self, guard: Callable[..., Any], is_free: Callable[[type, str], bool]) -> Callable[..., Any]:
        """The guard of an attribute, which remembers by type and name what is free whatever the object holds."""
        known: set[tuple[type, str]] = set()
        ask = self._kept(guard)

        def looked_at(value: Any, name: str) -> Any:
            kind = type(value)
            if (kind, name) in known:
                return value
            if kind is Namespace and guard is _read and name in value.__dict__:
                return ask(value, name) if name[:2] == "__" else value
            if is_free(kind, name):
                known.add((kind, name))
                return value
            return ask(value, name)

        return looked_at

    def end(self, error: BaseException) -> Ended:
        """What ends the program."""
        self.watch.ended = error
        return Ended(error)

    def turn(self) -> None:
        """Counts a turn of a loop, or a call.

        Raises:
            Ended: there were too many.
        """
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise self.end(LimitError(f"The program takes more than {MOST_TURNS:,} turns of loops and calls."))
        if self.watch.ended is not None:
            raise Ended(self.watch.ended)

    def resumed(self, given: Any) -> Any:
        """What a generator is given as it goes on, where what it is asked by runs between the guards.

        Raises:
            Ended: it does not.
        """
        self.turn()
        if self.inside() is not None:
            raise self.end(ForbiddenError("A generator of the program goes on outside of it."))
        return given

    def within(self, body: Callable[[], Any]) -> Any:
        """What a lambda gives."""
        with self.globals["__builtins__"][syntax.INSIDE]:
            return body()

    def over(self, items: Any) -> Iterator[Any]:
        """The items of a comprehension, counted."""
        for item in items:
            self.resumed(None)
            yield item

    def _fetch(self, module: str, name: str | None = None) -> Any:
        root, _, rest = module.partition(".")
        found: Any = INERT if root in SHOWN else self.spaces.get(root)
        if found is None and is_absent(root):
            raise ModuleNotFoundError(f"No module named '{root}'")  # as Python says it
        if found is None:
            raise self.end(ForbiddenError(f"`import {root}`: there is no {root} in a program."))
        if isinstance(found, Inert):
            if name == "*" and module in ("pylab", "matplotlib.pylab", "matplotlib.pyplot"):
                numbers = vars(self.spaces["numpy"]) if module.endswith("pylab") else {}
                for each in (numbers, vars(numbers["random"]) if numbers else {}):
                    self.globals.update({word: value for word, value in each.items() if not word.startswith("_")})
                self.globals.update({word: getattr(INERT, word) for word in PLOTTED})
            return found if name is None else getattr(found, name)
        for part in filter(None, (*rest.split("."), name if name != "*" else "")):
            found = found if isinstance(found, Inert) else vars(found).get(part, _MISSING)
            if found is _MISSING:
                raise self.end(ForbiddenError(f"There is no `{module}{'.' + name if name else ''}` in a program."))
        if name == "*":
            self.globals.update({word: each for word, each in vars(found).items() if not word.startswith("_")})
        return found

    def _getattr(self, value: Any, name: Any, *default: Any) -> Any:
        word = reach.word(name)
        try:
            return getattr(_read(value, word), word, *default)
        except ForbiddenError as error:
            if default and not hasattr(value, word):
                return default[0]
            raise self.end(error) from None

    def _hasattr(self, value: Any, name: Any) -> bool:
        word = reach.word(name)
        try:
            return hasattr(_read(value, word), word)
        except ForbiddenError:
            return False

    def _dir(self, *values: Any) -> list[str]:
        """`dir(x)`: the names that can be read from an object; without one those of the program."""
        names = dir(values[0]) if values else list(self.globals)
        return [name for name in names if name[:1] != "_" and (not values or self._hasattr(values[0], name))]

    def _build(self, body: Any, name: str, *bases: Any) -> type:
        """A class of the program."""
        real = tuple(each.kind if isinstance(each, Named) else each for each in bases if type(each) is not Types)
        for base in real:
            if any(base is each for each in (*BASES, *_modules().values())) or reach.is_own(base):
                continue
            raise self.end(
                ForbiddenError(f"A class of a program can't be derived from `{getattr(base, '__name__', base)}`.")
            )
        return reach.owned(builtins.__build_class__(body, name, *real))


class _Inside:
    """The guards of torch's calls around a function of the program, whoever calls it; nothing where they are there already."""

    __slots__ = ("_entered", "_program")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._entered: list[AbstractContextManager[Any] | None] = []

    def __enter__(self) -> None:
        program = self._program
        program.turn()
        entered = program.inside()
        if entered is not None:
            entered.__enter__()
        self._entered.append(entered)

    def __exit__(self, *error: Any) -> None:
        entered = self._entered.pop()
        if entered is not None:
            entered.__exit__(*error)


OPERATORS = {"Mult": operator.mul, "Pow": operator.pow, "LShift": operator.lshift, "Mod": operator.mod}
CHANGES = {
    "Add": operator.iadd, "Sub": operator.isub, "Mult": operator.imul, "Div": operator.itruediv, "FloorDiv": operator.ifloordiv,
    "Mod": operator.imod, "Pow": operator.ipow, "MatMult": operator.imatmul, "LShift": operator.ilshift,
    "RShift": operator.irshift,
    "BitAnd": operator.iand, "BitOr": operator.ior, "BitXor": operator.ixor,
}  # fmt: skip
"""What makes a new value of two, and what may change the first instead."""


_MISSING = object()


def _kinds(kinds: Any) -> Any:
    if isinstance(kinds, tuple):
        return tuple(map(_kinds, kinds))
    return kinds.kind if isinstance(kinds, Named) else kinds


def _read(value: Any, name: str) -> Any:
    """What an attribute is read from; `m.__class__` of a module is `type(m)`."""
    return _OfKind(value) if name == "__class__" and isinstance(value, nn.Module) else reach.read(value, name)


class _OfKind:
    """What has the class of a module, and nothing else of it."""

    def __init__(self, module: nn.Module) -> None:
        self.kind = _type(module)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.kind


def _type(value: Any) -> Any:
    """`type(x)`, with one argument."""
    kind = type(value)
    if reach.is_own(kind) or any(kind is each for each in _TYPES) or _modules().get(kind.__name__) is kind:
        return kind
    return Named(kind.__name__, kind, _not_made, {"__name__": kind.__name__})


_TYPES = frozenset({int, float, bool, str, complex, list, tuple, dict, set})


def _not_made(*_: Any, **__: Any) -> Any:
    raise ForbiddenError("A class that was asked for by type(…) makes no objects in a program.")


def _builtins() -> dict[str, Any]:
    found = {name: getattr(builtins, name) for name in (*PURE, *ERRORS)}
    return {
        **found,
        "print": lambda *_, **__: None,
        "type": _type,
        "isinstance": lambda value, kinds: isinstance(value, _kinds(kinds)),
        "issubclass": lambda kind, kinds: issubclass(_kinds(kind), _kinds(kinds)),
        "pow": _power,
        "round": _rounded,
        "iter": lambda items: iter(items),
        "format": _formatted,
        "exit": leave,
        "quit": leave,
        "help": INERT,
        "KeyboardInterrupt": type("KeyboardInterrupt", (Exception,), {}),  # which goes to whoever has the program run
    }


@lru_cache(maxsize=1)
def found_without_import() -> frozenset[str]:
    """The names that a program finds though it neither assigns nor imports them."""
    return frozenset({*_builtins(), *_spared({**_spaces(), "numpy": Namespace("numpy", _arrays())})})


def _vars(value: Any) -> dict[str, Any]:
    """`vars(x)`, of a namespace, or of an object of the program that torch keeps nothing in."""
    if isinstance(value, types.SimpleNamespace) or (reach.is_own(type(value)) and type(value).__bases__ == (object,)):
        return dict(vars(value))
    raise ForbiddenError(f"vars(…) of a `{type(value).__name__}` can't be used in a program.")


def _formatted(value: Any, spec: Any = "") -> str:
    """`format(value, spec)`, of no width of any size."""
    if type(spec) is not str or syntax.WIDE.search(spec):
        raise ForbiddenError("A format of any width can't be used.")
    return format(value, spec)


def _loaded(name: str, *rest: Any, **keywords: Any) -> Any:
    """What torch and numpy load of themselves where they are called; no program can write the name.

    Raises:
        ImportError: it is none of theirs.
    """
    if name.partition(".")[0] not in ("torch", "numpy"):
        raise ImportError(f"there is no {name} in a program")
    return builtins.__import__(name, *rest, **keywords)


def _power(base: Any, exponent: Any) -> Any:
    """`pow(base, exponent)`, of no number of any size."""
    reach.check_sizes("Pow", base, exponent)
    return base**exponent


def _rounded(number: Any, digits: Any = None) -> Any:
    """`round(number, digits)`, of digits that a number may have."""
    limits.check_plain("builtin:round", (number, digits or 0), {})
    return round(number, digits)


def _spared(spaces: Mapping[str, Any]) -> dict[str, Any]:
    """Names that are used without being imported, as people leave imports out of what they show."""
    torch_ = spaces["torch"]
    held = vars(torch_)
    return {
        "torch": torch_, "nn": held["nn"], "F": vars(held["nn"])["functional"], "np": spaces["numpy"], "math": spaces["math"],
        "Variable": vars(held["autograd"])["Variable"], "Tensor": held["Tensor"], "plt": INERT, "Function": Function,
        "optim": held["optim"], "grad": vars(held["autograd"])["grad"],
    }  # fmt: skip


# torch


@lru_cache(maxsize=1)
def _modules() -> Mapping[str, type]:
    """The classes of torch.nn that may be constructed, and derived from."""
    found = {name: getattr(nn, name) for name in (*CLASSES, *WHOLE, *CONTAINERS) if hasattr(nn, name)}
    return {**found, "ParameterDict": _ParameterDict}


def _checked(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the catalogue, which refuses what no call may use."""
    refused = tuple(catalog.refused_positions(f"call:{path}").items())

    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        reach.check_given((*arguments, *keywords.values()))
        for name in keywords.keys() & REFUSED:
            raise ForbiddenError(f"The argument `{name}` can't be used in a program.")
        if "device" in keywords:
            keywords["device"] = reach.here(keywords["device"])
        limits.check_plain(f"call:{path}", arguments, keywords)
        for place, (name, default) in refused:
            if place < len(arguments) and arguments[place] != default and name in REFUSED:
                raise ForbiddenError(f"The argument `{name}` can't be used in a program.")
        return function(*arguments, **keywords)

    return checked


REFUSED = frozenset({"out", "generator", "pin_memory", "distance_function", "names"})


def _of_catalogue(prefix: str) -> dict[str, Any]:
    """The functions and constants of a namespace of the catalogue."""
    data = catalog._data()
    found: dict[str, Any] = {}
    for path in (*data["functions"], *data["constants"]):
        owner, _, name = path.rpartition(".")
        if owner == prefix:
            module: Any = import_module(owner) if owner != "torch" else torch
            value = getattr(module, name, _MISSING)
            if value is not _MISSING:
                found[name] = _checked(path, value) if callable(value) and not isinstance(value, type) else value
    return found


@lru_cache(maxsize=1)
def _spaces() -> dict[str, Any]:
    functional = Namespace("torch.nn.functional", _of_catalogue("torch.nn.functional"))
    fills = [name for name in dir(nn.init) if name[0] != "_" and (name.endswith("_") or f"{name}_" in dir(nn.init))]
    fills.append("calculate_gain")
    init = Namespace("torch.nn.init", {name: getattr(nn.init, name) for name in fills})
    utils = Namespace("torch.nn.utils", {name: getattr(nn.utils, name) for name in (
        "clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters")} | {
            "stateless": Namespace("torch.nn.utils.stateless", {"functional_call": torch.func.functional_call})})  # fmt: skip
    modules = {**_modules(), "Parameter": nn.Parameter, "functional": functional, "init": init, "utils": utils}
    modules["modules"] = Namespace("torch.nn.modules", dict(modules))
    modules["parameter"] = Namespace("torch.nn.parameter", {"Parameter": nn.Parameter})
    space = Namespace("torch.nn", modules)
    schedules = {name: getattr(torch.optim.lr_scheduler, name) for name in SCHEDULES}
    optim = {name: _optimizer(name) for name in OPTIMIZERS}
    autograd = torch.autograd
    anomalies: dict[str, Any] = {"set_detect_anomaly": INERT, "detect_anomaly": INERT}
    entries: dict[str, Any] = {
        **_of_catalogue("torch"),
        "nn": space,
        "linalg": Namespace("torch.linalg", _of_catalogue("torch.linalg")),
        "fft": Namespace("torch.fft", _of_catalogue("torch.fft")),
        "special": Namespace("torch.special", _of_catalogue("torch.special")),
        "optim": Namespace("torch.optim", {**optim, "lr_scheduler": Namespace("torch.optim.lr_scheduler", schedules)}),
        "autograd": Namespace("torch.autograd", {
            "grad": autograd.grad, "backward": autograd.backward, "Function": Function, "Variable": _variable,
            **anomalies, "anomaly_mode": Namespace("torch.autograd.anomaly_mode", anomalies),
            "set_grad_enabled": torch.set_grad_enabled, "no_grad": torch.no_grad,
            "enable_grad": torch.enable_grad,
            "variable": Namespace("torch.autograd.variable", {"Variable": _variable}),
            "function": Namespace("torch.autograd.function", {"Function": Function, "once_differentiable":
                                                              autograd.function.once_differentiable}),
            "gradgradcheck": INERT,
        }),
        "utils": Namespace("torch.utils", {"benchmark": INERT, "tensorboard": INERT, "checkpoint": savings()["checkpoint"],
                                           "data": Namespace("torch.utils.data", {
            "DataLoader": _loader, "TensorDataset": _TensorDataset, "Dataset": _Dataset, "Subset": _Subset,
            "random_split": _split})}),
        "distributions": Namespace("torch.distributions", {name: getattr(torch.distributions, name) for name in (
            "Normal", "Bernoulli", "Categorical", "Uniform", "Exponential", "Gamma", "Beta", "Laplace", "MultivariateNormal",
            "Independent", "Poisson", "Dirichlet")} | {"kl_divergence": torch.distributions.kl_divergence}),
        "no_grad": torch.no_grad, "enable_grad": torch.enable_grad, "set_grad_enabled": torch.set_grad_enabled,
        "inference_mode": torch.no_grad, "is_grad_enabled": torch.is_grad_enabled, "is_tensor": torch.is_tensor,
        "manual_seed": _seeded, "random": Namespace("torch.random", {"manual_seed": _seeded}),
        "device": Named("torch.device", torch.device, reach.device),
        "set_default_dtype": _default_dtype, "get_default_dtype": torch.get_default_dtype, "set_default_tensor_type": INERT,
        "set_default_device": _default_device,
        "amp": savings()["amp"], "autocast": Autocast,
        "cpu": Namespace("torch.cpu", {"amp": savings()["cpu"]}), "profiler": INERT,
        "cuda": Namespace("torch.cuda", {"amp": savings()["cuda"],
                                         "is_available": lambda: False, "manual_seed": INERT, "manual_seed_all": INERT,
                                         "empty_cache": INERT, "synchronize": INERT, "Event": INERT, "device_count": lambda: 0}),
        "backends": INERT, "set_printoptions": INERT, "set_num_threads": INERT, "use_deterministic_algorithms": INERT,
        "compile": _as_it_is, "jit": Namespace("torch.jit", {"script": _as_it_is, "ignore": _as_it_is, "export": _as_it_is}),
        "from_numpy": integers.from_numpy, "__version__": str(torch.__version__), "Size": torch.Size,
        "Tensor": Named("torch.Tensor", Tensor, _legacy(None), _methods()),
        "empty": torch.zeros, "empty_like": torch.zeros_like, "dtype": torch.dtype, "finfo": torch.finfo, "iinfo": torch.iinfo,
    }  # fmt: skip
    for name, dtype in LEGACY.items():
        entries[name] = Named(f"torch.{name}", Tensor, _legacy(dtype), {"dtype": dtype})
        vars(entries["cuda"])[name] = entries[name]
    entries["testing"] = Namespace("torch.testing", {"assert_close": INERT, "assert_allclose": INERT})
    return {"torch": Namespace("torch", entries), "math": Namespace("math", _of_catalogue("math"))}


class _ParameterDict(nn.ParameterDict):
    """A dictionary of parameters, which torch keeps as attributes: by names that have no other meaning."""

    def _key_to_attr(self, key: str) -> str:
        found: str = super()._key_to_attr(key)
        if found.startswith("_"):
            raise ForbiddenError(f"The key `{found}` can't be used.")
        return found


class _TensorDataset(_Dataset, torch.utils.data.TensorDataset):
    """Tensors alone, whose lengths are asked of torch."""

    def __init__(self, *tensors: Tensor) -> None:
        if not all(type(each) in reach.TENSORS for each in tensors):
            raise ForbiddenError("A TensorDataset is made of tensors.")
        super().__init__(*tensors)


class _Subset(_Dataset, torch.utils.data.Subset[Any]):
    """Some of a data set's items; no array is made of it."""

    __array__ = reach.no_array
    __array_ufunc__ = None


def _split(dataset: Any, lengths: Any) -> list[Any]:
    """`random_split(dataset, lengths)`"""
    return [_Subset(each.dataset, each.indices) for each in torch.utils.data.random_split(dataset, lengths)]


def _optimizer(name: str) -> type:
    """A class of torch.optim without what compiles it, for which torch would load its compiler first."""
    kind = getattr(torch.optim, name)
    bare = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {each: inspect.unwrap(getattr(kind, each)) for each in bare}
    step, clear = torch.no_grad()(inspect.unwrap(kind.step)), plain["zero_grad"]

    def stepped(self: Any, closure: Any = None) -> Any:
        """A step; one that is made of torch's own calls alone needs no guard."""
        if closure is not None or not _holds_plain(self):
            return step(self, closure)
        with torch._C.DisableTorchFunction():
            return step(self)

    def cleared(self: Any, set_to_none: bool = True) -> None:
        """Clears the gradients."""
        with torch._C.DisableTorchFunction() if _holds_tensors(self) else nullcontext():
            clear(self, bool(set_to_none))

    return type(name, (kind,), {**plain, "step": stepped, "zero_grad": cleared})


def _holds_plain(optimizer: Any) -> bool:
    """Whether an optimizer holds tensors and numbers alone, and nothing of the program that would run in its steps.

    Not where it is asked for a way of its own to carry a step out, in which torch trusts the shapes of what it holds.
    """
    if any(group.get(way) for group in optimizer.param_groups for way in WAYS):
        return False
    groups, states = optimizer.param_groups, optimizer.state.values()
    values = [value for group in groups for name, value in group.items() if name != "params"]
    kinds = {type(part) for value in values for part in (value if type(value) is tuple else (value,))}
    kinds.update(type(value) for state in states for value in state.values())
    return kinds <= reach.SIMPLE and {*map(type, states)} <= {dict} and _holds_tensors(optimizer)


def _holds_tensors(optimizer: Any) -> bool:
    """Whether what an optimizer moves are tensors in lists."""
    groups = optimizer.param_groups
    return all(
        type(group) is dict
        and type(group.get("params")) is list
        and reach.TENSORS.issuperset(map(type, group["params"]))
        for group in groups
    )


def _methods() -> dict[str, Any]:
    """The methods of tensors as functions: `torch.Tensor.sum(x)`."""
    names = [name for name in dir(Tensor) if name[0] != "_" and catalog.is_method(name)]
    return {name: _checked(f"torch.Tensor.{name}", getattr(Tensor, name)) for name in names}


LEGACY = {"FloatTensor": torch.float32, "DoubleTensor": torch.float64, "LongTensor": torch.int64, "IntTensor": torch.int32,
          "ByteTensor": torch.uint8, "BoolTensor": torch.bool, "HalfTensor": torch.float16}  # fmt: skip


def _legacy(dtype: torch.dtype | None) -> Callable[..., Tensor]:
    """`torch.FloatTensor(…)`: of numbers, of a tensor, or of sizes, whose numbers are zeros here."""

    def made(*given: Any) -> Tensor:
        kind = dtype or torch.get_default_dtype()
        if not given or isinstance(given[0], int):
            return torch.zeros(given if given else (0,), dtype=kind)
        if isinstance(given[0], torch.Size):
            return torch.zeros(given[0], dtype=kind)
        return given[0].to(kind) if isinstance(given[0], Tensor) else torch.tensor(given[0], dtype=kind)

    return made


def _variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Tensor:
    """`Variable(x)`: the tensor itself."""
    found = data.detach() if isinstance(data, Tensor) and data.grad_fn is None else data
    return found.requires_grad_(requires_grad) if requires_grad else found


def _loader(dataset: Any, batch_size: int = 1, shuffle: bool = False, **options: Any) -> Any:
    """`DataLoader(…)` in the process itself."""
    kept = {name: value for name, value in options.items() if name in ("drop_last", "collate_fn")}
    return torch.utils.data.DataLoader(dataset, batch_size, shuffle, **kept)


def _seeded(seed: int) -> Any:
    torch.default_generator.manual_seed(seed)
    return INERT


def _default_device(device: Any) -> None:
    """`torch.set_default_device(…)`: a GPU is where a program's tensors are already."""
    reach.check_given((reach.here(device),))


def _default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)


ON_ARRAYS = (
    "triu", "tril", "trace", "cumprod", "nanmean", "nan_to_num", "interp", "gradient", "cross", "kron", "roll", "fliplr",
    "flipud", "split", "array_split", "append", "insert", "delete", "nonzero", "argwhere", "searchsorted", "digitize", "hypot",
    "remainder", "floor_divide", "sinc", "degrees", "radians", "deg2rad", "rad2deg", "isin", "percentile", "quantile", "average",
    "cov", "atleast_1d", "atleast_2d", "swapaxes", "moveaxis", "negative", "fabs", "cbrt", "exp2", "less", "greater",
    "logical_and", "logical_or", "logical_not", "geomspace", "size", "ndim", "shape", "copy", "count_nonzero", "histogram",
    "polyfit", "polyval",
)  # fmt: skip
"""What a program that is run has of numpy beside what the language has: functions of numbers and arrays."""


DRAWN = (
    "beta", "binomial", "chisquare", "exponential", "gamma", "geometric", "gumbel", "laplace", "logistic",
    "lognormal", "multinomial", "multivariate_normal", "pareto", "poisson", "standard_t", "triangular", "weibull", "shuffle",
)  # fmt: skip
"""What it has of numpy's random numbers beside what the language has."""


@lru_cache(maxsize=1)
def _arrays() -> dict[str, Any]:
    """What of numpy draws no numbers."""
    found: dict[str, Any] = {"pi": np.pi, "e": np.e, "inf": np.inf, "nan": np.nan, "newaxis": None, "ndarray": Named(
        "numpy.ndarray", np.ndarray, _not_made)}  # fmt: skip
    for name in (*NAMES, *ON_ARRAYS):
        owner, _, last = name.rpartition(".")
        if not owner and hasattr(np, last):
            found[last] = reach.of_arrays(getattr(np, last))
    found |= {name: getattr(np, name) for name in DTYPES}
    linalg = {name: reach.of_arrays(getattr(np.linalg, name)) for name in ("norm", "inv", "det")}
    found["linalg"] = Namespace("numpy.linalg", linalg)
    return found


def _numpy(seed: int, keeps_seed: bool) -> Namespace:
    """numpy, whose random numbers come from a stream of the program's own; with `keeps_seed` it begins none anew."""
    drawn = np.random.RandomState(seed)
    words = [name.rpartition(".")[2] for name in NAMES if name.startswith("random.")]
    kept = {"seed": INERT} if keeps_seed else {}
    of_arrays = {name: reach.of_arrays(getattr(drawn, name)) for name in (*words, *DRAWN) if hasattr(drawn, name)}
    of_arrays |= dict.fromkeys(("sample", "ranf"), of_arrays["random_sample"])
    return Namespace("numpy", {**_arrays(), "random": Namespace("numpy.random", of_arrays | kept)})


def _deriving(watch: Watch, keeps_seed: bool, guard: Callable[..., Any]) -> dict[str, Any]:
    """Namespaces of one run: whose functions ask for derivatives, and keep what is saved."""
    func = transforms(watch, _line)
    torch_, autograd = vars(_spaces()["torch"]), vars(vars(_spaces()["torch"])["autograd"])
    functional = Namespace("torch.autograd.functional", functionals(watch, _line))
    held = Namespace("torch.autograd", {
        **autograd, "functional": functional, **checks(watch, _line),
        "forward_ad": Namespace("torch.autograd.forward_ad", forward(watch, _line)),
    })  # fmt: skip
    space = Namespace("torch.func", func)
    kept = {"manual_seed": INERT, "random": Namespace("torch.random", {"manual_seed": INERT})} if keeps_seed else {}
    return {
        "torch": Namespace("torch", {**torch_, "autograd": held, "func": space, "vmap": func["vmap"], **kept,
                                     **{name: guard(function) for name, function in saving().items()}}),
        "functorch": Namespace("functorch", {**func, **{name: getattr(make_functional, name) for name in (
            "make_functional", "make_functional_with_buffers")}}),
    }  # fmt: skip


def _line() -> int:
    """The line of the program that is carried out."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != PROGRAM:
        frame = frame.f_back  # type: ignore[assignment]
    return 0 if frame is None else frame.f_lineno


def _as_it_is(function: Any = None, **_: Any) -> Any:
    """`torch.compile(f)`: f itself, which gives the same numbers."""
    return _as_it_is if function is None else function
