"""The way between tensors, Python numbers, lists and NumPy."""

from __future__ import annotations

from jvpcli.explain.shapes import counted
from jvpcli.explain.table.entry import Entry, Found, Words, says


def numpy_grad(found: Found) -> Words:
    """E11: .numpy() of a tensor that requires grad."""
    return Words(
        "NumPy can't follow gradients",
        "The tensor is part of a graph, and a NumPy array is not: what is computed from the array has no gradient. "
        "PyTorch refuses so that this "
        "doesn't happen unnoticed.",
        (
            "Numbers are wanted for a plot, a metric or a file: then the graph may be cut.",
            "A NumPy or SciPy function is used in the middle of the model or the loss: then it must not.",
            "np.array(list_of_tensors), plt.plot(loss), sklearn metrics: they call .numpy() themselves.",
        ),
        (
            "y.detach().cpu().numpy()   # only at the end: for plots, metrics, files",
            "torch.sin(y)   # in the middle of a computation: PyTorch's function instead of NumPy's",
            "The advice in the message, .detach(), silences the error everywhere, but inside the computation it cuts "
            "the gradient: the parameters before "
            "it stop learning, without a word.",
            "A NumPy function that PyTorch lacks: a torch.autograd.Function with its own backward.",
        ),
    )


def ambiguous(found: Found) -> Words:
    """`if tensor:` with several values."""
    many = "no values" not in (found.text("many") or "")
    return Words(
        "A condition on a tensor with several values" if many else "A condition on an empty tensor",
        "if, while, and, or, not, assert, in and min/max of Python ask for one True or False, and the tensor has an "
        "answer for each entry."
        if many
        else "if, while and assert ask for one True or False, and the tensor has no entries.",
        (
            "if x > 0: with a vector x: all, any, or each entry by itself may be meant.",
            "(x > 0) and (x < 1), or a chain 0 < x < 1: Python's and can't work entry by entry.",
            "x in list_of_tensors, list.index(x), list.remove(x): they compare with ==.",
            "nn.MSELoss(pred, target): the class was called instead of an instance.",
        ),
        (
            "torch.where(x > 0, a, b)   # entry by entry, with a gradient to a and b",
            "(x > 0) & (x < 1)   # with brackets",
            "if (x > 0).all(): …   # or .any(), torch.equal(a, b), torch.allclose(a, b)",
            "if x is not None: …, if x.numel() > 0: …",
            "nn.MSELoss()(pred, target)",
            'jvp inspect "torch.where((x > 0) & (x < 1), x**2, 0*x)" --x -1,0.5,2',
        ),
    )


def one_element(found: Found) -> Words:
    """A Python number from several entries."""
    count = found.int("count")
    return Words(
        f"A tensor with {counted(count, 'entry') if count is not None else 'several entries'} can't become one Python "
        f"number",
        ".item(), float(t), int(t), and functions of Python's math ask for a single number.",
        (
            "A loss with reduction='none', or a batch of losses: a .mean() is missing.",
            "torch.tensor([a, b]) of tensors with several entries: stack is meant.",
            "math.sin(t), round(t), np.sqrt(t): functions for numbers.",
        ),
        (
            "loss.mean().item()",
            "torch.stack([a, b])   # keeps the graph too; torch.tensor([…]) would cut it",
            "torch.sin(t)   # instead of math.sin(t)",
            "t.tolist()   # a list of all numbers",
        ),
    )


def to_index(found: Found) -> Words:
    """A tensor as an index of a list or as a size."""
    return Words(
        "A tensor is used as index of a list, or as a size",
        "Python lists, range() and sizes need a whole number: a tensor of integers with one entry can stand for it, "
        "floats and longer ones can't.",
        (
            "The index is a float: a division with / gives floats.",
            "Several indices at once: a list can't do that, a tensor can.",
        ),
        ("items[int(i)]", "torch.stack(items)[indices]   # several at once", "n // 2   # a whole number"),
    )


