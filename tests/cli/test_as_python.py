"""The command line on programs that Python runs between guards: all that is said of them."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import jvpcli
from jvpcli.answers.executed import WAY
from jvpcli.errors import ForbiddenError, UsageError

TRAINING = """\
import torch
from dataclasses import dataclass, field
@dataclass
class Config:
    sizes: list = field(default_factory=lambda: [2, 1])
class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b, bias=False) for a, b in zip(config.sizes, config.sizes[1:]))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
torch.manual_seed(0)
net = Net(Config())
for p in net.parameters():
    p.data.fill_(0.5)
opt = torch.optim.SGD(net.parameters(), lr=0.125)
while True:
    loss = net(torch.ones(1, 2)).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    if loss.item() < 0.1:
        break
    opt.step()
"""
"""w ← w − ⅛ · 2 (w₁ + w₂) (1, 1) goes from .5 to .25 and .125 in each entry, and w₁ + w₂ is ¼ at the third call."""

SAID = "the program was run as Python runs it, and this is the last of the 3 derivatives that it asks for, on line {line}"


WHOLE = """\
loss

Shapes
  net.layers.0.weight          (1, 2)               input, float32
  c                            (1, 2)               input, not differentiated, float32
  loss                         () a single number   output, float32
  v                            () a single number   grad_outputs, ∂L/∂loss: ones
  ∂loss/∂net.layers.0.weight   (1, 2)               the Jacobian, output + input: dense, 2 of 2
                                                    entries not zero
  ∂L/∂net.layers.0.weight      (1, 2)               the result, the VJP: as net.layers.0.weight

Which product
  ∂L/∂net.layers.0.weight_ij = v · ∂loss/∂net.layers.0.weight_ij
  einsum(",ij->ij", v, ∂loss/∂net.layers.0.weight)
  loss is a single number, so the Jacobian is simply its gradient (flattened: 1×2) and v a single
  weight: the result is v times the gradient.

The numbers
                             v  net.layers.0.weight[0,0]  net.layers.0.weight[0,1]
  loss                       1                       0.5                       0.5
  ∂L/∂net.layers.0.weight  vᵀJ                       0.5                       0.5

  ∂L/∂net.layers.0.weight[0,0] = 1·0.5 = 0.5

The result
  ∂L/∂net.layers.0.weight = [[0.5, 0.5]]
  torch.autograd.grad gives the same (compared entry by entry).
"""


def test_the_whole_answer_of_the_command_line(jvp):
    line = TRAINING[: TRAINING.index("loss.backward()")].count("\n") + 1
    found = jvp("inspect", "-", stdin=TRAINING)
    assert (found.code, found.err) == (0, f"warning (as_python): {SAID.format(line=line)}\n")
    assert found.out == WHOLE
    document = json.loads(jvp("inspect", "-", "--json", stdin=TRAINING).out)
    assert document["expression"] == "loss"
    assert document["vjp"]["net.layers.0.weight"]["value"] == [[0.5, 0.5]]
    assert document["warnings"] == [{"code": "as_python", "message": SAID.format(line=line)}]
    assert document.get("passed_over") is None
    traced = json.loads(jvp("trace", "-", "--json", stdin=TRAINING).out)
    assert [step["op"] for step in traced["steps"]] == ["torch.nn.functional.linear", "Tensor.pow", "Tensor.sum"]
    assert jvp("check", "-", "--quiet", stdin=TRAINING).code == 0


BESIDE = [("--dtype", "float64"), ("--device", "cpu")]


@pytest.mark.parametrize("option", BESIDE, ids=str)
def test_what_the_program_says_itself_is_not_said_beside_it(jvp, option):
    found = json.loads(jvp("inspect", "-", *option, "--json", stdin=TRAINING).out)
    assert (found["ok"], found["error"]["code"]) == (False, "usage")
    assert found["error"]["message"].endswith(" can't be used with this program")


def test_what_the_language_reads_is_said_to_be_read(jvp):
    text = "import torch\nx = torch.tensor([1., 2.], requires_grad=True)\n(x ** 2).sum().backward()\n"
    found = jvp("inspect", "-", stdin=text)
    assert found.code == 0
    assert found.err.startswith("read as: jvp inspect ")
    assert "as_python" not in found.err


def test_seeds(jvp):
    text = "import torch\ntorch.manual_seed(0)\nw = torch.randn(2, requires_grad=True)\n{}(w ** 2).sum().backward()\n"
    odd = text.format(
        "class Odd:\n    def __enter__(self): return 1\n    def __exit__(self, *e): pass\nwith Odd() as one: pass\n"
    )
    for options, seed in (((), 0), (("--seed", "3"), 3)):
        document = json.loads(jvp("inspect", "-", "--json", *options, stdin=odd).out)
        assert [each["code"] for each in document["warnings"]] == ["as_python"]
        generator = torch.Generator().manual_seed(seed)
        assert torch.allclose(torch.tensor(document["vjp"]["w"]["value"]), 2 * torch.randn(2, generator=generator))


SEVERAL = """\
import torch
class Scale:
    def __init__(self, by):
        self.by = by
    def __call__(self, t):
        return self.by * t
