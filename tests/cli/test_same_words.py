"""What an expression raises is explained by inspect as `jvp explain` explains the message."""

from __future__ import annotations

import json

import numpy
import pytest

RAISED = [
    # (expression, VALUEs and other options, exit code, what both say)
    ("torch.outer(x,x)", ["--x", "1,2,3,4", "-g", "1,1,1,1"], 4, "one weight for each entry of the *output*"),
    ("x.sum()", ["--x", "1,2", "-g", "1,"], 4, "one weight for each entry of the *output*"),
    ("x*2", ["--x", "1,2,3", "-t", "1,2"], 4, "moves: one number for each entry of"),
    ("torch.sin(x.detach()) * 2", ["--x", "1,2"], 6, "has no grad_fn: as far as autograd knows it is a constant"),
    ("torch.tensor([x[0], x[1]])", ["--x", "1,2"], 6, "has no grad_fn"),
    ("x.argmax()", ["--x", "1,2"], 6, "has no grad_fn"),
    ("x * 2", ["--x", "torch.tensor([1,2])"], 6, "Only floating and complex tensors can have requires_grad=True"),
    ("y = x.exp(); y.add_(1); y.sum()", ["--x", "1,2"], 5, "was kept for computing the gradient"),
    ("y = x.sigmoid(); y.mul_(2); y.sum()", ["--x", "1,2;3,4"], 5, "was kept for computing the gradient"),
    ("x.mul_(2)", ["--x", "1,2"], 5, "there would be no leaf left for the gradient"),
    ("x[0] = 0.; x", ["--x", "1,2"], 5, "Overwriting it through a view"),
    ("A @ B", ["--A", "torch.ones(2,3)", "--B", "torch.ones(2,3)"], 4, "the first is 3, in (2, 3), the second 2, in (2, 3)"),
    ("a + b", ["--a", "1,2,3", "--b", "1,2,3,4"], 4, "Broadcasting aligns shapes from the right"),
    ("torch.maximum(a, b)", ["--a", "1,2;3,4", "--b", "1,2,3,4"], 4, "Broadcasting aligns shapes from the right"),
    ("torch.dot(a, b)", ["--a", "1,2,3", "--b", "1,2,3,4"], 4, "both vectors need the same length"),
    ("torch.outer(a, b)", ["--a", "1,2;3,4", "--b", "1,2,3,4"], 4, "outer is defined for 1-d tensors"),
    ("torch.mv(a, b)", ["--a", "1,2;3,4", "--b", "1,2,3,4"], 4, "are summed over together"),
    ("a.reshape(4, 2)", ["--a", "1,2,3;4,5,6"], 4, "their number stays the same"),
    ("a.t().view(6)", ["--a", "1,2,3;4,5,6"], 4, "without copying"),
    ("torch.cat([a, b])", ["--a", "torch.ones(2,3)", "--b", "torch.ones(2,4)"], 4, "one behind the other along one axis"),
    ("torch.einsum('ij,jk', a, b)", ["--a", "torch.ones(2,3)", "--b", "torch.ones(4,3)"], 4, "always means the same length"),
    ("a.sum(dim=1)", ["--a", "1,2,3"], 4, "Axes are counted from 0"),
    ("a @ b", ["--a", "torch.ones(2,2).double()", "--b", "torch.ones(2,2)"], 5, "float64"),
    ("x.sum() if x > 0 else x", ["--x", "1,2"], 5, "several values"),
    ("F.batch_norm(x, m, v, training=True)", ["--x", "torch.rand(4,2)", "--m", "0,0", "--v", "1,1"], 5, "state or a setting"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "options", "code", "both_say"), RAISED, ids=[f"{r[0]} {r[2]}" for r in RAISED])
