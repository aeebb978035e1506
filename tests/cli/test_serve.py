"""What `jvp serve` answers by HTTP: the commands' own documents, and to nobody who may not ask, whatever is sent.

`JVP_LOAD=60` sets for how many seconds fifty clients ask at once.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import jsonschema
import pytest
from documents import assert_valid

from jvpcli.cli import http, serve
from jvpcli.render.html.playground import EXAMPLES
from processes import PATIENCE, gone, until
from serving import PROGRAM, served

LOAD = float(os.environ.get("JVP_LOAD", "2"))

OUTER = {"expression": "torch.outer(x,x)", "inputs": {"x": [1, 2, 3, 4]}}
ENDLESS = {"expression": "sum([torch.linalg.svd(x)[1].sum() for i in range(100000)])", "inputs": {"x": "torch.randn(60,60)"}}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with served(tmp_path_factory.mktemp("runtime"), "--jobs", "2") as one:
        yield one
        one.process.terminate()
        assert one.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("command", "question", "argv"),
    [
        ("inspect", OUTER, ["torch.outer(x,x)", "--x", "1,2,3,4"]),
        ("trace", OUTER, ["torch.outer(x,x)", "--x", "1,2,3,4"]),
        ("check", {"expression": "torch.relu(x)", "inputs": {"x": "-1,0,2"}}, ["torch.relu(x)", "--x=-1,0,2"]),
        ("hessian", {"expression": "(x**3).sum()", "inputs": {"x": "1,2"}, "tangent": "ones", "dtype": "float64"},
         ["(x**3).sum()", "--x", "1,2", "--tangent", "ones", "--dtype", "float64"]),
        ("derive", {"expression": "W @ x", "inputs": {"W": "1,2;3,4", "x": "1,2"}, "wrt": ["x"]},
         ["W @ x", "--W", "1,2;3,4", "--x", "1,2", "--wrt", "x"]),
        ("inspect", {"expression": "x @ y", "inputs": {"x": "1,2", "y": "1,2,3"}}, ["x @ y", "--x", "1,2", "--y", "1,2,3"]),
        ("inspect", {"expression": "().__class__"}, ["().__class__"]),
    ],
)  # fmt: skip
def test_the_document_that_the_command_prints(running, jvp, command, question, argv):
    status, headers, content = running.ask(f"/api/{command}", question)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(content) == json.loads(jvp(command, *argv, "--json").out)
    assert_valid(json.loads(content))


def test_an_id_comes_back_and_a_program_is_read(running):
    text = "x = torch.tensor([1., 2.], requires_grad=True)\n(x**2).sum().backward()"
    _, _, content = running.ask("/api/inspect", {"id": [7], "expression": text, "command": "trace"})
    document = json.loads(content)
    assert document["id"] == [7]
    assert document["vjp"]["x"]["value"] == [2.0, 4.0]
    assert "jacobian" in document  # the path names the command, whatever the body says


RUN = """class Odd:
    def __enter__(self): return 2.
    def __exit__(self, *e): pass
