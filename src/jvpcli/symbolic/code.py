"""Index forms as tensor expressions: contractions become products of matrices, and what is left an einsum.

An `Expr` is a small tree that is written as PyTorch code (`torch_text`) and, where it is one, as a formula of matrices
(`matrix_text`).  Of the ways to write a form the one with the fewest operations is taken, then that with the fewest symbols.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from typing import Any

from jvpcli.symbolic.forms import (
    IDEMPOTENT,
    Atom,
    Delta,
    Factor,
    Fn,
    Index,
    Lam,
    Move,
    NoClosedFormError,
    Poly,
    Power,
    Sym,
    Term,
    collected,
    constant_of,
    expanded,
    indices,
    parts,
    scaled,
    symmetric,
)
from jvpcli.symbolic.moves import MOVES, convolving, transposing
from jvpcli.symbolic.scalars import SCALARS

ATOM, POSTFIX, POWER, NEGATIVE, PRODUCT, SUM, COMPARED = 100, 90, 80, 70, 60, 50, 40


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


@dataclass(frozen=True)
class Tensor:
    """An expression with an index for each of its axes; `below`: it stands for one over it."""

    expr: Expr
    axes: tuple[Index, ...]
    below: bool = False


# --- writing expressions ---------------------------------------------------------------------------------------------


def strength(expr: Expr) -> int:
    """How tightly the outermost operation of an expression binds."""
    if expr.op == "number" and "/" in expr.text:
        return PRODUCT
    if expr.op == "number" and expr.text.startswith("-"):
        return NEGATIVE
    return {
        "matmul": PRODUCT,
        "mul": PRODUCT,
        "div": PRODUCT,
        "add": SUM,
        "sub": SUM,
        "neg": NEGATIVE,
        "pow": POWER,
    }.get(expr.op, ATOM)


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
    return expr.text.format(*map(at, expr.args, behind))


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
        case "name" | "number":
            return expr.text
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
            from jvpcli.symbolic.writing import SUPERSCRIPT

            return at(0, ATOM) + expr.args[1].text.translate(SUPERSCRIPT) if not expr.args[0].ndim else None
    if expr.matrix is None:
        return None
    return expr.matrix.format(*(at(k, *_place(expr.matrix, k)) for k in range(len(inner))))


def matrix_strength(expr: Expr) -> int:
    """How tightly the outermost operation binds in the notation of matrices, where an outer product is a product."""
    return PRODUCT if expr.matrix and "·" in expr.matrix else strength(expr)


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


def operations(expr: Expr) -> int:
    """How many operations an expression has."""
    own = 0 if expr.op in ("name", "number") or expr.text.startswith(".to(") else 1
    if expr.text.startswith("torch.einsum"):
        own = 3 * len(expr.args) - 1 if len(expr.args) > 1 else 3
    return own + sum(map(operations, expr.args))


def symbols(expr: Expr) -> int:
    """How many names an expression has."""
    return (expr.op == "name") + sum(map(symbols, expr.args))


def cost(expr: Expr) -> tuple[int, int, int]:
    """What is least of the shortest expression; what has more axes than any tensor in it counts as longer."""
    text = torch_text(expr)
    rank = max((leaf.ndim for leaf in nodes(expr) if leaf.op == "name"), default=0)
    wider = sum(1 for node in nodes(expr) if node.ndim > max(rank, expr.ndim))
    return operations(expr) + wider, symbols(expr), len(text)


def nodes(expr: Expr) -> Iterator[Expr]:
    """An expression and all that is in it."""
    yield expr
    for part in expr.args:
        yield from nodes(part)


# --- building expressions --------------------------------------------------------------------------------------------


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
    """A matrix transposed, once."""
    return expr.args[0] if expr.op == "postfix" and expr.text == ".T" else postfix(expr, ".T", 2, "{0}ᵀ")


def permuted(t: Tensor, want: Sequence[Index]) -> Tensor:
    """The axes in another order."""
    if t.axes == tuple(want):
        return t
    if t.expr.symmetric:
        return Tensor(t.expr, tuple(want), t.below)
    if len(t.axes) == 2:
        return Tensor(transposed(t.expr), tuple(want), t.below)
    order = [t.axes.index(i) for i in want]
    n = len(order)
    if order == [*range(n - 2), n - 1, n - 2]:
        return Tensor(postfix(t.expr, ".mT", n), tuple(want), t.below)
    swapped = [k for k in range(n) if order[k] != k]
    text = (
        f".transpose({swapped[0]}, {swapped[1]})" if len(swapped) == 2 else f".permute({', '.join(map(str, order))})"
    )
    return Tensor(postfix(t.expr, text, n), tuple(want), t.below)


def aligned(t: Tensor, want: Sequence[Index]) -> Expr:
    """An expression that broadcasts to axes in the order of `want`."""
    if not t.axes:
        return t.expr
    own = [i for i in want if i in t.axes]
    expr = permuted(t, own).expr
    following = list(want)[list(want).index(own[0]) :]
    if len(following) == len(own):
        return expr
    keys = ", ".join(":" if i in own else "None" for i in following)
    if keys == ":, None" and expr.op == "postfix" and expr.text in (".sum(1)", ".mean(1)") and expr.args[0].ndim == 2:
        return postfix(expr.args[0], expr.text.replace(")", ", keepdim=True)"), 2)
    return postfix(expr, f"[{keys}]", len(following))


def product(a: Tensor, b: Tensor, want: Sequence[Index]) -> Tensor:
    """The element-wise product (or quotient), broadcast."""
    for one, other in ((a, b), (b, a)):
        if one.expr.matrix == "I" and len(other.axes) == 1 and other.axes[0] in one.axes and not other.below:
            return Tensor(call("torch.diag({0})", other.expr, ndim=2, matrix="diag({0})"), one.axes)
    axes = tuple(i for i in want if i in a.axes or i in b.axes)
    if a.below and b.below:
        return Tensor(_product(aligned(a, axes), aligned(b, axes), len(axes)), axes, below=True)
    if a.below:
        a, b = b, a
    left, right = aligned(a, axes), aligned(b, axes)
    if b.below:
        return Tensor(Expr("div", (left, right), ndim=len(axes)), axes)
    if a.axes and b.axes and len(a.axes) == len(b.axes) == 1 and a.axes != b.axes:
        first, second = (a, b) if axes[0] in a.axes else (b, a)
        return Tensor(call("torch.outer({0}, {1})", first.expr, second.expr, ndim=2, matrix="{0}·{1}ᵀ"), axes)
    if not b.axes and a.axes:
        left, right = right, left
    return Tensor(_product(left, right, len(axes)), axes)


def _product(a: Expr, b: Expr, ndim: int) -> Expr:
    return Expr("mul", (a, b), ndim=ndim)


def upright(t: Tensor) -> Tensor:
    """Itself, not one over it."""
    return t if not t.below else Tensor(Expr("div", (constant(Fraction(1)), t.expr), ndim=t.expr.ndim), t.axes)


def einsum(operands: Sequence[Tensor], want: Sequence[Index]) -> Tensor:
    """Any sum of products."""
    letters: dict[Index, str] = {}
    for i in (i for t in operands for i in t.axes):
        letters.setdefault(i, "ijklmnpqrstuvwabcdefgh"[len(letters)])
    spelled = ",".join("".join(letters[i] for i in t.axes) for t in operands)
    text = f'torch.einsum("{spelled}->{"".join(letters[i] for i in want)}", '
    text += ", ".join(f"{{{k}}}" for k in range(len(operands))) + ")"
    return Tensor(call(text, *(upright(t).expr for t in operands), ndim=len(want)), tuple(want))


def numeric(t: Tensor, kind: str) -> Tensor:
    """Itself; of truths, zeros and ones, which sums and products of matrices need."""
    t = upright(t)
    return replace(t, expr=postfix(t.expr, kind, t.expr.ndim)) if is_truth(t.expr) else t


def is_truth(expr: Expr) -> bool:
    """Whether code gives truths, or whole numbers that stand for them."""
    if expr.op == "postfix":
        return expr.text.startswith((".T", ".mT", ".transpose", ".permute", "[")) and is_truth(expr.args[0])
    return expr.op in ("truth", "whole") or (expr.op == "mul" and all(map(is_truth, expr.args)))


def summed(t: Tensor, over: Iterable[Index]) -> Tensor:
    """The sum over some axes of one tensor."""
    t, over = upright(t), set(over)
    if len(over) == len(t.axes) == 1:
        if t.expr.op == "postfix" and t.expr.text == ".diagonal()" and t.expr.args[0].ndim == 2:
            return Tensor(call("torch.trace({0})", t.expr.args[0], ndim=0, matrix="tr({0})"), ())
        if t.expr.op == "pow" and t.expr.args[1].text == "2" and t.expr.args[0].op == "name":
            return Tensor(Expr("matmul", (t.expr.args[0], t.expr.args[0])), ())
    count = math.prod(i.size for i in over)
    left = tuple(i for i in t.axes if i not in over)
    if not left:
        return Tensor(replace(postfix(t.expr, ".sum()", 0, "sum({0})"), entries=count), ())
    places = [k for k, i in enumerate(t.axes) if i in over]
    text = f".sum({places[0]})" if len(places) == 1 else f".sum({tuple(places)})"
    return Tensor(replace(postfix(t.expr, text, len(left)), entries=count), left)


def contracted(a: Tensor, b: Tensor, over: set[Index], kind: str) -> Iterator[Tensor]:
    """Ways to multiply two tensors and sum over the indices that no other has."""
    a, b = numeric(a, kind), numeric(b, kind)
    batch = [i for i in a.axes if i in b.axes and i not in over]
    left = [i for i in a.axes if i not in over and i not in batch]
    right = [i for i in b.axes if i not in over and i not in batch]
    shared = [i for i in a.axes if i in over and i in b.axes]
    if len(over) == len(shared) == 2 and a.axes == b.axes[::-1]:
        square = Expr("matmul", (a.expr, b.expr), ndim=2)
        yield Tensor(call("torch.trace({0})", square, ndim=0, matrix="tr({0})"), ())
    if set(a.axes) == set(b.axes) and (batch or len(shared) > 1):
        whole = product(a, b, a.axes)
        yield summed(whole, over)
    if len(shared) == 1 and over == set(shared):
        (c,) = shared
        if not batch and len(left) <= 1 and len(right) <= 1:
            for (x, own), (y, others) in (((a, left), (b, right)), ((b, right), (a, left))):
                if len(others) > len(own):
                    continue
                first = permuted(x, (*own, c)).expr
                second = permuted(y, (c, *others)).expr
                axes = (*own, *others)
                yield Tensor(Expr("matmul", (first, second), ndim=len(axes)), axes)
        elif not batch and len(left) >= 1 and len(right) <= 1:
            axes = (*left, *right)
            yield Tensor(
                Expr("matmul", (permuted(a, (*left, c)).expr, permuted(b, (c, *right)).expr), ndim=len(axes)), axes
            )
        elif not batch and len(right) >= 1 and len(left) <= 1:
            axes = (*right, *left)
            yield Tensor(
                Expr("matmul", (permuted(b, (*right, c)).expr, permuted(a, (c, *left)).expr), ndim=len(axes)), axes
            )
        elif batch and len(left) == 1 and len(right) == 1:
            for (x, own), (y, others) in (((a, left), (b, right)), ((b, right), (a, left))):
                axes = (*batch, *own, *others)
                yield Tensor(
                    Expr(
                        "matmul",
                        (permuted(x, (*batch, *own, c)).expr, permuted(y, (*batch, c, *others)).expr),
                        ndim=len(axes),
                    ),
                    axes,
                )
    yield einsum((a, b), (*batch, *left, *right))


State = tuple[tuple[Tensor, ...], tuple[Index, ...]]
"""Operands, and the indices that are still to be summed over."""

MOST_WAYS = 8
"""To sum a product, which are followed at a time."""


class Writer:
    """Writes forms as tensor expressions; new tensors are of the kind of the tensor `like`."""

    def __init__(self, like: str) -> None:
        self.kind = f".to({like})"
        self._known: dict[tuple[Poly, tuple[Index, ...]], list[Tensor]] = {}

    def best(self, poly: Poly, want: Sequence[Index], like: str | None = None) -> Expr:
        """The shortest expression with the axes `want`; where it has fewer it is spread to those of the tensor `like`."""
        return self.candidates(poly, want, like)[0]

    def candidates(self, poly: Poly, want: Sequence[Index], like: str | None = None) -> list[Expr]:
        """Expressions for a form, the shortest first.

        Raises:
            NoClosedFormError: there is none.
        """
        want, failed = tuple(want), None
        found: dict[str, Expr] = {}
        for form in variants(poly):
            try:
                for t in self.ways(form, want):
                    expr = self._whole(t, want, like)
                    found.setdefault(torch_text(expr), expr)
            except NoClosedFormError as error:
                failed = error
        if not found and failed is not None:
            raise failed
        return sorted(found.values(), key=cost)

    def _whole(self, t: Tensor, want: tuple[Index, ...], like: str | None) -> Expr:
        t = numeric(t, self.kind)
        if set(t.axes) == set(want):
            return permuted(t, want).expr
        if like is None:
            shape = ", ".join(str(i.size) for i in want)
            if t.expr.op == "number":
                return filled(t.expr, shape, self.kind, len(want))
            return postfix(aligned(t, want), f".expand({shape})", len(want))
        if t.axes:
            return call(
                f"{{0}}.expand_as({like})", Expr("postfix", (aligned(t, want),), "", t.expr.ndim), ndim=len(want)
            )
        if t.expr.op == "number":
            if t.expr.text.startswith("1/"):
                ones = call(f"torch.ones_like({like})", ndim=len(want), matrix="𝟏")
                return Expr("div", (ones, Expr("number", text=t.expr.text[2:])), ndim=len(want))
            if t.expr.text == "0":
                return call(f"torch.zeros_like({like})", ndim=len(want), matrix="0")
            if t.expr.text == "1":
                return call(f"torch.ones_like({like})", ndim=len(want), matrix="𝟏")
        ones = call(f"torch.ones_like({like})", ndim=len(want), matrix="𝟏")
        return Expr("mul", (t.expr, ones), ndim=len(want))

    # The ways to write

    def ways(self, poly: Poly, want: tuple[Index, ...]) -> list[Tensor]:
        """Tensors that a form can be written as, the shortest first; `want` is the order of axes that is liked."""
        if (poly, want) not in self._known:
            self._known[poly, want] = self._ways(poly, want)
        return self._known[poly, want]

    def _ways(self, poly: Poly, want: tuple[Index, ...]) -> list[Tensor]:
        if not poly:
            return [Tensor(constant(Fraction(0)), ())]
        free = indices(poly)
        order = (*(i for i in want if i in free), *sorted((i for i in free if i not in want), key=lambda i: i.number))
        if len(poly) == 1:
            return self._term(poly[0], order)
        terms = sorted(poly, key=lambda term: term.coefficient < 0)
        found: list[Tensor] = []
        orders = [order] if len(order) != 2 else [order, order[::-1]]
        for axes in orders:
            expr: Expr | None = None
            for term in terms:
                sign = term.coefficient < 0
                positive = Term(abs(term.coefficient), term.sums, term.factors)
                ways = (t if t.expr.op == "whole" else numeric(t, self.kind) for t in self._term(positive, axes))
                options = [aligned(t, axes) for t in ways]
                one = min(options, key=cost)
                if expr is None:
                    expr = Expr("neg", (one,), ndim=one.ndim) if sign else one
                else:
                    expr = Expr("sub" if sign else "add", (expr, one), ndim=max(expr.ndim, one.ndim))
            assert expr is not None
            if expr.ndim == len(axes):
                found.append(Tensor(expr, axes))
        if not found:
            raise NoClosedFormError("the sum has no code: none of its terms has all axes")
        return sorted(found, key=lambda t: cost(t.expr))

    def _term(self, term: Term, want: tuple[Index, ...]) -> list[Tensor]:
        """Ways to write one term."""
        whole = self._convolution(term)
        if whole is not None:
            return [self._joined(term.coefficient, whole[0], [whole[1]], want)]
        operands = [self.factor(f, want) for f in term.factors]
        found: list[Tensor] = []
        for chosen in itertools.islice(itertools.product(*operands), 8):
            scalars = [t for t in chosen if not t.axes]
            tensors = [t for t in chosen if t.axes]
            ways = self._contractions(tensors, term.sums)
            found += [self._joined(term.coefficient, scalars, list(done), want) for done in ways]
            if term.sums and tensors:
                kept = [i for i in want if any(i in t.axes for t in tensors)]
                found.append(
                    self._joined(
                        term.coefficient, scalars, [einsum([numeric(t, self.kind) for t in tensors], kept)], want
                    )
                )
        found = sorted(
            {torch_text(t.expr) + str(t.below): t for t in found}.values(),
            key=lambda t: cost(permuted(t, [i for i in want if i in t.axes]).expr),
        )
        return found[:6]

    def _contractions(self, tensors: Sequence[Tensor], sums: Sequence[Index]) -> list[tuple[Tensor, ...]]:
        """Ways to sum indices away one after the other; of those that are as far the shortest go on."""
        states: list[State] = [(tuple(tensors), tuple(sums))]
        while any(left for _, left in states):
            further = dict.fromkeys(
                (now, still)
                for done, left in states
                for now, still in ([(done, left)] if not left else (s for i in left for s in self._without(i, done, left)))
            )
            states = sorted(further, key=lambda state: sum(operations(t.expr) + 1 for t in state[0]))[:MOST_WAYS]
        return [done for done, _ in states]

    def _without(self, index: Index, tensors: Sequence[Tensor], sums: Sequence[Index]) -> Iterator[State]:
        """The operands with an index summed away, and with it all others that run over the same operands alone."""
        with_it = [t for t in tensors if index in t.axes]
        rest = [t for t in tensors if index not in t.axes]
        while len(with_it) > 2:
            pair = next(((s, t) for s in with_it for t in with_it if s is not t and set(s.axes) <= set(t.axes)), None)
            if pair is None:
                kept = [i for i in dict.fromkeys(i for t in with_it for i in t.axes) if i != index]
                whole = einsum([numeric(t, self.kind) for t in with_it], kept)
                yield (*rest, whole), tuple(i for i in sums if i != index)
                return
            s, t = pair
            with_it = [u for u in with_it if u is not s and u is not t]
            with_it.append(product(t, s, t.axes))
        only = {i for i in sums if not any(i in t.axes for t in rest)}
        over = {i for i in only if all(i in t.axes for t in with_it)} if with_it else {index}
        left = tuple(i for i in sums if i not in over)
        if not with_it:  # as of what turned out to be the same for all
            yield (*rest, Tensor(constant(Fraction(index.size)), ())), left
        elif len(with_it) == 1:
            yield (*rest, summed(numeric(with_it[0], self.kind), over)), left
        else:
            a, b = with_it
            for hot, x in ((a, b), (b, a)):
                picks = over == {index} and hot.expr.op == "whole" and hot.axes[-1] == index
                if picks and not set(hot.axes[:-1]) & set(x.axes):
                    rows = permuted(upright(x), (index, *(i for i in x.axes if i != index)))
                    axes = (*hot.axes[:-1], *rows.axes[1:])
                    entry = Expr("index", (rows.expr, hot.expr.args[0]), ndim=len(axes))
                    yield (*rest, Tensor(entry, axes)), left
            for t in contracted(a, b, over, self.kind):
                yield (*rest, t), left

    def _joined(
        self, coefficient: Fraction, scalars: list[Tensor], tensors: list[Tensor], want: tuple[Index, ...]
    ) -> Tensor:
        """Everything multiplied, numbers first; a sum over as many entries as it is divided by is a mean."""
        for k, t in enumerate(tensors):
            n = t.expr.entries
            spread = _variance(t.expr, coefficient)
            if spread is not None:
                tensors = [*tensors[:k], Tensor(spread[0], t.axes), *tensors[k + 1 :]]
                coefficient *= spread[1]
            elif n > 1 and coefficient.denominator % n == 0:
                text, matrix = t.expr.text.replace(".sum(", ".mean("), t.expr.matrix and "mean({0})"
                tensors = [
                    *tensors[:k],
                    Tensor(replace(t.expr, text=text, matrix=matrix, entries=0), t.axes),
                    *tensors[k + 1 :],
                ]
                coefficient *= n
        if coefficient.denominator != 1 and tensors and all(is_truth(t.expr) for t in tensors):
            tensors = [numeric(tensors[0], self.kind), *tensors[1:]]  # else the number would be of the default dtype
        scalars = [*scalars, *(t for t in tensors if not t.axes)]
        tensors = sorted((t for t in tensors if t.axes), key=lambda t: (t.below, is_truth(t.expr)))
        pieces: list[Tensor] = []
        top, bottom = abs(coefficient.numerator), coefficient.denominator
        decimal = constant(abs(coefficient))
        if decimal.text.count("/") and (scalars or tensors):
            if top != 1:
                pieces.append(Tensor(constant(Fraction(top)), ()))
            over = Tensor(constant(Fraction(bottom)), (), below=True)
        else:
            over = None
            if abs(coefficient) != 1 or not (scalars or tensors):
                pieces.append(Tensor(decimal, ()))
        below = [t for t in scalars if t.below] + ([over] if over else [])
        pieces += [t for t in scalars if not t.below]
        whole = reduce(lambda a, b: product(a, b, want), tensors) if tensors else None
        number = reduce(lambda a, b: product(a, b, want), pieces) if pieces else None
        if number is not None and whole is not None:
            whole = product(number, whole, want)
        elif whole is None:
            whole = number
        for t in below:
            whole = product(whole, t, want) if whole is not None else t
        assert whole is not None
        if coefficient < 0:
            whole = numeric(whole, self.kind)
            whole = Tensor(Expr("neg", (whole.expr,), ndim=whole.expr.ndim), whole.axes)
        return whole

    def factor(self, factor: Factor, want: tuple[Index, ...]) -> list[Tensor]:
        """Ways to write one factor."""
        match factor:
            case Sym(text, at):
                return [self._entry(name(text, len(at)), at)]
            case Delta(a, b):
                if isinstance(a, Index) and isinstance(b, Index):
                    return [Tensor(Expr("call", (), f"torch.eye({a.size}){self.kind}", 2, "I", symmetric=True), (a, b))]
                index, place = (a, b) if isinstance(a, Index) else (b, a)
                assert isinstance(index, Index)
                return [Tensor(call(f"torch.eye({index.size}){self.kind}[{place}]", ndim=1), (index,))]
            case Power(base, e):
                return [_raised(t, e) for form in variants(base) for t in self.ways(form, want)[:2]]
            case Fn("flat_root", (base,)):
                return self.factor(Power(base, Fraction(1, 2)), want)
            case Fn(own, args):
                scalar = SCALARS[own]
                axes = tuple(i for i in self._order(args, want))
                texts = [
                    min((aligned(upright(t), axes) for form in variants(a) for t in self.ways(form, axes)), key=cost)
                    for a in args
                ]
                if own == "where" and texts[0].op not in ("truth", "name", "number"):
                    texts[0] = Expr("truth", (texts[0],), "({0} != 0)", texts[0].ndim)
                if own == "power":
                    return [Tensor(Expr("pow", tuple(texts), ndim=len(axes)), axes)]
                if own in TURNED and constant_of(args[0]) is not None and constant_of(args[-1]) is None:
                    return [Tensor(Expr("truth", tuple(texts), TURNED[own], len(axes)), axes)]
                texts = [t if (c := constant_of(a)) is None else constant(c) for a, t in zip(args, texts, strict=True)]
                own = own.removeprefix("shared_")
                if own in BOUNDS and any(t.op == "number" for t in texts):
                    texts = sorted(texts, key=lambda t: t.op == "number")
                    return [Tensor(call(f"torch.clamp({{0}}, {BOUNDS[own]}={{1}})", *texts, ndim=len(axes)), axes)]
                matrix = scalar.text if len(args) == 1 else None
                op = "truth" if own in IDEMPOTENT else "call"
                return [Tensor(Expr(op, tuple(texts), scalar.torch, len(axes), matrix), axes)]
            case Atom():
                return self._atom(factor, want)
            case Move(own):
                raise NoClosedFormError(f"the matrix of {own} is not written out")
        raise AssertionError(factor)

    def _order(self, polys: Sequence[Poly], want: tuple[Index, ...]) -> tuple[Index, ...]:
        free = frozenset().union(*map(indices, polys))
        if len(polys) == 1:
            natural = min((t for t in self.ways(polys[0], want)), key=lambda t: cost(t.expr)).axes
            return natural
        return (*(i for i in want if i in free), *sorted(free - set(want), key=lambda i: i.number))

    def _entry(self, expr: Expr, at: tuple[Index | int, ...]) -> Tensor:
        """Fixed positions are picked, and repeated indices are the diagonal."""
        if any(isinstance(a, int) for a in at):
            while at and isinstance(at[-1], Index):  # trailing full slices are not written
                if any(isinstance(a, int) for a in at[:-1]):
                    break
                break
            last = max(k for k, a in enumerate(at) if isinstance(a, int))
            keys = ", ".join(str(a) if isinstance(a, int) else ":" for a in at[: last + 1])
            at = tuple(a for a in at if isinstance(a, Index))
            expr = postfix(expr, f"[{keys}]", len(at))
        axes: list[Index] = [a for a in at if isinstance(a, Index)]
        while len(set(axes)) < len(axes):
            twice = next(i for i in axes if axes.count(i) > 1)
            p = axes.index(twice)
            q = axes.index(twice, p + 1)
            text = ".diagonal()" if (p, q) == (0, 1) else f".diagonal(0, {p}, {q})"
            axes = [i for k, i in enumerate(axes) if k not in (p, q)] + [twice]
            expr = postfix(expr, text, len(axes), "diag({0})")
        return Tensor(expr, tuple(axes))

    def _convolution(self, term: Term) -> tuple[list[Tensor], Tensor] | None:
        """A sum over entries of windows, or over where they stand, as a convolution, and the numbers beside it."""
        moves = [f for f in term.factors if isinstance(f, Atom) and f.params[:1] == ("windows",)]
        numbers = [f for f in term.factors if not indices(f)]
        others = tuple(f for f in term.factors if f not in moves and f not in numbers)
        if len(moves) != 1 or not others:
            return None
        (image,), (kernel, sizes, counts, stride, padding, dilation) = moves[0].args, moves[0].params[1:]
        n, at = len(image.over), tuple(a for a in moves[0].at if isinstance(a, Index))
        if len(set(at)) < 2 * n:
            return None
        places, entries = at[:n], at[n:]
        rest, beside = indices(image.body) - set(image.over), indices((Term(Fraction(1), (), others),))
        both, sums = [i for i in term.sums if i in rest & beside], set(term.sums)
        own, out = rest - set(both), beside - set(both) - set(at)
        if not out or len(out) > 1 or len(own) > 1 or len(both) > 1 or sums & (own | out):
            return None
        weight = (Term(Fraction(1), (), others),)
        scalars = [self.factor(f, ())[0] for f in numbers]
        if sums == {*entries, *both} and both and beside >= set(entries) and not beside & set(places):
            x, w = self.best(image.body, (*own, *both, *image.over)), self.best(weight, (*out, *both, *entries))
            text = f"torch.nn.functional.conv{n}d({{0}}, {{1}}{convolving(stride, padding, dilation)})"
            return scalars, Tensor(call(text, x, w, ndim=len(own) + 1 + n), (*own, *out, *places))
        if sums == {*places, *both} and own and beside >= set(places) and not beside & set(entries):
            x, v = self.best(image.body, (*own, *both, *image.over)), self.best(weight, (*out, *both, *places))
            x, v = (x, v) if both else (postfix(x, "[:, None]", x.ndim + 1), postfix(v, "[:, None]", v.ndim + 1))
            text = f"torch.nn.functional.conv{n}d({{0}}, {{1}}{convolving(dilation, padding, stride)})"
            whole = call(text, x, v, ndim=2 + n)
            spans = zip(sizes, padding, stride, counts, dilation, strict=True)
            reached = [(size + 2 * pad - step * (count - 1) - 1) // gap + 1 for size, pad, step, count, gap in spans]
            if reached != list(kernel):  # entries that no window of the kernel's size has
                whole = postfix(whole, f"[..., {', '.join(f':{k}' for k in kernel)}]", 2 + n)
            return scalars, Tensor(whole, (*own, *out, *entries))
        return None

    def _transposed(self, atom: Atom) -> Tensor | None:
        """Windows that are products of what stands where they do and of their entries, added up: a transposed convolution."""
        (lam,), n = atom.args, len(atom.at)
        if atom.params[0] != "adjoint windows" or len(lam.body) != 1 or len(set(atom.at)) < n:
            return None
        (term,), places, entries = lam.body, set(lam.over[:n]), set(lam.over[n:])
        above = tuple(f for f in term.factors if not indices(f) & entries)
        below = tuple(f for f in term.factors if indices(f) & entries)
        weight, arriving = (Term(Fraction(1), (), below),), (Term(term.coefficient, (), above),)
        out, own = indices(weight) - entries, indices(arriving) - places
        both = [i for i in term.sums if i in out]
        others = own - set(both)
        if indices(weight) & places or len(both) != 1 or len(term.sums) != 1 or len(out) != 2 or len(others) > 1:
            return None
        kernel, sizes, counts, stride, padding, dilation = atom.params[1:]
        v = self.best(arriving, (*others, *both, *lam.over[:n]))
        w = self.best(weight, (*both, *(out - set(both)), *lam.over[n:]))
        options = transposing(kernel, sizes, counts, stride, padding, dilation)
        axes = (*others, *(out - set(both)))
        text = f"torch.nn.functional.conv_transpose{n}d({{0}}, {{1}}{options})"
        return self._entry(call(text, v, w, ndim=len(axes) + n), (*axes, *atom.at))

    def _atom(self, atom: Atom, want: tuple[Index, ...]) -> list[Tensor]:
        whole = self._transposed(atom) if atom.name == "move" else None
        if whole is not None:
            return [whole]
        found = []
        lam = atom.args[0]
        if atom.name == "inv" and symmetric(lam):  # its indices may stand in any order
            atom = replace(atom, at=tuple(sorted(atom.at, key=lambda i: want.index(i) if i in want else -1)))
        wished = tuple(
            lam.over[atom.at.index(i)] if i in atom.at and len(lam.over) == len(atom.at) else i for i in want
        )
        for form, order in itertools.product(variants(lam.body), dict.fromkeys((wished, (*lam.over, *wished)))):
            for t in self.ways(form, tuple(dict.fromkeys(order))):
                t = numeric(t, self.kind)
                missing = [i for i in lam.over if i not in t.axes]
                if missing:
                    axes = (*(i for i in t.axes if i not in lam.over), *lam.over)
                    shape = ", ".join(str(i.size) if i in missing else "-1" for i in axes)
                    if t.expr.op == "number":
                        t = Tensor(filled(t.expr, shape, self.kind, len(axes)), axes)
                    else:
                        t = Tensor(postfix(aligned(t, axes), f".expand({shape})", len(axes)), axes)
                elif t.expr.op == "number":
                    t = Tensor(call(f"torch.tensor({{0}}){self.kind}", t.expr, ndim=0), ())
                found.append(self._apply(atom, lam, t))
        found = sorted(found, key=lambda t: cost(t.expr))[:2]
        return found

    def _apply(self, atom: Atom, lam: Lam, t: Tensor) -> Tensor:
        """An atom's operation on the tensor of its argument."""
        rest = [i for i in t.axes if i not in lam.over]
        if atom.name in ALONG or atom.name in ("values", "indices"):
            places = [t.axes.index(i) for i in lam.over]
            dim = str(places[0]) if len(places) == 1 else str(tuple(places))
            keeps = len(atom.at) == len(lam.over)
            write = ALONG[atom.name] if atom.name in ALONG else _chosen(atom.name, *atom.params)
            expr = write(t.expr, dim, len(places) == len(t.axes), len(t.axes) if keeps else len(rest))
            if keeps:
                by = dict(zip(lam.over, atom.at, strict=True))
                return self._entry(expr, tuple(by.get(i, i) for i in t.axes))
            return Tensor(expr, tuple(rest))
        either = atom.name in ("det", "logdet") or (atom.name == "inv" and symmetric(lam))
        if not (either and t.axes[len(rest) :] == lam.over[::-1]):
            t = permuted(t, (*rest, *lam.over))
        if atom.name == "move":
            own, *params = atom.params
            text = MOVES[own.removeprefix("adjoint ")].code(own.startswith("adjoint "), tuple(params), len(rest))
            text = text.replace("KIND", self.kind)
            ndim = len(rest) + len(atom.at)
            moved = behind(t.expr, text, ndim) if text.startswith((".", "[")) else call(text, t.expr, ndim=ndim)
            return self._entry(moved, (*rest, *atom.at))
        text, matrix = WHOLE[atom.name]
        text = text % atom.params if atom.params else text
        return self._entry(
            Expr(
                "whole" if atom.name == "one_hot" else "call",
                (t.expr,),
                text,
                len(rest) + len(atom.at),
                (matrix or None) if not rest else None,
                symmetric=atom.name == "inv" and not rest and symmetric(lam),
            ),
            (*rest, *atom.at),
        )


