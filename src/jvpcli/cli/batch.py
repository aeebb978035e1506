"""`jvp batch`: one request a line in, one answer a line out, in order, in constant memory."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from jvpcli.cli.compute import check_folder, tell_limit
from jvpcli.cli.context import Context
from jvpcli.cli.stream import Stream
from jvpcli.errors import ExitCode, FileError, UsageError, why

EXAMPLES = """
# requests from stdin, answers to stdout
echo '{"id": 1, "expression": "torch.outer(x,x)", "inputs": {"x": [1,2,3,4]}}' | jvp batch | jq -c .vjp.x.value

# a file of requests, four at a time, five seconds each
jvp batch requests.jsonl --jobs 4 --timeout 5 > answers.jsonl

# on the workers of a Dask cluster, by its scheduler's address (or local:2: two workers here)
jvp batch requests.jsonl --cluster local:2 > answers.jsonl

# the ids of the lines that failed
jvp batch requests.jsonl | jq -c 'select(.ok | not) | [.id, .error.message]'
"""


def command(
    context: Context,
    *,
    file: str,
    jobs: int,
    cluster: str | None,
    timeout: float,
    memory_limit: int | None,
    as_python: bool,
    quiet: bool,
) -> int:
    """Answer requests from a file or stdin, a JSON document a line; a bad line gets its error and the rest go on."""
    check_folder()
    if memory_limit is not None:
        tell_limit(context)
    if cluster is not None:
        from jvpcli.cluster import check_dask

        if jobs != 1:
            raise UsageError("--jobs is for processes here, and --cluster has workers", hints=("leave one of them out",))
        check_dask("--cluster")
    with _opened(file, context) as source:
        if cluster is None:
            failed, count = Stream(context, source, jobs, timeout, memory_limit, as_python).run()
        else:
            from jvpcli.cli.distribution import Distributed  # loads Dask

            failed, count = Distributed(context, source, timeout, memory_limit, as_python).run(cluster)
    if failed and not quiet:
        context.err.say(f"{failed} of {count} lines failed\n")
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK


@contextmanager
def _opened(file: str, context: Context) -> Iterator[int]:
    """The descriptor that lines are read from."""
    if file != "-":
        try:
            stream: IO[Any] = open(file, "rb", buffering=0)  # noqa: SIM115  (what cannot be opened is told apart)
        except OSError as error:
            raise FileError(f"{file} cannot be read: {why(error, file)}") from None
        with stream:
            yield stream.fileno()
        return
    if context.stdin is None:
        raise UsageError("standard input is closed, and no FILE is named")
    try:
        descriptor = context.stdin.fileno()
    except OSError:  # a stream that is no file of the system's
        with tempfile.TemporaryFile() as copy:
            wrapped = isinstance(context.stdin, io.TextIOWrapper)
            copy.write(context.stdin.buffer.read() if wrapped else context.stdin.read().encode())
            copy.seek(0)
            yield copy.fileno()
        return
    yield descriptor
