"""Hostile command lines from a seed, and what must hold of every one of them, whatever it says.

As a program it runs them as real processes and prints one JSON line for each: `python hostile_commands.py --seed 0`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "language"))

from random_expressions import NAMES, expression

from jvpcli.cli.app import COMMANDS

CONTROL = ("\x1b[31m", "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x07", "\x08", "\x9b31m", "\x90", "\x7f", "\r", "\v", "\u202e",
    "\u2066",
           "\u200b", "\ud83d", "\udcff", "\udc1b", "\x1bP1;2q", "\x1b\\", "\u2028", "\x1b]8;;http://a\x1b\\b")  # fmt: skip
"""What a terminal obeys, or reads another way round; lone surrogates are the bytes of an argv that are no UTF-8."""

WORDS = ("", "-", "--", "²", "٣", "x", "1", "NaN", "1e400", "-1", "2**63", "9" * 400, "true", "null", "{}", "[]", "[[1,2],[3]]",
         "a b", "'", '"', "$(id)", "%s%n", "{0}", "/", "..", "//", "\t", "\n", "日本", "😀", "0x10", "1_000", "x" * 5000,
         "(" * 300, "[" * 3000 + "]" * 3000)  # fmt: skip
VALUES = ("1,2,3,4", "1,2;3,4", "3", "[[1,2],[3,4]]", "torch.ones(3)", "torch.ones(2,2)", "1+2j", "nan,inf", "1,",
    "torch.arange(4.)",
          "torch.zeros(0,3)", "1e400", "[1e400]", "-", "torch.rand(3)", "1,2,,3", "[1,[2]]", "torch.tensor([True])",
          "1;2;3")  # fmt: skip
FLAGS = ("--quiet", "--full", "--heatmap", "--explain-plan", "--spectrum", "--no-such", "--help", "-q", "-h")
OPTIONS = {
    "--dtype": ("float64", "float16", "int64", "complex64", "nonsense"),
    "--device": ("cpu", "cuda", "meta", "x"),
    "--seed": ("0", "-1", "2**64", "18446744073709551616", "1.5"),
    "--mode": ("auto", "forward", "reverse", "x"),
    "--jacobian": ("auto", "dense", "coo", "none", "x"),
    "--memory-limit": ("1", "0", "-1", "1KB", "30MB", "1GB", "1e400", "1e99G", "nan", "1TB"),
    "--grad-outputs": ("ones", "randn", "onehot:0", "onehot:99", "1,2", "none", "y=ones", "torch.ones_like(y)"),
    "-g": ("ones", "zeros", "onehot:-1", "onehot:1,2,3,4,5"),
    "--tangent": ("ones", "x=1,2,3,4", "x=ones", "1"),
    "--wrt": ("x", "x,A", "zz", "", ","),
    "--input": ("x=1,2", "x", "=1", "seed=2", "x=@data.npz:k"),
    "--html": ("page.html", "no/such/page.html", ".", "/dev/full"),
    "--plot": ("plot.svg", "plot.xyz", "plot.png"),
    "--dot": ("graph.dot", "graph.svg"),
    "--save": ("saved.npz", "saved", "no/such/saved.npz"),
}
SURROUNDINGS = ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "xterm-256color"}, {"PYTHONIOENCODING": "ascii"},
                {"PYTHONIOENCODING": "utf-8:strict"})  # fmt: skip
"""Environments; the last is what most UTF-8 locales mean for stdin."""

TIMEOUTS = ("0", "-1", "0.001", "0.3", "nan", "inf", "1e400", "x")
"""Of `--timeout`, which ends the process that it is given to."""

PLAIN = ("torch.outer(x,x)", "x*2", "x.sum()", "A @ x", "torch.sin(x)", "x[0]", "(x, x*2)", "y = x*2; z = y.sum()",
    "x.detach()", "x @ x",
         "x.reshape(2,2)", "torch.linalg.inv(A)", "F.softmax(x, 0)", "x.nonsense()", "F.linear(x, A)", "x +", "import os", "x/0",
         "torch.zeros(10**12)*x", "[x for i in range(10**9)]", "x.repeat(10**10)", "y = torch.ones(3) * ", "print(x)",
         "torch.linalg.lstsq(torch.ones(2,3)*math.nan*x.sum(), torch.ones(2,1)).solution")  # fmt: skip
MESSAGES = (
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    "element 0 of tensors does not require grad and does not have a grad_fn",
    "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nRuntimeError: size mismatch",
)


@dataclass(frozen=True)
class Command:
    """Words after `jvp`, what stands on stdin, and the environment."""

    words: tuple[str, ...]
    stdin: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The command, and how it answers."""
        name = self.words[0] if self.words and self.words[0].isalpha() and self.words[0].isascii() else "nothing"
        return f"{name[:12]} {'--json' if self.words[1:2] == ('--json',) else 'text'}"

    def __str__(self) -> str:
        """To paste into a shell (words that are no UTF-8 are shown as Python writes them)."""
        before = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        piped = f"printf %s {shlex.quote(self.stdin)} | " if self.stdin else ""
        return ascii(f"{piped}{before}jvp {shlex.join(self.words)}")


