"""Every form that books write is derived: true by PyTorch's own autograd on plain Python, and no longer than the book's."""

from __future__ import annotations

import ast

import pytest
import torch
import torch.nn.functional as F
from book_forms import ROWS

import jvpcli

WITHOUT = {"torch.linalg.qr(X)[1]"}
"""What the language has and no index form is known of."""


def operations(text: str) -> int:
    """How many operations an expression has; an einsum counts as the products that it is."""
    count = 0
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            count += 2 * (len(node.args) - 1) - 1 if name == "torch.einsum" else 1
        elif (
            (isinstance(node, ast.Attribute) and node.attr in ("T", "mT"))
            or isinstance(node, (ast.BinOp, ast.Subscript, ast.Compare))
            or (isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant))
        ):
            count += 1
    return count


def plain(text: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """What Python itself makes of a text, statements and all."""
    *before, last = [ast.unparse(s) for s in ast.parse(text.replace("; ", "\n")).body]
    scope = {"torch": torch, "F": F, **tensors}
    for statement in before:
        exec(statement, scope)
    return torch.as_tensor(eval(last, scope))


def point(inputs: dict[str, object], seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    found = {}
    for name, given in inputs.items():
        x = eval(given, {"torch": torch}) if isinstance(given, str) else torch.randn(given)
        found[name] = x.double() if x.is_floating_point() else x
    return found


def test_there_are_enough():
    assert len({row[0] for row in ROWS}) >= 120


@pytest.mark.parametrize(("expression", "inputs", "book"), ROWS, ids=[row[0] for row in ROWS])
def test_form(expression, inputs, book):
    tensors = point(inputs, 0)
    chosen = (
        list(book) if "batch_norm" in expression else None
    )  # whose running statistics have no derivative in PyTorch
    result = jvpcli.derive(expression, tensors, wrt=chosen)
    if expression in WITHOUT:
        assert all(product.torch is None and product.reason for product in result.vjp.values())
        return
    floats = chosen or [name for name, x in tensors.items() if x.is_floating_point()]
    assert set(result.vjp) == set(floats)
    for seed in (1, 2):
        elsewhere = {name: x.requires_grad_(name in floats) for name, x in point(inputs, seed).items()}
        y = plain(expression, elsewhere)
        v = torch.randn(y.shape, dtype=torch.float64)
        for weight, which in ((v, "general"), (torch.ones_like(y), "given")):
            wanted = torch.autograd.grad(
                y, [elsewhere[x] for x in floats], weight.to(y.dtype), retain_graph=True, allow_unused=True
            )
            for x, want in zip(floats, wanted, strict=True):
                product = result.vjp[x]
                text = product.torch if which == "general" else product.given.torch
                assert text is not None, product
                got = torch.as_tensor(plain(text, {**{n: t.detach() for n, t in elsewhere.items()}, "v": v})).double()
                want = torch.zeros_like(elsewhere[x]) if want is None else want
                assert got.shape == want.shape
                torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8, equal_nan=True)
    for x, form in book.items():
        if form is not None:
            here = plain(form, {n: t.detach() for n, t in elsewhere.items()}).double()
            torch.testing.assert_close(here, wanted[floats.index(x)], rtol=1e-6, atol=1e-8)  # the book is right
            mine = result.vjp[x].given.torch
            assert operations(mine) <= operations(form), f"{mine} is longer than {form}"


FORMS = [("(x - y).pow(2).sum().div(-2).exp()", False), ("(x - y).pow(2).mean().exp()", True)]


@pytest.mark.parametrize(("expression", "means"), FORMS)
def test_half_a_sum_of_two_is_a_mean_where_the_text_takes_one(expression, means):
    """The code is the same function at other sizes, too."""
    form = jvpcli.derive(expression, x=[1.0, 2.0], y=[0.0, 1.0], wrt="x").vjp["x"].torch
    assert (".mean(" in form) == means


@pytest.mark.parametrize(("expression", "form"), [("torch.linalg.matrix_exp(X).trace()", "matrix_exp(X)_ji"),
                                                  ("torch.linalg.det(X)", "det(X)·inv(X)_ji")])  # fmt: skip
def test_the_jacobian_of_a_number_is_what_1_comes_back_as(expression, form):
    """d exp(X) is a block of the exponential of a larger matrix; of its trace nothing of that is left."""
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    found = jvpcli.derive(expression, X=x)
    assert found.report.jacobian["y"]["X"].formula == form


@pytest.mark.parametrize(
    "expression",
    ["x.softmax(1)", "x @ W", "F.layer_norm(x, (3,))", "torch.tanh(x @ W) @ W.T", "x - x.mean(1, keepdim=True)", "x.norm(dim=1)",
     "x.cumsum(1)", "torch.logsumexp(x, 1)", "torch.einsum('bi,ij->bj', x, W)",
     "F.cross_entropy(x, torch.ones(n, dtype=torch.long), reduction='sum')"],
)  # fmt: skip
def test_a_batch_of_one_is_a_batch(expression):
    """Its form holds for others, too."""
    w = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))

    def told(n):
        found = jvpcli.derive(expression.replace("(n,", f"({n},"), x=torch.randn(n, 3), **({"W": w} if "W" in expression else {}))
        products = {name: (p.formula, p.matrix, p.torch) for name, p in found.vjp.items()}
        return {**found.formula}, products

    assert told(1) == told(2)


def test_a_derivative_by_a_value_on_the_way():
    """h = 2 x, ∂(Σ h² x)/∂h = 2 h x = 4 x², and of that the derivative by x."""
    text = "h = 2*x; torch.autograd.grad((h**2*x).sum(), h, create_graph=True)[0]"
    found = jvpcli.derive(text, x=[1.0, 2.0])
    assert found.report.function["y"].formula == "4·x_j²"
    assert found.vjp["x"].torch == "8*v*x"
    assert found.report.verified.points == 4
