"""What lowering has at hand: the equations so far, what each name stands for, and places for errors.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from jvpcli.errors import ForbiddenError, JvpError, LimitError, Span
from jvpcli.language import catalog, limits, refusals
from jvpcli.language.source import SourceText
from jvpcli.program import IMPORTED, Block, Const, Equation, Known, Operand, Pack, Ref, refs


@dataclass
class Scope:
    """The names of a text, or of one of its functions.

    Attributes:
        names: what each name stands for, as far as it has been lowered.
        assigned: of a program with blocks or functions, all names that it assigns: each has a slot, which is set anew
            by every assignment as it runs.  Empty in any other text.
        inputs: those of them that are read before, and so are inputs.
        slots: the slots of the assigned names.
    """

    names: dict[str, Operand] = field(default_factory=dict)
    assigned: Collection[str] = ()
    inputs: Collection[str] = ()
    slots: dict[str, Ref] = field(default_factory=dict)


class Lowering:
    """One pass over a syntax tree.

    Attributes:
        scope: the names of the text or function that is being lowered; `around`: those of what is around it.
        is_program: whether names get their values as the text runs (`names.is_program`).
        imported_names: what `import` gives a name to: a path of the catalogue's.
        modules: the names of the modules that constructors in the text make, by the identity of their nodes.
        draws: whether the text may draw random numbers besides.
        texts: names of formatted text, which nothing may read.
        derives: whether there is a derivative call; `derived`: slots that one asks for; `accumulates`: whether one asks for the
            leaves that there are, `backward` without `inputs`.
    """

    def __init__(
        self,
        text: SourceText,
        input_names: Collection[str] | None,
        functions: Mapping[str, Sequence[str]],
        input_count: int,
        scope: Scope | None = None,
        modules: Mapping[int, str] | None = None,
        draws: bool = False,
    ) -> None:
        self.text = text
        self.given = None if input_names is None else frozenset(input_names)
        self.functions = functions
        self.parameters = tuple(dict.fromkeys(name for taken in functions.values() for name in taken))
        self.function_roots = frozenset(name.partition(".")[0] for name in functions)
        self.slots = input_count
        self.equations: list[Equation] = []
        self.is_program = scope is not None
        self.modules = modules or {}
        self.draws = draws
        self.scope = scope or Scope()
        self.around: list[Scope] = []
        self.imported_names: dict[str, str] = {}
        self.texts: set[str] = set()
        self.derives = self.accumulates = False
        self.derived: set[int] = set()
        self.inputs: dict[str, int] = {}
        self.input_spans: list[Span] = []

    # Names

    def value_of(self, name: str) -> Operand | None:
        """What a name that the text assigns stands for here; None for any other."""
        if name in self.scope.names:
            return self.scope.names[name]
        for scope in reversed(self.around):
            if name in scope.names:
                return scope.names[name]
            if name in scope.assigned and name not in scope.inputs:
                return self.variable(name, scope)
        return None

    def variable(self, name: str, scope: Scope) -> Ref:
        """The slot of a name that a scope assigns as it runs."""
        if name not in scope.slots:
            scope.slots[name] = Ref(self.new_slot())
        return scope.slots[name]

    def is_value(self, name: str) -> bool:
        """Whether a name stands for a value: assigned, or given as an input."""
        return self.value_of(name) is not None or (self.given is not None and name in self.given)

    def name(self, node: ast.Name, depth: int) -> Operand:
        """A name: assigned before, an input, or something that only makes sense in a call."""
        name = node.id
        value = self.value_of(name)
        if name in self.texts and value is None:
            raise self.at(node, refusals.node(ast.JoinedStr))
        if value is not None:
            return value
        if self.given is None:
            is_input = name not in catalog.ROOTS and name not in catalog.BUILTINS and not name.startswith("__")
        else:
            is_input = name in self.given
        if name in self.parameters:
            return self.input(name, node)
        if name in self.functions and self.is_program:
            return self.function_value(name, node)
        if name in self.function_roots and not (is_input and self.given):
            kind = "a module" if name in self.modules.values() else "an imported function"
            raise self.at(node, ForbiddenError(f"`{name}` is {kind}: call it, as in {name}(x)."))
        if not is_input:
            raise self.at(node, refusals.value_name(name, self.given or ()))
        return self.input(name, node)

    def function_value(self, name: str, node: ast.AST) -> Operand:
        """An imported function, or a module, as a value."""
        reads = tuple((parameter, self.input(parameter, node)) for parameter in self.functions[name])
        return Const(Known(f"call:{IMPORTED}{name}", reads))

    def input(self, name: str, node: ast.AST) -> Ref:
        """The slot of an input that `node` uses."""
        if name not in self.inputs:
            self.inputs[name] = len(self.inputs)
            self.input_spans.append(self.text.span(node))
        slot = Ref(self.inputs[name])
        for scope in (self.scope, *self.around):
            if name in scope.inputs:
                scope.names[name] = scope.slots[name] = slot
        return slot

    def bind(self, target: ast.Name, value: Operand) -> None:
        """Give a value a name; the equation that makes it remembers its first one."""
        name = self.own_name(target.id, target)
        last = self.equations[-1] if self.equations else None
        if last is not None and last.name is None and value == Ref(last.slot):
            self.equations[-1] = replace(last, name=name)
        if name in self.scope.assigned:
            slot = self.variable(name, self.scope)
            self.equations.append(Equation("set", (value,), slot.slot, self.text.span(target)))
            value = slot
        self.scope.names[name] = value

    def own_name(self, name: str, node: ast.AST) -> str:
        """A name that the text may give to a value."""
        if name in ("torch", "math") or name.startswith("__"):
            raise self.at(node, ForbiddenError(f"`{name}` can't be assigned."))
        return name

    def settled(self, operand: Operand, node: ast.AST) -> Operand:
        """An operand that no later assignment to a name changes."""
        return operand if not self.is_program or next(refs(operand), None) is None else self.emit("set", (operand,), node)

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
        if slot > limits.MAX_STEPS:
            raise self.at(node, LimitError(f"The expression has more than {limits.MAX_STEPS:,} steps."))
        self.equations.append(Equation(op, operands, slot, self.text.span(node), keywords, None, bodies))
        if op.startswith("derive:"):
            self.derives = True
            named = [operand for name, operand in keywords if name == "inputs"]
            self.accumulates |= op == "derive:backward" and not named
            self.derived.update(slot for operand in (*named, *operands) for slot in refs(operand))
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

    def pack(self, kind: str, items: list[Operand], node: ast.AST) -> Pack:
        """A list or tuple within the limits."""
        try:
            return limits.pack(kind, items)
        except LimitError as error:
            raise self.at(node, error) from None

    def no_text(self, operand: Operand, node: ast.AST) -> Operand:
        """Text is only ever an argument: `%` and `*` on it could format or grow it."""
        if isinstance(operand, Const) and isinstance(operand.value, str):
            raise self.at(node, ForbiddenError("Operators don't apply to text; it can only be an argument."))
        return operand

    def at(self, where: ast.AST | Span, error: JvpError) -> JvpError:
        """The error with its place."""
        span = where if isinstance(where, tuple) else self.text.span(where)
        return error.with_context(span=span, source=self.text.source)
