"""Sparse files: made without a byte stored, and read where there is something to read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ._os import punch
from .entry import STAT_BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "PAGE",
    "allocated_bytes",
    "create_sparse",
    "data_segments",
    "punch_hole",
    "set_length",
    "write_at",
]

PAGE = 4096

_WRITE_BYTES = 1 << 20  # at a time
_WITHOUT_HOLES = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def create_sparse(path: Path | str, length: int) -> None:
    """Create a file of `length` zero bytes that occupies no blocks, or raise FileExistsError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(fd, length)
    except BaseException:
        Path(path).unlink()
        raise
    finally:
        os.close(fd)


def set_length(path: Path | str, length: int) -> None:
    """Cut a file, or let zeros follow that occupy no blocks."""
    os.truncate(path, length)


def allocated_bytes(path: Path | str) -> int:
    """Bytes of disk that the file occupies; blocks shared by reflinks are counted in each file."""
    return Path(path).stat().st_blocks * STAT_BLOCK_BYTES


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give back the blocks of a part of a file, which then reads as zeros; False where it cannot.

    Source: fallocate(2), FALLOC_FL_PUNCH_HOLE.
    """
    return punch(fd, offset, length)


def write_at(path: Path | str, parts: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Write each (offset, bytes) into an existing file, all of them; neighbours together."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for start, data in _joined(parts):
            offset, view = start, memoryview(data)
            while view:
                written = os.pwrite(fd, view, offset)
                offset, view = offset + written, view[written:]
    finally:
        os.close(fd)


def _joined(parts: Iterable[tuple[int, bytes | memoryview]]) -> Iterator[tuple[int, bytearray]]:
    """Put what follows one another together, up to some length."""
    start, together = 0, bytearray()
    for offset, data in parts:
        if together and (offset != start + len(together) or len(together) >= _WRITE_BYTES):
            yield start, together
            together = bytearray()
        if not together:
            start = offset
        together += data
    if together:
        yield start, together


def data_segments(fd: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each stretch that is no hole, in bytes; moves the file position.

    A file system that knows no holes gives the whole file as one stretch (lseek(2), SEEK_DATA).
    """
    size = os.fstat(fd).st_size
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            if error.errno not in _WITHOUT_HOLES:
                raise
            yield end, size
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end
