"""Text to Program: Python's syntax tree lowered to a flat list of equations, and refused where it isn't of the language.

What a text may say is in `expressions`; anything else is refused with a reason, before anything runs.  Loads no torch.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from jvpcli.attributes import cached_property
from jvpcli.errors import ExpressionSyntaxError, ForbiddenError, LimitError, Span
from jvpcli.language import catalog, limits, names, refusals
from jvpcli.language.expressions import MAX_DEPTH, OPERATORS, Expressions, flat_parts
from jvpcli.language.lowering import Scope
from jvpcli.language.source import SourceText, is_text, read_source
from jvpcli.program import CLEAR, Block, Const, Equation, Known, Operand, Pack, Program, Ref, refs, with_inner

SHORT = 1000
"""Texts up to so many characters are remembered with their programs: one request reads its text more than once."""

WORD = re.compile(r"\w+")
"""What may be a name."""


def read_program(source: str) -> tuple[SourceText, ast.Module]:
    """The text of a program and its syntax tree.

    Raises:
        ExpressionSyntaxError: with the place, in Python's own words.
        ForbiddenError: it has a class of its own, or a hook of a tensor, which only Python can run.
        LimitError: it is too long, or nests deeper than Python can read.
    """
    text, tree = read_source(source)
    for node in ast.walk(tree) if "class" in source or ".register_" in source else ():
        if isinstance(node, ast.ClassDef):
            span = head(source, text.span(node))
            line = source.count("\n", 0, span[0]) + 1
            raise refusals.of_class(node.name, line).with_context(span=span, source=source)
        if isinstance(node, ast.Attribute) and node.attr in HOOKS:  # which change gradients wherever the tensor is used
            raise refusals.hook(ast.unparse(node)).with_context(span=text.span(node), source=source)
    return text, tree


HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
"""Methods that give a tensor a hook."""


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
    names = None if input_names is None else frozenset(input_names)
    known = tuple((name, tuple(taken)) for name, taken in (functions or {}).items())
    return (_remembered if len(source) <= SHORT else _parse)(source, names, known)


def _parse(
    source: str, input_names: frozenset[str] | None, functions: tuple[tuple[str, tuple[str, ...]], ...]
) -> Program:
    text, tree = read_program(source)
    if functions:
        tree = names.with_modules_apart(tree)
    return lowered(text, tree, input_names, functions)


_remembered = lru_cache(maxsize=64)(_parse)


def lowered(
    text: SourceText,
    tree: ast.Module,
    input_names: frozenset[str] | None,
    functions: tuple[tuple[str, tuple[str, ...]], ...],
) -> Program:
    """The program of a tree that has been read of a text; as `parse`."""
    source = text.source
    tree.body = _that_matter(tree.body)
    is_program = names.is_program(tree, source)
    if is_program and text.pieces:
        raise LimitError("The program has an expression that is too long to be read.", source=source)
    made = names.constructed(tree) if functions else {}
    modules = {id(node): name for name, (node, _) in made.items() if name in dict(functions)}
    draws = False
    if modules:
        from jvpcli.language.dependence import drawing

        draws = any(map(drawing(tree.body, constructors=False), tree.body))
    assigned = [name for name in names.assigned(tree.body) if name not in made] if is_program else ()
    input_count = 0 if input_names is None else len({*WORD.findall(source)}.intersection(input_names))
    while True:  # the inputs take the first slots, so their number must be known before: most often that of their words
        scope = Scope(assigned=frozenset(assigned), inputs=names.read_first(tree.body)) if is_program else None
        program = _Statements(text, input_names, dict(functions), input_count, scope, modules, draws).program(tree)
        if len(program.inputs) == input_count:
            _refuse_function(program)
            return program
        input_count = len(program.inputs)  # a word was no input, or an input no word: it is lowered again


MAKERS = ("grad", "grad_and_value", "jacrev", "jacfwd", "hessian", "vmap")
"""Transforms that give a function of a function."""


def _refuse_function(program: Program) -> None:
    """Raises where the result is a function, which nothing calls."""
    made: dict[int, list[Equation]] = {}
    for each in with_inner(program.equations):
        made.setdefault(each.slot, []).append(each)

    def maker(operand: Operand) -> Equation | None:
        """What makes it, if it is a function in any case."""
        found = made.get(operand.slot, []) if isinstance(operand, Ref) else []
        equation = found[0] if len(found) == 1 else None
        if equation is None or equation.kind == "function":
            return equation
        of = equation.operands[0] if equation.operands else Const(None)
        if equation.op == "set":
            return maker(of)
        makes = equation.kind == "transform" and equation.target in MAKERS
        known = isinstance(of, Const) and isinstance(of.value, Known)
        return equation if makes and (known or maker(of)) else None

    for slot in refs(program.result):
        if (equation := maker(Ref(slot))) is not None:
            start, end = equation.span
            error = refusals.not_called(equation, program.source[start:end])
            raise error.with_context(span=equation.span, source=program.source)


def _that_matter(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements up to the last that gives something; `print(y)` there is y."""
    kept = list(statements)
    while len(kept) > 1 and _is_passed_over(kept[-1]):
        kept.pop()
    for last in kept[-1:]:
        printed = _printed(last)
        if len(printed) == 1:
            kept[-1] = ast.copy_location(ast.Expr(printed[0]), last)
    return kept


