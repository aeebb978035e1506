"""The tensors of a sub-expression that failed, as the program calls them, and where they were made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor, nn

from jvpcli.errors import shortened
from jvpcli.language.values import dtype_name
from jvpcli.recording.calls import Attempt, Result
from jvpcli.recording.derivatives import names_of_frame, read_call
from jvpcli.recording.nodes import node_of
from jvpcli.recording.places import Place, pieces
from jvpcli.recording.recorder import DERIVATIVES, Recorder
from jvpcli.recording.tape import operation_of

LONGEST_TEXT = 40
"""Characters of the text of another place."""


@dataclass(frozen=True)
class Operand:
    """A tensor of the failing sub-expression, as the program calls it, and where it was made."""

    name: str
    tensor: Tensor
    made: Place | None

    @property
    def line(self) -> str:
        """Its shape, dtype, whether a gradient reaches it, and where it was made."""
        x, node = self.tensor, node_of(self.tensor)
        grad = f", {node.name()}" if node is not None else ", requires_grad" if x.requires_grad else ", no gradient"
        made = f"   {told(self.made.short, shortened(self.made.text, LONGEST_TEXT))}" if self.made is not None else ""
        return f"shape {tuple(x.shape)}, {dtype_name(x.dtype)}{grad}{made}"


def told(where: str, text: str) -> str:
    """A place, and the text that stands there, if it is known."""
    return f"{where}: {text}" if text else where


def operands_of(
    attempt: Attempt | None, trace: TracebackType, place: Place, recorder: Recorder | None
) -> Iterator[Operand]:
    """The tensors that the failing call was given; where no call of torch failed, those that the sub-expression names."""
    if attempt is None:
        for name, x in named_in(place, trace, Tensor):
            yield Operand(name, x, made_before(x, recorder, place))
        return
    if attempt.function in DERIVATIVES:
        call = read_call(attempt.function, attempt.arguments, attempt.keywords, (attempt.point, trace.tb_frame))
        shown = {**call.outputs, **(call.inputs if attempt.function is torch.autograd.grad else {})}
        for name, v in zip(call.outputs, call.grad_outputs or (), strict=False):
            shown |= {} if v is None else {f"v for {name}": v}
        for name, x in shown.items():
            yield Operand(name, x, made_before(x, recorder, place))
        return
    known, texts = names_of_frame(trace.tb_frame), _texts(place, attempt)
    tensors = {id(x): x for x in pieces((attempt.arguments, attempt.keywords)) if isinstance(x, Tensor)}
    for number, (key, x) in enumerate(tensors.items()):
        made = made_before(x, recorder, place)
        written = known.get(key) or texts.get(key) or (made.text if made is not None else None) or _role(attempt, x)
        yield Operand(written or f"operand {number}", x, made)


def made_at(x: Tensor, recorder: Recorder) -> Place | None:
    """Where a tensor was made, if that was seen."""
    origin = recorder.origin(x)
    return origin.call.place if isinstance(origin, Result) else None


def made_before(x: Tensor, recorder: Recorder | None, place: Place) -> Place | None:
    """Where a tensor was made, if that was seen and is another place."""
    found = None if recorder is None else made_at(x, recorder)
    return None if found is None or (found.file, found.line) == (place.file, place.line) else found


def _texts(place: Place, attempt: Attempt) -> dict[int, str]:
    """By `id` how the operands are written, where the place is the very call."""
    node, parts = place.node, list[ast.expr]()
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and _calls(node, attempt):
        method = isinstance(node.func, ast.Attribute) and operation_of(attempt.function).startswith("method:")
        parts = [node.func.value, *node.args] if method and isinstance(node.func, ast.Attribute) else list(node.args)
    elif isinstance(node, ast.AugAssign):
        parts = [node.target, node.value]
    elif isinstance(node, ast.Subscript):
        parts = [node.value, node.slice]
    found: dict[int, str] = {}
    for part, value in zip(parts, attempt.arguments, strict=False):
        if isinstance(value, Tensor):
            found[id(value)] = ast.unparse(part)
        elif isinstance(value, (tuple, list)) and isinstance(part, (ast.Tuple, ast.List)):
            found |= {id(x): ast.unparse(p) for p, x in zip(part.elts, value, strict=False) if isinstance(x, Tensor)}
    return found


def _calls(node: ast.Call, attempt: Attempt) -> bool:
    """Whether a call is written under the name of the function that failed, and is not one that led to it."""
    written = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return bool(written) and written == getattr(attempt.function, "__name__", "")


def _role(attempt: Attempt, x: Tensor) -> str | None:
    """What the parameter is called that a tensor was given for."""
    by_name = next((str(name) for name, value in attempt.keywords.items() if value is x), None)
    return by_name or ("input" if attempt.arguments and attempt.arguments[0] is x else None)


Named = TypeVar("Named", Tensor, nn.Module)


def named_in(place: Place, trace: TracebackType, kind: type[Named]) -> Iterator[tuple[str, Named]]:
    """The tensors or modules that a sub-expression names, as they are in the frame; nothing of it is run."""
    from pure_eval import Evaluator

    evaluator, seen = Evaluator.from_frame(trace.tb_frame), set[int]()
    for node in ast.walk(place.node) if place.node is not None else ():
        if not isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            continue
        try:
            value = evaluator[node]
        except Exception:  # it can't be told without running it
            continue
        if isinstance(value, kind) and id(value) not in seen:
            seen.add(id(value))
            yield ast.unparse(node), value
