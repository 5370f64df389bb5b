"""Both engines in lock-step: random programs, trap storms, a timer that is due at every cycle."""

import random

import pytest

from orchestra.machine import Halted, Machine, MachineConfig, Processor, Ram
from tests.assembler import RAM, Code
from tests.machine.core.small import (
    ENGINES,
    MTIMECMP,
    PAGE,
    bare,
    halt,
    identity_tables,
    in_every_way,
    sv39,
    until_halt,
)
from tests.random_programs.program import random_program
from tests.spike import new_machine

SLICES = (1, 1, 2, 3, 17, 100, 1000, 1000)
TABLES = RAM + 0x80000


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("modes", ["M", "S", "U", "MSU"])
def test_random_programs_stay_in_step(tmp_path, modes, seed):
    """Where one stops the other stops, with the same registers, and in the end the same memory."""
    program = tmp_path / "program.elf"
    program.write_bytes(random_program(random.Random(f"{modes}{seed}"), 8, 100, modes))
    dice = random.Random(seed)
    with new_machine(program) as one, new_machine(program) as other:
        one.engine, other.engine = ENGINES
        for step in range(10_000):
            length = dice.choice(SLICES)
            stops = one.run(max_cycles=length), other.run(max_cycles=length)
            assert stops[0] == stops[1]
            assert one._core.state == other._core.state, f"at cycle {one.cycle}"
            if isinstance(stops[0], Halted):
                break
            if step % 50 == 0:
                assert one.digest() == other.digest()
        assert isinstance(stops[0], Halted)
        assert one.digest() == other.digest()


def storm(trap, turns=60):
    """A loop of traps, one after the other: the handler counts them and returns behind each."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", 0x6000)
    code.csrw("mstatus", "t0")
    code.la("t0", "mapped")
    code.csrw("mepc", "t0")
    code.li("t0", 1 << 11)
    code.op("csrrs", 0, "mstatus", "t0")
    sv39(code, TABLES)
    code.op("mret")
    code.label("mapped")
    code.li("s0", turns)
    code.li("s1", 1 << 20)  # nothing is there
    code.label("loop")
    trap(code)
    code.op("addi", "a0", "a0", 1)
    trap(code)
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    code.li("a7", 93)
    code.op("ecall")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.op("addi", "s2", "s2", 1)
    for name in ("mcause", "mtval", "mepc"):
        code.csrr("t1", name)
        code.op("add", "s3", "s3", "t1")
    code.op("addi", "t1", "t1", 4)
    code.csrw("mepc", "t1")
    code.op("bne", "a7", "zero", "end")
    code.op("mret")
    code.label("end")
    halt(code)
    return bare(code, identity_tables(TABLES))


TRAPS = {
    "ecall": ("ecall",),
    "ebreak": ("ebreak",),
    "load": ("ld", "a1", 0, "s1"),
    "load across pages": ("ld", "a1", -4, "s1"),
    "store": ("sd", "a1", 8, "s1"),
    "float load": ("fld", "fa0", 0, "s1"),
    "float store": ("fsw", "fa0", 0, "s1"),
    "amo": ("amoadd.w", "a1", "a1", "s1"),
    "misaligned amo": ("amoadd.w", "a1", "a1", "s0"),
    "reservation": ("lr.d", "a1", "s1"),
    "csr": ("csrrs", "a1", "mscratch", "zero"),
    "return": ("mret",),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_storm_of_one_trap_is_the_same_storm(name):
    machine = in_every_way(lambda: storm(lambda code: code.op(*TRAPS[name])), steps=(1, 13))
    assert machine.registers["s2"] == 2 * 60 + 1


def test_a_storm_of_all_traps_is_the_same_storm():
    dice = random.Random(3)

    def make():
        mixed = iter(dice.sample(sorted(TRAPS), len(TRAPS)) * 2)
        return storm(lambda code: [code.op(*TRAPS[next(mixed)]) for _ in TRAPS])

    state = dice.getstate()

    def again():
        dice.setstate(state)
        return make()

    machine = in_every_way(again, steps=(1, 13))
    assert machine.registers["s2"] == 2 * 60 * len(TRAPS) + 1


def ticking(cycle):
    """Everything a block may be made of, over and over; the timer is due at this very cycle."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", MTIMECMP)
    code.li("t1", cycle)
    code.op("sd", "t1", 0, "t0")
    code.li("t0", 0x2080)
    code.csrw("mie", "t0")
    code.op("csrrs", 0, "mstatus", "t0")
    code.op("csrrsi", 0, "mstatus", 8)
    code.li("s0", 6)
    code.li("s1", RAM + 0x9000)
    code.op("fcvt.d.l", "fa0", "s0", 7)
    code.label("loop")
    code.op("sd", "a0", 0, "s1")
    code.op("ld", "a1", 0, "s1")
    code.op("lw", "a2", 4, "s1")
    code.op("lw", "a3", 8, "s1")
    code.op("fadd.d", "fa1", "fa1", "fa0", 7)
    code.op("fsd", "fa1", 16, "s1")
    code.op("jal", "ra", "function")
    code.op("amoadd.d", "a4", "s0", "s1")
    code.op("lr.d", "a4", "s1")
    code.op("sc.d", "a5", "s0", "s1")
    code.op("csrrs", "t2", "fflags", "zero")
    code.op("csrrci", "t2", "mstatus", 8)
    code.op("div", "a0", "a0", "s0")
    code.op("csrrsi", "t2", "mstatus", 8)
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    code.op("csrrci", 0, "mstatus", 8)
    halt(code)
    code.label("function")
    code.op("addi", "a0", "a0", 3)
    code.op("jalr", "zero", 0, "ra")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.op("addi", "s5", "s5", 1)
    code.csrr("s6", "mcycle")
    code.csrr("s7", "mepc")
    code.li("t5", MTIMECMP)
    code.li("t6", -1)
    code.op("sd", "t6", 0, "t5")
    code.op("mret")
    return code.finish()


def test_a_timer_interrupt_at_every_cycle_of_a_program():
    config = MachineConfig(ram=Ram(16 * PAGE), processor=Processor(cycles_per_tick=1))

    def run(cycle, engine):
        with Machine.create(config, engine=engine) as machine:
            machine.write(RAM, ticking(cycle))
            machine.registers["pc"] = RAM
            until_halt(machine)
            taken = machine.registers["s5"], machine.registers["s6"], machine.registers["s7"]
            return taken, machine.cycle, machine.digest()

    length = run(1 << 40, "interpreter")[1]
    assert length > 120
    places = set()
    for cycle in range(length):
        ends = [run(cycle, engine) for engine in ENGINES]
        assert ends[0] == ends[1], cycle
        if cycle > 20 and ends[0][0][0]:
            places.add(ends[0][0][2])
    assert len(places) > 15  # of the loop's instructions
