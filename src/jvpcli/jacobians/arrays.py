"""The numbers of tensors for numpy, which takes a third of torch's time for few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor; those of a dtype that numpy does not have in a wider one, as floats of 8 bits in one of 32."""
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    wider = torch.float32 if tensor.is_floating_point() and tensor.element_size() == 1 else _WIDER.get(tensor.dtype)
    if wider is not None:
        tensor = tensor.to(wider)
    if tensor._is_zerotensor():  # autograd's zeros without memory, which numpy cannot take
        tensor = tensor.clone()
    return tensor.numpy(force=True)


_WIDER = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
