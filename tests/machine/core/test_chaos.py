"""Machines full of random code, pointers and page tables: every way of running them is the same.

The trace is the reference: it decodes and translates everything anew, so whatever the engine
remembers and should have forgotten makes a difference. A trap or the timer shuffles the registers
and goes on elsewhere, so that programs do not come to rest in a small loop.
"""

from __future__ import annotations

import random
import struct
from functools import cache

import pytest

from orchestra.machine import Machine, MachineConfig, Ram
from tests.assembler import CSR, RAM, TABLE, Code
from tests.machine.core.small import ENGINES

PAGE = 4096
HANDLER, HANDS, COUNTER = RAM, RAM + 4 * PAGE, RAM + 3 * PAGE  # only M-mode code knows them
HAND_BYTES, HAND_COUNT = 256, 64
TABLES, TABLE_PAGES = RAM + 8 * PAGE, 5
PAGES = 13  # to be found and changed by anything: first the tables, then code
CODE_PAGES = PAGES - TABLE_PAGES
RAM_PAGES = 8 + PAGES
CYCLES = 4000
SEEDS = 25  # in each part
STORES = ["sb", "sh", "sw", "sd", "sd", "amoadd.d", "amoswap.w", "sc.w", "fsd"]
LOADS = ["lb", "lhu", "lw", "ld", "fld", "lr.d"]
JUMPS = ["jal", "jalr", "beq", "bne", "blt", "bgeu"]
SIMPLE = ["addi", "add", "xor", "lui", "auipc", "slli", "mul", "divu", "fadd.d", "fcvt.l.d"]
SYSTEM = ["ecall", "ebreak", "sfence.vma", "fence.i", "sret", "mret"]
CSRS = ["mstatus", "sstatus", "mepc", "sepc", "mie", "sie", "mip", "sip", "mscratch", "stvec"]
CSRS += ["minstret", "cycle", "time", "fcsr", "medeleg", "satp", "scause"]
POINTERS = (2, *range(8, 16))


def random_word(rng):
    """An instruction whose base register is likely to be a pointer, and whose target near."""
    kinds = rng.choices((STORES, LOADS, JUMPS, SIMPLE, SYSTEM, CSRS), (20, 12, 12, 55, 1, 1))[0]
    name = rng.choice(("csrrw", "csrrs", "csrrci")) if kinds is CSRS else rng.choice(kinds)
    operands, match, mask = TABLE[name]
    word = match | rng.getrandbits(32) & ~mask
    if "rs1)" in operands or name == "jalr":
        word = word & ~(31 << 15) | rng.choice(POINTERS) << 15
        if "imm" in operands:
            high = 0xFE000000 if kinds is STORES else 0xFFF00000
            word = word & ~high | rng.choice((0, 0, 1, 0xFF)) << 25 & high
    if "rd" in operands:
        word = word & ~(31 << 7) | rng.choice((0, 1, *range(16, 32))) << 7
    if name == "jal":
        word = word & 0xFFF | rng.choice((4, 8, 16, -12, 2, 6)) % 2048 >> 1 << 21
    elif "target" in operands:
        word = word & 0x01FFF07F | rng.choice((4, 8, 6, 14)) << 7
    if ",rm" in operands:
        word &= ~(7 << 12)
    if kinds is CSRS:
        word = word & 0xFFFFF | CSR[rng.choice(CSRS)] << 20
    return word


@cache
def pool():
    """Pieces of code to fill pages with."""
    rng = random.Random(1)
    words = [random_word(rng).to_bytes(4, "little") for _ in range(6000)]
    halves = [rng.randrange(1, 1 << 16) for _ in range(2000)]
    return words + [half.to_bytes(2, "little") for half in halves if usable(half)]


def usable(half):
    """Whether a 16-bit instruction leads no further astray than its page."""
    kind = half & 3, half >> 13
    return kind[0] != 3 and kind not in ((1, 5), (0, 4)) and (kind != (2, 4) or half >> 2 & 31)


def handler():
    """Deal another hand of registers, and go on where it says."""
    code = Code(HANDLER)
    code.li("s0", 0x200_BFF8)
    code.op("ld", "t0", 0, "s0")
    code.op("addi", "t0", "t0", 1)
    code.li("s0", 0x200_4000)
    code.op("sd", "t0", 0, "s0")
    code.li("s0", COUNTER)
    code.op("ld", "t0", 0, "s0")
    code.op("addi", "t0", "t0", HAND_BYTES)
    code.op("slli", "t0", "t0", 50)
    code.op("srli", "t0", "t0", 50)
    code.op("sd", "t0", 0, "s0")
    code.li("s0", HANDS)
    code.op("add", "t6", "t0", "s0")
    for index, name in enumerate(("mepc", "satp", "stvec", "medeleg", "mie"), 1):
        code.op("ld", "t0", 8 * index, "t6")
        code.csrw(name, "t0")
    code.op("ld", "t0", 0, "t6")
    for index, number in enumerate((*POINTERS, 1, *range(16, 32)), 6):
        code.op("ld", number, 8 * index, "t6")
    code.csrw("mstatus", "t0")
    code.op("mret")
    return code.finish()


def random_pointer(rng, mode, tables=0.5):
    """An address of one of the pages, as M, S or U sees it, often near an edge."""
    page = rng.randrange(TABLE_PAGES, PAGES)
    if rng.random() < tables:
        page = rng.randrange(TABLE_PAGES)
    offset = rng.choice((0, 2, 8, 4088, 4094, 4090, *(rng.randrange(0, PAGE, 2) for _ in "1234")))
    windows = {"M": (RAM,), "S": (RAM, RAM, 0), "U": (3 << 30, 0xFFFFFFFFC0000000)}[mode]
    if rng.random() < 0.1:
        windows = (RAM, 0, 3 << 30, 0xFFFFFFFFC0000000)
    return rng.choice(windows) + TABLES - RAM + page * PAGE + offset


