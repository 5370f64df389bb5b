"""Build the package's guest programs; the same compiler gives the same bytes."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMPILER", "PROGRAMS", "Program", "compile_program", "main"]

HERE = Path(__file__).resolve().parent
COMPILER = "riscv64-unknown-elf-gcc"
FLAGS = (
    *("-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-msmall-data-limit=0"),
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns"),  # no calls of a libc
    *("-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    *("-frandom-seed=orchestra", f"-ffile-prefix-map={HERE}=guest"),
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
        return HERE / self.name / f"{self.name}.elf"


PROGRAMS = (
    Program("hello", ("hello/hello.S",)),
    Program("agent", ("agent/start.S", "agent/agent.c"), "agent/link.ld"),
    Program("ledger", ("ledger/start.S", "ledger/main.c", "ledger/ledger.c", "ledger/text.c")),
)


def compile_program(program: Program, target: Path, compiler: str = COMPILER) -> None:
    """Compile and link one program into `target`; the bytes depend on sources and compiler only.

    Raises FileNotFoundError when the compiler is missing, CalledProcessError when it fails.
    """
    if shutil.which(compiler) is None:
        raise FileNotFoundError(
            f"{compiler} is not on PATH; on Debian: apt install gcc-riscv64-unknown-elf"
        )
    script = ("-T", str(HERE / program.script))
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in program.sources:
            objects.append(str(Path(scratch) / (Path(source).name + ".o")))
            flags = (*FLAGS, f"-I{HERE / 'include'}")
            _run(compiler, *flags, "-c", str(HERE / source), "-o", objects[-1])
        _run(compiler, *FLAGS, *LINK_FLAGS, *script, *objects, "-lgcc", "-o", str(target))
    target.chmod(0o755)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main(arguments: list[str] | None = None) -> int:
    """Rebuild every program in place; --check compares only, and returns 1 when one differs."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.guest.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    differ = False
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
