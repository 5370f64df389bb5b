"""A fleet runs machines fairly, stops them at once, and keeps their troubles apart."""

import gc
import statistics
import threading
import time
from functools import partial

import anyio
import pytest

from orchestra.errors import BackingFault, MachineBusy, MachineClosed
from orchestra.machine.request import Limits, Output, Progress, Report
from orchestra.machine.stop import Halted, Interrupted, ReachedCycle, Yielded
from orchestra.sched.fleet import open_fleet
from orchestra.sched.plan import Priority
from orchestra.sched.worker import Worker
from orchestra.testing import (
    BOOT,
    FOREVER,
    Break,
    FakeClock,
    FakeMachine,
    Halt,
    Work,
    accept,
    reject,
    report,
)

pytestmark = pytest.mark.anyio


class WallClock:
    """For fakes that wait instead of computing: their CPU time is the wall's."""

    now = staticmethod(time.monotonic)
    cpu = staticmethod(time.monotonic)


def booted(**options):
    machine = FakeMachine(BOOT, **options)
    machine.run()
    return machine


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


def jain(values):
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


async def test_a_run_returns_what_the_machine_says():
    async with open_fleet(1) as fleet:
        assert await fleet.run(FakeMachine([Work(50_000_000), Halt(7)])) == Halted(50_000_000, 7)
        assert await fleet.run(FakeMachine(BOOT)) == Yielded(1000, "manual", 1, 0)


@pytest.mark.parametrize(
    ("options", "cycle"),
    [
        ({"until": 10}, 10),
        ({"max_cycles": 11}, 11),
        ({"until": 10, "max_cycles": 11}, 10),
        ({"until": 90_000_001}, 90_000_001),
        ({"until": 0}, 0),
    ],
)
async def test_a_run_stops_at_exactly_the_cycle_asked_for(options, cycle):
    async with open_fleet(1) as fleet:
        assert await fleet.run(FakeMachine(FOREVER), **options) == ReachedCycle(cycle)


async def test_a_run_in_slices_among_others_ends_in_the_same_state():
    alone = FakeMachine([Work(7_000_000), report(b"x"), Work(9_000_000), Halt()])
    fleeted = alone.fork()
    while not isinstance(alone.run(), Halted):
        pass
    async with open_fleet(2) as fleet, anyio.create_task_group() as others:
        for _ in range(5):
            others.start_soon(fleet.run, FakeMachine([Work(20_000_000), Halt()]))
        while not isinstance(await fleet.run(fleeted), Halted):
            pass
    assert fleeted.digest() == alone.digest()


async def service(fleet, machines, slices):
    """The seconds each machine gets in so many slices, from when all of them have begun."""
    await until(lambda: all(machine.cycle for machine in machines))
    before = [machine.cycle for machine in machines]
    end = fleet.statistics().slices + slices
    await until(lambda: fleet.statistics().slices >= end)
    return [
        (machine.cycle - cycle) / machine.cycles_per_second
        for machine, cycle in zip(machines, before, strict=True)
    ]


async def test_equal_machines_get_equal_time():
    clock = FakeClock()
    machines = [
        FakeMachine(FOREVER, clock=clock, cycles_per_second=1e8 * (1 + n % 3)) for n in range(60)
    ]
    async with open_fleet(2, clock=clock) as fleet, anyio.create_task_group() as group:
        for machine in machines:
            group.start_soon(fleet.run, machine)
        used = await service(fleet, machines, slices=60 * 60)
        group.cancel_scope.cancel()
    assert jain(used) >= 0.99


async def test_time_is_shared_by_weight():
    clock = FakeClock()
    light, heavy = (FakeMachine(FOREVER, clock=clock) for _ in range(2))
    async with open_fleet(1, clock=clock) as fleet, anyio.create_task_group() as group:
        group.start_soon(fleet.run, light)
        group.start_soon(partial(fleet.run, heavy, weight=3))
        used = await service(fleet, [light, heavy], slices=800)
        group.cancel_scope.cancel()
    assert used[1] / used[0] == pytest.approx(3, rel=0.1)


