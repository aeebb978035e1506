"""The answer of `jvp hessian`: problem → gradient → its Jacobian, and products with it → symmetry, eigenvalues → report.

L = Σ ⟨v, y⟩ is a number, its gradient a function of the inputs, and the Hessian the Jacobian of that: all that is known of
Jacobians (structure, plans, products alone where there is no room) holds of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from jvpcli.answers.coupling import SENTENCES, bent_between, multiplication, why_zero
from jvpcli.answers.products import ROUNDINGS, Products, differentiate, multiply
from jvpcli.answers.question import backward_failures, pose, refuse_cut, refuse_stored, text_of
from jvpcli.answers.warnings import notices, said, told_kink
from jvpcli.answers.weights import SEED_OFFSET, Weight, read_cotangents, read_tangents
from jvpcli.errors import InternalError, UsageError
from jvpcli.jacobians import figures
from jvpcli.jacobians.contraction import entry_label, unravel
from jvpcli.jacobians.eigenvalues import Extremes, Symmetric, extremes, trace
from jvpcli.jacobians.gradient import gradient_of
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.nearby import coarsest, elsewhere, largest, moved
from jvpcli.jacobians.passes import grad, vjp
from jvpcli.jacobians.small import Derivatives
from jvpcli.language.outputs import ordinary
from jvpcli.problem import Named, Problem
from jvpcli.report import Comparison, Notice, Plan
from jvpcli.report.hessian import Eigenvalues, HessianReport, Trace, gradient_name
from jvpcli.request import Request

TRIED = 3
"""Random points at which it is looked whether a Hessian that is zero here is so there too."""

NEARBY = 1e-12
"""How far off, relative to each entry, other roundings are looked for in double precision: too near for a function to change."""

SURE = 8
"""A number is what it is taken for where it is so many times as large as its error."""

CONSTANT = Plan("reverse", 0, 0, "the gradient is constant: there is nothing to differentiate", "dense")

NOTHING = Comparison(0, 0, 0.0)


@dataclass(frozen=True, eq=False)
class Hessian:
    """Everything that was computed, as tensors; `report` is all of it as plain data.

    Attributes:
        maps: (input, input) to ∂²L/∂x∂w as a linear map.
        hvp: input to H u, of the input's shape; empty without a tangent.
        gradient: input to ∂L/∂input.
    """

    maps: Mapping[tuple[str, str], LinearMap]
    hvp: Named
    gradient: Named
    report: HessianReport


def hessian(request: Request) -> HessianReport:
    """The answer to a request.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return investigate(request).report


def investigate(request: Request) -> Hessian:
    """The answer to a request with the tensors that it was made from."""
    problem = pose(request)
    with backward_failures(problem):
        refuse_cut(problem)
        refuse_stored(problem)
        _refuse_complex(problem)
        cotangents = read_cotangents(request, problem.evaluation)
        tangents = read_tangents(request, problem.evaluation)
        found = _Second(problem, gradient_of(problem, {y: weight.value for y, weight in cotangents.items()}), request)
        if request.save is not None:
            from jvpcli.jacobians.files import save

            save(found.maps, request.save, {name: x.dtype for name, x in problem.leaves.items()})
        u = {x: weight.value for x, weight in tangents.items()}
        hvp = found.times(u) if u else {}
        report = _report(found, cotangents, tangents, hvp)
    return Hessian(found.maps, hvp, found.gradient, report)


def _refuse_complex(problem: Problem) -> None:
    """Refuse what has two second derivatives, one to the conjugate.

    Raises:
        UsageError: a differentiated input is complex.
    """
    for name, x in problem.leaves.items():
        if x.is_complex():
            raise UsageError(
                f"the Hessian is of real inputs, and {name} is {str(x.dtype).removeprefix('torch.')}",
                explanation="A complex input is two real ones: its gradient is not linear over the complex numbers.",
                hints=(f"Write {name} as torch.complex(a, b), and give a and b as real inputs.",),
            )


