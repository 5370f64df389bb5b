"""An inspect pool answers from copies, keeps them apart, and swaps what it answers from."""

import asyncio
import math
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import AtCapacity, BackingFault, MachineBusy, MachineClosed
from orchestra.machine.request import Limits, Report
from orchestra.machine.stop import REQUEST_INSPECT
from orchestra.sched.fleet import open_fleet
from orchestra.sched.leases import Leases
from orchestra.testing import (
    BOOT,
    FOREVER,
    Break,
    FakeClock,
    FakeMachine,
    Store,
    Work,
    accept,
    note_guest,
    report,
)

pytestmark = pytest.mark.anyio


def booted(guest=note_guest, **options):
    machine = FakeMachine(BOOT, guest, **options)
    machine.run()
    return machine


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


def stubborn_guest(memory, reason, payload):
    """Answer, but never end when asked "loop", and fail when asked "fault"."""
    if payload == b"loop":
        return (report(b"early"), *FOREVER)
    if payload == b"fault":
        return (report(b"early"), Break(BackingFault("app/0.delta", 0, "input/output error")))
    if payload == b"bug":
        return (Break(RuntimeError("a bug")),)
    return note_guest(memory, reason, payload)


async def test_an_inspect_is_answered_and_leaves_the_template_as_it_was():
    template = booted()
    before = template.digest()
    async with open_fleet(2) as fleet, fleet.inspect_pool(template) as pool:
        outcome = await pool.inspect(b"who")
    assert (outcome.status, outcome.reports, outcome.cycles) == ("accepted", (b"who",), 200)
    assert template.digest() == before


@settings(max_examples=20, deadline=None)
@given(queries=st.lists(st.binary(max_size=8), min_size=1, max_size=20))
def test_no_inspect_sees_what_another_one_did(queries):
    """The guest writes each query into its memory and would report what it finds there."""
    template = booted(
        lambda memory, _, payload: (Store(memory + payload), Work(5), report(memory), accept())
    )
    seen = set()

    async def main():
        async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=2) as pool:

            async def ask(query):
                outcome = await pool.inspect(query)
                seen.add((outcome.reports, outcome.cycles))

            async with anyio.create_task_group() as group:
                for query in queries:
                    group.start_soon(ask, query)

    anyio.run(main)
    assert seen == {((b"",), 5)}


async def test_leases_are_kept_warm_and_never_more_than_asked_for():
    template = booted()
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=3) as pool:
        async with anyio.create_task_group() as group:
            for n in range(200):
                group.start_soon(pool.inspect, b"%d" % n)
        assert template.family.forks <= 1 + 3
        assert template.family.rollbacks >= 190
    assert template.family.open == 1


async def test_the_template_may_go_on_while_it_is_inspected():
    template = booted()
    async with open_fleet(2) as fleet, fleet.inspect_pool(template) as pool:
        await fleet.advance(template, b"new")
        assert (await pool.inspect(b"?")).reports == (b"?",)
        await pool.publish(template)
        assert (await pool.inspect(b"?")).reports == (b"new?",)
        assert pool.statistics().publications == 1


async def test_publishing_lets_running_inspects_finish_on_the_old_state():
    template = booted(
        lambda memory, reason, payload: (
            note_guest(memory, reason, payload)
            if reason != REQUEST_INSPECT
            else (report(memory), Work(50_000 if payload == b"slow" else 1), accept())
        ),
        pace="host",
        cycles_per_second=1e6,
    )
    answers = {}
    async with open_fleet(2) as fleet, fleet.inspect_pool(template) as pool:

        async def ask(query):
            answers[query] = (await pool.inspect(query)).reports

        async with anyio.create_task_group() as group:
            group.start_soon(ask, b"slow")
            await until(lambda: template.family.forks == 2)
            await fleet.advance(template, b"new")
            await pool.publish(template)
            await ask(b"quick")
            assert b"slow" not in answers
    assert answers == {b"slow": (b"",), b"quick": (b"new",)}
    assert template.family.open == 1


