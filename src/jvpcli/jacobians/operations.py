"""What the names of torch's backward nodes tell of a function before anything is computed.

rigid    the map is the same at every point: what is moved, added up, or scaled by one number
picking  entries are copied as they are, which ones may differ from point to point (the largest, the sorted)
still    which entries depend on which is the same at every point: nothing picks by value on the way
placed   nor does anything pick by an index, which may have been made from values
certain  it is known of every local map where it is zero at every point
smooth   analytic where it is defined: an entry of the Jacobian that is not zero somewhere is zero almost nowhere, so
         that the values at a random point tell the pattern; not so of a ReLU, whose other half they may never see
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from jvpcli.language.readings import Node

RIGID_NAMES = """
Add Sub Rsub Neg Clone Alias ToCopy View UnsafeView ReshapeAlias Unsqueeze Squeeze Expand Permute Transpose T Repeat Slice
Select Unbind Split SplitWithSizes UnsafeSplit UnsafeSplitWithSizes Diagonal Flip Unfold Roll BlockDiag Cat Stack
ConstantPadNd Sum Mean Trace Cumsum Rot90 DiagEmbed NarrowCopy AsStrided PixelShuffle PixelUnshuffle ChannelShuffle Im2Col
Col2Im ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D
UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D
UpsampleLinear1D UpsampleBilinear2D UpsampleBicubic2D UpsampleTrilinear3D UpsampleBilinear2DAa UpsampleBicubic2DAa
AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D
"""
PICKING_NAMES = """
Index UnsafeIndex UnsafeMaskedIndex IndexSelect Gather Take MaskedSelect Embedding Sort Topk Kthvalue Mode Cummax Cummin
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D FractionalMaxPool2D FractionalMaxPool3D
Max Min Median Nanmedian MaxUnpool2D MaxUnpool3D CopySlices CopyBackwards Scatter IndexPut IndexFill IndexCopy
Where MaskedFill
"""
SMOOTH_NAMES = """
Mul Div Pow Addcdiv Addcmul Lerp Acos Acosh Asin Asinh Atan Atan2 Atanh Cos Cosh Sin Sinh Tan Tanh Exp Exp2 Expm1
Log Log2 Log10 Log1P Logaddexp Logaddexp2 Logit Sqrt Rsqrt Reciprocal Sigmoid LogSigmoid Erf Erfc Erfinv Gelu Silu Mish
Softplus Tril Triu Hypot Sinc Lgamma Digamma Polygamma Mvlgamma Deg2Rad Rad2Deg I0 Ldexp Xlogy SpecialEntr
Prod Var Std VarMean StdMean Logsumexp Softmax SafeSoftmax LogSoftmax Cumprod Logcumsumexp LinalgVectorNorm Norm
Mm Bmm Mv Dot Vdot Addmm Baddbmm Addbmm Addmv Addr Linear Trilinear Convolution MseLoss NativeLayerNorm NativeGroupNorm
NativeBatchNorm NativeBatchNormLegit LinalgInvEx LinalgSolveEx LinalgSolveTriangular TriangularSolve LinalgDet
LinalgSlogdet LinalgCholeskyEx CholeskySolve LinalgMatrixExp LinalgEigh LinalgSvd LinalgQr LinalgCross
FftR2C FftC2R FftC2C ViewAsComplex ViewAsReal Real Imag Complex Conj ConjPhysical
"""
ADDING_NAMES = """
Add Sub Rsub Neg Sum Mean Trace Cumsum Col2Im UpsampleLinear1D UpsampleBilinear2D UpsampleBicubic2D UpsampleTrilinear3D
UpsampleBilinear2DAa UpsampleBicubic2DAa AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D
"""
"""Rigid operations that do more than to copy entries: they add some up, or scale them."""

BY_VALUE_NAMES = """
Sort Topk Kthvalue Mode Cummax Cummin Max Min Amax Amin Aminmax Median Nanmedian
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D FractionalMaxPool2D FractionalMaxPool3D
ScatterReduce IndexReduce SegmentReduce
"""
"""Operations that pick entries by their values."""

BY_OTHER_NAMES = frozenset(("GridSampler2D", "GridSampler3D"))
"""Operations that pick entries of their first operand by the values of their second."""

PICKED = frozenset(["Index", "UnsafeIndex", "UnsafeMaskedIndex", "IndexSelect", "Gather", "Take", "MaskedSelect", "Embedding"])
"""Operations that pick entries by an index or a mask, which may follow from the inputs."""

PUT = frozenset(["IndexPut", "IndexCopy", "Scatter", "MaskedScatter"])
"""Operations that put entries of their other operands where an index or a mask tells."""

MASKED = frozenset(["Where", "MaskedFill"])
"""Operations that take entries from here or there as a mask tells: where that is the same at every point, they are smooth."""

ORDERED = frozenset(("LinalgEigh", "LinalgSvd"))
"""Smooth operations whose results stand in the order of their values, which is another at another point."""

REGULAR_NAMES = """
Mul Addcmul Lerp Cos Cosh Sin Sinh Tan Tanh Exp Exp2 Expm1 Log Log2 Log10 Log1P Logaddexp Logaddexp2 Sqrt Rsqrt Reciprocal Acos
Acosh Asin Asinh Atan Atanh Sigmoid LogSigmoid Erf Erfc Erfinv Gelu Silu Mish Tril Triu Deg2Rad Rad2Deg Logsumexp Softmax
SafeSoftmax LogSoftmax Mm Bmm Mv Dot Addmm Baddbmm Addbmm Addmv Addr Linear Convolution MseLoss NativeLayerNorm NativeGroupNorm
LinalgInvEx LinalgSolveEx LinalgCross
"""
"""Smooth operations whose derivatives are continuous wherever they are finite, those that are rigid aside: no norm, whose
derivative torch takes for zero where it has none; nor what reads the memory around a tensor, which is another in a stack."""

BY_VALUE = frozenset(BY_VALUE_NAMES.split())
RIGID, PICKING = frozenset(RIGID_NAMES.split()), frozenset(PICKING_NAMES.split())
SHARING = frozenset(["Max", "Min", "Median", "Nanmedian"])
"""Operations that pick an entry along an axis; of all entries they share out what arrives among those that tie."""

COPYING = PICKING | (RIGID - frozenset(ADDING_NAMES.split()))
"""Operations that copy entries, and change none."""

INDEXED = PICKING - {"CopySlices", "CopyBackwards"}
SMOOTH = RIGID | frozenset(SMOOTH_NAMES.split())
REGULAR = (RIGID - {"AsStrided"}) | frozenset(REGULAR_NAMES.split())


@dataclass(frozen=True)
class Nature:
    """What a function's operations make its Jacobian at every point (see the module)."""

    rigid: bool
    picking: bool
    smooth: bool
    still: bool = True
    placed: bool = True
    certain: bool = True


