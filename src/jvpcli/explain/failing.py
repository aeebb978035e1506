"""Failures of an evaluation where the request is known: explained, with commands that have been tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.command import command
from jvpcli.errors import EvaluationError, JvpError
from jvpcli.explain.weights import read_cotangents, read_tangents
from jvpcli.language.evaluate import evaluate
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.parse import parse
from jvpcli.program import Program
from jvpcli.repairs.diagnosis import PATIENCE, diagnose, explained, repaired
from jvpcli.request import Request

SMALL = 64 * 2**20
"""Bytes that trying a repair may take."""

LARGE = 1 << 18
"""Entries of the inputs up to which a repair is tried with their numbers."""

PATIENCE_WITHOUT_NUMBERS = 1.0
"""Seconds for trying with shapes alone: torch may have to load something for them."""

LONGEST_COMMAND = 1000
"""Characters of a command that is shown whole; of a longer one the expression alone is shown."""


@dataclass(frozen=True)
class Trial:
    """Tries expressions in the place of a request's: at the same inputs, with the same imported functions.

    `reads` are the imported functions as `parse` takes them.
    """

    request: Request
    program: Program
    inputs: Mapping[str, Tensor]
    wrt: Sequence[str]
    functions: Mapping[str, Callable[..., Any]]
    reads: Mapping[str, Sequence[str]] | None = None

    def works(self, source: str) -> bool:
        """Whether the command would: it uses the same inputs, evaluates, is differentiable, and the cotangents fit."""
        try:
            candidate = parse(source, self.inputs.keys(), self.reads)
            if set(candidate.inputs) != set(self.program.inputs):
                return False
            evaluation = self._shapes(candidate) if self.is_large else self._evaluated(candidate)
        except JvpError:
            return False
        return any(y.requires_grad for y in evaluation.outputs.values())

    @property
    def is_large(self) -> bool:
        """Whether trying with the numbers could take long: then shapes alone are computed."""
        return sum(x.numel() for x in self.inputs.values()) > LARGE

    def _evaluated(self, candidate: Program) -> Evaluation:
        """The expression at the inputs, with the cotangents and tangents."""
        limit = SMALL if self.request.memory_limit is None else min(SMALL, self.request.memory_limit)
        evaluation = self._evaluate(candidate, self.inputs, limit)
        read_cotangents(self.request, evaluation)
        read_tangents(self.request, evaluation)
        return evaluation

    def _shapes(self, candidate: Program) -> Evaluation:
        """The expression on tensors without numbers, on torch's meta device.

        Raises:
            EvaluationError: it fails, or needs numbers (a condition), or a cotangent's shape would have to be found.
        """
        if any(value not in ("ones", "none") for _, value in (*self.request.grad_outputs, *self.request.tangent)):
            raise EvaluationError("cotangents are not tried without numbers")
        with torch.device("meta"):
            inputs = {name: torch.empty_like(x, device="meta") for name, x in self.inputs.items()}
            try:
                return self._evaluate(candidate, inputs, self.request.memory_limit)
            except (RuntimeError, NotImplementedError) as error:
                raise EvaluationError(str(error)) from error

    def _evaluate(self, candidate: Program, inputs: Mapping[str, Tensor], limit: int | None) -> Evaluation:
        return evaluate(
            candidate, inputs, wrt=self.wrt, seed=self.request.seed, memory_limit=limit, functions=self.functions
        )

    def shown(self, source: str) -> str:
        """The command with `source` as its expression; the expression alone where there is no such command."""
        line = command(replace(self.request, expression=source))
        return line if line and len(line) <= LONGEST_COMMAND else source


def explain_failure(error: JvpError, trial: Trial) -> JvpError:
    """What torch raised in a step, told by the operands as the user wrote them, with repairs that work.

    They fit the cotangents and tangents given, if any does; else they are shown with a command without those.
    """
    diagnosis = diagnose(error, trial.program)
    if diagnosis is None:
        return error
    asked = trial.request
    patience = PATIENCE_WITHOUT_NUMBERS if trial.is_large else PATIENCE
    patience = patience if asked.timeout is None else min(patience, asked.timeout / 4)
    plain = replace(asked, grad_outputs=(), tangent=())
    for request in (asked, plain) if asked.grad_outputs or asked.tangent else (asked,):
        attempt = replace(trial, request=request)
        found = repaired(diagnosis, attempt.works, patience)
        if found:
            return explained(diagnosis, found, attempt.shown)
    return explained(diagnosis)


def explain_value_failure(error: JvpError, name: str, scope: Mapping[str, Tensor]) -> JvpError:
    """The same for the expression of the VALUE of `name`, which may use the inputs in `scope`; without repairs."""
    try:
        diagnosis = diagnose(error, parse(error.source or "", scope.keys()))
    except JvpError:  # the text is no expression: a file's name
        return error
    return error if diagnosis is None else explained(diagnosis, lead=(f"in the value of {name}",))
