"""The Python API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jvpcli


def test_the_example():
    result = jvpcli.inspect("torch.outer(x, x)", x=[1, 2, 3, 4])
    assert result.vjp["x"].tolist() == [20, 20, 20, 20]
    assert result.jacobian["y", "x"].shape == (4, 4, 4)
    assert result.to_dict()["vjp"]["x"] == {"shape": [4], "dtype": "float32", "value": [20.0, 20.0, 20.0, 20.0]}
    assert "∂L/∂x = [20., 20., 20., 20.]" in str(result)
    assert repr(result) == "<jvpcli.InspectResult of 'torch.outer(x, x)'>"


def test_a_function_of_tensors():
    def scaled(x, w):
        return (x * w).sum(0), w * 2

    x, w = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    result = jvpcli.inspect(
        scaled, x=x, w=w, grad_outputs=[torch.ones(3), "zeros"], tangent={"x": torch.ones(2, 3)}
    )
    rows = torch.autograd.functional.jacobian(scaled, (x, w))
    for y, k in (("y0", 0), ("y1", 1)):
        for name, i in (("x", 0), ("w", 1)):
            torch.testing.assert_close(result.jacobian[y, name], rows[k][i])
    torch.testing.assert_close(result.vjp["x"], w.expand(2, 3))
    torch.testing.assert_close(result.jvp["y0"], 2 * w)
    assert result.report.expression == "scaled"


def test_parameters_go_by_name_or_else_by_order():
    assert jvpcli.inspect(lambda w, x: w - 2 * x, x=1.0, w=2.0).vjp["x"].item() == -2
    assert jvpcli.inspect(torch.sin, t=0.0).vjp["t"].item() == 1


def test_inputs_of_every_kind_keep_what_they_are():
    given = {
        "a": torch.ones(2, dtype=torch.float64),
        "b": np.ones(2, dtype=np.float32),
        "c": 3,
        "d": [[1.0, 2.0]],
        "e": "1,2",
        "f": {"value": [1, "NaN"], "dtype": "float64"},
    }
    report = jvpcli.inspect("a.sum() + b.sum() + c + d.sum() + e.sum() + f.sum()", given).report
    assert {name: value.dtype for name, value in report.inputs.items()} == {
        "a": "float64", "b": "float32", "c": "float32", "d": "float32", "e": "float32", "f": "float64",
    }  # fmt: skip


def test_the_callers_tensors_and_generator_are_left_alone():
    x = torch.ones(3, requires_grad=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    jvpcli.inspect("torch.nn.functional.dropout(x.clone().mul_(2))", x=x)
    assert torch.equal(torch.get_rng_state(), before)
    assert x.grad is None
    assert torch.equal(x, torch.ones(3))


def test_random_functions_repeat_and_agree_with_torch():
    one, two = (jvpcli.inspect("x * torch.rand(3)", x="torch.randn(3)") for _ in range(2))
    assert torch.equal(one.outputs["y"], two.outputs["y"])
    torch.manual_seed(0)
    np.testing.assert_array_equal(one.report.inputs["x"].value, torch.randn(3).numpy())
    other = jvpcli.inspect("x * torch.rand(3)", x="torch.randn(3)", seed=1)
    assert not torch.equal(one.outputs["y"], other.outputs["y"])
    both = jvpcli.inspect("x * w", x="torch.randn(3)", w="torch.randn(3)")
    assert not torch.equal(both.vjp["x"], both.vjp["w"])


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: jvpcli.inspect("torch.sinn(x)", x=1), "unknown_name"),
        (lambda: jvpcli.inspect("x", x=1, mode="sideways"), "usage"),
        (lambda: jvpcli.inspect("x*x", x=[[1, 2], [3]]), "bad_value"),
        (lambda: jvpcli.inspect("torch.outer(x,x)", x=torch.ones(4), grad_outputs=torch.ones(4)), "shape_mismatch"),
        (lambda: jvpcli.inspect(lambda x: 3, x=1.0), "not_differentiable"),
    ],
)
def test_failures_are_errors_with_the_contracts_fields(call, code):
    with pytest.raises(jvpcli.JvpError) as caught:
        call()
    assert caught.value.code == code
    assert set(caught.value.to_dict()) >= {"code", "message", "explanation", "hints", "span"}


def test_a_wrong_shape_from_python_has_a_hint_for_python():
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect("torch.outer(x,x)", x=torch.ones(4), grad_outputs=torch.rand(16))
    assert caught.value.hints == ("pass the same numbers in the shape (4, 4): v.reshape(4, 4)",)


def test_importing_loads_no_torch(tmp_path):
    import subprocess
    import sys

    code = "import sys, jvpcli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_derivative_alone_is_a_linear_map():
    x = torch.tensor([1.0, 2, 3, 4])
    found = jvpcli.jacobian("torch.outer(x, x)", x=x)["y", "x"]
    expected = torch.autograd.functional.jacobian(lambda t: torch.outer(t, t), x)
    assert (found.in_shape, found.out_shape, found.structure, found.nnz) == ((4,), (4, 4), "sparse", 28)
    torch.testing.assert_close(found.to_dense(), expected)
    np.testing.assert_allclose(found.to_scipy().toarray(), expected.reshape(16, 4))
    v, u = torch.rand(4, 4), torch.rand(4)
    torch.testing.assert_close(found.pullback(v), torch.tensordot(v, expected, dims=2))
    torch.testing.assert_close(found.pushforward(u), expected @ u)


def test_large_problems_go_to_the_engine_and_give_the_same():
    x = torch.randn(70, dtype=torch.float64)
    result = jvpcli.inspect("torch.outer(x, x).cumsum(0)[::7]", x=x)
    expected = torch.autograd.functional.jacobian(lambda t: torch.outer(t, t).cumsum(0)[::7], x)
    torch.testing.assert_close(result.jacobian["y", "x"], expected)
    entry = result.report.jacobian["y"]["x"]
    assert (entry.structure_from, entry.nnz) == ("operations", torch.count_nonzero(expected))
    many = jvpcli.inspect("torch.outer(x, x)", x=torch.randn(200)).report.jacobian["y"]["x"]
    assert (many.format, many.nnz, many.value) == ("coo", 2 * 200**2 - 200, None)
    assert [len(axis) for axis in many.indices] == [many.nnz] * 3
    assert len(many.values) == many.nnz


def test_what_does_not_fit_is_left_out_and_said_so():
    report = jvpcli.inspect("torch.linalg.inv(x)", x=torch.randn(40, 40), memory_limit=5_000_000).report
    assert report.jacobian["y"]["x"].format == "omitted"
    assert "do not fit into the memory limit" in report.jacobian["y"]["x"].reason
    assert report.plan.strategy == "matrix_free"
    assert report.vjp["x"].value.shape == (40, 40)


def test_the_callers_grad_mode_does_not_matter():
    """Autograd records inside, and inputs that were made in inference mode can be differentiated too."""
    with torch.inference_mode():
        made = torch.tensor([1.0, 2.0])
        inside = jvpcli.inspect("x * x", x=made).vjp["x"]
    with torch.no_grad():
        switched_off = jvpcli.inspect(lambda x: x * x, x=[1.0, 2.0])
        assert not torch.is_grad_enabled()
    outside = jvpcli.jacobian("x * x", x=made)["y", "x"].pullback(torch.ones(2))
    for vjp in (inside, switched_off.vjp["x"], outside):
        assert vjp.tolist() == [2, 4]


def test_a_callable_that_cannot_be_hashed():
    class Tripled:
        __hash__ = None

        def __call__(self, x):
            return x * 3

    assert jvpcli.jacobian(Tripled(), x=[1.0, 2.0])["y", "x"].to_dense().tolist() == [[3, 0], [0, 3]]


def test_the_memory_limit_as_on_the_command_line():
    report = jvpcli.inspect("torch.linalg.inv(x)", x=torch.randn(40, 40), memory_limit="5MB").report
    assert report.jacobian["y"]["x"].format == "omitted"
    assert jvpcli.inspect("x * 2", x=1.0, memory_limit=1e9).vjp["x"] == 2
    for size in ("much", "1e400", float("nan"), -1):
        with pytest.raises(jvpcli.JvpError, match="takes a size"):
            jvpcli.jacobian("x * 2", x=1.0, memory_limit=size)


def test_names_that_are_none_and_outputs_left_out():
    with pytest.raises(jvpcli.JvpError, match="takes the names of inputs"):
        jvpcli.inspect("x * 2", x=1.0, wrt=5)
    result = jvpcli.inspect("(x * 2, x)", x=[1.0, 2.0], grad_outputs=(torch.tensor([3.0, 4.0]), None))
    assert result.vjp["x"].tolist() == [6, 8]


def test_zeros_that_autograd_never_wrote_down():
    """The forward derivative of `sgn` is a zero without memory, which has a structure and a text like any other."""
    result = jvpcli.inspect("x.sgn()", x=[1.0, -2.0])
    assert result.jacobian["y", "x"].tolist() == [[0, 0], [0, 0]]
    assert result.to_dict()["jacobian"]["y"]["x"]["structure"] == "zero"
    assert "0" in str(result)


def hooked(x):
    y = x.exp()
    y.register_hook(lambda g: g * 2)
    return y + x


@pytest.mark.parametrize("n", [3, 60, 300])
@pytest.mark.parametrize("function", [hooked, lambda x: torch.fft.rfft(x).abs()], ids=["hooks", "complex on the way"])
def test_what_only_the_whole_backward_pass_knows(function, n):
    x = torch.linspace(0.1, 1, n, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(function, x)
    (found,) = jvpcli.jacobian(function, {"x": x}).values()
    torch.testing.assert_close(found.to_dense(), expected)
    torch.testing.assert_close(jvpcli.inspect(function, {"x": x}).jacobian["y", "x"], expected)


def test_a_jacobian_beyond_the_machine_s_memory_is_products_alone():
    def function(x):
        return torch.nn.functional.pad(x[None, None], (1, 1), mode="circular")[0, 0].cumprod(0)

    x = torch.ones(400_000)
    (found,) = jvpcli.jacobian(function, {"x": x}).values()  # 600 GB
    assert found.structure == "unknown"
    assert found.pullback(torch.ones(400_002)).shape == (400_000,)


@pytest.mark.parametrize(
    ("multiply", "code"),
    [
        (lambda j: j.pullback(torch.ones(16)), "shape_mismatch"),
        (lambda j: j.pullback(torch.ones(4, 4) * 1j), "usage"),
        (lambda j: j.pullback([1, 2]), "usage"),
        (lambda j: j.pushforward(torch.ones(4, 1)), "shape_mismatch"),
    ],
)
@pytest.mark.parametrize("n", [4, 70])
def test_nothing_is_reshaped_or_lost_in_silence(multiply, code, n):
    (found,) = jvpcli.jacobian("torch.outer(x[:4], x[:4])[:4, :4] + 0 * x.sum()", x=torch.rand(n)).values()
    with pytest.raises(jvpcli.JvpError) as caught:
        multiply(found)
    assert caught.value.code == code


FRESH = """
import jvpcli
for _ in range(2):
    assert jvpcli.inspect("x**2", x=[1.0, 2.0]).vjp["x"].tolist() == [2, 4]
    assert jvpcli.jacobian("x**2", x=[1.0, 2.0])["y", "x"].to_dense().tolist() == [[2, 0], [0, 4]]
    assert jvpcli.trace("x**2", x=[1.0, 2.0]).vjp["x"].tolist() == [2, 4]
    assert jvpcli.check("x**2", x=[1.0, 2.0]).passed
