"""torch.autograd.functional (jacobian, hessian, vjp, jvp), forward mode and its tangents."""

from __future__ import annotations

from jvpcli.explain.shapes import likeness, listed, refit
from jvpcli.explain.table.entry import Entry, Found, Words, says

JACOBIAN = 'jvp inspect "torch.sin(x)" --x 1,2,3'


def complex_transform(found: Found) -> Words:
    """E14: jacrev or jacfwd with complex numbers."""
    name, what, number = found.text("name"), found.text("what"), found.int("index")
    return Words(
        f"{name} takes real {what} only",
        f"{what[:-1].capitalize() if what else 'Input'} number {number} is complex. A function of complex numbers has "
        f"two derivatives (by z and by its conjugate), so there "
        f"is no single Jacobian, and {name} refuses.",
        (
            "The data is complex (fft, eig).",
            "A real number became complex on the way: torch.complex, sqrt of a complex tensor.",
        ),
        (
            f"torch.func.{name}(lambda r: torch.view_as_real(f(torch.view_as_complex(r))))(torch.view_as_real(z))   # "
            f"real and imaginary "
            "parts as an axis of length 2",
            'jvp inspect "(z * z.conj()).real" --z 1+1j,2-1j',
        ),
    )


def not_tensors(found: Found) -> Words:
    """E20: inputs or outputs of torch.autograd.functional that are no tensors."""
    what, name, got = found.text("what") or "inputs", found.text("name") or "jacobian", found.text("type") or "?"
    outputs = "outputs" in what
    place = "" if found.int("index") is None else f" (number {found.int('index')})"
    if outputs:
        return Words(
            f"The function given to {name} returns a {got}{place}, not tensors",
            f"torch.autograd.functional.{name} differentiates functions from tensors to tensors: the result must be a "
            f"tensor or a tuple of "
            f"tensors, and it is a {got}.",
            (
                f"The function returns a {got}: a model's output object, a dict, a list, or a number from .item().",
                "It returns None: the return is missing.",
            ),
            (
                f"torch.autograd.functional.{name}(lambda t: f(t)['logits'], x)   # pick the tensor",
                "torch.func.jacrev(f)(x)   # takes dicts and nested results as they are",
            ),
        )
    return Words(
        f"The inputs of {name} must be tensors, not a {got}{place}",
        f"torch.autograd.functional.{name} takes one tensor or a tuple of tensors (several arguments of f); a {got} "
        f"is neither.",
        (
            "A Python list or a number was passed.",
            "A list of tensors was passed where a tuple is expected.",
            "A NumPy array was passed.",
        ),
        (
            f"torch.autograd.functional.{name}(f, torch.tensor([1., 2.]))",
            f"torch.autograd.functional.{name}(f, (a, b))   # two arguments: a tuple",
            'jvp inspect "t**2" --t 1,2',
        ),
    )


def wrong_v(found: Found) -> Words:
    """E21b: the v of torch.autograd.functional.vjp, jvp, vhp, hvp."""
    got, expected = found.shape("got"), found.shape("expected")
    if got is None or expected is None:
        return Words("v has the wrong shape", "v must have the shape of the tensor that it weighs.", (), ())
    entry = "" if found.int("index") is None else f" (entry {found.int('index')})"
    fit = refit(got, expected)
    return Words(
        f"v has shape {got}; {expected} is needed{entry}",
        f"v must have shape {expected} and has {got}: {likeness(got, expected)}. For vjp and vhp, v weighs the "
        f"*outputs* and has the "
        "output's shape; for jvp and hvp, v is a direction in which the *inputs* move and has the input's shape.",
        (
            "vjp and jvp were confused: v has the shape of the other side.",
            "v was made like the input: torch.ones_like(x), for vjp.",
        ),
        (
            *((f"v{fit}   # the same numbers in the shape {expected}",) if fit else ()),
            f"v = torch.ones({listed(expected) if expected else '()'})",
            'jvp inspect "torch.outer(x,x)" --x 1,2,3,4 -g ones',
            'jvp inspect "torch.outer(x,x)" --x 1,2,3,4 --tangent ones',
        ),
    )


