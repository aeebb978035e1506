"""What PyTorch's tests of jacrev, jacfwd, vjp, jvp and hessian ask: arguments, trees, aux, shapes, both modes; in our words."""

from __future__ import annotations

import pytest
import torch

import jvpcli

X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
Y = torch.tensor([1.0, 0.25, -0.75], dtype=torch.float64)
MODES = ("forward", "reverse", "auto")
EYE = torch.eye(3, dtype=torch.float64)

pytestmark = pytest.mark.filterwarnings("ignore")


def dense(function, *given, **options):
    """Every Jacobian written out; the linear maps and the inspection agree."""
    maps = jvpcli.jacobian(function, *given, **options)
    found = {key: each.to_dense() for key, each in maps.items()}
    shown = jvpcli.inspect(function, *given, **options).jacobian
    torch.testing.assert_close(dict(shown), found)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 0)])
def test_a_sine_has_its_cosine_on_the_diagonal(mode, shape):
    x = torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    ((key, found),) = dense(torch.sin, x, mode=mode).items()
    assert key == ("y", "x")
    torch.testing.assert_close(found, x.cos().reshape(-1).diag().reshape(x.shape + x.shape))


@pytest.mark.parametrize("mode", MODES)
def test_an_output_of_another_size(mode):
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 4)
    (found,) = dense(lambda x: x[0, 1:].unsqueeze(-1), x, mode=mode).values()
    expected = torch.zeros(3, 1, 2, 4, dtype=torch.float64)
    for k in range(3):
        expected[k, 0, 0, k + 1] = 1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_that_is_taken_several_times(mode):
    (found,) = dense(lambda x: torch.take(x, torch.tensor([1, 1, 0])), X, mode=mode).values()
    assert found.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("mode", MODES)
def test_arguments_by_position(mode):
    def function(x, y):
        return 2 * x + 3 * y, 4 * x + 5 * y

    everything = dense(function, X, Y, mode=mode)
    factors = {("y0", "x"): 2, ("y0", "y"): 3, ("y1", "x"): 4, ("y1", "y"): 5}
    torch.testing.assert_close(everything, {key: factor * EYE for key, factor in factors.items()})
    for wrt, kept in ((0, "x"), ((0,), "x"), (1, "y"), (-1, "y"), ((0, 1), "xy"), ((1, 0), "xy")):
        assert list(dense(function, X, Y, wrt=wrt, mode=mode)) == [key for key in factors if key[1] in kept]
    (found,) = dense(torch.multiply, X, Y, wrt=1, mode=mode).values()
    torch.testing.assert_close(found, X.diag())


@pytest.mark.parametrize("wrt", [2, -3, (0, 5)])
def test_positions_that_are_not_there(wrt):
    with pytest.raises(jvpcli.JvpError, match=r"position .* and there are 2"):
        jvpcli.jacobian(torch.multiply, X, Y, wrt=wrt)


@pytest.mark.parametrize("wrt", [(), 0.0, (1, 0.0)])
def test_positions_that_are_none(wrt):
    with pytest.raises(jvpcli.JvpError, match="takes the names of inputs"):
        jvpcli.jacobian(torch.multiply, X, Y, wrt=wrt)


@pytest.mark.parametrize("mode", MODES)
def test_arguments_that_are_tuples_and_results_that_are_dicts(mode):
    def function(a, b, c):
        a0, a1 = a
        return a0 + a1 * 2, {"foo": b * 3 + c * 4}

    x = torch.tensor(0.5, dtype=torch.float64)
    found = dense(function, (x, x), x, x, mode=mode)
    assert {key: float(each) for key, each in found.items()} == {
        ("out[0]", "a[0]"): 1, ("out[0]", "a[1]"): 2, ("out[0]", "b"): 0, ("out[0]", "c"): 0,
        ('out[1]["foo"]', "a[0]"): 0, ('out[1]["foo"]', "a[1]"): 0, ('out[1]["foo"]', "b"): 3, ('out[1]["foo"]', "c"): 4,
    }  # fmt: skip
    assert {x for _, x in dense(function, (x, x), x, x, wrt=0, mode=mode)} == {"a[0]", "a[1]"}


@pytest.mark.parametrize("mode", MODES)
def test_a_dict_to_a_dict(mode):
    found = dense(lambda d: {"c": d["a"].sin(), "d": d["b"].cos()}, inputs={"d": {"a": X, "b": Y}}, mode=mode)
    zero = torch.zeros(3, 3, dtype=torch.float64)
    expected = {
        ('out["c"]', 'd["a"]'): X.cos().diag(), ('out["c"]', 'd["b"]'): zero,
        ('out["d"]', 'd["a"]'): zero, ('out["d"]', 'd["b"]'): -Y.sin().diag(),
    }  # fmt: skip
    torch.testing.assert_close(found, expected)


