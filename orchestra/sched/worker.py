"""The desk where the loop leaves jobs, and the workers who pick them up and bring them back.

A worker is a thread that runs slices back to back: it settles the slice it did and picks the next
under one lock, without the loop. The loop never waits for that lock to hand a job in: it appends to
a deque and wakes one sleeping worker. What has ended goes back in batches: at once when the worker
has nothing else to do or a longer slice comes next, else every BATCH jobs or HOLD_SECONDS.

Brief slices are mostly Python, which runs on one thread at a time: two workers at it would only
hand the GIL to and fro (measured: 10,700 inspects/s with two, 17,000 with one). So no second worker
is woken for a brief job while one is awake and not in a long slice; and that one waits, after it
handed over, until the loop has begun with it (measured: 28,000 inspects/s without, 33,000 with, and
an advance among them answered after 0.2 ms instead of 1.7).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from orchestra.errors import MachineClosed
from orchestra.sched.jobs import Job, State
from orchestra.sched.plan import Planner, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Clock", "Desk", "HostClock", "Place"]

BATCH = 64
HURRIED_BATCH = 2
HURRIED_FLUSH = 4
LEAVE_SECONDS = 100e-6
HEARD_SECONDS = 5e-3
PASSES = 16  # brief jobs between two writers that hold the others up
HOLD_SECONDS = 1e-3
SHORT_SHIFT = 3
ABOVE_ALL = -1


class Clock(Protocol):
    """Two ways to see time pass."""

    def now(self) -> float:
        """Seconds on the wall, from an arbitrary start."""

    def cpu(self) -> float:
        """CPU seconds of the calling thread."""


class HostClock:
    """The host's clocks."""

    now = staticmethod(time.perf_counter)
    cpu = staticmethod(time.thread_time)


class Place:
    """What belongs to one worker."""

    __slots__ = ("brisk", "heard", "job", "oldest", "pending", "untidy", "wake")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.brisk = False  # awake, and not in a long slice
        self.pending: list[Job] = []
        self.oldest = 0.0
        self.untidy: Job | None = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self.heard = threading.Lock()  # held, unless the loop has begun to deliver
        self.heard.acquire()


