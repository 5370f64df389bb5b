"""The storage benchmark on real machines: rows, lines, and nothing left behind."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from orchestra.bench.anchors import SEED
from orchestra.bench.density import measure_density
from orchestra.bench.filesystems import kind_of, mounted
from orchestra.bench.operations import SESSIONS
from orchestra.bench.storage import StorageOptions, bench_storage, row_names
from orchestra.bench.subject import CYCLES, make_subject
from orchestra.errors import BadConfig
from orchestra.machine import Machine
from orchestra.machine.layout import RAM_START

TWELVE = [
    f"{kind}/{storage}/{fate}"
    for kind in ("load-config", "load-snapshot", "roll-snapshot")
    for storage in ("memory", "backing")
    for fate in ("discard", "store")
]


def announce(_):
    return nullcontext()


def small_subject(folder):
    return make_subject(folder, kind_of(folder), 64 << 20, 1 << 20, dedicated=False)


def pages_of(machine):
    ram = machine.read(RAM_START, 20 << 20)
    return {(start, ram[start : start + 4096]) for start in range(0, len(ram), 4096)}


def test_every_row_is_measured_and_nothing_stays_behind(tmp_path, quick):
    announced = []

    def note(text):
        announced.append(text)
        return nullcontext()

    report = bench_storage(tmp_path, quick(), note, ["tmpfs"])  # which has nothing to sync
    assert [row.name for row in report.rows] == row_names()
    assert {row.filesystem for row in report.rows} == {"tmpfs"}
    assert all(len(row.values) == 2 and row.spread[0] <= row.value for row in report.rows)
    assert all(row.value > 0 for row in report.rows if row.unit == "op/s")
    assert sum("roll-snapshot/backing/store" in text for text in announced) >= 4
    assert not list(tmp_path.iterdir())


def test_the_rows_of_the_seed_are_rows_of_ours():
    assert [*SESSIONS][:12] == TWELVE
    assert SEED.keys() <= set(row_names())


def test_only_rows_that_were_asked_for_are_measured(tmp_path, quick):
    report = bench_storage(tmp_path, quick("lease", "*/memory/discard"), announce)
    assert [row.name for row in report.rows] == [
        *(name for name in TWELVE if name.endswith("/memory/discard")),
        "lease",
    ]


def test_density_is_measured_once_for_all_its_rows(tmp_path, quick):
    announced = []

    def note(text):
        announced.append(text)
        return nullcontext()

    report = bench_storage(tmp_path, quick("density/*"), note)
    assert [row.at_least or row.at_most for row in report.rows] == [20_000, 0, 16384]
    assert len([text for text in announced if "density" in text]) == 1


def test_the_line_of_the_largest_machine_is_drawn_by_the_ordinary_one(tmp_path, quick):
    rolls = quick("roll-snapshot/backing/store", "roll-snapshot/backing/store/1tb")
    ordinary, largest = bench_storage(tmp_path, rolls, announce).rows
    assert ordinary.at_least == (3000 if kind_of(tmp_path) == "btrfs" else 6000)
    assert largest.at_least == pytest.approx(0.75 * ordinary.value)


@pytest.mark.parametrize(
    ("field", "changes"), [("--ram", {"ram_length": 1 << 20}), ("--rows", {"rows": ("reroll",)})]
)
def test_options_that_cannot_be_are_refused(field, changes):
    with pytest.raises(BadConfig) as refused:
        StorageOptions(**changes)
    assert refused.value.field == field


def test_the_guest_writes_to_as_many_pages_as_a_busy_debian(tmp_path):
    subject = small_subject(tmp_path)
    with Machine.open(subject.snapshot()) as machine:
        begun = before = pages_of(machine)
        for _ in range(20):
            machine.run(max_cycles=CYCLES)
            after = pages_of(machine)
            assert len(before ^ after) // 2 in (8, 9)
            before = after
        machine.run(max_cycles=3_000_000)
        assert 190 <= len(pages_of(machine) - begun) <= 290


@pytest.mark.parametrize("name", ["load-config/backing/store", "load-snapshot/backing/store"])
def test_what_an_operation_stored_is_a_machine_that_goes_on(tmp_path, name):
    subject = small_subject(tmp_path)
    begun = 0 if "config" in name else Machine.open(subject.snapshot()).cycle
    with SESSIONS[name](subject)(2) as operate:
        for number in range(2):
            operate(number)
            with Machine.open(tmp_path / "room" / str(number)) as machine:
                assert machine.cycle == begun + CYCLES
                machine.run(max_cycles=CYCLES)


def test_a_roll_that_is_discarded_ends_where_it_began(tmp_path):
    subject = small_subject(tmp_path)
    with SESSIONS["roll-snapshot/backing/discard"](subject)(3) as operate:
        for number in range(3):
            operate(number)
    with SESSIONS["roll-snapshot/backing/store"](subject)(3) as operate:
        for number in range(3):
            operate(number)
        cycles = [Machine.open(tmp_path / "room" / str(number)).cycle for number in range(3)]
        assert cycles == [cycles[0] + number * CYCLES for number in range(3)]


def test_idle_instances_hold_no_descriptor(tmp_path):
    density = measure_density(small_subject(tmp_path).snapshot(), 2000)
    assert density.instances == 2000
    assert density.descriptors == 0
    assert 0 < density.memory_bytes < 1 << 20


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs", "tmpfs"])
def test_a_file_system_knows_its_kind_and_counts_what_is_stored(tmp_path, kind):
    with mounted(kind, tmp_path) as filesystem:
        assert kind_of(filesystem.folder) == kind
        subject = make_subject(filesystem.folder, kind, 64 << 20, 1 << 20, dedicated=True)
        before = subject.used_bytes()
        (filesystem.folder / "more").write_bytes(bytes(range(256)) * 4096 * 4)
        assert subject.used_bytes() - before == pytest.approx(4 << 20, rel=0.05)
    assert not list(tmp_path.iterdir())


def test_what_mkfs_says_is_what_the_error_says(tmp_path):
    with pytest.raises(OSError, match=r"mkfs\.xfs"), mounted("xfs", tmp_path, 1 << 20):
        pass
    assert not list(tmp_path.iterdir())


def test_the_command_prints_json_and_says_which_rows_are_below_their_lines(call, tmp_path):
    found = ["storage", "--dir", tmp_path, "--seconds", "0.001", "--runs", "1"]
    status, out, err = call("bench", *found, "--rows", "fork", "--json")
    assert status == 0
    assert [row["name"] for row in json.loads(out)["rows"]] == ["fork"]
    assert "fork ..." in err
    slow = ["--rows", "load-config/backing/store", "--drive", "512MiB", "--filesystems", "ext4"]
    status, out, err = call("bench", *found, *slow, "--json")
    document = json.loads(out)
    assert document["ok"] == document["rows"][0]["ok"] == (status == 0)
    assert ("below their lines: ext4 load-config/backing/store" in err) == (status == 1)


def test_the_command_prints_a_table_with_its_lines(call, tmp_path):
    found = ["storage", "--dir", tmp_path, "--seconds", "0.001", "--runs", "1"]
    out = call("bench", *found, "--rows", "lease", "--clock", "cpu")[1]
    assert "lease" in out
    assert "op/cpu-s" in out
    assert "≥ 50,000" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dir", "/nowhere/at/all"], "--dir"),
        (["--dir", "/tmp", "--filesystems", "ext4,fat"], "--filesystems"),
        (["--dir", "/tmp", "--rows", "nothing"], "--rows"),
        (["--dir", "/tmp", "--ram", "1MiB"], "--ram"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_made(call, arguments, said):
    status, out, err = call("bench", "storage", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {said}")


def test_without_the_plotting_library_the_extra_is_named_at_once(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = call("bench", "storage", "--dir", tmp_path, "--plot", tmp_path / "chart.png")
    assert (status, out) == (2, "")
    assert "orchestra[plot]" in err


def test_a_command_that_is_terminated_unmounts_and_deletes(tmp_path):
    command = ["bench", "storage", "--dir", str(tmp_path), "--filesystems", "btrfs"]
    with subprocess.Popen(
        [sys.executable, "-m", "orchestra.cli", *command, "--seconds", "60"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as process:
        assert "files of the machine" in process.stderr.readline()
        assert "load-config/memory/discard" in process.stderr.readline()
        assert str(tmp_path) in Path("/proc/mounts").read_text()
        process.terminate()
        began = time.monotonic()
        assert "SIGTERM" in process.stderr.read()
        assert process.wait() == 128 + 15
    assert time.monotonic() - began < 10
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not list(tmp_path.iterdir())
