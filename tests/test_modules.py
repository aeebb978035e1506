"""The modules of the tests themselves: each stands alone, and may run beside any other."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))


def imported(source: str) -> set[str]:
    """The modules that a source imports, anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def other_tests(source: str) -> list[str]:
    """The test modules that a source imports, whatever package they are said to be in; `conftest` is none to import either."""
    return [name for name in imported(source) if any(p.startswith("test_") or p == "conftest" for p in name.split("."))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_none_imports_a_test_module(path):
    """What two of them need stands in a module that is no test (and pytest finds a `conftest` by its place alone)."""
    assert not other_tests(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("from test_functions import FUNCTIONS", True),
        ("def f():\n    import test_functions as t", True),
        ("from tests.answers import test_silent", True),
        ("from conftest import Outcome", True),
        ("from many_functions import FUNCTIONS", False),
        ("from torch.testing import assert_close", False),
        ("import pytest", False),
    ],
)
def test_the_rule_itself(source, bad):
    assert bool(other_tests(source)) is bad


def test_no_name_stands_twice():
    """All modules are imported by their bare names: of two with one name the second would get the first's contents."""
    names = Counter(path.stem for path in MODULES if path.stem != "conftest")
    assert [name for name, times in names.items() if times > 1] == []
