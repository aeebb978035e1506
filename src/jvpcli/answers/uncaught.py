"""An error that ended a user's program, explained from the very operands: which sub-expression, which shapes, what cut the graph.

What the recording proves of the cause comes first, and stands alone; only where it proves nothing, the usual causes are listed.
"""

from __future__ import annotations

import ast
import math
import re
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from jvpcli.errors import EvaluationError, JvpError, ShapeMismatchError
from jvpcli.language.values import dtype_name
from jvpcli.messages.matcher import Raised, advice, explanation, find
from jvpcli.recording.derivatives import leaves, names_of_frame, read_call
from jvpcli.recording.nodes import FREED, graph_nodes, node_of
from jvpcli.recording.places import TORCH, Place, Point, frames_of, is_library, pieces, place_of
from jvpcli.recording.recorder import DERIVATIVES, Attempt, Call, Cut, Given, Recorder, Result
from jvpcli.recording.tape import operation_of
from jvpcli.report.lookup import Explanation

MOST_OPERANDS = 12
"""Tensors that are listed."""

MOST_CITED = 3
"""Places that a sentence lists."""

LONGEST_TEXT = 40
"""Characters of the text of another place."""

WIDTHS = ("in_features", "in_channels", "num_features", "input_size", "embed_dim", "num_channels")
"""What torch's modules call the number of features that they are made for."""


@dataclass(frozen=True)
class Operand:
    """A tensor of the failing sub-expression, as the program calls it, and where it was made."""

    name: str
    tensor: Tensor
    made: Place | None

    @property
    def line(self) -> str:
        """Its shape, dtype, whether a gradient reaches it, and where it was made."""
        x, node = self.tensor, node_of(self.tensor)
        grad = f", {node.name()}" if node is not None else ", requires_grad" if x.requires_grad else ", no gradient"
        made = f"   {_told(self.made.short, shortened(self.made.text))}" if self.made is not None else ""
        return f"shape {tuple(x.shape)}, {dtype_name(x.dtype)}{grad}{made}"


def shortened(text: str) -> str:
    """A text that may be long, in one line."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


@dataclass(frozen=True)
class Cause:
    """What the recording proves of an error's cause: in words, where it is, and what helps; not `whole`: its place alone."""

    words: str
    place: Place | None = None
    cure: str | None = None
    whole: bool = True


def explained_chain(error: BaseException, recorder: Recorder | None) -> JvpError | None:
    """What an uncaught error means, or else the one that it came up over, which stands above it in the traceback."""
    met: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in met:
        found = explained(here, recorder)
        if found is not None:
            return found
        met.add(id(here))
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    return None


def explained(error: BaseException, recorder: Recorder | None) -> JvpError | None:
    """What an error means; None where nothing is known of it.

    Its place is the innermost frame of the user's own; the operands are those that the call of torch that raised it was given.
    Without a recorder they are those that the sub-expression names, and nothing is said of what came before.
    """
    own = [trace for trace in frames_of(error) if not is_library(trace.tb_frame.f_code.co_filename)]
    if not own:
        return None
    place, text = place_of(own[-1]), str(error).strip()
    attempt = recorder.failed if recorder is not None else None
    attempt = attempt if attempt is not None and attempt.error is error else None
    match = find(Raised(type(error).__name__, text, "".join(traceback.format_tb(error.__traceback__))))
    if match is None and attempt is None and not _is_torch_s(error):
        return None
    operands = list(_operands(attempt, own[-1], place, recorder))
    op = "" if attempt is None else operation_of(attempt.function)
    known = None if match is None else explanation(match, tuple((o.name, tuple(o.tensor.shape)) for o in operands), op)
    cause = None if recorder is None else _cause(text, recorder, attempt, operands, own[-1], place)
    proved = cause is not None and cause.whole
    kind = ShapeMismatchError if match is not None and match.is_about_shapes else EvaluationError
    first = text.splitlines()[0] if text else type(error).__name__
    shown = place if cause is None or cause.place is None else cause.place
    lines = [_where(place, attempt, recorder)] if shown == place else [_where(shown), f"raised at {_where(place)}"]
    return kind(
        message=known.title if known else f"{place.text or place.short} failed: {first}",
        explanation="\n".join(filter(None, (cause.words if cause else "", known.meaning if known else ""))),
        hints=_hints(cause if proved else None, known),
        span=shown.span if shown.source else None,  # code that was made as the program ran may have no text
        source=shown.source or None,
        torch_message=text or None,
        details=(*lines, *_table(operands)),
        operands=tuple(
            {"text": o.name, "shape": list(o.tensor.shape), "dtype": dtype_name(o.tensor.dtype)} for o in operands
        ),
        causes=known.causes if known and not proved else (),
        cures=known.cures if known and not proved else (),
    )


