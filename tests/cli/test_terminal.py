"""What reaches a terminal: nothing that it would obey but the program's own colours, and every word however narrow."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from jvpcli.render import escaped, escaped_json, visible
from jvpcli.render.error import underlined
from jvpcli.render.terminal import Indented, Terminal

HOSTILE = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;gone\x07",
    "c1": "\x9b31m\x9d",
    "delete": "\x7f",
    "carriage return": "\rok",
    "backspace": "\b\b",
    "turned round": "\u202eevil\u2066",
}

SGR = re.compile(r"\x1b\[[\d;]*m")
"""What rich writes for a colour."""


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal obeys, by Unicode's own table: controls, and what turns the direction."""
    return [
        c
        for c in text
        if (unicodedata.category(c) == "Cc" and c not in "\n\t")
        or unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expression(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"torch.einsum('{bad}i,i', x, x)", "--x", "1,2"]


def comment(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"x*x  # {bad}", "--x", "1,2"]


def syntax(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"x*({bad}", "--x", "1,2"]


def unknown(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"torch.sinn('{bad}')", "--x", "1,2"]


def value(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", f"1,{bad},2"]


def cotangent(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", "1,2", "-g", f"onehot:{bad}"]


def option(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", "1", f"--{bad}a", "1"]


def input_name(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "-i", f"{bad}=1"]


def mode(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", "1", "--mode", bad]


def program(bad: str, folder: Path) -> list[str]:
    return [f"a{bad}"]


def pasted(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"x = torch.ones(2)\ny = torch.einsum('i,i', x, x)  # {bad}\ntorch.autograd.grad(y, x)  # '{bad}'"]


def message(bad: str, folder: Path) -> list[str]:
    return ["explain", f"RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5) {bad}"]


def no_message(bad: str, folder: Path) -> list[str]:
    return ["explain", f"{bad} nobody knows this {bad}"]


def searched(bad: str, folder: Path) -> list[str]:
    return ["ops", f"soft{bad}"]


def completed(bad: str, folder: Path) -> list[str]:
    return ["completion", "--line", f"jvp inspect {bad}torch.so"]


def shell(bad: str, folder: Path) -> list[str]:
    return ["completion", bad]


def csv(bad: str, folder: Path) -> list[str]:
    (folder / "a.csv").write_text(f"1,2\n{bad},3\n")
    return ["inspect", "x", "--x", "@a.csv"]


def json_file(bad: str, folder: Path) -> list[str]:
    (folder / "a.json").write_text(json.dumps([1, bad]))
    return ["inspect", "x", "--x", "@a.json"]


def npz(bad: str, folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        np.save(folder / "w.npy", np.ones(2))
        for name in (bad, "other"):
            archive.write(folder / "w.npy", f"{name}.npy")
    return ["inspect", "x", "--x", "@a.npz"]


def pt(bad: str, folder: Path) -> list[str]:
    torch.save({bad: torch.ones(2), "other": torch.ones(1)}, folder / "a.pt")
    return ["inspect", "x", "--x", "@a.pt"]


def safetensors(bad: str, folder: Path) -> list[str]:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({bad: entry, "other": entry}).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return ["inspect", "x", "--x", "@a.safetensors"]


def file_name(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", f"@{bad}.npy"]


def written_name(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", "1", "--html", f"no{bad}where/a.html"]


def plot_name(bad: str, folder: Path) -> list[str]:
    return ["inspect", "x", "--x", "1", "--plot", f"{bad}.bmp"]


def requests(bad: str, folder: Path) -> list[str]:
    return ["batch", f"{bad}.jsonl"]


def imported(bad: str, folder: Path) -> list[str]:
    (folder / "model.py").write_text(f"raise ValueError({bad!r} + 'told')  # {bad if bad.isprintable() else ''}\n")
    return ["inspect", "f(x)", "--import", "model.py", "--x", "1"]


def imported_later(bad: str, folder: Path) -> list[str]:
    (folder / "model.py").write_text(f"def f(x):\n    raise ValueError({bad!r} + 'told')\n")
    return ["inspect", "f(x)", "--import", "model.py", "--x", "1"]


def imported_name(bad: str, folder: Path) -> list[str]:
    return ["inspect", "f(x)", "--import", f"{bad}.py", "--x", "1"]


def traced(bad: str, folder: Path) -> list[str]:
    return ["trace", f"y = torch.einsum('i,i', x, x); y*y  # {bad}", "--x", "0,2"]


def traced_step(bad: str, folder: Path) -> list[str]:
    (folder / "model.py").write_text("def f(x, text):\n    return x * x\n")
    return ["trace", f"y = f(x, '{bad}'); y*y", "--import", "model.py", "--x", "0,2"]


def debugged(bad: str, folder: Path) -> list[str]:
    return ["inspect", f"torch.einsum('{bad}i,i', x, x)", "--x", "1,2", "--debug"]


DOORS = [
    expression, comment, syntax, unknown, value, cotangent, option, input_name, mode, program, pasted, message, no_message,
    searched, completed, shell, csv, json_file, npz, pt, safetensors, file_name, written_name, plot_name, requests,
    imported, imported_later, imported_name, traced, traced_step, debugged,
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_no_door_lets_anything_through_that_a_terminal_obeys(jvp, folder, door, kind):
    argv = door(HOSTILE[kind], folder)
    plain = jvp(*argv)
    assert not obeyed(plain.out + plain.err)
    coloured = jvp(*argv, FORCE_COLOR="1", TERM="xterm-256color")
    assert not obeyed(SGR.sub("", coloured.out + coloured.err))
    assert coloured.code == plain.code in (0, 2, 3, 4, 5, 8)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("door", [expression, syntax, npz, imported_later, message, traced], ids=lambda d: d.__name__)
def test_a_document_can_be_shown_as_it_is(jvp, folder, door, kind):
    run = jvp(*door(HOSTILE[kind], folder), "--json")
    assert not obeyed(run.out + run.err)
    json.loads(run.out)


def test_the_console_itself_obeys_no_text():
    """Whatever it is printed in; its own colours stay with the words that they are for."""
    styled = Text.assemble(("one\x1b[2J", "red"), ("two\u202e", "blue"))
    table = Table.grid()
    table.add_row("a\x9bb")
    table.add_row(Text("u\u2066v"))
    stream = io.StringIO()
    console = Terminal(file=stream, force_terminal=True, color_system="standard", width=60)
    console.print(Panel(table, title=Text("t\x7f")), styled, "plain\x1bc", Indented(Group(Text("deep\x85"), "er\x90")))
    text = stream.getvalue()
    assert not obeyed(SGR.sub("", text))
    assert "\x1b[31mone\\x1b[2J\x1b[0m\x1b[34mtwo\\u202e\x1b[0m" in text
    for shown in (r"a\x9bb", r"u\u2066v"):
        assert shown in letters(text)
    for shown in (r"t\x7f", r"plain\x1bc", r"deep\x85", r"er\x90"):
        assert shown in text
    widths = {cell_len(line) for line in SGR.sub("", text).splitlines() if line[0] in "╭│╰"}
    assert widths == {60}


def test_what_is_written_out_is_seen(jvp):
    run = jvp("inspect", "torch.einsum('\x1b\u202ei', x)", "--x", "1,2")
    assert r"torch.einsum('\x1b\u202ei', x)" in run.err
    assert r"'a\x9b'" in jvp("a\x9b").err
    for bad in "\a\b\x0b\x0c\r":  # which rich leaves out
        assert f"\\x{ord(bad):02x}" in jvp("inspect", "x", "--x", f"@a{bad}b.npy").err


@pytest.mark.parametrize(
    ("source", "part"),
    [("'\x1b[31m' + foo", "foo"), ("a\x9bb + \u202efoo\x7f + x", "\u202efoo\x7f"), ("\tfoo", "foo"), ("x\t\x1b\tfoo", "foo")],
)
def test_carets_stand_under_what_is_written_out(source, part):
    start = source.index(part)
    line, marks = underlined(source, (start, start + len(part)))
    at = marks.plain.index("^")
    assert line.plain[at:].startswith(visible(part))
    assert marks.plain.count("^") == cell_len(visible(part))


@pytest.mark.parametrize(
    "text", ["", "plain", "a\nb\tc", "∂y/∂x · Σ", "\x1b", "\x00\x1f\x7f\x80\x9f", "\u202a\u202e\u2066\u2069"]
)
def test_nothing_is_obeyed_and_the_rest_is_as_it_was(text):
    for shown in (visible(text), escaped(text)):
        assert not obeyed(shown)
        assert shown == text or obeyed(text)
    document = json.dumps({"text": text}, ensure_ascii=False).encode()
    assert json.loads(escaped_json(document)) == json.loads(document)
    assert not obeyed(escaped_json(document).decode())


def test_every_character_is_judged_as_unicode_does():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    assert not obeyed(visible(everything))
    kept = re.sub(r"\\x[0-9a-f]{2}|\\u20[0-9a-f]{2}", "", visible(everything))
    assert set(kept) == set(everything) - set(obeyed(everything))


def test_the_id_of_a_line_is_shown_as_it_is(jvp):
    run = jvp("batch", stdin=json.dumps({"id": "\x7f\x9b", "expression": "x+"}, ensure_ascii=False) + "\n")
    assert json.loads(run.out)["id"] == "\x7f\x9b"
    assert not obeyed(run.out)


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if "\r" not in HOSTILE[kind]])  # which ends a line of Python
def test_files_that_are_written_hold_none_of_it(jvp, folder, kind):
    text = f"y = torch.einsum('i,i', x, x)  # {HOSTILE[kind]}\ny*x.sum()"
    named = f"f(x, '{HOSTILE[kind]}')"
    (folder / "model.py").write_text("def f(x, text):\n    return x * x\n")
    for argv in (["inspect", text], ["inspect", named, "--import", "model.py"]):
        run = jvp(*argv, "--x", "1,2", "--html", "a.html", "--plot", "a.svg")
        assert run.code == 0, run.err
        assert "Glyph" not in run.err
    assert jvp("trace", named, "--import", "model.py", "--x", "1,2", "--html", "b.html", "--plot", "b.svg").code == 0
    assert jvp("trace", named, "--import", "model.py", "--x", "1,2", "--dot", "b.dot").code == 0
    for name in ("a.html", "a.svg", "b.html", "b.svg", "b.dot"):
        assert not obeyed((folder / name).read_text(encoding="utf-8")), name


# Narrow terminals


FAILURES = [
    ["inspect", "x @ w", "--x", "1,2", "--w", "1,2,3"],
    ["inspect", "torch.outer(x, x)", "--x", "1,2,3,4", "-g", "1,2"],
    ["inspect", "x.numpy()", "--x", "1"],
    ["inspect", "x + ", "--x", "1"],
    ["inspect", "x", "--x", "1,2,a"],
    ["inspekt", "x"],
    ["explain", "nobody knows this"],
    ["inspect", "x.sum() + x.sum() + x.sum() + torch.sinn(x) + x.sum() + x.sum() + x.sum()", "--x", "1"],
]

WIDTHS = ["1", "2", "5", "10", "²", "0", "-3", "", "x", "41", "60", "1" * 30, "9" * 5000]


def letters(text: str) -> str:
    """A text without blanks, frames and line ends."""
    return re.sub(r"[\s╭╮╰╯│─]+", "", text)


def sentences(failure: dict) -> list[str]:
    return [failure["message"], failure["explanation"], *failure["hints"], failure["torch_message"] or ""]


@pytest.mark.parametrize("width", WIDTHS, ids=lambda width: width[:8])
@pytest.mark.parametrize("argv", FAILURES, ids=lambda argv: argv[1][:12])
def test_no_sentence_of_a_failure_is_lost(jvp, argv, width):
    document = json.loads(jvp(*argv, "--json").out)
    told = jvp(*argv, COLUMNS=width)
    for sentence in sentences(document["error"]):
        for line in sentence.splitlines():
            assert letters(line.removesuffix(" --json")).lower() in letters(told.err).lower()


@pytest.mark.parametrize("width", ["1", "40", "57"])
def test_no_sentence_of_an_answer_is_lost(jvp, width):
    found = {
        "inspect": (["inspect", "torch.outer(x,x)", "--x", "1,2,3,4"], ("Flattened, v is a row vector of 16 and the Jacobian a "
                    "16×4 matrix", "torch.autograd.grad gives the same (compared entry by entry).")),
        "trace": (["trace", "torch.sqrt(x).mul(0).sum()", "--x", "0,1"], ("z: the result, and a, b, …: the operands of a step, "
                  "where they have no name", 'Try: jvp trace "torch.sqrt(x + 1e-7).mul(0).sum()" --x 0,1\n')),
        "check": (["check", "x*x", "--x", "1"], ("Autograd agrees with finite differences",)),
        "hessian": (["hessian", "torch.relu(x)", "--x", "0,1"], ("The Hessian times a direction u", "Where the first derivative "
                    "jumps there is no second derivative; the jump is not in what PyTorch gives there.")),
        "explain": (["explain", "element 0 of tensors does not require grad and does not have a grad_fn"], ()),
        "help": (["trace", "--help"], ("--grad-outputs", "--memory-limit SIZE")),
        "ops": (["ops", "gumbel"], ()),
    }  # fmt: skip
    for argv, told in found.values():
        run = jvp(*argv, COLUMNS=width)
        assert run.code == 0, run.err
        for sentence in told:
            assert letters(sentence) in letters(run.out)
    name = "torch.nn.functional.gumbel_softmax"
    rows = [line[2:19].rstrip() for line in jvp("ops", "gumbel", COLUMNS="1").out.splitlines()]
    assert name in "".join(rows)


@pytest.mark.parametrize("columns", [1, 2, 5, 30, 200])
def test_a_real_terminal_that_is_narrow(columns):
    """The size comes from the terminal, colours are on, and what is written is colours and words alone."""
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    reader, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jvpcli", "inspect", "'\x1b]0;gone\x07' + torch.sinn(x)", "--x", "1"],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env={**environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(terminal)
    raw = b""
    while select.select([reader], [], [], 60)[0]:
        try:
            piece = os.read(reader, 1 << 16)
        except OSError:  # the other end is closed
            break
        raw += piece
        if not piece:
            break
    os.close(reader)
    assert process.wait(60) == 3
    text = raw.decode().replace("\r\n", "\n")
    assert SGR.search(text)
    assert not obeyed(SGR.sub("", text))
    assert "torch.sinn" in letters(SGR.sub("", text))
