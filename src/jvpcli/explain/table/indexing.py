"""Indices and axis numbers out of range, indices of the wrong kind, gather and scatter."""

from __future__ import annotations

from jvpcli.explain.shapes import counted
from jvpcli.explain.table.entry import Entry, Found, Words, says


def axis_range(found: Found) -> Words:
    """E39: a dim that the tensor doesn't have."""
    low, high, got = found.int("low"), found.int("high"), found.int("got")
    if low is None and found.int("dims") is not None:
        high = (found.int("dims") or 1) - 1
    dims = 1 if high is None else high + 1
    inserts = found.function in ("unsqueeze", "stack")
    axes = "0" if dims == 1 else f"0 to {dims - 1} (or -{dims} to -1, from the end)"
    unknown = not found.operation or inserts
    inserting = (
        "For unsqueeze and stack these are the places of the new axis: one more than the tensor has."
        if dims > 1 and unknown
        else ""
    )
    has = f"{counted(dims - 1, 'axis')} and the new one" if inserts else counted(dims, "axis")
    return Words(
        f"dim={got}, but the tensor has {has}",
        f"{found.owner}Axes are counted from 0: with {has} there {'is' if dims == 1 else 'are'} {axes}; {got} is "
        f"none of them."
        + (
            " A 0-d tensor (a single number) is counted as having one."
            if dims == 1 and not (found.operands and found.operands[0][1])
            else ""
        )
        + (f" {inserting}" if inserting else ""),
        (
            "The tensor has fewer axes than you think: a batch axis is missing, or an axis was lost by indexing "
            "(x[0]), squeeze() or a reduction.",
            "Axes are counted from 1.",
        ),
        (
            "dim=-1   # the last axis, however many there are",
            "x[None] or x.unsqueeze(0)   # add the batch axis",
            "x.sum(dim=1, keepdim=True)   # a reduction that keeps its axis",
            *(
                ('jvp inspect "x.sum(dim=-1)" --x 1,2,3',)
                if dims == 1
                else ('jvp inspect "x.sum(dim=-1)" --x "1,2;3,4"',)
            ),
        ),
    )


def index_range(found: Found) -> Words:
    """A subscript beyond the end."""
    index, axis, size = found.int("index"), found.int("axis"), found.int("size")
    shape = found.shape("shape")
    if size is None and shape is not None and axis is not None and axis < len(shape):
        size = shape[axis]
    which = "An index" if index is None else f"Index {index}"
    length = "" if size is None else f" {counted(size, 'entry')}: 0 to {size - 1}, or -{size} to -1 from the end"
    return Words(
        f"{which} in an axis of {size if size is not None else 'fewer'} entries",
        (f"The tensor has shape {shape}. " if shape is not None else "")
        + (f"Axis {axis} has{length}; " if size is not None and axis is not None else "")
        + (f"{index} is not among them." if index is not None else f"The axis has {counted(size or 0, 'entry')}."),
        (
            "Counting from 1, or an index that runs one too far.",
            "The indices belong to another axis, or to another tensor (labels, vocabulary) than this one.",
            "The axis is empty: a filter removed everything."
            if size == 0
            else "A batch or sequence is shorter than the others.",
        ),
        (
            *(
                (f"x[{index - 1}]   # if counting from 1",)
                if index is not None and size is not None and index == size
                else ()
            ),
            "x[-1]   # the last one",
            "assert indices.max() < x.shape[dim]   # before the line",
        ),
    )