def test_a_composite_result():
    def function(x):
        total = x.sum()
        return [(total, {"a": x, "out": [x, total]})]

    assert [y for y, _ in dense(function, X)] == ["out[0][0]", 'out[0][1]["a"]', 'out[0][1]["out"][0]', 'out[0][1]["out"][1]']


@pytest.mark.parametrize("aux", [torch.ones(2), {"a": X, "b": [1]}, 1, 1.5, "abc"], ids=str)
def test_aux(aux):
    """What PyTorch's has_aux gives beside the Jacobian is left out by its name, and may be anything."""
    name = "out[1]" if isinstance(aux, dict) else "y1"
    (found,) = dense(lambda x: (x.clone(), aux), X, ignore=name).values()
    torch.testing.assert_close(found, EYE)


@pytest.mark.parametrize("result", [None, (), 1, True, 12.2, "abc"], ids=repr)
def test_results_that_are_no_tensors(result):
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.jacobian(lambda _: result, X)
    assert caught.value.code == "not_differentiable"


@pytest.mark.parametrize("mode", MODES)
def test_what_is_unrelated(mode):
    """Zeros; where no output depends on anything the function is refused, as PyTorch does if it is strict."""
    found = dense(lambda x, y: (x, Y.clone()), X, Y, mode=mode)
    assert list(found) == [(y, x) for y in ("y0", "y1") for x in ("x", "y")]
    torch.testing.assert_close(found["y0", "x"], EYE)
    assert not any(each.any() for key, each in found.items() if key != ("y0", "x"))
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.jacobian(lambda x: Y.clone(), X, mode=mode)
    assert caught.value.code == "not_differentiable"


REFERENCE = [
    (lambda x: 3 * x**2, [(2, 3, 2)]),
    (lambda x, y: (x.cos() * x) @ y.sin(), [(2, 3), (3, 5)]),
    (lambda x, y: ((x * x) @ y, x @ (x.sum(1) * y), y.sum()), [(5, 3), (3, 5)]),
    (lambda x, y: (x, y, x, y), [(2,), (3,)]),
    (lambda x, y: (x.sum(), y.sum(), x * y), [(3,), (3,)]),
    (lambda x: torch.stack([x, x, x]), [()]),
    (lambda x, y: (y.sum(), x * y), [(), (1,)]),
    (lambda x, y, z=3.0: x * y * z, [(3,), (3,)]),
    (lambda x, y: ((x.sin(), x + y), (x + 2, x.sum())), [(10, 2), (1, 2)]),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("function", "shapes"), REFERENCE)
def test_against_the_functional_jacobian(mode, function, shapes):
    generator = torch.Generator().manual_seed(0)
    given = tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)

    def flat(*inputs):
        result = function(*inputs)
        parts = [result] if isinstance(result, torch.Tensor) else result
        return tuple(leaf for part in parts for leaf in (part if isinstance(part, tuple) else (part,)))

    expected = torch.autograd.functional.jacobian(flat, given)
    found = list(dense(function, *given, mode=mode).values())
    torch.testing.assert_close(found, [each for row in expected for each in row])


def test_whole_numbers_stay_what_they_are():
    matrix = torch.ones(3, 3, dtype=torch.float64)
    (found,) = dense(lambda t, number: t + number, matrix, 3).values()
    torch.testing.assert_close(found.reshape(9, 9), torch.eye(9, dtype=torch.float64))


def test_writes_in_place():
    """To an argument that is not differentiated; the caller's tensors stay."""

    def copied(x, y):
        y.copy_(x)
        return y

    (found,) = dense(copied, X, Y, wrt=0).values()
    torch.testing.assert_close(found, EYE)
    assert Y.tolist() == [1.0, 0.25, -0.75]

    def parts(x, y, z):
        x[:2] = y
        return torch.vstack([(x**2).sum(), (z**3).sum()])

    y, z = X[:2].clone(), Y[:2].clone()
    found = dense(parts, X, y, z, wrt=(1, 2))
    torch.testing.assert_close(found["out", "y"], torch.stack([2 * y, 0 * y])[:, None])
    torch.testing.assert_close(found["out", "z"], torch.stack([0 * z, 3 * z**2])[:, None])


def test_a_jacobian_of_a_jacobian():
    inner = torch.func.jacrev(lambda x: x.sin().sum())
    (found,) = dense(inner, X).values()
    torch.testing.assert_close(found, -X.sin().diag())
    again = jvpcli.jacobian(lambda x: jvpcli.jacobian(lambda z: z**3, x, create_graph=True)["y", "z"].to_dense().diagonal(), X)
    torch.testing.assert_close(again["y", "x"].to_dense(), (6 * X).diag())


