"""A fleet for programs that block: the same calls, from any thread, on a loop in one of its own."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anyio.from_thread import start_blocking_portal

from orchestra.sched.fleet import open_fleet as open_async_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path
    from typing import Literal

    from anyio.from_thread import BlockingPortal

    from orchestra.machine.config import MachineConfig
    from orchestra.machine.machine import Machine, SnapshotResult
    from orchestra.machine.request import Event, Limits, Outcome
    from orchestra.machine.stop import Stop
    from orchestra.sched import application, fleet, inspection
    from orchestra.sched.events import Call, Logger
    from orchestra.sched.founding import Genesis
    from orchestra.sched.input_log import InputOutcome
    from orchestra.sched.settings import ApplicationSettings
    from orchestra.sched.statistics import (
        ApplicationStatistics,
        FleetStatistics,
        PoolStatistics,
    )

__all__ = ["Application", "Calling", "Fleet", "InspectPool", "open_fleet"]

T = TypeVar("T")


class Blocking:
    """Something on the loop, called from other threads; a KeyboardInterrupt cancels the call."""

    def __init__(self, portal: BlockingPortal, inner: Any) -> None:
        self._portal = portal
        self._inner = inner

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        return self._wait(partial(getattr(self._inner, name), *arguments, **options))

    def _wait(self, function: Callable[[], Any]) -> Any:
        future = self._portal.start_task_soon(function)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @contextmanager
    def _entered(
        self, entering: AbstractAsyncContextManager[Any], make: Callable[[BlockingPortal, Any], T]
    ) -> Iterator[T]:
        with self._portal.wrap_async_context_manager(entering) as inner:
            yield make(self._portal, inner)


class Calling(Blocking):
    """A call in progress: iterate over what the guest says, then ask for the outcome."""

    _inner: Call

    def __iter__(self) -> Iterator[Event]:
        while True:
            try:
                yield self._wait(self._inner.__anext__)
            except StopAsyncIteration:
                return

    def outcome(self) -> Outcome:
        """Wait for the end; see `Call.outcome`."""
        outcome: Outcome = self._call("outcome")
        return outcome


class InspectPool(Blocking):
    """See `orchestra.InspectPool`."""

    _inner: inspection.InspectPool

    def inspect(self, query: bytes, limits: Limits | None = None, *, wait: bool = False) -> Outcome:
        """Ask a query and return all it was answered."""
        outcome: Outcome = self._call("inspect", query, limits, wait=wait)
        return outcome

    def inspecting(
        self, query: bytes, limits: Limits | None = None, *, wait: bool = False
    ) -> AbstractContextManager[Calling]:
        """Ask a query, and iterate over what the guest says meanwhile."""
        return self._entered(self._inner.inspecting(query, limits, wait=wait), Calling)

    def publish(self, template: Machine | Path | str) -> None:
        """Answer from another state from now on."""
        self._call("publish", template)

    def statistics(self) -> PoolStatistics:
        """Return what the pool does now and did so far."""
        return self._portal.call(self._inner.statistics)


class Application(Blocking):
    """See `orchestra.Application`."""

    _inner: application.Application

    @property
    def inputs(self) -> int:
        """The number of the last input."""
        return self._inner.inputs

    @property
    def first_input(self) -> int:
        """The number of the oldest input that the log has."""
        return self._inner.first_input

    @property
    def state_hash(self) -> str | None:
        """The root hash after the last input."""
        return self._inner.state_hash

    def advance(
        self, payload: bytes, limits: Limits | None = None, *, number: int | None = None
    ) -> InputOutcome:
        """Give an input; when this returns it is in the log."""
        outcome: InputOutcome = self._call("advance", payload, limits, number=number)
        return outcome

    def advancing(
        self, payload: bytes, limits: Limits | None = None, *, number: int | None = None
    ) -> AbstractContextManager[Calling]:
        """Advance, and iterate over what the guest says while it does."""
        return self._entered(self._inner.advancing(payload, limits, number=number), Calling)

    def inspect(self, query: bytes, limits: Limits | None = None, *, wait: bool = False) -> Outcome:
        """Ask the state after the last input."""
        outcome: Outcome = self._call("inspect", query, limits, wait=wait)
        return outcome

    def outcome(self, number: int) -> InputOutcome:
        """Return what became of an input, from the log; KeyError when there is none."""
        outcome: InputOutcome = self._call("outcome", number)
        return outcome

    def follow(self, after: int = 0) -> Iterator[tuple[bytes, InputOutcome]]:
        """Iterate over the inputs after number `after`, each with its outcome; wait for more."""
        following = self._inner.follow(after)
        while True:
            yield self._wait(following.__anext__)

    def snapshot(self) -> Path:
        """Store the state after the last input, and return its folder."""
        path: Path = self._call("snapshot")
        return path

    @contextmanager
    def at(self, number: int) -> Iterator[Machine]:
        """Open a machine in the state after `number` inputs; call it through the fleet, or here."""
        with self._portal.wrap_async_context_manager(self._inner.at(number)) as machine:
            yield machine

    def statistics(self) -> ApplicationStatistics:
        """Return what it does now and did so far."""
        return self._portal.call(self._inner.statistics)


class Fleet(Blocking):
    """See `orchestra.Fleet`; machines are the same objects as there."""

    _inner: fleet.Fleet

    @contextmanager
    def open(
        self, directory: Path | str, *, storage: Literal["memory", "backing"] = "memory"
    ) -> Iterator[Machine]:
        """Open a machine's folder or a snapshot, waiting in turn for its lock."""
        opening = self._inner.open(directory, storage=storage)
        with self._portal.wrap_async_context_manager(opening) as machine:
            yield machine

    @contextmanager
    def create(
        self, config: MachineConfig, directory: Path | str | None = None
    ) -> Iterator[Machine]:
        """Make a machine at reset, in a new folder if one is named."""
        creating = self._inner.create(config, directory)
        with self._portal.wrap_async_context_manager(creating) as machine:
            yield machine

    def run(
        self, machine: Machine, until: int | None = None, *, max_cycles: int | None = None
    ) -> Stop:
        """Run a machine in slices among the others."""
        stop: Stop = self._call("run", machine, until, max_cycles=max_cycles)
        return stop

    def advance(self, machine: Machine, payload: bytes, limits: Limits | None = None) -> Outcome:
        """Give a guest an input; the machine changes only if the guest accepts it."""
        outcome: Outcome = self._call("advance", machine, payload, limits)
        return outcome

    def inspect(self, machine: Machine, payload: bytes, limits: Limits | None = None) -> Outcome:
        """Ask one question to a fork of a machine."""
        outcome: Outcome = self._call("inspect", machine, payload, limits)
        return outcome

    def snapshot(
        self, machine: Machine, directory: Path | str, *, durable: bool = False
    ) -> SnapshotResult:
        """Store a machine's state as a folder of its own."""
        result: SnapshotResult = self._call("snapshot", machine, directory, durable=durable)
        return result

    def application(
        self,
        directory: Path | str,
        genesis: Genesis | None = None,
        settings: ApplicationSettings | None = None,
        *,
        name: str = "",
    ) -> AbstractContextManager[Application]:
        """Open the application in a folder, or make it of its genesis."""
        opening = self._inner.application(directory, genesis, settings, name=name)
        return self._entered(opening, Application)

    def inspect_pool(
        self, template: Machine | Path | str, *, size: int = 64, queue: int = 1024
    ) -> AbstractContextManager[InspectPool]:
        """Answer inspects from copies of a machine, or of the one stored in a directory."""
        return self._entered(
            self._inner.inspect_pool(template, size=size, queue=queue), InspectPool
        )

    def statistics(self, *, busiest: int = 0) -> FleetStatistics:
        """Return what the fleet does now and did so far, and what the busiest machines do."""
        return self._portal.call(partial(self._inner.statistics, busiest=busiest))


@contextmanager
def open_fleet(
    workers: int = 2,
    *,
    logger: Logger | None = None,
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> Iterator[Fleet]:
    """Open a fleet on a loop in a thread of its own, until the block is left.

    Where there is no block, as in a REPL, `contextlib.ExitStack` keeps it: `fleet =
    stack.enter_context(open_fleet())`. Close that before the program ends, which waits for it.
    """
    with (
        start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(open_async_fleet(workers, logger=logger)) as inner,
    ):
        yield Fleet(portal, inner)
