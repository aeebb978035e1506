"""The kind of a pattern, against what the matrix itself shows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jvpcli.jacobian.structure import block_count, classify_values

CASES = [
    (torch.zeros(3, 2), "zero"),
    (torch.zeros(0, 2), "zero"),
    (3 * torch.eye(4), "identity"),
    (torch.tensor([[2.0]]), "identity"),
    (torch.diag(torch.tensor([1.0, 2.0, 3.0])), "diagonal"),
    (torch.diag(torch.tensor([1.0, 0.0, 1.0])), "diagonal"),
    (torch.eye(4)[[2, 0, 1, 3]], "selection"),
    (torch.eye(4)[[2, 2]], "selection"),
    (torch.eye(4)[:2], "selection"),
    (torch.diag(torch.ones(8)) + torch.diag(torch.ones(7), 1), "banded"),
    (torch.block_diag(*[torch.rand(2, 3) + 1] * 3), "block_diagonal"),
    (torch.block_diag(*[torch.rand(3, 3) + 1] * 2), "block_diagonal"),
    (torch.tensor([[1.0, 0, 0, 1], [0, 0, 2, 0], [1, 0, 0, 0]]), "sparse"),
    (torch.rand(3, 4) + 1, "dense"),
    (torch.rand(1, 4) + 1, "dense"),
    (torch.tril(torch.rand(6, 6) + 1), "dense"),
]


@pytest.mark.parametrize(("matrix", "kind"), CASES, ids=[f"{k}-{tuple(m.shape)}" for m, k in CASES])
def test_kind_of_one_matrix(matrix, kind):
    assert classify_values([matrix]) == kind


def test_an_accident_at_the_point_is_seen_through_nearby():
    at, near = 2 * torch.eye(3), torch.diag(torch.tensor([2.0, 2.1, 2.0]))
    assert classify_values([at]) == "identity"
    assert classify_values([at, near]) == "diagonal"
    assert classify_values([torch.zeros(2, 2), torch.eye(2)]) == "diagonal"


def test_nan_at_the_point_does_not_hide_the_kind():
    at = torch.tensor([[float("inf"), 0.0], [float("nan"), 1.0]])
    assert classify_values([at, torch.diag(torch.tensor([3.0, 1.0]))]) == "diagonal"


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.randoms(use_true_random=False))
def test_block_count_is_the_largest_that_holds_the_pattern(count, height, width, random):
    matrix = torch.block_diag(*[torch.ones(height, width)] * count)
    matrix *= torch.tensor(
        [[random.choice([0.0, 1.0]) for _ in range(matrix.shape[1])] for _ in range(matrix.shape[0])]
    )
    m, n = matrix.shape
    rows, cols = matrix.numpy().nonzero()

    def holds(blocks):
        mask = torch.block_diag(*[torch.ones(m // blocks, n // blocks)] * blocks)
        return bool((matrix * (1 - mask) == 0).all())

    best = max(b for b in range(1, min(m, n) + 1) if m % b == 0 and n % b == 0 and holds(b))
    assert block_count(rows, cols, m, n) == best
