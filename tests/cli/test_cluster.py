"""`--cluster`: the same answers and the same bytes as without, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("distributed")
pytest.importorskip("zarr")

import jvpcli
from processes import PATIENCE, children, gone, until

ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}

OUTER = {"expression": "torch.outer(x,x)", "inputs": {"x": [1, 2, 3, 4]}}
LINES = [
    json.dumps(OUTER),
    "nonsense",
    json.dumps({"expression": "x.sum()", "inputs": {"x": "torch.randn(3)"}, "tangent": "ones"}),
    json.dumps({"expression": "x.repeat(10**7)", "inputs": {"x": 1}, "memory_limit": "10MB"}),
    json.dumps({**OUTER, "command": "check"}),
    json.dumps({"expression": "torch.sinn(x)", "inputs": {"x": 1}}),
    json.dumps({**OUTER, "grad_outputs": [1, 2]}),
]
STUCK = {"expression": "[torch.linalg.svdvals(x + k) for k in range(10**5)][-1]", "inputs": {"x": "torch.eye(300)"}}


class Cluster:
    """A scheduler and two workers, each a process of its own; `with` starts them, and ends what is left of them."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def __enter__(self):
        self.scheduler, self.workers = self.start_scheduler(), self.start_workers()
        return self

    def __exit__(self, *_):
        for process in (self.workers, self.scheduler):
            process.terminate()
            process.wait(PATIENCE)

    def start_scheduler(self):
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        return self._start("distributed.cli.dask_scheduler", *options)

    def start_workers(self):
        options = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder)]
        return self._start("distributed.cli.dask_worker", self.address, *options)

    def _start(self, module, *options):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-m", module, *options], env=ENVIRON, **quiet)

    def restart(self):
        """Another scheduler at the same address, and other workers: those of a scheduler that is gone leave."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = self.start_scheduler()
        self.workers.terminate()
        self.workers.wait(PATIENCE)
        self.workers = self.start_workers()

    def kill_a_worker(self):
        """SIGKILL; its nanny starts another."""
        client = self.client()
        with client:
            pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)

    def client(self):
        from distributed import Client

        return Client(self.address, timeout=PATIENCE, set_as_default=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


def jvp(*argv, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "jvpcli", *map(str, argv)]
    return subprocess.Popen(command, env=ENVIRON, start_new_session=True, **{**pipes, **options})


def outcome(process):
    out, err = process.communicate(timeout=4 * PATIENCE)
    return process.returncode, out, err.decode()


# Batches


def with_id(document, number):
    return b'{"id":%d,' % number + document[1:]


def test_lines_are_answered_in_order_as_without_whatever_dies(cluster, tmp_path):
    """The first ones as they come; then 2,500, some of which fail, are poison, or ask for other commands, while a worker is
    killed, and while the scheduler is started anew."""
    alone, answers = tmp_path / "alone.jsonl", tmp_path / "answers.jsonl"
    alone.write_text("\n".join(LINES))
    documents = outcome(jvp("batch", alone))[1].splitlines()
    chosen = [0, 0, *[number % 250 if number % 250 < len(LINES) else 0 for number in range(2500)]]
    texts = [LINES[k] if k == 1 else json.dumps({"id": number, **json.loads(LINES[k])}) for number, k in enumerate(chosen)]
    expected = [documents[k] if k == 1 else with_id(documents[k], number) for number, k in enumerate(chosen)]

    def answered():
        return answers.stat().st_size // len(expected[0])

    with answers.open("wb") as file:
        process = jvp("batch", "--cluster", cluster.address, stdin=subprocess.PIPE, stdout=file)
    for first, last in ((0, 1), (1, 2), (2, 1500)):
        process.stdin.write("".join(f"{text}\n" for text in texts[first:last]).encode())
        process.stdin.flush()
        until(lambda last=last: answered() >= min(last, 200), process)
    cluster.kill_a_worker()
    until(lambda: answered() >= 600, process)
    process.stdin.write("\n".join(texts[1500:]).encode())  # returns once all but what a pipe holds is read
    cluster.restart()
    process.stdin.close()
    failed = sum(k in (1, 3, 5, 6) for k in chosen)
    assert (process.wait(4 * PATIENCE), process.stderr.read().decode()) == (8, f"{failed} of {len(texts)} lines failed\n")
    found = answers.read_bytes().splitlines()
    assert len(found) == len(expected)
    assert [place for place, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]] == []


def test_a_line_that_takes_workers_down_gets_its_error_and_the_rest_go_on(cluster, tmp_path):
    source = tmp_path / "r.jsonl"
    source.write_text("\n".join(json.dumps({"id": k, **(STUCK if k == 1 else OUTER)}) for k in range(4)))
    process = jvp("batch", source, "--cluster", cluster.address)
    first = process.stdout.readline()  # all have gone out
    with cluster.client() as client:
        for _ in range(3):
            until(lambda: lines_under_way(client) == 1, process)
            (address,) = [worker for worker, keys in client.processing().items() if any(map(is_lines, keys))]
            pid = client.run(os.getpid, workers=[address])[address]
            os.kill(pid, signal.SIGKILL)
            until(lambda address=address: address not in client.scheduler_info(n_workers=-1)["workers"], process)
    code, out, err = outcome(process)
    documents = [json.loads(line) for line in (first + out).splitlines()]
    assert [document["id"] for document in documents] == [0, 1, 2, 3]
    assert [document["ok"] for document in documents] == [True, False, True, True]
    assert documents[1]["error"]["code"] == "limit"
    assert documents[1]["error"]["message"] == "the line took down 3 workers, one after the other"
    assert (code, err) == (8, "1 of 4 lines failed\n")


def is_lines(key):
    return str(key).startswith("jvp-lines")


def lines_under_way(client):
    return sum(is_lines(key) for keys in client.processing().values() for key in keys)


# Jacobians


LIMIT = 400_000
EXPRESSION = "(torch.tanh(A @ X.reshape(-1) / 100), X @ W)"
SHAPES = {"A": "45,5600", "X": "112,50", "W": "50,30"}
INPUTS = {name: f"torch.randn({shape}, dtype=torch.float64)" for name, shape in SHAPES.items()}


def files(path):
    """Every file of a store, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def written(path, output="y0"):
    """How many blocks of an output are recorded: a file each."""
    folder = path / "jacobian" / output / "X" / "nnz" / "c"
    return len(os.listdir(folder)) if folder.exists() else 0


