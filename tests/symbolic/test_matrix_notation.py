"""The notation of matrices, `2·v·Aᵀ·(A·x − b)`, means what PyTorch's backward gives: it is worked out by its own rules."""

from __future__ import annotations

import re

import pytest
import torch
from book_forms import ROWS

import jvpcli

RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


class Matrix:
    """A tensor as notation has it: a vector is a column, `·` a product of matrices or with a number, `∘` element by element."""

    def __init__(self, entries: torch.Tensor) -> None:
        self.entries = entries[:, None] if entries.dim() == 1 else entries

    def __matmul__(self, other: Matrix) -> Matrix:
        a, b = self.entries, other.entries
        return Matrix(a * b if (1 in (a.numel(), b.numel()) and a.shape[-1:] != b.shape[:1]) or not a.dim() * b.dim() else a @ b)

    def __mul__(self, other: Matrix) -> Matrix:
        assert self.entries.shape == other.entries.shape, "an element-wise product is of equal shapes"
        return Matrix(self.entries * other.entries)

    def __floordiv__(self, other: Matrix) -> Matrix:
        assert self.entries.shape == other.entries.shape
        return Matrix(self.entries / other.entries)

    def __truediv__(self, other: Matrix) -> Matrix:
        assert other.entries.numel() == 1
        return Matrix(self.entries / other.entries)

    def __add__(self, other: Matrix) -> Matrix:
        assert self.entries.shape == other.entries.shape or self.entries.numel() == other.entries.numel() == 1
        return Matrix(self.entries + other.entries)

    def __sub__(self, other: Matrix) -> Matrix:
        return self + -other

    def __gt__(self, number: Matrix) -> Matrix:
        return Matrix((self.entries > number.entries).double())

    def __neg__(self) -> Matrix:
        return Matrix(-self.entries)

    def __pow__(self, power: int) -> Matrix:
        return Matrix(self.entries**power)

    @property
    def T(self) -> Matrix:
        return Matrix(self.entries.T)


FUNCTIONS = {
    "sum": torch.sum, "tr": torch.trace, "inv": torch.linalg.inv, "det": torch.linalg.det, "exp": torch.exp, "log": torch.log,
    "expm": torch.linalg.matrix_exp,
    "tanh": torch.tanh, "sin": torch.sin, "cos": torch.cos, "abs": torch.abs, "sign": torch.sign, "σ": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, 0), "norm": torch.linalg.vector_norm, "relu": torch.relu,
    "diag": lambda x: torch.diag(x[:, 0]) if x.shape[1] == 1 else torch.diagonal(x),
}  # fmt: skip


def worked_out(text: str, tensors: dict[str, torch.Tensor], ones: Matrix) -> torch.Tensor:
    """What the notation says."""
    text = re.sub(r"‖([^‖]*)‖", r"norm(\1)", text)
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    text = re.sub(r"(?<!\w)\[([^\]]*)\]", r"(\1)", text)  # 1 where it holds, else 0
    text = re.sub(r"(?<!\w)([0-9]+(?:\.[0-9]+)?)(?!\w)", r"number(\1)", text)
    text = re.sub(r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"**({found[0].translate(RAISED)})", text)
    text = text.replace("ᵀ", ".T").replace("𝟏", "ones").replace("−", "-").replace("⊘", "//").replace("·", "@")
    functions = {name: lambda x, f=f: Matrix(f(x.entries)) for name, f in FUNCTIONS.items()}
    scope = {
        **functions,
        "number": lambda value: Matrix(torch.tensor(value, dtype=torch.float64)),
        "ones": ones,
        **{name: Matrix(x) for name, x in tensors.items()},
    }
    # Python gives @ and * the same strength; the notation keeps kinds of products apart by brackets
    return eval(text.replace("∘", "*"), scope).entries


SMALL = [row for row in ROWS if all(not isinstance(given, str) for given in row[1].values()) and ";" not in row[0]]


@pytest.mark.parametrize(("expression", "inputs"), [row[:2] for row in SMALL[::2]], ids=[row[0] for row in SMALL[::2]])
def test_notation(expression, inputs):
    torch.manual_seed(0)
    tensors = {name: torch.rand(shape, dtype=torch.float64) + 0.2 for name, shape in inputs.items()}
    result = jvpcli.derive(expression, tensors)
    leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
    y = torch.as_tensor(eval(expression, {"torch": torch, "F": torch.nn.functional, **leaves}))
    v = torch.rand_like(y)
    for x, product in result.vjp.items():
        for form, weight in ((product, v), (product.given, torch.ones_like(y))):
            if form.matrix is None or "I" in form.matrix or re.search(r"[a-z_]{2,}\[|[Φ√ψ]|torch", form.matrix):
                continue
            if set(re.findall(r"([^\W\d_]\w*)\(", form.matrix)) - set(FUNCTIONS):
                continue
            (want,) = torch.autograd.grad(y, leaves[x], weight, retain_graph=True, allow_unused=True)
            want = torch.zeros_like(leaves[x]) if want is None else want
            if form.matrix == "0":
                torch.testing.assert_close(want, torch.zeros_like(want))
                continue
            got = worked_out(form.matrix, {**tensors, "v": v}, Matrix(torch.ones_like(tensors[x])))
            torch.testing.assert_close(got.reshape(want.shape), want)


def test_a_bracket_that_is_missing_is_seen():
    torch.manual_seed(0)
    tensors = {"W": torch.rand(3, 2), "x": torch.rand(2), "t": torch.rand(3)}
    tensors = {name: x.double() for name, x in tensors.items()}
    right = worked_out("2·(W·x − t)·xᵀ/3", tensors, Matrix(torch.ones(3)))
    torch.testing.assert_close(right, 2 * torch.outer(tensors["W"] @ tensors["x"] - tensors["t"], tensors["x"]) / 3)
    with pytest.raises(AssertionError):
        worked_out("2·W·x − t·xᵀ/3", tensors, Matrix(torch.ones(3)))


@pytest.mark.parametrize("text", ["torch.pow(2, x)", "2.5**x.sum()", "x.sum()**x", "x.sum()**x.prod()", "2**(x @ x)*x"])
def test_a_number_to_the_power_of_a_tensor_has_no_form_of_matrices(text):
    x = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
    product = jvpcli.derive(text, {"x": x}).vjp["x"]
    assert (product.matrix, product.torch is None) == (None, False)


def test_a_number_to_the_power_of_a_number_has_one():
    x = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert jvpcli.derive("x.sum()**3", {"x": x}).vjp["x"].matrix == "3·v·sum(x)²·𝟏"
