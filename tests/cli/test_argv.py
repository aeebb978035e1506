"""argv with inputs as options, for typer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvpcli.cli.argv import Options, normalise
from jvpcli.errors import UsageError

OPTIONS = Options(
    spellings={
        "--input": "--input", "-i": "--input", "--grad-outputs": "--grad-outputs", "-g": "--grad-outputs",
        "--json": "--json", "--quiet": "--quiet", "-q": "--quiet", "--dtype": "--dtype", "--help": "--help",
    },
    valued={"--input", "--grad-outputs", "--dtype"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["x*2", "--x", "1,2"], ["--input=x=1,2", "--", "x*2"]),
        (["--x", "1,2", "x*2"], ["--input=x=1,2", "--", "x*2"]),
        (["--x=-1,2", "x*2"], ["--input=x=-1,2", "--", "x*2"]),
        (["--x", "-1,2", "x*2"], ["--input=x=-1,2", "--", "x*2"]),
        (["-x", "--x", "1"], ["--input=x=1", "--", "-x"]),
        (["--x", "-", "x"], ["--input=x=-", "--", "x"]),
        (["x", "--x", "1", "-g", "-1"], ["--input=x=1", "--grad-outputs=-1", "--", "x"]),
        (["x", "--x", "1", "-g=-1"], ["--input=x=1", "--grad-outputs=-1", "--", "x"]),
        (["x", "--x", "1", "-gones"], ["--input=x=1", "--grad-outputs=ones", "--", "x"]),
        (["-gain*x", "--gain", "1", "--x", "2"], ["--input=gain=1", "--input=x=2", "--", "-gain*x"]),
        (["-q", "x", "--json", "--x", "1"], ["--input=x=1", "--quiet", "--json", "--", "x"]),
        (["x", "-i", "x=1", "--dtype", "float64"], ["--input=x=1", "--dtype=float64", "--", "x"]),
        (["--json", "--", "-x"], ["--json", "--", "-x"]),
        (["x", "--x", "--y"], ["--input=x=--y", "--", "x"]),
        (["x*w", "--w", "torch.ones_like(x)", "--x", "u", "--u", "1"],
         ["--input=w=torch.ones_like(x)", "--input=x=u", "--input=u=1", "--", "x*w"]),
        ([], []),
    ],
)  # fmt: skip
def test_inputs_become_options(argv, expected):
    assert normalise(argv, OPTIONS) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["x", "--x", "1", "--grad_output", "1"], "no option --grad_output", "Did you mean --grad-outputs?"),
        (["x", "--x", "1", "--grad-output", "1"], "no option --grad-output", "Did you mean --grad-outputs?"),
        (["x", "--x", "1", "--jsn"], "--jsn needs a value", "Did you mean --json?"),
        (["--jsn", "x*2", "--x", "1"], "no option --jsn", "Did you mean --json?"),
        (["x", "--x", "1", "--JSON", "1"], "no option --JSON", "Did you mean --json?"),
        (["x_1*2", "--x1", "1"], "uses no input 'x1' (it uses x_1)", "Did you mean --x_1?"),
        (["weight*2", "--weigth", "1"], "uses no input 'weigth'", "Did you mean --weight?"),
        (["x", "--x", "1", "--x=2"], "given twice", None),
        (["x", "--x"], "--x needs a value", None),
        (["x", "-g"], "--grad-outputs needs a value", None),
        (["x", "--json=1"], "takes no value", None),
        (["x", "y", "--x", "1"], "unexpected argument 'y'", None),
    ],
)
def test_what_is_no_option_and_no_input_is_refused(argv, message, hint):
    with pytest.raises(UsageError) as caught:
        normalise(argv, OPTIONS)
    assert message in caught.value.message
    assert list(caught.value.hints) == ([hint] if hint else [])


def test_a_refused_expression_is_left_for_the_parser():
    assert normalise(["torch.sinn(x)", "--x", "1"], OPTIONS)[-1] == "torch.sinn(x)"
    assert normalise(["x +", "--x", "1"], OPTIONS)[-1] == "x +"


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@given(
    st.permutations(["x", "w", "b"]),
    st.lists(VALUES, min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(0, 3),
)
def test_order_and_form_do_not_matter(names, values, joined, place):
    words = [[f"--{n}={v}"] if join else [f"--{n}", v] for n, v, join in zip(names, values, joined, strict=True)]
    words.insert(place, ["x*w+b"])
    result = normalise([word for group in words for word in group], OPTIONS)
    assert result == [*(f"--input={n}={v}" for n, v in zip(names, values, strict=True)), "--", "x*w+b"]
