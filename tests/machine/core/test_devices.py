"""Drivers that mean harm, or none: only the guest itself suffers, and every run is the same."""

import os
import random
import struct
import threading
import time

import pytest

from orchestra.errors import BackingFault
from orchestra.machine import (
    Drive,
    Halted,
    Idle,
    Interrupted,
    Machine,
    MachineConfig,
    Ram,
    ReachedCycle,
)
from tests.assembler import RAM, Code
from tests.machine.core.small import ENGINES, PAGE, halt, in_every_way, until_halt

DISK, RNG = 0x4001_0000, 0x4001_1000  # disks come first
RAM_LENGTH, DISK_LENGTH = 16 << 20, 1 << 20
TABLE, AVAILABLE, USED, HEADER, STATUS, DATA = (RAM + 0x1_0000 * part for part in range(1, 7))
RECORDS = RAM + (8 << 20)
READ, WRITE = 0, 1
NEXT, WRITABLE, INDIRECT = 1, 2, 4
NEEDS_RESET = 64


def machine_with(code, parts, image=None):
    """A machine with a disk and entropy."""
    drives = (Drive("disk", path=image, length=DISK_LENGTH),)
    machine = Machine.create(MachineConfig(ram=Ram(length=RAM_LENGTH), drives=drives))
    for address, data in {RAM: code, **parts}.items():
        machine.write(address, data)
    machine.registers["pc"] = RAM
    return machine


def driver(slot=DISK):
    """A program that sets queue 0 up, says that there is something in it, and halts."""
    code = Code(RAM)
    code.li("s0", slot)
    for offset, value in (
        *((0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x30, 0), (0x38, 256)),
        *((0x80, TABLE), (0x90, AVAILABLE), (0xA0, USED), (0x44, 1), (0x70, 15), (0x50, 0)),
    ):
        code.li("t1", value)
        code.op("sw", "t1", offset, "s0")
    code.op("lw", "s1", 0x70, "s0")
    halt(code)
    return code.finish()


def descriptors(*items):
    return b"".join(struct.pack("<QIHH", *item) for item in items)


def available(*heads, count=None):
    index = len(heads) if count is None else count
    return struct.pack(f"<HH{len(heads)}H", 0, index, *heads)


def disk_request(first, data, length, flags=0):
    """Three descriptors from number `first` on, with a header and a status of their own."""
    header, status = HEADER + 16 * first, STATUS + first
    return descriptors(
        (header, 16, NEXT, first + 1),
        (data, length, NEXT | flags, first + 2),
        (status, 1, WRITABLE, 0),
    )


def header(kind, sector):
    return struct.pack("<IIQ", kind, 0, sector)


def used(machine):
    return struct.unpack("<H", machine.read(USED + 2, 2))[0]


def test_a_disk_is_written_and_read():
    other = DATA + 0x5000
    parts = {
        TABLE: disk_request(0, DATA, 1024) + disk_request(3, other, 1024, WRITABLE),
        AVAILABLE: available(0, 3),
        HEADER: header(WRITE, 3),
        HEADER + 48: header(READ, 3),
        STATUS: b"\xff" * 4,
        DATA: b"ab" * 512,
    }
    with until_halt(machine_with(driver(), parts)) as machine:
        assert (used(machine), machine.read(STATUS, 4)) == (2, b"\0\xff\xff\0")
        assert machine.read(other, 1024) == b"ab" * 512


@pytest.mark.parametrize("slot", [DISK, RNG])
@pytest.mark.parametrize(
    "table",
    [
        descriptors((DATA, 16, NEXT | WRITABLE, 0)),  # a ring
        descriptors((DATA, 16, NEXT | WRITABLE, 999)),  # out of the table
        descriptors((DATA, 15, INDIRECT, 0)),
        descriptors((TABLE + 16, 32, INDIRECT, 0), (DATA, 16, INDIRECT, 0)),
        descriptors((1 << 63, 1 << 20, INDIRECT, 0)),
        descriptors((TABLE, 16, INDIRECT, 0)),  # a table in itself
        descriptors((DATA, RAM_LENGTH, WRITABLE, 0)),  # past the end of memory
        descriptors(*((DATA, (1 << 32) - 1, NEXT | WRITABLE, n + 1) for n in range(255))),
    ],
)
def test_a_malformed_chain_breaks_the_device_and_no_more(slot, table):
    parts = {TABLE: table, AVAILABLE: available(0, count=0xFFFF)}
    with until_halt(machine_with(driver(slot), parts)) as machine:
        assert machine.registers["s1"] & NEEDS_RESET
        assert used(machine) == 0


