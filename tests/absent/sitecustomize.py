"""Takes away, from every Python that finds this in its PYTHONPATH, what only Unix, or only Linux, has.

What `subprocess` needs to start and to end a process stays, and `os.set_blocking`: only on Windows does Python hear signals without.
"""

import builtins
import importlib.abc
import io
import mmap
import os
import select
import signal
import sys

MODULES = {"fcntl", "grp", "pwd", "resource", "termios"}

NAMES = {
    os: (
        "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_TMPFILE", "fchdir", "fchmod", "fchown", "fork", "forkpty", "getuid", "mkfifo",
        "posix_fallocate", "sysconf", "writev",
    ),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "alarm", "pthread_sigmask", "setitimer"),
    select: ("PIPE_BUF", "epoll", "poll"),
    mmap: ("MAP_ANON", "MAP_ANONYMOUS"),
}  # fmt: skip


class _Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _without_proc(function):
    """The function, for which there is nothing under /proc and /sys."""

    def call(path, *rest, **named):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc", "/sys/")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return function(path, *rest, **named)

    return call


sys.meta_path.insert(0, _Refusing())
for name in MODULES:
    sys.modules.pop(name, None)
for module, names in NAMES.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for module, name in ((builtins, "open"), (io, "open"), *((os, name) for name in ("open", "stat", "lstat", "readlink", "listdir"))):
    setattr(module, name, _without_proc(getattr(module, name)))
