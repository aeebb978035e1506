"""Forward mode against reverse mode, and the test ⟨v, Ju⟩ = ⟨Jᵀv, u⟩.

Forward mode is the transposed reverse pass (see `jacobians.passes`): it costs nothing to load.  Where that differs from the
rows, which the differences confirm, a backward can't be differentiated again, or not rightly; the gradient is right all
the same.  Real forward mode is loaded only where it has something of its own to say: a custom function with a `jvp` of its own.
"""

from __future__ import annotations

import inspect
import linecache
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd import Function

from jvpcli.errors import EvaluationError, JvpError
from jvpcli.gradcheck.compare import Entry
from jvpcli.gradcheck.differences import scales
from jvpcli.gradcheck.directions import compare_directions
from jvpcli.gradcheck.vectors import Layout, RealFunction
from jvpcli.jacobians.passes import jvp
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.readings import custom_functions
from jvpcli.program import file_called

TRANSPOSED, DUALS = "the transposed backward pass", "forward-mode duals"
"""What forward mode was."""

LINEAR, FORWARD, RULE = "linear", "forward", "rule"
"""What is at fault: a formula that is not linear, a `jvp` that gives something else, or one that breaks torch's rules."""

NO_DOUBLE = "a backward here cannot be differentiated again"
OTHERWISE = "a backward here, differentiated again, gives other numbers"
OVERFLOW = "the products overflow"


@dataclass(frozen=True)
class Modes:
    """How the modes compare.

    Attributes:
        how: what forward mode was; None: the modes were not compared, and `why` says why not.
        forward: the largest |Ju by forward mode − Ju by the reverse rows|, or None for a large problem.
        dot: |⟨v, Ju⟩ − ⟨Jᵀv, u⟩|, or None without both.
        fault: what is wrong, if anything; `why` is what torch says of a broken rule.
        wrong: an entry that shows it, if there is one; `analytic` is the odd number out.
        said: what the user's own `jvp` raises.
    """

    how: str | None = None
    forward: float | None = None
    dot: float | None = None
    fault: str | None = None
    wrong: Entry | None = None
    why: str = ""
    said: str | None = None


def compare_modes(function: RealFunction, jacobian: Tensor | None, cotangent: Tensor, tangent: Tensor) -> Modes:
    """All comparisons that the function's mode leaves.

    Args:
        function: at the point.
        jacobian: autograd's (m, n), or None for a large problem.
        cotangent, tangent: v of (m,) and u of (n,).
    """
    usable = function.y.isfinite()
    if jacobian is not None:
        usable = usable & jacobian.isfinite().all(1)
    v = torch.where(usable, cotangent, 0.0)
    rows = None if jacobian is None else torch.where(usable[:, None], jacobian, 0.0)
    if function.mode == "forward":
        odd = None if rows is None else _uneven(function, rows.T, tangent, function.pushforward(tangent) * usable)
        wrong = odd and replace(odd, row=odd.column, column=odd.row)
        return Modes(why="--mode forward", fault=LINEAR if odd else None, wrong=wrong)
    pulled = function.pullback(v)
    odd = None if rows is None else _uneven(function, rows, v, pulled)
    if odd or function.mode == "reverse":
        return Modes(why="--mode reverse", fault=LINEAR if odd else None, wrong=odd)
    u = torch.where(pulled.isfinite(), tangent, 0.0)
    functions = custom_functions(function.evaluation.outputs.values())
    own = any(_has_own_jvp(cls) for cls in functions)
    try:
        pushed = function.pushforward(u) if own else _transposed_pass(function, u)
    except JvpError as error:
        return Modes(why=error.message)
    except Exception as error:  # the user's own jvp may raise whatever it likes
        return _failed(error, functions) if own else Modes(why=NO_DOUBLE)
    if rows is None and not bool(function.pullback(torch.where(pushed.isfinite(), 0.0, v)).isfinite().all()):
        v = torch.where(pushed.isfinite(), v, 0.0)  # of these outputs the rows aren't finite either
        pulled = function.pullback(v)
    pushed, pulled = torch.where((v != 0) & pushed.isfinite(), pushed, 0.0), torch.where(u != 0, pulled, 0.0)
    dot = abs(float(v @ pushed) - float(pulled @ u))
    if rows is None:
        sizes = v.abs() @ pushed.abs() + pulled.abs() @ u.abs()
        agrees = dot <= float(_allowed(function, sizes) + _let_pass(function, sizes, v.abs().sum() * u.abs().sum()))
        forward = None
    else:
        difference = (pushed - rows @ u).abs()
        forward = float(difference.max()) if difference.numel() else 0.0
        sizes = rows.abs() @ u.abs()
        agrees = bool((difference <= _allowed(function, sizes) + _let_pass(function, sizes, u.abs().sum())).all())
    if agrees:
        return Modes(DUALS if own else TRANSPOSED, forward, dot)
    if not own:
        return Modes(why=OTHERWISE if bool(sizes.isfinite().all()) else OVERFLOW)
    return Modes(DUALS, forward, dot, FORWARD, _odd_entry(function, rows))


def _allowed(function: RealFunction, sizes: Tensor) -> Tensor:
    """How far two sums of the same terms may be apart; more where the function's own values scatter."""
    scatter = 1000 * float(function.noise.nan_to_num(nan=0.0, posinf=0.0).sum())
    smallest = float(scales(function).min()) if function.n else 1.0
    return math.sqrt(function.eps) * sizes + scatter / smallest + (function.tolerance.nondet or 0.0) * function.m


