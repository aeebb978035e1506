"""Text to Program: Python's syntax tree lowered to a flat list of equations, and refused where it isn't of the language.

What a text may say is in `expressions`; anything else is refused with a reason, before anything runs.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache

from jvpcli.errors import ExpressionSyntaxError, ForbiddenError
from jvpcli.language import limits, refusals
from jvpcli.language.expressions import OPERATORS, Expressions, flat_parts
from jvpcli.language.source import read_source
from jvpcli.program import Const, Operand, Pack, Program

SHORT = 1000
"""Texts up to so many characters are remembered with their programs: one request reads its text more than once."""


def parse(
    source: str,
    input_names: Collection[str] | None = None,
    functions: Mapping[str, Sequence[str]] | None = None,
) -> Program:
    """Lower the text of an expression to a Program.

    Free names are the inputs, in the order of their first use.  If `input_names` is given, any other free name is
    refused with the nearest right ones; an input may then also hide a builtin or a namespace of its name.
    `functions` are the names of imported functions, each with the inputs that it takes without the text's giving them
    (parameters of modules): a call is an equation `call:import.NAME`, those inputs its keywords.

    Raises:
        ExpressionSyntaxError: it isn't Python's syntax, or not in a form that the language has.
        ForbiddenError: it uses what an expression may not.
        UnknownNameError: a name that is neither an input nor in the catalogue.
        LimitError: it is too long or nests too deeply.
    """
    names = None if input_names is None else tuple(input_names)
    known = tuple((name, tuple(taken)) for name, taken in (functions or {}).items())
    return (_remembered if len(source) <= SHORT else _parse)(source, names, known)


def _parse(
    source: str, input_names: tuple[str, ...] | None, functions: tuple[tuple[str, tuple[str, ...]], ...]
) -> Program:
    text, tree = read_source(source)
    input_count = 0
    while True:
        program = _Lowering(text, input_names, dict(functions), input_count).program(tree)
        if len(program.inputs) == input_count:
            return program
        input_count = len(program.inputs)  # the inputs take the first slots, so their number must be known before


_remembered = lru_cache(maxsize=64)(_parse)


class _Lowering(Expressions):
    """The statements of a text, over its expressions."""

    def program(self, tree: ast.Module) -> Program:
        """The whole text."""
        if not tree.body:
            raise ExpressionSyntaxError("The expression is empty.", source=self.text.source)
        for statement in tree.body[:-1]:
            self.statement(statement)
        result, names = self.last(tree.body[-1])
        return Program(
            source=self.text.source,
            inputs=tuple(self.inputs),
            equations=tuple(self.equations),
            result=result,
            result_names=names,
            slots=self.slots,
            input_spans=tuple(self.input_spans),
            names=tuple(self.scope.items()),
        )

    # Statements

    def statement(self, node: ast.stmt) -> None:
        """One statement."""
        if isinstance(node, ast.Expr):
            self.expr(node.value, 0)
        elif isinstance(node, ast.Assign):
            value = self.expr(node.value, 0)
            for target in node.targets:
                self.assign(target, value, node.value)
        elif isinstance(node, ast.AugAssign):
            self.augmented(node)
        else:
            raise self.at(node, refusals.node(type(node)))

    def last(self, node: ast.stmt) -> tuple[Operand, tuple[str | None, ...] | None]:
        """The last statement: the result, and the names that the text gives its parts."""
        if isinstance(node, ast.Expr):
            if not isinstance(node.value, (ast.Tuple, ast.List)):
                return self.expr(node.value, 0), (self.assigned_name(node.value),)
            parts = list(flat_parts(node.value))
            if any(isinstance(part, ast.Starred) for part in parts):
                return self.expr(node.value, 0), None
            operands = [self.expr(part, 0) for part in parts]
            return limits.pack("tuple", operands), tuple(self.assigned_name(part) for part in parts)
        self.statement(node)
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]
        names = [_base_name(part) for part in flat_parts(target)]
        if not isinstance(target, (ast.Tuple, ast.List)):
            return self.scope[names[0]], (names[0],)
        return limits.pack("tuple", [self.scope[name] for name in names]), tuple(names)

    def assigned_name(self, node: ast.expr) -> str | None:
        """The name, if `node` is one that the text assigned."""
        return node.id if isinstance(node, ast.Name) and node.id in self.scope else None

    def assign(self, target: ast.expr, value: Operand, value_node: ast.expr) -> None:
        """Bind a target to a value."""
        if isinstance(target, ast.Name):
            self.bind(target, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target, value, value_node)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, self.expr(target.value, 0), self.subscript(target.slice, 1), value)
        elif isinstance(target, ast.Attribute):
            raise self.at(target, ForbiddenError("Attributes can't be assigned."))
        else:
            raise self.at(target, refusals.node(type(target)))

    def unpack(self, target: ast.Tuple | ast.List, value: Operand, value_node: ast.expr) -> None:
        """`a, b = value` and `a, *b = value`."""
        parts = target.elts
        stars = [index for index, part in enumerate(parts) if isinstance(part, ast.Starred)]
        if len(stars) > 1:
            raise self.at(target, ExpressionSyntaxError("Only one name of an assignment can be starred."))
        if not stars and isinstance(value, Pack) and len(value.items) == len(parts) and not any(_stars(value)):
            for part, item in zip(parts, value.items, strict=True):
                self.assign(part, item, value_node)
            return
        op = f"unpack:{len(parts) - 1}+" if stars else f"unpack:{len(parts)}"
        for index, part in enumerate(parts):
            if isinstance(part, ast.Starred):
                rest = Pack("slice", (Const(index), Const(index + 1 - len(parts) or None), Const(None)))
                middle = self.emit("op:getitem", (value, rest), value_node)
                self.assign(part.value, self.emit("builtin:list", (middle,), value_node), value_node)
            else:
                at = index - len(parts) if stars and index > stars[0] else index
                self.assign(part, self.emit(op, (value,), value_node, (("index", Const(at)),)), value_node)

    def set_item(self, target: ast.Subscript, base: Operand, key: Operand, value: Operand) -> None:
        """`base[key] = value`: an in-place step."""
        changed = self.emit("op:setitem", (base, key, value), target)
        if isinstance(target.value, ast.Name):
            self.scope[target.value.id] = changed
        elif not _base_name(target):
            raise self.at(target, ExpressionSyntaxError("Only items of a name can be assigned."))

    def augmented(self, node: ast.AugAssign) -> None:
        """`y += 1` changes y in place where y is a tensor; `y[i] += 1` so changes the item, and then sets it, as in Python."""
        target = node.target
        if isinstance(target, ast.Attribute):
            raise self.at(target, ForbiddenError("Attributes can't be assigned."))
        if isinstance(target, ast.Name):
            self.bind(target, self.changed(node, self.name(target, 0)))
            return
        base, key = self.expr(target.value, 0), self.subscript(target.slice, 1)
        item = self.emit("op:getitem", (base, key), target)
        self.set_item(target, base, key, self.changed(node, item))

    def changed(self, node: ast.AugAssign, left: Operand) -> Operand:
        """What an augmented assignment makes of the value before it."""
        operands = self.no_text(left, node), self.no_text(self.expr(node.value, 0), node)
        return self.emit(f"op:i{OPERATORS[type(node.op)].rstrip('_')}", operands, node)


def _base_name(node: ast.expr) -> str:
    """`y` of the target `y[0][1]`; empty where there is none."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _stars(pack: Pack) -> Iterator[bool]:
    """Which items stand for any number of items."""
    return (isinstance(item, Pack) and item.kind == "star" for item in pack.items)
