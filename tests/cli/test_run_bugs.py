"""`jvp run` on programs with a bug each: it names the guilty line and sub-expression, and the program ends as under Python."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import zipfile

import pytest
import torch
from seeded_bugs import BUGS, HEAD
from torch import nn

from jvpcli.recording.recorder import Recorder, path_of


def guilty(source):
    """The number of the marked line, and the text behind the mark."""
    number, line = next((n, line) for n, line in enumerate(source.splitlines(), 1) if "# <- " in line)
    return number, line.rpartition("# <- ")[2]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Writes a program to the current folder; gives its source."""
    monkeypatch.chdir(tmp_path)

    def write(body):
        (tmp_path / "program.py").write_text(HEAD + body)
        return HEAD + body

    return write


@pytest.mark.parametrize("what", BUGS)
def test_the_guilty_line_and_sub_expression_are_named(jvp, program, capsys, what):
    options, body = BUGS[what]
    source = program(body)
    number, text = guilty(source)
    outcome = jvp("run", *options, "program.py")
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", outcome.err + outcome.out).split())
    if options[:1] == ("--check",):
        assert f"`{text}` (program.py, line {number})" in told
    elif options == ("--watch",):
        assert f"program.py:{number}, `{text}`" in told
    else:
        first = re.search(r"program\.py:(\d+)(?:, in \w+)?(?:, module [\w.]+)?[:,] (`?)", told)
        assert first is not None, told
        assert int(first[1]) == number
        assert " ".join(text.split()) in told
    assert "Traceback" not in outcome.err  # which Python's own stderr has


@pytest.mark.parametrize("what", [w for w, (options, _) in BUGS.items() if not options and "last axis" not in w])
def test_the_message_and_the_exit_code_are_python_s(jvp, program, tmp_path, capsys, what):
    """The same text run by Python in this process raises the same; the frames shown are the program's and torch's."""
    source = program(BUGS[what][1])
    with pytest.raises(Exception) as raised:  # noqa: PT011
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
    code = jvp("run", "program.py").code
    shown = capsys.readouterr().err
    assert code == 1
    message = str(raised.value).strip().splitlines()[0]
    assert f"{type(raised.value).__name__}: {message}" in shown
    assert "jvpcli" not in shown
    assert shown.startswith(f"Traceback (most recent call last):\n  File \"{tmp_path / 'program.py'}\", line ")


