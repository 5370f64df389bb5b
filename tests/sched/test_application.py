"""An application takes inputs in order, forgets none that it answered, and answers meanwhile."""

import shutil
import sqlite3
import statistics
from functools import partial

import anyio
import pytest

from orchestra.errors import (
    AtCapacity,
    BadConfig,
    BadImage,
    GuestError,
    InputConflict,
    LogFault,
    MachineClosed,
    StateDiverged,
)
from orchestra.machine._core import blocks_in_use
from orchestra.machine.machine import Machine
from orchestra.machine.request import Limits, Output, Progress
from orchestra.sched.fleet import open_fleet
from orchestra.sched.settings import ApplicationSettings
from tests.guests import HELLO, ledger_config, ready_ledger

pytestmark = pytest.mark.anyio

QUICK = ApplicationSettings(durable=False)
CONFIG = ledger_config()


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


def opened(fleet, path, settings=QUICK, **options):
    return fleet.application(path / "app", CONFIG, settings, **options)


async def balance(app, name=b"alice"):
    return (await app.inspect(b"balance " + name)).reports[0]


async def test_inputs_change_the_state_that_inspects_see(tmp_path):
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:
        first = await app.advance(b"mint alice 100")
        assert (first.number, first.outputs, first.accepted) == (1, (b"1 mint alice 100",), True)
        assert await balance(app) == b"100"
        second = await app.advance(b"burn alice 30")
        assert (second.number, second.cycle, app.cycle) == (2, app.cycle, second.cycle)
        assert await balance(app) == b"70"
        assert second.state_hash == app.state_hash != first.state_hash


@pytest.mark.parametrize(
    ("payload", "limits", "status"),
    [
        (b"burn alice 101", None, "rejected"),
        (b"fail as asked", None, "exception"),
        (b"halt 3", None, "halted"),
        (b"spin 1000000000000", Limits(max_cycles=1_000_000), "limit_exceeded"),
        (b"flood 100", Limits(max_output_bytes=100), "limit_exceeded"),
    ],
)
async def test_an_input_that_is_not_accepted_counts_and_changes_nothing(
    tmp_path, payload, limits, status
):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        before = await app.advance(b"mint alice 100")
        outcome = await app.advance(payload, limits)
        assert (outcome.status, outcome.number) == (status, 2)
        assert (outcome.cycle, outcome.state_hash) == (before.cycle, before.state_hash)
        assert await app.outcome(2) == outcome
        assert (await app.advance(b"burn alice 1")).accepted
        assert await balance(app) == b"99"


async def test_the_next_one_to_open_it_stands_where_it_was(tmp_path):
    hashes = []
    for n in range(3):
        async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
            assert app.inputs == 3 * n
            assert app.state_hash == (hashes[-1] if hashes else None)
            assert fleet.statistics().applications[0].replayed == 2 * n
            if n:
                assert await balance(app) == b"%d" % n
            await app.advance(b"mint alice 1")
            await app.advance(b"burn carol 1")
            hashes.append((await app.advance(b"mint bob 2")).state_hash)
    twin = ready_ledger()
    for _ in range(3):
        twin.advance(b"mint alice 1")
        twin.advance(b"mint bob 2")
    assert twin.root_hash() == hashes[-1]
    twin.close()


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        ("never", [0]),
        ("on_demand", [0]),
        ("every_input", [0, 4, 5, 6, 7]),
        (3, [0, 3, 6]),
    ],
)
async def test_snapshots_are_stored_as_the_policy_says(tmp_path, policy, stored):
    settings = QUICK.replace(snapshots=policy)
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path, settings) as app:
            for _ in range(7):
                await app.advance(b"mint alice 1")
            await until(lambda: app.statistics().snapshot == stored[-1])
        names = sorted(path.name for path in (tmp_path / "app" / "snapshots").iterdir())
        assert [int(name) for name in names] == stored
        async with opened(fleet, tmp_path, settings) as app:
            assert app.statistics().replayed == 7 - stored[-1]
            assert await balance(app) == b"7"


