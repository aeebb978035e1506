"""A program made from recorded calls: how some tensors were computed from others, as the closed language would have it.

Every call is an equation; what the catalogue knows is named as there, anything else is a function of its own.  Whatever can be
asked of a program (a trace, finite differences, structure) can then be asked of anybody's code.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from jvpcli.language import catalog
from jvpcli.language.dependence import VIEWS
from jvpcli.language.operations import can_require_grad, carried_out, is_in_place, read_operand
from jvpcli.problem import Problem
from jvpcli.program import IMPORTED, Const, Equation, Operand, Pack, Program, Ref, Site, refs
from jvpcli.recording.calls import Call, Cut, Given, Hook, Result, hooked_step
from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.nodes import is_leaf, node_of
from jvpcli.recording.places import Place, pieces
from jvpcli.recording.recorder import Recorder, path_of

REFLECTED = {f"__r{name}__": name for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")}
OPERATORS = {
    **{f"__{name.rstrip('_')}__": name for name in catalog.SYMBOLS},
    **{f"__i{name}__": f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    "__rmul__": "mul", "__radd__": "add", "__div__": "truediv",
}  # fmt: skip
"""Python's names of operators on tensors, and the catalogue's."""


@dataclass(frozen=True)
class Recorded:
    """Calls as a program.

    Attributes:
        program: the equations, over the inputs and whatever else was given (parameters, data).
        inputs: the values of all of these by name.
        functions: what the catalogue does not know, by name.
    """

    program: Program
    inputs: Mapping[str, Tensor]
    functions: Mapping[str, Callable[..., Any]]


class NotRecorded(Exception):
    """Some step between the tensors was not seen, or its operands have been changed since; `why` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def record_of(
    recorder: Recorder,
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    names: Mapping[int, str],
    root: str = "",
) -> Recorded:
    """The program that computed some tensors from others, in the order of its calls.

    Args:
        recorder: what saw the calls.
        outputs, inputs: tensors by name; where an input was itself computed, the program begins there.
        names: by `id` what the user calls further tensors: parameters and data.
        root: what the outermost module is called, where a module is all that is called.

    Raises:
        NotRecorded: a step in between was not seen.
    """
    ends = {id(x): name for name, x in inputs.items()}
    starts = [recorder.origin(y) for y in outputs.values() if id(y) not in ends]
    known: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for x in inputs.values():
        origin = recorder.origin(x)
        if isinstance(origin, Result):
            known[origin.call.number, origin.path] = x
    calls, _ = _behind(starts, known)
    moving = _moving(calls, known, ends)
    for number, call in calls.items():
        if number not in moving:
            known |= {(number, path): x for path, x in call.alive().items() if recorder.is_as_left(x, call)}
    calls, given = _behind(starts, known)
    for origin in given:
        if origin.key() not in ends and (node := node_of(origin.tensor)) is not None:
            what = f"what made a tensor of shape {tuple(origin.tensor.shape)} ({node.name()})"
            raise NotRecorded(f"{what} was not seen step by step")
    ordered = [calls[number] for number in sorted(calls)]
    met = map(_found, (*(origin for call in ordered for origin in _origins(call)), *starts))
    constants: dict[int, Tensor] = {}
    for origin in met:
        if isinstance(origin, Given):
            x = recorder.numbers_then(origin)
            constants[origin.key()] = x.detach() if origin.is_constant() else x
        elif (held := known.get((origin.call.number, origin.path))) is not None:
            constants[id(held)] = held
    return _written(ordered, constants, known, ends, recorder, outputs, inputs, names, root)


def problem_of(call: Derivative, recorder: Recorder) -> Problem:
    """The steps from the inputs of a derivative call to its outputs, as a problem that can be run again.

    Raises:
        NotRecorded: one of them was not seen.
    """
    recorded = record_of(recorder, call.outputs, call.inputs, call.names)
    return Problem(recorded.program, recorded.inputs, tuple(call.inputs), functions=recorded.functions)


def held_before(call: Derivative) -> dict[str, Tensor]:
    """What `.grad` of the leaves of a call of backward holds already, by their names: no zeros, and nothing sparse."""
    if call.function == "torch.autograd.grad" or call.tangents is not None:
        return {}
    grads = {name: x.grad for name, x in call.inputs.items() if node_of(x) is None and x.grad is not None}
    held = {name: g.detach() if g.requires_grad else g for name, g in grads.items()}
    return {name: g for name, g in held.items() if g.layout is torch.strided and bool(g.count_nonzero())}


