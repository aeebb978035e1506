"""On a system without fork and poll, without fcntl and resource, and with nothing under /proc: `tests/absent` takes them away."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from jvpcli.cli.attendant import why_ended
from jvpcli.system import memory
from jvpcli.system.files import own_descriptor
from jvpcli.system.pipes import pipes
from processes import begun, children, gone, until

ABSENT = Path(__file__).parents[1] / "absent"

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ABSENT), os.environ.get("PYTHONPATH"))))}


def python(*argv, stdin="", timeout=100):
    """A Python without all that: its exit code, and what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, argv)], input=stdin, capture_output=True, text=True, encoding="utf-8", timeout=timeout,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def lacking(*argv, **options):
    """The command line where all that is missing."""
    return python("-m", "jvpcli", *argv, **options)


def test_it_is_taken_away():
    code = """
import os, select, signal
assert not any(hasattr(os, name) for name in ("fork", "writev", "O_TMPFILE", "mkfifo"))
assert not hasattr(select, "poll") and not hasattr(signal, "SIGCHLD") and not os.path.exists("/proc/self")
for name in ("fcntl", "resource", "termios"):
    try:
        __import__(name)
    except ImportError:
        print(name)
from jvpcli.system import memory
print(memory.can_limit(), memory.free_memory())
"""
    assert python("-c", code) == (0, "fcntl\nresource\ntermios\nFalse 0\n", "")


MANY = [
    ["inspect", "torch.outer(x,x)", "--x", "1,2,3,4"],
    ["inspect", "x @ W", "--x", "1,2", "--W", "1,2,3;4,5,6", "--json"],
    ["inspect", "torch.outer(x,x)", "--x", "1,2", "-g", "onehot:1,1", "-t", "ones", "--dtype", "float64", "--json"],
    ["trace", "(torch.sin(x) * y).sum()", "--x", "1,2;3,4", "--y", "2"],
    ["trace", "torch.sqrt(x - x)", "--x", "1,2", "--json"],
    ["check", "torch.linalg.inv(x)", "--x", "2,1;1,3", "--json"],
    ["check", "x.detach() * x", "--x", "1,2"],
    ["hessian", "(x ** 3).sum()", "--x", "1,2"],
    ["inspect", "x @ y", "--x", "1,2", "--y", "1,2,3", "--json"],
    ["inspect", "torch.sinn(x)", "--x", "1"],
    ["inspect", "x +", "--x", "1", "--json"],
    ["explain", "element 0 of tensors does not require grad and does not have a grad_fn"],
    ["ops", "softmax", "--json"],
]

MANY_IN_ONE = """
import io, json, sys
from jvpcli.cli.app import run
from jvpcli.cli.context import Context
for argv in json.load(sys.stdin):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    code = run(argv, Context(io.StringIO(), out, err, {}))
    print(json.dumps([code, *(stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush())]))
"""


def test_the_answers_are_those_of_any_other_system(jvp):
    code, out, err = python("-c", MANY_IN_ONE, stdin=json.dumps(MANY))
    assert (code, err) == (0, "")
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert outcomes[2][0] == 0
    assert json.loads(outcomes[2][1])["vjp"]["x"]["value"] == [0.0, 4.0]  # of x₁², whose derivative is 2·x₁
    assert len({code for code, *_ in outcomes}) >= 4  # answers and several kinds of failure
    for argv, (code, out, err) in zip(MANY, outcomes, strict=True):
        usual = jvp(*argv)
        assert (code, out, err) == (usual.code, usual.out, usual.err), argv


