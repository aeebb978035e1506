"""Operations on each entry by itself: a diagonal, then the broadcast of the operand.

One call of the node with a cotangent of ones gives the diagonal to every operand at once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap, dense, diagonal
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import detect
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, broadcast_labels

NAMES = """
Abs Acos Acosh Addcdiv Addcmul Angle Asin Asinh Atan2 Atan Atanh Ceil Celu Clamp ClampMax ClampMin
ConjPhysical Conj Copysign Cos Cosh Deg2Rad Digamma Div Elu Erf Erfc Erfinv Exp2 Exp Expm1 Floor Fmax Fmin
Fmod Frac Frexp Gelu Hardshrink Hardsigmoid Hardswish Hardtanh Hypot I0 Igamma Igammac Ldexp LeakyRelu Lerp
Lgamma Log10 Log1P Log2 Log Logaddexp2 Logaddexp Logit LogSigmoid Maximum Minimum Mish Mvlgamma NanToNum
Nextafter Polygamma Pow PreluKernel Rad2Deg Reciprocal Relu Remainder Round Rsqrt Sgn Sigmoid Sign Silu Sinc
Sin Sinh Softplus Softshrink SpecialEntr SpecialErfcx SpecialI0E SpecialI1 SpecialI1E SpecialLogNdtr
SpecialNdtri SpecialXlog1Py SpecialZeta Sqrt Tan Tanh Threshold Trunc Where Xlogy NativeDropout FusedDropout
RreluWithNoise Tril Triu GeluBackward TanhBackward SigmoidBackward ThresholdBackward
LeakyReluBackward EluBackward SoftplusBackward HardtanhBackward HardswishBackward LogSigmoidBackward
SoftshrinkBackward HardshrinkBackward
"""


def elementwise(op: Op) -> Locals:
    """The diagonal by one pull-back of ones."""
    pulled = op.pull(op.ones())
    return [
        None if shape is None else () if grad is None else (_diagonal(op, shape, grad),)
        for shape, grad in zip(op.shapes, pulled, strict=True)
    ]


STEPS = ("Sign", "Sgn", "Angle", "Round", "Floor", "Ceil", "Trunc")
"""Flat wherever they have a derivative."""

DRAWS = ("Bernoulli", "Cauchy", "Exponential", "Geometric", "LogNormal", "Normal", "Poisson", "Random", "Uniform")
"""Random numbers: PyTorch's derivative of a draw by what it is drawn by, or written over, is zero."""


def step(op: Op) -> Locals:
    """Nothing, at any point."""
    return [None if shape is None else () for shape in op.shapes]


def _diagonal(op: Op, shape: Shape, pulled: Tensor) -> KroneckerMap:
    if tuple(pulled.shape) != op.shape:
        raise NoRuleError("pulled-back ones that are already summed")
    return scaled(op, shape, pulled)


def scaled(op: Op, shape: Shape, values: Tensor) -> KroneckerMap:
    """Each entry of an operand of `shape`, broadcast to the output, times `values` (broadcast likewise)."""
    if shape == op.shape and tuple(values.shape) == op.shape:
        return diagonal(op.shape, shape, values, op.like)
    if values.dim() > len(op.shape) or not _fits(tuple(values.shape), op.shape):
        raise NoRuleError("the other operand has a shape of its own")
    labels = tuple(range(len(op.shape)))
    sizes = dict(enumerate(op.shape))
    own = broadcast_labels(op.shape, tuple(values.shape))
    factor = Factor(values.reshape([op.shape[k] for k in own]), own)
    return op.regular(shape, labels, broadcast_labels(op.shape, shape), sizes, [factor])


def _fits(shape: Shape, out_shape: Shape) -> bool:
    skip = len(out_shape) - len(shape)
    return skip >= 0 and all(a in (1, b) for a, b in zip(shape, out_shape[skip:], strict=True))


def constant(op: Op, shape: Shape, scale: float) -> KroneckerMap:
    """Each entry of an operand, broadcast to the output, times a number."""
    if shape == op.shape:
        return op.reshaped(shape, scale)
    labels = tuple(range(len(op.shape)))
    return op.regular(shape, labels, broadcast_labels(op.shape, shape), dict(enumerate(op.shape)), (), scale)