async def test_publishing_under_load_loses_no_inspect():
    template = booted()
    counts = {}

    async def ask(pool):
        for _ in range(50):
            (answer,) = (await pool.inspect(b"!")).reports
            counts[answer] = counts.get(answer, 0) + 1

    async with (
        open_fleet(2) as fleet,
        fleet.inspect_pool(template) as pool,
        anyio.create_task_group() as group,
    ):
        for _ in range(20):
            group.start_soon(ask, pool)
        for n in range(10):
            await fleet.advance(template, b"%d" % n)
            await pool.publish(template)
    assert sum(counts.values()) == 1000
    assert template.family.open == 1


async def test_over_capacity_fails_at_once():
    template = booted(stubborn_guest, pace="host")
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=1, queue=1) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(pool.inspect, b"loop")
            group.start_soon(pool.inspect, b"loop")
            await until(lambda: pool.statistics().waiting)
            with pytest.raises(AtCapacity):
                await pool.inspect(b"who")
            assert pool.statistics().refused == 1
            group.cancel_scope.cancel()
        assert (await pool.inspect(b"who")).accepted


async def test_over_capacity_waits_if_asked_to():
    template = booted()
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=1, queue=0) as pool:
        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(partial(pool.inspect, b"%d" % n, wait=True))
        assert pool.statistics().ended == 50
        assert pool.statistics().waiting == 0


async def test_waiting_for_room_can_be_cancelled():
    template = booted(stubborn_guest, pace="host")
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=1, queue=0) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(pool.inspect, b"loop")
            await until(lambda: pool.statistics().running)
            with anyio.move_on_after(0.005) as scope:
                await pool.inspect(b"who", wait=True)
            assert scope.cancelled_caught
            group.cancel_scope.cancel()
        assert (await pool.inspect(b"who")).accepted


@pytest.mark.parametrize(
    ("query", "limits", "status"),
    [
        (b"loop", Limits(max_cycles=1_000_000), "limit_exceeded"),
        (b"loop", Limits(max_seconds=0.01), "limit_exceeded"),
        (b"loop", Limits(max_output_bytes=4), "limit_exceeded"),
        (b"fault", None, "failed"),
    ],
    ids=["cycles", "seconds", "output", "fault"],
)
async def test_what_was_reported_before_the_end_is_kept(query, limits, status):
    clock = FakeClock()
    template = booted(stubborn_guest, clock=clock)
    async with open_fleet(2, clock=clock) as fleet, fleet.inspect_pool(template) as pool:
        outcome = await pool.inspect(query, limits)
        assert outcome.status == status
        assert outcome.reports == (() if limits and limits.max_output_bytes == 4 else (b"early",))
        assert (await pool.inspect(b"who")).reports == (b"who",)
    assert template.family.open == 1


async def test_a_lease_whose_host_failed_is_not_used_again():
    template = booted(stubborn_guest)
    async with open_fleet(1) as fleet, fleet.inspect_pool(template, size=1) as pool:
        await pool.inspect(b"who")
        await until(lambda: pool.statistics().warm == 1)
        assert (await pool.inspect(b"fault")).status == "failed"
        await until(lambda: not pool.statistics().warm)
        with pytest.raises(RuntimeError, match="a bug"):
            await pool.inspect(b"bug")
        assert (await pool.inspect(b"who")).accepted


async def test_one_bad_inspect_affects_nobody_else():
    template = booted(stubborn_guest)
    statuses = []

    async def ask(query):
        statuses.append((await pool.inspect(query, Limits(max_cycles=300_000))).status)

    async with (
        open_fleet(2) as fleet,
        fleet.inspect_pool(template, size=8) as pool,
        anyio.create_task_group() as group,
    ):
        for n in range(90):
            group.start_soon(ask, [b"who", b"loop", b"fault"][n % 3])
    assert {status: statuses.count(status) for status in statuses} == {
        "accepted": 30,
        "limit_exceeded": 30,
        "failed": 30,
    }