def _is_passed_over(node: ast.stmt) -> bool:
    """Whether a statement gives nothing to what follows: imports, assertions, a text, a look at the graph, `print` of text."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass, ast.Assert, ast.Delete)):
        return True
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    if is_text(node) or _is_look(node):
        return True
    return _is_print(node) and len(_printed(node)) != 1


def _is_look(node: ast.stmt) -> bool:
    """`y.grad_fn`, `y.shape` and the like, which a session shows: what there is to know of a value, and no number of it."""
    return isinstance(node, ast.Expr) and _looks(node.value)


def _looks(value: ast.expr) -> bool:
    if isinstance(value, ast.Tuple):
        return bool(value.elts) and all(map(_looks, value.elts))
    call = value if isinstance(value, ast.Call) and not value.keywords else None
    if call is not None and names.dotted(call.func) == "len":
        return len(call.args) == 1 and _is_read(call.args[0])
    method = call.func if call is not None and not call.args else None
    if isinstance(method, ast.Attribute):
        return method.attr in names.SIZES and _is_read(method.value)
    return isinstance(value, ast.Attribute) and value.attr in names.KNOWN_OF and _is_read(value.value)


def _is_read(node: ast.expr) -> bool:
    """`y`, `net.weight`, `grads[0]`, and no part of a namespace."""
    from jvpcli.language.statements import NAMESPACES

    while isinstance(node, ast.Attribute) or (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
        node = node.value
    return isinstance(node, ast.Name) and node.id not in NAMESPACES


def _is_print(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"


def _printed(node: ast.stmt) -> list[ast.expr]:
    """What `print` shows, but for texts."""
    if not _is_print(node):
        return []
    assert isinstance(node, ast.Expr)
    assert isinstance(node.value, ast.Call)
    shown = [part for part in node.value.args if not isinstance(part, (ast.JoinedStr, ast.Constant, ast.Starred))]
    return [part for part in shown if not _looks(part)]


class _Statements(Expressions):
    """The statements of a text, over its expressions."""

    level = 0
    in_loop = False
    default: str | None = None
    """The dtype that the text has set for new tensors so far."""
    has_made = False
    """Whether a module of the program stands above."""

    def program(self, tree: ast.Module) -> Program:
        """The whole text."""
        if not tree.body:
            raise ExpressionSyntaxError("The expression is empty.", source=self.text.source)
        self.tree = tree
        self.statements(tree.body[:-1])
        result, result_names = self.last(tree.body[-1])
        return Program(
            source=self.text.source,
            inputs=tuple(self.inputs),
            equations=tuple(self.equations),
            result=result,
            result_names=result_names,
            slots=self.slots,
            input_spans=tuple(self.input_spans),
            names=tuple(self.scope.names.items()),
            has_statements=self.is_program or self.derives,
            default=self.default,
            derived=tuple(name for name, slot in self.inputs.items() if self.accumulates or slot in self.derived),
        )

    # Statements

    @cached_property
    def shown(self) -> Collection[str]:
        """The names of nothing but formatted text."""
        parts = list(ast.walk(self.tree))
        stored = Counter(part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
        written = Counter(
            part.id for each in parts if isinstance(each, ast.Assign) and isinstance(each.value, ast.JoinedStr)
            for part in each.targets if isinstance(part, ast.Name)
        )  # fmt: skip
        return {name for name, count in written.items() if stored[name] == count}

    def statements(self, nodes: Sequence[ast.stmt]) -> None:
        """One after the other."""
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        """One statement."""
        from jvpcli.language.statements import is_setting, is_shown  # most texts are one expression

        if is_setting(node) or (is_shown(node) and not _is_print(node)):
            return
        if (default := names.default_set(node)) is not None:
            if default == (self.default or "torch.float32"):
                return  # as it is
            idle = ("random", "function", "set")  # a function computes nothing where it stands
            begun = any(each.kind not in idle for each in self.equations) or self.default is not None
            if self.level or self.around or begun or self.has_made:
                raise self.at(node, refusals.late_default())
            self.default = default
            return
        handler = STATEMENTS.get(type(node))
        if handler is None:
            raise self.at(head(self.text.source, self.text.span(node)), refusals.node(type(node)))
        handler(self, node)

    def expression(self, node: ast.Expr) -> None:
        """An expression for what it does: one that does nothing, and what is printed, is passed over."""
        method = names.method_of(node)
        if method == "zero_grad":
            module = self.module_path(node.value.func.value)  # type: ignore[attr-defined]
            known = bool(module) and any(name.startswith(f"{module}.") for name in self.parameters)
            self.emit(f"cleared:{module}" if known else CLEAR, (), node)
            self.derives = True
        elif method == "retain_grad":
            return  # what is asked says whose gradient it is
        elif method in ("eval", "train") and self.sets_mode(node.value.func.value):  # type: ignore[attr-defined]
            return  # modules are made so
        elif method == "requires_grad_" and isinstance(target := node.value.func.value, ast.Name):  # type: ignore[attr-defined]
            self.bind(target, self.expr(node.value, 0))
        elif method == "requires_grad_" and isinstance(target, ast.Subscript):  # what stands there becomes another
            raise self.at(target, refusals.leaf_behind(ast.unparse(target)))
        elif not isinstance(node.value, (ast.Constant, ast.Name)) and not (_is_print(node) or _is_look(node)):
            self.expr(node.value, 0)

    def module_path(self, node: ast.expr) -> str:
        """`net.body` of that path, which no name of the text's own stands for; empty of anything else."""
        path = ".".join(self.dotted(node) or []) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        return "" if self.is_value(path) else path

    def sets_mode(self, owner: ast.expr) -> bool:
        """Whether what has its mode set is a module that the program constructs."""
        return self.is_module(owner) or (isinstance(owner, ast.Name) and owner.id in self.modules.values())

    def assignment(self, node: ast.Assign) -> None:
        """`a = b = value`"""
        if isinstance(node.value, ast.JoinedStr) and all(getattr(target, "id", "") in self.shown for target in node.targets):
            self.texts.update(target.id for target in node.targets if isinstance(target, ast.Name))
            return  # text that is only printed; anything else that reads it is refused
        if self.is_module(node.value) and isinstance(node.targets[0], ast.Name):
            self.constructed(self.modules[id(names.without_mode(node.value))], node.value)  # it is made before the program runs
            self.has_made = True
            return
        value = self.expr(node.value, 0)
        for target in node.targets:
            self.assign(target, value, node.value)

    def annotated(self, node: ast.AnnAssign) -> None:
        """`a: Tensor = value`; without a value it says nothing."""
        if node.value is not None:
            self.assign(node.target, self.expr(node.value, 0), node.value)

    def passed_over(self, node: ast.stmt) -> None:
        """What neither gives nor changes anything."""

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        """Names for the language's namespaces and functions; nothing is imported."""
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            path = catalog.canonical(module + alias.name)
            name = alias.asname or (alias.name if module else alias.name.partition(".")[0])
            if alias.asname is None and not module:
                path = name
            if name == path and name in catalog.ROOTS:
                continue  # `import torch`: it is there
            self.scope.names.pop(name, None)
            self.imported_names[name] = path

    # Blocks

    @contextmanager
    def nested(self, node: ast.stmt, in_loop: bool | None = None) -> Iterator[None]:
        """The statements inside of a statement."""
        self.level += 1
        if self.level > MAX_DEPTH:
            raise self.at(node, LimitError(f"The program nests more than {MAX_DEPTH} levels deep."))
        outer, self.in_loop = self.in_loop, self.in_loop if in_loop is None else in_loop
        yield
        self.in_loop = outer
        self.level -= 1

    def inside(self, nodes: Sequence[ast.stmt], params: Any = ()) -> Block:
        """Statements as a body."""
        with self.block() as equations:
            self.statements(nodes)
        return Block(params, tuple(equations), Const(None))

    @contextmanager
    def without_graph(self, node: ast.AST) -> Iterator[None]:
        """What is lowered inside runs as under torch.no_grad(): so does a change of `.data`."""
        with self.block() as equations:
            yield
        self.emit("with:torch.no_grad", (), node, bodies=(Block((), tuple(equations), Const(None)),))

    def conditional_statement(self, node: ast.If) -> None:
        """`if`; `elif` is an `if` in what is else."""
        if names.is_main(node.test):
            self.statements(node.body)
            return
        condition = self.expr(node.test, 0)
        with self.nested(node):
            self.emit("if", (condition,), node, bodies=(self.inside(node.body), self.inside(node.orelse)))

    def for_statement(self, node: ast.For) -> None:
        """`for`, maybe with `else`."""
        items = self.expr(node.iter, 0)
        with self.nested(node, in_loop=True):
            params = self.loop_target(node.target, self.looping)
            body = self.inside(node.body, params)
        self.emit("for", (items,), node, bodies=(body, self.inside(node.orelse)))

    def looping(self, target: ast.Name) -> int:
        """The slot of a loop statement's variable, which goes on after the loop."""
        slot = self.variable(self.own_name(target.id, target), self.scope)
        self.scope.names[target.id] = slot
        return slot.slot

    def while_statement(self, node: ast.While) -> None:
        """`while`, maybe with `else`."""
        with self.nested(node, in_loop=True):
            condition, body = self.branch(node.test, 0), self.inside(node.body)
        self.emit("while", (), node, bodies=(condition, body, self.inside(node.orelse)))

    def with_statement(self, node: ast.With) -> None:
        """`with torch.no_grad():` and what else says whether gradients are recorded."""
        managers = [self.manager(item) for item in node.items]
        with self.nested(node):
            body = self.inside(node.body)
        for item, (path, arguments) in reversed(list(zip(node.items, managers, strict=True))):
            with self.block() as equations:
                self.emit(f"with:{path}", arguments, item.context_expr, bodies=(body,))
            body = Block((), tuple(equations), Const(None))
        self.equations += body.equations

    def manager(self, item: ast.withitem) -> tuple[str, tuple[Operand, ...]]:
        """What follows `with`: its path and arguments."""
        call = item.context_expr
        func = call.func if isinstance(call, ast.Call) else call
        path = self.mode(func)
        if path not in MANAGERS or item.optional_vars is not None:
            raise self.at(item.context_expr, refusals.manager(MANAGERS))
        return path, self.arguments(call, 0) if isinstance(call, ast.Call) else ()

    def mode(self, func: ast.expr) -> str:
        """The path of `torch.no_grad`, which stands in torch.autograd, too."""
        path = ".".join(self.dotted(func) or []) if isinstance(func, (ast.Name, ast.Attribute)) else ""
        return path.replace("torch.autograd.", "torch.").replace("torch.grad_mode.", "torch.")

    def definition(self, node: ast.FunctionDef) -> None:
        """`def`"""
        modes = node.decorator_list
        for mode in modes:
            if self.mode(mode.func if isinstance(mode, ast.Call) else mode) not in MANAGERS:
                raise self.at(mode, refusals.decorator(MANAGERS))
        if modes:  # `@torch.no_grad()`: what the function does, it does inside of that
            inside = ast.copy_location(ast.With([ast.withitem(mode) for mode in modes], node.body), node)
            node = ast.copy_location(ast.FunctionDef(node.name, node.args, [inside], []), node)
        with self.nested(node, in_loop=False):
            made = self.function(node, 0)
        self.bind(ast.copy_location(ast.Name(node.name, ast.Store()), node), made)

    def function_body(self, node: ast.Lambda | ast.FunctionDef, depth: int) -> Operand:
        """What a function gives where it doesn't return before its end."""
        if isinstance(node, ast.Lambda):
            return super().function_body(node, depth)
        self.statements(node.body)
        return Const(None)

    def returned(self, node: ast.Return) -> None:
        """`return`"""
        if not self.around:
            raise self.at(node, ExpressionSyntaxError("`return` stands outside of a function."))
        self.emit("return", (Const(None) if node.value is None else self.expr(node.value, 0),), node)

    def leaving(self, node: ast.Break | ast.Continue) -> None:
        """`break`, `continue`"""
        kind = "break" if isinstance(node, ast.Break) else "continue"
        if not self.in_loop:
            raise self.at(node, ExpressionSyntaxError(f"`{kind}` stands outside of a loop."))
        self.emit(kind, (), node)

    def deletion(self, node: ast.Delete) -> None:
        """`del y`, `del items[i]`; `del x.grad` is `x.grad = None`."""
        for target in node.targets:
            for part in flat_parts(target):
                if isinstance(part, ast.Subscript):
                    self.emit("delitem", (self.expr(part.value, 0), self.subscript(part.slice, 1)), part)
                elif isinstance(part, ast.Attribute):
                    self.assign(part, Const(None), part)
                elif isinstance(part, ast.Name) and isinstance(value := self.value_of(part.id), Ref):
                    self.emit("unset", (value,), part)

    def raising(self, node: ast.Raise) -> None:
        """`raise`: an error where it is reached."""
        self.emit("raise", (), node)

    # The end, and assignments

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
        target = _last_target(node)
        if target is None:
            raise self.at(head(self.text.source, self.text.span(node)), refusals.no_result(node))
        result_names = [_base_name(part) for part in flat_parts(target)]
        if any(name not in self.scope.names for name in result_names):  # a module is no value
            raise self.at(node, refusals.no_result(node))
        results = [self.name(ast.copy_location(ast.Name(name), target), 0) for name in result_names]
        if not isinstance(target, (ast.Tuple, ast.List)):
            return results[0], (result_names[0],)
        return limits.pack("tuple", results), tuple(result_names)

    def assigned_name(self, node: ast.expr) -> str | None:
        """The name, if `node` is one that the text assigned."""
        return node.id if isinstance(node, ast.Name) and node.id in self.scope.names else None

    def assign(self, target: ast.expr, value: Operand, value_node: ast.expr) -> None:
        """Bind a target to a value."""
        if isinstance(target, ast.Name):
            self.bind(target, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target, value, value_node)
        elif isinstance(target, ast.Subscript) and (place := _of_data(target)) is not None and self.is_program:
            with self.without_graph(target):
                self.set_item(place, self.expr(place.value, 0), self.subscript(place.slice, 1), value)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, self.expr(target.value, 0), self.subscript(target.slice, 1), value)
        elif isinstance(target, ast.Attribute) and target.attr == "grad" and value == Const(None):
            self.emit(CLEAR, (self.expr(target.value, 0),), target)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and self.is_program and (
            target.attr == "data" or (target.attr == "requires_grad" and value == Const(True))
        ):
            self.assign_attribute(target, target.value, value, value_node)
        elif isinstance(target, ast.Attribute):
            raise self.at(target, ForbiddenError("Attributes can't be assigned."))
        else:
            raise self.at(target, refusals.node(type(target)))

    def assign_attribute(self, target: ast.Attribute, owner: ast.Name, value: Operand, value_node: ast.expr) -> None:
        """`x.requires_grad = True`; `w.data = value`, which fills it as under torch.no_grad()."""
        held = self.expr(owner, 0)
        if target.attr == "requires_grad":
            self.bind(owner, self.emit("derive:open", (held,), target))
            return
        with self.without_graph(target):
            fitting = self.emit("derive:refill", (value, held), value_node)
            self.emit("method:copy_", (held, fitting), target)

    def unpack(self, target: ast.Tuple | ast.List, value: Operand, value_node: ast.expr) -> None:
        """`a, b = value` and `a, *b = value`."""
        parts = target.elts
        stars = [index for index, part in enumerate(parts) if isinstance(part, ast.Starred)]
        if len(stars) > 1:
            raise self.at(target, ExpressionSyntaxError("Only one name of an assignment can be starred."))
        written = value.items if isinstance(value, Pack) else ()
        is_open = any(isinstance(item, Pack) and item.kind == "star" for item in written)  # which stands for any number
        if not stars and len(written) == len(parts) and not is_open:
            items = [self.settled(item, value_node) for item in written]
            for part, item in zip(parts, items, strict=True):
                self.assign(part, item, value_node)
            return
        value = self.settled(value, value_node)
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
        if not _base_name(target):
            raise self.at(target, ForbiddenError("Only items of a name can be assigned."))
        self.emit("op:setitem", (base, key, value), target)

    def augmented(self, node: ast.AugAssign) -> None:
        """`y += 1` changes y in place where y is a tensor; `y[i] += 1` so changes the item, and then sets it, as in Python."""
        target = node.target
        if isinstance(target, ast.Subscript) and (place := _of_data(target)) is not None and self.is_program:
            with self.without_graph(node):
                self.augmented(ast.copy_location(ast.AugAssign(place, node.op, node.value), node))
            return
        if isinstance(target, ast.Attribute) and target.attr == "data" and self.is_program:
            with self.without_graph(node):
                self.changed(node, self.expr(target.value, 0))
            return
        if isinstance(target, ast.Attribute) and target.attr == "grad":
            self.changed(node, self.expr(target, 0))
            return
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


