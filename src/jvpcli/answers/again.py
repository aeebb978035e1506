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
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
import torch
from torch import Tensor

from jvpcli.answers.inspect import Inspection, investigate
from jvpcli.answers.products import total
from jvpcli.answers.warnings import is_quiet
from jvpcli.jacobians.contraction import MOST_TERMS, added_up, live_terms, worked_column
from jvpcli.jacobians.kernels import Computation, Kernels, UnsteadyError, record
from jvpcli.jacobians.linear_map import DenseMap, as_numpy
from jvpcli.jacobians.nearby import JUMP, direction
from jvpcli.jacobians.passes import vjp
from jvpcli.jacobians.small import AHEAD, KINDS
from jvpcli.jacobians.stacked import Rows, blocks_of, compared
from jvpcli.jacobians.structure import kind_by_values
from jvpcli.language.guards import is_free
from jvpcli.language.literals import to_tensor
from jvpcli.language.values import is_word, read_dtype
from jvpcli.problem import Named, Problem
from jvpcli.render.json import Place, around_numbers, to_json
from jvpcli.report import InspectReport
from jvpcli.request import Request

COMMON = ({torch.float32}, {torch.float64})
"""Dtypes whose numbers are written as they are."""

BY_POINTS = frozenset(("no_path_here", "cut", "cut_untested", "steady", "no_effect"))
"""What is said of an input that no gradient reaches because of the values there, or at other points."""

MOST_WORDS = 256
"""Of one form so many documents' words are known at most."""

Pair = tuple[str, str]
Maps = Mapping[Pair, DenseMap]
Found = TypeVar("Found")
Item = TypeVar("Item")


def _largest(numbers: np.ndarray) -> np.ndarray:
    """The largest absolute value at each of several points (k, n): (k,), in double precision."""
    return np.abs(numbers).max(1).astype(float)


