"""Matrix, dot, outer and batched products."""

from __future__ import annotations

import re

from jvpcli.explain.shapes import inner_sizes, product_repairs, product_rule
from jvpcli.explain.table import commands
from jvpcli.explain.table.entry import Entry, Found, Words
from jvpcli.report import Shape

WAYS = "A.shape, B.shape printed before the line tell which of the two is not what you think."


def product_words(first: Shape, second: Shape, note: str = "", names: tuple[str, str] = ("A", "B")) -> Words:
    """Two factors whose inner sizes differ."""
    repairs = product_repairs(first, second)
    cures: list[str] = []
    shown: list[str] = []
    for a, b, swap in repairs:
        text = "B @ A" if swap else f"A{a} @ B{b}"
        cures.append(f"{text}   # {_shown(second, first) if swap else _shown(_moved(first, a), _moved(second, b))}")
        shown += commands.inspect(text, ("A", first), ("B", second))
    inner = inner_sizes(first, second)
    differ = f": the inner sizes {inner[0]} and {inner[1]} differ" if inner[0] != inner[1] else " fails"
    names = (term(names[0]), term(names[1]))
    a, b = names
    fitting = [f"{b} @ {a}" if swap else f"{a}{left} @ {b}{right}" for left, right, swap in repairs]
    turn = f" {' and '.join(fitting[:2])} would fit." if fitting else " No transpose makes them fit."
    return Words(
        f"A matrix product of {first} and {second}{differ}",
        f"{product_rule(first, second, names)}{turn}{note}",
        (
            *(("A matrix is the other way round: a transpose is missing, or one too many.",) if repairs else ()),
            "A layer expects another number of features than it gets: nn.Linear(in_features, …) must have the last "
            "size of its input.",
            "The batch axis is missing or flattened away: x.view(-1) instead of x.flatten(1).",
            "Element-wise multiplication is meant: A * B.",
        ),
        (
            *cures,
            f"nn.Linear({first[-1]}, …)   # if the second factor is a layer's weight: its in_features must be "
            f"{first[-1]}",
            WAYS,
            *shown[:1],
        ),
    )


def term(name: str) -> str:
    """An operand's text as a factor: with brackets unless it is a name, call or subscript."""
    return name if re.fullmatch(r"[\w.]+(?:[\[(].*[\])])?(?:\.\w+)?", name) else f"({name})"


def at_hand(found: Found) -> Words | None:
    """The product of two operands at hand, under their own names; None where they are not known, or the rule is another's."""
    pair = found.factors
    if pair is None or not pair[0][1] or not pair[1][1]:
        return None
    (a, first), (b, second) = pair
    if found.function in ("linear", "bilinear"):
        return layer(found.operands)
    inner = inner_sizes(first, second)
    return product_words(first, second, "", (a, b)) if inner[0] != inner[1] else None


def layer(operands: tuple[tuple[str, Shape], ...]) -> Words | None:
    """F.linear(x, W): x's last axis against W's."""
    (x, given), (weight, shape) = operands[:2]
    if not given or given[-1] == shape[-1]:
        return None
    turned = (
        f" {weight} has {given[-1]} in front: {weight}.T would fit." if len(shape) > 1 and shape[0] == given[-1] else ""
    )
    return Words(
        f"A linear layer for {shape[-1]} features gets {given[-1]}",
        f"F.linear(x, W) computes x @ W.T: W has the shape (out_features, in_features). The last axis of {x} "
        f"({given[-1]}, of shape "
        f"{given}) and the last of {weight} ({shape[-1]}, of shape {shape}) must be equal.{turned}",
        (
            "W is (in, out), as in x @ W: F.linear wants it the other way round.",
            "Another layer's weight, or x was flattened wrongly.",
        ),
        (f"F.linear(x, {weight}.T)", f"x.shape[-1] must be {shape[-1]}"),
    )


def _moved(shape: Shape, suffix: str) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if suffix else shape


def _shown(first: Shape, second: Shape) -> str:
    return f"{first} @ {second}"


