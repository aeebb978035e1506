"""A pasted derivative call on the command line and in a batch: how it was read, what PyTorch raises, and several v."""

from __future__ import annotations

import json

import pytest

SEVERAL = "torch.autograd.grad(W@x, x, torch.eye(2), is_grads_batched=True)"
INPUTS = ("--x", "1,2", "--W", "1,2;3,4")


def test_what_pytorch_raises_stands_first(jvp):
    plain = jvp("inspect", "y = W@x; y.backward(retain_graph=True)", *INPUTS)
    assert plain.code == 0
    assert plain.err == (
        'read as: jvp inspect "y = W@x; y" --x 1,2 --W "1,2;3,4" --grad-outputs implicit\n'
        "retain_graph=True changes no number here: it is about the graph, which is kept for this answer alone.\n"
    )
    assert plain.out.startswith(
        "y = W@x; y\n\nPyTorch raises\n  RuntimeError: grad can be implicitly created only for scalar outputs\n"
    )
    document = json.loads(jvp("inspect", "y = W@x; y.backward()", *INPUTS, "--json").out)
    assert document["refusal"]["message"] == "RuntimeError: grad can be implicitly created only for scalar outputs"
    assert document["vjp"]["x"]["value"] == [4, 6]
    assert document["grad_outputs"]["y"] == {"source": "ones", "shape": [2], "dtype": "float32", "value": [1, 1]}


def test_a_scalar_needs_no_v(jvp):
    document = json.loads(jvp("inspect", "y = (W@x).sum(); y.backward()", *INPUTS, "--json").out)
    assert "refusal" not in document


def test_a_row_for_each_v(jvp):
    document = json.loads(jvp("inspect", SEVERAL, *INPUTS, "--json").out)
    assert document["vjp"]["x"] == {"shape": [2, 2], "dtype": "float32", "value": [[1, 2], [3, 4]]}
    assert document["is_grads_batched"] is True
    same = jvp("inspect", "W@x", "-g", "torch.eye(2)", "--is-grads-batched", "--wrt", "x", *INPUTS, "--json")
    assert json.loads(same.out)["vjp"] == document["vjp"]


def test_one_at_a_time_where_one_is_followed(jvp, tmp_path):
    for command in ("trace", "check"):
        told = jvp(command, SEVERAL, *INPUTS)
        assert told.code == 2
        assert "takes one v, and is_grads_batched=True gives several" in " ".join(told.err.split())
    told = jvp("inspect", "x*2", "--x", "1,2", "-g", "torch.eye(2)", "--is-grads-batched", "--html", str(tmp_path / "a.html"))
    assert told.code == 2


@pytest.mark.parametrize("option", ["allow_unused", "materialize_grads"])
def test_what_nothing_reads_is_left_out_where_the_call_allows_it(jvp, option):
    call = f"torch.autograd.grad((x**2).sum(), (x, w), {option}=True)"
    told = jvp("inspect", call, "--x", "1,2", "--w", "3")
    assert told.code == 0
    assert told.err.splitlines()[0] == 'read as: jvp inspect "(x**2).sum()" --x 1,2 --grad-outputs implicit --wrt x'
    assert told.err.splitlines()[2] == "nothing reads w, which is left out here: the result is for the others."
    refused = jvp("inspect", call.replace(f", {option}=True", ""), "--x", "1,2", "--w", "3")
    assert refused.code == 2
    assert "appears to not have been used in the graph" in " ".join(refused.err.replace("│", " ").split())


def test_a_line_of_a_batch_too(jvp):
    inputs = {"x": [1, 2], "W": [[1, 2], [3, 4]]}
    lines = [
        {"expression": SEVERAL, "inputs": inputs},
        {"expression": "y = W@x; y.backward()", "inputs": inputs},
        {"expression": "W@x", "inputs": inputs, "grad_outputs": [[1, 0], [0, 1]], "is_grads_batched": True, "wrt": ["x"]},
        {"expression": SEVERAL, "inputs": inputs, "command": "trace"},
    ]
    answers = [json.loads(line) for line in jvp("batch", stdin="\n".join(map(json.dumps, lines)) + "\n").out.splitlines()]
    assert answers[0]["vjp"]["x"]["value"] == answers[2]["vjp"]["x"]["value"] == [[1, 2], [3, 4]]
    assert answers[1]["refusal"]["message"].startswith("RuntimeError: grad can be implicitly created")
    assert answers[3]["error"]["code"] == "usage"
