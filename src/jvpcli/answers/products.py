"""Two independent ways to every number: the contraction of the explicit Jacobian, and autograd's own product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jvpcli.answers.stages import Stages, at_once
from jvpcli.answers.weights import Weight
from jvpcli.errors import EvaluationError, InternalError, JvpError, is_out_of_memory
from jvpcli.jacobians.compute import Planned, plan
from jvpcli.jacobians.linear_map import LinearMap, as_numpy
from jvpcli.jacobians.nearby import coarsest, largest, moved
from jvpcli.jacobians.passes import vjp
from jvpcli.jacobians.small import Derivatives, SmallPlan
from jvpcli.problem import Named, Problem
from jvpcli.report import Comparison, Notice
from jvpcli.request import Request

ROUNDINGS = 1024
"""How many roundings of a derivative of ordinary size are let pass where everything else cancels."""

ILL_CONDITIONED = 64
"""Two ways may differ by this many times what one rounding of the inputs does to the gradient."""


@dataclass(frozen=True)
class Products:
    """The products of a request.

    Attributes:
        vjp: input to Σ_outputs vᵀJ, of the input's shape; with several v (`is_grads_batched`) stacked along an axis in front.
        contributions: (output, input) to vᵀJ, or None where no gradient flows from that output to that input.
        comparison: how the two ways to the contributions compare.
        jvp: output to Σ_inputs J u, or None if no tangent was given.
        batched: whether there are several v.
    """

    vjp: Mapping[str, Tensor]
    contributions: Mapping[tuple[str, str], Tensor | None]
    comparison: Comparison
    jvp: Mapping[str, Tensor] | None
    batched: bool = False

    def spoilt(self, x: str) -> Tensor:
        """A tensor of the shape of input `x` with a NaN wherever one of its gradients has one."""
        found = self.vjp[x]
        return found.nan_to_num(nan=math.nan, posinf=0.0, neginf=0.0).sum(0) if self.batched else found


def plan_of(problem: Problem, request: Request) -> Planned:
    """How the request's Jacobians are computed, or its products where no Jacobian is wanted."""
    return plan(problem, request.mode, "products" if request.jacobian == "none" else "all")


def differentiate(
    problem: Problem, request: Request, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight]
) -> tuple[Derivatives, Products]:
    """The Jacobians as the request asks for them, and their products: by another way where the first one fails.

    Raises:
        InternalError: a Jacobian and `torch.autograd.grad` differ by more than rounding.
    """
    return at_once(differentiating(problem, request, cotangents, tangents))


def differentiating(
    problem: Problem, request: Request, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight]
) -> Stages[tuple[Derivatives, Products]]:
    """As `differentiate`: the Jacobians, and then their products."""
    planned = plan_of(problem, request)
    pulled: Pulled | None = None

    def multiplied(derivatives: Derivatives) -> tuple[Derivatives, Products]:
        return derivatives, multiply(derivatives, problem, cotangents, tangents, request.is_grads_batched, pulled)

    try:
        if isinstance(planned, SmallPlan):
            yield from planned.stages()
        derivatives = planned.derive(request.tell)
        yield
        pulled = pull(problem, cotangents, request.is_grads_batched)
        yield
        try:
            return multiplied(derivatives)
        except InternalError as error:
            if request.mode == "forward" and problem.is_own:  # a formula of the user's own is wrong, and not ours
                raise EvaluationError(
                    f"Forward mode and the backward pass of your code differ: {error.message}.",
                    explanation="The jvp or the backward of a custom function gives wrong numbers.",
                    hints=("jvpcli.check compares both with differences, and names the wrong one",),
                ) from error
            if not isinstance(planned, SmallPlan) or not problem.can_stack:
                raise
            # many points at once may take another path through torch, with other derivatives: one at a time, then
            return multiplied(replace(planned, together=False).derive())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    note = Notice("fallback", "there was not enough memory for the Jacobian: only products with it were computed")
    alone = plan(problem, wanted="products").derive()
    return multiplied(replace(alone, notices=(note,), plan=replace(alone.plan, reason=note.message)))


Pulled = Mapping[str, Sequence[tuple[Tensor, Sequence[Tensor | None]]]]
"""For each output each v, and what autograd pulls back from it to each input."""


def pull(problem: Problem, cotangents: Mapping[str, Weight], batched: bool = False) -> Pulled:
    """Every v pulled back by autograd; `batched` cotangents hold several each."""
    outputs, leaves = problem.differentiable, list(problem.leaves.values())
    return {
        y: [(v, vjp(outputs[y], v, leaves)) for v in (weight.value.unbind() if batched else [weight.value])]
        for y, weight in cotangents.items()
    }


