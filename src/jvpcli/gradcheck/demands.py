"""What a backward must bear besides giving the right numbers: to run twice, an undefined cotangent, many cotangents at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jvpcli.gradcheck.modes import raised_in
from jvpcli.gradcheck.vectors import RealFunction, steady
from jvpcli.language.outputs import ordinary
from jvpcli.language.readings import custom_functions

UNDEFINED, BATCHED, PUSHED = "undefined cotangents", "many cotangents at once", "many tangents at once"


@dataclass(frozen=True)
class Demand:
    """One demand; `fault` is what happens where it is not met, by a hook maybe; if it is not `asked`, that is only said."""

    name: str
    fault: str | None
    by_hook: bool = False
    asked: bool = True


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


def demands(
    function: RealFunction, v: Tensor, u: Tensor, *, undefined: str = "functions", batched: bool = False
) -> Iterator[Demand]:
    """The demands that are made, where the user's own code is asked for gradients: those of the options."""
    if function.mode == "forward":
        if batched:
            yield Demand(PUSHED, _failure(lambda: _of_many_tangents(function, u))[0])
        return
    own, hooked = custom_functions(function.evaluation.outputs.values()), function.evaluation.hooked
    if undefined != "none" and (own or hooked):
        fault, error = _failure(lambda: _of_undefined(function))
        guilty = error is not None and (raised_in(error, own, "backward") or raised_in(error, own, "vjp"))
        by_hook = hooked and (not own or (error is not None and not guilty))
        yield Demand(UNDEFINED, fault, by_hook, undefined == "all" or not by_hook)
    if batched:
        yield Demand(BATCHED, _failure(lambda: _of_many(function, v))[0])


def _failure(fault: Callable[[], str | None]) -> tuple[str | None, Exception | None]:
    """The fault that is found, and the error that is raised, which is one."""
    try:
        return fault(), None
    except MemoryError:
        raise
    except Exception as error:  # a backward of the user's own may raise whatever it likes
        text = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
        return f"raises {type(error).__name__}: {text}", error


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
    return _same(function, apart, together)


def _of_many_tangents(function: RealFunction, u: Tensor) -> str | None:
    """Whether two tangents pushed forward at once, by the `vmap` of `is_grads_batched=True`, give what they give one by one."""
    from torch._vmap_internals import _vmap  # torch has loaded it

    pair = torch.stack([u, u.flip(0)])
    apart = torch.stack([function.pushforward(w) for w in pair])
    tangents = list(zip(*(function.inputs.split(w).values() for w in pair), strict=True))
    found = _vmap(lambda *at_once: tuple(function.pushed(at_once)))(*map(torch.stack, tangents))
    together = torch.stack([function.outputs.join([y[number] for y in found]) for number in range(len(pair))])
    return _same(function, apart, together)


def _same(function: RealFunction, apart: Tensor, together: Tensor) -> str | None:
    """What is wrong with derivatives that were taken together; NaN is let pass."""
    same = (together - apart).abs() <= 1e3 * function.eps * apart.abs().max() if apart.numel() else apart == together
    return None if bool((same | apart.isnan()).all()) else "gives something else than one by one"
