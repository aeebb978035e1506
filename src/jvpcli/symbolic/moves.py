"""Operations that move entries or add them up: linear maps whose matrices are of zeros and ones, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jvpcli.symbolic.forms import NoClosedFormError

Params = tuple[Any, ...]


@dataclass(frozen=True)
class Moving:
    """Code that is appended to a tensor (or formats it) for the operation and for its transpose, behind so many other axes.

    Without a `backward` the operation is its own transpose (`forms.adjoint`).
    KIND in it stands for what makes a tensor of the kind of the inputs.
    """

    forward: Callable[[Params, int], str]
    backward: Callable[[Params, int], str] | None = None

    def code(self, adjoint: bool, params: Params, before: int) -> str:
        """The code, of the operation or of its transpose."""
        return (self.backward if adjoint and self.backward is not None else self.forward)(params, before)


def _shape(sizes: tuple[int, ...], before: int) -> str:
    _refuse_others(before)
    return f".reshape({_sizes(sizes)})"


def _dims(dims: tuple[int, ...], rank: int) -> str:
    """Dimensions counted from behind, since other axes may stand in front."""
    return ", ".join(str(d - rank) for d in dims)


MOVES: Mapping[str, Moving] = {
    # params: shape before, shape after
    "reshape": Moving(lambda p, b: _shape(p[1], b), lambda p, b: _shape(p[0], b)),
    # params: dims, rank
    "flip": Moving(lambda p, b: f".flip({_dims(p[0], p[1])})"),
    # params: shift, dim, rank
    "roll": Moving(lambda p, b: f".roll({p[0]}, {p[1] - p[2]})", lambda p, b: f".roll({-p[0]}, {p[1] - p[2]})"),
    # params: diagonal
    "tril": Moving(lambda p, b: f".tril({p[0] or ''})"),
    "triu": Moving(lambda p, b: f".triu({p[0] or ''})"),
    # params: dim, rank
    "cumsum": Moving(
        lambda p, b: f".cumsum({p[0] - p[1]})",
        lambda p, b: f".flip({p[0] - p[1]}).cumsum({p[0] - p[1]}).flip({p[0] - p[1]})",
    ),
    # params: widths as of torch.nn.functional.pad, slices that undo it
    "pad": Moving(lambda p, b: f"torch.nn.functional.pad({{0}}, {p[0]})", lambda p, b: f"[..., {p[1]}]"),
    # params: slices, widths that undo it
    "slice": Moving(lambda p, b: f"[..., {p[0]}]", lambda p, b: f"torch.nn.functional.pad({{0}}, {p[1]})"),
    # params: for each entry of the result which entry it is, counted from 1 (0: none), shape before, shape after, what none gives
    "pick": Moving(lambda p, b: _picked(p, b), lambda p, b: _spread(p, b)),
    # params: rows, columns and values of the entries of the matrix that are not zero, shape before, shape after
    # params: kernel, sizes before, where windows stand, stride, padding, dilation
    "windows": Moving(lambda p, b: _windows(*p), lambda p, b: _overlaid(b, *p)),
    "weigh": Moving(
        lambda p, b: _weighed(p[0], p[1], p[2], p[4], b), lambda p, b: _weighed(p[1], p[0], p[2], p[3], b)
    ),
}


def _windows(kernel: Params, sizes: Params, counts: Params, stride: Params, padding: Params, dilation: Params) -> str:
    """Windows that move over the last axes: where each stands, and then its entries."""
    widths = tuple(w for pad in reversed(padding) for w in (pad, pad))
    text = f"torch.nn.functional.pad({{0}}, {widths})" if any(padding) else "{0}"
    for k, step, gap in zip(kernel, stride, dilation, strict=True):  # each axis in its turn is the first of those that are left
        text += f".unfold({-len(kernel)}, {gap * (k - 1) + 1}, {step})" + f"[..., ::{gap}]" * (gap > 1)
    return text if text.startswith("torch") else text.removeprefix("{0}")


def _overlaid(
    before: int, kernel: Params, sizes: Params, counts: Params, stride: Params, padding: Params, dilation: Params
) -> str:
    """Windows added up where they stand: a transposed convolution with each entry of a window as a channel of its own."""
    if before > 1:
        raise NoClosedFormError("windows are added up behind other axes, for which there is no code")
    n, entries = len(kernel), math.prod(kernel)
    channels = f"{{0}}.flatten({-n}).movedim(-1, {before})"
    each = f"torch.eye({entries})KIND.reshape({entries}, 1, {_sizes(kernel)})"
    options = transposing(kernel, sizes, counts, stride, padding, dilation)
    return f"torch.nn.functional.conv_transpose{n}d({channels}, {each}{options})[{':, ' * before}0]"


def convolving(stride: Params, padding: Params, dilation: Params) -> str:
    """The options of a convolution, as far as they are not what is taken without them."""
    usual = {"stride": 1, "padding": 0, "dilation": 1}
    given = zip(usual, (stride, padding, dilation), strict=True)
    return "".join(f", {name}={_short(own)}" for name, own in given if set(own) != {usual[name]})


def transposing(kernel: Params, sizes: Params, counts: Params, stride: Params, padding: Params, dilation: Params) -> str:
    """The options of the transposed convolution that gives back the sizes that there were."""
    more = tuple(
        size - ((count - 1) * step - 2 * pad + gap * (k - 1) + 1)
        for size, count, step, pad, gap, k in zip(sizes, counts, stride, padding, dilation, kernel, strict=True)
    )
    return convolving(stride, padding, dilation) + (f", output_padding={_short(more)}" if any(more) else "")


def _short(each: Params) -> str:
    return str(each[0] if len(set(each)) == 1 else each)


def _picked(params: Params, before: int) -> str:
    places, _, shape, *fill = params
    _refuse_others(before)
    value = f", value={_number(fill[0])}" if fill else ""
    flat = f"torch.nn.functional.pad(torch.ravel({{0}}), (1, 0){value})[{_positions(places)}]"
    return f"{flat}.reshape({_sizes(shape)})"


def _spread(params: Params, before: int) -> str:
    places, shape, *_ = params
    size, taken = math.prod(shape) + 1, [p for p in places if p]
    if len(set(taken)) == len(taken):  # no entry is picked twice: each is picked back
        back = {p: k for k, p in enumerate(places, 1)}
        return _picked((tuple(back.get(p, 0) for p in range(1, size)), (), shape), before)
    _refuse_others(before)
    flat = f"torch.zeros({size})KIND.index_add(0, {_positions(places)}, torch.ravel({{0}}))[1:]"
    return f"{flat}.reshape({_sizes(shape)})"


def _weighed(rows: Params, columns: Params, weights: Params, shape: tuple[int, ...], before: int) -> str:
    _refuse_others(before)
    factor = f"torch.tensor({list(weights)}, dtype=torch.float64)KIND*"
    picked = f"torch.ravel({{0}})[{_positions(columns)}]"
    flat = f"torch.zeros({math.prod(shape)})KIND.index_add(0, {_positions(rows)}, {factor}{picked})"
    return f"{flat}.reshape({_sizes(shape)})"


def _positions(places: Params) -> str:
    return f"torch.tensor({list(places)})" if places else "torch.tensor([], dtype=torch.long)"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"{'-' * (value < 0)}torch.inf"


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape)) or "()"


def _refuse_others(before: int) -> None:
    if before:
        raise NoClosedFormError("entries are picked behind other axes, for which there is no code")
