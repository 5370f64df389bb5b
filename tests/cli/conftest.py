"""The command line called in this process, and in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestra.cli.main import main
from tests.cli import programs

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self):
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)

    @property
    def error(self):
        """The one line of an error, and nothing else."""
        assert self.out == "", self
        *_, line = self.err.splitlines()
        assert line.startswith("error: "), self
        assert "Traceback" not in self.err
        return line


@pytest.fixture
def orchestra(capsys):
    def call(*arguments, status=0):
        found = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        result = Result(found, out, err)
        assert found == status, result
        return result

    return call


@pytest.fixture
def start():
    """Start the command line in a process of its own."""
    started = []

    def start_process(*arguments, **options):
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestra.cli", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **{**streams, **options},
        )
        started.append(process)
        return process

    yield start_process
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def program(tmp_path):
    """Write a program of these words as an ELF."""

    def write(words, name="program.elf", **options):
        path = tmp_path / name
        path.write_bytes(programs.make_elf(words, **options))
        return path

    return write


@pytest.fixture
def app(orchestra, tmp_path):
    """A ledger's folder with 70 for alice and 30 for bob."""
    orchestra("image", "ledger", tmp_path / "app")
    orchestra("advance", tmp_path / "app", "mint alice 100", "transfer alice bob 30")
    return tmp_path / "app"
