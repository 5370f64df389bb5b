"""Faults of the backing files: precise, resumable, and nobody else's business."""

import os
import shutil
import threading
from contextlib import ExitStack

import pytest

from orchestra.errors import BackingFault
from orchestra.machine import Boot, Drive, Image, Machine, MachineConfig, ReachedCycle, Yielded
from tests.filesystems import mounted
from tests.guests import bare_config, ledger_config, ready_ledger, write_words

MIB = 1 << 20

# Walk over the pages of RAM from a0 on: store and load, 8 bytes a page, in 5 instructions a page.
WALK = [
    0x00100537,  # lui   a0, 0x100        # 1 MiB
    0x00001637,  # lui   a2, 1
    0x00100593,  # li    a1, 1
    0x01F59593,  # slli  a1, a1, 31
    0x00A585B3,  # add   a1, a1, a0
    0x00B5B023,  # sd    a1, 0(a1)
    0x0005B683,  # ld    a3, 0(a1)
    0x00D70733,  # add   a4, a4, a3
    0x00C585B3,  # add   a1, a1, a2
    0xFF1FF06F,  # j     -16
]


@pytest.fixture
def small(tmp_path):
    """A file system of 8 MiB."""
    with mounted("tmpfs", tmp_path, 8 * MIB) as filesystem:
        yield filesystem.folder


def test_a_full_disk_stops_the_guest_before_its_store_and_it_can_go_on(small, tmp_path):
    code = write_words(tmp_path / "code", WALK)
    config = bare_config(code, ram=32 * MIB)
    cycles = 5 * 4000
    with Machine.create(config) as machine:
        machine.run(cycles)
        expected = machine.digest()
    ballast = small / "ballast"
    ballast.write_bytes(bytes(4 * MIB))
    with Machine.create(config, small / "app") as machine:
        with pytest.raises(BackingFault) as caught:
            machine.run(cycles)
        assert caught.value.path == small / "app" / "top"
        assert caught.value.reason == "no space"
        stands = machine.cycle
        assert 0 < stands < cycles
        assert machine.registers["pc"] == 0x8000_0014  # the sd
        with pytest.raises(BackingFault):
            machine.run(cycles)
        assert machine.cycle == stands  # tried again, and nothing happened
        with pytest.raises(BackingFault):
            machine.write(0x8000_0000 + 31 * MIB, b"x")
        ballast.unlink()
        os.truncate(machine.directory / "top", (machine.directory / "top").stat().st_size)
        machine.run(min(cycles, stands + 2000))
        assert machine.cycle == min(cycles, stands + 2000)
        halfway = machine.cycle, machine.digest()
    with Machine.create(config) as again:
        again.run(halfway[0])
        assert again.digest() == halfway[1]
        again.run(cycles)
        assert again.digest() == expected


def test_a_fault_at_every_page_ends_in_the_same_state(small, tmp_path):
    """Room is given page by page; each time the machine goes on where it stood."""
    code = write_words(tmp_path / "code", WALK)
    config = bare_config(code, ram=16 * MIB)
    cycles = 5 * 500  # a MiB of them fits in memory
    with Machine.create(config) as machine:
        machine.run(cycles)
        expected = machine.digest()
    ballast = small / "ballast"
    faults = 0
    with Machine.create(config, small / "app") as machine:
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        ballast.write_bytes(bytes(free - 8192))
        while machine.cycle < cycles:
            try:
                machine.run(cycles)
            except BackingFault:
                faults += 1
                os.truncate(ballast, ballast.stat().st_size - 4096)
        assert machine.digest() == expected
        ballast.unlink()
    assert faults > 100


def truncated_image_machine(tmp_path, cycles=None):
    """A machine whose image loses its second half after it was mapped."""
    code = write_words(tmp_path / "code", WALK)
    data = tmp_path / "data"
    data.write_bytes(os.urandom(64 * 4096))
    config = MachineConfig(
        boot=Boot(images=(Image(code, 0x8000_0000), Image(data, 0x8010_0000))),
    )
    return config, data


def test_a_file_that_became_shorter_is_named_with_its_offset_and_can_come_back(tmp_path):
    config, data = truncated_image_machine(tmp_path)
    whole = data.read_bytes()
    with Machine.create(config) as machine:
        machine.run(1000)
        expected = machine.digest()
    with Machine.create(config) as machine, Machine.create(config) as sibling:
        os.truncate(data, 32 * 4096)
        with pytest.raises(BackingFault) as caught:
            machine.run(1000)
        assert caught.value.path == data
        assert caught.value.offset == 32 * 4096
        assert caught.value.reason == "truncated"
        with pytest.raises(BackingFault):
            machine.read(0x8010_0000 + 40 * 4096, 4)
        with pytest.raises(BackingFault):
            machine.digest()
        assert sibling.run(100) == ReachedCycle(100)
        data.write_bytes(whole)
        assert machine.run(1000) == ReachedCycle(1000)
        assert machine.digest() == expected


def test_thousands_of_faults_in_many_threads_disturb_nobody(tmp_path):
    config, data = truncated_image_machine(tmp_path)
    whole = data.read_bytes()
    faults = [0] * 4
    with ExitStack() as stack:
        machines = [stack.enter_context(Machine.create(config)) for _ in faults]
        ledger = stack.enter_context(ready_ledger())
        os.truncate(data, 4096)

        def suffer(index):
            for _ in range(1000):
                try:
                    machines[index].run(1000)
                except BackingFault:
                    faults[index] += 1

        threads = [threading.Thread(target=suffer, args=(index,)) for index in range(len(faults))]
        for thread in threads:
            thread.start()
        for number in range(1, 200):
            assert ledger.advance(b"mint alice 1").outputs == (b"%d mint alice 1" % number,)
        for thread in threads:
            thread.join()
        assert faults == [1000] * 4
        data.write_bytes(whole)
        digests = set()
        for machine in machines:
            machine.run(1000)
            digests.add(machine.digest())
        assert len(digests) == 1


