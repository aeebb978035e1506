"""Index forms as tensor expressions: contractions become products of matrices, and what is left an einsum.

Of the ways to write a form the one with the fewest operations is taken, then that with the fewest symbols.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce

from jvpcli.symbolic.expressions import (
    ALONG,
    WHOLE,
    Expr,
    behind,
    call,
    constant,
    cost,
    filled,
    is_truth,
    name,
    operations,
    picking,
    postfix,
    torch_text,
)
from jvpcli.symbolic.factoring import variants
from jvpcli.symbolic.forms import (
    EPSILON,
    IDEMPOTENT,
    Atom,
    Axis,
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
    constant_of,
    fresh,
    indices,
    symmetric,
)
from jvpcli.symbolic.moves import MOVES, convolving, transposing
from jvpcli.symbolic.scalars import SCALARS
from jvpcli.symbolic.tensors import (
    Tensor,
    aligned,
    contracted,
    einsum,
    numeric,
    permuted,
    product,
    raised,
    summed,
    upright,
    variance,
)

State = tuple[tuple[Tensor, ...], tuple[Index, ...]]
"""Operands, and the indices that are still to be summed over."""


MOST_WAYS = 8
"""To sum a product, which are followed at a time."""


class Writer:
    """Writes forms as tensor expressions; new tensors are of the kind of the tensor `like`.

    `means` says whether what is divided by as many entries as are added up is a mean: 1/2 beside two entries may just be 1/2.
    """

    def __init__(self, like: str, means: bool = True) -> None:
        self.kind, self.means = f".to({like})", means
        self._known: dict[tuple[Poly, tuple[Index, ...]], list[Tensor]] = {}

    def best(self, poly: Poly, want: Sequence[Index]) -> Expr:
        """The shortest expression with the axes `want`."""
        return self.candidates(poly, want)[0]

    def candidates(self, poly: Poly, want: Sequence[Index], like: str | None = None) -> list[Expr]:
        """Expressions for a form, the shortest first; with fewer axes than `want` spread to those of the tensor `like`.

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
        if len(order) > 2:  # that of the shortest terms may do without moving axes
            orders += [t.axes for term in terms if set((t := self._term(term, order)[0]).axes) == set(order)]
        for axes in dict.fromkeys(orders):
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
        term, units = _without_places(term)
        operands = [*(self.factor(f, want) for f in term.factors), *([self.factor(unit, want)[0]] for unit in units)]
        found: list[Tensor] = []
        for chosen in itertools.islice(itertools.product(*operands), 8):
            scalars = [t for t in chosen if not t.axes]
            tensors = [t for t in chosen if t.axes]
            ways = self._contractions(tensors, term.sums)
            found += [self._joined(term.coefficient, scalars, list(done), want) for done in ways]
            if term.sums and tensors:
                kept = [i for i in want if any(i in t.axes for t in tensors)]
                whole_sum = einsum([numeric(t, self.kind) for t in tensors], kept)
                found.append(self._joined(term.coefficient, scalars, [whole_sum], want))
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
                for now, still in self._further(done, left)
            )
            states = sorted(further, key=lambda state: sum(operations(t.expr) + 1 for t in state[0]))[:MOST_WAYS]
        return [done for done, _ in states]

    def _further(self, done: tuple[Tensor, ...], left: tuple[Index, ...]) -> Iterator[State]:
        """The states that follow one."""
        if not left:
            yield done, left
        for i in left:
            yield from self._without(i, done, left)
        yield from self._crossed(done, left)

    def _without(self, index: Index, tensors: Sequence[Tensor], sums: Sequence[Index]) -> Iterator[State]:
        """The operands with an index summed away, and with it all others that run over the same operands alone."""
        with_it = [t for t in tensors if index in t.axes]
        rest = [t for t in tensors if index not in t.axes]
        while len(with_it) > 2:
            pairs = ((s, t) for s in with_it for t in with_it if s is not t and set(s.axes) <= set(t.axes))
            pair = min(pairs, key=lambda pair: len(pair[1].axes) - len(pair[0].axes), default=None)
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
            spread = variance(t.expr, coefficient)
            if spread is not None:
                tensors[k] = Tensor(spread[0], t.axes)
                coefficient *= spread[1]
            elif self.means and n > 1 and coefficient.denominator % n == 0:
                text, matrix = t.expr.text.replace(".sum(", ".mean("), t.expr.matrix and "mean({0})"
                tensors[k] = Tensor(replace(t.expr, text=text, matrix=matrix, entries=0), t.axes)
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
        by_axes = sorted(tensors, key=lambda t: (t.below, is_truth(t.expr), len(t.axes)))
        orders = [order for order in ([tensors] if by_axes == tensors else [tensors, by_axes]) if order]
        wholes = [reduce(lambda a, b: product(a, b, want), order) for order in orders]
        whole = min(wholes, key=lambda t: cost(t.expr)) if len(wholes) > 1 else next(iter(wholes), None)
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
                return [raised(t, e) for form in variants(base) for t in self.ways(form, want)[:2]]
            case Fn("flat_root", (base,)):
                return self.factor(Power(base, Fraction(1, 2)), want)
            case Fn(_, args):
                return [self._function(factor, axes) for axes in self._orders(args, want)]
            case Atom():
                return self._atom(factor, want)
            case Move(own):
                raise NoClosedFormError(f"the matrix of {own} is not written out")
        raise AssertionError(factor)

    def _orders(self, args: Sequence[Poly], want: tuple[Index, ...]) -> list[tuple[Index, ...]]:
        """Orders of axes in which a function of these forms is short."""
        if len(args) == 1:
            shortest = sorted(self.ways(args[0], want), key=lambda t: cost(t.expr))
            return list(dict.fromkeys(t.axes for t in shortest))[:2]
        free = frozenset().union(*map(indices, args))
        return [(*(i for i in want if i in free), *sorted(free - set(want), key=lambda i: i.number))]

    def _function(self, function: Fn, axes: tuple[Index, ...]) -> Tensor:
        """A scalar function, with its axes in this order."""
        own, args = function.name, function.args
        texts = [
            min((aligned(upright(t), axes) for form in variants(a) for t in self.ways(form, axes)), key=cost) for a in args
        ]
        if own == "where" and texts[0].op not in ("truth", "name", "number"):
            texts[0] = Expr("truth", (texts[0],), "({0} != 0)", texts[0].ndim)
        if own == "power":
            return Tensor(Expr("pow", tuple(texts), ndim=len(axes)), axes)
        if own in TURNED and constant_of(args[0]) is not None and constant_of(args[-1]) is None:
            return Tensor(Expr("truth", tuple(texts), TURNED[own], len(axes)), axes)
        texts = [t if (c := constant_of(a)) is None else constant(c) for a, t in zip(args, texts, strict=True)]
        bound = BOUNDS.get(own.removeprefix("shared_"))
        if bound and any(t.op == "number" for t in texts):
            texts = sorted(texts, key=lambda t: t.op == "number")
            return Tensor(call(f"torch.clamp({{0}}, {bound}={{1}})", *texts, ndim=len(axes)), axes)
        matrix = SCALARS[own].text if len(args) == 1 else None
        op = "truth" if own in IDEMPOTENT else "call"
        return Tensor(Expr(op, tuple(texts), SCALARS[own].torch, len(axes), matrix), axes)

    def _entry(self, expr: Expr, at: tuple[Index | int, ...]) -> Tensor:
        """Fixed positions are picked, and repeated indices are the diagonal."""
        if any(isinstance(a, int) for a in at):
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

    def _crossed(self, tensors: Sequence[Tensor], sums: Sequence[Index]) -> Iterator[State]:
        """The operands with two axes of an ε summed away: a cross product of what has the one and what has the other."""
        for e in (t for t in tensors if t.expr.matrix == "ε"):
            for i, j, k in (e.axes[n:] + e.axes[:n] for n in range(3)):
                left, right = ([t for t in tensors if t is not e and own in t.axes] for own in (j, k))
                if not {j, k} <= {*sums} or any(i in t.axes for t in left + right) or any(t in right for t in left):
                    continue
                rest = tuple(dict.fromkeys(n for t in left + right for n in t.axes if n not in (j, k)))
                vectors = []
                for own, n in ((left, j), (right, k)):
                    axes, ones = (*rest, n), Tensor(call(f"torch.ones(3){self.kind}", ndim=1), (n,))
                    x = aligned(upright(reduce(lambda a, b: product(a, b, axes), own or [ones])), axes)
                    more = ", ".join(["None"] * (len(rest) + 1 - x.ndim))
                    vectors.append(postfix(x, f"[{more}]", len(rest) + 1) if more else x)
                whole = Tensor(call("torch.linalg.cross({0}, {1})", *vectors, ndim=len(rest) + 1), (*rest, i))
                others = (t for t in tensors if t is not e and t not in left and t not in right)
                yield (*others, whole), tuple(n for n in sums if n not in (j, k))

    def _atom(self, atom: Atom, want: tuple[Index, ...]) -> list[Tensor]:
        if atom.name == EPSILON:
            unit = call(f"torch.eye(3){self.kind}", ndim=2)
            pair = postfix(unit, "[:, None]", 3), postfix(unit, "[None]", 3)
            cross = call("torch.linalg.cross({0}, {1})", *pair, ndim=3, matrix="ε")
            return [self._entry(cross, (*atom.at[1:], atom.at[0]))]
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
            write = ALONG[atom.name] if atom.name in ALONG else picking(atom.name, *atom.params)
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


def _without_places(term: Term) -> tuple[Term, list[Delta]]:
    """A term with sums in the place of fixed positions of an ε, and the deltas that pick those."""
    units: list[Delta] = []

    def freed(a: Axis) -> Axis:
        if isinstance(a, int):
            units.append(Delta(fresh(3), a))
            return units[-1].a
        return a

    factors = tuple(
        replace(f, at=tuple(map(freed, f.at))) if isinstance(f, Atom) and f.name == EPSILON else f for f in term.factors
    )
    return replace(term, sums=(*term.sums, *(d.a for d in units if isinstance(d.a, Index))), factors=factors), units


BOUNDS = {"maximum": "min", "minimum": "max"}


TURNED = {"less": "({1} > {0})", "at_most": "({1} >= {0})"}
"""Comparisons with a number, which stands behind."""
