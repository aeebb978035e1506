"""The engine: an evaluated graph in, structured Jacobians out.

result = compute(plan(y, [x, W]))          # y evaluated from the leaves x and W
result.maps, result.notes
again = compute(plan(y2, [x2, W2]), result.work)     # the same program: index arrays are found made
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import NamedTuple

from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.errors import is_out_of_memory
from jvpcli.jacobians.compose import Terms
from jvpcli.jacobians.dense import (
    BATCH_BYTES,
    Manner,
    by_batches,
    by_columns,
    by_rows,
    manner_of,
    pulled_maps,
    rows_at_once,
)
from jvpcli.jacobians.graph import Graph, Others, Sample, accumulate, read_graph, read_others
from jvpcli.jacobians.linear_map import DenseMap, LinearMap
from jvpcli.jacobians.matrix_free import OperatorMap
from jvpcli.jacobians.nearby import others
from jvpcli.jacobians.passes import Pace, TooSlowError
from jvpcli.jacobians.pattern import structured
from jvpcli.jacobians.plan import GraphPlan
from jvpcli.jacobians.small import Derivatives, Maps, SmallPlan, sample_maps
from jvpcli.jacobians.structured import owned
from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace, zeros
from jvpcli.language.course import Course
from jvpcli.language.evaluate import Evaluation, is_decided
from jvpcli.problem import Named, Node, Problem
from jvpcli.report import Notice, OutputPlan, Plan, Way
from jvpcli.request import Tell
from jvpcli.system.memory import free_memory

SURE_TO_FIT = 1 << 28
"""Bytes of a result for which nobody looks at what is free."""

EXACT_NONFINITE = 1 << 20
"""Up to so many entries (m·n) a Jacobian with NaN or infinity is computed again as PyTorch's own passes give it."""


# --- one output ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Computed:
    """The Jacobians of one output.

    Attributes:
        maps: one for each input.
        way: how they were computed in the end.
        work: hand it to the next call for the same program.
        notes: what was planned and could not be done, in sentences.
    """

    maps: list[LinearMap]
    way: Way
    work: Workspace
    notes: tuple[str, ...] = ()


def plan(
    output: Tensor,
    inputs: Sequence[Tensor],
    mode: str = "auto",
    memory_limit: int | None = None,
    hooked: bool = False,
    weighed: bool = False,
    nodes: Callable[[], Sequence[Node]] | None = None,
    elsewhere: Others | None = None,
    known: Hashable = None,
    sample: Sample | None = None,
) -> GraphPlan:
    """How ∂output/∂input is computed for every input; computes nothing.

    Args:
        output: evaluated from the inputs, with its graph (which is kept).
        inputs: leaves that require grad.
        mode: "auto", "reverse" or "forward".
        memory_limit: bytes that computing may take over what the evaluation holds; None: any.
        hooked: the function has registered hooks: its backward pass is more than its operations.
        weighed: numbers that are not differentiated follow from the inputs.
        nodes: gives those below the output, where they are known.
        elsewhere: gives its graphs at other points, where values decide what runs.
        known: names the graph, where it is known to be that of an earlier evaluation.
        sample: gives the matrices of its maps at another point.

    Raises:
        UnsupportedError: complex tensors, which are answered pass by pass.
    """
    graph = read_graph(output, inputs, hooked, weighed, nodes, elsewhere, sample)
    return GraphPlan(graph, mode, float("inf") if memory_limit is None else memory_limit, known)


def compute(plan: GraphPlan, work: Workspace | None = None, tell: Tell | None = None) -> Computed:
    """The Jacobians as planned, or by another way where that fails.

    Args:
        plan: for one output.
        work: of an earlier call for the same program.
        tell: is told how far it is.

    Raises:
        UnsupportedError: no way could be gone.
    """
    if work is None:
        work = Workspace(plan.limit)
    elif work.limit != plan.limit:
        work = replace(work, limit=plan.limit)
    notes: list[str] = []
    short = False
    key = work.key(*plan.key)
    known = key is not None and key in work.made
    chosen = work.structure(key, lambda: plan.chosen)
    if not plan.allows(chosen):
        known, chosen = False, plan.chosen
    for way in _ways(plan, chosen):
        if way.strategy == "matrix_free" and way != chosen and not short:
            break  # products would fail in the same way
        try:
            pace = None if known or key is None or way != chosen else plan.pace(way)
            maps = _run(plan.graph, way, work, key, tell, pace=pace)
        except TooSlowError:
            assert key is not None
            work.settle(key, plan.by_maps[0])
            done = compute(plan, work, tell)
            slow = f"{way.strategy} ({way.mode}) was given up on the way: its passes took several times as long as planned"
            return replace(done, notes=(slow, *done.notes))
        except (UnsupportedError, TooLargeError, RuntimeError, MemoryError) as error:
            short = short or isinstance(error, TooLargeError) or is_out_of_memory(error)
            notes.append(f"{way.strategy} ({way.mode}) could not be used: {str(error).splitlines()[0]}")
            continue
        return Computed(maps, way, work, tuple(notes))
    raise UnsupportedError("; ".join(notes))


