"""Modules of Python's own as a program has them: what computes is there, what reaches out has no effect, or finds nothing."""

from __future__ import annotations

import abc
import collections
import collections.abc
import contextlib
import copy
import dataclasses
import enum
import functools
import inspect
import io
import itertools
import operator
import os
import posixpath
import random
import re
import string
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jvpcli.closed import integers, reach
from jvpcli.closed.arguments import BOOLEAN, Parser
from jvpcli.closed.classes import ABSTRACT, ENUMERATIONS, Making, Within
from jvpcli.closed.ordered import OrderedDict
from jvpcli.closed.syntax import METHODS
from jvpcli.closed.words import INERT, BytesIO, Inert, Named, Namespace, Path, Types, progress
from jvpcli.errors import ForbiddenError, JvpError

SHOWN = ("matplotlib", "mpl_toolkits", "seaborn", "IPython", "tensorboard", "tensorboardX", "wandb", "logging", "warnings",
         "pprint", "datetime", "traceback", "torchviz", "torchsummary", "torchinfo", "plotly", "visdom", "gc",
         "shutil", "pdb", "PIL", "imageio", "pylab")  # fmt: skip
"""Roots of modules that show something, or have no effect on numbers: what is done with them is passed over."""

PLOTTED = (
    "axis", "bar", "cla", "clf", "close", "cm", "colorbar", "contour", "contourf", "draw", "errorbar", "figure", "fill_between",
    "gca", "gcf", "grid", "hist", "imshow", "ioff", "ion", "legend", "matshow", "pause", "plot", "plt", "quiver", "rc",
    "rcParams", "savefig", "scatter", "semilogx", "semilogy", "loglog", "show", "style", "subplot", "subplots",
    "subplots_adjust", "suptitle", "text", "tick_params", "tight_layout", "title", "xlabel", "xlim", "xticks", "ylabel", "ylim",
    "yticks", "matplotlib", "mpl",
)  # fmt: skip
"""What `from matplotlib.pyplot import *` gives names to; pylab's does, to all of numpy's too."""

KINDS = ("Callable", "Collection", "Container", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping",
         "MutableSequence", "Sequence", "Set", "Sized")  # fmt: skip
"""What of `collections.abc` an object is asked by isinstance whether it is."""

Over = Callable[[Iterable[Any]], Iterator[Any]]
"""Goes through items, each counted as a turn of the program."""


