"""Completeness: torch's own operator database, written as expressions and compared with the operators themselves."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from operator_samples import (
    CANNOT_BE_WRITTEN,
    NOT_COMPARABLE,
    SEED,
    CannotBeWrittenError,
    WrittenSample,
    differentiable_operators,
    full_name,
    small_samples,
    write,
)
from torch import Tensor

import jvpcli
from jvpcli.errors import EvaluationError, NotDifferentiableError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.outputs import flatten
from jvpcli.language.parse import parse

pytest.importorskip("expecttest", reason="torch's operator database needs expecttest")

SAMPLES = int(os.environ.get("JVP_OP_DB_SAMPLES", "1"))
"""Samples of each operator; 100 takes all small ones."""

MAX_ROWS = 8
"""Outputs with more entries are compared through random combinations of them."""


@pytest.fixture(scope="module")
def results() -> dict[str, str]:
    """Operator to "match", the reason why it can't be written, or how it differs."""
    operators = differentiable_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {full_name(operator): outcome(operator) for operator in operators}
    return found


def outcome(operator: Any) -> str:
    """Compare an operator's samples; those that hold a Python object without text are left out."""
    reasons, compared = [], 0
    for sample in small_samples(operator, 100 if SAMPLES > 10 else 12):
        if compared == SAMPLES:
            break
        try:
            written = write(operator, sample)
        except CannotBeWrittenError as error:
            reasons.append(f"cannot: {error}")
            continue
        try:
            compare(written)
        except Exception as error:
            return f"differs: {written.expression}: {type(error).__name__}: {error}"
        compared += 1
    return "match" if compared else (reasons or ["cannot: no sample runs on this machine"])[0]


def compare(sample: WrittenSample) -> None:
    """What `jvpcli.inspect` says of the expression is what the operator gives, by torch.autograd.functional.jacobian."""
    if not sample.wrt:  # a random function of numbers
        with pytest.raises(NotDifferentiableError):
            jvpcli.inspect(sample.expression, sample.inputs, seed=SEED)
        return
    originals = [sample.inputs[name] for name in sample.wrt]
    try:
        result = jvpcli.inspect(sample.expression, sample.inputs, wrt=sample.wrt, seed=SEED)
    except EvaluationError as error:
        if "ill-defined" not in str(error.torch_message):  # eigenvectors alone, which torch refuses to differentiate
            raise
        compare_through_what_is_unique(sample, originals)
        return
    torch.default_generator.manual_seed(SEED)
    torch.testing.assert_close(
        list(result.outputs.values()), tensors_of(sample.reference(*originals)), equal_nan=True, check_stride=False
    )
    reference = tensors_of(sample.reference(*originals))
    unique = {id(part) for part in tensors_of(sample.differentiable(rejoined(reference)))}
    if not unique >= {id(part) for part in reference}:
        compare_through_what_is_unique(sample, originals)
    for index, (name, value) in enumerate(zip(result.outputs, reference, strict=True)):
        assert value.requires_grad == (name in result.report.jacobian)
        if id(value) not in unique or not value.requires_grad or value.numel() == 0:
            continue
        combine = combination(value.real)
        want = torch.autograd.functional.jacobian(raw(sample, index, combine), tuple(originals))
        parts = want
        if value.is_complex():
            parts = torch.autograd.functional.jacobian(raw(sample, index, combine, torch.imag), tuple(originals))
        for x, expected, imaginary in zip(sample.wrt, want, parts, strict=True):
            rows = result.jacobian[name, x].reshape(value.numel(), *sample.inputs[x].shape)
            got = combine_rows(rows)
            if value.is_complex() and not expected.is_complex():  # of a real input: ∂Re y/∂x + i ∂Im y/∂x
                torch.testing.assert_close(got.imag, imaginary, equal_nan=True)
                got = got.real
            if ((got == 0) & expected.isnan()).any():  # 0·∞ of the oracle's one-hot passes: a zero wherever it is none
                elsewhere = tuple(x.detach().abs() + 0.37 for x in originals)
                there = torch.autograd.functional.jacobian(raw(sample, index, combine), elsewhere)[sample.wrt.index(x)]
                expected = torch.where((got == 0) & expected.isnan() & (there == 0), 0, expected)
            torch.testing.assert_close(got, expected, equal_nan=True)


