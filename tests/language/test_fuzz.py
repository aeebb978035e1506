"""Random expressions: only documented errors come out, nothing global changes, the canary stays.

`JVP_FUZZ=100000` sets how many are tried; `python tests/language/test_fuzz.py` runs them under atheris, if it is there.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from random_expressions import inputs, program

from jvpcli.errors import ExitCode, InternalError, JvpError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse

COUNT = int(os.environ.get("JVP_FUZZ", "4000"))
MEMORY_LIMIT = 300_000_000
DOCUMENTED = {
    ExitCode.REFUSED,
    ExitCode.SHAPE_MISMATCH,
    ExitCode.EVALUATION,
    ExitCode.NOT_DIFFERENTIABLE,
    ExitCode.LIMIT,
}


def outcome(source: str) -> str:
    """What became of an expression; anything but an error of ours fails."""
    tensors = inputs()
    before = {name: value.clone() for name, value in tensors.items()}
    result, error = "ok", None
    try:
        parsed = parse(source)
        wrt = [name for name in parsed.inputs if name in tensors and tensors[name].is_floating_point()]
        evaluate(parsed, tensors, wrt=wrt, memory_limit=MEMORY_LIMIT)
    except JvpError as caught:
        result, error = caught.code, caught
    if error is not None:
        assert not isinstance(error, InternalError), source
        assert error.exit_code in DOCUMENTED, source
        assert error.message, source
        assert error.span is None or 0 <= error.span[0] <= error.span[1] <= len(source) + 1, source
        error.to_dict()
    for name, value in before.items():
        assert torch.equal(tensors[name], value), source
    return result


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "CANARY").write_text("the canary sings")
    monkeypatch.chdir(tmp_path)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["CANARY"]
    assert (tmp_path / "CANARY").read_text() == "the canary sings"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    return None


def test_random_expressions(capsys: pytest.CaptureFixture[str]) -> None:
    start = int(os.environ.get("JVP_FUZZ_START", "0"))
    counts = Counter(outcome(program(Random(seed))) for seed in range(start, start + COUNT))
    assert counts["ok"] > COUNT // 50
    assert counts["forbidden"] > COUNT // 50
    if COUNT > 4000:
        with capsys.disabled():
            print(f"\n{COUNT:,} expressions: {dict(counts.most_common())}", end=" ")
    out, err = capsys.readouterr()
    assert out + err == ""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_random_expressions_that_shrink(random: Random) -> None:
    outcome(program(random))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40))
def test_any_text(source: str) -> None:
    outcome(source)


TOKENS = ["x", "A", "torch", ".", "(", ")", "[", "]", ",", "=", "+", "-", "*", "**", "1", "'a'", "for", "in", "if", "else",
          "sin", "sum", "y", ";", "\n", " ", ":", "lambda", "@", "not", "and", "F", "math", "é", "__class__", "0.5", "{", "}",
          "<", "==", "#", "\\", '"', "f'", "await", "yield", "import", "*x", "None", "..."]  # fmt: skip


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TOKENS), max_size=25))
def test_any_tokens(tokens: list[str]) -> None:
    outcome("".join(tokens))


def main() -> None:
    """Coverage-guided fuzzing by atheris, until it is stopped."""
    import atheris

    def one(data: bytes) -> None:
        if data[:1] < b"\x80":
            outcome(data[1:].decode("utf-8", "ignore"))
        else:
            outcome(program(Random(data)))

    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
