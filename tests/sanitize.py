"""Boot Debian, fork it, store it and ask it, in a process whose C parts are built with sanitizers.

Run by .ci/run with AddressSanitizer's and UBSan's runtimes preloaded; any finding ends the process.
"""

import sys
import tempfile
from pathlib import Path

from orchestra.machine._native import lib

from orchestra.errors import BackingFault
from orchestra.guest import LEDGER
from orchestra.guest.debian import debian_config, fetch, make_initramfs
from orchestra.machine import Boot, Machine, MachineConfig, Yielded


def main() -> None:
    assert lib.sanitized(), "this build has no sanitizer"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = debian_config(fetch(), make_initramfs(fetch(), folder / "initramfs.cpio"))
        with Machine.create(config, folder / "app") as machine:
            assert isinstance(machine.run(), Yielded)
            machine.snapshot(folder / "snapshot")
            expected = machine.digest()
            assert machine.advance(b"echo x > /tmp/x; seq 1000 | md5sum").accepted
        with Machine.open(folder / "snapshot") as machine:
            assert machine.digest() == expected
            for number in range(10):
                answer = machine.inspect(b"echo $((%d * %d))" % (number, number))
                assert answer.reports == (b"%d\n" % (number * number),)
            assert machine.digest() == expected
        faults(folder)
    sys.stdout.write("sanitizers: nothing found\n")


def faults(folder: Path) -> None:
    program = folder / "program.elf"
    program.write_bytes(LEDGER.read_bytes())
    with Machine.create(MachineConfig(boot=Boot(elf=program))) as machine:
        data = program.read_bytes()
        program.write_bytes(b"")
        for _ in range(100):
            try:
                machine.run()
            except BackingFault:
                continue
            raise AssertionError("a truncated program ran")
        program.write_bytes(data)
        assert isinstance(machine.run(), Yielded)
        assert machine.advance(b"mint alice 1").accepted


if __name__ == "__main__":
    main()
