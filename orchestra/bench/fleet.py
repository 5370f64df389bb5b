"""`orchestra bench fleet`: what scheduling costs, how soon questions are answered, how many fit."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestra.bench import fleet_load as load
from orchestra.bench.debian_density import measure_debian
from orchestra.bench.fleet_overhead import overhead
from orchestra.bench.loops import Loop, run_on
from orchestra.bench.report import Report, Row, check_rows, describe_host, is_wanted
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Announce = Callable[[str], AbstractContextManager[object]]

__all__ = ["CONCURRENCIES", "FleetOptions", "Loop", "bench_fleet", "row_names"]

CONCURRENCIES: Final = (1, 10, 100, 1000, 10_000)
FAIR_MACHINES: Final = 32  # so few that each gets many slices in a run
CANCELLATIONS: Final = 100  # for each second of a run
WRITES: Final = {"advance": b"mint bob 1", "advance-3ms": b"spin 3000000"}
MICRO, MILLI, GIGA = 1e6, 1e3, 1e9

AT_LEAST: Final = {
    "inspects/c100": 20_000.0,
    "inspects/c1000": 20_000.0,
    "fairness": 0.99,
    "density/debian-machines": 10_000.0,
}
AT_MOST: Final = {
    "latency-p50/c1": 200.0,
    "overhead": 3.0,
    "cancel-p99": 10.0,
    "advance/busy-to-idle": 1.5,
    "advance-3ms/busy-to-idle": 1.5,
    "density/debian-gb": 4.0,
}


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What is measured; `machines` are runnable at once, `debian` ones open at once."""

    loop: Loop = "asyncio"
    workers: int = 2
    seconds: float = 2.0
    runs: int = 3
    machines: int = 1000
    debian: int = 10_000
    rows: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        check_rows(self.rows, row_names())

    def wants(self, name: str) -> bool:
        """Whether this row was asked for."""
        return is_wanted(name, self.rows)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rows that come out of one run together, with their units."""

    rows: dict[str, str]
    run: Callable[[FleetOptions, Path], tuple[float, ...]]
    runs: int | None = None  # when it is not repeated as often as the others


def row_names() -> list[str]:
    """Return the names of all rows, in their order."""
    return [name for measurement in _measurements() for name in measurement.rows]


def bench_fleet(directory: Path, options: FleetOptions, announce: Announce) -> Report:
    """Measure; what is stored meanwhile is stored in `directory` and gone afterwards."""
    host = describe_host() | {"loop": options.loop, "workers": options.workers}
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-", dir=directory) as scratch:
        return Report("fleet", host, tuple(_rows(options, Path(scratch), announce)))


def _rows(options: FleetOptions, scratch: Path, announce: Announce) -> Iterator[Row]:
    for measurement in _measurements():
        wanted = [name for name in measurement.rows if options.wants(name)]
        if not wanted:
            continue
        with announce(", ".join(wanted)):
            runs = measurement.runs or options.runs
            values = [measurement.run(options, scratch) for _ in range(runs)]
        columns = zip(*values, strict=True)
        for (name, unit), column in zip(measurement.rows.items(), columns, strict=True):
            if name in wanted:
                least, most = AT_LEAST.get(name), AT_MOST.get(name)
                yield Row(name, unit, column, at_least=least, at_most=most)


def _measurements() -> Iterator[Measurement]:
    for tasks in CONCURRENCIES:
        rows = {
            f"inspects/c{tasks}": "op/s",
            f"latency-p50/c{tasks}": "µs",
            f"latency-p99/c{tasks}": "µs",
        }
        yield Measurement(rows, _inspects_with(tasks))
    yield Measurement({"overhead": "%"}, _overhead)
    yield Measurement({"fairness": "Jain"}, _fairness)
    yield Measurement({"cancel-p50": "ms", "cancel-p99": "ms"}, _cancellation)
    for name, payload in WRITES.items():
        rows = {
            f"{name}/idle": "µs",
            f"{name}/busy": "µs",
            f"{name}/busy-to-idle": "x",
            f"{name}/idle-p99": "µs",
            f"{name}/busy-p99": "µs",
            f"{name}/inspects": "op/s",
        }
        yield Measurement(rows, _writes_of(payload))
    rows = {
        "density/debian-machines": "machines",
        "density/debian-gb": "GB",
        "density/debian-per-gb": "machines/GB",
        "density/debian-answers": "op/s",
    }
    yield Measurement(rows, _density, runs=1)


def _inspects_with(tasks: int) -> Callable[[FleetOptions, Path], tuple[float, ...]]:
    async def ask(options: FleetOptions) -> load.Answers:
        with load.ledger() as template:
            async with (
                open_fleet(options.workers) as fleet,
                fleet.inspect_pool(template, queue=tasks) as pool,
            ):
                await load.questions(pool, tasks, options.seconds / 4)  # warm up
                return await load.questions(pool, tasks, options.seconds)

    def measure(options: FleetOptions, _: Path) -> tuple[float, ...]:
        answers = run_on(options.loop, ask, options)
        median, slow = (load.quantile(answers.seconds, part) for part in (0.5, 0.99))
        return answers.rate, median * MICRO, slow * MICRO

    return measure


def _overhead(options: FleetOptions, _: Path) -> tuple[float, ...]:
    cpu_seconds = 2 * options.seconds
    return (run_on(options.loop, overhead, options.workers, options.machines, cpu_seconds),)


def _fairness(options: FleetOptions, _: Path) -> tuple[float, ...]:
    index = run_on(
        options.loop, load.fair_shares, options.workers, FAIR_MACHINES, 2 * options.seconds
    )
    return (index,)


def _cancellation(options: FleetOptions, _: Path) -> tuple[float, ...]:
    times = max(1, int(CANCELLATIONS * options.seconds))
    taken = run_on(options.loop, load.interrupted, options.workers, options.machines, times)
    return tuple(MILLI * load.quantile(taken, part) for part in (0.5, 0.99))


def _writes_of(payload: bytes) -> Callable[[FleetOptions, Path], tuple[float, ...]]:
    def measure(options: FleetOptions, scratch: Path) -> tuple[float, ...]:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            writes = run_on(
                *(options.loop, load.writes_under_load),
                *(options.workers, Path(folder) / "app", payload, options.seconds),
            )
        phases = writes.idle, writes.busy
        idle, busy = (MICRO * load.quantile(taken, 0.5) for taken in phases)
        slow = (MICRO * load.quantile(taken, 0.99) for taken in phases)
        return idle, busy, busy / idle, *slow, writes.answered

    return measure


def _density(options: FleetOptions, scratch: Path) -> tuple[float, ...]:
    found = measure_debian(scratch, options.debian, options.workers)
    gigabytes = found.memory_bytes / GIGA
    return found.answered, gigabytes, found.machines / gigabytes, found.answered / found.seconds
