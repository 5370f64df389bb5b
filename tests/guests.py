"""The package's guests and a booted Debian, for tests."""

import os
from pathlib import Path

import orchestra.guest
from orchestra.machine import Boot, Devices, Machine, MachineConfig, Ram

GUESTS = Path(orchestra.guest.__file__).parent
LEDGER = GUESTS / "ledger" / "ledger.elf"
HELLO = GUESTS / "hello" / "hello.elf"


def ledger_config(**changes):
    return MachineConfig(boot=Boot(elf=LEDGER), ram=Ram(64 << 20), **changes)


def ready_ledger(directory=None):
    """A ledger that waits for its first request."""
    machine = Machine.create(ledger_config(), directory)
    machine.run()
    return machine


def bare_config(code, ram=1 << 20, **changes):
    """A machine that runs the words of `code` (a file) from the start of RAM."""
    from orchestra.machine import Image

    return MachineConfig(
        ram=Ram(ram),
        boot=Boot(images=(Image(code, 0x8000_0000),)),
        devices=Devices(rng=False),
        **changes,
    )


def write_words(path, words):
    path.write_bytes(b"".join(word.to_bytes(4, "little") for word in words))
    return path


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "orchestra"
