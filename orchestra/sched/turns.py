"""One task that does what many ask for, in the order they came: who gives up waits for nobody."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.errors import MachineClosed
from orchestra.sched.beside import beside
from orchestra.sched.limits import Room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from orchestra.sched.jobs import Job
    from orchestra.sched.scheduler import Scheduler

__all__ = ["Ticket", "Turns"]


class Ticket:
    """What somebody waits for; `job` is what can be cancelled of it while it is being done."""

    __slots__ = ("began", "context", "done", "error", "job", "result", "work")

    def __init__(self, work: Callable[[Ticket], Awaitable[Any]], began: float) -> None:
        self.work = work
        self.began = began
        self.context = copy_context()  # of who asked
        self.done = anyio.Event()
        self.job: Job | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        """Let whoever waits go on."""
        if error is not None and self.error is None:
            self.error = error
        self.done.set()


class Turns:
    """A queue and the task that serves it; used on one loop.

    Work is never abandoned half-way: a caller that is cancelled takes its job back if it can, and
    else waits until its work has been done.
    """

    def __init__(self, scheduler: Scheduler, queue: int, what: str) -> None:
        self._scheduler = scheduler
        self._room = Room(1, queue, what)
        self._queue: deque[Ticket] = deque()
        self._news = anyio.Event()
        self._now: Ticket | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue) + self._room.outside

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the body runs; what has not begun when it is left raises MachineClosed."""
        async with beside(self._serve, end=self._close):
            yield

    async def ask(
        self, work: Callable[[Ticket], Awaitable[Any]], *, wait: bool, urgent: bool = False
    ) -> Any:
        """Have work done in turn and return its result; AtCapacity when too many wait."""
        if urgent:
            self._room.enter_anyway()
        elif wait:
            await self._room.enter()
        else:
            self._room.enter_now()
        ticket = Ticket(work, self._scheduler.clock.now())
        self._queue.append(ticket)
        self._news.set()
        self._scheduler.desk.outbox.hurried += 1
        try:
            await ticket.done.wait()
        except BaseException:
            await self._withdraw(ticket)
            raise
        finally:
            self._scheduler.desk.outbox.hurried -= 1
            self._room.leave()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    async def _withdraw(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            return
        with anyio.CancelScope(shield=True):
            if ticket.job is not None:
                await self._scheduler.cancel(ticket.job)
            while not ticket.done.is_set():
                try:
                    await ticket.done.wait()
                except anyio.get_cancelled_exc_class():  # asyncio's own: no shield stops it
                    continue

    async def _serve(self) -> None:
        try:
            while not self._room.closed:
                if self._queue:
                    await self._do(self._queue.popleft())
                else:
                    self._news = anyio.Event()
                    await self._news.wait()
        finally:
            self._room.close()
            while self._queue:
                self._queue.popleft().end(MachineClosed("closed before its turn came"))

    async def _do(self, ticket: Ticket) -> None:
        self._now = ticket
        try:
            ticket.result = await ticket.work(ticket)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            ticket.end(error)
        else:
            ticket.end()
        finally:
            self._now = None
            if not ticket.done.is_set():
                ticket.end(MachineClosed("closed before it was done"))

    def _close(self) -> None:
        """Stop serving; the job in progress is taken back."""
        self._room.close()
        self._news.set()
        job = self._now.job if self._now is not None else None
        if job is not None and not job.over:
            self._scheduler.cancel_soon(job)