# --- what is computed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Second:
    """The second derivative of a problem, found as the Jacobian of its gradient.

    Attributes:
        problem: the function.
        slope: its gradient.
    """

    problem: Problem
    slope: Problem
    request: Request

    @cached_property
    def leaves(self) -> Named:
        return self.problem.leaves

    @cached_property
    def gradient(self) -> Named:
        """Input to ∂L/∂input."""
        return {x: self.slope.evaluation.outputs[gradient_name(x)].detach() for x in self.leaves}

    @cached_property
    def probe(self) -> Named:
        """A random direction, in which what depends on all of the Hessian is looked at."""
        return {
            name: torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED_OFFSET + k), dtype=x.dtype).to(x.device)
            for k, (name, x) in enumerate(self.leaves.items())
        }

    @cached_property
    def computed(self) -> tuple[Derivatives, Products]:
        """The Jacobian of the gradient, and its product with the probe: by the Jacobian, and by double backward.

        Raises:
            InternalError: the two differ by more than rounding.
        """
        if not self.slope.differentiable:
            return Derivatives({}, CONSTANT), Products({}, {}, NOTHING, None)
        return differentiate(self.slope, self.request, self._weights(self.probe), {})

    @cached_property
    def maps(self) -> Mapping[tuple[str, str], LinearMap]:
        """(input, input) to ∂²L/∂x∂w; zero where the gradient is constant."""
        derivatives, _ = self.computed
        return {
            (x, w): derivatives.maps.get((gradient_name(x), w)) or _zero(leaf, to)
            for x, leaf in self.leaves.items()
            for w, to in self.leaves.items()
        }

    def is_fixed(self, x: str, w: str) -> bool:
        """Whether the kind of ∂²L/∂x∂w is that at every point; where the gradient is constant here, it may not be elsewhere."""
        if (gradient_name(x), w) in self.computed[0].maps:
            return True
        return not self.weighed and not bent_between(list(self.problem.differentiable.values()), self.leaves)

    @cached_property
    def weighed(self) -> bool:
        """Whether the inputs' values may tell in other ways than by the graph what is computed."""
        return self.problem.weighed or self.problem.decided or self.problem.is_own

    @cached_property
    def matrix(self) -> Symmetric:
        return Symmetric(self.leaves, self.maps, self.times)

    def times(self, u: Named) -> Named:
        """H u by double backward: the gradient of ⟨∂L/∂x, u⟩."""
        return _pulled(self.slope, u)

    def explicitly(self, u: Named) -> Named:
        """H u by the Hessian itself."""
        parts = {x: [self.maps[x, w].pushforward(u[w]) for w in self.leaves] for x in self.leaves}
        return {x: torch.stack(products).sum(0) for x, products in parts.items()}

    def checked(self, u: Named) -> Comparison:
        """How H u by the Hessian and by double backward compare.

        Raises:
            InternalError: they differ by more than rounding.
        """
        weights = self._weights(u)
        return multiply(self.computed[0], self.slope, weights, {}).comparison if weights else NOTHING

    def _weights(self, u: Named) -> dict[str, Weight]:
        return {gradient_name(x): Weight("u", u[x]) for x in u if gradient_name(x) in self.slope.differentiable}

    def noise(self, u: Named, products: Sequence[Named]) -> Tensor:
        """How far each entry of products H u may be off, (n,): some times their distance from what other roundings give.

        Other roundings are those of double precision, or where that is what there is already, of points nearby.
        """
        here, found = [_flat(product) for product in products], []
        in_double = self.eps > torch.finfo(torch.float64).eps
        for seed in (5,) if in_double else (5, 6):
            try:
                if in_double:
                    found.append(_flat(_pulled(self.doubled, {x: each.double() for x, each in u.items()})))
                else:
                    found.append(_flat(_pulled(self.slope, u, moved(self.leaves, NEARBY, seed=seed))))
            except Exception:  # any failure of the user's function elsewhere only costs the look
                continue
        sizes = [(there - product).abs().nan_to_num(nan=0.0, posinf=0.0) for there in found for product in here]
        return SURE * torch.stack(sizes).amax(0) if sizes else torch.zeros_like(here[0])

    @cached_property
    def doubled(self) -> Problem:
        """The gradient in double precision."""
        return self.slope.in_double()

    @cached_property
    def terms(self) -> float:
        """How large the terms are that the gradient is summed from, about: the roundings of what cancels are parts of these."""
        return max(map(self.slope.size, self.slope.evaluation.outputs))

    def both(self, u: Named) -> list[Named]:
        """H u by double backward and, where it is held, by the Hessian itself."""
        return [self.times(u), *([self.explicitly(u)] if self.matrix.held else [])]

    @cached_property
    def eps(self) -> float:
        """The rounding of the coarsest floating dtype on the way."""
        return coarsest(self.problem)

    @cached_property
    def zero(self) -> bool:
        """Whether every entry is zero here."""
        return self.matrix.held and not any(each.nnz for each in self.maps.values())


