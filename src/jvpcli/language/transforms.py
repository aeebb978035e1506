"""torch.func and torch.autograd.functional as they run: functions made from functions of the program.

Each is the function's own steps, at inputs that are given a graph of their own, and then a derivative call (`derivatives`):
nothing of torch's ever calls a function of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, UnknownNameError
from jvpcli.language.derivatives import OPENING, derived
from jvpcli.language.flow import call_value, made_of_entries, recording
from jvpcli.language.operations import can_require_grad, describe
from jvpcli.language.run import FunctionValue, Handler, Run, entries_in, items_in
from jvpcli.program import GRAD, IMPORTED, Const, Equation, Known, Operand, Pack, refs

Arguments = Sequence[Operand]
Keywords = Mapping[str, Operand]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is being carried out: where its steps belong."""

    run: Run
    equation: Equation

    # Steps

    def do(self, op: str, *operands: Operand, **keywords: Any) -> Operand:
        """One step, on operands of the tape; keywords are plain values."""
        named = tuple((name, Const(value)) for name, value in keywords.items())
        return self.run.do(op, operands, self.equation.span, named)

    def tensor(self, operand: Operand) -> Tensor:
        """The value of an operand, which must be a tensor.

        Raises:
            EvaluationError: it isn't.
        """
        value = self.run.read(self.run.written_out(operand))
        if isinstance(value, Tensor):
            return value
        raise EvaluationError(f"A tensor is needed here, and {describe(value)} is given.")

    def opened(self, operand: Operand) -> Operand:
        """A tensor under another name, so that what is derived by it is what is computed from this name."""
        x = self.tensor(operand)
        if not can_require_grad(x):
            raise EvaluationError(f"Only tensors of floating point have derivatives, and this is {str(x.dtype)[6:]}.")
        return self.do("derive:open", operand, by=OPENING)

    def each(self, function: Callable[..., Operand], *operands: Operand) -> Operand:
        """What a function gives of tensors, or of the values of dictionaries of the same keys, by these."""
        entries = [entries_in(operand) for operand in operands]
        if entries[0] is None:
            return function(*operands)
        held = {key: [part[key] for part in entries if part is not None] for key in entries[0]}
        return made_of_entries(self.run, {key: function(*parts) for key, parts in held.items()})

    def plain(self, operand: Operand | None, default: Any) -> Any:
        """The value of an option."""
        return default if operand is None else self.run.decided_by(self.run.written_out(operand))

    def value(
        self, function: Operand, arguments: Arguments, keywords: Keywords | None = None, forward: bool = False
    ) -> Operand:
        """What a function gives; `forward`: its derivative is one of forward mode in PyTorch, whatever is done here."""
        outer, self.run.forward = self.run.forward, self.run.forward or forward
        try:
            return call_value(self.run, function, arguments, keywords or {}, self.equation)
        finally:
            self.run.forward = outer

    def recorded(self, derive: Callable[[], Operand]) -> Operand:
        """What is derived has a graph of its own, under torch.no_grad() too, where what comes out has none."""
        with recording(self.run, True):
            found = derive()
        return found if self.run.recording else self.detached(found)

    def detached(self, operand: Operand) -> Operand:
        """A value without its graph."""
        items = items_in(operand)
        if items is not None:
            return self.run.pack("tuple", [self.detached(item) for item in items])
        return operand if isinstance(operand, Const) else self.do("method:detach", operand)

    def parts(self, operand: Operand) -> list[Operand]:
        """The tensors of a tuple; a tensor alone is one."""
        items = items_in(operand)
        return [operand] if items is None else [self.run.newest(item) for item in items]

    def weights(self, operand: Operand, count: int, what: str) -> list[Operand]:
        """Tensors that are given, one for each of `count`.

        Raises:
            EvaluationError: there are more or fewer, or one is no tensor.
        """
        found = self.parts(operand)
        if len(found) != count:
            raise EvaluationError(f"There are {count} {what}, and {len(found)} tensors are given for them.")
        for part in found:
            self.tensor(part)
        return found

    def gradients(
        self, y: Operand, xs: Arguments, weight: Operand | None, create_graph: bool = True, batched: bool = False
    ) -> list[Operand]:
        """The gradients of a tensor by others; zeros where it does not depend on them."""
        rows = len(self.tensor(weight)) if batched and weight is not None else None
        if not self.tensor(y).requires_grad:
            return [self.zeros(x, rows) for x in xs]
        keywords = (
            ("outputs", y), ("inputs", Pack("tuple", tuple(xs))), ("grad_outputs", weight or Const(None)),
            ("retain_graph", Const(True)), ("create_graph", Const(create_graph)), ("allow_unused", Const(True)),
            ("is_grads_batched", Const(batched)),
        )  # fmt: skip
        call = Equation(GRAD, (), self.run.new_slot(), self.equation.span, keywords)
        found = self.parts(derived(self.run, call))
        return [self.zeros(x, rows) if part == Const(None) else part for x, part in zip(xs, found, strict=True)]

    def pulled(self, ys: Arguments, xs: Arguments, weights: Sequence[Operand | None]) -> list[Operand]:
        """The gradients of several tensors by others, each along its weight, added up."""
        first, *others = [self.gradients(y, xs, weight) for y, weight in zip(ys, weights, strict=True)]
        for more in others:
            first = [self.do("op:add", a, b) for a, b in zip(first, more, strict=True)]
        return first

    def zeros(self, x: Operand, rows: int | None) -> Operand:
        """The gradient by what has no part in something; `rows` of it, if any are asked for."""
        zeros = self.do("call:torch.zeros_like", x)
        if rows is None and self.run.recording:  # which has a graph, as all that torch.func gives
            none = self.do("op:getitem", self.do("method:flatten", x), Pack("slice", (Const(None), Const(0), Const(None))))
            return self.do("op:add", zeros, self.do("method:sum", none))
        return zeros if rows is None else self.do("method:expand", zeros, Const(rows), *[Const(-1)] * self.tensor(x).dim())

    # Derivatives

    def gradient(self, y: Operand, xs: Arguments, name: str) -> list[Operand]:
        """The gradients of a single number."""
        value = self.tensor(y)
        if value.dim() and value.numel() == 1 and name.startswith("torch.autograd.functional"):  # which takes one of any shape
            y = self.do("method:reshape", y, _sizes([]))
        elif value.dim():
            shape = tuple(value.shape)
            raise EvaluationError(f"{name} takes a function that gives a single number, and this gives shape {shape}.")
        return self.gradients(y, xs, None)

    def jacobian(self, y: Operand, x: Operand, create_graph: bool = True) -> Operand:
        """The derivatives of each entry of y by each of x, of y's shape followed by x's."""
        value, to = self.tensor(y), self.tensor(x)
        shape = [*value.shape, *to.shape]
        rows = self.do("call:torch.eye", Const(value.numel()), dtype=value.dtype, device=value.device)
        weight = self.do("method:reshape", rows, _sizes([value.numel(), *value.shape]))
        (found,) = self.gradients(y, [x], weight, create_graph, batched=True)
        return self.do("method:reshape", found, _sizes(shape))

    def pushforward(self, y: Operand, xs: Arguments, tangents: Arguments) -> Operand:
        """The derivative of y along tangents: the derivative, by the weights, of a pullback, which is linear in them."""
        total: Operand | None = None
        weight = self.opened(self.do("call:torch.ones_like", y))
        for gradient, tangent in zip(self.gradients(y, xs, weight), tangents, strict=True):
            (part,) = self.gradients(gradient, [weight], tangent)
            total = part if total is None else self.do("op:add", total, part)
        assert total is not None
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Transformed(FunctionValue):
    """A function made from another one: `torch.func.grad(f)`."""

    name: str
    function: Operand
    options: Keywords

    def called(self, run: Run, arguments: Arguments, keywords: Keywords, equation: Equation) -> Operand:
        """What it gives."""
        call = Call(run, equation)
        if self.name == "vmap":
            return _vmap(self, call, arguments, keywords)
        return call.recorded(lambda: TRANSFORMS[self.name](self, call, arguments, keywords))

    def evaluated(self, call: Call, arguments: Arguments, keywords: Keywords) -> tuple[Operand, list[Operand], bool, Operand]:
        """The function's value, the arguments that it is derived by, whether they are one alone, and what else it gives."""
        chosen = call.plain(self.options.get("argnums"), 0)
        numbers = list(chosen) if isinstance(chosen, (tuple, list)) else [chosen]
        if not all(isinstance(number, int) and -len(arguments) <= number < len(arguments) for number in numbers):
            raise EvaluationError(f"argnums={chosen} does not fit {len(arguments)} arguments.")
        given = list(arguments)
        for number in numbers:
            given[number] = call.each(call.opened, given[number])
        value = call.value(self.function, given, keywords, forward=self.name == "jacfwd")
        auxiliary: Operand = Const(None)
        if self.has_aux(call):
            value, auxiliary = _pair(call, value)
        return value, [given[number] for number in numbers], isinstance(chosen, int), auxiliary

    def result(self, call: Call, found: Operand, auxiliary: Operand) -> Operand:
        """With what else the function gives, where that is asked for."""
        return call.run.pack("tuple", [found, auxiliary]) if self.has_aux(call) else found

    def has_aux(self, call: Call) -> bool:
        """Whether the function gives something else besides."""
        flag = call.plain(self.options.get("has_aux"), False)
        if isinstance(flag, bool):
            return flag
        raise EvaluationError(f"has_aux is True or False, and {describe(flag)} is given.")


