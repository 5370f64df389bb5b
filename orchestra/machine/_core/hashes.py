"""The hashes of pages as a tree that is a value, as the core has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi, lib

from .border import need, words
from .pool import POOL

if TYPE_CHECKING:
    from array import array

__all__ = ["HASHING", "HASH_BYTES", "Hashes"]

HASH_BYTES = 32
HASHING = need(lib.merkle_new(POOL, False))  # by the host's instructions


class Hashes:
    """The hashes of 2**52 pages and of all above them; immutable, and what is the same is shared.

    n pages that are not zeros take 128 n bytes.
    """

    __slots__ = ("_kind", "_top")

    def __init__(self, top: Any = ffi.NULL, kind: Any = HASHING) -> None:
        self._top, self._kind = top, kind

    @classmethod
    def by_hand(cls) -> Hashes:
        """Return an empty tree that is hashed as on hosts without instructions for it; a test's."""
        return cls(kind=need(lib.merkle_new(POOL, True)))

    def put(self, numbers: array[int], hashes: bytes | bytearray) -> Hashes:
        """Return the tree in which these pages, in ascending order, have these hashes."""
        made = ffi.new("merkle_node **")
        room = ffi.from_buffer("uint8_t[]", hashes)
        need(lib.merkle_put(self._kind, self._top, words(numbers), room, len(numbers), made))
        return Hashes(made[0], self._kind)

    def find(self, height: int, number: int) -> bytes:
        """Return the hash of the `number`-th 2**height pages."""
        found = ffi.new("uint8_t[]", HASH_BYTES)
        lib.merkle_find(self._kind, self._top, height, number, found)
        return bytes(found)

    def __del__(self) -> None:
        lib.merkle_release(self._kind, self._top)
