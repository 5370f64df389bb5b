"""A file, or a part of one, mapped into memory and known to the fault handler."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from orchestra.errors import BackingFault, BadImage, MachineClosed

from . import fault
from ._os import Fault, FileFacts, NativeMap, check_pid, copy_guarded, path_of
from .entry import AT_CWD, facts_of, open_file
from .sparse import PAGE, data_segments

__all__ = ["Mapping", "Mode", "map_file", "map_open", "segments_of"]

FILES_KNOWN: Final = 256
Segments: TypeAlias = tuple[tuple[int, int], ...]  # (start, end) of what is no hole
_segments: Final[dict[FileFacts, Segments]] = {}  # of files as they were then

Mode = Literal["read", "private", "shared"]


class Mapping:
    """Mapped bytes of a file, until closed; made by map_file or map_layers.

    `address` is where the byte at `offset` of the file at `path` is, `length` the number of bytes.
    A shared mapping belongs to the process that made it: in a fork, MachineForked is raised.
    """

    def __init__(
        self,
        path: str,
        facts: FileFacts,
        mapped: NativeMap,
        owner: int,
        *,
        offset: int = 0,
        length: int,
        mode: Mode = "read",
        segments: Segments | None = None,
    ) -> None:
        self._path, self.offset, self.length, self.mode = path, offset, length, mode
        self.facts, self._segments = facts, segments
        self._map: NativeMap | None = mapped
        self._pid = os.getpid() if mode == "shared" else 0
        self._owner = owner
        fault.register(owner, fault.Backing(path, facts.device, facts.inode, mode == "shared", -1))

    @property
    def path(self) -> Path:
        """The file, as it was called when it was mapped."""
        return Path(self._path)

    @property
    def address(self) -> int:
        """Host address of the first byte; MachineClosed after close, MachineForked in a fork."""
        if self._map is None:
            raise MachineClosed(f"the mapping of {self._path} is closed")
        if self.mode == "shared":
            check_pid(self._pid)
        return self._map.address

    @property
    def writable(self) -> bool:
        """Whether its memory may be stored to (in a private mapping the file never sees it)."""
        return self.mode != "read"

    def populated(self, start: int, length: int) -> list[tuple[int, int]]:
        """List the runs of pages (byte of the mapping, length) in a part that are not holes.

        As it was when the file was mapped, and everything for a mapping that may be written.
        """
        if self._segments is None:
            return [(start, length)]
        runs: list[tuple[int, int]] = []
        for low, high in self._segments:
            first = max(low - self.offset, start) & -PAGE
            last = min(-(-(high - self.offset) // PAGE) * PAGE, start + length)
            if runs and first < sum(runs[-1]):  # blocks may be smaller than pages
                first = sum(runs[-1])
            if first < last:
                runs.append((first, last - first))
        return runs

    def read(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes from byte `offset` on; BackingFault when they cannot be read."""
        address = self._within(offset, length)
        buffer = bytearray(length)
        if length:
            self._raise(copy_guarded(buffer, address, into_memory=False))
        return bytes(buffer)

    def write(self, offset: int, data: bytes) -> None:
        """Copy `data` to byte `offset` and on; BackingFault when it cannot be written."""
        address = self._within(offset, len(data))
        if not self.writable:
            raise PermissionError(f"{self._path} is mapped for reading only")
        if data:
            self._raise(copy_guarded(data, address, into_memory=True))

    def close(self) -> None:
        """Unmap; closing twice is fine. Nobody may use the addresses any more."""
        mapped, self._map = self._map, None
        if mapped is None:
            return
        if self.mode == "shared" and os.getpid() != self._pid:
            mapped.forget()
        else:
            mapped.unmap()
        fault.forget(self._owner)

    def _within(self, offset: int, length: int) -> int:
        if offset < 0 or length < 0 or offset + length > self.length:
            raise IndexError(f"bytes {offset}..{offset + length} of {self.length} mapped bytes")
        return self.address + offset

    def _raise(self, found: Fault | None) -> None:
        if found is not None:
            error: BackingFault = fault.as_error(found)
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            self.close()

    def __repr__(self) -> str:
        end = self.offset + self.length
        return f"<Mapping {self.mode} {self._path!r} {self.offset:#x}..{end:#x}>"


def segments_of(fd: int, facts: FileFacts) -> Segments:
    """List where a file has data; asking takes long where a file system looks at every page."""
    found = _segments.get(facts)
    if found is None:
        found = tuple(data_segments(fd))
        if len(_segments) >= FILES_KNOWN:
            _segments.clear()
        _segments[facts] = found
    return found


def map_file(
    file: Path | str | int,
    *,
    offset: int = 0,
    length: int | None = None,
    mode: Mode = "read",
    expected_length: int | None = None,
) -> Mapping:
    """Map `length` bytes (None: the rest) of a regular file from byte `offset`.

    `file` is a path, whose last symlink is not followed, or a descriptor that stays the caller's.
    Mode "read" sees what others write, "private" keeps its stores, "shared" stores to the file.
    Raises BadImage when the file is too short, or its whole length is not `expected_length` bytes.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"offset {offset} and length {length} must not be negative")
    if isinstance(file, int):
        path, facts = str(path_of(file)), facts_of(file)
        if not stat.S_ISREG(facts.mode):
            raise BadImage(path, "type", stat.filemode(facts.mode), "a regular file")
        return _map(file, path, facts, offset, length, mode, expected_length)
    path = os.fspath(file)
    fd, facts = open_file(AT_CWD, path, path, writable=mode == "shared")
    try:
        return _map(fd, path, facts, offset, length, mode, expected_length)
    finally:
        os.close(fd)


def _map(
    fd: int,
    path: str,
    facts: FileFacts,
    offset: int,
    length: int | None,
    mode: Mode,
    expected_length: int | None,
) -> Mapping:
    size = facts.length
    if expected_length is not None and size != expected_length:
        raise BadImage(path, "length", size, f"{expected_length} bytes")
    wanted = max(size - offset, 1) if length is None else length
    if size < offset + wanted or wanted == 0:
        raise BadImage(path, "length", size, f"at least {offset + max(wanted, 1)} bytes")
    sparse = mode == "read" and facts.allocated < facts.length
    segments = segments_of(fd, facts) if sparse else None
    return map_open(fd, path, facts, offset=offset, length=wanted, mode=mode, segments=segments)


def map_open(
    fd: int,
    path: str,
    facts: FileFacts,
    *,
    offset: int = 0,
    length: int | None = None,
    mode: Mode = "read",
    segments: Segments | None = None,
) -> Mapping:
    """Map an open file, without asking anything."""
    length = facts.length if length is None else length
    owner = fault.new_owner()
    try:
        mapped = NativeMap.of_file(fd, offset, length, mode, owner)
    except OSError as error:
        error.filename = path
        raise
    return Mapping(
        *(path, facts, mapped, owner), offset=offset, length=length, mode=mode, segments=segments
    )
