"""The root hash of a machine, kept up page by page: a sparse Merkle tree as a value.

What is hashed is told in proof.py. A tree never changes: `update` makes another that shares with
it all that is the same, so forks, checkpoints and snapshots may keep theirs.

A node stands for 2**height pages, height a multiple of 4, and has the 31 hashes of its own binary
tree, down to those of its sixteenths. A part of which only a smaller subtree is not zeros has the
node of that subtree in its place: a page alone costs one small node, however far its neighbours.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from .proof import (
    HEIGHT,
    PAGE_BYTES,
    PAGE_LOG2_SIZE,
    STATE_ADDRESS,
    ZEROS,
    Proof,
    check_range,
    climb,
    hash_page,
    raw_hash,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Page", "Tree", "root_of", "with_state"]

Page = bytes | bytearray | memoryview

FAN_LOG2: Final = 4
FAN: Final = 1 << FAN_LOG2
STATE_PAGE: Final = STATE_ADDRESS >> PAGE_LOG2_SIZE


class _Node(NamedTuple):
    """The 2**height pages from page number << height on, not all zeros.

    `hashes` is a heap: [1] is its own hash, the children of [i] are [2 i] and [2 i + 1], and the
    last FAN are those of its parts. At height 4 these are pages, and at height 0 it is one page:
    both have no `parts`.
    """

    height: int
    number: int
    hashes: tuple[bytes, ...]
    parts: tuple[_Node | None, ...]

    def hash_at(self, height: int) -> bytes:
        """Its hash as that of the larger subtree of `height`, in which the rest is zeros."""
        return climb(self.hashes[1], self.number, ZEROS[self.height : height])


_EMPTY: Final = {
    height: [ZEROS[height]]
    + [ZEROS[height + 1 - index.bit_length()] for index in range(1, 2 * FAN)]
    for height in range(FAN_LOG2, HEIGHT + 1, FAN_LOG2)
}


class Tree:
    """The hashes of an address space; immutable, and equal when the roots are.

    A tree of n scattered pages takes about 0.5 KiB a page, of pages side by side 0.2 KiB.
    """

    __slots__ = ("_top", "root")

    def __init__(self, top: _Node | None) -> None:
        self._top = top
        self.root: Final = ZEROS[HEIGHT] if top is None else top.hash_at(HEIGHT)

    @classmethod
    def empty(cls) -> Tree:
        """Return the tree of an address space of zeros."""
        return cls(None)

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
        return Tree(_put(self._top, numbers, leaves, 0, len(numbers)))

    def hash_of(self, address: int, log2_size: int) -> bytes:
        """Return the hash of 2**log2_size bytes, a page or more."""
        check_range(address, log2_size)
        if log2_size < PAGE_LOG2_SIZE:
            raise ValueError(f"the tree has no hashes of less than {PAGE_BYTES} bytes")
        return _hash_of(self._top, log2_size - PAGE_LOG2_SIZE, address >> log2_size)

    def proof(self, address: int, log2_size: int, page: bytes | None = None) -> Proof:
        """Prove what 2**log2_size bytes at a multiple of that are; 2**3 bytes or more.

        For less than a page, `page` is its content, which the tree does not have; ValueError when
        that is not what was hashed.
        """
        check_range(address, log2_size)
        height = max(log2_size - PAGE_LOG2_SIZE, 0)
        number = address >> (height + PAGE_LOG2_SIZE)
        target = _hash_of(self._top, height, number)
        if log2_size >= PAGE_LOG2_SIZE:
            page = None
        elif page is None or hash_page(page) != target:
            raise ValueError(f"the page of address {address:#x} is needed, as it was hashed")
        siblings = tuple(
            _hash_of(self._top, level, (number >> (level - height)) ^ 1)
            for level in range(height, HEIGHT)
        )
        return Proof(address, log2_size, target, siblings, page)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"<Tree {self.root.hex()}>"


def _put(
    node: _Node | None, numbers: list[int], leaves: Mapping[int, bytes], begin: int, end: int
) -> _Node | None:
    """Put the pages numbers[begin:end], ascending and at least one, into a node."""
    first, last = numbers[begin], numbers[end - 1]
    if node is not None:
        start = node.number << node.height
        first, last = min(first, start), max(last, start + (1 << node.height) - 1)
    height = -(-(first ^ last).bit_length() // FAN_LOG2) * FAN_LOG2
    number = first >> height
    if height == 0:
        return _page_node(number, leaves[number])
    hashes, parts, changed = _opened(node, height)
    if parts:
        gone = _put_parts(hashes, parts, changed, height, numbers, leaves, begin, end)
    else:
        gone = _put_pages(hashes, changed, numbers, leaves, begin, end)
    if gone:
        empty = ZEROS[height - FAN_LOG2]
        left = [slot for slot in range(FAN) if hashes[FAN + slot] != empty]
        if not left:
            return None
        if len(left) == 1:
            slot = left[0]
            return parts[slot] if parts else _page_node(number * FAN + slot, hashes[FAN + slot])
    _rehash(hashes, changed)
    return _Node(height, number, tuple(hashes), tuple(parts))


def _page_node(number: int, leaf: bytes) -> _Node | None:
    return None if leaf == ZEROS[0] else _Node(0, number, (b"", leaf), ())


def _opened(node: _Node | None, height: int) -> tuple[list[bytes], list[_Node | None], list[int]]:
    """Give hashes and parts of the node of `height` around `node`, and which hash is new there."""
    if node is not None and node.height == height:
        return list(node.hashes), list(node.parts), []
    hashes = _EMPTY[height].copy()
    parts: list[_Node | None] = [None] * FAN if height > FAN_LOG2 else []
    if node is None:
        return hashes, parts, []
    below = height - FAN_LOG2
    slot = (node.number >> (below - node.height)) % FAN
    hashes[FAN + slot] = node.hash_at(below)
    if parts:
        parts[slot] = node
    return hashes, parts, [FAN + slot]


def _put_pages(
    hashes: list[bytes],
    changed: list[int],
    numbers: list[int],
    leaves: Mapping[int, bytes],
    begin: int,
    end: int,
) -> bool:
    """Fill a node of height 4; whether a page of zeros was among them."""
    gone = False
    for number in numbers[begin:end]:
        slot = FAN + number % FAN
        leaf = hashes[slot] = leaves[number]
        changed.append(slot)
        gone = gone or leaf == ZEROS[0]
    return gone


def _put_parts(
    hashes: list[bytes],
    parts: list[_Node | None],
    changed: list[int],
    height: int,
    numbers: list[int],
    leaves: Mapping[int, bytes],
    begin: int,
    end: int,
) -> bool:
    """Fill a higher node; whether one of its parts is nothing but zeros now."""
    below = height - FAN_LOG2
    gone = False
    while begin < end:
        key = numbers[begin] >> below
        behind = bisect_left(numbers, (key + 1) << below, begin + 1, end)
        slot = key % FAN
        part = parts[slot] = _put(parts[slot], numbers, leaves, begin, behind)
        hashes[FAN + slot] = ZEROS[below] if part is None else part.hash_at(below)
        changed.append(FAN + slot)
        gone = gone or part is None
        begin = behind
    return gone


def _rehash(hashes: list[bytes], changed: Collection[int]) -> None:
    """Make the inner hashes of a node right again where those of its parts changed."""
    for _ in range(FAN_LOG2):
        changed = {slot >> 1 for slot in changed}
        for slot in changed:
            hashes[slot] = raw_hash(hashes[2 * slot] + hashes[2 * slot + 1]).digest()


def _hash_of(node: _Node | None, height: int, number: int) -> bytes:
    """Find the hash of the `number`-th subtree of a height, in the tree or above its top."""
    while node is not None:
        above = node.height - height
        if above <= 0:
            return node.hash_at(height) if node.number >> -above == number else ZEROS[height]
        if number >> above != node.number:
            break
        if above <= FAN_LOG2:
            return node.hashes[(1 << above) + number % (1 << above)]
        node = node.parts[(number >> (above - FAN_LOG2)) % FAN]
    return ZEROS[height]


def root_of(pages: Iterable[tuple[int, Page | None]], state: bytes) -> bytes:
    """Return the root hash of a machine with these pages, the rest zeros, and this state."""
    return Tree.empty().update(with_state(pages, state)).root


def with_state(
    pages: Iterable[tuple[int, Page | None]], state: bytes
) -> Iterator[tuple[int, Page | None]]:
    """Add the state's page to those of memory; ValueError when it is among these."""
    for number, page in pages:
        if number == STATE_PAGE:
            raise ValueError(f"page {number:#x} is the place of the state, not of memory")
        yield number, page
    yield STATE_PAGE, state
