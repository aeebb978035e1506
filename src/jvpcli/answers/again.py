"""Inspections of one text at one form of inputs, of which only the numbers are found out anew.

What a document says beside its numbers follows from the steps, the shapes, and a few facts about the numbers: that all are
finite, that the two ways to a product agree, which entries of the Jacobians and which terms of the products are not zero.  One
inspection goes the ordinary way and leaves its text with gaps; they are filled with the numbers of other points where these
facts are the same, by the same passes.  Where they are not, or anything fails, it is the ordinary way that answers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import orjson
import torch
from torch import Tensor

from jvpcli.answers.inspect import Inspection, investigate
from jvpcli.answers.products import total
from jvpcli.answers.warnings import is_quiet
from jvpcli.jacobians.contraction import MOST_TERMS, added_up, live_terms, worked_column
from jvpcli.jacobians.linear_map import DenseMap, as_numpy
from jvpcli.jacobians.nearby import find_kink
from jvpcli.jacobians.passes import vjp
from jvpcli.jacobians.small import AHEAD
from jvpcli.jacobians.stacked import Rows, believable, blocks_of
from jvpcli.jacobians.structure import kind_by_values
from jvpcli.language.values import is_word, read_value
from jvpcli.problem import Named, Problem
from jvpcli.render.json import Place, around_numbers, to_json
from jvpcli.report import InspectReport
from jvpcli.request import Request

COMMON = ({torch.float32}, {torch.float64})
"""Dtypes whose numbers are written as they are."""

BY_POINTS = frozenset(("no_path_here", "cut", "cut_untested", "steady", "no_effect"))
"""What is said of an input that no gradient reaches because of the values there, or at other points."""

Pair = tuple[str, str]
Maps = Mapping[Pair, DenseMap]
Found = TypeVar("Found")
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Block:
    """A pair among a point's numbers, and what of its Jacobian the words depend on.

    Attributes:
        pair: output and input.
        place: of the Jacobian's entries.
        shape: of the Jacobian as a matrix.
        part: of the pair's gradient among those of all.
        exact: whether the words depend on its entries, not only on which of them are zero.
        weights: of the product, flattened.
        reached: whether the gradient is one, and not zero for want of a path.
    """

    pair: Pair
    place: slice
    shape: tuple[int, int]
    part: slice
    exact: bool
    weights: Tensor
    reached: bool

    def live(self, numbers: np.ndarray) -> np.ndarray:
        """Which terms of the product are not zero at each of several points (k, total): (k, m, n)."""
        return live_terms(as_numpy(self.weights), numbers[:, self.place].reshape(-1, *self.shape))

    def facts(self, numbers: np.ndarray) -> list[bytes]:
        """What the words depend on at each point."""
        found = numbers[:, self.place]
        entries = found if self.exact else found != 0
        return [here.tobytes() + terms.tobytes() for here, terms in zip(entries, self.live(numbers), strict=True)]

    def difference(self, numbers: np.ndarray, shown: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """The largest difference of the two gradients at each point, and whether it is surely one of rounding."""
        contracted, direct = (part[:, self.part] for part in np.split(numbers[:, shown:], 2, axis=1))
        terms = np.abs(as_numpy(self.weights)) @ np.abs(numbers[:, self.place].reshape(-1, *self.shape))
        off, size = np.abs(contracted - direct).max(1).astype(float), np.abs(direct).max(1).astype(float)
        return off, off <= math.sqrt(eps) * np.maximum(size, terms.max(1) / 2)  # half of what the ordinary way lets pass


@dataclass(frozen=True, eq=False)
class Passes:
    """What is computed at a point.

    Attributes:
        request, problem, cotangents: as the ordinary way had them.
        rows, sample: of the pass around the point, as `stacked` has them.
        blocks: of every output and input.
        shown: how many of a point's numbers the document has.
    """

    request: Request
    problem: Problem
    cotangents: Named
    rows: Rows
    sample: Named
    blocks: Sequence[Block]
    shown: int

    def evaluated(self, values: Mapping[str, Any]) -> Problem | None:
        """The problem at other values of the inputs, by its course; None where that does not hold there."""
        asked, first = self.request, self.problem
        if list(values) != list(asked.inputs) or not all(map(_is_plain, values.values())):
            return None
        inputs = {name: read_value(value, name=name, dtype=asked.dtype) for name, value in values.items()}
        limit, courses = first.memory_limit, first.courses
        problem = Problem(first.function, inputs, first.wrt, first.seed, limit, courses=courses, handles=first.handles)
        return problem if problem.evaluation.known is first.evaluation.known else None

    def maps(self, problem: Problem) -> Maps | None:
        """The Jacobians at a point; None where they are not to be believed, or jump there."""
        rows = self.rows
        blocks, sides = blocks_of(problem, rows, self.sample)
        maps = rows.cut(blocks, 0)
        if rows.sides and (not believable(maps, problem, rows.seeds.generic) or find_kink(problem, sides)):
            return None
        return maps

    def numbers(self, problem: Problem, maps: Maps) -> np.ndarray | None:
        """The numbers there; None where gradients flow otherwise.

        They are those of the document's arrays; behind them of each pair the gradient by the explicit Jacobian, and then
        autograd's.
        """
        leaves, parts = problem.leaves, dict[Pair, Tensor | None]()
        for y, v in self.cotangents.items():
            gradients = vjp(problem.differentiable[y], v, list(leaves.values()))
            parts.update({(y, x): gradient for x, gradient in zip(leaves, gradients, strict=True)})
        contracted, direct = list[Tensor](), list[Tensor]()
        for block in self.blocks:
            gradient = parts[block.pair]
            if (gradient is not None) != block.reached:
                return None
            contracted.append(maps[block.pair].pullback(self.cotangents[block.pair[0]]))
            direct.append(torch.zeros_like(contracted[-1]) if gradient is None else gradient)
        shown = [*leaves.values(), *problem.differentiable.values(), *[maps[block.pair].matrix for block in self.blocks]]
        sums = [total(parts, x, leaf) for x, leaf in leaves.items()]
        return as_numpy(torch.cat([tensor.reshape(-1) for tensor in (*shown, *sums, *contracted, *direct)]))

    def worked(self, maps: Maps, columns: Sequence[int]) -> list[float]:
        """Of each pair the entry of the product that is worked out."""
        blocks = zip(self.blocks, columns, strict=True)
        return [added_up(block.weights, maps[block.pair].matrix, column) for block, column in blocks]


@dataclass(frozen=True, eq=False)
class Words:
    """A document's text around its numbers.

    Attributes:
        text: the document, a `%b` in the place of each number that another point has another of.
        shown: how many of a point's numbers it has.
        order: for each of them which it is, of these and then of those that are written as single ones: `single` and `terms`
            are those of the former that are; behind them are each pair's worked entry and the largest difference.
        columns: in which each pair's entry is worked out.
    """

    text: bytes
    shown: int
    order: Sequence[int]
    single: Sequence[int]
    terms: Sequence[int]
    columns: Sequence[int]

    def filled(self, numbers: np.ndarray, worked: Sequence[float], difference: float) -> bytes:
        """The document of a point whose numbers are finite."""
        texts = orjson.dumps(numbers[: self.shown], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        single = [float(texts[at]) for at in self.single]
        texts += orjson.dumps([*single, *numbers[self.terms].tolist(), *worked, difference])[1:-1].split(b",")
        return self.text % tuple([texts[at] for at in self.order])


@dataclass(frozen=True, eq=False)
class Known:
    """Inspections whose words are known.

    Attributes:
        passes: what is computed.
        eps: the coarsest rounding on the way.
        words: by the facts that they depend on.
    """

    passes: Passes
    eps: float
    words: dict[tuple[bytes, ...], Words] = field(default_factory=dict)

    def documents(self, points: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
        """The documents at values of the inputs, stage after stage; None where it is not known what is said of them."""
        found: list[bytes | None] = [None] * len(points)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problems = _each(self.passes.evaluated, dict(enumerate(points)))
            maps = _each(self.passes.maps, problems)
            with torch.no_grad():
                there = _each(lambda each: self.passes.numbers(*each), {at: (problems[at], maps[at]) for at in maps})
                for at, numbers, facts, difference in self._good(there):
                    words = self.words.get(facts)
                    worked = [] if words is None else self.passes.worked(maps[at], words.columns)
                    if words is not None and all(map(math.isfinite, worked)):
                        found[at] = words.filled(numbers, worked, difference)
        return found

    def _good(self, there: Mapping[int, np.ndarray]) -> Iterator[tuple[int, np.ndarray, tuple[bytes, ...], float]]:
        """The points whose numbers are finite, and where two ways agree: what the words depend on, and how far they differ."""
        if not there:
            return
        numbers, blocks = np.stack([*there.values()]), self.passes.blocks
        good, largest = np.isfinite(numbers).all(1), np.zeros(len(there))
        with np.errstate(all="ignore"):
            for block in blocks:
                difference, rounding = block.difference(numbers, self.passes.shown, self.eps)
                largest, good = np.maximum(largest, difference), good & rounding
        facts = zip(*[block.facts(numbers) for block in blocks], strict=True)
        for at, here, is_good, known, difference in zip(there, numbers, good, facts, largest.tolist(), strict=True):
            if is_good:
                yield at, here, known, difference

    def learn(self, request: Request, inspection: Inspection) -> None:
        """Takes the words of an answer, if others of the same form that share its facts have the same."""
        passes, report = self.passes, inspection.report
        problem, maps = inspection.problem, inspection.derivatives.maps
        if problem.course is not passes.problem.course or _passes(request, inspection) is None:
            return
        with torch.no_grad():
            numbers = passes.numbers(problem, maps)  # type: ignore[arg-type]  # _passes has seen that they are dense
        for _, here, facts, _ in self._good({} if numbers is None else {0: numbers}):
            self.words[facts] = _words(passes, report, here)
            if self.documents([request.inputs]) != [to_json(report)]:
                del self.words[facts]


def _each(find: Callable[[Item], Found | None], items: Mapping[int, Item]) -> dict[int, Found]:
    """What is found of each, but for those of which there is nothing, or that fail."""
    found = dict[int, Found]()
    for at, item in items.items():
        with suppress(Exception):  # the ordinary way explains it
            one = find(item)
            if one is not None:
                found[at] = one
    return found


# --- what is known ---------------------------------------------------------------------------------------------------


def known(request: Request, before: Known | None = None) -> Known | None:
    """How others of the request's text and form are answered; None where their words do not follow from so little.

    `before` is what is known of them already: it learns the request's words.

    Raises:
        JvpError: whatever is wrong with it, as data.
    """
    if not _asks_for_little(request):
        return before
    for _ in range(3):  # the third takes the course that the second has left, if no other came before
        inspection = investigate(request)
        if inspection.problem.course is not None:
            break
    passes = None if before else _passes(request, inspection)
    found = before if passes is None else Known(passes, inspection.problem.found("rounding"))
    if found is not None:
        found.learn(request, inspection)
    return found


def _asks_for_little(request: Request) -> bool:
    """Whether a request gives nothing but numbers, and asks for nothing that takes more than products with dense Jacobians."""
    little = Request(
        request.expression,
        request.inputs,
        request.wrt,
        request.grad_outputs,
        dtype=request.dtype,
        seed=request.seed,
        seed_given=request.seed_given,
        mode=request.mode,
        jacobian="dense" if request.jacobian == "dense" else "auto",
        memory_limit=request.memory_limit,
    )
    weights = [value for _, value in request.grad_outputs]
    return request == little and all(map(_is_plain, request.inputs.values())) and all(is_word(v) or _is_plain(v) for v in weights)


def _is_plain(value: Any) -> bool:
    """Whether a VALUE is a number, or a list."""
    return isinstance(value, (int, float, list))


def _passes(request: Request, inspection: Inspection) -> Passes | None:
    """The passes of an inspection, where they are one around each point and one for each output, and tell all that is said."""
    problem, mode = inspection.problem, inspection.derivatives.plan.mode
    rows, sample, there = problem.found(("rows", mode)), problem.found(AHEAD), problem.found((AHEAD, mode))
    if problem.course is None or not (rows and sample and there) or not _is_whole(request, inspection):
        return None
    _, coarser, _ = problem.found("kinks") or (0.0, True, None)  # what is coarser on the way is looked at from further off
    claims = [notice.claim for notice in inspection.report.warnings]
    if coarser or not is_quiet(problem) or not BY_POINTS.isdisjoint(claims):
        return None
    leaves, outputs = problem.leaves, problem.differentiable
    cotangents = {y: weight.value for y, weight in inspection.cotangents.items()}
    blocks, start, part = list[Block](), sum(t.numel() for t in (*leaves.values(), *outputs.values())), 0
    for y in outputs:
        for position, x in enumerate(leaves):
            each, nature = inspection.derivatives.maps[y, x], problem.found(("natures", y))[position]
            if not isinstance(each, DenseMap) or each.structure_from != "values":
                return None
            if kind_by_values(each.matrix, there[y, x].matrix, nature, each.shapes) != each.structure:
                return None
            places, part = (slice(start, start + each.m * each.n), slice(part, part + each.n)), part + each.n
            exact, reached = nature.rigid or nature.picking, inspection.products.contributions[y, x] is not None
            weights, start = cotangents[y].reshape(-1), places[0].stop
            blocks.append(Block((y, x), places[0], (each.m, each.n), places[1], exact, weights, reached))
    return Passes(request, problem, cotangents, rows, sample, blocks, start + sum(x.numel() for x in leaves.values()))


def _is_whole(request: Request, inspection: Inspection) -> bool:
    """Whether all inputs are differentiated and all outputs weighed, none is empty, and they are of one common dtype."""
    problem = inspection.problem
    leaves, outputs = problem.leaves, problem.differentiable
    tensors = [*leaves.values(), *outputs.values()]
    weighed, evaluated = list(inspection.cotangents), list(problem.evaluation.outputs)
    whole = list(leaves) == list(request.inputs) and list(outputs) == weighed == evaluated
    return whole and all(t.numel() and t.device.type == "cpu" for t in tensors) and {t.dtype for t in tensors} in COMMON


def _words(passes: Passes, report: InspectReport, numbers: np.ndarray) -> Words:
    """The words of a report whose numbers the passes give."""
    columns = [worked_column(block.live(numbers[None])[0]) for block in passes.blocks]
    leaves, outputs, pairs = passes.problem.leaves, passes.problem.differentiable, [block.pair for block in passes.blocks]
    arrays: dict[tuple[str, ...], np.ndarray | None] = {  # in the order of a point's numbers
        **{("inputs", x): report.inputs[x].value for x in leaves},
        **{("outputs", y): report.outputs[y].value for y in outputs},
        **{("jacobian", y, x): report.jacobian[y][x].value for y, x in pairs},
        **{("vjp", x): report.vjp[x].value for x in leaves},
    }
    order, singles, start = dict[Place, int](), list[Place](), 0
    single, terms = list[int](), list[int]()
    for name, array in arrays.items():
        assert array is not None, "it is short"
        order.update({(*name, "value", entry): start + entry for entry in range(array.size)})
        if not array.ndim:
            single.append(start)
            singles.append((*name, "value", 0))
        start += array.size
    for block, (column, rows) in zip(passes.blocks, columns, strict=True):
        for number, row in enumerate(rows[:MOST_TERMS].tolist()):
            terms.append(block.place.start + row * block.shape[1] + column)
            singles.append(("contraction", *block.pair, "entry", "terms", number, "derivative"))
    singles += [("contraction", *pair, "entry", "result") for pair in pairs] + [("comparison", "largest_difference")]
    order.update({place: start + number for number, place in enumerate(singles)})
    document, (pieces, places) = to_json(report), around_numbers(report)
    text, at = pieces[0].replace(b"%", b"%%"), len(pieces[0])
    for place, piece in zip(places, pieces[1:], strict=True):
        constant = document[at : document.index(piece[:1], at)]  # behind a number stands "," or "]" or "}"
        text += (b"%b" if place in order else constant) + piece.replace(b"%", b"%%")
        at += len(constant) + len(piece)
    used = [order[place] for place in places if place in order]
    return Words(text, start, used, single, terms, [column for column, _ in columns])
