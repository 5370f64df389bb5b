"""Boot Debian, fork it, store it and ask it, in a process whose C parts are built with sanitizers.

Run by .ci/run with AddressSanitizer's and UBSan's runtimes preloaded; any finding ends the process.
"""

import sys
import tempfile
from pathlib import Path

from orchestra.machine._native import lib

from orchestra.errors import BackingFault
from orchestra.guest.debian import debian_config, fetch, make_initramfs
from orchestra.machine import Boot, Image, Machine, MachineConfig, ReachedCycle, Yielded
from tests.guests import write_image, write_words
from tests.machine.test_faults import WALK


def main() -> None:
    assert lib.sanitized(), "this build has no sanitizer"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = debian_config(fetch(), make_initramfs(fetch(), folder / "initramfs.cpio"))
        with Machine.create(config, folder / "app") as machine:
            assert isinstance(machine.run(), Yielded)
            machine.snapshot(folder / "snapshot")
            expected = machine.digest()
            root = machine.root_hash()
            assert machine.advance(b"echo x > /tmp/x; seq 1000 | md5sum").accepted
            with machine.fork() as copy:
                assert copy.root_hash() == machine.root_hash() != root
        with Machine.open(folder / "snapshot") as machine:
            assert machine.digest() == expected
            assert machine.root_hash() == root
            for number in range(10):
                answer = machine.inspect(b"echo $((%d * %d))" % (number, number))
                assert answer.reports == (b"%d\n" % (number * number),)
            assert machine.digest() == expected
        faults(folder)
    sys.stdout.write("sanitizers: nothing found\n")


def faults(folder: Path) -> None:
    """Walk through an image that became shorter, and through it whole again."""
    code = write_words(folder / "code", WALK)
    data = write_image(folder / "data")
    images = Image(code, 0x8000_0000), Image(data, 0x8010_0000)
    whole = data.read_bytes()
    with Machine.create(MachineConfig(boot=Boot(images=images))) as machine:
        data.write_bytes(b"")
        for _ in range(100):
            try:
                machine.run(150)
            except BackingFault:
                continue
            raise AssertionError("a truncated image was read")
        data.write_bytes(whole)
        assert machine.run(150) == ReachedCycle(150)


if __name__ == "__main__":
    main()
