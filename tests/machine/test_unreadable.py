"""Pages that cannot be read, wherever a machine needs them; then it goes on as if nothing was."""

import ctypes
import os
import threading

import pytest

from orchestra.errors import BackingFault
from orchestra.io import Arena
from orchestra.machine import Boot, Devices, Drive, Halted, Image, Machine, MachineConfig, Ram
from tests.assembler import RAM, Code
from tests.faulty import faulty
from tests.guests import ledger_config
from tests.machine.core.small import PAGE, halt, identity_tables

MIB = 1 << 20
PLACE = RAM + 0x40000  # of the image whose pages fail
NAMES = ("loaded", "stored", "amo", "reserved", "float", "across", "across_end", "fetched", "root")
NAMES += ("middle", "leaf", "table", "available", "used", "header", "target")
PAGES = {name: number for number, name in enumerate(NAMES)}
SPARE = 4  # pages that nobody needs
DISK_PAGES = 17  # too many to be copied
MPRV_S = 1 << 17 | 1 << 11
DISK = 0x4001_0000


def at(name):
    """The address of a page of the image."""
    return PLACE + PAGES[name] * PAGE


def image():
    """Data, a function, page tables, and a disk request, each in pages of their own."""
    pages = {name: bytearray(os.urandom(PAGE)) for name in NAMES}
    function = Code(at("fetched"))
    function.op("addi", "s1", "s1", 7)
    function.op("jalr", 0, 0, "ra")
    pages["fetched"][:8] = function.finish()
    tables = identity_tables(at("root"))[at("root")]
    for number, name in enumerate(("root", "middle", "leaf")):
        pages[name][:] = tables[number * PAGE : (number + 1) * PAGE]
    for name in ("table", "available", "used", "header"):
        pages[name][:] = bytes(PAGE)
    chain = ((at("header"), 16, 1, 1), (at("target"), PAGE, 3, 2), (at("header") + 64, 1, 2, 0))
    for number, fields in enumerate(chain):
        sizes = zip(fields, (8, 4, 2, 2), strict=True)
        entry = b"".join(value.to_bytes(size, "little") for value, size in sizes)
        pages["table"][number * 16 : number * 16 + 16] = entry
    pages["available"][2:4] = (1).to_bytes(2, "little")
    return b"".join(pages.values()) + bytes(SPARE * PAGE)


def program():
    """Need every page of the image, in every way there is."""
    code = Code()
    code.li("t0", 0x2000)
    code.op("csrrs", 0, "mstatus", "t0")
    code.li("a0", at("loaded"))
    code.op("ld", "s2", 8, "a0")
    code.li("a0", at("stored"))
    code.op("sw", "s2", 16, "a0")
    code.li("a0", at("amo"))
    code.op("amoadd.d", "s3", "s2", "a0")
    code.li("a0", at("reserved"))
    code.op("lr.d", "s4", "a0")
    code.op("sc.d", "s5", "s3", "a0")
    code.li("a0", at("float"))
    code.op("fld", "fa0", 24, "a0")
    code.op("fsd", "fa0", 32, "a0")
    code.li("a0", at("across_end") - 4)
    code.op("sd", "s2", 0, "a0")
    code.op("ld", "s6", 0, "a0")
    code.li("a0", at("fetched"))
    code.op("jalr", "ra", 0, "a0")
    through_tables(code)
    ask_the_disk(code)
    halt(code)
    return code.finish()


def through_tables(code):
    """Load with S-mode's eyes, so that the page tables are walked."""
    code.li("t0", 8 << 60 | at("root") >> 12)
    code.csrw("satp", "t0")
    code.li("t0", MPRV_S)
    code.op("csrrs", 0, "mstatus", "t0")
    code.li("a0", RAM)
    code.op("ld", "s7", 0, "a0")
    code.op("csrrc", 0, "mstatus", "t0")


def ask_the_disk(code):
    """Read its first page by DMA."""
    code.li("a0", DISK)
    for offset, value in (
        (0x70, 3),  # status: acknowledge, driver
        (0x24, 1),
        (0x20, 1),  # VERSION_1
        (0x70, 11),
        (0x30, 0),
        (0x38, 8),
        (0x80, at("table")),
        (0x90, at("available")),
        (0xA0, at("used")),
        (0x44, 1),
        (0x70, 15),
        (0x50, 0),  # notify
    ):
        code.li("a1", value)
        code.op("sw", "a1", offset, "a0")


