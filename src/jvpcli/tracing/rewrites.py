"""Rewrites of an expression that may cure a gradient that is not finite: by rule, in the text, still to be tried.

A rule replaces one operand of the guilty step by something that stays away from the bad point.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import copysign, floor, inf, log, log10

import torch
from torch import Tensor

from jvpcli.errors import JvpError, Span
from jvpcli.language.source import SourceText, read_source
from jvpcli.tracing.replay import Step
from jvpcli.tracing.steps import Traced

ATOMS = (ast.Name, ast.Call, ast.Attribute, ast.Subscript)
"""Nodes that need no brackets anywhere."""

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.MatMult, ast.Pow)
"""Operators that bind at least as strongly as a sum."""


@dataclass(frozen=True)
class Place:
    """An operand in the text: where it stands, its node, and whether what stands there needs brackets around a sum."""

    span: Span
    node: ast.expr
    tight: bool


def candidates(traced: Traced, index: int, position: int, entry: int) -> Iterator[str]:
    """Whole expressions in which a step, or one operand of it, is replaced; those that change no value first."""
    source, step = traced.program.source, traced.chain.steps[index]
    for span, new in stable_forms(source):
        yield _spliced(source, span, new)
    place = operand_places(source, step).get(step.arguments[position])
    if place is None:
        return
    for new, atom in _replacements(traced, index, position, entry, place):
        yield _spliced(source, place.span, new if atom or not place.tight else f"({new})")


def operand_places(source: str, step: Step) -> dict[int | str, Place]:
    """The places of a step's arguments by number or keyword; nothing where the text isn't one call or operation."""
    try:
        text, tree = read_source(source)
    except JvpError:
        return {}
    node = next((n for n in ast.walk(tree) if isinstance(n, ast.expr) and text.span(n) == step.equation.span), None)
    if isinstance(node, ast.BinOp):
        return _places(text, [(0, node.left, True), (1, node.right, True)])
    if isinstance(node, ast.UnaryOp):
        return _places(text, [(0, node.operand, True)])
    if isinstance(node, ast.Attribute):
        return _places(text, [(0, node.value, True)])
    if not isinstance(node, ast.Call):
        return {}
    parts: list[tuple[int | str, ast.expr, bool]] = []
    if step.equation.kind == "method" and isinstance(node.func, ast.Attribute):
        parts.append((0, node.func.value, True))
    first = len(parts)
    parts += [(first + number, argument, False) for number, argument in enumerate(node.args)]
    parts += [(keyword.arg or "", keyword.value, False) for keyword in node.keywords]
    return _places(text, parts)


def _places(text: SourceText, parts: Sequence[tuple[int | str, ast.expr, bool]]) -> dict[int | str, Place]:
    return {key: Place(text.span(node), node, tight) for key, node, tight in parts}


def _spliced(source: str, span: Span, new: str) -> str:
    return source[: span[0]] + new + source[span[1] :]


# Rules: another operation for two that go wrong together


STABLE = {
    "log(softmax(u, *rest))": "torch.log_softmax({u}{rest})",
    "log(sigmoid(u))": "F.logsigmoid({u})",
    "log(1 - sigmoid(u))": "F.logsigmoid(-{atom})",
    "log(sum(exp(u)))": "torch.logsumexp(torch.flatten({u}), 0)",
    "log(sum(exp(u), *rest))": "torch.logsumexp({u}{rest})",
    "log1p(exp(u))": "F.softplus({u})",
    "log(1 + exp(u))": "F.softplus({u})",
    "log(exp(u) + 1)": "F.softplus({u})",
    "exp(u) / (1 + exp(u))": "torch.sigmoid({u})",
    "exp(u) / (exp(u) + 1)": "torch.sigmoid({u})",
}
"""Compositions, and what torch has in their places: of any u; a name that is called stands for the function and the method."""

FORMS = [(ast.parse(form, mode="eval").body, stable) for form, stable in STABLE.items()]


def stable_forms(source: str) -> Iterator[tuple[Span, str]]:
    """(place, new text) of every composition in the text that torch has as one operation, which is stable."""
    try:
        text, tree = read_source(source)
    except JvpError:
        return
    for node in ast.walk(tree):
        for form, stable in FORMS:
            found: dict[str, list[ast.expr]] = {}
            if _matches(form, node, found):
                u, *rest = [source[slice(*text.span(part))] for part in (*found["u"], *found.get("rest", ()))]
                atom = u if isinstance(found["u"][0], ATOMS) else f"({u})"
                yield text.span(node), stable.format(u=u, atom=atom, rest="".join(f", {each}" for each in rest))
                break


def _matches(form: ast.expr, node: ast.AST, found: dict[str, list[ast.expr]]) -> bool:
    """Whether an expression has a form; what stands for its names goes to `found`, the same for the same name."""
    if isinstance(form, ast.Name) and isinstance(node, ast.expr):
        return ast.dump(found.setdefault(form.id, [node])[0]) == ast.dump(node)
    if isinstance(form, ast.Constant):
        return isinstance(node, ast.Constant) and node.value == form.value
    if isinstance(form, ast.BinOp):
        same = isinstance(node, ast.BinOp) and type(node.op) is type(form.op)
        return same and _matches(form.left, node.left, found) and _matches(form.right, node.right, found)  # type: ignore[attr-defined]
    called = _called(node)
    if called is None or not isinstance(form, ast.Call) or called[0] != form.func.id:  # type: ignore[attr-defined]
        return False
    if len(form.args) > 1 and called[2]:
        found["rest"] = called[2]
    return (len(form.args) > 1 or not called[2]) and _matches(form.args[0], called[1], found)


def _called(node: ast.AST) -> tuple[str, ast.expr, list[ast.expr]] | None:
    """(name, operand, further arguments) of `torch.f(a, …)`, `F.f(a, …)` and `a.f(…)` alike, without keywords."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.keywords:
        return None
    owner = node.func.value
    parts = [owner, *node.args]
    if isinstance(owner, ast.Name) and owner.id in ("torch", "F"):
        parts = parts[1:]
    return (node.func.attr, parts[0], parts[1:]) if parts else None


