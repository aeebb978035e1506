"""What is asked of each model, and by what torch's transforms answer the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import zoo

FILE = str(Path(zoo.__file__))
"""What is imported."""


@dataclass(frozen=True)
class Case:
    """A question about a model.

    Attributes:
        name: of the model, as people call it.
        expression: as the command line has it.
        inputs: by name; all are double.
        structure: by what is differentiated the kind of the Jacobian.
        plain: a function of what is differentiated, which torch's transforms can go through.
        function: what Python is asked about: a function of the inputs.
        samples: the best way by hand where samples are independent: a function of one sample, its inputs by axis 0.
    """

    name: str
    expression: str
    inputs: Mapping[str, Tensor]
    structure: Mapping[str, str]
    plain: Callable[..., Tensor]
    function: Callable[..., Any]
    samples: Callable[..., Tensor] | None = None

    @property
    def values(self) -> tuple[Tensor, ...]:
        """What is differentiated."""
        return tuple(self.inputs[name] if name in self.inputs else parameter(name) for name in self.structure)


def parameter(name: str) -> Tensor:
    """A parameter of the models by its dotted name."""
    root, _, path = name.partition(".")
    return getattr(zoo, root).get_parameter(path).detach()


def with_parameters(name: str, call: Callable[..., Tensor], *names: str) -> Callable[..., Tensor]:
    """A function of some parameters of the model `name`, by what the call gives then."""

    def function(*values: Tensor) -> Tensor:
        given = {key.partition(".")[2]: value for key, value in zip(names, values, strict=True)}
        module = getattr(zoo, name)
        kept = {key: module.get_parameter(key) for key in given}
        return call(lambda *x: torch.func.functional_call(module, {**kept, **given}, x))

    return function


def make_cases() -> list[Case]:
    """The table."""
    draw = torch.Generator().manual_seed(1)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    picture, embedded, sequence, batch = r(2, 3, 16, 16), r(6, 8), r(5, 2, 3), r(4, 3)
    place, time, state, cells = r(20), r(20), r(4, 3), r(200)
    pictures, many, sentences = r(16, 3, 8, 8), r(2000), r(16, 10, 4)
    real, fake, four, six = r(5, 3), r(5, 3), r(5, 4), r(6)
    h, z, noise = r(zoo.NODES, 3), r(10), r(2)
    cameras, points, words = 0.1 * r(zoo.CAMERAS, 6), r(zoo.POINTS, 3), r(2, 5, 4)
    weight = "dynamics.net.0.weight"
    head = "resnet18.13.weight"

    def simple(name: str, call: str, x: Tensor, kind: str, *, samples: bool = False, **more: Any) -> Case:
        function = getattr(zoo, call)
        plain = more.get("plain", function)
        one = (lambda s: plain(s[None])[0]) if samples else None
        return Case(name, f"{call}(x)", {"x": x}, {"x": kind}, plain, function, one)

    def solved(wanted: str, call: str) -> Case:
        through = with_parameters("dynamics", lambda f: euler(f, state), weight)
        return Case(wanted, f"{call}(y)", {"y": state}, {weight: "dense"}, through, getattr(zoo, call))

    def euler(f: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        for _ in range(zoo.STEPS):
            a = f(y)
            b = f(y + zoo.H / 2 * a)
            c = f(y + zoo.H / 2 * b)
            y = y + zoo.H / 6 * (a + 2 * b + 2 * c + f(y + zoo.H * c))
        return y

    return [
        simple("ResNet-18", "resnet18", picture, "block_diagonal", samples=True),
        Case(
            "ResNet-18, to its head", "resnet18(x)", {"x": picture}, {head: "strided_blocks"},
            with_parameters("resnet18", lambda f: f(picture), head), zoo.resnet18,
        ),
        simple("ViT", "vit", picture[:, :, :8, :8].contiguous(), "block_diagonal", samples=True),
        simple("ViT, 16 pictures", "vit", pictures, "block_diagonal", samples=True),
        simple("GPT", "gpt", embedded, "block_triangular"),
        simple("GPT, two at a time", "gpt", torch.stack([embedded, embedded.flip(0)]), "block_diagonal", samples=True),
        simple("LSTM", "lstm", sequence, "strided_blocks"),
        simple("GRU", "gru", sequence, "strided_blocks"),
        simple("batch norm in training", "normed", batch, "dense", plain=zoo.normed_plain),
        Case(
            "PINN", "pinn(x, t)", {"x": place, "t": time}, {"x": "diagonal", "t": "diagonal"}, zoo.pinn_plain, zoo.pinn,
            lambda x, t: zoo.pinn_plain(x[None], t[None])[0],
        ),
        Case(
            "WGAN-GP", "penalty(real, fake)", {"real": real, "fake": fake}, {"real": "dense", "fake": "dense"},
            zoo.penalty_plain, zoo.penalty,
        ),
        solved("neural ODE, to a weight", "ode"),
        solved("neural ODE by an adjoint, to a weight", "ode_adjoint"),
        simple("neural ODE by an adjoint", "ode_adjoint", state, "block_diagonal", samples=True, plain=zoo.ode),
        simple("coupling flow", "coupling", four, "block_diagonal", samples=True),
        simple("masked autoregressive flow", "autoregressive", six, "dense"),
        simple("graph network", "messages", h, "sparse"),
        Case(
            "Kalman filter", "kalman(z, noise)", {"z": z, "noise": noise}, {"z": "dense", "noise": "dense"},
            zoo.kalman, zoo.kalman,
        ),
        Case(
            "bundle adjustment", "reprojected(cameras, points)", {"cameras": cameras, "points": points},
            {"cameras": "sparse", "points": "sparse"}, zoo.reprojected, zoo.reprojected,
        ),
        simple("finite volumes", "volumes", cells, "banded"),
        simple("finite volumes, 2,000 cells", "volumes", many, "banded"),
        simple("straight-through, by detach", "straight", batch, "identity"),
        simple("straight-through, by a Function", "quantized", batch, "block_diagonal", samples=True, plain=zoo.quantized_plain),
        simple("checkpointed", "stored", batch, "block_diagonal", samples=True, plain=zoo.small),
        simple("compiled", "compiled", batch, "block_diagonal", samples=True, plain=zoo.small),
        simple("MultiheadAttention", "attended", words, "block_diagonal", samples=True, plain=zoo.attended_plain),
        simple("attention, 16 sentences", "attended", sentences, "block_diagonal", samples=True, plain=zoo.attended_plain),
        simple("an object of outputs", "logits", batch, "block_diagonal", samples=True, plain=zoo.small),
    ]  # fmt: skip
