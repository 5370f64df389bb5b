"""Files that a config names: reflinked, linked or copied into a folder, and what protects them."""

import os
import shutil

import pytest

from orchestra.errors import BadImage
from orchestra.machine import Drive, Machine, MachineConfig
from orchestra.machine.record import read_record
from tests.filesystems import mounted
from tests.guests import IMAGE_START, ledger_config, ready_ledger, write_image


@pytest.fixture(params=["ext4", "btrfs", "xfs"])
def filesystem(request, tmp_path):
    with mounted(request.param, tmp_path) as found:
        yield found


def image_of(folder):
    return read_record(folder).images[0]


def test_an_image_is_reflinked_or_linked_and_costs_no_room(filesystem):
    path = write_image(filesystem.folder / "image")
    with ready_ledger(filesystem.folder / "app", path):
        pass
    linked = (filesystem.folder / "app" / "images0.img").samefile(path)
    assert linked != filesystem.reflinks
    assert (image_of(filesystem.folder / "app").link is None) == filesystem.reflinks
    with Machine.open(filesystem.folder / "app") as machine:
        assert machine.read(IMAGE_START, 1000) == path.read_bytes()[:1000]


def test_without_leave_to_link_it_is_copied_and_is_the_folders_own(filesystem):
    path = write_image(filesystem.folder / "image")
    app = filesystem.folder / "app"
    Machine.create(ledger_config(path), app, link_images=False).close()
    assert not (app / "images0.img").samefile(path)
    assert (app / "images0.img").stat().st_mode & 0o222 == 0
    path.write_bytes(b"something else")
    Machine.open(app).close()


def test_a_linked_image_that_was_written_to_is_refused_by_every_folder_that_has_it(tmp_path):
    path = write_image(tmp_path / "image")
    with ready_ledger(tmp_path / "app", path) as machine:
        machine.snapshot(tmp_path / "snap")
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(0, 1 << 60))
    for folder in ("app", "snap"):
        with pytest.raises(BadImage, match=r"images0\.img: time of last change: .* written to"):
            Machine.open(tmp_path / folder)


def test_a_replaced_file_does_no_harm_nor_does_a_copied_folder(tmp_path):
    path = write_image(tmp_path / "image")
    with ready_ledger(tmp_path / "app", path) as machine:
        expected = machine.digest()
    path.unlink()
    path.write_bytes(b"another")
    shutil.copytree(tmp_path / "app", tmp_path / "copy")
    os.utime(tmp_path / "copy" / "images0.img")
    for folder in ("app", "copy"):
        with Machine.open(tmp_path / folder) as machine:
            assert machine.digest() == expected


def test_a_machine_in_memory_links_its_images_into_its_first_snapshot(tmp_path):
    path = write_image(tmp_path / "image")
    with Machine.create(ledger_config(path)) as machine:
        result = machine.snapshot(tmp_path / "snap")
        assert sum(result.methods.values()) == 1
        assert machine.snapshot(tmp_path / "later").methods["link"] >= 1
        expected = machine.digest()
    for folder in ("snap", "later"):
        with Machine.open(tmp_path / folder) as machine:
            assert machine.digest() == expected


def test_snapshots_may_be_deleted_in_any_order_while_their_machine_goes_on(tmp_path):
    path = write_image(tmp_path / "image")
    with Machine.create(ledger_config(path)) as machine:
        machine.run()
        for number in range(4):
            machine.advance(b"mint alice 1")
            machine.snapshot(tmp_path / str(number))
            if number != 1:
                shutil.rmtree(tmp_path / str(number))
        machine.snapshot(tmp_path / "last")
        expected = machine.digest()
    shutil.rmtree(tmp_path / "1")
    with Machine.open(tmp_path / "last") as machine:
        assert machine.digest() == expected


def test_across_file_systems_it_is_copied(tmp_path):
    path = write_image(tmp_path / "image")
    with mounted("tmpfs", tmp_path) as other:
        Machine.create(ledger_config(path), other.folder / "app").close()
        assert (other.folder / "app" / "images0.img").read_bytes() == path.read_bytes()
        assert image_of(other.folder / "app").link is None


def test_short_files_are_in_the_first_layer(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(16 * 4096))
    config = MachineConfig(drives=(Drive("disk", path=path),))
    Machine.create(config, tmp_path / "app").close()
    content = path.read_bytes()
    path.unlink()
    assert read_record(tmp_path / "app").images == ()
    with Machine.open(tmp_path / "app") as machine:
        assert machine.read(machine.layout.range("disk").start, len(content)) == content


def test_an_import_from_another_file_system_does_not_spoil_those_within(tmp_path):
    elsewhere = write_image(tmp_path / "image")
    with mounted("btrfs", tmp_path) as found:
        Machine.create(ledger_config(elsewhere), found.folder / "copied").close()
        path = write_image(found.folder / "image")
        Machine.create(ledger_config(path), found.folder / "app").close()
        assert not (found.folder / "app" / "images0.img").samefile(path)
        assert image_of(found.folder / "app").link is None