def lookup_range(found: Found) -> Words:
    """An embedding or index_select with an index that isn't there."""
    rows = found.int("rows")
    index = found.int("index")
    numbers = f" Index {index} was asked of a table with {rows} rows." if rows is not None and index is not None else ""
    return Words(
        "An index is outside of the table (embedding, index_select)",
        f"Each index must be at least 0 and smaller than the number of rows: an Embedding(n, d) has the rows 0 to "
        f"n-1.{numbers} The message doesn't "
        "say which index it was.",
        (
            "num_embeddings is smaller than the vocabulary: it must be the largest index + 1.",
            "A padding, start or unknown token has a number that the table doesn't have: -1, or n.",
            "The sequence is longer than the table of positions (max_position_embeddings).",
        ),
        (
            "print(indices.min(), indices.max(), embedding.num_embeddings)",
            "nn.Embedding(int(indices.max()) + 1, d)",
            "model.resize_token_embeddings(len(tokenizer))   # Hugging Face, after adding tokens",
        ),
    )


def target_range(found: Found) -> Words:
    """A class number that the prediction has no column for."""
    target = found.int("target")
    if found.function == "one_hot":
        return Words(
            "one_hot: a class number that is not below num_classes",
            "one_hot makes a vector of num_classes entries with a 1 at the class's place, so the classes are 0 to "
            "num_classes - 1.",
            ("Classes are counted from 1 in the data.", "num_classes is too small."),
            ("F.one_hot(t - 1, n)   # classes counted from 1", "F.one_hot(t)   # as many as the largest number needs"),
        )
    return Words(
        f"Class {'number' if target is None else target} has no column in the prediction",
        "cross_entropy and nll_loss use the target as a column number: with C columns the classes are 0 to C-1"
        + ("." if target is None else f", and {target} came."),
        (
            "Classes are counted from 1 in the data."
            if target is None or target > 0
            else "-1 marks unknown labels: they need ignore_index=-1.",
            "The last layer has too few outputs: nn.Linear(…, classes).",
            "A label for 'ignore' (255, -1) isn't declared.",
        ),
        (
            "F.cross_entropy(logits, target - 1)   # classes counted from 1",
            "F.cross_entropy(logits, target, ignore_index=255)",
            "print(target.min(), target.max(), logits.shape)",
        ),
    )


def too_many(found: Found) -> Words:
    """x[i, j] of a vector."""
    dims = found.int("dims")
    return Words(
        f"More indices than axes: the tensor has {dims}",
        f"x[i, j, …] takes one index for each axis; this tensor has {counted(dims or 0, 'axis')}.",
        ("An axis was lost before: by x[0], squeeze() or a reduction.", "The tensor has no batch axis."),
        (
            "x[..., 0]   # the last axis, however many there are",
            "x[None]   # put the missing axis in front",
            "print(x.shape)",
        ),
    )


def mask_shape(found: Found) -> Words:
    """A boolean mask of another shape."""
    mask, tensor, axis = found.shape("mask"), found.shape("tensor"), found.int("axis")
    return Words(
        f"A mask of shape {mask} for a tensor of shape {tensor}",
        f"A boolean mask stands for the axes from where it is put, and must have their sizes: at axis {axis} they "
        f"differ. Masks don't broadcast.",
        ("The mask was computed from another tensor, or before a slice.", "The mask has (n, 1) and the tensor (n, m)."),
        (
            "x[mask.expand_as(x)]   # written out",
            "torch.where(mask, x, 0.)   # broadcasts, and keeps the shape",
            "x[mask.squeeze(-1)]",
        ),
    )


def gather_sizes(found: Found) -> Words:
    """gather and scatter with an index that is too large."""
    index, tensor, axis = found.shape("index"), found.shape("tensor"), found.int("axis")
    return Words(
        "gather or scatter: the index tensor's shape doesn't fit",
        "The index has as many axes as the tensor; its shape is the result's. Along dim it may be anything, along the "
        "others at most the tensor's size."
        + (f" Here it is {index} for a tensor of {tensor}, with dim={axis}." if index is not None else ""),
        ("The index is a vector: it needs the other axis, of length 1.", "dim is the other axis."),
        (
            "x.gather(1, index[:, None]).squeeze(1)   # one column for each row",
            "torch.take_along_dim(x, index[:, None], dim=1)   # broadcasts",
        ),
    )


