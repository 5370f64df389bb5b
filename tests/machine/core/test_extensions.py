"""Extensions: what they do is what Spike does, and without them they are not there."""

import random
import re

import pytest

from orchestra.errors import BadConfig
from orchestra.machine import Halted, Machine, MachineConfig, Processor, Ram
from orchestra.machine._core import instructions
from orchestra.machine.config import BASE_ISA, EXTENSIONS
from orchestra.machine.devicetree import text
from tests.assembler import EXTRA, RAM, STIMECMP, TABLE, Code, elf
from tests.machine.core.small import HTIF, in_every_way, until_halt
from tests.spike import compare, new_machine, run_spike

TOHOST = RAM + 0x20000
DATA = RAM + 0x21000
EDGES = (
    0,
    1,
    -1,
    2,
    63,
    64,
    1 << 31,
    1 << 63,
    (1 << 63) - 1,
    0xFF,
    0x8000,
    0x80,
    0x0100_00FF_0000_8000,
)
ALL = "".join(f"_{name}" for name in EXTENSIONS)
BITS = ("zba", "zbb", "zbs", "zicond")


def write(path, code):
    """Make an ELF of code, with an end and a page of data."""
    code.li("t0", TOHOST)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    code.op("jal", "zero", 0)
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64}
    parts = [(RAM, code.finish()), (TOHOST, bytes(128)), (DATA, bytes(range(256)) * 16)]
    path.write_bytes(elf(parts, symbols))
    return path


def start():
    """A handler that steps over what traps, with its cause in s10 and its value in s11."""
    code = Code()
    code.op("jal", "zero", "start")
    code.pad(RAM + 8)
    code.label("handler")
    code.csrr("s10", "mcause")
    code.csrr("s11", "mtval")
    code.csrr("t5", "mepc")
    code.op("addi", "t5", "t5", 4)
    code.csrw("mepc", "t5")
    code.op("mret")
    code.label("start")
    code.li("t0", RAM + 8)
    code.csrw("mtvec", "t0")
    code.li("t0", 0x2004000)  # Spike's timer is due at reset
    code.li("t1", -1)
    code.op("sd", "t1", 0, "t0")
    return code


def number(rng):
    """A number at an edge, or any."""
    if rng.random() < 0.5:
        return rng.choice(EDGES)
    return rng.getrandbits(64) >> rng.choice((0, 0, 32, 48, 56))


def bit_program(name, rng):
    """Every instruction of an extension, with many operands."""
    code = start()
    mine = [entry for entry in instructions((name,)) if entry[0] not in TABLE]
    assert mine
    for _ in range(25):
        code.li("a0", number(rng))
        code.li("a1", number(rng))
        for instruction, operands, _, _ in mine:
            sources = [rng.choice(("a0", "a1", "zero")) for _ in re.findall("rs.", operands)]
            if "shamt" in operands:
                sources.append(rng.randrange(32 if instruction == "roriw" else 64))
            code.op(instruction, rng.choice(("a2", "a3", "zero")), *sources)
    return code


@pytest.mark.parametrize("name", BITS)
def test_bit_manipulation_does_the_same_on_spike(tmp_path, name):
    program = write(tmp_path / "program.elf", bit_program(name, random.Random(name)))
    found = compare(program, slices=(1, 2, 3, 50), extensions=f"_{name}")
    assert found.mismatch is None, found.mismatch
    assert found.lines > 200


def float_number(rng, name):
    """A pattern of binary32, boxed, or of binary64: special, near an integer, or any."""
    width, fraction, bias = (32, 23, 127) if name.endswith(".s") else (64, 52, 1023)
    sign = rng.getrandbits(1) << (width - 1)
    kind = rng.randrange(5)
    if kind == 0:
        top = (2 * bias + 1) << fraction
        value = rng.choice((0, 1, top, top | 1, top | 1 << (fraction - 1), 1 << fraction, top - 1))
    elif kind == 1:  # integers and halves
        exponent = bias + rng.randrange(-2, fraction + 2)
        value = exponent << fraction | rng.getrandbits(4) << (fraction - 4)
    elif kind == 2:
        value = (bias + rng.randrange(-3, 90)) << fraction | rng.getrandbits(fraction)
    elif kind == 3:
        value = (bias + rng.randrange(-1, 12)) << fraction | rng.choice((0, 1, (1 << fraction) - 1))
    else:
        value = rng.getrandbits(width - 1)
    boxed = 0 if width == 64 or rng.random() < 0.05 else 0xFFFFFFFF << 32
    return boxed | sign | value


