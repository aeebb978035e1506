"""The Python API: the same questions as on the command line, with tensors in and out."""

from __future__ import annotations

import inspect as python
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial, wraps
from operator import is_, itemgetter
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from jvpcli.answers import report_of
from jvpcli.answers.arguments import below, by_name, inputs_of, named, of_module
from jvpcli.answers.jacobian import Question, linear_maps, maps_again, name_of
from jvpcli.errors import JvpError, UsageError, as_error
from jvpcli.jacobians import engine  # noqa: F401  so that the first call is as fast as the next
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.terms import Workspace
from jvpcli.language import may_be_pasted
from jvpcli.language.values import not_dense
from jvpcli.options import ANSWERS, PYTHON, options_of, read, request_fields
from jvpcli.request import Request
from jvpcli.results import CheckResult, DeriveResult, ExplainResult, HessianResult, InspectResult, TraceResult

if TYPE_CHECKING:
    from jvpcli.jacobians.store_maps import StoredMap

P = ParamSpec("P")
T = TypeVar("T")
Expression = str | Callable[..., Any]
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
Wanted = str | int | Sequence[str | int]
"""Names of inputs, or positions of arguments."""
Weights = Any
"""One VALUE, a sequence of them in the order of the outputs (inputs), or a mapping from names to VALUEs."""

OPTIONS = {command: options_of(PYTHON, command) for command in ANSWERS}
"""What each function here takes, read from the table once: a repeated call of a small function is as short as that."""


def recording() -> ExitStack:
    """Inside, autograd records, whatever mode the caller is in: `no_grad`, `inference_mode`."""
    modes = ExitStack()
    modes.enter_context(torch.inference_mode(False))
    modes.enter_context(torch.enable_grad())
    return modes


def _asked(question: Callable[P, T]) -> Callable[P, T]:
    """The question, while autograd records; what a function of the user's own raises comes out of it as itself."""

    @wraps(question)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
                return question(*args, **kwargs)
            with recording():
                return question(*args, **kwargs)
        except Exception as error:
            if isinstance(args[0] if args else kwargs.get("expression"), str):
                raise
            from jvpcli.answers.uncaught import as_own  # loaded only where something has failed

            own = as_own(error)
            if own is error:
                raise
        raise own

    return asked


