"""The core on other hosts: cross-compiled by ziglang, run by QEMU's user mode, wasmtime, Wine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

from tests.assembler import RAM, Code
from tests.machine.core import test_fault_at_every_access as faults
from tests.machine.core.float_programs import float_program
from tests.machine.core.small import halt, identity_tables, sv39
from tests.machine.core.test_translator import busy, much_code

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
CORE, IO = ROOT / "orchestra/machine/core", ROOT / "orchestra/io/c"
TABLES = RAM + 0x80000


def cross_compile(program, *sources, target="aarch64-linux-musl", flags=("-O0", "-static")):
    """Make a program for another host."""
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target]
    options = [
        "-std=gnu11",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-strict-aliasing",
        "-Wall",
    ]
    includes = [f"-I{CORE}", f"-I{IO}", f"-I{HERE}", "-fno-sanitize=all"]
    command = [
        *compiler,
        *options,
        *flags,
        *includes,
        *map(str, sources),
        "-o",
        str(program),
        "-lm",
    ]
    subprocess.run(command, check=True)
    return program


def emulate(program, *arguments, emulator=("qemu-aarch64",), **environment):
    """Run it; returns what it printed."""
    run = [*emulator, str(program), *map(str, arguments)]
    output = {"capture_output": True, "text": True}
    done = subprocess.run(run, **output, timeout=120, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def place(code, data=None):
    """Lay a program and its data out as they will be in RAM."""
    image = bytearray(code.finish())
    for address, part in (data or {}).items():
        image += bytes(max(0, address - RAM + len(part) - len(image)))
        image[address - RAM : address - RAM + len(part)] = part
    return image


@pytest.fixture(scope="session")
def on_aarch64(tmp_path_factory):
    """Compare both engines on a program there; returns how many bytes of code were made."""
    folder = tmp_path_factory.mktemp("aarch64")
    sources = [*sorted(CORE.rglob("*.c")), IO / "executable.c", HERE / "compare_engines.c"]
    program = cross_compile(folder / "compare", *sources)

    def compare(code, slice_cycles, data=None, cycles=200_000):
        (folder / "program").write_bytes(place(code, data))
        printed = emulate(program, folder / "program", cycles, slice_cycles)
        return int(re.search(r"(\d+) bytes of code", printed)[1])

    return compare


@pytest.mark.parametrize("seed", range(8))
def test_aarch64_translates_arithmetic_and_memory_as_it_interprets_them(on_aarch64, seed):
    assert on_aarch64(busy(seed), slice_cycles=97) > 3000


@pytest.mark.parametrize("accrue", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_aarch64_computes_with_floats_as_the_interpreter_does(on_aarch64, seed, accrue):
    code, data = float_program(seed, accrue=accrue)
    assert on_aarch64(code, slice_cycles=61, data=data) > 4000


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


@pytest.mark.parametrize("name", ["float_fast", "float_host"])
def test_aarch64_computes_as_the_reference_does(tmp_path, name):
    """The interpreter's fast paths there, and the reference itself compared with that host."""
    sources = HERE / f"{name}.c", CORE / "float.c"
    program = cross_compile(tmp_path / name, *sources, flags=["-O2", "-static", "-frounding-math"])
    assert " 0 mismatches" in emulate(program, 60_000, 1)


def test_aarch64_hashes_by_its_instructions_as_without(tmp_path):
    sources = HERE / "sha256_host.c", CORE / "sha256.c"
    program = cross_compile(tmp_path / "sha256", *sources, flags=["-O2"])
    assert emulate(program) == "by instruction, 0 mismatches\n"


@pytest.fixture(scope="session")
def faulting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aarch64-faults")
    io = [IO / name for name in ("executable.c", "fault.c", "map.c", "regions.c")]
    sources = [*sorted(CORE.rglob("*.c")), *io, HERE / "fault_engines.c"]
    return cross_compile(folder / "faulting", *sources)


@pytest.mark.parametrize("access", range(len(faults.ACCESSES)), ids=faults.ACCESSES)
def test_aarch64_meets_a_fault_before_the_access(faulting, tmp_path, access):
    (tmp_path / "program").write_bytes(faults.program(0x9000_0000, faults.WARM + 2))
    printed = emulate(faulting, tmp_path / "program", tmp_path / "pages", access)
    assert int(re.search(r"(\d+) bytes of code", printed)[1]) > 2000


ALONE = [*sorted(CORE.rglob("*.c")), HERE / "run_anywhere.c"]
FOREIGN = {"wasm": "wasm32-wasi", "windows": "x86_64-windows-gnu", "macos": "aarch64-macos"}
PROGRAMS = {
    "busy": lambda: place(busy(1)),
    "floats": lambda: place(*float_program(1, accrue=True)),
    "pages": lambda: place(much_code(40, 1)),
}
SLICED = (300_000, 97)  # cycles in all, and in each run


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Return the program of run_anywhere.c for another host, or for this one."""
    folder = tmp_path_factory.mktemp("anywhere")
    made = {}

    def build(host):
        if host not in made:
            made[host] = folder / f"{host}.exe"
            if host in FOREIGN:
                cross_compile(made[host], *ALONE, target=FOREIGN[host], flags=["-O1"])
            else:
                includes = f"-I{CORE}", f"-I{HERE}"
                command = "gcc", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", *includes
                subprocess.run([*command, *ALONE, "-o", made[host], "-lm"], check=True)
        return made[host]

    return build


def in_wasm(program, image, tmp_path):
    """Run a WASI program, which sees no more than one folder; returns what it printed."""
    engine, wasi = wasmtime.Engine(), wasmtime.WasiConfig()
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    linker.define_wasi()
    wasi.argv = ["run", f"/images/{image.name}", *map(str, SLICED)]
    wasi.preopen_dir(str(image.parent), "/images")
    wasi.stdout_file = str(tmp_path / "printed")
    store.set_wasi(wasi)
    module = wasmtime.Module.from_file(engine, str(program))
    linker.instantiate(store, module).exports(store)["_start"](store)
    return (tmp_path / "printed").read_text()


def on_windows(program, image, _):
    """Run a Windows program under Wine, which keeps its registry in a folder of its own."""
    prefix = {"WINEPREFIX": str(program.parent / "wine"), "WINEDEBUG": "-all"}
    return emulate(program, image, *SLICED, emulator=("wine",), **prefix)


@pytest.mark.parametrize("run", [in_wasm, on_windows], ids=["wasm", "windows"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_leaves_the_same_on_every_host(built, tmp_path, run, name):
    image = tmp_path / "program"
    image.write_bytes(PROGRAMS[name]())
    here = emulate(built("here"), image, *SLICED, emulator=())
    host = "wasm" if run is in_wasm else "windows"
    assert re.match(r"cycle \d{4,}, state [0-9a-f]{8}", here)
    assert run(built(host), image, tmp_path) == here


def test_the_core_builds_for_macos(built):
    mach_o_64 = b"\xcf\xfa\xed\xfe"
    assert built("macos").read_bytes().startswith(mach_o_64)
