"""The file of one layer: pages, state, index; checksummed, and verified before use.

page 0        header: magic, version, counts, offset of the rest, cycle, checksums of its parts
              and its own; then the rest, if there is room for it
page 1 ...    the pages themselves, in the order of the index: slots
rest          state           registers, CSRs and devices, without the zeros at its end
              index           a 64-bit page number for each slot: all ones where a slot is
                              superseded, bit 63 set for a page of zeros, which has no slot
              page checksums  the CRC-32 (zlib's, 32 bits) of each slot, or none at all; no
                              machine that is opened reads them, `orchestra verify` does
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestra.errors import BadImage
from orchestra.io.folder import Identity, write_new
from orchestra.io.mapping import Mapping, Mode, map_file

from ._core import (
    DEAD_SLOT,
    PAGE_BYTES,
    STATE_BYTES,
    ZERO_PAGE,
    check_index,
    state_cycle,
    state_flaw,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "Delta",
    "checksum_page",
    "checksum_pages",
    "delta_tail",
    "map_part",
    "open_delta",
    "survey_file",
    "write_delta",
]

MAGIC = b"orchdlt\n"
VERSION = 3
HEADER = struct.Struct("<8sIIQQQQQQ16s16s16s16s")
DIGEST_BYTES = 16
CHECKSUM_BYTES = 4
READ_PAGES = 256  # of a file at a time
GLANCE_BYTES = 1 << 20  # of an index that is read at once
# Against accidents, as all checksums of a folder; against malice there is the root hash.
# Measured: 0.8 us a page, where BLAKE2b takes 3.6 and SHA-256 2.5.
checksum_page = zlib.crc32
ZEROS = bytes(PAGE_BYTES)
ZERO_CHECKSUM = checksum_page(ZEROS)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def delta_tail(
    pages: Sequence[int], slots: int, state: bytes, checksums: bytes = b""
) -> tuple[bytes, bytes]:
    """Give page 0, and what stands behind the last slot when it does not fit there.

    `checksums` are those of checksum_pages or survey_file; without, the pages have none.
    """
    index, stored = _index_bytes(pages), state.rstrip(b"\0")
    rest = b"".join((stored, index, checksums))
    fits = HEADER.size + len(rest) <= PAGE_BYTES
    head = HEADER.pack(
        *(MAGIC, VERSION, PAGE_BYTES, len(pages), slots),
        *(HEADER.size if fits else PAGE_BYTES * (1 + slots), len(stored)),
        *(state_cycle(state), len(checksums)),
        *(_digest(stored), _digest(index), _digest(checksums), b""),
    )[:-DIGEST_BYTES]
    first = head + _digest(head) + (rest if fits else b"")
    return first.ljust(PAGE_BYTES, b"\0"), b"" if fits else rest


def checksum_pages(data: bytes | bytearray) -> bytes:
    """Make the page checksums of pages that are one after the other."""
    view = memoryview(data)
    starts = range(0, len(data), PAGE_BYTES)
    sums = [checksum_page(view[start : start + PAGE_BYTES]) for start in starts]
    return struct.pack(f"<{len(sums)}I", *sums)


def survey_file(fd: int, slots: int) -> tuple[bytes, list[int]]:
    """Look at the pages of a delta that are in its file already: their checksums, which are zeros.

    Raises OSError where the file cannot be read.
    """
    parts, zeros = [], []
    for first in range(0, slots, READ_PAGES):
        count = min(slots - first, READ_PAGES) * PAGE_BYTES
        data = os.pread(fd, count, PAGE_BYTES * (1 + first)).ljust(count, b"\0")
        sums = checksum_pages(data)
        parts.append(sums)
        for index, (checksum,) in enumerate(struct.iter_unpack("<I", sums)):
            start = index * PAGE_BYTES
            if checksum == ZERO_CHECKSUM and data[start : start + PAGE_BYTES] == ZEROS:
                zeros.append(first + index)
    return b"".join(parts), zeros


def _index_bytes(pages: Sequence[int]) -> bytes:
    index = array("Q", pages)
    if index.itemsize != 8 or sys.byteorder != "little":
        return struct.pack(f"<{len(pages)}Q", *pages)
    return index.tobytes()


def write_delta(
    path: Path, pages: Sequence[int], data: bytes | bytearray, state: bytes
) -> Identity:
    """Write a new delta; `data` holds those pages that are not ZERO_PAGE, one after the other.

    Returns the file's identity.
    """
    slots = len(data) // PAGE_BYTES
    header, tail = delta_tail(pages, slots, state, checksum_pages(data))
    return write_new(path, [header, data, tail], 0o444)


@dataclass(frozen=True, slots=True)
class Delta:
    """A verified delta: its index as the core takes it, its state, and its mapped pages."""

    path: Path
    mapping: Mapping
    index: array[int]
    state: bytes
    header_end: int  # of what page 0 says; zeros follow
    checksum_place: range
    checksum_digest: bytes

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


def map_part(path: Path, *, mode: Mode = "read", expected_length: int | None = None) -> Mapping:
    """Map a file of a machine's folder; BadImage when it is missing or no regular file."""
    try:
        return map_file(path, mode=mode, expected_length=expected_length)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadImage(path, "file", error.strerror, "a file in the machine's folder") from error


