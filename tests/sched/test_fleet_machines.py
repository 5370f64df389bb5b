"""The fleet with real machines: the ledger guest, in memory and in folders."""

import statistics
import threading
import time

import anyio
import pytest

from orchestra.errors import BadImage, MachineClosed, MachineLocked
from orchestra.machine.machine import Machine
from orchestra.machine.request import Limits
from orchestra.machine.stop import ReachedCycle, Yielded
from orchestra.sched.fleet import open_fleet
from tests.guests import ledger_config
from tests.machine.core.harmful import code_on_every_page, stores_to_every_page
from tests.machine.core.test_devices import endless

pytestmark = pytest.mark.anyio

CONFIG = ledger_config()


@pytest.fixture(scope="module")
def booted():
    with Machine.create(CONFIG) as machine:
        machine.run()
        assert machine.advance(b"mint alice 100").accepted
        yield machine


@pytest.fixture
def ledger(booted):
    with booted.fork() as machine:
        yield machine


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


async def test_a_machine_in_a_fleet_ends_in_the_same_state_as_alone(ledger):
    with ledger.fork() as alone:
        alone.advance(b"spin 20000000")
        async with open_fleet(2) as fleet, anyio.create_task_group() as others:
            for _ in range(3):
                others.start_soon(fleet.inspect, ledger.fork(), b"spin 10000000")
            outcome = await fleet.advance(ledger, b"spin 20000000")
            assert outcome.accepted
            assert fleet.statistics().slices > 4
        assert ledger.digest() == alone.digest()


async def test_a_run_in_slices_stops_at_exactly_the_cycle_asked_for():
    async with open_fleet(2) as fleet, fleet.create(CONFIG) as machine:
        assert await fleet.run(machine, until=20) == ReachedCycle(20)
        assert isinstance(await fleet.run(machine), Yielded)


async def test_an_advance_is_committed_or_leaves_no_trace(ledger):
    async with open_fleet(1) as fleet:
        before = ledger.digest()
        for payload, limits, status in [
            (b"burn alice 101", None, "rejected"),
            (b"fail as asked", None, "exception"),
            (b"crash", None, "exception"),
            (b"halt 3", None, "halted"),
            (b"spin 1000000000000", Limits(max_cycles=1_000_000), "limit_exceeded"),
            (b"spin 1000000000000", Limits(max_seconds=0.02), "limit_exceeded"),
            (b"flood 100", Limits(max_output_bytes=100), "limit_exceeded"),
        ]:
            outcome = await fleet.advance(ledger, payload, limits)
            assert outcome.status == status, payload
            assert ledger.digest() == before
        assert (await fleet.advance(ledger, b"burn alice 1")).accepted
        assert ledger.inspect(b"balance alice").reports == (b"99",)


async def test_a_busy_machine_is_cancelled_within_ten_milliseconds(ledger):
    taken = []
    before = ledger.digest()
    async with open_fleet(1) as fleet:
        for _ in range(9):
            async with anyio.create_task_group() as group:
                group.start_soon(fleet.advance, ledger, b"spin 1000000000000")
                await until(lambda: fleet.statistics().running)
                began = time.perf_counter()
                group.cancel_scope.cancel()
            taken.append(time.perf_counter() - began)
            assert ledger.digest() == before
    assert statistics.median(taken) < 0.010


async def test_inspects_do_not_see_each_other_nor_change_the_template(ledger):
    before = ledger.digest()
    answers = set()
    async with open_fleet(2) as fleet, fleet.inspect_pool(ledger, size=4) as pool:

        async def ask(n):
            outcome = await pool.inspect(b"page %d" % n if n % 2 else b"balance alice")
            answers.add((n if n % 2 else 0, outcome.reports, outcome.cycles))

        async with anyio.create_task_group() as group:
            for n in range(200):
                group.start_soon(ask, n % 20)
    assert len(answers) == 11  # the same query has the same answer after the same cycles
    assert ledger.digest() == before


async def test_the_writer_goes_on_while_its_state_is_inspected(ledger):
    async with open_fleet(2) as fleet, fleet.inspect_pool(ledger) as pool:
        for n in range(20):
            await fleet.advance(ledger, b"mint alice 1")
            assert (await pool.inspect(b"balance alice")).reports == (b"%d" % (100 + n),)
            await pool.publish(ledger)


