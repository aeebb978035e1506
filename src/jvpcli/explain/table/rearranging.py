"""reshape and view, cat and stack, permute, split, repeat: shapes that are rearranged."""

from __future__ import annotations

import re
from math import prod

from jvpcli.explain.shapes import counted, divisors_with_guess, listed
from jvpcli.explain.table import commands
from jvpcli.explain.table.entry import Entry, Found, Words, says
from jvpcli.report import Shape


def invalid_shape(found: Found) -> Words:
    """E35: the target has another number of entries."""
    target, size = _signed(found.text("target")), found.int("size") or 0
    known = [length for length in target if length != -1]
    needs = prod(known)
    factors = " · ".join(map(str, known)) or "1"
    counted_ = factors if len(known) < 2 else f"{factors} = {needs}"
    guesses = divisors_with_guess(target, size)
    if -1 in target:
        why = f"-1 stands for whatever is left, and {size} entries over {counted_} is not a whole number."
    else:
        why = f"The shape {target} has {counted_} entries, the tensor has {size}."
    return Words(
        f"{size} entries can't be reshaped to {target}",
        f"{found.owner}reshape and view rearrange the entries; their number stays the same. {why}",
        (
            "The size of the input changed: another image size, sequence length or number of features in front of a "
            "flatten.",
            "The last batch is smaller than the others, and the batch size is written as a number.",
            "x.view(-1, n) gathers entries of different samples when n is wrong, without an error; this is the case "
            "where it shows.",
        ),
        (
            *(f"x.reshape({listed(guess)})   # -1 is computed: {size // -prod(guess)}" for guess in guesses[:2]),
            "x.flatten(1)   # keep the batch axis, and join the others",
            "x.reshape(x.shape[0], -1)   # the batch size of this batch, not a number",
            *(commands.inspect(f"x.reshape({listed(guesses[0])})", ("x", (size,))) if guesses else ()),
        ),
    )


def _signed(text: str | None) -> tuple[int, ...]:
    """A target shape as it stands, with -1 in it."""
    return tuple(map(int, re.findall(r"-?\d+", text or "")))


def cat_sizes(found: Found) -> Words:
    """E37: cat of tensors that differ in another axis."""
    axis, expected, got, number = found.int("axis"), found.int("expected"), found.int("got"), found.int("number")
    other = found.int("other")
    if found.operands and number is not None and number < len(found.operands) and axis is not None:
        other = _differing(found.operands[0][1], found.operands[number][1], axis)
    where = f" at axis {other}" if other is not None else " in another axis"
    which = f"tensor number {number} (the first is 0)" if number is not None else "another"
    return Words(
        f"torch.{found.function or 'cat'} along axis {axis}: sizes {expected} and {got} differ{where}",
        f"{found.function or 'cat'} puts tensors one behind the other along one axis (here {axis}); all other axes "
        f"must be equal. The first "
        f"tensor has {expected}"
        f"{where}, {which} has {got}.",
        (
            f"The wrong dim: the axis in which they differ is the one to join along (dim={1 if axis == 0 else 0}?).",
            "Skip connections (U-Net): sizes that were halved and doubled again differ by one where they were odd.",
            "Sequences of different length: they need padding.",
        ),
        (
            f"torch.cat([a, b], dim={1 if axis == 0 else 0})",
            "F.pad(b, …) or F.interpolate(b, size=a.shape[-2:])   # for odd image sizes",
            "torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)",
            *(
                commands.inspect("torch.cat([a, b], dim=1)", ("a", (2, expected)), ("b", (2, got)))
                if axis == 0 and expected is not None and got is not None
                else ()
            ),
        ),
    )