def must_be_tensor(found: Found) -> Words:
    """A list or number where a tensor is wanted."""
    function, argument, got = found.text("function"), found.text("argument"), found.text("type") or "something else"
    simple = got.removeprefix("numpy.")
    cure = {
        "list": "torch.tensor([1., 2.])   # of a list of numbers; torch.stack(tensors) of a list of tensors",
        "tuple": "torch.stack(tensors)   # or pick one: results of max(dim), lstm, … are tuples: values, indices = "
        "x.max(0)",
        "float": "torch.tensor(1.0)   # or math.sin(1.0) for plain numbers",
        "int": "torch.tensor(1.0)",
        "ndarray": "torch.from_numpy(array).float()",
        "NoneType": "return y   # a function or forward() that returns nothing gives None",
    }.get(simple, "torch.as_tensor(x)")
    return Words(
        f"{function} got a {got} where it wants a tensor",
        f"{function}'s argument {argument} must be a tensor and is a {got}. A number that was taken out of a tensor "
        f"has left the graph, too.",
        (
            "The result of a function that returns several things was not unpacked.",
            "A number from .item() or float(…), a list, or a NumPy array comes from a step before.",
        ),
        (cure, "torch.as_tensor(x, dtype=torch.float32)"),
    )


def no_attribute(found: Found) -> Words:
    """`.backward()` and the like of something that is no tensor."""
    kind, function, attribute = found.text("type"), found.text("function"), found.text("attribute")
    if function is not None:
        return Words(
            f"The result of {function} with dim is a pair, not a tensor",
            f"With a dim, {function} returns (values, indices), and .{attribute} is asked of the pair.",
            (f"{function}(dim) was taken for {function}(), which gives one number.",),
            (f"x.{function}(0).values", f"values, indices = x.{function}(0)"),
        )
    return Words(
        f".{attribute} is asked of a {kind}, which is no tensor",
        f"Only tensors carry a graph; this value is a {kind}. Whatever gradient it had was left behind when it "
        f"stopped being a tensor.",
        (
            "The loss was made a Python number: loss.item(), float(loss), or a sum() that begins with numbers only.",
            "A model of a library returns an object or tuple: the loss or the logits are a part of it.",
            "A function returns nothing.",
        ),
        (
            "loss.backward()   # on the tensor; loss.item() afterwards, for printing",
            "outputs.loss.backward()   # Hugging Face: pass labels, so that there is a loss",
            "print(type(loss))",
        ),
    )


