"""A guest's console as a stream, on a real Debian shell."""

import anyio
import msgspec
import pytest

from orchestra import Boot, MachineConfig, open_fleet
from orchestra.sched.console import ConsoleStream
from tests.guests import HELLO

pytestmark = pytest.mark.anyio


async def read_until(stream, wanted):
    text = b""
    with anyio.fail_after(60):
        while wanted not in text:
            text += await stream.receive(7)
    return text


async def test_a_stream_ends_when_the_guest_halts():
    config = MachineConfig(boot=Boot(elf=HELLO))
    async with open_fleet(workers=1) as fleet, fleet.create(config) as machine:
        stream = ConsoleStream(fleet, machine)
        assert b"".join([part async for part in stream]) == b"hello from the guest\n"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_a_shell_answers_what_is_sent(debian_config):
    boot = msgspec.structs.replace(
        debian_config.boot, bootargs=f"{debian_config.boot.bootargs} -- shell"
    )
    config = msgspec.structs.replace(debian_config, boot=boot)
    async with (
        open_fleet(workers=1) as fleet,
        fleet.create(config) as machine,
        ConsoleStream(fleet, machine) as shell,
    ):
        await read_until(shell, b"~ # ")
        assert machine.reproducible
        await shell.send(b"echo $((6 * 7))\n")
        assert b"\n42" in await read_until(shell, b"42\r\n")
        await read_until(shell, b"~ # ")
        await shell.send(b"poweroff -f\n")
        with anyio.fail_after(60):
            _ = [part async for part in shell]
