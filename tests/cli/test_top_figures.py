"""Two looks at a fleet become rows, rates and texts; nothing is invented where nothing is known."""

import pytest

from orchestra.cli.top.columns import TABLES, chosen, summary
from orchestra.cli.top.figures import compare
from orchestra.cli.top.pulse import Pulses
from tests.cli.looks import application, durations, look, machine, pool

MACHINES, APPLICATIONS, POOLS = TABLES


def cell(table, row, title):
    return next(column for column in table.columns if column.title == title).text(row)


def test_rates_are_of_the_time_between_two_looks():
    before = look(10.0, [machine(1, "a", seconds=1.0, cycles=0)], cycles=0, seconds=1.0)
    now = look(12.0, [machine(1, "a", seconds=2.0, cycles=4_000_000)], cycles=9_000, seconds=4.0)
    sight = compare(now, before)
    (row,) = sight.machines
    assert cell(MACHINES, row, "cpu %") == "50.0"
    assert cell(MACHINES, row, "cycles/s") == "2 M"
    assert (summary(sight)["cycles/s"], summary(sight)["busy"]) == ("4.5 k", "75 %")


def test_one_look_alone_is_beside_the_beginning():
    sight = compare(look(4.0, [machine(1, "a", seconds=1.0)], calls=8), None)
    assert cell(MACHINES, sight.machines[0], "cpu %") == "25.0"
    assert summary(sight)["calls/s"] == "2"


def test_a_server_that_was_restarted_begins_anew():
    before = look(100.0, [machine(1, "a", seconds=90.0)], cycles=1 << 40)
    sight = compare(look(2.0, [machine(1, "a", seconds=1.0)], cycles=2_000), before)
    assert cell(MACHINES, sight.machines[0], "cpu %") == "50.0"
    assert summary(sight)["cycles/s"] == "1 k"


def test_a_machine_that_was_not_seen_before_has_no_rates_yet():
    sight = compare(look(2.0, [machine(2, "b")]), look(1.0, [machine(1, "a")]))
    (row,) = sight.machines
    assert [cell(MACHINES, row, title) for title in ("cpu %", "cycles/s", "wait %")] == [""] * 3
    assert cell(MACHINES, row, "cycle") == "1,000"


def test_latencies_are_of_what_ended_between_two_looks():
    slow, quick = durations(*[1.0] * 100), durations(*[1.0] * 100, *[0.001] * 99, 0.5)
    before = look(1.0, pools=[pool("p", answering_seconds=slow)])
    sight = compare(look(2.0, pools=[pool("p", answering_seconds=quick)]), before)
    assert cell(POOLS, sight.pools[0], "p50") == "1.02 ms"
    assert cell(POOLS, sight.pools[0], "p99") == "1.02 ms"
    idle = compare(look(3.0, pools=[pool("p", answering_seconds=quick)]),
                   look(2.0, pools=[pool("p", answering_seconds=quick)]))  # fmt: skip
    assert cell(POOLS, idle.pools[0], "p50") == ""


def test_an_application_has_its_log_and_disk_beside_its_inputs():
    (row,) = compare(look(1.0, applications=[application("ledger")]), None).applications
    texts = [cell(APPLICATIONS, row, title) for title in ("inputs", "refused", "log", "disk")]
    assert texts == ["4", "1", "4 KiB", "1 MiB"]


def test_two_of_one_name_are_two_rows():
    sight = compare(look(1.0, pools=[pool("p"), pool("p")]), None)
    assert len({row.key for row in sight.pools}) == 2


@pytest.mark.parametrize("descending", [False, True])
def test_rows_are_sorted_by_value_and_those_without_one_come_last(descending):
    now = look(2.0, [machine(n, str(n), cycle=cycle) for n, cycle in enumerate([9, None, 100, 20])])
    column = next(each for each in MACHINES.columns if each.title == "cycle")
    rows = chosen(MACHINES, compare(now, None).machines, "", column, descending=descending)
    expected = ["2", "3", "0"] if descending else ["0", "3", "2"]
    assert [row.name for row in rows] == [*expected, "1"]


@pytest.mark.parametrize(
    ("words", "names"),
    [("", "abc"), ("IDLE", "c"), ("advance /srv", "b"), ("srv", "ab"), ("nothing", "")],
)
def test_a_filter_looks_for_all_its_words_in_the_texts(words, names):
    rows = compare(
        look(
            2.0,
            [
                machine(1, "/srv/a"),
                machine(2, "/srv/b", doing="advance"),
                machine(3, "/tmp/c", state="idle", doing=""),
            ],
        ),
        None,
    ).machines
    column = MACHINES.columns[1]
    found = chosen(MACHINES, rows, words, column, descending=False)
    assert "".join(row.name[-1] for row in found) == names


def test_a_minute_is_kept_and_no_more():
    pulses = Pulses()
    for at in range(100):
        pulses.add(float(at), {"a": float(at), "b": None if at else 7.0})
    assert pulses.values("a") == [float(at) for at in range(39, 100)]
    assert pulses.values("b") == []
    assert len(pulses) == 1
