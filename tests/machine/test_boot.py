"""RAM at reset: files are placed where firmware and kernel want them, or the config is refused."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadConfig, BadImage
from orchestra.machine.boot import FileFacts, Placement, boot_facts, image_size, place_boot
from orchestra.machine.config import Boot, Image, MachineConfig, Ram
from orchestra.machine.elf import Program, Segment

MIB = 1 << 20
FIRMWARE, KERNEL, INITRD = Path("fw_jump.bin"), Path("Image"), Path("initrd")
LINUX = Boot(firmware=FIRMWARE, kernel=KERNEL, initrd=INITRD)
HEADER_OF_DEBIANS_KERNEL = bytes.fromhex(  # 6.12.107+deb13-riscv64
    "4d5a6f10600d0100 0000200000000000 00b0e60100000000 0000000000000000"
    "0200000000000000 0000000000000000 5249534356000000 5253430540000000"
)


def header(memory_length):
    start = HEADER_OF_DEBIANS_KERNEL[:16] + memory_length.to_bytes(8, "little")
    return start + HEADER_OF_DEBIANS_KERNEL[24:]


def linux_facts(kernel, initrd, kernel_header=HEADER_OF_DEBIANS_KERNEL):
    return {
        FIRMWARE: FileFacts(273_432),
        KERNEL: FileFacts(kernel, kernel_header),
        INITRD: FileFacts(initrd),
    }


def test_debian_is_placed_as_it_boots():
    config = MachineConfig(ram=Ram(128 * MIB), boot=LINUX)
    plan = place_boot(config, linux_facts(31_165_952, 9_000_001))
    assert plan.placements == (
        Placement("boot.firmware", FIRMWARE, 0x8000_0000, 273_432, 273_432),
        Placement("boot.kernel", KERNEL, 0x8020_0000, 31_165_952, 0x1E6_B000),
        Placement("boot.initrd", INITRD, 0x8420_0000, 9_000_001, 9_000_001),
    )
    assert plan.entry == 0x8000_0000
    assert plan.initrd == range(0x8420_0000, 0x8420_0000 + 9_000_001)


@given(
    st.integers(1, 100 * MIB),
    st.integers(0, 100 * MIB),
    st.integers(1, 100 * MIB),
    st.integers(1, 256 * MIB // 4096),
)
def test_what_is_placed_fits_and_a_refusal_says_what_would(kernel, memory, initrd, pages):
    facts = linux_facts(kernel, initrd, header(memory))
    config = MachineConfig(ram=Ram(pages * 4096), boot=LINUX)
    uses = max(kernel, memory)
    if 0x8020_0000 + uses > 0x8220_0000 and pages * 4096 >= 210 * MIB:
        with pytest.raises(BadConfig, match="copy of the device tree"):
            place_boot(config, facts)
        return
    try:
        plan = place_boot(config, facts)
    except BadConfig as error:
        if error.field != "ram.length":
            assert uses > 32 * MIB
            return
        needed = int(error.expected.split()[2])
        assert needed > pages * 4096
        enough = MachineConfig(ram=Ram(needed), boot=LINUX)
        if uses <= 32 * MIB:
            assert place_boot(enough, facts).initrd
        return
    spans = [(item.address, item.address + item.memory_length) for item in plan.placements]
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
    assert spans[-1][1] <= 0x8000_0000 + pages * 4096
    assert plan.initrd is not None
    assert plan.initrd.start % (2 * MIB) == 0


def test_without_a_kernel_any_ram_will_do():
    config = MachineConfig(ram=Ram(4096), boot=Boot(images=(Image(Path("a"), 0x8000_0000),)))
    plan = place_boot(config, {Path("a"): FileFacts(4096)})
    assert (plan.entry, plan.initrd) == (0x8000_0000, None)
    assert place_boot(MachineConfig(ram=Ram(4096)), {}).placements == ()


@pytest.mark.parametrize(
    ("address", "field", "expected"),
    [
        (0x7FFF_F000, "boot.images[1]", "from 0x80000000"),
        (0x8000_0010, "boot.images[1]", "after boot.images[0], from 0x80000011"),
        (0x803F_FFF0, "ram.length", "at least 4198400 (5 MiB), to hold boot.images[1]"),
    ],
)
def test_images_must_be_apart_and_in_ram(address, field, expected):
    images = (Image(Path("a"), 0x8000_0000), Image(Path("b"), address))
    config = MachineConfig(ram=Ram(4 * MIB), boot=Boot(images=images))
    with pytest.raises(BadConfig) as caught:
        place_boot(config, {Path("a"): FileFacts(17), Path("b"): FileFacts(17)})
    assert caught.value.field == field
    assert expected in caught.value.expected


def test_an_elf_brings_its_entry_and_takes_room_too():
    segment = Segment(0x8000_1000, 0x8000_1000, 0, 8, 0x1000, 5)
    program = Program(Path("guest.elf"), 0x8000_1004, (segment,))
    boot = Boot(elf=program.path)
    assert place_boot(MachineConfig(boot=boot), {}, program).entry == 0x8000_1004
    with pytest.raises(BadConfig, match=r"at least 8192 \(1 MiB\), to hold boot\.elf"):
        place_boot(MachineConfig(ram=Ram(4096), boot=boot), {}, program)
    boot = Boot(elf=program.path, images=(Image(Path("a"), 0x8000_1FFF),))
    with pytest.raises(BadConfig, match=r"boot\.images\[0\]"):
        place_boot(MachineConfig(boot=boot), {Path("a"): FileFacts(1)}, program)


def test_a_kernel_without_a_header_uses_what_its_file_has():
    assert image_size(KERNEL, FileFacts(1000, bytes(64))) == 1000
    assert image_size(KERNEL, FileFacts(1000, b"short")) == 1000
    assert image_size(KERNEL, FileFacts(1000, header(4096))) == 4096
    assert image_size(KERNEL, FileFacts(9000, header(4096))) == 9000


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"MZ\0\0zimg"])
def test_a_compressed_kernel_is_refused(start):
    with pytest.raises(BadImage, match="uncompressed Image"):
        image_size(KERNEL, FileFacts(1000, start + bytes(56)))


def test_facts_are_read_from_every_file_but_the_elf(tmp_path):
    names = ["fw", "kernel", "initrd", "image"]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([index]) * (100 + index))
    firmware, kernel, initrd, image = (tmp_path / name for name in names)
    boot = Boot(firmware, kernel, initrd, images=(Image(image, 0x8700_0000),))
    facts = boot_facts(MachineConfig(boot=boot))
    assert facts == {
        tmp_path / name: FileFacts(100 + index, bytes([index]) * 64)
        for index, name in enumerate(names)
    }
    assert boot_facts(MachineConfig(boot=Boot(elf=tmp_path / "none"))) == {}


def test_a_file_that_is_missing_or_empty_is_named_by_its_field(tmp_path):
    boot = Boot(images=(Image(tmp_path / "none"),))
    with pytest.raises(BadConfig, match=r"boot\.images\[0\]\.path"):
        boot_facts(MachineConfig(boot=boot))
    pipe = MachineConfig(boot=Boot(images=(Image(tmp_path / "pipe"),)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadConfig, match=r"boot\.images\[0\]\.path"):
        boot_facts(pipe)
    unreadable = MachineConfig(boot=Boot(images=(Image(Path("/proc/self/mem")),)))
    with pytest.raises(BadConfig, match="Input/output error"):
        boot_facts(unreadable)
    (tmp_path / "none").touch()
    with pytest.raises(BadConfig, match="not empty"):
        boot_facts(MachineConfig(boot=boot))
