"""One question to a guest, from its payload to its outcome: pure steps, no thread, no await."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from orchestra.errors import BackingFault, BadConfig, GuestError
from orchestra.machine.stop import (
    REQUEST_ADVANCE,
    REQUEST_INSPECT,
    YIELD_ACCEPTED,
    YIELD_EXCEPTION,
    YIELD_OUTPUT,
    YIELD_PROGRESS,
    YIELD_REJECTED,
    YIELD_REPORT,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Stop,
    Yielded,
)
from orchestra.machine.turn import cpu_after

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence

__all__ = [
    "DEFAULT_OUTPUT_BYTES",
    "MOST_MESSAGES",
    "Event",
    "Exchange",
    "Limits",
    "Outcome",
    "Output",
    "Progress",
    "Report",
    "Request",
    "RequestKind",
    "Serving",
    "Status",
    "exchange",
    "note",
]

RequestKind: TypeAlias = Literal["advance", "inspect"]
Status: TypeAlias = Literal[
    "accepted", "rejected", "exception", "halted", "limit_exceeded", "failed"
]
ANYTHING = (1 << 64) - 1
DEFAULT_OUTPUT_BYTES = 16 << 20
MOST_MESSAGES = 1 << 16  # outputs and reports of one call
MOST_PROGRESS = 1 << 10  # events from which on only the newest progress is kept
REASONS: dict[RequestKind, int] = {"advance": REQUEST_ADVANCE, "inspect": REQUEST_INSPECT}


class Serving(Protocol):
    """What a request needs of a machine."""

    @property
    def cycle(self) -> int:
        """Cycles since reset."""

    def run(
        self,
        until: int | None = None,
        *,
        max_cycles: int | None = None,
        max_seconds: float | None = None,
    ) -> Stop:
        """Run until something happens, and say what; `max_seconds` may count or not."""

    def checkpoint(self) -> None:
        """Remember this state; it replaces the one remembered before."""

    def rollback(self) -> None:
        """Return to the remembered state, which stays remembered."""

    def receive_request(self) -> bytes:
        """Return what the guest left in its tx buffer at its last yield."""

    def send_response(self, data: bytes, reason: int = 0) -> None:
        """Give a guest that waits at a manual yield what it waits for, else MachineBusy."""

    def exchange(
        self,
        end: int,
        request: tuple[bytes, int] | None = None,
        *,
        most_bytes: int = ANYTHING,
        discard: bool = False,
        cpu_end: int = 0,
    ) -> Exchange:
        """Give a request, if there is one, and run to cycle `end`, a stop, or something to look at.

        May collect what the guest says, at most so many bytes, and may, if asked, roll back when
        the guest has accepted or rejected; an exchange that does neither is `exchange`. At
        `cpu_end`, if not 0, of this thread's CPU clock (`time.thread_time_ns`) it may end as well.
        """


class Exchange(NamedTuple):
    """Why a run ended; what the guest said before, as (cycle, reason, bytes, or per mille).

    `discarded`: the machine was rolled back meanwhile. `fault` ended it, at the cycle of `stop`.
    """

    stop: Stop
    said: Sequence[tuple[int, int, bytes | int]] = ()
    discarded: bool = False
    fault: BackingFault | None = None


def exchange(machine: Serving, end: int, request: tuple[bytes, int] | None) -> Exchange:
    """Do as `Serving.exchange` says, step by step, with a machine that knows no better."""
    if request is not None:
        machine.send_response(*request)
    return Exchange(machine.run(end))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use; None means no limit.

    `max_cycles` is exact and part of the result: the same call ends the same way everywhere.
    `max_output_bytes` bounds outputs and reports together; the one that does not fit is not kept,
    nor is any beyond MOST_MESSAGES: a guest may talk without end, and its host has to keep it all.
    `max_seconds` counts host seconds spent running (not waiting for a turn), seen between steps.
    """

    max_cycles: int | None = None
    max_output_bytes: int | None = DEFAULT_OUTPUT_BYTES
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise BadConfig(name, value, "0 or more, or None for no limit")


@dataclass(frozen=True, slots=True)
class Progress:
    """The guest says how far it is."""

    cycle: int
    per_mille: int


@dataclass(frozen=True, slots=True)
class Output:
    """The guest gave an output: a result that counts if the call is accepted."""

    cycle: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """The guest gave a report: diagnostics, or the answer to an inspect."""

    cycle: int
    data: bytes


Event: TypeAlias = Progress | Output | Report


