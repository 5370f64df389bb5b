"""Folders and files that appear whole or not at all, and names that cannot lead out of a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestra.errors import BadImage, FolderExists

from ._os import rename_new
from .lock import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Identity",
    "child",
    "identity_of",
    "link_over",
    "located",
    "publish",
    "remove",
    "replace_file",
    "sweep",
    "sync",
    "sync_tree",
    "temporary",
    "write_new",
]

Identity = tuple[int, int, int, int]

_TEMPORARY: Final = re.compile(r"\..+\.(\d+)-\d+\.tmp", re.DOTALL)
_NO_RENAME_NEW: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_KINDS: Final = {
    stat.S_IFLNK: "a symlink",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_numbers = itertools.count()
_swept: set[str] = set()


@contextlib.contextmanager
def publish(target: Path | str, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary folder to build in; at the end it appears as `target`, or nothing does.

    Raises FolderExists when `target` exists, before or after; nothing is ever replaced. `durable`
    syncs files, folders and the parent. What dead processes left half-built is swept.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise FolderExists(target)
    _sweep_once(target.parent)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        mark = _mark_in_use(temporary)
        try:
            yield temporary
            if durable:
                sync_tree(temporary)
        finally:
            _unmark(mark)
        _rename_new(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if durable:
        sync(target.parent)


def replace_file(path: Path | str, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to the file at `path`, such that a reader sees all old or all new."""
    path = Path(path)
    temporary = _temporary_name(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
            temporary.replace(path)
        finally:
            os.close(fd)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_new(path: Path | str, parts: Sequence[bytes | bytearray], mode: int = 0o666) -> Identity:
    """Write a new file of these parts, all of them; FileExistsError when there is one already."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        views = [memoryview(part) for part in parts if part]
        while views:
            written = os.writev(fd, views)
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return _identity(status)


def identity_of(file: Path | str | int) -> Identity:
    """Say which file has this name or descriptor: device, inode, length and time of last change.

    The last two because a new file often gets the inode of one that was deleted.
    """
    return _identity(os.fstat(file) if isinstance(file, int) else os.lstat(file))


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def link_over(source: Path, target: Path) -> bool:
    """Put a hard link to `source` in the place of `target`, in one step; False where it cannot."""
    temporary = _temporary_name(target)
    try:
        os.link(source, temporary, follow_symlinks=False)
    except OSError:
        return False
    temporary.replace(target)
    return True


def located(folder: Path | str) -> Path:
    """Give a folder's absolute path, in which no symlink was followed; BadImage if there is none.

    So it can be found again when the working folder has changed.
    """
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() follows symlinks
    if not path.is_dir():
        raise BadImage(path, "type", "no such folder", "a folder, such as a machine has")
    return path


def child(folder: Path | str, name: str) -> Path:
    """Return the path of the file `name` directly in `folder`, there or not.

    BadImage for any name that leads elsewhere, and for anything but a regular file; still open it
    without following symlinks, for one may appear later.
    """
    folder = Path(folder)
    if not isinstance(name, str) or name in {"", ".", ".."} or re.search(r"[/\\\0]", name):
        raise BadImage(folder, "file name", name, "the plain name of a file in this folder")
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise BadImage(folder, "file name", name, "a name that a file can have") from error
    if not stat.S_ISREG(mode):
        link = f" to {str(path.readlink())!r}" if stat.S_ISLNK(mode) else ""
        found = _KINDS.get(stat.S_IFMT(mode), "something else") + link
        raise BadImage(path, "type", found, "a regular file in this folder")
    return path


def remove(folder: Path | str) -> None:
    """Delete a folder that nobody uses; MachineLocked names who does. It disappears at once."""
    folder = Path(folder)
    with try_lock(folder, "exclusive") as held:
        if not stat.S_ISDIR(os.fstat(held.fileno()).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        doomed = _temporary_name(folder)
        folder.rename(doomed)
        shutil.rmtree(doomed)


def sweep(parent: Path | str) -> list[Path]:
    """Delete what dead processes left half-built in `parent`, and return the paths deleted."""
    return [path for path in Path(parent).iterdir() if _is_abandoned(path) and _delete(path)]


def temporary(beside: Path) -> Path:
    """Name a folder for this process, beside a path; what is left of it when it dies is swept."""
    return _temporary_name(beside)


def _temporary_name(target: Path) -> Path:
    name = target.name[:48]  # at most 255 bytes with the rest, whatever the script
    return target.with_name(f".{name}.{os.getpid()}-{next(_numbers)}.tmp")


def _sweep_once(parent: Path) -> None:
    """Sweep once per process: listing thousands of snapshots costs more than publishing one."""
    key = str(parent)
    if key not in _swept:
        _swept.add(key)
        sweep(parent)


def _is_abandoned(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and not _is_alive(int(match[1]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _delete(path: Path) -> bool:
    """Delete unless it is marked: another container's processes cannot be seen, their locks can."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _mark_in_use(folder: Path) -> int:
    """Take a shared lock against sweepers; it ends before the folder gets its name and users."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unmark(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)  # not close alone: see Lock
    finally:
        os.close(fd)


def _rename_new(temporary: Path, target: Path) -> None:
    try:
        rename_new(temporary, target)
    except FileExistsError:
        raise FolderExists(target) from None
    except OSError as error:
        if error.errno not in _NO_RENAME_NEW:
            raise
        _rename_over_claim(temporary, target)


def _rename_over_claim(temporary: Path, target: Path) -> None:
    """Replace an empty folder of our own making, where rename cannot promise to replace nothing."""
    try:
        target.mkdir()
    except FileExistsError:
        raise FolderExists(target) from None
    try:
        temporary.rename(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.rmdir()
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise FolderExists(target) from None
        raise


def sync_tree(folder: Path) -> None:
    """Bring a folder, and all that is in it, to the disk; OSError EIO or ENOSPC."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                sync_tree(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                sync(Path(entry.path))
    sync(folder)


def sync(path: Path | int, *, data_only: bool = False) -> None:
    """Bring a file, or the names in a folder, to the disk (fsync); OSError EIO or ENOSPC.

    With `data_only` times need not get there, which spares the file system's journal (fdatasync).
    """
    bring = getattr(os, "fdatasync", os.fsync) if data_only else os.fsync
    if isinstance(path, int):
        bring(path)
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        bring(fd)
    finally:
        os.close(fd)