async def test_a_snapshot_on_demand_spares_the_replay(tmp_path):
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path) as app:
            await app.advance(b"mint alice 1")
            folder = await app.snapshot()
            assert await app.snapshot() == folder
            digest = app._writer.machine.digest()
        with Machine.open(folder) as machine:
            assert machine.digest() == digest
        async with opened(fleet, tmp_path) as app:
            assert app.statistics().replayed == 0
        async with opened(fleet, tmp_path, QUICK.replace(snapshots="never")) as app:
            with pytest.raises(BadConfig, match="never"):
                await app.snapshot()


async def test_any_state_that_was_can_be_opened(tmp_path):
    settings = QUICK.replace(snapshots=2)
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, settings) as app:
        for _ in range(5):
            await app.advance(b"mint alice 1")
        for n in range(1, 6):
            async with app.at(n) as machine:
                assert machine.inspect(b"balance alice").reports == (b"%d" % n,)
                assert machine.root_hash() == (await app.outcome(n)).state_hash
        async with app.at(0) as machine:
            assert machine.inspect(b"total").reports == (b"0",)
        for n in (-1, 6):
            with pytest.raises(KeyError):
                app.at(n)


async def test_an_application_can_run_in_its_own_files(tmp_path):
    settings = QUICK.replace(storage="backing", snapshots=2)
    async with open_fleet(1) as fleet:
        for n in range(3):
            async with opened(fleet, tmp_path, settings) as app:
                for _ in range(3):
                    await app.advance(b"mint alice 1")
                assert await balance(app) == b"%d" % (3 * n + 3)
        async with opened(fleet, tmp_path) as app:
            assert await balance(app) == b"9"


