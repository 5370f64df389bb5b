"""The writing side of an application: an input is run, hashed and logged in one go by a worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from orchestra.errors import LogFault
from orchestra.machine.request import Outcome
from orchestra.sched.input_log import InputOutcome
from orchestra.sched.jobs import Job, RequestJob
from orchestra.sched.plan import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.machine.machine import Machine
    from orchestra.machine.request import Request
    from orchestra.sched.input_log import InputLog
    from orchestra.sched.inspection import InspectPool
    from orchestra.sched.plan import Share
    from orchestra.sched.settings import ApplicationSettings

__all__ = ["InputJob", "Writer"]


class Writer:
    """Machine and log, which go together; one input at a time, on whatever thread.

    An input is in the log when `commit` returns, and on the disk, and published, when `publish`
    does: nobody sees a state that a power failure could undo. The next input may be on its way
    meanwhile.
    """

    def __init__(
        self,
        machine: Machine,
        log: InputLog,
        pool: InspectPool,
        settings: ApplicationSettings,
    ) -> None:
        self.machine = machine
        self.log = log
        self.state_hash: str | None = None  # after the last input
        self.published = log.last  # the last input that is
        self._pool = pool
        self._settings = settings
        self._lock = threading.Lock()  # guards these two
        self._committed = log.last
        self._next: Machine | None = None  # the state to publish
        self._broken: LogFault | None = None

    def begin(self) -> None:
        """Look at the log, and sync what a process that was killed may have left; blocking."""
        if self._settings.durable:
            self._sync()
        for entry in self.log.entries(self.log.last, self.log.last):
            self.state_hash = entry.state_hash

    @property
    def lags(self) -> bool:
        """Whether there are inputs that wait for a sync."""
        return self._settings.durable and self.published < self._committed and self._broken is None

    def check(self) -> None:
        """Raise what happened when the log could not be synced: what is on the disk is unknown."""
        if self._broken is not None:
            raise LogFault(self._broken.path, "could not be synced; open the application again")

    def commit(self, payload: bytes, outcome: Outcome) -> InputOutcome:
        """Take an input into the log, or undo it and raise."""
        machine, state_hash = self.machine, self.state_hash
        try:
            if self._settings.state_hashes and (outcome.accepted or state_hash is None):
                state_hash = machine.root_hash()
            result = InputOutcome(
                **fields_of(outcome),
                number=self.log.last + 1,
                cycle=machine.cycle,
                state_hash=state_hash,
            )
            self.log.append(payload, result)
        except BaseException:
            if outcome.accepted:
                machine.rollback()
            raise
        self.state_hash = state_hash
        self._keep_to_publish(result)
        if not self._settings.durable:
            self.publish()
        return result

    def _keep_to_publish(self, result: InputOutcome) -> None:
        following = self.machine.fork() if result.accepted else None
        with self._lock:
            passed_over = None
            if following is not None:
                passed_over, self._next = self._next, following
            self._committed = self.log.last
        if passed_over is not None:
            passed_over.close()

    def publish(self) -> None:
        """Sync the log, if it is to be durable, and let inspects see the state behind it."""
        with self._lock:
            following, self._next = self._next, None
            number = self._committed
        if self._settings.durable:
            try:
                self._sync()
            except LogFault as error:
                self._broken = error
                if following is not None:
                    following.close()
                raise
        if following is not None:
            self._pool.swap(following)
        self.published = number

    def _sync(self) -> None:
        try:
            self.log.sync()
        except OSError as error:
            raise LogFault(self.log.path, error.strerror or "cannot be synced") from error

    def close(self) -> None:
        """Drop a state that was not published."""
        following, self._next = self._next, None
        if following is not None:
            following.close()


class InputJob(RequestJob):
    """An advance whose outcome is committed before anybody is told."""

    __slots__ = ("_hold", "_writer")

    def __init__(
        self,
        writer: Writer,
        share: Share,
        deadline: float,
        request: Request,
        hold: Callable[[Job], None],
    ) -> None:
        super().__init__(writer.machine, share, Priority.ADVANCE, deadline, request)
        self._writer = writer
        self._hold = hold

    def step(self, max_cycles: int, max_seconds: float) -> bool:
        """Go on with the request; commit at its end."""
        if not super().step(max_cycles, max_seconds):
            return False
        outcome: Outcome = self.result
        request = self.request
        assert request is not None
        self.result = None
        self._hold(self)
        if outcome.status == "failed":
            self.result = InputOutcome(**fields_of(outcome), cycle=self._writer.machine.cycle)
        else:
            self.result = self._writer.commit(request.payload, outcome)
        return True


def fields_of(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of an outcome, to make another of."""
    return {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
