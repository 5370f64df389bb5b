"""A fleet's statistics as Prometheus reads them; a registry for each server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestra.sched.fleet import Fleet
    from orchestra.sched.statistics import (
        ApplicationStatistics,
        HistogramSnapshot,
        PoolStatistics,
    )

__all__ = ["Metrics", "disk_bytes", "resident_bytes"]

PAGE_BYTES = 4096
CLASSES = ("advance", "inspect", "background")


class Metrics:
    """Collects when it is asked, from one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, as the library wants it."""
        now = self._fleet.statistics()
        for name, text, value in (
            ("workers", "Threads that run machines.", now.workers),
            ("machines", "Machines opened through the fleet.", now.machines),
            ("running", "Machines in a slice.", now.running),
        ):
            yield GaugeMetricFamily(f"orchestra_{name}", text, value=value)
        runnable = GaugeMetricFamily(
            "orchestra_runnable", "Machines that wait for a worker.", labels=["class"]
        )
        for name, value in zip(CLASSES, now.runnable, strict=True):
            runnable.add_metric([name], value)
        yield runnable
        for name, text, total in (
            ("calls", "Calls that ended.", now.calls),
            ("slices", "Slices given.", now.slices),
            ("guest_cycles", "Cycles that guests passed.", now.cycles),
            ("worker_cpu_seconds", "CPU seconds in slices.", now.seconds),
        ):
            yield CounterMetricFamily(f"orchestra_{name}", text, value=total)
        phases = {
            "waiting": now.waiting_seconds,
            "serving": now.serving_seconds,
            "telling": now.telling_seconds,
        }
        yield _histograms("orchestra_call_seconds", "Phases of a call.", "phase", phases)
        yield from _pools(now.pools)
        yield from _applications(now.applications)


def resident_bytes() -> int:
    """Return what this process has in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * PAGE_BYTES


def disk_bytes(folder: Path) -> int:
    """Return what the files below a folder take, each once however often it is linked."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _pools(pools: Sequence[PoolStatistics]) -> Iterator[Metric]:
    for family, name, text in (
        (GaugeMetricFamily, "running", "Inspects at work."),
        (GaugeMetricFamily, "waiting", "Inspects that wait."),
        (GaugeMetricFamily, "warm", "Leases that are ready."),
        (CounterMetricFamily, "ended", "Inspects that ended."),
        (CounterMetricFamily, "refused", "Inspects refused for want of room."),
        (CounterMetricFamily, "publications", "States published."),
    ):
        metric = family(f"orchestra_pool_{name}", text, labels=["pool"])
        for pool in pools:
            metric.add_metric([pool.name], getattr(pool, name))
        yield metric


def _applications(applications: Sequence[ApplicationStatistics]) -> Iterator[Metric]:
    inputs = CounterMetricFamily(
        "orchestra_inputs", "Inputs in the log.", labels=["application", "status"]
    )
    waiting = GaugeMetricFamily(
        "orchestra_inputs_waiting", "Inputs that wait.", labels=["application"]
    )
    cycle = GaugeMetricFamily("orchestra_cycle", "The machine's cycle.", labels=["application"])
    snapshot = GaugeMetricFamily(
        "orchestra_snapshot_input", "The last input with a snapshot.", labels=["application"]
    )
    for app in applications:
        for status, count in app.statuses.items():
            inputs.add_metric([app.name, status], count)
        waiting.add_metric([app.name], app.waiting)
        cycle.add_metric([app.name], app.cycle)
        snapshot.add_metric([app.name], app.snapshot)
    yield from (inputs, waiting, cycle, snapshot)
    for phase in ("waiting", "serving", "committing"):
        name = f"orchestra_input_{phase}_seconds"
        found = {app.name: getattr(app, f"{phase}_seconds") for app in applications}
        yield _histograms(name, f"An input's phase: {phase}.", "application", found)


def _histograms(
    name: str, text: str, label: str, found: dict[str, HistogramSnapshot]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, histogram in found.items():
        total, buckets = 0, []
        for power, count in enumerate(histogram.counts):
            total += count
            buckets.append((repr(2.0**power * 1e-6), total))
        family.add_metric([value], [*buckets, ("+Inf", total)], histogram.seconds)
    return family
