"""Debian, unmodified: it boots, works, and is the same machine by every road."""

import random
import subprocess
import sys
import time

import msgspec
import pytest

from orchestra.machine import Boot, Drive, Halted, Idle, Machine, ReachedCycle, Yielded

MIB = 1 << 20


def with_bootargs(config, extra):
    boot = msgspec.structs.replace(config.boot, bootargs=f"{config.boot.bootargs} {extra}")
    return msgspec.structs.replace(config, boot=boot)


def test_it_reaches_user_space_in_four_seconds_of_cpu(debian_config, debian):
    _, expected = debian
    began = time.process_time()
    with Machine.create(debian_config) as machine:
        assert isinstance(machine.run(), Yielded)
        assert time.process_time() - began < 4
        assert b"orchestra: user space is up" in machine.console_output()
        assert machine.digest() == expected


@pytest.mark.parametrize("seed", range(2))
def test_it_boots_to_the_same_digest_in_slices_forks_and_rollbacks(debian_config, debian, seed):
    _, expected = debian
    dice = random.Random(seed)
    machine = Machine.create(debian_config)
    for _ in range(10_000):
        stop = machine.run(max_cycles=dice.choice([1, 3, 1000, 54_321, 10**6, 10**7]))
        if isinstance(stop, Yielded):
            break
        assert isinstance(stop, ReachedCycle)
        match dice.randrange(40):
            case 0 | 1:
                machine, old = machine.fork(), machine
                old.close()
            case 2 | 3:
                machine.checkpoint()
                machine.run(max_cycles=100_000)
                machine.rollback()
            case 4:
                machine._core.cool()
    assert machine.digest() == expected
    machine.close()


def test_stored_while_it_boots_it_goes_on_from_its_files(debian_config, debian, tmp_path):
    _, expected = debian
    with Machine.create(debian_config, tmp_path / "app") as machine:
        for part, storage in enumerate(["backing", "memory", "backing"]):
            machine.run(60_000_000 * (part + 1))
            machine.snapshot(tmp_path / f"part-{part}")
            here = machine.digest()
            machine.close()
            machine = Machine.open(tmp_path / f"part-{part}", storage=storage)  # noqa: PLW2901
            assert machine.digest() == here
        assert isinstance(machine.run(), Yielded)
        assert machine.digest() == expected
        machine.close()


def test_forks_run_commands_that_nobody_else_sees(debian):
    snapshot, expected = debian
    with Machine.open(snapshot) as machine:
        writes = b"echo changed > /tmp/file; cat /tmp/file; grep -c processor /proc/cpuinfo"
        answer = machine.inspect(writes)
        assert (answer.status, b"".join(answer.reports)) == ("accepted", b"changed\n1\n")
        assert machine.inspect(b"cat /tmp/file").status == "rejected"
        assert machine.digest() == expected
        done = machine.advance(b"echo kept > /tmp/file && cat /tmp/file")
        assert (done.status, done.outputs) == ("accepted", (b"kept\n",))
        assert machine.inspect(b"cat /tmp/file").reports == (b"kept\n",)


def test_a_second_process_answers_the_same(debian):
    snapshot, _ = debian
    program = (
        "import sys; from orchestra.machine import Machine;"
        "m = Machine.open(sys.argv[1]); print(m.inspect(b'cat /proc/uptime; md5sum /init'))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, str(snapshot)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("seconds")[0]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert "accepted" in runs[0]


def test_power_off_halts_the_machine(debian):
    snapshot, _ = debian
    with Machine.open(snapshot) as machine:
        assert machine.inspect(b"poweroff -f").status == "halted"
        machine.send_response(b"poweroff -f")
        while not isinstance(stop := machine.run(), Halted):
            pass
        assert stop.code == 0


@pytest.fixture(scope="module")
def with_devices(debian_config, tmp_path_factory):
    """A booted Debian with the modules for disks and entropy, and two disks."""
    folder = tmp_path_factory.mktemp("devices")
    content = folder / "content.img"
    content.write_bytes(random.Random(1).randbytes(2 * MIB + 512))
    config = with_bootargs(debian_config, "modules=virtio_blk,virtio-rng")
    drives = (
        Drive("content", path=content, read_only=True),
        Drive("empty", length=1 << 30),
    )
    config = msgspec.structs.replace(config, drives=drives)
    with Machine.create(config, folder / "app") as machine:
        assert isinstance(machine.run(max_cycles=1_000_000_000), Yielded)
        machine.snapshot(folder / "snapshot")
    return folder / "snapshot", content


def output(outcome):
    return b"".join(outcome.reports + outcome.outputs).decode()


def test_disks_are_read_and_written_and_stored(with_devices, tmp_path):
    import hashlib

    snapshot, content = with_devices
    digest = hashlib.md5(content.read_bytes()).hexdigest()
    with Machine.open(snapshot) as machine:
        assert output(machine.inspect(b"md5sum < /dev/vda")).split()[0] == digest
        assert machine.inspect(b"echo x > /dev/vda").status == "rejected"
        script = (
            b"dd if=/dev/vda of=/dev/vdb bs=4k seek=1000 2>/dev/null && sync && "
            b"dd if=/dev/vdb bs=4k skip=1000 count=513 2>/dev/null | head -c 2097664 | md5sum"
        )
        assert output(machine.advance(script)).split()[0] == digest
        machine.snapshot(tmp_path / "written")
        expected = machine.digest()
    with Machine.open(tmp_path / "written") as machine:
        assert machine.digest() == expected
        place = machine.layout.range("empty").start + 1000 * 4096
        assert machine.read(place, 2 * MIB + 512) == content.read_bytes()
        drop = b"echo 3 > /proc/sys/vm/drop_caches; "
        again = (
            drop + b"dd if=/dev/vdb bs=4k skip=1000 count=513 2>/dev/null | head -c 2097664|md5sum"
        )
        assert output(machine.inspect(again)).split()[0] == digest


def test_entropy_comes_from_the_seed(with_devices):
    snapshot, _ = with_devices
    ask = b"head -c 64 /dev/hwrng | md5sum"
    with Machine.open(snapshot) as one, Machine.open(snapshot) as other:
        first = output(one.advance(ask))
        assert first == output(other.advance(ask))
        assert first != output(one.advance(ask))


def test_a_shell_on_the_console_answers_what_is_typed(debian_config):
    config = with_bootargs(debian_config, "-- shell")
    with Machine.create(config) as machine:
        text = b""
        while b"~ # " not in text:
            machine.run(max_cycles=50_000_000)
            text += machine.console_output()
            assert machine.cycle < 3_000_000_000, text
        assert machine.reproducible
        machine.console_input(b"echo $((6 * 7)); " + b"# a long line " * 20 + b"\nexit 3\n")
        assert not machine.reproducible
        while b"\n42" not in text:
            stop = machine.run(max_cycles=50_000_000)
            text += machine.console_output()
            assert not isinstance(stop, Idle)
            assert machine.cycle < 5_000_000_000, text


def test_a_config_without_firmware_is_no_linux(debian_config):
    from orchestra.errors import BadConfig

    boot = msgspec.structs.replace(debian_config.boot, firmware=None)
    with pytest.raises(BadConfig, match="firmware"):
        msgspec.structs.replace(debian_config, boot=boot)
    with pytest.raises(BadConfig, match="kernel"):
        Machine.create(
            msgspec.structs.replace(
                debian_config, boot=Boot(firmware=debian_config.boot.firmware, kernel="/nowhere")
            )
        )
