"""The peer of `orchestra bench cpu`: QEMU's system emulator, on the same guests."""

from __future__ import annotations

import resource
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from orchestra.bench.big import BIG_START
from orchestra.bench.kernels import RAM_LENGTH, Measured
from orchestra.errors import BadConfig, GuestError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.machine import MachineConfig

__all__ = ["qemu_version", "run_qemu_kernel", "run_qemu_linux"]

PROGRAM: Final = "qemu-system-riscv64"
BOARD: Final = (
    *("-machine", "virt", "-smp", "1", "-nodefaults", "-display", "none"),
    *("-monitor", "none", "-serial", "stdio", "-no-reboot"),
)
SLOWEST_SECONDS: Final = 600


def qemu_version() -> str:
    """Return its version; BadConfig says how to get it."""
    if shutil.which(PROGRAM) is None:
        raise BadConfig("--against", "no " + PROGRAM, "on Debian: apt install qemu-system-misc")
    text = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout
    return text.splitlines()[0].removeprefix("QEMU emulator version ")


def run_qemu_kernel(elf: Path, code: Path | None) -> Measured:
    """Run a kernel until it powers itself off: processor seconds of the whole process."""
    loader = ("-device", f"loader,file={code},addr={BIG_START:#x},force-raw=on") if code else ()
    memory = f"{RAM_LENGTH >> 20}M"
    return _run("-m", memory, "-bios", "none", "-kernel", str(elf), *loader)


def run_qemu_linux(config: MachineConfig) -> Measured:
    """Boot the firmware, kernel and initrd of a config of ours, until it powers itself off."""
    boot = config.boot
    return _run(
        *("-m", f"{config.ram.length >> 20}M", "-bios", str(boot.firmware)),
        *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.bootargs),
    )


def _run(*arguments: str) -> Measured:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        [PROGRAM, *BOARD, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SLOWEST_SECONDS,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        said = process.stderr.decode(errors="replace").strip()
        raise GuestError(f"{PROGRAM} exited with {process.returncode}: {said}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, 0, process.stdout)