def test_additional_floating_point_does_the_same_on_spike(tmp_path):
    rng = random.Random("zfa")
    mine = [entry for entry in instructions(("zfa",)) if entry[0] not in TABLE]
    assert len(mine) == 15
    for part in range(6):
        code = start()
        code.li("t0", 0x2000)
        code.csrw("mstatus", "t0")
        for _ in range(150):
            name, operands, _, _ = rng.choice(mine)
            for register in ("f1", "f2"):
                code.li("a0", float_number(rng, name if name[-1] == "s" or "cvt" in name else ".d"))
                code.op("fmv.d.x", register, "a0")
            code.op("csrrwi", "zero", "frm", rng.randrange(5))
            code.csrw("fflags", "zero")
            values = [rng.choice(("f1", "f2")) for _ in re.findall("fs.", operands)]
            if "rm" in operands:
                values.append(1 if name == "fcvtmod.w.d" else rng.choice((0, 1, 2, 3, 4, 7)))
            if "zimm" in operands:
                values.append(rng.randrange(32))
            code.op(name, "a1" if operands[0] == "r" else "f3", *values)
            code.csrr("a2", "fflags")
        program = write(tmp_path / f"program-{part}.elf", code)
        found = compare(program, slices=(1, 2, 3, 50), extensions="_zfa")
        assert found.mismatch is None, found.mismatch


def test_every_constant_of_zfa_is_spikes(tmp_path):
    code = start()
    code.li("t0", 0x2000)
    code.csrw("mstatus", "t0")
    for index in range(32):
        code.op("fli.s", "f1", index)
        code.op("fli.d", "f2", index)
    found = compare(write(tmp_path / "program.elf", code), extensions="_zfa")
    assert found.mismatch is None, found.mismatch


@pytest.mark.parametrize("with_them", ["_zcb", "_zcb_zbb", "_zcb_zba", "_zba_zbb_zcb"])
def test_every_compressed_word_that_zcb_defines_does_the_same_on_spike(tmp_path, with_them):
    rng = random.Random(with_them)
    code = start()
    for register in ("a0", "a1", "a2", "a5"):
        code.li(register, rng.getrandbits(64))
    code.li("s0", DATA + 64)
    code.li("s1", DATA + 128)
    for base in ("s0", "s1"):
        for high in range(4):
            for low in range(4):
                half = 0x8000 | high << 10 | low << 5 | ("s0", "s1").index(base) << 7 | 6 << 2
                code.half(half, 0x0001)  # with a c.nop: a trap steps over four bytes
    for high in (2, 3):
        for low in range(8):
            code.li("a3", rng.getrandbits(64))
            code.li("a4", rng.getrandbits(64))
            code.half(0x8001 | 7 << 10 | 5 << 7 | high << 5 | low << 2, 0x0001)
    found = compare(write(tmp_path / "program.elf", code), slices=(1, 7), extensions=with_them)
    assert found.mismatch is None, found.mismatch


def environment_program(mode, menvcfg, senvcfg):
    """Cache blocks managed and zeroed in a mode that may, or may not."""
    code = start()
    code.li("t0", menvcfg)
    code.csrw("menvcfg", "t0")
    code.li("t0", senvcfg)
    code.csrw("senvcfg", "t0")
    code.li("t0", mode << 11)
    code.csrw("mstatus", "t0")
    code.la("t0", "there")
    code.csrw("mepc", "t0")
    code.op("mret")
    code.label("there")
    for address in (DATA, DATA + 200, DATA + 64, 0x100):
        code.li("a0", address)
        for name in ("cbo.clean", "cbo.flush", "cbo.inval", "cbo.zero"):
            code.li("s10", 0)
            code.op(name, "a0")
    code.li("a0", DATA + 192)
    for offset in range(-64, 128, 8):
        code.op("ld", "a1", offset, "a0")
    return code


