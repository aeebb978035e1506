"""The cotangents and tangents that a request gives: ones, zeros, randn, onehot:1,2, none, or any VALUE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import (
    BadValueError,
    EvaluationError,
    JvpError,
    NotDifferentiableError,
    ShapeMismatchError,
    UsageError,
)
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.values import dtype_name, free_names, is_word, read_value
from jvpcli.options import command
from jvpcli.problem import Problem
from jvpcli.report import Refusal
from jvpcli.request import Request

SEED_OFFSET = 1_000
"""Random weights start this far from the request's seed, so that they differ from random inputs."""


@dataclass(frozen=True)
class Weight:
    """A cotangent or tangent and where it came from: `ones`, or what the user wrote.

    A cotangent that a derivative call left out is ones; `implicit` says of what kind the call was: "" of
    torch.autograd.grad or backward, "vjp" of torch.autograd.functional.vjp, "grad" of torch.func.grad.  `live` is the value with
    its graph, where it has one.
    """

    source: str
    value: Tensor
    implicit: str | None = None
    live: Tensor | None = None


def read_cotangents(request: Request, evaluation: Evaluation) -> dict[str, Weight]:
    """v for each differentiable output, in the outputs' order; an output left out (`none`) is not there.

    It has the output's shape; with `is_grads_batched` an axis in front, as long for all outputs.

    Raises:
        ShapeMismatchError: a shape other than its output's.
        UsageError: more cotangents than outputs or fewer, or one for a name that is no output.
    """
    if request.is_grads_batched and request.command != "inspect":
        raise UsageError(f"{request.command} takes one v, and is_grads_batched gives several; inspect takes them all")
    outputs = evaluation.outputs
    pairs = _one_for_each(request.grad_outputs, len(outputs))
    given = _by_name("--grad-outputs", pairs, list(outputs))
    values = [value for name, value in pairs if name is None]
    alone = values[0] if len(pairs) == len(values) == 1 and _word(values[0]) in OF_ANY_SHAPE else None
    weights = {}
    for position, (name, y) in enumerate(outputs.items()):
        value = given.get(name, alone or "ones")
        if _word(value) == IMPLICIT and not y.requires_grad:
            raise _without_graph(request, name, position)
        if _word(value) == "none" or not y.requires_grad:
            continue
        if values and name not in given and alone is None and len(values) == len(pairs):
            raise _too_few(request, values, list(outputs))
        weights[name] = _cotangent(value, name, position, name in given or alone is not None, request, evaluation)
    if not weights:
        raise UsageError("every output is left out with --grad-outputs none: there is nothing to pull back")
    if request.is_grads_batched and len({len(weight.value) for weight in weights.values()}) > 1:
        counts = ", ".join(f"{len(weight.value)} for {name}" for name, weight in weights.items())
        raise UsageError(f"with is_grads_batched grad_outputs holds as many v for each output, and here {counts}")
    return weights


def _cotangent(
    value: Any, name: str, position: int, given: bool, request: Request, evaluation: Evaluation
) -> Weight:
    """v for the output `name`, the one at `position`."""
    outputs, y, batched = evaluation.outputs, evaluation.outputs[name], request.is_grads_batched
    implicit = value.strip().partition(":")[2] if _word(value) == IMPLICIT else None
    call, _, axes = (implicit or "").partition("_")
    if call not in ("", "vjp", "grad") or not (axes or "0").isdecimal() or int(axes or 0) > y.dim():
        raise UsageError(f"grad_outputs for {name}: implicit, implicit:vjp and implicit:grad leave v to the call, not {value!r}")
    value = value if implicit is None else "ones"
    what, scope = f"grad_outputs for {name}", {**evaluation.inputs, **evaluation.named, **outputs}
    v = _weight(value, y, request, scope, what, request.seed + SEED_OFFSET + position)
    if batched and (is_word(value) or not v.dim() or v.shape[1:] != y.shape):
        from jvpcli.answers.mismatch import batch_mismatch  # loaded only where something is wrong

        raise batch_mismatch(name, y, v)
    if not batched and v.shape != y.shape:
        several = len(outputs) > 1
        from jvpcli.answers.mismatch import cotangent_mismatch  # loaded only where something is wrong

        raise cotangent_mismatch(
            request, name, y, v, evaluation.inputs, position, several, lambda r: read_cotangents(r, evaluation)
        )
    return Weight(_source(value, given and implicit is None), _as(v, y, what), implicit, _live(v, y))


