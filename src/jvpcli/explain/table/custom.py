"""torch.autograd.Function written by hand, and gradcheck."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jvpcli.explain.shapes import counted, likeness
from jvpcli.explain.table.entry import Entry, Found, Words, says

TEMPLATE = (
    "class Mul(torch.autograd.Function):\n"
    "    @staticmethod\n"
    "    def forward(a, b): return a * b\n"
    "    @staticmethod\n"
    "    def setup_context(ctx, inputs, output): ctx.save_for_backward(*inputs)\n"
    "    @staticmethod\n"
    "    def backward(ctx, g):\n"
    "        a, b = ctx.saved_tensors\n"
    "        return g * b, g * a   # one gradient for each argument of forward"
)


def class_name(found: Found) -> str:
    """`B` of BBackward: autograd names the node of a Function after its class."""
    node = found.text("node") or "the function"
    return node.removesuffix("Backward")


def gradient_number(found: Found) -> Words:
    """E41: backward returns too many or too few gradients."""
    name, expected, got = class_name(found), found.int("expected") or 0, found.int("got") or 0
    example = ", ".join(["grad_input", *["None"] * (expected - 1)][:expected])
    return Words(
        f"{name}.backward returned {counted(got, 'gradient')}; forward takes {counted(expected, 'argument')}",
        f"backward must return one value for each argument of {name}.forward (without ctx), in the same order: the "
        f"gradient for it, or None "
        f"where it has none (numbers, flags, constants). Here {expected} are needed and {got} came.",
        (
            "An argument was added to forward and not to backward's return, often a flag or a number: it needs None."
            if got < expected
            else "backward returns a gradient for something that forward doesn't take as argument, or for ctx.",
            "backward returns one gradient for each *output*: those are its arguments, not its results.",
        ),
        (f"return {example}   # {expected} values", TEMPLATE),
    )


def gradient_shape(found: Found) -> Words:
    """E42: backward returns a gradient of the wrong shape, type or device."""
    name, index = class_name(found), found.int("index") or 0
    got, expected = found.shape("got"), found.shape("expected")
    builtin = re.search(r"Backward\d+$", found.text("node") or "") is not None
    if got is None or expected is None:
        kind, wanted = found.text("kind"), found.text("wanted")
        return Words(
            f"{name}.backward returned a gradient of another type for argument {index}",
            f"A gradient has the dtype and device of the argument that it belongs to: expected {wanted}, got {kind}.",
            ("Constants of another dtype or device were mixed in: torch.ones(3), a float64 array.",),
            ("torch.ones_like(x)   # instead of torch.ones(3)", "return grad.to(x.dtype)"),
        )
    return Words(
        f"The gradient for argument {index} of {name} has shape {got}; the argument has shape {expected}",
        f"The gradient with respect to a tensor has one entry for each of its entries: shape {expected} is needed, "
        f"and {got} came: "
        f"{likeness(got, expected)}. (Shapes that broadcasting made larger are summed back by autograd itself.)",
        (
            *(
                ("grad_outputs of the wrong shape was passed to backward() or grad(), under an older PyTorch.",)
                if builtin
                else ()
            ),
            "backward forgets that forward reduces or broadcasts: the gradient g that arrives has the shape of the "
            "output, and must be "
            "expanded to the input's (for a sum) or summed to it (for a broadcast).",
            "A constant shape is written in backward: torch.ones(3).",
            "The gradients are returned in another order than forward's arguments.",
        ),
        (
            "return g.expand(a.shape)   # forward is a.sum(): each entry gets g",
            "return g.sum_to_size(a.shape)   # forward broadcasts a",
            "return g * torch.ones_like(a)",
            'jvp inspect "a.sum()" --a 1,2,3,4',
        ),
    )


def vmap_support(found: Found) -> Words:
    """A custom Function under vmap."""
    name = (found.text("node") or "The function").rstrip(",")
    return Words(
        f"{name} can't be used under vmap (jacrev, jacfwd, hessian) yet",
        f"vmap has to know what {name} does to a whole batch, and a torch.autograd.Function says that only if it is "
        f"asked to.",
        (f"{name} is called in a function that is given to jacrev, jacfwd, hessian or vmap.",),
        (
            f"class {name}(torch.autograd.Function):\n    generate_vmap_rule = True   # if forward and backward are "
            f"made of PyTorch operations",
            "torch.autograd.functional.jacobian(f, x)   # a loop, without vmap",
        ),
    )


@dataclass(frozen=True)
class Worst:
    """The entry of gradcheck's two matrices that differs most: its place (input, output) and both numbers."""

    row: int
    column: int
    numeric: float
    analytic: float
    zero: bool
    """The whole analytic matrix is zero."""


