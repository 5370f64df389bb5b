"""A clone is the same machine in its own folder, whole or not at all, and shares what it can."""

import shutil
import threading

import pytest

from orchestra.errors import BadImage, FolderExists, MachineLocked, MachineTorn
from orchestra.machine import Drive, Machine
from orchestra.machine.clone import clone_machine
from orchestra.machine.record import NAME, encode_record, read_record
from tests.filesystems import mounted
from tests.guests import ledger_config, ready_ledger, write_image


@pytest.fixture
def app(tmp_path):
    """A ledger that holds 100 for alice, and its digest."""
    with ready_ledger(tmp_path / "app", write_image(tmp_path / "image")) as machine:
        machine.advance(b"mint alice 100")
        digest = machine.digest()
    return tmp_path / "app", digest


def digest_of(folder):
    with Machine.open(folder) as machine:
        return machine.digest()


def inodes(folder):
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_a_clone_ends_in_the_same_state_and_shares_all_layers(app, tmp_path):
    source, digest = app
    summary = clone_machine(source, tmp_path / "clone")
    assert digest_of(tmp_path / "clone") == digest
    record = read_record(source)
    assert summary.cycle == record.cycle
    assert summary.methods == {"link": len(record.images) + len(record.deltas)}
    assert summary.copied_bytes == 0
    ours, theirs = inodes(tmp_path / "clone"), inodes(source)
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == {"machine.json"}


def test_a_clone_is_another_machine_with_the_source_as_its_parent(app, tmp_path):
    source, _ = app
    clone_machine(source, tmp_path / "clone")
    made, original = read_record(tmp_path / "clone"), read_record(source)
    assert made.parent == original.id
    assert made.id != original.id
    with Machine.open(tmp_path / "clone", storage="backing") as machine:
        machine.advance(b"burn alice 1")
    with Machine.open(source) as machine:
        assert machine.inspect(b"total").reports == (b"100",)


def test_any_of_a_family_of_clones_may_be_deleted(app, tmp_path):
    source, digest = app
    folders = [source]
    for number in range(4):
        folders.append(tmp_path / f"clone{number}")
        clone_machine(folders[-2], folders[-1], durable=number % 2 == 0)
    for folder in folders[:-1]:
        shutil.rmtree(folder)
    assert digest_of(folders[-1]) == digest


def test_a_file_that_the_guest_writes_in_place_is_its_own(tmp_path):
    (tmp_path / "disk.img").write_bytes(b"disk" * 1024)
    drive = Drive("disk", path=tmp_path / "disk.img", shared=True)
    Machine.create(ledger_config(drives=(drive,)), tmp_path / "app").close()
    summary = clone_machine(tmp_path / "app", tmp_path / "clone")
    assert sum(summary.methods.values()) == summary.methods["link"] + 1
    with Machine.open(tmp_path / "clone", storage="backing") as machine:
        machine.write(machine.layout.range("disk").start, b"mine")
    assert (tmp_path / "app" / "disk.img").read_bytes()[:4] == b"disk"
    assert (tmp_path / "clone" / "disk.img").read_bytes()[:4] == b"mine"


def test_across_file_systems_the_bytes_are_copied_and_stay_read_only(app, tmp_path):
    source, digest = app
    with mounted("tmpfs", tmp_path) as other:
        target = other.folder / "clone"
        summary = clone_machine(source, target)
        assert "link" not in summary.methods
        assert summary.copied_bytes > 0
        modes = {path.name: path.stat().st_mode & 0o222 for path in target.iterdir()}
        assert {name for name, mode in modes.items() if mode} == {"machine.json"}
        assert digest_of(target) == digest


def test_where_the_file_system_can_a_file_written_in_place_is_reflinked(tmp_path):
    with mounted("btrfs", tmp_path) as other:
        (other.folder / "disk.img").write_bytes(b"disk" * 1024)
        drive = Drive("disk", path=other.folder / "disk.img", shared=True)
        Machine.create(ledger_config(drives=(drive,)), other.folder / "app").close()
        summary = clone_machine(other.folder / "app", other.folder / "clone")
        assert summary.methods["reflink"] == 1
        assert summary.copied_bytes == 0
        assert (other.folder / "clone" / "disk.img").read_bytes() == b"disk" * 1024


def test_nothing_is_replaced_and_nothing_is_left_behind(app, tmp_path):
    source, _ = app
    (tmp_path / "taken").mkdir()
    with pytest.raises(FolderExists):
        clone_machine(source, tmp_path / "taken")
    (source / "images0.img").unlink()
    with pytest.raises(BadImage, match=r"images0\.img"):
        clone_machine(source, tmp_path / "clone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "image", "taken"]


def test_a_record_cannot_make_it_reach_outside_of_the_folder(app, tmp_path):
    source, _ = app
    (tmp_path / "secret").write_text("mine")
    (source / "images0.img").unlink()
    (source / "images0.img").symlink_to("../secret")
    with pytest.raises(BadImage, match="symlink"):
        clone_machine(source, tmp_path / "clone")


def test_a_folder_that_is_not_a_machines_is_refused(tmp_path):
    for name in "nothing", "empty":
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(BadImage):
            clone_machine(tmp_path / name, tmp_path / "clone")


def test_readers_do_not_keep_it_from_cloning_but_a_writer_does(app, tmp_path):
    source, digest = app
    with Machine.open(source):
        clone_machine(source, tmp_path / "first")
    assert digest_of(tmp_path / "first") == digest
    with Machine.open(source, storage="backing") as machine:
        with pytest.raises(MachineLocked):
            clone_machine(source, tmp_path / "second")
        timer = threading.Timer(0.05, machine.close)
        timer.start()
        clone_machine(source, tmp_path / "second", wait_seconds=None)
        timer.join()
    assert digest_of(tmp_path / "second") == digest


def test_a_torn_machine_is_cloned_only_from_its_last_seal_and_when_asked(app, tmp_path):
    source, digest = app
    (source / "top").write_bytes(b"half a state")
    with pytest.raises(MachineTorn):
        clone_machine(source, tmp_path / "clone")
    clone_machine(source, tmp_path / "clone", torn="discard")
    assert digest_of(tmp_path / "clone") == digest
    assert (source / "top").exists()


def test_the_record_of_a_clone_is_sound(app, tmp_path):
    source, _ = app
    clone_machine(source, tmp_path / "clone")
    record = read_record(tmp_path / "clone")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / NAME).write_bytes(encode_record(record))
    written = (tmp_path / "again" / "machine.json").read_bytes()
    assert written == (tmp_path / "clone" / "machine.json").read_bytes()
