"""What `orchestra serve` reads: a TOML file of applications, and how they are served."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from orchestra.errors import BadConfig
from orchestra.machine.config import MachineConfig, convert, load_config, parse_size
from orchestra.machine.request import Limits
from orchestra.sched.settings import ApplicationSettings

__all__ = [
    "DRAIN_SECONDS",
    "EXAMPLE",
    "ApplicationConfig",
    "ServeConfig",
    "check_serve_config",
    "load_serve_config",
    "read_address",
]

EXAMPLE = Path(__file__).with_name("example.toml")  # every key, what it is and its default

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


DRAIN_SECONDS = 10.0


class ServeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server: `listen` is host:port or unix:path; port 0 is any that is free.

    With `token` every request but those for health and readiness must bring it; with
    `public_inspect` inspects need not. `max_body` bounds what is sent to us. Requests that are
    being answered when we are to stop have `drain_seconds` to end; then they are cancelled.
    """

    applications: dict[str, ApplicationConfig]
    listen: str = "127.0.0.1:8000"
    workers: Annotated[int, Meta(ge=1)] = 2
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    token: Annotated[str, Meta(min_length=1)] | None = None
    public_inspect: bool = False
    max_body: Annotated[int, Meta(ge=0)] = 2 << 20
    drain_seconds: Annotated[float, Meta(ge=0)] = DRAIN_SECONDS


SERVERS = {"asyncio": "uvicorn", "uvloop": "uvloop", "trio": "hypercorn"}
LAST_PORT = 65535
UNIX = "unix:"
WORDS = {
    "loop": "one of asyncio, uvloop, trio",
    "snapshots": "never, every_input, on_demand, or a number of inputs",
    "keep_inputs": "all, or a number of inputs",
    "storage": "one of memory, backing",
}


def load_serve_config(path: Path) -> ServeConfig:
    """Read the file; paths in it are relative to its folder. BadConfig names what is wrong."""
    try:
        return _load(path)
    except BadConfig as error:
        field = error.field if error.field == str(path) else f"{path}: {error.field}"
        raise BadConfig(field, error.found, error.expected) from error.__cause__


def _load(path: Path) -> ServeConfig:
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
    read_address(config.listen)
    return config


def read_address(listen: str) -> tuple[str, int] | Path:
    """Return host and port, or the path of a socket; BadConfig when it is neither."""
    if listen.startswith(UNIX):
        return Path(listen.removeprefix(UNIX))
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > LAST_PORT:
        raise BadConfig("listen", listen, f"host:port, a port up to {LAST_PORT}, or unix:path")
    return host.strip("[]"), int(port)


def check_serve_config(config: ServeConfig) -> None:
    """Look whether what it names is there; BadConfig says what is not."""
    if find_spec(SERVERS[config.loop]) is None:
        wanted = f"one with {SERVERS[config.loop]}: pip install 'orchestra[http]'"
        raise BadConfig("loop", config.loop, wanted)
    for name, application in config.applications.items():
        directory, genesis = application.directory, application.genesis
        field = f"applications.{name}"
        if directory.is_dir() and any(directory.iterdir()):
            continue  # the genesis is not looked at
        if genesis is None:
            wanted = "an application's folder, or a genesis to make it"
            raise BadConfig(f"{field}.directory", str(directory), wanted)
        if not (genesis / "machine.json" if genesis.is_dir() else genesis).is_file():
            raise BadConfig(f"{field}.genesis", str(genesis), "a machine's folder, or a config")
        application.load_genesis()


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
