"""The newc writer: what is put in comes out, and nothing else decides the bytes."""

import random
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from newc import unpack

from orchestra.guest.initramfs import Archive

NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=9)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4)
CONTENTS = st.dictionaries(PATHS.map("/".join), st.binary(max_size=40), max_size=12)


def without_clashes(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Drop what would be below a file."""
    return {
        path: data
        for path, data in contents.items()
        if not any(path.startswith(f"{other}/") for other in contents)
    }


@given(CONTENTS)
def test_every_file_comes_out_as_it_went_in(contents: dict[str, bytes]) -> None:
    contents = without_clashes(contents)
    archive = Archive()
    for path, data in contents.items():
        archive.file(path, data, 0o640)
    files = {
        path: data
        for path, mode, data, *_ in unpack(archive.to_bytes())
        if mode == stat.S_IFREG | 0o640
    }
    assert files == contents


@given(CONTENTS, st.integers())
def test_the_order_of_adding_does_not_show(contents: dict[str, bytes], seed: int) -> None:
    items = list(without_clashes(contents).items())
    one, other = Archive(), Archive()
    for path, data in items:
        one.file(path, data)
    random.Random(seed).shuffle(items)
    for path, data in items:
        other.file(path, data)
    assert one.to_bytes() == other.to_bytes()


@given(CONTENTS)
def test_a_folder_comes_before_what_is_in_it(contents: dict[str, bytes]) -> None:
    archive = Archive()
    for path, data in without_clashes(contents).items():
        archive.file(path, data)
    seen = {""}
    for path, mode, *_ in unpack(archive.to_bytes()):
        assert path.rpartition("/")[0] in seen
        if stat.S_ISDIR(mode):
            seen.add(path)


def test_links_devices_and_modes_are_written_as_asked() -> None:
    archive = Archive()
    archive.symlink("bin/sh", "busybox")
    archive.device("dev/console", "char", 5, 1)
    archive.device("dev/vda", "block", 254, 0, 0o660)
    archive.folder("dev", 0o711)
    archive.folder("tmp", 0o1777)
    found = {path: rest for path, *rest in unpack(archive.to_bytes())}
    assert found["bin/sh"][:3] == [0o120777, b"busybox", (0, 0)]
    assert found["dev/console"][:3] == [0o020600, b"", (5, 1)]
    assert found["dev/vda"][:3] == [0o060660, b"", (254, 0)]
    assert [found[path][0] for path in ("bin", "dev", "tmp")] == [0o40755, 0o40711, 0o41777]


def test_no_two_entries_have_the_same_inode() -> None:
    archive = Archive()
    for name in "abc":
        archive.file(f"folder/{name}", b"same")
    numbers = [entry[4] for entry in unpack(archive.to_bytes())]
    assert len(set(numbers)) == len(numbers) == 4


def test_an_archive_is_whole_blocks() -> None:
    archive = Archive()
    assert len(archive.to_bytes()) % 512 == 0
    archive.file("a", bytes(512))
    assert len(archive.to_bytes()) % 512 == 0


@pytest.mark.parametrize(
    "path", ["", "/", "/init", "a//b", "a/", "./a", "..", "a/../b", "a\0b", "TRAILER!!!"]
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no relative path"):
        Archive().file(path, b"")


def test_nothing_is_added_twice_or_below_a_file() -> None:
    archive = Archive()
    archive.file("a", b"")
    archive.folder("b")
    with pytest.raises(ValueError, match="already"):
        archive.symlink("a", "b")
    with pytest.raises(ValueError, match="already"):
        archive.folder("b")
    with pytest.raises(ValueError, match="'a' is not a folder"):
        archive.file("a/b/c", b"")
    with pytest.raises(ValueError, match="target"):
        archive.symlink("c", "")
