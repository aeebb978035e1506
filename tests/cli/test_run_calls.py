"""`jvp run --grad-calls`, `--inspect`, `--trace`, `--watch --json`: the program's derivative calls, listed and answered for."""

from __future__ import annotations

import json
import math
import re
import sys

import pytest
import torch

PROGRAM = """\
import torch
from torch import nn

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Dropout(0.5), nn.Linear(2, 1))
x = torch.randn(4, 3, requires_grad=True)
w = torch.tensor([1.0, 2.0])
for turn in range(3):
    y = net(x * (turn + 1))
    loss = y.square().sum()
    loss.backward()

v = torch.arange(8.0).reshape(4, 2)
h = torch.tanh(x[:, :2] * w)
g, = torch.autograd.grad(h, x, grad_outputs=v)
print(g.tolist())
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)


def ran():
    """The program's variables, run by Python itself."""
    found = {"__name__": "__main__"}
    exec(PROGRAM, found)
    return found


def test_what_has_no_numbers_or_no_tensor_is_let_be(jvp, tmp_path, monkeypatch, capsys):
    """Edges of the graph in the place of tensors, nested tensors, gradients that are sparse or on the meta device."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(
        """\
import torch
from torch.autograd.graph import get_gradient_edge
x = torch.ones(3, requires_grad=True)
y = x.exp()
print(torch.autograd.grad((y * 2).sum(), get_gradient_edge(y))[0].tolist())
torch.autograd.backward(get_gradient_edge((x * 3).sum()))
parts = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], requires_grad=True)
torch.nested.to_padded_tensor(parts * 2, 0.0).sum().backward()
words = torch.nn.Embedding(4, 2, sparse=True)
words(torch.tensor([1])).sum().backward()
torch.ones(2, device="meta", requires_grad=True).sum().backward()
print(x.grad.tolist(), words.weight.grad.layout)
"""
    )
    for option in ("--watch", "--grad-calls"):
        outcome = jvp("run", option, "program.py")
        assert (outcome.code, outcome.err) == (0, "")
        assert capsys.readouterr().out == "[2.0, 2.0, 2.0]\n[3.0, 3.0, 3.0] torch.sparse_coo\n"


def test_calls_are_listed_by_line(jvp, program, capsys):
    outcome = jvp("run", "--grad-calls", "--json", "program.py")
    document = json.loads(outcome.out)
    assert outcome.code == 0
    assert document["error"] is None
    assert [(c["index"], c["line"], c["function"]) for c in document["calls"]] == [
        (0, 11, "Tensor.backward"),
        (1, 11, "Tensor.backward"),
        (2, 11, "Tensor.backward"),
        (3, 15, "torch.autograd.grad"),
    ]
    first, last = document["calls"][0], document["calls"][-1]
    assert first["source"] == "loss.backward()"
    assert first["outputs"] == [{"name": "loss", "shape": [], "dtype": "float32"}]
    assert {x["name"]: x["shape"] for x in first["inputs"]} == {
        "x": [4, 3], "net.0.weight": [2, 3], "net.0.bias": [2], "net.3.weight": [1, 2], "net.3.bias": [1],
    }  # fmt: skip
    assert first["grad_outputs"] is None
    assert last["source"] == "torch.autograd.grad(h, x, grad_outputs=v)"
    assert [last[k] for k in ("outputs", "inputs", "grad_outputs")] == [
        [{"name": "h", "shape": [4, 2], "dtype": "float32"}],
        [{"name": "x", "shape": [4, 3], "dtype": "float32"}],
        [{"name": "v for h", "shape": [4, 2], "dtype": "float32"}],
    ]
    prints = capsys.readouterr()
    assert prints.out == ""  # the program's own stdout goes to stderr beside a document
    assert prints.err == f"{ran()['g'].tolist()}\n"


def test_calls_that_are_alike_stand_together(jvp, program, capsys):
    assert (
        jvp("run", "--grad-calls", "program.py").out
        == """\
