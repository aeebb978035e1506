"""No gradient reaches any input: where the graph ends, why, and what keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from jvpcli.command import command
from jvpcli.errors import JvpError, NotDifferentiableError
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.failures import in_sentence
from jvpcli.language.values import dtype_name, is_expression
from jvpcli.messages.matcher import worded
from jvpcli.program import Equation, refs
from jvpcli.request import Request

NUMBERS = ("item", "tolist", "float", "int", "bool", "__float__", "__int__")
COPIES = ("tensor", "as_tensor", "asarray", "scalar_tensor")
CUTS = ("detach", "detach_", "data")


def not_differentiable(evaluation: Evaluation) -> JvpError:
    """None of the outputs can be differentiated."""
    last = end_of_graph(evaluation)
    why, cure = (None, None) if last is None else _reason(last, evaluation)
    kinds = {name: y.dtype for name, y in evaluation.outputs.items()}
    integers = [f"{name} is {dtype_name(d)}" for name, d in kinds.items() if not (d.is_floating_point or d.is_complex)]
    if last is None:
        names = " or ".join(evaluation.wrt)
        why = (
            f"{'; '.join(integers)}: integers have no derivatives."
            if integers
            else f"No step gets the numbers of {names}."
        )
    program = evaluation.program
    error = NotDifferentiableError(
        f"no gradient reaches {', '.join(evaluation.wrt)} from {', '.join(evaluation.outputs)}",
        explanation=why or "",
        hints=(cure,) if cure else (),
        torch_message="element 0 of tensors does not require grad and does not have a grad_fn",
        span=last.span if last and program else None,
        source=program.source if last and program else None,
    )
    return worded(error)


def end_of_graph(evaluation: Evaluation) -> Equation | None:
    """The first step that gets something with a gradient and gives numbers without one."""
    for step in evaluation.tape:
        value = evaluation.values.get(step.slot)
        numbers = isinstance(value, (Tensor, float, complex, list)) and not _carries(value)
        if numbers and any(_carries(x) for x in _operands(step, evaluation)):
            return step
    return None


def _carries(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _operands(step: Equation, evaluation: Evaluation) -> list[object]:
    parts = (*step.operands, *(operand for _, operand in step.keywords))
    return [evaluation.values.get(slot) for operand in parts for slot in refs(operand)]


def _reason(step: Equation, evaluation: Evaluation) -> tuple[str, str | None]:
    """Why the graph ends at a step, and what would keep it."""
    name, value, what = step.target.rpartition(".")[2], evaluation.values.get(step.slot), in_sentence(step)
    if name in CUTS:
        return (
            f"{what} ends the graph: what comes out counts as a constant.",
            f"Leave {what} out where the gradient should pass.",
        )
    if name in COPIES:
        cure = "torch.stack([a, b]) makes one tensor of several and keeps the graph."
        return f"{what} copies the numbers alone: the graph ends here.", cure
    if name in NUMBERS or not isinstance(value, Tensor):
        return (
            f"{what} gives plain Python numbers: the graph ends here.",
            "Stay with tensors: they can be used like numbers.",
        )
    kind = dtype_name(value.dtype)
    if kind == "bool":
        why = f"{what} gives booleans, which stay as they are when the input moves a little: the graph ends here."
        return why, "torch.where(condition, a, b) picks between two values, and the gradient flows through those."
    if name in ("argmax", "argmin", "argsort"):
        return f"{what} gives places ({kind}): the graph ends here.", "amax, amin, sort and softmax have derivatives."
    if not (value.is_floating_point() or value.is_complex()):
        return f"{what} gives {kind}: integers have no derivatives, so the graph ends here.", None
    if name.endswith("_like") or name.startswith("new_"):
        return f"{what} takes the shape alone, not the numbers: the graph ends here.", None
    return f"{what} has no derivative: the graph ends here.", None


def nothing_to_differentiate(request: Request, inputs: Mapping[str, Tensor]) -> JvpError:
    """None of the inputs is of floating point."""
    kinds = ", ".join(f"{name} is {dtype_name(x.dtype)}" for name, x in inputs.items())
    floats = command(_in_floats(request)) if kinds else None
    error = NotDifferentiableError(
        "there is nothing to differentiate: " + (kinds or "the expression uses no input"),
        explanation="A derivative needs at least one floating or complex input.",
        hints=(floats,) if floats else (),
        torch_message="only Tensors of floating point and complex dtype can require gradients" if kinds else None,
    )
    return worded(error)


def _in_floats(request: Request) -> Request:
    """The request with floating inputs: of numbers by their dtype, of expressions by a cast."""
    inputs = {
        name: f"({value}).float()" if isinstance(value, str) and is_expression(value) else value
        for name, value in request.inputs.items()
    }
    return replace(request, inputs=inputs, dtype="float32")
