"""Evaluating: a program on tensors, a VALUE's expression, or a Python function."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, NotDifferentiableError
from jvpcli.language import catalog, refusals
from jvpcli.language.evaluation import Evaluation, flatten, name_outputs
from jvpcli.language.operations import apply_operation, is_imported
from jvpcli.language.run import Run
from jvpcli.program import Equation, Operand, Pack, Program, Ref


def evaluate(
    program: Program,
    inputs: Mapping[str, Tensor],
    *,
    wrt: Collection[str] = (),
    seed: int = 0,
    memory_limit: int | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Evaluation:
    """Run a program on tensors; `functions` are the imported ones that it calls, by name.

    The inputs named in `wrt` become fresh leaves that require grad; the caller's tensors are never changed.  Random
    functions start from `seed`, and torch's own generator is left as it was.  `memory_limit` is in bytes; without one
    three quarters of the free memory may be used.

    Raises:
        EvaluationError, ShapeMismatchError: torch failed; with the place and the operands' shapes.
        ForbiddenError: a step asks an object for what it may not give.
        NotDifferentiableError: an output is not a tensor, or an input in `wrt` is not of floating point.
        LimitError: it would need more memory than the limit, or too many steps.
    """
    check_inputs(program, inputs)
    copy = changes_inputs(program)
    leaves = {name: _leaf(name, inputs[name], name in wrt, copy) for name in program.inputs}
    run = Run(program, leaves, memory_limit, functions)
    with seeded(seed, leaves.values()), torch.enable_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run.run(program.equations)
        parts = list(_parts(run, program))
    if functions:
        _refuse_overwritten(leaves, inputs, wrt)
    outputs = name_outputs([(name, run.read(operand)) for name, operand in parts], program.inputs, program.source)
    slots = {name: part.slot for name, (_, part) in zip(outputs, parts, strict=True) if isinstance(part, Ref)}
    differentiated = tuple(name for name in leaves if name in wrt)
    texts = tuple(str(warning.message) for warning in said)
    return Evaluation(
        program, leaves, outputs, tuple(run.tape), run.reported, differentiated, slots, functions or {}, texts
    )


def run_program(
    program: Program, inputs: Mapping[str, Tensor], functions: Mapping[str, Callable[..., Any]] | None = None
) -> dict[str, Tensor]:
    """The outputs of a program by name, at tensors that are used as they are.

    Raises: as `evaluate`.
    """
    run = Run(program, {name: inputs[name] for name in program.inputs}, None, functions)
    run.run(program.equations)
    parts = [(name, run.read(operand)) for name, operand in _parts(run, program)]
    return name_outputs(parts, program.inputs, program.source)


def evaluate_value(
    program: Program, scope: Mapping[str, Tensor], *, seed: int = 0, memory_limit: int | None = None
) -> Any:
    """What a VALUE's expression gives: a tensor, a number, or a list of such; no gradient is recorded.

    Raises: as `evaluate`, but for outputs that are no tensors.
    """
    check_inputs(program, scope)
    copy = changes_inputs(program)
    values = {name: _leaf(name, scope[name], False, copy) for name in program.inputs}
    run = Run(program, values, memory_limit)
    with seeded(seed, values.values()), torch.no_grad():
        run.run(program.equations)
        return run.read(run.on_tape(program.result))


def evaluate_function(
    function: Callable[..., Any], inputs: Mapping[str, Tensor], wrt: Collection[str] = (), seed: int = 0
) -> Evaluation:
    """Run a Python function of tensors, called with `inputs` by name, or in their order; there is no program and no tape.

    Raises:
        NotDifferentiableError: an output is not a tensor.
        Whatever the function itself raises.
    """
    leaves = {name: _leaf(name, value, name in wrt, copy=False) for name, value in inputs.items()}
    given = {name: x if name in wrt else x.clone() for name, x in leaves.items()}  # the function may write to those
    with seeded(seed, leaves.values()), torch.enable_grad():
        outputs = call_function(function, given)
    return Evaluation(None, leaves, outputs, (), {}, tuple(name for name in leaves if name in wrt))


def call_function(function: Callable[..., Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a Python function by name, at tensors that are used as they are.

    Raises: as `evaluate_function`.
    """
    return name_outputs([(None, part) for part in flatten(_call(function, inputs))], tuple(inputs))