def test_one_process_answers_writes_files_and_knows_its_own_output(tmp_path):
    saved = tmp_path / "j.npz"
    saved.write_bytes(b"what was there before")
    code, out, err = lacking("inspect", "x ** 2", "--x", "1,2", "--save", saved, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["vjp"]["x"]["value"] == [2.0, 4.0]
    with np.load(saved) as found:
        assert found.files
    assert os.listdir(tmp_path) == ["j.npz"]
    code, out, _ = lacking("trace", "torch.sin(x)", "--x", "1", "--dot", "/dev/stdout", "--quiet")
    assert (code, out.startswith("digraph")) == (0, True)


def test_a_descriptor_by_its_name():
    assert own_descriptor("/dev/fd/7") == 7
    assert own_descriptor("/dev/fd/x") is None
    assert own_descriptor("/elsewhere/7") is None


ENDLESS = {"expression": "sum([torch.linalg.svd(x)[1].sum() for i in range(100000)])", "inputs": {"x": "torch.randn(60,60)"}}


def test_the_clock_ends_a_computation():
    code, out, err = lacking("check", ENDLESS["expression"], "--x", ENDLESS["inputs"]["x"], "--timeout", "3", "--json")
    assert (code, err) == (7, "")
    assert json.loads(out)["error"]["message"] == "it took longer than 3 s"


def test_a_memory_limit_that_cannot_be_kept_is_told():
    code, out, err = lacking("inspect", "x * 2", "--x", "3", "--memory-limit", "200MB", "--json")
    assert (code, json.loads(out)["vjp"]["x"]["value"]) == (0, 2.0)
    assert err == (
        "--memory-limit: the memory of a process cannot be limited on this system; "
        "what is known beforehand to take more is refused all the same\n"
    )
    code, out, _ = lacking("inspect", "x * torch.ones(10**9)", "--x", "3", "--memory-limit", "200MB", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (7, "limit")


def test_where_memory_can_be_limited_nothing_is_told(jvp):
    if not memory.can_limit():
        pytest.skip("it cannot be limited here")
    assert jvp("inspect", "x * 2", "--x", "3", "--memory-limit", "200MB", "--json").err == ""


def requests(*found):
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in found)


def test_a_batch_keeps_order_and_outlives_what_takes_too_long(jvp):
    """Answers that are longer than a pipe holds, a line that is longer too, one that is no JSON, one that never ends."""
    small = [{"id": k, "expression": "x ** 2", "inputs": {"x": k}} for k in range(6)]
    long = {"id": "long", "expression": "x * 2", "inputs": {"x": [*range(100_000)]}, "jacobian": "none"}
    stdin = requests(*small[:3], "nonsense", long, {"id": "endless", **ENDLESS, "timeout": 3}, *small[3:])
    code, out, err = lacking("batch", "--jobs", "2", stdin=stdin)
    usual = jvp("batch", "--jobs", "2", stdin=stdin)
    assert (code, out, err) == (usual.code, usual.out, usual.err)
    *before, bad, twice, late, k, _, _ = map(json.loads, out.splitlines())
    assert [document["vjp"]["x"]["value"] for document in before] == [0.0, 2.0, 4.0]
    assert bad["error"]["code"] == "bad_value"
    assert twice["outputs"]["y"]["value"] == [2.0 * k for k in range(100_000)]
    assert (late["id"], late["error"]["message"]) == ("endless", "it took longer than 3 s")
    assert k["vjp"]["x"]["value"] == 6.0


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the test looks into /proc for processes")


def worker_of(process):
    until(lambda: children(process), process)
    return children(process)[0]


def batch_of(tmp_path, *found):
    (tmp_path / "requests.jsonl").write_text(requests(*found))
    argv = [sys.executable, "-m", "jvpcli", "batch", tmp_path / "requests.jsonl"]
    return subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


@needs_proc
def test_a_worker_that_is_killed_costs_its_line(tmp_path):
    process = batch_of(tmp_path, {"id": "a", **ENDLESS}, {"id": "b", "expression": "x * 3", "inputs": {"x": 1}})
    os.kill(worker_of(process), signal.SIGKILL)
    out, err = process.communicate(timeout=100)
    killed, answered = map(json.loads, out.splitlines())
    assert (killed["id"], killed["error"]["code"]) == ("a", "limit")
    assert "killed from outside" in killed["error"]["message"]
    assert (answered["id"], answered["vjp"]["x"]["value"]) == ("b", 3.0)
    assert (process.returncode, err) == (8, b"1 of 2 lines failed\n")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_worker_leaves_with_its_parent(tmp_path, number):
    """Killed, or by Ctrl-C, which reaches both, once the first answer is there and the second is being worked on."""
    process = batch_of(tmp_path, {"id": "a", "expression": "x * 3", "inputs": {"x": 1}}, ENDLESS)
    assert json.loads(process.stdout.readline())["vjp"]["x"]["value"] == 3.0
    worker = worker_of(process)
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    assert ("interrupted" in err.decode()) is (number is signal.SIGINT)
    assert gone(worker)


BUSY = """
import os, time
def busy(x):
    os.write(int(os.environ["BEGUN"]), b".")
    time.sleep(1000)
    return x
"""


def test_ctrl_c_ends_a_computation(tmp_path):
    (tmp_path / "own.py").write_text(BUSY)
    argv = [sys.executable, "-m", "jvpcli", "inspect", "busy(x)", "--x", "1", "--import", tmp_path / "own.py"]
    process = begun(argv, ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, b"")
    assert b"interrupted" in err


# Pipes


@pytest.fixture(params=["poll", "threads"])
def ends(request, monkeypatch):
    """Both ways to wait for pipes."""
    if request.param == "threads":
        monkeypatch.delattr(select, "poll")
    elif not hasattr(select, "poll"):
        pytest.skip("there is no poll here")
    return pipes()


def test_what_is_written_is_read(ends):
    """Far more than a pipe holds, in pieces of any length, an empty one too."""
    reader, writer = os.pipe()
    ends.unblock(writer)
    content = np.random.default_rng(0).bytes(1_000_000)
    cuts = [0, 0, 1, 70_000, 70_001, 500_000, len(content)]
    waiting = [memoryview(content[a:b]) for a, b in pairwise(cuts)]
    got = bytearray()
    while len(got) < len(content):
        ready = ends.wait([reader], [writer] if waiting else [], 10_000)
        assert ready
        if reader in ready:
            got += ends.read(reader)
        if writer in ready:
            sent = ends.write(writer, waiting)
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if sent:
                waiting[0] = waiting[0][sent:]
    assert got == content
    ends.close(writer)
    assert ends.wait([reader], [], 10_000) == [reader]
    assert ends.read(reader) == b""
    assert ends.wait([reader], [], 10_000) == [reader]  # and again: an end stays one
    ends.close(reader)


def test_nothing_is_ready_before_it_is_there(ends):
    reader, writer = os.pipe()
    assert ends.wait([reader], [], 20) == []
    threading.Timer(0.05, os.write, (writer, b"ab")).start()
    assert ends.wait([reader], [], 10_000) == [reader]
    assert ends.read(reader) == b"ab"
    os.close(writer)


def test_a_reader_that_is_gone_is_told(ends):
    reader, writer = os.pipe()
    ends.unblock(writer)
    os.close(reader)

    def write_on():
        for _ in range(3):  # a thread notices it in writing
            assert ends.wait([], [writer], 10_000) == [writer]
            ends.write(writer, [memoryview(b"a")])

    with pytest.raises(BrokenPipeError):
        write_on()
    ends.close(writer)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (-signal.SIGSEGV, "the process that computed `f(x)` was ended by SIGSEGV"),
        (-100, "the process that computed `f(x)` was ended by signal 100"),
        (-signal.SIGKILL, "the process that computed `f(x)` was killed from outside (SIGKILL)"),
        (0, "the process that computed `f(x)` ended by itself"),
        (3, "the process that computed `f(x)` ended by itself"),
    ],
)
def test_how_a_process_ended(code, told):
    assert re.match(re.escape(told) + r"($|: )", why_ended(code, "f(x)").message)
