"""Optimizers of a program as they run: torch's own, on the leaves of a run and the gradients that its backwards left there.

A run that has its inputs to itself carries steps out, in place.  In any other, whose inputs are differentiated by, what a step
moves is not read any more: the values would be another point's than the derivatives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError
from jvpcli.language.derivatives import derived
from jvpcli.language.flow import call_value
from jvpcli.language.forecast import in_words
from jvpcli.language.operations import describe
from jvpcli.language.run import Entries, FunctionValue, Handler, Run, entries_in, items_in
from jvpcli.program import CLEAR, Const, Equation, Operand, Ref

CLASSES = frozenset({
    "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "LBFGS",
})  # fmt: skip
"""Optimizers whose step is a formula of the gradients that there are, and one that asks for them at several places."""

OPTIONS = frozenset({
    "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "betas", "eps", "amsgrad", "rho", "alpha", "centered",
    "lr_decay", "initial_accumulator_value", "momentum_decay", "decoupled_weight_decay", "etas", "step_sizes", "lambd", "t0",
    "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size", "line_search_fn",
})  # fmt: skip
"""What they take, as plain numbers."""

WAYS = frozenset({"foreach", "fused", "capturable", "differentiable"})
"""How torch carries a step out: what is asked for by True is not there."""

SCHEDULES = frozenset({
    "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts", "LambdaLR", "MultiplicativeLR", "OneCycleLR", "CyclicLR", "ReduceLROnPlateau",
})  # fmt: skip
"""What moves the learning rate, of plain numbers, and two of them of functions of the number of steps."""

OF_FUNCTIONS = ("LambdaLR", "MultiplicativeLR")

MOST_STATE = 4
"""Tensors as large as a parameter that an optimizer keeps and takes for one, at most; LBFGS two more for each step it keeps."""

PLAIN = (int, float, bool, str, type(None))


@dataclass(frozen=True, eq=False)
class Stepper:
    """An optimizer or a schedule, which a program holds by a name and can only step, or clear the gradients of."""

    made: Any
    of: Stepper | None = None
    """The optimizer of a schedule."""
    groups: list[dict[Any, Operand]] = field(default_factory=list)
    """The groups of an optimizer as the program sees them, which may change what is in them."""
    shown: list[dict[Any, Operand]] = field(default_factory=list)
    """The same as they were made."""

    DESCRIBED = "an optimizer or schedule"

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimizer moves; nothing of a schedule."""
        return [x for group in getattr(self.made, "param_groups", ()) for x in group["params"]]


@lru_cache
def _kind(name: str) -> type[torch.optim.Optimizer]:
    """A class of torch.optim without what compiles it, for which torch would load its compiler first."""
    kind = getattr(torch.optim, name)
    bare = {"add_param_group": inspect.unwrap(kind.add_param_group), "step": inspect.unwrap(kind.step)}
    return type(name, (kind,), bare)


def made(run: Run, equation: Equation) -> Operand:
    """`torch.optim.SGD(net.parameters(), lr=0.1)`

    Raises:
        ForbiddenError: a class or an argument that there isn't here.
        EvaluationError: torch refuses the arguments.
        LimitError: what it keeps would take more memory than is allowed.
    """
    name = equation.target
    if name not in CLASSES:
        raise ForbiddenError(f"`torch.optim.{name}` is not carried out here.", hints=[_listed(CLASSES)])
    operands, keywords = run.held_items(equation.operands), dict(run.spread(equation.keywords))
    given = run.held(keywords.pop("params")) if "params" in keywords else operands.pop(0) if operands else Const(None)
    arguments = [_plain(run, name, "", each) for each in operands]
    options = {word: _plain(run, name, word, run.held(each)) for word, each in keywords.items()}
    groups = [_group(run, name, each) for each in run.items_of(given)] if run.is_sequence(given) else _parameter(run, name, given)
    with _as_torch(run, equation):
        optimizer = _kind(name)(groups, *arguments, **options)
    found = Stepper(optimizer)
    held = optimizer.defaults.get("history_size")
    kept = 2 * held if isinstance(held, int) else 0
    taken = (MOST_STATE + kept) * sum(x.nbytes for x in found.parameters)
    if run.memory_limit is not None and run.bytes + taken > run.memory_limit:
        allowed = in_words(run.memory_limit)
        raise LimitError(f"`{name}` takes up to {in_words(taken)} for its parameters; {allowed} are allowed in all.")
    run.bytes += taken
    return Const(found)


