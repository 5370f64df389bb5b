"""Copies of whole files: orchestra/io/reflink.py."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from filesystems import MIB, Filesystem, mounted
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.io import PAGE, CloneResult, allocated_bytes, clone_file, create_sparse, link_file
from orchestra.io.reflink import clone_range


def make_image(path: Path) -> bytes:
    """A hole, data, zeros that are stored, a hole, and a tail that ends within a page."""
    zeros = bytes(MIB)
    data = os.urandom(MIB)
    tail = os.urandom(PAGE + 7)
    with path.open("xb") as file:
        file.seek(MIB)
        file.write(data + zeros)
        file.seek(4 * MIB)
        file.write(tail)
    return bytes(MIB) + data + zeros + bytes(MIB) + tail


def test_a_clone_has_the_same_bytes_and_is_not_denser(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    expected = make_image(source)
    clone_file(source, target)
    assert target.read_bytes() == expected
    os.sync()  # blocks are counted when they are allocated
    assert allocated_bytes(target) <= allocated_bytes(source)


def test_blocks_are_shared_where_the_file_system_can_share_them(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    make_image(source)
    result = clone_file(source, target)
    if filesystem.reflinks:
        assert result == CloneResult("reflink", 0)
    else:
        assert result.method in {"copy_file_range", "sparse"}
        assert result.copied_bytes == MIB + PAGE + 7


def test_a_copy_stores_neither_holes_nor_zeros(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as filesystem:
        source, target = filesystem.folder / "source", filesystem.folder / "target"
        make_image(source)
        clone_file(source, target)
        os.sync()
        assert allocated_bytes(source) >= 2 * MIB + 2 * PAGE
        assert allocated_bytes(target) <= MIB + 4 * PAGE


def test_a_change_to_the_clone_does_not_reach_the_source(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    expected = make_image(source)
    clone_file(source, target)
    with target.open("r+b") as file:
        file.write(b"changed")
    assert source.read_bytes() == expected


def test_a_clone_onto_another_file_system_is_a_copy(filesystem: Filesystem, tmp_path: Path) -> None:
    source, target = filesystem.folder / "source", tmp_path / "target"
    expected = make_image(source)
    result = clone_file(source, target)
    assert result.method in {"copy_file_range", "sparse"}
    assert target.read_bytes() == expected
    assert allocated_bytes(target) <= MIB + 4 * PAGE


def test_cloning_a_terabyte_of_hole_copies_nothing(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    create_sparse(source, 1 << 40)
    assert clone_file(source, target).copied_bytes == 0
    assert target.stat().st_size == 1 << 40
    assert allocated_bytes(target) == 0


@settings(max_examples=60, deadline=None)
@given(
    pages=st.lists(st.sampled_from("hzd"), max_size=20),
    tail=st.integers(0, PAGE - 1),
    tail_is_data=st.booleans(),
)
def test_any_pattern_of_holes_zeros_and_data_ends_in_the_same_bytes(
    pages: list[str], tail: int, tail_is_data: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        create_sparse(source, len(pages) * PAGE + tail)
        with source.open("r+b") as file:
            for number, page in enumerate(pages):
                file.seek(number * PAGE)
                file.write({"h": b"", "z": bytes(PAGE), "d": b"\1" * PAGE}[page])
            file.seek(len(pages) * PAGE)
            file.write((b"\1" if tail_is_data else b"\0") * tail)
        result = clone_file(source, target)
        assert target.read_bytes() == source.read_bytes()
        assert result.copied_bytes == pages.count("d") * PAGE + (tail if tail_is_data else 0)


def test_a_part_of_a_file_is_put_where_it_is_wanted(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    content = make_image(source)
    for start, length, to in (
        (0, len(content), 0),
        (MIB, 3 * PAGE, 5 * PAGE),
        (MIB, MIB, 2 * MIB),
        (MIB + 100, 5000, 300),
        (4 * MIB, MIB, 8 * MIB),  # the source ends before
        (len(content), PAGE, 0),
    ):
        create_sparse(target, 16 * MIB)
        result = clone_range(source, target, start, length, to)
        expected = bytearray(16 * MIB)
        expected[to : to + len(content[start : start + length])] = content[start : start + length]
        assert target.read_bytes() == expected
        if filesystem.reflinks and start % PAGE == 0 and length >= PAGE and start < len(content):
            assert result.method == "reflink"
            assert result.copied_bytes < PAGE
        assert allocated_bytes(target) <= 3 * MIB
        target.unlink()


def test_an_existing_target_is_refused_and_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_image(source)
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        clone_file(source, target)
    assert target.read_bytes() == b"precious"


def test_a_missing_source_leaves_no_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        clone_file(tmp_path / "source", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_full_disk_leaves_no_target(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * MIB))
    with mounted("tmpfs", tmp_path, MIB) as small:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            clone_file(source, small.folder / "target")
        assert list(small.folder.iterdir()) == []


def test_a_link_is_another_name_of_the_same_file(filesystem: Filesystem) -> None:
    source, target = filesystem.folder / "source", filesystem.folder / "target"
    source.write_bytes(b"layer")
    assert link_file(source, target) == CloneResult("link", 0)
    assert target.samefile(source)


def test_a_link_across_file_systems_becomes_a_copy(filesystem: Filesystem, tmp_path: Path) -> None:
    source, target = filesystem.folder / "source", tmp_path / "target"
    expected = make_image(source)
    assert link_file(source, target).method != "link"
    assert target.read_bytes() == expected


def test_a_file_with_all_its_links_taken_is_copied(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as filesystem:
        source = filesystem.folder / "source"
        source.write_bytes(b"layer")
        for number in range(64_999):  # ext4 allows a file 65,000 names
            os.link(source, filesystem.folder / str(number))
        result = link_file(source, filesystem.folder / "one more")
        assert result.method != "link"
        assert (filesystem.folder / "one more").read_bytes() == b"layer"


def test_a_link_onto_an_existing_file_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"layer")
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        link_file(source, target)
    assert target.read_bytes() == b"precious"