n, rate = 2, 0.5
x = torch.tensor([1., 2.], requires_grad=True)
c = torch.tensor([3., 5.])
for k in range(n):
    y = Scale(k + 1.)(c * x ** 3)
    torch.autograd.grad(y, x, torch.ones(2))
z = (rate * x ** 2).sum()
torch.autograd.grad(z, x)
"""
"""∂y/∂x = 3 (k + 1) c x² and ∂z/∂x = 2 · rate · x: calls on the lines 12, twice, and 14."""


def answer(jvp, command, text, *options):
    """The document of a command about a program."""
    return json.loads(jvp(command, "-", *options, "--json", stdin=text).out)


def test_each_command_answers(jvp):
    """L = ½ (x₁² + x₂²) has the Hessian 1, and ∂L/∂x = x."""
    found = answer(jvp, "hessian", SEVERAL, "--tangent", "1,0")
    assert found["hessian"]["x"]["x"]["value"] == [[1.0, 0.0], [0.0, 1.0]]
    assert (found["hvp"]["x"]["value"], found["definite"]) == ([1.0, 0.0], "positive")
    derived = answer(jvp, "derive", SEVERAL)
    x, v = torch.tensor([1.0, -2.0]), torch.tensor(4.0)
    assert torch.equal(eval(derived["vjp"]["x"]["torch"], {"torch": torch, "x": x, "v": v}), 4 * x)
    assert derived["code"] is None
    checked = answer(jvp, "check", SEVERAL)
    assert (checked["passed"], checked["verdict"]) == (True, "pass")
    for document in (found, derived, checked, answer(jvp, "trace", SEVERAL)):
        assert [each["code"] for each in document["warnings"]] == ["as_python"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python keeps no places of instructions before 3.11")
def test_steps_stand_where_they_are_written(jvp):
    """A session, whose prompts are no part of the program: the lines are those of what was pasted."""
    text = ">>> import torch\n>>> class Odd:\n...     def __enter__(self): return 2.\n...     def __exit__(self, *e): pass\n...\n"
    text += ">>> x = torch.tensor([1., 2.], requires_grad=True)\n>>> with Odd() as two:\n...     y = (two * x ** 3).sum()\n...\n"
    text += ">>> y\ntensor(18., grad_fn=<SumBackward0>)\n>>> y.backward()\n"
    document = answer(jvp, "trace", text)
    told = [(step["source"], step["line"]) for step in document["steps"]]
    assert told == [("x ** 3", 8), ("two * x ** 3", 8), ("(two * x ** 3).sum()", 8)]
    assert [call["line"] for call in document["calls"]] == [12]
    assert document["output_values"] == {"y": "y"}


def test_outputs_are_named_as_an_expression_s_are(jvp):
    """By their own names, or else y; out, where the program has a y."""
    for asked, names in (
        ("z.backward()", ["z"]),
        ("(z * 2).backward()", ["out"]),
        ("torch.autograd.grad([z, x * 2], x, [z, x])", ["z", "out1"]),
    ):
        text = SEVERAL.replace("torch.autograd.grad(z, x)", f"y1 = z * 1\n{asked}")
        assert [*answer(jvp, "inspect", text)["outputs"]] == names
    text = SEVERAL.replace("    y = ", "    u = ").replace("grad(y", "grad(u * 1")
    assert [*answer(jvp, "inspect", text, "--call", "1")["outputs"]] == ["y"]


def test_formulas_of_a_net_and_of_a_function(jvp):
    """Σ (w·c)² has the gradient 2 c cᵀ w; parameters have names in formulas that code can have."""
    derived = answer(jvp, "derive", TRAINING, "--tangent", "net_layers_0_weight=[[1,1]]")
    assert derived["inputs"].keys() == {"net_layers_0_weight", "c"}
    w, c, v = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 5.0]]), torch.tensor(2.0)
    code = derived["vjp"]["net_layers_0_weight"]["torch"]
    assert torch.equal(eval(code, {"torch": torch, "net_layers_0_weight": w, "c": c, "v": v}), 2 * v * (w * c).sum() * c)
    function = SEVERAL.replace("torch.autograd.grad(z, x)", "torch.func.grad(lambda t: (Scale(rate)(t) ** 3).sum())(c)")
    derived = answer(jvp, "derive", function)
    assert derived["vjp"]["t"]["given"]["formula"] == "3/8·t_i²"


def test_the_hessian_of_a_second_derivative_s_function(jvp):
    """What torch.func.hessian differentiates twice, or another transform does, is what jvp hessian is asked of."""
    twice = ("torch.func.hessian(f)(c)", "torch.func.jacfwd(torch.func.grad(f))(c)", "torch.autograd.functional.hessian(f, c)")
    for asked in twice:
        text = SEVERAL.replace("torch.autograd.grad(z, x)", f"f = lambda t: (Scale(rate)(t) ** 3).sum()\n{asked}")
        found = answer(jvp, "hessian", text)["hessian"]["t"]["t"]["value"]
        assert found == [[0.75 * 3, 0.0], [0.0, 0.75 * 5]]


def test_what_python_runs_through_pytorch_does_not_raise(jvp):
    """The language says that a flag is no method, on a line that is never carried out; where it is, Python says so, too."""
    text = "x = torch.ones(2, requires_grad=True)\nif x.sum() > {}:\n    x.requires_grad()\n(x * 3).sum().backward()\n"
    assert answer(jvp, "inspect", text.format(100))["vjp"]["x"]["value"] == [3.0, 3.0]
    error = answer(jvp, "inspect", text.format(1))["error"]
    assert error["torch_message"] == "'bool' object is not callable"


def test_a_call_is_picked_by_its_line(jvp):
    """Each line that asks is listed, in order; of one that asks twice the last is meant."""
    document = answer(jvp, "inspect", SEVERAL, "--call", "1")
    assert document["vjp"]["x"]["value"] == [18.0, 120.0]
    assert document["calls"] == [
        {"number": 1, "line": 12, "source": "torch.autograd.grad(y, x, torch.ones(2))", "explained": True},
        {"number": 2, "line": 14, "source": "torch.autograd.grad(z, x)", "explained": False},
    ]
    (told,) = document["warnings"]
    assert told["message"].endswith("and this is number 2 of the 3 derivatives that it asks for, on line 12")
    assert answer(jvp, "inspect", SEVERAL, "--call", "2") == answer(jvp, "inspect", SEVERAL)
    with_modules = "class K: pass\nnet = torch.nn.Linear(2, 1)\nnet(torch.ones(1, 2)).sum().backward()\n"
    for text in (with_modules, SEVERAL):
        error = answer(jvp, "inspect", text, "--call", "3")["error"]
        assert (error["code"], error["message"]) == ("usage", "there is no derivative call number 3")
    assert "2: line 14, torch.autograd.grad(z, x)" in error["explanation"]


def test_what_is_asked_beside_the_program(jvp):
    """y_i = 2 c_i x_i³: by c, with another v, along a direction; names of what there isn't are refused with those there are."""
    document = answer(jvp, "inspect", SEVERAL, "--call", "1", "--wrt", "c", "-g", "1,10", "-t", "1,0")
    assert document["jacobian"]["y"]["c"]["value"] == [[2.0, 0.0], [0.0, 16.0]]
    assert (document["vjp"]["c"]["value"], document["jvp"]["y"]["value"]) == ([2.0, 160.0], [2.0, 0.0])
    error = answer(jvp, "inspect", SEVERAL, "--call", "1", "--wrt", "d")["error"]
    assert (error["code"], error["message"]) == ("usage", "--wrt names 'd', which is not an input; the inputs are x, c")
    assert answer(jvp, "inspect", SEVERAL, "--call", "1", "-g", "1,2,3")["error"]["code"] == "shape_mismatch"
    weights = answer(jvp, "inspect", TRAINING, "--wrt", "net.*", "-g", "4")["vjp"]
    assert weights == {"net.layers.0.weight": {"shape": [1, 2], "dtype": "float32", "value": [[2.0, 2.0]]}}