print("all")
"""


def test_the_functions_stay_what_they_are_in_a_program_that_loads_torch_late():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("all\n", "")


def test_no_room_takes_the_name_of_a_function():
    """An imported submodule becomes an attribute of the package, in the place of the function."""
    rooms = {path.stem for path in Path(jvpcli.__file__).parent.iterdir()}
    assert not rooms & set(jvpcli.__all__)


def test_how_many_outputs_there_are_may_follow_from_a_value():
    result = jvpcli.inspect("torch.split(x, n)", x=torch.arange(6.0), n=torch.tensor(2.0))
    assert list(result.outputs) == ["y0", "y1", "y2"]
    assert result.vjp["n"].item() == 0
    assert "graph_break" in {warning.code for warning in result.report.warnings}


def test_values_of_every_kind_go_through_a_function_of_the_user_s_own():
    """Complex ones and those of inference mode are traced; of 8 bits, with which torch doesn't compute, there is the Jacobian."""
    z = torch.tensor([0.5 + 1j, 2 - 1j])
    found = jvpcli.trace(lambda z: z.sin() * 2, z, grad_outputs=torch.ones(2)).vjp["z"]
    torch.testing.assert_close(found, (2 * z.cos()).conj())
    with torch.inference_mode():
        x = torch.tensor([0.5, 2.0])
    torch.testing.assert_close(jvpcli.trace(lambda x: x.sin() * 2, x, grad_outputs="ones").vjp["x"], 2 * x.cos())
    small = torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn)
    (jacobian,) = jvpcli.jacobian(lambda x: x.float() * 2, small).values()
    torch.testing.assert_close(jacobian.to_dense().float(), 2 * torch.eye(2))
    for question in (jvpcli.inspect, jvpcli.trace, jvpcli.hessian):
        with pytest.raises(jvpcli.JvpError, match="x is float8_e4m3fn, and so would its gradient be"):
            question(lambda x: (x.float() * 2).sum(), small)
