"""torch's own operator database as expressions of the language: each sample written as text with named inputs."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from jvpcli.language import catalog

SEED = 42
"""The seed that the database's random operators set themselves."""


INTERNAL = "it is an internal of torch: its name begins with an underscore"
BACKWARD = "it is the backward of another operator, with no public name"
UNCOUNTED = "torch doesn't count what its parts change in the tensor"
CANNOT_BE_WRITTEN = {
    "_softmax_backward_data": INTERNAL,
    "_native_batch_norm_legit": INTERNAL,
    "_batch_norm_with_update": INTERNAL,
    "_unsafe_masked_index": INTERNAL,
    "_unsafe_masked_index_put_accumulate": INTERNAL,
    "torch.ops.aten._safe_softmax.default": INTERNAL,
    "max_pool2d_with_indices_backward": BACKWARD,
    "native_dropout_backward": BACKWARD,
    "unsafe_chunk": UNCOUNTED,
    "unsafe_split": UNCOUNTED,
    "sparse.sampled_addmm": "it takes a sparse tensor",
    "sparse.mm.reduce": "it takes a sparse tensor",
    "to_sparse": "it gives a sparse tensor",
    "nn.functional.linear_cross_entropy.chunked": "it takes a Python object with options",
    "nn.functional.linear_cross_entropy.chunked_none": "it takes a Python object with options",
}
"""The operators that can't be written, each with its reason."""

NOT_COMPARABLE = {
    "nn.functional.one_hot": "it takes integers only, so there is nothing to differentiate",
    "torch.ops.aten._flash_attention_forward": "it is an internal of torch for CUDA, and has no samples on a CPU",
    "torch.ops.aten._efficient_attention_forward": "it is an internal of torch for CUDA, and has no samples on a CPU",
    "nn.functional.batch_norm.without_cudnn": "it is batch_norm with a switch for CUDA, and has no samples on a CPU",
}
"""Entries of the database that are no differentiable operators on this machine."""


class CannotBeWrittenError(Exception):
    """Why a sample has no text."""


@dataclass(frozen=True)
class WrittenSample:
    """A sample: its text, the named tensors, those to differentiate, and the operator's own call to compare with."""

    expression: str
    inputs: dict[str, Tensor]
    wrt: tuple[str, ...]
    reference: Callable[..., Any]
    """The operator called with these tensors (by the order of `wrt`) in the place of the differentiated ones."""
    differentiable: Callable[[Any], Any]
    """What of the result can be differentiated, by the database (eigenvectors only up to their phase, and so on)."""