@pytest.mark.parametrize("mode", [0, 1, 3])
@pytest.mark.parametrize(("menvcfg", "senvcfg"), [(0, 0), (0xF1, 0), (0xF1, 0xF1), (0x51, 0x91)])
def test_cache_blocks_are_managed_where_the_mode_may(tmp_path, mode, menvcfg, senvcfg):
    program = write(tmp_path / "program.elf", environment_program(mode, menvcfg, senvcfg))
    with new_machine(program, "_zicbom_zicboz") as machine:
        ours = list(machine.trace(max_cycles=10_000))
    theirs = run_spike(program, "_zicbom_zicboz").log[: len(ours)]
    assert [without_memory(line) for line in ours] == [without_memory(line) for line in theirs]


def without_memory(line):
    """Leave out how a block is written, and menvcfg, which shows more bits in Spike."""
    return re.sub(r" (mem|c\d+_menvcfg|c\d+_senvcfg) .*", "", line)


def test_a_zeroed_block_of_code_is_forgotten():
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("s0", 2)
    code.la("a0", "block")
    code.label("again")
    code.op("jal", "zero", "block")
    code.pad(RAM + 0x100)
    code.label("block")
    code.op("addi", "s1", "s1", 1)
    code.op("addi", "s0", "s0", -1)
    code.op("cbo.zero", "a0")
    code.op("jal", "zero", "block")
    code.pad(RAM + 0x140)
    code.label("handler")
    code.li("t0", HTIF)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")

    def make():
        machine = Machine.create(
            MachineConfig(ram=Ram(1 << 20), processor=Processor(isa=f"{BASE_ISA}_zicboz"))
        )
        machine.write(RAM, code.finish())
        return machine

    with in_every_way(make) as machine:
        assert machine.registers["s1"] == 1
        assert machine.registers["mcause"] == 2
        assert machine.registers["mepc"] == RAM + 0x10C


def svinval_program(mode, mstatus):
    code = start()
    code.li("t0", mstatus | mode << 11)
    code.csrw("mstatus", "t0")
    code.la("t0", "there")
    code.csrw("mepc", "t0")
    code.op("mret")
    code.label("there")
    code.op("sinval.vma", "a0", "a1")
    code.op("sfence.w.inval")
    code.op("sfence.inval.ir")
    return code


@pytest.mark.parametrize("mode", [0, 1, 3])
@pytest.mark.parametrize("mstatus", [0, 1 << 20])
def test_invalidating_translations_is_for_those_who_may(tmp_path, mode, mstatus):
    program = write(tmp_path / "program.elf", svinval_program(mode, mstatus))
    found = compare(program, extensions="_svinval")
    assert found.mismatch is None, found.mismatch


