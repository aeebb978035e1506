"""Derivative calls as they are made: what is differentiated, by what, and what the program calls these tensors."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from jvpcli.recording.nodes import graph_nodes, is_leaf, node_of
from jvpcli.recording.places import Place, Point, is_library, user_point


@dataclass(frozen=True)
class Derivative:
    """One call of `torch.autograd.grad` or `backward`, or a tangent that is read from a dual tensor.

    Attributes:
        function: "torch.autograd.grad", "torch.autograd.backward", "Tensor.backward" or "torch.autograd.forward_ad.unpack_dual".
        place: where in the user's code.
        outputs, inputs: tensors by the names that the program has for them; of a backward without `inputs` these are the leaves
            that it reaches.
        grad_outputs: a cotangent for each output or None, in their order; None: the call gives none.
        is_grads_batched: whether each cotangent has an axis in front.
        tangents: what is pushed forward, of each input; None: the call goes back.
        names: by `id` what the program calls its tensors.
    """

    function: str
    place: Place | None
    outputs: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    grad_outputs: tuple[Tensor | None, ...] | None
    is_grads_batched: bool = False
    names: Mapping[int, str] = field(default_factory=dict)
    tangents: tuple[Tensor, ...] | None = None


def read_dual(output: Tensor, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> Derivative:
    """What is asked for where the tangent of a tensor is read that was computed from dual tensors."""
    point, known = user_point(), names_of_frame(_user_frame())
    place = None if point is None else point.place()
    named = _named([output], known, None, "y"), _named(inputs, known, None, "x")
    return Derivative(f"{FORWARD}.unpack_dual", place, *named, None, names=known, tangents=tuple(tangents))


def read_end(names: Mapping[str, Any], ends: Iterable[Sequence[str]], given: Any) -> Derivative | None:
    """What a program ends with, by the leaves it comes from: the values with a graph that it names last; None: there are none.

    Args:
        names: its variables.
        ends: of them those that its last statements give values to, the last first.
        given: what stands for these where none of them has a graph.
    """
    known = _names_of([names])
    named = ({name: names[name] for name in each if _has_graph(names.get(name))} for each in ends)
    found = next(filter(None, named), None) or _named([y for y in _list(given) if _has_graph(y)], known, None, "y")
    if not found:
        return None
    inputs = _in_order(leaves(found.values()), known)
    ones = tuple(torch.ones_like(y) for y in found.values())
    return Derivative("torch.autograd.grad", None, found, _named(inputs, known, None, "x"), ones, names=known)


def _has_graph(value: Any) -> bool:
    return isinstance(value, Tensor) and node_of(value) is not None


FORWARD = "torch.autograd.forward_ad"


def read_call(
    func: Callable[..., Any],
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    at: tuple[Point | None, FrameType | None] | None = None,
) -> Derivative:
    """What a derivative call asks for; `at` is where it was made, if it is not being made right now."""
    point, frame = (user_point(), _user_frame()) if at is None else at
    place = None if point is None else point.place()
    function, outputs, inputs, v = asked(func, args, keywords)
    cotangents = None if v is None else tuple(_list(v))
    cotangents = None if cotangents is None or all(x is None for x in cotangents) else cotangents
    rows = () if keywords.get("is_grads_batched") else _rows(cotangents or ())
    known = names_of_frame(frame)
    if inputs is None:
        inputs = _in_order(leaves(outputs), known)
    texts = _argument_texts(place, function)
    return Derivative(
        function,
        place,
        _named(outputs, known, texts.get("outputs"), "y"),
        _named(inputs, known, texts.get("inputs"), "x"),
        rows or cotangents,
        bool(rows) or bool(keywords.get("is_grads_batched")),
        known,
    )


def _rows(cotangents: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The cotangents of all rows of the vmap that a call stands in, with an axis in front; none where it gives other ones."""
    functorch = torch._C._functorch
    found: list[Tensor] = []
    for v in cotangents:
        if v is None or not functorch.is_batchedtensor(v):
            return ()
        axis, rows = functorch.maybe_get_bdim(v), functorch.get_unwrapped(v)
        if functorch.is_functorch_wrapped_tensor(rows):
            return ()
        found.append(rows.movedim(axis, 0))
    return tuple(found)


