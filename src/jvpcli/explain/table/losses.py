"""Losses over classes: targets, class numbers, probabilities."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, Found, Words


def batch_size(found: Found) -> Words:
    """cross_entropy's first axes differ."""
    given, target = found.int("given"), found.int("target")
    return Words(
        f"{given} predictions for {target} targets",
        f"cross_entropy takes logits of shape (batch, classes) and class numbers of shape (batch,): the first axes "
        f"are {given} and {target}.",
        (
            f"view(-1, …) in the network mixed samples: {given} is not the batch size any more."
            if given and target and (given % target == 0 or target % given == 0)
            else "The last batch is smaller, and a size is written as a number.",
            "Sequences: (batch, time, classes) must be flattened together with their targets.",
            "The axes are (time, batch, …) for one and (batch, time) for the other.",
        ),
        (
            "x = x.flatten(1)   # before the last layer, instead of x.view(-1, n): keeps the batch axis",
            "F.cross_entropy(logits.flatten(0, 1), target.flatten())   # sequences: (batch·time, classes) and "
            "(batch·time,)",
            "F.cross_entropy(logits.transpose(1, 2), target)   # the same: classes as the second axis",
        ),
    )


ENTRIES = (
    Entry(
        "class-batch",
        ("Expected input batch_size ({given:int}) to match target batch_size ({target:int})",),
        batch_size,
    ),
    Entry(
        "class-target-axes",
        (
            "0D or 1D target tensor expected, multi-target not supported",
            "1D target tensor expected, multi-target not supported",
            "multi-target not supported at",
        ),
        lambda found: Words(
            "Class targets must be a vector of class numbers",
            "cross_entropy takes one class number for each sample, shape (batch,). The target has another axis: "
            "(batch, 1), or one-hot rows of integers.",
            (
                "The target is (batch, 1).",
                "The target is one-hot, in integers: as floats it would be taken for probabilities.",
            ),
            (
                "F.cross_entropy(logits, target.squeeze(1))",
                "F.cross_entropy(logits, one_hot.argmax(1))   # or one_hot.float()",
            ),
        ),
    ),
    Entry(
        "class-target-size",
        ("Expected target size {expected:shape}, got {given:shape}",),
        lambda found: Words(
            f"The target has shape {found.shape('given')}; {found.shape('expected')} is needed",
            f"With logits of shape (batch, classes, positions …) the target is (batch, positions …): "
            f"{found.shape('expected')}, and {found.shape('given')} came. "
            "The classes are the *second* axis of the logits.",
            (
                "The classes stand last in the logits: (batch, time, classes).",
                "The sequence was shifted by one for logits or target only.",
            ),
            (
                "F.cross_entropy(logits.transpose(1, 2), target)   # classes second",
                "F.cross_entropy(logits.flatten(0, 1), target.flatten())",
            ),
        ),
    ),
    Entry(
        "class-probabilities",
        (
            "Expected floating point type for target with class probabilities, got {dtype:dtype}",
            "expected target dtype to be Long or Byte, but got {dtype:dtype}",
        ),
        lambda found: Words(
            f"The target of a class loss is {found.dtype('dtype')}",
            "cross_entropy takes either class numbers, int64 of shape (batch,), or a probability for each class, "
            "floats in the shape of the logits. "
            f"The target is {found.dtype('dtype')}.",
            ("Labels from NumPy, pandas or torch.tensor have another dtype.", "One-hot rows are integers."),
            (
                "target.long()   # class numbers",
                "target.float()   # one-hot rows or probabilities, in the logits' shape",
            ),
        ),
    ),
    Entry(
        "probability-range",
        (
            "all elements of {input|target} should be between 0 and 1",
            "Assertion `input_val >= zero && input_val <= one` failed",
        ),
        lambda found: Words(
            "Binary cross entropy of numbers that are no probabilities",
            "F.binary_cross_entropy takes probabilities in [0, 1]; NaN is outside too.",
            ("The sigmoid is missing.", "The network gives NaN: a learning rate too high, log(0) or 0/0 before."),
            (
                "F.binary_cross_entropy_with_logits(x, target)   # takes the numbers before the sigmoid, and is more "
                "precise",
                "torch.isnan(x).any()",
            ),
        ),
    ),
)
