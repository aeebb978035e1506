"""Lowering: spans in characters, names, long chains, and refusals before anything runs."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvpcli.errors import ExpressionSyntaxError, ForbiddenError, JvpError, LimitError, UnknownNameError
from jvpcli.language.expressions import MAX_DEPTH
from jvpcli.language.names import copied
from jvpcli.language.parse import parse
from jvpcli.program import Const, Equation, Pack, Program, Ref


def ops(program: Program) -> list[str]:
    return [equation.op for equation in program.equations]


def test_the_example() -> None:
    assert parse("y = torch.outer(x, x); y**2") == Program(
        source="y = torch.outer(x, x); y**2",
        inputs=("x",),
        equations=(
            Equation("call:torch.outer", (Ref(0), Ref(0)), 1, (4, 21), name="y"),
            Equation("op:pow", (Ref(1), Const(2)), 2, (23, 27)),
        ),
        result=Ref(2),
        result_names=(None,),
        slots=3,
        input_spans=((16, 17),),
        names=(("y", Ref(1)),),
    )


@pytest.mark.parametrize(
    ("source", "inputs"),
    [
        ("torch.outer(x, w) + b", ("x", "w", "b")),
        ("b + x*b", ("b", "x")),
        ("y = x; x = y*w; x", ("x", "w")),
        ("[i*k for i in range(3)]", ("k",)),
        ("i + sum(i*k for k in x for i in k)", ("i", "x")),
        ("math.pi * torch.pi", ()),
        ("len(x) + max(y, z)", ("x", "y", "z")),
        ("F.relu(input) * é", ("input", "é")),
        ("x += w; x", ("x", "w")),
        ("a, (b, *c) = x; a + b", ("x",)),
    ],
)
def test_free_names_are_the_inputs_in_order_of_use(source: str, inputs: tuple[str, ...]) -> None:
    assert parse(source).inputs == inputs


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x*2", (None,)),
        ("y = x; y*2", (None,)),
        ("y = x*2; z = y**2", ("z",)),
        ("y = x*2; z = y**2; z", ("z",)),
        ("x", (None,)),
        ("U, S = f = torch.svd(x)", ("U", "S")),
        ("a = x; (a, x+1)", ("a", None)),
        ("a = x; b = x; [a, (b, x)]", ("a", "b", None)),
        ("(*x, y)", None),
        ("a, *b = x", ("a", "b")),
        ("y = x.clone(); y[0] = 1", ("y",)),
        ("y = x; y += 1", ("y",)),
        ("[x, x]", (None, None)),
        ("[k for k in x]", (None,)),
    ],
)
def test_names_of_the_result(source: str, names: tuple[str | None, ...] | None) -> None:
    assert parse(source).result_names == names


def test_spans_are_in_characters() -> None:
    source = "é中 = x; é中 + torch.sinn(é中)"
    with pytest.raises(UnknownNameError) as caught:
        parse(source, ["x"])
    assert caught.value.span is not None
    assert source[slice(*caught.value.span)] == "torch.sinn"
    program = parse("  é = 'ü' if x else torch.sin(\n   x )\n é")
    assert [program.text(equation.span) for equation in program.equations] == ["'ü' if x else torch.sin(\n   x )"]
    assert program.text(program.input_spans[0]) == "x"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_spans_after_line_breaks_and_indentation(newline: str) -> None:
    source = newline.join(["  y = x", "\tz = y*2", "   z.foo"])
    with pytest.raises(UnknownNameError) as caught:
        parse(source)
    assert caught.value.span is not None
    assert source[slice(*caught.value.span)] == ".foo"


@given(st.lists(st.sampled_from(["é", "x", "中文", "ab"]), min_size=1, max_size=6), st.integers(0, 3))
def test_every_span_is_the_text_of_its_step(names: list[str], depth: int) -> None:
    source = " +  ".join(f"{'abs(' * depth}{name}{')' * depth}" for name in names)
    program = parse(source)
    for equation in program.equations:
        text = program.text(equation.span)
        assert text.startswith("abs(") or " +  " in text
    assert [program.text(span) for span in program.input_spans] == list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("-x", ["op:neg"]),
        ("x[-1]", ["op:getitem"]),
        ("~x & x | x ^ x", ["op:invert", "op:and_", "op:xor", "op:or_"]),
        ("x @ x // 2 % 3 << 1 >> 1", ["op:matmul", "op:floordiv", "op:mod", "op:lshift", "op:rshift"]),
        ("x.T.mT.real", ["attr:T", "attr:mT", "attr:real"]),
        ("x.max(0).values", ["method:max", "attr:values"]),
        ("a, b = x", ["unpack:2", "unpack:2"]),
        ("a, *b, c = x", ["unpack:2+", "op:getitem", "builtin:list", "unpack:2+"]),
        ("0 < x < 1", ["op:lt", "and"]),
        ("x in y", ["op:contains"]),
        ("x not in y", ["op:contains", "op:not_"]),
        ("x if x else y", ["if"]),
        ("x and y or z", ["and", "or"]),
        ("[k for k in x for l in k]", ["loop:flat"]),
        ("sum(k for k in x)", ["loop", "builtin:sum"]),
        ("x[1:2, ..., None, ::k]", ["op:getitem"]),
        ("torch.float64.itemsize", ["attr:itemsize"]),
        ("y = x; y[0] += 1", ["op:getitem", "op:iadd", "op:setitem"]),
        ("y = x; y @= x; y |= 1", ["op:imatmul", "op:ior"]),
    ],
)
def test_syntax_to_operations(source: str, expected: list[str]) -> None:
    assert ops(parse(source)) == expected


def test_aliases_are_written_out_and_constants_stay_names() -> None:
    program = parse("F.relu(x).to(torch.float64)")
    assert ops(program) == ["call:torch.nn.functional.relu", "method:to"]
    assert program.equations[1].operands[1] == Const(None, "torch.float64")
    assert parse("(-1, +2.5, -3j, None, ..., 'a', True)").result == Pack(
        "tuple", (Const(-1), Const(2.5), Const(-3j), Const(None), Const(...), Const("a"), Const(True))
    )


def test_an_input_may_hide_a_builtin_or_namespace_only_if_it_is_given() -> None:
    assert parse("max * F", ["max", "F"]).inputs == ("max", "F")
    assert parse("np * x", ["np", "x"]).inputs == ("np", "x")
    with pytest.raises(ForbiddenError, match="namespace"):
        parse("F * x")
    with pytest.raises(ForbiddenError, match="is a value here"):
        parse("max(x)", ["max", "x"])
    assert parse("sum = x.sum(); x / sum").inputs == ("x",)


@pytest.mark.parametrize(
    ("source", "given", "message", "hint"),
    [
        ("x + weigth", ["x", "weight"], "`weigth` has no value.", "Did you mean weight?"),
        ("x + q", ["x"], "`q` has no value.", "Give it a value: --q VALUE."),
        ("sin + x", ["x"], "`sin` is not an input; the function is `torch.sin`.",
         "Write torch.sin, or give a value with --sin."),
        ("sin(x)", ["x"], "There is no function `sin`.", "Did you mean torch.sin?"),
        ("relu(x)", None, "There is no function `relu`.", "Did you mean torch.relu?"),
        ("torch.sinn(x)", None, "There is no `torch.sinn`.", "Did you mean torch.sin?"),
        ("F.rleu(x)", None, "There is no `F.rleu`.", "Did you mean F.relu?"),
        ("x.summ()", None, "A tensor has no `.summ`.", "Did you mean .sum?"),
        ("np.arctanh(x)", ["x"], "There is no `np.arctanh` here.", "Did you mean torch.arctanh?"),
    ],
)  # fmt: skip
def test_unknown_names_get_the_nearest_right_ones(
    source: str, given: list[str] | None, message: str, hint: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse(source, given)
    assert caught.value.message == message
    assert caught.value.hints[0] == hint
    assert caught.value.source == source


def test_what_sets_parameters_sets_no_other_tensors() -> None:
    with pytest.raises(ForbiddenError, match="only Python can run it") as caught:
        parse("w = torch.zeros(3); torch.nn.init.orthogonal_(w); w * x", ["x"])
    assert caught.value.hints == ["Give a tensor its numbers where it is made: w = torch.randn(3, 4)"]


@pytest.mark.parametrize(
    ("source", "guilty"),
    [
        ("", None),
        ("x +", ""),
        ("x ** ", ""),
        ("(x", "("),
        ("x y", "y"),
        ("torch.sin(x", "("),
        ("x = = 2", "="),
        ("1x", "1"),
        ("x\0", None),
        ("x\ud800", None),
        ("torch.sin", "torch.sin"),
        ("x.sum", ".sum"),
        ("x.T()", ".T"),
        ("a, *b, *c = x", "a, *b, *c"),
        ("9" * 5000, None),
        ("[x for x.T in y]", None),
        ("x = yield", None),
    ],
)
def test_syntax_errors(source: str, guilty: str | None) -> None:
    with pytest.raises(ExpressionSyntaxError if source != "x = yield" else JvpError) as caught:
        parse(source)
    error = caught.value
    assert error.message.endswith(".")
    assert "\n" not in error.message
    if guilty is not None:
        assert error.span is not None
        assert source[slice(*error.span)] == guilty


@pytest.mark.parametrize("operator", ["+", "-", "*", "@", " + ", "\n+ "])
def test_ten_thousand_terms(operator: str) -> None:
    source = "(" + operator.join(f"x{i % 7}" for i in range(10_000)) + ").sum()"
    program = parse(source)
    assert len(program.equations) == 10_000
    assert program.inputs == tuple(f"x{i}" for i in range(7))
    last = program.equations[-2]
    assert source[slice(*last.span)].startswith("x0")
    assert program.equations[1].operands[0] == Ref(program.equations[0].slot)


@pytest.mark.parametrize("terms", [1000, 3000])  # as deep as Python reads, and deeper
def test_long_chains_in_several_places_keep_their_places(terms: int) -> None:
    long = " + ".join(["é*2"] * terms)
    source = f"y = torch.sin({long}); z = ({long}) / 2; z.foo"
    with pytest.raises(UnknownNameError) as caught:
        parse(source)
    assert caught.value.span is not None
    assert source[slice(*caught.value.span)] == ".foo"
    program = parse(source.replace(".foo", ".sum()"))
    calls = [equation for equation in program.equations if equation.op == "call:torch.sin"]
    assert program.text(calls[0].span) == f"torch.sin({long})"


@pytest.mark.parametrize(
    "source",
    ["-" * 100_000 + "x", "(" * 100_000 + "x" + ")" * 100_000, "not " * 100_000 + "x", "x" + "**x" * 100_000,
     "x" + ".T" * 100_000, "abs(" * (MAX_DEPTH + 1) + "x" + ")" * (MAX_DEPTH + 1), "[" * 150 + "]" * 150 + ".T",
     "x if x else " * 5000 + "x", "x" * 600_000, "a=[x,x]; " + "a=[a,a]; " * 60 + "a", "a=x; " + "a=[a]; " * 1000 + "a",
     "[" + "x for k in x " * 3000 + "]"],
    ids=lambda source: f"{source[:12]}… {len(source)}",
)  # fmt: skip
def test_deep_and_huge_is_an_error_and_no_crash(source: str) -> None:
    with pytest.raises((LimitError, ForbiddenError, ExpressionSyntaxError)) as caught:
        parse(source)
    assert caught.value.message.endswith(".")


def test_moderate_nesting_works() -> None:
    assert len(parse("torch.sin(" * 90 + "x" + ")" * 90).equations) == 90
    assert len(parse("x" + ".sin()" * 1000).equations) == 1000


def test_what_hangs_on_a_node_that_python_shares_is_not_copied() -> None:
    """A reader of tracebacks leaves a file's tree on `ast.Load()`, which is one object for all trees."""

    class Uncopied:
        def __deepcopy__(self, memo: object) -> None:
            raise AssertionError("copied")

    shared = ast.parse("x", mode="eval").body.ctx  # type: ignore[attr-defined]
    shared.parent = Uncopied()
    try:
        node = ast.parse("f(x + 1)[0]", mode="eval").body
        assert ast.dump(copied(node)) == ast.dump(node)
        assert copied(node) is not node
    finally:
        del shared.parent