@pytest.mark.parametrize(
    ("options", "x", "gradient"),
    [
        (("--rate", "2"), [1.0, 2.0], [4.0, 8.0]),
        (("--x", "3,-1"), [3.0, -1.0], [3.0, -1.0]),
        (("--x", "3,-1", "--dtype", "float64"), [3.0, -1.0], [3.0, -1.0]),
        (("--n", "1"), [1.0, 2.0], [1.0, 2.0]),
    ],
    ids=str,
)
def test_a_value_stands_for_what_a_name_gets_first(jvp, options, x, gradient):
    document = answer(jvp, "inspect", SEVERAL, *options)
    assert document["inputs"]["x"]["value"] == x
    assert document["inputs"]["x"]["dtype"] == ("float64" if "float64" in options else "float32")
    assert document["vjp"]["x"]["value"] == gradient
    assert ("of the 2 derivatives" in document["warnings"][0]["message"]) == (options[0] == "--n")


KINDS = """\
import numpy as np
class Odd: pass
w = torch.nn.Parameter(torch.tensor([1., 2.]))
a, (b, c) = np.array([1., 2.]), ([1, 2], 3)
flag, odd = True, Odd()
assert isinstance(w, torch.nn.Parameter) and w.requires_grad and a.dtype == np.float64 and type(flag) is bool
assert type(b) is list and all(type(k) is int for k in b) and type(c) is int
((w * torch.tensor(a)).sum() * sum(b) * c * flag * q).backward()
"""
"""∂L/∂w = a · Σb · c · flag · q, and q is given alone."""


