"""Values that were changed in place although backward needs them: leaves, views, saved tensors."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, Found, Words, says

SAVES_ITS_OUTPUT = {
    "Exp", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Relu", "Sqrt", "Rsqrt", "Reciprocal", "Tan", "Elu", "Celu",
    "Cumprod", "Expm1", "Norm", "Cholesky", "LinalgCholeskyEx", "LinalgInvEx", "LinalgEigh", "Max", "Min",
}  # fmt: skip
"""Operations whose backward is computed from their result: d exp(x)/dx is exp(x) again."""


VIEWS = ("T", "Transpose", "AsStrided", "View", "Permute", "UnsafeView")
"""A view is what a layer keeps of its weight."""


def modified(found: Found) -> Words:
    """E07: a saved tensor has another version than when it was saved."""
    shape, kind = found.shape("shape"), found.dtype("dtype")
    node, number = found.text("node"), found.int("output")
    what = "A tensor" if shape is None else f"A {kind or 'float'} tensor of shape {shape}"
    operation = (node or "").rstrip("0123456789").removesuffix("Backward")
    result = "the result" if not number else f"result number {number}"
    made_by = f", {result} of {operation}," if operation else ""
    turned = " (the shape may be transposed: it is that of a view)" if operation in VIEWS else ""
    versions = ""
    at, expected = found.int("version"), found.int("expected")
    if at is not None and expected is not None:
        count = at - expected
        versions = (
            f" It was saved at version {expected} and is now at version {at}: changed in place {count} "
            f"time{'s' if count != 1 else ''} "
            "since (each in-place operation adds one)."
        )
    return Words(
        "A value that backward needs was changed in place",
        f"{what}{made_by}{turned} was kept for computing the gradient, and its numbers have been overwritten since, "
        f"so the "
        f"gradient would be "
        f"wrong.{versions}",
        _causes(operation),
        _cures(operation),
    )


def _causes(operation: str) -> tuple[str, ...]:
    general = (
        "An in-place operation on it after it was used: += , *=, x[i] = …, relu_(), nn.ReLU(inplace=True), "
        "masked_fill_.",
        "optimizer.step() (or w -= …) changed the weights between the forward and this backward: forward again, or "
        "call all "
        "backward()s before any step(). Typical for GANs, actor and critic, and for two losses.",
        "A recurrent state or buffer is updated in place in each turn of a loop.",
    )
    if operation in (*VIEWS, "AccumulateGrad", ""):
        return (general[1], general[0], general[2])
    if operation in SAVES_ITS_OUTPUT:
        return (
            f"The result of {operation.lower()} was changed in place afterwards; the slope of {operation.lower()} is "
            f"computed from its "
            "result.",
            *general,
        )
    return general


def _cures(operation: str) -> tuple[str, ...]:
    cures = (
        "y = y + 1   # instead of y += 1 or y.add_(1): a new tensor; nn.ReLU(inplace=False)",
        "loss1.backward(); loss2.backward(); optimizer1.step(); optimizer2.step()   # all gradients before any update",
        "y = torch.stack(rows)   # collect in a list instead of writing y[i] = …",
        "torch.autograd.set_detect_anomaly(True) names the *forward* line of the operation whose saved value was "
        "overwritten; the "
        "in-place line is somewhere after it.",
        ".detach() or .data around the in-place change silences this message and gives a wrong gradient.",
    )
    if operation in (*VIEWS, "AccumulateGrad", ""):
        return (cures[1], cures[0], *cures[2:])
    return cures


def leaf(found: Found) -> Words:
    """E08, E09: a leaf that requires grad is changed in place."""
    view = found.text("view") is not None
    what = "A view of a leaf" if view else "A leaf"
    return Words(
        f"{what} that requires grad is changed in place",
        "A leaf is a tensor that you made with requires_grad=True (a parameter): the gradient is computed with "
        "respect to the value that "
        "it has. Overwriting it"
        + (" through a view, such as x[0] = … or x.view(-1).add_(1)," if view else ", as x += 1 or x.mul_(2) do,")
        + " would make it the result of an operation, and there would be no leaf left for the gradient.",
        (
            "A weight update by hand without torch.no_grad(): w -= lr * w.grad.",
            "An initialisation after requires_grad=True: w[0] = 0., w.normal_().",
            "The change is a step of the computation that should be differentiated through.",
        ),
        (
            "with torch.no_grad(): w -= lr * w.grad   # an update: not part of the function",
            "with torch.no_grad(): x[0] = 0.   # an initialisation",
            "y = x.clone(); y[0] = 0.   # a step of the computation: y goes on, x stays the leaf",
            "w = w - lr * w.grad outside no_grad runs, but w is then no leaf any more, and w.grad is None in the next "
            "turn.",
        ),
    )


ENTRIES = (
    Entry(
        "modified-in-place",
        (
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            "[{dtype:dtype} {shape:shape}], "
            "which is output {output:int} of {node:word}, is at version {version:int}; expected version "
            "{expected:int} instead{?.}",
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            "[{dtype:dtype} {shape:shape}] "
            "is at version {version:int}; expected version {expected:int} instead{?.}",
            "one of the variables needed for gradient computation has been modified by an inplace operation",
        ),
        modified,
    ),
    Entry(
        "leaf-in-place",
        (
            "a leaf Variable that requires grad {is being|has been} used in an in-place operation{?.}",
            "a {view:of} a leaf Variable that requires grad {is being|has been} used in an in-place operation{?.}",
        ),
        leaf,
    ),
    Entry(
        "view-in-place",
        (
            "Output {output:int} of {node:word} is a view and is being modified inplace{?. This view is the output of "
            "a "
            "function that returns multiple views. Such functions do not allow the output views to be modified "
            "inplace.}",
            "Output {output:int} of {node:word} is a view and its base or another view of its base has been modified "
            "inplace",
            "This view is the output of a function that returns multiple views. Such functions do not allow the "
            "output views to be modified inplace",
        ),
        lambda found: Words(
            f"A view, one of several results of {found.text('node') or 'one function'}, is changed in place",
            f"{found.text('node') or 'The function'} gave several views of one tensor (as unbind, split, chunk and "
            f"iterating over a tensor "
            "do), and autograd can't record an in-place change of one of them.",
            (
                "for row in x: row += 1   # iterating over a tensor unbinds it",
                "a, b = x.chunk(2); a *= b",
                "The views were made under no_grad or inside a custom Function.",
            ),
            (
                "a = a * b   # out of place: a new tensor",
                "x = torch.stack([row + 1 for row in x])",
                "x[0] changes one row of x in place and is recorded, unlike a row from iterating: y = x.clone(); y[0] "
                "+= 1",
            ),
        ),
    ),
    Entry(
        "view-made-without-grad",
        (
            "A view was created in {no_grad|inference} mode and {is being|its base or another view of its base has "
            "been} modified inplace "
            "{with grad mode enabled|in normal mode}",
            "A view was created in {no_grad|inference} mode and",
        ),
        says(
            "A view made under no_grad is changed in place outside of it",
            "It is not clear whether the change should be recorded: the view was made where nothing is, the change "
            "where everything is.",
            ("v = w[:2] under no_grad, and v.mul_(2) after it.", "Weights that are cached as views under no_grad."),
            (
                "with torch.no_grad(): v = w[:2]; v.mul_(2)   # both inside: not recorded",
                "v = w[:2]; v = v * 2   # both outside: recorded",
            ),
        ),
    ),
)