def refused(problem: Problem, cotangents: Mapping[str, Weight]) -> Refusal | None:
    """What PyTorch raises for the derivative call that was pasted, since it gives no v where one is needed."""
    implicit = {name: weight.implicit for name, weight in cotangents.items() if weight.implicit is not None}
    if not implicit:
        return None
    kind = getattr(getattr(problem.function, "result", None), "kind", "dict")
    return _refusal(problem.evaluation.outputs, list(problem.leaves.values()), implicit, kind)


def _without_graph(request: Request, name: str, position: int) -> NotDifferentiableError:
    """An output of a derivative call that was pasted does not depend on anything that is differentiated."""
    calls = [each for each in request.calls or () if each.explained]
    place = position if len(calls) == 1 else 0
    return NotDifferentiableError(
        f"there is no graph: {name} does not depend on anything that requires a gradient",
        hints=["make what it is computed from with requires_grad=True, or leave it out"],
        torch_message=f"element {place} of tensors does not require grad and does not have a grad_fn",
    )


def _too_few(request: Request, values: list[Any], names: list[str]) -> UsageError:
    """Cotangents without names for some of the outputs alone."""
    shown = command(replace(request, grad_outputs=tuple(zip(names, [*values, *["ones"] * len(names)], strict=False))))
    return UsageError(
        f"grad_outputs was given for {len(values)} of the {len(names)} outputs {', '.join(names)}",
        explanation="A v is needed for each; nothing is filled in. `none` leaves an output out, and ones weigh all its "
        "entries alike.",
        hints=(shown or "give a v for each output, or those that matter by name",),
        torch_message=f"got {len(names)} tensors and {len(values)} gradients",
    )


def read_tangents(request: Request, evaluation: Evaluation) -> dict[str, Weight]:
    """u for each differentiated input if any tangent was given (zeros for those without one), else nothing.

    Raises:
        ShapeMismatchError: a shape other than its input's.
        UsageError: more tangents than inputs, or one for a name that is not differentiated.
    """
    if not request.tangent:
        return {}
    names = list(evaluation.wrt)
    given = _by_name("--tangent", _one_for_each(request.tangent, len(names)), names)
    weights = {}
    for position, name in enumerate(names):
        x = evaluation.inputs[name]
        value = given.get(name, "zeros")
        u = _weight(value, x, request, evaluation.inputs, f"tangent for {name}", request.seed + SEED_OFFSET + position)
        if u.shape != x.shape:
            several = len(names) > 1
            from jvpcli.answers.mismatch import tangent_mismatch  # loaded only where something is wrong

            raise tangent_mismatch(
                request, name, x, u, evaluation.outputs, position, several, lambda r: read_tangents(r, evaluation)
            )
        u_as = _as(u, x, f"tangent for {name}")
        weights[name] = Weight(_source(value, name in given), u_as, live=_live(u, x))
    return weights


IMPLICIT = "implicit"
OF_ANY_SHAPE = ("ones", "zeros", "randn", IMPLICIT)
"""Words that, given once and without a name, hold for every output."""


def _word(value: Any) -> str:
    """The word that a VALUE is, or begins with; what is no text is none."""
    return value.strip().partition(":")[0] if isinstance(value, str) else ""


Pairs = tuple[tuple[str | None, Any], ...]


