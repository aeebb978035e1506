"""Operands of different dtypes, and dtypes that an operation doesn't take."""

from __future__ import annotations

from jvpcli.explain.table.devices import devices
from jvpcli.explain.table.entry import Entry, Found, Words, says

INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")


def dtype_pair(found: Found) -> Words:
    """E40 and its many wordings: two operands of different dtype."""
    first, second = found.dtype("first"), found.dtype("second")
    if _on_cuda(found.text("first")) != _on_cuda(found.text("second")):
        return devices(found)
    if first is None or second is None:
        return _dtype_words("Operands of different dtype", "Their dtypes differ.", None, None)
    return _dtype_words(
        f"Operands of different dtype: {first} and {second}",
        f"One operand is {first}, the other {second}.",
        first,
        second,
    )


def _dtype_words(title: str, which: str, first: str | None, second: str | None) -> Words:
    pair = {first, second}
    causes = []
    if "float64" in pair:
        causes.append("The data came from NumPy or pandas, whose floats are float64; PyTorch's weights are float32.")
    if pair & set(INTEGERS):
        causes.append(
            "A tensor of integers: torch.tensor([1, 2]), torch.arange(3), images (uint8) or labels; a dot makes "
            "floats: [1., 2.]."
        )
    if pair & {"float16", "bfloat16"}:
        causes.append(
            "Half of the model was cast (.half(), .bfloat16()), or an input is used outside of torch.autocast."
        )
    causes.append(
        "A constant was made with another dtype than the tensors around it: torch.ones(3), torch.tensor(0.5)."
    )
    wanted = first if first not in INTEGERS and first != "float64" else second
    return Words(
        title,
        f"{which} Element-wise operations convert by themselves (+, *), matrix products, convolutions and in-place "
        f"indexing don't: both must have "
        "the same dtype.",
        tuple(causes),
        (
            f"b = b.to(a.dtype)   # or torch.from_numpy(array).float(){'' if wanted is None else f': here {wanted}'}",
            "model.double()   # the other way: the model in float64, slower",
            "torch.zeros_like(x), x.new_tensor(…)   # constants with x's dtype and device",
            'jvp inspect "A @ b" --A "1,2;3,4" --b 1,2 --dtype float64',
        ),
    )


def _on_cuda(text: str | None) -> bool:
    return text is not None and "cuda" in text.lower()


def found_dtype(found: Found) -> Words:
    """`expected scalar type Float but found Double`."""
    expected, got = found.dtype("expected"), found.dtype("got")
    if found.text("first") != found.text("second"):
        return devices(found)
    return _dtype_words(
        f"{expected} is expected, {got} was found", f"The operation expects {expected} and found {got}.", expected, got
    )


def only_floats(found: Found) -> Words:
    """E10: requires_grad on integers."""
    return Words(
        "Integer and boolean tensors can't require gradients",
        "A derivative asks what happens when a value changes a little, and integers can't. Only floating and complex "
        "tensors can have "
        "requires_grad=True.",
        (
            "The numbers were written without a dot: torch.tensor([1, 2]) is int64, torch.tensor([1., 2.]) is float32.",
            "torch.arange(3), torch.zeros_like(ints), torch.from_numpy of an integer array.",
            "An index or a label is meant to be learnt: use its embedding.",
        ),
        (
            "torch.tensor([1., 2.], requires_grad=True)",
            "x = x.float().requires_grad_()   # the copy is the leaf; its gradient doesn't reach back to the integers",
            'jvp inspect "torch.sin(x)" --x 0,1,2',
        ),
    )


def result_type(found: Found) -> Words:
    """An in-place operation that would change the dtype."""
    result, wanted = found.dtype("result"), found.dtype("wanted")
    return Words(
        f"A {result} result can't be written into a {wanted} tensor",
        f"In place (x += y, x.mul_(y), out=) the result goes into x, which is {wanted}; together with y it would be "
        f"{result}, and digits would be "
        "lost silently.",
        (
            f"The tensor was made of whole numbers: torch.tensor([1, 2]), torch.arange(3), torch.zeros(3, "
            f"dtype=torch.{wanted})."
            if wanted in INTEGERS
            else f"A constant or operand is {result}.",
            "A counter of integers takes fractions.",
        ),
        (
            "x = x + y   # out of place: the result gets its own dtype",
            "x = x.float(); x += y",
            "torch.tensor([1., 2.])   # floats from the start",
        ),
    )


