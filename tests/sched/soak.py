"""Everything at once, for as long as asked: nothing leaks, and all states are as predicted.

python -m tests.sched.soak MINUTES BACKEND FOLDER

Prints a line a round and fails where something is not as it must be. Ten minutes and more tell what
grows: the second half may add nothing, once heaps and the code cache have their size.
"""

import gc
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from orchestra.errors import AtCapacity
from orchestra.machine._core import blocks_in_use
from orchestra.machine.request import Limits
from orchestra.sched.fleet import open_fleet
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ledger_config, ready_ledger
from tests.sched.test_crash import check, last_answered, start

CONFIG = ledger_config()
SETTINGS = [
    ApplicationSettings(durable=False, snapshots=20, keep=2, inspect_size=3, inspect_queue=4),
    ApplicationSettings(
        durable=False, storage="backing", snapshots=7, keep=2, keep_inputs=10_000, queue=3
    ),
]
INPUTS = [b"mint a 1", b"mint b 7", b"burn a 3", b"spin 30000", b"page 40", b"crash", b"fail so"]
QUERIES = [b"balance a", b"total", b"page 3", b"spin 50000", b"halt 1", b"flood 30", b"accounts"]
ROUND_SECONDS = 4
# what may be added after the first round: to the twins, as inputs touch more of them. An
# application that kept what it published would have a hundred thousand pages after ten minutes
MORE_BLOCKS = {"page": 300, "node": 60, "layer": 4, "code": 8, "engine": 0, "hashes": 0}
MORE_BYTES = 4 << 20  # in the second half of a long run, of memory; about 1 of the code cache
MORE_ON_DISK = 1 << 20  # of the log that forgets


@dataclass
class Held:
    """What the process has."""

    descriptors: int
    threads: int
    locks: int
    resident: int
    on_disk: int
    blocks: dict[str, int]  # that machines use


@dataclass
class Tally:
    """What was done."""

    rounds: int = 0
    kills: int = 0
    counts: dict = field(default_factory=dict)

    def add(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1


def held(folder):
    gc.collect()
    pid = os.getpid()
    locks = Path("/proc/locks").read_text().split("\n")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Held(
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
        locks=sum(f" {pid} " in line for line in locks),
        resident=pages * os.sysconf("SC_PAGE_SIZE"),
        on_disk=sum(path.stat().st_size for path in folder.glob("app1/inputs.sqlite*")),
        blocks={kind: blocks.used for kind, blocks in blocks_in_use().items()},
    )


async def write(app, dice, end, tally):
    while time.monotonic() < end:
        limits = Limits(max_cycles=dice.choice([None, None, 3000]))
        try:
            with anyio.move_on_after(dice.choice([0.0005, 0.003, 60])):
                outcome = await app.advance(dice.choice(INPUTS), limits, wait=dice.random() < 0.8)
                tally.add(outcome.status)
        except AtCapacity:
            tally.add("refused")
            await anyio.lowlevel.checkpoint()


async def read(app, dice, end, tally):
    while time.monotonic() < end:
        try:
            with anyio.move_on_after(dice.choice([0.001, 60])):
                await app.inspect(dice.choice(QUERIES), wait=dice.random() < 0.5)
                tally.add("asked")
        except AtCapacity:
            tally.add("refused")
            await anyio.lowlevel.checkpoint()


async def manage(app, dice, end, tally):
    while time.monotonic() < end:
        await anyio.sleep(dice.uniform(0, 0.2))
        await app.snapshot()
        tally.add("snapshot")
        number = dice.randrange(max(0, app.inputs - 30), app.inputs + 1)
        async with app.at(number) as machine:
            if number:
                assert machine.root_hash() == (await app.outcome(number)).state_hash
        tally.add("opened")


async def follow(app, twin, seen):
    """Do on the twin what was accepted since, and compare."""
    for entry in app._log.entries(seen + 1, app.inputs):
        if entry.status == "accepted":
            assert twin.advance(entry.payload).accepted
    assert app._writer.machine.digest() == twin.digest()
    return app.inputs


async def kill(folder, backend, dice, tally):
    node = start(folder, backend)
    output = node.stdout.readline()
    for _ in range(dice.randrange(80)):
        output += node.stdout.readline()
    node.send_signal(signal.SIGKILL)
    rest, _ = node.communicate()
    node.stdout.close()
    _, answered = last_answered(output + rest)
    await check(folder, answered)
    tally.kills += 1


async def one_round(folder, dice, twins, seen, seconds, tally):
    async with open_fleet(2) as fleet:
        end = time.monotonic() + seconds
        async with (
            fleet.application(folder / "app0", CONFIG, SETTINGS[0]) as first,
            fleet.application(folder / "app1", CONFIG, SETTINGS[1]) as second,
        ):
            apps = [first, second]
            async with anyio.create_task_group() as group:
                for app in apps:
                    for _ in range(3):
                        group.start_soon(write, app, dice, end, tally)
                    for _ in range(8):
                        group.start_soon(read, app, dice, end, tally)
                group.start_soon(manage, first, dice, end, tally)
            for n, app in enumerate(apps):
                seen[n] = await follow(app, twins[n], seen[n])
                # beside those to keep: the first, what it was opened from, what `manage` looked at
                assert len(app._history.snapshots.numbers()) <= app.settings.keep + 3
    tally.rounds += 1


async def soak(folder, backend, seconds, *, round_seconds=ROUND_SECONDS, seed=1, tell=None):
    """Return what was done; raises if a state is not as predicted or something leaked."""
    dice, tally = random.Random(seed), Tally()
    twins, seen = [ready_ledger(), ready_ledger()], [0, 0]
    end = time.monotonic() + seconds
    before = warm = None
    while True:
        await one_round(folder, dice, twins, seen, round_seconds, tally)
        if tally.rounds % 3 == 0 or seconds < 60:
            await kill(folder / "node", backend, dice, tally)
        now = held(folder)
        if tell:
            tell(f"{int(end - time.monotonic())} s left, {now}, {tally}")
        if time.monotonic() > end and before is not None:
            break
        before = before or now  # after one round all caches are warm
        if warm is None and time.monotonic() > end - seconds / 2:
            warm = (
                now  # and the C library's heaps, one for each of the first threads, have their size
            )
    for twin in twins:
        twin.close()
    assert now.descriptors <= before.descriptors, (before, now)
    assert now.threads <= before.threads + 4, (before, now)  # the loop keeps idle ones a while
    assert now.locks <= before.locks, (before, now)
    for kind, most in MORE_BLOCKS.items():
        assert now.blocks[kind] <= before.blocks[kind] + most, (before, now)
    if seconds >= 300:
        assert now.resident <= warm.resident + MORE_BYTES, (before, warm, now)
        assert now.on_disk <= warm.on_disk + MORE_ON_DISK, (before, warm, now)
    return tally, warm or before, now


if __name__ == "__main__":
    minutes, loop, place = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

    async def main():
        tally, warm, now = await soak(
            place, loop, 60 * minutes, tell=lambda t: print(t, flush=True)
        )
        grown = (now.resident - warm.resident) / 1e6
        print(
            f"{tally.rounds} rounds, {tally.kills} kills, {tally.counts}; "
            f"{grown:+.1f} MB in the second half"
        )

    anyio.run(main, backend=loop)
