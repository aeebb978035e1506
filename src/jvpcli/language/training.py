"""Programs that train, or that derive in loops and functions: the language leaves them to Python.  Only the text is read.

The language answers for a call that stands in the text once, at tensors that the text gives.  Where an optimizer steps, where a
call stands in a block, or where weights change behind a use of them, what a call is about is known only as the program runs.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence

from jvpcli.errors import JvpError
from jvpcli.language import refusals
from jvpcli.language.calls import CHECKS, is_backward, is_block, is_constant, makes_function, name_of, path
from jvpcli.language.dependence import OF_MODULES, changed, root_of
from jvpcli.language.expressions import USUAL
from jvpcli.language.names import assigned, free_names, imported_paths, in_order, method_of, targets
from jvpcli.language.source import SourceText
from jvpcli.language.statements import NAMESPACES, cleared, functions_of, is_passed_over, is_shown, of_leaf, reads_grad

BLOCKS: Mapping[type[ast.stmt], str] = {
    ast.For: "a loop", ast.While: "a loop", ast.If: "an `if`", ast.With: "a `with`", ast.Try: "a `try`",
}  # fmt: skip
"""What a statement that holds others is called; one that defines something is called by its name."""


def refuse_training(text: SourceText, statements: Sequence[ast.stmt]) -> None:
    """Refuse a program that steps an optimizer, or derives in a block; `statements` are those that run one after the other.

    Raises:
        ForbiddenError: it does, with the place.
    """
    steps = _steps(statements) if "optim" in text.source or ".step" in text.source else ()
    for node, refused in (*steps, *_derivatives_in_blocks(statements)):
        raise _at(text, node, refused)


def refuse_moved(text: SourceText, statements: Sequence[ast.stmt], weights: Collection[str]) -> None:
    """Refuse a program that changes weights where they are.

    Raises:
        ForbiddenError: it does, with the place.
    """
    for statement in statements:
        if not (is_passed_over(statement) or functions_of([statement])):
            for weight in sorted(_moved(statement) & {*weights}):
                raise _at(text, statement, refusals.moved(weight))


def anew(statements: Sequence[ast.stmt], weights: Collection[str]) -> dict[str, ast.stmt]:
    """The weights whose names some statements give to another leaf, with the last statement that does."""
    made: set[str] = set()
    found: dict[str, ast.stmt] = {}
    for statement in statements:
        found |= {name: statement for name in assigned([statement]) if name in made & {*weights} and _is_anew(name, statement)}
        made.update(assigned([statement]))
    return found


def refuse_anew(text: SourceText, statements: Sequence[ast.stmt], weights: Collection[str]) -> None:
    """Refuse a program that gives the name of a leaf to another one, behind a use of it.

    Raises:
        ForbiddenError: it does, with the place where the other one is made.
    """
    for name, statement in anew(statements, weights).items():
        before = statements[: statements.index(statement)]
        uses = (part.value if isinstance(part, ast.Assign) else part for part in (*before, statement))
        if any(name in free_names(part) for part in uses):
            raise _at(text, statement, refusals.moved(name))


def refuse_partly_anew(text: SourceText, statements: Sequence[ast.stmt], weights: Collection[str]) -> None:
    """Refuse a session of which some statements, those between two calls of backward, make some weights anew, and others not.

    Raises:
        ForbiddenError: that is so, with the place.
    """
    names = remade(statements) & {*weights}
    for statement in statements if {*weights} - names else ():
        for name in sorted(names & {*assigned([statement])}):
            raise _at(text, statement, refusals.moved(name))


def remade(statements: Sequence[ast.stmt]) -> set[str]:
    """The names that some statements give to what isn't made of what they stood for."""
    return {name for statement in statements for name in assigned([statement]) if _is_anew(name, statement)}


def refuse_partly_cleared(text: SourceText, statements: Sequence[ast.stmt], weights: Collection[str]) -> None:
    """Refuse a program of which some statements, those between two calls of backward, clear gradients of some weights alone.

    Raises:
        ForbiddenError: that is so, with the place.
    """
    left = {*weights}.difference(*map(cleared, statements))
    for statement in statements if left else ():
        for name in sorted(cleared(statement)):
            if name.partition(".")[0] in weights:
                raise _at(text, statement, refusals.partly_cleared(name, min(left)))


