"""Machines that could not be sealed, or whose snapshot failed: nothing that they did is lost."""

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name

import pytest

from orchestra.errors import BackingFault, FolderExists, MachineClosed, MachineTorn
from orchestra.machine import Machine
from orchestra.machine.record import read_record
from orchestra.machine.torn import settle_torn
from orchestra.machine.verify import verify_folder
from tests.filesystems import empty, fill, mounted
from tests.guests import ledger_config, ready_ledger

MIB = 1 << 20
PLACE = 0x8100_0000
FULL = (OSError, BackingFault)  # of a file that is written, or that is mapped


@pytest.fixture
def small(tmp_path):
    with mounted("tmpfs", tmp_path, 16 * MIB) as filesystem:
        yield filesystem.folder


def test_a_machine_that_cannot_be_sealed_stays_open_until_there_is_room(small):
    machine = ready_ledger(small / "app")
    machine.advance(b"mint alice 3")
    expected = machine.digest()
    ballast = fill(small)
    with pytest.raises(FULL):
        machine.close()
    assert not machine.closed
    assert machine.digest() == expected
    empty(ballast)
    assert machine.advance(b"mint alice 1").status == "accepted"
    machine.close()
    with Machine.open(small / "app") as again:
        assert again.inspect(b"balance alice").reports == (b"4",)


def test_leaving_the_block_of_a_machine_that_cannot_be_sealed_ends_it(small):
    Machine.create(ledger_config(), small / "app", storage="memory").close()
    block = ExitStack()
    machine = block.enter_context(Machine.open(small / "app", storage="backing"))
    machine.run()
    fill(small)
    with pytest.raises(FULL):
        block.close()
    with pytest.raises(MachineClosed):
        machine.run()
    with pytest.raises(MachineTorn):
        Machine.open(small / "app", storage="backing")
    (small / "ballast").unlink()
    with Machine.open(small / "app", storage="backing", torn="discard") as again:
        assert again.cycle == 0


def test_a_discarded_machine_leaves_a_torn_folder(tmp_path):
    machine = ready_ledger(tmp_path / "app")
    machine.discard()
    machine.discard()
    machine.close()
    with pytest.raises(MachineClosed):
        machine.run()
    with pytest.raises(MachineTorn):
        Machine.open(tmp_path / "app")


@pytest.mark.parametrize("call", ["run", "trace", "write", "checkpoint", "advance", "snapshot"])
def test_a_closed_machine_does_not_touch_its_folder(call, tmp_path):
    machine = ready_ledger(tmp_path / "app")
    machine.close()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    calls = {
        "run": lambda: machine.run(max_cycles=1),
        "trace": lambda: list(machine.trace(max_cycles=1)),
        "write": lambda: machine.write(PLACE, b"x"),
        "checkpoint": machine.checkpoint,
        "advance": lambda: machine.advance(b"total"),
        "snapshot": lambda: machine.snapshot(tmp_path / "snap"),
    }
    with pytest.raises(MachineClosed):
        calls[call]()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    Machine.open(tmp_path / "app").close()


