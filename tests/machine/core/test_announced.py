"""Extensions are off unless asked for, and the device tree tells a guest of those that are on."""

import re

import pytest

from orchestra.machine import Boot, Machine, MachineConfig, Processor, Ram
from orchestra.machine.config import BASE_ISA, EXTENSIONS
from orchestra.machine.devicetree import text
from tests.assembler import RAM, Code, elf
from tests.machine.core.small import in_every_way
from tests.spike import compare

BLOCKS = {"zicbom", "zicbop", "zicboz"}
TOHOST = RAM + 0x8000
PREFETCHES = [kind << 20 | 9 << 15 | 6 << 12 | 0x13 for kind in (0, 1, 3)]  # .i .r .w 0(s1)
PAUSE = 0x0100_000F


def device_tree(isa):
    """What a guest with this ISA is given in a1."""
    with Machine.create(MachineConfig(ram=Ram(1 << 20), processor=Processor(isa=isa))) as machine:
        return machine.read(machine.registers["a1"], 1 << 15)


@pytest.mark.parametrize("name", [None, *EXTENSIONS])
def test_a_guest_is_told_of_an_extension_only_when_it_is_on(name):
    isa = BASE_ISA if name is None else f"{BASE_ISA}_{name}"
    tree = device_tree(isa)
    assert text(isa) in tree
    listed = text(*"imafdc", "zicntr", "zicsr", "zifencei", *([name] if name else []))
    assert listed in tree
    told = {other for other in EXTENSIONS if re.search(rb"[_\0]%b\0" % other.encode(), tree)}
    assert told == ({name} if name else set())
    sizes = {f"zi{found.decode()}" for found in re.findall(rb"riscv,(cbo.)-block-size", tree)}
    assert sizes == {name} & BLOCKS


def hints():
    """Hints between instructions that would notice if they did anything."""
    code = Code()
    code.li("t0", 0x2004000)
    code.li("t1", -1)
    code.op("sd", "t1", 0, "t0")
    code.li("s0", 40)
    code.li("s1", RAM + 0x100000 - 64)
    code.label("loop")
    for word in (*PREFETCHES, PAUSE):
        code.word(word)
        code.op("addi", "a0", "a0", 1)
    code.op("slli", "s1", "s1", 1)  # sooner or later nothing is there
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    code.li("t0", TOHOST)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    code.op("jal", "zero", 0)
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64}
    return elf([(RAM, code.finish()), (TOHOST, bytes(128))], symbols)


@pytest.mark.parametrize("extensions", ["", "_zicbop_zihintpause"])
def test_hints_do_nothing_with_and_without_being_announced(tmp_path, extensions):
    program = tmp_path / "program.elf"
    program.write_bytes(hints())
    found = compare(program, slices=(1, 7, 100), extensions=extensions)
    assert found.mismatch is None, found.mismatch
    hart = Processor(isa=BASE_ISA + extensions)
    config = MachineConfig(ram=Ram(1 << 20), processor=hart, boot=Boot(elf=program))
    machine = in_every_way(lambda: Machine.create(config), steps=(1, 13))
    assert machine.registers["a0"] == 40 * 4