async def test_a_cancelled_inspect_frees_its_lease():
    template = booted(stubborn_guest, pace="host")
    async with open_fleet(1) as fleet, fleet.inspect_pool(template, size=1, queue=0) as pool:
        for _ in range(5):
            with anyio.move_on_after(0.003):
                await pool.inspect(b"loop")
        assert (await pool.inspect(b"who")).accepted
    assert template.family.open == 1


async def test_thousands_of_inspects_can_be_cancelled_at_once():
    template = booted(stubborn_guest, pace="host")
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, queue=5000) as pool:
        async with anyio.create_task_group() as group:
            for _ in range(5000):
                group.start_soon(pool.inspect, b"loop")
            await until(lambda: pool.statistics().waiting > 4000)
            group.cancel_scope.cancel()
        assert pool.statistics().running == pool.statistics().waiting == 0
        assert (await pool.inspect(b"who")).accepted
    assert template.family.open == 1


async def test_closing_the_pool_ends_its_inspects():
    template = booted(stubborn_guest, pace="host")
    errors = []

    async def ask(query, pool, **options):
        try:
            await pool.inspect(query, **options)
        except MachineClosed as error:
            errors.append(error)

    async with open_fleet(2) as fleet, anyio.create_task_group() as group:
        async with fleet.inspect_pool(template, size=1, queue=1) as pool:
            group.start_soon(ask, b"loop", pool)
            group.start_soon(ask, b"loop", pool)
            await until(lambda: pool.statistics().waiting)
            group.start_soon(partial(ask, wait=True), b"loop", pool)
            await until(lambda: pool.statistics().waiting == 2)
        with pytest.raises(MachineClosed):
            await pool.inspect(b"who")
        with pytest.raises(MachineClosed):
            await pool.publish(template)
    assert len(errors) == 3
    assert template.family.open == 1


async def test_leaving_the_fleet_ends_the_inspects_that_wait_for_a_lease():
    template = booted(stubborn_guest, pace="host")
    errors = []

    async def ask(pool):
        try:
            await pool.inspect(b"loop")
        except MachineClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as outside:
        async with open_fleet(2) as fleet:
            late = fleet.inspect_pool(template, size=1, queue=9)
            pool = await late.__aenter__()  # it is left after its fleet
            for _ in range(4):
                outside.start_soon(ask, pool)
            await until(lambda: pool.statistics().waiting)
        await until(lambda: len(errors) == 4)
        await late.__aexit__(None, None, None)
    assert template.family.open == 1


async def test_a_closed_pool_has_given_everything_back():
    template = booted()
    async with open_fleet(2) as fleet:
        for _ in range(50):
            async with fleet.inspect_pool(template) as pool, anyio.create_task_group() as group:
                group.start_soon(pool.inspect, b"a")
                group.start_soon(pool.inspect, b"b")
                await pool.publish(template)
            assert template.family.open == 1


async def test_a_template_that_does_not_wait_for_requests_says_so():
    async with open_fleet(1) as fleet, fleet.inspect_pool(FakeMachine(FOREVER)) as pool:
        with pytest.raises(MachineBusy):
            await pool.inspect(b"who")


async def test_reports_can_be_read_as_they_come():
    template = booted(stubborn_guest, pace="host")
    async with open_fleet(1) as fleet, fleet.inspect_pool(template) as pool:
        async with pool.inspecting(b"loop") as call:
            async for event in call:
                assert isinstance(event, Report)
                assert event.data == b"early"
                break
        async with pool.inspecting(b"who") as call:
            assert (await call.outcome()).reports == (b"who",)
            assert [event.data async for event in call] == [b"who"]
    assert template.family.open == 1