@_asked
def inspect(
    expression: Expression,
    inputs: Any = None,
    *arguments: Any,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    grad_outputs: Weights = None,
    is_grads_batched: bool = False,
    tangent: Weights = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    mode: str = "auto",
    jacobian: str = "auto",
    memory_limit: int | str | None = None,
    save: str | PathLike[str] | None = None,
    resume: bool = False,
    cluster: Any = None,
    spectrum: bool = False,
    blocks: str | Sequence[int | Sequence[int]] | None = None,
    create_graph: bool = False,
    strict: bool = False,
    ignore: str | Sequence[str] | None = None,
    **named: Any,
) -> InspectResult:
    """Jacobians, VJPs (and JVPs) of an expression or a function at some inputs.

    Args:
        expression: text of the language (also a session or program that asks for a derivative itself, as it stands), or any
            function of tensors.
        inputs: name to VALUE, for names that are also options here; others are given as keywords.  A function gets them by
            position, in its parameters' order where they have the inputs' names and else in the inputs' order;
            keyword-only parameters by name.
        arguments: a function may also be given its arguments as it is called, `inspect(f, x, w, n=3)`: `inputs` is the first then
            (a mapping alone holds inputs by name).  They are named after its parameters.
            Dicts, lists, tuples, named tuples and dataclasses may hold tensors, which are named by key paths as in
            `batch["ids"]`; integer tensors, whole numbers, text, None and other objects are handed on as they are.
        imports: files of yours whose functions and modules the expression may call; they are run.
        wrt: the inputs to differentiate, by name or by position as in `wrt=0` or `wrt=(0, 1)`; that of a dict (or the like)
            means all that it holds.  By default all that are floating or complex.  Of a module also its parameters, by their
            names in `state_dict`, by the submodule that they are in, or by a pattern: `"0.weight"`, `"0"`, `"*.weight"`.
        call: where the expression is a program with several derivative calls, which of them is asked about, counted from 1
            as `report.calls` has them.  By default the last.
        as_python: whether Python itself may run a program of several statements that the language does not read, between
            guards, as the command line does.  They are a weaker wall than the language's: for programs of your own, or of
            people you trust.
        grad_outputs: the cotangent: a VALUE, a list of VALUEs (several outputs), or a mapping by output name.
        is_grads_batched: whether each cotangent has an axis in front, of several; the vjp then has a row for each.
        tangent: a direction for the JVP: a VALUE, a list of VALUEs (several inputs), or a mapping by input name.
        dtype: of numbers and lists; tensors and arrays keep their own.
        device: where the inputs go; None: tensors stay where they are, numbers and arrays go to the CPU.
        seed: makes random functions repeatable (0 where it is not given, unless a program begins with its own); the global
            generator is left as it was.
        mode: "auto", "forward" or "reverse".
        jacobian: "auto", "dense", "sparse" or "none", as on the command line.
        memory_limit: bytes, or text as on the command line, as in "200MB".
        save: a .npz or .npy file to write the Jacobians to; or a .zarr store, to which they are written block by block, however
            large they are.
        resume: whether to go on with a store that is there already: blocks that it has are not computed again.
        cluster: whose workers compute the blocks of a store: a client of Dask's, the address of a scheduler, its scheduler
            file, or "local:2" for two workers here.  Without one they are computed here, one after the other.
        spectrum: whether the report has the leading singular values of each Jacobian.
        blocks: sizes of pieces that outputs and inputs are cut into along their first axes, `(1, 1)`, or `((2, 3), 4)` for two
            axes of an output: the result's `blocks` are then the norms of each Jacobian's blocks.
        create_graph: whether the result's tensors keep a graph to the tensors given, so that they can be differentiated again;
            without it they are constants, and a question inside a function that jvpcli or torch.func differentiates is refused.
        strict: whether an output that does not depend on an input, as far as autograd sees, is refused; else it gives zeros.
        ignore: outputs of a function to leave out, by name: `"y1"`, or `"out.aux"` and all that it holds; of any type.

    Raises:
        JvpError: a subclass for each kind of failure, with the fields of the JSON contract's `error`.
    """
    return InspectResult(_request("inspect", locals()))


@_asked
def jacobian(
    expression: Expression,
    inputs: Any = None,
    *arguments: Any,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    mode: str = "auto",
    memory_limit: int | str | None = None,
    save: str | PathLike[str] | None = None,
    resume: bool = False,
    cluster: Any = None,
    create_graph: bool = False,
    strict: bool = False,
    ignore: str | Sequence[str] | None = None,
    **named: Any,
) -> Mapping[tuple[str, str], LinearMap]:
    """The derivative alone: (output name, input name) to the Jacobian as a linear map.

    A map has `in_shape`, `out_shape`, `structure` and `nnz`; it is applied by `pullback(v)` (vᵀJ) and `pushforward(u)`
    (Ju), and written out by `to_dense()` (a tensor of shape output + input) and `to_scipy()` (SciPy sparse, (m, n)).
    With a .zarr store to `save` to, maps are those of :func:`open`.

    Args: as :func:`inspect`.

    Raises:
        JvpError: a subclass for each kind of failure.
    """
    given = locals()
    asked = _question(given)
    if asked is None:
        maps: Mapping[tuple[str, str], LinearMap] = report_of(
            _request("jacobian", given), lambda request: linear_maps(request, _workspace)
        )
        return maps
    question, tensors, positional = asked
    request = partial(_request, "jacobian", given)
    again = maps_again(question, expression, tensors, positional, request, _workspace)
    return report_of(request(), lambda meant: linear_maps(meant, _workspace, question)) if again is None else again


def _question(given: Mapping[str, Any]) -> tuple[Question, Mapping[str, Tensor], int | None] | None:
    """What is kept of a question for maps, and the inputs, as `_inputs` gives them.

    None where it is asked in a seldom way, or of other than plain tensors.
    """
    function, wrt, limit, forms = given["expression"], given["wrt"], given["memory_limit"], list[Hashable]()
    is_text, inputs = isinstance(function, str), given["inputs"]
    if not all(map(is_, _seldom(given), SELDOM.values())):
        return None
    program = function if is_text else name_of(function)
    if program is None or not (is_text or callable(function)):
        return None
    if is_text and (given["arguments"] or not (inputs is None or isinstance(inputs, dict))):
        return None
    named, positional = _inputs(given)
    for name, x in named.items():
        if type(x) is not Tensor or x.requires_grad or not_dense(x):
            return None
        forms.append((name, x.shape, x.dtype, x.device))
    wanted = tuple([(type(each), each) for each in wrt]) if isinstance(wrt, (list, tuple)) else (type(wrt), wrt)
    options = positional, wanted, given["mode"], type(limit), limit
    try:
        return _known(program, options, tuple(forms)), named, positional
    except TypeError:  # an option that is not in its form: the ordinary way says so
        return None


