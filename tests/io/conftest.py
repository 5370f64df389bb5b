"""File systems of every kind, and Python processes to share files with."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from filesystems import KINDS, Filesystem, mounted

if TYPE_CHECKING:
    from pathlib import Path

    from programs import RunPython, StartPython

Mounts = Callable[[str], Filesystem]


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """One file system of each kind for the whole session, mounted when first asked for."""
    found: dict[str, Filesystem] = {}
    with contextlib.ExitStack() as stack:

        def mount(kind: str) -> Filesystem:
            if kind not in found:
                scratch = tmp_path_factory.mktemp(kind)
                found[kind] = stack.enter_context(mounted(kind, scratch))
            return found[kind]

        yield mount


@pytest.fixture(params=KINDS)
def filesystem(request: pytest.FixtureRequest, mounts: Mounts, tmp_path: Path) -> Filesystem:
    """An empty folder on each kind of file system in turn."""
    found = mounts(request.param)
    folder = found.folder / tmp_path.name
    folder.mkdir()
    return Filesystem(found.kind, folder, found.image)


@pytest.fixture
def run_python() -> RunPython:
    """Run a program to its end: run_python(source, *arguments)."""

    def run(source: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", source, *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Start a program, to be spoken to by lines, and killed at the latest when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(source: str, *arguments: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", source, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start