MANAGERS = frozenset({"torch.no_grad", "torch.enable_grad", "torch.inference_mode", "torch.set_grad_enabled"})
"""What may follow `with`."""

STATEMENTS: Mapping[type[ast.stmt], Callable[[_Statements, Any], None]] = {
    ast.Expr: _Statements.expression,
    ast.Assign: _Statements.assignment,
    ast.AugAssign: _Statements.augmented,
    ast.AnnAssign: _Statements.annotated,
    ast.Import: _Statements.imports,
    ast.ImportFrom: _Statements.imports,
    ast.Pass: _Statements.passed_over,
    ast.Assert: _Statements.passed_over,
    ast.Delete: _Statements.deletion,
    ast.If: _Statements.conditional_statement,
    ast.For: _Statements.for_statement,
    ast.While: _Statements.while_statement,
    ast.With: _Statements.with_statement,
    ast.FunctionDef: _Statements.definition,
    ast.Return: _Statements.returned,
    ast.Break: _Statements.leaving,
    ast.Continue: _Statements.leaving,
    ast.Raise: _Statements.raising,
}
"""The statements of the language."""


def head(source: str, span: Span) -> Span:
    """The place of a statement, of a block its first line alone."""
    start, end = span
    line = source.find("\n", start, end)
    return start, end if line < 0 else line


def _last_target(node: ast.stmt) -> ast.expr | None:
    """What the last statement assigns: of a loop, what the last of its statements does."""
    if isinstance(node, ast.Assign):
        return node.targets[0]
    if isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value is not None):
        return node.target
    inside = node.body if isinstance(node, (ast.For, ast.While, ast.With, ast.If)) else []
    return _last_target(inside[-1]) if inside else None


def _of_data(target: ast.Subscript) -> ast.Subscript | None:
    """`w[0]` of `w.data[0]`, which is set as under torch.no_grad(); None for items of anything else."""
    held = target.value
    if isinstance(held, ast.Subscript):
        inner = _of_data(held)
        return None if inner is None else ast.copy_location(ast.Subscript(inner, target.slice, target.ctx), target)
    if not isinstance(held, ast.Attribute) or held.attr != "data" or not isinstance(held.value, ast.Name):
        return None
    return ast.copy_location(ast.Subscript(held.value, target.slice, target.ctx), target)


def _base_name(node: ast.expr) -> str:
    """`y` of the target `y[0][1]`; empty where there is none."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
