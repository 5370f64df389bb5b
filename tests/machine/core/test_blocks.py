"""Code in odd places and of odd lengths: blocks, pages, halfwords, ranges."""

import pytest

from orchestra.machine import Drive, Machine, MachineConfig, Ram, ReachedCycle
from tests.assembler import RAM, Code, encode
from tests.machine.core.small import PAGE, bare, halt, in_every_way, until_halt

ADDI_A0 = 0x0505  # c.addi a0, 1
JUMP_TO_RA = 0x8082  # c.jr ra
CMIO_RX, CMIO_TX, DEVICE_TREE = 0x6000_0000, 0x6080_0000, 0x7FF0_0000


@pytest.mark.parametrize("length", [1, 2, 253, 254, 255, 256, 257, 509, 510, 511, 512, 700, 2100])
@pytest.mark.parametrize("wide", [False, True])
def test_straight_code_of_any_length_is_counted_right(length, wide):
    def make():
        code = Code()
        code.li("s0", 3)
        code.label("loop")
        for _ in range(length):
            code.word(encode("addi", "a0", "a0", 1)) if wide else code.half(ADDI_A0)
        code.op("addi", "s0", "s0", -1)
        code.op("beq", "s0", "zero", "end")
        code.op("jal", "zero", "loop")
        code.label("end")
        halt(code)
        return bare(code)

    machine = in_every_way(make, steps=(3, 100, 254, 255, 256))
    assert machine.registers["a0"] == 3 * length
    setup, loop, end = 1, 3 * (length + 3) - 1, 3
    assert machine.registers["minstret"] == machine.cycle == setup + loop + end


@pytest.mark.parametrize("wide", [False, True])
def test_code_runs_on_across_pages(wide):
    def make():
        code = Code()
        code.pad(RAM + 2 * PAGE - 8)
        code.li("a0", 0)
        for _ in range(2 * PAGE // 4):
            code.word(encode("addi", "a0", "a0", 1)) if wide else code.half(ADDI_A0, ADDI_A0)
        halt(code)
        return bare(code)

    machine = in_every_way(make, steps=(1, 300))
    assert machine.registers["a0"] == 2 * PAGE // 4 * (1 if wide else 2)


def test_an_instruction_may_lie_on_two_pages():
    def make():
        code = Code()
        code.li("s0", 3)
        code.op("jal", "zero", "straddles")
        code.pad(RAM + PAGE - 6)
        code.label("straddles")
        code.op("addi", "a0", "a0", 1)
        code.op("addi", "a0", "a0", 16)  # at 0xffe
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "straddles")
        halt(code)
        return bare(code)

    machine = in_every_way(make)
    assert machine.registers["a0"] == 51


@pytest.mark.parametrize(
    "word",
    [
        encode("jal", "ra", 0x800),
        encode("beq", "zero", "zero", 0x7F0),
        encode("jalr", "ra", 0x7FE, "s1"),
        encode("ld", "a0", 0, "s1"),
        encode("sd", "s1", 0, "s1"),
        encode("amoadd.d", "a0", "s1", "s1"),
        encode("csrrs", "a0", "minstret", "zero"),
        encode("ecall"),
        0xFFFFFFFF,
    ],
)
def test_every_kind_of_instruction_may_lie_on_two_pages(word):
    def make():
        code = Code()
        code.la("t0", "end")
        code.csrw("mtvec", "t0")
        code.li("s1", RAM + 2 * PAGE)
        code.pad(RAM + PAGE - 2)
        code.word(word)
        code.pad(RAM + PAGE + 0x700)
        code.label("end")
        halt(code)
        code.pad(RAM + 3 * PAGE)
        code.op("jal", "zero", "end")
        return bare(code)

    in_every_way(make)


def test_a_jump_into_an_instruction_runs_its_second_half():
    def make():
        code = Code()
        code.li("s0", 4)
        code.label("again")
        code.op("andi", "t0", "s0", 1)
        code.op("beq", "t0", "zero", 6)  # every other time
        code.op("lui", "a1", ADDI_A0 << 4)
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "again")
        halt(code)
        return bare(code)

    machine = in_every_way(make)
    assert machine.registers["a0"] == 2
    assert machine.registers["a1"] == ADDI_A0 << 16


def test_the_same_bytes_run_at_both_halfwords():
    """Words whose upper halves are instructions too, entered at either half, over and over."""

    def make():
        code = Code()
        code.li("s0", 6)
        code.la("s1", "table")
        code.label("again")
        code.op("andi", "t0", "s0", 1)
        code.op("add", "t0", "t0", "t0")
        code.op("add", "t0", "t0", "s1")
        code.op("jalr", "ra", 0, "t0")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "again")
        halt(code)
        code.label("table")
        for _ in range(20):
            code.op("lui", "a1", ADDI_A0 << 4)
        code.half(JUMP_TO_RA)
        return bare(code)

    machine = in_every_way(make)
    assert machine.registers["a0"] == 3  # the half jumped to; then words


def test_jalr_clears_the_lowest_bit_of_its_target():
    code = Code()
    code.la("s0", "end")
    code.op("jalr", "ra", 1, "s0")
    code.word(0)
    code.label("end")
    halt(code)
    machine = until_halt(bare(code))
    assert machine.registers["ra"] == RAM + 12


