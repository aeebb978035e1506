"""The answer of `jvp derive`: problem → index forms → products in indices, in matrices and as code, each verified → report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jvpcli.answers.question import backward_failures, pose, refuse_cut, refuse_stored, text_of
from jvpcli.answers.weights import read_cotangents, read_tangents
from jvpcli.errors import UsageError
from jvpcli.jacobians import figures
from jvpcli.language.evaluate import Evaluation, followers, is_decided
from jvpcli.options import command
from jvpcli.program import Program
from jvpcli.report import Notice
from jvpcli.report.derive import DeriveReport, Explored, Product
from jvpcli.request import Request
from jvpcli.symbolic.closed import Closed
from jvpcli.symbolic.derivation import steps


@dataclass(frozen=True)
class Derivation:
    """Everything that one answer was made from: the request with a value for each input, and its forms."""

    request: Request
    closed: Closed
    report: DeriveReport


def derive(request: Request) -> DeriveReport:
    """The answer to a request.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return investigate(request).report


def explore(request: Request) -> Explored:
    """The answer with the numbers of the same derivatives at the point, and which of them each part of a formula is about.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    from jvpcli.answers.inspect import inspect  # loaded only where it is asked for

    found = investigate(request)
    numbers = inspect(replace(found.request, command="inspect"))
    applying = {
        y: {x: table for x in forms if (table := found.closed.applying(y, x)) is not None}
        for y, forms in found.report.jacobian.items()
    }
    return Explored(found.report, numbers, applying)


def investigate(request: Request) -> Derivation:
    """The answer to a request with the forms that it was made from."""
    request = replace(request, device="cpu")  # a formula is that of every device
    if not request.shape:
        return _derived(request)
    one, other = (_sized(request, sizes) for sizes in SIZES)
    found = _derived(*one)
    if not one[1]:
        return found
    report, elsewhere = found.report, _derived(*other).report
    same = (report.function, report.jacobian, report.vjp) == (elsewhere.function, elsewhere.jacobian, elsewhere.vjp)
    return replace(found, report=replace(report, sizes=one[1], any_size=same))


SIZES = ((3, 4, 5, 6, 7, 8), (4, 2, 7, 3, 5, 6))
"""What letters stand for, in their order: all are different, so that nothing holds by chance."""


def _sized(request: Request, sizes: Sequence[int]) -> tuple[Request, dict[str, int]]:
    """The request with tensors of those shapes, and the sizes of the letters.

    Raises:
        UsageError: a shape that is none, or too many letters.
    """
    letters: dict[str, int] = {}
    inputs = dict(request.inputs)
    for name, shape in request.shape.items():
        if name in inputs:
            raise UsageError(f"the input {name!r} was given twice: by its value and by its shape")
        found = []
        for size in (part.strip() for part in shape.split(",") if part.strip()):
            if size.isdecimal():
                found.append(int(size))
            elif size.isidentifier() and (size in letters or len(letters) < len(sizes)):
                found.append(letters.setdefault(size, sizes[len(letters)]))
            else:
                raise UsageError(f"--shape takes sizes and letters, as in {name}=m,n or {name}=3,n, not {shape!r}")
        inputs[name] = f"torch.rand({found})*0.5 + 0.25"
    return replace(request, inputs=inputs, shape={}), letters


def _decided(evaluation: Evaluation) -> Iterator[Notice]:
    """That forms are those of what runs at the point, where the inputs' values tell what does."""
    following = followers(evaluation, range(len(evaluation.inputs)))
    if is_decided(evaluation) or not following.isdisjoint(evaluation.decisions):
        from jvpcli.answers.warnings import said  # seldom needed

        yield said("decided", "decided")


def _derived(request: Request, sizes: Iterable[str] = ()) -> Derivation:
    problem = pose(request)
    with backward_failures(problem):
        refuse_cut(problem)
        refuse_stored(problem)
        if not isinstance(problem.function, Program):
            raise UsageError(
                "derive reads an expression, and this is a Python function",
                hints=('pass its text, as in jvpcli.derive("torch.outer(x, x)", x=x)',),
            )
        for name, x in problem.leaves.items():
            if x.is_complex():
                numbers = command(replace(request, device=None), name="inspect")
                raise UsageError(
                    f"derive is for real inputs, and {name} is {str(x.dtype).removeprefix('torch.')}",
                    explanation="Closed forms are of real numbers: the function may be written with the real and the imaginary "
                    "part as two inputs and no complex number, as a**2 + b**2 for abs(z)**2. `jvp inspect` gives the numbers.",
                    hints=(numbers,) if numbers else (),
                )
        evaluation = problem.evaluation
        cotangents = read_cotangents(request, evaluation)
        tangents = read_tangents(request, evaluation)
        v = {y: weight.value for y, weight in cotangents.items()}
        closed = Closed(problem, v, {x: weight.value for x, weight in tangents.items()}, sizes)
        vjp = {x: closed.vjp(x) for x in evaluation.wrt}
        hessian = {x: {w: closed.second(x, w) for w in evaluation.wrt} for x in evaluation.wrt} if request.hessian else None
        report = DeriveReport(
            hessian=hessian,
            expression=text_of(request),
            inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
            outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
            grad_outputs={y: figures.cotangent(weight.source, weight.value) for y, weight in cotangents.items()},
            indices=closed.indices,
            names={**closed.v_names, **(closed.u_names if tangents else {})},
            function={y: closed.function(y) for y in v},
            jacobian={y: {x: closed.jacobian(y, x) for x in evaluation.wrt} for y in v},
            vjp=vjp,
            steps=tuple(steps(closed)),
            verified=closed.places.verified,
            code=_autograd_function(problem.function, closed, vjp),
            jvp={y: closed.jvp(y) for y in v} if tangents else None,
            tangent={x: figures.cotangent(weight.source, weight.value) for x, weight in tangents.items()} or None,
            warnings=tuple(_decided(evaluation)),
        )
        return Derivation(request, closed, report)


def _autograd_function(program: Program, closed: Closed, vjp: Mapping[str, Product]) -> str | None:
    """A `torch.autograd.Function` with this forward and backward, ready for a file.

    None where an input has no code, where there are several outputs, or blocks and functions, and of
    steps that were noted down as a program ran.
    """
    if len(closed.v) != 1 or len(closed.evaluation.outputs) != 1 or program.has_statements or program.sites:
        return None
    if any(product.torch is None for product in vjp.values()):
        return None
    (v,) = closed.v_names.values()
    inputs = program.inputs
    *before, last = [part.strip() for part in program.source.replace("\n", ";").split(";") if part.strip()]
    assigned = "=" in last and program.names and last.split("=")[0].strip() == program.names[-1][0]
    lines = [*before, f"return {last.split('=', 1)[1].strip() if assigned else last}"]
    comma = "," if len(inputs) == 1 else ""
    given = ", ".join(inputs)
    gradients = [vjp[x].torch if x in vjp else "None" for x in inputs]
    return "\n".join(
        [
            "import math",
            "",
            "import torch",
            "import torch.nn.functional as F",
            "",
            "",
            "class Derived(torch.autograd.Function):",
            "    @staticmethod",
            f"    def forward(ctx, {given}):",
            f"        ctx.save_for_backward({given})",
            *(f"        {line}" for line in lines),
            "",
            "    @staticmethod",
            f"    def backward(ctx, {v}):",
            f"        {given}{comma} = ctx.saved_tensors",
            *(f"        grad_{x} = {text}" for x, text in zip(inputs, gradients, strict=True)),
            f"        return {', '.join(f'grad_{x}' for x in inputs)}",
        ]
    )