def _group(run: Run, name: str, operand: Operand) -> Any:
    """A parameter, one with its name, or a group of parameters with options of its own."""
    entries = entries_in(operand)
    if entries is None:
        return _parameter(run, name, operand)
    held = entries.get("params", Const(None))
    several = run.is_sequence(held)
    parameters = [_parameter(run, name, each) for each in run.items_of(held)] if several else _parameter(run, name, held)
    options = {word: _plain(run, name, str(word), each) for word, each in entries.items() if word != "params"}
    return {"params": parameters, **options}


def _parameter(run: Run, name: str, operand: Operand) -> Any:
    """A tensor, or one with its name."""
    value = run.read(run.written_out(operand))
    if not all(isinstance(part, (Tensor, str)) for part in (value if isinstance(value, tuple) else (value,))):
        raise ForbiddenError(f"`{name}` takes tensors of the program here, and not {describe(value)}.")
    return value


def _plain(run: Run, name: str, word: str, operand: Operand) -> Any:
    """A plain value for an option."""
    value = run.decided_by(run.written_out(operand))
    parts = value if isinstance(value, (tuple, list)) else [value]
    if word in WAYS and value not in (None, False):
        message = f"`{word}` of `{name}` changes how a step is carried out, and is not there."
        raise ForbiddenError(message, hints=[f"leave {word} away: the step is the same to rounding"])
    if (word and word not in OPTIONS | WAYS) or any(type(part) not in PLAIN for part in parts):
        what = f"no `{word}`" if word and word not in OPTIONS | WAYS else f"not {describe(value)}"
        raise ForbiddenError(f"`{name}` takes parameters and plain numbers here, {what}.")
    return tuple(value) if isinstance(value, list) else value


def scheduled(run: Run, equation: Equation) -> Operand:
    """`torch.optim.lr_scheduler.StepLR(optimizer, 10)`

    Raises:
        ForbiddenError: a class or an argument that there isn't here.
        EvaluationError: torch refuses the arguments.
    """
    name = equation.target
    if name not in SCHEDULES:
        raise ForbiddenError(f"`torch.optim.lr_scheduler.{name}` is not carried out here.", hints=[_listed(SCHEDULES)])
    operands, keywords = run.held_items(equation.operands), dict(run.spread(equation.keywords))
    given = run.held(keywords.pop("optimizer")) if "optimizer" in keywords else operands.pop(0) if operands else Const(None)
    optimizer = _stepper(given)
    if optimizer is None or not optimizer.parameters:
        raise ForbiddenError(f"`{name}` takes an optimizer of the program first.")
    arguments = [_argument(run, name, each, equation) for each in operands]
    options = {word: _argument(run, name, run.held(each), equation) for word, each in keywords.items()}
    with _as_torch(run, equation):
        return Const(Stepper(getattr(torch.optim.lr_scheduler, name)(optimizer.made, *arguments, **options), optimizer))


def _argument(run: Run, name: str, operand: Operand, equation: Equation) -> Any:
    """A plain value for a schedule, or a function of the program that gives numbers."""
    functions = items_in(operand) or [operand]
    if name in OF_FUNCTIONS and all(isinstance(each, Const) and isinstance(each.value, FunctionValue) for each in functions):
        found = [_of_function(run, each, equation) for each in functions]
        return found if functions[0] is not operand else found[0]
    value = run.decided_by(run.written_out(operand))
    parts = value if isinstance(value, (tuple, list)) else [value]
    if any(type(part) not in PLAIN for part in parts):
        raise ForbiddenError(f"`{name}` takes an optimizer and plain numbers here, not {describe(value)}.")
    return value


def _of_function(run: Run, function: Operand, equation: Equation) -> Callable[[int], float]:
    def of(count: int) -> float:
        found = run.decided_by(run.written_out(call_value(run, function, [Const(count)], {}, equation)))
        if type(found) not in (int, float):
            raise EvaluationError(f"The function of `{equation.target}` gives a number, and not {describe(found)}.")
        return float(found)

    return of


