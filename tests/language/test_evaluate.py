"""Evaluation against Python and torch themselves; tapes, names of outputs, errors with the operands' shapes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jvpcli.errors import EvaluationError, JvpError, LimitError, NotDifferentiableError, ShapeMismatchError
from jvpcli.language.evaluate import Evaluation, evaluate, evaluate_function, evaluate_value
from jvpcli.language.operations import apply_operation, is_in_place, named_constant
from jvpcli.language.outputs import flatten
from jvpcli.language.parse import parse
from jvpcli.program import Const, Operand, Pack, Program, Ref

X = torch.tensor([1.0, -2.0, 3.0, 0.5])
W = torch.arange(12.0).reshape(4, 3) / 7 - 0.5
A = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 4.0]])
SCOPE = {"x": X, "W": W, "A": A, "s": torch.tensor(2.0), "e": torch.zeros(0, 3), "i": torch.tensor([2, 0]), "b": X > 0}


def run(source: str, wrt: tuple[str, ...] = (), **options: Any) -> Evaluation:
    return evaluate(parse(source), SCOPE, wrt=wrt, **options)


def by_python(source: str) -> Any:
    """The same text run by Python itself; statements first, the last expression's value."""
    *statements, last = source.split("; ")
    scope = {"torch": torch, "F": F, "math": math, **{name: value.clone() for name, value in SCOPE.items()}}
    exec("\n".join(statements), scope)
    return eval(last, scope)


