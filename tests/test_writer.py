"""Files that are written: whole or not at all, with the right permissions, and nothing left behind by whoever is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jvpcli.errors import FileError
from jvpcli.jacobians.files import _take_room
from jvpcli.system import files
from jvpcli.writer import check_writable, write_whole, written
from processes import children, gone, until

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


@pytest.fixture(params=["unnamed", "named"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With files that have no name until they are whole, and as on a system that has none."""
    if request.param == "named":
        monkeypatch.setattr(files, "UNNAMED", None)
    return request.param


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027, 0o000])
def test_a_new_file_gets_what_the_umask_leaves(tmp_path, system, mask):
    with umask(mask):
        write_whole(tmp_path / "new", b"1")
        (tmp_path / "like").write_bytes(b"1")
    assert mode(tmp_path / "new") == mode(tmp_path / "like") == 0o666 & ~mask


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o755, 0o666])
def test_a_file_that_was_there_keeps_its_permissions(tmp_path, system, kept):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(kept)
    write_whole(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_was_there_keeps_its_owner(tmp_path, system):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o4711)
    write_whole(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 4321, 0o4711)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_or_file_that_may_not_be_written(tmp_path, system):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(0o444)
    (tmp_path / "shut").mkdir(mode=0o555)
    for path in ("old", "shut/new"):
        with pytest.raises(FileError, match="Permission denied"):
            write_whole(tmp_path / path, b"new")
    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_link_stays_one(tmp_path, system):
    """Also through several, to a file that isn't there yet, in another directory."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "second").symlink_to("target")
    (tmp_path / "first").symlink_to("far/second")
    for content in (b"new", b"newer"):
        write_whole(tmp_path / "first", content)
        assert (tmp_path / "first").is_symlink()
        assert (tmp_path / "far" / "second").is_symlink()
        assert (tmp_path / "far" / "target").read_bytes() == content
    assert sorted(os.listdir(tmp_path / "far")) == ["second", "target"]


def test_where_nothing_can_be_written_it_is_told_before_and_then(tmp_path, system):
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("loop")
    (tmp_path / "out").symlink_to("missing/target")
    (tmp_path / "file").write_bytes(b"")
    for name, why in {
        "loop": "symbolic links", "loop/a": "symbolic links", "out": "directory", "": "directory", "a/b": "directory",
        "file/b": "irectory", "n" * 300: "name too long", "a\0": "no file has such a name",
    }.items():  # fmt: skip
        for refused in (check_writable, lambda path: write_whole(path, b"1")):
            with pytest.raises(FileError, match=f"(?i){why}"):
                refused(f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path)) == ["file", "loop", "out", "pool"]


def test_the_longest_name(tmp_path, system):
    for name in ("n" * 255, "é" * 127, "a\nb", ".hidden", "x.jvp-part"):
        for content in (b"1", b"2"):
            write_whole(tmp_path / name, content)
            assert (tmp_path / name).read_bytes() == content
    assert len(os.listdir(tmp_path)) == 5


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path, system):
    path = tmp_path / "old"
    path.write_bytes(b"old")

    def fail(failure: BaseException) -> None:
        with written(path) as stream:
            stream.write(b"half")
            raise failure

    for failure in (RuntimeError(), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(failure)):
            fail(failure)
    with pytest.raises(FileError, match="No space left"):
        fail(OSError(28, "No space left on device"))
    assert (os.listdir(tmp_path), path.read_bytes()) == (["old"], b"old")


def test_nothing_is_seen_before_it_is_whole(tmp_path, system):
    with written(tmp_path / "a.npy") as stream:
        stream.write(b"half")
        stream.flush()
        assert not (tmp_path / "a.npy").exists()
        seen = os.listdir(tmp_path)
    if system == "named":
        assert [name.startswith(f".a.npy.{os.getpid()}.") and name.endswith(".jvp-part") for name in seen] == [True]
    else:
        assert seen == []
    assert os.listdir(tmp_path) == ["a.npy"]


def test_writers_at_the_same_time_do_not_meet(tmp_path, system):
    done = []

    def write(number: int) -> None:
        for _ in range(50):
            write_whole(tmp_path / "a", bytes([number]) * 10_000)
        done.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["a"]
    assert len(set((tmp_path / "a").read_bytes())) == 1


def test_a_pipe_is_written_to(tmp_path, system):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        got: list[bytes] = []
        reader = threading.Thread(target=lambda got=got: got.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        write_whole(tmp_path / name, b"1" * 300_000)
        reader.join(20)
        assert got == [b"1" * 300_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_devices(system):
    write_whole("/dev/null", b"1")
    if Path("/dev/full").exists():
        with pytest.raises(FileError, match="No space left on device"):
            write_whole("/dev/full", b"1")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@needs_proc
@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_is_written_on_from_where_it_stands(tmp_path, place):
    code = f"from jvpcli.writer import write_whole; print(1, flush=True); write_whole({place!r}, b'2\\n'); print(3)"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == b"1\n2\n3\n"
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert piped.stdout == b"1\n2\n3\n"


def test_room_on_the_disk_is_taken_before_it_is_needed(tmp_path):
    with (tmp_path / "a").open("w+b") as stream:
        _take_room(stream, 100_000)
        assert os.fstat(stream.fileno()).st_size == 100_000
    if Path("/dev/full").exists():
        with open("/dev/full", "r+b", buffering=0) as stream, pytest.raises(OSError, match="Invalid argument"):
            _take_room(stream, 1)


# Killed in the middle

SLOW = """
import signal, sys
from jvpcli import writer
from jvpcli.system import files
if sys.argv[1] == "named":
    files.UNNAMED = None
