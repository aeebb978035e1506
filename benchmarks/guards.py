"""What is asked before a step runs, against the step itself: the commonest operations on small tensors; prints a table.

Processor time of one thread, the median of many short rounds, the two in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.turns import by_processor, in_turns
from jvpcli.language import forecast, guards, limits
from jvpcli.language.evaluate import evaluate
from jvpcli.language.operations import operation, read_operand
from jvpcli.language.parse import parse
from jvpcli.program import Equation

TEXTS = """
x + x; x - 1; x * x; x / 2; x**2; -x; W @ x; x[0]; W[:, 1]; x > 0; W.T; x.sum(); x.mean(0); x.exp(); torch.sin(x); torch.tanh(x)
torch.relu(x); torch.sqrt(x); torch.abs(x); torch.outer(x, x); torch.matmul(W, x); torch.softmax(x, 0); torch.stack([x, x])
torch.cat([x, x]); x.reshape(2, 2); x.unsqueeze(0); W.transpose(0, 1); x.clone(); torch.where(x > 0, x, 2 * x); torch.ones(4)
torch.einsum('ij,j->i', W, x); F.linear(x, W); torch.linalg.norm(x); x.view(2, 2)
"""

ROUND = 200
"""Calls in a round: one takes less than the clock tells."""


def checked(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """All that a run asks of the arguments of a step, and its guards."""
    limits.check_plain(op, arguments, keywords)
    forecast.check_parts(op, arguments, keywords)
    forecast.check_memory(op, arguments, keywords, 0, None)
    if guards.asks(op):
        guards.check_arguments(op, arguments, keywords)


def repeated(call: Callable[[], object]) -> None:
    """A round of calls."""
    for _ in range(ROUND):
        call()


def measure(step: Equation, values: Mapping[int, Any]) -> tuple[float, float]:
    """Microseconds of what is asked, and of the step with its graph and its guards less those."""
    arguments = [read_operand(operand, values) for operand in step.operands]
    keywords = {name: read_operand(operand, values) for name, operand in step.keywords}
    guarded = guards.asks(step.op)
    ways = {
        "asked": partial(repeated, partial(checked, step.op, arguments, keywords)),
        "done": partial(repeated, partial(operation(step.op), arguments, keywords)),
        "guards": partial(repeated, partial(guards.check_arguments, step.op, arguments, keywords) if guarded else int),
    }
    found = {name: 1e3 * time / ROUND for name, time in in_turns(ways, by_processor, 0.0, 15).items()}
    return found["asked"], found["done"] - (found["guards"] if guarded else 0.0)


def main() -> None:
    """Measure all, the worst first."""
    torch.set_num_threads(1)
    inputs = {"x": torch.rand(4) + 0.5, "W": torch.rand(4, 4)}
    rows = {}
    for text in [part.strip() for line in TEXTS.strip().splitlines() for part in line.split(";")]:
        program = parse(text)
        evaluation = evaluate(program, {name: inputs[name] for name in program.inputs}, wrt=program.inputs)
        rows[text] = measure(evaluation.tape[-1], evaluation.values)
    print("| step | asked, µs | done, µs | ratio |\n| --- | --- | --- | --- |")
    for text, (asked, done) in sorted(rows.items(), key=lambda row: -row[1][0] / row[1][1]):
        print(f"| `{text}` | {asked:.2f} | {done:.2f} | {asked / done:.2f} |")


if __name__ == "__main__":
    main()
