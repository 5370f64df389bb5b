"""The desk where the loop hands jobs in, and workers are told what to do next.

The loop never waits for the desk's lock to hand a query in: it appends to a deque and wakes one
sleeping worker, if need be.

Brief slices are mostly Python, which runs on one thread at a time: two workers at it would only
hand the GIL to and fro (measured: 10,700 inspects/s with two, 17,000 with one). So one worker
serves them, and no other is woken for a brief job, or keeps one, while that one is not in a long
slice. It takes quick writers as well: it is awake already, and knows who holds the GIL.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from orchestra.errors import MachineClosed
from orchestra.sched.jobs import Job, State
from orchestra.sched.outbox import Outbox
from orchestra.sched.plan import Planner, Priority
from orchestra.sched.precedence import Precedence

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.sched.plan import Share
    from orchestra.sched.worker import Clock, Worker

__all__ = ["Desk"]

ABOVE_ALL = -1
LEND_SECONDS = 1e-3
NEWCOMERS = 16  # that are looked at before a pick


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
        self.workers: list[Worker] = []
        self.slices = 0
        self.cycles = 0
        self.seconds = 0.0
        self.stopping = False
        self.precedence = Precedence()
        self.outbox = Outbox(self.precedence, clock.now, post, tell)
        self._lock = threading.Lock()  # guards all of these, worker.job, job.state
        self._inbox: deque[Job] = deque()
        self._urgent: deque[Job] = deque()  # cancelled jobs that have started: end them next
        self._parked: list[Worker] = []
        self._brisk: Worker | None = None  # who serves brief jobs

    # On the loop.

    def submit(self, job: Job) -> bool:
        """Hand a job in, and return whether it is over; else the loop is told when it is.

        A quick writer among brief inspects is over, or LEND_SECONDS have passed: the loop lends it
        the interpreter rather than to compete for it.
        """
        if self.stopping:
            raise MachineClosed("the fleet is closed")
        job.submitted = job.since = self.clock.now()
        if job.priority is Priority.ADVANCE:
            return self._submit_writer(job)
        self._inbox.append(job)
        if not job.share.brief:
            self._wake()
        elif self._brisk is None:
            self._wake(brisk=True)  # from now on: the next job wakes nobody
        return False

    def _submit_writer(self, job: Job) -> bool:
        with self._lock:
            if job.share.quick:
                self.precedence.hold(job)
                if self.precedence.is_contended(job.submitted) and not self.writer_runs():
                    job.lent = threading.Lock()
                    job.lent.acquire()
            self.planner.add(job)
        brisk = job.holds and self._brisk is not None  # it will take the job next
        if not (brisk or self._wake()):
            self._preempt(Priority.ADVANCE)
        return job.lent is not None and self._lend(job, job.lent)

    def _lend(self, job: Job, ended: threading.Lock) -> bool:
        self.outbox.lend()
        if not ended.acquire(timeout=LEND_SECONDS):
            with self._lock:
                if job.state is not State.ENDED:
                    job.lent, self.outbox.lent = None, False  # it will be delivered
                    return False
            ended.acquire()
        self.outbox.tell(job)
        return True

    def cancel(self, job: Job) -> bool:
        """End a job early; True when it has ended already, else it will within a few ms."""
        with self._lock:
            job.cancelled = True
            if job.state is State.FRESH:
                self.planner.remove(job)
                job.state = State.ENDED
                self._end_hold(job)
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
            self.stopping = True
            for worker in self.workers:
                if worker.job is not None:
                    worker.job.interrupt()
        while self._wake():
            pass

    def running(self) -> int:
        """Return how many jobs are in a slice now."""
        return sum(worker.job is not None for worker in self.workers)

    def running_job(self, share: Share) -> Job | None:
        """Return a job of a share that is in a slice now, if there is one."""
        jobs = (worker.job for worker in self.workers)
        return next((job for job in jobs if job is not None and job.share is share), None)

    def _preempt(self, priority: int) -> None:
        """End one slice of a class lower than `priority`, unless a worker is free anyway."""
        with self._lock:
            victim = None
            for worker in self.workers:
                job = worker.job
                if job is None:
                    return
                if job.priority > priority and not job.owed and not job.interrupting:
                    priority, victim = job.priority, job
            if victim is not None:
                victim.interrupt()

    # On the workers.

    def take(self, worker: Worker) -> Job | None:
        """Pick the next job, or None when there is none; a cancelled one is to be ended."""
        with self._lock:
            if self._brisk is worker:
                self._brisk = None
            now, planner = self.clock.now(), self.planner
            only_writers = self.precedence.held and self.precedence.only_writers(now)
            if self._inbox and not only_writers:
                self._look_at_newcomers()
            if only_writers and not (self._urgent or planner.lengths()[Priority.ADVANCE]):
                return None
            job = self._urgent.popleft() if self._urgent else planner.pick()
            if job is None:
                return None
            assert isinstance(job, Job)
            if job.cancelled or self.stopping:
                job.cancelled = True
                job.state = State.ENDED
                self._end_hold(job)
                return job
            brief = job.brief
            if brief and self._brisk is not None:
                planner.put_back(job)
                return None
            if brief or (job.holds and self._brisk is None):
                self._brisk = worker
            self.precedence.picked(job, now)
            if job.state is State.FRESH:
                job.started = now
            job.state = State.RUNNING
            job.share.waited_seconds += now - job.since
            worker.job = job
            return job

    def settle(
        self, worker: Worker, seconds: float, cycles: int, now: float, *, done: bool
    ) -> bool:
        """Account for the slice a worker did until now; return whether the job ends here."""
        with self._lock:
            job, worker.job = worker.job, None
            assert job is not None
            self.planner.charge(job, seconds, cycles)
            self.slices += 1
            self.seconds += seconds
            self.cycles += cycles
            job.seconds += seconds
            if done or job.cancelled or self.stopping:
                job.state = State.ENDED
                return True
            job.state = State.WAITING
            job.since = now
            self.planner.put_back(job)
            if job.holds:
                self._end_hold(job)  # it is not as quick as it was thought to be
            return False

    def hold(self, job: Job) -> None:
        """Let inspects make way until this job is over: it needs the interpreter from now on."""
        with self._lock:
            self.precedence.hold(job)

    def release(self, job: Job) -> None:
        """Say that a job is over, and that its caller is about to know."""
        with self._lock:
            self._end_hold(job)

    def share_work(self) -> None:
        """Wake another worker if there is work: this one will be busy for a while."""
        if self._parked and self.has_work() and not self.precedence.held:
            self._wake()

    def park(self, worker: Worker) -> None:
        """Sleep until somebody calls `_wake`, unless something came in just now."""
        self._parked.append(worker)
        writers = self._urgent or self.planner.lengths()[Priority.ADVANCE]
        if self.stopping or writers or (self._brisk is None and self._has_pick()):
            try:
                self._parked.remove(worker)
            except ValueError:  # somebody woke us already
                worker.wake.acquire()
        else:
            worker.wake.acquire()

    def writer_runs(self) -> bool:
        """Whether an advance is in a slice now."""
        jobs = [worker.job for worker in self.workers]
        return any(job is not None and job.priority is Priority.ADVANCE for job in jobs)

    def has_work(self) -> bool:
        """Whether anything waits to be picked, be it held up or not."""
        return bool(self._inbox or self.planner.runnable)

    def _wake(self, *, brisk: bool = False) -> bool:
        """Wake one sleeping worker; False when none sleeps."""
        try:
            worker = self._parked.pop()
        except IndexError:
            return False
        if brisk:
            self._brisk = worker
        worker.wake.release()
        return True

    def _look_at_newcomers(self) -> None:
        inbox, looked = self._inbox, 0
        while inbox and (looked < NEWCOMERS or not self.planner.runnable):
            job = inbox.popleft()
            looked += 1
            if job.state is State.FRESH:
                self.planner.add(job)

    def _has_pick(self) -> bool:
        """Whether there is something for a worker that is free."""
        if self._urgent:
            return True
        if self.precedence.only_writers(self.clock.now()):
            return bool(self.planner.lengths()[Priority.ADVANCE])
        return self.has_work()

    def _end_hold(self, job: Job) -> None:
        """Under the lock."""
        if self.precedence.end(job):
            if self.outbox:
                self.outbox.call_for_delivery()
            if self._brisk is None and self.has_work():
                self._wake()
