"""machine.json: what a machine's folder says of itself; versioned, checksummed, never trusted."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig, BadImage
from orchestra.io import folder

from .config import MachineConfig, from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAME", "Extent", "ImageFile", "Record", "read_record", "seal", "write_record"]

NAME = "machine.json"
FORMAT: Literal[1] = 1
MAX_BYTES = 1 << 20
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=128)]
_DeltaName = Annotated[str, Meta(pattern=r"^[0-9]{1,18}\.delta\Z")]
_Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ImageFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of whole pages that memory is mapped from; a `shared` one is written in place.

    The `digest` of one that is not is what content.image_digest says of it, if it was asked.
    """

    file: _Name
    length: _Number
    shared: bool = False
    digest: _Hash | None = None


class Extent(Struct, frozen=True, forbid_unknown_fields=True):
    """`length` bytes of an image file, from `offset`, that are memory at a physical address."""

    file: _Name
    offset: _Number
    address: _Number
    length: _Number


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """All that machine.json says, but for its checksum; `root` is the root hash, if it is known."""

    id: str
    parent: str | None
    cycle: _Number
    reproducible: bool
    config: MachineConfig
    images: tuple[ImageFile, ...]
    extents: tuple[Extent, ...]
    deltas: tuple[_DeltaName, ...]
    tohost: _Number | None = None
    fromhost: _Number | None = None
    root: _Hash | None = None
    format: Literal[1] = FORMAT


_MEMBERS = tuple(name for name in Record.__struct_fields__ if name != "config")
_SEAL = re.compile(rb',\n"checksum":"([0-9a-f]{32})"}\n\Z')


def write_record(directory: Path, record: Record, *, new: bool, durable: bool = False) -> None:
    """Put machine.json into a folder: a new file, or in one step in the place of the old."""
    tree = {name: getattr(record, name) for name in _MEMBERS}
    tree["config"] = msgspec.Raw(_config_json(record.config))
    data = seal(msgspec.json.encode(tree))
    path = directory / NAME
    if new:
        folder.write_new(path, [data])
    else:
        folder.replace_file(path, data, durable=durable)


def seal(text: bytes) -> bytes:
    """Add its checksum to the JSON text of an object, as the last member."""
    body = text.rstrip().removesuffix(b"}")
    return body + b',\n"checksum":"' + _checksum(body) + b'"}\n'


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
        tree = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        form = msgspec.json.decode(tree.get("format", b"null"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadImage(path, "syntax", str(error), "an object in JSON") from error
    if form != FORMAT:
        raise BadImage(path, "format", form, f"{FORMAT}, what this orchestra reads")
    found = _SEAL.search(data)
    if found is None or found[1] != _checksum(data[: found.start()]):
        said = found[1].decode() if found else "none at its end"
        raise BadImage(path, "checksum", said, "the checksum of what it says")
    try:
        config = _config_of(bytes(tree.pop("config", b"null")))
        members = {
            name: msgspec.json.decode(text) for name, text in tree.items() if name != "checksum"
        }
        record = msgspec.convert({**members, "config": {}}, Record)
    except (msgspec.MsgspecError, BadConfig, RecursionError) as error:
        raise BadImage(path, "content", str(error), "a machine's record") from error
    for name, files in (
        ("deltas", record.deltas),
        ("images", tuple(image.file for image in record.images)),
    ):
        if len(set(files)) != len(files):
            raise BadImage(path, name, "a file twice", "files with names of their own")
    return msgspec.structs.replace(record, config=config)


@lru_cache(maxsize=64)
def _config_json(config: MachineConfig) -> bytes:
    return to_json(config)


@lru_cache(maxsize=64)
def _config_of(text: bytes) -> MachineConfig:
    return from_json(text)


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()
