"""Reports to JSON documents: strict JSON always, whatever the numbers, and in little memory, however many there are.

Arrays go through orjson's numpy encoder (shortest digits that give the same float back).  NaN and infinities become
the strings of the contract, complex numbers pairs of real and imaginary part.

A document is laid out before it is written: its text, with gaps where too much would stand.  The layout is made whole,
so that whatever can go wrong goes wrong before the first byte; long arrays are then encoded a piece at a time.  A small
document has no gaps.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson

from jvpcli.errors import JvpError
from jvpcli.render import escaped_json

SCHEMA_VERSION = 1

PIECE = 1 << 15
"""Array entries, characters and parts of a report that are encoded at a time."""

SHORT = 64
"""Of an array or a string, up to which it always stays where it is."""

ROOM = 4 << 20
"""Bytes that encoding so much may need."""

GAP = b"\0"
"""What stands for something that is encoded later: a byte that no JSON document has."""

Layout = Sequence[bytes | str | np.ndarray]
"""A document in order: text as it is, and the strings and arrays that are still to be encoded."""


def to_json(report: Any) -> bytes:
    """The whole JSON document of a report, without a newline at the end."""
    return b"".join(pieces(layout(report)))


def error_to_json(error: JvpError) -> bytes:
    """The whole JSON document of a failure, without a newline at the end."""
    return b"".join(pieces(_layout(error_document(error), {})))


def error_document(error: JvpError) -> dict[str, Any]:
    """The document of a failure as plain Python data."""
    return {"schema": SCHEMA_VERSION, "ok": False, "error": dict(error.to_dict())}


def to_dict(report: Any) -> dict[str, Any]:
    """The JSON document of a report as plain Python data: dicts, lists, strings, numbers."""
    document: dict[str, Any] = orjson.loads(to_json(report))
    return document


def layout(report: Any) -> Layout:
    """The document of a report as far as it is no long array or string: those are only pointed to.

    Raises:
        MemoryError: there is no room for it, or none to encode a piece in.
    """
    return _layout(report, {"schema": SCHEMA_VERSION, "ok": True})


def pieces(laid_out: Layout) -> Iterator[bytes]:
    """The text of a document, in order; each piece is short, however long the document."""
    for part in laid_out:
        if isinstance(part, bytes):
            yield part
        elif isinstance(part, str):
            yield from _string_pieces(part)
        else:
            yield from _array_pieces(part)


def _layout(item: Any, head: Mapping[str, Any]) -> Layout:
    """The text of an item, with `head` before its fields, and with the layouts of what was taken out of it in its gaps."""
    text, taken = _text(item, head)
    if not taken:
        return (text,)
    first, *others = text.split(GAP)
    found: list[bytes | str | np.ndarray] = [first]
    for part, after in zip(taken, others, strict=True):
        if isinstance(part, (str, np.ndarray)):
            found.append(part)
        else:
            found += _layout(part, {})
        found.append(after)
    _make_room()
    return found


def _text(item: Any, head: Mapping[str, Any], is_readable: bool = False) -> tuple[bytes, list[Any]]:
    """The text of a mapping or a report type, and what its gaps stand for, in order.

    orjson writes a NaN as null.  Where its text has no null there is no NaN either, and nothing to be looked at again.
    """
    _make_room()
    try:
        cut = _Cut()
        text = orjson.dumps({**head, **cut.shortened(item)}, cut.default, _OPTIONS)
        if b"null" in text:
            cut = _Cut(words=True)
            text = orjson.dumps({**head, **cut.shortened(item)}, cut.default, _OPTIONS)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, MemoryError):  # raised in `default`
            raise MemoryError from None
        if is_readable:
            raise
        return _text(_readable(item), head, is_readable=True)
    return escaped_json(text), cut.taken


def _readable(item: Any) -> Any:
    """A report with half characters in its texts, which no document may have, written out: `\\ud800`."""
    if isinstance(item, str):
        return item.encode(errors="backslashreplace").decode()
    rules = _rules(type(item))  # type: ignore[arg-type]
    if rules is not None:
        item = {name: value for name, value in vars(item).items() if value is not None or name not in rules[0]}
    if isinstance(item, Mapping):
        return {_readable(name): _readable(value) for name, value in item.items()}
    return [*map(_readable, item)] if isinstance(item, (list, tuple)) else item


Place = tuple[str | int, ...]
"""Where a number stands in a report: fields, names, positions, and last which entry of an array it is."""

_NUMBER = "\x01"
"""What stands for a number: a string that no report has."""


def around_numbers(report: Any) -> tuple[Sequence[bytes], Sequence[Place]]:
    """The document of a short report in pieces, and in order the place of the number that stands between each two of them.

    Numbers are the entries of arrays, and floats.
    """
    places: list[Place] = []
    marked = {"schema": SCHEMA_VERSION, "ok": True, **_marked(report, (), places)}
    return escaped_json(orjson.dumps(marked)).split(b'"\\u0001"'), places


def _marked(item: Any, place: Place, places: list[Place]) -> Any:
    """A report as plain data, with a mark for each of its numbers, whose places are noted."""
    if isinstance(item, np.ndarray):
        places += [(*place, entry) for entry in range(item.size)]
        return np.full(item.shape, _NUMBER).tolist()
    if isinstance(item, float):
        places.append(place)
        return _NUMBER
    rules = _rules(type(item))  # type: ignore[arg-type]
    if rules is not None:
        item = {name: value for name, value in vars(item).items() if value is not None or name not in rules[0]}
    if isinstance(item, Mapping):
        return {name: _marked(value, (*place, name), places) for name, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_marked(part, (*place, number), places) for number, part in enumerate(item)]
    return item


_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


class _Later:
    """Something that becomes a gap once orjson comes to it."""

    __slots__ = ("item",)

    def __init__(self, item: str | np.ndarray) -> None:
        self.item = item


class _Cut:
    """Tells orjson one level of whatever it cannot write itself, until that is enough; the rest is taken out.

    With `words`, bare numbers that are not finite become the contract's strings.
    """

    def __init__(self, words: bool = False) -> None:
        self.taken: list[Any] = []
        self._words = words
        self._left = PIECE

    def default(self, item: Any) -> Any:
        """A report type as its fields, an array of an unusual kind as its text; a gap for what would be too much."""
        if _rules(type(item)) is not None:  # type: ignore[arg-type]
            return self.shortened(item) if self._left >= 0 else self._take(item)
        if type(item) is _Later:
            return self._take(item.item)
        return self.shortened(item) if isinstance(item, Mapping) else _short(np.asarray(item))

    def shortened(self, item: Any) -> dict[str, Any]:
        """A mapping or a report type as its fields, those as they are that are short enough together."""
        rules = _rules(type(item))  # type: ignore[arg-type]
        if rules is None:
            found = dict(item)
            weight = _weight(found)
        else:
            optional, heavy = rules
            found, weight = {}, 8
            for name, value in vars(item).items():  # which has the fields in their order, and nothing else
                if value is None:
                    if name not in optional:
                        found[name] = None
                    continue
                found[name] = value
                if name in heavy:
                    weight += len(value) if type(value) is str else _weight(value)
        if self._words or weight > self._left:
            return {name: self._inside(value) for name, value in found.items()}
        self._left -= weight
        return found

    def _inside(self, value: Any) -> Any:
        """A value with what is too long taken out, at every level of plain lists and mappings."""
        kind = type(value)
        if kind is str or kind is np.ndarray:
            if not self._fits(_weight(value)):
                return _Later(value)
            return _short(value) if kind is np.ndarray else value
        if kind is tuple or kind is list:
            return [self._inside(part) for part in value]
        if kind is dict:
            return {name: self._inside(part) for name, part in value.items()}
        return _words(np.asarray(value)) if kind is float and not math.isfinite(value) else value

    def _fits(self, size: int) -> bool:
        """Whether so much more may stand here."""
        self._left -= size
        return self._left >= 0 or size <= SHORT

    def _take(self, item: Any) -> orjson.Fragment:
        """A gap; orjson asks for things in the order of the document, which the gaps are filled in."""
        if isinstance(item, str):
            item.encode()  # half a character is found here, not in the middle of the document
        self.taken.append(item)
        return orjson.Fragment(GAP)


@cache
def _rules(kind: Hashable) -> tuple[frozenset[str], frozenset[str]] | None:
    """Of a report type: the fields that are left out where they are None, and those that may be long; None of another type."""
    if not is_dataclass(kind):
        return None
    every = fields(kind)
    optional = frozenset([f.name for f in every if f.default is None])
    return optional, frozenset([f.name for f in every if not _LIGHT.fullmatch(str(f.type))])


_LIGHT = re.compile(r"(?:int|bool|float|Shape|None|tuple|[][, .|])+")
"""Types whose values are always short: numbers and shapes."""


def _make_room() -> None:
    """Sees that there is memory for a piece: where orjson gets none, it ends the process.

    Raises:
        MemoryError: there is not.
    """
    if hasattr(mmap, "MAP_ANONYMOUS"):
        try:
            mmap.mmap(-1, ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        except OSError:
            raise MemoryError from None


def _weight(value: Any) -> int:
    """Entries, characters and items of a value, without the report types in it."""
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is np.ndarray:
        return value.size or _lists(value.shape)
    if kind is not dict and kind is not tuple and kind is not list:
        return 1
    weight = len(value)
    for part in value.values() if kind is dict else value:
        kind = type(part)
        if kind is str or kind is tuple or kind is dict or kind is np.ndarray or kind is list:
            weight += _weight(part)
    return weight


def _lists(shape: tuple[int, ...]) -> int:
    """How many innermost lists an array without entries has."""
    return math.prod(shape[: shape.index(0)])


def _short(array: np.ndarray) -> Any:
    """A short array as what orjson writes as it stands."""
    return _words(array) if array.ndim == 0 else orjson.Fragment(_block(array, _has_words(array)))


def _has_words(array: np.ndarray) -> bool:
    """Whether there is a NaN or an infinity in it."""
    return array.dtype.kind in "fc" and not np.isfinite(array).all()


def _array_pieces(array: np.ndarray) -> Iterator[bytes]:
    """The text of a long array, some entries at a time."""
    return _parts(array, _has_words(array))


def _parts(array: np.ndarray, words: bool) -> Iterator[bytes]:
    row = array[:1].size or _lists(array.shape[1:]) if len(array) else 1
    step = max(1, PIECE // row)
    yield b"["
    for start in range(0, len(array), step):
        if start:
            yield b","
        if row > PIECE:
            yield from _parts(array[start], words)
        else:
            _make_room()
            yield _block(array[start : start + step], words)[1:-1]
    yield b"]"


def _block(array: np.ndarray, words: bool) -> bytes:
    """The text of an array; with `words`, of one that is a part of an array in which there are NaN or infinities."""
    array = _real(array)
    if words:
        return orjson.dumps(_words(array))
    if not array.size:
        return orjson.dumps(array.tolist())
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _real(array: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs along a last axis."""
    return np.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array


def _words(array: np.ndarray) -> Any:
    """An array as nested lists (or one number), with the contract's strings in the places of NaN and infinities."""
    array = _real(array)
    finite = np.isfinite(array)
    numbers = np.where(finite, array, 0).astype(array.dtype).ravel()
    flat = orjson.loads(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY))
    for index in np.flatnonzero(~finite):
        number = array.flat[index]
        flat[index] = "NaN" if np.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return _nest(flat, array.shape)


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for length in reversed(shape[1:]):
        flat = [flat[start : start + length] for start in range(0, len(flat), length)]
    return flat


def _string_pieces(text: str) -> Iterator[bytes]:
    """The text of a long string, some characters at a time."""
    yield b'"'
    for start in range(0, len(text), PIECE):
        _make_room()
        yield escaped_json(orjson.dumps(text[start : start + PIECE])[1:-1])
    yield b'"'
