"""What `orchestra serve` reads: a TOML file of applications, and how they are served."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path  # noqa: TC003 - msgspec reads the annotations
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from orchestra.errors import BadConfig
from orchestra.machine.config import MachineConfig, convert, load_config, parse_size
from orchestra.machine.request import Limits
from orchestra.sched.settings import ApplicationSettings

__all__ = ["ApplicationConfig", "ServeConfig", "load_serve_config"]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"
PLACES = ("directory", "genesis")


class ApplicationConfig(Struct, frozen=True):
    """Where one application is, what it is made of when it is not there yet, how it is kept."""

    directory: Path
    genesis: Path | None = None  # a machine's folder, or its config
    settings: ApplicationSettings = ApplicationSettings()

    def load_genesis(self) -> MachineConfig | Path | None:
        """Return the genesis as `fleet.application` wants it."""
        if self.genesis is None or self.genesis.is_dir():
            return self.genesis
        return load_config(self.genesis)


class ServeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server: `listen` is host:port or unix:path; port 0 is any that is free.

    With `token` every request but those for health and readiness must bring it; with
    `public_inspect` inspects need not. `max_body` bounds what is sent to us.
    """

    applications: dict[str, ApplicationConfig]
    listen: str = "127.0.0.1:8000"
    workers: Annotated[int, Meta(ge=1)] = 2
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    token: Annotated[str, Meta(min_length=1)] | None = None
    public_inspect: bool = False
    max_body: Annotated[int, Meta(ge=0)] = 2 << 20


WORDS = {
    "loop": "one of asyncio, uvloop, trio",
    "snapshots": "never, every_input, on_demand, or a number of inputs",
    "storage": "one of memory, backing",
}


def load_serve_config(path: Path) -> ServeConfig:
    """Read the file; paths in it are relative to its folder. BadConfig names what is wrong."""
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:  # bad TOML and bad UTF-8 are ValueErrors
        raise BadConfig(str(path), str(error), "TOML") from error
    except OSError as error:
        raise BadConfig(str(path), error.strerror, "a file that can be read") from error
    folder = path.absolute().parent
    if isinstance(tree.get("max_body"), str):
        tree["max_body"] = parse_size(tree["max_body"], "max_body")
    if "token_file" in tree:
        tree["token"] = _token(folder / str(tree.pop("token_file")))
    applications = tree.get("applications", {})
    if not isinstance(applications, dict) or not applications:
        raise BadConfig("applications", applications, "a table for each, [applications.NAME]")
    tree["applications"] = {
        name: _application(name, table, folder) for name, table in applications.items()
    }
    _check_places(tree["applications"])
    config = convert(tree, ServeConfig, "", words=WORDS)
    assert isinstance(config, ServeConfig)
    return config


def _token(path: Path) -> str:
    try:
        token = path.read_bytes().decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig("token_file", str(error), "a file of UTF-8 that can be read") from error
    if not token:
        raise BadConfig("token_file", str(path), "a file with a token in it")
    return token


def _application(name: str, table: Any, folder: Path) -> ApplicationConfig:
    field = f"applications.{name}"
    if not re.match(NAME, name):
        raise BadConfig(field, name, "a name of letters, digits and ._- that starts with neither")
    if not isinstance(table, dict) or "directory" not in table:
        raise BadConfig(field, table, "a table with at least a directory")
    places = {key: folder / str(table[key]) for key in PLACES if key in table}
    rest = {key: value for key, value in table.items() if key not in PLACES}
    for limits in ("limits", "inspect_limits"):
        _check_limits(rest.get(limits), f"{field}.{limits}")
    settings = convert(rest, ApplicationSettings, field, words=WORDS)
    assert isinstance(settings, ApplicationSettings)
    return ApplicationConfig(**places, settings=settings)


def _check_limits(table: Any, field: str) -> None:
    """Refuse names that msgspec passes over in a dataclass: a limit that is misspelt is none."""
    known = [each.name for each in dataclasses.fields(Limits)]
    for name in table if isinstance(table, dict) else ():
        if name not in known:
            wanted = "one of the fields " + ", ".join(known)
            raise BadConfig(f"{field}.{name}", "an unknown field", wanted)


def _check_places(applications: dict[str, ApplicationConfig]) -> None:
    """One folder is one application's: the second would wait for the first for ever."""
    seen: set[Path] = set()
    for name, config in applications.items():
        where = config.directory.resolve()
        if where in seen:
            field = f"applications.{name}.directory"
            raise BadConfig(field, str(config.directory), "a folder of its own")
        seen.add(where)
