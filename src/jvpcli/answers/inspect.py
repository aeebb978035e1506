"""The order of the stages: Request → Program → Evaluation → linear maps → Report.  Who comes after whom, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.answers.cotangents import read_cotangents, read_tangents
from jvpcli.answers.failures import backward_failures
from jvpcli.answers.problem import differentiable_outputs, evaluator, rerunner, run, stacked, text_of
from jvpcli.answers.products import Products, coarsest, multiply
from jvpcli.answers.warnings import notices, torch_warnings
from jvpcli.errors import InternalError
from jvpcli.jacobian import figures
from jvpcli.jacobian.compute import Derivatives, derive, is_large, products_alone
from jvpcli.jacobian.contraction import contract
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.failures import is_out_of_memory
from jvpcli.report import InspectReport, Notice
from jvpcli.request import Request

if TYPE_CHECKING:
    import numpy as np

    from jvpcli.report.plan import PlanReport


@dataclass(frozen=True)
class Inspection:
    """Everything that one inspection computed, as tensors; `report` is the same as plain data."""

    evaluation: Evaluation
    derivatives: Derivatives
    products: Products
    report: InspectReport


def inspect(request: Request) -> InspectReport:
    """The answer to a request.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return investigate(request).report


def investigate(request: Request) -> Inspection:
    """The answer to a request with the tensors that it was made from."""
    evaluation = run(request)
    with backward_failures(evaluation, request.expression):
        return _investigated(request, evaluation)


def _investigated(request: Request, evaluation: Evaluation) -> Inspection:
    leaves = {name: evaluation.inputs[name] for name in evaluation.wrt}
    outputs = differentiable_outputs(evaluation)
    cotangents = read_cotangents(request, evaluation)
    tangents = read_tangents(request, evaluation)
    rerun = rerunner(request, evaluation)
    eps = coarsest(evaluation)

    def products_of(derivatives: Derivatives) -> Products:
        return multiply(derivatives, outputs, leaves, cotangents, tangents, rerun, eps)

    derivatives, products = _differentiated(request, evaluation, outputs, leaves, products_of)
    if request.save is not None:
        _save(derivatives, leaves, request)
    spectrum, errors = _spectrum(derivatives) if request.spectrum else (None, None)
    report = InspectReport(
        expression=text_of(request),
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in cotangents.items()},
        jacobian={
            y: {
                x: figures.jacobian(derivatives.maps[y, x], leaf.dtype, request.jacobian, request.tell)
                for x, leaf in leaves.items()
            }
            for y in outputs
        },
        vjp={name: figures.value(gradient) for name, gradient in products.vjp.items()},
        contraction={
            y: {x: contract(y, x, derivatives.maps[y, x], cotangents[y].value) for x in leaves}
            for y in outputs
            if y in cotangents
        },
        comparison=products.comparison,
        plan=derivatives.plan,
        warnings=(
            *notices(evaluation, derivatives, products, rerun, evaluator(request, evaluation)),
            *torch_warnings(evaluation),
        ),
        jvp=None if products.jvp is None else {name: figures.value(y) for name, y in products.jvp.items()},
        spectrum=spectrum,
        spectrum_error=errors or None,
        tangent=None if not tangents else {name: figures.cotangent(t.source, t.value) for name, t in tangents.items()},
    )
    return Inspection(evaluation, derivatives, products, report)


def _differentiated(
    request: Request,
    evaluation: Evaluation,
    outputs: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    products_of: Callable[[Derivatives], Products],
) -> tuple[Derivatives, Products]:
    """The Jacobians as asked for, and their products; the products alone where there turns out to be no memory for more."""
    if request.jacobian == "none":
        alone = products_alone(outputs, leaves, request.memory_limit)
        return alone, products_of(alone)
    stack, rerun = stacked(evaluation), rerunner(request, evaluation)
    try:
        derivatives = derive(outputs, leaves, rerun, request.mode, request.memory_limit, stack, request.tell, evaluation.hooked)
        try:
            return derivatives, products_of(derivatives)
        except InternalError:
            if stack is None or is_large(outputs, leaves):
                raise
            # many points at once may take another path through torch, with other derivatives: one at a time, then
            derivatives = derive(outputs, leaves, rerun, request.mode, request.memory_limit)
            return derivatives, products_of(derivatives)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    note = Notice("fallback", "there was not enough memory for the Jacobian: only products with it were computed")
    alone = products_alone(outputs, leaves, request.memory_limit)
    alone = replace(alone, notices=(note,), plan=replace(alone.plan, reason=note.message))
    return alone, products_of(alone)


def explain_plan(request: Request) -> PlanReport:
    """How the request's Jacobians would be computed: the expression is evaluated, no derivative is taken."""
    from jvpcli.jacobian.compute import foresee
    from jvpcli.report.plan import PlanReport

    evaluation = run(request)
    leaves = {name: evaluation.inputs[name] for name in evaluation.wrt}
    plans = foresee(differentiable_outputs(evaluation), leaves, request.mode, request.memory_limit, evaluation.hooked)
    return PlanReport(text_of(request), request.memory_limit, plans)


def _spectrum(derivatives: Derivatives) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
    """The leading singular values of every Jacobian, and the error bounds of those that are not exact, by output and input."""
    from jvpcli.jacobian.spectrum import singular_values

    values: dict[str, dict[str, np.ndarray]] = {}
    errors: dict[str, dict[str, np.ndarray]] = {}
    for (y, x), linear_map in derivatives.maps.items():
        found = singular_values(linear_map)
        values.setdefault(y, {})[x] = found.values.numpy()
        if found.errors.any():
            errors.setdefault(y, {})[x] = found.errors.numpy()
    return values, errors


def _save(derivatives: Derivatives, leaves: Mapping[str, Tensor], request: Request) -> None:
    from jvpcli.jacobian.files import save

    assert request.save is not None
    form = request.jacobian if request.jacobian in ("dense", "sparse") else "auto"
    save(derivatives.maps, request.save, {name: x.dtype for name, x in leaves.items()}, form)