def _one_for_each(pairs: Pairs, count: int) -> Pairs:
    """The pairs; where a sequence is all that was given and there are several tensors, an item of it for each."""
    if count < 2 or len(pairs) != 1 or pairs[0][0] is not None or not isinstance(pairs[0][1], (list, tuple)):
        return pairs
    return tuple((None, "none" if item is None else item) for item in pairs[0][1])


def _by_name(option: str, pairs: Pairs, names: list[str]) -> dict[str, Any]:
    """The VALUEs by name; those without a name go by the order of the names."""
    unnamed = [value for name, value in pairs if name is None]
    if len(unnamed) > len(names):
        raise UsageError(f"{option} was given {len(unnamed)} times, but there {_count(names)}")
    given = dict(zip(names, unnamed, strict=False))
    for name, value in pairs:
        if name is None:
            continue
        if name not in names:
            raise UsageError(f"{option} names {name!r}, but there {_count(names)}")
        if name in given:
            raise UsageError(f"{option} for {name!r} was given twice")
        given[name] = value
    return given


def _count(names: list[str]) -> str:
    return f"is only {names[0]}" if len(names) == 1 else f"are only {', '.join(names)}"


def _weight(value: Any, like: Tensor, request: Request, scope: Mapping[str, Tensor], what: str, seed: int) -> Tensor:
    """A VALUE, or one of the words, for a tensor of the shape of `like`."""
    if isinstance(value, str):
        word, _, argument = value.strip().partition(":")
        if word in ("ones", "zeros") and not argument:
            return torch.full_like(like, float(word == "ones"), requires_grad=False).detach()
        if word == "randn" and not argument:
            generator = torch.Generator().manual_seed(seed)
            return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
        if word == "onehot":
            return _onehot(argument, like, what)
    plain = {name: tensor.detach() for name, tensor in scope.items()}
    plain |= _helping(value, request, plain)
    dtype = dtype_name(like.dtype)
    try:
        reading: dict[str, Any] = {"device": request.device, "stdin": request.stdin, "files": request.files}
        return read_value(value, name=what, dtype=dtype, scope=plain, seed=seed, **reading)
    except (EvaluationError, ShapeMismatchError) as error:
        raise explained(error, what, plain) from error
    except JvpError as error:
        raise error.with_context(source=value if isinstance(value, str) else None) from error


