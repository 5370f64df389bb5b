"""A Debian guest: kernel, firmware and busybox from the mirror, an initramfs, and a config."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from orchestra.errors import BadImage
from orchestra.guest import AGENT
from orchestra.guest.apt import Apt, DownloadFailed, host_source_files
from orchestra.guest.initramfs import Archive
from orchestra.guest.sources import Source, debian_source, parse_deb822, parse_one_line
from orchestra.io.folder import publish, replace_file
from orchestra.io.lock import wait_lock
from orchestra.machine.config import Boot, Drive, MachineConfig, Ram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestra.guest.apt import Progress

__all__ = [
    "BOOTARGS",
    "MODULES",
    "DebianFiles",
    "debian_config",
    "default_cache",
    "fetch",
    "make_initramfs",
    "package_source",
]

# The last three keep self tests and tables out of the boot: 0.28 G instructions instead of 1.05 G.
BOOTARGS: Final = (
    "console=ttyS0 quiet panic=-1 cryptomgr.notests "
    "initcall_blacklist=jent_mod_init,load_system_certificate_list,trace_eval_init"
)
RAM_LENGTH: Final = 128 << 20

# Kernel modules that are kept, with those that must be loaded before.
MODULES: Final = {
    "virtio_mmio": (),
    "virtio_blk": ("virtio_mmio",),
    "virtio-rng": ("virtio_mmio",),
    "crc16": (),
    "crc32c_generic": (),
    "mbcache": (),
    "jbd2": (),
    "ext4": ("jbd2", "mbcache", "crc16", "crc32c_generic"),
    "libnvdimm": (),
    "nd_btt": ("libnvdimm",),
    "nd_pmem": ("libnvdimm", "nd_btt"),
    "of_pmem": ("libnvdimm", "nd_pmem"),
}
_SMALL_MODULES: Final = ("virtio_mmio", "virtio_blk", "virtio-rng")

_FIRMWARE: Final = "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin"
_KEYRINGS: Final = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
_MODULE_SIGNATURE: Final = b"~Module signature appended~\n"
_INIT: Final = b"""\
#!/bin/sh
export PATH=/bin:/sbin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
[ -n "$modules" ] && modprobe -a $(echo $modules | tr , ' ')
unset modules
cd /root
[ "$1" = shell ] && exec setsid cttyhack sh
echo "orchestra: user space is up, starting the agent"
exec /sbin/agent
"""


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cache folder holds: package -> version, file -> (length, SHA-256)."""

    packages: dict[str, str]
    kernel_release: str
    files: dict[str, tuple[int, str]]


@dataclass(frozen=True)
class DebianFiles:
    """What was downloaded: paths in the cache; `versions` says of which packages."""

    kernel: Path
    firmware: Path
    busybox: Path
    modules: dict[str, Path]
    kernel_release: str
    versions: dict[str, str]