def matrices(found: Found) -> Words:
    """E30: `mat1 and mat2 shapes cannot be multiplied`, and the wordings before it."""
    known = at_hand(found)
    if known is not None:
        return known
    first, second = found.shape("first"), found.shape("second")
    if first is None or second is None:
        return Words(
            "A matrix product of sizes that don't fit",
            f"The columns of the first factor ({found.text('a') or 'its last axis'}) must be as many as the rows of "
            f"the second "
            f"({found.text('b') or 'its last but one axis'}).",
            ("A transpose is missing, or one too many.", "A layer expects another number of features than it gets."),
            ("A @ B.T", WAYS),
        )
    flattened = (
        f" PyTorch folds the leading axes into one for this, and counts a vector as one row, so {first} may stand for "
        f"a tensor of "
        f"more axes whose last one is {first[-1]}; a linear layer's weight is shown transposed (in × out)."
    )
    return product_words(first, second, flattened)


def vector_product(found: Found) -> Words:
    """E34: matrix times vector."""
    known = at_hand(found)
    if known is not None:
        return known
    matrix, vector = found.shape("matrix"), found.shape("vector")
    if vector is None and found.int("length") is not None:
        vector = (found.int("length") or 0,)
    if matrix is None or vector is None:
        return Words(
            "A matrix times a vector of another length",
            "The matrix's columns must be as many as the vector's entries.",
            (),
            (WAYS,),
        )
    given = (found.shape("given") or (found.int("addend"),))[0]
    if matrix[-1] == vector[0] and given is not None:
        return Words(
            f"The vector that is added has {given} entries, the product {matrix[0]}",
            f"A matrix of shape {matrix} times a vector of shape {vector} gives {matrix[0]} entries; a vector of shape "
            f"({given},) is added to it.",
            ("The bias belongs to another layer.",),
            (f"a bias of shape ({matrix[0]},)",),
        )
    note = f" The result is to be added to a vector of shape ({given},)." if given not in (None, matrix[0]) else ""
    return product_words(matrix, vector, note)


def dot(found: Found) -> Words:
    """E32: two vectors of different length."""
    first, second = found.shape("first"), found.shape("second")
    a, b = (first or (0,))[0], (second or (0,))[0]
    return Words(
        f"A dot product of vectors with {a} and {b} entries",
        f"torch.dot multiplies entry by entry and adds up: both vectors need the same length, and {first} and "
        f"{second} differ. "
        "Unlike *, it doesn't broadcast, not even a length of 1.",
        (
            "A vector was cut or padded differently: off by one (a bias entry, a shifted window).",
            "All pairs of entries are meant: that is the outer product.",
        ),
        (
            f"torch.outer(a, b)   # all {a}·{b} products",
            f"torch.dot(a[:{min(a, b)}], b[:{min(a, b)}])   # if the longer one has extra entries",
            *commands.inspect("torch.outer(a, b)", ("a", (a,)), ("b", (b,))),
        ),
    )


def _fault(found: Found, which: str) -> str:
    """`, a of shape (2, 2),` for the first or second operand at hand."""
    if found.factors is None or which not in ("first", "second"):
        return ""
    name, shape = found.factors[which == "second"]
    return f", {name} of shape {shape},"


def one_dimensional(found: Found) -> Words:
    """E33: a function of vectors got a matrix."""
    function = found.text("function") or "The function"
    argument, dims = found.text("argument"), found.int("dims")
    which = {"self": "first", "vec2": "second", "other": "second", "tensor": "second"}.get(
        argument or "", argument or ""
    )
    got = f"has {dims} axes" if dims is not None else "has another number of axes"
    cures = {
        "outer": (
            "torch.outer(a.flatten(), b.flatten())",
            "a[..., :, None] * b[..., None, :]   # an outer product for each sample of a batch",
        ),
        "ger": ("torch.outer(a.flatten(), b.flatten())",),
    }.get(function, ("a.flatten()   # all entries in one row", "(a * b).sum(-1)   # a dot product for each row"))
    return Words(
        f"{function} takes vectors; the {which} argument {got}".replace("the  argument", "an argument"),
        f"{function} is defined for 1-d tensors (vectors) only, and the {which or 'given'} "
        f"argument{_fault(found, which)} {got}.",
        (
            "A batch of vectors (a matrix) was passed: the function has no batch axis.",
            "A vector has an extra axis of length 1, (n, 1) or (1, n): it needs .squeeze().",
        ),
        (*cures, 'jvp inspect "torch.outer(x, x)" --x 1,2,3'),
    )


