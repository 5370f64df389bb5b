"""What `verify` finds in a folder: nothing in a sound one, and every change that was made to it."""

import os
import shutil
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.errors import BadImage, MachineLocked
from orchestra.io.entry import AT_CWD
from orchestra.io.sparse import create_sparse
from orchestra.machine import Drive, Machine
from orchestra.machine._core import DEAD_SLOT, ZERO_PAGE, checksum
from orchestra.machine.content import image_digest
from orchestra.machine.delta import HEADER, delta_head, open_delta, write_delta
from orchestra.machine.merkle import Tree
from orchestra.machine.record import NAME, encode_record, read_record
from orchestra.machine.verify import verify_folder
from tests.guests import ledger_config, ready_ledger, write_image
from tests.machine.plain_hash import root_of


def drive(tmp_path):
    """A MiB of disk with a little at its start, in its middle and in its last, unfinished page."""
    path = tmp_path / "disk"
    create_sparse(path, (1 << 20) - 512)
    with path.open("r+b") as file:
        for place in (0, 640 << 10, (1 << 20) - 1024):
            file.seek(place)
            file.write(b"disk" * 100)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A snapshot of two deltas, an ELF and a drive, with digests of the images and the root."""
    folder = tmp_path_factory.mktemp("verify")
    config = ledger_config(
        write_image(folder / "image"), drives=(Drive(name="disk", path=drive(folder)),)
    )
    with Machine.create(config) as machine:
        machine.run()
        for number in range(64):
            machine.write(0x8100_0000 + 4096 * number, b"much")
        machine.snapshot(folder / "first")
        machine.advance(b"mint alice 100")
        machine.snapshot(folder / "second")
        root = root_of(machine).hex()
    record = read_record(folder / "second")
    images = tuple(
        msgspec.structs.replace(image, digest=image_digest(folder / "second" / image.file))
        for image in record.images
    )
    record = msgspec.structs.replace(record, images=images, root=root)
    (folder / "second" / NAME).write_bytes(encode_record(record))
    return folder / "second"


@pytest.fixture
def copy(sound, tmp_path):
    return copy_of(sound, tmp_path / "copy")


def copy_of(folder, target):
    shutil.copytree(folder, target)
    for path in target.iterdir():
        path.chmod(0o644)
    return target


def flip(path, place, mask=1):
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ mask]))


def change_record(folder, **changes):
    record = msgspec.structs.replace(read_record(folder), **changes)
    (folder / NAME).write_bytes(encode_record(record))


def newest(folder):
    return folder / read_record(folder).deltas[-1]


def flaw_of(folder):
    report = verify_folder(folder)
    assert not report.ok
    assert report.root is None
    assert len(report.flaws) == 1, report.flaws
    return report.flaws[0]


def test_a_sound_folder_has_the_root_hash_of_its_machine(sound):
    report = verify_folder(sound)
    assert report.ok, report.flaws
    with Machine.open(sound) as machine:
        assert report.root == root_of(machine).hex()
        assert report.cycle == machine.cycle
    assert {item.name for item in report.files} == {
        path.name for path in sound.iterdir() if path.name != "machine.json"
    }
    assert all(item.compared == item.pages > 0 for item in report.files)
    assert report.strangers == ()
    assert not report.torn


def test_the_folder_of_a_backing_machine_is_verified_between_its_runs(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        with pytest.raises(MachineLocked):
            verify_folder(tmp_path / "app")
        machine.advance(b"mint alice 100")
        root = root_of(machine).hex()
    report = verify_folder(tmp_path / "app")
    assert report.ok, report.flaws
    assert report.root == root
    assert all(item.compared == item.pages > 0 for item in report.files if item.kind == "delta")
    flip(newest(tmp_path / "app"), 4096)
    assert flaw_of(tmp_path / "app").field.startswith("page 0x")


def test_readers_do_not_keep_a_folder_from_being_verified(sound):
    with Machine.open(sound):
        assert verify_folder(sound).ok


def test_a_folder_at_reset_is_sound(tmp_path):
    Machine.create(ledger_config(), tmp_path / "app", storage="memory").close()
    assert verify_folder(tmp_path / "app").ok


def test_a_torn_folder_is_not_ok_although_its_last_seal_may_be(copy):
    (copy / "top").write_bytes(bytes(8192))
    report = verify_folder(copy)
    assert report.torn
    assert not report.ok
    assert report.flaws == ()


def test_files_that_belong_to_nobody_are_named(copy):
    (copy / "notes.txt").write_text("mine")
    report = verify_folder(copy)
    assert report.ok
    assert report.strangers == ("notes.txt",)


def test_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(BadImage, match="no such folder"):
        verify_folder(tmp_path / "nothing")
    report = verify_folder(tmp_path)
    assert not report.ok
    assert "machine.json" in str(report.flaws[0])


def test_progress_is_told_up_to_the_end(sound):
    seen = []
    verify_folder(sound, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] > seen[-1][1] / 2


def test_progress_may_end_it(sound):
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        verify_folder(sound, progress=stop)
    assert verify_folder(sound).ok  # and nothing is left locked


def test_a_file_that_cannot_be_read_to_its_end_is_named_with_the_offset(copy):
    path, state = newest(copy), state_of(copy)
    path.unlink()
    write_delta(AT_CWD, str(path), range(0x80000, 0x80000 + 600), bytes(600) * 4096, state)

    seen = []
    verify_folder(copy, progress=lambda done, total: seen.append(done))

    def truncate(done, total):
        if done == seen[-3]:  # behind the first 256 of its pages
            os.truncate(path, 12288)

    report = verify_folder(copy, progress=truncate)
    assert [(flaw.path, flaw.found) for flaw in report.flaws] == [(path, "truncated")]
    assert "offset" in report.flaws[0].field


# what a flaw says


def test_a_changed_page_of_a_delta_is_named(copy):
    flip(newest(copy), 4096 + 77)
    flaw = flaw_of(copy)
    assert flaw.path == newest(copy)
    assert flaw.field.endswith(" at offset 0x1000")
    assert flaw.field.startswith("page 0x")


def test_two_pages_that_changed_places_are_found(copy):
    path = newest(copy)
    data = bytearray(path.read_bytes())
    data[4096:8192], data[8192:12288] = data[8192:12288], data[4096:8192]
    path.write_bytes(data)
    assert [flaw.field.split(" at ")[1] for flaw in verify_folder(copy).flaws] == [
        "offset 0x1000",
        "offset 0x2000",
    ]


def test_many_changed_pages_are_counted(tmp_path, copy):
    path, state = newest(copy), state_of(copy)
    path.unlink()
    write_delta(AT_CWD, str(path), range(0x80000, 0x80000 + 100), bytes(100) * 4096, state)
    change_record(copy, root=None)
    for slot in range(100):
        flip(path, 4096 * (1 + slot))
    flaws = verify_folder(copy).flaws
    assert len(flaws) == 17
    assert "84 more" in str(flaws[-1])


def state_of(folder):
    delta = open_delta(AT_CWD, str(newest(folder)), str(newest(folder)), (1, 1 << 52))
    delta.mapping.close()
    return delta.state


@pytest.mark.parametrize("name", ["images0.img", "disk.img"])
def test_a_changed_image_is_found_by_its_digest(copy, name):
    flip(copy / name, 100)
    flaw = flaw_of(copy)
    assert flaw.path == copy / name
    assert flaw.field == "digest"


def test_a_changed_image_without_a_digest_is_found_by_the_root(copy):
    images = read_record(copy).images
    change_record(
        copy, images=tuple(msgspec.structs.replace(image, digest=None) for image in images)
    )
    assert verify_folder(copy).ok
    assert {item.compared for item in verify_folder(copy).files if item.kind == "image"} == {0}
    flip(copy / "disk.img", (640 << 10) + 3)
    report = verify_folder(copy)
    assert [flaw.field for flaw in report.flaws] == ["root"]


@pytest.mark.parametrize("change", ["missing", "shorter", "longer", "symlink", "fifo", "folder"])
@pytest.mark.parametrize("which", ["images0.img", "disk.img", "newest"])
def test_a_file_of_another_kind_or_length_is_named(copy, tmp_path, which, change):
    path = newest(copy) if which == "newest" else copy / which
    size = path.stat().st_size
    kept = path.rename(tmp_path / "kept")
    match change:
        case "shorter" | "longer":
            shutil.copy(kept, path)
            os.truncate(path, size + (1 if change == "longer" else -1))
        case "symlink":
            path.symlink_to(kept)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    report = verify_folder(copy)
    assert not report.ok
    assert {flaw.path for flaw in report.flaws} == {path}
    others = {item.name for item in report.files}
    assert len(others) == 3  # the rest was checked nevertheless
    assert path.name not in others


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"cycle": 5}, "cycle"), ({"root": "00" * 32}, "root"), ({"deltas": ("9.delta",)}, "file")],
)
def test_a_record_that_does_not_go_with_its_files_is_found(copy, changes, field):
    change_record(copy, **changes)
    assert verify_folder(copy).flaws[0].field == field


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (1,), (0, 1, 1, 0)])
def test_other_deltas_than_those_that_were_stored_are_found(copy, order):
    names = read_record(copy).deltas
    change_record(copy, deltas=tuple(names[index] for index in order))
    fields = {flaw.field for flaw in verify_folder(copy).flaws}
    assert fields & {"root", "cycle", "deltas"}, fields


def test_several_flaws_are_all_named(copy):
    flip(newest(copy), 4096)
    flip(copy / "images0.img", 100)
    (copy / "disk.img").unlink()
    assert {flaw.path.name for flaw in verify_folder(copy).flaws} == {
        newest(copy).name,
        "images0.img",
        "disk.img",
    }


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_of_any_file_is_found(sound, tmp_path_factory, data):
    target = copy_of(sound, tmp_path_factory.mktemp("flip") / "copy")
    path = data.draw(st.sampled_from(sorted(target.iterdir())))
    size = path.stat().st_size
    place = data.draw(st.one_of(st.integers(0, size - 1), st.integers(0, min(size, 9000) - 1)))
    before = path.read_bytes()[place]
    flip(path, place, data.draw(st.integers(1, 255)))
    report = verify_folder(target)
    shutil.rmtree(target)
    space = path.name == "machine.json" and before in b" \n"
    assert report.ok <= space, (path, place)


# deltas


def test_slots_that_are_superseded_or_zeros_are_not_compared(tmp_path, copy):
    path, state = newest(copy), state_of(copy)
    path.unlink()
    index = [0x80000, DEAD_SLOT, 0x80001 | ZERO_PAGE, 0x80002]
    write_delta(AT_CWD, str(path), index, b"a" * 4096 + b"b" * 4096 + b"c" * 4096, state)
    change_record(copy, root=None)
    flip(path, 8192)
    report = verify_folder(copy)
    assert report.ok, report.flaws
    with Machine.open(copy) as machine:
        assert report.root == root_of(machine).hex()
        assert machine.read(0x8000_1000, 4096) == bytes(4096)
    flip(path, 12288)
    assert "0x80002" in flaw_of(copy).field


def test_a_delta_without_page_checksums_opens_and_is_said_to_have_none(copy):
    path, state = newest(copy), state_of(copy)
    path.unlink()
    header, tail = delta_head([0x80000], 1, state, None)
    path.write_bytes(header + b"a" * 4096 + tail)
    change_record(copy, root=None)
    report = verify_folder(copy)
    assert report.ok
    assert [(item.pages, item.compared) for item in report.files if item.name == path.name] == [
        (1, 0)
    ]


def test_a_page_twice_in_an_index_is_refused(copy):
    path, state = newest(copy), state_of(copy)
    path.unlink()
    write_delta(AT_CWD, str(path), [0x80000, 0x80000], bytes(8192), state)
    assert flaw_of(copy).field == "index"


def test_checksums_of_another_length_are_refused(copy):
    path, state = newest(copy), state_of(copy)
    header, tail = delta_head([0x80000], 1, state, struct.pack("<I", 1))
    fields = [*HEADER.unpack(header[: HEADER.size])]
    fields[8] += 4
    head = HEADER.pack(*fields)[:-4]
    head += checksum(head).to_bytes(4, "little")
    path.write_bytes(head + header[len(head) :] + bytes(4096) + tail)
    assert flaw_of(copy).field == "page checksums"
    with pytest.raises(BadImage, match="page checksums"):
        Machine.open(copy)


def test_changed_page_checksums_are_found_and_do_not_matter_to_a_machine(copy):
    path = newest(copy)
    delta = open_delta(AT_CWD, str(path), str(path), (0, 1 << 40))
    delta.mapping.close()
    flip(path, delta.checksum_place.start)
    assert flaw_of(copy).field == "checksum of page checksums"
    Machine.open(copy).close()


# images


def test_the_digest_of_an_image_is_the_root_of_its_pages(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"x" * 10000)
    pages = {0: b"x" * 4096, 1: b"x" * 4096, 2: b"x" * 1808 + bytes(2288)}
    assert image_digest(path) == Tree.empty().update(pages).root.hex()
    create_sparse(tmp_path / "sparse", 1 << 40)
    assert image_digest(tmp_path / "sparse") == Tree.empty().root.hex()
    os.truncate(tmp_path / "sparse", 5 << 20)
    with (tmp_path / "sparse").open("r+b") as file:
        file.seek((3 << 20) + 5)
        file.write(b"y")
    page = bytes(5) + b"y" + bytes(4090)
    assert image_digest(tmp_path / "sparse") == Tree.empty().update({768: page}).root.hex()


def test_holes_and_zeros_have_the_same_digest(tmp_path):
    dense, sparse = tmp_path / "dense", drive(tmp_path)
    dense.write_bytes(sparse.read_bytes())
    assert dense.stat().st_blocks > sparse.stat().st_blocks
    assert image_digest(dense) == image_digest(sparse)
