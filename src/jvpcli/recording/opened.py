"""Programs whose steps of the user's own code are opened: in the place of one call stand the calls of torch that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jvpcli.errors import JvpError
from jvpcli.language.evaluate import call_function, outside
from jvpcli.language.operations import is_imported
from jvpcli.language.substitution import Place, is_filled, run_with
from jvpcli.language.values import not_dense
from jvpcli.problem import Problem
from jvpcli.program import IMPORTED, Const, Equation, Operand, Pack, Program, Ref, Site
from jvpcli.recording.places import pieces
from jvpcli.recording.recorder import Recorder
from jvpcli.recording.tape import NotRecorded, Recorded, free_name, record_of


def as_program(problem: Problem, name: str) -> Problem:
    """A problem of a Python function as one of a program with a single step, that function.

    Its outputs have the names that the function's own have.
    """
    function, inputs = problem.function, problem.inputs
    assert not isinstance(function, Program)
    names, outputs = tuple(inputs), tuple(problem.evaluation.outputs)

    def called(*tensors: Tensor) -> Any:
        given = dict(zip(names, tensors, strict=True))
        own = problem.arguments, problem.modules, problem.dtype is not None, problem.written
        found = tuple(call_function(function, given, *own).values())
        return found[0] if len(found) == 1 else found

    step = Equation(f"call:{IMPORTED}{name}", tuple(map(Ref, range(len(names)))), len(names), (0, len(name)))
    equations = [step]
    result: Operand = Ref(step.slot)
    if len(outputs) > 1:
        equations += [
            Equation("op:getitem", (Ref(step.slot), Const(place)), step.slot + 1 + place, (0, len(name)))
            for place in range(len(outputs))
        ]
        result = Pack("tuple", tuple(Ref(step.slot + 1 + place) for place in range(len(outputs))))
    program = Program(
        name, names, tuple(equations), result, outputs, step.slot + len(equations), tuple((0, 0) for _ in names)
    )
    shown = getattr(function, "__wrapped__", function)
    return replace(problem, function=program, functions={name: _Named(called, shown, problem.written)}, arguments=None)


@dataclass(frozen=True)
class _Named:
    """A callable, the function of the user's own that it calls, and the places of tensors from outside that this writes to."""

    call: Callable[..., Any]
    function: Callable[..., Any]
    written: list[Place]

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.call(*arguments, **keywords)


def opened(problem: Problem) -> Problem:
    """The problem with every step of the user's own opened, as far as what it does is seen.

    A step stays as it is where something in it was not seen, or is not the same when it is run again.
    """
    program = problem.function
    assert isinstance(program, Program)
    if not any(is_imported(step.op) for step in problem.evaluation.tape):
        return problem
    seen: list[_Seen | None] = []
    watched = {name: _Recording(function, seen, name) for name, function in problem.functions.items()}
    try:
        evaluation = replace(problem, functions=watched).at()
    except JvpError:
        return problem
    steps = [step for step in evaluation.tape if is_imported(step.op)]
    if len(steps) != len(seen) or not any(seen):
        return problem
    writer = _Writer(problem, evaluation.tape, dict(zip((s.slot for s in steps), seen, strict=True)))
    made = writer.written()
    return made if _same(made, problem) else problem


@dataclass(frozen=True)
class _Seen:
    """What one call of the user's own did, over the tensors that it was given: the program, and where its results are."""

    recorded: Recorded
    given: tuple[Tensor, ...]
    is_tuple: bool


