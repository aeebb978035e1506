"""A pasted derivative call on the command line and in a batch: how it was read, what PyTorch raises, and several v."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any

import pytest
import torch

import jvpcli

SEVERAL = "torch.autograd.grad(W@x, x, torch.eye(2), is_grads_batched=True)"
INPUTS = ("--x", "1,2", "--W", "1,2;3,4")


def test_what_pytorch_raises_stands_first(jvp):
    plain = jvp("inspect", "y = W@x; y.backward(retain_graph=True)", *INPUTS)
    assert plain.code == 0
    assert plain.err == (
        'read as: jvp inspect "y = W@x; y" --x 1,2 --W "1,2;3,4" --grad-outputs implicit\n'
        "retain_graph=True changes no number here: it is about the graph, which is kept for this answer alone.\n"
    )
    assert plain.out.startswith(
        "y = W@x; y\n\nPyTorch raises\n  RuntimeError: grad can be implicitly created only for scalar outputs\n"
    )
    document = json.loads(jvp("inspect", "y = W@x; y.backward()", *INPUTS, "--json").out)
    assert document["refusal"]["message"] == "RuntimeError: grad can be implicitly created only for scalar outputs"
    assert document["vjp"]["x"]["value"] == [4, 6]
    assert document["grad_outputs"]["y"] == {"source": "ones", "shape": [2], "dtype": "float32", "value": [1, 1]}


def test_a_scalar_needs_no_v(jvp):
    document = json.loads(jvp("inspect", "y = (W@x).sum(); y.backward()", *INPUTS, "--json").out)
    assert "refusal" not in document


def test_a_row_for_each_v(jvp):
    document = json.loads(jvp("inspect", SEVERAL, *INPUTS, "--json").out)
    assert document["vjp"]["x"] == {"shape": [2, 2], "dtype": "float32", "value": [[1, 2], [3, 4]]}
    assert document["is_grads_batched"] is True
    same = jvp("inspect", "W@x", "-g", "torch.eye(2)", "--is-grads-batched", "--wrt", "x", *INPUTS, "--json")
    assert json.loads(same.out)["vjp"] == document["vjp"]


def test_one_at_a_time_where_one_is_followed(jvp, tmp_path):
    told = jvp("trace", SEVERAL, *INPUTS)
    assert told.code == 2
    assert "takes one v, and is_grads_batched=True gives several" in " ".join(told.err.split())
    told = jvp("inspect", "x*2", "--x", "1,2", "-g", "torch.eye(2)", "--is-grads-batched", "--html", str(tmp_path / "a.html"))
    assert told.code == 2


def test_several_are_checked_as_any_and_together(jvp):
    told = jvp("check", SEVERAL, *INPUTS)
    assert told.err.startswith('read as: jvp check "W@x" ')
    same = jvp("check", "W@x", *INPUTS, "--wrt", "x", "--batched")
    assert (told.code, told.out) == (same.code, same.out)
    assert "many cotangents at once   agree" in told.out


@pytest.mark.parametrize("option", ["allow_unused", "materialize_grads"])
def test_what_nothing_reads_is_left_out_where_the_call_allows_it(jvp, option):
    call = f"torch.autograd.grad((x**2).sum(), (x, w), {option}=True)"
    told = jvp("inspect", call, "--x", "1,2", "--w", "3")
    assert told.code == 0
    assert told.err.splitlines()[0] == 'read as: jvp inspect "(x**2).sum()" --x 1,2 --grad-outputs implicit --wrt x'
    assert told.err.splitlines()[2] == "nothing reads w, which is left out here: the result is for the others."
    refused = jvp("inspect", call.replace(f", {option}=True", ""), "--x", "1,2", "--w", "3")
    assert refused.code == 2
    assert "appears to not have been used in the graph" in " ".join(refused.err.replace("│", " ").split())


def test_a_line_of_a_batch_too(jvp):
    inputs = {"x": [1, 2], "W": [[1, 2], [3, 4]]}
    lines = [
        {"expression": SEVERAL, "inputs": inputs},
        {"expression": "y = W@x; y.backward()", "inputs": inputs},
        {"expression": "W@x", "inputs": inputs, "grad_outputs": [[1, 0], [0, 1]], "is_grads_batched": True, "wrt": ["x"]},
        {"expression": SEVERAL, "inputs": inputs, "command": "trace"},
    ]
    answers = [json.loads(line) for line in jvp("batch", stdin="\n".join(map(json.dumps, lines)) + "\n").out.splitlines()]
    assert answers[0]["vjp"]["x"]["value"] == answers[2]["vjp"]["x"]["value"] == [[1, 2], [3, 4]]
    assert answers[1]["refusal"]["message"].startswith("RuntimeError: grad can be implicitly created")
    assert answers[3]["error"]["code"] == "usage"


# What Python gives for the same text


X, W = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64), torch.tensor([2.0, 1.0, -0.5], dtype=torch.float64)


def scope_of(text: str, **more: Any) -> dict[str, Any]:
    """What the names of a program mean once Python has run it, its last expression as `_`."""
    scope: dict[str, Any] = {"torch": torch, "x": X.clone().requires_grad_(), "w": W.clone().requires_grad_(), **more}
    scope["print"] = lambda *_: None
    tree = ast.parse(text)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], tree.body[-1].value)
    exec(compile(ast.fix_missing_locations(tree), "text", "exec"), scope)
    return scope


def leaves_of(value: Any) -> list[torch.Tensor]:
    return [x.detach() for x in torch.utils._pytree.tree_leaves(value) if isinstance(x, torch.Tensor)]


def asked(jvp, text: str, *options: str, command: str = "inspect") -> dict[str, Any]:
    """The document for a text, with x and w given in double precision where it reads them."""
    given = [f"--{name}={','.join(map(str, value.tolist()))}" for name, value in (("x", X), ("w", W)) if reads(text, name)]
    done = jvp(command, text, *given, "--dtype", "float64", "--json", *options)
    document = json.loads(done.out)
    assert document["ok"], document
    return document


def reads(text: str, name: str) -> bool:
    made = any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(ast.parse(text)))
    return made and f"{name} = torch.tensor" not in text


def tensors(values: dict[str, Any]) -> list[torch.Tensor]:
    return [torch.tensor(value["value"], dtype=torch.float64) for value in values.values()]


# Which call is meant


SEVERAL_CALLS = """y = (x ** 3).sum()
g = torch.autograd.grad(y, x, create_graph=True)[0]
print(g.shape)
z = (g * w).sum()
torch.autograd.grad(z, [x, w], retain_graph=True)
torch.autograd.grad(torch.outer(x, w), w, grad_outputs=torch.ones(3, 3))[0]"""

CALLS = [
    {"number": 1, "line": 2, "source": "torch.autograd.grad(y, x, create_graph=True)", "explained": False},
    {"number": 2, "line": 5, "source": "torch.autograd.grad(z, [x, w], retain_graph=True)", "explained": False},
    {"number": 3, "line": 6, "source": "torch.autograd.grad(torch.outer(x, w), w, grad_outputs=torch.ones(3, 3))",
     "explained": False},
]  # fmt: skip


def test_the_last_call_is_meant_and_a_number_picks_another(jvp):
    for number, call in enumerate(CALLS, 1):
        document = asked(jvp, SEVERAL_CALLS, *(() if number == 3 else ("--call", str(number))))
        assert document["calls"] == [{**each, "explained": each == call} for each in CALLS]
        assert document["passed_over"] == [{"what": "print", "line": 3}]
        before = SEVERAL_CALLS.splitlines()[: call["line"] - 1]
        expected = scope_of("\n".join([*before, call["source"]]))["_"]
        torch.testing.assert_close(tensors(document["vjp"]), leaves_of(expected))


def test_they_are_listed_before_the_answer(jvp):
    told = jvp("inspect", SEVERAL_CALLS, "--x", "1,2,3", "--w", "1,2,3", "--call", "2")
    assert told.out.split("\n\n")[1] == (
        "The derivative calls\n"
        "  1   line 2   torch.autograd.grad(y, x, create_graph=True)                               --call 1\n"
        "  2   line 5   torch.autograd.grad(z, [x, w], retain_graph=True)                          this answer\n"
        "  3   line 6   torch.autograd.grad(torch.outer(x, w), w, grad_outputs=torch.ones(3, 3))   --call 3"
    )
    for command in ("trace", "check", "hessian"):
        assert "this answer" in jvp(command, SEVERAL_CALLS, "--x", "1,2,3", "--w", "1,2,3", "--call", "2").out
    assert "The derivative calls" not in jvp("inspect", "torch.autograd.grad(x.sum(), x)", "--x", "1").out


def test_a_number_that_there_is_not(jvp):
    error = json.loads(jvp("inspect", "g = torch.autograd.grad(x.sum(), x)\nx.sum().backward()", "--x", "1", "--call", "3",
                           "--json").out)["error"]  # fmt: skip
    assert (error["code"], error["message"]) == ("usage", "there is no derivative call number 3")
    assert error["explanation"] == "The calls are 1: line 1, torch.autograd.grad(x.sum(), x); 2: line 2, x.sum().backward()."
    assert jvp("inspect", "x.sum()", "--x", "1", "--call", "1").code == 2
    assert jvp("inspect", "x.sum().backward()", "--x", "1", "--call", "0").code == 2


def test_a_call_inside_of_an_equation_can_be_picked(jvp):
    text = "h = x - 0.5 * torch.autograd.grad((x ** 2 * w).sum(), x, create_graph=True)[0]\n(h ** 2).sum()"
    whole = asked(jvp, text)
    assert [call["explained"] for call in whole["calls"]] == [False]
    scope = scope_of(text)
    torch.testing.assert_close(tensors(whole["vjp"]), list(torch.autograd.grad(scope["_"], [scope["x"], scope["w"]])))
    torch.testing.assert_close(tensors(asked(jvp, text, "--call", "1")["vjp"]), [2 * X * W])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_grad_holds_after_each_backward(jvp, number):
    text = "y = x ** 2\ny.sum().backward()\ny = x ** 3\n(y * 2).sum().backward()\nx.grad.zero_()\n(y * x).sum().backward()"
    text = text.replace("(y * 2).sum().backward()", "(y * 2).sum().backward(retain_graph=True)")
    lines = text.splitlines()[: [2, 4, 6][number - 1]]
    document = asked(jvp, text, "--call", str(number))
    torch.testing.assert_close(tensors(document["vjp"]), [scope_of("\n".join(lines))["x"].grad])
    assert [call["explained"] for call in document["calls"]] == [[True, False, False], [True, True, False],
                                                                 [False, False, True]][number - 1]  # fmt: skip


ANEW = {
    "two examples": """x = torch.tensor([1., 2.], requires_grad=True)
