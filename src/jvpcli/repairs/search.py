"""Repairs of a failing sub-expression: edits derived from its operands and their shapes, the likeliest first.

Nothing here knows whether a repair works; whoever asks tries each one.  A family yields whole sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain

from jvpcli.messages.cards import Found
from jvpcli.repairs.edits import Family, Repair, anything
from jvpcli.repairs.guilty import Guilty


def repairs(family: str, guilty: Guilty, found: Found, general: bool = True) -> Iterator[Repair]:
    """Sources with an edit each: those of the family, those that any operation may need, then cuts.

    `family` is what the message's card says (`FILE.NAME`), or nothing: of the message nothing is known but that it is about
    shapes.  `general` says whether it is: other failures have no general repairs.
    """
    own = family_of("elementwise.assigning" if guilty.op == "op:setitem" else family)
    seen = {_bare(guilty.source)}
    cuts: list[Repair] = []
    for edited in chain(own(guilty, found), anything(guilty, found) if general else ()):
        repair = Repair(edited) if isinstance(edited, str) else edited
        if repair is None or _bare(repair.source) in seen:
            continue
        seen.add(_bare(repair.source))
        if repair.drops:
            cuts.append(repair)
        else:
            yield repair
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


def first_that_work(candidates: Iterator[Repair], works: Callable[[str], bool], most: int, tries: int) -> list[Repair]:
    """The first `most` repairs whose sources work, of at most `tries`; a cut only if nothing else does."""
    found: list[Repair] = []
    for number, repair in enumerate(candidates):
        if number >= tries or len(found) >= most or (found and repair.drops):
            break
        if works(repair.source):
            found.append(repair)
    return found