def _helping(value: Any, request: Request, scope: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs that were given for the sake of a weight alone."""
    try:
        names = free_names(value) if isinstance(value, str) else ()
    except JvpError:  # which is told where it is read
        return {}
    reading: dict[str, Any] = {"device": request.device, "stdin": request.stdin, "files": request.files}
    return {
        name: read_value(
            given, name=name, dtype=request.dtype, scope=dict(scope), seed=request.seed + position, **reading
        )
        for position, (name, given) in enumerate(request.inputs.items())
        if name in names and name not in scope
    }


def explained(error: JvpError, name: str, scope: Mapping[str, Tensor]) -> JvpError:
    """What torch raised for the expression of the VALUE of `name`, which may use the inputs in `scope`, explained."""
    from jvpcli.repairs.diagnosis import explain_value  # loaded only where something has failed

    return explain_value(error, name, scope)


def _onehot(index: str, like: Tensor, what: str) -> Tensor:
    """1 at `index` (comma-separated, one number an axis), 0 elsewhere."""
    try:
        place = tuple(int(part) for part in index.split(",")) if index.strip() else ()
    except ValueError:
        raise BadValueError(f"{what}: onehot takes whole numbers, one an axis, not {index!r}") from None
    if len(place) != like.dim() or not all(-n <= i < n for i, n in zip(place, like.shape, strict=True)):
        raise BadValueError(
            f"{what}: onehot:{index} is not an index of a tensor of shape {tuple(like.shape)}",
            explanation=f"It takes {like.dim()} number{'s' * (like.dim() != 1)}, one an axis, each within the axis.",
        )
    hot = torch.zeros_like(like).detach()
    hot[place] = 1
    return hot


def _as(v: Tensor, like: Tensor, what: str) -> Tensor:
    if v.is_complex() and not like.is_complex():
        raise BadValueError(f"{what} is complex, but its tensor is {dtype_name(like.dtype)}")
    return v.detach().to(dtype=like.dtype, device=like.device)


def _live(v: Tensor, like: Tensor) -> Tensor | None:
    return v.to(dtype=like.dtype, device=like.device) if v.requires_grad else None


def _source(value: Any, given: bool) -> str:
    if not given:
        return "ones" if value == "ones" else "zeros"
    return value if isinstance(value, str) else f"a {type(value).__name__}"


# A derivative call that gives no cotangent, as PyTorch itself takes it: what it raises, in its own words, and what it needs

WITHOUT_V: Mapping[str, Callable[[Tensor, Sequence[Tensor]], Any]] = {
    "": lambda y, xs: torch.autograd.grad(y, xs, retain_graph=True, allow_unused=True),
    "vjp": lambda y, xs: torch.autograd.functional.vjp(lambda *_: y, tuple(xs)),
    "grad": lambda y, xs: torch.func.grad(lambda *_: y)(*xs),
}
"""The calls that have a default for v, by their kind; each is run for what it says of an output that it has none for."""


def _refusal(
    outputs: Mapping[str, Tensor], inputs: Sequence[Tensor], implicit: Mapping[str, str], kind: str
) -> Refusal | None:
    """What PyTorch raises where outputs are differentiated without a cotangent; None where it does it.

    Args:
        outputs, inputs: tensors of one graph.
        implicit: names of outputs that have no cotangent, to the kind of call: a key of `WITHOUT_V`, and behind `_` how many
            axes vmap has added to what the function gives.
        kind: what holds several outputs: "tuple", "list" or "dict".
    """
    if len(outputs) > 1 and any(call.startswith("grad") for call in implicit.values()):
        held = dict(outputs) if kind == "dict" else list(outputs.values()) if kind == "list" else tuple(outputs.values())
        try:
            torch.func.grad(lambda *_: held)(*inputs)
        except RuntimeError as error:
            return Refusal(f"RuntimeError: {error}", _needs_one(kind))
    for name, kind_of_call in implicit.items():
        (call, _, axes), y = kind_of_call.partition("_"), outputs[name]
        for _ in range(int(axes or 0)):
            y, name = y[0], f"{name}[0]"
        if y.numel() == 1 and not y.is_complex() and not (call == "grad" and y.dim()):
            continue
        try:
            WITHOUT_V[call](y, inputs)
        except RuntimeError as error:
            return Refusal(f"RuntimeError: {error}", _needs(name, y, call))
    return None


def _needs_one(kind: str) -> str:
    return (
        f"the function gives a {kind} of tensors; torch.func.grad is for functions whose result is one real number of shape (). "
        "It needs one of them, or a sum of sums; torch.func.jacrev takes them all. Here v is ones for each."
    )


def _needs(name: str, y: Tensor, call: str) -> str:
    number = "complex number" if y.is_complex() else "number"
    count = "1 entry, a " + number if y.numel() == 1 else f"{y.numel()} entries"
    kind = f"{name} has {count}, in the shape {tuple(y.shape)}" if y.dim() else f"{name} is a single {number}"
    if call == "grad":
        return (
            f"{kind}; torch.func.grad is for functions whose result is one real number of shape (). It needs such a number, as "
            f"{name}.sum(){'.real' if y.is_complex() else ''}, or torch.func.vjp with a v. Here v is ones."
        )
    stands_for = f"{name}{'.real' if y.is_complex() else ''}{'.sum()' if y.dim() else ''}"
    return (
        f"{kind}; without v, the weights of its entries, PyTorch differentiates only one real number. It needs v of the "
        f"shape {tuple(y.shape)}, as torch.ones_like({name}). Here v is ones: this is the gradient of {stands_for}."
    )