def command(random: Random, timeouts: bool = True) -> Command:
    """A command line: mostly a plausible one, with something hostile in one or two places.

    With `timeouts` it may be one that ends the process that it runs in.
    """
    rest = (name for name in COMMANDS if name != "serve")  # which goes on for ever
    name = random.choice(("inspect", "inspect", "inspect", "trace", "batch", "explain", *rest))
    words, stdin = _after(random, name, timeouts)
    words = [name, *words]
    if random.random() < 0.03:
        words = [_word(random), *words[1:]]
    if random.random() < 0.3:
        at = random.randrange(1, len(words)) if len(words) > 1 else 0
        words[at] = _spoilt(random, words[at])
    if random.random() < 0.1:
        words.insert(random.randrange(1, len(words) + 1), _word(random))
    if random.random() < 0.3 and stdin:
        stdin = _spoilt(random, stdin)
    if random.random() < 0.5:
        words.insert(1, "--json")
    environment = {}
    if random.random() < 0.3:
        environment["COLUMNS"] = random.choice(("1", "2", "7", "20", "0", "-5", "²", "x", "99999999", "\x1b[31m", "٣", "1e3"))
    if random.random() < 0.1:
        environment |= random.choice(SURROUNDINGS)
    return Command(tuple(word.replace("\0", "") for word in words), stdin, environment)


def _after(random: Random, name: str, timeouts: bool) -> tuple[list[str], str]:
    """The words after a command's name, and its stdin."""
    if name == "explain":
        text = _spoilt(random, random.choice(MESSAGES))
        return random.choice((([text], ""), (["-"], text)))
    if name == "batch":
        lines = [_request(random) for _ in range(random.randrange(5))]
        return random.choice((["-"], [], ["-", "--jobs", "2"], ["requests.jsonl"])), "\n".join(lines)
    if name in ("ops", "schema", "completion"):
        return random.choice(([], ["softmax"], [_word(random)], ["bash"])), ""
    words = [random.choice(PLAIN) if random.random() < 0.6 else expression(random, 3)]
    for wanted in NAMES:
        if random.random() < (0.98 if re.search(rf"\b{wanted}\b", words[0]) else 0.01):
            words += [f"--{wanted}", _value(random)]
    for option in random.sample(sorted(OPTIONS), random.choice((0, 0, 0, 0, 1, 2))):
        words += [option, random.choice(OPTIONS[option])]
    if timeouts and random.random() < 0.1:
        words += ["--timeout", random.choice(TIMEOUTS)]
    if random.random() < 0.15:
        words.append(random.choice(FLAGS))
    return words, random.choice(("", "[1,2,3]", "1,2", "x*2", "\x1b[31m"))


def _value(random: Random) -> str:
    if random.random() < 0.7:
        return random.choice(VALUES)
    file = random.choice(FILES)
    key = random.choice(("", "", ":k", f":{random.choice(KEYS)}", ":", ":no", f":{random.choice(CONTROL)}"))
    return f"@{file}{key}"


