"""The chain rule step by step, against Python's own run of the same text and torch.autograd of the whole."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import jvpcli
from jvpcli.jacobians.linear_map import ComplexMap
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.tracing.chain import chain_maps, local_maps, multiply_out, sweep
from jvpcli.tracing.replay import OUTPUT, WRITE, replay

X = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
A = torch.tensor([[1.0, -2.0, 0.5], [0.3, 4.0, -1.0], [2.0, 0.1, 0.7]], dtype=torch.float64)
C = torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex128)


def by_python(text, inputs, wrt):
    """(outputs, gradients of Σ⟨v, y⟩, the vs) of the text run by Python itself; v = 1, 2, 3, … over all entries."""
    leaves = {name: x.clone().requires_grad_(name in wrt) for name, x in inputs.items()}
    scope = {"torch": torch, "F": F, "math": math, **leaves}
    *statements, last = [part.strip() for part in text.split(";")]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for statement in statements:
            exec(statement, scope)
        result = eval(last, scope)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    vs = [weights(y) for y in outputs if y.requires_grad]
    live = [y for y in outputs if y.requires_grad]
    gradients = torch.autograd.grad(live, [leaves[name] for name in wrt], vs, allow_unused=True)
    return outputs, dict(zip(wrt, gradients, strict=True)), vs


def weights(y):
    v = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape)
    return torch.complex(v, -0.5 * v).to(y.dtype) if y.is_complex() else v.to(y.dtype)


def chained(text, inputs, wrt):
    program = parse(text, inputs.keys())
    given_inputs = {name: inputs[name].clone() for name in program.inputs}
    evaluation = evaluate(program, given_inputs, wrt=wrt)
    chain = replay(evaluation, given_inputs, 0)
    cotangents = {name: weights(y) for name, y in evaluation.outputs.items() if y.requires_grad}
    return evaluation, chain, sweep(chain, cotangents)


def contributions_to(chain, swept, name):
    """What all steps together contribute to an input."""
    total = torch.zeros_like(chain.inputs[name].tensor)
    for step, passed in zip(chain.steps, swept.contributions, strict=True):
        for primal, gradient in zip(step.operands, passed, strict=True):
            if primal.number == chain.inputs[name].number and gradient is not None:
                total = total + gradient
    return total


def check(text, wrt=None, **inputs):
    """The contributions to every input add up to torch's gradient of the whole, and the values are Python's."""
    wrt = tuple(inputs) if wrt is None else wrt
    outputs, gradients, _ = by_python(text, inputs, wrt)
    _, chain, swept = chained(text, inputs, wrt)
    assert chain.faithful
    for primal, y in zip(chain.outputs.values(), outputs, strict=True):
        torch.testing.assert_close(primal.tensor, y.detach(), equal_nan=True)
    for name, expected in gradients.items():
        if name in chain.inputs:
            zero = torch.zeros_like(inputs[name])
            found = contributions_to(chain, swept, name)
            torch.testing.assert_close(found, zero if expected is None else expected, equal_nan=True)
    return chain, swept


def test_an_operand_used_twice_gets_two_contributions():
    text = "torch.outer(x, x)"
    program = parse(text)
    evaluation = evaluate(program, {"x": X}, wrt=("x",))
    chain = replay(evaluation, {"x": X}, 0)
    swept = sweep(chain, {"y": torch.ones(4, 4, dtype=torch.float64)})
    assert [[g.tolist() for g in passed] for passed in swept.contributions] == [[[10.0] * 4, [10.0] * 4]]
    assert swept.totals[chain.inputs["x"].number].tolist() == [20.0] * 4


@pytest.mark.parametrize(
    "text",
    [
        "x.clone().mul_(2)",
        "y = x.clone(); y[0].mul_(5); y*2",
        "y = x.clone(); v = y[1:3]; w = y[2:]; v.mul_(x[0]); w.sum()*y",
        "y = x*1; y[1] = (y[0] + 0)*x[2]; y",
        "y = x.clone(); y += x; y[::2].mul_(3.); y.sum()*x",
        "y = x*2; d = y.detach(); d.mul_(3); y.sum()",
        "y = x*2; z = y.expand(3, 4); y.mul_(x); z*2",
        "y = x*1; v = y.view(2, 2); v.t_(); y[1:].zero_(); v*x.reshape(2, 2)",
        "y = x*3; z = y.reshape(2, 2).t(); z[0, 1] = x[3]*(y[0] + 1); y + z.reshape(4)",
        "y = x*3; y.add_(y); y",
        "y = x*1; u = y[:2]; u.copy_(x[2:]); u = y[1:3]; u.neg_(); y*x",
        "F.relu(x*2 - 3, inplace=True)",
        "y = x*2; z = F.relu(y - 3, inplace=True); z*y",
        "w.mul_(x); w.sum()*w[0]",
        "y = torch.zeros(2, 4, dtype=torch.float64); y[0] = x; y[1].copy_(x*x); y",
        "w[1:].add_(x[1:]); w*x",
    ],
)
def test_in_place_steps_and_views(text):
    inputs = {"x": X, "w": torch.full((4,), 3.0, dtype=torch.float64)}
    outputs, gradients, _ = by_python(text, inputs, ("x",))
    used = {name: inputs[name] for name in parse(text, inputs).inputs}
    chain, _ = check(text, wrt=("x",), **used)
    assert outputs[0].shape == next(iter(chain.outputs.values())).tensor.shape
    assert gradients["x"] is not None


def test_a_write_through_a_view_is_a_step_of_its_own():
    chain, _ = check("y = x.clone(); y[0].mul_(5); y*2", x=X)
    write = next(step for step in chain.steps if step.kind == WRITE)
    kept, written = local_maps(write)
    torch.testing.assert_close(kept.jacobian.to_dense().diagonal(), torch.tensor([0.0, 1, 1, 1], dtype=torch.float64))
    assert written.jacobian.to_dense().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert written.structure == "selection"


def test_a_write_that_nothing_reads_is_no_step():
    chain, _ = check("y = x.clone(); v = y[0]; y.mul_(5); y*2", x=X)
    assert all(step.kind != WRITE for step in chain.steps)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("torch.sin(x)*x", {"x": X}),
        ("torch.stack([x, x*2, x]).sum(0)", {"x": X}),
        ("torch.cat([x[:1], x, x[2:]])*torch.arange(7.)", {"x": X}),
        ("torch.linalg.svdvals(a)", {"a": A}),
        ("torch.linalg.svd(a).S", {"a": A}),
        ("S = torch.linalg.svd(a)[1]; S*S", {"a": A}),
        ("a.max(0).values", {"a": A}),
        ("torch.linalg.slogdet(a)[1]", {"a": A}),
        ("U, S, V = torch.linalg.svd(a); (U*S)@V", {"a": A}),
        ("p, q = x.unbind(0)[:2]; p*q", {"x": X}),
        ("[x[i]*i for i in range(3)]", {"x": X}),
        ("sum([x[i]**i for i in range(4)])", {"x": X}),
        ("(x, x*2)", {"x": X}),
        ("(x*2, torch.outer(x, x), x.sum())", {"x": X}),
        ("x[:0]", {"x": X}),
        ("torch.outer(x[:0], x).sum() + x.sum()", {"x": X}),
        ("x.sum()*x.max().item()", {"x": X}),
        ("(x*x.detach()).sum()", {"x": X}),
        ("x*(x > 2)", {"x": X}),
        ("torch.where(x > 2, x, 0*x)", {"x": X}),
        ("x[x.argmax()]*x[torch.tensor([0, 0, 3])]", {"x": X}),
        ("F.dropout(x*2, 0.5)*F.dropout(x, 0.5)", {"x": X}),
        ("x*torch.rand(4, dtype=torch.float64) + torch.randn(4, dtype=torch.float64)", {"x": X}),
        ("x.to(torch.float32)*2", {"x": X}),
        ("torch.addmm(a, a, b, alpha=2)", {"a": A, "b": A.T.contiguous()}),
        ("torch.add(x, other=x, alpha=3)", {"x": X}),
        ("F.linear(x, w, bias=b)", {"x": X, "w": torch.ones(2, 4, dtype=torch.float64), "b": X[:2]}),
        ("x[0] if x[1] > 0 else x[2]", {"x": X}),
        ("c*c.conj()", {"c": C}),
        ("c.abs()", {"c": C}),
        ("c.conj()", {"c": C}),
        ("c.real*c.imag + torch.view_as_real(c).sum()", {"c": C}),
        ("y = c*2; y.real.mul_(3); y.abs()*y", {"c": C}),
        ("y = c.conj()*1; y.imag.add_(1); y = y.conj(); y[0].mul_(2j); y", {"c": C}),
        ("y = c*1; r = torch.view_as_real(y); y[0].mul_(4j); r", {"c": C}),
        ("torch.fft.rfft(x)", {"x": X}),
        ("torch.complex(x, x*2)*c[0]", {"x": X, "c": C}),
        ("x.sum(0, keepdim=True) + torch.tensor(3.)", {"x": X}),
        ("torch.sgn(x)*x", {"x": X}),
    ],
)
def test_against_python(text, inputs):
    check(text, **inputs)


def test_an_output_that_is_an_input_is_a_step():
    chain, swept = check("(x, x*2)", x=X)
    assert [step.kind for step in chain.steps].count(OUTPUT) == 1
    assert contributions_to(chain, swept, "x").tolist() == [3.0, 6.0, 9.0, 12.0]


def test_outputs_left_out_get_nothing():
    evaluation = evaluate(parse("(x*2, x.sum())"), {"x": X}, wrt=("x",))
    chain = replay(evaluation, {"x": X}, 0)
    swept = sweep(chain, {"y1": torch.tensor(3.0, dtype=torch.float64)})
    assert swept.totals[chain.inputs["x"].number].tolist() == [3.0] * 4
    assert swept.arrived[0] == (None,)


def test_inputs_that_are_not_differentiated_get_nothing():
    chain, swept = check("w*x", wrt=("x",), w=X, x=X)
    assert swept.contributions[0][0] is None
    assert chain.steps[0].leaves[0] is None


def test_the_callers_tensors_stay_as_they_are():
    before = X.clone()
    check("y = x*1; y.mul_(2); y[0] = 5.; y", x=X)
    assert torch.equal(X, before)


# Random programs


class Writer:
    """Writes a program of single steps over values of known shapes; operands are shared at will."""

    def __init__(self, choose):
        self.choose = choose
        self.values = {"x": (3,), "w": (2, 3), "s": ()}
        self.lines = []

    def pick(self, *shapes):
        names = [name for name, shape in self.values.items() if not shapes or shape in shapes]
        return self.choose(names)

    def step(self):
        kind = self.choose(list(STEPS))
        made = STEPS[kind](self)
        if made is None:
            return
        text, shape = made
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.values[name] = shape

    def unary(self):
        name = self.pick()
        template = self.choose(
            ["torch.sin({})", "torch.tanh({})", "-{}", "{}*2.5", "{}.square()", "{}.abs().add(1).log()"]
        )
        return template.format(name), self.values[name]

    def binary(self):
        left, right = self.pick(), self.pick()
        try:
            shape = tuple(torch.broadcast_shapes(self.values[left], self.values[right]))
        except RuntimeError:
            return None
        operation = self.choose(["{}+{}", "{}*{}", "{}-{}", "torch.sin({})*torch.cos({})", "{}/({}.square()+1)"])
        return operation.format(left, right), shape

    def product(self):
        return f"{self.pick((2, 3))}@{self.pick((3,))}", (2,)

    def outer(self):
        vectors = [name for name, shape in self.values.items() if len(shape) == 1]
        left, right = self.choose(vectors), self.choose(vectors)
        return f"torch.outer({left}, {right})", self.values[left] + self.values[right]

    def reduce(self):
        name = self.pick()
        shape = self.values[name]
        if len(shape) == 2:
            return self.choose([(f"{name}.sum(0)", shape[1:]), (f"{name}.mean(1)", shape[:1]), (f"{name}.sum()", ())])
        return f"{name}.sum()", ()

    def rearrange(self):
        name = self.pick((2, 3), (3, 3), (3, 2))
        rows, columns = self.values[name]
        return self.choose(
            [(f"{name}.T", (columns, rows)), (f"{name}[0]", (columns,)), (f"{name}.flip(0)", (rows, columns))]
        )

    def gather(self):
        name = self.pick((3,))
        return self.choose([(f"{name}[torch.tensor([0, 2, 2])]", (3,)), (f"torch.stack([{name}, x])", (2, 3))])

    def in_place(self):
        name = self.pick()
        shape = self.values[name]
        other = self.choose([n for n, s in self.values.items() if s in ((), shape)])
        return f"{name}.clone().mul_({other})", shape


STEPS = {
    "unary": Writer.unary,
    "binary": Writer.binary,
    "product": Writer.product,
    "outer": Writer.outer,
    "reduce": Writer.reduce,
    "rearrange": Writer.rearrange,
    "gather": Writer.gather,
    "in_place": Writer.in_place,
}


def random_program(seed):
    generator = random.Random(seed)
    writer = Writer(generator.choice)
    for _ in range(generator.randint(1, 12)):
        writer.step()
    if not writer.lines:
        writer.lines.append("t = x*x")
        writer.values["t"] = (3,)
    last = [name for name in writer.values if name not in ("x", "w", "s")][-2:]
    return "; ".join([*writer.lines, ", ".join(last) if len(last) > 1 else last[0]])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_random_programs(seed):
    """The sum of the contributions to each input equals torch.autograd.grad, and so does the product of Jacobians."""
    text = random_program(seed)
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (3,), "w": (2, 3), "s": ()}
    names = parse(text).inputs
    inputs = {name: torch.randn(shapes[name], generator=generator, dtype=torch.float64) for name in names}
    chain, _ = check(text, **inputs)
    maps = chain_maps(chain.steps)
    name = list(chain.outputs)[-1]
    product = multiply_out(chain, maps, name)
    assert product is not None, text
    for x, expected in zip(names, whole_jacobian(text, inputs), strict=True):
        torch.testing.assert_close(product.rows[x], expected, msg=lambda m: f"{text}: {m}")


def whole_jacobian(text, inputs):
    """Of the last output, by torch.autograd.functional.jacobian of Python's own run."""

    def function(*tensors):
        scope = {"torch": torch, "F": F, **dict(zip(inputs, tensors, strict=True))}
        *statements, last = text.split("; ")
        for statement in statements:
            exec(statement, scope)
        result = eval(last, scope)
        return (result[-1] if isinstance(result, tuple) else result).reshape(-1)

    tensors = tuple(inputs.values())
    found = torch.autograd.functional.jacobian(function, tensors)
    return [j.reshape(-1, x.numel()) for j, x in zip(found, tensors, strict=True)]