def stepped(run: Run, equation: Equation) -> Operand:
    """`optimizer.step()`, `scheduler.step()`; what is called so and is neither is passed over.

    Raises:
        ForbiddenError: it is given what is no function.
        EvaluationError: torch refuses the step.
    """
    target, *arguments = run.held_items(equation.operands)
    stepper = _stepper(target)
    if stepper is None:
        return Const(None)
    run.turn()
    if (optimizer := stepper.of or stepper).groups:
        _settle(run, optimizer)
    parameters = stepper.parameters
    if not parameters:
        values = [run.decided_by(run.written_out(each)) for each in arguments]
        numbers = [float(each) if isinstance(each, Tensor) and each.numel() == 1 else each for each in values]
        if any(type(each) not in (int, float) for each in numbers):
            raise ForbiddenError("The step of a schedule takes a number here, or nothing.")
        with _as_torch(run, equation):
            stepper.made.step(*numbers)
        return Const(None)
    if len(arguments) > 1 or equation.keywords:
        raise ForbiddenError("The step of an optimizer takes a function without parameters here, or nothing.")
    if not run.owns_inputs:
        run.stepped.update((id(x), x) for x in parameters)
        return Const(None)
    found: list[Operand] = []

    def closure() -> Any:
        found.append(call_value(run, arguments[0], (), {}, equation))
        _give(run, parameters)
        return run.read(run.written_out(found[-1]))

    searches = isinstance(stepper.made, torch.optim.LBFGS)
    if arguments and not searches:
        closure()
    _give(run, parameters)
    try:
        with _as_torch(run, equation), torch.no_grad():
            stepper.made.step(*([closure] if arguments and searches else []))
    finally:
        for x in parameters:
            x.grad = None
    return found[0] if found else Const(None)


def _give(run: Run, parameters: Sequence[Tensor]) -> None:
    """Parameters get in `.grad` what a run holds for them, for torch to see."""
    for slot, x in _held(run, parameters):
        gradient = run.grads.get(slot)
        x.grad = None if gradient is None else gradient.detach()


def groups(run: Run, equation: Equation) -> Operand:
    """`optimizer.param_groups`: a dictionary for each, which may be written to, and is read again at the next step."""
    stepper = _stepper(run.held(equation.operands[0]))
    if stepper is None:
        raise ForbiddenError("Only an optimizer of the program has `.param_groups` here.")
    _settle(run, stepper)
    for group, *told in zip(stepper.made.param_groups, stepper.groups, stepper.shown, strict=True):
        for entries in told:
            entries["params"] = run.pack("list", [Ref(slot) for slot, _ in _held(run, group["params"])])
    return run.pack("list", [Const(Entries(entries)) for entries in stepper.groups])


def _settle(run: Run, stepper: Stepper) -> None:
    """What the program has written to the groups of an optimizer counts from here on, and it sees what torch has.

    Raises:
        ForbiddenError: it is no plain value, or under no word of an option.
    """
    for group, entries, shown in zip(stepper.made.param_groups, stepper.groups, stepper.shown, strict=False):
        for word in [word for word in entries if entries[word] != shown.get(word)]:
            group[word] = _plain(run, type(stepper.made).__name__, str(word), entries[word])
        entries.pop("params", None)
    stepper.shown[:] = [
        {word: Const(value) for word, value in group.items() if type(value) in PLAIN} for group in stepper.made.param_groups
    ]
    stepper.groups.extend({} for _ in stepper.shown[len(stepper.groups) :])
    for entries, shown in zip(stepper.groups, stepper.shown, strict=True):
        entries.update(shown)


def added(run: Run, equation: Equation) -> Operand:
    """`optimizer.add_param_group({"params": head.parameters()})`"""
    target, *given = run.held_items((*equation.operands, *(operand for _, operand in equation.keywords)))
    stepper = _stepper(target)
    if stepper is None or len(given) != 1:
        raise ForbiddenError("An optimizer of the program gets one group of parameters at a time here.")
    with _as_torch(run, equation):
        stepper.made.add_param_group(_group(run, type(stepper.made).__name__, given[0]))
    return Const(None)