def test_jacobians_are_the_same_whatever_dies(cluster, tmp_path):
    """A dense one, of which a worker is killed, and nonzeros, of which the scheduler is started anew and the client killed."""
    alone, path = tmp_path / "alone.zarr", tmp_path / "J.zarr"
    asked = ["--wrt", "X", "--memory-limit", f"{LIMIT}B", "--json"]
    given = [word for name, value in INPUTS.items() for word in (f"--{name}", value)]
    command = ["inspect", EXPRESSION, *given, *asked, "--save", path, "--cluster", cluster.address]
    client = jvp(*command)
    until(lambda: written(path) > 3, client)
    cluster.kill_a_worker()
    until(lambda: written(path, "y1") > 3, client)
    cluster.restart()
    before = written(path, "y1")
    until(lambda: written(path, "y1") > before + 5, client)
    computing = children(client)
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
    assert all(map(gone, computing))
    with pytest.raises(jvpcli.JvpError, match="is not complete"):
        jvpcli.open(path)
    code, out, err = outcome(jvp(*command, "--resume"))
    assert (code, err) == (0, "")
    found = json.loads(out)["saved"]
    assert 0 < found["computed"] < found["blocks"] - 45 - before
    document = jvpcli.inspect(EXPRESSION, INPUTS, wrt="X", save=alone, memory_limit=LIMIT).to_dict()
    assert files(path) == files(alone)
    assert set(tmp_path.iterdir()) == {alone, path}
    for saved in (found, document["saved"]):
        del saved["computed"], saved["path"]
    assert found == document["saved"]
    dense, nonzeros = (found["jacobian"][y]["X"] for y in ("y0", "y1"))
    assert (dense["format"], dense["nnz"], nonzeros["format"], nonzeros["nnz"]) == ("dense", 45 * 5600, "csr", 3360 * 50)
    assert min(8 * dense["nnz"], (8 + 4) * nonzeros["nnz"]) > 5 * LIMIT  # with the places of nonzeros


def test_a_function_goes_to_the_workers_with_its_tensors(cluster, tmp_path):
    import torch

    x, scale = torch.arange(5.0), torch.arange(1.0, 6.0)
    with cluster.client() as client:
        maps = jvpcli.jacobian(lambda x, n: torch.outer(x, x * scale) ** n, x, 2, save=tmp_path / "J.zarr", cluster=client)
    expected = torch.autograd.functional.jacobian(lambda x: torch.outer(x, x * scale) ** 2, x)
    torch.testing.assert_close(maps["y", "x"].to_dense(), expected)


def test_files_to_import_go_to_the_workers(tmp_path):
    """Here to two that are started for it."""
    import torch

    (tmp_path / "model.py").write_text("import torch\nscale = 3.0\ndef f(x):\n    return torch.sin(scale * x)\n")
    path, x = tmp_path / "J.zarr", torch.linspace(0, 1, 7)
    maps = jvpcli.jacobian("f(x)", x=x, imports=tmp_path / "model.py", save=path, cluster="local:2")
    torch.testing.assert_close(maps["y", "x"].to_dense(), torch.diag(3 * torch.cos(3 * x)))
    assert b"scale" not in b"".join(files(path).values())  # what a store holds is never run


def test_few_calls_are_shared_out_among_the_workers(cluster):
    """What they have in common lies with one of them at first."""
    from jvpcli.cluster import carry_out, width

    def where(shared, number):
        time.sleep(0.05)  # none is done before all have gone out
        return os.getpid()

    with cluster.client() as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        found = dict(carry_out(client, where, "in common", range(width(client)), "call"))
    assert (sorted(found), len(set(found.values()))) == (list(range(len(found))), 2)


