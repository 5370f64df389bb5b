"""ELF programs that end as riscv-tests do: by storing to their own `tohost`."""

import subprocess

import pytest

from orchestra.machine import Boot, Halted, Machine, MachineConfig, ReachedCycle

PROGRAM = """
    .section .text.init
    .globl _start
_start:
    la t0, data
    sd zero, 0(t0)      # beside tohost, not into it
    li gp, {value}
    la t5, tohost
    {store} gp, 0(t5)
    sw zero, 4(t5)
1:  j 1b
    .data
    .align 6
data: .dword 1
    .globl tohost
tohost: .dword 0
    .globl fromhost
fromhost: .dword 0
"""


@pytest.fixture
def build(tmp_path):
    def run(value, store="sw"):
        source, elf = tmp_path / "test.S", tmp_path / "test.elf"
        source.write_text(PROGRAM.format(value=value, store=store))
        command = ["riscv64-unknown-elf-gcc", "-nostdlib", "-static", "-mcmodel=medany"]
        command += ["-march=rv64gc", "-Wl,-N,-Ttext=0x80000000,--build-id=none"]
        subprocess.run([*command, str(source), "-o", str(elf)], check=True)
        return MachineConfig(boot=Boot(elf=elf))

    return run


@pytest.mark.parametrize(("value", "code"), [(1, 0), (3, 1), (2 * 1337 + 1, 1337)])
@pytest.mark.parametrize("store", ["sw", "sd"])
def test_one_is_a_pass_and_other_odd_numbers_name_the_failed_test(build, value, code, store):
    with Machine.create(build(value, store)) as machine:
        stop = machine.run(10_000)
        assert isinstance(stop, Halted)
        assert stop.code == code


def test_even_numbers_do_not_halt(build):
    with Machine.create(build(4)) as machine:
        assert machine.run(10_000) == ReachedCycle(10_000)


def test_it_also_ends_a_machine_that_was_stored_before(build, tmp_path):
    with Machine.create(build(7), tmp_path / "app") as machine:
        machine.run(3)
        machine.snapshot(tmp_path / "snap")
        expected = machine.run(10_000), machine.digest()
    with Machine.open(tmp_path / "snap") as machine:
        assert (machine.run(10_000), machine.digest()) == expected
        assert isinstance(expected[0], Halted)