@pytest.mark.parametrize(
    "source",
    [
        "torch.outer(x, x)", "y = torch.outer(x, x); y**2", "x @ W + W.sum(0)", "W.T @ x", "-x + +x * ~i.sum()",
        "x % 2 // 0.5", "(x > 0) & (x < 2) | ~(x == 3)", "2 ** x", "1 / x", "x[1:3]", "x[..., None, ::2]", "x[-1]", "x[i]",
        "x[b]", "W[:, 1]", "W[i, 1:]", "W[b]", "x.max(0).values", "x.max(0)[1]", "torch.linalg.svd(A).S",
        "U, S, Vh = torch.linalg.svd(A); U @ torch.diag(S) @ Vh", "a, *c = x; torch.stack(c) * a", "W.mT.real",
        "torch.stack([x[k]**2 for k in range(4)])", "sum(k * v for k, v in enumerate(x))", "torch.cat([x, x], dim=0)",
        "[r.sum() for r in W]", "[p * q for p in x for q in x if p > q]", "x if x.sum() > 0 else -x", "0 < s < 3",
        "0 < s > 3", "s and x", "s * 0 or x", "not s", "torch.where(x > 0, x, 0.0)", "F.relu(x)", "F.softmax(W, dim=-1)",
        "torch.einsum('i,ij->j', x, W)", "torch.tensor([1.0, 2.0])", "torch.zeros(2, 3)", "torch.arange(6.0).reshape(2, 3)",
        "x.to(torch.float64)", "x.double() * math.pi", "torch.pi * x", "x.sum().item() * x", "float(x[0]) * x",
        "int(s) * x", "len(x) * x", "max(x[0], x[1])", "min([x[0], x[1]])", "abs(x)", "round(2.567, 1) * x", "x.shape[0] * x",
        "pow(x, 2) + pow(2., x)",
        "x.reshape(2, -1)", "torch.finfo(x.dtype).eps * x", "x.new_zeros(3)", "torch.zeros_like(x)", "e.sum(0)", "e @ A",
        "y = x.clone(); y.mul_(2); y**2", "y = x.clone(); y[0] = 3 * x[1]; y", "y = x.clone(); y[1:] *= x[:-1]; y",
        "y = x.clone(); v = y[:2]; v.add_(1); y", "y = x; y += 1; y", "y = [x, x * 2]; y[1] - y[0]",
        "y = [x] * 3; torch.stack(y + [x])", "y = (x, s); a, b = y; a * b", "(p, q), r = (x, s), x; p * q + r",
        "torch.stack([p + q for p, q in zip(x, W)])", "list(reversed([x, s]))[0] * x", "tuple(x)[1] * x",
        "x.view(2, 2).T[0]", "x[[0, 2]]", "x.split(2)[1]", "torch.meshgrid(x, x, indexing='ij')[0]", "x.topk(2).indices",
        "x is None", "x is not None", "2 in [1, 2]", "3 not in (1, 2)", "x.dim() * x", "[*x[:2], s]", "F.pad(x, (1, 2))",
        "torch.fft.fft(x)", "torch.fft.rfft(x).imag", "torch.special.expit(x)", "torch.complex(x, x) * 2j", "x[x.argmax()]",
        "torch.linalg.inv(A)", "A.inverse() @ A", "sum([x, x], start=s)", "W.sum(dim=0, keepdim=True)", "x.norm(p=2)",
        "sum(x)", "sum([])", "[k for k in []]", "x[0:0].sum()", "y = 3; y * x", "'a' == 'a'", "torch.stack((x, x), -1)",
        "k = 5; [k * v for k, v in enumerate(x)]; k * x", "[[p * q for p in x[:2]] for q in x[:2]][1][0]",
        "torch.nn.functional.linear(x[:3], A, A[0])", "x.clamp(min=0, max=1)", "torch.tril(A)", "A.diagonal()",
        "x.unfold(0, 2, 1)",
        "x[torch.tensor(1)]", "x[None][0, 1]", "W[1, ...]", "W[(0, 1)]", "x[slice(1, 3)]", "x.flip(0).cumsum(0)",
        "float('inf') * x", "x.masked_fill(b, -math.inf)", "torch.logsumexp(x, 0)", "x.t()", "x.tolist()[0] * x",
    ],
)  # fmt: skip
def test_it_gives_what_python_gives(source: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_python(source)
    value = evaluate_value(parse(source), SCOPE)
    assert type(value) is type(expected) or isinstance(value, (list, tuple))
    same(value, expected)


def same(value: Any, expected: Any) -> None:
    if isinstance(expected, Tensor):
        assert value.dtype is expected.dtype
        torch.testing.assert_close(value, expected, equal_nan=True)
    elif isinstance(expected, (list, tuple)):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            same(one, other)
    else:
        assert value == expected


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("torch.outer(x, x)", ["y"]),
        ("(x * 1, s * 1)", ["y0", "y1"]),
        ("y = x * 2; z = y**2", ["z"]),
        ("y = x * 2; z = y**2; z", ["z"]),
        ("x * s", ["y"]),
        ("U, S, Vh = torch.linalg.svd(A)", ["U", "S", "Vh"]),
        ("torch.linalg.svd(A)", ["y0", "y1", "y2"]),
        ("q = torch.linalg.svd(A); q", ["q0", "q1", "q2"]),
        ("a = x * 1; (a, x + 1)", ["a", "y1"]),
        ("a = x * 1; (a, a)", ["a", "y1"]),
        ("a = x * 1; [a, [a * 2, (a * 3,)]]", ["a", "y1", "y2"]),
        ("x = x * 2; x", ["y"]),
        ("x = x * 2", ["y"]),
        ("[v for v in x]", ["y0", "y1", "y2", "y3"]),
        ("(x * 1,)", ["y"]),
        ("a, *c = x", ["a", "c0", "c1", "c2"]),
        ("y0 = x * 1; (y0, x * 2)", ["y0", "y1"]),
        ("y1 = x * 1; (x * 2, y1)", ["y0", "y1"]),
        ("y1 = x * 1; (y1, x * 2)", ["y1", "out1"]),
        ("y = x * 1; y * 2", ["out"]),
        ("y = out = x * 1; y * 2", ["out_"]),
        ("y = x.clone(); y += 1; y.sum()", ["out"]),
        ("y = x.clone(); y += 1", ["y"]),
        ("y0 = x * 1; (x * 2, x * 3)", ["out0", "out1"]),
        ("q0 = x * 1; q = torch.linalg.svd(A); q", ["q_0", "q_1", "q_2"]),
        ("x", ["y"]),
        ("(x, W)", ["y0", "y1"]),
        ("q = x.clone(); q[0] = 1", ["q"]),
        ("(*[x * 1, x * 2], x * 3)", ["y0", "y1", "y2"]),
    ],
)
def test_names_of_outputs(source: str, names: list[str]) -> None:
    evaluation = run(source)
    assert list(evaluation.outputs) == names
    assert list(evaluation.output_slots) == names
    for name, slot in evaluation.output_slots.items():
        assert evaluation.values[slot] is evaluation.outputs[name]


