"""Download Debian packages of another architecture with the host's apt, without root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestra.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.guest.sources import Source

__all__ = ["Apt", "DownloadFailed", "Progress", "host_source_files"]

Progress = Callable[[str, float], None]  # what is being done, and its fraction that is done

_CONFIG: Final = """\
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "";
APT::Update::Error-Mode "any";
APT::Status-Fd "1";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/orchestra.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""
_ADVICE: Final = (
    (
        ("NO_PUBKEY", "EXPKEYSIG", "is not signed", "no longer signed"),
        "the host has no key for this suite: install a newer debian-archive-keyring",
    ),
    (
        ("does not have a Release file", "404  Not Found"),
        "the mirror does not have this suite: name another mirror",
    ),
    (
        ("resolving", "connect", "timed out", "Failed to fetch"),
        "the mirror cannot be reached: check the network, apt's proxy, or name another mirror",
    ),
    (("No space left", "enough free space"), "the disk is full: free some space"),
)


class DownloadFailed(OrchestraError):
    """A package could not be had; the message says what apt said, and what to do."""


class Apt:
    """The packages of one source for one architecture; keeps its state in `folder`, needs no root.

    The host's own apt configuration stays in force for proxies, credentials and trusted keys.
    Raises DownloadFailed when apt is missing or fails.
    """

    def __init__(self, folder: Path, source: Source, *, architecture: str = "riscv64") -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(program) is None:
                raise DownloadFailed(
                    f"{program} is not on PATH: packages come through the apt of a Debian-like "
                    f"host; on another one run this in a Debian container and copy the result"
                )
        self._folder = folder.absolute()
        for needed in ("state/lists/partial", "cache/archives/partial", "packages"):
            (self._folder / needed).mkdir(parents=True, exist_ok=True)
        (self._folder / "orchestra.sources").write_text(source.to_deb822())
        config = _CONFIG.format(folder=_quotable(self._folder), architecture=architecture)
        (self._folder / "apt.conf").write_text(config)

    def update(self, progress: Progress | None = None) -> None:
        """Read the source's package lists."""
        self._get(["update"], "reading the package lists", progress)

    def field(self, package: str, name: str) -> str:
        """Return a field of the newest version of a package, such as its Version or Depends."""
        text = self._run(["apt-cache", "show", "--no-all-versions", package])
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        raise DownloadFailed(f"package {package} has no field {name} in the mirror's lists")

    def download(
        self, packages: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Path]:
        """Download packages, checked by apt against the signed lists; returns name -> .deb."""
        target = self._folder / "packages"
        self._get(["download", *packages], "downloading packages", progress, folder=target)
        return {package: _only_file(target, f"{package}_*.deb") for package in packages}

    def _get(
        self,
        arguments: list[str],
        what: str,
        progress: Progress | None,
        folder: Path | None = None,
    ) -> None:
        """Run apt-get; its status lines say "dlstatus:<number>:<per cent>:<text>"."""
        command = [*self._command("apt-get"), "-qq", *arguments]
        errors = self._folder / "errors"
        with (
            errors.open("wb") as sink,
            subprocess.Popen(
                command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=sink
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                kind, _, rest = line.decode(errors="replace").partition(":")
                if kind == "dlstatus" and progress is not None:
                    progress(what, float(rest.split(":")[1]) / 100)
        if process.returncode:
            raise _failed(arguments, errors.read_text(errors="replace"))
        if progress is not None:
            progress(what, 1.0)

    def _run(self, command: list[str]) -> str:
        full = [*self._command(command[0]), *command[1:]]
        result = subprocess.run(
            full, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode:
            raise _failed(command[1:], result.stderr)
        return result.stdout

    def _command(self, program: str) -> list[str]:
        return [program, "-c", str(self._folder / "apt.conf")]


def host_source_files() -> list[Path]:
    """Return the files that the host's apt reads its sources from; none where there is no apt."""
    if shutil.which("apt-config") is None:
        return []
    names = ("LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d")
    text = subprocess.run(
        ["apt-config", "shell", *names], capture_output=True, text=True, check=True
    ).stdout
    places = dict(word.split("=", 1) for word in shlex.split(text))
    files = [Path(places.get("LIST", "/etc/apt/sources.list"))]
    parts = Path(places.get("PARTS", "/etc/apt/sources.list.d"))
    files += sorted([*parts.glob("*.list"), *parts.glob("*.sources")])
    return [file for file in files if file.is_file()]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _failed(arguments: Sequence[str], errors: str) -> DownloadFailed:
    said = [line for line in errors.splitlines() if line.startswith("E:")] or errors.splitlines()
    advice = [text for words, text in _ADVICE if any(word in errors for word in words)]
    lines = "; ".join(line.removeprefix("E:").strip() for line in said[:4])
    return DownloadFailed(
        f"apt-get {' '.join(arguments)} failed: {lines or 'it said nothing'}"
        + (f" ({advice[0]})" if advice else "")
    )


def _quotable(path: Path) -> str:
    if any(character in str(path) for character in '"\\\n'):
        raise DownloadFailed(f"apt cannot work in {str(path)!r}: choose a cache without quotes")
    return str(path)


def _only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DownloadFailed(f"apt-get left {len(found)} files {pattern} in {folder}, not one")
    return found[0]
