"""Changes of parameters, carried out where the modules of a program are made (`language/preparations.py` finds them).

Whatever is computed for one is an expression of the language, evaluated as any other; of torch only the functions of
`torch.nn.init` are called here, by the list below.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError
from jvpcli.language.arrays import number
from jvpcli.language.names import copied, dotted
from jvpcli.language.objects import name_at, placed
from jvpcli.language.operations import describe
from jvpcli.language.plain import NoPlainError, literal, plain_or_none
from jvpcli.language.preparations import CASTS, LISTS, Finder, is_under, owner
from jvpcli.language.statements import cleared

INIT = frozenset({
    "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_",
    "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_",
    "uniform", "normal", "constant", "eye", "dirac", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
    "orthogonal", "sparse",
})  # fmt: skip
"""What may be called of torch.nn.init."""

MOST_STEPS = 2000
"""Statements that changes take, each turn's and each call's."""

MOST_CALLS = 20
"""Functions that call each other there."""

OF_PROGRAM = "classes_of_program"
"""Where the class of a module has the names of those classes of the program that the module is of."""


class Value(Protocol):
    """Evaluates expressions of the language where a change stands."""

    def __call__(self, behind: Sequence[ast.stmt], node: ast.expr, held: Mapping[str, Tensor], whole: bool = False) -> Any:
        """What one gives behind some statements, with tensors under further names; `whole`: behind all that runs before."""

    def of(self, node: ast.expr, behind: Sequence[ast.stmt] = (), whole: bool = False) -> Any:
        """The same, with random numbers as they were."""


@dataclass
class Changes:
    """Carries out changes of the parameters of modules.

    Attributes:
        finder: what is known of the text: its imports and functions.
        modules: those of the program, by name.
        value: evaluates an expression of the language.
        error_at: an error with the place of a part of the text.
    """

    finder: Finder
    modules: Mapping[str, nn.Module]
    value: Value
    error_at: Callable[[ast.AST, JvpError], JvpError]
    steps: int = 0
    calls: int = 0
    held: dict[str, Tensor] = field(default_factory=dict)
    before: dict[str, Tensor] = field(default_factory=dict)
    """The parameters as they were before this change and those right in front of it."""

    @property
    def classes(self) -> set[str]:
        """The classes of the program that its modules are of."""
        kinds = {type(module) for root in self.modules.values() for module in root.modules()}
        return {name for kind in kinds for name in getattr(kind, OF_PROGRAM, ())}

    def begin(self) -> None:
        """Changes begin, behind what computes with the parameters as they are."""
        self.before = {path: x.detach().clone().requires_grad_(x.requires_grad) for path, x in self._all()}

    def _all(self) -> Iterator[tuple[str, Tensor]]:
        for name, module in self.modules.items():
            yield from ((f"{name}.{path}", x) for path, x in module.named_parameters(remove_duplicate=False))

    def gradient(self, path: str) -> Tensor | None:
        """What `.grad` of a parameter holds before the changes."""
        found = self.value((), placed(ast.Attribute(name_at(path, _NOWHERE), "grad", ast.Load()), _NOWHERE), self.before, True)
        return found if isinstance(found, Tensor) else None

    def run(self, statements: Sequence[ast.stmt], meant: dict[str, ast.expr]) -> None:
        """Statements, with what some names mean in them."""
        for node in statements:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise self.error_at(node, LimitError(f"Changes of parameters take more than {MOST_STEPS:,} steps."))
            self.statement(node, meant)

    def statement(self, node: ast.stmt, meant: dict[str, ast.expr]) -> None:
        """One statement; gradients are cleared in the program that is left."""
        if not isinstance(node, (ast.With, ast.For, ast.If)) and cleared(node):
            return
        if isinstance(node, ast.With):
            self.run(node.body, meant)
        elif isinstance(node, ast.If):
            self.run(node.body if self.truth(node.test, meant) else node.orelse, meant)
        elif isinstance(node, ast.For) and not node.orelse:
            for item in self.items(node.iter, meant):
                self.run(node.body, {**meant, **self.matched(node.target, item)})
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            self.assignment(node, meant)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.call(node.value, meant)
        elif not isinstance(node, (ast.Pass, ast.Assert)) and not isinstance(getattr(node, "value", None), ast.Constant):
            raise self.refusal(node)

    def refusal(self, node: ast.AST) -> JvpError:
        """What can't be carried out."""
        return self.error_at(node, ForbiddenError("This can't be carried out where parameters are changed."))

    # What is meant

    def read(self, node: ast.expr, meant: Mapping[str, ast.expr]) -> ast.expr:
        """An expression with what its names mean, and what it asks of modules."""
        found = _Meant(self, meant).visit(copied(node))
        assert isinstance(found, ast.expr)
        return found

    def plain(self, node: ast.expr, meant: Mapping[str, ast.expr]) -> Any:
        """A plain value, or a tensor."""
        read = self.read(node, meant)
        found = plain_or_none(read)
        return self.value((), read, self.held) if found is None and not _is_none(read) else found

    def truth(self, test: ast.expr, meant: Mapping[str, ast.expr]) -> bool:
        """Whether a condition holds."""
        if isinstance(test, ast.BoolOp):
            results = (self.truth(part, meant) for part in test.values)
            return all(results) if isinstance(test.op, ast.And) else any(results)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return not self.truth(test.operand, meant)
        return bool(self.plain(test, meant))

    def module(self, path: str) -> nn.Module | None:
        """The module of torch.nn at a path; None where there is none."""
        root = max((name for name in self.modules if path == name or path.startswith(f"{name}.")), key=len, default=None)
        found: Any = None if root is None else self.modules[root]
        for part in path[len(root or "") :].split(".")[1:]:
            found = None if found is None else found._modules.get(part)
        return found

    def under(self, path: str) -> list[str]:
        """The paths of the modules at and under a path, in torch's order."""
        names = [name for name in self.modules if name == path or name.startswith(f"{path}.")]
        if not names and self.module(path) is not None:
            names = [path]
        found = [(f"{name}.{each}" if each else name) for name in names for each, _ in self._module(name).named_modules()]
        return list(dict.fromkeys([path, *found] if path in self.finder.modules or not found else found))

    def _module(self, path: str) -> nn.Module:
        found = self.module(path)
        assert found is not None
        return found

    def parameter(self, path: str, node: ast.AST) -> Tensor:
        """The parameter or buffer at a path."""
        holder, _, name = path.rpartition(".")
        module = self.module(holder)
        found = None if module is None else module._parameters.get(name, module._buffers.get(name))
        if found is None:
            raise self.error_at(node, ForbiddenError(f"`{path}` is no parameter that can be changed here."))
        return found

    def parameters(self, path: str) -> list[str]:
        """The paths of the parameters at and under a path, in torch's order, a shared one by its first name."""
        found: dict[int, str] = {}
        for each in self.under(path):
            module = self.module(each)
            for name, parameter in module._parameters.items() if module is not None else ():
                if parameter is not None:
                    found.setdefault(id(parameter), f"{each}.{name}")
        return list(found.values())

    def items(self, node: ast.expr, meant: Mapping[str, ast.expr]) -> list[Any]:
        """What a loop goes through: paths, and tuples of such."""
        called = dotted(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called in ("list", "tuple", "reversed", "zip", "enumerate"):
            columns = [self.items(part, meant) for part in node.args]
            if called == "enumerate":
                columns.insert(0, [placed(ast.Constant(k), node) for k in range(len(columns[0]))])
            if len(columns) == 1 and called != "zip":
                return columns[0][::-1] if called == "reversed" else columns[0]
            return [placed(ast.Tuple(list(row), ast.Load()), node) for row in zip(*columns, strict=False)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LISTS and not node.args:
            root = dotted(self.read(node.func.value, meant))
            return self.listed(root, node.func.attr, node)
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self.read(part, meant) for part in node.elts]
        read = self.read(node, meant)
        if isinstance(numbers := plain_or_none(read), (list, tuple)) and len(numbers) <= MOST_STEPS:
            return [literal(each, node) for each in numbers]
        module = self.module(dotted(read))
        if isinstance(module, nn.Sequential):
            return [name_at(f"{dotted(read)}.{name}", node) for name in module._modules]
        if isinstance(read, (ast.List, ast.Tuple)):
            return list(read.elts)
        values = self.value((), read, {**self.before, **self.held}, True) if isinstance(read, ast.Name) else None
        if isinstance(values, (list, tuple)) and len(values) <= MOST_STEPS and all(isinstance(each, Tensor) for each in values):
            return [self.hold(each.detach(), node) for each in values]  # gradients, as they were found before the changes
        raise self.error_at(node, ForbiddenError("What this goes through isn't known where parameters are changed."))

    def listed(self, root: str, method: str, node: ast.AST) -> list[ast.expr]:
        """`net.named_parameters()` as pairs of a word and a path, and the like."""
        if not root or not is_under(root, self.finder.modules):
            raise self.error_at(node, ForbiddenError("What this goes through isn't known where parameters are changed."))
        paths = self.parameters(root) if method.endswith("parameters") else self.under(root)
        if method.endswith("children"):
            names = [path[len(root) + 1 :].partition(".")[0] for path in paths if path != root]
            paths = [f"{root}.{name}" for name in dict.fromkeys(names)]
        found: list[ast.expr] = [name_at(path, node) for path in paths]
        if method.startswith("named"):
            words = [placed(ast.Constant(path[len(root) + 1 :]), node) for path in paths]
            found = [placed(ast.Tuple([word, each], ast.Load()), node) for word, each in zip(words, found, strict=True)]
        return found

    def matched(self, target: ast.expr, item: ast.expr) -> dict[str, ast.expr]:
        """The names of a target with what they mean."""
        if isinstance(target, ast.Name):
            return {target.id: item}
        if isinstance(target, (ast.Tuple, ast.List)) and isinstance(item, ast.Tuple) and len(item.elts) == len(target.elts):
            pairs = zip(target.elts, item.elts, strict=True)
            return {name: each for one, part in pairs for name, each in self.matched(one, part).items()}
        raise self.refusal(target)

    # What is changed

    def assignment(self, node: ast.Assign | ast.AugAssign, meant: dict[str, ast.expr]) -> None:
        """`net.weight.data = …`, `net.weight[0] = …`, `p -= …`, `p.requires_grad = False`, `a.weight = b.weight`, `n = …`"""
        target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
        if isinstance(node, ast.Assign) and len(node.targets) > 1:
            raise self.refusal(node)
        is_local = isinstance(target, ast.Name) and "." not in target.id
        if isinstance(target, ast.Name) and is_local and (isinstance(node, ast.Assign) or not self.is_parameter(target, meant)):
            if isinstance(node, ast.AugAssign):
                node = placed(ast.Assign([target], ast.BinOp(name_at(target.id, node), node.op, node.value)), node)
            meant[target.id] = self.kept(node.value, meant)
            return
        if isinstance(node, ast.Assign) and isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            self.track(owner(self.read(target.value, meant)), self.plain(node.value, meant), node)
            return
        path = owner(self.read(target, meant))
        is_part = isinstance(target, ast.Name) or (isinstance(target, ast.Attribute) and target.attr != "data")
        if isinstance(node, ast.Assign) and is_part:
            self.replace(path, node.value, meant)
            return
        self.set(path, node, target, meant)

    def is_parameter(self, node: ast.Name, meant: Mapping[str, ast.expr]) -> bool:
        """Whether a name stands for a parameter."""
        return is_under(owner(self.read(node, meant)), self.finder.modules)

    def kept(self, node: ast.expr, meant: Mapping[str, ast.expr]) -> ast.expr:
        """A value for a name: the path of a module or parameter, a plain value, a tensor under a name that no text has."""
        read = self.read(node, meant)
        if is_under(dotted(read), self.finder.modules):
            return read
        value = self.plain(node, meant)
        try:
            return literal(value, node)
        except NoPlainError:
            pass
        if not isinstance(value, Tensor):
            raise self.refusal(node)
        return self.hold(value, node)

    def hold(self, value: Tensor, node: ast.AST) -> ast.Name:
        """A tensor under a name that no text has."""
        name = f"held.{len(self.held)}"
        self.held[name] = value
        return name_at(name, node)

    def set(
        self, path: str, node: ast.Assign | ast.AugAssign | ast.Expr, target: ast.expr, meant: Mapping[str, ast.expr]
    ) -> None:
        """Carry out a statement that writes to a parameter: on a copy, which then is its value."""
        parameter = self.parameter(path, node)
        whole = isinstance(node, ast.Assign) and isinstance(target, ast.Attribute)
        if whole and (other := self.other(self.read(node.value, meant), node)) is not None:
            parameter.data = other.data
            return
        statement = copied(node)
        place = statement.value if isinstance(statement, ast.Expr) else statement
        if isinstance(place, ast.Call):
            assert isinstance(place.func, ast.Attribute)
            place.func.value = _on_copy(self.read(place.func.value, meant))
            place.args = [self.read(part, meant) for part in place.args]
            place.keywords = [placed(ast.keyword(part.arg, self.read(part.value, meant)), node) for part in place.keywords]
        elif isinstance(place, (ast.Assign, ast.AugAssign)):
            new = _on_copy(self.read(target, meant), ast.Store())
            place.value = self.read(place.value, meant)
            if isinstance(place, ast.Assign):
                place.targets = [new]
            else:
                place.target = new  # type: ignore[assignment]
        value = self.value([statement], name_at(COPY, node), {**self.held, COPY: parameter.detach()})
        if not isinstance(value, Tensor) or (value.shape != parameter.shape and not whole) or value.dtype != parameter.dtype:
            found = f"{describe(value)}, {str(getattr(value, 'dtype', type(value).__name__)).removeprefix('torch.')}"
            own = f"{describe(parameter)}, {str(parameter.dtype).removeprefix('torch.')}"
            message = f"`{path}` is {own}, and this would make it {found}."
            raise self.error_at(node, EvaluationError(message))
        if whole:
            parameter.data = value.detach().clone()
        else:  # in the memory that others may share
            parameter.data.copy_(value.detach())

    def other(self, node: ast.expr, place: ast.AST) -> Tensor | None:
        """The parameter that an expression gives as it is: `encoder.weight.data`, whose memory then is shared."""
        found = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (
            node.func.attr == "detach"
        ) else node  # fmt: skip
        is_one = isinstance(found, ast.Name) and is_under(found.id, self.finder.modules)
        return self.parameter(found.id, place) if is_one and isinstance(found, ast.Name) else None

    def replace(self, path: str, node: ast.expr, meant: Mapping[str, ast.expr]) -> None:
        """`decoder.weight = encoder.weight`: one parameter in two places; or a new one, or none."""
        holder, _, name = path.rpartition(".")
        module = self.module(holder)
        if module is None or name not in module._parameters:
            raise self.error_at(node, ForbiddenError(f"`{path}` is no parameter that can be changed here."))
        read = self.read(node, meant)
        is_new = isinstance(read, ast.Call) and dotted(read.func).rpartition(".")[2] == "Parameter" and len(read.args) == 1
        inner = read.args[0] if is_new and isinstance(read, ast.Call) else read
        if _is_none(inner):
            module.register_parameter(name, None)
            return
        if not is_new:
            shared = self.parameter(dotted(inner), node)
            if not isinstance(shared, nn.Parameter):
                raise self.refusal(node)
            module.register_parameter(name, shared)
            return
        value = self.value((), inner, self.held)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            message = f"A parameter is a tensor of floating point, and this is {describe(value)}."
            raise self.error_at(node, EvaluationError(message))
        module.register_parameter(name, nn.Parameter(value.detach().clone()))

    def track(self, path: str, flag: Any, node: ast.AST) -> None:
        """Whether gradients are recorded of a parameter, or of all of a module."""
        if not isinstance(flag, bool):
            raise self.refusal(node)
        paths = self.parameters(path) or [path]
        for each in paths:
            self.parameter(each, node).requires_grad_(flag)

    # What is called

    def call(self, call: ast.Call, meant: dict[str, ast.expr]) -> None:
        """`nn.init.zeros_(net.bias)`, `net.apply(init)`, `net.weight.data.fill_(1)`, `init(net)`"""
        if name := self.finder.of_init(call):
            self.init(name, call, meant)
            return
        if dotted(call.func) == "print":
            return
        if not isinstance(call.func, ast.Attribute):
            self.function(dotted(call.func), [self.read(part, meant) for part in call.args], call.keywords, call, meant)
            return
        method, path = call.func.attr, owner(self.read(call.func.value, meant))
        if method == "requires_grad_":
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            self.track(path, self.plain(given[0], meant) if given else True, call)
        elif method == "apply" and len(call.args) == 1 and is_under(path, self.finder.modules):
            for each in _inside_out(self.under(path)):
                self.function(dotted(call.args[0]), [name_at(each, call)], [], call, meant)
        elif method == "load_state_dict":
            self.load(path, call, meant)
        elif method in CASTS and not call.args:
            for name in self.under(path):
                if (module := self.module(name)) is not None:
                    module.to(getattr(torch, CASTS[method]))
        elif method == "reset_parameters" and isinstance(reset := getattr(self.module(path), method, None), MethodType):
            reset()
        elif method.endswith("_"):
            self.set(path, placed(ast.Expr(call), call), call.func.value, meant)
        else:
            raise self.refusal(call)

    def init(self, name: str, call: ast.Call, meant: Mapping[str, ast.expr]) -> None:
        """A function of torch.nn.init."""
        given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "tensor")]
        if name not in INIT or len(given) != 1 or any(keyword.arg is None for keyword in call.keywords):
            raise self.error_at(call, ForbiddenError(f"`{dotted(call.func)}` can't be called of this here."))
        parameter = self.parameter(owner(self.read(given[0], meant)), call)
        arguments = [self.plain(part, meant) for part in call.args[1:]]
        keywords = {part.arg or "": self.plain(part.value, meant) for part in call.keywords if part.arg != "tensor"}
        arguments, keywords = number(arguments), {key: number(value) for key, value in keywords.items()}
        if any(not isinstance(each, (int, float, str)) for each in (*arguments, *keywords.values())) or "generator" in keywords:
            raise self.error_at(call, ForbiddenError(f"`{dotted(call.func)}` takes a parameter, plain numbers and words here."))
        function = getattr(nn.init, name if name.endswith("_") else f"{name}_")
        try:
            function(parameter, *arguments, **keywords)
        except Exception as error:
            message = f"`{dotted(call.func)}` refuses its arguments: {str(error).partition(chr(10))[0]}"
            raise self.error_at(call, EvaluationError(message, torch_message=str(error))) from None

    def function(
        self, name: str, given: Sequence[ast.expr], keywords: Sequence[ast.keyword], node: ast.AST, meant: Mapping[str, ast.expr]
    ) -> None:
        """A function of the program for what it does."""
        found = self.finder.functions.get(name)
        taken = found.args if found is not None else None
        if found is None or taken is None or taken.vararg or taken.kwarg or taken.posonlyargs or taken.kwonlyargs:
            raise self.error_at(node, ForbiddenError(f"`{name or 'this'}` is no function that can be carried out here."))
        names = [part.arg for part in taken.args]
        values = dict(zip(names[len(names) - len(taken.defaults) :], taken.defaults, strict=True))
        values.update(zip(names, given, strict=False))
        values.update({part.arg or "**": self.read(part.value, meant) for part in keywords})
        if {*values} != {*names} or len(given) > len(names):
            raise self.error_at(node, ForbiddenError(f"`{name}` isn't called with what it takes."))
        self.calls += 1
        if self.calls > MOST_CALLS:
            message = f"Functions that change parameters call each other more than {MOST_CALLS} deep."
            raise self.error_at(node, LimitError(message))
        self.run(found.body, {name: self.kept(value, {}) for name, value in values.items()})
        self.calls -= 1

    def load(self, path: str, call: ast.Call, meant: Mapping[str, ast.expr]) -> None:
        """`net.load_state_dict(other.state_dict())`, `net.load_state_dict({"weight": w})`"""
        given = call.args[0] if len(call.args) == 1 and not call.keywords else None
        is_state = isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr == "state_dict"
        source = dotted(self.read(given.func.value, meant)) if is_state else ""  # type: ignore[union-attr]
        if isinstance(given, ast.Dict):
            others = {plain_or_none(key): self.plain(value, meant) for key, value in zip(given.keys, given.values, strict=True)}
        elif is_under(source, self.finder.modules):
            others = {name[len(source) + 1 :]: x for name, x in self.state(source)}
        else:
            message = "load_state_dict takes the state_dict() of a module of the program, or a dictionary of tensors, here."
            raise self.error_at(call, ForbiddenError(message))
        own = {name[len(path) + 1 :]: x for name, x in self.state(path)}
        if not all(isinstance(x, Tensor) for x in others.values()) or {name: x.shape for name, x in own.items()} != {
            name: x.shape for name, x in others.items()
        }:  # fmt: skip
            told = f"`{path}` and `{source}`" if source else f"`{path}` and what it is given"
            raise self.error_at(call, EvaluationError(f"{told} have parameters of other names or shapes."))
        values = {name: x.detach().clone() for name, x in others.items()}
        for name, x in own.items():
            x.data = values[name].to(x.dtype)

    def state(self, root: str) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers at and under a path, by their paths."""
        for each in self.under(root):
            module = self.module(each)
            for name, x in {**module._parameters, **module._buffers}.items() if module is not None else ():
                if x is not None:
                    yield f"{each}.{name}", x


_NOWHERE = ast.copy_location(ast.Constant(0, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0), ast.Constant(0))

CALLED = ("forward", "__call__")
"""The functions of objects that stand where an object is given to a function."""

COPY = "copy.0"
"""The name, which no text can write, of the copy of a parameter that a statement writes to."""


def _on_copy(node: ast.expr, ctx: ast.expr_context | None = None) -> ast.expr:
    """`copy[0]` of `net.weight.data[0]`."""
    if isinstance(node, ast.Subscript):
        return placed(ast.Subscript(_on_copy(node.value), node.slice, ctx or ast.Load()), node)
    return name_at(COPY, node, ctx)


def _inside_out(paths: Sequence[str]) -> list[str]:
    """Paths of modules as `apply` goes through them: each behind those in it."""
    found: list[str] = []

    def put(path: str) -> None:
        for other in paths:
            if other.startswith(f"{path}.") and other not in found:
                put(other)
        if path not in found:
            found.append(path)

    for path in paths:
        put(path)
    return found


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


class _Meant(ast.NodeTransformer):
    """Puts what names mean in their place, and what is asked of modules: their class, a plain value that they hold."""

    def __init__(self, changes: Changes, meant: Mapping[str, ast.expr]) -> None:
        self.changes, self.meant = changes, meant

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name; that of an object's function means the object."""
        if node.id in self.meant:
            return placed(copied(self.meant[node.id]), node)
        root, _, method = node.id.rpartition(".")
        return name_at(root, node) if method in CALLED and self.changes.under(root) != [root] else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """`net[0]`"""
        found = self.generic_visit(node)
        place = plain_or_none(node.slice)
        path = dotted(node.value)
        holder = self.changes.module(path)
        if isinstance(holder, nn.Sequential) and type(place) is int and -len(holder) <= place < len(holder):
            return name_at(f"{path}.{[*holder._modules][place]}", node)
        if type(place) is int and self.changes.module(f"{path}.{place}") is not None:
            return name_at(f"{path}.{place}", node)
        return found

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`m.weight`, `m.in_features`, `m.__class__.__name__`"""
        if dotted(node).endswith(".__class__.__name__") and isinstance(node.value, ast.Attribute):
            kind = self.kind(node.value.value)
            return placed(ast.Constant("" if kind is None else kind.__name__), node)
        if node.attr == "grad":
            path = owner(self.changes.read(node.value, self.meant))
            gradient = self.changes.gradient(path)
            return placed(ast.Constant(None) if gradient is None else self.changes.hold(gradient, node), node)
        if node.attr == "requires_grad":
            path = owner(self.changes.read(node.value, self.meant))
            return placed(ast.Constant(self.changes.parameter(path, node).requires_grad), node)
        if node.attr == "data":
            found = self.visit(node.value)
            assert isinstance(found, ast.expr)
            return found
        inner = self.visit(node.value)
        node.value = inner
        path = dotted(node)
        holder = self.changes.module(path.rpartition(".")[0])
        if holder is None or node.attr.startswith("_"):
            return node
        if node.attr in holder._parameters or node.attr in holder._buffers:
            x = holder._parameters.get(node.attr, holder._buffers.get(node.attr))
            return placed(ast.Constant(None), node) if x is None else name_at(path, node)
        try:
            return literal(vars(holder)[node.attr], node)
        except (KeyError, NoPlainError):
            return node

    def kind(self, node: ast.expr) -> type[nn.Module] | None:
        """The class of a module; None of an object that has no parameters, and is of none of torch's."""
        path = dotted(self.visit(node))
        found = self.changes.module(path)
        if found is None and path not in self.changes.finder.modules:
            raise self.changes.refusal(node)
        return None if found is None else type(found)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`type(m) == nn.Linear`"""
        left = node.left
        if isinstance(left, ast.Call) and dotted(left.func) == "type" and len(left.args) == 1 and len(node.ops) == 1:
            same = self.is_one_of(left.args[0], node.comparators[0], exactly=True)
            return placed(ast.Constant(same is isinstance(node.ops[0], (ast.Eq, ast.Is, ast.In))), node)
        found = self.generic_visit(node)
        return self.folded(found)

    def folded(self, node: ast.AST) -> ast.AST:
        """A comparison of plain values as what it gives."""
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = node.left, node.comparators[0]
            if isinstance(node.ops[0], (ast.In, ast.NotIn)) and all(isinstance(each, ast.Constant) for each in (left, right)):
                word, text = left.value, right.value  # type: ignore[attr-defined]
                if isinstance(word, str) and isinstance(text, str):
                    return placed(ast.Constant((word in text) is isinstance(node.ops[0], ast.In)), node)
            if isinstance(node.ops[0], (ast.Is, ast.IsNot)) and _is_none(right) and not isinstance(left, ast.Call):
                return placed(ast.Constant(_is_none(left) is isinstance(node.ops[0], ast.Is)), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`isinstance(m, nn.Linear)`, `hasattr(m, "bias")`, `name.endswith("weight")`, `nn.init.calculate_gain("relu")`"""
        name = dotted(node.func)
        if name == "isinstance" and len(node.args) == 2:
            return placed(ast.Constant(self.is_one_of(node.args[0], node.args[1])), node)
        if name == "hasattr" and len(node.args) == 2 and isinstance(word := plain_or_none(node.args[1]), str):
            module = self.changes.module(dotted(self.visit(node.args[0])))
            names = {**module._parameters, **module._buffers, **module._modules} if module is not None else {}
            return placed(ast.Constant(word in names), node)
        node = self.generic_visit(node)  # type: ignore[assignment]
        func = node.func
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Constant) and isinstance(func.value.value, str):
            given = [plain_or_none(part) for part in node.args]
            if func.attr in ("startswith", "endswith", "find") and len(given) == 1 and isinstance(given[0], str):
                return placed(ast.Constant(getattr(func.value.value, func.attr)(given[0])), node)
        if self.changes.finder.of_init(node) == "calculate_gain" and node.args and not node.keywords:
            given = [plain_or_none(part) for part in node.args]
            try:
                return literal(float(nn.init.calculate_gain(*given)), node)
            except (ValueError, TypeError, NoPlainError):
                raise self.changes.refusal(node) from None
        return node

    def is_one_of(self, node: ast.expr, named: ast.expr, exactly: bool = False) -> bool:
        """Whether a module is of one of some classes, or derived from one; `exactly`: of one itself."""
        kind = self.kind(node)
        own = tuple(getattr(kind, OF_PROGRAM, ()))
        for each in named.elts if isinstance(named, (ast.Tuple, ast.List)) else [named]:
            path = dotted(each)
            if path in self.changes.classes:
                found = path in own[: 1 if exactly else None]
            else:
                known = getattr(nn, path.rpartition(".")[2], None)
                if not isinstance(known, type):
                    raise self.changes.refusal(node)
                found = kind is known or (not exactly and issubclass(kind or nn.Module, known))
            if found:
                return True
        return False
