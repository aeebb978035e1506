"""Text to Program: Python's syntax tree lowered to a flat list of equations, and refused where it isn't of the language.

One table says which node types there are; anything else is refused with a reason, before anything runs.  Names resolve
through the catalogue by exact path, so nothing can be reached that isn't in it.  Loads no torch.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from jvpcli.errors import ExpressionSyntaxError, ForbiddenError, JvpError, LimitError, Span, UnknownNameError
from jvpcli.language import catalog
from jvpcli.language.source import SourceText, read_source
from jvpcli.program import Block, Const, Equation, Operand, Pack, Program, Ref

MAX_DEPTH = 100
"""Expressions may nest this deep (long chains such as x+x+… or x.sin().sin()… don't count)."""

OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.MatMult: "matmul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.LShift: "lshift", ast.RShift: "rshift",
    ast.USub: "neg", ast.UAdd: "pos", ast.Invert: "invert", ast.Not: "not_",
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
    ast.Is: "is_", ast.IsNot: "is_not",
}  # fmt: skip
"""Syntax to the name in the module `operator`."""

REFUSALS: dict[type[ast.AST], str] = {
    ast.Lambda: "functions can't be defined inside an expression",
    ast.JoinedStr: "text can't be formatted inside an expression",
    ast.NamedExpr: "`:=` is not part of the language; assign with `y = …;` before",
    ast.Await: "`await` is not part of the language",
    ast.Yield: "`yield` is not part of the language",
    ast.YieldFrom: "`yield` is not part of the language",
    ast.Dict: "dictionaries are not part of the language",
    ast.Set: "sets are not part of the language; use a list",
    ast.DictComp: "dictionaries are not part of the language",
    ast.SetComp: "sets are not part of the language; use a list",
    ast.Import: "nothing can be imported: torch, math and F are there already",
    ast.ImportFrom: "nothing can be imported: torch, math and F are there already",
    ast.FunctionDef: "functions can't be defined inside an expression",
    ast.AsyncFunctionDef: "functions can't be defined inside an expression",
    ast.ClassDef: "classes can't be defined inside an expression",
    ast.For: "there are no loop statements; use a list comprehension",
    ast.While: "there are no loop statements; use a list comprehension",
    ast.If: "there are no if statements; use `a if condition else b`",
    ast.AnnAssign: "assignments take no type annotation",
    ast.Delete: "nothing can be deleted",
    ast.Return: "there is nothing to return from; the last expression is the result",
    ast.Assert: "`assert` is not part of the language",
    ast.With: "`with` is not part of the language",
    ast.Global: "`global` is not part of the language",
    ast.Nonlocal: "`nonlocal` is not part of the language",
    ast.Raise: "`raise` is not part of the language",
    ast.Try: "`try` is not part of the language",
    ast.Pass: "`pass` is not part of the language",
    ast.Starred: "`*` can't stand here",
}

FOREIGN_ROOTS = {
    "np": "torch", "numpy": "torch", "jnp": "torch", "jax": "torch", "tf": "torch", "scipy": "torch",
    "nn": "torch.nn", "functional": "torch.nn.functional", "linalg": "torch.linalg", "fft": "torch.fft",
}  # fmt: skip
"""Names under which people know what the language has under another."""


def parse(source: str, input_names: Collection[str] | None = None) -> Program:
    """Lower the text of an expression to a Program.

    Free names are the inputs, in the order of their first use.  If `input_names` is given, any other free name is
    refused with the nearest right ones; an input may then also hide a builtin or a namespace of its name.

    Raises:
        ExpressionSyntaxError: it isn't Python's syntax, or not in a form that the language has.
        ForbiddenError: it uses what an expression may not.
        UnknownNameError: a name that is neither an input nor in the catalogue.
        LimitError: it is too long or nests too deeply.
    """
    text, tree = read_source(source)
    guess = 0
    while True:
        lowering = _Lowering(text, input_names, guess)
        program = lowering.program(tree)
        if len(program.inputs) == guess:
            return program
        guess = len(program.inputs)  # the inputs take the first slots, so their number must be known before