@dataclass
class Writer:
    """Names the tensors while it writes."""

    inputs: dict[str, Tensor] = field(default_factory=dict)

    def text(self, value: Any) -> str:
        """A value as text of the language."""
        if isinstance(value, Tensor):
            return self.name(value)
        if isinstance(value, (torch.dtype, torch.memory_format)):
            return str(value)
        if isinstance(value, float) and not math.isfinite(value):
            return {"inf": "math.inf", "-inf": "-math.inf", "nan": "math.nan"}[str(value)]
        if isinstance(value, slice):
            return f"slice({self.text(value.start)}, {self.text(value.stop)}, {self.text(value.step)})"
        if isinstance(value, (bool, int, float, complex, str, type(None))):
            return repr(value)
        if value is ...:
            return "..."
        if isinstance(value, torch.device):
            return repr(str(value))
        if isinstance(value, list):
            return f"[{self.listed(value)}]"
        if isinstance(value, tuple):
            return f"({self.listed(value)},)" if len(value) == 1 else f"({self.listed(value)})"
        raise CannotBeWrittenError(f"it takes a {type(value).__name__}")

    def name(self, value: Tensor) -> str:
        """The name of a tensor, the same for the same tensor."""
        if value.layout is not torch.strided:
            raise CannotBeWrittenError("it takes a sparse tensor")
        for name, known in self.inputs.items():
            if known is value:
                return name
        name = f"x{len(self.inputs)}"
        self.inputs[name] = value
        return name

    def listed(self, values: Any) -> str:
        """Values side by side."""
        return ", ".join(map(self.text, values))

    def call(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """What stands between the parentheses."""
        written = [self.text(argument) for argument in arguments]
        return ", ".join(written + [f"{name}={self.text(value)}" for name, value in keywords.items()])


Spelling = Callable[[Writer, Any, tuple[Any, ...], dict[str, Any]], str]


def _reflected(symbol: str) -> Spelling:
    return lambda w, value, arguments, keywords: f"{w.text(arguments[0])} {symbol} {w.text(value)}"


def _slice(w: Writer, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    dim, start, stop, step = (*arguments, *(0, None, None, 1)[len(arguments) :])
    bounds = w.listed((start, stop, step))
    return f"{w.text(value)}[({'slice(None), ' * (dim % value.ndim)}slice({bounds}),)]"


def _product_first(function: str) -> Spelling:
    """Operators whose database entry multiplies two factors first, so that the rank is known."""
    return lambda w, value, arguments, keywords: (
        f"{function}({w.text(value)} @ {w.text(arguments[0])}.mT, {w.call(arguments[1:], keywords)})"
    )


def _triplet(w: Writer, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """The distance that the samples pass is the one that the function takes by itself."""
    distance = keywords.get("distance_function")
    if type(distance) is not torch.nn.PairwiseDistance or vars(distance)["norm"] != 2.0:
        raise CannotBeWrittenError("it takes a Python function")
    rest = {name: option for name, option in keywords.items() if name != "distance_function"}
    return f"F.triplet_margin_with_distance_loss({w.call((value, *arguments), rest)})"


def _smoothed_bilinear(w: Writer, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """The internal operator behind `interpolate` with `antialias`."""
    given = dict(zip(("output_size", "align_corners", "scales_h", "scales_w"), arguments, strict=False)) | keywords
    size, align_corners = given.pop("output_size"), given.pop("align_corners")
    if size is None or any(scale is not None for scale in given.values()):
        raise CannotBeWrittenError("it takes scales apart from sizes")
    options = f"mode='bilinear', align_corners={align_corners}, antialias=True"
    return f"F.interpolate({w.text(value)}, {w.text(size)}, {options})"


SPELLINGS: dict[str, Spelling] = {
    "__radd__": _reflected("+"),
    "__rdiv__": _reflected("/"),
    "__rmul__": _reflected("*"),
    "__rmatmul__": _reflected("@"),
    "__rmod__": _reflected("%"),
    "__rpow__": _reflected("**"),
    "__rsub__": _reflected("-"),
    "__getitem__": lambda w, value, arguments, keywords: f"{w.text(value)}[{w.text(arguments[0])}]",
    "slice": _slice,
    "einsum": lambda w, value, arguments, keywords: f"torch.einsum({arguments[0]!r}, {w.listed(value)})",
    "polygamma": lambda w, value, arguments, keywords: f"torch.polygamma({arguments[0]}, {w.text(value)})",
    "special.polygamma": lambda w, value, arguments, keywords: (
        f"torch.special.polygamma({arguments[0]}, {w.text(value)})"
    ),
    "where": lambda w, value, arguments, keywords: f"torch.where({w.listed((arguments[0], value, *arguments[1:]))})",
    "nn.functional.embedding": lambda w, value, arguments, keywords: (
        f"F.embedding({w.call((arguments[0], value, *arguments[1:]), keywords)})"
    ),
    "svd_lowrank": _product_first("torch.svd_lowrank"),
    "pca_lowrank": _product_first("torch.pca_lowrank"),
    "linalg.pinv.singular": lambda w, value, arguments, keywords: (
        f"torch.linalg.pinv({w.text(value)} @ {w.text(arguments[0])}.mT)"
    ),
    "linalg.lstsq.grad_oriented": lambda w, value, arguments, keywords: (
        f"torch.linalg.lstsq({w.call((value, *arguments), keywords)})[:2]"
    ),
    "normal.number_mean": lambda w, value, arguments, keywords: (
        f"torch.normal({w.call((arguments[0], value, *arguments[1:]), keywords)})"
    ),
    "nn.functional.triplet_margin_with_distance_loss": _triplet,
    "_upsample_bilinear2d_aa": _smoothed_bilinear,
    "zero_": lambda w, value, arguments, keywords: f"{w.text(value)}.clone().zero_()",
    "_segment_reduce": lambda w, value, arguments, keywords: (
        f"torch.segment_reduce({w.call((value, *arguments), keywords)})"
    ),
}
"""Operators whose name or argument order in the database is not that of the public function."""


def write(operator: Any, sample: Any) -> WrittenSample:
    """Write `operator.op(sample.input, *sample.args, **sample.kwargs)` as an expression.

    Raises:
        CannotBeWrittenError: with the reason.
    """
    value, arguments, keywords = sample.input, tuple(sample.args), dict(sample.kwargs)
    name, writer = operator.name, Writer()
    own = getattr(operator, "spelling", None)
    spelling = own or SPELLINGS.get(full_name(operator)) or SPELLINGS.get(name)
    path = f"torch.{name}"
    if spelling is not None:
        text = spelling(writer, value, arguments, keywords)
    elif catalog.is_function(path):
        text = f"{path.replace('torch.nn.functional.', 'F.')}({writer.call((value, *arguments), keywords)})"
    elif catalog.is_property(name):
        text = f"{writer.text(value)}.{name}"
    elif catalog.is_method(name) and isinstance(value, Tensor):
        text = f"{writer.text(value)}.{name}({writer.call(arguments, keywords)})"
    else:
        reason = catalog.why_forbidden(f"torch.Tensor.{name}") or catalog.why_forbidden(path)
        raise CannotBeWrittenError(reason or "it has no public name")
    wrt = tuple(name for name, tensor in writer.inputs.items() if tensor.requires_grad)
    originals = [writer.inputs[name] for name in wrt]

    def reference(*tensors: Tensor) -> Any:
        swap = {id(original): tensor for original, tensor in zip(originals, tensors, strict=True)}
        swapped = [_swap(part, swap) for part in (value, arguments, keywords)]
        return operator.op(swapped[0], *swapped[1], **swapped[2])

    return WrittenSample(text, writer.inputs, wrt, reference, sample.output_process_fn_grad)


def _swap(value: Any, swap: dict[int, Tensor]) -> Any:
    """The value with some tensors in it exchanged."""
    if isinstance(value, (list, tuple)):
        return type(value)(_swap(item, swap) for item in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {name: _swap(item, swap) for name, item in value.items()}
    return swap.get(id(value), value)


def full_name(operator: Any) -> str:
    """The operator's name with its variant."""
    return f"{operator.name}.{operator.variant_test_name}" if operator.variant_test_name else operator.name


def differentiable_operators() -> list[Any]:
    """torch's operators that support autograd."""
    from torch.testing._internal.common_methods_invocations import op_db

    gc.freeze()  # the database is large and stays: the collector need not walk through it again and again
    return [operator for operator in op_db if operator.supports_autograd]


def small_samples(operator: Any, count: int, elements: int = 2500) -> Iterator[Any]:
    """The first samples of an operator with at most that many elements (or else the smallest), in double precision.

    Each is made when it is asked for, with the seed that the database sets for it.
    """
    dtypes = (torch.float64, torch.complex128, torch.float32, torch.float16)
    dtype = next((dtype for dtype in dtypes if operator.supports_dtype(dtype, "cpu")), None)
    if dtype is None:
        return

    def first_hundred() -> Iterator[Any]:
        random.seed(0)
        torch.manual_seed(0)
        return islice(operator.sample_inputs("cpu", dtype, requires_grad=True), 100)

    small = islice((sample for sample in first_hundred() if _size(sample) <= elements), count)
    first = next(small, None)
    yield from sorted(first_hundred(), key=_size)[:1] if first is None else chain([first], small)


def _size(value: Any) -> int:
    if hasattr(value, "kwargs"):
        return _size((value.input, value.args, list(value.kwargs.values())))
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0
