"""A config is checked whole, says what is wrong by its dotted path, and survives JSON."""

import contextlib
import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadConfig
from orchestra.machine.config import (
    Boot,
    Devices,
    Drive,
    Engine,
    Image,
    MachineConfig,
    Processor,
    Ram,
    from_builtins,
    from_json,
    load_config,
    parse_size,
    resolve,
    to_json,
)

MIB = 1 << 20

paths = st.from_regex(r"[a-z/]{0,10}[a-z]", fullmatch=True).map(Path)
names = st.from_regex(r"drive[a-z0-9._-]{0,8}", fullmatch=True)
drives = st.builds(
    Drive,
    name=names,
    kind=st.sampled_from(["virtio-blk", "pmem", "nvram"]),
    path=st.none() | paths,
    length=st.integers(1, 1024).map(lambda count: count * 2 * MIB),
    read_only=st.booleans(),
    shared=st.booleans(),
)
images = st.builds(Image, path=paths, address=st.integers(0, (1 << 44) - 1))
boots = st.one_of(
    st.builds(
        Boot,
        firmware=paths,
        kernel=paths,
        initrd=st.none() | paths,
        bootargs=st.text("abc =.,/0", max_size=40),
    ),
    st.builds(Boot, elf=paths, images=st.lists(images, max_size=3).map(tuple)),
)
configs = st.builds(
    MachineConfig,
    ram=st.builds(Ram, length=st.integers(1, 1 << 29).map(lambda pages: pages * 4096)),
    processor=st.builds(Processor, cycles_per_tick=st.integers(1, 1_000_000)),
    boot=boots,
    drives=st.lists(drives, max_size=8, unique_by=lambda drive: drive.name).map(tuple),
    devices=st.builds(Devices, rng=st.booleans(), uart=st.booleans()),
    seed=st.integers(0, (1 << 64) - 1),
    engine=st.sampled_from(get_args(Engine)),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["ram", "length", "boot", "images", "drives", "name", "path", "seed", "x"]
            )
            | st.text(max_size=6),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(configs)
def test_json_gives_the_same_config_and_the_same_bytes_again(config):
    data = to_json(config)
    assert from_json(data) == config
    assert to_json(from_json(data)) == data
    assert json.loads(data)["seed"] == config.seed


@given(configs)
def test_a_detached_config_names_no_file_and_is_otherwise_the_same(config):
    detached = config.detached()
    assert from_json(to_json(detached)) == detached
    assert detached.boot == Boot(bootargs=config.boot.bootargs)
    for drive, bare in zip(config.drives, detached.drives, strict=True):
        assert bare == msgspec.structs.replace(drive, path=None)
    assert (detached.ram, detached.seed) == (config.ram, config.seed)


@given(junk)
def test_whatever_the_tree_holds_the_answer_is_a_config_or_bad_config(tree):
    try:
        config = from_builtins(tree)
    except BadConfig:
        return
    assert from_json(to_json(config)) == config


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_the_file_holds_the_answer_is_a_config_or_bad_config(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("config")
    for name in "machine.json", "machine.toml":
        (folder / name).write_bytes(data)
        with contextlib.suppress(BadConfig):
            assert isinstance(load_config(folder / name), MachineConfig)


@pytest.mark.parametrize("name", ["deep.json", "deep.toml"])
def test_a_document_nested_without_end_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"a":' * 100_000 if name == "deep.json" else "a=" + "[" * 100_000)
    with pytest.raises(BadConfig):
        load_config(path)
    tree: object = {}
    for _ in range(5000):
        tree = [tree]
    with pytest.raises(BadConfig):
        from_builtins(tree)


def test_toml_with_sizes_as_text_and_paths_relative_to_it(tmp_path):
    path = tmp_path / "linux.toml"
    path.write_text(
        """
        seed = 7
        engine = "interpreter"
        [ram]
        length = "128MiB"
        [boot]
        firmware = "fw_jump.bin"
        kernel = "/boot/Image"
        bootargs = "quiet"
        images = [{path = "notes.bin", address = 0x8600_0000}]
        [[drives]]
        name = "root"
        length = "1GiB"
        [devices]
        rng = false
        """
    )
    config = load_config(path)
    assert config.ram == Ram(128 * MIB)
    assert config.boot.firmware == tmp_path / "fw_jump.bin"
    assert config.boot.kernel == Path("/boot/Image")
    assert config.boot.images == (Image(tmp_path / "notes.bin", 0x8600_0000),)
    assert config.drives == (Drive("root", length=1 << 30),)
    assert config.devices == Devices(rng=False)
    assert (config.seed, config.engine) == (7, "interpreter")


def test_json_files_say_addresses_as_text(tmp_path):
    path = tmp_path / "raw.json"
    path.write_text('{"boot": {"images": [{"path": "a.bin", "address": "0x80001000"}]}}')
    assert load_config(str(path)).boot.images[0] == Image(tmp_path / "a.bin", 0x8000_1000)


def test_python_callers_may_write_text_and_lists_too():
    config = MachineConfig(
        ram=Ram("8MiB"),  # type: ignore[arg-type]
        boot=Boot(elf="guest.elf"),  # type: ignore[arg-type]
        drives=[Drive("data", length="2MiB")],  # type: ignore[arg-type]
    )
    assert config.ram.length == 8 * MIB
    assert config.boot.elf == Path("guest.elf")
    assert config.drives == (Drive("data", length=2 * MIB),)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("4096", 4096),
        ("0x1000", 4096),
        ("1_000", 1000),
        ("64MiB", 64 * MIB),
        ("1 GiB", 1 << 30),
        ("2TiB", 2 << 40),
        ("512MB", 512_000_000),
        ("3kB", 3000),
        ("7B", 7),
    ],
)
def test_sizes_are_read_in_binary_and_decimal_units(text, length):
    assert parse_size(text) == length