x = torch.tensor([1., 2.], requires_grad=True)
with Odd() as two: (two * x ** 2).sum().backward()
"""
"""A program that the language does not read: ∂L/∂x = 4 x."""


def test_no_question_has_a_program_run(running):
    for fields in ({}, {"as_python": True}, {"may_run": True}, {"pasted": {}}):
        _, _, content = running.ask("/api/inspect", {"expression": RUN, **fields})
        assert json.loads(content)["error"]["code"] in ("forbidden", "usage")


def test_programs_are_run_where_who_starts_it_says_so(jvp, tmp_path):
    """By the document that the command prints, a part of the page for each answer, and no file by an input."""
    (tmp_path / "x.json").write_text("[1, 2]")
    with served(tmp_path, "--jobs", "1", "--as-python") as one:
        _, _, content = one.ask("/api/inspect", {"expression": RUN})
        assert json.loads(content) == json.loads(jvp("inspect", "-", "--json", stdin=RUN).out)
        for command in ("inspect", "trace", "check", "hessian", "derive"):
            part = json.loads(one.ask(f"/page/{command}", {"expression": RUN})[2])
            assert part["ok"]
            assert "read as" not in part["html"]
        _, _, content = one.ask("/api/inspect", {"expression": RUN, "inputs": {"x": f"@{tmp_path}/x.json"}})
        assert json.loads(content)["error"]["code"] in ("file", "bad_value", "forbidden")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["title"])
def test_every_example_of_the_page_has_an_answer(running, example):
    question = {"expression": example["expression"], "inputs": example["inputs"]}
    question |= {name: example[key] for name, key in (("grad_outputs", "v"), ("tangent", "u"), ("wrt", "wrt")) if key in example}
    status, _, content = running.ask(f"/page/{example.get('command', 'inspect')}", question)
    document = json.loads(content)
    assert (status, document["ok"]) == (200, True)
    assert document["html"].count("<script>") == (example.get("command") != "check")


def test_a_failure_marks_the_guilty_part(running):
    _, _, content = running.ask("/page/inspect", {"expression": "1 + torch.outr(x, x)", "inputs": {"x": "1"}})
    document = json.loads(content)
    assert document["error"]["span"] == [4, 14]
    assert document["source"] == "1 + torch.outr(x, x)"
    assert "1 + <mark>torch.outr</mark>(x, x)" in document["html"]


def test_nothing_of_a_question_is_markup(running):
    hostile = "'</script><script>alert(1)</script><img src=x onerror=alert(1)>'"
    for expression in (hostile, f"x + {hostile}", f"x[{hostile}]"):
        _, _, content = running.ask("/page/inspect", {"expression": expression, "inputs": {"x": "1,2"}})
        html = json.loads(content)["html"]
        assert "<img" not in html
        assert "alert(1)</script>" not in html


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_example_with_curl(running):
    command = serve.EXAMPLES[serve.EXAMPLES.index("curl ") :].replace(":8765", f":{running.port}")
    environ = {**os.environ, "TOKEN": running.token}
    done = subprocess.run(["sh", "-c", command], capture_output=True, env=environ, timeout=PATIENCE)
    assert json.loads(done.stdout)["vjp"]["x"]["value"] == [20.0] * 4


def test_openapi_describes_the_requests_and_the_answers(running):
    status, _, content = running.ask("/openapi.json", method="GET", Authorization=None)
    description = json.loads(content)
    assert (status, description["openapi"]) == (200, "3.1.0")
    assert set(description["paths"]) == {f"/api/{name}" for name in ("inspect", "trace", "check", "hessian", "derive")}
    for path, item in description["paths"].items():
        asked = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(OUTER, asked)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**OUTER, "imports": ["mine.py"]}, asked)
        answered = item["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**answered, "components": description["components"]}
        for question in (OUTER, {"expression": "x +"}):
            jsonschema.Draft202012Validator(whole).validate(json.loads(running.ask(path, question)[2]))


def test_what_anybody_may_see_holds_no_secret(running):
    for path in ("/", "/health", "/openapi.json"):
        status, headers, content = running.ask(path, method="GET", Authorization=None)
        assert status == 200
        assert running.token.encode() not in content
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
    assert running.ask("/health", method="GET", Authorization=None)[2] == b'{"ok":true,"version":"0.1.0"}'


# Who may ask


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (421, {"Host": "evil.example"}), (421, {"Host": "127.0.0.1.evil.example:PORT"}), (421, {"Host": None}),
        (421, {"Host": "127.0.0.1"}), (421, {"Host": "127.0.0.1:1"}), (421, {"Host": "evil.example:PORT"}),  # DNS rebinding
        (403, {"Origin": "http://evil.example"}), (403, {"Origin": "null"}), (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Origin": "https://127.0.0.1:PORT"}), (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}),
        (401, {"Authorization": None}), (401, {"Authorization": "Bearer "}), (401, {"Authorization": "Bearer TOKE"}),
        (401, {"Authorization": "TOKEN"}), (401, {"Authorization": "Basic TOKEN"}), (401, {"Authorization": "Bearer TOKEN "}),
        (415, {"Content_Type": None}), (415, {"Content_Type": "text/plain"}), (415, {"Content_Type": "multipart/form-data"}),
        (200, {"Host": "localhost:PORT"}), (200, {"Host": "[::1]:PORT"}), (200, {"Origin": "http://127.0.0.1:PORT"}),
        (200, {"Sec_Fetch_Site": "same-origin", "Content_Type": "application/json; charset=utf-8"}),
    ],
    ids=str,
)  # fmt: skip
def test_who_may_ask(running, status, changes):
    stands_for = {"PORT": str(running.port), "TOKEN": running.token, "TOKE": running.token[:-1]}
    headers = {
        name: value and re.sub("PORT|TOKEN?", lambda found: stands_for[found[0]], value) for name, value in changes.items()
    }
    if changes == {"Authorization": "Bearer TOKEN "}:
        headers["Authorization"] += "x"
    found, answer_headers, content = running.ask("/api/inspect", OUTER, **headers)
    if changes == {"Host": None}:
        assert found in (400, 421)  # h11 itself refuses it
        return
    assert found == status
    assert "content-security-policy" in answer_headers
    assert json.loads(content)["ok"] is (status == 200)
    assert_valid(json.loads(content))


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (404, "/api/serve"), (404, "/api/run"), (404, "/api/batch"), (404, "/api/__init__"), (404, "/api/../api/inspect"),
        (404, "/api/%2e%2e/%2e%2e/etc/passwd"), (404, "/page/..%2f..%2fetc%2fpasswd"), (404, "/etc/passwd"),
        (404, "//etc/passwd"),
        (404, "/static/playground.js"), (404, "/api/inspect/x"), (404, "/api/"), (404, "/api/inspect%00"), (404, "/api/INSPECT"),
        (404, "/docs"), (405, "/health"), (405, "/"),
    ],
)  # fmt: skip
def test_nothing_else_is_there(running, status, path):
    found, _, content = running.ask(path, OUTER)
    assert found == status
    assert json.loads(content)["ok"] is False


def test_a_question_is_asked_with_post(running):
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert running.ask("/api/inspect", method=method)[0] == 405


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": {"x": "@FILE"}}, {"inputs": {"x": " @FILE"}}, {"inputs": {"x": {"value": "@FILE"}}},
        {"inputs": {"x": '{"value": "@FILE"}'}}, {"inputs": {"x": {"value": {"value": "@FILE"}, "dtype": "float64"}}},
        {"inputs": {"x": "1,2"}, "grad_outputs": "@FILE"}, {"inputs": {"x": "1,2"}, "grad_outputs": {"y": "@FILE"}},
        {"inputs": {"x": "1,2"}, "tangent": "@FILE"}, {"inputs": {"x": "-"}},
        {"inputs": {"x": "1,2"}, "imports": ["FILE"]}, {"inputs": {"x": "1,2"}, "save": "FILE"},
        {"inputs": {"x": "1,2"}, "html": "FILE"},
        {"inputs": {"x": "torch.load('FILE')"}}, {"inputs": {"x": "torch.from_file('FILE', size=2)"}},
        {"inputs": {"x": "1,2"}, "command": "run"}, {"expression": "open('FILE')"},
        {"expression": "x = torch.load('FILE')\ntorch.autograd.grad(x, x)"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("command", ["inspect", "hessian"])
def test_no_file_is_reached(running, tmp_path, command, fields):
    import numpy as np

    np.save(tmp_path / "a.npy", np.array([12345.0, 54321.0]))
    file = tmp_path / "a.npy"
    question = json.dumps({"expression": "(x * x).sum()", **fields}).replace("FILE", str(file))
    if fields.get("command"):  # which the path says
        question = question.replace('"run"', '"check"').replace("(x * x)", "(x / torch.zeros(0).item())")
    status, _, content = running.ask(f"/api/{command}", question.encode())
    assert (status, json.loads(content)["ok"]) == (200, False)
    assert b"12345" not in content
    assert [each.name for each in tmp_path.iterdir()] == ["a.npy"]


# What comes in is bounded


@contextmanager
def raw(running, content):
    """A connection on which that has been sent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        connection.sendall(content)
        yield connection


