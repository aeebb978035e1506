"""Tensors as numpy's arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor; those of a dtype that numpy does not have in the next wider one."""
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype in _WIDER:
        tensor = tensor.to(_WIDER[tensor.dtype])
    if tensor._is_zerotensor():  # autograd's zeros without memory, which numpy cannot take
        tensor = tensor.clone()
    return tensor.numpy(force=True)


_WIDER = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