with writer.written(sys.argv[2]) as stream:
    stream.write(bytes(50_000_000))
    stream.flush()
    print("half", flush=True)
    signal.pause()
"""


def killed(path: Path, system: str, number: int) -> None:
    """A writer in another process that is ended halfway."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, system, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(number)
    process.wait(60)


def parts(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".jvp-part")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_writer_that_is_killed_leaves_nothing(tmp_path, system, number):
    """Where files have names from the beginning, the next writer to that place takes the rest away."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    killed(path, system, number)
    assert path.read_bytes() == b"old"
    if system == "unnamed":
        assert os.listdir(tmp_path) == ["a.npy"]
    elif number != signal.SIGINT:  # Python's own Ctrl-C cleans up
        assert len(parts(tmp_path)) == 1
    write_whole(tmp_path / "other.npy", b"of another name")
    assert bool(parts(tmp_path)) == (system == "named" and number != signal.SIGINT)
    write_whole(path, b"new")
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "other.npy"]


def test_what_another_writer_still_fills_is_left_alone(tmp_path):
    path = tmp_path / "a.npy"
    process = subprocess.Popen([sys.executable, "-c", SLOW, "named", path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        write_whole(path, b"new")
        assert len(parts(tmp_path)) == 1
    finally:
        process.kill()
        process.wait(60)
    write_whole(path, b"newer")
    assert os.listdir(tmp_path) == ["a.npy"]


def test_other_files_with_such_names_are_left_alone(tmp_path):
    for name in (".a.npy.1.jvp-part", ".b.npy.1.0123abcd.jvp-part", "a.npy.1.0123abcd.jvp-part"):
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / ".a.npy.1.0123abce.jvp-part")
    (tmp_path / ".a.npy.1.0123abcf.jvp-part").symlink_to(".b.npy.1.0123abcd.jvp-part")
    write_whole(tmp_path / "a.npy", b"1")
    assert len(os.listdir(tmp_path)) >= 5
    assert (tmp_path / ".b.npy.1.0123abcd.jvp-part").exists()


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_large_jacobian_that_is_not_saved_to_the_end(tmp_path, number):
    """400 MB, row by row: ended once a part of it is written, the directory is as it was."""
    argv = ["inspect", "torch.softmax(x, 0)", "--x", "torch.rand(10000)", "--save", "j.npy", "--memory-limit", "300MB"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jvpcli", *argv], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: any(written_so_far(computing, tmp_path) for computing in children(process)), process)
    (computing,) = children(process)
    process.send_signal(number)
    process.wait(60)
    assert gone(computing)
    assert os.listdir(tmp_path) == []


def written_so_far(process: int, folder: Path) -> int:
    """Bytes of the open file without a name in a folder."""
    try:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            if os.readlink(descriptor).startswith(str(folder)):
                return os.stat(descriptor).st_size
    except OSError:  # it has just been closed
        pass
    return 0


# By the command line


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [("inspect", "--html", "a.html"), ("inspect", "--plot", "a.svg"), ("inspect", "--save", "a.npy"),
     ("inspect", "--save", "a.npz"), ("trace", "--dot", "a.dot"), ("trace", "--html", "a.html"), ("trace", "--plot", "a.png")],
)  # fmt: skip
def test_every_option_that_writes_does_so_alike(tmp_path, monkeypatch, capsys, command, option, name):
    from jvpcli.cli.app import run
    from jvpcli.cli.context import Context

    monkeypatch.chdir(tmp_path)

    def jvp() -> int:
        return run([command, "x*x", "--x", "1,2", option, name], Context(None, sys.stdout, sys.stderr, {}))

    path = tmp_path / name
    with umask(0o077):
        assert jvp() == 0
    assert mode(path) == 0o600
    path.chmod(0o644)
    path.rename(tmp_path / "target")
    path.symlink_to("target")
    assert jvp() == 0
    assert path.is_symlink()
    assert mode(tmp_path / "target") == 0o644
    (tmp_path / "target").unlink()
    (tmp_path / "target").symlink_to(name)
    capsys.readouterr()
    assert jvp() == 2
    assert "Too many levels of symbolic links" in capsys.readouterr().err
    path.unlink()
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    assert jvp() == 0
    reader.join(60)
    assert got[0]
    assert sorted(os.listdir(tmp_path)) == sorted([name, "target"])


def test_a_whole_jacobian_comes_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "j.npy")
    command = (
        "cat j.npy > copy.npy & "
        f"{sys.executable} -m jvpcli inspect 'torch.outer(x,x)' --x 'torch.arange(1., 9.)' --save j.npy && wait"
    )
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=100, stdout=subprocess.DEVNULL)
    saved = np.load(tmp_path / "copy.npy")
    x = np.arange(1.0, 9.0)
    eye = np.eye(8)
    expected = np.einsum("ik,j->ijk", eye, x) + np.einsum("jk,i->ijk", eye, x)
    np.testing.assert_array_equal(saved, expected)


def test_where_the_file_system_has_no_locks(tmp_path, system, monkeypatch):
    def refusing(descriptor, how):
        raise OSError(37, "No locks available")

    (tmp_path / ".a.1.0123abcd.jvp-part").write_bytes(b"perhaps another machine's")
    monkeypatch.setattr(files.fcntl, "flock", refusing)
    write_whole(tmp_path / "a", b"1")
    assert sorted(os.listdir(tmp_path)) == [".a.1.0123abcd.jvp-part", "a"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="Linux's")
def test_where_the_file_system_has_no_unnamed_files(tmp_path, monkeypatch):
    """It says so when one is opened."""
    real = os.open

    def refusing(path, flags, *rest, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refusing)
    write_whole(tmp_path / "a", b"1")
    assert os.listdir(tmp_path) == ["a"]
