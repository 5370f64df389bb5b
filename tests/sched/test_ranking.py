"""Who used most CPU lately comes first, and what each does is told as it is."""

from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.sched.fleet import open_fleet
from orchestra.sched.plan import Priority, Share
from orchestra.sched.ranking import FADE_SECONDS, Activity, Ranking
from orchestra.sched.settings import ApplicationSettings
from orchestra.testing import BOOT, FOREVER, FakeMachine, Halt
from tests.guests import ledger_config

pytestmark = pytest.mark.anyio


def owed(*shares):
    return [(share, partial(Activity, "machine", 7)) for share in shares]


def used(name, seconds):
    share = Share(name)
    share.seconds = seconds
    return share


def test_the_first_look_finds_who_used_most_so_far():
    shares = [used(str(n), n) for n in (3, 1, 4, 5)]
    found = Ranking().busiest(2, owed(*shares), 100.0)
    assert [(row.name, row.seconds, row.cycle) for row in found] == [("5", 5, 7), ("4", 4, 7)]


def test_who_was_busy_once_is_passed_by_who_is_now():
    ranking, before, now = Ranking(), used("before", 2.0), used("now", 0.0)
    assert ranking.busiest(1, owed(before, now), 0.0)[0].name == "before"
    now.seconds = 0.1
    (row,) = ranking.busiest(1, owed(before, now), 4 * FADE_SECONDS)
    assert (row.name, row.seconds) == ("now", 0.1)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(1, 1000))
def test_what_was_used_before_fades_alike_however_often_one_looks(times, end):
    often, once = Ranking(), Ranking()
    one, other = used("one", 3.0), used("other", 3.0)
    often.busiest(1, owed(one), 0.0)
    once.busiest(1, owed(other), 0.0)
    for time in sorted(times):
        often.busiest(1, owed(one), min(time, end))
    often.busiest(1, owed(one), end)
    once.busiest(1, owed(other), end)
    assert one.rank.recent == pytest.approx(other.rank.recent, abs=1e-9)


def test_numbers_stay_whoever_is_shown():
    ranking, shares = Ranking(), [used(str(n), n) for n in range(4)]
    first = {row.name: row.number for row in ranking.busiest(4, owed(*shares), 0.0)}
    shares[0].seconds = 9.0
    again = {row.name: row.number for row in ranking.busiest(2, owed(*shares), 1.0)}
    assert len(set(first.values())) == 4
    assert again.items() < first.items()


def rows(fleet, most=10):
    return {f"{row.kind} {row.name}": row for row in fleet.statistics(busiest=most).busiest}


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


async def test_who_runs_and_who_waits_for_it_is_told():
    first, second = (FakeMachine(FOREVER, pace="host") for _ in range(2))
    names = [f"machine machine-{id(machine):x}" for machine in (first, second)]

    def found(state):
        return [row for row in rows(fleet).values() if row.state == state]

    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        group.start_soon(partial(fleet.run, first, weight=2.0, priority=Priority.BACKGROUND))
        group.start_soon(fleet.run, second)
        await until(lambda: found("running") and found("waiting"))
        await until(lambda: all(row.cycles and row.waiting_seconds for row in rows(fleet).values()))
        now = rows(fleet)
        assert {name: (row.weight, row.priority) for name, row in now.items()} == {
            names[0]: (2.0, "background"),
            names[1]: (1.0, "inspect"),
        }
        for row in now.values():
            assert (row.kind, row.doing) == ("machine", "run")
            assert row.seconds > 0
        waits = found("waiting")
        if waits:  # it counts while it lasts
            await until(
                lambda: (
                    rows(fleet)[f"machine {waits[0].name}"].waiting_seconds
                    > waits[0].waiting_seconds
                )
            )
        group.cancel_scope.cancel()


async def test_machines_applications_and_pools_are_shown_while_they_are_open(tmp_path):
    settings = ApplicationSettings(durable=False, weight=3.0)
    async with open_fleet(1) as fleet:
        async with (
            fleet.create(ledger_config(), tmp_path / "machine") as machine,
            fleet.application(tmp_path / "app", ledger_config(), settings, name="app") as app,
        ):
            await fleet.run(machine)
            await app.advance(b"mint alice 1")
            await app.inspect(b"total")
            found = fleet.statistics(busiest=10)
            by_kind = {row.kind: row for row in found.busiest}
            assert [len(found.busiest), found.others] == [3, 0]
            one, mine, pool = (by_kind[kind] for kind in ("machine", "application", "pool"))
            assert one.name == str(tmp_path / "machine")
            assert (one.cycle, one.cycles) == (machine.cycle, machine.cycle)
            assert (mine.name, mine.cycle, mine.weight) == ("app", app.cycle, 3.0)
            assert mine.cycles == app.cycle - machine.cycle
            assert (pool.name, pool.cycle) == ("app", app.cycle)
            assert pool.seconds > 0
            assert {(row.state, row.doing, row.priority) for row in found.busiest} == {
                ("idle", "", "")
            }
            assert len(fleet.statistics(busiest=1).busiest) == 1
            assert fleet.statistics(busiest=1).others == 2
            assert fleet.statistics().busiest == ()
        assert fleet.statistics(busiest=10).busiest == ()


async def test_what_is_asked_is_told(tmp_path):
    endless = FakeMachine(BOOT, lambda *_: FOREVER, pace="host")
    endless.run()
    settings = ApplicationSettings(durable=False)
    async with (
        open_fleet(2) as fleet,
        fleet.inspect_pool(endless, name="asked") as pool,
        fleet.application(tmp_path / "app", ledger_config(), settings, name="app") as app,
        anyio.create_task_group() as group,
    ):
        group.start_soon(pool.inspect, b"x")
        group.start_soon(app.advance, b"spin 1000000000000")
        await until(lambda: sum(row.state == "running" for row in rows(fleet).values()) == 2)
        now = rows(fleet)
        assert {name: (row.doing, row.priority) for name, row in now.items() if row.doing} == {
            "pool asked": ("inspect", "inspect"),
            "application app": ("advance", "advance"),
        }
        group.cancel_scope.cancel()


async def test_a_call_that_waits_for_files_is_told():
    machine = FakeMachine([Halt()])
    done = anyio.Event()

    def look():
        anyio.from_thread.run(done.wait)

    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        await fleet.run(machine)
        group.start_soon(fleet.call, machine, look)
        await until(lambda: [row.state for row in rows(fleet).values()] == ["files"])
        (row,) = rows(fleet).values()
        assert (row.doing, row.cycle) == ("call", None)
        done.set()


async def test_how_long_answers_take_is_counted():
    machine = FakeMachine(BOOT)
    machine.run()
    async with open_fleet(1) as fleet, fleet.inspect_pool(machine, size=1, queue=5) as pool:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(pool.inspect, b"x")
        found = pool.statistics()
        assert (found.answering_seconds.count, found.ended, found.queue) == (5, 5, 5)
        assert found.answering_seconds.seconds >= fleet.statistics().serving_seconds.seconds
