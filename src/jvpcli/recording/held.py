"""What `.grad` of leaves holds before a call of backward adds to it, as one more output of what is differentiated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.nodes import node_of
from jvpcli.recording.recorder import Recorder
from jvpcli.recording.tape import free_name


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
