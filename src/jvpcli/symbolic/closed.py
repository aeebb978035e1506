"""The closed forms of a problem: derived once, and each verified at the point and at random ones before it is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.problem import Problem
from jvpcli.program import Block, Const, Equation, Pack, Program
from jvpcli.report.derive import Applying, Case, Form, Function, JacobianForm, Product
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
from jvpcli.symbolic.places import NOT_VERIFIED, Place, Places
from jvpcli.symbolic.rules import chooses, derivative, pulled
from jvpcli.symbolic.translation import constants, translated
from jvpcli.symbolic.verification import evaluated, settled, value
from jvpcli.symbolic.writing import LATEX, TEXT, Style, ordered, unused, written

LARGEST = 1_000_000
"""Entries of a Jacobian up to which its form is written out and verified."""

LARGEST_SECOND = 10_000
"""Entries of a Hessian up to which it is written out and verified."""

WIDER = {
    **dict.fromkeys((f"torch.{name}" for name in ("float", "float32", "half", "float16", "bfloat16")), "torch.float64"),
    **dict.fromkeys((f"method:{name}" for name in ("float", "half", "bfloat16")), "method:double"),
}

MEANS = re.compile(r"mean|var|std|loss|entropy|kl_div|pool|cov|corr|interpolate|(layer|batch|group|instance|rms)_norm")
"""The names of functions that take means."""

LONG = 60
"""Characters from which a shorter form is looked for."""


Vectors = Mapping[str, tuple[tuple[Index, ...], Tensor]]
"""What cotangents or tangents are called in forms, with their indices, to the given ones."""


class Closed:
    """The closed forms of a problem at cotangents `v` (output to tensor) and tangents `u` (input to tensor).

    No index is called as a tensor is, nor as one of `sizes`, which are letters that stand for sizes.
    """

    def __init__(
        self, problem: Problem, v: Mapping[str, Tensor], u: Mapping[str, Tensor], sizes: Iterable[str] = ()
    ) -> None:
        self.problem, self.v, self.u = problem, v, u
        self.double = _in_double(problem)
        self.evaluation = self.double.evaluation
        taken = {*self.evaluation.inputs, *constants(self.evaluation)}
        self.v_names = {y: _free("v" if len(v) == 1 else f"v_{y}", taken) for y in v}
        self.u_names = {
            x: _free("u" if len(self.evaluation.wrt) == 1 else f"u_{x}", taken) for x in self.evaluation.wrt
        }
        self.taken = frozenset({*taken, *self.v, *sizes})
        self.letters: dict[Index, str] = {}
        self.texts: dict[tuple[Poly, Style, frozenset[str]], str] = {}
        self.slopes: dict[str, Poly] = {}
        self.derivatives: dict[tuple[str, str], Poly] = {}
        self.at = {x: self.lettered(self.evaluation.inputs[x].shape) for x in self.evaluation.wrt}

    @cached_property
    def places(self) -> Places:
        """Where forms are verified."""
        choose = any(chooses(form.body) for form in self._translated.values() if isinstance(form, Lam))
        return Places(self.double, self.v, self.u, self.v_names, self.u_names, choose)

    def holds_on_the_way(self, poly: Poly, at: tuple[Index, ...], name: str) -> bool:
        """Whether a form of ∂L/∂(a name of the program) is right; it may use the values of other names, and ∂L/∂ those."""
        places = self.places

        def theirs(place: Place) -> Tensor:
            return places.gradient(place, name) if name in self.at else places.on_the_way(place)[f"∂L/∂{name}"]

        return places.agree(lambda p: value(poly, at, places.on_the_way(p)), theirs)

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
            return self._product(poly, at, None, self._cotangents, lambda p, given: self.places.twice(p, x, w, given))
        except NoClosedFormError as error:
            return _no_product(str(error))

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
                form = form if self._is_output(form, y) else NoClosedFormError(NOT_VERIFIED)
            found[y] = form
        return found

    def _is_output(self, form: Lam, y: str) -> bool:
        return self.places.agree(lambda p: value(form.body, form.over, p.tensors), lambda p: p.evaluation.outputs[y])

    def settled(self, form: Lam) -> Lam:
        """The form, whose derivatives are PyTorch's at the kinks that are met; it may use the values of the program's names."""
        points = [
            {**{name: x.detach() for name, x in place.evaluation.named.items()}, **place.tensors}
            for place in self.places.all
            if self.places.is_finite(place)
        ]
        return Lam(form.over, settled(form.body, points))

    # What is told

    def text(self, poly: Poly, style: Style = TEXT, at: Sequence[Index] = ()) -> str:
        """A form with the letters of this answer; no sum runs over an index of what it is a form of, `at`."""
        taken = self.taken.union(self.letters[i] for i in at)
        if (poly, style, taken) not in self.texts:
            self.texts[poly, style, taken] = written(poly, self.letters, style, taken)
        return self.texts[poly, style, taken]

    def entry(self, name: str, over: Sequence[Index]) -> str:
        """How an entry of a tensor is written."""
        return TEXT.entry(name, "".join(self.letters[i] for i in over))

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
            for p in self.places.all
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
        poly = self.slope(y, x)
        axes, v = (*form.over, *self.at[x]), self.v_names[y]
        if math.prod(i.size for i in axes) > LARGEST:
            raise NoClosedFormError("its entries are too many to verify it at this size: give a smaller example")

        fault = self.places.fault(
            lambda p: torch.tensordot(p.tensors[v], value(poly, axes, p.tensors), len(form.over)),
            lambda p: self.places.pulled_back(p, x, {y: p.tensors[v]}),
        )
        if fault is not None:
            raise NoClosedFormError(fault)
        return form, poly

    def slope(self, y: str, x: str) -> Poly:
        """∂output/∂input: of an output without indices as 1 comes back through it, where that is shorter.

        Raises:
            NoClosedFormError: there is none.
        """
        if (y, x) not in self.derivatives:
            form, at = self._form(y), self.at[x]
            found = derivative(form.body, x, at)
            if not form.over:
                found = min(found, pulled(form.body, ONE, (), x, at), key=lambda poly: len(self.text(poly, at=at)))
            self.derivatives[y, x] = found
        return self.derivatives[y, x]

    def _form(self, y: str) -> Lam:
        form = self.forms[y]
        if isinstance(form, NoClosedFormError):
            raise form
        return form

    def vjp(self, x: str) -> Product:
        """∂L/∂x for any v and for the given one."""
        try:
            poly = self.pulled_to(x)
            return self._product(poly, self.at[x], x, self._cotangents, lambda p, given: self.places.gradient(p, x, given))
        except NoClosedFormError as error:
            return _no_product(str(error))

    def jvp(self, y: str) -> Product:
        """J u for any u and for the given one."""
        tangents = {self.u_names[x]: (self.at[x], u) for x, u in self.places.u.items()}
        try:
            form = self._form(y)
            parts = [
                total_of(of(Sym(name, at)), derivative(form.body, x, at), at)
                for x, (name, (at, _)) in zip(self.u, tangents.items(), strict=True)
            ]
        except NoClosedFormError as error:
            return _no_product(str(error))
        return self._product(add(*parts), form.over, None, tangents, lambda p, given: self.places.pushed(p, y, given))

    def pulled_to(self, x: str) -> Poly:
        """∂L/∂x as a form of the inputs and of v."""
        if x not in self.slopes:
            forms = [(self.v_names[y], self._form(y)) for y in self.v]
            self.slopes[x] = add(*(pulled(f.body, of(Sym(v, f.over)), f.over, x, self.at[x]) for v, f in forms))
        return self.slopes[x]

    @cached_property
    def _means(self) -> bool:
        """Whether the program takes means: by themselves, or in a loss, a variance or a normalisation."""
        return any(MEANS.search(step.word) for step in self.evaluation.tape)

    @property
    def _cotangents(self) -> Vectors:
        return {self.v_names[y]: (self._form(y).over, v) for y, v in self.places.v.items()}

    def _product(
        self, poly: Poly, at: tuple[Index, ...], like: str | None, vectors: Vectors, want: Callable[[Place, bool], Tensor]
    ) -> Product:
        """A product with any vectors, and with the given ones; `want` is PyTorch's at a place, for its own or for those."""
        given, scope = poly, {name: vector for name, (_, vector) in vectors.items()}
        for name, (over, vector) in vectors.items():
            entry = _plain(vector, over)  # written out; others stay what they are called
            given = given if entry is None else replace_entries(given, name, Lam(over, entry))
        general = self._verified(poly, at, like, lambda p: want(p, False), {})
        return Product(**vars(general), given=self._verified(given, at, like, lambda p: want(p, True), scope))

    def _verified(
        self, poly: Poly, at: tuple[Index, ...], like: str | None, want: Callable[[Place], Tensor], scope: Mapping[str, Tensor]
    ) -> Form:
        """A product's forms, each verified."""
        derived = poly
        poly = shortest(poly, self.text) if scope or len(self.text(poly)) > LONG else poly
        fault = self.places.fault(lambda p: value(poly, at, {**p.tensors, **scope}), want)
        if fault is not None:
            return Form(None, None, None, None, fault)
        formula, latex = self.text(poly, at=at), self.text(poly, LATEX, at)
        reason = None
        try:
            writer = Writer(next(iter(self.at)), self._means)  # a form that is short as text need not be short as code
            found = sorted((e for form in {derived: 0, poly: 0} for e in writer.candidates(form, at, like)), key=cost)
        except NoClosedFormError as error:
            found, reason = [], str(error)
        for expr in found:
            text = torch_text(expr)
            if self._runs(text, scope, want):
                return Form(formula, matrix_text(expr), text, latex)
        return Form(formula, None, None, latex, reason or "no code was found that gives PyTorch's own numbers")

    def _runs(self, text: str, scope: Mapping[str, Tensor], want: Callable[[Place], Tensor]) -> bool:
        return self.places.agree(lambda p: evaluated(text, {**p.tensors, **scope}), want)


def _in_double(problem: Problem) -> Problem:
    """The problem in double precision; where it can't be computed so since its text names a narrower one, that is wider, too."""
    double = problem.in_double()
    if not isinstance(double.function, Program):
        return double
    try:
        double.evaluation  # noqa: B018  # what it is then asked for
    except JvpError:
        return replace(double, function=_widened(double.function))
    return double


def _widened(part: Any) -> Any:
    if isinstance(part, Const):
        return replace(part, path=WIDER.get(part.path or "", part.path))
    if isinstance(part, tuple):
        return tuple(map(_widened, part))
    if isinstance(part, (Program, Block, Equation, Pack)):
        return replace(part, **{field.name: _widened(getattr(part, field.name)) for field in fields(part) if field.init})
    return WIDER.get(part, part) if isinstance(part, str) and part.startswith("method:") else part


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


def _free(name: str, taken: set[str]) -> str:
    """A name that no input has."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _no_product(reason: str) -> Product:
    nothing = Form(None, None, None, None, reason)
    return Product(**vars(nothing), given=nothing)
