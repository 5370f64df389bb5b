"""Whose turn it is among many who ask, in the order they came."""

from __future__ import annotations

from collections import deque

import anyio

from orchestra.errors import MachineClosed

__all__ = ["Turns"]


class Turns:
    """A lock that is handed on in order of arrival, and can be closed; used on one loop.

    Who has the turn may give it to somebody else, who then calls `leave`.
    """

    def __init__(self) -> None:
        self._closed = False
        self._taken = False
        self._line: deque[anyio.Event] = deque()
        self._free = anyio.Event()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._line)

    async def take(self) -> None:
        """Wait for the turn; who is cancelled waits no more. MachineClosed once closed."""
        if self._taken:
            await self._wait()
        self._taken = True
        if self._closed:
            self.leave()
            raise MachineClosed("closed before its turn came")

    async def _wait(self) -> None:
        turn = anyio.Event()
        self._line.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.leave()  # it was ours already
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Let the next one have the turn."""
        if self._line:
            self._line.popleft().set()
        else:
            self._taken = False
            self._free.set()

    def close(self) -> None:
        """Refuse all who wait and all who come."""
        self._closed = True

    async def wait_free(self) -> None:
        """Wait until nobody has the turn; close it first."""
        while self._taken:
            self._free = anyio.Event()
            await self._free.wait()
