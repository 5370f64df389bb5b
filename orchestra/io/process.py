"""What a forked child must leave to its parent: memory that is not there, and locks."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Parental", "stays_behind"]


class Parental(Protocol):
    """Something that belongs to the process that made it."""

    def leave_to_parent(self) -> None:
        """Be told, in a child, that it is a child's; nothing outside the process may change."""


_things: weakref.WeakSet[Parental] = weakref.WeakSet()


def stays_behind(thing: Parental) -> None:
    """Have a thing told when this process was forked, before anything else runs in the child."""
    _things.add(thing)


def _after_fork() -> None:
    for thing in list(_things):
        thing.leave_to_parent()
    _things.clear()


os.register_at_fork(after_in_child=_after_fork)
