"""Files are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jvpcli.errors import FileError


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes `content` beside `path` and then puts it in its place, so that no half-written file is ever seen.

    Raises:
        FileError: the file cannot be written.
    """
    target = Path(path)
    target = target.resolve() if target.is_symlink() else target  # a link stays one, and what it points to is replaced
    try:
        if target.exists() and not target.is_file():  # a directory refuses; a pipe or /dev/stdout is simply written to
            target.write_bytes(content)
            return
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, _permissions(target))
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def check_writable(path: str | Path) -> None:
    """Refuses a place that cannot be written to, before anything is computed.

    Raises:
        FileError: its directory is not there, or it is a directory itself.
    """
    target = Path(path)
    if target.is_dir():
        raise FileError(f"{path} cannot be written: it is a directory")
    if not target.parent.is_dir():
        raise FileError(f"{path} cannot be written: there is no directory {target.parent}")


def _permissions(target: Path) -> int:
    """The permissions of the file that is replaced, or those that a new file gets here."""
    if target.exists():
        return target.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