def _grad(f: Transformed, call: Call, arguments: Arguments, keywords: Keywords) -> Operand:
    y, xs, single, auxiliary = f.evaluated(call, arguments, keywords)
    by = [leaf for x in xs for leaf in _leaves(x)]
    left = iter(call.gradient(y, by, f"torch.func.{f.name}"))
    found = [call.each(lambda _: next(left), x) for x in xs]
    gradients = found[0] if single else call.run.pack("tuple", found)
    if f.name == "grad":
        return f.result(call, gradients, auxiliary)
    return call.run.pack("tuple", [gradients, f.result(call, y, auxiliary)])


def _leaves(x: Operand, like: Operand | None = None) -> list[Operand]:
    """The tensors of an argument: itself, or the values of a dictionary, in the order of another one of the same keys.

    Raises:
        EvaluationError: the keys are others.
    """
    entries, others = entries_in(x), None if like is None else entries_in(like)
    if entries is None:
        return [x]
    if others is not None and others.keys() != entries.keys():
        needed, given = (", ".join(map(str, held)) for held in (others, entries))
        raise EvaluationError(f"The keys {needed} are needed here, and {given} are given.")
    return [entries[key] for key in others or entries]


def _given_for(others: Arguments, given: Arguments) -> list[Operand]:
    """The tensors that are given for those of others, in their order; fewer or more where fewer or more are given."""
    return [leaf for part, other in zip(given, chain(others, repeat(None)), strict=False) for leaf in _leaves(part, other)]


