"""Evaluating a program on tensors, a VALUE's expression, or a Python function; what that gives, `outputs` names."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from inspect import Parameter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jvpcli.errors import NotDifferentiableError, UsageError
from jvpcli.language import catalog, refusals, sequences
from jvpcli.language.arrays import Array
from jvpcli.language.operations import HARMLESS, can_require_grad, describe, is_imported, is_in_place, without_numbers
from jvpcli.language.outputs import name_outputs, named_outputs, parts_of, results_of
from jvpcli.language.readings import Readings
from jvpcli.language.run import Run
from jvpcli.language.substitution import ModuleFunction, Place, WrittenError, holding, run_with
from jvpcli.program import Equation, Pack, Program, Ref, numbers_read, with_inner

if TYPE_CHECKING:
    from jvpcli.language.trees import Arguments

MARK = "_jvp_differentiates"
"""The attribute of a leaf that an evaluation differentiates: what is asked of jvpcli inside of that is told by it."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What all evaluations of a program share that go the same steps at the same shapes.

    Attributes:
        weighed, decided: as `is_weighed` and `is_decided` tell.
        facts: what else was found out of it, by what was asked.
    """

    weighed: bool
    decided: bool
    facts: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation of a program gave.

    Attributes:
        program: what was evaluated; None for a Python function.
        inputs: name to tensor; the differentiated ones are leaves that require grad.
        outputs: name to tensor, named as the contract says.
        tape: the equations that ran, in order, without control flow: comprehensions are unrolled (each turn with
            slots of its own) and only the branch taken is there.  Slots below `len(inputs)` are the inputs.  What
            depends on no input and is no tensor stands in the tape's operands as a constant.
        values: slot to value, for every slot on the tape.  A tensor that a later step changed in place stands here as
            it was before; the changed one is that step's value (`operations.is_in_place`), and later steps refer to
            that.  Views of it are not kept: their values are those after all steps.
        wrt: the names of the differentiated inputs.
        output_slots: the slot of each output (of an input, where the text gives it back).
        named: the tensors that the text gives names to, by their last names.
        said: what torch warned of meanwhile.
        functions: the imported functions that the program may call, by name.
        hooked: a function of the user's own has registered hooks: the backward pass is more than its operations.
        decisions: the slots whose values decided what ran.
        weighed, read: of code of the user's own: what `Readings` noted.
        random: the seed that torch's random numbers started from, and the state that they were left in; None: not known.
        left_out: what a function of the user's own gave beside tensors, in words, by name.
        known: what was found out of an earlier evaluation with these steps.
    """

    program: Program | None
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    tape: tuple[Equation, ...]
    values: Mapping[int, Any]
    wrt: tuple[str, ...]
    output_slots: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, Tensor] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    hooked: bool = False
    random: tuple[int, Tensor] | None = None
    decisions: frozenset[int] = frozenset()
    weighed: bool = False
    read: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    known: Shared | None = None

    @property
    def drew(self) -> bool:
        """Whether random numbers may have been drawn."""
        return self.random is None or not torch.equal(torch.Generator().manual_seed(self.random[0]).get_state(), self.random[1])

    @property
    def leaves(self) -> dict[str, Tensor]:
        """The differentiated inputs by name."""
        return {name: self.inputs[name] for name in self.wrt}


def followers(evaluation: Evaluation, slots: Collection[int], *, all_read: bool = False) -> frozenset[int]:
    """All slots that are computed from some, with those; with `all_read` also what is computed from their shapes alone."""
    found = set(slots)
    for step in evaluation.tape:
        if not found.isdisjoint(step.reads() if all_read else numbers_read(step)):
            found.add(step.slot)
    return frozenset(found)


