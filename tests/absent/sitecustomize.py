"""Takes away, from every Python that finds this in its PYTHONPATH, what only Unix, or only Linux, has.

What `subprocess` needs to start and to end a process stays, as does what torch itself asks for (`os.register_at_fork`), and
`os.set_blocking`, without which Python hears signals on Windows alone.
"""

import builtins
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
        "posix_fallocate", "writev",
    ),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "alarm", "pthread_sigmask", "setitimer"),
    select: ("PIPE_BUF", "epoll", "poll"),
    mmap: ("MAP_ANON", "MAP_ANONYMOUS"),
}  # fmt: skip


class _Refusing:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _WithoutProc:
    """A function of files, for which there is nothing under /proc and /sys; no method of whoever keeps it in a class."""

    def __init__(self, function):
        self.function = function

    def __call__(self, path, *rest, **named):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc", "/sys/")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.function(path, *rest, **named)


def _without_free_pages(name, sysconf=os.sysconf):
    """As on macOS."""
    if name == "SC_AVPHYS_PAGES":
        raise ValueError("unrecognized configuration name")
    return sysconf(name)


os.sysconf = _without_free_pages
sys.meta_path.insert(0, _Refusing())
for name in MODULES:
    sys.modules.pop(name, None)
for module, names in NAMES.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for module, names in {builtins: ("open",), io: ("open",), os: ("open", "stat", "lstat", "readlink", "listdir")}.items():
    for name in names:
        setattr(module, name, _WithoutProc(getattr(module, name)))