def _inputs(given: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """What a function is called with, or the inputs of a text, by name; and how many are given by position; None: not so.

    Raises:
        UsageError: an argument of a function is given twice.
    """
    inputs, others = given["inputs"], given.get("arguments", ())
    if not others and (inputs is None or isinstance(inputs, Mapping)):
        return {**(inputs or {}), **given["named"]}, None
    names = named(given["expression"], (inputs, *others))
    for name in given["named"]:
        if name in names:
            raise UsageError(f"the argument {name!r} is given by position and by name")
    return {**names, **given["named"]}, 1 + len(others)


SELDOM = {
    "imports": None, "call": None, "as_python": False, "dtype": "float32", "device": None, "seed": None,
    "save": None, "resume": False, "cluster": None, "create_graph": False, "strict": False, "ignore": None,
}  # fmt: skip
"""What a question is asked without that is known again."""

_seldom = itemgetter(*SELDOM)

PLAIN = ((type(None), None), "auto", type(None), None)
"""What is asked without any option."""


@lru_cache(maxsize=16)
def _known(program: Hashable, options: tuple[Hashable, ...], forms: Hashable) -> Question:
    """The last few questions."""
    return Question(options[1:] == PLAIN)


def open(path: str | PathLike[str]) -> Mapping[tuple[str, str], StoredMap]:
    """The Jacobians in a .zarr store: (output name, input name) to a linear map, of which nothing is read until it is needed.

    A map has `in_shape`, `out_shape`, `nnz`, `norm` and `diagonal`; `J[rows]` is the Jacobian of y[rows] as a tensor,
    `pullback(v)` is vᵀJ, `pushforward(u)` Ju, each read block by block; `to_dask()` is a Dask array (m, n), `to_scipy()`
    SciPy's sparse matrix, `to_dense()` a tensor of shape output + input.

    Args:
        path: the store, as it was given to `save`.

    Raises:
        FileError: there is no such store, or it is not complete.
        UsageError: Zarr is not installed.
    """
    from jvpcli.cluster import check_zarr

    check_zarr("jvpcli.open")
    from jvpcli.jacobians.store_maps import open_maps

    return open_maps(fspath(path))


@lru_cache(maxsize=16)
def _workspace(program: Hashable) -> Workspace:
    """The index arrays and plans of the last few programs that are asked about in a seldom way."""
    return Workspace()


@_asked
def trace(
    expression: Expression,
    inputs: Any = None,
    *arguments: Any,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    grad_outputs: Weights = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    step: int | str | None = None,
    depth: int | None = None,
    memory_limit: int | str | None = None,
    ignore: str | Sequence[str] | None = None,
    **named: Any,
) -> TraceResult:
    """The chain rule step by step: at each operation what arrives, its local Jacobians, and what flows on.

    A function of yours is opened: its steps are the calls of torch that it makes, with their files, lines and modules.

    Args: as :func:`inspect`.
        step: the number of a step whose local Jacobians are written out, or the dotted path of a module whose steps are shown.
        depth: of a model's steps the text shows the modules to this depth; by default as deep as stays readable.

    Raises:
        JvpError: a subclass for each kind of failure.
    """
    given = locals()
    shown = read({"step": step, "depth": depth}, OPTIONS["trace"], PYTHON)
    return TraceResult(_request("trace", given), **shown)


@_asked
def check(
    expression: Expression,
    inputs: Any = None,
    *arguments: Any,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    grad_outputs: Weights = None,
    tangent: Weights = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    mode: str = "auto",
    atol: float | None = None,
    rtol: float | None = None,
    nondet_tol: float | None = None,
    undefined: str = "functions",
    batched: bool = False,
    memory_limit: int | str | None = None,
    ignore: str | Sequence[str] | None = None,
    **named: Any,
) -> CheckResult:
    """Whether the gradient is right: against finite differences in float64, forward against reverse mode.

    Args: as :func:`inspect`; without a `seed` a function that draws random numbers fails the check, and `grad_outputs`
        and `tangent` are the v and u of the dot-product test.
        mode: "reverse" checks the backward pass alone, "forward" forward mode alone (for a function that has a `jvp` and
            no `backward`), "auto" the backward pass, and forward mode where a function has a `jvp` of its own.
        atol, rtol: two numbers agree where they differ by at most atol + rtol·|derivative|; by default as much is let
            pass as the roundings of the function make.  `rtol:` alone counts `atol` as zero, and the other way round.
        nondet_tol: how far two runs of the same may be apart; by default a few roundings.
        undefined: who must bear None where no gradient arrives: "functions" (the backward of an autograd.Function), "all"
            (hooks too) or "none".
        batched: pull many cotangents back at once too, as ``is_grads_batched=True`` does.

    Raises:
        JvpError: a subclass for each kind of failure; a wrong gradient is an answer and no failure.
    """
    return CheckResult(_request("check", locals()))


def _asserting(question: Callable[P, CheckResult]) -> Callable[P, None]:
    """The question as an assertion, of the same arguments."""

    def assert_gradients(*args: P.args, **kwargs: P.kwargs) -> None:
        """Passes where :func:`check` finds the gradient right; for tests.

        Args: as :func:`check`.

        Raises:
            AssertionError: the gradient is wrong; its text is the report.
            JvpError: a subclass for each kind of failure.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        result = question(*args, **kwargs)
        if not result.passed:
            raise AssertionError(str(result))

    assert_gradients.__signature__ = python.signature(question).replace(return_annotation="None")  # type: ignore[attr-defined]
    return assert_gradients


assert_gradients = _asserting(check)


@_asked
def hessian(
    expression: Expression,
    inputs: Any = None,
    *arguments: Any,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    grad_outputs: Weights = None,
    tangent: Weights = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    jacobian: str = "auto",
    memory_limit: int | str | None = None,
    save: str | PathLike[str] | None = None,
    ignore: str | Sequence[str] | None = None,
    **named: Any,
) -> HessianResult:
    """The second derivative of L = ⟨v, y⟩, its product with a direction, and whether it is definite at this point.

    Args: as :func:`inspect`; `grad_outputs` is v, `tangent` the direction u of H u, and `jacobian` says how the Hessian, the
        Jacobian of the gradient, is written out ("none": only products with it are computed).

    Raises:
        JvpError: a subclass for each kind of failure.
    """
    return HessianResult(_request("hessian", locals()))


def explain(text: str) -> ExplainResult:
    """What one of PyTorch's autograd or shape error messages means: why it comes up, and what to do.

    Args:
        text: the message, a traceback or a whole log.

    Raises:
        EvaluationError: the message is unknown; nothing is guessed.
        UsageError: there is no text.
    """
    return ExplainResult(text)


def batch(
    requests: Iterable[Mapping[str, Any]], memory_limit: int | str | None = None, as_python: bool = False
) -> Iterator[dict[str, Any]]:
    """The answers to many requests, one after the other, each the JSON document as plain data.

    They are computed here, in this process, each when it is asked for; `jvp batch` uses several, and can give up on one.
    A request that fails has its error in its place (`ok` is false there), and the rest go on.

    Args:
        requests: dicts with `expression`, `inputs` and the other fields of a line of `jvp batch`; `id` comes back in the answer.
        memory_limit: bytes that each may take, or text as on the command line, as in "200MB".
        as_python: whether Python itself may run programs that the language does not read, as for :func:`inspect`; no request can
            ask for that.

    Raises:
        UsageError: `memory_limit` is no size, or `as_python` is neither true nor false.
    """
    given = {"memory_limit": memory_limit, "as_python": as_python}
    options = read(given, options_of(PYTHON, "batch"), PYTHON)
    return (_answer(fields, options.get("memory_limit"), options.get("as_python", False)) for fields in requests)


def _answer(fields: Mapping[str, Any], most_memory: int | None, may_run: bool) -> dict[str, Any]:
    """The document of one request."""
    from jvpcli.answers.batch import request_of
    from jvpcli.render.json import error_document, to_dict

    identity = {}
    try:
        if not isinstance(fields, Mapping):
            raise UsageError(f"a request is a dict with an `expression`, not {type(fields).__name__}")
        identity = {"id": fields["id"]} if "id" in fields else {}
        request = request_of(fields, may_run)
        if request.timeout is not None:
            raise UsageError(
                "`timeout` can't be kept here: it ends the process, which is yours",
                hints=("`jvp batch` answers each line in a process of its own, and can give up on one",),
            )
        allowed = min((size for size in (request.memory_limit, most_memory) if size), default=None)
        with recording():
            report = report_of(replace(request, memory_limit=allowed))
        return {**identity, **to_dict(report)}
    except JvpError as error:
        return {**identity, **error_document(error)}
    except Exception as error:
        return {**identity, **error_document(as_error(error))}


@_asked
def derive(
    expression: str,
    inputs: Any = None,
    *,
    imports: Paths | None = None,
    wrt: Wanted | None = None,
    call: int | None = None,
    as_python: bool = False,
    grad_outputs: Weights = None,
    tangent: Weights = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    seed: int | None = None,
    shape: Mapping[str, str] | None = None,
    hessian: bool = False,
    memory_limit: int | str | None = None,
    **named: Any,
) -> DeriveResult:
    """The derivative in general: in indices, by cases, as matrices and as PyTorch code, verified against autograd.

    Args: as :func:`inspect`; `expression` is text, `tangent` asks for the product J u too, and `shape` gives inputs by their
        sizes alone, as in {"W": "m,n", "x": "n"}: a letter is any size, the same wherever it stands; `hessian` asks for the
        second derivative of L = ⟨v, y⟩ too.

    Raises:
        JvpError: a subclass for each kind of failure.
    """
    return DeriveResult(_request("derive", locals()))


def _request(command: str, given: Mapping[str, Any]) -> Request:
    """What the arguments of a function ask for, each read as the table of options says; `named` are inputs too.

    Raises:
        UsageError: an argument that is not in its option's form.
    """
    inputs, function = given["inputs"], given["expression"]
    if not (isinstance(function, str) or callable(function)):
        raise UsageError(
            f"what is differentiated is text or a function, not {type(function).__name__}",
            hints=("a tensor that was computed holds its numbers alone: give the function, lambda x: …",)
            if isinstance(function, Tensor) else (),
        )  # fmt: skip
    if isinstance(function, str):
        if given.get("arguments") or not (inputs is None or isinstance(inputs, Mapping)):
            raise UsageError("the inputs of an expression are given by name", hints=("pass them as x=…, or as {\"x\": …}",))
        if given.get("ignore") is not None:
            raise UsageError("ignore is for the results of a function", hints=("leave them out of the expression",))
        given = {**given, "inputs": {**(inputs or {}), **given["named"]}}
        request = Request(**request_fields(given, OPTIONS[command], PYTHON, command))
        may_run = read({"as_python": given["as_python"]}, OPTIONS[command], PYTHON).get("as_python", False)
        if request.call is None and not may_be_pasted(function):
            return request
        from jvpcli.language.pasted import as_meant  # loaded only where a program can be pasted

        return as_meant(request, may_run)
    if given["imports"] is not None:
        raise UsageError("imports are for the text of an expression; a function has imported what it calls")
    if given.get("call") is not None:
        raise UsageError("call picks a derivative call of a program, and a function is none", hints=("leave it out",))
    if given.get("as_python"):
        raise UsageError("as_python is for the text of a program; a function runs as it is", hints=("leave it out",))
    from jvpcli.language.trees import Arguments

    names, positional = _inputs(given)
    wrt = given["wrt"]
    wrt = wrt if wrt is None else by_name(wrt, list(names))
    fields = request_fields({**given, "inputs": names, "wrt": wrt}, OPTIONS[command], PYTHON, command)
    chosen = fields.get("wrt")
    arguments = Arguments(names, positional, fields.get("ignore", ()))
    if isinstance(function, torch.nn.Module):
        fields["expression"], arguments, wanted = of_module(function, arguments, chosen)
        chosen = None if chosen is None else tuple(wanted)
    values = inputs_of(arguments, chosen or ())
    chosen = None if chosen is None else tuple(below(chosen, values))
    return Request(**{**fields, "inputs": values, "wrt": chosen, "arguments": arguments})
