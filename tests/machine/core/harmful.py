"""Guests that make the host work as long as they can for each of their cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.machine import Machine, MachineConfig, Ram
from tests.assembler import RAM, Code, encode

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
PAGE = 4096
FAR = RAM + MIB
GIGAPAGES = b"".join((n << 30 >> 12 << 10 | 0xCF).to_bytes(8, "little") for n in range(512))


def _machine(code: Code, parts: dict[int, bytes], ram: int = 16 * MIB) -> Machine:
    machine = Machine.create(MachineConfig(ram=Ram(length=ram)))
    for address, data in {RAM: code.finish(), **parts}.items():
        machine.write(address, data)
    machine.registers["pc"] = RAM
    return machine


def _to_supervisor(code: Code) -> None:
    """Go on in S mode."""
    code.li("t0", 0x800)
    code.csrw("mstatus", "t0")
    code.la("t0", "supervisor")
    code.csrw("mepc", "t0")
    code.op("mret")
    code.label("supervisor")


def code_on_every_page(pages: int = 12_000) -> Machine:
    """Each instruction is on a page that was never run from, again and again."""
    code = Code(RAM)
    code.li("t0", FAR)
    code.op("jalr", 0, 0, "t0")
    step = encode("jal", 0, PAGE).to_bytes(4, "little").ljust(PAGE, b"\0")
    back = encode("jalr", 0, 0, "t0").to_bytes(4, "little")
    return _machine(code, {FAR: step * (pages - 1) + back}, 64 * MIB)


def stores_to_every_page() -> Machine:
    """Each store copies a page."""
    code = Code(RAM)
    code.li("t0", FAR)
    code.li("t1", PAGE)
    code.label("loop")
    code.op("sd", "t0", 0, "t0")
    code.op("add", "t0", "t0", "t1")
    code.op("jal", 0, "loop")
    return _machine(code, {}, 2048 * MIB)


def code_that_changes() -> Machine:
    """A page of instructions of which the last one is written, and the first one traps."""
    code = Code(RAM)
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("a0", FAR)
    code.label("handler")
    code.li("a1", FAR + PAGE - 4)
    code.li("a2", 0x0001_0001)
    code.op("sw", "a2", 0, "a1")
    code.op("jalr", 0, 0, "a0")
    page = encode("ld", "t5", 0, 0).to_bytes(4, "little") + b"\x01\0" * (PAGE // 2 - 2)
    return _machine(code, {FAR: page})


def address_spaces() -> Machine:
    """More address spaces than are remembered, one after the other."""
    code = Code(RAM)
    for number in range(8):
        code.li(f"s{number + 2}", 8 << 60 | (FAR + number * PAGE) >> 12)
    _to_supervisor(code)
    for number in range(8):
        code.csrw("satp", f"s{number + 2}")
    code.op("jal", 0, "supervisor")
    return _machine(code, {FAR: GIGAPAGES * 8})


def traps() -> Machine:
    """Each instruction traps."""
    code = Code(RAM)
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.label("handler")
    code.op("ecall")
    return _machine(code, {})


def tables() -> Machine:
    """A root table is written whose entry maps the code under way."""
    code = Code(RAM)
    code.li("s1", FAR)
    code.li("t0", 8 << 60 | FAR >> 12)
    code.csrw("satp", "t0")
    _to_supervisor(code)
    code.op("ld", "t3", 16, "s1")
    code.label("loop")
    code.op("sd", "t3", 16, "s1")
    code.op("jal", 0, "loop")
    return _machine(code, {FAR: GIGAPAGES})


HARMFUL: tuple[Callable[[], Machine], ...] = (
    code_on_every_page,
    stores_to_every_page,
    code_that_changes,
    address_spaces,
    traps,
    tables,
)
