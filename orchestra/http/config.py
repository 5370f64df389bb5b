"""What `orchestra serve` reads: a TOML file of applications, and how they are served."""

from __future__ import annotations

import tomllib
from pathlib import Path  # noqa: TC003 - msgspec reads the annotations
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig
from orchestra.machine.config import MachineConfig, load_config, parse_size
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

    applications: dict[Annotated[str, Meta(pattern=NAME)], ApplicationConfig]
    listen: str = "127.0.0.1:8000"
    workers: Annotated[int, Meta(ge=1)] = 2
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    token: str | None = None
    public_inspect: bool = False
    max_body: int = 2 << 20


def load_serve_config(path: Path) -> ServeConfig:
    """Read the file; paths in it are relative to its folder. BadConfig names what is wrong."""
    try:
        tree = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(str(path), str(error), "TOML") from error
    except OSError as error:
        raise BadConfig(str(path), error.strerror, "a file that can be read") from error
    folder = path.absolute().parent
    if isinstance(tree.get("max_body"), str):
        tree["max_body"] = parse_size(tree["max_body"], "max_body")
    if "token_file" in tree:
        tree["token"] = (folder / str(tree.pop("token_file"))).read_text().strip()
    applications = tree.get("applications", {})
    if not isinstance(applications, dict) or not applications:
        raise BadConfig("applications", applications, "a table for each, [applications.NAME]")
    tree["applications"] = {
        name: _application(name, table, folder) for name, table in applications.items()
    }
    config: ServeConfig = _convert(tree, ServeConfig, "")
    return config


def _application(name: str, table: Any, folder: Path) -> ApplicationConfig:
    field = f"applications.{name}"
    if not isinstance(table, dict) or "directory" not in table:
        raise BadConfig(field, table, "a table with at least a directory")
    places = {key: folder / str(table[key]) for key in PLACES if key in table}
    rest = {key: value for key, value in table.items() if key not in PLACES}
    settings = _convert(rest, ApplicationSettings, f"{field}.")
    return ApplicationConfig(**places, settings=settings)


def _convert(tree: Any, kind: Any, prefix: str) -> Any:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        message, _, where = text.partition(" - at `$.")
        field = f"{prefix}{where.rstrip('`')}".rstrip(".") or "config"
        raise BadConfig(field, "what is there", message) from error
