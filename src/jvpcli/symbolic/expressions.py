"""Tensor expressions: small trees that are written as PyTorch code, and as a formula of matrices where they are one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.writing import SUPERSCRIPT, of_roots

ATOM, POSTFIX, POWER, NEGATIVE, PRODUCT, SUM = 100, 90, 80, 70, 60, 50
STRENGTHS = {"matmul": PRODUCT, "mul": PRODUCT, "div": PRODUCT, "add": SUM, "sub": SUM, "neg": NEGATIVE, "pow": POWER}


@dataclass(frozen=True)
class Expr:
    """A tensor expression: `op` of `args`; `text` is a name, a number, or a format of the arguments in PyTorch.

    `matrix` is such a format in the notation of matrices; None: there is none.
    """

    op: str
    args: tuple[Expr, ...] = ()
    text: str = ""
    ndim: int = 0
    matrix: str | None = None
    entries: int = 0  # of a sum: how many it adds up
    symmetric: bool = False  # a matrix that is its own transpose


def strength(expr: Expr) -> int:
    """How tightly the outermost operation of an expression binds."""
    if expr.op == "number" and "/" in expr.text:
        return PRODUCT
    if expr.op == "number" and expr.text.startswith("-"):
        return NEGATIVE
    return STRENGTHS.get(expr.op, ATOM)


def torch_text(expr: Expr, closed: bool = False) -> str:
    """The expression in Python; `closed`: a product of matrices at its end stands in brackets, since more follows."""

    def at(part: Expr, least: int, closed: bool = False) -> str:
        text = torch_text(part, closed)
        return text if strength(part) >= least else f"({text})"

    match expr.op:
        case "name" | "number":
            return expr.text
        case "matmul":
            text = f"{at(expr.args[0], PRODUCT)} @ {at(expr.args[1], PRODUCT + 1)}"
            return f"({text})" if closed else text
        case "mul":
            a, b = expr.args
            chain = a.ndim == 0 and b.op in ("matmul", "mul") and a.op != "div"
            return f"{at(a, PRODUCT, True)}*{at(b, PRODUCT if chain else PRODUCT + 1, closed and chain)}"
        case "div":
            return f"{at(expr.args[0], PRODUCT)}/{at(expr.args[1], PRODUCT + 1)}"
        case "add":
            return f"{at(expr.args[0], SUM)} + {at(expr.args[1], SUM)}"
        case "sub":
            return f"{at(expr.args[0], SUM)} - {at(expr.args[1], SUM + 1)}"
        case "neg":
            return f"-{at(expr.args[0], PRODUCT)}"
        case "pow":
            return f"{at(expr.args[0], POSTFIX)}**{at(expr.args[1], POSTFIX)}"
        case "postfix":
            return f"{at(expr.args[0], POSTFIX)}{expr.text}"
        case "index":
            return f"{at(expr.args[0], POSTFIX)}[{torch_text(expr.args[1])}]"
    behind = [POSTFIX if f"{{{k}}}." in expr.text else 0 for k in range(len(expr.args))]  # a method of what stands there
    parts = list(map(at, expr.args, behind))
    for k, part in enumerate(expr.args):
        if part.op == "truth" and re.search(rf"[(,] ?\{{{k}\}}[,)]", expr.text):  # an argument needs no brackets
            parts[k] = parts[k].removeprefix("(").removesuffix(")")
    return expr.text.format(*parts)


def matrix_text(expr: Expr) -> str | None:
    """The expression in the notation of matrices; None where there is none."""
    inner = [matrix_text(a) for a in expr.args]
    if any(a is None for a in inner):
        return None

    def at(k: int, least: int, kind: str = "") -> str:
        part = expr.args[k]
        mixed = _product_of(part) not in ("", kind)  # a matrix product inside an element-wise one, or the other way
        return str(inner[k]) if matrix_strength(part) >= least and not (kind and mixed) else f"({inner[k]})"

    match expr.op:
        case "name":
            return expr.text
        case "number":
            return _number_told(expr)
        case "matmul":
            a, b = expr.args
            if a.ndim == b.ndim == 1:
                return f"{at(0, POSTFIX)}ᵀ·{at(1, PRODUCT + 1)}"
            if max(a.ndim, b.ndim) > 2:
                return None
            if a.ndim == 1:  # a vector is a column
                return f"{at(1, POSTFIX)}ᵀ·{at(0, PRODUCT, '·')}"
            return f"{at(0, PRODUCT, '·')}·{at(1, PRODUCT, '·')}"
        case "mul":
            a, b = expr.args
            if not a.ndim * b.ndim:
                return f"{at(0, PRODUCT)}·{at(1, PRODUCT)}"
            return f"{at(0, PRODUCT, '∘')}∘{at(1, PRODUCT, '∘')}" if a.ndim == b.ndim else None
        case "div":
            a, b = expr.args
            sign = "⊘" if a.ndim and b.ndim else "/"
            kind = "∘" if a.ndim and b.ndim else ""
            return f"{at(0, PRODUCT, kind)}{sign}{at(1, PRODUCT + 1)}" if not b.ndim or a.ndim == b.ndim else None
        case "add":
            return f"{at(0, SUM)} + {at(1, SUM)}" if expr.args[0].ndim == expr.args[1].ndim else None
        case "sub":
            return f"{at(0, SUM)} − {at(1, SUM + 1)}" if expr.args[0].ndim == expr.args[1].ndim else None
        case "neg":
            return f"−{at(0, PRODUCT)}"
        case "pow":
            base, exponent = expr.args
            if base.ndim or exponent.op != "number":
                return None
            return at(0, ATOM) + str(Fraction(exponent.text)).translate(SUPERSCRIPT)
    if expr.matrix is None:
        return None
    return expr.matrix.format(*(at(k, *_place(expr.matrix, k)) for k in range(len(inner))))


def matrix_strength(expr: Expr) -> int:
    """How tightly the outermost operation binds in the notation of matrices, where an outer product is a product."""
    told = _number_told(expr) if expr.op == "number" else expr.matrix or ""
    return PRODUCT if "·" in told or (expr.op == "number" and "/" in told) else strength(expr)


def _number_told(expr: Expr) -> str:
    """A number in the notation of matrices, as in indices: where it is made of them by small whole numbers, their roots and π."""
    return expr.text if "/" in expr.text else of_roots(Fraction(expr.text), latex=False) or expr.text


def _product_of(expr: Expr) -> str:
    """What kind of product of tensors an expression is, behind its numbers: of matrices, or element by element."""
    if expr.op == "matmul" or (expr.matrix and "·" in expr.matrix):
        return "·"
    if expr.op in ("mul", "div"):
        a, b = expr.args
        return "∘" if a.ndim and b.ndim else _product_of(a if a.ndim else b)
    return ""


def _place(template: str, k: int) -> tuple[int, str]:
    """How tightly what stands at a place of a template has to bind, and in which kind of product it is."""
    if f"{{{k}}}ᵀ" in template:
        return POSTFIX, ""
    return (PRODUCT, "·") if "·" in template else (SUM, "")


def _own_operations(expr: Expr) -> int:
    """How many operations an expression has besides those of its arguments."""
    if expr.text.startswith("torch.einsum"):
        return 3 * len(expr.args) - 1 if len(expr.args) > 1 else 3
    free = expr.op == "name" or (expr.op == "number" and "/" not in expr.text) or expr.text.startswith(".to(")
    return 0 if free else 1


def operations(expr: Expr) -> int:
    """How many operations an expression has."""
    return sum(map(_own_operations, nodes(expr)))


def cost(expr: Expr) -> tuple[int, int, int]:
    """What is least of the shortest expression; what has more axes than any tensor in it counts as longer."""
    every = nodes(expr)
    names = [node for node in every if node.op == "name"]
    widest = max([expr.ndim, *[leaf.ndim for leaf in names]])
    wider = sum([node.ndim > widest for node in every])
    return sum(map(_own_operations, every)) + wider, len(names), len(torch_text(expr))


def nodes(expr: Expr) -> list[Expr]:
    """An expression and all that is in it, what is deeper last."""
    found = [expr]
    for node in found:  # which grows meanwhile
        found += node.args
    return found


def name(text: str, ndim: int = 0) -> Expr:
    """A tensor by its name."""
    return Expr("name", text=text, ndim=ndim)


def constant(value: Fraction) -> Expr:
    """A number as Python reads it, exactly where it can be short."""
    if value.denominator == 1:
        return Expr("number", text=str(value))
    decimal = f"{float(value):.12g}"
    if Fraction(decimal) == value or value.denominator > 10**4:
        return Expr("number", text=decimal if Fraction(decimal) == value else repr(float(value)))
    return Expr("number", text=f"{value.numerator}/{value.denominator}")


def call(text: str, *args: Expr, ndim: int, matrix: str | None = None) -> Expr:
    """A function of tensors; `text` is its format."""
    return Expr("call", args, text, ndim, matrix)


def postfix(of: Expr, text: str, ndim: int, matrix: str | None = None) -> Expr:
    """What is written behind a tensor: a method, a property, a subscript."""
    return Expr("postfix", (of,), text, ndim, matrix)


def filled(number: Expr, shape: str, kind: str, ndim: int) -> Expr:
    """A tensor of one number, of the kind of the inputs."""
    if number.text in ("0", "1"):
        return call(f"torch.{'ones' if number.text == '1' else 'zeros'}({shape}){kind}", ndim=ndim)
    return call(f"torch.full(({shape},), {{0}}){kind}", number, ndim=ndim)


FLIP = re.compile(r"\.flip\([^()]*\)")


def behind(expr: Expr, text: str, ndim: int) -> Expr:
    """A move written behind a tensor; a flip that undoes the one before it goes with it."""
    first = FLIP.match(text)
    if first is None or expr.op != "postfix" or expr.text != first[0]:
        return postfix(expr, text, ndim)
    rest = text[first.end() :]
    return postfix(expr.args[0], rest, ndim) if rest else expr.args[0]


def transposed(expr: Expr) -> Expr:
    """A matrix transposed, once; a product with the own transpose is itself."""
    if expr.op == "matmul" and expr.ndim == 2 and transposed(expr.args[0]) == expr.args[1]:
        return expr
    return expr.args[0] if expr.op == "postfix" and expr.text == ".T" else postfix(expr, ".T", 2, "{0}ᵀ")


def is_truth(expr: Expr) -> bool:
    """Whether code gives truths, or whole numbers that stand for them."""
    if expr.op == "postfix":
        return expr.text.startswith((".T", ".mT", ".transpose", ".permute", "[")) and is_truth(expr.args[0])
    return expr.op in ("truth", "whole") or (expr.op == "mul" and all(map(is_truth, expr.args)))


# What the functions of tensors that keep their names are called in PyTorch


Along = Callable[[Expr, str, bool, int], Expr]
"""Of a tensor, the axes, whether these are all, and how many come out: the function of it along those."""


def _along(text: str) -> Along:
    return lambda x, dim, all_axes, ndim: call(text.replace("DIM", dim), x, ndim=ndim)


def picking(part: str, function: str, options: Sequence[tuple[str, Any]]) -> Along:
    """The entries that a function picks along an axis, or where they stand."""
    if part == "indices" and function in ("sort", "max", "min"):
        more = "".join(f", {name}={value}" for name, value in options)
        return _method(f".arg{function}(DIM{more})", f".arg{function}({f'0{more}' if more else ''})")
    if part == "values" and function in ("max", "min"):
        return _method(f".a{function}(DIM)", f".a{function}()")
    given = "".join(f", {name}={value}" for name, value in options)
    return _along(f"torch.{function}({{0}}, dim=DIM{given}).{part}")


def _truth(text: str) -> Along:
    return lambda x, dim, all_axes, ndim: Expr("truth", (x,), text.replace("DIM", dim), ndim)


def _method(text: str, whole: str) -> Along:
    return lambda x, dim, all_axes, ndim: postfix(x, whole if all_axes else text.replace("DIM", dim), ndim)


ALONG: Mapping[str, Along] = {
    "softmax": lambda x, dim, all_axes, ndim: call(
        f"torch.softmax({{0}}, {dim})", x, ndim=ndim, matrix="softmax({0})" if ndim == 1 else None
    ),
    "cumprod": _along("torch.cumprod({0}, DIM)"),
    "log_softmax": _along("torch.log_softmax({0}, DIM)"),
    "logsumexp": _along("torch.logsumexp({0}, DIM)"),
    "prod": _method(".prod(DIM)", ".prod()"),
    "amax": _method(".amax(DIM)", ".amax()"),
    "amin": _method(".amin(DIM)", ".amin()"),
    "is_max": _truth("({0} == {0}.amax(DIM, keepdim=True))"),
    "is_min": _truth("({0} == {0}.amin(DIM, keepdim=True))"),
}
"""Atoms along axes, wherever those stand."""


WHOLE: Mapping[str, tuple[str, str]] = {
    "inv": ("torch.linalg.inv({0})", "inv({0})"),
    "det": ("torch.linalg.det({0})", "det({0})"),
    "logdet": ("torch.logdet({0})", "logdet({0})"),
    "cholesky": ("torch.linalg.cholesky({0})", "chol({0})"),
    "pinv": ("torch.linalg.pinv({0})", "pinv({0})"),
    "matrix_exp": ("torch.linalg.matrix_exp({0})", "expm({0})"),
    "eigenvalues": ("torch.linalg.eigvalsh({0})", ""),
    "eigenvectors": ("torch.linalg.eigh({0}).eigenvectors", ""),
    "singular_values": ("torch.linalg.svdvals({0})", ""),
    "left_vectors": ("torch.linalg.svd({0}, full_matrices=False).U", ""),
    "right_vectors": ("torch.linalg.svd({0}, full_matrices=False).Vh", ""),
    "one_hot": ("torch.nn.functional.one_hot({0}, %s)", ""),
}
"""Atoms of matrices, with batches in front."""
