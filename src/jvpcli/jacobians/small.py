"""A small problem: its Jacobians pass by pass, and their structure.

The values at the point and at a random one tell the structure where the operations are smooth, since those show the whole
pattern at a random point; where they are not, as of a ReLU, the operations are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.errors import JvpError
from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.jacobians.nearby import Sides, ahead, all_finite, elsewhere, others, sampled
from jvpcli.jacobians.operations import Nature, natures
from jvpcli.jacobians.passes import DUAL, dual_maps, forward_jacobian, reverse_jacobian
from jvpcli.jacobians.stacked import Around, look_around, rows_of
from jvpcli.jacobians.structure import classify_complex, kind_by_values, unproved, without_artefacts
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Named, Problem
from jvpcli.report import Notice, OutputPlan, Plan, Way
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.jacobians.graph import Graph
    from jvpcli.language.course import Course

NEARBY = 0.05
"""How far, relative to each entry, the structure is sampled where the function ends before a point of ordinary size."""

KINDS = "kinds"
"""What a problem is asked for, with an output, for kinds that the operations tell whatever the numbers are."""

AHEAD = "ahead"
"""What a problem is asked for the sample that is the same for all points; with a mode, for the maps there."""

Maps = Mapping[tuple[str, str], LinearMap]
"""(output, input) to ∂output/∂input."""


@dataclass(frozen=True)
class Derivatives:
    """The Jacobian of every differentiable output to every differentiated input, and how it was computed.

    `sides` are generic gradients a few roundings to both sides of the point, where they were found on the way.
    """

    maps: Maps
    plan: Plan
    notices: tuple[Notice, ...] = ()
    sides: Sides | None = None


@dataclass(frozen=True, eq=False)
class SmallPlan:
    """All passes one by one, or at many points at once.

    Attributes:
        problem: with differentiable outputs.
        mode: "auto", "forward" or "reverse".
        targets: the outputs that are differentiated.
        together: whether many points may be run at once, where the problem can be.
    """

    problem: Problem
    mode: str
    targets: Named
    together: bool = True

    @cached_property
    def plan(self) -> Plan:
        """The plan of all outputs together."""
        asked = "passes", self.mode, *self.targets
        return self.problem.once(asked, lambda: plan_passes(self.targets, self.problem.leaves, self.mode))

    @property
    def outputs(self) -> dict[str, OutputPlan]:
        """What is planned for each output by itself, as it is reported."""
        n, found = sum(x.numel() for x in self.problem.leaves.values()), {}
        for name, y in self.targets.items():
            plan, m = plan_passes({name: y}, self.problem.leaves, self.mode), y.numel()
            way = Way(plan.strategy, plan.mode, plan.passes, m * n, plan.peak_bytes, True)
            found[name] = OutputPlan(m, n, m * n, (way,), f"small: {plan.reason}")
        return found

    @cached_property
    def around(self) -> Around | None:
        """What a pass over the point and a sample has found; None where there is none."""
        together = self.together and self.mode != "forward" and self.problem.can_stack
        return _look_around(self.problem, self.plan.mode) if together else None

    def stages(self) -> Iterator[None]:
        """What `derive` begins with, one thing after the other."""
        if self.mode != "forward" and self.problem.can_stack:
            rows_of(self.problem, self.plan.mode)
        yield
        _ = self.around
        yield

    def maps(self) -> Maps:
        """The maps alone, without a look at another point."""
        return with_kinds(self.problem, self.targets, self._maps()[0], dict)

    def repeat(self, course: Course | None) -> None:
        """Nothing: each point is looked at anew."""

    def _maps(self) -> tuple[dict[tuple[str, str], LinearMap], Plan, tuple[Notice, ...]]:
        """The maps by passes; in forward mode proper where that was asked for."""
        outputs, inputs, plan = self.targets, self.problem.leaves, self.plan
        if self.mode != "forward" or plan.mode != "forward":
            return maps_by_passes(outputs, inputs, plan)
        try:
            return dict(dual_maps(self.problem, outputs)), replace(plan, reason=DUAL), ()
        except (RuntimeError, JvpError) as error:  # of a program it comes with its place
            return _by(reverse_jacobian, outputs, inputs), *_instead(outputs, plan, error)

    def derive(self, tell: Tell | None = None) -> Derivatives:
        """The maps with their structure, and the sides where they were seen; it is done too soon to `tell` of."""
        problem, outputs, plan, around = self.problem, self.targets, self.plan, self.around

        def by_plan(ys: Named, xs: Named) -> Maps:
            return maps_by_passes(ys, xs, self.plan)[0]

        seen = None if around is None else around.sample
        sample = cache(partial(sample_maps, problem.leaves, problem.at, by_plan)) if seen is None else lambda: seen
        if around is None:
            maps, plan, notices = self._maps()
            return Derivatives(with_kinds(problem, outputs, maps, sample), plan, notices)
        return Derivatives(with_kinds(problem, outputs, around.maps, sample), plan, (), around.sides)


def plan_passes(outputs: Named, inputs: Named, mode: str = "auto") -> Plan:
    """Forward or reverse, by the number of passes; `mode` other than "auto" settles it."""
    m = sum(y.numel() for y in outputs.values())
    n = sum(x.numel() for x in inputs.values())
    is_complex = any(t.is_complex() for t in (*outputs.values(), *inputs.values()))
    itemsize = max((y.element_size() for y in outputs.values()), default=4)
    if is_complex:
        backward = sum(y.numel() * (1 + y.is_complex()) for y in outputs.values())
        chosen, passes, why = "reverse", backward, "complex tensors: one backward pass a row"
    elif mode == "forward" or (mode == "auto" and n < m):
        chosen, passes = "forward", n
        why = f"one pass a column: {n} input entries against {m} output entries"
    else:
        chosen, passes = "reverse", m
        why = f"one pass a row: {m} output entries against {n} input entries"
    if mode != "auto" and chosen == mode:
        why = f"asked for with --mode {mode}; {why}"
    return Plan(mode=chosen, passes=passes, peak_bytes=2 * m * n * itemsize, reason=why, strategy="dense")


def maps_by_passes(
    outputs: Named, inputs: Named, plan: Plan
) -> tuple[dict[tuple[str, str], LinearMap], Plan, tuple[Notice, ...]]:
    """The maps by the planned mode, or by the reverse mode where an operation has no second derivative."""
    if plan.mode == "forward":
        try:
            return _by(forward_jacobian, outputs, inputs), plan, ()
        except RuntimeError as error:
            return _by(reverse_jacobian, outputs, inputs), *_instead(outputs, plan, error)
    return _by(reverse_jacobian, outputs, inputs), plan, ()


def _instead(outputs: Named, plan: Plan, error: Exception) -> tuple[Plan, tuple[Notice, ...]]:
    """The plan of the reverse mode, in the place of a forward one that failed, and what is said of it."""
    plan = replace(plan, mode="reverse", passes=sum(y.numel() for y in outputs.values()))
    reason = str(error).splitlines()[0].rstrip(".")
    return plan, (Notice("fallback", f"forward mode cannot be used here ({reason}); reverse mode was used instead"),)


Engine = Callable[[Tensor, Sequence[Tensor]], list[LinearMap]]


def _by(
    engine: Engine, outputs: Named, inputs: Named
) -> dict[tuple[str, str], LinearMap]:
    leaves = list(inputs.values())
    return {
        (y_name, x_name): jacobian
        for y_name, y in outputs.items()
        for x_name, jacobian in zip(inputs, engine(y, leaves), strict=True)
    }


# --- another point ---------------------------------------------------------------------------------------------------


def _look_around(problem: Problem, mode: str) -> Around | None:
    """One pass over the point and a sample: of ordinary size, or nearby where the function ends before that.

    Where all inputs are differentiated, the first sample is the same for all points, and its maps are found once.
    """
    inputs = problem.leaves
    if any(x.is_complex() for x in inputs.values()):
        return None
    asked, best = (AHEAD, mode), None
    known = problem.found(asked) if len(inputs) == len(problem.inputs) else {}
    if known is None or known:
        best = look_around(problem, mode, problem.once(AHEAD, lambda: ahead(inputs, seed=7)), known)
        if best is not None:
            found = best.sample or {}  # none where the function ends before that
            problem.once(asked, lambda: found)
            if found:
                return best
    for place in (elsewhere(inputs, seed=7), sampled(inputs, -NEARBY, seed=7)):
        best = look_around(problem, mode, place) or best
        if best is not None and best.sample is not None:
            break
    return best


class Point(Protocol):
    """The function at a point: its outputs, and the leaves that they come from."""

    @property
    def outputs(self) -> Named: ...  # noqa: D102
    @property
    def leaves(self) -> Named: ...  # noqa: D102


def sample_maps(
    inputs: Named, at: Callable[[Named], Point], derive: Callable[[Named, Named], Mapping[tuple[str, str], LinearMap]]
) -> Maps:
    """The maps at another point, which `derive` makes of outputs and leaves; none where the function fails there.

    `at` evaluates the function at a point.
    """
    places = (elsewhere(inputs, seed=7), *[sampled(inputs, relative, seed=7) for relative in (-NEARBY, NEARBY)])
    for place in places:  # inwards first: that stays in the domain more often
        try:
            there = at(place)
            reached = {name: y for name, y in there.outputs.items() if y.requires_grad}
            maps = derive(reached, there.leaves)
        except Exception:  # any failure of the user's function off the point only costs the sample
            continue
        if all(bool(part.isfinite().all()) for each in maps.values() for part in each.parts):
            return maps
    return {}


# --- the structure ---------------------------------------------------------------------------------------------------


def with_kinds(
    problem: Problem, outputs: Named, maps: Maps, sample: Callable[[], Maps]
) -> dict[tuple[str, str], LinearMap]:
    """The maps of some outputs with their structure, and zeros where NaN only stands for 0·∞.

    `sample` gives the maps at another point.
    """
    found: dict[tuple[str, str], LinearMap] = {}
    around = cache(partial(others, problem)) if problem.decided else tuple
    for y_name, y in outputs.items():
        operations = _Operations(problem, y_name, y, around)
        for position, x_name in enumerate(problem.leaves):
            key, nature = (y_name, x_name), operations.natures[position]
            jacobian = maps[key]
            if isinstance(jacobian, ComplexMap):
                found[key] = replace(jacobian, kind=_of_complex(jacobian, sample, key, nature))
            elif isinstance(jacobian, DenseMap) and problem.is_own:  # whose code is not run for what its operations tell
                told = operations.told(jacobian, position)
                found[key] = (told.structure == "unknown" and _by_values(jacobian, sample, key, nature)) or told
            elif isinstance(jacobian, DenseMap):
                found[key] = _by_values(jacobian, sample, key, nature) or operations.told(jacobian, position)
    return found


def _by_values(
    jacobian: DenseMap, sample: Callable[[], Maps], key: tuple[str, str], nature: Nature
) -> LinearMap | None:
    """The map with the structure that the values here and elsewhere show; None where they don't show it all."""
    other = sample().get(key) if nature.smooth else None
    if not isinstance(other, DenseMap) or other.matrix.shape != jacobian.matrix.shape:
        return None
    matrix, artefacts = jacobian.matrix, 0
    if not all_finite(matrix):
        matrix, artefacts = without_artefacts(matrix, other.matrix != 0)
    kind = kind_by_values(matrix, other.matrix, nature, jacobian.shapes)
    return None if kind is None else DenseMap(*jacobian.shapes, matrix, kind, "values", artefacts)


