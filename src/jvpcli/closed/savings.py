"""What saves memory or time where torch runs elsewhere, as a program has it here: the same numbers, by the plain way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jvpcli.closed.words import Namespace


def savings() -> dict[str, Namespace]:
    """The namespaces, by their names in torch."""
    on_cpu = {"autocast": autocast, "GradScaler": GradScaler}
    elsewhere = {"autocast": lambda *_, **__: autocast("cuda"), "GradScaler": lambda *_, **__: GradScaler(enabled=False)}
    return {
        "checkpoint": Namespace("torch.utils.checkpoint", {"checkpoint": checkpoint, "checkpoint_sequential": in_a_row}),
        "amp": Namespace("torch.amp", on_cpu),
        "cpu": Namespace("torch.cpu.amp", {"autocast": lambda *a, **k: autocast("cpu", *a, **k), "GradScaler": GradScaler}),
        "cuda": Namespace("torch.cuda.amp", elsewhere),
    }


def checkpoint(function: Callable[..., Any], *arguments: Any, use_reentrant: Any = True, **keywords: Any) -> Any:
    """`checkpoint(f, x)`: f(x), whose steps are kept; the reentrant way has no graph where no argument has one."""
    own = {name: value for name, value in keywords.items() if name not in ("preserve_rng_state", "context_fn", "debug")}
    graph = any(isinstance(x, Tensor) and x.requires_grad for x in arguments)
    with nullcontext() if graph or use_reentrant is False else torch.no_grad():
        return function(*arguments, **own)


def in_a_row(functions: Any, segments: int, given: Any, **options: Any) -> Any:
    """`checkpoint_sequential(functions, segments, x)`, of which the last segment runs plainly."""
    parts = [*functions]
    kept = len(parts) // segments * (segments - 1)
    for place, function in enumerate(parts):
        given = checkpoint(function, given, **options) if place < kept else function(given)
    return given


class autocast:
    """`torch.autocast(device_type, dtype)`: of a device that isn't here it has no effect.

    torch's own keeps what it is to set again for the last time alone that it was entered: each time has one of its own here.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        here, options = device_type == "cpu", {"dtype": dtype, "enabled": bool(enabled), "cache_enabled": cache_enabled}
        self._make: Callable[[], AbstractContextManager[Any]] = partial(torch.autocast, "cpu", **options) if here else nullcontext
        self._entered: list[AbstractContextManager[Any]] = []

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which runs inside: `@torch.autocast("cpu")`."""

        def cast(*arguments: Any, **keywords: Any) -> Any:
            with self:
                return function(*arguments, **keywords)

        return cast

    def __enter__(self) -> None:
        cast = self._make()
        cast.__enter__()
        self._entered.append(cast)

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)


class GradScaler:
    """`torch.amp.GradScaler(…)`: what it multiplies a loss by, it divides the gradients by again before a step."""

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._enabled, self._scale = bool(enabled) and device == "cpu", float(init_scale)
        self._growth, self._backoff, self._interval = float(growth_factor), float(backoff_factor), int(growth_interval)
        self._good = 0
        self._finite: dict[int, bool] = {}

    def scale(self, outputs: Any) -> Any:
        """A loss, or several, times the scale."""
        if isinstance(outputs, (tuple, list)):
            return type(outputs)(map(self.scale, outputs))
        return outputs * self._scale if self._enabled else outputs

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients of an optimizer's parameters by the scale, once between its steps."""
        if not self._enabled or id(optimizer) in self._finite:
            return
        gradients = [x.grad for group in optimizer.param_groups for x in group["params"] if x.grad is not None]
        with torch.no_grad():
            for gradient in gradients:
                gradient.mul_(1 / self._scale)
            self._finite[id(optimizer)] = all(bool(gradient.isfinite().all()) for gradient in gradients)

    def step(self, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        """A step of an optimizer, where its gradients are finite."""
        self.unscale_(optimizer)
        return optimizer.step(*arguments, **keywords) if self._finite.get(id(optimizer), True) else None

    def update(self, new_scale: Any = None) -> None:
        """Another scale, a smaller one after gradients that weren't finite."""
        finite = all(self._finite.values())
        self._good = self._good + 1 if finite else 0
        if not finite:
            self._scale *= self._backoff
        elif self._good == self._interval:
            self._scale, self._good = self._scale * self._growth, 0
        self._scale = self._scale if new_scale is None else float(new_scale)
        self._finite.clear()

    def get_scale(self) -> float:
        """The scale."""
        return self._scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether it has an effect: of the processor's own gradients, where it is asked for."""
        return self._enabled