def _jac(f: Transformed, call: Call, arguments: Arguments, keywords: Keywords) -> Operand:
    value, xs, single, auxiliary = f.evaluated(call, arguments, keywords)

    def of(y: Operand) -> Operand:
        found = [call.each(lambda leaf: call.jacobian(y, leaf), x) for x in xs]
        return found[0] if single else call.run.pack("tuple", found)

    items = items_in(value)
    found = of(value) if items is None else call.run.pack("tuple", [of(item) for item in items])
    return f.result(call, found, auxiliary)


def _hessian(f: Transformed, call: Call, arguments: Arguments, keywords: Keywords) -> Operand:
    options = {name: operand for name, operand in f.options.items() if name == "argnums"}
    inner = Const(Transformed("jacrev", f.function, options))
    return _jac(Transformed("jacfwd", inner, options), call, arguments, keywords)


_Dims = int | Mapping[Any, int | None] | None
"""The axis along which an argument is mapped, or one for each item of a dictionary; None for all of it each time."""


def _axis(call: Call, given: Operand) -> _Dims:
    entries = entries_in(given)
    return call.plain(given, 0) if entries is None else {key: call.plain(part, 0) for key, part in entries.items()}


def _along(x: Operand, dims: _Dims) -> list[tuple[Operand, int | None]]:
    """The tensors of an argument, each with the axis along which it is mapped."""
    entries = entries_in(x)
    if not isinstance(dims, Mapping):
        return [] if dims is None else [(leaf, dims) for leaf in _leaves(x)]
    if entries is None or entries.keys() != dims.keys():
        raise EvaluationError(f"in_dims has the keys {', '.join(map(str, dims))}, and its argument has not the same.")
    return [(leaf, dims[key]) for key, leaf in entries.items()]


