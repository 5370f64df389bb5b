"""Full disks of every kind under machines that run: a fault, some room, the same end."""

import errno
import os
import subprocess

import pytest

from orchestra.errors import BackingFault
from orchestra.machine import Boot, Devices, Drive, Image, Machine, MachineConfig, Ram
from tests.assembler import RAM, Code
from tests.filesystems import KINDS, empty, fill, mounted
from tests.guests import bare_config, ready_ledger, write_words
from tests.machine.core.small import PAGE, halt
from tests.machine.test_faults import WALK
from tests.machine.test_unreadable import ask_the_disk, at, image, to_halt

MIB = 1 << 20


@pytest.fixture(params=KINDS)
def disk(request, tmp_path):
    length = [16 * MIB] if request.param == "tmpfs" else []
    with mounted(request.param, tmp_path, *length) as filesystem:
        yield filesystem.folder


def test_a_machine_goes_on_when_there_is_room_again(disk, tmp_path):
    code = write_words(tmp_path / "code", WALK)
    config = bare_config(code, ram=8 * MIB)
    cycles = 5 * 1500
    with Machine.create(config) as machine:
        machine.run(cycles)
        expected = machine.digest()
    with Machine.create(config, disk / "app") as machine, ready_ledger() as sibling:
        machine.run(50)
        ballast = fill(disk)
        with pytest.raises(BackingFault) as caught:
            machine.run(cycles)
        assert (caught.value.path, caught.value.reason) == (disk / "app" / "top", "no space")
        assert machine.registers["pc"] == RAM + 0x14  # the sd
        assert sibling.advance(b"mint alice 1").status == "accepted"
        empty(ballast)
        machine.run(cycles)
        assert machine.digest() == expected
        machine.snapshot(disk / "snap", durable=True)
    for name in ("app", "snap"):
        with Machine.open(disk / name) as machine:
            assert machine.digest() == expected


def test_what_finds_no_room_is_named_with_its_folder(disk):
    """Files are made by their folder's descriptor: errors tell where they were to be."""
    with ready_ledger() as machine:
        machine.advance(b"fill 300 7")
        fill(disk)
        with pytest.raises(OSError, match="No space") as caught:
            list(map(machine.snapshot, (disk / f"snap{number}" for number in range(1000))))
    assert str(caught.value.filename).startswith(f"{disk}/snap")


def writing(folder, data, drive):
    """A machine whose disk request writes a page of memory to a shared drive with holes."""
    code = Code()
    ask_the_disk(code)
    halt(code)
    (folder / "code").write_bytes(code.finish())
    data = bytearray(data)
    header, table = at("header") - at("loaded"), at("table") - at("loaded")
    data[header : header + 4] = (1).to_bytes(4, "little")  # VIRTIO_BLK_T_OUT
    data[table + 28 : table + 30] = (1).to_bytes(2, "little")  # the data is read
    (folder / "data").write_bytes(data)
    images = (Image(folder / "code", RAM), Image(folder / "data", at("loaded")))
    drives = (Drive("disk", path=drive, shared=True),)
    devices = Devices(rng=False)
    return MachineConfig(Ram(MIB), boot=Boot(images=images), drives=drives, devices=devices)


def test_a_disk_request_is_repeated_when_its_drive_has_room_again(disk, tmp_path):
    ends, data = set(), image()
    for name in ("good", "full"):
        drive = disk / f"{name}.img"
        drive.touch()
        os.truncate(drive, 8 * PAGE)
        with Machine.create(writing(tmp_path, data, drive)) as machine:
            if name == "full":
                ballast = fill(disk)
                for _ in range(2):
                    with pytest.raises(BackingFault) as caught:
                        machine.run(max_cycles=10_000)
                    found = caught.value
                    assert (found.path, found.offset, found.reason) == (drive, 0, "no space")
                empty(ballast)
            ends.add(to_halt(machine))
            assert machine.read(at("used") + 2, 2) == b"\1\0"
            assert drive.read_bytes()[:PAGE] == machine.read(at("target"), PAGE)
        assert drive.read_bytes()[PAGE:] == bytes(7 * PAGE)
    assert len(ends) == 1


def test_a_folder_that_cannot_be_written_in_says_so_when_it_is_opened(disk):
    with ready_ledger(disk / "app") as machine:
        expected = machine.digest()
    point = disk if disk.is_mount() else disk.parent
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as caught:
        Machine.open(disk / "app", storage="backing")
    assert caught.value.filename == str(disk / "app")
    with Machine.open(disk / "app") as machine:
        assert machine.digest() == expected
