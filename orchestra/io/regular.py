"""Regular files opened for reading, and nothing else in their place."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestra.errors import BadImage

from .entry import AT_CWD, open_file
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
    fd, facts = open_file(AT_CWD, str(path), str(path))
    try:
        if length not in (None, facts.length):
            raise BadImage(path, "length", facts.length, f"{length} bytes")
        yield Regular(fd)
    finally:
        os.close(fd)
