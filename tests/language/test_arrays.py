"""numpy's arrays in a program, against Python running the same text; and that nothing else of numpy is reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import jvpcli

SAME = [
    "a = np.linspace(0, 1, 3); b = a[1:]; b[0] = 7; x * torch.from_numpy(a)",
    "a = np.arange(3.); b = a; a += 1; x * torch.tensor(b)",
    "t = 0\nfor row, y in zip(np.array([[1., 2.], [3., 4.]]), [2, 3]):\n    t = t + (x[:2] * torch.tensor(row)).sum() * y\nt",
    "a = np.array([[1., 2., 4.], [3., 0., 1.]]); x * torch.as_tensor(a.mean(axis=0) + a.std(0))",
    "x[torch.from_numpy(np.array([1., 2., 3.]) > 1.5)]",
    "x[np.array([2, 0])]",
    "a = np.zeros(3, dtype=np.float32); a[1] = 5; x * torch.from_numpy(a)",
    "x * torch.from_numpy(np.array([1, 2, 3]) / 2)",
    "x * len(np.arange(5)) * float(np.exp(1.0))",
    "g = np.meshgrid(np.arange(2.), np.arange(3.))\nx * torch.tensor(g[1][:, 0])",
    "a = np.array([3., 1., 2.]).reshape(-1, 1)\nx * torch.tensor(a.T[0].copy())",
    "x * torch.tensor(np.where(np.arange(3) > 1, 1., np.sqrt(2.)))",
    "x * torch.FloatTensor(np.array([1., 2., 3.], dtype=np.float32))",
    "s = [v * 2 for v in np.arange(3.)]\nx * torch.tensor(s)",
    "np.random.seed(3); a = np.random.rand(3); b = np.random.randn(2, 3); x * torch.tensor(a + b[1])",
    "x * torch.tensor(x.detach().numpy() ** 2)",
]


def by_python(text: str, x: torch.Tensor) -> torch.Tensor:
    scope = {"torch": torch, "np": np, "x": x}
    *lines, last = text.split("\n") if "\n" in text else text.split("; ")
    exec("\n".join(lines), scope)
    found = eval(last, scope)
    assert isinstance(found, torch.Tensor)
    return found.detach()


@pytest.mark.parametrize("text", SAME)
def test_numbers_are_numpys(text: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (found,) = jvpcli.inspect(text, x=x.detach()).to_dict()["outputs"].values()
    expected = by_python(text, x)
    torch.testing.assert_close(torch.tensor(found["value"], dtype=getattr(torch, found["dtype"])), expected)


@pytest.mark.parametrize("text", ["np.sqrt(x)", "x.numpy()", "x * np.ones(3)"])
def test_what_needs_a_gradient_is_no_array(text: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        by_python(text, torch.ones(3, requires_grad=True))
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect(text, x=[1.0, 2.0, 3.0])
    assert caught.value.torch_message == str(raised.value)


def test_a_value_may_be_an_array() -> None:
    found = jvpcli.inspect("x * 2", x="np.linspace(0, 1, 2)", grad_outputs="np.array([1., 3.])").to_dict()
    assert (found["inputs"]["x"]["dtype"], found["vjp"]["x"]["value"]) == ("float64", [2.0, 6.0])


def test_what_a_tensor_shares_its_memory_with_stays_as_it_is() -> None:
    with pytest.raises(jvpcli.JvpError, match="shares its memory"):
        jvpcli.inspect("a = np.zeros(3); t = torch.from_numpy(a); a[0] = 1; x * t", x=[1.0, 2.0, 3.0])


TOO_LARGE = [
    "np.zeros(np.sum(np.array([10 ** 12])))", "np.ones((10 ** 5, 1)) * np.ones(10 ** 5)",
    "np.linspace(np.zeros(10 ** 6), 1, 10 ** 6)",
    "np.diag(np.ones(10 ** 4))", "np.tile(np.ones(1000), 10 ** 6)", "np.ones(10 ** 4).repeat(10 ** 5)",
    "np.array(range(10 ** 9))",
    "np.random.rand(10 ** 6, 10 ** 6)", "np.random.normal(0, 1, 10 ** 10)", "np.outer(np.ones(10 ** 5), np.ones(10 ** 5))",
    "np.random.choice(10 ** 12, 3)", "np.repeat(1., np.array([10 ** 12]))", "np.linspace(0, 1, num=np.array(10 ** 11))",
    "np.add([[1.]] * 1000, np.ones((1, 10 ** 6)))", "np.arange(0, 1e12)", "np.eye(10 ** 6)",
]  # fmt: skip
REFUSED = [
    "np.zeros(3, 'U9999999')", "np.zeros(3, dtype='O')", "np.array(['a'])", "np.array([1.]).values",
    "np.array([1.]).tofile('CANARY')",
    "np.array([1.]).dump('CANARY')", "np.load('CANARY')", "np.array([1.]).__class__", "np.array([1.]).astype('O')",
    "np.random.default_rng(0)", "np.core.os", "np.zeros(3, [('a', 'f8', (1000000000,))])", "np.vectorize(open)",
    "np.array([1.]).base",
    "np.random.seed(open('CANARY'))", "np.linalg.os", "np.ones(3).check_own()", "np.ones(3).given_away()",
]  # fmt: skip


@pytest.mark.parametrize("text", TOO_LARGE)
def test_an_array_has_bounds(text: str) -> None:
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect(f"x * torch.tensor(({text}).sum())", x=[1.0])
    assert caught.value.code == "limit"


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_else_of_numpy_is_reached(text: str, tmp_path: Path) -> None:
    with pytest.raises(jvpcli.JvpError):
        jvpcli.inspect(f"y = {text}; x * 2", x=[1.0])


SIZED = [
    "np.dot(np.ones((1000, 784)), np.ones((784, 10)))", "np.ones((5, 300, 400)) @ np.ones((5, 400, 2))",
    "np.random.permutation(np.arange(30))", "np.repeat([1, 2, 3], [20, 300, 4000])", "np.diag(np.ones((2000, 2000)))",
    "np.concatenate([np.ones(1), np.ones(3)])", "np.zeros((10 ** 4, 784))[np.random.permutation(10 ** 4)]", "np.arange(stop=5)",
    "np.ones((3, 4))[:, np.array([True, False, True, False])]",
]  # fmt: skip


@pytest.mark.parametrize("text", SIZED)
def test_what_fits_is_computed(text: str) -> None:
    found = jvpcli.inspect(f"a = {text}; x * torch.tensor(a.sum())", x=[1.0]).to_dict()["outputs"]["y"]["value"]
    assert found == [eval(text, {"np": np}).sum()]


SHARED = [
    "a = np.zeros(3); t = torch.from_numpy(a); t[0] = 5; x * torch.tensor(a)",
    "a = np.zeros(3); t = torch.as_tensor(a); t += 1; x * torch.from_numpy(a)",
    "t = torch.ones(3); a = t.numpy(); t[0] = 9; x * torch.from_numpy(a)",
    "t = torch.ones(3); a = np.asarray(t); a[0] = 9; x * t",
]


@pytest.mark.parametrize("text", SHARED)
def test_shared_memory_is_not_changed(text: str) -> None:
    with pytest.raises(jvpcli.JvpError, match="shares its memory"):
        jvpcli.inspect(text, x=[1.0, 2.0, 3.0])


NUMBERS = [
    "torch.clamp(x, max=np.sqrt(4.))", "x.clamp(max=x.detach().numpy().mean())", "torch.full((3,), np.sqrt(4.)) * x",
    "x.unsqueeze(np.argmax(np.array([0, 1])))", "a = np.zeros(3); t = torch.tensor(a); a[0] = 1; x * t",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_of_numpys_are_numbers_for_torch(text: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    (found,) = jvpcli.inspect(text, x=x).to_dict()["outputs"].values()
    torch.testing.assert_close(torch.tensor(found["value"], dtype=getattr(torch, found["dtype"])), by_python(text, x))


HOSTILE = [
    "x.as_strided((2, 2), (np.array(2 ** 61), 1), 0)",
    "F.max_pool2d(x.reshape(1, 1, 2, 2), 2, dilation=np.array([2 ** 31 - 1])[0])",
    "torch.special.laguerre_polynomial_l(x, np.array(2 ** 40))",
    "x * torch.tensor(np.add(np.ones(4), 1, where=np.zeros(4) > 1))",
    "x * torch.tensor(np.array([2]) ** 10 ** 100)",
    "x * torch.tensor(np.prod([10 ** 300] * 1000))",
    "np.random.seed(); x * 2",
    "a = np.zeros(4); b = np.sum(np.ones((2, 4)), 0, None, a); x * 2",
    "x * np.zeros_like(np.ones(1), shape=(10 ** 12,)).shape[0]",
    "x * np.random.normal(np.zeros((10 ** 4, 1)), np.ones(10 ** 5)).shape[0]",
    "x * np.ones((10 ** 4, 1)).dot(np.ones((1, 10 ** 5)))[0, 0]",
    "x * np.ones(9)[np.zeros((10 ** 4, 1), dtype=int), np.zeros(10 ** 5, dtype=int)].shape[0]",
    "x * np.zeros((0, 10 ** 12)).sum(0)[0]",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_too_much_is_refused_before(text: str) -> None:
    with pytest.raises(jvpcli.JvpError):
        jvpcli.inspect(text, x=[1.0, 2.0, 3.0, 4.0])


def test_a_trace_shows_arrays_as_they_were() -> None:
    text = "a = np.zeros(2); a += x.detach().numpy(); a[0] = 7; x * torch.tensor(a)"
    steps = jvpcli.trace(text, x=[1.0, 2.0]).to_dict()["steps"]
    assert [step["value"] for step in steps][1:] == [[1.0, 2.0], [1.0, 2.0], [7.0, 2.0], [7.0, 2.0], [7.0, 4.0]]
