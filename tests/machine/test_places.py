"""Where folders may be: on other file systems, under names that are no UTF-8, named relatively."""

import os
from pathlib import Path

import pytest

from orchestra.errors import MachineTorn
from orchestra.io import try_lock
from orchestra.machine import Machine
from orchestra.machine.verify import verify_folder
from tests.filesystems import MIB, mounted
from tests.guests import ready_ledger

PLACE = 0x8100_0000


@pytest.mark.parametrize("length", [MIB // 2, 3 * MIB])
def test_a_machine_whose_snapshots_are_on_another_file_system_is_sealed_at_home(length, tmp_path):
    ready_ledger(tmp_path / "app").close()
    with mounted("tmpfs", tmp_path, 64 * MIB) as elsewhere:
        machine = Machine.open(tmp_path / "app", storage="backing")
        for number in range(3):
            machine.write(PLACE + number * 4 * MIB, os.urandom(length))
            machine.snapshot(elsewhere.folder / f"snap{number}")
        machine.write(PLACE, b"and some more")
        expected = machine.digest()
        machine.close()
    verify_folder(tmp_path / "app")
    with Machine.open(tmp_path / "app") as again:
        assert again.digest() == expected


def test_a_folder_whose_path_is_no_utf_8_can_be_run_in_and_go_back(tmp_path):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    place.mkdir()
    ready_ledger(place / "app").close()
    machine = Machine.open(place / "app", storage="backing")
    machine.advance(b"mint alice 3")
    machine.snapshot(place / "snap")
    expected = machine.digest()
    machine.advance(b"mint alice 4")
    machine.discard()
    with pytest.raises(MachineTorn) as raised:
        Machine.open(place / "app")
    assert str(place / "snap") in str(raised.value)
    with Machine.open(place / "app", storage="backing", torn="discard") as again:
        assert again.digest() == expected


def test_a_machine_finds_its_folder_when_the_working_folder_has_changed(tmp_path, monkeypatch):
    ready_ledger(tmp_path / "app").close()
    monkeypatch.chdir(tmp_path)
    machine = Machine.open_locked("app", try_lock("app", "exclusive"), storage="backing")
    monkeypatch.chdir("/")
    machine.advance(b"mint alice 3")
    machine.snapshot(tmp_path / "snap")
    expected = machine.digest()
    machine.close()
    with Machine.open(tmp_path / "app") as again:
        assert again.digest() == expected


def test_of_paths_that_are_very_long_the_newest_snapshot_is_named(tmp_path):
    place = tmp_path
    while len(str(place)) < 1500:
        place /= "a" * 200
    place.mkdir(parents=True)
    ready_ledger(place / "app").close()
    machine = Machine.open(place / "app", storage="backing")
    for number in range(3):
        machine.advance(b"mint alice 1")
        machine.snapshot(place / f"snap{number}")
    machine.discard()
    with pytest.raises(MachineTorn, match="snap2"):
        Machine.open(place / "app")
