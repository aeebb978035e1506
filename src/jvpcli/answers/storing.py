"""Jacobians that are too large to hold: cut into blocks, each computed here or on a worker of a cluster, and written to a store.

The store holds all that a worker has to know but for code: the text, the inputs and the cuts.  What is written is read back for
the products, which are compared with autograd's, before the store counts as complete.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jvpcli.answers.products import multiply
from jvpcli.answers.question import pose, refuse_cut
from jvpcli.answers.weights import Weight
from jvpcli.cluster import carry_out, dashboard, until_done, versions, width
from jvpcli.errors import FileError, InternalError, UsageError, why
from jvpcli.jacobians import store
from jvpcli.jacobians.cuts import Cut, block, cuts_of
from jvpcli.jacobians.figures import array
from jvpcli.jacobians.linear_map import as_numpy
from jvpcli.jacobians.nearby import largest
from jvpcli.jacobians.operations import coarsest_rounding
from jvpcli.jacobians.passes import jvp
from jvpcli.jacobians.small import Derivatives
from jvpcli.jacobians.store_layout import Opened
from jvpcli.jacobians.store_maps import StoredMap, open_maps
from jvpcli.language.readings import nodes_below
from jvpcli.problem import Problem
from jvpcli.report import Blocks, Plan, Saved, Stored
from jvpcli.request import Request, Tell
from jvpcli.system.memory import free_memory

if TYPE_CHECKING:
    from distributed import Client

PART_OF_FREE = 4
"""Without a memory limit a block may take one byte in so many of what is free."""

SELDOM, PART_OF_TIME = 2.0, 0.02
"""Seconds from one word of progress to the next, and the most of the time that finding it out may take."""

UNKNOWN = 1 << 30
"""Bytes that a block may take where it is not known what is free."""


Files = tuple[tuple[str, str], ...]
"""Files to import: their names and their texts."""


@dataclass(frozen=True)
class Job:
    """What a worker has to know of a question; two are the same if they go to the same store from the same process."""

    path: str
    token: str
    request: Request = field(compare=False)
    files: Files = field(compare=False)
    cuts: tuple[Cut, ...] = field(compare=False)
    limit: int = field(compare=False)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        maps: read from the store, with their products.
        cuts: how they were cut.
        computed: how many blocks were computed now.
        limit: bytes that computing one was allowed to take.
        vectors: that they were multiplied with.
    """

    maps: Mapping[tuple[str, str], StoredMap]
    cuts: Sequence[Cut]
    computed: int
    limit: int
    vectors: Vectors


def write(problem: Problem, request: Request, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight]) -> Written:
    """Writes the Jacobians of a problem to the store that the request names, as far as they are not there yet, and compares them.

    The products with these cotangents and tangents are computed by the way, where the blocks are read.

    Raises:
        UsageError: the store is there already, and going on was not asked for or it holds something else.
        FileError: it cannot be written.
        LimitError: a row does not fit into the memory limit.
        InternalError: what was written is not what autograd gives.
    """
    assert request.save is not None
    path = str(Path(request.save).absolute())
    limit = request.memory_limit or (free_memory() or PART_OF_FREE * UNKNOWN) // PART_OF_FREE
    form = request.jacobian if request.jacobian in ("dense", "sparse") else "auto"
    files = _files(request)
    question, cuts = _question(problem, request, form, files), cuts_of(problem, request.mode, form, limit)
    if store.exists(path):
        cuts = _begun(path, question, problem, request)
    else:
        store.create(path, question, problem, problem.inputs, cuts)
    todo = list(store.missing(path, cuts))
    total, job = sum(cut.count for cut in cuts), _job(request, problem, path, files, cuts, limit)
    vectors = _vectors(problem, cotangents, tangents)

    told = _Told(request.tell, path, total)

    def here() -> list[tuple[Part, list[Tensor]]]:
        jacobians = store.jacobians(path, "r+")
        for done, (place, number) in enumerate(todo, 1):
            store.write_block(jacobians, cuts[place], number, block(problem, cuts[place], number, limit))
            told(done, len(todo))
        return [(part, multiply_part((path, vectors), part)) for part in _parts(cuts, 1)]

    found: list[tuple[Part, list[Tensor]]] = []

    def there(client: Client) -> None:
        waiting, page = list(store.missing(path, cuts)), dashboard(client)
        for done, _ in enumerate(carry_out(client, compute_block, job, waiting, "jvp-block"), 1):
            told(done, len(waiting), page)
        parts = _parts(cuts, width(client))
        found[:] = carry_out(client, multiply_part, (path, vectors), parts, "jvp-products")

    if request.cluster is None:
        found = here()
    else:
        until_done(request.cluster, there)
    maps = _with_products(open_maps(path, unfinished=True), vectors, sorted(found, key=lambda each: each[0]))
    return Written(maps, cuts, len(todo), limit, vectors)


