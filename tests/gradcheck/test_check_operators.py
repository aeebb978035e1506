"""`check` over torch's operator database: no alarm but the true ones, each with its reason."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import jvpcli
from jvpcli.errors import JvpError

sys.path.append(str(Path(__file__).parents[1] / "language"))

from operator_samples import (  # the path is known only now
    SEED,
    CannotBeWrittenError,
    differentiable_operators,
    full_name,
    small_samples,
    write,
)

pytest.importorskip("expecttest", reason="torch's operator database needs expecttest")

SAMPLES = int(os.environ.get("JVP_OP_DB_SAMPLES", "1"))
"""Samples of each operator and dtype."""
EVERY = 1 if os.environ.get("JVP_OPERATORS") == "all" else 2

LABELS = "kink", "the labels are differentiated, and compared with 1"
OVERLAP = "wrong_backward", "the samples' indices overlap: the last one wins, and backward gives to all"
NOT_HERMITIAN = "wrong_backward", "the samples are not Hermitian"
STATISTICS = "wrong_backward", "torch has no gradient for the statistics that it returns"
NO_PATH = "graph_break", "torch has no gradient to a distribution's parameters"

TRUE_ALARMS = {
    **dict.fromkeys(("nn.functional.cosine_embedding_loss", "nn.functional.hinge_embedding_loss"), LABELS),
    **dict.fromkeys((f"nn.functional.max_unpool{n}d" for n in (1, 2, 3)), OVERLAP),
    **dict.fromkeys(("linalg.eigh", "linalg.eigvalsh", "linalg.pinv.hermitian"), NOT_HERMITIAN),
    **dict.fromkeys(("native_batch_norm", "native_group_norm", "native_layer_norm"), STATISTICS),
    **dict.fromkeys(("normal", "normal.number_mean"), NO_PATH),
    "as_strided_scatter": ("wrong_backward", "torch's gradient of what is overwritten is 1, not 0"),
    "nn.functional.ctc_loss": ("wrong_backward", "torch's gradient is that for normalised log-probabilities"),
    "svd": ("wrong_backward", "with some=False torch has no gradient for the columns that fill the basis up"),
    "linalg.norm.subgradients_at_zero": ("kink", "the samples are zero"),
    "__rpow__": ("kink", "the samples are negative numbers to broken powers: no output is finite"),
    "linalg.eig": ("evaluation", "torch refuses eigenvectors whose phase matters"),
}  # fmt: skip
"""Operators for which an alarm is right: its verdict, and why."""

SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_no_alarm_but_the_true_ones(single):
    operators = differentiable_operators()[:: 3 * EVERY if single else EVERY]
    found = [(full_name(operator), *outcome) for operator in operators for outcome in outcomes(operator, single)]
    assert len(found) >= 0.8 * len(operators)
    passed = sum(verdict == "pass" for _, verdict, _ in found)
    alarms = [f"{name}: {verdict}: {text}" for name, verdict, text in found if verdict not in ("pass", allowed(name))]
    assert not alarms
    assert passed >= 0.95 * len(found)


def allowed(name: str) -> str:
    return TRUE_ALARMS.get(name, ("pass", ""))[0]


def outcomes(operator: Any, single: bool) -> list[tuple[str, str]]:
    """Verdict (or code of the error) and expression of the operator's first samples."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in small_samples(operator, 4 * SAMPLES, elements=60):
            try:
                written = write(operator, sample)
            except CannotBeWrittenError:
                continue
            if written.wrt and len(found) < SAMPLES:
                found.append(outcome(written, single))
    return found


def outcome(written: Any, single: bool) -> tuple[str, str]:
    inputs = {name: x.detach() for name, x in written.inputs.items()}
    if single:
        inputs = {name: x.to(SINGLE.get(x.dtype, x.dtype)) for name, x in inputs.items()}
    try:
        result = jvpcli.check(written.expression, inputs, wrt=written.wrt, seed=SEED)
    except JvpError as error:
        return error.code, f"{written.expression}: {error.message}"
    return result.verdict, f"{written.expression}: {result.worst}"