def _along(text: str, whole: str | None = None) -> Callable[[Expr, str, bool, int], Expr]:
    def write(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
        form = whole if whole is not None and all_axes else text
        return call(form.replace("DIM", dim), x, ndim=ndim, matrix=None)

    return write


def _chosen(part: str, function: str, options: Sequence[tuple[str, Any]]) -> Callable[[Expr, str, bool, int], Expr]:
    """The entries that a function picks along an axis, or where they stand."""
    if part == "indices" and function in ("sort", "max", "min"):
        more = "".join(f", {name}={value}" for name, value in options)
        return _method(f".arg{function}(DIM{more})", f".arg{function}({f'0{more}' if more else ''})")
    if part == "values" and function in ("max", "min"):
        return _method(f".a{function}(DIM)", f".a{function}()")
    given = "".join(f", {name}={value}" for name, value in options)
    return _along(f"torch.{function}({{0}}, dim=DIM{given}).{part}")


def _truth(text: str) -> Callable[[Expr, str, bool, int], Expr]:
    return lambda x, dim, all_axes, ndim: Expr("truth", (x,), text.replace("DIM", dim), ndim)


def _method(text: str, whole: str) -> Callable[[Expr, str, bool, int], Expr]:
    def write(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
        return postfix(x, whole if all_axes else text.replace("DIM", dim), ndim)

    return write


def _softmax(x: Expr, dim: str, all_axes: bool, ndim: int) -> Expr:
    return call(f"torch.softmax({{0}}, {dim})", x, ndim=ndim, matrix="softmax({0})" if ndim == 1 else None)


ALONG: Mapping[str, Callable[[Expr, str, bool, int], Expr]] = {
    "softmax": _softmax,
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


def _variance(expr: Expr, coefficient: Fraction) -> tuple[Expr, int] | None:
    """A sum of squares of what is left when a mean is taken off as a variance, and by what it was divided."""
    square = expr.args[0] if expr.op == "postfix" and expr.text.startswith(".sum(") else None
    if square is None or square.op != "pow" or square.args[1].text != "2" or square.args[0].op != "sub":
        return None
    dim = expr.text[len(".sum(") : -1]
    for x, mean in itertools.permutations(square.args[0].args):
        while mean.op == "postfix" and mean.text.startswith("["):
            (mean,) = mean.args
        own = mean.op == "postfix" and mean.args[0] == x and mean.text in (f".mean({dim})", f".mean({dim}, keepdim=True)")
        for divisor, more in ((expr.entries - 1, ""), (expr.entries, "correction=0")):
            if own and divisor > 1 and coefficient.denominator % divisor == 0:
                return postfix(x, f".var({', '.join(part for part in (dim, more) if part)})", expr.ndim), divisor
    return None


def _raised(t: Tensor, e: Fraction) -> Tensor:
    """A power of a tensor, element-wise."""
    t = upright(t)
    size, ndim = abs(e), t.expr.ndim
    square = t.expr.args[0] if t.expr.op == "postfix" and t.expr.text == ".sum()" else None
    if size == Fraction(1, 2) and square is not None and square.op == "pow" and square.args[1].text == "2":
        expr = postfix(square.args[0], ".norm()", ndim, "‖{0}‖")
    elif size == Fraction(1, 2) and t.expr.op == "matmul" and t.expr.args[0] == t.expr.args[1]:
        expr = postfix(t.expr.args[0], ".norm()", ndim, "‖{0}‖")
    elif size == Fraction(1, 2) and t.expr.op == "postfix" and t.expr.text.startswith(".var("):
        expr = replace(t.expr, text=t.expr.text.replace(".var(", ".std("))
    elif size == Fraction(1, 2):
        expr = call("torch.sqrt({0})", t.expr, ndim=ndim, matrix="√({0})" if not ndim else None)
    elif size == 1:
        expr = t.expr
    else:
        expr = Expr("pow", (t.expr, constant(size)), ndim=ndim)
    return Tensor(expr, t.axes, below=e < 0)


BOUNDS = {"maximum": "min", "minimum": "max"}

TURNED = {"less": "({1} > {0})", "at_most": "({1} >= {0})"}
"""Comparisons with a number, which stands behind."""


@lru_cache(maxsize=1024)
def variants(poly: Poly) -> tuple[Poly, ...]:
    """Equal forms that may be shorter."""
    if weight(poly) > LARGEST_EXPANDED:
        return tuple(dict.fromkeys((poly, collected(poly, through=False))))
    apart = expanded(poly)
    ways = (form for whole in (poly, apart) for form in (whole, collected(whole, through=False), collected(whole)))
    return tuple(dict.fromkeys(other for form in ways for other in (form, *_numbered(form))))


LARGEST_EXPANDED = 60
"""Factors up to which a form is multiplied out in search of a shorter one."""


def weight(poly: Poly) -> int:
    """How many factors a form has, at all depths."""
    return sum(1 + sum(map(weight, parts(f))) for term in poly for f in term.factors)


def _numbered(poly: Poly) -> Iterator[Poly]:
    """The form with a number in front of a bracket."""
    size = abs(poly[0].coefficient) if len(poly) > 1 else Fraction(1)
    if size != 1:
        yield (Term(size, (), (Power(scaled(poly, 1 / size), Fraction(1)),)),)