@dataclass(frozen=True)
class _Recording:
    """A function of the user's own that is recorded as it runs."""

    function: Callable[..., Any]
    seen: list[_Seen | None]
    root: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)  # where random numbers go on behind the making of a module

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        place = len(self.seen)
        self.seen.append(None)
        recorder = Recorder()
        with recorder:
            result = self.function(*arguments, **keywords)
        given = [x for x in pieces((arguments, keywords)) if isinstance(x, Tensor)]
        results = [result] if isinstance(result, Tensor) else list(result) if type(result) in (tuple, list) else []
        if results and all(isinstance(y, Tensor) for y in results):
            names = _names(self.function)
            outputs = {f"result{k}": y for k, y in enumerate(results)}
            inputs = {f"given{k}": x for k, x in enumerate({id(x): x for x in given}.values())}
            try:
                found = record_of(recorder, outputs, inputs, names, self.root)
            except NotRecorded:
                return result
            self.seen[place] = _Seen(found, tuple(inputs.values()), not isinstance(result, Tensor))
        return result


def _names(function: Any) -> dict[int, str]:
    """By `id` what the parameters and buffers are called that a function of the user's own may use."""
    function = getattr(function, "function", function)
    modules: dict[str, nn.Module] = {}
    if isinstance(function, nn.Module):
        modules[""] = function
    elif hasattr(function, "__globals__"):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        scope = {**function.__globals__, **{name: cell.cell_contents for name, cell in cells if is_filled(cell)}}
        modules = {name: value for name, value in scope.items() if isinstance(value, nn.Module)}
    found: dict[int, str] = {}
    for name, module in modules.items():
        for path, x in (*module.named_parameters(), *module.named_buffers()):
            found.setdefault(id(x), f"{name}.{path}" if name else path)
    return found


@dataclass
class _Writer:
    """The tape with the opened steps in their places."""

    problem: Problem
    tape: Sequence[Equation]
    seen: Mapping[int, _Seen | None]
    equations: list[Equation] = field(default_factory=list)
    sites: dict[int, Site] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    next_slot: int = 0

    def written(self) -> Problem:
        """The new problem: constants of the opened steps are further inputs, which nothing differentiates."""
        program = self.problem.function
        assert isinstance(program, Program)
        self.inputs = dict(self.problem.inputs)
        constants: dict[int, str] = {}
        for found in self.seen.values():
            for name, x in found.recorded.inputs.items() if found is not None else ():
                if not any(x is y for y in found.given) and id(x) not in constants:  # type: ignore[union-attr]
                    constants[id(x)] = free = free_name(name, self.inputs)
                    self.inputs[free] = x.detach()
        order = {name: slot for slot, name in enumerate(self.inputs)}
        self.slots = {slot: order[name] for slot, name in enumerate(program.inputs)}
        self.next_slot = len(self.inputs)
        for step in self.tape:
            found = self.seen.get(step.slot)
            if found is None:
                self.slots[step.slot] = self.add(self.moved(step, self.slots))
            else:
                self.slots[step.slot] = self.open(step, found, {k: order[n] for k, n in constants.items()})
        results = tuple(map(Ref, self.problem.evaluation.output_slots.values()))
        new = replace(
            program,
            inputs=tuple(self.inputs),
            equations=tuple(self.equations),
            result=self.operand(results[0] if len(results) == 1 else Pack("tuple", results), self.slots),
            slots=self.next_slot,
            input_spans=(*program.input_spans, *((0, 0) for _ in range(len(self.inputs) - len(program.inputs)))),
            names=(),
            sites=self.sites,
        )
        functions = {**self.problem.functions, **self.functions}
        return replace(self.problem, function=new, inputs=self.inputs, functions=functions)

    def add(self, equation: Equation, site: Site | None = None) -> int:
        """An equation, in the next slot."""
        self.equations.append(replace(equation, slot=self.next_slot))
        if site is not None:
            self.sites[self.next_slot] = site
        self.next_slot += 1
        return self.next_slot - 1

    def moved(self, step: Equation, slots: Mapping[int, int]) -> Equation:
        """A step with its operands in their new slots."""
        return replace(
            step,
            operands=tuple(self.operand(o, slots) for o in step.operands),
            keywords=tuple((name, self.operand(o, slots)) for name, o in step.keywords),
        )

    def operand(self, operand: Operand, slots: Mapping[int, int]) -> Operand:
        """An operand in its new slot."""
        if isinstance(operand, Ref):
            return Ref(slots[operand.slot])
        if isinstance(operand, Pack):
            return Pack(operand.kind, tuple(self.operand(item, slots) for item in operand.items))
        return operand

    def open(self, step: Equation, found: _Seen, constants: Mapping[int, int]) -> int:
        """The steps that a call of the user's own made; the slot of its result."""
        recorded = found.recorded
        values = self.problem.evaluation.values
        given = iter(dict.fromkeys(self.slots[ref] for ref in step.reads() if isinstance(values[ref], Tensor)))
        slots: dict[int, int] = {}
        for slot, x in enumerate(recorded.inputs.values()):
            slots[slot] = constants[id(x)] if id(x) in constants else next(given)
        for equation in recorded.program.equations:
            moved = replace(self.moved(self._named(equation, recorded), slots), span=step.span)
            slots[equation.slot] = self.add(moved, recorded.program.sites.get(equation.slot))
        result = self.operand(recorded.program.result, slots)
        if found.is_tuple:
            items = result.items if isinstance(result, Pack) else (result,)
            return self.add(Equation("builtin:tuple", (Pack("list", items),), 0, step.span))
        assert isinstance(result, Ref)
        return result.slot

    def _named(self, equation: Equation, recorded: Recorded) -> Equation:
        """The equation with a function of its own under a name that no other has."""
        if not is_imported(equation.op):
            return equation
        name = equation.target.removeprefix(IMPORTED)
        free = free_name(name, {**self.problem.functions, **self.functions})
        function = recorded.functions[name]
        written = [place for _, places in outside(self.problem.functions) for place in places]
        own = isinstance(getattr(function, "__self__", None), type)  # `apply` of a Function, which may be what writes there
        self.functions[free] = _Named(partial(_leaving, function, written), function, written) if own and written else function
        return replace(equation, op=f"call:{IMPORTED}{free}")


