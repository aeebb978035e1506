"""The shell's commands while a `jvp serve` runs: the very same bytes as without one, and it is never trusted where it may not be.

`JVP_SERVED=200` sets how many command lines are compared.
"""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hostile_commands import command, write_files

from jvpcli.cli import client, resident
from jvpcli.system import local
from processes import begun, gone, until
from serving import PROGRAM, served

COUNT = int(os.environ.get("JVP_SERVED", "0"))

OUTER = ("torch.outer(x,x)", "--x", "1,2,3,4")
ENDLESS = ("sum([torch.linalg.svd(x)[1].sum() for i in range(100000)])", "--x", "torch.randn(60,60)", "--timeout", "100")

LINES = [
    (("inspect", *OUTER), b""),
    (("inspect", "torch.linalg.inv(x)", "--x", "-", "--json", "-g", "onehot:1,0"), b"[[1,2],[3,4]]"),
    (("trace", "y = torch.sqrt(x); y.mul(0).sum()", "--x", "@a.npy"), b""),
    (("inspect", "x.__class__", "--x", "@missing.npy", "--json"), b""),
    (("inspect", "y", "--x", "1", "--unknown"), b""),
    (("explain", "-"), b"element 0 of tensors does not require grad and does not have a grad_fn"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with served(tmp_path_factory.mktemp("runtime")) as one:
        yield one


@pytest.fixture
def folder(tmp_path):
    import numpy as np

    np.save(tmp_path / "a.npy", np.array([0.0, 1.0, 4.0]))
    return tmp_path


@pytest.mark.parametrize(("argv", "stdin"), LINES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_the_same_bytes(running, folder, argv, stdin):
    before = running.answered()
    answer = running.run(*argv, stdin=stdin, cwd=folder)
    assert running.answered() == before + 1
    assert answer == running.run(*argv, stdin=stdin, cwd=folder, JVP_SERVER="0")
    assert running.answered() == before + 1


@pytest.mark.skipif(not COUNT, reason="by hand: JVP_SERVED=200")
def test_hostile_command_lines(running, tmp_path):
    write_files(tmp_path)
    number, compared, different = 0, 0, []
    before = running.answered()
    while compared < COUNT:
        asked = command(Random(f"serve:{number}"), timeouts=False)
        number += 1
        if asked.words[0] not in client.ASKED:
            continue
        compared += 1
        settings = {"stdin": asked.stdin.encode("utf-8", "surrogatepass"), "cwd": tmp_path, **asked.environment}
        words = [word.encode("utf-8", "surrogatepass") for word in asked.words]
        if running.run(*words, **settings) != running.run(*words, **settings, JVP_SERVER="0"):
            different.append(str(asked))
    assert running.answered() - before >= 0.9 * COUNT  # all but those whose variables are read while Python loads
    assert not different, "\n".join(different)


def test_files_are_the_caller_s(running, folder):
    """In its folder, by relative names, with its umask; what was there is as without a server."""
    before = running.answered()
    for name, extra in (("one", ()), ("two", ("--no-server",))):
        (folder / name).mkdir()
        words = shlex.join([*PROGRAM, "inspect", *OUTER, "--save", "J.npy", "--html", "page.html", "--quiet", *extra])
        settings = {"check": True, "capture_output": True, "cwd": folder / name, "env": running.environ}
        subprocess.run(["sh", "-c", f"umask 027; exec {words}"], **settings)
    assert running.answered() == before + 1
    for file in ("J.npy", "page.html"):
        one, two = folder / "one" / file, folder / "two" / file
        assert one.read_bytes() == two.read_bytes()
        assert one.stat().st_mode & 0o777 == two.stat().st_mode & 0o777 == 0o640


def on_terminal(argv, environ, columns=60):
    """What a command prints on a terminal of that width."""
    import fcntl
    import struct
    import termios

    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    streams = {"stdin": child, "stdout": child, "stderr": child}
    process = subprocess.Popen([*PROGRAM, *argv], **streams, env={**environ, "TERM": "xterm-256color"})
    os.close(child)
    shown = b""
    try:
        while piece := os.read(main, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(main)
    return process.wait(), shown


def test_a_terminal_has_its_colours_and_its_width(running):
    """Of what is told before a line of progress could be."""
    before = running.answered()
    misspelt = ["inspect", "torch.outr(x, x) + torch.outer(x, x).sum()", "--x", "1"]
    for argv in (misspelt, ["explain", "element 0 of tensors does not require grad"]):
        plain = on_terminal(argv, {**running.environ, "JVP_SERVER": "0"})
        assert b"\x1b[" in plain[1]
        assert on_terminal(argv, running.environ) == plain
        assert on_terminal(argv, running.environ, columns=80) != plain
    assert running.answered() == before + 4


def test_variables_are_the_caller_s(running):
    argv = ("inspect", "torch.outer(x, x).sum() + missing", "--x", "1")
    narrow = running.run(*argv, COLUMNS="45")
    assert narrow == running.run(*argv, COLUMNS="45", JVP_SERVER="0")
    assert narrow != running.run(*argv)


@pytest.mark.parametrize(
    ("redirection", "argv"),
    [
        (">&-", ("inspect", *OUTER)), ("| head -c 10", ("ops", "--json")), ("<&-", ("ops", "softmax")),
        ("2>&-", ("ops", "softmacks")), ("> /dev/full", ("ops", "softmax")), (">&- 2>&- <&-", ("ops", "softmax")),
    ],
)  # fmt: skip
def test_streams_that_are_closed_or_full(running, redirection, argv):
    def code(*extra):
        words = shlex.join([*PROGRAM, *argv, *extra])
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{words} {redirection}"], capture_output=True, env=running.environ, timeout=100
        )
        return done.returncode, done.stdout, done.stderr

    assert code() == code("--no-server")


def test_ctrl_c_reaches_the_work(running):
    before = set(running.forks())
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*PROGRAM, "inspect", *ENDLESS], **streams, env=running.environ)
    until(lambda: set(running.forks()) - before, process)
    (fork,) = set(running.forks()) - before
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, b"")
    assert b"interrupted" in err
    assert gone(fork)


