"""A map keeps the numbers of the point that it was made at, whatever is written later: to what the caller has, or to results."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import jvpcli
from jvpcli.errors import EvaluationError, UsageError
from jvpcli.jacobians.dense import PulledMap
from jvpcli.jacobians.structured import StructuredMap

DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


class Kept(torch.autograd.Function):
    """⟨a, x⟩, with a backward that hands out the caller's own tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor) -> Tensor:
        ctx.a = a
        return (a * x).sum()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.a, None


class Nothing(torch.autograd.Function):
    """1 whatever x is, with a backward that hands out the caller's own zeros for every row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zeros: Tensor) -> Tensor:
        ctx.zeros = zeros
        return torch.ones_like(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.zeros, None


Case = tuple[Callable[..., Any], list[Tensor], list[Tensor]]


def cases(n: int) -> dict[str, Case]:
    """A function, its inputs, and what else it reads."""
    a, matrix, x, whole = drawn(n, seed=1), drawn(n, n, seed=2), drawn(n, seed=3), drawn(n, 2, seed=4)
    places, mask = torch.randperm(n, generator=torch.Generator().manual_seed(5)), drawn(n, seed=6) > 0
    layer, none = torch.nn.Linear(n, n).double(), torch.zeros(n, dtype=DOUBLE)
    return {
        "a matrix times x": (lambda x: matrix @ x, [x], [matrix]),
        "a matrix times a matrix": (lambda x: matrix @ x, [whole], [matrix]),
        "a view times x": (lambda x: matrix[:, 0] * x, [x], [matrix]),
        "a transposed matrix times x": (lambda x: matrix.T @ x, [x], [matrix]),
        "element-wise": (lambda x: a * x, [x], [a]),
        "outer": (lambda x: torch.outer(a, x), [x], [a]),
        "one row": (lambda x: a @ x, [x], [a]),
        "two inputs": (lambda x, y: x[0] * x * y, [x, a], []),
        "what is saved of the result": (lambda x: x.exp(), [x], []),
        "picked by an index": (lambda x: x[places] + x.gather(0, places), [x], [places]),
        "picked by a mask": (lambda x: torch.where(mask, x, a), [x], [mask, a]),
        "a module": (layer, [whole.T.contiguous()], [layer.weight, layer.bias]),
        "a tensor that a backward keeps": (lambda x: Kept.apply(x, a), [x], [a]),
        "zeros that a backward keeps": (lambda x: Nothing.apply(x, none), [x], [none]),
        "sums up to each": (lambda x: x.cumsum(0), [x], []),
        "nothing read": (lambda x: x.sum(), [x], []),
        "the input itself": (lambda x: x, [x], []),
    }


def numbers(each: Any) -> list[Tensor]:
    """Every number that a map gives, by each of its ways."""
    v, u = drawn(*each.out_shape, seed=8), drawn(*each.in_shape, seed=9)
    found = [each.to_dense().clone(), torch.from_numpy(each.to_scipy().toarray()).reshape(each.out_shape + each.in_shape)]
    return [*found, each.pullback(v).clone(), each.pushforward(u).clone()]


def agree(each: Any, jacobian: Tensor) -> None:
    dense, sparse, pulled, pushed = numbers(each)
    v, u = drawn(*each.out_shape, seed=8), drawn(*each.in_shape, seed=9)
    torch.testing.assert_close(dense, jacobian)
    torch.testing.assert_close(sparse, jacobian)
    torch.testing.assert_close(pulled, torch.tensordot(v, jacobian, v.dim()))
    torch.testing.assert_close(pushed, torch.tensordot(jacobian, u, u.dim()))


def overwritten(tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for x in tensors:
            x.copy_(~x if x.dtype == torch.bool else x.flip(0) + 3 * x.is_floating_point())


@pytest.mark.parametrize("n", [3, 70])
@pytest.mark.parametrize("name", list(cases(3)))
def test_writing_changes_no_map(name, n):
    function, inputs, read = cases(n)[name]
    found = torch.autograd.functional.jacobian(function, tuple(inputs))
    maps = jvpcli.jacobian(function, *inputs)
    for each, jacobian in zip(maps.values(), found, strict=True):
        for result in (each.to_dense(), each.pullback(v := drawn(*each.out_shape)), each.pushforward(u := drawn(*each.in_shape))):
            result.fill_(7.0)
        each.to_scipy().data[:] = 7.0
        each.to_dense().numpy()[...] = 7.0  # NumPy's arrays share the memory of a tensor
        assert torch.equal(v, drawn(*each.out_shape))
        assert torch.equal(u, drawn(*each.in_shape))
        agree(each, jacobian)
    overwritten([*inputs, *read])
    for each, jacobian in zip(maps.values(), found, strict=True):
        agree(each, jacobian)
        assert each.nnz == int(torch.count_nonzero(jacobian))


def test_the_cases_have_maps_of_either_class():
    asked = [jvpcli.jacobian(function, *inputs) for n in (3, 70) for function, inputs, _ in cases(n).values()]
    assert {type(each) for maps in asked for each in maps.values()} == {PulledMap, StructuredMap}


def test_a_step_of_an_optimizer_changes_no_map():
    net = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.Tanh(), torch.nn.Linear(40, 50)).double()
    data, names = drawn(9, 30), [name for name, _ in net.named_parameters()]
    maps = jvpcli.jacobian(net, data, wrt=names)
    want = torch.func.jacrev(lambda weights: torch.func.functional_call(net, weights, data))(dict(net.named_parameters()))
    want = {name: each.detach().clone() for name, each in want.items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(data).square().sum().backward()
    optimizer.step()
    for (_, name), each in maps.items():
        agree(each, want[name])


def test_a_forward_mode_map_and_a_complex_one_keep_their_numbers():
    matrix, x = drawn(4, 4), drawn(4)
    forward = jvpcli.jacobian(lambda x: matrix @ x, x, mode="forward")["y", "x"]
    field = jvpcli.jacobian(lambda z: matrix * (1 + 2j) @ z, x + 1j * x)["y", "z"]
    live = jvpcli.jacobian(lambda x: (matrix @ x) ** 2, x.requires_grad_(), create_graph=True)["y", "x"]
    wants = [matrix.clone(), field.to_dense().clone(), (2 * (matrix @ x)[:, None] * matrix).detach()]
    for each in (forward, field, live):
        each.to_dense().detach().fill_(7.0)
    overwritten([matrix, x.detach()])
    for each, want in zip((forward, field, live), wants, strict=True):
        torch.testing.assert_close(each.to_dense().detach(), want)
    torch.testing.assert_close(field.pullback(torch.ones(4, dtype=torch.complex128)), wants[1].sum(0))


def test_a_text_asked_again_and_what_is_kept_between_questions():
    x, a = drawn(70), drawn(70, seed=1)
    for text, want in (("a * x", torch.diag(a.clone())), ("x.cumsum(0)", torch.ones(70, 70, dtype=DOUBLE).tril())):
        inputs = {"x": x, "a": a} if "a *" in text else {"x": x}
        for _ in range(4):
            each = jvpcli.jacobian(text, wrt="x", **inputs)["y", "x"]
            each.to_dense().fill_(7.0)
            agree(each, want)
    each = jvpcli.jacobian("a * x", x=x, a=a, wrt="x")["y", "x"]
    want = torch.diag(a.clone())
    overwritten([x, a])
    agree(each, want)


def test_a_map_too_large_to_hold_says_what_was_written_to():
    matrix, x = drawn(70, 70), drawn(70)
    each = jvpcli.jacobian(lambda x: matrix @ x, x, memory_limit=4000)["y", "x"]
    torch.testing.assert_close(each.pullback(torch.ones(70, dtype=DOUBLE)), matrix.sum(0))
    overwritten([matrix])
    for product, shape in ((each.pullback, (70,)), (each.pushforward, (70,)), (torch.vmap(each.pullback), (2, 70))):
        with pytest.raises(UsageError) as caught:
            product(torch.ones(shape, dtype=DOUBLE))
        assert str(caught.value) == "a tensor that the function uses was written to after this map was made"
        assert caught.value.explanation == (
            "The Jacobian was too large to hold: the map goes over the function's graph for each product, and the graph keeps "
            "that tensor, not a copy of it."
        )
        assert list(caught.value.hints) == [
            "ask for the map again, or raise the memory limit: a map that is held has numbers of its own"
        ]


def test_results_are_written_into_one_by_one_and_reports_stay():
    """PyTorch gives both inputs of a sum one gradient, and NumPy's arrays share a tensor's memory."""
    x, z, v, u = drawn(3), drawn(3, seed=1), torch.tensor(2.0, dtype=DOUBLE), drawn(3, seed=2)
    asked = [
        jvpcli.inspect("(x + z).sum()", x=x, z=z, grad_outputs=v, tangent={"x": u, "z": u}),
        jvpcli.inspect("x * z", x=x, z=z, grad_outputs=u, blocks=(1, 1)),
        jvpcli.trace("(x[:] + z).sum()", x=x, z=z, grad_outputs=v),
        jvpcli.hessian("(x + z).sum() + x[0]**2", x=x, z=z, grad_outputs=v, tangent={"x": u, "z": u}),
        jvpcli.inspect(lambda x: Kept.apply(x, z), x),
        jvpcli.trace(lambda x: Kept.apply(x, z), x),
    ]
    before = [(str(each), each.to_dict()) for each in asked]
    kept = z.clone()
    for each in asked:
        for name in ("outputs", "vjp", "jvp", "gradient", "hvp", "jacobian", "hessian", "blocks"):
            tensors = getattr(each, name, {})
            others = {key: tensor.clone() for key, tensor in tensors.items()}
            for key, tensor in tensors.items():
                tensor.fill_(7.0)
                others.pop(key)
                assert all(torch.equal(tensors[other], want) for other, want in others.items())
    assert torch.equal(z, kept)
    overwritten([x, z, v, u])
    assert [(str(each), each.to_dict()) for each in asked] == before


def test_a_function_and_what_it_holds_are_let_go_with_the_map():
    class Scaling:
        def __init__(self) -> None:
            self.weight = drawn(9)

        def scaled(self, x: Tensor) -> Tensor:
            return self.weight * x

    held = [Scaling(), torch.nn.Linear(9, 2).double()]
    gone = [weakref.ref(each) for each in held]
    for _ in range(2):
        for function in (held[0].scaled, held[1]):
            jvpcli.jacobian(function, drawn(9))
    del held, function
    gc.collect()
    assert [each() for each in gone] == [None, None]


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex_halves_are_multiplied_in_single_precision():
    z = torch.tensor([1 + 2j, 3 - 1j, 0.5j])
    v, u = torch.tensor([1j, 2.0, 1 - 1j]), torch.tensor([2.0, 1 + 1j, -1j])
    for text in ("z * z", "z.abs()", "z.real", "z.conj() * 2"):
        half, single = (jvpcli.jacobian(text, z=each)["y", "z"] for each in (z.to(torch.complex32), z))
        weight = v if half.of_complex[0] else v.real
        for found, want in (
            (half.to_dense(), single.to_dense()),
            (half.pullback(weight), single.pullback(weight)),
            (half.pushforward(u.to(torch.complex32)), single.pushforward(u)),
        ):
            torch.testing.assert_close(found, want, rtol=2e-3, atol=2e-3, check_dtype=False)
        result = jvpcli.inspect(text, z=z.to(torch.complex32))
        torch.testing.assert_close(result.vjp["z"].to(z.dtype), single.pullback(torch.ones(3)), rtol=2e-3, atol=2e-3)
        assert half.to_scipy().shape == (3, 3)
    with pytest.raises(EvaluationError, match="the backward pass failed: sum doesn't work with complex32"):
        jvpcli.jacobian("z[None] * z[:, None]", z=z.to(torch.complex32))
