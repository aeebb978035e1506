"""Inputs that no gradient reaches from an output: whether the output is computed from them, and changes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from jvpcli.errors import JvpError
from jvpcli.language.course import decides
from jvpcli.language.evaluate import Evaluation, followers
from jvpcli.language.operations import is_imported
from jvpcli.problem import Problem
from jvpcli.program import Program
from jvpcli.report import Notice

SENTENCES = {
    "no_path": "∂{y}/∂{x} is zero because {x} doesn't reach {y}",
    "no_path_here": "∂{y}/∂{x} is zero here: nothing that {y} is computed from at these values reads {x}",
    "shape_only": "∂{y}/∂{x} is zero: {y} is computed from the shape of {x}, not from its numbers",
    "cut": "{y} changes with {x}, but autograd sees no path from {y} back to {x}: the graph is cut on the way (by .detach(), "
    ".item(), an integer cast, a comparison or a decision, for instance), and the derivative shown is zero",
    "cut_untested": "{y} is computed from {x}, but autograd sees no path from {y} back to {x}, and the derivative shown is zero",
    "steady": "{y} is computed from {x}, but autograd sees no path from {y} back to {x}, and {y} was the same at {count} other "
    "values of {x}",
    "no_effect": "autograd sees no path from {y} back to {x}, and {y} was the same at {count} other values of {x}: it seems not "
    "to use {x}",
}
"""By the code of a claim its sentence."""

REACHED = "; what its graph does reach is {leaves}"
"""Added where the graph ends at tensors that are no inputs."""

CODES = {"cut": "graph_break", "cut_untested": "graph_break"}
"""The codes of the claims that are not `unused_input`."""

MOST_NAMES = 3
"""Tensors that are named."""


def unreached(problem: Problem, output: str, input_name: str) -> Notice:
    """What is to be said of an input that no gradient flows to from an output."""
    claim, count = _claim(problem, output, input_name)
    message = SENTENCES[claim].format(y=output, x=input_name, count=count)
    leaves = list(_leaves(problem, output)) if claim in ("no_effect", "steady", "cut", "cut_untested") else []
    if leaves:
        more = f" and {len(leaves) - MOST_NAMES} more" if len(leaves) > MOST_NAMES else ""
        message += REACHED.format(leaves=", ".join(leaves[:MOST_NAMES]) + more)
    return Notice(CODES.get(claim, "unused_input"), message, claim)


def _claim(problem: Problem, output: str, input_name: str) -> tuple[str, int]:
    """The claim that holds, and at how many other values of the input the output was looked at."""
    evaluation, program = problem.evaluation, problem.function
    if isinstance(program, Program) and not _depends(evaluation, output, input_name, all_read=True):
        return "no_path_here" if _chosen(program, evaluation) else "no_path", 0
    if isinstance(program, Program) and not _depends(evaluation, output, input_name, all_read=False):
        return "no_path_here" if _chosen(program, evaluation) else "shape_only", 0
    changed = _changes(problem, output, input_name)
    if any(changed):
        return "cut", 0
    known = isinstance(program, Program) and not any(is_imported(step.op) for step in evaluation.tape)
    return "cut_untested" if not changed else "steady" if known else "no_effect", len(changed)


def _chosen(program: Program, evaluation: Evaluation) -> bool:
    """Whether values decide which steps there are: by a condition, or by Python's whole numbers made from tensors."""
    if any(map(decides, program.equations)):
        return True
    slots = followers(evaluation, range(len(evaluation.inputs)))
    return any(isinstance(evaluation.values.get(slot), (int, list)) for slot in slots)


def _depends(evaluation: Evaluation, output: str, input_name: str, *, all_read: bool) -> bool:
    """Whether the output is computed from the input at all, differentiably or not; or from more than its shape."""
    slots = followers(evaluation, {list(evaluation.inputs).index(input_name)}, all_read=all_read)
    wanted = evaluation.outputs[output]
    return evaluation.output_slots.get(output) in slots or any(_holds(evaluation.values.get(s), wanted) for s in slots)


def _holds(value: object, wanted: Tensor) -> bool:
    """Whether a slot's value is the tensor, or a sequence or named result that holds it."""
    return value is wanted or (isinstance(value, (tuple, list)) and any(_holds(item, wanted) for item in value))


def _changes(problem: Problem, output: str, input_name: str) -> list[bool]:
    """For a few other values of the input whether the output is another there; nothing of those that it refuses."""
    x, here = problem.leaves[input_name].detach(), problem.evaluation.outputs[output]
    found = []
    for other in (-x, 2 * x + 1, x.flip(tuple(range(x.dim()))) - 3, 1000 * x + 1000):
        try:
            y = problem.at({input_name: other}).outputs.get(output)
        except (JvpError, RuntimeError):
            continue
        # how many outputs there are may follow from the values
        found.append(y is None or y.shape != here.shape or not torch.allclose(y, here, rtol=0, atol=0, equal_nan=True))
    return found


# What the graph does reach


def _leaves(problem: Problem, output: str) -> Iterator[str]:
    """The tensors that are no inputs, at which the graph of an output ends: by name where one is known."""
    inputs = {id(x) for x in problem.evaluation.inputs.values()}
    names = {id(tensor): name for name, tensor in reversed(list(_named(problem)))}
    waiting, seen = [problem.evaluation.outputs[output].grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [edge for edge, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in inputs:
            yield names.get(id(leaf), f"a tensor of shape {tuple(leaf.shape)}")


def _named(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """The tensors that the user's own functions know by a name, with that name."""
    module = getattr(problem.function, "__wrapped__", problem.function)
    if isinstance(module, nn.Module):
        yield from module.named_parameters()
    own = [] if isinstance(problem.function, Program) else [problem.function]
    imported = {name: getattr(function, "function", function) for name, function in problem.functions.items()}
    for name, value in (*imported.items(), *(each for f in (*own, *imported.values()) for each in _known(f))):
        if isinstance(value, (Tensor, nn.Module)):
            parts = [("", value)] if isinstance(value, Tensor) else value.named_parameters()
            yield from ((f"{name}.{path}".rstrip("."), tensor) for path, tensor in parts)


def _known(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The variables that a Python function's code can name: of the functions around it, then of its module."""
    plain = getattr(function, "__func__", function)
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    variables = getattr(plain, "__globals__", {})
    yield from ((name, value) for name, value in variables.items() if not isinstance(value, ModuleType))
