"""What the names and parameters of operations tell of their local maps: how wide they are, and which axes they carry along.

Most operations treat the samples of a batch each by itself: output entries at place i of the leading axes depend on the
operand's entries at place i alone.
"""

from __future__ import annotations

from contextlib import suppress
from math import ceil, prod

import torch

from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import detect, elementwise, index, matrices, movement, product, reduce, windows
from jvpcli.jacobians.local.node import Node, wrapped

ONE_TO_ONE = frozenset(
    (*elementwise.RULES, *(movement.RULES.keys() - movement.BACK), *index.RULES, *detect.ONE_TO_ONE_NAMES.split(), "CopySlices")
)
SEGMENTS = frozenset({"Sum", "Mean", *reduce.REDUCTION_NAMES.split(), "Amax", "Amin", "Max", "Min", "Median"})
ALONG = frozenset(
    {"Softmax", "SafeSoftmax", "LogSoftmax", "SoftmaxBackwardData", "LogSoftmaxBackwardData"}
    | {"Cumsum", "Cumprod", "Logcumsumexp", "LinalgCross"}
)
"""Operations along one axis, the others one by one."""

FACTORS = {
    **dict.fromkeys(("Mm", "Bmm", "Mv", "Dot"), (0, 1)),
    **dict.fromkeys(("Addmm", "Baddbmm", "Addmv", "SparseAddmm"), (1, 2)),
}
"""Products, and which of their operands are multiplied."""

MATRIX_NAMES = ("LinalgInvEx", "LinalgSolveEx", "LinalgSolveTriangular", *product.SQUARE_BLOCKS_NAMES.split())
MATRICES = frozenset((*matrices.RULES, *MATRIX_NAMES))
"""Functions of matrices: those of a batch stay apart."""

MOVING = frozenset(movement._RESHAPE_NAMES.split())
SPREAD = elementwise.RULES.keys() - elementwise.LOSS_NAMES | {"Expand"}
"""Element by element, where an operand may be broadcast."""

NO_WIDER = SPREAD | MOVING | ALONG | {"Stack", "Cat", "Permute", "Transpose", "T", "Roll", "Flip"}
"""Operations of which no operand has more entries than the output, unless that has none."""

ARRAYS = frozenset(
    ("Mm", "Bmm", "Mv", "Addmm", "Baddbmm", "Addmv", "Convolution", "Stack", "Cat", "Unsqueeze", "Slice", "Split", "Unbind")
)
"""Operations that never give a single number."""

ONE_OUTPUT = FACTORS.keys() | {"Linear", "Convolution", "Sum", "Mean", "Select", "Slice"}
"""Operations with one output."""

SPATIAL = {
    **windows.NAMES,
    **dict.fromkeys(("MaxPool2DWithIndices", "AdaptiveMaxPool2D", "FractionalMaxPool2D"), 2),
    **dict.fromkeys(("MaxPool3DWithIndices", "AdaptiveMaxPool3D", "FractionalMaxPool3D"), 3),
    **{name: int(name[-2]) for name in ONE_TO_ONE if name[-1] == "D" and name[-2] in "123"},
}
"""Operations on so many last axes, the others one by one."""

CUT = frozenset(("Slice", "Select", "Split", "SplitWithSizes", "UnsafeSplit", "UnsafeSplitWithSizes", "Unbind"))
"""Pieces along one axis."""

SINGLE_NAMES = """
Cummax Cummin EmbeddingBag LinalgHouseholderProduct MultiMarginLoss MultilabelMarginLoss ScaledDotProductFlashAttentionForCpu
SegmentReduce SoftMarginLoss Take Trilinear Unfold UnfoldBackward UpsampleNearestExact1D UpsampleNearestExact2D
UpsampleNearestExact3D
"""
SINGLE = frozenset(SINGLE_NAMES.split())
"""Operations that take cotangents one by one, when many are given together."""

FOURIER = ("FftR2C", "FftC2R", "FftC2C")
"""Fourier transforms, along the axes that they name."""

CARRYING = {"Mm": (0,), "Addmm": (1,), "Linear": (0,), "Mv": (0,), "Addmv": (1,), "Bmm": (0, 1), "Baddbmm": (0, 1, 2)}
"""The operands of which a product keeps the leading axes."""

def carried(node: Node, name: str, operand: int, shape: Shape, out_shape: Shape) -> int:
    """How many places the leading axes have that an operation carries from the operand to its output; 1: none.

    Args:
        node, name, operand: the operation, what it is called, and which of its operands.
        shape, out_shape: of the operand and of the output.
    """
    if name in MOVING:
        return prod(shape)
    if name in SPREAD and (shape == out_shape or len(shape) != len(out_shape)):
        return prod(shape) if shape == out_shape else 1
    alike = 0
    while alike < min(len(shape), len(out_shape)) and shape[alike] == out_shape[alike]:
        alike += 1
    if name in SPREAD:
        return prod(shape[:alike])
    return prod(shape[: min(alike, _leading(node, name, operand, shape))])


def followed(node: Node, name: str, shape: Shape, out_shape: Shape, kept: int, outer: int, apart: int) -> int:
    """Where the samples of a batch lie in an operand, if they stay apart; 0: they don't.

    Samples lie in a tensor as the middle one of three axes (outer, apart, inner) that it can be viewed with.

    Args:
        node, name: the operation, and what it is called.
        shape, out_shape: of the operand and of the output.
        kept: how many leading places are carried from the one to the other, as `carried` tells.
        outer, apart: where they lie in the output.

    Returns:
        outer for the operand.
    """
    if kept % (outer * apart) == 0:
        return outer
    before = [prod(out_shape[:axis]) for axis in range(len(out_shape))]
    axis = next((k for k, size in enumerate(out_shape) if before[k] == outer and size % apart == 0), None)
    if axis is None or name not in ("Transpose", "Permute", "Select"):
        return 0
    dims = len(shape)
    if name == "Select":
        axis += axis >= wrapped(node._saved_dim, dims)
    elif name == "Permute":
        axis = wrapped(node._saved_dims[axis], dims)
    else:
        pair = wrapped(node._saved_dim0, dims), wrapped(node._saved_dim1, dims)
        axis = pair[1 - pair.index(axis)] if axis in pair else axis
    return prod(shape[:axis])