@pytest.mark.parametrize("text", ["", "MiB", "64M", "64mib", "-1", "1.5GiB", "0x", "1__0B", "08"])
def test_other_sizes_are_refused_under_the_name_they_have(text):
    with pytest.raises(BadConfig) as caught:
        parse_size(text, "--ram")
    assert (caught.value.field, caught.value.found) == ("--ram", text)


@pytest.mark.parametrize(
    ("tree", "field", "expected"),
    [
        (5, "config", "object"),
        ({"rams": {}}, "rams", "drives"),
        ({"x - at `$.ram`": 1}, "x - at `$.ram`", "drives"),
        ({"ram": {"size": 1}}, "ram.size", "length"),
        ({"ram": {"length": 0}}, "ram.length", ">= 1"),
        ({"ram": {"length": 4097}}, "ram.length", "multiple of 4096"),
        ({"ram": {"length": (2 << 40) + 4096}}, "ram.length", "<= 2199023255552"),
        ({"ram": {"length": "65MB"}}, "ram.length", "multiple of 4096"),
        ({"ram": {"length": "much"}}, "ram.length", "64MiB"),
        ({"ram": {"length": True}}, "ram.length", "int"),
        ({"processor": {"isa": "rv32i"}}, "processor.isa", "rv64imafdc"),
        ({"processor": {"cycles_per_tick": 0}}, "processor.cycles_per_tick", ">= 1"),
        ({"boot": {"elf": 7}}, "boot.elf", "path"),
        ({"boot": {"elf": ""}}, "boot.elf", "path"),
        ({"boot": {"elf": "a\0"}}, "boot.elf", "path"),
        ({"boot": {"elf": "."}}, "boot.elf", "path"),
        ({"boot": {"elf": "\udc80"}}, "boot.elf", "path"),
        ({"boot": {"bootargs": "\udc80"}}, "boot.bootargs", "one line"),
        ({"boot": {"elf": "a", "firmware": "b"}}, "boot.firmware", "elf already"),
        ({"boot": {"elf": "a", "kernel": "b"}}, "boot.kernel", "elf already"),
        ({"boot": {"kernel": "b"}}, "boot.firmware", "OpenSBI"),
        ({"boot": {"firmware": "b", "initrd": "i"}}, "boot.initrd", "no kernel"),
        ({"boot": {"bootargs": "a\nb"}}, "boot.bootargs", "one line"),
        ({"boot": {"bootargs": "a" * 1024}}, "boot.bootargs", "1023 bytes"),
        ({"boot": {"bootargs": "ü" * 512}}, "boot.bootargs", "1023 bytes"),
        ({"boot": {"images": [{}]}}, "boot.images[0].path", "a value"),
        ({"boot": {"images": [{"path": "a", "addr": 1}]}}, "boot.images[0].addr", "address"),
        ({"drives": [{"name": "A", "length": 512}]}, "drives[0].name", "regex"),
        ({"drives": [{"name": "a/b", "length": 512}]}, "drives[0].name", "regex"),
        ({"drives": [{"name": "..", "length": 512}]}, "drives[0].name", "regex"),
        ({"drives": [{"name": "a\n", "length": 512}]}, "drives[0].name", "regex"),
        ({"drives": [{"name": "a" * 65, "length": 512}]}, "drives[0].name", "64"),
        ({"drives": [{"name": "ram", "length": 512}]}, "drives[0].name", "machine itself"),
        ({"drives": [{"name": "virtio3", "length": 512}]}, "drives[0].name", "machine itself"),
        ({"drives": [{"name": "a", "length": 512}] * 2}, "drives[1].name", "no other"),
        ({"drives": [{"name": "a"}]}, "drives[0].length", "a path"),
        ({"drives": [{"name": "a", "length": 513}]}, "drives[0].length", "multiple of 512"),
        ({"drives": [{"name": "a", "kind": "floppy"}]}, "drives[0].kind", "virtio-blk, pmem"),
        (
            {"drives": [{"name": "a", "kind": "pmem", "length": 4096}]},
            "drives[0].length",
            "multiple of 2097152",
        ),
        ({"drives": [{"name": f"a{n}", "length": 512} for n in range(16)]}, "drives", "at most 16"),
        (
            {"drives": [{"name": f"a{n}", "kind": "pmem", "length": 2 * MIB} for n in range(9)]},
            "drives",
            "at most 8",
        ),
        ({"engine": "fast"}, "engine", "one of auto, interpreter, translator"),
        ({"engine": "AUTO"}, "engine", "one of auto, interpreter, translator"),
        ({"engine": 1}, "engine", "str, got int"),
        ({"engine": None}, "engine", "str, got null"),
        ({"engine": ["auto"]}, "engine", "str, got array"),
        ({"processor": {"engine": "auto"}}, "processor.engine", "isa"),
        ({"seed": -1}, "seed", "from 0 to"),
        ({"seed": 1 << 64}, "seed", "from 0 to"),
    ],
)
def test_a_bad_config_names_the_field_and_what_it_should_be(tree, field, expected):
    with pytest.raises(BadConfig) as caught:
        from_builtins(tree)
    assert caught.value.field == field
    assert expected in caught.value.expected
    assert field in str(caught.value)


