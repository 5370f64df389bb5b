"""What bounds a call and a pool: limits of one call, and room for a number of calls."""

from __future__ import annotations

from collections import deque

import anyio

from orchestra.errors import AtCapacity, MachineClosed
from orchestra.machine.request import Limits, Status

__all__ = ["Limits", "Room", "Status"]


class Room:
    """Room for `size` calls at work and `queue` that wait for it; used on one loop only.

    Who asks when both are full is refused with AtCapacity, or waits in turn outside the queue.
    """

    def __init__(self, size: int, queue: int, what: str = "inspect") -> None:
        if size < 1 or queue < 0:
            raise ValueError(f"size must be at least 1 and queue at least 0, not {size}, {queue}")
        self.size = size
        self.queue = queue
        self.what = what
        self.inside = 0
        self.closed = False
        self._outside: deque[anyio.Event] = deque()

    @property
    def outside(self) -> int:
        """How many wait to be let in."""
        return len(self._outside)

    def enter_now(self) -> None:
        """Come in, or AtCapacity."""
        if self.closed:
            raise MachineClosed(f"no {self.what} is taken any more: it is closed")
        if self.inside >= self.size + self.queue:  # as long as somebody waits outside, too
            raise AtCapacity(
                f"room for {self.size} {self.what}(s) at work and {self.queue} that wait is taken; "
                "try later, or with wait=True"
            )
        self.inside += 1

    def enter_anyway(self) -> None:
        """Come in even when there is no room."""
        if self.closed:
            raise MachineClosed(f"no {self.what} is taken any more: it is closed")
        self.inside += 1

    async def enter(self) -> None:
        """Come in when there is room, in order of arrival."""
        try:
            self.enter_now()
        except AtCapacity:
            turn = anyio.Event()
            self._outside.append(turn)
            try:
                await turn.wait()
            except BaseException:
                if turn.is_set():
                    self.leave()  # the place was ours already
                else:
                    self._outside.remove(turn)
                raise
            if self.closed:
                self.leave()
                raise MachineClosed(f"no {self.what} is taken any more: it is closed") from None

    def leave(self) -> None:
        """Go out; the first who waits takes the place."""
        if self._outside:
            self._outside.popleft().set()
        else:
            self.inside -= 1

    def close(self) -> None:
        """Refuse all who wait and all who come."""
        self.closed = True
        self.inside += len(self._outside)
        while self._outside:
            self._outside.popleft().set()
