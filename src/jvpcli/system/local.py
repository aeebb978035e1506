"""Sockets between processes of one user on one machine: where they stand, who is at the other end, and open files sent along.

Such a socket stands in a folder that belongs to the user and that nobody else can enter; the system itself tells who is at
its other end.  A process that starts loads this module on the way to every answer: it loads `socket` only where there is one.
"""

from __future__ import annotations

import os
import stat
import struct
import sys

TYPE_CHECKING = False  # `typing` alone takes as long to load as all that is needed here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import socket
    from typing import Any

MOST_DESCRIPTORS = 4
"""Open files that come with one message: three streams and a folder."""

GREETING = b"!"
"""What who listens says first: it is awake.  Until then nothing is sent, above all no open file: one that waits at a process
that is stopped (Ctrl-Z) would stay open."""

OWN_FILES = ("/dev/fd/", "/proc/")
"""How the paths begin that name other files for each process."""

AT_LOADING = (
    "PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_",
    "VECLIB_", "NUMEXPR_", "NPY_", "DNNL_", "ONEDNN_", "TORCH", "PYTORCH", "ATEN_", "C10_", "CUDA", "NVIDIA_", "NCCL_", "HIP_",
    "ROCR_", "HSA_",
)  # fmt: skip
"""How the names of variables begin that Python, torch and the libraries below read while they load."""


class streams_taken:
    """While this is so, no file that is opened gets the number of a standard stream that is closed."""

    def __enter__(self) -> None:
        self._opened: list[int] = []
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            self._opened.append(descriptor)
        os.close(descriptor)

    def __exit__(self, *raised: object) -> None:
        for descriptor in self._opened:
            os.close(descriptor)


def can_listen() -> bool:
    """Whether the system has such sockets, sends open files over them, and forks."""
    import socket

    return all((hasattr(socket, "AF_UNIX"), hasattr(socket, "send_fds"), hasattr(os, "fork"), hasattr(os, "getuid")))


def folder(environ: Mapping[str, str]) -> str | None:
    """Where this user's sockets stand; None where the system has none."""
    if not hasattr(os, "getuid"):
        return None
    own = environ.get("XDG_RUNTIME_DIR")
    return os.path.join(own, "jvp") if own else os.path.join(environ.get("TMPDIR") or "/tmp", f"jvp-{os.getuid()}")


def is_private(path: str) -> bool:
    """Whether a path is a folder of this user's, no link to one, that nobody else can enter."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def make_private(path: str) -> bool:
    """Makes the folder, if need be; whether it is private.

    Raises:
        OSError: it cannot be made.
    """
    if not os.path.lexists(path):
        os.mkdir(path, 0o700)
    return is_private(path)


class alone_in:
    """While this is so, no other process of this user's is alone in the same folder: it waits.

    Raises:
        OSError: the folder can't be opened.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        import fcntl

        self._descriptor = os.open(self._folder, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *raised: object) -> None:
        os.close(self._descriptor)


def listen(path: str) -> socket:
    """A socket that others of this user's processes can call.

    Raises:
        OSError: there is something at that path, or it cannot be made.
    """
    import socket

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def call(path: str, patience: float) -> socket | None:
    """A connection to who listens at a path, and is awake; None where nobody does, or another user.

    Raises:
        TimeoutError: it is not awake within so many seconds.
    """
    import socket

    if not is_private(os.path.dirname(path)):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(patience)
    try:
        connection.connect(path)
        if is_same_user(connection) and connection.recv(len(GREETING)) == GREETING:
            connection.settimeout(None)
            return connection
    except (TimeoutError, BlockingIOError):  # the latter where more wait than can
        connection.close()
        raise TimeoutError from None
    except OSError:
        pass
    connection.close()
    return None


def is_same_user(connection: socket) -> bool:
    """Whether the process at the other end is this user's; where the system can't tell, the folder has to do."""
    import socket

    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.geteuid())


def send(connection: socket, content: bytes, descriptors: Sequence[int]) -> None:
    """Sends bytes, with open files beside the first of them."""
    import socket

    sent = socket.send_fds(connection, [content], descriptors) if descriptors else 0
    if sent < len(content):  # to send nothing fails, too, where the other end has all and is gone
        connection.sendall(memoryview(content)[sent:])


def say(connection: socket, content: bytes) -> None:
    """Sends a few bytes, which are lost where there is no room for them.

    Raises:
        OSError: nobody listens any more.
    """
    import socket

    connection.send(content, socket.MSG_DONTWAIT)


def receive(connection: socket, size: int, wait: bool = True) -> tuple[bytes, list[int]]:
    """What has come, b"" at the end, and the open files that came with it.

    Raises:
        BlockingIOError: nothing has come, and it is not to be waited for.
    """
    import socket

    content, descriptors, _, _ = socket.recv_fds(connection, size, MOST_DESCRIPTORS, 0 if wait else socket.MSG_DONTWAIT)
    return content, descriptors


def receive_whole(connection: socket, size: int) -> bytes:
    """So many bytes; fewer where the other end is gone before."""
    content = b""
    while len(content) < size and (piece := connection.recv(size - len(content))):
        content += piece
    return content


def surroundings() -> dict[str, Any]:
    """What a process has from where it was started, and cannot take on later: two in which it is the same do the same."""
    import resource

    limits = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    root = os.stat("/")
    return {
        "user": (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())),
        "files": (root.st_dev, root.st_ino, _namespace()),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in limits],
        "processors": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "niceness": os.nice(0),
        "python": (tuple(sys.flags), sys.warnoptions, sorted(sys._xoptions.items())),
        "variables": sorted(item for item in os.environ.items() if item[0].startswith(AT_LOADING)),
    }


def _namespace() -> str:
    """Which mounted file systems the process sees, where they can differ between processes."""
    try:
        return os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