def test_an_input_called_y_gives_out() -> None:
    scope = {"x": X, "y": X, "y0": X, "out": X}
    assert list(evaluate(parse("x*y"), scope).outputs) == ["out"]
    assert list(evaluate(parse("(x*y0, x)"), scope).outputs) == ["out0", "out1"]
    assert list(evaluate(parse("(x*y, x)"), scope).outputs) == ["y0", "y1"]
    assert list(evaluate(parse("x*y*out"), scope).outputs) == ["out_"]
    assert list(evaluate(parse("y = x*y; y"), scope).outputs) == ["out"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x.sum().item()", "plain number"),
        ("len(x)", "plain number"),
        ("3", "plain number"),
        ("(x, 2)", "plain number"),
        ("x.shape", "a Size"),
        ("'text'", "text"),
        ("None", "None"),
        ("[]", "no tensor"),
        ("torch.float64", "a dtype"),
        ("x is x", "plain number True"),
    ],
)
def test_an_output_that_is_no_tensor(source: str, message: str) -> None:
    with pytest.raises(NotDifferentiableError, match=message):
        run(source)


def test_differentiated_inputs_are_leaves_of_their_own() -> None:
    evaluation = run("x * s + W.sum()", wrt=("x", "s"))
    assert evaluation.wrt == ("x", "s")
    assert evaluation.inputs["x"].is_leaf
    assert evaluation.inputs["x"].requires_grad
    assert not evaluation.inputs["W"].requires_grad
    assert not X.requires_grad
    assert evaluation.outputs["y"].requires_grad
    attached = X.clone().requires_grad_() * 2
    assert evaluate(parse("x + 1"), {"x": attached}, wrt=["x"]).inputs["x"].is_leaf
    with pytest.raises(NotDifferentiableError, match="int64"):
        run("x[i]", wrt=("i",))


def test_the_callers_tensors_are_never_changed() -> None:
    before = {name: value.clone() for name, value in SCOPE.items()}
    for source in ("x.mul_(2)", "x[0] = 5; x", "F.relu(x, inplace=True)", "F.relu(x, True)", "torch.sin_(x)",
                   "F.embedding(i, W, max_norm=0.1)", "y = x; y.add_(1); y", "[v.zero_() for v in W][0]",
                   "v = x[1:]; v.mul_(7); x"):  # fmt: skip
        run(source)
    F_mean, F_var = torch.zeros(3), torch.ones(3)
    evaluate(parse("F.batch_norm(W, m, v, training=True)"), {"W": W, "m": F_mean, "v": F_var})
    assert torch.equal(F_mean, torch.zeros(3))
    for name, value in before.items():
        assert torch.equal(SCOPE[name], value)