def note(events: list[Event] | deque[Event], event: Event) -> None:
    """Append an event to those that nobody took yet; of endless progress keep the newest."""
    if (
        isinstance(event, Progress)
        and len(events) >= MOST_PROGRESS
        and isinstance(events[-1], Progress)
    ):
        events[-1] = event
    else:
        events.append(event)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, and all it said until then; `error` is set when the status is "failed".

    `cycles` are the guest's, `seconds` the host's while it ran. Only "accepted" changes a machine.
    """

    status: Status
    outputs: tuple[bytes, ...]
    reports: tuple[bytes, ...]
    exception: bytes | None
    cycles: int
    seconds: float
    error: Exception | None = None

    @property
    def accepted(self) -> bool:
        """Whether the guest accepted."""
        return self.status == "accepted"


class Request:
    """Drive one advance or inspect: call `step` until it says done, then read `outcome`.

    An advance checkpoints the machine first and rolls it back unless the guest accepts. An inspect
    changes the machine it is given: give it a fork, or roll back afterwards; with `discard` that
    may have been done when it ends, see `discarded`. `step` raises
    MachineBusy when the guest does not wait for a request; BackingFault and GuestError become the
    status "failed".
    """

    def __init__(
        self,
        machine: Serving,
        kind: RequestKind,
        payload: bytes,
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        discard: bool = False,
    ) -> None:
        self.machine = machine
        self.kind = kind
        self.payload = payload
        self.limits = limits or Limits()
        self.cycles = 0
        self.seconds = 0.0
        self.interrupted = False  # the last step ended because somebody called interrupt()
        self.discarded = False  # the machine was rolled back when the guest had answered
        self._clock = clock
        self._discard = discard
        self._started = False
        self._outcome: Outcome | None = None
        self._outputs: list[bytes] = []
        self._reports: list[bytes] = []
        self._output_bytes = 0

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome:
        """The outcome of a request that is done."""
        if self._outcome is None:
            raise RuntimeError("this request is not done: step() it until it says so")
        return self._outcome

    def step(self, max_cycles: int, max_seconds: float | None = None) -> tuple[list[Event], bool]:
        """Run for at most `max_cycles`; return what the guest said, and whether it is done.

        `max_seconds` of this thread's CPU end the step as well.
        """
        if self._outcome is not None:
            return [], True
        events: list[Event] = []
        began = self._clock()
        try:
            status, exception = self._run(max_cycles, cpu_after(max_seconds), events)
        except (BackingFault, GuestError) as error:
            self.seconds += self._clock() - began
            self.give_up("failed", error)
        except BaseException:
            self._undo()
            raise
        else:
            self.seconds += self._clock() - began
            if status is not None:
                self._end(status, exception)
            elif self.limits.max_seconds is not None and self.seconds >= self.limits.max_seconds:
                self._end("limit_exceeded")
        return events, self._outcome is not None

    def give_up(self, status: Status = "limit_exceeded", error: Exception | None = None) -> Outcome:
        """End the request between two steps, keep what the guest said, leave an advance unmade."""
        if self._outcome is None:
            self._end(status, error=error)
        return self.outcome

    def _run(
        self, max_cycles: int, cpu_end: int, events: list[Event]
    ) -> tuple[Status | None, bytes | None]:
        machine, limit = self.machine, self.limits.max_cycles
        budget = max_cycles if limit is None else min(max_cycles, limit - self.cycles)
        request = None
        if not self._started:
            if self.kind == "advance":
                machine.checkpoint()
            self._started = True
            request = self.payload, REASONS[self.kind]
        self.interrupted = False
        cycle = machine.cycle
        end = cycle + budget
        while cycle < end:
            stop, said, self.discarded, fault = machine.exchange(
                end,
                request,
                most_bytes=self._room(),
                discard=self._discard,
                cpu_end=cpu_end,
            )
            request = None
            self.cycles += stop.cycle - cycle
            cycle = stop.cycle
            for at, reason, data in said:
                if not self._add(at, reason, data, events):
                    self.cycles -= cycle - at  # it ends here, however far it went on
                    return "limit_exceeded", None
            if fault is not None:
                raise fault
            match stop:
                case Yielded(kind="manual"):
                    return self._final(stop)
                case Yielded():
                    if not self._keep(stop, events):
                        return "limit_exceeded", None
                case Halted():
                    return "halted", None
                case Idle():
                    raise GuestError(f"the guest waits for nothing at cycle {cycle}")
                case Interrupted():
                    self.interrupted = True
                    return None, None
                case ReachedCycle():  # perhaps before the end: the time is up
                    break
                case _:  # console output, which stays in the console
                    pass
        if limit is not None and self.cycles >= limit:
            return "limit_exceeded", None
        return None, None

    def _room(self) -> int:
        """Return how many bytes the guest may still say."""
        most = self.limits.max_output_bytes
        return ANYTHING if most is None else min(most, ANYTHING) - self._output_bytes

    def _keep(self, stop: Yielded, events: list[Event]) -> bool:
        """Take what an automatic yield brings; False when it is more than the limit allows."""
        if stop.reason == YIELD_PROGRESS:
            return self._add(stop.cycle, stop.reason, stop.data, events)
        if stop.reason not in (YIELD_OUTPUT, YIELD_REPORT):
            raise GuestError(f"automatic yield with unknown reason {stop.reason}")
        data = self.machine.receive_request()
        if len(data) > self._room():
            return False
        return self._add(stop.cycle, stop.reason, data, events)

    def _add(self, cycle: int, reason: int, data: bytes | int, events: list[Event]) -> bool:
        """Keep what was said; False when that would be more than MOST_MESSAGES."""
        if isinstance(data, int):
            note(events, Progress(cycle, data))
            return True
        if len(self._outputs) + len(self._reports) >= MOST_MESSAGES:
            return False
        self._output_bytes += len(data)
        if reason == YIELD_OUTPUT:
            self._outputs.append(data)
            events.append(Output(cycle, data))
        else:
            self._reports.append(data)
            events.append(Report(cycle, data))
        return True

    def _final(self, stop: Yielded) -> tuple[Status, bytes | None]:
        if stop.reason == YIELD_ACCEPTED:
            return "accepted", None
        if stop.reason == YIELD_REJECTED:
            return "rejected", None
        if stop.reason == YIELD_EXCEPTION:
            return "exception", self.machine.receive_request()
        raise GuestError(f"manual yield with unknown reason {stop.reason}")

    def _end(
        self, status: Status, exception: bytes | None = None, error: Exception | None = None
    ) -> None:
        if status != "accepted":
            self._undo()
        self._outcome = Outcome(
            status,
            tuple(self._outputs),
            tuple(self._reports),
            exception,
            self.cycles,
            self.seconds,
            error,
        )

    def _undo(self) -> None:
        if self.kind == "advance" and self._started:
            self._started = False
            self.machine.rollback()