def _is_torch_s(error: BaseException) -> bool:
    """Whether it was raised by Python code of torch itself, and not by what that has called, here or in another process."""
    code = frames_of(error)[-1].tb_frame.f_code
    told = isinstance(error, (RuntimeError, ValueError, TypeError, AssertionError))
    return told and code.co_filename.startswith(TORCH) and code.co_name != "reraise"


def _hints(cause: Cause | None, known: Explanation | None) -> tuple[str, ...]:
    if cause is not None:
        return () if cause.cure is None else (cause.cure,)
    return advice(known) if known else ()


def _where(place: Place, attempt: Attempt | None = None, recorder: Recorder | None = None) -> str:
    """`train.py:12, in forward, module encoder.0: self.fc(x)`."""
    function = "" if place.function == "<module>" else f", in {place.function}"
    module = "" if attempt is None or recorder is None else recorder.path_of(attempt.modules)
    return _told(f"{place.short}{function}{f', module {module}' if module else ''}", place.text)


def _told(where: str, text: str) -> str:
    return f"{where}: {text}" if text else where


def _table(operands: Sequence[Operand]) -> Iterator[str]:
    shown = operands[:MOST_OPERANDS]
    width = max((len(o.name) for o in shown), default=0)
    for o in shown:
        yield f"  {o.name.ljust(width)}  {o.line}"
    if len(operands) > len(shown):
        yield f"  and {len(operands) - len(shown)} more"


# The operands


def _operands(
    attempt: Attempt | None, trace: TracebackType, place: Place, recorder: Recorder | None
) -> Iterator[Operand]:
    """The tensors that the failing call was given; where no call of torch failed, those that the sub-expression names."""
    if attempt is None:
        for name, x in _named_in(place, trace, Tensor):
            yield Operand(name, x, _made_before(x, recorder, place))
        return
    if attempt.function in DERIVATIVES:
        call = read_call(attempt.function, attempt.arguments, attempt.keywords, (attempt.point, trace.tb_frame))
        shown = {**call.outputs, **(call.inputs if attempt.function is torch.autograd.grad else {})}
        for name, v in zip(call.outputs, call.grad_outputs or (), strict=False):
            shown |= {} if v is None else {f"v for {name}": v}
        for name, x in shown.items():
            yield Operand(name, x, _made_before(x, recorder, place))
        return
    known, texts = names_of_frame(trace.tb_frame), _texts(place, attempt)
    tensors = {id(x): x for x in pieces((attempt.arguments, attempt.keywords)) if isinstance(x, Tensor)}
    for number, (key, x) in enumerate(tensors.items()):
        made = _made_before(x, recorder, place)
        written = known.get(key) or texts.get(key) or (made.text if made is not None else None) or _role(attempt, x)
        yield Operand(written or f"operand {number}", x, made)


def _made(x: Tensor, recorder: Recorder) -> Place | None:
    """Where a tensor was made, if that was seen."""
    origin = recorder.origin(x)
    return origin.call.place if isinstance(origin, Result) else None


def _made_before(x: Tensor, recorder: Recorder | None, place: Place) -> Place | None:
    """Where a tensor was made, if that was seen and is another place."""
    found = None if recorder is None else _made(x, recorder)
    return None if found is None or (found.file, found.line) == (place.file, place.line) else found


