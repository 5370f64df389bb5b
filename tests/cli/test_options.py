"""What options say becomes a config, or an error that names the option."""

from pathlib import Path

import pytest

from orchestra.cli.options import MachineOptions, build_config, limits_of, parse_drive
from orchestra.errors import BadConfig
from orchestra.machine import Drive, Limits, MachineConfig, Ram


@pytest.mark.parametrize(
    ("text", "drive"),
    [
        ("disk=disk.img", Drive("disk", path=Path("disk.img"))),
        ("disk=disk.img,ro", Drive("disk", path=Path("disk.img"), read_only=True)),
        ("d=a,b=c.img,shared", Drive("d", path=Path("a,b=c.img"), shared=True)),
        ("d=a,ro,shared", Drive("d", path=Path("a"), read_only=True, shared=True)),
        ("p=x,pmem,length=4MiB", Drive("p", kind="pmem", path=Path("x"), length=4 << 20)),
        ("n=,nvram,length=2MiB", Drive("n", kind="nvram", length=2 << 20)),
        ("d=really,robust", Drive("d", path=Path("really,robust"))),
    ],
)
def test_a_drive_is_read_from_its_end(text, drive):
    assert parse_drive(text) == drive


@pytest.mark.parametrize("text", ["disk", "", "d=x,length=lots"])
def test_a_drive_that_cannot_be_read_names_the_option(text):
    with pytest.raises(BadConfig) as caught:
        parse_drive(text)
    assert caught.value.field == f"--drive {text}"


def test_no_option_is_the_default_config():
    assert build_config(MachineOptions()) == MachineConfig()
    assert MachineOptions(program=Path("x")).given == []


def test_each_option_replaces_its_part_of_the_config_file(tmp_path):
    (tmp_path / "kernel").touch()
    config = tmp_path / "config.json"
    config.write_text('{"ram": {"length": "1MiB"}, "seed": 3, "boot": {"bootargs": "a"}}')
    assert build_config(MachineOptions(config=config)) == MachineConfig(
        ram=Ram(1 << 20), seed=3, boot=build_config(MachineOptions(bootargs="a")).boot
    )
    options = MachineOptions(
        config=config,
        ram="2MiB",
        firmware=Path("fw"),
        kernel=Path("Image"),
        initrd=Path("root"),
        bootargs="b",
        drives=("d=,length=512",),
        cycles_per_tick=7,
        seed=9,
    )
    made = build_config(options)
    assert (made.ram.length, made.processor.cycles_per_tick, made.seed) == (2 << 20, 7, 9)
    assert (made.boot.firmware, made.boot.kernel) == (Path("fw"), Path("Image"))
    assert (made.boot.initrd, made.boot.bootargs) == (Path("root"), "b")
    assert made.drives == (Drive("d", length=512),)
    assert options.given == [
        *("--config", "--ram", "--firmware", "--kernel", "--initrd", "--bootargs"),
        *("--drive", "--cycles-per-tick", "--seed"),
    ]


def test_a_program_is_an_elf_by_its_magic_and_else_an_image_at_the_start_of_ram(tmp_path):
    (tmp_path / "a").write_bytes(b"\x7fELF...")
    (tmp_path / "b.elf").write_bytes(b"no ELF")
    assert build_config(MachineOptions(program=tmp_path / "a")).boot.elf == tmp_path / "a"
    boot = build_config(MachineOptions(program=tmp_path / "b.elf")).boot
    assert boot.elf is None
    assert [(image.path, image.address) for image in boot.images] == [
        (tmp_path / "b.elf", 0x8000_0000)
    ]


def test_limits_are_none_or_what_was_said():
    assert limits_of(None, None, None) == Limits()
    assert limits_of(5, "1KiB", 0.5) == Limits(5, 1024, 0.5)
    with pytest.raises(BadConfig, match="--max-output"):
        limits_of(None, "x", None)
