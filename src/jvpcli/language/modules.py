"""Modules of torch.nn that a program constructs: `net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())`.

Only classes that compute from their parameters and what they are given, of arguments that are plain numbers and words, are
there.  They are made before the program runs and are called as imported functions are: pure, with their parameters as inputs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError
from jvpcli.language.evaluate import seeded
from jvpcli.language.imports import ImportedFunction, Imports
from jvpcli.language.names import constructed
from jvpcli.language.operations import describe
from jvpcli.language.source import SourceText, read_source

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
    "MarginRankingLoss", "SoftMarginLoss", "HingeEmbeddingLoss", "PoissonNLLLoss", "GaussianNLLLoss", "CosineSimilarity",
    "PairwiseDistance",
})  # fmt: skip
"""What may be constructed."""

OF_INTEGERS = frozenset({"Embedding", "Sequential", "CrossEntropyLoss", "NLLLoss"})
"""Those that take tensors of integers, whose ranges torch checks."""

FORBIDDEN = frozenset({"device", "dtype", "circular", "cuda", "meta"})
"""Words that no constructor takes here."""

MOST_BITS = 30
"""Integers of one constructor, together: sums and products of fewer bits don't overflow inside of torch."""

MOST_MODULES = 1000


@dataclass(frozen=True, eq=False)
class Module(ImportedFunction):
    """A module that the program has constructed."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it with tensors; keywords with a dot in their name are values of parameters.

        Raises:
            ForbiddenError: something else is given.
        """
        if any("." not in name for name in keywords):
            raise ForbiddenError(f"`{self.name}` takes no named arguments here.")
        takes_integers = type(self.function).__name__ in OF_INTEGERS
        for value in _flat(arguments):
            if not isinstance(value, Tensor):
                raise ForbiddenError(f"`{self.name}` takes tensors, and {describe(value)} is given.")
            if not takes_integers and not (value.is_floating_point() or value.is_complex()):
                raise EvaluationError(f"`{self.name}` takes tensors of floating point, not {str(value.dtype)[6:]}.")
        return super().__call__(*arguments, **keywords)


def _flat(values: tuple[Any, ...]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


def construct(source: str, seed: int = 0) -> Imports | None:
    """The modules that a program's text constructs, with random numbers from `seed`; None where it constructs none.

    Raises:
        ForbiddenError: a class or an argument that there isn't here.
        EvaluationError: torch refuses the arguments.
        LimitError: they would make a module that is too large.
    """
    try:
        text, tree = read_source(source)
    except JvpError:
        return None
    found = constructed(tree)
    if not found:
        return None
    modules: dict[str, nn.Module] = {}
    numbers = _numbers(tree)
    with seeded(seed):
        for name, (node, classes) in found.items():
            modules[name] = _Maker(text, classes, numbers).make(node)
    for part in ast.walk(tree):
        for name, mode in _modes(part):
            if name in modules:
                modules[name].train(mode)
    functions = {name: Module(name, module, (), modules) for name, module in modules.items()}
    return Imports(functions, modules)


def _numbers(tree: ast.Module) -> dict[str, ast.Constant]:
    """The names that stand for a plain number from the beginning to the end."""
    made: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name) and isinstance(node, ast.Assign):
                made.setdefault(target.id, []).append(node.value)
    return {name: value for name, (value, *more) in made.items() if not more and isinstance(value, ast.Constant)}


def _modes(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """`net.eval()`, `net.train()`."""
    func = node.func if isinstance(node, ast.Call) else None
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.attr in ("eval", "train"):
        yield func.value.id, func.attr == "train"


@dataclass(frozen=True)
class _Maker:
    """Makes the modules of one constructor and of those in it."""

    text: SourceText
    classes: Mapping[int, str]
    numbers: Mapping[str, ast.Constant]

    def make(self, node: ast.Call) -> nn.Module:
        """The module that a constructor makes."""
        name = self.classes[id(node)]
        if name not in CLASSES:
            hints = ["A file of yours can: --import FILE.py"]
            raise self.at(node.func, ForbiddenError(f"`nn.{name}` can't be constructed here.", hints=hints))
        arguments = [self.argument(part) for part in node.args]
        keywords = {keyword.arg or "**": self.argument(keyword.value) for keyword in node.keywords}
        words = {*keywords, *(value for value in (*arguments, *keywords.values()) if isinstance(value, str))}
        if "**" in words or words & FORBIDDEN:
            raise self.at(node, ForbiddenError(f"`{min(words & {*FORBIDDEN, '**'})}` can't be used in a constructor."))
        if name != "Sequential" and any(isinstance(value, nn.Module) for value in (*arguments, *keywords.values())):
            raise self.at(node, ForbiddenError(f"`nn.{name}` takes no modules here."))
        self.check_size(node, [*arguments, *keywords.values()])
        try:
            made: nn.Module = getattr(nn, name)(*arguments, **keywords)
            return made
        except (RuntimeError, MemoryError, OverflowError) as error:
            raise self.at(node, LimitError(f"`nn.{name}` can't be made of that: {_first(error)}.")) from None
        except Exception as error:
            refused = EvaluationError(f"`nn.{name}` refuses its arguments: {_first(error)}.", torch_message=str(error))
            raise self.at(node, refused) from None

    def argument(self, node: ast.expr) -> Any:
        """A module, or a plain value."""
        if isinstance(node, ast.Call) and id(node) in self.classes:
            return self.make(node)
        if isinstance(node, ast.Name) and node.id in self.numbers:
            node = self.numbers[node.id]
        if isinstance(node, (ast.Tuple, ast.List)):
            values = [self.argument(part) for part in node.elts]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, (int, float)) else self.refuse(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Add, ast.FloorDiv)):
            return self.computed(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
            return node.value
        return self.refuse(node)

    def computed(self, node: ast.BinOp) -> int:
        """`4 * 4`, `hidden // 2`."""
        left, right = self.argument(node.left), self.argument(node.right)
        if type(left) is not int or type(right) is not int or max(left.bit_length(), right.bit_length()) > MOST_BITS:
            self.refuse(node)
        if isinstance(node.op, ast.Mult):
            return int(left * right)
        return int(left + right) if isinstance(node.op, ast.Add) else int(left // right) if right else self.refuse(node)

    def refuse(self, node: ast.expr) -> Any:
        """An argument that is neither."""
        raise self.at(node, ForbiddenError("A constructor takes plain numbers, words and modules here."))

    def check_size(self, node: ast.expr, values: list[Any]) -> None:
        """Refuse integers that could make sizes overflow, or take too much."""
        written = tuple(tuple(value) if isinstance(value, list) else value for value in values)
        integers = [value for value in _flat(written) if type(value) is int]
        if sum(value.bit_length() for value in integers) > MOST_BITS or any(value < -1 for value in integers):
            raise self.at(node, LimitError("The sizes of this constructor are larger than what is taken."))
        if len(values) > MOST_MODULES:
            raise self.at(node, LimitError(f"A constructor takes at most {MOST_MODULES:,} arguments."))

    def at(self, node: ast.AST, error: JvpError) -> JvpError:
        """The error with its place."""
        return error.with_context(span=self.text.span(node), source=self.text.source)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")


def expanded(wanted: tuple[str, ...], parameters: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of what to differentiate; `net`, `net.*`, `net.0.*` and `net.parameters()` are the parameters that they mean."""
    names: list[str] = []
    for name in wanted:
        root = name.removesuffix(".parameters()").removesuffix(".*")
        under = [key for key in parameters if key.startswith(f"{root}.")]
        names += under if name not in parameters and under else [name]
    return tuple(dict.fromkeys(names))