y = (x ** 2).sum()
y.backward()
print(x.grad)
x = torch.tensor([3., 4.], requires_grad=True)
y = (x ** 3).sum()
y.backward()""",
    "one that shares a leaf": """x = torch.tensor([1., 2.], requires_grad=True)
w = torch.tensor([1., 1.], requires_grad=True)
(x * w).sum().backward()
x = torch.tensor([3., 4.], requires_grad=True)
(x * w).sum().backward()""",
    "one made of the one before": """x = torch.tensor([1., 2.], requires_grad=True)
(x ** 2).sum().backward()
x = (x * 5).detach().requires_grad_()
(x ** 2).sum().backward()""",
    "switched on": """x = torch.tensor([1., 2.])
x.requires_grad_()
d = x.detach() * 3
(x ** 2).sum().backward()
x = torch.tensor([2., 2.])
x.requires_grad = True
f = lambda x: x ** 2
(f(x) * d).sum().backward()""",
    "three times": """x = torch.tensor([1., 2.], requires_grad=True)
torch.autograd.grad((x ** 2).sum(), x)
x = torch.tensor([5., 2.], requires_grad=True)
torch.autograd.grad((x ** 2).sum(), x)
x = torch.tensor([7., 2.], requires_grad=True)
(x ** 2).sum().backward()""",
}


@pytest.mark.parametrize("name", ANEW)
def test_a_leaf_that_is_made_anew(jvp, name):
    """A script is run by Python; a session, which goes on where a call has failed, is read where the last question is another."""
    scope = scope_of(ANEW[name])

    def compare(found):
        held = {key: scope[key].grad for key in ("x", "w") if key in found and scope[key].grad is not None}
        assert "x" in held
        torch.testing.assert_close({key: torch.tensor(found[key]["value"]) for key in held}, held)

    document = json.loads(jvp("inspect", ANEW[name], "--json").out)
    assert [each["code"] for each in document["warnings"]] == ["as_python"]
    compare(document["vjp"])
    first = json.loads(jvp("inspect", ANEW[name], "--call", "1", "--json").out)["vjp"]
    assert first["x"]["value"] == ([1.0, 1.0] if "shares" in name else [2.0, 4.0])
    session = "\n".join(f">>> {line}" for line in ANEW[name].replace("\n", "\nx.grad.nothing()\n", 1).split("\n"))
    answer = json.loads(jvp("batch", "-", stdin=json.dumps({"expression": session})).out)
    if name in ("two examples", "three times"):
        compare(answer["vjp"])
    else:
        assert answer["error"]["code"] == "forbidden"


@pytest.mark.parametrize("text", [
    "v = torch.ones(3)\n(x ** 2).backward(v)\nv = v * 3\n(x ** 3).backward(v)",
    "a = x ** 2\nb = x ** 3\ntorch.autograd.backward([a, b], [w.detach(), w.detach() * 2])\na = x * 0\n"
    "(a + x * w).sum().backward()",
    "a = x ** 2\ntorch.autograd.backward([a, x ** 3], [torch.ones(3), w.detach()])\n(x * w).sum().backward()",
    "(x * w).sum().backward(inputs=[x])\n(x ** 2).sum().backward(inputs=[x])", "(x * w).sum().backward(inputs=x)",
    "torch.autograd.backward((x * w).sum(), inputs=[w])",
])  # fmt: skip
def test_what_several_backwards_add_up_to(jvp, text):
    scope = scope_of(text)
    held = {name: scope[name].grad for name in ("x", "w") if scope[name].grad is not None}
    found = asked(jvp, text)["vjp"]
    torch.testing.assert_close({name: tensors({name: value})[0] for name, value in found.items() if name in held}, held)
    assert all(not torch.tensor(value["value"]).any() for name, value in found.items() if name not in held)


def test_several_backwards_and_their_parts(jvp):
    text = "(x ** 2).sum().backward()\n(x * w).sum().backward()\nx.grad"
    document = asked(jvp, text)
    scope = scope_of(text)
    torch.testing.assert_close(tensors(document["vjp"]), [scope["x"].grad, scope["w"].grad])
    parts = document["parts"]
    torch.testing.assert_close(tensors(parts["y0"]), [2 * X, 0 * W])
    torch.testing.assert_close(tensors(parts["y1"]), [W, X])
    told = jvp("inspect", text, "--x", "1,2", "--w", "3,4")
    assert "∂L/∂x = [5., 8.]\n    of which by y0 [2., 4.]\n    of which by y1 [3., 4.]\n" in told.out
    assert "of 2 calls of backward PyTorch adds the gradients up in .grad" in told.err
    assert "parts" not in asked(jvp, "(x ** 2).sum().backward()")


def test_a_gradient_that_is_read_between_two_backwards(jvp):
    text = "(x ** 2).sum().backward()\ng = x.grad * 2\n(x ** 3 * g).sum().backward()\nx.grad"
    scope = scope_of(text.replace("x.grad * 2", "x.grad.clone() * 2"))
    torch.testing.assert_close(tensors(asked(jvp, text)["vjp"]), [scope["x"].grad])


# Around a call


LOOKED_AT = [
    "-torch.autograd.grad((x ** 2).sum(), x)[0]", "torch.autograd.grad((x ** 2).sum(), x)[0].norm()",
    "torch.autograd.grad((x ** 2).sum(), x)[0].shape", "print(torch.autograd.grad((x ** 2).sum(), x)[0].tolist())",
    "g = torch.autograd.grad((x ** 2).sum(), x)[0]\n-g", "g = torch.autograd.grad((x ** 2).sum(), x)\ng[0].norm().item()",
    "(x ** 2).sum().backward()\n-x.grad", "(x ** 2).sum().backward()\nx.grad.norm()", "(x ** 2).sum().backward()\nx.grad.shape",
    "(x ** 2).sum().backward()\nx.grad[1:].sum()", "torch.autograd.functional.vjp(lambda t: t ** 2, x, torch.ones(3))[1].norm()",
    "torch.func.grad(lambda t: (t ** 2).sum())(x).shape",
]  # fmt: skip


@pytest.mark.parametrize("text", LOOKED_AT)
def test_what_is_made_of_a_gradient_without_a_graph_leads_to_the_call(jvp, text):
    torch.testing.assert_close(tensors(asked(jvp, text)["vjp"]), [2 * X])
    told = jvp("inspect", text, "--x", "1,2,3").err.splitlines()
    assert any(line.endswith("is made of what the call gives, and has no derivative in PyTorch: the call itself is explained.")
               for line in told), told  # fmt: skip


@pytest.mark.parametrize("compared", ["torch.allclose({}, 2 * x)", "({} == 2 * x).all()", "torch.equal(2 * x, {})"])
def test_what_a_call_gives_is_compared_with_something(jvp, compared):
    for call in ("torch.func.grad(lambda t: (t ** 2).sum())(x)", "torch.autograd.grad((x ** 2).sum(), x)[0]"):
        torch.testing.assert_close(tensors(asked(jvp, f"print({compared.format(call)})")["vjp"]), [2 * X])


def test_the_shape_of_what_a_composed_function_gives(jvp):
    call = "torch.func.vmap(torch.func.jacrev(lambda t: t ** 3))(x)"
    torch.testing.assert_close(blocks(asked(jvp, f"{call}.shape")), [torch.diag(scope_of(call)["_"])])


def test_what_is_made_of_a_gradient_with_a_graph_is_the_answer(jvp):
    for text in ("torch.func.grad(lambda t: (t ** 3).sum())(x).norm()",
                 "-torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0]"):  # fmt: skip
        torch.testing.assert_close(tensors(asked(jvp, text)["outputs"]), leaves_of(scope_of(text)["_"]))


# Functions, composed


OF_FUNCTIONS = [
    "torch.func.jacrev(torch.func.jacfwd(lambda t: t ** 3 * w))(x)", "torch.func.jacfwd(torch.func.jacrev(f))(x)",
    "torch.func.hessian(f)(x)", "torch.func.hessian(lambda t, k: (t ** k).sum())(x, 3)",
    "torch.func.hessian(lambda a, b: (a ** 2 * b).sum(), argnums=(1, 0))(x, w)",
    "torch.func.hessian(lambda a, b: (a * b ** 3).sum(), argnums=1)(x, w)",
    "torch.func.jacrev(torch.func.grad(f))(x * 2)", "torch.func.jacrev(torch.func.vmap(lambda t: t ** 3))(x)",
    "torch.autograd.functional.jacobian(lambda t: t ** 2 * w, x * 2)", "torch.autograd.functional.jacobian(f, x[:2])",
    "torch.autograd.functional.jacobian(lambda a, b: a * b, (x * 2, w))", "torch.func.jacrev(lambda t: t * x)(x * 2)",
    "torch.autograd.functional.hessian(f, x)", "torch.autograd.functional.hessian(lambda a, b: (a ** 2 * b).sum(), (w, x))",
    "torch.func.jacrev(lambda a, n: a ** n)(x, 3)", "h = x * 2\ntorch.func.jacrev(lambda a, b: a * b, argnums=(1, 0))(x, h)",
]  # fmt: skip
DEFINED = "def f(t):\n    return (t ** 3).sum() * t[0]\n"


def blocks(document: dict[str, Any]) -> list[torch.Tensor]:
    """The Jacobians, by output and then by input, in the alphabet's order."""
    found = [block for of in document["jacobian"].values() for _, block in sorted(of.items())]
    return [torch.tensor(block["value"], dtype=torch.float64) for block in found]