def test_products():
    """vjp and jvp: of several inputs, several outputs, dicts."""
    given, tangent = (X, Y), (Y, X.flip(0))
    result = jvpcli.inspect(lambda x, y: (x + y, x * y), *given, grad_outputs=[X, Y], tangent=list(tangent))
    torch.testing.assert_close(result.vjp, {"x": X + Y * Y, "y": X + Y * X})
    torch.testing.assert_close(result.jvp, {"y0": Y + X.flip(0), "y1": Y * Y + X * X.flip(0)})
    named = jvpcli.inspect(lambda x: {"a": x.sin(), "b": x.sum()}, X, grad_outputs={'out["a"]': Y, 'out["b"]': 2.0})
    torch.testing.assert_close(named.vjp["x"], X.cos() * Y + 2)
    with pytest.raises(jvpcli.JvpError, match="1 of the 2 outputs"):
        jvpcli.inspect(lambda x: (x, x), X, grad_outputs=[X])


def test_products_of_many():
    J = jvpcli.jacobian(lambda x: x.log_softmax(-1), X)["y", "x"]
    rows = torch.vmap(J.pullback)(EYE)
    torch.testing.assert_close(rows, torch.autograd.functional.jacobian(lambda x: x.log_softmax(-1), X))
    torch.testing.assert_close(torch.vmap(J.pushforward)(EYE).T, rows)


def test_samples_of_an_embedding_net():
    """A row of the Jacobian of all losses is the gradient of a sample, through an index lookup too."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Flatten(), torch.nn.Linear(12, 2)).double()
    params, words, targets = dict(net.named_parameters()), torch.tensor([[1, 2, 6], [0, 0, 3]]), torch.tensor([0, 1])

    def losses(params, words, targets):
        scores = torch.func.functional_call(net, params, (words,))
        return torch.nn.functional.cross_entropy(scores, targets, reduction="none")

    maps = jvpcli.jacobian(losses, params, words, targets)
    assert [x for _, x in maps] == [f'params["{name}"]' for name in params]
    for row in range(2):
        alone = torch.autograd.grad(losses(params, words[row : row + 1], targets[row : row + 1])[0], list(params.values()))
        for each, expected in zip(maps.values(), alone, strict=True):
            torch.testing.assert_close(each.to_dense()[row], expected)


def test_dtypes_and_numbers_with_an_imaginary_part():
    """torch.func refuses complex tensors; here they have PyTorch's gradients."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        (found,) = jvpcli.jacobian(lambda x: 2 * x, X.to(dtype)).values()
        assert found.to_dense().dtype is dtype
    z = torch.complex(X, Y)
    result = jvpcli.inspect(lambda z: (z.conj() * z).real, z, grad_outputs=X)
    torch.testing.assert_close(result.vjp["z"], 2 * X * z)


class Doubled(torch.autograd.Function):
    """Right in both modes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

    @staticmethod
    def jvp(ctx, u):
        (x,) = ctx.saved_tensors
        return 2 * x * u


class Onwards(Doubled):
    """No backward at all."""

    backward = staticmethod(torch.autograd.Function.backward)


class Backwards(Doubled):
    """No forward formula."""

    jvp = staticmethod(torch.autograd.Function.jvp)


class Torn(Doubled):
    """A jvp that is wrong."""

    @staticmethod
    def jvp(ctx, u):
        return 3 * ctx.saved_tensors[0] * u


@pytest.mark.parametrize(("kind", "factor"), [(Doubled, 2), (Onwards, 2), (Torn, 3), (Backwards, 2)])
def test_forward_mode_is_that_of_the_functions_own(kind, factor):
    found = jvpcli.jacobian(kind.apply, X, mode="forward")["y", "x"].to_dense()
    torch.testing.assert_close(found, (factor * X).diag())


def test_what_inspect_says_of_forward_mode():
    plan = jvpcli.inspect(Doubled.apply, X, mode="forward").report.plan
    assert (plan.mode, plan.passes) == ("forward", 3)
    assert plan.reason == "asked for with --mode forward; dual numbers, one run a column"
    fallback = jvpcli.inspect(Backwards.apply, X, mode="forward").report
    assert fallback.plan.mode == "reverse"
    assert [notice.code for notice in fallback.warnings] == ["fallback"]
    assert "must implement the jvp" in fallback.warnings[0].message
    with pytest.raises(jvpcli.JvpError, match="Forward mode and the backward pass of your code differ"):
        jvpcli.inspect(Torn.apply, X, mode="forward")
