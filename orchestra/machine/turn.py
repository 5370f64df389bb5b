"""Whose turn a machine is: one thread's at a time, and nobody's in a forked child."""

from __future__ import annotations

import threading
from time import thread_time_ns
from typing import TYPE_CHECKING

from orchestra.errors import MachineBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Core

__all__ = ["Turn", "cpu_after"]


class Turn:
    """Who uses a machine: one thread at a time, and nobody in a forked child of its process.

    `acquire(False)` and `release()` are those of a lock, to be called where time counts.
    """

    __slots__ = ("_core", "acquire", "lock", "release")

    def __init__(self, core: Core) -> None:
        self.lock = threading.Lock()
        self.acquire: Callable[[bool], bool] = self.lock.acquire
        self.release = self.lock.release
        self._core = core

    def __enter__(self) -> None:
        if not self.acquire(False):
            raise self.refusal()

    def __exit__(self, *_: object) -> None:
        self.release()

    def refusal(self) -> Exception:
        """Say why it could not be acquired."""
        if self._core.closed:
            return self._core.gone()
        return MachineBusy("this machine is in use on another thread")

    def bar(self) -> None:
        """Let nobody have it again."""
        self.acquire = _never


def _never(_: bool) -> bool:
    return False


def cpu_after(seconds: float | None) -> int:
    """Return what this thread's CPU clock will show after so much more, in ns; 0 for None."""
    return 0 if seconds is None else thread_time_ns() + int(seconds * 1e9)
