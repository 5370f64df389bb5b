"""Folders and files that appear whole or not at all: orchestra/io/folder.py."""

import os
import signal
import threading
from pathlib import Path

import pytest
from filesystems import MIB, SMALLEST, Filesystem, mounted, mounted_image
from hypothesis import example, given
from hypothesis import strategies as st
from programs import StartPython, heard

from orchestra.errors import BadImage, FolderExists, MachineLocked
from orchestra.io import child, clone_file, folder, publish, remove, replace_file, sweep, try_lock
from orchestra.io.folder import _rename_over_claim


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_published_folder_appears_whole(filesystem: Filesystem, durable: bool) -> None:
    target = filesystem.folder / "app"
    with publish(target, durable=durable) as building:
        (building / "machine.json").write_text("{}")
        (building / "sub").mkdir()
        (building / "sub" / "0.delta").write_bytes(b"pages")
        assert not target.exists()
        assert building.parent == target.parent
    assert names(filesystem.folder) == ["app"]
    assert names(target) == ["machine.json", "sub"]
    assert (target / "sub" / "0.delta").read_bytes() == b"pages"


def test_an_error_while_building_leaves_nothing(filesystem: Filesystem) -> None:
    def build() -> None:
        with publish(filesystem.folder / "app") as building:
            (building / "half").touch()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        build()
    assert names(filesystem.folder) == []


def test_an_existing_target_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with pytest.raises(FolderExists, match="app"), publish(tmp_path / "app"):
        pytest.fail("built in vain")
    assert names(tmp_path) == ["app"]


@pytest.mark.parametrize("kind", ["empty folder", "full folder", "file", "dangling symlink"])
def test_a_target_that_appears_meanwhile_is_not_replaced(filesystem: Filesystem, kind: str) -> None:
    target = filesystem.folder / "app"

    def build() -> None:
        with publish(target) as building:
            (building / "mine").touch()
            if kind == "file":
                target.touch()
            elif kind == "dangling symlink":
                target.symlink_to("nowhere")
            else:
                target.mkdir()
                if kind == "full folder":
                    (target / "theirs").touch()

    with pytest.raises(FolderExists):
        build()
    assert names(filesystem.folder) == ["app"]
    assert not (target / "mine").exists()


def test_of_many_publishers_exactly_one_wins(filesystem: Filesystem) -> None:
    target = filesystem.folder / "app"
    start = threading.Barrier(8)
    won: list[int] = []
    lost: list[int] = []

    def build(number: int) -> None:
        try:
            with publish(target) as building:
                for part in range(5):
                    (building / str(part)).write_text(str(number))
                start.wait()
            won.append(number)
        except FolderExists:
            lost.append(number)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7
    assert names(filesystem.folder) == ["app"]
    assert [(target / str(part)).read_text() for part in range(5)] == [str(won[0])] * 5


def test_where_rename_cannot_promise_it_a_claimed_folder_is_replaced(
    filesystem: Filesystem,
) -> None:
    building, target = filesystem.folder / "building", filesystem.folder / "app"
    building.mkdir()
    (building / "mine").touch()
    _rename_over_claim(building, target)
    assert names(filesystem.folder) == ["app"]
    assert names(target) == ["mine"]
    building.mkdir()
    with pytest.raises(FolderExists):
        _rename_over_claim(building, target)
    assert names(target) == ["mine"]