def standard_modules(over: Over, seed: int, keeps_seed: bool) -> dict[str, Any]:
    """The modules by their roots, for one run of a program; with `keeps_seed` it begins no random numbers anew."""
    return {
        **_timing(),
        **_surroundings(),
        "functools": Namespace("functools", {
            "partial": functools.partial, "reduce": functools.reduce, "wraps": _wraps, "lru_cache": functools.lru_cache,
            "cache": functools.cache, "cached_property": functools.cached_property, "cmp_to_key": functools.cmp_to_key,
            "total_ordering": _ordered, "partialmethod": functools.partialmethod}),
        "itertools": Namespace("itertools", _counted(over)),
        "operator": Namespace("operator", {name: getattr(operator, name) for name in (
            "add", "sub", "truediv", "floordiv", "neg", "pos", "abs", "matmul", "itemgetter", "getitem", "lt", "le", "gt", "ge",
            "eq", "ne", "contains", "not_", "truth", "is_", "is_not", "and_", "or_", "xor", "invert", "rshift", "iadd", "isub",
            "concat", "countOf", "indexOf")} | {
                "mul": _sized("Mult", operator.mul), "pow": _sized("Pow", operator.pow), "mod": _sized("Mod", operator.mod),
                "lshift": _sized("LShift", operator.lshift), "attrgetter": _attributes, "methodcaller": _method}),
        "collections": Namespace("collections", {
            "OrderedDict": OrderedDict, "defaultdict": collections.defaultdict, "Counter": collections.Counter,
            "deque": collections.deque, "ChainMap": ChainMap, "UserDict": UserDict, "UserList": UserList,
            "namedtuple": _named_tuple, "abc": Namespace(
                "collections.abc", {name: getattr(collections.abc, name) for name in KINDS})}),
        "copy": Namespace("copy", {"deepcopy": lambda value: copy.deepcopy(value), "copy": integers.copied}),
        "contextlib": Namespace("contextlib", {
            "nullcontext": contextlib.nullcontext, "contextmanager": contextlib.contextmanager, "suppress": suppress,
            "ExitStack": contextlib.ExitStack, "ContextDecorator": ContextDecorator, "closing": contextlib.closing,}),
        "io": Namespace("io", {"StringIO": io.StringIO, "BytesIO": BytesIO}),
        "textwrap": Namespace("textwrap", {name: _laid_out(getattr(textwrap, name)) for name in ("fill", "wrap", "shorten")} | {
            "dedent": textwrap.dedent, "indent": textwrap.indent}),
        "threading": Namespace("threading", dict.fromkeys(("Lock", "RLock"), INERT)),
        "dataclasses": Namespace("dataclasses", {
            "dataclass": _dataclass, "field": dataclasses.field, "asdict": _of_data("asdict"), "astuple": _of_data("astuple"),
            "fields": dataclasses.fields, "replace": dataclasses.replace, "is_dataclass": dataclasses.is_dataclass,
            "FrozenInstanceError": dataclasses.FrozenInstanceError, "MISSING": dataclasses.MISSING}),
        "abc": Namespace("abc", {"ABC": abc.ABC, "ABCMeta": ABSTRACT, "abstractmethod": _abstract}),
        "enum": Namespace("enum", {**ENUMERATIONS, "auto": enum.auto, "unique": enum.unique}),
        "types": Namespace("types", {
            **{name: Named(f"types.{name}", getattr(types, name), _unmade) for name in (
                "FunctionType", "LambdaType", "GeneratorType", "BuiltinFunctionType", "NoneType", "MappingProxyType")},
            "MethodType": Named("types.MethodType", types.MethodType, _bound),
            "SimpleNamespace": Named("SimpleNamespace", types.SimpleNamespace, _simple)}),
        "argparse": Namespace("argparse", {"ArgumentParser": Named("argparse.ArgumentParser", Parser, Parser), "Namespace": Named(
            "argparse.Namespace", types.SimpleNamespace, _simple)} | dict.fromkeys((
                "ArgumentDefaultsHelpFormatter", "RawTextHelpFormatter", "RawDescriptionHelpFormatter"), INERT) | {
                    "BooleanOptionalAction": BOOLEAN}),
        "string": Namespace("string", {name: getattr(string, name) for name in (
            "ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation", "printable", "whitespace",
            "hexdigits", "Template", "capwords")}),
        "re": Namespace("re", {name: _matching(getattr(re, name)) for name in (
            "sub", "findall", "split", "match", "search", "fullmatch", "compile", "finditer")} | {"escape": re.escape}
                        | {name: int(flag) for name, flag in re.RegexFlag.__members__.items() if not flag & re.DEBUG}),
        "random": Namespace("random", _random(seed, keeps_seed)),
        "tqdm": progress(), "typing": _typing(), "typing_extensions": _typing(), "__future__": INERT,
    }  # fmt: skip


def _typing() -> Types:
    """typing: what is a function or a class there is one here, and all else a type."""
    same = dict.fromkeys(("overload", "final", "override", "runtime_checkable", "no_type_check"), lambda given: given)
    of_value: dict[str, Any] = {
        "cast": lambda kind, value: value, "assert_type": lambda value, kind: value,
        "NewType": lambda name, kind: lambda value: value}  # fmt: skip
    return Types({**same, **of_value, "NamedTuple": NAMED_TUPLE, "TypedDict": RECORD, "TYPE_CHECKING": False})


def is_absent(root: str) -> bool:
    """Whether Python itself finds no module of the name."""
    from importlib.util import find_spec

    return find_spec(root) is None


# Time, files, the process


def _timing() -> dict[str, Any]:
    """A clock of the program's own, on which a thousandth of a second goes by whenever it is looked at."""
    ticks = itertools.count(1)

    def now() -> float:
        return next(ticks) * TICK

    names = ("time", "perf_counter", "monotonic", "process_time")
    clocks: dict[str, Any] = dict.fromkeys((*names, "clock"), now)
    clocks |= dict.fromkeys((f"{name}_ns" for name in names), lambda: int(now() * 10**9))
    texts = dict.fromkeys(("strftime", "ctime", "asctime"), lambda *_: "")
    return {
        "time": Namespace("time", {**clocks, **texts, "sleep": INERT, "localtime": INERT, "gmtime": INERT}),
        "timeit": Namespace("timeit", {
            "default_timer": now, "timeit": lambda *_, **__: TICK, "repeat": lambda *_, **__: [TICK], "Timer": timer}),
    }