def _texts(place: Place, attempt: Attempt) -> dict[int, str]:
    """By `id` how the operands are written, where the place is the very call."""
    node, parts = place.node, list[ast.expr]()
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and _calls(node, attempt):
        method = isinstance(node.func, ast.Attribute) and operation_of(attempt.function).startswith("method:")
        parts = [node.func.value, *node.args] if method and isinstance(node.func, ast.Attribute) else list(node.args)
    elif isinstance(node, ast.AugAssign):
        parts = [node.target, node.value]
    elif isinstance(node, ast.Subscript):
        parts = [node.value, node.slice]
    found: dict[int, str] = {}
    for part, value in zip(parts, attempt.arguments, strict=False):
        if isinstance(value, Tensor):
            found[id(value)] = ast.unparse(part)
        elif isinstance(value, (tuple, list)) and isinstance(part, (ast.Tuple, ast.List)):
            found |= {id(x): ast.unparse(p) for p, x in zip(part.elts, value, strict=False) if isinstance(x, Tensor)}
    return found


def _calls(node: ast.Call, attempt: Attempt) -> bool:
    """Whether a call is written under the name of the function that failed, and is not one that led to it."""
    written = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return bool(written) and written == getattr(attempt.function, "__name__", "")


def _role(attempt: Attempt, x: Tensor) -> str | None:
    """What the parameter is called that a tensor was given for."""
    by_name = next((str(name) for name, value in attempt.keywords.items() if value is x), None)
    return by_name or ("input" if attempt.arguments and attempt.arguments[0] is x else None)


Named = TypeVar("Named", Tensor, nn.Module)


def _named_in(place: Place, trace: TracebackType, kind: type[Named]) -> Iterator[tuple[str, Named]]:
    """The tensors or modules that a sub-expression names, as they are in the frame; nothing of it is run."""
    from pure_eval import Evaluator

    evaluator, seen = Evaluator.from_frame(trace.tb_frame), set[int]()
    for node in ast.walk(place.node) if place.node is not None else ():
        if not isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            continue
        try:
            value = evaluator[node]
        except Exception:  # it can't be told without running it
            continue
        if isinstance(value, kind) and id(value) not in seen:
            seen.add(id(value))
            yield ast.unparse(node), value


# What the recording proves: what cut the graph, what was changed in place, which pass freed it, which layer is too narrow


def _cause(
    text: str,
    recorder: Recorder,
    attempt: Attempt | None,
    operands: Sequence[Operand],
    trace: TracebackType,
    place: Place,
) -> Cause | None:
    if "does not require grad" in text:
        ends = (end_of_graph(o.name, o.tensor, recorder) for o in operands if not o.tensor.requires_grad)
        return next((end for end in ends if end is not None), None)
    if "not have been used in the graph" in text:
        return _unused(recorder, attempt, trace)
    if "inplace operation" in text:
        return _written(text, recorder)
    if "a second time" in text:
        return _freed(operands)
    if "optimize a non-leaf" in text or "deepcopy protocol" in text:
        return _computed(trace, recorder)
    if "empty parameter list" in text:
        return _unregistered(place, trace)
    if (function := re.search(r"unction (\w+)Backward returned an i", text)) is not None:
        return _applied(function[1], operands, recorder)
    if "NoneType" in text:
        return _no_gradient(place, trace, recorder)
    if "index out of range in self" in text:
        return _beyond(attempt, operands)
    return _made_with(place, trace) or (None if attempt is None else _narrow(recorder, attempt))


def end_of_graph(name: str, x: Tensor, recorder: Recorder) -> Cause | None:
    """Where the graph of a tensor ends; None where nothing of it was seen."""
    origin = recorder.origin(x)
    if isinstance(origin, Given):
        return Cause(f"{name} is a leaf that was made without requires_grad=True: no step made it.")
    call = _cutting(origin) or _number_behind(origin.call, recorder)
    made = _made_of_numbers(origin.call) if call is None else None
    source = _taken_out(recorder) if made is not None else None
    if made is not None and source is not None:
        place, left = made.place, source.place
        if place is not None and left is not None:
            return Cause(
                f"{name} carries no gradient: {place.cited}, makes a tensor of plain numbers, which have no "
                f"graph. Numbers were taken out of a graph at {left.cited}.",
                place if left.line == place.line else left,
                "stay with tensors: they can be added up like numbers",
            )
    if call is None:
        none = f"{name} carries no gradient: no step on the way to it was given a tensor that requires grad"
        return _hidden(name, origin.call) or _frozen(none, origin.call, recorder) or Cause(f"{none}.")
    place, function = call.place, getattr(call.function, "__name__", "")
    where = place.cited if place is not None else f"a call of {function}"
    if not call.recorded:
        return Cause(
            f"{name} carries no gradient: the graph ends at {where}, which runs under torch.no_grad().",
            place,
            "compute it outside of torch.no_grad()",
        )
    why, cure = _why(function)
    return Cause(f"{name} carries no gradient: the graph ends at {where}: {why}.", place, cure)


