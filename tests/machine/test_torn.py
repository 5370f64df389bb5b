"""A folder whose writer was killed goes back to the last snapshot that was published of it."""

import shutil

import pytest

from orchestra.errors import MachineLocked, MachineTorn
from orchestra.machine import Machine
from orchestra.machine.compact import compact_machine
from orchestra.machine.verify import verify_folder
from tests.guests import ready_ledger
from tests.processes import run_python

KILLED = """
import os, signal, sys
from orchestra.machine import Machine
machine = Machine.open(sys.argv[1], storage="backing")
for number in range(int(sys.argv[2])):
    machine.advance(b"mint alice 1")
    machine.snapshot(f"{sys.argv[1]}-{number}")
machine.advance(b"mint alice 1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def app(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.advance(b"fill 300 7")
    return tmp_path / "app"


def killed(app, snapshots):
    run_python(KILLED, app, str(snapshots), check=False)
    assert (app / "top").exists()


def alice(folder, **options):
    with Machine.open(folder, **options) as machine:
        said = machine.inspect(b"balance alice").reports[0]
        return 0 if said.startswith(b"no such account") else int(said)


def test_without_snapshots_it_goes_back_to_what_it_was(app):
    killed(app, 0)
    with pytest.raises(MachineTorn, match="its own, sealed at cycle"):
        Machine.open(app)
    assert alice(app, storage="backing", torn="discard") == 0
    assert alice(app) == 0


@pytest.mark.parametrize("padding", [0, 5000], ids=["small", "longer than a page"])
def test_a_top_that_is_a_record_tells_on_which_side_of_the_exchange_its_writer_died(app, padding):
    record, wide = app / "machine.json", b"{" + b" " * padding
    before = record.read_bytes()
    with Machine.open(app, storage="backing") as machine:
        machine.advance(b"mint alice 7")
    after = record.read_bytes()
    (app / "top").write_bytes(before.replace(b"{", wide, 1))
    assert alice(app) == alice(app, storage="backing") == 7
    assert not (app / "top").exists()
    record.write_bytes(before)
    (app / "top").write_bytes(after.replace(b"{", wide, 1))
    with pytest.raises(MachineTorn, match="its own, sealed at cycle"):
        Machine.open(app)
    assert alice(app, storage="backing", torn="discard") == 0


def test_a_closed_machine_has_a_record_that_others_can_read_as_before(app):
    mode = (app / "machine.json").stat().st_mode
    with Machine.open(app, storage="backing") as machine:
        machine.advance(b"mint alice 7")
    assert (app / "machine.json").stat().st_mode == mode
    assert sorted(path.name for path in app.iterdir() if path.suffix != ".delta") == [
        *sorted(path.name for path in app.glob("*.img")),
        "machine.json",
    ]


def test_it_names_the_last_snapshot_and_goes_back_to_it(app, tmp_path):
    killed(app, 3)
    with pytest.raises(MachineTorn, match=rf"the snapshot {app}-2, at cycle \d+"):
        Machine.open(app)
    assert alice(app, torn="discard") == 0  # who only reads takes it as it was last closed
    with Machine.open(f"{app}-2") as snapshot:
        expected = snapshot.digest()
    with Machine.open(app, storage="backing", torn="discard") as machine:
        assert machine.digest() == expected
        machine.advance(b"mint alice 10")
    shutil.rmtree(f"{app}-2")
    assert alice(app) == 13
    assert verify_folder(app).ok


def test_when_the_last_is_gone_it_is_the_one_before(app):
    killed(app, 3)
    shutil.rmtree(f"{app}-2")
    with pytest.raises(MachineTorn, match=f"the snapshot {app}-1,"):
        Machine.open(app)
    assert alice(app, storage="backing", torn="discard") == 2


def test_another_snapshot_of_that_name_is_not_taken_for_it(app):
    killed(app, 1)
    shutil.rmtree(f"{app}-0")
    ready_ledger(f"{app}-0").close()
    with pytest.raises(MachineTorn, match="its own"):
        Machine.open(app)
    assert alice(app, storage="backing", torn="discard") == 0


def test_it_is_found_when_all_was_moved_or_copied(app, tmp_path):
    killed(app, 1)
    shutil.copytree(tmp_path, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("elsewhere"))
    for path in tmp_path.iterdir():
        if path.name != "elsewhere":
            shutil.rmtree(path)
    assert alice(tmp_path / "elsewhere" / "app", storage="backing", torn="discard") == 1


def test_a_folder_that_was_compacted_meanwhile_stays_as_it_is(app, tmp_path):
    with Machine.open(app, storage="backing") as machine:
        machine.advance(b"mint alice 5")
    killed(app, 1)
    (app / "top").rename(tmp_path / "top")
    compact_machine(app)
    (tmp_path / "top").rename(app / "top")
    assert alice(app, storage="backing", torn="discard") in (5, 6)
    assert verify_folder(app).ok


def test_it_does_not_go_back_further_because_somebody_runs_in_the_last_snapshot(app):
    killed(app, 3)
    with Machine.open(f"{app}-2", storage="backing"):
        with pytest.raises(MachineTorn, match=rf"the snapshot {app}-2, at cycle \d+"):
            Machine.open(app)
        with pytest.raises(MachineLocked, match=f"{app}-2"):
            Machine.open(app, storage="backing", torn="discard")
    assert alice(app, storage="backing", torn="discard") == 3
