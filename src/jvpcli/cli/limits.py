"""The operating system's limit on memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import resource
except ImportError:  # not on this system: sizes that can be known are still refused beforehand
    resource = None  # type: ignore[assignment]


INTERPRETER = 16 * 2**20
"""Bytes that Python itself may take while it computes: modules that are loaded on the way, messages, garbage."""

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Lets the process take `size` bytes more than it has now; beyond, allocations fail.  Inside another, the narrower holds."""
    used = data_size()
    if resource is None or used is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in before if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + size + INTERPRETER, *bounds]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def data_size() -> int | None:
    """Bytes of private writable memory that the process has mapped, its stack with it; None where that cannot be known."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # a tenth of the time that `status` takes
            return int(statm.read().split()[5]) * PAGE
    except OSError:
        return None
