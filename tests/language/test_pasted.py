"""Python that asks for a derivative is read as the request that it is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jvpcli
from jvpcli.errors import JvpError, NotDifferentiableError
from jvpcli.language.calls import Pasted
from jvpcli.language.pasted import read_pasted

OUTER = "torch.outer(x, x)"
KEPT = "{}=True changes no number here: it is about the graph, which is kept for this answer alone"


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("torch.autograd.grad(torch.outer(x, x), x, grad_outputs=torch.ones(4,4))",
         Pasted(OUTER, wrt=("x",), grad_outputs=("torch.ones(4,4)",))),
        ("torch.autograd.grad(torch.outer(x, x), x, v)[0]", Pasted(OUTER, wrt=("x",), grad_outputs=("v",))),
        ("grad(outputs=torch.outer(x, x), inputs=[x], grad_outputs=[v])", Pasted(OUTER, wrt=("x",), grad_outputs=("v",))),
        ("g, = torch.autograd.grad(torch.outer(x, x), (x, w), None)", Pasted(OUTER, wrt=("x", "w"), grad_outputs=("implicit",))),
        ("print(torch.autograd.grad((a, b), [x], [None, v]))", Pasted("(a, b)", wrt=("x",), grad_outputs=("implicit", "v"))),
        ("y = torch.outer(x, x); torch.autograd.grad(y, x, torch.ones_like(y))",
         Pasted("y = torch.outer(x, x); y", wrt=("x",), grad_outputs=("torch.ones_like(y)",))),
        ("torch.outer(x, x).backward(v)", Pasted(OUTER, grad_outputs=("v",))),
        ("y = x.sum()\ny.backward()\nx.grad", Pasted("y = x.sum(); y", grad_outputs=("implicit",))),
        ("torch.autograd.backward([a, b], [v, w])", Pasted("(a, b)", grad_outputs=("v", "w"))),
        ("import torch\nx = torch.tensor([1., 2.], requires_grad=True)\ny = torch.outer(x, x)\n"
         "y.backward(gradient=torch.ones_like(y))\nprint(x.grad)",
         Pasted("y = torch.outer(x, x); y", inputs={"x": "torch.tensor([1.0, 2.0])"}, grad_outputs=("torch.ones_like(y)",))),
        ("x = torch.randn(3).requires_grad_(); x.sum().backward()",
         Pasted("x.sum()", inputs={"x": "torch.randn(3)"}, grad_outputs=("implicit",))),
        ("x.requires_grad = True; x.requires_grad_(); x.sum().backward()", Pasted("x.sum()", grad_outputs=("implicit",))),
        ("torch.autograd.functional.jacobian(lambda x: torch.outer(x, x), x)", Pasted(OUTER, wrt=("x",))),
        ("torch.func.jacrev(lambda t: t.sin())(x)", Pasted("t = x; t.sin()", wrt=("x",))),
        ("torch.func.jacfwd(torch.sin)(x)", Pasted("torch.sin(x)", wrt=("x",))),
        ("torch.func.grad(torch.sin)(x)", Pasted("torch.sin(x)", wrt=("x",), grad_outputs=("implicit:grad",))),
        ("torch.autograd.functional.vjp(torch.sin, x)", Pasted("torch.sin(x)", wrt=("x",), grad_outputs=("implicit:vjp",))),
        ("torch.autograd.grad(x.sin(), x, torch.eye(2), is_grads_batched=True)",
         Pasted("x.sin()", wrt=("x",), grad_outputs=("torch.eye(2)",), is_grads_batched=True)),
        ("torch.autograd.grad(x.sin(), x, v, True, True)",
         Pasted("x.sin()", wrt=("x",), grad_outputs=("v",), notes=(KEPT.format("retain_graph"), KEPT.format("create_graph")))),
        ("x = torch.ones(2, requires_grad=True); w = torch.ones(2, requires_grad=True)\n"
         "torch.autograd.grad(x.sum(), (x, w), allow_unused=True, materialize_grads=False)",
         Pasted("x.sum()", {"x": "torch.ones(2)"}, ("x",), ("implicit",), unused=("w",), notes=(
             "allow_unused=True: of an input that no gradient reaches PyTorch gives None",
             "nothing reads w, which is left out here: the result is for the others"))),
        ("torch.autograd.grad(x.sum(), x, materialize_grads=True)", Pasted("x.sum()", {}, ("x",), ("implicit",), notes=(
             "materialize_grads=True: of an input that no gradient reaches PyTorch gives zeros, as here",))),
        ("torch.autograd.functional.vjp(torch.sin, x, v)", Pasted("torch.sin(x)", wrt=("x",), grad_outputs=("v",))),
        ("torch.func.jvp(torch.sin, (x,), (u,))", Pasted("torch.sin(x)", wrt=("x",), tangent=("u",))),
    ],
)  # fmt: skip
def test_what_is_meant(source, meant):
    found = read_pasted(source)
    assert replace(found, calls=(), all_used=False) == meant
    assert [call.explained for call in found.calls] == [True]


@pytest.mark.parametrize(
    "source",
    [
        "torch.outer(x, x)", "torch.gradient(x)", "x.grad", "gradient * x", "grad", "torch.autograd.grad()",
        "torch.autograd.grad(y, x + 1)", "grad(", "jacobian(1)", "torch.func.jacrev(f)()", "",
    ],
)  # fmt: skip
def test_anything_else_is_left_alone(source):
    assert read_pasted(source) is None


@given(st.text(st.sampled_from("grad.backwjcvp()[]x=,;\n :lmbd*'"), max_size=40))
def test_no_text_breaks_it(source):
    with suppress(JvpError):
        read_pasted("grad" + source)


UNREACHED = [
    "y = (x * w.detach()).sum()",
    "y = (x * w.shape[0]).sum()",
    "if x.sum() > 0:\n    y = x.sum()\nelse:\n    y = w.sum()",
]


@pytest.mark.parametrize("text", UNREACHED)
def test_an_input_that_no_gradient_reaches_is_refused_as_in_pytorch(text):
    head = "x = torch.tensor([1., 2.], requires_grad=True)\nw = torch.tensor([3., 4.], requires_grad=True)\n"
    call = "\ng = torch.autograd.grad(y, [x, w])"
    with pytest.raises(RuntimeError, match="index 1 appears to not have been used in the graph"):
        exec(head + text + call, {"torch": torch})
    with pytest.raises(NotDifferentiableError, match="no gradient reaches w from y") as caught:
        jvpcli.inspect(head + text + call)
    assert "index 1 appears to not have been used" in (caught.value.torch_message or "")
    allowed = jvpcli.inspect(head + text + call.replace("w])", "w], allow_unused=True)"))
    assert not allowed.vjp["w"].any()


def test_a_leaf_without_a_name_gets_one():
    found = read_pasted("w = torch.tensor([1., 2.], requires_grad=True) * 0.5\nw_leaf = 3\n(w * w_leaf).sum().backward()")
    assert found is not None
    assert found.expression == "w = w_leaf_ * 0.5; w_leaf = 3; (w * w_leaf).sum()"
    assert found.inputs == {"w_leaf_": "torch.tensor([1.0, 2.0])"}
    (note,) = found.notes
    assert note == "w is made of the leaf w_leaf_, and no leaf itself: without retain_grad() its .grad is None in PyTorch"
