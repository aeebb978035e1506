"""Values that are given beside a program: each takes the place of what the program gives its name first."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jvpcli.closed import syntax
from jvpcli.errors import UsageError
from jvpcli.language.operations import can_require_grad


@dataclass(frozen=True)
class Given:
    """A VALUE as a tensor of the dtype that was asked for, and in double precision, for what is a plain number."""

    tensor: Tensor
    exact: Tensor


def with_given(tree: ast.Module, names: Collection[str], own: Collection[str]) -> ast.Module:
    """The program that takes what is given for some names: behind the first statement at its top that assigns one, or at its
    beginning for one that it only reads.

    Args:
        tree: the program.
        names: the names.
        own: those that a program finds without assigning them, for which nothing can be given.

    Raises:
        UsageError: the program neither assigns such a name at its top nor reads it.
    """
    first: dict[str, int] = {}
    for place, statement in enumerate(tree.body):
        for name in _assigned(statement):
            first.setdefault(name, place)
    used = {(node.id, isinstance(node.ctx, ast.Load)) for node in ast.walk(tree) if isinstance(node, ast.Name)}
    free = {name for name, _ in used if (name, False) not in used} - {*own} - _defined(tree)
    for name in names:
        if name not in first and name not in free:
            raise _unknown(name, sorted(first.keys() | free))
    begin: list[ast.stmt] = [_taken(tree.body[0], name) for name in names if name not in first]
    body = [
        part
        for place, statement in enumerate(tree.body)
        for part in (statement, *(_taken(statement, name, name) for name in names if first.get(name) == place))
    ]
    return ast.Module([*begin, *body], [])


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to."""
    targets: list[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    nodes = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    return [node.id for node in nodes if isinstance(node.ctx, ast.Store)]


def _defined(tree: ast.Module) -> set[str]:
    """The names that a program has otherwise than by assigning them: of functions, classes, arguments and imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found


def _taken(place: ast.stmt, name: str, *own: str) -> ast.stmt:
    """`name = given("name", name)`"""
    arguments: list[ast.expr] = [ast.Constant(name), *(ast.Name(each, ast.Load()) for each in own)]
    call = ast.Call(ast.Name(syntax.GIVEN, ast.Load()), arguments, [])
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], call), place)


def _unknown(name: str, known: Collection[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    return UsageError(
        f"the program gives no {name!r} a value at its top, and does not read it",
        explanation=f"A value can be given for {', '.join(known)}." if known else "It has no names of its own.",
        hints=(f"Did you mean {near[0]}?",) if near else (),
    )


def as_own(name: str, given: Given, *own: Any) -> Any:
    """What is given, of the kind of the program's own value: a leaf that requires a gradient as that one does, a number, an array
    or a list; without one a leaf that requires a gradient if it can.

    Raises:
        UsageError: a VALUE can't stand for what the program has there.
    """
    with torch._C.DisableTorchFunction():
        if not own:
            x = given.tensor.detach().clone()
            return x.requires_grad_(can_require_grad(x))
        return _like(name, given, own[0])


def _like(name: str, given: Given, own: Any) -> Any:
    if isinstance(own, Tensor):
        x = given.tensor.detach().clone()
        if own.requires_grad and not can_require_grad(x):
            raise UsageError(f"{name} requires a gradient in the program, and {x.dtype} can't".replace("torch.", ""))
        return nn.Parameter(x, own.requires_grad) if type(own) is nn.Parameter else x.requires_grad_(own.requires_grad)
    if isinstance(own, np.ndarray):
        return given.exact.detach().numpy().astype(own.dtype)
    if type(own) in KINDS and given.exact.numel() == 1:
        return _number(name, given.exact.item(), type(own))
    if type(own) in (list, tuple) and given.exact.dim() and (kinds := _kinds(own)) <= {int, float}:
        return _several(name, given.exact.tolist(), int if kinds == {int} else float, type(own))
    raise UsageError(
        f"a VALUE can't be given for {name}, which is a {type(own).__name__} in the program",
        explanation="It stands for a tensor, an array, a number or a list of numbers.",
    )


KINDS = {bool: "true or false", int: "a whole number", float: "a real number", complex: "a number"}
"""What Python's plain numbers are called."""


def _number(name: str, number: Any, kind: type) -> Any:
    """A number of a kind.

    Raises:
        UsageError: it is none of that kind.
    """
    with suppress(TypeError, ValueError, OverflowError):  # of a complex number, nan, infinity
        found = kind(number)
        if found == number or number != number:
            return found
    raise UsageError(f"{name} is {KINDS[kind]} in the program, and {number} is not")


def _kinds(value: Any) -> set[type]:
    """The types of the items of a list, of lists in it too."""
    return set().union(*map(_kinds, value)) if type(value) in (list, tuple) else {type(value)}


def _several(name: str, numbers: Any, kind: type, made: type) -> Any:
    """Numbers in lists, or in tuples, as the program has them."""
    if isinstance(numbers, list):
        return made(_several(name, each, kind, made) for each in numbers)
    return _number(name, numbers, kind)
