"""A function at a point, which can be run again: at other points, at many at once, with another text in its place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch._functorch.vmap import lazy_load_decompositions
from torch.utils.hooks import RemovableHandle

from jvpcli.attributes import cached_property
from jvpcli.language.course import Course, Courses, holds_anywhere, run_steps
from jvpcli.language.evaluate import (
    Evaluation,
    call_function,
    default_dtype,
    evaluate,
    evaluate_function,
    is_decided,
    is_weighed,
    run_program,
)
from jvpcli.language.operations import can_require_grad
from jvpcli.language.parse import parse
from jvpcli.language.readings import Node, custom_in, nodes_below
from jvpcli.language.substitution import DOUBLE, ModuleFunction, Noted, Place, modules_of
from jvpcli.program import Program

if TYPE_CHECKING:
    from jvpcli.language.trees import Arguments

Named = Mapping[str, Tensor]
Found = TypeVar("Found")

FEW_RUNS = 3
"""Runs of a function after which it is worth knowing its steps: it is run at many points."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A function of tensors, the point that it is looked at, and all that running it takes.

    It is evaluated when something first asks for `evaluation`, which may raise what `language.evaluate` raises; so may
    everything that runs it again.  A Python function raises whatever it likes.

    Attributes:
        function: a program, or a Python function of tensors.
        inputs: name to tensor: the point.  No evaluation changes these tensors.
        wrt: the names of the inputs to differentiate.
        tracked: the names of further inputs that require grad, since the user's own code differentiates them itself.
        seed: where random functions start; the same each time the function runs.
        memory_limit: bytes that an evaluation may take, and then the derivatives of it; None: what there is.
        functions: the imported functions that a program may call, by name.
        reads: for each of them the inputs that it takes without the text's giving them, as `parse` wants to know.
        dtype: the floating dtype of tensors that the function makes out of nothing; None: torch's default.
        only: the names of the outputs that are looked at; None: all.
        tied: other names of differentiated parameters that modules share, and the name that each stands under in `wrt`.
        arguments: what a Python function is called with, where that is more than the inputs.
        away: for each run of code of the user's own, also of this problem in double precision, whether it was elsewhere than
            at the point itself.
        written: where the function holds tensors from outside that it writes to, as far as that is known.
        courses: of evaluations of a text at these shapes, under this memory limit; None: it is evaluated as ever.
        before: what was noted of an earlier run that did the same as the evaluation does.
        handles: how many hooks there were in this process before any code of the user's own ran.
    """

    function: Program | Callable[..., Any]
    inputs: Named
    wrt: tuple[str, ...]
    seed: int = 0
    memory_limit: int | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    reads: Mapping[str, Sequence[str]] | None = None
    dtype: torch.dtype | None = None
    only: tuple[str, ...] | None = None
    tracked: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    arguments: Arguments | None = None
    away: list[bool] = field(default_factory=list, repr=False)
    written: list[Place] = field(default_factory=list, repr=False)
    courses: Courses | None = field(default=None, repr=False)
    before: Noted | None = None
    handles: int = field(default_factory=lambda: RemovableHandle.next_id)  # each hook that is registered takes the next

    # At the point

    @cached_property
    def evaluation(self) -> Evaluation:
        """The function at the point, with its graph; evaluated once."""
        evaluation = self._on_course(self.inputs)
        if evaluation is None:
            evaluation = self.at()
            if RemovableHandle.next_id != self.handles:
                return replace(evaluation, hooked=True)
            self._note(evaluation)
        return evaluation

    def _on_course(self, inputs: Named) -> Evaluation | None:
        """The function at some inputs by the steps of earlier evaluations; None where there may be others.

        Where each call is watched, the function runs as ever: what has begun to go another way would be seen twice.
        """
        if self.courses is None or self.only is not None or not isinstance(self.function, Program):
            return None
        if torch._C._len_torch_function_stack():
            return None
        with default_dtype(self.dtype):
            return self.courses.again(self.function, inputs, self.wrt, self.memory_limit)

    def _note(self, evaluation: Evaluation) -> None:
        """An evaluation at these shapes has gone the ordinary way."""
        if self.courses is not None and self.only is None and isinstance(self.function, Program):
            self.courses.note(self.function, evaluation)

    @property
    def course(self) -> Course | None:
        """The course that the evaluation took again; None where it went the ordinary way."""
        known, courses = self.evaluation.known, self.courses
        return courses.course if known and courses and courses.course and courses.course.known is known else None

    @cached_property
    def leaves(self) -> Named:
        """The inputs to differentiate, as the evaluation's graph has them."""
        return self.evaluation.leaves

    @cached_property
    def nodes(self) -> Mapping[str, Sequence[Node]]:
        """The graph of each output, as `nodes_below` gives it."""
        return {name: nodes_below(y.grad_fn) for name, y in self.evaluation.outputs.items()}

    def below(self, output: str) -> Sequence[Node]:
        """The graph of one output."""
        return self.nodes[output]

    @cached_property
    def differentiable(self) -> Named:
        """The outputs that a gradient can flow from; maybe none."""
        outputs = self.evaluation.outputs.items()
        found = {name: y for name, y in outputs if y.requires_grad and can_require_grad(y)}
        others = any(x.requires_grad for name, x in self.evaluation.inputs.items() if name not in self.evaluation.wrt)
        return {name: y for name, y in found.items() if self._reaches(y)} if others else found

    @cached_property
    def weighed(self) -> bool:
        """Whether derivatives take numbers that follow from the inputs and are not differentiated: a mask, a detached factor."""
        return is_weighed(self.evaluation)

    @cached_property
    def decided(self) -> bool:
        """Whether values that follow from what is differentiated may decide what runs; in custom functions nobody knows."""
        return is_decided(self.evaluation) or (self.is_own and bool(self.custom))

    def once(self, asked: Hashable, find: Callable[[], Found]) -> Found:
        """What follows from the steps and the shapes alone, as `find` finds it: once for all evaluations that go one course."""
        if asked not in self._facts:
            self._facts[asked] = find()
        found: Found = self._facts[asked]
        return found

    def found(self, asked: Hashable) -> Any:
        """What `once` has found out already; None where it has not been asked."""
        return self._facts.get(asked)

    @cached_property
    def _facts(self) -> dict[Hashable, Any]:
        known = self.evaluation.known
        return {} if known is None else known.facts

    @cached_property
    def custom(self) -> tuple[type[torch.autograd.Function], ...]:
        """The `torch.autograd.Function`s in the graphs of the outputs, each once."""
        return custom_in(self.nodes.values())

    def _reaches(self, y: Tensor) -> bool:
        """Whether an output's graph leads to what is differentiated, and not to further inputs alone."""
        total = torch.view_as_real(y.resolve_conj()).sum() if y.is_complex() else y.sum()
        leaves = list(self.leaves.values())
        return any(
            g is not None for g in torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
        )

    def size(self, output: str) -> float:
        """How large the terms that an output is summed from may be taken to be: as its largest finite entry; 1 if none is."""
        y = self.evaluation.outputs[output].detach()
        if not y.numel():
            return 0.0
        found = float(y.abs().nan_to_num(nan=0.0, posinf=0.0).max())
        return found if found or bool(y.isfinite().any()) else 1.0

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files with code of the user's own: of the imported functions, or of the Python function."""
        from jvpcli.language.imports import files_of  # most problems have no such files

        return files_of(self.functions, None if isinstance(self.function, Program) else self.function)

    @cached_property
    def modules(self) -> Sequence[nn.Module]:
        """The modules that code of the user's own may use, but for one that is the function itself, which sees to that."""
        if isinstance(self.function, ModuleFunction):
            return ()
        return modules_of(*self.functions.values()) if isinstance(self.function, Program) else modules_of(self.function)

    @property
    def is_own(self) -> bool:
        """Whether code of the user's own runs: a Python function, or imported ones."""
        return bool(self.functions) or not isinstance(self.function, Program)

    # Elsewhere

    def settle(self) -> None:
        """Code of the user's own runs at the point once more, if it ran elsewhere last: what it keeps is of the point then."""
        if self.is_own and self.away and self.away[-1]:
            with suppress(Exception):  # it ran here before: whatever it raises now is nobody's question
                self.at()

    def at(self, points: Named | None = None, seed: int | None = None) -> Evaluation:
        """The function evaluated anew, with other values of some inputs, and maybe another seed."""
        elsewhere = points is not None and seed is None and _are_alike(points, self.inputs)
        if elsewhere and (again := self._on_course({**self.inputs, **(points or {})})) is not None:
            return again
        self.away.append(points is not None or seed is not None or self.dtype is not None)
        inputs, seed = {**self.inputs, **(points or {})}, self.seed if seed is None else seed
        with default_dtype(self.dtype):
            if isinstance(self.function, Program):
                limits: dict[str, Any] = {"memory_limit": self.memory_limit, "functions": self.functions}
                evaluation = evaluate(self.function, inputs, wrt=self.wrt, tracked=self.tracked, seed=seed, **limits)
            else:
                written = self.function.written if isinstance(self.function, ModuleFunction) else self.written
                own = self.arguments, self.modules, self.dtype is not None, written
                evaluation = evaluate_function(self.function, inputs, self.wrt, self.tracked, seed, *own)
        if elsewhere and len(self.away) > FEW_RUNS and self.courses is not None and self.courses.course is None:
            self._note(evaluation)
        return evaluation if self.only is None else replace(evaluation, outputs=self._looked_at(evaluation.outputs))

    def run(self, tensors: Named) -> dict[str, Tensor]:
        """The outputs with tensors in the place of some inputs, used as they are (dual numbers), and no seed."""
        given = self.evaluation.inputs.items()
        self.away.append(True)
        inputs = {name: x.detach().clone().requires_grad_(name in self.tracked) for name, x in given} | dict(tensors)
        with default_dtype(self.dtype):
            if isinstance(self.function, Program):
                return self._looked_at(run_program(self.function, inputs, self.functions))
            own = self.arguments, self.modules, self.dtype is not None, self.written
            return self._looked_at(call_function(self.function, inputs, *own))

    def retry(self, expression: str) -> Problem:
        """A problem with the same inputs, whose program is another text.

        Raises:
            JvpError: the text is refused.
        """
        return replace(self, function=parse(expression, self.inputs.keys(), self.reads))

    def in_double(self) -> Problem:
        """The problem in double precision: inputs, imported modules, and tensors that the function makes out of nothing."""
        from jvpcli.language.imports import in_double

        inputs = {name: x.detach().to(DOUBLE.get(x.dtype, x.dtype)) for name, x in self.inputs.items()}
        # each with memory of its own, as the points around it have
        inputs = {name: x.clone(memory_format=torch.contiguous_format) for name, x in inputs.items()}
        functions = {name: in_double(function) for name, function in self.functions.items()}
        courses = None if self.courses is None else Courses()
        function = in_double(self.function)
        return replace(self, function=function, inputs=inputs, functions=functions, dtype=torch.float64, courses=courses)

    def _looked_at(self, outputs: Named) -> dict[str, Tensor]:
        return {name: outputs[name] for name in (outputs if self.only is None else self.only)}

    # Many points at once

    @cached_property
    def can_stack(self) -> bool:
        """Whether the steps of the evaluation hold at any point, and give the same one by one or together.

        They don't where something is decided by a value, drawn at random, changed in place, or done by the user's code, and
        where the program takes derivatives itself, or lets a graph end.
        """
        program = self.function
        return isinstance(program, Program) and self.once("stack", lambda: holds_anywhere(program, self.evaluation))

    def stack(self, points: Named) -> dict[str, Tensor]:
        """The outputs at many points at once, where `can_stack`.

        Args:
            points: a value of every differentiated input for each point, along a new first axis; so are the outputs.

        Raises:
            Whatever a step raises.
        """
        evaluation = self.evaluation

        def steps(*values: Tensor) -> tuple[Tensor, ...]:
            """The steps of the evaluation one after the other; nothing is decided anew."""
            given = {**evaluation.inputs, **dict(zip(evaluation.wrt, values, strict=True))}
            held: dict[int, Any] = dict(enumerate(given[name] for name in evaluation.inputs))
            run_steps(evaluation.tape, held)
            return tuple(held[slot] for slot in evaluation.output_slots.values())

        found = at_rows(steps, [points[name] for name in evaluation.wrt])
        return dict(zip(evaluation.output_slots, found, strict=True))