def test_discarding_a_machine_that_has_nothing_to_seal_leaves_its_folder_clean(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        expected = machine.digest()
    Machine.open(tmp_path / "app", storage="backing").discard()
    Machine.open(tmp_path / "app").discard()
    with Machine.open(tmp_path / "app") as machine:
        assert machine.digest() == expected


@pytest.mark.parametrize("again", ["close", "run and close", "snapshot"])
def test_a_snapshot_that_failed_loses_nothing_of_the_machine(again, tmp_path):
    """Only memory was written, so that the state page alone tells of no change."""
    ready_ledger(tmp_path / "app").close()
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        machine.write(PLACE, b"precious")
        (tmp_path / "taken").mkdir()
        with pytest.raises(FolderExists):
            machine.snapshot(tmp_path / "taken")
        with pytest.raises(FileNotFoundError):
            machine.snapshot(tmp_path / "nowhere" / "snap")
        if again == "run and close":
            machine.run(max_cycles=5)
        if again == "snapshot":
            machine.snapshot(tmp_path / "snap")
            with Machine.open(tmp_path / "snap") as copy:
                assert copy.read(PLACE, 8) == b"precious"
        expected = machine.digest()
    with Machine.open(tmp_path / "app") as machine:
        assert machine.read(PLACE, 8) == b"precious"
        assert machine.digest() == expected


def test_a_full_disk_at_any_step_of_a_snapshot_loses_nothing(tmp_path):
    """Room is given a page at a time, so that it fails at one step after the other."""
    with mounted("ext4", tmp_path) as filesystem:
        folder = filesystem.folder
        with ready_ledger(folder / "app") as machine:
            machine.advance(b"fill 2000 7")
            expected = machine.digest()
            ballast = fill(folder)
            failed = 0
            while True:
                try:
                    machine.snapshot(folder / "snap")
                    break
                except FULL:
                    failed += 1
                assert [path.name for path in folder.iterdir() if "snap" in path.name] == []
                assert machine.digest() == expected
                with ballast.open("r+b") as file:
                    file.truncate(ballast.stat().st_size - 4096)
            assert failed > 1
            empty(ballast)
            assert machine.advance(b"mint alice 1").status == "accepted"
        with Machine.open(folder / "snap") as again:
            assert again.digest() == expected
        with Machine.open(folder / "app") as again:
            assert again.inspect(b"balance alice").reports == (b"1",)


@pytest.mark.parametrize("pages", [1, 500])  # a few stay in memory until the end, many do not
def test_what_was_done_after_a_snapshot_is_sealed_when_the_machine_is_closed(pages, tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.advance(b"mint alice 1")
        machine.snapshot(tmp_path / "snap")
        machine.advance(b"page %d" % pages)
        expected = machine.digest()
    for storage in ("memory", "backing"):
        with Machine.open(tmp_path / "app", storage=storage) as machine:
            assert machine.digest() == expected
    assert verify_folder(tmp_path / "app").ok


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("removed", [False, True])
def test_a_machine_that_is_stored_often_holds_what_it_shows(removed, tmp_path):
    """Each time its top has grown into its file."""
    ready_ledger(tmp_path / "app").close()
    before = descriptors()
    machine = Machine.open(tmp_path / "app", storage="backing")
    with machine.fork() as fork:
        expected = fork.digest()
        for number in range(40):
            machine.write(PLACE, os.urandom(2 * MIB))
            if number == 20:
                forked = machine.fork()
                then = forked.digest()
            machine.snapshot(tmp_path / f"snap{number}")
            if removed:
                shutil.rmtree(tmp_path / f"snap{number}")
        assert descriptors() - before < 16
        assert sum(file.stat().st_size for file in (tmp_path / "app").iterdir()) < 16 * MIB
        assert fork.digest() == expected
    final = machine.digest()
    machine.close()
    assert forked.digest() == then
    forked.snapshot(tmp_path / "forked")
    forked.close()
    assert descriptors() == before
    for folder, digest in (("app", final), ("forked", then)):
        verify_folder(tmp_path / folder)
        with Machine.open(tmp_path / folder) as again:
            assert again.digest() == digest


def test_a_snapshot_that_was_removed_costs_the_next_one_nothing(tmp_path):
    pages = {True: 0, False: 0}
    for removed in pages:
        ready_ledger(tmp_path / f"app{removed}").close()
        with Machine.open(tmp_path / f"app{removed}", storage="backing") as machine:
            for number in range(8):
                machine.write(PLACE + 2 * MIB * number, os.urandom(2 * MIB))
                snap = tmp_path / f"snap{removed}{number}"
                pages[removed] += machine.snapshot(snap).pages
                with Machine.open(snap) as stored:
                    assert stored.digest() == machine.digest()
                if removed:
                    shutil.rmtree(snap)
    assert pages[True] == pages[False]


STEPS = {
    "no descriptor for the next top": ("orchestra.machine.top.Arena.on_file", errno.EMFILE),
    "no name": ("orchestra.machine.top.os.link", errno.ENOSPC),
    "no place": ("orchestra.machine.top.os.rename", errno.ENOSPC),
    "no end": ("orchestra.io.arena.Arena.finish", errno.EIO),
    "no sync": ("orchestra.io.arena.Arena.sync", errno.EIO),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_seal_that_fails_at_any_step_changes_nothing(step, tmp_path, monkeypatch):
    ready_ledger(tmp_path / "app").close()
    machine = Machine.open(tmp_path / "app", storage="backing")
    machine.advance(b"mint alice 1")
    machine.snapshot(tmp_path / "first")
    machine.write(PLACE, os.urandom(2 * MIB))
    expected, names = machine.digest(), sorted((tmp_path / "app").iterdir())
    where, number = STEPS[step]
    with monkeypatch.context() as patch:
        patch.setattr(where, failing_once(number, where))
        with pytest.raises(OSError, match=os.strerror(number)):
            machine.close(durable=True)
    assert machine.digest() == expected
    assert sorted((tmp_path / "app").iterdir()) == names
    check_note(tmp_path / "app", "first")
    machine.write(PLACE + MIB, os.urandom(4 * MIB))
    expected = machine.digest()
    machine.close()
    verify_folder(tmp_path / "app")
    with Machine.open(tmp_path / "app") as again:
        assert again.digest() == expected


@pytest.mark.parametrize("durable", [False, True])
def test_a_record_that_cannot_be_put_in_place_leaves_nothing_behind(durable, tmp_path, monkeypatch):
    ready_ledger(tmp_path / "app").close()
    machine = Machine.open(tmp_path / "app", storage="backing")
    machine.advance(b"mint alice 1")
    with monkeypatch.context() as patch:
        where = "orchestra.io.entry.replace" if durable else "orchestra.machine.top.replace"
        patch.setattr(where, failing_once(errno.EIO, where))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            machine.close(durable=durable)
    assert not list((tmp_path / "app").glob(".*"))
    machine.close()
    verify_folder(tmp_path / "app")


def failing_once(number, where):
    done = resolve_name(where)
    failed = []

    def function(*args, **kwargs):
        if failed:
            return done(*args, **kwargs)
        failed.append(True)
        raise OSError(number, os.strerror(number))

    return function


def check_note(folder, snapshot):
    """Look at a folder as if its writer were dead."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(MachineTorn, match=snapshot):
            settle_torn(str(folder), fd, read_record(folder), "refuse", writing=False)
    finally:
        os.close(fd)


@pytest.mark.parametrize("step", [where for where, _ in STEPS.values()])
def test_at_every_step_of_a_seal_the_folder_names_the_last_snapshot(step, tmp_path, monkeypatch):
    ready_ledger(tmp_path / "app").close()
    machine = Machine.open(tmp_path / "app", storage="backing")
    machine.advance(b"mint alice 1")
    machine.snapshot(tmp_path / "first")
    machine.write(PLACE, os.urandom(2 * MIB))
    done, seen = resolve_name(step), []

    def function(*args, **kwargs):
        check_note(tmp_path / "app", "first")
        seen.append(done(*args, **kwargs))
        check_note(tmp_path / "app", "first")
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(step, function)
        patch.setattr("orchestra.machine.store.replace_record", failing_once(errno.EIO, "os.nice"))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            machine.close(durable=True)
    assert seen
    check_note(tmp_path / "app", "first")
    machine.close()