def add(op: Op) -> Locals:
    """x + alpha·y."""
    alpha = float(op.saved("alpha", 1))
    return op.pieces(lambda x: constant(op, x, 1.0), lambda y: constant(op, y, alpha))


def sub(op: Op) -> Locals:
    """x − alpha·y."""
    alpha = float(op.saved("alpha", 1))
    return op.pieces(lambda x: constant(op, x, 1.0), lambda y: constant(op, y, -alpha))


def rsub(op: Op) -> Locals:
    """y − alpha·x."""
    alpha = float(op.saved("alpha", 1))
    return op.pieces(lambda x: constant(op, x, -alpha), lambda y: constant(op, y, 1.0))


def neg(op: Op) -> Locals:
    """−x."""
    return op.pieces(lambda shape: constant(op, shape, -1.0))


def mul(op: Op) -> Locals:
    """x·y: each operand's diagonal is the other, in the shape that it came in."""
    result: list[tuple[KroneckerMap, ...] | None] = []
    for shape, other in zip(op.shapes, ("other", "self"), strict=False):
        if shape is None:
            result.append(None)
            continue
        value = op.saved(other)
        if value is None or isinstance(value, complex):
            raise NoRuleError("a saved operand is missing")
        if isinstance(value, Tensor) and value.dim():
            result.append((scaled(op, shape, value.detach()),))
        else:
            result.append((constant(op, shape, float(value)),))
    return result


def div(op: Op) -> Locals:
    """x / y; by a single number it is that of a multiplication."""
    if op.saved("rounding_mode"):
        return step(op)
    other = op.saved("other")
    if op.shapes[1:] not in ((), (None,)) or (isinstance(other, Tensor) and other.dim()):
        return elementwise(op)
    return op.pieces(lambda shape: constant(op, shape, 1.0 / float(other))) if other else elementwise(op)


def masked_fill(op: Op) -> Locals:
    """x where the mask is false, one value where it is true."""
    mask = op.saved("mask")
    return op.pieces(
        lambda shape: scaled(op, shape, (~mask).to(op.like.dtype)), lambda value: scaled(op, value, mask.to(op.like.dtype))
    )


LOSS_NAMES = frozenset(
    {"MseLoss", "SmoothL1Loss", "HuberLoss", "SoftMarginLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits"}
)
"""Element-wise losses, which can sum or average what they give."""


def loss(op: Op) -> Locals:
    """Each entry's loss by itself, or their sum or mean: one row."""
    if op.saved("reduction") == 0:
        return elementwise(op)
    return op.of_ones(partial(_row, op))


def _row(op: Op, shape: Shape, pulled: Tensor) -> KroneckerMap:
    if tuple(pulled.shape) != shape or op.shape:
        raise NoRuleError("a loss that is not a single number")
    return dense(op.shape, shape, pulled.reshape(1, -1), op.like)


def loss_slope(op: Op) -> Locals:
    """The derivative of such a loss: a diagonal to each operand of its own shape, with zeros where it bends elsewhere alone."""
    pulled = op.pull(op.ones())
    weights = detect(replace(op, shapes=tuple([None if shape == op.shape else shape for shape in op.shapes])))
    return [
        found if shape is None or shape != op.shape else () if grad is None else (_diagonal(op, shape, grad),)
        for shape, grad, found in zip(op.shapes, pulled, weights, strict=True)
    ]


RULES: dict[str, Rule] = {
    **{f"{name}Backward": loss_slope for name in LOSS_NAMES},
    **dict.fromkeys(LOSS_NAMES, loss),
    **dict.fromkeys(NAMES.split(), elementwise),
    **dict.fromkeys((*STEPS, *DRAWS), step),
    "Add": add,
    "Sub": sub,
    "Rsub": rsub,
    "Neg": neg,
    "Mul": mul,
    "Div": div,
    "MaskedFill": masked_fill,
}
