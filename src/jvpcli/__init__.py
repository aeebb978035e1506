"""The command-line inspector of Jacobians and vector-Jacobian products for PyTorch, as a Python library.

    >>> import jvpcli
    >>> result = jvpcli.inspect("torch.outer(x, x)", x=[1, 2, 3, 4])
    >>> result.vjp["x"]
    tensor([20., 20., 20., 20.])

Importing the package loads no torch; the first call does.  Where torch is there already, the functions are loaded too,
so that the first call is as fast as the next.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jvpcli.errors import JvpError

if TYPE_CHECKING or "torch" in sys.modules:
    from jvpcli.api import check, derive, hessian, inspect, jacobian, trace

__version__ = "0.1.0"
__all__ = ["JvpError", "__version__", "check", "derive", "hessian", "inspect", "jacobian", "trace"]


def __getattr__(name: str) -> Any:
    """The functions of `jvpcli.api`, loaded (with torch) when first asked for."""
    if name in __all__:
        from jvpcli import api

        return getattr(api, name)
    raise AttributeError(f"module 'jvpcli' has no attribute {name!r}")
