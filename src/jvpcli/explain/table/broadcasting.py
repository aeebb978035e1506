"""Element-wise operations on shapes that don't broadcast, and those that do so unasked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from jvpcli.explain.shapes import aligned, broadcast, broadcast_table, clashes, likeness, listed, refit
from jvpcli.explain.table import commands
from jvpcli.explain.table.entry import Entry, Found, Words
from jvpcli.report import Shape

RULE = "Broadcasting aligns shapes from the right: two sizes fit if they are equal, or one of them is 1 or missing."


def sizes(found: Found) -> Words:
    """E31: two sizes at one axis."""
    a, b, axis = found.int("a"), found.int("b"), found.int("axis")
    title = f"Two shapes don't broadcast: {a} against {b} at axis {axis}"
    pair = _clashing(found.operands, {a, b})
    if pair is not None:
        return replace(together(found.operands, _named(*pair), ""), causes=_why_sizes_differ(a or 0, b or 0))
    cures = [
        "Print a.shape and b.shape, and write them under each other, aligned on the right.",
        "a[:, None]   # a new axis of length 1 at the end: (n,) becomes (n, 1), which fits any (n, m)",
        "b.unsqueeze(d), b.squeeze(d), b.T, b.reshape(…)   # so that equal axes stand under each other",
    ]
    if axis == 0:
        cures.append(f"a[:, None] + b   # for vectors: shape ({a}, {b}), every pair")
        cures += commands.inspect("a[:, None] + b", ("a", (a or 1,)), ("b", (b or 1,)))
    return Words(
        title,
        f"{RULE} At axis {axis} of the result (the first is 0) one operand has {a} and the other {b}.",
        _why_sizes_differ(a or 0, b or 0),
        tuple(cures),
    )


def _why_sizes_differ(a: int, b: int) -> tuple[str, ...]:
    return (
        "An axis is missing: (n,) against (n, m) aligns n with m; it must be (n, 1).",
        f"The lengths should agree and differ by {abs(a - b)}: an extra sample or token, a padding, a convolution that "
        f"shortens."
        if abs(a - b) <= 2
        else f"They were made from different things: {a} and {b} are a batch size, a number of features, a length?",
        "One of them is transposed, or stands for another batch.",
    )


Named = tuple[str, Shape]


def _clashing(operands: Sequence[Named], sizes_: set[int | None]) -> tuple[Named, Named] | None:
    """The two operands that have these sizes at one axis; None if it is something inside the function that clashes."""
    for (name, first), (other, second) in combinations(operands, 2):
        if any({first[axis], second[axis]} == sizes_ for axis in clashes(first, second)):
            return (name, first), (other, second)
    return None


def _named(first: Named, second: Named) -> str:
    axis = clashes(first[1], second[1])[0]
    where = "the last axis" if axis == -1 else f"axis {axis}"
    return f"{first[0]} and {second[0]} don't broadcast: {first[1][axis]} against {second[1][axis]} at {where}"


def together(operands: Sequence[tuple[str, Shape]], title: str, meaning: str) -> Words:
    """Operands of known shapes that don't broadcast: a table, and the axes that would make two of them fit."""
    table = "\n".join(broadcast_table(operands))
    (a, first), (b, second) = next(
        (x, y) for i, x in enumerate(operands) for y in operands[i + 1 :] if broadcast(x[1], y[1]) is None
    )
    repairs = [f"{b}{new}   # {broadcast(first, _with_axes(second, new))}" for new in aligned(second, first)][:2]
    repairs += [f"{a}{new}" for new in aligned(first, second)][:1]
    bad = clashes(first, second)
    where = f" At axis {bad[0]} they have {first[bad[0]]} and {second[bad[0]]}." if bad else ""
    return Words(
        title,
        f"{meaning}{RULE}{where}\n{table}",
        (
            "An axis of length 1 is missing, or stands at the wrong end.",
            "One of them is transposed, or stands for another batch.",
        ),
        (*repairs, "a.shape, b.shape printed before the line"),
    )


def _with_axes(shape: Shape, new: str) -> Shape:
    marks = [mark.strip() for mark in new.strip("[]").split(",")]
    sizes_ = iter(shape)
    made = [1 if mark == "None" else next(sizes_) for mark in marks]
    return (*made, *sizes_)


def output_shape(found: Found) -> Words:
    """An in-place operation whose result is larger than its target."""
    target, result = found.shape("target"), found.shape("result")
    return Words(
        f"An in-place result of shape {result} doesn't fit into {target}",
        f"a += b, a.add_(b) and out= write the result into a tensor that exists: it has shape {target}, but a and b "
        f"broadcast to {result}. "
        "In place the left operand can't grow.",
        (
            "The operand on the right has more axes: a batch axis, or (n, 1) against (n,).",
            "An accumulator was made with too small a shape.",
        ),
        (
            "a = a + b   # out of place: the result is a new, larger tensor",
            f"a = torch.zeros({listed(result) if result else '()'})   # an accumulator as large as the result",
            "a += b.sum(0)   # if the extra axis is to be summed away",
        ),
    )