def test_the_whole_of_an_explanation(jvp, program, capsys):
    program(BUGS["a prediction that is detached"][1])
    assert (
        jvp("run", "program.py").err
        == """
╭─ Evaluation ─────────────────────────────────────────────────────────────────────────────────────╮
│ There is no graph: the output doesn't depend on anything that requires grad                      │
│                                                                                                  │
│   prediction = net(x).detach()  # <- net(x).detach()                                             │
│                ^^^^^^^^^^^^^^^                                                                   │
│ program.py:10, in loss_of: net(x).detach()                                                       │
│ raised at program.py:13: loss_of(torch.randn(4, 3)).backward()                                   │
│   loss_of(torch.randn(4, 3))  shape (), float32, no gradient   program.py:11:                    │
│ prediction.square().mean()                                                                       │
│                                                                                                  │
│ loss_of(torch.randn(4, 3)) carries no gradient: the graph ends at program.py:10,                 │
│ `net(x).detach()`: what comes out counts as a constant.                                          │
│ The tensor that backward() (or grad) was called on has no grad_fn: as far as autograd knows it   │
│ is a constant, so there is nothing to differentiate. Somewhere between the input and here the    │
│ graph was cut, or never begun.                                                                   │
│                                                                                                  │
│ PyTorch's own words: element 0 of tensors does not require grad and does not have a grad_fn      │
╰──────────────────────────────────────────────────────────────────────────────────────────────────╯
Leave it out where the gradient should pass
"""
    )


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "layers in a plain list",
            ["deep._layers is a plain list: what it holds, 2 in all, is not registered, and deep has no other parameters.",
             "nn.ModuleList(…) around it where deep._layers is made"],
        ),
        (
            "an optimiser's step between forward and backward",
            ["Compute what depends on it anew after the change, or change it after the last backward pass that needs it"],
        ),
        (
            "a head on maps that are not flattened",
            ["Linear head was made for in_features=32 and gets 4, the size of axis 3 of its input.",
             "flatten(1) before it: axes 1 to 3 hold 32 features together; else in_features=4 where the Linear is made, or 32 "
             "features from the step before it"],
        ),
        (
            "a signal with its channels last",
            ["transpose(1, 2) before it, if axis 2 holds the 3 features; else in_channels=9 where the Conv1d is made, or 3 "
             "features from the step before it"],
        ),
        (
            "a checkpoint that is given data alone",
            ["What runs there is not recorded, and counts only where one of the tensors that it is given requires grad: none "
             "does.",
             "use_reentrant=False, which records what runs inside"],
        ),
        (
            "inner steps by the first weights",
            ["No step from w leads to loss. Of what requires grad, loss was computed from fast."],
        ),
        (
            "a loss class that is not called",
            ["nn.MSELoss(…) makes a module, it does not call one.",
             "nn.MSELoss()(net(x), wanted): make it, then call what was made"],
        ),
        (
            "more positions than the table has",
            ["input[4] is 4, and self.places.weight has the rows 0 to 3."],
        ),
        (
            "gradients unscaled twice",
            ["Once for each scaler.update(): a second time would divide them again."],
        ),
        (
            "parts of a state changed in place",
            ["One of several views that a function gave together, or a view of one, is changed in place"],
        ),
        (
            "a scale by the math module",
            ["`x * math.exp(self.log_scale)`, computes with a plain number, which has no graph. Numbers were taken out of a"],
        ),
        ("a module where a function is meant", ["nn.Softmax(dim=1)(self.head(x)): make it, then call what was made"]),
        ("a module that is not begun", ["super().__init__() as the first line of __init__"]),
        (
            "a critic on what the generator was trained with",
            ["The last of them is program.py:9, `make(torch.randn(5, 2))`. Since then a tensor that they use was changed at "
             "program.py:11, `optimizer.step()`.",
             ".detach() of what `make(torch.randn(5, 2))` gives, where a later pass goes on from it; or compute it anew."],
        ),
        ("heads that are joined again without a copy", ["heads.transpose(1, 2).reshape(2, 5, 12)"]),
        ("a forward that returns nothing", ["prediction is None."]),
        ("a function without a backward", ["Sign has no backward; it was applied at program.py:13"]),
        (
            "queries and keys whose batch comes first",
            ["MultiheadAttention was made for a batch at axis 1, as (length, batch, width): it gets 1 of queries and 5 of keys "
             "there.", "batch_first=True where it is made"],
        ),
        (
            "the outputs of a recurrent layer with its state",
            ["hidden is a tuple of 2, of which hidden[0] is a tensor of shape (2, 5, 4)."],
        ),
        ("points of a penalty that are constants", ["between.requires_grad_() there, before anything is computed from it"]),
        ("messages added up by a vector of indices", ["to[:, None].expand_as(message)", "x.index_add(0, to, message)"]),
        ("a time beside a batch of states", ["torch.cat([y, t.expand_as(y[..., :1])], -1)"]),
        (
            "a saved result changed in place",
            ["Make a new tensor there instead: y = y + 1, not y += 1; torch.where or torch.cat, not y[i] = …"],
        ),
    ],
)  # fmt: skip
def test_the_cause_and_the_cure_are_of_this_program(jvp, program, capsys, what, told):
    program(BUGS[what][1])
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", jvp("run", "program.py").err).split())
    assert [sentence for sentence in told if sentence not in words] == []


