"""The one table of options: what each is called, says and takes, who has it, how a Request is made from them, and how it
is written back as a command.

Every door reads it: the command line, a line of a batch and a Python call; so do help, completion, the schema of a
request and the commands that jvp suggests.  A new option is a row here and its use.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from jvpcli.errors import UsageError
from jvpcli.request import COMPUTING, BlockSizes, Request, parse_size

COMMAND_LINE, BATCH, PYTHON = DOORS = ("command line", "batch", "Python")
"""The doors: `jvp COMMAND`, an object on a line of `jvp batch`, and a call of `jvpcli.COMMAND`."""


class Kind(NamedTuple):
    """A kind of values (a named tuple, as an Option is: a dataclass would take a millisecond to make at every start).

    Attributes:
        type: what the command line makes of a text, or of all its texts, before it is read.
        read: (option, value as given, door) to the value that is used; raises a UsageError for what is none.
        schema: the JSON Schema of the field of a batch's line.
        write: the value that is used to the texts that stand for it on the command line.
    """

    type: Any
    read: Callable[[Option, Any, str], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Iterable[str]] = lambda value: (str(value),)


class Option(NamedTuple):
    """One option, as every door has it.

    Attributes:
        name: of the Python parameter, of the field of a batch's line, and of the Request's field if it has one so called.
        kind: what its values are.
        commands: that have it; "jacobian" is a function of the Python API alone.
        spellings: on the command line, as in `--wrt`; none: it is an argument.
        metavar: what stands for its value in the help.
        help: its sentence there.
        default: what holds where it is not given.
        words: that its value can be: all of them for a CHOICE, else those worth completing.
        doors: at which it can be given.
        repeated: whether a command that jvp suggests gives it again.
    """

    name: str
    kind: Kind
    commands: tuple[str, ...]
    spellings: tuple[str, ...] = ()
    metavar: str | None = None
    help: str = ""
    default: Any = None
    words: tuple[str, ...] = ()
    doors: tuple[str, ...] = DOORS
    repeated: bool = True

    def called(self, door: str) -> str:
        """Its name as the people at a door know it: `--wrt` (or `EXPR`), `` `wrt` `` or `wrt`."""
        if door == COMMAND_LINE:
            return self.spellings[0] if self.spellings else (self.metavar or self.name).strip("[]")
        return f"`{self.name}`" if door == BATCH else self.name

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the field of a batch's line."""
        return {"enum": list(self.words)} if self.kind is CHOICE else dict(self.kind.schema)


def _as_given(option: Option, value: Any, door: str) -> Any:
    return value


def _text(option: Option, value: Any, door: str) -> str:
    if door == PYTHON:  # torch's own dtypes and devices are named as here
        return str(value).removeprefix("torch.")
    if not isinstance(value, str):
        raise UsageError(f"{option.called(door)} is a string, as in {option.default}")
    return value


def _path(option: Option, value: Any, door: str) -> str:
    try:
        return os.fspath(value)
    except TypeError:
        raise UsageError(f"{option.called(door)} takes the name of a file, not {value!r}") from None


def _cluster(option: Option, value: Any, door: str) -> Any:
    """An address, or in Python a client of Dask's."""
    if door == PYTHON and type(value).__module__.partition(".")[0] == "distributed":
        return value
    return _path(option, value, door)


