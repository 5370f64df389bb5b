"""An initramfs as bytes: a deterministic newc cpio writer, which needs no root for device nodes."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Archive"]

ALIGNMENT: Final = 4  # Documentation/driver-api/early-userspace/buffer-format.rst
BLOCK_LENGTH: Final = 512  # archives are whole blocks by custom
TRAILER: Final = "TRAILER!!!"
MAX_LENGTH: Final = (1 << 32) - 1  # of one file


@dataclass(frozen=True)
class _Entry:
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    implied: bool = False  # a folder that nobody added, only things in it


class Archive:
    """Folders, files, symlinks and device nodes, all owned by root and from 1970-01-01.

    Paths are relative, like "sbin/init"; folders above them are made, with mode 0755, where they
    are not given. ValueError: a path that is taken, leads out, or is below what is not a folder.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder, before or after what is in it."""
        known = self._entries.get(path)
        if known is not None and known.implied:
            del self._entries[path]
        self._add(path, _Entry(stat.S_IFDIR | mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file; mode 0o755 makes it executable."""
        if len(data) > MAX_LENGTH:
            raise ValueError(f"{path!r}: {len(data)} bytes, the format holds {MAX_LENGTH}")
        self._add(path, _Entry(stat.S_IFREG | mode, data))

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link; the guest resolves its target."""
        if not target or "\0" in target:
            raise ValueError(f"{path!r}: {target!r} is no target of a symlink")
        self._add(path, _Entry(stat.S_IFLNK | 0o777, _encoded(target)))

    def device(
        self, path: str, kind: Literal["char", "block"], major: int, minor: int, mode: int = 0o600
    ) -> None:
        """Add a device node."""
        bits = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}[kind]
        self._add(path, _Entry(bits | mode, device=(major, minor)))

    def to_bytes(self) -> bytes:
        """Return the archive, sorted by path: the same content gives the same bytes."""
        output = bytearray()
        ordered = sorted((_encoded(path), entry) for path, entry in self._entries.items())
        for number, (path, entry) in enumerate(ordered, start=1):
            _write(output, number, path, entry)
        _write(output, 0, TRAILER.encode(), _Entry(0))
        return bytes(output) + bytes(-len(output) % BLOCK_LENGTH)

    def _add(self, path: str, entry: _Entry) -> None:
        parts = path.split("/")
        if "\0" in path or path == TRAILER or not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"{path!r} is no relative path of an entry")
        if path in self._entries:
            raise ValueError(f"{path!r} is in the archive already")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            implied = _Entry(stat.S_IFDIR | 0o755, implied=True)
            if not stat.S_ISDIR(self._entries.setdefault(above, implied).mode):
                raise ValueError(f"{path!r}: {above!r} is not a folder")
        self._entries[path] = entry


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _write(output: bytearray, number: int, path: bytes, entry: _Entry) -> None:
    """Append header, path and data; fields are eight hexadecimal digits each, after the magic."""
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        *(number, entry.mode, 0, 0, links, 0, len(entry.data)),  # ino mode uid gid nlink mtime size
        *(0, 0, *entry.device, len(path) + 1, 0),  # dev, rdev, length of the path, no checksum
    )
    output += b"070701" + b"".join(b"%08X" % field for field in fields) + path + b"\0"
    output += bytes(-len(output) % ALIGNMENT)
    output += entry.data
    output += bytes(-len(output) % ALIGNMENT)
