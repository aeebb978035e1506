"""A cotangent or tangent of the wrong shape: what was expected and why, what came, what it looks like, what works."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import JvpError, ShapeMismatchError
from jvpcli.language.values import free_names, is_expression
from jvpcli.options import command
from jvpcli.report import Shape
from jvpcli.request import Request

MOST_NUMBERS = 64
"""A repaired VALUE of more numbers than this is not written out in a hint."""


@dataclass(frozen=True)
class Resemblance:
    """What a wrong shape looks like: a sentence, and where the same numbers fit in another shape, how.

    `suffix` is what to write behind the expression (`.T`); `repaired` the tensor that this gives; `twin` a tensor on the other
    side of the Jacobian that has this shape.
    """

    sentence: str
    suffix: str = ""
    repaired: Tensor | None = None
    twin: str | None = None


Read = Callable[[Request], Any]
"""Reads the cotangents or tangents of a request, and raises as they were raised here."""


def cotangent_mismatch(
    request: Request,
    name: str,
    output: Tensor,
    v: Tensor,
    inputs: Mapping[str, Tensor],
    position: int,
    several: bool,
    read: Read,
) -> ShapeMismatchError:
    """The failure of a cotangent `v` for output `name`, whose shape is not the output's.

    `position` is the output's number among the outputs; `several` says that there are more than one.  `read` tries the
    repaired request: where another cotangent is wrong as well, the command shown repairs that too.
    """
    expected, got = tuple(output.shape), tuple(v.shape)
    looks = resemblance(v, expected, name, inputs)
    asked, fixed = _repaired(request, "grad_outputs", name, position, several, looks, read)
    if fixed:
        hints = [fixed]
    elif looks.repaired is None:
        hints = [f"pass grad_outputs of shape {expected}, for example torch.ones_like({name})"]
    else:
        hints = [f"pass the same numbers in the shape {expected}: v{looks.suffix}"]
    if got[1:] == expected and got[0] != 1 and request.command == "inspect":
        batched = _that_works(replace(request, is_grads_batched=True), read)
        hints += [batched] if batched else []
    if looks.twin is not None and asked:
        tangent = [(None if len(inputs) == 1 else looks.twin, asked)]
        as_tangent = command(request, name="inspect", grad_outputs=(), tangent=tangent)
        hints += [as_tangent] if as_tangent and name not in free_names(asked) else []
    about = f"grad_outputs is v = ∂L/∂{name}: one weight for each entry of the *output*. {_counted(name, expected)}, so v"
    said = (
        f"Mismatch in shape: grad_output[{position}] has a shape of {v.shape} and output[{position}] has a shape of "
        f"{output.shape}."
    )
    return _mismatch("grad_outputs", name, expected, got, about, looks, hints, said)


def batch_mismatch(name: str, output: Tensor, v: Tensor) -> ShapeMismatchError:
    """The failure of a cotangent `v` for output `name` that holds no batch of cotangents, where one was said to be."""
    expected, got = tuple(output.shape), tuple(v.shape)
    return ShapeMismatchError(
        message=f"grad_outputs for {name} has shape {got}; with is_grads_batched each v along its first axis has {expected}",
        explanation=(
            f"is_grads_batched=True takes several v at once, along an axis in front of the shape of {name}: the shape is "
            f"(B, {', '.join(map(str, expected))}), and the result has a row for each of the B."
        ),
        hints=(f"for example torch.eye({output.numel()}).reshape{(-1, *expected)}: one v for each entry of {name}",),
        expected=expected,
        got=got,
        torch_message=_said(output, v),
    )


def _said(output: Tensor, v: Tensor) -> str | None:
    """What PyTorch says of a `v` that is no batch of cotangents: it is asked."""
    try:
        torch.autograd.grad(output, output, v, is_grads_batched=True)
    except (RuntimeError, IndexError) as error:
        return str(error)
    return None


def tangent_mismatch(
    request: Request,
    name: str,
    x: Tensor,
    u: Tensor,
    outputs: Mapping[str, Tensor],
    position: int,
    several: bool,
    read: Read,
) -> ShapeMismatchError:
    """The failure of a tangent `u` for input `name`, whose shape is not the input's; otherwise as a cotangent's."""
    expected, got = tuple(x.shape), tuple(u.shape)
    looks = resemblance(u, expected, name, outputs, of_output=True)
    asked, fixed = _repaired(request, "tangent", name, position, several, looks, read)
    hints = [fixed or f"pass a tangent of shape {expected}, for example torch.ones_like({name})"]
    if looks.twin is not None and asked:
        weights = [(None if len(outputs) == 1 else looks.twin, asked)]
        as_cotangent = command(request, name="inspect", grad_outputs=weights, tangent=())
        hints += [as_cotangent] if as_cotangent else []
    about = (
        f"A tangent u is a direction in which the *input* moves: one number for each entry of {name}. "
        f"{_counted(name, expected)}, so u"
    )
    said = (
        "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
        f"supported. Tensor is of size {list(expected)} while the given forward gradient is of size {list(got)}."
    )
    return _mismatch("tangent", name, expected, got, about, looks, hints, said)


def _repaired(
    request: Request, field: str, name: str, position: int, several: bool, looks: Resemblance, read: Read
) -> tuple[str, str | None]:
    """What the user wrote in a field of the request for `name`, and the command with what fits in its place, if that works."""
    pairs = getattr(request, field)
    asked = _text_of(pairs, name, position)
    fitting: Any = {field: tuple(_replaced(pairs, name, position, repaired_value(looks, asked), several))}
    return asked, _that_works(replace(request, **fitting), read)


def _mismatch(
    field: str, name: str, expected: Shape, got: Shape, about: str, looks: Resemblance, hints: list[str], said: str
) -> ShapeMismatchError:
    from jvpcli.messages.matcher import with_causes  # loaded only where something has failed

    return with_causes(
        ShapeMismatchError(
            message=f"{field} for {name} has shape {got}; expected {expected}, the shape of {name}",
            explanation=f"{about} has the shape {expected}; nothing is broadcast.\nWhat came has shape {got}: {looks.sentence}",
            hints=tuple(hints),
            expected=expected,
            got=got,
            torch_message=said,
        )
    )


def _that_works(request: Request, read: Read) -> str | None:
    """The command of a repaired request; of one where another shape is wrong, the command that repairs that."""
    try:
        read(request)
    except ShapeMismatchError as further:
        return next((hint for hint in further.hints if hint.startswith("jvp ")), None)
    except JvpError:
        return None
    return command(request)


def resemblance(
    v: Tensor, expected: Shape, name: str, others: Mapping[str, Tensor], *, of_output: bool = False
) -> Resemblance:
    """What the shape of `v` looks like, the likeliest mistake first.

    `others` are the tensors on the other side of the Jacobian (the inputs for a cotangent).
    """
    got = tuple(v.shape)
    twin = next((key for key, other in others.items() if tuple(other.shape) == got), None)
    if twin is not None:
        kind = "output" if of_output else "input"
        other = (
            "Weights for the output's entries are a cotangent (--grad-outputs)"
            if of_output
            else "A direction in the input's space is the tangent of a JVP (--tangent); it goes in on the other side of J"
        )
        return Resemblance(f"that is the shape of the {kind} {twin}. {other}.", twin=twin)
    if len(got) >= 2 and got[::-1] == expected:
        turned = ".T" if v.dim() == 2 else f".permute{tuple(reversed(range(v.dim())))}"
        return Resemblance(f"that is {name}'s shape transposed.", turned, v.permute(*reversed(range(v.dim()))))
    if _squeezed(got) == _squeezed(expected) and v.numel():
        return Resemblance(_about_ones(got, expected), f".reshape{expected}", v.reshape(expected))
    if v.numel() == prod(expected):
        if len(got) == 1:
            sentence = f"that is {name} flattened: the right number of entries ({v.numel()}), in one row."
        else:
            sentence = (
                f"the right number of entries ({v.numel()}), in another shape; in row-major order they would fit."
            )
        return Resemblance(sentence, f".reshape{expected}", v.reshape(expected))
    if v.numel() == 1:
        return Resemblance(
            f"a single number. PyTorch does not spread it over all {prod(expected)} entries, and neither does jvp; "
            "the command below writes them out.",
            f".reshape(()).expand{expected}",
            v.reshape(()).expand(expected),
        )
    if _broadcasts(got, expected):
        return Resemblance(
            f"it would broadcast to {expected}, but nothing is broadcast silently; the command below writes it out.",
            f".expand{expected}",
            v.expand(expected),
        )
    if len(got) > len(expected) and got[len(got) - len(expected) :] == expected:
        extra = len(got) - len(expected)
        batch = got[:extra]
        return Resemblance(
            f"{name}'s shape with {_axes(extra)} of size {', '.join(map(str, batch))} too many in front: that is a batch of "
            f"{prod(batch)} cotangents, and one at a time is pulled back; the command below takes the first.",
            f"[{', '.join('0' * extra)}]",
            v.reshape(-1, *expected)[0] if prod(batch) else None,
        )
    return Resemblance(f"{prod(got)} numbers for {prod(expected)} entries.")


def repaired_value(looks: Resemblance, text: str) -> str:
    """A VALUE that fits: the user's own expression with the suffix, or its numbers written out, or `ones`."""
    if looks.repaired is None:
        return "ones"
    numbers = as_value(looks.repaired)
    if numbers in ("ones", "zeros"):
        return numbers
    if is_expression(text):
        simple = re.fullmatch(r"[\w.]+(\([^()]*\))?", text)
        return f"{text if simple else f'({text})'}{looks.suffix}"
    return numbers if looks.repaired.numel() <= MOST_NUMBERS else "ones"


