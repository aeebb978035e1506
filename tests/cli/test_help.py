"""Help: every command and option has a sentence, and the examples do what they say."""

from __future__ import annotations

import re
import shlex
from importlib import import_module

import numpy as np
import pytest

from jvpcli.cli.app import COMMANDS
from jvpcli.cli.command import build

FROM_A_PROGRAM = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
"""What the user's own program in an example prints."""


TRAINING = """\
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for turn in range(3):
    optimizer.zero_grad()
    x = torch.randn(4, 3)
    y = net(x)
    loss = (y - 1).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
"""A program of the user's own."""


def module(name):
    return import_module(f"jvpcli.cli.{name}")


def examples():
    """The lines of the commands' examples; those of serve, which goes on for ever, are for its own tests."""
    for name in (name for name in COMMANDS if name != "serve"):
        for line in module(name).EXAMPLES.splitlines():
            if line and not line.startswith("#"):
                yield pytest.param(line, id=f"{name}: {line[:60]}")


def test_the_program_s_own_help_names_every_command(jvp):
    shown = jvp("--help")
    assert (shown.code, shown.err) == (0, "")
    for name, sentence in COMMANDS.items():
        assert f"  {name} " in shown.out
        assert sentence in shown.out
    assert jvp().out == jvp("-h").out == shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_sentence(jvp, name):
    command = build(name, module(name))
    shown = jvp(name, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert COMMANDS[name].endswith(".")
    for param in command.params:
        assert param.help
        assert param.help.endswith("."), param.help
        assert param.help in shown.out
        assert all(spelling in shown.out for spelling in param.opts if spelling.startswith("-"))
    assert jvp(name, "-h").out == shown.out
    assert jvp(name, "--jsn", "--help").out == shown.out
    assert not [line for line in shown.out.splitlines() if line.endswith(" ")]
    narrow = jvp(name, "--help", COLUMNS="60").out.partition("Examples")[0]
    assert max(map(len, narrow.splitlines())) <= 60
    assert jvp(name, "--help", encoding="ascii").out.isascii()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(name):
    lines = [line for line in module(name).EXAMPLES.splitlines() if line]
    assert lines[0].startswith("# ")
    assert any(f"jvp {name} " in line for line in lines)


@pytest.mark.parametrize("line", list(examples()))
def test_examples_run(jvp, tmp_path, monkeypatch, line):
    """The `jvp` in each example, with what is piped into it."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([1.0, 2.0]))
    np.save("W.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    (tmp_path / "ops.py").write_text("def my_op(x):\n    return x.sin()\n")
    (tmp_path / "model.py").write_text("from torch import nn\nnet = nn.Sequential(nn.Linear(2, 3), nn.Tanh())\n")
    (tmp_path / "train.py").write_text(TRAINING)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text(TRAINING)
    (tmp_path / "requests.jsonl").write_text('{"expression": "x*2", "inputs": {"x": 1}}\n')
    inner = re.search(r"\$\((jvp .*?)\)", line)
    line = inner[1] if inner else line
    stdin, _, rest = line.rpartition(" | jvp ") if not line.startswith("jvp ") else ("", "", line.removeprefix("jvp "))
    if stdin:
        words = shlex.split(stdin)
        stdin = words[1] if words[0] == "echo" else FROM_A_PROGRAM
    argv = shlex.split(rest)
    ends = [argv.index(word) for word in ("|", ">", "&&") if word in argv]
    outcome = jvp(*argv[: min(ends, default=len(argv))], stdin=stdin)
    assert outcome.code in ((0, 8) if argv[0] == "check" else (0,)), outcome.err  # a wrong gradient is shown too
    assert outcome.out or argv[:2] in (["run", "train.py"], ["run", "-m"], ["run", "--watch"])  # the program's own prints
