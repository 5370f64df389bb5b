"""A disk that is full: no input is lost, none is half there, and all goes on when there is room."""

from contextlib import suppress

import pytest

from orchestra.errors import BackingFault, LogFault
from orchestra.sched.fleet import open_fleet
from orchestra.sched.settings import ApplicationSettings
from tests.filesystems import KINDS, MIB, empty, fill, mounted
from tests.guests import ledger_config, ready_ledger

pytestmark = pytest.mark.anyio


async def advance_until_it_fails(app):
    while app.inputs < 5000:
        await app.advance(b"mint alice 1")


async def failure_of(app, payload):
    """Say of what kind an input's failure is: the log's, or that of the machine that runs it."""
    try:
        outcome = await app.advance(payload)
    except LogFault:
        return LogFault
    assert (outcome.status, outcome.number) == ("failed", None)
    return type(outcome.error)


@pytest.mark.parametrize("storage", ["memory", "backing"])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "quick"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_disk_refuses_inputs_until_there_is_room(tmp_path, kind, durable, storage):
    settings = ApplicationSettings(durable=durable, storage=storage)
    length = [64 * MIB] if kind == "tmpfs" else []
    with mounted(kind, tmp_path, *length) as filesystem, ready_ledger() as twin:
        folder = filesystem.folder / "app"
        async with (
            open_fleet(1) as fleet,
            fleet.application(folder, ledger_config(), settings) as app,
        ):
            await app.advance(b"mint alice 1")
            ballast = fill(filesystem.folder)
            with pytest.raises(LogFault, match=r"full.*the input was undone"):
                await advance_until_it_fails(app)
            before, state = app.inputs, app.state_hash
            expected = {LogFault} if storage == "memory" else {LogFault, BackingFault}
            for _ in range(3):
                assert await failure_of(app, b"crash" + bytes(1 << 20)) in expected
                with suppress(OSError):  # a small one may still find room
                    await app.snapshot()
            assert (app.inputs, app.state_hash) == (before, state)
            empty(ballast)
            for _ in range(before):
                twin.advance(b"mint alice 1")
            assert app.state_hash == twin.root_hash()
            assert (await app.advance(b"mint bob 2")).number == before + 1
            twin.advance(b"mint bob 2")
            assert app.state_hash == twin.root_hash()
            await app.snapshot()
        async with open_fleet(1) as fleet, fleet.application(folder) as app:
            assert app.inputs == before + 1
            assert app._writer.machine.digest() == twin.digest()
