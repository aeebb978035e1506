"""A request as a problem: its inputs read, what to differentiate chosen, and what goes wrong explained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.hooks import RemovableHandle

from jvpcli.answers.weights import explained
from jvpcli.errors import (
    EvaluationError,
    JvpError,
    NotDifferentiableError,
    ShapeMismatchError,
    UsageError,
)
from jvpcli.jacobians.passes import vjp
from jvpcli.language import may_construct
from jvpcli.language.course import Courses
from jvpcli.language.evaluate import MARK
from jvpcli.language.operations import can_require_grad
from jvpcli.language.parse import parse
from jvpcli.language.readings import Node, nodes_below
from jvpcli.language.substitution import ModuleFunction, unwritten
from jvpcli.language.values import dtype_name, free_names, is_word, read_value
from jvpcli.problem import Problem
from jvpcli.request import Request

UNUSED = (
    "The differentiated Tensor at index {} appears to not have been used in the graph. Set allow_unused=True if this is the "
    "desired behavior."
)
"""What PyTorch says of an input in `wrt` that nothing uses, by its place there."""

LEAF = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]
"""The kind of a leaf's node."""

DERIVING = re.compile("grad|jac|hessian")
"""What a text has that may make a value of derivatives."""


def pose(request: Request, problem: Problem | None = None) -> Problem:
    """The request as a problem that has been evaluated; `problem` is what it was read as, where that is done.

    Raises:
        JvpError: the expression or an input is refused, or fails; with what can be said of why, and repairs that work.
    """
    if problem is None:
        problem = as_problem(request)
    try:
        _ = problem.evaluation
    except Exception as error:
        return cured(error, request, problem)
    if not isinstance(request.expression, str):
        refuse_through(problem, request.create_graph)
    _refuse_two_devices(problem)
    if not problem.differentiable and not request.grad_outputs and DERIVING.search(text_of(request)):  # none that PyTorch refuses
        from jvpcli.answers.constant import with_zeros  # loaded only where it may be asked for

        problem = with_zeros(problem) or problem
    if request.all_used and len(problem.leaves) > 1 and problem.differentiable:
        from jvpcli.answers.failures import refuse_unreached  # loaded only where it is asked for

        refuse_unreached(problem.evaluation, request.wrt or (), UNUSED)
    return problem


def as_problem(request: Request) -> Problem:
    """The request as a problem, which nothing has evaluated yet.

    Raises:
        JvpError: the expression or an input is refused.
    """
    if request.refusal is not None:
        raise request.refusal
    _refuse_detached(request)
    return _read(request)


def _refuse_two_devices(problem: Problem) -> None:
    """Refuse a Jacobian whose rows would be on another device than its columns.

    Raises:
        UsageError: that is so.
    """
    leaves, outputs = problem.leaves, problem.differentiable
    if len({x.device for x in (*leaves.values(), *outputs.values())}) > 1:
        where = ", ".join(f"{name} on {x.device}" for name, x in (*leaves.items(), *outputs.items()))
        raise UsageError(
            f"the differentiated inputs and the outputs are on several devices: {where}",
            explanation="A Jacobian and its products are computed on one device.",
            hints=("Put all inputs on one device, and leave out what moves an output (`.cpu()`, `.to(…)`).",),
        )


