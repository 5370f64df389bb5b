"""What a fleet is loaded with: questions from many tasks, machines that never end, a writer."""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import anyio

from orchestra.guest import LEDGER
from orchestra.machine.config import Boot, MachineConfig
from orchestra.machine.machine import Machine
from orchestra.sched.fleet import Fleet, open_fleet
from orchestra.sched.settings import ApplicationSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from orchestra.sched.application import Application
    from orchestra.sched.inspection import InspectPool

__all__ = [
    "Answers",
    "Writes",
    "begun",
    "fair_shares",
    "interrupted",
    "ledger",
    "quantile",
    "questions",
    "running",
    "spinners",
    "writes_under_load",
]

QUERY = b"balance alice"
ENDLESS = b"spin 1000000000000000"
ASKERS = 200  # tasks that saturate a pool
PHASES = 4  # of writing alone and beside inspects, by turns: whatever else runs here changes
SETTLE_SECONDS = 0.1
PAUSE_SECONDS = 1e-3  # between two advances


class Answers(NamedTuple):
    """How many answers a second came in, and after how long each, in order of length."""

    rate: float
    seconds: list[float]


def ledger() -> Machine:
    """Make the embedded guest, with an account to ask for."""
    machine = Machine.create(MachineConfig(boot=Boot(elf=LEDGER)))
    machine.run()
    assert machine.advance(b"mint alice 100").accepted
    return machine


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return the element below which a fraction of the others is."""
    return ordered[min(int(len(ordered) * fraction), len(ordered) - 1)]


async def questions(pool: InspectPool, tasks: int, seconds: float) -> Answers:
    """Ask from so many tasks at once, each again when it was answered."""
    taken: list[float] = []
    end = perf_counter() + seconds

    async def ask() -> None:
        began = perf_counter()
        while True:
            outcome = await pool.inspect(QUERY)
            assert outcome.reports == (b"100",)
            before, began = began, perf_counter()
            taken.append(began - before)
            if began >= end:
                return

    began = perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(ask)
    return Answers(len(taken) / (perf_counter() - began), sorted(taken))


@contextmanager
def spinners(template: Machine, count: int) -> Iterator[list[Machine]]:
    """Make so many machines that have something to do without end."""
    machines = [template.fork() for _ in range(count)]
    try:
        for machine in machines:
            machine.send_response(ENDLESS, reason=0)
        yield machines
    finally:
        for machine in machines:
            machine.close()


@asynccontextmanager
async def running(fleet: Fleet, machines: Sequence[Machine]) -> AsyncIterator[None]:
    """Have machines run until the body is left."""
    async with anyio.create_task_group() as group:
        for machine in machines:
            group.start_soon(fleet.run, machine)
        yield
        group.cancel_scope.cancel()


async def begun(fleet: Fleet, slices: int) -> None:
    """Wait until so many slices were given."""
    while fleet.statistics().slices < slices:  # noqa: ASYNC110 - nobody tells of slices
        await anyio.sleep(0.01)


async def fair_shares(workers: int, count: int, seconds: float) -> float:
    """Return Jain's index over what equal machines got."""
    with ledger() as template, spinners(template, count) as machines:
        async with open_fleet(workers) as fleet, running(fleet, machines):
            await begun(fleet, 8 * count)  # by then their slices are as long as they will be
            before = [machine.cycle for machine in machines]
            await anyio.sleep(seconds)
            got = [m.cycle - cycle for m, cycle in zip(machines, before, strict=True)]
    return float(sum(got) ** 2 / (len(got) * sum(value * value for value in got)))


async def interrupted(workers: int, count: int, times: int) -> list[float]:
    """Cancel runs among `count` runnable machines; return the seconds each took, in order."""
    dice = random.Random(4)  # noqa: S311 - repeatable
    taken: list[float] = []
    with ledger() as template, spinners(template, count) as machines:
        async with open_fleet(workers) as fleet, running(fleet, machines):
            await begun(fleet, count)
            for _ in range(times):
                with template.fork() as machine:
                    machine.send_response(ENDLESS, reason=0)
                    async with anyio.create_task_group() as group:
                        group.start_soon(fleet.run, machine)
                        await anyio.sleep(dice.uniform(0, 0.02))
                        began = perf_counter()
                        group.cancel_scope.cancel()
                    taken.append(perf_counter() - began)
    return sorted(taken)


class Writes(NamedTuple):
    """The seconds that advances took, in order: with nothing else to do, and beside inspects.

    `answered`: inspects a second meanwhile.
    """

    idle: list[float]
    busy: list[float]
    answered: float


async def writes_under_load(
    workers: int, directory: Path, payload: bytes, seconds: float
) -> Writes:
    """Advance an application, alone and while its own pool is saturated, by turns."""
    idle: list[float] = []
    busy: list[float] = []
    rates: list[float] = []
    # not durable: a disk's latency would hide what is measured
    settings = ApplicationSettings(durable=False, inspect_queue=2 * ASKERS)
    with ledger() as genesis:
        async with (
            open_fleet(workers) as fleet,
            fleet.application(directory, genesis, settings) as app,
        ):
            await _write(app, payload, seconds / PHASES)  # warm up
            for _ in range(PHASES):
                idle += await _write(app, payload, seconds / PHASES)
                async with saturated(app.pool) as rate:
                    busy += await _write(app, payload, seconds / PHASES)
                    rates.append(rate())
    return Writes(sorted(idle), sorted(busy), sum(rates) / len(rates))


@asynccontextmanager
async def saturated(pool: InspectPool) -> AsyncIterator[Callable[[], float]]:
    """Have more asked than can be answered, and return what tells how many are, a second."""
    async with anyio.create_task_group() as group:
        group.start_soon(questions, pool, ASKERS, math.inf)
        await anyio.sleep(SETTLE_SECONDS)
        ended, began = pool.statistics().ended, perf_counter()
        yield lambda: (pool.statistics().ended - ended) / (perf_counter() - began)
        group.cancel_scope.cancel()


async def _write(app: Application, payload: bytes, seconds: float) -> list[float]:
    taken: list[float] = []
    end = perf_counter() + seconds
    while (began := perf_counter()) < end:
        await app.advance(payload)
        taken.append(perf_counter() - began)
        await anyio.sleep(PAUSE_SECONDS)
    return taken