@pytest.mark.parametrize("text", OF_FUNCTIONS)
def test_a_jacobian_of_a_function(jvp, text):
    text = DEFINED + text if "f)" in text or "(f," in text else text
    torch.testing.assert_close(blocks(asked(jvp, text)), leaves_of(scope_of(text)["_"]))


PRODUCTS = [
    ("torch.func.grad(lambda a, b: (a * b).sum(), argnums=(0, 1))(x, w)", "vjp"),
    ("torch.func.grad(lambda a, b: (a * b).sum(), argnums=1)(x, x * 2)", "vjp"),
    ("torch.func.grad(lambda a, n: (a ** n).sum())(x * 2, 3)", "vjp"),
    ("torch.func.vjp(lambda a, b: a * b, x, w)[1](x + 1)", "vjp"),
    ("_, pull = torch.func.vjp(lambda a, b: a * b, x, w)\nv = torch.ones(3, dtype=torch.float64)\npull(v)\npull(2 * v)", "vjp"),
    ("torch.func.vjp(torch.func.grad(lambda t: (t ** 3).sum()), x)[1](w)", "vjp"),
    ("torch.func.grad(lambda a: ((a ** 2).sum(), a * 5), has_aux=True)(x)[0]", "vjp"),
    ("J = torch.func.vmap(torch.func.grad(lambda t, k: t ** 3 * k), in_dims=(0, None))(x, w[0])\nJ.shape\nJ", "vjp"),
    ("torch.autograd.functional.vjp(lambda a, b: a * b, (x, w), x)[1]", "vjp"),
    ("torch.autograd.functional.hvp(lambda a, b: (a ** 2 * b).sum(), (x, w), (w, x))[1]", "vjp"),
    ("torch.autograd.functional.vhp(lambda a, b: (a ** 2 * b).sum(), (x, w), (w, x))[1]", "vjp"),
    ("torch.func.jvp(lambda a, b: a * b, (x, w), (w, x))[1]", "jvp"),
    ("torch.func.jvp(torch.func.grad(lambda t: (t ** 3).sum()), (x,), (w,))[1]", "jvp"),
    ("torch.autograd.functional.jvp(lambda a, b: a * b, (x, w), (w, x))[1]", "jvp"),
]