def _flat(tensors: Named) -> Tensor:
    """All entries, one tensor after the other, float64."""
    return torch.cat([x.detach().reshape(-1).double() for x in tensors.values()])


def _pulled(slope: Problem, u: Named, place: Named | None = None) -> dict[str, Tensor]:
    """The gradient of ⟨∂L/∂x, u⟩ to every input, at the point or at another place."""
    evaluation = slope.evaluation if place is None else slope.at(place)
    leaves = evaluation.leaves
    pairs = [(g, u[x]) for x in leaves if (g := evaluation.outputs[gradient_name(x)]).requires_grad]
    if not pairs:
        return {name: torch.zeros_like(x).detach() for name, x in leaves.items()}
    found = grad([g for g, _ in pairs], [w for _, w in pairs], list(leaves.values()))
    return {
        name: torch.zeros_like(x).detach() if each is None else ordinary(each.detach())
        for (name, x), each in zip(leaves.items(), found, strict=True)
    }


def _zero(x: Tensor, w: Tensor) -> LinearMap:
    from jvpcli.jacobians.structured import StructuredMap
    from jvpcli.jacobians.terms import Workspace

    return StructuredMap(tuple(x.shape), tuple(w.shape), (), x.detach().new_empty(0), Workspace())


# --- what is said of it ----------------------------------------------------------------------------------------------


def _report(
    found: _Second, cotangents: Mapping[str, Weight], tangents: Mapping[str, Weight], hvp: Named
) -> HessianReport:
    problem, request, leaves, maps = found.problem, found.request, found.leaves, found.maps
    derivatives, products = found.computed
    u = {name: weight.value for name, weight in tangents.items()}
    comparison = found.checked(u) if u else products.comparison
    apart = _asymmetry(found)
    values = None if apart else extremes(found.matrix, request.tell)
    total = trace(found.matrix, request.tell)
    warnings = (*_warnings(found, derivatives, cotangents), *([] if apart is None else [apart]))
    return HessianReport(
        expression=text_of(request),
        inputs={name: figures.input_value(x, name in leaves) for name, x in problem.evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in problem.evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in cotangents.items()},
        gradient={name: figures.value(each) for name, each in found.gradient.items()},
        hessian={
            x: {w: figures.jacobian(maps[x, w], leaves[w].dtype, request.jacobian, request.tell) for w in leaves} for x in leaves
        },
        contraction={x: {w: multiplication(x, w, maps, u, fixed=found.is_fixed(x, w)) for w in leaves} for x in leaves},
        symmetric=apart is None if apart or bool(_flat(found.times(found.probe)).isfinite().all()) else None,
        definite=_definite(found, values) if apart is None else "unknown",
        eigenvalues=_eigenvalues(found, values, apart is None),
        trace=Trace(total.value, total.error),
        comparison=comparison,
        plan=derivatives.plan,
        notes=tuple(_notes(found, list(cotangents), warnings)),
        warnings=warnings,
        hvp={name: figures.value(each) for name, each in hvp.items()} or None,
        tangent={name: figures.cotangent(weight.source, weight.value) for name, weight in tangents.items()} or None,
        calls=request.calls,
        passed_over=request.passed_over,
    )


