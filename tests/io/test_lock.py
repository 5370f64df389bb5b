"""Locks between processes and threads: orchestra/io/lock.py, the blocking half."""

import os
import threading
from pathlib import Path

import pytest
from filesystems import Filesystem
from programs import RunPython, StartPython, heard, say

from orchestra.errors import BadImage, MachineLocked
from orchestra.io import try_lock, wait_lock

HOLDER = """
import sys
from orchestra.io import try_lock
held = try_lock(sys.argv[1], sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
held.close()
print("unlocked", flush=True)
sys.stdin.readline()
"""


def test_exclusive_excludes_everybody_and_shared_only_exclusive(filesystem: Filesystem) -> None:
    folder = filesystem.folder
    first, second = try_lock(folder, "shared"), try_lock(folder, "shared")
    with first, second, pytest.raises(MachineLocked):
        try_lock(folder, "exclusive")
    with try_lock(folder, "exclusive"):
        with pytest.raises(MachineLocked):
            try_lock(folder, "shared")
        with pytest.raises(MachineLocked):
            try_lock(folder, "exclusive")
    try_lock(folder, "exclusive").close()


def test_a_file_is_locked_like_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "drive.img"
    path.write_bytes(b"data")
    with try_lock(path, "exclusive") as held:
        assert os.fstat(held.fileno()).st_ino == path.stat().st_ino
        with pytest.raises(MachineLocked):
            try_lock(path, "shared")
    assert path.read_bytes() == b"data"


def test_the_error_names_the_path_and_the_process_that_holds_it(
    filesystem: Filesystem, start_python: StartPython
) -> None:
    process = start_python(HOLDER, filesystem.folder, "exclusive")
    assert heard(process) == "locked"
    with pytest.raises(MachineLocked, match=str(filesystem.folder)) as caught:
        try_lock(filesystem.folder, "shared")
    assert caught.value.path == filesystem.folder
    assert caught.value.holder is not None
    assert caught.value.holder.startswith(f"pid {process.pid} (")
    say(process)
    assert heard(process) == "unlocked"
    try_lock(filesystem.folder, "exclusive").close()


def test_the_error_says_when_the_holder_is_this_process(tmp_path: Path) -> None:
    with try_lock(tmp_path, "shared"), pytest.raises(MachineLocked) as caught:
        try_lock(tmp_path, "exclusive")
    assert caught.value.holder is not None
    assert caught.value.holder.endswith("this process")


def test_a_killed_holder_leaves_no_lock(tmp_path: Path, start_python: StartPython) -> None:
    process = start_python(HOLDER, tmp_path, "exclusive")
    assert heard(process) == "locked"
    process.kill()
    process.wait()
    try_lock(tmp_path, "exclusive").close()


def test_closing_twice_is_fine_and_unlocks_once(tmp_path: Path) -> None:
    held = try_lock(tmp_path, "exclusive")
    held.close()
    with try_lock(tmp_path, "exclusive"):
        held.close()
        assert held.closed
        with pytest.raises(MachineLocked):
            try_lock(tmp_path, "shared")
    with pytest.raises(ValueError, match="closed"):
        held.fileno()


def test_closing_unlocks_although_a_copy_of_the_descriptor_lives_on(tmp_path: Path) -> None:
    held = try_lock(tmp_path, "exclusive")
    copy = os.dup(held.fileno())  # as a process has that is just being spawned
    held.close()
    try_lock(tmp_path, "exclusive").close()
    os.close(copy)


def test_a_forgotten_lock_is_unlocked(tmp_path: Path) -> None:
    held = try_lock(tmp_path, "exclusive")
    del held
    try_lock(tmp_path, "exclusive").close()


def test_waiting_ends_when_the_holder_unlocks(tmp_path: Path) -> None:
    held = try_lock(tmp_path, "exclusive")
    got = threading.Event()

    def wait() -> None:
        with wait_lock(tmp_path, "exclusive"):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.02)
    held.close()
    assert got.wait(10)
    thread.join()


def test_waiting_has_a_timeout(tmp_path: Path) -> None:
    with try_lock(tmp_path, "exclusive"), pytest.raises(MachineLocked, match="this process"):
        wait_lock(tmp_path, "shared", timeout_seconds=0.02)


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(BadImage, match="a symlink"):
        try_lock(tmp_path / "link", "shared")


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadImage, match="a folder or a file"):
        try_lock(tmp_path / "pipe", "shared")


def test_a_lock_on_a_removed_folder_is_not_handed_out(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    held = try_lock(folder, "exclusive")
    failure: list[BaseException] = []

    def wait() -> None:
        try:
            wait_lock(folder, "exclusive")
        except FileNotFoundError as error:
            failure.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    folder.rmdir()
    held.close()
    thread.join(10)
    assert len(failure) == 1


def test_a_folder_put_in_its_place_is_locked_instead(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    held = try_lock(folder, "exclusive")
    folder.rename(tmp_path / "old")
    folder.mkdir()
    with wait_lock(folder, "exclusive") as other:
        assert os.fstat(other.fileno()).st_ino == folder.stat().st_ino
    held.close()


def test_a_fork_does_not_hold_the_lock(tmp_path: Path, run_python: RunPython) -> None:
    source = """
import os, sys
from orchestra.io import try_lock
held = try_lock(sys.argv[1], "exclusive")
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    closed = held.closed
    held.close()                      # must not unlock the parent's
    os.read(reading, 1)
    os._exit(0 if closed else 1)
from orchestra.errors import MachineLocked
try:
    try_lock(sys.argv[1], "shared")
except MachineLocked:
    print("still held by the parent")
held.close()
try_lock(sys.argv[1], "exclusive").close()  # while the child lives
os.close(writing)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    result = run_python(source, tmp_path)
    assert result.stdout == "still held by the parent\n0\n"


def test_a_spawned_program_does_not_hold_the_lock(
    tmp_path: Path, start_python: StartPython
) -> None:
    with try_lock(tmp_path, "exclusive"):
        process = start_python("import sys; print('up', flush=True); sys.stdin.readline()")
        assert heard(process) == "up"
    try_lock(tmp_path, "exclusive").close()
