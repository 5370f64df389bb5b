"""A task beside an application's inputs: syncs and publishes them, and stores what they led to."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from orchestra.errors import LogFault, MachineClosed, OrchestraError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.sched.events import Journal
    from orchestra.sched.history import History
    from orchestra.sched.scheduler import Scheduler
    from orchestra.sched.settings import ApplicationSettings
    from orchestra.sched.turns import Turns
    from orchestra.sched.writer import Writer

__all__ = ["Keeper"]


class Order:
    """A snapshot somebody waits for."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.path: Path | None = None
        self.error: Exception | None = None


class Keeper:
    """Does what files are waited for, so that who gives an input may give up at any moment.

    Inputs that come while the log is being synced share the next sync. Storing the state needs
    the turn: whoever has it gives it to the keeper with `end_turn`.
    """

    def __init__(
        self,
        name: str,
        settings: ApplicationSettings,
        scheduler: Scheduler,
        journal: Journal,
        history: History,
        writer: Writer,
        turns: Turns,
    ) -> None:
        self.snapshot = 0  # the newest that is stored
        self._name = name
        self._settings = settings
        self._scheduler = scheduler
        self._journal = journal
        self._history = history
        self._writer = writer
        self._turns = turns
        self.storing = False  # the machine is in use for it
        self._has_turn = False
        self._stopping = False
        self._orders: deque[Order] = deque()
        self._news = anyio.Event()
        self._progress = anyio.Event()

    async def begin(self) -> None:
        """Look at what is there."""
        await self._scheduler.in_thread(self._writer.begin)
        found = await self._scheduler.in_thread(self._history.snapshots.numbers)
        self.snapshot = max(number for number in found if number <= self._writer.log.last)

    async def keep(self) -> None:
        """Serve until `stop`, and until all is done then."""
        with anyio.CancelScope(shield=True):
            while True:
                if self._writer.lags:
                    await self._publish()
                elif self._has_turn:
                    await self._use_turn()
                elif self._stopping:
                    return
                else:
                    self._news = anyio.Event()
                    await self._news.wait()

    def stop(self) -> None:
        """Let `keep` end."""
        self._stopping = True
        self._news.set()
        self.tell()

    def end_turn(self) -> None:
        """End the turn of an input, when a snapshot is due not before that is stored."""
        self._has_turn = self._is_due
        if not self._has_turn:
            self._turns.leave()
        if self._has_turn or self._writer.lags:
            self._news.set()

    async def published(self, number: int) -> None:
        """Wait until an input has been synced and published; LogFault when it could not be."""
        with self._scheduler.hurrying():
            await self.reached(number)

    async def reached(self, number: int) -> int:
        """Wait until so many inputs have been; MachineClosed when there will not be so many.

        Returns how many have been by now.
        """
        while self._writer.published < number:
            self._writer.check()
            if self._stopping and not self._writer.lags:
                raise MachineClosed("the application is closed")
            await self._progress.wait()
        return self._writer.published

    def tell(self) -> None:
        """Wake who waits for an input to be published."""
        progress, self._progress = self._progress, anyio.Event()
        progress.set()

    async def store(self) -> Path:
        """Store the state now; whoever asks has the turn, and has it no more."""
        order = Order()
        self._orders.append(order)
        self._has_turn = True
        self._news.set()
        await order.done.wait()
        if order.error is not None:
            raise order.error
        assert order.path is not None
        return order.path

    @property
    def _is_due(self) -> bool:
        every = self._settings.every
        return every is not None and self._writer.log.last - self.snapshot >= every

    async def _publish(self) -> None:
        try:
            await self._scheduler.in_thread_beside(self._writer.publish)
        except LogFault:
            pass  # who waits hears of it, and everybody after
        finally:
            self.tell()

    async def _use_turn(self) -> None:
        try:
            while self._orders:
                await self._fill(self._orders.popleft())
            if self._is_due:
                await self._store_due()
        finally:
            self._has_turn = False
            self._turns.leave()

    async def _fill(self, order: Order) -> None:
        try:
            order.path = await self._store()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            order.error = error
        finally:
            order.done.set()

    async def _store_due(self) -> None:
        try:
            await self._store()
        except (OrchestraError, OSError) as error:
            number = self._writer.log.last
            self._journal.warning(
                "snapshot.failed", machine=self._name, number=number, error=str(error)
            )

    async def _store(self) -> Path:
        number, snapshots = self._writer.log.last, self._history.snapshots
        machine, settings = self._writer.machine, self._settings
        began = self._scheduler.clock.now()

        def store() -> int:
            result = snapshots.store(machine, number, durable=settings.durable)
            snapshots.prune(settings.keep)
            if settings.keep_inputs != "all":
                with suppress(LogFault):  # after the next snapshot it may succeed
                    self._history.forget(settings.keep, settings.keep_inputs)
            return result.pages if result is not None else 0

        self.storing = True
        try:
            pages = await self._scheduler.in_thread_beside(store)
        finally:
            self.storing = False
        self.snapshot = number
        self._journal.info(
            "snapshot.stored",
            machine=self._name,
            number=number,
            cycle=machine.cycle,
            pages=pages,
            duration=self._scheduler.clock.now() - began,
        )
        return snapshots.path(number)