def test_a_value_is_of_the_kind_of_what_it_stands_for(jvp):
    given = ("--q", "2", "--a", "1,10", "--b", "3,4,5", "--c", "2", "--w", "7,8", "--flag", "1")
    document = answer(jvp, "inspect", KINDS, *given)
    assert document["vjp"]["w"]["value"] == [48.0, 480.0]
    assert document["vjp"]["q"]["value"] == (7 * 1 + 8 * 10) * 12 * 2
    for option, value, told in (
        ("--c", "2.5", "c is a whole number in the program, and 2.5 is not"),
        ("--odd", "1", "a VALUE can't be given for odd, which is a Odd in the program"),
        ("--wv", "1,2", "the program gives no 'wv' a value at its top, and does not read it"),
    ):
        error = answer(jvp, "inspect", KINDS, "--q", "2", option, value)["error"]
        assert (error["code"], error["message"]) == ("usage", told)


def test_a_file_of_answers_and_a_page(jvp, tmp_path):
    for command in ("inspect", "trace", "hessian", "derive"):
        page = tmp_path / f"{command}.html"
        assert jvp(command, "-", "--html", str(page), "--quiet", stdin=SEVERAL).code == 0
        assert "as Python runs it" in page.read_text()
    assert jvp("inspect", "-", "--save", str(tmp_path / "J.npz"), "--quiet", stdin=SEVERAL).code == 0
    assert (tmp_path / "J.npz").exists()


# The other doors


def request(**fields):
    return json.dumps({"id": 1, "expression": SEVERAL, **fields}) + "\n"


@pytest.mark.parametrize("fields", [{}, {"call": 1, "wrt": ["c"]}, {"command": "check"}, {"inputs": {"rate": 2.0}}], ids=str)
def test_a_line_of_a_batch_is_what_the_command_prints(jvp, fields):
    lines = request(**fields) + json.dumps({"expression": "x ** 2", "inputs": {"x": 3}}) + "\n"
    run, plain = jvp("batch", "--as-python", stdin=lines).out.splitlines()
    options = [*(("--call", "1", "--wrt", "c") if "call" in fields else ()), *(("--rate", "2.0") if "inputs" in fields else ())]
    alone = answer(jvp, fields.get("command", "inspect"), SEVERAL, *options)
    assert json.loads(run) == {"id": 1, **alone}
    assert json.loads(plain)["vjp"]["x"]["value"] == 6.0
    assert [*jvpcli.batch([json.loads(request(**fields))], as_python=True)] == [json.loads(run)]


