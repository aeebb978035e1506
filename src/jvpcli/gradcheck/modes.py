"""Forward mode against reverse mode, and the test ⟨v, Ju⟩ = ⟨Jᵀv, u⟩.

Forward mode is the transposed reverse pass (see `jacobians.passes`): it costs nothing to load, and shows a backward that is
not linear in its cotangent.  Real forward mode is loaded only where it has something of its own to say: a custom function
with a `jvp` of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction

from jvpcli.errors import JvpError
from jvpcli.gradcheck.compare import Entry
from jvpcli.gradcheck.differences import scales
from jvpcli.gradcheck.vectors import Layout, RealFunction
from jvpcli.jacobians.passes import jvp
from jvpcli.language.evaluate import Evaluation, seeded


@dataclass(frozen=True)
class Modes:
    """How the modes compare.

    Attributes:
        forward: the largest |Ju by forward mode − Ju by the reverse rows|, or None where it was not compared.
        how: "transposed" or "forward": what forward mode was; None: neither was possible.
        linear: the largest |vᵀJ by one pass − the same from the rows|, or None for large problems.
        dot: |⟨v, Ju⟩ − ⟨Jᵀv, u⟩|, or None without forward mode.
        wrong: an entry that shows the difference, if there is one; `analytic` is the odd number out.
        fault: "forward" or "linear": which comparison it is from.
    """

    forward: float | None = None
    how: str | None = None
    linear: float | None = None
    dot: float | None = None
    wrong: Entry | None = None
    fault: str | None = None


def compare_modes(function: RealFunction, jacobian: Tensor | None, cotangent: Tensor, tangent: Tensor) -> Modes:
    """All three comparisons.

    Args:
        function: at the point.
        jacobian: the reverse rows (m, n), or None for a large problem.
        cotangent, tangent: v of (m,) and u of (n,).
    """
    usable = function.y.isfinite()
    if jacobian is not None:
        usable = usable & jacobian.isfinite().all(1)
    v = torch.where(usable, cotangent, 0.0)
    pulled = function.pullback(v)
    linear, odd = (None, None) if jacobian is None else _linearity(function, jacobian, usable, v, pulled)
    pushed, how = _pushed(function, tangent)
    if pushed is None:
        return Modes(linear=linear, wrong=odd, fault="linear" if odd else None)
    pushed = torch.where(usable & pushed.isfinite(), pushed, 0.0)
    dot = abs(float(v @ pushed) - float(pulled @ tangent))
    forward, entry = None, None
    if jacobian is not None:
        forward, entry = _forward(function, jacobian, usable, tangent, pushed, how)
    elif how == "transposed" and custom_functions(function.evaluation):
        dot = math.nan  # a custom backward need not be differentiable
    wrong, fault = (odd, "linear") if odd else (entry, "forward") if entry else (None, None)
    return Modes(forward, how, linear, None if math.isnan(dot) else dot, wrong, fault)


def _allowed(function: RealFunction, sizes: Tensor) -> Tensor:
    """How far two sums of the same terms may be apart; more where the function's own values scatter."""
    scatter = 1000 * float(function.noise.nan_to_num(nan=0.0, posinf=0.0).sum())
    smallest = float(scales(function).min()) if function.n else 1.0
    return math.sqrt(function.eps) * sizes + scatter / smallest


def _linearity(
    function: RealFunction, jacobian: Tensor, usable: Tensor, v: Tensor, pulled: Tensor
) -> tuple[float, Entry | None]:
    """vᵀJ in one pass against the rows; the entry that differs most in the worst column."""
    rows = torch.where(usable[:, None], jacobian, 0.0)
    summed = v @ rows
    difference = (pulled - summed).abs()
    if not difference.numel():
        return 0.0, None
    excess = difference - _allowed(function, v.abs() @ rows.abs())
    column = int(excess.nan_to_num(nan=torch.inf).argmax())
    largest = float(difference[column])
    if bool(excess[column] <= 0):
        return float(difference.max()), None
    row = int((v * rows[:, column]).abs().argmax())
    seen = float(rows[row, column] + (pulled - summed)[column] / v[row]) if float(v[row]) else largest
    return largest, Entry(row, column, seen, float(rows[row, column]))


