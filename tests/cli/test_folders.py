"""`orchestra create | info | snapshot | clone`: machines as folders, and what is said of them."""

import shutil

import pytest

from orchestra.guest import LEDGER
from orchestra.machine import Machine
from orchestra.machine.record import read_record
from tests.cli.programs import LOOP, halt


@pytest.fixture
def frozen(tmp_path):
    """Read all of a folder, to see that it stays."""

    def read(folder):
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    return read


def test_create_makes_a_folder_at_cycle_0_that_runs(orchestra, program, tmp_path):
    result = orchestra("create", tmp_path / "app", program(halt(9)), "--ram", "1MiB")
    assert result.out.startswith(f"{tmp_path / 'app'}: 1 MiB of RAM, 0 drives; ")
    facts = orchestra("info", tmp_path / "app", "--json").json
    assert (facts["cycle"], facts["config"]["ram"]["length"]) == (0, 1 << 20)
    (tmp_path / "program.elf").unlink()
    orchestra("run", tmp_path / "app", status=9)


def test_create_says_in_json_what_info_says(orchestra, tmp_path):
    made = orchestra("create", tmp_path / "app", LEDGER, "--seed", "7", "--json").json
    assert made == orchestra("info", tmp_path / "app", "--json").json
    assert made["config"]["seed"] == 7


def test_create_replaces_nothing_and_leaves_nothing_behind(orchestra, app, frozen, tmp_path):
    before = frozen(app)
    assert "exists already" in orchestra("create", app, LEDGER, status=1).error
    assert frozen(app) == before
    assert orchestra("create", tmp_path / "bad", tmp_path / "nothing", status=2).error
    (tmp_path / "bad.elf").write_bytes(b"\x7fELF and no more")
    bad = orchestra("create", tmp_path / "bad", tmp_path / "bad.elf", status=2)
    assert "a well-formed ELF file" in bad.error
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["app", "bad.elf"]


def test_info_says_what_it_is_where_it_stands_and_what_it_occupies(orchestra, app):
    facts = orchestra("info", app, "--json").json
    assert facts["reproducible"] is True
    assert facts["torn"] is False
    assert facts["locked_by"] is None
    assert facts["images"] == []  # a short program is copied
    names = {item["name"] for item in facts["files"]}
    assert names == {path.name for path in app.iterdir()}
    assert facts["bytes"]["logical"] == sum(path.stat().st_size for path in app.iterdir())
    assert facts["bytes"]["own"] == facts["bytes"]["allocated"] > 0
    assert {"ram", "rx", "tx", "uart", "plic"} <= {item["name"] for item in facts["ranges"]}
    out = orchestra("info", app).out
    for text in (
        f"cycle      {facts['cycle']}\n",
        "state      sealed",
        "RAM        64 MiB",
        "0x0080000000",
    ):
        assert text in out


def test_info_tells_the_digest_when_asked(orchestra, app):
    digest = orchestra("info", app, "--json", "--digest").json["digest"]
    with Machine.open(app) as machine:
        assert machine.digest() == digest
    assert f"digest     {digest}" in orchestra("info", app, "--digest").out


def test_info_tells_drives_and_bootargs(orchestra, program, tmp_path):
    arguments = ("--drive", "pm=,pmem,length=2MiB", "--drive", "data=,length=4KiB,ro")
    elf = program([LOOP])
    orchestra("create", tmp_path / "app", elf, *arguments, "--bootargs", "quiet")
    out = orchestra("info", tmp_path / "app").out
    assert "drive      pm: pmem, 2 MiB\n" in out
    assert "drive      data: virtio-blk, 4 KiB, read-only\n" in out
    assert "bootargs   quiet\n" in out


def test_info_of_a_damaged_folder_says_what_is_wrong(orchestra, app):
    newest = read_record(app).deltas[-1]
    (app / newest).unlink()
    assert f"{newest}: file: found 'no such file'" in orchestra("info", app, status=2).error
    (app / "machine.json").write_text("{}")
    assert "machine.json: format" in orchestra("info", app, status=2).error
    (app / "machine.json").unlink()
    assert "machine.json" in orchestra("info", app, status=2).error


@pytest.mark.parametrize("command", ["snapshot", "clone"])
def test_a_copy_has_the_state_shares_the_layers_and_outlives_the_original(
    orchestra, app, tmp_path, command
):
    digest = orchestra("info", app, "--json", "--digest").json["digest"]
    made = orchestra(command, app, tmp_path / "copy", "--json").json
    assert made["directory"] == str(tmp_path / "copy")
    assert made["cycle"] == orchestra("info", app, "--json").json["cycle"] > 0
    assert set(made["methods"]) == {"link"}
    shared = orchestra("info", tmp_path / "copy", "--json").json
    assert shared["bytes"]["own"] < shared["bytes"]["allocated"]
    assert shared["parent"] == orchestra("info", app, "--json").json["id"]
    shutil.rmtree(app)
    found = orchestra("info", tmp_path / "copy", "--json", "--digest").json
    assert found["digest"] == digest
    assert found["bytes"]["own"] == found["bytes"]["allocated"]
    assert orchestra("inspect", tmp_path / "copy", "balance bob").out == "30\n"
    assert orchestra("advance", tmp_path / "copy", "burn bob 1").out == "3 burn bob 1\n"


