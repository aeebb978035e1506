"""No call of the language ends the process or shows memory that is not its own, whatever its arguments.

`JVP_MUTANTS=20000` sets how many calls are tried, `JVP_MUTANTS_SEED` which; `make fuzz` takes new ones.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("expecttest", reason="torch's operator database needs expecttest")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from child_tries import ALLOWED, guarded_environment  # noqa: E402

AS_THEY_ARE = 100
COUNT = int(os.environ.get("JVP_MUTANTS", "500"))
SEED = os.environ.get("JVP_MUTANTS_SEED", "0")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return guarded_environment(tmp_path_factory.mktemp("guards"))


@pytest.fixture(scope="module")
def outcomes(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Of calls as they are, whose numbers are negative, and of mutated ones."""
    options = ["--seed", SEED, "--start", str(-AS_THEY_ARE), "--count", str(AS_THEY_ARE + COUNT)]
    command = [sys.executable, str(HERE / "child_tries.py"), *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_mutated_arguments(outcomes: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    found = [outcome for outcome in outcomes if outcome["number"] >= 0]
    counts = Counter(outcome["kind"] for outcome in found)
    failures = [f"{outcome['family']}: {outcome['said']}" for outcome in found if outcome["kind"] not in ALLOWED]
    if COUNT > 500:
        with capsys.disabled():
            print(f"\n{len(found):,} mutated calls: {dict(counts.most_common())}", end=" ")
    assert not failures, "\n".join(failures)
    assert len(found) == COUNT
    assert counts["ok"] > COUNT // 5
    assert counts["evaluation"] > COUNT // 5
    assert counts["hangs"] + counts["none"] < COUNT // 50


def test_calls_as_they_are(outcomes: list[dict[str, Any]]) -> None:
    """A control: what the database itself calls works under the guards, so that they refuse nothing honest."""
    counts = Counter(outcome["kind"] for outcome in outcomes if outcome["number"] < 0)
    assert counts.total() == AS_THEY_ARE
    assert counts["ok"] > 0.65 * AS_THEY_ARE, counts
    assert counts.keys() <= ALLOWED - {"hangs", "none"}, counts


READ_BEHIND = "ctypes.string_at(x.data_ptr() + 12, 1)"
WRITE_BEHIND = "ctypes.memset(x.data_ptr() + 12, 1, 1)"
WRITE_BEFORE = "ctypes.memset(x.data_ptr() - 1, 1, 1); del x"
READ_AFTER = "address = x.data_ptr(); del x; ctypes.string_at(address, 1)"


@pytest.mark.skipif(not shutil.which("cc"), reason="the guard pages need a C compiler")
@pytest.mark.parametrize(
    ("access", "ends"),
    [
        (READ_BEHIND, signal.SIGSEGV),
        (WRITE_BEHIND, signal.SIGSEGV),
        (WRITE_BEFORE, signal.SIGABRT),
        (READ_AFTER, signal.SIGSEGV),
        ("assert (torch.empty(3, dtype=torch.uint8) == 0xAA).all()", 0),
        ("assert ctypes.string_at(x.data_ptr() - 1, 1) == bytes([0xAA])", 0),
    ],
)
def test_guards_see_what_they_should(environment: dict[str, str], access: str, ends: int) -> None:
    """Another control: a byte outside of a tensor ends the process, and fresh memory holds the byte it should."""
    program = f"import ctypes, torch; ctypes.CDLL(None).guard_pages(0xAA); x = torch.ones(3); {access}"
    done = subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE)
    assert done.returncode == -ends, done.stderr
