"""Modules of torch.nn that a program constructs: `net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())`.

Only classes that compute from their parameters and what they are given, of arguments that are plain numbers and words, are
there.  They are made before the program runs and are called as imported functions are: pure, with their parameters as inputs.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError, is_out_of_memory
from jvpcli.language.dependence import drawing, needed
from jvpcli.language.evaluate import default_dtype, run_for, seeded
from jvpcli.language.expressions import flat_parts
from jvpcli.language.failures import TOO_LARGE
from jvpcli.language.forecast import in_words
from jvpcli.language.imports import ImportedFunction, Imports
from jvpcli.language.names import (
    assigned,
    constructed,
    default_set,
    dotted,
    dtype_named,
    free_names,
    in_order,
    mode_method,
    separated,
    with_modules_apart,
    without_mode,
)
from jvpcli.language.operations import can_require_grad, describe
from jvpcli.language.parse import lowered, read_program
from jvpcli.language.source import SourceText

CLASSES = frozenset({
    "Sequential", "Identity", "Flatten", "Unflatten", "Linear", "Bilinear", "Embedding", "Conv1d", "Conv2d", "Conv3d",
    "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU",
    "GELU", "SiLU", "Mish", "Softplus", "Softsign", "Tanh", "Sigmoid", "Hardtanh", "Hardswish", "Hardsigmoid", "LogSigmoid",
    "Softmax", "LogSoftmax", "Softmin", "GLU", "Threshold", "Tanhshrink", "Softshrink", "Hardshrink", "Dropout",
    "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm",
    "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "RMSNorm", "LocalResponseNorm", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "Upsample",
    "PixelShuffle", "PixelUnshuffle", "ZeroPad2d", "ReflectionPad1d", "ReflectionPad2d", "ReplicationPad1d",
    "ReplicationPad2d", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "MultiheadAttention",
    "TransformerEncoderLayer", "TransformerDecoderLayer", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss",
    "CrossEntropyLoss", "NLLLoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss", "CosineEmbeddingLoss", "TripletMarginLoss",
    "MarginRankingLoss", "MultiMarginLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "SoftMarginLoss",
    "HingeEmbeddingLoss", "PoissonNLLLoss", "GaussianNLLLoss", "CosineSimilarity",
    "PairwiseDistance",
})  # fmt: skip
"""What may be constructed."""

OF_INTEGERS = frozenset({"Embedding", "Sequential", "CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "MultiLabelMarginLoss"})
"""Those that take tensors of integers, whose ranges torch checks."""

FORBIDDEN = frozenset({"device", "dtype", "circular", "cuda", "meta"})
"""Words that no constructor takes here."""

MOST_BITS = 30
"""Integers of one constructor, together: sums and products of fewer bits don't overflow inside of torch."""

MOST_PARTS = 20_000
"""Arguments of a constructor and of those in it, with what these hold."""

MOST_MODULES = 1000

MOST_COMPUTED = 200
"""Arguments of constructors that are computed, each by what stands before."""

ONCE = "Construct it in a statement of its own, before: net = nn.Linear(3, 4)"
"""What works in place of a constructor in a block."""

COMPUTED = (ast.Name, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Attribute, ast.Call, ast.IfExp, ast.Compare)
"""What may give a plain value."""

PLAIN = (int, float, str, bool, type(None))
"""What a constructor is given, and tuples of such."""

DRAW = ast.parse("torch.rand(1)")
"""What needs all that draws random numbers before it."""

MARGIN = 1024
"""Bytes by which a module may take more than the product of its sizes: kernels of several axes, gates, four bytes a number."""


