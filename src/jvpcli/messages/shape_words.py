"""What the cards about shapes, and places in them, decide: the pieces of their words, by the shapes that a message names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from math import prod

from jvpcli.messages.cards import Found, Pieces
from jvpcli.messages.shapes import (
    aligned,
    broadcast,
    broadcast_table,
    clashes,
    counted,
    divisors_with_guess,
    inner_sizes,
    likeness,
    listed,
    product_repairs,
    refit,
    with_axes,
)
from jvpcli.report import Shape

Named = tuple[str, Shape]

SMALL = 4096
"""Entries of an operand above which no command is shown: its Jacobian would be too large to look at."""


def command(expression: str, *operands: Named) -> str | None:
    """`jvp inspect "A @ B.T" --A "torch.randn(2, 3)" …` for a message's shapes; None if one is large, or empty."""
    if any(prod(shape) > SMALL or prod(shape) == 0 for _, shape in operands):
        return None
    inputs = " ".join(f'--{name} "torch.randn({listed(shape) or "()"})"' for name, shape in operands)
    return f'jvp inspect "{expression}" {inputs}'


# Products


def matrix_product(found: Found) -> Pieces:
    """Two factors whose inner sizes differ: those of the expression at hand, else those of the message."""
    first, second = found.shape("first"), found.shape("second")
    at_hand = _at_hand(found)
    if at_hand or first is None or second is None:
        return at_hand
    return {**_product(first, second), "folded": True}


def matrix_vector(found: Found) -> Pieces:
    """A matrix times a vector, and perhaps plus another: which of them doesn't fit."""
    at_hand = _at_hand(found)
    if at_hand:
        return {"card": "matrix-product", **at_hand}
    matrix, vector, length = found.shape("matrix"), found.shape("vector"), found.int("length")
    if vector is None and length is not None:
        vector = (length,)
    if matrix is None or vector is None:
        return {}
    given = (found.shape("given") or (found.int("addend"),))[0]
    if matrix[-1] == vector[0] and given is not None:
        return {"given": given, "vector": vector, "rows": matrix[0]}
    added = given if given != matrix[0] else None
    return {"card": "matrix-product", **_product(matrix, vector), "added": added}


def _at_hand(found: Found) -> Pieces:
    """The product of two operands at hand, under their own names; none where they are not known, or the rule is another's."""
    pair = found.factors
    if pair is None or not pair[0][1] or not pair[1][1]:
        return {}
    (a, first), (b, second) = pair
    if found.function in ("linear", "bilinear"):
        return _layer(found.operands)
    left, right = inner_sizes(first, second)
    return _product(first, second, (a, b)) if left != right else {}


def _layer(operands: Sequence[Named]) -> Pieces:
    """F.linear(x, W): x's last axis against W's."""
    (x, given), (weight, shape) = operands[:2]
    if not given or given[-1] == shape[-1]:
        return {}
    turned = weight if len(shape) > 1 and shape[0] == given[-1] else None
    return {
        "x": x, "x_shape": given, "given": given[-1],
        "weight": weight, "weight_shape": shape, "features": shape[-1], "turned": turned,
    }  # fmt: skip


def _product(first: Shape, second: Shape, names: tuple[str, str] = ("A", "B")) -> Pieces:
    """Two factors: their inner sizes, and the transposes that make them fit."""
    repairs = product_repairs(first, second)
    a, b = map(term, names)
    columns, rows = inner_sizes(first, second)
    lines, commands = [], []
    for left, right, swap in repairs:
        text = "B @ A" if swap else f"A{left} @ B{right}"
        factors = (second, first) if swap else (_moved(first, left), _moved(second, right))
        lines.append(f"{text}   # {factors[0]} @ {factors[1]}")
        commands.append(command(text, ("A", first), ("B", second)))
    fitting = [f"{b} @ {a}" if swap else f"{a}{left} @ {b}{right}" for left, right, swap in repairs]
    return {
        "first": first, "second": second, "left": a, "right": b, "columns": columns, "rows": rows,
        "differ": columns != rows,
        "which": "only" if len(second) == 1 else "last but one",
        "fitting": " and ".join(fitting[:2]) or None,
        "repairs": lines,
        "command": next(filter(None, commands), None),
    }  # fmt: skip