LATE = """
import os, signal, sys, time
from jvpcli.system.processes import fork, hear_interrupts, interrupts_held, stand_alone

def work():
    os.kill(os.getpid(), signal.SIGINT)
    stand_alone()
    hear_interrupts(True)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        time.sleep(20)
    except KeyboardInterrupt:
        return 130
    return 0

with interrupts_held():
    process = fork(work)
while (code := process.ended()) is None:
    time.sleep(0.01)
sys.exit(code)
"""


def test_ctrl_c_waits_until_a_fork_hears_it():
    assert subprocess.run([sys.executable, "-c", LATE]).returncode == 130


def test_who_is_killed_takes_the_work_along(running):
    before = set(running.forks())
    process = subprocess.Popen([*PROGRAM, "inspect", *ENDLESS], stdout=subprocess.DEVNULL, env=running.environ)
    until(lambda: set(running.forks()) - before, process)
    (fork,) = set(running.forks()) - before
    process.kill()
    process.wait()
    assert gone(fork)


def test_a_timeout_is_told_as_ever(running):
    argv = ("inspect", *ENDLESS[:-1], "0.5", "--json")
    code, out, err = running.run(*argv)
    assert (code, json.loads(out)["error"]["code"], err) == (7, "limit", b"")


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ("inspect x", True), ("inspect x --no-server", False), ("inspect x --debug", False), ("inspect x --import a.py", False),
        ("inspect x --import=a.py", False), ("inspect x --wrt -- --import a.py", False), ("explain -- --imports", True),
        ("inspect x --x @/dev/fd/3", False), ("inspect x --x=@/proc/self/fd/3", False), ("inspect x --save /dev/fd/4", False),
        ("inspect x --html /dev/null", True),
    ],
)  # fmt: skip
def test_what_is_never_asked(argv, asked):
    assert client.asks(argv.split(), {}) is asked
    assert not client.asks(argv.split(), {"JVP_SERVER": "0"})