ALWAYS = Nature(rigid=True, picking=True, smooth=True)
"""Of a function whose Jacobian is the same at every point."""

VARYING = Nature(rigid=False, picking=False, smooth=False)
"""Of a function whose values may be anything, in the same places at every point."""

DECIDED = replace(VARYING, certain=False)
"""Of a function that may do something else at another point, as far as it was seen there."""


ADDED = {
    **dict.fromkeys(("Addmm", "Baddbmm", "Addbmm", "Addmv", "Addr", "Addcmul", "Addcdiv"), 0),
    **dict.fromkeys(("Convolution", "Linear", "NativeLayerNorm", "NativeGroupNorm"), 2),
    **dict.fromkeys(("NativeBatchNorm", "NativeBatchNormLegit"), 2),
}
"""The operand that is only added (a bias), of operations that do more with the others."""


def natures(nodes: Sequence[Node], inputs: Sequence[Tensor], weighed: bool = False, decided: bool = False) -> list[Nature]:
    """The nature of ∂output/∂input for each input of an output with these nodes; `weighed` and `decided` as in `natures_of`."""
    if not nodes:
        return [DECIDED if decided else ALWAYS] * len(inputs)
    order, leaf_of = leading(nodes, {id(x) for x in inputs})
    return natures_of(order, [leaf_of.get(id(x)) for x in inputs], weighed, decided)