def term(name: str) -> str:
    """An operand's text as a factor: with brackets unless it is a name, call or subscript."""
    return name if re.fullmatch(r"[\w.]+(?:[\[(].*[\])])?(?:\.\w+)?", name) else f"({name})"


def _moved(shape: Shape, suffix: str) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if suffix else shape


def dot_length(found: Found) -> Pieces:
    """Two vectors of different length."""
    a, b = ((found.shape(name) or (0,))[0] for name in ("first", "second"))
    return {"a": a, "b": b, "least": min(a, b), "command": command("torch.outer(a, b)", ("a", (a,)), ("b", (b,)))}


def _fault(found: Found, which: str) -> Pieces:
    """The first or second operand at hand, with its shape."""
    if found.factors is None or which not in ("first", "second"):
        return {}
    name, shape = found.factors[which == "second"]
    return {"factor": name, "factor_shape": shape}


def vectors_needed(found: Found) -> Pieces:
    """Which argument of a function of vectors is none."""
    function, argument = found.text("function"), found.text("argument") or ""
    which = {"self": "first", "vec2": "second", "other": "second", "tensor": "second"}.get(argument, argument)
    return {
        "which": which,
        "outer": function in ("outer", "ger"),
        "batched": function == "outer",
        **_fault(found, which),
    }


def batch_product(found: Found) -> Pieces:
    """A batched product: whether the batches or the inner sizes differ."""
    at_hand = _at_hand(found)
    if at_hand:
        return {"card": "matrix-product", **at_hand}
    expected, got = found.shape("expected"), found.shape("got")
    if expected is None or got is None:
        return {}
    batches = f"the batches have {expected[0]} and {got[0]} matrices"
    inner = f"the inner sizes are {expected[1]} and {got[1]}"
    return {
        "which": batches if expected[0] != got[0] else inner,
        "command": command("A @ B.mT", ("A", (2, 2, expected[1])), ("B", (2, 4, expected[1]))),
    }


def matrix_needed(found: Found) -> Pieces:
    """Which factor of mm, mv or bmm has another number of axes."""
    places = {"self": "first", "mat1": "first", "mat2": "second", "batch1": "first", "batch2": "second", "vec": "second"}
    argument = found.text("argument") or "an"
    which = places.get(argument.lower(), argument)
    return {"which": which, **_fault(found, which)}


def solve_shapes(found: Found) -> Pieces:
    """Whether B would have A's number of rows if it were transposed; where nothing is known, too."""
    a, b = found.shape("first"), found.shape("second")
    return {"turned_fits": a is None or b is None or (len(a) > 1 and b[-1:] == a[-2:-1])}


# Broadcasting


def broadcast_sizes(found: Found) -> Pieces:
    """Two sizes at one axis, and the operands at hand that have them."""
    a, b = found.int("a") or 0, found.int("b") or 0
    front = found.int("axis") == 0
    pieces: Pieces = {
        "close": abs(a - b) if abs(a - b) <= 2 else None,
        "front": front,
        "command": command("a[:, None] + b", ("a", (a or 1,)), ("b", (b or 1,))) if front else None,
    }
    for (left, first), (right, second) in combinations(found.operands, 2):
        at = next((axis for axis in clashes(first, second) if {first[axis], second[axis]} == {a, b}), None)
        if at is not None:
            axis = clashes(first, second)[0]
            place = "the last axis" if axis == -1 else f"axis {axis}"
            named = {"left": left, "right": right, "left_size": first[axis], "right_size": second[axis], "place": place}
            return {**pieces, **_together(found.operands), **named}
    return pieces


