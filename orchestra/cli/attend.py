"""Running a machine while the user may stop it: a thread runs, this one looks after it."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar

from orchestra.errors import GuestError
from orchestra.machine.request import Request
from orchestra.machine.stop import Halted, Idle, Interrupted, Stop, Yielded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from orchestra.machine.machine import Machine
    from orchestra.machine.request import Event, Limits, Outcome, RequestKind

__all__ = ["Attendant", "Stopped"]

T = TypeVar("T")

TICK_SECONDS = 0.02  # between two looks at console and progress
SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNLIMITED = 1 << 62


class Stopped(Exception):
    """The user stopped the command with a signal; the machine stands between two instructions."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Attendant:
    """Lets a machine run in a thread, ticks meanwhile, and turns signals into `interrupt()`.

    A context manager: signals have their old meaning again behind it. The machine stops within a
    millisecond of a signal; a second one raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.seconds = 0.0  # that `run` spent in machines
        self.on_tick: Callable[[], None] = lambda: None
        self._machine: Machine | None = None
        self._pool = ThreadPoolExecutor(1, "machine")
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if self._machine is not None:
            self._machine.interrupt()

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def run(self, machine: Machine, until: int | None = None) -> Stop:
        """Run as `Machine.run` does; returns Interrupted only after a signal."""
        while True:
            stop = self._attend(machine, lambda: self._timed(machine, until))
            self.on_tick()
            if self.signal is not None or not isinstance(stop, Interrupted):
                return stop

    def _timed(self, machine: Machine, until: int | None) -> Stop:
        began = time.perf_counter()
        try:
            return machine.run(until)
        finally:
            self.seconds += time.perf_counter() - began

    def wake(self, machine: Machine) -> int:
        """Run until the guest waits for a request; returns how many cycles that took.

        Raises GuestError when it ends instead, Stopped after a signal.
        """
        began = machine.cycle
        while True:
            stop = self.run(machine)
            self.check()
            match stop:
                case Yielded(kind="manual"):
                    return machine.cycle - began
                case Halted(cycle, code):
                    raise GuestError(f"the guest halted at cycle {cycle} with code {code}")
                case Idle(cycle):
                    raise GuestError(f"the guest waits at cycle {cycle} for what never comes")

    def serve(
        self,
        machine: Machine,
        kind: RequestKind,
        payload: bytes,
        limits: Limits | None,
        on_event: Callable[[Event], None],
    ) -> Outcome:
        """Drive one request on this very machine; after a signal an advance is unmade: Stopped."""
        request = Request(machine, kind, payload, limits)
        done = False
        while not done:
            events, done = self._attend(machine, lambda: request.step(UNLIMITED))
            for event in events:
                on_event(event)
            self.on_tick()
            if not done and self.signal is not None:
                request.give_up()
                self.check()
        return request.outcome

    def _attend(self, machine: Machine, work: Callable[[], T]) -> T:
        self._machine = machine
        future = self._pool.submit(work)
        try:
            if not wait([future], TICK_SECONDS).done:
                machine.interrupt()
            return future.result()
        finally:
            self._machine = None
            if not future.done():
                machine.interrupt()
                wait([future])
