"""What the optimizers of a program move, and by which statements.  Only the text is read; no torch is loaded."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jvpcli.language.calls import path
from jvpcli.language.dependence import changed, root_of, running
from jvpcli.language.expressions import USUAL
from jvpcli.language.names import assigned, class_of, free_names, imported_paths, without_mode
from jvpcli.language.statements import NAMESPACES, all_read, names_made

CLIPPING = "torch.nn.utils.clip_grad_"


@dataclass(frozen=True)
class Training:
    """The optimizers and schedules of a program.

    Attributes:
        moved: by the names of optimizers, and of the functions that step them, the names that their parameters are made of.
        schedules: the names of what moves learning rates.
        modules: the names of modules, and of objects of the program's classes.
    """

    moved: Mapping[str, frozenset[str]]
    schedules: frozenset[str]
    modules: frozenset[str]

    @classmethod
    def of(cls, statements: Sequence[ast.stmt]) -> Training:
        """Those of some statements."""
        paths = {**USUAL, **imported_paths(ast.Module([*statements], []))}
        moved: dict[str, frozenset[str]] = {}
        schedules: set[str] = set()
        modules: set[str] = set()
        classes = {part.name for part in statements if isinstance(part, ast.ClassDef)}
        for place, part in enumerate(statements):
            call, names = getattr(part, "value", None), names_made(part)
            root, _, rest = path(call.func).partition(".") if isinstance(call, ast.Call) else ("", "", "")
            kind = f"{paths.get(root, root)}.{rest}".rstrip(".")
            made = without_mode(call) if isinstance(call, ast.Call) else None
            if isinstance(made, ast.Call) and (class_of(made.func, paths) or path(made.func) in classes):
                modules |= {*names}
            if not isinstance(call, ast.Call) or len(names) != 1 or not kind.startswith("torch.optim."):
                continue
            if kind.startswith("torch.optim.lr_scheduler."):
                schedules.add(names[0])
            else:
                moved[names[0]] = frozenset(all_read(free_names(call), statements[:place]) - NAMESPACES - {"optim"})
        found = cls(moved, frozenset(schedules), frozenset(modules))
        for part in statements if moved else ():
            if isinstance(part, ast.FunctionDef) and (inside := found.moves(*part.body)):
                moved[part.name] = frozenset(inside)
        return found

    def moves(self, *statements: ast.stmt) -> set[str]:
        """The names of what some statements move, by optimizers or, in loops over parameters of modules, by hand."""
        found: set[str] = set()
        for node in (node for part in statements for node in running(part)):
            if isinstance(node, ast.Call):
                name = path(node.func)
                found |= self.moved.get(name.removesuffix(".step") if name.endswith(".step") else name, frozenset())
            elif isinstance(node, ast.For) and isinstance(node.iter, ast.Call) and path(node.iter.func).endswith(".parameters"):
                own = {*assigned([node.target])}
                by_hand = any(own & {*changed(part), *_augmented(part)} for part in node.body)
                found |= {root_of(node.iter)} if by_hand else set()
        return found

    def carries(self, statement: ast.stmt) -> bool:
        """Whether a statement does something to parameters, or to how the next step is made."""
        calls = [path(node.func) for node in running(statement) if isinstance(node, ast.Call)]
        steps = any(name.endswith(".step") and name[:-5] in self.schedules for name in calls)
        return steps or bool(self.moves(statement))


def _augmented(statement: ast.stmt) -> set[str]:
    parts = (part for part in ast.walk(statement) if isinstance(part, ast.AugAssign))
    return {name for part in parts for name in assigned([part])}
