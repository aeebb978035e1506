"""torch's ways to compute a weight from other parameters: weight and spectral norm, and parametrizations of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    norms = {name: _of_parameter(getattr(nn.utils, name), _own) for name in ("weight_norm", "spectral_norm")}
    ways = ("weight_norm", "spectral_norm", "orthogonal")
    newer = {name: _of_parameter(getattr(parametrizations, name), _own_of_its_class) for name in ways}
    general = {"register_parametrization": _registered, "is_parametrized": parametrize.is_parametrized}
    return {
        **norms,
        "parametrizations": Namespace("torch.nn.utils.parametrizations", newer),
        "parametrize": Namespace("torch.nn.utils.parametrize", general),
    }


def _of_parameter(function: Callable[..., Any], named: Callable[[Any, Any], str]) -> Callable[..., Any]:
    """A function that puts others in the place of a parameter, of which torch sets an attribute by the name that `named` gives."""

    @wraps(function)
    def made(module: Any, name: Any = "weight", *arguments: Any, **keywords: Any) -> Any:
        reach.check_given((*arguments, *keywords.values()))
        return function(module, named(module, name), *arguments, **keywords)

    return made


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


def _own_of_its_class(module: Any, name: Any) -> str:
    """The same, of a module whose class no other has from then on: torch sets what computes the weight on the class.

    torch makes such a class, too; but not where the program has given the module a part by the name that torch knows it by.
    """
    own, kind = _own(module, name), type(module)
    if not (any(map(reach.is_own, kind.__mro__)) or hasattr(kind, APART)):
        module.__class__ = type(kind.__name__, (kind,), {APART: True})
    return own


def _registered(module: Any, tensor_name: Any, parametrization: Any, *, unsafe: bool = False) -> Any:
    """`register_parametrization(module, "weight", parametrization)`: torch gives it other memory by what leads back.

    Raises:
        ForbiddenError: the parametrization leads back, or is none.
    """
    if not isinstance(parametrization, nn.Module):
        raise ForbiddenError("A parametrization is a module.")
    held = [*map(vars, type(parametrization).__mro__), vars(parametrization)]
    held += [vars(parametrization).get(name) or {} for name in ("_parameters", "_modules", "_buffers")]
    if any("right_inverse" in each for each in held):
        raise ForbiddenError("A parametrization with a `right_inverse` can't be used in a program.")
    return parametrize.register_parametrization(module, _own_of_its_class(module, tensor_name), parametrization)


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
