"""Reading an application's log from one input on, and waiting for what comes after the last."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self

from orchestra.errors import InputConflict

if TYPE_CHECKING:
    from orchestra.sched.input_log import InputLog, InputOutcome
    from orchestra.sched.keeper import Keeper
    from orchestra.sched.scheduler import Scheduler

__all__ = ["Follower"]


class Follower:
    """Iterates over inputs and their outcomes; made by `Application.follow`, for one task."""

    def __init__(self, scheduler: Scheduler, log: InputLog, keeper: Keeper, after: int) -> None:
        self._scheduler = scheduler
        self._log = log
        self._keeper = keeper
        self._last = after  # that was read
        self._found: deque[tuple[bytes, InputOutcome]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[bytes, InputOutcome]:
        if not self._found:
            last = await self._keeper.reached(self._last + 1)
            read = partial(self._log.outcomes, self._last + 1, last)
            try:
                self._found.extend(await self._scheduler.in_thread(read))
            except KeyError:
                raise InputConflict(self._last + 1, last + 1, gone=True) from None
            self._last += len(self._found)
        return self._found.popleft()
