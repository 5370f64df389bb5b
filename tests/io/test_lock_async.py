"""Waiting for a lock in turn, on both event loops: orchestra/io/lock.py, the async half."""

import threading
from pathlib import Path

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked
from programs import StartPython, heard, open_descriptors

from orchestra.errors import MachineLocked
from orchestra.io import lock, try_lock
from orchestra.io.lock import _turns

pytestmark = pytest.mark.anyio


async def test_a_free_lock_is_had_at_once(tmp_path: Path) -> None:
    with await lock(tmp_path, "exclusive"), pytest.raises(MachineLocked):
        try_lock(tmp_path, "shared")
    try_lock(tmp_path, "exclusive").close()


async def test_waiters_are_served_in_order_of_arrival(tmp_path: Path) -> None:
    order: list[int] = []

    async def wait(number: int) -> None:
        with await lock(tmp_path, "exclusive"):
            order.append(number)

    held = await lock(tmp_path, "exclusive")
    async with create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(wait, number)
            await wait_all_tasks_blocked()
        assert order == []
        held.close()
    assert order == list(range(10))
    assert _turns.queues == {}


async def test_a_reader_that_comes_later_does_not_overtake_a_writer(tmp_path: Path) -> None:
    order: list[str] = []

    async def write() -> None:
        with await lock(tmp_path, "exclusive"):
            order.append("write")

    async def read() -> None:
        with await lock(tmp_path, "shared"):
            order.append("read")

    held = await lock(tmp_path, "shared")
    async with create_task_group() as tasks:
        tasks.start_soon(write)
        await wait_all_tasks_blocked()
        tasks.start_soon(read)
        await wait_all_tasks_blocked()
        assert order == []
        held.close()
    assert order == ["write", "read"]


async def test_readers_hold_it_together(tmp_path: Path) -> None:
    inside = 0
    together = anyio.Event()

    async def read() -> None:
        nonlocal inside
        with await lock(tmp_path, "shared"):
            inside += 1
            if inside == 5:
                together.set()
            await together.wait()

    held = await lock(tmp_path, "exclusive")
    with anyio.fail_after(10):
        async with create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(read)
            await wait_all_tasks_blocked()
            held.close()


async def test_cancelling_leaves_neither_lock_nor_place_nor_descriptor(tmp_path: Path) -> None:
    held = await lock(tmp_path, "exclusive")
    before = open_descriptors()
    async with create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lock, tmp_path, "exclusive")
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert _turns.queues == {}
    assert open_descriptors() == before
    held.close()
    try_lock(tmp_path, "exclusive").close()


async def test_when_the_first_in_turn_is_cancelled_the_next_gets_it(tmp_path: Path) -> None:
    held = await lock(tmp_path, "exclusive")
    got = anyio.Event()

    async def wait() -> None:
        with await lock(tmp_path, "exclusive"):
            got.set()

    with anyio.fail_after(10):
        async with create_task_group() as tasks:
            first = anyio.CancelScope()

            async def wait_in_scope() -> None:
                with first:
                    await lock(tmp_path, "exclusive")

            tasks.start_soon(wait_in_scope)
            await wait_all_tasks_blocked()
            tasks.start_soon(wait)
            await wait_all_tasks_blocked()
            first.cancel()
            await wait_all_tasks_blocked()
            held.close()
            await got.wait()


async def test_fail_after_is_the_timeout(tmp_path: Path) -> None:
    with try_lock(tmp_path, "exclusive"), pytest.raises(TimeoutError), anyio.fail_after(0.02):
        await lock(tmp_path, "exclusive")
    assert _turns.queues == {}


async def test_a_cancelled_task_does_not_get_a_free_lock(tmp_path: Path) -> None:
    got = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        await lock(tmp_path, "exclusive")
        got = True
    assert not got
    try_lock(tmp_path, "exclusive").close()


async def test_another_process_is_waited_for(tmp_path: Path, start_python: StartPython) -> None:
    source = """
import sys
from orchestra.io import try_lock
held = try_lock(sys.argv[1], "exclusive")
print("locked", flush=True)
sys.stdin.readline()
"""
    process = start_python(source, tmp_path)
    assert heard(process) == "locked"
    with anyio.fail_after(20):
        async with create_task_group() as tasks:

            async def wait() -> None:
                (await lock(tmp_path, "exclusive")).close()
                assert process.poll() is not None

            tasks.start_soon(wait)
            await wait_all_tasks_blocked()
            process.kill()
            process.wait()


async def test_a_folder_removed_while_waiting_is_not_found(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    held = await lock(folder, "exclusive")
    missing = False

    async def wait() -> None:
        nonlocal missing
        with pytest.raises(FileNotFoundError):
            await lock(folder, "shared")
        missing = True

    async with create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        folder.rmdir()
        held.close()
    assert missing
    assert _turns.queues == {}


async def test_hundreds_of_waiters_all_get_their_turn(tmp_path: Path) -> None:
    served = 0

    async def wait() -> None:
        nonlocal served
        with await lock(tmp_path, "exclusive"):
            served += 1

    with anyio.fail_after(30):
        async with create_task_group() as tasks:
            for _ in range(400):
                tasks.start_soon(wait)
    assert served == 400


def test_event_loops_in_several_threads_share_one_queue(tmp_path: Path, anyio_backend: str) -> None:
    inside = 0
    most = 0
    served: list[str] = []

    async def wait(backend: str) -> None:
        nonlocal inside, most
        with await lock(tmp_path, "exclusive"):
            inside += 1
            most = max(most, inside)
            await anyio.lowlevel.checkpoint()
            inside -= 1
            served.append(backend)

    async def main(backend: str) -> None:
        async with create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(wait, backend)

    threads = [
        threading.Thread(target=anyio.run, args=(main, backend), kwargs={"backend": backend})
        for backend in (anyio_backend, "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(served) == 30
    assert most == 1
    assert _turns.queues == {}