def _why(function: str) -> tuple[str, str | None]:
    """Why no gradient comes out of a call of a function, and what would keep it."""
    if function in ("detach", "detach_", "__get__"):
        return "what comes out counts as a constant", "leave it out where the gradient should pass"
    if function in ("item", "tolist", "__float__", "__int__", "__index__"):
        return "it gives plain numbers", "stay with tensors: they can be used like numbers"
    if function in ("argmax", "argmin", "argsort"):
        return "it gives places, which are whole numbers", "amax, amin, sort and softmax have derivatives"
    if function == "grad":
        return "it was called without create_graph=True, so its result counts as a constant", "create_graph=True in that call"
    if function in ("tensor", "as_tensor", "asarray", "scalar_tensor", "new_tensor"):
        return "it copies numbers alone", "torch.stack([a, b]) makes one tensor of several and keeps the graph"
    if function in ("gt", "lt", "ge", "le", "eq", "ne", "__gt__", "__lt__", "__ge__", "__le__", "__eq__", "__ne__"):
        return "it gives booleans", "torch.where(condition, a, b) picks between two values, and the gradient flows through those"
    return "what it gives carries no gradient", None


def _cutting(origin: Any) -> Call | None:
    """The last call on the way to a tensor that was given something with a gradient and gave something without."""
    waiting, seen = [origin], set[int]()
    while waiting:
        here = waiting.pop(0)
        if not isinstance(here, Result) or here.call.number in seen:
            continue
        seen.add(here.call.number)
        if _cuts(here.call):
            return here.call
        waiting += pieces((here.call.arguments, here.call.keywords))
    return None


def _cuts(call: Call) -> bool:
    """Whether a call was given something with a gradient and gave something without."""
    parts = pieces((call.arguments, call.keywords))
    return not call.differentiable and any(isinstance(o, Cut) or (isinstance(o, Given) and o.tensor.requires_grad) for o in parts)


FACTORIES = ("tensor", "as_tensor", "asarray", "scalar_tensor", "new_tensor", "full", "from_numpy")


def _made_of_numbers(call: Call) -> Call | None:
    """The call on the way to a tensor that made one of plain numbers."""
    return next((here for here in _back_from(call) if getattr(here.function, "__name__", "") in FACTORIES), None)


def _hidden(name: str, call: Call) -> Cause | None:
    """The first Function on the way to a tensor that runs something of the program's, and is given nothing with a gradient."""
    found = [
        here
        for here in _back_from(call)
        if _function_of(here) is not None and any(map(callable, pieces(here.arguments))) and not here.differentiable
    ]
    if not found or (place := min(found, key=lambda here: here.number).place) is None:
        return None
    return Cause(
        f"{name} carries no gradient: the graph ends at {place.cited}. What runs there is not recorded, and counts only where "
        "one of the tensors that it is given requires grad: none does.",
        place,
        "use_reentrant=False, which records what runs inside" if _function_of(found[0]) is CheckpointFunction else None,
    )


def _function_of(call: Call) -> Any:
    """The Function that a call applies."""
    owner = getattr(call.function, "__self__", None)
    return owner if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) else None


def _frozen(none: str, call: Call, recorder: Recorder) -> Cause | None:
    """Where the tensors on the way to a result were told to require no gradient."""
    given = {id(o.tensor): o.tensor for c in _back_from(call) for o in pieces((c.arguments, c.keywords)) if isinstance(o, Given)}
    places = [place for x in given.values() if (place := recorder.frozen_at(x)) is not None]
    if not places:
        return None
    told = "1 tensor there was" if len(places) == 1 else f"{len(places)} tensors there were"
    counted = Counter(place.cited for place in places).most_common()
    most = counted[0][0]
    parts = [f"{count} at {cited}" for cited, count in counted[:MOST_CITED]] + ["others elsewhere"] * (len(counted) > MOST_CITED)
    where = f", at {most}" if len(counted) == 1 else f": {'; '.join(parts)}"
    return Cause(
        f"{none}: {told} told to require none{where}.",
        next(place for place in places if place.cited == most),
        "leave out there what is to be trained, or requires_grad_(True) on it afterwards",
    )


