"""machine.json: what a machine's folder says of itself; versioned, checksummed, never trusted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig, BadImage
from orchestra.io import folder

from .config import MachineConfig, from_builtins, to_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAME", "Extent", "ImageFile", "Record", "read_record", "write_record"]

NAME = "machine.json"
FORMAT: Literal[1] = 1
MAX_BYTES = 1 << 20
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=128)]
_Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class ImageFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of whole pages that memory is mapped from; a `shared` one is written in place."""

    file: _Name
    length: _Number
    shared: bool = False


class Extent(Struct, frozen=True, forbid_unknown_fields=True):
    """`length` bytes of an image file, from `offset`, that are memory at a physical address."""

    file: _Name
    offset: _Number
    address: _Number
    length: _Number


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """All that machine.json says, but for its checksum."""

    id: str
    parent: str | None
    cycle: _Number
    reproducible: bool
    config: MachineConfig
    images: tuple[ImageFile, ...]
    extents: tuple[Extent, ...]
    deltas: tuple[_Name, ...]
    tohost: _Number | None = None
    fromhost: _Number | None = None
    format: Literal[1] = FORMAT


def write_record(directory: Path, record: Record, *, new: bool, durable: bool = False) -> None:
    """Put machine.json into a folder: a new file, or in one step in the place of the old."""
    tree = msgspec.to_builtins(
        msgspec.structs.replace(record, config=MachineConfig()), enc_hook=str
    )
    tree["config"] = msgspec.json.decode(to_json(record.config))
    tree["checksum"] = _checksum(tree)
    data = msgspec.json.format(msgspec.json.encode(tree), indent=1) + b"\n"
    path = directory / NAME
    if new:
        path.write_bytes(data)
    else:
        folder.replace_file(path, data, durable=durable)


def read_record(directory: Path) -> Record:
    """Read and verify machine.json; BadImage names the field that is wrong."""
    path = folder.child(directory, NAME)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BadImage(directory, NAME, "no such file", "the folder of a machine") from error
    if len(data) > MAX_BYTES:
        raise BadImage(path, "length", "more", f"at most {MAX_BYTES} bytes")
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadImage(path, "syntax", str(error), "JSON") from error
    if not isinstance(tree, dict):
        raise BadImage(path, "type", type(tree).__name__, "an object")
    if tree.get("format") != FORMAT:
        raise BadImage(path, "format", tree.get("format"), f"{FORMAT}, what this orchestra reads")
    found = tree.pop("checksum", None)
    if found != _checksum(tree):
        raise BadImage(path, "checksum", found, "the checksum of what it says")
    try:
        config = from_builtins(tree.pop("config", None))
        record = msgspec.convert({**tree, "config": {}}, Record)
    except (msgspec.ValidationError, BadConfig) as error:
        raise BadImage(path, "content", str(error), "a machine's record") from error
    return msgspec.structs.replace(record, config=config)


def _checksum(tree: object) -> str:
    data = msgspec.json.encode(tree, order="deterministic")
    return hashlib.blake2b(data, digest_size=16).hexdigest()
