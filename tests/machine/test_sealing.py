"""Machines that could not be sealed, or whose snapshot failed: nothing that they did is lost."""

from contextlib import ExitStack

import pytest

from orchestra.errors import BackingFault, FolderExists, MachineClosed, MachineTorn
from orchestra.machine import Machine
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
