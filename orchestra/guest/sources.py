"""What the host's apt sources say, and which of them is a mirror of Debian (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Source", "debian_source", "parse_deb822", "parse_one_line"]

SUITES: Final = frozenset(
    [
        *("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental"),
        *("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    ]
)
SCHEMES: Final = ("http", "https", "mirror", "tor", "ftp", "file", "copy")  # a cdrom is no mirror


@dataclass(frozen=True)
class Source:
    """One entry of a sources file: where packages are; `signed_by` is a keyring's path or a key."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    signed_by: str = ""
    trusted: bool = False

    def to_deb822(self) -> str:
        """Write it as the one stanza of a `.sources` file."""
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {' '.join(self.suites)}",
            f"Components: {' '.join(self.components)}",
        ]
        if self.signed_by:
            first, *more = self.signed_by.split("\n")
            lines += [f"Signed-By: {first}", *(f" {line or '.'}" for line in more)]
        if self.trusted:
            lines.append("Trusted: yes")
        return "\n".join(lines) + "\n"


def parse_one_line(text: str) -> Iterator[Source]:
    """Read a `.list` file: lines like "deb [signed-by=/a/key.gpg] URI SUITE COMPONENT…".

    Only binary sources; lines that are not understood are passed over, as what is not ours.
    """
    for line in text.splitlines():
        match = re.fullmatch(
            r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^#\s]\S*)*)\s*(?:#.*)?", line
        )
        if match is None:
            continue
        options = {}
        for option in (match[1] or "").split():
            name, _, value = option.partition("=")
            options[name.rstrip("+-").lower()] = value
        yield Source(
            (match[2],),
            (match[3],),
            tuple(match[4].split()),
            options.get("signed-by", "").split(",")[0],
            options.get("trusted", "") == "yes",
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Read a `.sources` file: stanzas of "Field: value", with indented lines to go on with."""
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split():
            continue
        if stanza.get("enabled", "yes").strip().lower() in {"no", "false", "0", "off", "without"}:
            continue
        yield Source(
            tuple(stanza.get("uris", "").split()),
            tuple(stanza.get("suites", "").split()),
            tuple(stanza.get("components", "").split()),
            _signed_by(stanza.get("signed-by", "")),
            stanza.get("trusted", "").strip() == "yes",
        )


def debian_source(sources: Iterable[Source], suite: str) -> Source | None:
    """Return a source for `suite` on the mirror of Debian that the sources name, if one does.

    Many others publish for Debian's suites: what ends in /debian, or is signed with Debian's
    own keyring, is believed to be it before what only has its suites.
    """
    best, best_rank = None, 0
    for source in sources:
        for uri in source.uris:
            rank = _rank(source, uri)
            if rank > best_rank:
                best, best_rank = replace(source, uris=(uri,)), rank
    if best is None:
        return None
    return replace(best, suites=(suite,), components=("main",))


def _rank(source: Source, uri: str) -> int:
    """0: not Debian's main archive."""
    scheme = re.split(r"[:+]", uri, maxsplit=1)[0]
    last = uri.rstrip("/").rsplit("/", 1)[-1]
    names = {suite.removesuffix("-updates") for suite in source.suites}
    if scheme not in SCHEMES or "main" not in source.components or names.isdisjoint(SUITES):
        return 0
    return 1 + ("debian-archive" in source.signed_by) + 2 * bool(re.match(r"debian(\.|$)", last))


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    stanza: dict[str, str] = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, field = {}, ""
        elif line[0] in " \t":
            if field:
                stanza[field] += "\n" + line[1:]
        else:
            name, _, value = line.partition(":")
            field = name.strip().lower()
            stanza[field] = value.strip()


def _signed_by(value: str) -> str:
    """Return the first keyring's path, or a whole key block; "." stands for an empty line in it."""
    if "-----BEGIN" not in value:
        return next(iter(value.split()), "")
    return "\n".join("" if line.strip() == "." else line for line in value.split("\n"))