def with_held(call: Derivative, held: Mapping[str, Tensor], recorder: Recorder) -> Derivative:
    """The call with one more output, whose gradient by the leaves is what their `.grad` holds: the sum of the products with it.

    The gradients of all outputs then add up to what `.grad` is behind the call.  A leaf whose `.grad` holds nothing has a product
    with zeros, so that it is no input which that output doesn't use.
    """
    with torch.enable_grad(), recorder:
        products = [_product(held[name] if name in held else torch.zeros_like(x), x) for name, x in call.inputs.items()]
        output = sum(products[1:], products[0])
    names = {**call.names, **{id(g): f"{name}.grad" for name, g in held.items()}}
    outputs = {**call.outputs, free_name("held", {**call.outputs, **call.inputs}): output}
    given = call.grad_outputs or (None,) * len(call.outputs)
    return replace(call, outputs=outputs, grad_outputs=(*given, torch.ones_like(output)), names=names)


def _product(g: Tensor, x: Tensor) -> Tensor:
    """The single real number whose gradient by x is g, as PyTorch has gradients by complex numbers."""
    return (g.conj() * x).sum().real if g.is_complex() else (g * x).sum()


Known = Mapping[tuple[int, tuple[int, ...]], Tensor]
"""What is given though a call made it: by the call's number and the indices in its result."""


def _behind(starts: Sequence[Any], known: Known) -> tuple[dict[int, Call], list[Given]]:
    """The calls that some tensors were computed by, as far back as what is known, and what was given to them."""
    calls: dict[int, Call] = {}
    given: list[Given] = []
    waiting = list(starts)
    while waiting:
        origin = _found(waiting.pop())
        if isinstance(origin, Given):
            given.append(origin)
        elif (origin.call.number, origin.path) not in known:
            for call in (origin.call, *origin.writes):
                if call.number not in calls:
                    calls[call.number] = call
                    waiting += _origins(call)
    return calls, given


def _origins(call: Call) -> list[Any]:
    return [o for o in pieces((call.arguments, call.keywords)) if isinstance(o, (Given, Result, Cut))]


def _found(origin: Given | Result | Cut) -> Given | Result:
    """Where a tensor comes from; the numbers alone of one whose call is gone, or what that is a gradient of."""
    if isinstance(origin, Cut):
        call = origin.call()
        return Given(origin.tensor, origin.version) if call is None else Result(call, origin.path)
    if isinstance(origin, Result) and origin.numbers is not None:
        behind = _origins(origin.call)
        if any(isinstance(each, Cut) and each.call() is None for each in behind):
            return Given(origin.numbers.tensor, origin.numbers.version)
    if isinstance(origin, Result) and not origin.required:
        made = origin.call.results.get(origin.path)
        x = None if made is None else made()
        if x is not None and x.requires_grad and is_leaf(x):  # which was asked of it later
            return Given(x, x._version, required=False)
    return origin


def _moving(calls: Mapping[int, Call], known: Known, ends: Mapping[int, str]) -> set[int]:
    """The numbers of the calls that get something of what the program begins with."""
    moving: set[int] = set()
    for number in sorted(calls):
        for origin in map(_found, _origins(calls[number])):
            if isinstance(origin, Given):
                begins = origin.key() in ends
            else:
                begins = (origin.call.number, origin.path) in known or origin.call.number in moving
                begins = begins or any(write.number in moving for write in origin.writes if write.number < number)
            if begins:
                moving.add(number)
    for call in [calls[number] for number in moving if calls[number].function is torch.autograd.grad]:
        moving |= _behind(_origins(call), known)[0].keys()  # a gradient is taken anew of all that it is one of
    return moving


