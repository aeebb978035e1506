"""Formulas of a report as MathML: what is of the output's space and of the input's carries a class each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup

from jvpcli.render.html.data import split_einsum

OUT, IN = "jvp-out", "jvp-in"

_TOKEN = re.compile(
    r"""\s*(?:
      ∂(?P<above>\((?:Re|Im)\s[^)]*\)|[^\s/·+()]+)/∂(?P<below>[^\s·+()]+)
    | (?P<part>Re|Im)\s
    | Σ_(?P<over>\w+)
    | (?P<symbol>[^\W\d][\w.]*)
    | (?P<number>\d+)
    | (?P<operator>[=·+()])
    )""",
    re.VERBOSE,
)


def math(text: str, einsum: str) -> Markup:
    """A formula such as `∂L/∂x_i = Σ_jk v_jk · ∂y_jk/∂x_i`; `einsum` tells its axes from parts of names.

    What is not in this form stands there as it is.
    """
    spaces = split_einsum(einsum)
    parts = list(_tokens(text))
    if sum(len(match[0]) for match in parts) != len(text):
        return Markup("<code>{}</code>").format(text)
    body = Markup().join(_rendered(match, spaces) for match in parts)
    return Markup('<math display="block" alttext="{}"><mrow>{}</mrow></math>').format(text, body)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """The parts of a formula up to the first that is none."""
    at = 0
    while match := _TOKEN.match(text, at):
        yield match
        at = match.end()


def _rendered(match: re.Match[str], spaces: tuple[str, str]) -> Markup:
    if match["above"]:
        fraction = Markup("<mfrac><mrow><mo>∂</mo>{}</mrow><mrow><mo>∂</mo>{}</mrow></mfrac>")
        return fraction.format(_numerator(match["above"], spaces), _symbol(match["below"], spaces, IN))
    if match["part"]:
        return _part(match["part"])
    if match["over"]:
        return Markup('<munder><mo>∑</mo><mi class="{}">{}</mi></munder>').format(OUT, match["over"])
    if match["symbol"]:
        return _symbol(match["symbol"], spaces, OUT)
    if match["number"]:
        return Markup("<mn>{}</mn>").format(match["number"])
    return Markup("<mo>{}</mo>").format(match["operator"])


def _numerator(text: str, spaces: tuple[str, str]) -> Markup:
    """`y_jk`, or the real or imaginary part of it in parentheses; L, which has no axes, is of neither space."""
    if text == "L":
        return Markup("<mi>L</mi>")
    if not text.startswith("("):
        return _symbol(text, spaces, OUT)
    part, _, name = text[1:-1].partition(" ")
    return Markup("<mo>(</mo>{}{}<mo>)</mo>").format(_part(part), _symbol(name, spaces, OUT))


def _part(part: str) -> Markup:
    return Markup("<mi>{}</mi><mo>&#x2061;</mo>").format(part)


def _symbol(text: str, spaces: tuple[str, str], kind: str) -> Markup:
    """`y_jk` as y with the axes below it; an underscore that is not before axes belongs to the name."""
    name, _, axes = text.rpartition("_")
    if not name or axes not in filter(None, spaces):
        return Markup('<mi class="{}">{}</mi>').format(kind, text)
    return Markup('<msub><mi class="{0}">{1}</mi><mi class="{0}">{2}</mi></msub>').format(kind, name, axes)
