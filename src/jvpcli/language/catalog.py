"""The allow-list: what an expression can call, read and name, of torch and numpy, and why it can't the rest.  Loads no torch.

The catalogue of torch is data that `tools/build_catalog.py` derives from torch's own registry.  It is closed by exact path: what
isn't in it doesn't resolve.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

ALIASES: Mapping[str, str] = {"F": "torch.nn.functional", "nn": "torch.nn"}
"""Names of the language for a namespace of torch."""

NAMESPACES = frozenset(
    {"torch", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special", "torch.masked", "math"}
)
ROOTS = frozenset({"torch", "math", *ALIASES})

BUILTINS: Mapping[str, str] = {
    "abs": "abs(x): the absolute value",
    "bool": "bool(x): true or false, of one element",
    "enumerate": "enumerate(items, start=0): pairs of index and item",
    "float": "float(x): a plain number; the gradient ends there",
    "int": "int(x): a plain integer; the gradient ends there",
    "len": "len(x): the size of the first axis, or of a list",
    "list": "list(items): a list",
    "max": "max(a, b, …) or max(items): the largest",
    "min": "min(a, b, …) or min(items): the smallest",
    "pow": "pow(x, y): x ** y",
    "range": "range(stop) or range(start, stop, step): integers",
    "reversed": "reversed(items): in reverse order",
    "round": "round(x, digits=0): rounded",
    "slice": "slice(start, stop, step): a subscript",
    "sum": "sum(items, start=0): added up",
    "tuple": "tuple(items): a tuple",
    "zip": "zip(a, b, …): tuples of the items side by side",
}
"""The helper builtins, with what they do."""

SYMBOLS: Mapping[str, str] = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "and_": "&", "or_": "|", "xor": "^", "lshift": "<<", "rshift": ">>", "neg": "-", "pos": "+", "invert": "~",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "getitem": "[…]", "setitem": "[…] =",
    "not_": "not", "is_": "is", "is_not": "is not", "contains": "in",
}  # fmt: skip
"""Operators as people write them, by the name in an equation; `AUGMENTED` adds its own."""

AUGMENTED: Mapping[str, str] = {
    f"i{name.rstrip('_')}": name
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
}
"""Augmented assignment, by the name in the module `operator`: the operator that stands for it where nothing changes in place."""

SYMBOLS = {**SYMBOLS, **{name: f"{SYMBOLS[plain]}=" for name, plain in AUGMENTED.items()}}

WRITING = frozenset({"op:setitem", *(f"op:{name}" for name in AUGMENTED)})
"""Equations that write into their first operand."""

FORBIDDEN_KEYWORDS: Mapping[str, str] = {
    "out": "it would write into another tensor; use the result instead",
    "requires_grad": "a leaf is made by a statement of its own, x = torch.ones(3, requires_grad=True); else name it by --wrt",
    "generator": "randomness comes from --seed",
    "pin_memory": "it is about memory transfers, not values",
    "layout": "jvp takes dense tensors",
    "distance_function": "it takes a Python function, which an expression doesn't have",
    "names": "named dimensions are an unfinished experiment of torch",
}
"""Keyword arguments that no call may use, and why."""

PUBLIC_KEYWORDS = frozenset({"_random_samples"})
"""Keyword arguments that may be used although they begin with an underscore: torch documents them."""

MODULE_REASONS: Mapping[str, str] = {
    "torch.autograd": "jvp itself computes the derivative: write the function alone, and its weights as --grad-outputs",
    "torch.func": "jvp itself computes the derivative: write the function alone",
    "torch.optim": "it moves weights as a program runs, and the language answers at weights that stay as they are",
    "torch.utils.data": "it is no function of tensors: take the batches by slices, as in X[:4]",
    "torch.nn.Module": "it is a class; call the function in torch.nn.functional",
    "torch.nn": "a module is made by a statement of its own, net = nn.Linear(3, 4); its function is in torch.nn.functional",
    "torch.Tensor": "it is a class; methods are called on a tensor, as in x.sum()",
}
"""Better reasons than the general one, for whole branches."""

ARRAY_ELEMENTWISE = frozenset(
    {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "exp", "expm1", "log", "log2", "log10",
     "log1p", "sqrt", "square", "abs", "absolute", "sign", "power", "maximum", "minimum", "floor", "ceil", "round", "clip",
     "where", "isnan", "isinf", "isfinite", "mod", "add", "subtract", "multiply", "divide", "allclose", "isclose",
     "sum", "mean", "std", "var", "min", "max", "amin", "amax", "prod", "cumsum",
     "argmax", "argmin", "median", "any", "all", "argsort", "sort", "unique", "reshape", "transpose", "expand_dims", "squeeze",
     "ravel", "array_equal", "linalg.norm", "linalg.inv", "linalg.det", "diff", "flip"}
)  # fmt: skip
"""Functions of numpy's whose results are no larger than their arguments, broadcast."""