def _are_alike(points: Named, inputs: Named) -> bool:
    """Whether some values have the shapes and dtypes of the inputs in whose place they are."""
    return all(x.shape == inputs[name].shape and x.dtype == inputs[name].dtype for name, x in points.items())


def at_rows(function: Callable[..., Sequence[Tensor]], stacks: Sequence[Tensor], light: bool = False) -> list[Tensor]:
    """What a function of tensors gives for each row of some stacks of them, computed together: a stack for each result.

    This is `torch.vmap` of tensors to a sequence of tensors; the forms of arguments and results that it also reads take
    longer than a small problem.  `light`: by the rules behind `is_grads_batched=True`, which few operations have.

    Raises:
        RuntimeError: an operation has no rule for many at once, or draws random numbers.
    """
    count = stacks[0].shape[0]
    if light:
        level = torch._C._vmapmode_increment_nesting()
        try:
            found = function(*[torch._add_batch_dim(stack, 0, level) for stack in stacks])
            return [torch._remove_batch_dim(each, level, count, 0) for each in found]
        finally:
            torch._C._vmapmode_decrement_nesting()
    lazy_load_decompositions()
    level = functorch._vmap_increment_nesting(count, "error")
    try:
        found = function(*[functorch._add_batch_dim(stack, 0, level) for stack in stacks])
        return [functorch._remove_batch_dim(each, level, count, 0) for each in found]
    finally:
        functorch._vmap_decrement_nesting()
