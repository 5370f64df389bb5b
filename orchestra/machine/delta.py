"""The file of one layer: pages, state, index; checksummed, and verified before use.

page 0        header: magic, version, counts, offset of the rest, cycle, checksums of its parts
              and its own; then the rest, if there is room for it
page 1 ...    the pages themselves, in the order of the index: slots
rest          state           registers, CSRs and devices, without the zeros at its end
              index           a 64-bit page number for each slot: all ones where a slot is
                              superseded, bit 63 set for a page of zeros, which has no slot
              page checksums  the CRC-32C (32 bits) of each slot, or none at all; no machine
                              that is opened reads them, `orchestra verify` does
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestra.errors import BackingFault, BadImage
from orchestra.io.entry import Identity, open_and_read, write_new
from orchestra.io.mapping import Mapping

from ._core import (
    DEAD_SLOT,
    PAGE_BYTES,
    STATE_BYTES,
    ZERO_PAGE,
    check_index,
    page_checksums,
    state_cycle,
    state_flaw,
    state_used,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Delta",
    "checksum_page",
    "delta_tail",
    "open_delta",
    "survey_file",
    "write_delta",
]

MAGIC = b"orchdlt\n"
VERSION = 4
HEADER = struct.Struct("<8sIIQQQQQQ16s16s16s")
DIGEST_BYTES = 16
CHECKSUM_BYTES = 4
READ_PAGES = 256  # of a file at a time
GLANCE_BYTES = 1 << 20  # of an index that is read at once
ZEROS = bytes(PAGE_BYTES)
ZERO_CHECKSUM = page_checksums(ZEROS)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def delta_tail(
    pages: Sequence[int], slots: int, state: bytes, checksums: bytes = b""
) -> tuple[bytes, bytes]:
    """Give page 0, and what stands behind the last slot when it does not fit there.

    `checksums` are those of page_checksums or survey_file; without, the pages have none.
    """
    stored = state[: state_used(state)]
    known = stored + _index_bytes(pages)
    rest = known + checksums
    fits = HEADER.size + len(rest) <= PAGE_BYTES
    head = HEADER.pack(
        *(MAGIC, VERSION, PAGE_BYTES, len(pages), slots),
        *(HEADER.size if fits else PAGE_BYTES * (1 + slots), len(stored)),
        *(state_cycle(state), len(checksums), _digest(known), _digest(checksums), b""),
    )[:-DIGEST_BYTES]
    first = head + _digest(head) + (rest if fits else b"")
    return first.ljust(PAGE_BYTES, b"\0"), b"" if fits else rest


def checksum_page(page: bytes | memoryview) -> int:
    """Make the checksum of a page.

    Against accidents, as all checksums of a folder; against malice there is the root hash.
    """
    return int.from_bytes(page_checksums(page), "little")


def survey_file(fd: int, slots: int) -> tuple[bytes, list[int]]:
    """Look at the pages of a delta that are in its file already: their checksums, which are zeros.

    Raises OSError where the file cannot be read.
    """
    parts, zeros = [], []
    for first in range(0, slots, READ_PAGES):
        count = min(slots - first, READ_PAGES) * PAGE_BYTES
        data = os.pread(fd, count, PAGE_BYTES * (1 + first)).ljust(count, b"\0")
        sums = page_checksums(data)
        parts.append(sums)
        for start in range(0, count, PAGE_BYTES):
            checksum = sums[start // PAGE_BYTES * CHECKSUM_BYTES :][:CHECKSUM_BYTES]
            if checksum == ZERO_CHECKSUM and data[start : start + PAGE_BYTES] == ZEROS:
                zeros.append(first + start // PAGE_BYTES)
    return b"".join(parts), zeros


def _index_bytes(pages: Sequence[int]) -> bytes:
    index = array("Q", pages)
    if index.itemsize != 8 or sys.byteorder != "little":
        return struct.pack(f"<{len(pages)}Q", *pages)
    return index.tobytes()


def write_delta(
    folder: int, name: str, pages: Sequence[int], data: bytes | bytearray, state: bytes
) -> Identity:
    """Write a new delta; `data` holds those pages that are not ZERO_PAGE, one after the other.

    `folder` is the descriptor of the folder it goes to. Returns the file's identity.
    """
    slots = len(data) // PAGE_BYTES
    header, tail = delta_tail(pages, slots, state, page_checksums(data))
    return write_new(folder, name, (header, data, tail), 0o444)


@dataclass(slots=True)
class Delta:
    """A verified delta: its index as the core takes it, its state, and its mapped pages."""

    name: str
    mapping: Mapping
    index: array[int]
    state: bytes
    header_end: int  # of what page 0 says; zeros follow
    checksum_place: range
    checksum_digest: bytes

    @property
    def path(self) -> Path:
        """Where its file was when it was opened."""
        return self.mapping.path

    def read_checksums(self) -> Sequence[int] | None:
        """Read and verify the page checksums, one for each slot; None when it has none."""
        raw = self.mapping.read(self.checksum_place.start, len(self.checksum_place))
        if _digest(raw) != self.checksum_digest:
            expected = self.checksum_digest.hex()
            raise BadImage(self.path, "checksum of page checksums", _digest(raw).hex(), expected)
        return struct.unpack(f"<{len(raw) // CHECKSUM_BYTES}I", raw) if raw else None

    @property
    def pages(self) -> list[int]:
        """The numbers of the pages it holds."""
        return [entry & ~ZERO_PAGE for entry in self.index if entry != DEAD_SLOT]

    @property
    def first_page(self) -> int:
        """Host address of its first page."""
        return self.mapping.address + PAGE_BYTES


def open_delta(folder: int, name: str, path: str, bounds: Sequence[int]) -> Delta:
    """Map a delta of an open folder and verify all of it but the pages.

    `bounds` are the first valid page number and the end of each range of memory, in turn. Raises
    BadImage naming the file and the field, and BackingFault.
    """
    try:
        fd, facts, page = open_and_read(folder, name, path, PAGE_BYTES)
    except FileNotFoundError as error:
        raise BadImage(path, "file", error.strerror, "a file in the machine's folder") from error
    except OSError as error:
        raise BackingFault(path, 0, os.strerror(error.errno or 0).lower()) from error
    try:
        head = _Head(path, facts.length, page)
        known = head.rest[: head.known_bytes] or _read_known(fd, path, head, bounds)
        state, index = head.split(known, bounds)
        mapping = Mapping(fd, path, facts, length=facts.length, holes=False)
    finally:
        os.close(fd)
    place = range(head.offset + head.known_bytes, head.offset + head.rest_bytes)
    return Delta(name, mapping, index, state, head.end, place, head.checksum_digest)


def _read_known(fd: int, path: str, head: _Head, bounds: Sequence[int]) -> bytes:
    """Read state and index; one that claims terabytes, and is a hole, is refused where it is."""
    parts = [_read(fd, path, head.offset, head.state_bytes)]
    end = head.offset + head.known_bytes
    for start in range(head.offset + head.state_bytes, end, GLANCE_BYTES):
        parts.append(_read(fd, path, start, min(GLANCE_BYTES, end - start)))
        head.check_pages(_index_of(parts[-1]), bounds)
    return b"".join(parts)


def _index_of(raw: bytes) -> array[int]:
    index = array("Q", raw[: len(raw) & -8])
    if sys.byteorder != "little":
        index.byteswap()
    return index


def _read(fd: int, path: str, offset: int, length: int) -> bytes:
    try:
        return os.pread(fd, length, offset)
    except OSError as error:
        raise BackingFault(path, offset, os.strerror(error.errno or 0).lower()) from error


class _Head:
    """What page 0 of a delta says, verified against the length of the file."""

    def __init__(self, path: str, length: int, page: bytes) -> None:
        if length < PAGE_BYTES:
            raise BadImage(path, "length", length, f"at least {PAGE_BYTES} bytes")
        header = page[: HEADER.size].ljust(HEADER.size, b"\0")
        magic, version, page_bytes, entries, slots, offset, state_bytes, *more = HEADER.unpack(
            header
        )
        cycle, sums_bytes, *sums = more
        if magic != MAGIC:
            raise BadImage(path, "magic", magic, repr(MAGIC))
        if version != VERSION:
            raise BadImage(path, "version", version, f"{VERSION}, what this orchestra reads")
        if _digest(header[:-DIGEST_BYTES]) != sums[2]:
            raise BadImage(path, "header checksum", sums[2].hex(), "the checksum of the header")
        if page_bytes != PAGE_BYTES or state_bytes > STATE_BYTES:
            expected = f"{PAGE_BYTES}, and at most {STATE_BYTES}"
            raise BadImage(path, "page and state bytes", (page_bytes, state_bytes), expected)
        if sums_bytes not in (0, CHECKSUM_BYTES * slots):
            expected = f"0 or {CHECKSUM_BYTES * slots} bytes"
            raise BadImage(path, "page checksums", sums_bytes, expected)
        end, rest_bytes = PAGE_BYTES * (1 + slots), state_bytes + 8 * entries + sums_bytes
        fits = HEADER.size + rest_bytes <= PAGE_BYTES
        wanted = end if fits else end + rest_bytes
        if offset != (HEADER.size if fits else end) or length != wanted:
            raise BadImage(path, "length", length, f"{wanted} bytes")
        self.path, self.offset, self.rest_bytes = path, offset, rest_bytes
        self.state_bytes, self.known_bytes = state_bytes, state_bytes + 8 * entries
        self.rest = page[HEADER.size : HEADER.size + rest_bytes] if fits else b""
        self.end = HEADER.size + len(self.rest)
        self.slots, self.cycle, self.checksum_digest = slots, cycle, sums[1]
        self._known_digest = sums[0]

    def split(self, known: bytes, bounds: Sequence[int]) -> tuple[bytes, array[int]]:
        """Verify state and index."""
        if _digest(known) != self._known_digest:
            found, expected = _digest(known).hex(), self._known_digest.hex()
            raise self._flaw("checksum of state and index", found, expected)
        state = known[: self.state_bytes].ljust(STATE_BYTES, b"\0")
        if (flaw := state_flaw(state)) or state_cycle(state) != self.cycle:
            raise self._flaw("state", flaw or "cycle", "what a machine can be in")
        index = _index_of(known[self.state_bytes :])
        stored = self.check_pages(index, bounds)
        if stored != self.slots:
            expected = f"{self.slots}, what the header says"
            raise self._flaw("index", f"{stored} pages", expected)
        return state, index

    def check_pages(self, index: array[int], bounds: Sequence[int]) -> int:
        """Refuse pages outside memory; returns how many have a slot."""
        bad, stored = check_index(index, bounds)
        if bad is not None:
            found = f"page {bad & ~ZERO_PAGE:#x}"
            raise self._flaw("index", found, "pages of the machine's memory")
        return stored

    def _flaw(self, field: str, found: object, expected: str) -> BadImage:
        return BadImage(self.path, field, found, expected)