def gradient(run: Run, equation: Equation) -> Operand:
    """`p.grad = p.grad / 2`: what a leaf of the program's own holds from there on."""
    leaf, value = map(run.on_tape, equation.operands)
    x, new = run.read(leaf), run.read(value)
    slots = [slot for slot, _ in _held(run, [x])]
    if not run.owns_inputs or not slots or not isinstance(new, Tensor) or new.shape != x.shape:
        raise ForbiddenError("`.grad` can be given a tensor of the leaf's shape, or None, before a step of an optimizer alone.")
    run.grads[slots[0]] = new.detach().clone()
    return Const(None)


def cleared(run: Run, equation: Equation) -> Operand:
    """`optimizer.zero_grad()`, which leaves zeros with `set_to_none=False`."""
    target, *arguments = run.held_items(equation.operands)
    keywords = dict(equation.keywords)
    flag = arguments[0] if arguments else run.held(keywords["set_to_none"]) if "set_to_none" in keywords else Const(True)
    stepper, to_none = _stepper(target), run.decided_by(run.written_out(flag))
    for slot, x in _held(run, stepper.parameters if stepper is not None else ()):
        if to_none:
            run.grads.pop(slot, None)
        elif slot in run.grads:
            run.grads[slot] = torch.zeros_like(x)
    return Const(None)


def cleared_of(run: Run, equation: Equation) -> Operand:
    """`net.zero_grad()`, of those parameters of a module that the program reads."""
    slots = [slot for slot, name in enumerate(run.program.inputs) if name.startswith(f"{equation.target}.")]
    clear = replace(equation, op=CLEAR, operands=tuple(map(Ref, slots)), slot=run.new_slot())
    return derived(run, clear) if slots else Const(None)


def clipped(run: Run, equation: Equation) -> Operand:
    """`torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)`: of what the leaves of a run hold in `.grad`."""
    limits, keywords = run.held_items(equation.operands), dict(run.spread(equation.keywords))
    given = run.held(keywords.pop("parameters")) if "parameters" in keywords else limits.pop(0) if limits else Const(None)
    if not run.owns_inputs:
        raise ForbiddenError(f"`{equation.target}` changes .grad, and what is read of it behind would have no derivative here.")
    parameters = [_parameter(run, equation.target, each) for each in (run.items_of(given) if run.is_sequence(given) else [given])]
    numbers = [_plain(run, equation.target, "", each) for each in limits]
    named = {word: _plain(run, equation.target, "", run.held(each)) for word, each in keywords.items()}
    slots = [(slot, x) for slot, x in _held(run, parameters) if slot in run.grads]
    for slot, x in slots:
        x.grad = run.grads[slot].detach().clone()
    try:
        with _as_torch(run, equation):
            found = getattr(torch.nn.utils, equation.target)([x for _, x in slots], *numbers, **named)
    finally:
        for slot, x in slots:
            if x.grad is not None:
                run.grads[slot] = x.grad
            x.grad = None
    return Const(None if found is None else float(found))


def _held(run: Run, parameters: Sequence[Any]) -> Iterator[tuple[int, Tensor]]:
    """Parameters with the slots under which their gradients are kept; none of what has no gradient here."""
    slots = {id(run.values[slot]): slot for slot in reversed(run.leaves) if slot in run.values}
    yield from ((slots[id(x)], x) for x in parameters if id(x) in slots)


def _stepper(operand: Operand) -> Stepper | None:
    return operand.value if isinstance(operand, Const) and isinstance(operand.value, Stepper) else None


@contextmanager
def _as_torch(run: Run, equation: Equation) -> Iterator[None]:
    """Inside, what torch raises is told as of a step of the program."""
    try:
        yield
    except JvpError:
        raise
    except Exception as error:
        raise run.failure(error, replace(equation, operands=(), keywords=()), (), {}) from None


def _listed(names: frozenset[str]) -> str:
    return f"there are {', '.join(sorted(names))}"


HANDLERS: Mapping[str, Handler] = {
    "optimizer": made, "schedule": scheduled, "step": stepped, "optimizer:clear": cleared, "clip": clipped,
    "optimizer:groups": groups, "optimizer:add": added, "optimizer:gradient": gradient,
    "cleared": cleared_of,
}  # fmt: skip
"""Carries out what a program does with optimizers."""
