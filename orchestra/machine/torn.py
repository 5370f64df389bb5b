"""Folders whose writer died while it ran in them, and how they go back to the last good state.

That is the last snapshot that was published of the machine, if it is still there; else what the
folder was when it was last closed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from orchestra.errors import BadImage, MachineTorn
from orchestra.io import folder as io_folder
from orchestra.io.entry import AT_CWD, identity_of, link_new, read_head
from orchestra.io.lock import try_lock
from orchestra.io.reflink import cannot_link, clone_file

from ._core import PAGE_BYTES
from .layout import plan_layout
from .record import encode_record, read_record, replace_record
from .top import TOP, read_note

if TYPE_CHECKING:
    from collections.abc import Collection

    from orchestra.io.lock import Lock

    from .record import Record
    from .top import Note, Published

__all__ = ["is_torn", "settle_torn", "sweep"]


def is_torn(folder: str, record: Record, fd: int | None = None) -> bool:
    """Whether a writer died in a folder, perhaps open as `fd`, before it had sealed what it did."""
    note = read_note(folder, fd)
    return note is not None and note.base in ("", record.id)


def settle_torn(
    folder: str, fd: int, record: Record, torn: Literal["refuse", "discard"], *, writing: bool
) -> Record:
    """Raise MachineTorn when a writer died in a folder that is open as `fd`, and locked.

    With `torn="discard"` a folder that we are to write in goes back to its last good state, whose
    record is returned; one that we only read is taken as it was last closed. MachineLocked while
    somebody runs in the snapshot that it would go back to.
    """
    note = read_note(folder, fd)
    if note is None:
        return record
    if note.base in ("", record.id):
        drives = [item.name for item in plan_layout(record.config).memory if item.in_place]
        if drives:  # written in place since the seal
            lost = f"none here, for what was stored in its drive {drives[0]} cannot be undone"
            snapshot, _ = _last_published(folder, note, keep=False)
            last = "a snapshot that was made before"
            if snapshot is not None:
                last = f"the snapshot {snapshot.path}, at cycle {snapshot.cycle},"
            raise MachineTorn(folder, lost, f"open {last} instead, and delete this folder")
        snapshot, lock = _last_published(folder, note, keep=writing and torn == "discard")
        try:
            if torn == "refuse":
                raise MachineTorn(folder, _describe(snapshot, record))
            if writing and snapshot is not None:
                record = _adopt(folder, fd, record, snapshot)
        finally:
            if lock is not None:
                lock.close()
    if writing:
        sweep(folder, fd, record.deltas)
        os.unlink(TOP, dir_fd=fd)
    return record


def sweep(folder: str, fd: int, deltas: Collection[str]) -> None:
    """Delete all deltas of an open folder but these, and what dead processes left half-built."""
    io_folder.sweep(folder)
    for name in os.listdir(fd):
        if name.endswith(".delta") and name not in deltas:
            os.unlink(name, dir_fd=fd)


def _last_published(folder: str, note: Note, *, keep: bool) -> tuple[Published | None, Lock | None]:
    """Find the newest snapshot that is as it was published; `keep` it so by a lock, if one can.

    It is where it was, or still as far from the machine's folder as it was. MachineLocked when
    somebody runs in it: an older one is not the last good state.
    """
    for snapshot in reversed(note.published):
        way = os.path.relpath(snapshot.path, note.folder)
        for path in (snapshot.path, os.path.normpath(os.path.join(folder, way))):
            with suppress(OSError, BadImage):
                if read_record(path).id != snapshot.id:
                    continue
                found = snapshot._replace(path=path)
                if not keep:
                    return found, None
                lock = try_lock(path, "shared")
                if read_record(path, lock.fileno()).id == snapshot.id:
                    return found, lock
                lock.close()
    return None, None


def _describe(snapshot: Published | None, record: Record) -> str:
    if snapshot is None:
        return f"its own, sealed at cycle {record.cycle}"
    return f"the snapshot {snapshot.path}, at cycle {snapshot.cycle}"


def _is_same(source: str, target: str) -> bool:
    """Whether two deltas are one file, or copies: their first pages have digests of the rest."""
    if identity_of(source)[:2] == identity_of(target)[:2]:
        return True
    pages = [read_head(AT_CWD, path, path, PAGE_BYTES) for path in (source, target)]
    return pages[0] == pages[1]


def _adopt(folder: str, fd: int, record: Record, snapshot: Published) -> Record:
    """Bring a folder to the state of a snapshot of it: link its deltas, then replace the record."""
    newer = read_record(snapshot.path)
    for name in newer.deltas:
        source, target = f"{snapshot.path}/{name}", f"{folder}/{name}"
        if os.path.lexists(target):
            if _is_same(source, target):
                continue
            if name in record.deltas:  # the folder was compacted since: nobody's but ours
                return record
            os.unlink(target)
        try:
            link_new(source, fd, name)
        except OSError as error:
            if not cannot_link(error):
                raise
            clone_file(source, target, 0o444)
    replace_record(fd, encode_record(newer))
    return newer
