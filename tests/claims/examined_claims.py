"""Every claim has its oracle: the table of them, and claims examined by it.

As a program it examines claims of random programs and prints one JSON line for each:
`python examined_claims.py --seed 0 --count 5000 --seconds 60`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import error_oracles as failing
import product_oracles as product
import second_oracles as second
import step_oracles as step
import torch
import warning_oracles as about
from evidence import Claim, Evidence, RefutedError
from plain_programs import PlainProgram, UndecidedError
from random_cases import Case, cases
from spoken_claims import claims_of

import jvpcli
from jvpcli.errors import JvpError

Oracle = Callable[[Evidence, Claim], None]

ORACLES: Mapping[str, Oracle] = {
    "product.number": product.of_one_number,
    "product.vector": product.sizes,
    "product.tensor": product.sizes,
    "product.unknown": product.counted,
    "product.zero": product.is_zero,
    "product.zero_here": product.is_zero_here,
    "product.identity": product.is_identity,
    "product.diagonal": product.is_diagonal,
    "product.selection": product.is_selection,
    "product.banded": product.is_banded,
    "product.block_diagonal": product.is_block_diagonal,
    "product.strided_blocks": product.is_strided,
    "product.triangular": product.is_triangular,
    "product.block_triangular": product.is_block_triangular,
    "product.sparse": product.counted,
    "product.dense": product.counted,
    "product.mostly_filled": product.counted,
    "product.two_gradients": product.sizes,
    "product.two_matrices": product.sizes,
    "product.zero_parts": product.is_zero_here,
    "product.diagonal_parts": product.is_diagonal,
    "product.unknown_parts": product.is_of_two,
    "product.filled_parts": product.is_filled,
    "product.several": product.is_of_several,
    "product.complex": product.is_complex,
    "product.holomorphic": product.is_holomorphic,
    "product.real_input": product.is_of_real_input,
    "product.two_ways": product.is_not_holomorphic,
    "vjp.same": product.same_as_autograd,
    "vjp.einsum": product.einsum_holds,
    "vjp.entry": product.entry_holds,
    "local.zero": product.is_zero,
    "local.identity": product.is_identity,
    "local.diagonal": product.is_diagonal,
    "local.selection": product.is_selection,
    "local.banded": product.is_banded,
    "local.block_diagonal": product.is_block_diagonal,
    "local.strided_blocks": product.is_strided,
    "local.triangular": product.is_triangular,
    "local.block_triangular": product.is_block_triangular,
    "local.sparse": product.is_sparse,
    "local.dense": product.is_dense,
    "local.sum": product.is_sum,
    "local.unknown": product.counted,
    "finding.cotangent_not_finite": step.given_not_finite,
    "finding.sum_overflows": step.adds_up_to_infinity,
    "finding.becomes_not_finite": step.becomes_not_finite,
    "finding.repeated": step.is_repeated,
    "finding.norm_ratio": step.norms,
    "finding.no_path": step.no_part,
    "finding.no_path_here": step.no_gradient,
    "finding.shape_only": step.no_part,
    "finding.graph_cut": step.ends_the_graph,
    "finding.all_cut": step.is_all_cut,
    "finding.none_passed": step.no_gradient,
    "finding.unused": step.never_used,
    "finding.unused_here": step.zero_here,
    "finding.random": step.zero_here,
    "finding.piecewise": step.zero_everywhere,
    "finding.tried": step.zero_here,
    "finding.saturated": step.is_saturated,
    "finding.flat": step.is_flat_around,
    "finding.kink": step.is_kink,
    "finding.leap": step.leaps,
    "finding.jump": step.zero_here,
    "finding.stationary": step.is_stationary,
    "finding.value": step.by_another_value,
    "finding.values": step.by_other_values,
    "finding.rounded": step.is_rounded,
    "finding.underflow": step.underflows,
    "finding.cancelled": step.cancels,
    "finding.cancelled_sum": step.contributions_cancel,
    "finding.cancelled_given": step.contributions_cancel,
    "finding.cancelled_rounding": step.cancels_somewhere,
    "reason.masked": step.is_zero_times_infinity,
    "reason.nan": step.is_nan_slope,
    "reason.infinite": step.is_infinite_slope,
    "reason.overflow": step.is_finite_slope,
    "addition.direct_mask": step.masks_the_result,
    "addition.mask": step.masks_the_result,
    "addition.turns_nan": step.sends_nan_on,
    "addition.input": step.is_given_so,
    "addition.steepest": step.is_steepest,
    "addition.repeated": step.is_repeated,
    "addition.cure": step.is_cured,
    "warning.no_path": about.never_reaches,
    "warning.no_path_here": about.never_reaches_here,
    "warning.shape_only": about.never_reaches,
    "warning.no_effect": about.never_reaches_here,
    "warning.steady": about.never_reaches_here,
    "warning.cut": about.is_cut,
    "warning.cut_untested": about.never_reaches_here,
    "warning.left_out": about.is_left_out,
    "warning.staircase": about.is_staircase,
    "warning.drawn": about.is_drawn,
    "warning.part_cut": about.lacks_a_part,
    "warning.masked": about.is_masked,
    "warning.not_finite": about.is_not_finite,
    "warning.nonfinite": about.are_not_compared,
    "warning.artefact": second.are_artefacts,
    "warning.kink": about.has_kink,
    "warning.step": about.jumps,
    "warning.jump": about.slopes_jump,
    "warning.finite_forward": about.are_finite_forward,
    "warning.overwritten": about.is_overwritten,
    "warning.formula": about.formula_fails,
    "warning.uneven": about.formula_fails,
    "warning.resized": about.shape_changes,
    "warning.second_kink": about.curvature_jumps,
    "warning.second_jump": about.curvature_jumps,
    "warning.asymmetric": about.is_asymmetric,
    "warning.repeated": about.is_repeated,
    "warning.nonlinear": about.is_not_linear,
    "warning.coupled": about.is_coupled,
    "warning.crossed": about.is_crossed,
    "warning.truncated": about.is_large,
    "warning.torch_warning": about.torch_warns,
    "warning.decided": about.decides,
    "second.zero": second.of_gradient(product.is_zero),
    "second.zero_here": second.is_zero_block,
    "second.identity": second.is_scaled_identity,
    "second.diagonal": second.of_gradient(product.is_diagonal),
    "second.block_diagonal": second.of_gradient(product.is_block_diagonal),
    "second.banded": second.of_gradient(product.is_banded),
    "second.sparse": second.of_gradient(product.counted),
    "second.dense": second.is_full,
    "second.number": second.is_single,
    "second.filled": second.of_gradient(product.counted),
    "second.constant_slope": second.has_constant_slope,
    "second.zero_at_point": second.is_zero_here_alone,
    "second.no_other_point": second.is_zero,
    "second.zero_tried": second.is_zero,
    "second.pieces": second.is_linear_piece_by_piece,
    "second.kinked_pieces": second.is_linear_piece_by_piece,
    "definite.positive": second.has_signs(1, None, sure=True),
    "definite.positive_semi": second.has_signs(1, None, sure=False),
    "definite.negative": second.has_signs(None, -1, sure=True),
    "definite.negative_semi": second.has_signs(None, -1, sure=False),
    "definite.indefinite": second.has_signs(-1, 1, sure=True),
    "definite.zero": second.is_zero,
    "hessian.symmetric": second.is_symmetric,
    "hessian.eigenvalues": second.has_eigenvalues,
    "hessian.trace": second.has_trace,
    "hessian.hvp": second.product_is_right,
    "error.raises": failing.raises,
    "error.torch_message": failing.says_so,
    "error.shapes": failing.has_these_shapes,
    "refusal.implicit": failing.is_refused,
    "verdict.pass": about.is_right,
    "verdict.kink": about.is_at_a_kink,
    "verdict.precision": about.is_right,
    "verdict.graph_break": about.is_wrong,
    "verdict.wrong_backward": about.is_wrong,
    "verdict.nondeterministic": about.is_not_deterministic,
}
"""Claim to the oracle that tries to refute it."""

WITHOUT_ORACLE = {
    "product.not_computed": "that nothing is known",
    "second.not_computed": "that nothing is known",
    "second.jump": "what holds of every function",
    "definite.unknown": "that nothing is known",
    "warning.no_tensor": "what jvp leaves out of an answer",
    "warning.as_python": "how jvp has read a program, and nothing of the function",
    "warning.fallback": "how jvp has computed, and nothing of the function",
    "warning.tied": "which names of the user's modules mean one tensor",
    "warning.no_graph": "what jvp keeps of the caller's graph",
    "warning.other_gradient": "that a program's own call and jvp differ",
    "warning.replay_differs": "that two evaluations of jvp differ",
    "warning.product_differs": "that two ways of jvp differ",
    "finding.whole_only": "that two evaluations of jvp differ",
    "reason.backward": "that nothing else was found",
}
"""Claims that say nothing of the function, and what they say instead."""


MOST_CLAIMS = 40
"""Of a document that makes more, so many are drawn."""


@dataclass(frozen=True)
class Examined:
    """What became of a claim: "stands", "refuted" or "undecided", why, and the command that makes it; or that this crashed."""

    claim: Claim
    kind: str
    why: str
    case: Case
    command: str


def examine(case: Case, command: str, document: Mapping[str, Any]) -> Iterator[Examined]:
    """The claims that a document makes of a case, each examined by its oracle: of a derivative call, those of what it is of."""
    pasted = "torch.autograd.grad" in case.text and command != FUNCTION
    text = document.get("expression", case.text) if pasted else case.text
    evidence = Evidence(PlainProgram(text, case.inputs, case.wrt), document)
    claims = [claim for claim in claims_of(document) if claim.code not in WITHOUT_ORACLE]
    for claim in claims if len(claims) <= MOST_CLAIMS else Random(0).sample(claims, MOST_CLAIMS):
        try:
            ORACLES[claim.code](evidence, claim)
            kind, why = "stands", ""
        except (UndecidedError, RuntimeError) as error:  # PyTorch refuses what the oracle asks of it
            kind, why = "undecided", str(error)
        except RefutedError as error:
            kind, why = "refuted", str(error)
        yield Examined(claim, kind, why, case, command)


def answered(case: Case, command: str) -> Iterator[Examined]:
    """The claims of an answer to a case, or of its error, examined."""
    inputs = _copied(case)
    more: dict[str, Any] = {} if case.grad_outputs is None else {"grad_outputs": case.grad_outputs}
    if command == "hessian":
        more["tangent"] = {name: torch.ones_like(inputs[name]) for name in case.wrt}
    try:
        document = getattr(jvpcli, command)(case.text, inputs, wrt=case.wrt, **more).to_dict()
    except JvpError as error:
        given = case.grad_outputs if isinstance(case.grad_outputs, torch.Tensor) else None
        document = {"error": error.to_dict(), "given": given, "command": command}
    except Exception as error:
        yield Examined(Claim("answer", "there is one"), "crash", f"{type(error).__name__}: {error}", case, command)
        return
    yield from examine(case, command, document)


FUNCTION = "inspect of a Python function that runs"


def as_function(case: Case) -> Iterator[Examined]:
    """The claims of what is said of the text as a function of the user's own, of whose steps jvp sees none, examined."""
    plain = PlainProgram(case.text, case.inputs, tuple(case.inputs))
    try:
        document = jvpcli.inspect(lambda *values: tuple(plain.run(*values)), _copied(case), wrt=case.wrt).to_dict()
    except Exception:  # what Python and PyTorch raise is the function's own
        return
    yield from examine(case, FUNCTION, document)


