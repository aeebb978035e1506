"""What the cards about dtypes, devices, Python's values and memory decide: the pieces of their words."""

from __future__ import annotations

import re
from math import isqrt

from jvpcli.messages.cards import Found, Pieces

INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")


def dtypes(found: Found) -> Pieces:
    """Two dtypes that should be one: the causes that they hint at.  Where it is the devices that differ, that card's words."""
    expected, got = found.dtype("expected"), found.dtype("got")
    first, second = found.text("first"), found.text("second")
    asked = expected is not None
    if first != second if asked else _on_cuda(first) != _on_cuda(second):
        return {"card": "devices"}
    left, right = (expected, got) if asked else (found.dtype("first"), found.dtype("second"))
    pair = {left, right} if left is not None and right is not None else set()
    return {
        "first": None if asked or not pair else left,
        "second": None if asked else right,
        "unknown": not pair,
        "double": "float64" in pair,
        "whole": bool(pair & set(INTEGERS)),
        "half": bool(pair & {"float16", "bfloat16"}),
        "wanted": (left if left not in INTEGERS and left != "float64" else right) if pair else None,
    }


def _on_cuda(text: str | None) -> bool:
    return text is not None and "cuda" in text.lower()


def devices(found: Found) -> Pieces:
    """The devices that a message names."""
    first, second = _device(found.text("first")), _device(found.text("second"))
    gpus = bool(first and second and first != second and all(map(_GPU.fullmatch, (first, second))))
    return {
        "where": f"{first} and {second}" if first and second else first or second or "different devices",
        "gpus": gpus and not found.groups.get("replicated"),
        "replicas": found.groups.get("replicated") is not None,
    }


_GPU = re.compile(r"cuda:\d+")


def _device(text: str | None) -> str | None:
    """`torch.cuda.FloatTensor` is a tensor on cuda, `torch.FloatTensor` on the CPU."""
    if text is None:
        return None
    if text.startswith("torch.") or text.endswith("Type"):
        return "cuda" if "cuda" in text.lower() else "cpu"
    return text.lower().rstrip("!,.")


def result_type(found: Found) -> Pieces:
    """Whether the tensor written into holds whole numbers."""
    return {"whole": found.dtype("wanted") in INTEGERS}


def not_for_dtype(found: Found) -> Pieces:
    """The operation by the name of its kernel, and which kind of dtype it lacks."""
    kernel, dtype = found.text("kernel") or "the operation", found.dtype("dtype") or "this dtype"
    name = kernel.removesuffix("_cpu").removesuffix("_cuda").removesuffix("_out")
    half, whole = dtype in ("float16", "bfloat16"), dtype in INTEGERS
    return {
        "name": name.replace("_kernel_impl", "").replace("_lastdim", ""),
        "whole": whole,
        "half": half,
        "complex": dtype.startswith("complex"),
        "float": dtype.startswith("float") and not half,
        "castable": whole or half,
    }


def ambiguous_truth(found: Found) -> Pieces:
    """Whether the tensor in a condition has several values or none."""
    return {"several": "no values" not in (found.text("many") or "")}


def must_be_tensor(found: Found) -> Pieces:
    """What came instead of a tensor."""
    kind = (found.text("type") or "").removeprefix("numpy.")
    return {kind if kind in ("list", "tuple", "float", "int", "ndarray", "NoneType") else "other": True}


UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def in_units(count: int) -> str:
    """`294.7 TiB`."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} bytes" if unit == 0 else f"{size:.4g} {UNITS[unit]}"


def cpu_memory(found: Found) -> Pieces:
    """How much was asked for, and whether that is a square or a cube of float32 numbers."""
    count = found.int("bytes")
    if not count:
        return {"asked": found.text("asked") or "more memory than there is"}
    side, edge = isqrt(count // 4), round((count // 4) ** (1 / 3))
    square = side**2 * 4 == count
    return {
        "asked": found.text("asked") or in_units(count),
        "numbers": f"{count // 4:,}",
        "side": f"{side:,}" if square else None,
        "edge": f"{edge:,}" if edge**3 * 4 == count and not square else None,
    }


def accelerator_memory(found: Found) -> Pieces:
    """The accelerator's name in capitals."""
    return {"device": (found.text("device") or "GPU").upper()}