def endless():
    """A program whose one store asks for 512 GiB of entropy."""
    table = descriptors((DATA, 8 << 20, WRITABLE, 0))
    return machine_with(driver(RNG), {TABLE: table, AVAILABLE: available(0, count=0xFFFF)})


def test_a_driver_cannot_keep_a_machine_from_being_interrupted():
    with endless() as machine:
        timer = threading.Timer(0.05, machine.interrupt)
        timer.start()
        began = time.monotonic()
        stop = machine.run()
        assert time.monotonic() - began < 5  # 10 ms where nobody else works
        timer.join()
        assert isinstance(stop, Interrupted)
        cycle, digest = machine.cycle, machine.digest()
        machine.interrupt()
        assert machine.run() == Interrupted(cycle)
        assert machine.digest() == digest


def test_what_a_device_does_takes_cycles():
    """So a run ends where it is to, and no slice is longer for it than for other guests."""
    with endless() as machine:
        machine.run(100)
        for until in (1_000_000, 1_000_001, 3_000_000):
            began = time.process_time()
            assert machine.run(until) == ReachedCycle(until)
            assert time.process_time() - began < 1  # a few ms where nobody else works
        assert 2 <= used(machine) <= 3  # 8 bytes are a cycle's
        assert machine.registers["minstret"] < 100


def a_bit_of_everything():
    """Requests by chains of each kind; the last one writes over itself, which breaks the device."""
    indirect = TABLE + 0x1000
    table = (
        disk_request(0, DATA + 100, 9000)
        + disk_request(3, DATA + 0x4001, 5000, WRITABLE)
        + disk_request(6, TABLE + 6 * 16, 48, WRITABLE)
        + descriptors((indirect, 48, INDIRECT, 0))
        + disk_request(10, DATA + 0x8000, 20, WRITABLE)
    )
    parts = {
        TABLE: table,
        indirect: disk_request(0, DATA + 0xA000, 4096, WRITABLE)[:-16]
        + descriptors((STATUS + 20, 1, WRITABLE, 0)),
        AVAILABLE: available(0, 3, 9, 10, 6),
        STATUS: b"\xff" * 32,
        DATA: bytes(range(256)) * 48,
    }
    kinds = {0: (WRITE, 1), 3: (READ, 2), 6: (READ, 0), 10: (8, 0)}
    for first, (kind, sector) in kinds.items():
        parts[HEADER + 16 * first] = header(kind, sector)
    return machine_with(driver(), parts)


def entropy_across_pages():
    table = descriptors((DATA + 4001, 9001, WRITABLE | NEXT, 1), (DATA + 0x8000, 7, WRITABLE, 0))
    return machine_with(driver(RNG), {TABLE: table, AVAILABLE: available(0, count=2)})


