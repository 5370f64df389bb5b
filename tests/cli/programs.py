"""Bare-metal programs, small enough to be written in words."""

import struct

START = 0x8000_0000
DATA = START + 0x1000
TOHOST, SIGNATURE, SIGNATURE_END = DATA, DATA + 0x40, DATA + 0x50
HTIF, UART = 0x4000_8000, 0x1000_0000
T0, T1, T2, T3 = 5, 6, 7, 28
WFI = 0x1050_0073
LOOP = 0x0000_006F  # jal x0, 0


def lui(rd, value):
    return value & 0xFFFFF000 | rd << 7 | 0x37


def addi(rd, rs, value):
    return (value & 0xFFF) << 20 | rs << 15 | rd << 7 | 0x13


def andi(rd, rs, value):
    return (value & 0xFFF) << 20 | rs << 15 | 7 << 12 | rd << 7 | 0x13


def slli(rd, rs, by):
    return by << 20 | rs << 15 | 1 << 12 | rd << 7 | 0x13


def load_byte(rd, offset, rs):
    return (offset & 0xFFF) << 20 | rs << 15 | 4 << 12 | rd << 7 | 0x03


def store(kind, rs2, offset, rs1):
    high, low = offset >> 5 & 0x7F, offset & 31
    return high << 25 | rs2 << 20 | rs1 << 15 | kind << 12 | low << 7 | 0x23


def store_byte(rs2, offset, rs1):
    return store(0, rs2, offset, rs1)


def store_double(rs2, offset, rs1):
    return store(3, rs2, offset, rs1)


def branch(kind, rs1, rs2, offset):
    bits = (offset >> 12 & 1) << 31 | (offset >> 5 & 63) << 25
    bits |= (offset >> 1 & 15) << 8 | (offset >> 11 & 1) << 7
    return bits | rs2 << 20 | rs1 << 15 | kind << 12 | 0x63


def load_address(rd, address):
    """An address of RAM needs its sign extension undone."""
    low = address & 0xFFF
    return [lui(rd, address), slli(rd, rd, 32), 0x0200_5013 | rd << 7 | rd << 15, addi(rd, rd, low)]


def halt(code):
    return [lui(T0, HTIF), addi(T1, 0, code << 1 | 1), store_double(T1, 0, T0), LOOP]


def say(text):
    words = [lui(T0, HTIF)]
    for byte in text.encode():
        words += [addi(T1, 0, 0x101), slli(T1, T1, 48), addi(T2, 0, byte)]
        words += [T1 << 20 | T2 << 15 | 6 << 12 | T1 << 7 | 0x33, store_double(T1, 0, T0)]
    return words


def echo_until(byte):
    """Send back at the UART what comes, and halt after `byte`."""
    return [
        lui(T0, UART),
        addi(T3, 0, byte),
        load_byte(T1, 5, T0),
        andi(T1, T1, 1),
        branch(0, T1, 0, -8),
        load_byte(T1, 0, T0),
        store_byte(T1, 0, T0),
        branch(1, T1, T3, -20),
        *halt(0),
    ]


def write_tohost(value):
    """End as riscv-tests do."""
    return [*load_address(T0, TOHOST), addi(T1, 0, value), store_double(T1, 0, T0), LOOP]


def assemble(words):
    return b"".join(struct.pack("<I", word) for word in words)


def make_elf(words, *, signature=b"", symbols=True):
    """Write an executable: code, then a page with tohost and a signature of 16 bytes."""
    data = bytes(0x40) + signature.ljust(0x10, b"\0")
    body = assemble(words).ljust(0x1000, b"\0") + data
    names = {"tohost": TOHOST, "begin_signature": SIGNATURE, "end_signature": SIGNATURE_END}
    strings, table = b"\0", bytes(24)
    for name, value in names.items() if symbols else ():
        table += struct.pack("<IBBHQQ", len(strings), 0x10, 0, 1, value, 8)
        strings += name.encode() + b"\0"
    table_at = 0x1000 + len(body)
    strings_at = table_at + len(table)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, table_at, len(table), 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings_at, len(strings), 0, 0, 1, 0)
    fields = (2, 243, 1, START, 64, strings_at + len(strings), 0, 64, 56, 1, 64, 3, 0)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", *fields)
    length = len(body)
    header += struct.pack("<IIQQQQQQ", 1, 7, 0x1000, START, START, length, length, 0x1000)
    return header.ljust(0x1000, b"\0") + body + table + strings + sections