# Rules: an operand that stays away from the bad point


def _replacements(traced: Traced, index: int, position: int, entry: int, place: Place) -> Iterator[tuple[str, bool]]:
    """(new text, whether it needs no brackets) by every rule that applies."""
    step = traced.chain.steps[index]
    operand, text = step.operands[position].tensor, traced.program.text(place.span)
    for condition, taken in _masks(traced, index):
        yield (f"torch.where({condition}, {text}, 1)" if taken else f"torch.where({condition}, 1, {text})"), True
    if not operand.is_floating_point():
        return
    atom = text if isinstance(place.node, ATOMS) else f"({text})"
    term = text if _is_term(place.node) else f"({text})"
    small, large = bounds(operand.dtype)
    number = float(operand.reshape(-1)[entry]) if entry < operand.numel() else 0.0
    if abs(number) <= 1:
        yield f"{term} + {small}", False
        yield f"{atom}.clamp_min({small})", True
    elif number < 0:
        yield f"{atom}.clamp_min({small})", True
    if _ends_at_one(step, position, entry):
        yield f"{atom}.clamp(-1 + {small}, 1 - {small})", True
    if float(large) < abs(number) < FAR_OUT and _grows_exponentially(step, position, entry, copysign(float(large), number)):
        yield f"{atom}.clamp(-{large}, {large})", True


def _ends_at_one(step: Step, position: int, entry: int) -> bool:
    """Whether an operation is undefined beyond 1 and -1 (as arcsines are), and the entry is there or beyond."""
    points = [primal.tensor for primal in step.operands]
    moved, inside = points[position].clone().reshape(-1), points[position].clone().reshape(-1)
    if abs(float(moved[entry])) < 1 - TO_ONE:
        return False
    moved[entry], inside[entry] = 1 + TO_ONE, 1 - TO_ONE
    bad = []
    for values in (moved, inside):
        points[position] = values.reshape(points[position].shape)
        bad.append(_undefined(step, points))
    return bad[0] > bad[1]


