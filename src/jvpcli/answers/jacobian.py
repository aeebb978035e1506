"""The derivative alone: the request as a problem, and its Jacobians as linear maps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor, nn

from jvpcli.answers.question import (
    backward_failures,
    cured,
    is_inside,
    pose,
    refuse_cut,
    refuse_independent,
    refuse_through,
)
from jvpcli.jacobians.compute import plan
from jvpcli.jacobians.dense import PulledMap
from jvpcli.jacobians.engine import Repeat
from jvpcli.jacobians.linear_map import ComplexMap, LinearMap
from jvpcli.jacobians.passes import vjp
from jvpcli.jacobians.small import Maps
from jvpcli.jacobians.terms import Workspace
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad
from jvpcli.language.substitution import ModuleFunction, Noted
from jvpcli.language.trees import Arguments
from jvpcli.problem import Problem
from jvpcli.request import Request, is_store

if TYPE_CHECKING:
    from jvpcli.language.surroundings import Surroundings

Workspaces = Callable[[Hashable], Workspace]
"""Gives what an earlier call for the same program at the same shapes has left to use again."""


@dataclass
class Question:
    """A question for maps, which is asked again at other tensors of the same names, shapes and dtypes.

    Attributes:
        is_plain: asked without options.
        work: the index arrays that were made for it.
        repeat: how the maps are made then.
        seen: whether a Python function's were made before: what is asked once need not be known again.
        watched: what such a function was found in when a run of it was watched, and what was noted of that run.
        tries: how often that may still be found out: where it is another each time nothing is gained.
    """

    is_plain: bool = False
    work: Workspace = field(default_factory=Workspace)
    repeat: Repeat | None = None
    seen: bool = False
    watched: tuple[Surroundings, Noted] | None = None
    tries: int = 3


def maps_again(
    question: Question,
    function: str | Callable[..., Any],
    inputs: Mapping[str, Tensor],
    positional: int | None,
    request: Callable[[], Request],
    workspace: Workspaces,
) -> Maps | None:
    """The maps, where the question was asked before and goes the same way at these inputs, all of them plain tensors.

    The first `positional` ones go to a Python function by position, the others by name; None: as their names say.

    A Python function has run then, whichever way it goes, and the maps are those of that run; of a text that goes another way,
    and of a question that was not asked before, there are none; but for that of a function without options, which is what it
    was read as.

    Raises: as `linear_maps`.
    """
    repeat = question.repeat
    if is_inside():
        return None
    if isinstance(function, str):
        return None if repeat is None else repeat.maps(inputs)
    arguments, own = Arguments(inputs, positional), function
    if repeat is None:
        wrt = tuple([name for name, x in inputs.items() if can_require_grad(x)])
        if not wrt or not question.is_plain or isinstance(function, nn.Module):
            return None
        asked = Request(function, inputs=inputs, arguments=arguments)
        return _answer(pose(asked, Problem(function, inputs, wrt, arguments=arguments)), asked, workspace, question)
    if isinstance(function, nn.Module):
        from jvpcli.answers.arguments import of_module  # loaded only where there is one

        # a pattern may mean other parameters by now, and two names the same one
        meant = repeat.wrt if inputs.keys() >= {*repeat.wrt} else request().wrt or ()
        function, arguments, _ = of_module(function, arguments, repeat.wrt)
        inputs = arguments.given
        if {*meant} != {*repeat.wrt} or not inputs.keys() >= {*repeat.wrt}:
            return None
    found, before = question.watched or (None, None)
    places = None if found is None else found.again(own)
    before = None if places is None else before
    problem, start = Problem(function, inputs, repeat.wrt, arguments=arguments, before=before), torch.autograd._get_sequence_nr()
    try:
        if before is not None and places is not None:
            from jvpcli.language.surroundings import evaluated_again  # loaded already

            vars(problem)["evaluation"] = evaluated_again(function, repeat.wrt, arguments, before, places)
        else:
            question.watched = _watched(own, problem, repeat.custom, start) if question.tries else None
            question.tries = max(0, question.tries - 1)
        _ = problem.evaluation
    except Exception as error:
        return _answer(cured(error, request(), problem), request(), workspace, question)
    if repeat.is_open and before is None:
        refuse_through(problem)
    explained = repeat.custom or (problem.modules if before is None else before.packed)
    with backward_failures(problem, before is None or bool(places)) if explained else nullcontext():
        maps = repeat.maps_of(problem) if before is None or _made(problem.evaluation, start) == before.made else None
        if maps is not None and repeat.custom and _by_hand(maps):  # most are not, and need no look at the graph
            _run_own_backward(problem, maps)
    return _answer(pose(request(), problem), request(), workspace, question) if maps is None else maps


def _watched(function: Any, problem: Problem, custom: bool, start: int) -> tuple[Surroundings, Noted] | None:
    """What a function is found in, and what is noted of its evaluation; None where another run may do something else there."""
    from jvpcli.language.surroundings import Asking, surroundings_of  # loaded for what is asked often

    found = surroundings_of(function)
    if found is None:
        return None
    with Asking() as asking:
        evaluation = problem.evaluation
    written = problem.function.written if isinstance(problem.function, ModuleFunction) else problem.written
    if asking.asked or written or evaluation.hooked:
        return None
    made, random, drew = _made(evaluation, start), evaluation.random, evaluation.drew
    return found, Noted(evaluation.weighed, asking.packed, custom, random, drew, made, {})


def _made(evaluation: Evaluation, start: int) -> Hashable:
    """Of each output its form, how many nodes autograd had made for it since it had made `start`, and which was the last."""
    ends = [(y, y.grad_fn) for y in evaluation.outputs.values()]
    return tuple([(y.shape, y.dtype, type(end).__name__, end and end._sequence_nr() - start) for y, end in ends])


def linear_maps(request: Request, workspace: Workspaces | None = None, question: Question | None = None) -> Maps:
    """(output, input) to the Jacobian as a linear map: the derivative alone.

    Of a `question` it is noted how it went.

    Raises:
        JvpError: the function is refused, or fails; so does its backward pass.
    """
    return _answer(pose(request), request, workspace, question)


def _answer(problem: Problem, request: Request, workspace: Workspaces | None, question: Question | None) -> Maps:
    saving = request.save is not None or request.cluster is not None or request.resume
    refuse_cut(problem)
    with backward_failures(problem):
        if saving:
            return _saved(problem, request)
        if request.strict:
            refuse_independent(problem)
        maps = _maps(problem, request, workspace, None if request.strict else question)
        if problem.is_own and request.mode != "forward":
            _run_own_backward(problem, maps)
        return with_zeros(problem.evaluation, maps)


def _saved(problem: Problem, request: Request) -> Mapping[tuple[str, str], LinearMap]:
    """The maps, written to a file, or to a store that they are read from then."""
    from jvpcli.cluster import check_saving  # loaded only where it is asked for

    check_saving(request)
    if request.strict:
        refuse_independent(problem)
    if not is_store(request.save):
        from jvpcli.jacobians.files import save

        maps = plan(problem, request.mode, "maps").maps()
        assert request.save is not None
        save(maps, request.save, {name: x.dtype for name, x in problem.leaves.items()})
        return maps
    from jvpcli.answers import storing

    written = storing.write(problem, request, {}, {})
    storing.saved(problem, request, written)
    return written.maps


def _run_own_backward(problem: Problem, maps: Mapping[tuple[str, str], LinearMap]) -> None:
    """One backward pass by torch itself, where it runs functions of the user's own, for what it raises.

    Maps that were made node by node were made without what torch checks of a node's gradients and without what a node asks
    of the whole pass: reentrant checkpoints work in none but `backward()`.

    Raises: what the pass raises.
    """
    for name in _by_hand(maps) if problem.custom else ():
        y = problem.differentiable[name]
        vjp(y, torch.ones_like(y).detach(), list(problem.leaves.values()))


def _by_hand(maps: Mapping[tuple[str, str], LinearMap]) -> set[str]:
    """The outputs whose maps were not made by torch's own engine."""
    return {y for (y, _), each in maps.items() if not (isinstance(each, PulledMap) and each.is_by_engine)}


