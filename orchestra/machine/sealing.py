"""A top that has grown into its file becomes a delta there, without its pages being copied."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestra.io.entry import identity_of
from orchestra.io.sparse import punch_hole

from ._core import DEAD_SLOT, PAGE_BYTES, ZERO_PAGE
from .delta import delta_head, survey_file
from .lineage import Part, absorb, next_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ._core import Core
    from .top import Top

__all__ = ["Seal", "drop_absorbed", "seal_top"]


class Seal(NamedTuple):
    """A sealed top: its delta, the deltas below it, the next top, how many pages it holds."""

    part: Part
    kept: list[Part]
    after: Top
    pages: int


def seal_top(core: Core, top: Top, parts: Sequence[Part], *, durable: bool) -> Seal:
    """Make a delta of a top, in its folder; the core still has to be given the next one.

    When it fails (OSError, BackingFault), all is as before.
    """
    arena = top.arena
    fresh = [page for page in core.slots() if page != DEAD_SLOT]
    wanted, kept = absorb(parts, fresh, copying=True)
    core.adopt(sorted(wanted.difference(fresh)))
    core.checkpoint()  # from here on no page moves
    entries = core.slots()
    slots = len(entries)
    arena.fill_file()
    checksums, zeros = survey_file(arena.fileno(), slots)
    for slot in zeros:  # their space is given back
        if entries[slot] != DEAD_SLOT:
            entries.append(entries[slot] | ZERO_PAGE)
            entries[slot] = DEAD_SLOT
    for first, count in _runs(zeros):
        punch_hole(arena.fileno(), PAGE_BYTES * (1 + first), PAGE_BYTES * count)
    header, tail = delta_head(entries, slots, core.state, checksums)
    name = next_name(parts)
    after = top.become(name, slots * PAGE_BYTES, header, tail, durable=durable)
    identity = identity_of(arena.fileno())
    part = Part(str(Path(after.path).parent), name, identity, array("Q", entries), arena)
    return Seal(part, kept, after, len(wanted))


def drop_absorbed(core: Core, sealed: Sequence[Part], names: Collection[str]) -> list[Part]:
    """Let go of what was sealed, and is in a later seal; a layer that a fork still has stays."""
    kept = []
    for part in sealed:
        if part.name in names or (part.arena is not None and core.uses(part.arena.context)):
            kept.append(part)
            continue
        Path(part.folder, part.name).unlink(missing_ok=True)
    return kept


def _runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """Join ascending numbers into runs: (first, count)."""
    first = count = 0
    for slot in slots:
        if count and slot == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = slot, 1
    if count:
        yield first, count
