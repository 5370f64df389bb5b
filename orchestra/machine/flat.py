"""Flat ranges: memory that is a whole file at identity offsets, stored to in place or never."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestra.errors import BadImage
from orchestra.io import folder
from orchestra.io.entry import identity_of
from orchestra.io.lock import try_lock
from orchestra.io.mapping import map_file
from orchestra.io.reflink import clone_file
from orchestra.io.sparse import write_at

from ._core import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestra.io.lock import Lock
    from orchestra.io.mapping import Mapping
    from orchestra.io.reflink import CloneResult

    from ._core import Core
    from .layout import Range

__all__ = ["Flat", "map_flat"]

_OTHER_NAMES: Final = "a file with no other name, since it is written in place"


@dataclass(slots=True, eq=False)
class Flat:
    """A `shared` drive's file: locked, and mapped as the range that it is.

    When it is not `in_place` the machine's stores go to its own memory; `dirty` are the pages that
    differ from the file, as far as they were taken from the machine.
    """

    name: str
    length: int
    lock: Lock
    pages: range
    in_place: bool
    dirty: set[int] = field(default_factory=set)

    def fork(self) -> Flat:
        """Return that of a machine that goes on from the same state."""
        return Flat(self.name, self.length, self.lock, self.pages, False, self.dirty.copy())

    def take(self, changed: Iterable[int]) -> None:
        """Remember those of the changed pages that are in it."""
        self.dirty.update(page for page in changed if page in self.pages)

    def copy_to(self, target: str, core: Core) -> CloneResult:
        """Make a file of what the range holds now: a copy of the locked file, then what differs."""
        result = clone_file(self.lock.fileno(), target)
        if self.dirty:
            write_at(target, self.changes(core))
        return result

    def sync(self) -> None:
        """Bring what was stored in place to the disk."""
        if self.in_place:
            folder.sync(self.lock.fileno())

    def changes(self, core: Core) -> Iterable[tuple[int, bytes]]:
        """Yield (offset in the file, bytes) of the dirty pages, in order."""
        for page in sorted(self.dirty):
            offset = (page - self.pages.start) * PAGE_BYTES
            length = min(PAGE_BYTES, self.length - offset)
            data = core.read(page * PAGE_BYTES, length, virtual=False)
            assert isinstance(data, bytes)
            yield offset, data


def map_flat(
    path: Path, name: str, place: Range, length: int, *, ours: bool
) -> tuple[Flat, Mapping]:
    """Lock a drive's file and map it; `ours` says that stores may go to the file itself.

    A file that is stored to is locked exclusively and mapped shared; any other is locked shared,
    opened for reading, and mapped for reading. Raises MachineLocked and BadImage.
    """
    in_place = ours and place.writable
    try:
        lock = try_lock(path, "exclusive" if in_place else "shared")
    except FileNotFoundError as error:
        raise BadImage(path, "file", error.strerror, "the file of a shared drive") from error
    try:
        mapping = _map_locked(path, lock, length, in_place=in_place)
    except BaseException:
        lock.close()
        raise
    pages = range(place.start // PAGE_BYTES, place.end // PAGE_BYTES)
    return Flat(name, length, lock, pages, in_place), mapping


def _map_locked(path: Path, lock: Lock, length: int, *, in_place: bool) -> Mapping:
    if in_place and lock.links != 1:
        raise BadImage(path, "links", lock.links, _OTHER_NAMES)
    mapping = map_file(path, mode="shared" if in_place else "read", expected_length=length)
    if identity_of(path)[:2] == lock.inode:
        return mapping
    mapping.close()
    raise BadImage(path, "file", "another one than a moment ago", "the file that is locked")
