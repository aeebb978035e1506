"""Programs as Python runs them between guards, and as it runs them without any: what tests compare."""

from __future__ import annotations

import contextlib
import io
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from jvpcli.answers import report_of
from jvpcli.errors import ForbiddenError
from jvpcli.request import Request


def by_python(text: str, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the last derivative call of a program's own gives, as Python runs it; of a backward, what `.grad` holds behind it."""
    last: list[list[Tensor]] = []
    grad, backward = torch.autograd.grad, Tensor.backward

    def asked(*arguments, **keywords):
        found = grad(*arguments, **keywords)
        last.append([g.detach().clone() for g in found if g is not None])
        return found

    def went_back(self, *arguments, **keywords):
        nodes, leaves = [self.grad_fn], {}
        while nodes:
            node = nodes.pop()
            if node is not None and hasattr(node, "variable"):
                leaves[id(node.variable)] = node.variable
            nodes += [] if node is None else [each for each, _ in node.next_functions]
        backward(self, *arguments, **keywords)
        last.append([x.grad.clone() for x in leaves.values() if x.grad is not None])

    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(torch.autograd, "grad", asked)
        patched.setattr(Tensor, "backward", went_back)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                exec(compile(text, "<plain>", "exec", dont_inherit=True), {"__name__": "__main__", "torch": torch})
        finally:
            torch.set_default_dtype(dtype)
            torch.set_default_device(None)  # what a program sets is a mode of the process, under which nothing is run again
    return last[-1]


def as_run(text: str, command: str = "inspect", **options):
    """The answer for a program as if the language refused it."""
    given = Request(text, command=command, **options)
    return report_of(Request(text, command=command, pasted=given, refusal=ForbiddenError("not read"), **options))


def fits(document, gradient: Tensor) -> bool:
    """Whether a document's value, of which a complex number is a pair, is a gradient."""
    found = torch.tensor(document["value"], dtype=torch.float64).flatten()
    wanted = (torch.view_as_real(gradient) if gradient.is_complex() else gradient).to(torch.float64).flatten()
    same = document["shape"] == [*gradient.shape]
    return same and torch.allclose(found, wanted, rtol=1e-4, atol=1e-6, equal_nan=True)
