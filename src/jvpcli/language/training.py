"""What the optimizers of a program move, and by which statements.  Only the text is read; no torch is loaded."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from jvpcli.errors import ForbiddenError
from jvpcli.language.calls import is_backward, is_block, path, without_places
from jvpcli.language.dependence import changed, makers, root_of, running
from jvpcli.language.expressions import USUAL
from jvpcli.language.names import (
    assigned,
    class_of,
    copied,
    free_names,
    imported_paths,
    read_first,
    separated,
)
from jvpcli.language.statements import NAMESPACES, all_read, cleared, is_passed_over, names_made, unused_name


@dataclass(frozen=True)
class Training:
    """The optimizers and schedules of a program.

    Attributes:
        moved: by the names of optimizers, and of the functions that step them, the names that their parameters are made of.
        schedules: the names of what moves learning rates.
        modules: the names of modules.
        searching: the names of the optimizers that ask for gradients at several places in a step.
    """

    moved: Mapping[str, frozenset[str]]
    schedules: frozenset[str]
    modules: frozenset[str]
    searching: frozenset[str] = frozenset()

    @classmethod
    def of(cls, statements: Sequence[ast.stmt]) -> Training:
        """Those of some statements."""
        paths = {**USUAL, **imported_paths(ast.Module([*statements], []))}
        moved: dict[str, frozenset[str]] = {}
        schedules: set[str] = set()
        modules: set[str] = set()
        searching: set[str] = set()
        statements = [each for part in statements for each in (separated(part) if isinstance(part, ast.Assign) else [part])]
        parts = [(place, part) for place, part in enumerate(statements) if isinstance(part, ast.Assign)]
        for place, each in parts:
            call, names = each.value, names_made(each)
            kind = _meant(call, paths)
            made = call  # `Net()` of `Net().to(device).train()`
            while isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and isinstance(made.func.value, ast.Call):
                made = made.func.value
            if isinstance(made, ast.Call) and class_of(made.func, paths):
                modules |= {*names}
            if isinstance(call, ast.Name) and call.id in moved:  # by another name
                moved |= dict.fromkeys(names, moved[call.id])
            elif isinstance(call, ast.Name) and call.id in schedules:
                schedules |= {*names}
            if not isinstance(call, ast.Call) or len(names) != 1 or not kind.startswith("torch.optim."):
                continue
            if kind.startswith("torch.optim.lr_scheduler."):
                schedules.add(names[0])
            else:
                searching |= {*names} if kind.endswith(".LBFGS") else set()
                moved[names[0]] = frozenset(all_read(free_names(call), statements[:place]) - NAMESPACES - {"optim"})
        named = {id(each.value) for _, each in parts}
        for place, part in enumerate(statements):  # those without a name of their own
            for node in ast.walk(part):
                kind = _meant(node, paths)
                if id(node) not in named and kind.startswith("torch.optim.") and ".lr_scheduler." not in kind:
                    read = all_read(free_names(node), statements[:place]) - NAMESPACES - {"optim"}
                    moved[""] = moved.get("", frozenset()) | read
        found = cls(moved, frozenset(schedules), frozenset(modules), frozenset(searching))
        for part in statements if moved else ():
            if isinstance(part, ast.FunctionDef) and (inside := found.moves(*part.body)):
                moved[part.name] = frozenset(inside)
        return found

    def moves(self, *statements: ast.stmt) -> set[str]:
        """The names of what some statements move: by optimizers, or by hand along what they derive themselves."""
        return set().union(*map(self._moves, statements))

    def _moves(self, statement: ast.stmt) -> set[str]:
        nodes = list(running(statement))
        names = [path(node.func) for node in nodes if isinstance(node, ast.Call)]
        known = {*self.moved, *self.schedules}
        found = set().union(*(self.moved.get(name.removesuffix(".step"), ()) for name in names))
        if any(name.endswith(".step") and name.removesuffix(".step") not in known for name in names):
            found |= set().union(*self.moved.values())  # whichever it is: `for opt in (first, second): opt.step()`
        if isinstance(statement, ast.With) and any("no_grad" in ast.unparse(each.context_expr) for each in statement.items):
            found |= {*changed(statement), *_augmented(statement)} & set().union(*self.moved.values())
        if any(name.rpartition(".")[2] in ("backward", "grad") for name in names):
            found |= {root_of(node.iter) for node in nodes if is_by_hand(node)}
        return found

    def changes(self, statements: Sequence[ast.stmt]) -> set[str]:
        """The names of what some statements move, by optimizers or in any other way."""
        augmented = (_augmented(part) for part in statements)
        return self.moves(*statements).union(*map(changed, statements), *augmented)

    def clears(self, *statements: ast.stmt) -> set[str]:
        """Of the names that optimizers move, those whose gradients some statements clear."""
        every, found = set().union(*self.moved.values()), set[str]()
        for part in (part for each in statements for part in running(each) if isinstance(part, ast.stmt) and not is_block(part)):
            value = part.value if isinstance(part, ast.Expr) else None
            owner = path(value.func).removesuffix(".zero_grad") if isinstance(value, ast.Call) else ""
            names = cleared(part)
            found |= self.moved.get(owner, {owner} if owner in self.modules else every) if "*" in names else names
        return found

    def derives(self, statement: ast.stmt) -> bool:
        """Whether a statement calls backward, or what moves weights as it does so: `train(net)`, `optimizer.step(closure)`."""
        calls = [node for node in running(statement) if isinstance(node, ast.Call)]
        within = any(path(call.func) in self.moved or (path(call.func).endswith(".step") and call.args) for call in calls)
        return any(map(is_backward, calls)) or (within and bool(self.moves(statement)))

    def carries(self, statement: ast.stmt) -> bool:
        """Whether a statement does something to parameters, or to how the next step is made."""
        calls = [path(node.func) for node in running(statement) if isinstance(node, ast.Call)]
        steps = any(name.endswith(".step") and name[:-5] in self.schedules for name in calls)
        return steps or bool(self.moves(statement))

    def stale(self, statements: Sequence[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
        """The statements that compute with what has some names before a later one moves it."""
        eachof: dict[str, set[str]] = {name: {name} for name in names}
        same = {*names, *self.moved, *self.schedules}.union(*self.moved.values())  # what a step moves where it is
        computed: list[set[str]] = []
        for part in statements:
            own = {name.partition(".")[0] for name in (*assigned([part]), *changed(part))}
            read = set().union(*(eachof.get(name.partition(".")[0], set()) for name in _read(part)))
            named = isinstance(getattr(part, "value", None), ast.Name)  # another name computes nothing
            computed.append(read if runs_at_once(part) and not named and not own & same else set())
            afresh = isinstance(part, ast.Assign) and not changed(part)
            for name in own - same:
                eachof[name] = read if afresh else read | eachof.get(name, set())
        found: list[ast.stmt] = []
        later: set[str] = set()
        for part, read in reversed(list(zip(statements, computed, strict=True))):
            if read & later:
                found.insert(0, part)
            later |= self.moves(part)
        return found

    def behind_steps(
        self, names: Collection[str], before: Sequence[ast.stmt], kept: Sequence[ast.stmt], rest: Sequence[ast.stmt]
    ) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """A program up to the last step that moves some leaves, and what is kept of it apart from that, for the `rest`.

        Raises:
            ForbiddenError: what was computed with the leaves before that step is read behind it.
        """
        end = max(place for place, part in enumerate(before) if self.moves(part) & {*names}) + 1
        early = [part for part in before[:end] if not is_passed_over(part) or self.carries(part)]
        apart = [part for part in kept if part in before[:end]]
        behind = [part for part in kept if part not in before[:end]]
        read = ast.Tuple([ast.Name(name, ast.Load()) for name in read_first([*behind, *rest]) - {*names}], ast.Load())
        wanted = makers(read, apart)
        stale = self.stale(before[:end], names)
        for part in wanted:
            if part in stale:
                raise used_behind(part)
        if self.moves(*kept) & self.modules:  # what trains them needs all
            return early, [*kept]
        return early, [part for part in kept if part in behind or part in wanted]

    def from_the_start(
        self, kept: Sequence[ast.stmt], leaves: Mapping[str, ast.stmt], rest: Sequence[ast.stmt]
    ) -> list[ast.stmt]:
        """What is kept of a program for the `rest`, where what trains modules has leaves of its own, from where it makes them.

        Raises:
            ForbiddenError: a function of the program reads one that is moved.
        """
        moved, end = self.moves(*kept), max((place for place, part in enumerate(kept, 1) if self.carries(part)), default=0)
        own = Renamed({name: unused_name(f"{name}_", kept) for name in moved & leaves.keys()})
        if not (own.names and moved & self.modules):
            return [*kept]
        read = read_first([*kept[end:], *rest])
        for part in kept[:end]:
            if own.names.keys() & free_names(part) and not runs_at_once(part) and read & {*assigned([part])}:
                raise ForbiddenError(
                    "An optimizer moves leaves and modules together here, and a function reads the leaves.",
                    hints=["give the function the leaves as arguments, or save the program in a file: jvp run FILE.py"],
                )
        first = next(place for place, part in enumerate(kept) if own.names.keys() & free_names(part))
        begun = [leaves[name] for name in leaves if name in own.names]
        again = [without_places(own.visit(copied(part))) for part in (*begun, *kept[first:end])]
        return [*kept[:first], *again, *kept[end:]]


class Renamed(ast.NodeTransformer):
    """Gives names other ones."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name."""
        return ast.copy_location(ast.Name(self.names.get(node.id, node.id), node.ctx), node)


