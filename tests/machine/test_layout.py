"""Everything has its own pages: as DESIGN §2.1 places it, and whatever the drives."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadConfig
from orchestra.machine.config import Devices, Drive, MachineConfig, Ram
from orchestra.machine.layout import MAX_END, plan_layout

MIB = 1 << 20
TIB = 1 << 40

drive_kinds = st.sampled_from(["virtio-blk", "pmem", "nvram"])
lengths = st.integers(1, 1 << 12) | st.integers(1, 1 << 20)


def make_drive(name, kind, units, read_only, shared):
    length = units * (512 if kind == "virtio-blk" else 2 * MIB)
    return Drive(name, kind, length=length, read_only=read_only, shared=shared)


drives = st.builds(
    make_drive,
    st.from_regex(r"drive[a-z0-9]{0,4}", fullmatch=True),
    drive_kinds,
    lengths,
    st.booleans(),
    st.booleans(),
)
configs = st.builds(
    MachineConfig,
    ram=st.builds(Ram, st.integers(1, 1 << 29).map(lambda pages: pages * 4096)),
    drives=st.lists(drives, max_size=8, unique_by=lambda drive: drive.name).map(tuple),
    devices=st.builds(Devices, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)


@given(configs)
def test_ranges_are_whole_pages_in_order_and_never_overlap(config):
    layout = plan_layout(config)
    for item in layout.ranges:
        assert item.start % 4096 == item.length % 4096 == 0
        assert 0 < item.content_length <= item.length
        assert item.addresses == range(item.start, item.end)
    for low, high in pairwise(layout.ranges):
        assert low.end <= high.start
    assert layout.end == layout.ranges[-1].end <= MAX_END
    assert len({item.name for item in layout.ranges}) == len(layout.ranges)


@given(configs)
def test_drives_are_above_ram_first_what_the_guest_sees(config):
    layout = plan_layout(config)
    ram = layout.range("ram")
    above = [item for item in layout.ranges if item.start >= ram.end]
    assert {item.name for item in above} == {drive.name for drive in config.drives}
    visible = [item.guest_visible for item in above]
    assert visible == sorted(visible, reverse=True)
    for drive in config.drives:
        item = layout.range(drive.name)
        assert item.kind == "drive"
        assert item.content_length == drive.length
        assert item.guest_visible == (drive.kind != "virtio-blk")
        assert item.writable is not drive.read_only
        assert item.shared is drive.shared
        if item.guest_visible:
            power = 1 << (item.length - 1).bit_length()
            assert item.start % power == 0
            assert item.length == drive.length


@given(configs)
def test_every_disk_and_the_rng_have_a_slot_with_its_own_registers_and_irq(config):
    layout = plan_layout(config)
    disks = [drive.name for drive in config.drives if drive.kind == "virtio-blk"]
    assert [slot.drive for slot in layout.virtio if slot.device == "blk"] == disks
    assert sum(slot.device == "rng" for slot in layout.virtio) == config.devices.rng
    assert len(layout.virtio) == config.virtio_devices
    for index, slot in enumerate(layout.virtio):
        registers = layout.range(f"virtio{index}")
        assert (slot.index, slot.irq) == (index, index + 1)
        assert slot.address == registers.start == 0x4001_0000 + index * 0x1000
        assert registers.kind == "device"
        if slot.drive is not None:
            assert slot.read_only is not layout.range(slot.drive).writable


@given(configs)
def test_a_detached_config_has_the_same_layout(config):
    assert plan_layout(config.detached()) == plan_layout(config)


@given(configs)
def test_optional_devices_are_there_exactly_when_asked_for(config):
    layout = plan_layout(config)
    assert ("uart" in layout) is config.devices.uart
    assert ("htif" in layout) is config.devices.htif
    assert ("rx" in layout) is ("tx" in layout) is config.devices.cmio
    assert all(name in layout for name in ("test", "clint", "plic", "dtb", "ram"))


def test_the_map_is_that_of_the_design():
    config = MachineConfig(
        ram=Ram(128 * MIB),
        drives=(
            Drive("root", length=MIB + 512),
            Drive("store", "nvram", length=2 * MIB),
            Drive("big", "pmem", length=160 * MIB, read_only=True),
        ),
    )
    layout = plan_layout(config)
    assert [(item.name, item.start, item.length, item.kind) for item in layout.ranges] == [
        ("test", 0x10_0000, 0x1000, "device"),
        ("clint", 0x200_0000, 0xC_0000, "device"),
        ("uart", 0x1000_0000, 0x1000, "device"),
        ("htif", 0x4000_8000, 0x1000, "device"),
        ("virtio0", 0x4001_0000, 0x1000, "device"),
        ("virtio1", 0x4001_1000, 0x1000, "device"),
        ("plic", 0x4010_0000, 0x40_0000, "device"),
        ("rx", 0x6000_0000, 0x20_0000, "buffer"),
        ("tx", 0x6080_0000, 0x20_0000, "buffer"),
        ("dtb", 0x7FF0_0000, 0x10_0000, "dtb"),
        ("ram", 0x8000_0000, 0x800_0000, "ram"),
        ("big", 0x9000_0000, 0xA00_0000, "drive"),
        ("store", 0x9A00_0000, 0x20_0000, "drive"),
        ("root", 0x9A20_0000, 0x10_1000, "drive"),
    ]
    assert [item.name for item in layout.memory] == [
        "rx", "tx", "dtb", "ram", "big", "store", "root",
    ]  # fmt: skip
    assert layout.range("ram").executable
    assert not layout.range("rx").executable
    assert not layout.range("big").writable


def test_an_unknown_range_is_a_key_error():
    layout = plan_layout(MachineConfig())
    assert "floppy" not in layout
    with pytest.raises(KeyError, match="floppy"):
        layout.range("floppy")


def test_a_terabyte_of_ram_and_drives_fits_below_the_limit():
    drives = tuple(Drive(f"drive{n}", "pmem", length=TIB) for n in range(7))
    layout = plan_layout(MachineConfig(ram=Ram(TIB), drives=drives))
    assert layout.end <= MAX_END


def test_drives_beyond_the_physical_address_space_are_refused():
    drives = tuple(Drive(f"drive{n}", "pmem", length=2 * TIB) for n in range(8))
    config = MachineConfig(drives=drives)
    with pytest.raises(BadConfig, match="0x100000000000"):
        plan_layout(config)


def test_the_lengths_of_drives_must_be_resolved_first(tmp_path):
    config = MachineConfig(drives=(Drive("root", path=tmp_path / "root.img"),))
    with pytest.raises(BadConfig, match=r"drives\[0\]\.length"):
        plan_layout(config)
    known = msgspec.structs.replace(config.drives[0], length=4096)
    assert "root" in plan_layout(msgspec.structs.replace(config, drives=(known,)))