def multiply(
    derivatives: Derivatives,
    problem: Problem,
    cotangents: Mapping[str, Weight],
    tangents: Mapping[str, Weight],
    batched: bool = False,
    pulled: Pulled | None = None,
) -> Products:
    """The VJPs by autograd, each compared with the explicit Jacobian's, and the JVPs; `batched` cotangents hold several v each.

    `pulled` is what `pull` gives, where that is known.

    Raises:
        InternalError: the two ways differ by more than rounding.
    """
    leaves = problem.leaves
    eps = coarsest(problem)
    contributions: dict[tuple[str, str], Tensor | None] = {}
    comparisons = []
    for y, passes in (pull(problem, cotangents, batched) if pulled is None else pulled).items():
        found: dict[str, list[Tensor | None]] = {x: [] for x in leaves}
        for v, passed in passes:
            for x, gradient in zip(leaves, passed, strict=True):
                found[x].append(gradient)
                pair = _Pair(problem, y, x, problem.differentiable[y], leaves[x], derivatives.maps[y, x], v, gradient)
                comparisons.append(_compare(pair, eps))
        contributions |= {(y, x): _stacked(gradients) if batched else gradients[0] for x, gradients in found.items()}
    counts = [len(weight.value) for weight in cotangents.values()][:1] if batched else []
    totals = {x: total(contributions, x, leaf, counts) for x, leaf in leaves.items()}
    pushed = _pushforwards(derivatives, problem.differentiable, tangents)
    return Products(totals, contributions, _all_of(comparisons), pushed, batched)


def total(contributions: Mapping[tuple[str, str], Tensor | None], x: str, leaf: Tensor, counts: Sequence[int] = ()) -> Tensor:
    """The gradient of an input by all outputs; `counts`: of how many v each."""
    parts = [gradient for (_, name), gradient in contributions.items() if name == x and gradient is not None]
    first, *others = parts or [torch.zeros_like(leaf).detach().expand((*counts, *leaf.shape))]
    return sum(others, first + 0.0)  # no zero is negative in a sum


def _all_of(parts: Sequence[Comparison]) -> Comparison:
    if len(parts) == 1:
        return parts[0]
    return Comparison(
        compared=sum(part.compared for part in parts),
        not_finite=sum(part.not_finite for part in parts),
        largest_difference=max((part.largest_difference for part in parts), default=0.0),
    )


def _stacked(gradients: list[Tensor | None]) -> Tensor | None:
    """The gradients of several v along a new first axis; None where the input is not reached."""
    reached = [gradient for gradient in gradients if gradient is not None]
    return torch.stack(reached) if reached else None


class _Pair(NamedTuple):
    """One output and one input, and the two ways from the one's cotangent to the other's gradient."""

    problem: Problem
    y: str
    x: str
    output: Tensor
    leaf: Tensor
    jacobian: LinearMap
    v: Tensor
    gradient: Tensor | None


def _pushforwards(derivatives: Derivatives, outputs: Named, tangents: Mapping[str, Weight]) -> dict[str, Tensor] | None:
    if not tangents:
        return None
    pushed = {}
    for y, output in outputs.items():
        pushed[y] = torch.zeros_like(output).detach()
        for x, weight in tangents.items():
            pushed[y] = pushed[y] + derivatives.maps[y, x].pushforward(weight.value)
    return pushed


def _compare(pair: _Pair, eps: float) -> Comparison:
    """vᵀJ from the Jacobian against autograd's gradient, where both are finite; `eps` is the coarsest rounding on the way.

    Raises:
        InternalError: they differ by more than rounding.
    """
    contracted = pair.jacobian.pullback(pair.v)
    direct = torch.zeros_like(contracted) if pair.gradient is None else pair.gradient
    with np.errstate(all="ignore"):
        difference = np.abs(as_numpy(contracted) - as_numpy(direct)).reshape(-1)
    count, off = difference.size, float(difference.max()) if difference.size else 0.0
    if not math.isfinite(off):
        comparable = np.isfinite(difference)  # not where either is not
        count, difference = int(np.count_nonzero(comparable)), np.where(comparable, difference, 0.0)
        off = float(difference.max())
    result = Comparison(count, difference.size - count, off)
    if off <= math.sqrt(eps) * largest(direct):  # spares the bound below, which goes through every entry
        return result
    if off <= _rounding(pair, eps):
        return result
    unsteady = _unsteady(pair, direct, off)
    if unsteady is not None:
        raise unsteady
    if off <= ILL_CONDITIONED * _sensitivity(pair, eps):
        return result
    if off <= ILL_CONDITIONED * _scatter(pair, eps):
        return result
    own = _own_fault(pair)
    if own is not None:
        raise own
    place = int(difference.argmax())
    numbers = contracted.reshape(-1)[place].item(), direct.reshape(-1)[place].item()
    raise InternalError(
        f"two ways to ∂L/∂{pair.x} from {pair.y} differ at entry {place}: the explicit Jacobian gives {numbers[0]!r}, "
        f"torch.autograd.grad gives {numbers[1]!r}",
        explanation="Both should be the same number; please report this expression and its inputs.",
    )


