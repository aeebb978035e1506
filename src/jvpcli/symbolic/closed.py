"""The closed forms of a problem: derived once, and each verified at the point and at random ones before it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from jvpcli.jacobians.nearby import direction, elsewhere, moved, sampled
from jvpcli.jacobians.passes import vjp
from jvpcli.language.evaluate import Evaluation, default_dtype, evaluate_value
from jvpcli.language.parse import parse
from jvpcli.problem import Problem
from jvpcli.report.derive import Applying, Case, Form, Function, JacobianForm, Product, Rule, Verified
from jvpcli.symbolic.cases import applies, by_cases, condition, patterns, where
from jvpcli.symbolic.code import Writer
from jvpcli.symbolic.expressions import cost, matrix_text, torch_text
from jvpcli.symbolic.factoring import variants
from jvpcli.symbolic.forms import (
    ONE,
    Delta,
    Index,
    Lam,
    NoClosedFormError,
    Poly,
    Sym,
    add,
    fresh,
    of,
    replace_entries,
    times,
    total_of,
)
from jvpcli.symbolic.rules import chooses, derivative, pulled
from jvpcli.symbolic.scalars import SCALARS
from jvpcli.symbolic.ties import settled
from jvpcli.symbolic.translation import constants, translated
from jvpcli.symbolic.verification import value
from jvpcli.symbolic.writing import LATEX, TEXT, Style, ordered, unused, written

RANDOM_POINTS = 3
"""Beside the point itself."""

POINTS_OF_CHOICES = 8
"""Further ones, of any signs, where values choose what an entry is: so many that a wrong choice is met."""

TOLERANCE = 1e-8
"""By which float64 may differ, of the largest entry."""

LARGEST = 1_000_000
"""Entries of a Jacobian up to which its form is written out and verified."""

LARGEST_SECOND = 10_000
"""Entries of a Hessian up to which it is written out and verified."""

LONG = 60
"""Characters from which a shorter form is looked for."""

NOT_VERIFIED = "PyTorch's own numbers differ, so it is not shown"

UNDEFINED = "the form that was found comes to 0/0 at this point, where PyTorch has a number: take another point"


@dataclass(frozen=True)
class Place:
    """A point at which forms are verified: the function evaluated there in float64, and all tensors that forms name.

    `gradients` keeps PyTorch's own: by input, and whether it is for the random v or for the given one.
    """

    evaluation: Evaluation
    tensors: Mapping[str, Tensor]
    gradients: dict[tuple[str, bool], Tensor] = field(default_factory=dict)


class Closed:
    """The closed forms of a problem at cotangents `v` (output to tensor) and tangents `u` (input to tensor).

    No index is called as a tensor is, nor as one of `sizes`, which are letters that stand for sizes.
    """

    def __init__(
        self, problem: Problem, v: Mapping[str, Tensor], u: Mapping[str, Tensor], sizes: Iterable[str] = ()
    ) -> None:
        self.problem, self.v, self.u = problem, v, u
        self.double = problem.in_double()
        self.evaluation = self.double.evaluation
        self.largest = 0.0
        taken = {*self.evaluation.inputs}
        self.v_names = {y: _free("v" if len(v) == 1 else f"v_{y}", taken) for y in v}
        self.u_names = {
            x: _free("u" if len(self.evaluation.wrt) == 1 else f"u_{x}", taken) for x in self.evaluation.wrt
        }
        self.taken = frozenset({*taken, *self.v, *sizes})
        self.letters: dict[Index, str] = {}
        self.texts: dict[tuple[Poly, Style, frozenset[str]], str] = {}
        self.slopes: dict[str, Poly] = {}
        self.at = {x: self.lettered(self.evaluation.inputs[x].shape) for x in self.evaluation.wrt}

    def holds_on_the_way(self, poly: Poly, at: tuple[Index, ...], name: str) -> bool:
        """Whether a form of ∂L/∂(a name of the program) is right; it may use the values of other names, and ∂L/∂ those."""

        def tensors(place: Place) -> dict[str, Tensor]:
            named = {
                n: t
                for n, t in place.evaluation.named.items()
                if t.requires_grad and n not in place.evaluation.inputs
            }
            total = sum(
                ((place.evaluation.outputs[y] * place.tensors[v]).sum() for y, v in self.v_names.items()),
                torch.zeros(()),
            )
            assert isinstance(total, Tensor)
            slopes = torch.autograd.grad(total, list(named.values()), retain_graph=True, allow_unused=True)
            arriving = {
                f"∂L/∂{n}": torch.zeros_like(t) if g is None else g
                for (n, t), g in zip(named.items(), slopes, strict=True)
            }
            return {**place.tensors, **{n: t.detach() for n, t in named.items()}, **arriving}

        def theirs(place: Place) -> Tensor:
            return tensors(place)[f"∂L/∂{name}"] if name not in self.at else self._gradient(place, name, None)

        return self._holds(lambda p: value(poly, at, tensors(p)), theirs)

    def lettered(self, shape: Sequence[int]) -> tuple[Index, ...]:
        """Indices with letters of their own."""
        axes = tuple(map(fresh, shape))
        for index in axes:
            self.letters[index] = unused({*self.letters.values(), *self.taken})
        return axes

    @cached_property
    def again(self) -> dict[str, tuple[Index, ...]]:
        """The indices of the inputs that a second derivative is by; only where there is one."""
        return {}

    def second(self, x: str, w: str) -> Product:
        """∂²L/∂x∂w for any v and for the given one."""
        if w not in self.again:
            self.again[w] = self.lettered(self.evaluation.inputs[w].shape)
        at = (*self.at[x], *self.again[w])
        try:
            if math.prod(i.size for i in at) > LARGEST_SECOND:
                raise NoClosedFormError("its entries are too many to verify it at this size: give a smaller example")
            poly = derivative(self.pulled_to(x), w, self.again[w])
            given = self._with(poly, {self.v_names[y]: (self._form(y).over, v) for y, v in self.v.items()})
        except NoClosedFormError as error:
            return _no_product(str(error))
        general = self._product(poly, at, None, lambda p: self._twice(p, x, w, None), {})
        scope = {self.v_names[y]: v.to(torch.float64) for y, v in self.v.items()}
        return Product(**vars(general), given=self._product(given, at, None, lambda p: self._twice(p, x, w, self.v), scope))

    def _twice(self, place: Place, x: str, w: str, v: Mapping[str, Tensor] | None) -> Tensor:
        """∂²L/∂x∂w by double backward, a row at a time."""
        leaf, other = place.evaluation.inputs[x], place.evaluation.inputs[w]
        weights = {y: place.tensors[self.v_names[y]] if v is None else v[y].to(torch.float64) for y in self.v}
        total = torch.stack([(place.evaluation.outputs[y] * weight).sum() for y, weight in weights.items()]).sum()
        (slope,) = torch.autograd.grad(total, leaf, create_graph=True, allow_unused=True)
        if slope is None or not slope.requires_grad:
            return torch.zeros(*leaf.shape, *other.shape, dtype=torch.float64)
        rows = [torch.autograd.grad(entry, other, retain_graph=True, allow_unused=True)[0] for entry in slope.reshape(-1)]
        found = [torch.zeros_like(other) if row is None else row for row in rows]
        return torch.stack(found).reshape(*leaf.shape, *other.shape) if found else torch.zeros(*leaf.shape, *other.shape)

    @cached_property
    def indices(self) -> dict[str, str]:
        """The letters of each input and output."""
        again = {f"d {x}": at for x, at in self.again.items()}
        axes = {**self.at, **again, **{y: lam.over for y, lam in self.forms.items() if isinstance(lam, Lam)}}
        return {name: "".join(self.letters[i] for i in over) for name, over in axes.items()}

    @cached_property
    def _translated(self) -> dict[str, Lam | NoClosedFormError]:
        """Each output in indices as its steps are, before it is verified."""
        held, slots = translated(self.evaluation), self.evaluation.output_slots
        return {y: held.get(slots.get(y, -1), NoClosedFormError(f"{y} has no step of its own")) for y in self.v}

    @cached_property
    def forms(self) -> dict[str, Lam | NoClosedFormError]:
        """Each output in indices, or why it has no such form."""
        found: dict[str, Lam | NoClosedFormError] = {}
        for y, form in self._translated.items():
            if isinstance(form, Lam):
                over = self.lettered(form.shape)
                form = self.settled(Lam(over, form(*over)))
                if not self._is_output(form, y):
                    form = NoClosedFormError(NOT_VERIFIED)
            found[y] = form
        return found

    def settled(self, form: Lam) -> Lam:
        """The form, whose derivatives are PyTorch's at the kinks that are met; it may use the values of the program's names."""
        points = [
            {**{name: x.detach() for name, x in place.evaluation.named.items()}, **place.tensors}
            for place in self.places
            if self._finite(place)
        ]
        return Lam(form.over, settled(form.body, points))

    def _is_output(self, form: Lam, y: str) -> bool:
        return self._holds(lambda p: value(form.body, form.over, p.tensors), lambda p: p.evaluation.outputs[y])

    # Points

    @cached_property
    def places(self) -> list[Place]:
        """The point, and random ones at which the same steps run and all is finite."""
        found = [self._place(self.evaluation)]
        inputs = {name: x.detach() for name, x in self.double.inputs.items() if x.is_floating_point()}
        choose = any(chooses(form.body) for form in self._translated.values() if isinstance(form, Lam))
        for seed in range(1, RANDOM_POINTS + POINTS_OF_CHOICES * choose + 1):
            near = [elsewhere(inputs, seed), sampled(inputs, 0.3, seed), moved(inputs, 0.03, seed), moved(inputs, 1e-3, seed)]
            signed = {name: direction(x, 100 * seed + k) for k, (name, x) in enumerate(inputs.items())}
            for points in near if seed <= RANDOM_POINTS else [signed, *near]:
                try:
                    evaluation = self.double.at(points)
                except Exception:  # another point of the same seed is nearer
                    continue
                place = self._place(evaluation)
                if evaluation.tape == self.evaluation.tape and self._finite(place):
                    found.append(place)
                    break
        return found

    def _place(self, evaluation: Evaluation) -> Place:
        generator = torch.Generator().manual_seed(20)
        given = {**constants(evaluation), **{name: x.detach() for name, x in evaluation.inputs.items()}}
        random = {
            **{self.v_names[y]: self.v[y].shape for y in self.v},
            **{self.u_names[x]: evaluation.inputs[x].shape for x in evaluation.wrt},
        }
        return Place(evaluation, {
            **given, **{name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in random.items()}
        })  # fmt: skip

    def _finite(self, place: Place) -> bool:
        outputs = [place.evaluation.outputs[y] for y in self.v]
        gradients = [g for x in place.evaluation.wrt if (g := self._gradient(place, x, None)) is not None]
        return all(bool(torch.isfinite(t).all()) for t in (*outputs, *gradients))

    def _gradient(self, place: Place, x: str, v: Mapping[str, Tensor] | None) -> Tensor:
        """∂L/∂x by PyTorch, for the random v of the place or for the one that is given."""
        if (x, v is None) not in place.gradients:
            place.gradients[x, v is None] = self._pulled_back(place, x, v)
        return place.gradients[x, v is None]

    def _pulled_back(self, place: Place, x: str, v: Mapping[str, Tensor] | None) -> Tensor:
        leaf = place.evaluation.inputs[x]
        total = torch.zeros_like(leaf)
        for y in self.v:
            weight = place.tensors[self.v_names[y]] if v is None else v[y].to(torch.float64)
            output = place.evaluation.outputs[y]
            if output.requires_grad:
                (part,) = vjp(output, weight, [leaf])
                total = total if part is None else total + part
        return total

    def _pushed(self, place: Place, y: str, u: Mapping[str, Tensor]) -> Tensor:
        """J u by PyTorch: the derivative of vᵀJ, which is linear in v, by v."""
        output = place.evaluation.outputs[y]
        v = torch.zeros_like(output, requires_grad=True)
        leaves = [place.evaluation.inputs[x] for x in u]
        pulled_back = torch.autograd.grad((output * v).sum(), leaves, create_graph=True, allow_unused=True)
        total = sum(((g * u[x]).sum() for x, g in zip(u, pulled_back, strict=True) if g is not None), torch.zeros(()))
        (found,) = (
            torch.autograd.grad(total, v, allow_unused=True)
            if isinstance(total, Tensor) and total.requires_grad
            else (None,)
        )
        return torch.zeros_like(output) if found is None else found

    def _holds(self, mine: Callable[[Place], Tensor], theirs: Callable[[Place], Tensor]) -> bool:
        """Whether two ways to a tensor agree at all places; how far they differ is kept."""
        return self._fault(mine, theirs) is None

    def _fault(self, mine: Callable[[Place], Tensor], theirs: Callable[[Place], Tensor]) -> str | None:
        """Why a way to a tensor is not shown; None: it agrees with the other at all places, and how far is kept."""
        largest = 0.0
        for place in self.places:
            try:
                found = mine(place)
            except Exception:  # code that does not run is not shown
                return NOT_VERIFIED
            want = theirs(place).detach()
            if found.shape != want.shape:
                return NOT_VERIFIED
            if want.numel():
                gap = torch.where(found.isnan() & want.isnan() | (found == want), 0.0, (found - want).abs())
                difference = float(gap.max()) / max(1.0, float(want.abs().nan_to_num(posinf=0.0).max()))
                if not difference <= TOLERANCE:
                    undefined = place is self.places[0] and bool((found.isnan() & ~want.isnan()).any())
                    return UNDEFINED if undefined else NOT_VERIFIED
                largest = max(largest, difference)
        self.largest = max(self.largest, largest)
        return None

    # What is told

    def text(self, poly: Poly, style: Style = TEXT, at: Sequence[Index] = ()) -> str:
        """A form with the letters of this answer; no sum runs over an index of what it is a form of, `at`."""
        taken = self.taken.union(self.letters[i] for i in at)
        if (poly, style, taken) not in self.texts:
            self.texts[poly, style, taken] = written(poly, self.letters, style, taken)
        return self.texts[poly, style, taken]

    def entry(self, name: str, over: Sequence[Index], style: Style = TEXT) -> str:
        """How an entry of a tensor is written."""
        return style.entry(name, "".join(self.letters[i] for i in over))

    def function(self, y: str) -> Function:
        """An output in indices."""
        form = self.forms[y]
        if isinstance(form, NoClosedFormError):
            return Function(None, None, str(form))
        return Function(self.text(form.body, at=form.over), self.text(form.body, LATEX, form.over))

    def jacobian(self, y: str, x: str) -> JacobianForm:
        """∂output/∂input in indices and by cases."""
        try:
            form, poly = self._jacobian(y, x)
        except NoClosedFormError as error:
            return JacobianForm(None, (), None, str(error))
        cases = tuple(case for case, _ in self._cases(form, x, poly))
        axes = (*form.over, *self.at[x])
        return JacobianForm(self.text(poly, at=axes), cases, self.text(poly, LATEX, axes))

    def applying(self, y: str, x: str) -> Applying | None:
        """Which entries each term of ∂output/∂input is about, and each of its cases; None where it has no form."""
        try:
            form, poly = self._jacobian(y, x)
        except NoClosedFormError:
            return None
        terms = [applies(term, (*form.over, *self.at[x])) for term in ordered(poly)]
        cases = [table for _, table in self._cases(form, x, poly)]
        return Applying(tuple(table.numpy() for table in terms), tuple(table.numpy() for table in cases))

    def _cases(self, form: Lam, x: str, poly: Poly) -> list[tuple[Case, Tensor]]:
        """A Jacobian by cases, each with a table of where it is the case; none where its entries do not differ in kind."""
        axes = (*form.over, *self.at[x])
        found = patterns(poly, [*self.at[x], *form.over])
        if found is None or not all(
            torch.allclose(by_cases(found, axes, p.tensors), value(poly, axes, p.tensors), equal_nan=True)
            for p in self.places
        ):
            return []
        told = [(p, self.text(shortest(p.entry, self.text), at=axes)) for p in found]
        general = next((text for p, text in told if not p.blocks), "0")
        if all(text == "0" for _, text in told):
            return []
        kept = [(Case(condition(p, self.letters), text), where(p, axes)) for p, text in told if p.blocks and text != general]
        rest = torch.ones([i.size for i in axes], dtype=torch.bool)
        for _, table in kept:
            rest = rest & ~table
        return [*kept, (Case("otherwise", general), rest)]

    def _jacobian(self, y: str, x: str) -> tuple[Lam, Poly]:
        """The output's form and its derivative.

        Raises:
            NoClosedFormError: there is none, or it is wrong.
        """
        form = self._form(y)
        poly = derivative(form.body, x, self.at[x])
        axes, v = (*form.over, *self.at[x]), self.v_names[y]
        if math.prod(i.size for i in axes) > LARGEST:
            raise NoClosedFormError("its entries are too many to verify it at this size: give a smaller example")

        def contracted(place: Place) -> Tensor:
            return torch.tensordot(place.tensors[v], value(poly, axes, place.tensors), len(form.over))

        def pulled_back(place: Place) -> Tensor:
            output = place.evaluation.outputs[y]
            (found,) = (
                vjp(output, place.tensors[v], [place.evaluation.inputs[x]]) if output.requires_grad else (None,)
            )
            return torch.zeros_like(place.evaluation.inputs[x]) if found is None else found

        fault = self._fault(contracted, pulled_back)
        if fault is not None:
            raise NoClosedFormError(fault)
        return form, poly

    def _form(self, y: str) -> Lam:
        form = self.forms[y]
        if isinstance(form, NoClosedFormError):
            raise form
        return form

    def vjp(self, x: str) -> Product:
        """∂L/∂x for any v and for the given one."""
        at = self.at[x]
        try:
            poly = self.pulled_to(x)
            given = self._with(poly, {self.v_names[y]: (self._form(y).over, v) for y, v in self.v.items()})
        except NoClosedFormError as error:
            return _no_product(str(error))
        general = self._product(poly, at, x, lambda p: self._gradient(p, x, None), {})
        scope = {self.v_names[y]: v.to(torch.float64) for y, v in self.v.items()}
        return Product(**vars(general), given=self._product(given, at, x, lambda p: self._gradient(p, x, self.v), scope))

    def jvp(self, y: str) -> Product:
        """J u for any u and for the given one."""
        try:
            form = self._form(y)
            parts = []
            for x in self.u:
                u = of(Sym(self.u_names[x], self.at[x]))
                parts.append(total_of(u, derivative(form.body, x, self.at[x]), self.at[x]))
            poly = add(*parts)
        except NoClosedFormError as error:
            return _no_product(str(error))
        given = self._with(poly, {self.u_names[x]: (self.at[x], u) for x, u in self.u.items()})
        general = self._product(
            poly, form.over, None, lambda p: self._pushed(p, y, {x: p.tensors[self.u_names[x]] for x in self.u}), {}
        )
        scope = {self.u_names[x]: u.to(torch.float64) for x, u in self.u.items()}
        here = {x: u.to(torch.float64) for x, u in self.u.items()}
        return Product(**vars(general), given=self._product(given, form.over, None, lambda p: self._pushed(p, y, here), scope))

    def pulled_to(self, x: str) -> Poly:
        """∂L/∂x as a form of the inputs and of v."""
        if x not in self.slopes:
            forms = [(self.v_names[y], self._form(y)) for y in self.v]
            self.slopes[x] = add(*(pulled(f.body, of(Sym(v, f.over)), f.over, x, self.at[x]) for v, f in forms))
        return self.slopes[x]

    def _with(self, poly: Poly, vectors: Mapping[str, tuple[tuple[Index, ...], Tensor]]) -> Poly:
        """The form for vectors of ones, zeros, or a single one, written out; others stay what they are called."""
        for name, (over, vector) in vectors.items():
            entry = _plain(vector, over)
            if entry is not None:
                poly = replace_entries(poly, name, Lam(over, entry))
        return poly

    def _product(
        self,
        poly: Poly,
        at: tuple[Index, ...],
        like: str | None,
        want: Callable[[Place], Tensor],
        scope: Mapping[str, Tensor],
    ) -> Form:
        """A product's forms, each verified."""
        derived = poly
        poly = shortest(poly, self.text) if scope or len(self.text(poly)) > LONG else poly
        fault = self._fault(lambda p: value(poly, at, {**p.tensors, **scope}), want)
        if fault is not None:
            return Form(None, None, None, None, fault)
        formula, latex = self.text(poly, at=at), self.text(poly, LATEX, at)
        reason = None
        try:
            writer = Writer(next(iter(self.at)))  # a form that is short as text need not be short as code
            found = sorted((e for form in {derived: 0, poly: 0} for e in writer.candidates(form, at, like)), key=cost)
        except NoClosedFormError as error:
            found, reason = [], str(error)
        for expr in found:
            text = torch_text(expr)
            if self._runs(text, scope, want):
                return Form(formula, matrix_text(expr), text, latex)
        return Form(formula, None, None, latex, reason or "no code was found that gives PyTorch's own numbers")

    def _runs(self, text: str, scope: Mapping[str, Tensor], want: Callable[[Place], Tensor]) -> bool:
        return self._holds(lambda p: evaluated(text, {**p.tensors, **scope}), want)

    @property
    def verified(self) -> Verified:
        """What was compared, so far."""
        return Verified(len(self.places), self.largest)