def test_no_jump_is_misaligned():
    """With the C extension, a target is even or made even: mepc too."""
    code = Code()
    code.li("t0", RAM + 0x13)
    code.csrw("mepc", "t0")
    code.csrr("a0", "mepc")
    halt(code)
    machine = until_halt(bare(code))
    assert machine.registers["a0"] == RAM + 0x12


@pytest.mark.parametrize("place", [CMIO_RX, CMIO_TX, DEVICE_TREE])
def test_memory_that_is_not_ram_is_not_executable(place):
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("s0", place + 0x2000)
    code.op("jalr", "ra", 0, "s0")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    halt(code)
    machine = until_halt(bare(code))
    assert machine.registers["mcause"] == 1
    assert machine.registers["mtval"] == machine.registers["mepc"] == place + 0x2000


@pytest.mark.parametrize("place", [0, 0x200_0000, 0x1000_0000, 0x4000_8000, RAM - 2, 1 << 63])
def test_devices_and_holes_are_not_executable(place):
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("s0", place)
    code.op("jalr", "ra", 0, "s0")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    halt(code)
    machine = until_halt(bare(code))
    assert (machine.registers["mcause"], machine.registers["mtval"]) == (1, place)


def test_code_at_the_end_of_ram_runs_until_its_last_byte():
    with Machine.create(MachineConfig(ram=Ram(length=PAGE * 16))) as machine:
        code = Code(RAM + PAGE * 16 - 6)
        code.op("addi", "a0", "a0", 1)
        code.half(ADDI_A0)
        machine.write(code.address, code.finish())
        machine.registers["pc"] = code.address
        machine.registers["mtvec"] = 0
        assert machine.run(3) == ReachedCycle(3)
        assert machine.registers["a0"] == 2
        assert machine.registers["mcause"] == 1
        assert machine.registers["mepc"] == machine.registers["mtval"] == code.here


def test_half_an_instruction_at_the_end_of_ram_faults_at_its_second_half():
    end = RAM + PAGE * 16
    with Machine.create(MachineConfig(ram=Ram(length=PAGE * 16))) as machine:
        machine.write(end - 2, b"\x13\x00")
        machine.registers["pc"] = end - 2
        machine.run(1)
        assert machine.registers["mepc"] == end - 2
        assert machine.registers["mtval"] == end


def hidden_drive(tmp_path):
    """A machine with a disk, and where the disk's bytes are in its memory map, unseen."""
    disk = tmp_path / "disk"
    disk.write_bytes(encode("addi", "a0", "a0", 1).to_bytes(4, "little") * 2048)
    config = MachineConfig(ram=Ram(length=1 << 20), drives=(Drive("d", path=disk),))
    machine = Machine.create(config)
    return machine, next(item.start for item in machine.layout.ranges if item.name == "d")


@pytest.mark.parametrize(
    ("name", "cause"), [("jalr", 1), ("ld", 5), ("sd", 7), ("amoadd.d", 7), ("lr.d", 5)]
)
@pytest.mark.parametrize("translated", [False, True])
def test_a_disk_is_not_in_the_guests_memory(tmp_path, name, cause, translated):
    machine, start = hidden_drive(tmp_path)
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    if translated:  # a gigapage shows it, and RAM is at itself
        code.li("t0", 8 << 60 | (RAM + 0x8000) >> 12)
        code.csrw("satp", "t0")
        code.li("t0", 1 << 30)
        code.li("s0", (1 << 30) | start % (1 << 30))
        code.li("t0", 0x800)
        code.csrw("mstatus", "t0")
        code.la("t0", "access")
        code.csrw("mepc", "t0")
        code.op("mret")
    else:
        code.li("s0", start)
    code.label("access")
    values = {"jalr": ("ra", 0, "s0"), "amoadd.d": ("a0", "a0", "s0"), "lr.d": ("a0", "s0")}
    code.op(name, *values.get(name, ("a0", 0, "s0")))
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    halt(code)
    with machine:
        machine.write(RAM, code.finish())
        root = bytearray(PAGE)
        for index, page in ((1, start >> 30 << 30), (RAM >> 30, RAM)):
            root[8 * index : 8 * index + 8] = (page >> 12 << 10 | 0xCF).to_bytes(8, "little")
        machine.write(RAM + 0x8000, bytes(root))
        until_halt(machine)
        address = (1 << 30) | start % (1 << 30) if translated else start
        assert (machine.registers["mcause"], machine.registers["mtval"]) == (cause, address)


@pytest.mark.parametrize(("name", "cause"), [("ld", 5), ("sd", 7), ("jalr", 1)])
def test_page_tables_on_a_disk_are_not_followed(tmp_path, name, cause):
    machine, start = hidden_drive(tmp_path)
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", 8 << 60 | start >> 12)
    code.csrw("satp", "t0")
    code.li("s0", RAM + 0x9000)
    code.li("t0", 0x20800)  # MPRV, MPP = S
    code.csrw("mstatus", "t0")
    if name == "jalr":
        code.csrw("mepc", "s0")
        code.op("mret")
    else:
        code.op(name, "a0", 0, "s0")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    halt(code)
    with machine:
        machine.write(RAM, code.finish())
        until_halt(machine)
        assert (machine.registers["mcause"], machine.registers["mtval"]) == (cause, RAM + 0x9000)