def default_cache() -> Path:
    """Return the folder for downloads: orchestra/debian in XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "orchestra/debian"


def fetch(
    cache_dir: Path | None = None,
    *,
    mirror: str | None = None,
    suite: str = "trixie",
    keyring: Path | None = None,
    progress: Progress | None = None,
    refresh: bool = False,
) -> DebianFiles:
    """Return kernel, firmware and busybox of a suite, from the cache or through the host's apt.

    `mirror` is a URI like the host's own, which is the default; `keyring` a file of keys to trust.
    Two callers at once download once. Raises DownloadFailed, whose message says what to do.
    """
    if re.fullmatch(r"[a-z][a-z0-9.-]*", suite) is None:
        raise DownloadFailed(f"{suite!r} is no suite of Debian: expected a name such as trixie")
    cache = (cache_dir or default_cache()).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with wait_lock(cache, "exclusive"):
        target = cache / suite
        if not refresh and (files := _cached(target)) is not None:
            return files
        with tempfile.TemporaryDirectory(dir=cache, prefix=".apt-") as scratch:
            apt = Apt(Path(scratch), package_source(suite, mirror, keyring))
            _download(apt, target, progress)
        files = _cached(target)
        assert files is not None
        return files


def make_initramfs(
    files: DebianFiles, out: Path, *, modules: Sequence[str] = _SMALL_MODULES
) -> Path:
    """Write an initramfs with busybox, the agent and kernel modules to `out`; returns `out`.

    Its /init mounts the usual file systems and becomes the agent; with "-- shell" at the end of
    the bootargs a shell on the console; `modules=a,b` in them are loaded before.
    """
    archive = Archive()
    busybox = files.busybox.read_bytes()
    archive.file("bin/busybox", busybox, 0o755)
    for name in set(applets(busybox, files.busybox)) - {"busybox"}:
        archive.symlink(f"bin/{name}", "busybox")
    archive.file("sbin/agent", AGENT.read_bytes(), 0o755)
    archive.file("init", _INIT, 0o755)
    for folder, mode in {"dev": 0o755, "proc": 0o555, "sys": 0o555, "root": 0o700}.items():
        archive.folder(folder, mode)
    archive.folder("tmp", 0o1777)
    archive.device("dev/console", "char", 5, 1)
    archive.device("dev/null", "char", 1, 3, 0o666)
    for name in ("modprobe", "insmod", "init", "poweroff", "reboot"):
        archive.symlink(f"sbin/{name}", "../bin/busybox")  # where kernel and scripts look for them
    archive.symlink("usr/bin", "../bin")
    archive.symlink("usr/sbin", "../sbin")
    _add_modules(archive, files, modules)
    replace_file(out, archive.to_bytes())
    return out


def debian_config(
    files: DebianFiles,
    initramfs: Path,
    *,
    ram_length: int = RAM_LENGTH,
    bootargs: str = BOOTARGS,
    drives: Sequence[Drive] = (),
    seed: int = 0,
) -> MachineConfig:
    """Return the config of a machine that boots these files; addresses follow from the files."""
    boot = Boot(firmware=files.firmware, kernel=files.kernel, initrd=initramfs, bootargs=bootargs)
    return MachineConfig(ram=Ram(length=ram_length), boot=boot, drives=tuple(drives), seed=seed)


def applets(busybox: bytes, path: Path | str = "busybox") -> list[str]:
    """Return the names a busybox answers to, read from the sorted table in the program."""
    start = busybox.find(b"[\0[[\0")
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0")
    if start < 0 or end < 0 or "sh" not in names or names != sorted(names):
        raise BadImage(path, "applets", f"{len(names)} names", "the sorted table of a busybox")
    return names


def _cached(folder: Path) -> DebianFiles | None:
    """Return what the folder holds, unless that is not, byte for byte, what was put there."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=_Manifest)
        for name, (length, digest) in manifest.files.items():
            path = folder / name
            if path.stat().st_size != length or _digest(path) != digest:
                return None
    except (OSError, msgspec.DecodeError):
        return None
    names = [name for name in MODULES if f"{name}.ko" in manifest.files]
    return DebianFiles(
        kernel=folder / "Image",
        firmware=folder / "fw_jump.bin",
        busybox=folder / "busybox",
        modules={name: folder / f"{name}.ko" for name in names},
        kernel_release=manifest.kernel_release,
        versions=manifest.packages,
    )


def package_source(suite: str, mirror: str | None = None, keyring: Path | None = None) -> Source:
    """Choose mirror and keys: the caller's, the host's, or Debian's keyring where it is here."""
    known: list[Source] = []
    for path in host_source_files():
        parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
        known += parse(path.read_text(errors="replace"))
    source = debian_source(known, suite)
    if mirror is not None:
        source = Source((mirror,), (suite,), ("main",), source.signed_by if source else "")
    if source is None:
        raise DownloadFailed(
            "the host's apt sources name no mirror of Debian: name one (--mirror URI)"
        )
    folder = Path("/usr/share/keyrings")
    installed = [str(folder / name) for name in _KEYRINGS if (folder / name).is_file()]
    signed_by = (
        str(keyring.absolute()) if keyring else source.signed_by or next(iter(installed), "")
    )
    return dataclasses.replace(source, signed_by=signed_by)


