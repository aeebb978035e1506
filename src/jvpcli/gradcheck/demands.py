"""What a backward must bear besides giving the right numbers: to run twice, an undefined cotangent, many cotangents at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jvpcli.gradcheck.vectors import RealFunction, steady
from jvpcli.language.evaluate import ordinary
from jvpcli.language.readings import custom_functions

UNDEFINED, BATCHED = "undefined cotangents", "many cotangents at once"


@dataclass(frozen=True)
class Demand:
    """One demand; `fault` is what happens where it is not met."""

    name: str
    fault: str | None


def unrepeatable(function: RealFunction, v: Tensor, u: Tensor) -> float | None:
    """How far two runs of the same derivative differ, if that is more than some roundings (or more than is let pass)."""
    if function.mode == "forward":
        one, other = function.pushforward(u), function.pushforward(u)
    else:
        v = torch.where(function.y.isfinite(), v, 0.0)
        one, other = function.pullback(v), function.pullback(v)
    if steady(one, other, function.tolerance.nondet):
        return None
    return float((one - other).abs().nan_to_num(nan=torch.inf).max())


def demands(function: RealFunction, v: Tensor, *, undefined: str = "functions", batched: bool = False) -> Iterator[Demand]:
    """The demands that are made, where the user's own code is asked for gradients: those of the options."""
    if function.mode == "forward":
        return
    own = bool(custom_functions(function.evaluation.outputs.values())) or (undefined == "all" and function.evaluation.hooked)
    if undefined != "none" and own:
        yield Demand(UNDEFINED, _failure(lambda: _of_undefined(function)))
    if batched:
        yield Demand(BATCHED, _failure(lambda: _of_many(function, v)))


def _failure(fault: Callable[[], str | None]) -> str | None:
    """The fault that is found; an error that is raised is one."""
    try:
        return fault()
    except MemoryError:
        raise
    except Exception as error:  # a backward of the user's own may raise whatever it likes
        text = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
        return f"raises {type(error).__name__}: {text}"


def _of_undefined(function: RealFunction) -> str | None:
    """Whether gradients are zero (or None) where no gradient arrives: from all outputs, or from one of several."""
    outputs = [y for y in function.evaluation.outputs.values() if y.requires_grad]
    leaves = list(function.evaluation.leaves.values())
    everywhere = set(range(len(outputs)))
    for undefined in (everywhere, *({number} for number in everywhere if len(outputs) > 1)):
        total = torch.zeros(())
        for number, y in enumerate(outputs):
            given: Any = torch._C._functions.UndefinedGrad()(y) if number in undefined else y
            total = total + (given * torch.zeros_like(y)).real.sum()
        gradients = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
        if any(g is not None and bool(((ordinary(g) != 0) & ~ordinary(g).isnan()).any()) for g in gradients):
            return "gives a gradient that is not zero"
    return None


def _of_many(function: RealFunction, v: Tensor) -> str | None:
    """Whether two cotangents pulled back at once, as `is_grads_batched=True` does, give what they give one by one."""
    pair = torch.stack([v, v.flip(0)])
    leaves = list(function.evaluation.leaves.values())
    apart = torch.stack([function.pullback(w) for w in pair])
    together = torch.zeros_like(apart)
    for name, part in function.outputs.slices().items():
        y = function.evaluation.outputs[name]
        if y.requires_grad:
            cotangents = torch.stack([function.outputs.split(w)[name] for w in pair])
            found = torch.autograd.grad(
                y, leaves, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for number in range(len(pair)):
                if bool((pair[number, part] != 0).any()):
                    together[number] += function.inputs.join([None if g is None else g[number] for g in found])
    same = (together - apart).abs() <= 1e3 * function.eps * apart.abs().max() if apart.numel() else apart == together
    return None if bool((same | apart.isnan()).all()) else "gives other gradients than one by one"
