"""`DataLoader(TensorDataset(X, Y), batch_size=4)` in a program's text, as the list of batches that it gives, in order.

Only the text is read.  A dataset is the tuple of its tensors here, and is used for nothing else than its length and its batches.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from jvpcli.errors import ForbiddenError
from jvpcli.language.calls import argument, path, without_places
from jvpcli.language.dependence import changed, drawing
from jvpcli.language.names import assigned, copied, free_names, imported_paths

DATASET, LOADER = "torch.utils.data.TensorDataset", "torch.utils.data.DataLoader"

BATCHES = "[[t_[k_:k_ + {size}].clone() for t_ in d_] for d_ in [{data}] for k_ in range(0, len(d_[0]){less}, {size})]"

NEEDLESS = ("shuffle", "num_workers", "pin_memory", "persistent_workers")
"""What changes nothing of the batches, but for a shuffle."""


def with_batches(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, with the batches of loaders in their place; as they are, where a dataset is used for something else.

    Raises:
        ForbiddenError: a loader shuffles, or random numbers are drawn behind one, which draws of its own from the stream.
    """
    paths = imported_paths(ast.Module([*statements], []))
    nodes = [node for part in statements for node in ast.walk(part)]
    calls = {id(node): _meant(node, paths) for node in nodes if isinstance(node, ast.Call)}
    loaders = [node for node in nodes if isinstance(node, ast.Call) and calls[id(node)] == LOADER]
    made = {*assigned([part for part in statements if isinstance(part, ast.Assign) and calls.get(id(part.value)) == DATASET])}
    measured = [node.args[0] for node in nodes if isinstance(node, ast.Call) and path(node.func) == "len" and len(node.args) == 1]
    given = {id(argument(call, 0, "dataset")) for call in loaders} | {*map(id, measured)}
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id in made and isinstance(node.ctx, ast.Load)]
    stored = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    once = all(stored.count(name) == 1 for name in made) and all(id(node) in given for node in uses)
    if not (loaders and once and all(_is_read(call, made, calls) for call in loaders)):
        return list(statements)
    first = next(place for place, part in enumerate(statements) if any(node in loaders for node in ast.walk(part)))
    if _written(statements[first:], nodes, calls):
        return list(statements)
    shuffles = [call for call in loaders if not _is_false(argument(call, 2, "shuffle"))]
    if shuffles or any(map(drawing(statements), statements[first:])):
        what = "A `DataLoader` that shuffles" if shuffles else "A `DataLoader` before what draws random numbers"
        raise ForbiddenError(
            f"{what} is not carried out: the order, and what is drawn behind it, come from seeds that it draws itself.",
            hints=["shuffle=False, without random numbers behind it", "save the program in a file: jvp run FILE.py"],
        )
    written = _Written(made)
    return [without_places(written.visit(copied(part))) if _has(part, calls) else part for part in statements]


def _written(behind: Sequence[ast.stmt], nodes: Sequence[ast.AST], calls: Mapping[int, str]) -> bool:
    """Whether a tensor of a dataset may change behind a loader, which copies it for each batch, or a batch may itself."""
    held = [free_names(node) for node in nodes if isinstance(node, ast.Call) and calls[id(node)] == DATASET]
    loops = [part for each in behind for part in ast.walk(each) if isinstance(part, ast.For)]
    named_here = {*assigned(behind)}
    turns = [{*assigned([part.target])} for part in loops if free_names(part.iter) & named_here or _has(part, calls)]
    parts = [part for each in behind for part in ast.walk(each) if isinstance(part, ast.stmt)]
    batches = set().union(*turns)
    named = [part for part in parts if isinstance(part, ast.Assign) and path(part.value) in batches]
    batches |= {*assigned(named)}  # xb, yb = batch
    augmented = [name for part in parts if isinstance(part, ast.AugAssign) for name in assigned([part.target])]
    return not batches.union(*held).isdisjoint({*augmented}.union(*map(changed, behind)))


def _meant(call: ast.Call, paths: Mapping[str, str]) -> str:
    root, _, rest = path(call.func).partition(".")
    return ".".join(part for part in (paths.get(root, root), rest) if part)


def _has(part: ast.stmt, calls: Mapping[int, str]) -> bool:
    nodes = [node for node in ast.walk(part) if isinstance(node, ast.Call)]
    return any(calls[id(node)] in (DATASET, LOADER) or path(node.func) == "len" for node in nodes)


def _is_read(call: ast.Call, made: set[str], calls: Mapping[int, str]) -> bool:
    """Whether a loader is one of the tensors of a dataset, in batches."""
    data, known = argument(call, 0, "dataset"), ("dataset", "batch_size", "drop_last", *NEEDLESS)
    sizes = [*call.args[1:2], *(each.value for each in call.keywords if each.arg == "batch_size")]
    known_size = not any(isinstance(size, ast.Constant) and size.value is None for size in sizes)  # for no batches
    whole = known_size and {each.arg for each in call.keywords} <= {*known}
    return whole and len(call.args) < 4 and (path(data) in made if isinstance(data, ast.Name) else calls.get(id(data)) == DATASET)


def _is_false(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is False)


class _Written(ast.NodeTransformer):
    """Writes datasets as tuples, and loaders as lists of batches."""

    def __init__(self, made: set[str]) -> None:
        self.made = made

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, and those in it."""
        self.generic_visit(node)
        name = path(node.func).rpartition(".")[2]
        if name == "TensorDataset":
            return ast.Tuple(node.args, ast.Load())
        if name == "len" and len(node.args) == 1 and path(node.args[0]) in self.made:
            return ast.parse(f"len({path(node.args[0])}[0])", mode="eval").body
        data = argument(node, 0, "dataset")
        if name != "DataLoader" or data is None:
            return node
        size_ = ast.unparse(argument(node, 1, "batch_size") or ast.Constant(1))
        less = "" if _is_false(argument(node, 8, "drop_last")) else f" - ({size_}) + 1"
        return ast.parse(BATCHES.format(data=ast.unparse(data), size=f"({size_})", less=less), mode="eval").body
