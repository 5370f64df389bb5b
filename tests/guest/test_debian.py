"""Fetching a Debian guest through apt from a mirror of our own, and what is made of it."""

import threading
from pathlib import Path

import pytest
from mirror import BUSYBOX, KERNEL, Mirror
from newc import unpack

from orchestra.errors import BadImage
from orchestra.guest import AGENT
from orchestra.guest.apt import DownloadFailed
from orchestra.guest.debian import (
    BOOTARGS,
    DebianFiles,
    applets,
    debian_config,
    default_cache,
    fetch,
    make_initramfs,
)
from orchestra.machine.boot import boot_facts, place_boot

RELEASE = "6.12.1+deb13-riscv64"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    mirror = Mirror(tmp_path / "mirror")
    mirror.publish(RELEASE)
    monkeypatch.setenv("APT_CONFIG", str(mirror.apt_config))
    return mirror


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "the cache"


@pytest.fixture
def files(mirror: Mirror, cache: Path) -> DebianFiles:
    return fetch(cache)


def test_the_files_are_those_of_the_packages(files: DebianFiles) -> None:
    assert files.kernel.read_bytes() == KERNEL
    assert files.firmware.read_bytes() == b"firmware"
    assert files.busybox.read_bytes() == BUSYBOX
    assert files.kernel_release == RELEASE
    assert files.versions == {
        f"linux-image-{RELEASE}": "1",
        "opensbi": "1.6-1",
        "busybox-static": "1:1.37.0-6",
    }


def test_only_known_modules_are_kept_unpacked_and_without_signature(files: DebianFiles) -> None:
    contents = {name: path.read_bytes() for name, path in files.modules.items()}
    assert contents == {"virtio_mmio": b"bus driver", "virtio_blk": b"block driver"}


def test_what_is_in_the_cache_needs_no_mirror(
    mirror: Mirror, files: DebianFiles, cache: Path
) -> None:
    mirror.withdraw()
    assert fetch(cache) == files


def test_nothing_but_the_result_stays_in_the_cache(files: DebianFiles, cache: Path) -> None:
    assert [path.name for path in cache.iterdir()] == ["trixie"]


@pytest.mark.parametrize("name", ["Image", "manifest.json"])
def test_a_damaged_cache_is_fetched_again(
    mirror: Mirror, files: DebianFiles, cache: Path, name: str
) -> None:
    path = cache / "trixie" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert fetch(cache) == files
    assert path.read_bytes() == whole


def test_refreshing_takes_the_newest_kernel(
    mirror: Mirror, files: DebianFiles, cache: Path
) -> None:
    mirror.publish("6.12.2+deb13-riscv64", KERNEL + b" 2")
    assert fetch(cache).kernel_release == RELEASE
    newer = fetch(cache, refresh=True)
    assert newer.kernel_release == "6.12.2+deb13-riscv64"
    assert newer.kernel.read_bytes() == KERNEL + b" 2"


def test_a_mirror_that_is_gone_does_not_cost_the_cache(
    mirror: Mirror, files: DebianFiles, cache: Path
) -> None:
    mirror.withdraw()
    with pytest.raises(DownloadFailed):
        fetch(cache, refresh=True)
    assert fetch(cache) == files


def test_progress_goes_from_nothing_to_all_of_each_step(mirror: Mirror, cache: Path) -> None:
    seen: list[tuple[str, float]] = []
    fetch(cache, progress=lambda what, fraction: seen.append((what, fraction)))
    steps = dict.fromkeys(what for what, _ in seen)
    assert list(steps) == ["reading the package lists", "downloading packages", "unpacking"]
    for step in steps:
        fractions = [fraction for what, fraction in seen if what == step]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0


