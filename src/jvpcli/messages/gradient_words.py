"""What the cards about graphs, cotangents and derivatives decide: the pieces of their words, by what a message says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from jvpcli.messages.cards import Found, Pieces
from jvpcli.messages.shapes import Shape, likeness, listed, refit


def _same_numbers(got: Shape, expected: Shape) -> str | None:
    """What to write behind a tensor so that it has the expected shape, where nothing is repeated or left out by that."""
    return (refit(got, expected) or None) if prod(got) == prod(expected) else None


def cotangent_shape(found: Found) -> Pieces:
    """The cotangent hasn't the output's shape: which shape it has instead, and whether its numbers fit."""
    got, expected = found.shape("got"), found.shape("expected")
    if got is None or expected is None:
        return {}
    like_input = len(got) < len(expected) and got == expected[: len(got)]
    return {
        "likeness": likeness(got, expected),
        "like_input": like_input,
        "number": expected == () and not like_input,
        "other": expected != () and not like_input,
        "fit": _same_numbers(got, expected),
        "batch": got[1:] == expected and got[0] > 1,
        "scalar": expected == (),
        "one": prod(got) == 1,
    }


def implicit(found: Found) -> Pieces:
    """Whether the derivative is asked for by `torch.autograd.grad`, as far as that is known."""
    return {"grad": found.function == "grad", "backward": found.function != "grad"}


def given_type(found: Found) -> Pieces:
    """Whether a number was given for a tensor."""
    return {"number": found.text("type") in ("int", "float", "complex", "bool")}


def changed_view(found: Found) -> Pieces:
    """Whether the view is a replica's copy of a parameter or buffer, or what a module with backward hooks takes or gives."""
    made_by = operation_of(found)
    return {"replica": made_by == "Broadcast", "module_hooks": made_by == "BackwardHookFunction"}


def missing_method(found: Found) -> Pieces:
    """Whether what a Function lacks is the method of forward mode."""
    return {"forward_mode": found.text("missing") == "jvp"}


def batched_cotangents(found: Found) -> Pieces:
    """The shape of a batch of cotangents."""
    expected = found.shape("expected")
    return {"batch": f"(B, {listed(expected)})" if expected else "(B,)"}


def no_graph(found: Found) -> Pieces:
    """Which of the tensors has no graph: the number of the first says nothing."""
    number = found.int("index")
    return {"which": f"Tensor number {number}" if number else "The tensor"}


INFINITE_SLOPES = ("Sqrt", "Norm", "Log", "Div", "Pow", "Acos", "Std", "Exp")
"""Operations with an infinite or undefined slope somewhere, of which the card speaks one by one."""


def operation_of(found: Found) -> str:
    """`Sqrt` of `SqrtBackward0`; nothing where no node is named."""
    return (found.text("node") or "").rstrip("0123456789").removesuffix("Backward")


def nan_in_backward(found: Found) -> Pieces:
    """The operation whose backward made the NaN."""
    operation = operation_of(found)
    known = operation.replace("LinalgVectorNorm", "Norm")
    return {"operation": operation.lower(), known if known in INFINITE_SLOPES else "other": True}


def assigned(found: Found) -> Pieces:
    """What makes an assigned gradient fit."""
    got, expected = found.shape("got"), found.shape("expected")
    return {"fit": _same_numbers(got, expected) if got and expected else None}


SAVES_ITS_OUTPUT = {
    "Exp", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Relu", "Sqrt", "Rsqrt", "Reciprocal", "Tan", "Elu", "Celu",
    "Cumprod", "Expm1", "Norm", "Cholesky", "LinalgCholeskyEx", "LinalgInvEx", "LinalgEigh", "Max", "Min",
}  # fmt: skip
"""Operations whose backward is computed from their result: d exp(x)/dx is exp(x) again."""

VIEWS = ("T", "Transpose", "AsStrided", "View", "Permute", "UnsafeView")
"""A view is what a layer keeps of its weight."""


def modified(found: Found) -> Pieces:
    """A saved tensor has another version than when it was saved: whose it was, and how often it was changed."""
    operation, number = operation_of(found), found.int("output")
    at, expected = found.int("version"), found.int("expected")
    return {
        "operation": operation or None,
        "result": f"result number {number}" if number else "the result",
        "view": operation in VIEWS,
        "count": None if at is None or expected is None else at - expected,
        "saved": operation.lower() if operation in SAVES_ITS_OUTPUT else None,
        "weight": operation in (*VIEWS, "AccumulateGrad", ""),
    }


def complex_transform(found: Found) -> Pieces:
    """`Input` or `Output`, of `inputs` or `outputs`."""
    return {"one": (found.text("what") or "Inputs")[:-1].capitalize()}


def not_tensors(found: Found) -> Pieces:
    """Whether it is the outputs that are no tensors."""
    return {"outputs": "outputs" in (found.text("what") or "")}


def likeness_and_fit(found: Found) -> Pieces:
    """What a wrong shape looks like, and what makes its numbers fit."""
    got, expected = found.shape("got"), found.shape("expected")
    if got is None or expected is None:
        return {"got": None}
    return {"likeness": likeness(got, expected), "fit": _same_numbers(got, expected)}


def scalar_needed(found: Found) -> Pieces:
    """The function that needs a single number, and what it was given."""
    name, dims = found.text("name") or "grad", found.int("dims")
    several = "a tensor with an axis" if dims == 1 else f"a tensor with {dims} axes"
    return {
        "returned": "several entries" if dims is None else several,
        "shown": "torch.func.grad" if name == "grad_and_value" else f"torch.autograd.functional.{name}",
        "with_value": name == "grad_and_value",
    }


