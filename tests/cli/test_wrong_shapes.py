"""Wrong shapes by the command line: the guilty part is underlined, and every command that is shown runs.

The oracle is Python itself: it evaluates the parts of an expression from the inside out, and the first that raises is
the guilty one; a repair must evaluate by Python, too.
"""

from __future__ import annotations

import ast
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jvpcli

pytestmark = pytest.mark.filterwarnings("ignore")

SCOPE = {"torch": torch, "F": F, "math": math}

WRONG: list[tuple[str, Mapping[str, str], str]] = [
    ("torch.tanh(x @ W) + b", {"x": "1,2,3", "W": "1,2;3,4", "b": "1"}, "x @ W"),
    ("torch.relu(2 * A @ (B - 1)).sum()", {"A": "torch.rand(2,3)", "B": "torch.rand(4,3)"}, "2 * A @ (B - 1)"),
    ("y = A @ B; z = torch.exp(y); z.sum()", {"A": "torch.rand(3,2)", "B": "torch.rand(3,4)"}, "A @ B"),
    ("x @ W @ V", {"x": "torch.rand(2,3)", "W": "torch.rand(3,4)", "V": "torch.rand(5,4)"}, "x @ W @ V"),
    ("torch.matmul(input=x, other=W).exp()", {"x": "torch.rand(2,3)", "W": "torch.rand(2,3)"}, "torch.matmul(input=x, other=W)"),
    ("torch.bmm(q, k) * 2", {"q": "torch.rand(2,3,4)", "k": "torch.rand(2,5,4)"}, "torch.bmm(q, k)"),
    ("torch.baddbmm(b, p, q)", {"b": "torch.rand(2,3,5)", "p": "torch.rand(2,3,4)", "q": "torch.rand(2,5,4)"},
     "torch.baddbmm(b, p, q)"),
    ("torch.addmm(input=b, mat1=A, mat2=B)", {"b": "1,2,3,4", "A": "torch.rand(2,3)", "B": "torch.rand(4,3)"},
     "torch.addmm(input=b, mat1=A, mat2=B)"),
    ("torch.mv(A, v) + 1", {"A": "torch.rand(2,3)", "v": "1,2"}, "torch.mv(A, v)"),
    ("torch.dot(a, b) ** 2", {"a": "1,2,3", "b": "1,2,3,4"}, "torch.dot(a, b)"),
    ("torch.outer(A, v)", {"A": "1,2;3,4", "v": "1,2"}, "torch.outer(A, v)"),
    ("torch.sigmoid(F.linear(x, W))", {"x": "torch.rand(4,3)", "W": "torch.rand(3,5)"}, "F.linear(x, W)"),
    ("F.linear(x, weight=W, bias=b)", {"x": "torch.rand(4,3)", "W": "torch.rand(5,3)", "b": "1,2,3,4,5,6"},
     "F.linear(x, weight=W, bias=b)"),
    ("torch.tensordot(x, y, dims=([0],[1])).sum()", {"x": "torch.rand(2,3)", "y": "torch.rand(4,3)"},
     "torch.tensordot(x, y, dims=([0],[1]))"),
    ("torch.linalg.multi_dot([A, B, C])", {"A": "torch.rand(2,3)", "B": "torch.rand(4,3)", "C": "torch.rand(4,2)"},
     "torch.linalg.multi_dot([A, B, C])"),
    ("x + b", {"x": "torch.rand(3,4)", "b": "1,2,3"}, "x + b"),
    ("torch.sin((x * w)[0]) * 2", {"x": "torch.rand(2,3)", "w": "torch.rand(3,2)"}, "x * w"),
    ("(x > y) * x", {"x": "1,2,3", "y": "1,2"}, "x > y"),
    ("x / x.sum(1)", {"x": "torch.rand(2,3)"}, "x / x.sum(1)"),
    ("y = 2 * x; y += b; y.sum()", {"x": "1,2,3", "b": "1,2,3,4"}, "y += b"),
    ("y = x.clone(); y[0] = b; y", {"x": "torch.rand(2,3)", "b": "1,2"}, "y[0]"),
    ("torch.stack([r + w for r in x]).sum()", {"x": "torch.rand(2,3)", "w": "1,2,3,4"}, "r + w"),
    ("torch.where(m > 0, x, 0 * x)", {"m": "1,2,3,4", "x": "torch.rand(4,2)"}, "torch.where(m > 0, x, 0 * x)"),
    ("F.mse_loss(p, t)", {"p": "torch.rand(3,2)", "t": "1,2,3"}, "F.mse_loss(p, t)"),
    ("x.expand(3, 4)", {"x": "1,2,3"}, "x.expand(3, 4)"),
    ("torch.cat([a, b * 2])", {"a": "torch.rand(2,3)", "b": "torch.rand(2,4)"}, "torch.cat([a, b * 2])"),
    ("torch.cat(tensors=[a, b], dim=1).sum()", {"a": "torch.rand(2,3)", "b": "torch.rand(4,3)"},
     "torch.cat(tensors=[a, b], dim=1)"),
    ("torch.stack([a, b])", {"a": "torch.rand(2,3)", "b": "torch.rand(3,2)"}, "torch.stack([a, b])"),
    ("torch.vstack([a, b])", {"a": "1,2", "b": "1,2,3"}, "torch.vstack([a, b])"),
    ("x.reshape(4, 2).sum()", {"x": "torch.rand(2,3)"}, "x.reshape(4, 2)"),
    ("torch.exp(x).view(2, 2, 5)", {"x": "torch.rand(3,4)"}, "torch.exp(x).view(2, 2, 5)"),
    ("x.T.view(6) * 2", {"x": "torch.rand(2,3)"}, "x.T.view(6)"),
    ("torch.einsum('ij,jk->ik', a, b).sum()", {"a": "torch.rand(2,3)", "b": "torch.rand(4,3)"},
     "torch.einsum('ij,jk->ik', a, b)"),
    ("torch.einsum('bij,bjk->bik', p, q)", {"p": "torch.rand(2,3,4)", "q": "torch.rand(2,5,4)"},
     "torch.einsum('bij,bjk->bik', p, q)"),
    ("F.conv1d(x, w, padding=1)", {"x": "torch.rand(2,3,6)", "w": "torch.rand(3,4,3)"}, "F.conv1d(x, w, padding=1)"),
    ("F.conv2d(x, w).relu()", {"x": "torch.rand(1,5,5,3)", "w": "torch.rand(2,3,3,3)"}, "F.conv2d(x, w)"),
    ("F.conv2d(x, w)", {"x": "torch.rand(5,5)", "w": "torch.rand(2,1,3,3)"}, "F.conv2d(x, w)"),
    ("F.conv_transpose1d(x, w)", {"x": "torch.rand(1,3,5)", "w": "torch.rand(4,3,2)"}, "F.conv_transpose1d(x, w)"),
    ("F.max_pool2d(x, 3)", {"x": "torch.rand(1,2,2)"}, "F.max_pool2d(x, 3)"),
    ("F.layer_norm(x, (4,))", {"x": "torch.rand(2,3)"}, "F.layer_norm(x, (4,))"),
    ("x[5] * 2", {"x": "1,2,3"}, "x[5]"),
    ("x[1, 1] + 1", {"x": "1,2,3"}, "x[1, 1]"),
    ("x[:, :, 0].sum()", {"x": "torch.rand(3,3)"}, "x[:, :, 0]"),
    ("x[torch.tensor([0, 3])]", {"x": "1,2,3"}, "x[torch.tensor([0, 3])]"),
    ("torch.gather(x, 1, i)", {"x": "torch.rand(2,3)", "i": "torch.tensor([0, 1])"}, "torch.gather(x, 1, i)"),
    ("torch.take_along_dim(x, i, 1)", {"x": "torch.rand(2,3)", "i": "torch.tensor([0,1])"}, "torch.take_along_dim(x, i, 1)"),
    ("x.permute(1, 0).sum()", {"x": "torch.rand(2,3,4)"}, "x.permute(1, 0)"),
    ("x.transpose(0, 2)", {"x": "torch.rand(2,3)"}, "x.transpose(0, 2)"),
    ("x.squeeze(3)", {"x": "torch.rand(1,2)"}, "x.squeeze(3)"),
    ("x.unsqueeze(dim=5)", {"x": "1,2"}, "x.unsqueeze(dim=5)"),
    ("torch.softmax(x, 2) * 2", {"x": "torch.rand(2,3)"}, "torch.softmax(x, 2)"),
    ("x.sum(dim=1) + x.mean()", {"x": "1,2,3"}, "x.sum(dim=1)"),
    ("F.cross_entropy(x, t)", {"x": "torch.rand(3,4)", "t": "torch.tensor([0,1])"}, "F.cross_entropy(x, t)"),
    ("F.nll_loss(x, t)", {"x": "torch.rand(3,4)", "t": "torch.tensor([[0],[1],[2]])"}, "F.nll_loss(x, t)"),
    ("torch.linalg.inv(A).sum()", {"A": "torch.rand(2,3)"}, "torch.linalg.inv(A)"),
    ("torch.linalg.solve(A, b)", {"A": "torch.rand(3,2)", "b": "1,2,3"}, "torch.linalg.solve(A, b)"),
    ("torch.linalg.lstsq(A, b).solution", {"A": "torch.rand(3,2)", "b": "torch.rand(2,1)"}, "torch.linalg.lstsq(A, b)"),
    ("x.split([2, 2])[0]", {"x": "1,2,3,4,5"}, "x.split([2, 2])"),
    ("torch.trace(x) * 2", {"x": "1,2,3"}, "torch.trace(x)"),
]  # fmt: skip
"""Expression, VALUEs, and the guilty part."""


