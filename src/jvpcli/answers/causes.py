"""What the recording proves of an error's cause: what cut the graph, what was changed in place, which layer is too narrow."""

from __future__ import annotations

import ast
import inspect
import linecache
import math
import re
from collections.abc import Callable, Sequence
from types import FunctionType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from jvpcli.answers.graph_ends import MOST_CITED, Cause, back_from, end_of_graph, function_of, taken_out
from jvpcli.answers.operands import Operand, made_at, named_in
from jvpcli.recording.calls import Attempt, Result, Write
from jvpcli.recording.derivatives import Derivative, leaves, names_of_frame, read_call
from jvpcli.recording.nodes import FREED, MADE, graph_nodes, node_of
from jvpcli.recording.places import Place, Point, frames_of, is_library, pieces
from jvpcli.recording.recorder import DERIVATIVES, Recorder, path_of
from jvpcli.recording.tape import NotRecorded, problem_of

WIDTHS = ("in_features", "in_channels", "num_features", "input_size", "embed_dim", "num_channels")
"""What torch's modules call the number of features that they are made for."""

OWN = frozenset(vars(nn.Module()))
"""Where a module keeps what is registered, and the rest of its own."""


def cause_of(
    text: str,
    recorder: Recorder,
    attempt: Attempt | None,
    operands: Sequence[Operand],
    trace: TracebackType,
    place: Place,
) -> Cause | None:
    """What the recording proves of an error's cause, by its text; None where it proves nothing."""
    constant = ((o.name, made_at(o.tensor, recorder)) for o in operands if not o.tensor.requires_grad)
    ends = (end_of_graph(o.name, o.tensor, recorder) for o in operands if not o.tensor.requires_grad)
    function = re.search(r"unction (\w+)Backward returned an i", text)
    told: Sequence[tuple[str, Callable[[], Cause | None]]] = (
        ("differentiated Tensors does not require grad",
         lambda: next((_constant(x, made) for x, made in constant if made is not None), None)),
        ("does not require grad", lambda: next((end for end in ends if end is not None), None)),
        ("not have been used in the graph", lambda: _unused(recorder, attempt, trace)),
        ("nference tensor", lambda: _inferred(operands, recorder)),
        ("returned nan values in its", lambda: _became_nan(recorder, attempt, trace)),
        ("torch.utils.checkpoint:", lambda: _run_again(trace)),
        ("inplace operation", lambda: _written(text, recorder)),
        ("a second time", lambda: _freed(operands, recorder)),
        ("optimize a non-leaf|deepcopy protocol", lambda: _computed(trace, recorder)),
        ("empty parameter list", lambda: _unregistered(place, trace)),
        (r"unction \w+Backward returned an i",
         lambda: _applied(lambda f: function is not None and f.__name__ == function[1], "was", operands, recorder)),
        ("implement either the backward or vjp",
         lambda: _applied(lambda f: f.backward is f.vjp is Function.backward, "has no backward; it was", operands, recorder)),
        ("NoneType", lambda: _no_gradient(place, trace, recorder) or _nothing(place, trace)),
        ("must be Tensor, not (tuple|dict)", lambda: _several(place, trace)),
        (r"'(float|int)' object has no attribute", lambda: _plain_number(recorder)),
        ("view size is not compatible", lambda: _copied(place)),
        ("index out of range in self", lambda: _beyond(attempt, operands)),
    )  # fmt: skip
    for pattern, find in told:
        if re.search(pattern, text):
            return find()
    if attempt is None:
        return None
    return misfit(attempt.modules, [x for x in pieces(attempt.arguments) if isinstance(x, Tensor)])


def _unused(recorder: Recorder, attempt: Attempt | None, trace: TracebackType) -> Cause | None:
    """Which of the inputs of a derivative call its outputs do not depend on."""
    if attempt is None:
        return None
    call = _call_of(attempt, trace)
    nodes, outputs = graph_nodes(call.outputs.values()), ", ".join(call.outputs)
    for name, x in call.inputs.items():
        if any(getattr(n, "variable", None) is x for n in nodes) or node_of(x) in nodes:
            continue
        made = made_at(x, recorder) if node_of(x) is not None else None  # a leaf was made where it had to be
        where = f": it was made at {made.cited}" if made is not None else ""
        met = leaves(call.outputs.values())
        named = sorted(call.names[id(leaf)] for leaf in met if id(leaf) in call.names)[:MOST_CITED]
        more = f" and {len(met) - len(named)} more" if len(met) > len(named) else ""
        source = f" Of what requires grad, {outputs} was computed from {', '.join(named)}{more}." if named else ""
        return Cause(f"No step from {name} leads to {outputs}{where}.{source}", made)
    return None


def _call_of(attempt: Attempt, trace: TracebackType) -> Derivative:
    """The derivative call that raised."""
    return read_call(attempt.function, attempt.arguments, attempt.keywords, (attempt.point, trace.tb_frame))


