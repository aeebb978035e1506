"""The floors of docs/architecture.md: no import goes from a lower floor to a higher one; renderers know no torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "jvpcli"

FLOORS = {
    "errors": 0, "program": 0.1, "request": 0.1, "report": 0.1,
    "render": 0.5,
    "language": 1,
    "derive": 2,
    "explain": 3,
    "pipeline": 4, "pipeline_trace": 4.2, "pipeline_check": 4.2, "api": 4.5, "__init__": 4.6,
    "cli": 5, "__main__": 6,
}  # fmt: skip
RENDERERS_NEVER = (
    "torch",
    "scipy",
    "jvpcli.language",
    "jvpcli.derive",
    "jvpcli.explain",
    "jvpcli.program",
    "jvpcli.request",
)

MODULES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file: at the top, in functions, and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_only(path):
    here = room(path)
    assert here in FLOORS, f"{here} has no floor yet: give it one, here and in docs/architecture.md"
    for name in imports(path):
        if not name.startswith("jvpcli."):
            continue
        there = name.split(".")[1]
        if there in FLOORS and there != here:
            assert FLOORS[there] < FLOORS[here], (
                f"{path.relative_to(SOURCE)} imports {name}, which is on a higher floor"
            )


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) == "render"], ids=lambda path: path.name)
def test_renderers_know_reports_only(path):
    bad = [name for name in imports(path) if name.startswith(RENDERERS_NEVER)]
    assert not bad


def test_the_ground_imports_no_torch():
    for path in MODULES:
        if FLOORS.get(room(path), 1) < 0.5:
            assert not [name for name in imports(path) if name.split(".")[0] in ("torch", "rich", "typer")]
