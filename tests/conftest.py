"""Shared helpers: the oracle that Jacobians are compared with."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import Tensor

from older_torch import TORCH_2_6

torch.set_num_threads(1)

os.environ["JVP_SERVER"] = "0"  # a `jvp serve` that happens to run for this user answers nothing here

# The same examples in every run, so that a change is judged by what it changes; `make fuzz` looks for new ones.
settings.register_profile("usual", deadline=None, derandomize=True)  # a busy machine is no failure
settings.register_profile("fuzz", deadline=None, max_examples=int(os.environ.get("JVP_EXAMPLES", "20000")))
settings.load_profile("usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is known to be otherwise with the oldest torch is expected to be."""
    if torch.__version__.startswith("2.6."):
        for item in items:
            for part, reason in TORCH_2_6.items():
                if part in item.nodeid:
                    item.add_marker(pytest.mark.xfail(reason=reason))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not walk through torch and all test modules again and again."""
    gc.freeze()


def as_function(expression: str, names: list[str]) -> Callable[..., Any]:
    """The expression as a Python function of the named tensors: evaluated by Python itself, not by jvp."""
    scope = {"torch": torch, "math": math, "F": F}
    return eval(f"lambda {', '.join(names)}: ({expression})", scope)


@pytest.fixture
def checked_distributions() -> Iterator[None]:
    """Torch's distributions check what they are given, as they do from the start: its compiler turns that off, for good."""
    from torch.distributions import Distribution

    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)
    yield
    Distribution.set_default_validate_args(before)


@pytest.fixture
def unknown() -> None:
    """No question for Jacobians was asked before."""
    from jvpcli import api
    from jvpcli.answers import question

    for kept in (api._known, api._workspace, question._courses):
        kept.cache_clear()


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each question about a function that was known again, whether it was answered so."""
    from jvpcli.jacobians.engine import Repeat

    found: list[bool] = []
    maps_of = Repeat.maps_of

    def noted(self: Repeat, problem: Any) -> Any:
        answer = maps_of(self, problem)
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(Repeat, "maps_of", noted)
    return found


@pytest.fixture
def oracle() -> Callable[[str, Mapping[str, Tensor]], dict[tuple[int, str], Tensor]]:
    """(number of the output, input) to the Jacobian by torch.autograd.functional.jacobian."""

    def compute(expression: str, inputs: Mapping[str, Tensor]) -> dict[tuple[int, str], Tensor]:
        names = list(inputs)
        function = as_function(expression, names)
        outputs = function(*inputs.values())
        several = isinstance(outputs, (tuple, list))
        if not several and outputs.numel() == 0:  # the oracle itself stacks an empty list
            return {(0, name): outputs.new_zeros(outputs.shape + x.shape) for name, x in inputs.items()}
        rows = torch.autograd.functional.jacobian(
            lambda *a: tuple(function(*a)) if several else function(*a), tuple(inputs.values())
        )
        rows = rows if several else (rows,)
        return {(k, name): row[i] for k, row in enumerate(rows) for i, name in enumerate(names)}

    return compute