def is_inside() -> bool:
    """Whether something else may differentiate through an answer: a transform of torch.func, or dual numbers."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _refuse_detached(request: Request) -> None:
    """Refuse what is asked where something else differentiates through the answer, which would be a constant there.

    The tensors that are given tell of that.

    Raises:
        UsageError: that is so, inside a transform of torch.func, or inside jvpcli without `create_graph`.
    """
    given = [*request.inputs.values(), *[value for _, value in (*request.grad_outputs, *request.tangent)]]
    tensors = [x for x in given if isinstance(x, Tensor) and (x.requires_grad or forward_ad._current_level >= 0)]
    if tensors or is_inside():
        _refuse_constant(tensors, (nodes_below(x.grad_fn) for x in tensors), (), request.create_graph)


def refuse_through(problem: Problem, create_graph: bool = False) -> None:
    """As `_refuse_detached`, where a Python function was evaluated: its outputs tell, since it may take tensors from outside.

    Raises:
        UsageError: something else differentiates through them.
    """
    evaluation = problem.evaluation
    _refuse_constant(evaluation.outputs.values(), problem.nodes.values(), evaluation.inputs.values(), create_graph)


def _refuse_constant(
    tensors: Iterable[Tensor], graphs: Iterable[Sequence[Node]], own: Iterable[Tensor], create_graph: bool
) -> None:
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise _constant("inside a transform of torch.func")
    if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
        raise _constant("of dual numbers")
    if not create_graph and _differentiates(tensors, graphs, own):
        raise UsageError(
            "jvpcli is asked inside a function that jvpcli differentiates, and its answer would be a constant there",
            explanation="Its tensors keep no graph, so the derivative through them would be lost.",
            hints=("pass create_graph=True to jvpcli.inspect or jvpcli.jacobian: their tensors can be differentiated then",),
        )


def _has_tangent(x: Tensor) -> bool:
    """Whether a tensor is a dual number, whose tangent no graph of ours hands on."""
    return forward_ad.unpack_dual(x).tangent is not None


def _differentiates(tensors: Iterable[Tensor], graphs: Iterable[Sequence[Node]], own: Iterable[Tensor]) -> bool:
    """Whether tensors, whose graphs those are, are computed from a leaf that jvpcli differentiates, other than `own` ones."""
    mine = set(map(id, own))
    leaves = [x for x in tensors if x.grad_fn is None]
    leaves += [node.variable for nodes in graphs for node in nodes if type(node) is LEAF]
    return not {id(leaf) for leaf in leaves if getattr(leaf, MARK, False)} <= mine


def _constant(where: str) -> UsageError:
    return UsageError(
        f"jvpcli can't be asked {where}: its answer would be a constant there",
        hints=("use torch.func itself inside; or ask jvpcli with create_graph=True, and torch.autograd.grad around it",),
    )


def cured(error: Exception, request: Request, problem: Problem) -> Problem:
    """The problem in the form in which it can be evaluated, where evaluating it has failed.

    Raises:
        Exception: there is none; what has failed, explained.
    """
    tracking = _tracking(problem)
    if tracking is not None:
        return tracking
    if not isinstance(error, (EvaluationError, ShapeMismatchError)):
        raise error
    from jvpcli.answers.failures import explain_failure  # loaded only where something has failed

    raise explain_failure(error, request, problem) from error


def _tracking(problem: Problem) -> Problem | None:
    """The problem with all inputs requiring grad, evaluated, where own code failed; None where that is not the cure.

    The code may differentiate inputs itself that `wrt` leaves out: they are only not reported.
    """
    others = tuple(name for name, x in problem.inputs.items() if name not in problem.wrt and can_require_grad(x))
    if not others or set(others) <= set(problem.tracked) or not problem.is_own:
        return None
    tracking = replace(problem, tracked=others)
    try:
        _ = tracking.evaluation
    except Exception:  # what failed at first is told
        return None
    return tracking


def _read(request: Request) -> Problem:
    if isinstance(request.expression, Problem):
        return request.expression
    handles = RemovableHandle.next_id
    seed, limit = request.seed, request.memory_limit
    if not isinstance(request.expression, str):
        inputs = read_inputs(request, tuple(request.inputs))
        wrt = differentiated(request, inputs, lambda: _parameters(request.expression))
        tracked = tuple(name for name in inputs if name not in wrt and getattr(request.inputs[name], "requires_grad", False))
        shared = request.expression.tied if isinstance(request.expression, ModuleFunction) else {}
        arguments = request.arguments
        return Problem(
            request.expression, inputs, wrt, seed, limit, tracked=tracked, tied=shared, arguments=arguments, handles=handles
        )
    if not request.imports and not may_construct(request.expression):
        program = parse(request.expression, request.inputs.keys())
        inputs = read_inputs(request, program.inputs)
        wrt = differentiated(request, inputs)
        shapes = tuple([(name, x.shape, x.dtype) for name, x in inputs.items()])
        return Problem(program, inputs, wrt, seed, limit, courses=_courses(program.source, shapes, wrt, limit), handles=handles)
    from jvpcli.language import reads_parameters
    from jvpcli.language.imports import load
    from jvpcli.language.modules import construct, expanded

    imports = load(request.imports)
    values = values_of(request)
    made = construct(request.expression, seed, limit, values) if may_construct(request.expression) else None
    if made is not None:
        functions, modules = {**imports.functions, **made.functions}, {**imports.modules, **made.modules}
        imports = replace(imports, functions=functions, modules=modules)
    given = request.wrt
    trained = tuple(name for name, x in imports.parameters.items() if x.requires_grad)
    wanted = trained if made is not None and request.wrt is None and not request.inputs else request.wrt
    named = None if wanted is None else expanded(wanted, imports.parameters)
    tied = imports.tied(named or ())
    request = replace(request, wrt=None if named is None else tuple(name for name in named if name not in tied))
    listed = tuple(imports.parameters) if reads_parameters(text_of(request)) else ()
    reads = imports.reads((*(request.wrt or ()), *listed))
    program = parse(text_of(request), request.inputs.keys(), reads)
    inputs = _used(request, values, program.inputs)
    inputs |= {name: x for name, x in imports.parameters.items() if name in program.inputs}
    if wanted is not None:  # of those that a pattern means what the expression uses
        named = () if given is None else wanted
        meant = tuple(name for name in request.wrt or () if name in named or name in program.inputs)
        request = replace(request, wrt=meant or named or None)
    words = set(re.findall(r"[^\W\d]\w*", text_of(request)))
    called = [name for name in imports.functions if name.partition(".")[0] in words]
    wrt = differentiated(request, inputs, lambda: imports.read_by(called))
    return Problem(program, inputs, wrt, seed, limit, imports.functions, reads, tied=tied, handles=handles)


@lru_cache(maxsize=16)
def _courses(text: str, shapes: Hashable, wrt: tuple[str, ...], memory_limit: int | None) -> Courses:
    """How the last few texts went at these shapes, so that a repeated question does not find it out again."""
    return Courses()


def _parameters(function: Any) -> list[str]:
    """The names of the parameters of a module; none of another function."""
    module = getattr(function, "__wrapped__", None)
    return [name for name, _ in module.named_parameters()] if isinstance(module, torch.nn.Module) else []


def differentiated(
    request: Request, inputs: Mapping[str, Tensor], parameters: Callable[[], Sequence[str]] = tuple
) -> tuple[str, ...]:
    """The names of the inputs to differentiate: those asked for, else all that are floating or complex.

    `parameters` finds out which of the user's modules the expression may use, where a message names them.

    Raises:
        UsageError: a name that is no input, or an input that is neither floating nor complex.
        NotDifferentiableError: nothing to differentiate.
    """
    for name in request.wrt or ():
        if name not in inputs:
            from jvpcli.answers.failures import parameters_in_words  # loaded only where something has failed

            own = parameters()
            there = f"; {parameters_in_words(own)}" if own else ""
            near = difflib.get_close_matches(name, [*inputs, *own], 3)
            raise UsageError(
                f"--wrt names {name!r}, which is not an input; the inputs are {', '.join(inputs) or 'none'}{there}",
                hints=[f"Did you mean {found}?" for found in near],
            )
        if not can_require_grad(inputs[name]):
            raise UsageError(
                f"--wrt names {name!r}, which is {dtype_name(inputs[name].dtype)}; "
                "only floating and complex tensors have derivatives",
                torch_message="Only Tensors of floating point and complex dtype can require gradients",
                hints=["Write one of its numbers with a point, or give it a dtype: torch.tensor([2.]), dtype=torch.float32."],
            )
    chosen = request.wrt or [name for name, x in inputs.items() if can_require_grad(x)]
    if not chosen:
        from jvpcli.answers.failures import nothing_to_differentiate  # loaded only where something has failed

        raise nothing_to_differentiate(request, inputs, parameters())
    return tuple([name for name in inputs if name in chosen])


def refuse_cut(problem: Problem) -> None:
    """Refuse a problem none of whose outputs a gradient can flow from.

    Raises:
        NotDifferentiableError: that is so, with the step at which the graph ends.
    """
    if not problem.differentiable:
        from jvpcli.answers.failures import not_differentiable  # loaded only where something has failed

        raise not_differentiable(problem.evaluation)


def refuse_stored(problem: Problem) -> None:
    """Refuse inputs whose gradients nothing can be computed with.

    Raises:
        NotDifferentiableError: there is one, of 8 bits.
    """
    for name, x in problem.leaves.items():
        if x.element_size() == 1:
            raise NotDifferentiableError(
                f"{name} is {dtype_name(x.dtype)}, and so would its gradient be: PyTorch doesn't compute with such numbers",
                hints=(f"Give {name}.float().",),
            )


def refuse_independent(problem: Problem) -> None:
    """Refuse outputs from which autograd reaches no input, or not every one (`strict`).

    Raises:
        NotDifferentiableError: there is one.
    """
    for y, output in problem.evaluation.outputs.items():
        if y not in problem.differentiable:
            raise _independent(y, ", ".join(problem.leaves))
        gradients = vjp(output, torch.ones_like(output).detach(), list(problem.leaves.values()))
        for x, gradient in zip(problem.leaves, gradients, strict=True):
            if gradient is None:
                raise _independent(y, x)


def _independent(y: str, x: str) -> NotDifferentiableError:
    return NotDifferentiableError(
        f"Autograd sees no path from the output {y} to {x}, and strict=True refuses what is independent.",
        hints=("Without strict=True the derivative is zero.",),
    )


@contextmanager
def backward_failures(problem: Problem, writes: bool = True) -> Iterator[None]:
    """What autograd, or the user's own backward, raises inside comes out as an EvaluationError; modules keep their buffers.

    `writes`: there may be such as are written to.

    Raises:
        EvaluationError: the backward pass failed.
        Exception: whatever else was raised.
    """
    try:
        with unwritten(problem.modules) if writes and problem.modules else nullcontext():
            yield
    except (JvpError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        from jvpcli.answers.failures import explain_backward  # loaded only where something has failed

        explained = explain_backward(error, problem)
        if explained is None:
            raise
        raise explained from error


def text_of(request: Request) -> str:
    """The expression as text; a function's name; the names of a recorded program's outputs."""
    if isinstance(request.expression, str):
        return request.expression
    if isinstance(request.expression, Problem):
        return ", ".join(request.expression.evaluation.outputs)
    expression: Any = request.expression
    while isinstance(expression, partial):
        expression = expression.func
    return str(getattr(expression, "__name__", type(expression).__name__))


# The tensors that a request gives


def read_inputs(request: Request, wanted: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of the inputs that the expression uses; a VALUE may use the inputs given before it.

    Raises:
        UsageError: an input that neither the expression nor another VALUE uses.
    """
    return _used(request, values_of(request), wanted)


