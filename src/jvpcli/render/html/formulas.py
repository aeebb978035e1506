"""Formulas of reports, such as `∂L/∂x_i = Σ_k v_ik·x_k + Σ_j v_ji·x_j`, as MathML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

OUT, IN = "jvp-out", "jvp-in"
"""The classes of what is of the output's space, and of the input's."""

RAISED = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᐟ"
LOWERED = str.maketrans(RAISED, "−0123456789/")
LETTER = rf"(?:(?![{RAISED}ᵀ𝟏])\w)"
WORD = rf"(?!\d){LETTER}+"
AXES = rf"(?:(?!_)(?:{LETTER}|•))+"

_TOKENS = {
    "opaque": re.compile(rf"{WORD}(?:\.{LETTER}+)+(?=\()"),  # a call of the program, which stands for a constant
    "word": re.compile(rf"{WORD}(?:′|\[[^\[\]]*\])?"),
    "number": re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"),
    "below": re.compile(rf"_({AXES}(?:,{AXES})*)(?!{LETTER}|[(.])"),
    "raised": re.compile(f"[{RAISED}]+"),
    "operator": re.compile(r"\s*([·∘⊘])\s*"),
    "sign": re.compile(r"\s*([+−-])\s*"),
    "relation": re.compile(r"\s*([=<>≠])\s*"),
    "choice": re.compile(r" (if|else) "),
}  # fmt: skip

PAIRS = {"(": ")", "|": "|", "[": "]", "‖": "‖"}


@dataclass(frozen=True, slots=True)
class Kinds:
    """What a reader of formulas needs to know: the class of each tensor's name, and of each letter of its axes."""

    names: Mapping[str, str] = field(default_factory=dict)
    letters: Mapping[str, str] = field(default_factory=dict)


def math(text: str, kinds: Kinds, *, block: bool = False) -> Markup:
    """A formula as MathML; what is not in the notation of reports stands there as it is, as code."""
    try:
        body = Markup().join(_Reader(text, kinds).whole())
    except NotAFormulaError:
        return Markup("<code>{}</code>").format(text)
    return _set(text, body, block)


def summands(text: str, kinds: Kinds) -> Sequence[tuple[str, Markup]]:
    """The terms that a sum has at its outermost, each with its sign: its text, and MathML of its own."""
    reader = _Reader(text, kinds)
    try:
        terms = reader.terms()
        reader.end()
    except NotAFormulaError:
        return [(text, math(text, kinds))]
    return [(shown, _set(shown, body)) for shown, body in terms]


def _set(text: str, body: Markup, block: bool = False) -> Markup:
    display = Markup(' display="block"') if block else ""
    return Markup('<math{} alttext="{}"><mrow>{}</mrow></math>').format(display, text, body)


class NotAFormulaError(Exception):
    """A text is not in the notation of reports."""