def test_nothing_is_run_unless_who_starts_it_says_so(jvp):
    (line,) = jvp("batch", stdin=request()).out.splitlines()
    error = json.loads(line)["error"]
    assert (error["code"], error["hints"][-1]) == ("forbidden", WAY.format(command="inspect"))
    (line,) = jvp("batch", stdin=request(as_python=True)).out.splitlines()
    assert json.loads(line)["error"]["message"] == "a request has no field `as_python`"
    with pytest.raises(ForbiddenError) as refused:
        jvpcli.hessian(SEVERAL)
    assert refused.value.hints[-1] == WAY.format(command="hessian")


def test_why_python_does_not_answer_either_is_told(jvp):
    """An error of PyTorch's with its operands, a name without a value, and what a program may not do."""
    error = answer(jvp, "inspect", SEVERAL.replace("c * x ** 3", "c @ torch.ones(3)"))["error"]
    assert error["code"] == "shape_mismatch"
    assert error["torch_message"]
    assert [(each["text"], each["shape"]) for each in error["operands"]] == [("c", [2]), ("torch.ones(3)", [3])]
    error = answer(jvp, "inspect", SEVERAL.replace("3., 5.", "3., five"))["error"]
    assert (error["code"], error["message"]) == ("unknown_name", "the program reads `five` on line 9, which has no value")
    assert error["hints"] == ["--five VALUE gives it one"]
    error = answer(jvp, "inspect", SEVERAL.replace("import torch", "import torch, socket"))["error"]
    assert error["message"] == "`import socket`: there is no socket in a program."
    assert error["explanation"] == "Python ran it between guards, since the language does not read it."
    told = answer(jvp, "inspect", SEVERAL + "assert False")["warnings"][0]["message"]
    assert told.endswith("on line 14; the program ends on line 15 with AssertionError")


REFUSED_AT = """╭─ Not allowed ────────────────────────────────────────────────────────────────────────────────────╮
│ `.__init__` can't be read or set on a `Stop` in a program.                                       │
│                                                                                                  │
│   print(Stop().__init__, sep="")                                                                 │
│         ^^^^^^^^^^^^^^^                                                                          │
│                                                                                                  │
│ Python ran it between guards, since the language does not read it.                               │
╰──────────────────────────────────────────────────────────────────────────────────────────────────╯
Save it in a file, if you trust it, and run it without guards: jvp run --grad-calls FILE.py
"""


def test_what_the_guards_refuse_is_told_where_it_stands(jvp):
    """And not what the language has against a line that Python got past."""
    text = 'class Stop: pass\nx = torch.ones(2, requires_grad=True)\nprint(Stop().__init__, sep="")\nx.sum().backward()\n'
    refused = jvp("inspect", "-", stdin=text)
    assert (refused.code, refused.err) == (3, REFUSED_AT)
    static = jvp("inspect", "-", stdin=text.replace("__init__", "__mro__"))
    assert "The attribute `__mro__` can't be used (line 3)." in static.err
    assert "│   print(Stop().__mro__, " in static.err


def test_what_python_can_t_run_either_is_no_way(jvp):
    for text in ("class A: pass\nasync def f(): pass\nx.backward()\n", "x = torch.ones(2, requires_grad=True)\nx.backward(\n"):
        (line,) = jvp("batch", stdin=json.dumps({"expression": text}) + "\n").out.splitlines()
        assert not any("as_python" in hint for hint in json.loads(line)["error"]["hints"])


def test_the_time_limit_holds_for_what_is_run(jvp):
    endless = SEVERAL + "sum(range(10 ** 12))\n"
    lines = json.dumps({"expression": endless, "timeout": 2}) + "\n" + request()
    late, whole = jvp("batch", "--as-python", stdin=lines).out.splitlines()
    assert json.loads(late)["error"]["code"] == "limit"
    assert json.loads(whole)["vjp"]["x"]["value"] == [1.0, 2.0]


