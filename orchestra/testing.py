"""The fakes our own tests use: a scripted machine, and a clock that moves only when told."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from orchestra.errors import MachineBusy, MachineClosed
from orchestra.machine.request import ANYTHING, Exchange, exchange
from orchestra.machine.stop import (
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
    YieldKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "BOOT",
    "FOREVER",
    "Action",
    "Break",
    "FakeClock",
    "FakeMachine",
    "Family",
    "Guest",
    "Halt",
    "Say",
    "Store",
    "Wait",
    "Work",
    "accept",
    "note_guest",
    "reject",
    "report",
    "throw",
]


class FakeClock:
    """A clock for `open_fleet(clock=...)` that moves when a fake machine works, or when told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0.0
        self._thread = threading.local()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def cpu(self) -> float:
        """Seconds by which this thread has moved the clock."""
        return float(getattr(self._thread, "seconds", 0.0))

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, used by this thread."""
        with self._lock:
            self._now += seconds
        self._thread.seconds = self.cpu() + seconds


@dataclass(frozen=True, slots=True)
class Work:
    """The guest computes for `cycles`."""

    cycles: int


@dataclass(frozen=True, slots=True)
class Say:
    """The guest yields."""

    kind: YieldKind
    reason: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Store:
    """The guest replaces its whole memory."""

    memory: bytes


@dataclass(frozen=True, slots=True)
class Halt:
    """The guest switches itself off."""

    code: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """The guest waits for an interrupt that never comes."""


@dataclass(frozen=True, slots=True)
class Break:
    """The host fails: `run` raises `error` here, every time, and the machine stands before it."""

    error: Exception


Action: TypeAlias = Work | Say | Store | Halt | Wait | Break
Guest: TypeAlias = "Callable[[bytes, int, bytes], Iterable[Action]]"

FOREVER = (Work(1 << 62),)


def report(data: bytes) -> Say:
    """Make the yield that gives a report."""
    return Say("automatic", YIELD_REPORT, data)


def accept() -> Say:
    """Make the yield that accepts."""
    return Say("manual", YIELD_ACCEPTED)


def reject() -> Say:
    """Make the yield that rejects."""
    return Say("manual", YIELD_REJECTED)


def throw(data: bytes) -> Say:
    """Make the yield that raises an exception."""
    return Say("manual", YIELD_EXCEPTION, data)


BOOT: tuple[Action, ...] = (Work(1000), accept())


def note_guest(memory: bytes, reason: int, payload: bytes) -> Iterable[Action]:
    """Serve as the usual guest: it appends each accepted input to its memory and reports it all.

    The inputs "reject", "throw", "halt", "wait" and "loop" do what they say, after a report.
    """
    if reason == REQUEST_INSPECT:
        return (Store(memory + b"?" + payload), Work(200), report(memory + payload), accept())
    endings: dict[bytes, Action] = {
        b"reject": reject(),
        b"throw": throw(b"as asked"),
        b"halt": Halt(3),
        b"wait": Wait(),
        b"loop": FOREVER[0],
    }
    return (
        Work(100),
        Say("automatic", YIELD_PROGRESS, (500).to_bytes(4, "little")),
        Store(memory + payload),
        report(b"got " + payload),
        Say("automatic", YIELD_OUTPUT, payload),
        Work(100),
        endings.get(payload, accept()),
    )


@dataclass(frozen=True, slots=True)
class State:
    """All a fake machine is."""

    cycle: int = 0
    memory: bytes = b""
    script: tuple[Action, ...] = BOOT
    at: int = 0
    spent: int = 0
    stopped: Stop | None = None


@dataclass(slots=True)
class Family:
    """Counts over a fake machine and all its forks."""

    open: int = 0
    forks: int = 0
    rollbacks: int = 0
    runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: Literal["open", "forks", "rollbacks", "runs"], by: int = 1) -> None:
        """Add to one of the counts."""
        with self.lock:
            setattr(self, name, getattr(self, name) + by)


class FakeMachine:
    """A machine whose guest is a script: deterministic, forkable, and as slow as you like.

    `clock` is moved by the time its cycles would take; with `pace="host"` the time really passes
    (without the GIL) until it is over or `interrupt()` is called. With neither, work takes no time.
    """

    def __init__(
        self,
        script: Iterable[Action] = BOOT,
        guest: Guest = note_guest,
        *,
        cycles_per_second: float = 100e6,
        clock: FakeClock | None = None,
        pace: Literal["none", "host"] = "none",
        family: Family | None = None,
    ) -> None:
        self.guest = guest
        self.cycles_per_second = cycles_per_second
        self.clock = clock
        self.pace = pace
        self.family = family or Family()
        self.family.count("open")
        self.closed = False
        self.reproducible = True
        self.threads: set[int] = set()
        self._state = State(script=tuple(script))
        self._remembered = self._state
        self._flag = threading.Event()
        self._guard = threading.Lock()
        self._tx = b""

    @property
    def cycle(self) -> int:
        """Cycles since reset."""
        return self._state.cycle

    @property
    def memory(self) -> bytes:
        """The guest's memory."""
        return self._state.memory

    def run(
        self,
        until: int | None = None,
        *,
        max_cycles: int | None = None,
        max_seconds: float | None = None,  # noqa: ARG002 - its time passes as the script says
    ) -> Stop:
        """Run the script up to a cycle, a yield, its end, or an interrupt, which comes first."""
        self._enter()
        try:
            self.family.count("runs")
            self.threads.add(threading.get_ident())
            end = until if until is not None else 1 << 63
            if max_cycles is not None:
                end = min(end, self.cycle + max_cycles)
            while not self._flag.is_set():
                stop = self._step(end)
                if stop is not None:
                    return stop
            self._flag.clear()
            return Interrupted(self.cycle)
        finally:
            self._guard.release()

    def interrupt(self) -> None:
        """Make the run in progress, or else the next one, return Interrupted."""
        self._flag.set()

    def clear_interrupt(self) -> None:
        """Take back an interrupt that no run has answered."""
        self._flag.clear()

    def receive_request(self) -> bytes:
        """Return what the guest said at its last yield."""
        return self._tx

    def send_response(self, data: bytes, reason: int = 0) -> None:
        """Start the guest's script for this request."""
        self._enter()
        try:
            stopped = self._state.stopped
            if not isinstance(stopped, Yielded) or stopped.kind != "manual":
                raise MachineBusy("the guest does not wait for a request")
            script = tuple(self.guest(self.memory, reason, data))
            self._state = replace(self._state, script=script, at=0, spent=0, stopped=None)
        finally:
            self._guard.release()

    def exchange(
        self,
        end: int,
        request: tuple[bytes, int] | None = None,
        *,
        most_bytes: int = ANYTHING,  # noqa: ARG002 - the caller looks at each yield
        discard: bool = False,  # noqa: ARG002 - or rolls back itself
        cpu_end: int = 0,  # noqa: ARG002 - its time passes as the script says
    ) -> Exchange:
        """Give a request, if there is one, and run."""
        return exchange(self, end, request)

    def checkpoint(self) -> None:
        """Remember this state."""
        self._enter()
        self._remembered = self._state
        self._guard.release()

    def rollback(self) -> None:
        """Return to the remembered state."""
        self._enter()
        self.family.count("rollbacks")
        self._state = self._remembered
        self._guard.release()

    def fork(self) -> FakeMachine:
        """Return a machine in the same state that goes its own way."""
        self._enter()
        try:
            self.family.count("forks")
            other = FakeMachine(
                guest=self.guest,
                cycles_per_second=self.cycles_per_second,
                clock=self.clock,
                pace=self.pace,
                family=self.family,
            )
            other._state = other._remembered = self._state
            return other
        finally:
            self._guard.release()

    def digest(self) -> str:
        """Hash the whole state."""
        state = self._state
        text = repr((state.cycle, state.memory, state.script, state.at, state.spent, state.stopped))
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Close the machine; twice is fine."""
        if not self.closed:
            self._enter()
            self.closed = True
            self.family.count("open", -1)
            self._guard.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self) -> None:
        if not self._guard.acquire(blocking=False):
            raise MachineBusy("the machine is in use on another thread")
        if self.closed:
            self._guard.release()
            raise MachineClosed("the machine is closed")

    def _step(self, end: int) -> Stop | None:
        state = self._state
        if state.stopped is not None:
            return state.stopped
        if state.cycle >= end:
            return ReachedCycle(state.cycle)
        if state.at == len(state.script):
            return self._stop(Halted(state.cycle, 0), at=state.at)
        match state.script[state.at]:
            case Work(cycles):
                done = self._pass(min(cycles - state.spent, end - state.cycle))
                spent = state.spent + done
                over = spent == cycles
                self._state = replace(
                    state,
                    cycle=state.cycle + done,
                    at=state.at + over,
                    spent=0 if over else spent,
                )
            case Store(memory):
                self._state = replace(state, memory=memory, at=state.at + 1)
            case Say(kind, reason, data):
                self._tx = data
                progress = kind == "automatic" and reason == YIELD_PROGRESS
                number = int.from_bytes(data, "little") if progress else len(data)
                return self._stop(Yielded(state.cycle, kind, reason, number))
            case Halt(code):
                return self._stop(Halted(state.cycle, code))
            case Wait():
                return Idle(state.cycle)
            case Break(error):
                raise error
        return None

    def _stop(self, stop: Stop, at: int | None = None) -> Stop:
        state = self._state
        lasting = not isinstance(stop, Yielded) or stop.kind == "manual"
        self._state = replace(
            state, at=state.at + 1 if at is None else at, stopped=stop if lasting else None
        )
        return stop

    def _pass(self, cycles: int) -> int:
        """Let the time of `cycles` pass and return how many of them did."""
        if self.clock is not None:
            self.clock.advance(cycles / self.cycles_per_second)
        elif self.pace == "host":
            began = time.monotonic()
            if self._flag.wait(min(cycles / self.cycles_per_second, threading.TIMEOUT_MAX)):
                passed = int((time.monotonic() - began) * self.cycles_per_second)
                return max(0, min(cycles, passed))
        return cycles