def not_for_dtype(found: Found) -> Words:
    """`"exp" not implemented for 'Long'`."""
    kernel = found.text("kernel") or "the operation"
    dtype = found.dtype("dtype") or found.text("dtype") or "this dtype"
    name = (
        kernel.removesuffix("_cpu")
        .removesuffix("_cuda")
        .removesuffix("_out")
        .replace("_kernel_impl", "")
        .replace("_lastdim", "")
    )
    half = dtype in ("float16", "bfloat16")
    integer = dtype in INTEGERS
    return Words(
        f"{name} doesn't work with {dtype}",
        f"PyTorch has no {name} (the kernel {kernel}) for {dtype} on this device.",
        (
            *(("The input are whole numbers: torch.tensor([1, 2]), torch.arange(3), labels or images.",) if integer else ()),
            *(("float16 is meant for GPUs; many CPU kernels lack it.",) if half else ()),
            *(("Complex numbers have no order: max, min, <, sort, relu don't apply.",) if dtype.startswith("complex") else ()),
            *(("Bitwise operations (&, |, ~, <<) are for integers and booleans: a pair of brackets is missing, (x > "
               "0) & (y > 0).",)
              if dtype.startswith("float") and not half else ()),
            "Prediction and target of a loss stand in the wrong order, or the target has the wrong dtype.",
        ),
        (
            *(("x.float()   # floats",) if integer or half else ()),
            *(("z.abs().max()",) if dtype.startswith("complex") else ()),
            *(("model.float()   # on the CPU; or model.bfloat16()",) if half else ()),
            "F.cross_entropy(logits, target.long())   # logits first",
        ),
    )  # fmt: skip


def mean_of_integers(found: Found) -> Words:
    """mean, var, norm of integers."""
    function, got = found.text("function") or "mean", found.dtype("got")
    return Words(
        f"{function} of {got or 'whole'} numbers",
        f"The result would not be a whole number, so {function} wants floats{f'; the tensor is {got}' if got else ''}.",
        ("Whole numbers: torch.tensor([1, 2]), torch.arange, labels, (pred == target) without a cast.",),
        ("x.float().mean()", "(pred == target).float().mean()   # an accuracy"),
    )


