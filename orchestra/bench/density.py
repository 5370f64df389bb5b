"""What idle instances of one view cost, measured in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestra.errors import OrchestraError
from orchestra.machine.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DESCRIPTORS", "INSTANCES", "Density", "measure_density"]

DESCRIPTORS = 1024  # what `ulimit -n` is set to
INSTANCES = 20_000


class Density(NamedTuple):
    """How many instances there were at once, and what each of them took."""

    instances: int
    descriptors: float
    memory_bytes: float


def measure_density(snapshot: Path, instances: int = INSTANCES) -> Density:
    """Lease so many instances of a snapshot, idle, in a new process that may open few files."""
    command = [sys.executable, "-m", __name__, str(snapshot), str(instances)]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    return Density(*json.loads(done.stdout))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _lease(snapshot: Path, instances: int) -> Density:
    with Machine.open(snapshot) as view:
        view.fork().close()
        descriptors, resident = _descriptors(), _resident_bytes()
        leased: list[Machine] = []
        try:
            while len(leased) < instances:
                leased.append(view.fork())
        except (OrchestraError, OSError, MemoryError):
            pass  # then so many it is
        count = max(1, len(leased))
        used = _descriptors() - descriptors, _resident_bytes() - resident
        for machine in leased:
            machine.close()
    return Density(len(leased), used[0] / count, used[1] / count)


def main(arguments: Sequence[str]) -> None:
    """Print what was found as a JSON list."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    snapshot, instances = arguments
    sys.stdout.write(json.dumps(_lease(Path(snapshot), int(instances))))


if __name__ == "__main__":
    main(sys.argv[1:])