def _at(text: SourceText, node: ast.AST, refused: JvpError) -> JvpError:
    """An error with its place; what was made of others may have none."""
    return refused.with_context(span=text.span(node), source=text.source) if hasattr(node, "col_offset") else refused


def _steps(statements: Sequence[ast.stmt]) -> Iterator[tuple[ast.AST, JvpError]]:
    """What makes an optimizer, or steps one, with what is said of it."""
    tree = ast.Module([*statements], [])
    paths, own = {**USUAL, **imported_paths(tree)}, {*assigned(statements)}
    for node in in_order(tree):
        if isinstance(node, ast.Call):
            root, _, rest = path(node.func).partition(".")
            if root not in own and f"{paths.get(root, root)}.{rest}".startswith("torch.optim."):
                yield node, refusals.optimizer(ast.unparse(node.func))
        elif isinstance(node, ast.Expr) and method_of(node) == "step" and not is_shown(node):
            yield node, refusals.step(ast.unparse(node.value))


def _derivatives_in_blocks(statements: Sequence[ast.stmt]) -> Iterator[tuple[ast.AST, JvpError]]:
    """The derivatives, without a graph of their own, and the gradients held by leaves, that a block asks for.

    A `with` runs once: what a call gives there is a value.  Only what a call of backward adds to `.grad` there is not followed.
    """
    blocks = [*filter(is_block, statements)]
    own = {*assigned(statements)} if blocks else set()
    for block in blocks:
        defines = isinstance(block, ast.FunctionDef)
        name = block.name if isinstance(block, ast.FunctionDef) else ""
        if defines and name not in _run_by([part for part in statements if part is not block]):
            continue
        nodes = [*in_order(block)]
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            asks = isinstance(node, ast.Call) and (is_backward(node) if isinstance(block, ast.With) else _derives(node, own))
            if asks or (defines and isinstance(node, ast.Attribute) and _is_gradient(node, id(node) in called)):
                yield node, refusals.in_block(ast.unparse(node), f"`{name}`" if defines else BLOCKS[type(block)])


def _run_by(statements: Sequence[ast.stmt]) -> set[str]:
    """The names of what some statements may run, but as the rows of `vmap(f)`, which are one call for PyTorch."""
    nodes = [node for part in statements for node in ast.walk(part)]
    rows = {id(each) for node in nodes if isinstance(node, ast.Call) and name_of(node) == "vmap" for each in node.args[:1]}
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in rows}


def _derives(call: ast.Call, own: Collection[str]) -> bool:
    """Whether a call is torch's, and gives a derivative that has no graph itself."""
    if isinstance(call.func, ast.Name) and call.func.id in own:
        return False
    return name_of(call) in CHECKS or (is_constant(call) and not makes_function(call))


def _is_gradient(node: ast.Attribute, is_called: bool) -> bool:
    """`w.grad`, and `w.zero_grad`; not `torch.autograd.grad`."""
    return node.attr == "zero_grad" or (node.attr == "grad" and not is_called and root_of(node) not in ("torch", "autograd"))


def _is_anew(name: str, statement: ast.stmt) -> bool:
    """Whether a name gets a leaf, or a value that is not made of what it stood for."""
    value = statement.value if isinstance(statement, ast.Assign) else None
    return value is not None and (of_leaf(value) is not None or name not in free_names(value))


def _moved(statement: ast.stmt) -> set[str]:
    """The names of what a statement changes where it is, or the gradient of: by `w -= 1`, `w.data.mul_(2)`, `w.grad /= 2`.

    Of a loop that does so for what it goes through, these are the names in that.
    """
    sets = isinstance(statement, ast.Assign) and path(statement.targets[0]).endswith(".requires_grad")
    if sets or method_of(statement) in {"requires_grad_", *OF_MODULES}:
        return set()  # which changes no number, or is refused for what it is
    found = changed(statement)
    for node in ast.walk(statement):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)) and not cleared(node):
            written = [root_of(each) for each in targets(node) if reads_grad(each)]
            in_place = isinstance(node, ast.Expr) and method_of(node).endswith("_") and reads_grad(node.value)
            augmented = isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
            found = found.union(written, assigned([node]) if augmented else (), [root_of(node.value)] if in_place else ())
    for loop in (node for node in ast.walk(statement) if isinstance(node, ast.For)):
        found |= set() if found.isdisjoint(assigned([loop.target])) else free_names(loop.iter) - NAMESPACES
    return found