def own_backward(problem: Problem) -> str | None:
    """The user's own code that takes part in a backward pass; None where there is none."""
    from jvpcli.gradcheck.modes import named  # seldom needed

    backwards = dict.fromkeys(named(cls, "backward") for cls in problem.custom)
    return " or ".join(backwards) or ("A hook" if problem.evaluation.hooked else None)


def _pulled(pair: _Pair, v: Tensor) -> Tensor:
    (gradient,) = vjp(pair.output, v, [pair.leaf])
    return torch.zeros_like(pair.leaf).detach() if gradient is None else gradient


def _unsteady(pair: _Pair, direct: Tensor, off: float) -> JvpError | None:
    """What is wrong with a backward of the user's own that gives another gradient each time: that is what two ways differ by."""
    who = own_backward(pair.problem)
    if who is None or not largest(_pulled(pair, pair.v) - direct) > off / 10:
        return None
    return EvaluationError(
        f"{who} gives other gradients when the same is pulled back again",
        explanation="A Jacobian has one row for each output: a backward has to give the same for the same cotangent.",
    )


def _own_fault(pair: _Pair) -> JvpError | None:
    """What is wrong with a backward of the user's own, where something is: two ways differ then without a bug of jvp's."""
    who = own_backward(pair.problem)
    if who is None:
        return None
    first = torch.zeros_like(pair.v)
    first.reshape(-1)[: (pair.v.numel() + 1) // 2] = pair.v.reshape(-1)[: (pair.v.numel() + 1) // 2]
    whole = _pulled(pair, pair.v)
    sums = (2 * whole, _pulled(pair, 2 * pair.v)), (whole, _pulled(pair, first) + _pulled(pair, pair.v - first))
    if all(torch.allclose(a, b, rtol=1e-3, equal_nan=True) for a, b in sums):
        return None
    return EvaluationError(
        f"{who} is not linear in the gradient that it is given",
        explanation="Twice the cotangent has to give twice the gradient, and two that are added up the sum of theirs: every "
        "backward multiplies by what it is given. jvp check compares it with finite differences.",
    )


def _rounding(pair: _Pair, eps: float) -> float:
    """How far apart two sums of the same terms may be.

    The root of the rounding times the largest |v|ᵀ|J|; and where everything cancels inside the function, some
    roundings of a derivative of ordinary size, |v| |y| / |x|.
    """
    terms = largest(pair.jacobian.absolute().pullback(pair.v.abs()))
    ordinary = largest(pair.v) * pair.problem.size(pair.y) / (largest(pair.leaf.detach()) or 1.0)
    return math.sqrt(eps) * terms + ROUNDINGS * eps * ordinary + torch.finfo(pair.leaf.dtype).tiny


def _sensitivity(pair: _Pair, eps: float) -> float:
    """How far the gradient itself moves when the inputs move by a rounding: large where it is ill-conditioned."""
    if pair.gradient is None:
        return 0.0
    try:
        there = pair.problem.at(moved(pair.problem.leaves, eps, seed=3))
        moved_gradient = vjp(there.outputs[pair.y], pair.v, [there.inputs[pair.x]])[0]
    except (JvpError, RuntimeError):
        return 0.0
    return 0.0 if moved_gradient is None else largest(moved_gradient - pair.gradient)


def _scatter(pair: _Pair, eps: float) -> float:
    """How far the gradient moves when every step of the backward pass is rounded anew.

    That is what tells a sum that cancels: its terms may be large where it is small or zero.
    """
    from jvpcli.jacobians.graph import scatter  # seldom needed

    return scatter(pair.output, pair.leaf, pair.v, eps)
