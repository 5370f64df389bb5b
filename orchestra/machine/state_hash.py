"""The root hash of a running machine, at the cost of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from .merkle import Page, Tree, with_state
from .proof import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["StateHash", "contents"]

GATHER_PAGES: Final = 16  # copied from a machine at a time; see COLLECT_PAGES


class HashedCore(Protocol):
    """What is asked of `_core.Core`."""

    @property
    def state(self) -> bytes: ...
    def collect(self) -> Iterable[tuple[int, Page]]: ...
    def gather(self, pages: Iterable[int]) -> tuple[Sequence[int], bytearray]: ...
    def take_changed(self) -> Collection[int] | None: ...


class StateHash:
    """The root hash of one machine, kept up with what it wrote.

    The first look hashes all of the machine, later ones what changed.
    """

    def __init__(self, core: HashedCore) -> None:
        self._core = core
        self._tree: Tree | None = None  # until the first look
        self._changed: set[int] = set()  # pages that may differ from it

    def refresh(self) -> Tree:
        """Return the tree over the machine as it is now; after a BackingFault ask again."""
        core = self._core
        if self._tree is None:
            core.take_changed()  # from here on
            self._tree = Tree.empty().update(with_state(core.collect(), core.state))
        else:
            self._take_changed()
            pages = contents(core, sorted(self._changed))
            self._tree = self._tree.update(with_state(pages, core.state))
        self._changed.clear()
        return self._tree

    def fork(self, core: HashedCore) -> StateHash:
        """Return that of a copy, which is the same at this moment."""
        copy = StateHash(core)
        if self._tree is not None:
            self._take_changed()
            core.take_changed()  # from here on
            copy._tree, copy._changed = self._tree, self._changed.copy()
        return copy

    def _take_changed(self) -> None:
        self._changed.update(self._core.take_changed() or ())


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