def _vmap(f: Transformed, call: Call, arguments: Arguments, keywords: Keywords) -> Operand:
    """Row by row, and the results stacked."""
    given_dims = f.options.get("in_dims", Const(0))
    listed = items_in(given_dims)
    axes = [_axis(call, part) for part in ([given_dims] * len(arguments) if listed is None else listed)]
    pairs = [(leaf, axis) for x, dims in zip(arguments, axes, strict=False) for leaf, axis in _along(x, dims)]
    mapped = [(leaf, axis) for leaf, axis in pairs if axis is not None]
    ranks = [call.tensor(leaf).dim() for leaf, _ in mapped]
    fit = (isinstance(axis, int) and -rank <= axis < rank for (_, axis), rank in zip(mapped, ranks, strict=True))
    if len(axes) != len(arguments) or not all(fit):
        shown = axes[0] if listed is None else tuple(axes)
        raise EvaluationError(f"in_dims={shown} does not fit {len(arguments)} arguments: one number, or a tuple of one for each.")
    sizes = {call.tensor(leaf).shape[axis] for leaf, axis in mapped}
    if len(sizes) != 1:
        raise EvaluationError(f"torch.vmap needs one size along the mapped axes, and there are {sorted(sizes) or 'none'}.")
    results = []
    rows, outer, mapped_outside = sizes.pop(), call.run.keeps_graph, call.run.mapped
    drawn = torch.get_rng_state()

    def row(x: Operand, dims: _Dims, index: int) -> Operand:
        axes_of = iter([axis for _, axis in _along(x, dims)])

        def selected(leaf: Operand) -> Operand:
            axis = next(axes_of)
            return leaf if axis is None else call.do("method:select", leaf, Const(axis), Const(index))

        return x if dims is None else call.each(selected, x)

    def stacked(column: Sequence[Operand], at: int) -> Operand:
        return call.each(lambda *rows: call.do("call:torch.stack", Pack("list", rows), dim=at), *column)

    for index in range(rows):
        call.run.keeps_graph = outer or index < rows - 1  # for PyTorch all rows are one call
        given = [row(x, axis, index) for x, axis in zip(arguments, axes, strict=True)]
        own = [leaf for x, dims in zip(given, axes, strict=True) for leaf, axis in _along(x, dims) if axis is not None]
        call.run.mapped = mapped_outside.union(*map(refs, own))
        results.append(call.value(f.function, given, keywords))
    call.run.mapped = mapped_outside
    if not torch.equal(drawn, torch.get_rng_state()):
        raise _drawn(call.plain(f.options.get("randomness"), "error"))
    if not results:
        raise EvaluationError("torch.vmap over an axis of length 0 has nothing to tell what it gives.")
    out = call.plain(f.options.get("out_dims"), 0)
    if items_in(results[0]) is None:
        return stacked(results, out)
    columns = zip(*map(call.parts, results), strict=True)
    places = out if isinstance(out, tuple) else [out] * len(call.parts(results[0]))
    if len(places) != len(call.parts(results[0])):
        raise EvaluationError(f"out_dims={out} does not fit {len(call.parts(results[0]))} results.")
    return call.run.pack("tuple", list(map(stacked, columns, places)))


