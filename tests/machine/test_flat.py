"""Shared drives: memory that is a file, written in place: orchestra/machine/flat.py."""

import os
import subprocess
from pathlib import Path

import pytest

from orchestra.errors import BackingFault, BadImage, MachineBusy, MachineLocked, MachineTorn
from orchestra.machine import Drive, Machine
from orchestra.machine.clone import clone_machine
from tests.assembler import Code, encode
from tests.filesystems import REFLINKING, mounted, mounted_image
from tests.guests import bare_config, ledger_config
from tests.processes import run_python

MIB = 1 << 20


@pytest.fixture
def drive(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(2 * MIB))
    return path


def shared(path, **more):
    return ledger_config(drives=(Drive("disk", kind="pmem", path=path, shared=True, **more),))


def start_of(machine):
    return machine.layout.range("disk").start


def test_a_machine_in_a_folder_writes_its_own_file_and_leaves_the_users(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.write(start_of(machine) + 5000, b"in place")
        assert (tmp_path / "app" / "disk.img").read_bytes()[5000:5008] == b"in place"
    assert drive.read_bytes() == bytes(2 * MIB)


def test_a_rollback_undoes_what_was_stored_in_place(drive):
    with Machine.create(shared(drive)) as machine:
        machine.run()
        place = start_of(machine)
        machine.write(place, b"kept")
        machine.checkpoint()
        expected = machine.digest(), machine.root_hash()
        for _ in range(3):
            machine.write(place + 2, b"lost")
            machine.write(place + MIB, b"lost")
            machine.write(place + 2, b"lost again")
            assert drive.read_bytes()[2:12] == b"lost again"
            machine.rollback()
            assert (machine.digest(), machine.root_hash()) == expected
        assert drive.read_bytes() == b"kept".ljust(2 * MIB, b"\0")


def test_an_input_that_is_refused_leaves_no_trace_in_a_shared_drive(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.run()
        before = machine.digest()
        assert machine.advance(b"burn nobody 5").status == "rejected"
        assert machine.digest() == before
        assert machine.advance(b"mint alice 5").status == "accepted"


def test_what_cannot_be_undone_is_not_rolled_back(drive):
    with Machine.create(shared(drive)) as machine:
        machine._can_roll_back = False  # as a machine that was opened is
        with pytest.raises(MachineBusy, match="checkpoint"):
            machine.rollback()


def test_a_fork_has_a_drive_of_its_own_that_is_gone_when_it_is_closed(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.run()
        place = start_of(machine)
        machine.write(place, b"before")
        expected = machine.digest()
        with machine.fork() as copy:
            machine.write(place, b"parent")
            copy.write(place + 8, b"child")
            assert copy.read(place, 13) == b"before\0\0child"
            assert machine.read(place, 13) == b"parent".ljust(13, b"\0")
        with machine.fork() as copy, copy.fork() as grandchild:
            assert grandchild.read(place, 6) == b"parent"
        assert machine.inspect(b"total").status == "accepted"
        machine.write(place, b"before")
        assert machine.digest() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "disk.img"]


def test_readers_of_a_snapshot_leave_its_drive_as_it_is(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.write(start_of(machine), b"snapshot")
        result = machine.snapshot(tmp_path / "snap")
        assert set(result.drives) == {"disk.img"}
        expected = machine.digest()
        machine.write(start_of(machine), b"and gone on")
    with Machine.open(tmp_path / "snap") as one, Machine.open(tmp_path / "snap") as other:
        place = start_of(one)
        one.write(place, b"one's own")
        assert other.read(place, 9) == b"snapshot\0"
        assert other.digest() == expected
        one.rollback()
        assert one.digest() == expected


def test_a_snapshot_by_a_reader_has_what_it_wrote_in_the_file(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.write(start_of(machine), b"first")
    digests = []
    with Machine.open(tmp_path / "app") as machine:
        place = start_of(machine)
        for number in range(3):
            machine.write(place + number * 8192, b"later")
            machine.run(max_cycles=1000)
            machine.snapshot(tmp_path / f"snap{number}")
            digests.append(machine.digest())
        with machine.fork() as copy:
            copy.write(place + MIB, b"fork")
            copy.snapshot(tmp_path / "snap3")
            digests.append(copy.digest())
    for number, digest in enumerate(digests):
        content = (tmp_path / f"snap{number}" / "disk.img").read_bytes()
        assert content.startswith(b"later" if number else b"later"[:5])
        assert content.count(b"later") == min(number, 2) + 1
        assert content.count(b"fork") == (number == 3)
        with Machine.open(tmp_path / f"snap{number}", storage="backing") as machine:
            assert machine.digest() == digest


@pytest.mark.parametrize("kind", ["ext4", *sorted(REFLINKING)])
def test_the_result_says_how_a_drive_came_into_the_snapshot(kind, tmp_path):
    with mounted(kind, tmp_path) as filesystem:
        path = filesystem.folder / "disk.img"
        path.write_bytes(os.urandom(MIB) + bytes(MIB))
        with Machine.create(shared(path), filesystem.folder / "app") as machine:
            machine.run()
            machine.write(start_of(machine) + MIB, b"dirty")
            result = machine.snapshot(filesystem.folder / "snap")
            if kind in REFLINKING:
                assert result.drives == {"disk.img": "reflink"}
            else:
                assert result.drives["disk.img"] in ("copy_file_range", "sparse")
            expected = machine.digest()
            machine.write(start_of(machine) + MIB, b"later")
        with Machine.open(filesystem.folder / "snap") as machine:
            assert machine.digest() == expected


def test_the_host_mounts_the_drive_that_a_guest_wrote(tmp_path):
    """A file system made on the host, written to by a machine, is mounted on the host again."""
    image = tmp_path / "disk.img"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "hello").write_bytes(b"from the host".ljust(4096, b"."))
    with image.open("wb") as file:
        file.truncate(4 * MIB)
    command = ["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "root", image]
    subprocess.run(command, check=True)
    at = image.read_bytes().index(b"from the host")
    with Machine.create(shared(image), tmp_path / "app") as machine:
        machine.run()
        machine.write(start_of(machine) + at, b"from a guest!")
        machine.snapshot(tmp_path / "snap")
        machine.write(start_of(machine) + at, b"and once more")
    for folder, text in (("snap", b"from a guest!"), ("app", b"and once more")):
        with mounted_image("ext4", tmp_path / folder / "disk.img", tmp_path) as filesystem:
            assert (filesystem.folder / "hello").read_bytes().startswith(text)
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        assert machine.read(start_of(machine) + at, 13) == b"and once more"


def test_a_disk_whose_last_page_is_not_full_is_in_place_to_its_last_byte(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(9 * 512))
    config = ledger_config(drives=(Drive("disk", path=path, shared=True),))
    with Machine.create(config, tmp_path / "app") as machine:
        machine.write(start_of(machine) + 8 * 512, b"e" * 512)
        assert (tmp_path / "app" / "disk.img").read_bytes() == bytes(8 * 512) + b"e" * 512
        machine.snapshot(tmp_path / "snap")
    with Machine.open(tmp_path / "snap") as machine:
        machine.write(start_of(machine) + 8 * 512, b"f" * 512)
        machine.snapshot(tmp_path / "again")
    assert (tmp_path / "again" / "disk.img").read_bytes() == bytes(8 * 512) + b"f" * 512


def test_a_file_that_is_written_in_place_is_locked_for_others_and_a_read_only_one_is_not(drive):
    with Machine.create(shared(drive)):
        with pytest.raises(MachineLocked) as caught:
            Machine.create(shared(drive))
        assert caught.value.path == drive
        with pytest.raises(MachineLocked):
            Machine.create(shared(drive, read_only=True))
    with Machine.create(shared(drive, read_only=True)) as one:
        with Machine.create(shared(drive, read_only=True)) as other:
            assert one.digest() == other.digest()
        with pytest.raises(MachineLocked):
            Machine.create(shared(drive))
    Machine.create(shared(drive)).close()


def test_a_read_only_drive_is_opened_and_mapped_for_reading(drive, tmp_path):
    drive.chmod(0o444)
    with Machine.create(shared(drive, read_only=True)) as machine:
        machine.write(start_of(machine), b"the host may, in memory")
        assert drive.read_bytes() == bytes(2 * MIB)
        lines = maps_of(drive)
        assert lines
        assert all(line.split()[1] == "r--s" for line in lines)
    with Machine.create(shared(drive, read_only=True), tmp_path / "app") as machine:
        machine.run()
        assert all(line.split()[1] == "r--s" for line in maps_of(tmp_path / "app" / "disk.img"))


def maps_of(path):
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if line.endswith(str(path))]


def test_a_drive_with_another_name_elsewhere_is_not_written(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app"):
        pass
    (tmp_path / "app" / "disk.img").unlink()
    (tmp_path / "precious").write_bytes(b"p" * (2 * MIB))
    os.link(tmp_path / "precious", tmp_path / "app" / "disk.img")
    with pytest.raises(BadImage, match=r"disk\.img: links"):
        Machine.open(tmp_path / "app", storage="backing")
    Machine.open(tmp_path / "app").close()  # which does not write
    assert (tmp_path / "precious").read_bytes() == b"p" * (2 * MIB)


def test_a_clone_has_a_drive_of_its_own(drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.write(start_of(machine), b"both")
    clone_machine(tmp_path / "app", tmp_path / "other")
    with (
        Machine.open(tmp_path / "app", storage="backing") as one,
        Machine.open(tmp_path / "other", storage="backing") as other,
    ):
        one.write(start_of(one), b"one!")
        assert other.read(start_of(other), 4) == b"both"


@pytest.mark.parametrize("again", [False, True])
def test_a_torn_machine_whose_drive_was_written_in_place_cannot_go_back(again, drive, tmp_path):
    with Machine.create(shared(drive), tmp_path / "app") as machine:
        machine.snapshot(tmp_path / "snap")
    run_python(
        "import os, sys\n"
        "from orchestra.machine import Machine\n"
        "machine = Machine.open(sys.argv[1], storage='backing')\n"
        "if sys.argv[2] == 'True': machine.run(10); machine.snapshot(sys.argv[1] + '-again')\n"
        "machine.write(machine.layout.range('disk').start, b'half')\n"
        "os._exit(0)\n",
        tmp_path / "app",
        str(again),
    )
    named = rf"open the snapshot {tmp_path}/app-again" if again else "open a snapshot"
    for torn in ("refuse", "discard"):
        for storage in ("memory", "backing"):
            with pytest.raises(MachineTorn, match=rf"drive disk.*{named}"):
                Machine.open(tmp_path / "app", storage=storage, torn=torn)
    Machine.open(tmp_path / "snap").close()


def test_a_rollback_that_faults_is_tried_again(drive):
    with Machine.create(shared(drive)) as machine:
        machine.run()
        place = start_of(machine)
        machine.write(place + MIB, b"kept")
        machine.checkpoint()
        expected = machine.digest()
        machine.write(place, b"lost")
        machine.write(place + MIB, b"lost")
        os.truncate(drive, MIB)
        with pytest.raises(BackingFault):
            machine.rollback()
        os.truncate(drive, 2 * MIB)
        machine.rollback()
        assert machine.digest() == expected
        assert machine.run(max_cycles=10)


def test_the_root_hash_of_a_shared_drive_costs_what_was_written(drive):
    with Machine.create(shared(drive)) as machine, Machine.create(shared_copy(drive)) as other:
        for one in (machine, other):
            one.run()
            one.root_hash()
        place = start_of(machine)
        for number in range(5):
            for one in (machine, other):
                one.write(place + number * 8192, b"%d" % number)
                one.write(place, b"%d" % number)
                if number % 2:
                    one.checkpoint()
            known = machine._state_hash
            known._take_changed()
            assert len(known._changed) <= 8
            assert machine.root_hash() == other.root_hash()
        with Machine.create(shared_copy(drive)) as fresh:
            fresh.run()
            assert fresh.root_hash() == machine.root_hash()


def shared_copy(drive):
    """The same machine on another file with the same bytes."""
    copy = drive.with_name(f"{len(list(drive.parent.iterdir()))}.img")
    copy.write_bytes(drive.read_bytes())
    return shared(copy)


PLACE = 0x8020_0000  # of a pmem drive above 1 MiB of RAM


def patching(path):
    """Patch a function in the drive and call it, for ever: s0 counts in ones and twos."""
    code = Code()
    code.li("a0", PLACE)
    code.li("a2", encode("addi", "s0", "s0", 1) | encode("jalr", 0, 0, "ra") << 32)
    code.label("loop")
    code.op("addi", "s1", "s1", 1)
    code.op("sd", "s1", 256, "a0")
    code.op("andi", "a5", "s1", 1)
    code.op("slli", "a5", "a5", 20)
    code.op("add", "a4", "a2", "a5")
    code.op("sd", "a4", 0, "a0")
    code.op("jalr", "ra", 0, "a0")
    code.op("jal", 0, "loop")
    path.write_bytes(code.finish())
    return path


def test_a_guest_that_patches_code_in_a_shared_drive_is_the_same_in_every_way(tmp_path):
    """In place or not, in slices, with checkpoints and rollbacks between: the same state."""
    code = patching(tmp_path / "code")
    cycles = 4000
    digests = set()
    for number, (is_shared, slices) in enumerate([(False, 1), (True, 1), (True, 30), (True, 999)]):
        path = tmp_path / f"{number}.img"
        path.write_bytes(bytes(2 * MIB))
        drive = Drive("disk", kind="pmem", path=path, shared=is_shared)
        with Machine.create(bare_config(code, drives=(drive,))) as machine:
            assert start_of(machine) == PLACE
            for step in range(slices):
                if slices > 1:
                    machine.checkpoint()
                    machine.run((step + 2) * cycles // slices)
                    machine.rollback()
                machine.run((step + 1) * cycles // slices)
            assert 300 < machine.registers["s1"] < machine.registers["s0"]
            digests.add(machine.digest())
        assert path.read_bytes().count(b"\0") < 2 * MIB - 4 if is_shared else 2 * MIB
    assert len(digests) == 1