def test_a_file_that_is_imported_runs_elsewhere(running, folder):
    (folder / "mine.py").write_text("import os\nos.mkdir(f'in {os.getsid(0)}')\n")
    before = running.answered()
    assert running.run("inspect", *OUTER, "--import", "mine.py", cwd=folder)[0] == 0
    assert running.answered() == before
    assert (folder / f"in {os.getsid(0)}").is_dir()  # in the session of the caller


@pytest.mark.parametrize(
    "environ", [{"JVP_SERVER": "0"}, {"OMP_NUM_THREADS": "7"}, {"PYTHONHASHSEED": "5"}, {"LC_ALL": "C"}], ids=str
)
def test_where_variables_switch_it_off(running, environ):
    before = running.answered()
    assert running.run("ops", "softmax", **environ)[0] == 0
    assert running.answered() == before


def test_another_limit_is_another_process(running):
    """What a process cannot take on later must be the same: here how many files it may open."""
    before = running.answered()
    words = shlex.join([*PROGRAM, "ops", "softmax"])
    done = subprocess.run(["bash", "-c", f"ulimit -n 100; exec {words}"], capture_output=True, env=running.environ, timeout=100)
    assert done.returncode == 0
    assert running.answered() == before


def test_a_second_one_is_refused(running):
    code, out, err = running.run("serve", "--port", "0")
    assert (code, out) == (2, b"")
    assert b"runs already" in err
    assert b"jvp serve --stop" in err


def test_a_port_that_is_taken(running, tmp_path):
    code, _, err = running.run("serve", "--port", str(running.port), XDG_RUNTIME_DIR=str(tmp_path))
    assert code == 2
    assert f"port {running.port} of 127.0.0.1 can't be had" in err.decode()


STOPPED = """
from jvpcli.cli import client, serve
from jvpcli.errors import LimitError
client.SECONDS = serve.SECONDS_TO_TELL = 0.01
print(client.ask(["ops", "softmax"]))
try:
    serve._asked("status")
except LimitError as error:
    print(error.message)
"""


def test_one_that_is_stopped_keeps_nobody_waiting(running):
    """It still listens.  It is given nothing: neither work that it would begin later, nor streams that it would keep open."""
    before = running.answered()
    running.process.send_signal(signal.SIGSTOP)
    try:
        done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, env=running.environ, timeout=100)
    finally:
        running.process.send_signal(signal.SIGCONT)
    refused, told = done.stdout.splitlines()
    assert refused == "None"
    assert told.startswith("the jvp serve at ")
    assert told.endswith(" doesn't answer")
    assert running.answered() == before


def test_ctrl_c_as_the_work_ends(monkeypatch):
    """The exit code is on its way already, and nobody hears the signal."""
    mine, other = socket.socketpair()
    whole = local.receive_whole

    def work():
        size = int.from_bytes(whole(other, client.LENGTH), "little")
        whole(other, size)
        other.sendall(client.ACCEPTED + (5).to_bytes(client.LENGTH, "little", signed=True))
        other.close()

    def receive_whole(connection, size):
        thread.join()
        signal.raise_signal(signal.SIGINT)
        return whole(connection, size)

    monkeypatch.setattr(local, "receive_whole", receive_whole)
    thread = threading.Thread(target=work)
    thread.start()
    with mine:
        assert client._answered(mine, ["ops"], []) == 5


def test_the_end_of_the_server_is_told_to_stderr_or_nobody():
    said = "from jvpcli.cli.client import _lost; print(_lost())"
    words = shlex.join([sys.executable, "-c", said])
    for redirection, err in (("", b"jvp serve was ended while it computed this. Run the command again.\n"), ("2>&-", b"")):
        done = subprocess.run(["sh", "-c", f"{words} {redirection}"], capture_output=True, timeout=100)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", err)


