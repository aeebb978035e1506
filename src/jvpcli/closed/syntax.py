"""What a program may be written with, and where the guards stand in it.

A program is compiled by Python itself once every node of its tree is of a list, and no name in it is one of Python's own. What
reads or sets an attribute, is imported, or may make a number or a text of any size, is handed to a guard first; so are the turns
of loops and functions, which are counted. The guards' names hold a colon, which no text can write.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jvpcli.errors import ForbiddenError

READ, SET, STORE, FETCH, TURN, OVER = "jvp:read", "jvp:set", "jvp:store", "jvp:fetch", "jvp:turn", "jvp:over"
BINARY, CHANGED, INSIDE, WITHIN, RESUMED = "jvp:", "jvp:in-place:", "jvp:inside", "jvp:within", "jvp:resumed"
COUNTED, GIVEN, PARTS, CAUGHT, FORMATTED = "jvp:counted", "jvp:given", "jvp:parts", "jvp:caught", "jvp:formatted"
YIELDED, KEPT, MATCHED = "jvp:yielded", "jvp:kept", "jvp:matched"
"""Names of the guards: of an attribute that is read or set, an item that is set, an import, a turn, and what a generator goes
through; of an operator, one with `=` (each with the name of its kind behind it), a function, a lambda, and a generator that goes
on; of what a list is made from, of what gives a value in the place of the program's own, of what is assigned to several names,
of an error that may end where it is handled, and of a format that is computed; of what a generator gives, of one that may
stop inside of a block with an end of its own, and of a class that something is matched with."""

ALLOWED = (
    ast.Module, ast.FunctionDef, ast.ClassDef, ast.Return, ast.Delete, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For,
    ast.While,
    ast.If, ast.With, ast.Raise, ast.Try, ast.Assert, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Expr, ast.Pass,
    ast.Break, ast.Continue, ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.Set,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.Compare, ast.Call,
    ast.FormattedValue,
    ast.JoinedStr, ast.Constant, ast.Attribute, ast.Subscript, ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice, ast.Load,
    ast.Store, ast.Del, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.comprehension, ast.ExceptHandler, ast.arguments,
    ast.arg, ast.keyword, ast.alias, ast.withitem, ast.Match, ast.match_case, ast.pattern,
)  # fmt: skip

WORDS = {
    "AsyncFunctionDef": "`async def`", "AsyncFor": "`async for`", "AsyncWith": "`async with`", "Await": "`await`",
    "TryStar": "`except*`", "TypeAlias": "a `type` statement", "TemplateStr": "a template string",
}  # fmt: skip
"""What Python writes, of what is not on the list."""

METHODS = frozenset(
    f"__{name}__"
    for name in (
        "init", "call", "len", "getitem", "setitem", "iter", "next", "contains", "repr", "str", "enter", "exit", "post_init",
        "eq",
        "ne", "lt", "le", "gt", "ge", "hash", "bool", "float", "int", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow",
        "matmul", "neg", "pos", "abs", "radd", "rsub", "rmul", "rtruediv", "rpow", "rmatmul", "iadd", "isub", "imul", "itruediv",
        "and", "or", "xor", "invert", "lshift", "rshift", "rand", "ror", "rxor", "rlshift", "rrshift", "rfloordiv", "rmod",
        "divmod", "delitem", "reversed", "round", "format", "missing", "copy", "complex", "ceil", "floor", "trunc", "rdivmod",
        "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor", "ilshift", "irshift", "get", "set", "delete", "set_name",
        "new", "getattr", "setattr", "delattr", "init_subclass", "class_getitem",
    )
)  # fmt: skip
"""Methods with a meaning for Python that a program's classes may have."""

SLOTS = "__slots__"

NOTED = frozenset({SLOTS, "__match_args__"}) | METHODS - {"__exit__"}
"""What may be assigned in a class by a name with a meaning for Python: what handles errors is a function with a guard."""

READABLE = METHODS | {"__name__", "__qualname__", "__class__", "__doc__", "__version__", "__dict__", "__wrapped__", "__members__"}
READABLE |= {"__cause__", "__context__", "__notes__"}
"""Attributes with a meaning for Python that a program may name; what an object gives of them is the guard's to say."""

UNBOUNDED = (ast.Mult, ast.Pow, ast.LShift, ast.Mod)
"""Operators by which a few characters make a number, a text or a list of any size."""

WIDE = re.compile(r"\d{4}")
"""A width in a format, as of `f"{x:10000}"`, that makes a text of any size."""

MOST_NODES = 100_000
"""Nodes of a program's tree."""

TOLD = frozenset({"__author__", "__version__", "__license__", "__copyright__", "__email__", "__date__", "__all__"})
"""Names by which a file tells about itself, without a meaning for Python as it runs."""


