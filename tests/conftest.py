"""Every async test runs on asyncio and on trio; Debian is downloaded and booted once a session."""

import signal

import pytest

from orchestra.machine import Machine, Yielded
from orchestra.machine._core.running import WARMTH


def pytest_addoption(parser):
    parser.addoption("--engine", choices=WARMTH, default="auto", help="of all machines")


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    WARMTH["auto"] = WARMTH[config.getoption("--engine")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="session")
def debian_files(tmp_path_factory):
    """Debian's kernel, firmware and busybox, and an initramfs made of them."""
    from orchestra.guest.debian import fetch, make_initramfs

    files = fetch()
    return files, make_initramfs(files, tmp_path_factory.mktemp("debian") / "initramfs.cpio")


@pytest.fixture(scope="session")
def debian_config(debian_files):
    from orchestra.guest.debian import debian_config

    return debian_config(*debian_files)


@pytest.fixture(scope="session")
def debian(debian_config, tmp_path_factory):
    """The snapshot of a booted Debian whose agent waits for its first request, and its digest."""
    folder = tmp_path_factory.mktemp("booted")
    with Machine.create(debian_config, folder / "app") as machine:
        stop = machine.run(max_cycles=1_000_000_000)
        assert isinstance(stop, Yielded), machine.console_output()
        machine.snapshot(folder / "snapshot")
        return folder / "snapshot", machine.digest()
