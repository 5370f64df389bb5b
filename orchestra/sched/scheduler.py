"""The loop's side of the desk: starts the workers, waits for jobs, cancels them, counts."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint, current_token

from orchestra.errors import MachineClosed
from orchestra.sched.desk import Desk
from orchestra.sched.plan import Planner, Priority
from orchestra.sched.statistics import Histogram
from orchestra.sched.whole import whole
from orchestra.sched.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestra.sched.jobs import Job
    from orchestra.sched.worker import Clock

__all__ = ["Scheduler"]

T = TypeVar("T")
FILE_THREADS = 4


class Scheduler:
    """N workers in a task group, and the calls that wait for them; belongs to one loop."""

    def __init__(self, workers: int, clock: Clock, slice_seconds: float) -> None:
        if workers < 1:
            raise ValueError(f"a fleet needs at least one worker, not {workers}")
        self.clock = clock
        self.calls = 0
        self.waiting = Histogram()
        self.serving = Histogram()
        self.telling = Histogram()
        self.desk = Desk(Planner(slice_seconds=slice_seconds), clock, self._post, self._deliver)
        self.desk.workers = [Worker(self.desk) for _ in range(workers)]
        self._lent_at = -1  # the loop's turn when it last waited for a writer
        self._call_soon = loop_caller()
        self._files = anyio.CapacityLimiter(FILE_THREADS)
        self._threads = anyio.CapacityLimiter(math.inf)

    async def employ(self) -> None:
        """Let the workers work until `stop`."""
        workers = self.desk.workers
        limiter = anyio.CapacityLimiter(len(workers))
        async with anyio.create_task_group() as group:
            for number, worker in enumerate(workers):
                group.start_soon(self._employ, worker, limiter, name=f"orchestra worker {number}")

    def stop(self) -> None:
        """Make the workers end all jobs and leave; the task group sees them out."""
        self.desk.stop()

    def sweep(self) -> None:
        """End what is left when no worker is."""
        Worker(self.desk).sweep()
        while self.desk.outbox:
            self.desk.outbox.deliver()

    async def do(self, job: Job) -> Any:
        """Have a job done and return its result; cancelled, it ends within 10 ms."""
        self.prepare(job)
        if job.priority is not Priority.ADVANCE:
            self.desk.submit(job)
            return await self.finish(job)
        with self.hurrying():
            if self.desk.outbox.turns == self._lent_at:
                await checkpoint()  # the loop goes on between two writers that it waited for
            if not job.over and self.desk.submit(job):
                self._lent_at = self.desk.outbox.turns
            return await self.finish(job)

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Let who waits here not wait behind many others on the loop."""
        outbox = self.desk.outbox
        outbox.hurried += 1
        try:
            yield
        finally:
            outbox.hurried -= 1
            outbox.resumed()

    def prepare(self, job: Job) -> None:
        """Make a job ready to be handed in later, or to be cancelled before that."""
        job.waiter = anyio.Event()

    async def finish(self, job: Job) -> Any:
        """Wait for the end of a job and return its result or raise its error."""
        try:
            if not job.waiter.is_set():
                await job.waiter.wait()
        except BaseException:
            await self.cancel(job)
            raise
        if job.error is not None:
            raise job.error
        return job.result

    async def cancel(self, job: Job) -> None:
        """End a job, and return when no worker touches its machine any more."""
        self.cancel_soon(job)
        await self._see_out(job)

    def cancel_soon(self, job: Job) -> None:
        """End a job, without waiting for it; whoever awaits it gets MachineClosed."""
        if not job.over and self.desk.cancel(job):
            job.error = MachineClosed("closed before the call began")
            job.over = True
            self.told(job)

    def told(self, job: Job) -> None:
        """Let whoever waits for a job go on; the desk calls it for each job that has ended."""
        if job.waiter.is_set():
            return
        self.calls += 1
        if job.started:
            self.waiting.add(job.started - job.submitted)
            self.serving.add(job.ended - job.started)
            self.telling.add(self.clock.now() - job.ended)
        job.waiter.set()
        if job.then is not None:
            job.then(job)

    async def in_thread(
        self, function: Callable[[], T], undo: Callable[[T], object] | None = None
    ) -> T:
        """Call a function that waits for files, in a thread that is no worker's; it is not left.

        `undo` is given what it returned when asyncio cancels the caller meanwhile.
        """
        async with self._files:
            call = partial(to_thread.run_sync, function, limiter=self._threads)
            return await whole(call, undo)

    async def in_thread_beside(self, function: Callable[[], T]) -> T:
        """Do the same for a task that nobody but us can cancel, and has a shield: with less ado."""
        return await to_thread.run_sync(function, limiter=self._files)

    async def _see_out(self, job: Job) -> None:
        """Wait until no worker touches the job's machine, whatever happens meanwhile."""
        with anyio.CancelScope(shield=True):
            while not job.waiter.is_set():
                try:
                    await job.waiter.wait()
                except anyio.get_cancelled_exc_class():  # asyncio's own: no shield stops it
                    continue

    async def _employ(self, worker: Worker, limiter: anyio.CapacityLimiter) -> None:
        await to_thread.run_sync(worker.work, abandon_on_cancel=False, limiter=limiter)

    def _post(self) -> None:
        self._call_soon(self.desk.outbox.deliver)

    def _deliver(self, job: Job) -> None:
        if job.said and job.hear is not None:
            job.hear(job.said)
        if job.over:
            self.told(job)


def loop_caller() -> Callable[[Callable[[], object]], object]:
    """Return what calls a function soon on the loop that runs here, from any thread."""
    token: Any = current_token().native_token
    soon: Callable[[Callable[[], object]], object]
    soon = getattr(token, "run_sync_soon", None) or token.call_soon_threadsafe
    return soon
