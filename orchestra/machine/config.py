"""What a machine is made of, as typed values, and how TOML or JSON becomes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig

__all__ = [
    "Boot",
    "Devices",
    "Drive",
    "DriveKind",
    "Engine",
    "Image",
    "MachineConfig",
    "Processor",
    "Ram",
    "convert",
    "from_builtins",
    "from_json",
    "load_config",
    "parse_size",
    "resolve",
    "to_json",
]

PAGE_LENGTH = 4096
SECTOR_LENGTH = 512
MEBIBYTE = 1 << 20
MAX_LENGTH = 2 << 40  # of RAM and of one drive
MAX_PMEM_DRIVES = 8
MAX_VIRTIO_DEVICES = 16
MAX_BOOTARGS_BYTES = 1023  # Linux: COMMAND_LINE_SIZE is 1024 on riscv, with the final NUL
MAX_SEED = (1 << 64) - 1
PMEM_GRANULE = 2 * MEBIBYTE  # Linux maps pmem by subsections of this length

BASE_ISA = "rv64imafdc_zicntr_zicsr_zifencei"
# What a hart may have beyond the base; zcb means more together with zba and zbb.
# zicbop and zihintpause are hints, which the base executes as nothing: they are only announced.
EXTENSIONS: tuple[str, ...] = ("zicbom", "zicbop", "zicboz", "zicond", "zihintpause")
EXTENSIONS += ("zfa", "zcb", "zba", "zbb", "zbs", "sstc", "svinval")

DriveKind = Literal["virtio-blk", "pmem", "nvram"]
Engine = Literal["auto", "interpreter", "translator"]

RESERVED_NAMES = frozenset(
    ["ram", "dtb", "rx", "tx", "clint", "plic", "uart", "htif", "test"]
    + [f"virtio{slot}" for slot in range(MAX_VIRTIO_DEVICES)]
)

# fields that are one of a few words
_WORDS = {
    name: "one of " + ", ".join(get_args(kind))
    for name, kind in (("engine", Engine), ("kind", DriveKind))
}
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}iB": 1 << 10 * (power + 1) for power, letter in enumerate("KMGT")}
_UNITS |= {f"{letter}B": 1000 ** (power + 1) for power, letter in enumerate("kMGT")}

_PATH = re.compile(r"(?!\.?\Z)[^\0\ud800-\udfff]+")  # JSON has no lone surrogates
_Length = Annotated[int, Meta(ge=1, le=MAX_LENGTH)]
_PageLength = Annotated[int, Meta(ge=1, le=MAX_LENGTH, multiple_of=PAGE_LENGTH)]
_DriveName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*\Z", max_length=64)]


class Ram(Struct, frozen=True, forbid_unknown_fields=True):
    """The guest's main memory: `length` in bytes, whole pages, at most 2 TiB."""

    length: _PageLength = 64 * MEBIBYTE


class Processor(Struct, frozen=True, forbid_unknown_fields=True):
    """The hart: its instruction set and how many cycles make one tick of the 10 MHz timebase.

    `isa` is the base, and perhaps extensions such as "_zba_zbb"; guests see it in the device tree.
    """

    isa: str = BASE_ISA
    cycles_per_tick: Annotated[int, Meta(ge=1, le=1_000_000)] = 100

    @property
    def extensions(self) -> tuple[str, ...]:
        """What it has beyond the base."""
        return tuple(filter(None, self.isa.removeprefix(BASE_ISA).split("_")))


class Image(Struct, frozen=True, forbid_unknown_fields=True):
    """A file whose bytes are put into RAM, as they are, at a physical address."""

    path: Path
    address: Annotated[int, Meta(ge=0, lt=1 << 44)] = 0x8000_0000


class Boot(Struct, frozen=True, forbid_unknown_fields=True):
    """What is in RAM at reset: firmware, kernel and initrd, or an ELF program; and raw images."""

    firmware: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    elf: Path | None = None
    images: tuple[Image, ...] = ()
    bootargs: str = ""


