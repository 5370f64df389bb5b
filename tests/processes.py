"""Python programs run in processes of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_python(source, *arguments, check=True, **options):
    """Run a program to its end: its output, or CalledProcessError with what it complained of."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=ROOT, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done
