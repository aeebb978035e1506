"""The numbers of tensors for numpy, which takes a third of torch's time for few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


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