class Drive(Struct, frozen=True, forbid_unknown_fields=True):
    """A disk (`virtio-blk`) or persistent memory above RAM (`pmem`, `nvram`).

    `length` in bytes defaults to that of the file at `path`; without a path the drive starts empty.
    A `shared` drive works in a file itself, byte for byte, which the host can mount afterwards: the
    user's own file, or, for a machine in a folder, the copy there. Others have memory of their own.
    """

    name: _DriveName
    kind: DriveKind = "virtio-blk"
    path: Path | None = None
    length: _Length | None = None
    read_only: bool = False
    shared: bool = False

    @property
    def granule(self) -> int:
        """What its length is a multiple of."""
        return SECTOR_LENGTH if self.kind == "virtio-blk" else PMEM_GRANULE


class Devices(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the optional devices exist; CLINT, PLIC and the power switch always do."""

    uart: bool = True
    htif: bool = True
    rng: bool = True
    cmio: bool = True


class MachineConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine; `seed` (64 bits) is the only source of entropy its devices have.

    `engine` is what runs its instructions unless whoever opens it says otherwise: "auto" translates
    to host code what is run often. No state depends on it, and where the system lets nobody make
    code to run, a "translator" here is an interpreter.

    Raises BadConfig, whose `field` is the dotted path from here, when the parts cannot be.
    """

    ram: Ram = Ram()
    processor: Processor = Processor()
    boot: Boot = Boot()
    drives: tuple[Drive, ...] = ()
    devices: Devices = Devices()
    seed: int = 0
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():  # callers may have put text for a path, or anything
            part = _with_numbers(msgspec.to_builtins(getattr(self, name), enc_hook=_encode), name)
            msgspec.structs.force_setattr(self, name, convert(part, kind, name))
        _check_scalars(self)
        _check_boot(self.boot)
        _check_drives(self)

    def detached(self) -> Self:
        """Say the same machine without the paths of the files it was made from.

        Lengths stay: `resolve` first. This is what a machine's own folder stores.
        """
        drives = tuple(msgspec.structs.replace(drive, path=None) for drive in self.drives)
        boot = Boot(bootargs=self.boot.bootargs)
        return msgspec.structs.replace(self, boot=boot, drives=drives)

    @property
    def virtio_devices(self) -> int:
        """How many virtio slots the machine fills."""
        disks = sum(drive.kind == "virtio-blk" for drive in self.drives)
        return disks + self.devices.rng


_PARTS: dict[str, Any] = {
    "ram": Ram,
    "processor": Processor,
    "boot": Boot,
    "drives": tuple[Drive, ...],
    "devices": Devices,
}
# dotted path without indexes -> what is there
_TABLES = _PARTS | {"": MachineConfig, "boot.images": Image, "drives": Drive}


def load_config(path: Path | str) -> MachineConfig:
    """Read a config from a `.json` file, or TOML; relative paths in it start at its folder.

    Raises BadConfig, also when the file cannot be read or parsed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadConfig(str(path), error.strerror, "a readable file, TOML or JSON") from error
    if path.suffix == ".json":
        return from_json(data, folder=path.absolute().parent, name=str(path))
    try:
        tree = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # bad TOML and bad UTF-8 are ValueErrors
        raise BadConfig(str(path), str(error), "TOML") from error
    return from_builtins(tree, folder=path.absolute().parent)


def from_json(
    data: bytes | str, *, folder: Path | None = None, name: str = "JSON"
) -> MachineConfig:
    """Parse what `to_json` wrote, or a user did; `name` is what a syntax error is blamed on."""
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(name, str(error), "JSON") from error
    return from_builtins(tree, folder=folder)


def from_builtins(tree: object, *, folder: Path | None = None) -> MachineConfig:
    """Make a config of dicts, lists, strings and numbers; sizes may be text such as "64MiB".

    Relative paths are joined to `folder`, when one is given. Raises BadConfig.
    """
    config = convert(_with_numbers(tree, ""), MachineConfig, "", folder)
    assert isinstance(config, MachineConfig)
    return config


def to_json(config: MachineConfig) -> bytes:
    """Write a config canonically: every field, in the order of the classes, no white space."""
    return msgspec.json.encode(config, enc_hook=_encode)


def parse_size(text: str, field: str = "size") -> int:
    """Read "64MiB", "512MB", "0x1000" or "4096" as bytes; BadConfig names `field` if it is none."""
    match = re.fullmatch(r"(0x[0-9a-fA-F_]+|[0-9][0-9_]*) ?([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise BadConfig(field, text, 'bytes as a number or as text such as "64MiB" or "512MB"')
    try:
        return int(match[1], 0) * _UNITS[match[2]]
    except ValueError as error:  # "0x_", "08", "1__0"
        raise BadConfig(field, text, "a number, decimal or 0x…") from error


def resolve(config: MachineConfig) -> MachineConfig:
    """Look at the drives' files and return the config with every drive's length filled in.

    A file that is not whole pages (pmem: 2 MiB, disks: sectors) is rounded up, unless it is shared.
    """
    drives = tuple(
        msgspec.structs.replace(drive, length=_drive_length(drive, f"drives[{index}]"))
        for index, drive in enumerate(config.drives)
    )
    return msgspec.structs.replace(config, drives=drives)


def _drive_length(drive: Drive, field: str) -> int:
    if drive.path is None:
        assert drive.length is not None  # checked when the config was made
        return drive.length
    if not drive.path.is_file():
        raise BadConfig(f"{field}.path", str(drive.path), "a file that exists")
    found, granule = drive.path.stat().st_size, drive.granule
    if drive.length is not None and found > drive.length:
        raise BadConfig(f"{field}.length", drive.length, f"at least {found}, what {drive.path} has")
    if not drive.shared:
        return drive.length or max(1, -(-found // granule)) * granule
    if found == 0 or found % granule or drive.length not in (None, found):
        length = drive.length or f"a multiple of {granule}"
        raise BadConfig(f"{field}.path", found, f"a file of {length} bytes, since it is shared")
    return found


def _check_scalars(config: MachineConfig) -> None:
    seed = config.seed
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise BadConfig("seed", seed, f"an integer from 0 to {MAX_SEED}")
    if config.engine not in get_args(Engine):
        raise BadConfig("engine", config.engine, _WORDS["engine"])
    if not _is_isa(config.processor.isa):
        wanted = f"{BASE_ISA}, then any of {', '.join('_' + name for name in EXTENSIONS)}"
        raise BadConfig("processor.isa", config.processor.isa, wanted)
    bootargs = config.boot.bootargs
    if not bootargs.isprintable() or len(bootargs.encode()) > MAX_BOOTARGS_BYTES:
        wanted = f"one line of at most {MAX_BOOTARGS_BYTES} bytes"
        raise BadConfig("boot.bootargs", bootargs, wanted)


def _is_isa(text: str) -> bool:
    first, *extensions = text.removeprefix(BASE_ISA).split("_")
    known = text.startswith(BASE_ISA) and not first and set(extensions) <= set(EXTENSIONS)
    return known and len(set(extensions)) == len(extensions)


def _check_boot(boot: Boot) -> None:
    if boot.elf and boot.firmware:
        raise BadConfig("boot.firmware", str(boot.firmware), "nothing: there is an elf already")
    if boot.elf and boot.kernel:
        raise BadConfig("boot.kernel", str(boot.kernel), "nothing: there is an elf already")
    if boot.kernel and not boot.firmware:
        raise BadConfig("boot.firmware", None, "the firmware that starts the kernel (OpenSBI)")
    if boot.initrd and not boot.kernel:
        raise BadConfig("boot.initrd", str(boot.initrd), "nothing: there is no kernel to use it")


def _check_drives(config: MachineConfig) -> None:
    seen: set[str] = set()
    for index, drive in enumerate(config.drives):
        field = f"drives[{index}]"
        if drive.name in seen:
            raise BadConfig(f"{field}.name", drive.name, "a name no other drive has")
        if drive.name in RESERVED_NAMES:
            raise BadConfig(f"{field}.name", drive.name, "a name the machine itself does not use")
        seen.add(drive.name)
        if drive.length is None:
            if drive.path is None:
                raise BadConfig(f"{field}.length", None, "a length, or a path to take it from")
            continue
        if drive.length % drive.granule:
            raise BadConfig(f"{field}.length", drive.length, f"a multiple of {drive.granule}")
    if config.virtio_devices > MAX_VIRTIO_DEVICES:
        found = f"{config.virtio_devices} virtio devices"
        raise BadConfig("drives", found, f"at most {MAX_VIRTIO_DEVICES}, the rng among them")
    direct = sum(drive.kind != "virtio-blk" for drive in config.drives)
    if direct > MAX_PMEM_DRIVES:
        raise BadConfig("drives", f"{direct} above RAM", f"at most {MAX_PMEM_DRIVES}")


def _with_numbers(tree: object, field: str, depth: int = 4) -> object:
    """Replace texts of sizes and addresses by numbers; no field is deeper than a few levels."""
    if depth and isinstance(tree, Mapping):
        fields = {key: f"{field}.{key}".removeprefix(".") for key in tree}
        return {
            key: parse_size(value, fields[key])
            if isinstance(value, str) and key in ("length", "address")
            else _with_numbers(value, fields[key], depth - 1)
            for key, value in tree.items()
        }
    if depth and isinstance(tree, list | tuple):
        return [_with_numbers(item, f"{field}[{n}]", depth - 1) for n, item in enumerate(tree)]
    return tree


def convert(
    tree: object,
    kind: Any,
    root: str,
    folder: Path | None = None,
    words: Mapping[str, str] | None = None,
) -> object:
    """Let msgspec make a `kind` of the tree; its complaint becomes a BadConfig below `root`.

    `words` says what can be in a field that is one of a few words.
    """

    def decode(wanted: type, found: object) -> object:
        if wanted is Path and isinstance(found, str) and _PATH.fullmatch(found):
            return folder / found if folder else Path(found)
        raise ValueError("Expected the path of a file")

    try:
        return msgspec.convert(tree, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, BadConfig):
            raise error.__cause__ from None
        raise _complaint(str(error), tree, root, kind, words or _WORDS) from None


def _complaint(
    text: str, tree: object, root: str, kind: Any, words: Mapping[str, str]
) -> BadConfig:
    match = re.fullmatch(r"(.*?)(?: - at `\$((?:\.\w+|\[\d+\])*)`)?", text, re.DOTALL)
    assert match is not None
    message, where = match[1], match[2] or ""
    field = (root + where).removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        table = _TABLES.get(re.sub(r"\[\d+\]", "", field), kind)
        known = "one of the fields " + ", ".join(table.__struct_fields__)
        return BadConfig(f"{field}.{unknown[1]}".removeprefix("."), "an unknown field", known)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return BadConfig(f"{field}.{missing[1]}".removeprefix("."), None, "a value")
    expected = message.removeprefix("Expected ").replace("`", "")
    if message.startswith("Invalid enum value"):
        expected = words[field.rpartition(".")[2]]
    return BadConfig(field or "config", _found(tree, where), expected)


def _found(tree: object, where: str) -> object:
    """Look up what is at msgspec's path, as far as it leads; tables and lists by their type."""
    found: Any = tree
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", where):
        try:
            found = found[int(index)] if index else found[name]
        except (LookupError, TypeError):
            break
    return found if isinstance(found, str | int | float | None) else f"a {type(found).__name__}"


def _encode(value: object) -> object:
    return str(value) if isinstance(value, Path) else repr(value)