def _meant(node: ast.AST | None, paths: Mapping[str, str]) -> str:
    """What a call calls, by its whole path; empty for anything else."""
    root, _, rest = path(node.func).partition(".") if isinstance(node, ast.Call) else ("", "", "")
    return f"{paths.get(root, root)}.{rest}".rstrip(".")


def runs_at_once(statement: ast.stmt) -> bool:
    """Whether a statement computes where it stands, and makes no function."""
    return not isinstance(statement, ast.FunctionDef) and not isinstance(getattr(statement, "value", None), ast.Lambda)


def used_behind(statement: ast.stmt) -> ForbiddenError:
    """What is computed before a step, and read behind it."""
    what = ", ".join(f"`{name}`" for name in assigned([statement])) or "What is computed"
    return ForbiddenError(
        f"{what} is computed before a step of an optimizer moves what it is made of, and is used behind that.",
        explanation="PyTorch keeps the graph of the values before, and raises where a backward pass needs one that the step has "
        "overwritten.",
        hints=["compute it behind the step, or ask for a call before: --call N"],
    )


def _read(statement: ast.stmt) -> set[str]:
    return free_names(statement) if isinstance(statement, ast.FunctionDef) else read_first([statement])


def is_by_hand(node: ast.AST) -> TypeGuard[ast.For]:
    """Whether a node is a loop that changes the parameters of a module, which it goes through."""
    over = node.iter if isinstance(node, ast.For) else None
    if not isinstance(node, ast.For) or not isinstance(over, ast.Call) or not path(over.func).endswith(".parameters"):
        return False
    inside = set().union(*({*changed(part), *_augmented(part)} for part in node.body))
    return not inside.isdisjoint(assigned([node.target]))


def _augmented(statement: ast.stmt) -> set[str]:
    parts = (part for part in ast.walk(statement) if isinstance(part, ast.AugAssign))
    return {name for part in parts for name in assigned([part])}
