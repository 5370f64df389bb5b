"""A fleet's statistics as Prometheus reads them; a registry for each server."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from orchestra.http.openapi import version
from orchestra.machine.request import Status
from orchestra.sched.plan import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestra.http.access import Traffic
    from orchestra.http.occupation import DiskUse
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.statistics import FleetStatistics, HistogramSnapshot

__all__ = ["METRICS", "Metrics"]

# Every metric of ours: its type, its labels and what it says. OBSERVABILITY.md has them as a table.
# Labels are an application's name or words of ours: their number is bounded by what is served.
METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = MappingProxyType(
    {
        "orchestra_build_info": ("gauge", ("version",), "1, of this version."),
        "orchestra_workers": ("gauge", (), "Threads that run machines."),
        "orchestra_machines": ("gauge", (), "Machines opened through the fleet."),
        "orchestra_running": ("gauge", (), "Machines in a slice."),
        "orchestra_runnable": ("gauge", ("class",), "Machines that wait for a worker."),
        "orchestra_calls_total": ("counter", (), "Calls that ended."),
        "orchestra_slices_total": ("counter", (), "Slices given."),
        "orchestra_guest_cycles_total": ("counter", (), "Cycles that guests passed."),
        "orchestra_worker_cpu_seconds_total": ("counter", (), "CPU seconds in slices."),
        "orchestra_call_seconds": ("histogram", ("phase",), "Phases of a call."),
        "orchestra_inputs_total": ("counter", ("application", "status"), "Inputs in the log."),
        "orchestra_inputs_waiting": ("gauge", ("application",), "Inputs that wait."),
        "orchestra_inputs_replayed_total": (
            "counter",
            ("application",),
            "Inputs applied again when states were opened.",
        ),
        "orchestra_input_seconds": ("histogram", ("application", "phase"), "Phases of an input."),
        "orchestra_cycle": ("gauge", ("application",), "The machine's cycle."),
        "orchestra_snapshot_input": ("gauge", ("application",), "The last input with a snapshot."),
        "orchestra_inspects_total": ("counter", ("application",), "Inspects that ended."),
        "orchestra_inspects_refused_total": (
            "counter",
            ("application",),
            "Inspects refused for want of room.",
        ),
        "orchestra_inspects_running": ("gauge", ("application",), "Inspects that have a lease."),
        "orchestra_inspects_waiting": ("gauge", ("application",), "Inspects that wait for one."),
        "orchestra_inspect_seconds": (
            "histogram",
            ("application",),
            "From an inspect's being let in to its end.",
        ),
        "orchestra_leases_limit": ("gauge", ("application",), "Leases there may be at once."),
        "orchestra_leases_warm": ("gauge", ("application",), "Leases that are ready."),
        "orchestra_publications_total": ("counter", ("application",), "States published."),
        "orchestra_disk_bytes": ("gauge", ("application",), "What its folder takes."),
        "orchestra_log_bytes": ("gauge", ("application",), "What its log takes of that."),
        "orchestra_disk_free_bytes": ("gauge", ("application",), "What is free there."),
        "orchestra_http_requests_total": ("counter", ("route", "code"), "Requests answered."),
        "orchestra_http_request_seconds": ("histogram", ("route",), "To an answer's last byte."),
    }
)
FIRST_BUCKET, LAST_BUCKET = 4, 25  # powers of two of a microsecond: 16 us to 34 s
FAMILIES: dict[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}

Labelled = tuple[tuple[str, ...], float]


class Metrics:
    """Collects when it is asked, from one fleet and one server."""

    def __init__(self, fleet: Fleet, traffic: Traffic) -> None:
        self._fleet = fleet
        self._traffic = traffic
        self._disks: Mapping[str, DiskUse] = {}
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def text(self, disks: Mapping[str, DiskUse]) -> bytes:
        """Return the exposition."""
        self._disks = disks
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, as the library wants it."""
        now = self._fleet.statistics()
        yield _metric("orchestra_build_info", [((version(),), 1)])
        yield from _fleet(now)
        yield from _inputs(now)
        yield from _inspects(now)
        for name in ("disk_bytes", "log_bytes"):
            values = [((app,), getattr(disk, name)) for app, disk in self._disks.items()]
            yield _metric(f"orchestra_{name}", values)
        free = [((app,), disk.free_bytes) for app, disk in self._disks.items()]
        yield _metric("orchestra_disk_free_bytes", free)
        yield _metric("orchestra_http_requests_total", self._traffic.counts())
        yield _histogram("orchestra_http_request_seconds", self._traffic.durations())


