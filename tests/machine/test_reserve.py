"""Room on the disk that is taken before it is needed: `reserve`."""

import errno
import os

import pytest

from orchestra.errors import BackingFault, BadConfig
from orchestra.machine import Machine
from tests.filesystems import empty, fill, mounted
from tests.guests import bare_config, ledger_config, write_words
from tests.machine.test_faults import WALK

MIB = 1 << 20


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs", "tmpfs"])
def test_a_machine_with_reserved_room_runs_on_a_full_disk(kind, tmp_path):
    code = write_words(tmp_path / "code", WALK)
    config = bare_config(code, ram=8 * MIB)
    cycles = 5 * 1000
    with Machine.create(config) as machine:
        machine.run(cycles)
        expected = machine.digest()
    with mounted(kind, tmp_path, *([64 * MIB] if kind == "tmpfs" else [])) as filesystem:
        app = filesystem.folder / "app"
        with Machine.create(config, app, reserve=8 * MIB) as machine:
            ballast = fill(filesystem.folder)
            machine.run(cycles)
            assert machine.digest() == expected
            empty(ballast)
            ballast.unlink()
        with Machine.open(app) as machine:
            assert machine.digest() == expected


def test_a_full_disk_says_so_when_the_machine_is_opened(tmp_path):
    with mounted("tmpfs", tmp_path, 4 * MIB) as filesystem:
        app = filesystem.folder / "app"
        Machine.create(ledger_config(), app, storage="memory").close()
        before = sorted(path.name for path in app.iterdir())
        with pytest.raises(OSError, match=r"top") as caught:
            Machine.open(app, storage="backing", reserve=64 * MIB)
        assert caught.value.errno == errno.ENOSPC
        assert not isinstance(caught.value, BackingFault)
        assert sorted(path.name for path in app.iterdir()) == before
        Machine.open(app, storage="backing", reserve=1 * MIB).close()
        assert sorted(path.name for path in app.iterdir()) == before


def test_what_was_reserved_and_not_used_is_given_back(tmp_path):
    with Machine.create(ledger_config(), tmp_path / "app", reserve=32 * MIB) as machine:
        assert (tmp_path / "app" / "top").stat().st_blocks * 512 >= 32 * MIB
        machine.run()
        machine.snapshot(tmp_path / "snap")
        assert used(tmp_path / "app") < 8 * MIB
        machine.run(max_cycles=10)
        machine.write(0x8000_0000, b"x")
        assert (tmp_path / "app" / "top").stat().st_blocks * 512 >= 32 * MIB
    assert used(tmp_path / "app") < 8 * MIB


def used(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_after_a_snapshot_the_next_run_reserves_again_or_does_not_begin(tmp_path):
    with mounted("tmpfs", tmp_path, 16 * MIB) as filesystem:
        config = ledger_config()
        with Machine.create(config, filesystem.folder / "app", reserve=8 * MIB) as machine:
            machine.run()
            machine.snapshot(filesystem.folder / "snap")
            ballast = fill(filesystem.folder)
            stands = machine.cycle, machine.digest()
            with pytest.raises(OSError, match="No space left"):
                machine.advance(b"mint alice 1")
            assert (machine.cycle, machine.digest()) == stands
            os.truncate(ballast, 0)
            assert machine.advance(b"mint alice 1").status == "accepted"


@pytest.mark.parametrize("reserve", [-1, 4096])
def test_only_a_machine_in_its_folder_has_room_to_reserve(reserve, tmp_path):
    with pytest.raises(BadConfig, match="reserve"):
        Machine.create(ledger_config(), reserve=reserve)
    with pytest.raises(BadConfig, match="reserve"):
        Machine.create(ledger_config(), tmp_path / "app", storage="memory", reserve=reserve)
    assert not (tmp_path / "app").exists()
