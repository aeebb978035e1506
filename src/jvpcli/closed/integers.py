"""Tensors of whole numbers, whose memory a program shares by no way that torch doesn't count.

Backward passes trust the indices, targets and masks that they have kept: torch counts what changes a tensor, and refuses to go
back through what has changed since.  `.data`, arrays of numpy's and some copies lead to the same memory uncounted.  Of whole
numbers they are what is counted, or a copy, here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from jvpcli.errors import ForbiddenError
from jvpcli.language.guards.binding import bind


def are_whole(x: Any) -> bool:
    """Whether a tensor or an array holds anything but real or complex numbers: integers, truth values."""
    if isinstance(x, Tensor):
        return not (x.is_floating_point() or x.is_complex())
    return isinstance(x, np.ndarray) and x.dtype.kind not in "fc"


def from_numpy(array: Any) -> Tensor:
    """`torch.from_numpy(array)`"""
    return _apart(array, FROM_NUMPY(array))


FROM_NUMPY = torch.from_numpy


def _apart(given: Any, made: Any) -> Any:
    """What was made of an array or a tensor, with memory of its own where that holds whole numbers."""
    if not are_whole(given) or given is made:
        return made
    return made.clone() if isinstance(made, Tensor) else made.copy()


def _as_tensor(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def made(*arguments: Any, **keywords: Any) -> Tensor:
        given = arguments[0] if arguments else keywords.get("data", keywords.get("obj"))
        found = function(*arguments, **keywords)
        return found if isinstance(given, Tensor) else _apart(given, found)

    return made


def _as_array(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *arguments, **keywords: _apart(x, function(x, *arguments, **keywords))


def _data(x: Tensor) -> Tensor:
    return x.detach() if are_whole(x) else x.data


def _set_data(x: Tensor, value: Any) -> None:
    x.data = value.clone() if are_whole(value) else value
    if are_whole(x):
        increment_version(x)


def _deepcopy(x: Tensor, memo: Any) -> Tensor:
    """Tensors that share memory share a copy of it, each with a count of its own.

    Raises:
        ForbiddenError: such integers.
    """
    if are_whole(x) and id(x) not in memo and x.untyped_storage()._cdata in memo.get("torch", ()):
        raise ForbiddenError("Integers that share their memory can't be copied together in a program.")
    return x.__deepcopy__(memo)


def copied(value: Any) -> Any:
    """`copy.copy(value)`; of a tensor it shares its memory.

    Raises:
        ForbiddenError: of integers.
    """
    if isinstance(value, Tensor) and are_whole(value):
        raise ForbiddenError("A copy of integers that shares their memory can't be made in a program: `.clone()` copies them.")
    return copy.copy(value)


def check_view(x: Tensor, *asked: Any) -> None:
    """Refuse a view of real numbers as whole ones, or the other way round; of others nothing is asked.

    Raises:
        ForbiddenError: it is one.
    """
    for dtype in asked:
        if isinstance(dtype, torch.dtype) and (dtype.is_floating_point or dtype.is_complex) == are_whole(x):
            raise ForbiddenError("Memory of real numbers can't be viewed as whole ones in a program, nor the other way round.")


SPARSE = {"embedding": "sparse", "embedding_bag": "sparse", "gather": "sparse_grad"}
"""Functions that can give their gradient in a sparse layout, with the flag that asks for it."""


def check_gradient(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse a call whose gradient would be sparse: torch trusts the places in it, and a program has them in its hands.

    Raises:
        ForbiddenError: it is one.
    """
    flag = SPARSE.get(op.rpartition(":")[2].rpartition(".")[2])
    if flag is not None:
        found = bind(op, arguments, keywords)
        if (keywords if found is None else found[1]).get(flag):
            raise ForbiddenError(f"`{flag}` can't be used in a program: torch trusts the places in a sparse gradient.")


INSTEAD: Mapping[Callable[..., Any], Callable[..., Any]] = {
    Tensor.data.__get__: _data,  # type: ignore[attr-defined]
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.numpy: _as_array(Tensor.numpy),
    Tensor.__array__: _as_array(Tensor.__array__),
    Tensor.__deepcopy__: _deepcopy,
    torch.as_tensor: _as_tensor(torch.as_tensor),
    torch.asarray: _as_tensor(torch.asarray),
}
"""What leads to a tensor's memory as torch tells of it, and what is carried out in its place."""
