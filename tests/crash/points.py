"""Run a scenario in processes that die at each change they make: `python -m tests.crash.points`.

With recorder.c preloaded. Says how many points there were, or which of them left what it must not.
"""

import ctypes
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from tests.crash.scenarios import SCENARIOS, digests

NO_HALF = 77  # recorder.c
ALL_BELOW = 60  # of more changes every seventh: copies are made of many alike
RECORDER = ctypes.CDLL(None)


def die_at(root, scenario, at, half, *, durable):
    """Do the work in a child that dies at the `at`-th change; how it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            RECORDER.crash_watch(os.fsencode(root))
            RECORDER.crash_arm(at, half)
            scenario.work(root, durable, lambda _: None)
            status = 0
        except BaseException:  # noqa: BLE001 - the child's end is here
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def main(name, scratch, durable):
    """Go through all points, whole changes first, then halves of those that can be halved."""
    scenario = SCENARIOS[name]
    base = scratch / "base"
    base.mkdir()
    scenario.prepare(base)
    digests()
    points = 0
    for half in (0, 1):
        at, finished = 1, False
        while not finished:
            root = scratch / f"{half}-{at}"
            shutil.copytree(base, root)
            status = die_at(root, scenario, at, half, durable=durable)
            finished = status == 0
            if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != NO_HALF:
                killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
                assert finished or killed, (name, at, half, status)
                try:
                    scenario.check(root, frozenset({"end"} if finished else ()))
                except BaseException as error:
                    error.add_note(f"{name}: died at change {at}, half {half}; see {root}")
                    raise
                points += 1
            shutil.rmtree(root)
            at += 1 if at < ALL_BELOW else 7
    print(points)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "durable")
