"""Random numbers of a program are drawn in its order, from one stream, as PyTorch does behind `torch.manual_seed(seed)`."""

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch

PROGRAMS = {
    "a leaf and a constant": """
        x = torch.rand(3, requires_grad=True)
        w = torch.rand(3)
        y = (x * w).sum()
        y.backward()
    """,
    "leaves that are not the first": """
        a = torch.ones(3, requires_grad=True)
        w = torch.rand(3)
        x = torch.randn(3, requires_grad=True)
        b = torch.rand(3)
        (a * w * x.exp() * b).sum().backward()
    """,
    "a leaf made of what was drawn": """
        n = 3
        k = torch.rand(n) + 1
        x = (k * torch.randn(n)).requires_grad_()
        noise = torch.randn_like(x)
        (x ** 2 * noise * k).sum().backward()
    """,
    "a seed at the beginning": """
        torch.manual_seed(7)
        x = torch.rand(3, requires_grad=True)
        (x * torch.rand(3)).sum().backward()
    """,
    "a seed in a name, and again": """
        SEED = 11
        torch.manual_seed(SEED)
        x = torch.rand(3, requires_grad=True)
        torch.manual_seed(SEED)
        w = torch.rand(3)
        (x * w * torch.rand(3)).sum().backward()
    """,
    "functions and loops that draw": """
        def noisy(t):
            return t * torch.rand(3)
        x = torch.randn(3, requires_grad=True)
        y = x
        for k in range(2):
            y = noisy(y) + torch.randn(3)
        w = torch.rand(3, requires_grad=True)
        (noisy(y) * w).sum().backward()
    """,
    "modules between": """
        w = torch.rand(3)
        x = torch.rand(3, requires_grad=True)
        net = torch.nn.Linear(3, 2)
        b = torch.rand(2, requires_grad=True)
        more = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
        v = torch.rand(2)
        (more(net(x * w)) * v * b).sum().backward()
    """,
    "modules alone": """
        x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        net = torch.nn.Linear(3, 2)
        more = torch.nn.Linear(2, 2)
        more(net(x)).sum().backward()
    """,
    "weights that are drawn": """
        x = torch.rand(3, requires_grad=True)
        (x ** 2 * torch.rand(3)).backward(torch.randn(3))
    """,
    "weights of a function's, that are drawn": """
        x = torch.rand(3, requires_grad=True)
        torch.autograd.backward((x ** 2, x * torch.rand(3)), (torch.rand(3), torch.randn(3)))
    """,
    "dropout": """
        x = torch.rand(5, requires_grad=True)
        drop = torch.nn.Dropout(0.5)
        y = drop(x) + torch.nn.functional.dropout(x, 0.3) * torch.rand(5)
        y.sum().backward()
    """,
}