def timer_program():
    """S-mode sets its own timer and waits for it."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("stvec", "t0")
    code.li("t0", 1 << 63)
    code.csrw("menvcfg", "t0")
    code.li("t0", 1 << 5)
    code.csrw("mideleg", "t0")
    code.csrw("mie", "t0")
    code.op("csrrwi", "zero", "mcounteren", 2)
    code.csrr("s0", "mip")
    code.li("t0", 1 << 11 | 2)
    code.csrw("mstatus", "t0")
    code.la("t0", "there")
    code.csrw("mepc", "t0")
    code.li("s1", 3)
    code.li("t0", 20)
    code.csrw(STIMECMP, "t0")
    code.op("mret")
    code.label("there")
    code.op("wfi")
    code.op("addi", "s2", "s2", 1)
    code.op("jal", "zero", "there")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.csrr("s3", "scause")
    code.csrr("t1", "time")
    code.op("addi", "t1", "t1", 7)
    code.csrw(STIMECMP, "t1")
    code.csrr("s4", "sip")
    code.op("addi", "s1", "s1", -1)
    code.op("beq", "s1", "zero", "end")
    code.op("sret")
    code.label("end")
    code.li("t0", HTIF)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    return code


def timer_machine():
    config = MachineConfig(ram=Ram(1 << 20), processor=Processor(isa=f"{BASE_ISA}_sstc"))
    machine = Machine.create(config)
    machine.write(RAM, timer_program().finish())
    return machine


def test_the_supervisor_has_a_timer_of_its_own():
    with in_every_way(timer_machine) as machine:
        assert machine.registers["s3"] == 1 << 63 | 5
        assert machine.registers["s0"] >> 5 & 1 == 1  # it was due: stimecmp is 0 at reset
        assert machine.registers["s4"] == 0
        assert 3400 <= machine.cycle < 3600  # ticks 20, 27 and 34 of 100 cycles


def test_the_timer_interrupts_a_loop_at_the_tick():
    with timer_machine() as machine:
        machine.write(
            RAM,
            timer_program().finish().replace(bytes.fromhex("73005010"), bytes.fromhex("13000000")),
        )
        assert 3400 <= until_halt(machine).cycle < 3600
        assert machine.registers["s2"] > 900


@pytest.mark.parametrize("bits", ["menvcfg", "mcounteren", "isa"])
def test_the_timer_is_out_of_reach_without_each_of_its_permissions(bits):
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", 0 if bits == "menvcfg" else 1 << 63)
    code.csrw("menvcfg", "t0")
    code.op("csrrwi", "zero", "mcounteren", 0 if bits == "mcounteren" else 2)
    code.la("t0", "there")
    code.csrw("mepc", "t0")
    code.li("t0", 1 << 11)
    code.csrw("mstatus", "t0")
    code.op("mret")
    code.label("there")
    code.csrr("a0", STIMECMP)
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.li("t0", HTIF)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    isa = BASE_ISA if bits == "isa" else f"{BASE_ISA}_sstc"
    config = MachineConfig(ram=Ram(1 << 20), processor=Processor(isa=isa))
    with Machine.create(config) as machine:
        machine.write(RAM, code.finish())
        until_halt(machine)
        assert machine.registers["mcause"] == 2


def test_nothing_of_the_extensions_is_there_without_them(tmp_path):
    code = start()
    extra = sorted(set(EXTRA) - set(TABLE))
    for name in extra:
        code.word(EXTRA[name][1])
        code.op("addi", "s9", "s9", 1)
    for half in (0x8000, 0x8400, 0x8800, 0x8C00, 0x9C41, 0x9C61, 0x9C75):
        code.half(half, 0x0001)
        code.op("addi", "s9", "s9", 1)
    found = compare(write(tmp_path / "program.elf", code))
    assert found.mismatch is None, found.mismatch
    with new_machine(tmp_path / "program.elf") as machine:
        assert isinstance(machine.run(max_cycles=100_000), Halted)
        assert machine.registers["s9"] == len(extra) + 7
        assert machine.registers["mcause"] == 2


def test_a_guest_is_told_of_what_it_has():
    config = MachineConfig(ram=Ram(64 << 20), processor=Processor(isa=BASE_ISA + ALL))
    with Machine.create(config) as machine:
        tree = machine.read(machine.registers["a1"], 1 << 15)
    assert text(BASE_ISA + ALL) in tree
    for name in ("cbom", "cboz"):
        assert f"riscv,{name}-block-size".encode() in tree
    with Machine.create(MachineConfig(ram=Ram(64 << 20))) as machine:
        assert b"block-size" not in machine.read(machine.registers["a1"], 1 << 15)


@pytest.mark.parametrize(
    "isa",
    ["rv64imafdc", f"{BASE_ISA}_zbz", f"{BASE_ISA}_zba_zba", f"{BASE_ISA}_", f"{BASE_ISA}zba"],
)
def test_an_isa_that_we_are_not_is_refused(isa):
    with pytest.raises(BadConfig, match="zicond"):
        MachineConfig(processor=Processor(isa=isa))


def test_debian_boots_with_all_of_them(debian_files):
    from orchestra.guest.debian import debian_config
    from orchestra.machine import Yielded

    files, initramfs = debian_files
    config = debian_config(files, initramfs)
    import msgspec

    config = msgspec.structs.replace(config, processor=Processor(isa=BASE_ISA + ALL))
    with Machine.create(config) as machine:
        stop = machine.run(max_cycles=1_000_000_000)
        assert isinstance(stop, Yielded), machine.console_output()
        outcome = machine.inspect(b"grep isa /proc/cpuinfo")
        assert b"zbb" in b"".join(outcome.reports)
