"""Bounded: what would take too much is refused before it is allocated, with what it would have needed."""

from __future__ import annotations

import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jvpcli.errors import EvaluationError, JvpError, LimitError
from jvpcli.language import forecast, limits
from jvpcli.language.evaluate import evaluate
from jvpcli.language.forecast import in_words, result_size
from jvpcli.language.operations import apply_operation
from jvpcli.language.parse import parse
from jvpcli.program import Const
from jvpcli.system.memory import free_memory

LIMIT = 300_000_000

NUMBERS = [
    "9**9**9**9 * x", "x**(9**9**9)", "1 << 10**10", "(10**10) << (10**10)", "10**1000 * 10**1000", "math.factorial(10**9)",
    "math.comb(10**9, 5*10**8)", "math.perm(10**9)", "math.prod([10**400] * 100)", "math.lcm(*range(1, 100000))",
    "round(5, -10**9)", "math.prod(range(1, 10**9))", "2**2**2**2**2**2",
]  # fmt: skip

LISTS = [
    "[0] * 10**10", "([0] * 1000) * 1000000", "a = [0]*1000; b = [a]*1000; torch.tensor(b)", "[k for k in range(10**10)]",
    "[0 for p in range(10**4) for q in range(10**4)]", "sum(k for k in range(10**9))", "sum(range(10**10))",
    "max(range(10**10))", "list(range(10**10))", "0.5 in range(10**15)", "torch.tensor(range(10**10))", "x[range(10**10)]",
    "range(10**100)[5] and list(range(10**100))", "a = [x, x]; " + "a = a + a; " * 40 + "a", "(0,) * 10**9",
    "a = [x, x]; " + "a = [a, a]; " * 16 + "sum(len(a) for k in range(100000)) * x", "a = x; " + "a = [a]; " * 60 + "a",
    "list(zip(*[range(10**9)] * 2))", "list(enumerate(range(10**9)))", "*a, b = range(10**9); b",
]  # fmt: skip

