"""What a step's result will take, from its operands' shapes alone: refused before it is allocated.

A rule gives the number of elements of the result (or fewer, where that isn't known cheaply); a function without a rule
is let through, and torch or the operating system says no.  Sources: the shapes that torch's documentation states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, zip_longest
from operator import mul
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import LimitError
from jvpcli.language import catalog, limits
from jvpcli.program import parts_of_op
from jvpcli.system.memory import free_memory

SMALL = 1 << 26
"""Bytes below which nothing is asked, until as much is held."""


def check_memory(
    op: str, arguments: Sequence[Any], keywords: Mapping[str, Any], held: int, memory_limit: int | None
) -> None:
    """Refuse a step whose result, with the `held` bytes of the values before it, goes beyond the limit.

    Without a limit three quarters of the free memory are allowed.

    Raises:
        LimitError: naming what would be needed.
    """
    elements, width = result_size(op, arguments, keywords)
    needed = elements * width
    if needed > SMALL or (held > SMALL and needed > SMALL // 64):
        _refuse_beyond(op, elements, width, held, memory_limit)


def check_result(op: str, value: Tensor, held: int, memory_limit: int | None) -> None:
    """Refuse a result that nothing forecast, with the `held` bytes of the values before it.

    A view counts as if it were written out (`x.expand(10**12)`): it takes no memory itself, but whatever comes after it
    goes through all its elements.
    """
    elements = places(value.shape)  # torch's own count, and its bytes, overflow
    if elements * value.element_size() > SMALL or (held > SMALL and memory_limit is not None):
        _refuse_beyond(op, elements, value.element_size(), held, memory_limit)


def places(shape: Sequence[int]) -> int:
    """Elements of a tensor, or where an axis is empty the rows that are written out before it.

    A shape of (10**9, 0) has no elements, and yet printing it or going through it meets 10**9 rows.
    """
    return max(accumulate(shape, mul, initial=1)) if 0 in shape else math.prod(shape)


def _refuse_beyond(op: str, elements: int, width: int, held: int, memory_limit: int | None) -> None:
    if memory_limit is None:
        held, memory_limit = 0, free_memory() * 3 // 4
    if not memory_limit or elements * width + held <= memory_limit:
        return
    name = op.partition(":")[2].removeprefix("torch.")
    taken = f", of which {in_words(held)} are taken" if held > memory_limit // 100 else ""
    count = f"{elements:,}" if elements < 10**18 else f"about 10^{int(elements.bit_length() * 0.30103)}"
    raise LimitError(
        f"`{name}` would need {in_words(elements * width)} for its {count} elements; "
        f"the limit is {in_words(memory_limit)}{taken}."
    )


def result_size(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[int, int]:
    """Elements of a step's result and bytes of each; (0, 0) where that isn't known."""
    rule = _rule(op)
    if rule is None or (rule in _BOUNDED and _is_small((*arguments, *keywords.values()))):
        return 0, 0
    try:
        given = _Given(*_placed(op, rule, arguments, keywords))
        return int(rule(given)), given.width(op)
    except Exception:  # wrong arguments: torch itself says so better
        return 0, 0


def _placed(
    op: str, rule: Callable[[_Given], int], arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments with those in their places that were given by name; a rule reads places."""
    if keywords.keys() <= NOT_OF_SIZE or (arguments and rule in (_broadcast, _first, _sum, _product)):
        return arguments, keywords
    from jvpcli.language.guards.binding import bind  # few calls give sizes by name

    found = bind(op, arguments, keywords)
    if found is None:
        return arguments, keywords
    signature, bound = found
    placed = [bound.get(p.name, p.default) for p in signature if p.positional]
    return placed, {p.name: bound[p.name] for p in signature if not p.positional and p.name in bound}


NOT_OF_SIZE = frozenset({"dtype", "device"})
"""Keywords that no number of elements depends on."""


