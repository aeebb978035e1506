"""Repeated calls with texts, against the best of torch's own ways; writes TEXTS.md.

Every way is called in turn, in random order and in one process on one thread, and its processor time is taken: medians.  A
result is compared with torch's before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.functional import jacobian as functional_jacobian

import jvpcli
from benchmarks.turns import by_processor, in_turns

HERE = Path(__file__).parent

SECONDS = 1.0
"""How long a case is measured, at least; and each way three times."""

FAR = 10.0
"""A way that takes so many times as long as the best does not take turns with it."""

GOAL = 0.95
"""How many times as fast as torch every dense case is to be."""


@dataclass(frozen=True)
class Text:
    """An expression, where it is differentiated to `x`, and whether its Jacobian is structured."""

    name: str
    text: str
    inputs: Mapping[str, Tensor]
    structured: bool = False


def make_texts() -> list[Text]:
    """The table, float32, from one seed."""
    torch.manual_seed(0)
    r, eye = torch.randn, torch.eye
    positive = r(12, 12)
    positive = positive @ positive.T + 12 * eye(12)
    layers = {"W1": r(512, 256) / 16, "W2": r(512, 512) / 22, "W3": r(10, 512) / 22, "b": r(512)}
    return [
        Text("avg_pool2d then exp", "torch.exp(F.avg_pool2d(x, 2))", {"x": r(1, 1, 64, 64)}, True),
        Text("MLP of a batch", "torch.tanh(x @ A) @ B", {"x": r(100, 40), "A": r(40, 30), "B": r(30, 10)}, True),
        Text("einsum of rows", "torch.einsum('bi,ij->bj', x, W) * x", {"x": r(40, 60), "W": r(60, 60)}, True),
        Text("layer_norm of rows", "F.layer_norm(x, (64,))", {"x": r(16, 64)}, True),
        Text("attention", "torch.softmax(x @ K.T / 4, -1) @ V", {"x": r(32, 16), "K": r(32, 16), "V": r(32, 16)}, True),
        Text("softmax(W @ x)", "torch.softmax(W @ x, 0)", {"x": r(600), "W": r(600, 600) / 25}),
        Text("softmax", "torch.softmax(x, 0)", {"x": r(2048)}),
        Text("solve, right side", "torch.linalg.solve(A, x)", {"x": r(128), "A": r(128, 128) + 12 * eye(128)}),
        Text("solve, matrix", "torch.linalg.solve(x, b)", {"x": r(64, 64) + 8 * eye(64), "b": r(64)}),
        Text("inv", "torch.linalg.inv(x)", {"x": r(16, 16) + 4 * eye(16)}),
        Text("matrix_exp", "torch.matrix_exp(x)", {"x": r(12, 12) / 4}),
        Text("cholesky", "torch.linalg.cholesky(x)", {"x": positive}),
        Text("eigenvalues", "torch.linalg.eigvalsh(x + x.T)", {"x": r(16, 16)}),
        Text("eigenvectors", "torch.linalg.eigh(x + x.T)[1]", {"x": r(10, 10)}),
        Text("slogdet", "torch.linalg.slogdet(x)[1]", {"x": r(16, 16) + 4 * eye(16)}),
        Text("tanh(W @ x), tall", "torch.tanh(W @ x)", {"x": r(20), "W": r(5000, 20) / 5}),
        Text("tanh(W @ x), wide", "torch.tanh(W @ x)", {"x": r(5000), "W": r(20, 5000) / 70}),
        Text("MLP to x", "W3 @ torch.relu(W2 @ torch.relu(W1 @ x + b) + b)", {"x": r(256), **layers}),
        Text("sum of squares", "(x * x).sum()", {"x": r(100000)}),
        Text("outer, n = 4", "torch.outer(x, x)", {"x": r(4)}),
        Text("small: 4 to 3", "torch.stack([x[0] * x[1], x[2].sin(), x.sum()])", {"x": r(4)}),
    ]


Ways = dict[str, Callable[[], object]]


def ways_of(text: Text) -> Ways:
    """Ours, and those of torch that can be gone.

    Raises:
        AssertionError: ours gives other numbers.
    """
    x, others = text.inputs["x"], {name: value for name, value in text.inputs.items() if name != "x"}
    code = compile(text.text, text.name, "eval")

    def function(x: Tensor) -> Tensor:
        found: Tensor = eval(code, {"torch": torch, "F": F, **others, "x": x})
        return found

    def ours() -> object:
        found = jvpcli.jacobian(text.text, wrt=["x"], **text.inputs)["y", "x"]
        return found if text.structured else found.to_dense()

    expected = functional_jacobian(function, x)
    found = jvpcli.jacobian(text.text, wrt=["x"], **text.inputs)["y", "x"].to_dense()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    peers: Ways = {
        "vectorized": lambda: functional_jacobian(function, x, vectorize=True),
        "jacrev": lambda: torch.func.jacrev(function)(x),
        "jacfwd": lambda: torch.func.jacfwd(function)(x),
    }
    ways: Ways = {"ours": ours}
    for name, way in peers.items():
        try:
            way()
        except RuntimeError:  # more memory than there is
            continue
        ways[name] = way
    return ways


def measure(ways: Ways) -> dict[str, float]:
    """Milliseconds of processor time of ours and of what comes near the best, the median."""
    for _ in range(3):
        ways["ours"]()  # what is kept is made by now
    once = in_turns(ways, by_processor, 0.0, 3)
    near = FAR * min(time for name, time in once.items() if name != "ours")
    return in_turns({name: way for name, way in ways.items() if name == "ours" or once[name] < near}, by_processor, SECONDS, 3)


def main() -> None:
    """Measure all, and write the table."""
    torch.set_num_threads(1)
    rows, ratios = [], dict[str, tuple[bool, float]]()
    for text in make_texts():
        found = measure(ways_of(text))
        peer = min((name for name in found if name != "ours"), key=lambda name: found[name])
        ratio = found[peer] / found["ours"]
        ratios[text.name] = text.structured, ratio
        kind = "structured" if text.structured else "dense"
        rows.append(f"| {text.name} | `{text.text}` | {kind} | {found['ours']:.3g} | {found[peer]:.3g} {peer} | {ratio:.3g}× |")
        print(rows[-1], flush=True)
    dense = {name: ratio for name, (structured, ratio) in ratios.items() if not structured}
    missed = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in sorted(dense.items(), key=lambda i: i[1]) if ratio < GOAL)
    means = [geometric_mean([ratio for structured, ratio in ratios.values() if structured is kind]) for kind in (True, False)]
    path = HERE / "TEXTS.md"
    notes = path.read_text().partition("## Notes")[2] if path.exists() else "\n"
    path.write_text(
        "# Repeated calls with texts\n\nWritten by `python -m benchmarks.texts`: "
        f"torch {torch.__version__}, one thread; ms of processor time, medians, the ways in turns in one process.\n\n"
        "| case | text | Jacobian | ours | best torch | ratio |\n| --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + f"\n\nGeometric means: structured {means[0]:.3g}× (goal 50×), dense {means[1]:.3g}× (goal 2×); dense, on "
        f"every case: at least {min(dense.values()):.2f}× (goal {GOAL}×); missed: {missed or 'none'}.\n\n## Notes{notes}"
    )


if __name__ == "__main__":
    main()
