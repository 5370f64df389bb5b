"""What a fleet does, put together from all that know a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.sched.ranking import Ranking
from orchestra.sched.statistics import FleetStatistics

if TYPE_CHECKING:
    from orchestra.sched.application import Application
    from orchestra.sched.custody import Custody
    from orchestra.sched.inspection import InspectPool
    from orchestra.sched.scheduler import Scheduler

__all__ = ["Overview"]


class Overview:
    """Belongs to a fleet, which opens and closes what is seen from here."""

    def __init__(self, scheduler: Scheduler, custody: Custody) -> None:
        self.pools: list[InspectPool] = []
        self.applications: list[Application] = []
        self._scheduler = scheduler
        self._custody = custody
        self._began = scheduler.clock.now()
        self._ranking = Ranking()

    @property
    def open_seconds(self) -> float:
        """How long the fleet is open."""
        return self._scheduler.clock.now() - self._began

    def look(self, busiest: int) -> FleetStatistics:
        """Return what goes on, with as many of the busiest."""
        scheduler, desk = self._scheduler, self._scheduler.desk
        advance, inspect, background = desk.planner.lengths()
        owed = (
            [
                *self._custody.owed(),
                *((app.share, app.activity) for app in self.applications),
                *((pool.share, pool.activity) for pool in self.pools),
            ]
            if busiest
            else []
        )
        ranked = self._ranking.busiest(busiest, owed, scheduler.clock.now()) if busiest else ()
        return FleetStatistics(
            open_seconds=self.open_seconds,
            workers=len(desk.workers),
            machines=self._custody.machines,
            running=desk.running(),
            runnable=(advance, inspect, background),
            calls=scheduler.calls,
            slices=desk.slices,
            cycles=desk.cycles,
            seconds=desk.seconds,
            pools=tuple(pool.statistics() for pool in self.pools),
            applications=tuple(app.statistics() for app in self.applications),
            waiting_seconds=scheduler.waiting.snapshot(),
            serving_seconds=scheduler.serving.snapshot(),
            telling_seconds=scheduler.telling.snapshot(),
            busiest=ranked,
            others=len(owed) - len(ranked),
        )
