"""The root hash of a machine, kept up page by page: a sparse Merkle tree as a value.

What is hashed is told in proof.py; the tree itself is in core/merkle.c. It never changes: `update`
makes another that shares with it all that is the same, so forks, checkpoints and snapshots may
keep theirs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Final

from ._core import Hashes
from .proof import (
    HEIGHT,
    PAGE_BYTES,
    PAGE_LOG2_SIZE,
    STATE_ADDRESS,
    ZEROS,
    Proof,
    check_range,
    hash_page,
)

__all__ = ["STATE_PAGE", "Page", "Tree"]

Page = bytes | bytearray | memoryview

STATE_PAGE: Final = STATE_ADDRESS >> PAGE_LOG2_SIZE


class Tree:
    """The hashes of an address space; immutable, and equal when the roots are.

    A tree of n pages that are not zeros takes 128 n bytes.
    """

    __slots__ = ("_hashes", "root")

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self.root: Final = hashes.find(HEIGHT, 0)

    @classmethod
    def empty(cls) -> Tree:
        """Return the tree of an address space of zeros."""
        return cls(Hashes())

    @classmethod
    def of(cls, batches: Iterable[tuple[array[int], bytearray]]) -> Tree:
        """Return the tree of these pages: their numbers in ascending order, and their hashes."""
        hashes = Hashes()
        for numbers, batch in batches:
            hashes = hashes.put(numbers, batch)
        return cls(hashes)

    def update(self, pages: Mapping[int, Page | None] | Iterable[tuple[int, Page | None]]) -> Tree:
        """Return the tree in which these pages are these; page number -> 4096 bytes, None: zeros.

        Pairs are hashed as they come: their bytes may change when the next is asked for.
        """
        pairs = pages.items() if isinstance(pages, Mapping) else pages
        return self.update_hashes(
            {number: ZEROS[0] if page is None else hash_page(page) for number, page in pairs}
        )

    def update_hashes(self, leaves: Mapping[int, bytes]) -> Tree:
        """Return the tree in which the pages have these hashes (`hash_page`)."""
        if not leaves:
            return self
        numbers = sorted(leaves)
        if numbers[0] < 0 or numbers[-1] >> HEIGHT:
            raise ValueError(f"page numbers {numbers[0]:#x} to {numbers[-1]:#x} in 2**{HEIGHT}")
        return self.put(array("Q", numbers), b"".join(map(leaves.__getitem__, numbers)))

    def put(self, numbers: array[int], hashes: bytes | bytearray) -> Tree:
        """Do the same with numbers in ascending order, and 32 bytes for each."""
        return Tree(self._hashes.put(numbers, hashes))

    def hash_of(self, address: int, log2_size: int) -> bytes:
        """Return the hash of 2**log2_size bytes, a page or more."""
        check_range(address, log2_size)
        if log2_size < PAGE_LOG2_SIZE:
            raise ValueError(f"the tree has no hashes of less than {PAGE_BYTES} bytes")
        return self._hashes.find(log2_size - PAGE_LOG2_SIZE, address >> log2_size)

    def proof(self, address: int, log2_size: int, page: bytes | None = None) -> Proof:
        """Prove what 2**log2_size bytes at a multiple of that are; 2**3 bytes or more.

        For less than a page, `page` is its content, which the tree does not have; ValueError when
        that is not what was hashed.
        """
        check_range(address, log2_size)
        height = max(log2_size - PAGE_LOG2_SIZE, 0)
        number = address >> (height + PAGE_LOG2_SIZE)
        target = self._hashes.find(height, number)
        if log2_size >= PAGE_LOG2_SIZE:
            page = None
        elif page is None or hash_page(page) != target:
            raise ValueError(f"the page of address {address:#x} is needed, as it was hashed")
        siblings = tuple(
            self._hashes.find(level, (number >> (level - height)) ^ 1)
            for level in range(height, HEIGHT)
        )
        return Proof(address, log2_size, target, siblings, page)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"<Tree {self.root.hex()}>"