def _ways(plan: GraphPlan, chosen: Way) -> Iterator[Way]:
    """The first choice; where it fails, dense passes where they fit, in the cheaper direction first; products at last."""
    yield chosen
    graph, m, n = plan.graph, plan.graph.m, plan.graph.n
    both = [Way("dense", "reverse", m, 0, 0, True), Way("dense", "forward", n, 0, 0, True)]
    both.sort(
        key=lambda way: (way.mode != plan.mode and plan.mode != "auto", way.passes > (1 + (way.mode == "forward")) * min(m, n))
    )
    if m * n * graph.like.element_size() + graph.footprint <= plan.limit:
        yield from both
    yield Way("matrix_free", "reverse", 1, 0, 0, True)


def _run(
    graph: Graph,
    way: Way,
    work: Workspace,
    key: int | None,
    tell: Tell | None = None,
    agreed: set[bool] | None = None,
    pace: Pace | None = None,
) -> list[LinearMap]:
    """The maps by one way; `key` names the plan, for what is made of it once; `agreed` and `pace` are as `Sweep` has them."""
    if way.strategy in ("accumulated", "batched"):
        work = work.anew()
        if way.strategy == "accumulated":
            pieces = accumulate(graph, work, way.mode, tell)
        else:
            assert graph.spine is not None
            pieces = by_batches(graph, graph.spine, work, min(BATCH_BYTES, work.limit), tell)
            if graph.whole:
                return pulled_maps(graph, [_matrix(graph, x, terms, work) for x, terms in zip(graph.inputs, pieces, strict=True)])
        if _trustworthy(graph, pieces):
            return [*structured(graph, owned(pieces, work), work)]
    limit = work.limit
    if way.strategy == "matrix_free":
        shape = tuple(graph.output.shape)
        return [OperatorMap(shape, tuple(x.shape), graph.output, x, min(BATCH_BYTES, limit / 8)) for x in graph.inputs]
    size = graph.m * sum([x.numel() * x.element_size() for x in graph.inputs])
    if size > SURE_TO_FIT and limit == float("inf") and size > (free_memory() or limit):
        raise TooLargeError(f"the Jacobian would take {size} bytes, more than there is free")
    room = min(BATCH_BYTES, max(limit - size, 0))
    if way.mode == "forward" and way.strategy == "dense":
        return pulled_maps(graph, by_columns(graph, room, tell, pace), limit)
    manner = work.structure(work.key("manner", room, key), lambda: manner_of(graph, room))
    if manner.fused and graph.whole:  # it was another graph's of the same `form`
        manner = manner_of(graph, room)
    return pulled_maps(graph, by_rows(graph, room, tell, manner, agreed, pace), limit, manner.fused)


def _matrix(graph: Graph, x: Tensor, terms: Terms, work: Workspace) -> Tensor:
    """The matrix (m, n) of the pieces of the map to one input."""
    work.reserve(graph.m * x.numel(), graph.like.element_size())
    result = zeros(graph.m, x.numel(), graph.like)
    for term in terms:
        term.write_dense(result, accumulate=len(terms) > 1)
    return result


def _trustworthy(graph: Graph, pieces: Sequence[Terms]) -> bool:
    """Whether all is finite, or too large to do again.

    A NaN times a zero is where the order of multiplication shows; PyTorch's own passes settle what is shown then.
    """
    if graph.m * graph.n > EXACT_NONFINITE:
        return True
    values = [numbers for terms in pieces for term in terms for numbers in term.numbers]
    return all(isfinite(v.sum().item()) or bool(v.isfinite().all()) for v in values)