def dot_dimensions(found: Found) -> Words:
    """torch.dot with matrices."""
    a, b = found.int("a"), found.int("b")
    return Words(
        f"torch.dot takes two vectors; these have {a} and {b} axes",
        f"A dot product is defined for two 1-d tensors; the arguments have {a} and {b} axes. NumPy's np.dot "
        f"multiplies matrices too, torch.dot "
        "does not.",
        ("A matrix product is meant.", "A dot product for each row of a batch is meant."),
        (
            "A @ b   # matrix products",
            "(A * B).sum(-1)   # a dot product for each row",
            "torch.dot(a.flatten(), b.flatten())",
        ),
    )


def batch_product(found: Found) -> Words:
    """bmm: batch or inner sizes differ."""
    known = at_hand(found)
    if known is not None:
        return known
    expected, got = found.shape("expected"), found.shape("got")
    if expected is None or got is None:
        return Words(
            "A batched matrix product of unequal batches",
            "In a batch of products A[i] @ B[i] both batches have equally many matrices.",
            ("A batch axis is missing, or stands last.",),
            ("A @ B   # instead of bmm: broadcasts the batch axes, so that one matrix serves all", WAYS),
        )
    which = (
        f"the batches have {expected[0]} and {got[0]} matrices"
        if expected[0] != got[0]
        else (f"the inner sizes are {expected[1]} and {got[1]}")
    )
    return Words(
        f"A batched product: {which}",
        f"In a batch of products A[i] @ B[i] both batches have equally many matrices, and A's columns are as many as "
        f"B's rows. The first two "
        f"sizes of B must be {expected} (from A) and are {got}.",
        (
            "B's last two axes are the other way round, as in attention: scores = q @ k.transpose(-2, -1).",
            "The axes stand in another order than (batch, rows, columns): (sequence, batch, features), say.",
        ),
        (
            "A @ B.transpose(-2, -1)   # or A @ B.mT",
            "A @ B   # instead of bmm: broadcasts the batch axes, so that one matrix serves all",
            *commands.inspect("A @ B.mT", ("A", (2, 2, expected[1])), ("B", (2, 4, expected[1]))),
        ),
    )


def must_be_matrix(found: Found) -> Words:
    """mm, bmm with operands of other depth."""
    which = {"self": "first", "mat1": "first", "mat2": "second", "batch1": "first", "batch2": "second", "vec": "second"}
    argument = which.get((found.text("argument") or "").lower(), found.text("argument") or "an")
    deep = "3" if found.text("deep") else "2"
    rule = (
        "torch.bmm multiplies batches of matrices, (batch, rows, columns): each factor has exactly 3 axes"
        if deep == "3"
        else "torch.mm multiplies two matrices, torch.mv a matrix and a vector: a matrix has exactly 2 axes"
    )
    return Words(
        f"The {argument} factor must have {deep} axes",
        f"{rule}, and the {argument} factor{_fault(found, argument)} has another number.",
        ("A vector or a batch was passed.", "An axis was lost by indexing or squeeze(), or kept by unsqueeze."),
        (
            "A @ B   # takes vectors, matrices and batches of them",
            f"{'A[None]' if deep == '3' else 'a[None, :]'}   # add the axis that is missing",
            'jvp inspect "A @ b" --A "1,2,3;4,5,6" --b 1,0,1',
        ),
    )


def zero_d(found: Found) -> Words:
    """`@` with a number."""
    a, b = found.int("a"), found.int("b")
    dims = f" ({a}-d and {b}-d)" if a is not None else ""
    return Words(
        f"@ with a single number{dims}",
        f"A matrix product needs at least one axis on both sides to sum over{dims}; a 0-d tensor has none.",
        ("The operand was reduced before: .sum(), .mean(), x[0] of a vector.", "Multiplication by a number is meant."),
        (
            "a * B   # a number times a tensor",
            "a.reshape(1) @ B   # a vector of one entry",
            'jvp inspect "a * B" --a 2 --B "1,2;3,4"',
        ),
    )