def _plain(vector: Tensor, over: tuple[Index, ...]) -> Poly | None:
    """A vector of ones, of zeros, or with a single one, as a form; None: it is another."""
    if bool((vector == 1).all()):
        return ONE
    if not bool(vector.any()):
        return ()
    if int((vector != 0).sum()) == 1 and bool((vector.sum() == 1).all()):
        place = vector.nonzero()[0].tolist()
        return times(*(of(Delta(index, k)) for index, k in zip(over, place, strict=True)))
    return None


def shortest(poly: Poly, text: Callable[[Poly], str]) -> Poly:
    """Of equal forms the one with the shortest text, the form itself where none is much shorter."""
    best = min(variants(poly), key=lambda p: len(text(p)))
    return best if len(text(best)) < 0.8 * len(text(poly)) else poly


def evaluated(text: str, scope: Mapping[str, Tensor]) -> Tensor:
    """What an expression of the language gives."""
    program = parse(text, [name for name in scope if name.isidentifier()])
    with default_dtype(torch.float64):
        found = torch.as_tensor(evaluate_value(program, {name: scope[name] for name in program.inputs}))
    return found.to(torch.float64)


def _free(name: str, taken: set[str]) -> str:
    """A name that no input has."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _no_product(reason: str) -> Product:
    nothing = Form(None, None, None, None, reason)
    return Product(**vars(nothing), given=nothing)


def steps(closed: Closed) -> Iterable[Rule]:
    """How the VJP comes out of the function, a rule a line; of a program with names that of each name too."""
    yield from _chain(closed)
    for y in closed.v:
        form = closed.forms[y]
        if isinstance(form, NoClosedFormError):
            continue
        left = closed.entry(y, form.over)
        yield Rule("the function in indices", f"{left} = {closed.text(form.body, at=form.over)}")
        for x, at in closed.at.items():
            try:
                poly = closed.pulled_to(x)
                found = derivative(form.body, x, at)
            except NoClosedFormError:
                continue
            over = "".join(closed.letters[i] for i in form.over)
            entry = closed.entry(x, at)
            inner = closed.text(found, at=(*form.over, *at))
            yield Rule(_rule(form.body, x), f"∂{left}/∂{entry} = {inner}")
            v = closed.entry(closed.v_names[y], form.over)
            inner = f"({inner})" if len(found) > 1 or inner.startswith("−") else inner
            summed = f"Σ_{over} {v}·{inner}" if over else f"{v}·{inner}"
            if len(closed.v) == 1:
                yield Rule("chain rule: v times the Jacobian", f"∂L/∂{entry} = {summed}")
                rule = (
                    "Σ_j δ_ij f_j = f_i: the deltas are summed away"
                    if any(isinstance(f, Delta) for t in found for f in t.factors)
                    else "brought together"
                )
                texts = [closed.text(form, at=at) for form in (poly, *variants(poly))]
                if texts[0] != summed:
                    yield Rule(rule, f"∂L/∂{entry} = {texts[0]}")
                together = min(texts[1:], key=len)
                if together != texts[0]:
                    yield Rule("common factors in front", f"∂L/∂{entry} = {together}")


def _chain(closed: Closed) -> Iterable[Rule]:
    """∂L/∂y for each name y that the program gives a step on the way, from the last to the first, and what the inputs get of it.

    Each is verified as the forms are; what has no form, or a wrong one, is left out.
    """
    evaluation = closed.evaluation
    outputs = set(evaluation.output_slots.values())
    kept = {
        step.slot: step.name for step in evaluation.tape
        if step.name and step.slot not in outputs and getattr(evaluation.values.get(step.slot), "requires_grad", False)
        and step.name not in evaluation.inputs
    }  # fmt: skip
    if not kept or len(set(kept.values())) < len(kept):
        return
    held = translated(evaluation, kept)
    own = {}  # each name's own form in terms of the names before it
    for slot, name in kept.items():
        others = {s: n for s, n in kept.items() if s != slot}
        own[name] = translated(evaluation, others).get(slot)
    consumers: list[tuple[str, Lam]] = []
    for y in closed.v:
        form = held.get(evaluation.output_slots.get(y, -1))
        if not isinstance(form, Lam):
            return
        consumers.append((closed.v_names[y], closed.settled(form)))
    names = list(kept.values())
    for name in [*reversed(names), *closed.at]:
        x = held[next(s for s, n in kept.items() if n == name)] if name in names else None
        at = closed.lettered(x.shape) if x is not None else closed.at[name]
        try:
            poly = add(*(pulled(f.body, of(Sym(weight, f.over)), f.over, name, at) for weight, f in consumers))
        except NoClosedFormError:
            return
        left = f"∂L/∂{closed.entry(name, at)}"
        if closed.holds_on_the_way(poly, at, name):
            rule = "what arrives at " + name if name in names else "from there to " + name
            yield Rule(rule, f"{left} = {closed.text(poly, at=at)}")
        if name in names:
            form = own[name]
            if not isinstance(form, Lam):
                return
            consumers.append((f"∂L/∂{name}", closed.settled(form)))


def _rule(poly: Poly, x: str) -> str:
    """The rules that a derivative of a form takes."""
    from jvpcli.symbolic.forms import Atom, Fn, Power, Term, names

    used = []
    for term in poly:
        mine = [f for f in term.factors if x in names((Term(term.coefficient, (), (f,)),))]
        if len(mine) > 1:
            used.append("product rule")
        for factor in mine:
            if isinstance(factor, Power):
                used.append("power rule")
            if isinstance(factor, Fn):
                called = SCALARS[factor.name].torch.partition("(")[0].rpartition(".")[2]
                used.append(f"chain rule ({called or factor.name})")
            if isinstance(factor, Atom) and factor.name != "move":
                used.append(f"derivative of {factor.name}")
    return ", ".join(dict.fromkeys(used)) or "each entry by itself: ∂x_j/∂x_i = δ_ij"