# --- a problem -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A problem at other points than its own: it runs there when somebody asks for that, and only if no input was written to.

    Attributes:
        problem: evaluated.
        versions: of its inputs, when it was.
    """

    problem: Problem
    versions: Versions

    @cached_property
    def evaluations(self) -> Sequence[Evaluation]:
        """At a few points."""
        return others(self.problem)

    def others(self, name: str, y: Tensor) -> Sequence[Graph]:
        """The graphs of an output there, where values decide what runs."""
        if self.versions != _versions(self.problem.inputs):
            return []
        late = "evaluations" not in vars(self)
        found = read_others(self.evaluations, name, y)
        if late:  # after the answer
            self.problem.settle()
        return found

    @cached_property
    def _maps(self) -> Maps:
        problem = self.problem
        if self.versions != _versions(problem.inputs):
            return {}
        found = sample_maps(problem.leaves, problem.at, partial(_by_passes, limit=problem.memory_limit))
        problem.settle()
        return found

    def sample(self, name: str) -> Sequence[Tensor] | None:
        """The matrices of an output's maps at one point, by passes; None where it has none of them."""
        return _matrices(self._maps, name, self.problem.leaves)


@dataclass(frozen=True, eq=False)
class LargePlan:
    """A plan for each output; complex numbers on the way, say, are met pass by pass.

    Attributes:
        problem: with differentiable outputs and real tensors at both ends.
        mode: "auto", "forward" or "reverse".
        work: the index arrays of an earlier call for the same program at the same shapes.
    """

    problem: Problem
    mode: str
    work: Workspace | None = None

    @cached_property
    def graphs(self) -> Mapping[str, GraphPlan]:
        """The plans by output."""
        problem = self.problem
        leaves, limit, hooked = list(problem.leaves.values()), problem.memory_limit, problem.evaluation.hooked
        held, known, elsewhere = problem.weighed, problem.evaluation.known, self._elsewhere
        return {
            name: plan(
                y,
                leaves,
                self.mode,
                limit,
                hooked,
                held,
                partial(problem.below, name),
                partial(elsewhere.others, name, y) if problem.decided else None,
                known and (known, name),
                partial(elsewhere.sample, name),
            )
            for name, y in problem.differentiable.items()
        }

    @cached_property
    def _elsewhere(self) -> Elsewhere:
        return Elsewhere(self.problem, _versions(self.problem.inputs))

    @property
    def outputs(self) -> dict[str, OutputPlan]:
        """What is planned for each output, as it is reported."""
        found = {}
        for name, planned in self.graphs.items():
            try:
                found[name] = planned.report
            except UnsupportedError:
                found |= SmallPlan(self.problem, self.mode, self._alone(name)).outputs
        return found

    def maps(self) -> Maps:
        """The maps alone."""
        return {key: each for name in self.graphs for key, each in self._derive(name)[0].items()}

    def derive(self, tell: Tell | None = None) -> Derivatives:
        """The maps, one output after the other; `tell` is told how far it is."""
        if self.problem.decided:
            _ = self._elsewhere.evaluations  # kinds are asked for anyway, before it runs at the point for the last time
        parts = [self._derive(name, tell) for name in self.graphs]
        maps = {key: each for found, _, _ in parts for key, each in found.items()}
        plans = [
            done if isinstance(done, Plan) else _done(planned.report, done)
            for planned, (_, done, _) in zip(self.graphs.values(), parts, strict=True)
        ]
        worst = max(plans, key=lambda plan: plan.peak_bytes)  # the costliest tells the reason
        plan = replace(worst, passes=sum([plan.passes for plan in plans]))
        return Derivatives(maps, plan, tuple([notice for _, _, notices in parts for notice in notices]))

    def _alone(self, name: str) -> Named:
        return {name: self.problem.differentiable[name]}

    def _derive(self, name: str, tell: Tell | None = None) -> tuple[Maps, Plan | Way, tuple[Notice, ...]]:
        """The maps of one output, how they were computed, and what was done otherwise than planned."""
        problem = self.problem
        try:
            computed = compute(self.graphs[name], self.work, tell)
        except UnsupportedError as error:
            small = SmallPlan(problem, self.mode, self._alone(name))
            notice = Notice("fallback", f"∂{name} was computed pass by pass: {error}")
            return small.maps(), small.plan, (notice,)
        maps = {(name, x): each for x, each in zip(problem.leaves, computed.maps, strict=True)}
        return maps, computed.way, tuple([Notice("fallback", note) for note in computed.notes])

    def repeat(self, course: Course | None) -> Repeat | None:
        """The same maps at other points, by the course that the evaluation took, or of a Python function.

        None where each point is looked at anew.
        """
        problem, outputs = self.problem, self.problem.evaluation.outputs
        if self.work is None or is_decided(problem.evaluation) or problem.evaluation.hooked or problem.tracked:
            return None
        if outputs.keys() != problem.differentiable.keys() or (course is None and not all(y.grad_fn for y in outputs.values())):
            return None
        limit = float("inf") if problem.memory_limit is None else problem.memory_limit
        work = self.work if self.work.limit == limit else replace(self.work, limit=limit)
        chosen = []
        for name, planned in self.graphs.items():
            key, graph = work.key(*planned.key), planned.graph
            way = work.structure(key, partial(getattr, planned, "chosen"))
            pairs, form = [(name, x) for x in problem.leaves], _form(graph) if course is None else ()
            chosen.append(_Chosen(name, pairs, graph.like, way, key, _straight(graph, way, limit), form))
        custom = problem.is_own and bool(problem.custom)
        return Repeat(course, problem.memory_limit, problem.evaluation.wrt, chosen, work, custom)


