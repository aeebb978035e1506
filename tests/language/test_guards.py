"""What torch would trust and must not: refused before the call, by rules; ordinary uses of the same functions work.

The refusals run in a child process: without its rule such a call reads memory that isn't the tensor's, or ends the
process, and then the child ends by a signal.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce

import pytest
import torch

from jvpcli.errors import ForbiddenError, JvpError
from jvpcli.language import catalog, guards
from jvpcli.language.evaluate import evaluate
from jvpcli.language.guards import extents, overflow, recurrent, trusted
from jvpcli.language.guards.binding import bind, signatures_of
from jvpcli.language.parse import parse

INPUTS = {"x": [1.0, 2.0, 3.0, 4.0]}

CHILD = """
import json, sys, torch
from jvpcli.errors import JvpError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
for source in json.load(sys.stdin):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    try:
        outputs = evaluate(parse(source), {"x": x}, memory_limit=10**9).outputs
        print(json.dumps(["ok", str([tuple(v.shape) for v in outputs.values()])]), flush=True)
    except JvpError as error:
        print(json.dumps([error.code, error.message]), flush=True)
"""


def in_child(sources: list[str]) -> list[list[str]]:
    """[code, message] of each expression; shorter where the process ended."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(sources), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"ended with {done.returncode} at {sources[len(done.stdout.splitlines())]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


LEAST32 = "torch.tensor([-2**31, 5], dtype=torch.int32)"
LEAST64 = "torch.tensor([7, -2**63])"
LSTM = "[torch.zeros({s}, 1, 3)]*2, [torch.zeros({w}), torch.zeros(12, 3)], False, 1, 0., False, False, False"

REFUSED = {
    "views": [
        "y = torch.zeros(16, dtype=torch.int32); y.as_strided_((9,), (2**61,), 0) * 1",
        "y = torch.zeros(16, dtype=torch.int32); y.as_strided_((2, 2, 20000), (20000, 2**62 - 39999, 1), 0)",
        "torch.as_strided_(x.clone(), (3,), (2**62,), 1)",
        "x.double().as_strided_((2,), (2**60,), 0)",
        "x.as_strided((2, 2), (2**62, 2**62))",
        "torch.as_strided_copy(x, (5,), (2**62,))",
        "torch.as_strided_scatter(x, x[:2], (2,), (2**62,), 0)",
        "x.clone().as_strided_((2, -2**63), (1, 2))",
        "x[:0].view(2**30, 2**30, 16)", "x[:0].reshape((2**30, 2**30, 16))", "x[:1].expand(2**30, 2**30, 16)",
        "torch.as_strided_(x.clone(), (2, 2), (2**61, 2**32), storage_offset=1)",
        "x.as_strided(stride=(2**62,), size=[2], storage_offset=0)", "torch.as_strided(x, x[:2].shape, (2**62,))",
        "torch.as_strided(x, (torch.tensor(2), True), (torch.tensor(2**62), 1))",
        "x[torch.tensor([0, 1, 2])][::2**63 - 2]", "x.reshape(2, 2)[torch.tensor([0, 1, 1]), ::2**63 - 2]",
        "x[::2**63 - 2]", "x.unfold(0, 2, 2**62)", "torch.unfold_copy(x, 0, 2, torch.tensor(2**62))",
    ],
    "windows": [
        *(f"F.{kind}_pool{n}d(x.reshape({'1, ' * (n + 1)}4), 3, 1, {padding})"
          for kind in ("max", "avg") for n in (1, 2, 3) for padding in ("2**62", "2**31")),
        *(f"F.max_pool{n}d(x.reshape({'1, ' * (n + 1)}4), 3, 1, 1, 2**31 - 1, {ceil})"
          for n in (1, 2, 3) for ceil in (True, False)),
        "F.lp_pool1d(x.reshape(1, 4), 2, 2**40)",
        *(f"F.conv{n}d(x.reshape({'1, ' * (n + 1)}4), torch.ones({'1, ' * (n + 1)}1), None, 1, 2**61)" for n in (1, 2, 3)),
        "F.conv_transpose1d(x.reshape(1, 1, 4), torch.ones(1, 1, 1), None, 2**62)",
        "torch.convolution(x.reshape(1, 1, 4), torch.ones(1, 1, 2), None, [1], [0], [2**61], False, [0], 1)",
        "F.unfold(x.reshape(1, 1, 2, 2), 1, padding=2**61)", "F.fold(x.reshape(1, 1, 4), (2, 2), 1, padding=2**62)",
        "F.fold(x.reshape(1, 1, 4), (2, 2), 1, padding=torch.tensor(2**62))",
    ],
    "sizes": [
        "torch.repeat_interleave(torch.tensor([2**62]*4))", "x.repeat_interleave(torch.tensor([2**62]*4))",
        "torch.repeat_interleave(torch.tensor([2**40, -5]))", "x.repeat_interleave(torch.tensor([1]*4), output_size=3)",
        "torch.arange(start=0, end=-2**63, step=-1)", "torch.roll(x, 2**62)", "torch.rot90(x.reshape(2, 2), 2**62)",
        "torch.constant_pad_nd(x[:0].reshape(0, 3), (1, 2**61), 1.)", "F.pad(x[:0].reshape(0, 3, 3), (2**61, 2), 'replicate')",
        "x.diagonal_scatter(x, 2**62)", "torch.diag(x, diagonal=-2**63)", "torch.matrix_power(x.reshape(2, 2), -2**63)",
        "torch.tril(x.reshape(2, 2), 2**63 - 1)", "torch.stft(x, 2**62)", "x.narrow(0, 2**63 - 1, 2)",
    ],
    "trusted": [
        f"torch.lstm(x.reshape(1, 1, 4), {LSTM.format(s=1, w='12, 5')})",
        f"torch.lstm(x.reshape(1, 1, 4), {LSTM.format(s=2, w='12, 4')})",
        "torch.gru(x.reshape(2, 2), torch.tensor([2.]), torch.zeros(1, 2, 3), [torch.zeros(9, 2), torch.zeros(9, 3)], False, 1, "
        "0., False, False)",
        "torch.gru(x.reshape(2, 2), torch.tensor([9]), torch.zeros(1, 9, 3), [torch.zeros(9, 2), torch.zeros(9, 3)], False, 1, "
        "0., False, False)",
        *(f"torch.gru(x.reshape(2, 2), {sizes}, torch.zeros(1, 1, 3), [torch.zeros(9, 2), torch.zeros(9, 3)], False, 1, "
          "0., False, False)[0]" for sizes in ("torch.tensor([1]).expand(2)", "torch.tensor([1, 9, 1, 9])[::2]")),
        "torch.rnn_tanh_cell(x.reshape(1, 4), torch.zeros(1, 3), torch.zeros(3, 4), torch.zeros(8, 8))",
        "torch.gru_cell(x.reshape(1, 4), torch.zeros(2, 3), torch.zeros(9, 4), torch.zeros(9, 3))",
        "torch.lstm_cell(x.reshape(1, 4), (torch.zeros(1, 3), torch.zeros(1, 7)), torch.zeros(12, 4), torch.zeros(12, 3))",
        "torch.lu_unpack(x.reshape(2, 2), torch.tensor(1, dtype=torch.int32))[0]",
        "torch.lu_unpack(x.reshape(1, 2, 2), torch.tensor([1, 2], dtype=torch.int32))[0]",
        "F.scaled_dot_product_attention(x.reshape(1, 2, 2), x.reshape(1, 2, 2), torch.ones(1, 3, 2))",
        "torch.native_batch_norm(x[:0].reshape(0, 2, 2), None, None, torch.ones(2), torch.ones(2), False, 0.1, 1e-5)[0]",
        "torch.special.chebyshev_polynomial_w(x * math.nan, 4)", "F.pad(x.reshape(1, 4), (2, -4), 'circular')",
        "F.pad(x.reshape(1, 1, 2, 2), mode='circular', pad=(0, 0, 2, -1))",
        "torch.special.legendre_polynomial_p(x / 0 * 0, torch.tensor(2))",
        "torch.segment_reduce(x, 'sum', lengths=torch.tensor([2**62, 2**62, 2**62, 2**62 + 4]))",
        "torch.segment_reduce(x.reshape(2, 2), 'max', offsets=torch.tensor([[0, 2]]), axis=1)",
        "F.embedding_bag(torch.tensor([0]*7), torch.ones(5, 5), torch.tensor([0, 3, 6]), include_last_offset=True)",
        *(f"torch.embedding_bag(x.reshape(2, 2), torch.tensor([0, 1]), {offsets}, False, {mode})[0]" for offsets, mode in
          (("torch.tensor([], dtype=torch.int64)", 0), ("torch.tensor([1])", 1), ("torch.tensor([[0]])", 2),
           ("torch.tensor([0])", 7))),
        "F.embedding_bag(torch.tensor([0, 1]), x.reshape(2, 2), offsets=torch.tensor([], dtype=torch.int64))",
        "F.embedding_bag(weight=x.reshape(2, 2), offsets=torch.tensor([1]), input=torch.tensor([0, 1]), mode='max')",
        *(f"torch.native_group_norm({data}, {weight}, None, 1, 2, 2, {groups}, 1e-5)[0]" for data, weight, groups in
          (("x.reshape(1, 2, 2)", "x[:1].expand(2)", 1), ("x.reshape(1, 2, 2)", "x[:1]", 1), ("x.reshape(1, 2, 2)", "None", 0),
           ("x.reshape(1, 2, 2).mT", "None", 1), ("x.reshape(1, 2, 2)", "x[::2]", 2))),
        "F.fractional_max_pool2d(x.reshape(1, 1, 2, 2), 2, output_size=1, _random_samples=torch.full((1, 1, 2), 1e8))",
        "torch.grid_sampler_3d(torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 1, 1, 3), 3, 2, False)",
        "F.ctc_loss(torch.zeros(5, 1, 3), torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2]), blank=7)",
        *(f"F.ctc_loss(torch.zeros(5, 2, 3), {targets}, torch.tensor([5, 5]), torch.tensor([2, 1]))" for targets in
          ("torch.tensor([1]).expand(3)", "torch.tensor([[1, 99], [2, 99], [1, 99]])[:, 0]")),
    ],
    "kinds": [
        "torch.lu_solve(x, x)", "torch.gru(x)", "torch.pdist()", "torch.lstm(x, x, x, 1, 1, 1, 1, 1, 1)",
        "torch.embedding_bag(x, None, torch.tensor([0]))", "torch.embedding_bag(x.reshape(2, 2), [0, 1], torch.tensor([0]))",
        "torch.segment_reduce('x', 'sum', lengths=torch.tensor([4]))", "torch.as_strided(x, (2,), 2**62)",
        "torch.as_strided(x, (2,), ((2**62,),))", "torch.as_strided(x, ('2', 2**62), (1, 2))", "x.view(2**62, None)",
        "F.max_pool1d(x.reshape(1, 4), 3, 1, 'x', 2**62)",
    ],
    "work": [
        *(f"torch.special.{name}(x, {n})" for name in
          ("laguerre_polynomial_l", "legendre_polynomial_p", "chebyshev_polynomial_t", "shifted_chebyshev_polynomial_w",
           "hermite_polynomial_he") for n in ("10**9", "torch.tensor([1, 2, 3, 2**62])", "n=torch.tensor(1e30)")),
        "torch.special.laguerre_polynomial_l(2., torch.tensor(10**12))", "torch.tensordot(x, x, 10**8)",
        "torch.tensordot(x, b=x, dims=10**9)", "torch.svd_lowrank(x.reshape(2, 2), niter=10**9).S",
    ],
    "division": [
        *(f"torch.{f}({LEAST64}, -1{mode})" for f, mode in
          (("div", ", rounding_mode='trunc'"), ("divide", ", rounding_mode='floor'"), ("floor_divide", ""), ("remainder", ""),
           ("fmod", ""))),
        f"{LEAST32}.div_(torch.tensor([3, -1]).int()[1], rounding_mode='trunc')", f"{LEAST32}.fmod_(-1)",
        f"{LEAST64} // torch.tensor([[-1], [2]])", f"{LEAST64} % -1", "-2**63 % torch.tensor([4, -1])",
        "-2**63 // torch.tensor(-1)", f"torch.remainder(other=-1, input={LEAST32})", f"{LEAST64}.lcm(torch.tensor(3))",
        f"torch.gcd(torch.tensor(5), {LEAST64})", "F.avg_pool2d(torch.full((1, 1, 1, 1), -2**63), 1, divisor_override=-1)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("rule", REFUSED)
def test_what_torch_would_trust_is_refused(rule: str) -> None:
    for source, (code, message) in zip(REFUSED[rule], in_child(REFUSED[rule]), strict=True):
        assert code in ("evaluation", "limit", "shape_mismatch"), source
        assert "can't be computed" in message or "would need" in message, f"{source}: {message}"
        assert (code == "limit") or rule != "work", source


ORDINARY = [
    "F.scaled_dot_product_attention(x.reshape(1, 2, 2), torch.ones(1, 3, 2), torch.ones(1, 3, 4))",
    "F.embedding(torch.tensor([1]), x.reshape(2, 2))",
    "x.as_strided((2, 2), (1, 1), 1)", "x.clone().as_strided_((2,), (2,))", "x[1:].as_strided((2,), (1,), 0)",
    "torch.as_strided_scatter(x, x[:2], (2,), (2,))", "x.view(2, -1)", "x.reshape(-1)", "x.expand(3, -1)", "x[::2]",
    "x[:2**40]", "x.unfold(0, 2, 1)", "x.repeat(2, 3)", "torch.zeros(2000, 2000)[:2]", "x.view(torch.int32)",
    "F.max_pool1d(x.reshape(1, 4), 5, stride=2, padding=2, ceil_mode=True)", "F.avg_pool2d(x.reshape(1, 2, 2), 2)",
    "F.max_pool2d(x.reshape(1, 2, 2), 2, return_indices=True)", "F.lp_pool2d(x.reshape(1, 1, 2, 2), 2, 2)",
    "F.conv1d(x.reshape(1, 1, 4), torch.ones(1, 1, 2), padding='same')", "F.fold(x.reshape(1, 4, 1), (2, 2), 2)",
    "F.conv_transpose2d(x.reshape(1, 1, 2, 2), torch.ones(1, 1, 2, 2), None, 2, 1)", "x + 2**40", "torch.full((2,), 2**40)",
    "x.long() + 2**62", "torch.arange(2**40, 2**40 + 3)", "x.clamp(max=2**50)", "torch.randint(0, 2**40, (2,))",
    "x.masked_fill(x > 2, 2**40)", "x.index_fill(0, torch.tensor([1]), 2**40)", "torch.where(x > 2, x, 2**40)",
    "torch.tensor([2**62, 1])", "torch.bitwise_and(x.long(), 2**40)", "x.long() << 2", "2**40 * x", "torch.pow(2**40, x / 9)",
    "torch.repeat_interleave(x, 2)", "torch.repeat_interleave(torch.tensor([1, 2]))", "torch.tensor([-2**63]) // 2",
    "x.repeat_interleave(torch.tensor([0, 1, 2, 1]), output_size=4)", "torch.tensor([-2**63]) // x.long()[:1]",
    "torch.tensor([-2**63, 4]) // torch.tensor([2, -1])", "torch.div(torch.tensor(-2**63), -1)", "x // -1", "x % -1",
    "torch.gcd(torch.tensor(12), torch.tensor(18))", "torch.tensor([5, -2**63 + 1]).lcm(torch.tensor(1))",
    "torch.tensor([-128], dtype=torch.int8) // 2",
    "torch.lstm(x.reshape(1, 1, 4), [torch.zeros(1, 1, 3)]*2, [torch.zeros(12, 4), torch.zeros(12, 3)], False, 1, 0., False, "
    "False, False)",
    "torch.gru(x.reshape(2, 2), torch.tensor([1, 1]), torch.zeros(1, 1, 3), [torch.zeros(9, 2), torch.zeros(9, 3)], False, 1, "
    "0., False, False)",
    "torch.rnn_relu(x.reshape(1, 2, 2), torch.zeros(2, 1, 3), [torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3), "
    "torch.zeros(3)]*2, True, 1, 0., False, True, True)",
    "torch.gru_cell(x.reshape(1, 4), torch.zeros(1, 3), torch.zeros(9, 4), torch.zeros(9, 3))",
    "F.ctc_loss(torch.zeros(5, 2, 3), torch.tensor([1, 2, 1]), torch.tensor([5, 5]), torch.tensor([2, 1]))",
    "F.ctc_loss(torch.zeros(5, 3), torch.tensor([[1, 0], [2, 0]])[:, 0], torch.tensor(5), torch.tensor(2))",
    "torch.segment_reduce(x.reshape(2, 2), 'sum', offsets=torch.tensor([[0, 2], [0, 2]]), axis=1)",
    "F.embedding_bag(torch.tensor([0, 4, 1]), torch.ones(5, 5), torch.tensor([0, 1, 3]), include_last_offset=True)",
    "F.embedding_bag(torch.tensor([], dtype=torch.int64), x.reshape(2, 2), torch.tensor([], dtype=torch.int64))",
    "F.embedding_bag(torch.tensor([[0, 1]]), x.reshape(2, 2), mode='max')",
    "torch.embedding_bag(x.reshape(2, 2), torch.tensor([0, 1, 1]), torch.tensor([0, 1]), False, 1)[0]",
    "F.embedding_bag(x.reshape(2, 2), torch.tensor([0, 1]), torch.tensor([0]))",
    "torch.native_group_norm(x.reshape(1, 2, 2), x[:2], x[2:], 1, 2, 2, 2, 1e-5)[0]",
    "F.group_norm(x.reshape(1, 2, 2).mT, 1, x[:1].expand(2), x[::2])",
    "torch.as_strided(size=(2, 2), stride=(1, 1), input=x, storage_offset=1)", "torch.special.laguerre_polynomial_l(x, 5)",
    "F.pad(x.reshape(1, 4), (3, -1), 'circular')", "F.pad(x.reshape(1, 1, 2, 2), (2, 2, 1, 0), mode='circular')",
    "F.pad(x, (-2, 9))", "torch.ones(1, 10**5).expand(10**4, 10**5)[0, :4] * x",
    "x[:1].expand(3, -1)", "torch.broadcast_to(x, (2, 4))",
    "torch.special.hermite_polynomial_h(x, torch.tensor([2., 3., 4., math.nan]))", "torch.tensordot(x, x, dims=1)",
    "x.repeat_interleave(repeats=torch.tensor(2))", "F.avg_pool2d(x.reshape(1, 2, 2), 2, divisor_override=-1)",
    "torch.norm(x, 2, 0, False, None, torch.float64)", "F.softmax(x, 0, 3, torch.float64)",
    "torch.matrix_power(x.reshape(2, 2), 5)", "torch.roll(x, -3)", "torch.diag(x, 2)", "torch.stft(x, 4, 1, return_complex=True)",
]  # fmt: skip


@pytest.mark.parametrize("source", ORDINARY, ids=lambda source: source[:50])
def test_ordinary_uses_work(source: str) -> None:
    program = parse(source)
    evaluate(program, {"x": torch.tensor(INPUTS["x"])}, wrt=list(program.inputs))


def test_shapes_without_memory_are_let_through() -> None:
    """A rule that reads values has none to read there, and nothing to protect."""
    table, rows = torch.ones(4, 2, device="meta"), torch.tensor([0, 1], device="meta")
    guards.check_arguments("call:torch.nn.functional.embedding_bag", [rows, table, torch.zeros(1, device="meta")], {})
    with pytest.raises(JvpError, match="don't fit"):
        guards.check_arguments("call:torch.nn.functional.embedding_bag", [[0, 1], torch.ones(4, 2), None], {})


def test_operators_are_called_as_they_are_written() -> None:
    for op, symbol in (("floordiv", "//"), ("mod", "%")):
        with pytest.raises(JvpError, match=f"^`{symbol}` can't be computed: the smallest int8"):
            guards.check_arguments(f"op:{op}", [torch.tensor([-128], dtype=torch.int8), -1], {})


def test_the_recurrent_layers_of_torch_pass_their_own_check() -> None:
    """Every variant of nn.LSTM and its like gives the raw function tensors that the rule lets through."""
    seen = 0
    for kind, mode in (("LSTM", "lstm"), ("GRU", "gru"), ("RNN", "rnn_tanh")):
        for layers, bias, both, first, out in [(1, True, False, False, 0), (2, False, True, True, 0), (2, True, True, False, 2)]:
            if out and kind != "LSTM":
                continue
            options = {"proj_size": out} if out else {}
            layer = getattr(torch.nn, kind)(4, 3, layers, bias=bias, batch_first=first, bidirectional=both, **options)
            data, count = torch.randn(5, 2, 4), layers * (1 + both)
            batch = data.shape[0 if first else 1]
            states = [torch.zeros(count, batch, out or 3), torch.zeros(count, batch, 3)]
            hx = states if kind == "LSTM" else states[1]
            arguments = [data, hx, layer._flat_weights, bias, layers, 0.0, False, both, first]
            guards.check_arguments(f"call:torch.{mode}", arguments, {})
            getattr(torch, mode)(*arguments)
            weights = list(layer._flat_weights)
            weights[1] = weights[1][:-1]
            with pytest.raises(JvpError, match="w_hh must have shape"):
                guards.check_arguments(f"call:torch.{mode}", [data, hx, weights, *arguments[3:]], {})
            seen += 1
    assert seen == 7


def places_that_no_call_may_use() -> Iterator[tuple[str, int, str]]:
    """(op, place, name), by Python's signatures and the dispatcher's schemas, apart from the catalogue's own table."""
    for entry in catalog.entries():
        if entry.kind not in ("function", "method") or not entry.path.startswith("torch."):
            continue
        op = f"method:{entry.name}" if entry.kind == "method" else f"call:{entry.path}"
        function = reduce(getattr, entry.path.split(".")[1:], torch)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters.values()
            names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            yield from ((op, place, name) for place, name in enumerate(names) if catalog.keyword_reason(name))
            continue
        packet = getattr(torch.ops.aten, entry.name, None)
        for overload in () if packet is None else packet.overloads():
            arguments = [a for a in getattr(packet, overload)._schema.arguments if not a.kwarg_only and not a.is_out]
            yield from ((op, place, a.name) for place, a in enumerate(arguments) if catalog.keyword_reason(a.name))


def test_what_is_refused_by_keyword_is_refused_by_position() -> None:
    found = list(places_that_no_call_may_use())
    assert {("call:torch.norm", 4, "out"), ("call:torch.nn.functional.normalize", 4, "out")} <= set(found)
    for op, place, name in found:
        with pytest.raises(ForbiddenError, match=f"`{name}` can't be used"):
            guards.check_arguments(op, [*[None] * place, torch.zeros(2)], {})


@pytest.mark.parametrize(
    "source",
    ["torch.norm(x, 2, 0, False, w)", "F.normalize(x, 2., 0, 1e-12, w)", "torch.tensordot(x, x, 1, w)",
     "torch.norm(*[x, 2, 0, False, w])"],
)  # fmt: skip
def test_no_call_writes_into_a_callers_tensor(source: str) -> None:
    inputs = {"x": torch.tensor(INPUTS["x"]), "w": torch.zeros(())}
    with pytest.raises(ForbiddenError, match="it would write into another tensor"):
        evaluate(parse(source), inputs)
    assert float(inputs["w"]) == 0


def test_arguments_are_bound_as_torch_binds_them() -> None:
    x = torch.zeros(1, 1, 4, 4)
    _, bound = bind("call:torch.nn.functional.max_pool2d", [x, 2, None], {"dilation": torch.tensor(3)}) or ((), {})
    assert (bound["kernel_size"], bound["stride"], bound["dilation"]) == (2, None, 3)
    _, bound = bind("method:repeat", [x, 2, 3], {}) or ((), {})
    assert bound["repeats"] == (2, 3)
    _, bound = bind("call:torch.sum", [x], {"axis": 1, "keepdims": True}) or ((), {})
    assert (bound["dim"], bound["keepdim"]) == (1, True)
    assert bind("call:torch.sin", [x, 1, 2, 3], {}) is None


def test_every_function_of_torch_has_a_signature() -> None:
    without = {e.path for e in catalog.entries() if e.kind == "function" and e.path.startswith("torch.")
               and not signatures_of(f"call:{e.path}")}  # fmt: skip
    assert without == {"torch.as_tensor", "torch.asarray", "torch.finfo", "torch.iinfo", "torch.tensor",
                       "torch.nn.functional.logsigmoid"}  # fmt: skip


def test_a_family_of_guards_is_loaded_where_one_of_its_functions_is_called() -> None:
    code = (
        "import sys, torch; from jvpcli.language.evaluate import evaluate; from jvpcli.language.parse import parse\n"
        "for source in ('torch.outer(x, x)', 'x // 2', 'F.pad(x, (1, 1))', 'x.reshape(2**40, -1)'):\n"
        "    try: evaluate(parse(source), {'x': torch.ones(4)})\n"
        "    except Exception: pass\n"
        "    print(*sorted(name.rpartition('.')[2] for name in sys.modules if name.startswith('jvpcli.language.guards.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == [
        "integers",
        "binding integers overflow",
        "binding integers overflow trusted",
        "binding extents integers overflow trusted",
    ]


def test_the_catalogue_knows_every_rule() -> None:
    """A rule that it does not know would never be asked; what has no rule in the tables is none of theirs."""
    families = (extents, overflow, recurrent, trusted)
    for family in families:
        name = family.__name__.rpartition(".")[2]
        assert all(name in catalog.guards(function) for function in family.RULES)
    called = {entry.name for entry in catalog.entries() if entry.kind in ("function", "method")}
    rules = set().union(*(family.RULES for family in families))
    assert {function for function in called if catalog.guards(function)} == called & rules


@pytest.mark.parametrize("families", [["nobody"], ["recurrent"], ["trusted", "integers"]], ids=" ".join)
def test_a_function_whose_guard_is_missing_is_refused(families: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.eye(2)
    monkeypatch.setattr(catalog, "guards", lambda name: families)
    guards._plan.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(ForbiddenError, match="`pdist` can't be used: the check of its arguments is missing"):
                guards.check_arguments("call:torch.pdist", [x], {})
    finally:
        guards._plan.cache_clear()


def test_the_extent_of_a_view_is_what_indexing_reaches() -> None:
    for sizes, strides, offset in [((2, 3), (3, 1), 0), ((4,), (0,), 5), ((), (), 2), ((0, 9), (9, 1), 1), ((3, 2), (1, 7), 4)]:
        grid = [()]
        for size in sizes:
            grid = [(*at, index) for at in grid for index in range(size)]
        reached = [offset + sum(i * s for i, s in zip(at, strides, strict=True)) + 1 for at in grid]
        assert extents.extent(sizes, strides, offset) == max(reached, default=0)


def test_division_is_refused_exactly_where_the_quotient_overflows() -> None:
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        least = torch.iinfo(dtype).min
        for left in (least, least + 1, -1, 0, 5):
            for right in (-1, 1, 2, -2):
                for other in (right, torch.tensor([right], dtype=dtype)):
                    refused = overflow.division_problem("op:floordiv", [torch.tensor([left], dtype=dtype), other], {})
                    assert (refused is None) == (least <= left // right <= -(least + 1))
    assert overflow.division_problem("op:floordiv", [torch.zeros(3), -1], {}) is None