def test_random_functions_are_repeatable_and_leave_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (run("F.dropout(W) + torch.randn(3)", seed=seed).outputs["y"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    expected = F.dropout(W) + torch.randn(3)
    assert torch.equal(first, expected)


def test_the_generator_is_restored_after_a_failure() -> None:
    state = torch.get_rng_state()
    with pytest.raises(JvpError):
        run("torch.rand(3) @ torch.rand(4)")
    assert torch.equal(torch.get_rng_state(), state)


# The tape


def replay(evaluation: Evaluation) -> dict[str, Tensor]:
    """Run the tape again, step by step, on copies: it must be enough to get the outputs."""
    values: dict[int, Any] = {slot: value.detach().clone() for slot, value in enumerate(evaluation.inputs.values())}

    def read(operand: Operand) -> Any:
        if isinstance(operand, Ref):
            return values[operand.slot]
        if isinstance(operand, Const):
            return operand.value if operand.path is None else named_constant(operand.path)
        assert operand.kind in ("list", "tuple", "slice")
        items = [read(item) for item in operand.items]
        return slice(*items) if operand.kind == "slice" else items if operand.kind == "list" else tuple(items)

    for step in evaluation.tape:
        assert not step.bodies
        arguments = [read(operand) for operand in step.operands]
        values[step.slot] = apply_operation(step.op, arguments, {name: read(value) for name, value in step.keywords})
    return {name: values[slot] for name, slot in evaluation.output_slots.items()}


@pytest.mark.parametrize(
    "source",
    ["torch.stack([x[k]**2 for k in range(4) if k != 1])", "sum(p * q for p, q in zip(x, W)) if s > 0 else x",
     "y = x.clone(); z = y; y.mul_(2); y.add_(1); z**2", "[r * k for k, r in enumerate(W) for _ in range(2)]",
     "a, *c = x; torch.stack(c) * a", "y = x.clone(); y[0] = x[1]; v = y[1:]; v *= 2; y", "torch.linalg.svd(A)",
     "s and x[0] or W", "0 < s < 3 and x", "y = [x] * 2 + [s]; y[0] * y[-1]", "torch.stack([*x[:2], s])", "x.max(0)",
     "y = x.clone(); [y.add_(k) for k in range(3)]; y * 1", "y = W.clone(); y[:, 0].zero_(); y"],
)  # fmt: skip
def test_the_tape_alone_gives_the_outputs(source: str) -> None:
    evaluation = run(source, wrt=())
    replayed = replay(evaluation)
    for name, value in evaluation.outputs.items():
        torch.testing.assert_close(replayed[name], value)
    slots = [step.slot for step in evaluation.tape]
    assert len(set(slots)) == len(slots)
    assert set(evaluation.values) == {*range(len(evaluation.inputs)), *slots}


def test_the_tape_of_straight_text_is_the_programs() -> None:
    program = parse("y = torch.outer(x, x); y**2 + 2*3")
    evaluation = evaluate(program, SCOPE, wrt=["x"])
    assert [step.op for step in evaluation.tape] == ["call:torch.outer", "op:pow", "op:add"]
    assert [step.slot for step in evaluation.tape] == [1, 2, 4]
    assert evaluation.tape[2].operands == (Ref(2), Const(6))
    assert evaluation.tape[0].name == "y"
    assert evaluation.values[1].requires_grad


def test_only_the_branch_taken_is_on_the_tape() -> None:
    assert [step.op for step in run("x.exp() if s > 0 else x.log()").tape] == ["op:gt", "method:exp"]


def test_loops_are_unrolled_with_spans_of_their_bodies() -> None:
    source = "[x[k]**2 for k in range(2)]"
    tape = run(source).tape
    assert [source[slice(*step.span)] for step in tape] == ["x[k]", "x[k]**2", "x[k]", "x[k]**2"]
    assert [step.operands[-1] for step in tape] == [Const(0), Const(2), Const(1), Const(2)]


def test_values_before_an_in_place_step_are_kept() -> None:
    evaluation = run("y = x.clone(); z = [y, y + 0]; y.mul_(2); y.add_(1); z[0] * 1", wrt=("x",))
    by_op = {step.op: evaluation.values[step.slot] for step in evaluation.tape}
    assert torch.equal(by_op["method:clone"], X)
    assert torch.equal(by_op["method:mul_"], X * 2)
    assert torch.equal(by_op["method:add_"], X * 2 + 1)
    assert [is_in_place(step.op) for step in evaluation.tape] == [False, False, True, True, False]
    assert evaluation.tape[-1].operands[0] == Ref(evaluation.tape[3].slot)
    assert all(value.requires_grad for value in by_op.values())  # as they did before they were changed


def test_what_needed_no_gradient_before_an_in_place_step_needs_none() -> None:
    evaluation = run("y = torch.zeros(3); y[0] = x.sum(); y", wrt=("x",))
    zeros, *_, changed = (evaluation.values[step.slot] for step in evaluation.tape)
    assert (zeros.requires_grad, changed.requires_grad) == (False, True)


@pytest.mark.parametrize("kernel", ["2**40", "(2**45, 1)"])
def test_a_size_that_overflowed_inside_torch_is_no_result(kernel: str) -> None:
    with pytest.raises(JvpError) as caught:
        run(f"F.unfold(x[:0].reshape(0, 1, 4, 1), {kernel}, 1, 0, 2)", wrt=("x",))
    assert caught.value.code in ("evaluation", "limit")


def test_the_gradient_flows_through_in_place_steps() -> None:
    evaluation = run("y = x.clone(); y.mul_(3); y[0] = x[1]**2; (y**2).sum()", wrt=("x",))
    (gradient,) = torch.autograd.grad(evaluation.outputs["out"], evaluation.inputs["x"])
    expected = torch.autograd.functional.jacobian(lambda x: (torch.cat([x[1:2] ** 2, x[1:] * 3]) ** 2).sum(), X)
    torch.testing.assert_close(gradient, expected)


AUGMENTED = [
    f"y = {value}; z = y; v = y[:2] if {sliced} else y; y {operator}= {other}; (y, z, v)"
    for operator in ("+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>")
    for value, sliced in (
        ("x.clone()", 1), ("torch.arange(1, 5)", 1), ("b.clone()", 1), ("A.clone()", 1), ("3", 0), ("2.5", 0),
        ("x.to(torch.complex64)", 1), ("x.half()", 1), ("s.clone()", 0),
    )
    for other in ("2", "1.5", "s", "x", "A", "W", "torch.tensor(2)", "torch.tensor([True])", "1j", "[1]")
]  # fmt: skip


@pytest.mark.parametrize("source", AUGMENTED)
def test_augmented_assignment_is_pythons(source: str) -> None:
    """In place where torch does it: other names of the tensor and its views change with it, numbers stay what they were."""
    try:
        expected = by_python(source)
    except Exception as error:
        with pytest.raises(JvpError) as caught:
            run(f"{source.rpartition('; ')[0]}; y * x.sum() * 0")
        assert caught.value.code in ("evaluation", "shape_mismatch", "forbidden")
        plainly = str(error).splitlines()[0].partition(" for ")[0]  # `unsupported operand type(s) for +=: …`
        assert caught.value.code == "forbidden" or plainly in (caught.value.torch_message or "")
        return
    program = parse(source)
    found = evaluate_value(program, SCOPE)
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(theirs, torch.Tensor):
            torch.testing.assert_close(ours, theirs, equal_nan=True)
        else:
            assert ours == theirs


@pytest.mark.parametrize(
    "source",
    [
        "y = torch.relu(x); y += 1; y.sum()", "y = x.exp(); y *= 2; y.sum()", "x -= 0.1; x.sum()", "y = x; y /= 2; y",
        "y = x.sigmoid(); v = y[:2]; v -= 1; y.sum()", "y = x.tanh(); y[1] += 3; y", "x[0] *= 2; x.sum()", "y = x[1:]; y += 1; x",
        "y = x.sin(); y += 1; y",
        "y = x * 1; y **= 2; y.sum()", "y = x.clone(); z = y; z %= 2; y * x", "y = x**2; y[1:] += y[:-1]; y",
    ],
)  # fmt: skip
def test_augmented_assignment_has_torchs_gradient_or_error(source: str) -> None:
    *statements, last = source.split("; ")
    leaf = X.clone().requires_grad_()

    def by_torch() -> torch.Tensor:
        scope = {"torch": torch, "x": leaf}
        exec("\n".join(statements), scope)
        return torch.autograd.grad(eval(last, scope).sum(), leaf)[0]

    def ours() -> torch.Tensor:
        evaluation = run(source, wrt=("x",))
        return torch.autograd.grad(next(iter(evaluation.outputs.values())).sum(), evaluation.inputs["x"])[0]

    def told(gradient: Callable[[], torch.Tensor]) -> torch.Tensor | str:
        try:
            return gradient()
        except (RuntimeError, JvpError) as error:
            return str(getattr(error, "torch_message", None) or error).splitlines()[0].partition("[")[0]

    found, expected = told(ours), told(by_torch)
    if isinstance(expected, str):
        assert found == expected
    else:
        torch.testing.assert_close(found, expected)


def test_an_index_that_is_assigned_to_is_read_once() -> None:
    source = "y = x.clone(); y[torch.randint(4, (1,))] += 1; y"
    torch.manual_seed(0)
    expected = by_python(source)
    torch.testing.assert_close(run(source, seed=0).outputs["y"], expected)


def test_the_callers_tensors_are_not_changed_by_augmented_assignment() -> None:
    before = X.clone()
    run("x += 1; i *= 2; W[0] -= 3; x * i.sum() * W.sum()")
    assert torch.equal(X, before)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["+", "*", "-"]), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)
)
def test_random_straight_programs(steps: list[tuple[str, int, int]]) -> None:
    names, lines = ["x", "s"], []
    for number, (operator, left, right) in enumerate(steps):
        lines.append(f"v{number} = {names[left % len(names)]} {operator} {names[right % len(names)]}")
        names.append(f"v{number}")
    source = "; ".join([*lines, names[-1]])
    evaluation = run(source)
    torch.testing.assert_close(next(iter(evaluation.outputs.values())), by_python(source))
    assert len(evaluation.tape) == len(steps)


