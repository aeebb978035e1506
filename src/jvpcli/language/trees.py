"""What a Python function takes and gives: dicts, lists, tuples, named tuples and dataclasses, one inside the other, whose tensors
have key paths for names: `batch["ids"]`, `params[0]`, `out.logits`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.operations import Record, describe, quoted

Built = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a Python function is called with.

    Attributes:
        given: name to argument: a tensor, or anything that may hold tensors.
        positional: how many of them, the first ones, go by position, the others by name; None: as their names say.
        ignored: key paths of results that are left out, with everything below them.
    """

    given: Mapping[str, Any]
    positional: int | None = None
    ignored: tuple[str, ...] = ()

    def filled(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments with other tensors at their key paths; whatever is no tensor is handed on as it is."""
        return {n: tensors[n] if n in tensors else _filled(value, n, tensors) for n, value in self.given.items()}


def leaves(value: Any, path: str, within: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The parts of a value that hold no others, with their key paths; a value that holds itself is such a part there."""
    opened = None if id(value) in within else parts(value)
    if opened is None:
        yield path, value
        return
    for step, part in opened[0]:
        yield from leaves(part, path + step, (*within, id(value)))


def parts(value: Any) -> tuple[list[tuple[str, Any]], Built] | None:
    """The next parts of a value, each with its step of a path, and how it is built from others; None where it has none."""
    if isinstance(value, (Tensor, torch.Size, type)):
        return None
    if dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value)]
        return [(f".{name}", getattr(value, name, None)) for name in names], lambda new: _with_fields(value, names, new)
    if isinstance(value, Mapping):
        keys = list(value)
        return [(f"[{quoted(key)}]", value[key]) for key in keys], lambda new: _with_items(value, keys, new)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", part) for name, part in zip(value._fields, value, strict=True)], lambda new: type(value)(*new)
    if isinstance(value, (tuple, list)):
        return [(f"[{k}]", part) for k, part in enumerate(value)], type(value)
    return _registered(value)


def _registered(value: Any) -> tuple[list[tuple[str, Any]], Built] | None:
    """The parts of an instance of a class that is registered with `torch.utils._pytree`."""
    from torch.utils import _pytree as pytree  # torch has loaded it

    node = pytree.SUPPORTED_NODES.get(type(value))
    if node is None:
        return None
    children, context = node.flatten_fn(value)
    return [(f"[{k}]", part) for k, part in enumerate(children)], lambda new: node.unflatten_fn(list(new), context)


def recorded(value: Any, usable: Callable[[Any], bool]) -> Any:
    """What a function gave, as an expression goes on with it: a `Record` for what has named parts, a sparse tensor dense.

    Named parts that are not usable are told by the record, and can't be read from it.
    """
    if isinstance(value, Tensor):
        return value if value.layout is torch.strided else value.to_dense()
    opened = parts(value)
    if opened is None:
        return value
    steps, build = opened
    new = [recorded(part, usable) for _, part in steps]
    if isinstance(value, (tuple, list)):
        return value if all(a is b for a, (_, b) in zip(new, steps, strict=True)) else build(new)
    if not (dataclasses.is_dataclass(value) or isinstance(value, Mapping)):
        return value
    kept = [(step, part) for (step, _), part in zip(steps, new, strict=True) if usable(part)]
    others = {step: describe(part) for (step, _), part in zip(steps, new, strict=True) if not usable(part)}
    places = {step: place for place, (step, _) in enumerate(kept)}
    fields = {step[1:]: place for step, place in places.items() if step.startswith(".")}
    keys = {}
    for key in value if isinstance(value, Mapping) else ():
        assert isinstance(value, Mapping)
        place = places.get(f"[{quoted(key)}]", fields.get(key))
        if place is not None:
            keys[key] = place
            if type(value) is not dict and _is_attribute(value, key):
                fields[key] = place
    return Record([part for _, part in kept], type(value).__name__, fields, keys, others)


def _is_attribute(value: Mapping[Any, Any], key: Any) -> bool:
    """Whether an item can be read as an attribute, too."""
    return isinstance(key, str) and key.isidentifier() and getattr(value, key, None) is value[key]


def is_named(value: Any) -> bool:
    """Whether key paths name a function's results: they are in more than tuples and lists."""
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return any(map(is_named, value))
    return parts(value) is not None


def is_below(path: str, name: str) -> bool:
    """Whether a key path is `name`, or leads to a part of what has that name."""
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _filled(value: Any, path: str, tensors: Mapping[str, Tensor], within: tuple[int, ...] = ()) -> Any:
    """The value with other tensors at their key paths; what holds none of them is the same object."""
    if path in tensors:
        return tensors[path]
    opened = None if id(value) in within else parts(value)
    if opened is None:
        return value
    new = [_filled(part, path + step, tensors, (*within, id(value))) for step, part in opened[0]]
    return value if all(a is b for a, (_, b) in zip(new, opened[0], strict=True)) else opened[1](new)


def _with_fields(value: Any, names: Sequence[str], new: Sequence[Any]) -> Any:
    """A copy of a dataclass instance with other fields; what it computes of them when it is made is copied as it is."""
    made = copy.copy(value)
    for name, part in zip(names, new, strict=True):
        if part is not getattr(value, name, None):
            (object.__setattr__ if type(value).__dataclass_params__.frozen else setattr)(made, name, part)
    return made


def _with_items(value: Mapping[Any, Any], keys: Sequence[Any], new: Sequence[Any]) -> Mapping[Any, Any]:
    """A copy of a mapping with other values."""
    items = dict(zip(keys, new, strict=True))
    if not isinstance(value, MutableMapping):
        return items
    made = copy.copy(value)
    made.update(items)
    return made