def test_a_fault_in_a_disk_request_repeats_its_step(tmp_path):
    """DMA from a truncated drive: the device's step is what is tried again."""
    drive = tmp_path / "drive"
    drive.write_bytes(os.urandom(20 * 4096))
    config = bare_config(
        write_words(tmp_path / "code", DISK), drives=(Drive("data", path=drive, read_only=True),)
    )

    def prepared():
        machine = Machine.create(config)
        table = 0x8001_0000
        header = (0).to_bytes(8, "little") + (0).to_bytes(8, "little")
        machine.write(table + 0x3000, header)

        def descriptor(address, length, flags, following):
            parts = [(address, 8), (length, 4), (flags, 2), (following, 2)]
            return b"".join(value.to_bytes(size, "little") for value, size in parts)

        machine.write(
            table,
            descriptor(table + 0x3000, 16, 1, 1)
            + descriptor(table + 0x4000, 8 * 4096, 3, 2)
            + descriptor(table + 0x3100, 1, 2, 0),
        )
        machine.write(table + 0x1000, bytes(2) + (1).to_bytes(2, "little") + bytes(2))
        return machine

    whole = drive.read_bytes()
    with prepared() as machine:
        machine.run(10_000)
        assert machine.read(0x8001_4000, 8 * 4096) == whole[: 8 * 4096]
        assert machine.read(0x8001_2002, 2) == b"\1\0"
        expected = machine.digest()
    with prepared() as machine:
        os.truncate(drive, 3 * 4096)
        with pytest.raises(BackingFault) as caught:
            machine.run(10_000)
        assert (caught.value.path, caught.value.offset) == (drive, 3 * 4096)
        drive.write_bytes(whole)
        machine.run(10_000)
        assert machine.digest() == expected


def _store(offset, value):
    """sw value, offset(a0), with value loaded into a1 by lui and addi."""
    low = value & 0xFFF
    high = (value + 0x800) >> 12 & 0xFFFFF
    words = [high << 12 | 0x5B7, low << 20 | 0x5859B]  # lui a1; addiw a1, a1, low
    return [*words, (offset >> 5) << 25 | 11 << 20 | 10 << 15 | 2 << 12 | (offset & 31) << 7 | 0x23]


DISK = [
    0x40010537,  # lui a0, 0x40010
    *_store(0x70, 3),  # status: acknowledge, driver
    *_store(0x24, 1),
    *_store(0x20, 1),  # VERSION_1
    *_store(0x70, 11),
    *_store(0x30, 0),
    *_store(0x38, 8),
    *_store(0x80, 0x8001_0000 - (1 << 32)),
    *_store(0x90, 0x8001_1000 - (1 << 32)),
    *_store(0xA0, 0x8001_2000 - (1 << 32)),
    *_store(0x44, 1),
    *_store(0x70, 15),
    *_store(0x50, 0),  # notify
    0x0000006F,
]


def test_a_snapshot_that_does_not_fit_leaves_nothing_behind_and_the_machine_whole(small, tmp_path):
    with ready_ledger() as machine:
        machine.advance(b"mint alice 3")
        expected = machine.digest()
        (small / "ballast").write_bytes(bytes(8 * MIB - 24 * 1024))
        with pytest.raises(OSError, match="No space left"):
            machine.snapshot(small / "snap")
        assert [path.name for path in small.iterdir()] == ["ballast"]
        assert machine.digest() == expected
        (small / "ballast").unlink()
        machine.snapshot(small / "snap")
    with Machine.open(small / "snap") as again:
        assert again.digest() == expected


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs"])
def test_a_machine_runs_in_its_files_on(kind, tmp_path):
    with ready_ledger() as reference:
        reference.advance(b"mint alice 3")
        expected = reference.digest()
    with mounted(kind, tmp_path) as filesystem:
        with ready_ledger(filesystem.folder / "app") as machine:
            machine.advance(b"mint alice 3")
            machine.snapshot(filesystem.folder / "snap", durable=True)
            assert machine.digest() == expected
        with Machine.open(filesystem.folder / "snap") as again:
            assert again.digest() == expected
            again.snapshot(tmp_path / "elsewhere")  # across file systems: copies
        with Machine.open(tmp_path / "elsewhere") as again:
            assert again.digest() == expected
    shutil.rmtree(tmp_path / "elsewhere")


def test_a_forked_process_cannot_use_a_backing_machine_and_keeps_a_memory_one(tmp_path):
    from orchestra.errors import MachineForked

    with ready_ledger(tmp_path / "app") as backing, ready_ledger() as memory:
        expected = memory.digest()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                try:
                    backing.run(10)
                except MachineForked:
                    memory.advance(b"mint x 1")
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert memory.digest() == expected
        assert backing.advance(b"mint alice 1").status == "accepted"


def test_a_shared_drive_is_written_in_place(tmp_path):
    drive = tmp_path / "disk.img"
    drive.write_bytes(bytes(2 * MIB))
    config = ledger_config(drives=(Drive("disk", kind="pmem", path=drive, shared=True),))
    with Machine.create(config) as machine:
        place = machine.layout.range("disk")
        machine.write(place.start + 5000, b"written in place")
        assert drive.read_bytes()[5000:5016] == b"written in place"
        assert isinstance(machine.run(), Yielded)
