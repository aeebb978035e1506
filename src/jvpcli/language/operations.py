"""What one step of a tape does: the functions, methods, attributes and operators behind the `op` of an equation.

Everything is looked up in the catalogue when it is called, by what the object at hand *is*; nothing else resolves.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, lru_cache, partial, reduce
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError
from jvpcli.language import arrays, catalog, guards, refusals
from jvpcli.language.arrays import Array
from jvpcli.program import IMPORTED, Const, Equation, Known, Operand, Ref, parts_of_op


class Record(tuple[Any, ...]):
    """What a function of the user's own gave under names, a dict or a dataclass, as the tuple of its parts.

    An expression reaches those alone, and nothing else of the user's class.

    Attributes:
        kind: the name of the class.
        fields: the places of the parts that are read as `y.name`.
        keys: the places of the parts that are read as `y[key]`.
        others: by the steps of a path what those parts are that an expression can't use.
    """

    kind: str
    fields: Mapping[str, int]
    keys: Mapping[Any, int]
    others: Mapping[str, str]

    def __new__(
        cls, parts: Sequence[Any], kind: str, fields: Mapping[str, int], keys: Mapping[Any, int], others: Mapping[str, str]
    ) -> Record:
        """The parts, in order, and how they are read."""
        made = super().__new__(cls, parts)
        made.kind, made.fields, made.keys, made.others = kind, fields, keys, others
        return made

    def _make(self, parts: Sequence[Any]) -> Record:
        """A record with other parts under the same names, as a named tuple makes one."""
        return Record(parts, self.kind, self.fields, self.keys, self.others)

    def field(self, name: str) -> Any:
        """The part that is read as `y.name`."""
        return tuple.__getitem__(self, self.fields[name])

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, (str, int)) or key not in self.keys:
            raise EvaluationError(f"There is no item {key!r} in {describe(self)}.")
        return tuple.__getitem__(self, self.keys[key])

    @property
    def steps(self) -> list[tuple[str, str, Any]]:
        """How each part is read: the text behind the record's name, the operation, and the key of an item."""
        names = {place: (f".{name}", f"attr:{name}", None) for name, place in self.fields.items()}
        items = {place: (f"[{quoted(key)}]", "op:getitem", key) for key, place in self.keys.items()}
        return [names.get(place) or items[place] for place in range(len(self))]


def quoted(key: Any) -> str:
    """The key of an item as it stands in brackets."""
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key)


Arguments = Sequence[Any]
Keywords = Mapping[str, Any]