def worst_entry(numeric: str, analytic: str) -> Worst | None:
    """Where two printed matrices differ most; None if they can't be read or were abridged."""
    a, b = _matrix(numeric), _matrix(analytic)
    if not a or len(a) != len(b) or any(len(x) != len(y) for x, y in zip(a, b, strict=True)):
        return None
    places = [(i, j) for i, row in enumerate(a) for j in range(len(row))]
    if not places:
        return None
    row, column = max(places, key=lambda place: _distance(a[place[0]][place[1]], b[place[0]][place[1]]))
    return Worst(row, column, a[row][column], b[row][column], not any(entry for line in b for entry in line))


def _distance(a: float, b: float) -> float:
    return float("inf") if a != a or b != b else abs(a - b)


def _matrix(text: str) -> list[list[float]]:
    if "..." in text:
        return []
    try:
        return [[float(entry) for entry in row.split(",")] for row in re.findall(r"\[([^\[\]]+)\]", text)]
    except ValueError:
        return []


def jacobian_mismatch(found: Found) -> Words:
    """E16, E17: gradcheck's matrices differ; which entry, and what that looks like."""
    numeric, analytic = found.groups.get("numeric", ""), found.groups.get("analytic", "")
    worst = worst_entry(numeric, analytic)
    output, input_ = found.int("output") or 0, found.int("input") or 0
    single = "float64" not in numeric + analytic and "complex128" not in numeric + analytic and worst is not None
    verdict, causes, cures = _verdict(worst, single)
    place = (
        ""
        if worst is None
        else f" They differ most in row {worst.row}, column {worst.column}: numerically {worst.numeric:g}, "
        f"analytically "
        f"{worst.analytic:g}. gradcheck prints the transpose of the Jacobian, so this is "
        f"∂output{output}[{worst.column}]/∂input{input_}"
        f"[{worst.row}] (entries counted in row-major order)."
    )
    return Words(
        f"gradcheck: the gradient of output {output} with respect to input {input_} differs from finite "
        f"differences{verdict}",
        "`numerical` was computed by moving each input entry a little (central differences), `analytical` by backward."
        f"{place}",
        causes,
        (*cures, 'jvp check "torch.relu(x)" --x 0.5,-1'),
    )


PRECISION = (
    "Single precision: with float32 the differences are wrong in the second or third digit; gradcheck's "
    "defaults are made for float64."
)
KINK = (
    "A kink (relu at 0, abs at 0, ties in max): central differences average the slopes of both sides, backward "
    "takes one of them."
)
CUT = (
    "The graph is cut inside the function (.detach(), .item(), torch.tensor(…), a cast to integers): backward sees "
    "only part of it."
)
WRONG = "The backward is wrong: a factor, a sign, a transpose, or a term is missing."
RANDOM = "The function is random (dropout), or keeps state between calls: each evaluation is another function."


def _verdict(worst: Worst | None, single: bool) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """What the worst entry looks like, and the causes in the order that this gives them."""
    in_double = "torch.autograd.gradcheck(f, x.double().requires_grad_())"
    away = "torch.autograd.gradcheck(f, x + 0.1)   # away from the kink; there a subgradient is right"
    if worst is None:
        return "", (PRECISION, WRONG, KINK, CUT, RANDOM), (in_double, away)
    n, a = worst.numeric, worst.analytic
    size = max(abs(n), abs(a))
    if size > 1e4:
        return (
            ": random or discontinuous",
            (RANDOM, "The function jumps at this point.", WRONG),
            ("torch.manual_seed(0) inside f",),
        )
    if _half_way(n, a):
        return ": it looks like a kink", (KINK, WRONG, CUT), (away, in_double)
    if single and abs(n - a) <= 0.25 * max(size, 1.0):
        return ": probably rounding in float32", (PRECISION, WRONG, KINK), (in_double,)
    if a == 0:
        return ": backward says 0", (CUT, WRONG, KINK), ("print(y.grad_fn) after each step of f",)
    if abs(n + a) < 1e-3 * size:
        return ": the sign is wrong", (WRONG, CUT), (f"backward gives {a:g} where {n:g} is right: negate it",)
    if n and abs(n) > 1e-6 and abs(a) > 1e-6:
        factor = n / a
        return (
            f": by a factor of {factor:.3g}",
            (WRONG, CUT, PRECISION if single else KINK),
            (
                f"Multiply this entry by {factor:.3g}; in x * x.detach() half of the product rule is missing: a "
                f"factor of 2",
            ),
        )
    return "", (WRONG, CUT, PRECISION if single else KINK), (in_double,)