def head(running, **more):
    lines = {"Host": f"127.0.0.1:{running.port}", "Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    headers = {**lines, **{name.replace("_", "-"): value for name, value in more.items()}}
    return ("POST /api/inspect HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode()


def everything(connection):
    """What comes until the other end closes."""
    found = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


def test_a_body_that_says_it_is_too_long(running):
    with raw(running, head(running, Content_Length=str(10**12))) as connection:
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_pieces_that_never_end(running):
    with raw(running, head(running, Transfer_Encoding="chunked")) as connection:
        with suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /api/inspect HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"POST /api/inspect HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_http(running, content):
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        with suppress(ConnectionError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        assert everything(connection)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 421", b"HTTP/1.1 505")
    assert running.ask("/health", method="GET")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"\xff\xfe", b'{"expression": 1}', b'{"expression": "x", "a": 1}', b"[" * 100_000,
        b'{"expression": NaN}',
    ],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_question(running, body):
    status, _, content = running.ask("/api/inspect", body)
    document = json.loads(content)
    assert (status, document["ok"]) == (200, False)
    assert document["error"]["code"] in ("bad_value", "usage")


IMPATIENT = """
import socket, sys
from jvpcli.cli import http, serve
http.SECONDS_TO_ASK = http.SECONDS_TO_READ = 0.5
page = socket.create_server(("127.0.0.1", 0))
print(page.getsockname()[1], flush=True)
http.serve(page, http.Settings(sys.argv[1], "127.0.0.1", page.getsockname()[1], "secret", 2))
"""


@pytest.fixture(scope="module")
def impatient(running):
    """A page's process that waits for half a second where the others wait for many, before the same resident process."""
    (place,) = Path(running.environ["XDG_RUNTIME_DIR"], "jvp").iterdir()
    process = subprocess.Popen([sys.executable, "-c", IMPATIENT, place], stdout=subprocess.PIPE)
    port = int(process.stdout.readline())

    class Impatient:
        token = "secret"

    Impatient.port = port
    yield Impatient
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""), (b"POST /api/inspect HT", b""), (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a", b""),
        ("HEAD", b"HTTP/1.1 408 "),
    ],
)  # fmt: skip
def test_who_is_slow_to_ask_is_left(impatient, sent, answer):
    content = head(impatient, Content_Length="100") + b'{"expr' if sent == "HEAD" else sent
    with raw(impatient, content) as connection:
        assert everything(connection)[: len(answer) or None] == answer