@dataclass(frozen=True, eq=False)
class Block:
    """A pair among a point's numbers, and what of its Jacobian the words depend on.

    Attributes:
        pair: output and input.
        place: of the Jacobian's entries.
        shape: of the Jacobian as a matrix.
        ways: of the pair's gradient by the explicit Jacobian, and by autograd.
        exact: whether the words depend on its entries, not only on which of them are zero.
        weights: of the product, flattened.
        reached: whether the gradient is one, and not zero for want of a path.
    """

    pair: Pair
    place: slice
    shape: tuple[int, int]
    ways: tuple[slice, slice]
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

    def difference(self, numbers: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """The largest difference of the two gradients at each point, and whether it is surely one of rounding."""
        contracted, direct = (numbers[:, way] for way in self.ways)
        terms = np.abs(as_numpy(self.weights)) @ np.abs(numbers[:, self.place].reshape(-1, *self.shape))
        off, size = _largest(contracted - direct), _largest(direct)
        return off, off <= math.sqrt(eps) * np.maximum(size, terms.max(1) / 2)  # half of what the ordinary way lets pass


@dataclass(frozen=True, eq=False)
class Passes:
    """What is computed at a point.

    Attributes:
        request, problem, cotangents: as the ordinary way had them.
        rows, sample: of the pass around the point, as `stacked` has them.
        blocks: of every output and input.
        shown: how many of a point's numbers the document has.
        around: from where on they are of the point's surroundings.
        told: whether a kind follows from the operations and where they make zeros, not from the operations alone.
    """

    request: Request
    problem: Problem
    cotangents: Named
    rows: Rows
    sample: Named
    blocks: Sequence[Block]
    shown: int
    around: int
    told: bool

    def given(self, values: Mapping[str, Any]) -> Sequence[Tensor] | None:
        """Values of the inputs as tensors; None where those are others than there were."""
        names, like = self.request.inputs, self.problem.leaves.values()
        if list(values) != list(names) or not all(map(_is_plain, values.values())):
            return None
        dtype = read_dtype(self.request.dtype)
        inputs = [to_tensor(value, dtype, pairs=True) for value in values.values()]
        same = all(x.shape == leaf.shape and x.dtype == leaf.dtype for x, leaf in zip(inputs, like, strict=True))
        return inputs if same else None

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The numbers of a point in one row, the Jacobian of each block as a matrix, and what the steps have made.

        The numbers are those of the document's arrays; behind them of each pair the gradient by the explicit Jacobian, and then
        autograd's.  Where the operations may have a kink there are four for each entry of the inputs besides: of a generic
        gradient by the evaluation itself what the Jacobians' differs by, and that gradient; and those below and above the point.

        Raises:
            UnsteadyError: the evaluation goes another way there, or gradients flow otherwise.
            Whatever a step raises.
        """
        first, rows = self.problem, self.rows
        named = dict(zip(self.request.inputs, inputs, strict=True))
        limit, courses = first.memory_limit, first.courses
        problem = Problem(first.function, named, first.wrt, first.seed, limit, courses=courses, handles=first.handles)
        if problem.evaluation.known is not first.evaluation.known:
            raise UnsteadyError("an evaluation that goes another way")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stacked, sides = blocks_of(problem, rows, self.sample)
            maps = rows.cut(stacked, 0)
            misfits = compared(maps, problem, rows.seeds.generic) if rows.sides else []
            with torch.no_grad():
                numbers = self._numbers(problem, maps)
                numbers += [*[difference for _, difference in misfits], *[direct for direct, _ in misfits], *sides[0], *sides[1]]
                row = torch.cat([tensor.reshape(-1) for tensor in numbers])
        steps = [value for value in problem.evaluation.values.values() if isinstance(value, Tensor)]
        return [row, *[maps[block.pair].matrix for block in self.blocks], *steps]

    def _numbers(self, problem: Problem, maps: Maps) -> list[Tensor]:
        """The numbers of the document's arrays, and the gradients by both ways."""
        leaves, parts = problem.leaves, dict[Pair, Tensor | None]()
        for y, v in self.cotangents.items():
            gradients = vjp(problem.differentiable[y], v, list(leaves.values()))
            parts.update({(y, x): gradient for x, gradient in zip(leaves, gradients, strict=True)})
        contracted, direct = list[Tensor](), list[Tensor]()
        for block in self.blocks:
            gradient = parts[block.pair]
            if (gradient is not None) != block.reached:
                raise UnsteadyError("a gradient that flows otherwise")
            contracted.append(maps[block.pair].pullback(self.cotangents[block.pair[0]]))
            direct.append(torch.zeros_like(contracted[-1]) if gradient is None else gradient)
        shown = [*leaves.values(), *problem.differentiable.values(), *[maps[block.pair].matrix for block in self.blocks]]
        return [*shown, *[total(parts, x, leaf) for x, leaf in leaves.items()], *contracted, *direct]

    def is_steady(self, numbers: np.ndarray) -> np.ndarray:
        """At which points (k, total) a pass by the evaluation gives what the Jacobians give, and surely no derivative jumps.

        Nor is autograd's at the point another than those to both sides of it.
        """
        if not self.rows.sides:
            return np.ones(len(numbers), bool)
        misfit, direct, below, above = np.split(numbers[:, self.around :], 4, axis=1)
        jump = np.maximum(_largest(above - below), _largest(direct - below))
        steady = jump <= JUMP / 2 * np.maximum(_largest(below), _largest(above))
        start = 0
        for x, leaf in self.problem.leaves.items():
            part, eps = slice(start, start + leaf.numel()), torch.finfo(leaf.dtype).eps
            entries = [_largest(numbers[:, block.place]) for block in self.blocks if block.pair[1] == x]
            size = np.maximum.reduce([_largest(direct[:, part]), *entries])
            steady &= _largest(misfit[:, part]) <= math.sqrt(eps) / 2 * size  # half of what the ordinary way lets pass
            start = part.stop
        return steady

    def worked(self, computed: Sequence[Tensor], columns: Sequence[int]) -> list[float]:
        """Of each pair the entry of the product that is worked out, of what was computed at a point."""
        blocks = zip(self.blocks, computed[1:], columns, strict=False)
        return [added_up(block.weights, matrix, column) for block, matrix, column in blocks]


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
        compute: the same by the kernels that it comes down to, where it is known to come down to them.
        eps: the coarsest rounding on the way.
        words: by the facts that they depend on.
    """

    passes: Passes
    compute: Computation
    eps: float
    words: dict[tuple[bytes, ...], Words] = field(default_factory=dict)

    def documents(self, points: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
        """The documents at values of the inputs; None where it is not known what is said of them."""
        found: list[bytes | None] = [None] * len(points)
        for at, computed, numbers, facts, difference in self._good(points):
            words = self.words.get(facts)
            worked = [] if words is None else self.passes.worked(computed, words.columns)
            if words is not None and all(map(math.isfinite, worked)):
                found[at] = words.filled(numbers, worked, difference)
        return found

    def _good(self, points: Sequence[Mapping[str, Any]]) -> Iterator[_Good]:
        """The points whose numbers are finite, where two ways agree, and where no derivative jumps."""
        passes = self.passes
        given = _each(passes.given, dict(enumerate(points)))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            there = _each(self.compute, given)
        if said or not there:
            return
        numbers = np.stack([as_numpy(row) for row, *_ in there.values()])
        good, largest = np.isfinite(numbers).all(1), np.zeros(len(there))
        with np.errstate(all="ignore"):
            good &= passes.is_steady(numbers)
            for block in passes.blocks:
                difference, rounding = block.difference(numbers, self.eps)
                largest, good = np.maximum(largest, difference), good & rounding
        facts = zip(*[block.facts(numbers) for block in passes.blocks], strict=True)
        for (at, computed), here, is_good, known, most in zip(there.items(), numbers, good, facts, largest.tolist(), strict=True):
            if is_good:
                told = tuple(map(_pattern, computed[1 + len(passes.blocks) :])) if passes.told else ()
                yield _Good(at, computed, here, (*known, *told), most)

    def learn(self, request: Request, inspection: Inspection) -> None:
        """Takes the words of an answer, if others of the same form that share its facts have the same."""
        passes, report = self.passes, inspection.report
        same = inspection.problem.course is passes.problem.course
        again = _passes(request, inspection) if same else None
        if again is None or (again.told and not passes.told):
            return
        for good in self._good([request.inputs]):
            self.words[good.facts] = _words(passes, report, good.numbers)
            if self.documents([request.inputs]) != [to_json(report)]:
                del self.words[good.facts]
            elif len(self.words) > MOST_WORDS:
                del self.words[next(iter(self.words))]


class _Good(NamedTuple):
    """A point of which it is known what is said there, if other points have the same facts.

    Attributes:
        place: which of the points it is.
        computed: as `Passes` gives it.
        numbers: the first of that, as numpy has it.
        facts: what the words depend on.
        difference: the largest between the two ways to a gradient.
    """

    place: int
    computed: Sequence[Tensor]
    numbers: np.ndarray
    facts: tuple[bytes, ...]
    difference: float


def _pattern(x: Tensor) -> bytes:
    """Where a tensor is zero; one of whole numbers, or of yes and no, as it is."""
    array = as_numpy(x)
    return array.tobytes() if array.dtype.kind in "iub" else (array != 0).tobytes()


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
    found, passes = before, None if before else _passes(request, inspection)
    if passes is not None:
        compute = _kernels(passes) or (None if passes.told else passes)
        found = None if compute is None else Known(passes, compute, inspection.problem.found("rounding"))
    if found is not None:
        found.learn(request, inspection)
    return found


def _kernels(passes: Passes) -> Kernels | None:
    """The kernels that the passes come down to; None where they are others at another point, or guards look at numbers.

    Some derivatives torch computes by another formula where its kernels are watched: what they give is compared.
    """
    course = passes.problem.course
    assert course is not None, "there are no passes without it"
    if any(turn.is_sized or not is_free(turn.op) for turn in course.turns):
        return None
    first = [passes.sample[name] for name in passes.request.inputs]
    signed = [3 * direction(x, 107 + number) for number, x in enumerate(first)]
    holed = [torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, x, 0) for x in first]
    try:
        kernels = record(passes, first, since=1 if passes.told else None)
        same = all(_row(kernels, point, passes.shown) == _row(passes, point, passes.shown) for point in (first, signed, holed))
    except Exception:  # it fails there, or is not steady
        return None
    return kernels if same else None


def _row(compute: Computation, point: Sequence[Tensor], shown: int) -> tuple[bytes, bytes] | None:
    """The numbers of a point that are shown, to the last digit, and the others, of which no zero is negative; None: it fails."""
    with suppress(Exception):
        row = as_numpy(compute(point)[0])
        return row[:shown].tobytes(), (row[shown:] + 0.0).tobytes()
    return None


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
    entries, size = sum(x.numel() for x in leaves.values()), sum(y.numel() for y in outputs.values())
    blocks, start, shown = list[Block](), entries + size, 2 * entries + size + entries * size
    way, ways, told = shown, entries * len(outputs), False
    for y in outputs:
        for position, x in enumerate(leaves):
            each, nature = inspection.derivatives.maps[y, x], problem.found(("natures", y))[position]
            if not isinstance(each, DenseMap):
                return None
            if each.structure_from == "operations":
                told |= problem.found((KINDS, y)) is None
            elif kind_by_values(each.matrix, there[y, x].matrix, nature, each.shapes) != each.structure:
                return None
            place, by_jacobian = slice(start, start + each.m * each.n), slice(way, way + each.n)
            by_autograd = slice(way + ways, way + ways + each.n)
            exact, reached = nature.rigid or nature.picking, inspection.products.contributions[y, x] is not None
            weights, start, way = cotangents[y].reshape(-1), place.stop, by_jacobian.stop
            blocks.append(Block((y, x), place, (each.m, each.n), (by_jacobian, by_autograd), exact, weights, reached))
    if told and problem.decided:  # they are those of other points, too
        return None
    return Passes(request, problem, cotangents, rows, sample, blocks, shown, shown + 2 * ways, told)


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
