"""The fleet benchmark on real machines: rows and lines, on each loop, and nothing left behind."""

import json
import sys
from contextlib import nullcontext
from time import thread_time

import pytest

from orchestra.bench.debian_density import _ask_each
from orchestra.bench.fleet import CONCURRENCIES, FleetOptions, bench_fleet, row_names
from orchestra.errors import BadConfig
from orchestra.sched.desk import Desk

QUICK = {"seconds": 0.05, "runs": 2, "machines": 20, "debian": 3}


def announce(_):
    return nullcontext()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_rows_are_measured_on_each_loop_and_nothing_stays_behind(tmp_path, loop):
    long = ("density/", "inspects/c1000", "latency-p50/c1000", "latency-p99/c1000", "fairness")
    names = [name for name in row_names() if not name.startswith(long)]
    options = FleetOptions(loop=loop, rows=tuple(names), **QUICK)
    report = bench_fleet(tmp_path, options, announce)
    assert [row.name for row in report.rows] == names
    assert all(row.value > 0 for row in report.rows if row.name != "overhead")
    assert all(len(row.values) == 2 for row in report.rows)
    assert report.host["loop"] == loop
    assert not list(tmp_path.iterdir())


def test_the_issues_figures_are_lines():
    lines = {
        "inspects/c100": (20_000, None),
        "latency-p50/c1": (None, 200),
        "overhead": (None, 3),
        "fairness": (0.99, None),
        "cancel-p99": (None, 10),
        "advance/busy-to-idle": (None, 1.5),
        "density/debian-machines": (10_000, None),
        "density/debian-gb": (None, 4),
    }
    from orchestra.bench.fleet import AT_LEAST, AT_MOST

    assert {name: (AT_LEAST.get(name), AT_MOST.get(name)) for name in lines} == lines
    assert lines.keys() <= set(row_names())
    assert (min(CONCURRENCIES), max(CONCURRENCIES)) == (1, 10_000)


@pytest.mark.anyio
async def test_each_debian_machine_answers_its_own_question(debian):
    found = await _ask_each(debian[0], 5, 2)
    assert (found.machines, found.answered) == (5, 5)
    assert 0 < found.memory_bytes < 4 << 30


def test_what_a_fleet_burns_between_slices_is_overhead(tmp_path, monkeypatch):
    """As much as in slices: half of the CPU; the plain loop has nothing to do with it."""

    def take(desk, worker, take=Desk.take):
        job = take(desk, worker)
        end = thread_time() + (desk.planner.slice_seconds if job else 0)
        while thread_time() < end:
            pass
        return job

    monkeypatch.setattr(Desk, "take", take)
    options = FleetOptions(rows=("overhead",), seconds=1.0, runs=1, machines=20)
    (row,) = bench_fleet(tmp_path, options, announce).rows
    assert 30 < row.value < 70


def test_a_pattern_without_rows_is_refused():
    with pytest.raises(BadConfig, match="--rows"):
        FleetOptions(rows=("nothing*",))


def test_the_command_prints_json(call, tmp_path):
    status, out, err = call(
        *("bench", "fleet", "--dir", tmp_path, "--rows", "*/c1", "--rows", "*/c10"),
        *("--seconds", "0.05", "--runs", "1", "--json"),
    )
    document = json.loads(out)
    assert document["benchmark"] == "fleet"
    assert [row["name"] for row in document["rows"]][:2] == ["inspects/c1", "latency-p50/c1"]
    assert status == (0 if document["ok"] else 1)
    assert "inspects/c1" in err


def test_without_the_plotting_library_the_extra_is_named_at_once(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = call("bench", "fleet", "--plot", tmp_path / "chart.png")
    assert (status, out) == (2, "")
    assert "orchestra[plot]" in err
