"""Loops that train by hand: the derivative call of the last turn is what is asked, at what the turns before it leave."""

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch

LOOPS = {
    "in place under no_grad, zeroed": """
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(4):
            loss = (w ** 2 * torch.tensor([3.0, -1.0])).sum()
            loss.backward()
            KEEP(w)
            with torch.no_grad():
                w -= 0.1 * w.grad
            w.grad.zero_()
        print(w)
    """,
    "two weights, sub_ and None": """
        X = torch.arange(6.0).reshape(3, 2) / 4
        t = torch.tensor([1.0, 0.0, -1.0])
        w = torch.tensor([0.5, -0.25], requires_grad=True)
        b = torch.zeros(1, requires_grad=True)
        rate = 0.1
        for epoch in range(3):
            predicted = X @ w + b
            loss = ((predicted - t) ** 2).mean()
            loss.backward()
            KEEP(w, b)
            with torch.no_grad():
                for p in [w, b]:
                    p.sub_(rate * p.grad)
                    p.grad = None
            print(epoch, loss.item())
        w
    """,
    "a leaf that is bound again": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(3):
            y = (x ** 3).sum()
            y.backward()
            KEEP(x)
            x = (x - 0.1 * x.grad).detach().requires_grad_()
        print(x)
    """,
    "by .data, with a history": """
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        losses = []
        for i in range(3):
            loss = ((w - 3) ** 4).sum()
            losses.append(loss.item())
            loss.backward()
            KEEP(w)
            w.data -= 0.001 * w.grad.data
            w.grad.data.zero_()
        print(losses)
    """,
    "torch.autograd.grad, functional": """
        def step(w, g, rate):
            return w - rate * g
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        for i in range(3):
            loss = (w.exp() * (i + 1)).sum()
            g, = torch.autograd.grad(loss, w)
            w.grad = None
            KEEP_VALUE(w=g)
            w = step(w, g, 0.1).detach().requires_grad_()
    """,
    "momentum": """
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        m = torch.zeros(2)
        for i in range(3):
            loss = (w ** 2).sum() + (m * w).sum()
            loss.backward()
            KEEP(w)
            with torch.no_grad():
                m = 0.9 * m + w.grad
                w -= 0.1 * m
            w.grad = None
    """,
    "nothing is cleared": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(3):
            y = (x ** (i + 1)).sum()
            y.backward()
        KEEP(x)
        print(x.grad)
    """,
    "a loop in a loop": """
        a = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        for i in range(2):
            for j in range(3):
                out = a[i, j] ** (j + 1)
                out.backward()
        KEEP(a)
        print(a.grad)
    """,
    "a loop in a loop that clears": """
        a = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        for i in range(3):
            a.grad = None
            scale = i + 1
            for j in range(3):
                (a[j] ** 2 * scale).backward()
        KEEP(a)
    """,
    "before an optimizer's last step": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        opt = torch.optim.SGD([x], lr=0.1)
        for i in range(3):
            opt.zero_grad()
            y = (x ** (i + 2)).sum()
            y.backward()
            KEEP(x)
            opt.step()
        print(x.grad)
    """,
    "before the last step of a loop in a loop": """
        import torch.optim as optim
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        data = torch.arange(1.0, 7.0).reshape(3, 2)
        opt = optim.Adam([w], lr=0.5)
        for epoch in range(2):
            total = 0.0
            for row in data:
                opt.zero_grad()
                loss = (torch.tanh(row * w) ** 2).sum()
                loss.backward()
                KEEP(w)
                opt.step()
                total += loss.item()
            if epoch % 2 == 0:
                print(f"{epoch}: {total}")
    """,
    "a loop in a loop, by hand": """
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        for epoch in range(2):
            for row in torch.arange(6.0).reshape(3, 2):
                loss = ((row * w).sum() - 1) ** 2
                loss.backward()
                KEEP(w)
                with torch.no_grad():
                    w -= 0.01 * w.grad
                w.grad.zero_()
            print(epoch)
        print(w)
    """,
    "weights that a function reads": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        def model(t):
            return t * w
        loss_of = lambda t, y: ((model(t) - y) ** 2).sum()
        for epoch in range(3):
            for t, y in zip([1.0, 2.0], [3.0, 1.0]):
                loss_of(t, y).backward()
                KEEP(w)
                w.data = w.data - 0.05 * w.grad.data
                w.grad.data.zero_()
        print(model(4.0))
    """,
    "a loop in a loop, a scale that grows outside": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        scale = 1.0
        for epoch in range(3):
            scale = scale * 2
            for row in torch.arange(4.0).reshape(2, 2):
                loss = ((w * row) ** 2).sum() * scale
                loss.backward()
                KEEP(w)
                with torch.no_grad():
                    w -= 0.01 * w.grad
                w.grad = None
    """,
    "a loop in a loop, what each epoch begins with": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        for epoch in range(2):
            h = torch.zeros(2)
            for row in torch.arange(6.0).reshape(3, 2):
                h = torch.tanh(h.detach() + row * w)
                loss = (h * (epoch + 1)).sum()
                loss.backward()
                KEEP(w)
                with torch.no_grad():
                    w -= 0.1 * w.grad
                w.grad = None
    """,
    "weights of its own": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for v in [torch.tensor([1.0, 0.0]), torch.tensor([2.0, 5.0])]:
            y = x ** 2
            y.backward(v)
            KEEP(x)
            x.grad.zero_()
    """,
}


def by_python(source: str) -> dict[str, list[float]]:
    """What `.grad` of each leaf held where the program says so, the last time."""
    kept: dict[str, list[float]] = {}
    scope: dict[str, Any] = {"torch": torch, "print": lambda *_: None}

    def keep(*leaves: torch.Tensor) -> None:
        for name, x in scope.items():
            if any(x is leaf for leaf in leaves) and name != "p":
                assert x.grad is not None
                kept[name] = x.grad.tolist()

    scope["KEEP"], scope["KEEP_VALUE"] = keep, lambda **values: kept.update({k: v.tolist() for k, v in values.items()})
    exec(source, scope)
    return kept


@pytest.mark.parametrize("name", LOOPS)
def test_gradients_are_those_of_the_last_turn(jvp: Callable[..., Any], name: str) -> None:
    source = textwrap.dedent(LOOPS[name]).strip()
    asked = "\n".join(line for line in source.split("\n") if "KEEP" not in line)
    run = jvp("inspect", asked, "--json", "--quiet")
    document = json.loads(run.out)
    assert document["ok"], document
    expected = by_python(source)
    assert {*document["vjp"]} == {*expected}
    for leaf, gradient in expected.items():
        torch.testing.assert_close(document["vjp"][leaf]["value"], gradient, rtol=2e-5, atol=1e-6)


def test_what_is_said_of_a_loop(jvp: Callable[..., Any]) -> None:
    source = textwrap.dedent(LOOPS["in place under no_grad, zeroed"]).strip().replace("    KEEP(w)\n", "")
    run = jvp("inspect", source)
    assert "of the loop the last turn is shown, at what the turns before it leave in w.\n" in run.err


COMPARED = ["x.grad == 2 * x", "torch.allclose(x.grad, 2 * x)", "assert torch.allclose(x.grad, 2 * x)", "print(x.grad == 2 * x)",
            "assert (x.grad == 2 * x).all()", "torch.equal(x.grad, 2 * x)"]  # fmt: skip


@pytest.mark.parametrize("last", COMPARED)
def test_a_comparison_at_the_end_only_shows(jvp: Callable[..., Any], last: str) -> None:
    source = f"x = torch.tensor([1., 2.], requires_grad=True)\ny = (x**2).sum()\ny.backward()\n{last}"
    run = jvp("inspect", source, "--json", "--quiet")
    assert json.loads(run.out)["vjp"]["x"]["value"] == [2.0, 4.0]
