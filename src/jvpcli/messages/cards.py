"""Cards: what is known of each of PyTorch's messages, read from `cards/*.md`, and filled in with what a message says.

A card begins with `# ` and its id.  Then come its wordings behind `> `, settings, and one or more forms of what it says:

===================  ==============================================================================================
`repair: NAME`       the family of repairs in `jvpcli/repairs/` that is tried where an expression raised it
`pieces: FILE.NAME`  the function in `jvpcli/messages/FILE.py` that decides what can't be told by filling in alone
`words: ID`          another card says it
`about: shapes`      the message is about shapes or places in them; above the first card: all messages of the file are
`## TITLE`           begins a form: a title, below it the meaning, then causes behind `- ` and cures behind `+ `, with
                     the likeliest first
===================  ==============================================================================================

Lines are joined by a blank (those of wordings, causes and cures are indented by two); a line that ends with a backslash
ends there.  In the words stand places:

===================  ==============================================================================================
`{got}`              what a wording captured under this name, or a piece that the function gave: a shape as Python
                     writes it, a dtype under Python's name
`{got or nothing}`   the words behind `or` where it is missing
`{n:axis}`           with a noun: `1 axis`, `2 axes`; `{shape:sizes}`: `2, 3`
`{?, of {n} axes}`   these words, or nothing where something in them is missing
`{n?{n} axes|many}`  the first words where `n` is there, else the second
`{half?}` `{no n?}`  nothing, but missing where `half` is (where `n` is not): for what is said in one case only
`{RULE}`             words that several cards share: `RULE = …` above the first card
===================  ==============================================================================================

Missing is what was not captured, or what the function gave as None or False.  The first form counts whose title and
meaning miss nothing; causes and cures that miss something are left out.  A cause or cure that is a place alone may be a
list of several.

A wording is PyTorch's own text with places for what varies, in braces:

===================  ==================================================================================
`{got:shape}`        `torch.Size([4, 4])`, `[4, 4]`, `(4, 4)`, `[4 x 4]` or `4x4`, under the name `got`
`{n:int}`            a whole number; `{x:number}` any number
`{a:dtype}`          `Float`, `torch.float32`, `double`, `long int`, `torch.cuda.FloatTensor`, `c10::Half`, …
`{op:word}`          anything without blanks; `{what:any}` a few words; `{text:lines}` up to 4000 characters;
                     `{:any}` a few words without a name
`{Tensors|Variables}`  one of these, as it stands
`{?, Variables}`     this or nothing
===================  ==================================================================================

A name that stands twice is kept once.  A blank matches any white space, so that a wrapped message is still found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from jvpcli.messages.shapes import counted, listed
from jvpcli.report import Shape

FOLDER = Path(__file__).parent / "cards"

TOPICS = (
    "cotangents", "graph", "inplace", "functional", "transforms", "custom", "products", "algebra", "broadcasting",
    "rearranging", "indexing", "layers", "losses", "dtypes", "devices", "conversions", "training", "memory",
)  # fmt: skip
"""The files of cards; of two equal matches the one in the earlier file counts."""

PRODUCTS = frozenset(
    ("matmul", "__matmul__", "mm", "bmm", "mv", "dot", "vdot", "inner", "outer", "ger", "linear", "bilinear", "addmm", "addmv",
     "addbmm", "baddbmm", "addmm_", "addmv_", "addbmm_", "baddbmm_", "addr", "multi_dot", "chain_matmul", "imatmul", "kron",
     "tensordot")
)  # fmt: skip
"""Functions that multiply their operands as they are."""

Pieces = dict[str, Any]
"""What the places of a card are filled with, by name.  The piece `card` leaves the words to the card with this id."""

MOST_AXES = 64
"""Axes that a tensor has at most."""

DTYPES = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
    "long": "int64", "longint": "int64", "longlong": "int64", "int": "int32", "short": "int16",
    "signedchar": "int8", "char": "int8", "byte": "uint8", "unsignedchar": "uint8", "bool": "bool",
    "complexfloat": "complex64", "complexdouble": "complex128", "complexhalf": "complex32",
    "c10::half": "float16", "c10::bfloat16": "bfloat16",
    "c10::complex<float>": "complex64", "c10::complex<double>": "complex128",
}  # fmt: skip
"""C++ names of dtypes, in lower case without blanks, and their names in Python."""


# Wordings, and how what varies in them is read


def dtype_name(text: str) -> str:
    """`torch.float32`, `Float`, `torch.cuda.FloatTensor` are all `float32`."""
    word = squeeze(text).removeprefix("torch.").removeprefix("cuda.").removesuffix("Tensor")
    return DTYPES.get(word.lower(), word)


def read_shape(text: str) -> Shape | None:
    """`torch.Size([4, 4])`, `(4,)`, `2x3`, `[2 x 3]`; None where a size is not a number, or no tensor has such axes."""
    if re.search(r"[*s?]", text.replace("torch.Size", "")):
        return None
    sizes = re.findall(r"\d+", text)
    return tuple(map(int, sizes)) if len(sizes) <= MOST_AXES and all(len(size) < 19 for size in sizes) else None


_DTYPE = (
    r"(?:torch\.)?(?:cuda\.)?(?:c10::complex<\w+>|c10::\w+|long (?:int|long)|(?:un)?signed char"
    r"|(?:ComplexHalf|ComplexFloat|ComplexDouble|BFloat16|Float8_\w+|Float|Double|Half|Long|Int|Short|Byte|Char|Bool"
    r"|bfloat16|float(?:8_\w+|16|32|64)|float|double|half|complex(?:32|64|128)|u?int(?:8|16|32|64)|int|long|short|bool)"
    r"(?:Tensor)?)"
)

_SHAPE = r"torch\.Size\( ?\[[^\[\]]{0,80}\] ?\)|\[[\dsx?*][\ds,x?* ]*\]|\[\]|\([\ds,x?* ]*\)|\d+(?:x\d+)+"

KINDS = {
    "shape": _SHAPE,
    "int": r"-?\d+",
    "number": r"-?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|nan|inf)",
    "dtype": _DTYPE,
    "word": r"[^\s,;'\"()]+",
    "any": r".{1,300}?",
    "lines": r".{0,4000}?",
    "vector": r"\[\d+\]|\(\d+,?\)",
    "matrix": r"\[\d+\s*x\s*\d+\]|\d+x\d+",
    "pair": r"\[\d+,\s*\d+\]",
    "of": r"view of",
    "part": r"backward or vjp|backward|forward|jvp|vmap",
    "signed": r"[\[(][-\d\s,x]{0,300}[\])]",
    "measure": r"[\d\sx]{1,300}",
    "wanted": r"\[[\d\s,]{0,300}\]",
    "amount": r"[\d.]+\s*(?:[KMGT]i?B|bytes)",
    "chip": r"CUDA|HIP|MPS|XPU|NPU",
    "device": r"(?:cuda|cpu|mps|xpu|hip|meta|xla|privateuseone)(?::\d+)?",
    "cuda": r"torch\.cuda\.\w+Tensor",
    "cpu": r"torch\.\w+Tensor",
    "argument": r"argument\s+#\d+\s+'\w+'",
    "values": r"more than one value|no values",
    "tape": r"backward|requires_grad_?|grad_fn|retain_grad|detach_?|register_hook",
    "factor": r"\b(?:self|mat1|mat2|batch1|batch2|vec)",
    "statistic": r"running_mean|running_var|weight|bias",
    "state": r"hidden(?:\[\d\])?|cell",
    "deep": r"3D",
    "many": r"more|fewer",
    "remapped": r"[\[\]\d,\s>-]{0,1000}",
    "tensor": r"tensor\(.{0,20000}?\]\s*(?:,[^()]*)?\)|tensor\(\[\](?:,[^()]*)?\)|[-+.\deE]+",
}
"""What each kind of place matches; a blank stands for any white space."""


@cache
def anchor(wording: str) -> str:
    """The longest piece of a wording that never varies, squeezed and in lower case: texts without it need no search."""
    pieces = re.split(r"\{[^{}]*\}", wording.replace("{{", "\0").replace("}}", "\0"))
    longest = max((piece for whole in pieces for piece in whole.split("\0")), key=lambda piece: len(squeeze(piece)))
    return squeeze(longest).lower()


def squeeze(text: str) -> str:
    """The text without any white space."""
    return re.sub(r"\s+", "", text)


def kinds(wording: str) -> dict[str, str]:
    """The kind of each place of a wording that has a name."""
    return dict(re.findall(r"\{(\w+):(\w+)\}", wording))


@cache
def pattern(wording: str, squeezed: bool = False) -> re.Pattern[str]:
    """The regular expression of a wording; `squeezed` is for text that has lost all its white space."""
    seen: set[str] = set()
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\})", wording)
    text = "".join(_part(part, seen) for part in parts)
    return re.compile(text.replace(" ", "" if squeezed else r"\s+"), re.IGNORECASE | re.DOTALL)


def _part(part: str, seen: set[str]) -> str:
    """The regular expression of a piece of a wording; blanks stay blanks."""
    if part in ("{{", "}}") or not part.startswith("{"):
        return _literal(part.replace("{{", "{").replace("}}", "}"))
    inside = part[1:-1]
    named = re.fullmatch(r"(\w*):(\w+)", inside)
    if named and named[2] in KINDS:
        name, kind = named[1], KINDS[named[2]].replace(" ?", r"\s*")
        if not name or name in seen:
            return f"(?:{kind})"
        seen.add(name)
        return f"(?P<{name}>{kind})"
    if inside.startswith("?"):
        return f"(?:{_literal(inside[1:])})?"
    return f"(?:{'|'.join(map(_literal, inside.split('|')))})"


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\ ", " ")


# What a card says


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of a message; causes and cures with the likeliest first."""

    title: str
    meaning: str
    causes: tuple[str, ...]
    cures: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a wording captured, by name; a name that this wording doesn't have, or left open, gives None.

    `kinds` are the kinds of the wording's places.  Where the message was raised by an expression at hand, `operands` are
    the texts and shapes of the tensors, and `operation` is what `Equation.op` says; else both are empty.
    """

    groups: Mapping[str, str]
    kinds: Mapping[str, str] = field(default_factory=dict)
    operands: tuple[tuple[str, Shape], ...] = ()
    operation: str = ""

    @property
    def function(self) -> str:
        """The last part of the operation's name: `linear` of `call:torch.nn.functional.linear`."""
        return self.operation.rpartition(":")[2].rpartition(".")[2]

    @property
    def factors(self) -> tuple[tuple[str, Shape], tuple[str, Shape]] | None:
        """The two factors of a product at hand: behind the tensor that addmm and its like add to.

        None for other functions: what they multiply inside are not their operands.
        """
        if self.function not in PRODUCTS:
            return None
        added = self.function.startswith(("addmm", "addmv", "addbmm", "baddbmm"))
        pair = self.operands[1:3] if added else self.operands[:2]
        return (pair[0], pair[1]) if len(pair) == 2 else None

    @property
    def pieces(self) -> Pieces:
        """Everything captured, read by its kind; and `x has shape (2, 3). ` of the first operand at hand as `owner`."""
        owner = f"{self.operands[0][0]} has shape {self.operands[0][1]}. " if self.operands else ""
        return {"owner": owner, **{name: self._read(name) for name in self.groups}}

    def _read(self, name: str) -> Any:
        kind = self.kinds.get(name)
        if kind in ("shape", "vector", "matrix", "pair"):
            return self.shape(name)
        return self.int(name) if kind == "int" else self.dtype(name) if kind == "dtype" else self.text(name)

    def text(self, name: str) -> str | None:
        """As it stands in the message, blanks collapsed."""
        value = self.groups.get(name)
        return " ".join(value.split()).rstrip(".:") if value else None

    def shape(self, name: str) -> Shape | None:
        """A shape; None also where it isn't made of numbers."""
        value = self.groups.get(name)
        return None if value is None else read_shape(value)

    def int(self, name: str) -> int | None:
        """A whole number; None also where it isn't one."""
        value = self.groups.get(name) or ""
        return int(value) if re.fullmatch(r"-?\d{1,18}", value) else None

    def dtype(self, name: str) -> str | None:
        """A dtype under the name that Python has for it: `Float` is float32."""
        value = self.groups.get(name)
        return None if value is None else dtype_name(value)


