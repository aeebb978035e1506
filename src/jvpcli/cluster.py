"""Work on other processes and machines, by Dask: who is asked, what is under way at a time, and what becomes of dead workers.

Dask itself sends a call to a worker, again to another one where that dies, and gives up on it after a few; what is here bounds
how many calls are under way, comes back to a scheduler that was started again, and says in words what failed.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from jvpcli.errors import FileError, LimitError, UsageError
from jvpcli.request import is_store
from jvpcli.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

    from jvpcli.request import Request

AHEAD = 3
"""Calls under way for each thread of the workers, so that none of them waits for the client.  Of more than two, Dask gives each
to the worker that has least to do; of fewer, all to the one that has what they share, and moves some later if it must."""

PATIENCE = 60.0
"""Seconds in which a scheduler that went away, or a worker that there is none of, may come back."""

SPARED = 2
"""So many workers started here may die of a call before the next one's death is its end (Dask's `allowed-failures`)."""


def check_dask(what: str) -> None:
    """Says how to install Dask, if it is missing.

    Raises:
        UsageError: it is.
    """
    _check(what, "distributed", "Dask")


def check_zarr(what: str) -> None:
    """Says how to install Zarr, if it is missing.

    Raises:
        UsageError: it is.
    """
    _check(what, "zarr", "Zarr")


def _check(what: str, module: str, name: str) -> None:
    if find_spec(module) is None:
        raise UsageError(
            f"{what} needs {name}, which is not installed",
            explanation="It is an optional part of jvp.",
            hints=("pip install 'jvpcli[cluster]'",),
        )


def check_saving(request: Request) -> None:
    """Refuses, before anything is computed, what goes with a store alone, and a store that cannot be made.

    Raises:
        UsageError: --resume or --cluster without a store, or what they need is not installed.
    """
    if not is_store(request.save):
        given = "--cluster" if request.cluster is not None else "--resume" if request.resume else None
        if given:
            raise UsageError(
                f"{given} is for Jacobians that are written to a store, block by block", hints=("name one, as in --save J.zarr",)
            )
        return
    check_zarr("--save to a .zarr store")
    if request.cluster is not None:
        check_dask("--cluster")
    if request.create_graph:
        raise UsageError("create_graph=True keeps a graph, and a store holds numbers alone", hints=("leave one of them out",))
    if request.blocks is not None or request.spectrum:
        raise UsageError(
            f"--{'spectrum' if request.spectrum else 'blocks'} takes the whole Jacobian, which a .zarr store does without",
            hints=("leave one of them out; the answer's `saved` has the norms of its pieces",),
        )


@contextmanager
def connected(cluster: Any) -> Iterator[Client]:
    """A client of Dask's: of workers started here (`local:2`), of a scheduler by its address or file; or the one that is given.

    Raises:
        UsageError: Dask is not installed, no scheduler is there, or its workers have other versions than this process.
        LostError: the scheduler has gone meanwhile.
    """
    check_dask("--cluster")
    import distributed

    with ExitStack() as opened:
        if isinstance(cluster, distributed.Client):
            client = cluster
        else:
            opened.enter_context(_quiet())
            client = opened.enter_context(_client(str(cluster)))
        try:
            _wait(client)
            _check_versions(client)
            yield client
        except (OSError, AttributeError) as error:  # in these end Dask's calls where no scheduler is left to ask
            if client.status == "running":
                raise
            raise LostError(str(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Dask writes no log, and Python no word of semaphores after Ctrl-C: what matters is told as an error."""
    import logging
    import sys

    said = "ignore::UserWarning:multiprocessing.resource_tracker"  # by a process that is started with these options
    sys.warnoptions.append(said)
    known = logging.root.manager.loggerDict.items()
    loggers = [each for name, each in known if name.startswith("distributed") and isinstance(each, logging.Logger)]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        sys.warnoptions.remove(said)
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


@contextmanager
def _client(address: str) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    kind, _, count = address.partition(":")
    if kind == "local":
        if not count.isdigit() or not int(count):
            raise UsageError(f"--cluster local:N starts N workers here, as in local:2; not {address!r}")
        quiet = {"distributed.scheduler.allowed-failures": SPARED, "distributed.logging.distributed": "critical"}
        with (
            dask.config.set(quiet),
            LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=":0", silence_logs=50) as here,
            Client(here) as client,
        ):
            yield client
        return
    try:
        place = _address_in(address) if os.path.isfile(address) else address
        client = Client(place, timeout=PATIENCE / 4, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {address}",
            explanation=str(error).partition("\n")[0],
            hints=("--cluster takes its address, as in tcp://host:8786, a scheduler file, or local:N for N workers here",),
        ) from None
    with client:
        yield client


