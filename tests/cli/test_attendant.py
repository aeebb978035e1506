"""The process that waits for the one that computes: crashes, time, Ctrl-C, and who else writes to stdout."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from jvpcli.cli.context import patience
from processes import begun, children, gone

JVP = Path(sys.executable).parent / "jvp"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no other process waits where there is no fork")

OWN = """
import ctypes, os, signal, sys

def read_nowhere(x):
    ctypes.string_at(8)

def abort(x):
    os.abort()

def divide(x):
    os.kill(os.getpid(), signal.SIGFPE)

def killed(x):
    os.kill(os.getpid(), signal.SIGKILL)

def leave(x):
    os._exit(0)

def busy(x):
    if "BEGUN" in os.environ:
        os.write(int(os.environ["BEGUN"]), b".")
    return x * sum(range(10**11))  # C code that never lets go of the interpreter's lock

def chatty(x):
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    os.write(1, b"from the system\\n")
    print("from Python")
    os.system("echo from a program")
    return x * 2
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def run(*argv, timeout=100, **environ):
    done = subprocess.run(
        [JVP, *map(str, argv)], capture_output=True, text=True, timeout=timeout, env={**os.environ, **environ}
    )
    return done.returncode, done.stdout, done.stderr


CRASHES = {"read_nowhere": "SIGSEGV", "abort": "SIGABRT", "divide": "SIGFPE"}
"""Functions of the user's own code, and what they end in."""


@pytest.mark.parametrize(
    ("command", "function", "as_json"),
    [  # each command with each crash, and either of them in both forms
        (command, function, (i + j) % 2 == 1)
        for i, command in enumerate(("inspect", "trace", "check", "hessian"))
        for j, function in enumerate(CRASHES)
    ],
)
def test_a_crash_is_an_answer(own, command, function, as_json):
    told = f"the process that computed `{function}(x) + 1` was ended by {CRASHES[function]}"
    code, out, err = run(command, f"{function}(x) + 1", "--x", "1,2", "--import", own, *["--json"] * as_json)
    assert code == 1
    if as_json:
        assert (err, out.count("\n")) == ("", 1)
        error = json.loads(out)["error"]
        assert (error["code"], error["message"]) == ("internal", told)
    else:
        assert out == ""
        assert told in re.sub(r"[│\s]+", " ", err)
        assert "Traceback" not in err
        assert "Fatal Python error" not in err


def test_debug_shows_where_it_crashed(own):
    code, _, err = run("inspect", "read_nowhere(x)", "--x", "1", "--import", own, "--debug")
    assert code == 1
    assert "Fatal Python error: Segmentation fault" in err
    assert "in read_nowhere" in err


def test_killed_from_outside_is_a_limit(own):
    code, out, _ = run("inspect", "killed(x)", "--x", "1", "--import", own, "--json")
    assert code == 7
    assert "killed from outside" in json.loads(out)["error"]["message"]


def test_leaving_without_a_word_is_no_success(own):
    code, out, _ = run("inspect", "leave(x)", "--x", "1", "--import", own, "--json")
    assert code == 1
    assert json.loads(out)["error"]["message"] == "the process that computed `leave(x)` ended by itself"


def test_a_long_expression_is_shortened(own):
    code, out, _ = run("inspect", "abort(x)" + " + x" * 500, "--x", "1", "--import", own, "--json")
    assert code == 1
    assert len(json.loads(out)["error"]["message"]) < 500


def test_the_clock_ends_what_holds_the_interpreter(own):
    code, out, err = run("inspect", "busy(x)", "--x", "1", "--import", own, "--timeout", "3", "--json")  # in 100 s
    assert (code, err) == (7, "")
    assert json.loads(out)["error"]["message"] == "it took longer than 3 s"


def waiting(own, **options):
    """A run that is inside `busy`, and the number of the process that computes."""
    process = begun(
        [JVP, "inspect", "busy(x)", "--x", "1", "--import", own],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
    (computing,) = children(process)
    return process, computing


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the test looks into /proc")


@needs_proc
def test_ctrl_c_ends_what_holds_the_interpreter(own):
    process, computing = waiting(own, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to both
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, b"")
    assert b"interrupted" in err
    assert gone(computing)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_who_computes_goes_with_who_waits(own, number):
    usual = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and would be there, too
    process, computing = waiting(own, preexec_fn=usual)
    process.send_signal(number)
    assert process.wait(100) == -number
    process.communicate()
    assert gone(computing)


def test_what_others_print_goes_to_stderr(own):
    code, out, err = run("inspect", "chatty(x)", "--x", "1,2", "--import", own, "--json")
    assert code == 0
    assert json.loads(out)["vjp"]["x"]["value"] == [2.0, 2.0]
    for who in ("C", "the system", "Python", "a program"):
        assert f"from {who}" in err


NAN = "torch.linalg.lstsq(torch.ones(2,3)*math.nan*x.sum(), torch.ones(2,1)).solution"


def test_what_torch_s_libraries_print_goes_to_stderr(tmp_path):
    code, out, _ = run("inspect", NAN, "--x", "1,2", "--json")
    assert code == 5
    assert json.loads(out)["ok"] is False
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"expression": NAN, "inputs": {"x": [1, 2]}}) + "\n")
    code, out, _ = run("batch", requests)
    assert code == 8
    assert json.loads(out)["ok"] is False


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("seconds", ["1e9", "1e30", "1e400"])
def test_a_limit_beyond_any_clock_is_none(seconds):
    code, out, err = run("inspect", "x*2", "--x", "1", "--timeout", seconds, "--json")
    assert (code, json.loads(out)["ok"], err) == (0, True, "")


