"""The host's arithmetic, where it is used, is float.c's, bit for bit; the host's modes are not."""

import ctypes
import ctypes.util
import subprocess

import pytest

from tests.assembler import RAM, Code
from tests.machine.core.small import bare, halt, until_halt
from tests.machine.core.test_float import COMPILERS, CORE, HERE, STRICT

CASES = 4_000_000
UNDEFINED_BEHAVIOUR_CASES = 500_000
DOWNWARD, UPWARD, TOWARDZERO = 0x400, 0x800, 0xC00  # fenv.h on x86


def run_beside_reference(folder, compiler, flags, cases):
    """Compile float_fast.c with float.c; run it in two processes, which share the cases."""
    program = folder / "float_fast"
    options = [*STRICT, "-Wno-conversion", "-O2", "-ffp-contract=off", "-fno-math-errno", *flags]
    sources = [HERE / "float_fast.c", CORE / "float.c"]
    subprocess.run([compiler, *options, *sources, "-lm", "-o", program], check=True)
    runs = [
        subprocess.Popen([program, str(cases // 2), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in (4, 5)
    ]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
        assert " 0 mismatches" in output


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_fast_paths_agree_with_the_reference(tmp_path, compiler):
    run_beside_reference(tmp_path, compiler, [], CASES)


def test_they_agree_where_the_compiler_may_fuse(tmp_path):
    run_beside_reference(tmp_path, "gcc", ["-mfma"], CASES // 4)


def test_no_fast_path_has_undefined_behaviour(tmp_path):
    sanitizers = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    run_beside_reference(tmp_path, "gcc", sanitizers, UNDEFINED_BEHAVIOUR_CASES)


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        ("product >> 105 ? 11 : 12", "product >> 105 ? 12 : 11"),
        ("(odd | 1)", "(odd)"),
        ("- 128 < 2047 - 256", "- 1 < 2046"),
        ("rm == FLOAT_RNE && ", ""),
        ("|| root * root != fast_double(a)", ""),
    ],
)
def test_a_wrong_rule_is_found(tmp_path, header, wrong):
    text = (CORE / "float_fast.h").read_text()
    assert header in text
    (tmp_path / "float_fast.h").write_text(text.replace(header, wrong))
    (tmp_path / "float_fast.c").write_text((HERE / "float_fast.c").read_text())
    program = tmp_path / "float_fast"
    places = [f"-I{tmp_path}", f"-I{HERE}", f"-I{CORE}"]
    sources = [tmp_path / "float_fast.c", CORE / "float.c"]
    options = ["-std=gnu11", "-O2", "-ffp-contract=off", "-fno-math-errno"]
    subprocess.run(["gcc", *options, *places, *sources, "-lm", "-o", program], check=True)
    run = subprocess.run([program, "1000000", "1"], stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1, run.stdout


def thirds():
    """1/3 + 1/3 * 10 - 2/3, rounding each time, in both formats, with what has been raised."""
    code = Code()
    code.li("t0", 1 << 13)
    code.csrw("mstatus", "t0")
    for format_name in "sd":
        for register, value in (("f1", 1), ("f2", 3), ("f3", 10), ("f4", 2)):
            code.li("t0", value)
            code.op(f"fcvt.{format_name}.w", register, "t0", 7)
        code.op(f"fdiv.{format_name}", "f5", "f1", "f2", 7)
        code.op(f"fmul.{format_name}", "f6", "f5", "f3", 7)
        code.op(f"fadd.{format_name}", "f7", "f6", "f5", 7)
        code.op(f"fdiv.{format_name}", "f8", "f4", "f2", 7)
        code.op(f"fsub.{format_name}", "f9", "f7", "f8", 7)
        code.op(f"fmadd.{format_name}", "f10", "f5", "f6", "f9", 7)
        code.op(f"fsqrt.{format_name}", "f11", "f4", 7)
        code.li("t0", RAM + 0x8000)
        for number in range(5, 12):
            code.op("fsd", f"f{number}", 8 * number, "t0")
    halt(code)
    return code


@pytest.mark.parametrize("mode", [DOWNWARD, UPWARD, TOWARDZERO])
def test_the_hosts_rounding_mode_does_not_show_and_comes_back(mode):
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    with bare(thirds()) as machine:
        digest = until_halt(machine).digest()
    try:
        assert library.fesetround(mode) == 0
        with bare(thirds()) as machine:
            assert until_halt(machine).digest() == digest
            assert library.fegetround() == mode
    finally:
        library.fesetround(0)