def _eigenvalues(found: _Second, values: Extremes | None, symmetric: bool) -> Eigenvalues:
    if values is None:
        return Eigenvalues(None, None, exact=symmetric, rounding=0.0)
    errors = (None, None) if values.exact else (values.least_error, values.greatest_error)
    return Eigenvalues(values.least, values.greatest, values.exact, _rounding(found, values), *errors)


def _rounding(found: _Second, values: Extremes) -> float:
    """How large an eigenvalue the entries' own roundings make, as `torch.linalg.matrix_rank` has it; a diagonal has its own."""
    return 0.0 if _is_diagonal(found.matrix) else found.matrix.n * found.eps * max(abs(values.least), abs(values.greatest))


def _is_diagonal(matrix: Symmetric) -> bool:
    return matrix.apart and all(each.structure in ("identity", "diagonal", "zero") for each in matrix.along())


def _definite(found: _Second, values: Extremes | None) -> str:
    """What the signs of the eigenvalues make of the Hessian, here; unknown where rounding may have made them."""
    if values is None or found.zero:
        return "zero"
    if not math.isfinite(values.least + values.greatest):
        return "unknown"
    rounding = _rounding(found, values)
    if _is_diagonal(found.matrix):
        ones = {name: torch.ones_like(x).detach() for name, x in found.leaves.items()}
        signs, noise = _flat(found.times(ones)), found.noise(ones, found.both(ones))  # the diagonal itself
    else:
        signs = torch.tensor([values.least, values.greatest], dtype=torch.float64)
        noise = torch.full_like(signs, largest(found.noise(found.probe, found.both(found.probe))) + found.eps * found.terms)
    sure, zero = signs.abs() > noise + rounding, signs.abs() <= rounding
    below, above = (bool((sure & side).any()) for side in (signs < 0, signs > 0))
    if below and above:
        return "indefinite"
    if not values.exact or not bool((sure | zero).all()) or not (below or above):
        return "unknown"
    return ("negative" if below else "positive") + ("_semi" if bool(zero.any()) else "")


def _asymmetry(found: _Second) -> Notice | None:
    """Where the second derivative depends on the order, as by a backward that is not the derivative of its forward.

    PyTorch has some itself: that of a function which reads half of a symmetric matrix takes the other half to move along.

    Raises:
        InternalError: it does so in the blocks, and not by PyTorch's own passes.
    """
    root, slack = math.sqrt(found.eps), _slack(found)
    where = _differing(found, root, slack) if found.matrix.held else _differing_products(found, root, slack)
    if where is None:
        return None
    whose = "your own" if found.problem.is_own else "PyTorch's"
    return said("asymmetric", "asymmetric", entry=where[0], other=where[1], whose=whose)


def _slack(found: _Second) -> float:
    """What rounding may make of an entry of H u."""
    return largest(found.noise(found.probe, [found.times(found.probe)])) + ROUNDINGS * found.eps * found.terms


def _differing(found: _Second, root: float, slack: float) -> tuple[str, str] | None:
    """An entry of an input, and an input, whose mixed derivatives differ by more than rounding; None where none do.

    Raises: as `_asymmetry`.
    """
    for (x, w), block in found.maps.items():
        direction = found.probe[w]
        pushed, pulled = block.pushforward(direction), found.maps[w, x].pullback(direction)
        difference = torch.nan_to_num((pushed - pulled).abs(), nan=0.0, posinf=0.0).reshape(-1)
        off = largest(difference)
        if off <= root * largest(pushed) + slack:  # spares the bound below, which goes through every entry
            continue
        if off > root * largest(block.absolute().pushforward(direction.abs())) + slack:
            place = int(difference.argmax())
            entry = entry_label(x, unravel(place, block.out_shape))
            if not found.problem.is_own and not _by_passes(found, x, place, w) > off / 2:
                raise InternalError(f"the blocks of {entry} and {w} are not symmetric, as PyTorch's products are")
            return entry, w
    return None


