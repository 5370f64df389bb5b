"""Compare random programs on Spike and on us, for as long as you like, by hand."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.random_programs.program import random_program
from tests.spike import Comparison, compare

PROGRAM_SECONDS = 10  # a report at least this often


def fuzz_one(seed: int, program: Path, modes: str) -> Comparison:
    """Write the program of this seed to a file, and compare."""
    rng = random.Random(seed)
    groups, items = rng.randrange(1, 40), rng.randrange(10, 200)
    program.write_bytes(random_program(rng, groups, items, modes))
    slices = [rng.choice((1, 2, 3, 7, 50, 500, 5000)) for _ in range(rng.randrange(100))]
    return compare(program, slices=slices)


def main() -> int:
    """Run programs of consecutive seeds until the time is over or one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 10**9)
    parser.add_argument("--modes", default="MSU", help="some of M, S and U")
    parser.add_argument("--keep", type=Path, help="where to put a program that differs")
    options = parser.parse_args()
    start, lines, explained, seed, said = time.monotonic(), 0, 0, options.seed, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "program.elf"
        while (elapsed := time.monotonic() - start) < options.seconds:
            found = fuzz_one(seed, program, options.modes)
            lines, explained = lines + found.lines, explained + found.explained
            if found.mismatch:
                keep = options.keep or Path(tempfile.gettempdir()) / f"fuzz-{seed}.elf"
                keep.write_bytes(program.read_bytes())
                print(f"seed {seed} differs ({keep}): {found.mismatch}")
                return 1
            seed += 1
            if elapsed - said > PROGRAM_SECONDS:
                said = elapsed
                print(f"{elapsed:.0f} s: {seed - options.seed} programs, {lines} lines", flush=True)
    count = seed - options.seed
    print(f"{count} programs from seed {options.seed}: {lines} lines are the same, {explained} of")
    print("them but for the differences listed in tests/spike.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
