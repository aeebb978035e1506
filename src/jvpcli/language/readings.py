"""What code of the user's own takes out of the graph as it runs: numbers without a gradient, from tensors that have one.

Of an expression the tape tells that; of code that is not read, torch's function mode does.  A call that it doesn't know counts.
What a `torch.autograd.Function` keeps for its backward is seen by nobody: the graph tells where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped
from torch._C._functorch import is_functorch_wrapped_tensor as is_wrapped
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.nn.modules._functions import BackwardHookFunction
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils.hooks import RemovableHandle

from jvpcli.language.operations import HARMLESS
from jvpcli.program import SHAPES

Node = Any
"""torch.autograd.graph.Node."""

FORMS = (torch.Size, torch.dtype, torch.device, torch.layout, RemovableHandle, str, type(None))
"""Results that hold no numbers of a tensor."""


class Readings(TorchFunctionMode):
    """Notes what is taken from tensors with a gradient by the code that runs inside.

    Attributes:
        weighed: a derivative takes numbers without a gradient that were taken so: a mask, an index, a detached factor.
        read: such numbers went to Python, where they may enter anything, and decide what runs.
        made: the `memory` of tensors that the code was given to write to.
        packed: whether what operations kept for the backward pass went through hooks, which run code there: a checkpoint's, say.
    """

    def __init__(self, writing: Callable[[list[Tensor]], None] | None = None) -> None:
        super().__init__()
        self._writing = writing  # hears of tensors before they are written to
        self.weighed = self.read = self.packed = False
        self.made = set[int]()
        self._held: WeakValueDictionary[int, Tensor] | None = None  # what was taken; it keeps nobody's memory

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        if torch.compiler.is_dynamo_compiling():  # which writes down what it reads here, and would keep what this holds
            return func(*args, **kwargs) if kwargs else func(*args)
        writes, is_form = traits(func)
        if self._writing is not None and (writes or (kwargs and ("out" in kwargs or "inplace" in kwargs))):
            written = written_by(name_of(func), args, kwargs or {}) or _statistics(func, args, kwargs or {})
            if written and not self.made.issuperset(map(memory, written)):
                self._writing(written)
        result = func(*args, **kwargs) if kwargs else func(*args)
        if not self.packed:
            self.packed = top_hooks(True) is not None
        if self._held is None and type(result) is Tensor and result.requires_grad and not is_wrapped(result):
            return result  # as nearly every call: nothing is taken, and nothing was taken before
        if is_form and not kwargs and (len(args) == 1 or (len(args) == 2 and type(args[1]) is int)):
            return result
        if isinstance(result, Tensor) and carries(result):  # what there is to note is whether it weighs
            if self._held is not None and not self.weighed and name_of(func).strip("_") not in HARMLESS:
                self.weighed = any(map(self._holds, tensors_in((args, kwargs or {}))))
        elif not self.read:
            self._note(name_of(func), args, kwargs or {}, result)
        return result

    def _note(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        plain = name.strip("_")
        given = list(tensors_in((args[1:] if _takes_form(plain) else args, keywords)))
        held = any(map(self._holds, given))
        if not held and not any(map(carries, given)):
            return
        made = list(tensors_in(result))
        for written in written_by(name, args, keywords):
            self.weighed |= not (carries(written) or self._holds(written))  # whatever else sees its memory holds them, too
        if held and plain not in HARMLESS:
            self.weighed |= any(map(carries, made))
        taken = {id(tensor): tensor for tensor in made if not carries(tensor)}
        if taken:
            self._held = WeakValueDictionary() if self._held is None else self._held
            self._held.update(taken)
        if not made and not isinstance(result, FORMS):
            self.read = self.weighed = True

    def _holds(self, tensor: Tensor) -> bool:
        """Whether it is one of those without a gradient that were taken before."""
        return self._held is not None and id(tensor) in self._held and not carries(tensor)


def watching() -> Readings | None:
    """What notes what the code here takes, if anything does."""
    mode = _get_current_function_mode()
    return mode if isinstance(mode, Readings) else None


top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", bool)
"""The hooks that what operations keep for the backward pass goes through; torch 2.6 and 2.7 can't tell: there might be some."""


def memory(tensor: Tensor) -> int:
    """Names the memory of a tensor while it has it: views of it have the same."""
    try:
        return tensor.untyped_storage()._cdata
    except RuntimeError:  # a sparse tensor, or one that a transform of torch.func has wrapped
        return id(tensor)