def _drawn(randomness: Any) -> EvaluationError:
    """What is to be said where the rows draw random numbers: PyTorch draws for all of them at once, or refuses it."""
    hints = ["Draw before torch.vmap, and give what is drawn to the function: each row's by in_dims=0, or None: the same."]
    if randomness != "error":
        said = f"With randomness={randomness!r} torch.vmap draws otherwise than row by row, as is done here: to other numbers."
        return EvaluationError(said, hints=hints)
    return EvaluationError(
        "torch.vmap lets no random numbers be drawn in its function, unless it is told how",
        torch_message="vmap: called random operation while in randomness error mode. Please either use the 'same' or "
        "'different' randomness flags on vmap or perform the randomness operation out of vmap",
        hints=hints,
    )


def _pulled(f: Transformed, call: Call, arguments: Arguments, keywords: Keywords) -> Operand:
    """The pullback that torch.func.vjp gives: `options` hold the value and what it is derived by."""
    primals = call.parts(f.options["primals"])
    ys, xs = ([leaf for part in parts for leaf in _leaves(part)] for parts in (call.parts(f.options["value"]), primals))
    given = [part for argument in arguments for part in call.parts(argument)]
    weights = _given_for(call.parts(f.options["value"]), given)
    if len(weights) != len(ys):
        raise EvaluationError(f"The pullback takes {len(ys)} weights, and {len(weights)} are given.")
    left = iter(call.pulled(ys, xs, weights))
    return call.run.pack("tuple", [call.each(lambda _: next(left), primal) for primal in primals])


TRANSFORMS: Mapping[str, Callable[[Transformed, Call, Arguments, Keywords], Operand]] = {
    "grad": _grad,
    "grad_and_value": _grad,
    "jacrev": _jac,
    "jacfwd": _jac,
    "hessian": _hessian,
    "pulled": _pulled,
}
"""What a transformed function gives, where a derivative is taken."""


# Calls that give values at once


def _vjp(call: Call, function: Operand, *primals: Operand, **options: Operand) -> Operand:
    """torch.func.vjp(f, *primals): the value and its pullback."""
    given = [call.each(call.opened, primal) for primal in primals]
    value, auxiliary = call.value(function, given), None
    if call.plain(options.get("has_aux"), False):
        value, auxiliary = _pair(call, value)
    pull = Const(Transformed("pulled", function, {"value": value, "primals": Pack("tuple", tuple(given))}))
    return call.run.pack("tuple", [value, pull] if auxiliary is None else [value, pull, auxiliary])


def _jvp(call: Call, function: Operand, primals: Operand, tangents: Operand, **options: Operand) -> Operand:
    """torch.func.jvp(f, primals, tangents): the value and its derivative along the tangents."""
    given = [call.each(call.opened, primal) for primal in call.parts(primals)]
    value = call.value(function, given, forward=True)
    leaves = [leaf for primal in given for leaf in _leaves(primal)]
    parts = _given_for(given, call.parts(tangents))
    along = call.weights(Pack("tuple", tuple(parts)), len(leaves), "primals")
    pushed = [call.pushforward(y, leaves, along) for y in call.parts(value)]
    return call.run.pack("tuple", [value, pushed[0] if items_in(value) is None else call.run.pack("tuple", pushed)])


