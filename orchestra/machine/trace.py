"""Executed instructions as lines of text, in the form of Spike's commit log."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from ._core import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Commit, Core

__all__ = ["format_commit", "lines"]


class Csr(IntEnum):
    """Registers that are written along with others."""

    FFLAGS, FRM, FCSR = 0x001, 0x002, 0x003
    SSTATUS, SIE, SIP = 0x100, 0x104, 0x144
    MSTATUS, MIE, MIP = 0x300, 0x304, 0x344


CSR_NAMES = {number - 0x1000: name for name, number in REGISTERS.items() if number >= 0x1000}
CSR_NAMES |= {0x323 + index: f"mhpmevent{3 + index}" for index in range(29)}
AMO, LR, SC = 0x2F, 2, 3
LOAD, STORE = 1, 2


def lines(core: Core, until: int) -> Iterator[str]:
    """Run to cycle `until` or the next stop; yield a line for each instruction that retired.

    A line is `core   0: <privilege> <pc> (<instruction>)`, then the registers it wrote in order of
    their numbers, then the memory it read (` mem <address>`) and wrote (` mem <address> <value>`).
    Instructions that trap have no line. The core runs ahead of the lines by up to 4,096
    instructions. Source: riscv-isa-sim, `--log-commits`.
    """
    for commits in core.trace(until):
        for commit in commits:
            if not commit.trapped:
                yield format_commit(commit)


def format_commit(commit: Commit) -> str:
    """Write one retired instruction as a line."""
    raw = commit.raw
    word = f"{raw:08x}" if raw & 3 == 3 else f"{raw:04x}"
    line = f"core   0: {commit.privilege} 0x{commit.pc:016x} (0x{word})"
    if commit.csr or commit.mstatus or commit.fflags_raised:
        line += _registers(commit)
    elif commit.destination:
        line += f" {_name(commit)} 0x{commit.value:016x}"
    if commit.memory:
        line += _memory(commit)
    return line


def _name(commit: Commit) -> str:
    return f"{'xf'[commit.destination - 1]}{commit.rd}".ljust(3)


def _registers(commit: Commit) -> str:
    written: dict[tuple[int, int], str] = {}  # (number, kind), the order of Spike's log
    if commit.destination:
        written[commit.rd, commit.destination - 1] = f"{_name(commit)} 0x{commit.value:016x}"
    csrs = _written_csrs(commit)
    if commit.mstatus:
        csrs[Csr.MSTATUS] = commit.mstatus
    if commit.fflags_raised:
        csrs[Csr.FFLAGS] = commit.fflags | commit.fflags_raised
    for number, value in csrs.items():
        if number in CSR_NAMES:
            written[number, 4] = f"c{number}_{CSR_NAMES[number]} 0x{value:016x}"
    return "".join(f" {written[key]}" for key in sorted(written))


def _written_csrs(commit: Commit) -> dict[int, int]:
    value, behind = commit.csr_value, commit.behind
    match commit.csr:
        case 0:
            return {}
        case Csr.FCSR:
            return {Csr.FFLAGS: value & 31, Csr.FRM: value >> 5}
        case Csr.SSTATUS:
            return {Csr.MSTATUS: behind}
        case Csr.SIE:
            return {Csr.SIE: value, Csr.MIE: behind}
        case Csr.SIP:
            return {Csr.MIP: behind}
    return {commit.csr: value}


def _memory(commit: Commit) -> str:
    load = f" mem 0x{commit.address:016x}"
    if commit.memory == LOAD:
        return load
    store = f"{load} 0x{commit.stored:0{2 * commit.size}x}"
    atomic = commit.raw & 0x7F == AMO and commit.raw >> 27 not in (LR, SC)
    return load + store if atomic else store
