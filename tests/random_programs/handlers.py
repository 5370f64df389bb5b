"""What random programs start with, and trap handlers that survive anything."""

from __future__ import annotations

from tests.assembler import RAM, Code
from tests.random_programs import layout as at


def handlers() -> Code:
    """Write what runs at reset and on traps."""
    code = Code(RAM)
    code.op("jal", 0, "start")
    code.pad(RAM + 8)
    _machine_handler(code)
    _supervisor_handler(code)
    code.label("start")
    code.li("t0", 0x2004000)  # mtimecmp
    code.li("t1", -1)
    code.op("sd", "t1", 0, "t0")
    for name, value in (("mtvec", RAM + 8), ("mscratch", at.SAVE), ("sscratch", at.S_SAVE)):
        code.li("t0", value)
        code.csrw(name, "t0")
    code.la("t0", "supervisor")
    code.csrw("stvec", "t0")
    code.li("t0", 1 << 61)
    code.csrw("menvcfg", "t0")  # ADUE: Spike shall set A and D too
    code.csrw("minstret", "zero")
    code.li("t0", 0x6000)
    code.csrw("mstatus", "t0")
    for number in range(32):
        code.op("fmv.d.x", number, 0)
    for number in range(1, 32):
        code.op("addi", number, 0, 0)
    code.li("gp", at.CONSTANTS + 2048)
    code.la("ra", at.BODY)
    code.op("jalr", 0, 0, "ra")
    code.finish()
    assert len(code.data) <= at.PAGE
    return code


def _machine_handler(code: Code) -> None:
    code.op("csrrw", "sp", "mscratch", "sp")
    for index in range(3):
        code.op("sd", f"t{index}", 8 * index, "sp")
    code.op("ld", "t0", at.SAVED["count"], "sp")
    code.op("addi", "t0", "t0", 1)
    code.op("sd", "t0", at.SAVED["count"], "sp")
    code.op("ld", "t1", at.SAVED["limit"], "sp")
    code.op("bgeu", "t0", "t1", "finish")
    for rd, name in (("t1", "mtval"), ("t1", "mstatus"), ("t0", "mcause"), ("t1", "mepc")):
        code.csrr(rd, name)
    code.op("blt", "t0", "zero", "interrupt")
    for cause in (8, 9):
        code.li("t2", cause)
        code.op("beq", "t0", "t2", "ecall")
    code.op("jal", 0, "normal")
    code.label("ecall")
    code.op("ld", "t2", at.SAVED["magic"], "sp")
    code.op("beq", "t2", "a7", "go_to_m")
    code.op("ld", "t2", at.SAVED["skip"], "sp")
    code.op("beq", "t2", "a7", "skip_for_s")
    code.label("normal")
    _skip(code, "m")
    code.csrw("mepc", "t1")
    code.label("back")
    for index in range(3):
        code.op("ld", f"t{index}", 8 * index, "sp")
    code.op("csrrw", "sp", "mscratch", "sp")
    code.op("mret")
    code.label("interrupt")
    code.csrw("mie", "zero")
    code.op("jal", 0, "back")
    code.label("go_to_m")
    code.li("t2", at.MPP_M)
    code.op("csrrs", 0, "mstatus", "t2")
    _body_address(code)
    code.op("addi", "t2", "t2", 4)
    code.csrw("mepc", "t2")
    code.op("jal", 0, "back")
    code.label("skip_for_s")
    code.csrr("t0", "scause")
    code.csrr("t1", "sepc")
    code.op("blt", "t0", "zero", "interrupt_of_s")
    _skip(code, "s")
    code.csrw("sepc", "t1")
    code.label("skipped")
    code.csrr("t1", "mepc")
    code.op("addi", "t1", "t1", 4)
    code.csrw("mepc", "t1")
    code.op("jal", 0, "back")
    code.label("interrupt_of_s")
    code.csrw("mie", "zero")
    code.op("jal", 0, "skipped")
    code.label("finish")
    finish(code)


def _body_address(code: Code) -> None:
    """t2: where in the body t1 is, physically."""
    code.op("slli", "t2", "t1", 44)
    code.op("srli", "t2", "t2", 44)
    code.op("ld", "t0", at.SAVED["body"], "sp")
    code.op("add", "t2", "t2", "t0")


def _skip(code: Code, suffix: str) -> None:
    """t1: where to go on after the exception t0 at t1.

    t0 may differ from the oracle's, so nothing is computed from it.
    """
    for cause in (1, 12):
        code.li("t2", cause)
        code.op("beq", "t0", "t2", f"resume_{suffix}")
    _body_address(code)
    code.op("lhu", "t2", 0, "t2")
    code.op("xori", "t2", "t2", -1)
    code.op("andi", "t2", "t2", 3)
    code.op("addi", "t1", "t1", 2)
    code.op("bne", "t2", "zero", f"skipped_{suffix}")
    code.op("addi", "t1", "t1", 2)
    code.op("jal", 0, f"skipped_{suffix}")
    code.label(f"resume_{suffix}")
    code.op("addi", "t1", "t6", 0)
    code.label(f"skipped_{suffix}")


def _supervisor_handler(code: Code) -> None:
    code.pad(code.here + -code.here % 4)
    code.label("supervisor")
    code.op("csrrw", "sp", "sscratch", "sp")
    code.op("sd", "a7", 0, "sp")
    for name in ("scause", "stval", "sstatus", "sepc"):
        code.csrr("a7", name)
    code.li("a7", at.MAGIC_SKIP)
    code.op("ecall")
    code.op("ld", "a7", 0, "sp")
    code.op("csrrw", "sp", "sscratch", "sp")
    code.op("sret")


def finish(code: Code) -> None:
    """End the program: tell the host, and wait to be believed."""
    code.li("t0", at.TOHOST)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    code.op("jal", 0, 0)


def save_area() -> bytes:
    """What the handlers find in at.SAVE."""
    values = {"limit": at.TRAP_LIMIT, "body": at.BODY, "magic": at.MAGIC_M, "skip": at.MAGIC_SKIP}
    area = bytearray(at.PAGE)
    for name, value in values.items():
        area[at.SAVED[name] : at.SAVED[name] + 8] = value.to_bytes(8, "little")
    return bytes(area)


SUPERVISOR = handlers().labels["supervisor"]