def random_entry(rng):
    """A page table entry for one of the pages."""
    flags = rng.choice((0xCF, 0xDF, 0xCF, 0xDF, 0x0F, 0x1F, 0x4F, 0x01, rng.getrandbits(8)))
    return (TABLES + rng.randrange(PAGES) * PAGE) >> 12 << 10 | flags


def random_hand(rng, places):
    """What the handler loads: a mode and where to go on there, pointers near and far, values."""
    mode = rng.choice("MSSU")
    status = rng.getrandbits(23) & 0x7C0000 | 0x6080 | {"M": 0x1800, "S": 0x800, "U": 0}[mode]
    if rng.random() < 0.8:
        status = status & ~(7 << 20) | 1 << 18
    satp = 8 << 60 | TABLES >> 12
    causes = rng.choice((0, rng.getrandbits(16) & ~0x1006))
    start = rng.choice(places[mode])
    values = [status, start, satp, rng.choice(places["S"]), causes]
    values += [0x80 | rng.choice((0, 0, rng.getrandbits(12)))]
    for _ in (*POINTERS, 1):
        near = (start if rng.random() < 0.5 else rng.choice(places[mode])) + rng.randrange(-8, 64)
        values.append(near if rng.random() < 0.6 else random_pointer(rng, mode))
    for _ in range(16):
        words = int.from_bytes(b"".join(rng.choices(pool(), k=4))[:8], "little")
        values.append(rng.choice((rng.getrandbits(64), random_entry(rng), words, words)))
    return struct.pack(f"<{len(values)}Q", *(value % (1 << 64) for value in values))


def random_tables(rng):
    """Sv39 tables that show the machine's pages in many places, the tables among them."""
    tables = bytearray(TABLE_PAGES * PAGE)
    root, middle, middle_of_u, leaves, leaves_of_u = range(TABLE_PAGES)

    def put(page, index, entry):
        tables[page * PAGE + 8 * index : page * PAGE + 8 * index + 8] = entry.to_bytes(8, "little")

    def link(page):
        return (TABLES + page * PAGE) >> 12 << 10 | 1

    for index, page in ((0, middle), (2, middle), (3, middle_of_u), (511, middle_of_u)):
        put(root, index, link(page))
    for index in range(512):
        put(middle, index, link(leaves))
        put(middle_of_u, index, link(leaves_of_u))
    for table, user in ((leaves, 0), (leaves_of_u, 0x10)):
        for page in range(PAGES):
            entry = (TABLES + page * PAGE) >> 12 << 10 | user | rng.choice((0xCF, 0x0F, 0xCF))
            put(table, 8 + page, entry if rng.random() < 0.8 else random_entry(rng))
    return bytes(tables)


def random_machine(seed):
    """Make the machine of this seed."""
    rng = random.Random(seed)
    machine = Machine.create(MachineConfig(ram=Ram(length=RAM_PAGES * PAGE)))
    machine.write(HANDLER, handler())
    places = {mode: [random_pointer(rng, mode, 0.02) for _ in range(4)] for mode in "MSU"}
    hands = (random_hand(rng, places).ljust(HAND_BYTES, b"\0") for _ in range(HAND_COUNT))
    machine.write(HANDS, b"".join(hands))
    code = b"".join(rng.choices(pool(), k=CODE_PAGES * PAGE // 2))[: CODE_PAGES * PAGE]
    machine.write(TABLES, random_tables(rng) + code)
    machine.registers["pc"] = machine.registers["mtvec"] = HANDLER
    machine.registers["mcounteren"] = machine.registers["scounteren"] = 7
    if seed % 2:
        machine.checkpoint()
    return machine


@pytest.mark.parametrize("part", range(4))
def test_chaos_is_the_same_in_blocks_steps_forks_and_detours(part):
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        check(seed)


def check(seed):
    """Run one machine in every way."""
    rng = random.Random(seed)
    with random_machine(seed) as machine:
        for _ in machine.trace(until=CYCLES):
            pass
        cycle, digest = machine.cycle, machine.digest()
    for engine in ENGINES:
        with random_machine(seed) as machine:
            machine.engine = engine
            machine.run(cycle)
            assert machine.digest() == digest, f"seed {seed}: {engine} at once"
        with random_machine(seed) as machine:
            machine.engine = engine
            while machine.cycle < cycle:
                machine.run(min(cycle, machine.cycle + rng.choice((1, 2, 5, 30, 100, 400))))
                detour(rng, machine, cycle, digest)
            assert machine.digest() == digest, f"seed {seed}: {engine} in pieces"


def detour(rng, machine, cycle, digest):
    """Perhaps do something that makes no difference."""
    match rng.randrange(20):
        case 0:
            with machine.fork() as fork:
                fork.run(cycle)
                assert fork.digest() == digest
        case 1:
            machine.checkpoint()
        case 2:
            machine.checkpoint()
            for _ in range(rng.randrange(1, 3)):
                machine.run(min(cycle, machine.cycle + rng.choice((10, 300))))
                machine.rollback()
        case 3:
            with machine.fork() as fork, fork.fork() as other:
                fork.run(min(cycle, machine.cycle + 50))
                fork.checkpoint()
                machine.run(min(cycle, machine.cycle + 70))
                other.run(cycle)
                assert other.digest() == digest
                fork.rollback()
                fork.run(cycle)
                assert fork.digest() == digest