def test_killed_and_started_again(tmp_path):
    with served(tmp_path) as one:
        asking = ThreadPoolExecutor(1).submit(one.ask, "/api/inspect", {"expression": ENDLESS[0], "inputs": {"x": ENDLESS[2]}})
        # killed with work under way: the caller is told, and all is as before
        with subprocess.Popen([*PROGRAM, "inspect", *ENDLESS], stderr=subprocess.PIPE, env=one.environ) as process:
            until(lambda: one.answered() == 2, process)  # both are accepted
            forks = one.forks()
            one.process.kill()
            _, err = process.communicate(timeout=100)
        assert process.returncode == 1
        assert err == b"jvp serve was ended while it computed this. Run the command again.\n"
        assert all(map(gone, forks))
        with pytest.raises((ConnectionError, HTTPException)):  # nobody waits for ever
            asking.result(timeout=100)
        assert list((tmp_path / "jvp").iterdir())  # its socket, at which nobody listens
        assert one.run("ops", "softmax")[0] == 0
        code, _, err = one.run("serve", "--status")
        assert code == 2
        assert b"no jvp serve runs" in err
    with served(tmp_path) as other:
        assert other.run("ops", "softmax")[0] == 0
        assert other.answered() == 1
        # told to stop, with work under way: that goes on
        with subprocess.Popen([*PROGRAM, "inspect", *ENDLESS[:-1], "2"], stderr=subprocess.PIPE, env=other.environ) as process:
            until(lambda: len(other.forks()) > 1, process)
            assert other.run("serve", "--stop")[0] == 0
            _, err = process.communicate(timeout=100)
        assert process.returncode == 7
        assert b"it took longer than 2 s" in err
        assert other.process.wait(timeout=100) == 0
        assert not list((tmp_path / "jvp").iterdir())


LOADED = """
import sys
before = set(sys.modules)
from jvpcli.cli.client import ask
code = ask(["ops", "softmax", "--json"])
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def test_asking_loads_next_to_nothing(running):
    """Every module counts."""
    before = running.answered()
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=running.environ, timeout=100)
    code, *modules = done.stderr.split()
    assert (code, running.answered()) == ("0", before + 1)
    assert json.loads(done.stdout)["ok"]
    heavy = {"torch", "rich", "typer", "typing", "re", "json", "dataclasses", "inspect", "contextlib", "pathlib", "tempfile"}
    assert not {name.partition(".")[0] for name in modules} & heavy
    assert {name for name in modules if name.startswith("jvpcli")} == {
        "jvpcli", "jvpcli.cli", "jvpcli.cli.client", "jvpcli.system", "jvpcli.system.local", "jvpcli.version"
    }  # fmt: skip


# Who is trusted


def test_torch_installed_anew(tmp_path, monkeypatch):
    """What was loaded is no longer what a new process would load."""
    from types import SimpleNamespace

    file = tmp_path / "version.py"
    file.write_text("")
    monkeypatch.setitem(sys.modules, "torch.version", SimpleNamespace(__file__=str(file)))
    before = resident._loaded()
    assert resident._loaded() == before
    os.utime(file, ns=(1, 1))
    assert resident._loaded() != before
    file.unlink()
    assert resident._loaded() != before


def test_other_files_are_another_program(tmp_path, monkeypatch):
    """Where a file of the package has changed, or another version runs, another socket is looked for."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    package = Path(client.__file__).parents[1]
    copy = tmp_path / "jvpcli"
    shutil.copytree(package / "cli", copy / "cli")
    monkeypatch.setattr(client, "__file__", str(copy / "cli" / "client.py"))
    first = client.address()
    (copy / "cli" / ".#app.py").symlink_to("nowhere")  # as an editor locks a file
    assert client.address() == first
    os.utime(copy / "cli" / "app.py", ns=(1, time.time_ns() + 10**9))
    second = client.address()
    monkeypatch.setattr(client, "__version__", "0.0.1")
    third = client.address()
    monkeypatch.setattr(client.sys, "version", "another Python")
    assert len({first, second, third, client.address()}) == 4
    (copy / "cli" / "gone.py").symlink_to("nowhere")
    assert client.address() is None
    monkeypatch.setattr(client, "__file__", str(tmp_path / "archive.zip" / "jvpcli" / "cli" / "client.py"))
    assert client.address() is None


