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

from jvpcli.version import __version__

TYPE_CHECKING = False  # `typing` alone would take as long to load as a command that a resident process answers
if TYPE_CHECKING:
    from typing import Any
if TYPE_CHECKING or "torch" in sys.modules:
    from jvpcli.api import assert_gradients, batch, check, derive, explain, hessian, inspect, jacobian, open, trace
    from jvpcli.errors import JvpError

__all__ = [
    "JvpError",
    "__version__",
    "assert_gradients",
    "batch",
    "check",
    "derive",
    "explain",
    "hessian",
    "inspect",
    "jacobian",
    "open",
    "trace",
]


def __getattr__(name: str) -> Any:
    """The functions of `jvpcli.api`, loaded (with torch) when first asked for, and the exception that they raise."""
    if name == "JvpError":
        from jvpcli.errors import JvpError

        return JvpError
    if name in __all__:
        from jvpcli import api

        return getattr(api, name)
    raise AttributeError(f"module 'jvpcli' has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext jvpcli` calls: adds `%jvp` and the explanations of errors to an IPython shell."""
    from jvpcli.notebook import load

    load(shell)
