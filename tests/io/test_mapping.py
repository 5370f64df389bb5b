"""Files in memory: orchestra/io/mapping.py."""

import os
from pathlib import Path
from typing import get_args

import pytest
from filesystems import Filesystem
from programs import RunPython, open_descriptors

from orchestra.errors import BackingFault, BadImage, MachineClosed
from orchestra.io import PAGE, create_sparse, map_file
from orchestra.io._os import region_count
from orchestra.io.mapping import Mode


def test_a_shared_mapping_stores_to_the_file(filesystem: Filesystem) -> None:
    path = filesystem.folder / "drive.img"
    create_sparse(path, 4 * PAGE)
    with map_file(path, mode="shared") as mapping:
        mapping.write(PAGE - 2, b"across")
        assert mapping.read(PAGE - 3, 8) == b"\0across\0"
        assert mapping.writable
    assert path.read_bytes()[PAGE - 2 : PAGE + 4] == b"across"


def test_a_private_mapping_keeps_its_stores_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "ram.img"
    path.write_bytes(b"original" * 1024)
    path.chmod(0o400)
    with map_file(path, mode="private") as mapping:
        mapping.write(0, b"modified")
        assert mapping.read(0, 8) == b"modified"
    assert path.read_bytes() == b"original" * 1024


def test_a_read_mapping_refuses_to_write(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    with map_file(path) as mapping:
        assert not mapping.writable
        with pytest.raises(PermissionError, match="reading only"):
            mapping.write(0, b"x")


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5])
def test_a_part_may_begin_and_end_anywhere(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "delta"
    data = os.urandom(5 * PAGE + 77)
    path.write_bytes(data)
    with map_file(path, offset=offset) as rest:
        assert (rest.offset, rest.length) == (offset, len(data) - offset)
        assert rest.read(0, rest.length) == data[offset:]
    with map_file(path, offset=offset, length=100) as part:
        assert part.read(0, 100) == data[offset : offset + 100]
        assert part.read(50, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 11), (10, 1), (11, 0), (0, -1)])
def test_bytes_outside_the_mapping_are_refused(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"0123456789")
    with map_file(path) as mapping, pytest.raises(IndexError):
        mapping.read(offset, length)


def test_a_descriptor_is_mapped_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    with path.open("rb") as file:
        with map_file(file.fileno()) as mapping:
            assert mapping.path == path
            assert mapping.read(0, 5) == b"layer"
        assert file.read() == b"layer"


def test_the_descriptor_is_not_needed_once_mapped(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    before = open_descriptors()
    with map_file(path) as mapping:
        assert open_descriptors() == before
        path.unlink()
        assert mapping.read(0, 5) == b"layer"


@pytest.mark.parametrize(
    ("offset", "length", "expected_length", "expected"),
    [
        (0, 101, None, "at least 101 bytes"),
        (60, 41, None, "at least 101 bytes"),
        (100, None, None, "at least 101 bytes"),
        (200, None, None, "at least 201 bytes"),
        (0, 0, None, "at least 1 bytes"),
        (0, None, 99, "99 bytes"),
        (0, 50, 101, "101 bytes"),
    ],
)
def test_a_file_of_another_length_is_refused(
    tmp_path: Path, offset: int, length: int | None, expected_length: int | None, expected: str
) -> None:
    path = tmp_path / "ram.img"
    path.write_bytes(bytes(100))
    with pytest.raises(BadImage, match=expected) as caught:
        map_file(path, offset=offset, length=length, expected_length=expected_length)
    assert (caught.value.path, caught.value.field, caught.value.found) == (path, "length", 100)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(BadImage, match="a regular file"):
            map_file(path)


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(BadImage, match="symlink"):
        map_file(tmp_path / "link")


def test_closing_twice_is_fine_and_the_region_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    before = region_count()
    mapping = map_file(path)
    assert region_count() == before + 1
    mapping.close()
    mapping.close()
    assert region_count() == before
    with pytest.raises(MachineClosed):
        mapping.read(0, 1)


def test_a_forgotten_mapping_is_unmapped(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    before = region_count()
    mapping = map_file(path)
    del mapping
    assert region_count() == before


def test_a_fault_is_found_among_tens_of_thousands_of_mappings(tmp_path: Path) -> None:
    path, torn = tmp_path / "layer", tmp_path / "torn"
    path.write_bytes(b"layer")
    torn.write_bytes(bytes(2 * PAGE))
    mappings = [map_file(path) for _ in range(20_000)]
    try:
        for mapping in mappings[::3]:
            mapping.close()  # holes in the registry, to be filled
        last = map_file(torn)
        mappings += [last, *(map_file(path) for _ in range(5_000))]
        os.truncate(torn, 0)
        with pytest.raises(BackingFault, match="torn"):
            last.read(PAGE, 1)
        assert mappings[19_999].read(0, 5) == b"layer"
    finally:
        for mapping in mappings:
            mapping.close()


FORKER = """
import os, sys
from orchestra.errors import MachineForked
from orchestra.io import map_file
from orchestra.io._os import region_count
path, mode = sys.argv[1:]
mapping = map_file(path, mode=mode)
child = os.fork()
if child == 0:
    mapped = os.path.basename(path) in open("/proc/self/maps").read()
    try:
        said = mapping.read(0, 5).decode()
        if mapping.writable:
            mapping.write(0, b"child")
    except MachineForked:
        said = "forked"
    again = map_file(path)                    # may well take the addresses of the lost one
    mapping.close()
    print(said, mapped, again.read(0, 5).decode(), region_count(), flush=True)
    os._exit(0)
status = os.waitpid(child, 0)[1]
print(status, mapping.read(0, 5).decode(), region_count())
"""


@pytest.mark.parametrize("mode", get_args(Mode))
def test_only_shared_mappings_belong_to_the_parent_alone(
    tmp_path: Path, run_python: RunPython, mode: str
) -> None:
    path = tmp_path / "drive.img"
    path.write_bytes(b"drive")
    seen = "forked False" if mode == "shared" else "drive True"
    result = run_python(FORKER, path, mode)
    assert result.stdout == f"{seen} drive 1\n0 drive 1\n"
    assert path.read_bytes() == b"drive"