def test_two_at_once_download_once(mirror: Mirror, cache: Path) -> None:
    downloads: list[str] = []
    results: list[DebianFiles] = []

    def run() -> None:
        results.append(fetch(cache, progress=lambda what, _: downloads.append(what)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert downloads == sorted(downloads, key=list(dict.fromkeys(downloads)).index)


def test_an_option_names_another_mirror(mirror: Mirror, cache: Path) -> None:
    moved = mirror.root.rename(mirror.root.with_name("moved"))
    with pytest.raises(DownloadFailed, match=f"copy:{moved} trixie Release' is not signed"):
        fetch(cache, mirror=f"copy:{moved}")  # trust in the host's mirror is not for another


def test_a_mirror_without_a_known_signature_is_refused(mirror: Mirror, cache: Path) -> None:
    mirror.be_known(trusted=False)
    with pytest.raises(DownloadFailed, match="debian-archive-keyring"):
        fetch(cache)
    assert list(cache.iterdir()) == []


def test_a_suite_the_mirror_does_not_have_is_named(mirror: Mirror, cache: Path) -> None:
    mirror.be_known(trusted=False)
    with pytest.raises(DownloadFailed, match=r"forky.*does not have this suite"):
        fetch(cache, suite="forky")


@pytest.mark.parametrize("suite", ["", "../x", "trixie main", "Trixie\n"])
def test_a_suite_that_is_no_name_is_refused(cache: Path, suite: str) -> None:
    with pytest.raises(DownloadFailed, match="no suite of Debian"):
        fetch(cache, suite=suite)


def test_being_offline_is_said(
    mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        fetch(cache, mirror="http://127.0.0.1:1/debian")


def test_a_host_without_apt_is_told_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DownloadFailed, match=r"apt-get is not on PATH.*container"):
        fetch(cache, mirror="http://m.invalid/debian")


def test_a_host_without_a_mirror_of_debian_is_asked_for_one(mirror: Mirror, cache: Path) -> None:
    mirror.be_known(uri="http://ubuntu.invalid/ubuntu")
    (mirror.lists / "debian.sources").write_text("Types: deb\nURIs: http://u/u\nSuites: noble\n")
    with pytest.raises(DownloadFailed, match="name one"):
        fetch(cache)


def test_a_compressed_kernel_is_refused(mirror: Mirror, cache: Path) -> None:
    files = fetch(cache)
    mirror.publish(RELEASE, b"\x1f\x8b" + bytes(100))
    with pytest.raises(BadImage, match="uncompressed"):
        fetch(cache, refresh=True)
    assert fetch(cache) == files


def test_the_default_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/a/cache")
    assert default_cache() == Path("/a/cache/orchestra/debian")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == Path.home() / ".cache/orchestra/debian"


def test_the_initramfs_has_what_a_guest_starts_with(files: DebianFiles, tmp_path: Path) -> None:
    out = make_initramfs(files, tmp_path / "initramfs", modules=["virtio_blk"])
    found = {path: (mode, data) for path, mode, data, *_ in unpack(out.read_bytes())}
    assert found["bin/busybox"] == (0o100755, BUSYBOX)
    assert all(
        found[f"bin/{name}"] == (0o120777, b"busybox")
        for name in ("ash", "modprobe", "mount", "sh")
    )
    assert found["sbin/agent"] == (0o100755, AGENT.read_bytes())
    assert found["init"][0] == 0o100755
    assert found["init"][1].startswith(b"#!/bin/sh\n")
    assert {"dev/console", "dev/null", "proc", "sys", "tmp", "root"} <= found.keys()
    modules = f"lib/modules/{RELEASE}"
    assert found[f"{modules}/virtio_blk.ko"][1] == b"block driver"
    assert found[f"{modules}/modules.dep"][1] == (
        b"virtio_blk.ko: virtio_mmio.ko\nvirtio_mmio.ko:\n"
    )


def test_the_same_files_make_the_same_initramfs(files: DebianFiles, tmp_path: Path) -> None:
    one, other = (
        make_initramfs(files, tmp_path / name, modules=["virtio_blk"]) for name in ("one", "other")
    )
    assert one.read_bytes() == other.read_bytes()


def test_a_module_that_is_not_there_is_named(files: DebianFiles, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="no kernel module crc16; there are virtio_mmio"):
        make_initramfs(files, tmp_path / "initramfs", modules=["ext4"])
    assert not (tmp_path / "initramfs").exists()


def test_the_config_boots_these_files(files: DebianFiles, tmp_path: Path) -> None:
    initramfs = make_initramfs(files, tmp_path / "initramfs", modules=[])
    config = debian_config(files, initramfs, seed=7)
    plan = place_boot(config, boot_facts(config))
    assert [item.address for item in plan.placements] == [0x80000000, 0x80200000, 0x84200000]
    assert (config.boot.bootargs, config.seed, config.ram.length) == (BOOTARGS, 7, 128 << 20)


@pytest.mark.parametrize("program", [b"", b"[\0[[\0", b"[\0[[\0ash\0\0", b"[\0[[\0sh\0ash\0\0"])
def test_a_program_without_a_table_of_applets_is_no_busybox(program: bytes) -> None:
    with pytest.raises(BadImage, match="sorted table"):
        applets(program)
