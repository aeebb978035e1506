"""The answer of `jvp inspect`: problem → cotangents → Jacobians and products → contraction, warnings → report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jvpcli.answers.products import Products, differentiate, differentiating, multiply, plan_of
from jvpcli.answers.question import (
    as_problem,
    backward_failures,
    pose,
    refuse_cut,
    refuse_independent,
    refuse_stored,
    text_of,
)
from jvpcli.answers.stages import Stages, at_once, in_turn
from jvpcli.answers.warnings import notices
from jvpcli.answers.weights import Weight, read_cotangents, read_tangents, refused
from jvpcli.jacobians import figures
from jvpcli.jacobians.contraction import contract
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.small import Derivatives
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Problem
from jvpcli.report import Blocks, InspectReport, Notice, Saved, Value
from jvpcli.request import BlockSizes, Request, Tell, is_store

if TYPE_CHECKING:
    import numpy as np

    from jvpcli.report import PlanReport


@dataclass(frozen=True)
class Live:
    """The tensors of an inspection with a graph to the caller's (`create_graph`)."""

    outputs: Mapping[str, Tensor]
    vjp: Mapping[str, Tensor]
    jvp: Mapping[str, Tensor]
    maps: Mapping[tuple[str, str], LinearMap]


@dataclass(frozen=True)
class Inspection:
    """Everything that one inspection computed, as tensors; `report` is all of it as plain data."""

    problem: Problem
    cotangents: Mapping[str, Weight]
    derivatives: Derivatives
    products: Products
    report: InspectReport
    live: Live | None = None

    @property
    def evaluation(self) -> Evaluation:
        """The function at the point."""
        return self.problem.evaluation


def inspect(request: Request) -> InspectReport:
    """The answer to a request.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return investigate(request).report


def investigate(request: Request) -> Inspection:
    """The answer to a request with the tensors that it was made from."""
    return at_once(stages(request))


def inspect_together(requests: Sequence[Request], seconds: float) -> list[InspectReport | None]:
    """The answers to several requests, each computed by itself, stage after stage; None of one that fails, or is late."""
    inspections = in_turn([stages(request) for request in requests], seconds)
    return [None if found is None else found.report for found in inspections]


def stages(request: Request) -> Stages[Inspection]:
    """The inspection: the values, the maps, the products, and what is told of them.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    if request.cluster is not None or request.resume or is_store(request.save):
        from jvpcli.cluster import check_saving  # loaded only where it is asked for

        check_saving(request)
    if isinstance(request.expression, (str, Problem)) and not request.imports:
        problem = as_problem(request)
        yield
        problem, losses = pose(request, problem), None
    else:
        problem, losses = _watched(request)
    yield
    with backward_failures(problem):
        refuse_cut(problem)
        refuse_stored(problem)
        if request.strict:
            refuse_independent(problem)
        if request.blocks is not None:
            _check_blocks(problem, request.blocks)
        yield
        cotangents = read_cotangents(request, problem.evaluation)
        tangents = read_tangents(request, problem.evaluation)
        if is_store(request.save):
            derivatives, products, saved = _stored(problem, request, cotangents, tangents)
        else:
            derivatives, products = yield from differentiating(problem, request, cotangents, tangents)
            saved = None
            if request.save is not None:
                _save(derivatives, problem, request)
        yield
        warned = (*notices(problem, derivatives, products, losses), *_without_graph(request))
        yield
        report = _report(problem, request, cotangents, tangents, derivatives, products, warned, saved)
        problem.settle()
        live = _live(problem, request, cotangents, tangents, derivatives) if request.create_graph else None
    return Inspection(problem, cotangents, derivatives, products, report, live)


def _watched(request: Request) -> tuple[Problem, Sequence[str] | None]:
    """The problem of code of the user's own, evaluated; and the kinds of what was lost in it, seen in the same run."""
    from jvpcli.gradcheck.losses import Watch  # expressions tell of their losses by their steps

    watch = Watch()
    with watch:
        problem = pose(request)
    return problem, [loss.kind for loss in watch.losses]


def _live(
    problem: Problem,
    request: Request,
    cotangents: Mapping[str, Weight],
    tangents: Mapping[str, Weight],
    derivatives: Derivatives,
) -> Live:
    from jvpcli.answers.differentiable import run_again  # loaded only where it is asked for

    again = run_again(problem)
    return Live(
        again.outputs,
        again.vjp(cotangents, request.is_grads_batched),
        again.jvp(tangents) if tangents else {},
        {} if request.jacobian == "none" else again.maps(derivatives.maps),
    )


def explain_plan(request: Request) -> PlanReport:
    """How the request's Jacobians would be computed: the expression is evaluated, no derivative is taken."""
    from jvpcli.report import PlanReport

    problem = pose(request)
    refuse_cut(problem)
    return PlanReport(text_of(request), request.memory_limit, plan_of(problem, request).outputs)