def test_python_has_the_results_of_what_is_run():
    state, dtype = torch.default_generator.get_state(), torch.get_default_dtype()
    text = SEVERAL.replace("import torch\n", "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(3)\n")
    found = jvpcli.inspect(text, as_python=True)
    assert found.vjp["x"].tolist() == [1.0, 2.0]
    assert found.jacobian["z", "x"].dtype is torch.float64
    assert "as_python" in [notice.code for notice in found.report.warnings]
    assert jvpcli.jacobian(text, as_python=True, call=1)["y", "x"].to_dense().tolist() == [[18.0, 0.0], [0.0, 120.0]]
    assert jvpcli.hessian(text, as_python=True).hessian["x", "x"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert jvpcli.trace(text, as_python=True).vjp["x"].tolist() == [1.0, 2.0]
    assert jvpcli.derive(text, as_python=True).torch["x"] is not None
    assert jvpcli.check(text, as_python=True).passed
    jvpcli.assert_gradients(text, as_python=True)
    assert torch.equal(torch.default_generator.get_state(), state)
    assert torch.get_default_dtype() is dtype
    with pytest.raises(UsageError, match="as_python is for the text of a program"):
        jvpcli.inspect(torch.sin, torch.ones(2), as_python=True)
    with pytest.raises(UsageError, match="as_python is true or false"):
        jvpcli.inspect(text, as_python="yes")


HELD = """\
import torch
torch.manual_seed(0)
x = torch.tensor([1., 2.], requires_grad=True)
net = torch.nn.Linear(2, 1)
opt = torch.optim.SGD([x], lr=0.1)
for k in range(3):
    (net(x) ** 2).sum().backward()
    opt.step()
    {}
"""


@pytest.mark.parametrize(("clear", "added"), [("pass", 3), ("opt.zero_grad()", 2), ("x.grad.zero_(); net.zero_grad()", 0)])
def test_what_grad_holds_behind_a_call_is_the_result(jvp, clear, added):
    text = HELD.format(clear)
    names: dict[str, object] = {}
    exec(text.rpartition("    opt.step()")[0] + "    if k < 2:\n        opt.step()\n        " + clear + "\n", names)
    leaves = {"x": names["x"], **{f"net.{name}": p for name, p in names["net"].named_parameters()}}
    found = json.loads(jvp("inspect", "-", "--json", stdin=text).out)
    for name, leaf in leaves.items():
        assert torch.allclose(torch.tensor(found["vjp"][name]["value"]), leaf.grad, rtol=1e-5), name
    assert list(found.get("parts") or {}) == (["y", "held"] if added else [])
    said = found["warnings"][-1]["message"]
    told = [name for name in leaves if name in said.partition("these: ")[2].split(", ")]
    assert told == {3: [*leaves], 2: ["net.weight", "net.bias"], 0: []}[added]
    checked = json.loads(jvp("check", "-", "--json", stdin=text).out)
    assert checked["passed"]
    assert ("which isn't in this" in checked["warnings"][-1]["message"]) == bool(added)


def test_statements_of_one_line_are_run_as_well(jvp):
    text = "x = torch.ones(2, requires_grad=True); y = sorted([x.sum(), (3 * x).prod()], key=float)[-1]; y.backward()"
    found = json.loads(jvp("inspect", text, "--json").out)
    assert found["vjp"]["x"]["value"] == [9.0, 9.0]  # by x: 9 x[0] x[1], of the greater
    assert [each["code"] for each in found["warnings"]] == ["as_python"]
    refused = json.loads(jvp("batch", "-", stdin=json.dumps({"expression": text})).out)["error"]
    assert refused["hints"][-1] == WAY.format(command="inspect")


def test_names_of_what_is_around_a_function_are_pythons(jvp):
    text = """
x = torch.tensor([1., 2.], requires_grad=True)
count, total = 0, 0 * x
def add(t):
    global count, total
    count += 1
    total = total + t * count
def make(start):
    value = start
    def following(by):
        nonlocal value
        value = value * 2 + by
        return value
    return following
following = make(x)
for k in range(3):
    add(following(k))
total.sum().backward()
"""
    found = json.loads(jvp("inspect", "-", "--json", stdin=text).out)
    assert [each["code"] for each in found["warnings"]] == ["as_python"]
    assert found["vjp"]["x"]["value"] == [1 * 2 + 2 * 4 + 3 * 8] * 2  # `value` doubles before each is added, so many times
