"""The real thing: Debian's own packages, from the mirror that this host uses, cached once."""

from pathlib import Path

import pytest

from orchestra.guest.apt import DownloadFailed
from orchestra.guest.debian import (
    MODULES,
    DebianFiles,
    applets,
    debian_config,
    fetch,
    make_initramfs,
)
from orchestra.machine.boot import boot_facts, place_boot


@pytest.fixture(scope="module")
def files() -> DebianFiles:
    return fetch()


def test_kernel_firmware_and_every_module_are_there(files: DebianFiles) -> None:
    assert files.kernel.stat().st_size > 10 << 20
    assert 100 << 10 < files.firmware.stat().st_size < 512 << 10
    assert set(files.modules) == set(MODULES)
    assert all(path.read_bytes().startswith(b"\x7fELF") for path in files.modules.values())
    assert files.versions["opensbi"]


def test_busybox_has_what_init_and_the_agent_use(files: DebianFiles) -> None:
    names = applets(files.busybox.read_bytes())
    assert {"sh", "mount", "modprobe", "setsid", "cttyhack", "poweroff", "tr"} <= set(names)
    assert len(names) > 200


def test_a_machine_of_128_mib_holds_it_all(files: DebianFiles, tmp_path: Path) -> None:
    config = debian_config(files, make_initramfs(files, tmp_path / "initramfs"))
    plan = place_boot(config, boot_facts(config))
    assert plan.initrd is not None
    assert plan.initrd.start == 0x84200000


def test_packages_that_no_trusted_key_has_signed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.gpg").touch()
    with pytest.raises(DownloadFailed, match="install a newer debian-archive-keyring"):
        fetch(tmp_path / "cache", keyring=tmp_path / "empty.gpg")