def _half_way(numeric: float, analytic: float) -> bool:
    """Whether the numeric slope is the mean of 0 and 1 (or of -1 and 1) and the analytic one of the sides."""
    near = [abs(numeric - middle) < 1e-6 for middle in (0.5, -0.5)]
    return (any(near) and analytic in (0.0, 1.0, -1.0)) or (abs(numeric) < 1e-6 and abs(analytic) == 1.0)


ENTRIES = (
    Entry(
        "gradient-number",
        ("function {node:word} returned an incorrect number of gradients (expected {expected:int}, got {got:int})",),
        gradient_number,
    ),
    Entry(
        "gradient-shape",
        (
            "Function {node:word} returned an invalid gradient at index {index:int} - got {got:shape} but expected "
            "shape compatible with "
            "{expected:shape}",
            "Function {node:word} returned an invalid gradient at index {index:int} - expected shape {expected:shape} "
            "but "
            "got {got:shape}",
            "Function {node:word} returned an invalid gradient at index {index:int} - expected "
            "{type|dtype|device|layout} {wanted:any} but got "
            "{kind:word}",
        ),
        gradient_shape,
    ),
    Entry(
        "setup-context",
        (
            "In order to use an autograd.Function with functorch transforms (vmap, grad, jvp, jacrev, ...), it must "
            "override the setup_context "
            "staticmethod",
            "We do not yet have support for functorch transforms over autograd.Function",
        ),
        says(
            "The autograd.Function is written in the old style, which torch.func can't use",
            "torch.func (jacrev, jacfwd, vmap, grad) needs forward without ctx, and what is saved for backward in a "
            "separate method "
            "setup_context(ctx, inputs, output). With forward(ctx, …) both are mixed.",
            (
                "The Function has forward(ctx, a) and no setup_context.",
                "It comes from a library that is older than PyTorch 2.0.",
            ),
            (
                TEMPLATE,
                "generate_vmap_rule = True   # in the class, for jacrev and jacfwd, which use vmap",
                "torch.autograd.functional.jacobian(f, x)   # works with the old style",
            ),
        ),
    ),
    Entry(
        "function-vmap",
        (
            "You tried to vmap over {node:word}, but it does not have vmap support",
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or set "
            "generate_vmap_rule=True",
        ),
        vmap_support,
    ),
    Entry(
        "function-without-backward",
        ("You must implement {?either }the {missing:part} {method|function} for {?your }custom autograd.Function",),
        lambda found: Words(
            f"The autograd.Function has no {found.text('missing')}",
            f"A gradient is asked for that flows through a torch.autograd.Function without {found.text('missing')}.",
            (
                "The method is missing, misspelt, or lacks @staticmethod.",
                "Forward mode (jacfwd, torch.func.jvp, hessian) needs a jvp method beside backward.",
            ),
            (TEMPLATE,),
        ),
    ),
    Entry(
        "backward-returned-no-tensor",
        ("expected Variable or None (got {type:word})", "expected a Variable argument, but got {type:word}"),
        lambda found: Words(
            f"backward of an autograd.Function returned a {(found.text('type') or 'value').rstrip(')')}",
            f"Each value that backward returns must be a tensor (the gradient) or None (no gradient), not a "
            f"{(found.text('type') or 'value').rstrip(')')}.",
            ("The gradient was computed as a Python number or NumPy array.",),
            ("return g * 3.0   # arithmetic with g gives a tensor", "return torch.as_tensor(result, dtype=g.dtype)"),
        ),
    ),
    Entry(
        "save-for-backward",
        ("save_for_backward can only save variables, but argument {index:int} is of type {type:word}",),
        lambda found: Words(
            f"save_for_backward keeps tensors only; argument {found.int('index')} is a {found.text('type')}",
            "save_for_backward watches tensors for in-place changes. Anything else (numbers, shapes, flags) is simply "
            "put on ctx.",
            ("A number or a shape is saved along with the tensors.",),
            (
                "ctx.save_for_backward(x); ctx.power = power   # in forward",
                "ctx.saved_tensors, ctx.power   # in backward",
            ),
        ),
    ),
    Entry(
        "legacy-function",
        ("Legacy autograd function with non-static forward method is deprecated",),
        says(
            "The autograd.Function is written in the style of PyTorch before 1.3",
            "forward and backward must be static methods that get a ctx, and the function is called by .apply, not "
            "through an instance.",
            ("Old code or an old library: class F(Function): def forward(self, x).",),
            (TEMPLATE, "y = Mul.apply(a, b)   # instead of Mul()(a, b)"),
        ),
    ),
    Entry(
        "marked-dirty",
        ("Some elements marked as dirty during the forward method were not returned as output",),
        says(
            "An input that forward changes in place must be returned by it",
            "mark_dirty tells autograd that an input was overwritten; it then has to be an output of the Function, "
            "since it is a new value.",
            ("forward changes x in place and returns another tensor.",),
            ("ctx.mark_dirty(x); x.add_(1); return x", "y = x + 1; return y   # simpler: don't change inputs"),
        ),
    ),
    Entry(
        "once-differentiable",
        ("trying to differentiate twice a function that was marked with @once_differentiable",),
        says(
            "A second derivative is asked of a Function that has only a first",
            "Its backward is marked @once_differentiable: it was not made of operations that autograd records.",
            ("create_graph=True, a Hessian or a gradient penalty through a custom or third-party operation.",),
            ("Write backward with PyTorch operations on ctx.saved_tensors, without @once_differentiable.",),
        ),
    ),
    Entry(
        "gradcheck-mismatch",
        (
            "Jacobian {?computed with forward mode }mismatch for output {output:int} with respect to input "
            "{input:int}, "
            "numerical:{numeric:tensor} analytical:{analytic:tensor}",
            "Jacobian {?computed with forward mode }mismatch for output {output:int} with respect to input {input:int}",
        ),
        jacobian_mismatch,
    ),
    Entry(
        "gradcheck-zero",
        ("Numerical gradient for function expected to be zero",),
        says(
            "gradcheck: the function changes with its input, but autograd has no gradient",
            "No output requires grad, so autograd says that the derivative is zero; finite differences say that it is "
            "not. The graph is cut.",
            (
                "torch.tensor([x[0], …]), .item(), .detach(), .numpy() inside the function: they copy numbers, not "
                "the graph.",
                "The function runs under torch.no_grad().",
                "An integer cast or a comparison on the way.",
            ),
            (
                "torch.stack([x[0] * 2])   # instead of torch.tensor([x[0] * 2])",
                "print(y.requires_grad, y.grad_fn) after each step, to find the cut",
                'jvp check "torch.stack([x[0] * 2, x[1]])" --x 1,2',
            ),
        ),
    ),
    Entry(
        "gradcheck-no-input",
        (
            "gradcheck expects at least one input tensor to require gradient, but none of {?the }them have "
            "requires_grad=True",
            "no Tensors requiring grad found in input",
        ),
        says(
            "gradcheck: no input requires grad",
            "gradcheck compares derivatives with respect to the inputs that require grad, and there are none.",
            (
                "requires_grad=True is missing.",
                "The flag was lost: .double(), .to(…) after requires_grad_() make new tensors; .detach().",
            ),
            ("x = torch.randn(3, dtype=torch.float64, requires_grad=True); torch.autograd.gradcheck(f, (x,))",),
        ),
    ),
    Entry(
        "gradcheck-precision",
        (
            "Input #{index:int} requires gradient and is not a double precision floating point or complex",
            "At least one of the inputs that requires gradient is not of double precision floating point",
        ),
        says(
            "gradcheck needs float64",
            "Central differences subtract nearly equal numbers: in float32 only two or three digits remain, and "
            "gradcheck's tolerances are "
            "made for float64. The warning comes before a mismatch that may mean nothing.",
            ("The inputs are float32, PyTorch's default.",),
            ("x = x.double().requires_grad_(); torch.autograd.gradcheck(f, (x,))", "model.double()   # for modules"),
        ),
    ),
    Entry(
        "gradcheck-reentrant",
        (
            "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives "
            "different values",
        ),
        says(
            "gradcheck: backward gives different numbers each time",
            "The same backward was run twice with the same input and gave different results.",
            (
                "Sums in an order that varies (atomic additions on CUDA): rounding differs.",
                "backward is random, or changes its saved tensors in place.",
            ),
            (
                "torch.use_deterministic_algorithms(True)",
                "torch.autograd.gradcheck(f, x, nondet_tol=1e-8)   # if it is rounding alone",
            ),
        ),
    ),
    Entry(
        "gradcheck-stride",
        (
            "The {index:int}th input has a dimension with stride 0. gradcheck only supports inputs that are "
            "non-overlapping",
        ),
        says(
            "gradcheck: an input is expanded, so that its entries share memory",
            "Moving one entry by a little would move all entries that share its memory.",
            ("The input was made by expand or broadcasting.",),
            ("x = x.contiguous().requires_grad_()",),
        ),
    ),
    Entry(
        "gradcheck-grad-output",
        ("backward not multiplied by grad_output",),
        says(
            "gradcheck: backward ignores the gradient that arrives",
            "backward(ctx, g) must multiply by g (apply the transposed Jacobian to it); with g = 0 it must give 0, "
            "and it doesn't.",
            ("backward returns the derivative itself, without the factor g.",),
            ("return g * 2 * x   # not 2 * x",),
        ),
    ),
)
