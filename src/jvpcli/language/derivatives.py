"""Derivative calls of a program as they run: `torch.autograd.grad`, `.backward`, `.grad`.

A call is torch's own, on the graph that the program has made so far, so that it gives and raises what it does in PyTorch.
On the tape it is a step by itself, a function of the program's inputs: given others, it runs the steps before it again
and asks for the derivative there (`Derivative`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError
from jvpcli.language.operations import can_require_grad, carried_out, check_result, read_operand
from jvpcli.language.run import Handler, Run
from jvpcli.program import BACKWARD, CLEAR, GRAD, READ, Const, Equation, Operand, Pack, Ref, refs


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """A run whose derivative calls work on its own graph.

    Attributes:
        values: slot to value.
        leaves: the slots that `backward` gives a gradient: of inputs, and of leaves that the program makes itself.
        grads: what `.grad` of each slot holds.
        freed: the nodes of the graph whose buffers PyTorch would have freed by now.  They are kept, for the answer's own
            passes; what asks for them again fails as in PyTorch.
    """

    values: dict[int, Any]
    leaves: Sequence[int]
    grads: dict[int, Tensor] = field(default_factory=dict)
    freed: set[Any] = field(default_factory=set)

    def step(self, equation: Equation, functions: Mapping[str, Callable[..., Any]]) -> Any:
        """Carry out one step, as it stands in the history of a run."""
        if equation.op in (READ, CLEAR):
            return self.held(equation)
        if equation.op not in (GRAD, BACKWARD):
            return carried_out(equation, self.values, functions)
        keywords = {name: read_operand(operand, self.values) for name, operand in equation.keywords}
        if equation.op == GRAD:
            _check_count(keywords["outputs"], keywords.get("grad_outputs"))
            return tuple(self.gradients(**keywords))
        return self.backward(equation, keywords)

    def backward(self, equation: Equation, keywords: Mapping[str, Any]) -> None:
        """Add the gradients to what the leaves hold, as torch does."""
        options = dict(keywords)
        tensors, weights, chosen = options.pop("tensors"), options.pop("grad_tensors", None), options.pop("inputs", None)
        slots = [slot for slot in self.leaves if slot in self.values]
        if chosen is not None:
            given = [operand for name, operand in equation.keywords if name == "inputs"]
            items = given[0].items if isinstance(given[0], Pack) else given
            if not all(isinstance(item, Ref) and isinstance(self.values[item.slot], Tensor) for item in items):
                raise EvaluationError("`inputs` of backward are tensors of the program.")
            slots = [self.leaf(slot) for operand in items for slot in refs(operand)]
        leaves = [self.values[slot] for slot in slots]
        if not any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves):
            torch.autograd.backward(tensors, weights, **options)  # which says what is wrong
            return
        found = self.gradients(tensors, leaves, grad_outputs=weights, allow_unused=True, **options)
        for slot, gradient in zip(slots, found, strict=True):
            if gradient is not None:
                self.grads[slot] = gradient if slot not in self.grads else self.grads[slot] + gradient

    def gradients(self, outputs: Any, inputs: Any, **options: Any) -> Sequence[Tensor | None]:
        """What torch.autograd.grad gives, and raises; the graph stays.

        Raises:
            RuntimeError: what it needs has been freed, in torch's own words, or whatever else torch raises.
        """
        keeps = options.get("retain_graph")
        keeps = bool(options.get("create_graph")) if keeps is None else bool(keeps)
        nodes = _passed(outputs, inputs) if self.freed or not keeps else set()
        if not self.freed.isdisjoint(nodes):
            _ask_twice()
        found: Sequence[Tensor | None] = torch.autograd.grad(outputs, inputs, **{**options, "retain_graph": True})
        self.freed.update(() if keeps else filter(_has_buffers, nodes))
        return found

    def leaf(self, slot: int) -> int:
        """The slot under which the gradient of a tensor is kept: of a leaf, also where it was changed in place, its first."""
        return next((leaf for leaf in self.leaves if self.values.get(leaf) is self.values[slot]), slot)

    def held(self, equation: Equation) -> Tensor | None:
        """`x.grad`, or that it holds nothing from here on."""
        slots = [self.leaf(slot) for operand in equation.operands for slot in refs(operand)]
        if equation.op == READ:
            return self.grads.get(slots[0])
        for slot in slots or list(self.grads):
            self.grads.pop(slot, None)
        return None


def _passed(outputs: Any, inputs: Any) -> set[Any]:
    """The nodes of the graph that a backward pass from outputs to inputs goes through."""
    ends = {_node(x) for x in (inputs if isinstance(inputs, (tuple, list)) else [inputs])}
    starts = [_node(y) for y in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]
    leads: dict[Any, bool] = dict.fromkeys(ends, True)
    waiting = [(node, False) for node in starts if node is not None]
    while waiting:
        node, done = waiting.pop()
        if done:
            leads[node] = leads[node] or any(leads.get(after, False) for after, _ in node.next_functions if after is not None)
        elif node not in leads:
            leads[node] = False
            waiting += [(node, True), *((after, False) for after, _ in node.next_functions if after is not None)]
    return {node for node, goes in leads.items() if goes} - ends


def _node(x: Any) -> Any:
    """Where a tensor stands in the graph."""
    return torch.autograd.graph.get_gradient_edge(x).node if isinstance(x, Tensor) and x.requires_grad else None


def _has_buffers(node: Any) -> bool:
    """Whether a node holds tensors that are freed when it has been passed."""
    names = [name[4:] for name in dir(node) if name.startswith("_raw_saved_")]
    held = [getattr(node, name, None) if hasattr(node, name) else getattr(node, name[1:], None) for name in names]
    return any(part is not None and part != () for part in held)


def _ask_twice() -> None:
    """Raises what torch does where a graph was freed."""
    x = torch.ones((), requires_grad=True)
    y = x * x
    torch.autograd.grad(y, x)
    torch.autograd.grad(y, x)


def _check_count(outputs: Any, weights: Any) -> None:
    """Refuse more weights than there are outputs: torch would pass over those beyond.

    Raises:
        EvaluationError: there are more.
    """
    given, taken = (len(part) if isinstance(part, (tuple, list)) else 1 for part in (weights, outputs))
    if given > taken:
        raise EvaluationError(f"torch.autograd.grad is given {given} grad_outputs, and there are only {taken} outputs.")


@dataclass(frozen=True, slots=True, eq=False)
class Derivative:
    """A derivative call as a function of the program's inputs.

    Attributes:
        history: the steps of the run, of which the first `count` come before the call.
        call: the call itself, on the slots of the history.
        part: which of the gradients that the call gives; None: it gives one.
        inputs: the slots of the program's inputs; `leaves`: those that are differentiated, and leaves of the program's own.
        state: where random numbers begin.
        functions: the imported functions.
    """

    history: Sequence[Equation]
    count: int
    call: Equation
    part: int | None
    inputs: Sequence[int]
    leaves: Sequence[int]
    state: Tensor | None
    functions: Mapping[str, Callable[..., Any]]

    def at(self, values: Sequence[Any]) -> Any:
        """What the call gives at other inputs."""
        given = {
            slot: value.clone() if isinstance(value, Tensor) and slot not in self.leaves else value
            for slot, value in zip(self.inputs, values, strict=True)
        }
        for slot in given.keys() & {*self.leaves}:
            leaf = given[slot]
            given[slot] = leaf.view_as(leaf) if leaf.requires_grad else leaf.detach().requires_grad_()
        assert self.state is not None  # a program with derivative calls has one
        live, before = Live(given, self.leaves), torch.default_generator.get_state()
        torch.default_generator.set_state(self.state)
        try:
            with torch.enable_grad():
                for equation in self.history[: self.count]:
                    live.values[equation.slot] = live.step(equation, self.functions)
                found = live.step(self.call, self.functions)
                return found if self.part is None else found[self.part]
        finally:
            torch.default_generator.set_state(before)


class Opening:
    """A tensor under another name, with a graph: what is derived by it is what is computed from this name."""

    def at(self, values: Sequence[Tensor]) -> Tensor:
        """The tensor."""
        (x,) = values
        return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def derivation(step: Equation) -> Derivative | None:
    """The derivative call behind a step of a tape; None behind any other, such as one that opens a tensor."""
    by = dict(step.keywords).get("by")
    return by.value if isinstance(by, Const) and isinstance(by.value, Derivative) else None


OPENING = Opening()
"""Stands in the step of a tape that does so."""


def open_(run: Run, equation: Equation) -> Operand:
    """`y.requires_grad_()`: nothing where y has a graph; else what is derived by it is what is computed from here on."""
    operand = run.on_tape(equation.operands[0])
    x = run.read(operand)
    if not isinstance(x, Tensor) or not can_require_grad(x):
        raise EvaluationError("Only tensors of floating point can require a gradient.")
    if x.requires_grad:
        return operand
    opened = run.do("derive:open", (operand,), equation.span, (("by", Const(OPENING)),))
    run.leaves += refs(opened)
    return opened


def derive(run: Run, equation: Equation) -> Operand:
    """A derivative call, on the graph that the run has made so far."""
    operands = tuple(map(run.on_tape, equation.operands))
    keywords = tuple((name, run.on_tape(operand)) for name, operand in equation.keywords)
    call = replace(equation, operands=operands, keywords=keywords, slot=run.new_slot())
    named = dict(call.keywords)
    if run.is_made_of_rows(named.get("outputs", named.get("tensors", Const(None)))):  # they have no graph outside of vmap
        raise EvaluationError(
            "torch.autograd finds no graph in what torch.vmap makes of its rows",
            torch_message="element 0 of tensors does not require grad and does not have a grad_fn",
            hints=["Inside of vmap torch.func.grad takes the derivative, of a function: vmap(grad(f))(rows)."],
        )
    return derived(run, call)


def derived(run: Run, call: Equation) -> Operand:
    """What a derivative call gives, whose operands are those of the tape."""
    leaves = tuple(run.leaves)
    if run.keeps_graph and call.op == GRAD:
        others = [(name, operand) for name, operand in call.keywords if name != "retain_graph"]
        call = replace(call, keywords=(*others, ("retain_graph", Const(True))))
    try:
        found = Live(run.values, leaves, run.grads, run.freed).step(call, run.functions)
    except JvpError:
        raise
    except Exception as error:
        raise run.failure(error, call, (), {}) from None
    made = Derivative(run.history, len(run.history), call, None, run.inputs, leaves, run.state, run.functions)
    if call.op == GRAD:
        run.history.append(call)
        return run.pack("tuple", [_part(run, replace(made, part=part), value) for part, value in enumerate(found)])
    result = Const(None) if found is None else _part(run, made, found)
    run.history.append(call)
    return result


def clear(run: Run, equation: Equation) -> Operand:
    """`net.zero_grad()`, of those parameters of a module that the program reads."""
    slots = [slot for slot, name in enumerate(run.program.inputs) if name.startswith(f"{equation.target}.")]
    call = replace(equation, op=CLEAR, operands=tuple(map(Ref, slots)), slot=run.new_slot())
    return derived(run, call) if slots else Const(None)


def _part(run: Run, made: Derivative, value: Tensor | None) -> Operand:
    """One gradient as a step of the tape."""
    if value is None:
        return Const(None)
    check_result(value, made.call.op, run.devices)
    operands = tuple(Ref(slot) for slot in made.inputs)
    keywords = (("by", Const(made)),)
    step = replace(made.call, operands=operands, keywords=keywords, slot=run.new_slot(), recorded=run.recording)
    source = (
        replace(made.call, slot=step.slot)
        if made.part is None
        else Equation("op:getitem", (Ref(made.call.slot), Const(made.part)), step.slot, step.span)
    )
    return run.record(step, value, source)


def refill(run: Run, equation: Equation) -> Operand:
    """The value of `w.data = value`, with which the memory of w is filled: where that is the same as giving w another memory."""
    value, held = map(run.on_tape, equation.operands)
    new, old = run.read(value), run.read(held)
    if not isinstance(new, Tensor) or not isinstance(old, Tensor) or (new.shape, new.dtype) != (old.shape, old.dtype):
        raise ForbiddenError("`.data` can be given a tensor of the same shape and dtype here.")
    memory = old.untyped_storage().data_ptr()
    for name, other in run.named().items():
        if isinstance(other, Tensor) and other is not old and other.untyped_storage().data_ptr() == memory:
            raise ForbiddenError(
                f"`.data` can't be given another tensor here: `{name}` is a view of the same memory, and would keep the old one.",
                hints=[f"make `{name}` a tensor of its own by .clone(), or change the memory by .copy_(…)"],
            )
    return value


HANDLERS: Mapping[str, Handler] = {"derive": derive, "derive:open": open_, "derive:refill": refill, "cleared": clear}
"""Carries out derivative calls."""
