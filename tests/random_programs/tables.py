"""Sv39 tables: fixed windows for S and U, and a wild part with random entries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.assembler import RAM
from tests.random_programs import layout as at
from tests.random_programs.layout import A, D, G, R, U, V, W, X, pte

if TYPE_CHECKING:
    from random import Random


@dataclass
class PageTables:
    """Sv39 tables: fixed windows for S and U, and a wild part."""

    rng: Random
    pages: bytearray = field(default_factory=lambda: bytearray(8 * at.PAGE))

    def put(self, place: int, entry: int) -> None:
        """Write an entry at its physical address."""
        self.pages[place - at.TABLES : place - at.TABLES + 8] = entry.to_bytes(8, "little")

    def random_entry(self) -> tuple[int, int]:
        """Return flags and page for a wild leaf: never both writable and executable code."""
        rng = self.rng
        flags = rng.getrandbits(10) | (V if rng.random() < 0.9 else 0)
        if rng.random() < 0.5:
            flags |= R | A
        if flags & (R | W | X) == R | W | X:
            flags &= ~(W if rng.random() < 0.5 else X)
        area = (at.PADS, at.PAD_PAGES) if flags & X else (at.SCRATCH, at.SCRATCH_PAGES)
        page = area[0] + at.PAGE * rng.randrange(area[1])
        if rng.random() < 0.03:
            page = rng.choice((0x9000_0000, 0x1_0000_0000, 0, (1 << 56) - at.PAGE))
        if rng.random() < 0.03:
            flags |= 1 << rng.randrange(54, 64)
        return flags, page

    def build(self) -> bytes:
        """Fill them."""
        rng = self.rng
        for index, table in ((RAM >> 30, at.S_MIDDLE), (at.U_WINDOW >> 30, at.U_MIDDLE)):
            self.put(at.ROOT + 8 * index, pte(table, V))
        self.put(at.S_MIDDLE + 8 * (RAM >> 21 & 511), pte(at.S_LEAF, V))
        self.put(at.U_MIDDLE + 8 * (at.U_WINDOW >> 21 & 511), pte(at.U_LEAF, V))
        for start, count, flags in (
            (RAM, 1, R | X), (at.CONSTANTS, 1, R | W), (at.SAVE, 1, R | W), (at.TABLES, 8, R | W),
            (at.SCRATCH, at.SCRATCH_PAGES, R | W), (at.PADS, at.PAD_PAGES, R | X),
            (at.BODY, 240, X),
        ):  # fmt: skip
            for number in range(count):
                page = start + at.PAGE * number
                lucky = rng.choice((0, A, A | D, A | D | G)) | V
                self.put(at.S_LEAF + 8 * (page >> 12 & 511), pte(page, flags | lucky))
                if start not in (RAM, at.SAVE, at.TABLES):
                    self.put(at.U_LEAF + 8 * (page >> 12 & 511), pte(page, flags | lucky | U))
        self._wild()
        return bytes(self.pages)

    def _wild(self) -> None:
        rng = self.rng
        self.put(at.ROOT + 8 * 3, pte(at.WILD_MIDDLE, V))
        self.put(at.ROOT + 8 * 511, pte(at.WILD_MIDDLE, V | rng.choice((0, 0, A, U, D, G))))
        for index in (4, 5):  # of 1 GiB: all of RAM, but its code may not be written through them
            flags = self.random_entry()[0] & ~X
            self.put(at.ROOT + 8 * index, pte(RAM + (rng.random() < 0.3) * at.PAGE, flags))
        for index in range(2):
            self.put(at.WILD_MIDDLE + 8 * index, pte(at.WILD_LEAF + at.PAGE * index, V))
        for index in range(2, 8):
            flags, _ = self.random_entry()
            page = RAM + 0x200000 * (1 + index % 3) + (rng.random() < 0.2) * at.PAGE
            self.put(at.WILD_MIDDLE + 8 * index, pte(page, flags & ~X))
        for number in range(at.WILD_PAGES):
            flags, page = self.random_entry()
            self.put(at.WILD_LEAF + 8 * (at.WILD_FIRST + number), pte(page, flags))


def wild_page(rng: Random) -> int:
    """A virtual page of the wild part."""
    page = at.WILD + at.PAGE * (at.WILD_FIRST + rng.randrange(at.WILD_PAGES))
    return page if rng.random() < 0.9 else page | (1 << 64) - (1 << 32)