def test_an_error_that_ends_a_thread_is_explained_and_ends_nothing_else(jvp, program, monkeypatch, capsys):
    source = program(
        """
import threading
w = torch.ones(3, requires_grad=True)
def work(x):
    print(x @ w)
for x in (torch.ones(2), torch.zeros(3)):
    thread = threading.Thread(target=work, args=(x,))
    thread.start()
    thread.join()
"""
    )
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # which pytest has put its own in the place of
    outcome = jvp("run", "program.py")
    shown = capsys.readouterr()
    assert threading.excepthook is threading.__excepthook__
    assert (outcome.code, shown.out) == (0, "tensor(0., grad_fn=<DotBackward0>)\n")
    assert "in work\n" in shown.err
    assert "jvpcli" not in shown.err
    number = 1 + source.splitlines().index("    print(x @ w)")
    assert f"program.py:{number}, in work: x @ w" in outcome.err
    assert "  x  shape (2,), float32, no gradient" in outcome.err
    assert outcome.err.count("╭") == 1


def test_recorders_of_two_threads_leave_each_other_and_torch_as_they_are():
    """The first begins before the second and ends before it: each knows what its own thread has called, and no more."""
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    owners = ((nn.Module, "__call__"), (torch.autograd.Function, "apply"), (torch, "compile"), (torch.autograd, "backward"))
    before = [vars(owner)[name] for owner, name in owners]
    both, first_is_done = threading.Barrier(2), threading.Event()
    net, found = nn.Sequential(nn.Linear(2, 2)), {}

    def work(number):
        with Recorder() as recorder:
            both.wait(10)
            if number:
                assert first_is_done.wait(10)
            y = Twice.apply(net(torch.ones(1, 2)) * (number + 1)).sum()
            call, names = recorder.origin(y).call, []
            while call is not None:
                names.append((call.function.__name__, path_of(call.modules)))
                call = getattr(call.arguments[0], "call", None)
            found[number] = names
        first_is_done.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [("sum", ""), ("apply", ""), ("mul", ""), ("linear", "0"), ("ones", "")]
    assert found == {0: seen, 1: seen}
    assert [vars(owner)[name] for owner, name in owners] == before


def test_nothing_is_added_to_a_program_that_ends_well(tmp_path):
    """Streams and exit code are those of `python PROGRAM`, byte for byte."""
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + """
import atexit, sys
atexit.register(print, "left")
net = nn.Linear(2, 1)
optimizer = torch.optim.Adam(net.parameters())
for _ in range(3):
    optimizer.zero_grad()
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
print(__name__, __file__, sys.argv, [p.tolist() for p in net.parameters()])
print("on stderr", file=sys.stderr)
sys.exit(7)
"""
    )
    words = [str(path), "--json", "--help", "-g", "x y"]
    own = subprocess.run([sys.executable, *words], capture_output=True, timeout=120)
    ours = subprocess.run([sys.executable, "-m", "jvpcli", "run", *words], capture_output=True, timeout=120)
    assert (ours.returncode, ours.stdout, ours.stderr) == (own.returncode, own.stdout, own.stderr)
    assert own.returncode == 7


def test_tracebacks_are_python_s_in_groups_too_and_refused_switches_are_torch_s(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        """\
import sys, traceback, torch
from torch.nn.functional import cross_entropy
x = torch.ones(2, 3, requires_grad=True)
y = x * 2
errors = []
for fail in (
    lambda: torch.einsum("ij,jk->ik", x, x),
    lambda: cross_entropy(x, torch.ones(3).long()),
    lambda: torch.nn.Sequential(torch.nn.Linear(4, 2))(x),
    lambda: x.requires_grad_(wrong=1),
    lambda: setattr(y, "requires_grad", False),
):
    try:
        fail()
    except (RuntimeError, TypeError, ValueError) as error:
        errors.append(error)
if sys.version_info >= (3, 11):
    raise ExceptionGroup("several", errors)
raise errors[1]
"""
    )
    own, ours = (
        subprocess.run([sys.executable, *words, str(path)], capture_output=True, timeout=120)
        for words in ((), ("-m", "jvpcli", "run", "--quiet"))
    )
    assert own.stderr.startswith((b"  + Exception Group Traceback", b"Traceback"))
    assert ours.stderr == own.stderr