def test_inspect_says_what_explain_says(jvp, expression, options, code, both_say):
    done = jvp("inspect", expression, *options, "--json")
    assert done.code == code
    error = json.loads(done.out)["error"]
    explained = jvp("explain", error["torch_message"], "--json")
    assert explained.code == 0
    told = json.loads(explained.out)
    assert both_say in f"{error['message']} {error['explanation']}"
    assert both_say in f"{told['title']} {told['meaning']}"
    assert error["causes"] == told["causes"]
    assert error["cures"]
    if expression != "a + b" and "maximum" not in expression and "linear" not in expression:
        assert error["cures"] == told["cures"]


def test_a_warning_of_torch_s_is_told_in_the_same_words(jvp):
    done = jvp("inspect", "F.mse_loss(p, t)", "--p", "1;2;3", "--t", "1,2,3", "--json")
    warning = next(w for w in json.loads(done.out)["warnings"] if w["code"] == "torch_warning")
    assert warning["message"].startswith("The loss compares shapes (3, 1) and (3,). The prediction has shape (3, 1)")
    done = jvp("inspect", "F.mse_loss(p, t)", "--p", "1,2,3", "--t", "1,2,3", "--json")
    assert not [w for w in json.loads(done.out)["warnings"] if w["code"] == "torch_warning"]


@pytest.mark.parametrize(
    ("expression", "end", "why"),
    [
        ("torch.sin(x.detach() * 2)", "x.detach()", "`detach` ends the graph"),
        ("torch.tensor([x[0], x[1]]) ** 2", "torch.tensor([x[0], x[1]])", "copies the numbers alone"),
        ("x[0].item() * torch.ones(2)", "x[0].item()", "plain Python numbers"),
        ("(x > 0).float() * 2", "x > 0", "`>` gives booleans"),
        ("x.argmax()", "x.argmax()", "gives places (int64)"),
        ("y = 2 * x; y.long().float()", "y.long()", "gives int64"),
        ("x.int() * 2", "x.int()", "gives int32: integers have no derivatives"),
        ("torch.ones_like(x) * 2", "torch.ones_like(x)", "takes the shape alone"),
    ],
)
def test_where_the_graph_ends_is_underlined(jvp, expression, end, why):
    error = json.loads(jvp("inspect", expression, "--x", "1,2", "--json").out)["error"]
    assert error["code"] == "not_differentiable"
    assert expression[slice(*error["span"])] == end
    assert why in error["explanation"]


def test_integers_have_a_command_with_floats(jvp, tmp_path):
    error = json.loads(jvp("inspect", "x * n", "--x", "torch.arange(3)", "--n", "2", "--dtype", "int64", "--json").out)[
        "error"
    ]
    assert error["hints"] == ['jvp inspect "x * n" --x "(torch.arange(3)).float()" --n 2']
    error = json.loads(jvp("inspect", "x * 2", "--x", "[true,false]", "--json").out)["error"]
    assert error["hints"] == ['jvp inspect "x * 2" --x "[1,0]"']
    numpy.save(tmp_path / "true.npy", numpy.arange(3))
    error = json.loads(jvp("inspect", "x * 2", "--x", f"@{tmp_path / 'true.npy'}", "--json").out)["error"]
    assert error["hints"] == ["Store floating numbers in the file: array.astype('float32'), or tensor.float()"]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.", "cuts the gradient"),
        (
            "The differentiated Tensor at index 0 appears to not have been used in the graph. Set allow_unused=True if this "
            "is the desired behavior.",
            "otherwise it hides the cut",
        ),
        ("element 0 of tensors does not require grad and does not have a grad_fn", "only silences the message"),
    ],
)
def test_advice_that_misleads_is_said_to(jvp, message, says):
    told = json.loads(jvp("explain", message, "--json").out)
    assert says in " ".join(told["cures"])


def test_the_step_that_changes_in_place_is_underlined(jvp):
    source = "y = x.exp(); z = 2 * y; y.add_(1); (y * z).sum()"
    error = json.loads(jvp("inspect", source, "--x", "1,2", "--json").out)["error"]
    assert source[slice(*error["span"])] == "y.add_(1)"
    assert error["message"] == "the backward pass failed: a value that backward needs was changed in place"