def make(folder, data, disk):
    (folder / "code").write_bytes(program())
    images = (Image(folder / "code", RAM), Image(data, PLACE))
    drives = (Drive("disk", path=disk),)
    devices = Devices(rng=False)
    return MachineConfig(Ram(MIB), boot=Boot(images=images), drives=drives, devices=devices)


def to_halt(machine):
    stop = machine.run(max_cycles=10_000)
    assert isinstance(stop, Halted)
    return stop.cycle, machine.digest()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The image and a disk on a file system that fails on demand, and what a good run ends in."""
    scratch = tmp_path_factory.mktemp("unreadable")
    with faulty(scratch) as filesystem:
        (filesystem.source / "data").write_bytes(image())
        (filesystem.source / "disk").write_bytes(os.urandom(DISK_PAGES * PAGE))
        config = make(scratch, filesystem.folder / "data", filesystem.folder / "disk")
        with Machine.create(config) as machine:
            expected = to_halt(machine)
            content = machine.read(at("target"), PAGE)
            assert content == (filesystem.source / "disk").read_bytes()[:PAGE]
            assert machine.read(at("used") + 2, 2) == b"\1\0"
        yield filesystem, config, expected


def forget_cache(path):
    """Have the kernel read a file again."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("storage", ["memory", "backing"])
@pytest.mark.parametrize("name", [*NAMES, "disk"])
def test_an_input_output_error_is_a_fault_before_the_access(world, name, storage, tmp_path):
    filesystem, config, expected = world
    offset = 0 if name == "disk" else PAGES[name] * PAGE
    if storage == "memory":
        machine = Machine.create(config)
        path = filesystem.folder / ("disk" if name == "disk" else "data")
    else:  # its own files are there
        machine = Machine.create(config, filesystem.folder / f"{tmp_path.name}")
        path = machine.directory / ("disk.img" if name == "disk" else "images1.img")
    with machine:
        forget_cache(path)
        filesystem.fail(path.name, "read", offset, offset + PAGE)
        stands = set()
        for _ in range(3):
            with pytest.raises(BackingFault) as caught:
                machine.run(max_cycles=10_000)
            assert caught.value.path == path
            assert caught.value.offset // PAGE == offset // PAGE
            assert caught.value.reason == "input/output error"
            stands.add((machine.cycle, machine.registers["pc"]))
        assert len(stands) == 1
        filesystem.mend()
        assert to_halt(machine) == expected


def test_a_read_or_write_by_the_host_says_so_too(world):
    filesystem, config, expected = world
    path = filesystem.folder / "data"
    with Machine.create(config) as machine, Machine.create(config) as sibling:
        forget_cache(path)
        filesystem.fail("data", "read", PAGES["loaded"] * PAGE, PAGES["loaded"] * PAGE + PAGE)
        for call in (
            lambda: machine.read(at("loaded") - 8, 16),
            lambda: machine.write(at("loaded") + 8, b"x"),
            machine.digest,
            machine.root_hash,
            lambda: list(machine.trace(max_cycles=10_000)),
        ):
            with pytest.raises(BackingFault) as caught:
                call()
            assert caught.value.path == path
        assert sibling.read(at("stored"), 8)
        filesystem.mend()
        machine.rollback()
        assert to_halt(machine) == expected == to_halt(sibling)