@dataclass(frozen=True, eq=False)
class Module(ImportedFunction):
    """A module that the program has constructed.

    Attributes:
        left: the state of random numbers behind its construction, which began from `seed`.
        drawn: that of numpy's; None where nothing has drawn from them.
    """

    seed: int = 0
    left: Tensor = field(default_factory=torch.default_generator.get_state)
    drawn: Any = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its parameters, by their names in the program."""
        assert isinstance(self.function, nn.Module)
        return {f"{self.name}.{name}": tuple(x.shape) for name, x in self.function.named_parameters()}

    @property
    def began_so(self) -> bool:
        """Whether random numbers began from the same seed."""
        return torch.default_generator.initial_seed() == self.seed

    def leave(self) -> None:
        """Random numbers go on as behind the construction, where they began from the same seed."""
        if self.began_so:
            torch.default_generator.set_state(self.left)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it with tensors; keywords with a dot in their name are values of parameters.

        Raises:
            ForbiddenError: something else is given.
        """
        named = {name: value for name, value in keywords.items() if "." not in name}
        if named:  # loss(input=x, target=y)
            keywords = {name: value for name, value in keywords.items() if "." in name}
            arguments = self.in_order(arguments, named)
        takes_integers = type(self.function).__name__ in OF_INTEGERS
        for value in _flat(arguments):
            if value is None:
                continue  # a state that begins as zeros
            if not isinstance(value, Tensor):
                raise ForbiddenError(f"`{self.name}` takes tensors, and {describe(value)} is given.")
            if not takes_integers and not can_require_grad(value):
                raise EvaluationError(f"`{self.name}` takes tensors of floating point, not {str(value.dtype)[6:]}.")
        return super().__call__(*arguments, **keywords)

    def in_order(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments by their places.

        Raises:
            EvaluationError: its `forward` does not take them.
            ForbiddenError: it takes one by its name alone.
        """
        assert isinstance(self.function, nn.Module)
        try:
            bound = signature(self.function.forward).bind(*arguments, **named)
        except TypeError as error:
            raise EvaluationError(f"`{self.name}` refuses its arguments: {error}.", torch_message=str(error)) from None
        if bound.kwargs:
            raise ForbiddenError(f"`{self.name}` takes `{next(iter(bound.kwargs))}` by its name alone: it can't be given here.")
        return bound.args


def _flat(values: tuple[Any, ...]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


def construct(
    source: str,
    seed: int = 0,
    memory_limit: int | None = None,
    inputs: Mapping[str, Tensor] | None = None,
) -> Imports | None:
    """The modules that a program's text constructs, with random numbers from `seed`; None where it constructs none.

    Random numbers are drawn in the order of the text: what draws before a constructor, maybe of `inputs`, is run for that.

    Raises:
        ForbiddenError: a class or an argument that there isn't here, a module whose name means something else too, one with
            parameters that the program could construct more than once or not at all, a change of mode after a use.
        EvaluationError: torch refuses the arguments.
        LimitError: they make modules that are too large; `memory_limit` is in bytes.
    """
    try:
        text, tree = read_program(source)
    except JvpError:
        return None
    tree = with_modules_apart(tree)
    statements, found = tree.body, constructed(tree)
    if not found:
        return None
    bound = _bound(tree)
    held_once = {id(part) for statement in tree.body for part in _once(statement)}
    modules: dict[str, nn.Module] = {}
    functions: dict[str, Module] = {}
    draws = drawing(statements, constructors=False)
    made = {id(node) for node, _ in found.values()}  # which leave random numbers as they are behind them
    done = 0
    maker = _Maker(text, {}, _numbers(tree, bound), memory_limit)
    dtype = next((name for statement in tree.body if (name := default_set(statement))), None)
    with seeded(seed), default_dtype(getattr(torch, dtype[6:]) if dtype else None):
        for name, (node, classes) in found.items():
            maker.classes = classes
            maker.is_once = id(node) in held_once
            before = statements[: next(place for place, part in enumerate(statements) if node in ast.walk(part))]
            if any(draws(part) for part in before[done:] if id(getattr(part, "value", None)) not in made):
                with suppress(JvpError):  # what is wrong there is said when all of it runs
                    maker.run([*needed(DRAW, before), _expression(ast.Constant(0), before[-1])], inputs or {}, functions, seed)
            done = len(before)
            maker.behind = _Behind(maker, before, inputs or {}, functions, seed)
            modules[name] = maker.make(node)
            for call in reversed(_chained(tree, node)):
                modules[name].train(_mode(call, maker))
            state = torch.default_generator.get_state()
            seed_now = torch.default_generator.initial_seed()
            for path, part in _parts(modules[name]):
                called = f"{name}.{path}" if path else name
                functions[called] = Module(called, part, (), modules, seed=seed_now, left=state, drawn=maker.drawn)
            if not maker.is_once and next(modules[name].parameters(), None) is not None:
                message = f"A module with parameters is constructed once: `nn.{classes[id(node)]}` stands in a block or function."
                raise maker.at(node, ForbiddenError(message, hints=[ONCE]))
    _check_names(tree, found, bound, maker)
    _set_modes(tree, modules, bound, maker)
    return Imports(functions, modules)


def _expression(value: ast.expr, node: ast.AST) -> ast.Expr:
    """A value as a statement that stands in the place of a part of the text."""
    return ast.fix_missing_locations(ast.copy_location(ast.Expr(value), node))


def _parts(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module, and of a Sequential its parts, by their dotted names."""
    yield path, module
    if isinstance(module, nn.Sequential):
        for name, part in module.named_children():
            yield from _parts(part, f"{path}.{name}" if path else name)


def _check_names(
    tree: ast.Module, found: Mapping[str, tuple[ast.Call, Any]], bound: Mapping[str, list[ast.AST]], maker: _Maker
) -> None:
    """Refuse a name that is a module's and something else's too, and a module whose name is not known before it all runs."""
    nodes = {id(node) for node, _ in found.values()}
    # parameters and variables of comprehensions have a scope of their own, and hide the module there
    hiding = [part for part in ast.walk(tree) if isinstance(part, (ast.arg, ast.comprehension))]
    own = {id(name) for part in hiding for name in ast.walk(part if isinstance(part, ast.arg) else part.target)}
    for part in ast.walk(tree):
        value = part.value if isinstance(part, (ast.Assign, ast.AnnAssign)) else None
        for item in flat_parts(value) if value is not None else ():
            if id(without_mode(item)) not in nodes:
                continue
            target = part.targets[0] if isinstance(part, ast.Assign) and len(part.targets) == 1 else None
            if part not in tree.body or item is not value or not isinstance(target, ast.Name):
                message = "A module gets one name, in a statement of its own that is in no block: net = nn.Linear(3, 4)"
                raise maker.at(item, ForbiddenError(message))
            for again in [node for node in bound[target.id] if node is not target and id(node) not in own]:
                message = f"`{target.id}` is a module, and is bound a second time here: give one of the two another name."
                raise maker.at(max(again, target, key=_place), ForbiddenError(message))


def _bound(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """Where each name is bound, in the text's order."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, []).append(node)
        elif isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.arg):
            found.setdefault(node.arg, []).append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, []).append(node)
    return {name: sorted(nodes, key=_place) for name, nodes in found.items()}


def _place(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


REPEATED = (
    ast.FunctionDef, ast.Lambda, ast.For, ast.While, ast.If, ast.IfExp, ast.BoolOp, ast.Compare, ast.ListComp, ast.SetComp,
    ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
"""What may run its parts more than once, or not at all."""


def _once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run exactly once."""
    yield node
    if not isinstance(node, REPEATED):
        for part in ast.iter_child_nodes(node):
            yield from _once(part)


def _numbers(tree: ast.Module, bound: Mapping[str, list[ast.AST]]) -> dict[str, ast.expr]:
    """The names that stand for one value from the beginning to the end, with what they stand for."""
    pairs = [
        (target, node.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for node in separated(statement)
        for target in node.targets
    ]
    return {
        target.id: value
        for target, value in pairs
        if isinstance(target, ast.Name)
        and len(bound[target.id]) == 1
        and not any(isinstance(part, ast.Call) for part in ast.walk(value))
    }


def _chained(tree: ast.Module, constructor: ast.Call) -> list[ast.Call]:
    """The calls of `nn.Linear(3, 4).train().eval()` that set its mode, the last first."""
    for node in ast.walk(tree):
        calls: list[Any] = []
        while (method := mode_method(node)) is not None:
            calls.append(node)
            node = method.value
        if calls and node is constructor:
            return calls
    return []


def _mode(call: Any, maker: _Maker) -> bool:
    """Whether `net.eval()`, `net.train()`, `net.train(False)`, `net.train(mode=False)` sets training mode."""
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    values = [value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, bool)]
    training = call.func.attr == "train"
    if len(values) != len(call.args) + len(call.keywords) or len(values) > training:
        raise maker.at(call, ForbiddenError("A mode is set by eval(), train(), train(True) or train(False) here."))
    return values[0] if values else training


def _has_modes(module: nn.Module) -> bool:
    """Whether a module or a part of it computes something else in evaluation, as its classes read."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__ if kind is not nn.Module}
    codes = (getattr(each, "__code__", None) for kind in kinds for each in vars(kind).values())
    return any("training" in code.co_names for code in codes if code is not None)


def _set_modes(
    tree: ast.Module, modules: Mapping[str, nn.Module], bound: Mapping[str, list[ast.AST]], maker: _Maker
) -> None:
    """Set the modes that statements set before a module's first use; a change anywhere else is refused."""
    plain = {id(statement.value) for statement in tree.body if isinstance(statement, ast.Expr)}
    # what neither computes with a module nor changes its mode is no use of it
    owners = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("eval", "train", "parameters", "named_parameters", "zero_grad")
    }
    functions = {part.name: free_names(part) for part in tree.body if isinstance(part, ast.FunctionDef)}  # used where called
    owners |= {id(node) for part in tree.body if isinstance(part, ast.FunctionDef) for node in ast.walk(part)}
    used: set[str] = set()
    for node in in_order(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in owners:
            reads = {node.id}
            while more := set().union(*(functions.get(name, ()) for name in reads)) - reads:
                reads |= more
            used |= reads
        method = mode_method(node)
        owner = None if method is None else method.value
        if method is None or not isinstance(owner, ast.Name) or owner.id not in modules:
            continue
        mode = _mode(node, maker)
        if id(node) in plain and owner.id not in used:
            modules[owner.id].train(mode)
        elif (modules[owner.id].training != mode and (".training" in maker.text.source or _has_modes(modules[owner.id]))) or (
            len(bound.get(owner.id, ())) > 1  # a parameter may stand for another module
        ):
            message = f"`{owner.id}` has one mode throughout a program here, and this may change it after a use."
            hints = [f"Set the mode in a statement of its own, before `{owner.id}` is used: {owner.id}.{method.attr}()"]
            raise maker.at(node, ForbiddenError(message, hints=hints))


@dataclass
class _Maker:
    """Makes the modules of one constructor and of those in it, and counts the bytes that all have taken."""

    text: SourceText
    classes: Mapping[int, str]
    numbers: dict[str, ast.expr]
    memory_limit: int | None
    held: int = 0
    parts: int = 0
    computed: int = 0
    is_once: bool = True
    behind: _Behind | None = None
    drawn: Any = None
    """The state of numpy's random numbers, as for a module."""

    def make(self, node: ast.Call) -> nn.Module:
        """The module that a constructor makes."""
        name = self.classes[id(node)]
        if name not in CLASSES:
            hints = ["A file of yours can: --import FILE.py"]
            raise self.at(node.func, ForbiddenError(f"`nn.{name}` can't be constructed here.", hints=hints))
        given = [part for written in node.args for part in _spread(written)] if name == "Sequential" else node.args
        arguments = [value for part in given for value in self.written_out(part)]
        dtypes = {each: dtype for each in node.keywords if each.arg == "dtype" and (dtype := self.dtype(each.value))}
        keywords = {each.arg or "**": self.argument(each.value) for each in node.keywords if each not in dtypes}
        words = {*keywords, *(value for value in (*arguments, *keywords.values()) if isinstance(value, str))}
        if "**" in words or words & FORBIDDEN:
            raise self.at(node, ForbiddenError(f"`{min(words & {*FORBIDDEN, '**'})}` can't be used in a constructor."))
        if name != "Sequential" and any(isinstance(value, nn.Module) for value in (*arguments, *keywords.values())):
            raise self.at(node, ForbiddenError(f"`nn.{name}` takes no modules here."))
        integers = self.check_size(node, [*arguments, *keywords.values()])
        if dtypes:
            keywords["dtype"] = next(iter(dtypes.values()))
        kind: type[nn.Module] = getattr(nn, name)
        try:
            if name != "Sequential" and self.may_not_fit(integers):
                with torch.device("meta"):  # where nothing takes memory
                    self.check_memory(node, kind(*arguments, **keywords))
            made = kind(*arguments, **keywords)
        except LimitError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or TOO_LARGE.search(str(error)) or isinstance(error, OverflowError):
                raise self.at(node, LimitError(f"`nn.{name}` can't be made of that: {_first(error)}.")) from None
            refused = EvaluationError(f"`nn.{name}` refuses its arguments: {_first(error)}.", torch_message=str(error))
            raise self.at(node, refused) from None
        if name != "Sequential":
            self.held = self.check_memory(node, made)
        return made

    def dtype(self, node: ast.expr) -> torch.dtype | None:
        """The dtype of parameters that an argument names; None of anything else."""
        name = dtype_named(dotted(self.numbers.get(dotted(node), node)))
        return None if name is None else getattr(torch, name)

    def run(
        self, statements: Sequence[ast.stmt], scope: Mapping[str, Tensor], functions: Mapping[str, Module], seed: int
    ) -> Any:
        """What the last of some statements gives, and random numbers as they leave them, which begin with `seed`."""
        torch.default_generator.manual_seed(seed)
        imports = Imports(functions, next(iter(functions.values())).modules if functions else {})
        scope = {**scope, **imports.parameters}
        program = lowered(self.text, ast.Module([*statements], []), frozenset(scope), tuple(imports.reads(scope).items()))
        found, self.drawn = run_for(program, scope, functions, self.memory_limit)
        return found

    def may_not_fit(self, integers: list[int]) -> bool:
        """Whether a module of these sizes might take more than is left: its parameters are products of them."""
        sizes = [abs(value) for value in integers if value]
        most = max(math.prod(sizes), max(sizes, default=0) ** 2) * MARGIN
        return self.memory_limit is not None and self.held + most > self.memory_limit

    def check_memory(self, node: ast.Call, made: nn.Module) -> int:
        """The bytes that all modules take with this one.

        Raises:
            LimitError: they are more than are allowed.
        """
        held = self.held + sum(part.nbytes for part in (*made.parameters(), *made.buffers()))
        if self.memory_limit is not None and held > self.memory_limit:
            needed, allowed, name = in_words(held), in_words(self.memory_limit), self.classes[id(node)]
            raise self.at(node, LimitError(f"The modules up to `nn.{name}` take {needed}; {allowed} are allowed."))
        return held

    def argument(self, node: ast.expr) -> Any:
        """A module, or a plain value."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise self.at(node, LimitError(f"The constructors of a program take at most {MOST_PARTS:,} arguments in all."))
        if isinstance(node, ast.Call) and id(node) in self.classes:
            return self.make(node)
        if isinstance(node, ast.Name) and node.id in self.numbers:
            written = self.numbers.pop(node.id)  # it can't be made of itself
            value = self.argument(written)
            plain = isinstance(value, (int, float, str))
            self.numbers[node.id] = ast.copy_location(ast.Constant(value), written) if plain else written
            return value
        if isinstance(node, (ast.Tuple, ast.List)):
            values = [self.argument(part) for part in node.elts]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, (int, float)) else self.refuse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
            return node.value
        return self.value(node)

    def written_out(self, node: ast.expr) -> Sequence[Any]:
        """An argument; of `*sizes` each that it stands for."""
        value = self.argument(node.value if isinstance(node, ast.Starred) else node)
        if not isinstance(node, ast.Starred):
            return [value]
        return value if isinstance(value, (list, tuple)) else self.refuse(node)

    def value(self, node: ast.expr) -> Any:
        """What a plain value is that the program computes before: `X.shape[1]`, `hidden // 2`, `sizes[0]`."""
        if self.behind is None or not self.is_once or not isinstance(node, COMPUTED):
            return self.refuse(node)
        self.computed += 1
        if self.computed > MOST_COMPUTED:
            raise self.at(node, LimitError(f"At most {MOST_COMPUTED:,} arguments of constructors are computed here."))
        found = self.behind.of(node)
        return found if all(type(each) in PLAIN for each in _flat((found,))) else self.refuse(node)

    def refuse(self, node: ast.expr) -> Any:
        """An argument that is neither."""
        where = "" if self.is_once else " in a block or function"
        message = f"A constructor takes plain numbers, words and modules here{where}."
        raise self.at(node, ForbiddenError(message, hints=[ONCE] if where else ()))

    def check_size(self, node: ast.expr, values: list[Any]) -> list[int]:
        """The integers; refused where they could make sizes overflow, or take too much."""
        written = tuple(tuple(value) if isinstance(value, list) else value for value in values)
        integers = [value for value in _flat(written) if type(value) is int]
        if any(value < -1 for value in integers):
            raise self.at(node, EvaluationError(f"No constructor takes integers below -1 here, and {min(integers)} is given."))
        if sum(value.bit_length() for value in integers) > MOST_BITS:
            raise self.at(node, LimitError("The sizes of this constructor are larger than what is taken."))
        if len(values) > MOST_MODULES:
            raise self.at(node, LimitError(f"A constructor takes at most {MOST_MODULES:,} arguments."))
        return integers

    def at(self, node: ast.AST, error: JvpError) -> JvpError:
        """The error with its place."""
        return error.with_context(span=self.text.span(node), source=self.text.source)


def _spread(node: ast.expr) -> Iterator[ast.expr]:
    """What an argument stands for: `*[nn.Tanh() for _ in range(3)]` and `*[a, b]` for several, any other for itself."""
    written = node.value if isinstance(node, ast.Starred) else None
    if isinstance(written, (ast.List, ast.Tuple)):
        yield from written.elts
        return
    loop = written.generators[0] if isinstance(written, ast.ListComp) and len(written.generators) == 1 else None
    turns = loop.iter if loop is not None and isinstance(loop.iter, ast.Call) and not loop.ifs else None
    count = turns.args[0] if turns is not None and dotted(turns.func) == "range" and len(turns.args) == 1 else None
    if loop is None or not (isinstance(written, ast.ListComp) and isinstance(count, ast.Constant) and type(count.value) is int):
        yield node
        return
    alike = {*assigned([loop.target])}.isdisjoint(free_names(written.elt))
    yield from [written.elt] * min(count.value, MOST_MODULES + 1) if alike else [node]


@dataclass(frozen=True)
class _Behind:
    """Evaluates expressions behind the statements that stand before a constructor."""

    maker: _Maker
    before: Sequence[ast.stmt]
    scope: Mapping[str, Tensor]
    functions: Mapping[str, Module]
    seed: int

    def of(self, node: ast.expr) -> Any:
        """What one gives there; random numbers stay as they are."""
        state, drawn = torch.default_generator.get_state(), self.maker.drawn
        asked = _expression(node, node)
        found = self.maker.run([*needed(asked, self.before), asked], self.scope, self.functions, self.seed)
        torch.default_generator.set_state(state)
        self.maker.drawn = drawn
        return found


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")


def expanded(wanted: tuple[str, ...], parameters: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of what to differentiate: a module's, `net.parameters()` and patterns (`net.*`, `*.weight`) as the parameters that
    they mean; those of which no gradients are recorded only by their own names.
    """
    names: list[str] = []
    trained = [key for key, x in parameters.items() if x.requires_grad]
    for name in wanted:
        root = name.removesuffix(".parameters()")
        under = [key for key in trained if key.startswith(f"{root}.") or fnmatchcase(key, root)]
        names += under if name not in parameters and under else [name]
    return tuple(dict.fromkeys(names))