def natures_of(
    order: Sequence[Node], leaves: Sequence[Node | None], weighed: bool = False, decided: bool = False
) -> list[Nature]:
    """The nature of the map to each of the leaves, from the nodes on the way, the output's first; None: not on the way.

    `weighed`: numbers that are not differentiated follow from the inputs, and are others at other points; `decided`: so may
    the nodes.

    From the inputs on, each node has six sets of inputs, as bits: those that it depends on, and those that it depends on
    by an operation that is not rigid, not picking, not smooth, not still, or not placed.
    """
    if decided:
        return [DECIDED] * len(leaves)
    bits = {leaf: (1 << position, 0, 0, 0, 0, 0) for position, leaf in enumerate(leaves) if leaf is not None}
    kinked = set[Node]()  # whose values are not smooth: a zero of such a factor may be one at every point that is tried
    for node in reversed(order):
        name, edges = operation(node), node.next_functions
        floors = name == "Div" and bool(getattr(node, "_saved_rounding_mode", None))
        smooth = (name in SMOOTH and not floors and not (weighed and name not in RIGID)) or is_of_complex(node, name)
        smooth = smooth or (name in MASKED and not weighed)
        scales = not floors and not weighed and _scales(node, name, bits)
        if not smooth or (kinked and any(edge in kinked for edge, _ in edges)):
            kinked.add(node)
        reached = bent = mixed = rough = moved = loose = 0
        by_value = name in ORDERED or picks_by_value(node, name, bits)
        for operand, (edge, _) in enumerate(edges):
            below = bits.get(edge)
            if below is None:
                continue
            moves = by_value or (weighed and picks_by_index(name, operand))
            rigid = scales or name in RIGID or ADDED.get(name) == operand
            bent |= below[1] if rigid else below[0]
            mixed |= below[2] if _copies(node, name, operand) else below[0]
            mixed |= reached & below[0] if name == "Add" else 0  # what comes by two ways is added up
            factor = kinked and name not in RIGID and any(other in kinked for k, (other, _) in enumerate(edges) if k != operand)
            rough |= below[0] if factor or not smooth else below[3]
            moved |= below[0] if moves else below[4]
            loose |= below[0] if name in INDEXED else below[5]
            reached |= below[0]
        bits[node] = reached, bent, mixed, rough, moved, loose
    _, *unlike = bits[order[0]] if order else (0, 0, 0, 0, 0, 0)
    found = [Nature(*[not bits_ >> k & 1 for bits_ in unlike]) for k in range(len(leaves))]
    # where nothing is picked by an index, what is a copy here may be multiplied by another number elsewhere
    return [replace(each, picking=False) if weighed and each.placed else each for each in found]


def _copies(node: Node, name: str, operand: int) -> bool:
    """Whether it only copies entries of an operand, or may be anything that the values tell."""
    if name in ("Add", "Sub"):
        return operand == 0 or (name == "Add" and getattr(node, "_saved_alpha", 1) == 1)
    if name in SHARING and not hasattr(type(node), "_saved_indices"):
        return False
    return name in COPYING or ADDED.get(name) == operand or not name


def picks_by_value(node: Node, name: str, reached: Container[Node]) -> bool:
    """Whether other values of what is differentiated can make it read other entries."""
    return name in BY_VALUE or (name in BY_OTHER_NAMES and node.next_functions[1][0] in reached)


