"""What a worker steps: a run, a request, an inspect in a lease; each knows how to end early."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, Self

from orchestra.machine.request import Limits, Outcome, Request, Serving
from orchestra.machine.stop import Interrupted, ReachedCycle, Stop
from orchestra.sched.plan import NO_DEADLINE, Entry, Priority, Share

if TYPE_CHECKING:
    import threading
    from collections import deque
    from collections.abc import Callable

    from orchestra.machine.request import Event

__all__ = ["InspectJob", "Job", "Lender", "MachineLike", "RequestJob", "RunJob", "State"]


class MachineLike(Serving, Protocol):
    """What the scheduler needs of a machine; orchestra's and the fake one have it."""

    def interrupt(self) -> None:
        """Make the run in progress, or else the next one, return Interrupted; from any thread."""

    def fork(self) -> Self:
        """Return a machine in the same state that goes its own way."""

    def digest(self) -> str:
        """Hash the whole state."""

    def close(self) -> None:
        """Give everything back; twice is fine."""


class State(Enum):
    """Where a job is."""

    FRESH = auto()  # waits for its first slice: its machine is as it was
    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()


class Job(Entry):
    """Something done in slices by one worker at a time.

    `state`, `cancelled`, `interrupting`, `holds` and `lent` are set under the desk's lock only; the
    rest belongs to the worker that runs the job until it has ended, and then to the loop.
    """

    __slots__ = (
        "cancelled",
        "cycles",
        "ended",
        "error",
        "hear",
        "holds",
        "interrupting",
        "lent",
        "machine",
        "over",
        "result",
        "said",
        "seconds",
        "since",
        "started",
        "state",
        "submitted",
        "then",
        "waiter",
    )

    def __init__(
        self, machine: Any, share: Share, priority: Priority, deadline: float = NO_DEADLINE
    ) -> None:
        super().__init__(share, priority, deadline)
        self.machine = machine
        self.state = State.FRESH
        self.cancelled = False
        self.holds = False  # inspects wait until it is over
        self.lent: threading.Lock | None = None  # the loop waits for its release, at the end
        self.interrupting = False  # we called machine.interrupt() and have not seen it answered
        self.error: BaseException | None = None
        self.result: Any = None
        self.over = False  # the worker is through with it
        self.said: deque[Event] | None = None  # what it said, when somebody listens
        self.cycles = 0
        self.seconds = 0.0  # CPU seconds, as charged
        self.submitted = self.started = self.ended = 0.0
        self.since = 0.0  # when it began to wait for a worker
        # The loop's: what the caller waits on, who hears what is said, what follows the end.
        self.waiter: Any = None
        self.hear: Callable[[deque[Event]], None] | None = None
        self.then: Callable[[Job], None] | None = None

    @property
    def brief(self) -> bool:
        """Whether the next slice will probably end the job, and soon."""
        return self.share.brief and not self.cycles

    def step(self, max_cycles: int, max_seconds: float) -> bool:
        """Go on for so much, seconds of CPU as well; return whether the job is done."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End between two slices, without a result."""

    def tidy(self) -> None:
        """Clean up after the end was told."""

    def interrupt(self) -> None:
        """Make the slice in progress end soon; call it under the desk's lock only."""
        self.interrupting = True
        machine = self.machine
        if machine is not None:
            machine.interrupt()

    def take_back_interrupt(self) -> None:
        """Clear a flag that was set when the machine had stopped already, if the machine can."""
        if self.interrupting:
            self.interrupting = False
            clear = getattr(self.machine, "clear_interrupt", None)
            if clear is not None:
                clear()


class RunJob(Job):
    """`machine.run`, in slices."""

    __slots__ = ("options", "target")

    def __init__(
        self,
        machine: MachineLike,
        share: Share,
        priority: Priority,
        deadline: float,
        target: int | None,
        options: dict[str, int] | None = None,
    ) -> None:
        super().__init__(machine, share, priority, deadline)
        self.target = target
        self.options = options or {}

    def step(self, max_cycles: int, max_seconds: float) -> bool:
        """Run up to the target; our own interrupts do not end the run, the user's do."""
        target = self.target
        before = self.machine.cycle
        end = before + max_cycles
        if target is not None and target < end:
            end = target
        stop: Stop = self.machine.run(end, max_seconds=max_seconds, **self.options)
        self.cycles += stop.cycle - before
        if isinstance(stop, ReachedCycle) and (target is None or stop.cycle < target):
            return False
        if isinstance(stop, Interrupted) and self.interrupting:
            self.interrupting = False
            return False
        self.result = stop
        return True


class RequestJob(Job):
    """An advance (or an inspect of a machine that may be changed), in slices."""

    __slots__ = ("request",)

    def __init__(
        self,
        machine: MachineLike | None,
        share: Share,
        priority: Priority,
        deadline: float,
        request: Request | None,
    ) -> None:
        super().__init__(machine, share, priority, deadline)
        self.request = request

    def step(self, max_cycles: int, max_seconds: float) -> bool:
        """Go on with the request."""
        request = self.request
        assert request is not None
        events, done = request.step(max_cycles, max_seconds)
        self.cycles = request.cycles
        if request.interrupted:
            self.interrupting = False
        if self.said is not None:
            self.said.extend(events)
        if done:
            self.result = request.outcome
        return done

    def abandon(self) -> None:
        """Undo what an advance did so far."""
        if self.request is not None:
            self.request.give_up()


class Lender(Protocol):
    """Where an inspect gets a machine it may spoil; called by workers, several at once."""

    def lease(self) -> MachineLike | None:
        """Return a machine in the template's state, or None when this lender retired."""

    def give_back(self, machine: MachineLike, *, spoiled: bool, clean: bool = False) -> None:
        """Reset the machine for the next lease unless it is clean, or drop it."""


class InspectJob(RequestJob):
    """An inspect in a lease that lasts as long as the job."""

    __slots__ = ("admitted", "find_lender", "leased", "lender", "limits", "now", "payload")

    def __init__(
        self,
        find_lender: Callable[[], Lender],
        share: Share,
        deadline: float,
        payload: bytes,
        limits: Limits | None,
        now: Callable[[], float],
    ) -> None:
        super().__init__(None, share, Priority.INSPECT, deadline, None)
        self.find_lender = find_lender
        self.lender: Lender | None = None
        self.admitted = 0.0  # the pool's: when it was let in
        self.leased = False  # the pool's: whether it counts as one of the leases
        self.payload = payload
        self.limits = limits
        self.now = now

    def step(self, max_cycles: int, max_seconds: float) -> bool:
        """Take a lease first, then go on with the request."""
        while self.machine is None:
            self.lender = self.find_lender()
            self.machine = self.lender.lease()
        if self.request is None:
            self.request = Request(
                self.machine,
                "inspect",
                self.payload,
                self.limits,
                clock=self.now,
                discard=True,
            )
        return super().step(max_cycles, max_seconds)

    def tidy(self) -> None:
        """Give the lease back."""
        machine, self.machine = self.machine, None
        if machine is not None and self.lender is not None:
            result: Outcome | None = self.result
            spoiled = result is None or result.status == "failed"
            clean = self.request is not None and self.request.discarded
            self.lender.give_back(machine, spoiled=spoiled, clean=clean)