def _address_in(path: str) -> str:
    """The address that a scheduler file tells.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        told = json.load(file)
    if not isinstance(told, dict) or not isinstance(told.get("address"), str):
        raise ValueError("the file tells no address: dask scheduler --scheduler-file writes one that does")
    return str(told["address"])


def _wait(client: Client) -> None:
    """Waits for a first worker.

    Raises:
        UsageError: none comes.
    """
    import distributed

    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except distributed.TimeoutError:
        none = f"the cluster has no worker, and none came in {PATIENCE:g} s"
        raise UsageError(none, hints=("start one with dask worker",)) from None


def versions() -> dict[str, str]:
    """What has to be the same on all sides: of Python the first two numbers."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "jvpcli": __version__}
    try:
        return {**found, "torch": version("torch")}
    except PackageNotFoundError:
        return {**found, "torch": "none"}


def _check_versions(client: Client) -> None:
    """Refuses workers with other versions: they would give other roundings, or none at all.

    Raises:
        UsageError: there is one; it names it, and both versions.
    """
    here = versions()
    for worker, there in client.run(versions, on_error="return").items():
        if isinstance(there, BaseException):
            raise UsageError(f"the worker {worker} cannot load jvpcli: {there}", hints=("install the same jvpcli there",))
        different = [f"{name} {there[name]} (here {mine})" for name, mine in here.items() if there.get(name) != mine]
        if different:
            raise UsageError(f"the worker {worker} has {', '.join(different)}", hints=("install the same versions there",))


def width(client: Client) -> int:
    """How many calls may be under way."""
    return AHEAD * max(1, sum(client.nthreads().values()))


def dashboard(client: Client) -> str | None:
    """The address of Dask's page, where there is one."""
    return client.dashboard_link if "dashboard" in client.scheduler_info().get("services", {}) else None


def carry_out(
    client: Client, work: Callable[..., Any], shared: Any, items: Iterable[Any], name: str
) -> Iterator[tuple[Any, Any]]:
    """`work(shared, item)` for every item on the workers; few are under way at a time, and each is told of as it is done.

    Args:
        client: of the cluster.
        work: a function of a module; what it gives is small, since it comes back here.
        shared: what every call takes; it goes to each worker once.
        items: hashable.
        name: of the calls, on Dask's page.

    Yields:
        an item and what came of it.

    Raises:
        LimitError: an item has taken down workers, one after the other.
        LostError: the scheduler, and what it knew, has gone.
        Whatever a call raises.
    """
    from distributed import as_completed

    waiting = iter(items)
    token = os.urandom(6).hex()
    common = client.submit(_same, shared, key=f"shared-{token}")  # Dask groups calls by the words that they begin with

    def submit(item: Any) -> Future:
        return client.submit(work, common, item, key=f"{name}-{token}-{item}")

    under_way = {submit(item): item for item in islice(waiting, width(client))}
    done = as_completed(list(under_way), loop=client.loop)
    for future in done:
        item = under_way.pop(future)
        for following in islice(waiting, 1):  # before what came of this one is fetched
            new = submit(following)
            under_way[new] = following
            done.add(new)
        yield item, result_of(future, f"{name} {item}")


def _same(shared: Any) -> Any:
    return shared


class LostError(Exception):
    """The scheduler has gone, and what was under way with it."""


def result_of(future: Future, what: str) -> Any:
    """What came of a call.

    Raises:
        LimitError: it has taken down workers, one after the other.
        LostError: the scheduler has gone.
        Whatever the call raised.
    """
    from asyncio import CancelledError as Cancelled
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, TimeoutError
    from distributed.comm import CommClosedError

    try:
        return future.result()
    except KilledWorker as error:
        raise LimitError(
            f"{what} took down {error.allowed_failures + 1} workers, one after the other",
            explanation="Most likely they ran out of memory.",
            hints=("give the workers more memory, or lower --memory-limit",),
        ) from None
    except (CancelledError, Cancelled, CommClosedError, TimeoutError) as error:
        raise LostError(str(error)) from error
    except OSError as error:
        raise FileError(f"{what}: {error}") from error


def until_done(cluster: Any, run: Callable[[Client], None]) -> None:
    """Calls `run` with a client; again where the scheduler was lost on the way, and comes back in time.

    Raises:
        FileError: it does not.
    """
    check_dask("--cluster")
    from distributed.client import ClosedClientError

    lost: float | None = None
    while True:
        try:
            with connected(cluster) as client:
                run(client)
                return
        except (LostError, ClosedClientError) as error:
            if str(cluster).startswith("local:") or getattr(cluster, "status", None) == "closed":  # it does not come back
                raise _gone() from error
            lost = time.monotonic()
        except UsageError as error:
            if lost is None:
                raise
            if time.monotonic() - lost > PATIENCE:
                raise _gone() from error


def _gone() -> FileError:
    return FileError("the scheduler of the cluster has gone", hints=("what is written is kept: --resume goes on from there",))


