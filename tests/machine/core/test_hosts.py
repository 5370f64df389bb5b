"""The core on hosts that are not this one: cross-compiled by ziglang, run by QEMU's user mode."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assembler import RAM, Code
from tests.machine.core.small import halt, identity_tables, sv39
from tests.machine.core.test_translator import busy, much_code

ROOT = Path(__file__).parents[3]
CORE, IO = ROOT / "orchestra/machine/core", ROOT / "orchestra/io/c"
TABLES = RAM + 0x80000


@pytest.fixture(scope="session")
def on_aarch64(tmp_path_factory):
    """Compare both engines on a program there; returns how many bytes of code were made."""
    folder = tmp_path_factory.mktemp("aarch64")
    program = folder / "compare"
    sources = [*sorted(CORE.rglob("*.c")), IO / "executable.c"]
    sources.append(Path(__file__).with_name("compare_engines.c"))
    flags = ["-O0", "-std=gnu11", "-ffp-contract=off", "-fno-strict-aliasing", "-static", "-Wall"]
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    includes = [f"-I{CORE}", f"-I{IO}", "-fno-sanitize=all"]
    command = [*compiler, *flags, *includes, *map(str, sources), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)

    def compare(code, slice_cycles, data=None):
        image = bytearray(code.finish())
        for address, part in (data or {}).items():
            image += bytes(max(0, address - RAM + len(part) - len(image)))
            image[address - RAM : address - RAM + len(part)] = part
        (folder / "program").write_bytes(image)
        run = ["qemu-aarch64", str(program), str(folder / "program"), "200000", str(slice_cycles)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return int(re.search(r"(\d+) bytes of code", done.stdout)[1])

    return compare


@pytest.mark.parametrize("seed", range(8))
def test_aarch64_translates_arithmetic_and_memory_as_it_interprets_them(on_aarch64, seed):
    assert on_aarch64(busy(seed, floats=False), slice_cycles=97) > 3000


def test_aarch64_goes_from_page_to_page(on_aarch64):
    assert on_aarch64(much_code(40, 1), slice_cycles=1009) > 40_000


def test_aarch64_does_atomics_and_status_registers_under_sv39(on_aarch64):
    code = Code()
    code.la("t0", "mapped")
    code.csrw("mepc", "t0")
    code.li("t0", 1 << 11)
    code.op("csrrs", 0, "mstatus", "t0")
    sv39(code, TABLES)
    code.op("mret")
    code.label("mapped")
    code.li("s0", 200)
    code.li("s1", RAM + 0x9000)
    code.li("s2", -3)
    code.label("loop")
    for kind in ("add", "swap", "xor", "or", "and", "min", "max", "minu", "maxu"):
        for width in ("w", "d"):
            code.op(f"amo{kind}.{width}", "a0", "s2", "s1")
            code.op("add", "a1", "a1", "a0")
            code.op("addi", "s2", "s2", 77)
            code.op("sub", "s2", "zero", "s2")
    code.op("lr.d", "a2", "s1")
    code.op("sc.d", "a3", "a1", "s1")
    code.op("sc.w", "a4", "a1", "s1")
    code.op("csrrci", "a5", "sstatus", 2)
    code.op("csrrsi", "t5", "sstatus", 2)
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    code.op("ecall")
    halt(code)
    assert on_aarch64(code, slice_cycles=61, data=identity_tables(TABLES)) > 1500