def _let_pass(function: RealFunction, sizes: Tensor, weights: Tensor) -> Tensor:
    """What the user lets pass of sums of products whose sizes, and whose weights, add up to these."""
    return (function.tolerance.atol or 0.0) * weights + (function.tolerance.rtol or 0.0) * sizes


def _uneven(function: RealFunction, rows: Tensor, weights: Tensor, summed: Tensor) -> Entry | None:
    """Of a formula that is not linear an entry that shows it: one pass for weights against the rows one by one.

    Args:
        rows: (k, l), what the formula makes of each unit.
        weights, summed: (k,) and what it makes of all at once (l,).
    """
    difference = summed - weights @ rows
    if not difference.numel():
        return None
    sizes = weights.abs() @ rows.abs()
    excess = torch.where(sizes.isfinite(), difference.abs() - _allowed(function, sizes), 0.0)  # a sum may overflow
    column = int(excess.nan_to_num(nan=torch.inf).argmax())
    if bool(excess[column] <= 0):
        return None
    row = int((weights * rows[:, column]).abs().argmax())
    seen = rows[row, column] + difference[column] / weights[row] if float(weights[row]) else difference[column].abs()
    return Entry(row, column, float(seen), float(rows[row, column]))


def _odd_entry(function: RealFunction, rows: Tensor | None) -> Entry | None:
    """The entry at which forward mode is off most: from the rows, or from differences where there are none."""
    forward = replace(function, mode="forward")
    if rows is None:
        return next(iter(compare_directions(forward).mismatches), None)
    pushed = forward.jacobian()
    worst = int((pushed - rows).abs().nan_to_num(nan=torch.inf).argmax())
    row, column = divmod(worst, function.n)
    return Entry(row, column, float(pushed[row, column]), float(rows[row, column]))


def _transposed_pass(function: RealFunction, u: Tensor) -> Tensor:
    """Ju (m,) by the transposed backward pass.

    Raises:
        RuntimeError: a backward cannot be differentiated.
    """
    evaluation = function.evaluation
    leaves, tangents = list(evaluation.leaves.values()), list(function.inputs.split(u).values())
    columns = [jvp(y, leaves, tangents) if y.requires_grad else None for y in evaluation.outputs.values()]
    return function.outputs.join(columns)


# A user's own jvp that fails


def forward_failure(error: Exception, evaluation: Evaluation) -> Modes:
    """What it means that forward mode, asked for alone, has failed: a rule that is broken.

    Raises:
        EvaluationError: something else.
    """
    modes = _failed(error, custom_functions(evaluation.outputs.values()))
    if modes.fault is None:
        raise EvaluationError(f"Forward mode failed: {modes.said or modes.why}.", torch_message=str(error)) from error
    return modes


def _failed(error: Exception, functions: tuple[type[Function], ...]) -> Modes:
    """A `jvp` that raises is said; what torch raises behind one is a rule that it breaks."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    guilty = raised_in(error, functions, "jvp")
    if guilty is not None:
        said = f"{named(guilty, 'jvp')} raises {type(error).__name__}: {text}"
        return Modes(why=said, said=said)
    if isinstance(error, NotImplementedError) or "does not support it" in text:
        return Modes(why=text)
    return Modes(fault=RULE, why=text)


def raised_in(error: Exception, functions: tuple[type[Function], ...], method: str) -> type[Function] | None:
    """The function in whose own method an error was raised."""
    own = [cls for cls in functions if getattr(cls, method) is not getattr(Function, method)]
    codes = {getattr(inspect.unwrap(getattr(cls, method)), "__code__", None): cls for cls in own}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return codes[trace.tb_frame.f_code]
        trace = trace.tb_next
    return None


def named(cls: type[Function], method: str) -> str:
    """`Cls.method` with its file and line, if it has them."""
    code = getattr(inspect.unwrap(getattr(cls, method)), "__code__", None)
    known = code is not None and bool(linecache.getlines(code.co_filename))  # a notebook's cells are no files
    place = f" ({file_called(code.co_filename)}, line {code.co_firstlineno})" if code is not None and known else ""
    return f"`{cls.__name__}.{method}`{place}"


def without_backward(evaluation: Evaluation) -> bool:
    """Whether there is a custom function that has a `jvp` and nothing for the backward pass."""
    return any(
        _has_own_jvp(cls) and cls.backward is Function.backward and cls.vjp is Function.vjp
        for cls in custom_functions(evaluation.outputs.values())
    )


def _has_own_jvp(cls: type[Function]) -> bool:
    return cls.jvp is not Function.jvp


def random_pair(function: RealFunction) -> tuple[Tensor, Tensor]:
    """v (m,) and u (n,), the same each time."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(function.m + function.n, generator=generator, dtype=torch.float64)
    return draw[: function.m], draw[function.m :]


def joined(layout: Layout, tensors: Mapping[str, Tensor], otherwise: Tensor) -> Tensor:
    """Named tensors as a vector; those that are missing come from `otherwise`."""
    parts = layout.split(otherwise)
    return layout.join([tensors.get(name, parts[name]) for name in layout.names])
