"""The kernels of `orchestra bench cpu` as programs, and a run of one by a machine of ours."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING, Final

from orchestra.bench.big import BIG_START, make_big
from orchestra.errors import BadImage, GuestError
from orchestra.guest import KERNELS as PROGRAM
from orchestra.machine import Boot, Devices, Halted, Image, Machine, MachineConfig, Ram

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.machine import Engine
    from orchestra.machine.stop import Stop

__all__ = [
    "EMPTY",
    "GEOMEAN",
    "KERNELS",
    "RAM_LENGTH",
    "Kernel",
    "Measured",
    "kernel_config",
    "run_machine",
]

RAM_LENGTH: Final = 64 << 20
LONGEST_CYCLES: Final = 1 << 40
# In the program: the second instruction's padding, then the words for kernel (0) and rounds (1).
_WORDS: Final = bytes.fromhex("13000000") + bytes(8) + (1).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: its row's name, its number in the program, and how many rounds are a run."""

    name: str
    number: int
    rounds: int

    def write(self, folder: Path, scale: float) -> Path:
        """Write the program that runs it into the folder; `scale` multiplies the rounds."""
        data = PROGRAM.read_bytes()
        at = data.find(_WORDS) + 4
        if at < 4:
            raise BadImage(PROGRAM, "first words", "others", "those of kernels/start.S")
        rounds = max(1, round(self.rounds * scale)) if self.rounds else 0
        words = self.number.to_bytes(8, "little") + rounds.to_bytes(8, "little")
        path = folder / f"{self.name}.elf"
        path.write_bytes(data[:at] + words + data[at + 16 :])
        return path

    def write_code(self, folder: Path) -> Path | None:
        """Write the generated code it runs, which belongs at BIG_START, if it is that kernel."""
        if self.name != "big":
            return None
        path = folder / "big.bin"
        path.write_bytes(make_big())
        return path


EMPTY: Final = Kernel("empty", 0, 0)  # does nothing: what starting and stopping cost
KERNELS: Final = (
    Kernel("fib", 1, 600),
    Kernel("sieve-crc", 2, 600),
    Kernel("memcpy", 3, 500),
    Kernel("matmul", 4, 1000),
    Kernel("matmul-exact", 5, 1000),
    Kernel("mix", 6, 6000),
    Kernel("records", 7, 1500),
    Kernel("big", 8, 5000),
)
GEOMEAN: Final = ("fib", "sieve-crc", "memcpy", "matmul", "mix", "records")


@dataclass(frozen=True, slots=True)
class Measured:
    """A run: processor seconds, instructions retired (0: not known), and what it printed."""

    seconds: float
    instructions: int
    output: bytes


def kernel_config(elf: Path, code: Path | None) -> MachineConfig:
    """Return the machine that runs a kernel."""
    images = (Image(code, BIG_START),) if code else ()
    boot = Boot(elf=elf, images=images)
    return MachineConfig(ram=Ram(RAM_LENGTH), boot=boot, devices=Devices(rng=False))


def run_machine(config: MachineConfig, engine: Engine = "auto") -> Measured:
    """Run a machine until it powers itself off; only running is timed."""
    with Machine.create(config, engine=engine) as machine:
        began = process_time()
        stop: Stop = machine.run(max_cycles=LONGEST_CYCLES)
        seconds = process_time() - began
        output = machine.console_output()
        if stop != Halted(cycle=stop.cycle, code=0):
            raise GuestError(f"a guest of the benchmark ended with {stop}, printing {output!r}")
        return Measured(seconds, machine.registers["minstret"], output)