# Local Jacobians

W = torch.tensor([2.0, 0.0, -1.0, 3.0], dtype=torch.float64)
Z = torch.tensor([0.0, 1.0, math.inf, math.nan], dtype=torch.float64)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("x + x + x.sin() + (2*x).sin() + x*x + x*x*x + 3*x + 2*x", {"x": X}),
        ("w*x + x*w + w*(x + x) + x/w + w/x + (x*w)*(w*x)", {"x": X, "w": W}),
        ("(x > 2)*x + (x > 3)*x + torch.relu(x - 2) + torch.relu(x - 3) + x.detach()*x + (2*x).detach()*x", {"x": X}),
        ("a = x.sum(); b = w.sum(); a*x + b*x + a.detach()*x + b.detach()*x + 2*a + 2*b", {"x": X, "w": W}),
        ("x[0]*x + x[1]*x + x[0] + x[1] + x[:2].sum() + x[2:].sum() + x.flip(0) + x.roll(1) + x.roll(2)", {"x": X}),
        ("z.sqrt() + (z*z).sqrt() + z.sqrt()*z + 1/z + 1/(z*z)", {"z": Z}),
        ("c*c + c.conj()*c + c.abs() + (2*c).abs() + 2*c + 3*c + c.real + c.exp() + (c*c).exp()", {"c": C}),
        ("torch.outer(x, x).sum() + torch.outer(x, w).sum() + (x @ w) + (w @ x) + torch.max(x, w).sum()", {"x": X, "w": W}),
        ("F.dropout(x) + F.dropout(x) + F.dropout(x[0]) + F.dropout(x[0]) + x.pow(2) + x.pow(3) + x.pow(2)", {"x": X}),
        ("A.T + A.T*2 + A.T.clone() + A.exp() + A.T.exp() + A.T.exp().T", {"A": A}),
        ("e*e + 2*e + 2*(e*e) + e.exp() + (e*e).exp()", {"e": torch.ones(0, 3, dtype=torch.float64)}),
    ],
)
@pytest.mark.parametrize("wrt", ["all", "first"])
def test_what_steps_have_in_common_is_found_once(text, inputs, wrt):
    """The maps that are found for all steps together are those that each step has by itself."""
    names = tuple(inputs) if wrt == "all" else tuple(inputs)[:1]
    evaluation = evaluate(parse(text, inputs.keys()), inputs, wrt=names)
    steps = replay(evaluation, inputs, 0).steps
    for step, together in zip(steps, chain_maps(steps), strict=True):
        alone = local_maps(step)
        assert len(together) == len(alone)
        for a, b in zip(together, alone, strict=True):
            assert (a.result, a.position, a.out_shape, a.in_shape) == (b.result, b.position, b.out_shape, b.in_shape)
            assert (a.structure, a.nnz, a.scale) == (b.structure, b.nnz, b.scale)
            assert a.jacobian.structure == b.jacobian.structure
            for one, other in zip(a.jacobian.parts, b.jacobian.parts, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(a.places, b.places)


@pytest.mark.parametrize("function", ["torch.sin", "torch.sqrt", "torch.relu", "2*", "w*", "torch.exp", "torch.sigmoid", "1/"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_entries_of_what_works_entry_by_entry_are_torchs(function, dtype):
    """Against torch's own rows, one by one, also where steps of one form differ by their values."""
    x, w = torch.tensor([0.5, 0.0, 3.0, -1.0], dtype=dtype), torch.tensor([2.0, 0.3, -1.0, 0.0], dtype=dtype)
    text = " + ".join(f"{function}({each})" for each in ("x", "x + x", "x*x", "x.abs()"))
    evaluation = evaluate(parse(text, {"x", "w"}), {"x": x, "w": w} if "w" in function else {"x": x}, wrt=("x",))
    steps = replay(evaluation, {"x": x, "w": w}, 0).steps
    for step, maps in zip(steps, chain_maps(steps), strict=True):
        for local in maps:
            leaf, result = step.leaves[local.position], step.results[0].graph
            rows = [torch.autograd.grad(result, leaf, v, retain_graph=True)[0] for v in torch.eye(4, dtype=dtype)]
            diagonal = torch.stack(rows).diagonal()
            torch.testing.assert_close(local.jacobian.to_dense(), torch.diag(diagonal), rtol=0, atol=0, equal_nan=True)


def maps_of(text, **inputs):
    evaluation = evaluate(parse(text, inputs.keys()), inputs, wrt=tuple(inputs))
    return local_maps(replay(evaluation, inputs, 0).steps[-1])


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("x.clone()", ["identity"]),
        ("3*x", ["identity"]),
        ("torch.relu(x - 2.5)", ["diagonal"]),
        ("x*0", ["zero"]),
        ("torch.round(x)", ["zero"]),
        ("x.sum()", ["sum"]),
        ("x.mean()", ["sum"]),
        ("x.reshape(2, 2).sum(1)", ["sum"]),
        ("x[1:3]", ["selection"]),
        ("x.expand(3, 4)", ["selection"]),
        ("torch.flip(x, (0,))", ["selection"]),
        ("torch.outer(x, x)", ["sparse", "sparse"]),
        ("torch.cumsum(x, 0)", ["triangular"]),
        ("torch.softmax(x, 0)", ["dense"]),
        ("x.dot(x)", ["dense", "dense"]),
        ("x**2", ["diagonal"]),
    ],
)
def test_kinds(text, kinds):
    assert [m.structure for m in maps_of(text, x=X)] == kinds


@pytest.mark.parametrize("size", [4, 700])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0])
@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("torch.exp(x)", ["diagonal"]),
        ("torch.sqrt(x)", ["diagonal"]),
        ("x/x", ["diagonal", "diagonal"]),
        ("x**3", ["diagonal"]),
        ("torch.where(x > 1, x, 2*x)", ["diagonal", "diagonal"]),
        ("F.silu(x)", ["diagonal"]),
        ("x.clamp(-9, 9)", ["diagonal"]),
        ("F.pad(x, (1, 2))", ["selection"]),
        ("x.view(2, -1).mean(0)", ["sum"]),
        ("3*x", ["identity"]),
    ],
)
def test_the_kind_is_that_of_the_operation_whatever_the_values_are(text, kinds, value, size):
    x = torch.linspace(0.5, 2, size, dtype=torch.float64)
    x[1] = value
    maps = maps_of(text, x=x)
    assert [m.structure for m in maps] == kinds
    for local in maps:
        if local.jacobian is not None:
            matrix = local.jacobian.to_dense().reshape(local.jacobian.m, local.jacobian.n)
            assert not matrix[~local.places].any()  # NaN would count


