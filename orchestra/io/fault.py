"""A page that cannot be read or written becomes BackingFault, with the path and the offset of the byte."""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import BackingFault

from ._os import Fault, call_guarded, install_handler

__all__ = ["Backing", "as_error", "forget", "guarded", "install", "register"]

FULL_BELOW_BYTES = (
    1 << 20
)  # btrfs and xfs refuse data while they still count some blocks; not measured


@dataclass(frozen=True, slots=True)
class Backing:
    """The file behind some memory: its path when it was mapped, and its identity, should the path change."""

    path: Path
    device: int
    inode: int
    written: bool  # through a shared mapping

    @classmethod
    def of(cls, path: Path, status: os.stat_result, *, written: bool) -> Backing:
        """The file of `path`, whose fstat was `status`."""
        return cls(path, status.st_dev, status.st_ino, written)


_guard = threading.Lock()
_numbers = itertools.count(1)
_backings: dict[int, Backing] = {}


def register(backing: Backing) -> int:
    """Make `backing` known and return the owner number under which C remembers its addresses."""
    with _guard:
        owner = next(_numbers)
        _backings[owner] = backing
    return owner


def forget(owner: int) -> None:
    """The owner's memory is unmapped; twice is fine."""
    with _guard:
        _backings.pop(owner, None)


def install() -> None:
    """Install the SIGBUS handler; again is fine, and moves it before handlers that came later."""
    install_handler()


def guarded(function: int, argument: int) -> None:
    """Call the C function `void function(void *argument)` at address `function`, without the GIL.

    Raises BackingFault when a page of a file of ours could not be read or written; the C function was left
    at that access, and whatever it had stored stands. Guarded calls may nest. (DESIGN section 5)
    """
    fault = call_guarded(function, argument)
    if fault is not None:
        raise as_error(fault)


def as_error(fault: Fault) -> BackingFault:
    """The error that says which byte of which file it was, and why, as far as can be told afterwards."""
    backing = _backings.get(fault.owner)
    if backing is None:
        return BackingFault("(a file already closed)", fault.offset, "input/output error")
    return BackingFault(backing.path, fault.offset, _reason(backing, fault.offset))


def _reason(backing: Backing, offset: int) -> str:
    """Ask the file system what is wrong now; the kernel's signal does not say."""
    try:
        status = os.stat(backing.path, follow_symlinks=False)
        room = os.statvfs(backing.path)
    except OSError:
        return "input/output error"
    if (status.st_dev, status.st_ino) != (backing.device, backing.inode):
        return "input/output error"
    if offset >= status.st_size:
        return "truncated"
    if room.f_bavail * room.f_frsize < FULL_BELOW_BYTES:
        return "no space"
    if backing.written and _is_hole(backing.path, offset):
        return "no space"
    return "input/output error"


def _is_hole(path: Path, offset: int) -> bool:
    """Whether nothing is stored there: then only an allocation can have failed (a quota, or space freed since)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE) == offset
    except OSError:
        return False
    finally:
        os.close(fd)