Derivative calls
program.py:11  loss.backward() × 3
  loss           () a single number   output, float32
  net.0.weight   (2, 3)               input, float32
  net.0.bias     (2,)                 input, float32
  net.3.weight   (1, 2)               input, float32
  net.3.bias     (1,)                 input, float32
  x              (4, 3)               input, float32
  v                                   grad_outputs: none given
program.py:15  torch.autograd.grad(h, x, grad_outputs=v)
  h         (4, 2)   output, float32
  x         (4, 3)   input, float32
  v for h   (4, 2)   grad_outputs, float32
"""
    )
    assert capsys.readouterr().out == f"{ran()['g'].tolist()}\n"


@pytest.mark.parametrize("nth", [1, 3])
def test_a_backward_is_answered_for_as_it_is_made(jvp, program, capsys, nth):
    """The gradients of the pass alone, before they are added up in `.grad`; dropout draws what it drew."""
    document = json.loads(jvp("run", "--inspect", f"11:{nth}", "--json", "program.py").out)
    torch.manual_seed(3)
    found = {"__name__": "__main__"}
    *_, before = PROGRAM.partition("for turn")
    exec(PROGRAM.partition("for turn")[0], found)
    net, x = found["net"], found["x"]
    for turn in range(nth):
        loss = net(x * (turn + 1)).square().sum()
    names = dict(net.named_parameters(), x=x)
    expected = torch.autograd.grad(loss, list(names.values()))
    assert document["outputs"]["loss"]["value"] == pytest.approx(loss.item())
    for name, gradient in zip(names, expected, strict=True):
        key = name if name == "x" else f"net.{name}"
        got = torch.tensor(document["vjp"][key]["value"])
        assert torch.allclose(got, gradient, rtol=1e-4, atol=1e-6), name
    assert before


def test_a_call_with_a_cotangent_is_inspected(jvp, program, capsys):
    document = json.loads(jvp("run", "--inspect", "program.py:15", "--json", "program.py").out)
    found = ran()
    assert document["expression"] == "h"
    assert document["jacobian"]["h"]["x"]["shape"] == [4, 2, 4, 3]
    assert document["jacobian"]["h"]["x"]["nnz"] == 8
    assert torch.allclose(torch.tensor(document["vjp"]["x"]["value"]), found["g"])
    assert document["grad_outputs"]["h"]["value"] == found["v"].tolist()


def test_a_call_is_traced_with_the_user_s_own_words(jvp, program, capsys):
    document = json.loads(jvp("run", "--trace", "15", "--json", "program.py").out)
    assert [(s["op"], s["source"], s["output"]) for s in document["steps"]] == [
        ("getitem", "x[:, :2]", "x[:, :2]"),
        ("mul", "x[:, :2] * w", "x[:, :2] * w"),
        ("torch.tanh", "torch.tanh(x[:, :2] * w)", "h"),
    ]
    assert torch.allclose(torch.tensor(document["vjp"]["x"]["value"]), ran()["g"])


def test_a_line_without_a_call_is_told_with_those_that_have_one(jvp, program, capsys):
    outcome = jvp("run", "--inspect", "12", "program.py")
    assert outcome.code == 2
    assert "the program made no derivative call on line 12" in outcome.err
    assert "Its derivative calls are on program.py:11, program.py:15." in outcome.err
    outcome = jvp("run", "--inspect", "11:4", "program.py")
    assert "the program made 3 derivative calls on line 11, and number 4 was asked for" in outcome.err


@pytest.mark.parametrize("value", ["x", "0", "1:2:3", "a.py", "a.py:0", "-1", "3:x"])
def test_what_is_no_line_is_refused_before_anything_runs(jvp, program, capsys, value):
    outcome = jvp("run", f"--inspect={value}", "program.py")
    assert outcome.code == 2
    assert f"--inspect takes LINE, LINE:NTH or FILE.py:LINE, not '{value}'" in outcome.err
    assert capsys.readouterr().out == ""


def test_watching_names_the_first_step_and_no_other(jvp, program, tmp_path, capsys):
    (tmp_path / "train.py").write_text(
        """\