TICK = 0.001
"""How long all takes that is timed, in seconds."""


def timer(*_: Any, **__: Any) -> Namespace:
    """`Timer(…)` of torch.utils.benchmark and of timeit: what it would time is not run."""

    def timed(*_: Any, **__: Any) -> types.SimpleNamespace:
        return types.SimpleNamespace(times=[TICK], raw_times=[TICK], mean=TICK, median=TICK, iqr=0.0, number_per_run=1)

    ways = dict.fromkeys(("timeit", "blocked_autorange", "adaptive_autorange", "repeat"), timed)
    return Namespace("torch.utils.benchmark.Timer", {**ways, "autorange": lambda *_: (1, TICK)})


def _surroundings() -> dict[str, Any]:
    """No files, no variables of the environment, no arguments."""
    environ: dict[str, str] = {}
    paths = {name: getattr(posixpath, name) for name in ("join", "basename", "dirname", "splitext", "split", "normpath")}
    found = {name: lambda *_: False for name in ("exists", "isfile", "isdir")}
    here = {name: lambda: Path(".") for name in ("cwd", "home")}
    return {
        "pathlib": Namespace("pathlib", {name: Named(f"pathlib.{name}", Path, Path, here) for name in ("Path", "PurePath")}),
        "os": Namespace("os", {
            "environ": environ, "getenv": environ.get, "sep": "/", "getcwd": lambda: ".", "cpu_count": lambda: 1,
            "path": Namespace("os.path", {**paths, **found, "abspath": str, "realpath": str, "expanduser": str}),
            "name": os.name, **dict.fromkeys(("makedirs", "mkdir", "remove", "system"), INERT)}),
        "sys": Namespace("sys", {
            "argv": [""], "modules": {}, "maxsize": sys.maxsize, "platform": sys.platform, "exit": leave, "version": sys.version,
            "version_info": sys.version_info, "float_info": sys.float_info, "byteorder": sys.byteorder, "executable": "",
            "getrecursionlimit": sys.getrecursionlimit,
            **dict.fromkeys(("path", "stdout", "stderr", "setrecursionlimit"), INERT)}),
    }  # fmt: skip


def leave(*_: Any) -> None:
    """`exit()`: the end of the program.

    Raises:
        SystemExit: always.
    """
    raise SystemExit


def opened(path: Any, mode: Any = "r", *_: Any, **__: Any) -> Inert:
    """`open(path, "w")`, whose text goes nowhere.

    Raises:
        ForbiddenError: it is opened to be read.
    """
    if not isinstance(mode, str) or not mode.startswith(("w", "a", "x")):
        raise ForbiddenError("A program reads no files.")
    return INERT


# What computes


@reach.owned
class UserDict(collections.UserDict[Any, Any]):
    """collections.UserDict"""


@reach.owned
class UserList(collections.UserList[Any]):
    """collections.UserList"""

    def __setitem__(self, index: Any, given: Any) -> None:
        reach.storable(self.data)[index] = given


@reach.owned
class ChainMap(collections.ChainMap[Any, Any]):
    """collections.ChainMap"""


@reach.owned
class ContextDecorator(contextlib.ContextDecorator):
    """contextlib.ContextDecorator"""


