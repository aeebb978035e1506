"""The error of an expression whose shapes don't fit, with what is told of its operands and the repairs that were tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from jvpcli.answers.failures import works
from jvpcli.errors import JvpError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.problem import Problem
from jvpcli.program import Program
from jvpcli.repairs import diagnosis
from jvpcli.request import Request


def tensors(described: Mapping[str, tuple[int, ...] | str]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: eval(shape) if isinstance(shape, str) else torch.rand(shape, generator=generator)
        for name, shape in described.items()
    }


def trier(program: Program, inputs: Mapping[str, Tensor]) -> Callable[[str], bool]:
    wrt = tuple(name for name, x in inputs.items() if x.is_floating_point())
    return partial(works, Request(program.source), Problem(program, inputs, wrt))


def explain_operands(
    error: JvpError, program: Program, accepts: Callable[[str], bool], show: Callable[[str], str] = str
) -> JvpError:
    found = diagnosis.diagnose(error, program)
    return error if found is None else diagnosis.explained(found, diagnosis.repaired(found, accepts), show)


def explained(source: str, inputs: Mapping[str, Tensor]) -> JvpError:
    program = parse(source, inputs.keys())
    with pytest.raises(JvpError) as caught:
        evaluate(program, inputs)
    return explain_operands(caught.value, program, trier(program, inputs))