def _taken_out(recorder: Recorder) -> Call | None:
    """The last call that gave plain numbers of something with a gradient; else what cut those off that were taken out last."""
    return _first_cut([call for _, call in reversed(recorder.numbers)])


def _first_cut(calls: Sequence[Call]) -> Call | None:
    """Of calls that gave plain numbers the first that was given something with a gradient; else what cut that off before one."""
    direct = next(filter(_cuts, calls), None)
    return direct or next((cut for call in calls if (cut := _cutting(Result(call, ()))) is not None), None)


def _number_behind(call: Call, recorder: Recorder) -> Call | None:
    """The call that cut a plain number out of a graph from which another call made its tensor anew."""
    parts = [part for here in _back_from(call) for part in pieces((here.arguments, here.keywords))]
    # a whole number may be the same object by chance: Python keeps small ones
    sources = {id(v): source for value, source in recorder.numbers for v in pieces(value) if isinstance(v, float)}
    return _first_cut([sources[id(part)] for part in parts if isinstance(part, float) and id(part) in sources])


def _back_from(call: Call) -> Iterator[Call]:
    """The call, then those whose results it was given, and so on, each once."""
    waiting, seen = [call], set[int]()
    while waiting:
        here = waiting.pop()
        if here.number in seen:
            continue
        seen.add(here.number)
        yield here
        waiting += [part.call for part in pieces((here.arguments, here.keywords)) if isinstance(part, Result)]


def _unused(recorder: Recorder, attempt: Attempt | None, trace: TracebackType) -> Cause | None:
    """Which of the inputs of a derivative call its outputs do not depend on."""
    if attempt is None:
        return None
    call = read_call(attempt.function, attempt.arguments, attempt.keywords, (attempt.point, trace.tb_frame))
    nodes, outputs = graph_nodes(call.outputs.values()), ", ".join(call.outputs)
    for name, x in call.inputs.items():
        if any(getattr(n, "variable", None) is x for n in nodes) or node_of(x) in nodes:
            continue
        made = _made(x, recorder) if node_of(x) is not None else None  # a leaf was made where it had to be
        where = f": it was made at {made.cited}" if made is not None else ""
        met = leaves(call.outputs.values())
        named = sorted(call.names[id(leaf)] for leaf in met if id(leaf) in call.names)[:MOST_CITED]
        more = f" and {len(met) - len(named)} more" if len(met) > len(named) else ""
        source = f" Of what requires grad, {outputs} was computed from {', '.join(named)}{more}." if named else ""
        return Cause(f"No step from {name} leads to {outputs}{where}.{source}", made)
    return None


def _written(text: str, recorder: Recorder) -> Cause | None:
    """The change in place that the message speaks of."""
    shape = re.search(r"Tensor \[([\d, ]*)\]\]", text)
    version = re.search(r"expected version (\d+)", text)
    producer = re.search(r"output \d+ of ([\w:]+)", text)
    if shape is None or version is None:
        return None
    sizes = tuple(int(n) for n in re.findall(r"\d+", shape[1]))
    shapes = (sizes, sizes[::-1]) if "AsStrided" in text else (sizes,)  # of a view's base the message tells no shape
    fitting = [w for w in recorder.writes if w.before >= int(version[1]) and w.shape in shapes]
    named = [w for w in fitting if producer is not None and _bare(w.producer) == _bare(producer[1])]
    chosen = (named or fitting)[:1]
    if not chosen or chosen[0].point is None:
        return None
    place = chosen[0].point.place()
    updated = not chosen[0].producer  # a leaf, which is changed under no_grad alone
    return Cause(
        f"It was changed in place at {place.cited}, after a step had kept it for its own derivative.",
        place,
        "compute what depends on it anew after the change, or change it after the last backward pass that needs it"
        if updated
        else "make a new tensor there instead: y = y + 1, not y += 1; torch.where or torch.cat, not y[i] = …",
    )