def _leading(node: Node, name: str, operand: int, shape: Shape) -> int:
    """How many leading axes an operation that does more than copying or scaling leaves to themselves."""
    dims = len(shape)
    if name == "Convolution":
        return 1 if operand == 0 else 0
    if name in SPATIAL:
        return max(0, dims - SPATIAL[name])
    if name in ("ViewAsReal", "ViewAsComplex"):
        return dims
    if name == "ConstantPadNd":
        return dims - len(node._saved_pad) // 2
    if name in CARRYING:
        if operand not in CARRYING[name]:
            return 0
        return 1 if "bmm" in name.lower() else dims - 1
    if name in MATRICES:
        return max(0, dims - 2)
    if name == "NativeLayerNorm":
        return dims - len(node._saved_normalized_shape) if operand == 0 else 0
    if name == "NativeGroupNorm":
        return 1 if operand == 0 else 0
    if name.startswith("ScaledDotProduct"):
        return dims - 2 if operand < 3 else 0
    if name in ("NativeBatchNorm", "NativeBatchNormLegit"):
        return 1 if operand == 0 and not node._saved_training else 0
    if name == "Transpose":
        return min(wrapped(node._saved_dim0, dims), wrapped(node._saved_dim1, dims))
    if name == "Permute":
        order = [wrapped(d, dims) for d in node._saved_dims]
        return next((place for place, axis in enumerate(order) if place != axis), dims)
    named = getattr(node, "_saved_dim", None)
    if name == "Stack":
        return wrapped(node._saved_dim, dims + 1)
    if name in CUT or name in ALONG or name in ("Cat", "Sum", "Mean", "Logsumexp", "Amax", "Amin", "Max", "Min", *FOURIER):
        axes = (named,) if isinstance(named, int) else named or (0,)
        return min(wrapped(d, dims) for d in axes) if dims else 0
    return 0


def taps(node: Node, name: str, out_shape: Shape) -> int:
    """How many multiplications an output entry of a convolution takes; 1 of any other operation."""
    return max(1, prod(node._saved_weight.shape) // max(1, out_shape[1])) if name == "Convolution" else 1


def width(node: Node, name: str, operand: int, shape: Shape, out_shape: Shape) -> int:
    """How many entries of the operand one output entry depends on, at most."""
    if name in ONE_TO_ONE:
        return 1
    if name in SEGMENTS:
        return max(1, prod(shape) // max(1, prod(out_shape)))
    if name in ALONG and shape:
        return shape[wrapped(node._saved_dim, len(shape))]
    if name in FACTORS:
        if operand not in FACTORS[name]:
            return 1
        first = operand == FACTORS[name][0]
        return listed(node, name, operand) or (shape[-1] if first or len(shape) == 1 else shape[-2])
    if name == "Convolution":
        return taps(node, name, out_shape) if operand < 2 else 1
    if name == "Linear":
        return shape[-1] if operand < 2 else 1
    if name == "NativeLayerNorm":
        return prod(node._saved_normalized_shape) if operand == 0 else 1
    if name == "NativeGroupNorm":
        return max(1, prod(shape) // max(1, node._saved_N * node._saved_group)) if operand == 0 else 1
    if name in ("NativeBatchNorm", "NativeBatchNormLegit"):
        return max(1, prod(shape) // max(1, shape[1])) if operand == 0 and node._saved_training else 1
    if name in product.DISTANCE_NAMES:
        return shape[-1]
    if name in movement.BACK:
        return prod(node._saved_kernel_size)
    if name in windows.NAMES:
        return _window(node, name, shape, out_shape)
    if name in elementwise.LOSS_NAMES:
        return max(1, prod(shape) // max(1, prod(out_shape)))
    if name in detect.LINEAR or name in detect.BLOCKS or name in MATRICES:
        return prod(shape[-2:])
    return prod(shape)


def listed(node: Node, name: str, operand: int) -> int:
    """The most entries of an operand that one of a product reads, where the other factor lists its own; 0 where it doesn't."""
    if operand not in FACTORS.get(name, ()):
        return 0
    other = 1 - FACTORS[name].index(operand)
    with suppress(RuntimeError):  # it was written to since
        value = getattr(node, "_saved_" + product.SAVED[name][other], None)
        if value is not None and value.layout is not torch.strided and value.dim() == 2:
            places = value.to_sparse_coo().coalesce().indices()[other]
            return int(places.bincount().max()) if places.numel() else 1
    return 0


def _window(node: Node, name: str, shape: Shape, out_shape: Shape) -> int:
    """Entries of a window of average pooling or of interpolation, at most."""
    dims = windows.NAMES[name]
    kernel = tuple(getattr(node, "_saved_kernel_size", ())) or (1,) * dims
    taps = 4 if "Bicubic" in name else 2
    lengths = zip(kernel, shape[-dims:], out_shape[-dims:], strict=False)
    if "Upsample" in name and not name.endswith("Aa"):
        return prod(min(taps, size) for _, size, _ in lengths)
    return prod(min(size, max(k, taps * ceil(size / places))) for k, size, places in lengths)