class _Told:
    """Tells how far it is: blocks, the bytes that they take, the time that is left, and the address of Dask's page."""

    def __init__(self, tell: Tell | None, path: str, total: int) -> None:
        self._tell, self._path, self._total, self._start = tell, path, total, time.monotonic()
        self._next = self._start

    def __call__(self, done: int, of: int, page: str | None = None) -> None:
        """So many of those that were missing are done."""
        now = time.monotonic()
        if self._tell and now >= self._next:
            left = (now - self._start) / done * (of - done)
            size = store.written_bytes(self._path) / 1e9
            looking = time.monotonic() - now  # the files of a large store take a while, in which nothing is handed out
            self._next = now + max(SELDOM, looking / PART_OF_TIME)
            about = [f"{size:.1f} GB", f"{timedelta(seconds=round(left))} left", *([page] if page else [])]
            self._tell(f"blocks written ({', '.join(about)})", self._total - of + done, self._total)


def _question(problem: Problem, request: Request, form: str, files: Files) -> dict[str, Any]:
    """What the Jacobians in a store are of, as JSON has it: all that has to be the same for a block to fit in."""
    text = request.expression if isinstance(request.expression, str) else _called(request.expression)
    outputs = {name: [list(y.shape), str(y.dtype)] for name, y in problem.differentiable.items()}
    return {
        "expression": text, "inputs": list(problem.inputs), "wrt": list(problem.wrt), "outputs": outputs, "seed": request.seed,
        "imported": [sha256(text.encode()).hexdigest() for _, text in files], "mode": request.mode, "jacobian": form,
        "device": request.device, **versions(),
    }  # fmt: skip