def picks_by_index(name: str, operand: int) -> bool:
    """Whether an index tells which of an operand's entries it reads, or where it puts them."""
    return name in PICKED or (name in PUT and operand > 0)


def is_regular(nodes: Iterable[Node]) -> bool:
    """Whether derivatives are continuous wherever they are finite, told by all nodes of a function's graph; `weighed` aside."""
    return all(map(_is_regular, nodes))


def _is_regular(node: Node) -> bool:
    name = operation(node)
    if name == "Pow":
        return bool(node.name() == "PowBackward0")  # to the power of a number; a tensor's own derivative is masked at 0
    if name == "Div":
        return not getattr(node, "_saved_rounding_mode", None)
    return name in REGULAR or name == "AccumulateGrad"


def _scales(node: Node, name: str, reached: Container[Node]) -> bool:
    """Whether it multiplies or divides what is differentiated by a single number that is not."""
    if name not in ("Mul", "Div"):
        return False
    active = [edge in reached for edge, _ in node.next_functions]
    if sum(active) != 1 or (name == "Div" and not active[0]):
        return False
    number = node._saved_self if name == "Mul" and not active[0] else node._saved_other
    return number is not None and not (isinstance(number, Tensor) and number.dim())


def is_of_complex(node: Node, name: str) -> bool:
    """Whether it is a size or an angle of complex numbers, which bends nowhere but at 0."""
    if name not in ("Abs", "Sgn", "Angle"):
        return False
    edge, nr = node.next_functions[0]
    return edge is not None and bool(edge._input_metadata[nr].dtype.is_complex)


@lru_cache(maxsize=1024)
def base_name(name: str) -> str:
    """`Mul` of `MulBackward0`; `View` of `ViewBackward0_copy`; `CopySlices` of `torch::autograd::CopySlices`."""
    plain = name.rpartition("::")[2]
    word = plain.removesuffix("_copy").rstrip("0123456789")
    return word.removesuffix("Backward") if word.endswith("Backward") else plain


@lru_cache(maxsize=1024)
def named(name: str) -> str:
    """What the operation of a node of this name is called; nothing of a custom function, which may be called anything.

    Names of `torch.autograd.Function`s end with this very word, those of torch's own with a number behind it.
    """
    return "" if name.endswith("Backward") else base_name(name)


def operation(node: Node) -> str:
    """What a node's operation is called; nothing of a custom function."""
    return named(node.name())


def leading(nodes: Sequence[Node], wanted: Container[int]) -> tuple[list[Node], dict[int, Node]]:
    """Nodes that lead to a wanted leaf, outputs first; and the leaf node of each wanted tensor, by id.

    `nodes` stand each behind those that it hands gradients on to, as `nodes_below` gives them.
    """
    useful = set[Node]()
    leaf_of: dict[int, Node] = {}
    order: list[Node] = []
    for node in nodes:
        edges = node.next_functions
        if edges:
            for edge, _ in edges:
                if edge in useful:
                    useful.add(node)
                    order.append(node)
                    break
        else:
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in wanted:
                leaf_of[id(variable)] = node
                useful.add(node)
    order.reverse()
    return order, leaf_of


def coarsest_rounding(tensors: Iterable[Tensor], graphs: Iterable[Iterable[Node]]) -> float:
    """The rounding of the coarsest floating dtype that a gradient passes through: float32 inside float64 is coarse.

    Args:
        tensors: the outputs of a function, and the inputs that are differentiated.
        graphs: the nodes of the outputs.
    """
    dtypes = {x.dtype for x in tensors if x.requires_grad}
    dtypes |= {meta.dtype for nodes in graphs for node in nodes for meta in node._input_metadata}
    floating = [dtype for dtype in dtypes if dtype.is_floating_point or dtype.is_complex]
    return max([torch.finfo(dtype).eps for dtype in floating], default=torch.finfo(torch.float64).eps)
