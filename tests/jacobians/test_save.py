"""Jacobians in files."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import jvpcli
from jvpcli.answers.inspect import inspect
from jvpcli.errors import FileError, UsageError
from jvpcli.request import Request


def jacobian_of(function, *inputs):
    return torch.autograd.functional.jacobian(function, inputs)


def test_one_sparse_jacobian_is_what_scipy_reads(tmp_path):
    path = tmp_path / "j.npz"
    inspect(Request("torch.outer(x, x)", {"x": "torch.arange(1., 61.)"}, save=str(path)))
    matrix = scipy.sparse.load_npz(path)
    x = torch.arange(1.0, 61.0)
    (expected,) = jacobian_of(lambda t: torch.outer(t, t), x)
    np.testing.assert_array_equal(matrix.toarray(), expected.reshape(3600, 60))
    with np.load(path) as file:
        assert (file["shape_out"].tolist(), file["shape_in"].tolist(), file["names"].tolist()) == (
            [60, 60],
            [60],
            ["y", "x"],
        )


def test_several_jacobians_are_told_apart(tmp_path):
    path = tmp_path / "j.npz"
    inspect(Request("x * w", {"x": "1,2", "w": "3"}, save=str(path)))
    with np.load(path) as file:
        assert file["y/x/format"] == b"coo"  # diagonal: its nonzeros alone
        np.testing.assert_array_equal([file["y/x/row"], file["y/x/col"], file["y/x/data"]], [[0, 1], [0, 1], [3, 3]])
        np.testing.assert_array_equal(file["y/w"], [1, 2])


@pytest.mark.parametrize(
    ("expression", "x", "limit"),
    [
        ("torch.outer(x, x)", "1,2,3,4", None),
        ("torch.outer(x, x)", "torch.arange(1., 61.)", None),
        ("torch.softmax(x, 0)", "torch.arange(300.) / 50", None),
        ("torch.linalg.inv(x)", "torch.eye(20) + torch.arange(400.).reshape(20, 20) / 1e3", 200_000),
        ("x.sum()", "3", None),
        ("x[:0]", "1,2", None),
    ],
)
def test_a_dense_array_is_streamed_whatever_the_strategy(tmp_path, expression, x, limit):
    path = tmp_path / "j.npy"
    report = inspect(Request(expression, {"x": x}, save=str(path), memory_limit=limit))
    assert (report.plan.strategy == "matrix_free") == (limit is not None)
    saved = np.load(path, allow_pickle=False)
    full = inspect(Request(expression, {"x": x})).jacobian["y"]["x"]
    assert saved.shape == full.shape
    assert saved.dtype == np.float32
    if full.value is not None:
        np.testing.assert_allclose(saved, full.value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("j.txt", UsageError), ("j.npy", UsageError), ("missing/j.npz", FileError)])
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, name, kind):
    with pytest.raises(kind):
        inspect(Request("x * w", {"x": "1,2", "w": "3"}, save=str(tmp_path / name)))
    assert list(tmp_path.iterdir()) == []


def test_the_leading_singular_values():
    x = torch.arange(1.0, 31.0)
    report = inspect(Request("torch.outer(x, x)", {"x": "torch.arange(1., 31.)"}, spectrum=True))
    (expected,) = jacobian_of(lambda t: torch.outer(t, t), x)
    values = np.linalg.svd(expected.reshape(900, 30).double(), compute_uv=False)
    np.testing.assert_allclose(report.spectrum["y"]["x"], values[:6], rtol=1e-4)


def test_floats_of_eight_bits(tmp_path):
    """Torch computes with none of them, and numpy has none: the numbers that they hold come out in single precision."""
    path, x = tmp_path / "j.npz", torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn)
    (found,) = jvpcli.jacobian(lambda x: x.float() ** 2, x, save=str(path)).values()
    assert found.to_dense().dtype is torch.float8_e4m3fn
    with np.load(path) as file:
        np.testing.assert_array_equal(file["y/x"], np.float32([[1, 0], [0, 4]]), strict=True)