def _fleet(now: FleetStatistics) -> Iterator[Metric]:
    for name in ("workers", "machines", "running"):
        yield _metric(f"orchestra_{name}", [((), getattr(now, name))])
    classes = [((each.name.lower(),), now.runnable[each]) for each in Priority]
    yield _metric("orchestra_runnable", classes)
    yield _metric("orchestra_calls_total", [((), now.calls)])
    yield _metric("orchestra_slices_total", [((), now.slices)])
    yield _metric("orchestra_guest_cycles_total", [((), now.cycles)])
    yield _metric("orchestra_worker_cpu_seconds_total", [((), now.seconds)])
    phases = ("waiting", "serving", "telling")
    found = [((phase,), getattr(now, f"{phase}_seconds")) for phase in phases]
    yield _histogram("orchestra_call_seconds", found)


def _inputs(now: FleetStatistics) -> Iterator[Metric]:
    apps = now.applications
    statuses = get_args(Status)
    yield _metric(
        "orchestra_inputs_total",
        [((app.name, each), app.statuses.get(each, 0)) for app in apps for each in statuses],
    )
    for name, field in (
        ("inputs_waiting", "waiting"),
        ("inputs_replayed_total", "replayed"),
        ("cycle", "cycle"),
        ("snapshot_input", "snapshot"),
    ):
        yield _metric(f"orchestra_{name}", [((app.name,), getattr(app, field)) for app in apps])
    phases = ("waiting", "serving", "committing")
    found = [((a.name, phase), getattr(a, f"{phase}_seconds")) for a in apps for phase in phases]
    yield _histogram("orchestra_input_seconds", found)


def _inspects(now: FleetStatistics) -> Iterator[Metric]:
    """Tell of the applications' pools: others come and go, and are named after machines."""
    for name, field in (
        ("inspects_total", "ended"),
        ("inspects_refused_total", "refused"),
        ("inspects_running", "running"),
        ("inspects_waiting", "waiting"),
        ("leases_limit", "size"),
        ("leases_warm", "warm"),
        ("publications_total", "publications"),
    ):
        values = [((app.name,), getattr(app.pool, field)) for app in now.applications]
        yield _metric(f"orchestra_{name}", values)
    found = [((app.name,), app.pool.answering_seconds) for app in now.applications]
    yield _histogram("orchestra_inspect_seconds", found)


def _metric(name: str, values: Iterable[Labelled]) -> Metric:
    kind, labels, text = METRICS[name]
    family = FAMILIES[kind](name.removesuffix("_total"), text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    assert isinstance(family, Metric)
    return family


def _histogram(name: str, found: Iterable[tuple[tuple[str, ...], HistogramSnapshot]]) -> Metric:
    """Make a histogram whose buckets are the same whatever was counted: so they can be summed."""
    _, labels, text = METRICS[name]
    family = HistogramMetricFamily(name, text, labels=labels)
    for names, histogram in found:
        buckets = [
            (repr(2.0**power * 1e-6), float(sum(histogram.counts[: power + 1])))
            for power in range(FIRST_BUCKET, LAST_BUCKET + 1)
        ]
        family.add_metric(names, [*buckets, ("+Inf", float(histogram.count))], histogram.seconds)
    return family