@dataclass(frozen=True, slots=True)
class _At:
    """A function at inputs, as torch.autograd.functional takes them: a tensor, or a tuple of them."""

    call: Call
    xs: list[Operand]
    value: Operand
    single: bool
    create_graph: bool

    @classmethod
    def of(cls, call: Call, function: Operand, inputs: Operand, options: Keywords) -> _At:
        """The function, evaluated."""
        xs = [call.opened(x) for x in call.parts(inputs)]
        create_graph = bool(call.plain(options.get("create_graph"), False))
        return cls(call, xs, call.value(function, xs), items_in(inputs) is None, create_graph)

    def given(self, found: Sequence[Operand], single: bool | None = None) -> Operand:
        """As many as there are inputs, without a graph unless one is asked for."""
        parts = list(found) if self.create_graph else [self.call.detached(part) for part in found]
        return parts[0] if (self.single if single is None else single) else self.call.run.pack("tuple", parts)

    def tangents(self, v: Operand | None) -> list[Operand]:
        """One for each input; ones where none are given."""
        if v is None or v == Const(None):
            return [self.call.do("call:torch.ones_like", x) for x in self.xs]
        return self.call.weights(v, len(self.xs), "inputs")

    def output(self) -> Operand:
        """The function's value."""
        return self.value if self.create_graph else self.call.detached(self.value)


def _functional_jacobian(call: Call, function: Operand, inputs: Operand, **options: Operand) -> Operand:
    at = _At.of(call, function, inputs, options)
    rows = [at.given([call.jacobian(y, x) for x in at.xs]) for y in call.parts(at.value)]
    return rows[0] if items_in(at.value) is None else call.run.pack("tuple", rows)


def _functional_hessian(call: Call, function: Operand, inputs: Operand, **options: Operand) -> Operand:
    at = _At.of(call, function, inputs, options)
    gradients = call.gradient(at.value, at.xs, "torch.autograd.functional.hessian")
    return at.given([at.given([call.jacobian(g, x) for x in at.xs]) for g in gradients])


def _functional_vjp(call: Call, function: Operand, inputs: Operand, v: Operand | None = None, **options: Operand) -> Operand:
    at = _At.of(call, function, inputs, options)
    ys = call.parts(at.value)
    weights = call.weights(v, len(ys), "outputs") if v is not None and v != Const(None) else [None] * len(ys)
    return call.run.pack("tuple", [at.output(), at.given(call.pulled(ys, at.xs, weights))])


def _functional_jvp(call: Call, function: Operand, inputs: Operand, v: Operand | None = None, **options: Operand) -> Operand:
    at = _At.of(call, function, inputs, options)
    tangents = at.tangents(v)
    pushed = [call.pushforward(y, at.xs, tangents) for y in call.parts(at.value)]
    return call.run.pack("tuple", [at.output(), at.given(pushed, items_in(at.value) is None)])


def _functional_hvp(call: Call, function: Operand, inputs: Operand, v: Operand | None = None, **options: Operand) -> Operand:
    """The Hessian times v; its transpose gives the same."""
    at = _At.of(call, function, inputs, options)
    tangents = at.tangents(v)
    gradients = call.gradient(at.value, at.xs, "torch.autograd.functional.hvp")
    return call.run.pack("tuple", [at.output(), at.given(call.pulled(gradients, at.xs, tangents))])


CALLS: Mapping[str, Callable[..., Operand]] = {
    "vjp": _vjp,
    "jvp": _jvp,
    "functional.jacobian": _functional_jacobian,
    "functional.hessian": _functional_hessian,
    "functional.vjp": _functional_vjp,
    "functional.jvp": _functional_jvp,
    "functional.hvp": _functional_hvp,
    "functional.vhp": _functional_hvp,
}
"""What gives values at once."""