def test_who_drips_is_left(impatient):
    """A byte now and then keeps nobody waiting for a head."""
    with raw(impatient, b"GET / HTTP/1.1\r\n") as connection:
        dripping = (connection.sendall(b"a") or time.sleep(0.01) for _ in range(2000))
        with pytest.raises(ConnectionError):
            all(each is None for each in dripping)


def test_who_does_not_read_is_left(impatient):
    """A long answer waits in the system's buffers, and a little in the process, but not for ever."""
    asked = {"expression": "torch.outer(x, x)", "inputs": {"x": "torch.arange(1200.)"}, "jacobian": "none"}
    question = json.dumps(asked).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", impatient.port))
        connection.sendall(head(impatient, Content_Length=str(len(question))) + question)
        first = connection.recv(20, socket.MSG_WAITALL)
        assert first.startswith(b"HTTP/1.1 200")
        time.sleep(1)
        size = len(everything(connection))
    assert size < 10_000_000  # of 14 MB


# The work is bounded, and who does it may die


def test_a_question_that_takes_too_long(running):
    _, _, content = running.ask("/api/inspect", {**ENDLESS, "timeout": 0.3, "id": 1})
    assert json.loads(content)["error"]["message"] == "it took longer than 0.3 s"
    assert json.loads(running.ask("/api/inspect", OUTER)[2])["ok"]