import torch

w = torch.tensor([1.0, 1.0], requires_grad=True)
for turn in range(5):
    w.grad = None
    scaled = w * torch.tensor([1.0, 3.0 - turn])
    loss = scaled.log().sum()
    loss.backward()
"""
    )
    outcome = jvp("run", "--watch", "--json", "train.py")
    (alarm,) = json.loads(outcome.out)["alarms"]
    assert {key: alarm[key] for key in ("code", "tensors", "backward", "line")} == {
        "code": "nan", "tensors": ["w"], "backward": 4, "line": 8,
    }  # fmt: skip
    assert (alarm["step"]["line"], alarm["step"]["source"], alarm["step"]["module"]) == (7, "scaled.log()", "")
    assert outcome.err == f"jvp: {alarm['message']}\n"


WATCHED = {
    "an infinity that is written out is meant": (
        """\
import torch
w = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
scores = w.masked_fill(torch.eye(2) > 0, float("-inf")).softmax(-1)
((scores + w).sum() + (w**2).sum(-1).sqrt().sum()).backward()
""",
        ["the gradient of w holds NaN here: what flows back becomes infinite at watched.py:4, `(w**2).sum(-1).sqrt()`"],
    ),
    "what is made of it is not": (
        """\
import torch
w = torch.tensor([1.0, 2.0], requires_grad=True)
scores = (w + float("-inf")).softmax(0)
scores.square().sum().backward()
""",
        ["the gradient of w holds NaN here: a value becomes NaN at watched.py:3, `(w + float(\"-inf\")).softmax(0)`"],
    ),
    "an infinite value of which a zero makes NaN": (
        """\
import torch
p = torch.tensor([0.0, 0.5], requires_grad=True)
rates = p.reciprocal()
torch.where(p > 0, p * rates, p).sum().backward()
""",
        [
            "the gradient of p holds NaN here: a value becomes infinite at watched.py:3, `p.reciprocal()`, and the backward "
            "pass makes NaN of it at watched.py:4, `p * rates`"
        ],
    ),
    "data": (
        """\
import torch
w = torch.ones(2, requires_grad=True)
for data in (torch.ones(2), torch.tensor([1.0, float("nan")])):
    (w * data).square().sum().backward()
""",
        ["the gradient of w holds NaN here: data holds NaN itself"],
    ),
    "each zero with its own step, told once": (
        """\
import torch
a, b, c = (torch.full((2,), number, requires_grad=True) for number in (-1.0, 2.0, 3.0))
for turn in range(3):
    h = torch.relu(a)
    ((b * h).sum() + (c if turn < 2 else c * 0).sum()).backward(inputs=[a, b] if turn < 2 else [c])
    c.grad = None
