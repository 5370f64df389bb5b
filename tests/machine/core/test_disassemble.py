"""The disassembler says of every instruction what GNU objdump says."""

import random
import re
import subprocess

import pytest

from orchestra.machine import Machine, MachineConfig, Ram
from orchestra.machine._core import disassemble
from tests.assembler import TABLE

START = 0x8000_0000
WORDS_EACH = 40
LINE = re.compile(r"\s*([0-9a-f]+):\t[0-9a-f ]+\t(.*)")
EXACT = ("fcvt.d.w", "fcvt.d.wu", "fcvt.d.s")  # objdump knows them without a rounding mode
RESERVED_ADDI16SP = 0x6101  # objdump shows an immediate of zero, which is reserved

EXPANSIONS = {
    "c.addi4spn": "addi {0},{1},{2}", "c.fld": "fld {0},{1}", "c.lw": "lw {0},{1}",
    "c.ld": "ld {0},{1}", "c.fsd": "fsd {0},{1}", "c.sw": "sw {0},{1}", "c.sd": "sd {0},{1}",
    "c.addi": "addi {0},{0},{1}", "c.nop": "addi zero,zero,0", "c.addiw": "addiw {0},{0},{1}",
    "c.li": "addi {0},zero,{1}", "c.lui": "lui {0},{1}", "c.addi16sp": "addi {0},{0},{1}",
    "c.srli": "srli {0},{0},{1}", "c.srai": "srai {0},{0},{1}", "c.slli": "slli {0},{0},{1}",
    "c.srli64": "srli {0},{0},0", "c.srai64": "srai {0},{0},0", "c.slli64": "slli {0},{0},0",
    "c.andi": "andi {0},{0},{1}", "c.sub": "sub {0},{0},{1}", "c.xor": "xor {0},{0},{1}",
    "c.or": "or {0},{0},{1}", "c.and": "and {0},{0},{1}", "c.subw": "subw {0},{0},{1}",
    "c.addw": "addw {0},{0},{1}", "c.j": "jal zero,{0}", "c.beqz": "beq {0},zero,{1}",
    "c.bnez": "bne {0},zero,{1}", "c.fldsp": "fld {0},{1}", "c.lwsp": "lw {0},{1}",
    "c.ldsp": "ld {0},{1}", "c.fsdsp": "fsd {0},{1}", "c.swsp": "sw {0},{1}",
    "c.sdsp": "sd {0},{1}", "c.jr": "jalr zero,0({0})", "c.jalr": "jalr ra,0({0})",
    "c.mv": "add {0},zero,{1}", "c.add": "add {0},{0},{1}", "c.ebreak": "ebreak",
    "c.unimp": "illegal", ".2byte": "illegal",
}  # fmt: skip


@pytest.fixture(scope="module")
def board():
    with Machine.create(MachineConfig(ram=Ram(length=1 << 20))) as machine:
        yield machine._view.board


def objdump(path, code):
    """Disassemble bytes; returns the text of each instruction."""
    path.write_bytes(code)
    options = ("-z", "-D", "-b", "binary", "-m", "riscv:rv64", "-M", "no-aliases")
    command = ("riscv64-unknown-elf-objdump", *options, f"--adjust-vma={START:#x}", str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (LINE.fullmatch(line) for line in done.stdout.splitlines())
    return [(int(line[1], 16), line[2]) for line in lines if line]


def plain(text):
    """Without comments and tabs, and with all numbers in decimal."""
    text = re.sub(r"\s*[#<].*", "", text).replace("\t", " ").strip()
    return re.sub(r"0x[0-9a-f]+", lambda found: str(int(found[0], 16)), text)


def random_words(name):
    """Words of an instruction; only those that objdump knows as well as we do."""
    rng = random.Random(name)
    operands, match, mask = TABLE[name]
    for _ in range(WORDS_EACH):
        word = match | rng.getrandbits(32) & ~mask
        if operands.endswith(",rm"):
            known = (0,) if name in EXACT else (0, 1, 2, 3, 4, 7)
            word = word & ~(7 << 12) | rng.choice(known) << 12
        if name in ("fence", "fence.i"):
            word = 0x0FF0000F if name == "fence" else match
        if operands.startswith("rd,csr"):
            word = word & 0xFFFFF | rng.choice((0x300, 0x180, 0x001, 0xC01, 0x105, 0x7C0)) << 20
        yield word


@pytest.mark.parametrize("name", [name for name in TABLE if name != "illegal"])
def test_every_line_of_the_table_is_disassembled_like_objdump_does(name, board, tmp_path):
    words = list(random_words(name))
    lines = objdump(tmp_path / "code", b"".join(word.to_bytes(4, "little") for word in words))
    assert len(lines) == len(words)
    for word, (address, text) in zip(words, lines, strict=True):
        ours = plain(disassemble(board, word, address))
        if name in EXACT:
            ours = ours.removesuffix(",rne")
        assert ours == plain(text).replace("fence iorw,iorw", "fence")


def test_every_compressed_instruction_is_what_objdump_says_it_is(board, tmp_path):
    halves = [half for half in range(1 << 16) if half & 3 != 3]
    lines = objdump(tmp_path / "code", b"".join(half.to_bytes(2, "little") for half in halves))
    assert len(lines) == len(halves)
    for half, (address, text) in zip(halves, lines, strict=True):
        name, _, operands = plain(text).partition(" ")
        expected = EXPANSIONS[name].format(*operands.split(","))
        if half == RESERVED_ADDI16SP:
            expected = "illegal"
        assert plain(disassemble(board, half, address)) == expected, hex(half)


def test_words_that_are_no_instruction_are_called_illegal(board):
    for word in (0xFFFFFFFF, 0x0000007F, 0x0000707F, 0x0000302B, 0xFE000057):
        assert disassemble(board, word, 0) == "illegal"


def test_an_unknown_csr_is_shown_by_its_number(board):
    assert disassemble(board, 0x7C0FF073, 0) == "csrrci zero,0x7c0,31"
