"""`collections.OrderedDict` as a program has it, in Python's own words.

That of C goes on with what it has freed where the program's own methods change it meanwhile: those by which keys are compared,
and those of what is derived from it.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import MutableMapping
from typing import Any

from torch.utils import _pytree


class OrderedDict(dict[Any, Any]):
    """collections.OrderedDict, which torch takes it for."""

    __module__ = "collections"
    __class__ = property(lambda self: collections.OrderedDict)
    _metadata = property(lambda self: {}, lambda self, given: None)
    """What torch notes down of the modules whose state it is: nothing that a module of now asks for."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.update(*given, **named)

    __getitem__, __setitem__, __delitem__ = dict.__getitem__, dict.__setitem__, dict.__delitem__
    update = MutableMapping.update  # by methods that a class of the program may have of its own
    setdefault = MutableMapping.setdefault

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Takes the last item away, or the first."""
        if not self:
            raise KeyError("dictionary is empty")
        key = next(reversed(self) if last else iter(self))
        return key, dict.pop(self, key)

    def move_to_end(self, key: Any, last: bool = True) -> None:
        """Puts a key behind all others, or before them."""
        value = dict.pop(self, key)
        others: dict[Any, Any] = {} if last else dict(self)
        if others:
            dict.clear(self)
        dict.update(self, {key: value})
        dict.update(self, others)

    def copy(self) -> Any:
        """Another with the same items."""
        return type(self)(self)

    def __eq__(self, other: Any) -> bool:
        same = dict.__eq__(self, other)
        return same if same is not True or not isinstance(other, OrderedDict) else [*self] == [*other]

    def __ne__(self, other: Any) -> bool:
        return not self == other

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return _joined(type(self), self, other)

    def __ror__(self, other: Any) -> Any:
        return _joined(type(self), other, self)

    def __repr__(self) -> str:
        held = dict(self) if sys.version_info >= (3, 12) else [*self.items()]
        return f"{type(self).__name__}({held!r})" if self else f"{type(self).__name__}()"


def _joined(kind: type, first: Any, second: Any) -> Any:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return NotImplemented
    made = kind(first)
    made.update(second)
    return made


def _parts(held: OrderedDict) -> tuple[list[Any], list[Any]]:
    return [*held.values()], [*held]


def _of_parts(values: Any, keys: Any) -> OrderedDict:
    return OrderedDict(zip(keys, values, strict=True))


_pytree.register_pytree_node(OrderedDict, _parts, _of_parts)  # so that torch.func sees the tensors in it


class Saving:
    """`m.state_dict()`, in the program's own words.

    Args:
        module: the module, or what is above a class of it.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def state_dict(self, *given: Any, **named: Any) -> Any:
        """The parameters and buffers by their names."""
        found = self._module.state_dict(*given, **named)
        return OrderedDict(found) if type(found) is collections.OrderedDict else found