def test_a_file_that_grows_back_page_by_page_is_needed_page_by_page(tmp_path):
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.write_bytes(image())
    disk.write_bytes(os.urandom(DISK_PAGES * PAGE))
    config = make(tmp_path, data, disk)
    whole = data.read_bytes()
    with Machine.create(config) as machine:
        expected = to_halt(machine)
    with Machine.create(config) as machine:
        os.truncate(data, 0)
        faults, reasons = [], set()
        while True:
            try:
                ended = to_halt(machine)
                break
            except BackingFault as error:
                reasons.add(error.reason)
                faults.append(error.offset // PAGE)
                with data.open("r+b") as file:
                    file.truncate(len(whole))
                    file.seek(0)
                    file.write(whole[: (error.offset // PAGE + 1) * PAGE])
                    if error.offset // PAGE + 1 < len(NAMES):
                        file.truncate((error.offset // PAGE + 1) * PAGE)
        assert ended == expected
        assert reasons == {"truncated"}
        assert faults == sorted(set(faults))
        assert len(faults) >= len(NAMES) - 2  # the tables are behind what uses them


def test_faults_of_a_disk_in_many_threads_disturb_no_machine_that_is_well(world):
    """Machines fault in every thread; one that is well runs among them, as it would alone."""
    filesystem, config, expected = world
    faults = [0] * 4
    machines = [Machine.create(config) for _ in faults]
    well = Machine.create(ledger_config())
    with well:
        forget_cache(filesystem.folder / "data")
        filesystem.fail("data", "read", PAGES["fetched"] * PAGE, PAGES["fetched"] * PAGE + PAGE)

        def suffer(number):
            for _ in range(300):
                try:
                    machines[number].run(max_cycles=10_000)
                except BackingFault as error:
                    faults[number] += error.offset // PAGE == PAGES["fetched"]

        threads = [threading.Thread(target=suffer, args=(number,)) for number in range(len(faults))]
        for thread in threads:
            thread.start()
        well.run()
        outputs = [well.advance(b"mint alice 1").outputs for _ in range(100)]
        for thread in threads:
            thread.join()
        assert faults == [300] * 4
        assert outputs == [(b"%d mint alice 1" % number,) for number in range(1, 101)]
        filesystem.mend()
        for machine in machines:
            with machine:
                assert to_halt(machine) == expected


def test_a_disk_that_cannot_be_written_fails_a_durable_snapshot_and_not_the_machine(tmp_path):
    with faulty(tmp_path) as filesystem:
        with Machine.create(ledger_config(), filesystem.folder / "app") as machine:
            machine.run()
            machine.advance(b"mint alice 3")
            expected = machine.digest()
            filesystem.fail("top", "write")
            with pytest.raises(OSError, match="Input/output error"):
                machine.snapshot(filesystem.folder / "snap", durable=True)
            assert not (filesystem.folder / "snap").exists()
            assert machine.digest() == expected
            filesystem.mend()
            machine.snapshot(filesystem.folder / "snap", durable=True)
            assert machine.advance(b"mint alice 1").status == "accepted"
        with Machine.open(filesystem.source / "snap") as behind:  # what was really written
            assert behind.digest() == expected


def test_what_a_disk_refused_once_is_written_when_it_takes_it(tmp_path):
    """The kernel takes a page for written when it has told that it was not."""
    with faulty(tmp_path) as filesystem, Arena.on_file(filesystem.folder / "top") as arena:
        address, length = arena.grow(PAGE)
        ctypes.memmove(address, b"precious", 8)
        ctypes.memmove(address + length - 8, b"the last", 8)
        filesystem.fail("top", "write")
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                arena.sync()
        filesystem.mend()
        arena.sync()
        behind = (filesystem.source / "top").read_bytes()
        assert (behind[PAGE : PAGE + 8], behind[-8:]) == (b"precious", b"the last")


def test_a_request_that_overwrites_its_own_descriptors_goes_on_where_it_was(tmp_path):
    """Its first page of data goes over the table; the second cannot be read from the disk."""
    data, disk = bytearray(image()), tmp_path / "disk"
    content = os.urandom(DISK_PAGES * PAGE)
    table = PAGES["table"] * PAGE
    chain = (at("header"), 16, 1, 1), (at("table"), 2 * PAGE, 3, 2), (at("header") + 64, 1, 2, 0)
    for number, fields in enumerate(chain):
        sizes = zip(fields, (8, 4, 2, 2), strict=True)
        entry = b"".join(value.to_bytes(size, "little") for value, size in sizes)
        data[table + number * 16 : table + number * 16 + 16] = entry
    (tmp_path / "data").write_bytes(data)
    disk.write_bytes(content)
    code = Code()
    ask_the_disk(code)
    halt(code)
    config = make(tmp_path, tmp_path / "data", disk)
    (tmp_path / "code").write_bytes(code.finish())
    with Machine.create(config) as machine:
        expected = to_halt(machine)
        assert machine.read(at("table"), 2 * PAGE) == content[: 2 * PAGE]
    with Machine.create(config) as machine:
        os.truncate(disk, PAGE)
        with pytest.raises(BackingFault):
            machine.run(max_cycles=10_000)
        read = content[:PAGE] + data[table + PAGE : table + 2 * PAGE]
        assert machine.read(at("table"), 2 * PAGE) == read
        disk.write_bytes(content)
        assert to_halt(machine) == expected