@pytest.mark.parametrize(("text", "kind"), PRODUCTS)
def test_a_product_of_a_function(jvp, text, kind):
    torch.testing.assert_close(tensors(asked(jvp, text)[kind]), leaves_of(scope_of(text)["_"]))


@pytest.mark.parametrize("text", [
    "h = x * 2\ntorch.func.grad(lambda a, b: (a * b).sum())(x, h)", "torch.func.grad(lambda a, b: (a * b).sum())(x, x * 2)",
    "h = x ** 2\ntorch.autograd.grad((h * x).sum(), (h, x))", "h = x ** 2\nk = h * x\ntorch.autograd.grad((h * k).sum(), (h, k))",
])  # fmt: skip
def test_a_call_whose_inputs_depend_on_each_other_is_a_value(jvp, text):
    torch.testing.assert_close(tensors(asked(jvp, text)["outputs"]), leaves_of(scope_of(text)["_"]))


def test_a_second_derivative_is_what_hessian_answers(jvp):
    composed = "torch.func.jacfwd(torch.func.grad(f))(x)"
    for text in ("torch.autograd.functional.hessian(f, x)", "torch.func.hessian(f)(x)", composed):
        found = asked(jvp, DEFINED + text, command="hessian")["hessian"]["x"]["x"]
        torch.testing.assert_close(torch.tensor(found["value"], dtype=torch.float64), scope_of(DEFINED + text)["_"].detach())
    for text in ("torch.autograd.functional.hvp(f, x, w)[1]", "torch.func.jvp(torch.func.grad(f), (x,), (w,))[1]"):
        found = asked(jvp, DEFINED + text, command="hessian")["hvp"]
        torch.testing.assert_close(tensors(found), leaves_of(scope_of(DEFINED + text)["_"]))