def _written(
    calls: Sequence[Call],
    given: Mapping[int, Tensor],
    known: Known,
    ends: Mapping[int, str],
    recorder: Recorder,
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    names: Mapping[int, str],
    root: str,
) -> Recorded:
    values = {name: given.get(id(x), x) for name, x in inputs.items()}
    slots = {id(x): slot for slot, x in enumerate(inputs.values())}
    for key, x in given.items():
        if key not in slots:
            slots[key] = len(values)
            values[free_name(names.get(key, "c"), values)] = x
    writer = _Writer(slots, len(values))
    for of, x in inputs.items():
        slots[id(x)] = writer.hooked(of, Ref(slots[id(x)]), x._backward_hooks or {}).slot
    writer.known.update({key: Ref(slots[id(x)]) for key, x in known.items() if id(x) in slots})
    instructions = [None if c.point is None else (c.point.code, c.point.instruction) for c in calls]
    last = {each: number for number, each in enumerate(instructions)}
    several = len({id(call.modules[0]) for call in calls if len(call.modules) > 1}) > 1
    callees = _callees(recorder, calls)
    for number, call in enumerate(calls):
        place = call.place
        name = place.name if place is not None and last[instructions[number]] == number else None
        site = _site(call, place, recorder, root, callees, several)
        writer.write(call, place, site, name)
    results = tuple(
        Ref(slots[id(y)]) if id(y) in ends else writer.operand(recorder.origin(y)) for y in outputs.values()
    )
    program = Program(
        source=", ".join(outputs),
        inputs=tuple(values),
        equations=tuple(writer.equations),
        result=results[0] if len(results) == 1 else Pack("tuple", results),
        result_names=tuple(outputs),
        slots=writer.next_slot,
        input_spans=tuple((0, 0) for _ in values),
        sites=writer.sites,
    )
    return Recorded(program, values, writer.functions)


@dataclass(eq=False)
class _Writer:
    """The equations as they are written, call by call.

    Attributes:
        slots: by `id` those of the tensors that were given.
        known: where the program begins with what a call gave, its slot.
        held: the slot of each call's result, and of the parts that were taken out of it.
        made: the equations by their slots.
        site: where the call is that is being written.
    """

    slots: Mapping[int, int]
    next_slot: int
    known: dict[tuple[int, tuple[int, ...]], Ref] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    sites: dict[int, Site] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    held: dict[tuple[int, tuple[int, ...]], Ref] = field(default_factory=dict)
    made: dict[int, Equation] = field(default_factory=dict)
    site: Site = field(default_factory=lambda: Site("", "", 0, ""))

    def write(self, call: Call, place: Place | None, site: Site, name: str | None) -> None:
        """One call as an equation."""
        op, arguments = self.operation(call, place)
        operands = tuple(map(self.operand, arguments))
        keywords = tuple((key, self.operand(value)) for key, value in call.keywords.items())
        if call.function is torch.autograd.grad:
            derived = self.derived(operands, keywords)
            self.functions[op.removeprefix(f"call:{IMPORTED}")] = derived
            operands, keywords = tuple(map(Ref, derived.inputs)), ()
        self.site = site
        equation = Equation(op, operands, 0, (0, 0), keywords, name, recorded=call.recorded, casts=call.casts)
        self.held[call.number, ()] = self.add(equation)
        for path, hooks in call.hooks.items():
            of = "tensor" if place is None or place.name is None else place.name
            self.held[call.number, path] = self.hooked(of, self.part(call.number, path), hooks)

    def hooked(self, name: str, tensor: Ref, hooks: Mapping[int, Any]) -> Ref:
        """A tensor behind those of its hooks that have given a gradient back, of which torch calls the first one first."""
        shown = f"{name}.register_hook"
        for hook in [each for each in hooks.values() if isinstance(each, Hook) and each.gave][::-1]:
            free = free_name(shown, self.functions)
            self.functions[free] = partial(hooked_step(shown).apply, hook)
            self.site = replace(self.site, text=shown)
            tensor = self.add(Equation(f"call:{IMPORTED}{free}", (tensor,), 0, (0, 0)))
        return tensor

    def add(self, equation: Equation) -> Ref:
        """An equation, in the next slot."""
        self.equations.append(replace(equation, slot=self.next_slot))
        self.made[self.next_slot] = self.equations[-1]
        self.sites[self.next_slot] = self.site
        self.next_slot += 1
        return Ref(self.next_slot - 1)

    def operand(self, value: Any) -> Operand:
        """What a call was given, as the program has it."""
        if isinstance(value, (Cut, Result)):
            value = _found(value)
        if isinstance(value, Given):
            return Ref(self.slots[value.key()])
        if isinstance(value, Result):
            return self.part(value.call.number, value.path)
        if isinstance(value, slice):
            return Pack("slice", tuple(map(self.operand, (value.start, value.stop, value.step))))
        if type(value) in (tuple, list) and any(isinstance(x, (Given, Result, Cut, slice)) for x in pieces(value)):
            return Pack("list" if type(value) is list else "tuple", tuple(map(self.operand, value)))
        return Const(value)

    def part(self, number: int, path: tuple[int, ...]) -> Ref:
        """A part of what a call gave, which is taken out of it once."""
        key = (number, path)
        if key in self.known:
            return self.known[key]
        if key not in self.held:
            whole = self.part(number, path[:-1])
            site = self.sites[whole.slot]
            self.site = replace(site, text=f"{site.text}[{path[-1]}]")
            self.held[key] = self.add(Equation("op:getitem", (whole, Const(path[-1])), 0, (0, 0)))
        return self.held[key]

    def derived(self, operands: tuple[Operand, ...], keywords: tuple[tuple[str, Operand], ...]) -> Derived:
        """A call of `torch.autograd.grad` as a function of what the program begins with."""
        wanted = {slot for operand in (*operands, *(o for _, o in keywords)) for slot in refs(operand)}
        behind: list[Equation] = []
        bases = {*map(self.base, wanted)}
        for equation in reversed(self.equations):
            read = list(equation.reads())
            writes = is_in_place(equation.op) and bool(read) and self.base(read[0]) in bases
            if equation.slot in wanted or writes:
                behind.append(equation)
                wanted.update(read)
                bases.update(map(self.base, read))
        first = self.equations[0].slot if self.equations else self.next_slot
        inputs = tuple(sorted(slot for slot in wanted if slot < first))
        return Derived(tuple(reversed(behind)), inputs, operands, keywords, dict(self.functions))

    def base(self, slot: int) -> int:
        """Whose memory it is, as far as the names of operations tell."""
        while (step := self.made.get(slot)) is not None and step.operands:
            name, first = step.op.rpartition(":")[2].rpartition(".")[2], [*refs(step.operands[0])]
            if not first or not (is_in_place(step.op) or name in VIEWS or name in ("getitem", "data", "T")):
                break
            slot = first[0]
        return slot

    def operation(self, call: Call, place: Place | None) -> tuple[str, Sequence[Any]]:
        """How a call is named in the program, with its arguments in the order of that."""
        arguments: Sequence[Any] = call.arguments
        name = getattr(call.function, "__name__", "")
        if call.state is None:
            op = operation_of(call.function)
            if name in REFLECTED:
                return op, (arguments[1], arguments[0])
            if op.startswith("op:") and (call.keywords or len(arguments) > 3):
                op = ""
            if op:
                return (_as_written(op, place, arguments) or op), arguments
        free = free_name(_shown(call.function), self.functions)
        self.functions[free] = _from_state(call.function, call.state)
        return f"call:{IMPORTED}{free}", arguments


