"""What a person should be warned of although nothing failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from jvpcli.answers.products import Products, own_backward
from jvpcli.errors import JvpError
from jvpcli.jacobians.contraction import entry_label
from jvpcli.jacobians.figures import LARGEST_DENSE
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.nearby import Kink, all_finite, direction, find_kink, generic_sides, is_uneven
from jvpcli.jacobians.operations import natures
from jvpcli.jacobians.passes import pushed, vjp
from jvpcli.jacobians.small import Derivatives, Maps
from jvpcli.jacobians.structure import artefacts_in_words
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import CASTS, ROUNDINGS, can_require_grad, is_imported
from jvpcli.language.values import dtype_name
from jvpcli.problem import Problem
from jvpcli.program import IMPORTED, Const, Equation, Ref, refs
from jvpcli.report import Notice

LONGEST = 10_000
"""Steps of a program up to which it is run again to look for a kink."""

MOST_PUSHED = 16
"""Columns with a NaN that are looked at in forward mode."""

LARGEST_AGAIN = 1 << 20
"""Entries of inputs and outputs up to which the program is run again."""


def notices(
    problem: Problem, derivatives: Derivatives, products: Products, losses: Sequence[str] | None = None
) -> tuple[Notice, ...]:
    """All warnings of an inspection, in the order in which they matter.

    `losses` are the kinds of what was lost in the evaluation (`gradcheck.losses`), where it was watched: code of the user's own
    runs no more than is needed.
    """
    evaluation, quiet = problem.evaluation, is_quiet(problem)
    shared, left_out, squares, last = problem.once("notices", lambda: _by_steps(problem))
    infinite = tuple(not_finite(products.vjp, "∂L/∂"))
    return (
        *derivatives.notices,
        *shared,
        *_unreached(problem, products),
        *left_out,
        *(() if quiet and not infinite else _silent_failures(problem, products, losses, bool(infinite))),
        *(() if quiet else (*_nonlinear(problem), *coupled_samples(problem))),
        *squares,
        *not_finite(evaluation.outputs),
        *infinite,
        *_artefacts(problem, derivatives),
        *(told_kink(problem, derivatives) if quiet else (*_overwritten(problem), *_kinks(problem, derivatives, losses))),
        *last,
    )


def _by_steps(problem: Problem) -> Sequence[tuple[Notice, ...]]:
    """The warnings that follow from the steps and the shapes alone: of names, of what is left out, of squares, of lengths."""
    evaluation = problem.evaluation
    no_tensors = (said("graph_break", "no_tensor", name=name, what=what) for name, what in evaluation.left_out.items())
    return (
        tuple(tied(problem)),
        (*_not_differentiable(evaluation), *no_tensors, *_drawn(evaluation)),
        tuple(crossed(evaluation)),
        (*_truncated(evaluation), *torch_warnings(evaluation)),
    )


def is_quiet(problem: Problem) -> bool:
    """Whether, wherever all numbers are finite and no derivative jumps, what `_by_steps` tells is all that is said."""
    return problem.once("quiet", lambda: not (problem.is_own or any(told(problem) for told in BY_VALUES)))


SENTENCES = {
    "left_out": "{name} ({dtype}) carries no gradient and is left out of L",
    "drawn": "`{step}` draws random numbers, and PyTorch's derivative of a draw is zero: nothing flows back through it{cure}",
    "no_tensor": "{name} is {what}, not a tensor, and is left out",
    "not_finite": "{count} of {size} entries of {name} {are} not finite, the first {entry} = {number}",
    "kink": "there is a kink at {entry} = {value}: the derivatives from below and from above differ, and {shown}",
    "step": "there is a jump at {entry} = {value}: a little to its two sides the outputs themselves differ",
    "jump": "the derivatives jump at this point: with all entries moved a little, to the one side and to the other, that to "
    "{entry} differs, and the one shown is of this point alone",
    "resized": "the shape of {name} changes at this point: it is {here}, and {there} with the inputs moved a little; the "
    "derivatives shown are those where it is {here}",
    "uneven": "autograd's derivative by {entry} is not the function's at this point: a little to its two sides the derivatives "
    "by {entry} are alike, and the one that autograd puts together here is another (`jvp check` tells which)",
    "formula": "PyTorch's formula for the derivative fails at this point: a little to its two sides the derivatives by {entry} "
    "are alike, and the one that autograd gives here is another (`jvp check` tells which)",
    "second_kink": "the second derivative jumps at {entry} = {value}: those from below and from above differ, and {shown}",
    "second_jump": "the second derivatives jump at this point: with all entries moved a little, to the one side and to the "
    "other, one by {entry} differs, and the one shown is of this point alone",
    "asymmetric": "the second derivatives by {entry} and by {other} depend on the order: the Hessian is not symmetric; a "
    "backward of {whose} is not the derivative of its forward",
    "repeated": "the {kind} {number} of a decomposition is repeated here: the {vectors} of a repeated {kind} are not "
    "differentiable; only what does not depend on the choice among them has a derivative",
    "finite_forward": "{entries} of ∂{y}/∂{x} that PyTorch's own passes (a backward pass a row) give as NaN, as 0 times ∞ or "
    "NaN, {are} finite in forward mode: there {entry} = {number}",
    "overwritten": "`{function}` writes to one place more than once here: what is written last stays, and PyTorch's gradient "
    "goes to all that was written there, as if each had stayed (`jvp check` tells which entries are wrong)",
    "nonlinear": "{who} is not linear: a multiple of the gradient that arrives from {name} does not make that multiple of what "
    "it sends on, so that for another v the result need not be the product with this Jacobian",
    "coupled": "`{step}` {how}: the samples of the batch are coupled, and the gradient of one reaches the others",
    "crossed": "`{step}` broadcasts the shapes {column} and {row} to {result}: each entry of the one meets every entry of the "
    "other; to compare entry by entry, .squeeze(-1) what has shape {column}",
    "tied": "{other} is the same parameter as {name}: what stands under {name} is the derivative by both together",
    "decided": "the inputs' values decide what runs (by a condition, or as a size or an index): the forms are of what runs here, "
    "and hold where the same does",
    "truncated": "{name} has {size} entries: more than {most} are not written out",
}
"""By the code of a claim its sentence."""


def said(code: str, claim: str, **words: object) -> Notice:
    """The notice with the sentence of its claim."""
    return Notice(code, SENTENCES[claim].format(**words), claim)


def tied(problem: Problem) -> Iterator[Notice]:
    """That several names are those of one parameter."""
    yield from (said("tied", "tied", other=other, name=name) for other, name in problem.tied.items())


def _unreached(problem: Problem, products: Products) -> Iterator[Notice]:
    missing = [pair for pair, gradient in products.contributions.items() if gradient is None]
    if missing:
        from jvpcli.answers.unreached import unreached  # seldom needed

        yield from unreached(problem, missing)


def _not_differentiable(evaluation: Evaluation) -> Iterator[Notice]:
    for name, y in evaluation.outputs.items():
        if not y.requires_grad:
            yield said("graph_break", "left_out", name=name, dtype=dtype_name(y.dtype))


DRAWING = {
    "bernoulli": "",
    "poisson": "",
    "normal": "; mean + std * torch.randn_like(mean) draws the same with a gradient for both",
}
"""Functions that draw by a tensor's numbers, and what draws likewise with a gradient."""


