"""Inputs that no gradient reaches from an output: whether the output is computed from them, and changes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
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

OF_SEVERAL = {
    "no_path": "{pairs} are zero because these inputs don't reach these outputs",
    "no_path_here": "{pairs} are zero here: nothing that these outputs are computed from at these values reads these inputs",
    "shape_only": "{pairs} are zero: these outputs are computed from the shapes of these inputs, not from their numbers",
    "cut": "these outputs change with these inputs, but autograd sees no path back: the graph is cut on the way (by .detach(), "
    ".item(), an integer cast, a comparison or a decision, for instance), and the derivatives shown are zero: {pairs}",
    "cut_untested": "these outputs are computed from these inputs, but autograd sees no path back, and the derivatives shown are "
    "zero: {pairs}",
    "steady": "these outputs are computed from these inputs, but autograd sees no path back, and they were the same at {count} "
    "other values of each input: {pairs}",
    "no_effect": "autograd sees no path from these outputs back to these inputs, and they were the same at {count} other values "
    "of each: they seem not to use them: {pairs}",
}
"""What is said of several pairs of an output and an input together, by its code."""

FEW = 2
"""So many pairs of which the same is to be said have a sentence each."""

REACHED = "; what its graph does reach is {leaves}"
"""Added where the graph ends at tensors that are no inputs."""

CODES = {"cut": "graph_break", "cut_untested": "graph_break"}
"""The codes of the claims that are not `unused_input`."""

MOST_NAMES = 3
"""Tensors that are named."""


def unreached(problem: Problem, pairs: Sequence[tuple[str, str]]) -> Iterator[Notice]:
    """What is to be said of pairs of an output and an input that it sends no gradient to: one sentence of all that are alike."""
    elsewhere = cache(lambda name: _elsewhere(problem, name))
    alike: dict[tuple[str, int, str], list[tuple[str, str]]] = {}
    for y, x in pairs:
        claim, count = _claim(problem, y, x, elsewhere)
        alike.setdefault((claim, count, _reached(problem, y, claim)), []).append((y, x))
    for (claim, count, reached), found in alike.items():
        if len(found) <= FEW:
            messages = [SENTENCES[claim].format(y=y, x=x, count=count) for y, x in found]
        else:
            messages = [OF_SEVERAL[claim].format(pairs=_together(found), count=count)]
        yield from (Notice(CODES.get(claim, "unused_input"), message + reached, claim) for message in messages)


def _together(pairs: Sequence[tuple[str, str]]) -> str:
    """The derivatives of some pairs of an output and an input, those of outputs with the same inputs as one: ∂(a, b)/∂(x, w)."""
    inputs = {y: tuple(x for z, x in pairs if z == y) for y, _ in pairs}
    outputs = {xs: tuple(y for y, own in inputs.items() if own == xs) for xs in inputs.values()}
    return ", ".join(f"∂{_listed(ys)}/∂{_listed(xs)}" for xs, ys in outputs.items())


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _reached(problem: Problem, output: str, claim: str) -> str:
    """What is added of the tensors that the graph of an output does reach."""
    leaves = list(_leaves(problem, output)) if claim in ("no_effect", "steady", "cut", "cut_untested") else []
    more = f" and {len(leaves) - MOST_NAMES} more" if len(leaves) > MOST_NAMES else ""
    return REACHED.format(leaves=", ".join(leaves[:MOST_NAMES]) + more) if leaves else ""


Elsewhere = Callable[[str], Sequence[Mapping[str, Tensor]]]
"""The name of an input to the outputs at a few other values of it."""


def _claim(problem: Problem, output: str, input_name: str, elsewhere: Elsewhere) -> tuple[str, int]:
    """The claim that holds, and at how many other values of the input the output was looked at."""
    evaluation, program = problem.evaluation, problem.function
    if isinstance(program, Program) and not _depends(evaluation, output, input_name, all_read=True):
        return "no_path_here" if _chosen(program, evaluation) else "no_path", 0
    if isinstance(program, Program) and not _depends(evaluation, output, input_name, all_read=False):
        return "no_path_here" if _chosen(program, evaluation) else "shape_only", 0
    changed = [_differs(there.get(output), evaluation.outputs[output]) for there in elsewhere(input_name)]
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


def _elsewhere(problem: Problem, input_name: str) -> list[Mapping[str, Tensor]]:
    """The outputs at a few other values of an input; nothing of those that the function refuses."""
    x, found = problem.leaves[input_name].detach(), list[Mapping[str, Tensor]]()
    for other in (-x, 2 * x + 1, x.flip(tuple(range(x.dim()))) - 3, 1000 * x + 1000):
        with suppress(JvpError, RuntimeError):
            found.append(problem.at({input_name: other}).outputs)
    return found


def _differs(there: Tensor | None, here: Tensor) -> bool:
    """Whether an output is another elsewhere; how many there are may follow from the values."""
    return there is None or there.shape != here.shape or not torch.allclose(there, here, rtol=0, atol=0, equal_nan=True)


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