def no_forward_mode(found: Found) -> Pieces:
    """`cdist` of `_cdist_forward`."""
    return {"operation": (found.text("op") or "an operation").strip("_").removesuffix("_forward")}


def mapped_axis(found: Found) -> Pieces:
    """The number of the last axis of vmap's argument."""
    return {"last": (found.int("dims") or 1) - 1}


# torch.autograd.Function and gradcheck


def class_name(found: Found) -> str:
    """`B` of BBackward: autograd names the node of a Function after its class."""
    return (found.text("node") or "the function").removesuffix("Backward")


def gradient_number(found: Found) -> Pieces:
    """What backward must return: a gradient for each argument of forward."""
    expected, got = found.int("expected") or 0, found.int("got") or 0
    return {
        "name": class_name(found),
        "expected": expected,
        "got": got,
        "too_few": got < expected,
        "example": ", ".join(["grad_input", *["None"] * (expected - 1)][:expected]),
    }


def gradient_shape(found: Found) -> Pieces:
    """What a gradient of the wrong shape looks like; one of torch's own nodes has got it from the user."""
    got, expected = found.shape("got"), found.shape("expected")
    return {
        "name": class_name(found),
        "likeness": None if got is None or expected is None else likeness(got, expected),
        "builtin": re.search(r"Backward\d+$", found.text("node") or "") is not None,
    }


@dataclass(frozen=True)
class Worst:
    """The entry of gradcheck's two matrices that differs most: its place (input, output) and both numbers."""

    row: int
    column: int
    numeric: float
    analytic: float


def worst_entry(numeric: str, analytic: str) -> Worst | None:
    """Where two printed matrices differ most; None if they can't be read or were abridged."""
    a, b = _matrix(numeric), _matrix(analytic)
    if not a or len(a) != len(b) or any(len(x) != len(y) for x, y in zip(a, b, strict=True)):
        return None
    places = [(i, j) for i, row in enumerate(a) for j in range(len(row))]
    if not places:
        return None
    row, column = max(places, key=lambda place: _distance(a[place[0]][place[1]], b[place[0]][place[1]]))
    return Worst(row, column, a[row][column], b[row][column])


def _distance(a: float, b: float) -> float:
    return float("inf") if a != a or b != b else abs(a - b)


def _matrix(text: str) -> list[list[float]]:
    if "..." in text:
        return []
    try:
        return [[float(entry) for entry in row.split(",")] for row in re.findall(r"\[([^\[\]]+)\]", text)]
    except ValueError:
        return []


def gradcheck_mismatch(found: Found) -> Pieces:
    """Which entry of gradcheck's matrices differs most, and what that looks like."""
    numeric, analytic = found.groups.get("numeric", ""), found.groups.get("analytic", "")
    worst = worst_entry(numeric, analytic)
    single = worst is not None and not any(dtype in numeric + analytic for dtype in ("float64", "complex128"))
    verdict, causes, cures = _verdict(worst, single)
    pieces: Pieces = {"output": found.int("output") or 0, "input": found.int("input") or 0}
    pieces |= {"verdict": verdict, "causes": causes, "cures": cures, "numeric": None, "analytic": None}
    if worst is not None:
        pieces |= {"row": worst.row, "column": worst.column}
        pieces |= {"numeric": f"{worst.numeric:g}", "analytic": f"{worst.analytic:g}"}
    return pieces


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
JUMP = "The function jumps at this point."
IN_DOUBLE = "torch.autograd.gradcheck(f, x.double().requires_grad_())"
AWAY = "torch.autograd.gradcheck(f, x + 0.1)   # away from the kink; there a subgradient is right"


def _verdict(worst: Worst | None, single: bool) -> tuple[str, list[str], list[str]]:
    """What the worst entry looks like, and the causes in the order that this gives them."""
    if worst is None:
        return "", [PRECISION, WRONG, KINK, CUT, RANDOM], [IN_DOUBLE, AWAY]
    n, a = worst.numeric, worst.analytic
    size = max(abs(n), abs(a))
    if size > 1e4:
        return ": random or discontinuous", [RANDOM, JUMP, WRONG], ["torch.manual_seed(0) inside f"]
    if _half_way(n, a):
        return ": it looks like a kink", [KINK, WRONG, CUT], [AWAY, IN_DOUBLE]
    if single and abs(n - a) <= 0.25 * max(size, 1.0):
        return ": probably rounding in float32", [PRECISION, WRONG, KINK], [IN_DOUBLE]
    if a == 0:
        return ": backward says 0", [CUT, WRONG, KINK], ["print(y.grad_fn) after each step of f"]
    if abs(n + a) < 1e-3 * size:
        return ": the sign is wrong", [WRONG, CUT], [f"backward gives {a:g} where {n:g} is right: negate it"]
    wrong = [WRONG, CUT, PRECISION if single else KINK]
    if n and abs(n) > 1e-6 and abs(a) > 1e-6:
        factor = f"{n / a:.3g}"
        half = f"Multiply this entry by {factor}; in x * x.detach() half of the product rule is missing: a factor of 2"
        return f": by a factor of {factor}", wrong, [half]
    return "", wrong, [IN_DOUBLE]


def _half_way(numeric: float, analytic: float) -> bool:
    """Whether the numeric slope is the mean of 0 and 1 (or of -1 and 1) and the analytic one of the sides."""
    near = [abs(numeric - middle) < 1e-6 for middle in (0.5, -0.5)]
    return (any(near) and analytic in (0.0, 1.0, -1.0)) or (abs(numeric) < 1e-6 and abs(analytic) == 1.0)
