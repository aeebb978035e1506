"""The options that the commands share, and a Request made from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from jvpcli.errors import UsageError
from jvpcli.request import Request, parse_size

Expression = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPR",
        help="An expression over torch, math, F and inputs of your own naming, such as torch.outer(x,x).",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="An input; --NAME VALUE is the short form, as in --x 1,2. "
        "VALUE: numbers (1,2;3,4), JSON, @file, - (stdin) or an expression.",
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="FILE.py",
        help="Runs this file of yours; its functions and modules can be called in EXPR. No other code of yours ever runs.",
    ),
]
GradOutputs = Annotated[
    list[str] | None,
    typer.Option(
        "--grad-outputs",
        "-g",
        metavar="[NAME=]VALUE",
        help="The cotangent v: ones (default), zeros, randn, onehot:1,2, none, or a VALUE, as in -g 1,0,0. "
        "Repeat it for several outputs.",
    ),
]
Tangent = Annotated[
    list[str] | None,
    typer.Option(
        "--tangent",
        "-t",
        metavar="[NAME=]VALUE",
        help="A direction u in the input's space: adds the JVP J u, as in -t ones.",
    ),
]
Wrt = Annotated[
    str | None,
    typer.Option(
        "--wrt",
        metavar="NAMES",
        help="What to differentiate, as in --wrt x,W. Default: every floating or complex input.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Of numbers and JSON, as in --dtype float64; files and expressions keep theirs. Default: float32.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Where the inputs go, as in --device cuda:0. Default: cpu.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Makes random functions repeatable, as in --seed 7. Default: 0.")
]
Mode = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="The direction of differentiation: auto (the default), forward or reverse, as in --mode forward.",
    ),
]
JacobianFormat = Annotated[
    str,
    typer.Option(
        "--jacobian",
        metavar="FORMAT",
        help="How the Jacobian is written out: auto (the default), dense, sparse or none, as in --jacobian sparse.",
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="The most memory to take, as in --memory-limit 200MB or 2GiB. Default: three quarters of the free memory.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Give up after this long, as in --timeout 2.5. Default: never."),
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save", metavar="FILE", help="Write the Jacobians to a .npz (sparse or dense by kind) or .npy file."
    ),
]
Spectrum = Annotated[bool, typer.Option("--spectrum", help="Add the leading singular values of each Jacobian.")]
ExplainPlan = Annotated[bool, typer.Option("--explain-plan", help="Show how it would be computed; compute nothing.")]
Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write a page to explore: it needs no network, as in --html out.html."),
]
Plot = Annotated[
    str | None,
    typer.Option("--plot", metavar="FILE", help="Write a picture to a .png or .svg file (with matplotlib)."),
]
Heatmap = Annotated[bool, typer.Option("--heatmap", help="Draw in the terminal: each Jacobian; of a trace, the norms.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for a failure too.")]
Full = Annotated[bool, typer.Option("--full", help="Leave nothing out of tables and arrays.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No warnings on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]

def make_request(
    expression: str,
    inputs: Sequence[str] | None,
    *,
    stdin: Callable[[], str] | None,
    grad_outputs: Sequence[str] | None = None,
    tangent: Sequence[str] | None = None,
    wrt: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int | None = 0,
    mode: str = "auto",
    jacobian: str = "auto",
    memory_limit: str | None = None,
    timeout: float | None = None,
    save: str | None = None,
    spectrum: bool = False,
    imports: Sequence[str] | None = None,
) -> Request:
    """The options' texts as a Request; a seed of None is one that was not asked for.

    Raises:
        UsageError: a text that is not in the option's form.
    """
    return Request(
        expression=expression,
        inputs=named_values(inputs or ()),
        wrt=None if wrt is None else names(wrt),
        grad_outputs=tuple(split_name(text) for text in grad_outputs or ()),
        tangent=tuple(split_name(text) for text in tangent or ()),
        dtype=dtype,
        device=device,
        seed=whole("--seed", seed or 0),
        seed_given=seed is not None,
        mode=one_of("--mode", mode, ("auto", "forward", "reverse")),
        jacobian=one_of("--jacobian", jacobian, ("auto", "dense", "sparse", "none")),
        memory_limit=None if memory_limit is None else parse_size(memory_limit),
        timeout=positive("--timeout", timeout),
        save=save,
        spectrum=spectrum,
        imports=tuple(imports or ()),
        stdin=stdin,
    )


def named_values(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts by name."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--input takes NAME=VALUE, not {text!r}")
        if name in values:
            raise UsageError(f"the input {name!r} was given twice")
        values[name] = value
    return values


def split_name(text: str) -> tuple[str | None, str]:
    """`NAME=VALUE` apart; a VALUE alone has no name (`torch.ones(4, dtype=…)` is one, `a==b` too)."""
    match = re.match(r"\s*([^\W\d][\w.]*)=(?!=)", text)
    return (match[1], text[match.end() :]) if match else (None, text)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value, if it is one of those allowed."""
    if value not in allowed:
        raise UsageError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
    return value


def positive(option: str, value: float | None) -> float | None:
    """The value, if it is positive or not given."""
    if value is not None and not value > 0:
        raise UsageError(f"{option} takes a positive number, not {value:g}")
    return value


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise UsageError(f"--wrt takes the names of inputs, as in x,W, not {text!r}")
    return found


def whole(option: str, value: int) -> int:
    """The value, if torch can take it as a seed."""
    if abs(value) >= 2**62:  # every input has a seed of its own, counted from this one
        raise UsageError(f"{option} takes a whole number below 2**62, not {value}")
    return value
