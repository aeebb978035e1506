"""Where the graph of a tensor ends, as the recording proves it: what cut it off, or why it never began."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointFunction

from jvpcli.recording.calls import Call, Cut, Given, Result
from jvpcli.recording.places import Place, pieces
from jvpcli.recording.recorder import Recorder

MOST_CITED = 3
"""Places that a sentence lists."""

REQUIRED = "requires_grad_() on what is to be differentiated by, before anything is computed from it"


@dataclass(frozen=True)
class Cause:
    """What the recording proves of an error's cause: in words, where it is, and what helps; not `whole`: its place alone."""

    words: str
    place: Place | None = None
    cure: str | None = None
    whole: bool = True


def end_of_graph(name: str, x: Tensor, recorder: Recorder) -> Cause | None:
    """Where the graph of a tensor ends; None where nothing of it was seen."""
    origin = recorder.origin(x)
    if isinstance(origin, Given):
        return Cause(f"{name} is a leaf that was made without requires_grad=True: no step made it.", None, REQUIRED)
    call = _cutting(origin) or _number_behind(origin.call, recorder)
    if call is None:
        none = f"{name} carries no gradient: no step on the way to it was given a tensor that requires grad"
        return (
            _of_numbers(f"{name} carries no gradient", origin.call, recorder, made=True)
            or _hidden(name, origin.call)
            or _frozen(none, origin.call, recorder)
            or _of_numbers(none, origin.call, recorder, made=False)
            or Cause(f"{none}.", None, REQUIRED)
        )
    place, function = call.place, getattr(call.function, "__name__", "")
    where = place.cited if place is not None else f"a call of {function}"
    if not call.recorded:
        return Cause(
            f"{name} carries no gradient: the graph ends at {where}, which runs under torch.no_grad().",
            place,
            "compute it outside of torch.no_grad()",
        )
    why, cure = WHOLE if _takes_whole(call) else _why(function)
    return Cause(f"{name} carries no gradient: the graph ends at {where}: {why}.", place, cure)


WHOLE = (
    "it is given whole numbers, which have no gradient",
    "values, indices = x.max(dim): the gradient flows through the values, and not through the indices",
)


def _takes_whole(call: Call) -> bool:
    """Whether a call was given places that another gave beside values, and nothing else that was computed with a gradient."""
    cut = [part.tensor for part in pieces((call.arguments, call.keywords)) if isinstance(part, Cut)]
    return bool(cut) and not any(x.is_floating_point() or x.is_complex() for x in cut)


def _why(function: str) -> tuple[str, str | None]:
    """Why no gradient comes out of a call of a function, and what would keep it."""
    if function in ("detach", "detach_", "__get__"):
        return "what comes out counts as a constant", "leave it out where the gradient should pass"
    if function in ("item", "tolist", "__float__", "__int__", "__index__"):
        return "it gives plain numbers", "stay with tensors: they can be used like numbers"
    if function in ("argmax", "argmin", "argsort"):
        return "it gives places, which are whole numbers", "torch.amax, amin, sort and softmax have derivatives"
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


def _of_numbers(none: str, last: Call, recorder: Recorder, made: bool) -> Cause | None:
    """The step on the way to a tensor that made one of plain numbers, or computed with one, after some had left a graph."""
    source = taken_out(recorder)
    if source is None or (left := source.place) is None:
        return None
    for here in back_from(last):
        place, makes = here.place, getattr(here.function, "__name__", "") in FACTORIES
        if place is None or not (makes if made else _computes_with_one(here, place)):
            continue
        does = "makes a tensor of plain numbers, which have" if made else "computes with a plain number, which has"
        return Cause(
            f"{none}: {place.cited}, {does} no graph. Numbers were taken out of a graph at {left.cited}.",
            place if left.line == place.line else left,
            "stay with tensors: they can be added up like numbers, and torch has the functions of math and NumPy",
        )
    return None


def _computes_with_one(call: Call, place: Place) -> bool:
    """Whether an operator was given a number that is not written out there."""
    if not isinstance(place.node, (ast.BinOp, ast.AugAssign)):
        return False
    written = [node.value for node in ast.walk(place.node) if isinstance(node, ast.Constant)]
    return any(isinstance(part, float) and part not in written for part in pieces((call.arguments, call.keywords)))


def _hidden(name: str, call: Call) -> Cause | None:
    """The first Function on the way to a tensor that runs something of the program's, and is given nothing with a gradient."""
    found = [
        here
        for here in back_from(call)
        if function_of(here) is not None and any(map(callable, pieces(here.arguments))) and not here.differentiable
    ]
    if not found or (place := min(found, key=lambda here: here.number).place) is None:
        return None
    return Cause(
        f"{name} carries no gradient: the graph ends at {place.cited}. What runs there is not recorded, and counts only where "
        "one of the tensors that it is given requires grad: none does.",
        place,
        "use_reentrant=False, which records what runs inside" if function_of(found[0]) is CheckpointFunction else None,
    )


def function_of(call: Call) -> Any:
    """The Function that a call applies."""
    owner = getattr(call.function, "__self__", None)
    return owner if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) else None


def _frozen(none: str, call: Call, recorder: Recorder) -> Cause | None:
    """Where the tensors on the way to a result were told to require no gradient."""
    given = {id(o.tensor): o.tensor for c in back_from(call) for o in pieces((c.arguments, c.keywords)) if isinstance(o, Given)}
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


def taken_out(recorder: Recorder) -> Call | None:
    """The last call that gave plain numbers of something with a gradient; else what cut those off that were taken out last."""
    return _first_cut([call for _, call in reversed(recorder.numbers)])


def _first_cut(calls: Sequence[Call]) -> Call | None:
    """Of calls that gave plain numbers the first that was given something with a gradient; else what cut that off before one."""
    direct = next(filter(_cuts, calls), None)
    return direct or next((cut for call in calls if (cut := _cutting(Result(call, ()))) is not None), None)


def _number_behind(call: Call, recorder: Recorder) -> Call | None:
    """The call that cut a plain number out of a graph from which another call made its tensor anew."""
    parts = [part for here in back_from(call) for part in pieces((here.arguments, here.keywords))]
    # a whole number may be the same object by chance: Python keeps small ones
    sources = {id(v): source for value, source in recorder.numbers for v in pieces(value) if isinstance(v, float)}
    return _first_cut([sources[id(part)] for part in parts if isinstance(part, float) and id(part) in sources])


def back_from(call: Call) -> Iterator[Call]:
    """The call, then those whose results it was given, and so on, each once."""
    waiting, seen = [call], set[int]()
    while waiting:
        here = waiting.pop()
        if here.number in seen:
            continue
        seen.add(here.number)
        yield here
        waiting += [part.call for part in pieces((here.arguments, here.keywords)) if isinstance(part, Result)]