def as_value(tensor: Tensor) -> str:
    """A tensor as a VALUE: a word where all entries are the same 1 or 0, else numbers, rows or JSON."""
    if bool((tensor == 1).all()):
        return "ones"
    if bool((tensor == 0).all()):
        return "zeros"
    if tensor.dim() > 2 or tensor.numel() == 0:
        return str(tensor.tolist()) if not tensor.is_complex() else "ones"
    if tensor.dim() == 0:
        return _number(tensor.item())
    rows = [tensor] if tensor.dim() == 1 else list(tensor)
    text = ";".join(",".join(_number(entry) for entry in row.tolist()) for row in rows)
    return text if (tensor.dim() == 1 and tensor.numel() > 1) or len(rows) > 1 else str(tensor.tolist())


def _number(value: complex) -> str:
    if isinstance(value, complex):
        return f"{value.real:.7g}{value.imag:+.7g}j"
    return f"{value:.7g}"


def _squeezed(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _broadcasts(shape: Shape, to: Shape) -> bool:
    if len(shape) > len(to):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def _about_ones(got: Shape, expected: Shape) -> str:
    if got[-len(expected) :] == expected if expected else True:
        many = len(got) - len(expected)
        return f"that is the right shape with {_axes(many)} of length 1 too many in front."
    return "that is the right shape but for axes of length 1."


def _counted(name: str, shape: Shape) -> str:
    if shape == ():
        return f"{name} is a single number (0-d)"
    return f"{name} has {prod(shape)} entries in the shape {shape}"


def _axes(count: int) -> str:
    return "an axis" if count == 1 else f"{count} axes"


def _text_of(pairs: tuple[tuple[str | None, object], ...], name: str, position: int) -> str:
    """What the user wrote for `name`, or nothing."""
    for number, (key, value) in enumerate(pairs):
        if isinstance(value, str) and (key == name or (key is None and number == position)):
            return value
    return ""


def _replaced(
    pairs: tuple[tuple[str | None, object], ...], name: str, position: int, value: str, several: bool
) -> list[tuple[str | None, object]]:
    """The pairs with the value for `name` (by name, else by its position) exchanged."""
    exchanged = [
        (key, value if key == name or (key is None and (number == position or not several)) else old)
        for number, (key, old) in enumerate(pairs)
    ]
    return exchanged or [(name if several else None, value)]
