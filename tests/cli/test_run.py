"""One run of the program: exit codes, who tells the outcome, what is told of a bug."""

from __future__ import annotations

import json
import threading

import pytest

from jvpcli.answers import inspect as inspecting
from jvpcli.cli import compute
from jvpcli.cli.context import ASCII, Context, Output, OutputFailed, ReaderGone, Watch
from jvpcli.errors import ExitCode, InterruptedByUser

OUTER = ("inspect", "torch.outer(x,x)", "--x", "1,2,3,4")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, "jvp inspect 'x*2' --x 1"),
        (2, "jvp inspect 'x*2' --x 1 --grad_outputs 1"),
        (2, "jvp inspect 'x*2' --x @missing.npy"),
        (3, "jvp inspect 'x*'"),
        (4, "jvp inspect 'torch.outer(x,x)' --x 1,2,3,4 -g 1,1,1,1"),
        (5, "jvp inspect 'torch.linalg.inv(x)' --x '1,2;2,4'"),
        (6, "jvp inspect 'x.detach()' --x 1"),
        (7, "jvp inspect 'x.repeat(10**13)' --x 1"),
        (8, "echo '{}' | jvp batch"),
    ],
)
def test_every_row_of_the_table(shell, code, command):
    run = shell(command)
    assert run.code == code
    if 0 < code < 8:
        assert run.out == ""
        assert run.err.startswith("╭─ ")
    assert "Traceback" not in run.err


def raising(error):
    def inspect(request):
        raise error

    return inspect


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (ZeroDivisionError("division by zero"), 1, "internal"),
        (MemoryError(), 7, "limit"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), 7, "limit"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_nobody_foresaw_is_a_sentence(jvp, monkeypatch, error, code, name):
    monkeypatch.setattr(inspecting, "inspect", raising(error))
    told = jvp(*OUTER)
    assert (told.code, told.out) == (code, "")
    assert "Traceback" not in told.err
    document = json.loads(jvp(*OUTER, "--json").out)
    assert (document["ok"], document["error"]["code"]) == (False, name)


def test_debug_shows_the_traceback_and_still_one_document(jvp, monkeypatch):
    monkeypatch.setattr(inspecting, "inspect", raising(ZeroDivisionError("division by zero")))
    told = jvp(*OUTER, "--debug", "--json")
    assert told.code == 1
    assert "ZeroDivisionError: division by zero" in told.err
    assert "Traceback" in told.err
    assert json.loads(told.out)["error"]["code"] == "internal"


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ends(monkeypatch):
    """The exit codes with which a watcher would have ended the process."""
    codes = []

    def leave(code):
        codes.append(code)
        raise Left

    monkeypatch.setattr(compute.os, "_exit", leave)
    return codes


def in_a_thread(action):
    def quiet():
        with pytest.raises(Left):
            action()

    thread = threading.Thread(target=quiet)
    thread.start()
    thread.join(100)
    assert not thread.is_alive()


def test_one_thread_alone_tells_the_outcome(capsys, ends):
    """A watcher who comes second leaves with its code, and tells nothing."""
    context = Context(None, None, None, {})
    context.watch.answer()
    in_a_thread(lambda: compute.end_run(context, InterruptedByUser("interrupted"), as_json=False))
    assert ends == [ExitCode.INTERRUPTED]
    assert capsys.readouterr() == ("", "")


def test_a_watcher_who_comes_first_keeps_the_word(tmp_path, ends):
    with (tmp_path / "out").open("w") as out:
        context = Context(None, out, None, {})
        in_a_thread(lambda: compute.end_run(context, InterruptedByUser("interrupted"), as_json=True))
        assert ends == [ExitCode.INTERRUPTED]
        assert not context.watch.telling.acquire(blocking=False)
    assert json.loads((tmp_path / "out").read_text())["error"]["code"] == "interrupted"


def test_the_clock_stops_with_the_answer():
    told = threading.Event()
    watch = Watch()
    watch.begin("x", 1, told.set)
    watch.answer()
    assert not told.wait(1.5)
    Watch().begin("x", 0.05, told.set)
    assert told.wait(100)


class Broken:
    encoding = "utf-8"

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    flush = isatty = lambda self: None


def test_streams_that_cannot_be_written():
    full = OSError(28, "No space left on device")
    with pytest.raises(ReaderGone):
        Output(Broken(BrokenPipeError()), vital=True).write("x")
    with pytest.raises(OutputFailed, match="No space left"):
        Output(Broken(full), vital=True).write_bytes(b"x")
    with pytest.raises(OutputFailed, match="closed"):
        Output(None, vital=True).write("x")
    for stream in (Broken(full), Broken(BrokenPipeError()), None):
        Output(stream, vital=False).write("x")


def test_ascii_replacements_are_ascii():
    assert all(isinstance(text, str) and text.isascii() for text in ASCII.values())


def test_ops(jvp):
    first = json.loads(jvp("ops", "torch.outer", "--json").out)["operations"][0]
    assert (first["name"], first["kind"]) == ("torch.outer", "function")
    assert first["signature"].startswith("outer(input, vec2")
    assert jvp("ops", "F.relu").out.splitlines()[0].strip().startswith("torch.nn.functional.relu")
    assert "x.outer(vec2)" in jvp("ops", "outer").out
    assert jvp("ops", "torch.save").out == "An expression may not use torch.save: it reads or writes files.\n"
    assert "Did you mean torch.sin" in jvp("ops", "torch.sinn").out
    nothing = json.loads(jvp("ops", "torch.sinn", "--json").out)
    assert (nothing["ok"], nothing["operations"]) == (True, [])
    assert len(jvp("ops").out.splitlines()) > 1000


def test_arguments_that_are_no_text(jvp):
    for argv in (["inspect", "x\udcff", "--x", "1"], ["\udcff y"], ["inspect", "x", "--x", "@\udcff.npy"]):
        outcome = jvp(*argv, "--json")
        assert (outcome.code, outcome.err) == (2, "")
        assert "is not UTF-8 text" in json.loads(outcome.out)["error"]["message"]
    misread = "größe*2".encode().decode("ascii", "surrogateescape")
    assert jvp("inspect", misread, "--" + "größe".encode().decode("ascii", "surrogateescape"), "1").code == 0


def test_explain_without_a_message(jvp):
    for outcome in (jvp("explain"), jvp("explain", "-"), jvp("explain", " ")):
        assert outcome.code == 2
        assert "TEXT is missing" in outcome.err


def test_explain(jvp):
    message = "element 0 of tensors does not require grad and does not have a grad_fn"
    log = f"Traceback (most recent call last):\n  File 'a.py', line 1\nRuntimeError: {message}\n"
    document = json.loads(jvp("explain", message, "--json").out)
    assert (document["ok"], document["matched"]) == (True, message)
    assert document["causes"]
    assert document["cures"]
    shown = jvp("explain", *message.split())
    assert (shown.code, shown.err) == (0, "")
    assert document["title"] in shown.out
    assert all(cure.split("   # ")[0][:40] in shown.out for cure in document["cures"])
    assert not [line for line in shown.out.splitlines() if line.endswith(" ")]
    assert jvp("explain", "-", stdin=log).out == jvp("explain", stdin=log).out == shown.out
    assert jvp("explain", "all is well").code == 5
