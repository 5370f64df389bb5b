"""float.c against exact rationals in all five rounding modes, and against the host in four."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi
import float_oracle as oracle
import float_strategies as strategies
import pytest
from float_oracle import BINARY32, BINARY64, Format, Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    Oracle = Callable[..., Outcome]

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[2] / "orchestra" / "machine" / "core"
COMPILER = os.environ.get("CC", "cc")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or [COMPILER]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wconversion", f"-I{CORE}"]
HOST = ["-O2", "-g", "-frounding-math", "-ffp-contract=off", "-fno-math-errno", "-Wno-conversion"]
HOST_CASES = 16_000_000
UNDEFINED_BEHAVIOUR_CASES = 1_000_000

FORMATS = {"f32": BINARY32, "f64": BINARY64}
INTEGERS = {f"{sign}{width}": (width, sign == "i") for sign in "iu" for width in (32, 64)}
thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """float.c compiled alone: its ffi and its library."""
    library = tmp_path_factory.mktemp("float") / "float.so"
    subprocess.run(
        [COMPILER, *STRICT, "-O2", "-shared", "-fPIC", CORE / "float.c", "-o", library], check=True
    )
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r"^#.*$", "", (CORE / "float.h").read_text(), flags=re.MULTILINE))
    return ffi, ffi.dlopen(str(library))


@pytest.fixture
def call(core: tuple[Any, Any]) -> Callable[..., Outcome]:
    """Call a function of float.c by name; return its result and the flags it raised."""
    ffi, library = core

    def call(name: str, *arguments: int) -> Outcome:
        flags = ffi.new("uint32_t *")
        result = int(getattr(library, name)(*arguments, flags))
        return result, int(flags[0])

    return call


def in_every_mode(
    call: Callable[..., Outcome], name: str, expected: Oracle, f: Format, *operands: int
) -> None:
    """Compare one call in each rounding mode."""
    for rm in oracle.MODES:
        shown = " ".join(f"{operand:#x}" for operand in operands)
        assert call(name, *operands, rm) == expected(f, rm, *operands), f"{name} rm={rm} {shown}"


each_format = pytest.mark.parametrize("name", FORMATS)
reusing_fixture = settings(
    thorough, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@each_format
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
@given(data=st.data())
@reusing_fixture
def test_arithmetic_is_the_exact_result_rounded_once(
    call: Callable[..., Outcome], name: str, operation: str, data: st.DataObject
) -> None:
    a, b = data.draw(strategies.pairs(FORMATS[name]))
    in_every_mode(call, f"{name}_{operation}", getattr(oracle, operation), FORMATS[name], a, b)


@each_format
@given(data=st.data())
@reusing_fixture
def test_a_fused_multiply_add_rounds_once(
    call: Callable[..., Outcome], name: str, data: st.DataObject
) -> None:
    operands = data.draw(strategies.triples(FORMATS[name]))
    in_every_mode(call, f"{name}_fma", oracle.fma, FORMATS[name], *operands)


@each_format
@given(data=st.data())
@reusing_fixture
def test_a_square_root_is_the_exact_root_rounded_once(
    call: Callable[..., Outcome], name: str, data: st.DataObject
) -> None:
    f = FORMATS[name]
    a = data.draw(strategies.patterns(f))
    square = oracle.mul(f, oracle.RNE, a, a)[0]
    for operand in (a, square, (square + 1) % f.sign, f.size(a)):
        in_every_mode(call, f"{name}_sqrt", oracle.sqrt, f, operand)


@each_format
@given(data=st.data())
@reusing_fixture
def test_comparisons_order_numbers_and_flag_nans(
    call: Callable[..., Outcome], name: str, data: st.DataObject
) -> None:
    f = FORMATS[name]
    a, b = data.draw(strategies.pairs(f))
    for x, y in ((a, b), (b, a), (a, a), (0, f.sign), (f.sign, 0)):
        for operation, expected in (
            ("min", oracle.minimum), ("max", oracle.maximum),
            ("eq", oracle.eq), ("lt", oracle.lt), ("le", oracle.le),
        ):  # fmt: skip
            answer = call(f"{name}_{operation}", x, y)
            assert answer == expected(f, 0, x, y), f"{operation} {x:#x} {y:#x}"


@each_format
@given(data=st.data())
@reusing_fixture
def test_fclass_sets_one_bit(core: tuple[Any, Any], name: str, data: st.DataObject) -> None:
    a = data.draw(strategies.patterns(FORMATS[name]))
    mask = getattr(core[1], f"{name}_class")(a)
    assert (mask, 0) == oracle.classify(FORMATS[name], 0, a)


@each_format
@pytest.mark.parametrize("kind", INTEGERS)
@given(data=st.data())
@reusing_fixture
def test_conversion_to_an_integer_saturates(
    call: Callable[..., Outcome], name: str, kind: str, data: st.DataObject
) -> None:
    f = FORMATS[name]
    width, signed = INTEGERS[kind]
    ends = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    a = data.draw(st.one_of(strategies.near_integers(f), strategies.patterns(f)))
    for rm in oracle.MODES:
        answer = call(f"{name}_to_{kind}", a, rm)
        assert answer == oracle.to_integer(f, rm, a, *ends), f"rm={rm} {a:#x}"


@each_format
@pytest.mark.parametrize("kind", INTEGERS)
@given(data=st.data())
@reusing_fixture
def test_conversion_from_an_integer_rounds_once(
    call: Callable[..., Outcome], name: str, kind: str, data: st.DataObject
) -> None:
    width, signed = INTEGERS[kind]
    n = data.draw(strategies.integers(width, signed=signed))
    in_every_mode(call, f"{name}_from_{kind}", oracle.from_integer, FORMATS[name], n)


@given(data=st.data())
@reusing_fixture
def test_narrowing_rounds_once_and_widening_is_exact(
    call: Callable[..., Outcome], data: st.DataObject
) -> None:
    wide = st.one_of(strategies.between(BINARY64, BINARY32), strategies.patterns(BINARY64))
    a = data.draw(wide)
    for rm in oracle.MODES:
        expected = oracle.from_format(BINARY32, BINARY64, rm, a)
        assert call("f32_from_f64", a, rm) == expected, f"rm={rm} {a:#x}"
    a = data.draw(strategies.patterns(BINARY32))
    assert call("f64_from_f32", a) == oracle.from_format(BINARY64, BINARY32, oracle.RNE, a)


@each_format
def test_every_combination_of_special_values_is_right(
    call: Callable[..., Outcome], name: str
) -> None:
    f = FORMATS[name]
    one = f.bias << f.fraction
    sizes = [0, 1, 1 << f.fraction, one, f.infinity - 1, f.infinity, f.infinity + 1, f.nan | 1]
    values = [size | sign for size in sizes for sign in (0, f.sign)]
    for operands in itertools.product(values, repeat=3):
        in_every_mode(call, f"{name}_fma", oracle.fma, f, *operands)
    for operands in itertools.product(values, repeat=2):
        for operation in ("add", "sub", "mul", "div"):
            in_every_mode(call, f"{name}_{operation}", getattr(oracle, operation), f, *operands)


def test_flags_are_added_to_those_already_set(core: tuple[Any, Any]) -> None:
    ffi, library = core
    flags = ffi.new("uint32_t *", oracle.DZ)
    library.f64_add(0x3FF0000000000000, 1, oracle.RNE, flags)
    assert flags[0] == oracle.DZ | oracle.NX
    library.f64_add(0, 0, oracle.RNE, flags)
    assert flags[0] == oracle.DZ | oracle.NX


def run_beside_host(folder: Path, compiler: str, flags: list[str], cases: int) -> None:
    """Compile float_host.c with float.c; run it in two processes, which share the cases."""
    program = folder / "float_host"
    sources = [HERE / "float_host.c", CORE / "float.c"]
    subprocess.run([compiler, *STRICT, *HOST, *flags, *sources, "-lm", "-o", program], check=True)
    runs = [
        subprocess.Popen([program, str(cases // 2), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in (20250101, 77)
    ]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
        assert " 0 mismatches" in output


def test_the_host_agrees_on_every_result_and_flag(tmp_path: Path) -> None:
    run_beside_host(tmp_path, COMPILER, [], HOST_CASES)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_operation_has_undefined_behaviour(tmp_path: Path, compiler: str) -> None:
    sanitizers = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    run_beside_host(tmp_path, compiler, sanitizers, UNDEFINED_BEHAVIOUR_CASES)