a.sum().backward(torch.zeros(()))
d = torch.ones(2, requires_grad=True)
(d * 2).sum().backward()
(d * -2).sum().backward()
""",
        [
            "the gradient of a is 0 everywhere here: nothing of what arrives is passed on at watched.py:4, `torch.relu(a)`",
            "the gradient of b is 0 everywhere here: nothing of what arrives is passed on at watched.py:5, `b * h`",
            "the gradient of c is 0 everywhere here: nothing of what arrives is passed on at watched.py:5, `c * 0`",
        ],
    ),
}


@pytest.mark.parametrize("what", WATCHED)
def test_watching_names_what_the_trouble_comes_from(jvp, tmp_path, monkeypatch, what):
    source, told = WATCHED[what]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watched.py").write_text(source)
    lines = jvp("run", "--watch", "watched.py").err.splitlines()
    assert [re.sub(r"^jvp: in backward pass \d \(watched.py:\d\) ", "", line) for line in lines] == told


def test_a_program_that_is_not_there_is_a_file_error(jvp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = jvp("run", "gone.py")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the program gone.py can't be read: No such file or directory" in outcome.err
    outcome = jvp("run", "-m", "gone_module")
    assert outcome.code == 2
    assert "there is no module gone_module to run" in outcome.err


def test_a_bare_run_needs_a_program(jvp):
    outcome = jvp("run", "--watch")
    assert outcome.code == 2
    assert "SCRIPT.py is missing" in outcome.err

RESIDUAL = """\
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
x = torch.rand(3, 2, requires_grad=True)
u = net(x)
du, = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)
dxx, = torch.autograd.grad(du[:, :1], x, torch.ones_like(u), create_graph=True)
loss = (du[:, 1:] + u * du[:, :1] - 0.1 * dxx[:, :1]).square().mean()
loss.backward()
"""


@pytest.mark.parametrize("command", ["inspect", "trace", "check"])
def test_derivatives_inside_of_a_program_are_steps_of_it(jvp, tmp_path, monkeypatch, capsys, command):
    """The residual of a differential equation: its loss holds first and second derivatives by the inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "residual.py").write_text(RESIDUAL)
    outcome = jvp("run", f"--{command}", "11", "--json", "residual.py")
    document = json.loads(outcome.out)
    found = {"__name__": "__main__"}
    exec(RESIDUAL, found)
    if command == "check":
        assert (document["passed"], document["verdict"]) == (True, "pass")
        return
    for name, parameter in found["net"].named_parameters():
        got = torch.tensor(document["vjp"][f"net.{name}"]["value"])
        assert torch.allclose(got, parameter.grad, rtol=1e-4, atol=1e-6), name
    if command == "trace":
        assert [s["source"] for s in document["steps"] if s["op"].startswith("torch.autograd.grad")] == [
            "torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)",
            "torch.autograd.grad(du[:, :1], x, torch.ones_like(u), create_graph=True)",
        ]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("4", "x"), ("loss.py:4", "inner"), ("lib/loss.py:4", "inner"), ("oss.py:4", None), ("calls.py:4", "x")],
)
def test_a_line_is_of_the_program_s_own_file_or_of_the_one_that_is_named(jvp, tmp_path, monkeypatch, asked, answered):
    """Two files have a call on their line 4; a module that is run is asked as a file that is run."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "loss.py").write_text(
        "import torch\ndef gradient():\n    inner = torch.ones(2, requires_grad=True)\n    inner.sum().backward()\n"
    )
    (folder / "calls.py").write_text(
        "import torch\nfrom lib import loss\nloss.gradient(); x = torch.ones(3, requires_grad=True)\nx.prod().backward()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lib", "lib.loss", "lib.calls"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    outcome = jvp("run", "--inspect", asked, "--json", "-m", "lib.calls")
    document = json.loads(outcome.out)
    assert document["ok"] == (answered is not None)
    if answered is not None:
        assert list(document["vjp"]) == [answered]


HELD_BACK = """
import torch
torch.manual_seed(0)
x = torch.randn(3, requires_grad=True)
def norm(x):
    with torch.no_grad():
        return x.norm()
{}
"""


def numbers(values):
    """As they stand in JSON."""
    return ["NaN" if value != value else value for value in values]


@pytest.mark.parametrize(
    "lines",
    [
        "((x / norm(x)) ** 2).sum().backward()",
        "(x * norm(x)).sum().backward()",
        "s = x * 2; torch._foreach_add_([torch.zeros(1)], 1); t = s.detach() * s; t.sum().backward()",
        "torch.autograd.backward([x.sum(), (x**2).sum()], [torch.tensor(2.0), None])",
        "x.grad, = torch.autograd.grad([x.exp().sum(), x.sin()], [x], [None, torch.ones(3)])",
        "torch.where(x > 0, x.clamp(min=0).sqrt(), 0 * x).sum().backward()",
        "torch.nn.Embedding(4, 3, padding_idx=1)(torch.tensor([0, 1])).mul(x**2).sum().backward()",
    ],
)
@pytest.mark.parametrize("command", ["inspect", "trace"])
def test_the_answer_is_the_gradient_that_the_program_itself_gets(jvp, tmp_path, command, lines):
    """What ran under no_grad is a constant, and a cotangent that is None is 1 for a single number."""
    path = tmp_path / "program.py"
    path.write_text(HELD_BACK.format(lines))
    found = {"__name__": "__main__"}
    exec(HELD_BACK.format(lines), found)
    document = json.loads(jvp("run", f"--{command}", "8", "--json", str(path)).out)
    assert document["vjp"]["x"]["value"] == pytest.approx(numbers(found["x"].grad.tolist()), rel=1e-5)
    assert "other_gradient" not in [warning["code"] for warning in document["warnings"]]


OVERWRITTEN = """\
import gc, torch
w = torch.ones(77, requires_grad=True)
ids = set()
for turn in range(30):
    loss = (2 * w).exp().sum()
    loss.backward(retain_graph=True)
    other = torch.ones(77, requires_grad=True)
    with torch.no_grad():
        w.mul_(0.9)
        other.mul_(3)
    ids.add(id(other))
    del other
