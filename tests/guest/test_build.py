"""The committed guest programs: they are what their sources say, and laid out to be mapped."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from orchestra.guest import FOLDER, INCLUDE
from orchestra.guest.build import (
    BUILT_WITH,
    COMPILER,
    PROGRAMS,
    Program,
    compile_program,
    compiler_version,
    main,
)

every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def segments(program: Program) -> list[Any]:
    with program.elf.open("rb") as file:
        return [part.header for part in ELFFile(file).iter_segments("PT_LOAD")]


@every_program
def test_the_committed_elf_is_what_its_sources_give(program: Program, tmp_path: Path) -> None:
    assert compiler_version() == BUILT_WITH  # another one may well give other bytes
    compile_program(program, tmp_path / "elf")
    assert (tmp_path / "elf").read_bytes() == program.elf.read_bytes()


@every_program
def test_the_place_of_the_sources_does_not_show(program: Program, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "a longer path to the sources")
    compile_program(program, tmp_path / "one")
    compile_program(program, tmp_path / "two", tmp_path / "a longer path to the sources")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@every_program
def test_whole_pages_of_the_file_can_be_mapped(program: Program) -> None:
    for part in segments(program):
        assert part.p_vaddr == part.p_paddr
        assert part.p_offset % 4096 == part.p_vaddr % 4096 == part.p_filesz % 4096 == 0


@every_program
def test_nothing_is_both_writable_and_executable(program: Program) -> None:
    assert all(part.p_flags & 3 != 3 for part in segments(program))


@every_program
def test_the_file_holds_no_symbols_and_nothing_of_its_making(program: Program) -> None:
    with program.elf.open("rb") as file:
        names = {section.name for section in ELFFile(file).iter_sections()}
    assert names <= {"", ".text", ".rodata", ".data", ".bss", ".shstrtab"}


@pytest.mark.parametrize("name", ["ledger", "hello"])
def test_a_bare_metal_program_starts_where_the_processor_does(name: str) -> None:
    (program,) = (program for program in PROGRAMS if program.name == name)
    with program.elf.open("rb") as file:
        assert ELFFile(file).header.e_entry == 0x8000_0000
    assert min(part.p_vaddr for part in segments(program)) == 0x8000_0000


EVERY_CALL = """
#include "orchestra.h"
int main(void) {
    struct orchestra_request request;
    if (orchestra_open()) return 1;
    orchestra_finish(ORCHESTRA_ACCEPT, &request);
    orchestra_progress(500);
    if (orchestra_output("a", 1) || orchestra_report(request.data, request.length)) return 2;
    orchestra_exception("b", 1, NULL);
    orchestra_putchar('c');
    orchestra_halt(0);
}
"""


@pytest.mark.parametrize("language", ["-xc -std=c11", "-xc++ -std=c++20"])
@pytest.mark.parametrize("target", ["-DORCHESTRA_BARE", "-DORCHESTRA_LINUX"])
def test_the_header_is_clean_in_c_and_cxx(language: str, target: str) -> None:
    flags = ["-ffreestanding", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-S"]
    command = [COMPILER, *flags, *language.split(), target, f"-I{INCLUDE}", "-", "-o-"]
    assembly = subprocess.run(
        command, check=True, input=EVERY_CALL, capture_output=True, text=True
    ).stdout
    called = re.findall(r"\t(?:call|tail)\t(\w+)", assembly)
    assert [name for name in called if "orchestra" not in name] == []  # a libc's memcpy, say


def test_check_finds_every_committed_elf_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().out.count("same") == len(PROGRAMS)