@dataclass(frozen=True)
class Derived:
    """A derivative taken inside of a program, as a function of the program's inputs: their graph is made anew, and kept.

    Attributes:
        equations: the steps to what the call was given.
        inputs: the slots of the tensors that it is called with.
        operands, keywords: of the call of `torch.autograd.grad`.
        functions: what the steps call that the catalogue does not know.
    """

    equations: tuple[Equation, ...]
    inputs: tuple[int, ...]
    operands: tuple[Operand, ...]
    keywords: tuple[tuple[str, Operand], ...]
    functions: Mapping[str, Callable[..., Any]]

    @property
    def call(self) -> Mapping[str, Operand]:
        """What `torch.autograd.grad` was given, by the names of its parameters."""
        names = inspect.signature(torch.autograd.grad).parameters
        return {**dict(zip(names, self.operands, strict=False)), **dict(self.keywords)}

    def __call__(self, *tensors: Tensor) -> Any:
        """The gradients; with a graph to the tensors, where the call keeps one."""
        held: dict[int, Any] = dict(zip(self.inputs, map(_with_graph, tensors), strict=True))
        asked = {*refs(self.operands[1])} if len(self.operands) > 1 else set[int]()
        with torch.enable_grad():
            for step in self.equations:
                held[step.slot] = carried_out(step, held, self.functions)
                if step.slot in asked and isinstance(held[step.slot], Tensor):
                    held[step.slot] = _with_graph(held[step.slot])  # a leaf, which was told so after it was made
            arguments = [read_operand(operand, held) for operand in self.operands]
            named = {name: read_operand(operand, held) for name, operand in self.keywords}
            keeps = bool(named.get("create_graph"))
            found = torch.autograd.grad(*arguments, **{**named, "create_graph": keeps, "retain_graph": keeps})
        return tuple(found)


def _with_graph(x: Tensor) -> Tensor:
    """The tensor, or where it carries no gradient, a leaf with its numbers: it may be what is differentiated by."""
    if x.requires_grad or not can_require_grad(x):
        return x
    return x.detach().requires_grad_()


