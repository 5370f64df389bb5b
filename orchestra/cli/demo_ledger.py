"""The demo with the ledger: a writer keeps advancing while readers ask copies of a snapshot."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from orchestra.guest import LEDGER
from orchestra.machine.config import Boot, MachineConfig, Ram
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestra.cli.progress import Steps
    from orchestra.cli.tally import Tally
    from orchestra.machine.machine import Machine
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.inspection import InspectPool

__all__ = ["Model", "ledger_demo"]

RAM_BYTES = 64 << 20
ACCOUNTS = 32
FIRST_INPUTS = 200
READERS = 32  # tasks that ask, each one question after the other
HISTORY = 3
SEED = 2026


@dataclass(slots=True)
class Model:
    """What the ledger in the guest must do, in Python, and a supply of inputs for it."""

    random: random.Random
    balances: dict[str, int] = field(default_factory=dict)
    receipts: list[str] = field(default_factory=list)

    def next_input(self) -> tuple[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Make an input; return it with the status, outputs and reports it must bring."""
        names = [f"account{number}" for number in range(ACCOUNTS)]
        choose = self.random
        if len(self.balances) < ACCOUNTS or choose.random() < 0.1:
            name = names[len(self.balances) % ACCOUNTS]
            amount = choose.randrange(1, 1000)
            self.balances[name] = self.balances.get(name, 0) + amount
            return self._done(f"mint {name} {amount}")
        source, target = choose.sample(names, 2)
        amount = choose.randrange(1, 500)
        if self.balances[source] < amount:
            reports = (f"insufficient balance: {source}",)
            return f"transfer {source} {target} {amount}", ("rejected", (), reports)
        self.balances[source] -= amount
        self.balances[target] += amount
        return self._done(f"transfer {source} {target} {amount}")

    def _done(self, text: str) -> tuple[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
        self.receipts.append(f"{len(self.receipts) + 1} {text}")
        return text, ("accepted", (self.receipts[-1],), ())

    def questions(self) -> list[tuple[str, str]]:
        """List questions with the answers that are right now, and stay so for a snapshot."""
        history = "".join(f"{line}\n" for line in self.receipts[: -HISTORY - 1 : -1])
        return [
            ("total", str(sum(self.balances.values()))),
            ("count", str(len(self.balances))),
            (f"history {HISTORY}", history),
            ("accounts", "".join(f"{name} {value}\n" for name, value in self.balances.items())),
            *((f"balance {name}", str(value)) for name, value in self.balances.items()),
        ]


async def ledger_demo(directory: Path, tally: Tally, steps: Steps, inspects: int) -> None:
    """Create, advance, snapshot; then answer `inspects` questions while it advances on."""
    config = MachineConfig(ram=Ram(length=RAM_BYTES), boot=Boot(elf=LEDGER))
    app, snapshot = directory / "app", directory / "snapshot"
    async with open_fleet(workers=tally.workers) as fleet:
        async with AsyncExitStack() as stack:
            with tally.operation("create").time():
                machine = await stack.enter_async_context(fleet.create(config, app))
            await _serve(fleet, machine, snapshot, tally, steps, inspects)
        statistics = fleet.statistics()
        tally.cycles, tally.cpu_seconds = statistics.cycles, statistics.seconds
    tally.folders = {"machine": app, "snapshot": snapshot}


async def _serve(
    fleet: Fleet, machine: Machine, snapshot: Path, tally: Tally, steps: Steps, inspects: int
) -> None:
    await fleet.run(machine)
    model = Model(random.Random(SEED))  # noqa: S311 - the same inputs every time
    with steps.step(f"advancing with {FIRST_INPUTS} inputs", FIRST_INPUTS) as update:
        for number in range(FIRST_INPUTS):
            await _advance(fleet, machine, model, tally)
            update(number + 1, "")
    with tally.operation("snapshot").time():
        await fleet.snapshot(machine, snapshot)
    tally.digest = await fleet.call(machine, machine.digest)
    questions = model.questions()
    with steps.step(f"answering {inspects} questions while it advances", inspects) as update:
        async with fleet.inspect_pool(snapshot) as pool, anyio.create_task_group() as group:
            group.start_soon(_write, fleet, machine, model, tally)
            await _ask_all(pool, questions, tally, inspects, update)
            group.cancel_scope.cancel()
    await _check_ends(fleet, machine, snapshot, model, tally)


async def _advance(fleet: Fleet, machine: Machine, model: Model, tally: Tally) -> None:
    text, expected = model.next_input()
    with tally.operation("advance").time():
        outcome = await fleet.advance(machine, text.encode())
    found = outcome.status, _texts(outcome.outputs), _texts(outcome.reports)
    tally.check(text, found, expected)


async def _write(fleet: Fleet, machine: Machine, model: Model, tally: Tally) -> None:
    """Advance until it is cancelled, but never in the middle of an input: the model counts it."""
    while True:
        with anyio.CancelScope(shield=True):
            await _advance(fleet, machine, model, tally)
        await anyio.lowlevel.checkpoint()


async def _ask_all(
    pool: InspectPool,
    questions: list[tuple[str, str]],
    tally: Tally,
    count: int,
    update: Callable[[float, str], None],
) -> None:
    numbers = iter(range(count))
    timings = tally.operation("inspect")

    async def reader() -> None:
        for number in numbers:
            question, answer = questions[number % len(questions)]
            with timings.time():
                outcome = await pool.inspect(question.encode())
            tally.check(
                question, (outcome.status, b"".join(outcome.reports).decode()), ("accepted", answer)
            )
            update(len(timings.each), "")

    async with anyio.create_task_group() as group:
        for _ in range(min(READERS, count)):
            group.start_soon(reader)


async def _check_ends(
    fleet: Fleet, machine: Machine, snapshot: Path, model: Model, tally: Tally
) -> None:
    """Check that the inputs brought the machine where they must, and its snapshot nowhere."""
    for question, answer in model.questions():
        outcome = await fleet.inspect(machine, question.encode())
        tally.check(question, b"".join(outcome.reports).decode(), answer)
    async with fleet.open(snapshot) as stored:
        tally.check("digest", await fleet.call(stored, stored.digest), tally.digest)


def _texts(parts: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(part.decode() for part in parts)