ENTRIES = (
    Entry(
        "floats-only",
        (
            "Only Tensors of floating point {?and complex }dtype can require gradients",
            "only Tensors of floating point dtype can require gradients",
        ),
        only_floats,
    ),
    Entry(
        "same-dtype",
        (
            "expected m1 and m2 to have the same dtype, but got: {first:dtype} != {second:dtype}",
            "mat1 and mat2 must have the same dtype{?, but got} {first:dtype} and {second:dtype}",
            "mat1 and mat2 must have the same dtype",
            "addmv input tensors must have the same dtype, but got {:dtype}, {first:dtype}, and {second:dtype}",
            "expected both vectors to have same dtype, but found {first:dtype} and {second:dtype}",
            "Input type ({first:word}) and {weight|bias} type ({second:word}) should be the same{? or input should be "
            "a MKLDNN tensor and weight is a "
            "dense tensor}",
            "Index put requires the source and destination dtypes match, got {first:dtype} for the destination and "
            "{second:dtype} for the source",
            "Expected A and B to have the same dtype, but found A of type {first:dtype} and B of type {second:dtype}",
            "RNN input dtype ({first:dtype}) does not match weight dtype ({second:dtype})",
            "self ({first:dtype}) and source ({second:dtype}) must have the same scalar type",
            "Expected self.dtype to be equal to src.dtype",
            "{query|Expected query}, key, and value to have the same dtype, but got query.dtype: {first:dtype} "
            "key.dtype: {:any} and value.dtype: "
            "{second:dtype}",
        ),
        dtype_pair,
    ),
    Entry(
        "index-dtype",
        (
            "tensors used as indices must be long, {?int, }byte or bool tensors",
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            "{got:dtype} instead",
            "Expected tensor for argument #1 'indices' to have scalar type Long; but got {got:dtype} instead",
            "{?gather(): }Expected dtype int64 for index",
            "{?scatter(): }Expected dtype int64 for index",
            "index_select(): Expected dtype int32 or int64 for index",
        ),
        lambda found: Words(
            "Indices must be whole numbers" + (f"; these are {found.dtype('got')}" if found.dtype("got") else ""),
            "Indices (and the input of an embedding) are positions, so int64. "
            + (f"The tensor is {found.dtype('got')}." if found.dtype("got") else ""),
            (
                "The numbers came from a division, from NumPy floats or from a list with dots.",
                "The arguments stand in the wrong order: nn.Embedding gets the indices first.",
            ),
            (
                "x[index.long()]",
                "x[mask.bool()]   # a mask of 0 and 1",
                "An index has no derivative: what decides it doesn't learn; softmax weights or gumbel_softmax do.",
            ),
        ),
    ),
    Entry(
        "found-dtype",
        (
            "expected scalar type {expected:dtype} but found {got:dtype}",
            "Found dtype {got:dtype} but expected {expected:dtype}",
            "Expected object of {scalar|data} type {expected:dtype} but got {scalar|data} type {got:dtype} for",
            "expected dtype {expected:dtype} for `{:word}` but got dtype {got:dtype}",
            "expected {backend|device} {first:word} and dtype {expected:dtype} but got {backend|device} {second:word} "
            "and dtype {got:dtype}",
            "Expected tensor for {argument:argument} to have scalar type {expected:dtype}; but got {got:dtype} instead",
            "Expected tensor for {argument:argument} to have the same type as tensor for {:argument}; but type "
            "{got:dtype} does not equal "
            "{expected:dtype}",
            "expected type {expected:dtype} but got {got:dtype}",
        ),
        found_dtype,
    ),
    Entry(
        "result-type",
        (
            "result type {result:dtype} can't be cast to the desired {output|out=} type {wanted:dtype}",
            "result type {result:dtype} can't be cast to {wanted:dtype}",
        ),
        result_type,
    ),
    Entry(
        "not-for-dtype",
        (
            "\"{kernel:word}\" not implemented for '{dtype:dtype}'",
            "{kernel:word} not implemented for '{dtype:dtype}'",
            "{kernel:word} is not implemented for type {dtype:dtype}",
            "{kernel:word} not supported on {:word} for {dtype:dtype}",
            "{kernel:word}: Expected a floating point or complex tensor as input. Got {dtype:dtype}",
            "{kernel:word} expects a real input tensor, but got {dtype:dtype}",
        ),
        not_for_dtype,
    ),
    Entry(
        "mean-of-integers",
        (
            "{function:word}(): could not infer output dtype. Input dtype must be either a floating point or complex "
            "dtype. Got: {got:dtype}",
            "{function:word}(): input dtype should be either floating point or complex{? dtypes}. Got {got:dtype} "
            "instead",
            "Can only calculate the {function:word} of floating {?and complex }types. Got {got:dtype} instead",
            "{function:word} only support floating point and complex dtypes",
        ),
        mean_of_integers,
    ),
    Entry(
        "bool-arithmetic",
        (
            "Negation, the `-` operator, on a bool tensor is not supported",
            "Subtraction, the `-` operator, with {two bool tensors|a bool tensor} is not supported",
            "~ (operator.invert) is only implemented on integer and Boolean-type tensors",
        ),
        says(
            "- and ~ mix up booleans and numbers",
            "A mask (bool) is inverted by ~, a number by -; neither works on the other.",
            ("1 - mask of older code, when masks were uint8.", "~ of a float mask of 0 and 1."),
            ("~mask", "1 - mask.float()", "mask.logical_not()"),
        ),
    ),
    Entry(
        "condition-dtype",
        (
            "where expected condition to be a boolean tensor, but got a tensor with dtype {got:dtype}",
            "expected condition {to be|} a {bool|byte} tensor",
        ),
        lambda found: Words(
            f"torch.where wants a boolean condition; it got {found.dtype('got') or 'another dtype'}",
            "The first argument of where is a mask of True and False.",
            ("A mask of 0. and 1., or the arguments stand in another order.",),
            ("torch.where(mask.bool(), a, b)", "torch.where(x > 0, a, b)"),
        ),
    ),
)