class suppress(contextlib.suppress):
    """`suppress(…)`, of errors: what is refused goes on."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return not isinstance(error, JvpError) and bool(super().__exit__(kind, error, trace))



def _counted(over: Over) -> dict[str, Any]:
    """itertools; what has no end is counted."""
    ending = ("product", "chain", "accumulate", "islice", "combinations", "combinations_with_replacement",
              "permutations", "starmap", "takewhile", "dropwhile", "filterfalse", "compress", "tee")  # fmt: skip

    def endless(name: str) -> Callable[..., Iterator[Any]]:
        return lambda *arguments: over(getattr(itertools, name)(*arguments))

    chain = Named("itertools.chain", itertools.chain, itertools.chain, {"from_iterable": itertools.chain.from_iterable})
    found = {name: getattr(itertools, name) for name in ending} | {name: endless(name) for name in ("count", "cycle", "repeat")}
    return found | {"chain": chain, "groupby": _grouped, **{name: _once(name) for name in ("pairwise", "zip_longest")}}


def _once(name: str) -> Callable[..., Iterator[Any]]:
    """A function of itertools whose items are not asked for while one is being found: Python's own frees twice then what it
    holds."""
    return lambda *given, **named: (each for each in getattr(itertools, name)(*given, **named))


def _grouped(iterable: Any, key: Any = None) -> Iterator[tuple[Any, Iterator[Any]]]:
    """`itertools.groupby(items, key)`, as Python's documentation writes it out: Python's own compares two keys that are freed
    where the comparison goes on with the groups."""
    items, ends = iter(iterable), object()
    value: Any = next(items, ends)
    now: Any = value if key is None or value is ends else key(value)

    def group(own: Any) -> Iterator[Any]:
        nonlocal value, now
        while value is not ends and now == own:
            yield value
            value = next(items, ends)
            now = value if key is None or value is ends else key(value)

    while value is not ends:
        found = group(now)
        yield now, found
        for _ in found:
            pass


def _laid_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of textwrap, which makes no text of any size of tabs."""

    def made(text: Any, width: Any = 70, **options: Any) -> Any:
        if "tabsize" in options:
            raise ForbiddenError("The argument `tabsize` can't be used in a program.")
        return function(text, width, **options)

    return made