def _copied(case: Case) -> dict[str, torch.Tensor]:
    return {name: x.detach().clone() for name, x in case.inputs.items()}


def examined(seed: int, count: int, seconds: float = float("inf")) -> Iterator[Examined]:
    """So many claims of random cases, as long as there is time."""
    end, random, done = time.monotonic() + seconds, Random(seed), 0
    for case in cases(seed):
        more = ["check", "hessian"] if random.random() < 0.2 and case.grad_outputs is None else []
        asked = [answered(case, command) for command in ("inspect", "trace", *more)]
        asked += [as_function(case)] if random.random() < 0.3 and case.grad_outputs is None else []
        for claims in asked:
            for found in claims:
                yield found
                done += found.kind != "undecided"
        if done >= count or time.monotonic() > end:
            return


def shown(case: Case, command: str) -> str:
    """The command line of a case."""
    values = " ".join(f"--{name} '{_value(x)}'" for name, x in case.inputs.items())
    given = case.grad_outputs if case.grad_outputs is None or isinstance(case.grad_outputs, str) else _value(case.grad_outputs)
    more = "" if given is None else f" -g '{given}'"
    return f"jvp {command} {json.dumps(case.text)} {values} --wrt {','.join(case.wrt)}{more}"


def _value(x: torch.Tensor) -> str:
    return f"torch.tensor({x.tolist()}, dtype={x.dtype})"


def main() -> None:
    """One JSON line for each claim."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--count", type=int, default=5000)
    options.add_argument("--seconds", type=float, default=float("inf"))
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for found in examined(given.seed, given.count, given.seconds):
        said = f"{shown(found.case, found.command)}\t{found.claim.code}: {found.claim.sentence}\t{found.why}"
        print(
            json.dumps(
                {"kind": found.kind, "claim": found.claim.code, "said": said if found.kind in ("refuted", "crash") else found.why}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