class NotAllowedError(Exception):
    """A program may not be written so.

    Args:
        node: what may not stand in it.
        what: that in words.
    """

    def __init__(self, node: ast.AST, what: str) -> None:
        super().__init__(what)
        self.node, self.what = node, what


def guarded(tree: ast.Module, code: str) -> ast.Module:
    """The program with its guards.

    Args:
        tree: the program.
        code: its text.

    Raises:
        ForbiddenError: something in it is not allowed; with its place.
    """
    try:
        found = ast.fix_missing_locations(_Guarding().visit(tree))
    except NotAllowedError as error:
        raise _refused(error.node, error.what, code) from None
    assert isinstance(found, ast.Module)
    return found


def _refused(node: Any, what: str, code: str) -> ForbiddenError:
    """A refusal of what stands at a node."""
    what = f"{what[:1].upper()}{what[1:]} can't be used"
    if not hasattr(node, "lineno"):
        return ForbiddenError(f"{what}.")
    whole = code.split("\n")[node.lineno - 1]
    guilty = (ast.get_source_segment(code, node) or whole).partition("\n")[0]
    source = whole.strip()
    start = max(source.find(guilty), 0)
    return ForbiddenError(f"{what} (line {node.lineno}).", span=(start, start + len(guilty)), source=source)