@pytest.mark.parametrize("seconds", ["1e9", "1e400"])
def test_nor_in_a_batch(seconds):
    line = json.dumps({"expression": "x*2", "inputs": {"x": 1}})
    done = subprocess.run([JVP, "batch", "--timeout", seconds], input=line, capture_output=True, text=True, timeout=100)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stderr


def test_how_long_is_waited_at_once():
    assert patience(None) is None
    assert patience(0.0) == 1
    assert 4000 < patience(time.monotonic() + 5) < 5002
    assert 0 < patience(math.inf) < 2**31


def test_the_clock_runs_while_a_file_is_written(tmp_path):
    pipe = tmp_path / "page.html"
    os.mkfifo(pipe)  # nobody reads
    code, out, err = run("inspect", "x*2", "--x", "1", "--html", pipe, "--timeout", "4", "--json")
    assert (code, err) == (7, "")
    assert json.loads(out)["error"]["code"] == "limit"


def test_a_slow_reader_is_waited_for():
    """The clock is for the answer; whoever reads it with a pager may take his time."""
    argv = [JVP, "inspect", "torch.outer(x,x)", "--x", "torch.rand(40)", "--json"]
    begun = time.monotonic()
    document = subprocess.run(argv, capture_output=True, timeout=100).stdout
    limit = max(3, 3 * (time.monotonic() - begun))  # enough for the answer on this machine, as busy as it is
    process = subprocess.Popen([*argv, "--timeout", str(limit)], stdout=subprocess.PIPE)
    first = process.stdout.read(10)
    threading.Event().wait(limit)  # by now the clock would have rung
    assert first + process.stdout.read() == document
    assert process.wait(100) == 0
    assert len(document) > 1 << 18  # more than a pipe holds


def test_standard_output_by_its_name(shell):
    graph = shell("jvp trace 'torch.sin(x)' --x 1 --dot /dev/stdout --json | head -1")
    assert graph.out.startswith("digraph")
    page = shell("jvp inspect 'x*2' --x 1,2 --html /dev/fd/1 --quiet")
    assert page.out.lstrip().lower().startswith("<!doctype html")


def test_ranges_inside_lists_count_as_steps(tmp_path):
    """In workers, which a call that torch would be deep in for ever costs but one line."""
    long = ("x[[range(10**8)]]", "torch.asarray([[range(6*10**7)]]) * x", "torch.tensor([3, range(10**18)])*x")
    short = "x[[range(2)]] + torch.tensor([range(2)])"
    requests = [{"expression": expression, "inputs": {"x": [1, 2]}} for expression in (*long, short)]
    (tmp_path / "ranges.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    code, out, _ = run("batch", tmp_path / "ranges.jsonl", "--timeout", "30")
    *refused, answered = map(json.loads, out.splitlines())
    assert code == 8
    assert [document["error"]["code"] for document in refused] == ["limit"] * 3
    assert all("longer than" not in document["error"]["message"] for document in refused)
    assert answered["outputs"]["y"]["value"] == [[1.0, 3.0]]


def test_without_fork_one_process_does_it_all(tmp_path):
    code = (
        "import os, sys; del os.fork; sys.argv[0] = 'jvp'\n"
        "from jvpcli.__main__ import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", "x*2", "--x", "3", "--json"], capture_output=True, text=True
    )
    assert json.loads(done.stdout)["vjp"]["x"]["value"] == 2.0
    late = subprocess.run(
        [sys.executable, "-c", code, "inspect", "torch.linalg.svd(x).S", "--x", "torch.rand(2000,2000)", "--timeout", "3"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (late.returncode, late.stdout) == (7, "")
    assert "longer than 3 s" in late.stderr


def test_no_memory_for_the_backward_pass_is_a_limit():
    """The evaluation fits, and what flows back through it does not."""
    argv = ("torch.outer(x[:3000], x[:3000])", "--x", "torch.rand(1000000)", "--memory-limit", "100MB", "--json")
    for command in ("inspect", "trace"):
        code, out, _ = run(command, *argv)
        assert (code, json.loads(out)["error"]["code"]) == (7, "limit")
