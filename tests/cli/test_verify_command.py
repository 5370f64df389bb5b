"""`orchestra verify`: what it says of a sound folder, and of one that is not."""

from orchestra.machine import Machine
from orchestra.machine.record import read_record
from tests.machine.plain_hash import root_of


def root_of_folder(folder):
    with Machine.open(folder) as machine:
        return root_of(machine).hex()


def damage(path, place):
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5\x5a")


def test_verify_says_that_a_folder_is_sound_and_its_root_hash(orchestra, app):
    result = orchestra("verify", app)
    assert result.out.splitlines()[-1] == f"{app}: sound, root {root_of_folder(app)}"
    assert result.out.startswith(f"{read_record(app).deltas[0]}: ")
    assert " pages" in result.out
    assert result.err == ""


def test_verify_says_all_of_it_in_json(orchestra, app):
    found = orchestra("verify", app, "--json").json
    assert found["ok"] is True
    assert found["root"] == root_of_folder(app)
    assert found["cycle"] == read_record(app).cycle
    assert {item["name"] for item in found["files"]} == {
        path.name for path in app.iterdir() if path.name != "machine.json"
    }


def test_verify_names_every_flaw_and_exits_with_1(orchestra, app, tmp_path):
    snapshot = tmp_path / "snapshot"
    with Machine.open(app) as machine:
        machine.write(0x8100_0000, b"changed" * 1000)
        machine.snapshot(snapshot)
    lost, name = read_record(snapshot).deltas[-2:]
    damage(snapshot / name, 4096 + 500)
    (snapshot / lost).unlink()
    result = orchestra("verify", snapshot, status=1)
    lines = result.out.splitlines()
    assert any(line.startswith(f"{snapshot / name}: page 0x") for line in lines)
    assert any(line.startswith(f"{snapshot / lost}: ") for line in lines)
    assert lines[-1] == f"{snapshot}: flawed"
    found = orchestra("verify", snapshot, "--json", status=1).json
    assert {flaw["path"] for flaw in found["flaws"]} == {
        str(snapshot / name),
        str(snapshot / lost),
    }
    assert found["root"] is None


def test_verify_tells_a_torn_folder_and_files_that_do_not_belong_there(orchestra, app):
    (app / "top").write_bytes(bytes(4096))
    (app / "notes").write_bytes(b"")
    lines = orchestra("verify", app, status=1).out.splitlines()
    assert "--discard-torn" in lines[0]
    assert lines[1] == "notes: not a file of this machine"
    assert ": torn, root " in lines[-1]


def test_verify_does_not_look_at_a_machine_that_runs(orchestra, app):
    with Machine.open(app, storage="backing"):
        assert "locked" in orchestra("verify", app, status=1).error
    assert "no such folder" in orchestra("verify", app / "nothing", status=2).error