async def test_thousands_of_machines_share_two_workers():
    machines = [FakeMachine([Work(1_000_000), Halt(n)]) for n in range(3000)]
    stops = []

    async def run(machine):
        stops.append(await fleet.run(machine))

    async with open_fleet(2) as fleet, anyio.create_task_group() as group:
        for machine in machines:
            group.start_soon(run, machine)
    assert sorted(stop.code for stop in stops) == list(range(3000))
    assert len(set.union(*(machine.threads for machine in machines))) <= 2


async def test_a_cancelled_run_stops_its_machine_within_ten_milliseconds():
    taken = []
    async with open_fleet(2) as fleet:
        for _ in range(15):
            machine = FakeMachine(FOREVER, pace="host", cycles_per_second=1e5)  # slices of seconds
            async with anyio.create_task_group() as group:
                group.start_soon(fleet.run, machine)
                await until(lambda: fleet.statistics().running)
                began = time.perf_counter()
                group.cancel_scope.cancel()
            taken.append(time.perf_counter() - began)
            machine.close()  # nobody uses it any more, else this raises
    assert statistics.median(taken) < 0.010


async def test_a_cancelled_run_can_be_taken_up_where_it_was_stopped():
    machine = FakeMachine([Work(200_000_000), Halt(5)])
    async with open_fleet(1) as fleet:
        for _ in range(20):
            with anyio.move_on_after(0.0005):
                await fleet.run(machine)
        assert await fleet.run(machine) == Halted(200_000_000, 5)


async def test_fail_after_is_the_time_limit_of_a_run():
    async with open_fleet(1) as fleet:
        began = time.perf_counter()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                await fleet.run(FakeMachine(FOREVER, pace="host"))
        assert 0.04 < time.perf_counter() - began < 1


async def test_a_run_cancelled_before_its_turn_leaves_its_machine_alone():
    clock = FakeClock()
    waiting = FakeMachine(FOREVER, clock=clock)
    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        group.start_soon(fleet.run, FakeMachine(FOREVER, pace="host"))
        await until(lambda: fleet.statistics().running)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await fleet.run(waiting)
        assert waiting.family.runs == 0
        group.cancel_scope.cancel()


async def test_leaving_the_fleet_stops_every_machine_within_ten_milliseconds():
    taken = []
    for _ in range(7):
        machines = [FakeMachine(FOREVER, pace="host") for _ in range(20)]
        closed = []

        async def run(machine, fleet, closed):
            try:
                await fleet.run(machine)
            except MachineClosed:
                closed.append(machine)

        async with anyio.create_task_group() as outside:
            async with open_fleet(2, clock=WallClock()) as fleet:
                for machine in machines:
                    outside.start_soon(run, machine, fleet, closed)
                await until(lambda: fleet.statistics().slices >= 10)
                began = time.perf_counter()
            taken.append(time.perf_counter() - began)
        assert len(closed) == 20
        assert sum(machine.cycle > 0 for machine in machines) >= 4
    assert statistics.median(taken) < 0.010


async def test_a_closed_fleet_takes_no_more_calls():
    async with open_fleet(1) as fleet:
        pass
    with pytest.raises(MachineClosed):
        await fleet.run(FakeMachine(FOREVER))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
async def test_an_error_in_the_block_comes_out_as_it_is(error):
    with pytest.raises(error):
        async with open_fleet(1):
            raise error


async def test_cancelling_the_task_that_holds_the_fleet_stops_it():
    machine = FakeMachine(FOREVER, pace="host")
    with anyio.move_on_after(0.05) as scope:
        async with open_fleet(2) as fleet:
            await fleet.run(machine)
    assert scope.cancelled_caught
    machine.close()


async def test_one_machine_that_fails_affects_nobody_else():
    fault = BackingFault("app/top", 4096, "no space")
    errors, stops = [], []

    async def run(machine):
        try:
            stops.append(await fleet.run(machine))
        except (BackingFault, RuntimeError) as error:
            errors.append(error)

    async with open_fleet(2) as fleet, anyio.create_task_group() as group:
        for n in range(30):
            script = [Work(5_000_000), Break(fault if n % 2 else RuntimeError("a bug"))]
            good = [Work(9_000_000), Halt(n)]
            group.start_soon(run, FakeMachine(script if n % 3 == 0 else good))
    assert len(errors) == 10
    assert len(stops) == 20
    assert fault in errors


