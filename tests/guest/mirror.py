"""A small mirror of Debian in a folder, with packages made on the spot."""

import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

KERNEL = bytes(56) + b"RSC\x05" + bytes(4) + b"a kernel"
APPLETS = ["[", "[[", "ash", "busybox", "modprobe", "mount", "sh"]
BUSYBOX = b"\x7fELF..\0" + "\0".join(APPLETS).encode() + b"\0\0the end"
SIGNATURE = b"S" * 400
SIGNED = SIGNATURE + bytes(8) + len(SIGNATURE).to_bytes(4, "big") + b"~Module signature appended~\n"


class Mirror:
    """An archive with one suite; `apt_config` makes the host's apt believe in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "debian"
        self.lists = folder / "sources.list.d"
        self.lists.mkdir(parents=True)
        self.apt_config = folder / "apt.conf"
        self.apt_config.write_text(
            f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{self.lists}";\n'
        )
        self.be_known()

    def be_known(self, *, trusted: bool = True, uri: str | None = None) -> None:
        """Write the host's sources file."""
        lines = [f"Types: deb\nURIs: {uri or f'copy:{self.root}'}", "Suites: bookworm"]
        lines += ["Components: main", "Trusted: yes" if trusted else ""]
        (self.lists / "debian.sources").write_text("\n".join(lines) + "\n")

    def publish(self, release: str = "6.12.1+deb13-riscv64", kernel: bytes = KERNEL) -> None:
        """Make suite trixie of the packages that a guest needs, and no others."""
        shutil.rmtree(self.root, ignore_errors=True)
        modules = f"usr/lib/modules/{release}/kernel"
        image = {
            f"boot/vmlinux-{release}": kernel,
            f"{modules}/drivers/block/virtio_blk.ko.xz": lzma.compress(b"block driver" + SIGNED),
            f"{modules}/drivers/virtio/virtio_mmio.ko": b"bus driver",
            f"{modules}/drivers/other.ko.xz": lzma.compress(b"not wanted"),
        }
        firmware = "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin"
        stanzas = [
            self._package("linux-image-riscv64", release, {}, f"linux-image-{release} (= 1)"),
            self._package(f"linux-image-{release}", "1", image),
            self._package("opensbi", "1.6-1", {firmware: b"firmware"}),
            self._package("busybox-static", "1:1.37.0-6", {"usr/bin/busybox": BUSYBOX}),
        ]
        packages = "\n".join(stanzas).encode()
        lists = self.root / "dists/trixie/main/binary-riscv64"
        lists.mkdir(parents=True)
        (lists / "Packages").write_bytes(packages)
        checksum = f" {hashlib.sha256(packages).hexdigest()} {len(packages)}"
        (self.root / "dists/trixie/Release").write_text(
            "Origin: Debian\nSuite: trixie\nCodename: trixie\nArchitectures: riscv64\n"
            "Components: main\nDate: Sat, 01 Nov 2025 00:00:00 UTC\n"
            f"SHA256:\n{checksum} main/binary-riscv64/Packages\n"
        )

    def withdraw(self) -> None:
        """Take the mirror off the net."""
        shutil.rmtree(self.root)

    def _package(
        self, name: str, version: str, files: Mapping[str, bytes], depends: str = ""
    ) -> str:
        """Build a .deb and return its stanza of the Packages file."""
        tree = self.folder / "tree"
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: riscv64\n"
            f"Maintainer: nobody <nobody@invalid>\nDescription: a test\n"
        ) + (f"Depends: {depends}\n" if depends else "")
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(control)
        pool = self.root / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        deb = pool / f"{name}.deb"
        command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "--build", tree, deb]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(tree)
        data = deb.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return f"{control}Filename: pool/{name}.deb\nSize: {len(data)}\nSHA256: {digest}\n"