@pytest.mark.parametrize("make", [a_bit_of_everything, entropy_across_pages])
def test_a_device_at_work_can_be_cut_anywhere(make, tmp_path):
    ended = in_every_way(make, steps=(1, 97, 4099))
    assert used(ended) == (4 if make is a_bit_of_everything else 2)
    expected, cycle = ended.digest(), ended.cycle
    for number, part in enumerate(range(5, 100, 10)):
        folder = tmp_path / str(number)
        with make() as machine:
            machine.run(cycle * part // 100)
            machine.snapshot(folder)
        with Machine.open(folder) as machine:
            assert until_halt(machine).digest() == expected, part


def test_a_request_does_what_the_specification_says():
    with until_halt(a_bit_of_everything()) as machine:
        data = bytes(range(256)) * 48
        status = {0: 0, 3: 0, 10: 0, 20: 1}  # the last asks to be written from where it may write
        assert machine.read(STATUS, 32) == bytes(status.get(at, 0xFF) for at in range(32))
        assert machine.read(DATA + 0x4001, 5000) == data[100 + 512 : 100 + 512 + 5000]
        assert machine.read(DATA + 0x8000, 20) == b"orchestra-0".ljust(20, b"\0")


def test_a_device_whose_drive_cannot_be_read_goes_on_where_it_was(tmp_path):
    """Each page of the drive faults when its turn comes, and again, and then is there."""
    image, content = tmp_path / "disk.img", random.Random(7).randbytes(DISK_LENGTH)
    image.write_bytes(content)
    length = 40_000
    parts = {
        TABLE: disk_request(0, DATA + 77, length, WRITABLE),
        AVAILABLE: available(0),
        HEADER: header(READ, 3),
    }
    with until_halt(machine_with(driver(), parts, image)) as machine:
        expected = machine.digest()
    for engine in ENGINES:
        with machine_with(driver(), parts, image) as machine:
            machine.engine = engine
            stands = set()
            for page in range(1, 10):
                os.truncate(image, page * PAGE)
                for _ in range(2):
                    with pytest.raises(BackingFault):
                        machine.run(max_cycles=200_000)
                    stands.add(machine.cycle)
                image.write_bytes(content)
            assert len(stands) == 9
            until_halt(machine)
            assert machine.read(DATA + 77, length) == content[1536 : 1536 + length]
            assert machine.digest() == expected


# Any access to any device, in any order.

END = 0
CYCLES = 20_000
LOADS = ("lb", "lh", "lw", "ld")
STORES = ("sb", "sh", "sw", "sd")


def player():
    """A program that plays records {address, value, kind}: loads and stores of each size.

    What traps is passed over; an interrupt is looked at in the PLIC and turned off.
    """
    code = Code(RAM)
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("s0", RECORDS)
    code.label("next")
    for register, offset in (("a0", 0), ("a1", 8), ("a2", 16)):
        code.op("ld", register, offset, "s0")
    code.op("addi", "s0", "s0", 24)
    code.op("beq", "a2", 0, "end")
    for number, name in enumerate((*LOADS, *STORES), 1):
        code.li("t0", number)
        code.op("bne", "a2", "t0", f"not{number}")
        code.op(name, "s1" if name in LOADS else "a1", 0, "a0")
        if name in LOADS:
            code.op("add", "s2", "s2", "s1")
        code.op("jal", 0, "next")
        code.label(f"not{number}")
    code.csrw("mie", "a1")
    code.op("csrrsi", 0, "mstatus", 8)
    code.op("jal", 0, "next")
    code.label("handler")
    code.csrr("t0", "mcause")
    code.op("blt", "t0", 0, "interrupt")
    code.csrr("t0", "mepc")
    code.op("addi", "t0", "t0", 4)
    code.csrw("mepc", "t0")
    code.op("mret")
    code.label("interrupt")
    code.li("t0", 0x4030_0004)
    code.op("lw", "t1", 0, "t0")
    code.op("add", "s2", "s2", "t1")
    code.csrw("mie", 0)
    code.op("mret")
    code.label("end")
    halt(code)
    return code.finish()


def wild(rng):
    """An address of a queue's parts: mostly where they should be."""
    place = rng.choice((TABLE, TABLE, AVAILABLE, USED, HEADER, STATUS, DATA, RAM, RECORDS))
    return rng.choice((place, place, place, place + rng.randrange(1 << 16), rng.getrandbits(64)))


def queue_parts(rng):
    """Descriptors and rings that lead to each other and astray."""
    lengths = (0, 1, 1, 8, 16, 16, 512, 4096, 70_000, (1 << 32) - 1)
    flags = (0, 1, 1, 1, 2, 3, 3, 4, 5, 7, 0xFFFF)

    def item(near):
        following = rng.choice((near, rng.randrange(8), rng.randrange(300)))
        return wild(rng), rng.choice(lengths), rng.choice(flags), following

    heads = [rng.choice((0, 0, 3, rng.randrange(300))) for _ in range(16)]
    return {
        TABLE: disk_request(0, DATA, 512, rng.choice((0, 2))) + descriptors(*map(item, range(64))),
        AVAILABLE: available(*heads, count=rng.choice((1, 2, 5, 16, 100))),
        HEADER: header(rng.choice((0, 1, 1, 4, 8, 77)), rng.choice((0, 1, 2047, 1 << 60))),
    }


def virtio_record(rng):
    slot = rng.choice((DISK, DISK, RNG, DISK + 0x5000))
    registers = (0, 4, 8, 16, 20, 32, 36, 48, 52, 56, 68, 80, 80, 80, 96, 100, 112, 112)
    offset = rng.choice((*registers, 128, 132, 144, 148, 160, 164, 256, 260, rng.randrange(4096)))
    value = rng.choice((0, 0, 1, 2, 4, 8, 15, 256, wild(rng), wild(rng) >> 32, rng.getrandbits(32)))
    kind = rng.choice((3, 7, 7, 7, 7, rng.randrange(1, 9)))
    return slot + offset, value, kind


def any_record(rng):
    devices = {
        0x4000_8000: (0, 0, 0, 4, 8, 12, 16, 24, 32, rng.randrange(4096)),  # HTIF
        0x4010_0000: (4, 8, 0x1000, 0x2000, 0x2080, 0x20_0000, 0x20_0004, 0x20_1004),
        0x200_0000: (0, 4, 0x4000, 0x4004, 0xBFF8, 0xBFFC, rng.randrange(0xC_0000)),
        0x1000_0000: (*range(8), rng.randrange(4096)),
        0x10_0000: (0, 4),
        0: (rng.getrandbits(64), rng.getrandbits(32), RAM + RAM_LENGTH - 2),
    }
    start = rng.choice(list(devices))
    offset = rng.choice(devices[start]) + rng.choice((0, 0, 0, 0, 1, 2, 4))
    value = rng.choice((0, 1, 3, 7, rng.getrandbits(8), rng.getrandbits(64), (1 << 64) - 1))
    if start == 0x4000_8000 and rng.random() < 0.9:  # neither halt nor wait for an answer
        value = rng.choice((0, 1 << 56 | 1 << 48, 1 << 56, 2 << 56)) | rng.getrandbits(48) & ~1
    if start == 0x10_0000:
        value = rng.getrandbits(16) & ~0x5555
    return start + offset & (1 << 64) - 1, value, rng.randrange(1, 10)


def records(rng, count=300):
    """A queue that is set up by half the programs, and then anything."""
    setup = (
        *((0x70, 15), (0x38, rng.choice((1, 4, 256))), (0x80, TABLE), (0x90, AVAILABLE)),
        *((0xA0, USED), (0x44, 1), (0x50, 0)),
    )
    slot = rng.choice((DISK, DISK, RNG))
    played = [(slot + offset, value, 7) for offset, value in setup if rng.random() < 0.97]
    played += [rng.choice((virtio_record, any_record))(rng) for _ in range(count)]
    return b"".join(struct.pack("<QQQ", *record) for record in (*played, (0, 0, END)))


def outcome(machine, step):
    """Run in steps to an end; returns where that is, and all that was said."""
    said = b""
    while machine.cycle < CYCLES:
        stop = machine.run(min(machine.cycle // step * step + step, CYCLES))
        said += machine.console_output()
        if isinstance(stop, Halted | Idle) or getattr(stop, "kind", "") == "manual":
            break
    return machine.cycle, said, machine.digest()


@pytest.mark.parametrize("seed", range(12))
def test_any_access_to_any_device_is_the_same_however_it_is_run(seed):
    rng = random.Random(seed)
    parts = {**queue_parts(rng), RECORDS: records(rng)}
    with machine_with(player(), parts) as machine:
        machine.checkpoint()
        expected = outcome(machine, CYCLES)
        for engine in ENGINES:
            machine.engine = engine
            for step in (1, 7, 1000):
                machine.rollback()
                assert outcome(machine, step) == expected, (engine, step)
        machine.rollback()
        machine.run(machine.cycle + expected[0] // 2)
        with machine.fork() as fork:
            assert outcome(fork, 1000)[::2] == expected[::2]
