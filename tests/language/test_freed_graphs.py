"""What a backward pass frees of the graph: what asks for it again fails where PyTorch fails, and nowhere else."""

from itertools import product

import pytest
import torch

from jvpcli.errors import JvpError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse

X = torch.tensor([0.3, 1.7, 1.1, 0.9])



def test_the_rows_of_vmap_are_one_call() -> None:
    source = "y = x ** 2\njacobian = torch.vmap(lambda v: torch.autograd.grad(y, x, v)[0])(torch.eye(4))\n"
    found = evaluate(parse(source + "jacobian * x", ["x"]), {"x": X}, wrt=("x",)).outputs
    torch.testing.assert_close(next(iter(found.values())), torch.diag(2 * X) * X)
    with pytest.raises(JvpError) as caught:
        evaluate(parse(source + "y.sum().backward()\nx", ["x"]), {"x": X}, wrt=("x",))
    with pytest.raises(RuntimeError) as expected:
        exec(source + "y.sum().backward()", {"torch": torch, "x": X.clone().requires_grad_()})
    assert caught.value.torch_message == str(expected.value)


SHARED = [
    "x * 2", "x + 1", "x ** 2", "x.sin()", "x.sum()", "x * x", "x / 3", "3 / x", "x.exp()", "x.relu()", "x[1:]",
    "x.reshape(2, 2)", "x.reshape(2, 2).T @ x.reshape(2, 2)", "torch.cat([x, x])", "x.mean()", "x.clamp(0.5, 1)",
    "x.max()", "x.softmax(0)", "-x", "x.norm()", "x.abs()", "x.cumsum(0)", "x.cumprod(0)", "x.flip(0)", "x.double()",
    "torch.where(x > 1, x, 2 * x)", "x.sort().values", "x.prod()", "x.index_select(0, torch.tensor([1, 1]))",
    "x.std()", "x.unsqueeze(0).expand(3, 4)", "torch.stack([x, x * 2])", "x.roll(1)",
    "torch.nn.functional.linear(x, torch.ones(2, 4))", "x.clone()", "x.detach() * x", "torch.outer(x, x)",
    "x.sqrt().floor() + x",
]  # fmt: skip

FIRST = ["a.backward()", "a.backward(retain_graph=True)", "g = torch.autograd.grad(a, x)", "g = torch.autograd.grad(a, h)"]
SECOND = ["b.backward()", "g = torch.autograd.grad(b, x)[0]", "g = torch.autograd.grad(b, h)[0]", "b.backward(inputs=[x])"]


@pytest.mark.parametrize("shared", SHARED)
def test_it_fails_where_pytorch_fails(shared: str) -> None:
    for first, second in product(FIRST, SECOND):
        source = f"h = {shared}\na = h.sum()\nb = (h + 1).sum()\n{first}\n{second}\n"
        scope = {"torch": torch, "x": X.clone().requires_grad_()}
        message = None
        try:
            exec(source, scope)
        except RuntimeError as error:
            message = str(error)
        found = None
        try:
            evaluate(parse(source + "x", ["x"]), {"x": X}, wrt=("x",))
        except JvpError as error:
            found = error.torch_message
        assert found == message, (source, found, message)