def inputs_of(func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    """What a derivative call differentiates by."""
    _, outputs, inputs, _ = asked(func, args, keywords)
    return leaves(outputs) if inputs is None else inputs


def graph_after(func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the graph that a derivative call goes through is there after it, and whether the call makes one of its own."""
    place = 3 if func is torch.autograd.grad else 2
    keeps = keywords.get("retain_graph", args[place] if place < len(args) else None)
    creates = keywords.get("create_graph", args[place + 1] if place + 1 < len(args) else None)
    return bool(creates if keeps is None else keeps), bool(creates)


def leaves_gradients(func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether a call is a backward pass with a graph of its own: what it leaves in `.grad` can be differentiated."""
    return func in (Tensor.backward, torch.autograd.backward) and graph_after(func, args, keywords)[1]


def asked(
    func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[str, list[Any], list[Any] | None, Any]:
    """The function's name, the outputs, the inputs where they are given, and the cotangents as they are given."""
    given = dict(keywords)
    if func is torch.autograd.grad:
        given |= dict(zip(("outputs", "inputs", "grad_outputs"), args, strict=False))
        return "torch.autograd.grad", _list(given.get("outputs")), _list(given.get("inputs")), given.get("grad_outputs")
    cotangent = "gradient" if func is Tensor.backward else "grad_tensors"
    given |= dict(zip(("tensors", cotangent), args, strict=False))
    inputs = None if given.get("inputs") is None else _list(given["inputs"])
    function = "Tensor.backward" if func is Tensor.backward else "torch.autograd.backward"
    return function, _list(given.get("tensors", given.get("self"))), inputs, given.get(cotangent)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) or not isinstance(value, (tuple, list)) else list(value)


def leaves(outputs: Iterable[Tensor]) -> list[Tensor]:
    """The leaves that a backward pass reaches."""
    outputs = list(outputs)
    found = [y for y in outputs if is_leaf(y)]
    nodes = (node for node in graph_nodes(outputs) if hasattr(node, "variable"))
    found += [node.variable for node in nodes if node.variable.requires_grad]  # one that was frozen since gets nothing
    return list({id(x): x for x in found}.values())


def _in_order(found: Iterable[Tensor], known: Mapping[int, str]) -> list[Tensor]:
    """Tensors in the order of their names."""
    order = {key: place for place, key in enumerate(known)}
    return sorted(found, key=lambda x: order.get(id(x), len(order)))


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def names_of_frame(frame: FrameType | None) -> dict[int, str]:
    """By `id` what a frame's variables call tensors: `x`, `net.0.weight`, `params[1]`; outer frames' where it has none."""
    scopes: list[Mapping[str, Any]] = []
    while frame is not None:
        if not is_library(frame.f_code.co_filename):
            scopes += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    return _names_of(scopes)


def _names_of(scopes: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """By `id` what variables call tensors, the first that do."""
    found: dict[int, str] = {}
    for scope in scopes:
        for key, value in list(scope.items()):
            for name, x in _tensors_of(key, value):
                found.setdefault(id(x), name)
    return found


def _tensors_of(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a variable leads to."""
    if name.startswith("__"):
        return
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        for path, x in (*value.named_parameters(), *value.named_buffers()):
            yield f"{name}.{path}", x
    elif type(value) in (tuple, list) and len(value) <= 64:
        for index, part in enumerate(value):
            if isinstance(part, (Tensor, nn.Module)):
                yield from _tensors_of(f"{name}[{index}]", part)
    elif type(value) is dict and len(value) <= 256:
        for key, part in value.items():
            if isinstance(part, Tensor) and isinstance(key, str):
                yield f'{name}["{key}"]', part
    elif hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__module__ not in sys.builtin_module_names:
        for key, part in list(vars(value).items()) if isinstance(vars(value), dict) else ():
            if isinstance(part, Tensor):
                yield f"{name}.{key}", part


def _argument_texts(place: Place | None, function: str) -> dict[str, list[str]]:
    """The arguments of the call as they are written, where they are written out."""
    node = None if place is None else place.node
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] != function.rpartition(".")[2]:
        return {}  # a function that makes the call inside
    found: dict[str, list[str]] = {}
    if function == "Tensor.backward":
        if isinstance(node.func, ast.Attribute):
            found["outputs"] = [ast.unparse(node.func.value)]
    elif node.args:
        found["outputs"] = _texts(node.args[0])
        if function == "torch.autograd.grad" and len(node.args) > 1:
            found["inputs"] = _texts(node.args[1])
    for keyword in node.keywords:
        if keyword.arg in ("outputs", "inputs", "tensors"):
            found["inputs" if keyword.arg == "inputs" else "outputs"] = _texts(keyword.value)
    return found


def _texts(node: ast.expr) -> list[str]:
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    return [] if any(isinstance(part, ast.Starred) for part in parts) else [ast.unparse(part) for part in parts]


LONGEST_NAME = 40


def _named(tensors: Sequence[Tensor], known: Mapping[int, str], texts: Sequence[str] | None, base: str) -> dict[str, Tensor]:
    """The tensors by name: the variable that the call names, another's, the argument's text, else the base with a number."""
    found: dict[str, Tensor] = {}
    for index, x in enumerate(tensors):
        text = texts[index] if texts and len(texts) == len(tensors) and len(texts[index]) <= LONGEST_NAME else ""
        other = known.get(id(x)) or text or (base if len(tensors) == 1 else f"{base}{index}")
        name = text if text.isidentifier() else other
        while name in found:
            name += "'"
        found[name] = x
    return found
