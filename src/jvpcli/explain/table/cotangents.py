"""grad_outputs: the weights of the output that backward() and torch.autograd.grad ask for."""

from __future__ import annotations

from math import prod

from jvpcli.explain.shapes import likeness, listed, refit
from jvpcli.explain.table.entry import Entry, Found, Words
from jvpcli.report import Shape

EXAMPLE = 'jvp inspect "torch.outer(x,x)" --x 1,2,3,4'


def grad_output_shape(found: Found) -> Words:
    """E01: the cotangent hasn't the output's shape."""
    got, expected = found.shape("got"), found.shape("expected")
    number = found.int("index") or 0
    if got is None or expected is None:
        return _cotangent_words("grad_outputs hasn't the shape of the output", "", (), (EXAMPLE,))
    fit = refit(got, expected) if prod(got) in (1, prod(expected)) or len(got) > len(expected) else None
    cures = [f"grad_outputs=torch.ones_like(y)   # shape {expected}: the gradient of y.sum()"]
    if fit:
        cures.insert(0, f"grad_outputs=v{fit}   # the same numbers in the shape {expected}")
    return _cotangent_words(
        f"grad_outputs[{number}] has shape {got}; the output has shape {expected}",
        f"Yours has shape {got}, {likeness(got, expected)}. ",
        (_likeliest(got, expected),),
        (*cures, 'jvp inspect "x.sum()" --x 1,2,3' if expected == () else EXAMPLE),
    )


def _likeliest(got: Shape, expected: Shape) -> str:
    if len(got) < len(expected) and got == expected[: len(got)]:
        return (
            f"v was made like the input x (shape {got}) instead of the output y (shape {expected}): torch.ones_like(x)."
        )
    if expected == ():
        return f"The output is a single number (0-d), and v has an axis: shape {got} instead of ()."
    return f"v has shape {got}: {likeness(got, expected)}."


def _cotangent_words(title: str, yours: str, causes: tuple[str, ...], cures: tuple[str, ...]) -> Words:
    return Words(
        title,
        "grad_outputs is the v of the vector-Jacobian product vᵀJ, that is ∂L/∂y: one weight for each entry of the "
        "*output* y. "
        f"So v must have exactly y's shape. {yours}Nothing is broadcast, since that would hide the mistake.",
        (
            *causes,
            "v was meant as a direction in the input's space: that is a tangent, for a Jacobian-vector product "
            "(torch.func.jvp).",
        ),
        cures,
    )


def batched_grad_output(found: Found) -> Words:
    """The same with is_grads_batched=True."""
    got, expected = found.shape("got"), found.shape("expected")
    batch = f"(B, {listed(expected)})" if expected else "(B,)"
    return Words(
        f"A batch of grad_outputs must have shape {batch}",
        "With is_grads_batched=True the first axis of grad_outputs counts the cotangents, and the rest must be the "
        "output's shape. "
        f"The output has shape {expected}; one cotangent of yours has {got} (some versions of PyTorch print it with "
        f"an axis too few).",
        (
            "The batch axis is missing, or is not the first.",
            "One cotangent was passed: then is_grads_batched is not needed.",
        ),
        (
            f"torch.autograd.grad(y, x, grad_outputs=v[None], is_grads_batched=True)   # v of shape {expected}",
            "torch.autograd.grad(y, x, grad_outputs=v)   # for one cotangent",
        ),
    )


def implicit_grad(found: Found) -> Words:
    """E02: backward() without an argument on an output that is not a single number."""
    return Words(
        "backward() was called on a tensor with several entries",
        "Without grad_outputs autograd takes 1 as the weight of the output, which only makes sense for a single "
        "number. With several "
        "entries there is a whole Jacobian, and it must be told with which weights (one for each entry of the output) "
        "to add up its "
        "rows.",
        (
            "The loss was not reduced to one number: a .mean() or .sum() is missing, or a loss function has "
            "reduction='none'.",
            "The gradient of an output with several entries is wanted: then choose v = ∂L/∂y yourself.",
            "The whole Jacobian is wanted: that is not what backward() computes.",
        ),
        (
            "loss.mean().backward()",
            "y.backward(torch.ones_like(y))   # the gradient of y.sum(): every entry with weight 1",
            "torch.func.jacrev(f)(x)   # the whole Jacobian",
            EXAMPLE,
        ),
    )