def _grows_exponentially(step: Step, position: int, entry: int, end: float) -> bool:
    """Whether a result grows up to there by equal factors over equal ways, as an exponential's does and no power's."""
    points = [primal.tensor for primal in step.operands]
    values = []
    for part in (1 / 2, 3 / 4, 1):
        moved = points[position].clone().reshape(-1)
        moved[entry] = part * end
        try:
            values.append(step.again([*points[:position], moved.reshape(points[position].shape), *points[position + 1 :]])[0])
        except Exception:  # each operation has its own
            return False
    half, further, whole = (y.detach().abs().double().reshape(-1) for y in values)
    first, second = (further / half).log(), (whole / further).log()
    return bool(((first > 0) & (second > EXPONENTIALLY * first) & whole.isfinite()).any())


def _undefined(step: Step, points: Sequence[Tensor]) -> float:
    """How many NaNs a step gives at other operands; infinitely many where it refuses them."""
    try:
        return sum(int(y.isnan().sum()) for y in step.again(points))
    except Exception:  # each operation has its own
        return inf


FAR_OUT = 1e6
"""Operands beyond this overflow of themselves, not by an exponential."""

EXPONENTIALLY = 0.85
"""The part of its growth, from a half to three quarters of the way, that a result has at least in the rest: 0.71 of a power."""

TO_ONE = 1e-3
"""So near to 1 counts as at 1."""


def bounds(dtype: torch.dtype) -> tuple[str, str]:
    """A power of ten next to the dtype's rounding, and a number whose exponential is still far from its largest."""
    info = torch.finfo(dtype)
    return f"1e{floor(log10(info.eps))}", str(floor(log(info.max) / 2))


def _is_term(node: ast.expr) -> bool:
    return isinstance(node, (*ATOMS, ast.UnaryOp)) or (isinstance(node, ast.BinOp) and isinstance(node.op, ARITHMETIC))


@dataclass(frozen=True)
class Mask:
    """A step that drops some entries of what it reads: the argument that says which, and how.

    `kept` says whether an entry is kept where the argument is true (not zero).
    """

    argument: int
    kept: bool
    is_condition: bool


def mask_of(step: Step, positions: Sequence[int]) -> Mask | None:
    """How a `where`, a `masked_fill` or a product masks what it reads at these positions; None for other steps."""
    kind, name = step.equation.kind, step.equation.word.rstrip("_")
    arguments = {step.arguments[position] for position in positions}
    if name == "where":
        taken: Mapping[int | str, bool] = {1 if kind == "call" else 0: True, 2: False, "input": True, "other": False}
        found = {taken[argument] for argument in arguments if argument in taken}
        return Mask(0 if kind == "call" else 1, found.pop(), True) if len(found) == 1 else None
    if name == "masked_fill" and arguments == {0}:
        return Mask(1, False, True)
    if name == "mul" and len(arguments) == 1 and arguments <= {0, 1}:
        other = 1 - int(next(iter(arguments)))
        gates = [not p.active for p, argument in zip(step.operands, step.arguments, strict=True) if argument == other]
        return Mask(other, True, False) if gates and all(gates) else None
    return None


def _masks(traced: Traced, index: int) -> Iterator[tuple[str, bool]]:
    """(condition, whether entries are kept where it holds) of each mask behind a step."""
    for step, mask in masks_behind(traced, index):
        place = operand_places(traced.program.source, step).get(mask.argument)
        if place is not None:
            text = traced.program.text(place.span)
            yield (text if mask.is_condition else f"({text}) != 0"), mask.kept


def masks_behind(traced: Traced, index: int) -> Iterator[tuple[Step, Mask]]:
    """The steps that mask what comes of a step."""
    behind = {result.primal.number for result in traced.chain.steps[index].results}
    for step in traced.chain.steps[index + 1 :]:
        read = [position for position, primal in enumerate(step.operands) if primal.number in behind]
        if not read:
            continue
        behind |= {result.primal.number for result in step.results}
        mask = mask_of(step, read)
        if mask is not None:
            yield step, mask
