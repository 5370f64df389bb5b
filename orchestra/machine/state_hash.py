"""The root hash of a running machine, at the cost of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .merkle import STATE_PAGE, Tree

if TYPE_CHECKING:
    from array import array
    from collections.abc import Collection, Iterable

__all__ = ["StateHash"]


class HashedCore(Protocol):
    """What is asked of `_core.Core`."""

    def hash_all(self) -> Iterable[tuple[array[int], bytearray]]: ...
    def hash_pages(self, pages: Iterable[int]) -> tuple[array[int], bytearray]: ...
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
            self._tree = Tree.of(core.hash_all())
        else:
            self._take_changed()
            numbers, hashes = core.hash_pages(sorted(self._changed | {STATE_PAGE}))
            self._tree = self._tree.put(numbers, hashes)
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
