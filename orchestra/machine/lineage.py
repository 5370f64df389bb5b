"""A machine's lineage: the files that its state is in, oldest first, and which a new one replaces.

A machine's state on disk is its images and its deltas. Storing adds one delta with the pages that
changed; the newest deltas that it costs little to write again are absorbed by it, as in a
log-structured merge tree, so that a lineage stays short however often a machine is stored.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from orchestra.errors import BadImage
from orchestra.io.entry import Identity, identity_of, link_all
from orchestra.io.reflink import Method, cannot_link, clone_file

from ._core import DEAD_SLOT, ZERO_PAGE

if TYPE_CHECKING:
    from array import array
    from collections.abc import Collection, Sequence

    from orchestra.io.arena import Arena

    from .view import View

__all__ = ["Methods", "Part", "absorb", "link_parts", "next_name", "parts_of"]

# A delta is absorbed when this many times the pages that are new are at least those written again:
# then each page is written again this many times before the delta it is in has grown by as much.
WRITTEN_AGAIN = 4
DEEPEST = 16  # deltas; then half of them are absorbed
LAST_NUMBER = 10**17 - 1  # compacting puts a digit before it; a record names 18 at most
DEAD_BYTES = DEAD_SLOT.to_bytes(8, "little")

Methods = dict[str, int]


class Part:
    """One delta of a lineage: in which folder, under which name, which file, and its pages."""

    __slots__ = ("_index", "_pages", "arena", "folder", "identity", "name")

    def __init__(
        self,
        folder: str,
        name: str,
        identity: Identity,
        index: array[int],
        arena: Arena | None = None,
    ) -> None:
        self.folder, self.name, self.identity = folder, name, identity
        self.arena = arena  # where its pages are mapped, if it was this machine's top
        self._index = index
        self._pages: frozenset[int] | None = None

    @property
    def pages(self) -> frozenset[int]:
        """The numbers of the pages it holds."""
        if self._pages is None:
            pages = frozenset(self._index)
            if max(pages, default=0) >= ZERO_PAGE:
                pages = frozenset(entry & ~ZERO_PAGE for entry in pages if entry != DEAD_SLOT)
            self._pages = pages
        return self._pages

    @property
    def least_pages(self) -> int:
        """How many pages it holds at least, which costs little to say."""
        return len(self._index) - self._index.tobytes().count(DEAD_BYTES)

    def moved(self, folder: str, identity: Identity) -> Part:
        """Return the same delta in another folder."""
        part = Part(folder, self.name, identity, self._index, self.arena)
        part._pages = self._pages
        return part


def parts_of(view: View) -> list[Part]:
    """Give the lineage of a folder that was opened."""
    assert view.folder is not None
    return [
        Part(view.folder, delta.name, delta.mapping.facts.identity, delta.index)
        for delta in view.deltas
    ]


def absorb(
    parts: Sequence[Part], fresh: Collection[int], *, copying: bool = False
) -> tuple[set[int], list[Part]]:
    """Choose what a new delta with these pages holds, and which deltas it leaves below it.

    Pages that are mapped from one of the machine's own tops stay there, unless it is `copying`
    all that it absorbs.
    """
    wanted, kept = set(fresh), list(parts)
    deep = len(kept) > DEEPEST
    while kept and (copying or kept[-1].arena is None):
        if not deep and kept[-1].least_pages > (WRITTEN_AGAIN + 1) * len(wanted):
            break  # whatever they have in common
        pages = kept[-1].pages
        common = len(wanted & pages)
        again, new = len(pages) - common, len(wanted) - common
        if again > WRITTEN_AGAIN * new and not (deep and len(kept) > DEEPEST // 2):
            break
        wanted |= pages
        kept.pop()
    return wanted, kept


def link_parts(
    parts: Sequence[Part], folder: int, path: str, methods: Methods, home: str | None
) -> tuple[list[Part], list[Part]]:
    """Link deltas into an open folder, at `path`; those that are there already stay.

    Returns them as they are there, and those whose files are gone or others; in the folder `home`,
    which is locked, nobody changes them.
    """
    away = [part for part in parts if part.folder != path]
    links = link_all(folder, [(f"{part.folder}/{part.name}", part.name) for part in away])
    found = dict(zip((part.name for part in away), links, strict=True))
    linked, lost = [], []
    for part in parts:
        if part.folder == path:
            linked.append(part)
            continue
        identity, number = found[part.name]
        method: Method = "link"
        there = identity
        if number == errno.ENOENT:
            lost.append(part)
            continue
        if number:
            source, target = f"{part.folder}/{part.name}", f"{path}/{part.name}"
            error = OSError(number, os.strerror(number), source)
            if not cannot_link(error):
                raise error
            method = clone_file(source, target, 0o444).method
            identity, there = identity_of(source), identity_of(target)
        if identity != part.identity and part.folder != home:  # another file has that name now
            os.unlink(f"{path}/{part.name}")
            lost.append(part)
            continue
        methods[method] = methods.get(method, 0) + 1
        linked.append(part.moved(path, there))
    return linked, lost


def next_name(parts: Sequence[Part]) -> str:
    """Name the delta that comes after these; BadImage where a record has used up the numbers."""
    number = int(parts[-1].name.removesuffix(".delta")) + 1 if parts else 0
    if number > LAST_NUMBER:
        path = f"{parts[-1].folder}/{parts[-1].name}"
        raise BadImage(path, "number", number - 1, f"less than {LAST_NUMBER}: no layer can follow")
    return f"{number}.delta"