def _together(operands: Sequence[Named]) -> Pieces:
    """Operands that don't broadcast: a table, the first axis that clashes, and the axes that would make two of them fit."""
    (a, first), (b, second) = next(pair for pair in combinations(operands, 2) if broadcast(pair[0][1], pair[1][1]) is None)
    lacking = len(first) != len(second) or len(first) == 1  # an axis: else new ones make another thing of them
    made = [(b, new, broadcast(first, with_axes(second, new)) or ()) for new in aligned(second, first)][:2]
    made += [(a, new, broadcast(with_axes(first, new), second) or ()) for new in aligned(first, second)][:2]
    kept = [each for each in made if each[2] in (first, second)]  # the shape of the larger: else all pairs are made
    repairs = [f"{term(name)}{new}   # {shape}" for name, new, shape in kept or made[:3]]
    at = next(iter(clashes(first, second)), None)
    sizes = {} if at is None else {"at": at, "left_size": first[at], "right_size": second[at]}
    table = "\n".join(broadcast_table(operands))
    return {**sizes, "table": table, "lacking": lacking, "repairs": repairs if lacking else None}


def broadcast_refused(found: Found) -> Pieces:
    """Two shapes that don't broadcast; a pair that does was refused only because the second may not grow."""
    first, second = found.shape("first"), found.shape("second")
    if first is None or second is None:
        return {"first": None}
    return _together([("a", first), ("b", second)]) if broadcast(first, second) is None else {}


def expand_size(found: Found) -> Pieces:
    """The bias that can't be added to a product, or what makes a tensor ready for expand."""
    have, target = found.shape("have"), found.shape("target")
    added = [name for name, shape in found.operands if shape == have]
    if found.factors is not None and len(found.operands) > 2 and added and target is not None:
        return {"added": added[-1]}
    if have is None or target is None:
        return {"target": None}
    fitting = [new for new in aligned(have, target) if broadcast(with_axes(have, new), target) == target]
    return {"expansions": [f"x{new}.expand({listed(target)})" for new in fitting[:2]]}


def loss_shapes(found: Found) -> Pieces:
    """A prediction and a target of different shapes: what they broadcast to, and what makes them equal."""
    target, given = found.shape("target"), found.shape("given")
    if target is None or given is None:
        return {"target": None}
    both, back = broadcast(target, given), refit(target, given) or None
    probe = command("F.mse_loss(p, t.reshape(p.shape))", ("p", given or (1,)), ("t", target or (1,)))
    return {
        "both": None if both in (target, given) else both,
        "likeness": likeness(target, given),
        "back": back,
        "fit": refit(given, target) or None,
        "column": given[-1:] == (1,),
        "command": probe if back else None,
    }


# Rearranging


def reshape_count(found: Found) -> Pieces:
    """The target of a reshape, and the sizes that would fit in its place."""
    target, size = tuple(map(int, re.findall(r"-?\d+", found.text("target") or ""))), found.int("size") or 0
    known = [length for length in target if length != -1]
    factors = " · ".join(map(str, known)) or "1"
    guesses = divisors_with_guess(target, size)
    return {
        "size": size,
        "target": target,
        "open": -1 in target,
        "entries": factors if len(known) < 2 else f"{factors} = {prod(known)}",
        "guesses": [f"x.reshape({listed(new)})   # -1 is computed: {size // -prod(new)}" for new in guesses[:2]],
        "command": command(f"x.reshape({listed(guesses[0])})", ("x", (size,))) if guesses else None,
    }


def cat_sizes(found: Found) -> Pieces:
    """The axis at which the tensors of a cat differ, and the one along which they would fit."""
    axis, number, other = found.int("axis"), found.int("number"), found.int("other")
    expected, got = found.int("expected"), found.int("got")
    along: int | None = other if other is not None else 1 if axis == 0 else 0
    if found.operands and number is not None and number < len(found.operands) and axis is not None:
        differing = _differing(found.operands[0][1], found.operands[number][1])
        other = next((at for at in differing if at != axis % len(found.operands[0][1])), None)
        along = differing[0] if len(differing) == 1 else None
    known = axis == 0 and expected is not None and got is not None
    return {
        "name": found.function or "cat",
        "other": other,
        "along": along,
        "command": command("torch.cat([a, b], dim=1)", ("a", (2, expected or 0)), ("b", (2, got or 0))) if known else None,
    }


def _differing(first: Shape, second: Shape) -> list[int]:
    """The axes at which two shapes differ."""
    return [axis for axis, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]


