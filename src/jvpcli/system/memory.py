"""How much memory is free, a limit on what this process may take of it, and large pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # not on this system
    resource = None  # type: ignore[assignment]

INTERPRETER = 16 * 2**20
"""Bytes that Python itself may take while it computes: modules that are loaded on the way, messages, garbage."""

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

LARGE_PAGE = 1 << 21


def free_memory() -> int:
    """Bytes that the machine and the control group that the process is in have free; 0 where that can't be known."""
    known = [value for value in (_machine_free(), _group_free()) if value is not None]
    return min(known, default=0)


def _machine_free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _pages_free()


def _pages_free() -> int | None:
    """What nothing is kept in, where the system tells only that: less than programs could get."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * PAGE
    except (AttributeError, OSError, ValueError):
        return None


def _group_free() -> int | None:
    """What the control group leaves (version 2, then version 1); None without a limit."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0)
        except (OSError, ValueError):
            continue
    return None


def can_limit() -> bool:
    """Whether `limited` limits anything on this system."""
    return resource is not None and data_size() is not None


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Lets the process take `size` bytes more than it has now; beyond, allocations fail.  Inside another, the narrower holds.

    Where the system has no such limit, nothing is limited.
    """
    used = data_size()
    if resource is None or used is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in before if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + size + INTERPRETER, sys.maxsize, *bounds]), before[1]))
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


def in_large_pages(address: int, size: int) -> None:
    """Asks that `size` bytes that nothing was written to yet lie in large pages, which take a fraction of the time to get.

    So numpy does for its own arrays, and torch doesn't.  Where the system has no such pages, nothing is asked.
    """
    if size < LARGE_PAGE:
        return
    import ctypes  # torch has loaded both
    import mmap

    if hasattr(mmap, "MADV_HUGEPAGE"):
        start = -(-address // PAGE) * PAGE
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(address + size - start), mmap.MADV_HUGEPAGE)
