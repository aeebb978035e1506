"""A derivative call that gives no cotangent, as PyTorch itself takes it: what it raises, in its own words, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.report import Refusal

CALLS: Mapping[str, Callable[[Tensor, Sequence[Tensor]], Any]] = {
    "": lambda y, xs: torch.autograd.grad(y, xs, retain_graph=True, allow_unused=True),
    "vjp": lambda y, xs: torch.autograd.functional.vjp(lambda *_: y, tuple(xs)),
    "grad": lambda y, xs: torch.func.grad(lambda *_: y)(*xs),
}
"""The calls that have a default for v, by their kind; each is run for what it says of an output that it has none for."""


def refusal(
    outputs: Mapping[str, Tensor], inputs: Sequence[Tensor], implicit: Mapping[str, str], kind: str = "tuple"
) -> Refusal | None:
    """What PyTorch raises where outputs are differentiated without a cotangent; None where it does it.

    Args:
        outputs, inputs: tensors of one graph.
        implicit: names of outputs that have no cotangent, to the kind of call: a key of `CALLS`, and behind `_` how many
            axes vmap has added to what the function gives.
        kind: what holds several outputs: "tuple", "list" or "dict".
    """
    if len(outputs) > 1 and any(call.startswith("grad") for call in implicit.values()):
        held = dict(outputs) if kind == "dict" else list(outputs.values()) if kind == "list" else tuple(outputs.values())
        try:
            torch.func.grad(lambda *_: held)(*inputs)
        except RuntimeError as error:
            return Refusal(f"RuntimeError: {error}", _needs_one(kind))
    for name, kind_of_call in implicit.items():
        (call, _, axes), y = kind_of_call.partition("_"), outputs[name]
        for _ in range(int(axes or 0)):
            y, name = y[0], f"{name}[0]"
        if y.numel() == 1 and not y.is_complex() and not (call == "grad" and y.dim()):
            continue
        try:
            CALLS[call](y, inputs)
        except RuntimeError as error:
            return Refusal(f"RuntimeError: {error}", _needs(name, y, call))
    return None


def _needs_one(kind: str) -> str:
    return (
        f"the function gives a {kind} of tensors; torch.func.grad is for functions whose result is one real number of shape (). "
        "It needs one of them, or a sum of sums; torch.func.jacrev takes them all. Here v is ones for each."
    )


def _needs(name: str, y: Tensor, call: str) -> str:
    number = "complex number" if y.is_complex() else "number"
    count = "1 entry, a " + number if y.numel() == 1 else f"{y.numel()} entries"
    kind = f"{name} has {count}, in the shape {tuple(y.shape)}" if y.dim() else f"{name} is a single {number}"
    if call == "grad":
        return (
            f"{kind}; torch.func.grad is for functions whose result is one real number of shape (). It needs such a number, as "
            f"{name}.sum(){'.real' if y.is_complex() else ''}, or torch.func.vjp with a v. Here v is ones."
        )
    stands_for = f"{name}{'.real' if y.is_complex() else ''}{'.sum()' if y.dim() else ''}"
    return (
        f"{kind}; without v, the weights of its entries, PyTorch differentiates only one real number. It needs v of the "
        f"shape {tuple(y.shape)}, as torch.ones_like({name}). Here v is ones: this is the gradient of {stands_for}."
    )
