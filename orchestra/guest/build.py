"""Build the package's guest programs; the same compiler gives the same bytes."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestra.guest import FOLDER

__all__ = [
    "BUILT_WITH",
    "COMPILER",
    "PROGRAMS",
    "Program",
    "compile_program",
    "compiler_version",
    "main",
]


COMPILER = "riscv64-unknown-elf-gcc"
BUILT_WITH = "12.2.0"  # the version of it that made the committed ELFs: Debian bookworm's
FLAGS = (
    *("-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-msmall-data-limit=0"),
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns"),  # no calls of a libc
    *("-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    "-frandom-seed=orchestra",
)
LINK_FLAGS = (
    *("-nostdlib", "-static", "-s", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"),
    *("-Wl,--no-warn-rwx-segments", "-Wl,--fatal-warnings", "-Wl,--no-relax"),
)


@dataclass(frozen=True)
class Program:
    """One guest program: its folder holds sources, linker script and the ELF that is committed."""

    name: str
    sources: tuple[str, ...]
    script: str = "ledger/link.ld"

    @property
    def elf(self) -> Path:
        """The committed ELF."""
        return FOLDER / self.name / f"{self.name}.elf"


_KERNELS = ("start.S", "main.c", "small.c", "mix.c", "records.c")
PROGRAMS = (
    Program("hello", ("hello/hello.S",)),
    Program("agent", ("agent/start.S", "agent/agent.c"), "agent/link.ld"),
    Program("ledger", ("ledger/start.S", "ledger/main.c", "ledger/ledger.c", "ledger/text.c")),
    Program("kernels", tuple(f"kernels/{name}" for name in _KERNELS)),
)


def compile_program(program: Program, target: Path, root: Path = FOLDER) -> None:
    """Compile and link one program into `target`; the bytes depend on sources and compiler only.

    Raises FileNotFoundError when the compiler is missing, CalledProcessError when it fails.
    """
    if shutil.which(COMPILER) is None:
        raise FileNotFoundError(
            f"{COMPILER} is not on PATH; on Debian: apt install gcc-riscv64-unknown-elf"
        )
    flags = (*FLAGS, f"-ffile-prefix-map={root}=guest", f"-I{root / 'include'}")
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in program.sources:
            objects.append(str(Path(scratch) / (Path(source).name + ".o")))
            _run(*flags, "-c", str(root / source), "-o", objects[-1])
        _run(*flags, *LINK_FLAGS, "-T", str(root / program.script), *objects, "-o", str(target))
    target.chmod(0o755)


def compiler_version() -> str:
    """Return the version of the compiler on PATH, such as "12.2.0"."""
    command = [COMPILER, "-dumpfullversion"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _run(*arguments: str) -> None:
    subprocess.run([COMPILER, *arguments], check=True)


def main(arguments: list[str] | None = None) -> int:
    """Rebuild every program in place; --check compares only, and returns 1 when one differs."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.guest.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    differ = False
    if (version := compiler_version()) != BUILT_WITH:
        print(f"this is {COMPILER} {version}, the ELFs are by {BUILT_WITH}: expect differences")  # noqa: T201
    with tempfile.TemporaryDirectory() as scratch:
        for program in PROGRAMS:
            built = Path(scratch) / program.elf.name
            compile_program(program, built)
            same = program.elf.exists() and program.elf.read_bytes() == built.read_bytes()
            if not same and not options.check:
                shutil.copy(built, program.elf)
            word = "same" if same else "DIFFERS" if options.check else "rebuilt"
            print(f"{word:8} {program.elf}")  # noqa: T201 - a build tool speaks on stdout
            differ |= not same
    return int(differ and options.check)


if __name__ == "__main__":
    sys.exit(main())
