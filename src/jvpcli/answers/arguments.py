"""The arguments of a Python function: which of them are inputs, by which names, and which are handed on as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import getattr_static
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from jvpcli.errors import UsageError
from jvpcli.language.evaluate import arranged, parameters_of
from jvpcli.language.modules import expanded
from jvpcli.language.operations import can_require_grad
from jvpcli.language.substitution import ModuleFunction, tied
from jvpcli.language.trees import Arguments, is_below, leaves, parts
from jvpcli.language.values import not_dense


def named(function: Callable[..., Any], positional: Sequence[Any]) -> dict[str, Any]:
    """Arguments that were given by position, by the names of the function's parameters; x0, x1, … where it tells none."""
    names = [] if _is_of_torch(function) else parameters_of(function)[0]
    if len(names) < len(positional):
        names = ["x"] if len(positional) == 1 else [f"x{k}" for k in range(len(positional))]
    return dict(zip(names, positional, strict=False))


def _is_of_torch(function: Any) -> bool:
    """Whether it is a module of torch's own, all of which call what they take `input`."""
    forward = getattr_static(type(function), "forward", None) if isinstance(function, nn.Module) else None
    return isinstance(forward, FunctionType) and forward.__module__.startswith("torch.")


def of_module(module: nn.Module, given: Arguments, wrt: Sequence[str] | None) -> tuple[ModuleFunction, Arguments, list[str]]:
    """A module as a function of its arguments and of those of its parameters that `wrt` names; and what it is called with.

    Args:
        module: the module.
        given: its arguments.
        wrt: what is differentiated: arguments, parameters by their names in `state_dict`, the submodule that they are in, or a
            pattern such as `*.weight`; None: no parameters are.

    Returns:
        The function, all that it is called with, and the names of what `wrt` means.
    """
    names, wanted, chosen, shared = list(given.given), list(wrt or ()), dict[str, Any](), dict[str, str]()
    if not given.given.keys() >= set(wanted):  # a walk through the module takes longer than a small one's run
        every = dict(module.named_parameters(remove_duplicate=False))
        own = {name: x for name, x in module.named_parameters() if name not in given.given}  # a shared one by one name
        wanted = [part for name in wanted for part in ((name,) if name in names else expanded((name,), own))]
        shared = tied([name for name in wanted if name not in names], every)
        wanted = [name for name in wanted if name not in shared]
        chosen = {name: every[name] for name in wanted if name in every and name not in names}
    positional = given.positional
    if positional is None:
        by_position, by_keyword = arranged(module, names)
        names, positional = [*by_position, *by_keyword], len(by_position)
    arguments = {**{name: given.given[name] for name in names}, **chosen}
    return ModuleFunction(module, tuple(chosen), tied=shared), Arguments(arguments, positional, given.ignored), wanted


def by_name(wrt: Any, names: Sequence[str]) -> Any:
    """What is to be differentiated, with positions turned into the names that stand there.

    Raises:
        UsageError: a position at which there is no argument.
    """
    return [_at(each, names) for each in wrt] if isinstance(wrt, (list, tuple)) else _at(wrt, names)


def _at(place: Any, names: Sequence[str]) -> Any:
    if not isinstance(place, int) or isinstance(place, bool):
        return place
    if not -len(names) <= place < len(names):
        raise UsageError(f"wrt names the argument at position {place}, and there are {len(names)}: {', '.join(names) or 'none'}")
    return names[place]


def inputs_of(arguments: Arguments, wrt: Sequence[str]) -> dict[str, Any]:
    """The VALUEs of the inputs by key path.

    They are all tensors and arrays, and the arguments that are floating or complex numbers, or lists of numbers.  Whole numbers,
    tuples of such, and text are handed on as they are, unless `wrt` names them, or there is no other input; so are sparse tensors
    and others that are not dense, where `wrt` names other inputs.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.given.items():
        asked = name in wrt and _may_be_value(value)
        found |= {name: value} if asked or _is_value(value) else dict(_tensors(value, name))
    if wrt:
        asked_for = {path for path in found if any(is_below(path, name) for name in wrt)}
        found = {path: x for path, x in found.items() if path in asked_for or not _is_handed_on(x)}
    return found or {name: value for name, value in arguments.given.items() if _may_be_value(value)}


def below(wrt: Sequence[str], inputs: Mapping[str, Any]) -> list[str]:
    """The names of inputs that are to be differentiated: of an argument that holds tensors all that are floating or complex."""
    chosen = []
    for name in wrt:
        under = [path for path, value in inputs.items() if name not in inputs and is_below(path, name) and _is_floating(value)]
        chosen += under or [name]
    return chosen


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if parts(value) is not None:
        yield from ((path, part) for path, part in leaves(value, name) if _is_array(part))


def _is_handed_on(value: Any) -> bool:
    return isinstance(value, Tensor) and not_dense(value) is not None


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and hasattr(value, "dtype"))


def _is_floating(value: Any) -> bool:
    if isinstance(value, Tensor):
        return can_require_grad(value)
    return value.dtype.kind in "fc"


def _is_value(value: Any) -> bool:
    """Whether an argument is numbers, and not one that a function may take for a size or a choice."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Mapping):
        return "value" in value and set(value) <= {"value", "dtype"} and not isinstance(value["value"], Tensor)
    return _is_array(value) or (_is_numbers(value) and not _is_whole(value))


def holds_numbers(value: Any) -> bool:
    """Whether it is a tensor, an array, a number or a list of numbers."""
    return _is_array(value) or _is_numbers(value)


def _may_be_value(value: Any) -> bool:
    return isinstance(value, str) or _is_numbers(value)


def _is_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return all(map(_is_numbers, value))
    return isinstance(value, (int, float, complex))


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number or truth value, or a tuple of such: sizes, axes, switches."""
    return all(map(_is_whole, value)) if isinstance(value, tuple) else isinstance(value, int)
