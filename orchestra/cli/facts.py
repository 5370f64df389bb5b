"""What can be said of a machine's folder without opening it, even while it runs or is torn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from orchestra.errors import BadImage
from orchestra.io import folder
from orchestra.io._holder import describe
from orchestra.io.sparse import allocated_bytes
from orchestra.machine.config import to_json
from orchestra.machine.delta import HEADER
from orchestra.machine.layout import Layout, plan_layout
from orchestra.machine.record import NAME, Record, read_record
from orchestra.machine.top import TOP
from orchestra.machine.torn import is_torn

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Facts", "FileFacts", "look_at"]

ENTRIES = 3  # which field of a delta's header counts its pages


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of the folder; `pages` are those of a delta."""

    name: str
    logical_bytes: int
    allocated_bytes: int
    links: int
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """A machine's folder: its record, its files, and who uses it."""

    directory: Path
    record: Record
    layout: Layout
    files: tuple[FileFacts, ...]
    holder: str | None
    unsealed: bool  # it holds more than the record tells of

    @property
    def torn(self) -> bool:
        """Whether a writer died in it; whoever runs in it now is still alive."""
        return self.holder is None and self.unsealed

    @property
    def condition(self) -> str:
        """Say in a few words whether it can be used."""
        if self.holder:
            return f"in use by {self.holder}"
        return (
            "torn: its writer died; --discard-torn goes back to its seal" if self.torn else "sealed"
        )

    @property
    def logical_bytes(self) -> int:
        """The lengths of all files."""
        return sum(item.logical_bytes for item in self.files)

    @property
    def allocated_bytes(self) -> int:
        """What they occupy, with what they share with other folders."""
        return sum(item.allocated_bytes for item in self.files)

    @property
    def own_bytes(self) -> int:
        """What they occupy that no other folder links."""
        return sum(item.allocated_bytes for item in self.files if item.links == 1)

    def as_json(self) -> dict[str, Any]:
        """Say all of it."""
        record = self.record
        return {
            "directory": str(self.directory),
            "id": record.id,
            "parent": record.parent,
            "cycle": record.cycle,
            "reproducible": record.reproducible,
            "torn": self.torn,
            "locked_by": self.holder,
            "config": msgspec.json.decode(to_json(record.config)),
            "ranges": [
                {"name": item.name, "start": item.start, "length": item.length, "kind": item.kind}
                for item in self.layout.ranges
            ],
            "images": [image.file for image in record.images],
            "deltas": list(record.deltas),
            "files": [
                {name: getattr(item, name) for name in FileFacts.__slots__} for item in self.files
            ],
            "bytes": {
                "logical": self.logical_bytes,
                "allocated": self.allocated_bytes,
                "own": self.own_bytes,
            },
        }


def look_at(directory: Path) -> Facts:
    """Read a folder's record and sizes, without a lock; BadImage when it is no machine's."""
    if not directory.is_dir():
        raise BadImage(directory, "type", "no such folder", "the folder of a machine")
    record = read_record(directory)
    names = [NAME, *(image.file for image in record.images), *record.deltas]
    left = [TOP] if is_torn(str(directory), record) else []
    names += left
    files = tuple(_file(directory, name, is_delta=name in record.deltas) for name in names)
    layout = plan_layout(record.config)
    return Facts(directory, record, layout, files, _holder(directory), bool(left))


def _file(directory: Path, name: str, *, is_delta: bool) -> FileFacts:
    path = folder.child(directory, name)
    try:
        status = path.stat()
        pages = _pages(path) if is_delta else None
        return FileFacts(name, status.st_size, allocated_bytes(path), status.st_nlink, pages)
    except FileNotFoundError as error:
        raise BadImage(path, "file", "no such file", "a file of this machine") from error


def _pages(path: Path) -> int | None:
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    return int(HEADER.unpack(header)[ENTRIES]) if len(header) == HEADER.size else None


def _holder(directory: Path) -> str | None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        return describe(fd)
    finally:
        os.close(fd)
