"""The `console` blocks of Markdown files: run them, compare what they print with what they show, or fill it in.

    python tools/console_blocks.py README.md docs/*.md      # writes the outputs into the files

A line that begins with `$ ` is a command (its `\\` at the end goes on in the next line, a here-document in lines that begin
with `> `); what follows is its output,
stdout and stderr as a terminal shows them.  The blocks of a file run one after the other in one empty directory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SETTING_UP = ("make ", "pip ", "eval ", "python train.py")
"""Commands that a reader runs and a test does not: they install, or run a program of the reader's."""

MARK = "@@end-of-a-command@@"


@dataclass
class Step:
    """A command and the lines that it shows."""

    command: str
    shown: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether it is one that a test runs."""
        return not self.command.startswith(SETTING_UP)


def blocks(text: str) -> list[list[Step]]:
    """The steps of every console block."""
    return [_steps(match[1]) for match in BLOCK.finditer(text)]


def _steps(body: str) -> list[Step]:
    steps: list[Step] = []
    going_on = False
    for line in body.splitlines():
        if going_on:
            steps[-1].command += "\n" + (line[2:] if line.startswith("> ") else "" if line == ">" else line)
        elif line.startswith("$ "):
            steps.append(Step(line[2:]))
        elif steps:
            steps[-1].shown.append(line)
        going_on = bool(steps) and not steps[-1].shown and _goes_on(steps[-1].command)
    return steps


def _goes_on(command: str) -> bool:
    """Whether a command needs a further line."""
    here = re.search(r"<<\s*'?(\w+)'?", command)
    return command.endswith("\\") or (here is not None and not command.endswith(f"\n{here[1]}"))


def run(steps: list[Step], folder: str, path: str, variables: Mapping[str, str] = os.environ) -> list[list[str]]:
    """What each command of a block prints; one that is not run prints what it shows."""
    script = "".join(
        f"{step.command}\nstatus=$?; printf '%s\\n' '{MARK}'; (exit $status)\n" for step in steps if step.runs
    )
    environment = {**variables, "COLUMNS": "100", "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    printed = iter(done.stdout.decode().split(MARK + "\n"))
    return [next(printed).splitlines() if step.runs else step.shown for step in steps]


def same(shown: list[str], printed: list[str]) -> bool:
    """Equal, blanks at the ends aside; JSON by its value (older programs write 20 where newer ones write 20.0)."""
    shown, printed = ([line.rstrip() for line in lines] for lines in (shown, printed))
    return len(shown) == len(printed) and all(a == b or _same_json(a, b) for a, b in zip(shown, printed, strict=True))


def _same_json(shown: str, printed: str) -> bool:
    try:
        return bool(json.loads(shown) == json.loads(printed))
    except ValueError:
        return False


def fill(text: str, path: str) -> str:
    """The text with the outputs of its commands in place."""
    with tempfile.TemporaryDirectory() as folder:

        def filled(match: re.Match[str]) -> str:
            steps = _steps(match[1])
            lines = []
            for step, printed in zip(steps, run(steps, folder, path), strict=True):
                lines += [*_as_shown(step.command), *printed]
            return "```console\n" + "\n".join(line.rstrip() for line in lines) + "\n```"

        return BLOCK.sub(filled, text)


def _as_shown(command: str) -> list[str]:
    """A command as it stands in a block."""
    first, *rest = command.split("\n")
    return [f"$ {first}", *(f"> {line}" if "<<" in first else line for line in rest)]


def main() -> None:
    """Fills the files that are named."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(fill(file.read_text(encoding="utf-8"), path), encoding="utf-8")


if __name__ == "__main__":
    main()
