"""Oracles of errors: that PyTorch raises where jvp does, and in the words that are told as its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

import torch
from evidence import Claim, Evidence, RefutedError, direction, moves, refute
from plain_programs import PlainProgram, UndecidedError, quiet
from second_oracles import slope_of
from torch import Tensor


def what_torch_says(program: PlainProgram, given: Tensor | None) -> str | None:
    """What is raised where Python runs the program and PyTorch differentiates it, with a v or ones; None: nothing."""
    try:
        with quiet(double=False):
            anything = any(map(moves, program.leaves))
            leaves = [x.clone().requires_grad_(moves(x) or not anything) for x in program.leaves]
            outputs = program.run(*leaves)
            tracked = [y for y in outputs if y.requires_grad] or outputs
            weights = [torch.ones_like(y) for y in tracked] if given is None else [given]
            torch.autograd.grad(tracked, [x for x in leaves if moves(x)], weights, allow_unused=True)
    except UndecidedError:
        raise
    except Exception as error:
        return str(error)
    return None


def said_by_torch(evidence: Evidence) -> list[str | None]:
    """What is raised for the v that was given, for ones, and for random numbers, as which eigenvectors refuse."""
    program, given = evidence.program, evidence.document.get("given")
    try:
        outputs = program.run(*program.leaves)
    except Exception:
        outputs = []
    drawn = [direction(outputs[0], 5)] if len(outputs) == 1 else [None]
    said = [what_torch_says(program, v) for v in (given, None, *drawn)]
    said += [what_torch_says(each, None) for each in handed(program, given)]
    if evidence.document.get("command") == "hessian" and outputs:
        slope = slope_of(program, [torch.ones_like(y) for y in outputs])
        said.append(what_torch_says(slope, None))
    return said


def handed(program: PlainProgram, given: Tensor | None) -> Iterator[PlainProgram]:
    """The program with a v handed to one of its calls of `torch.autograd.grad`: the one that was given, and ones."""
    tree, inputs = ast.parse(program.text), program.inputs if given is None else {**program.inputs, "given": given}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) == "torch.autograd.grad":
            before, (y, x, *_) = call.args, call.args
            for v in ["given"] * (given is not None) + [f"torch.ones_like({ast.unparse(y)})"]:
                call.args = [y, x, ast.parse(v, mode="eval").body]
                yield replace(program, text=ast.unparse(tree), inputs=inputs)
            call.args = before


def raises(evidence: Evidence, claim: Claim) -> None:
    refute(not any(said_by_torch(evidence)), "PyTorch does it")


def says_so(evidence: Evidence, claim: Claim) -> None:
    """Of two mistakes, one of them the shape of v, either may be told."""
    found = said_by_torch(evidence)
    refute(_words(claim.sentence) not in map(_words, found), f"it says: {found[0]}")


def _words(message: str | None) -> str:
    """A message without what differs from place to place, and the precision: a check computes in double."""
    text = re.sub(r"torch\.\w*Tensor", "Tensor", message or "")
    return " ".join(re.sub(r"\s*(Hint:|Exception raised from).*", "", text, flags=re.DOTALL).split())


def has_these_shapes(evidence: Evidence, claim: Claim) -> None:
    """The shapes of v and of the output."""
    error, given = claim.about["error"], evidence.document.get("given")
    if given is None:
        raise UndecidedError("it is not about a v")
    (y,) = evidence.program.run(*evidence.program.leaves)
    refute(tuple(error["got"]) != tuple(given.shape), f"v has the shape {tuple(given.shape)}")
    refute(tuple(error["expected"]) != tuple(y.shape), f"the output has the shape {tuple(y.shape)}")


def is_refused(evidence: Evidence, claim: Claim) -> None:
    """Without a v PyTorch differentiates no output of several entries, and says so in these words."""
    said: list[str] = []
    for y, leaves in _outputs(evidence):
        try:
            torch.autograd.grad(y, leaves, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            said.append(f"RuntimeError: {error}")
    if claim.sentence not in said:
        raise RefutedError(f"it says {said}")


def _outputs(evidence: Evidence) -> list[tuple[Tensor, list[Tensor]]]:
    leaves = [x.clone().requires_grad_(moves(x)) for x in evidence.program.leaves]
    return [(y, [x for x in leaves if x.requires_grad]) for y in evidence.program.run(*leaves) if y.requires_grad]
