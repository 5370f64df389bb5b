"""One name in a folder: a file opened, made whole, linked or replaced, and which file it is."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from orchestra.errors import BadImage

from ._os import (
    FileFacts,
    create_entry,
    exists,
    link_all,
    link_new,
    open_entry,
    open_head,
    replace,
    write_entry,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "FileFacts",
    "Identity",
    "check_writable",
    "create_file",
    "exists",
    "facts_of",
    "identity_of",
    "link_all",
    "link_new",
    "open_and_read",
    "open_file",
    "put_in_place",
    "read_file",
    "read_head",
    "replace",
    "write_new",
]

Identity: TypeAlias = tuple[int, int, int, int]

AT_CWD: Final = -100  # for a folder's descriptor: names are paths (openat(2), AT_FDCWD)
STAT_BLOCK_BYTES: Final = 512  # what st_blocks counts, on every file system (stat(2))
FIRST_BYTES: Final = 4096  # of a file that is read whole
_NO_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}


def identity_of(file: Path | str | int) -> Identity:
    """Say which file has this name or descriptor: device, inode, length and time of last change.

    The last two because a new file often gets the inode of one that was deleted.
    """
    if isinstance(file, int):
        return facts_of(file).identity
    status = os.lstat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def facts_of(fd: int) -> FileFacts:
    """Say what a descriptor opened."""
    status = os.fstat(fd)
    length, allocated = status.st_size, status.st_blocks * STAT_BLOCK_BYTES
    inode, device = status.st_ino, status.st_dev
    return FileFacts(device, inode, length, allocated, status.st_mtime_ns, status.st_mode)


def check_writable(folder: int, path: str) -> None:
    """Raise OSError EROFS or EACCES unless names can be made in an open folder."""
    if not os.access(".", os.W_OK, dir_fd=folder):
        read_only = os.fstatvfs(folder).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), path)


def open_file(
    folder: int, name: str, path: str, *, writable: bool = False
) -> tuple[int, FileFacts]:
    """Open the regular file `name` of an open folder; `path` is what errors call it.

    Never waits for the other end of a pipe. Raises BadImage for anything else, also for a symlink,
    and FileNotFoundError.
    """
    try:
        fd, facts = open_entry(folder, name, writable=writable)
    except OSError as error:
        raise translated(error, path) from None
    _refuse_irregular(fd, facts, path)
    return fd, facts


def create_file(folder: int, name: str, path: str) -> tuple[int, FileFacts]:
    """Make the empty file `name` in an open folder, open for both; or FileExistsError."""
    try:
        return create_entry(folder, name, 0o666)
    except OSError as error:
        error.filename = path
        raise


def open_and_read(folder: int, name: str, path: str, length: int) -> tuple[int, FileFacts, bytes]:
    """Do what open_file does, and read the first bytes, up to `length`."""
    try:
        fd, facts, head = open_head(folder, name, length)
    except OSError as error:
        raise translated(error, path) from None
    _refuse_irregular(fd, facts, path)
    return fd, facts, head


def translated(error: OSError, path: str) -> Exception:
    """Say what opening a file of a folder was refused for."""
    if error.errno == errno.ELOOP:
        return BadImage(path, "type", "a symlink", "a regular file in this folder")
    if error.errno in _NO_FILE:
        return FileNotFoundError(error.errno, os.strerror(error.errno), path)
    error.filename = path
    return error


def irregular(facts: FileFacts, path: str) -> BadImage | None:
    """Say so when something is no regular file."""
    if facts.mode & 0o170000 == stat.S_IFREG:
        return None
    return BadImage(path, "type", stat.filemode(facts.mode), "a regular file in this folder")


def _refuse_irregular(fd: int, facts: FileFacts, path: str) -> None:
    error = irregular(facts, path)
    if error is not None:
        os.close(fd)
        raise error


def read_file(folder: int, name: str, path: str, most_bytes: int) -> bytes:
    """Read a whole file of an open folder; BadImage when it is longer than `most_bytes`."""
    fd, facts, head = open_and_read(folder, name, path, FIRST_BYTES)
    try:
        if facts.length <= len(head):
            return head
        if facts.length > most_bytes:
            raise BadImage(path, "length", facts.length, f"at most {most_bytes} bytes")
        return os.pread(fd, facts.length, 0)
    finally:
        os.close(fd)


def read_head(folder: int, name: str, path: str, length: int) -> bytes:
    """Read the first bytes of a file of an open folder."""
    fd, _, head = open_and_read(folder, name, path, length)
    os.close(fd)
    return head


def write_new(
    folder: int, name: str, parts: Sequence[bytes | bytearray], mode: int = 0o666
) -> Identity:
    """Write a new file of up to three parts, all of them or none of it, in an open folder.

    FileExistsError when there is one already.
    """
    return write_entry(folder, name, parts, mode)


def put_in_place(folder: int, new: str, name: str, *, durable: bool) -> None:
    """Give the file `new` of an open folder the name `name`, in one step; when it fails it goes.

    `durable` syncs it before, and the folder after that.
    """
    try:
        if durable:
            _sync_entry(folder, new)
        replace(folder, new, name)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        raise
    if durable:
        os.fsync(folder)


def _sync_entry(folder: int, name: str) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