def _drawn(evaluation: Evaluation) -> Iterator[Notice]:
    """That random numbers are drawn by numbers whose gradient is asked for."""
    for step in evaluation.tape:
        value = evaluation.values.get(step.slot) if step.word in DRAWING else None
        if isinstance(value, Tensor) and value.requires_grad:
            text = step.word if evaluation.program is None else evaluation.program.step_text(step)
            yield said("graph_break", "drawn", step=text, cure=DRAWING[step.word])


def not_finite(tensors: Mapping[str, Tensor], what: str = "") -> Iterator[Notice]:
    """A notice for each tensor with entries that are not finite; `what` stands before its name."""
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            bad = ~tensor.isfinite()
            place = tuple(bad.nonzero()[0].tolist())
            number = tensor[place].item()
            count = int(bad.sum())
            yield said(
                "nonfinite",
                "not_finite",
                count=count,
                size=tensor.numel(),
                name=what + name,
                are="is" if count == 1 else "are",
                entry=entry_label(what + name, place),
                number=number,
            )


def _artefacts(problem: Problem, derivatives: Derivatives) -> Iterator[Notice]:
    """A notice for each map with entries that PyTorch's own passes give as NaN, and that are zero, or finite in forward mode."""
    for (y, x), each in derivatives.maps.items():
        count = each.artefacts if isinstance(each, DenseMap) else 0
        if count:
            yield artefacts_in_words(y, x, count)
        if isinstance(each, DenseMap) and not problem.is_own and bool(each.matrix.isnan().any()):
            yield from _finite_forward(problem, y, x, each.matrix)


