"""Programs of functions, loops, modules and nested derivatives mean what Python says; hostile ones end in documented errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from program_tries import HOSTILE, attempt
from random_programs import by_jvp, by_python, program

COUNT = 100
"""`make fuzz` takes thousands of others."""


@pytest.mark.filterwarnings("ignore")
def test_a_program_means_what_python_says() -> None:
    values = 0
    for seed in range(COUNT):
        source = program(Random(seed))
        expected, found = by_python(source), by_jvp(source)
        if isinstance(expected, str):
            assert found == expected, source
        else:
            values += 1
            torch.testing.assert_close(found, expected, equal_nan=True, msg=lambda told, source=source: f"{source}\n{told}")
    assert values >= 0.8 * COUNT


@pytest.mark.filterwarnings("ignore")
def test_any_program_ends_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seeds = [f"0:{number}" for number in range(COUNT)]
    hostile = [seed for seed in seeds if Random(seed).random() < HOSTILE]  # the others are compared above
    tried = [attempt(Random(seed)) for seed in hostile]
    assert [said for kind, said in tried if said] == []
    kinds = Counter(kind for kind, _ in tried)
    assert kinds["ok"] > COUNT // 100
    assert kinds["forbidden"] > COUNT // 10