def expanded(found: Found) -> Words:
    """expand, broadcast_to, or an assignment, to a shape that doesn't fit."""
    size, existing, axis = found.int("size"), found.int("existing"), found.int("axis")
    target, have = found.shape("target"), found.shape("have")
    shapes = f" from {have} to {target}" if target is not None and have is not None else ""
    added = [name for name, shape in found.operands if shape == have]
    if found.factors is not None and len(found.operands) > 2 and added and target is not None:
        return Words(
            f"{added[-1]} can't be added to the product: its size {existing} is not {size}",
            f"The product has shape {target}, and {added[-1]}, of shape {have}, must broadcast to it: at axis {axis} it "
            f"needs {size} entries (one for each output feature), or 1.",
            ("The bias belongs to a layer of another size.",),
            (f"a bias of shape ({size},)",),
        )
    return Words(
        f"A tensor can't be expanded{shapes}: {existing} is not {size}",
        f"Only axes of length 1 can be expanded. At axis {axis} the target has {size} and the tensor has {existing}.",
        (
            "A bias or weight belongs to a layer of another size (F.linear, addmm: the bias needs one entry for each "
            "output feature).",
            "x[…] = value: the value hasn't as many entries as the place that it goes to.",
            "expand was taken for repeat or reshape.",
        ),
        (
            *_expansions(have, target),
            "x.repeat(…)   # copies whole axes; x.reshape(…) rearranges; expand only stretches axes of length 1",
        ),
    )


def _expansions(have: Shape | None, target: Shape | None) -> tuple[str, ...]:
    if have is None or target is None:
        return ("x[:, None].expand(…)   # make the axis of length 1 first",)
    return tuple(
        f"x{new}.expand({listed(target)})"
        for new in aligned(have, target)
        if broadcast(_with_axes(have, new), target) == target
    )[:2]


def sizes_provided(found: Found) -> Words:
    """expand to fewer axes than the tensor has."""
    have, size = found.shape("have"), found.shape("target")
    return Words(
        f"expand({listed(size) if size else '…'}) names fewer axes than the tensor has",
        f"expand needs a size for each axis (shape {have}), and may add new ones in front; {size} is shorter."
        if have is not None
        else "expand needs a size for each axis, and may add new ones in front.",
        ("The tensor has a batch axis that was forgotten.",),
        ("x.expand(-1, 5)   # -1 keeps an axis as it is", "x.expand_as(y)"),
    )


def unasked(found: Found) -> Words:
    """E45: a loss that broadcasts its target."""
    target, given = found.shape("target"), found.shape("given")
    both = broadcast(target or (), given or ())
    fit = refit(given or (), target or ()) if given is not None and target is not None else None
    back = refit(target or (), given or ()) if given is not None and target is not None else None
    square = ""
    if both is not None and both not in (target, given):
        square = (
            f" Together they broadcast to {both}: every prediction is compared with every target, and the mean of "
            f"that is a plausible but wrong "
            "loss; trained with it a model learns to predict the mean."
        )
    return Words(
        f"The loss compares shapes {given} and {target}",
        f"The prediction has shape {given}, the target {target}; a loss compares entry by entry, so they should be "
        f"equal.{square}",
        (
            "The model's last layer gives (n, 1), the targets are (n,).",
            "The target has lost or gained an axis in the data loader.",
        ),
        (
            *(("loss_fn(pred.squeeze(-1), target)   # (n, 1) becomes (n,)",) if given and given[-1] == 1 else ()),
            *((f"loss_fn(pred, target{back})   # the target in the shape {given}",) if back else ()),
            *((f"loss_fn(pred{fit}, target)",) if fit and not (given and given[-1] == 1) else ()),
            "assert pred.shape == target.shape   # in the training loop",
            *commands.inspect("F.mse_loss(p, t.reshape(p.shape))", ("p", given or (1,)), ("t", target or (1,)))[
                : 1 if back else 0
            ],
        ),
    )


def same_size(found: Found) -> Words:
    """Losses that refuse different shapes."""
    target, given = found.shape("target"), found.shape("given")
    if target is None or given is None:
        return Words(
            "Prediction and target have different numbers of entries",
            "This loss compares entry by entry.",
            ("The target belongs to another batch, or is not one-hot.",),
            ("print(pred.shape, target.shape)",),
        )
    back = refit(target, given)
    return Words(
        f"Prediction {given} and target {target} must have the same shape",
        f"This loss compares entry by entry and does not broadcast. The target is {likeness(target, given)}.",
        (
            "The model's last layer gives (n, 1), the targets are (n,).",
            "Class numbers are passed where a probability for each class is needed.",
        ),
        (
            *((f"loss_fn(pred, target{back}.float())   # shape {given}",) if back else ()),
            *(("loss_fn(pred.squeeze(-1), target.float())",) if given and given[-1] == 1 else ()),
            "F.one_hot(target, classes).float()   # class numbers into one entry for each class",
        ),
    )