def _finite_forward(problem: Problem, y: str, x: str, matrix: Tensor) -> Iterator[Notice]:
    """That entries of ∂y/∂x are NaN by backward passes alone: a zero cotangent meets ∞ on the way, and no tangent does."""
    leaves, columns = problem.leaves, matrix.isnan().any(0).nonzero().reshape(-1)[:MOST_PUSHED]
    found: list[tuple[int, int, float]] = []
    for column in columns.tolist():
        tangents = {name: torch.zeros_like(leaf).detach() for name, leaf in leaves.items()}
        tangents[x].reshape(-1)[column] = 1
        with suppress(JvpError, RuntimeError):  # an operation has no forward mode
            moved = pushed(problem, tangents).get(y)
            if moved is not None:
                finite = matrix[:, column].isnan() & moved.reshape(-1).isfinite()
                found += [(row, column, float(moved.reshape(-1)[row])) for row in finite.nonzero().reshape(-1).tolist()]
    if found:
        row, column, number = min(found)
        places = (torch.unravel_index(torch.tensor(at), t.shape) if t.dim() else () for at, t in (
            (row, problem.evaluation.outputs[y]), (column, leaves[x])))  # fmt: skip
        above, below = (entry_label(name, tuple(map(int, place))) for name, place in zip((y, x), places, strict=True))
        entries, are = ("1 entry", "is") if len(found) == 1 else (f"{len(found)} entries", "are")
        words = {"entries": entries, "are": are, "y": y, "x": x, "entry": f"∂{above}/∂{below}", "number": f"{number:g}"}
        yield said("nonfinite", "finite_forward", **words)


def _overwritten(problem: Problem) -> Iterator[Notice]:
    """That a place is written to twice, and PyTorch's gradient goes to both."""
    if problem.is_own or _may_overwrite(problem):
        from jvpcli.jacobians.duplicates import overwritten_in  # seldom needed

        function = overwritten_in(problem.differentiable.values())
        if function is not None:
            yield said("degenerate", "overwritten", function=function)


def _called(problem: Problem) -> frozenset[str]:
    """What the steps are called, without underscores behind it; IMPORTED beside the name of a function of the user's own."""
    return problem.once("called", lambda: frozenset([name for step in problem.evaluation.tape for name in _names(step)]))


def _names(step: Equation) -> Sequence[str]:
    name = step.word.rstrip("_")
    return (IMPORTED, name) if is_imported(step.op) else (name,)


def _may_overwrite(problem: Problem) -> bool:
    """Whether a step may write to a place twice."""
    return not _called(problem).isdisjoint(WRITING)


def _kinks(problem: Problem, derivatives: Derivatives, losses: Sequence[str] | None) -> Iterator[Notice]:
    """What happens to the derivatives around the point: vectors without one, or a jump."""
    degenerate = tuple(repeated(problem))
    if degenerate:
        yield from degenerate
        return
    failed = tuple(_failed_formula(problem))
    if failed:
        yield from failed
        return
    if losses is not None and not losses and _is_smooth(problem):
        return
    yield from told_kink(problem, derivatives)


def _failed_formula(problem: Problem) -> Iterator[Notice]:
    """That a determinant's gradient is taken where its matrix has no inverse, and comes out otherwise than nearby."""
    if _determines(problem):
        from jvpcli.jacobians.kinks import failed_formula  # seldom needed

        place = None
        with suppress(JvpError, RuntimeError):  # the program refuses points nearby
            place = failed_formula(problem)
        if place is not None:
            yield said("degenerate", "formula", entry=entry_label(*place))


def _determines(problem: Problem) -> bool:
    return "det" in _called(problem)


def repeated(problem: Problem) -> Iterator[Notice]:
    """That the vectors of a repeated eigenvalue or singular value take part."""
    if _may_decompose(problem):
        from jvpcli.jacobians.duplicates import repeated_in  # seldom needed

        found = repeated_in(problem.differentiable.values())
        if found is not None:
            words = {"kind": found.kind, "vectors": found.vectors, "number": f"{found.number:.4g}"}
            yield said("degenerate", "repeated", **words)


