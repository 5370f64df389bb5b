"""machine.json: what a machine's folder says of itself; versioned, checksummed, never trusted."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig, BadImage
from orchestra.io import entry
from orchestra.io.folder import temporary_name

from .config import MachineConfig, from_json, to_json

__all__ = [
    "NAME",
    "Extent",
    "ImageFile",
    "Record",
    "encode_record",
    "read_record",
    "replace_record",
    "seal",
]

NAME = "machine.json"
FORMAT: Literal[1] = 1
MAX_BYTES = 1 << 20
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=128)]
_DeltaName = Annotated[str, Meta(pattern=r"^[0-9]{1,18}\.delta\Z")]
_Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ImageFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of whole pages that memory is mapped from; a `shared` one is written in place.

    The `digest` of one that is not is what content.image_digest says of it, if it was asked. One
    that is a hard link to a file of the user's has its `link`: inode and time of change in ns then.
    """

    file: _Name
    length: _Number
    shared: bool = False
    digest: _Hash | None = None
    link: tuple[_Number, _Number] | None = None


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


class _Stored(Struct, frozen=True, forbid_unknown_fields=True):
    """What is in the file: a Record whose config is not looked at yet, and the checksum."""

    id: str
    parent: str | None
    cycle: _Number
    reproducible: bool
    config: msgspec.Raw
    images: tuple[ImageFile, ...]
    extents: tuple[Extent, ...]
    deltas: tuple[_DeltaName, ...]
    tohost: _Number | None = None
    fromhost: _Number | None = None
    root: _Hash | None = None
    format: Literal[1] = FORMAT
    checksum: str = ""


_MEMBERS = tuple(name for name in Record.__struct_fields__ if name != "config")
_members_of = attrgetter(*_MEMBERS)
_SEAL = re.compile(rb',\n"checksum":"([0-9a-f]{32})"}\n\Z')


def encode_record(record: Record) -> bytes:
    """Write what is in machine.json."""
    tree = dict(zip(_MEMBERS, _members_of(record), strict=True))
    tree["config"] = msgspec.Raw(_config_json(record.config))
    return seal(msgspec.json.encode(tree))


def replace_record(folder: int, text: bytes, *, durable: bool = False) -> None:
    """Put an encoded record into an open folder in one step, in the place of the one there.

    `durable` syncs it before, and the folder after that.
    """
    temporary = temporary_name(NAME)
    entry.write_new(folder, temporary, (text,))
    entry.put_in_place(folder, temporary, NAME, durable=durable)


def seal(text: bytes) -> bytes:
    """Add its checksum to the JSON text of an object, as the last member."""
    body = text.removesuffix(b"}")
    return body + b',\n"checksum":"' + _checksum(body) + b'"}\n'


def read_record(directory: Path | str, folder: int | None = None) -> Record:
    """Read and verify machine.json; BadImage names the field that is wrong.

    `folder` is the descriptor of the directory, if it is open.
    """
    path = f"{directory}/{NAME}"
    try:
        if folder is None:
            data = entry.read_file(entry.AT_CWD, path, path, MAX_BYTES)
        else:
            data = entry.read_file(folder, NAME, path, MAX_BYTES)
    except FileNotFoundError as error:
        wanted = "a machine's folder"
        if Path(directory, "snapshots").is_dir():  # it is an application's
            wanted += ", as those in its snapshots are"
        raise BadImage(directory, NAME, "no such file", wanted) from error
    try:
        return _record_of(data)
    except _Flaw as flaw:
        raise BadImage(path, flaw.field, flaw.found, flaw.expected) from flaw.__cause__


class _Flaw(Exception):
    """What is wrong with a text."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field, self.found, self.expected = field, found, expected


@lru_cache(maxsize=64)
def _record_of(data: bytes) -> Record:
    found = _SEAL.search(data)
    if found is None or found[1] != _checksum(data[: found.start()]):
        _check_syntax(data)
        said = found[1].decode() if found else "none at its end"
        raise _Flaw("checksum", said, "the checksum of what it says")
    try:
        stored = msgspec.json.decode(data, type=_Stored)
        config = _config_of(bytes(stored.config))
    except (msgspec.MsgspecError, BadConfig, UnicodeDecodeError, RecursionError) as error:
        _check_syntax(data)
        raise _Flaw("content", str(error), "a machine's record") from error
    for name, files in (
        ("deltas", stored.deltas),
        ("images", tuple(image.file for image in stored.images)),
    ):
        if len(set(files)) != len(files):
            raise _Flaw(name, "a file twice", "files with names of their own")
    return Record(config=config, **dict(zip(_MEMBERS, _members_of(stored), strict=True)))


def _check_syntax(data: bytes) -> None:
    """Say so when a text is no record at all, or that of another version."""
    try:
        tree = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        form = msgspec.json.decode(tree.get("format", b"null"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _Flaw("syntax", str(error), "an object in JSON") from error
    if form != FORMAT:
        raise _Flaw("format", form, f"{FORMAT}, what this orchestra reads")


@lru_cache(maxsize=64)
def _config_json(config: MachineConfig) -> bytes:
    return to_json(config)


@lru_cache(maxsize=64)
def _config_of(text: bytes) -> MachineConfig:
    return from_json(text)


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()
