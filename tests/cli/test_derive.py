"""`jvp derive`: the question's own closed form, and all that is printed of it."""

from __future__ import annotations

import io
import json
import shlex
from contextlib import suppress

import pytest
import torch
from documents import assert_valid

import jvpcli
from jvpcli.render.derive import render_derive, summands
from jvpcli.render.terminal import Terminal

OUTER = """\
torch.outer(x,x)

The function
  y_jk = x_j·x_k

The Jacobian
  ∂y_jk/∂x_i = δ_ij·x_k + δ_ik·x_j
    x_k     if i = j ≠ k
    x_j     if i = k ≠ j
    2·x_i   if i = j = k
    0       otherwise

The vector-Jacobian product, for any v
  ∂L/∂x_i = Σ_k v_ik·x_k + Σ_j v_ji·x_j
  ∂L/∂x = (v + vᵀ)·x
  (v + v.T) @ x

For v = ones
  ∂L/∂x_i = 2·Σ_k x_k
  ∂L/∂x = 2·sum(x)·𝟏
  2*x.sum()*torch.ones_like(x)
"""


def test_the_question_s_own_closed_form(jvp):
    shown = jvp("derive", "torch.outer(x,x)", "--x", "1,2,3,4")
    assert shown.code == 0
    assert not shown.err
    text, verified = shown.out.split("\nVerified\n")
    assert text == OUTER
    assert verified.startswith("  Every form above was compared with torch.autograd in float64 at the point and 3 random ones: ")


def test_the_document(jvp):
    document = json.loads(jvp("derive", "torch.outer(x,x)", "--x", "1,2,3,4", "--tangent", "ones", "--json").out)
    assert_valid(document)
    assert document["indices"] == {"x": "i", "y": "jk"}
    assert document["function"] == {"y": {"formula": "x_j·x_k", "latex": r"x_{j} \, x_{k}"}}
    jacobian = document["jacobian"]["y"]["x"]
    assert jacobian["formula"] == "δ_ij·x_k + δ_ik·x_j"
    assert {"when": "i = j = k", "value": "2·x_i"} in jacobian["cases"]
    vjp = document["vjp"]["x"]
    assert (vjp["formula"], vjp["matrix"], vjp["torch"]) == ("Σ_k v_ik·x_k + Σ_j v_ji·x_j", "(v + vᵀ)·x", "(v + v.T) @ x")
    assert vjp["given"]["formula"] == "2·Σ_k x_k"
    assert vjp["given"]["torch"] == "2*x.sum()*torch.ones_like(x)"
    assert document["verified"]["points"] == 4
    assert document["verified"]["largest_difference"] < 1e-12
    assert document["jvp"]["y"]["torch"] is not None


def test_a_program_name_by_name(jvp):
    steps = json.loads(jvp("derive", "y = torch.outer(x, x); z = y**2", "--x", "1,2,3", "--json").out)["steps"]
    assert steps[0] == {"rule": "what arrives at y", "formula": "∂L/∂y_lm = 2·v_lm·y_lm"}
    assert steps[1] == {"rule": "from there to x", "formula": "∂L/∂x_i = Σ_j ∂L/∂y_ij·x_j + Σ_j ∂L/∂y_ji·x_j"}


@pytest.mark.parametrize("expression", ["torch.outer(x,x)", "y = torch.sin(x); z = y*y.sum()", "(W @ x).tanh()", "x.norm()"])
def test_the_function_passes_gradcheck(jvp, expression):
    inputs = {"x": torch.tensor([0.3, 0.7, -0.4])} | ({"W": torch.randn(2, 3)} if "W" in expression else {})
    result = jvpcli.derive(expression, inputs)
    scope: dict = {}
    exec(result.code, scope)
    order = list(result.report.inputs)
    leaves = [inputs[name].double().requires_grad_() for name in order]
    assert torch.autograd.gradcheck(scope["Derived"].apply, leaves)
    arguments = [word for name in order for word in (f"--{name}", json.dumps(inputs[name].tolist()))]
    assert jvp("derive", expression, *arguments, "--code").out.rstrip("\n") == result.code