def apply_operation(
    op: str,
    arguments: Arguments,
    keywords: Keywords | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Do what one equation of a tape does, on any values; `functions` are the imported ones by name.

    An in-place operation changes its first argument, as in torch; pass a clone to keep it.  A gradient that is asked for
    in a sparse layout is made dense: its numbers are the same, and every way to it can go on from there.

    Raises:
        ForbiddenError: the object at hand has no such member that may be used.
        EvaluationError, LimitError: torch would trust the arguments and must not (`guards`).
        Whatever torch raises.
    """
    kind, target, _ = parts_of_op(op)
    if kind == "numpy":
        return arrays.apply(target, arguments, keywords or {})
    if kind == "random":
        return _restart(target, arguments, keywords or {}, functions or {})
    if functions and kind != "attr" and op != "op:getitem":
        for record in [value for value in arguments if isinstance(value, Record)]:
            raise EvaluationError(f"This is {describe(record)}: use one of those.")
    if is_imported(op):
        return (functions or {})[target.removeprefix(IMPORTED)](*arguments, **(keywords or {}))
    return operation(op)(arguments, keywords or {})


@lru_cache(maxsize=4096)
def operation(op: str) -> Done:
    """What an equation of a tape does whose function is in the catalogue, as `apply_operation`: its names are looked up once."""
    kind, _, target = op.partition(":")
    done = _OPERATIONS[kind](target)
    asks = guards.asks(op)
    if not asks and kind not in ("call", "method"):
        return done

    def guarded(arguments: Arguments, keywords: Keywords) -> Any:
        if not {*map(type, arguments), *map(type, keywords.values())} <= NO_ARRAYS:
            arguments, keywords = as_numbers(op, arguments, keywords)
        if asks:
            guards.check_arguments(op, arguments, keywords)
        if op in _SPARSE_GRADIENTS:
            arguments, keywords = _with_dense_gradient(op, arguments, keywords)
        return done(arguments, keywords)

    return guarded


def as_numbers(op: str, arguments: Arguments, keywords: Keywords) -> tuple[Arguments, Keywords]:
    """The arguments with Python's numbers in the place of numpy's, where torch is to take them."""
    kind, target, _ = parts_of_op(op)
    if kind not in ("call", "method") or target in COPYING or (arguments and isinstance(arguments[0], Array)):
        return arguments, keywords
    return [*map(arrays.number, arguments)], {name: arrays.number(value) for name, value in keywords.items()}


NO_ARRAYS = frozenset({Tensor, int, float, bool, complex, str, type(None), torch.dtype})
"""Types of arguments that are no arrays, nor hold any."""

COPYING = frozenset({"torch.tensor", "torch.as_tensor", "torch.asarray"})
"""Functions that make tensors of arrays."""

_SPARSE_GRADIENTS: Mapping[str, tuple[str, int | None]] = {
    "call:torch.gather": ("sparse_grad", None),
    "method:gather": ("sparse_grad", None),
    "call:torch.embedding": ("sparse", 4),
    "call:torch.embedding_bag": ("sparse", 5),
    "call:torch.nn.functional.embedding": ("sparse", 6),
    "call:torch.nn.functional.embedding_bag": ("sparse", 7),
}
"""Those that can give their gradient in a sparse layout: the name and position of the flag that asks for it."""


def _with_dense_gradient(op: str, arguments: Arguments, keywords: Keywords) -> tuple[Arguments, Keywords]:
    """The arguments with the flag for a sparse gradient off."""
    name, position = _SPARSE_GRADIENTS[op]
    if keywords.get(name) is True:
        keywords = {**keywords, name: False}
    if position is not None and len(arguments) > position and arguments[position] is True:
        arguments = [*arguments[:position], False, *arguments[position + 1 :]]
    return arguments, keywords


def is_imported(op: str) -> bool:
    """Whether an operation is a function of the user's own file."""
    return op.startswith(CALL_OF_IMPORTED)


CALL_OF_IMPORTED = f"call:{IMPORTED}"


@lru_cache(maxsize=4096)
def is_in_place(op: str) -> bool:
    """Whether an operation changes its first argument and gives it back."""
    return op in catalog.WRITING or (op.endswith("_") and op.startswith(("method:", "call:")) and not is_imported(op))


ROUNDINGS = frozenset(
    {"round", "round_", "floor", "floor_", "ceil", "ceil_", "trunc", "trunc_", "fix", "fix_", "floor_divide",
     "__floordiv__", "__rfloordiv__", "floor_divide_", "__ifloordiv__"}
)  # fmt: skip
"""Staircases that stand for a quantity: their derivative is zero, but their value follows the input's."""

HARMLESS = frozenset({"add", "iadd", "sub", "isub", "rsub"})
"""Operations, with or without underscores, whose derivative does not depend on the values of operands without a gradient."""

CASTS = frozenset(
    {"to", "type", "type_as", "long", "int", "short", "char", "byte", "__int__", "__index__", "item", "tolist"}
)
"""What gives whole numbers that stand for a quantity."""


Done = Callable[[Arguments, Keywords], Any]
"""What an operation does, given its arguments."""


NOTHING = nullcontext()


def running(step: Equation) -> AbstractContextManager[Any]:
    """What a step runs inside of: no graph where none was recorded, and the autocast that it was noted down under."""
    if step.recorded and not step.casts and _is_torchs_own(step.op):
        return NOTHING
    grad = torch.set_grad_enabled(step.recorded and torch.is_grad_enabled())
    if not step.casts:
        return grad
    stack = ExitStack()
    stack.enter_context(grad)
    for kind, dtype in step.casts:
        stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
    return stack


@lru_cache(maxsize=4096)
def _is_torchs_own(op: str) -> bool:
    """Whether an operation runs nothing of the user's own, which may set what is recorded."""
    return parts_of_op(op)[0] in ("op", "call", "method") and not is_imported(op)


def _call(path: str) -> Done:
    function = function_at(path)
    if path in COPYING:
        return lambda arguments, keywords: function(*map(arrays.plain_array, arguments), **keywords)
    return lambda arguments, keywords: function(*arguments, **keywords)


def _builtin(name: str) -> Done:
    function = _BUILTINS[name]
    return lambda arguments, keywords: function(*arguments, **keywords)


def _method(name: str) -> Done:
    of_tensors = catalog.is_method(name)

    def done(arguments: Arguments, keywords: Keywords) -> Any:
        owner, *rest = arguments
        if not (of_tensors if isinstance(owner, Tensor) else name in _methods_of(owner)):
            raise ForbiddenError(f"`.{name}` can't be used on {describe(owner)}.")
        return getattr(owner, name)(*rest, **keywords)

    return done


def _attribute(name: str) -> Done:
    def done(arguments: Arguments, keywords: Keywords) -> Any:
        (owner,) = arguments
        if name not in readable(owner):
            if isinstance(owner, Tensor) and not catalog.is_attribute(name):
                raise refusals.member(name, called=False)
            raise ForbiddenError(f"`.{name}` can't be read from {describe(owner)}.")
        return owner.field(name) if isinstance(owner, Record) else getattr(owner, name)

    return done


def _operator(name: str) -> Done:
    if name == "setitem":
        return _set_item
    function, keyed, on_text = _IDENTITY.get(name) or getattr(operator, name), name == "getitem", name in _ON_TEXT

    def done(arguments: Arguments, keywords: Keywords) -> Any:
        if not on_text:
            for argument in arguments:
                if isinstance(argument, str) and not (keyed and isinstance(arguments[0], Record)):
                    raise ForbiddenError("Operators don't apply to text; it can only be an argument.")
        return function(arguments[0], arrays.plain_array(arguments[1])) if keyed else function(*arguments)

    return done


def _set_item(arguments: Arguments, keywords: Keywords) -> Any:
    target, key, value = arguments
    if not isinstance(target, (Tensor, Array)):
        raise ForbiddenError(f"Items of {describe(target)} can't be assigned.")
    target[arrays.plain_array(key)] = value if isinstance(target, Array) else arrays.plain_array(value)
    return target


def _is_same(x: Any, y: Any) -> bool:
    """`x is y`; a module or a function that the program names twice is the same one."""
    return x == y if isinstance(x, Known) and isinstance(y, Known) else x is y


_IDENTITY: Mapping[str, Callable[..., bool]] = {"is_": _is_same, "is_not": lambda x, y: not _is_same(x, y)}
_ON_TEXT = ("eq", "ne", "is_", "is_not", "not_", "contains")


def _unpack(count: str) -> Done:
    return lambda arguments, keywords: arguments[0][keywords["index"]]


_BUILTINS: Mapping[str, Callable[..., Any]] = {
    "abs": abs, "bool": bool, "float": float, "int": int, "len": len, "max": max, "min": min, "range": range,
    "round": round, "slice": slice, "sum": sum,
    "list": list, "tuple": tuple, "reversed": lambda items: list(reversed(items)),
    "zip": lambda *columns: list(zip(*columns, strict=False)),
    "enumerate": lambda items, start=0: list(enumerate(items, start)),
}  # fmt: skip

def _restart(name: str, arguments: Arguments, keywords: Keywords, functions: Mapping[str, Any]) -> None:
    """`torch.manual_seed(n)`, of the evaluation's own stream; or what the construction of a module has left of it."""
    if name == "construct":
        functions[keywords["module"]].leave()
        return
    (seed,) = arguments
    if type(seed) is not int or not -(2**63) <= seed < 2**64:
        raise EvaluationError("A seed is a whole number from -2**63 to 2**64 - 1.")
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def _derivative(name: str) -> Done:
    return lambda arguments, keywords: keywords["by"].at(arguments)


_OPERATIONS: Mapping[str, Callable[[str], Done]] = {
    "call": _call,
    "builtin": _builtin,
    "method": _method,
    "attr": _attribute,
    "op": _operator,
    "unpack": _unpack,
    "derive": _derivative,
}

LOOKED_UP = frozenset(_OPERATIONS)
"""Kinds of equations whose function `operation` has: NumPy's are not among them, nor what random numbers start again from."""


@cache
def function_at(path: str) -> Callable[..., Any]:
    """The function at a path of the catalogue; nothing else can be reached."""
    if not catalog.is_function(path):
        raise ForbiddenError(f"`{path}` can't be called.")
    function: Callable[..., Any] = _resolve(path)
    return function


def read_operand(
    operand: Operand, values: Mapping[int, Any], packing: Callable[[Sequence[Any]], None] | None = None
) -> Any:
    """What an operand of a tape stands for: what its slot holds in `values`, a constant, or a list, tuple or slice of such.

    `packing` is told the items of each list, tuple and slice before it is made.
    """
    if isinstance(operand, Ref):
        return values[operand.slot]
    if isinstance(operand, Const):
        return operand.value if operand.path is None else named_constant(operand.path)
    items = [read_operand(item, values, packing) for item in operand.items]
    if packing is not None:
        packing(items)
    if operand.kind == "slice":
        return slice(*items)
    return items if operand.kind == "list" else tuple(items)


def carried_out(
    step: Equation, values: Mapping[int, Any], functions: Mapping[str, Callable[..., Any]] | None = None
) -> Any:
    """What one equation of a tape gives, whose operands stand in `values` by their slots; as `apply_operation`."""
    arguments = [read_operand(operand, values) for operand in step.operands]
    keywords = {name: read_operand(operand, values) for name, operand in step.keywords}
    with running(step):
        return apply_operation(step.op, arguments, keywords, functions)


def reader(operand: Operand) -> Callable[[Mapping[int, Any]], Any]:
    """`read_operand` of one operand, as a function of the values: what is read again and again is looked at once."""
    if isinstance(operand, Ref):
        return operator.itemgetter(operand.slot)
    if isinstance(operand, Const):
        value = read_operand(operand, {})
        return lambda values: value
    return partial(read_operand, operand)


@cache
def named_constant(path: str) -> Any:
    """The constant at a path of the catalogue; nothing else can be reached."""
    if not catalog.is_constant(path):
        raise ForbiddenError(f"`{path}` can't be used.")
    return _resolve(path)


def _resolve(path: str) -> Any:
    root, *rest = path.split(".")
    try:
        return reduce(getattr, rest, {"torch": torch, "math": math}[root])
    except AttributeError:
        raise EvaluationError(f"This torch ({torch.__version__}) has no {path}.") from None


# Objects: what may be read from them, and which may come out of a step


def readable(owner: Any) -> Collection[str]:
    """What may be read from an object, by what it is."""
    if isinstance(owner, Tensor):
        return _PROPERTIES
    if isinstance(owner, Record):
        return owner.fields
    if isinstance(owner, Array):
        return catalog.ARRAY_FIELDS
    if isinstance(owner, tuple) and hasattr(owner, "_fields"):
        return tuple(owner._fields)
    if type(owner).__module__ == "torch.return_types":
        return [name for name in vars(type(owner)) if catalog.is_field(name)]
    return next((catalog.object_fields(fields) for kinds, fields in _OBJECTS if isinstance(owner, kinds)), ())


def _methods_of(owner: Any) -> Collection[str]:
    if isinstance(owner, Array):
        return catalog.ARRAY_METHODS
    return ("numel",) if isinstance(owner, torch.Size) else ()


_PROPERTIES = frozenset(name for name in dir(torch.Tensor) if catalog.is_property(name))

_OBJECTS: tuple[tuple[Any, str], ...] = (
    (torch.finfo, "finfo"),
    (torch.iinfo, "iinfo"),
    (torch.dtype, "dtype"),
    ((int, float, complex), "number"),
)

_PLAIN = (int, float, complex, str, type(None), type(...), slice, range, torch.Size, torch.dtype, torch.device,
          torch.memory_format, torch.layout, torch.finfo, torch.iinfo, Array)  # fmt: skip


def is_plain(value: Any) -> bool:
    """Whether a value holds no tensor."""
    return isinstance(value, _PLAIN) or (isinstance(value, (tuple, list)) and all(map(is_plain, value)))


def without_numbers(name: str) -> EvaluationError:
    """What is wrong with a function of the user's own that gives a tensor on torch's meta device."""
    return EvaluationError(
        f"{name} returns a tensor on the device meta, which has a shape and no numbers: nothing can be differentiated there.",
        hints=["Make the module, and its tensors, on the CPU."],
    )


def check_result(value: Any, op: str, devices: Collection[str] = ()) -> None:
    """Nothing but dense tensors, plain values and tuples of them comes out of a step.

    `devices` are those of the inputs: shapes alone (meta) come out only where shapes alone went in.
    """
    if isinstance(value, Tensor):
        numbers = value.device.type != "meta" or "meta" in devices
        if value.layout is not torch.strided or not numbers or value.is_quantized:
            raise ForbiddenError("Only dense tensors on a real device can be used.")
        if min(value.shape, default=0) < 0:  # a size that overflowed inside torch
            raise EvaluationError(f"`{op.partition(':')[2]}` gave a tensor of the shape {tuple(value.shape)}, which there isn't.")
    elif isinstance(value, (tuple, list)):
        for item in value:
            check_result(item, op, devices)
    elif not isinstance(value, _PLAIN):
        raise ForbiddenError(f"`{op.partition(':')[2]}` gave {describe(value)}, which an expression can't use.")


def is_usable(value: Any) -> bool:
    """Whether an expression can go on with a value."""
    try:
        check_result(value, "")
    except ForbiddenError:
        return False
    return True


def sentence(words: str) -> str:
    """Words with which a sentence begins; names in them stay as they are."""
    return words[:1].upper() + words[1:]


def can_require_grad(x: Tensor) -> bool:
    """Whether torch can have a gradient with respect to a tensor: its numbers are floating or complex."""
    return x.is_floating_point() or x.is_complex()


def is_scalar(value: Any) -> bool:
    """Whether a value has no items to go through."""
    if isinstance(value, (Tensor, Array)):
        return value.ndim == 0
    return isinstance(value, Record) or not isinstance(value, (tuple, list, range))


def describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float, complex)):
        return "a plain number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Array):
        return f"a numpy array of shape {value.shape}"
    if type(value).__module__ == "torch.return_types":
        return f"the result of {type(value).__name__}, which has {', '.join(readable(value))}"
    if isinstance(value, Record):
        return f"the {value.kind}, which has {', '.join(text for text, *_ in value.steps) or 'no parts'}"
    described: str = getattr(type(value), "DESCRIBED", f"a {type(value).__name__}")
    return "a function" if isinstance(value, Known) else described
