"""Debian boots, runs busybox, python and its compiler to the same digest on both engines."""

import random

import pytest

from orchestra.bench.programs import add_programs
from orchestra.guest.debian import BOOTARGS, applets, debian_config
from orchestra.guest.initramfs import Archive
from orchestra.machine import Halted, Machine, ReachedCycle
from tests.machine.core.small import ENGINES

INIT = """\
#!/bin/sh
export PATH=/bin PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
for word in $(ls /bin | sort -r | head -20); do echo $word | tr a-z A-Z; done | sha256sum
seq 2000 | awk '{ t += $1 * 1.7 / (1 + $1 % 7) } END { printf "%.6f\\n", t }'
tar -c /init /work.py /bin/ash | gzip -1 | gunzip | md5sum
/usr/bin/python3* -I -S /work.py
exec poweroff -f
"""
PYTHON = """\
import hashlib, marshal, math, os
table = {str(n): math.sin(n) ** 2 for n in range(2000)}
print(sum(table.values()), hashlib.sha256(repr(sorted(table)).encode()).hexdigest())
library, digest = os.path.dirname(os.__file__), hashlib.md5()
for name in 'bisect', 'codecs', 'copy', 'functools', 'heapq', 'keyword', 'operator', 'stat':
    source = open(os.path.join(library, name + '.py')).read()
    digest.update(marshal.dumps(compile(source, name, 'exec', optimize=2)))
print('compiled', digest.hexdigest())
"""
WINDOWS, STEPS = 12, 4000


@pytest.fixture(scope="module")
def config(debian_files, tmp_path_factory):
    files, _ = debian_files
    archive = Archive()
    busybox = files.busybox.read_bytes()
    archive.file("bin/busybox", busybox, 0o755)
    for name in set(applets(busybox, files.busybox)) - {"busybox"}:
        archive.symlink(f"bin/{name}", "busybox")
    for name in ("dev", "proc", "tmp"):
        archive.folder(name)
    archive.device("dev/console", "char", 5, 1)
    archive.file("init", INIT.encode(), 0o755)
    archive.file("work.py", PYTHON.encode())
    add_programs(archive)
    initramfs = tmp_path_factory.mktemp("engines") / "initramfs.cpio"
    initramfs.write_bytes(archive.to_bytes())
    return debian_config(files, initramfs, bootargs=BOOTARGS)


def in_slices(config, engine, cycles=None):
    """Boot and work; returns the cycle, the digest and what was printed."""
    with Machine.create(config, engine=engine) as machine:
        while isinstance(stop := machine.run(max_cycles=cycles), ReachedCycle):
            pass
        assert isinstance(stop, Halted)
        return machine.cycle, machine.digest(), machine.console_output()


@pytest.fixture(scope="module")
def expected(config):
    """How it ends, interpreted at once."""
    cycle, digest, console = in_slices(config, "interpreter")
    assert b"compiled" in console, console
    return cycle, digest, console


@pytest.mark.parametrize("cycles", [1_000_000, 1000])
@pytest.mark.parametrize("engine", ENGINES)
def test_it_works_to_the_same_digest_in_slices(config, expected, engine, cycles):
    assert in_slices(config, engine, cycles) == expected


def test_it_works_to_the_same_digest_translated(config, expected):
    assert in_slices(config, "translator") == expected


def test_and_where_it_is_cut_at_every_cycle(config, expected):
    """In windows all over the boot and the work, each engine in slices of one cycle."""
    dice = random.Random(1)
    starts = sorted(dice.randrange(expected[0] - STEPS) for _ in range(WINDOWS))
    with Machine.create(config) as machine:
        for start in starts:
            assert machine.run(start) == ReachedCycle(start)
            forks = [machine.fork() for _ in ENGINES]
            for fork, engine in zip(forks, ENGINES, strict=True):
                fork.engine = engine
                for cycle in range(start + 1, start + STEPS + 1):
                    fork.run(cycle)
            assert machine.run(start + STEPS) == ReachedCycle(start + STEPS)
            assert {fork.digest() for fork in forks} == {machine.digest()}, start
            for fork in forks:
                fork.close()