def _may_decompose(problem: Problem) -> bool:
    """Whether a step may give the vectors of a decomposition."""
    return not _called(problem).isdisjoint(DECOMPOSITIONS)


def told_kink(problem: Problem, derivatives: Derivatives, order: str = "") -> Iterator[Notice]:
    """What the derivatives do where they jump.

    Args:
        problem: whose derivatives they are.
        derivatives: its maps, and generic gradients on both sides, where they are known.
        order: "second_" where the problem is a gradient: what it does itself there is told by its own problem.
    """
    if derivatives.sides is None and len(problem.evaluation.tape) > LONGEST:
        return
    try:
        yield from _jumps(problem, derivatives, order)
    except Exception as error:  # the function ends here: there is no other side to look at
        if not (problem.is_own or isinstance(error, (JvpError, RuntimeError))):
            raise


def _jumps(problem: Problem, derivatives: Derivatives, order: str) -> Iterator[Notice]:
    sides = generic_sides(problem, derivatives.sides)
    kink = None if sides is None else find_kink(problem, sides)
    may_be_uneven = kink is None and not order and (problem.is_own or not _is_smooth(problem))
    seems_uneven = may_be_uneven and sides is not None and is_uneven(problem, derivatives.maps, sides)
    if kink is None and not seems_uneven and (order or problem.is_own or not _may_leap(problem)):
        return
    from jvpcli.jacobians import kinks  # loaded only where there is something to look at

    uneven = kinks.find_uneven(problem.in_double()) if seems_uneven else None
    if uneven is not None:
        yield said("kink", "uneven", entry=entry_label(uneven.input, uneven.index))
        return
    changes = kinks.resized(problem)
    if changes is not None:
        yield said("kink", "resized", **changes)
        return
    claim = kinks.STEP if kink is None else kinks.what_happens(problem, kink)
    kink = kink or kinks.find_leap(problem)
    if kink is not None and claim is not None and not (order and claim == "step"):
        has_number = not _is_nan(problem, derivatives.maps, kink)
        shown = "the one shown is PyTorch's choice" if has_number else "PyTorch has no number there"
        yield said("kink", order + claim, entry=entry_label(kink.input, kink.index), value=f"{kink.value:g}", shown=shown)


def _is_nan(problem: Problem, maps: Maps, kink: Kink) -> bool:
    """Whether a derivative by the entry where there is a kink is not a number."""
    along = torch.zeros_like(problem.evaluation.inputs[kink.input].detach())
    along[kink.index] = 1
    return any(bool(block.pushforward(along).isnan().any()) for (_, x), block in maps.items() if x == kink.input)


def _may_leap(problem: Problem) -> bool:
    """Whether a step's value, or what one decides, may jump where no derivative does."""
    return _leaps(problem) or any(_of_zero(step, problem.evaluation) for step in _powers(problem))


def _leaps(problem: Problem) -> bool:
    is_complex = any(x.is_complex() for x in problem.evaluation.inputs.values())
    return not _called(problem).isdisjoint(LEAPING | CUT if is_complex else LEAPING)


def _powers(problem: Problem) -> Sequence[Equation]:
    """The steps that take a power by an exponent that was computed, or is an input."""
    tape = problem.evaluation.tape if "pow" in _called(problem) else ()
    return [step for step in tape if step.word == "pow" and len(step.operands) == 2 and isinstance(step.operands[1], Ref)]


def _of_zero(step: Equation, evaluation: Evaluation) -> bool:
    """Whether a power is of zeros and differentiated by its exponent: that of zero itself is 1, beside 0 and infinity."""
    base, exponent = (evaluation.values.get(each.slot) if isinstance(each, Ref) else getattr(each, "value", None)
                      for each in step.operands)  # fmt: skip
    moves = isinstance(exponent, Tensor) and exponent.requires_grad
    return moves and bool((base == 0).any() if isinstance(base, Tensor) else base == 0)


LEAPING_NAMES = """
floordiv mod remainder fmod frac sign sgn heaviside gt lt ge le eq ne argmax argmin
hardshrink threshold mode angle atan2 arctan2 pinv pinverse lstsq
"""
LEAPING = frozenset([name.rstrip("_") for name in (*ROUNDINGS, *CASTS, *LEAPING_NAMES.split())])
"""Functions whose value jumps."""

CUT_NAMES = "log log2 log10 log1p sqrt rsqrt pow asin acos atan asinh acosh atanh arcsin arccos arctan"
CUT = frozenset(CUT_NAMES.split())
"""Functions whose value jumps across a line of complex numbers."""