def _flag(option: Option, value: Any, door: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{option.called(door)} is true or false, not {value!r}")
    return value


def _whole(option: Option, value: Any, door: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{option.called(door)} is a whole number")
    number = operator.index(value)
    if abs(number) >= 2**62:  # every input has a seed of its own, counted from this one
        raise UsageError(f"{option.called(door)} takes a whole number below 2**62, not {number}")
    return number


def _count(option: Option, value: Any, door: str) -> int:
    number = _whole(option, value, door)
    if number < 1:
        raise UsageError(f"{option.called(door)} is at least 1, not {number}")
    return number


def _step(option: Option, value: Any, door: str) -> int | str:
    """A step's number, or the dotted path of a module."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d+", value) else value
    return _whole(option, value, door)


def _seconds(option: Option, value: Any, door: str) -> float:
    name = option.called(door)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (door == BATCH and not math.isfinite(value)):
        raise UsageError(f"{name} is a number of seconds")
    if not value > 0:
        raise UsageError(f"{name} takes a positive number, not {value:g}")
    return value


def _bound(option: Option, value: Any, door: str) -> float:
    name = option.called(door)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} is a number, as in 1e-5")
    if not 0 <= value < math.inf:
        raise UsageError(f"{name} takes a number from 0 on, not {value:g}")
    return float(value)


def _size(option: Option, value: Any, door: str) -> int:
    return parse_size(str(value), option.called(door))


def _choice(option: Option, value: Any, door: str) -> str:
    if value not in option.words:
        raise UsageError(f"{option.called(door)} is one of {', '.join(option.words)}, not {value!r}")
    return str(value)


def _names(option: Option, value: Any, door: str) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{option.called(door)} takes the names of inputs, as in [\"x\", \"W\"], not {value!r}")
    found = tuple(name.strip() for name in names if name.strip())
    if not found:
        example = 'x,W' if door == COMMAND_LINE else '["x", "W"]'
        raise UsageError(f"{option.called(door)} takes the names of inputs, as in {example}, not {value!r}")
    return found


def _inputs(option: Option, value: Any, door: str) -> Mapping[str, Any]:
    """`NAME=VALUE` texts by name, or what is by name already."""
    if door != COMMAND_LINE:
        if not isinstance(value, Mapping):
            raise UsageError(f"{option.called(door)} is {'an object' if door == BATCH else 'a mapping'} of NAME: VALUE")
        return value
    name = option.called(door)
    values: dict[str, str] = {}
    for text in value:
        key, equals, given = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{name} takes NAME=VALUE, not {text!r}")
        if key in values:
            raise UsageError(f"the input {key!r} was given twice")
        values[key] = given
    return values


def _weights(option: Option, value: Any, door: str) -> tuple[tuple[str | None, Any], ...]:
    """(name or None, VALUE) pairs, from `[NAME=]VALUE` texts, a VALUE, VALUEs by name, or (in Python) several in order."""
    if door == COMMAND_LINE:
        return tuple(_split_name(text) for text in value)
    if isinstance(value, Mapping) and "value" not in value:
        return tuple(value.items())
    several = door == PYTHON and isinstance(value, (tuple, list))  # of numbers alone it depends on how many outputs there are
    if several and any(isinstance(item, str) or getattr(item, "ndim", 0) or hasattr(item, "requires_grad") for item in value):
        return tuple((None, "none" if item is None else item) for item in value)
    return ((None, value),)


def _split_name(text: str) -> tuple[str | None, str]:
    """`NAME=VALUE` apart; a VALUE alone has no name (`torch.ones(4, dtype=…)` is one, `a==b` too)."""
    match = re.match(r"\s*([^\W\d][\w.]*(?:\[[^]]*\][\w.]*)*)=(?!=)", text)
    return (match[1], text[match.end() :]) if match else (None, text)


def _blocks(option: Option, value: Any, door: str) -> BlockSizes:
    """Two lists of sizes, from `2x3,4`, `[[2, 3], 4]` or what is between them."""
    given = value.split(",") if isinstance(value, str) else value
    try:
        output, wrt = (tuple(map(_piece, part.split("x") if isinstance(part, str) else _listed(part))) for part in given)
    except (TypeError, ValueError):
        output, wrt = (), ()
    if not output or not wrt or min(*output, *wrt) < 1:
        name = option.called(door)
        raise UsageError(
            f"{name} takes the sizes of the output's pieces and of the input's, along their first axes, as in 1,1 or 2x3,4; "
            f"not {value!r}"
        )
    return output, wrt


def _piece(size: Any) -> int:
    if isinstance(size, bool):
        raise TypeError
    return int(size) if isinstance(size, str) else operator.index(size)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (tuple, list)) else (value,)


def _paths(option: Option, value: Any, door: str) -> tuple[str, ...]:
    return tuple(_path(option, path, door) for path in ((value,) if isinstance(value, (str, os.PathLike)) else value))


def _with_names(pairs: Iterable[tuple[str | None, str]]) -> Iterable[str]:
    return (value if name is None else f"{name}={value}" for name, value in pairs)


_VALUE: Mapping[str, Any] = {
    "description": "A number, nested lists, text as on the command line, or an object with its own dtype.",
    "anyOf": [
        {"type": ["number", "string", "boolean"]},
        {"type": "array"},
        {
            "type": "object",
            "properties": {"value": {}, "dtype": {"type": "string"}},
            "required": ["value"],
            "additionalProperties": False,
        },
    ],
}
_OF_VALUES: Mapping[str, Any] = {"type": "object", "additionalProperties": _VALUE}
_STRING: Mapping[str, Any] = {"type": "string"}
_STRINGS: Mapping[str, Any] = {"type": "array", "items": _STRING}

TEXT = Kind(str, _text, _STRING)
EXPRESSION = Kind(str, _as_given, _STRING)
WORDS = Kind(list[str], _as_given, _STRINGS)
PATH = Kind(str, _path, _STRING)
PATHS = Kind(list[str], _paths, _STRINGS, tuple)
FLAG = Kind(bool, _flag, {"type": "boolean"})
WHOLE = Kind(int, _whole, {"type": "integer"})
STEP = Kind(str, _step, {"type": ["integer", "string"]})
COUNT = Kind(int, _count, {"type": "integer", "minimum": 1})
SECONDS = Kind(float, _seconds, {"type": "number", "description": "Seconds; at most what --timeout says."})
BOUND = Kind(float, _bound, {"type": "number", "minimum": 0})
SIZE = Kind(str, _size, {"type": ["string", "integer"], "description": "As in 200MB; at most what --memory-limit says."})
CHOICE = Kind(str, _choice, _STRING)
NAMES = Kind(str, _names, {"anyOf": [_STRINGS, _STRING]}, lambda names: (",".join(names),))
BLOCKS = Kind(
    str, _blocks, {"anyOf": [_STRING, {"type": "array", "minItems": 2, "maxItems": 2}]},
    lambda sizes: (",".join("x".join(map(str, part)) for part in sizes),),
)  # fmt: skip
INPUTS = Kind(list[str], _inputs, _OF_VALUES)
WEIGHTS = Kind(list[str], _weights, {"anyOf": [_VALUE, _OF_VALUES]}, _with_names)
OBJECTS = Kind(list[str], _as_given, {"type": "array"})
SIZES = Kind(
    list[str], _inputs, {"type": "object", "additionalProperties": _STRING},
    lambda sizes: (f"{name}={shape}" for name, shape in sizes.items()),
)  # fmt: skip
CLUSTER = Kind(str, _cluster, _STRING)
IDENTITY = Kind(str, _as_given, {"description": "Anything; it comes back in the answer."})

ANSWERS = (*COMPUTING, "jacobian")  # what asks for a derivative, at any door
JSON = (*COMPUTING, "run", "explain", "batch", "ops", "schema")  # what prints a document with --json
SHELL = (COMMAND_LINE,)
DIRECTIONS = ("ones", "zeros", "randn", "onehot:")


def _page(command: str) -> Option:
    """The option for a page; each command shows it at a place of its own in its help."""
    return Option("html", PATH, (command,), ("--html",), "FILE",
                  "Write a page to explore: it needs no network, as in --html out.html.", doors=SHELL)  # fmt: skip


def _pictures(command: str) -> tuple[Option, ...]:
    """The options for pictures."""
    return (
        _page(command),
        Option("plot", PATH, (command,), ("--plot",), "FILE",
               "Write a picture to a .png or .svg file (with matplotlib).", doors=SHELL),
        Option("heatmap", FLAG, (command,), ("--heatmap",), None,
               "Draw in the terminal: each Jacobian; of a trace, the norms.", False, doors=SHELL),
    )  # fmt: skip


OPTIONS: tuple[Option, ...] = (
    Option("expression", EXPRESSION, ANSWERS, (), "EXPR",
           "An expression over torch, math, F and inputs of your own naming, such as torch.outer(x,x)."),
    Option("file", TEXT, ("batch",), (), "[FILE]",
           "JSON objects, one a line; `-` or nothing: standard input.", "-", doors=SHELL),
    Option("text", WORDS, ("explain",), (), "TEXT",
           "The message, a traceback or a whole log; - reads it from stdin.", doors=(COMMAND_LINE, PYTHON)),
    Option("requests", OBJECTS, ("batch",), doors=(PYTHON,)),
    Option("program", WORDS, ("run",), (), "SCRIPT.py [ARGS]...",
           "Your program (- reads it from stdin), and its own arguments: all that follows is the program's.", doors=SHELL),
    Option("module", TEXT, ("run",), ("--module", "-m"), "MODULE", "Run a module, as python -m does.", doors=SHELL),
    Option("grad_calls", FLAG, ("run",), ("--grad-calls",), None,
           "List every torch.autograd.grad and backward by line, with the shapes.", False, doors=SHELL),
    Option("watch", FLAG, ("run",), ("--watch",), None,
           "Look at the gradients after each backward pass, and name the first step at which one becomes NaN, infinite or zero.",
           False, doors=SHELL),
    Option("inspect", TEXT, ("run",), ("--inspect",), "LINE[:NTH]",
           "Answer for the derivative call on a line as jvp inspect does, as in --inspect 12 or --inspect model.py:40.",
           doors=SHELL),
    Option("trace", TEXT, ("run",), ("--trace",), "LINE[:NTH]", "Answer for it as jvp trace does.", doors=SHELL),
    Option("check", TEXT, ("run",), ("--check",), "LINE[:NTH]", "Answer for it as jvp check does.", doors=SHELL),
    Option("html", PATH, ("run",), ("--html",), "FILE", "Write the page of that answer.", doors=SHELL),
    Option("word", TEXT, ("ops",), (), "[WORD]",
           "A part of a name or a description; nothing lists everything.", "", doors=SHELL),
    Option("shell", CHOICE, ("completion",), (), "[SHELL]", "One of bash, zsh and fish.", "bash",
           words=("bash", "zsh", "fish"), doors=SHELL),
    Option("inputs", INPUTS, ANSWERS, ("--input", "-i"), "NAME=VALUE",
           "An input; --NAME VALUE is the short form, as in --x 1,2. "
           "VALUE: numbers (1,2;3,4), JSON, @file, - (stdin) or an expression."),
    Option("imports", PATHS, ANSWERS, ("--import",), "FILE.py",
           "Runs this file of yours; its functions and modules can be called in EXPR. No other code of yours ever runs.",
           doors=(COMMAND_LINE, PYTHON)),  # a line of data runs no code
    Option("grad_outputs", WEIGHTS, COMPUTING, ("--grad-outputs", "-g"), "[NAME=]VALUE",
           "The cotangent v: ones (default), zeros, randn, onehot:1,2, none, or a VALUE, as in -g 1,0,0. "
           "Repeat it for several outputs.", words=("ones", "zeros", "randn", "onehot:", "none", "implicit")),
    Option("is_grads_batched", FLAG, ("inspect",), ("--is-grads-batched",), None,
           "Each v has an axis in front, of several that are pulled back: the result has a row for each.", False),
    Option("tangent", WEIGHTS, ("inspect", "check", "derive"), ("--tangent", "-t"), "[NAME=]VALUE",
           "A direction u in the input's space: adds the JVP J u, as in -t ones.",
           words=DIRECTIONS),
    Option("tangent", WEIGHTS, ("hessian",), ("--tangent", "-t"), "[NAME=]VALUE",
           "A direction u in the input's space: adds the product H u, as in -t ones.",
           words=DIRECTIONS),
    Option("wrt", NAMES, ANSWERS, ("--wrt",), "NAMES",
           "What to differentiate, as in --wrt x,W. Default: every floating or complex input."),
    Option("call", COUNT, ANSWERS, ("--call",), "N",
           "Of a program with several derivative calls the one to explain, as the answer numbers them. Default: the last."),
    Option("as_python", FLAG, ANSWERS, default=False, doors=(PYTHON,)),
    Option("step", STEP, ("trace",), ("--step",), "N",
           "Open one step: its values, and its local Jacobians in full; or the steps of a module by its name, as in "
           "--step 0.attn.", doors=(COMMAND_LINE, PYTHON)),
    Option("depth", COUNT, ("trace", "run"), ("--depth",), "N",
           "Of a model's steps show the modules to this depth. Default: as deep as stays readable.",
           doors=(COMMAND_LINE, PYTHON)),
    Option("dot", PATH, ("trace",), ("--dot",), "FILE", "Write the graph for Graphviz, shapes on the edges.", doors=SHELL),
    *_pictures("trace"),
    Option("dtype", TEXT, ANSWERS, ("--dtype",), "DTYPE",
           "Of numbers and JSON, as in --dtype float64; files and expressions keep theirs. Default: float32.", "float32",
           words=("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int64", "bool")),
    Option("device", TEXT, ANSWERS, ("--device",), "DEVICE",
           "Where the inputs go, as in --device cuda:0. Default: cpu.", words=("cpu",)),
    Option("seed", WHOLE, ("inspect", "trace", "hessian", "derive", "jacobian"), ("--seed",), "N",
           "Makes random functions repeatable, as in --seed 7. Default: 0."),
    Option("seed", WHOLE, ("check",), ("--seed",), "N",
           "Hold random functions fast. Without it a function that draws random numbers fails the check."),
    Option("mode", CHOICE, ("check",), ("--mode",), "MODE",
           "What is checked: reverse (the backward pass alone), forward (forward mode alone) or auto (the default: the backward "
           "pass, and forward mode where a function has its own jvp).", "auto", words=("auto", "forward", "reverse")),
    Option("atol", BOUND, ("check",), ("--atol",), "NUMBER",
           "Let pass what differs by up to atol + rtol*|derivative|, as in --atol 1e-5. Default: as the function's roundings "
           "ask for."),
    Option("rtol", BOUND, ("check",), ("--rtol",), "NUMBER",
           "The part of the derivative that is let pass, as in --rtol 1e-3. Default: as for --atol."),
    Option("nondet_tol", BOUND, ("check",), ("--nondet-tol",), "NUMBER",
           "How far two runs of the same may be apart, as in --nondet-tol 1e-7. Default: a few roundings."),
    Option("undefined", CHOICE, ("check",), ("--undefined",), "WHOSE",
           "Who must bear None where no gradient arrives: functions (the default: an autograd.Function's backward), all (hooks "
           "too) or none.", "functions", words=("functions", "all", "none")),
    Option("batched", FLAG, ("check",), ("--batched",), None,
           "Pull many cotangents back at once too, as is_grads_batched=True does; in forward mode push many tangents.", False),
    Option("mode", CHOICE, ("inspect", "jacobian"), ("--mode",), "MODE",
           "The direction of differentiation: auto (the default), forward or reverse, as in --mode forward.", "auto",
           words=("auto", "forward", "reverse")),
    Option("jacobian", CHOICE, ("inspect",), ("--jacobian",), "FORMAT",
           "How the Jacobian is written out: auto (the default), dense, sparse or none, as in --jacobian sparse.", "auto",
           words=("auto", "dense", "sparse", "none")),
    Option("jacobian", CHOICE, ("hessian",), ("--jacobian",), "FORMAT",
           "How the Hessian, the gradient's Jacobian, is written out: auto (the default), dense, sparse or none.", "auto",
           words=("auto", "dense", "sparse", "none")),
    Option("jobs", COUNT, ("batch",), ("--jobs", "-j"), "N",
           "Processes that answer lines; the order is kept.", 1, doors=SHELL),
    Option("memory_limit", SIZE, ANSWERS, ("--memory-limit",), "SIZE",
           "The most memory to take, as in --memory-limit 200MB or 2GiB. Default: three quarters of the free memory.",
           repeated=False),
    Option("timeout", SECONDS, COMPUTING, ("--timeout",), "SECONDS",
           "Give up after this long, as in --timeout 2.5. Default: never.",
           doors=(COMMAND_LINE, BATCH), repeated=False),  # it ends the process, which is not ours in Python
    Option("timeout", SECONDS, ("batch",), ("--timeout",), "SECONDS",
           "Give up on a line after this long. Default: 60.", 60.0, doors=SHELL),
    Option("memory_limit", SIZE, ("batch",), ("--memory-limit",), "SIZE",
           "For each line, as in 200MB. Default: three quarters of the free memory, divided by the jobs.",
           doors=(COMMAND_LINE, PYTHON)),
    Option("as_python", FLAG, ("batch", "serve"), ("--as-python",), None,
           "Have Python itself run programs of several statements that the language does not read, between guards, as the other "
           "commands do. These are a weaker wall: for programs of your own, or of people you trust.", False,
           doors=(COMMAND_LINE, PYTHON)),  # for who starts it to say, and not for a line of data
    Option("save", PATH, ("inspect",), ("--save",), "FILE",
           "Write the Jacobians to a .npz (sparse or dense by kind) or .npy file, or block by block to a .zarr store, however "
           "large they are.", doors=(COMMAND_LINE, PYTHON), repeated=False),  # a line of data writes no file
    Option("save", PATH, ("jacobian",), doors=(PYTHON,), repeated=False),
    Option("resume", FLAG, ("inspect", "jacobian"), ("--resume",), None,
           "Go on with a .zarr store that is there already: blocks that it has are not computed again.", False,
           doors=(COMMAND_LINE, PYTHON), repeated=False),
    Option("cluster", CLUSTER, ("inspect", "jacobian"), ("--cluster",), "ADDRESS",
           "Compute the blocks of a .zarr store on the workers of a Dask cluster: the scheduler's address, as in "
           "tcp://host:8786, its scheduler file, or local:2 for two workers here.", words=("local:2",),
           doors=(COMMAND_LINE, PYTHON), repeated=False),
    Option("cluster", CLUSTER, ("batch",), ("--cluster",), "ADDRESS",
           "Answer the lines on the workers of a Dask cluster, in the place of --jobs: the scheduler's address, its "
           "scheduler file, or local:2 for two workers here.", words=("local:2",), doors=SHELL),
    Option("save", PATH, ("hessian",), ("--save",), "FILE",
           "Write the Hessian, a block for each pair of inputs, to a .npz (sparse or dense by kind) or .npy file.",
           doors=(COMMAND_LINE, PYTHON), repeated=False),
    Option("spectrum", FLAG, ("inspect",), ("--spectrum",), None,
           "Add the leading singular values of each Jacobian.", False),
    Option("blocks", BLOCKS, ("inspect",), ("--blocks",), "OUT,IN",
           "Add the norms of each Jacobian's blocks: output and input cut into pieces of these sizes along their first axes, "
           "as in --blocks 1,1, or 2x3,4 for two axes of the output."),
    Option("create_graph", FLAG, ("inspect", "jacobian"), default=False, doors=(PYTHON,)),
    Option("strict", FLAG, ("inspect", "jacobian"), default=False, doors=(PYTHON,)),
    Option("ignore", NAMES, tuple(name for name in ANSWERS if name != "derive"), doors=(PYTHON,)),
    Option("explain_plan", FLAG, ("inspect",), ("--explain-plan",), None,
           "Show how it would be computed; compute nothing.", False, doors=SHELL),
    Option("shape", SIZES, ("derive",), ("--shape",), "NAME=SIZES",
           "An input by its shape alone, whose sizes may be letters, as in --shape W=m,n --shape x=n."),
    Option("hessian", FLAG, ("derive",), ("--hessian",), None,
           "Add the second derivative of L = ⟨v, y⟩, in the same forms.", False),
    Option("steps", FLAG, ("derive",), ("--steps",), None,
           "Show the steps in between, a rule a line.", False, doors=SHELL),
    Option("latex", FLAG, ("derive",), ("--latex",), None,
           "Print the forms as LaTeX, an equation a line.", False, doors=SHELL),
    Option("code", FLAG, ("derive",), ("--code",), None,
           "Print a torch.autograd.Function with this forward and backward, ready for a file.", False, doors=SHELL),
    _page("derive"),
    *_pictures("inspect"),
    *_pictures("hessian"),
    Option("host", TEXT, ("serve",), ("--host",), "ADDRESS",
           "The address that the page is reached at; beyond 127.0.0.1 other machines may ask, if they know the token.",
           "127.0.0.1", doors=SHELL),
    Option("port", WHOLE, ("serve",), ("--port", "-p"), "N", "Its port; 0: any that is free. Default: 8765.", 8765, doors=SHELL),
    Option("jobs", COUNT, ("serve",), ("--jobs", "-j"), "N",
           "Questions of the page that are computed at once. Default: one for each processor.", doors=SHELL),
    Option("open_page", FLAG, ("serve",), ("--open",), None, "Open the page in the browser.", False, doors=SHELL),
    Option("status", FLAG, ("serve",), ("--status",), None, "Say whether one runs, and where its page is.", False, doors=SHELL),
    Option("stop", FLAG, ("serve",), ("--stop",), None, "End the one that runs, after the commands that it is computing.", False,
           doors=SHELL),
    Option("line", TEXT, ("completion",), ("--line",), "TEXT",
           "What stands on the command line so far: prints its completions.", doors=SHELL),
    Option("as_json", FLAG, JSON, ("--json",), None,
           "Print one JSON document on stdout, for a failure too.", False, doors=SHELL),
    Option("full", FLAG, ("inspect", "trace", "hessian", "run"), ("--full",), None,
           "Leave nothing out, however long the answer becomes.", False, doors=SHELL),
    Option("quiet", FLAG, (*COMPUTING, "batch", "run"), ("--quiet", "-q"), None, "No warnings on stderr.", False, doors=SHELL),
    Option("no_server", FLAG, (*COMPUTING, "explain", "ops"), ("--no-server",), None,
           "Compute in this process, even where a jvp serve runs.", False, doors=SHELL),
    Option("debug", FLAG, (*JSON, "serve", "completion"), ("--debug",), None,
           "Show the traceback of a failure.", False, doors=SHELL),
    Option("id", IDENTITY, COMPUTING, doors=(BATCH,)),
    Option("command", CHOICE, COMPUTING, default="inspect", words=COMPUTING, doors=(BATCH,)),
)  # fmt: skip


@cache
def options_of(door: str, command: str | None = None) -> Mapping[str, Option]:
    """The options of a command at a door, by name, in the order that its help shows; without one, of any command."""
    found: dict[str, Option] = {}
    for option in OPTIONS:
        if door in option.doors and (command is None or command in option.commands):
            found.setdefault(option.name, option)
    return found


def read(given: Mapping[str, Any], options: Mapping[str, Option], door: str) -> dict[str, Any]:
    """Those of some options that are given, each read as its kind says; what is None or the default is left out.

    Raises:
        UsageError: a value that is not in the option's form.
    """
    return {
        name: option.kind.read(option, value, door)
        for name, value in given.items()
        if value is not None and (option := options.get(name)) is not None and value is not option.default
    }


def in_request(name: str) -> bool:
    """Whether a Request holds the option; the others are for the command itself."""
    return name in Request.__dataclass_fields__


def request_fields(
    given: Mapping[str, Any], options: Mapping[str, Option], door: str, command: str | None = None
) -> dict[str, Any]:
    """The fields of the Request that the options of a command ask for, as they were given at a door.

    Raises:
        UsageError: a value that is not in the option's form.
    """
    fields = {name: value for name, value in read(given, options, door).items() if in_request(name)}
    if command in COMPUTING:
        fields["command"] = command
    return {**fields, "seed_given": given.get("seed") is not None}


def make_request(given: Mapping[str, Any], door: str, command: str | None = None, **more: Any) -> Request:
    """The Request that the options of a command ask for, as they were given at a door; `more` is set as it is.

    Raises:
        UsageError: a value that is not in the option's form.
    """
    return Request(**request_fields(given, options_of(door, command), door, command), **more)


# A Request written as the command that makes it, so that an error can show one that works

Pairs = Iterable[tuple[str | None, Any]]


def command(
    request: Request, *, name: str | None = None, grad_outputs: Pairs | None = None, tangent: Pairs | None = None
) -> str | None:
    """The command line of a request (of the command `name`, if not its own), with other cotangents or tangents if given.

    None where it cannot be written as one: from Python, with inputs that are not text.
    """
    if grad_outputs is not None:
        request = replace(request, grad_outputs=tuple(grad_outputs))
    if tangent is not None:
        request = replace(request, tangent=tuple(tangent))
    values = (*request.inputs.values(), *(value for _, value in (*request.grad_outputs, *request.tangent)))
    if not isinstance(request.expression, str) or not all(isinstance(value, str) for value in values):
        return None
    name = name or request.command
    options = options_of(COMMAND_LINE, name)
    taken = {spelling for option in options.values() for spelling in option.spellings}
    words = ["jvp", name, _quoted(request.expression, force=True)]
    for key, value in request.inputs.items():
        words += _given("-i", f"{key}={value}") if f"--{key}" in taken else _given(f"--{key}", value)
    for option in options.values():
        if option.repeated and in_request(option.name) and option.name not in ("expression", "inputs"):
            words += _setting(option, request)
    return " ".join(words)


def _setting(option: Option, request: Request) -> list[str]:
    """The words that give an option; none where the request holds what it holds without them."""
    value = getattr(request, option.name)
    asked = option.default is None and getattr(request, f"{option.name}_given", False)
    if value == type(request).__dataclass_fields__[option.name].default and not asked:
        return []
    spelling = option.spellings[0]
    return [spelling] if value is True else [w for text in option.kind.write(value) for w in _given(spelling, text)]


def _given(option: str, value: str) -> list[str]:
    quoted = _quoted(value)
    return [f"{option}={quoted}"] if value.startswith("-") and value != "-" else [option, quoted]


def _quoted(text: str, force: bool = False) -> str:
    """`text` as one word of a shell: double quotes where they are safe, since that is what people type."""
    if not force and re.fullmatch(r"[\w@%+=:,./-]+", text):
        return text
    if not re.search(r'[$`"\\!]', text):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"
