"""Locks on folders and files: between processes by flock(2), in turn within the process."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Final, Literal, Self

import anyio
from anyio.lowlevel import checkpoint, current_token

from orchestra.errors import BadImage, MachineForked, MachineLocked

from . import _holder
from ._os import lock_now, open_entry
from .entry import AT_CWD

__all__ = ["Lock", "LockMode", "lock", "try_lock", "wait_lock"]

LockMode = Literal["shared", "exclusive"]
Inode = tuple[int, int]

FIRST_POLL_SECONDS: Final = 0.001
LONGEST_POLL_SECONDS: Final = 0.05
_LOCKABLE: Final = {stat.S_IFDIR, stat.S_IFREG, stat.S_IFBLK}
_FLAGS: Final = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX}


class Lock:
    """A held lock, until closed; made by lock, try_lock or wait_lock.

    It belongs to the process that took it: a fork of that process does not hold it.
    """

    _left = False  # to the process that this one was forked from

    def __init__(self, path: str, mode: LockMode, fd: int, inode: Inode) -> None:
        self._path, self.mode = path, mode
        self._fd, self.inode = fd, inode
        _held.add(self)

    @property
    def path(self) -> Path:
        """What is locked, as it was called then."""
        return Path(self._path)

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._fd < 0

    @property
    def links(self) -> int:
        """How many names it has now."""
        return os.fstat(self.fileno()).st_nlink

    def fileno(self) -> int:
        """Return the descriptor of what is locked, open for reading; ValueError once closed.

        MachineForked in a fork of the process that took it.
        """
        if self._left:
            raise MachineForked(
                f"the lock on {self._path} is held by the process this was forked from"
            )
        if self._fd < 0:
            raise ValueError(f"the lock on {self._path} is closed")
        return self._fd

    def close(self) -> None:
        """Unlock, and let the next in turn try; closing twice is fine."""
        if self._fd >= 0:
            self._unlock()
            _turns.wake(self.inode)

    def _unlock(self) -> None:
        fd, self._fd = self._fd, -1
        try:  # closing alone would leave it to the copy of a process that is being spawned
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self._unlock()  # waking a task is not for the garbage collector; the next poll will do

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else self.mode
        return f"<Lock {state} {self._path!r}>"


class _Waiter:
    """One task in a queue; its event belongs to the task's own event loop."""

    def __init__(self, predecessor: _Waiter | None) -> None:
        self.loop = current_token().native_token
        self.event = anyio.Event()
        # whether all before it are tasks of the same loop: then the last of them to go wakes it
        self.among_its_own: bool = predecessor is None or (
            predecessor.loop is self.loop and predecessor.among_its_own
        )

    def wake(self) -> None:
        """Let it try now if it lives in the loop that runs here; else its next poll finds out."""
        try:
            here = current_token().native_token
        except RuntimeError:  # no event loop runs in this thread
            return
        if here is self.loop:
            self.event.set()


class _Turns:
    """Who waits for which inode, in order of arrival, over all event loops of the process."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.queues: dict[Inode, deque[_Waiter]] = {}

    def take_or_queue(self, fd: int, inode: Inode, mode: LockMode) -> _Waiter | None:
        """None when nobody waits and the lock was free; else a place at the end of the queue."""
        with self.guard:
            queue = self.queues.get(inode)
            if queue is None and _try(fd, mode):
                return None
            waiter = _Waiter(queue[-1] if queue else None)
            self.queues.setdefault(inode, deque()).append(waiter)
            return waiter

    def is_first(self, waiter: _Waiter, inode: Inode) -> bool:
        """Whether it is the waiter's turn; if not, it is ready to be woken again."""
        with self.guard:
            waiter.event = anyio.Event()
            return self.queues[inode][0] is waiter

    def leave(self, waiter: _Waiter, inode: Inode) -> None:
        """Give up the place; the next in turn may try."""
        with self.guard:
            queue = self.queues[inode]
            queue.remove(waiter)
            if not queue:
                del self.queues[inode]
        self.wake(inode)

    def wake(self, inode: Inode) -> None:
        """Tell the first in turn."""
        with self.guard:
            queue = self.queues.get(inode)
            first = queue[0] if queue else None
        if first is not None:
            first.wake()