@dataclass(frozen=True)
class Card:
    """One known message: its id, its wordings through the versions, its settings, and what it says (`forms`, as written)."""

    id: str
    wordings: tuple[str, ...]
    text: str
    shared: Mapping[str, str]
    repair: str = ""
    pieces: str = ""
    words: str = ""
    about: str = ""

    @cached_property
    def forms(self) -> tuple[Words, ...]:
        """Its forms with the places still open."""
        return tuple(_form(form) for form in re.split(r"^## ", self.text, flags=re.MULTILINE))

    def decide(self, found: Found) -> Pieces:
        """The pieces that its function gives."""
        if not self.pieces:
            return {}
        module, _, function = self.pieces.partition(".")
        pieces: Pieces = getattr(import_module(f"jvpcli.messages.{module}"), function)(found)
        return pieces

    def say(self, found: Found) -> Words:
        """What it says of a message in which `found` was captured."""
        card = cards()[self.words] if self.words else self
        pieces = card.decide(found)
        if "card" in pieces:
            card = cards()[pieces["card"]]
            pieces = {**card.decide(found), **pieces}
        pieces = {**card.shared, **found.pieces, **pieces}
        for form in card.forms:
            title, meaning = fill(form.title, pieces), fill(form.meaning, pieces)
            if title is not None and meaning is not None:
                break
        else:
            title, meaning = fill(form.title, pieces, "…") or "", fill(form.meaning, pieces, "…") or ""
        return Words(title, meaning, tuple(_items(form.causes, pieces)), tuple(_items(form.cures, pieces)))