class Desk:
    """All that the loop and the workers share; made for one fleet."""

    def __init__(
        self,
        planner: Planner,
        clock: Clock,
        post: Callable[[], None],
        tell: Callable[[Job], None],
    ) -> None:
        self.planner = planner
        self.clock = clock
        self.places: list[Place] = []
        self.slices = 0
        self.cycles = 0
        self.seconds = 0.0
        self.hurried = 0  # how many wait who should not wait behind others on the loop
        self.held = 0  # writers that need the interpreter: inspects wait for them,
        self._passes = 0  # except so many
        self._post = post  # asks the loop to call `deliver` soon; from any thread
        self._tell_loop = tell  # called on the loop, for a job that is over or has said something
        self._posted = False
        self._lock = threading.Lock()  # guards planner, urgent, place.job, job.state
        self._inbox: deque[Job] = deque()
        self._urgent: deque[Job] = deque()  # cancelled jobs that have started: end them next
        self._parked: list[Place] = []
        self._unheard: list[Place] = []  # who waits for the loop to begin,
        self._unresumed: list[Place] = []  # or for a writer to go on
        self._outbox: deque[Job] = deque()
        self._stopping = False

    # On the loop.

    def submit(self, job: Job) -> None:
        """Hand a job in; the loop is told when it is over."""
        if self._stopping:
            raise MachineClosed("the fleet is closed")
        job.submitted = self.clock.now()
        if job.priority is Priority.ADVANCE and job.share.quick:
            with self._lock:
                self.held += 1
                job.holds = True
        self._inbox.append(job)
        if (job.share.brief or job.holds) and any(place.brisk for place in self.places):
            return
        if not self._wake() and job.priority is Priority.ADVANCE:
            self._preempt(Priority.ADVANCE)

    def cancel(self, job: Job) -> bool:
        """End a job early; True when it has ended already, else it will within a few ms."""
        with self._lock:
            job.cancelled = True
            if job.state is State.FRESH:
                self.planner.remove(job)
                held = job.holds
                self._ended(job)
                if held:  # others may run again, and nobody else says so
                    self._wake()
                return True
            if job.state is State.RUNNING:
                job.interrupt()
            elif job.state is State.WAITING:
                self.planner.remove(job)
                self._urgent.append(job)
        if not self._wake():
            self._preempt(ABOVE_ALL)
        return False

    def stop(self) -> None:
        """Make all workers end all jobs and leave."""
        with self._lock:
            self._stopping = True
            for place in self.places:
                if place.job is not None:
                    place.job.interrupt()
        while self._wake():
            pass

    def resumed(self) -> None:
        """Say that a writer has gone on."""
        while self._unresumed:
            self._unresumed.pop().heard.release()

    def deliver(self) -> None:
        """Tell what has ended; a part of it, when it is much: a turn of the loop stays short."""
        self._posted = False
        while self._unheard:
            self._unheard.pop().heard.release()
        outbox = self._outbox
        for _ in range(HURRIED_BATCH if self.hurried else BATCH):
            if not outbox or (self.held and outbox[0].priority is not Priority.ADVANCE):
                return  # who ends the hold calls again
            self._tell_loop(outbox.popleft())
        if outbox:
            self._call_for_delivery()

    def sweep(self) -> None:
        """End what is left when no worker is."""
        place = Place()
        while (job := self._take(place)) is not None:
            self._end(job)
            self._tell(place, job)
            job.tidy()
        self._outbox.extend(place.pending)
        while self._outbox:
            self.deliver()

    def running(self) -> int:
        """Return how many jobs are in a slice now."""
        return sum(place.job is not None for place in self.places)

    def _wake(self) -> bool:
        """Wake one sleeping worker; False when none sleeps."""
        try:
            place = self._parked.pop()
        except IndexError:
            return False
        place.wake.release()
        return True

    def _preempt(self, priority: int) -> None:
        """End one slice of a class lower than `priority`, unless a worker is free anyway."""
        with self._lock:
            victim = None
            for place in self.places:
                job = place.job
                if job is None:
                    return
                if job.priority > priority and not job.owed and not job.interrupting:
                    priority, victim = job.priority, job
            if victim is not None:
                victim.interrupt()

    # On the workers.

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let inspects wait: a writer has Python to do, and would get its lock once in a while."""
        with self._lock:
            self.held += 1
        try:
            yield
        finally:
            with self._lock:
                self._release()
            if self._has_work():
                self._wake()

    def work(self, place: Place) -> None:
        """Serve until the fleet stops; the body of a worker thread."""
        while True:
            job = self._take(place)
            if place.pending and (job is None or self._is_time(place, job)):
                writer = any(each.priority is Priority.ADVANCE for each in place.pending)
                self._flush(place)
                if job is not None and job.brief:
                    self._let_the_loop_in(place, self._unresumed if writer else self._unheard)
            if place.untidy is not None:
                place.untidy.tidy()
                place.untidy = None
            if job is None:
                if self._stopping:
                    return
                self._park(place)
            elif job.state is State.ENDED:
                self._end(job)
                self._tell(place, job)
            else:
                self._serve(place, job)

    def _serve(self, place: Place, job: Job) -> None:
        """Give one slice."""
        cpu, now = self.clock.cpu, self.clock.now
        budget = self.planner.slice_cycles(job)
        place.brisk = job.brief
        if place.brisk:
            budget = max(budget >> SHORT_SHIFT, 1)  # it may be the long one among brief ones
        elif (self._inbox or self.planner.runnable) and not self.held:
            self._wake()  # nobody may have been woken for those, since we were there
        cycles, started, began = job.cycles, now(), cpu()
        try:
            done = not job.cancelled and job.step(budget)
        except BaseException as error:  # noqa: BLE001 - it belongs to the job's caller
            job.error, done = error, True
        seconds = cpu() - began
        job.share.note(seconds, now() - started)
        place.brisk = True
        if self._settle(place, job, seconds, job.cycles - cycles, done=done):
            if not done:
                self._end(job)
            elif job.interrupting:
                guard(job, job.take_back_interrupt)
            self._tell(place, job)
        elif job.said:
            self._tell(place, job, over=False)

    def _take(self, place: Place) -> Job | None:
        """Pick the next job, or None when there is none; a cancelled one is to be ended."""
        with self._lock:
            inbox = self._inbox
            while inbox:
                newcomer = inbox.popleft()
                if newcomer.state is State.FRESH:
                    self.planner.add(newcomer)
            if not self._has_work():
                return None
            job = self._urgent.popleft() if self._urgent else self.planner.pick()
            if job is None:
                return None
            assert isinstance(job, Job)
            if job.cancelled or self._stopping:
                job.cancelled = True
                self._ended(job)
                return job
            if self.held and job.priority is not Priority.ADVANCE:
                self._passes -= 1
            if job.state is State.FRESH:
                job.started = self.clock.now()
            job.state = State.RUNNING
            place.job = job
            return job

    def _has_work(self) -> bool:
        """Whether there is something for a worker that is free."""
        if self._urgent:
            return True
        only_writers = self.held and self._passes <= 0
        return bool(self.planner.lengths()[0] if only_writers else self.planner.runnable)

    def _ended(self, job: Job) -> None:
        """Note that a job is over; under the lock."""
        job.state = State.ENDED
        self._end_hold(job)

    def _end_hold(self, job: Job) -> None:
        if job.holds:
            job.holds = False
            self._release()

    def _release(self) -> None:
        """End a hold; under the lock."""
        self.held -= 1
        self._passes = PASSES
        if self._outbox:
            self._call_for_delivery()

    def _settle(self, place: Place, job: Job, seconds: float, cycles: int, *, done: bool) -> bool:
        """Account for a slice; return whether the job ends here."""
        with self._lock:
            place.job = None
            self.planner.charge(job, seconds, cycles)
            self.slices += 1
            self.seconds += seconds
            self.cycles += cycles
            job.seconds += seconds
            if done or job.cancelled or self._stopping:
                self._ended(job)
                return True
            job.state = State.WAITING
            self.planner.put_back(job)
            self._end_hold(job)  # it is not as quick as it was thought to be
            return False

    def _end(self, job: Job) -> None:
        """Let a job give up that has no result."""
        guard(job, job.abandon)
        guard(job, job.take_back_interrupt)
        if job.error is None:
            job.error = MachineClosed("closed before the call ended")

    def _tell(self, place: Place, job: Job, *, over: bool = True) -> None:
        """Put the job aside for the loop: it has ended, or has something to say."""
        now = self.clock.now()
        if over:
            job.ended = now
            job.over = True
            place.untidy = job
        if job.priority is Priority.ADVANCE:
            place.oldest = -HOLD_SECONDS  # long ago: a writer waits for nobody
        elif not place.pending:
            place.oldest = now
        place.pending.append(job)

    def _is_time(self, place: Place, following: Job) -> bool:
        """Whether what is put aside should not wait for the job that follows."""
        return (
            len(place.pending) >= (HURRIED_FLUSH if self.hurried else BATCH)
            or not following.brief
            or self.clock.now() - place.oldest > HOLD_SECONDS
        )

    def _flush(self, place: Place) -> None:
        """Hand over to the loop what was put aside."""
        for job in place.pending:
            if job.priority is Priority.ADVANCE:
                self._outbox.appendleft(job)
            else:
                self._outbox.append(job)
        place.pending.clear()
        self._call_for_delivery()

    def _call_for_delivery(self) -> None:
        if not self._posted:
            self._posted = True
            self._post()

    def _let_the_loop_in(self, place: Place, waiting: list[Place]) -> None:
        """Wait until the loop delivers, or a writer has gone on: at once, if it has nothing else.

        Else this thread would go on with the interpreter's lock, which it gives away too shortly,
        around a brief run in C, for a thread that was asleep to get it in less than 5 ms.
        """
        waiting.append(place)
        if not ((self._posted or self.hurried) and place.heard.acquire(timeout=HEARD_SECONDS)):
            try:
                waiting.remove(place)
            except ValueError:  # it was heard meanwhile
                place.heard.acquire()
        if any(one.job is not None and one.job.priority is Priority.ADVANCE for one in self.places):
            time.sleep(LEAVE_SECONDS)  # its guest may have ended: it would wait for us up to 5 ms

    def _park(self, place: Place) -> None:
        """Sleep until somebody calls `_wake`, unless something came in just now."""
        self._parked.append(place)
        place.brisk = False
        if self._inbox or self._has_work() or self._stopping:
            try:
                self._parked.remove(place)
            except ValueError:  # somebody woke us already
                place.wake.acquire()
        else:
            place.wake.acquire()
        place.brisk = True


def guard(job: Job, call: Callable[[], None]) -> None:
    """Call, and let what it raises be the job's error unless there is one."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - it belongs to the job's caller
        if job.error is None:
            job.error = error