ARRAY_JOINING = frozenset({"array", "asarray", "concatenate", "stack", "vstack", "hstack", "column_stack"})
"""Those whose results are as large as all their arguments together."""

ARRAY_MULTIPLYING = frozenset({"dot", "matmul", "outer", "inner", "meshgrid"})
"""Those whose results are at most as large as the product of their arguments."""

ARRAY_SIZES: Mapping[str, tuple[int, int | None, tuple[str, ...]]] = {
    "zeros": (0, 1, ("shape",)), "ones": (0, 1, ("shape",)), "full": (0, 1, ("shape",)),
    "eye": (0, 2, ("N", "M")), "identity": (0, 1, ("n",)), "diag": (1, 2, ("k",)), "arange": (0, 3, ("start", "stop", "step")),
    "linspace": (2, 3, ("num",)), "logspace": (2, 3, ("num",)), "tile": (1, 2, ("reps",)), "repeat": (1, 2, ("repeats",)),
    "zeros_like": (4, 5, ("shape",)), "ones_like": (4, 5, ("shape",)), "full_like": (5, 6, ("shape",)),
    "random.rand": (0, None, ()), "random.randn": (0, None, ()), "random.permutation": (0, 1, ("x",)),
    "random.choice": (0, 2, ("a", "size")), "random.seed": (0, 0, ()),
    **{f"random.{name}": (2, 3, ("size",)) for name in ("normal", "uniform", "randint")},
    **{f"random.{name}": (0, 1, ("size",)) for name in ("random", "random_sample", "standard_normal")},
}  # fmt: skip
"""Those that are told how much they give: where that stands among the arguments, from and up to, and by what name."""

ARRAY_DTYPES = frozenset({"float16", "float32", "float64", "int32", "int64", "complex64", "complex128"})
"""Those that make a number, or an array, of that dtype."""

ARRAY_FUNCTIONS = ARRAY_ELEMENTWISE | ARRAY_JOINING | ARRAY_MULTIPLYING | ARRAY_SIZES.keys()
"""All that can be called by a name of numpy's; the rest of numpy is not there."""

ARRAY_METHODS = frozenset(
    {"reshape", "sum", "mean", "std", "var", "min", "max", "argmin", "argmax", "astype", "copy", "flatten", "ravel", "transpose",
     "dot", "round", "clip", "cumsum", "prod", "squeeze", "item", "tolist", "any", "all", "argsort", "repeat"}
)  # fmt: skip
"""What can be called of an array."""

ARRAY_FIELDS = ("shape", "ndim", "T")
"""What can be read of an array."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that an expression can call, read or name.

    `kind` is "function", "method", "property", "field", "constant" or "builtin".  `random` says that it draws random
    numbers.
    """

    path: str
    kind: str
    random: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def signature(self) -> str:
        """How it is called."""
        if self.kind == "builtin":
            return BUILTINS[self.path].partition(":")[0]
        return _texts().get(self.path, (self.name, ""))[0]

    @property
    def description(self) -> str:
        """What it does, in one line; empty where torch doesn't say."""
        if self.kind == "builtin":
            return BUILTINS[self.path].partition(": ")[2]
        return _texts().get(self.path, ("", ""))[1]


@lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    data: dict[str, Any] = json.loads((HERE / "catalog.json").read_text(encoding="utf-8"))
    for kind in ("properties", "fields", "constants"):
        data[kind] = frozenset(data[kind])
    data["object_fields"] = {kind: frozenset(names) for kind, names in data["object_fields"].items()}
    data["refused_positions"] = {
        path: {int(place): (name, default) for place, (name, default) in places.items()}
        for path, places in data["refused_positions"].items()
    }
    return data


