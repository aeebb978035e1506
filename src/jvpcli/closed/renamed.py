"""torch's ways to compute a weight from other parameters: weight and spectral norm, and parametrizations of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from jvpcli.closed import reach
from jvpcli.closed.words import Namespace
from jvpcli.errors import ForbiddenError


def renaming() -> dict[str, Any]:
    """What torch.nn.utils has of them."""
    norms = {name: _of_parameter(getattr(nn.utils, name)) for name in ("weight_norm", "spectral_norm")}
    newer = {name: _parametrized(getattr(parametrizations, name)) for name in ("weight_norm", "spectral_norm", "orthogonal")}
    general = {"register_parametrization": _registered, "is_parametrized": parametrize.is_parametrized}
    return {
        **norms,
        "parametrizations": Namespace("torch.nn.utils.parametrizations", newer),
        "parametrize": Namespace("torch.nn.utils.parametrize", general),
    }


def _of_parameter(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that puts others in the place of a parameter, of which torch sets an attribute by its name."""

    @wraps(function)
    def made(module: Any, name: Any = "weight", *arguments: Any, **keywords: Any) -> Any:
        reach.check_given((*arguments, *keywords.values()))
        return function(module, _own(module, name), *arguments, **keywords)

    return made


def _parametrized(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same by a parametrization of torch's."""

    @wraps(function)
    def made(module: Any, name: Any = "weight", *arguments: Any, **keywords: Any) -> Any:
        _set_apart(module)
        found = function(module, name, *arguments, **keywords)
        vars(module)["_modules"]["parametrizations"][name].__class__ = ParametrizationList
        return found

    return _of_parameter(made)


def _own(module: Any, name: Any) -> str:
    """The name of a parameter that a module has.

    Raises:
        ForbiddenError: it has none of it.
    """
    if not isinstance(module, nn.Module) or type(name) is not str or not reach.is_part(module, name):
        raise ForbiddenError("Only a parameter of a module can be computed from others in a program.")
    return name


APART = "jvp:apart"
"""The attribute of the classes that modules of torch's have for themselves."""


def _set_apart(module: nn.Module) -> None:
    """Gives a module a class that no other has: torch sets what computes a weight on the class.

    torch makes such a class, too; but not where the program has given the module a part by the name that torch keeps them by.

    Raises:
        ForbiddenError: what it has by that name is another's.
    """
    kind, kept = type(module), vars(module)["_modules"].get("parametrizations")
    if hasattr(module, "parametrizations") and type(kept) is not nn.ModuleDict:
        raise ForbiddenError("What a module calls `parametrizations` is torch's in a program.")
    if not (any(map(reach.is_own, kind.__mro__)) or hasattr(kind, APART)):
        module.__class__ = type(kind.__name__, (kind,), {APART: True})


class ParametrizationList(parametrize.ParametrizationList):
    """What computes a weight, and nothing back from one: torch would give a parameter other memory, in which a graph trusts."""

    def __reversed__(self) -> Iterator[Any]:
        return iter(())

    def right_inverse(self, value: Any) -> None:
        """Stands where the weight is set.

        Raises:
            ForbiddenError: always.
        """
        raise ForbiddenError("A weight that is computed from others can't be set in a program.")


def _registered(module: Any, tensor_name: Any, parametrization: Any, *, unsafe: bool = False) -> Any:
    """`register_parametrization(module, "weight", parametrization)`, by the steps of torch's own.

    Raises:
        ForbiddenError: the parametrization leads back, or is none.
    """
    if not isinstance(parametrization, nn.Module):
        raise ForbiddenError("A parametrization is a module.")
    _own(module, tensor_name)
    parametrization.train(module.training)
    held = [*map(vars, type(parametrization).__mro__), vars(parametrization)]
    held += [vars(parametrization).get(name) or {} for name in ("_parameters", "_modules", "_buffers")]
    if any("right_inverse" in each for each in held):
        raise ForbiddenError("A parametrization with a `right_inverse` can't be used in a program.")
    computing = ParametrizationList([parametrization], getattr(module, tensor_name))
    name = _own(module, tensor_name)  # as the parametrization has left it
    _set_apart(module)
    delattr(module, name)
    if not parametrize.is_parametrized(module):
        parametrize._inject_new_class(module)
        module.parametrizations = nn.ModuleDict()
    parametrize._inject_property(module, name)
    module.parametrizations[name] = computing
    return module


def _normed(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """The weight of a weight norm, whose magnitudes torch trusts to be as many as there are.

    Raises:
        ForbiddenError: they are others.
    """
    lengths = () if dim == -1 else tuple(size if axis == dim else 1 for axis, size in enumerate(v.shape))
    if (g.shape, g.dtype) != (lengths, v.dtype):
        raise ForbiddenError("The magnitudes of a weight norm have another shape or dtype than its directions.")
    return torch._weight_norm(v, g, dim)


INSTEAD: Mapping[Callable[..., Any], Callable[..., Any]] = {torch._weight_norm: _normed}
"""What torch calls for it that trusts what it gets, and what is carried out in its place."""
