"""Regular files opened for reading, and nothing else in their place."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestra.errors import BadImage

from .sparse import PAGE, data_segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Regular", "open_regular"]


class Regular:
    """An open file; made by open_regular."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, length: int) -> bytes:
        """Read so many bytes; fewer at the end of the file. OSError says what cannot be read."""
        return os.pread(self._fd, length, offset)

    def page_segments(self) -> list[range]:
        """List the runs of pages, by number, that are not holes."""
        segments: list[range] = []
        for start, end in data_segments(self._fd):
            run = range(start // PAGE, -(-end // PAGE))
            if segments and run.start < segments[-1].stop:  # blocks may be smaller than pages
                run = range(segments.pop().start, run.stop)
            segments.append(run)
        return segments


@contextmanager
def open_regular(path: Path, length: int | None = None) -> Iterator[Regular]:
    """Open a regular file, of `length` bytes if that is given; else BadImage, or OSError.

    A last symlink is not followed, and the other end of a pipe not waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(path, "type", stat.filemode(status.st_mode), "a regular file")
        if length not in (None, status.st_size):
            raise BadImage(path, "length", status.st_size, f"{length} bytes")
        yield Regular(fd)
    finally:
        os.close(fd)
