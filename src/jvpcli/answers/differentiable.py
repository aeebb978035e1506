"""Results that can be differentiated again (`create_graph=True`): the same products and Jacobians, with their graph.

They are computed by torch.autograd.grad alone, from the caller's own tensors, beside the answer that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.answers.weights import Weight
from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.jacobians.passes import paired
from jvpcli.language.evaluate import seeded
from jvpcli.problem import Named, Problem

Maps = Mapping[tuple[str, str], LinearMap]


@dataclass(frozen=True, eq=False)
class Differentiable:
    """The function run once more at the caller's tensors: outputs and differentiated inputs of one graph, by name."""

    outputs: Named
    inputs: Named

    def vjp(self, cotangents: Mapping[str, Weight], batched: bool) -> dict[str, Tensor]:
        """Σ_outputs vᵀJ for each input; with `batched` a row for each v."""
        weights = {y: weight.live if weight.live is not None else weight.value for y, weight in cotangents.items()}
        if not batched:
            return self._pulled(weights)
        count = len(next(iter(weights.values())))
        rows = [self._pulled({y: v[row] for y, v in weights.items()}) for row in range(count)]
        return {
            name: torch.stack([row[name] for row in rows]) if rows else x.new_zeros((0, *x.shape))
            for name, x in self.inputs.items()
        }

    def _pulled(self, weights: Named) -> dict[str, Tensor]:
        total = paired([self.outputs[y] for y in weights], list(weights.values()))
        return dict(zip(self.inputs, _grad(total, list(self.inputs.values())), strict=True))

    def jvp(self, tangents: Mapping[str, Weight]) -> dict[str, Tensor]:
        """Σ_inputs J u for each output: g(w) = wᵀJ is linear in w, and the gradient of ⟨g, u⟩ to w is J u."""
        pushed = {}
        for name, y in self.outputs.items():
            w = torch.zeros_like(y, requires_grad=True)
            pulled = _grad(paired([y], [w]), [self.inputs[x] for x in tangents])
            (pushed[name],) = _grad(paired(pulled, [u.value if u.live is None else u.live for u in tangents.values()]), [w])
        return pushed

    def maps(self, known: Maps) -> dict[tuple[str, str], LinearMap]:
        """Every Jacobian, a pass a row; `known` are the same maps without a graph, which tell the structure."""
        found: dict[tuple[str, str], LinearMap] = {}
        for y, output in self.outputs.items():
            parts = torch.view_as_real(output.resolve_conj()).unbind(-1) if output.is_complex() else (output,)
            rows, *imaginary = (self._rows(part) for part in parts)
            for k, (x, matrix) in enumerate(zip(self.inputs, rows, strict=True)):
                other = known[y, x]
                shapes, told = (other.out_shape, other.in_shape), (other.structure, other.structure_from)
                if imaginary or matrix.is_complex():
                    found[y, x] = ComplexMap(*shapes, matrix, imaginary[0][k] if imaginary else None, *told)
                else:
                    found[y, x] = DenseMap(*shapes, matrix, *told)
        return found

    def _rows(self, output: Tensor) -> list[Tensor]:
        """For each input the gradients of all entries of a real output, (m, n)."""
        inputs = list(self.inputs.values())
        passes = [_grad(entry, inputs) for entry in output.reshape(-1).unbind()]
        return [
            torch.stack([row[k].reshape(-1) for row in passes]) if passes else x.new_zeros((0, x.numel()))
            for k, x in enumerate(inputs)
        ]


def run_again(problem: Problem) -> Differentiable:
    """The problem's function at the tensors that the caller gave, connected to whatever those were computed from."""
    inputs = {name: _entered(name, x, problem) for name, x in problem.inputs.items()}
    with seeded(problem.seed, inputs.values()):
        outputs = problem.run(inputs)
    return Differentiable(
        {name: outputs[name] for name in problem.differentiable}, {name: inputs[name] for name in problem.wrt}
    )


def _entered(name: str, x: Tensor, problem: Problem) -> Tensor:
    """A copy of an input, which the function may change in place: a tensor of the caller's graph, or a leaf."""
    copy = x.clone()
    return copy.requires_grad_() if name in (*problem.wrt, *problem.tracked) and not copy.requires_grad else copy


def _grad(scalar: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    if not scalar.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(scalar, inputs, create_graph=True, materialize_grads=True))
