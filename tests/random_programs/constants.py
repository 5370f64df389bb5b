"""The page gp points at: values to compute with, and pointers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.assembler import RAM
from tests.random_programs import layout as at
from tests.random_programs.tables import wild_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

EXTREMES = [0, 1, 2, 3, 7, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EXTREMES += [1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 2, 1 << 32, 0x5555555555555555]
FLOATS32 = [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000]
FLOATS32 += [0x4B000000, 0x4F000000, 0x5F000000, 0x4F800000, 0x5F800000, 0x3F000000, 0x33800000]
FLOATS64 = [value << 32 | low for value in (0, 0x7FF00000, 0x3FF00000) for low in (0, 1)]
FLOATS64 += [0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF, 0x7FF8000000000000]
FLOATS64 += [0x43E0000000000000, 0x41E0000000000000, 0x41EFFFFFFFE00000, 0x3CA0000000000000]
FLOATS64 += [0x380FFFFFFFFFFFFF, 0x36A0000000000000, 0x47EFFFFFF0000000, 0x3810000000000000]


class Constants:
    """The page gp points into: values to compute with, and pointers."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.values: list[int] = []
        self.integers = self._add(110, self._integer)
        self.floats = self._add(100, self._float)
        self.scratch = {
            window: self._add(50, self._pointer, window) for window in (RAM, at.U_WINDOW)
        }
        self.wild = self._add(110, self._wild)
        self.targets = {
            window: self._add(24, self._target, window) for window in (RAM, at.U_WINDOW)
        }

    def _add(self, count: int, make: Callable[..., int], *arguments: int) -> list[int]:
        start = len(self.values)
        self.values += [make(*arguments) % (1 << 64) for _ in range(count)]
        return [8 * index - 2048 for index in range(start, len(self.values))]

    def _integer(self) -> int:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                return rng.choice(EXTREMES)
            case 1:
                return rng.choice(EXTREMES) * rng.choice((1, -1)) + rng.choice((-1, 0, 1))
            case 2:
                return rng.getrandbits(rng.randrange(1, 65)) * rng.choice((1, -1))
        return rng.getrandbits(64)

    def _float(self) -> int:
        rng = self.rng
        match rng.randrange(6):
            case 0:
                return rng.choice(FLOATS32) | 0xFFFFFFFF << 32 | rng.getrandbits(1) << 31
            case 1:
                return rng.choice(FLOATS64) | rng.getrandbits(1) << 63
            case 2:
                near = rng.randrange(120, 134) << 23 | rng.getrandbits(23)
                return near | 0xFFFFFFFF << 32 | rng.getrandbits(1) << 31
            case 3:
                near = rng.randrange(1015, 1030) << 52 | rng.getrandbits(52)
                return near | rng.getrandbits(1) << 63
            case 4:
                return rng.getrandbits(32) | 0xFFFFFFFF << 32
        return rng.getrandbits(64)

    def _edge(self) -> int:
        rng = self.rng
        if rng.random() < 0.5:
            return rng.randrange(0, at.PAGE, 8)
        return rng.choice((0, 1, 4, 8, -1, -2, -3, -4, -7, -8)) % at.PAGE

    def _pointer(self, window: int) -> int:
        page = self.rng.randrange(1, at.SCRATCH_PAGES - 1)
        return at.SCRATCH - RAM + window + at.PAGE * page + self._edge()

    def _wild(self) -> int:
        rng = self.rng
        match rng.randrange(12):
            case 0:  # no memory, or not canonical
                bad = (0, 0x9000_0000, 1 << 38, 1 << 63, (1 << 64) - 8, 1 << 62 | RAM)
                return rng.choice(bad) + rng.randrange(8)
            case 1:  # gigapages
                return rng.choice((4 << 30, 5 << 30)) + at.SCRATCH - RAM + self._edge()
            case 2:  # megapages
                return at.WILD + rng.randrange(2, 8) * 0x200000 + 0x100000 + self._edge()
        return wild_page(rng) + self._edge()

    def _target(self, window: int) -> int:
        rng = self.rng
        entry = rng.choice(at.PAD_ENTRIES)
        match rng.randrange(8):
            case 0:
                bad = (0, 2, 0x9000_0000, 1 << 38, 1 << 63, (1 << 64) - 2, (1 << 38) - 2, 5 << 30)
                return rng.choice(bad)
            case 1 | 2:
                return at.PADS - RAM + window + at.PAGE * rng.randrange(at.PAD_PAGES - 1) + entry
        return wild_page(rng) + entry

    def page(self) -> bytes:
        """Return the page's bytes."""
        return struct.pack(f"<{len(self.values)}Q", *self.values).ljust(at.PAGE, b"\0")
