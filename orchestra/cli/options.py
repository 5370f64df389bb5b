"""Options that several commands share, and the config that they add up to."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from orchestra.errors import BadConfig
from orchestra.machine.config import (
    Boot,
    Drive,
    Image,
    MachineConfig,
    Ram,
    load_config,
    parse_size,
)
from orchestra.machine.layout import RAM_START
from orchestra.machine.request import DEFAULT_OUTPUT_BYTES, Limits

__all__ = [
    "Bootargs",
    "Config",
    "CopyImages",
    "CyclesPerTick",
    "Directory",
    "DiscardTorn",
    "Drives",
    "Durable",
    "EngineKind",
    "Firmware",
    "Hex",
    "Initrd",
    "Json",
    "Kernel",
    "MachineOptions",
    "MaxCycles",
    "MaxOutput",
    "MaxSeconds",
    "RamSize",
    "Reserve",
    "Seed",
    "StorageKind",
    "Target",
    "Wait",
    "build_config",
    "examples",
    "limits_of",
    "reserved",
    "torn_choice",
]

ELF_MAGIC = b"\x7fELF"


class EngineKind(StrEnum):
    """What executes guests; auto translates what is run often."""

    AUTO = "auto"
    INTERPRETER = "interpreter"
    TRANSLATOR = "translator"


class StorageKind(StrEnum):
    """Where the pages that change go."""

    MEMORY = "memory"
    BACKING = "backing"


def _option(help_text: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, show_default=False, **more)


Json = Annotated[bool, _option("Print one JSON document, and events on stderr.", "--json")]
Directory = Annotated[Path, typer.Argument(help="The folder of a machine.", metavar="DIR")]
Target = Annotated[Path, typer.Argument(help="The folder to make.", metavar="TARGET")]
Durable = Annotated[bool, _option("Survive a power failure: fsync all of it.", "--durable")]
Wait = Annotated[
    float,
    _option("Wait so long for a folder that is in use.", "--wait", metavar="SECONDS", min=0),
]
DiscardTorn = Annotated[
    bool,
    _option("Go back to the last seal of a folder whose writer was killed.", "--discard-torn"),
]
Reserve = Annotated[
    str | None,
    _option(
        "Take so much room on the disk for pages that change before anything runs.",
        "--reserve",
        metavar="SIZE",
    ),
]
CopyImages = Annotated[
    bool,
    _option("Copy files that cannot be reflinked, rather than hard-link them.", "--copy-images"),
]
Hex = Annotated[bool, _option("Arguments and answers are bytes in hexadecimal.", "--hex")]

Config = Annotated[
    Path | None, _option("Read a config, TOML or JSON; options win.", metavar="FILE")
]
RamSize = Annotated[str | None, _option("Length of RAM, such as 64MiB.", "--ram", metavar="SIZE")]
Firmware = Annotated[Path | None, _option("Start this firmware (OpenSBI).", metavar="FILE")]
Kernel = Annotated[Path | None, _option("Let it start this Linux Image.", metavar="FILE")]
Initrd = Annotated[Path | None, _option("Give the kernel this initramfs.", metavar="FILE")]
Bootargs = Annotated[str | None, _option("Give the kernel these arguments.", metavar="TEXT")]
Drives = Annotated[
    list[str] | None,
    _option(
        "Add a disk: name=path, then ,ro and ,shared (work in the file itself), ,pmem or ,nvram, "
        ",length=SIZE (without a path: empty). Repeat for more.",
        "--drive",
        metavar="NAME=PATH[,ro][,shared]",
    ),
]
CyclesPerTick = Annotated[
    int | None, _option("Cycles in a tick of the 10 MHz clock.", metavar="N", min=1)
]
Seed = Annotated[int | None, _option("All the entropy the guest gets.", metavar="N", min=0)]

MaxCycles = Annotated[
    int | None,
    _option("Stop each request after so many cycles.", "--max-cycles", metavar="N", min=1),
]
MaxOutput = Annotated[
    str | None,
    _option("Stop each request when it said more [16M].", "--max-output", metavar="SIZE"),
]
MaxSeconds = Annotated[
    float | None,
    _option("Stop each request after so long.", "--max-seconds", metavar="SECONDS", min=0),
]


def examples(*lines: str) -> str:
    """Write the end of a command's help: commands to try, each with what it does."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def limits_of(max_cycles: int | None, max_output: str | None, max_seconds: float | None) -> Limits:
    """Put the limits of a request together."""
    length = DEFAULT_OUTPUT_BYTES
    if max_output is not None:
        length = parse_size(max_output, "--max-output")
    return Limits(max_cycles=max_cycles, max_output_bytes=length, max_seconds=max_seconds)