def _takes_form(name: str) -> bool:
    """Whether a call takes its first operand's shape or the like, and none of its numbers."""
    return name in SHAPES or (name.startswith("is_") and name != "is_nonzero")


def carries(tensor: Tensor) -> bool:
    """Whether a tensor has a gradient: of one inside of vmap or the like, what it stands for."""
    while is_wrapped(tensor):
        tensor = get_unwrapped(tensor)
    return tensor.requires_grad


WRITERS = frozenset(
    {"data=", "__setitem__", *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and",
     "or", "xor", "lshift", "rshift", "matmul", "div"))}
)  # fmt: skip


@lru_cache(maxsize=1024)
def traits(func: Callable[..., Any]) -> tuple[bool, bool]:
    """Of a function of torch, by its name: whether it can change what it is given by position in place, and `_takes_form`."""
    name = getattr(func, "__name__", "")
    writes = name[-1:] == "_" and (name[-2:] != "__" or name == "__set__" or name in WRITERS)
    return writes or name in NORMALISATIONS or name in EMBEDDINGS, _takes_form(name_of(func).strip("_"))


def written_by(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that a function of torch changes in place, by its name and what it is given."""
    if keywords.get("out") is not None:
        return list(tensors_in(keywords["out"]))
    writes = name in WRITERS or (name.endswith("_") and not name.endswith("__")) or keywords.get("inplace") is True
    return list(tensors_in(args[:1] or keywords)) if writes else []


EMBEDDINGS = frozenset(["embedding", "embedding_bag"])
"""Functions that scale the rows that they take, in the table itself, where they are given a largest norm."""

NORMALISATIONS = frozenset(["batch_norm", "instance_norm", "native_batch_norm"])
"""Functions that write to the running statistics that they are given, where they take those of the batch itself."""


def _statistics(func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    """The running statistics that a normalisation writes to, and the table that an embedding does; none of any other function."""
    name = getattr(func, "__name__", "")
    if name in EMBEDDINGS:
        most = args[3] if len(args) > 3 else keywords.get("max_norm")
        return [] if most is None else list(tensors_in((*args[1:2], keywords.get("weight"))))
    trains = args[5] if len(args) > 5 else keywords.get("training", keywords.get("use_input_stats", name == "instance_norm"))
    if name not in NORMALISATIONS or not trains:
        return []
    first = 1 if func.__module__ == "torch.nn.functional" else 3
    return list(tensors_in((*args[first : first + 2], keywords.get("running_mean"), keywords.get("running_var"))))


def name_of(func: Callable[..., Any]) -> str:
    """A function's name; of a property that is read its name, of one that is set that with `=`."""
    name = getattr(func, "__name__", "")
    if name not in ("__get__", "__set__"):
        return name
    return getattr(getattr(func, "__self__", None), "__name__", name) + ("=" if name == "__set__" else "")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in what a function takes or gives."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)


def custom_functions(outputs: Iterable[Tensor]) -> tuple[type[Function], ...]:
    """The `torch.autograd.Function`s in the graph of some outputs, each once, the last first."""
    return custom_in(nodes_below(y.grad_fn) for y in outputs)


def custom_in(graphs: Iterable[Sequence[Node]]) -> tuple[type[Function], ...]:
    """The `torch.autograd.Function`s in graphs that `nodes_below` has given, each once, the last first.

    That of torch's own which changes nothing, where a module has hooks, is none of them.
    """
    nodes = (node for nodes in graphs for node in reversed(nodes) if isinstance(node, BackwardCFunction))
    found = dict.fromkeys([type(node)._forward_cls for node in nodes])  # type: ignore[attr-defined]
    return tuple(cls for cls in found if cls is not BackwardHookFunction)


def nodes_below(root: Node | None) -> list[Node]:
    """The nodes that a backward pass from one of them may come through, with it and with those of leaves.

    Each is there once, behind those that it hands gradients on to.
    """
    found: dict[Node, None] = {}
    opened, waiting = set[Node](), [] if root is None else [root]
    while waiting:
        node = waiting[-1]
        if node in opened:
            found[waiting.pop()] = None  # where it stands already it stays
        else:
            opened.add(node)
            for edge, _ in node.next_functions:  # few each, of many nodes: a list of them would take as long as all the rest
                if edge is not None and edge not in opened:
                    waiting.append(edge)
    return list(found)