def _bare(node: str) -> str:
    """`SigmoidBackward0` and `Sigmoid` are the same node."""
    return node.rpartition("::")[2].removesuffix("0").removesuffix("Backward")


def _freed(operands: Sequence[Operand]) -> Cause | None:
    """The earlier backward pass that went through a part of the same graph."""
    marks = [n.metadata[FREED] for n in graph_nodes(o.tensor for o in operands) if FREED in n.metadata]
    point = next((mark for mark in marks if mark is not None), None)
    if point is None:
        return None
    place = point.place()
    return Cause(
        f"The backward pass at {place.cited}, went through {len(marks)} of the same steps before, and freed what "
        "they had kept.",
        place,
        "retain_graph=True in the earlier call, or one call for the sum of both; what an earlier turn of a loop computed and "
        "this one goes on from is cut off by .detach()",
    )


def _applied(name: str, operands: Sequence[Operand], recorder: Recorder) -> Cause | None:
    """The one step on the way to a tensor that applies a Function of this name."""
    origins = [origin for o in operands if isinstance(origin := recorder.origin(o.tensor), Result)]
    calls = [call for origin in origins for call in _back_from(origin.call)]
    found = [call.place for call in calls if getattr(_function_of(call), "__name__", "") == name]
    places = {place.cited: place for place in found if place is not None}
    if len(places) != 1:
        return None  # the message doesn't say which of them
    (cited, place), *_ = places.items()
    return Cause(f"{name} was applied at {cited}.", place, whole=False)


def _no_gradient(place: Place, trace: TracebackType, recorder: Recorder) -> Cause | None:
    """Why `x.grad` in a sub-expression is None."""
    from pure_eval import Evaluator

    evaluator = Evaluator.from_frame(trace.tb_frame)
    for node in ast.walk(place.node) if place.node is not None else ():
        if not (isinstance(node, ast.Attribute) and node.attr == "grad"):
            continue
        name = ast.unparse(node.value)
        try:
            x = evaluator[node.value]
        except Exception:  # it can't be told without running it
            continue
        if not isinstance(x, Tensor) or (node_of(x) is None and x.grad is not None):
            continue
        if not x.requires_grad:
            return end_of_graph(name, x, recorder) or Cause(f"{name} does not require grad, so it gets no gradient.")
        if node_of(x) is not None:
            made = _made(x, recorder)
            where = f"at {made.cited}" if made is not None else "by a step"
            words = f"{name}.grad is None: {name} is no leaf, it was computed {where}, and only leaves keep their gradient."
            return Cause(words, made, f"{name}.retain_grad() before the backward pass; or torch.autograd.grad(loss, {name})")
        if recorder.last_pass is None:
            return Cause(f"{name}.grad is None: no backward pass has run yet.", None, "call loss.backward() before it")
        last = _at(recorder.last_pass)
        return Cause(f"{name}.grad is None: no backward pass has reached it since it was made or cleared; the last was {last}.")
    return None


def _computed(trace: TracebackType, recorder: Recorder) -> Cause | None:
    """By which step the tensor was computed that an optimizer refuses; torch's own frame, which raised, has it."""
    inner, names = trace, names_of_frame(trace.tb_frame)
    while inner.tb_next is not None:
        inner = inner.tb_next
    for x in inner.tb_frame.f_locals.values():
        made = _made(x, recorder) if isinstance(x, Tensor) and node_of(x) is not None else None
        if made is not None:
            return Cause(f"{names.get(id(x), 'A tensor of them')} was computed at {made.cited}.", made, whole=False)
    return None


def _unregistered(place: Place, trace: TracebackType) -> Cause | None:
    """The plain list or dict of layers in a module that a sub-expression names, whose parameters it does not know."""
    for name, module in _named_in(place, trace, nn.Module):
        for path, owner in module.named_modules(prefix=name):
            for key, value in vars(owner).items():
                held = [] if key.startswith("_") else [x for x in pieces(value) if isinstance(x, (nn.Module, nn.Parameter))]
                if not held or not isinstance(value, (list, tuple, dict)):
                    continue
                kind = "Module" if isinstance(held[0], nn.Module) else "Parameter"
                made = f"nn.{kind}{'Dict' if isinstance(value, dict) else 'List'}"
                return Cause(
                    f"{path}.{key} is a plain {type(value).__name__}: what it holds, {len(held)} in all, is not registered, and "
                    f"{name} has no other parameters.",
                    None,
                    f"{made}(…) around it where {path}.{key} is made",
                )
    return None