print(sum(x.shape == (77,) for x in gc.get_objects() if type(x) is torch.Tensor))
kept, b = [], None
while id(b) not in ids and len(kept) < 1000:
    b = torch.full((77,), 5.0, requires_grad=True)
    kept.append(b)
(b * b * w.detach()).sum().backward()
loss.backward()
"""


@pytest.mark.parametrize(("line", "gradient"), [(18, 10 * 0.9**30), (19, 2 * math.exp(2 * 0.9**29))])
def test_numbers_that_are_overwritten_are_kept_while_a_graph_is_of_them(jvp, tmp_path, capsys, line, gradient):
    """No longer than that, and not for a tensor that takes the place of another in memory."""
    path = tmp_path / "program.py"
    path.write_text(OVERWRITTEN)
    document = json.loads(jvp("run", "--trace", str(line), "--json", str(path)).out)
    (found,) = document["vjp"].values()
    assert found["value"] == pytest.approx([gradient] * 77, rel=1e-4)
    assert int(capsys.readouterr().err) < 15


@pytest.mark.parametrize(
    ("lines", "factor"),
    [
        ("h = x * 2; h.register_hook(lambda g: g * 0.5); h.sum().backward()", 0.5),
        ("x.register_hook(lambda g: -g); (x**2).sum().backward()", -1),
        ("x.grad = torch.ones(3); x.register_hook(lambda g: g * 3); (x**2).sum().backward()", 3),
        ("s = x.clone(); s.data.mul_(4); (s**2).sum().backward()", 4),
        ("x.register_hook(lambda g: g * 5); torch.autograd.grad(x.exp().sum(), x)", 5),
    ],
)
def test_a_gradient_that_a_hook_changes_is_told(jvp, tmp_path, lines, factor):
    """The steps give their own gradient; what the program's call gives besides is `factor` times that."""
    path = tmp_path / "program.py"
    path.write_text(HELD_BACK.format(lines))
    document = json.loads(jvp("run", "--inspect", "8", "--json", str(path)).out)
    warning = next(w["message"] for w in document["warnings"] if w["code"] == "other_gradient")
    told = re.match(r"the program's own call gave x\[0\] the gradient (\S+), and these steps give (\S+):", warning)
    given, ours = told.groups()
    assert float(ours) == pytest.approx(document["vjp"]["x"]["value"][0], rel=1e-4)
    assert float(given) == pytest.approx(factor * float(ours), rel=1e-4)


