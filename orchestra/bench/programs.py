"""Debian's own programs for the guest of `orchestra bench cpu`: a small CPython, dash, true."""

from __future__ import annotations

import posixpath
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestra.errors import BadImage
from orchestra.guest.apt import Apt
from orchestra.guest.debian import default_cache, package_source
from orchestra.io.folder import publish
from orchestra.io.lock import wait_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestra.guest.initramfs import Archive

__all__ = ["add_programs"]

PACKAGES: Final = ("coreutils", "dash", "libc6", "libexpat1", "zlib1g")  # and Python's
WANTED: Final = re.compile(
    r"usr/bin/(dash|true|python3[^/]*)|usr/lib/python3.*|"
    r"usr/lib/riscv64-linux-gnu/(ld-linux|lib[cmz]\.|libexpat\.)[^/]*so[^/]*"
)
LOADER: Final = "lib/ld-linux-riscv64-lp64d.so.1"
SUITE: Final = "trixie"


def add_programs(archive: Archive) -> None:
    """Add python3 with its smallest library, dash, true, and what they link with.

    They are downloaded once, through the host's apt.
    """
    for package in _packages():
        for name, content, target in _members(package):
            if target is not None:
                archive.symlink(name, target)
            else:
                archive.file(name, content, 0o755)
    archive.symlink(LOADER, f"../usr/lib/riscv64-linux-gnu/{posixpath.basename(LOADER)}")


def _packages() -> list[Path]:
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{SUITE}-programs"
    with wait_lock(cache, "exclusive"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".apt-") as scratch:
                _download(Apt(Path(scratch), package_source(SUITE)), folder)
    return sorted(folder.iterdir())


def _download(apt: Apt, folder: Path) -> None:
    apt.update()
    depends = apt.field("python3", "Depends")
    match = re.search(r"\bpython(3\.\d+)", depends)
    if match is None:
        raise BadImage(folder, "Depends of python3", depends, "python3.…")
    names = (f"python{match[1]}-minimal", f"libpython{match[1]}-minimal", *PACKAGES)
    with publish(folder) as fresh:
        for name, deb in apt.download(names).items():
            (fresh / f"{name}.deb").write_bytes(deb.read_bytes())


def _members(package: Path) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield path, content and symlink's target of what of a package is needed."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    done = subprocess.run(command, check=True, capture_output=True)
    with tempfile.TemporaryFile() as file:
        file.write(done.stdout)
        file.seek(0)
        with tarfile.open(fileobj=file) as members:
            for member in members:
                name = posixpath.normpath(member.name)
                if not WANTED.fullmatch(name):
                    continue
                if member.issym():
                    yield name, b"", member.linkname
                elif member.isfile():
                    content = members.extractfile(member)
                    assert content is not None
                    yield name, content.read(), None
