"""Which names the statements of a scope read and assign, in the order in which Python would.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

LIST_METHODS = frozenset({"append", "extend", "insert", "pop", "reverse", "clear", "copy"})
"""Methods that a list has and a tensor has not."""

FUNCTION_WORDS = ("lambda", "torch.func", "functorch", "autograd.functional", "vmap", "jacrev", "jacfwd", "hessian")
"""Words without which no text of assignments alone has functions as values."""

SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Pass, ast.Assert, ast.Delete)
"""Statements that neither hold others nor leave where they stand."""

Use = tuple[str, bool]
"""A name, and whether it is assigned there."""


def is_program(tree: ast.Module, source: str) -> bool:
    """Whether names have to be looked up while a text runs: it has blocks or functions, or lists that grow.

    In any other text each name stands for one value from its assignment on, which is known without running it.
    """
    if not all(isinstance(statement, SIMPLE) for statement in tree.body):
        return True
    return any(word in source for word in (*FUNCTION_WORDS, *(f".{method}" for method in LIST_METHODS)))


def assigned(statements: Iterable[ast.stmt]) -> list[str]:
    """The names that statements assign, their functions' own names left out, in order and each once."""
    return list(dict.fromkeys(name for name, stored in _of_all(statements) if stored))


def read_first(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that are read before anything is assigned to them."""
    first: dict[str, bool] = {}
    for name, stored in _of_all(statements):
        first.setdefault(name, stored)
    return {name for name, stored in first.items() if not stored}


def _of_all(nodes: Iterable[ast.AST]) -> Iterator[Use]:
    for node in nodes:
        yield from _uses(node)


def _uses(node: ast.AST) -> Iterator[Use]:
    if isinstance(node, ast.Name):
        yield node.id, isinstance(node.ctx, ast.Store)
    elif isinstance(node, ast.Assign):
        yield from _of_all([node.value, *node.targets])
    elif isinstance(node, ast.AnnAssign):
        yield from _of_all([] if node.value is None else [node.value, node.target])
    elif isinstance(node, ast.AugAssign):
        load = [(node.target.id, False)] if isinstance(node.target, ast.Name) else []
        yield from load
        yield from _of_all([node.value, node.target])
    elif isinstance(node, ast.For):
        yield from _of_all([node.iter, node.target, *node.body, *node.orelse])
    elif isinstance(node, ast.FunctionDef):
        yield from _of_all(_defaults(node.args))
        yield node.name, True
    elif isinstance(node, ast.Lambda):
        yield from _of_all(_defaults(node.args))
    elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
        yield from _of_comprehension(node)
    elif not isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _of_all(ast.iter_child_nodes(node))


def _defaults(arguments: ast.arguments) -> Sequence[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def _of_comprehension(node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Iterator[Use]:
    """What a comprehension reads of the names around it; its variables are its own."""
    own = {name for generator in node.generators for name, stored in _uses(generator.target) if stored}
    yield from ((name, stored) for name, stored in _of_all(ast.iter_child_nodes(node)) if name not in own)
