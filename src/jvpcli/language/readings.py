"""What code of the user's own takes out of the graph as it runs: numbers without a gradient, from tensors that have one.

Of an expression the tape tells that; of code that is not read, torch's function mode does.  A call that it doesn't know counts.
What a `torch.autograd.Function` keeps for its backward is seen by nobody: the graph tells where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from jvpcli.language.operations import HARMLESS
from jvpcli.program import SHAPES

FORMS = (torch.Size, torch.dtype, torch.device, torch.layout, RemovableHandle, str, type(None))
"""Results that hold no numbers of a tensor."""


class Readings(TorchFunctionMode):
    """Notes what is taken from tensors with a gradient by the code that runs inside.

    Attributes:
        weighed: a derivative takes numbers without a gradient that were taken so: a mask, an index, a detached factor.
        read: such numbers went to Python, where they may enter anything, and decide what runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weighed = self.read = False
        self._held: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        result = func(*args, **(kwargs or {}))
        if not self.read:
            self._note(_name(func), args, kwargs or {}, result)
        return result

    def _note(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        plain = name.strip("_")
        given = list(_tensors((args[1:] if plain in SHAPES else args, keywords)))
        held = any(id(tensor) in self._held and not tensor.requires_grad for tensor in given)
        if not held and not any(tensor.requires_grad for tensor in given):
            return
        made = list(_tensors(result))
        written = _written(name, args)
        if written is not None and not written.requires_grad:
            self.weighed |= id(written) not in self._held  # whatever else sees its memory holds them, too
        if held and plain not in HARMLESS:
            self.weighed |= any(tensor.requires_grad for tensor in made)
        self._held |= {id(tensor): tensor for tensor in made if not tensor.requires_grad}
        if not made and not isinstance(result, FORMS):
            self.read = self.weighed = True


def _written(name: str, args: tuple[Any, ...]) -> Tensor | None:
    """The tensor that a call changes in place; None: none."""
    changes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    return args[0] if changes and args and isinstance(args[0], Tensor) else None


def _name(func: Callable[..., Any]) -> str:
    """A function's name; that of the property for a property's getter."""
    name = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name == "__get__" else name


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def custom_functions(outputs: Iterable[Tensor]) -> tuple[type[Function], ...]:
    """The `torch.autograd.Function`s in the graph of some outputs, each once, the last first."""
    waiting: list[Any] = [y.grad_fn for y in outputs if y.grad_fn is not None]
    return tuple(dict.fromkeys(_custom(waiting)))


def _custom(waiting: list[Any]) -> Iterator[type[Function]]:
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            yield type(node)._forward_cls  # type: ignore[attr-defined]
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
