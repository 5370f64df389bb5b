"""What a served fleet occupies: the memory of its process, the disks of its applications."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from msgspec import Struct

from orchestra.sched.founding import LOG

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DiskUse", "Disks", "disk_use", "resident_bytes"]

BLOCK_BYTES = 512  # of st_blocks, whatever the file system's
LEAST_REST = 50  # times as long as a walk took: looking costs 2 % of a thread at most


class DiskUse(Struct, frozen=True):
    """What an application's folder takes, its log's share of that, and what is free there."""

    disk_bytes: int
    log_bytes: int
    free_bytes: int


class Disks:
    """What folders take, looked at again when that has become cheap."""

    def __init__(self, folders: Callable[[], dict[str, Path]]) -> None:
        self._folders = folders
        self._found: dict[str, DiskUse] = {}
        self._due = 0.0

    async def look(self) -> dict[str, DiskUse]:
        """Return it for each application."""
        began = time.monotonic()
        if began >= self._due:
            self._found = await to_thread.run_sync(walk, self._folders())
            ended = time.monotonic()
            self._due = ended + LEAST_REST * (ended - began)
        return self._found


def walk(folders: dict[str, Path]) -> dict[str, DiskUse]:
    """Say what each takes."""
    return {name: disk_use(folder) for name, folder in folders.items()}


def disk_use(folder: Path) -> DiskUse:
    """Walk a folder; a file counts once however often it is linked, and not if it goes away."""
    found, log = {}, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except OSError:
                continue
            found[status.st_ino] = status.st_blocks * BLOCK_BYTES
            if name.startswith(LOG) and Path(parent) == folder:
                log += status.st_blocks * BLOCK_BYTES
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    return DiskUse(sum(found.values()), log, free)


def resident_bytes() -> int:
    """Return what this process has in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