def _inferred(operands: Sequence[Operand], recorder: Recorder) -> Cause | None:
    """Where a tensor was made under inference_mode that takes part in what is differentiated."""
    for o in operands:
        made = made_at(o.tensor, recorder) if o.tensor.is_inference() else None
        if made is not None:
            words = f"{o.name} was made under torch.inference_mode() at {made.cited}."
            return Cause(words, made, "torch.no_grad() there instead; or .clone() of it outside, where it may be")
    return None


def _became_nan(recorder: Recorder, attempt: Attempt | None, trace: TracebackType) -> Cause | None:
    """The step of a pass that makes NaN first, of which anomaly detection tells the name alone."""
    from jvpcli.answers.watch import first_nan  # loaded only where steps are run again

    if attempt is None or attempt.function not in DERIVATIVES:
        return None
    call = _call_of(attempt, trace)
    try:
        problem = problem_of(call, recorder)
    except NotRecorded:
        return None
    with torch.autograd.set_detect_anomaly(False):
        found = first_nan(call, problem)
    if found.step is None:
        return None
    place = Place(found.step.file, found.step.line, "<module>", found.step.source)
    return Cause(f"{found.why[0].upper()}{found.why[1:]}.", place, whole=False)


def _run_again(trace: TracebackType) -> Cause | None:
    """Which function a checkpoint has run again, where that went another way than the first time."""
    inner: TracebackType | None = trace
    while inner is not None:
        known = inner.tb_frame.f_locals.get("frame") if inner.tb_frame.f_code.co_name == "unpack_hook" else None
        again = getattr(known, "recompute_fn", None)
        if isinstance(again, FunctionType):
            cells = dict(zip(again.__code__.co_freevars, again.__closure__ or (), strict=True))
            return _differing(cells["fn"].cell_contents) if "fn" in cells else None
        inner = inner.tb_next
    return None


def _differing(function: Any) -> Cause | None:
    """That it was this function, or module, of which two runs were not the same."""
    whole = inspect.unwrap(type(function).forward if isinstance(function, nn.Module) else function)
    code = getattr(whole, "__code__", None)
    if code is None or is_library(code.co_filename):
        return None
    file, line = code.co_filename, code.co_firstlineno
    place = Place(file, line, "<module>", linecache.getline(file, line).strip())
    return Cause(f"What ran again and went another way is {whole.__qualname__}, at {place.short}.", place, whole=False)


def _written(text: str, recorder: Recorder) -> Cause | None:
    """The change in place that the message speaks of."""
    shape = re.search(r"Tensor \[([\d, ]*)\]\]", text)
    version = re.search(r"expected version (\d+)", text)
    producer = re.search(r"output \d+ of ([\w:]+)", text)
    if shape is None or version is None:
        return None
    sizes = tuple(int(n) for n in re.findall(r"\d+", shape[1]))
    shapes = (sizes, sizes[::-1]) if "AsStrided" in text else (sizes,)  # of a view's base the message tells no shape
    later = [w for w in recorder.writes if w.before >= int(version[1]) and w.point is not None]
    fitting = [w for w in later if not {*w.shapes}.isdisjoint(shapes)]
    named = [w for w in fitting if producer is not None and _bare(w.producer) == _bare(producer[1])]
    chosen = named or fitting or ("AsStrided" in text and _of_a_base(later, int(version[1]), math.prod(sizes)))
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


def _of_a_base(writes: Sequence[Write], version: int, size: int) -> list[Write]:
    """The writes to a tensor that a view of so many entries may be of, as it had that version, if they are all at one place."""
    found = [w for w in writes if w.before == version and math.prod(w.shapes[0]) >= size]
    return found if len({(w.point.code, w.point.instruction) for w in found if w.point is not None}) == 1 else []


def _bare(node: str) -> str:
    """`SigmoidBackward0` and `Sigmoid` are the same node."""
    return node.rpartition("::")[2].removesuffix("0").removesuffix("Backward")


def _freed(operands: Sequence[Operand], recorder: Recorder) -> Cause | None:
    """The earlier backward pass that went through a part of the same graph, and the step at which that part ends."""
    nodes = graph_nodes(o.tensor for o in operands)
    freed = {n: n.metadata[FREED] for n in nodes if FREED in n.metadata}
    number, point = next((mark for mark in freed.values() if mark[1] is not None), (0, None))
    if point is None:
        return None
    place = point.place()
    words = (
        f"The backward pass at {place.cited}, went through {len(freed)} of the same steps before, and freed what they had kept."
    )
    last = {n for node in nodes if node not in freed for n, _ in node.next_functions if n in freed}
    ends = {made.cited: made for n in last if (at := n.metadata.get(MADE)) is not None and (made := at.place())}
    what = "an earlier turn"
    if len(ends) == 1:
        (cited, made), *_ = ends.items()
        words, what = f"{words} The last of them is {cited}.", f"`{made.text}`"
    cut = f".detach() of what {what} gives, where a later pass goes on from it"
    variables = [n.variable for node in freed for n, _ in node.next_functions if hasattr(n, "variable")]
    update = next((w for w in recorder.writes if w.number > number and any(w.tensor() is x for x in variables)), None)
    if update is None:
        return Cause(words, place, f"retain_graph=True in the earlier call, or one call for the sum of both; else {cut}")
    words += f" Since then a tensor that they use was changed {_at(update.point)}."
    return Cause(words, place, f"{cut}; or compute it anew. With retain_graph=True the pass may be refused for that change")


