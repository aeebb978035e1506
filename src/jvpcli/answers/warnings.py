"""What a person should be warned of although nothing failed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from jvpcli.answers.products import Products
from jvpcli.errors import JvpError
from jvpcli.jacobians.contraction import entry_label
from jvpcli.jacobians.figures import LARGEST_DENSE
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.nearby import Kink, all_finite, find_kink
from jvpcli.jacobians.small import Derivatives
from jvpcli.jacobians.structure import artefacts_in_words
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import CASTS, ROUNDINGS, is_imported
from jvpcli.language.values import dtype_name
from jvpcli.problem import Problem
from jvpcli.program import Const, Equation, Ref, refs
from jvpcli.report import Notice

LONGEST = 10_000
"""Steps of a program up to which it is run again to look for a kink."""

LARGEST_AGAIN = 1 << 20
"""Entries of inputs and outputs up to which the program is run again."""


def notices(problem: Problem, derivatives: Derivatives, products: Products) -> tuple[Notice, ...]:
    """All warnings of an inspection, in the order in which they matter."""
    evaluation = problem.evaluation
    return (
        *derivatives.notices,
        *_unreached(problem, products),
        *_not_differentiable(evaluation),
        *_silent_failures(problem, products),
        *coupled_samples(evaluation),
        *_nonfinite(evaluation, products),
        *_artefacts(derivatives),
        *_kinks(problem, derivatives),
        *_truncated(evaluation),
        *torch_warnings(evaluation),
    )


def _unreached(problem: Problem, products: Products) -> Iterator[Notice]:
    for (y, x), gradient in products.contributions.items():
        if gradient is not None:
            continue
        if not depends(problem.evaluation, y, x):
            yield Notice("unused_input", f"∂{y}/∂{x} is zero because {x} doesn't reach {y}")
        elif _follows(problem, y, x):
            yield Notice(
                "graph_break",
                f"{y} is computed from {x}, but no gradient flows back from {y} to {x}: the graph is cut on the way "
                "(.detach(), .item(), an integer cast or a comparison), and the derivative shown is zero",
            )
        else:
            yield Notice(
                "unused_input", f"∂{y}/∂{x} is zero: {y} follows the shape of {x}, or a sign, and not its values"
            )


def _follows(problem: Problem, output: str, input_name: str) -> bool:
    """Whether the output changes with the input's values, and not only with its shape: looked for at a few places."""
    x = problem.leaves[input_name].detach()
    tried = False
    for other in (-x, 2 * x + 1, x.flip(tuple(range(x.dim()))) - 3):
        try:
            y = problem.at({input_name: other}).outputs.get(output)
        except (JvpError, RuntimeError):
            continue
        if y is None:  # how many outputs there are follows from the values
            return True
        tried = True
        here = problem.evaluation.outputs[output]
        if y.shape != here.shape or not torch.allclose(y, here, rtol=0, atol=0, equal_nan=True):
            return True
    return not tried


def depends(evaluation: Evaluation, output: str, input_name: str) -> bool:
    """Whether the output is computed from the input at all, differentiably or not, by what the tape reads."""
    if evaluation.program is None:
        return False
    reached = {list(evaluation.inputs).index(input_name)}
    for equation in evaluation.tape:
        read = {slot for operand in equation.operands for slot in refs(operand)}
        read |= {slot for _, operand in equation.keywords for slot in refs(operand)}
        if read & reached:
            reached.add(equation.slot)
    wanted = evaluation.outputs[output]
    return any(_holds(evaluation.values.get(slot), wanted) for slot in reached)


def _holds(value: object, wanted: Tensor) -> bool:
    """Whether a slot's value is the tensor, or a sequence or named result that holds it."""
    return value is wanted or (isinstance(value, (tuple, list)) and any(_holds(item, wanted) for item in value))


def _not_differentiable(evaluation: Evaluation) -> Iterator[Notice]:
    for name, y in evaluation.outputs.items():
        if not y.requires_grad:
            yield Notice("graph_break", f"{name} ({dtype_name(y.dtype)}) carries no gradient and is left out of L")


def _nonfinite(evaluation: Evaluation, products: Products) -> Iterator[Notice]:
    for what, tensors in (("", evaluation.outputs), ("∂L/∂", products.vjp)):
        for name, tensor in tensors.items():
            if not all_finite(tensor):
                bad = ~tensor.isfinite()
                place = tuple(bad.nonzero()[0].tolist())
                number = tensor[place].item()
                count = int(bad.sum())
                yield Notice(
                    "nonfinite",
                    f"{count} of {tensor.numel()} entries of {what}{name} {'is' if count == 1 else 'are'} not finite, "
                    f"the first {entry_label(what + name, place)} = {number}",
                )


def _artefacts(derivatives: Derivatives) -> Iterator[Notice]:
    """A notice for each map with entries that PyTorch's own passes give as NaN, and that are zero."""
    for (y, x), each in derivatives.maps.items():
        count = each.artefacts if isinstance(each, DenseMap) else 0
        if count:
            yield artefacts_in_words(y, x, count)


