"""Every local rule at three sizes: the same kind of map each time, and the numbers that torch's own passes give.

The maps are asked for as users do: a small problem is computed by passes, `inspect` looks at values elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import prod

import pytest
import torch
import torch.nn.functional as F
from engine_cases import check_map, leaves_of, oracle, slow_rules
from torch import Tensor

import jvpcli
from jvpcli.jacobians.dense import sweep
from jvpcli.jacobians.graph import accumulate, read_graph
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.local import detect, movement, normalise, windows
from jvpcli.jacobians.local.table import RULES
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.passes import gathered
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import Workspace
from jvpcli.jacobians.widths import SINGLE
from jvpcli.problem import at_rows
from jvpcli.program import Equation
from jvpcli.tracing.chain import local_maps
from jvpcli.tracing.replay import Primal, Result, Step

Shape = tuple[int, ...]
Shapes = Sequence[Shape]

SMALL = 150
"""Outputs up to which every row is compared."""


def numbers(shape: Shape, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def places(below: int, shape: Shape, seed: int = 5) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed))


def vectors(*operands: int) -> list[Shapes]:
    return [[(n,)] * (operands[0] if operands else 1) for n in (3, 64, 5001)]


def batches(*tail: Shape) -> list[Shapes]:
    """Batches of small tensors, each operand with its own shape; prod of the first one's shape times the batch grows."""
    return [[(b, *t) for t in tail] for b in (2, 1 + 64 // max(1, prod(tail[0])), 1 + 5001 // max(1, prod(tail[0])))]


def images(*tail: int, channels: int = 2, grows: tuple[int, int, int] = (1, 4, 220)) -> list[Shapes]:
    return [[(b, channels, *tail)] for b in grows]


def spd(x: Tensor) -> Tensor:
    return x @ x.mT + 3 * torch.eye(x.shape[-1], dtype=x.dtype)


def square(x: Tensor) -> Tensor:
    return x + 4 * torch.eye(x.shape[-1], dtype=x.dtype)


def ones_of(x: Tensor) -> Tensor:
    return torch.ones(x.shape, dtype=torch.float64)


def backwards(x: Tensor) -> Tensor:
    """Every second place, from the end."""
    return torch.arange(0, x.numel(), 2).flip(0)


def into_slice(x: Tensor) -> Tensor:
    y = torch.zeros(2 * x.shape[0] + 1, dtype=x.dtype)
    y[: x.shape[0]].copy_(x)
    return y


def unpooled(x: Tensor, dims: int) -> Tensor:
    pool, unpool = (F.max_pool2d, F.max_unpool2d) if dims == 2 else (F.max_pool3d, F.max_unpool3d)
    where = pool(numbers((*x.shape[:2], *[2 * s for s in x.shape[2:]]), 9), 2, return_indices=True)[1]
    return unpool(x, where, 2)


def far_enough(x: Tensor) -> Tensor:
    """No entry is near the margin: all derivatives are zero here."""
    target = places(3, (x.shape[0],))
    return F.multi_margin_loss(5 * F.one_hot(target, 3) + x / 100, target, reduction="none")


def normal(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch._native_batch_norm_legit(x, w, b, True, 0.1, 1e-5)[0]


Case = tuple[Callable[..., Tensor], list[Shapes]]

def slope(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient of the sum of a function's values, which can be differentiated again."""

    def gradient(x: Tensor) -> Tensor:
        return torch.autograd.grad(function(x).sum(), x, create_graph=True)[0]

    return gradient


CASES: dict[str, Case] = {
    "Sin": (torch.sin, vectors()),
    "Sign": (lambda x: x.sign() + 0 * x.round(), vectors()),
    "Clamp": (lambda x: x.clamp(-9, 9), vectors()),
    "Relu": (lambda x: F.relu(x.abs() + 1), vectors()),
    "Where": (lambda x, y: torch.where(numbers(tuple(x.shape), 8) > 0, x, y), vectors(2)),
    "MseLoss": (lambda x, y: F.mse_loss(x, y, reduction="none"), vectors(2)),
    "SmoothL1Loss": (lambda x, y: F.smooth_l1_loss(x, y, reduction="none"), vectors(2)),
    "BinaryCrossEntropyWithLogits": (
        lambda x: F.binary_cross_entropy_with_logits(x, ones_of(x), reduction="none"),
        vectors(),
    ),
    "MseLoss of a mean": (lambda x, y: F.mse_loss(x, y), vectors(2)),
    "Add": (lambda x, y: torch.add(x, y, alpha=3), vectors(2)),
    "Sub": (lambda x, y: torch.sub(x, y), vectors(2)),
    "Rsub": (lambda x: torch.rsub(x, 2), vectors()),
    "Neg": (torch.neg, vectors()),
    "Mul": (lambda x, y: x * y, vectors(2)),
    "Div": (lambda x, y: x / y, vectors(2)),
    "MaskedFill": (lambda x: x.masked_fill(torch.arange(x.numel()) % 3 == 1, 2.0), vectors()),
    "View": (lambda x: x.view(-1), batches((3, 2))),
    "CopyBackwards": (lambda x, y: (x * 2).copy_(y), vectors(2)),
    "Expand": (lambda x: x.expand(3, x.shape[1]), [[(1, n)] for n in (2, 30, 1700)]),
    "Permute": (lambda x: x.permute(2, 0, 1), batches((3, 2))),
    "Transpose": (lambda x: x.transpose(0, 1), batches((3,))),
    "Repeat": (lambda x: x.repeat(2, 3), batches((3,))),
    "Slice": (lambda x: x[1::2], [[(n,)] for n in (7, 130, 10003)]),
    "Select": (lambda x: x[:, 1], batches((3, 2))),
    "Unbind": (lambda x: x.unbind(1)[1], batches((3, 2))),
    "Split": (lambda x: x.split(2, 1)[1], batches((5,))),
    "Diagonal": (lambda x: x.diagonal(1, 1, 2), batches((3, 4))),
    "Flip": (lambda x: x.flip(0), [[(n,)] for n in (4, 64, 5002)]),
    "Unfold": (lambda x: x.unfold(0, 3, 2), [[(n,)] for n in (9, 44, 3400)]),
    "Roll": (lambda x: x.roll(1, 0), vectors()),
    "Cat": (lambda x, y: torch.cat([x, y]), vectors(2)),
    "Stack": (lambda x, y: torch.stack([x, y]), vectors(2)),
    "ConstantPadNd": (lambda x: F.pad(x, (1, 2)), vectors()),
    "Sum": (lambda x: x.sum(1), batches((3,))),
    "Mean": (lambda x: x.mean(1), batches((3,))),
    "Logsumexp": (lambda x: x.logsumexp(1), batches((3,))),
    "Amax": (lambda x: x.amax(1), batches((3,))),
    "Max": (lambda x: x.max(1).values, batches((3,))),
    "Softmax": (lambda x: x.softmax(1), batches((3,))),
    "LogSoftmax": (lambda x: x.log_softmax(1), batches((3,))),
    "Cumsum": (lambda x: x.cumsum(1), batches((3,))),
    "Cumprod": (lambda x: x.cumprod(1), batches((3,))),
    "Cumprod, a zero among them": (lambda x: (x * (x > 0)).cumprod(1), batches((3,))),
    "Glu": (lambda x: F.glu(x, 1), batches((4,))),
    "Logcumsumexp": (lambda x: x.logcumsumexp(1), batches((3,))),
    "Index": (lambda x: x[places(x.shape[0], (x.shape[0],))], vectors()),
    "IndexSelect": (lambda x: x.index_select(0, places(x.shape[0], (x.shape[0],))), vectors()),
    "Gather": (lambda x: x.gather(0, places(x.shape[0], (x.shape[0],))), vectors()),
    "Take": (lambda x: x.take(places(x.numel(), (x.shape[0],))), vectors()),
    "MaskedSelect": (lambda x: x.masked_select(torch.arange(x.numel()) % 3 != 1), vectors()),
    "Embedding": (lambda w: F.embedding(places(w.shape[0], (w.shape[0],)), w), batches((3,))),
    "Sort": (lambda x: x.sort(1).values, batches((3,))),
    "Topk": (lambda x: x.topk(2, 1).values, batches((3,))),
    "Cummax": (lambda x: x.cummax(1).values, batches((4,))),
    "MaxPool2DWithIndices": (lambda x: F.max_pool2d(x, 2), images(4, 6)),
    "MaxPool3DWithIndices": (lambda x: F.max_pool3d(x, 2), images(2, 4, 6)),
    "AdaptiveMaxPool2D": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), images(5, 6)),
    "Scatter": (lambda x, y: x.scatter(0, backwards(x), y[: (x.numel() + 1) // 2]), vectors(2)),
    "IndexPut": (lambda x, y: x.index_put((backwards(x),), y[: (x.numel() + 1) // 2]), vectors(2)),
    "Bmm": (lambda x, y: x @ y, batches((3, 4), (4, 2))),
    "Mv": (lambda a, x: a @ x, [[(n, 3), (3,)] for n in (2, 64, 5001)]),
    "Dot": (lambda x, y: x @ y, vectors(2)),
    "Addmm": (lambda b, x, w: torch.addmm(b, x, w), [[(2,), (n, 3), (3, 2)] for n in (4, 32, 2501)]),
    "Baddbmm": (lambda b, x, w: torch.baddbmm(b, x, w), batches((2, 2), (2, 3), (3, 2))),
    "Addmv": (lambda b, a, x: torch.addmv(b, a, x), [[(n,), (n, 3), (3,)] for n in (2, 64, 5001)]),
    "Addr": (lambda b, x, y: torch.addr(b, x, y), [[(n, 4), (n,), (4,)] for n in (4, 16, 1251)]),
    "LinalgInvEx": (lambda x: torch.linalg.inv(square(x)), batches((2, 2))),
    "LinalgSolveEx": (lambda x, y: torch.linalg.solve(square(x), y), batches((2, 2), (2, 1))),
    "Trace": (lambda x: x.trace(), [[(n, n)] for n in (2, 8, 71)]),
    "LinalgCholeskyEx": (lambda x: torch.linalg.cholesky(spd(x)), batches((2, 2))),
    "LinalgCholeskyEx, upper": (lambda x: torch.linalg.cholesky(spd(x), upper=True), batches((2, 2))),
    "LinalgMatrixExp": (torch.linalg.matrix_exp, batches((2, 2))),
    "LinalgMatrixExp, large": (lambda x: torch.linalg.matrix_exp(5 * x), [[(b, 3, 3)] for b in (2, 8, 150)]),
    "CholeskyInverse": (lambda x: torch.cholesky_inverse(square(x)), batches((2, 2))),
    "Convolution": (lambda x: F.conv2d(x, numbers((2, 2, 2, 2), 1), padding=1), images(3, 3, grows=(2, 4, 160))),
    "Convolution, transposed": (
        lambda x: F.conv_transpose2d(x, numbers((2, 2, 2, 2), 1), stride=2, dilation=2),
        images(2, 3, grows=(2, 4, 160)),
    ),
    "Convolution, grouped": (
        lambda x: F.conv1d(x, numbers((4, 1, 3), 1), groups=2, stride=2, padding=2),
        images(5, grows=(1, 4, 320)),
    ),
    "Convolution, 3-d": (lambda x: F.conv3d(x, numbers((2, 2, 2, 1, 2), 1)), images(3, 2, 3, grows=(2, 4, 320))),
    "AvgPool2D": (lambda x: F.avg_pool2d(x, 2), images(4, 6)),
    "AvgPool2D, padded": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        images(4, 5),
    ),
    "AvgPool2D, one axis": (lambda x: F.avg_pool1d(x, 3, 1, 1), images(4, grows=(1, 8, 640))),
    "AvgPool2D, lp": (lambda x: F.lp_pool2d(x, 2, (2, 3)), images(4, 6)),
    "AvgPool3D": (lambda x: F.avg_pool3d(x, 2, 1, divisor_override=3), images(2, 3, 3)),
    "AdaptiveAvgPool2D": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), images(5, 4)),
    "AdaptiveAvgPool3D": (lambda x: F.adaptive_avg_pool3d(x, (2, 1, 2)), images(3, 2, 3, grows=(1, 4, 640))),
    "UpsampleLinear1D": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), images(3, grows=(1, 5, 420))),
    "UpsampleBilinear2D": (
        lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", align_corners=True),
        images(4, 3, grows=(1, 4, 180)),
    ),
    "UpsampleBilinear2DAa": (
        lambda x: F.interpolate(x, size=(2, 3), mode="bilinear", antialias=True),
        images(5, 7, grows=(2, 6, 420)),
    ),
    "UpsampleBicubic2D": (
        lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
        images(3, 4, grows=(2, 4, 120)),
    ),
    "UpsampleBicubic2DAa": (
        lambda x: F.interpolate(x, size=(2, 3), mode="bicubic", antialias=True),
        images(5, 7, grows=(2, 6, 420)),
    ),
    "UpsampleTrilinear3D": (
        lambda x: F.interpolate(x, size=(2, 3, 2), mode="trilinear"),
        images(3, 2, 3, grows=(2, 4, 220)),
    ),
    "NativeLayerNorm": (lambda x, w, b: F.layer_norm(x, (3,), w, b), [[(n, 3), (3,), (3,)] for n in (4, 22, 1701)]),
    "NativeGroupNorm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        [[(n, 4, 2), (4,), (4,)] for n in (2, 8, 630)],
    ),
    "NativeBatchNorm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        [[(3, n, 2), (n,), (n,)] for n in (2, 10, 840)],
    ),
    "NativeBatchNorm, evaluated": (
        lambda x, w, b: F.batch_norm(x, torch.zeros_like(w), ones_of(w) * 2, w, b),
        [[(3, n, 2), (n,), (n,)] for n in (2, 10, 840)],
    ),
    "NativeBatchNorm of instances": (
        lambda x, w: F.instance_norm(x, weight=w),
        [[(n, 2, 3), (2,)] for n in (3, 12, 840)],
    ),
    "NativeBatchNormLegit": (normal, [[(3, n, 2), (n,), (n,)] for n in (2, 10, 840)]),
    "ReflectionPad1D": (lambda x: F.pad(x, (2, 1), mode="reflect"), images(3, grows=(1, 5, 420))),
    "ReflectionPad2D": (lambda x: F.pad(x, (2, 1, 0, 1), mode="reflect"), images(2, 3, grows=(1, 3, 150))),
    "ReflectionPad3D": (lambda x: F.pad(x, (1, 1, 0, 1, 1, 0), mode="reflect"), images(2, 2, 2, grows=(1, 2, 80))),
    "ReplicationPad1D": (lambda x: F.pad(x, (2, 1), mode="replicate"), images(3, grows=(1, 5, 420))),
    "ReplicationPad2D": (lambda x: F.pad(x, (3, 1, 0, 1), mode="replicate"), images(2, 3, grows=(1, 3, 150))),
    "ReplicationPad3D": (lambda x: F.pad(x, (1, 1, 0, 1, 1, 0), mode="replicate"), images(2, 2, 2, grows=(1, 2, 80))),
    "UpsampleNearest1D": (lambda x: F.interpolate(x, scale_factor=2), images(3, grows=(1, 5, 420))),
    "UpsampleNearest2D": (lambda x: F.interpolate(x, size=(3, 5)), images(2, 4, grows=(1, 3, 180))),
    "UpsampleNearest3D": (lambda x: F.interpolate(x, size=(3, 1, 2)), images(2, 2, 2, grows=(1, 5, 420))),
    "UpsampleNearestExact1D": (lambda x: F.interpolate(x, size=5, mode="nearest-exact"), images(3, grows=(1, 6, 510))),
    "UpsampleNearestExact2D": (
        lambda x: F.interpolate(x, size=(3, 5), mode="nearest-exact"),
        images(2, 4, grows=(1, 3, 180)),
    ),
    "UpsampleNearestExact3D": (
        lambda x: F.interpolate(x, size=(3, 1, 2), mode="nearest-exact"),
        images(2, 2, 2, grows=(1, 5, 420)),
    ),
    "Im2Col": (lambda x: F.unfold(x, (2, 3), padding=1, stride=2), images(4, 5, grows=(1, 2, 40))),
    "Col2Im": (lambda x: F.fold(x, (3, 4), 2), [[(b, 8, 6)] for b in (1, 3, 220)]),
    "MaxUnpool2D": (lambda x: unpooled(x, 2), images(2, 2, grows=(1, 2, 160))),
    "MaxUnpool3D": (lambda x: unpooled(x, 3), images(1, 2, 2, grows=(1, 2, 90))),
    "PixelShuffle": (lambda x: F.pixel_shuffle(x, 2), images(2, 3, channels=4, grows=(1, 3, 220))),
    "PixelUnshuffle": (lambda x: F.pixel_unshuffle(x, 2), images(4, 2, grows=(1, 4, 330))),
    "ChannelShuffle": (lambda x: torch.channel_shuffle(x, 2), images(3, channels=4, grows=(1, 6, 430))),
    "Rot90": (torch.rot90, batches((3,))),
    "DiagEmbed": (lambda x: torch.diag_embed(x, 1), [[(b, 2)] for b in (1, 7, 560)]),
    "BlockDiag": (lambda x, y: torch.block_diag(x, y), [[(2, n), (3, 2)] for n in (2, 11, 1000)]),
    "NarrowCopy": (lambda x: torch.narrow_copy(x, 1, 1, 2), batches((4,))),
    "AsStrided": (lambda x: torch.as_strided(x, (x.numel() // 3, 3), (3, 1)), [[(n,)] for n in (7, 67, 5005)]),
    "AsStrided, overlapping": (
        lambda x: torch.as_strided(x, (x.numel() - 3, 3), (1, 1)),
        [[(n,)] for n in (9, 35, 1700)],
    ),
    "UnsafeMaskedIndex": (
        lambda x: torch.ops.aten._unsafe_masked_index(
            x, torch.arange(x.numel()) % 3 != 1, [torch.arange(x.numel())], 0.0
        ),
        vectors(),
    ),
    "NativeDropoutBackward": (
        lambda x: torch.ops.aten.native_dropout_backward(x, torch.arange(x.numel()) % 3 != 1, 1.5),
        vectors(),
    ),
    "Fill": (lambda x: (numbers((7, 2), 1) * x.sum()).fill_(x.sum()), [[(n,)] for n in (2, 9, 500)]),
    "LinalgSvd": (torch.linalg.svdvals, batches((3, 2))),
    "LinalgQr": (lambda x: torch.linalg.qr(x)[1], batches((3, 2))),
    "LinalgLuFactorEx": (lambda x: torch.linalg.lu_factor(square(x))[0], batches((3, 3))),
    "LinalgLu": (lambda x: torch.linalg.lu(square(x))[2], batches((3, 3))),
    "LuUnpack": (
        lambda x: torch.lu_unpack(x, torch.tensor([1, 2], dtype=torch.int32).expand(x.shape[0], 2))[1],
        batches((2, 2)),
    ),
    "LinalgLuSolve": (
        lambda x: torch.linalg.lu_solve(*torch.linalg.lu_factor(square(numbers((x.shape[0], 2, 2), 3))), x),
        batches((2, 1)),
    ),
    "LinalgSolveTriangular": (
        lambda x, y: torch.linalg.solve_triangular(square(x), y, upper=True),
        batches((2, 2), (2, 1)),
    ),
    "TriangularSolve": (lambda x, y: torch.triangular_solve(y, square(x))[0], batches((2, 2), (2, 1))),
    "CholeskySolve": (lambda x, y: torch.cholesky_solve(y, square(x)), batches((2, 2), (2, 1))),
    "LinalgPinv": (torch.linalg.pinv, batches((3, 2))),
    "LinalgEigh": (lambda x: torch.linalg.eigvalsh(spd(x)), batches((3, 3))),
    "LinalgSlogdet": (lambda x: torch.linalg.slogdet(x)[1], batches((2, 2))),
    "LinalgDet": (torch.linalg.det, batches((2, 2))),
    "LinalgHouseholderProduct": (torch.linalg.householder_product, batches((3, 2), (2,))),
    "LinalgLstsq": (lambda x, y: torch.linalg.lstsq(x, y)[0], batches((3, 2), (3, 2))),
    "LinalgCross": (torch.linalg.cross, batches((3,), (3,))),
    "Cdist": (torch.cdist, batches((2, 3), (3, 3))),
    "Cdist, another norm": (lambda x, y: torch.cdist(x, y, 1.0), batches((2, 3), (3, 3))),
    "EuclideanDist": (torch.cdist, batches((26, 2), (3, 2))),
    "Addbmm": (lambda b, x, y: torch.addbmm(b, x, y), [[(n, 3), (2, n, 3), (2, 3, 3)] for n in (4, 22, 1670)]),
    "Trilinear": (lambda x, y: F.bilinear(x, y, numbers((2, 3, 4), 1)), batches((3,), (4,))),
    "ScaledDotProductFlashAttentionForCpu": (
        F.scaled_dot_product_attention,
        [[(b, 2, 2, 3), (b, 2, 4, 3), (b, 2, 4, 3)] for b in (2, 6, 420)],
    ),
    "NllLoss": (
        lambda x: F.nll_loss(x, places(3, (x.shape[0],)), reduction="none"),
        [[(n, 3)] for n in (3, 64, 5001)],
    ),
    "NllLoss2D": (
        lambda x: F.nll_loss(x, places(3, (x.shape[0], 2, 2)), reduction="none"),
        [[(n, 3, 2, 2)] for n in (2, 16, 1251)],
    ),
    "MultiMarginLoss": (lambda x: F.multi_margin_loss(x, places(3, (x.shape[0],)), reduction="none"), batches((3,))),
    "MultilabelMarginLoss": (
        lambda x: F.multilabel_margin_loss(x / 100, torch.tensor([1, -1, -1]).expand(x.shape), reduction="none"),
        batches((3,)),
    ),
    "Renorm": (lambda x: torch.renorm(x, 2, 0, 0.1), batches((3,))),
    "SoftmaxBackwardData": (
        lambda x, y: torch.ops.aten._softmax_backward_data(x, y, 1, torch.float64),
        batches((3,), (3,)),
    ),
    "GridSampler2D": (
        lambda x: F.grid_sample(x, numbers((x.shape[0], 2, 2, 2), 1) / 4, align_corners=False),
        images(3, 4, grows=(2, 8, 640)),
    ),
    "GridSampler3D": (
        lambda x: F.grid_sample(x, numbers((x.shape[0], 1, 2, 2, 3), 1) / 4, align_corners=False),
        images(2, 3, 4, grows=(2, 8, 640)),
    ),
    "ScatterReduce": (
        lambda x: numbers((x.shape[0] // 2,), 3).scatter_reduce(0, torch.arange(x.shape[0]) // 2, x, "prod"),
        [[(n,)] for n in (8, 128, 10002)],
    ),
    "IndexReduce": (
        lambda x: numbers((x.shape[0] // 2,), 3).index_reduce(0, torch.arange(x.shape[0]) // 2, x, "prod"),
        [[(n,)] for n in (8, 128, 10002)],
    ),
    "SegmentReduce": (
        lambda x: torch.segment_reduce(x, "mean", lengths=torch.full((x.shape[0] // 2,), 2)),
        [[(n,)] for n in (8, 128, 10002)],
    ),
    "EmbeddingBag": (lambda w: F.embedding_bag(torch.arange(w.shape[0]).view(-1, 2), w), [[(n, 2)] for n in (4, 66, 5002)]),
    "CopySlices": (into_slice, [[(n,)] for n in (3, 32, 2501)]),
    "CopySlices, circular": (lambda x: F.pad(x, (1, 2), mode="circular"), images(3, grows=(1, 5, 420))),
    "CopySlices, circular in two directions": (
        lambda x: F.pad(x, (1, 0, 2, 1), mode="circular"),
        images(3, 4, grows=(1, 2, 130)),
    ),
    "Convolution, one signal": (
        lambda x: F.conv1d(x, numbers((1, 1, 3), 1), padding=1),
        [[(1, 1, n)] for n in (4, 64, 5001)],
    ),
    "Convolution, a batch of signals": (
        lambda x: F.conv1d(x, numbers((1, 1, 3), 1), padding=1),
        [[(2, 1, n)] for n in (3, 40, 2501)],
    ),
    "Cumsum, of one axis": (lambda x: x.cumsum(0), [[(n,)] for n in (2, 12, 80)]),
    "Cumprod, of one axis": (lambda x: x.cumprod(0), [[(n,)] for n in (2, 12, 80)]),
    "Mm, an outer product with itself": (lambda x: x[:, None] @ x[None], [[(n,)] for n in (2, 8, 72)]),
    "Sub, of neighbours": (lambda x: x[1:] - x[:-1], [[(n,)] for n in (3, 64, 5002)]),
    "Sub, of neighbours all around": (lambda x: x.roll(1, 0) - x, [[(n,)] for n in (3, 64, 5001)]),
    "Sort, then scaled": (lambda x: 2 * x.sort(1).values, batches((3,))),
    "Amax, then scaled": (lambda x: 2 * x.amax((1, 2)), batches((2, 2))),
    "Max, then a function": (lambda x: x.max(1).values.sin(), batches((3,))),
    "Cummax, then scaled": (lambda x: 2 * x.cummax(0).values, [[(n,)] for n in (3, 12, 80)]),
    "MaxPool2DWithIndices, then scaled": (lambda x: 2 * F.max_pool2d(x, 2, padding=1, stride=1), images(4, 4, grows=(1, 2, 110))),
    "AdaptiveMaxPool2D, then scaled": (lambda x: F.adaptive_max_pool2d(x, (2, 3)).sin(), images(5, 6)),
    "GridSampler2D, one image": (
        lambda x: F.grid_sample(x, numbers((1, x.shape[2], 2, 2), 1) / 4, align_corners=False),
        [[(1, 1, n, 4)] for n in (3, 12, 64)],
    ),
    "HuberLoss": (lambda x, y: F.huber_loss(x, y, reduction="none"), vectors(2)),
    "SoftMarginLoss": (lambda x: F.soft_margin_loss(x, ones_of(x), reduction="none"), vectors()),
    "BinaryCrossEntropy": (lambda x: F.binary_cross_entropy(x.sigmoid(), ones_of(x), reduction="none"), vectors()),
    "Xlogy": (lambda x: F.kl_div(x, x.exp(), reduction="none"), vectors()),
    "NllLoss, of cross entropy": (
        lambda x: F.cross_entropy(x, places(3, (x.shape[0],)), reduction="none"),
        [[(n, 3)] for n in (3, 64, 5001)],
    ),
    "ScatterReduce, added up": (
        lambda x: numbers((x.shape[0] // 2,), 3).scatter_reduce(0, torch.arange(x.shape[0]) // 2, x, "sum"),
        [[(n,)] for n in (8, 128, 10002)],
    ),
    "ScatterReduce, the largest": (
        lambda x: numbers((x.shape[0] // 2,), 3).scatter_reduce(0, torch.arange(x.shape[0]) // 2, x, "amax"),
        [[(n,)] for n in (8, 128, 10002)],
    ),
    "Where, with one value": (lambda x: torch.where(x > 0, x, 0.0), vectors()),
    "LinalgCross, with itself": (lambda x: torch.linalg.cross(x, x.flip(0)), [[(b, 3)] for b in (2, 22, 1700)]),
    "MultiMarginLoss, all far enough": (far_enough, batches((3,))),
    "SelectBackward": (slope(lambda x: x[..., 0] ** 3), batches((4,))),
    "SliceBackward": (slope(lambda x: x[1:] ** 3), vectors()),
    "DiagonalBackward": (slope(lambda x: x.diagonal(0, -2, -1) ** 3), batches((3, 3))),
    "HardshrinkBackward": (slope(lambda x: F.hardshrink(x) ** 3), vectors()),
    "MseLossBackward": (slope(lambda x: F.mse_loss(x**2, ones_of(x))), vectors()),
    "SmoothL1LossBackward": (slope(lambda x: F.smooth_l1_loss(x**2, ones_of(x))), vectors()),
    "HuberLossBackward": (slope(lambda x: F.huber_loss(x**2, ones_of(x))), vectors()),
    "SoftMarginLossBackward": (slope(lambda x: F.soft_margin_loss(x, ones_of(x))), vectors()),
    "BinaryCrossEntropyBackward": (slope(lambda x: F.binary_cross_entropy(x.sigmoid(), ones_of(x) / 3)), vectors()),
    "LogSoftmaxBackwardData": (slope(lambda x: F.log_softmax(x, -1)[..., 0]), batches((4,))),
    "GluBackward": (slope(lambda x: F.glu(x, -1)), batches((4,))),
    "NllLossBackward": (slope(lambda x: F.cross_entropy(x, places(3, x.shape[:1]))), batches((3,))),
    "UnfoldBackward": (slope(lambda x: x.unfold(-1, 2, 1) ** 3), vectors()),
    "MaxPool2DWithIndicesBackward": (slope(lambda x: F.max_pool2d(x, 2) ** 3), images(4, 4)),
    "AvgPool2DBackward": (slope(lambda x: F.avg_pool2d(x, 2) ** 3), images(4, 4)),
    "AdaptiveAvgPool2DBackward": (slope(lambda x: F.adaptive_avg_pool2d(x, 2) ** 3), images(4, 4)),
    "ReflectionPad1DBackward": (slope(lambda x: F.pad(x, (1, 1), mode="reflect") ** 3), images(4)),
    "ReflectionPad2DBackward": (slope(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect") ** 3), images(4, 4)),
    "UpsampleLinear1DBackward": (slope(lambda x: F.interpolate(x, 8, mode="linear") ** 3), images(4)),
    "UpsampleBilinear2DBackward": (slope(lambda x: F.interpolate(x, (8, 8), mode="bilinear") ** 3), images(4, 4)),
    "UpsampleNearest1DBackward": (slope(lambda x: F.interpolate(x, 8) ** 3), images(4)),
    "UpsampleNearest2DBackward": (slope(lambda x: F.interpolate(x, (8, 8)) ** 3), images(4, 4)),
    "EmbeddingDenseBackward": (slope(lambda x: F.embedding(places(3, (5,)), x) ** 3), [[(n, 4)] for n in (3, 16, 1300)]),
}

NO_CASE = {"Zero", "Linear", "CtcLoss", "MkldnnRnnLayer"}
"""Names of no dependency at all, not made on a CPU, or whose sizes and dtypes are not for this table (see below)."""


def named(function: Callable[..., Tensor], count: int) -> Callable[..., Tensor]:
    """The function of so many tensors with names for them."""
    return (lambda a: function(a), lambda a, b: function(a, b), lambda a, b, c: function(a, b, c))[count - 1]


def maps_of(function: Callable[..., Tensor], shapes: Shapes) -> tuple[Tensor, list[Tensor], list[LinearMap]]:
    leaves = leaves_of([numbers(shape, k) for k, shape in enumerate(shapes)])
    given = dict(zip("abc", leaves, strict=False))
    maps = jvpcli.jacobian(named(function, len(leaves)), given)
    return function(*leaves), leaves, [maps["y", name] for name in given]


def inspected_kinds(function: Callable[..., Tensor], leaves: Sequence[Tensor]) -> list[str]:
    given = dict(zip("abc", leaves, strict=False))
    report = jvpcli.inspect(named(function, len(leaves)), given).report
    return [report.jacobian["y"][name].structure for name in given]


def traced_kinds(output: Tensor, leaves: Sequence[Tensor]) -> list[str]:
    """As the step of a trace that is the whole function."""
    ends = [Primal(number, t.detach(), True, t) for number, t in enumerate((output, *leaves))]
    equation, results = Equation("call", (), 0, (0, 0)), (Result(ends[0], output),)
    step = Step("operation", equation, tuple(ends[1:]), (), tuple(leaves), results, None, list)
    return [each.structure for each in local_maps(step)]


def names_in(output: Tensor) -> set[str]:
    names, stack = set(), [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None:
            names.add(base_name(node.name()))
            stack += [edge for edge, _ in node.next_functions]
    return names


def check_large(output: Tensor, leaves: Sequence[Tensor], found: Sequence[LinearMap]) -> None:
    """Products with vectors in both directions, and some rows."""
    v = numbers(tuple(output.shape), 11).requires_grad_()
    pulled = torch.autograd.grad(output, leaves, v, create_graph=True, allow_unused=True)
    rows = places(output.numel(), (5,)).tolist()
    for x, each, grad in zip(leaves, found, pulled, strict=True):
        grad = torch.zeros_like(x) if grad is None else grad
        torch.testing.assert_close(each.pullback(v.detach()), grad.detach(), rtol=1e-8, atol=1e-8)
        places_, cols, values = each.entries()
        for row in rows:
            (expected,) = torch.autograd.grad(output.reshape(-1)[row], [x], retain_graph=True, allow_unused=True)
            expected = torch.zeros_like(x) if expected is None else expected
            mine = torch.zeros(x.numel(), dtype=x.dtype).index_add(0, cols[places_ == row], values[places_ == row])
            torch.testing.assert_close(mine, expected.reshape(-1), rtol=1e-8, atol=1e-8)
        u = numbers(tuple(x.shape), 12)
        pushed = (u.reshape(-1)[cols] * values).double()
        by_entries = torch.zeros(output.numel(), dtype=u.dtype).index_add(0, places_, pushed)
        torch.testing.assert_close(each.pushforward(u).reshape(-1), by_entries, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_rule_gives_the_same_kind_at_any_size(name):
    function, sizes = CASES[name]
    kinds, traced = [], []
    for shapes in sizes:
        output, leaves, found = maps_of(function, shapes)
        if output.numel() <= SMALL:
            for each, expected in zip(found, oracle(output, leaves), strict=True):
                check_map(each, expected)
        else:
            check_large(output, leaves, found)
        assert name.split(",")[0].split(" ")[0] in names_in(output)
        kinds.append([each.structure for each in found])
        traced.append(traced_kinds(output, leaves))
        if output.numel() <= SMALL:
            kinds.append(inspected_kinds(function, leaves))
    assert all(kind == kinds[0] for kind in kinds), kinds
    told = [kind for kind in traced if "unknown" not in kind]  # a few are too large for a trace
    assert all(kind == told[0] for kind in told), traced


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_is_trusted_gives_for_many_cotangents_what_it_gives_for_each(name):
    function, sizes = CASES[name]
    leaves = leaves_of([numbers(shape, k) for k, shape in enumerate(sizes[0])])
    output = function(*leaves)
    graph = read_graph(output, leaves)
    together = replace(sweep(graph), chunk=3, doubtful=False, light=False)
    cotangents = torch.stack([numbers(tuple(output.shape), seed) for seed in (1, 2, 3)])
    one_by_one, at_once = (gathered(replace(together, chunk=k), 3, lambda a, b: cotangents[a:b]) for k in (1, 3))
    same = all(
        (many is None) == (each is None) and (many is None or torch.allclose(many, each, equal_nan=True))
        for many, each in zip(at_once, one_by_one, strict=True)
    )
    assert graph.trusted != name.startswith("Cdist")
    assert same or name.startswith("Cdist")


def goes_one_by_one(function: Callable[..., Tensor], shapes: Shapes) -> bool:
    """Whether torch says so as many cotangents are given to the backward passes of a function."""
    leaves = leaves_of([numbers(shape, k) for k, shape in enumerate(shapes)])
    output = function(*leaves)
    pull = sweep(read_graph(output, leaves)).pull

    def task() -> object:
        return at_rows(lambda v: [g for g in pull(v) if g is not None], [torch.stack([output.detach()] * 3)])

    return bool(slow_rules(task))


@pytest.mark.filterwarnings("ignore")
def test_which_operations_take_cotangents_one_by_one():
    found = {name.partition(",")[0] for name, (function, sizes) in CASES.items() if goes_one_by_one(function, sizes[0])}
    assert found == SINGLE - {"Cummin"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (7, 7), (2, 3, 3), (2, 1, 4, 4)])
@pytest.mark.parametrize(
    "function",
    [
        torch.linalg.cholesky,
        lambda a: torch.linalg.cholesky(a, upper=True),
        torch.linalg.det,
        lambda a: torch.linalg.slogdet(a)[1],
        lambda a: torch.linalg.slogdet(-a)[0],
        torch.linalg.matrix_exp,
        lambda a: torch.linalg.matrix_exp(a / 100),
        lambda a: torch.linalg.matrix_exp(a * 0),
        torch.linalg.eigvalsh,
        lambda a: torch.linalg.eigh(a)[1],
        torch.linalg.svdvals,
        torch.linalg.pinv,
        lambda a: torch.linalg.pinv(a[..., :2, :]),
    ],
    ids=[
        "cholesky", "upper", "det", "slogdet", "sign", "exp", "exp of little", "exp of zero", "eigenvalues", "eigenvectors",
        "singular values", "pinv", "pinv, wide",
    ],
)
def test_formulas_of_matrices(function, shape, dtype):
    x = spd(numbers(shape, 3)).to(dtype).requires_grad_()
    output = function(x)
    (terms,) = accumulate(read_graph(output, [x]), Workspace())
    found = sum([term.matrix() for term in terms], x.new_zeros(output.numel(), x.numel())).detach()
    (expected,) = oracle(output, [x])
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-3, atol=(largest + 1) * torch.finfo(dtype).eps * 200)


def compare_local(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The maps made of local ones are torch's passes, and are zero where those are."""
    leaves = leaves_of(inputs)
    output = function(*leaves)
    found = accumulate(read_graph(output, leaves), Workspace())
    for x, terms, expected in zip(leaves, found, oracle(output, leaves), strict=True):
        matrix = sum([term.matrix() for term in terms], x.new_zeros(output.numel(), x.numel())).detach()
        torch.testing.assert_close(matrix, expected.reshape(matrix.shape), rtol=1e-4, atol=2e-5)
        assert not matrix[expected.reshape(matrix.shape) == 0].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_sampling_at_a_grid(mode, dtype):
    for padding, corners, shape in product(("zeros", "border", "reflection"), (True, False), ((2, 3, 4, 5), (1, 2, 1, 2))):
        grid = 2 * numbers((shape[0], 3, 2, 2), 8).tanh().to(dtype)
        sample = partial(F.grid_sample, mode=mode, padding_mode=padding, align_corners=corners)
        compare_local(sample, numbers(shape, 3).to(dtype), grid)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["linear", "bilinear", "bicubic", "trilinear"])
@pytest.mark.filterwarnings("ignore")
def test_interpolation(mode, dtype):
    shape = {"linear": (2, 1, 7), "trilinear": (1, 2, 3, 4, 2)}.get(mode, (1, 2, 5, 6))
    dims = len(shape) - 2
    sizes = ({"scale_factor": 1.7}, {"scale_factor": 0.7}, {"size": (9, 4, 3)[:dims]}, {"size": (1,) * dims})
    for size, corners, smooth in product(sizes, (True, False), (True, False) if mode[0] == "b" else (False,)):
        interpolate = partial(F.interpolate, mode=mode, align_corners=corners, antialias=smooth, **size)
        compare_local(interpolate, numbers(shape, 3).to(dtype))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 2, 8), {"mode": "nearest", "scale_factor": 1.1}),
        ((2, 1, 5), {"mode": "nearest", "scale_factor": 2.1}),
        ((1, 1, 2, 2, 5), {"mode": "nearest", "scale_factor": (1.0, 1.0, 1.1)}),
        ((1, 1, 4), {"mode": "nearest-exact", "size": 41}),
        ((1, 1, 2, 6), {"mode": "bicubic", "scale_factor": (1.0, 1.1)}),
        ((1, 2, 2, 9), {"mode": "bilinear", "scale_factor": (1.0, 1.1), "antialias": True}),
    ],
)
def test_resizing_is_derived_as_torch_goes_back(shape, options):
    """It rounds otherwise than on the way there, and copies what keeps its size."""
    for dtype in (torch.float64, torch.float32):
        compare_local(partial(F.interpolate, **options), numbers(shape, 3).to(dtype))


def test_what_is_sampled_of_large_axes(monkeypatch):
    """Few numbers are asked for, by no call for each place."""
    found = list[int]()
    read = windows.read_apart
    monkeypatch.setattr(windows, "read_apart", lambda *given: found.append(int(given[1].max()) + 1) or read(*given))
    monkeypatch.setattr(detect, "probe", None)
    compare_local(lambda x: F.interpolate(x, size=7, mode="linear"), numbers((1, 2, 3000), 3))
    x, grid = numbers((1, 1, 1100, 1000), 3).float(), torch.tensor([[0.3, -0.9], [1.0, 0.99]]).view(1, 1, 2, 2)
    for mode in ("bilinear", "bicubic"):
        compare_local(lambda x, mode=mode: F.grid_sample(x, grid, mode, align_corners=False), x)
    assert found == [2, 2, 2, 4, 4]


def test_half_precision_samples_at_places_of_its_own():
    grid = 2 * numbers((1, 30, 30, 2), 8).tanh().half()
    compare_local(lambda x: F.grid_sample(x, grid, "nearest", "border", align_corners=False), numbers((1, 1, 5, 23), 3).half())


def test_every_rule_has_a_case():
    names = {name.split(",")[0].split(" ")[0] for name in CASES}
    assert {RULES[name] for name in names | NO_CASE} == set(RULES.values())
    assert {*windows.RULES, *normalise.RULES, *movement.CALLS, *movement.BACK, *detect.RULES} - NO_CASE <= names


class Unknown(torch.autograd.Function):
    """x ↦ A·x along the last axis, a function that no rule knows."""

    @staticmethod
    def forward(ctx, x, a):
        ctx.a = a
        return x @ a.T

    @staticmethod
    def backward(ctx, v):
        return v @ ctx.a, None


@pytest.mark.parametrize(
    ("a", "kind"),
    [
        (torch.eye(6), "diagonal"),
        (torch.eye(6).flip(0), "block_diagonal"),  # its ones may be other numbers elsewhere
        (torch.eye(6)[[0, 0, 3]], "sparse"),
        (torch.ones(6, 6), "block_diagonal"),
        (torch.eye(6) + 1e-13 * torch.eye(6).roll(1, 0), "block_diagonal"),
    ],
)
@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_what_no_rule_knows_is_found_out(a, kind, batch):
    matrix = a.double()
    output, leaves, (found,) = maps_of(lambda x: Unknown.apply(x, matrix), [(*batch, 6)])
    expected = oracle(output, leaves)[0]
    check_map(found, expected)
    rows, cols, values = found.entries()
    assert torch.equal(torch.zeros_like(expected).index_put((rows, cols), values), expected), "a small entry was lost"
    assert found.structure != "dense"
    if kind != "sparse":
        assert found.structure == kind


def test_what_depends_on_everything_is_dense():
    matrix = numbers((7, 5), 0)
    _, _, (found,) = maps_of(lambda x: Unknown.apply(x, matrix), [(5,)])
    assert found.structure == "dense"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"),
        lambda x: F.unfold(x, 2),
        lambda x: F.pad(x, (1, 2, 0, 1), mode="circular"),
        lambda x: F.group_norm(x, 2),
        lambda x: F.batch_norm(x, None, None, training=True),
    ],
)
def test_other_dtypes(function, dtype):
    x = numbers((2, 4, 5, 6), 1).to(dtype).requires_grad_()
    output = function(x)
    work = Workspace()
    (terms,) = accumulate(read_graph(output, [x]), work)
    found = StructuredMap(tuple(output.shape), tuple(x.shape), terms, x.new_empty(0), work)
    expected = oracle(output, [x])[0].double()
    close = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.matrix().double(), expected, rtol=close, atol=close)
    assert found.structure != "dense"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
        lambda x: F.fold(F.unfold(x, 2), (4, 4), 2),
        lambda x: F.pixel_unshuffle(x, 2),
    ],
)
def test_linear_operations_do_not_mind_what_the_entries_are(function, value):
    x = numbers((1, 2, 4, 4), 1)
    plain, special = x.clone().requires_grad_(), x.clone()
    special[0, 1, 2, 3] = value
    special.requires_grad_()
    maps = []
    for leaf in (plain, special):
        output = function(leaf)
        work = Workspace()
        (terms,) = accumulate(read_graph(output, [leaf]), work)
        maps.append(StructuredMap(tuple(output.shape), tuple(leaf.shape), terms, leaf.new_empty(0), work))
    assert torch.equal(maps[0].matrix(), maps[1].matrix())
    assert maps[0].structure == maps[1].structure


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x: F.avg_pool2d(x.transpose(2, 3), 2), [(2, 3, 4, 6)]),
        (lambda x: F.interpolate(x.transpose(1, 2), size=3, mode="linear"), [(2, 5, 3)]),
        (lambda x: F.bilinear(x, x, numbers((2, 3, 3), 1)), [(4, 3)]),
        (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), [(2, 2, 4, 3)]),
        (lambda x: torch.cdist(x, 2 * x), [(2, 3, 2)]),
        (lambda x: F.avg_pool2d(x, 2), [(0, 3, 4, 6)]),
        (lambda x: F.pad(x, (1, 1), mode="reflect"), [(0, 3, 4)]),
        (lambda x: torch.linalg.det(x), [(0, 3, 3)]),
        (lambda x: torch.diag_embed(x), [(0,)]),
        (lambda x, y: F.mse_loss(x, y), [(), ()]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), [(2, 3, 4, 6)]),
        (lambda x: F.avg_pool2d(x, 2), [(3, 4, 6)]),
        (lambda x: F.batch_norm(x, None, None, training=True), [(5, 1)]),
        (lambda x, w: F.layer_norm(x, (3,), w).transpose(0, 1), [(1, 3), (3,)]),
        (lambda x: F.ctc_loss(x.log_softmax(2), torch.ones(2, 2, dtype=torch.long), (5, 5), (2, 2)), [(5, 2, 3)]),
        (lambda x: F.fold(x, (4, 4), 2, dilation=2, padding=1, stride=2), [(1, 8, 4)]),
        (lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), ceil_mode=True), [(1, 1, 6, 5)]),
        (lambda x: F.interpolate(x, scale_factor=(0.7, 2.3), mode="bilinear", recompute_scale_factor=False), [(1, 1, 6, 5)]),
        (lambda x: F.interpolate(x, size=(1, 9), mode="bicubic", align_corners=True), [(1, 1, 6, 5)]),
    ],
)
def test_other_uses(function, shapes):
    """Views, one tensor twice, no entries, no axes, odd parameters."""
    output, leaves, found = maps_of(function, shapes)
    for each, expected in zip(found, oracle(output, leaves), strict=True):
        check_map(each, expected)


def test_a_triangle_needs_no_large_pages(monkeypatch):
    """One of over two megabytes lies in them where the system has some."""
    x = torch.rand(1000)
    for _ in range(2):
        found = jvpcli.jacobian(lambda x: x.cumsum(0), x)["y", "x"].to_dense()
        assert torch.equal(found, torch.ones(1000, 1000).tril())
        monkeypatch.delattr("mmap.MADV_HUGEPAGE", raising=False)


@pytest.mark.parametrize("n", [3, 20])
def test_triangular_solves(n):
    """Their zeros are there at any point and size, whatever of the matrix is read, and from which side it is solved."""
    x = numbers((n, n), 3) + 9 * torch.eye(n, dtype=torch.float64)
    for upper, unit, left in product((False, True), repeat=3):
        b = numbers((n, 2) if left else (2, n), 4)
        function = partial(torch.linalg.solve_triangular, upper=upper, unitriangular=unit, left=left)
        maps = jvpcli.jacobian(lambda x, b, function=function: function(x * 2, b), x, b)
        expected = torch.autograd.functional.jacobian(lambda x, b, function=function: function(x * 2, b), (x, b))
        for found, matrix in zip(maps.values(), expected, strict=True):
            check_map(found, matrix.reshape(2 * n, -1))
            assert found.nnz == matrix.count_nonzero()
        to_x, to_b = (found.structure for found in maps.values())
        assert to_x not in ("dense", "unknown")
        assert to_b == ("strided_blocks" if left else "block_diagonal")
        (alone,) = jvpcli.jacobian(partial(function, x), b[:, :1] if left else b[:1]).values()
        assert alone.structure == "triangular"
    many = numbers((3, n, 2), 5)
    maps = jvpcli.jacobian(lambda x, b: torch.linalg.solve_triangular(x, b, upper=True), x, many)
    expected = torch.autograd.functional.jacobian(lambda x, b: torch.linalg.solve_triangular(x, b, upper=True), (x, many))
    for found, matrix in zip(maps.values(), expected, strict=True):
        check_map(found, matrix.reshape(6 * n, -1))


@pytest.mark.parametrize("n", [4, 60])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_products_with_matrices_that_list_their_entries(n, layout):
    """Against the same matrix written out; what it lists is all that there is, zeros among it too."""
    full = torch.where(numbers((n + 1, n), 1) > 1.2, numbers((n + 1, n), 2), 0.0)
    full[0, 1] = 3.0
    a = full.to_sparse(layout=layout)
    x, v, b = numbers((n, 3), 3), numbers((n,), 4), numbers((n + 1, 3), 5)
    cases = [
        (lambda a, x: a @ x.sin(), (x,)),
        (lambda a, v: a @ v.sin() + a @ v, (v,)),  # no entry is listed twice: they are added up
        (lambda a, b, x: torch.addmm(b, a, x, beta=2, alpha=3), (b, x)),
    ]
    if layout is torch.sparse_coo:
        cases += [
            (lambda a, x: torch.sparse.mm(a, x) if a.is_sparse else a @ x, (x,)),
            (lambda a, b: b.t() @ a, (b,)),
        ]
    for function, inputs in cases:
        maps = jvpcli.jacobian(partial(function, a), *inputs)
        expected = torch.autograd.functional.jacobian(partial(function, full), inputs)
        compare_local(partial(function, a), *inputs)
        for found, matrix in zip(maps.values(), expected, strict=True):
            check_map(found, matrix.reshape(prod(found.out_shape), -1))
            assert found.nnz == matrix.count_nonzero()
            assert found.structure not in ("dense", "unknown")
