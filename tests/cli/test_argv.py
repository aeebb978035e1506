"""argv with inputs as options, for typer."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvpcli.cli import inspect
from jvpcli.cli.argv import Options, has_flag, normalise
from jvpcli.cli.command import build
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
        (["--1*x", "--x", "1"], ["--input=x=1", "--", "--1*x"]),
        (["-(x)", "--x", "1"], ["--input=x=1", "--", "-(x)"]),
        (["--x", "-", "x"], ["--input=x=-", "--", "x"]),
        (["x", "--x", "1", "-g", "-1"], ["--input=x=1", "--grad-outputs=-1", "--", "x"]),
        (["x", "--x", "1", "-g", "--1"], ["--input=x=1", "--grad-outputs=--1", "--", "x"]),
        (["x", "--x", "1", "-g=-1"], ["--input=x=1", "--grad-outputs=-1", "--", "x"]),
        (["x", "--x", "1", "-gones"], ["--input=x=1", "--grad-outputs=ones", "--", "x"]),
        (["-gones", "x", "--x", "1"], ["--input=x=1", "--grad-outputs=ones", "--", "x"]),
        (["-gain*x", "--gain", "1", "--x", "2"], ["--input=gain=1", "--input=x=2", "--", "-gain*x"]),
        (["-q", "x", "--json", "--x", "1"], ["--input=x=1", "--quiet", "--json", "--", "x"]),
        (["x", "-i", "x=1", "--dtype", "float64"], ["--input=x=1", "--dtype=float64", "--", "x"]),
        (["json*w", "-i", "json=1", "--w", "json*2"], ["--input=json=1", "--input=w=json*2", "--", "json*w"]),
        (["x==1", "-i", "x=a==b", "--a", "1", "--b", "2"],
         ["--input=x=a==b", "--input=a=1", "--input=b=2", "--", "x==1"]),
        (["--json", "--", "-x"], ["--json", "--", "-x"]),
        (["--x", "1", "--", "--x"], ["--input=x=1", "--", "--x"]),
        (["y=x*2; y", "--x=--x"], ["--input=x=--x", "--", "y=x*2; y"]),
        (["x*w", "--w", "torch.ones_like(x)", "--x", "u", "--u", "1"],
         ["--input=w=torch.ones_like(x)", "--input=x=u", "--input=u=1", "--", "x*w"]),
        (["x", "--x", "1,2", "-g", "y=u*2", "--u", "3"], ["--input=x=1,2", "--input=u=3", "--grad-outputs=y=u*2", "--", "x"]),
        (["layer.weight*2", "--layer.weight", "1"], ["--input=layer.weight=1", "--", "layer.weight*2"]),
        (["größe*2", "--größe", "1"], ["--input=größe=1", "--", "größe*2"]),
        ([], []),
        (["--json"], ["--json"]),
    ],
)  # fmt: skip
def test_inputs_become_options(argv, expected):
    assert normalise(argv, OPTIONS) == expected


@pytest.mark.parametrize(
    ("argv", "message", "near", "hint"),
    [
        (["x", "--x", "1", "--grad_output", "1"], "no option --grad_output", "--grad-outputs",
         "jvp inspect x --x 1 --grad-outputs 1"),
        (["x", "--x", "1", "--grad-output=1"], "no option --grad-output", "--grad-outputs",
         "jvp inspect x --x 1 --grad-outputs=1"),
        (["x", "--x", "1", "--grad_outputs", "1"], "no option --grad_outputs", "--grad-outputs",
         "jvp inspect x --x 1 --grad-outputs 1"),
        (["x", "--x", "1", "--jsn"], "no option --jsn", "--json", "jvp inspect x --x 1 --json"),
        (["--jsn", "x*2", "--x", "1"], "no option --jsn", "--json", "jvp inspect --json 'x*2' --x 1"),
        (["x", "--x", "1", "--JSON"], "no option --JSON", "--json", "jvp inspect x --x 1 --json"),
        (["x_1*2", "--x1", "1"], "uses no input 'x1' (it uses x_1)", "--x_1", "jvp inspect 'x_1*2' --x_1 1"),
        (["x_1*2", "--x-1", "1"], "no option --x-1", "--x_1", "jvp inspect 'x_1*2' --x_1 1"),
        (["weight*2", "--weigth", "1"], "uses no input 'weigth'", "--weight", "jvp inspect 'weight*2' --weight 1"),
        (["x*2", "--z", "1"], "uses no input 'z'", "--x", "jvp inspect 'x*2' --x 1"),
        (["x*2", "--x", "1", "--zebra", "1"], "uses no input 'zebra'", None, None),
        (["x*2", "--x", "1", "-i", "jsn=1"], "uses no input 'jsn'", None, None),
        (["torch.ones(3)", "--x", "1"], "(it uses none)", None, None),
        (["x", "--x", "1", "--x=2"], "given twice", None, None),
        (["x", "--x", "1", "-i", "x=2"], "given twice", None, None),
        (["x", "--x"], "--x needs a value", None, None),
        (["x", "--x", "--json"], "--x needs a value", None, None),
        (["x", "-g"], "--grad-outputs needs a value", None, None),
        (["x", "-g", "--json"], "--grad-outputs needs a value", None, None),
        (["x", "--json=1"], "takes no value", None, None),
        (["x", "-i", "x"], "takes NAME=VALUE", None, None),
        (["x", "y", "--x", "1"], "unexpected argument 'y'", None, None),
        (["x", "-z", "--x", "1"], "no option -z", None, None),
        (["-z", "x*2", "--x", "1"], "no option -z", None, None),
        (["--", "x", "y"], "unexpected argument 'y'", None, None),
        (["--zebra", "x*2"], "EXPR is missing", None, None),
    ],
)  # fmt: skip
def test_what_is_no_option_and_no_input_is_refused(argv, message, near, hint):
    with pytest.raises(UsageError) as caught:
        normalise(argv, OPTIONS)
    assert message in caught.value.message
    assert (caught.value.explanation == f"Did you mean {near}?") is (near is not None)
    assert list(caught.value.hints) == ([hint] if hint else [])
    if hint:  # the correction is itself accepted
        normalise(shlex.split(hint)[2:], OPTIONS)


def test_a_swallowed_expression_is_named():
    with pytest.raises(UsageError) as caught:
        normalise(["--zebra", "x*2"], OPTIONS)
    assert caught.value.explanation == "'x*2' was read as the VALUE of the input 'zebra'."


def test_a_refused_expression_is_left_for_the_parser():
    assert normalise(["torch.sinn(x)", "--x", "1"], OPTIONS)[-1] == "torch.sinn(x)"
    assert normalise(["x +", "--x", "1"], OPTIONS)[-1] == "x +"


def test_flags_end_at_two_dashes():
    assert has_flag(["x", "--json"], "--json")
    assert not has_flag(["--", "--json"], "--json")
    assert not has_flag(["--json=1"], "--json")


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda text: not re.match(r"--([^\W\d]|$)", text)
)
SETTINGS = st.lists(st.sampled_from([["--json"], ["-q"], ["--dtype", "float64"], ["--dtype=float64"]]), max_size=3)


@st.composite
def command_lines(draw):
    """Inputs with their VALUEs in order, the words for them and for settings in any form and order, and EXPR."""
    names = draw(st.permutations(["x", "w", "b_2"]))
    values = [draw(VALUES) for _ in names]
    forms = ([f"--{n}", v] for n, v in zip(names, values, strict=True))
    groups = [
        draw(st.sampled_from([group, ["=".join(group)], ["-i", f"{group[0][2:]}={group[1]}"]])) for group in forms
    ]
    for setting in draw(SETTINGS):
        groups.insert(draw(st.integers(0, len(groups))), setting)
    expression = draw(st.sampled_from(["x*w+b_2", "-x*w+b_2", "--(x*w+b_2)", "(x, w, b_2)"]))
    groups.insert(draw(st.integers(0, len(groups))), [expression])
    return list(zip(names, values, strict=True)), [word for group in groups for word in group], expression


@given(command_lines())
def test_order_and_form_do_not_matter(line):
    inputs, argv, expression = line
    result = normalise(argv, OPTIONS)
    assert result[: len(inputs)] == [f"--input={name}={value}" for name, value in inputs]
    assert result[-2:] == ["--", expression]


@given(command_lines())
def test_typer_reads_the_same(line):
    """What the real command's parser makes of the normalised argv."""
    inputs, argv, expression = line
    command = build("inspect", inspect)
    normalised = normalise(argv, Options.of("inspect"))
    params = command.make_context("inspect", normalised, resilient_parsing=False).params
    assert params["expression"] == expression
    assert list(params["inputs"]) == [f"{name}={value}" for name, value in inputs]
    assert params["as_json"] is ("--json" in argv)
    assert params["dtype"] == ("float64" if "float64" in " ".join(argv) else "float32")


