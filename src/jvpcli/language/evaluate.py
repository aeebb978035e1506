"""One loop over a Program's equations: every value, and the flat tape of what ran.

Control flow is unrolled while it runs, so the tape is a plain list of calls, operators, attributes and subscripts.  What
an attribute or method may be is decided by what the object is; torch's failures get the place and the operands' shapes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, reduce
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError, NotDifferentiableError
from jvpcli.language import catalog, limits
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.failures import explain_failure
from jvpcli.program import Block, Const, Equation, Operand, Pack, Program, Ref, refs

_Steps = Mapping[int, Any]


def evaluate(
    program: Program,
    inputs: Mapping[str, Tensor],
    *,
    wrt: Collection[str] = (),
    seed: int = 0,
    memory_limit: int | None = None,
) -> Evaluation:
    """Run a program on tensors.

    The inputs named in `wrt` become fresh leaves that require grad; the caller's tensors are never changed.  Random
    functions start from `seed`, and torch's own generator is left as it was.

    Raises:
        EvaluationError, ShapeMismatchError: torch failed; with the place and the operands' shapes.
        ForbiddenError: an attribute that the object at hand may not be asked for.
        NotDifferentiableError: an output is not a tensor.
        LimitError: it would need more than `memory_limit` bytes, or too many steps.
    """
    leaves = _leaves(program, inputs, wrt)
    run = _run(program, leaves, seed, memory_limit)
    outputs = _name_outputs(program, run, leaves)
    return Evaluation(program, leaves, outputs, tuple(run.tape), run.reported, tuple(n for n in leaves if n in wrt))


def evaluate_value(
    program: Program, scope: Mapping[str, Tensor], *, seed: int = 0, memory_limit: int | None = None
) -> Any:
    """What a VALUE's expression gives: a tensor, a number, or a list of such; no gradient is recorded.

    Raises: as `evaluate`, but for outputs that are no tensors.
    """
    with torch.no_grad():
        values = {name: scope[name] for name in program.inputs}
        if _changes_inputs(program):
            values = {name: value.clone() for name, value in values.items()}
        run = _run(program, values, seed, memory_limit)
    return run.value(program.result)


def evaluate_function(
    function: Callable[..., Any], inputs: Mapping[str, Tensor], wrt: Collection[str] = (), seed: int = 0
) -> Evaluation:
    """Run a Python function of tensors, called with `inputs` in their order; there is no program and no tape.

    Raises:
        NotDifferentiableError: an output is not a tensor.
        Whatever the function itself raises.
    """
    leaves = {name: _leaf(value, name in wrt, copy=False) for name, value in inputs.items()}
    with seeded(seed, leaves.values()), torch.enable_grad():
        result = function(*leaves.values())
    parts = [(None, part) for part in flatten(result)]
    return Evaluation(None, leaves, _named(parts, set(leaves), None), (), {}, tuple(n for n in leaves if n in wrt))


def apply_operation(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> Any:
    """Do what one equation of a tape does, on other values: for local derivatives.

    An in-place operation changes its first argument, as torch does; pass a clone to keep it.
    """
    kind, _, target = op.partition(":")
    return _OPERATIONS[kind](target, arguments, keywords or {})


@contextmanager
def seeded(seed: int, tensors: Collection[Tensor] = ()) -> Iterator[None]:
    """Random functions start from `seed` inside and go on outside as if nothing had been drawn."""
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    before = torch.default_generator.get_state()
    before_cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
        for device, state in before_cuda:
            torch.cuda.set_rng_state(state, device)


# Inputs


def _leaves(program: Program, inputs: Mapping[str, Tensor], wrt: Collection[str]) -> dict[str, Tensor]:
    copy = _changes_inputs(program)
    return {name: _leaf(inputs[name], name in wrt, copy) for name in program.inputs}


def _leaf(value: Tensor, differentiated: bool, copy: bool) -> Tensor:
    leaf = value.detach()
    if copy:
        leaf = leaf.clone()
    return leaf.requires_grad_() if differentiated else leaf


def _changes_inputs(program: Program) -> bool:
    return any(catalog.changes_arguments(equation.op) for equation in all_equations(program.equations))


def all_equations(equations: Sequence[Equation]) -> Iterator[Equation]:
    """The equations and those of their bodies."""
    for equation in equations:
        yield equation
        for body in equation.bodies:
            yield from all_equations(body.equations)
            for condition in body.conditions:
                yield from all_equations(condition.equations)


# The loop


class _Run:
    """The state of one evaluation: what each slot of the program stands for on the tape, and the values there."""

    def __init__(self, program: Program, inputs: Mapping[str, Tensor], memory_limit: int | None) -> None:
        self.program = program
        self.memory_limit = memory_limit
        self.devices = {"cpu", *(str(value.device) for value in inputs.values())}
        self.bound: dict[int, Operand] = {slot: Ref(slot) for slot in range(len(inputs))}
        self.values: dict[int, Any] = dict(enumerate(inputs.values()))
        self.reported: dict[int, Any] = dict(self.values)
        self.tape: list[Equation] = []
        self.next_slot = program.slots
        self.depth = 0

    # Operands

    def on_tape(self, operand: Operand) -> Operand:
        """An operand of the program as the tape says it: through loops and in-place steps, stars written out."""
        if isinstance(operand, Ref):
            return self.bound[operand.slot]
        if isinstance(operand, Const):
            return operand
        items: list[Operand] = []
        for item in operand.items:
            if isinstance(item, Pack) and item.kind == "star":
                items.extend(self.items_of(self.on_tape(item.items[0]), None))
            else:
                items.append(self.on_tape(item))
        return Pack(operand.kind, tuple(items))

    def value(self, operand: Operand) -> Any:
        """The value of an operand of the program."""
        return self.read(self.on_tape(operand))

    def read(self, operand: Operand) -> Any:
        """The value of an operand of the tape."""
        if isinstance(operand, Ref):
            return self.values[operand.slot]
        if isinstance(operand, Const):
            return operand.value if operand.path is None else named_constant(operand.path)
        items = [self.read(item) for item in operand.items]
        if operand.kind == "slice":
            return slice(*items)
        return items if operand.kind == "list" else tuple(items)

    def items_of(self, operand: Operand, equation: Equation | None) -> list[Operand]:
        """The items of a sequence as operands of the tape; those of a tensor or a result become subscript steps."""
        if isinstance(operand, Pack) and operand.kind in ("list", "tuple"):
            return list(operand.items)
        value = self.read(operand)
        limits.check_turns(len(value) if hasattr(value, "__len__") and not _is_scalar(value) else 0)
        if isinstance(operand, Const) or isinstance(value, range):
            return [Const(item) for item in value]
        items: Sequence[Any] = value.unbind(0) if isinstance(value, Tensor) else tuple(value)
        span = equation.span if equation is not None else self.span
        return [
            self.record(Equation("op:getitem", (operand, Const(index)), self.fresh(), span), item)
            for index, item in enumerate(items)
        ]

    # Steps

    def fresh(self) -> int:
        """A slot of the tape that no equation of the program has."""
        self.next_slot += 1
        return self.next_slot - 1

    def record(self, equation: Equation, value: Any) -> Operand:
        """Put a step on the tape; what depends on nothing but constants, and is no tensor, is a constant itself."""
        constant = not isinstance(value, Tensor) and _is_plain(value)
        if constant and not any(True for operand in equation.operands for _ in refs(operand)):
            return Const(value)
        limits.check_steps(len(self.tape))
        self.tape.append(equation)
        self.values[equation.slot] = self.reported[equation.slot] = value
        return Ref(equation.slot)

    def run(self, equations: Sequence[Equation]) -> None:
        """Each equation in turn."""
        for equation in equations:
            self.span = equation.span
            try:
                self.bound[equation.slot] = self.step(equation)
            except JvpError as error:
                raise error.with_context(span=equation.span, source=self.program.source) from None

    def step(self, equation: Equation) -> Operand:
        """One equation; what its slot stands for on the tape."""
        handler = _CONTROL.get(equation.op) or _CONTROL.get(equation.kind)
        if handler is not None:
            return handler(self, equation)
        operands = self.on_tape(Pack("list", equation.operands))
        assert isinstance(operands, Pack)
        keywords = tuple((name, self.on_tape(operand)) for name, operand in equation.keywords)
        slot = equation.slot if self.depth == 0 else self.fresh()
        step = replace(equation, operands=operands.items, keywords=keywords, slot=slot)
        return self.execute(step)

    def execute(self, step: Equation) -> Operand:
        """Run one step of the tape."""
        arguments = [self.read(operand) for operand in step.operands]
        keywords = {name: self.read(operand) for name, operand in step.keywords}
        self.check_devices(step, arguments, keywords)
        limits.check_operation(step.op, arguments, keywords, self.memory_limit)
        before = _contents(step, arguments)
        try:
            value = apply_operation(step.op, arguments, keywords)
        except JvpError:
            raise
        except Exception as error:
            raise explain_failure(error, step, self.program, arguments, keywords) from None
        check_value(value, step)
        result = self.record(step, value)
        if before is not None and isinstance(result, Ref):
            self.changed_in_place(step, before, result)
        return result

    def changed_in_place(self, step: Equation, before: Tensor, result: Ref) -> None:
        """After an in-place step, whatever stood for the changed tensor stands for the step's result."""
        changed = self.values[result.slot]
        for slot in [ref for ref in refs(step.operands[0])]:
            if self.values[slot] is changed:
                self.reported[slot] = before
                self.bound = {key: _redirected(operand, slot, result) for key, operand in self.bound.items()}

    def check_devices(self, step: Equation, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Nothing leaves the devices on which the inputs are."""
        named = [keywords.get("device")]
        if step.op in ("method:to", "method:type"):
            named += [value for value in arguments[1:] if isinstance(value, (str, torch.device))]
        for device in named:
            if device is not None and step.op != "method:type" and str(device) not in self.devices:
                raise ForbiddenError(f"The device `{device}` can't be used: inputs are on {', '.join(self.devices)}.")

    # Control flow

    def loop(self, equation: Equation) -> Operand:
        """A comprehension, unrolled."""
        (body,) = equation.bodies
        results: list[Operand] = []
        self.depth += 1
        for item in self.items_of(self.on_tape(equation.operands[0]), equation):
            self.assign(body.params, item, equation)
            if all(self.truth(self.body(condition), equation) for condition in body.conditions):
                results.append(self.body(body))
        self.depth -= 1
        if equation.target == "flat":
            results = [item for result in results for item in self.items_of(result, equation)]
        return Pack("list", tuple(results))

    def assign(self, params: Any, item: Operand, equation: Equation) -> None:
        """Fill a comprehension's variables."""
        if isinstance(params, int):
            self.bound[params] = item
            return
        items = self.items_of(item, equation)
        if len(items) != len(params):
            raise EvaluationError(f"{len(params)} names can't be filled from {len(items)} items.")
        for param, part in zip(params, items, strict=True):
            self.assign(param, part, equation)

    def body(self, block: Block) -> Operand:
        """Run a body; its result on the tape."""
        self.run(block.equations)
        return self.on_tape(block.result)

    def choose(self, equation: Equation) -> Operand:
        """a if condition else b: only the branch taken runs."""
        condition = self.truth(self.on_tape(equation.operands[0]), equation)
        return self.nested(equation.bodies[0 if condition else 1])

    def both(self, equation: Equation) -> Operand:
        """a and b, a or b."""
        first = self.on_tape(equation.operands[0])
        decided = self.truth(first, equation) != (equation.op == "and")
        return first if decided else self.nested(equation.bodies[0])

    def nested(self, block: Block) -> Operand:
        """A body that runs at most once keeps its own slots."""
        return self.body(block)

    def truth(self, operand: Operand, equation: Equation) -> bool:
        """Whether a condition holds."""
        value = self.read(operand)
        try:
            return bool(value)
        except Exception as error:
            raise explain_failure(error, equation, self.program, [value], {}) from None

    # Rewiring: these give parts of what is there, without a step of their own

    def unpack(self, equation: Equation) -> Operand:
        """One item of a tuple assignment."""
        operand = self.on_tape(equation.operands[0])
        index = _const(dict(equation.keywords)["index"])
        count, at_least = int(equation.target.rstrip("+")), equation.target.endswith("+")
        value = None if isinstance(operand, Pack) else self.read(operand)
        if _is_scalar(value) and not isinstance(operand, Pack):
            raise EvaluationError(f"{_describe(value)} can't be unpacked into {count} names.")
        size = len(operand.items) if isinstance(operand, Pack) else len(value)  # type: ignore[arg-type]
        if size < count or (size > count and not at_least):
            raise EvaluationError(
                f"{count}{' or more' if at_least else ''} items were expected to unpack, and there are {size}."
            )
        if isinstance(operand, Pack):
            return operand.items[index]
        slot = equation.slot if self.depth == 0 else self.fresh()
        return self.execute(replace(equation, operands=(operand,), slot=slot))

    def getitem(self, equation: Equation) -> Operand:
        """A subscript; of a list with a known index it is just the item."""
        left, key = (self.on_tape(operand) for operand in equation.operands)
        if isinstance(left, Pack) and left.kind in ("list", "tuple") and not any(True for _ in refs(key)):
            at = self.read(key)
            if isinstance(at, slice):
                return Pack(left.kind, left.items[at])
            if isinstance(at, int) and -len(left.items) <= at < len(left.items):
                return left.items[at]
        slot = equation.slot if self.depth == 0 else self.fresh()
        return self.execute(replace(equation, operands=(left, key), slot=slot))

    def zip(self, equation: Equation) -> Operand:
        """zip(a, b): tuples of the operands."""
        if equation.keywords:
            raise EvaluationError("zip takes no keyword arguments here.")
        operands = self.on_tape(Pack("list", equation.operands))
        assert isinstance(operands, Pack)
        columns = [self.items_of(operand, equation) for operand in operands.items]
        return Pack("list", tuple(Pack("tuple", row) for row in zip(*columns, strict=False)))

    def enumerate(self, equation: Equation) -> Operand:
        """enumerate(items): pairs of index and operand."""
        items, *rest = (self.on_tape(operand) for operand in equation.operands)
        start = self.read(rest[0]) if rest else self.value(dict(equation.keywords).get("start", Const(0)))
        pairs = enumerate(self.items_of(items, equation), start)
        return Pack("list", tuple(Pack("tuple", (Const(index), item)) for index, item in pairs))

    def sequence(self, equation: Equation) -> Operand:
        """list(items), tuple(items), reversed(items)."""
        if not equation.operands:
            return Pack(equation.target, ())
        items = self.items_of(self.on_tape(equation.operands[0]), equation)
        ordered = items[::-1] if equation.target == "reversed" else items
        return Pack("tuple" if equation.target == "tuple" else "list", tuple(ordered))


_CONTROL: dict[str, Callable[[_Run, Equation], Operand]] = {
    "loop": _Run.loop,
    "if": _Run.choose,
    "and": _Run.both,
    "or": _Run.both,
    "unpack": _Run.unpack,
    "op:getitem": _Run.getitem,
    "builtin:zip": _Run.zip,
    "builtin:enumerate": _Run.enumerate,
    "builtin:list": _Run.sequence,
    "builtin:tuple": _Run.sequence,
    "builtin:reversed": _Run.sequence,
}


def _run(program: Program, inputs: Mapping[str, Tensor], seed: int, memory_limit: int | None) -> _Run:
    run = _Run(program, inputs, memory_limit)
    with seeded(seed, inputs.values()):
        run.run(program.equations)
    return run


# Operations


def _call(path: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    return function_at(path)(*arguments, **keywords)


def _builtin(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    return _BUILTINS[name](*arguments, **keywords)


def _method(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    owner, *rest = arguments
    allowed = catalog.is_method(name) if isinstance(owner, Tensor) else isinstance(owner, torch.Size) and name == "numel"
    if not allowed:
        raise ForbiddenError(f"`.{name}` can't be used on {_describe(owner)}.")
    return getattr(owner, name)(*rest, **keywords)


def _attribute(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    (owner,) = arguments
    if name not in readable(owner):
        raise ForbiddenError(f"`.{name}` can't be read from {_describe(owner)}.")
    return getattr(owner, name)


def readable(owner: Any) -> Collection[str]:
    """What may be read from an object, by what it is."""
    if isinstance(owner, Tensor):
        return _PROPERTIES
    if type(owner).__module__ == "torch.return_types":
        return [name for name in vars(type(owner)) if catalog.is_field(name)]
    for kinds, fields in _OBJECTS:
        if isinstance(owner, kinds):
            return catalog.object_fields(fields)
    return ()


_OBJECTS: tuple[tuple[Any, str], ...] = (
    (torch.finfo, "finfo"),
    (torch.iinfo, "iinfo"),
    (torch.dtype, "dtype"),
    ((int, float, complex), "number"),
)
_PROPERTIES = frozenset(name for name in vars(torch._C.TensorBase) if catalog.is_property(name))


def _operator(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    if name == "setitem":
        target, key, value = arguments
        if not isinstance(target, Tensor):
            raise ForbiddenError(f"Items of {_describe(target)} can't be assigned.")
        target[key] = value
        return target
    if name not in _ANY_OPERANDS:
        for argument in arguments:
            if isinstance(argument, str):
                raise ForbiddenError("Operators don't apply to text; it can only be an argument.")
    return getattr(operator, name)(*arguments)


_ANY_OPERANDS = ("eq", "ne", "is_", "is_not", "not_", "contains")


def _unpack(count: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    (value,) = arguments
    return value[keywords["index"]]


def _sum(items: Any, start: Any = 0) -> Any:
    return reduce(operator.add, items, start)


_BUILTINS: Mapping[str, Callable[..., Any]] = {
    "abs": abs, "bool": bool, "float": float, "int": int, "len": len, "max": max, "min": min, "range": range,
    "round": round, "slice": slice, "sum": _sum,
    "list": list, "tuple": tuple, "reversed": lambda items: list(reversed(items)),
    "zip": lambda *columns: list(zip(*columns, strict=False)),
    "enumerate": lambda items, start=0: list(enumerate(items, start)),
}  # fmt: skip

_OPERATIONS: Mapping[str, Callable[[str, Sequence[Any], Mapping[str, Any]], Any]] = {
    "call": _call,
    "builtin": _builtin,
    "method": _method,
    "attr": _attribute,
    "op": _operator,
    "unpack": _unpack,
}


@cache
def function_at(path: str) -> Callable[..., Any]:
    """The function at a path of the catalogue; nothing else can be reached."""
    if not catalog.is_function(path):
        raise ForbiddenError(f"`{path}` can't be called.")
    function: Callable[..., Any] = _resolve(path)
    return function


@cache
def named_constant(path: str) -> Any:
    """The constant at a path of the catalogue."""
    if not catalog.is_constant(path):
        raise ForbiddenError(f"`{path}` can't be used.")
    return _resolve(path)


def _resolve(path: str) -> Any:
    import math

    root, *rest = path.split(".")
    try:
        return reduce(getattr, rest, {"torch": torch, "math": math}[root])
    except AttributeError:
        raise EvaluationError(f"This torch ({torch.__version__}) has no {path}.") from None


# Values


_PLAIN = (int, float, complex, str, type(None), type(...), torch.dtype, torch.device, torch.Size, torch.memory_format,
          torch.finfo, torch.iinfo, slice, range, torch.layout)  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether a value is of the kinds that an expression can hold besides tensors."""
    return isinstance(value, _PLAIN) or (isinstance(value, (tuple, list)) and all(map(_is_plain, value)))


def check_value(value: Any, step: Equation) -> None:
    """Nothing but tensors, plain values and tuples of them comes out of a step."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.device.type == "meta":
            raise ForbiddenError("Only dense tensors on a real device can be used.")
    elif isinstance(value, (tuple, list)):
        for item in value:
            check_value(item, step)
    elif not isinstance(value, _PLAIN):
        raise ForbiddenError(f"`{step.target}` gave {_describe(value)}, which an expression can't use.")


def _is_scalar(value: Any) -> bool:
    """Whether a value has no items."""
    return value.ndim == 0 if isinstance(value, Tensor) else not isinstance(value, (tuple, list, range))


def _describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float, complex)):
        return "a plain number"
    if isinstance(value, str):
        return "text"
    return f"a {type(value).__name__}"


def _const(operand: Operand) -> Any:
    assert isinstance(operand, Const)
    return operand.value


def _contents(step: Equation, arguments: Sequence[Any]) -> Tensor | None:
    """What an in-place step is about to overwrite."""
    in_place = step.op == "op:setitem" or (step.target.endswith("_") and step.kind in ("method", "call"))
    return arguments[0].detach().clone() if in_place and isinstance(arguments[0], Tensor) else None


def _redirected(operand: Operand, slot: int, result: Ref) -> Operand:
    if isinstance(operand, Ref):
        return result if operand.slot == slot else operand
    if isinstance(operand, Pack):
        return Pack(operand.kind, tuple(_redirected(item, slot, result) for item in operand.items))
    return operand


# Outputs


def flatten(value: Any) -> Iterator[Any]:
    """The tensors of nested tuples and lists; None parts of a function's result are left out."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for part in value:
            if part is not None:
                yield from flatten(part)
    else:
        yield value


def _name_outputs(program: Program, run: _Run, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result, names = run.on_tape(program.result), program.result_names
    if names is not None and len(names) != 1 and isinstance(result, Pack):
        elements = list(zip(names, result.items, strict=True))
    else:
        elements = [(names[0] if names else None, result)]
    parts: list[tuple[str | None, Any]] = []
    for name, operand in elements:
        values = list(flatten(run.read(operand)))
        single = len(values) == 1
        parts += [(name if single or name is None else f"{name}{index}", v) for index, v in enumerate(values)]
    return _named(parts, set(program.inputs), program)


def _named(parts: Sequence[tuple[str | None, Any]], taken: set[str], program: Program | None) -> dict[str, Tensor]:
    """Outputs by name: the text's own names, y (y0, y1, …) for the rest, out (out0, …) where an input has that name."""
    if not parts:
        raise NotDifferentiableError("The expression gives no tensor.", source=program and program.source)
    for _, value in parts:
        if not isinstance(value, Tensor):
            raise _no_tensor(value, program)
    own = [name if name is not None and name not in taken else None for name, _ in parts]
    base = "y"
    while taken & set(_default_names(base, own)):
        base = "out" if base == "y" else base + "_"
    outputs: dict[str, Tensor] = {}
    for name, default, (_, value) in zip(own, _all_defaults(base, len(parts)), parts, strict=True):
        free = name if name is not None and name not in outputs else default
        while free in outputs:
            free += "_"
        outputs[free] = value
    return outputs


def _all_defaults(base: str, count: int) -> list[str]:
    return [base] if count == 1 else [f"{base}{index}" for index in range(count)]


def _default_names(base: str, own: Sequence[str | None]) -> list[str]:
    return [d for name, d in zip(own, _all_defaults(base, len(own)), strict=True) if name is None]


def _no_tensor(value: Any, program: Program | None) -> JvpError:
    if isinstance(value, (int, float, complex)):
        return NotDifferentiableError(
            f"The expression gives the plain number {value!r}, which no gradient reaches.",
            explanation="`.item()`, `float(…)`, `len(…)`, sizes and numbers alone are not tensors: the graph ends there.",
            source=program and program.source,
        )
    return NotDifferentiableError(
        f"The expression gives {_describe(value)}, not a tensor.", source=program and program.source
    )


__all__ = ["LimitError", "apply_operation", "evaluate", "evaluate_function", "evaluate_value"]