def _report(
    problem: Problem,
    request: Request,
    cotangents: Mapping[str, Weight],
    tangents: Mapping[str, Weight],
    derivatives: Derivatives,
    products: Products,
    warned: tuple[Notice, ...],
    saved: Saved | None,
) -> InspectReport:
    evaluation, outputs, leaves, maps = problem.evaluation, problem.differentiable, problem.leaves, derivatives.maps
    form, tell = request.jacobian, request.tell
    spectrum, errors = _spectrum(derivatives) if request.spectrum else (None, None)
    batched = request.is_grads_batched
    return InspectReport(
        expression=text_of(request),
        inputs={name: figures.input_value(x, name in leaves) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in cotangents.items()},
        jacobian={
            y: {x: figures.jacobian(maps[y, x], leaf.dtype, form, tell) for x, leaf in leaves.items()}
            for y in outputs
        },
        vjp={name: figures.value(gradient) for name, gradient in products.vjp.items()},
        contraction={
            y: {x: contract(y, x, maps[y, x], cotangents[y].value, batched) for x in leaves}
            for y in outputs
            if y in cotangents
        },
        comparison=products.comparison,
        plan=derivatives.plan,
        warnings=warned,
        jvp=None if products.jvp is None else {name: figures.value(y) for name, y in products.jvp.items()},
        spectrum=spectrum,
        spectrum_error=errors or None,
        blocks=None if request.blocks is None else _blocks(derivatives, request.blocks, tell),
        tangent=None if not tangents else {name: figures.cotangent(t.source, t.value) for name, t in tangents.items()},
        is_grads_batched=batched or None,
        refusal=refused(problem, cotangents),
        calls=request.calls,
        passed_over=request.passed_over,
        parts=_parts(request, products),
        saved=saved,
    )


def _parts(request: Request, products: Products) -> dict[str, dict[str, Value]] | None:
    """What each output adds to the gradients, where calls of backward add up."""
    explained = [call.source for call in request.calls or () if call.explained]
    if len({y for y, _ in products.contributions}) < 2 or not any(".backward(" in source for source in explained):
        return None
    found: dict[str, dict[str, Value]] = {}
    for (y, x), part in products.contributions.items():
        found.setdefault(y, {})[x] = figures.value(torch.zeros_like(products.vjp[x]) if part is None else part)
    return found


def _without_graph(request: Request) -> Iterator[Notice]:
    """That an input was computed from other tensors, to which the result keeps no graph."""
    computed = [name for name, x in request.inputs.items() if isinstance(x, Tensor) and x.grad_fn is not None]
    if computed and not request.create_graph:
        yield Notice(
            "graph_break",
            f"{', '.join(computed)}: computed from other tensors, to which this result keeps no graph; with create_graph=True "
            "it can be differentiated further",
            "no_graph",
        )


def _spectrum(derivatives: Derivatives) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
    """The leading singular values of every Jacobian, and the error bounds of those that are not exact, by output and input."""
    from jvpcli.jacobians.spectrum import singular_values

    values: dict[str, dict[str, np.ndarray]] = {}
    errors: dict[str, dict[str, np.ndarray]] = {}
    for (y, x), linear_map in derivatives.maps.items():
        found = singular_values(linear_map)
        values.setdefault(y, {})[x] = found.values.numpy()
        if found.errors.any():
            errors.setdefault(y, {})[x] = found.errors.numpy()
    return values, errors


def _check_blocks(problem: Problem, sizes: BlockSizes) -> None:
    from jvpcli.jacobians.blocks import check_blocks

    for y in problem.differentiable.values():
        for x in problem.leaves.values():
            check_blocks(tuple(y.shape), tuple(x.shape), sizes)


def _blocks(derivatives: Derivatives, sizes: BlockSizes, tell: Tell | None) -> dict[str, dict[str, Blocks]]:
    """The norms of every Jacobian's blocks, by output and input."""
    from jvpcli.jacobians.blocks import block_norms, grid

    found: dict[str, dict[str, Blocks]] = {}
    for (y, x), each in derivatives.maps.items():
        cut = [part[: len(grid(shape, part))] for shape, part in zip(each.shapes, sizes, strict=True)]
        found.setdefault(y, {})[x] = Blocks(cut[0], cut[1], block_norms(each, sizes, tell).numpy())
    return found


def _stored(
    problem: Problem, request: Request, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight]
) -> tuple[Derivatives, Products, Saved]:
    """The Jacobians by way of a store, whose blocks give the products that are compared with autograd's.

    Those of few entries are told as ever, by maps that are computed as a whole.
    """
    from jvpcli.answers import storing

    written = storing.write(problem, request, cotangents, tangents)
    outputs, leaves = problem.differentiable.values(), problem.leaves.values()
    if all(y.numel() * x.numel() <= figures.LARGEST_DENSE for y in outputs for x in leaves):
        derivatives, _ = differentiate(problem, request, cotangents, tangents)
    else:
        derivatives = Derivatives(written.maps, storing.plan_of_cuts(written))
    by_blocks = replace(derivatives, maps=written.maps)
    products = multiply(by_blocks, problem, cotangents, tangents, request.is_grads_batched)
    return derivatives, products, storing.saved(problem, request, written)


def _save(derivatives: Derivatives, problem: Problem, request: Request) -> None:
    from jvpcli.jacobians.files import save

    assert request.save is not None
    form = request.jacobian if request.jacobian in ("dense", "sparse") else "auto"
    save(derivatives.maps, request.save, {name: x.dtype for name, x in problem.leaves.items()}, form)
