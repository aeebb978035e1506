"""Files are written whole or not at all, and a writer that is killed leaves nothing behind.

What is written has no name until it is whole (Linux's O_TMPFILE), so that it goes with the process, however that ends.
Where the system has no such files it stands beside its place as `.NAME.PID.….jvp-part`, locked while its writer lives; the
next writer to that place takes away what is locked by nobody.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jvpcli.errors import FileError, why
from jvpcli.system.files import CAN_LOCK, link, lock, own_descriptor, unnamed

LONGEST_NAME = 150
"""Bytes of a file's name that the name of its unfinished part repeats; a name has 255 at most."""

def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file.

    Raises:
        FileError: it cannot be written.
    """
    with written(path) as stream:
        stream.write(content)


@contextmanager
def written(path: str | Path) -> Iterator[IO[bytes]]:
    """A stream to fill: what is in it stands at `path` once the block is left without an exception.

    A link is followed.  A file that was there keeps its permissions, and its owner where that may be; a new one gets
    those that the umask leaves.  A pipe or a device (`/dev/stdout`) is written to once all is there.

    Raises:
        FileError: it cannot be written; an OSError in the block is one, too.
    """
    try:
        place = _pipe_or_device(path)
        if place is None:
            with _put(os.path.realpath(path)) as stream:
                yield stream
        else:
            import shutil
            import tempfile

            with os.fdopen(place, "wb") as out, tempfile.TemporaryFile() as stream:
                yield stream
                stream.seek(0)
                shutil.copyfileobj(stream, out)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error


def check_writable(path: str | Path) -> None:
    """Refuses a place that cannot be written to, before anything is computed.

    Raises:
        FileError: its directory is not there, it is a directory itself, or a link that leads nowhere.
    """
    try:
        target = Path(os.path.realpath(path))
        if _status(path) is None and not target.parent.is_dir():
            raise FileError(f"{path} cannot be written: there is no directory {target.parent}")
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    if target.is_dir():
        raise FileError(f"{path} cannot be written: it is a directory")


def _failure(path: str | Path, error: OSError | ValueError) -> FileError:
    return FileError(f"{path} cannot be written: {why(error, path)}")


def _status(path: str | Path) -> os.stat_result | None:
    """What a path leads to; None for nothing yet."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _pipe_or_device(path: str | Path) -> int | None:
    """A descriptor of what is written to as it is; None for a file, which is replaced."""
    own = own_descriptor(os.fspath(path))
    if own is not None:
        return os.dup(own)
    status = _status(path)
    if status is None or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    return os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))


# Files


@contextmanager
def _put(target: str) -> Iterator[IO[bytes]]:
    """A stream to fill, which then becomes the file at `target`, a path without links."""
    before = _status(target)
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _take_away_left(target)
    mode = 0o666 if before is None else 0o600  # the umask takes its part of it
    without_name = unnamed(os.path.dirname(target), mode)
    named = without_name is None
    temporary, descriptor = _named(target, mode) if without_name is None else (_beside(target), without_name)
    if not named:
        _lock_if_possible(descriptor)  # for when it has a name
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            if before is not None:
                _as_before(descriptor, before)
            if not named:
                if before is None and link(descriptor, target):
                    return
                named = link(descriptor, temporary)
            if not CAN_LOCK:
                stream.close()
            os.replace(temporary, target)  # before its lock is gone
    except BaseException:
        if named:
            with suppress(OSError):
                os.unlink(temporary)
        raise


def _as_before(descriptor: int, before: os.stat_result) -> None:
    """The owner, where that may be, and the permissions of the file that is replaced."""
    kept = True
    if hasattr(os, "fchown"):
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except OSError:
            kept = False
    if hasattr(os, "fchmod"):  # another owner's file is not run in the new one's name
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & (0o7777 if kept else 0o777))


# What has a name before it is whole


def _stem(target: str) -> str:
    name = os.path.basename(target)
    return os.fsdecode(os.fsencode(name)[:LONGEST_NAME])


def _beside(target: str) -> str:
    """A name of its own for what is not whole yet."""
    name = f".{_stem(target)}.{os.getpid()}.{os.urandom(4).hex()}.jvp-part"
    return os.path.join(os.path.dirname(target), name)


def _named(target: str, mode: int) -> tuple[str, int]:
    """A file of its own beside its place, and its descriptor."""
    while True:
        name = _beside(target)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with suppress(BlockingIOError, FileNotFoundError):
            _lock_if_possible(descriptor)
            if os.path.samestat(os.stat(name), os.fstat(descriptor)):
                return name, descriptor
        os.close(descriptor)  # before it was locked, another writer took it for a dead one's


def _take_away_left(target: str) -> None:
    """Takes away what writers to `target` left that are gone: nobody locks it."""
    if not CAN_LOCK:
        return
    ours = re.compile(rf"\.{re.escape(_stem(target))}\.\d+\.[0-9a-f]{{8}}\.jvp-part")
    directory = os.path.dirname(target)
    with suppress(OSError):
        for name in filter(ours.fullmatch, os.listdir(directory)):
            with suppress(OSError):
                _take_away(os.path.join(directory, name))


def _take_away(left: str) -> None:
    descriptor = os.open(left, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(descriptor)
        os.unlink(left)
    finally:
        os.close(descriptor)


def _lock_if_possible(descriptor: int) -> None:
    """Locks a file as `lock` does, where the file system has locks; elsewhere nothing is locked, and nothing taken away."""
    try:
        lock(descriptor)
    except BlockingIOError:
        raise
    except OSError:
        pass
