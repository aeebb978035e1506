"""The floors of docs/architecture.md: no import goes from a lower floor to a higher one; renderers know no torch."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "jvpcli"

FLOORS = {
    "attributes": 0, "errors": 0, "system": 0, "version": 0,
    "program": 0.1, "report": 0.1, "request": 0.15, "writer": 0.1, "options": 0.2,
    "render": 0.5, "cluster": 0.6,
    "language": 1,
    "problem": 1.5,
    "recording": 1.6,
    "closed": 1.7,
    "messages": 1.2,
    "repairs": 1.3,
    "jacobians": 2,
    "symbolic": 2.5, "tracing": 3, "gradcheck": 3.1,
    "answers": 4,
    "results": 4.4, "api": 4.5,
    "cli": 5, "notebook": 5.5, "__init__": 5.6, "__main__": 6,
}  # fmt: skip
RENDERERS_NEVER = (
    "torch",
    "scipy",
    "jvpcli.language",
    "jvpcli.jacobians",
    "jvpcli.messages",
    "jvpcli.repairs",
    "jvpcli.program",
    "jvpcli.request",
)

MODULES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def imports(source: str) -> frozenset[str]:
    """Every module imported anywhere in a source: at the top, in functions, and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def floor(name: str) -> float:
    """The floor of what `jvpcli.NAME` is; what is no room is a name of the package itself."""
    return 0 if name == "__version__" else FLOORS.get(name, FLOORS["__init__"])


def climbs(source: str, here: str) -> list[str]:
    """The imports of a module in room `here` that don't go down."""
    own = [name.split(".")[1] for name in imports(source) if name.startswith("jvpcli.")]
    relative = [name for name in imports(source) if name.startswith(".")]
    return relative + [there for there in own if there != here and floor(there) >= FLOORS[here]]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_only(path):
    here = room(path)
    assert here in FLOORS, f"{here} has no floor yet: give it one, here and in docs/architecture.md"
    assert not climbs(path.read_text(), here)


@pytest.mark.parametrize(
    ("source", "here", "bad"),
    [
        ("from jvpcli.tracing.steps import trace_steps", "jacobians", True),
        ("def f():\n    import jvpcli.cli.app", "language", True),
        ("if TYPE_CHECKING:\n    from jvpcli import api", "tracing", True),
        ("from jvpcli import inspect", "language", True),
        ("from .. import api", "jacobians", True),
        ("from jvpcli.repairs.diagnosis import repairs", "messages", True),
        ("from jvpcli.jacobians.engine import run", "repairs", True),
        ("from jvpcli.messages.cards import Found", "repairs", False),
        ("from jvpcli.report import Value", "program", True),
        ("from jvpcli.language.parse import parse", "jacobians", False),
        ("from jvpcli.jacobians.engine import run", "jacobians", False),
        ("from jvpcli import __version__", "language", False),
        ("import torch", "jacobians", False),
    ],
)
def test_the_rule_itself(source, here, bad):
    assert bool(climbs(source, here)) is bad


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) == "render"], ids=lambda path: path.name)
def test_renderers_know_reports_only(path):
    bad = [name for name in imports(path.read_text()) if name.startswith(RENDERERS_NEVER)]
    assert not bad


def test_the_ground_imports_no_torch():
    for path in MODULES:
        if FLOORS.get(room(path), 1) < 0.5:
            assert not [name for name in imports(path.read_text()) if name.split(".")[0] in ("torch", "rich", "typer")]


def test_what_is_imported_is_declared():
    """A package that happens to be there with another one is not there for everybody."""
    declared = re.findall(r'^(?:    "|\w+ = \[")([\w-]+)', (SOURCE.parents[1] / "pyproject.toml").read_text(), re.MULTILINE)
    used = {name.split(".")[0] for path in MODULES for name in imports(path.read_text())} - sys.stdlib_module_names
    assert {"torch", "executing"} <= used
    assert used - {"jvpcli", "markupsafe"} <= set(declared)  # jinja2 has that one


def module_of(path: Path) -> str:
    parts = ("jvpcli", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way through a graph that comes back to where it begins; [] if there is none."""
    done: set[str] = set()

    def walk(way: list[str]) -> list[str]:
        for there in sorted(graph.get(way[-1], set()) - done):
            found = [*way[way.index(there) :], there] if there in way else walk([*way, there])
            if found:
                return found
        done.add(way[-1])
        return []

    return next((found for name in sorted(graph) if (found := walk([name]))), [])


def test_no_circle_of_imports():
    """Wherever an import stands: at the top, in a function, or for types alone."""
    sources = {module_of(path): path.read_text() for path in MODULES}
    graph = {name: (imports(source) & sources.keys()) - {name} for name, source in sources.items()}
    assert graph["jvpcli.answers.inspect"] >= {"jvpcli.problem", "jvpcli.answers.products"}
    assert not circle(graph)


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}, ["a", "b", "c", "a"]),
    ],
)
def test_circles_are_seen(graph, found):
    assert circle(graph) == found


# What depends on the operating system

UNIX = {
    "fcntl", "grp", "msvcrt", "pwd", "resource", "select", "selectors", "termios",
    *(f"os.{name}" for name in (
        "fork", "forkpty", "getpgid", "getuid", "kill", "killpg", "mkfifo", "posix_spawn", "register_at_fork",
        "sched_getaffinity", "setsid", "sysconf", "wait", "waitpid", "waitstatus_to_exitcode", "writev",
    )),
    *(f"signal.{name}" for name in (
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "alarm", "pthread_sigmask", "setitimer",
    )),
}  # fmt: skip
"""What not every system has: modules, functions and signals."""


def of_one_system(source: str) -> set[str]:
    """What a source uses of that, by these names, and files that only Linux has."""
    nodes = [*ast.walk(ast.parse(source))]
    attributes = {f"{n.value.id}.{n.attr}" for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    docstrings = {n.value.value for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)} - docstrings
    return (attributes | imports(source)) & UNIX | {text for text in texts if text.startswith(("/proc", "/sys"))}


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) != "system"], ids=lambda path: str(path.relative_to(SOURCE)))
def test_one_room_knows_the_operating_system(path):
    assert not of_one_system(path.read_text())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("try:\n    import fcntl\nexcept ImportError:\n    pass", {"fcntl"}),
        ("def f():\n    from os import fork", {"os.fork"}),
        ("import os, signal\nos.kill(1, signal.SIGKILL)", {"os.kill", "signal.SIGKILL"}),
        ('"""Under /proc."""\nopen(f"/proc/{n}/fd")', {"/proc/"}),
        ("import os, signal\nos.read(0, 1), signal.SIGINT, '/dev/fd/1'", set()),
    ],
)
def test_what_is_of_one_system_is_seen(source, found):
    assert of_one_system(source) == found
