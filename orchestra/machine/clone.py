"""A machine's folder copied by links and reflinks: a second machine in the same state."""

from __future__ import annotations

import secrets
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from orchestra.errors import BadImage, MachineTorn
from orchestra.io import folder
from orchestra.io.lock import try_lock, wait_lock
from orchestra.io.reflink import CloneResult, clone_file, link_file

from .record import read_record, write_record
from .store import unsealed

if TYPE_CHECKING:
    from .record import Record

__all__ = ["CloneSummary", "clone_machine"]


@dataclass(frozen=True, slots=True)
class CloneSummary:
    """A cloned folder: where, at which cycle, how its files came there, and bytes written for it.

    `methods` counts files by "link", "reflink", "copy_file_range" and "sparse".
    """

    directory: Path
    cycle: int
    methods: dict[str, int]
    copied_bytes: int


def clone_machine(
    source: Path | str,
    target: Path | str,
    *,
    durable: bool = False,
    wait_seconds: float | None = 0,
    torn: Literal["refuse", "discard"] = "refuse",
) -> CloneSummary:
    """Copy a machine that does not run, or a snapshot, to a new folder: whole or not at all.

    Layers are read-only and are linked; what is written in place is reflinked, or copied where the
    file system cannot. Raises MachineLocked, MachineTorn, FolderExists, BadImage and OSError.
    """
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise BadImage(source, "type", "no such folder", "the folder of a machine")
    lock = (
        try_lock(source, "shared")
        if wait_seconds == 0
        else wait_lock(source, "shared", wait_seconds)
    )
    with lock:
        record = read_record(source)
        if torn == "refuse" and unsealed(source, record):
            raise MachineTorn(source, f"its own, sealed at cycle {record.cycle}")
        with folder.publish(target, durable=durable) as temporary:
            results = [_copy(source, temporary, name, own=own) for name, own in _files(record)]
            new = msgspec.structs.replace(record, id=secrets.token_hex(16), parent=record.id)
            write_record(temporary, new, new=True)
    methods = Counter[str](result.method for result in results)
    copied = sum(result.copied_bytes for result in results)
    return CloneSummary(target, record.cycle, dict(methods), copied)


def _files(record: Record) -> list[tuple[str, bool]]:
    """List a folder's files besides machine.json, and whether each machine needs its own."""
    images = [(image.file, image.shared) for image in record.images]
    return images + [(name, False) for name in record.deltas]


def _copy(source: Path, target: Path, name: str, *, own: bool) -> CloneResult:
    path = folder.child(source, name)
    try:
        result = clone_file(path, target / name) if own else link_file(path, target / name)
    except FileNotFoundError as error:
        raise BadImage(path, "file", "no such file", "a file of this machine") from error
    if result.method != "link":
        (target / name).chmod(stat.S_IMODE(path.stat().st_mode))
    return result
