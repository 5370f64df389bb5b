"""F and D as host code: every instruction gives what the interpreter gives, flags included."""

import pytest

from tests.machine.core.float_programs import float_program
from tests.machine.core.small import ENGINES, bare, in_every_way, until_halt


@pytest.mark.parametrize("accrue", [False, True])
def test_every_instruction_gives_the_same_on_both_engines(accrue):
    for seed in range(40):
        ends = []
        for engine in ENGINES:
            with bare(*float_program(seed, accrue=accrue)) as machine:
                machine.engine = engine
                ends.append((until_halt(machine).cycle, machine.digest()))
        assert ends[0] == ends[1], seed


@pytest.mark.parametrize("accrue", [False, True])
def test_floats_may_be_cut_anywhere(accrue):
    in_every_way(lambda: bare(*float_program(7, accrue=accrue)), steps=(1, 61, 1000))
