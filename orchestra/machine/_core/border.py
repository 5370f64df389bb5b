"""What crosses to C and back: pointers that must be there, 64-bit numbers, what a number means."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DEAD_SLOT",
    "FOREVER",
    "PAGE_BYTES",
    "STATE_BYTES",
    "ZERO_PAGE",
    "need",
    "new_room",
    "words",
]

PAGE_BYTES = 4096
STATE_BYTES = ffi.sizeof("state")
FOREVER = (1 << 64) - 1
ZERO_PAGE = 1 << 63  # in an index of pages: all zeros, and nothing stored
DEAD_SLOT = FOREVER  # in an index of pages: nothing of interest

new_room = ffi.new_allocator(should_clear_after_alloc=False)


def need(pointer: Any) -> Any:
    """Give what C has allocated, or MemoryError."""
    if pointer == ffi.NULL or pointer is False:
        raise MemoryError("the host is out of memory")
    return pointer


def words(numbers: Sequence[int]) -> Any:
    """Give 64-bit numbers to C: where they are, if they are an array."""
    return ffi.from_buffer("uint64_t[]", numbers) if isinstance(numbers, array) else numbers
