"""Which rule makes the local map of which node."""

from __future__ import annotations

from jvpcli.jacobians.local import (
    convolution,
    detect,
    elementwise,
    index,
    matrices,
    movement,
    normalise,
    product,
    reduce,
    windows,
)
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.terms import UnsupportedError

RULES: dict[str, Rule] = {
    **detect.RULES,
    **elementwise.RULES,
    **movement.RULES,
    **reduce.RULES,
    **index.RULES,
    **product.RULES,
    **convolution.RULES,
    **windows.RULES,
    **normalise.RULES,
    **matrices.RULES,
}


DOUBTFUL = frozenset(("Cdist", "CtcLoss", "MkldnnRnnLayer"))
"""Operations that are not trusted with many cotangents together: the first gives zeros, the others are not known to be right."""


def is_trusted(name: str) -> bool:
    """Whether an operation is known to give for many cotangents together what it gives for each."""
    return name in RULES and name not in DOUBTFUL


def stated_maps(op: Op) -> Locals | None:
    """What a rule states; None where there is none, or where it does not cover this use."""
    rule = RULES.get(operation(op.node))
    if rule is None:
        return None
    try:
        return rule(op)
    except (NoRuleError, AttributeError, TypeError, ValueError, LookupError, RuntimeError):
        return None  # saved under other names than expected, say: calling it tells


def local_maps(op: Op) -> Locals:
    """The pieces of ∂output/∂operand for every operand.

    Raises:
        UnsupportedError: a tensor without a known shape, or a local Jacobian that is too large to find out.
        TooLargeError: over the workspace's limit.
    """
    shapes = op.shapes
    if 0 in op.shape:
        return [None if shape is None else () for shape in shapes]
    found = stated_maps(op)
    if found is not None:
        return found
    try:
        return detect.detect(op)
    except (RuntimeError, TypeError, ValueError) as error:  # a sparse tensor, an extension's own conventions
        raise UnsupportedError(f"{op.node.name()}: {str(error).splitlines()[0]}") from error