def _of_complex(jacobian: ComplexMap, sample: Callable[[], Maps], key: tuple[str, str], nature: Nature) -> str:
    """The kind that the values here and elsewhere show; where they don't show it all, what is proved by those here."""
    other = sample().get(key) if nature.smooth else None
    if isinstance(other, ComplexMap) and other.rows.shape == jacobian.rows.shape:
        return classify_complex([jacobian, other], nature)
    return unproved(jacobian.filled)


@dataclass(frozen=True)
class _Operations:
    """What is asked of the operations of one output; the engine is loaded where they are."""

    problem: Problem
    name: str
    output: Tensor
    elsewhere: Callable[[], Sequence[Evaluation]]

    @cached_property
    def natures(self) -> Sequence[Nature]:
        """What they are on the way to each input, told by their names alone."""
        problem, leaves = self.problem, list(self.problem.leaves.values())
        asked = "natures", self.name
        return problem.once(asked, lambda: natures(problem.below(self.name), leaves, problem.weighed, problem.decided))

    @cached_property
    def kinds(self) -> Sequence[str]:
        """The kind of the map to each input; none where an operation's local map is not known."""
        known: Sequence[str] | None = self.problem.found((KINDS, self.name))
        return self._kinds if known is None else known

    @cached_property
    def _kinds(self) -> Sequence[str]:
        from jvpcli.jacobians import pattern
        from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace

        try:
            maps = pattern.told(self._graph, Workspace())
            found = [each.structure for each in maps]
        except (UnsupportedError, TooLargeError, RuntimeError):
            return ()
        return self.problem.once((KINDS, self.name), lambda: found) if all(each.settled for each in maps) else found

    def told(self, jacobian: DenseMap, position: int) -> LinearMap:
        """The map to one input with the structure that they tell."""
        if not self.kinds:
            return replace(jacobian, kind=unproved(jacobian.matrix), kind_from="values")
        matrix, artefacts = jacobian.matrix, 0
        if not all_finite(matrix):
            from jvpcli.jacobians import pattern
            from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace

            with suppress(UnsupportedError, TooLargeError):  # of some operations it is not known where they are zero everywhere
                matrix, artefacts = without_artefacts(matrix, pattern.masks(self._graph, Workspace())[position])
        return replace(jacobian, matrix=matrix, kind=self.kinds[position], artefacts=artefacts)

    @cached_property
    def _graph(self) -> Graph:
        from jvpcli.jacobians.graph import read_graph, read_others
        from jvpcli.jacobians.terms import UnsupportedError

        problem = self.problem
        elsewhere = (lambda: read_others(self.elsewhere(), self.name, self.output)) if problem.decided else None
        leaves, hooked = list(problem.leaves.values()), problem.evaluation.hooked
        graph = read_graph(self.output, leaves, hooked, problem.weighed, partial(problem.below, self.name), elsewhere)
        if graph.whole:
            raise UnsupportedError("only torch's own engine knows the backward pass")
        return graph