@pytest.mark.parametrize(("size", "queue"), [(0, 1), (1, -1)])
async def test_a_pool_without_room_is_refused(size, queue):
    async with open_fleet(1) as fleet:
        with pytest.raises(ValueError, match="at least"):
            async with fleet.inspect_pool(booted(), size=size, queue=queue):
                pass


def test_retired_leases_are_closed_when_they_come_back():
    template = booted()
    leases = Leases(template)
    one, two = leases.lease(), leases.lease()
    leases.give_back(one, spoiled=False)
    leases.retire()
    leases.retire()
    assert one.closed
    assert not two.closed
    assert not template.closed
    assert leases.lease() is None
    leases.give_back(two, spoiled=False)
    assert two.closed
    assert template.closed
    assert leases.closed


async def test_who_asks_until_they_go_is_answered_while_they_are_there():
    async with open_fleet(2) as fleet, fleet.inspect_pool(booted()) as pool:
        for n in range(50):
            asked = pool.inspect_until(anyio.sleep_forever, b"%d" % n)
            assert (await asked).reports == (b"%d" % n,)
        await pool.publish(FakeMachine(BOOT, note_guest))  # that does not wait for a request
        with pytest.raises(MachineBusy):
            await pool.inspect_until(anyio.sleep_forever, b"?")


async def test_what_was_asked_ends_when_who_asked_goes():
    async with open_fleet(2) as fleet, fleet.inspect_pool(booted(stubborn_guest), size=2) as pool:

        async def ask(seconds):
            with pytest.raises(MachineClosed):
                await pool.inspect_until(partial(anyio.sleep, seconds), b"loop")

        async with anyio.create_task_group() as group:
            for n in range(40):
                group.start_soon(ask, 0.001 * n)
        statistics = pool.statistics()
        assert (statistics.running, statistics.waiting, statistics.ended) == (0, 0, 40)
        with anyio.move_on_after(0.01) as scope:
            await pool.inspect_until(anyio.sleep_forever, b"loop")
        assert scope.cancelled_caught
        assert pool.statistics().running == 0
        assert (await pool.inspect(b"who")).reports == (b"who",)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_is_cancelled_by_asyncio_while_asking_is_cancelled(anyio_backend):
    async with open_fleet(2) as fleet, fleet.inspect_pool(booted(stubborn_guest)) as pool:
        for n in range(60):
            query = b"loop" if n % 2 else b"who"
            asked = pool.inspect_until(anyio.sleep_forever, query)
            task = asyncio.ensure_future(asked)
            await asyncio.sleep(n * 1e-5)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result().reports == (b"who",)
            assert pool.statistics().running == 0


async def test_a_query_with_a_deadline_comes_before_one_without():
    answered = []

    def guest(memory, reason, payload):
        answered.append(payload)
        return note_guest(memory, reason, payload)

    template, long = booted(guest), FakeMachine(FOREVER, pace="host", cycles_per_second=1e5)
    async with (
        open_fleet(1) as fleet,
        fleet.inspect_pool(template) as pool,
        anyio.create_task_group() as group,
        anyio.create_task_group() as busy,
    ):
        busy.start_soon(fleet.run, long)
        await until(lambda: fleet.statistics().running)
        for n, deadline in enumerate([math.inf, 9.0, 3.0, 6.0]):
            group.start_soon(partial(pool.inspect, b"%d" % n, deadline=deadline))
        await anyio.wait_all_tasks_blocked()
        busy.cancel_scope.cancel()
    assert answered == [b"2", b"3", b"1", b"0"]


async def test_a_logger_that_fails_disturbs_nobody(caplog):
    class Broken:
        def info(self, event, **fields):
            raise ZeroDivisionError(event)

        debug = warning = info

    template = booted()
    async with open_fleet(1, logger=Broken()) as fleet:
        async with fleet.inspect_pool(template) as pool:
            assert (await pool.inspect(b"who")).accepted
            await pool.publish(template)
        assert (await fleet.advance(template, b"x")).accepted
    assert template.family.open == 1
    assert "pool.published" in caplog.text
