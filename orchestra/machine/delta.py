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

import os
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestra.errors import BackingFault, BadImage
from orchestra.io.entry import Identity, write_new
from orchestra.io.layers import LayerFile, map_layers

from ._core import (
    DEAD_SLOT,
    PAGE_BYTES,
    STATE_BYTES,
    ZERO_PAGE,
    DeltaLook,
    DeltaLooks,
    checksum,
    delta_head,
    first_outside,
    page_checksums,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestra.io.mapping import Mapping

__all__ = [
    "HEADER",
    "Delta",
    "checksum_page",
    "delta_head",
    "delta_of",
    "open_delta",
    "survey_file",
    "write_delta",
]

MAGIC: Final = b"orchdlt\n"
VERSION = 6
HEADER = struct.Struct("<8sIIQQQQQQIIII")
CHECKSUM_BYTES = 4
READ_PAGES = 256  # of a file at a time
GLANCE_BYTES = 1 << 20  # of an index that is read at once
MEMORY = "pages of the machine's memory"
ZEROS = bytes(PAGE_BYTES)
ZERO_CHECKSUM = page_checksums(ZEROS)


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


def write_delta(
    folder: int, name: str, pages: Sequence[int], data: bytes | bytearray, state: bytes
) -> Identity:
    """Write a new delta; `data` holds those pages that are not ZERO_PAGE, one after the other.

    `folder` is the descriptor of the folder it goes to. Returns the file's identity.
    """
    slots = len(data) // PAGE_BYTES
    header, tail = delta_head(pages, slots, state, page_checksums(data))
    return write_new(folder, name, (header, data, tail), 0o444)


@dataclass(slots=True)
class Delta:
    """A verified delta: its index as the core takes it, and its mapped pages."""

    name: str
    mapping: Mapping
    index: array[int]
    look: DeltaLook
    header_end: int  # of what page 0 says; zeros follow
    checksum_place: range
    checksums_sum: int

    @property
    def path(self) -> Path:
        """Where its file was when it was opened."""
        return self.mapping.path

    def read_checksums(self) -> Sequence[int] | None:
        """Read and verify the page checksums, one for each slot; None when it has none."""
        raw = self.mapping.read(self.checksum_place.start, len(self.checksum_place))
        found = checksum(raw)
        if found != self.checksums_sum:
            expected = f"{self.checksums_sum:08x}"
            raise BadImage(self.path, "checksum of page checksums", f"{found:08x}", expected)
        return struct.unpack(f"<{len(raw) // CHECKSUM_BYTES}I", raw) if raw else None

    @property
    def state(self) -> bytes:
        """The state it holds."""
        return self.look.state

    @property
    def pages(self) -> list[int]:
        """The numbers of the pages it holds."""
        return [entry & ~ZERO_PAGE for entry in self.index if entry != DEAD_SLOT]

    @property
    def first_page(self) -> int:
        """Host address of its first page."""
        return self.mapping.address + PAGE_BYTES


def open_delta(folder: int, name: str, path: str, bounds: Sequence[int]) -> Delta:
    """Map a delta of an open folder; see delta_of."""
    looks = DeltaLooks(1, bounds)
    where = path.removesuffix(name)
    (layer,) = map_layers(
        *(folder, where, {}, (name,)),
        head_bytes=PAGE_BYTES,
        check=looks.check,
        context=looks.context,
    )
    try:
        return delta_of(layer, name, looks[0], bounds)
    except BaseException:
        layer.close()
        raise


def delta_of(layer: LayerFile, name: str, look: DeltaLook, bounds: Sequence[int]) -> Delta:
    """Make a delta of a file that was mapped and looked at; all of it is verified but the pages.

    `bounds` are the first valid page number and the end of each range of memory, in turn. Raises
    BadImage naming the file and the field, and BackingFault.
    """
    path = layer.path
    if layer.error is not None:
        raise _unopened(layer.error, path)
    if look.flaw:
        raise _flaw(layer, look)
    header = HEADER.unpack_from(layer.head)
    _, _, _, entries, _, offset, state_bytes, _, sums_bytes, _, sums_sum, *_ = header
    known_bytes = state_bytes + 8 * entries
    mapping = layer.mapping
    if mapping is not None:
        known, end = layer.head[offset:], offset + known_bytes + sums_bytes
    else:
        known, end = _read_known(layer, offset, state_bytes, entries, bounds), HEADER.size
        look.check(known)
        if look.flaw:
            raise _flaw(layer, look)
        mapping = layer.map()
    start = offset + known_bytes
    index = array("Q", known[state_bytes:known_bytes])
    place = range(start, start + sums_bytes)
    return Delta(name, mapping, index, look, end, place, sums_sum)


def _unopened(error: Exception, path: str) -> Exception:
    if isinstance(error, FileNotFoundError):
        return BadImage(path, "file", error.strerror, "a file in the machine's folder")
    if isinstance(error, OSError):
        return BackingFault(path, 0, os.strerror(error.errno or 0).lower())
    return error


def _read_known(
    layer: LayerFile, offset: int, state_bytes: int, entries: int, bounds: Sequence[int]
) -> bytes:
    """Read state and index; one that claims terabytes, and is a hole, is refused where it is."""
    fd, path = layer.fd, layer.path
    parts = [_read(fd, path, offset, state_bytes)]
    end = offset + state_bytes + 8 * entries
    for start in range(offset + state_bytes, end, GLANCE_BYTES):
        parts.append(_read(fd, path, start, min(GLANCE_BYTES, end - start)))
        bad = first_outside(array("Q", parts[-1]), bounds)
        if bad is not None:
            raise BadImage(path, "index", f"page {bad & ~ZERO_PAGE:#x}", MEMORY)
    return b"".join(parts)


def _read(fd: int, path: str, offset: int, length: int) -> bytes:
    """Read so many bytes: zeros where the file has become shorter."""
    try:
        return os.pread(fd, length, offset).ljust(length, b"\0")
    except OSError as error:
        raise BackingFault(path, offset, os.strerror(error.errno or 0).lower()) from error


def _flaw(layer: LayerFile, look: DeltaLook) -> BadImage:
    """Say what is wrong with a delta."""
    path, length = layer.path, layer.facts.length
    header = HEADER.unpack(layer.head[: HEADER.size].ljust(HEADER.size, b"\0"))
    magic, version, page_bytes, entries, slots, _, state_bytes, _, sums_bytes = header[:9]
    rest = state_bytes + 8 * entries + sums_bytes
    tail = 0 if HEADER.size + rest <= PAGE_BYTES else rest
    units = f"{PAGE_BYTES}, and at most {STATE_BYTES} in words of 8"
    known = "checksum of state and index"
    field, found, expected = {
        "short": ("length", length, f"at least {PAGE_BYTES} bytes"),
        "magic": ("magic", magic, repr(MAGIC)),
        "version": ("version", version, f"{VERSION}, what this orchestra reads"),
        "own sum": ("header checksum", f"{header[-1]:08x}", "the checksum of the header"),
        "units": ("page and state bytes", (page_bytes, state_bytes), units),
        "sums": ("page checksums", sums_bytes, f"0 or {CHECKSUM_BYTES * slots} bytes"),
        "length": ("length", length, f"{PAGE_BYTES * (1 + slots) + tail} bytes"),
        "known sum": (known, f"{look.found:08x}", f"{header[9]:08x}"),
        "state": ("state", look.state_field, "what a machine can be in"),
        "index": ("index", f"page {look.found & ~ZERO_PAGE:#x}", MEMORY),
        "slots": ("index", f"{look.found} pages", f"{slots}, what the header says"),
    }[look.flaw]
    return BadImage(path, field, found, expected)
