"""A page that cannot be read or written becomes BackingFault, with path, offset and reason."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from orchestra.errors import BackingFault

from ._os import Fault, Guard, call_guarded, install_handler

__all__ = ["Backing", "Guard", "as_error", "forget", "guarded", "install", "register", "rename"]

FULL_BELOW_BYTES: Final = 1 << 20  # btrfs and xfs refuse data while some blocks are left
_UNKNOWN: Final = "input/output error"
_MAPPED: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.+)$", re.MULTILINE)


class Backing(NamedTuple):
    """The file behind some memory: its path when it was mapped, and what remains true of it."""

    path: str
    device: int
    inode: int
    written: bool  # through a shared mapping
    fd: int  # -1 when it does not stay open

    def is_at(self, path: str) -> bool:
        """Whether `path` names this file now."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)


# no lock, which a fork could leave locked for ever: counting and the dict's own steps are whole
_numbers = itertools.count(1)
_backings: dict[int, Backing] = {}


def new_owner() -> int:
    """Give a number under which C may know addresses; the 2**32 from it on are nobody else's."""
    return next(_numbers) << 32


def register(owner: int, backing: Backing) -> None:
    """Say what is behind the addresses of an owner."""
    _backings[owner] = backing


def forget(owner: int) -> None:
    """Forget an owner whose memory is unmapped; twice is fine."""
    _backings.pop(owner, None)


def rename(owner: int, path: str) -> None:
    """Call an owner's file something else."""
    _backings[owner] = _backings[owner]._replace(path=path)


def install() -> None:
    """Install the SIGBUS handler; again is fine, and moves it before handlers that came later."""
    install_handler()


def guarded(function: int, argument: int) -> None:
    """Call the C function `void function(void *argument)` at address `function`, without the GIL.

    Raises BackingFault when a page of a file of ours could not be read or written: the C function
    was left at that access, and what it had stored stands. Calls may nest. (DESIGN section 5)
    """
    fault = call_guarded(function, argument)
    if fault is not None:
        raise as_error(fault)


def as_error(fault: Fault) -> BackingFault:
    """Say which byte of which file it was, and why, as far as can be told afterwards."""
    backing = _backings.get(fault.owner)
    if backing is None:
        return BackingFault("(a file already closed)", fault.offset, _UNKNOWN)
    path = _path_now(backing, fault.address)
    return BackingFault(path, fault.offset, _reason(backing, path, fault.offset))


def _path_now(backing: Backing, address: int) -> str:
    """Return where the file is: its folder may have been renamed, as publish does."""
    if backing.is_at(backing.path):
        return backing.path
    for start, end, name in _MAPPED.findall(Path("/proc/self/maps").read_text()):
        if int(start, 16) <= address < int(end, 16):
            moved = name.replace("\\012", "\n")
            return moved if backing.is_at(moved) else backing.path
    return backing.path


def _reason(backing: Backing, path: str, offset: int) -> str:
    """Ask the file system what is wrong now; the kernel's signal does not say."""
    if backing.fd < 0 and not backing.is_at(path):
        return _UNKNOWN
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if backing.fd < 0 else os.dup(backing.fd)
    except OSError:
        return _UNKNOWN
    try:
        return _reason_of_open(fd, offset, written=backing.written)
    except OSError:
        return _UNKNOWN
    finally:
        os.close(fd)


def _reason_of_open(fd: int, offset: int, *, written: bool) -> str:
    if offset >= os.fstat(fd).st_size:
        return "truncated"
    room = os.fstatvfs(fd)
    if room.f_bavail * room.f_frsize < FULL_BELOW_BYTES:
        return "no space"
    # nothing is stored there: only an allocation can have failed (a quota, or space freed since)
    if written and os.lseek(fd, offset, os.SEEK_HOLE) == offset:
        return "no space"
    return _UNKNOWN
