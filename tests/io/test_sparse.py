"""Sparse files: orchestra/io/sparse.py."""

import os
from pathlib import Path

import pytest
from filesystems import Filesystem

from orchestra.io import PAGE, allocated_bytes, create_sparse, data_segments


def segments(path: Path) -> list[tuple[int, int]]:
    with path.open("rb") as file:
        return list(data_segments(file.fileno()))


def test_a_new_file_of_a_terabyte_occupies_no_blocks(filesystem: Filesystem) -> None:
    path = filesystem.folder / "ram.img"
    create_sparse(path, 1 << 40)
    assert path.stat().st_size == 1 << 40
    assert allocated_bytes(path) == 0
    assert segments(path) == []


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ram.img"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        create_sparse(path, PAGE)
    assert path.read_bytes() == b"precious"


def test_a_length_the_file_system_refuses_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ram.img"
    with pytest.raises(OSError, match="File too large"):
        create_sparse(path, (1 << 63) - 1)
    assert not path.exists()


def test_data_is_found_between_holes(filesystem: Filesystem) -> None:
    path = filesystem.folder / "drive.img"
    block = 64 * PAGE  # more than any of the file systems stores as one
    create_sparse(path, 10 * block)
    with path.open("r+b") as file:
        for start in (2, 3, 9):
            file.seek(start * block)
            file.write(b"x" * block)
    assert segments(path) == [(2 * block, 4 * block), (9 * block, 10 * block)]
    assert allocated_bytes(path) >= 3 * block


def test_an_empty_file_has_no_segments(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert segments(path) == []


def test_a_file_without_holes_is_one_segment(tmp_path: Path) -> None:
    path = tmp_path / "dense"
    path.write_bytes(os.urandom(3 * PAGE + 5))
    assert segments(path) == [(0, 3 * PAGE + 5)]
