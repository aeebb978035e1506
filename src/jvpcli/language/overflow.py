"""Numbers of JSON that no float holds, such as 1e400: kept as what they are until a VALUE is read from them.

Python reads them as infinity, and what was asked would be answered of other numbers.  Loads no torch.
"""

from __future__ import annotations

import math
from typing import Any


class TooLarge:
    """A number beyond every float."""

    def __repr__(self) -> str:
        return "a number that is too large for a float"


TOO_LARGE = TooLarge()
"""Stands for every such number."""


def json_float(token: str) -> Any:
    """The number of a JSON token with a fraction or an exponent, for `json.loads(parse_float=…)`."""
    number = float(token)
    return TOO_LARGE if math.isinf(number) else number