ENTRIES = (
    Entry(
        "axis-range",
        (
            "Dimension out of range (expected to be in range of [{low:int}, {high:int}], but got {got:int})",
            "Dimension out of range (expected to be between 0 and {high:int}, but got {got:int})",
            "dimension specified as {got:int} but tensor has no dimensions",
            "dim out of range - got {got:int} but the tensor is only {dims:int}D",
        ),
        axis_range,
    ),
    Entry(
        "index-range",
        (
            "index {index:int} is out of bounds for dimension {axis:int} with size {size:int}",
            "index {index:int} is out of bounds for dim with size {size:int}",
            "index is out of bounds for dimension with size {size:int}",
            "{?select(): }index {index:int} out of range for tensor of size {shape:shape} at dimension {axis:int}",
            "index {index:int} is out of range for dimension {axis:int} (of size {size:int})",
            "index {index:int} is out of range for dimension {axis:int} with size {size:int}",
        ),
        index_range,
    ),
    Entry(
        "lookup-range",
        (
            "index out of range in self",
            "index out of range: Tried to access index {index:int} out of table with {rows:int} rows",
            "Assertion `srcIndex < srcSelectDimSize` failed",
            'Assertion `-sizes[i] <= index && index < sizes[i] && "index out of bounds"` failed',
            "INDICES element is out of DATA bounds",
        ),
        lookup_range,
    ),
    Entry(
        "target-range",
        (
            "Target {target:int} is out of bounds",
            "Assertion `{t|cur_target} >= 0 && {t|cur_target} < n_classes` failed",
            "Assertion `cur_target >= 0 && cur_target < n_classes' failed",
            "Class values must be smaller than num_classes",
            "Class values must be non-negative",
        ),
        target_range,
    ),
    Entry("too-many-indices", ("too many indices for tensor of dimension {dims:int}",), too_many),
    Entry(
        "number-indexed",
        (
            "invalid index of a 0-dim tensor",
            "invalid index to scalar variable",
            "iteration over a 0-d tensor",
            "len() of a 0-d tensor",
        ),
        says(
            "A single number (0-d tensor) is indexed, iterated over or measured",
            "A 0-d tensor has no axes: there is no x[0], no len(x), and nothing to loop over.",
            (
                "loss.data[0] of very old code: since PyTorch 0.4 a loss is 0-d.",
                "The tensor was reduced, or a row of a vector: x.sum()[0], x[0][0].",
                "An argument that should be a vector is a number.",
            ),
            ("loss.item()   # the number, for printing", "x.reshape(1)   # a vector of one entry", "x.unsqueeze(0)"),
        ),
    ),
    Entry(
        "mask-shape",
        (
            "The shape of the mask {mask:shape} at index {:int} does not match the shape of the indexed tensor "
            "{tensor:shape} at index {axis:int}",
        ),
        mask_shape,
    ),
    Entry(
        "gather-sizes",
        (
            "Size does not match at dimension {at:int} expected index {index:shape} to be {smaller|no larger} than "
            "self {tensor:shape} apart from "
            "dimension {axis:int}",
            "Expected index {index:shape} to be {smaller|no larger} than self {tensor:shape} apart from dimension "
            "{axis:int}",
            "Size does not match at dimension {at:int} get {:int} vs {:int}",
            "Index tensor must have the same number of dimensions as {input|self|src|the input} tensor",
            "Index tensor must have same dimensions as input tensor",
            "input and indices should have the same number of dimensions, but got {:int} dimensions for input, and "
            "{:int} dimensions for indices",
        ),
        gather_sizes,
    ),
    Entry(
        "index-vector",
        ("Index is supposed to be a vector", "Index is supposed to be {?an empty tensor or }a vector"),
        says(
            "index_select takes a vector of indices",
            "The indices along one axis are a 1-d tensor.",
            ("The index tensor has a batch axis.",),
            ("x[index]   # indices of any shape, along the first axis", "x.index_select(0, index.flatten())"),
        ),
    ),
    Entry(
        "axes-needed",
        (
            "{function:word}: input tensor must have at least {least:int} dimensions",
            "{function:word}: The input tensor {:word} must have at least {least:int} dimensions",
            "{function:word}: expected a matrix, but got tensor with dim {dims:int}",
            "{function:word}(): Supports 1D or 2D tensors. Got {dims:int}D",
            "{function:word}: If dim is not specified but ord is, the input must be 1D or 2D. Got {dims:int}D",
            "{function:word}: inputs must have the same number of dimensions",
            "{:word} should have at least {least:int} dimensions, but has {dims:int} dimensions instead",
            "{function:word}{?()} expects at least a {least:int}-dimensional tensor",
            "{function:word}() cannot be applied to a 0-dim tensor",
            "'{:word}' must be {least:int}-D",
            "Expect a 1D vector, but got shape {given:shape}",
            "Expected at least {least:int} dimensions for input tensor but received {dims:int}",
            "Expected {least:int} or more dimensions (got {dims:int})",
            "Expected query, key, and value to all be at least {least:int} dimensional",
        ),
        lambda found: Words(
            f"{found.text('function') or found.function or 'The operation'} wants another number of axes",
            f"{found.owner}{found.text('function') or found.function or 'The operation'} is made for vectors, "
            f"matrices or batches of them"
            + (f", with at least {counted(found.int('least') or 0, 'axis')}" if found.int("least") else "")
            + (
                f"; this tensor has {counted(found.int('dims') or 0, 'axis')}."
                if found.int("dims") is not None
                else "."
            )
            + (f" Its shape is {found.shape('given')}." if found.shape("given") else ""),
            ("An axis was lost by indexing or squeeze(), or a batch axis is too much.",),
            (
                "x[None]   # one axis more, in front",
                "x.diagonal(dim1=-2, dim2=-1)   # for batches, instead of diag and trace",
                "print(x.shape)",
            ),
        ),
    ),
    Entry(
        "implicit-axis",
        ("Implicit dimension choice for {function:word} has been deprecated",),
        lambda found: Words(
            f"{found.text('function')} without dim: along which axis?",
            "Without dim an axis is guessed by the number of axes, and it changes when a batch axis is added: the "
            "result is then another one, silently.",
            ("Code from PyTorch before 0.3.",),
            (
                f"F.{found.text('function')}(x, dim=-1)   # over the classes, the last axis",
                'jvp inspect "F.softmax(x, dim=-1)" --x 1,2,3',
            ),
        ),
    ),
    Entry(
        "top-k",
        (
            "selected index k out of range",
            "selected number k out of range for dimension {axis:int}",
            "k not in range for dimension",
        ),
        says(
            "topk asks for more entries than the axis has",
            "k can be at most the length of the axis (the last one, if dim isn't given).",
            ("The axis has fewer classes or candidates than usual.", "dim is missing: the wrong axis is used."),
            ("x.topk(min(k, x.shape[-1]))", "x.topk(k, dim=0)"),
        ),
    ),
    Entry(
        "empty-reduction",
        (
            "{function:word}(): Expected reduction dim to be specified for input.numel() == 0",
            "{function:word}(): Expected reduction dim {axis:int} to have non-zero size",
            "cannot perform reduction function {function:word} on a tensor with no elements because the operation "
            "does not have an identity",
        ),
        lambda found: Words(
            f"{found.text('function')} of an empty tensor",
            f"The sum of nothing is 0, but there is no {found.text('function')} of nothing.",
            ("A mask or filter removed everything.", "The data set, batch or slice is empty."),
            ("if x.numel(): …", "torch.cat([x, x.new_full((1,), -torch.inf)]).max()   # a value to fall back on"),
        ),
    ),
)