@pytest.mark.parametrize("command", ["snapshot", "clone"])
def test_a_copy_is_told_in_words_and_may_be_durable(orchestra, app, tmp_path, command):
    out = orchestra(command, app, tmp_path / "copy", "--durable").out
    cycle = orchestra("info", app, "--json").json["cycle"]
    assert out.startswith(f"{tmp_path / 'copy'}: cycle {cycle}, ")
    assert "files linked" in out


@pytest.mark.parametrize("command", ["snapshot", "clone"])
def test_a_copy_replaces_nothing(orchestra, app, frozen, tmp_path, command):
    orchestra("image", "ledger", tmp_path / "other")
    before = frozen(tmp_path / "other")
    assert "exists already" in orchestra(command, app, tmp_path / "other", status=1).error
    assert frozen(tmp_path / "other") == before


@pytest.mark.parametrize("command", ["snapshot", "clone"])
def test_a_machine_that_runs_elsewhere_is_not_copied(orchestra, app, tmp_path, command):
    with Machine.open(app, storage="backing"):
        error = orchestra(command, app, tmp_path / "copy", status=1).error
        assert f"{app.name} is locked by pid " in error
    assert not (tmp_path / "copy").exists()


def test_two_clones_go_their_own_ways(orchestra, app, tmp_path):
    orchestra("clone", app, tmp_path / "other")
    orchestra("advance", app, "burn alice 70")
    orchestra("advance", tmp_path / "other", "mint alice 1")
    assert orchestra("inspect", app, "balance alice").out == "0\n"
    assert orchestra("inspect", tmp_path / "other", "balance alice").out == "71\n"


def test_a_drive_that_is_written_in_place_is_not_linked(orchestra, program, tmp_path):
    (tmp_path / "disk.img").write_bytes(b"mine" * 1024)
    elf = program([LOOP])
    app, other = tmp_path / "app", tmp_path / "other"
    orchestra("create", app, elf, "--drive", f"disk={tmp_path / 'disk.img'},shared")
    made = orchestra("clone", app, other, "--json").json
    assert made["methods"]["link"] == 1
    (other / "disk.img").write_bytes(b"your" * 1024)
    assert (app / "disk.img").read_bytes() == b"mine" * 1024
    orchestra("run", other, "--until", 10)


def test_reserve_takes_room_before_anything_runs_or_says_that_there_is_none(
    orchestra, app, tmp_path
):
    before = sorted(path.name for path in app.iterdir())
    full = orchestra("advance", app, "mint a 1", "--reserve", "1TiB", status=1)
    assert str(app / "top") in full.error
    assert sorted(path.name for path in app.iterdir()) == before
    orchestra("advance", app, "mint a 1", "--reserve", "8MiB")
    orchestra("run", app, "--reserve", "1MiB")
    wrong = orchestra("run", app, "--reserve", "1MiB", "--storage", "memory", status=2)
    assert "reserve" in wrong.error
    assert "--reserve" in orchestra("run", app, "--reserve", "much", status=2).error


def test_compact_merges_layers_and_export_and_flatten_write_plain_files(orchestra, app, tmp_path):
    orchestra("advance", app, "fill 2000 7")
    for number in range(3):
        orchestra("advance", app, f"mint a{number} 1")
    digest = orchestra("info", app, "--json", "--digest").json["digest"]
    assert len(orchestra("info", app, "--json").json["deltas"]) > 1
    plain = orchestra("clone", app, tmp_path / "plain", "--flatten", "--json").json
    assert (tmp_path / "plain" / "ram.img").stat().st_size == 64 << 20
    result = orchestra("export", app, "ram", tmp_path / "ram.bin", "--json").json
    assert result["cycle"] == plain["cycle"]
    assert (tmp_path / "ram.bin").read_bytes() == (tmp_path / "plain" / "ram.img").read_bytes()
    assert "exists" in orchestra("export", app, "ram", tmp_path / "ram.bin", status=1).error
    assert "rx" in orchestra("export", app, "nothing", tmp_path / "x", status=2).error
    assert "became one of" in orchestra("compact", app).out
    assert "one layer already" in orchestra("compact", app).out
    assert orchestra("compact", app, "--json").json["layers"] == 1
    assert orchestra("info", app, "--json").json["files"][-1]["pages"] > 0
    for folder in (app, tmp_path / "plain"):
        assert orchestra("info", folder, "--json", "--digest").json["digest"] == digest
        orchestra("verify", folder)


def test_an_applications_folder_says_where_its_machines_are(orchestra, app, tmp_path):
    (tmp_path / "application" / "snapshots").mkdir(parents=True)
    for command in (["info"], ["inspect"]):
        asked = [*command, tmp_path / "application", *(["total"] if "inspect" in command else [])]
        assert "as those in its snapshots are" in orchestra(*asked, status=2).error