def test_ctrl_c_ends_a_program_as_it_ends_python(tmp_path):
    """By the signal, which ends a shell's loop around it, and not by a number."""
    path = tmp_path / "program.py"
    path.write_text('import atexit, os, signal\natexit.register(print, "left")\nos.kill(os.getpid(), signal.SIGINT)\n')
    own, ours = (
        subprocess.run([sys.executable, *words, str(path)], capture_output=True, timeout=120)
        for words in ((), ("-m", "jvpcli", "run"))
    )
    assert own.returncode == -signal.SIGINT
    assert (ours.returncode, ours.stdout, ours.stderr) == (own.returncode, own.stdout, own.stderr)


def test_what_looks_into_torch_itself_runs_as_ever(tmp_path):
    """Compiled functions and modules, transforms, checkpoints, workers, pickles, views under no_grad: the output is Python's."""
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + """
import copy, pickle
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

@torch.compile(backend="eager")
def compiled(x):
    return x.sin() * 2

if __name__ == "__main__":
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    fast = torch.compile(net, backend="eager")
    x = torch.randn(2, 3, requires_grad=True)
    (compiled(x) + fast(x)).sum().backward()
    print(compiled.__name__, fast._orig_mod is net, x.grad.tolist())
    print(torch.vmap(torch.func.grad(lambda a: (a**3).sum()))(torch.ones(2, 3)).tolist())
    print(torch.autograd.functional.hessian(lambda a: (a**3).sum(), torch.ones(2)).tolist())
    for (batch,) in DataLoader(TensorDataset(torch.ones(4, 3)), batch_size=2, num_workers=1):
        checkpoint(net, batch, use_reentrant=False).sum().backward()
        checkpoint(net, batch.requires_grad_(), use_reentrant=True).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(torch.ones(2, 3)).float().square().mean()
    loss.backward()
    print([p.grad.tolist() for p in net.parameters()], type(copy.deepcopy(net)).__name__)
    print(pickle.loads(pickle.dumps(loss.detach())).item(), sorted(net.state_dict()))
    with torch.inference_mode():
        print(torch.jit.trace(net, torch.ones(1, 3))(torch.ones(1, 3)).shape)
    (torch.eye(3).to_sparse() @ torch.ones(3, 2, requires_grad=True)).sum().backward()
    words = nn.Embedding(4, 3, padding_idx=1)
    with torch.no_grad():
        row = words.weight[2]
        row.fill_(0)  # from here on torch tells nothing of its graph
        row.add_(2).mul_(3)
        row[0] = 1
        print(row.tolist(), words.weight.tolist())
    words(torch.tensor([1, 2])).prod().backward()
    print(words.weight.grad.tolist())
    normed = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    print(sorted(copy.deepcopy(normed).state_dict()), copy.deepcopy([x.detach(), x.detach()])[1].tolist())

    class Keeping(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, kept):
            kept.append(x * 3)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    kept = []
    Keeping.apply(x, kept).sum().backward()
    print(kept, x.grad.tolist())
"""
    )
    own = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    ours = subprocess.run([sys.executable, "-m", "jvpcli", "run", str(path)], capture_output=True, text=True, timeout=300)
    assert own.returncode == 0, own.stderr
    assert (ours.returncode, ours.stdout) == (0, own.stdout), ours.stderr


SPEAKING = """
import sys, torch, helper
x: torch.Tensor = torch.ones(2, requires_grad=True)
helper.total(x).backward()
print(__name__, __file__, __package__, __doc__, type(__loader__).__name__, list(globals()))
print(sys.argv, sys.path[0], helper.__file__, sys.modules["__main__"].x is x)
x.detach().sum().backward()
"""


def as_folder(path):
    path.mkdir()
    (path / "__main__.py").write_text(SPEAKING)
    (path / "helper.py").write_text("def total(x):\n    return x.sum()\n")


def as_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", SPEAKING)
        archive.writestr("helper.py", "def total(x):\n    return x.sum()\n")


def as_file(path):
    as_folder(path.parent / "files")
    (path.parent / "files" / "__main__.py").rename(path)
    (path.parent / "files" / "helper.py").rename(path.parent / "helper.py")