def by_python(source: str, inputs: Mapping[str, Any]) -> Any:
    """The value that Python itself gives the text; raises whatever it raises."""
    scope = {**SCOPE, **inputs}
    tree = ast.parse(source)
    last = tree.body.pop()
    exec(compile(tree, "source", "exec"), scope)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "source", "eval"), scope)


def tensor(text: str) -> torch.Tensor:
    torch.manual_seed(0)
    if text[0].isalpha():
        return eval(text, SCOPE)
    rows = [[float(number) for number in row.split(",")] for row in text.split(";")]
    return torch.tensor(rows if len(rows) > 1 else rows[0] if len(rows[0]) > 1 else rows[0][0])


@pytest.fixture(autouse=True, scope="module")
def patient():
    """Repairs are tried for as long as it takes: a busy machine is no failure."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PATIENCE", "PATIENCE_WITHOUT_NUMBERS"):
            patch.setattr(f"jvpcli.answers.failures.{name}", 60.0)
        yield


def failure(jvp, command: str, source: str, values: Mapping[str, str], *more: str) -> dict[str, Any]:
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    done = jvp(command, source, *words, *more, "--json")
    document = json.loads(done.out)
    assert document["ok"] is False, f"{source} is right"
    assert done.code == 4
    return document["error"]


@pytest.mark.parametrize(("source", "values", "guilty"), WRONG, ids=[w[0] for w in WRONG])
def test_the_guilty_part_and_commands_that_run(jvp, source, values, guilty):
    error = failure(jvp, "inspect", source, values)
    assert error["code"] == "shape_mismatch"
    assert source[slice(*error["span"])] == guilty
    inputs = {name: tensor(value) for name, value in values.items()}
    for operand in error["operands"]:
        if operand["text"] in inputs:
            assert operand["shape"] == list(inputs[operand["text"]].shape)
    assert {operand["text"] for operand in error["operands"]} & set(inputs) or len(error["operands"]) > 0
    assert 1 <= len(error["hints"]) <= 2
    for hint in error["hints"]:
        words = shlex.split(hint)
        assert words[:2] == ["jvp", "inspect"]
        assert words[2] != source
        by_python(words[2], inputs)
        assert jvp(*words[1:]).code == 0


def test_trace_and_check_show_their_own_commands(jvp):
    for command in ("trace", "check"):
        error = failure(jvp, command, "A @ B", {"A": "torch.rand(2,3)", "B": "torch.rand(2,3)"})
        assert error["hints"][0] == f'jvp {command} "A @ B.T" --A "torch.rand(2,3)" --B "torch.rand(2,3)"'
        assert jvp(*shlex.split(error["hints"][0])[1:]).code == 0


def test_a_batch_shows_the_command_of_its_line(jvp):
    line = {"expression": "A @ B", "inputs": {"A": "torch.rand(2,3)", "B": "torch.rand(2,3)"}, "command": "trace"}
    error = json.loads(jvp("batch", "-", stdin=json.dumps(line)).out)["error"]
    assert error["hints"][0].startswith('jvp trace "A @ B.T"')
    line["inputs"]["A"] = [[1, 2, 3], [4, 5, 6]]
    error = json.loads(jvp("batch", "-", stdin=json.dumps(line)).out)["error"]
    assert error["hints"] == ["A @ B.T", "A.T @ B"]


def test_a_repair_fits_the_cotangent_where_one_does(jvp):
    values = {"A": "torch.rand(2,3)", "B": "torch.rand(2,3)"}
    error = failure(jvp, "inspect", "A @ B", values, "-g", "torch.rand(3,3)")
    assert [shlex.split(hint)[2] for hint in error["hints"]] == ["A.T @ B"]
    error = failure(jvp, "inspect", "A @ B", values, "-g", "torch.rand(7)")
    assert "grad-outputs" not in error["hints"][0]
    assert jvp(*shlex.split(error["hints"][0])[1:]).code == 0


def test_the_panel(jvp):
    shown = jvp("inspect", "torch.tanh(x @ W) + b", "--x", "1,2,3", "--W", "torch.rand(2,3)", "--b", "1").err
    lines = [line.strip("│ ") for line in shown.splitlines()]
    assert lines[1] == "A matrix product of (3,) and (2, 3): the inner sizes 3 and 2 differ"
    assert lines[3:7] == ["torch.tanh(x @ W) + b", "^^^^^", "x  shape (3,), float32", "W  shape (2, 3), float32"]
    assert shown.splitlines()[4].index("^") == shown.splitlines()[3].index("x @ W")
    assert shown.splitlines()[-2] == 'Try: jvp inspect "torch.tanh(x @ W.T) + b" --x 1,2,3 --W "torch.rand(2,3)" --b 1'


def test_a_repair_that_drops_entries_says_so(jvp):
    error = failure(jvp, "inspect", "x @ W", {"x": "1,2,3", "W": "1,2;3,4"})
    assert "leaves entries out" in error["explanation"]
    error = failure(jvp, "inspect", "x @ W", {"x": "1,2,3", "W": "torch.rand(2,3)"})
    assert "leaves entries out" not in error["explanation"]


def test_a_value_s_own_expression(jvp):
    error = failure(jvp, "inspect", "x * b", {"x": "1,2,3", "b": "torch.ones(3) + torch.ones(4)"})
    assert error["message"] == "torch.ones(3) and torch.ones(4) don't broadcast: 3 against 4 at the last axis"
    assert not any(hint.startswith("jvp ") for hint in error["hints"])


def test_large_inputs_are_no_reason_to_wait_or_to_fill_the_memory(jvp, monkeypatch):
    """Repairs of large problems are tried on shapes alone: the numbers are never computed."""
    monkeypatch.setattr("jvpcli.answers.failures._evaluated", None)
    values = {"A": "torch.rand(300,2000)", "B": "torch.rand(200000)"}
    error = failure(jvp, "inspect", "A * B", values)  # every pair of entries would be 120 billion numbers
    assert shlex.split(error["hints"][0])[2] == "A * B[:2000]"
    values = {"A": "torch.rand(900,700)", "B": "torch.rand(900,700)"}
    error = failure(jvp, "inspect", "torch.linalg.svdvals(A @ B).sum()", values)
    assert [shlex.split(hint)[2] for hint in error["hints"]] == [
        "torch.linalg.svdvals(A @ B.T).sum()", "torch.linalg.svdvals(A.T @ B).sum()",
    ]  # fmt: skip
    error = failure(jvp, "inspect", "(A @ B if A.sum() > 0 else A)", values)  # needs numbers: nothing can be tried
    assert not any(hint.startswith("jvp ") for hint in error["hints"])


# Random shapes in random places

BINARY = [
    "{} + {}",
    "{} * {}",
    "{} @ {}",
    "{} - 2 * {}",
    "torch.matmul({}, {})",
    "torch.maximum({}, other={})",
    "{}.mul({})",
]
AROUND = [
    "{}", "torch.tanh({})", "({}).sum()", "2 * ({}) + 1", "y = {}; y * 2", "[{} for i in range(2)][1]", "torch.exp({})",
    "torch.stack([{}])", "({}) if x.sum() > -1 else x",
]  # fmt: skip
OPERANDS = ["x", "w", "x.T", "torch.relu(w)", "(x + 1)", "w.flatten()"]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def parts(source: str) -> Iterator[ast.expr]:
    """The sub-expressions of the first statement in the order in which they are evaluated."""

    def inside(node: ast.AST) -> Iterator[ast.expr]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from inside(child)
        if isinstance(node, (ast.BinOp, ast.Call)):
            yield node

    yield from inside(ast.parse(source, mode="eval").body)


def guilty_by_python(inner: str, inputs: Mapping[str, Any]) -> str | None:
    """The first part that Python can't evaluate."""
    for node in parts(inner):
        try:
            eval(ast.unparse(node), {**SCOPE, **inputs})
        except RuntimeError:
            return ast.get_source_segment(inner, node)
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(BINARY),
    st.sampled_from(AROUND),
    st.sampled_from(OPERANDS),
    st.sampled_from(OPERANDS),
    SHAPES,
    SHAPES,
)
def test_random_operands_in_random_places(operator, around, left, right, first, second):
    inner = operator.format(left, right)
    source = around.format(inner)
    inputs = {"x": torch.rand(first), "w": torch.rand(second)}
    used = {
        name: x
        for name, x in inputs.items()
        if name in {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
    }
    guilty = guilty_by_python(inner, used)
    if guilty is None:
        return
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect(source, **used)
    error = caught.value
    assert error.exit_code == 4
    assert error.source[slice(*error.span)] == guilty
    for operand in error.operands:
        value = eval(operand["text"], {**SCOPE, **used})
        assert (list(value.shape), str(value.dtype)) == (operand["shape"], f"torch.{operand['dtype']}")
    for hint in error.hints:
        if _is_expression(hint, set(used)):
            by_python(hint, used)


def _is_expression(hint: str, names: set[str]) -> bool:
    """Whether a hint is a repaired expression rather than advice in words."""
    try:
        ast.parse(hint)
    except SyntaxError:
        return False
    return names <= names_of(hint) and "#" not in hint


def names_of(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