def weighed(evaluation: Evaluation) -> frozenset[int]:
    """The slots of steps whose derivative takes numbers that follow from the differentiated inputs and carry no gradient.

    A mask such as x > 0, an index, or a detached factor, is another at another point, though autograd takes it for a constant.
    """
    values = evaluation.values
    bare = [step.slot for step in evaluation.tape if not _carries_gradient(values.get(step.slot))]
    held = followers(evaluation, _leaf_slots(evaluation)).intersection(bare) if bare else ()
    if not held:
        return frozenset()
    return frozenset(
        step.slot
        for step in evaluation.tape
        if step.word.strip("_") not in HARMLESS
        and _carries_gradient(values.get(step.slot))
        and not held.isdisjoint(numbers_read(step))
    )


def is_weighed(evaluation: Evaluation) -> bool:
    """Whether derivatives take numbers that follow from the differentiated inputs and carry no gradient."""
    if evaluation.known is not None:
        return evaluation.known.weighed
    return evaluation.weighed or (evaluation.program is not None and bool(weighed(evaluation)))


def is_decided(evaluation: Evaluation) -> bool:
    """Whether values that follow from the differentiated inputs may decide what runs: elsewhere that may be something else.

    So they do in a condition, as a number of turns, and as a whole number that an operation takes: a shift, a size, a place.
    """
    if evaluation.known is not None:
        return evaluation.known.decided
    if evaluation.program is None or evaluation.read:
        return evaluation.read
    whole = {slot for slot, value in evaluation.values.items() if _is_whole(value)}
    if not (whole or evaluation.decisions):
        return False
    found = followers(evaluation, _leaf_slots(evaluation))
    whole &= found
    takers = [step for step in evaluation.tape if not whole.isdisjoint(numbers_read(step))] if whole else []
    takes = any(_carries_gradient(evaluation.values.get(step.slot)) for step in takers)
    return takes or not found.isdisjoint(evaluation.decisions)


def _leaf_slots(evaluation: Evaluation) -> list[int]:
    return [slot for slot, name in enumerate(evaluation.inputs) if name in evaluation.wrt]


def _is_whole(value: object) -> bool:
    """Whether it is a whole number of Python's, or holds some."""
    return isinstance(value, (int, range)) or (isinstance(value, (tuple, list)) and any(map(_is_whole, value)))


def _carries_gradient(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_carries_gradient, value))
    return isinstance(value, Tensor) and value.requires_grad