def _called(function: Any) -> str:
    function = getattr(function, "__wrapped__", function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _begun(path: str, question: Mapping[str, Any], problem: Problem, request: Request) -> tuple[Cut, ...]:
    """The cuts of a store that is there already, for the same question.

    Raises:
        UsageError: there are blocks in it and going on was not asked for, or it holds something else.
    """
    known = store.about(path)
    if not request.resume and len(list(store.missing(path, known.cuts))) < sum(cut.count for cut in known.cuts):
        raise UsageError(
            f"{request.save} is there already, and a store is not overwritten",
            hints=("--resume goes on with it: blocks that it has are not computed again", "remove it, or name another"),
        )
    then = known.question
    changed = [f"{name} {then.get(name)} (here {mine})" for name, mine in versions().items() if then.get(name) != mine]
    if changed:
        raise UsageError(
            f"{request.save} was begun with {', '.join(changed)}",
            explanation="Blocks that different versions compute may be rounded differently.",
            hints=("go on with the versions that it was begun with, or name another store",),
        )
    other = [name for name, value in question.items() if then.get(name) != value]
    if not other:
        held = store.inputs_of(path)
        other = [f"the value of {name}" for name, x in problem.inputs.items() if not _same(held[name], x)]
    if other:
        raise UsageError(
            f"{request.save} was begun for another question: {', '.join(other)} differ{'s' if len(other) == 1 else ''}",
            hints=("name another store",),
        )
    return known.cuts


def _same(held: Tensor, x: Tensor) -> bool:
    """Whether an input is the one in the store, bit by bit as far as numpy has its dtype."""
    return held.dtype == x.dtype and held.shape == x.shape and as_numpy(held).tobytes() == as_numpy(x).tobytes()


# Computing blocks


def _files(request: Request) -> Files:
    """The names and the texts of the files to import.

    Raises:
        FileError: one cannot be read.
    """
    try:
        return tuple([(Path(name).name, Path(name).read_text(encoding="utf-8")) for name in request.imports])
    except OSError as error:
        raise FileError(f"a file to import cannot be read: {why(error, request.imports[0])}") from None


def _job(request: Request, problem: Problem, path: str, files: Files, cuts: tuple[Cut, ...], limit: int) -> Job:
    """The question without what only this process has; the inputs of a text are in the store."""
    text = isinstance(request.expression, str)
    bare = replace(
        request, inputs=dict.fromkeys(request.inputs) if text else request.inputs, wrt=problem.wrt, grad_outputs=(),
        tangent=(), imports=(), memory_limit=limit, save=None, cluster=None, tell=None, stdin=None, calls=None, passed_over=None,
    )  # fmt: skip
    return Job(path, os.urandom(8).hex(), bare, files, cuts, limit)


def compute_block(job: Job, which: tuple[int, int]) -> None:
    """On a worker: computes a block and writes it; nothing comes back."""
    place, number = which
    cut = job.cuts[place]
    problem, jacobians = _begin(job)
    store.write_block(jacobians, cut, number, block(problem, cut, number, job.limit))


@lru_cache(maxsize=1)
def _begin(job: Job) -> tuple[Problem, Mapping[tuple[str, str], Opened]]:
    """The problem of a job and its store: evaluated, and opened, once on each worker."""
    import tempfile

    request = job.request
    if isinstance(request.expression, str):
        held = store.inputs_of(job.path)
        request = replace(request, inputs={name: held[name] for name in request.inputs if name in held})
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in job.files:  # the user's own, sent along with the job: nothing that the store holds is ever run
            paths.append(str(Path(folder) / name))
            Path(paths[-1]).write_text(text, encoding="utf-8")
        problem = pose(replace(request, imports=tuple(paths)))
    refuse_cut(problem)
    return problem, store.jacobians(job.path, "r+")


# Products


Part = tuple[str, str, int, int]
"""Of which output, to which input, and the first and last of consecutive blocks."""

Vectors = Mapping[tuple[str, str], tuple[list[Tensor], list[Tensor]]]
"""(output, input) to the cotangents and the tangents that its Jacobian is multiplied with, the random ones first."""


def _vectors(problem: Problem, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight]) -> Vectors:
    generator = torch.Generator().manual_seed(problem.seed + 1)
    vs = {name: _random(y, generator) for name, y in problem.differentiable.items()}
    us = {name: _random(x, generator) for name, x in problem.leaves.items()}
    found: dict[tuple[str, str], tuple[list[Tensor], list[Tensor]]] = {}
    for y in vs:
        for x in us:
            given = [w.value for w in (cotangents.get(y),) if w is not None and w.value.shape == vs[y].shape]
            found[y, x] = [vs[y], *given], [us[x], *[w.value for w in (tangents.get(x),) if w is not None]]
    return found


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    wide = torch.complex64 if like.is_complex() else torch.float32
    return torch.randn(like.shape, generator=generator, dtype=wide).to(like.dtype).to(like.device)