def scalar_needed(found: Found) -> Words:
    """E22, E22b: hessian and grad need a single number."""
    name = found.text("name") or "grad"
    dims = found.int("dims")
    returned = (
        f"a tensor with {dims} axes"
        if dims is not None and dims != 1
        else "a tensor with an axis"
        if dims
        else "several entries"
    )
    shown = "torch.func.grad" if name == "grad_and_value" else f"torch.autograd.functional.{name}"
    return Words(
        f"{shown} needs a function that returns a single number",
        f"The function returns {returned}. A gradient (and a Hessian, its derivative) belongs to one number; a "
        f"function with several "
        "outputs has a Jacobian.",
        (
            "The loss is not reduced: a .sum() or .mean() is missing, or the result has shape (1,) instead of ().",
            "The Jacobian is wanted, or the Hessian of each output.",
        ),
        (
            f"{shown}(lambda t: f(t).sum(), x)"
            if name != "grad_and_value"
            else "torch.func.grad(lambda t: f(t).sum())(x)",
            "torch.func.jacrev(f)(x)   # all outputs: the Jacobian; torch.func.hessian(f)(x): all second derivatives",
            JACOBIAN,
        ),
    )


def wrong_tangent(found: Found) -> Words:
    """E23: forward mode with a tangent of another shape."""
    got, expected = found.shape("got"), found.shape("expected")
    if got is None or expected is None:
        return Words("The tangent hasn't the shape of its input", "", (), ())
    fit = refit(got, expected)
    return Words(
        f"The tangent has shape {got}; its input has shape {expected}",
        "A tangent u is a direction in which the input moves: one number for each entry of the *input*, so it has the "
        "input's shape. "
        f"It has shape {got}: {likeness(got, expected)}.",
        (
            "A cotangent (of the output's shape) was passed: that belongs to a VJP, torch.func.vjp.",
            "The tangents stand in another order than the inputs.",
        ),
        (
            *((f"u{fit}   # the same numbers in the shape {expected}",) if fit else ()),
            "torch.func.jvp(f, (x,), (torch.ones_like(x),))",
            'jvp inspect "torch.sin(x)" --x 1,2,3 --tangent 1,0,0',
        ),
    )


def no_forward(found: Found) -> Words:
    """E27: no forward-mode derivative."""
    operation = (found.text("op") or "an operation").strip("_").removesuffix("_forward")
    return Words(
        f"Forward mode has no rule for {operation}",
        f"jacfwd, torch.func.jvp and forward-over-reverse Hessians push tangents through every operation; for "
        f"{operation} PyTorch has "
        "only the reverse rule. The message asks to file an issue; there is nothing wrong with your code.",
        (
            f"{operation} (or a function made of it) is used under forward mode.",
            "torch.func.hessian is jacfwd(jacrev(f)).",
        ),
        (
            "torch.func.jacrev(f)(x)   # reverse mode instead of jacfwd",
            "torch.func.jacrev(torch.func.jacrev(f))(x)   # instead of torch.func.hessian(f)(x)",
            "Write it with operations that have one: (a[:, None] - b[None]).square().sum(-1).sqrt() for cdist.",
            'jvp inspect "torch.cdist(x, x + 1)" --x "1,2;3,4"',
        ),
    )


def independent(found: Found) -> Words:
    """E29 and the other messages of strict mode."""
    number = found.int("output")
    which = "The output" if number is None else f"Output {number}"
    return Words(
        f"strict=True: {which[0].lower()}{which[1:]} doesn't depend on the input",
        f"{which} of the function (or its derivative, for Hessians) doesn't depend on the input as far as autograd "
        f"knows. In strict mode "
        "that is an error; otherwise the Jacobian is filled with zeros.",
        (
            "The graph is cut inside the function: torch.tensor(…), .detach(), .item(), .numpy(), a constant result.",
            "The function is constant or linear there, so its (second) derivative truly is zero.",
        ),
        (
            "print(f(x).grad_fn)   # None, with x.requires_grad_(): the graph is cut",
            "torch.autograd.functional.jacobian(f, x)   # without strict: zeros, if that is right",
        ),
    )


