"""Programs and points at which claims are made: pieces that break gradients put together, many functions, torch's operators."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

sys.path += [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "language")]

from operator_samples import CannotBeWrittenError, WrittenSample, differentiable_operators, small_samples, write

from many_functions import FUNCTIONS


@dataclass(frozen=True, eq=False)
class Case:
    """A program and its inputs; and v, where one is given: "implicit" is a call of `backward()` without one."""

    text: str
    inputs: dict[str, Tensor]
    wrt: tuple[str, ...]
    grad_outputs: Tensor | str | None = None


PIECES = [
    "torch.relu({})", "{}.abs()", "torch.round({})", "torch.sign({})", "torch.floor({})", "{}.detach()",
    "{} * {}.detach()", "{}.sum() * {}", "{} * {}.sum().item()", "torch.where({} > 0, {}, -{})",
    "torch.where({} > 0, torch.log({}), 0 * {})", "{}.clamp(-1, 1)", "{}.clamp_min(0)", "{} - {}", "{} * 0", "0 * {} + {}",
    "{} ** 2", "{} ** 3", "{}.pow(0.5)", "torch.sqrt({})", "torch.log({})", "torch.exp({})", "torch.tanh({})",
    "torch.sigmoid({})", "torch.cos({})", "torch.sin({})", "1 / {}", "{} / {}.norm()", "{}.norm()", "{}.softmax(0)",
    "{}.softmax(0).sum()", "torch.log({}.softmax(0))", "{}.cumsum(0)", "{}.cumprod(0)", "{}.max()", "{}.min()",
    "{}.sort().values", "{}.topk(2).values", "{}.median()", "{}.max(0).values", "{}[1:]", "{}[::2]", "{}[0]",
    "{}[torch.tensor([2, 0, 0])]", "{}[{} > 0]", "{}.flip(0)", "{}.roll(1, 0)", "F.pad({}, (1, 1))", "torch.outer({}, {})",
    "torch.outer({}, {}).sum(0)", "{} + 1", "2 * {}", "{} * w", "{} * 1e-6", "{} * 1e6", "{} @ W",
    "torch.tanh({} @ W) @ V", "W.T @ {}", "torch.atan2({}, w)", "torch.atan2(w, {})", "torch.lerp({}, w, 0.3)",
    "torch.lerp({}, {}, w)", "torch.addcmul({}, w, {})", "torch.maximum({}, w)", "torch.hypot({}, w)",
    "torch.fmod({}, 1.5)", "{} % 2", "{} // 2", "torch.remainder({}, w)", "F.relu6({})", "F.hardtanh({})",
    "F.softplus({})", "F.gelu({})", "F.elu({})", "F.dropout({}, 0.5)", "F.mse_loss({}, w)", "F.l1_loss({}, w)",
    "F.smooth_l1_loss({}, w)", "torch.sgn({})", "torch.heaviside({}, w)", "{}.long() * w", "({} > 0) * {}",
    "torch.nan_to_num({})", "{}.masked_fill({} > 0, 0.0)", "torch.tril(torch.outer({}, {}))", "torch.diag({})",
    "torch.diag({}) @ {}", "{}.prod()", "{}.var()", "{}.mean()", "{}.std()", "F.layer_norm({}, {}.shape)",
    "torch.stack([{}, w])", "torch.cat([{}, w])", "{}.clone().mul_(2)", "{}.clone().zero_() + {}",
    "torch.linalg.eigvalsh(torch.outer({}, {}))", "torch.linalg.svdvals(torch.outer({}, {}))",
    "torch.linalg.eigh(torch.diag({}))[0]", "torch.linalg.det(torch.outer({}, {}))",
    "torch.linalg.inv(torch.outer({}, {}))", "{}.argmax() * {}", "{}.numel() * {}", "{}.new_ones(4) * {}",
    "torch.zeros_like({}) * {}", "torch.ones_like({})", "{}.exp().log()", "{}.logsumexp(0)",
    "torch.logsumexp({} * 1e3, 0)", "torch.acos({})", "torch.asin({}.clamp(-1, 1))", "({}.view(2, 2) @ M).flatten()",
    "{}.view(2, 2).T.flatten()", "{}.repeat(2)", "{}.unfold(0, 2, 1)", "F.conv1d({}[None, None], w[None, None, :2])[0, 0]",
    "F.max_pool1d({}[None], 2)[0]", "F.avg_pool1d({}[None], 2)[0]", "torch.fft.rfft({}).abs()", "torch.fft.fft({})",
    "{}.bernoulli(0.5)", "torch.bernoulli({}.sigmoid())", "torch.normal({}, 1.)", "sum({}[i] * i for i in range(3))",
    "torch.stack([{}[i] ** i for i in range(4)])",
    "F.batch_norm({}.view(2, 2), None, None, training=True)", "torch.complex({}, w)", "{} * 1j",
    "torch.view_as_real({} * 1j)", "({} * 1j).abs()", "F.one_hot({}.argmax(), 4) * {}",
]  # fmt: skip
"""With holes for vectors of four; many go well only with some, and the rest are errors, which claim nothing here."""

STATEMENTS = [
    "{x}", "a = {x}; a * a.detach()", "a = {x}; b = a * 2; a - b", "a = {x}; a[0] = 5.; a", "a = ({x}).clone(); a[1:] = 0; a",
    "a = {x}; (a.sum(), {z})", "[{x}, w]", "a = {x}; a if a.sum() > 0 else -a", "({x}).sum()", "({x}) * ({z})", "({x}) + ({z})",
]  # fmt: skip

NUMBERS = [0.0, 0.0, 1.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, -0.25, 1.3, -0.7, 100.0, 1e-8, -1e4, 0.1, 20.0]
"""Where functions bend, end, flatten out or tie, among ordinary numbers."""


def composed(random: Random) -> Case:
    """A program of some pieces at a point of its own."""
    text = random.choice(STATEMENTS if random.random() < 0.4 else STATEMENTS[:1])
    text = text.replace("{x}", _expression(random)).replace("{z}", _expression(random))
    dtype = random.choice((torch.float64, torch.float64, torch.float32))
    shapes = {"x": (4,), "w": (4,), "W": (4, 4), "V": (4, 4), "M": (2, 2)}
    inputs = {name: point(shape, random).to(dtype) for name, shape in shapes.items() if _reads(text, name)}
    return Case(text, inputs, tuple(inputs))


MISTAKES = [
    "a = {x}; a += 1; a", "a = {x}; b = a ** 2; a.mul_(2); b", "a = {x}; b = a.sin(); a[0] = 2.; b", "x += 1; {x}",
    "a = {x}; b = a * w; w.zero_(); b", "({x}).long()", "({x}) > 0", "({x}).argmax()", "({x}).detach()", "({x}).data",
    "torch.tensor(({x}).tolist())", "torch.autograd.grad({x}, x)", "torch.autograd.grad(({x}).sum(), x, torch.ones(3))",
    "a = ({x}) ** 2; g, = torch.autograd.grad(a.sum(), x); h, = torch.autograd.grad(a.sum(), x); h",
    "torch.autograd.grad(({x}).sum(), x.clone())", "g, = torch.autograd.grad((({x}) ** 2).sum(), x); g",
    "({x}) @ W[:3]", "({x}).view(3)", "({x})[5]", "torch.cat([{x}, W])", "a = ({x}).exp(); a.add_(1); a * 2",
    "torch.stack([{x}, w[:2]])", "({x}).sum(3)", "({x}).reshape(3, -1)", "a, b = {x}; a * b",
]  # fmt: skip
"""Programs that are mistaken in PyTorch, or nearly so: changed in place, without a graph, used up, of shapes that do not fit."""


def mistaken(random: Random) -> Case:
    """A program with a mistake, whole numbers for an input, or a v that may be of another shape than its output."""
    text = random.choice(MISTAKES if random.random() < 0.6 else STATEMENTS[:1]).replace("{x}", _expression(random))
    shapes = {"x": (4,), "w": (4,), "W": (4, 4), "V": (4, 4), "M": (2, 2)}
    inputs = {name: point(shape, random) for name, shape in shapes.items() if _reads(text, name)}
    if random.random() < 0.1:
        inputs = {name: x.nan_to_num().long() for name, x in inputs.items()}
    shape = random.choice([None, None, (), (1,), (3,), (4,), (4, 4), (1, 4), (2, 2), (0,), "implicit"])
    given = torch.ones(shape, dtype=torch.float64) if isinstance(shape, tuple) else shape
    return Case(text, inputs, tuple(inputs), given)


def _expression(random: Random) -> str:
    """One to three pieces, one within the other."""
    text = "x"
    for _ in range(random.choice((1, 2, 2, 3))):
        piece, inner = random.choice(PIECES).split("{}"), text
        first, *rest = piece
        text = first + "".join(_filling(inner, number, random) + part for number, part in enumerate(rest))
    return text


def _filling(inner: str, number: int, random: Random) -> str:
    """What stands in a hole: in the first always, and mostly in the others, the text so far."""
    if number and random.random() < 0.2:
        return random.choice(("x", "w"))
    return inner if inner.isidentifier() else f"({inner})"


def _reads(text: str, name: str) -> bool:
    import re

    return re.search(rf"(?<![\w.]){name}(?!\w)", text) is not None


def point(shape: tuple[int, ...], random: Random) -> Tensor:
    """Numbers at which things happen; random ones; or all the same."""
    kind = random.random()
    if kind < 0.15:
        return torch.full(shape, random.choice(NUMBERS), dtype=torch.float64)
    count = torch.Size(shape).numel()
    draw = (lambda: random.choice(NUMBERS)) if kind < 0.65 else (lambda: random.gauss(0, 1))
    return torch.tensor([draw() for _ in range(count)], dtype=torch.float64).reshape(shape)


def of_many_functions(random: Random) -> Case:
    """One of the many small functions, at a point where something may happen."""
    text, shapes = random.choice(FUNCTIONS)
    inputs = {name: point(shape, random) for name, shape in zip("xwb", shapes, strict=False)}
    return Case(text, inputs, tuple(inputs))


def of_operators(random: Random) -> Case:
    """A sample of torch's operator database: its own numbers, or zeros, ties and whole numbers in their places."""
    samples = _samples(random.randrange(len(_operators())))
    if not samples:
        return of_many_functions(random)
    written = random.choice(samples)
    inputs = {name: x.detach().clone() for name, x in written.inputs.items()}
    if random.random() < 0.5:
        for name in written.wrt:
            inputs[name] = _special(inputs[name], random)
    return Case(written.expression, inputs, written.wrt)


def _special(x: Tensor, random: Random) -> Tensor:
    choice = random.choice((torch.zeros_like, torch.ones_like, torch.round, lambda t: -t, lambda t: t * 100))
    try:
        return choice(x)
    except RuntimeError:  # complex numbers are not rounded
        return torch.zeros_like(x)


@lru_cache(maxsize=1)
def _operators() -> list[Any]:
    return differentiable_operators()


@cache
def _samples(number: int) -> tuple[WrittenSample, ...]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in small_samples(_operators()[number], 4, elements=40):
            try:
                found.append(write(_operators()[number], sample))
            except CannotBeWrittenError:
                continue
    return tuple(sample for sample in found if sample.wrt)


def cases(seed: int) -> Iterator[Case]:
    """Cases without end, the same ones for a seed."""
    random = Random(seed)
    while True:
        yield random.choices((composed, of_many_functions, of_operators, mistaken), (6, 1, 3, 2))[0](random)