def _request(random: Random) -> str:
    """A line of a batch: a request, one that is not quite, or anything."""
    if random.random() < 0.2:
        return random.choice(("", "{", "[]", "null", "1", "{}", '{"expression": 3}', "\x1b[31m", '{"id": "\x1b"}', "\udcff",
            '{"expression":"x","inputs":{"x":1e400}}'))  # fmt: skip
    request: dict[str, Any] = {"id": random.choice((1, "a", None, [1], "\x1b[31m", math.nan, 10**30))}
    request["expression"] = random.choice(PLAIN) if random.random() < 0.6 else expression(random, 3)
    values = (1, [1, 2, 3, 4], "1,2", [[1, 2], [3, 4]], "NaN", {"value": [1, 2]}, _value(random), "\x1b", None, True, [10**400])
    request["inputs"] = {name: random.choice(values) for name in ("x", "A", random.choice(KEYS))}
    for name, choices in (("command", ("inspect", "trace", "check", "\x1b", 3)), ("dtype", ("float64", "\x1b")),
        ("seed", (0, -1, "a", 2**70)),
                          ("grad_outputs", ("ones", {"y": "ones"}, [1], "\x9b")), ("wrt", (["x"], "x", ["\x1b"])),
                          ("\x1b", (1,))):  # fmt: skip
        if random.random() < 0.15:
            request[name] = random.choice(choices)
    return json.dumps(request, ensure_ascii=random.random() < 0.5)


def _word(random: Random) -> str:
    return random.choice((*WORDS, *CONTROL, *CONTROL, random.choice(FLAGS), random.choice(sorted(OPTIONS))))


def _spoilt(random: Random, word: str) -> str:
    """The word with something in it that does not belong there."""
    at = random.randrange(len(word) + 1)
    return word[:at] + random.choice(CONTROL if random.random() < 0.8 else WORDS) + word[at:]


# Files with hostile names, keys and contents

KEYS = ("k", "\x1b[31mk", "k\x07", "\u202ek", "k:k", "", "k\nk")
FILES = ("data.csv", "esc.csv", "bad.json", "data.npy", "data.npz", "keys.npz", "keys.pt", "pickle.pt", "keys.safetensors",
    "empty.csv",
         "\x1b[31m.csv", "\u202ecsv.npy", "folder.csv", "garbage.npy", "garbage.npz", "garbage.pt", "link.csv", "pipe.csv",
         "no.csv",
         "huge.json", "\x1b]0;t\x07.json", "deep.json", "garbage.safetensors", "/dev/zero", "/dev/stdin",
         "/proc/self/environ")  # fmt: skip