TENSORS = [
    "torch.zeros(10**12)", "torch.ones((10**6, 10**6))", "torch.zeros(size=(10**6, 10**6))", "torch.full((10**12,), 1.)",
    "torch.eye(10**6)", "torch.arange(10**12)", "torch.arange(0, 1, 1e-12)", "torch.linspace(0, 1, 10**12)",
    "torch.randn(10**6, 10**6)", "torch.randint(0, 5, (10**6, 10**6))", "torch.randperm(10**12)", "torch.hann_window(10**12)",
    "torch.zeros(10**18, 10**18)", "torch.zeros(10**30)", "torch.zeros(10**6, 10**6, dtype=torch.int8)",
    "x.repeat(10**10)", "x.repeat(10**5, 10**5)", "x.tile((10**10,))", "torch.tile(x, (10**10,))", "x.new_zeros(10**12)",
    "torch.broadcast_to(x[:1], (2**62,))", "x[:1].expand(2**61)", "x[:1].expand(2**31, 2**31)", "x[:1].double().expand(2**60)",
    "x[:1].expand(2**62)[:5]",
    "x.expand(10**10, 4)", "x.expand(10**10, 4).sum()", "torch.broadcast_to(x, (10**10, 4))", "x.as_strided((10**12,), (0,))",
    "y = torch.zeros(10**5); torch.outer(y, y)", "y = torch.zeros(10**5); y[:, None] * y",
    "y = torch.zeros(10**5, 1); y @ y.T", "y = torch.zeros(10**5, 1); torch.cdist(y, y)",
    "y = torch.zeros(10**5); torch.kron(y, y)", "y = torch.zeros(10**5); torch.einsum('i,j->ij', y, y)",
    "y = torch.zeros(10**5); torch.einsum('i,j', y, y)", "y = torch.zeros(10**5); torch.tensordot(y, y, 0)",
    "torch.diag(torch.zeros(10**6))", "torch.diag_embed(torch.zeros(10**6))", "torch.diagflat(torch.zeros(10**6))",
    "torch.block_diag(torch.zeros(10**6), torch.zeros(10**6, 1))", "torch.cartesian_prod(*[torch.zeros(10**5)] * 2)",
    "torch.combinations(torch.zeros(10**4), 4)", "torch.combinations(x, 10**9)", "F.one_hot(torch.tensor([0]), 10**12)",
    "F.pad(x, (10**12, 0))", "F.interpolate(x[None, None], size=10**12)", "F.interpolate(x[None, None], scale_factor=1e12)",
    "torch.fft.fft(x, n=10**12)", "torch.repeat_interleave(x, 10**12)", "torch.repeat_interleave(x, torch.tensor([10**12]))",
    "torch.bincount(torch.tensor([1]), minlength=10**12)", "torch.bincount(torch.tensor([10**12]))",
    "torch.histc(x, bins=10**12)", "torch.nonzero_static(x, size=10**12)", "torch.mvlgamma(x + 10**10, 10**10)",
    "torch.tril_indices(10**6, 10**6)", "torch.vander(x, 10**12)", "torch.multinomial(x.abs() + 1, 10**12, True)",
    "torch.zeros(3)[torch.zeros(1, dtype=torch.int64).expand(10**11)]", "F.linear(*[torch.zeros(10**5, 1)] * 2)",
    "torch.cov(torch.zeros(10**5, 2))", "F.adaptive_avg_pool1d(x[None], 10**13)", "torch.where(x.expand(10**10, 4) > 0, 1, 0)",
    "torch.zeros(10**7).tolist()", "torch.zeros(10**7).unbind()", "torch.zeros(10**7).split(1)", "list(torch.zeros(10**7))",
    "torch.zeros(10**7).chunk(10**7)", "max(torch.zeros(10**7))", "[r for r in torch.zeros(10**7)]",
    "torch.tensor_split(torch.zeros(10**7), 10**7)", "torch.tensor_split(x, torch.tensor(10**9))",
    "torch.zeros(2**31 - 1, 0)", "torch.zeros(10**4, 10**5, 0, 3)",
    "x[:0, None].expand(0, 2**31 - 1).T",
    "F.pad(x.reshape(2, 2), (-1, -1, 2**31 - 1, 1))", "torch.constant_pad_nd(x[:0].reshape(0, 0), (0, 0, 2**30, 1))",
    "torch.zeros(10**7, 0).tolist()", "torch.zeros(10**7, 0).unbind(dim=0)", "list(torch.zeros(10**7, 0))",
    "torch.zeros(10**7, 0).split(split_size=1)", "torch.tensor_split(torch.zeros(10**7, 0), sections=10**7)",
    "torch.full(fill_value=1., size=(10**12,))", "torch.arange(start=1, end=10**12)", "torch.eye(m=10**6, n=10**6)",
    "x.repeat(repeats=(10**10,))", "F.pad(input=x, pad=(10**12, 0))", "torch.diag(input=torch.zeros(10**6))",
    "y = torch.zeros(10**5, 1); F.linear(weight=y, input=y)", "y = torch.zeros(10**5, 1); torch.matmul(y, other=y.T)",
    "y = torch.zeros(10**5, 1); torch.add(y, other=y.T)", "torch.zeros(10**6, 0) @ torch.zeros(0, 10**6)",
    "[torch.zeros(10**7) for k in range(1000)]", "y = torch.zeros(10**7); " + "y = y + 1; " * 100 + "y",
]  # fmt: skip


@pytest.mark.parametrize("source", [*NUMBERS, *LISTS, *TENSORS], ids=lambda source: source[:60])
def test_attacks_end_in_a_limit(source: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitError) as caught:
        evaluate(parse(source), {"x": torch.arange(4.0)}, wrt=["x"][: "x" in source], memory_limit=LIMIT)
    error = caught.value
    assert error.message.endswith(".")
    assert error.exit_code == 7
    assert error.span is not None
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < LIMIT * 1.5


def test_the_message_names_what_would_have_been_needed() -> None:
    with pytest.raises(LimitError) as caught:
        evaluate(parse("é = x; é + torch.zeros(10**6, 10**6)"), {"x": torch.ones(2)}, memory_limit=LIMIT)
    assert (
        caught.value.message == "`zeros` would need 4.0 TB for its 1,000,000,000,000 elements; the limit is 300.0 MB."
    )
    assert caught.value.span == (11, 36)
    with pytest.raises(LimitError, match=r"of which 240.0 MB are taken"):
        evaluate(parse("y = torch.zeros(3*10**7)*1; (y, y+1)"), {}, memory_limit=LIMIT)
    with pytest.raises(LimitError, match=r"`bincount` needs 8.0 TB, more memory than there is"):
        evaluate(parse("torch.bincount(torch.tensor([10**12]))"), {})