def test_an_identity_of_any_size_says_what_it_is_times():
    for size in (3, 1000):
        (local,) = maps_of("2.5*x", x=torch.rand(size))
        assert (local.structure, local.scale.item()) == ("identity", 2.5)


def test_a_zero_at_the_point_is_no_structure():
    zeros = torch.zeros(3, dtype=torch.float64)
    (square,) = maps_of("x**2", x=zeros)
    assert (square.structure, square.nnz) == ("diagonal", 0)
    (root,) = maps_of("torch.sqrt(x)", x=zeros)
    assert (root.structure, root.nnz) == ("diagonal", 3)
    assert root.jacobian.to_dense().isinf().sum() == 3


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("a@b", [(2, 3), (3, 4)]),
        ("a@b", [(3,), (3,)]),
        ("a*b", [(2, 3), (3,)]),
        ("a*b", [(), (2, 2)]),
        ("torch.where(a > b, a, b)", [(4,), (4,)]),
        ("torch.cat([a, b], 1)", [(2, 3), (2, 0)]),
        ("F.conv1d(a, b)", [(1, 2, 5), (3, 2, 2)]),
        ("torch.linalg.solve(a, b)", [(3, 3), (3,)]),
        ("torch.einsum('ij,kj->ki', a, b)", [(2, 3), (4, 3)]),
    ],
)
def test_local_jacobians_are_those_of_the_operation(text, shapes):
    generator = torch.Generator().manual_seed(1)
    inputs = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in zip("ab", shapes, strict=True)}
    function = eval(f"lambda a, b: {text}", {"torch": torch, "F": F})
    expected = torch.autograd.functional.jacobian(function, tuple(inputs.values()))
    maps = maps_of(text, **inputs)
    step_maps = {m.position: m for m in maps}
    order = sorted(step_maps)
    for position, j in zip(order, expected, strict=True):
        found = step_maps[position]
        torch.testing.assert_close(found.jacobian.to_dense(), j)
        assert found.nnz == int(torch.count_nonzero(j))


