"""The installed `jvp` in a shell: pipes that close, disks that are full, signals, limits, terminals, locales."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from processes import begun

JVP = Path(sys.executable).parent / "jvp"
OUTER = "jvp inspect 'torch.outer(x,x)' --x 1,2,3,4"
LONG = ["inspect", "x*w", "--x", "1", "--w", "torch.linalg.eigvals(torch.rand(4000,4000)).abs().sum()"]
"""Minutes in one call of torch, which looks at no signal meanwhile."""

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.mark.parametrize(
    "command",
    [
        "jvp inspect 'torch.outer(x,x)' --x 'torch.arange(60.)' --json",
        "jvp inspect 'torch.outer(x,x)' --x 'torch.arange(26.)' --full",
        "jvp ops",
    ],
)
def test_a_reader_who_leaves_early_is_no_failure(shell, command):
    """The output is larger than a pipe holds, so that writing does hit the closed end."""
    run = shell(f"{command} | head -c 100")
    assert (run.code, len(run.out.encode()), run.err) == (0, 100, "")


@needs_full_disk
@pytest.mark.parametrize("command", [OUTER, "jvp ops len --json", "jvp inspect 'x*' --json", "jvp --help", "jvp ops"])
def test_a_full_disk_is_told(shell, command):
    run = shell(f"{command} > /dev/full")
    assert run.code == 2
    assert "the output cannot be written: No space left on device" in run.err


@pytest.mark.parametrize("command", ["jvp ops len", "jvp ops len --json", "jvp inspect 'x*' --json", "jvp --help"])
def test_a_closed_stdout_is_told(shell, command):
    run = shell(f"{command} >&-")
    assert run.code == 2
    assert "the output cannot be written: it is closed" in run.err


def test_errors_that_nobody_hears_keep_their_exit_code(shell):
    assert shell("jvp inspect 'x*' 2>&-").code == 3
    assert shell("jvp inspect 'x*' 2>&1 | true").code == 3
    if Path("/dev/full").exists():
        assert shell("jvp inspect 'x*' 2>/dev/full").code == 3
        assert shell("jvp inspect 'torch.relu(x)' --x 0 2>/dev/full").code == 0  # a warning


def test_stdin(shell):
    closed = shell("jvp inspect x --x - <&-")
    assert closed.code == 2
    assert "standard input is closed" in closed.err
    assert shell("printf '\\377\\376' | jvp inspect x --x -").code == 2
    assert shell(f"{OUTER} --json <&- | head -c 1").out == "{"


LOADING = """
import os, sys

class Bell:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._C":
            os.write(int(os.environ["BEGUN"]), b".")

sys.meta_path.insert(0, Bell())
"""
"""Python's own start-up file: it tells when torch is loaded."""

CALLING = """
import _thread, os, sys

def call(x):
    sys.setswitchinterval(1000)  # so that the other thread runs once this one lets go of the lock, in a call of torch
    _thread.start_new_thread(os.write, (int(os.environ["BEGUN"]), b"."))
    return x
"""
"""The user's own code: it tells when torch computes with what it was given."""


MOMENTS = {
    "torch is loaded": ("sitecustomize.py", LOADING, LONG),
    "torch computes": (
        "own.py",
        CALLING,
        ["inspect", "x*torch.linalg.eigvals(call(torch.rand(4000,4000))).abs().sum()", "--x", "1", "--import", "own.py"],
    ),
}
"""When Ctrl-C comes: the file that tells of it, and what is run beside it."""


@pytest.fixture(params=MOMENTS)
def interrupted(request, tmp_path):
    """Runs something that takes minutes and sends Ctrl-C in its midst."""
    name, text, argv = MOMENTS[request.param]
    (tmp_path / name).write_text(text)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    def call(*options):
        process = begun(
            [JVP, *argv, *options], {"PYTHONPATH": path}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
        return process.returncode, out.decode(), err.decode()

    return call


def test_ctrl_c_ends_it_at_once(interrupted):
    code, out, err = interrupted()
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err


def test_ctrl_c_with_json_is_one_document(interrupted):
    code, out, err = interrupted("--json")
    assert (code, err) == (130, "")
    assert out.count("\n") == 1
    assert json.loads(out)["error"]["code"] == "interrupted"


def test_whoever_starts_it_may_have_interrupts_ignored(shell):
    assert shell("trap '' INT; jvp --version").code == 0


def test_the_timeout_ends_a_call_that_torch_is_in():
    run = subprocess.run([JVP, *LONG, "--timeout", "4", "--json"], capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (7, "")
    assert json.loads(run.stdout)["error"]["code"] == "limit"


def test_the_timeout_holds_while_torch_is_loaded(shell):
    run = shell(f"{OUTER} --timeout 0.001")
    assert (run.code, run.out) == (7, "")
    assert "longer than 0.001 s" in run.err


MEMORY = """
from jvpcli.system.memory import limited
def fits(size):
    try:
        return len(bytearray(size)) == size
    except MemoryError:
        return False
assert fits(300_000_000)
with limited(100_000_000):
    assert not fits(300_000_000)
    assert fits(50_000_000)
assert fits(300_000_000)
print("held")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_the_memory_limit_is_in_force_inside_and_gone_afterwards(shell):
    assert shell("python -", stdin=MEMORY).out == "held\n"


def test_what_goes_beyond_the_memory_limit_is_refused(shell):
    run = shell("jvp inspect 'x.repeat(10**6).sum()' --x 'torch.rand(1000)' --memory-limit 500MB --json")
    assert run.code == 7
    assert json.loads(run.out)["error"]["code"] == "limit"


def on_a_terminal(argv, columns=60, **environ):
    """What a command prints on a terminal of some width."""
    import fcntl
    import termios

    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [JVP, *argv], stdin=child, stdout=child, stderr=child, env={**env, "TERM": "xterm-256color", **environ}
    )
    os.close(child)
    shown = b""
    while select.select([main], [], [], 60)[0]:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux's end of file on a terminal
            break
        if not part:
            break
        shown += part
    process.wait(timeout=60)
    os.close(main)
    return shown.decode()


@pytest.mark.parametrize(
    ("environ", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_a_terminal_has_its_width_and_its_colours(environ, colour):
    shown = on_a_terminal(["inspect", "x*", "--x", "1"], **environ)
    assert ("\x1b[31m" in shown) is colour
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
    assert max(map(len, plain.splitlines())) <= 60
    assert "Syntax" in plain


def test_without_an_expression_a_terminal_shows_examples():
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(["inspect"], columns=120))
    assert shown.count("jvp inspect") == 3


def test_other_locales(shell):
    """No symbol is lost on the way to ASCII; JSON stays UTF-8."""
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = shell(f"{OUTER} -g onehot:1,2 --tangent ones", **old)
    assert run.out.isascii()
    assert "?" not in run.out
    assert shell("jvp inspect 'größe*' --json", **old).out == shell("jvp inspect 'größe*' --json").out


@pytest.mark.skipif(not __import__("shutil").which("jq"), reason="jq is not installed")
def test_jq_reads_every_document(shell):
    for command in (OUTER, "jvp inspect 'x*'", "jvp inspect", "jvp nothing", "jvp ops outer"):
        run = shell(f"{{ {command} --json || true; }} | jq -c '[.schema, (.ok | type)]'")
        assert run.out == '[1,"boolean"]\n', command