def in_words(count: int) -> str:
    """Bytes as people say them."""
    if count >= 10**24:
        return "more than 1,000,000 EB"
    for unit, size in (("EB", 10**18), ("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            whole = count // (size // 10)
            return f"{whole // 10:,}.{whole % 10} {unit}"
    return f"{count:,} bytes"


@dataclass(frozen=True, slots=True)
class _Given:
    """The arguments of a step, by position or name."""

    arguments: Sequence[Any]
    keywords: Mapping[str, Any]

    def get(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument."""
        return self.arguments[position] if position < len(self.arguments) else self.keywords.get(name, default)

    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in lists too."""
        return [value for value in flat((*self.arguments, *self.keywords.values())) if isinstance(value, Tensor)]

    def count(self, start: int, name: str = "size") -> int:
        """The product of sizes given as numbers from a position on, as one tuple, or by name."""
        first = self.get(start, name, ())
        if isinstance(first, int):
            first = [value for value in self.arguments[start:] if isinstance(value, int)]
        return math.prod(first)

    def width(self, op: str) -> int:
        """Bytes of one element of the result."""
        dtype = self.keywords.get("dtype")
        if isinstance(dtype, torch.dtype):
            return dtype.itemsize
        tensors = self.tensors()
        if not tensors:
            return torch.get_default_dtype().itemsize
        if op.partition(":")[2] in _BOOLEAN:
            return 1
        numbers = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
        return max(tensor.element_size() for tensor in numbers or tensors)  # an index doesn't widen the result


_BOOLEAN = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "logical_not"})


def flat(values: Sequence[Any]) -> list[Any]:
    """Values with the items of lists and tuples in their places, one inside the other."""
    return [item for value in values for item in (flat(value) if isinstance(value, (list, tuple)) else (value,))]


def _broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that these broadcast to (torch's own function loads a symbolic algebra system)."""
    axes = zip_longest(*(reversed(tuple(shape)) for shape in shapes), fillvalue=1)
    sizes = [{size for size in axis if size != 1} or {1} for axis in axes]
    if any(len(axis) > 1 for axis in sizes):
        raise ValueError("the shapes don't broadcast")
    return tuple(axis.pop() for axis in reversed(sizes))


def _broadcast(given: _Given) -> int:
    tensors = given.tensors()
    if len(tensors) == 1:
        return tensors[0].numel()
    return math.prod(_broadcast_shapes(*(tensor.shape for tensor in tensors)))


def _is_small(values: Iterable[Any]) -> bool:
    """Whether tensors are so small that nothing that is bounded by them is large: asked first, as it is almost always so."""
    bound = 1
    for value in values:
        if isinstance(value, Tensor):
            elements = value.numel()
            bound *= elements + 1 if elements else SMALL  # what is made of none may be large: (n, 0) @ (0, n)
        elif isinstance(value, (list, tuple)):
            if len(value) > FEW:
                return False
            for item in value:
                if isinstance(item, Tensor):
                    bound *= item.numel() + 1
                elif isinstance(item, (list, tuple)):
                    return False
    return bound < SMALL // 64


FEW = 16
"""A list of more is looked at as a whole."""


def _first(given: _Given) -> int:
    return int(given.arguments[0].numel())


def _sum(given: _Given) -> int:
    return sum(tensor.numel() for tensor in given.tensors())


def _product(given: _Given) -> int:
    return math.prod(tensor.numel() for tensor in given.tensors())


def _matmul(given: _Given) -> int:
    left, right = (tuple(tensor.shape) for tensor in given.tensors()[-2:])
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    batch = _broadcast_shapes(left[:-2], right[:-2])
    return math.prod((*batch, *rows, *columns))


def _linear(given: _Given) -> int:
    weight = given.get(1, "weight")
    return given.arguments[0].numel() // max(weight.shape[-1], 1) * weight.shape[0]


def _einsum(given: _Given) -> int:
    equation, *tensors = flat(given.arguments)
    terms, arrow, output = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, tensor in zip(terms.split(","), tensors, strict=True):
        sizes.update(zip(letters, tensor.shape, strict=True))
    if not arrow:
        output = "".join(letter for letter in sizes if terms.count(letter) == 1)
    return math.prod(sizes[letter] for letter in output)


def _tensordot(given: _Given) -> int:
    left, right, dims = given.arguments[0], given.arguments[1], given.get(2, "dims", 2)
    axes = range(left.ndim - dims, left.ndim) if isinstance(dims, int) else dims[0]
    shared = math.prod(left.shape[axis] for axis in axes)
    return int(left.numel() // max(shared, 1) * (right.numel() // max(shared, 1)))


def _arange(given: _Given) -> int:
    bounds = [value for value in given.arguments if isinstance(value, (int, float))]
    start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1) if len(bounds) == 2 else bounds
    return int(abs((end - start) // step))


def _last_sizes(given: _Given) -> int:
    sizes = given.keywords.get("size") or next(v for v in reversed(given.arguments) if isinstance(v, (list, tuple)))
    return math.prod(sizes)


def _repeat_interleave(given: _Given) -> int:
    tensor, repeats, dim = given.arguments[0], given.get(1, "repeats"), given.get(2, "dim")
    if isinstance(repeats, Tensor):
        rest = tensor.numel() // max(tensor.shape[dim] if dim is not None else tensor.numel(), 1)
        return int(repeats.sum()) * rest
    return int(tensor.numel() * repeats)


def _pad(given: _Given) -> int:
    shape, pad = list(given.arguments[0].shape), given.get(1, "pad")
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        shape[-axis] += before + after
    return math.prod(max(size, 0) for size in shape)


def _diagonal_matrix(given: _Given) -> int:
    tensor, offset = given.arguments[0], given.get(1, "diagonal", 0)
    size: int = tensor.shape[0] + abs(offset)
    return size * size if tensor.ndim == 1 else 0


def _diag_embed(given: _Given) -> int:
    tensor, offset = given.arguments[0], given.get(1, "offset", 0)
    size: int = tensor.shape[-1] + abs(offset)
    return math.prod(tensor.shape[:-1]) * size * size


def _block_diagonal(given: _Given) -> int:
    shapes = [torch.atleast_2d(tensor).shape for tensor in given.tensors()]
    return sum(shape[0] for shape in shapes) * sum(shape[1] for shape in shapes)


def _cdist(given: _Given) -> int:
    left, right = given.arguments[0].shape, given.arguments[1].shape
    return math.prod((*_broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-2]))


def _gather_rows(given: _Given, index: int, axis: int) -> int:
    shape, positions = given.arguments[0].shape, given.arguments[index]
    return positions.numel() * math.prod(shape) // max(shape[axis], 1)


def _subscript(given: _Given) -> int:
    owner, key = given.arguments
    if not isinstance(owner, Tensor) or not isinstance(key, Tensor) or key.dtype in (torch.bool, torch.uint8):
        return 0
    return _gather_rows(given, 1, 0)


def _interpolate(given: _Given) -> int:
    tensor, size, factor = given.arguments[0], given.get(1, "size"), given.get(2, "scale_factor")
    axes = tensor.ndim - 2
    outer = tensor.shape[0] * tensor.shape[1]
    if size is not None:
        return outer * (size**axes if isinstance(size, int) else math.prod(size))
    factors = factor if isinstance(factor, (list, tuple)) else [factor] * axes
    return outer * math.prod(int(n * f) for n, f in zip(tensor.shape[2:], factors, strict=True))


def _transform(given: _Given) -> int:
    tensor, length, dim = given.arguments[0], given.get(1, "n"), given.get(2, "dim", -1)
    return int(tensor.numel() if length is None else tensor.numel() // max(tensor.shape[dim], 1) * length // 2)


def _named(names: str, rule: Callable[[_Given], int]) -> dict[str, Callable[[_Given], int]]:
    return dict.fromkeys(names.split(), rule)


_RULES: Mapping[str, Callable[[_Given], int]] = {
    **_named("zeros ones rand randn", lambda given: given.count(0)),
    **_named("new_zeros new_ones new_full", lambda given: given.count(1)),
    **_named("full", lambda given: math.prod(given.get(0, "size"))),
    **_named("randint normal", _last_sizes),
    **_named("eye", lambda given: given.get(0, "n") * (given.get(1, "m") or given.get(0, "n"))),
    **_named("arange range", _arange),
    **_named("linspace logspace", lambda given: given.get(2, "steps")),
    **_named("multinomial", lambda given: _first(given) // given.arguments[0].shape[-1] * given.get(1, "num_samples")),
    **_named("randperm", lambda given: given.get(0, "n")),
    **_named(
        "hann_window hamming_window blackman_window bartlett_window kaiser_window",
        lambda given: given.get(0, "window_length"),
    ),
    **_named("fftfreq rfftfreq", lambda given: given.get(0, "n") // 2),
    **_named("tril_indices triu_indices", lambda given: given.get(0, "row") * given.get(1, "col")),
    **_named("vander", lambda given: given.arguments[0].numel() * (given.get(1, "N") or given.arguments[0].numel())),
    **_named("repeat", lambda given: _first(given) * given.count(1, "repeats")),
    **_named("tile", lambda given: _first(given) * given.count(1, "dims")),
    **_named("repeat_interleave", _repeat_interleave),
    **_named("expand_copy", lambda given: given.count(1)),
    **_named("one_hot", lambda given: _first(given) * max(given.get(1, "num_classes", 1), 1)),
    **_named("pad constant_pad_nd", _pad),
    **_named("diag", _diagonal_matrix),
    **_named("diagflat", lambda given: (_first(given) + abs(given.get(1, "offset", 0))) ** 2),
    **_named("diag_embed", _diag_embed),
    **_named("block_diag", _block_diagonal),
    **_named("kron outer ger", _product),
    **_named("cartesian_prod", lambda given: _product(given) * len(given.tensors())),
    **_named("combinations", lambda given: _first(given) ** min(given.get(1, "r", 2), 32)),
    **_named("cdist", _cdist),
    **_named("cov corrcoef", lambda given: given.arguments[0].shape[0] ** 2 if given.arguments[0].ndim > 1 else 1),
    **_named("matmul mm bmm", _matmul),
    **_named("linear", _linear),
    **_named("einsum", _einsum),
    **_named("tensordot", _tensordot),
    **_named("interpolate upsample", _interpolate),
    **_named("fft ifft rfft irfft hfft ihfft", _transform),
    **_named("bincount", lambda given: given.get(2, "minlength", 0)),
    **_named("histc", lambda given: given.get(1, "bins", 100)),
    **_named("nonzero_static", lambda given: given.get(1, "size")),
    **_named("mvlgamma multigammaln", lambda given: _first(given) * given.get(1, "p")),
    **_named("cat concat concatenate stack hstack vstack dstack row_stack column_stack broadcast_tensors_copy", _sum),
    **_named("index_select", lambda given: _gather_rows(given, 2, given.arguments[1])),
    **_named("embedding", lambda given: given.arguments[0].numel() * given.arguments[1].shape[-1]),
    **_named("take", lambda given: given.arguments[1].numel()),
    **_named("gather", lambda given: given.get(2, "index").numel()),
    **_named("getitem", _subscript),
    **_named(
        "contiguous flatten ravel reshape tril triu cumsum cumprod logcumsumexp softmax log_softmax softmin roll flip"
        " sort argsort msort normalize layer_norm rms_norm batch_norm dropout to float double half bfloat16 int long"
        " zeros_like ones_like full_like rand_like randn_like masked_fill scatter scatter_add index_add index_copy",
        _first,
    ),
}
"""Function or method name to the rule for its result's number of elements."""

_BOUNDED = frozenset({_broadcast, _first, _sum, _product, _matmul, _linear, _subscript})
"""Rules that give no more than the product of the numbers of elements, each one more than there are."""

_PARTS: Mapping[str, Callable[[_Given], int]] = {
    **_named("unbind", lambda given: given.arguments[0].shape[given.get(1, "dim", 0)]),
    **_named(
        "split",
        lambda given: given.arguments[0].shape[given.get(2, "dim", 0)] // max(given.get(1, "split_size"), 1),
    ),
    **_named(
        "chunk",
        lambda given: min(given.get(1, "chunks", 0), 1 + given.arguments[0].shape[given.get(2, "dim", 0)]),
    ),
    **_named("tensor_split", lambda given: int(given.get(1, "indices_or_sections", given.keywords.get("sections")))),
    **_named("hsplit vsplit dsplit", lambda given: given.get(1, "sections")),
    **_named("combinations", lambda given: given.get(1, "r", 2)),
    **_named("tolist", lambda given: places(given.arguments[0].shape)),
}
"""Function or method name to the number of objects that it gives."""


def check_parts(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse a step that would give more separate tensors or numbers than can be gone through."""
    rule = _PARTS.get(parts_of_op(op)[2])
    if rule is None:
        return
    try:
        parts = int(rule(_Given(*_placed(op, rule, arguments, keywords))))
    except Exception:  # wrong arguments: torch itself says so better
        return
    limits.check_turns(parts)


def is_bounded(op: str) -> bool:
    """Whether nothing that an operation gives of small tensors is large, nor many."""
    return _rule(op) in (None, *_BOUNDED) and parts_of_op(op)[2] not in _PARTS


def of_numbers(op: str) -> bool:
    """Whether how much a step's result takes may depend on numbers that tensors hold, and not on their shapes alone."""
    return _rule(op) not in (None, _broadcast, _first, _sum, _product, _matmul, _linear)


@lru_cache(maxsize=4096)
def _rule(op: str) -> Callable[[_Given], int] | None:
    if op.startswith("builtin:"):
        return None
    name = parts_of_op(op)[2]
    return _RULES.get(name) or (_broadcast if catalog.is_pointwise(op) and name not in _REDUCING else None)


_REDUCING = frozenset({"max", "min", "equal"})
"""Tagged as element-wise, and with one argument not so."""