def test_functions_of_a_file(jvp, tmp_path):
    (tmp_path / "own.py").write_text("def cube(t, k=1):\n    return (t ** 3).sum() * k\n")
    import_it = ("--import", str(tmp_path / "own.py"))
    cube = {"cube": lambda t, k=1: (t**3).sum() * k}
    jacobian = "torch.autograd.functional.jacobian(cube, x * 2)"
    for text in ("torch.func.hessian(cube)(x)", jacobian, "torch.func.jacrev(cube)(x, 2)"):
        torch.testing.assert_close(blocks(asked(jvp, text, *import_it)), leaves_of(scope_of(text, **cube)["_"]))


# The options of torch.autograd.grad


def raised(text: str) -> str | None:
    """What PyTorch raises for a program."""
    try:
        scope_of(text)
    except RuntimeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("inputs", ["x", "[x]", "(x,)", "(x, w)", "[w, x]"])
@pytest.mark.parametrize("options", [
    "", ", allow_unused=True", ", materialize_grads=True", ", retain_graph=True", ", create_graph=False",
    ", None, True, False, True", ", allow_unused=True, materialize_grads=True",
])  # fmt: skip
def test_every_option_of_grad(jvp, inputs, options):
    text = f"torch.autograd.grad((x ** 2 * {'w' if 'w' in inputs and not options else 1}).sum(), {inputs}{options})"
    given = ["--x=0.5,-1.5,2.0", *(["--w=2.0,1.0,-0.5"] if reads(text, "w") else []), "--dtype", "float64", "--json"]
    document = json.loads(jvp("inspect", text, *given).out)
    if (refused := raised(text)) is not None:
        assert document["error"]["torch_message"] == refused
        return
    expected = scope_of(text)["_"]
    names = [name for name in "wx" if name in inputs]
    names = names if inputs.startswith("[w") else names[::-1]
    for name, value in zip(names, expected, strict=True):
        if value is None or not value.any():  # nothing reads it, which is told
            assert name not in document["vjp"]
        else:
            torch.testing.assert_close(torch.tensor(document["vjp"][name]["value"], dtype=torch.float64), value)