@pytest.mark.parametrize(
    ("make", "name", "spoken"),
    [
        (as_file, "program.py", "./program.py"),
        (as_file, "prögram mé.py", "prögram mé.py"),
        (as_folder, "folder", "folder"),
        (as_archive, "program.zip", "program.zip"),
        (as_file, "program.py", "-"),
    ],
)
def test_a_program_knows_itself_by_the_names_that_python_gives_it(tmp_path, make, name, spoken):
    make(tmp_path / name)
    stdin = SPEAKING if spoken == "-" else ""
    own, ours = (
        subprocess.run(
            [sys.executable, *words, spoken, "a"], input=stdin, capture_output=True, timeout=120, text=True, cwd=tmp_path
        )
        for words in ((), ("-m", "jvpcli", "run", "--quiet"))
    )
    assert own.returncode == ours.returncode == 1
    assert ours.stdout == own.stdout != ""
    told, expected = (
        [line for line in run.stderr.splitlines() if not line.startswith("    ") and "runpy" not in line]
        for run in (ours, own)
    )  # without the text of the lines, which Python doesn't show of an archive
    assert told == expected


def test_a_folder_without_a_main_file_is_no_program(jvp, tmp_path):
    (tmp_path / "folder").mkdir()
    outcome = jvp("run", str(tmp_path / "folder"))
    assert outcome.code == 2
    assert "there is no __main__.py in it" in outcome.err


def test_what_a_program_prints_of_errors_and_warnings_itself_is_python_s(tmp_path):
    """Tracebacks that it catches and logs, stacks inside of a module and of a backward, how deep it may call itself."""
    path = tmp_path / "program.py"
    path.write_text(
        HEAD
        + """
import inspect, logging, multiprocessing, pickle, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork, with the number of the process
logging.basicConfig(format="%(filename)s:%(lineno)d %(funcName)s %(message)s")
import torch.nn.functional as F
net = nn.Sequential(nn.Linear(3, 2), nn.Softmax())

class Chosen(nn.Module):
    def forward(self, x, module=None, recorder=None):
        warnings.warn("of two frames out", stacklevel=2)
        warnings.warn("of three frames out", stacklevel=3)
        warnings.warn("of four frames out", stacklevel=4)
        return module(x)

class Looking(nn.Module):
    def forward(self, x):
        traceback.print_stack()
        for far in range(1, 9):
            logging.warning("where", stack_info=True, stacklevel=far)
        print([each.function for each in inspect.stack()], traceback.StackSummary.extract(traceback.walk_stack(None)))
        return Passing.apply(x)

class Passing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        traceback.print_stack()
        return x * 1

    @staticmethod
    def backward(ctx, g):
        print(traceback.format_stack())
        return g

def fail():
    net(torch.ones(1, 4))

def deepest(depth):
    try:
        return deepest(depth + 1)
    except RecursionError:
        return depth

if __name__ == "__main__":
    nn.Sequential(Looking())(torch.ones(1, requires_grad=True)).sum().backward()
    print(pickle.loads(pickle.dumps(nn.Module.__call__)) is nn.Module.__call__, deepest(0))
    for turn in range(2):
        Chosen()(net(torch.ones(2, 3)), module=F.softmax)
    F.softmax(torch.ones(3, requires_grad=True))
    try:
        fail()
    except RuntimeError:
        traceback.print_exc()
        logging.exception("logged")
    process = multiprocessing.get_context("fork").Process(target=fail, name="child")
    process.start()
    process.join()
    fast = torch.compile(net, backend="eager")
    print(type(fast), fast(torch.ones(2, 3)).shape, process.exitcode)
    fail()
"""
    )
    own, ours = (
        subprocess.run([sys.executable, *words, str(path)], capture_output=True, timeout=120, text=True)
        for words in ((), ("-m", "jvpcli", "run", "--quiet"))
    )
    assert own.returncode == ours.returncode == 1
    assert own.stdout == ours.stdout != ""
    assert "Process child:" in own.stderr
    assert ours.stderr == own.stderr
