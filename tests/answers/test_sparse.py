"""Functions that go through sparse tensors, or give them: as the same function of dense ones."""

from __future__ import annotations

import pytest
import torch

import jvpcli
from jvpcli.errors import JvpError

DENSE = torch.tensor([[1.0, 0, 2], [0, 3, 0]], dtype=torch.float64)
COO, CSR = DENSE.to_sparse(), DENSE.to_sparse_csr()
ONES, EYE = torch.ones(3, 2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
X = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def filled(x):
    return torch.zeros(2, 3, dtype=x.dtype).index_put(tuple(COO.indices()), x)


FUNCTIONS = {
    "csr by a vector": (lambda x: CSR @ x.sin(), lambda x: DENSE @ x.sin()),
    "csr by a matrix": (lambda x: CSR @ (x.sin()[:, None] * ONES), lambda x: DENSE @ (x.sin()[:, None] * ONES)),
    "coo by a vector": (lambda x: COO @ x.sin(), lambda x: DENSE @ x.sin()),
    "values of csr": (
        lambda x: torch.sparse_csr_tensor(CSR.crow_indices(), CSR.col_indices(), x**2, (2, 3)) @ ONES,
        lambda x: filled(x**2) @ ONES,
    ),
    "values of coo": (
        lambda x: torch.sparse.mm(torch.sparse_coo_tensor(COO.indices(), x**2, (2, 3)), ONES), lambda x: filled(x**2) @ ONES,
    ),
    "a result in coo": (lambda x: (x[:, None] ** 2 * EYE).to_sparse(), lambda x: x[:, None] ** 2 * EYE),
    "a result in csr": (lambda x: (x[:, None] ** 2 * EYE).to_sparse_csr(), lambda x: x[:, None] ** 2 * EYE),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_tensors(name):
    function, plain = FUNCTIONS[name]
    jacobian = torch.autograd.functional.jacobian(plain, X)
    result = jvpcli.inspect(function, x=X)
    ((_, found),) = result.jacobian.items()
    torch.testing.assert_close(found, jacobian)
    torch.testing.assert_close(result.vjp["x"], jacobian.reshape(-1, 3).sum(0))
    ((_, linear),) = jvpcli.jacobian(function, x=X).items()
    torch.testing.assert_close(linear.to_dense(), jacobian)
    torch.testing.assert_close(jvpcli.trace(function, x=X).vjp["x"], jacobian.reshape(-1, 3).sum(0))
    assert jvpcli.check(function, x=X).passed
    second = torch.autograd.functional.hessian(lambda x: plain(x).sum(), X)
    torch.testing.assert_close(jvpcli.hessian(function, x=X).hessian["x", "x"], second)


@pytest.mark.parametrize("inputs", [["emb.weight"], ["x", "emb.weight"]])
def test_an_embedding_with_sparse_gradients(tmp_path, inputs):
    file = tmp_path / "words.py"
    file.write_text(
        "import torch\nemb = torch.nn.Embedding(4, 2, sparse=True, dtype=torch.float64)\n"
        "emb.weight.data.copy_(torch.arange(1., 9).reshape(4, 2))\n"
        "def loss(x):\n    return emb(torch.tensor([0, 2, 2])).pow(3).sum() * x.sum()\n"
    )
    weight = torch.arange(1.0, 9, dtype=torch.float64).reshape(4, 2)

    def loss(x, weight):
        return weight[[0, 2, 2]].pow(3).sum() * x.sum()

    both = ["x", "emb.weight"]
    first = dict(zip(both, torch.autograd.functional.jacobian(loss, (X, weight)), strict=True))
    second = dict(zip(both, torch.autograd.functional.hessian(loss, (X, weight)), strict=True))
    asked = {"imports": file, "wrt": inputs}
    for found in (jvpcli.inspect("loss(x)", {"x": X}, **asked), jvpcli.trace("loss(x)", {"x": X}, **asked)):
        torch.testing.assert_close(dict(found.vjp), {name: first[name] for name in inputs})
    assert jvpcli.check("loss(x)", {"x": X}, **asked).passed
    found = jvpcli.hessian("loss(x)", {"x": X}, **asked, tangent=dict.fromkeys(inputs, "ones"))
    for name in inputs:
        blocks = dict(zip(both, second[name], strict=True))
        for other in inputs:
            torch.testing.assert_close(found.hessian[name, other], blocks[other])
        pushed = sum(blocks[other].reshape(first[name].numel(), -1).sum(1) for other in inputs)
        torch.testing.assert_close(found.hvp[name].reshape(-1), pushed)


@pytest.mark.parametrize("command", ["inspect", "jacobian", "trace", "check", "hessian"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(torch.ones(3, device="meta"), "meta device"), (COO, "sparse_coo"), (CSR, "sparse_csr")],
    ids=["meta", "coo", "csr"],
)
def test_inputs_that_derivatives_are_not_taken_of(command, value, words):
    with pytest.raises(JvpError, match=words) as caught:
        getattr(jvpcli, command)(lambda x: x * 2, x=value)
    assert caught.value.code == "bad_value"


@pytest.mark.parametrize("command", ["inspect", "jacobian", "trace", "check", "hessian"])
def test_a_result_without_numbers(command):
    with pytest.raises(JvpError, match="device meta, which has a shape and no numbers") as caught:
        getattr(jvpcli, command)(lambda x: x.to("meta") * 2, x=X)
    assert caught.value.code == "evaluation"