class _Lowering:
    """One pass over the tree: the equations so far and what each name stands for."""

    def __init__(self, text: SourceText, input_names: Collection[str] | None, input_count: int) -> None:
        self.text = text
        self.given = None if input_names is None else frozenset(input_names)
        self.slots = input_count
        self.equations: list[Equation] = []
        self.scope: dict[str, Operand] = {}
        self.inputs: dict[str, Span] = {}

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
            input_spans=tuple(self.inputs.values()),
        )

    # Statements

    def statement(self, node: ast.stmt) -> Operand:
        """One statement; the operand that it gives."""
        if isinstance(node, ast.Expr):
            return self.expr(node.value, 0)
        if isinstance(node, ast.Assign):
            value = self.expr(node.value, 0)
            for target in node.targets:
                self.assign(target, value, node.value)
            return value
        if isinstance(node, ast.AugAssign):
            return self.augmented(node)
        self.refuse(node)

    def last(self, node: ast.stmt) -> tuple[Operand, tuple[str | None, ...] | None]:
        """The last statement: the result, and the names that the text gives its parts."""
        if isinstance(node, ast.Expr):
            if isinstance(node.value, (ast.Tuple, ast.List)):
                parts = list(_flat(node.value))
                if any(isinstance(part, ast.Starred) for part in parts):
                    return self.expr(node.value, 0), None
                operands = tuple(self.expr(part, 0) for part in parts)
                return Pack("tuple", operands), tuple(self.assigned_name(part) for part in parts)
            return self.expr(node.value, 0), (self.assigned_name(node.value),)
        self.statement(node)
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[attr-defined]
        names = [part.id for part in _flat(target) if isinstance(part, ast.Name)]
        if not names or isinstance(target, ast.Subscript):
            names = [_base_name(target)]
        return (self.scope[names[0]], (names[0],)) if not isinstance(target, (ast.Tuple, ast.List)) else (
            Pack("tuple", tuple(self.scope[name] for name in names)),
            tuple(names),
        )  # fmt: skip

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
            self.set_item(target, value)
        elif isinstance(target, ast.Attribute):
            self.fail(ForbiddenError, target, "Attributes can't be assigned.")
        else:
            self.refuse(target)

    def bind(self, target: ast.Name, value: Operand) -> None:
        """Give a value a name; the equation that makes it remembers its first one."""
        name = target.id
        if name in ("torch", "math") or name.startswith("__"):
            self.fail(ForbiddenError, target, f"`{name}` can't be assigned.")
        last = self.equations[-1] if self.equations else None
        if last is not None and last.name is None and value == Ref(last.slot):
            self.equations[-1] = replace(last, name=name)
        self.scope[name] = value

    def unpack(self, target: ast.Tuple | ast.List, value: Operand, value_node: ast.expr) -> None:
        """`a, b = value` and `a, *b = value`."""
        parts = target.elts
        stars = [index for index, part in enumerate(parts) if isinstance(part, ast.Starred)]
        if len(stars) > 1:
            self.fail(ExpressionSyntaxError, target, "Only one name of an assignment can be starred.")
        known = isinstance(value, Pack) and not stars and not any(map(_is_star, value.items))
        if known and isinstance(value, Pack) and len(value.items) == len(parts):
            for part, item in zip(parts, value.items, strict=True):
                self.assign(part, item, value_node)
            return
        op = f"unpack:{len(parts)}" if not stars else f"unpack:{len(parts) - 1}+"
        for index, part in enumerate(parts):
            if isinstance(part, ast.Starred):
                end = Const(index + 1 - len(parts) or None)
                rest = Pack("slice", (Const(index), end, Const(None)))
                item: Operand = self.emit("op:getitem", (value, rest), value_node)
                self.assign(part.value, self.emit("builtin:list", (item,), value_node), value_node)
            else:
                at = index - len(parts) if stars and index > stars[0] else index
                item = self.emit(op, (value,), value_node, (("index", Const(at)),))
                self.assign(part, item, value_node)

    def set_item(self, target: ast.Subscript, value: Operand) -> None:
        """`y[i] = value`: an in-place step."""
        base = self.expr(target.value, 0)
        changed = self.emit("op:setitem", (base, self.subscript(target.slice, 1), value), target)
        if isinstance(target.value, ast.Name):
            self.scope[target.value.id] = changed

    def augmented(self, node: ast.AugAssign) -> Operand:
        """`y += 1` binds y to y + 1; `y[i] += 1` sets the item."""
        target = node.target
        if isinstance(target, ast.Attribute):
            self.fail(ForbiddenError, target, "Attributes can't be assigned.")
        load = ast.copy_location(
            ast.Name(target.id, ast.Load())
            if isinstance(target, ast.Name)
            else ast.Subscript(target.value, target.slice, ast.Load()),
            target,
        )
        value = self.binary(node.op, self.expr(load, 0), self.expr(node.value, 0), node)
        self.assign(target, value, node.value)
        return value

    # Expressions

    def expr(self, node: ast.expr, depth: int) -> Operand:
        """An expression; chains to the left (a+b+…, x.f().g()…) are walked without recursion."""
        chain: list[ast.expr] = []
        while True:
            if isinstance(node, ast.BinOp):
                chain.append(node)
                node = node.left
            elif isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and not self.dotted(node)):
                chain.append(node)
                node = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not self.dotted(node.func):
                chain.append(node)
                node = node.func.value
            else:
                break
        operand = self.leaf(node, depth + 1)
        for link in reversed(chain):
            operand = self.link(link, operand, depth + 1)
        return operand

    def link(self, node: ast.expr, left: Operand, depth: int) -> Operand:
        """One step of a chain, whose left side is lowered already."""
        if isinstance(node, ast.BinOp):
            return self.binary(node.op, left, self.expr(node.right, depth), node)
        if isinstance(node, ast.Subscript):
            return self.emit("op:getitem", (left, self.subscript(node.slice, depth)), node)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, left)
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        return self.method(node, node.func, left, depth)

    def leaf(self, node: ast.expr, depth: int) -> Operand:
        """What a chain begins with."""
        if depth > MAX_DEPTH:
            self.fail(LimitError, node, f"The expression nests more than {MAX_DEPTH} levels deep.",
                      hints=["Give parts a name: y = …; z = f(y)."])  # fmt: skip
        handler = self.LEAVES.get(type(node))
        if handler is None:
            self.refuse(node)
        return handler(self, node, depth)

    def constant(self, node: ast.Constant, depth: int) -> Operand:
        """A number, a string, None, ..., True or False."""
        if isinstance(node.value, bytes):
            self.fail(ForbiddenError, node, "Bytes are not part of the language.")
        return Const(node.value)

    def name(self, node: ast.Name, depth: int) -> Operand:
        """A name: assigned before, an input, or something that only makes sense in a call."""
        name = node.id
        if name in self.scope:
            return self.scope[name]
        if self.given is not None and name in self.given:
            return self.input(node)
        if name in catalog.ROOTS:
            hint = f"Call one of its functions, as in {name}.{'relu' if name == 'F' else 'sqrt'}(x)."
            self.fail(ForbiddenError, node, f"`{name}` is a namespace, not a value.", hints=[hint])
        if name in catalog.BUILTINS:
            self.fail(ForbiddenError, node, f"`{name}` is a function: call it, as in {name}(x).")
        if name.startswith("__"):
            self.fail(ForbiddenError, node, f"`{name}` is not part of the language: it is one of Python's internals.")
        if self.given is not None:
            self.unknown(node, name)
        return self.input(node)

    def input(self, node: ast.Name) -> Ref:
        """A free name: an input, numbered by first use."""
        self.inputs.setdefault(node.id, self.text.span(node))
        return Ref(list(self.inputs).index(node.id))

    def unary(self, node: ast.UnaryOp, depth: int) -> Operand:
        """-x, +x, ~x, not x; a signed number is a number."""
        operand = self.expr(node.operand, depth)
        self.no_text(operand, node)
        if isinstance(operand, Const) and type(operand.value) in (int, float, complex):
            if isinstance(node.op, ast.USub):
                return Const(-operand.value)
            if isinstance(node.op, ast.UAdd):
                return operand
        return self.emit(f"op:{OPERATORS[type(node.op)]}", (operand,), node)

    def binary(self, op: ast.operator, left: Operand, right: Operand, node: ast.expr | ast.stmt) -> Operand:
        """a + b and its like."""
        self.no_text(left, node)
        self.no_text(right, node)
        return self.emit(f"op:{OPERATORS[type(op)]}", (left, right), node)

    def no_text(self, operand: Operand, node: ast.AST) -> None:
        """Text is only ever an argument: `%` and `*` on it could format or grow it."""
        if isinstance(operand, Const) and isinstance(operand.value, str):
            self.fail(ForbiddenError, node, "Operators don't apply to text; it can only be an argument.")

    def compare(self, node: ast.Compare, depth: int) -> Operand:
        """a < b, and a < b < c as `a < b and b < c` with b evaluated once."""
        left = self.expr(node.left, depth)
        result: Operand | None = None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            if result is None:
                right = self.expr(comparator, depth)
                result = self.comparison(op, left, right, node)
            else:
                with self.block() as equations:
                    right = self.expr(comparator, depth)
                    inner = self.comparison(op, left, right, node)
                result = self.emit("and", (result,), node, bodies=(Block((), tuple(equations), inner),))
            left = right
        assert result is not None
        return result

    def comparison(self, op: ast.cmpop, left: Operand, right: Operand, node: ast.expr) -> Operand:
        """One comparison; `a in b` is `operator.contains(b, a)`."""
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self.emit("op:contains", (right, left), node)
            return found if isinstance(op, ast.In) else self.emit("op:not_", (found,), node)
        return self.emit(f"op:{OPERATORS[type(op)]}", (left, right), node)

    def boolean(self, node: ast.BoolOp, depth: int) -> Operand:
        """a and b, a or b."""
        op = "and" if isinstance(node.op, ast.And) else "or"
        result = self.expr(node.values[0], depth)
        for value in node.values[1:]:
            with self.block() as equations:
                inner = self.expr(value, depth)
            result = self.emit(op, (result,), node, bodies=(Block((), tuple(equations), inner),))
        return result

    def conditional(self, node: ast.IfExp, depth: int) -> Operand:
        """a if condition else b."""
        condition = self.expr(node.test, depth)
        bodies = []
        for branch in (node.body, node.orelse):
            with self.block() as equations:
                result = self.expr(branch, depth)
            bodies.append(Block((), tuple(equations), result))
        return self.emit("if", (condition,), node, bodies=tuple(bodies))

    def sequence(self, node: ast.Tuple | ast.List, depth: int) -> Operand:
        """[a, b, *c] and (a, b)."""
        kind = "list" if isinstance(node, ast.List) else "tuple"
        return Pack(kind, tuple(self.item(element, depth) for element in node.elts))

    def item(self, node: ast.expr, depth: int) -> Operand:
        """An argument or list element, maybe starred."""
        if isinstance(node, ast.Starred):
            return Pack("star", (self.expr(node.value, depth),))
        return self.expr(node, depth)

    def subscript(self, node: ast.expr, depth: int) -> Operand:
        """What stands in brackets: slices are allowed only there."""
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return Pack("slice", tuple(Const(None) if p is None else self.expr(p, depth) for p in parts))
        if isinstance(node, ast.Tuple):
            return Pack("tuple", tuple(self.star_or_subscript(element, depth) for element in node.elts))
        return self.expr(node, depth)

    def star_or_subscript(self, node: ast.expr, depth: int) -> Operand:
        """One axis of a subscript."""
        return self.item(node, depth) if isinstance(node, ast.Starred) else self.subscript(node, depth)

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp, depth: int, level: int = 0) -> Operand:
        """[f(a) for a in items if …]; further `for`s are loops inside, whose results are joined."""
        generator = node.generators[level]
        if generator.is_async:
            self.fail(ForbiddenError, node, "`async` is not part of the language.")
        items = self.expr(generator.iter, depth)
        outer = dict(self.scope)
        params = self.loop_target(generator.target)
        conditions = []
        for test in generator.ifs:
            with self.block() as equations:
                result = self.expr(test, depth)
            conditions.append(Block((), tuple(equations), result))
        nested = level + 1 < len(node.generators)
        with self.block() as equations:
            result = self.comprehension(node, depth, level + 1) if nested else self.expr(node.elt, depth)
        self.scope = outer
        body = Block(params, tuple(equations), result, tuple(conditions))
        return self.emit("loop:flat" if nested else "loop", (items,), node, bodies=(body,))

    def loop_target(self, target: ast.expr) -> Any:
        """The slots of a comprehension's variables, nested as they are."""
        if isinstance(target, ast.Name):
            slot = self.new_slot()
            self.bind(target, Ref(slot))
            return slot
        if isinstance(target, (ast.Tuple, ast.List)):
            return tuple(self.loop_target(part) for part in target.elts)
        self.fail(ExpressionSyntaxError, target, "A comprehension's variable must be a name or a tuple of names.")

    # Attributes and calls

    def dotted(self, node: ast.expr) -> list[str] | None:
        """`torch.linalg.inv` as its parts, if the root is a namespace (and not hidden by an input of that name)."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) < 8:
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.scope:
            return None
        if self.given is not None and node.id in self.given:
            return None
        if node.id not in catalog.ROOTS and (node.id not in FOREIGN_ROOTS or self.given is None):
            return None
        return [node.id, *reversed(parts)]

    def path(self, node: ast.Attribute, depth: int) -> Operand:
        """A path used as a value: a named constant, maybe with attributes of its own."""
        parts = self.dotted(node) or []
        for length in range(2, len(parts) + 1):
            path = catalog.canonical(".".join(parts[:length]))
            if catalog.is_constant(path):
                operand: Operand = Const(None, path)
                links = []
                while len(links) < len(parts) - length:
                    links.append(node)
                    node = node.value  # type: ignore[assignment]
                for link in reversed(links):
                    operand = self.attribute(link, operand)
                return operand
            if catalog.is_function(path):
                written = ".".join(parts[:length])
                if length < len(parts):
                    self.fail(ForbiddenError, node, f"Nothing can be read from the function `{written}`.")
                self.fail(ExpressionSyntaxError, node, f"`{written}` is a function: call it, as in {written}(…).")
        self.no_such_path(node, ".".join(parts))

    def no_such_path(self, node: ast.expr, written: str) -> NoReturn:
        """A path that doesn't resolve: forbidden with its reason, or unknown with the nearest right ones."""
        path = catalog.canonical(written)
        if path in catalog.NAMESPACES:
            self.fail(ForbiddenError, node, f"`{written}` is a namespace, not a value.")
        root, _, rest = written.partition(".")
        if root in FOREIGN_ROOTS and root not in catalog.ROOTS:
            near = catalog.suggest(f"{FOREIGN_ROOTS[root]}.{rest}") or catalog.suggest(written.rpartition(".")[2])
            self.fail(UnknownNameError, node, f"There is no `{root}` here; an expression has torch, math and F.",
                      hints=[f"Did you mean {hint}?" for hint in near])  # fmt: skip
        reason = catalog.why_forbidden(path)
        if reason:
            self.fail(ForbiddenError, node, f"`{written}` can't be used: {reason}.")
        near = [hint.replace("torch.nn.functional.", "F.") if root == "F" else hint for hint in catalog.suggest(path)]
        self.fail(UnknownNameError, node, f"There is no `{written}`.",
                  hints=[f"Did you mean {hint}?" for hint in near])  # fmt: skip

    def attribute(self, node: ast.Attribute, left: Operand) -> Operand:
        """x.T, or a field of a named result."""
        name = node.attr
        if catalog.is_attribute(name) and not (isinstance(left, Const) and isinstance(left.value, str)):
            return self.emit(f"attr:{name}", (left,), node)
        if catalog.is_method(name):
            self.fail(ExpressionSyntaxError, node, f"`.{name}` is a method: call it, as in .{name}().")
        self.no_such_member(node, name, left)

    def method(self, node: ast.Call, func: ast.Attribute, left: Operand, depth: int) -> Operand:
        """x.sum(0)."""
        name = func.attr
        if not catalog.is_method(name) or isinstance(left, (Const, Pack)):
            if catalog.is_attribute(name) and not catalog.is_method(name):
                self.fail(ExpressionSyntaxError, func, f"`.{name}` is a property, not a method: leave out the ().")
            self.no_such_member(func, name, left)
        return self.emit(f"method:{name}", (left, *self.arguments(node, depth)), node, self.keywords(node, depth))

    def no_such_member(self, node: ast.Attribute, name: str, left: Operand) -> NoReturn:
        """An attribute or method that nothing has, or that may not be used."""
        root, end = self.text.span(node.value)[1], self.text.span(node)[1]
        span = (root, end)
        if name.startswith("_"):
            self.fail(ForbiddenError, span,
                      f"`.{name}` can't be used: names that begin with an underscore are internals.")  # fmt: skip
        if isinstance(left, (Const, Pack)):
            kind = "text" if isinstance(getattr(left, "value", None), str) else "a constant"
            kind = {"list": "a list", "tuple": "a tuple"}.get(getattr(left, "kind", ""), kind)
            self.fail(ForbiddenError, span, f"`.{name}` can't be used on {kind}.")
        reason = catalog.why_forbidden(f"torch.Tensor.{name}") or {
            True: "it belongs to Python's own types, not to tensors",
        }.get(any(hasattr(kind, name) for kind in (str, list, dict, set)))
        if reason:
            self.fail(ForbiddenError, span, f"`.{name}` can't be used: {reason}.")
        near = catalog.suggest(f".{name}")
        self.fail(UnknownNameError, span, f"A tensor has no `.{name}`.",
                  hints=[f"Did you mean {hint}?" for hint in near])  # fmt: skip

    def call(self, node: ast.Call, depth: int) -> Operand:
        """torch.f(…) and builtins; methods are links of a chain."""
        func = node.func
        parts = self.dotted(func) if isinstance(func, ast.Attribute) else None
        if parts is not None:
            path = catalog.canonical(".".join(parts))
            if not catalog.is_function(path):
                assert isinstance(func, ast.Attribute)
                self.not_a_function(func, parts, path)
            return self.emit(f"call:{path}", self.arguments(node, depth), node, self.keywords(node, depth))
        if isinstance(func, ast.Name):
            self.check_callable(func)
            return self.emit(f"builtin:{func.id}", self.arguments(node, depth), node, self.keywords(node, depth))
        self.fail(ForbiddenError, func, "Only functions of torch, math and F, and methods of tensors can be called.")

    def not_a_function(self, func: ast.Attribute, parts: Sequence[str], path: str) -> NoReturn:
        """A called path that is no function of the catalogue."""
        written = ".".join(parts)
        for length in range(2, len(parts) + 1):
            prefix = catalog.canonical(".".join(parts[:length]))
            if catalog.is_constant(prefix):
                self.fail(ForbiddenError, func, f"`{written}` can't be called: it is a constant.")
            if catalog.is_function(prefix) and length < len(parts):
                self.fail(ForbiddenError, func, f"Nothing can be read from the function `{'.'.join(parts[:length])}`.")
        self.no_such_path(func, written)

    def check_callable(self, func: ast.Name) -> None:
        """A called bare name must be a builtin of the language, not hidden by an input or a variable."""
        name = func.id
        if name in self.scope or (self.given is not None and name in self.given):
            self.fail(ForbiddenError, func, f"`{name}` is a value here, and can't be called.")
        if name in catalog.BUILTINS:
            return
        near = catalog.suggest(name)
        if hasattr(builtins, name) and not any(hint.rpartition(".")[2] == name for hint in near):
            self.fail(ForbiddenError, func, f"`{name}` can't be called: of Python's own functions an expression has "
                      f"only {', '.join(catalog.BUILTINS)}.")  # fmt: skip
        if name.startswith("__"):
            self.fail(ForbiddenError, func, f"`{name}` is not part of the language: it is one of Python's internals.")
        self.fail(UnknownNameError, func, f"There is no function `{name}`.",
                  hints=[f"Did you mean {hint}?" for hint in near])  # fmt: skip

    def arguments(self, node: ast.Call, depth: int) -> tuple[Operand, ...]:
        """The positional arguments."""
        return tuple(self.item(argument, depth) for argument in node.args)

    def keywords(self, node: ast.Call, depth: int) -> tuple[tuple[str, Operand], ...]:
        """The keyword arguments."""
        lowered = []
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(ForbiddenError, keyword, "`**` can't be used in a call.")
            reason = catalog.FORBIDDEN_KEYWORDS.get(keyword.arg)
            if reason is None and keyword.arg.startswith("_"):
                reason = "names that begin with an underscore are internals"
            if reason:
                self.fail(ForbiddenError, keyword, f"The argument `{keyword.arg}=` can't be used: {reason}.")
            lowered.append((keyword.arg, self.expr(keyword.value, depth)))
        return tuple(lowered)

    # Equations and errors

    def emit(
        self,
        op: str,
        operands: tuple[Operand, ...],
        node: ast.AST,
        keywords: tuple[tuple[str, Operand], ...] = (),
        bodies: tuple[Block, ...] = (),
    ) -> Ref:
        """Append an equation."""
        slot = self.new_slot()
        self.equations.append(Equation(op, operands, slot, self.text.span(node), keywords, None, bodies))
        return Ref(slot)

    def new_slot(self) -> int:
        """A slot that nothing else uses."""
        self.slots += 1
        return self.slots - 1

    @contextmanager
    def block(self) -> Iterator[list[Equation]]:
        """Collect the equations of a body apart."""
        outer, self.equations = self.equations, []
        try:
            yield self.equations
        finally:
            self.equations = outer

    def unknown(self, node: ast.Name, name: str) -> NoReturn:
        """A free name that no input has."""
        assert self.given is not None
        near = catalog.suggest(name, sorted(self.given))
        function = next((hint for hint in near if hint.rpartition(".")[2] == name and "." in hint), None)
        if function:
            self.fail(UnknownNameError, node, f"`{name}` is not an input; the function is `{function}`.",
                      hints=[f"Write {function}, or give a value with --{name}."])  # fmt: skip
        hints = [f"Did you mean {hint}?" for hint in near if hint in self.given] or [f"Give it a value: --{name} VALUE."]
        self.fail(UnknownNameError, node, f"`{name}` has no value.", hints=hints)

    def refuse(self, node: ast.AST) -> NoReturn:
        """A node type that the language doesn't have."""
        reason = REFUSALS.get(type(node), f"`{type(node).__name__}` is not part of the language")
        self.fail(ForbiddenError, node, reason[:1].upper() + reason[1:] + ".")

    def fail(self, kind: type[JvpError], where: ast.AST | Span, message: str, hints: Sequence[str] = ()) -> NoReturn:
        """Refuse, with the place."""
        span = where if isinstance(where, tuple) else self.text.span(where)
        raise kind(message, hints=hints, span=span, source=self.text.source)

    LEAVES: dict[type[ast.AST], Callable[[_Lowering, Any, int], Operand]] = {
        ast.Constant: constant,
        ast.Name: name,
        ast.Attribute: path,
        ast.Call: call,
        ast.UnaryOp: unary,
        ast.Compare: compare,
        ast.BoolOp: boolean,
        ast.IfExp: conditional,
        ast.Tuple: sequence,
        ast.List: sequence,
        ast.ListComp: comprehension,
        ast.GeneratorExp: comprehension,
    }
    """The node types of the language that begin a chain; BinOp, Attribute, Subscript and method calls are its links."""


def _flat(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of nested tuples and lists."""
    if isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from _flat(part)
    elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Store):
        yield from _flat(node.value)
    else:
        yield node


def _base_name(node: ast.expr) -> str:
    """`y` of the target `y[0][1]`."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_star(operand: Operand) -> bool:
    """Whether an item stands for any number of items."""
    return isinstance(operand, Pack) and operand.kind == "star"