def evaluate(
    program: Program,
    inputs: Mapping[str, Tensor],
    *,
    wrt: Collection[str] = (),
    tracked: Collection[str] = (),
    seed: int = 0,
    memory_limit: int | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Evaluation:
    """Run a program on tensors; `functions` are the imported ones that it calls, by name.

    The inputs named in `wrt` become fresh leaves that require grad, and so do those in `tracked`, which the functions
    differentiate themselves; the caller's tensors are never changed.  Random
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
    graph = {*wrt, *tracked}
    if program.derived:
        graph |= {name for name in program.derived if can_require_grad(inputs[name])}
    while True:
        leaves = {name: as_leaf(name, inputs[name], name in graph, copy) for name in program.inputs}
        readings = _readings(functions) if functions else None
        try:
            with seeded(seed, leaves.values()) as said, torch.enable_grad(), readings or nullcontext():
                run = _ran(program, leaves, memory_limit, functions)
                parts, left_out = parts_of(run, program)
            break
        except WrittenError as error:
            for _, written in outside(functions):
                written.extend(error.places)
    if functions:
        _refuse_overwritten(leaves, inputs, wrt)
    outputs = named_outputs(run, program, parts)
    slots = {name: part.slot for name, (_, part) in zip(outputs, parts, strict=True) if isinstance(part, Ref)}
    differentiated = tuple(name for name in leaves if name in wrt)
    texts = tuple(str(warning.message) for warning in said)
    return Evaluation(
        program,
        leaves,
        outputs,
        tuple(run.tape),
        run.reported,
        differentiated,
        slots,
        run.named(),
        functions or {},
        texts,
        decisions=frozenset(run.decisions),
        weighed=readings is not None and readings.weighed,
        read=readings is not None and readings.read,
        left_out=left_out,
    )


def run_program(
    program: Program, inputs: Mapping[str, Tensor], functions: Mapping[str, Callable[..., Any]] | None = None
) -> dict[str, Tensor]:
    """The outputs of a program by name, at tensors that are used as they are.

    Raises: as `evaluate`.
    """
    given = {name: inputs[name] for name in program.inputs}
    if program.has_statements:  # its derivative calls need a graph, maybe of dual numbers
        given = {name: _with_graph(x) for name, x in given.items()}
    run = _ran(program, given, None, functions)
    return named_outputs(run, program, parts_of(run, program)[0])


def run_for(
    program: Program,
    scope: Mapping[str, Tensor],
    functions: Mapping[str, Callable[..., Any]],
    memory_limit: int | None = None,
) -> Any:
    """What a program gives as a value, and the state of numpy's random numbers, as it leaves them like torch's; gradients
    reach what requires them.

    Raises: as `evaluate`.
    """
    run = _ran(program, _values(program, scope, copy=True), memory_limit, functions)
    return run.read(run.on_tape(program.result)), None if run.drawn is None else run.drawn.get_state()


def evaluate_value(
    program: Program,
    scope: Mapping[str, Tensor],
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """What a VALUE's expression gives: a tensor, a number, or a list of such, which has no graph.

    Raises: as `evaluate`, but for outputs that are no tensors.
    """
    values = _values(program, scope, changes_inputs(program))
    with seeded(seed, values.values()), torch.set_grad_enabled(program.has_statements):
        run = _ran(program, values, memory_limit, functions)
        found = run.read(run.on_tape(program.result))
    if isinstance(found, Array):  # a VALUE is a tensor
        return found.tensor()
    return found.detach() if isinstance(found, Tensor) else found


def _values(program: Program, scope: Mapping[str, Tensor], copy: bool) -> dict[str, Tensor]:
    """The inputs of a program that is no question of its own, as leaves that require grad where they do; a shared one is one."""
    check_inputs(program, scope)
    pairs = [(name, scope[name]) for name in program.inputs]
    given = {id(x): as_leaf(name, x, False, copy).requires_grad_(x.requires_grad) for name, x in pairs}
    return {name: given[id(x)] for name, x in pairs}


def evaluate_function(
    function: Callable[..., Any],
    inputs: Mapping[str, Tensor],
    wrt: Collection[str] = (),
    tracked: Collection[str] = (),
    seed: int = 0,
    arguments: Arguments | None = None,
    modules: Sequence[nn.Module] = (),
    double: bool = False,
    written: list[Place] | None = None,
) -> Evaluation:
    """Run a Python function of tensors, called as `call_function` does; there is no program and no tape.

    `wrt` and `tracked` are as for `evaluate`.  `written` holds the places of tensors from outside that the function writes to,
    which are left as they are; those that turn out are added.

    Raises:
        NotDifferentiableError: an output is not a tensor.
        Whatever the function itself raises.
    """
    written = [] if written is None else written
    owner = function.module if isinstance(function, ModuleFunction) else function
    leaves = {name: as_leaf(name, x, name in wrt or name in tracked, copy=False) for name, x in inputs.items()}
    free: Mapping[str, Any] = {name: x if x.requires_grad else x.clone() for name, x in leaves.items()}  # it may write to those
    given = free if arguments is None else arguments.filled(free)
    with seeded(seed, leaves.values()), torch.enable_grad():
        while True:
            try:
                with Readings(partial(_refuse_outside, owners=[owner], written=written)) as readings:
                    result = _called(function, given, arguments, modules, double, written)
                break
            except WrittenError as error:
                written.extend(error.places)
                given = free if arguments is None else arguments.filled(free)
        outputs, left_out = outputs_of(result, given, arguments)
        here = all(x.is_cpu for x in leaves.values())  # other devices have numbers of their own
        random = (seed, torch.default_generator.get_state()) if here else None
    noted = {"random": random, "weighed": readings.weighed, "read": readings.read, "left_out": left_out}
    return Evaluation(None, leaves, outputs, (), {}, tuple([name for name in leaves if name in wrt]), **noted)


def call_function(
    function: Callable[..., Any],
    inputs: Mapping[str, Tensor],
    arguments: Arguments | None = None,
    modules: Sequence[nn.Module] = (),
    double: bool = False,
    written: Sequence[Place] = (),
) -> dict[str, Tensor]:
    """The outputs of a Python function by name, at tensors that are used as they are.

    Inputs with the names of keyword-only parameters are given by name, all others by position: in the order of the
    parameters where they have those names, else in the order of the inputs.  `arguments` say otherwise, and what it is
    called with where that is more than the inputs alone.  The `modules` that it uses are left as they are, and taken in
    double precision where that is asked for.

    Raises: as `evaluate_function`.
    """
    given = inputs if arguments is None else arguments.filled(inputs)
    return outputs_of(_called(function, given, arguments, modules, double, written), given, arguments)[0]


def _called(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    arguments: Arguments | None,
    modules: Sequence[nn.Module],
    double: bool,
    written: Sequence[Place],
) -> Any:
    """What a Python function gives for its arguments by name."""
    call = call_of(function, given, arguments)
    if isinstance(function, ModuleFunction):  # which sees to that itself
        return call()
    return run_with(call, given.values(), modules, {}, double, written) if modules or written else call()


def call_of(function: Callable[..., Any], given: Mapping[str, Any], arguments: Arguments | None) -> Callable[[], Any]:
    """The call of a function with its arguments, those that go by position in their places.

    Raises:
        UsageError: it takes fewer.
    """
    names, split = list(given), None if arguments is None else arguments.positional
    positional, by_name = arranged(function, names) if split is None else (names[:split], names[split:])
    return partial(function, *map(given.__getitem__, positional), **{name: given[name] for name in by_name})


def _readings(functions: Mapping[str, Callable[..., Any]]) -> Readings:
    """What watches imported functions; they are stopped before they write to tensors from outside."""
    found = outside(functions)
    owners, written = [owner for owner, _ in found], [place for _, places in found for place in places]
    return Readings(partial(_refuse_outside, owners=owners, written=written) if found else None)


def outside(functions: Mapping[str, Callable[..., Any]] | None) -> list[tuple[Any, list[Place]]]:
    """The functions of the user's own among imported ones, each with the places that it writes to, as far as they are known."""
    found = []
    function: Any
    for function in (functions or {}).values():
        while not hasattr(function, "written") and hasattr(function, "function"):  # one that is watched as it runs
            function = function.function
        if hasattr(function, "written"):
            found.append((function.function, function.written))
    return found


def _refuse_outside(tensors: Sequence[Tensor], owners: Sequence[Any], written: Collection[Place]) -> None:
    """Stop functions before they write to tensors that they find outside of themselves.

    Raises:
        WrittenError: they are about to, and have no copy there yet.
    """
    known = {place.key for place in written}
    new = [place for place in holding(tensors, *owners) if place.key not in known]
    if new:
        raise WrittenError(new)


def outputs_of(
    result: Any, given: Mapping[str, Any], arguments: Arguments | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The outputs by name that a function gave for its arguments, and in words what else it gave.

    Raises:
        EvaluationError: one of them has no numbers.
    """
    found = results_of(result, given, () if arguments is None else arguments.ignored)
    for _, part in found:
        if isinstance(part, Tensor) and part.is_meta:
            raise without_numbers("The function")
    parts = [(name, part) for name, part in found if isinstance(part, Tensor)]
    beside = {str(name): describe(part) for name, part in found if not isinstance(part, Tensor)} if parts else {}
    return name_outputs(parts or found, tuple(given)), beside


def arranged(function: Callable[..., Any], names: list[str]) -> tuple[list[str], list[str]]:
    """Which inputs a function gets by position, in this order, and which by name.

    Raises:
        UsageError: it takes fewer arguments.
    """
    parameters, keyword_only = parameters_of(function)
    if names == parameters:
        return names, []
    by_name = [name for name in names if name in keyword_only]
    others = [name for name in names if name not in keyword_only]
    if not set(others) <= set(parameters):
        return (others, by_name) if len(others) <= len(parameters) else _beyond(function, names, others, parameters)
    others.sort(key=parameters.index)
    leading = next((k for k, name in enumerate(others) if name != parameters[k]), len(others))
    return others[:leading], [*others[leading:], *by_name]  # behind a parameter that is left to its default


def _beyond(
    function: Callable[..., Any], names: list[str], others: list[str], parameters: list[str]
) -> tuple[list[str], list[str]]:
    """Which inputs a function with fewer parameters gets by position, and which by name: `*others` or `**others` take the rest.

    Raises:
        UsageError: it has neither.
    """
    module = getattr(function, "__wrapped__", function)
    try:
        signature = inspect.signature(module.forward if isinstance(module, nn.Module) else function)
        kinds = {each.kind for each in signature.parameters.values()}
    except (TypeError, ValueError):  # a builtin without a signature
        kinds = {Parameter.VAR_POSITIONAL}
    if Parameter.VAR_POSITIONAL in kinds:
        return others, [name for name in names if name not in others]
    if Parameter.VAR_KEYWORD in kinds:
        return [], names
    takes = f"takes the argument {parameters[0]}" if len(parameters) == 1 else f"takes {len(parameters)} arguments"
    given = "1 input is" if len(others) == 1 else f"{len(others)} inputs are"
    raise UsageError(
        f"the function {takes}, and {given} given: {', '.join(others)}",
        hints=(f"a dict that is itself an argument is given by its name: {parameters[0]}=…",) if parameters else (),
    )


def parameters_of(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The names of a function's parameters, and of those that are keyword-only.

    Of a function that wraps another they are the other's: the wrapper hands on what comes by position.  A module's are those of
    its `forward`.
    """
    # a module looks for an attribute that it lacks for longer than all the rest takes
    module = function if isinstance(function, nn.Module) else getattr(function, "__wrapped__", function)
    function = module.forward if isinstance(module, nn.Module) else function
    plain, bound = (function.__func__, 1) if isinstance(function, MethodType) else (function, 0)
    with suppress(ValueError):  # one that wraps itself
        if hasattr(plain, "__wrapped__"):
            plain = inspect.unwrap(plain, stop=lambda each: "__signature__" in getattr(each, "__dict__", ()))
        if isinstance(plain, FunctionType) and "__signature__" not in plain.__dict__:  # without the time a signature takes
            code = plain.__code__
            return list(code.co_varnames[bound : code.co_argcount]), list(
                code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
            )
    if isinstance(plain, nn.Module):
        return parameters_of(plain)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return [], []
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in by_position], [
        p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY
    ]


@contextmanager
def seeded(seed: int | None, tensors: Collection[Tensor] = ()) -> Iterator[list[warnings.WarningMessage]]:
    """Random functions start from `seed` inside, and go on outside as if nothing had been drawn; None: nothing is.

    What torch warns of meanwhile is kept off the streams, and in the list that this gives.
    """
    always, before = torch._C._get_warnAlways(), None
    before_cuda: dict[torch.device, Tensor] = {}
    if seed is not None:
        before = torch.default_generator.get_state()
        before_cuda = {x.device: torch.cuda.get_rng_state(x.device) for x in tensors if x.is_cuda}
        torch.default_generator.manual_seed(seed)
        for device in before_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch._C._set_warnAlways(True)  # some it says once in a process: the same question is to have the same answer
            yield said
    finally:
        torch._C._set_warnAlways(always)
        if before is not None:
            torch.default_generator.set_state(before)
            for device, state in before_cuda.items():
                torch.cuda.set_rng_state(state, device)


def default_dtype(dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Inside, torch makes new tensors of this dtype; None: of whichever it makes."""
    return nullcontext() if dtype is None else _set_dtype(dtype)


@contextmanager
def _set_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def default_of(program: Program) -> AbstractContextManager[None]:
    """Inside, torch makes new tensors as the program says; in double precision they stay in double."""
    keep = program.default is None or torch.get_default_dtype() is torch.float64
    return default_dtype(None if keep else getattr(torch, str(program.default).removeprefix("torch.")))


def check_inputs(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Every input of the program has a value."""
    for name, span in zip(program.inputs, program.input_spans, strict=True):
        if name not in inputs:
            raise refusals.value_name(name, inputs).with_context(span=span, source=program.source)


def changes_inputs(program: Program) -> bool:
    """Whether any step of the program may change a tensor that it is given, so that inputs must be copied."""
    return any(map(may_change, with_inner(program.equations)))


def may_change(equation: Equation) -> bool:
    """Whether an equation may change what it is given; a function that does so where it is told to, as by `inplace`, is not."""
    changes = _may_change(equation.op)
    if changes is None:
        operands = equation.operands
        return len(operands) != 1 or isinstance(operands[0], Pack) or bool(equation.keywords)
    return changes


@lru_cache(maxsize=4096)
def _may_change(op: str) -> bool | None:
    """Whether an equation of this `op` may; None: where it is told to."""
    if is_imported(op) or is_in_place(op) or op.startswith("functional:"):
        return True
    return None if catalog.changes_arguments(op) else False


def _with_graph(x: Tensor) -> Tensor:
    return x if x.requires_grad or not can_require_grad(x) else x.requires_grad_()


def as_leaf(name: str, value: Tensor, differentiated: bool, copy: bool) -> Tensor:
    """An input as an evaluation has it: a fresh leaf, where it is `differentiated`; a copy of its own where it may be changed.

    Raises:
        NotDifferentiableError: it is differentiated and not of floating point.
    """
    copied = copy or value.is_inference()  # which autograd refuses to record
    leaf = value.detach().clone() if copied else value.detach()
    if not differentiated:
        return leaf
    if not (leaf.is_floating_point() or leaf.is_complex()):  # written out: every repeated call comes here
        kind = str(leaf.dtype).removeprefix("torch.")
        raise NotDifferentiableError(
            f"`{name}` holds {kind} numbers: only floating and complex inputs have derivatives."
        )
    leaf.requires_grad_()
    setattr(leaf, MARK, True)
    return leaf


def _refuse_overwritten(leaves: Mapping[str, Tensor], inputs: Mapping[str, Tensor], wrt: Collection[str]) -> None:
    """Own code has not changed the values of the inputs behind autograd's back.

    Raises:
        EvaluationError: it has; value and gradient would belong to different points.
    """
    for name, leaf in leaves.items():
        before, now = inputs[name].detach(), leaf.detach()
        if name in wrt and not bool(((now == before) | ((now != now) & (before != before))).all()):
            raise refusals.unseen_change(
                name,
                "Values were overwritten through .data, .detach() or under torch.no_grad(): the output then belongs to other "
                "inputs than its gradient does.",
            )


def _ran(
    program: Program,
    inputs: Mapping[str, Tensor],
    memory_limit: int | None,
    functions: Mapping[str, Callable[..., Any]] | None,
) -> Run:
    """A run of a program, all of whose equations have been carried out."""
    handlers = sequences.HANDLERS
    if program.has_statements:
        from jvpcli.language import derivatives, flow, transforms  # most texts have no statements but assignments

        handlers = {**handlers, **flow.HANDLERS, **derivatives.HANDLERS, **transforms.HANDLERS}
    run = Run(program, inputs, memory_limit, functions, handlers)
    with default_of(program):
        run.run(program.equations)
    return run
