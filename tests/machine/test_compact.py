"""Layers merged in place, and laid into plain files: the machine stays the same."""

import os
import shutil
import subprocess

import pytest

from orchestra.errors import BadConfig, BadImage, FolderExists, MachineLocked, MachineTorn
from orchestra.machine import Drive, Machine
from orchestra.machine.clone import clone_machine, export_range
from orchestra.machine.compact import compact_machine
from orchestra.machine.verify import verify_folder
from tests.filesystems import REFLINKING, fill, mounted, mounted_image
from tests.guests import ledger_config, ready_ledger

MIB = 1 << 20


def layered(folder, **changes):
    """A machine with several layers in its folder, and its digest."""
    with Machine.create(ledger_config(**changes), folder) as machine:
        machine.run()
        for number, accounts in enumerate((3000, 300, 30)):
            machine.advance(b"fill %d %d" % (accounts, number))
            machine.snapshot(folder.with_name(f"{folder.name}-{number}"))
        machine.advance(b"mint alice 1")
        return machine.digest()


def deltas(folder):
    return sorted(path.name for path in folder.glob("*.delta"))


@pytest.mark.parametrize("name", ["app", "app-2"])
def test_many_layers_become_one_and_the_machine_is_the_same(name, tmp_path):
    digest = layered(tmp_path / "app")
    if name == "app-2":
        with Machine.open(tmp_path / name) as machine:
            digest = machine.digest()
    others = {path: deltas(path) for path in tmp_path.iterdir() if path.name != name}
    before = len(deltas(tmp_path / name))
    summary = compact_machine(tmp_path / name)
    assert summary.layers == before > 1
    assert len(deltas(tmp_path / name)) == 1
    report = verify_folder(tmp_path / name)
    assert report.ok
    assert report.strangers == ()
    for storage in ("memory", "backing"):
        with Machine.open(tmp_path / name, storage=storage) as machine:
            assert machine.digest() == digest
            assert machine.root_hash() == report.root
    assert {path: deltas(path) for path in others} == others
    assert all(verify_folder(path).ok for path in others)


def test_a_compacted_machine_goes_on_and_is_compacted_again(tmp_path):
    with ready_ledger() as reference:
        layered(tmp_path / "app")
        for accounts, number in ((3000, 0), (300, 1), (30, 2)):
            reference.advance(b"fill %d %d" % (accounts, number))
        reference.advance(b"mint alice 1")
        for number in range(4):
            compact_machine(tmp_path / "app")
            with Machine.open(tmp_path / "app", storage="backing") as machine:
                for one in (machine, reference):
                    one.advance(b"mint bob %d" % (number + 1))
                machine.snapshot(tmp_path / f"snap{number}")
                assert machine.digest() == reference.digest()
    for number in range(4):
        compact_machine(tmp_path / f"snap{number}")
        with Machine.open(tmp_path / f"snap{number}") as machine:
            assert machine.inspect(b"balance bob").reports == (b"%d" % sum(range(number + 2)),)


def test_one_layer_is_left_as_it_is(tmp_path):
    Machine.create(ledger_config(), tmp_path / "app", storage="memory").close()
    before = {path.name: path.stat().st_ino for path in (tmp_path / "app").iterdir()}
    assert compact_machine(tmp_path / "app").layers == 1
    assert {path.name: path.stat().st_ino for path in (tmp_path / "app").iterdir()} == before


def test_a_folder_that_is_in_use_or_torn_is_not_compacted(tmp_path):
    layered(tmp_path / "app")
    for storage in ("memory", "backing"):
        with Machine.open(tmp_path / "app", storage=storage), pytest.raises(MachineLocked):
            compact_machine(tmp_path / "app")
    machine = Machine.open(tmp_path / "app", storage="backing")
    machine.run(max_cycles=1)
    machine.discard()
    with pytest.raises(MachineTorn):
        compact_machine(tmp_path / "app")
    with pytest.raises(BadImage):
        compact_machine(tmp_path / "nothing")


def test_a_damaged_page_is_found_and_nothing_changes(tmp_path):
    layered(tmp_path / "app")
    path = tmp_path / "app" / deltas(tmp_path / "app")[0]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[4096 * 40 + 7] ^= 1
    path.write_bytes(data)
    before = {path.name: path.read_bytes() for path in (tmp_path / "app").iterdir()}
    for work in (
        lambda: compact_machine(tmp_path / "app"),
        lambda: export_range(tmp_path / "app", "ram", tmp_path / "ram.bin"),
        lambda: clone_machine(tmp_path / "app", tmp_path / "plain", flatten=True),
    ):
        with pytest.raises(BadImage, match=rf"{path.name}: page 0x"):
            work()
        assert {path.name: path.read_bytes() for path in (tmp_path / "app").iterdir()} == before
    assert not (tmp_path / "ram.bin").exists()
    assert not (tmp_path / "plain").exists()


