"""Folders that were made to do harm: a record, layers and files as no machine would write them."""

import json
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.errors import BadImage, OrchestraError
from orchestra.io.entry import AT_CWD
from orchestra.machine import Drive, Machine
from orchestra.machine._core import REGISTERS, checksum
from orchestra.machine.clone import clone_machine, export_range
from orchestra.machine.compact import compact_machine
from orchestra.machine.delta import HEADER, write_delta
from orchestra.machine.record import seal
from orchestra.machine.verify import verify_folder
from tests.guests import ledger_config, write_image
from tests.processes import run_python

PAGE = 4096
FIELDS = ("magic", "version", "page", "entries", "slots", "rest", "state", "cycle", "sums")
SLOW = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def sealed(fields):
    """A layer's header whose checksum is right."""
    head = HEADER.pack(*fields)[:-4]
    return head + checksum(head).to_bytes(4, "little")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with an image, a shared drive, an empty one, and two layers."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "disk.img").write_bytes(os.urandom(2 << 20))
    drives = (
        Drive("disk", kind="pmem", path=folder / "disk.img", shared=True),
        Drive("empty", length=8192),
    )
    config = ledger_config(write_image(folder / "image"), drives=drives)
    with Machine.create(config, folder / "app") as machine:
        machine.run()
        machine.advance(b"fill 500 7")
        machine.snapshot(folder / "first")
        machine.advance(b"mint alice 1")
        machine.snapshot(folder / "snap")
    return folder / "snap"


def copied(original, folder):
    shutil.copytree(original, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def layers(folder):
    return sorted(path.name for path in folder.glob("*.delta"))


def is_refused_or_harmless(folder, *names):
    """Every way in either works or says which file of the folder is wrong."""
    for enter in (
        lambda: Machine.open(folder).close(),
        lambda: Machine.open(folder, storage="backing").close(),
        lambda: clone_machine(folder, folder.with_name("clone"), flatten=True),
        lambda: export_range(folder, "ram", folder.with_name("ram.bin")),
        lambda: verify_folder(folder),
        lambda: compact_machine(folder),
    ):
        try:
            enter()
        except OrchestraError as error:
            said = str(error)
            if not any(name in said for name in names):
                raise AssertionError(f"does not name {names}: {said}") from error
        for path in (folder.with_name("clone"), folder.with_name("ram.bin")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 4095, 4096, 1 << 31, 1 << 44, 1 << 62, 1 << 63, 1 << 64, 1 << 4000]),
    st.floats(allow_nan=False),
    st.sampled_from(
        ["", ".", "..", "/etc/passwd", "../../etc/passwd", "a\0b", "x" * 300, "0.delta", "\ud800"]
    ),
    st.sampled_from([[], {}, [[]], {"": {}}]),
)


def places(tree, path=()):
    """Every path to a value in a JSON tree."""
    yield path
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*path, key))


@SLOW
@given(data=st.data())
def test_any_value_in_the_record_may_be_any_other(original, tmp_path_factory, data):
    folder = copied(original, tmp_path_factory.mktemp("record") / "app")
    tree = json.loads((folder / "machine.json").read_bytes())
    del tree["checksum"]
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from([place for place in places(tree) if place]))
        at = tree
        for key in path:
            at = at[key]
        if data.draw(st.booleans()) or isinstance(at, list):
            at[last] = data.draw(LEAVES)
        else:
            del at[last]
    (folder / "machine.json").write_bytes(seal(json.dumps(tree).encode()))
    is_refused_or_harmless(folder, *(path.name for path in folder.iterdir()))


@SLOW
@given(
    values=st.dictionaries(
        st.sampled_from(FIELDS[1:]),
        st.sampled_from([0, 1, 2, 511, 512, 4095, 4096, 4097, 1 << 31, (1 << 64) - 1]),
        min_size=1,
        max_size=3,
    ),
    newest=st.booleans(),
)
def test_any_number_in_a_layer_may_be_any_other_with_checksums_to_match(
    original, tmp_path_factory, values, newest
):
    folder = copied(original, tmp_path_factory.mktemp("layer") / "app")
    path = folder / layers(folder)[newest]
    data = bytearray(path.read_bytes())
    fields = list(HEADER.unpack(data[: HEADER.size]))
    for name, value in values.items():
        number = FIELDS.index(name)
        fields[number] = value % (1 << (32 if name in ("version", "page") else 64))
    data[: HEADER.size] = sealed(fields)
    path.write_bytes(data)
    is_refused_or_harmless(folder, path.name)


@SLOW
@given(
    entries=st.lists(
        st.one_of(
            st.integers(0, (1 << 64) - 1), st.sampled_from([1 << 63, (1 << 64) - 1, 0x80000])
        ),
        max_size=6,
    )
)
def test_any_index_with_checksums_to_match_reaches_only_memory(original, tmp_path_factory, entries):
    folder = copied(original, tmp_path_factory.mktemp("index") / "app")
    name = layers(folder)[0]
    slots = sum(not entry >> 63 or entry == (1 << 64) - 1 for entry in entries)
    (folder / name).unlink()
    write_delta(AT_CWD, str(folder / name), entries, b"\1" * PAGE * slots, bytes(PAGE))
    is_refused_or_harmless(folder, name)