@pytest.mark.parametrize(
    "expression",
    [
        "torch.zeros(10**12)*x", "x.repeat(10**10)", "9**9**9**9*x", "[x for i in range(10**9)]",
        "torch.linalg.svd(torch.ones(9000,9000)*x[0]).S",
    ],
)  # fmt: skip
def test_a_question_that_takes_too_much(running, expression):
    _, _, content = running.ask("/api/inspect", {"expression": expression, "inputs": {"x": "1,2,3,4"}})
    assert json.loads(content)["error"]["code"] == "limit"


def test_a_helper_that_is_killed_takes_its_question_alone(running):
    before = set(running.forks())
    answers = []
    thread = threading.Thread(target=lambda: answers.append(running.ask("/api/inspect", ENDLESS)))
    thread.start()
    helper = busy(running, before)
    os.kill(helper, 9)
    thread.join()
    document = json.loads(answers[0][2])
    assert document["error"]["code"] == "limit"
    assert "was killed from outside (SIGKILL)" in document["error"]["message"]
    assert_valid(document)
    assert json.loads(running.ask("/api/inspect", OUTER)[2])["ok"]


def test_who_leaves_is_computed_for_no_longer(running):
    before = set(running.forks())
    question = json.dumps(ENDLESS).encode()
    with raw(running, head(running, Content_Length=str(len(question))) + question):
        helper = busy(running, before)
    assert gone(helper)


def busy(running, before):
    """The helper that computes: it has used the processor for a tenth of a second since."""

    def ticks(number):
        with suppress(OSError):
            return sum(map(int, Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return 0

    known = {number: ticks(number) for number in before}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for number in running.forks()[1:]:
            if ticks(number) > known.get(number, 5) + 10:
                return number
        time.sleep(0.05)
    raise AssertionError("nobody computes")


def test_more_than_can_wait_are_told_to_come_again(running):
    question = json.dumps({**ENDLESS, "timeout": 8}).encode()
    content = head(running, Content_Length=str(len(question))) + question
    connections = [socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) for _ in range(http.MOST_WAITING + 8)]
    try:
        for connection in connections:
            connection.sendall(content)
        refused = everything(select.select(connections, [], [], PATIENCE)[0][0])  # long before any is answered
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused.lower()
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["message"] == "too many questions wait"
    finally:
        for connection in connections:
            connection.close()
    assert json.loads(running.ask("/api/inspect", OUTER)[2])["ok"]


def test_many_at_once(running):
    """Right, wrong and hostile questions by many, helpers killed at random: each gets its own answer, or is told why not."""
    clients, ends = (50 if LOAD > 10 else 8), time.monotonic() + LOAD
    wrong, times, kinds = [], [], {"right": 0, "refused": 0, "killed": 0, "busy": 0}

    def ask(number):
        random = Random(number)
        while time.monotonic() < ends:
            value = random.randrange(1, 1000)
            choice = random.random()
            if choice < 0.7:
                question, wanted = {"id": value, "expression": "(x**2).sum()", "inputs": {"x": [value, 1]}}, [2.0 * value, 2.0]
            else:
                bad = ("x.__class__", "torch.zeros(10**12)*x", "x +", "open('/etc/passwd')", "x @ torch.ones(7)")
                question, wanted = {"id": value, "expression": random.choice(bad), "inputs": {"x": [1, 2]}}, None
            if choice > 0.98:
                with raw(running, head(running, Content_Length="50") + b'{"expre'):
                    continue
            begun = time.monotonic()
            status, _, content = running.ask("/api/inspect", question)
            times.append(time.monotonic() - begun)
            document = json.loads(content)
            if status == 503:
                kinds["busy"] += 1
            elif not document["ok"] and "SIGKILL" in document["error"]["message"]:
                kinds["killed"] += 1
            elif document.get("id") != value or document["ok"] is (wanted is None):
                wrong.append((question, document))
            elif wanted is not None:
                kinds["right"] += 1
                wrong.extend([(question, document)] if document["vjp"]["x"]["value"] != wanted else [])
            else:
                kinds["refused"] += 1

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, number) for number in range(clients)]
        random = Random(0)
        while time.monotonic() < ends:
            time.sleep(0.5)
            with suppress(ProcessLookupError, IndexError):
                os.kill(random.choice(running.forks()[1:]), 9)
        for each in asking:
            each.result()
    assert not wrong, wrong[:3]
    assert kinds["right"]
    assert kinds["refused"]
    if LOAD > 10:
        memory = [
            int(Path(f"/proc/{number}/status").read_text().partition("VmRSS:")[2].split()[0])
            for number in (running.process.pid, running.forks()[0])
        ]
        print(kinds, f"p50 {statistics.median(times):.3f} p95 {statistics.quantiles(times, n=20)[-1]:.3f} s, kB: {memory}")