def rejoined(outputs: list[Tensor]) -> Any:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def raw(
    sample: WrittenSample, index: int, combine: Callable[[Tensor], Tensor], part: Callable[[Tensor], Tensor] = torch.real
) -> Callable[..., Tensor]:
    """One output of the operator, its real or imaginary part, as a function of the differentiated inputs."""

    def function(*tensors: Tensor) -> Tensor:
        torch.default_generator.manual_seed(SEED)
        return combine(part(tensors_of(sample.reference(*tensors))[index]))

    return function


def combine_rows(rows: Tensor) -> Tensor:
    """What `combination` does to an output, done to the rows of its Jacobian."""
    count = rows.shape[0]
    if count <= MAX_ROWS:
        return rows
    return torch.tensordot(weights_for(count).to(rows.dtype), rows, dims=1)


def compare_through_what_is_unique(sample: WrittenSample, originals: list[Tensor]) -> None:
    """The same for the graph alone, through what the database says is unique (eigenvectors only up to their phase)."""
    program = parse(sample.expression, list(sample.inputs))
    evaluation = evaluate(program, sample.inputs, wrt=sample.wrt, seed=SEED)
    outputs = list(evaluation.outputs.values())
    outputs = tensors_of(sample.differentiable(rejoined(outputs)))
    torch.default_generator.manual_seed(SEED)
    expected = tensors_of(sample.differentiable(sample.reference(*originals)))
    assert [value.requires_grad for value in outputs] == [value.requires_grad for value in expected]
    leaves = tuple(evaluation.inputs[name] for name in sample.wrt)
    for index, value in enumerate(expected):
        if not value.requires_grad or value.numel() == 0:  # the oracle can't stack no rows
            continue
        combine = combination(value)
        got = jacobian_by_loop(combine(outputs[index]), leaves)
        want = torch.autograd.functional.jacobian(picked(sample, index, combine), tuple(originals))
        torch.testing.assert_close(got, list(want), equal_nan=True)


def picked(sample: WrittenSample, index: int, combine: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """One output of the operator as a function of the differentiated inputs (torch.manual_seed would be slow)."""

    def function(*tensors: Tensor) -> Tensor:
        torch.default_generator.manual_seed(SEED)
        return combine(tensors_of(sample.differentiable(sample.reference(*tensors)))[index])

    return function


def tensors_of(value: Any) -> list[Tensor]:
    return [part for part in flatten(value) if isinstance(part, Tensor)]


def combination(output: Tensor) -> Callable[[Tensor], Tensor]:
    """A real vector of few entries that every entry of the output goes into."""
    entries = output.numel() * (2 if output.is_complex() else 1)
    weights = weights_for(entries)

    def combine(value: Tensor) -> Tensor:
        real = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
        flat = real.reshape(-1)
        return flat if entries <= MAX_ROWS else weights.to(flat.dtype) @ flat

    return combine


def weights_for(entries: int) -> Tensor:
    return torch.randn(MAX_ROWS, entries, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def jacobian_by_loop(output: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    """(rows, *input shape) for each leaf, one entry of the output at a time."""
    rows = [torch.autograd.grad(entry, leaves, retain_graph=True, materialize_grads=True) for entry in output.unbind()]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def test_at_least_97_percent_match(results: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    counted = {name: result for name, result in results.items() if name not in NOT_COMPARABLE}
    matching = sum(result == "match" for result in counted.values())
    with capsys.disabled():
        print(f"\n{matching} of {len(counted)} differentiable operators of torch {torch.__version__} match", end=" ")
    assert matching >= 0.97 * len(counted)


def test_none_differs(results: dict[str, str]) -> None:
    assert [f"{name}: {result}" for name, result in results.items() if result.startswith("differs")] == []


def test_those_that_cannot_be_written_are_listed_with_a_reason(results: dict[str, str]) -> None:
    cannot = {name for name, result in results.items() if result.startswith("cannot")}
    assert cannot - set(NOT_COMPARABLE) == set(CANNOT_BE_WRITTEN)
