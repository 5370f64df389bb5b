"""Real file systems for tests, those of the benchmark; and full ones."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from orchestra.bench.filesystems import (
    KINDS,
    MIB,
    REFLINKING,
    SMALLEST,
    Filesystem,
    mounted,
    mounted_image,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "KINDS",
    "MIB",
    "REFLINKING",
    "SMALLEST",
    "Filesystem",
    "empty",
    "fill",
    "mounted",
    "mounted_image",
]


def fill(folder: Path) -> Path:
    """Leave no free block for data on the file system of `folder`; return what to `empty`."""
    ballast = folder / "ballast"
    step = 16 * MIB
    with ballast.open("xb", buffering=0) as file:
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
    return ballast


def empty(ballast: Path) -> None:
    """Make room again, at once: xfs would free the blocks of a deleted file when it has time."""
    os.truncate(ballast, 0)
    os.sync()