def test_two_are_not_made_at_once(tmp_path):
    import fcntl

    folder = os.open(tmp_path, os.O_RDONLY)
    with local.alone_in(str(tmp_path)), pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)


def test_a_folder_with_too_long_a_name(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run([*PROGRAM, "serve", "--port", "0"], capture_output=True, text=True, env=environ, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is too long for a socket's path" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_can_enter(tmp_path, mode):
    place = tmp_path / "jvp"
    place.mkdir(mode=0o700)
    with local.listen(str(place / "a.sock")):
        with pytest.raises(TimeoutError):  # it is called, and not awake
            local.call(str(place / "a.sock"), 0.01)
        place.chmod(mode)
        assert local.call(str(place / "a.sock"), 100) is None


def test_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert local.is_private(str(tmp_path / "real"))
    assert not local.is_private(str(tmp_path / "link"))


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_serving_in_a_folder_of_somebody_else(tmp_path, mode):
    folder = tmp_path / "jvp"
    folder.mkdir(mode=mode)
    if mode == 0o700:
        if os.geteuid():
            pytest.skip("only root can give a folder away")
        os.chown(folder, 65534, 65534)
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "serve", "--port", "0"], capture_output=True, text=True, env=environ, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert "that nobody else can enter; it is not" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_socket_of_another_user(tmp_path, monkeypatch):
    """As where somebody else listens in a folder that seems to be this user's."""
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:
        if Path(tempfile.gettempdir()) in above.parents:
            above.chmod(above.stat().st_mode | 0o011)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX)\n"
        "s.bind(sys.argv[1]); s.listen(); os.write(int(os.environ['BEGUN']), b'.'); s.accept(); s.accept()"
    )
    process = begun([sys.executable, "-c", code, tmp_path / "theirs.sock"])
    try:
        assert local.call(str(tmp_path / "theirs.sock"), 100) is None  # the folder
        monkeypatch.setattr(local, "is_private", lambda path: True)
        assert local.call(str(tmp_path / "theirs.sock"), 100) is None  # the process at the other end
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_who_calls(running):
    """Even if everybody could reach the socket, nobody else is answered."""
    (place,) = Path(running.environ["XDG_RUNTIME_DIR"], "jvp").iterdir()
    opened = [place, *list(place.parents)[:-1]]
    before = {path: path.stat().st_mode for path in opened}
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(bytes.fromhex(sys.argv[2])); print(s.recv(10))"
    )
    try:
        for path in opened:
            path.chmod(before[path] & 0o7777 | 0o077)
        asked = client.message("status").hex()
        done = subprocess.run([sys.executable, "-c", code, place, asked], capture_output=True, text=True, timeout=100)
    finally:
        for path in opened:
            path.chmod(before[path] & 0o7777)
    assert "status" not in done.stdout
    assert done.stdout == "b''\n" or "ConnectionResetError" in done.stderr or "BrokenPipeError" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff\xff", (3).to_bytes(4, "little") + b"{{{", (5).to_bytes(4, "little") + b"[1,2]",
        b"GET / HTTP/1.1\r\n\r\n", (4).to_bytes(4, "little") + b"\xff\xfe\x00\x01", client.message("nothing"),
        client.message("command"), (20_000).to_bytes(4, "little") + b"(" * 20_000,
    ],
)  # fmt: skip
def test_nonsense_is_no_work(running, content):
    (place,) = Path(running.environ["XDG_RUNTIME_DIR"], "jvp").iterdir()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(100)
        connection.connect(str(place))
        assert connection.recv(1) == local.GREETING
        connection.sendall(content)
        assert connection.recv(1) in (b"", b"-")
    running.answered()