@lru_cache(maxsize=1)
def _texts() -> Mapping[str, Sequence[str]]:
    texts: dict[str, Sequence[str]] = json.loads((HERE / "catalog_text.json").read_text(encoding="utf-8"))
    return texts


@lru_cache(maxsize=1)
def _forbidden() -> Mapping[str, str]:
    return {path: reason for reason, paths in _data()["forbidden"].items() for path in paths}


def is_function(path: str) -> bool:
    """Whether `path` ("torch.sin", "math.sqrt") may be called."""
    return path in _data()["functions"]


def is_constant(path: str) -> bool:
    """Whether `path` ("torch.float64", "math.pi") is a named constant."""
    return path in _data()["constants"]


def is_method(name: str) -> bool:
    """Whether a tensor's method `name` may be called."""
    return name in _data()["methods"]


def is_property(name: str) -> bool:
    """Whether a tensor's property `name` may be read."""
    return name in _data()["properties"]


def is_field(name: str) -> bool:
    """Whether one of torch's named results has a field `name`."""
    return name in _data()["fields"]


def object_fields(kind: str) -> frozenset[str]:
    """What may be read from a plain object: "finfo", "iinfo", "dtype" or "number"."""
    fields: frozenset[str] = _data()["object_fields"][kind]
    return fields


def is_attribute(name: str) -> bool:
    """Whether anything that an expression can hold has a readable attribute `name`."""
    return is_property(name) or is_field(name) or any(name in names for names in _data()["object_fields"].values())


def changes_arguments(op: str) -> bool:
    """Whether an equation's `op` ("method:mul_", "call:torch.relu") may change a tensor it is given."""
    return op in WRITING or "i" in _flags(op)


def is_random(op: str) -> bool:
    """Whether an equation's `op` draws random numbers, or begins them anew."""
    return "r" in _flags(op) or op.startswith("random:")


def is_pointwise(op: str) -> bool:
    """Whether an equation's `op` works element by element, with broadcasting, by torch's own tag."""
    kind, _, target = op.partition(":")
    return target in POINTWISE_OPERATORS if kind == "op" else "p" in _flags(op)


POINTWISE_OPERATORS = frozenset(
    {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift",
     "neg", "pos", "invert", "eq", "ne", "lt", "le", "gt", "ge"}
)  # fmt: skip


@lru_cache(maxsize=4096)
def _flags(op: str) -> str:
    kind, _, target = op.partition(":")
    table = {"call": "functions", "method": "methods"}.get(kind)
    return _data()[table].get(target, "") if table else ""


def refused_positions(op: str) -> Mapping[int, tuple[str, Any]]:
    """Places of an equation's positional arguments where a parameter is that no call may use: its name and default."""
    kind, _, target = op.partition(":")
    path = f"torch.Tensor.{target}" if kind == "method" else target
    return _data()["refused_positions"].get(path, {}) if kind in ("call", "method") else {}


def guards(name: str) -> Sequence[str]:
    """The families of `guards` that have a rule for the arguments of a function or method of that name, in any namespace."""
    families: Sequence[str] = _data()["guards"].get(name, ())
    return families


def keyword_reason(name: str) -> str | None:
    """Why no call may use the parameter `name`; None where it may be used."""
    if name.startswith("_") and name not in PUBLIC_KEYWORDS:
        return "names that begin with an underscore are internals"
    return FORBIDDEN_KEYWORDS.get(name)


def lookup(path: str) -> Entry | None:
    """The entry of `path`: "torch.sin", "F.relu", "torch.Tensor.sum", "torch.pi", "len"; None where there is none."""
    path = canonical(path)
    data = _data()
    if path in data["functions"]:
        flags = data["functions"][path]
        return Entry(path, "function", "r" in flags)
    if path in data["constants"]:
        return Entry(path, "constant")
    if path in BUILTINS:
        return Entry(path, "builtin")
    owner, _, name = path.rpartition(".")
    if owner == "torch.Tensor":
        if name in data["methods"]:
            flags = data["methods"][name]
            return Entry(path, "method", "r" in flags)
        if name in data["properties"]:
            return Entry(path, "property")
    return None