async def test_a_machine_in_a_folder_is_served_stored_and_opened_again(tmp_path):
    async with open_fleet(2) as fleet:
        async with fleet.create(CONFIG, tmp_path / "app") as machine:
            await fleet.run(machine)
            assert (await fleet.advance(machine, b"mint bob 7")).accepted
            result = await fleet.snapshot(machine, tmp_path / "one")
            assert result.cycle == machine.cycle
            assert (await fleet.advance(machine, b"mint bob 1")).accepted
            digest = machine.digest()
        async with fleet.open(tmp_path / "app") as again:
            assert again.digest() == digest
        async with fleet.inspect_pool(tmp_path / "one") as pool:
            assert (await pool.inspect(b"balance bob")).reports == (b"7",)
            await pool.publish(tmp_path / "app")
            assert (await pool.inspect(b"balance bob")).reports == (b"8",)
        assert fleet.statistics().machines == 0
    for name in ("app", "one"):
        Machine.open(tmp_path / name, storage="backing").close()  # nobody holds a lock


async def test_opening_waits_in_turn_for_the_lock(tmp_path):
    order = []

    async def write(fleet, n):
        async with fleet.open(tmp_path / "app", storage="backing") as machine:
            order.append(n)
            await fleet.advance(machine, b"mint bob 1")

    async with open_fleet(2) as fleet:
        async with fleet.create(CONFIG, tmp_path / "app") as machine:
            await fleet.run(machine)
            with pytest.raises(MachineLocked):
                Machine.open(tmp_path / "app")
        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(write, fleet, n)
                await anyio.wait_all_tasks_blocked()
        async with fleet.inspect_pool(tmp_path / "app") as pool:
            assert (await pool.inspect(b"balance bob")).reports == (b"5",)
    assert order == list(range(5))


async def test_waiting_for_a_lock_is_given_up_with_fail_after(tmp_path):
    async with open_fleet(1) as fleet, fleet.create(CONFIG, tmp_path / "app"):
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await fleet.open(tmp_path / "app").__aenter__()


async def test_a_folder_that_is_none_is_a_bad_image(tmp_path):
    async with open_fleet(1) as fleet:
        with pytest.raises(BadImage, match="no such folder"):
            async with fleet.open(tmp_path / "nothing"):
                pass
        with pytest.raises(BadImage):
            async with fleet.inspect_pool(tmp_path / "nothing"):
                pass


async def test_a_machine_that_is_closed_ends_what_it_does():
    closed = []

    async def advance(fleet, machine):
        try:
            await fleet.advance(machine, b"spin 1000000000000")
        except MachineClosed as error:
            closed.append(error)

    async with (
        open_fleet(1) as fleet,
        anyio.create_task_group() as group,
        fleet.create(CONFIG) as machine,
    ):
        await fleet.run(machine)
        group.start_soon(advance, fleet, machine)
        await until(lambda: fleet.statistics().running)
    assert len(closed) == 1
    assert machine.closed


@pytest.mark.parametrize(
    "make", [endless, code_on_every_page, stores_to_every_page], ids=lambda make: make.__name__
)
async def test_a_guest_that_means_harm_is_cancelled_within_ten_milliseconds(make):
    """Of this process's CPU, at the best of a few times: others may be at work here."""
    took = []
    for _ in range(5):
        async with open_fleet(1) as fleet:
            with make() as machine:
                async with anyio.create_task_group() as group:
                    group.start_soon(fleet.run, machine)
                    await anyio.sleep(0.03)
                    began = time.process_time()
                    group.cancel_scope.cancel()
                took.append(time.process_time() - began)
                assert machine.cycle > 0
    assert min(took) < 0.010


async def test_closing_a_machine_waits_for_the_blocking_call_that_uses_it():
    began, go, digests = threading.Event(), threading.Event(), []

    def look(machine):
        began.set()
        assert go.wait(10)
        digests.append(machine.digest())

    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        async with fleet.create(CONFIG) as machine:
            group.start_soon(fleet.call, machine, look, machine)
            await anyio.to_thread.run_sync(began.wait)
            threading.Timer(0.02, go.set).start()
        assert len(digests) == 1
    assert machine.closed
