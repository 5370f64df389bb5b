"""The oracle: Spike runs an ELF, we run it, and the commit logs are compared line by line."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.machine.config import BASE_ISA, Boot, MachineConfig, Processor, Ram
from orchestra.machine.devicetree import Node, cells, flatten, text, wide
from orchestra.machine.elf import load_elf
from orchestra.machine.machine import Machine
from orchestra.machine.stop import Halted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestra.machine.elf import Program

RAM_START, RAM_LENGTH = 0x8000_0000, 16 << 20
# What we are: misaligned accesses in hardware (Zicclsm), A and D set in hardware (Svadu), no PMP.
ISA = "rv64imafdc_zicntr_zicsr_zifencei_zicclsm_svadu"
SPIKE: tuple[str, ...] = (str(Path(sys.executable).with_name("spike")),)
SPIKE += ("--pmpregions=0", "--triggers=0", "--priv=msu")
SPIKE += (f"-m0x{RAM_START:x}:0x{RAM_LENGTH:x}", "--log-commits")
BOOT_LINES = 5  # of Spike's boot ROM at 0x1000
CONTEXT_LINES = 12
CONTEXT_AFTER = 16
SPIKE_SECONDS = 60
SPIKE_CPU_SECONDS = 10
LOG_BYTES = 64 << 20
LINE = re.compile(r"core +0: (\d) (0x[0-9a-f]{16}) \((0x[0-9a-f]+)\)(.*)")
WRITTEN = re.compile(r" (mem|[xf]\d+|c\d+_\w+) +(0x[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a commit log, taken apart."""

    place: tuple[str, str, str]  # mode, pc, instruction
    registers: dict[str, int]
    memory: str

    @classmethod
    def parse(cls, text: str) -> Line:
        """Take a line apart."""
        match = LINE.fullmatch(text)
        assert match, text
        rest, _, memory = match[4].partition(" mem ")
        registers = {name: int(value, 16) for name, value in WRITTEN.findall(rest)}
        return cls((match[1], match[2], match[3]), registers, memory)

    @property
    def csr(self) -> int:
        """The number of the CSR this instruction accesses, or -1."""
        word = int(self.place[2], 16)
        return word >> 20 if word & 0x7F == 0x73 and word >> 12 & 3 else -1


# Where the specification allows both, and the reason we do what we do.

DIFFERENCES: dict[str, Callable[[Line, Line], bool]] = {}


def difference(reason: str) -> Callable[[Callable[[Line, Line], bool]], None]:
    """Enter a rule into the table: may these two lines (ours, Spike's) be told apart?"""

    def enter(rule: Callable[[Line, Line], bool]) -> None:
        DIFFERENCES[reason] = rule

    return enter


FREE_CSRS = {
    0xB00: "mcycle counts traps, and starts at reset: Spike's boot ROM takes five instructions",
    0xC00: "cycle: as mcycle",
    0xC01: "time is mcycle / cycles_per_tick; Spike's follows its own schedule",
    0xF12: "marchid: each implementation has its own",
    0x320: "mcountinhibit is WARL; ours is zero: counters always count",
    0x30A: "menvcfg: A and D are always updated in hardware, so no ADUE bit; FIOM is writable",
    0x10A: "senvcfg: FIOM is writable, as the specification wants it where there is Sv39",
}


@difference("CSRs that are each implementation's own: see FREE_CSRS")
def _free_csr(ours: Line, spike: Line) -> bool:
    return ours.csr in FREE_CSRS and ours.registers.keys() == spike.registers.keys()


@difference("Spike shows the write of mvip, a register of Smaia, behind mip and sip")
def _mvip(ours: Line, spike: Line) -> bool:
    rest = {name: value for name, value in spike.registers.items() if name != "c777_mvip"}
    return ours.registers == rest


@difference("satp.ASID is WARL: we have none, translations are always coherent")
def _asid(ours: Line, spike: Line) -> bool:
    mask = ~(0xFFFF << 44)
    masked = {name: value & mask for name, value in spike.registers.items()}
    return ours.csr == 0x180 and ours.registers == masked


@difference("medeleg has bits for exceptions (software check, hardware error) that we never raise")
def _medeleg(ours: Line, spike: Line) -> bool:
    masked = {name: value & ~(3 << 18) for name, value in spike.registers.items()}
    return ours.csr == 0x302 and ours.registers == masked


@difference("a misaligned atomic is an address-misaligned exception, or an access fault")
def _misaligned_atomic(ours: Line, spike: Line) -> bool:
    if ours.csr not in (0x142, 0x342) or ours.registers.keys() != spike.registers.keys():
        return False
    return all(value ^ spike.registers[name] in (0, 1) for name, value in ours.registers.items())


def explain(ours: str, spike: str) -> str | None:
    """Say why two different lines are both right; None when they are not."""
    a, b = Line.parse(ours), Line.parse(spike)
    if a.place == b.place and a.memory == b.memory:
        for reason, rule in DIFFERENCES.items():
            if rule(a, b):
                return reason
    return None