def _kinks(problem: Problem, derivatives: Derivatives) -> Iterator[Notice]:
    if derivatives.sides is None and len(problem.evaluation.tape) > LONGEST:
        return
    try:
        kink = find_kink(problem, derivatives.sides)
    except (JvpError, RuntimeError):  # the function ends here: there is no other side to look at
        return
    if kink is not None:
        yield Notice("kink", _about(kink))


def _about(kink: Kink) -> str:
    return (
        f"there is a kink at {entry_label(kink.input, kink.index)} = {kink.value:g}: the derivatives from below and from "
        "above differ, and the one shown is PyTorch's choice"
    )


def _silent_failures(problem: Problem, products: Products) -> Iterator[Notice]:
    """Failures that torch is silent about: measured where a look over the tape says that there is anything to suspect."""
    evaluation = problem.evaluation
    entries = sum(t.numel() for t in (*evaluation.inputs.values(), *evaluation.outputs.values()))
    spoilt = any(bool(gradient.isnan().any()) for gradient in products.vjp.values())
    suspicious = not evaluation.tape or any(_suspicious(step, evaluation) for step in evaluation.tape)
    if entries > LARGEST_AGAIN or not (spoilt or suspicious):
        return
    from jvpcli.answers.silent import measured  # loads much, and is seldom needed

    yield from measured(problem, products, suspicious, spoilt)


def _suspicious(step: Equation, evaluation: Evaluation) -> bool:
    """Whether a step may lose a gradient: numbers without one from a tensor with one, a rounding, code of the user's."""
    operands = (*step.operands, *(operand for _, operand in step.keywords))
    read = [evaluation.values.get(slot) for operand in operands for slot in refs(operand)]
    if not any(isinstance(value, Tensor) and value.requires_grad for value in read):
        return False
    name = step.target.rpartition(".")[2]
    if (
        is_imported(step.op)
        or name in ROUNDINGS
        or name == "floordiv"
        or any(k == "rounding_mode" for k, _ in step.keywords)
    ):
        return True
    value = evaluation.values.get(step.slot)
    if isinstance(value, Tensor):
        numbers = value.is_floating_point() or value.is_complex() or name in CASTS
        return numbers and not value.requires_grad
    return isinstance(value, (float, complex)) or (name in CASTS and not isinstance(value, bool))


def _truncated(evaluation: Evaluation) -> Iterator[Notice]:
    for name, tensor in (*evaluation.inputs.items(), *evaluation.outputs.items()):
        if tensor.numel() > LARGEST_DENSE:
            yield Notice(
                "truncated", f"{name} has {tensor.numel()} entries: more than {LARGEST_DENSE} are not written out"
            )


def torch_warnings(evaluation: Evaluation) -> tuple[Notice, ...]:
    """Torch's warnings about shapes, in plain words."""
    if not evaluation.said:
        return ()
    from jvpcli.messages.matcher import spoken  # loaded only where something was said

    return tuple(spoken(evaluation.said))


TRAINING_AT = 5
"""The position of `training` among the operands of all the functions below."""

IMPORTED = "import."

BATCH_NORMS = frozenset(
    f"call:torch.{path}" for path in ("nn.functional.batch_norm", "batch_norm", "native_batch_norm")
)


def coupled_samples(evaluation: Evaluation) -> Iterator[Notice]:
    """A notice for each step that makes an output sample depend on other samples of the batch."""
    for step in evaluation.tape:
        how = _how(step, evaluation)
        if how is not None and evaluation.program is not None:
            yield Notice(
                "coupled",
                f"`{evaluation.program.text(step.span)}` {how}: the samples of the batch are coupled, and the gradient of one "
                "reaches the others",
            )


def _how(step: Equation, evaluation: Evaluation) -> str | None:
    if is_imported(step.op):
        return _how_imported(step, evaluation)
    operand = step.operands[0] if step.operands else dict(step.keywords).get("input")
    x = evaluation.values.get(operand.slot) if isinstance(operand, Ref) else None
    if not isinstance(x, Tensor) or not x.requires_grad or x.dim() < 2 or x.shape[0] < 2:
        return None
    if step.op in BATCH_NORMS and _given(step, "training", TRAINING_AT):
        return "normalises by the mean and variance over the batch (training=True)"
    return None


def _given(step: Equation, name: str, position: int) -> object:
    """A constant argument; None where there is none."""
    operand = step.operands[position] if len(step.operands) > position else dict(step.keywords).get(name)
    return operand.value if isinstance(operand, Const) else operand


def _how_imported(step: Equation, evaluation: Evaluation) -> str | None:
    from jvpcli.language.imports import ImportedFunction  # loaded already, since a function of it was called

    name = step.target.removeprefix(IMPORTED)
    function = evaluation.functions.get(name)
    module = function.function if isinstance(function, ImportedFunction) else None
    operand = step.operands[0] if step.operands else None
    x = evaluation.values.get(operand.slot) if isinstance(operand, Ref) else None
    if not isinstance(module, nn.Module) or not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] < 2:
        return None
    if any(isinstance(part, _BatchNorm) and part.training for part in module.modules()):
        return f"holds a batch norm in training mode ({name}.eval() takes its running statistics instead)"
    return None
