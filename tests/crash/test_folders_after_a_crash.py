"""Processes killed at every change they make, and disks as a power failure can leave them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

HERE = Path(__file__).parent
DURABLE = ["create", "roll", "roll-often", "store-from-memory", "compact", "clone", "go-back"]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """The library that sees every change of a file."""
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, HERE / "recorder.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def replay(recorder, tmp_path):
    """Run one of the two programs; its output, and what it complained of."""

    def run(program, scenario, durability="durable"):
        scratch = tmp_path / scenario
        scratch.mkdir()
        result = subprocess.run(
            [sys.executable, "-m", f"tests.crash.{program}", scenario, scratch, durability],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(recorder)},
        )
        shutil.rmtree(scratch)
        return result

    return run


@pytest.mark.parametrize("scenario", [*DURABLE, "write-drive"])
def test_a_process_killed_at_any_change_leaves_whole_machines_or_torn_ones(replay, scenario):
    result = replay("points", scenario)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


def test_it_need_not_be_durable_to_survive_a_killed_process(replay):
    """The kernel has what was written."""
    result = replay("points", "roll", "plain")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


@pytest.mark.parametrize("scenario", [*DURABLE, "settle"])
def test_what_was_durable_is_there_after_a_power_failure(replay, scenario):
    result = replay("power_loss", scenario)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 3


def test_these_tests_can_fail(replay):
    """A record written in place is found torn, a snapshot that was not durable is found lost."""
    result = replay("points", "in-place")
    assert "torn record" in result.stderr
    result = replay("power_loss", "store-from-memory", "plain")
    assert result.returncode == 1
    assert "AssertionError" in result.stderr or "BadImage" in result.stderr
