"""Who may use a machine's folder: readers and writers, in tasks and in processes."""

import contextlib
import os
import subprocess
import sys

import anyio
import pytest

from orchestra.errors import BackingFault, MachineLocked, MachineTorn
from orchestra.machine import Drive, Machine
from orchestra.machine.clone import clone_machine
from orchestra.machine.compact import compact_machine
from orchestra.sched.fleet import open_fleet
from tests.filesystems import fill, mounted
from tests.guests import ledger_config, ready_ledger
from tests.processes import ROOT

pytestmark = pytest.mark.anyio
CONFIG = ledger_config()

HOLD = """
import sys
from orchestra.machine import Machine
machine = Machine.open(sys.argv[1], storage=sys.argv[2])
print(machine.advance(b"mint alice 1").status, flush=True)
sys.stdin.readline()
machine.close()
print("closed", flush=True)
"""

WRITE = """
import sys
from pathlib import Path
from orchestra.machine import Machine
folder = Path(sys.argv[1])
with Machine.open(folder / "app", storage="backing") as machine:
    for number in range(1, int(sys.argv[2]) + 1):
        machine.advance(b"mint alice 1")
        machine.snapshot(folder / f"snap{number}")
        print(number, flush=True)
"""


@contextlib.contextmanager
def process(source, *arguments):
    """A Python program that is spoken to by lines, and killed in the end."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as found:
        try:
            yield found
        finally:
            found.kill()


@pytest.fixture
def app(tmp_path):
    ready_ledger(tmp_path / "app").close()
    return tmp_path / "app"


@pytest.mark.parametrize("theirs", ["memory", "backing"])
@pytest.mark.parametrize("ours", ["memory", "backing"])
async def test_processes_exclude_each_other_as_they_must_and_are_named(app, theirs, ours):
    with process(HOLD, app, theirs) as holder:
        assert holder.stdout.readline() == "accepted\n"
        if theirs == ours == "memory":
            Machine.open(app).close()
        else:
            with pytest.raises(MachineLocked, match=str(app)) as caught:
                Machine.open(app, storage=ours)
            assert caught.value.path == app
            assert caught.value.holder.startswith(f"pid {holder.pid} (")
            with pytest.raises(MachineLocked):
                Machine.open(app, storage=ours, wait_seconds=0.05)
            async with open_fleet(1) as fleet:
                with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                    await fleet.open(app, storage=ours).__aenter__()
        with pytest.raises(MachineLocked):
            compact_machine(app)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "closed\n"
    Machine.open(app, storage=ours).close()


async def test_a_task_that_waits_gets_the_folder_when_its_holder_is_killed(app):
    torn = []

    async def wait(fleet):
        try:
            async with fleet.open(app, storage="backing"):
                pass
        except MachineTorn as error:
            torn.append(error)

    with process(HOLD, app, "backing") as holder:
        assert holder.stdout.readline() == "accepted\n"
        with anyio.fail_after(20):
            async with open_fleet(1) as fleet:
                async with anyio.create_task_group() as group:
                    group.start_soon(wait, fleet)
                    await anyio.wait_all_tasks_blocked()
                    holder.kill()
                assert len(torn) == 1
                async with fleet.open(app, storage="backing", torn="discard") as machine:
                    assert (await fleet.advance(machine, b"mint bob 1")).accepted


async def test_those_who_are_cancelled_let_the_others_pass(app):
    order = []

    async def write(fleet, number, scope):
        with scope:
            async with fleet.open(app, storage="backing"):
                order.append(number)

    async with open_fleet(2) as fleet:
        scopes = [anyio.CancelScope() for _ in range(6)]
        async with anyio.create_task_group() as group, fleet.open(app, storage="backing"):
            for number, scope in enumerate(scopes):
                group.start_soon(write, fleet, number, scope)
                await anyio.wait_all_tasks_blocked()
            for number in (0, 3, 5):
                scopes[number].cancel()
            await anyio.wait_all_tasks_blocked()
            assert order == []
    assert order == [1, 2, 4]
    Machine.open(app, storage="backing").close()


async def test_a_writer_and_readers_of_its_snapshots_never_exclude_each_other(app):
    """A process writes and publishes; tasks here read each snapshot as it comes, all at a time."""
    answers = []

    async def read(fleet, folder, number):
        async with fleet.inspect_pool(folder) as pool, anyio.create_task_group() as group:

            async def ask():
                answers.append((number, (await pool.inspect(b"balance alice")).reports[0]))

            for _ in range(5):
                group.start_soon(ask)

    with process(WRITE, app.parent, 8) as writer, anyio.fail_after(60):
        async with open_fleet(2) as fleet, anyio.create_task_group() as group:
            while line := await anyio.to_thread.run_sync(writer.stdout.readline):
                group.start_soon(read, fleet, app.parent / f"snap{int(line)}", int(line))
    assert sorted(answers) == sorted((n, b"%d" % n) for n in range(1, 9) for _ in range(5))


async def test_a_writer_and_readers_in_one_application_never_exclude_each_other(app, tmp_path):
    async with (
        open_fleet(2) as fleet,
        fleet.open(app, storage="backing") as machine,
        contextlib.AsyncExitStack() as readers,
    ):
        for number in range(1, 6):
            assert (await fleet.advance(machine, b"mint alice 1")).accepted
            snapshot = tmp_path / f"snap{number}"
            machine.snapshot(snapshot)
            pool = await readers.enter_async_context(fleet.inspect_pool(snapshot))
            live = await readers.enter_async_context(fleet.inspect_pool(machine))
            clone_machine(snapshot, tmp_path / f"clone{number}")
            for one in (pool, live):
                answer = await one.inspect(b"balance alice")
                assert answer.reports == (b"%d" % number,)


async def test_a_machine_of_a_fleet_that_cannot_be_sealed_lets_go_of_its_folder(tmp_path):
    with mounted("tmpfs", tmp_path, 16 << 20) as filesystem:
        async with open_fleet(1) as fleet:
            opening = contextlib.AsyncExitStack()
            creating = fleet.create(CONFIG, filesystem.folder / "app")
            await fleet.run(await opening.enter_async_context(creating))
            ballast = fill(filesystem.folder)
            with pytest.raises((OSError, BackingFault), match=r"[Nn]o space"):
                await opening.aclose()
            os.truncate(ballast, 0)
            with pytest.raises(MachineTorn):
                Machine.open(filesystem.folder / "app", storage="backing")


async def test_an_application_with_a_shared_drive_is_advanced_and_inspected(tmp_path):
    """Inspects have drives of their own; an input that is refused leaves the drive as it was."""
    (tmp_path / "disk.img").write_bytes(bytes(2 << 20))
    drive = Drive("disk", kind="pmem", path=tmp_path / "disk.img", shared=True)
    config = ledger_config(drives=(drive,))
    async with open_fleet(2) as fleet, fleet.create(config, tmp_path / "app") as machine:
        await fleet.run(machine)
        place = machine.layout.range("disk").start
        machine.write(place, b"kept")
        assert (await fleet.advance(machine, b"mint alice 5")).accepted
        digest = machine.digest()
        assert (await fleet.advance(machine, b"burn nobody 5")).status == "rejected"
        assert machine.digest() == digest
        async with fleet.inspect_pool(machine) as pool:
            machine.write(place, b"gone on")
            for _ in range(3):
                assert (await pool.inspect(b"balance alice")).reports == (b"5",)
    assert (tmp_path / "app" / "disk.img").read_bytes().startswith(b"gone on")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "disk.img"]


async def test_a_fleet_reserves_room_as_it_is_asked(app):
    async with open_fleet(1) as fleet, fleet.open(app, storage="backing", reserve=8 << 20):
        assert (app / "top").stat().st_blocks * 512 >= 8 << 20