@pytest.mark.parametrize("text", [
    "v = x[:2]\ny = (x ** 2).sum()\ntorch.autograd.grad(y, v)", "v = x.view(3, 1)\ntorch.autograd.grad((x ** 2).sum(), v)",
    "torch.autograd.grad((x ** 2).sum(), x[0])", "v = x.clone()\ntorch.autograd.grad((x ** 2).sum(), (x, v))",
])  # fmt: skip
def test_a_part_made_after_or_beside_is_not_in_the_graph(jvp, text):
    with pytest.raises(RuntimeError) as theirs:
        scope_of(text)
    error = json.loads(jvp("inspect", text, "--x", "1,2,3", "--json").out)["error"]
    assert error["torch_message"] == str(theirs.value)
    assert error["hints"]


@pytest.mark.parametrize("text", [
    "v = x[:2]\ny = (v ** 2).sum()\ntorch.autograd.grad(y, v)", "v = x.view(3, 1)\ny = v * 2\ntorch.autograd.grad(y.sum(), v)",
])  # fmt: skip
def test_a_part_that_is_read_is_an_input(jvp, text):
    torch.testing.assert_close(tensors(asked(jvp, text)["vjp"]), leaves_of(scope_of(text)["_"]))


# What a command has no answer for, and a `with` that changes nothing