WRITING = frozenset({"scatter", "index_copy", "index_put", "put", "setitem", IMPORTED})
"""Functions that may write to one place twice."""

DECOMPOSITIONS = frozenset(
    {"eigh", "eig", "svd", "eigvals", "eigvalsh", "svdvals", "lobpcg", "pca_lowrank", "svd_lowrank", IMPORTED}
)
"""Functions that may give the vectors of a repeated eigenvalue or singular value."""


def _silent_failures(
    problem: Problem, products: Products, losses: Sequence[str] | None, infinite: bool
) -> Iterator[Notice]:
    """Failures that torch is silent about: measured where a look over the tape says that there is anything to suspect.

    `infinite` says whether a product has an entry that is not finite.
    """
    evaluation = problem.evaluation
    spoilt = infinite and any(bool(g.isnan().any()) for g in products.vjp.values())
    suspicious = _suspects(problem) if losses is None else any(kind != "decision" for kind in losses)
    if not (spoilt or suspicious):
        return
    if sum(t.numel() for t in (*evaluation.inputs.values(), *evaluation.outputs.values())) > LARGEST_AGAIN:
        return
    from jvpcli.answers.silent import measured  # loads much, and is seldom needed

    yield from measured(problem, products, suspicious, spoilt)


def _suspects(problem: Problem) -> bool:
    evaluation = problem.evaluation
    return problem.once("suspicious", lambda: any(_suspicious(step, evaluation) for step in evaluation.tape))


def _is_smooth(problem: Problem) -> bool:
    """Whether all operations are smooth, and nothing is decided by values that is seen: there is no kink then."""

    def asked() -> bool:
        leaves, by_values = list(problem.leaves.values()), (problem.weighed, problem.decided)
        return all(each.smooth for y in problem.differentiable for each in natures(problem.below(y), leaves, *by_values))

    return problem.once("smooth", asked)


def _suspicious(step: Equation, evaluation: Evaluation) -> bool:
    """Whether a step may lose a gradient: numbers without one from a tensor with one, a rounding, code of the user's."""
    if not _may_lose(step, evaluation.values.get(step.slot)):
        return False
    read = map(evaluation.values.get, step.reads())
    return any(isinstance(value, Tensor) and value.requires_grad for value in read)


def _may_lose(step: Equation, value: object) -> bool:
    """Whether a step that has given this may lose a gradient, if it is given one."""
    name = step.word
    if is_imported(step.op) or name in ROUNDINGS or name == "floordiv" or any(k == "rounding_mode" for k, _ in step.keywords):
        return True
    if isinstance(value, Tensor):
        return not value.requires_grad and (can_require_grad(value) or name in CASTS)
    return isinstance(value, (float, complex)) or (name in CASTS and not isinstance(value, bool))


def _nonlinear(problem: Problem) -> Iterator[Notice]:
    """That a backward or a hook of the user's own is no product with a Jacobian at all, such as one that clips."""
    if not problem.is_own or not (problem.custom or problem.evaluation.hooked):
        return
    leaves = list(problem.leaves.values())
    for name, y in problem.differentiable.items():
        v = direction(y.detach(), 23)
        once = vjp(y, v, leaves)
        pairs = [(t, g, w) for t in (2, -2) for g, w in zip(once, vjp(y, t * v, leaves), strict=True) if g is not None]
        if any(w is None or not torch.allclose(t * g, w, rtol=1e-3, equal_nan=True) for t, g, w in pairs):
            yield said("nonlinear", "nonlinear", who=own_backward(problem), name=name)
            return


def _truncated(evaluation: Evaluation) -> Iterator[Notice]:
    for name, tensor in (*evaluation.inputs.items(), *evaluation.outputs.items()):
        if tensor.numel() > LARGEST_DENSE:
            yield said("truncated", "truncated", name=name, size=tensor.numel(), most=LARGEST_DENSE)


def torch_warnings(evaluation: Evaluation) -> tuple[Notice, ...]:
    """Torch's warnings about shapes, in plain words."""
    if not evaluation.said:
        return ()
    from jvpcli.messages.matcher import spoken  # loaded only where something was said

    return tuple(spoken(evaluation.said))


TRAINING_AT = 5
"""The position of `training` among the operands of all the functions below."""