def _by_passes(found: _Second, x: str, place: int, w: str) -> float:
    """How much PyTorch's own mixed derivatives by an entry of x and along the probe of w differ in the two orders."""
    none = {name: torch.zeros_like(leaf).detach() for name, leaf in found.leaves.items()}
    entry = none[x].clone()
    entry.view(-1)[place] = 1
    of_entry = found.times({**none, x: entry})[w] * found.probe[w]
    along = found.times({**none, w: found.probe[w]})[x].reshape(-1)[place]
    return abs(float(torch.nan_to_num(of_entry, posinf=0.0, neginf=0.0).sum() - along))  # 0 · ∞ is NaN in others' entries


def _differing_products(found: _Second, root: float, slack: float) -> tuple[str, str] | None:
    """The same where only products are known: ⟨a, H b⟩ and ⟨b, H a⟩ of two random directions."""
    one, names = found.probe, tuple(found.leaves)
    other = {x: u.flip(tuple(range(u.dim()))) for x, u in one.items()}
    by_one, by_other = found.times(one), found.times(other)
    pairs = [float((other[x] * by_one[x] - one[x] * by_other[x]).double().sum()) for x in names]
    sizes = [float((other[x] * by_one[x]).abs().double().sum() + (one[x] * by_other[x]).abs().double().sum()) for x in names]
    entries = sum(x.numel() for x in found.leaves.values())
    return (names[0], names[-1]) if abs(sum(pairs)) > root * sum(sizes) + slack * entries else None


def _warnings(found: _Second, derivatives: Derivatives, cotangents: Mapping[str, Weight]) -> tuple[Notice, ...]:
    """What there is to warn of in the first derivative and in the second."""
    problem, leaves = found.problem, found.leaves
    pulled = {y: vjp(problem.differentiable[y], weight.value, list(leaves.values())) for y, weight in cotangents.items()}
    contributions = {(y, x): each for y, all_of_it in pulled.items() for x, each in zip(leaves, all_of_it, strict=True)}
    first = Products(found.gradient, contributions, NOTHING, None)
    jumps = told_kink(found.slope, derivatives, "second_") if found.slope.differentiable else ()
    return (*notices(problem, replace(derivatives, sides=None), first), *jumps)


def _notes(found: _Second, outputs: Sequence[str], warnings: tuple[Notice, ...]) -> Iterator[str]:
    """Why what is shown is as it is, where people ask."""
    if found.zero and found.matrix.n:
        yield why_zero([found.problem.differentiable[y] for y in outputs], found.leaves, _tried(found), found.weighed)
    if any(notice.code == "kink" and notice.message.startswith("there is a kink") for notice in warnings):
        yield SENTENCES["jump"]


def _tried(found: _Second) -> Iterator[bool]:
    """Whether the Hessian is zero at random points, one after the other; those where there is no function are passed over.

    What is another a rounding further on, is one itself.
    """
    slope, u = found.doubled, {x: each.double() for x, each in found.probe.items()}  # where small numbers are no zeros
    for seed in range(TRIED):
        try:
            point = elsewhere({x: slope.inputs[x] for x in u}, seed=seed)
            here, *beside = (
                _flat(_pulled(slope, u, moved(point, by, seed=5 + number))) for number, by in enumerate((0.0, NEARBY, -NEARBY))
            )
            rounded = torch.stack([there - here for there in beside]).abs().max()  # of one entry alone it may be none, by chance
            yield bool((here.abs() <= SURE * rounded).all())
        except Exception:  # any failure of the user's function off the point only costs the look
            continue
