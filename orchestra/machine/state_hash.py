"""The root hash of a running machine, at the cost of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from .merkle import Page, Tree, with_state
from .proof import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["StateHash", "contents"]

GATHER_PAGES: Final = 256  # copied from a machine at a time


class HashedCore(Protocol):
    """What is asked of `_core.Core`."""

    @property
    def state(self) -> bytes: ...
    def collect(self) -> Iterable[tuple[int, Page]]: ...
    def unstored(self) -> Sequence[int]: ...
    def gather(self, pages: Iterable[int]) -> tuple[Sequence[int], bytearray]: ...


class StateHash:
    """The root hash of one machine, kept up with what it wrote.

    `tree` is of the machine as it was hashed last; empty, as no machine's is, it stands for one
    that is not known yet. `stale` are pages that may differ from it although `core.unstored` does
    not tell, for they were stored or rolled back meanwhile.
    """

    def __init__(self, tree: Tree | None = None, stale: Iterable[int] = ()) -> None:
        self.tree = tree or Tree.empty()
        self.stale = set(stale)

    def fork(self) -> StateHash:
        """Return that of a machine that is now the same."""
        return StateHash(self.tree, self.stale)

    def note(self, pages: Iterable[int]) -> None:
        """Tell which pages `core.unstored` will not list any more; to be called before a store."""
        if self.tree != Tree.empty():
            self.stale.update(pages)

    def refresh(self, core: HashedCore, changed: Collection[int] | None = None) -> bytes:
        """Return the root; `changed` are all pages that may differ from those hashed last.

        Without `changed` these are the stale ones and those that are not stored. The first time
        all of the machine is hashed, then O(changed). Memory that is written in place, in a shared
        file, is in no list: for such a machine use root_of. After a BackingFault it is as before.
        """
        later: Iterable[int] = ()
        if changed is None:
            later = core.unstored()
            changed = self.stale.union(later)
        known = self.tree != Tree.empty()
        pages = contents(core, sorted(changed)) if known else core.collect()
        self.tree = self.tree.update(with_state(pages, core.state))
        self.stale = set(later)
        return self.tree.root


def contents(core: HashedCore, numbers: Sequence[int]) -> Iterator[tuple[int, Page | None]]:
    """Yield these pages of a machine as (number, bytes), None for one of zeros."""
    for first in range(0, len(numbers), GATHER_PAGES):
        batch = numbers[first : first + GATHER_PAGES]
        index, data = core.gather(batch)
        view, start = memoryview(data), 0
        for number, entry in zip(batch, index, strict=True):
            zero = entry != number
            yield number, None if zero else view[start : start + PAGE_BYTES]
            start += 0 if zero else PAGE_BYTES