@pytest.mark.parametrize(
    ("lines", "verdict", "said"),
    [
        ("x.register_hook(lambda g: -g); (x**2).sum().backward()", "wrong_backward", "which finite differences confirm"),
        ("s = x.clone(); s.data.mul_(4); (s**2).sum().backward()", "graph_break", "(s ** 2).sum() another value"),
        ("(x**2).sum().backward()", "pass", "agrees"),
        ("y = x.exp(); torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)", "pass", "agrees"),
        ("x.register_hook(lambda g: 2 * g); torch.autograd.grad(x * x, x, torch.eye(3), is_grads_batched=True)", "wrong_backward",
         "The program's own call gave x[0, 0] the gradient"),
    ],
)  # fmt: skip
def test_a_check_passes_only_what_the_program_s_own_call_gave(jvp, tmp_path, lines, verdict, said):
    path = tmp_path / "program.py"
    path.write_text(HELD_BACK.format(lines))
    document = json.loads(jvp("run", "--check", "8", "--json", str(path)).out)
    assert (document["verdict"], document["passed"]) == (verdict, verdict == "pass")
    assert said in document["explanation"]


def test_a_call_with_several_v_is_not_traced(jvp, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(HELD_BACK.format("y = x.exp(); torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)"))
    told = jvp("run", "--trace", "8", str(path))
    assert "trace takes one v, and is_grads_batched gives several; inspect takes them all" in " ".join(told.err.split())


def test_an_input_that_the_program_computed_needs_no_word(jvp, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(HELD_BACK.format("h = x.exp(); torch.autograd.grad((h * h).sum(), h)"))
    assert json.loads(jvp("run", "--inspect", "8", "--json", str(path)).out)["warnings"] == []


def test_only_what_the_steps_take_is_an_input(jvp, tmp_path):
    """Not the data set, from which the batch was taken before the steps begin."""
    path = tmp_path / "program.py"
    path.write_text(
        """\
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
w = torch.randn(3, 2, requires_grad=True)
for x, wanted in DataLoader(TensorDataset(torch.randn(8, 3), torch.randint(2, (8,))), batch_size=4):
    torch.nn.functional.cross_entropy(x @ w, wanted).backward()
"""
    )
    document = json.loads(jvp("run", "--inspect", "6:2", "--json", str(path)).out)
    assert {name: x["shape"] for name, x in document["inputs"].items()} == {
        "w": [3, 2], "x": [4, 3], "wanted": [4],
    }  # fmt: skip


CASTING = """\
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
x, places = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
with torch.autocast("cpu", dtype=torch.bfloat16):
    out = net(x)
    hidden = out.float() @ torch.ones(2, 2)
    inside = nn.functional.cross_entropy(out, places) + hidden.square().sum()
    inside.backward(retain_graph=True)
    once = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
late = out.float() @ torch.ones(2, 2)
outside = nn.functional.cross_entropy(out, places) + (late * net[0].weight.sum()).sum()
outside.backward()
twice = [p.grad.clone() for p in net.parameters()]
"""


@pytest.mark.parametrize(("line", "kept"), [(11, "once"), (16, "twice")])
def test_steps_are_run_again_under_the_autocast_that_they_ran_under(jvp, tmp_path, monkeypatch, line, kept):
    """One call is made inside of it, of which all steps are; the other outside, with steps of both kinds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "casting.py").write_text(CASTING)
    variables = {"__name__": "__main__"}
    exec(CASTING, variables)
    names = [name for name, _ in variables["net"].named_parameters()]
    expected = {f"net.{name}": gradient for name, gradient in zip(names, variables[kept], strict=True)}
    inspected = json.loads(jvp("run", f"--inspect={line}", "--json", "casting.py").out)
    found = {name: torch.tensor(entry["value"]) for name, entry in inspected["vjp"].items()}
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)  # a cast weight may be added up in either dtype
    assert inspected["warnings"] == []
    traced = json.loads(jvp("run", f"--trace={line}", "--json", "casting.py").out)
    assert traced["warnings"] == []
    checked = json.loads(jvp("run", f"--check={line}", "--json", "casting.py").out)
    assert checked["passed"]
    assert [row["agrees"] for row in checked["comparisons"]] == [True] * len(checked["comparisons"])


def test_a_model_under_autocast_is_opened(jvp, tmp_path):
    file = tmp_path / "mixed.py"
    file.write_text(
        "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nnet = nn.Sequential(nn.Linear(3, 4), nn.Tanh())\n"
        "def mixed(x):\n    with torch.autocast('cpu', dtype=torch.bfloat16):\n        return net(x).softmax(-1)\n"
    )
    document = json.loads(jvp("trace", "mixed(x)", "--import", str(file), "--x", "1,2,3;-1,0,2", "--json").out)
    assert [step["source"] for step in document["steps"]] == ["net.0", "net.1", "net(x).softmax(-1)"]
    assert [notice["code"] for notice in document["warnings"]] == []


def test_rounding_in_the_steps_of_autocast_is_told_as_theirs(jvp, tmp_path, monkeypatch):
    """1.001 is 1 in bfloat16, where 1 / (x - 1) has no finite derivative."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(
        "import torch\nx = torch.tensor([[1.001]], requires_grad=True)\nwith torch.autocast('cpu', torch.bfloat16):\n"
        "    h = x @ torch.ones(1, 1)\n(1 / (h - 1)).sum().backward()\nassert x.grad.isinf().all()\n"
    )
    told = " ".join(jvp("run", "--check", "5", "program.py").out.split())
    assert "failed: precision" in told
    assert "in float32, with steps in bfloat16, rounding leaves -inf." in told
    assert "Take the steps in bfloat16 in a finer dtype, or" in told


def test_steps_of_two_nets_are_told_apart(jvp, tmp_path, monkeypatch):
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\nfrom torch import nn\nG, D = nn.Sequential(nn.Linear(2, 3), nn.Tanh()), nn.Sequential(nn.Linear(3, 1))\n"
        "nn.functional.mse_loss(D(G(torch.ones(4, 2))), torch.ones(4, 1)).backward()\n"
    )
    outcome = jvp("run", "--trace", "4", "--json", str(path))
    assert [step["module"] for step in json.loads(outcome.out)["steps"]] == ["G.0", "G.1", "D.0", ""]