def test_without_a_limit_the_free_memory_counts() -> None:
    assert 0 < free_memory() < 2**50
    with pytest.raises(LimitError, match="the limit is"):
        evaluate(parse("torch.zeros(10**13)"), {})


def test_what_is_large_but_allowed_works() -> None:
    run = evaluate(parse("torch.zeros(2000, 2000).sum() + (x.expand(10**6, 4) * 2).mean()"), {"x": torch.ones(4)})
    assert float(run.outputs["y"]) == 2
    assert (
        float(evaluate(parse("math.factorial(20) / 10**18 * 2**100 / 2**100 * x"), {"x": torch.ones(())}).outputs["y"])
        > 2
    )
    assert evaluate(parse("torch.tensor([0.] * 100000)"), {}).outputs["y"].shape == (100_000,)


@given(st.integers(-(10**30), 10**30), st.integers(-(10**6), 10**6))
def test_the_bound_on_integers_is_a_bound(left: int, right: int) -> None:
    for op, function in (("op:pow", pow), ("op:mul", int.__mul__), ("op:lshift", int.__lshift__)):
        try:
            limits.check_plain(op, [left, right], {})
        except LimitError:
            continue
        try:
            result = function(left, right)
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        assert not isinstance(result, int) or result.bit_length() <= limits.MAX_BITS


def test_packs_beyond_the_limit_are_never_made() -> None:
    with pytest.raises(LimitError):
        limits.pack("list", [Const(0)] * (limits.MAX_ITEMS + 1))


@pytest.mark.parametrize("items", [range(5), range(0), range(5, 0, -2), range(3, 10, 4), range(10**30), [1, 2]])
def test_length(items: range | list[int]) -> None:
    expected = 10**30 if items == range(10**30) else len(items)
    assert limits.length(items) == expected


x, m, c = torch.arange(6.0), torch.arange(6.0).reshape(2, 3), torch.arange(24.0).reshape(1, 2, 3, 4)

