"""What the operator database has no samples of, though an expression may call it: in-place forms, raw twins, the rest by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from operator_samples import Spelling, Writer

from jvpcli.language import catalog


@dataclass(frozen=True)
class Named:
    """An operator that the database does not have, by its name."""

    name: str
    spelling: Spelling | None = None
    op: Any = None
    variant_test_name: str = ""


SUFFIXES = ("", "_", "_with_indices", "_copy")
NAMESPACES = ("torch.", "torch.nn.functional.", "torch.linalg.", "torch.special.", "torch.fft.")
SYMBOLS = ("+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>", "==", "<")


def relatives(operator: Any, known: set[str]) -> Iterator[Named]:
    """The functions and methods of the catalogue that take what this operator takes and are not `known` themselves."""
    bases = {operator.name.rpartition(".")[2], *(alias.name.rpartition(".")[2] for alias in operator.aliases)}
    for name in sorted(base + suffix for base in bases for suffix in SUFFIXES):
        for path in (space + name for space in NAMESPACES):
            if path not in known and catalog.is_function(path):
                yield Named(path.removeprefix("torch."), _in_place(path) if name.endswith("_") else None)
        if f"torch.{name}" not in known and name.endswith("_") and catalog.is_method(name):
            yield Named(name, _method_in_place(name))


def _fresh(w: Writer, value: Any) -> str:
    """A tensor that may be changed: a copy where autograd watches the input itself."""
    watched = isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())
    return f"{w.text(value)}.clone()" if watched else w.text(value)


def _in_place(path: str) -> Spelling:
    short = path.replace("torch.nn.functional.", "F.")
    return lambda w, value, arguments, keywords: f"{short}({_fresh(w, value)}, {w.call(arguments, keywords)})"


def _method_in_place(name: str) -> Spelling:
    return lambda w, value, arguments, keywords: f"{_fresh(w, value)}.{name}({w.call(arguments, keywords)})"


def _method(name: str) -> Spelling:
    return lambda w, value, arguments, keywords: f"{w.text(value)}.{name}({w.call(arguments, keywords)})"


def _between(symbol: str) -> Spelling:
    return lambda w, value, arguments, keywords: f"({w.text(value)}) {symbol} ({w.text(arguments[0])})"


def _assigned(w: Writer, value: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    return f"y = {_fresh(w, value)}; y[{w.text(arguments[0])}] = {w.text(arguments[1])}; y*1"


def _changed_then_read(name: str) -> Spelling:
    """An in-place view, and what is in the memory that it shows."""
    return lambda w, value, arguments, keywords: (
        f"y = {_fresh(w, value)}; y.{name}({w.call(arguments, keywords)}); y*1"
    )


def by_hand() -> list[tuple[Named, list[tuple[Any, ...]]]]:
    """Operators with arguments that they accept: the first is the input, a dictionary at the end the keywords."""
    torch.manual_seed(1)
    r, i = torch.randn, torch.tensor
    weights = lambda gates: [r(gates * 2, 3), r(gates * 2, 2), r(gates * 2), r(gates * 2)]  # noqa: E731
    flags = (True, 1, 0.0, False, False, False)
    recurrent = [
        (Named(name), [(r(4, 2, 3), r(1, 2, 2), weights(gates), *flags),
                       (r(6, 3), i([2, 2, 1, 1]), r(1, 2, 2), weights(gates), True, 1, 0.0, False, False)])
        for name, gates in (("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1))
    ]  # fmt: skip
    cells = [
        (Named(name), [(r(2, 3), r(2, 2), *weights(gates))])
        for name, gates in (("gru_cell", 3), ("rnn_tanh_cell", 1), ("rnn_relu_cell", 1))
    ]
    state = (r(1, 2, 2), r(1, 2, 2))
    windows = [
        (Named(f"{name}_window"), [(5,), (4, False), (3, True, {"dtype": torch.float64})])
        for name in ("bartlett", "blackman", "hamming", "hann", "kaiser")
    ]
    binary = [
        (Named(f"operator {symbol}", _between(symbol)),
         [(i([5, -3, 2]), i([2, 7, 1])), (r(3), r(3)), (i([5, -3, 2]), 3), (7, i([1, 2, 3])), (r(2, 2), r(2, 2))])
        for symbol in SYMBOLS
    ]  # fmt: skip
    image = r(1, 2, 5, 5)
    return [
        *recurrent, *cells, *windows, *binary,
        (Named("lstm"), [(r(4, 2, 3), state, weights(4), *flags),
                         (r(6, 3), i([2, 2, 1, 1]), state, weights(4), True, 1, 0.0, False, False)]),
        (Named("lstm_cell"), [(r(2, 3), (r(2, 2), r(2, 2)), *weights(4))]),
        (Named("as_strided_", _changed_then_read("as_strided_")), [(r(16), (2, 3), (4, 1), 1), (i([1, 2, 3, 4]), (2,), (1,))]),
        (Named("t_", _changed_then_read("t_")), [(r(2, 3),)]),
        (Named("transpose_", _changed_then_read("transpose_")), [(r(2, 3), 0, 1)]),
        (Named("squeeze_", _changed_then_read("squeeze_")), [(r(2, 1, 3), 1)]),
        (Named("unsqueeze_", _changed_then_read("unsqueeze_")), [(r(2, 3), 1)]),
        (Named("swapaxes_", _changed_then_read("swapaxes_")), [(r(2, 3), 0, 1)]),
        (Named("segment_reduce"), [(r(4, 2), "sum", {"lengths": i([1, 3])}),
        (r(4), "max", {"lengths": i([2, 2]), "initial": 1.0}),
                                   (r(4, 2), "mean", {"offsets": i([0, 1, 4])}),
                                   (r(2, 4), "min", {"lengths": i([[1, 3], [2, 2]]), "axis": 1})]),
        (Named("nn.functional.fold"), [(r(1, 8, 9), (4, 4), (2, 2)), (r(1, 4, 4), (2, 2), 1, {"padding": 0}),
                                       (r(1, 8, 4), (4, 4), (2, 2), {"dilation": 1, "padding": 0, "stride": 2})]),
        (Named("repeat_interleave"), [(i([1, 2, 0]),), (r(3), i([1, 0, 2])), (r(2, 2), 2, {"dim": 1}),
        (i([1, 2]), {"output_size": 3})]),
        (Named("grid_sampler"), [(image, r(1, 3, 3, 2), 0, 0, True), (image, r(1, 3, 3, 2), 1, 1, False),
        (r(1, 1, 3, 3, 3), r(1, 2, 2, 2, 3), 0, 2, True)]),
        (Named("affine_grid_generator"), [(r(1, 2, 3), (1, 2, 3, 3), True)]),
        (Named("convolution"), [(image, r(2, 2, 2, 2), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
                                (image, r(2, 2, 2, 2), r(2), [2, 1], [1, 0], [1, 2], True, [0, 0], 1)]),
        (Named("conv_tbc"), [(r(4, 2, 3), r(2, 3, 2), r(2), 1)]),
        (Named("max_pool2d"), [(image, (2, 2), (1, 1), (0, 0), (1, 1), True)]),
        (Named("max_pool3d"), [(r(1, 1, 3, 3, 3), 2, 1, 1, 1, False)]),
        (Named("max_pool1d"), [(r(1, 2, 6), 3, 2, 1, 1, True)]),
        (Named("avg_pool1d"), [(r(1, 2, 6), 3, 2, 1, True, False)]),
        (Named("nn.functional.lp_pool1d"), [(r(1, 2, 6), 2, 3, 2)]),
        (Named("nn.functional.lp_pool2d"), [(image, 2, (2, 2), 1)]),
        (Named("nn.functional.lp_pool3d"), [(r(1, 1, 3, 3, 3), 2, 2, 1)]),
        (Named("nn.functional.upsample"), [(image, (3, 4)), (image, None, 2), (image, None, (0.5, 2.0), "bilinear")]),
        (Named("ctc_loss"), [(r(5, 2, 4).log_softmax(2), i([[1, 2], [3, 1]]), i([5, 4]), i([2, 1])),
        (r(5, 2, 4).log_softmax(2), i([1, 2, 3]), (5, 5), (2, 1), 0, 1, True)]),
        (Named("embedding"), [(r(4, 2), i([1, 0, 3]), 1, False, False)]),
        (Named("embedding_bag"), [(r(4, 2), i([1, 0, 3]), i([0, 2]), False, 0),
        (r(4, 2), i([1, 0, 3]), i([0, 2]), False, 2, False, None, True, 1),
        (r(4, 2), i([1, 0, 3]), i([0, 2]), False, 1, False, r(3))]),
        (Named("embedding_renorm_", _in_place("torch.embedding_renorm_")), [(r(4, 2), i([1, 0, 3]), 0.5, 2.0)]),
        (Named("batch_norm"), [(r(3, 2), r(2), r(2), r(2), r(2), False, 0.1, 1e-5, False),
        (r(3, 2, 2), None, None, None, None, True, 0.1, 1e-5, False)]),
        (Named("instance_norm"), [(r(3, 2, 4), r(2), r(2), None, None, True, 0.1, 1e-5, False),
        (r(3, 2, 4), None, None, r(2), r(2), False, 0.1, 1e-5, False)]),
        (Named("group_norm"), [(r(3, 4, 2), 2, r(4), r(4))]),
        (Named("native_group_norm"), [(r(3, 4, 2), r(4), r(4), 3, 4, 2, 2, 1e-5)]),
        (Named("layer_norm"), [(r(3, 4), (4,), r(4), r(4))]),
        (Named("native_layer_norm"), [(r(3, 4), (4,), r(4), r(4), 1e-5)]),
        (Named("native_batch_norm"), [(r(3, 2), r(2), r(2), r(2), r(2), True, 0.1, 1e-5)]),
        (Named("native_dropout"), [(r(3, 4), 0.5, True)]),
        (Named("native_norm"), [(r(3, 4), 2)]),
        (Named("norm_except_dim"), [(r(3, 4), 2, 0), (r(3, 4, 2), 2, 1)]),
        (Named("frobenius_norm"), [(r(3, 4), [1], True)]),
        (Named("nuclear_norm"), [(r(3, 4), [0, 1], True)]),
        (Named("slice_inverse"), [(r(2, 3), r(6, 3), 0, 0, 6, 3)]),
        (Named("slice_scatter"), [(r(6, 3), r(2, 3), 0, 0, 6, 3)]),
        (Named("binomial"), [(torch.tensor([3.0, 5.0]), torch.tensor([0.2, 0.5]))]),
        (Named("poisson"), [(torch.rand(4),)]),
        (Named("multinomial"), [(torch.rand(4), 2, True), (torch.rand(2, 4), 3)]),
        (Named("chain_matmul"), [(r(2, 3), r(3, 2), r(2, 2))]),
        (Named("lobpcg"), [(torch.eye(9), 2), (torch.eye(9), 1, None, r(9, 1), 3)]),
        (Named("prelu"), [(r(2, 3), r(3))]),
        (Named("pdist"), [(r(4, 2), 2.0)]),
        (Named("bilinear"), [(r(2, 3), r(2, 2), r(4, 3, 2), r(4))]),
        (Named("pixel_shuffle"), [(r(1, 8, 2, 2), 2)]),
        (Named("pixel_unshuffle"), [(r(1, 2, 4, 4), 2)]),
        (Named("channel_shuffle"), [(r(1, 4, 2, 2), 2)]),
        (Named("native_channel_shuffle"), [(r(1, 4, 2, 2), 2)]),
        (Named("matrix_power"), [(r(3, 3), 3)]),
        (Named("vander"), [(r(3), 4, True)]),
        (Named("rand"), [(2, 3), ((2, 3),)]),
        (Named("randperm"), [(5,)]),
        (Named("range"), [(0, 5, 2)]),
        (Named("fft.fftfreq"), [(5, 0.5)]),
        (Named("fft.rfftfreq"), [(5, 0.5)]),
        (Named("tensor"), [([[1, 2], [3, 4]],), ([1.0, 2],)]),
        (Named("orgqr"), [(r(4, 3), r(3))]),
        (Named("random_", _method_in_place("random_")), [(r(4), 0, 9), (i([1, 2, 3]), 5)]),
        (Named("fill_diagonal_", _method_in_place("fill_diagonal_")), [(r(4, 3), 1.0, True)]),
        (Named("put_", _method_in_place("put_")), [(r(4), i([0, 2]), r(2), True)]),
        (Named("renorm_", _method_in_place("renorm_")), [(r(4, 2), 2, 0, 1.0)]),
        (Named("unfold", _method("unfold")), [(r(6), 0, 3, 2)]),
        (Named("new_tensor", _method("new_tensor")), [(r(4), [1, 2])]),
        (Named("type", _method("type")), [(r(4), torch.int64)]),
        (Named("setitem", _assigned), [(r(4, 3), i([0, 2]), r(2, 3)), (r(4, 3), (slice(0, 3, 2), 1), 1.0),
        (r(4), i([True, False, True, True]), r(3)), (i([1, 2, 3]), -1, 7)]),
    ]  # fmt: skip


def as_arguments(given: Sequence[Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The input, the other arguments, and the keywords of one line of the table above."""
    keywords = given[-1] if isinstance(given[-1], dict) else {}
    first, *rest = given[:-1] if keywords else given
    return first, tuple(rest), keywords