async def test_a_machine_that_faulted_can_go_on_once_the_storage_is_mended():
    machine = FakeMachine([Work(10), Break(BackingFault("top", 0, "no space"))])
    async with open_fleet(1) as fleet:
        with pytest.raises(BackingFault):
            await fleet.run(machine)
        machine._state = type(machine._state)(cycle=10, script=(Work(5), Halt(1)))
        assert await fleet.run(machine) == Halted(15, 1)


async def test_a_machine_does_one_thing_at_a_time():
    machine = FakeMachine(FOREVER, pace="host")
    async with open_fleet(2) as fleet, anyio.create_task_group() as group:
        group.start_soon(fleet.run, machine)
        await until(lambda: fleet.statistics().running)
        with pytest.raises(MachineBusy):
            await fleet.run(machine)
        with pytest.raises(MachineBusy):
            await fleet.fork(machine)
        group.cancel_scope.cancel()


async def test_an_interrupt_of_the_users_ends_the_run():
    machine = FakeMachine(FOREVER, pace="host")
    async with open_fleet(1) as fleet, anyio.create_task_group() as group:

        async def interrupt():
            await until(lambda: fleet.statistics().running)
            machine.interrupt()

        group.start_soon(interrupt)
        assert isinstance(await fleet.run(machine), Interrupted)


async def test_an_advance_changes_the_machine_only_if_it_is_accepted():
    machine = booted()
    async with open_fleet(1) as fleet:
        assert (await fleet.advance(machine, b"one")).outputs == (b"one",)
        before = machine.digest()
        for payload, status in [(b"reject", "rejected"), (b"throw", "exception")]:
            outcome = await fleet.advance(machine, payload)
            assert (outcome.status, outcome.reports) == (status, (b"got " + payload,))
            assert machine.digest() == before
        outcome = await fleet.advance(machine, b"loop", Limits(max_cycles=10_000_000))
        assert (outcome.status, outcome.cycles) == ("limit_exceeded", 10_000_000)
        assert machine.digest() == before
        assert (await fleet.advance(machine, b"two")).accepted
    assert machine.memory == b"onetwo"


async def test_the_time_limit_of_an_advance_counts_its_running_time():
    machine = booted(pace="host")
    async with open_fleet(1, clock=WallClock()) as fleet:
        outcome = await fleet.advance(machine, b"loop", Limits(max_seconds=0.03))
    assert outcome.status == "limit_exceeded"
    assert 0.03 <= outcome.seconds < 0.5


async def test_a_cancelled_advance_leaves_no_trace():
    machine = booted(pace="host")
    before = machine.digest()
    async with open_fleet(1, clock=WallClock()) as fleet:
        async with anyio.create_task_group() as group:
            group.start_soon(fleet.advance, machine, b"loop")
            while not fleet.statistics().slices:  # it has begun
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert machine.digest() == before
        assert machine.family.rollbacks == 1
        assert (await fleet.advance(machine, b"one")).accepted


async def test_an_advance_to_a_guest_that_does_not_wait_for_it_is_refused():
    async with open_fleet(1) as fleet:
        with pytest.raises(MachineBusy):
            await fleet.advance(FakeMachine(FOREVER), b"")


async def test_what_a_guest_says_can_be_followed_while_it_runs():
    machine = booted()
    async with open_fleet(1) as fleet:
        async with fleet.advancing(machine, b"one") as call:
            heard = [event async for event in call]
        assert heard == [Progress(1100, 500), Report(1100, b"got one"), Output(1100, b"one")]
        assert (await call.outcome()).accepted


async def test_events_arrive_before_the_call_has_ended():
    machine = booted(guest=lambda *_: (report(b"early"), Work(10_000_000), accept()), pace="host")
    async with open_fleet(1, clock=WallClock()) as fleet, fleet.advancing(machine, b"") as call:
        async for event in call:
            assert event.data == b"early"
            assert machine.cycle < 10_000_000
        assert (await call.outcome()).cycles == 10_000_000


async def test_leaving_a_followed_call_early_cancels_it():
    machine = booted(pace="host")
    before = machine.digest()
    async with open_fleet(1, clock=WallClock()) as fleet:
        async with fleet.advancing(machine, b"loop") as call:
            async for event in call:
                if isinstance(event, Report):
                    break
        assert machine.digest() == before


