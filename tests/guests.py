"""The package's guests and a booted Debian, for tests."""

import os
from pathlib import Path

import orchestra.guest
from orchestra.machine import Boot, Devices, Image, Machine, MachineConfig, Ram

GUESTS = Path(orchestra.guest.__file__).parent
LEDGER = GUESTS / "ledger" / "ledger.elf"
HELLO = GUESTS / "hello" / "hello.elf"
IMAGE_START = 0x8300_0000  # nobody's


def ledger_config(image=None, **changes):
    """A ledger, perhaps with a file in its memory."""
    boot = Boot(elf=LEDGER, images=(Image(image, IMAGE_START),) if image else ())
    return MachineConfig(boot=boot, ram=Ram(64 << 20), **changes)


def ready_ledger(directory=None, image=None):
    """A ledger that waits for its first request."""
    machine = Machine.create(ledger_config(image), directory)
    machine.run()
    return machine


def write_image(path):
    """Write a file that is long enough to be mapped."""
    path.write_bytes(bytes(range(1, 256)) * 600)
    return path


def bare_config(code, ram=1 << 20, **changes):
    """A machine that runs the words of `code` (a file) from the start of RAM."""
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
