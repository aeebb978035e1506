"""A VALUE for an input that was not given: one that surely works, by the syntax alone; torch is not loaded for it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import Any

VECTOR, MATRIX = "1,2,3", "2,1;1,3"

ALIKE = frozenset((
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt",
    "square", "abs", "sigmoid", "relu", "gelu", "silu", "elu", "selu", "softplus", "softsign", "leaky_relu", "logsigmoid", "erf",
    "erfc", "exp2", "log2", "log10", "reciprocal", "neg", "pow", "mul", "add", "sub", "div", "maximum", "minimum", "hypot",
    "atan2", "logaddexp", "clone", "softmax", "log_softmax", "cumsum", "cumprod",
))  # fmt: skip
"""Functions that take tensors of one and the same shape, whatever it is, and give one of that shape."""

NUMBERS = frozenset((
    "sum", "mean", "prod", "std", "var", "norm", "amax", "amin", "max", "min", "logsumexp", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss",
))  # fmt: skip
"""Functions that give a single number."""

OF_VECTORS = frozenset(("outer", "dot", "vdot", "ger", "inner"))
OF_MATRICES = frozenset(
    ("matmul", "mm", "linear", "inv", "pinv", "cholesky", "matrix_exp", "T", "mT", "t", "tril", "triu")
)
"""Functions that take square matrices, positive definite where that matters, and give one."""

NUMBERS_OF_MATRICES = NUMBERS | {"det", "logdet", "trace"}


def values_for(expression: str, missing: Collection[str], given: Mapping[str, Any]) -> Mapping[str, str] | None:
    """A VALUE for each missing input; None where it can't be told what works.

    One VALUE serves for all: that of the inputs that are given, where the shapes of all must be alike.
    """
    try:
        root = _root(expression)
        names = set(_called(root))
    except (SyntaxError, ValueError, RecursionError, _Unsure):
        return None
    shared = set(given.values()) if all(isinstance(value, str) for value in given.values()) else {"", "-"}
    value: str | None = None
    if shared:
        value = shared.pop() if len(shared) == 1 and "-" not in shared and names <= ALIKE | NUMBERS else None
    elif names <= ALIKE | NUMBERS | {"axis"} or (names <= ALIKE | NUMBERS | OF_VECTORS and _of_names_alone(root)):
        value = VECTOR
    elif set(_called(root, inside=True)) <= ALIKE | OF_MATRICES and names <= ALIKE | OF_MATRICES | NUMBERS_OF_MATRICES:
        value = MATRIX
    return None if value is None else dict.fromkeys(missing, value)


def in_words(name: str) -> str:
    """The forms that a value may have."""
    return f'Give it a value: --{name} 1,2,3 is a vector, --{name} "1,2;3,4" a matrix, --{name} "torch.randn(2, 3)" any tensor.'


class _Unsure(Exception):
    """Something whose shapes are not known by its name."""


def _root(expression: str) -> ast.expr:
    tree = ast.parse(expression)
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        raise _Unsure
    return tree.body[0].value


def _called(root: ast.expr, inside: bool = False) -> Iterator[str]:
    """The functions, methods and operators that join the inputs, and `axis` for the first or last axis as an argument.

    `inside` leaves out the outermost function.
    """
    for node in ast.walk(root):
        if isinstance(node, ast.Call):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, (ast.Constant, ast.UnaryOp)):
                    yield "axis" if _is_axis(argument) else "mul"
        elif isinstance(node, ast.Attribute):
            of_root = isinstance(root, ast.Call) and node is root.func
            if node.attr not in ("linalg", "special") and not (inside and of_root):
                yield node.attr
        elif isinstance(node, ast.BinOp):
            if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult)):
                raise _Unsure
            yield "matmul" if isinstance(node.op, ast.MatMult) else "mul"
        elif not isinstance(
            node, (ast.Name, ast.Constant, ast.UnaryOp, ast.USub, ast.operator, ast.keyword, ast.expr_context)
        ):
            raise _Unsure


def _is_axis(node: ast.expr) -> bool:
    """0 or -1; another number is not known to be one."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        return False
    if ast.unparse(node) not in ("0", "-1"):
        raise _Unsure
    return True


def _of_names_alone(root: ast.expr) -> bool:
    """Whether the functions of vectors get inputs as they are: what comes out of them are no vectors."""
    calls = [node for node in ast.walk(root) if isinstance(node, ast.Call)]
    of_vectors = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in OF_VECTORS]
    return all(
        isinstance(argument, ast.Name)
        for call in of_vectors
        for argument in (*call.args, call.func.value if isinstance(call.func, ast.Attribute) else call)
    )