class _Reader:
    """Reads a formula from left to right by descent: relations of sums of products of factors."""

    def __init__(self, text: str, kinds: Kinds) -> None:
        self.text, self.kinds, self.at = text, kinds, 0
        self.names = sorted(filter(None, kinds.names), key=len, reverse=True)

    def whole(self) -> list[Markup]:
        """A formula, or several with commas between them, up to the end."""
        found = self._listed()
        self.end()
        return found

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            NotAFormulaError: something is.
        """
        if self.at < len(self.text):
            raise NotAFormulaError

    def terms(self) -> list[tuple[str, Markup]]:
        """The terms of a sum: the text of each, and its MathML."""
        found: list[tuple[str, Markup]] = []
        while True:
            start = self.at
            sign = self._take("sign")
            if found and not sign:
                return found
            body = self._product()
            if sign:
                body = Markup('<mo form="{}">{}</mo>{}').format("infix" if found else "prefix", sign, body)
            found.append((self.text[start : self.at].strip(), body))

    def _relations(self) -> list[Markup]:
        found = [body for _, body in self.terms()]
        while (sign := self._take("relation")) or (word := self._take("choice")):
            found.append(Markup("<mo>{}</mo>").format(sign) if sign else Markup("<mtext>&nbsp;{}&nbsp;</mtext>").format(word))
            found += [body for _, body in self.terms()]
        return found

    def _listed(self) -> list[Markup]:
        found = self._relations()
        while self._skip(", "):
            found += [Markup('<mo separator="true">,</mo>'), *self._relations()]
        return found

    def _product(self) -> Markup:
        pieces: list[Markup] = []
        while True:
            if self._skip("Σ_"):
                over = self._match(_TOKENS["word"])
                pieces.append(Markup("<munder><mo>∑</mo>{}</munder>").format(self._letters(over, OUT)))
                self._skip(" ")
                continue
            shown, inner = self._factor()
            while self._skip("/"):
                below, inside = self._factor()
                shown, inner = Markup("<mfrac>{}{}</mfrac>").format(_row(inner or shown), _row(inside or below)), None
            pieces.append(shown)
            if operator := self._take("operator"):
                pieces.append(Markup("<mo>{}</mo>").format(operator))
            elif self.text.startswith(" Σ_", self.at):
                self.at += 1
            elif re.match(rf" (?!if |else ){WORD}", self.text[self.at :]):  # two words beside each other, as in J u
                self.at += 1
                pieces.append(Markup('<mspace width=".25em"/>'))
            else:
                return Markup().join(pieces)

    def _factor(self) -> tuple[Markup, Markup | None]:
        """A factor with what is above and below it; and what stands inside, where it is nothing but a bracket."""
        shown, inner = self._atom()
        while True:
            if below := _TOKENS["below"].match(self.text, self.at):
                self.at = below.end()
                shown = Markup("<msub>{}{}</msub>").format(_row(shown), self._letters(below[1], ""))
            elif raised := _TOKENS["raised"].match(self.text, self.at):
                self.at = raised.end()
                shown = Markup("<msup>{}<mn>{}</mn></msup>").format(_row(shown), raised[0].translate(LOWERED))
            elif self._skip("ᵀ"):
                shown = Markup('<msup>{}<mi mathvariant="normal">T</mi></msup>').format(_row(shown))
                shown = self._called(shown)
            elif self._skip("^"):
                shown = Markup("<msup>{}{}</msup>").format(_row(shown), _row(self._factor()[0]))
            else:
                return shown, inner
            inner = None

    def _atom(self) -> tuple[Markup, Markup | None]:
        opening = self.text[self.at : self.at + 1]
        if opening in PAIRS and opening:
            return self._bracket(opening)
        if self._skip("√"):
            shown, inner = self._atom() if self.text.startswith("(", self.at) else (self._factor()[0], None)
            return Markup("<msqrt>{}</msqrt>").format(inner or shown), None
        if self._skip("∂"):
            return self._slope(), None
        if self._skip("𝟏"):
            return _element("mn", "𝟏"), None
        for name in self.names:
            after = self.at + len(name)
            if self.text.startswith(name, self.at) and not re.match(r"[^\W_]|\(|_\w*\(", self._plain(after)):
                self.at = after
                return self._symbol(name), None
        if opaque := _TOKENS["opaque"].match(self.text, self.at):
            self.at = self._closed(opaque.end())
            return Markup("<mtext>{}</mtext>").format(opaque[0] + self.text[opaque.end() : self.at]), None
        if number := _TOKENS["number"].match(self.text, self.at):
            self.at = number.end()
            return Markup("<mn>{}</mn>").format(number[0]), None
        return self._word()

    def _plain(self, at: int) -> str:
        """What follows, unless it is above the line."""
        return "" if self.text[at : at + 1] in (*RAISED, "ᵀ", "𝟏") else self.text[at:]

    def _word(self) -> tuple[Markup, Markup | None]:
        """A function with its arguments, or a symbol that is no tensor's name, such as δ_ij."""
        word = self._match(_TOKENS["word"])
        if self.text.startswith("(", self.at):
            return self._called(_identifier(word)), None
        name, _, below = word.rpartition("_")
        if name and "[" not in below:
            self.at -= len(below) + 1
            word = name
        return self._symbol(word), None

    def _symbol(self, name: str) -> Markup:
        kind = self.kinds.names.get(name, "")
        return Markup('<mi class="{}">{}</mi>').format(kind, name) if kind else _identifier(name)

    def _called(self, function: Markup) -> Markup:
        if not self._skip("("):
            return function
        arguments = Markup().join(self._listed())
        self._expect(")")
        return Markup("<mrow>{}{}</mrow>").format(function, _fenced("(", arguments, ")"))

    def _bracket(self, opening: str) -> tuple[Markup, Markup | None]:
        self.at += 1
        words = [Markup("<mtext>not&nbsp;</mtext>")] if opening == "[" and self._skip("not ") else []
        inner = Markup().join([*words, *self._relations()])
        self._expect(PAIRS[opening])
        return _fenced(opening, inner, PAIRS[opening]), inner if opening == "(" else None

    def _slope(self) -> Markup:
        """∂y_jk/∂x_i, or ∂²L/∂x_i∂x_j; the ∂ of the numerator is read already."""
        second = self._skip("²")
        above = self._factor()[0]
        self._expect("/")
        below = []
        while self._skip("∂"):
            below.append(Markup("<mo>∂</mo>{}").format(self._factor()[0]))
        if not below:
            raise NotAFormulaError
        partial = Markup("<msup><mo>∂</mo><mn>2</mn></msup>" if second else "<mo>∂</mo>")
        return Markup("<mfrac><mrow>{}{}</mrow><mrow>{}</mrow></mfrac>").format(partial, above, Markup().join(below))

    def _letters(self, text: str, otherwise: str) -> Markup:
        """Axes below a name, each in the colour of the tensor that it is an axis of."""
        parts = re.findall(r"[^,]+|,", text) if "," in text else list(text)
        shown = []
        for part in parts:
            kind = self.kinds.letters.get(part, otherwise)
            tag = "mo" if part in ",•" else "mn" if part.isdigit() else "mi"
            shown.append(Markup('<{0} class="{1}">{2}</{0}>').format(tag, kind, part) if kind else _element(tag, part))
        return _row(Markup().join(shown))

    def _closed(self, at: int) -> int:
        """The place after the bracket that closes the one that opens here."""
        depth = 0
        for k in range(at, len(self.text)):
            depth += (self.text[k] in "([{") - (self.text[k] in ")]}")
            if not depth:
                return k + 1
        raise NotAFormulaError

    def _take(self, kind: str) -> str | None:
        """What a token of that kind says, if one is next."""
        found = _TOKENS[kind].match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise NotAFormulaError
        self.at = found.end()
        return found[0]

    def _skip(self, text: str) -> bool:
        is_next = self.text.startswith(text, self.at)
        self.at += len(text) * is_next
        return is_next

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise NotAFormulaError


def _row(body: Markup) -> Markup:
    return Markup("<mrow>{}</mrow>").format(body)


def _fenced(opening: str, inner: Markup, closing: str) -> Markup:
    """In brackets, which are as tall as a fraction inside, and else as the line."""
    tall = "true" if "<mfrac>" in inner else "false"
    fence = Markup('<mrow><mo form="prefix" stretchy="{0}">{1}</mo>{2}<mo form="postfix" stretchy="{0}">{3}</mo></mrow>')
    return fence.format(tall, opening, inner, closing)


def _element(tag: str, text: str) -> Markup:
    return Markup("<{0}>{1}</{0}>").format(tag, text)


def _identifier(text: str) -> Markup:
    return _element("mi", text)
