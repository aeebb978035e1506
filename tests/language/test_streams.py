"""Random numbers that leaves are filled with, against Python running the same text."""

from __future__ import annotations

import math
import textwrap

import pytest
import torch
from torch import nn

import jvpcli

FILLED = {
    "values drawn between": """
        k = torch.zeros(2, 2)
        a = torch.randn(2)
        k.uniform_(-1., 1.)
        c = torch.rand(2)
        k.normal_()
        k.requires_grad_()
        (k @ a * c * torch.randn(2)).pow(2).sum().backward()
        """,
    "under no_grad": """
        k = torch.zeros(2, 1, 3, 3, requires_grad=True)
        with torch.no_grad():
            k.uniform_(-1., 1.)
        nn.functional.conv2d(torch.randn(1, 1, 5, 5), k).pow(2).sum().backward()
        """,
}


@pytest.mark.parametrize("text", FILLED.values(), ids=FILLED)
def test_what_a_leaf_is_filled_with_is_drawn_before_what_comes_behind(text: str) -> None:
    torch.manual_seed(0)
    scope = {"torch": torch, "nn": nn, "math": math}
    exec(textwrap.dedent(text), scope)
    found = jvpcli.inspect(textwrap.dedent(text), seed=0, as_python=True).to_dict()["vjp"]
    assert "k" in found
    for name, entry in found.items():
        torch.testing.assert_close(torch.tensor(entry["value"]), scope[name].grad)  # type: ignore[attr-defined]
