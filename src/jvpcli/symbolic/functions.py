"""A `torch.autograd.Function` of a program and its closed form, ready for a file."""

from __future__ import annotations

from collections.abc import Mapping

from jvpcli.program import Program
from jvpcli.report.derive import Product
from jvpcli.symbolic.closed import Closed


def autograd_function(program: Program, closed: Closed, vjp: Mapping[str, Product]) -> str | None:
    """The text of the class; None where an input has no code, where there are several outputs, or blocks and functions, and of
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
