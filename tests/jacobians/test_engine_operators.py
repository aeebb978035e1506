"""Every operator of torch's own database: patterns hold every dependency, values are the dense oracle's."""

from __future__ import annotations

import warnings

import pytest
import torch
from engine_cases import compute, oracle
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db

from jvpcli.jacobians.terms import UnsupportedError

SAMPLES = 5
"""Samples of each operator."""

LARGEST = 300
"""Entries of inputs or outputs together."""

OPERATORS = [op for op in op_db if op.supports_autograd and torch.float64 in op.supported_dtypes("cpu")]


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors(item)]
    return []


def evaluations(op):
    """Outputs with their leaves, of the first samples that are small."""
    count = 0
    for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True):
        leaves = [t for t in tensors([sample.input, *sample.args, *sample.kwargs.values()]) if t.requires_grad]
        leaves = [t for t in leaves if t.is_leaf and t.layout == torch.strided and not t.is_complex()]
        if not leaves or sum(t.numel() for t in leaves) > LARGEST:
            continue
        try:
            outputs = tensors(op.get_op()(sample.input, *sample.args, **sample.kwargs))
        except (RuntimeError, ValueError, NotImplementedError):
            continue
        for output in outputs:
            if output.requires_grad and output.layout == torch.strided and output.numel() <= LARGEST:
                yield output, leaves
        count += 1
        if count == SAMPLES:
            return


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: f"{op.name}-{op.variant_test_name}")
def test_operator(op):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (output, leaves) in enumerate(evaluations(op)):
            if output.is_complex():
                continue
            try:
                expected = oracle(output, leaves)
            except (RuntimeError, NotImplementedError):
                continue  # torch cannot differentiate this use
            mode = ("reverse", "auto", "reverse", "forward")[number % 4]
            try:
                maps = compute(output, leaves, mode=mode).maps
            except UnsupportedError:
                continue  # complex tensors on the way
            for found, matrix in zip(maps, expected, strict=True):
                finite = matrix.isfinite()
                dense = found.to_dense().reshape(matrix.shape)
                tolerance = 1e-5 if any(t.dtype != torch.float64 for t in leaves) else 1e-8
                torch.testing.assert_close(dense[finite], matrix[finite], rtol=tolerance, atol=tolerance)
                if hasattr(found, "entries"):
                    rows, cols, values = found.entries()
                    pattern = torch.zeros(matrix.shape, dtype=torch.bool)
                    pattern[rows, cols] = True
                    missed = (matrix.abs() > tolerance) & ~pattern
                    assert not missed.any(), "a dependency was missed"
                    torch.testing.assert_close(
                        matrix[rows, cols], values.to(matrix.dtype), rtol=1e-5, atol=1e-5, equal_nan=True
                    )