def _forward(
    function: RealFunction,
    jacobian: Tensor,
    usable: Tensor,
    u: Tensor,
    pushed: Tensor,
    how: str | None,
) -> tuple[float | None, Entry | None]:
    """Ju by forward mode against the rows; a wrong entry where forward mode is the user's own formula."""
    rows = torch.where(usable[:, None], jacobian, 0.0)
    difference = (pushed - rows @ u).abs()
    if not difference.numel():
        return 0.0, None
    excess = difference - _allowed(function, rows.abs() @ u.abs())
    row = int(excess.argmax())
    custom = bool(custom_functions(function.evaluation))
    if float(excess[row]) <= 0:
        return float(difference.max()), None
    if how == "transposed" and custom:  # the user's backward need not be differentiable
        return None, None
    for column in range(function.n):
        unit = torch.zeros_like(u)
        unit[column] = 1
        here = _pushed(function, unit)[0]
        if here is not None and abs(float(here[row] - rows[row, column])) > 1e-6 * (1 + abs(float(rows[row, column]))):
            return float(difference[row]), Entry(row, column, float(here[row]), float(rows[row, column]))
    return float(difference[row]), None


def _pushed(function: RealFunction, u: Tensor) -> tuple[Tensor | None, str | None]:
    """Ju (m,) by forward mode, and by which; None where neither is possible."""
    evaluation = function.evaluation
    own = any(_has_own_jvp(cls) for cls in custom_functions(evaluation))
    try:
        if own:
            return _by_duals(function, u), "forward"
        leaves = list(evaluation.leaves.values())
        tangents = list(function.inputs.split(u).values())
        columns = [jvp(y, leaves, tangents) if y.requires_grad else None for y in evaluation.outputs.values()]
        return function.outputs.join(columns), "transposed"
    except (JvpError, RuntimeError, NotImplementedError):  # a backward that cannot be differentiated
        return None, None


def _by_duals(function: RealFunction, u: Tensor) -> Tensor:
    """Ju by torch's forward-mode duals."""
    import torch.autograd.forward_ad as forward_ad

    problem = function.problem
    tangents = function.inputs.split(u).items()
    with forward_ad.dual_level(), seeded(problem.seed, problem.inputs.values()):
        outputs = problem.run({name: forward_ad.make_dual(problem.leaves[name].detach(), t) for name, t in tangents})
        return function.outputs.join([forward_ad.unpack_dual(y).tangent for y in outputs.values()])


def custom_functions(evaluation: Evaluation) -> tuple[type[Function], ...]:
    """The `torch.autograd.Function`s in the graph of the outputs, each once, the last first."""
    waiting: list[Any] = [y.grad_fn for y in evaluation.outputs.values() if y.grad_fn is not None]
    return tuple(dict.fromkeys(_custom(waiting)))


def _custom(waiting: list[Any]) -> Iterator[type[Function]]:
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            yield type(node)._forward_cls  # type: ignore[attr-defined]
        waiting += [parent for parent, _ in node.next_functions if parent is not None]


def _has_own_jvp(cls: type[Function]) -> bool:
    return cls.jvp is not Function.jvp


def random_pair(function: RealFunction, seed: int = 0) -> tuple[Tensor, Tensor]:
    """v (m,) and u (n,), the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(function.m + function.n, generator=generator, dtype=torch.float64)
    return draw[: function.m], draw[function.m :]


def joined(layout: Layout, tensors: Mapping[str, Tensor], otherwise: Tensor) -> Tensor:
    """Named tensors as a vector; those that are missing come from `otherwise`."""
    parts = layout.split(otherwise)
    return layout.join([tensors.get(name, parts[name]) for name in layout.names])