ENTRIES = (
    Entry(
        "complex-transform",
        (
            "{name:word}: Expected all {what:word} to be real but received complex tensor at flattened {input|output} "
            "idx: {index:int}",
        ),
        complex_transform,
    ),
    Entry(
        "functional-not-tensors",
        (
            "The {what:any} given to {name:word} must be either a Tensor or a tuple of Tensors but the given {:any} "
            "has type <class "
            "'{type:word}'>",
            "The {what:any} given to {name:word} must be either a Tensor or a tuple of Tensors but the value at index "
            "{index:int} has type "
            "<class '{type:word}'>",
        ),
        not_tensors,
    ),
    Entry(
        "functional-v-none",
        (
            "The vector v can only be None if the user-provided function returns a single Tensor with a single element",
            "The vector v can only be None if the input to the user-provided function is a single Tensor with a "
            "single element",
        ),
        says(
            "v is missing",
            "vjp computes vᵀJ and jvp computes Jv: v must be given, unless the one output (for vjp) or input (for "
            "jvp) is a single number, where "
            "1 is meant.",
            ("v was left out.", "The function should return a single number, and a .sum() is missing."),
            (
                "torch.autograd.functional.vjp(f, x, v=torch.ones_like(f(x)))   # v like the output",
                "torch.autograd.functional.jvp(f, x, v=torch.ones_like(x))   # v like the input",
                "torch.autograd.functional.jacobian(f, x)   # the whole Jacobian needs no v",
                JACOBIAN,
            ),
        ),
    ),
    Entry(
        "functional-v-shape",
        (
            "Entry {index:int} in v has invalid size: should be {expected:shape} but got {got:shape}{?.}",
            "v has invalid size: should be {expected:shape} but got {got:shape}{?.}",
        ),
        wrong_v,
    ),
    Entry(
        "functional-v-length",
        (
            "v is a tuple of invalid length: should be {expected:int} but got {got:int}",
            "The given v should contain a single Tensor",
        ),
        lambda found: Words(
            "v must have one tensor for each output (vjp) or input (jvp)",
            f"There are {found.text('expected') or 'several'} of them, and v has "
            f"{found.text('got') or 'another number'}.",
            ("The function returns a tuple, and v was given for one output only.",),
            ("torch.autograd.functional.vjp(f, x, v=tuple(torch.ones_like(y) for y in f(x)))",),
        ),
    ),
    Entry(
        "scalar-needed",
        (
            "The Tensor returned by the function given to {name:word} should contain a single element",
            "{name:word}(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with {dims:int} dims",
            "The function given to {name:word} should return a single Tensor",
        ),
        scalar_needed,
    ),
    Entry(
        "tangent-shape",
        (
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
            "supported. Tensor is of "
            "size {expected:shape} while the given forward gradient is of size {got:shape}{?.}",
        ),
        wrong_tangent,
    ),
    Entry(
        "strict-independent",
        (
            "Output {output:int} of the user-provided function does not require gradients. The outputs must be "
            "computed in a differentiable "
            "manner from the input when running in strict mode{?.}",
            "Output {output:int} of the user-provided function is independent of input {input:int}. This is not "
            "allowed in strict mode",
            "The {jacobian|hessian|output} of the user-provided function is independent of {input|entry} {:any}. This "
            "is not allowed in strict mode",
            "The hessian of the user-provided function with respect to input {input:int} is independent of the input. "
            "This is not allowed in strict "
            "mode",
            "found that the jacobian of the user-provided function with respect to input {input:int} is independent "
            "of the input",
            "The gradient with respect to {:any} is independent of {:any}. This is not allowed in strict mode",
            "The output of f is independent of the inputs. This is not allowed with strict=True",
        ),
        independent,
    ),
    Entry(
        "no-dual-level",
        ("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first",),
        says(
            "make_dual outside of a dual level",
            "Dual tensors (a value with its tangent) exist only inside a forward-mode context.",
            ("torch.autograd.forward_ad.make_dual is called without the with.",),
            (
                "with torch.autograd.forward_ad.dual_level(): d = make_dual(x, u); y = f(d); value, tangent = "
                "unpack_dual(y)",
                "torch.func.jvp(f, (x,), (u,))   # does all of it",
            ),
        ),
    ),
    Entry(
        "no-forward-mode",
        (
            "Trying to use forward AD with {op:word} that does not support it",
            "Trying to use forward AD with {op:word} (overload {:any}) that does not support it",
        ),
        no_forward,
    ),
)