def _at(point: Point | None) -> str:
    if point is None:
        return "not in your code"
    place = point.place()
    return f"at {place.cited}"


def _beyond(attempt: Attempt | None, operands: Sequence[Operand]) -> Cause | None:
    """The first index that a table has no row for."""
    if attempt is None or attempt.function is not nn.functional.embedding or len(operands) < 2:
        return None
    ids, table = operands[0].tensor, operands[1]
    outside = ((ids < 0) | (ids >= len(table.tensor))).nonzero()
    if not len(outside):
        return None
    at, last = tuple(outside[0].tolist()), len(table.tensor) - 1
    index = f"{operands[0].name}{list(at) if at else ''}"
    return Cause(f"{index} is {int(ids[at])}, and {table.name} has the rows 0 to {last}.", whole=False)


def _made_with(place: Place, trace: TracebackType) -> Cause | None:
    """A module that is made of tensors where it was to be called with them."""
    from pure_eval import Evaluator

    node, evaluator = place.node, Evaluator.from_frame(trace.tb_frame)
    try:
        made = evaluator[node.func] if isinstance(node, ast.Call) else None
    except Exception:  # it can't be told without running it
        return None
    if not isinstance(node, ast.Call) or not (isinstance(made, type) and issubclass(made, nn.Module)):
        return None
    if not any(True for _ in _named_in(place, trace, Tensor)):
        return None
    kind, given = ast.unparse(node.func), ", ".join(map(ast.unparse, node.args))
    return Cause(f"{kind}(…) makes a module, it does not call one.", None, f"{kind}()({given}): make it, then call what was made")


def _narrow(recorder: Recorder, attempt: Attempt) -> Cause | None:
    """The layer that is made for another number of features than it gets."""
    module = attempt.modules[-1] if attempt.modules else None
    attribute = next((name for name in WIDTHS if isinstance(getattr(module, name, None), int)), None)
    first = next((x for x in pieces(attempt.arguments) if isinstance(x, Tensor)), None)
    if module is None or attribute is None or first is None or not first.dim():
        return None
    wanted = getattr(module, attribute)
    axis = _feature_axis(module, attribute, first)
    if axis is None or first.shape[axis] == wanted:
        return None
    path, kind, got = recorder.path_of(attempt.modules), type(module).__name__, first.shape[axis]
    called = f"{kind} {path}" if path else f"the {kind}"
    wider = f"{attribute}={got} where the {kind} is made, or {wanted} features from the step before it"
    moved = _rearranged(first, axis, wanted)
    return Cause(
        f"{called} was made for {attribute}={wanted} and gets {got}, the size of axis {axis} of its input.",
        None,
        f"{moved}; else {wider}" if moved else wider,
    )


def _rearranged(x: Tensor, axis: int, wanted: int) -> str | None:
    """What brings the features of a tensor to an axis, where they may stand on others of it."""
    shape = tuple(x.shape)
    others = [k for k, size in enumerate(shape) if size == wanted and k != axis]
    if others:
        return f"transpose({axis}, {others[-1]}) before it, if axis {others[-1]} holds the {wanted} features"
    joined = [k for k in range(1, len(shape) - 1) if math.prod(shape[k:]) == wanted]
    if joined and axis == len(shape) - 1:
        return f"flatten({joined[0]}) before it: axes {joined[0]} to {axis} hold {wanted} features together"
    return None


def _feature_axis(module: nn.Module, attribute: str, x: Tensor) -> int | None:
    """Which axis of a module's input holds its features."""
    if attribute in ("in_features", "input_size", "embed_dim"):
        return x.dim() - 1
    spatial = re.search(r"([123])d$", type(module).__name__)
    if spatial is None:
        return 1 if x.dim() > 1 else None
    axes = int(spatial[1])
    if attribute == "num_features":
        return 1 if x.dim() in (2, axes + 2) else None
    return {axes + 1: 0, axes + 2: 1}.get(x.dim())