def reserved(size: str | None) -> int:
    """Read --reserve."""
    return 0 if size is None else parse_size(size, "--reserve")


def torn_choice(*, discard: bool) -> Any:
    """Say it as `Machine.open` does."""
    return "discard" if discard else "refuse"


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """The options that describe a machine, as they were given."""

    program: Path | None = None
    config: Path | None = None
    ram: str | None = None
    firmware: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    bootargs: str | None = None
    drives: tuple[str, ...] = ()
    cycles_per_tick: int | None = None
    seed: int | None = None

    @property
    def given(self) -> list[str]:
        """The names of the options that were given, to say that they are not wanted."""
        rest = replace(self, program=None)
        names = {name: getattr(rest, name) for name in rest.__slots__}
        return [
            "--" + ("drive" if name == "drives" else name.replace("_", "-"))
            for name, value in names.items()
            if value not in (None, ())
        ]


def build_config(options: MachineOptions) -> MachineConfig:
    """Start from the config file, if there is one, and let the options replace parts of it.

    A program is an ELF, or else a raw image for the start of RAM. Raises BadConfig.
    """
    config = load_config(options.config) if options.config else MachineConfig()
    changes: dict[str, Any] = {"boot": _boot(config.boot, options)}
    if options.ram is not None:
        changes["ram"] = Ram(length=parse_size(options.ram, "--ram"))
    if options.drives:
        changes["drives"] = (*config.drives, *map(parse_drive, options.drives))
    if options.cycles_per_tick is not None:
        changes["processor"] = msgspec.structs.replace(
            config.processor, cycles_per_tick=options.cycles_per_tick
        )
    if options.seed is not None:
        changes["seed"] = options.seed
    return msgspec.structs.replace(config, **changes)


def _boot(boot: Boot, options: MachineOptions) -> Boot:
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("firmware", "kernel", "initrd", "bootargs")
        if getattr(options, name) is not None
    }
    if options.program is not None:
        changes |= _program(options.program)
    return msgspec.structs.replace(boot, **changes)


def _program(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadConfig("program", str(path), "a file that exists, ELF or raw image")
    if path.suffix in (".toml", ".json"):
        raise BadConfig("program", str(path), f"a program; give a config as --config {path}")
    with path.open("rb") as file:
        magic = file.read(len(ELF_MAGIC))
    if magic == ELF_MAGIC:
        return {"elf": path}
    return {"elf": None, "images": (Image(path=path, address=RAM_START),)}


def parse_drive(text: str) -> Drive:
    """Read a drive: "disk=disk.img,ro", "data=data.img,shared", "scratch=,length=16MiB"."""
    name, equals, rest = text.partition("=")
    field = f"--drive {text}"
    if not equals:
        raise BadConfig(field, text, "NAME=PATH, then ,ro ,shared ,pmem ,nvram ,length=SIZE")
    values: dict[str, Any] = {}
    while True:
        before, comma, word = rest.rpartition(",")
        if not comma or (value := _drive_word(word, field)) is None:
            break
        values |= value
        rest = before
    path = Path(rest) if rest else None
    return Drive(name=name, path=path, **values)


def _drive_word(word: str, field: str) -> dict[str, Any] | None:
    if word.startswith("length="):
        return {"length": parse_size(word.removeprefix("length="), field)}
    words: dict[str, dict[str, Any]] = {
        "ro": {"read_only": True},
        "shared": {"shared": True},
        "pmem": {"kind": "pmem"},
        "nvram": {"kind": "nvram"},
    }
    return words.get(word)
