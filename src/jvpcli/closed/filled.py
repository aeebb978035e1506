"""Sparse tensors as a program has them: with their zeros filled in, which gives the same numbers.

torch trusts the places that a sparse tensor keeps.  One that is differentiated by has none here: its gradient would be of those
places alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jvpcli.closed import reach
from jvpcli.closed.words import Namespace
from jvpcli.errors import ForbiddenError


def of_sparse(multiply: Callable[..., Tensor]) -> dict[str, Any]:
    """What torch has of them: `torch.sparse_coo_tensor`, `torch.spmm`, `torch.sparse.mm`; `multiply` is `torch.mm`."""
    held = {"mm": multiply, **dict.fromkeys(("FloatTensor", "DoubleTensor", "LongTensor"), made)}
    return {"sparse_coo_tensor": made, "spmm": multiply, "sparse": Namespace("torch.sparse", held)}


def made(
    indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`torch.sparse_coo_tensor(indices, values, size)`: values at the same place add up.

    Raises:
        ForbiddenError: it is a leaf, or an index is negative, which PyTorch trusts.
    """
    reach.check_given((indices, values, size, dtype, reach.here(device)))
    if requires_grad:
        raise ForbiddenError(reach.SPARSE_LEAF)
    places, given = torch.as_tensor(indices, dtype=torch.int64), torch.as_tensor(values, dtype=dtype)
    if bool((places < 0).any()):
        raise ForbiddenError("An index of a sparse tensor is negative, and PyTorch does not count from the end there.")
    shape = [*size] if size is not None else [*(places.amax(1) + 1).tolist(), *given.shape[1:]]
    return torch.zeros(shape, dtype=given.dtype).index_put(tuple(places), given, accumulate=True)
