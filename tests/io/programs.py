"""What tests need to speak to Python programs that run beside them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

RunPython = Callable[..., subprocess.CompletedProcess[str]]
StartPython = Callable[..., subprocess.Popen[str]]


def say(process: subprocess.Popen[str], line: str = "") -> None:
    """Write a line to the program."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")


def heard(process: subprocess.Popen[str]) -> str:
    """Wait for a line of the program."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def open_descriptors() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