@SLOW
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, PAGE // 8 - 1),
            st.one_of(
                st.sampled_from([0, 1, 3, 255, 1 << 31, 1 << 63, (1 << 64) - 1, 0x8000_0000]),
                st.integers(0, (1 << 64) - 1),
                st.integers(0, 63).map(lambda bit: 1 << bit),
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    engine=st.sampled_from(["interpreter", "translator"]),
)
def test_any_state_with_checksums_to_match_is_refused_or_runs(
    original, tmp_path_factory, changes, engine
):
    """It may be one that no machine comes to, but nothing in it leads out of the guest."""
    folder = copied(original, tmp_path_factory.mktemp("state") / "app")
    name = layers(folder)[-1]
    with Machine.open(folder) as machine:
        state = bytearray(machine._core.state)
    for place, value in changes:
        state[8 * place : 8 * place + 8] = value.to_bytes(8, "little")
    (folder / name).unlink()
    write_delta(AT_CWD, str(folder / name), [], b"", bytes(state))
    try:
        machine = Machine.open(folder)
    except BadImage as refused:
        if name not in str(refused):
            raise
        return
    with machine:
        machine.engine = engine
        machine.console_input(b"ab")
        for _ in range(4):
            machine.run(max_cycles=500)
        digest = machine.digest()
        machine.rollback()
        with machine.fork() as fork:
            assert all(fork.registers[name] >= 0 for name in REGISTERS)
        machine.console_input(b"ab")
        for _ in range(4):
            machine.run(max_cycles=500)
        assert machine.digest() == digest


def make_odd(path, kind, outside):
    """Put something else in the place of a file."""
    data = path.read_bytes()
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "zero device":
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        case "terminal":
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(5, 0))
        case "block device":
            os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(7, 255))
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                here = Path.cwd()
                os.chdir(path.parent)  # names of sockets are short
                server.bind(path.name)
                os.chdir(here)
        case "folder":
            path.mkdir()
        case "symlink":
            outside.write_bytes(data)
            path.symlink_to(outside)
        case "dangling symlink":
            path.symlink_to(outside)
        case "symlink to itself":
            path.symlink_to(path.name)
        case "empty":
            path.write_bytes(b"")
        case "terabytes of nothing":
            path.write_bytes(data)
            os.truncate(path, 15 << 40)


ODD = ("fifo", "zero device", "terminal", "block device", "socket", "folder", "symlink")
ODD += ("dangling symlink", "symlink to itself", "empty", "terabytes of nothing")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["machine.json", "0", "1", "images0.img", "disk.img"])
def test_a_file_that_is_something_else_is_named(original, tmp_path, name, kind):
    folder = copied(original, tmp_path / "app")
    name = layers(folder)[int(name)] if name in "01" else name
    make_odd(folder / name, kind, tmp_path / "outside")
    for storage in ("memory", "backing"):
        with pytest.raises(BadImage, match=name.replace(".", r"\.")):
            Machine.open(folder, storage=storage)
    is_refused_or_harmless(folder, name)
    assert not verify_folder(folder).ok


def test_a_layer_of_terabytes_that_are_not_there_costs_no_memory(original, tmp_path):
    folder = copied(original, tmp_path / "app")
    path = folder / layers(folder)[0]
    fields = list(HEADER.unpack(path.read_bytes()[: HEADER.size]))
    slots = 1 << 31
    fields[3] = fields[4] = slots
    fields[5], fields[6], fields[8] = PAGE * (1 + slots), 0, 0
    with path.open("wb") as file:
        file.write(sealed(fields))
        file.truncate(PAGE * (1 + slots) + 8 * slots)
    said = run_python(
        r"""
import re, sys
from pathlib import Path
from orchestra.errors import BadImage
from orchestra.machine import Machine
try:
    Machine.open(sys.argv[1])
except BadImage as error:
    print(error)
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
""",
        folder,
    ).stdout.splitlines()
    assert path.name in said[0]
    assert int(said[1]) < 200 * 1024


def test_a_layer_of_another_snapshot_is_refused(original, tmp_path):
    folder = copied(original, tmp_path / "app")
    newest = layers(folder)[-1]
    shutil.copyfile(
        original.with_name("first") / layers(original.with_name("first"))[-1], folder / newest
    )
    with pytest.raises(BadImage, match=rf"{newest}: cycle"):
        Machine.open(folder)


@pytest.mark.parametrize("field", ["deltas", "images"])
def test_a_record_that_names_a_file_again_and_again_is_refused(original, tmp_path, field):
    folder = copied(original, tmp_path / "app")
    tree = json.loads((folder / "machine.json").read_bytes())
    del tree["checksum"]
    for times in (2, 5000):
        tree[field] = tree[field][:1] * times
        (folder / "machine.json").write_bytes(seal(json.dumps(tree).encode()))
        with pytest.raises(BadImage, match=rf"machine\.json.*{field}"):
            Machine.open(folder)


def test_a_link_to_a_folder_is_not_a_folder(original, tmp_path):
    (tmp_path / "link").symlink_to(original)
    with pytest.raises(BadImage, match="a symlink"):
        Machine.open(tmp_path / "link")


def test_paths_in_the_config_of_a_record_are_not_looked_at(original, tmp_path):
    """Whoever made the folder may not have us read, or wait for, files elsewhere."""
    folder = copied(original, tmp_path / "app")
    os.mkfifo(tmp_path / "fifo")
    tree = json.loads((folder / "machine.json").read_bytes())
    del tree["checksum"]
    with Machine.open(folder) as machine:
        expected = machine.digest()
    tree["config"]["boot"]["elf"] = str(tmp_path / "fifo")
    for drive in tree["config"]["drives"]:
        drive["path"] = str(tmp_path / "fifo")
    (folder / "machine.json").write_bytes(seal(json.dumps(tree).encode()))
    with Machine.open(folder) as machine:
        assert machine.digest() == expected
        machine.snapshot(tmp_path / "snap")
    compact_machine(folder)
    clone_machine(folder, tmp_path / "plain", flatten=True)