# Errors


@pytest.mark.parametrize(
    ("source", "kind", "guilty", "details"),
    [
        ("torch.tanh(x @ W.T) + s", ShapeMismatchError, "x @ W.T",
         ["x: shape (4,), float32", "W.T: shape (3, 4), float32"]),
        ("y = x[:3]; s * (x + y)", ShapeMismatchError, "x + y", ["x: shape (4,), float32", "y: shape (3,), float32"]),
        ("torch.cat([W, A.sum(0)])", ShapeMismatchError, "torch.cat([W, A.sum(0)])",
         ["[W, A.sum(0)]: shapes (4, 3), (3,)"]),
        ("x.reshape(3)", ShapeMismatchError, "x.reshape(3)", ["x: shape (4,), float32"]),
        ("torch.einsum('ij,jk->ik', W, W)", ShapeMismatchError, "torch.einsum('ij,jk->ik', W, W)",
         ["W: shape (4, 3), float32"]),
        ("F.linear(x, A)", ShapeMismatchError, "F.linear(x, A)", ["x: shape (4,), float32", "A: shape (3, 3), float32"]),
        ("torch.stack([x, W])", ShapeMismatchError, "torch.stack([x, W])", ["[x, W]: shapes (4,), (4, 3)"]),
        ("x.expand(3)", ShapeMismatchError, "x.expand(3)", ["x: shape (4,), float32"]),
        ("torch.linalg.solve(A, x)", ShapeMismatchError, "torch.linalg.solve(A, x)",
         ["A: shape (3, 3), float32", "x: shape (4,), float32"]),
        ("x[5] * 2", EvaluationError, "x[5]", ["x: shape (4,), float32"]),
        ("x if x else s", EvaluationError, "x if x else s", ["x: shape (4,), float32"]),
        ("torch.sin(x, 3)", EvaluationError, "torch.sin(x, 3)", ["x: shape (4,), float32"]),
        ("x.sum(7)", EvaluationError, "x.sum(7)", ["x: shape (4,), float32"]),
        ("torch.linalg.cholesky(-A)", EvaluationError, "torch.linalg.cholesky(-A)", ["-A: shape (3, 3), float32"]),
        ("a, b, c = x", EvaluationError, "x", []),
        ("[p for p, q in x]", EvaluationError, "[p for p, q in x]", []),
        ("[k for k in s]", EvaluationError, "[k for k in s]", []),
        ("x.mul_(2)", EvaluationError, "x.mul_(2)", ["x: shape (4,), float32"]),
        ("1 / 0 * x", EvaluationError, "1 / 0", []),
        ("torch.tensor([[1.], 2.])", EvaluationError, "torch.tensor([[1.], 2.])", []),
    ],
)  # fmt: skip
def test_torchs_failures_name_the_place_and_the_operands(
    source: str, kind: type[JvpError], guilty: str, details: list[str]
) -> None:
    with pytest.raises(JvpError) as caught:
        run(source, wrt=("x", "W", "A", "s"))
    error = caught.value
    assert type(error) is kind
    assert error.span is not None
    assert source[slice(*error.span)] == guilty
    assert list(error.details) == details
    assert error.source == source
    assert (error.torch_message is not None) == bool(details or guilty in ("1 / 0", "torch.tensor([[1.], 2.])"))
    assert "\n" not in error.message