def _as_written(op: str, place: Place | None, arguments: Sequence[Any]) -> str | None:
    """The operator of a call that torch names as a method, where the user wrote an operator: `x + y` is `add`, not `.add`."""
    node = None if place is None else place.node
    symbols = {"div": "truediv", "div_": "itruediv", "floor_divide": "floordiv", "remainder": "mod"}
    name = op.removeprefix("method:")
    augmented = isinstance(node, ast.AugAssign)
    if op.startswith("method:") and len(arguments) == 2 and augmented and name.endswith("_"):
        name = symbols.get(name, f"i{name.removesuffix('_')}")
        return f"op:{name}" if name in catalog.AUGMENTED else None
    if op.startswith("method:") and len(arguments) == 2 and (augmented or isinstance(node, (ast.BinOp, ast.Compare))):
        name = symbols.get(name, name)  # `total += x` of a number `total` is `total + x`
        return f"op:{name}" if name in catalog.POINTWISE_OPERATORS or name == "matmul" else None
    return "op:neg" if op == "method:neg" and isinstance(node, ast.UnaryOp) and len(arguments) == 1 else None


def _shown(function: Callable[..., Any]) -> str:
    """What a function is called that the catalogue does not know."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return f"{owner.__name__}.apply"
    if function is torch.autograd.grad:
        return "torch.autograd.grad"
    path = resolve_name(function) or getattr(function, "__name__", "call")
    return path.replace("torch.nn.functional.", "F.").removeprefix("torch.")


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """A name, with a number behind it where it is taken."""
    if name not in taken:
        return name
    return next(free for k in range(2, len(taken) + 3) if (free := f"{name}_{k}") not in taken)


def operation_of(function: Callable[..., Any]) -> str:
    """How a call of a function of torch is named in a program; empty where the catalogue has no name for it."""
    path, name = resolve_name(function) or "", getattr(function, "__name__", "")
    if path.endswith(".__get__"):
        attribute = path.removesuffix(".__get__").rpartition(".")[2]
        return f"attr:{attribute}" if catalog.is_property(attribute) else ""
    if path.startswith("torch.Tensor."):
        if name in REFLECTED or name in OPERATORS:
            return f"op:{REFLECTED.get(name) or OPERATORS[name]}"
        return f"method:{name}" if catalog.is_method(name) else ""
    own = f"{path.rpartition('.')[0]}.{name}"  # torch.mm is equal to torch.spmm, whose name torch finds for it
    return next((f"call:{each}" for each in (own, path) if catalog.is_function(each)), "")


def _from_state(function: Callable[..., Any], state: tuple[torch.Generator, Tensor] | None) -> Callable[..., Any]:
    """The function; one that draws random numbers draws those that it drew when it was recorded."""
    if state is None:
        return function
    stream, start = state

    def again(*arguments: Any, **keywords: Any) -> Any:
        before = stream.get_state()
        stream.set_state(start)
        try:
            return function(*arguments, **keywords)
        finally:
            stream.set_state(before)

    return again


def _site(
    call: Call, place: Place | None, recorder: Recorder, root: str, callees: Mapping[int, str], several: bool
) -> Site:
    """Where a call is, in the user's own words; inside of a module of torch's that is the module.

    Where `several` nets have submodules, which may be called alike, a module's path begins with the net that it is in.
    """
    path = path_of(call.modules)
    called = callees[id(call.modules[0])] if call.modules else ""
    module = ".".join(filter(None, (called if several else "", path)))
    file, line = ("", 0) if place is None else (place.file, place.line)
    inner = call.modules[-1] if call.modules else None
    if place is not None and (inner is None or not type(inner).__module__.startswith("torch.")):
        return Site(place.text, file, line, module)
    return Site(".".join(filter(None, (called or root, path))) or _shown(call.function), file, line, module)


def _callees(recorder: Recorder, calls: Iterable[Call]) -> dict[int, str]:
    """What the user's code calls each outermost module, by its `id`: another that a loop calls by the same name is `net (2)`."""
    found: dict[int, str] = {}
    named = Counter[str]()
    for call in calls:
        if call.modules and id(call.modules[0]) not in found:
            name = _callee(recorder, call)
            named[name] += 1
            found[id(call.modules[0])] = f"{name} ({named[name]})" if name and named[name] > 1 else name
    return found


def _callee(recorder: Recorder, call: Call) -> str:
    """What the user's code calls the outermost module: `net` of `net(x)`."""
    point = recorder.root_point(call.modules)
    node = None if point is None else point.place().node
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""
