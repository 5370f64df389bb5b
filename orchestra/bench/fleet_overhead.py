"""What a fleet costs: machines' cycles per CPU second, beside those of a plain loop, by turns.

A shared host's speed changes by 10 % and more within a second, and two threads at work may be
slower than one. So both sides run on as many threads, on the same machines, warm ones, in short
phases by turns; each phase of the fleet is compared with the plain ones before and after it, and
the median decides. On both sides the machines' own clocks count, against all CPU of the process.

The plain loop is what one would write without a fleet: a thread takes the next machine and calls
`run`. It has what the core has, decoded and translated code and warm TLBs, and runs some of the
machines that the fleet just ran, each PLAIN_SLICES times as long: what changing machines often
costs (cold caches, Python, the last cycles of a slice, which are stepped) is the fleet's affair.
"""

from __future__ import annotations

import itertools
import statistics
from time import process_time
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

from orchestra.bench.fleet_load import begun, ledger, running, spinners
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.machine.machine import Machine

__all__ = ["overhead"]

PAIRS = 16
PLAIN_SLICES = 4
WARM_SLICES = 4  # of each machine: the next one is as long as it will be
SETTLE_SECONDS = 0.02  # from the begin of a load until it is measured
LEAST_SECONDS = 5e-3  # between two looks at the clock


class Phase(NamedTuple):
    """Cycles a CPU second, and for how many cycles which machines ran."""

    rate: float
    ran: list[tuple[Machine, int]]


async def overhead(workers: int, count: int, seconds: float) -> float:
    """Return how much less `count` runnable machines get of a CPU second in a fleet, in percent.

    Either side takes `seconds` of CPU.
    """
    part = seconds / PAIRS
    with ledger() as template, spinners(template, count) as machines:
        async with open_fleet(workers) as fleet:
            async with running(fleet, machines):
                await begun(fleet, WARM_SLICES * count)
                fleets = [await _measure(machines, part)]
            plains = [await _plain(machines, fleets[-1].ran, workers, part)]
            for _ in range(PAIRS):
                async with running(fleet, machines):
                    fleets.append(await _measure(machines, part))
                plains.append(await _plain(machines, fleets[-1].ran, workers, part))
    rates = [phase.rate for phase in plains]
    beside = zip(fleets[1:], rates, rates[1:], strict=False)
    return statistics.median(100 * (1 - phase.rate / ((a + b) / 2)) for phase, a, b in beside)


async def _measure(machines: Sequence[Machine], seconds: float) -> Phase:
    """See what machines that run now get of so much CPU."""
    await anyio.sleep(SETTLE_SECONDS)
    before, began = [machine.cycle for machine in machines], process_time()
    while (left := began + seconds - process_time()) > 0:  # noqa: ASYNC110 - of CPU
        await anyio.sleep(max(left / 2, LEAST_SECONDS))
    after, used = [machine.cycle for machine in machines], process_time() - began
    cycles = [new - old for new, old in zip(after, before, strict=True)]
    ran = [(machine, got) for machine, got in zip(machines, cycles, strict=True) if got]
    return Phase(sum(cycles) / used, ran)


async def _plain(
    machines: Sequence[Machine], ran: Sequence[tuple[Machine, int]], threads: int, seconds: float
) -> Phase:
    """Measure the same of a loop in each of some threads."""
    ended = False

    def work(mine: Sequence[tuple[Machine, int]]) -> None:
        for machine, cycles in itertools.cycle(mine[::PLAIN_SLICES]):
            machine.run(max_cycles=PLAIN_SLICES * cycles)
            if ended:
                return

    async with anyio.create_task_group() as group:
        for number in range(threads):
            group.start_soon(to_thread.run_sync, work, ran[number::threads])
        try:
            phase = await _measure(machines, seconds)
        finally:
            ended = True
    return phase