# From text to cards

_SETTING = re.compile(r"^(repair|pieces|words|about): (.+)$", re.MULTILINE)
_SHARED = re.compile(r"^([A-Z]\w*) = (.*(?:\n  .*)*)", re.MULTILINE)
_ITEM = re.compile(r"^([>+-]) (.*(?:\n  .*)*)", re.MULTILINE)


@cache
def cards() -> Mapping[str, Card]:
    """Every known message by its id, in the order of the files."""
    texts = ((FOLDER / f"{topic}.md").read_text("utf-8") for topic in TOPICS)
    return {card.id: card for text in texts for card in read_cards(text)}


def read_cards(text: str) -> Iterator[Card]:
    """The cards of a file."""
    head, *pages = re.split(r"^# ", text, flags=re.MULTILINE)
    shared = {name: _joined(words) for name, words in _SHARED.findall(head)}
    for page in pages:
        top, _, forms = page.partition("\n## ")
        wordings = tuple(_joined(item) for _, item in _ITEM.findall(top))
        settings = dict(_SETTING.findall(head) + _SETTING.findall(top))
        yield Card(top.partition("\n")[0], wordings, forms, shared, **settings)


def _form(text: str) -> Words:
    title, _, rest = text.partition("\n")
    first = _ITEM.search(rest)
    meaning = rest[: first.start()] if first else rest
    items = [(mark, _joined(item)) for mark, item in _ITEM.findall(rest)]
    causes, cures = (tuple(item for mark, item in items if mark == wanted) for wanted in "-+")
    return Words(title, _joined(meaning.strip("\n")), causes, cures)


