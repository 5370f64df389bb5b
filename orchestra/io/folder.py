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
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestra.errors import BadImage, FolderExists

from ._os import rename_new
from .lock import try_lock

__all__ = ["child", "publish", "remove", "replace_file", "sweep"]

_TEMPORARY: Final = re.compile(r"\..+\.(\d+)-\d+\.tmp", re.DOTALL)
_NO_RENAME_NEW: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_numbers = itertools.count()
_swept: set[tuple[int, int]] = set()
_swept_guard = threading.Lock()


@contextlib.contextmanager
def publish(target: Path | str, *, durable: bool = False) -> Iterator[Path]:
    """Build a folder in the temporary one this yields; at the end it appears as `target`, or nothing does.

    Raises FolderExists when `target` exists, before or after; nothing is ever replaced. With `durable` its
    files, its folders and its parent are on the disk at the end. Leftovers of dead processes are swept.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise FolderExists(target)
    _sweep_once(target.parent)
    temporary = _temporary_name(target)
    os.mkdir(temporary)
    try:
        with _marked_in_use(temporary):
            yield temporary
            if durable:
                _sync_tree(temporary)
        _rename_new(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if durable:
        _sync(target.parent)


def replace_file(path: Path | str, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to the file at `path`, new or old, such that a reader sees the old bytes or the new."""
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
            os.replace(temporary, path)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        _sync(path.parent)


def child(folder: Path | str, name: str) -> Path:
    """The path of the file `name` directly in `folder`, there or not; BadImage for any name that leads elsewhere.

    A symlink is refused as well; whoever opens the path must still not follow one that appears later.
    """
    folder = Path(folder)
    if not isinstance(name, str) or name in {"", ".", ".."} or re.search(r"[/\\\0]", name):
        raise BadImage(folder, "file name", name, "the plain name of a file in this folder")
    path = folder / name
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise BadImage(folder, "file name", name, "a name that a file can have") from error
    if stat.S_ISLNK(mode):
        raise BadImage(path, "type", f"a symlink to {os.readlink(path)!r}", "a file in this folder")
    return path


def remove(folder: Path | str) -> None:
    """Delete a folder that nobody uses; MachineLocked names who does. It disappears at once, then its files."""
    folder = Path(folder)
    with try_lock(folder, "exclusive") as held:
        if not stat.S_ISDIR(os.fstat(held.fileno()).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        doomed = _temporary_name(folder)
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def sweep(parent: Path | str) -> list[Path]:
    """Delete what dead processes left half-built in `parent`, and return the paths deleted."""
    return [path for path in Path(parent).iterdir() if _is_abandoned(path) and _delete(path)]


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{next(_numbers)}.tmp")


def _sweep_once(parent: Path) -> None:
    """Once per process and folder: a folder may hold thousands of snapshots, and listing it costs more than one."""
    status = os.stat(parent)
    key = (status.st_dev, status.st_ino)
    with _swept_guard:
        if key in _swept:
            return
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
    """Not while somebody has it marked: processes of another container cannot be seen, their locks can."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


@contextlib.contextmanager
def _marked_in_use(folder: Path) -> Iterator[None]:
    """Hold a shared lock, so that no sweeper takes it; it ends before the folder gets its name and its users."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)  # a process being spawned may have a copy of the descriptor
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
    """For file systems that cannot rename without replacing: an empty folder of ours is all we may replace."""
    try:
        os.mkdir(target)
    except FileExistsError:
        raise FolderExists(target) from None
    try:
        os.rename(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.rmdir(target)
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise FolderExists(target) from None
        raise


def _sync_tree(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _sync_tree(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                _sync(Path(entry.path))
    _sync(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