def test_a_trace_of_a_product_forward_says_who_answers(jvp):
    text = "torch.func.jvp(lambda t: t ** 3, (x,), (w,))"
    error = json.loads(jvp("trace", text, "--x", "1,2", "--w", "3,4", "--json").out)["error"]
    assert error["message"] == (
        "jvp trace follows the backward pass alone, and this call pushes a tangent forward; jvp inspect answers it"
    )
    assert json.loads(jvp(*shlex.split(error["hints"][0])[1:], "--json").out)["jvp"]["y"]["value"] == [9.0, 48.0]
    line = {"expression": text, "inputs": {"x": "1,2", "w": "3,4"}, "command": "trace"}
    assert json.loads(jvp("batch", stdin=json.dumps(line)).out)["error"]["message"] == error["message"]
    with pytest.raises(jvpcli.JvpError, match="jvp inspect answers it"):
        jvpcli.trace(text, x=[1.0, 2.0], w=[3.0, 4.0])


@pytest.mark.parametrize("block", ["enable_grad()", "autograd.detect_anomaly()", "autograd.set_detect_anomaly(True)"])
@pytest.mark.filterwarnings("ignore")
def test_a_with_that_changes_no_number(jvp, block):
    text = f"y = (x ** 2).sum()\nwith torch.{block}:\n    y.backward()\nx.grad"
    torch.testing.assert_close(tensors(asked(jvp, text)["vjp"]), [scope_of(text)["x"].grad])


@pytest.mark.parametrize(
    ("switch", "told"),
    [("set_detect_anomaly(True)", True), ("set_detect_anomaly(False)", False), ("detect_anomaly(check_nan=False)", False)],
)
def test_what_anomaly_detection_would_raise_is_said_where_it_is_switched_on(jvp, switch, told):
    """The language looks at no step of a pass, and shows NaN where PyTorch gives nothing."""
    text = f"torch.autograd.{switch}\nx = torch.zeros(2, requires_grad=True)\n(torch.sqrt(x) * 0).sum().backward()\nx.grad\n"
    said = jvp("inspect", text).err
    assert ("under anomaly detection (line 1) PyTorch raises where a step of a backward pass gives NaN" in said) is told


# Every door