def test_the_error_shows_the_value_that_was_found():
    with pytest.raises(BadConfig) as caught:
        from_builtins({"drives": [{"name": "a", "length": 512}, {"name": "b", "length": 700}]})
    assert (caught.value.field, caught.value.found) == ("drives[1].length", 700)


def test_a_field_named_like_a_message_is_refused_all_the_same():
    with pytest.raises(BadConfig):
        from_builtins({"x - at `$.ram.y": 1})


def test_configs_made_in_python_are_checked_alike():
    with pytest.raises(BadConfig, match=r"ram\.length"):
        MachineConfig(ram=Ram(5))
    with pytest.raises(BadConfig, match=r"drives\[0\]"):
        MachineConfig(drives=(object(),))  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="seed"):
        msgspec.structs.replace(MachineConfig(), seed=-1)
    with pytest.raises(BadConfig, match="seed"):
        MachineConfig(seed=True)
    with pytest.raises(BadConfig, match="engine"):
        MachineConfig(engine="fast")  # type: ignore[arg-type]


def test_sixteen_virtio_devices_are_not_too_many():
    disks = tuple(Drive(f"a{n}", length=512) for n in range(16))
    assert MachineConfig(drives=disks, devices=Devices(rng=False)).virtio_devices == 16
    assert MachineConfig(drives=disks[1:]).virtio_devices == 16


def test_a_missing_file_is_a_bad_config(tmp_path):
    with pytest.raises(BadConfig, match="No such file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("kind", "length", "resolved"),
    [
        ("virtio-blk", 0, 512),
        ("virtio-blk", 512, 512),
        ("virtio-blk", 513, 1024),
        ("pmem", 1, 2 * MIB),
        ("nvram", 2 * MIB + 1, 4 * MIB),
    ],
)
def test_the_length_of_a_drive_comes_from_its_file_rounded_up(tmp_path, kind, length, resolved):
    path = tmp_path / "drive.img"
    path.write_bytes(bytes(length))
    config = resolve(MachineConfig(drives=(Drive("a", kind, path),)))
    assert config.drives[0].length == resolved
    assert resolve(config) == config


def test_a_drive_may_be_longer_than_its_file_but_not_shorter(tmp_path):
    path = tmp_path / "drive.img"
    path.write_bytes(bytes(1024))
    longer = MachineConfig(drives=(Drive("a", path=path, length=MIB), Drive("b", length=MIB)))
    assert resolve(longer) == longer
    with pytest.raises(BadConfig, match="at least 1024"):
        resolve(MachineConfig(drives=(Drive("a", path=path, length=512),)))
    with pytest.raises(BadConfig, match=r"drives\[0\]\.path"):
        resolve(MachineConfig(drives=(Drive("a", path=tmp_path / "none"),)))
    with pytest.raises(BadConfig, match=r"drives\[0\]\.path"):
        resolve(MachineConfig(drives=(Drive("a", path=tmp_path),)))


@pytest.mark.parametrize("length", [0, 513])
def test_a_shared_drive_is_never_resized(tmp_path, length):
    path = tmp_path / "drive.img"
    path.write_bytes(bytes(length))
    with pytest.raises(BadConfig, match="since it is shared"):
        resolve(MachineConfig(drives=(Drive("a", path=path, shared=True),)))
    path.write_bytes(bytes(1024))
    shared = MachineConfig(drives=(Drive("a", path=path, shared=True),))
    assert resolve(shared).drives[0].length == 1024
    with pytest.raises(BadConfig, match="since it is shared"):
        resolve(MachineConfig(drives=(Drive("a", path=path, length=2048, shared=True),)))


def test_a_machine_is_detached_only_when_its_lengths_are_known(tmp_path):
    path = tmp_path / "drive.img"
    path.write_bytes(bytes(1024))
    config = MachineConfig(drives=(Drive("a", path=path),))
    with pytest.raises(BadConfig, match=r"drives\[0\]\.length"):
        config.detached()
    assert resolve(config).detached().drives == (Drive("a", length=1024),)
