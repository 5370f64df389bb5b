"""Machines that decode the same code at once, on several threads, count the same cycles."""

import random
import threading

from orchestra.machine import Halted, Machine, MachineConfig, Ram
from tests.assembler import RAM, Code
from tests.machine.core.small import halt

PAGES = 120
THREADS = 4
ROUNDS = 6


def much_code(seed):
    """Many short blocks, each run once or twice, on many pages."""
    rng = random.Random(seed)
    code = Code()
    code.li("s0", 3)
    code.label("again")
    while code.here < RAM + PAGES * 4096:
        for _ in range(rng.randrange(1, 5)):
            code.op("addi", "a0", "a0", 1)
        if rng.random() < 0.5:
            code.half(0x0585)  # c.addi a1, 1
        code.op("bne", "a0", "zero", rng.choice((4, 8)))
        code.op("xor", "a2", "a2", "a0")
    code.op("addi", "s0", "s0", -1)
    code.op("beq", "s0", "zero", 16)
    code.la("t0", "again")
    code.op("jalr", "zero", 0, "t0")
    halt(code)
    return code.finish()


def test_threads_that_meet_in_undecoded_code_agree():
    for seed in range(ROUNDS):
        code = much_code(seed)
        with Machine.create(MachineConfig(ram=Ram(length=(PAGES + 2) * 4096))) as machine:
            machine.write(RAM, code)
            machine.registers["pc"] = RAM
            machine.checkpoint()
            forks = [machine.fork() for _ in range(THREADS)]
            start = threading.Barrier(THREADS)
            ends = {}

            def run(index, fork, start=start, ends=ends):
                start.wait()
                ends[index] = fork.run()

            threads = [threading.Thread(target=run, args=item) for item in enumerate(forks)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(set(ends.values())) == 1, ends
            assert isinstance(ends[0], Halted)
            assert len({fork.digest() for fork in forks}) == 1
            for fork in forks:
                fork.close()
