"""What is cancelled at any of its checkpoints, by anyio or by asyncio, leaves nothing behind."""

import asyncio
import gc
import shutil
import time
import warnings
from functools import partial

import anyio
import pytest

from orchestra.io.lock import try_lock
from orchestra.machine.machine import Machine
from orchestra.sched.fleet import open_fleet
from orchestra.sched.settings import ApplicationSettings
from orchestra.testing import BOOT, FakeMachine
from tests.guests import ledger_config

pytestmark = pytest.mark.anyio

CONFIG = ledger_config()
QUICK = ApplicationSettings(durable=False)


class Steps:
    """Awaits a coroutine, and calls a function when it waits for the n-th time."""

    def __init__(self, coroutine, n, call):
        self.left = n
        self._inner = coroutine.__await__()
        self._call = call

    def __await__(self):
        step = partial(self._inner.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            self.left -= 1
            if self.left == 0:
                self._call()
            try:
                step = partial(self._inner.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001 - it goes on to the coroutine
                step = partial(self._inner.throw, error)


async def in_scope(work, n):
    """Cancel the work by anyio at its n-th step; return whether it got so far."""
    with anyio.CancelScope() as scope:
        steps = Steps(work(), n, scope.cancel)
        await steps
    return steps.left <= 0


async def in_task(work, n):
    """Cancel the task of the work by asyncio at its n-th step."""
    steps = Steps(work(), n, lambda: task.cancel())  # noqa: PLW0108 - made below
    with anyio.CancelScope(shield=True):
        task = asyncio.ensure_future(as_coroutine(steps))
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return steps.left <= 0


async def in_impatient_task(work, n):
    """Cancel the task of the work at its n-th step and at all that follow."""

    def cancel():
        steps.left = 1
        reached.append(task.cancel())

    reached = []
    steps = Steps(work(), n, cancel)
    task = asyncio.ensure_future(as_coroutine(steps))
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return bool(reached)


async def as_coroutine(steps):
    await steps


WAYS = [
    ("asyncio", in_scope),
    ("asyncio", in_task),
    ("asyncio", in_impatient_task),
    ("trio", in_scope),
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1].__name__}")
def way(request):
    return request.param


@pytest.fixture
def anyio_backend(way):
    return way[0]


@pytest.fixture
def cancelling(way):
    return way[1]


async def everywhere(cancelling, work, check):
    """Cancel the work at each of its steps in turn, and do it; return how many there were."""
    n = 1
    while await cancelling(work, n):
        check()
        n += 1
    check()
    return n


def booted(**options):
    machine = FakeMachine(BOOT, **options)
    machine.run()
    return machine


async def test_a_fleet(cancelling):
    async def work():
        async with open_fleet(2) as fleet:
            machine = booted()
            before = machine.digest()
            try:
                await fleet.advance(machine, b"x")
            except BaseException:
                assert machine.digest() == before or machine.memory == b"x"
                raise
            finally:
                machine.close()

    assert await everywhere(cancelling, work, lambda: None) > 2


async def test_calls_of_a_machine(cancelling):
    template = booted()
    async with open_fleet(2) as fleet:

        async def work():
            await fleet.advance(template, b"x")
            copy = await fleet.fork(template)
            try:
                await fleet.run(copy)
                await fleet.call(copy, copy.digest)
            finally:
                copy.close()

        def check():
            assert template.family.open == 1
            assert not fleet._custody._busy

        assert await everywhere(cancelling, work, check) > 2


async def test_a_blocking_call_is_over_before_a_cancellation_goes_on(cancelling):
    machine = booted()
    under_way = []

    def block():
        under_way.append(1)
        time.sleep(0.005)  # what blocks
        under_way.pop()

    async with open_fleet(1) as fleet:

        async def work():
            await fleet.call(machine, block)

        def check():
            assert not under_way

        assert await everywhere(cancelling, work, check) > 2


async def test_an_inspect_pool(cancelling):
    template = booted()
    async with open_fleet(2) as fleet:

        async def work():
            async with fleet.inspect_pool(template, size=1, queue=0) as pool:
                await pool.inspect(b"a", wait=True)
                await pool.publish(template)
                async with pool.inspecting(b"b", wait=True) as call:
                    assert [event.data async for event in call] == [b"b"]

        def check():
            assert template.family.open == 1
            assert not fleet.statistics().pools

        assert await everywhere(cancelling, work, check) > 2


async def test_a_crowded_pool(cancelling):
    template = booted()
    async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=1, queue=1) as pool:

        async def work():
            async with anyio.create_task_group() as group:
                for n in range(4):
                    group.start_soon(partial(pool.inspect, b"%d" % n, wait=True))
                await pool.inspect(b"x", wait=True)
                await pool.publish(template)

        def check():
            statistics = pool.statistics()
            assert statistics.running == statistics.waiting == 0

        assert await everywhere(cancelling, work, check) > 2


async def test_a_machine_in_a_folder(cancelling, tmp_path):
    folder = tmp_path / "app"
    with Machine.create(CONFIG, folder) as machine:
        machine.run()
        machine.snapshot(tmp_path / "first")
    count = 0
    async with open_fleet(1) as fleet:

        async def work():
            nonlocal count
            count += 1
            async with fleet.open(folder, storage="backing") as machine:
                await fleet.snapshot(machine, tmp_path / f"snapshot{count}")

        def check():
            try_lock(folder, "exclusive").close()
            assert fleet.statistics().machines == 0
            kept = tmp_path / f"snapshot{count}"
            if kept.exists():
                Machine.open(kept).close()
            left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
            assert not left

        assert await everywhere(cancelling, work, check) > 2
        count += 1

        async def create():
            nonlocal count
            count += 1
            async with fleet.create(CONFIG, tmp_path / f"made{count}"):
                pass

        def is_whole():
            made = tmp_path / f"made{count}"
            if made.exists():
                Machine.open(made, storage="backing").close()

        assert await everywhere(cancelling, create, is_whole) > 2


@pytest.mark.parametrize("settings", [QUICK, QUICK.replace(durable=True, snapshots=1)])
async def test_an_application(cancelling, tmp_path, settings):
    folder, founded = tmp_path / "app", tmp_path / "founded"
    answered = 1
    async with open_fleet(2) as fleet:
        async with fleet.application(founded, CONFIG, QUICK) as app:
            await app.advance(b"mint alice 1")

        async def work():
            nonlocal answered
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(founded, folder)
            answered = 1
            async with fleet.application(folder, settings=settings) as app:
                answered = (await app.advance(b"mint alice 1")).number
                assert (await app.inspect(b"balance alice")).reports == (b"2",)
                await app.snapshot()
                async with app.at(2):
                    pass

        async def check():
            assert fleet.statistics().machines == 0
            assert not fleet.statistics().applications
            with anyio.fail_after(1):
                async with fleet.application(folder) as app:
                    assert answered <= app.inputs <= 2
                    reports = (await app.inspect(b"balance alice")).reports
                    assert reports == (b"%d" % app.inputs,)

        n = 1
        while await cancelling(work, n):
            await check()
            n += 1
        await check()
    assert n > 2


@pytest.fixture(autouse=True)
def nothing_is_left_to_the_garbage_collector():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
