"""How a card writes PyTorch's own text, and how what varies in it is read.

A wording is PyTorch's own text with places for what varies, in braces:

===================  ==================================================================================
`{got:shape}`        `torch.Size([4, 4])`, `[4, 4]`, `(4, 4)`, `[4 x 4]` or `4x4`, under the name `got`
`{n:int}`            a whole number; `{x:number}` any number
`{a:dtype}`          `Float`, `torch.float32`, `double`, `long int`, `torch.cuda.FloatTensor`, `c10::Half`, …
`{op:word}`          anything without blanks; `{what:any}` a few words; `{text:lines}` up to 4000 characters;
                     `{:any}` the same without a name
`{Tensors|Variables}`  one of these, as it stands
`{?, Variables}`     this or nothing
===================  ==================================================================================

A name that stands twice is kept once.  A blank matches any white space, so that a wrapped message is still found.
"""

from __future__ import annotations

import re
from functools import cache

from jvpcli.report import Shape

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
