"""`jvp batch`: one answer a line, in order, whatever happens to a line."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from documents import assert_valid

from processes import begun, children, gone, until

JVP = Path(sys.executable).parent / "jvp"

OUTER = {"expression": "torch.outer(x,x)", "inputs": {"x": [1, 2, 3, 4]}}
SLOW = {
    "expression": "sum([torch.linalg.svd(x)[1].sum() for i in range(100000)])",
    "inputs": {"x": "torch.randn(60,60)"},
}


def lines(*requests):
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)


def answers(outcome):
    found = [json.loads(line) for line in outcome.out.splitlines()]
    for document in found:
        assert_valid(document)
    return found


@pytest.fixture(scope="module")
def batch():
    """Runs the installed `jvp batch`."""

    def call(stdin, *options, code=0):
        done = subprocess.run([JVP, "batch", *options], input=stdin, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


def standalone(jvp, *argv):
    return json.loads(jvp(*argv, "--json").out)


def without_text_of_lists(document):
    """A list given in JSON is told as `a list` where the command line repeats the text."""
    for weight in (document.get("grad_outputs") or {}).values():
        weight.pop("source")
    return document


def test_a_line_is_what_the_command_prints(jvp, batch):
    requests = [
        {"id": "é", **OUTER},
        {"id": [1, {"a": None}], **OUTER, "grad_outputs": "onehot:1,2", "tangent": "ones", "dtype": "float64"},
        {"id": 10**25, "expression": "x*w", "inputs": {"x": "1,2", "w": "torch.randn(2)"}, "wrt": "w", "seed": 3},
        {"id": None, **OUTER, "command": "trace"},
        {"expression": "x+w", "inputs": {"x": [1, 2], "w": [1, 2, 3]}},
        {"id": 0, "expression": "torch.sinn(x)", "inputs": {"x": 1}},
        {"id": 1, **OUTER, "grad_outputs": [1, 1, 1, 1]},
        {"id": 2, "expression": "(x.sum(), x*2)", "inputs": {"x": [1, 2]}, "grad_outputs": {"y1": [1, 10], "y0": "none"}},
        {"id": 3, "expression": "x*2", "inputs": {"x": {"value": ["NaN", 1], "dtype": "float64"}}},
    ]  # fmt: skip
    alone = [
        ["inspect", "torch.outer(x,x)", "--x", "[1,2,3,4]"],
        ["inspect", "torch.outer(x,x)", "--x", "1,2,3,4", "-g", "onehot:1,2", "-t", "ones", "--dtype", "float64"],
        ["inspect", "x*w", "--x", "1,2", "--w", "torch.randn(2)", "--wrt", "w", "--seed", "3"],
        ["trace", "torch.outer(x,x)", "--x", "1,2,3,4"],
        ["inspect", "x+w", "--x", "1,2", "--w", "1,2,3"],
        ["inspect", "torch.sinn(x)", "--x", "1"],
        ["inspect", "torch.outer(x,x)", "--x", "1,2,3,4", "-g", "1,1,1,1"],
        ["inspect", "(x.sum(), x*2)", "--x", "1,2", "-g", "y1=1,10", "-g", "y0=none"],
        ["inspect", "x*2", "--x", '{"value": ["NaN", 1], "dtype": "float64"}'],
    ]
    for request, argv, found in zip(requests, alone, batch(lines(*requests), code=8), strict=True):
        assert_valid(found)
        assert ("id" in found) == ("id" in request)
        assert found.pop("id", None) == request.get("id")
        expected = standalone(jvp, *argv)
        if not found["ok"]:  # a hint is a command line, which JSON's numbers are not part of
            found["error"].pop("hints"), expected["error"].pop("hints")
        assert without_text_of_lists(found) == without_text_of_lists(expected)


BAD = {
    "nonsense": "bad_value",
    "[1]": "bad_value",
    '{"expression": "x", "inputs": {"x": NaN}}': "bad_value",
    '{"expression": "\\ud800"}': "bad_value",
    "[" * 100_000: "bad_value",
    '{"id": 1e400, "expression": "x", "inputs": {"x": 1}}': "bad_value",
    '{"expression": "x", "inputs": {"x": 1e400}}': "bad_value",
    '{"expression": "x", "inputs": {"x": [[1, 2], [3, -1.5e999]]}}': "bad_value",
    '{"expression": "x", "inputs": {"x": {"value": [1e400]}}}': "bad_value",
    '{"expression": "x", "inputs": {"x": "[1e400]"}}': "bad_value",
    '{"expression": "x", "inputs": {"x": [1, 2]}, "grad_outputs": [1, 1e400]}': "bad_value",
    '{"expression": "x", "inputs": {"x": 1}, "tangent": {"x": 1e400}}': "bad_value",
    '{"expression": "x", "inputs": {"x": 1}, "timeout": 1e400}': "usage",
    '{"expression": "x\\u00e9", "inputs": {"xé": 1e400}}': "bad_value",
    "a\0b": "bad_value",
    '{"expression": "x\\u0000", "inputs": {"x": 1}}': "syntax",
    "null": "bad_value",
    '{"expression": 3}': "usage",
    "{}": "usage",
    '{"expression": "x", "input": {"x": 1}}': "usage",
    '{"expression": "x", "inputs": [1]}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "seed": "0"}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "seed": 1180591620717411303424}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "memory_limit": "1e400"}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "command": "batch"}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "wrt": 1}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "mode": "sideways"}': "usage",
    '{"expression": "x", "inputs": {"x": 1}, "timeout": -1}': "usage",
    '{"expression": "x", "inputs": {"x": "-"}}': "bad_value",
    '{"expression": "x", "inputs": {"x": null}}': "bad_value",
    '{"expression": "x.__class__", "inputs": {"x": 1}}': "forbidden",
    '{"expression": "x.detach()", "inputs": {"x": 1}}': "not_differentiable",
    '{"expression": "x.repeat(10**13)", "inputs": {"x": 1}}': "limit",
    '{"expression": "x.repeat(10**7)", "inputs": {"x": 1}, "memory_limit": "10MB"}': "limit",
}


def test_a_bad_line_gets_its_error_and_the_rest_go_on(batch):
    found = batch(lines(*(part for bad in BAD for part in (bad, {"id": bad[:9], **OUTER}))), code=8)
    assert len(found) == 2 * len(BAD)
    for (bad, code), failure, good in zip(BAD.items(), found[::2], found[1::2], strict=True):
        assert_valid(failure)
        assert (failure["ok"], failure["error"]["code"]) == (False, code), bad[:80]
        assert (good["ok"], good["id"]) == (True, bad[:9])


def test_a_stuck_line_ends_and_the_rest_go_on(batch):
    quick = OUTER | {"timeout": 60}  # however busy the machine
    requests = [
        {"id": 0, **quick},
        {"id": 1, **SLOW},
        {"id": 2, **quick},
        {"id": 3, **SLOW, "timeout": 0.2},
        {"id": 4, **quick},
    ]
    for jobs in ("1", "2"):
        found = batch(lines(*requests), "--timeout", "1", "--jobs", jobs, code=8)
        assert [document["id"] for document in found] == [0, 1, 2, 3, 4]
        assert [document["ok"] for document in found] == [True, False, True, False, True]
        assert [found[k]["error"]["message"] for k in (1, 3)] == [
            "it took longer than 1 s",
            "it took longer than 0.2 s",
        ]


def test_order_and_answers_do_not_depend_on_the_jobs(batch):
    sizes = [2, 40, 3, 60, 2, 2, 50, 1] * 6
    text = lines(*({"id": k, "expression": "torch.tanh(x @ x)", "inputs": {"x": f"torch.randn({n},{n})"}, "jacobian": "none"}
                   for k, n in enumerate(sizes)))  # fmt: skip
    one, two = batch(text), batch(text, "-j", "2")
    assert [document["id"] for document in one] == list(range(len(sizes)))
    assert [(d["id"], d["outputs"]["y"]["shape"]) for d in one] == [(d["id"], d["outputs"]["y"]["shape"]) for d in two]


def test_every_form_of_input(jvp, tmp_path):
    text = lines(OUTER, "", "   ", OUTER).rstrip("\n")  # blank lines are none, and the last one needs no end
    assert len(answers(jvp("batch", stdin=text))) == len(answers(jvp("batch", "-", stdin=text))) == 2
    (tmp_path / "r.jsonl").write_bytes(text.encode() + b"\r\n\xff\n")
    outcome = jvp("batch", str(tmp_path / "r.jsonl"))
    assert [document["ok"] for document in answers(outcome)] == [True, True, False]
    assert (outcome.code, outcome.err) == (8, "1 of 3 lines failed\n")
    assert jvp("batch", stdin="").out == ""
    assert (
        jvp("batch", "missing.jsonl").code == jvp("batch", "--jobs", "0").code == jvp("batch", str(tmp_path)).code == 2
    )


def test_lines_of_other_editors_are_read(jvp, tmp_path):
    line = json.dumps(OUTER).encode()
    twice = b'{"id": 1, "id": 2, "expression": "x", "expression": "x*3", "inputs": {"x": 1, "x": 2}}'
    (tmp_path / "r.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + twice)  # a mark in front, Windows' ends
    first, second = answers(jvp("batch", str(tmp_path / "r.jsonl"), "--jobs", "5"))
    assert first["ok"]
    assert (second["id"], second["vjp"]["x"]["value"], second["outputs"]["y"]["value"]) == (2, 3.0, 6.0)


def test_a_line_that_is_too_long_is_not_read(jvp, monkeypatch):
    monkeypatch.setattr("jvpcli.cli.stream.LONGEST_LINE", 1000)
    found = answers(jvp("batch", stdin=lines(OUTER, "x" * 200_000, {"id": 1, **OUTER})))
    assert [document["ok"] for document in found] == [True, False, True]
    assert found[1]["error"]["code"] == "limit"


def test_each_answer_comes_before_the_next_question():
    with subprocess.Popen([JVP, "batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(5):
            process.stdin.write(lines({"id": number, **OUTER}))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait(100) == 0


MEMORY = """
import json, subprocess, sys
from pathlib import Path
jvp, count = sys.argv[1], int(sys.argv[2])
process = subprocess.Popen([jvp, "batch", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
def used():
    pids = [process.pid, *Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(t.split("VmRSS:")[1].split()[0]) for t in texts)
def feed():
    for k in range(count):
        bad = k % 100 == 37
        process.stdin.write("nonsense\\n" if bad else '{"id": %d, "expression": "x*2", "inputs": {"x": 3}}\\n' % k)
    process.stdin.close()
import threading
threading.Thread(target=feed).start()
early = failed = 0
for number, line in enumerate(process.stdout):
    document = json.loads(line)
    failed += not document["ok"]
    assert document["ok"] == (number % 100 != 37) and document.get("id", number) == number
    if number == 1000:
        early = used()
    if number == count - 100:
        late = used()
print(json.dumps([number + 1, failed, early, late, process.wait()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory from")
def test_thousands_of_lines_at_constant_memory(shell):
    outcome = shell(f"python - {JVP} 4000", stdin=MEMORY, timeout=400)
    count, failed, early, late, code = json.loads(outcome.out)
    assert (count, failed, code) == (4000, 40, 8)
    assert late < early + 3000  # kB: less than one a line (it takes 12 in all, for 10,000 lines too)


@pytest.mark.parametrize("to_file", [True, False])
def test_killed_in_the_middle_leaves_whole_lines(tmp_path, to_file):
    many = tmp_path / "many.jsonl"
    many.write_text(lines(*({"id": k, **OUTER} for k in range(5000))))
    with open(tmp_path / "out", "wb") as out:
        process = subprocess.Popen([JVP, "batch", many], stdout=out if to_file else subprocess.PIPE)
        if to_file:
            until(lambda: os.fstat(out.fileno()).st_size >= 200_000, process)
        else:
            head = process.stdout.read(200_000)
        workers = children(process)
        process.kill()
        text = (tmp_path / "out").read_bytes() if to_file else head + process.stdout.read()
        process.wait()
    text = text or (tmp_path / "out").read_bytes()
    assert text.endswith(b"\n")
    found = [json.loads(line)["id"] for line in text.splitlines()]
    assert found == list(range(len(found)))
    assert 0 < len(found) < 5000
    assert workers
    assert all(gone(worker) for worker in workers)  # they leave with their parent


def full(pipe):
    """Whether nothing more comes into a pipe that nobody reads."""
    before = waiting(pipe)
    time.sleep(0.2)
    return 0 < before == waiting(pipe)


def waiting(pipe):
    """Bytes in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be asked on Linux alone")
@pytest.mark.parametrize("entries", [30, 120])  # lines of 20 and 200 kB: more than a pipe takes at once
def test_killed_before_a_reader_who_does_not_read_leaves_whole_lines(tmp_path, entries):
    many = tmp_path / "many.jsonl"
    many.write_text(lines(*({"id": k, "expression": "torch.outer(x,x)[0:9]", "inputs": {"x": f"torch.randn({entries})"}}
                            for k in range(40))))  # fmt: skip
    process = subprocess.Popen([JVP, "batch", many], stdout=subprocess.PIPE)
    until(lambda: full(process.stdout), process)
    process.kill()
    rest = process.stdout.read()
    process.wait()
    assert rest.endswith(b"\n")
    assert 0 < len(rest.splitlines()) < 39
    assert all(json.loads(line)["ok"] for line in rest.splitlines())


def test_ctrl_c_and_a_reader_that_leaves(tmp_path, shell):
    many = tmp_path / "many.jsonl"
    many.write_text(lines(*({"id": k, **OUTER} for k in range(5000))))
    process = subprocess.Popen(
        [JVP, "batch", many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    rest, told = process.stdout.read(), process.stderr.read()
    assert process.wait(100) == 130
    assert b"interrupted" in told
    assert all(json.loads(line)["ok"] for line in (first + rest).splitlines())
    closed = shell(f"jvp batch {many} | head -1 | jq .id")
    assert (closed.code, closed.out, closed.err) == (0, "0\n", "")


TELLING = """
import os, sys
from jvpcli.cli import answers
inner = answers.report_of
def telling(request):
    if request.seed == 1:
        os.write(int(os.environ["BEGUN"]), b".")
    return inner(request)
answers.report_of = telling
from jvpcli.__main__ import main
sys.argv = ["jvp", "batch", "-q", sys.argv[1]]
main()
"""


def test_a_worker_that_dies_costs_one_line(tmp_path):
    many = tmp_path / "many.jsonl"
    many.write_text(lines({"id": 0, **OUTER}, {"id": 1, **SLOW, "seed": 1}, {"id": 2, **OUTER}))
    with begun([sys.executable, "-c", TELLING, many], stdout=subprocess.PIPE, text=True) as process:
        (worker,) = children(process)
        os.kill(worker, signal.SIGSEGV)
        first, died, fine = (json.loads(line) for line in process.stdout)
        assert (first["id"], first["ok"]) == (0, True)
        assert (died["id"], died["error"]["code"]) == (1, "internal")
        assert "SIGSEGV" in died["error"]["message"]
        assert (fine["id"], fine["ok"]) == (2, True)
        assert process.wait(100) == 8


def test_threads_are_divided():
    code = (
        "import torch; from jvpcli.cli import stream; from jvpcli.system.pipes import pipes\n"
        "print(*(stream._crew(pipes(), jobs, None, None).settings.threads for jobs in (1, 2, 100)), torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    one, two, hundred, threads = map(int, done.stdout.split())
    assert (one, two, hundred) == (threads, max(1, threads // 2), 1)


PEAK = """
import json, subprocess, sys, threading
from pathlib import Path
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
text = process.stdout.read(1 << 20)  # it has begun to write; the rest waits for this slow reader
def peak():
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) if "VmHWM:" in text else 0  # none once it has ended
first = peak()
ids, size = [], 0
while text:
    *ended, rest = text.split(b"\\n")
    for line in ended:
        ids.append(json.loads(line)["id"] if len(line) < 10_000 else int(line[6 : line.index(b",")]))
        size = max(size, len(line))
    last = max(first, peak())
    more = process.stdout.read(1 << 22)
    text = rest + more if more else b""
print(json.dumps([ids, size, last, process.wait()]))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory from")


@needs_proc
def test_long_answers_and_long_lines_are_not_held(tmp_path, shell):
    small = tmp_path / "small.jsonl"
    small.write_text(lines(*({"id": k, **OUTER} for k in range(3000))))  # more than is read at first
    long = tmp_path / "long.jsonl"
    answer = {"expression": "x*1.5", "inputs": {"x": "torch.rand(700000)"}, "jacobian": "none"}
    line = {"expression": "x.sum()", "inputs": {"x": [0.5] * 4_000_000}, "jacobian": "none", "timeout": 100}
    requests = [{"id": k, **(SLOW | {"timeout": 5, "jacobian": "none"} if k == 0 else answer)} for k in range(8)]
    long.write_text(lines(*requests, {"id": 8, **line}))
    peaks = []
    for name, code in ((small, 0), (long, 8)):
        outcome = shell(f"python - {JVP} batch -q {name} --jobs 2", stdin=PEAK, timeout=200)
        ids, size, peak, ended = json.loads(outcome.out)
        assert (ids, ended) == (list(range(len(ids))), code)
        peaks.append(peak)
    assert len(ids) == 9
    assert size > 20_000_000
    assert peaks[1] < peaks[0] + 90_000  # kB; seven answers of 25 MB and a line of 20 MB went through


def test_what_cannot_be_kept_costs_its_line_alone(tmp_path, batch, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    long = {"expression": "x*1.5", "inputs": {"x": "torch.rand(200000)"}, "jacobian": "none"}
    text = lines({"id": "a", **long}, {"id": "b", **OUTER})
    assert [document["ok"] for document in batch(text)] == [True, True]
    assert not list(tmp_path.iterdir())
    code = (
        "import sys, tempfile; from jvpcli.__main__ import main\n"
        "def full(): raise OSError(28, 'No space left on device')\n"
        "tempfile.TemporaryFile = full; sys.argv = ['jvp', 'batch']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, timeout=100)
    lost, fine = map(json.loads, done.stdout.splitlines())
    assert (lost["id"], lost["error"]["code"], fine["id"], fine["ok"]) == ("a", "file", "b", True)
    assert "No space left" in lost["error"]["message"]


POISON = """
import os, signal, sys
from jvpcli.answers import inspect
inner = inspect.as_problem  # as lines that are answered alone and those beside others begin
def poisoned(request):
    if request.seed == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if request.seed == 2:
        os._exit(0)
    if request.seed == 3:
        raise ValueError("poison")
    return inner(request)
inspect.as_problem = poisoned
from jvpcli.__main__ import main
sys.argv = ["jvp", "batch", sys.argv[1], "--jobs", "3", "-q"]
main()
"""


def test_order_and_ids_are_kept_whatever_is_among_the_lines(tmp_path):
    count = 500
    many = tmp_path / "many.jsonl"
    kinds = {97: {"seed": 1}, 193: {"seed": 2}, 53: {"seed": 3}, 211: {"inputs": {"x": "torch.rand(90000)"}}}
    requests = []
    for k in range(count):
        extra = next((extra for every, extra in kinds.items() if k % every == every - 1), {})
        requests.append({"id": k, "expression": "x*2", "inputs": {"x": [1.0, k]}, "jacobian": "none", **extra})
    many.write_text(lines(*requests))
    done = subprocess.run([sys.executable, "-c", POISON, many], capture_output=True, text=True, timeout=250)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["id"] for document in found] == list(range(count)), done.stderr
    for request, document in zip(requests, found, strict=True):
        assert document["ok"] == ("seed" not in request), document
        if document["ok"] and "torch" not in str(request["inputs"]):
            assert document["outputs"]["y"]["value"] == [2.0, 2.0 * request["id"]]