class _Chosen(NamedTuple):
    """How the maps of one output are made.

    Attributes:
        name: the output's.
        pairs: its name with that of each input.
        like: as `Graph` has it.
        way: that was chosen.
        key: of its plan.
        manner: of passes that torch's own engine takes all at once; None of any other way.
        form: of a Python function's output, as `_form` tells.
    """

    name: str
    pairs: Sequence[tuple[str, str]]
    like: Tensor
    way: Way
    key: int | None
    manner: Manner | None
    form: tuple[Hashable, ...]


def _form(graph: Graph) -> tuple[Hashable, ...]:
    """All of an output that must be the same for it to be derived in the same way: what it is, and what it was made by.

    Names are enough: those of `torch.autograd.Function`s, of which nothing is trusted, end otherwise than torch's own.
    """
    y = graph.output
    return (y.shape, y.dtype, y.device, *[x.device for x in graph.inputs], *graph.form)


def _straight(graph: Graph, way: Way, limit: float) -> Manner | None:
    """The manner of passes that torch's own engine takes all at once; None of any other way."""
    size = graph.m * sum([x.numel() * x.element_size() for x in graph.inputs])
    if (way.strategy, way.mode) != ("dense", "reverse") or None in graph.leaves or size > min(limit, SURE_TO_FIT):
        return None
    manner = manner_of(graph, min(BATCH_BYTES, limit - size))
    return manner if manner.is_straight(graph.m) else None


