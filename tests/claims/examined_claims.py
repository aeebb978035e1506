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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import oracles as of
import torch
import warning_oracles as about
from evidence import Evidence
from oracles import Oracle, RefutedError
from plain_programs import PlainProgram, UndecidedError
from random_cases import Case, cases
from spoken_claims import Claim, claims_of

import jvpcli
from jvpcli.errors import JvpError

ORACLES: Mapping[str, Oracle] = {
    "product.number": of.of_one_number,
    "product.vector": of.sizes,
    "product.tensor": of.sizes,
    "product.unknown": of.counted,
    "product.zero": of.is_zero,
    "product.zero_here": of.is_zero_here,
    "product.identity": of.is_identity,
    "product.diagonal": of.is_diagonal,
    "product.selection": of.is_selection,
    "product.banded": of.is_banded,
    "product.block_diagonal": of.is_block_diagonal,
    "product.sparse": of.is_sparse,
    "product.dense": of.is_full,
    "product.mostly_filled": of.counted,
    "product.complex": of.is_complex,
    "product.holomorphic": of.is_holomorphic,
    "product.not_holomorphic": of.is_not_holomorphic,
    "vjp.same": of.same_as_autograd,
    "vjp.einsum": of.einsum_holds,
    "vjp.entry": of.entry_holds,
    "local.zero": of.is_zero,
    "local.identity": of.is_identity,
    "local.diagonal": of.is_diagonal,
    "local.selection": of.is_selection,
    "local.banded": of.is_banded,
    "local.block_diagonal": of.is_block_diagonal,
    "local.sparse": of.is_sparse,
    "local.dense": of.is_dense,
    "local.sum": of.is_sum,
    "local.unknown": of.counted,
    "finding.cotangent_not_finite": of.given_not_finite,
    "finding.becomes_not_finite": of.becomes_not_finite,
    "finding.sum_overflows": of.adds_up_to_infinity,
    "finding.no_path": of.no_part,
    "finding.graph_cut": of.ends_the_graph,
    "finding.unused": of.never_used,
    "finding.overwritten": of.never_used,
    "finding.unused_here": of.zero_here,
    "finding.random": of.zero_here,
    "finding.zero_by_value": of.by_another_value,
    "finding.piecewise_constant": of.zero_everywhere,
    "finding.flat_tried": of.zero_here,
    "finding.saturated": of.is_saturated,
    "finding.kink": of.is_kink,
    "finding.jump": of.zero_here,
    "finding.stationary": of.is_stationary,
    "finding.underflow": of.underflows,
    "finding.cancelled": of.cancels,
    "finding.cancelled_sum": of.contributions_cancel,
    "finding.cancelled_rounding": of.cancels,
    "finding.norm_ratio": of.norms,
    "warning.no_path": about.never_reaches,
    "warning.no_effect": about.no_effect_nearby,
    "warning.cut": about.is_cut,
    "warning.left_out": about.is_left_out,
    "warning.staircase": about.is_staircase,
    "warning.part_cut": about.lacks_a_part,
    "warning.not_finite": about.is_not_finite,
    "warning.artefact": about.are_artefacts,
    "warning.nonfinite": about.are_not_compared,
    "warning.kink": about.has_kink,
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
    "finding.whole_only": "that two evaluations of jvp differ",
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
        except UndecidedError as error:
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
        print(json.dumps({"kind": found.kind, "claim": found.claim.code, "said": said if found.kind == "refuted" else found.why}), flush=True)


if __name__ == "__main__":
    main()