FORECASTS = [
    ("call:torch.zeros", [2, 3], {}), ("call:torch.zeros", [(2, 3)], {}), ("call:torch.ones", [], {"size": (4,)}),
    ("call:torch.full", [(2, 3), 1.0], {}), ("call:torch.eye", [3], {}), ("call:torch.eye", [3, 2], {}),
    ("call:torch.arange", [7], {}), ("call:torch.arange", [2, 8, 2], {}), ("call:torch.linspace", [0, 1, 5], {}),
    ("call:torch.randint", [0, 5, (2, 2)], {}), ("method:repeat", [x, 2, 3], {}), ("method:tile", [m, (2, 1)], {}),
    ("call:torch.repeat_interleave", [x, 3], {}), ("call:torch.repeat_interleave", [m, torch.tensor([1, 2]), 0], {}),
    ("op:add", [m, x[:3]], {}), ("op:mul", [x[:, None], x], {}), ("call:torch.sin", [m], {}), ("op:pow", [2, x], {}),
    ("op:matmul", [m, m.T], {}), ("op:matmul", [x[:3], m.T], {}), ("op:matmul", [m, x[:3]], {}), ("op:matmul", [x, x], {}),
    ("op:matmul", [c, c.mT], {}), ("call:torch.bmm", [c[0], c[0].mT], {}), ("call:torch.outer", [x, x], {}),
    ("call:torch.kron", [m, m], {}), ("call:torch.einsum", ["ij,kj->ik", m, m], {}), ("call:torch.einsum", ["ij,kj", m, m], {}),
    ("call:torch.tensordot", [m, m.T, 1], {}), ("call:torch.cdist", [m, m], {}), ("call:torch.cov", [m], {}),
    ("call:torch.diag", [x], {}), ("call:torch.diag", [x, 1], {}), ("call:torch.diag_embed", [m], {}),
    ("call:torch.block_diag", [m, m], {}), ("call:torch.cartesian_prod", [x, x], {}),
    ("call:torch.nn.functional.pad", [m, (1, 2, 0, 3)], {}), ("call:torch.nn.functional.pad", [m, (-1, 0)], {}),
    ("call:torch.nn.functional.one_hot", [torch.arange(3), 5], {}), ("call:torch.nn.functional.linear", [m, m], {}),
    ("call:torch.nn.functional.interpolate", [c], {"size": (6, 5)}),
    ("call:torch.nn.functional.interpolate", [c], {"scale_factor": 2}), ("call:torch.cat", [[m, m]], {}),
    ("call:torch.stack", [[m, m]], {}), ("call:torch.index_select", [m, 0, torch.tensor([1, 1, 0])], {}),
    ("call:torch.gather", [m, 0, torch.tensor([[0, 1]])], {}), ("op:getitem", [m, torch.tensor([[0, 1, 1]])], {}),
    ("call:torch.take", [m, torch.tensor([1, 2])], {}), ("call:torch.nn.functional.embedding", [torch.tensor([0, 1]), m], {}),
    ("call:torch.histc", [x, 7], {}), ("call:torch.hann_window", [9], {}), ("call:torch.vander", [x, 4], {}),
    ("call:torch.cumsum", [m, 0], {}), ("method:contiguous", [m.expand(4, 2, 3)], {}), ("method:new_full", [x, (2, 2), 1], {}),
    ("call:torch.eye", [], {"m": 2, "n": 3}), ("call:torch.arange", [], {"end": 8, "start": 2, "step": 2}),
    ("call:torch.outer", [], {"vec2": x, "input": m[0]}), ("op:matmul", [m, m.T], {}), ("call:torch.mm", [m], {"mat2": m.T}),
    ("call:torch.cdist", [], {"x2": m, "x1": m[:1]}), ("call:torch.full", [], {"fill_value": 1.0, "size": (2, 3)}),
    ("call:torch.repeat_interleave", [m], {"dim": 0, "repeats": torch.tensor([1, 2])}),
    ("method:repeat", [x], {"repeats": (2, 3)}),
    ("call:torch.nn.functional.linear", [], {"weight": m, "input": m[:1]}),
    ("call:torch.index_select", [m], {"dim": 0, "index": torch.tensor([1])}),
    ("call:torch.zeros", [2, 3], {"dtype": torch.float64}), ("call:torch.randperm", [5], {}),
    ("call:torch.multinomial", [x + 1, 4], {}), ("method:to", [x, torch.float64], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "arguments", "keywords"), FORECASTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_forecasts_are_the_results_sizes(
    op: str, arguments: list[object], keywords: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "_is_small", lambda arguments: False)
    elements, width = result_size(op, arguments, keywords)
    result = apply_operation(op, arguments, keywords)
    assert elements == result.numel()
    if op not in ("call:torch.eye", "method:to") and result.is_floating_point():
        assert width == result.element_size()


def test_what_is_let_through_unlooked_at_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the bound is set to: no result has as many elements where the operands were taken for small."""
    several = [("call:torch.cat", [[x[:1]] * 9], {}), ("op:matmul", [m[:, :0], m[:0]], {})]
    several += [("call:torch.add", [m[:, :1]], {"other": m[0]})]
    bounded = [case for case in (*FORECASTS, *several) if forecast._rule(case[0]) in forecast._BOUNDED]
    for op, arguments, keywords in bounded:
        elements = apply_operation(op, arguments, keywords).numel()
        for bound in (1, 2, 4, 8, 16, 32):
            monkeypatch.setattr(forecast, "SMALL", 64 * bound)
            assert elements < bound or not forecast._is_small((*arguments, *keywords.values())), op
    assert len(bounded) > 20


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (4, 0), (2, 3, 0), (2, 0, 9), (0, 7), (5, 0, 0)])
def test_places_are_what_is_written_out(shape: tuple[int, ...]) -> None:
    """The numbers of a nested list, or the innermost lists where it holds none (the outermost one there always is)."""

    def innermost(items: object) -> int:
        if isinstance(items, list) and items and isinstance(items[0], list):
            return sum(map(innermost, items))
        return len(items) if isinstance(items, list) and items else 1

    assert forecast.places(shape) == innermost(torch.zeros(shape).tolist())


@pytest.mark.parametrize("op", sorted(f"call:torch.{name}" for name in forecast._RULES if hasattr(torch, name)))
def test_forecasts_never_raise(op: str) -> None:
    for arguments in (
        [],
        [x],
        [None],
        ["a", -1],
        [x, x, x, x],
        [10**30] * 3,
        [[x], "s"],
        [x, [10**12]],
        [c, c.mT, 0.5],
    ):
        elements, width = result_size(op, arguments, {})
        assert isinstance(elements, int)
        assert isinstance(width, int)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999_999, "999,999 bytes"), (1_000_000, "1.0 MB"), (1_550_000_000, "1.5 GB"), (4 * 10**12, "4.0 TB"),
     (10**30, "more than 1,000,000 EB")],
)  # fmt: skip
def test_bytes_in_words(count: int, words: str) -> None:
    assert in_words(count) == words


A = "torch.tensor([[2., 1, 0], [1, 3, 1], [0, 1, 4]])"

UNCHECKED_BY_TORCH = [
    (f"torch.lu_unpack({A}[:1], torch.ones(3, 3, dtype=torch.int32))", "the pivots must have shape"),
    (f"torch.linalg.ldl_solve({A}, torch.tensor([-1, 2, 3], dtype=torch.int32), {A})", "negative pivots come in pairs"),
    ("torch.segment_reduce(x, 'sum', offsets=torch.tensor([-5, 4]))", "the offsets must increase from 0 to 4"),
    ("torch.segment_reduce(x, 'sum', offsets=torch.tensor([0, 3, 2, 4]))", "the offsets must increase"),
    ("torch.segment_reduce(x, 'sum', lengths=torch.tensor([10**9]), unsafe=True)", "`unsafe` can't be used"),
    (
        "F.ctc_loss(torch.zeros(5, 1, 3), torch.tensor([[10**9, 1]]), torch.tensor([5]), torch.tensor([2]))",
        "the targets",
    ),
    (f"torch.native_batch_norm({A}, None, None, None, None, False, 0.1, 1e-5)", "without training it needs"),
    (
        f"torch.native_batch_norm({A}, None, None, torch.zeros(1), torch.ones(1), False, 0.1, 1e-5)",
        "running_mean must have",
    ),
    (
        "F.grid_sample(torch.ones(1, 1, 3, 3), torch.full((1, 2, 2, 2), math.nan), padding_mode='border')",
        "must be finite",
    ),
    ("torch.grid_sampler_2d(torch.ones(1, 1, 3, 3), torch.full((1, 2, 2, 2), 1e38), 0, 2, True)", "must be finite"),
    (f"torch.linalg.lstsq({A}, torch.zeros(3, 0), driver='gelss')", "the right-hand side is empty"),
]


@pytest.mark.parametrize(("source", "message"), UNCHECKED_BY_TORCH, ids=lambda value: value[:40])
def test_arguments_that_would_corrupt_memory_are_checked(source: str, message: str) -> None:
    with pytest.raises(EvaluationError, match="can't be computed") as caught:
        evaluate(parse(source), {"x": torch.ones(4)})
    assert message in caught.value.message


@pytest.mark.parametrize(
    "source",
    [f"P, L, U = torch.lu_unpack(*torch.linalg.lu_factor({A})); P @ L @ U",
     f"torch.linalg.ldl_solve(*torch.linalg.ldl_factor({A}), {A})",
     "torch.segment_reduce(x, 'sum', offsets=torch.tensor([0, 2, 4]))",
     "torch.segment_reduce(x, 'max', lengths=torch.tensor([4]))",
     "F.ctc_loss(torch.zeros(5, 1, 3), torch.tensor([[2, 1]]), torch.tensor([5]), torch.tensor([2]))",
     f"torch.native_batch_norm({A}, None, None, torch.zeros(3), torch.ones(3), False, 0.1, 1e-5)[0]",
     "F.grid_sample(torch.ones(1, 1, 3, 3), torch.zeros(1, 2, 2, 2), padding_mode='border')"],
)  # fmt: skip
def test_guards_let_right_arguments_pass(source: str) -> None:
    try:
        evaluate(parse(source), {"x": torch.ones(4)})
    except JvpError as error:  # pragma: no cover
        pytest.fail(error.message)