def cat_number(found: Found) -> Pieces:
    """The tensor beside which a single number stands, and its text, where both are at hand."""
    index = found.int("index") or 0
    beside = next((term(name) for name, shape in found.operands if shape), None)
    return {"beside": beside, "number": term(found.operands[index][0]) if beside and index < len(found.operands) else None}


def scattering(found: Found) -> Pieces:
    """The texts of the index and of the source of a scatter; `number`: the index of one that writes a number."""
    scatter, names = found.function.startswith("scatter"), [term(name) for name, _ in found.operands]
    at, source = names[1:] if scatter and len(names) == 3 else ("index", "src")
    number = names[1] if scatter and len(names) == 2 else None
    from_tensor = scatter and number is None
    return {
        "scatter": scatter,
        "gather": not scatter,
        "at": at if from_tensor else None,
        "source": source,
        "adds": at if from_tensor and "add" in found.function else None,
        "number": number,
    }


# Indexing


def axis_range(found: Found) -> Pieces:
    """How many axes the tensor has, and their numbers; unsqueeze and stack count the new one, too."""
    high, dims = found.int("high"), found.int("dims")
    if found.int("low") is None and dims is not None:
        high = (dims or 1) - 1
    count = 1 if high is None else high + 1
    inserts = found.function in ("unsqueeze", "stack")
    return {
        "has": f"{counted(count - 1, 'axis')} and the new one" if inserts else counted(count, "axis"),
        "axes": "0" if count == 1 else f"0 to {count - 1} (or -{count} to -1, from the end)",
        "single": count == 1,
        "number": count == 1 and not (found.operands and found.operands[0][1]),
        "inserting": count > 1 and (inserts or not found.operation),
    }


def index_range(found: Found) -> Pieces:
    """The length of the axis that a subscript is beyond the end of."""
    index, axis, size, shape = found.int("index"), found.int("axis"), found.int("size"), found.shape("shape")
    if size is None and shape is not None and axis is not None and axis < len(shape):
        size = shape[axis]
    return {
        "size": size,
        "last": None if size is None else size - 1,
        "empty": size == 0,
        "before": None if index is None or index != size else index - 1,
    }


def target_range(found: Found) -> Pieces:
    """Whether the class's number is a mark."""
    target = found.int("target")
    return {"negative": target is not None and target <= 0}


def axes_needed(found: Found) -> Pieces:
    """The function that wants another number of axes."""
    return {
        "function": found.text("function") or found.function or "The operation",
        "least": found.int("least") or None,
        "given": found.shape("given") or None,
    }


# Layers


def conv_channels(found: Found) -> Pieces:
    """Where the channels stand in the input of a convolution."""
    weight, given = found.shape("weight"), found.shape("given") or ()
    expected, got = found.int("expected"), found.int("got")
    last = len(given) > 2 and given[-1] == expected
    return {
        "transposed": found.text("kind") == "transposed",
        "channels_last": last,
        "moved": expected in given and not last,
        "order": listed((len(given) - 1, *range(1, len(given) - 1))),
        "depth": max(1, len(weight or (0, 0, 0)) - 2),
        "grey": got == 1 and expected == 3,
        "alpha": got == 4 and expected == 3,
    }


def conv_depth(found: Found) -> Pieces:
    """How many axes the input of a convolution has, and should have."""
    given, axes = found.shape("given"), found.int("axes")
    return {
        "batched": found.text("batched") or (f"{axes}D" if axes else "one axis more"),
        "depth": None if given is None else len(given),
    }


def layer_norm(found: Found) -> Pieces:
    """The last axis of what a LayerNorm gets."""
    return {"last": (found.shape("given") or ("…",))[-1]}


def class_target(found: Found) -> Pieces:
    """Whether the loss is of pairs, and not of classes."""
    return {"cosine": found.function == "cosine_embedding_loss"}


def class_batch(found: Found) -> Pieces:
    """Whether one number of samples is a multiple of the other: they were mixed."""
    given, target = found.int("given"), found.int("target")
    return {"mixed": bool(given and target and (given % target == 0 or target % given == 0))}