def test_what_is_missing_is_named(jvp, monkeypatch):
    from jvpcli import render

    monkeypatch.setattr(render, "find_spec", lambda name: None if name == "uvicorn" else object())
    outcome = jvp("serve")
    assert outcome.code == 2
    assert "jvp serve needs uvicorn, which is not installed" in outcome.err
    assert "ip install 'jvpcli[serve]'" in outcome.err  # as a sentence


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--port", "70000"], "--port takes a number from 0 to 65535"), (["x"], "unexpected"),
        (["--host", "no.such.name.invalid"], "is no address of this machine"), (["--host", "a..b"], "is no address of this"),
        (["--status"], "no jvp serve runs"), (["--stop"], "no jvp serve runs"),
    ],
)  # fmt: skip
def test_what_serve_refuses(argv, said, tmp_path):
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "serve", *argv], capture_output=True, text=True, env=environ, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_the_page_is_opened_without_telling_the_token_and_its_end_ends_all(tmp_path, monkeypatch):
    """What is called a browser here writes its words down, and what the file has in it that it is to show."""
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\nprintf "%s\\n" "$*" > "$0.words"\ncat "${1#file://}" > "$0.part" && mv "$0.part" "$0.shown"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with served(tmp_path, "--open") as one:
        until(lambda: (tmp_path / "browser.shown").exists(), one.process)
        assert f'url={one.address}"' in (tmp_path / "browser.shown").read_text()
        assert one.token not in (tmp_path / "browser.words").read_text()
        assert (tmp_path / "jvp").stat().st_mode & 0o777 == 0o700
        os.kill(one.forks()[0], 9)
        assert one.process.wait(PATIENCE) == 7  # as of any process that was killed from outside
    assert not list((tmp_path / "jvp").iterdir())


@pytest.mark.parametrize(
    ("port", "name", "reached"),
    [(80, "127.0.0.1", True), (80, "[::1]", True), (80, "localhost", True), (80, "evil.example", False), (8, "[::1]", False),
     (8, "127.0.0.1", False), (8, "[::1]:8", True), (8, "::1:8", True)],
)  # fmt: skip
def test_the_port_that_need_not_be_named(port, name, reached):
    assert http.is_address(name, http.Settings("", "127.0.0.1", port, "", 1)) is reached


@pytest.mark.parametrize(
    ("host", "name", "reached"),
    [
        ("127.0.0.1", "127.0.0.1:8", True), ("127.0.0.1", "localhost:8", True), ("127.0.0.1", "evil.example:8", False),
        ("lab.example", "lab.example:8", True), ("lab.example", "LAB.example:8", True), ("lab.example", "evil.example:8", False),
        ("0.0.0.0", "192.168.1.7:8", True), ("0.0.0.0", "[fe80::1]:8", True), ("0.0.0.0", "192.168.1.7:9", False),
        ("0.0.0.0", "192.168.1.7.evil.example:8", False), ("0.0.0.0", "", False), ("0.0.0.0", ":8", False),
    ],
)  # fmt: skip
def test_by_which_names_it_is_reached(host, name, reached):
    assert http.is_address(name, http.Settings("", host, 8, "", 1)) is reached
