"""Repairs of a failing sub-expression: edits derived from its operands and their shapes, the likeliest first.

Nothing here knows whether a repair works; whoever asks tries each one.  A family yields whole sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from jvpcli.explain.guilty import Guilty
from jvpcli.explain.repairs.broadcasting import assigning, broadcasting, copying, expanding, repeating
from jvpcli.explain.repairs.dtypes import casting
from jvpcli.explain.repairs.edits import Edits, Family, Repair, anything
from jvpcli.explain.repairs.einsum import lettering
from jvpcli.explain.repairs.indexing import gathering, indexing, limiting
from jvpcli.explain.repairs.joining import joining
from jvpcli.explain.repairs.layers import convolving, normalising, pooling
from jvpcli.explain.repairs.products import products, ranks, squaring
from jvpcli.explain.repairs.rearranging import axes, permuting, reshaping, splitting, turning
from jvpcli.explain.table.entry import Found


def repairs(entry: str | None, guilty: Guilty, found: Found, general: bool = True) -> Iterator[Repair]:
    """Sources with an edit each: those that the message's kind suggests, those that any operation may need, then cuts.

    Without an entry only the latter: of the message nothing is known but that it is about shapes.  `general` says
    whether it is: other failures have no general repairs.
    """
    family = assigning if guilty.op == "op:setitem" else FAMILIES.get(entry or "", _none)
    seen = {_bare(guilty.source)}
    cuts: list[Repair] = []
    for edited in chain(family(guilty, found), anything(guilty, found) if general else ()):
        repair = Repair(edited) if isinstance(edited, str) else edited
        if repair is None or _bare(repair.source) in seen:
            continue
        seen.add(_bare(repair.source))
        if repair.drops:
            cuts.append(repair)
        else:
            yield repair
    yield from cuts


def _bare(source: str) -> str:
    """Two sources that differ in white space alone are one."""
    return "".join(source.split())


def _none(guilty: Guilty, found: Found) -> Edits:
    return iter(())


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("matrix-product", "matrix-vector", "batch-product", "contraction-sizes"), products),
    **dict.fromkeys(("dot-length", "vectors-needed", "dot-dimensions", "matrix-needed", "matmul-number"), ranks),
    **dict.fromkeys(
        ("broadcast-sizes", "broadcast-refused", "broadcast-argument", "loss-shapes", "in-place-broadcast"), broadcasting
    ),
    **dict.fromkeys(("expand-size", "expand-axes"), expanding),
    "index-assignment": assigning,
    **dict.fromkeys(("cat-sizes", "cat-axes", "cat-number", "stack-sizes"), joining),
    **dict.fromkeys(
        ("reshape-count", "view-stride", "one-inferred", "unflatten-count", "negative-size", "ambiguous-minus-one"), reshaping
    ),
    "axis-range": axes,
    **dict.fromkeys(("permute-axes", "repeated-axis"), permuting),
    **dict.fromkeys(
        ("index-range", "too-many-indices", "number-indexed", "mask-shape", "lookup-range", "index-tensors"), indexing
    ),
    **dict.fromkeys(("gather-sizes", "index-vector"), gathering),
    **dict.fromkeys(("conv-channels", "conv-depth", "conv-weight", "conv-bias", "kernel-size"), convolving),
    "pool-size": pooling,
    **dict.fromkeys(("einsum-sizes", "einsum-letters", "einsum-operands", "einsum-output", "einsum-diagonal"), lettering),
    **dict.fromkeys(
        ("same-dtype", "found-dtype", "mean-of-integers", "result-type", "not-for-dtype", "index-dtype", "condition-dtype"),
        casting,
    ),
    **dict.fromkeys(("square-needed", "solve-shapes"), squaring),
    **dict.fromkeys(("split-sizes", "narrow-range"), splitting),
    "t-of-more-axes": turning,
    **dict.fromkeys(("leaf-in-place", "view-in-place"), copying),
    **dict.fromkeys(("layer-norm", "cross-length"), normalising),
    "top-k": limiting,
    "repeat-axes": repeating,
}  # fmt: skip
"""The id of a known message to the family of repairs that it suggests."""


def first_that_work(
    candidates: Iterator[Repair], works: Callable[[str], bool], most: int, tries: int
) -> list[Repair]:
    """The first `most` repairs whose sources work, of at most `tries`; a cut only if nothing else does."""
    found: list[Repair] = []
    for number, repair in enumerate(candidates):
        if number >= tries or len(found) >= most or (found and repair.drops):
            break
        if works(repair.source):
            found.append(repair)
    return found