def _applied(
    blamed: Callable[[type[Function]], bool], said: str, operands: Sequence[Operand], recorder: Recorder
) -> Cause | None:
    """The one step on the way to a tensor that applies such a Function."""
    origins = [origin for o in operands if isinstance(origin := recorder.origin(o.tensor), Result)]
    calls = [call for origin in origins for call in back_from(origin.call)]
    found = [(call.place, f) for call in calls if (f := function_of(call)) is not None and blamed(f)]
    places = {place.cited: (f, place) for place, f in found if place is not None}
    if len(places) != 1:
        return None  # the message doesn't say which of them
    (cited, (function, place)), *_ = places.items()
    return Cause(f"{function.__name__} {said} applied at {cited}.", place, whole=False)


def _constant(name: str, made: Place) -> Cause:
    """What is computed of constants, or cut off, and is to be differentiated by."""
    return Cause(
        f"{name} is to be differentiated by and does not require grad: it was made at {made.cited}.",
        made,
        f"{name}.requires_grad_() there, before anything is computed from it",
    )


def _no_gradient(place: Place, trace: TracebackType, recorder: Recorder) -> Cause | None:
    """Why `x.grad` in a sub-expression is None."""
    for node in ast.walk(place.node) if place.node is not None else ():
        if not (isinstance(node, ast.Attribute) and node.attr == "grad"):
            continue
        name, x = ast.unparse(node.value), _value(node.value, trace)
        if not isinstance(x, Tensor) or (node_of(x) is None and x.grad is not None):
            continue
        if not x.requires_grad:
            return end_of_graph(name, x, recorder) or Cause(f"{name} does not require grad, so it gets no gradient.")
        if node_of(x) is not None:
            made = made_at(x, recorder)
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
        made = made_at(x, recorder) if isinstance(x, Tensor) and node_of(x) is not None else None
        if made is not None:
            return Cause(f"{names.get(id(x), 'A tensor of them')} was computed at {made.cited}.", made, whole=False)
    return None


def _unregistered(place: Place, trace: TracebackType) -> Cause | None:
    """The plain list or dict of layers in a module that a sub-expression names, whose parameters it does not know."""
    for name, module in named_in(place, trace, nn.Module):
        for path, owner in module.named_modules(prefix=name):
            for key, value in vars(owner).items():
                held = [] if key in OWN else [x for x in pieces(value) if isinstance(x, (nn.Module, nn.Parameter))]
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


def misread(text: str, place: Place, trace: TracebackType) -> Cause | None:
    """What the sub-expression itself shows to be wrong, whoever has raised the error: a module where it can't be used so."""
    if "before Module.__init__() call" in text:
        return Cause(
            f"{place.cited}, runs before super().__init__() has: a module holds neither modules nor parameters before that.",
            place,
            "super().__init__() as the first line of __init__",
        )
    node = place.node
    if not isinstance(node, ast.Call):
        return None
    made = _value(node.func, trace)
    if not (isinstance(made, type) and issubclass(made, nn.Module)) or not any(_gives_tensor(each, trace) for each in node.args):
        return None
    kind, given, options = ast.unparse(node.func), *(", ".join(map(ast.unparse, part)) for part in (node.args, node.keywords))
    cure = f"{kind}({options})({given}): make it, then call what was made"
    return Cause(f"{kind}(…) makes a module, it does not call one.", None, cure)


def _gives_tensor(node: ast.expr, trace: TracebackType) -> bool:
    """Whether an argument is a tensor, or what a module gives."""
    if isinstance(node, ast.Call):
        return isinstance(_value(node.func, trace), nn.Module)
    return isinstance(_value(node, trace), Tensor)


def _value(node: ast.expr, trace: TracebackType) -> Any:
    """What a part of a sub-expression is in the frame, where that can be told without running it."""
    from pure_eval import Evaluator

    owner = _value(node.value, trace) if isinstance(node, ast.Attribute) else None
    if isinstance(owner, nn.Module) and isinstance(node, ast.Attribute):  # which looks its parts up itself
        for parts in (owner._modules, owner._parameters, owner._buffers):
            if node.attr in parts:
                return parts[node.attr]
    try:
        return Evaluator.from_frame(trace.tb_frame)[node]
    except Exception:  # it can't
        return ...