def by_python(source: str, seed: int, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients that plain Python leaves; what is given stands for a leaf, behind what the program draws for it."""
    lines = []
    for line in textwrap.dedent(source).strip().split("\n"):
        lines.append(line)
        name = line.partition(" = ")[0]
        if name in given:
            lines.append(f"{name} = given[{name!r}].clone().requires_grad_()")
    scope: dict[str, Any] = {"torch": torch, "given": given}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        exec("\n".join(lines), scope)
    leaves = {name: x for name, x in scope.items() if isinstance(x, torch.Tensor) and x.is_leaf and x.requires_grad}
    return {name: x.grad for name, x in leaves.items() if x.grad is not None}


def compare(document: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    assert document["ok"], document
    found = {name: torch.tensor(part["value"]) for name, part in document["vjp"].items()}
    assert expected.keys() <= found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("seed", [0, 3])
def test_numbers_are_pytorchs(jvp: Callable[..., Any], name: str, seed: int) -> None:
    source = textwrap.dedent(PROGRAMS[name]).strip()
    options = ["--seed", str(seed)] if seed and "manual_seed" not in source else []
    run = jvp("inspect", source, *options, "--json", "--quiet")
    compare(json.loads(run.out), by_python(source, seed))


@pytest.mark.parametrize("name", [name for name, source in PROGRAMS.items() if "x = torch.ra" in source])
def test_a_given_leaf_leaves_the_others_as_they_are(jvp: Callable[..., Any], name: str) -> None:
    source = textwrap.dedent(PROGRAMS[name]).strip()
    x = torch.tensor([0.5, -1.0, 2.0, 0.25, -3.0][: 5 if name == "dropout" else 3])
    run = jvp("inspect", source, "--x", ",".join(map(str, x.tolist())), "--json", "--quiet")
    compare(json.loads(run.out), by_python(source, 0, x=x))


TRANSFORMS = {
    "tangents": """
        x = torch.randn(5)
        y = torch.randn(5)
        v = torch.rand(5)
        f = lambda x, y: x * y
        _, out = torch.func.jvp(f, (x, y), (v, torch.rand(5)))
    """,
    "what is not derived is drawn first": """
        from torch.func import jacrev
        x = torch.randn(3)
        weight, bias = torch.randn(2, 3), torch.randn(2)
        def predict(weight, bias, x):
            return torch.tanh(weight @ x + bias)
        out = jacrev(predict, argnums=(0, 1))(weight, bias, x)
    """,
    "row by row": """
        x = torch.randn(4)
        out = torch.func.vmap(torch.func.grad(torch.sin))(x)
    """,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inputs_of_a_transform_are_pytorchs(jvp: Callable[..., Any], name: str) -> None:
    source = textwrap.dedent(TRANSFORMS[name]).strip()
    document = json.loads(jvp("inspect", source, "--json", "--quiet").out)
    assert document["ok"], document
    scope: dict[str, Any] = {"torch": torch}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(source, scope)
    for key, given in document["inputs"].items():
        torch.testing.assert_close(torch.tensor(given["value"]), scope[key])
    blocks = document["jacobian"]
    if name == "tangents":
        torch.testing.assert_close(torch.tensor(document["jvp"]["out"]["value"]), scope["out"])
    elif name == "row by row":
        torch.testing.assert_close(torch.tensor(blocks["y"]["x"]["value"]), torch.diag(scope["x"].cos()))
    else:
        for key, expected in zip(("weight", "bias"), scope["out"], strict=True):
            torch.testing.assert_close(torch.tensor(blocks["y"][key]["value"]), expected)


def test_the_seed_of_a_program_counts_where_none_is_given(jvp: Callable[..., Any]) -> None:
    import jvpcli

    source = "torch.manual_seed(7); x = torch.rand(3, requires_grad=True); (x ** 2).sum().backward()"
    for given in (None, 0, 7):
        with torch.random.fork_rng():
            torch.manual_seed(7 if given is None else given)
            expected = 2 * torch.rand(3)
        options = {} if given is None else {"seed": given}
        words = [] if given is None else ["--seed", str(given)]
        torch.testing.assert_close(jvpcli.inspect(source, **options).vjp["x"], expected)
        compare(json.loads(jvp("inspect", source, *words, "--json", "--quiet").out), {"x": expected})


def test_a_seed_stays_inside() -> None:
    """What a program begins anew is its own stream, and not the process's."""
    import jvpcli

    before = torch.get_rng_state()
    jvpcli.inspect("torch.manual_seed(5); x * torch.rand(3)", x=[1.0, 2.0, 3.0])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_command_that_a_paste_is_read_as(jvp: Callable[..., Any]) -> None:
    """A leaf that is drawn later says what was drawn before it."""
    source = "w = torch.rand(2)\nx = torch.rand(2, requires_grad=True)\nb = torch.rand(2)\n(w * x * b).sum().backward()"
    run = jvp("inspect", source)
    assert run.err.startswith(
        'read as: jvp inspect "w = torch.rand(2); torch.rand(2); b = torch.rand(2); (w * x * b).sum()" '
        '--x "torch.manual_seed(0); w = torch.rand(2); torch.rand(2)" --grad-outputs implicit\n'
    )