def _parts(cuts: Sequence[Cut], count: int) -> list[Part]:
    """The blocks of every Jacobian in about `count` runs of consecutive ones."""
    found: list[Part] = []
    for cut in cuts:
        step = max(1, -(-cut.count // count))
        found += [
            (cut.output, x, start, min(start + step, cut.count)) for x in cut.inputs for start in range(0, cut.count, step)
        ]
    return found


def multiply_part(shared: tuple[str, Vectors], part: Part) -> list[Tensor]:
    """On a worker: what consecutive blocks give to the products."""
    (path, vectors), (y, x, first, last) = shared, part
    return open_maps(path, unfinished=True)[y, x].products(first, last, *vectors[y, x])


def _with_products(
    maps: Mapping[tuple[str, str], StoredMap], vectors: Vectors, found: Sequence[tuple[Part, list[Tensor]]]
) -> Mapping[tuple[str, str], StoredMap]:
    """The maps, each with the products that its blocks have given."""
    result: dict[tuple[str, str], StoredMap] = {}
    for pair, each in maps.items():
        vs, us = vectors[pair]
        products = each.total([given for part, given in found if part[:2] == pair], len(vs), len(us))
        ways = [False] * len(vs) + [True] * len(us)
        known = zip((*vs, *us), ways, products, strict=True)
        result[pair] = replace(each, known=tuple([(of, way, product.to(of.device)) for of, way, product in known]))
    return result


# The truth of what was written


def plan_of_cuts(written: Written) -> Plan:
    """How the blocks were computed, as the report tells it."""
    passes = sum(cut.length for cut in written.cuts)
    along = {cut.along for cut in written.cuts}
    mode = "forward" if along == {"columns"} else "reverse"
    words = ", ".join(
        f"{cut.output}: {cut.count} block{'' if cut.count == 1 else 's'} of {cut.size} {cut.along}" for cut in written.cuts
    )
    return Plan(mode, passes, written.limit, f"computed and written block by block ({words})", "blocks")


def saved(problem: Problem, request: Request, written: Written) -> Saved:
    """What is told of a store, once its products with a random v and u are those of autograd; it is complete then.

    Raises:
        InternalError: they are not.
    """
    assert request.save is not None
    derivatives = Derivatives(written.maps, plan_of_cuts(written))
    randoms = {y: Weight("randn", vs[0]) for (y, _), (vs, _) in written.vectors.items()}
    multiply(derivatives, problem, randoms, {})
    found: dict[str, dict[str, Stored]] = {}
    for (y, x), each in written.maps.items():
        rows, columns, norms = each.picture()
        cut = next(cut for cut in written.cuts if cut.output == y and x in cut.inputs)
        found.setdefault(y, {})[x] = Stored(
            format="csr" if each.is_sparse else "dense",
            along=cut.along,
            blocks=cut.count,
            block_size=cut.size,
            nnz=each.nnz,
            frobenius_norm=each.norm,
            jvp_difference=_pushed(problem, y, x, each, written.vectors[y, x][1][0]),
            diagonal=array(each.diagonal),
            picture=Blocks((rows,), (columns,), norms),
        )
    size = store.close(str(Path(request.save).absolute()))
    return Saved(request.save, sum(cut.count for cut in written.cuts), written.computed, size, found)


def _pushed(problem: Problem, y: str, x: str, each: StoredMap, u: Tensor) -> float | None:
    """How far J·u by the blocks is from autograd's; None where autograd does not tell it.

    Raises:
        InternalError: further than roundings explain.
    """
    leaf, output = problem.leaves[x], problem.differentiable[y]
    if leaf.is_complex() or output.is_complex():  # a transposed pass knows real numbers alone
        return None
    try:
        direct = jvp(output, [leaf], [u]).detach().cpu()
    except RuntimeError:
        return None
    difference = (each.pushforward(u).to(direct.dtype) - direct).abs()
    off = largest(torch.where(difference.isfinite(), difference, 0.0))
    let = math.sqrt(coarsest_rounding([output, leaf], [nodes_below(output.grad_fn)]))
    if off > let * largest(direct) and off > let * largest(each.absolute().pushforward(u.abs())):
        raise InternalError(
            f"the blocks of ∂{y}/∂{x} times a random u are not what autograd gives: they differ by up to {off:g}",
            explanation="Blocks of another function or of another point may be among them: begin anew, in another store.",
        )
    return off
