"""Pages that cannot be read or written: orchestra/io/fault.py."""

import ctypes
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from filesystems import KINDS, MIB, SMALLEST, empty, fill, mounted
from orchestra.io._native import ffi, lib
from programs import RunPython

from orchestra.errors import BackingFault
from orchestra.io import PAGE, create_sparse, guarded, map_file, publish


def test_a_truncated_file_is_named_with_offset_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "drive.img"
    create_sparse(path, 8 * PAGE)
    with map_file(path, offset=PAGE + 10) as mapping:
        os.truncate(path, 2 * PAGE)
        assert mapping.read(0, PAGE - 10) == bytes(PAGE - 10)
        with pytest.raises(BackingFault, match=r"drive\.img.*truncated") as caught:
            mapping.read(3 * PAGE, 5)
        assert caught.value.path == path
        assert caught.value.offset == 4 * PAGE + 10
        assert caught.value.reason == "truncated"


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_under_a_sparse_file_is_no_space(tmp_path: Path, kind: str) -> None:
    with mounted(kind, tmp_path, MIB if kind == "tmpfs" else SMALLEST) as filesystem:
        path = filesystem.folder / "drive.img"
        create_sparse(path, 64 * MIB)
        ballast = fill(filesystem.folder)
        with map_file(path, mode="shared") as mapping:
            done = 0

            def write_everywhere() -> None:
                nonlocal done
                for offset in range(0, mapping.length, 64 * PAGE):
                    mapping.write(offset, b"dirty")
                    done += 1

            with pytest.raises(BackingFault) as caught:
                write_everywhere()
            assert caught.value.reason == "no space"
            assert caught.value.path == path
            assert caught.value.offset == done * 64 * PAGE
            empty(ballast)
            mapping.write(caught.value.offset, b"dirty")
            assert mapping.read(caught.value.offset, 6) == b"dirty\0"