def refused(found: Found) -> Words:
    """Other messages that name two shapes which don't broadcast."""
    first, second = found.shape("first"), found.shape("second")
    if first is None or second is None:
        return Words(
            "Shapes that don't broadcast",
            RULE,
            ("An axis of length 1 is missing, or stands at the wrong end.",),
            ("a.shape, b.shape printed before the line", "b[:, None]"),
        )
    title = f"Shapes {first} and {second} don't broadcast"
    if broadcast(first, second) is not None:
        return Words(
            title, f"{RULE} {second} doesn't become {first}.", ("It has an axis more, or a longer one.",), ("b[0]",)
        )
    return together([("a", first), ("b", second)], title, f"{first} and {second} are combined entry by entry. ")


def mismatched_argument(found: Found) -> Words:
    """broadcast_shapes' and torch.compile's wording: one length, and the shape so far."""
    second = found.shape("second")
    return Words(
        f"The shape {second} doesn't broadcast with {found.shape('first')}",
        f"{RULE} Argument number {found.int('index')} has {found.int('size')} at axis {found.int('axis')}, where "
        f"those before it need "
        f"{found.shape('first')}.",
        ("An axis of length 1 is missing.", "An argument is transposed or belongs to another batch."),
        ("a[:, None]", "torch.broadcast_shapes(a.shape, b.shape)   # tries it"),
    )


ENTRIES = (
    Entry(
        "broadcast-sizes",
        (
            "The size of tensor {:word} ({a:int}) must match the size of tensor {:word} ({b:int}) at non-singleton "
            "dimension {axis:int}",
        ),
        sizes,
    ),
    Entry(
        "in-place-broadcast",
        ("output with shape {target:shape} doesn't match the broadcast shape {result:shape}",),
        output_shape,
    ),
    Entry(
        "expand-size",
        (
            "The expanded size of the tensor ({size:int}) must match the existing size ({existing:int}) at "
            "non-singleton dimension {axis:int}. "
            "Target sizes: {target:shape}. Tensor sizes: {have:shape}",
            "The expanded size of the tensor ({size:int}) must match the existing size ({existing:int}) at "
            "non-singleton dimension {axis:int}",
        ),
        expanded,
    ),
    Entry(
        "expand-axes",
        (
            "expand({:word}{{{have:shape}}}, size={target:shape}): the number of sizes provided ({:int}) must be "
            "greater or equal to the number of "
            "dimensions in the tensor ({:int})",
            "the number of sizes provided ({:int}) must be greater or equal to the number of dimensions in the tensor "
            "({:int})",
        ),
        sizes_provided,
    ),
    Entry(
        "loss-broadcast",
        (
            "Using a target size ({target:shape}) that is different to the input size ({given:shape}). This will "
            "likely lead to incorrect results "
            "due to broadcasting{?. Please ensure they have the same size.}",
        ),
        unasked,
    ),
    Entry(
        "loss-shapes",
        (
            "Using a target size ({target:shape}) that is different to the input size ({given:shape}) is deprecated",
            "Target size ({target:shape}) must be the same as input size ({given:shape})",
            "Target and input must have the same number of elements. target nelement ({:int}) != input nelement "
            "({:int})",
        ),
        same_size,
    ),
    Entry(
        "index-assignment",
        (
            "shape mismatch: value tensor of shape {second:shape} cannot be broadcast to indexing result of shape "
            "{first:shape}",
        ),
        lambda found: Words(
            f"A value of shape {found.shape('second')} doesn't fit the place of shape {found.shape('first')}",
            f"x[index] = value: the index selects a place of shape {found.shape('first')}, and the value, of shape "
            f"{found.shape('second')}, must "
            f"broadcast to it. {RULE}",
            (
                "One value for each selected row is given: it needs a last axis of length 1.",
                "The index selects another number of rows.",
            ),
            (
                "x[index] = value[:, None]   # one value for each row",
                "x[index].shape   # what the place looks like",
            ),
        ),
    ),
    Entry(
        "index-tensors",
        ("shape mismatch: indexing tensors could not be broadcast together with shapes {first:shape}, {second:shape}",),
        lambda found: Words(
            f"Index tensors of shapes {found.shape('first')} and {found.shape('second')} don't broadcast",
            "x[rows, columns] pairs the index tensors entry by entry (rows[0] with columns[0], …), so they must "
            "broadcast with each other. "
            f"Their shapes are {found.shape('first')} and {found.shape('second')}.",
            (
                "All combinations of rows and columns are meant, not pairs.",
                "The lists of rows and columns differ in length.",
            ),
            (
                "x[rows[:, None], columns]   # all combinations: a block",
                "x[rows][:, columns]   # the same in two steps",
            ),
        ),
    ),
    Entry(
        "broadcast-refused",
        (
            "shape mismatch: objects cannot be broadcast to a single shape",
            "shapes {first:shape} and {second:shape} are not broadcastable",
            "shape {first:shape} is not broadcastable to {second:shape}",
            "expected {first:shape} to be broadcastable to {second:shape}",
        ),
        refused,
    ),
    Entry(
        "broadcast-argument",
        (
            "Attempting to broadcast a dimension of length {size:int} at {axis:int}! Mismatching argument at index "
            "{index:int} had {second:shape}; "
            "but expected shape should be broadcastable to {first:shape}",
        ),
        mismatched_argument,
    ),
)