def contraction(found: Found) -> Words:
    """inner, tensordot, multi_dot, cdist: sizes that are summed over differ."""
    first, second = found.shape("first"), found.shape("second")
    a, b = found.text("a"), found.text("b")
    sizes = f"{first} and {second}" if first is not None and second is not None else f"{a} and {b}"
    return Words(
        f"The sizes that are summed over differ: {sizes}",
        f"Every pair of axes that a product sums over must have the same length; here: {sizes}.",
        (
            "The wrong axes are paired: dims=1 takes the last of the first and the first of the second.",
            "A transpose is missing.",
        ),
        (
            "torch.tensordot(a, b, dims=([1], [1]))   # name the axes that are summed over",
            "torch.einsum('ij,kj->ik', a, b)   # name them by letters",
        ),
    )


ENTRIES = (
    Entry(
        "matrix-product",
        (
            "mat1 and mat2 shapes cannot be multiplied ({first:shape} and {second:shape})",
            "size mismatch, m1: {first:shape}, m2: {second:shape}",
            "mat1 dim {:int} must match mat2 dim {:int}",
            "tensors {:int} and {:int} with shapes {first:shape} and {second:shape} cannot be multiplied",
            "a and b must have same reduction dim, but got {first:shape} X {second:shape}",
            "invalid argument 0: size mismatch, m1: {first:shape}, m2: {second:shape}",
        ),
        matrices,
    ),
    Entry(
        "matrix-vector",
        (
            "size mismatch, got input {given:vector}, mat ({matrix:matrix}), vec {vector:vector}",
            "size mismatch, {got|get} {addend:int}, {matrix:matrix}, {length:int}",
            "size mismatch, {matrix:matrix}, {vector:vector}",
        ),
        vector_product,
    ),
    Entry(
        "dot-length",
        (
            "inconsistent tensor size, expected tensor {first:shape} and src {second:shape} to have the same number "
            "of elements, but got {:int} "
            "and {:int} elements respectively",
            "inconsistent tensor size, expected {?r_ }{:shape}, {?t }{first:shape} and src {second:shape} to have the "
            "same number of elements",
        ),
        dot,
    ),
    Entry(
        "vectors-needed",
        (
            "{function:word}: Expected 1-D argument {argument:word}, but got {dims:int}-D",
            "{function:word}: Expected 1-D argument {argument:word}",
        ),
        one_dimensional,
    ),
    Entry(
        "dot-dimensions",
        (
            "1D tensors expected, {?but }got {a:int}D{?,} {?and }{b:int}D tensors",
            "1D tensors expected, got {a:int}D, {b:int}D tensors",
        ),
        dot_dimensions,
    ),
    Entry(
        "batch-product",
        (
            "Expected size for first two dimensions of batch2 tensor to be: {expected:pair} but got: {got:pair}{?.}",
            "batch1 and batch2 must have same number of batches, got {:int} and {:int}",
        ),
        batch_product,
    ),
    Entry(
        "matrix-needed",
        (
            "{argument:factor} must be a matrix{?, got }",
            "{argument:factor} must be a {deep:deep} tensor",
            "matrix and vector expected, got {:int}D, {:int}D",
            "vector + matrix @ vector expected, got {:int}, {:int}, {:int}",
            "matrices expected, got {:int}D, {:int}D tensors",
        ),
        must_be_matrix,
    ),
    Entry(
        "matmul-number",
        ("both arguments to {matmul|linear} need to be at least 1D, but they are {a:int}D and {b:int}D",),
        zero_d,
    ),
    Entry(
        "contraction-sizes",
        (
            "inner() the last dimension must match on both input tensors but got shapes {first:shape} and "
            "{second:shape}",
            "contracted dimensions need to match, but first has size {a:int} in dim {:int} and second has size "
            "{b:int} in dim {:int}",
            "X1 and X2 must have the same number of columns. X1: {a:int} X2: {b:int}",
        ),
        contraction,
    ),
    Entry(
        "cross-length",
        (
            "{?linalg.}cross: inputs dimension {axis:int} must have length 3. Got {a:int} and {b:int}",
            "dimension {axis:int} does not have size 3",
        ),
        lambda found: Words(
            "A cross product needs vectors of 3 entries",
            f"The axis {found.int('axis')} along which the cross product is taken must have length 3"
            + (f"; it has {found.int('a')} and {found.int('b')}." if found.int("a") is not None else "."),
            (
                "The vectors stand along another axis.",
                "The vectors have 2 or 4 entries: there is no cross product of those.",
            ),
            ("torch.linalg.cross(a, b, dim=0)   # the axis of length 3",),
        ),
    ),
)