async def test_a_numbered_input_is_taken_once_however_often_it_is_sent(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        first = await app.advance(b"mint alice 1", number=1)
        assert await app.advance(b"mint alice 1", number=1) == first
        with pytest.raises(InputConflict, match="not the payload"):
            await app.advance(b"mint alice 2", number=1)
        with pytest.raises(InputConflict, match="number 2"):
            await app.advance(b"mint alice 2", number=3)
        assert (await app.advance(b"mint alice 1", number=2)).number == 2
        assert app.inputs == 2
        assert await balance(app) == b"2"


async def test_inputs_are_taken_in_the_order_they_came(tmp_path):
    numbers, begun = {}, []
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:

        async def give(n):
            begun.append(n)
            numbers[n] = (await app.advance(b"mint a%d 1" % n)).number

        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(give, n)
                await until(lambda n=n: len(begun) > n)
    assert numbers == {n: n + 1 for n in range(50)}


async def test_too_many_inputs_that_wait_are_refused_unless_they_may_wait(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, QUICK.replace(queue=1)) as app:
        async with anyio.create_task_group() as group:
            group.start_soon(app.advance, b"spin 100000000000")
            await until(lambda: fleet.statistics().running)
            group.start_soon(app.advance, b"mint alice 1")
            await until(lambda: app.statistics().waiting)
            with pytest.raises(AtCapacity, match="input"):
                await app.advance(b"mint alice 1", wait=False)
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(app.advance, b"mint alice 1")
        assert app.inputs == 9


async def test_a_cancelled_input_was_never_there(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")
        state = app.state_hash
        for _ in range(3):
            with anyio.move_on_after(0.01):
                await app.advance(b"spin 1000000000000")
        async with anyio.create_task_group() as group:
            group.start_soon(app.advance, b"spin 1000000000000")
            await until(lambda: fleet.statistics().running)
            for _ in range(5):
                group.start_soon(app.advance, b"mint alice 1")  # not begun yet
            await until(lambda: app.statistics().waiting == 5)
            group.cancel_scope.cancel()
        assert (app.inputs, app.statistics().waiting) == (1, 0)
        assert app._writer.machine.root_hash() == state
        assert (await app.advance(b"mint alice 1")).number == 2


async def test_an_input_cancelled_at_any_moment_is_in_the_log_or_has_no_effect(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        for n in range(60):
            with anyio.move_on_after(n * 2e-5):
                await app.advance(b"mint alice 1")
            known = int(await balance(app)) if app.inputs else 0
            assert known == app.inputs


async def test_what_the_guest_says_can_be_followed(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        async with app.advancing(b"progress 4") as call:
            heard = [event.per_mille async for event in call if isinstance(event, Progress)]
        assert heard == [250, 500, 750, 1000]
        async with app.advancing(b"mint alice 5") as call:
            said = [event.data async for event in call if isinstance(event, Output)]
            assert (await call.outcome()).number == 2
        assert said == [b"1 mint alice 5"]
        async with app.inspecting(b"balance alice") as call:
            assert [event.data async for event in call] == [b"5"]
        async with app.advancing(b"spin 1000000000000") as call:
            pass
        assert app.inputs == 2


async def test_a_log_that_cannot_be_written_undoes_the_input(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")
        state, connection = app.state_hash, app._log._connection
        connection.execute("PRAGMA query_only = 1")
        with pytest.raises(LogFault, match="was undone"):
            await app.advance(b"mint alice 1")
        assert (app.inputs, app.state_hash) == (1, state)
        assert app._writer.machine.root_hash() == state
        connection.execute("PRAGMA query_only = 0")
        assert (await app.advance(b"mint alice 1")).number == 2
        assert await balance(app) == b"2"


class Warnings(list):
    """A logger that keeps its warnings: event and number."""

    def info(self, event, **fields):
        pass

    debug = info

    def warning(self, event, **fields):
        self.append((event, fields["number"]))


async def test_a_snapshot_that_fails_costs_nothing_but_a_longer_replay(tmp_path):
    events = Warnings()
    async with open_fleet(1, logger=events) as fleet:
        async with opened(fleet, tmp_path, QUICK.replace(snapshots=1)) as app:
            await app.advance(b"mint alice 1")
            await until(lambda: app.statistics().snapshot == 1)
            (tmp_path / "app" / "snapshots").rename(tmp_path / "away")
            (tmp_path / "app" / "snapshots").write_bytes(b"in the way")
            assert (await app.advance(b"mint alice 1")).accepted
            assert (await app.advance(b"mint alice 1")).accepted
            await until(lambda: events == [("snapshot.failed", 2), ("snapshot.failed", 3)])
            (tmp_path / "app" / "snapshots").unlink()
            (tmp_path / "away").rename(tmp_path / "app" / "snapshots")
        async with opened(fleet, tmp_path) as app:
            assert app.statistics().replayed == 2
            assert await balance(app) == b"3"


async def test_a_bad_snapshot_is_passed_over_for_an_older_one(tmp_path):
    events = Warnings()
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, QUICK.replace(snapshots=2)) as app:
        for _ in range(5):
            await app.advance(b"mint alice 1")
    newest = tmp_path / "app" / "snapshots" / "000000000004"
    (newest / "machine.json").write_text("{}")

    async with open_fleet(1, logger=events) as fleet, opened(fleet, tmp_path) as app:
        assert app.statistics().replayed == 3
        assert await balance(app) == b"5"
    assert events == [("snapshot.unusable", 4)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (f"UPDATE inputs SET payload = X'{b'mint alice 2'.hex()}' WHERE number = 2", "root hash"),
        (f"UPDATE inputs SET payload = X'{b'burn nobody 1'.hex()}' WHERE number = 2", "rejected"),
        ("UPDATE inputs SET cycle = cycle + 1 WHERE number = 3", "cycle"),
        ("UPDATE inputs SET state_hash = 'ff' WHERE number = 1", "root hash"),
    ],
)
async def test_a_log_that_was_changed_is_found_out(tmp_path, change, found):
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path) as app:
            for _ in range(3):
                await app.advance(b"mint alice 1")
        with sqlite3.connect(tmp_path / "app" / "inputs.sqlite") as connection:
            connection.execute(change)
        connection.close()
        with pytest.raises(StateDiverged, match=f"found {found}"):
            async with opened(fleet, tmp_path):
                pass


async def test_without_hashes_only_cycles_are_compared(tmp_path):
    settings = QUICK.replace(state_hashes=False)
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path, settings) as app:
            assert (await app.advance(b"mint alice 1")).state_hash is None
        async with opened(fleet, tmp_path, settings) as app:
            assert await balance(app) == b"1"


async def test_one_process_at_a_time_has_an_application(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            async with opened(fleet, tmp_path):
                pass
        assert (await app.advance(b"mint alice 1")).accepted


async def test_the_genesis_may_be_a_config_a_machine_or_a_folder(tmp_path):
    machine = ready_ledger()
    machine.advance(b"mint alice 9")
    machine.snapshot(tmp_path / "start")
    async with open_fleet(1) as fleet:
        for n, genesis in enumerate((machine, tmp_path / "start", str(tmp_path / "start"))):
            async with fleet.application(tmp_path / f"app{n}", genesis, QUICK) as app:
                assert await balance(app) == b"9"
            async with fleet.application(tmp_path / f"app{n}") as app:
                assert await balance(app) == b"9"
    machine.close()


async def test_a_machines_folder_is_not_its_applications(tmp_path):
    """The application would wait for the folder that it has itself."""
    with ready_ledger() as machine:
        machine.snapshot(tmp_path / "app")
    with anyio.fail_after(60):
        async with open_fleet(1) as fleet:
            with pytest.raises(BadConfig, match="another folder"):
                async with fleet.application(tmp_path / "app", str(tmp_path / "app")):
                    pass


async def test_without_a_genesis_there_must_be_an_application(tmp_path):
    async with open_fleet(1) as fleet:
        with pytest.raises(BadImage, match="no such folder"):
            async with fleet.application(tmp_path / "app"):
                pass
        (tmp_path / "app").mkdir()
        with pytest.raises(BadImage, match="snapshots"):
            async with fleet.application(tmp_path / "app"):
                pass
        with pytest.raises(GuestError, match="does not wait for an input"):
            async with fleet.application(tmp_path / "hello", hello_config()):
                pass
        assert fleet.statistics().applications == ()


def hello_config():
    from orchestra.machine import Boot, MachineConfig

    return MachineConfig(boot=Boot(elf=HELLO))


async def test_leaving_ends_what_goes_on_and_what_waits(tmp_path):
    closed = []

    async def give(app, payload):
        try:
            await app.advance(payload)
        except MachineClosed:
            closed.append(payload)

    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        async with opened(fleet, tmp_path) as app:
            await app.advance(b"mint alice 1")
            group.start_soon(give, app, b"spin 1000000000000")
            await until(lambda: fleet.statistics().running)
            group.start_soon(give, app, b"mint alice 2")
            await until(lambda: app.statistics().waiting)
        with pytest.raises(MachineClosed):
            await app.advance(b"mint alice 3")
        async with opened(fleet, tmp_path) as app:
            assert app.inputs == 1
    assert sorted(closed) == [b"mint alice 2", b"spin 1000000000000"]


async def test_an_error_in_the_block_comes_out_as_it_is(tmp_path):
    async with open_fleet(1) as fleet:
        with pytest.raises(ZeroDivisionError):
            async with opened(fleet, tmp_path):
                raise ZeroDivisionError
        async with opened(fleet, tmp_path) as app:
            assert app.inputs == 0


async def test_inspects_go_on_while_inputs_come(tmp_path):
    seen = []
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")

        async def ask():
            seen.extend([int(await balance(app)) for _ in range(60)])

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
            for _ in range(40):
                before = int(await balance(app))
                await app.advance(b"mint alice 1")
                assert int(await balance(app)) == before + 1  # who wrote reads what was written
    assert len(seen) == 300
    assert len(set(seen)) > 3


async def test_several_applications_share_a_fleet_by_weight(tmp_path):
    async with (
        open_fleet(1) as fleet,
        fleet.application(tmp_path / "a", CONFIG, QUICK.replace(weight=3)) as heavy,
        fleet.application(tmp_path / "b", CONFIG, QUICK) as light,
    ):
        spent = {}

        async def spin(app):
            before = fleet.statistics().seconds
            await app.advance(b"spin 150000000")
            spent[app] = fleet.statistics().seconds - before

        async with anyio.create_task_group() as group:
            group.start_soon(spin, heavy)
            group.start_soon(spin, light)
        assert spent[light] > 1.2 * spent[heavy]


async def test_settings_that_cannot_be_are_refused():
    for change in ({"weight": 0}, {"weight": float("inf")}, {"snapshots": 0}):
        with pytest.raises(BadConfig):
            ApplicationSettings(**change)


async def test_an_application_moves_with_its_folder(tmp_path):
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path, QUICK.replace(snapshots=2)) as app:
            for _ in range(3):
                await app.advance(b"mint alice 1")
        shutil.copytree(tmp_path / "app", tmp_path / "copy")
        shutil.rmtree(tmp_path / "app")
        async with fleet.application(tmp_path / "copy") as app:
            assert await balance(app) == b"3"
            assert app.inputs == 3


async def test_deadlines_and_streams_reach_the_planner(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        late = anyio.current_time() + 60
        assert (await app.advance(b"mint alice 1", deadline=late)).accepted
        ask = partial(app.inspect, b"balance alice", deadline=late, wait=True)
        assert (await ask()).reports == (b"1",)


async def test_inspects_are_answered_while_inputs_come_without_a_pause(tmp_path):
    answered, going = [], True
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")

        async def write():
            while going:
                await app.advance(b"mint alice 1")

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(write)
            for _ in range(100):
                began = app.inputs
                await balance(app)
                answered.append(app.inputs - began)
            going = False
    assert max(answered) < 100  # inputs that went before one question


async def test_inputs_are_answered_while_inspects_come_without_a_pause(tmp_path):
    going = True
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")

        async def ask():
            while going:
                await app.inspect(b"balance alice")

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(ask)
            ended = []
            for _ in range(50):
                before = app.pool.statistics().ended
                await app.advance(b"mint alice 1")
                ended.append(app.pool.statistics().ended - before)
            going = False
    assert statistics.median(ended) < 40  # a writer does not wait behind all who ask


@pytest.mark.parametrize("storage", ["memory", "backing"])
async def test_states_that_nobody_asks_any_more_take_no_memory(tmp_path, storage):
    used, inputs = [], 300
    settings = QUICK.replace(storage=storage, snapshots="never")
    async with open_fleet(2) as fleet:
        async with opened(fleet, tmp_path, settings) as app:
            for n in range(inputs):
                await app.advance(b"mint alice 1")
                assert await balance(app) == b"%d" % (n + 1)
                used.append(blocks_in_use()["page"].used)
            before = app._writer.machine.digest()
        assert max(used[inputs // 2 :]) <= max(used[: inputs // 2]) + 50  # an input writes to 6
        (tmp_path / "app" / "live-7").mkdir()  # as others left them
        async with opened(fleet, tmp_path, settings) as app:
            assert app._writer.machine.digest() == before
            live = [path.name for path in (tmp_path / "app").glob("live*")]
            assert live == (["live"] if storage == "backing" else [])


async def test_a_snapshot_of_another_state_than_the_log_says_is_passed_over(tmp_path):
    events = Warnings()
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, QUICK.replace(snapshots=2)) as app:
        for _ in range(5):
            await app.advance(b"mint alice 1")
        await until(lambda: app.statistics().snapshot == 4)
    snapshots = tmp_path / "app" / "snapshots"
    shutil.rmtree(snapshots / "000000000004")
    shutil.copytree(snapshots / "000000000002", snapshots / "000000000004")

    async with open_fleet(1, logger=events) as fleet, opened(fleet, tmp_path) as app:
        assert app.statistics().replayed == 3
        assert await balance(app) == b"5"
    assert events == [("snapshot.unusable", 4)]


async def test_the_limits_and_the_room_of_the_settings_are_what_counts(tmp_path):
    few = Limits(max_cycles=100_000)
    settings = QUICK.replace(limits=few, inspect_limits=few, inspect_size=1, inspect_queue=0)
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, settings) as app:
        assert (await app.advance(b"spin 1000000")).status == "limit_exceeded"
        assert (await app.advance(b"spin 1000000", Limits())).accepted
        assert (await app.inspect(b"spin 1000000")).status == "limit_exceeded"
        async with app.inspecting(b"spin 1000000") as call:
            assert (await call.outcome()).status == "limit_exceeded"
        async with anyio.create_task_group() as group:
            group.start_soon(app.inspect, b"spin 100000000000", Limits())
            await until(lambda: fleet.statistics().running)
            with pytest.raises(AtCapacity, match="0 that wait"), anyio.fail_after(20):
                await app.inspect(b"balance alice")
            group.cancel_scope.cancel()


async def test_inputs_and_inspects_both_have_their_applications_weight(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path, QUICK.replace(weight=3)) as app:
        assert app.share.weight == app.pool.share.weight == 3


async def test_nothing_is_kept_of_an_application_that_was_left(tmp_path):
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path) as app:
            await app.advance(b"mint alice 1")
        with pytest.raises(MachineClosed):
            await app.outcome(1)
