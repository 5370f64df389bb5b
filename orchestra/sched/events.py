"""What is told while it happens: a call's events as an async iterator, a fleet's to structlog."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio

from orchestra.errors import MachineClosed
from orchestra.machine.request import Outcome, note
from orchestra.sched.beside import beside
from orchestra.sched.tracing import SPAN_NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from orchestra.machine.request import Event
    from orchestra.sched.jobs import Job
    from orchestra.sched.tracing import Tracer

__all__ = ["EVENT_NAMES", "Call", "Journal", "Logger", "following"]

# Every structlog event, and the fields it carries. Names are stable; fields are only added.
# Ends of calls are logged at level debug, failures at warning, the rest at info. `machine` is a
# folder or a number; for inspects the pool's name. Durations are seconds.
EVENT_NAMES = MappingProxyType(
    {
        "fleet.opened": ("workers",),
        "fleet.closed": ("duration", "calls", "slices", "cycles"),
        "application.opened": ("machine", "cycle", "inputs", "replayed", "duration"),
        "application.closed": ("machine", "inputs", "duration"),
        "snapshot.stored": ("machine", "number", "cycle", "pages", "duration"),
        "snapshot.failed": ("machine", "number", "error"),
        "snapshot.unusable": ("machine", "number", "error"),
        "machine.opened": ("machine", "cycle", "duration"),
        "machine.closed": ("machine", "cycle", "duration"),
        "machine.called": ("machine", "cycle", "duration", "call"),  # snapshot, fork ...
        "run.ended": ("machine", "cycle", "duration", "cycles", "stop"),
        "advance.ended": ("machine", "duration", "cycles", "status", "outputs", "reports"),
        "inspect.ended": ("machine", "duration", "cycles", "status", "outputs", "reports"),
        "call.cancelled": ("machine", "duration", "cycles"),  # or something was closed
        "call.failed": ("machine", "duration", "cycles", "error"),  # raised, or status "failed"
        "pool.opened": ("machine", "size", "queue"),
        "pool.published": ("machine", "cycle", "duration"),
        "pool.refused": ("machine", "size", "queue"),
        "pool.closed": ("machine", "duration", "calls"),
    }
)


class Logger(Protocol):
    """The part of a structlog logger we use."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Log the end of a call."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log a change of state."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log what somebody should look at."""


class Journal:
    """Where a fleet tells what happens; says nothing when it was given no logger and no tracer."""

    __slots__ = ("_logger", "_tracer", "listening")

    def __init__(self, logger: Logger | None, tracer: Tracer | None = None) -> None:
        self._logger = logger
        self._tracer = tracer
        self.listening = logger is not None or tracer is not None

    def debug(self, name: str, **fields: Any) -> None:
        """Tell the end of a call."""
        self._log("debug", name, fields)

    def info(self, name: str, **fields: Any) -> None:
        """Tell a change of state; if it took time, it is a span."""
        self._log("info", name, fields)
        if self._tracer is not None and name in SPAN_NAMES:
            self._tracer.tell(name, fields)

    def warning(self, name: str, **fields: Any) -> None:
        """Tell what somebody should look at."""
        self._log("warning", name, fields)

    def _log(self, level: str, name: str, fields: dict[str, Any]) -> None:
        """Log; that the logger fails is told elsewhere: what it was told of has happened."""
        if self._logger is not None:
            try:
                getattr(self._logger, level)(name, **fields)
            except Exception:
                logging.getLogger(__name__).exception("the fleet's logger failed at %s", name)

    def ended(self, name: str, job: Job, now: float) -> None:
        """Tell how a call ended."""
        if not self.listening:
            return
        fields: dict[str, Any] = {
            "machine": job.share.name,
            "duration": now - job.submitted if job.submitted else 0.0,
            "cycles": job.cycles,
        }
        error = job.error
        if isinstance(job.result, Outcome):
            fields["status"] = job.result.status
            fields["outputs"], fields["reports"] = len(job.result.outputs), len(job.result.reports)
            error = error or job.result.error
        elif job.result is not None:
            fields["stop"] = type(job.result).__name__
            fields["cycle"] = job.result.cycle
        if isinstance(error, MachineClosed) or (job.cancelled and job.result is None):
            event, tell = "call.cancelled", self.debug
        elif error is not None:
            event, tell = "call.failed", self.warning
            fields["error"] = str(error) or repr(error)
        else:
            event, tell = name, self.debug
        tell(event, **fields)
        if self._tracer is not None:
            waited = job.started - job.submitted if job.started else None
            cancelled = event == "call.cancelled"
            self._tracer.tell(
                name,
                {**fields, "cancelled": True} if cancelled else fields,
                None if cancelled else error,
                waited,
            )


class Call:
    """A call in progress: iterate over what the guest says, then ask for the outcome.

    Events are kept until they are taken, so an iteration that starts late misses nothing. Both the
    iteration and `outcome()` may be used by several tasks; each event goes to one of them.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._news = anyio.Event()
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._over = False

    def hear(self, events: deque[Event]) -> None:
        """Take what the guest said."""
        while events:
            note(self._events, events.popleft())
        self._wake()

    async def follow(self, work: Callable[[], Coroutine[Any, Any, Outcome]]) -> None:
        """Carry the call out; what it raises is raised again by `outcome()`."""
        try:
            self._outcome = await work()
        except Exception as error:  # noqa: BLE001 - handed to whoever asks
            self._error = error
        finally:
            self._over = True
            self._wake()

    async def outcome(self) -> Outcome:
        """Wait for the end and return how the call ended, or raise what it raised."""
        while not self._over:
            await self._news.wait()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            await self._news.wait()
        return self._events.popleft()

    def _wake(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


@asynccontextmanager
async def following(
    call: Call, work: Callable[[], Coroutine[Any, Any, Outcome]]
) -> AsyncIterator[None]:
    """Carry a call out beside the body; leaving the body cancels what is left of it."""
    async with beside(partial(call.follow, work)):
        yield