def _leaving(function: Callable[..., Any], written: Sequence[Place], *arguments: Any, **keywords: Any) -> Any:
    """What a function gives, which leaves the tensors in some places as they are."""
    return run_with(partial(function, *arguments, **keywords), (arguments, keywords), (), {}, written=written)


def _same(made: Problem, problem: Problem) -> bool:
    """Whether the opened program gives the same outputs, and gradients, by steps that all give dense tensors.

    Others have no local maps; and a backward may run modules that the program has not recorded.
    """
    try:
        outputs = made.evaluation.outputs
    except JvpError:
        return False
    values = (*made.inputs.values(), *made.evaluation.values.values())
    if any(isinstance(x, Tensor) and not_dense(x) for x in values):
        return False
    before = problem.evaluation.outputs
    if outputs.keys() != before.keys() or not all(_equal(outputs[name], y) for name, y in before.items()):
        return False
    try:
        expected = _gradients(problem)
    except Exception:  # it is told where the trace meets it
        return True
    try:
        found = _gradients(made)
    except Exception:  # whatever the user's own raises where it is called in another way
        return False
    return all(g is h if g is None or h is None else _near(g, h) for g, h in zip(expected, found, strict=True))


def _gradients(problem: Problem) -> list[Tensor | None]:
    """Those of a weighted sum of all outputs; None: not reached."""
    total = torch.zeros((), dtype=torch.float64)
    for y in problem.differentiable.values():
        entries = torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
        weights = torch.linspace(0.5, 1.5, entries.numel(), dtype=entries.dtype, device=entries.device)
        total = total + (entries.reshape(-1) * weights).sum().double().cpu()
    leaves = list(problem.leaves.values())
    if not total.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True))


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.detach().nan_to_num(), b.detach().nan_to_num())


def _near(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients differ by roundings alone, of sums in another order."""
    a, b = a.to_dense().nan_to_num(), b.to_dense().nan_to_num()
    return a.shape == b.shape and bool((a - b).norm() <= torch.finfo(a.dtype).eps ** 0.5 * b.norm())