def _nothing(place: Place, trace: TracebackType) -> Cause | None:
    """Which variable of a sub-expression is None."""
    for node in ast.walk(place.node) if place.node is not None else ():
        if isinstance(node, (ast.Name, ast.Attribute)) and _value(node, trace) is None:
            return Cause(f"{ast.unparse(node)} is None.", None, "a function, or a forward, that ends without return gives None")
    return None


def _several(place: Place, trace: TracebackType) -> Cause | None:
    """Which variable of a sub-expression is a tuple or a dict, as modules and loaders give, and the first tensor in it."""
    for node in ast.walk(place.node) if place.node is not None else ():
        value = _value(node, trace) if isinstance(node, (ast.Name, ast.Attribute)) else None
        if isinstance(value, (tuple, dict)):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            first = next(((f"{ast.unparse(node)}[{key!r}]", x.shape) for key, x in pairs if isinstance(x, Tensor)), None)
            if first is not None:
                kind = f"{ast.unparse(node)} is a {'dict' if isinstance(value, dict) else 'tuple'} of {len(value)}"
                return Cause(f"{kind}, of which {first[0]} is a tensor of shape {tuple(first[1])}.", None, first[0])
    return None


def _plain_number(recorder: Recorder) -> Cause | None:
    """Where numbers were last taken out of a graph."""
    left = taken_out(recorder)
    if left is None or left.place is None:
        return None
    return Cause(f"Numbers were taken out of a graph at {left.place.cited}.", left.place, whole=False)


def _copied(place: Place) -> Cause | None:
    """What copies where a view can't be had, in the very words."""
    node = place.node
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "view"):
        return None
    given = ", ".join(map(ast.unparse, (*node.args, *node.keywords)))
    return Cause("", None, f"{ast.unparse(node.func.value)}.reshape({given})   # copies where it must")


def modules_in(error: BaseException) -> tuple[Sequence[nn.Module], Sequence[Tensor]]:
    """The modules that an error came up in, the outermost first, and the tensors that the innermost was given."""
    frames = [trace.tb_frame for trace in frames_of(error.__traceback__) if trace.tb_frame.f_code.co_name == "forward"]
    frames = [frame for frame in frames if isinstance(frame.f_locals.get("self"), nn.Module)]
    if not frames:
        return (), ()
    names, extra, _, values = inspect.getargvalues(frames[-1])
    given = pieces([values.get(name) for name in (*names, *filter(None, [extra]))])
    return [frame.f_locals["self"] for frame in frames], [x for x in given if isinstance(x, Tensor)]


def misfit(modules: Sequence[nn.Module], given: Sequence[Tensor]) -> Cause | None:
    """What the innermost of some modules is made for, where it was given something else."""
    if not modules or not given:
        return None
    return _narrow(modules, given[0]) or _batches(modules, given)


def _narrow(modules: Sequence[nn.Module], first: Tensor) -> Cause | None:
    """The layer that is made for another number of features than it gets."""
    module = modules[-1]
    attribute = next((name for name in WIDTHS if isinstance(getattr(module, name, None), int)), None)
    if attribute is None or not first.dim():
        return None
    wanted = getattr(module, attribute)
    axis = _feature_axis(module, attribute, first)
    if axis is None or first.shape[axis] == wanted:
        return None
    path, kind, got = path_of(modules), type(module).__name__, first.shape[axis]
    called = f"{kind} {path}" if path else f"the {kind}"
    wider = f"{attribute}={got} where the {kind} is made, or {wanted} features from the step before it"
    moved = _rearranged(first, axis, wanted)
    return Cause(
        f"{called} was made for {attribute}={wanted} and gets {got}, the size of axis {axis} of its input.",
        None,
        f"{moved}; else {wider}" if moved else wider,
    )


def _batches(modules: Sequence[nn.Module], given: Sequence[Tensor]) -> Cause | None:
    """The attention whose queries and keys are of different batches, where the batch is its second axis."""
    module = modules[-1]
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if len(given) < 2 or any(x.dim() != 3 for x in given[:2]) or given[0].shape[1] == given[1].shape[1]:
        return None
    query, key = given[:2]
    path, sizes = path_of(modules), f"{query.shape[1]} of queries and {key.shape[1]} of keys"
    words = f"MultiheadAttention{f' {path}' if path else ''} was made for a batch at axis"
    if module.batch_first:
        return Cause(f"{words} 0: it gets {sizes}.")
    cure = "batch_first=True where it is made" if query.shape[0] == key.shape[0] else None
    return Cause(f"{words} 1, as (length, batch, width): it gets {sizes} there.", None, cure)


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
