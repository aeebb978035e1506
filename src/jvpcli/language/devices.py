"""Devices in a pasted program: what it moves to a GPU stays where the inputs are.  Only the text is read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

from jvpcli.language.calls import path, without_places
from jvpcli.language.names import assigned, class_of, constructed, copied, imported_paths
from jvpcli.language.spellings import without_itself
from jvpcli.language.statements import assignment, of_leaf, unused_name

NOTE = "what is moved to a GPU stays where it is here, as a copy; --device says where the answer is computed"
TYPED = re.compile(r"torch\.\w*Tensor")
COPY = "{name} is a copy of the leaf {leaf}, and no leaf itself: without retain_grad() its .grad is None in PyTorch"


def at_home(tree: ast.Module) -> tuple[list[ast.stmt], list[str]]:
    """The statements of a program without its moves to a GPU, and what is to be said of that; nothing where there are none."""
    moves = _Moves(tree)
    kept: list[ast.stmt] = []
    copies: list[str] = []
    for old in tree.body:
        new = moves.visit(copied(old))
        if ast.dump(new) == ast.dump(old):
            kept.append(old)
            continue
        value = _copied(new.value) if isinstance(new, ast.Assign) else None
        if isinstance(new, ast.Assign) and isinstance(new.targets[0], ast.Name) and value is not None and of_leaf(value):
            name = new.targets[0].id
            leaf = unused_name(f"{name}_leaf", tree.body)
            kept.append(without_places(ast.Assign([ast.Name(leaf, ast.Store())], value, lineno=old.lineno)))
            new = assignment(name, f"{leaf}.clone()")
            copies.append(COPY.format(name=name, leaf=leaf))
        kept.append(without_places(new))
    return kept, [*([NOTE] if kept != tree.body else []), *copies]


def _copied(node: ast.expr) -> ast.expr | None:
    """`x` of `x.clone()`; None for anything else."""
    method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return method.value if method is not None and method.attr == "clone" else None


def _is_gpu(node: ast.expr) -> bool:
    """`"cuda:0"`, `torch.device("cuda")`."""
    if isinstance(node, ast.Call) and path(node.func) == "torch.device" and node.args:
        node = node.args[0]
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition(":")[0] == "cuda"


class _Moves(ast.NodeTransformer):
    """Reads `x.cuda()` and `x.to("cuda")` as a copy of x, and as the module where x is one."""

    def __init__(self, tree: ast.Module) -> None:
        self.paths, self.modules = imported_paths(tree), {*constructed(tree)}
        self.typed: dict[str, str] = {}
        self.once = {name for name, count in Counter(assigned(tree.body)).items() if count == 1}
        self.classes = {part.name for part in tree.body if isinstance(part, ast.ClassDef)}
        self.modules |= {name for part in tree.body for name in self._moved_names(part)}

    def _moved_names(self, statement: ast.stmt) -> Sequence[str]:
        """The names of `net = nn.Linear(2, 1).cuda()`, and of objects of the program's own classes."""
        value = statement.value if isinstance(statement, ast.Assign) else None
        while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and not class_of(value.func, self.paths):
            value = value.func.value
        made = isinstance(value, ast.Call) and (class_of(value.func, self.paths) or path(value.func) in self.classes)
        targets = statement.targets if isinstance(statement, ast.Assign) and made else []
        return [part.id for part in targets if isinstance(part, ast.Name)]

    def _is_module(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.modules
        return isinstance(node, ast.Call) and (bool(class_of(node.func, self.paths)) or path(node.func) in self.classes)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, and those in it."""
        self.generic_visit(node)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "device" or not _is_gpu(keyword.value)]
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        moves = (method == "cuda" and not node.keywords) or (method == "to" and len(node.args) == 1 and _is_gpu(node.args[0]))
        if not moves or not isinstance(node.func, ast.Attribute) or path(node.func).startswith("torch."):
            return node
        owner = node.func.value
        return owner if self._is_module(owner) else ast.Call(ast.Attribute(owner, "clone", ast.Load()), [], [])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name, which may be another one for `torch.FloatTensor`."""
        return without_places(ast.parse(self.typed[node.id], mode="eval").body) if node.id in self.typed else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`torch.cuda.FloatTensor`"""
        self.generic_visit(node)
        typed = path(node).startswith("torch.cuda.") and node.attr.endswith("Tensor")
        return ast.Attribute(ast.Name("torch", ast.Load()), node.attr, node.ctx) if typed else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """`net = net.cuda()` gives nothing another name; `device = torch.device("cuda")` is where the inputs are."""
        was = node.value
        if _is_gpu(was):
            node.value = ast.Constant("cpu")
            return node
        self.generic_visit(node)
        if isinstance(node.value, ast.IfExp) and ast.dump(node.value.body) == ast.dump(node.value.orelse):
            node.value = node.value.body
        target, named = path(node.targets[0]), path(node.value)
        if TYPED.fullmatch(named) and target in self.once:
            self.typed[target] = named  # Tensor = torch.cuda.FloatTensor if cuda else torch.FloatTensor
            return ast.copy_location(ast.Pass(), node)
        return without_itself(node, was)