ENTRIES = (
    Entry(
        "numpy-grad",
        (
            "Can't call numpy() on {Tensor|Variable} that requires grad. Use {tensor|var|variable}.detach().numpy() "
            "instead{?.}",
            "Can't call numpy() on {Tensor|Variable} that requires grad",
            "Can't get __cuda_array_interface__ on Variable that requires grad",
            "Can't export tensors that require gradient, use tensor.detach()",
        ),
        numpy_grad,
    ),
    Entry(
        "numpy-conjugate",
        ("Can't call numpy() on Tensor that has {conjugate|negative} bit set",),
        says(
            "A lazily conjugated tensor can't become a NumPy array",
            "z.conj() is only marked as conjugated; NumPy can't read that mark.",
            ("The result of .conj(), .mH, .H or .imag of a conjugate.",),
            ("z.conj().resolve_conj().numpy()",),
        ),
    ),
    Entry(
        "ambiguous-truth",
        (
            "{Boolean|bool} value of {Tensor|Variable} with {many:values} is ambiguous",
            "bool value of {Tensor|Variable} objects containing non-empty torch.{:word} is ambiguous",
        ),
        ambiguous,
    ),
    Entry(
        "one-element",
        (
            "only one element tensors can be converted to Python scalars",
            "a Tensor with {count:int} elements cannot be converted to Scalar",
            "only tensors of size 1 can be converted to Python scalars",
        ),
        one_element,
    ),
    Entry(
        "tensor-as-index",
        (
            "only integer tensors of a single element can be converted to an index",
            "only integer scalar tensors can be converted to {an index|a scalar index}",
        ),
        to_index,
    ),
    Entry(
        "must-be-tensor",
        (
            "{function:word}(): argument '{argument:word}' (position {position:int}) must be Tensor, not {type:word}",
            "{function:word}(): argument '{argument:word}' must be Tensor, not {type:word}",
        ),
        must_be_tensor,
    ),
    Entry(
        "no-such-attribute",
        (
            "'torch.return_types.{function:word}' object has no attribute '{attribute:word}'",
            "'{type:word}' object has no attribute '{attribute:tape}'",
        ),
        no_attribute,
    ),
    Entry(
        "must-be-tensors",
        (
            "{function:word}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type:word}",
            "expected Tensor as element {index:int} in argument {position:int}, but got {type:word}",
            "expected a sequence of Tensors",
        ),
        lambda found: Words(
            f"{found.text('function') or 'cat or stack'} wants a list of tensors",
            (
                f"Item {found.int('index')} of the list is a {found.text('type')}."
                if found.text("index")
                else f"It got a {found.text('type') or 'single value'}, not a list or tuple of tensors."
            ),
            (
                "The brackets are missing: torch.cat(a, b) instead of torch.cat([a, b]).",
                "The list holds numbers, from .item() or a constant.",
            ),
            ("torch.cat([a, b])", "torch.stack([a, torch.as_tensor(1.0)])"),
        ),
    ),
    Entry(
        "ragged-list",
        ("expected sequence of length {expected:int} at dim {axis:int} (got {got:int})",),
        lambda found: Words(
            f"torch.tensor of rows of different length: {found.int('expected')} and {found.int('got')}",
            f"A tensor is a block: all items along axis {found.int('axis')} have the same length. One has "
            f"{found.int('expected')} entries, another "
            f"{found.int('got')}.",
            ("Sequences of different length.", "A value is missing in a row."),
            ("torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)",),
        ),
    ),
    Entry(
        "copy-construct",
        ("To copy construct from a tensor, it is recommended to use sourceTensor.{clone().detach()|detach().clone()}",),
        says(
            "torch.tensor(t) of a tensor cuts the graph",
            "torch.tensor copies the numbers only: what is computed from the copy gives no gradient to the original. "
            "It is a warning; the gradient is lost "
            "silently. The detach().clone() that it recommends cuts the graph as well: it only says so.",
            (
                "A tensor is wrapped again 'to be sure': torch.tensor(loss), torch.tensor(x) in __getitem__.",
                "A copy is wanted that can be changed.",
            ),
            (
                "y = x   # a tensor needs no wrapping; torch.as_tensor(x) leaves tensors as they are",
                "y = x.clone()   # a copy that stays in the graph",
                "y = x.detach().clone()   # a copy for bookkeeping, without gradient",
            ),
        ),
    ),
    Entry(
        "scalar-conversion",
        ("Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior",),
        says(
            "A tensor that requires grad becomes a plain number: the graph is cut here",
            "float(t), t.item(), math.f(t), and torch.tensor([x[0], x[1]]) take the number out; what is computed from "
            "it has no gradient, without an "
            "error. The .detach() that the warning recommends silences it and cuts the graph as well.",
            (
                "torch.tensor([x[0], x[1]]) builds a vector from entries of another.",
                "A Python number is computed in the middle of the function: float(x.sum()), math.exp(x).",
                "It is only for printing or logging: then nothing is wrong.",
            ),
            (
                "torch.stack([x[0], x[1]])   # keeps the graph",
                "torch.exp(x)   # instead of math.exp(x)",
                "print(loss.item())   # for printing",
                'jvp inspect "torch.stack([x[0]*x[1], torch.sin(x[0])])" --x 1,2',
            ),
        ),
    ),
)