def _sized(name: str, operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator as a function, which makes nothing of any size."""

    def operated(a: Any, b: Any) -> Any:
        reach.check_sizes(name, a, b)
        return operate(a, b)

    return operated


def _attribute(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(reach.read(value, reach.word(name)), name)
    return value


def _attributes(*paths: Any) -> Callable[[Any], Any]:
    """`operator.attrgetter("a.b")`"""
    paths = tuple(map(reach.word, paths))
    return lambda value: _attribute(value, paths[0]) if len(paths) == 1 else tuple(_attribute(value, path) for path in paths)


def _method(name: Any, /, *arguments: Any, **keywords: Any) -> Callable[[Any], Any]:
    """`operator.methodcaller("f", 1)`"""
    return lambda value: getattr(reach.read(value, reach.word(name)), name)(*arguments, **keywords)


def _matching(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `re`, without the flag by which it prints."""
    parameters = inspect.signature(function)

    def matching(*arguments: Any, **keywords: Any) -> Any:
        if int(reach.exact(parameters.bind(*arguments, **keywords).arguments.get("flags", 0))) & re.DEBUG:
            raise ForbiddenError("The flag `re.DEBUG` can't be used.")
        return function(*arguments, **keywords)

    return matching


def _random(seed: int, keeps_seed: bool) -> dict[str, Any]:
    """random, with a stream of the program's own; with `keeps_seed` it begins none otherwise."""

    def stream(given: Any = None) -> Namespace:
        reach.check_given((given,))
        return Namespace("random.Random", _drawing(random.Random(seed if keeps_seed or given is None else given)))

    kept = {"seed": INERT} if keeps_seed else {}
    return {**_drawing(random.Random(seed)), **kept, "Random": stream}


def _drawing(stream: random.Random) -> dict[str, Any]:
    """The functions of `random`, which draw from a stream of the program's own."""
    names = ("random", "uniform", "randint", "randrange", "choice", "choices", "shuffle", "sample", "gauss", "normalvariate",
             "expovariate", "betavariate", "seed", "triangular", "lognormvariate", "vonmisesvariate", "gammavariate",
             "paretovariate", "weibullvariate", "getstate", "setstate")  # fmt: skip

    def getrandbits(k: Any) -> int:
        reach.check_sizes("LShift", 1, k)
        return stream.getrandbits(k)

    return {**{name: getattr(stream, name) for name in names}, "getrandbits": getrandbits}


def _wraps(function: Any, *_: Any, **__: Any) -> Callable[[Any], Any]:
    """`functools.wraps(f)`: what a function of the program tells of itself is what another tells, of whom it may have it."""

    def wrapping(wrapper: Any) -> Any:
        if type(wrapper) is not types.FunctionType or not reach.has_names(wrapper):
            return wrapper
        for name in ("__name__", "__qualname__", "__doc__"):
            told = getattr(function, name, None)
            if isinstance(told, str) or name == "__doc__":
                setattr(wrapper, name, told)
        if reach.has_names(function):
            vars(wrapper).update(vars(function))
            wrapper.__wrapped__ = function  # type: ignore[attr-defined]
        return wrapper

    return wrapping


def _abstract(function: Any) -> Any:
    """`abc.abstractmethod`, of a function of the program, or of what a class makes of one."""
    if reach.has_names(function) or type(function) in (property, classmethod, staticmethod):
        return abc.abstractmethod(function)
    raise ForbiddenError("A method is abstract where it is a function of the program.")


def _ordered(kind: Any) -> Any:
    """`@total_ordering`, of a class of the program."""
    if not reach.is_alone(kind):
        raise ForbiddenError("A class that is not the program's gets no order.")
    return functools.total_ordering(kind)


def _named_tuple(name: str, fields: Any, *, defaults: Any = None) -> type:
    """`collections.namedtuple(name, fields)`"""
    name, fields = reach.exact(name), reach.exact(fields)
    given = fields if isinstance(fields, str) else [*map(reach.exact, fields)]
    if not all(type(each) is str for each in (name, *given)):  # whose text is run by Python
        raise ForbiddenError("The names of a named tuple are texts.")
    made: Any = collections.namedtuple(name, given, defaults=defaults)  # type: ignore[misc]
    setattr(made, reach.OURS, True)
    return made


NAMED_TUPLE = Named("typing.NamedTuple", tuple, lambda name, fields: _named_tuple(name, [field for field, _ in fields]))
"""What a class gets its fields by, in their order."""


def named_tuple_of(body: type, within: Within) -> type:
    """The class of named tuples whose fields, with their defaults, and methods are those of a class."""
    own = {name: value for name, value in vars(body).items() if name not in reach.APART and (name[:2] != "__" or name in METHODS)}
    fields = list(vars(body).get("__annotations__", {}))
    values = [own.pop(name) for name in fields if name in own]
    made = _named_tuple(body.__name__, fields, defaults=values)
    for name in {"__new__", "__init__"} & own.keys():
        raise AttributeError(f"Cannot overwrite NamedTuple attribute {name}")  # as Python says it
    return Making(within)(body.__name__, (made,), own) if own else made


DATA_OPTIONS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen", "match_args", "kw_only", "slots")

RECORD = Named("typing.TypedDict", dict, dict)
"""What a dictionary is written down by: what is derived from it is a dictionary."""


def _dataclass(kind: Any = None, **options: Any) -> Any:
    """`@dataclass`, of a class of the program."""
    if kind is None:
        return lambda later: _dataclass(later, **options)
    if not reach.is_alone(kind):
        raise ForbiddenError("A class that is not the program's can't be made a dataclass.")
    kept = {name: value for name, value in options.items() if name in DATA_OPTIONS}
    return dataclasses.dataclass(kind, **kept)


def _of_data(name: str) -> Callable[[Any], Any]:
    """`dataclasses.asdict(x)` and `dataclasses.astuple(x)`, of an object of the program."""

    def made(obj: Any) -> Any:
        if not reach.is_own(type(obj)):
            raise ForbiddenError("An object that is not the program's is made no dictionary of.")
        return getattr(dataclasses, name)(obj)

    return made


def _unmade(*_: Any, **__: Any) -> Any:
    """Stands where a type would make an object.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError("A type of Python's own functions makes no objects in a program.")


def _bound(function: Any, value: Any) -> Any:
    """`types.MethodType(f, x)`, of a function of the program."""
    if not reach.has_names(function):
        raise ForbiddenError("A method is made of a function of the program.")
    return types.MethodType(function, value)


def _simple(**entries: Any) -> types.SimpleNamespace:
    """`SimpleNamespace(…)`, whose names have no meaning for Python."""
    for name in entries:
        reach.word(name)
    return types.SimpleNamespace(**entries)