def test_no_failure_of_an_answer_reaches_the_program(jvp, tmp_path, monkeypatch, capsys):
    path = tmp_path / "program.py"
    path.write_text("import torch\nx = torch.ones(2, requires_grad=True)\nx.sum().backward()\nprint(x.grad)\n")
    refused = jvp("run", "--check", "3", "--html", str(tmp_path / "page.html"), str(path))
    assert refused.code == 2
    assert "--html shows one call: say which with --inspect LINE or --trace LINE" in refused.err

    def broken(request):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("jvpcli.cli.run.report_of", broken)
    outcome = jvp("run", "--check", "3", str(path))
    assert outcome.code == 0
    assert "ZeroDivisionError: of ours" in outcome.err
    assert "tensor([1., 1.])" in capsys.readouterr().out + outcome.out


def test_a_call_on_a_constant_has_no_names_to_tell(jvp, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\nx = torch.ones(2, requires_grad=True)\n"
        "try:\n    x.detach().sum().backward()\nexcept RuntimeError:\n    pass\n"
    )
    told = jvp("run", "--inspect", "4", str(path)).err
    assert "no gradient reaches anything from x.detach().sum()" in told
    assert "No step gets the numbers of what requires grad." in told


def test_a_gradient_whose_parts_cancel_is_blamed_on_no_step(jvp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(
        "import torch\nb, x = torch.zeros(1, requires_grad=True), torch.ones(4)\n"
        "loss = (x + b).mean() - (2 * x + b).mean()\nloss.backward()\n"
    )
    assert jvp("run", "--watch", "program.py").err == (
        "jvp: in backward pass 1 (program.py:4) the gradient of b is 0 everywhere here: its parts, which are not, cancel out\n"
    )