SESSION = """>>> x = torch.tensor([1., 2., 3.], requires_grad=True)
>>> y = torch.outer(x, x)
>>> print(y.shape)
torch.Size([3, 3])
>>> torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
(tensor([12., 12., 12.]),)
>>> y.backward(2 * torch.ones_like(y))
>>> x.grad
tensor([24., 24., 24.])"""


@pytest.mark.parametrize("call", [None, 1, 2])
@pytest.mark.parametrize("command", ["inspect", "trace", "check", "hessian"])
def test_a_session_is_read_alike_at_every_door(jvp, command, call):
    options = [] if call is None else ["--call", str(call)]
    typed = json.loads(jvp(command, "-", *options, "--json", stdin=SESSION).out)
    line = {"expression": SESSION, "command": command, **({} if call is None else {"call": call})}
    given = {"expression": SESSION, "call": call}
    assert [each["explained"] for each in typed["calls"]] == [call == 1, call != 1]
    assert json.loads(jvp("batch", stdin=json.dumps(line)).out) == typed
    assert getattr(jvpcli, command)(**given).to_dict() == typed
    if command == "inspect":
        assert typed["vjp"]["x"]["value"] == [12.0 if call == 1 else 24.0] * 3
        ((_, of),) = jvpcli.jacobian(**given).items()
        assert of.to_dense().tolist() == typed["jacobian"]["y"]["x"]["value"]


@pytest.mark.parametrize("call", ["jacobian(mixed, inputs)", "vjp(mixed, inputs, v)", "jvp(mixed, inputs, u)"])
def test_inputs_in_a_tuple_that_has_a_name(jvp, call):
    """Each is an input of its own; the numbers are those of the same text run by Python."""
    text = (
        "from torch.autograd.functional import jacobian, vjp, jvp\n"
        "def mixed(x, w):\n    return x.exp() * w + x\n"
        "inputs = (torch.rand(2), torch.rand(2))\nu = (torch.ones(2), torch.arange(2.))\nv = torch.arange(1., 3.)\n"
    )
    torch.manual_seed(0)
    found = {}
    exec(f"import torch\n{text}result = {call}", found)
    document = json.loads(jvp("inspect", text + call, "--json").out)
    assert [x["value"] for x in document["inputs"].values()] == [pytest.approx(x.tolist()) for x in found["inputs"]]
    names, result = list(document["inputs"]), found["result"]
    if call.startswith("jacobian"):
        got = [document["jacobian"]["y"][name]["value"] for name in names]
        torch.testing.assert_close(torch.tensor(got), torch.stack(result))
    elif call.startswith("vjp"):
        torch.testing.assert_close(torch.tensor([document["vjp"][name]["value"] for name in names]), torch.stack(result[1]))
    else:
        torch.testing.assert_close(torch.tensor(document["jvp"]["y"]["value"]), result[1])


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("gradcheck(lambda a, b: a * a * b, (x, y))", [12.0, 30.0]),  # 2xy
        ("gradgradcheck(lambda a, b: a * a * b, (x, y))", [6.0 + 4.0, 10.0 + 6.0]),  # of 2xy and x² together: 2y + 2x
    ],
)
def test_gradcheck_differentiates_by_what_requires_a_gradient(check, expected):
    text = f"x = torch.tensor([2., 3.], requires_grad=True)\ny = torch.tensor([3., 5.])\ntorch.autograd.{check}\n"
    found = jvpcli.inspect(text)
    assert {name: product.tolist() for name, product in found.vjp.items()} == {"x": expected}


def test_a_constant_in_a_list_that_becomes_a_leaf_is_followed_as_python_runs_it(jvp):
    """The gradient of 2 z by z is constant; told to require a gradient it is a leaf, from which nothing leads to z."""
    text = (
        "x = torch.ones(2, requires_grad=True)\nz = x + 1\n"
        "grads = torch.autograd.grad(2 * z, z, torch.ones(2), create_graph=True)\n"
        "for i in range(len(grads)):\n    grads[i].requires_grad_(requires_grad=True)\n"
        "torch.autograd.grad(grads, z, torch.ones(2))\n"
    )
    error = json.loads(jvp("inspect", "-", "--json", stdin=text).out)["error"]
    assert error["torch_message"].startswith("The differentiated Tensor at index 0 appears to not have been used in the graph")
    assert error["message"].startswith("PyTorch raises in the call on line 6: input number 0 of torch.autograd.grad ")
