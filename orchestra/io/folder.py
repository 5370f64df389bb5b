"""Folders and files that appear whole or not at all, and names that cannot lead out of a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orchestra.errors import BadImage, FolderExists

from ._os import begin_draft, end_draft
from .lock import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = [
    "Draft",
    "child",
    "locate",
    "located",
    "publish",
    "remove",
    "replace_file",
    "sweep",
    "sync",
    "sync_tree",
    "temporary_name",
]

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
_numbers = itertools.count(secrets.randbelow(10**12))  # a dead process may have had our number
_swept: set[str] = set()


class Draft:
    """A new folder that is built in a `with` block: at its end it appears at `target`, or nothing.

    Until then it is at `path`, and open at `fileno()`. Raises FolderExists when `target` exists,
    before or after; nothing is ever replaced. `durable` syncs files, folders and the parent. What
    dead processes left half-built is swept.
    """

    __slots__ = ("_durable", "_fd", "path", "target")

    def __init__(self, target: Path | str, *, durable: bool = False) -> None:
        self.target = os.fspath(target)
        self._durable = durable
        self._fd = -1
        self.path = ""

    def check(self) -> None:
        """Raise FolderExists now rather than at the end."""
        if os.path.lexists(self.target):
            raise FolderExists(self.target)

    def fileno(self) -> int:
        """Return the descriptor of the folder while it is built."""
        return self._fd

    def __enter__(self) -> Self:
        parent, slash, name = self.target.rpartition("/")
        _sweep_once(parent + slash)
        self.path = f"{parent}{slash}{temporary_name(name)}"
        try:
            self._fd = begin_draft(self.path)
        except OSError as error:
            self._locate(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._drop()
            if isinstance(error, OSError):
                self._locate(error)
            return
        try:
            if self._durable:
                sync_tree(Path(self.path))
            _publish(self._fd, self.path, self.target)
        except BaseException:
            self._drop()
            raise
        if self._durable:
            sync(Path(os.path.dirname(self.target) or "."))

    def _drop(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        end_draft(self._fd, self.path, None)

    def _locate(self, error: OSError) -> None:
        """Name the file that was to be, not what it was called meanwhile."""
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(self.path, self.target)
            locate(error, self.target)


def locate(error: OSError, folder: Path | str) -> None:
    """Complete the name in an error of a call that knew the folder by its descriptor only."""
    if isinstance(error.filename, str) and "/" not in error.filename:
        error.filename = f"{os.fspath(folder)}/{error.filename}"


@contextlib.contextmanager
def publish(target: Path | str, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a Draft."""
    draft = Draft(target, durable=durable)
    draft.check()
    with draft:
        yield Path(draft.path)


def replace_file(path: Path | str, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to the file at `path`, such that a reader sees all old or all new."""
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
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


def located(folder: Path | str) -> Path:
    """Give a folder's absolute path, in which no symlink was followed; BadImage if there is none.

    So it can be found again when the working folder has changed.
    """
    path = Path(os.path.abspath(folder))
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
        doomed = folder.with_name(temporary_name(folder.name))
        folder.rename(doomed)
        shutil.rmtree(doomed)


def sweep(parent: Path | str) -> list[Path]:
    """Delete what dead processes left half-built in `parent`, and return the paths deleted."""
    return [path for path in Path(parent).iterdir() if _is_abandoned(path) and _delete(path)]


def temporary_name(name: str) -> str:
    """Make a name for what is to be called `name`, which sweep knows when this process is dead."""
    # at most 255 bytes with the rest, whatever the script
    return f".{name[:48]}.{os.getpid()}-{next(_numbers)}.tmp"


def _sweep_once(parent: str) -> None:
    """Sweep once per process: listing thousands of snapshots costs more than publishing one."""
    if parent not in _swept:
        _swept.add(parent)
        sweep(parent or ".")


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


def _publish(fd: int, temporary: str, target: str) -> None:
    try:
        end_draft(fd, temporary, target)
    except FileExistsError:
        raise FolderExists(target) from None
    except OSError as error:
        if error.errno not in _NO_RENAME_NEW:
            raise
        _rename_over_claim(Path(temporary), Path(target))
        end_draft(fd, temporary, None)


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
