"""torch.func: jacrev, jacfwd, grad, vjp, jvp, and vmap, which they are made of."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, Found, Words, says


def in_place_under_vmap(found: Found) -> Words:
    """E25: an in-place operation writes batched values into an unbatched tensor."""
    operation = f"{found.text('op')} writes" if found.text("op") else "An in-place operation writes"
    return Words(
        "vmap: a tensor made inside the function is too small for the batch",
        f"{operation} into a tensor that was made inside the function (torch.zeros(…), torch.empty(…)) and is the "
        f"same for all "
        "samples, but what is written differs from sample to sample: there is no room for the batch. jacrev and "
        "jacfwd use vmap too.",
        (
            "out = torch.zeros(n); out[i] = …; or out += …, inside the function.",
            "A buffer outside is updated in place.",
        ),
        (
            "out = torch.stack([…])   # build the result instead of writing into it",
            "out = torch.zeros_like(x)   # or x.new_zeros(n): made from a batched tensor it is batched too",
            "out = out + t   # out of place",
        ),
    )


def mapped_sizes(found: Found) -> Words:
    """vmap over axes of unequal length."""
    sizes = found.text("sizes") or ""
    return Words(
        f"vmap: the mapped axes have different sizes {sizes}".rstrip(),
        f"vmap takes one slice of each argument at a time, so the axis that is mapped must have the same length in "
        f"all: here {sizes}.",
        ("An argument is not batched: it needs in_dims None.", "The batch axis of an argument is not its first."),
        (
            "torch.vmap(f, in_dims=(0, None))(xs, w)   # the same w for every sample",
            "torch.vmap(f, in_dims=(0, 1))(xs, ys)",
        ),
    )


def structure(found: Found) -> Words:
    """Cotangents or tangents as a tree of another form than the outputs or primals."""
    return Words(
        "The cotangents or tangents are packed differently from what they belong to",
        "torch.func wants the same structure: for one output one tensor, for a tuple of outputs a tuple of as many, "
        "and for jvp "
        "a tuple of primals with a tuple of tangents."
        + (f" Got {found.text('got')}, expected {found.text('expected')}." if found.text("got") else ""),
        ("A single tensor stands where a tuple is expected, or the other way round.", "A dict's keys differ."),
        (
            "torch.func.jvp(f, (x,), (u,))   # primals and tangents are tuples, for one argument too",
            "y, pullback = torch.func.vjp(f, x); pullback(torch.ones_like(y))   # v like y",
        ),
    )


ENTRIES = (
    Entry(
        "vmap-item",
        (
            "vmap: It looks like you're calling .item() on a Tensor",
            "vmap: It looks like you're either (1) calling .item() on a Tensor or (2) attempting to use a Tensor in "
            "some data-dependent control "
            "flow",
        ),
        says(
            "vmap: .item() turns a batch into a single number",
            "Under vmap (which jacrev, jacfwd and hessian use) every tensor stands for a whole batch, so there is no "
            "single Python number that "
            ".item(), float(t), int(t), math.sin(t) or a tensor as index of a list or slice could give. It would also "
            "cut the graph.",
            (
                "float(t), t.item(), int(n) inside the function: for a scale, an index, a print or log.",
                "A slice with bounds from a tensor: a[i:j]; range(n).",
            ),
            (
                "t * t.sum()   # keep the tensor: arithmetic takes 0-d tensors",
                "torch.sin(t)   # instead of math.sin(t)",
                "x[idx]; torch.gather; torch.index_select   # instead of slices whose bounds are tensors",
                'jvp inspect "t * t.sum()" --t 1,2,3',
            ),
        ),
    ),
    Entry(
        "vmap-control-flow",
        ("vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow",),
        says(
            "vmap: an `if` can't decide for a whole batch",
            "Under vmap (which jacrev, jacfwd and hessian use) a condition has one answer for each sample, but "
            "Python's if, while, and, or, "
            "assert take one branch for all.",
            ("if t.sum() > 0: …, assert (x > 0).all(), min(a, b), while error > tol, inside the function.",),
            (
                "torch.where(t.sum() > 0, t, -t)   # both branches, chosen by sample",
                "torch.minimum(a, b)   # instead of min(a, b)",
                "torch.autograd.functional.jacobian(f, x)   # a loop without vmap: Python's control flow works there",
                'jvp inspect "torch.where(t.sum() > 0, t, -t)" --t 1,2,3',
            ),
        ),
    ),
    Entry(
        "vmap-in-place",
        (
            "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in "
            "extra_args that has more "
            "elements than `self`",
            "vmap: {op:word}(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args "
            "that has more elements than "
            "`self`",
        ),
        in_place_under_vmap,
    ),
    Entry(
        "vmap-random",
        ("vmap: called random operation while in randomness error mode",),
        says(
            "vmap: should the random numbers be the same for all samples?",
            "A random function (dropout, rand, normal) runs under vmap, which jacfwd, jacrev and hessian use too, and "
            "vmap doesn't choose "
            "whether each sample gets its own numbers.",
            ("Dropout is active: the model is in training mode.", "Noise is drawn inside the function."),
            (
                "torch.func.jacfwd(f, randomness='same')(x)   # a Jacobian needs the same numbers in all directions; "
                "vmap has the option too",
                "model.eval()   # no dropout",
                "noise = torch.randn(3); torch.func.jacfwd(lambda t: f(t, noise))(x)   # drawn outside",
                "randomness='different' is right for a batch of samples (vmap), and wrong for a Jacobian: each column "
                "would see another function.",
                'jvp inspect "F.dropout(x)" --x 1,2,3,4 --seed 1',
            ),
        ),
    ),
    Entry(
        "captured-mutation",
        (
            "During a grad (vjp, jvp, grad, etc) transform, the function provided attempted to call in-place "
            "operation ({op:word}) that would "
            "mutate a captured Tensor",
        ),
        lambda found: Words(
            "The function changes a tensor outside of itself",
            f"torch.func differentiates pure functions. This one runs {found.text('op')} in place on a tensor that it "
            f"didn't get as an argument, "
            "typically a module's buffer: the side effect would be lost or seen twice.",
            (
                "A BatchNorm layer in training mode updates running_mean and num_batches_tracked.",
                "A counter, cache or global tensor is updated inside the function.",
            ),
            (
                "model.eval()   # BatchNorm then uses its running statistics and changes nothing",
                "nn.BatchNorm1d(3, track_running_stats=False)   # or torch.func.replace_all_batch_norm_modules_(model)",
                "torch.func.functional_call(model, (params, buffers), x)   # pass the buffers in, and return what "
                "changed",
            ),
        ),
    ),
    Entry(
        "vmap-sizes",
        (
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes:any} for the "
            "mapped dimension",
        ),
        mapped_sizes,
    ),
    Entry(
        "vmap-axis",
        (
            "Got in_dim={axis:int} for some input, but that input is a Tensor of dimensionality {dims:int} so "
            "expected in_dim to satisfy",
            "Got in_dim={axis:int} for an input but the input is of type <class '{type:word}'>. We cannot vmap over "
            "non-Tensor arguments",
        ),
        lambda found: Words(
            f"vmap: in_dims asks for axis {found.int('axis')} of an argument that doesn't have it",
            (
                f"That argument is a {found.text('type')}, not a tensor: it has no axis to map over."
                if found.text("type")
                else f"That argument has {found.int('dims')} axes, numbered 0 to {(found.int('dims') or 1) - 1}."
            ),
            ("An argument that is the same for all samples needs in_dims None.", "The batch axis is missing."),
            ("torch.vmap(f, in_dims=(0, None))(xs, 2.0)",),
        ),
    ),
    Entry(
        "transform-input",
        (
            "Thing passed to transform API must be Tensor, got <class '{type:word}'>",
            "Expected {primals|tangents} to only contain Tensors, got {?<class '}{type:word}",
            "Expected {primal|tangent} to be floating point or complex, but got: {dtype:dtype}",
        ),
        lambda found: Words(
            f"torch.func differentiates by floating tensors; it got "
            f"{found.dtype('dtype') or 'a ' + (found.text('type') or 'value')}",
            "The arguments that are differentiated by must be tensors of floating (or complex) numbers.",
            ("A list, number or NumPy array was passed.", "Whole numbers: torch.arange(3), torch.tensor([1, 2])."),
            (
                "torch.func.grad(f)(torch.tensor([1., 2.]))",
                "torch.func.grad(f, argnums=1)(n, x)   # by the second argument",
            ),
        ),
    ),
    Entry(
        "transform-argnum",
        ("Got argnum={number:int}, but only {count:int} positional inputs",),
        lambda found: Words(
            f"argnums={found.int('number')}, but the function was called with {found.int('count')} positional arguments",
            "argnums counts the positional arguments from 0; arguments given by name are not counted and not "
            "differentiated.",
            ("Counting from 1.", "The argument is passed by name."),
            ("torch.func.grad(f, argnums=0)(x)", "torch.func.grad(lambda x: f(x, scale=s))(x)"),
        ),
    ),
    Entry(
        "vmap-returns",
        (
            "vmap({f:any}, ...): `{g:any}` must only return Tensors, got type <class '{type:word}'>",
            "expected f(*{primals|args}) to return only tensors, got unsupported type <class '{type:word}'>",
            "Expected f(*args) to return a Tensor, got <class '{type:word}'>",
            "Expected output of f to be a Tensor or Tensors, got {?<class '}{type:word}",
        ),
        lambda found: Words(
            f"The function returns a {found.text('type')}, not a tensor",
            f"torch.func transforms functions that return tensors; this one returns a {found.text('type')}, which "
            f"carries no derivative.",
            (
                "A number from .item(), float(…), .numpy(), .tolist(): the graph is cut there.",
                "Several results: has_aux=True is meant.",
            ),
            (
                "return loss   # the tensor, not loss.item()",
                "torch.func.grad(f, has_aux=True)(x)   # f returns (loss, something to look at)",
            ),
        ),
    ),
    Entry(
        "transform-integer-output",
        (
            "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
            "{dtype:dtype}",
        ),
        lambda found: Words(
            f"The function returns {found.dtype('dtype')} numbers, which have no derivative",
            f"Integers and booleans don't change smoothly, so a {found.dtype('dtype')} output has no Jacobian.",
            ("The result is a comparison, an argmax, a rounded or cast value.",),
            (
                "torch.sigmoid(k * x)   # a smooth stand-in for x > 0",
                "return scores   # differentiate what is compared, not the comparison",
            ),
        ),
    ),
    Entry(
        "transform-structure",
        (
            "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. "
            "cotangents: {got:any}, "
            "primal output: {expected:word}",
            "Expected primals and tangents to have the same python structure",
            "Expected {primals|tangents} to be a tuple. E.g. it should be valid to call f(*primals)",
            "Expected the tangents {:any} to have the same argspec as the primals",
        ),
        structure,
    ),
    Entry(
        "vmap-dynamic-shape",
        (
            "vmap: We do not support batching operators that can {support|output} dynamic shape. {Attempting to batch "
            "over|Attempted to vmap over} "
            "{op:any}.",
        ),
        lambda found: Words(
            "vmap: the result's size would differ from sample to sample",
            f"{found.text('op')} gives as many entries as the values say, so the samples of a batch would have "
            f"different shapes.",
            (
                "x[x > 0], torch.nonzero, torch.masked_select, torch.unique inside the function (jacrev and jacfwd "
                "use vmap too).",
            ),
            (
                "torch.where(x > 0, x, 0.)   # keep the shape, and put zeros there",
                "torch.autograd.functional.jacobian(f, x)   # without vmap",
            ),
        ),
    ),
    Entry(
        "batching-rule",
        (
            "There is a performance drop because we have not yet implemented the batching rule for {op:word}",
            "Batching rule not implemented for {op:word}",
        ),
        lambda found: Words(
            f"vmap has no batched form of {(found.text('op') or '').rstrip('.')}",
            f"vmap (and with it jacrev, jacfwd) runs {(found.text('op') or 'the operation').rstrip('.')} in a loop "
            f"over the batch, or can't run it "
            "at all. As a warning it means slow, not wrong.",
            ("An operation that is rarely used under vmap.",),
            (
                "torch.func.jacrev(f, chunk_size=1)(x)",
                "torch.autograd.functional.jacobian(f, x)   # a plain loop, without vmap",
            ),
        ),
    ),
)