WORDS = st.one_of(
    st.sampled_from(["x", "x*2", "-x", "--x", "--x=1", "--y", "--w", "1,2", "-1", "-", "--", "--json", "--jsn", "-g"]),
    st.sampled_from(["-g=1", "-g1", "-q", "-qz", "-i", "x=1", "-i=x=2", "--dtype", "--grad_outputs", "--help", "--=1"]),
    st.text(max_size=4),
)


def accounted(word, result):
    """Whether a typed word is still there: as it stands, as a value, or as what it is short for."""
    long = OPTIONS.spellings.get(word[:2], "--input")
    tails = (f"={word}", f"={word.partition('=')[2]}" if "=" in word else f"={word[2:]}")
    return any(
        r == word or r.endswith(tails) or r.startswith((long, f"--input={word[2:]}=", f"{word}=")) for r in result
    )


@given(st.lists(WORDS, max_size=7))
def test_whatever_is_typed_is_read_or_refused(argv):
    """Nothing but a UsageError; EXPR is a word that was typed, and no word is lost."""
    try:
        result = normalise(argv, OPTIONS)
    except UsageError:
        return
    if "--" in result:
        assert result.index("--") == len(result) - 2
        assert result[-1] in argv
    for word in argv:
        assert word == "--" or accounted(word, result), (word, result)