def implicit_complex(found: Found) -> Words:
    """E13: backward() on a complex output."""
    dtype = found.dtype("dtype") or "complex"
    return Words(
        f"backward() was called on a {dtype} number",
        f"The output is {dtype}. Autograd minimises real losses: for a complex output there is no single gradient, so "
        f"it asks for the "
        "weight v instead of taking 1.",
        (
            "The loss is complex because an .abs(), .real or |z|² is missing at its end.",
            "The derivative of a holomorphic function is wanted.",
        ),
        (
            "(z.abs() ** 2).sum().backward()   # a real loss",
            "y.backward(torch.ones_like(y))   # for holomorphic f this gives conj(f'(z)): PyTorch's convention",
            'jvp inspect "(z * z.conj()).real.sum()" --z 1+1j,2-1j',
        ),
    )


def gradients_type(found: Found) -> Words:
    """E12: grad_outputs is no tensor."""
    got = found.text("type") or "something else"
    return Words(
        f"grad_outputs holds a {got}, not a tensor",
        f"Each item of grad_outputs must be a tensor of the output's shape, or None. A list is taken as one item for "
        f"each output, so "
        f"a {got} stands where a tensor is expected.",
        (
            "A Python list or a number was passed: [1., 1.] means two grad_outputs, for two outputs.",
            "A NumPy array was passed.",
        ),
        (
            "torch.autograd.grad(y, x, grad_outputs=torch.ones_like(y))",
            "torch.autograd.grad(y, x, grad_outputs=torch.tensor([1., 1., 1., 1.]))   # numbers, in y's shape",
        ),
    )


def gradient_count(found: Found) -> Words:
    """Unequal numbers of outputs and grad_outputs."""
    tensors, gradients = found.int("tensors"), found.int("gradients")
    return Words(
        f"{tensors} outputs, but {gradients} grad_outputs",
        f"There must be one grad_outputs tensor (or None) for each output: there are {tensors} outputs and "
        f"{gradients} of them.",
        (
            "A tensor was passed where a list of tensors belongs, or the other way round.",
            "An output was added, its weights not.",
        ),
        ("torch.autograd.grad([y1, y2], x, grad_outputs=[torch.ones_like(y1), torch.ones_like(y2)])",),
    )


def grad_dtype(found: Found) -> Words:
    """A real cotangent for a complex output."""
    got, expected = found.dtype("got"), found.dtype("expected")
    return Words(
        f"grad_outputs is {got}, the output {expected}",
        f"With complex outputs v must have the output's dtype too: v is {got}, the output is {expected}.",
        ("v was made as real ones.", "The output became complex on the way (fft, eig, a complex parameter)."),
        ("grad_outputs=torch.ones_like(y)", f"grad_outputs=v.to(torch.{expected})"),
    )


ENTRIES = (
    Entry(
        "grad-output-shape",
        (
            "Mismatch in shape: grad_output[{index:int}] has a shape of {got:shape} and output[{out:int}] has a shape "
            "of "
            "{expected:shape}{?.}",
        ),
        grad_output_shape,
    ),
    Entry(
        "batched-grad-output-shape",
        (
            "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension. "
            "The sizes of the "
            "remaining dimensions are expected to match the shape of corresponding output, but a mismatch was "
            "detected: "
            "grad_output[{index:int}] has a shape of {got:shape} and output[{out:int}] has a shape of "
            "{expected:shape}{?.}",
        ),
        batched_grad_output,
    ),
    Entry(
        "grad-output-dtype",
        (
            "Mismatch in dtype: grad_output[{index:int}] has a dtype of {got:dtype} and output[{out:int}] has a dtype "
            "of {expected:dtype}",
        ),
        grad_dtype,
    ),
    Entry("implicit-grad", ("grad can be implicitly created only for scalar outputs",), implicit_grad),
    Entry(
        "implicit-grad-complex",
        ("grad can be {implicitly created|computed} only for real scalar outputs but got {dtype:dtype}",),
        implicit_complex,
    ),
    Entry(
        "gradients-type",
        (
            "gradients can be either Tensors{?, Variables} or None, but got {type:word}",
            "gradients can either be Tensors{?, Variables} or None, but got {type:word}",
        ),
        gradients_type,
    ),
    Entry("gradient-count", ("got {tensors:int} tensors and {gradients:int} gradients",), gradient_count),
)