def _joined(text: str) -> str:
    return re.sub(r"(\\?)\n(?:  )?", lambda end: "\n" if end[1] else " ", text)


# From a card to words

_INSIDE = r"(?:[^{}|]|\{[^{}]*\})*"
_PLACE = re.compile(
    rf"\{{\?(?P<phrase>{_INSIDE})\}}|\{{(?P<case>\w+)\?(?P<yes>{_INSIDE})\|(?P<else>{_INSIDE})\}}"
    r"|\{(?P<no>no )?(?P<name>\w+)(?P<test>\?|:\w+| or [^{}]*)?\}"
)


def fill(text: str, pieces: Mapping[str, Any], unknown: str | None = None) -> str | None:
    """The text with its places filled; None where something is missing, unless `unknown` is to stand for it."""
    parts, end = [], 0
    for place in _PLACE.finditer(text):
        part = _filled(place, pieces)
        if part is None and unknown is None:
            return None
        parts += [text[end : place.start()], unknown if part is None else part]
        end = place.end()
    return "".join(filter(None, parts)) + text[end:]


def _filled(place: re.Match[str], pieces: Mapping[str, Any]) -> str | None:
    if place["phrase"] is not None:
        return fill(place["phrase"], pieces) or ""
    value: Any = pieces.get(place["case"] or place["name"])
    test = place["test"] or ""
    missing = value is None or value is False
    if place["case"]:
        return fill(place["else" if missing else "yes"], pieces)
    if test == "?":
        return "" if missing is bool(place["no"]) else None
    if missing:
        return test.removeprefix(" or ") if test.startswith(" or ") else None
    if test == ":sizes":
        return listed(value) or "()"
    return counted(value, test[1:]) if test.startswith(":") else str(value)


def _items(texts: Sequence[str], pieces: Mapping[str, Any]) -> Iterator[str]:
    """Causes or cures, without those that miss something."""
    for text in texts:
        piece = re.fullmatch(r"\{(\w+)\}", text)  # a list of items stands alone
        value = pieces.get(piece[1]) if piece else None
        filled = value if isinstance(value, list) else [fill(text, pieces)]
        yield from (item for item in filled if item)
