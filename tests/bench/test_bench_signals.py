"""A signal ends a benchmark at once, wherever it is, and leaves nothing behind."""

import signal
import subprocess
import sys
import time

import anyio
import pytest

from orchestra.bench.loops import run_on
from orchestra.cli.attend import Stopped
from orchestra.cli.bench import signals
from orchestra.sched.scheduler import loop_caller

SOON_SECONDS = 5.0  # a second where nothing else runs


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_signal_that_comes_in_a_callback_of_the_loop_is_not_lost(loop):
    """An exception there is written to the log, or ends the loop without its tasks."""
    ended = []

    async def wait():
        loop_caller()(lambda: signal.raise_signal(signal.SIGTERM))
        try:
            with anyio.move_on_after(SOON_SECONDS):
                await anyio.sleep_forever()
        finally:
            ended.append("unwound")

    with signals(), pytest.raises(Stopped, match="SIGTERM"):
        run_on(loop, wait)
    assert ended == ["unwound"]


def test_handlers_are_as_before_when_it_has_ended():
    async def look():
        return [signal.getsignal(number) for number in before]

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert set(run_on("asyncio", look)).isdisjoint(before.values())
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_that_is_ignored_stays_so():
    async def interrupted():
        signal.raise_signal(signal.SIGINT)
        await anyio.lowlevel.checkpoint()
        return "went on"

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_on("asyncio", interrupted) == "went on"
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("row", ["inspects/c10000", "overhead", "advance/idle"])
def test_the_command_obeys_a_signal(tmp_path, row, number):
    command = [sys.executable, "-m", "orchestra.cli", "bench", "fleet", "--dir", str(tmp_path)]
    errors = tmp_path.with_suffix(".err")
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--rows", row, "--seconds", "60", "--machines", "200"],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    while row not in errors.read_text():
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    began = time.perf_counter()
    assert process.wait(60) == 128 + number
    assert time.perf_counter() - began < SOON_SECONDS
    assert errors.read_text().splitlines()[-1] == f"error: stopped by {number.name}"
    assert not list(tmp_path.iterdir())
