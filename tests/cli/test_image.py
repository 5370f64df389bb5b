"""`orchestra image`: folders of the guests that orchestra knows."""

import pytest

from orchestra.machine import Machine


def test_a_ledger_is_made_and_serves(orchestra, tmp_path):
    made = orchestra("image", "ledger", tmp_path / "app", "--ram", "32MiB", "--json").json
    assert made["config"]["ram"]["length"] == 32 << 20
    assert orchestra("advance", tmp_path / "app", "mint a 1").out == "1 mint a 1\n"
    assert "exists already" in orchestra("image", "ledger", tmp_path / "app", status=1).error


def test_debian_is_made_boots_from_its_files_and_runs_commands(orchestra, debian, tmp_path):
    _, digest = debian
    app = tmp_path / "debian"
    made = orchestra("image", "debian", app, "--json")
    assert "fetching Debian ...\n" in made.err
    assert made.json["config"]["ram"]["length"] == 128 << 20
    assert made.json["cycle"] == 0
    booted = orchestra("run", app, "--json")
    assert booted.json["stop"] == "yielded"
    assert booted.json["digest"] == digest
    assert "user space is up" in booted.err
    assert orchestra("inspect", app, "uname -m; echo $((6*7))").out == "riscv64\n42\n"
    assert orchestra("inspect", app, "exit 3", status=1).err == "inspect 'exit 3': rejected\n"
    assert orchestra("advance", app, "echo kept > note; cat note").out == "kept\n"
    assert orchestra("inspect", app, "cat note").out == "kept\n"
    with Machine.open(app) as machine:
        assert machine.reproducible


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--mirror", "file:///nowhere/debian"), "apt-get"),
        (("--suite", "No Suite"), "no suite"),
        (("--keyring", "/nowhere.gpg", "--refresh"), "apt-get"),
    ],
    ids=["mirror", "suite", "keyring"],
)
def test_what_cannot_be_fetched_is_one_error_and_leaves_no_folder(
    orchestra, tmp_path, arguments, text
):
    target, cache = tmp_path / "debian", tmp_path / "cache"
    result = orchestra("image", "debian", target, "--cache", cache, *arguments, status=1)
    assert text in result.error
    assert not target.exists()


def test_a_bad_size_is_told_before_anything_is_fetched(orchestra, tmp_path):
    result = orchestra("image", "debian", tmp_path / "debian", "--ram", "much", status=2)
    assert result.error.startswith("error: --ram: found 'much'")
    assert "fetching" not in result.err