def test_latex(jvp):
    assert jvp("derive", "torch.logdet(X)", "--X", "2,1;1,3", "--latex").out == (
        "y = \\operatorname{logdet}(X)\n"
        "\\frac{\\partial y}{\\partial X_{ij}} = \\operatorname{inv}(X)_{ji}\n"
        "\\frac{\\partial L}{\\partial X_{ij}} = v \\, \\operatorname{inv}(X)_{ji}\n"
    )
    assert jvpcli.derive("x*x", x=[1.0, 2.0])._repr_latex_().startswith("$$\\begin{aligned}\ny_{j} &= ")


def test_a_long_sum_has_a_line_for_each_term():
    expression = "(x - y).abs().sum() + (A @ x) @ torch.sin(A @ y) + torch.exp(x @ y) + torch.tanh(x.sum()) - (x**3).sum()"
    report = jvpcli.derive(expression, shape={"x": "3", "y": "3", "A": "2,3"}, wrt="x").report
    console = Terminal(width=60, file=io.StringIO())
    render_derive(report, console)
    text = console.file.getvalue()
    assert text.split("The Jacobian")[0].split("The function\n")[1] == (
        "  out = Σ_i |x_i − y_i|\n"
        "      + Σ_ij A_ij·x_j·sin(Σ_k A_ik·y_k)\n"
        "      + exp(Σ_i x_i·y_i)\n"
        "      + tanh(Σ_i x_i)\n"
        "      − Σ_i x_i³\n\n"
    )


@pytest.mark.parametrize(
    ("formula", "inside", "terms"),
    [
        ("a + b − c", 0, ["a", "+ b", "− c"]),
        ("v·(a + b) − |c + d| + [e + f > 0]", 0, ["v·(a + b)", "− |c + d|", "+ [e + f > 0]"]),
        ("v·(a + f(b − c))", 0, ["v·(a + f(b − c))"]),
        ("v·(a + f(b − c))", 1, ["v·(a", "+ f(b − c))"]),
        ("v·f(a + b)·((c − d)/(e + f) + g)", 2, ["v·f(a + b)·((c", "− d)/(e + f)", "+ g)"]),
        ("−a", 2, ["−a"]),
    ],
)
def test_summands(formula, inside, terms):
    assert summands(formula, inside) == terms
    assert " ".join(terms) == formula


def test_what_has_no_form_says_why(jvp):
    document = json.loads(jvp("derive", "torch.linalg.qr(x)[1]", "--x", "1,2;3,4", "--json").out)
    assert_valid(document)
    assert document["vjp"]["x"]["torch"] is None
    assert "qr has no index form" in document["vjp"]["x"]["reason"]
    assert document["code"] is None


@pytest.mark.parametrize(
    ("text", "point", "reason"),
    [
        ("torch.linalg.det(x)", "1,2;2,4", "inverts a matrix that has no inverse at this point"),
        ("x.prod()", "0,2,3", "comes to NaN at this point"),
    ],
)
def test_a_form_that_fails_at_the_point_is_shown_at_another(jvp, text, point, reason):
    failed = json.loads(jvp("derive", text, "--x", point, "--json").out)["vjp"]["x"]
    assert failed["torch"] is None
    assert reason in failed["reason"]
    elsewhere = json.loads(jvp("derive", text, "--x", point.replace("0", "5").replace("4", "7"), "--json").out)["vjp"]["x"]
    x = torch.tensor([[1.0, 2], [2, 4]] if ";" in point else [0.0, 2, 3])
    with suppress(torch.linalg.LinAlgError):  # the form of the other point, at this one
        assert not eval(elsewhere["given"]["torch"], {"torch": torch, "x": x}).isfinite().all()


def test_the_command_for_complex_numbers_works(jvp):
    error = json.loads(jvp("derive", "z.abs()**2", "--z", "1+2j,3", "--json").out)["error"]
    (command,) = error["hints"]
    found = json.loads(jvp(*shlex.split(command)[1:], "--json").out)
    assert found["vjp"]["z"]["value"] == [[2.0, 4.0], [6.0, 0.0]]  # ∂|z|²/∂Re z + i ∂|z|²/∂Im z = 2z


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["x.abs()", "--x", "1+2j"], 2),
        (["x.detach()", "--x", "1,2"], 6),
        (["x +", "--x", "1"], 3),
        (["torch.outer(x, x)", "--x", "1,2", "-g", "1,2"], 4),
    ],
)
def test_refusals(jvp, argv, code):
    assert jvp("derive", *argv).code == code


