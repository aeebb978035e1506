"""What reports and errors may hold: exactly the types that a strict encoder writes, never a subclass."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

PLAIN = (str, int, float, complex, bool, type(None), np.ndarray)
NESTED = (tuple, list, dict, MappingProxyType)


def strange(value: Any, place: str = "") -> list[str]:
    """The places in a report or an error's document where something stands that is no plain value."""
    kind = type(value)
    if kind in PLAIN:
        return []
    if kind in (dict, MappingProxyType):
        return [at for key, part in value.items() for at in strange(key, place) + strange(part, f"{place}[{key!r}]")]
    if kind in NESTED:
        return [at for index, part in enumerate(value) for at in strange(part, f"{place}[{index}]")]
    if is_dataclass(kind):
        return [at for field in fields(value) for at in strange(getattr(value, field.name), f"{place}.{field.name}")]
    return [f"{place}: {kind.__name__}"]
