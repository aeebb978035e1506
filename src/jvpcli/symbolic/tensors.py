"""Tensor expressions whose axes have indices: products, sums over indices, and products of matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from jvpcli.symbolic.expressions import Expr, call, constant, is_truth, postfix, transposed
from jvpcli.symbolic.forms import Index


@dataclass(frozen=True)
class Tensor:
    """An expression with an index for each of its axes; `below`: it stands for one over it."""

    expr: Expr
    axes: tuple[Index, ...]
    below: bool = False


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
        for (x, own), (y, others) in (((a, left), (b, right)), ((b, right), (a, left))):
            if len(own) == len(others) == 1 if batch else len(others) <= min(1, len(own)):
                factors = permuted(x, (*batch, *own, c)).expr, permuted(y, (*batch, c, *others)).expr
                axes = (*batch, *own, *others)
                if own and not others and x.axes == (c, *own) and x.expr.op in ("mul", "div", "add", "sub"):
                    yield Tensor(Expr("matmul", (y.expr, x.expr), ndim=1), axes)  # no transpose of something long
                yield Tensor(Expr("matmul", factors, ndim=len(axes)), axes)
    yield einsum((a, b), (*batch, *left, *right))


def variance(expr: Expr, coefficient: Fraction) -> tuple[Expr, int] | None:
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


def raised(t: Tensor, e: Fraction) -> Tensor:
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