def test_a_full_disk_leaves_all_as_it_was(tmp_path):
    with mounted("ext4", tmp_path) as filesystem:
        app = filesystem.folder / "app"
        digest = layered(app)
        before = sorted(path.name for path in app.iterdir())
        fill(filesystem.folder)
        with pytest.raises(OSError, match="No space left"):
            compact_machine(app)
        assert sorted(path.name for path in app.iterdir()) == before
        with Machine.open(app) as machine:
            assert machine.digest() == digest


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs"])
def test_a_flattened_clone_has_plain_images_and_is_the_same_machine(kind, tmp_path):
    with mounted(kind, tmp_path) as filesystem:
        folder = filesystem.folder
        content = os.urandom(2 * MIB)
        (folder / "data.img").write_bytes(content)
        drives = (
            Drive("data", kind="pmem", path=folder / "data.img", length=4 * MIB),
            Drive("empty", kind="nvram", length=2 * MIB),
            Drive("odd", path=folder / "data.img", length=4 * MIB + 512),
            Drive("flat", kind="pmem", path=folder / "data.img", shared=True),
        )
        with Machine.create(ledger_config(drives=drives), folder / "app") as machine:
            machine.run()
            for name in ("data", "empty", "odd", "flat"):
                place = machine.layout.range(name)
                machine.write(place.start + 5000, name.encode())
                machine.write(place.start + place.content_length - 6, b"the end"[:6])
            machine.write(machine.layout.range("data").start + 8192, bytes(4096))
            digest = machine.digest()
        summary = clone_machine(folder / "app", folder / "plain", flatten=True)
        if kind in REFLINKING:
            assert summary.methods["reflink"] >= 3
            assert summary.copied_bytes < MIB
        names = {path.name for path in (folder / "plain").iterdir()}
        assert names == {
            "machine.json",
            "0.delta",
            *(f"{name}.img" for name in ("ram", "data", "empty", "odd", "flat")),
        }
        expected = bytearray(content.ljust(4 * MIB, b"\0"))
        expected[5000:5004], expected[-6:], expected[8192:12288] = b"data", b"the en", bytes(4096)
        assert (folder / "plain" / "data.img").read_bytes() == expected
        assert (folder / "plain" / "odd.img").stat().st_size == 4 * MIB + 512
        assert (folder / "plain" / "ram.img").stat().st_size == 64 * MIB
        assert (folder / "plain" / "ram.img").stat().st_blocks * 512 < 16 * MIB
        for one in (folder / "app", folder / "plain"):
            assert verify_folder(one).ok
            with Machine.open(one, storage="backing") as machine:
                assert machine.digest() == digest
                assert machine.advance(b"mint alice 1").status == "accepted"
        with pytest.raises(FolderExists):
            clone_machine(folder / "app", folder / "plain", flatten=True)


def test_an_exported_drive_is_mounted_on_the_host(tmp_path):
    image = make_ext4(tmp_path)
    at = image.read_bytes().index(b"as it came")
    config = ledger_config(drives=(Drive("disk", path=image),))
    with Machine.create(config, tmp_path / "app") as machine:
        machine.run()
        machine.write(machine.layout.range("disk").start + at, b"by a guest")
        machine.snapshot(tmp_path / "snap")
        machine.write(machine.layout.range("disk").start + at, b"once more!")
    export_range(tmp_path / "snap", "disk", tmp_path / "disk.img")
    with mounted_image("ext4", tmp_path / "disk.img", tmp_path) as filesystem:
        assert (filesystem.folder / "note").read_bytes().startswith(b"by a guest")
    with pytest.raises(FileExistsError):
        export_range(tmp_path / "app", "disk", tmp_path / "disk.img")
    for name in ("uart", "nothing"):
        with pytest.raises(BadConfig, match="disk"):
            export_range(tmp_path / "app", name, tmp_path / "other.img")
    assert not (tmp_path / "other.img").exists()


def make_ext4(folder):
    """An image of a file system with one file, `note`."""
    image = folder / "source.img"
    (folder / "root").mkdir()
    (folder / "root" / "note").write_bytes(b"as it came".ljust(4096, b"."))
    with image.open("wb") as file:
        file.truncate(4 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder / "root", image], check=True)
    return image


def test_every_range_is_exported_as_the_machine_reads_it(tmp_path):
    layered(tmp_path / "app")
    with Machine.open(tmp_path / "app") as machine:
        for item in machine.layout.memory:
            expected = machine.read(item.start, item.content_length)
            export_range(tmp_path / "app", item.name, tmp_path / f"{item.name}.bin")
            assert (tmp_path / f"{item.name}.bin").read_bytes() == expected


def test_a_copied_folder_is_compacted_like_the_original(tmp_path):
    digest = layered(tmp_path / "app")
    shutil.copytree(tmp_path / "app", tmp_path / "copy")
    compact_machine(tmp_path / "copy")
    with Machine.open(tmp_path / "copy") as machine:
        assert machine.digest() == digest
