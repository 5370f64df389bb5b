"""The C half by itself, under the sanitizers: orchestra/io/c."""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "orchestra" / "io" / "c"


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_threads_that_fault_and_map_at_once_are_clean(tmp_path: Path, sanitizers: str) -> None:
    program = tmp_path / "stress"
    flags = ["-std=gnu11", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
    flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-I", str(SOURCES)]
    sources = [*sorted(SOURCES.glob("*.c")), HERE / "fault_stress.c"]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(program)], check=True)
    # ThreadSanitizer's own map of addresses does not stand every kernel's randomization
    command = ["setarch", "--addr-no-randomize", str(program)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (result.stdout, result.stderr) == ("0 wrong, 0 left\n", "")
    assert result.returncode == 0
