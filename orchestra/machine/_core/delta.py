"""Deltas as C sees them: what is wrong with one, its first page, checksums."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi, lib

from .border import PAGE_BYTES, STATE_BYTES, new_room, words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DeltaLook",
    "DeltaLooks",
    "checksum",
    "delta_head",
    "first_outside",
    "page_checksums",
    "state_cycle",
]


def first_outside(entries: array[int], bounds: Sequence[int]) -> int | None:
    """Return the first entry of an index that is in no range of pages; see DeltaLook."""
    count, slots = len(entries), ffi.new("uint64_t *")
    bad = lib.index_check(words(entries), count, words(bounds), len(bounds) // 2, slots)
    return None if bad == count else entries[bad]


FLAWS = (  # as delta.h has them
    *("", "short", "magic", "version", "own sum", "units", "sums", "length", "known sum"),
    *("state", "index", "slots"),
)


class DeltaLooks:
    """What is wrong with some deltas, by their first pages, which io.map_layers gives to `check`.

    `bounds` are the first page and the end of each range of memory, in turn.
    """

    check: int = int(ffi.cast("uintptr_t", ffi.addressof(lib, "delta_open_one")))

    def __init__(self, count: int, bounds: Sequence[int]) -> None:
        self._looks = ffi.new("delta_look[]", count)
        self._bounds = ffi.from_buffer("uint64_t[]", array("Q", bounds))
        self._call = ffi.new("delta_looks *", (self._looks, self._bounds, len(bounds) // 2))
        self.context = int(ffi.cast("uintptr_t", self._call))

    def __getitem__(self, number: int) -> DeltaLook:
        """Tell of one of them."""
        return DeltaLook(self, self._looks + number)

    def check_known(self, look: Any, known: bytes) -> None:
        """Verify state and index of one in whose first page they do not stand."""
        lib.delta_check(look, known, self._bounds, self._call.ranges)


class DeltaLook:
    """What is wrong with one delta, and its state."""

    __slots__ = ("_all", "_look")

    def __init__(self, looks: DeltaLooks, look: Any) -> None:
        self._all, self._look = looks, look

    def check(self, known: bytes) -> None:
        """Verify state and index, which do not stand in the first page (`fits`)."""
        self._all.check_known(self._look, known)

    @property
    def flaw(self) -> str:
        """What is wrong; empty when nothing is."""
        return FLAWS[self._look.flaw]

    @property
    def found(self) -> int:
        """Say what was found instead of what the header says."""
        return int(self._look.found)

    @property
    def state_field(self) -> str:
        """Name the field of the state that is wrong, if that is what is."""
        field = self._look.field
        return "" if field == ffi.NULL else str(ffi.string(field).decode())

    @property
    def pointer(self) -> Any:
        """Where its state is."""
        return ffi.cast("uint8_t *", ffi.addressof(self._look, "state"))

    @property
    def cycle(self) -> int:
        """The cycle that its state stands at."""
        return int(self._look.header.cycle)

    @property
    def state(self) -> bytes:
        """Its state, whole."""
        return bytes(ffi.buffer(ffi.addressof(self._look, "state")))

    @property
    def fits(self) -> bool:
        """Whether page 0 has all but the pages."""
        return bool(self._look.fits)


def delta_head(
    pages: Sequence[int], slots: int, state: bytes, sums: bytes | None
) -> tuple[bytes, bytes]:
    """Make page 0 of a delta, and what stands behind the last slot when it does not fit there."""
    page = bytearray(PAGE_BYTES)
    rest = new_room("uint8_t[]", STATE_BYTES + 8 * len(pages) + 4 * slots)
    index = pages if isinstance(pages, array) else array("Q", pages)
    length = lib.delta_head(
        ffi.from_buffer("state *", state),
        *(words(index), len(index), slots),
        ffi.NULL if sums is None else ffi.from_buffer("uint32_t[]", sums),
        *(ffi.from_buffer("uint8_t[]", page), rest),
    )
    return bytes(page), ffi.buffer(rest, length)[:]


def checksum(data: bytes) -> int:
    """Make the CRC-32C of some bytes."""
    return int(lib.checksum(data, len(data)))


def page_checksums(data: bytes | bytearray | memoryview, *, by_hand: bool = False) -> bytes:
    """Make the CRC-32C of each page of some that are one after the other, 4 bytes a page.

    `by_hand` does it as on a processor that has no instruction for it. Source: RFC 3720.
    """
    count = len(data) // PAGE_BYTES
    sums = ffi.new("uint32_t[]", count)
    lib.page_checksums(ffi.from_buffer("uint8_t[]", data), count, sums, by_hand)
    return bytes(ffi.buffer(sums))


def state_cycle(state: bytes) -> int:
    """Return the cycle a stored state stands at."""
    return int(ffi.from_buffer("state *", state).cycle)