def test_complex_local_jacobians_keep_torchs_convention():
    (local,) = maps_of("c*2j", c=C)
    assert isinstance(local.jacobian, ComplexMap)
    v = weights(C)
    leaf = C.clone().requires_grad_()
    (expected,) = torch.autograd.grad(leaf * 2j, leaf, v)
    torch.testing.assert_close(local.jacobian.pullback(v), expected)


def test_a_large_local_jacobian_is_not_written_out():
    x = torch.randn(1000, dtype=torch.float64)
    (local,) = maps_of("torch.sin(x)", x=x)
    assert (local.jacobian, local.structure, local.nnz) == (None, "diagonal", 1000)
    left, right = maps_of("torch.outer(x, x)", x=x)
    assert left.jacobian is None
    assert left.nnz == right.nnz == 1_000_000
    assert left.structure != "dense"


def test_a_tuple_of_many_parts_is_picked_from_without_looking_at_all_of_them():
    x = torch.randn(300, dtype=torch.float64)
    evaluation = evaluate(parse("x.unbind(0)[7]*2"), {"x": x}, wrt=("x",))
    chain = replay(evaluation, {"x": x}, 0)
    pick = local_maps(chain.steps[1])
    assert [(m.position, m.structure) for m in pick] == [(7, "identity")]


def test_tracing_loads_nothing_that_torch_does_not():
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "from jvpcli.answers.trace import trace\n"
        "from jvpcli.request import Request\n"
        "trace(Request('torch.outer(x, x).relu().sum()', {'x': '1,-2,3,4'}))\n"
        "heavy = {'sympy', 'scipy', 'typer', 'rich', 'dynamo', '_dynamo', 'func', '_functorch', '_decomp', '_inductor'}\n"
        "bad = [m for m in set(sys.modules) - before if heavy & set(m.split('.'))]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nets_that_a_loop_calls_by_one_name_have_different_ones():
    nets = [nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(3)]

    def function(x):
        for net in (*nets, nets[0]):
            x = net(x)
        return x.sum()

    steps = jvpcli.trace(function, x=torch.ones(3)).report.steps
    modules = ["net.0", "net.1", "net (2).0", "net (2).1", "net (3).0", "net (3).1", "net.0", "net.1"]
    assert [step.module for step in steps if step.module] == modules
