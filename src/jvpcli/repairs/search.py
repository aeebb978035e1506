"""Repairs of a failing sub-expression: edits derived from its operands and their shapes, the likeliest first.

Nothing here knows whether a repair works; whoever asks tries each one.  A family yields whole sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain

from jvpcli.messages.cards import Found
from jvpcli.repairs.edits import Cut, Family, anything
from jvpcli.repairs.guilty import Guilty


def repairs(family: str, guilty: Guilty, found: Found, general: bool = True) -> Iterator[str]:
    """Sources with an edit each: those of the family, those that any operation may need, then cuts.

    `family` is what the message's card says (`FILE.NAME`), or nothing: of the message nothing is known but that it is about
    shapes.  `general` says whether it is: other failures have no general repairs.
    """
    own = family_of("elementwise.assigning" if guilty.op == "op:setitem" else family)
    seen = {_bare(guilty.source)}
    cuts: list[Cut] = []
    for source in chain(own(guilty, found), anything(guilty, found) if general else ()):
        if source is None or _bare(source) in seen:
            continue
        seen.add(_bare(source))
        if isinstance(source, Cut):
            cuts.append(source)
        else:
            yield source
    yield from cuts


def family_of(name: str) -> Family:
    """The family of repairs that a card names; one without repairs for no name."""
    if not name:
        return lambda guilty, found: iter(())
    module, _, function = name.partition(".")
    family: Family = getattr(import_module(f"jvpcli.repairs.{module}"), function)
    return family


def _bare(source: str) -> str:
    """Two sources that differ in white space alone are one."""
    return "".join(source.split())


def first_that_work(sources: Iterator[str], works: Callable[[str], bool], most: int, tries: int) -> list[str]:
    """The first `most` sources that work, of at most `tries`; a cut only if nothing else does."""
    found: list[str] = []
    for number, source in enumerate(sources):
        if number >= tries or len(found) >= most or (found and isinstance(source, Cut)):
            break
        if works(source):
            found.append(source)
    return found
