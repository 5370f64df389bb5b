"""Whole files copied for as little as the file system allows, never denser than they were."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from .sparse import PAGE, data_segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "CloneResult",
    "Method",
    "cannot_link",
    "clone_file",
    "clone_range",
    "import_file",
    "link_file",
]

Method = Literal["reflink", "copy_file_range", "sparse", "link"]

_FICLONE: Final = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_FICLONERANGE: Final = 0x4020940D  # linux/fs.h: _IOW(0x94, 13, struct file_clone_range)
_RANGE: Final = struct.Struct("<qQQQ")
_BLOCK_BYTES: Final = 1 << 20
_ZERO_PAGE: Final = bytes(PAGE)
_ZERO_BLOCK: Final = bytes(_BLOCK_BYTES)
_CANNOT: Final = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ETXTBSY,
    errno.EXDEV,
}
_NEVER: Final = {errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP}
_CANNOT_LINK: Final = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_without_reflink: Final[set[tuple[int, int]]] = set()  # file systems that have refused it


@dataclass(frozen=True, slots=True)
class CloneResult:
    """How a file came to be: `copied_bytes` were written, the rest is shared or a hole."""

    method: Method
    copied_bytes: int


def clone_file(source: Path | str | int, target: Path | str, mode: int = 0o666) -> CloneResult:
    """Make the new file `target` of the blocks of `source`, else of copies of what is not zero.

    `source` is a path, or a descriptor that stays the caller's: of a file that is locked, say.
    FileExistsError if `target` exists; after any other error there is none. (ioctl_ficlone(2))
    """
    result = _clone(source, target, mode, copy=True)
    assert result is not None
    return result


def import_file(source: Path | str, target: Path | str, *, link: bool) -> CloneResult:
    """Make a read-only file of `source`, that is another's: by reflink, hard link, or copy.

    With a link, which `link` allows, whoever writes to `source` writes to `target`.
    """
    if link and _filesystem_of(source) not in _without_reflink:
        result = _clone(source, target, 0o444, copy=False)
        if result is not None:
            return result
    if link:
        try:
            os.link(source, target)
        except OSError as error:
            if not cannot_link(error):
                raise
        else:
            return CloneResult("link", 0)
    return clone_file(source, target, 0o444)


def cannot_link(error: OSError) -> bool:
    """Whether a link failed such that a copy may do (EXDEV, EMLINK)."""
    return error.errno in _CANNOT_LINK


def _filesystem_of(file: Path | str | int) -> tuple[int, int]:
    """Say which file system: a device number alone may be another's, later."""
    return os.stat(file).st_dev, os.statvfs(file).f_fsid


def _clone(
    source: Path | str | int, target: Path | str, mode: int, *, copy: bool
) -> CloneResult | None:
    if isinstance(source, int):
        return _clone_open(source, target, mode, copy=copy)
    source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _clone_open(source_fd, target, mode, copy=copy)
    finally:
        os.close(source_fd)


def _clone_open(source_fd: int, target: Path | str, mode: int, *, copy: bool) -> CloneResult | None:
    target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        result = _reflink(source_fd, target_fd)
        if result is None and copy:
            result = _copy(source_fd, target_fd)
        if result is None:
            os.unlink(target)
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(target_fd)
    return result


def clone_range(
    source: Path | str, target: Path | str, start: int, length: int, to: int
) -> CloneResult:
    """Put `length` bytes of `source` from byte `start` into a file that has zeros there, at `to`.

    Less when the source ends before. Blocks are shared where the offsets allow it, too.
    """
    source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        target_fd = os.open(target, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            end = min(start + length, os.fstat(source_fd).st_size)
            whole = max(end - start, 0) // PAGE * PAGE  # the rest of a page cannot be shared
            done = _reflink_range(source_fd, target_fd, start, whole, to)
            rest = start + whole if done else start
            copied = _copy_range(source_fd, target_fd, rest, end, to - start)
            return CloneResult(done, copied.copied_bytes) if done else copied
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def link_file(source: Path | str, target: Path | str) -> CloneResult:
    """Give `source` another name, `target`; a copy where that cannot be (EXDEV, EMLINK)."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if not cannot_link(error):
            raise
        return clone_file(source, target)
    return CloneResult("link", 0)


def _reflink(source: int, target: int) -> CloneResult | None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NEVER:  # not only this file, or from there
            _without_reflink.add(_filesystem_of(target))
        if error.errno in _CANNOT:
            return None
        raise
    return CloneResult("reflink", 0)


def _reflink_range(source: int, target: int, start: int, length: int, to: int) -> Method | None:
    if not length:
        return None
    try:
        fcntl.ioctl(target, _FICLONERANGE, _RANGE.pack(source, start, length, to))
    except OSError as error:
        if error.errno in _CANNOT:
            return None
        raise
    return "reflink"


def _copy(source: int, target: int) -> CloneResult:
    end = os.fstat(source).st_size
    os.ftruncate(target, end)
    return _copy_range(source, target, 0, end, 0)


def _copy_range(source: int, target: int, start: int, end: int, shift: int) -> CloneResult:
    """Copy what is not zero from `start` to `end`, to places `shift` bytes further."""
    method: Method = "copy_file_range"
    copied = 0
    for offset, run in _nonzero_runs(source, start, end):
        if method == "copy_file_range" and not _copy_in_kernel(
            source, target, offset, len(run), shift
        ):
            method = "sparse"
        if method == "sparse":
            _write(target, offset + shift, run)
        copied += len(run)
    return CloneResult(method, copied)


def _nonzero_runs(fd: int, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset, bytes) of stretches of pages that are not zero, none longer than a block."""
    for low, high in data_segments(fd):
        stop = min(high, end)
        for offset in range(max(low, start), stop, _BLOCK_BYTES):
            block = os.pread(fd, min(_BLOCK_BYTES, stop - offset), offset)
            for first, last in _runs(block):
                yield offset + first, memoryview(block)[first:last]


def _runs(block: bytes) -> Iterator[tuple[int, int]]:
    if block == _ZERO_BLOCK:
        return
    first = None
    for position in range(0, len(block), PAGE):
        page = block[position : position + PAGE]
        zero = page == _ZERO_PAGE or not any(page)
        if zero and first is not None:
            yield first, position
            first = None
        elif not zero and first is None:
            first = position
    if first is not None:
        yield first, len(block)


def _copy_in_kernel(source: int, target: int, offset: int, length: int, shift: int) -> bool:
    while length:
        try:
            done = os.copy_file_range(source, target, length, offset, offset + shift)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        if done == 0:
            return False
        offset, length = offset + done, length - done
    return True


def _write(target: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(target, data, offset)
        offset, data = offset + written, data[written:]
