"""Looks at fleets that never were, in the form that a server gives them."""

from dataclasses import replace

import msgspec

from orchestra.http.occupation import DiskUse
from orchestra.sched.statistics import (
    ApplicationStatistics,
    FleetStatistics,
    Histogram,
    MachineStatistics,
    PoolStatistics,
)


def durations(*seconds):
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram.snapshot()


def machine(number, name, **changes):
    row = MachineStatistics(
        number, name, "machine", "run", "running", "inspect", 1.0, 1000, 1000, 1.0, 0.5
    )
    return replace(row, **changes)


def pool(name, **changes):
    row = PoolStatistics(name, 4, 1, 2, 3, 60, 5, 1, 9, durations(0.001))
    return replace(row, **changes)


def application(name, **changes):
    quick = durations(0.001, 0.002)
    statuses = {"accepted": 3, "rejected": 1}
    row = ApplicationStatistics(name, 4, 5000, 0, statuses, 2, 0, pool(name), quick, quick, quick)
    return replace(row, **changes)


def look(open_seconds, machines=(), applications=(), pools=(), **changes):
    fleet = FleetStatistics(
        open_seconds=open_seconds,
        workers=2,
        machines=len(machines),
        running=1,
        runnable=(0, 3, 0),
        calls=10,
        slices=20,
        cycles=1_000_000,
        seconds=1.0,
        pools=tuple(pools),
        applications=tuple(applications),
        waiting_seconds=durations(0.001),
        serving_seconds=durations(0.001),
        telling_seconds=durations(0.001),
        busiest=tuple(machines),
        others=0,
    )
    disks = {app.name: DiskUse(1 << 20, 1 << 12, 1 << 30) for app in applications}
    found = {"fleet": replace(fleet, **changes), "memory_bytes": 1 << 28, "disks": disks}
    return msgspec.json.decode(msgspec.json.encode(found))