def _maps(
    problem: Problem,
    request: Request,
    workspace: Workspaces | None,
    question: Question | None,
) -> Maps:
    planned = plan(problem, request.mode, "maps", question.work if question else _work(problem, request, workspace))
    maps = planned.maps()
    problem.settle()
    if question is not None:
        course = problem.course
        if course is None:  # the sizes inside of a function, which may be others then, are looked at anew where they are limited
            known = problem.is_own and question.seen and request.memory_limit is None
        else:
            known = set(course.program.inputs) == request.inputs.keys()
        if known:
            question.repeat = planned.repeat(course)
        question.seen = True
    if not request.create_graph:
        return maps
    from jvpcli.answers.differentiable import run_again  # loaded only where it is asked for

    return run_again(problem).maps(maps)


def _work(problem: Problem, request: Request, workspace: Workspaces | None) -> Workspace | None:
    """What an earlier call in a seldom way has left to use again."""
    name = name_of(request.expression) if workspace else None
    if workspace is None or name is None:
        return None
    shapes = tuple([(name, tuple(x.shape), x.dtype, x.device) for name, x in problem.evaluation.inputs.items()])
    return workspace((name, shapes, problem.evaluation.wrt))


class _Itself(ref[Any]):
    """An object as a key, which does not keep it: it is equal to nothing but itself, whatever its class says of that."""

    def __init__(self, thing: Any) -> None:
        self._id = id(thing)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        thing = self()
        return self is other or (thing is not None and isinstance(other, _Itself) and thing is other())