def canonical(path: str) -> str:
    """`path` with an alias of the language written out: F.relu is torch.nn.functional.relu."""
    root, dot, rest = path.partition(".")
    return ALIASES.get(root, root) + dot + rest


def entries() -> Iterator[Entry]:
    """Everything that can be called, read or named, sorted by path."""
    data = _data()
    paths = [*data["functions"], *data["constants"], *BUILTINS]
    paths += [f"torch.Tensor.{name}" for name in (*data["methods"], *data["properties"])]
    for path in sorted(paths):
        entry = lookup(path)
        if entry is not None:
            yield entry


def names() -> frozenset[str]:
    """The names of all that can be called or read, without the paths that lead there."""
    data = _data()
    paths = [*data["functions"], *data["constants"], *data["methods"], *data["properties"], *BUILTINS]
    return frozenset([path.rpartition(".")[2] for path in paths])


def search(word: str = "") -> list[Entry]:
    """The entries whose path or description holds `word`, those named like it first."""
    if not word:
        return list(entries())
    wanted = canonical(word).lower()
    named = [entry for entry in entries() if wanted in entry.path.lower()]
    listed = {entry.path for entry in named}
    described = [entry for entry in entries() if entry.path not in listed and wanted in entry.description.lower()]
    return sorted(named, key=lambda entry: (not entry.name.lower().startswith(wanted), entry.path)) + described


def suggest(name: str, extra: Sequence[str] = ()) -> list[str]:
    """The nearest right names for a wrong one, best first, at most three.

    A bare name ("sin", "relu") is looked for in every namespace; a path ("torch.sinn") in its own first; a method
    name is given with a leading dot (".sinn").  `extra` are further right names, such as the inputs'.
    """
    data = _data()
    if name.startswith("."):
        near = difflib.get_close_matches(name[1:], [*data["methods"], *data["properties"], *data["fields"]], 3, 0.7)
        return [f".{match}" for match in near]
    path = canonical(name)
    owner, _, last = path.rpartition(".")
    everywhere = [
        candidate for candidate in (*data["functions"], *data["constants"]) if candidate.rpartition(".")[2] == last
    ]
    exact = sorted(everywhere, key=lambda candidate: (candidate.startswith("math."), candidate.count("."), candidate))
    if owner:
        own = [candidate for candidate in (*data["functions"], *data["constants"]) if candidate.startswith(f"{owner}.")]
        near = difflib.get_close_matches(path, own, 3, 0.85)
    else:
        short = {candidate.rpartition(".")[2]: candidate for candidate in reversed(data["functions"])}
        near = difflib.get_close_matches(last, [*extra, *BUILTINS], 3, 0.6)
        near += [short[match] for match in difflib.get_close_matches(last, list(short), 2, 0.8) if match != last]
    return list(dict.fromkeys([*exact, *near]))[:3]


def why_forbidden(path: str) -> str | None:
    """Why `path` can't be used, in a sentence part ("it reads or writes files"); None where it is unknown or allowed.

    What lies below a forbidden path (`torch.os.system`) is forbidden for its reason.
    """
    path = canonical(path)
    if lookup(path) is not None or path in NAMESPACES:
        return None
    parts = path.split(".")
    if any(part.startswith("_") for part in parts):
        return "names that begin with an underscore are Python's or torch's internals"
    forbidden = _forbidden()
    if path in forbidden:
        return MODULE_REASONS.get(path, forbidden[path])
    if parts[:2] == ["torch", "Tensor"]:
        return MODULE_REASONS["torch.Tensor"] if lookup(f"torch.Tensor.{parts[-1]}") or len(parts) != 3 else None
    for length in reversed(range(2, len(parts))):  # the nearest reason
        prefix = ".".join(parts[:length])
        reason = None if prefix in NAMESPACES else MODULE_REASONS.get(prefix, forbidden.get(prefix))
        if reason:
            return reason
    if path.startswith("torch.nn.") and parts[2][:1].isupper():
        return MODULE_REASONS["torch.nn"]
    return None
