"""What the layers of a folder add up to: its newest pages, each compared with its checksum."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from orchestra.errors import BadImage

from ._core import DEAD_SLOT, PAGE_BYTES, ZERO_PAGE, Core
from .delta import checksum_page, delta_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .view import View

__all__ = ["Merged", "Page", "delta_parts"]

BATCH_PAGES = 256  # copied at a time


class Page(NamedTuple):
    """A page of memory: its number, its bytes (None: zeros) and the checksum of these."""

    number: int
    data: memoryview | None
    checksum: int


class Merged:
    """The layers of a view, seen as one."""

    def __init__(self, view: View) -> None:
        self._core = Core(view.layer)
        self._expected: dict[int, tuple[int | None, Path]] = {}
        for delta in view.deltas:
            checksums, slot = delta.read_checksums(), 0
            for entry in delta.index:
                if entry == DEAD_SLOT or not entry & ZERO_PAGE:
                    stored = checksums[slot] if checksums else None
                    slot += 1
                else:
                    stored = None
                if entry != DEAD_SLOT:
                    self._expected[entry & ~ZERO_PAGE] = stored, delta.path

    @property
    def state(self) -> bytes:
        """The state of the newest layer."""
        return self._core.state

    @property
    def numbers(self) -> list[int]:
        """The pages that any layer has, in order."""
        return sorted(self._expected)

    def pages(self, numbers: Sequence[int]) -> Iterator[Page]:
        """Yield these pages; BadImage for one that is not what was stored, BackingFault."""
        for first in range(0, len(numbers), BATCH_PAGES):
            batch = numbers[first : first + BATCH_PAGES]
            index, data = self._core.gather(batch)
            view, start = memoryview(data), 0
            for number, entry in zip(batch, index, strict=True):
                zero = entry != number
                page = None if zero else view[start : start + PAGE_BYTES]
                start += 0 if zero else PAGE_BYTES
                yield Page(number, page, self._checked(number, page))

    def _checked(self, number: int, page: memoryview | None) -> int:
        found = checksum_page(bytes(PAGE_BYTES) if page is None else page)
        expected, path = self._expected[number]
        if expected not in (None, found):
            raise BadImage(path, f"page {number:#x}", f"{found:08x}", f"checksum {expected:08x}")
        return found

    def close(self) -> None:
        """Be done."""
        self._core.close()


def delta_parts(pages: Iterable[Page], state: bytes) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield (offset, bytes) of a delta's file with these pages, its header last."""
    entries: list[int] = []
    checksums: list[int] = []
    for page in pages:
        if page.data is None:
            entries.append(page.number | ZERO_PAGE)
            continue
        entries.append(page.number)
        checksums.append(page.checksum)
        yield PAGE_BYTES * len(checksums), page.data
    sums = struct.pack(f"<{len(checksums)}I", *checksums)
    header, tail = delta_head(entries, len(checksums), state, sums)
    yield PAGE_BYTES * (1 + len(checksums)), tail
    yield 0, header