BATCH_NORMS = frozenset(
    f"call:torch.{path}" for path in ("nn.functional.batch_norm", "batch_norm", "native_batch_norm")
)


def coupled_samples(problem: Problem) -> Iterator[Notice]:
    """A notice for each step that makes an output sample depend on other samples of the batch."""
    evaluation = problem.evaluation
    program = evaluation.program
    if program is None:
        return
    for step, how in _couples(problem):
        if _reaches_others(step, evaluation):
            yield said("coupled", "coupled", step=program.step_text(step), how=how)


def _couples(problem: Problem) -> Sequence[tuple[Equation, str]]:
    """The steps that may do so, and how."""
    evaluation = problem.evaluation
    return problem.once("coupling", lambda: [(step, how) for step in evaluation.tape if (how := _how(step, evaluation))])


def crossed(evaluation: Evaluation) -> Iterator[Notice]:
    """A notice for each step that makes a square of a column (n, 1) and a row (n,), on the way to single numbers alone.

    A column that was made of n numbers in the text itself was meant to be one.
    """
    if evaluation.program is None or any(y.dim() for y in evaluation.outputs.values()):
        return
    shapes = {slot: tuple(x.shape) for slot, x in evaluation.values.items() if isinstance(x, Tensor)}
    made = {step.slot: step for step in evaluation.tape}
    for step in evaluation.tape:
        read = [operand.slot for operand in step.operands if isinstance(operand, Ref) and operand.slot in shapes]
        if len(read) != 2 or len(step.operands) != 2 or step.keywords:
            continue
        row, column = sorted(read, key=lambda slot: len(shapes[slot]))
        n = shapes[row][0] if len(shapes[row]) == 1 else 0
        if n < 2 or shapes[column] != (n, 1) or shapes.get(step.slot) != (n, n):
            continue
        if column in made and any(shapes.get(slot) == (n,) for operand in made[column].operands for slot in refs(operand)):
            continue
        text = evaluation.program.step_text(step)
        yield said("crossed", "crossed", step=text, column=shapes[column], row=shapes[row], result=(n, n))


def _operand(step: Equation, evaluation: Evaluation) -> object:
    """What a step is given first; None of a constant."""
    operand = step.operands[0] if step.operands else dict(step.keywords).get("input")
    return evaluation.values.get(operand.slot) if isinstance(operand, Ref) else None


def _reaches_others(step: Equation, evaluation: Evaluation) -> bool:
    """Whether the gradient of the first sample of a step's result reaches other samples of its operand."""
    x = _operand(step, evaluation)
    y = evaluation.values.get(step.slot)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1] or not y.requires_grad:
        return False
    try:
        (gradient,) = vjp(y[0], direction(y[0].detach(), 17), [x])
    except RuntimeError:  # changed in place since
        return False
    return gradient is not None and bool((gradient[1:] != 0).any())


def _how(step: Equation, evaluation: Evaluation) -> str | None:
    if is_imported(step.op):
        return _how_imported(step, evaluation)
    if step.op not in BATCH_NORMS or not _given(step, "training", TRAINING_AT):
        return None
    x = _operand(step, evaluation)
    if not isinstance(x, Tensor) or not x.requires_grad or x.dim() < 2 or x.shape[0] < 2:
        return None
    return "normalises by the mean and variance over the batch (training=True)"


def _given(step: Equation, name: str, position: int) -> object:
    """A constant argument; None where there is none."""
    operand = step.operands[position] if len(step.operands) > position else dict(step.keywords).get(name)
    return operand.value if isinstance(operand, Const) else operand


def _how_imported(step: Equation, evaluation: Evaluation) -> str | None:
    from jvpcli.language.imports import ImportedFunction  # loaded already, since a function of it was called

    name = step.target.removeprefix(IMPORTED)
    function = evaluation.functions.get(name)
    module = function.function if isinstance(function, ImportedFunction) else None
    x = _operand(step, evaluation)
    if not isinstance(module, nn.Module) or not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] < 2:
        return None
    if any(isinstance(part, _BatchNorm) and part.training for part in module.modules()):
        return f"holds a batch norm in training mode ({name}.eval() takes its running statistics instead)"
    return None


BY_VALUES = _suspects, _couples, _may_overwrite, _may_decompose, _determines, _leaps, _powers
"""What tells for each warning whether the numbers at a point may call for it, but for those of numbers that are not finite, and
of derivatives that jump."""
