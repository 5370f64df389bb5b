"""Layers that many threads share and let go of, under sanitizers; see stress_layers.c."""

import subprocess
from pathlib import Path

import pytest

CORE = Path(__file__).parents[3] / "orchestra/machine/core"
PROGRAM = Path(__file__).with_name("stress_layers.c")


@pytest.fixture(scope="module", params=["thread", "address,undefined"])
def stress(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("stress") / "stress"
    flags = ["-std=gnu11", "-O1", "-g", "-fno-strict-aliasing", "-Wall", "-Wextra", "-pthread"]
    sanitize = [f"-fsanitize={request.param}", "-fno-sanitize-recover=all"]
    sources = [*sorted(CORE.rglob("*.c")), PROGRAM]
    command = ["gcc", *flags, *sanitize, f"-I{CORE}", *map(str, sources), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    return program


@pytest.mark.parametrize("seed", range(3))
def test_what_threads_fork_seal_and_free_is_what_a_plain_array_says_and_all_comes_back(
    stress, seed
):
    run = [str(stress), "5000", str(seed)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "chunks of a file" in done.stdout
    assert not done.stderr
