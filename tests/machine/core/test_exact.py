"""A run stops at exactly the cycle it was told, and where it stops makes no difference."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.machine import Halted, ReachedCycle
from tests.assembler import RAM, Code
from tests.machine.core.small import HTIF, bare, halt, in_every_way, until_halt
from tests.random_programs.program import random_program
from tests.spike import new_machine


def mixture():
    """Loops, calls, memory, traps and compressed code: 300 cycles of everything."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("s0", RAM + 0x8000)
    code.li("s1", 5)
    code.label("loop")
    code.op("jal", "ra", "function")
    code.op("sd", "s1", 0, "s0")
    code.op("amoadd.d", "a0", "s1", "s0")
    code.op("ld", "a1", 0, "s0")
    code.op("ecall")
    code.half(0x0505, 0x0505)  # c.addi a0, 1
    code.op("addi", "s0", "s0", 24)
    code.op("addi", "s1", "s1", -1)
    code.op("bne", "s1", "zero", "loop")
    halt(code)
    code.label("function")
    for _ in range(9):
        code.op("mul", "a2", "a2", "s1")
        code.op("addi", "a2", "a2", 3)
    code.csrr("a3", "cycle")
    code.op("jalr", "zero", 0, "ra")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.csrr("t2", "mepc")
    code.op("addi", "t2", "t2", 4)
    code.csrw("mepc", "t2")
    code.op("mret")
    return code


def test_every_way_of_running_ends_in_the_same_state():
    in_every_way(lambda: bare(mixture()))


def test_a_run_stopped_at_any_cycle_goes_on_as_if_it_had_not_been():
    whole = until_halt(bare(mixture()))
    for cycle in range(whole.cycle):
        with bare(mixture()) as machine:
            assert machine.run(cycle) == ReachedCycle(cycle)
            assert machine.cycle == cycle
            assert until_halt(machine).digest() == whole.digest()


def test_stepping_passes_the_states_of_the_trace():
    with bare(mixture()) as stepped, bare(mixture()) as jumped:
        while isinstance(stepped.run(max_cycles=1), ReachedCycle):
            if stepped.cycle % 5 == 0:
                jumped.run(stepped.cycle)
                assert jumped.digest() == stepped.digest()


@pytest.mark.parametrize("back", [2, 4, 100])
def test_a_run_to_a_cycle_in_the_past_does_nothing(back):
    with bare(mixture()) as machine:
        machine.run(150)
        digest = machine.digest()
        assert machine.run(150 - back) == ReachedCycle(150)
        assert machine.digest() == digest


def test_a_loop_that_jumps_to_itself_is_stopped_at_every_cycle():
    code = Code()
    code.op("jal", 0, 0)
    with bare(code) as machine:
        for cycle in range(1, 50):
            assert machine.run(cycle) == ReachedCycle(cycle)
            assert machine.registers["pc"] == RAM
        assert machine.run(10**6) == ReachedCycle(10**6)


def test_an_endless_trap_loop_takes_cycles():
    code = Code()
    code.word(0)  # illegal, and mtvec is 0, where there is no memory
    with bare(code) as machine:
        assert machine.run(1000) == ReachedCycle(1000)
        assert machine.registers["mcause"] == 1
        assert machine.registers["minstret"] == 0
        assert machine.registers["mcycle"] == 1000


def test_the_halting_store_is_the_last_instruction():
    code = Code()
    halt(code)
    code.op("addi", "t1", "t1", 100)
    with bare(code) as machine:
        stop = machine.run()
        assert stop == Halted(stop.cycle, 0)
        assert machine.registers["t1"] == 1
        assert machine.registers["pc"] == code.here - 4
        assert machine.run() == stop


def test_exit_codes_come_from_tohost():
    code = Code()
    code.li("t0", HTIF)
    code.li("t1", 42 << 1 | 1)
    code.op("sd", "t1", 0, "t0")
    with bare(code) as machine:
        assert machine.run() == Halted(machine.cycle, 42)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.sampled_from([1, 2, 5, 37, 999]), max_size=60))
def test_random_programs_end_the_same_however_they_are_cut(tmp_path_factory, seed, slices):
    program = tmp_path_factory.mktemp("cut") / "program.elf"
    program.write_bytes(random_program(random.Random(seed), 4, 60))
    with new_machine(program) as machine, new_machine(program) as other:
        until_halt(machine, max_cycles=300_000)
        for index, length in enumerate(slices):
            other.run(max_cycles=length)
            if index % 7 == 6:
                other.checkpoint()
        assert until_halt(other).digest() == machine.digest()