def test_a_disk_that_cannot_be_read_is_an_input_output_error(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as filesystem:
        assert filesystem.image is not None
        path = filesystem.folder / "drive.img"
        path.write_bytes(os.urandom(MIB))
        with path.open("rb") as file, map_file(path) as mapping:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            os.truncate(filesystem.image, 16 * PAGE)  # the disk ends before the file's blocks
            with pytest.raises(BackingFault) as caught:
                mapping.read(100 * PAGE, 1)
        assert caught.value.reason == "input/output error"
        assert caught.value.offset == 100 * PAGE


def test_after_a_fault_is_mended_the_same_access_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "drive.img"
    path.write_bytes(b"x" * 2 * PAGE)
    with map_file(path, mode="shared") as mapping:
        for _ in range(100):
            os.truncate(path, PAGE)
            with pytest.raises(BackingFault):
                mapping.write(PAGE, b"y")
            os.truncate(path, 2 * PAGE)
            mapping.write(PAGE, b"y")
            assert mapping.read(PAGE - 1, 2) == b"xy"


def test_a_file_that_was_moved_is_named_where_it_is_now(tmp_path: Path) -> None:
    with publish(tmp_path / "app") as building:
        create_sparse(building / "ram.img", 2 * PAGE)
        mapping = map_file(building / "ram.img")
    os.truncate(tmp_path / "app" / "ram.img", 0)
    with mapping, pytest.raises(BackingFault) as caught:
        mapping.read(PAGE, 1)
    assert caught.value.path == tmp_path / "app" / "ram.img"
    assert caught.value.reason == "truncated"


def test_a_file_that_was_replaced_is_not_mistaken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ram.img"
    create_sparse(path, 2 * PAGE)
    with path.open("r+b") as old, map_file(path) as mapping:
        path.unlink()
        create_sparse(path, 2 * PAGE)
        old.truncate(0)
        with pytest.raises(BackingFault) as caught:
            mapping.read(PAGE, 1)
    assert caught.value.offset == PAGE
    assert caught.value.reason == "input/output error"  # nobody can tell any more


def test_many_threads_fault_at_once_and_each_gets_its_own_file(tmp_path: Path) -> None:
    start = threading.Barrier(16)
    wrong: list[object] = []

    def suffer(number: int) -> None:
        path = tmp_path / f"{number}.img"
        create_sparse(path, 64 * PAGE)
        with map_file(path) as mapping:
            os.truncate(path, 0)
            start.wait()
            for page in range(64):
                map_file(path_of_all).close()  # the registry changes under everybody's feet
                try:
                    wrong.append(mapping.read(page * PAGE + number, 1))
                except BackingFault as error:
                    if (error.path, error.offset) != (path, page * PAGE + number):
                        wrong.append(error)

    path_of_all = tmp_path / "all.img"
    create_sparse(path_of_all, PAGE)
    threads = [threading.Thread(target=suffer, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FAULT_WORDS = ffi.sizeof("struct io_fault") // 8


class Nest(ctypes.Structure):
    """The argument of the C function below."""

    _fields_ = [
        ("guarded", ctypes.c_void_p),
        ("copy", ctypes.c_void_p),
        ("inner", ctypes.c_uint64 * 3),
        ("outer", ctypes.c_uint64 * 3),
        ("inner_fault", ctypes.c_uint64 * FAULT_WORDS),
        ("inner_result", ctypes.c_int),
        ("reached", ctypes.c_int),
    ]


NEST = f"""
struct nest {{ int (*guarded)(void *, void *, void *); void (*copy)(void *);
              unsigned long long inner[3], outer[3], fault[{FAULT_WORDS}];
              int inner_result, reached; }};
void nest(void *argument) {{
    struct nest *nest = argument;
    nest->inner_result = nest->guarded(nest->copy, nest->inner, nest->fault);
    nest->reached = 1;
    nest->copy(nest->outer);
    nest->reached = 2;
}}
"""


def test_a_fault_ends_the_innermost_guarded_call_only(tmp_path: Path) -> None:
    (tmp_path / "nest.c").write_text(NEST)
    shared = tmp_path / "nest.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shared, tmp_path / "nest.c"], check=True)
    function = ctypes.cast(ctypes.CDLL(str(shared)).nest, ctypes.c_void_p).value
    assert function is not None
    path = tmp_path / "drive.img"
    create_sparse(path, 4 * PAGE)
    local = ctypes.create_string_buffer(8)
    with map_file(path) as mapping:
        os.truncate(path, PAGE)
        nest = Nest(
            guarded=int(ffi.cast("uintptr_t", ffi.addressof(lib, "io_guarded"))),
            copy=int(ffi.cast("uintptr_t", ffi.addressof(lib, "io_copy"))),
            inner=(ctypes.addressof(local), mapping.address + 2 * PAGE, 1),
            outer=(ctypes.addressof(local), mapping.address + 3 * PAGE, 1),
        )
        with pytest.raises(BackingFault) as caught:
            guarded(function, ctypes.addressof(nest))
        assert nest.inner_result == 1
        assert nest.inner_fault[1] == 2 * PAGE
        assert nest.reached == 1
        assert caught.value.offset == 3 * PAGE
        nest.outer[1] = mapping.address
        guarded(function, ctypes.addressof(nest))
        assert nest.reached == 2


FOREIGN = """
import faulthandler, mmap, os, signal, sys, tempfile
for step in sys.argv[1].split():
    if step == "enable": faulthandler.enable()
    if step == "disable": faulthandler.disable()
    if step == "ignore": signal.signal(signal.SIGBUS, signal.SIG_IGN)
    if step == "python": signal.signal(signal.SIGBUS, lambda *_: print("handled", flush=True))
    if step == "import": import orchestra.io
    if step == "fault":
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/file"
            orchestra.io.create_sparse(path, 8192)
            with orchestra.io.map_file(path) as mapping:
                os.truncate(path, 0)
                try:
                    mapping.read(0, 1)
                except orchestra.errors.BackingFault:
                    print("ours", flush=True)
    if step == "send": os.kill(os.getpid(), signal.SIGBUS)
    if step == "foreign":
        with tempfile.TemporaryFile() as file:
            file.truncate(8192)
            memory = mmap.mmap(file.fileno(), 8192)
            file.truncate(0)
            memory[5000]
print("survived")
"""


@pytest.mark.parametrize(
    "steps",
    [
        "enable import foreign",
        "enable import fault foreign",
        "import enable foreign",
        "import enable fault foreign",
        "import enable fault disable fault enable fault fault foreign",
        "import enable fault send",
        "enable import send",
    ],
)
def test_a_foreign_bus_error_reaches_faulthandler_and_kills(
    run_python: RunPython, steps: str
) -> None:
    result = run_python(FOREIGN, steps)
    assert result.returncode == -signal.SIGBUS
    assert result.stdout == "ours\n" * steps.count("fault")
    assert result.stderr.count("Fatal Python error: Bus error") == 1
    assert 'File "<string>", line' in result.stderr


@pytest.mark.parametrize(
    "steps",
    [
        "import foreign",
        "import fault foreign",
        "import send",
        "ignore import foreign",
        "ignore import fault foreign",
        "import enable fault disable foreign",
        "enable import disable fault foreign",
    ],
)
def test_a_foreign_bus_error_kills_where_nobody_else_handles_it(
    run_python: RunPython, steps: str
) -> None:
    result = run_python(FOREIGN, steps)
    assert result.returncode == -signal.SIGBUS
    assert result.stdout == "ours\n" * steps.count("fault")
    assert "Fatal Python error" not in result.stderr


@pytest.mark.parametrize(
    ("steps", "printed"),
    [
        ("ignore import send", "survived\n"),
        ("import ignore fault send fault", "ours\nours\nsurvived\n"),
        ("python import send fault send", "handled\nours\nhandled\nsurvived\n"),
        ("import python send fault send fault", "handled\nours\nhandled\nours\nsurvived\n"),
    ],
)
def test_a_signal_that_was_sent_reaches_the_handler_of_the_application(
    run_python: RunPython, steps: str, printed: str
) -> None:
    result = run_python(FOREIGN, steps)
    assert result.stdout == printed
    assert result.returncode == 0


UNGUARDED = """
import sys
from orchestra.io import create_sparse, map_file
import os
from orchestra.io._native import ffi, lib
create_sparse(sys.argv[1], 8192)
mapping = map_file(sys.argv[1])
os.truncate(sys.argv[1], 0)
try:
    mapping.read(0, 1)
except Exception:
    print("guarded", flush=True)
ffi.cast("char *", mapping.address)[0]
"""


def test_our_own_memory_kills_when_no_guarded_call_is_to_blame(
    tmp_path: Path, run_python: RunPython
) -> None:
    result = run_python(UNGUARDED, tmp_path / "drive.img")
    assert result.stdout == "guarded\n"
    assert result.returncode == -signal.SIGBUS


FORKED = """
import os, sys, threading
from orchestra.errors import BackingFault
from orchestra.io import create_sparse, map_file
path = sys.argv[1]
create_sparse(path, 8192)
mapping = map_file(path)
stop = threading.Event()

def churn():  # keeps the registry's mutex busy while we fork
    while not stop.is_set():
        map_file(__import__("orchestra.errors").errors.__file__).close()

thread = threading.Thread(target=churn)
thread.start()
os.truncate(path, 0)
for _ in range(50):
    child = os.fork()
    if child == 0:
        try:
            mapping.read(4096, 1)
        except BackingFault as error:
            map_file(__file__ if "__file__" in globals() else os.__file__).close()
            os._exit(error.offset // 4096)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
stop.set()
thread.join()
print("fifty children faulted")
"""


def test_a_forked_child_guards_its_own_calls(tmp_path: Path, run_python: RunPython) -> None:
    result = run_python(FORKED, tmp_path / "drive.img")
    assert result.stdout == "fifty children faulted\n", result.stderr


REUSED = """
import os, sys
from orchestra.errors import BackingFault
from orchestra.io import create_sparse, map_file
lost, fresh = sys.argv[1:]
for path in (lost, fresh):
    create_sparse(path, 1 << 30)
mapping = map_file(lost, mode="shared")
address = mapping.address
child = os.fork()
if child == 0:
    again = map_file(fresh)
    os.truncate(fresh, 0)
    try:
        again.read(8192, 1)
    except BackingFault as error:
        print(again.address == address, error.path.name, error.offset, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_child_that_maps_where_the_parents_file_was_gets_its_own_named(
    tmp_path: Path, run_python: RunPython
) -> None:
    result = run_python(REUSED, tmp_path / "lost", tmp_path / "fresh")
    assert result.stdout == "True fresh 8192\n", result.stderr