@dataclass(frozen=True, eq=False)
class Repeat:
    """A question for maps whose answers at other points take the same passes: nothing else is done.

    Attributes:
        course: the steps of a text; None of a Python function, which may do something else each time.
        memory_limit: of the question, in bytes.
        wrt: the names of the inputs to differentiate.
        chosen: what is done for each output.
        work: with the index arrays that were made.
        custom: there are `torch.autograd.Function`s of the user's own on the way: nobody knows what they do elsewhere.
    """

    course: Course | None
    memory_limit: int | None
    wrt: tuple[str, ...]
    chosen: Sequence[_Chosen]
    work: Workspace
    custom: bool

    @cached_property
    def is_open(self) -> bool:
        """Whether a Python function's outputs have graphs that lead to other leaves than its inputs, too."""
        return any(None in each.form for each in self.chosen)

    def maps(self, inputs: Named) -> Maps | None:
        """The maps of a text at a point; None where it is no such point, so that the ordinary way tells what is there."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                course = self.course
                values = None if course is None else course.run(inputs, self.memory_limit)
                if course is None or values is None:
                    return None
                outputs = {name: values[slot] for name, slot in course.outputs.items()}
                leaves = tuple([values[slot] for slot in course.leaves])
                told = partial(self._sample, course, inputs, leaves, _versions(inputs))
                return self._maps(outputs, leaves, course.known.weighed, told)
        except Exception:  # the ordinary way explains it
            return None

    def maps_of(self, problem: Problem) -> Maps | None:
        """The maps of a Python function that has run at a point; None where it did something else there, or they fail."""
        evaluation = problem.evaluation
        if evaluation.read or evaluation.hooked or [each.name for each in self.chosen] != list(evaluation.outputs):
            return None
        elsewhere = Elsewhere(problem, _versions(problem.inputs))
        try:
            with warnings.catch_warnings() if self.custom else nullcontext():
                if self.custom:  # torch complains of what it takes one by one; what a backward says is the user's
                    warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                leaves = tuple(problem.leaves.values())
                return self._maps(evaluation.outputs, leaves, evaluation.weighed, elsewhere.sample, elsewhere)
        except Exception:  # the ordinary way explains it
            return None

    def _maps(
        self,
        outputs: Named,
        leaves: tuple[Tensor, ...],
        weighed: bool,
        told: Callable[[str], Sequence[Tensor] | None],
        there: Elsewhere | None = None,
    ) -> Maps | None:
        """The maps; None where the graphs of a Python function, which is `there`, are not those that there were."""
        found = dict[tuple[str, str], LinearMap]()
        for name, pairs, like, way, key, manner, form in self.chosen:
            y, below = outputs[name], partial(there.problem.below, name) if there else None
            elsewhere = partial(there.others, name, y) if there and self.custom else None
            graph = Graph(y, leaves, like, weighed=weighed, elsewhere=elsewhere, below=below, sample=partial(told, name))
            before = there.problem.before if there else None
            agreed = before.agreed.setdefault(name, set()) if before else None
            straight = manner is not None and (not manner.doubtful or (agreed is not None and manner.light in agreed))
            if there and not (before and straight) and _form(graph) != form:
                return None
            if straight and manner:
                maps = pulled_maps(graph, rows_at_once(graph, manner.light), self.work.limit)
            else:
                maps = _run(graph, way, self.work, key, agreed=agreed)
            found.update(zip(pairs, maps, strict=True))
        return found

    def _sample(
        self, course: Course, inputs: Named, leaves: Sequence[Tensor], versions: Versions, name: str
    ) -> Sequence[Tensor] | None:
        """The matrices of an output's maps at another point; None where inputs were written to since."""
        if versions != _versions(inputs):
            return None

        def at(place: Named) -> _Point:
            there = course.run({**inputs, **place}, self.memory_limit)
            assert there is not None, "values decide what runs"
            outputs = {name: there[slot] for name, slot in course.outputs.items()}
            return _Point(outputs, dict(zip(self.wrt, [there[slot] for slot in course.leaves], strict=True)))

        maps = sample_maps(dict(zip(self.wrt, leaves, strict=True)), at, partial(_by_passes, limit=self.memory_limit))
        return _matrices(maps, name, self.wrt)


class _Point(NamedTuple):
    """Outputs at a point, and the leaves that they come from."""

    outputs: Named
    leaves: Named


Versions = Sequence["int | None"]


def _versions(inputs: Named) -> Versions:
    """How often each input was written to: what is asked later on, after another time, would be told of another function."""
    return [None if x.is_inference() else x._version for x in inputs.values()]


def _by_passes(outputs: Named, leaves: Named, limit: int | None) -> Maps:
    """The maps of outputs to leaves, in `limit` bytes, without their kinds."""
    room = BATCH_BYTES if limit is None else min(BATCH_BYTES, limit)
    pulled = {name: by_rows(read_graph(y, list(leaves.values())), room) for name, y in outputs.items()}
    return {
        (name, x): DenseMap(tuple(outputs[name].shape), tuple(leaf.shape), matrix)
        for name, matrices in pulled.items()
        for (x, leaf), matrix in zip(leaves.items(), matrices, strict=True)
    }


def _matrices(maps: Maps, name: str, inputs: Iterable[str]) -> Sequence[Tensor] | None:
    """Those of an output's maps; None where it has none of them."""
    found = [maps.get((name, x)) for x in inputs]
    return [each.matrix for each in found if isinstance(each, DenseMap)] if all(found) else None


def _done(planned: OutputPlan, way: Way) -> Plan:
    """The report's plan: what was done in the end, with the planned figures of that way."""
    figures = next((w for w in planned.ways if (w.strategy, w.mode) == (way.strategy, way.mode)), planned.ways[0])
    reason = planned.reason
    first = planned.ways[0]
    if way.strategy == "matrix_free" != first.strategy:
        reason = f"{reason}; there was not enough memory for that: only products with it are computed"
    elif (way.strategy, way.mode) != (first.strategy, first.mode):
        reason = f"{reason}; that was given up on the way for {way.strategy} ({way.mode})"
    return Plan(way.mode, way.passes, figures.peak_bytes, reason, way.strategy)