# Refusals


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["batch", "--cluster", "local:two"], "--cluster local:N starts N workers here, as in local:2; not 'local:two'"),
        (["batch", "--cluster", "local:2", "--jobs", "2"], "--jobs is for processes here, and --cluster has workers"),
        (["inspect", "x*2", "--x", "1", "--cluster", "local:2"],
         "--cluster is for Jacobians that are written to a store, block by block"),
        (["inspect", "x*2", "--x", "1", "--save", "J.npz", "--resume"],
         "--resume is for Jacobians that are written to a store, block by block"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(argv, message, tmp_path):
    code, _, err = outcome(jvp(*argv, cwd=tmp_path, stdin=subprocess.DEVNULL))
    assert code == 2
    assert " ".join(message.split()) in " ".join(err.replace("│", " ").split())


def test_other_versions_are_named(cluster, monkeypatch):
    from jvpcli import cluster as module

    here = module.versions()
    monkeypatch.setattr(module, "__version__", "9.9")
    with cluster.client() as client, pytest.raises(jvpcli.JvpError) as raised, module.connected(client):
        pass
    assert f"has jvpcli {here['jvpcli']} (here 9.9)" in str(raised.value)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    from jvpcli import cluster as module

    monkeypatch.setattr(module, "PATIENCE", 1.0)
    absent = pytest.raises(jvpcli.JvpError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1")
    with absent, module.connected("tcp://127.0.0.1:1"):
        pass


def test_a_scheduler_that_goes_between_two_calls_is_waited_for(monkeypatch):
    """Dask's own calls end in odd errors then; those of what runs are its own."""
    from contextlib import nullcontext
    from types import SimpleNamespace

    from jvpcli import cluster as module

    def odd(*_, **__):
        raise AttributeError("'NoneType' object has no attribute 'identity'")

    gone = SimpleNamespace(status="closed", wait_for_workers=odd)
    there = SimpleNamespace(status="running", wait_for_workers=lambda *_, **__: None, run=lambda *_, **__: {})
    clients, ran = iter((gone, there, there)), []
    monkeypatch.setattr(module, "_client", lambda *_: nullcontext(next(clients)))
    module.until_done("tcp://scheduler", ran.append)
    assert ran == [there]
    with pytest.raises(AttributeError):
        module.until_done("tcp://scheduler", odd)


def test_a_file_that_is_no_scheduler_s_is_named(tmp_path):
    from jvpcli import cluster as module

    for text in ("{}", "[]", "nonsense", '{"address": 3}'):
        (tmp_path / "cluster.json").write_text(text)
        named = pytest.raises(jvpcli.JvpError, match=r"no Dask scheduler answers at .*cluster\.json")
        with named, module.connected(tmp_path / "cluster.json"):
            pass


def run_with(submit, folder, lines):
    """A batch with a client whose calls this function answers; what it writes goes to stdout."""
    from types import SimpleNamespace

    from jvpcli.cli.context import Context
    from jvpcli.cli.distribution import Distributed

    calls = {name: lambda *_, **__: None for name in ("register_plugin", "unregister_worker_plugin")}
    client = SimpleNamespace(status="running", nthreads=lambda: {"worker": 1}, submit=submit, **calls)
    (folder / "r.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with open(folder / "r.jsonl", "rb", buffering=0) as source:
        run = Distributed(Context.of_process(), source.fileno(), None, None)
        run._go_on(client)
    return run


def test_an_answer_that_is_lost_and_made_again_is_seen(tmp_path, capfdbinary):
    """Nobody is told a second time when a worker died that had it."""

    class Lost:
        looks = 0

        def add_done_callback(self, call):
            call(self)

        def done(self):
            self.looks += 1
            return self.looks > 1

        def result(self):
            return 0.0, [(False, b"{}")]

    assert run_with(lambda *_, **__: Lost(), tmp_path, ["a line"]).written == 1


def test_a_piece_has_as_many_lines_as_take_a_second(tmp_path, capfdbinary):
    """Here by what a clock is said to have shown: a 512th for each of the first lines, and then half a second."""
    pieces = []

    class Answered:
        def __init__(self, lines):
            self.lines = lines

        def add_done_callback(self, call):
            call(self)

        def done(self):
            return True

        def result(self):
            return sum(0.5 if line < b"2" else 1 / 512 for line in self.lines), [(False, line) for line in self.lines]

    def submit(work, desks, lines, **_):
        pieces.append(lines)
        return Answered(lines)

    lines = [f"{9 if number < 9000 else 1}.{number}" for number in range(10_000)]
    run_with(submit, tmp_path, lines)
    assert capfdbinary.readouterr().out.decode().split() == lines
    quick, slow = ([len(piece) for piece in pieces if piece[-1].startswith(first)] for first in (b"9", b"1"))
    assert (quick[0], max(quick)) == (64, 512)
    assert set(slow[12:]) <= {1, 2}  # those that were under way were cut before that was known
