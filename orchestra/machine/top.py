"""The open top of a backing machine: where its new pages go, and what a dead writer leaves to say.

The file `top` is there while a machine runs in its folder. Its first page names the last snapshots
that were published of it, for the folder itself is as it was when it was opened until it is closed.
The first MiB of new pages stays in memory: storing writes it faster than the file system maps it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from orchestra.errors import BadImage
from orchestra.io.arena import Arena
from orchestra.io.entry import AT_CWD, exists, read_head, replace
from orchestra.io.folder import sync, temporary_name
from orchestra.io.reflink import cannot_link

from ._core import PAGE_BYTES
from .record import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOP", "Note", "Published", "Top", "read_note"]

TOP = "top"
ANONYMOUS_BYTES = 1 << 20


class Published(NamedTuple):
    """A snapshot: its path, the id of its record, and its cycle."""

    path: str
    id: str
    cycle: int


class Note(msgspec.Struct):
    """What the first page of a top says: which record it goes on from, and the last snapshots.

    The `base` of one that says nothing, for its writer died early, is "". `folder` is where it was.
    One that is a record already (see Top.settle) goes on from its `parent`.
    """

    base: str | None = ""
    parent: str | msgspec.UnsetType | None = msgspec.UNSET
    published: list[Published] = []
    folder: str = ""


class Top:
    """A top that is open; its arena is the core's.

    With `reserve`, bytes of pages, it is in its file from the first page on.
    """

    def __init__(
        self,
        folder: str,
        home: int,
        base: str,
        reserve: int,
        *,
        name: str = TOP,
        published: Sequence[Published] = (),
    ) -> None:
        self.path = f"{folder}/{name}"
        self._home = home  # the folder's descriptor
        self.arena = Arena.on_file(
            self.path,
            folder=home,
            first_offset=PAGE_BYTES,
            anonymous_bytes=0 if reserve else ANONYMOUS_BYTES,
        )
        self._fd = self.arena.fileno()
        self._is_blank = True  # nothing was ever written to its file
        self._is_durable = False  # its name
        self._note = Note(base, published=list(published), folder=folder)
        self._reserve, self._reserved = reserve, False

    @property
    def published(self) -> list[Published]:
        """The last snapshots, the newest last."""
        return self._note.published

    def announce(self, snapshot: Published, *, durable: bool) -> None:
        """Say where the machine is about to be published; the one before still counts."""
        self._note.published = [*self._note.published[-1:], snapshot]
        self.note(durable=durable)

    def note(self, *, durable: bool) -> None:
        """Write what there is to know; until then, who finds the top knows no more than that."""
        note = _encode(self._note)
        if len(note) >= PAGE_BYTES:  # of paths that are that long, only the newest
            note = _encode(msgspec.structs.replace(self._note, published=self.published[-1:]))
        self._is_blank = False
        if len(note) < PAGE_BYTES:
            os.pwrite(self._fd, note + b"\0", 0)
        if durable:
            os.fsync(self._fd)
            if not self._is_durable:
                sync(Path(self.path).parent)
                self._is_durable = True

    def reserve(self) -> None:
        """Allocate what is to be reserved, once; OSError ENOSPC."""
        if self._reserve and not self._reserved:
            self.arena.reserve(self._reserve + _index_room(self._reserve))
            self._reserved = True

    def become(self, delta: str, length: int, head: bytes, tail: bytes, *, durable: bool) -> Top:
        """Make a delta of it, in the same folder, with `length` bytes of pages; gives the next top.

        That one takes its place first, so that at any time there is a note to be found. When it
        fails (OSError), all is as before.
        """
        note, place = self._note, f"{self._note.folder}/{delta}"
        name = temporary_name(TOP)
        after = Top(
            *(note.folder, self._home, note.base or "", self._reserve),
            name=name,
            published=note.published,
        )
        try:
            if note.published:
                after.note(durable=durable)
            with suppress(FileNotFoundError):  # of a writer that was killed
                os.unlink(place)
            self._name_also(place)
            try:
                os.rename(after.path, self.path)
                if durable:
                    sync(Path(note.folder))
                self.arena.finish(length, head, tail)
                if durable:
                    self.arena.sync()
            except BaseException:
                self._take_back(place)
                raise
        except BaseException:
            after.close()
            raise
        self.arena.call(place)
        after.path = self.path
        after.arena.call(after.path)
        return after

    def _name_also(self, place: str) -> None:
        try:
            os.link(self.path, place)
        except OSError as error:
            if not cannot_link(error):
                raise
            os.rename(self.path, place)

    def _take_back(self, place: str) -> None:
        os.rename(place, self.path)
        with suppress(FileNotFoundError):  # nothing was renamed, if both were names of one file
            os.unlink(place)
        self.arena.resume()
        self.note(durable=False)

    def settle(self, record: bytes, name: str, parent: str | None) -> bool:
        """Make its file the folder's record, called `name`, in the place of the one there.

        That spares the file system a file. Only where nothing is in it nor had to be, so that what
        a killed process leaves says as much as a blank top; False where that is not so.
        """
        if not self._is_blank or self._reserve or parent != self._note.base:
            return False
        if self.arena.spilled:
            return False
        self._is_blank = False
        self.arena.write_file(0, record)
        replace(self._home, TOP, name)
        return True

    def close(self) -> None:
        """Take the file away; the arena lives on as long as something points into it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def _index_room(length: int) -> int:
    """Say how much a delta has behind this many bytes of pages, at most."""
    return PAGE_BYTES + -(-length // PAGE_BYTES) * 12


def _encode(note: Note) -> bytes:
    try:
        return msgspec.json.encode(note)
    except UnicodeEncodeError:  # a path that is no UTF-8
        return json.dumps(msgspec.to_builtins(note)).encode()


def read_note(folder: str, fd: int | None) -> Note | None:
    """Read what the top of a folder, perhaps open as `fd`, says; None when there is none."""
    path = f"{folder}/{TOP}"
    if fd is not None and not exists(fd, TOP):  # as nearly always
        return None
    try:
        head = read_head(*((AT_CWD, path) if fd is None else (fd, TOP)), path, MAX_BYTES)
        note = msgspec.convert(json.loads(head.split(b"\0")[0]), Note)
        if note.parent is not msgspec.UNSET:
            return Note(note.parent)
    except FileNotFoundError:
        return None
    except (BadImage, msgspec.MsgspecError, OSError, ValueError, RecursionError):
        return Note()
    paths = [note.folder, *(snapshot.path for snapshot in note.published)]
    return Note() if any("\0" in path for path in paths) else note
