"""torch's own operator database: which differentiable operators derive to closed forms, and why the rest do not.

By default a part of them; with JVP_OPERATORS=all in the environment every one, which takes some minutes.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pytest

import jvpcli
from jvpcli.errors import JvpError

sys.path.append(str(Path(__file__).parents[1] / "language"))

from operator_samples import (  # the path is known only now
    CANNOT_BE_WRITTEN,
    NOT_COMPARABLE,
    CannotBeWrittenError,
    differentiable_operators,
    full_name,
    small_samples,
    write,
)

COMPLEX = "it is of complex numbers, or goes through them"
RANDOM = "it draws random numbers"
DECOMPOSITION = "no rule is known here for the derivative of its factors"
COARSER = "it rounds to a coarser dtype, so that float64 does not verify it"
TOO_LARGE = "the database's samples have more positions than are written out"
DIFFERS = "the form that is found does not agree with PyTorch's own numbers, so it is not shown"
UNKNOWN = "no index form is known here"
WITHOUT = {
    **dict.fromkeys(
        ("view_as_complex", "view_as_real", "complex", "imag", "polar", "cdouble", "cfloat", "chalf", "stft", "istft",
         "linalg.eig", "linalg.eigvals"), COMPLEX
    ),
    **{f"fft.{kind}fft{axes}": COMPLEX for kind in ("", "h", "r", "i", "ih", "ir") for axes in ("", "2", "n")},
    **dict.fromkeys(
        ("normal", "normal.number_mean", "bernoulli", "nn.functional.rrelu", "nn.functional.fractional_max_pool2d",
         "nn.functional.fractional_max_pool3d"), RANDOM
    ),
    **dict.fromkeys(
        ("lu", "lu_unpack", "lu_solve", "linalg.lu", "linalg.lu_factor", "linalg.lu_factor_ex", "linalg.lu_solve", "qr",
         "linalg.qr", "ormqr", "linalg.householder_product", "svd", "linalg.svd", "svd_lowrank", "pca_lowrank"), DECOMPOSITION
    ),
    **dict.fromkeys(("bfloat16", "float", "half"), COARSER),
    **dict.fromkeys(
        ("nn.functional.conv_transpose2d", "nn.functional.conv_transpose3d", "nn.functional.interpolate.trilinear",
         "_upsample_bilinear2d_aa", "nn.functional.avg_pool2d", "slice_scatter", "grid_sampler_2d"), TOO_LARGE
    ),
    "zero_": "it changes a tensor in place",
    **dict.fromkeys(
        ("nn.functional.grid_sample", "grid_sampler_3d", "nn.functional.embedding_bag", "as_strided_scatter",
         "nn.functional.max_unpool3d"), DIFFERS
    ),
    **dict.fromkeys(
        ("frexp", "nextafter", "nn.functional.multilabel_margin_loss", "nn.functional.multi_head_attention_forward",
         "nn.functional.ctc_loss", "masked.median", "masked.logaddexp"), UNKNOWN
    ),
}  # fmt: skip
"""The operators without a closed form, each with its reason."""

OPERATORS = {full_name(one): one for one in differentiable_operators() if full_name(one) not in NOT_COMPARABLE}
EVERY = 1 if os.environ.get("JVP_OPERATORS") == "all" else 15
SAMPLES, ELEMENTS = 3, 300


def derives(operator) -> bool:
    """Whether one of the operator's samples has verified code for each of its inputs."""
    for sample in small_samples(operator, SAMPLES, ELEMENTS):
        try:
            written = write(operator, sample)
        except CannotBeWrittenError:
            continue
        if not written.wrt or not all(written.inputs[x].is_floating_point() for x in written.wrt):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = jvpcli.derive(written.expression, dict(written.inputs), wrt=written.wrt)
        except JvpError:
            continue
        if all(product.torch for product in result.vjp.values()):
            return True
    return False


def test_most_operators_have_closed_forms():
    without = {*WITHOUT, *CANNOT_BE_WRITTEN} & set(OPERATORS)
    assert set(WITHOUT) <= set(OPERATORS)
    assert len(without) <= 0.2 * len(OPERATORS)
    text = " ".join((Path(__file__).parents[2] / "docs" / "derive.md").read_text().split())
    derived = len(OPERATORS) - len(without)
    told = f"Of the {len(OPERATORS)} differentiable operators in PyTorch's own test database, {derived} derive"
    assert told in text


@pytest.mark.parametrize("name", list(OPERATORS)[1 % EVERY :: EVERY])
def test_operator(name):
    assert derives(OPERATORS[name]) == (name not in WITHOUT and name not in CANNOT_BE_WRITTEN)
