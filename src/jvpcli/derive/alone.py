"""The derivative alone, by the engine: linear maps without a plan or a word to report."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from jvpcli.derive import engine
from jvpcli.derive.linear_map import LinearMap
from jvpcli.derive.terms import UnsupportedError, Workspace


def derive_alone(
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    mode: str,
    memory_limit: int | None,
    work: Workspace | None = None,
    hooked: bool = False,
) -> dict[tuple[str, str], LinearMap]:
    """Every ∂output/∂input as a linear map, of real tensors.

    Args:
        outputs: differentiable outputs with their graph.
        inputs: the differentiated leaves.
        mode: "auto", "forward" or "reverse".
        memory_limit: bytes that computing may take over what the evaluation holds.
        work: the index arrays of an earlier call for the same program at the same shapes.
        hooked: the function has registered hooks.
    """
    leaves = list(inputs.values())
    maps: dict[tuple[str, str], LinearMap] = {}
    for y_name, y in outputs.items():
        try:
            found = engine.compute(y, leaves, mode=mode, memory_limit=memory_limit, work=work, hooked=hooked).maps
        except UnsupportedError:  # complex numbers on the way, say
            from jvpcli.derive.derivatives import pass_by_pass

            maps |= pass_by_pass({y_name: y}, inputs, mode)[0]
            continue
        maps |= {(y_name, x_name): each for x_name, each in zip(inputs, found, strict=True)}
    return maps
