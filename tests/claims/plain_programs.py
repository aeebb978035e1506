"""Programs run by Python and PyTorch alone, whole or a step at a time: what the oracles of claims look at.

Nothing here knows jvp: the text is compiled by Python, and a step is the node of Python's own syntax tree that stands at a
place of the text, as a function of the tensors that it reads.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SCOPE = {"torch": torch, "F": F, "nn": torch.nn, "math": math}

DOUBLE = {torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64,
          torch.complex64: torch.complex128}  # fmt: skip

Span = tuple[int, int]


class UndecidedError(Exception):
    """A claim that this oracle cannot examine, and why."""


@dataclass(frozen=True, eq=False)
class PlainStep:
    """One operation as a function of the tensors that it reads.

    Attributes:
        function: of what stands at its places.
        parts: what stood there in the run.
        state: of the random numbers before it.
        double: whether new tensors are made in double precision.
    """

    function: Callable[..., Any]
    parts: tuple[Any, ...]
    state: Tensor
    double: bool

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that it reads, in the order of the text."""
        return tensors_of(self.parts)

    def at(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Its results where it reads these tensors; what it changes in place is a copy."""
        rest = iter([t.clone() for t in tensors])
        with quiet(self.double):
            torch.set_rng_state(self.state)
            return tensors_of(self.function(*[_exchanged(part, rest) for part in self.parts]))


@dataclass(frozen=True, eq=False)
class PlainProgram:
    """A program, its inputs and the names of those that are differentiated."""

    text: str
    inputs: Mapping[str, Tensor]
    wrt: tuple[str, ...]
    seed: int = 0
    double: bool = field(default=False)

    def in_double(self) -> PlainProgram:
        """The same in double precision, with what torch makes out of nothing in it, too."""
        inputs = {name: x.detach().to(DOUBLE.get(x.dtype, x.dtype)).clone() for name, x in self.inputs.items()}
        return replace(self, inputs=inputs, double=True)

    @property
    def leaves(self) -> list[Tensor]:
        """The values of what is differentiated."""
        return [self.inputs[name].detach() for name in self.wrt]

    def run(self, *leaves: Tensor) -> list[Tensor]:
        """The outputs, for other values of what is differentiated."""
        return tensors_of(_evaluated(self, ast.parse(self.text), leaves, {}))

    def step(self, span: Span, occurrence: int = 0, leaves: Sequence[Tensor] | None = None) -> PlainStep:
        """The operation at a place of the text, as it came by for the nth time, for other values of what is differentiated.

        Raises:
            UndecidedError: what stands there is no operation that can be taken out.
        """
        found: list[PlainStep] = []

        def look(function: Callable[..., Any], *parts: Any) -> Any:
            found.append(PlainStep(function, _copied(parts), torch.get_rng_state(), self.double))
            return function(*parts)

        tree = _TakenOut(self.text, span).visit(ast.parse(self.text))
        _evaluated(self, ast.fix_missing_locations(tree), self.leaves if leaves is None else leaves, {"__look__": look})
        if len(found) <= occurrence:
            raise UndecidedError("no operation of its own stands there")
        return found[occurrence]

    def held(self, span: Span, value: Any) -> Callable[..., list[Tensor]]:
        """The outputs as a function of what is differentiated, with a fixed value at a place of the text."""
        tree = _TakenOut(self.text, span).visit(ast.parse(self.text))
        scope = {"__look__": lambda function, *parts: value}
        return lambda *leaves: tensors_of(_evaluated(self, ast.fix_missing_locations(tree), leaves, scope))


@contextmanager
def quiet(double: bool) -> Iterator[None]:
    """No warnings; new tensors are double if asked for, and the random numbers are those of before, afterwards."""
    before = torch.get_default_dtype()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float64 if double else before)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _evaluated(program: PlainProgram, tree: ast.Module, leaves: Sequence[Tensor], more: Mapping[str, Any]) -> Any:
    """What the last expression of a tree gives."""
    *statements, last = tree.body
    if not isinstance(last, ast.Expr):
        raise UndecidedError("it does not end with an expression")
    scope = {**SCOPE, **program.inputs, **dict(zip(program.wrt, leaves, strict=True)), **more}
    with quiet(program.double):
        torch.manual_seed(program.seed)
        exec(compile(ast.Module(statements, []), "<program>", "exec"), scope)
        return eval(compile(ast.Expression(last.value), "<program>", "eval"), scope)


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in a value, at every level of lists and tuples."""
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors_of(item)] if isinstance(value, (tuple, list)) else []


def _exchanged(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, (tuple, list)):
        items = [_exchanged(item, tensors) for item in value]
        return value if type(value) is torch.Size else type(value)(items)
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (tuple, list)) and type(value) is not torch.Size:
        return type(value)([_copied(item) for item in value])
    return value


class _TakenOut(ast.NodeTransformer):
    """Puts `__look__(lambda a, b: a + b, left, right)` in the place of `left + right` at a span."""

    def __init__(self, text: str, span: Span) -> None:
        self.starts = [0]
        for line in text.encode().split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.text, self.span = text.encode(), span

    def at(self, line: int, column: int) -> int:
        """A place of the tree as a number of characters."""
        return len(self.text[: self.starts[line - 1] + column].decode())

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Attribute, ast.Subscript)):
            place = self.at(node.lineno, node.col_offset), self.at(node.end_lineno or 0, node.end_col_offset or 0)
            if place == self.span and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                return self.taken_out(node)
        return node

    def taken_out(self, node: Any) -> ast.expr:
        parts: list[ast.expr] = []

        def part(child: ast.expr) -> ast.expr:
            if isinstance(child, ast.Starred):
                return ast.Starred(part(child.value), ast.Load())
            parts.append(child)
            return ast.Name(f"__part{len(parts) - 1}__", ast.Load())

        if isinstance(node, ast.BinOp):
            node.left, node.right = part(node.left), part(node.right)
        elif isinstance(node, ast.UnaryOp):
            node.operand = part(node.operand)
        elif isinstance(node, ast.Compare):
            node.left, node.comparators = part(node.left), [part(other) for other in node.comparators]
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and not _is_path(node.func.value):
                node.func.value = part(node.func.value)
            node.args = [part(argument) for argument in node.args]
            for keyword in node.keywords:
                keyword.value = part(keyword.value)
        elif isinstance(node, ast.Attribute):
            if _is_path(node.value):
                return node
            node.value = part(node.value)
        else:
            node.value = part(node.value)
            if not any(isinstance(inner, ast.Slice) for inner in ast.walk(node.slice)):
                node.slice = part(node.slice)
        names = [ast.arg(f"__part{k}__") for k in range(len(parts))]
        empty = ast.arguments(posonlyargs=[], args=names, kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Call(ast.Name("__look__", ast.Load()), [ast.Lambda(empty, node), *parts], [])


def _is_path(node: ast.expr) -> bool:
    """Whether it is a namespace: `torch`, `torch.linalg`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in SCOPE