OPTIONS: Mapping[str, Sequence[str]] = {
    "grad": ("argnums", "has_aux"), "grad_and_value": ("argnums", "has_aux"), "jacrev": ("argnums", "has_aux", "chunk_size"),
    "jacfwd": ("argnums", "has_aux", "randomness"), "hessian": ("argnums",),
    "vmap": ("in_dims", "out_dims", "randomness", "chunk_size"),
    "vjp": ("has_aux",), "jvp": ("primals", "tangents", "strict"),
    **{name: ("inputs", "v", "create_graph", "strict", "vectorize", "strategy", "outer_jacobian_strategy")
       for name in CALLS if name.startswith("functional.")},
}  # fmt: skip
"""The keywords that each takes; some change nothing here: how torch would go about it."""


def transform(run: Run, equation: Equation) -> Operand:
    """A call of one of them."""
    name, call = equation.target, Call(run, equation)
    arguments = run.held_items(equation.operands)
    keywords = {key: run.held(operand) for key, operand in equation.keywords}
    unknown = next((key for key in keywords if key not in (*OPTIONS[name], "func")), None)
    if unknown is not None:
        raise EvaluationError(f"`{name}` takes no `{unknown}` here.")
    if "func" in keywords:
        arguments.insert(0, keywords.pop("func"))
    if not arguments or not _is_function(arguments[0]):
        raise EvaluationError(f"`{name}` takes a function first: a `def` or `lambda` of the program, or one of torch's.")
    function, *rest = arguments
    if name in CALLS:
        try:
            if name.startswith("functional."):  # whose results lose their graph by create_graph alone
                with recording(run, True):
                    return CALLS[name](call, function, *rest, **keywords)
            return call.recorded(lambda: CALLS[name](call, function, *rest, **keywords))
        except TypeError:
            raise EvaluationError(f"The arguments don't fit `{name}`.") from None
    options = dict(zip(OPTIONS[name], rest, strict=False))
    return Const(Transformed(name, function, {**options, **keywords}))


def functional_call(run: Run, equation: Equation) -> Operand:
    """A module with other values of parameters: `torch.func.functional_call(net, {"weight": w}, (x,))`."""
    call = Call(run, equation)
    given, arguments = run.held_items(equation.operands)
    held = [entries_in(part) for part in items_in(given) or [given]]
    own = {name: run.held(operand) for name, operand in equation.keywords}
    modules = [part for name, part in run.functions.items() if f"{name}.".startswith(f"{equation.target}.")]
    shapes = {name: shape for part in modules for name, shape in getattr(part, "shapes", {}).items()}
    if None in held:
        raise EvaluationError("functional_call takes a dictionary of parameters by their names, or several.")
    pairs = [pair for entries in held if entries is not None for pair in entries.items()]
    named = {f"{equation.target}.{key}": call.run.newest(value) for key, value in pairs}
    for name, value in named.items():
        shape = tuple(call.tensor(value).shape)
        if name not in shapes:
            raise UnknownNameError(f"`{name}` is no parameter here; there are {', '.join(shapes) or 'none'}.")
        if shape != shapes[name]:
            raise EvaluationError(f"`{name}` has shape {shapes[name]}, and one of shape {shape} is given for it.")
    keywords = tuple({**own, **named}.items())
    return run.do(f"call:{IMPORTED}{equation.target}", call.parts(arguments), equation.span, keywords)


def _is_function(operand: Operand) -> bool:
    return isinstance(operand, Const) and isinstance(operand.value, (FunctionValue, Known))


def _pair(call: Call, value: Operand) -> tuple[Operand, Operand]:
    items = call.parts(value)
    if len(items) != 2:
        raise EvaluationError("With has_aux=True a function gives two things: what is derived, and what else it gives.")
    return items[0], items[1]


def _sizes(shape: Sequence[int]) -> Operand:
    return Pack("tuple", tuple(map(Const, shape)))


HANDLERS: Mapping[str, Handler] = {"transform": transform, "functional": functional_call}
"""Carries out what torch.func and torch.autograd.functional offer."""
