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

import product_oracles as product
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
    "warning.part_cut": about.lacks_a_part,
    "warning.masked": about.is_masked,
    "warning.not_finite": about.is_not_finite,
    "warning.nonfinite": about.are_not_compared,
    "warning.artefact": about.are_artefacts,
    "warning.kink": about.has_kink,
    "warning.step": about.jumps,
    "warning.jump": about.slopes_jump,
    "warning.second_kink": about.curvature_jumps,
    "warning.second_jump": about.curvature_jumps,
    "warning.asymmetric": about.is_asymmetric,
    "warning.repeated": about.is_repeated,
    "warning.coupled": about.is_coupled,
    "warning.truncated": about.is_large,
    "warning.torch_warning": about.torch_warns,
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
    "warning.fallback": "how jvp has computed, and nothing of the function",
    "warning.tied": "which names of the user's modules mean one tensor",
    "warning.no_graph": "what jvp keeps of the caller's graph",
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
    """What became of a claim: "stands", "refuted" or "undecided", why, and the command that makes it."""

    claim: Claim
    kind: str
    why: str
    case: Case
    command: str


def examine(case: Case, command: str, document: Mapping[str, Any]) -> Iterator[Examined]:
    """The claims that a document makes of a case, each examined by its oracle."""
    evidence = Evidence(PlainProgram(case.text, case.inputs, case.wrt), document)
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


def documents(case: Case, checked: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(command, document) of every answer to a case; an error claims nothing here."""
    for name in ("inspect", "trace", *(["check"] if checked else [])):
        inputs = {name: x.detach().clone() for name, x in case.inputs.items()}
        try:
            yield name, getattr(jvpcli, name)(case.text, inputs, wrt=case.wrt).to_dict()
        except JvpError:
            continue


def examined(seed: int, count: int, seconds: float = float("inf")) -> Iterator[Examined]:
    """So many claims of random cases, as long as there is time."""
    end, random, done = time.monotonic() + seconds, Random(seed), 0
    for case in cases(seed):
        for command, document in documents(case, checked=random.random() < 0.2):
            for found in examine(case, command, document):
                yield found
                done += found.kind != "undecided"
        if done >= count or time.monotonic() > end:
            return


def shown(case: Case, command: str) -> str:
    """The command line of a case."""
    values = " ".join(f"--{name} '{_value(x)}'" for name, x in case.inputs.items())
    return f"jvp {command} {json.dumps(case.text)} {values} --wrt {','.join(case.wrt)}"


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
                {"kind": found.kind, "claim": found.claim.code, "said": said if found.kind == "refuted" else found.why}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