class _Guarding(ast.NodeTransformer):
    """Puts the guards into a program, and refuses what is on no list."""

    def __init__(self) -> None:
        self.count = 0
        self._held = 0
        self._class = ""
        self._in_class = False
        self._classes: list[ast.stmt] = []

    def visit(self, node: ast.AST) -> Any:
        self.count += 1
        if self.count > MOST_NODES:
            raise NotAllowedError(node, "a program of this length")
        if not isinstance(node, ALLOWED):
            raise NotAllowedError(node, WORDS.get(type(node).__name__, f"a `{type(node).__name__}`"))
        found: ast.AST = super().visit(node)
        return found

    # Names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        is_told = node.id in ("__name__", "__doc__", "__file__") and isinstance(node.ctx, ast.Load)
        if not is_told and not (self._in_class and node.id in NOTED):
            self._check(node, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self._check(node, node.arg)
        node.annotation = None
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self._check(node, node.arg or "")
        return self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        for name in node.names:
            self._check(node, name)
        return node

    visit_Nonlocal = visit_Global

    def _check(self, node: ast.AST, name: str) -> None:
        if name.startswith("__") and name not in TOLD:
            raise NotAllowedError(node, f"the name `{name}`")

    # Functions and classes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name not in METHODS:
            self._check(node, self._found(node.name))
        node.returns = None
        around, self._in_class = self._in_class, False
        self.generic_visit(node)
        self._in_class = around
        told = [node.body.pop(0)] if ast.get_docstring(node, clean=False) is not None else []
        if node.name == "__exit__":
            node.body.insert(0, self._caught(node))
        if _yields(node):
            node.body.insert(0, _at(node, ast.Expr(_at(node, _call(RESUMED, ast.Constant(None))))))
        if not _yields(node) or _stops_inside(node.body):
            body = _kept(node) if _yields(node) else node.body or [_at(node, ast.Pass())]
            node.body = [_at(node, ast.With([ast.withitem(_at(node, _call(INSIDE)))], body))]
        node.body = [*told, *node.body]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        if _yields(node):
            raise NotAllowedError(node, "a `yield` in a lambda")
        around, self._in_class = self._in_class, False
        self.generic_visit(node)
        self._in_class = around
        inner = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.body)
        node.body = _at(node.body, _call(WITHIN, _at(node.body, inner)))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._check(node, node.name)
        node.bases, node.decorator_list = [*map(self.visit, node.bases)], [*map(self.visit, node.decorator_list)]
        node.keywords = [*map(self.visit, node.keywords)]
        around, self._class, self._in_class = (self._class, self._in_class), node.name, True
        body = ast.Module(node.body, [])
        self.generic_visit(body)
        node.body = body.body
        self._class, self._in_class = around
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Types say nothing here; those of a class's fields make a dataclass, of which `ClassVar` makes none."""
        shared = node.value is not None and "ClassVar" in ast.unparse(node.annotation)
        if isinstance(node.target, ast.Name):
            self._check(node, node.target.id)
        if shared:
            return self.visit_Assign(_at(node, ast.Assign([node.target], node.value)))  # type: ignore[arg-type]
        node.annotation = _at(node, ast.Constant("Any"))
        if node.value is not None:
            node.value = self.visit(node.value)
        node.target = self.visit(node.target)
        if node.value is None and not isinstance(node.target, ast.Name):
            return _at(node, ast.Pass())
        return node

    def _found(self, name: str) -> str:
        """The name that Python finds an attribute by: that of `self.__a` in a class `C` is `_C__a`."""
        inner = self._class.lstrip("_")
        return f"_{inner}{name}" if inner and name.startswith("__") and not name.endswith("__") else name

    # Turns

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, self._turn(node))
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, self._turn(node))
        return node

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        self.generic_visit(node)
        for each in node.generators:
            each.iter = _at(each.iter, _call(OVER if isinstance(node, ast.GeneratorExp) else COUNTED, each.iter))
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _turn(self, node: ast.stmt) -> ast.stmt:
        return _at(node, ast.Expr(_at(node, _call(TURN))))

    # Assignments, attributes, imports, operators

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        parts = next(filter(None, map(_parts, node.targets)), None)
        if parts is not None and not isinstance(node.value, (ast.Tuple, ast.List)):
            node.value = _at(node.value, _call(PARTS, node.value, ast.Constant(parts)))
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = self._found(node.attr)
        if name.startswith("__") and name not in READABLE:
            raise NotAllowedError(node, f"the attribute `{node.attr}`")
        self.generic_visit(node)
        guard = READ if isinstance(node.ctx, ast.Load) else SET
        node.value = _at(node, _call(guard, node.value, ast.Constant(name)))  # its refusal is of the whole attribute
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Store):
            known = [node.slice] if isinstance(node.slice, (ast.Name, ast.Constant)) else []
            node.value = _at(node.value, _call(STORE, node.value, *known))
        return node

    def visit_Import(self, node: ast.Import) -> Sequence[ast.stmt]:
        return [self._bound(node, alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else
                            alias.name.partition(".")[0]) for alias in node.names]  # fmt: skip

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Sequence[ast.stmt]:
        if node.level:
            raise NotAllowedError(node, "a relative import")
        if any(alias.name == "*" for alias in node.names):
            return [_at(node, ast.Expr(_call(FETCH, ast.Constant(node.module or ""), ast.Constant("*"))))]
        return [self._bound(node, alias.asname or alias.name, node.module or "", alias.name) for alias in node.names]

    def _bound(self, node: ast.stmt, name: str, *path: str) -> ast.stmt:
        self._check(node, name)
        return _at(node, ast.Assign([ast.Name(name, ast.Store())], _call(FETCH, *map(ast.Constant, path))))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, UNBOUNDED) or _is_small(node.op, node.left, node.right):
            return node
        return _at(node, _call(BINARY + type(node.op).__name__, node.left, node.right))

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """`a.b op= c` reads `a.b` and sets it, each through its guard; what stands before the last name is found once.

        `a op= c` stays what it is where nothing gets large by it.
        """
        target, before = node.target, list[ast.stmt]()
        if isinstance(target, ast.Name) and not isinstance(node.op, UNBOUNDED):
            self.generic_visit(node)
            return [node]

        def once(part: ast.expr) -> ast.expr:
            if isinstance(part, ast.Constant):
                return part
            if isinstance(part, ast.Tuple):
                return _at(part, ast.Tuple([once(each) for each in part.elts], ast.Load()))
            if isinstance(part, ast.Slice):
                return _at(part, ast.Slice(*(each and once(each) for each in (part.lower, part.upper, part.step))))
            self._held += 1
            name = f"jvp:held{self._held}"
            before.append(_at(node, ast.Assign([_at(part, ast.Name(name, ast.Store()))], self.visit(part))))
            return _at(part, ast.Name(name, ast.Load()))

        def places(make: Callable[[ast.expr_context], ast.expr]) -> list[ast.expr]:
            made: list[Any] = [self.visit(_at(target, make(ctx))) for ctx in (ast.Load(), ast.Store())]
            return made

        if isinstance(target, ast.Name):
            load, store = places(partial(ast.Name, target.id))
        elif isinstance(target, ast.Attribute):
            load, store = places(partial(ast.Attribute, once(target.value), target.attr))
        else:
            load, store = places(partial(ast.Subscript, once(target.value), once(target.slice)))
        value: Any = self.visit(node.value)
        changed = _at(node, _call(CHANGED + type(node.op).__name__, load, value))
        return [*before, _at(node, ast.Assign([store], changed))]

    # Patterns

    def visit_Match(self, node: ast.Match) -> list[ast.stmt]:
        """The classes of patterns are looked at first, each with the attributes that Python itself reads then."""
        around, self._classes = self._classes, []
        self.generic_visit(node)
        found, self._classes = [*self._classes, node], around
        return found

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        for name in node.kwd_attrs:
            if name.startswith("_"):
                raise NotAllowedError(node, f"the attribute `{name}` in a pattern")
        self.generic_visit(node)
        self._held += 1
        name = f"jvp:held{self._held}"
        asked = ast.Tuple([ast.Constant(each) for each in node.kwd_attrs], ast.Load())
        looked_at = _at(node.cls, _call(MATCHED, node.cls, ast.Constant(len(node.patterns)), asked))
        self._classes.append(_at(node, ast.Assign([ast.Name(name, ast.Store())], looked_at)))
        node.cls = _at(node.cls, ast.Name(name, ast.Load()))
        return node

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> ast.AST:
        self._check(node, node.name or "")
        return self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        self._check(node, node.rest or "")
        return self.generic_visit(node)

    # Texts

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        """A format that is computed is looked at as it is used."""
        spec = node.format_spec
        parts = spec.values if isinstance(spec, ast.JoinedStr) else []
        if any(isinstance(part, ast.Constant) and WIDE.search(str(part.value)) for part in parts):
            raise NotAllowedError(node, "a format of any width")
        node.value = self.visit(node.value)
        if spec is not None and not all(isinstance(part, ast.Constant) for part in parts):
            converted = node.value if node.conversion == -1 else _at(node, ast.FormattedValue(node.value, node.conversion, None))
            value = converted if converted is node.value else _at(node, ast.JoinedStr([converted]))
            found = _at(node, _call(FORMATTED, value, self.visit(spec)))
            return _at(node, ast.FormattedValue(found, -1, None))
        return node

    # Generators

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> ast.AST:
        self.generic_visit(node)
        node.value = _at(node, _call(YIELDED, node.value or ast.Constant(None)))
        return _at(node, _call(RESUMED, node))

    visit_YieldFrom = visit_Yield

    # Errors

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """What catches everything catches errors alone: not what ends the program."""
        if node.name is not None:
            self._check(node, node.name)
        self.generic_visit(node)
        if node.type is None:
            node.type = ast.Name("Exception", ast.Load())
        node.body.insert(0, self._caught(node))
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """What stands at the end of a `try` may leave a loop or a function, and the error with it."""
        self.generic_visit(node)
        if node.finalbody:
            node.finalbody.insert(0, self._caught(node.finalbody[0]))
        return node

    def _caught(self, node: ast.AST) -> ast.stmt:
        return _at(node, ast.Expr(_at(node, _call(CAUGHT))))