async def test_an_advance_need_not_wait_for_a_long_slice_of_a_lower_class():
    writer = booted()
    taken = []
    async with open_fleet(2) as fleet, anyio.create_task_group() as group:
        for _ in range(4):  # a slice of theirs takes a second, since it uses no CPU
            slow = FakeMachine(FOREVER, pace="host", cycles_per_second=1e5)
            group.start_soon(partial(fleet.run, slow, priority=Priority.BACKGROUND))
        await until(lambda: fleet.statistics().running == 2)
        for _ in range(9):
            began = time.perf_counter()
            await fleet.advance(writer, b"x")
            taken.append(time.perf_counter() - began)
        group.cancel_scope.cancel()
    assert statistics.median(taken) < 0.010


async def test_a_blocking_call_has_the_machine_to_itself():
    machine = booted()
    async with open_fleet(1) as fleet:
        copy = await fleet.fork(machine)
        assert copy.digest() == machine.digest()
        assert await fleet.call(machine, machine.digest) == machine.digest()
        assert await fleet.call(machine, threading.get_ident) != threading.get_ident()


async def test_one_question_can_be_asked_without_a_pool():
    machine = booted()
    before = machine.digest()
    async with open_fleet(1) as fleet:
        assert (await fleet.inspect(machine, b"who")).reports == (b"who",)
    assert machine.digest() == before
    assert machine.family.open == 1


async def test_two_fleets_in_one_program_do_not_know_each_other():
    async with open_fleet(1) as one, open_fleet(1) as two:
        first, second = FakeMachine([Halt(1)]), FakeMachine([Halt(2)])
        assert (await one.run(first)).code == 1
        assert (await two.run(second)).code == 2
        assert one.statistics().calls == two.statistics().calls == 1


async def test_a_fleet_works_deep_inside_another_program():
    results = []

    async def service(scope):
        async with open_fleet(1) as fleet:
            results.append(await fleet.run(FakeMachine([Halt(4)])))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as program:
        program.start_soon(service, program)
        await until(lambda: results)
        program.cancel_scope.cancel()
    assert results == [Halted(0, 4)]


async def test_statistics_are_a_frozen_snapshot():
    async with open_fleet(2) as fleet:
        before = fleet.statistics()
        await fleet.run(FakeMachine([Work(123), Halt()]))
        after = fleet.statistics()
    assert before.calls == before.cycles == 0
    assert (after.workers, after.calls, after.cycles) == (2, 1, 123)
    assert after.waiting_seconds.count == after.serving_seconds.count == 1
    with pytest.raises(AttributeError):
        after.calls = 2


async def test_threads_and_machines_do_not_pile_up():
    async def once():
        async with open_fleet(3) as fleet:
            machine = booted()
            await fleet.advance(machine, b"x")
            with anyio.move_on_after(0.001):
                await fleet.run(FakeMachine(FOREVER))

    await once()
    threads = threading.active_count()
    for _ in range(20):
        await once()
    assert threading.active_count() <= threads
    assert not [thread for thread in threading.enumerate() if "orchestra" in thread.name]
    gc.collect()


@pytest.mark.parametrize("workers", [0, -1])
async def test_a_fleet_has_at_least_one_worker(workers):
    with pytest.raises(ValueError, match="worker"):
        async with open_fleet(workers):
            pass


async def test_a_rejected_advance_is_rolled_back_however_it_is_sliced():
    clock = FakeClock()
    machine = FakeMachine(
        BOOT,
        lambda *_: (Work(50_000_000), report(b"late"), reject()),
        clock=clock,
        cycles_per_second=1e9,
    )
    machine.run()
    before = machine.digest()
    async with open_fleet(2, clock=clock) as fleet:
        outcome = await fleet.advance(machine, b"")
        assert fleet.statistics().slices > 5
    assert (outcome.status, outcome.reports) == ("rejected", (b"late",))
    assert machine.digest() == before


async def test_a_cancelled_fleet_waits_for_its_threads(monkeypatch):
    working = []
    work = Worker.work

    def leave_slowly(worker):
        working.append(worker)
        work(worker)
        time.sleep(0.02)
        working.remove(worker)

    monkeypatch.setattr(Worker, "work", leave_slowly)
    with anyio.CancelScope() as scope:
        async with open_fleet(2):
            await until(lambda: len(working) == 2)
            scope.cancel()
            await anyio.sleep_forever()
    assert not working
