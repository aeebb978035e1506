"""The claims of a document: what each of its sentences says of the function, by code, and where it stands.

A finding and a warning name their claim; a sentence about a product is recognised by the template that it was made from, and
text that no template makes is a sentence that nobody registered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from string import Formatter
from typing import Any

from evidence import Claim

from jvpcli.answers.coupling import SENTENCES as OF_HESSIANS
from jvpcli.jacobians.contraction import SENTENCES
from jvpcli.tracing.findings import ADDITIONS, REASONS

Document = Mapping[str, Any]


class UnregisteredError(Exception):
    """A sentence that makes no known claim."""


def claims_of(document: Document) -> Iterator[Claim]:
    """Every claim that an answer makes, or an error."""
    if "error" in document:
        yield from _of_error(document["error"])
    if document.get("refusal"):
        yield Claim("refusal.implicit", document["refusal"]["message"])
    for y, row in document.get("jacobian", {}).items():
        for x, jacobian in row.items():
            contraction = document["contraction"].get(y, {}).get(x)
            if contraction is not None:
                yield from _of_pair({"y": y, "x": x, "jacobian": jacobian, "contraction": contraction})
    for x in document.get("vjp", {}):
        yield Claim("vjp.same", "torch.autograd.grad gives the same", {"x": x})
    if "hessian" in document:
        yield from _of_hessian(document)
    for step in document.get("steps", ()):
        for local in step["local_jacobians"]:
            yield Claim(f"local.{local['structure']}", local["structure"], {"step": step, "local": local})
    for finding in document.get("findings", ()):
        yield Claim(f"finding.{finding['claim']}", finding["message"], {"finding": finding})
        for code, template in {**REASONS, **ADDITIONS}.items():
            match = _pattern(template, ends=False).search(finding["message"])
            if match is not None:
                kind = "reason" if code in REASONS else "addition"
                yield Claim(f"{kind}.{code}", match[0], {"finding": finding})
    for notice in document.get("warnings", ()):
        yield Claim(f"warning.{notice.get('claim') or notice['code']}", notice["message"])
    if "verdict" in document:
        yield Claim(f"verdict.{document['verdict']}", document["explanation"], {"worst": document["worst"]})


FAILING = ("evaluation", "shape_mismatch", "not_differentiable")
"""Codes of errors that PyTorch raises, too; the others are of what jvp takes."""


def _of_error(error: Document) -> Iterator[Claim]:
    if error["code"] not in FAILING:
        return
    yield Claim("error.raises", error["message"])
    if error["torch_message"] is not None:
        yield Claim("error.torch_message", error["torch_message"])
    if error["message"].startswith("grad_outputs for ") and error["got"] is not None:
        yield Claim("error.shapes", error["message"], {"error": error})


def _of_hessian(document: Document) -> Iterator[Claim]:
    for x, row in document["hessian"].items():
        for w, block in row.items():
            for code, sentence, facts in spoken(document["contraction"][x][w]["product"], OF_HESSIANS):
                yield Claim(f"second.{code}", sentence, {"y": x, "x": w, "jacobian": block, "facts": facts})
    for note in document["notes"]:
        yield from (Claim(f"second.{code}", sentence) for code, sentence, _ in spoken(note, OF_HESSIANS))
    yield Claim(f"definite.{document['definite']}", document["definite"])
    if document["symmetric"]:
        yield Claim("hessian.symmetric", "the order of differentiation makes no difference")
    if document["eigenvalues"]["least"] is not None:
        yield Claim("hessian.eigenvalues", "its eigenvalues")
    yield Claim("hessian.trace", "its trace")
    if "hvp" in document:
        yield Claim("hessian.hvp", "H u")


def _of_pair(pair: Mapping[str, Any]) -> Iterator[Claim]:
    contraction = pair["contraction"]
    for code, sentence, facts in spoken(contraction["product"]):
        yield Claim(f"product.{code}", sentence, {**pair, "facts": facts})
    yield Claim("vjp.einsum", contraction["einsum"], pair)
    if contraction.get("entry") is not None:
        yield Claim("vjp.entry", contraction["entry"]["label"], pair)


def spoken(text: str, table: Mapping[str, str] = SENTENCES) -> list[tuple[str, str, dict[str, str]]]:
    """The sentences of a text one after the other: code, sentence, and what stands in the places of its template.

    Raises:
        UnregisteredError: the text is not made of templates of this table.
    """
    if not text:
        return []
    for code, template in table.items():
        match = _pattern(template).match(text)
        if match is not None:
            try:
                rest = spoken(text[match.end() :].removeprefix(" "), table)
            except UnregisteredError:
                continue
            return [(code, match[0], match.groupdict()), *rest]
    raise UnregisteredError(text)


@cache
def _pattern(template: str, *, ends: bool = True) -> re.Pattern[str]:
    parts: list[str] = []
    known: set[str] = set()
    for text, name, _, _ in Formatter().parse(template):
        parts.append(re.escape(text))
        if name is not None:
            parts.append(f"(?P={name})" if name in known else f"(?P<{name}>.*?)")
            known.add(name)
    return re.compile("".join(parts) + (r"(?= |$)" if ends else r"(?=[ .;]|$)"), re.DOTALL)