def _parts(target: ast.expr) -> Any:
    """How a target takes a value apart, as `words.Parts`; None: it does not, or into a number of parts that isn't written."""
    if not isinstance(target, (ast.Tuple, ast.List)) or any(isinstance(each, ast.Starred) for each in target.elts):
        return None
    return tuple(map(_parts, target.elts))


def _yields(function: ast.FunctionDef | ast.Lambda) -> bool:
    """Whether a function is a generator: it stops amid its body, with what it is inside of."""
    parts = list(function.body) if isinstance(function, ast.FunctionDef) else [function.body]
    while parts:
        part = parts.pop()
        if isinstance(part, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            parts.extend(ast.iter_child_nodes(part))  # type: ignore[arg-type]
    return False


def _stops_inside(body: Sequence[ast.AST], within: bool = False) -> bool:
    """Whether a generator may stop inside of a `with` or a `try`: what stands at their end runs when it is thrown away."""
    for part in body:
        if isinstance(part, (ast.Yield, ast.YieldFrom)) and within:
            return True
        inner = within or isinstance(part, (ast.With, ast.Try))
        if not isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)) and _stops_inside(
            list(ast.iter_child_nodes(part)), inner
        ):
            return True
    return False


def _kept(function: ast.FunctionDef) -> list[ast.stmt]:
    """The body of a function that has its generator kept, and gives it: the generator is a function inside of it."""
    own = function.args
    given = [*own.posonlyargs, *own.args, own.vararg, *own.kwonlyargs, own.kwarg]
    names = [each.arg for each in given if each is not None]
    taken = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    inner: Any = ast.FunctionDef(GENERATOR, taken, function.body, [])
    if sys.version_info >= (3, 12):
        inner.type_params = []
    call = ast.Call(ast.Name(GENERATOR, ast.Load()), [ast.Name(name, ast.Load()) for name in names], [])
    return [_at(function, inner), _at(function, ast.Return(_at(function, _call(KEPT, call))))]


GENERATOR = "jvp:generator"
"""The name of a generator inside of the function that has it kept."""


def _is_small(op: ast.operator, left: ast.expr, right: ast.expr) -> bool:
    """Whether an operand that is written out as a number keeps what an operator makes small."""
    if isinstance(op, ast.Mult):
        return any(_is_number(operand) for operand in (left, right))
    return isinstance(op, ast.Mod) and _is_number(left)


def _is_number(node: ast.expr) -> bool:
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= 1000)


def _call(guard: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(guard, ast.Load()), list(arguments), [])


def _at(place: ast.AST, node: Any) -> Any:
    """A node with the place of another, and its parts that have none."""
    return ast.copy_location(node, place)