def _call(function: Callable[..., Any], inputs: Mapping[str, Tensor]) -> Any:
    """By name where the function has parameters of those names, else in order."""
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return function(*inputs.values())
    return function(**inputs) if inputs.keys() <= parameters else function(*inputs.values())


def _parameters(function: Callable[..., Any]) -> Set[str]:
    """The names of a function's parameters; of a plain one without the time that its signature takes."""
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        code = function.__code__
        return set(code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount])
    return inspect.signature(function).parameters.keys()


@contextmanager
def seeded(seed: int, tensors: Collection[Tensor] = ()) -> Iterator[None]:
    """Random functions start from `seed` inside, and go on outside as if nothing had been drawn.

    torch's Python warnings (deprecations and the like) are kept off the streams meanwhile.
    """
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    before = torch.default_generator.get_state()
    before_cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.default_generator.set_state(before)
        for device, state in before_cuda:
            torch.cuda.set_rng_state(state, device)


def check_inputs(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Every input of the program has a value."""
    for name, span in zip(program.inputs, program.input_spans, strict=True):
        if name not in inputs:
            raise refusals.value_name(name, inputs).with_context(span=span, source=program.source)


def changes_inputs(program: Program) -> bool:
    """Whether any step of the program may change a tensor that it is given, so that inputs must be copied."""
    return any(
        catalog.changes_arguments(equation.op) or is_imported(equation.op)
        for equation in _with_bodies(program.equations)
    )


def _with_bodies(equations: Sequence[Equation]) -> Iterator[Equation]:
    for equation in equations:
        yield equation
        for body in equation.bodies:
            yield from _with_bodies(body.equations)
            for condition in body.conditions:
                yield from _with_bodies(condition.equations)


def _leaf(name: str, value: Tensor, differentiated: bool, copy: bool) -> Tensor:
    copied = copy or value.is_inference()  # which autograd refuses to record
    leaf = value.detach().clone() if copied else value.detach()
    if not differentiated:
        return leaf
    if not (leaf.is_floating_point() or leaf.is_complex()):
        kind = str(leaf.dtype).removeprefix("torch.")
        raise NotDifferentiableError(
            f"`{name}` holds {kind} numbers: only floating and complex inputs have derivatives."
        )
    return leaf.requires_grad_()


def _refuse_overwritten(leaves: Mapping[str, Tensor], inputs: Mapping[str, Tensor], wrt: Collection[str]) -> None:
    """Own code has not changed the values of the inputs behind autograd's back.

    Raises:
        EvaluationError: it has; value and gradient would belong to different points.
    """
    for name, leaf in leaves.items():
        before, now = inputs[name].detach(), leaf.detach()
        if name in wrt and not bool(((now == before) | ((now != now) & (before != before))).all()):
            raise EvaluationError(
                f"The imported code changes `{name}` in place, where autograd does not see it.",
                explanation="Values were overwritten through .data, .detach() or under torch.no_grad(): the output then "
                "belongs to other inputs than its gradient does.",
                hints=[f"Work on a copy: {name} = {name}.clone()."],
            )


def _parts(run: Run, program: Program) -> Iterator[tuple[str | None, Operand]]:
    """The outputs as operands of the tape, with the names that the text gives them; nested results are flat."""
    result, names = run.on_tape(program.result), program.result_names
    if names is not None and len(names) == 1:
        elements: list[tuple[str | None, Operand]] = [(names[0], result)]
        if isinstance(program.result, Pack) and len(program.result.items) == 1 and isinstance(result, Pack):
            elements = [(names[0], result.items[0])]
    elif names is not None and isinstance(result, Pack):
        elements = list(zip(names, result.items, strict=True))
    else:
        elements = [(None, result)]
    for name, operand in elements:
        flat = list(_flat(run, operand))
        for index, part in enumerate(flat):
            yield (name if name is None or len(flat) == 1 else f"{name}{index}"), part


def _flat(run: Run, operand: Operand) -> Iterator[Operand]:
    """The tensors of a result; those of a tuple that a function gave become steps of their own."""
    value = run.read(operand)
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for item in run.items_of(operand):
            if run.read(item) is not None:
                yield from _flat(run, item)
    else:
        yield operand


__all__ = ["apply_operation", "evaluate", "evaluate_function", "evaluate_value", "seeded"]
