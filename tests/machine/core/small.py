"""Small programs on bare machines, run in every way that must make no difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.machine import Halted, Machine, MachineConfig, Ram, ReachedCycle
from tests.assembler import RAM, Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestra.machine import Engine

HTIF = 0x4000_8000
MTIMECMP = 0x200_4000
PAGE = 4096
RAM_LENGTH = 1 << 20
CYCLES_PER_TICK = 100
ENGINES: tuple[Engine, ...] = ("interpreter", "translator")


def bare(code: Code, data: dict[int, bytes] | None = None, *, sealed: bool = False) -> Machine:
    """Make a machine that runs `code`; sealed, its pages are immutable: stores copy them first."""
    machine = Machine.create(MachineConfig(ram=Ram(length=RAM_LENGTH)))
    machine.write(code.address, code.finish())
    for address, part in (data or {}).items():
        machine.write(address, part)
    machine.registers["pc"] = code.address
    machine.registers["a1"] = 0  # the device tree's address, which is of no use here
    if sealed:
        machine.checkpoint()
    return machine


def halt(code: Code) -> None:
    """End the program; clobbers t0 and t1."""
    code.li("t0", HTIF)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")


def until_halt(machine: Machine, max_cycles: int = 1_000_000) -> Machine:
    """Run to the end, which must come."""
    stop = machine.run(max_cycles=max_cycles)
    assert isinstance(stop, Halted), (stop, hex(machine.registers["pc"]))
    return machine


def in_every_way(make: Callable[[], Machine], steps: Iterable[int] = (1, 2, 3, 7)) -> Machine:
    """Run to the halt at once, traced, in steps and in forks, on both engines: all end the same."""
    first = until_halt(make())
    with make() as machine:
        for _ in machine.trace():
            pass
        assert (machine.cycle, machine.digest()) == (first.cycle, first.digest()), "traced"
    for engine in ENGINES:

        def made(engine: Engine = engine) -> Machine:
            machine = make()
            machine.engine = engine
            return machine

        _in_ways_of_running(made, engine, tuple(steps), first.cycle, first.digest())
    return first


def _in_ways_of_running(
    make: Callable[[], Machine], engine: Engine, steps: Iterable[int], cycle: int, digest: str
) -> None:
    for step in steps:
        with make() as machine:
            while isinstance(machine.run(max_cycles=step), ReachedCycle):
                pass
            end = machine.cycle, machine.digest()
            assert end == (cycle, digest), f"{engine} in steps of {step}"
    for part in (0, 1, 2, 3):
        with make() as machine:
            machine.run(cycle * part // 4)
            with machine.fork() as fork:
                assert fork.engine == engine
                assert until_halt(fork).digest() == digest, f"{engine} forked at {part}/4"
            assert until_halt(machine).digest() == digest, f"{engine} after a fork at {part}/4"
            machine.rollback()
            assert until_halt(machine).digest() == digest, f"{engine} rolled back to {part}/4"


def sv39(code: Code, root: int, leaf_flags: int = 0xCF) -> None:
    """Turn on Sv39 with tables at `root` (see identity_tables); clobbers t0."""
    code.li("t0", 8 << 60 | root >> 12)
    code.csrw("satp", "t0")
    code.op("sfence.vma", 0, 0)


def identity_tables(root: int, flags: int = 0xCF) -> dict[int, bytes]:
    """Three pages of tables from `root` on: RAM at its own address, page by page."""
    tables = bytearray(3 * PAGE)

    def put(page: int, index: int, entry: int) -> None:
        place = page * PAGE + 8 * index
        tables[place : place + 8] = entry.to_bytes(8, "little")

    put(0, RAM >> 30, (root + PAGE) >> 12 << 10 | 1)
    put(1, 0, (root + 2 * PAGE) >> 12 << 10 | 1)
    for page in range(RAM_LENGTH // PAGE):
        put(2, page, (RAM + page * PAGE) >> 12 << 10 | flags)
    return {root: bytes(tables)}