def name_of(expression: Any) -> Hashable | None:
    """What a program is found again by: its text, or its function as long as the caller has that; None where it can't be."""
    if isinstance(expression, str):
        return expression
    whole = expression.module if isinstance(expression, ModuleFunction) else expression
    parts = (whole.__self__, whole.__func__) if isinstance(whole, MethodType) else (whole,)
    try:
        return tuple([_Itself(part) for part in parts])
    except TypeError:  # a callable of one's own may refuse to be referred to
        return None


def with_zeros(evaluation: Evaluation, maps: Mapping[tuple[str, str], LinearMap]) -> Mapping[tuple[str, str], LinearMap]:
    """The maps, and a zero map to each input for the floating and complex outputs that have none; in the outputs' order."""
    if len(maps) == len(evaluation.outputs) * len(evaluation.wrt):
        return maps
    pairs = {(y, x): (a, b) for y, a in evaluation.outputs.items() for x, b in evaluation.leaves.items()}
    differentiable = {key for key, (a, _) in pairs.items() if can_require_grad(a)}
    if differentiable <= maps.keys():
        return maps
    from jvpcli.jacobians.structured import StructuredMap  # seldom needed
    from jvpcli.jacobians.terms import Workspace

    found: dict[tuple[str, str], LinearMap] = {}
    for key, (y, x) in pairs.items():
        if key in maps:
            found[key] = maps[key]
        elif key in differentiable and (y.is_complex() or x.is_complex()):
            rows = x.detach().new_zeros((y.numel(), x.numel()))
            found[key] = ComplexMap(tuple(y.shape), tuple(x.shape), rows, rows if y.is_complex() else None, "zero", "operations")
        elif key in differentiable:
            like = torch.zeros((), dtype=torch.promote_types(y.dtype, x.dtype), device=x.device)
            found[key] = StructuredMap(tuple(y.shape), tuple(x.shape), (), like, Workspace())
    return found