def open_delta(path: Path, *, is_memory: Iterable[range]) -> Delta:
    """Map a delta and verify all of it but the pages; `is_memory` are the valid page numbers.

    Raises BadImage naming the file and the field.
    """
    mapping = map_part(path)
    try:
        return _verified(path, mapping, list(is_memory))
    except BaseException:
        mapping.close()
        raise


def _read_index(path: Path, mapping: Mapping, place: range, is_memory: list[range]) -> bytes:
    """Read an index; one that claims terabytes, and is a hole, is refused where it begins to be."""
    if len(place) <= GLANCE_BYTES:
        return mapping.read(place.start, len(place))
    parts = []
    for start in range(place.start, place.stop, GLANCE_BYTES):
        parts.append(mapping.read(start, min(GLANCE_BYTES, place.stop - start)))
        _check_pages(path, _index_of(parts[-1]), is_memory)
    return b"".join(parts)


def _index_of(raw: bytes) -> array[int]:
    index = array("Q", raw)
    if sys.byteorder != "little":
        index.byteswap()
    return index


def _check_pages(path: Path, index: array[int], is_memory: list[range]) -> int:
    """Refuse pages outside memory; returns how many have a slot."""
    bad, stored = check_index(index, is_memory)
    if bad is not None:
        found = f"page {bad & ~ZERO_PAGE:#x}"
        raise BadImage(path, "index", found, "pages of the machine's memory")
    return stored


def _verified(path: Path, mapping: Mapping, is_memory: list[range]) -> Delta:
    if mapping.length < PAGE_BYTES:
        raise BadImage(path, "length", mapping.length, f"at least {PAGE_BYTES} bytes")
    header = mapping.read(0, HEADER.size)
    magic, version, page, entries, slots, offset, state_bytes, cycle, sums_bytes, *digests = (
        HEADER.unpack(header)
    )
    if magic != MAGIC:
        raise BadImage(path, "magic", magic, repr(MAGIC))
    if version != VERSION:
        raise BadImage(path, "version", version, f"{VERSION}, what this orchestra reads")
    state_sum, index_sum, sums_sum, own = digests
    if _digest(header[:-DIGEST_BYTES]) != own:
        raise BadImage(path, "header checksum", own.hex(), "the checksum of the header")
    if page != PAGE_BYTES or state_bytes > STATE_BYTES:
        expected = f"{PAGE_BYTES}, and at most {STATE_BYTES}"
        raise BadImage(path, "page and state bytes", (page, state_bytes), expected)
    if sums_bytes not in (0, CHECKSUM_BYTES * slots):
        raise BadImage(path, "page checksums", sums_bytes, f"0 or {CHECKSUM_BYTES * slots} bytes")
    end, rest = PAGE_BYTES * (1 + slots), state_bytes + 8 * entries + sums_bytes
    fits = HEADER.size + rest <= PAGE_BYTES
    length = end if fits else end + rest
    if offset != (HEADER.size if fits else end) or mapping.length != length:
        raise BadImage(path, "length", mapping.length, f"{length} bytes")
    state = mapping.read(offset, state_bytes)
    place = range(offset + state_bytes, offset + state_bytes + 8 * entries)
    raw = _read_index(path, mapping, place, is_memory)
    if _digest(state) != state_sum:
        raise BadImage(path, "state checksum", _digest(state).hex(), state_sum.hex())
    if _digest(raw) != index_sum:
        raise BadImage(path, "index checksum", _digest(raw).hex(), index_sum.hex())
    state = state.ljust(STATE_BYTES, b"\0")
    if (flaw := state_flaw(state)) or state_cycle(state) != cycle:
        raise BadImage(path, "state", flaw or "cycle", "what a machine can be in")
    index = _index_of(raw)
    stored = _check_pages(path, index, is_memory)
    if stored != slots:
        raise BadImage(path, "index", f"{stored} pages", f"{slots}, what the header says")
    header_end = HEADER.size + (rest if fits else 0)
    checksums = range(offset + rest - sums_bytes, offset + rest)
    return Delta(path, mapping, index, state, header_end, checksums, sums_sum)
