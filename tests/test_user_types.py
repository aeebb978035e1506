"""A program of a user's own that is checked by mypy: the package brings its types, and they say what the documents say."""

from __future__ import annotations

from pathlib import Path

import pytest

import jvpcli

api = pytest.importorskip("mypy.api", reason="mypy is not installed")

PROGRAM = """
import torch
import jvpcli

x = torch.ones(3)

def loss(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum()

result = jvpcli.inspect(loss, x, wrt=0, memory_limit="1GB")
gradient: torch.Tensor = result.vjp["x"]
rows: torch.Tensor = jvpcli.jacobian(loss, x=x)["y", "x"].to_dense()
verdict: str = jvpcli.check("x * 2", x=[1, 2]).verdict
worst = jvpcli.check(loss, x).worst
index: tuple[int, ...] = () if worst is None else worst.input_index
cures: list[str] = list(jvpcli.explain("…").cures)
ids: list[object] = [answer["id"] for answer in jvpcli.batch([{"id": 1, "expression": "x"}], memory_limit=2**20)]
jvpcli.assert_gradients(loss, x, rtol=1e-3)
steps: int = len(jvpcli.trace(loss, x, depth=2).steps)
curvature: torch.Tensor = jvpcli.hessian(loss, x).hessian["x", "x"]

reveal_type(result)
jvpcli.inspect(loss, x, mode=3)
jvpcli.assert_gradients(loss, x, atol="much")
jvpcli.explain(3)
result.vpj
"""

SETTINGS = """
[mypy]
strict = True
follow_imports = silent
python_version = 3.10
[mypy-torch.*,numpy.*,rich.*,scipy.*]
follow_imports = skip
"""
"""Reading torch and numpy would take a minute; what the package says of its own is what is asked."""


def test_a_program_of_a_user_s_own(tmp_path, monkeypatch):
    file = tmp_path / "own.py"
    file.write_text(PROGRAM)
    monkeypatch.setenv("MYPYPATH", str(Path(jvpcli.__file__).parents[1]))
    lines = PROGRAM.splitlines()
    wrong = lines.index("jvpcli.inspect(loss, x, mode=3)") + 1
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS)
    cache = str(tmp_path / "cache")
    out, err, _ = api.run([str(file), "--config-file", str(settings), "--no-error-summary", "--cache-dir", cache])
    assert not err
    told = [line.partition("own.py:")[2].partition(": ")[::2] for line in out.splitlines()]
    assert [int(number) for number, _ in told] == [wrong - 1, wrong, wrong + 1, wrong + 2, wrong + 3], out
    assert 'Revealed type is "jvpcli.results.InspectResult"' in told[0][1]
