"""Ordinary input never ends as a bug of the program: torch's operators and compositions of them, in every dtype."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from jvpcli.answers import inspect as inspecting
from jvpcli.errors import JvpError
from jvpcli.request import Request

sys.path.insert(0, str(Path(__file__).parent.parent / "language"))

pytestmark = pytest.mark.filterwarnings("ignore")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

TRIES = int(os.environ.get("JVP_FUZZ", "4000"))

COUNT = TRIES // 8
"""Compositions that are tried."""

EVERY = 4 if TRIES <= 4000 else 1
"""Of the operators every so many are tried."""

PIECES = [
    "torch.sin({})", "torch.tanh({})", "{}.softmax(0)", "torch.logsumexp({}, 0)", "{} - {}.mean()", "F.normalize({}, dim=0)",
    "{} / {}.norm()", "{} / {}.sum()", "torch.exp({})", "torch.log({}.abs() + 1)", "{}.cumsum(0)", "F.layer_norm({}, {}.shape)",
    "{} - {}.max()", "{} * 1e4 - {} * 1e4", "torch.outer({}, {}).sum(0)", "torch.sqrt({} * {} + 1e-6)", "{}.pow(3)",
    "torch.cosine_similarity({}, x, 0)", "torch.var({})", "torch.linalg.norm({})", "torch.fft.rfft({}.float()).abs()",
    "torch.linalg.inv(torch.outer({}, {}) + torch.eye(4))", "F.gelu({})", "{} + 1e3 - 1e3", "torch.atan2({}, {})", "{}.std()",
    "torch.cdist({}[None].float(), x[None].float())", "torch.linalg.det(torch.outer({}, {}) + torch.eye(4))", "torch.prod({})",
    "F.cosine_embedding_loss({}.reshape(1, -1), {}.reshape(1, -1), torch.ones(3))", "torch.acos({}.clamp(-1, 1))",
    "torch.linalg.svdvals(torch.outer({}, {}))", "F.kl_div({}.log_softmax(0), {}.softmax(0))", "{}.logit(1e-6)",
    "{}.gather(0, torch.tensor([0, 1]), sparse_grad=True)", "torch.corrcoef(torch.stack([{}, x]))", "{}.expand(2**20, 4)[0]",
]  # fmt: skip

POINTS = [[1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], [0, 0, 0, 0], [1e3, 2e3, -3e3, 7], [1e-3, 2, -5, 0.25]]


def code_of(expression: str, inputs: dict[str, torch.Tensor], wrt: tuple[str, ...] | None = None) -> str:
    """What becomes of an inspection; anything but an error of ours is raised."""
    try:
        inspecting.inspect(Request(expression, inputs=inputs, wrt=wrt, memory_limit=300_000_000))
    except JvpError as error:
        return f"{error.code}: {error.message}" if error.code == "internal" else error.code
    return "ok"


def composed(random: Random, depth: int) -> str:
    return random.choice(PIECES).replace("{}", f"({composed(random, depth - 1)})") if depth else "x"


def test_compositions():
    bugs, well = [], 0
    for seed in range(COUNT):
        random = Random(seed)
        expression, dtype = composed(random, random.choice((1, 2, 2, 3))), random.choice(DTYPES)
        x = torch.tensor(random.choice(POINTS), dtype=dtype)
        code = code_of(expression, {"x": x})
        well += code == "ok"
        bugs += [(expression, x, code)] if code.startswith("internal") else []
    assert not bugs
    assert well > COUNT / 2


def test_operators():
    pytest.importorskip("expecttest", reason="torch's operator database needs expecttest")
    from operator_samples import CannotBeWrittenError, differentiable_operators, small_samples, write

    bugs, well = [], 0
    for number, operator in enumerate(differentiable_operators()[::EVERY]):
        for index, sample in enumerate(small_samples(operator, 2, elements=60)):
            try:
                written = write(operator, sample)
            except CannotBeWrittenError:
                continue
            dtype = DTYPES[(number + index) % 4]
            inputs = {
                name: x.detach().to(dtype) if x.is_floating_point() else x.detach() for name, x in written.inputs.items()
            }
            code = code_of(written.expression, inputs, written.wrt or None)
            well += code == "ok"
            bugs += [(written.expression, dtype, code)] if code.startswith("internal") else []
    assert not bugs
    assert well > 500 // EVERY
