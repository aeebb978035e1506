"""What each command may load: a second of loading is a second of waiting."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

OUTER = ("torch.outer(x,x)", "--x", "1,2,3,4")

LISTING = """
import os, sys
before = set(sys.modules)
if {torch}:
    import torch
    before = set(sys.modules)
sys.argv = ["jvp", *{argv!r}]
os._exit = lambda code: None
del os.fork  # all in one process, so that all is seen
from jvpcli.__main__ import main
main()
print(sorted(set(sys.modules) - before), file=sys.stderr)
"""

HEAVY = {"torch", "numpy", "orjson", "scipy", "sympy", "jinja2", "matplotlib", "pydantic", "multiprocessing"}

BEYOND_TORCH = {
    "sympy", "scipy", "torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes",
    "jinja2", "matplotlib", "pydantic", "pandas", "multiprocessing.pool", "rich.markdown", "markdown_it", "pygments",
}  # fmt: skip
"""Never loaded by a small problem, as far as torch itself does without."""

SELDOM = {
    "jvpcli.answers.failures", "jvpcli.answers.mismatch", "jvpcli.answers.silent", "jvpcli.gradcheck", "jvpcli.jacobians.engine",
    "jvpcli.jacobians.local", "jvpcli.language.failures", "jvpcli.language.files",
    "jvpcli.language.imports", "jvpcli.language.pasted", "jvpcli.language.sessions", "jvpcli.language.statements",
    "jvpcli.messages", "jvpcli.render.check", "jvpcli.render.matrix", "jvpcli.render.trace",
    "jvpcli.repairs", "jvpcli.report.check", "jvpcli.report.trace", "jvpcli.symbolic", "jvpcli.tracing", "jvpcli.writer",
    *(f"jvpcli.language.guards.{name}" for name in ("binding", "extents", "overflow", "recurrent", "trusted")),
}  # fmt: skip
"""Parts of the program that an inspection of plain operations does without, where nothing fails."""

ALLOWED = {"jvpcli", "orjson", "rich", "typer", "click", "shellingham", "annotated_doc"}
"""Packages from outside the standard library that a small problem may load beside torch."""


def loaded(*argv, torch=False):
    """The modules that a run loads (with `torch`, beside those of torch itself)."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING.format(argv=argv, torch=torch)], capture_output=True, text=True, timeout=100
    )
    return set(ast.literal_eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"], ["--version"], [], ["ops", "soft"], ["ops", "soft", "--json"], ["schema"], ["completion", "zsh"],
        ["completion", "--line", "jvp inspect torch.so"], ["inspect", "--help"], ["trace", "--help"], ["batch", "--help"],
        ["hessian", "--help"], ["derive", "--help"],
        ["inspect", "x", "--jsn"], ["inspekt", "x"], ["inspect"], ["inspect", "torch.sinn(x)", "--x", "1"],
        ["inspect", "x +", "--x", "1"], ["inspect", "x.__class__", "--x", "1"], ["inspect", "x*y", "--x", "1"],
        ["explain", "element 0 of tensors does not require grad and does not have a grad_fn"],
        ["explain", "nobody has ever seen this"], ["batch", "missing.jsonl"], ["batch", "--jobs", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_does_not_compute_loads_no_torch(argv):
    modules = loaded(*argv)
    allowed = {"orjson", "numpy"} if "--json" in argv else set()  # the encoder
    assert "jvpcli.cli.app" in modules
    assert not {name.partition(".")[0] for name in modules} & (HEAVY - allowed)
    others = {name for name in modules if name.startswith("jvpcli.cli.")} & {
        f"jvpcli.cli.{name}"
        for name in ("inspect", "trace", "check", "hessian", "derive", "batch", "explain", "ops", "schema", "completion")
    }
    assert len(others) <= 2  # the command that is named, and (for completion) the one on the line


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["inspekt"]], ids=" ".join)
def test_the_program_s_own_help_loads_not_even_typer(argv):
    assert not {"typer", "click"} & {name.partition(".")[0] for name in loaded(*argv)}


@pytest.mark.parametrize(
    "argv",
    [
        ["inspect", *OUTER], ["inspect", *OUTER, "--json"], ["inspect", *OUTER, "-g", "onehot:1,2", "-t", "ones"],
        ["trace", *OUTER], ["trace", *OUTER, "--json"], ["check", *OUTER], ["hessian", *OUTER, "-t", "ones"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_small_problem_loads_torch_and_little_else(argv):
    modules = loaded(*argv, torch=True)
    assert f"jvpcli.answers.{argv[0]}" in modules
    assert not {name for name in modules if any(name == bad or name.startswith(bad + ".") for bad in BEYOND_TORCH)}
    outside = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"torch", "numpy"}
    assert not {name for name in outside if not name.startswith("_")} - ALLOWED
    assert len({name for name in modules if name.startswith("torch.")}) < 25


@pytest.mark.parametrize("argv", [[*OUTER], ["x @ W / 2 + 1", "--x", "1,2", "--W", "1,2;3,4"], ["F.softmax(x, 0)", "--x", "1,2"]])
def test_an_inspection_loads_what_it_uses(argv):
    assert not {name for name in loaded("inspect", *argv) if any(f"{name}.".startswith(part + ".") for part in SELDOM)}


def test_the_first_question_in_python_finds_everything_loaded():
    """Where torch was there before, as in a program that asks about a function of its own."""
    asked = "jvpcli.jacobian(lambda x: torch.outer(x, x), torch.ones(4)); jvpcli.jacobian(torch.nn.Linear(2, 3), x=torch.ones(2))"
    text = f"import sys, torch, jvpcli; before = set(sys.modules); {asked}; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100)
    assert done.stdout == "[]\n", done.stderr