def _download(apt: Apt, target: Path, progress: Progress | None) -> None:
    apt.update(progress)
    depends = apt.field("linux-image-riscv64", "Depends")
    match = re.match(r"linux-image-(\S+)", depends)
    if match is None:
        raise DownloadFailed(f"linux-image-riscv64 depends on {depends!r}, not on a kernel")
    names = [match[0], "opensbi", "busybox-static"]
    debs = apt.download(names, progress)
    wanted = (_kernel_member, _firmware_member, _busybox_member)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with publish(fresh) as folder:
        for done, (name, member) in enumerate(zip(names, wanted, strict=True), start=1):
            _unpack(debs[name], folder, member)
            if progress is not None:
                progress("unpacking", done / len(names))
        _check(folder)
        files = {path.name: (path.stat().st_size, _digest(path)) for path in folder.iterdir()}
        versions = {name: apt.field(name, "Version") for name in names}
        manifest = _Manifest(versions, match[1], files)
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        (folder / "manifest.json").write_bytes(text)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _unpack(deb: Path, folder: Path, wanted: Callable[[str], str | None]) -> None:
    """Write the members of a package that `wanted` gives a name to; nothing else of it."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        contextlib.suppress(tarfile.ReadError),  # dpkg-deb has said why on stderr
        tarfile.open(fileobj=process.stdout, mode="r|") as members,
    ):
        for member in members:
            name = wanted(str(PurePosixPath(member.name)))
            if name is None or not member.isfile():
                continue
            content = members.extractfile(member)
            assert content is not None
            (folder / name).write_bytes(_plain(member.name, content.read()))
    if process.returncode:
        raise BadImage(deb, "package", f"dpkg-deb exited with {process.returncode}", "a .deb")


def _kernel_member(name: str) -> str | None:
    path = PurePosixPath(name)
    if str(path.parent) == "boot" and re.match(r"vmlinu[xz]-", path.name):
        return "Image"
    module = re.fullmatch(r"(.+)\.ko(\.xz)?", path.name)
    return f"{module[1]}.ko" if module and module[1] in MODULES else None


def _firmware_member(name: str) -> str | None:
    return "fw_jump.bin" if name == _FIRMWARE else None


def _busybox_member(name: str) -> str | None:
    return "busybox" if name in {"bin/busybox", "usr/bin/busybox"} else None


def _plain(name: str, data: bytes) -> bytes:
    """Unpack a module and cut its signature off, which would cost the guest a SHA-256 of it all."""
    if name.endswith(".xz"):
        data = lzma.decompress(data)
    if data.endswith(_MODULE_SIGNATURE):
        end = len(data) - len(_MODULE_SIGNATURE)
        data = data[: end - 12 - int.from_bytes(data[end - 4 : end], "big")]
    return data


def _check(folder: Path) -> None:
    kernel = folder / "Image"
    for path in (kernel, folder / "fw_jump.bin", folder / "busybox"):
        if not path.is_file():
            raise BadImage(path, "file", "nothing in the package", "the file")
    with kernel.open("rb") as file:
        magic = file.read(64)[56:60]
    if magic != b"RSC\x05":
        raise BadImage(kernel, "magic", magic, "an uncompressed RISC-V Linux Image")


def _add_modules(archive: Archive, files: DebianFiles, names: Sequence[str]) -> None:
    folder = f"lib/modules/{files.kernel_release}"
    wanted = sorted({name for asked in names for name in _with_dependencies(asked)})
    lines = []
    for name in wanted:
        if name not in files.modules:
            raise DownloadFailed(f"no kernel module {name}; there are {', '.join(files.modules)}")
        archive.file(f"{folder}/{name}.ko", files.modules[name].read_bytes())
        before = [f"{other}.ko" for other in _with_dependencies(name) if other != name]
        lines.append(f"{name}.ko: {' '.join(before)}".rstrip() + "\n")
    if wanted:
        archive.file(f"{folder}/modules.dep", "".join(lines).encode())


def _with_dependencies(name: str) -> Iterator[str]:
    """Yield a module and what it needs, itself first, as modules.dep wants it."""
    yield name
    for other in reversed(MODULES.get(name, ())):
        yield from _with_dependencies(other)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
