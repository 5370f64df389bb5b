"""The demo does what it says, on both event loops, and finds a wrong answer."""

import json
import signal

import pytest

from orchestra.cli.tally import DemoFailed, Tally, Timings, quantile
from orchestra.machine import Machine

OPERATIONS = ["create", "advance", "snapshot", "inspect"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_demo_checks_every_answer_and_tells_what_it_did(orchestra, backend):
    result = orchestra("demo", "--inspects", "60", "--loop", backend, "--json")
    found = result.json
    assert (found["demo"], found["ok"], found["backend"]) == ("ledger", True, backend)
    rows = {row["operation"]: row for row in found["operations"]}
    assert list(rows) == OPERATIONS
    assert rows["inspect"]["count"] == 60
    assert rows["advance"]["count"] > 200
    for row in rows.values():
        assert 0 < row["p50_seconds"] <= row["p99_seconds"] < 60
    assert found["checked"] > 60 + rows["advance"]["count"]
    assert found["cycles_per_second"] > 0
    for size in found["bytes"].values():
        assert 0 < size["own"] <= size["allocated"]
        assert size["logical"] > 0
    assert "answering 60 questions while it advances ...\n" in result.err


def test_the_demo_ends_with_a_table(orchestra):
    out = orchestra("demo", "--inspects", "10", "--workers", "1").out
    for text in [*OPERATIONS, "p99", "per second", "answers checked", "on disk", "digest"]:
        assert text in out


def test_with_a_folder_the_machine_and_its_snapshot_stay_and_can_be_used(orchestra, tmp_path):
    found = orchestra("demo", "--inspects", "5", "--dir", tmp_path / "here", "--json").json
    snapshot = tmp_path / "here" / "snapshot"
    again = orchestra("demo", "--inspects", "5", "--dir", tmp_path / "here", status=1)
    assert "exists already" in again.error
    with Machine.open(snapshot) as machine:
        assert machine.digest() == found["digest"]
    assert orchestra("inspect", snapshot, "count").out == "32\n"
    assert not orchestra("info", tmp_path / "here" / "app", "--json").json["torn"]


def test_the_digest_of_its_snapshot_is_the_same_every_time(orchestra):
    digests = {
        orchestra("demo", "--inspects", "1", "--json", *more).json["digest"]
        for more in [(), ("--loop", "trio"), ("--workers", "1")]
    }
    assert len(digests) == 1


def test_a_wrong_answer_ends_it(orchestra):
    tally = Tally("ledger", "asyncio", 1)
    tally.check("total", "5", "5")
    with pytest.raises(DemoFailed, match="asked 'total', the guest answered '5', not '6'"):
        tally.check("total", "5", "6")
    assert tally.checked == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_ends_it_cleanly(start, tmp_path, backend):
    arguments = ("--inspects", "100000000", "--loop", backend, "--dir", tmp_path / "here")
    process = start("demo", *arguments)
    while b"answering" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err == b"error: stopped by SIGINT\n"
    with Machine.open(tmp_path / "here" / "app", storage="backing") as machine:
        assert machine.inspect(b"count").reports == (b"32",)


def test_debian_boots_is_snapshotted_and_answers_from_copies_and_in_a_second_process(
    orchestra, debian, tmp_path
):
    _, digest = debian
    arguments = ("--linux", "--inspects", "6", "--dir", tmp_path / "here", "--json")
    result = orchestra("demo", *arguments)
    found = result.json
    rows = {row["operation"]: row["count"] for row in found["operations"]}
    assert list(rows) == ["image", "boot", "snapshot", "advance", "inspect", "second process"]
    assert (rows["inspect"], rows["second process"]) == (6, 1)
    assert rows["advance"] >= 1
    assert found["checked"] == 6 + rows["advance"] + 2
    assert found["digest"] == digest
    assert "booting Debian ...\n" in result.err
    snapshot = tmp_path / "here" / "booted"
    assert orchestra("inspect", snapshot, "ls log 2>&1", status=1).out.startswith(
        "ls: log: No such"
    )


def test_timings_say_how_many_how_fast_and_how_long():
    timings = Timings()
    for _ in range(3):
        with timings.time():
            pass
    found = timings.as_json()
    assert found["count"] == 3
    assert found["per_second"] > 0
    with pytest.raises(ZeroDivisionError), timings.time():
        1 / 0  # noqa: B018 - an operation that fails is not counted
    assert timings.as_json()["count"] == 3
    assert json.dumps(found)


def test_a_quantile_is_one_of_the_values():
    values = [float(number) for number in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (51, 100, 100)
    assert quantile([3.0], 0.5) == 3