def write_files(folder: Path) -> None:
    """The files that the commands name, into a folder."""
    import numpy as np
    import torch

    array, noise = np.arange(4.0), bytes(range(256)) * 4
    np.save(folder / "data.npy", array)
    np.save(folder / "\u202ecsv.npy", np.array(["\x1b[31m"]))
    np.savez(folder / "data.npz", k=array)
    np.savez(folder / "keys.npz", **{key.replace("/", "") or "e": array for key in KEYS})
    torch.save({key: torch.ones(2) for key in KEYS}, folder / "keys.pt")
    torch.save({"k": Random}, folder / "pickle.pt")
    header = json.dumps({key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for key in KEYS[:4]}).encode()
    (folder / "keys.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    contents = {
        "data.csv": b"1,2,3,4\n", "esc.csv": b"1,\x1b[31mred,3\n", "bad.json": b'[1, "\x1b[31m", ', "empty.csv": b"",
        "deep.json": b"[" * 100_000,
        "\x1b[31m.csv": b"1,2\n", "\x1b]0;t\x07.json": b"[1,x]", "huge.json": b"[1e400, -1e400]",
        "link.csv.target": b"secret\x1b[31m line\n",
        "garbage.npy": noise, "garbage.npz": b"PK\x03\x04" + noise, "garbage.pt": noise, "garbage.safetensors": noise,
        "requests.jsonl": b'{"expression":"x*2","inputs":{"x":[1,2]}}\n\x1b\n{"expression":"\\u001b[31m"}\n',
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.csv").mkdir()
    (folder / "link.csv").symlink_to("link.csv.target")
    os.mkfifo(folder / "pipe.csv")


# What must hold

CODES = {"usage": 2, "bad_value": 2, "file": 2, "syntax": 3, "forbidden": 3, "unknown_name": 3, "shape_mismatch": 4,
    "evaluation": 5,
         "not_differentiable": 6, "limit": 7, "check_failed": 8, "interrupted": 130}  # fmt: skip
TERMINAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys: all control characters but the tab and the line's end."""

REORDER = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that show a text in another order than it has."""


def problems(asked: Command, code: int, out: bytes, err: bytes) -> list[str]:
    """What is wrong with an outcome; nothing, if all is well."""
    found, words = [], asked.words
    as_json = words[1:2] == ("--json",) and not {"--help", "-h"} & set(words)
    if code not in {0, *CODES.values()} - {130}:
        found.append(f"exit {signal.Signals(-code).name if code < 0 else code}")
    for name, stream in (("stdout", out), ("stderr", err)):
        text = stream.decode(errors="replace")
        if b"\x1b" in stream:
            found.append(f"ESC on {name}")
        elif TERMINAL.search(text):
            found.append(f"control character {TERMINAL.search(text)[0]!r} on {name}")  # type: ignore[index]
        elif REORDER.search(text):
            found.append(f"bidi control on {name}")
        if "Traceback (most recent call last)" in text and "Traceback" not in " ".join((*words, asked.stdin)):
            found.append(f"traceback on {name}")
    if any(_document(line) for line in err.splitlines()):
        found.append("a document on stderr")
    if words[:1] == ("batch",) and not {"--help", "-h"} & set(words):
        found += [] if code == 2 else [f"no document: {line[:80]!r}" for line in out.splitlines() if not _document(line)]
    elif as_json and words[:1] != ("completion",):
        found += _one_document(code, out)
    return found


def _one_document(code: int, out: bytes) -> list[str]:
    document = _document(out)
    if document is None:
        return [f"stdout holds no single document: {out[:80]!r}"]
    error = document.get("error")
    if document.get("ok") is False and isinstance(error, dict) and CODES.get(error["code"], 1) != code:
        return [f"{error['code']} with exit {code}"]
    return []


def _document(text: bytes) -> dict[str, Any] | None:
    """The one document that a text is, for a strict parser; None if it is anything else."""
    try:
        found = json.loads(text.decode(), parse_constant=_not_json, object_pairs_hook=_once)
    except ValueError:
        return None
    return found if isinstance(found, dict) and ({"schema", "$schema"} & found.keys()) else None


def _not_json(name: str) -> Any:
    raise ValueError(name)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


# Real processes


def run_process(asked: Command, folder: Path) -> tuple[int, bytes, bytes]:
    """The command as a process of its own in a folder: exit code (negative for a signal), stdout, stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **asked.environment}
    words = [word.encode("utf-8", "surrogateescape" if _is_bytes(word) else "surrogatepass") for word in asked.words]
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"jvpcli", *words],
        cwd=folder, env=environment, input=asked.stdin.encode("utf-8", "surrogatepass"), capture_output=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def _is_bytes(word: str) -> bool:
    """Whether a word's surrogates are those that stand for bytes."""
    return all(not 0xD800 <= ord(character) < 0xE000 or 0xDC80 <= ord(character) <= 0xDCFF for character in word)


def main() -> None:
    """One JSON line for each command, as it ends."""
    options = argparse.ArgumentParser()
    options.add_argument("--seed", default="0")
    options.add_argument("--count", type=int, default=24)
    options.add_argument("--seconds", type=float, default=math.inf, help="stop after the command in which they are over")
    given = options.parse_args()
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name))
        for number in range(given.count):
            if time.monotonic() > end:
                break
            asked = command(Random(f"{given.seed}:{number}"))
            try:
                outcome = run_process(asked, Path(name))
                found, kind = problems(asked, *outcome), f"exit {outcome[0]}"
            except subprocess.TimeoutExpired:
                found, kind = ["it does not end"], "hangs"
            said = f"{asked}\t{'; '.join(found)}" if found else ""
            print(json.dumps({"family": asked.family, "kind": "failure" if found else kind, "number": number, "said": said}),
                flush=True)


if __name__ == "__main__":
    main()