PUBLISHER = """
import sys
from orchestra.io import publish
with publish(sys.argv[1]) as building:
    (building / "half").touch()
    print(building.name, flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_process_left_is_swept(tmp_path: Path, start_python: StartPython) -> None:
    process = start_python(PUBLISHER, tmp_path / "app")
    leftover = heard(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(tmp_path) == [leftover]
    with publish(tmp_path / "other"):
        assert leftover not in names(tmp_path)
    assert names(tmp_path) == ["other"]


def test_what_a_living_process_builds_is_not_swept(
    tmp_path: Path, start_python: StartPython
) -> None:
    process = start_python(PUBLISHER, tmp_path / "app")
    building = heard(process)
    assert sweep(tmp_path) == []
    assert names(tmp_path) == [building]


def test_what_a_process_unseen_here_builds_is_not_swept(tmp_path: Path) -> None:
    building = tmp_path / ".app.4194305-0.tmp"  # no process has this number: see proc(5), pid_max
    building.mkdir()
    with try_lock(building, "shared"):
        assert sweep(tmp_path) == []
    assert sweep(tmp_path) == [building]


def test_a_folder_is_not_swept_while_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = folder._publish

    def swept_first(fd: int, temporary: str, target: str) -> None:
        monkeypatch.setattr(folder, "_is_alive", lambda _: False)  # in another container
        assert not sweep(tmp_path)
        published(fd, temporary, target)

    monkeypatch.setattr(folder, "_publish", swept_first)
    with publish(tmp_path / "app") as building:
        (building / "file").write_bytes(b"whole")
    assert (tmp_path / "app" / "file").read_bytes() == b"whole"
    try_lock(tmp_path / "app", "exclusive").close()


def test_two_processes_of_one_number_build_under_different_names(
    tmp_path: Path, start_python: StartPython
) -> None:
    """The first process of a container has the same number each time it is started."""
    numbers = set()
    for _ in range(3):
        name = heard(start_python(PUBLISHER, tmp_path / "app"))
        numbers.add(name.rpartition("-")[2])
    assert len(numbers) == 3


def test_only_names_of_ours_are_swept(tmp_path: Path) -> None:
    for name in (".app.tmp", "app.4194305-0.tmp", ".app.4194305-0.tmp.gz", ".x.4194305.tmp"):
        (tmp_path / name).touch()
    assert sweep(tmp_path) == []


def test_a_long_name_can_be_published(tmp_path: Path) -> None:
    name = "ü" * 127  # 254 bytes; a name has at most 255
    with publish(tmp_path / name):
        pass
    replace_file(tmp_path / name / ("x" * 255), b"data")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs"])
def test_what_was_published_durably_survives_a_crash(tmp_path: Path, kind: str) -> None:
    crashed = tmp_path / "crashed.img"
    with mounted(kind, tmp_path, SMALLEST) as filesystem:
        assert filesystem.image is not None
        (filesystem.folder / "old").mkdir()
        replace_file(filesystem.folder / "old" / "state", b"registers", durable=True)
        with publish(filesystem.folder / "kept", durable=True) as building:
            (building / "sub").mkdir()
            (building / "sub" / "0.delta").write_bytes(b"pages" * MIB)
            (building / "machine.json").write_text("{}")
        with publish(filesystem.folder / "hasty") as building:
            (building / "0.delta").write_bytes(b"pages" * MIB)
        clone_file(filesystem.image, crashed)  # what the disk held, had the power gone now
    with mounted_image(kind, crashed, tmp_path) as filesystem:
        kept = filesystem.folder / "kept"
        assert names(kept) == ["machine.json", "sub"]
        assert (kept / "machine.json").read_text() == "{}"
        assert (kept / "sub" / "0.delta").read_bytes() == b"pages" * MIB
        assert (filesystem.folder / "old" / "state").read_bytes() == b"registers"
        assert not (filesystem.folder / "hasty" / "0.delta").exists()  # the test can fail


def test_a_replaced_file_has_the_new_bytes_and_no_leftovers(filesystem: Filesystem) -> None:
    path = filesystem.folder / "machine.json"
    replace_file(path, b"old")
    replace_file(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert names(filesystem.folder) == ["machine.json"]


def test_a_reader_sees_all_old_or_all_new(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    replace_file(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(200):
        replace_file(path, contents[turn % 2])
    done.set()
    thread.join()
    assert seen
    assert seen <= set(contents)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, MIB) as small:
        path = small.folder / "machine.json"
        replace_file(path, b"old")
        with pytest.raises(OSError, match="No space"):
            replace_file(path, bytes(2 * MIB))
        assert path.read_bytes() == b"old"
        assert names(small.folder) == ["machine.json"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "/etc/passwd", "a/b", "../a", "a/..", "a\\b", "a\0b", "x" * 300, "\ud800"],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadImage, match="file name"):
        child(tmp_path, name)


@pytest.mark.parametrize("name", [None, 7, b"a", ["a"]])
def test_a_name_that_is_no_string_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(BadImage, match="file name"):
        child(tmp_path, name)  # type: ignore[arg-type]


@example("...")
@example("a..b")
@example(" ")
@given(st.text())
def test_an_accepted_name_stays_directly_in_the_folder(name: str) -> None:
    folder = Path("/nowhere at all")
    try:
        path = child(folder, name)
    except BadImage:
        return
    assert Path(os.path.normpath(path)).parent == folder
    assert path.name == name


def test_a_symlink_is_refused_wherever_it_points(tmp_path: Path) -> None:
    (tmp_path / "inside").touch()
    for name, target in (("a", "inside"), ("b", "/etc/passwd"), ("c", "nowhere")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(BadImage, match="symlink"):
            child(tmp_path, name)


def test_a_plain_name_is_accepted_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "ram.img").touch()
    assert child(tmp_path, "ram.img") == tmp_path / "ram.img"
    assert child(tmp_path, "later") == tmp_path / "later"


def test_a_removed_folder_is_gone(filesystem: Filesystem) -> None:
    folder = filesystem.folder / "app"
    with publish(folder) as building:
        (building / "sub").mkdir()
        (building / "sub" / "file").touch()
    remove(folder)
    assert names(filesystem.folder) == []


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_a_folder_in_use_is_not_removed(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "file").touch()
    with try_lock(folder, mode):  # type: ignore[arg-type]
        with pytest.raises(MachineLocked, match="this process"):
            remove(folder)
        assert names(folder) == ["file"]


def test_a_file_is_not_removed_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        remove(tmp_path / "file")
    assert names(tmp_path) == ["file"]