def values_of(request: Request) -> dict[str, Tensor]:
    """The tensors of all inputs; a VALUE may use the inputs given before it."""
    values: dict[str, Tensor] = {}
    for position, (name, value) in enumerate(request.inputs.items()):
        try:
            values[name] = read_value(
                value,
                name=name,
                dtype=request.dtype,
                device=request.device,
                scope=dict(values),
                stdin=request.stdin,
                seed=request.seed + position,
                memory_limit=request.memory_limit,
                files=request.files,
            )
        except (EvaluationError, ShapeMismatchError) as error:
            raise explained(error, name, values) from error
    return values


def _used(request: Request, values: Mapping[str, Tensor], wanted: tuple[str, ...]) -> dict[str, Tensor]:
    if values.keys() <= set(wanted):
        return dict(values)
    _refuse_unused(request, wanted)
    return {name: values[name] for name in values if name in wanted}


def _refuse_unused(request: Request, wanted: tuple[str, ...]) -> None:
    unused = [name for name in request.inputs if name not in wanted]
    if not unused:
        return
    weights = [value for _, value in (*request.grad_outputs, *request.tangent) if not is_word(value)]
    texts = [value for value in (*weights, *request.inputs.values()) if isinstance(value, str)]
    helping = {name for text in texts for name in free_names(text)}
    allowed = any(note.startswith(("allow_unused=True", "materialize_grads=True")) for note in request.notes)
    asked = [] if allowed else list(request.wrt or ())
    for name in unused:
        if name not in helping:
            uses = ", ".join(wanted) or "no inputs"
            raise UsageError(
                f"the expression does not use an input {name!r}; it uses {uses}",
                torch_message=UNUSED.format(asked.index(name)) if name in asked else None,
            )
