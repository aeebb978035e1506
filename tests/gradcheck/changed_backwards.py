"""Functions with a gradient of their own, right or changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function


def with_backward(function: Callable[[Tensor], Tensor], change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, whose backward gives what `change` makes of its gradient."""

    class Changed(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return function(x).clone()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(function(leaf), leaf, g)
            return change(gradient)

    return Changed.apply