def device_tree(extensions: str = "") -> bytes:
    """Describe Spike's hart to Spike: Sv39 is all it shall have, and no device but the CLINT."""
    controller = {
        "#interrupt-cells": cells(1),
        "interrupt-controller": b"",
        "compatible": text("riscv,cpu-intc"),
        "phandle": cells(1),
    }
    hart = {
        "device_type": text("cpu"),
        "reg": cells(0),
        "status": text("okay"),
        "compatible": text("riscv"),
        "riscv,isa": text(ISA + extensions),
        "mmu-type": text("riscv,sv39"),
        "riscv,cbom-block-size": cells(64),
        "riscv,cboz-block-size": cells(64),
        "riscv,pmpregions": cells(0),
        "riscv,pmpgranularity": cells(4),
    }
    clint = {
        "compatible": text("riscv,clint0"),
        "interrupts-extended": cells(1, 3, 1, 7),
        "reg": wide(0x200_0000, 0xC_0000),
    }
    memory = {"device_type": text("memory"), "reg": wide(RAM_START, RAM_LENGTH)}
    size = {"#address-cells": cells(2), "#size-cells": cells(2)}
    cpu = Node("cpu@0", hart, (Node("interrupt-controller", controller),))
    cpus = {"#address-cells": cells(1), "#size-cells": cells(0)}
    cpus["timebase-frequency"] = cells(10_000_000)
    soc = Node("soc", size | {"ranges": b""}, (Node("clint@2000000", clint),))
    children = (Node("cpus", cpus, (cpu,)), Node("memory@80000000", memory), soc)
    return flatten(Node("", size, children))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of running one program on both, and again on us alone."""

    lines: int
    explained: int
    mismatch: str | None = None


def _limit() -> None:  # --instructions= of Spike takes a trap for thousands of them
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_BYTES, LOG_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SPIKE_CPU_SECONDS, SPIKE_CPU_SECONDS))


@dataclass(frozen=True, slots=True)
class SpikeRun:
    """What Spike did: its commit log, and memory from begin_signature to end_signature."""

    log: list[str]
    memory: bytes


def run_spike(program: Path, extensions: str = "") -> SpikeRun:
    """Run an ELF on Spike until it writes tohost, or its log is too long.

    `extensions` are what the hart has beyond the base, such as "_zba_zbb".
    """
    with tempfile.TemporaryDirectory() as scratch:
        log, tree, memory = (Path(scratch) / name for name in ("log", "dtb", "memory"))
        tree.write_bytes(device_tree(extensions))
        command = (*SPIKE, f"--isa={ISA}{extensions}", f"--dtb={tree}", f"--log={log}")
        command += (f"+signature={memory}", "+signature-granularity=8", str(program))
        done = subprocess.run(
            command, capture_output=True, timeout=SPIKE_SECONDS, check=False, preexec_fn=_limit
        )
        if not log.exists():
            raise RuntimeError(done.stderr.decode())
        text = log.read_text().splitlines()[BOOT_LINES:]
        words = memory.read_text().split() if memory.exists() else []
    if done.returncode:
        del text[-1:]  # cut anywhere
    return SpikeRun(text, b"".join(bytes.fromhex(word)[::-1] for word in words))


def new_machine(program: Path, extensions: str = "") -> Machine:
    """Make a machine like Spike's, with this ELF in it."""
    hart = Processor(isa=BASE_ISA + extensions)
    config = MachineConfig(ram=Ram(length=RAM_LENGTH), processor=hart, boot=Boot(elf=program))
    return Machine.create(config)


def compare(
    program: Path, max_cycles: int = 200_000, slices: Sequence[int] = (), extensions: str = ""
) -> Comparison:
    """Run an ELF on both, then on us at full speed and in slices of so many cycles.

    The comparison's mismatch says where they part, if they do.
    """
    spike = run_spike(program, extensions)
    with new_machine(program, extensions) as machine:
        ours = list(machine.trace(max_cycles=max_cycles))
        explained, mismatch = _compare_logs(ours, spike.log)
        stop = machine.run(machine.cycle)
        if mismatch is None and isinstance(stop, Halted):
            mismatch = _compare_memory(machine, load_elf(program), spike.memory)
        cycle, digest = machine.cycle, machine.digest()
    for lengths in ((), slices):
        mismatch = mismatch or _run_again(program, cycle, digest, lengths, extensions)
    return Comparison(len(ours), explained, mismatch)


def _compare_logs(ours: list[str], theirs: list[str]) -> tuple[int, str | None]:
    explained = 0
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            if explain(a, b) is None:
                return explained, _context(ours, theirs, index)
            explained += 1
    if len(theirs) < len(ours):
        return explained, f"Spike's log ends after {len(theirs)} lines, ours has {len(ours)}"
    return explained, None


def _compare_memory(machine: Machine, program: Program, theirs: bytes) -> str | None:
    start = program.symbols.get("begin_signature")
    if start is None:
        return None
    ours = machine.read(start, program.symbols["end_signature"] - start)
    if ours == theirs:
        return None
    at = next(i for i in range(0, len(ours), 8) if ours[i : i + 8] != theirs[i : i + 8])
    pair = (ours[at : at + 8][::-1].hex(), theirs[at : at + 8][::-1].hex())
    return f"memory at {start + at:#x} is {pair[0]}, on Spike {pair[1]}"


def _run_again(
    program: Path, cycle: int, digest: str, slices: Sequence[int], extensions: str
) -> str | None:
    with new_machine(program, extensions) as machine:
        for length in slices:
            machine.run(min(machine.cycle + length, cycle))
        machine.run(cycle)
        if machine.digest() == digest:
            return None
    how = f"in slices {slices}" if slices else "at once"
    return f"run {how} to cycle {cycle} it does not end like the trace"


def _context(ours: list[str], theirs: list[str], index: int) -> str:
    before = ours[max(0, index - CONTEXT_LINES) : index]
    parts = [f"  {line}" for line in before]
    parts += [f"- {line}" for line in ours[index : index + CONTEXT_AFTER]]
    parts += [f"+ {line}" for line in theirs[index : index + CONTEXT_AFTER]]
    return f"line {index} (- ours, + Spike's):\n" + "\n".join(parts)