def test_shapes_alone(jvp):
    document = json.loads(jvp("derive", "torch.tanh(W @ x)", "--shape", "W=m,n", "--shape", "x=n", "--json").out)
    assert_valid(document)
    assert (document["sizes"], document["any_size"]) == ({"m": 3, "n": 4}, True)
    assert document["inputs"]["W"]["shape"] == [3, 4]
    assert document["vjp"]["x"]["torch"] == "W.T @ ((1 - torch.tanh(W @ x)**2)*v)"
    of_a_mean = jvpcli.derive("x.mean()", shape={"x": "n"})
    assert of_a_mean.report.any_size is False
    assert "The forms are those for n = 3: numbers or code in them depend on the sizes." in str(of_a_mean)
    assert jvpcli.derive("x.mean()", shape={"x": "5"}).report.any_size is None


def test_the_second_derivative(jvp):
    argv = ("((A @ x - b)**2).sum()", "--A", "1,2;3,4;5,6", "--x", "1,2", "--b", "1,0,1", "--wrt", "x", "--hessian")
    document = json.loads(jvp("derive", *argv, "--json").out)
    assert_valid(document)
    block = document["hessian"]["x"]["x"]
    assert (block["formula"], block["matrix"]) == ("2·v·Σ_k A_ki·A_kj", "2·v·Aᵀ·A")
    assert block["given"]["torch"] == "2*A.T @ A"
    assert "∂²L/∂x_i∂x_j = 2·Σ_k A_ki·A_kj" in jvp("derive", *argv).out


@pytest.mark.parametrize(
    "expression",
    ["torch.sin(x)*y", "torch.logsumexp(x*y, 0)", "(x @ y)**3", "x/x.norm()", "torch.outer(x, x)", "x.sum()", "F.silu(x)"],
)
def test_second_derivatives_by_double_backward(expression):
    torch.manual_seed(0)
    inputs = {name: torch.randn(3, dtype=torch.float64) for name in ("x", "y") if name in expression}
    result = jvpcli.derive(expression, inputs, hessian=True)
    leaves = [inputs[name].clone().requires_grad_() for name in inputs]
    v = torch.randn_like(result_of(expression, dict(zip(inputs, leaves, strict=True))))

    def loss(*xs):
        return (result_of(expression, dict(zip(inputs, xs, strict=True))) * v).sum()

    wanted = torch.autograd.functional.hessian(loss, tuple(leaves))
    for (k, x), (m, w) in ((a, b) for a in enumerate(inputs) for b in enumerate(inputs)):
        code = result.hessian[x, w].torch
        got = torch.as_tensor(eval(code, {"torch": torch, "v": v, **inputs})).double()
        torch.testing.assert_close(got, wanted[k][m])


def result_of(expression, tensors):
    return eval(expression, {"torch": torch, "F": torch.nn.functional, **tensors})


@pytest.mark.parametrize("shape", ["x=n+1", "x=a,b,c,d,e,f,g", "y=n", "x"])
def test_shapes_that_are_none(jvp, shape):
    assert jvp("derive", "x.sum()", "--shape", shape).code in (2, 3)


def test_a_function_of_python_is_refused():
    with pytest.raises(jvpcli.JvpError, match="derive reads an expression"):
        jvpcli.derive(lambda x: x * x, {"x": torch.ones(2)})


def test_v_and_u_may_be_inputs():
    result = jvpcli.derive("v*u", v=torch.tensor([1.0, 2.0]), u=torch.tensor([3.0, 4.0]))
    assert result.report.names["y"] == "v_"
    assert result.vjp["v"].torch == "v_*u"


def test_a_batch(jvp, tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"id": 1, "command": "derive", "expression": "x*x", "inputs": {"x": [1.0, 2.0]}}\n')
    answer = json.loads(jvp("batch", str(path)).out)
    assert (answer["id"], answer["vjp"]["x"]["torch"]) == (1, "2*v*x")


def test_a_page_beside_the_answer(jvp, tmp_path):
    path = tmp_path / "page.html"
    argv = ("derive", "torch.outer(x,x)", "--x", "1,2", "--json")
    assert jvp(*argv, "--html", str(path)).out == jvp(*argv).out
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert jvp(*argv, "--html", "-").code == 2


def test_no_index_is_called_as_a_size_or_a_tensor(jvp):
    sizes = json.loads(jvp("derive", "W @ x + b", "--shape", "W=m,n", "--shape", "x=n", "--shape", "b=m", "--json").out)
    assert not set("mn") & set("".join(sizes["indices"].values()))
    named = json.loads(jvp("derive", "i @ k", "--i", "1,2;3,4", "--k", "1,2;3,4", "--json").out)
    assert named["function"]["y"]["formula"] == "Σ_j i_pj·k_jq"