def test_errors_inside_a_comprehension_point_into_it() -> None:
    source = "é = W; [é[k] @ x for k in range(2)]"
    with pytest.raises(ShapeMismatchError) as caught:
        run(source)
    assert caught.value.span is not None
    assert source[slice(*caught.value.span)] == "é[k] @ x"
    assert list(caught.value.details) == ["é[k]: shape (3,), float32", "x: shape (4,), float32"]


def test_an_input_without_a_value() -> None:
    with pytest.raises(JvpError, match="`q` has no value") as caught:
        evaluate(parse("x + q"), {"x": X})
    assert caught.value.span == (4, 5)


# Python functions


def test_a_python_function() -> None:
    evaluation = evaluate_function(lambda x, W: (x @ W, {"a": 1} and [x.sum()]), {"x": X, "W": W}, wrt=["x"])
    assert list(evaluation.outputs) == ["y0", "y1"]
    assert evaluation.program is None
    assert evaluation.tape == ()
    assert evaluation.wrt == ("x",)
    torch.testing.assert_close(evaluation.outputs["y0"].detach(), X @ W)
    assert not X.requires_grad
    with pytest.raises(NotDifferentiableError):
        evaluate_function(lambda x: x.sum().item(), {"x": X})
    first, again = (evaluate_function(torch.rand_like, {"x": X}, seed=3).outputs["y"] for _ in range(2))
    assert torch.equal(first, again)


def test_flatten_leaves_none_out_and_keeps_sizes_whole() -> None:
    assert list(flatten((1, [None, (2,)], torch.Size([3])))) == [1, 2, torch.Size([3])]


def test_packs_know_their_size_and_depth() -> None:
    inner = Pack("list", (Ref(0), Const(1)))
    outer = Pack("tuple", (inner, inner))
    assert (inner.size, inner.depth, outer.size, outer.depth) == (2, 1, 6, 2)
    assert outer == Pack("tuple", (Pack("list", (Ref(0), Const(1))), inner))


def test_ten_thousand_terms_evaluate() -> None:
    program: Program = parse("+".join(["x"] * 10_000))
    torch.testing.assert_close(
        evaluate(program, {"x": torch.ones(2)}, wrt=["x"]).outputs["y"].detach(), torch.full((2,), 1e4)
    )


def test_too_many_steps() -> None:
    with pytest.raises(LimitError, match="100,000 steps"):
        run("[0 * s for p in range(1000) for q in range(1000)]")
