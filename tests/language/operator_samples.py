"""torch's own operator database as expressions of the language: each sample written as text with named inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from jvpcli.language import catalog


class CannotBeWrittenError(Exception):
    """Why a sample has no text."""


@dataclass(frozen=True)
class WrittenSample:
    """A sample: its text, the named tensors, and the operator itself with the arguments to compare with."""

    expression: str
    inputs: dict[str, Tensor]
    wrt: tuple[str, ...]
    operator: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass
class _Writer:
    """Names the tensors while it writes."""

    inputs: dict[str, Tensor] = field(default_factory=dict)

    def text(self, value: Any) -> str:
        """A value as text of the language."""
        if isinstance(value, Tensor):
            if value.layout is not torch.strided:
                raise CannotBeWrittenError("a sparse tensor")
            for name, known in self.inputs.items():
                if known is value:
                    return name
            name = f"x{len(self.inputs)}"
            self.inputs[name] = value
            return name
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
        if isinstance(value, (list, tuple)):
            inner = ", ".join(self.text(item) for item in value)
            if isinstance(value, list):
                return f"[{inner}]"
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        raise CannotBeWrittenError(f"an argument that is a {type(value).__name__}")

    def call(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """What stands between the parentheses."""
        written = [self.text(argument) for argument in arguments]
        written += [f"{name}={self.text(value)}" for name, value in keywords.items()]
        return ", ".join(written)


REFLECTED = {
    "__radd__": "+", "__rdiv__": "/", "__rmul__": "*", "__rmatmul__": "@", "__rmod__": "%", "__rpow__": "**",
    "__rsub__": "-",
}  # fmt: skip

OTHER_SPELLING = {
    "_segment_reduce": "torch.segment_reduce",
    "round.decimals": "torch.round",
    "nn.functional.upsample_bilinear": "torch.nn.functional.upsample_bilinear",
}


def write(name: str, function: Any, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> WrittenSample:
    """Write `function(value, *arguments, **keywords)`, the operator called `name`, as an expression.

    Raises:
        CannotBeWrittenError: with the reason.
    """
    writer = _Writer()
    path = OTHER_SPELLING.get(name, f"torch.{name}")
    if name == "__getitem__":
        text = f"{writer.text(value)}[{writer.text(arguments[0])}]"
    elif name == "slice":
        dim, *bounds = arguments
        text = f"{writer.text(value)}[(slice(None),) * {dim} + (slice({', '.join(map(writer.text, bounds))}),)]"
    elif name in REFLECTED:
        text = f"{writer.text(arguments[0])} {REFLECTED[name]} {writer.text(value)}"
    elif catalog.is_function(path):
        text = f"{path.replace('torch.nn.functional.', 'F.')}({writer.call((value, *arguments), keywords)})"
    elif catalog.is_property(name):
        text = f"{writer.text(value)}.{name}"
    elif catalog.is_method(name) and isinstance(value, Tensor):
        owner = writer.text(value)
        text = f"{owner}.{name}({writer.call(arguments, keywords)})"
    else:
        raise CannotBeWrittenError(catalog.why_forbidden(path) or "it has no public name in torch's function namespaces")
    wrt = tuple(name for name, tensor in writer.inputs.items() if tensor.requires_grad)
    return WrittenSample(text, writer.inputs, wrt, function, (value, *arguments), keywords)


def small_samples(operator: Any, dtype: torch.dtype, count: int, elements: int) -> Iterator[Any]:
    """The first samples of the operator database with at most that many elements."""
    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel()
        return sum(map(size, value)) if isinstance(value, (list, tuple)) else 0

    samples = operator.sample_inputs("cpu", dtype, requires_grad=True)
    fitting = (s for s in islice(samples, 200) if size(s.input) + size(s.args) + size(list(s.kwargs.values())) <= elements)
    yield from islice(fitting, count)