def test_bounds_and_zeros_have_code(jvp):
    x = torch.tensor([-2.0, 0.3, 2.0], dtype=torch.float64)
    result = jvpcli.derive("torch.clamp(x, -1, 1)*2", {"x": x}, hessian=True)
    v = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert eval(result.vjp["x"].torch, {"torch": torch, "x": x, "v": v}).tolist() == [0.0, 4.0, 0.0]
    zeros = eval(result.hessian["x", "x"].torch, {"torch": torch, "x": x, "v": v})
    assert (zeros.dtype, zeros.tolist()) == (torch.float64, [[0.0] * 3] * 3)


@pytest.mark.parametrize(("text", "decided"), [
    ("x if c > 0 else -x", True),
    ("y = x\nwhile y.norm() < 10:\n    y = y * 2\ny", True),
    ("x.roll(int(c))", True),
    ("x if True else -x", False),
    ("x.sum() / x.shape[0]", False),
    ("[x * k for k in range(2)]", False),
])  # fmt: skip
def test_forms_of_what_runs_here_are_called_so(text, decided):
    result = jvpcli.derive(text, x=[1.0, 2.0], **({"c": 1.0} if "c >" in text or "(c)" in text else {}))
    assert [notice.claim for notice in result.report.warnings] == ["decided"] * decided


def test_a_precision_that_the_text_names_is_no_hindrance(jvp):
    """In double precision, where forms are verified, such a text fails; nothing else of it changes."""
    named = "(x @ torch.full((2, 2), 3., dtype=torch.float32)).sum() + x[0].tanh()"
    texts = named, named.replace(", dtype=torch.float32", "")
    told, plain = (json.loads(jvp("derive", text, "--x", "1,2", "--json").out) for text in texts)
    assert told["jacobian"]["y"]["x"]["formula"] == "6 + δ_i,0·(1 − tanh(x_0)²)"
    assert {**told, "expression": "", "code": ""} == {**plain, "expression": "", "code": ""}


RESIDUAL = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.5))
    def forward(self, x):
        return torch.sin(self.a * x)
net = Net()
x = torch.tensor([1., 2., 3.], requires_grad=True)
u = net(x)
u_x = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
(u_xx + u).pow(2).sum().backward()
"""


def test_the_residual_of_a_pasted_equation_has_a_form(jvp):
    """u = sin(a x): u″ + u = (1 − a²) sin(a x), whatever way the derivatives were asked for."""
    told = json.loads(jvp("derive", "-", "--wrt", "net.a", "--json", stdin=RESIDUAL).out)
    (form,) = told["function"].values()
    assert form["formula"] == "Σ_i (sin(net_a·x_i) − net_a²·sin(net_a·x_i))²"
    assert told["verified"]["points"] == 4
    (product,) = told["vjp"].values()
    code = product["given"]["torch"]
    net_a, x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (wanted,) = torch.autograd.grad((((1 - net_a**2) * torch.sin(net_a * x)) ** 2).sum(), net_a)
    torch.testing.assert_close(eval(code, {"torch": torch, "net_a": net_a.detach(), "x": x}), wanted)


def test_what_is_drawn_is_known_by_its_name(jvp):
    """Of numbers that are drawn without one nothing is said."""
    text = "w = torch.randn(3); torch.tanh(w * x).sum()"
    told = json.loads(jvp("derive", text, "--x", "1,2,3", "--json").out)
    assert told["jacobian"]["y"]["x"]["formula"] == "w_i·(1 − tanh(w_i·x_i)²)"
    assert told["verified"]["points"] == 4
    assert "j_k·x_l" in jvp("derive", "j = torch.randn(2); torch.outer(j, x)", "--x", "1,2").out  # no index is called so
    nameless = json.loads(jvp("derive", "torch.randn(3) * x", "--x", "1,2,3", "--json").out)
    assert nameless["function"]["y"]["reason"] == "`torch.randn(3)` draws random numbers that have no name"
    twice = json.loads(jvp("derive", "w = torch.randn(3); w = w * torch.randn(3); w * x", "--x", "1,2,3", "--json").out)
    assert twice["function"]["y"]["formula"] is None
