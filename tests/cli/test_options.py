"""The one table of options: every door reads it, and a row more is an option more."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import pytest
import torch

import jvpcli
from jvpcli import options
from jvpcli.cli.answers import request_of
from jvpcli.cli.app import COMMANDS
from jvpcli.cli.argv import Options
from jvpcli.cli.completion import SHELLS, complete
from jvpcli.cli.output import Display
from jvpcli.errors import UsageError
from jvpcli.options import BATCH, COMMAND_LINE, DOORS, OPTIONS, PYTHON, Option, command, make_request, options_of
from jvpcli.render.schema import schema
from jvpcli.request import Request

FUNCTIONS = ("inspect", "jacobian", "trace", "check", "hessian", "derive")
DEFAULTS = {field.name: field.default for field in fields(Request)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_s_signature_is_the_table_s(name):
    """Names, defaults, and that every option is a keyword; what is left over names inputs."""
    *declared, rest = inspect.signature(getattr(jvpcli, name)).parameters.values()
    declared = [parameter for parameter in declared if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
    table = options_of(PYTHON, name)
    assert rest.kind is inspect.Parameter.VAR_KEYWORD
    assert {parameter.name for parameter in declared} == set(table)
    assert [p.name for p in declared if p.kind is not inspect.Parameter.KEYWORD_ONLY] == ["expression", "inputs"]
    for parameter in declared[1:]:
        assert parameter.default == table[parameter.name].default, parameter.name
    explained = jvpcli.inspect.__doc__ + (getattr(jvpcli, name).__doc__ or "")
    assert not [key for key in table if f"{key}:" not in explained and f"`{key}`" not in explained]


@pytest.mark.parametrize("name", ["explain", "batch"])
def test_a_function_that_asks_for_no_derivative_has_the_table_s_options_too(name):
    declared = inspect.signature(getattr(jvpcli, name)).parameters
    table = options_of(PYTHON, name)
    assert list(declared) == list(table)
    assert [p.default for p in declared.values() if p.default is not p.empty] == [o.default for o in table.values()][1:]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_its_own_options_by_name(name):
    """All that neither a Request nor a Display holds; the door itself sees to --debug and --no-server, and a batch always
    answers in JSON."""
    takes = set(inspect.signature(import_module(f"jvpcli.cli.{name}").command).parameters) - {"context"}
    own = {key for key in options_of(COMMAND_LINE, name) if not options.in_request(key) or "request" not in takes}
    own -= {*Display._fields} if "display" in takes else set()
    assert own - takes == {"debug"} | (own & {"no_server"}) | ({"as_json"} if name == "batch" else set())
    assert takes - own <= {"request", "display"}


def test_the_table_is_sound():
    for door in DOORS:
        for name in (*COMMANDS, "jacobian"):
            rows = [row for row in OPTIONS if name in row.commands and door in row.doors]
            assert len({row.name for row in rows}) == len(rows)
            spellings = [spelling for row in rows for spelling in row.spellings]
            assert len(set(spellings)) == len(spellings)
            assert all(row.spellings[0].startswith("--") for row in rows if row.spellings)
    for row in OPTIONS:
        assert row.doors
        assert {*row.commands} <= {*COMMANDS, "jacobian"}
        assert row.kind is not options.CHOICE or row.default in row.words
        if options.in_request(row.name) and row.default is not None and "batch" not in row.commands:
            assert row.default == DEFAULTS[row.name]  # the same where nobody asks
    assert set(SHELLS) == set(options_of(COMMAND_LINE, "completion")["shell"].words)


@dataclass(frozen=True)
class _Wider(Request):
    chunk: int = 4
    """What the option of the next tests sets."""


@pytest.fixture
def chunk(monkeypatch):
    """One more option of inspect and check."""
    row = Option(
        "chunk", options.COUNT, ("inspect", "check", "jacobian"), ("--chunk", "-c"), "N", "Entries at once.", 4, ("2", "8")
    )
    monkeypatch.setattr(options, "OPTIONS", (*OPTIONS[:-2], row, *OPTIONS[-2:]))
    monkeypatch.setattr(options, "Request", _Wider)
    options.options_of.cache_clear()
    yield row
    options.options_of.cache_clear()


def test_one_row_more_is_an_option_more(jvp, chunk, monkeypatch):
    help_text = jvp("inspect", "--help").out
    assert "  -c, --chunk N " in help_text
    assert "Entries at once." in help_text
    assert "--chunk" not in jvp("trace", "--help").out
    assert complete("jvp inspect --chu") == ["--chunk"]
    assert complete("jvp check x --chunk ") == ["2", "8"]
    assert complete("jvp trace --chu") == []
    assert schema()["$defs"]["request"]["properties"]["chunk"] == {"type": "integer", "minimum": 1}
    assert Options.of("inspect").spellings["-c"] == "--chunk"

    asked_for = []
    monkeypatch.setattr("jvpcli.cli.inspect.answer", lambda context, request, *shown: asked_for.append(request))
    jvp("inspect", "x*2", "--x", "1", "--chunk", "8")
    jvp("inspect", "x*2", "--x", "1", "-c", "2")
    jvp("inspect", "x*2", "--x", "1")
    assert [request.chunk for request in asked_for] == [8, 2, 4]
    assert request_of({"expression": "x*2", "chunk": 3}).chunk == 3
    assert make_request({"expression": "x*2", "chunk": 3}, PYTHON, "jacobian").chunk == 3
    assert command(asked_for[0]) == 'jvp inspect "x*2" --x 1 --chunk 8'
    assert command(asked_for[2]) == 'jvp inspect "x*2" --x 1'

    refused = json.loads(jvp("inspect", "x*2", "--x", "1", "--chunk", "0", "--json").out)["error"]
    assert (refused["code"], refused["message"]) == ("usage", "--chunk is at least 1, not 0")
    with pytest.raises(UsageError, match="`chunk` is at least 1, not 0"):
        request_of({"expression": "x*2", "chunk": 0})
    assert "--chunk" in jvp("inspect", "x*2", "--x", "1", "--chnk", "8").err


X = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "typed", "data", "called", "value"),
    [
        ("wrt", "x, W", ["x", "W"], ("x", "W"), ("x", "W")),
        ("dtype", "float64", "float64", torch.float64, "float64"),
        ("device", "meta", "meta", torch.device("meta"), "meta"),
        ("seed", 7, 7, 7, 7),
        ("mode", "forward", "forward", "forward", "forward"),
        ("jacobian", "none", "none", "none", "none"),
        ("memory_limit", "2KiB", 2048, 2048, 2048),
        ("spectrum", True, True, True, True),
        ("tangent", ["ones"], "ones", "ones", ((None, "ones"),)),
        ("tangent", ["x=1,2", "w=a==b"], {"x": "1,2", "w": "a==b"}, {"x": "1,2", "w": "a==b"}, (("x", "1,2"), ("w", "a==b"))),
        ("grad_outputs", ["torch.ones(4, dtype=torch.int)"], *["torch.ones(4, dtype=torch.int)"] * 2,
         ((None, "torch.ones(4, dtype=torch.int)"),)),
        ("inputs", ["x=1,2", "y==1"], {"x": "1,2", "y": "=1"}, {"x": "1,2", "y": "=1"}, {"x": "1,2", "y": "=1"}),
    ],
)  # fmt: skip
def test_the_doors_agree(name, typed, data, called, value):
    for door, given in zip(DOORS, (typed, data, called), strict=True):
        request = make_request({"expression": "x", name: given}, door, "inspect")
        assert getattr(request, name) == value, door
        assert request.seed_given is (name == "seed")


def test_values_in_python_may_be_several_in_order():
    given = {"expression": "x", "grad_outputs": [X, None, "ones"]}
    assert make_request(given, PYTHON, "inspect").grad_outputs == ((None, X), (None, "none"), (None, "ones"))
    for door in (PYTHON, BATCH):  # a nested list is one VALUE
        assert make_request({**given, "grad_outputs": [[1, 2], [3, 4]]}, door, "inspect").grad_outputs == (
            (None, [[1, 2], [3, 4]]),
        )
    assert make_request({**given, "grad_outputs": ["NaN", 1]}, BATCH).grad_outputs == ((None, ["NaN", 1]),)


@pytest.mark.parametrize(
    ("door", "name", "given", "message"),
    [
        (COMMAND_LINE, "mode", "up", "--mode is one of auto, forward, reverse, not 'up'"),
        (BATCH, "mode", "up", "`mode` is one of auto, forward, reverse, not 'up'"),
        (PYTHON, "mode", "up", "mode is one of auto, forward, reverse, not 'up'"),
        (BATCH, "command", "batch", "`command` is one of inspect, trace, check, hessian, derive, not 'batch'"),
        (COMMAND_LINE, "memory_limit", "much", "--memory-limit takes a size such as 200MB or 2GiB, not 'much'"),
        (BATCH, "memory_limit", True, "`memory_limit` takes a size such as 200MB or 2GiB, not 'True'"),
        (PYTHON, "memory_limit", -1, "memory_limit takes a size such as 200MB or 2GiB, not '-1'"),
        (COMMAND_LINE, "seed", 2**62, f"--seed takes a whole number below 2**62, not {2**62}"),
        (PYTHON, "seed", -(2**70), f"seed takes a whole number below 2**62, not {-(2**70)}"),
        (BATCH, "seed", True, "`seed` is a whole number"),
        (PYTHON, "seed", 1.5, "seed is a whole number"),
        (COMMAND_LINE, "timeout", float("nan"), "--timeout takes a positive number, not nan"),
        (BATCH, "timeout", -1, "`timeout` takes a positive number, not -1"),
        (BATCH, "timeout", float("inf"), "`timeout` is a number of seconds"),
        (COMMAND_LINE, "wrt", " ,", "--wrt takes the names of inputs, as in x,W, not ' ,'"),
        (BATCH, "wrt", ["x", 1], "`wrt` takes the names of inputs, as in [\"x\", \"W\"], not ['x', 1]"),
        (COMMAND_LINE, "inputs", ["x"], "--input takes NAME=VALUE, not 'x'"),
        (COMMAND_LINE, "inputs", ["x=1", "x=2"], "the input 'x' was given twice"),
        (BATCH, "inputs", [1], "`inputs` is an object of NAME: VALUE"),
        (PYTHON, "inputs", 3, "inputs is a mapping of NAME: VALUE"),
        (BATCH, "dtype", 3, "`dtype` is a string, as in float32"),
        (BATCH, "spectrum", 1, "`spectrum` is true or false, not 1"),
        (PYTHON, "save", 3, "save takes the name of a file, not 3"),
        (PYTHON, "imports", [None], "imports takes the name of a file, not None"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_as_the_door_names_it(door, name, given, message):
    with pytest.raises(UsageError) as caught:
        make_request({"expression": "x", name: given}, door, "inspect" if door != BATCH else None)
    assert caught.value.message == message


@pytest.mark.parametrize(("name", "value"), [("imports", ["a.py"]), ("save", "a.npz"), ("html", "a.html"), ("jobs", 2)])
def test_a_line_of_data_runs_and_writes_nothing(name, value):
    with pytest.raises(UsageError, match=f"no field `{name}`"):
        request_of({"expression": "x", name: value})


@pytest.mark.parametrize(
    "argv",
    [
        ["-i", "seed=2", "--x", "1,2", "--seed", "5"],  # an input that is called like an option
        ["--x", "1,2", "-i", "seed=3", "--mode", "forward", "--jacobian", "sparse", "--spectrum", "--wrt", "x"],
        ["--x=-1,2", "-i", "seed=0.5", "-g", "y=1,0", "-t", "x=-1,1", "--dtype", "float64"],
    ],
)
def test_a_suggested_command_asks_the_same(jvp, monkeypatch, argv):
    asked_for = []
    monkeypatch.setattr("jvpcli.cli.inspect.answer", lambda context, request, *shown: asked_for.append(request))
    jvp("inspect", "seed * x", *argv)
    line = command(asked_for[0])
    jvp(*shlex.split(line)[1:])
    first, second = ({f.name: getattr(r, f.name) for f in fields(r) if f.name != "stdin"} for r in asked_for)
    assert first == second
    assert "limit" not in command(make_request({"expression": "x", "memory_limit": 9}, BATCH))


def test_a_suggested_check_keeps_the_seed_that_was_asked_for():
    for seed, said in ((0, " --seed 0"), (3, " --seed 3"), (None, "")):
        request = make_request({"expression": "F.dropout(x)", "inputs": ["x=1"], "seed": seed}, COMMAND_LINE, "check")
        assert command(request) == f'jvp check "F.dropout(x)" --x 1{said}'


def test_python_can_what_the_command_line_can(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def cube(x):\n    return x**3\n")
    for imports in (file, str(file), [file]):
        assert jvpcli.trace("cube(x)", x=X, imports=imports).vjp["x"].tolist() == [3, 12]
    assert jvpcli.jacobian("cube(x)", x=X, imports=file)["y", "x"].to_dense().tolist() == [[3, 0], [0, 12]]
    saved = jvpcli.inspect("cube(x)", x=X, imports=file, save=tmp_path / "J.npy", spectrum=True, dtype=torch.float64)
    assert Path(tmp_path / "J.npy").stat().st_size > 0
    assert saved.report.spectrum is not None


def test_a_batch_s_check_holds_random_functions_fast_if_it_has_a_seed(jvp):
    line = {"expression": "F.dropout(x)", "inputs": {"x": [1, 2, 3]}, "command": "check"}
    answers = jvp("batch", stdin="\n".join(json.dumps({**line, **more}) for more in ({}, {"seed": 0}))).out
    assert [json.loads(answer)["verdict"] for answer in answers.splitlines()] == ["nondeterministic", "pass"]