def _differing(first: Shape, second: Shape, axis: int) -> int | None:
    """The axis, other than `axis`, at which two shapes differ."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if place != axis % len(first) and a != b), None)


def cat_axes(found: Found) -> Words:
    """cat of tensors of different depth."""
    a, b = found.int("a"), found.int("b")
    return Words(
        f"torch.cat of tensors with {a} and {b} axes",
        f"cat joins along an axis that is there, so all tensors need as many axes: here {a} and {b}.",
        (
            "A row is appended to a matrix: it needs an axis in front.",
            "A new axis is wanted: that is stack, of equal shapes.",
        ),
        (
            "torch.cat([matrix, row[None]])   # the row as a matrix of one row",
            "torch.cat([a, b.unsqueeze(-1)], dim=-1)   # as a column",
        ),
    )


def stack_sizes(found: Found) -> Words:
    """stack of unequal shapes, as a DataLoader does it."""
    first, second, number = found.shape("first"), found.shape("second"), found.int("number")
    shapes = f"; entry {number} has {second}, the first one {first}" if first is not None else ""
    return Words(
        f"torch.stack of shapes {first} and {second}" if first is not None else "A batch of samples of unequal size",
        f"stack puts tensors side by side along a new axis, so all must have the same shape{shapes}. A DataLoader "
        "stacks the samples of a batch in this way.",
        (
            "The samples of a data set have different sizes: images, sequences.",
            "Grey and colour images are mixed (1 and 3 channels).",
            "cat is meant: join along an axis that is there.",
        ),
        (
            "DataLoader(…, collate_fn=lambda batch: torch.nn.utils.rnn.pad_sequence(batch, batch_first=True))",
            "transforms.Resize((224, 224)), Image.open(path).convert('RGB')   # in the data set, so that all are equal",
            "torch.cat([a, b])   # one behind the other",
        ),
    )


def permuted(found: Found) -> Words:
    """permute with the wrong number of axes."""
    dims, given = found.int("dims"), found.int("given")
    return Words(
        f"permute names {given if given is not None else 'another number of'} axes; the tensor has "
        f"{dims if dims is not None else 'another number'}",
        "permute lists every axis once, in its new order.",
        (
            "The tensor has no batch axis (or has one that was forgotten).",
            "Two axes are to be swapped: that is transpose.",
        ),
        (
            "x.permute(0, 2, 3, 1)   # for 4 axes: channels last",
            "x.transpose(-2, -1)   # swap two, whatever the others are",
            "x.movedim(1, -1)",
        ),
    )


def split_sizes(found: Found) -> Words:
    """split's sizes don't add up."""
    total, axis, sizes = found.int("total"), found.int("axis"), found.text("sizes")
    return Words(
        f"split sizes {sizes} don't add up to {total}",
        f"The pieces along axis {axis} must add up to its length {total}.",
        ("The axis changed its length.", "The sizes belong to another axis: dim is missing."),
        ("x.split(2, dim=1)   # equal pieces, the last one may be smaller", "x.tensor_split(3)   # a number of pieces"),
    )


ENTRIES = (
    Entry(
        "reshape-count",
        (
            "shape '{target:signed}' is invalid for input of size {size:int}",
            "size '{target:signed}' is invalid for input {with|of} {size:int} elements",
        ),
        invalid_shape,
    ),
    Entry(
        "view-stride",
        (
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces){?. Use "
            ".reshape(...) instead.}",
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Call "
            ".contiguous() before .view()",
            "input is not contiguous at",
        ),
        says(
            "view can't rearrange this tensor without copying",
            "A view only gives the same memory other axes. After transpose, permute, .T or a slice the entries no "
            "longer lie in memory in the order "
            "of the axes, so some views are impossible; reshape copies where it must. The gradient is right in both "
            "cases.",
            (
                "view after .t(), .T, transpose, permute, or a slice with a step.",
                "The order itself is the mistake: (batch, time, features) was permuted, and is then flattened in the "
                "wrong order, which reshape would do "
                "silently.",
            ),
            (
                "x.reshape(6)   # a view where possible, else a copy",
                "x.contiguous().view(6)   # the same",
                "Check the order: reshape reads the entries row by row in the *current* order of axes. "
                "x.T.reshape(-1) is not x.reshape(-1).",
                'jvp inspect "x.T.reshape(6)" --x "1,2,3;4,5,6"',
            ),
        ),
    ),
    Entry(
        "one-inferred",
        ("only one dimension can be inferred",),
        says(
            "reshape with two -1",
            "-1 means: as many as are left. That is one equation, so only one axis can be left open.",
            ("The batch size and another size are both unknown.",),
            ("x.reshape(x.shape[0], -1, 8)   # write one of them", "x.unflatten(1, (-1, 8))   # split one axis"),
        ),
    ),
    Entry(
        "ambiguous-minus-one",
        (
            "cannot reshape tensor of 0 elements into shape {target:signed} because the unspecified dimension size -1 "
            "can be any value and is ambiguous",
        ),
        lambda found: Words(
            f"reshape of an empty tensor to {found.text('target')}: -1 could be anything",
            "The tensor has no entries, and neither has the target, whatever -1 stands for.",
            ("A mask, filter or slice selected nothing.", "The data set or batch is empty."),
            ("x.reshape(0, 5)   # write the size", "if x.numel() == 0: …   # skip empty batches"),
        ),
    ),
    Entry(
        "negative-size",
        ("invalid shape dimension {size:int} at index {axis:int} of shape {target:signed}",),
        lambda found: Words(
            f"A size of {found.int('size')} in a reshape",
            "Only -1 has a meaning among the negative sizes: as many as are left.",
            ("A size was computed and came out negative: n - k with k > n.",),
            ("x.reshape(-1, 3)",),
        ),
    ),
    Entry(
        "unflatten-count",
        (
            "unflatten: Provided sizes {target:signed} don't multiply up to the size of dim {axis:int} ({size:int}) "
            "in the input tensor",
            "sizes don't multiply up to the size of dim",
        ),
        lambda found: Words(
            f"unflatten to {found.text('target') or 'these sizes'}: the axis has "
            f"{found.text('size') or 'another number of'} entries",
            "The sizes that an axis is split into must multiply up to its length.",
            ("The number of heads, groups or channels doesn't divide the axis.",),
            ("x.unflatten(-1, (heads, -1))   # -1 is computed",),
        ),
    ),
    Entry(
        "cat-sizes",
        (
            "Sizes of tensors must match except in dimension {axis:int}. Expected size {expected:int} but got size "
            "{got:int} for tensor number "
            "{number:int} in the list",
            "Sizes of tensors must match except in dimension {axis:int}. Got {expected:int} and {got:int} in "
            "dimension {other:int}",
            "Sizes of tensors must match except in dimension {axis:int}. Expected {expected:int} in dimension "
            "{other:int} but got {got:int} for tensor "
            "number {number:int} in the list",
        ),
        cat_sizes,
    ),
    Entry(
        "cat-axes",
        (
            "Tensors must have same number of dimensions: got {a:int} and {b:int}",
            "Number of dimensions of tensors must match. Expected {a:int}-D tensors, but got {b:int}-D for tensor "
            "number {:int} in the list",
        ),
        cat_axes,
    ),
    Entry(
        "cat-number",
        ("zero-dimensional tensor (at position {index:int}) cannot be concatenated",),
        lambda found: Words(
            f"torch.cat of a single number (item {found.int('index')})",
            "A 0-d tensor has no axis to join along.",
            ("Items of a vector, sums or losses are collected: they are numbers.",),
            (
                "torch.stack([a.sum(), b.sum()])   # a new axis: a vector",
                "torch.cat([a, b.reshape(1)])",
                'jvp inspect "torch.stack([x[0], x[1]])" --x 1,2',
            ),
        ),
    ),
    Entry(
        "empty-list",
        (
            "torch.cat(): expected a non-empty list of Tensors",
            "expected a non-empty list of Tensors",
            "stack expects a non-empty TensorList",
        ),
        says(
            "torch.cat or stack of an empty list",
            "There is nothing to join, so the result would have no shape and dtype.",
            ("The loop that fills the list did not run: empty data, a filter that removed everything.",),
            ("torch.cat(parts) if parts else torch.empty(0)", "print(len(parts))"),
        ),
    ),
    Entry(
        "stack-sizes",
        (
            "stack expects each tensor to be equal size, but got {first:shape} at entry 0 and {second:shape} at entry "
            "{number:int}",
            "each element in list of batch should be of equal size",
        ),
        stack_sizes,
    ),
    Entry(
        "permute-axes",
        (
            "number of dimensions in the tensor input does not match the length of the desired ordering of dimensions "
            "i.e. input.dim() = {dims:int} is not "
            "equal to len(dims) = {given:int}",
            "number of dims don't match in permute",
        ),
        permuted,
    ),
    Entry(
        "repeated-axis",
        (
            "permute(): duplicate dims are not allowed",
            "repeated dim in permute",
            "dim {axis:int} appears multiple times in the list of dims",
        ),
        says(
            "An axis is named twice",
            "Each axis may stand only once in the list. Negative numbers count from the end: -1 and 1 are the same "
            "axis of a matrix.",
            ("A typing error, or a negative and a positive number for one axis.",),
            ("x.permute(1, 0)", "x.sum(dim=(0, 1))"),
        ),
    ),
    Entry(
        "t-of-more-axes",
        (
            "t() expects a tensor with <= 2 dimensions, but self is {dims:int}D",
            "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated",
            "tensor.{mT|mH|H|T} is only supported on matrices or batches of matrices. Got {dims:int}-D tensor",
        ),
        lambda found: Words(
            f"A transpose of a tensor with "
            f"{counted(found.int('dims') or 0, 'axis') if found.int('dims') else 'other than 2 axes'}",
            "t() turns matrices (and leaves vectors alone), .mT turns the last two axes of batches of matrices; .T of "
            "more axes reverses them all." + (f" This tensor has {found.int('dims')}." if found.int("dims") else ""),
            (
                "A batch axis that was forgotten.",
                "A vector is to become a column: that is a new axis, not a transpose.",
            ),
            (
                "x.mT   # the last two axes of a batch",
                "x.transpose(0, 1)   # these two",
                "x[:, None]   # a vector as a column",
            ),
        ),
    ),
    Entry(
        "split-sizes",
        (
            "split_with_sizes expects split_sizes to sum exactly to {total:int} (input tensor's size at dimension "
            "{axis:int}), but got "
            "split_sizes={sizes:wanted}",
        ),
        split_sizes,
    ),
    Entry(
        "narrow-range",
        (
            "start out of range (expected to be in range of [{:int}, {size:int}], but got {start:int})",
            "start ({start:int}) + length ({length:int}) exceeds dimension size ({size:int})",
            "maximum size for tensor at dimension {axis:int} is {size:int} but size is {length:int}",
        ),
        lambda found: Words(
            f"A window of {found.text('length') or 'entries'} doesn't fit into an axis of {found.int('size')}",
            f"The window begins at {found.int('start') or 0}"
            + ("" if found.int("length") is None else f", is {found.int('length')} long")
            + f", and the axis has {found.int('size')} entries.",
            ("The sequence is shorter than the window.", "start and length are taken for start and end."),
            (
                "x.narrow(0, start, min(length, x.shape[0] - start))",
                "x[start : start + length]   # a slice stops at the end by itself",
            ),
        ),
    ),
    Entry(
        "repeat-axes",
        ("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor",),
        says(
            "repeat needs a number for each axis",
            "repeat(2) repeats a vector; a matrix needs repeat(2, 1). New axes may come in front.",
            ("The tensor has a batch axis that was forgotten.",),
            ("x.repeat(2, 1)   # twice along the first axis", "x.repeat_interleave(2, dim=0)"),
        ),
    ),
)
