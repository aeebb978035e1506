"""What is asked, as plain data: every door (command line, JSONL, Python) makes one of these."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jvpcli.errors import JvpError, UsageError

if TYPE_CHECKING:
    from jvpcli.report import Call, PassedOver

COMPUTING = ("inspect", "trace", "check", "hessian", "derive")
"""The commands that compute an answer to a Request; a batch gives that to workers."""

Value = Any
"""A VALUE of the contract: text as on the command line, a number, a nested list, an array or a tensor."""


Tell = Callable[[str, int, int], None]
"""Told of progress: what is being done, how many are done, and of how many."""


BlockSizes = tuple[tuple[int, ...], tuple[int, ...]]
"""The sizes of the pieces that an output and an input are cut into, along their first axes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one expression.

    Attributes:
        expression: text of the language, or (from Python only) a function of tensors, or a recorded program as a Problem.
        inputs: NAME to VALUE, in the order given (a later VALUE may use the earlier inputs).
        wrt: the inputs to differentiate; None: all that are floating or complex.
        grad_outputs: (output name or None, VALUE) pairs; without a name they go by the order of the outputs.
        is_grads_batched: whether each cotangent has an axis in front, of several that are pulled back one by one.
        tangent: (input name or None, VALUE) pairs; empty: no JVP is asked for.
        dtype: of numbers and JSON; files and expressions keep their own.
        device: where the inputs go; None: tensors stay where they are, all else is made on the CPU.
        seed: makes random functions repeatable.
        seed_given: whether the seed was asked for; if not, a check tries others too.
        mode: "auto", "forward" or "reverse"; of a check what is checked.
        atol, rtol, nondet_tol: what a check lets pass; None: what the roundings ask for.
        undefined: "functions", "all" or "none": whose backward a check gives undefined cotangents.
        batched: whether a check pulls many cotangents back at once too.
        jacobian: "auto", "dense", "sparse" or "none".
        memory_limit: bytes, or None for three quarters of what the machine has free.
        timeout: seconds, or None.
        save: a file for the Jacobians (.npz or .npy), or a store (.zarr), or None.
        resume: whether a store that is there already is gone on with.
        cluster: whose workers compute the blocks of a store: an address (or a client of Dask's); None: this process.
        spectrum: whether the leading singular values of every Jacobian are asked for.
        blocks: of what blocks of every Jacobian the norms are asked for, or None.
        imports: files of the user's own whose functions the expression calls; they are run.
        create_graph: whether the result's tensors keep a graph to the caller's, so that they can be differentiated again.
        strict: whether an output that does not depend on an input is refused.
        shape: input to its sizes, numbers or letters, where a derivative is asked for in general: "m,n".
        hessian: whether a derivation goes on to the second derivative.
        ignore: names of a Python function's results that are left out.
        arguments: what a Python function is called with (`language.trees.Arguments`); None: its inputs.
        call: which derivative call of a program is asked about, from 1; None: the one that it ends with.
        calls, passed_over: of a program that was read as this request, its derivative calls and what is not carried out of it.
        notes: what is to be said of how it was read.
        all_used: whether an input that no gradient reaches is refused, as the program's call has it in PyTorch.
        pasted: what was asked of a program before it was read; it is run as it stands where the language refuses it.
        runnable: the text of a program that Python could run as it stands, where whoever asks may not have that done.
        refusal: why the language does not read such a program; None: it does, as far as that is known.
        read: is told that the language has read that program, once it is answered as it was read; None where nobody listens.
        command: one of COMPUTING: what is asked, which an error shows in a command that works.
        files: whether a VALUE may name a file to read.
        stdin: reads standard input once, for a VALUE of `-`; None where there is none.
        tell: is told how far a long computation is; None where nobody looks.
    """

    expression: Any
    inputs: Mapping[str, Value] = field(default_factory=dict)
    wrt: tuple[str, ...] | None = None
    grad_outputs: tuple[tuple[str | None, Value], ...] = ()
    is_grads_batched: bool = False
    tangent: tuple[tuple[str | None, Value], ...] = ()
    dtype: str = "float32"
    device: str | None = None
    seed: int = 0
    seed_given: bool = False
    mode: str = "auto"
    atol: float | None = None
    rtol: float | None = None
    nondet_tol: float | None = None
    undefined: str = "functions"
    batched: bool = False
    jacobian: str = "auto"
    memory_limit: int | None = None
    timeout: float | None = None
    save: str | None = None
    resume: bool = False
    cluster: Any = None
    spectrum: bool = False
    blocks: BlockSizes | None = None
    imports: tuple[str, ...] = ()
    create_graph: bool = False
    strict: bool = False
    shape: Mapping[str, str] = field(default_factory=dict)
    hessian: bool = False
    ignore: tuple[str, ...] = ()
    arguments: Any = None
    call: int | None = None
    calls: tuple[Call, ...] | None = None
    passed_over: tuple[PassedOver, ...] | None = None
    notes: tuple[str, ...] = ()
    all_used: bool = False
    pasted: Request | None = None
    runnable: str | None = None
    refusal: JvpError | None = None
    read: Callable[[], None] | None = None
    command: str = "inspect"
    files: bool = True
    stdin: Callable[[], str] | None = None
    tell: Tell | None = None

    def checked(self) -> Request:
        """As a check takes several v: none of them is special, and many are pulled back at once besides."""
        return replace(self, is_grads_batched=False, batched=True, grad_outputs=()) if self.is_grads_batched else self


def is_store(path: str | None) -> bool:
    """Whether a place to save to is a Zarr store, a directory, and not one file."""
    return path is not None and path.rstrip("/\\").endswith(".zarr")


UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_size(text: str, name: str) -> int:
    """Bytes: `200MB`, `2GiB`, `1e9`; `name` is what the option is called where it was given.

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([kmgt]?i?b?)\s*", text, re.IGNORECASE)
    size = float(match[1]) * UNITS.get(match[2].lower(), 0) if match else 0.0
    if not 1 <= size < float("inf"):
        raise UsageError(f"{name} takes a size such as 200MB or 2GiB, not {text!r}")
    return int(size)