_turns = _Turns()
_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def try_lock(path: Path | str, mode: LockMode) -> Lock:
    """Lock a folder or file now, before anybody who waits; MachineLocked names who holds it."""
    return wait_lock(path, mode, 0)


def wait_lock(path: Path | str, mode: LockMode, timeout_seconds: float | None = None) -> Lock:
    """Lock a folder or file, blocking this thread until then; MachineLocked after the timeout."""
    path = os.fspath(path)
    locked = lock_now(path, exclusive=mode == "exclusive")
    if locked is not None:
        return Lock(path, mode, *locked)
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        fd, inode = _open(path)
        try:
            if not _poll(fd, mode, deadline):
                raise MachineLocked(path, _holder.describe(fd))
            if _still_there(path, inode):
                taken, fd = Lock(path, mode, fd, inode), -1
                return taken
        finally:
            _discard(fd)


async def lock(path: Path | str, mode: LockMode) -> Lock:
    """Lock a folder or file, in turn: first come, first served; what others hold is polled.

    Cancelling leaves neither a lock nor a place in the queue. Its only timeout is anyio.fail_after.
    """
    path = os.fspath(path)
    await checkpoint()
    while True:
        fd, inode = _open(path)
        try:
            waiter = _turns.take_or_queue(fd, inode, mode)
            if waiter is not None:
                try:
                    await _wait_turn(waiter, fd, inode, mode)
                finally:
                    _turns.leave(waiter, inode)
            if _still_there(path, inode):
                taken, fd = Lock(path, mode, fd, inode), -1
                return taken
        finally:
            _discard(fd)


async def _wait_turn(waiter: _Waiter, fd: int, inode: Inode, mode: LockMode) -> None:
    pause = FIRST_POLL_SECONDS
    while True:
        first = _turns.is_first(waiter, inode)
        if first and _try(fd, mode):
            return
        if not first and waiter.among_its_own:
            await waiter.event.wait()
            continue
        with anyio.move_on_after(pause):
            await waiter.event.wait()
        pause = min(pause * 2, LONGEST_POLL_SECONDS)


def _poll(fd: int, mode: LockMode, deadline: float | None) -> bool:
    pause = FIRST_POLL_SECONDS
    while not _try(fd, mode):
        left = pause if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_POLL_SECONDS)
    return True


def _open(path: str) -> tuple[int, Inode]:
    """Open without waiting for the other end of a pipe and without following a last symlink."""
    try:
        fd, facts = open_entry(AT_CWD, path, writable=False)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BadImage(path, "type", "a symlink", "what it points to, by its own name") from error
    if stat.S_IFMT(facts.mode) not in _LOCKABLE:
        os.close(fd)
        raise BadImage(path, "type", stat.filemode(facts.mode), "a folder or a file")
    return fd, (facts.device, facts.inode)


def _try(fd: int, mode: LockMode) -> bool:
    try:
        fcntl.flock(fd, _FLAGS[mode] | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        raise
    return True


def _still_there(path: str, inode: Inode) -> bool:
    """Whether the path still names the inode: it may have been removed or replaced meanwhile."""
    status = os.lstat(path)
    return (status.st_dev, status.st_ino) == inode


def _discard(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _after_fork() -> None:
    """Drop the child's copies, lest a lock outlive the process that took it."""
    _turns.guard = threading.Lock()
    _turns.queues.clear()
    for held in list(_held):
        fd, held._fd, held._left = held._fd, -1, True  # noqa: SLF001 - close would unlock the parent's
        _discard(fd)


os.register_at_fork(after_in_child=_after_fork)
