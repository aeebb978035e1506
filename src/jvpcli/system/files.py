"""Files that have no name yet, locks on files, and the names of this process's own descriptors."""

from __future__ import annotations

import errno
import os

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None

UNNAMED: int | None = getattr(os, "O_TMPFILE", None)
"""How a file is opened that has no name; None where the system has none."""

MOST_LINKS = 40
"""Links that are followed one after another, as Linux does."""

STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""What people call standard output where a file's name is asked for."""


def own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout or /dev/fd/3 stands for.

    Opened by its path, a file that stdout goes to would be written over from its beginning.
    """
    for _ in range(MOST_LINKS):
        directory, name = os.path.split(path)
        if name.isdecimal() and (directory == "/dev/fd" or os.path.realpath(directory) == f"/proc/{os.getpid()}/fd"):
            return int(name)
        if not os.path.islink(path):
            break
        path = os.path.join(directory, os.readlink(path))
    return None


def unnamed(directory: str, mode: int) -> int | None:
    """A file without a name; None where the system, or the file system, has none that can be given one."""
    if UNNAMED is None:
        return None
    try:
        descriptor = os.open(directory, UNNAMED | os.O_RDWR, mode)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None
        raise
    if not os.path.exists(f"/proc/self/fd/{descriptor}"):
        os.close(descriptor)
        return None
    return descriptor


def link(descriptor: int, name: str) -> bool:
    """Gives a file without a name one, unless that is taken."""
    try:  # with a directory's descriptor, which an absolute path makes no use of, the link in /proc is followed
        os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, follow_symlinks=True)
    except FileExistsError:
        return False
    return True


def lock(descriptor: int) -> None:
    """Locks a file for as long as this process has it open; nothing where the system has no locks.

    Raises:
        BlockingIOError: another process has it locked.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
