"""The blob is well formed, says what the layout says, and is the same for the same machine."""

import shutil
import struct
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.machine.config import Boot, Devices, Drive, MachineConfig, Ram
from orchestra.machine.devicetree import Node, build_devicetree, cells, flatten, text, wide
from orchestra.machine.layout import plan_layout

MIB = 1 << 20
FULL = MachineConfig(
    ram=Ram(128 * MIB),
    boot=Boot(bootargs="quiet root=/dev/vda"),
    drives=(
        Drive("root", length=64 * MIB),
        Drive("big", "pmem", length=6 * MIB),
        Drive("store", "nvram", length=2 * MIB),
    ),
    seed=7,
)
HTIF_ONLY = MachineConfig(devices=Devices(uart=False))
BARE = MachineConfig(devices=Devices(uart=False, htif=False, rng=False, cmio=False))


def read(blob):
    """Read a blob as strictly as the specification allows, into the same Node."""
    header = struct.unpack(">10I", blob[:40])
    magic, total, structure, strings, reserved, version, last, hart, names, length = header
    assert (magic, version, last, hart) == (0xD00DFEED, 17, 16, 0)
    assert total == len(blob)
    assert (reserved % 8, structure % 4) == (0, 0)
    assert blob[reserved : reserved + 16] == bytes(16)
    assert reserved + 16 <= structure
    assert structure + length <= strings
    assert strings + names == total
    node, end = read_node(blob[structure : structure + length], 0, blob[strings:])
    assert blob[structure + end : structure + length] == cells(9)
    return node


def read_node(data, at, strings):
    def token(at):
        return int.from_bytes(data[at : at + 4], "big")

    def string(data, at):
        return data[at : data.index(b"\0", at)].decode()

    assert token(at) == 1
    name = string(data, at + 4)
    at += 4 + (len(name) + 4) // 4 * 4
    properties, children = {}, []
    while token(at) == 3:
        length, key = token(at + 4), string(strings, token(at + 8))
        assert key not in properties
        properties[key] = data[at + 12 : at + 12 + length]
        padding = -length % 4
        assert data[at + 12 + length : at + 12 + length + padding] == bytes(padding)
        at += 12 + length + padding
    while token(at) == 1:
        child, at = read_node(data, at, strings)
        children.append(child)
    assert token(at) == 2
    return Node(name, properties, tuple(children)), at + 4


def find(node, path):
    for name in path.strip("/").split("/"):
        (node,) = (child for child in node.children if child.name == name)
    return node.properties


def strings(data):
    assert data.endswith(b"\0")
    return data[:-1].decode().split("\0")


names = st.text("abc,#-@0", min_size=1, max_size=6)
nodes = st.recursive(
    st.builds(Node, names, st.dictionaries(names, st.binary(max_size=9), max_size=4)),
    lambda inner: st.builds(
        Node,
        names,
        st.dictionaries(names, st.binary(max_size=9), max_size=2),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


@given(nodes)
def test_any_tree_is_read_back_as_it_was(node):
    assert read(flatten(node)) == node


@pytest.mark.parametrize("config", [FULL, HTIF_ONLY, BARE], ids=["full", "htif", "bare"])
def test_the_tree_is_well_formed_and_every_reference_leads_somewhere(config, tmp_path):
    layout = plan_layout(config)
    blob = build_devicetree(config, layout, range(0x8420_0000, 0x8430_0001))
    seen = []

    def check(node, address_cells=2):
        seen.append(node)
        assert ("@" in node.name) == ("reg" in node.properties)
        if "reg" in node.properties:
            width = 4 * address_cells
            unit = int.from_bytes(node.properties["reg"][:width], "big")
            assert int(node.name.partition("@")[2], 16) == unit
        below = node.properties.get("#address-cells", cells(2))
        assert len({child.name for child in node.children}) == len(node.children)
        for child in node.children:
            check(child, int.from_bytes(below, "big"))

    check(read(blob))
    handles = [node.properties["phandle"] for node in seen if "phandle" in node.properties]
    assert len(handles) == len(set(handles))
    for node in seen:
        for key in ("interrupt-parent", "regmap"):
            assert node.properties.get(key, handles[0]) in handles
    if dtc := shutil.which("dtc"):  # a second opinion, where there is one
        path = tmp_path / "machine.dtb"
        path.write_bytes(blob)
        command = [dtc, "-I", "dtb", "-O", "dts", "-o", "/dev/null", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_every_range_the_guest_sees_has_its_node():
    layout = plan_layout(FULL)
    tree = read(build_devicetree(FULL, layout))
    where = {
        "/memory@80000000": "ram",
        "/soc/test@100000": "test",
        "/soc/clint@2000000": "clint",
        "/soc/serial@10000000": "uart",
        "/soc/virtio_mmio@40010000": "virtio0",
        "/soc/virtio_mmio@40011000": "virtio1",
        "/soc/plic@40100000": "plic",
        f"/pmem@{layout.range('big').start:x}": "big",
        f"/nvram@{layout.range('store').start:x}": "store",
    }
    for path, name in where.items():
        item = layout.range(name)
        assert find(tree, path)["reg"] == wide(item.start, item.length)
    silent = {"htif", "rx", "tx", "dtb", "root"}  # reached by address, or never by the guest
    assert set(where.values()) | silent == {item.name for item in layout.ranges}


def test_the_properties_that_opensbi_and_linux_look_for():
    tree = read(build_devicetree(FULL, plan_layout(FULL)))
    hart = find(tree, "/cpus/cpu@0")
    assert strings(hart["riscv,isa"]) == ["rv64imafdc_zicntr_zicsr_zifencei"]
    assert strings(hart["riscv,isa-base"]) == ["rv64i"]
    extensions = ["i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei"]
    assert strings(hart["riscv,isa-extensions"]) == extensions
    assert strings(hart["mmu-type"]) == ["riscv,sv39"]
    assert find(tree, "/cpus")["timebase-frequency"] == cells(10_000_000)
    core = find(tree, "/cpus/cpu@0/interrupt-controller")["phandle"]
    plic = find(tree, "/soc/plic@40100000")
    assert plic["interrupts-extended"] == core + cells(11) + core + cells(9)
    assert plic["riscv,ndev"] == cells(31)
    assert find(tree, "/soc")["interrupt-parent"] == plic["phandle"]
    clint = find(tree, "/soc/clint@2000000")
    assert clint["interrupts-extended"] == core + cells(3) + core + cells(7)
    assert find(tree, "/soc/serial@10000000")["interrupts"] == cells(20)
    assert find(tree, "/soc/virtio_mmio@40011000")["interrupts"] == cells(2)
    assert "syscon" in strings(find(tree, "/soc/test@100000")["compatible"])
    assert find(tree, "/poweroff")["value"] == cells(0x5555)
    assert find(tree, "/reboot")["value"] == cells(0x7777)


def test_chosen_says_console_arguments_and_initrd():
    layout = plan_layout(FULL)
    chosen = find(read(build_devicetree(FULL, layout)), "/chosen")
    assert chosen["bootargs"] == text("quiet root=/dev/vda")
    assert chosen["stdout-path"] == text("/soc/serial@10000000")
    assert "linux,initrd-start" not in chosen
    chosen = find(read(build_devicetree(FULL, layout, range(0x8420_0000, 0x8430_0001))), "/chosen")
    assert chosen["linux,initrd-start"] == wide(0x8420_0000)
    assert chosen["linux,initrd-end"] == wide(0x8430_0001)


def test_htif_is_told_of_only_when_there_is_no_uart():
    tree = read(build_devicetree(HTIF_ONLY, plan_layout(HTIF_ONLY)))
    htif = find(tree, "/soc/htif@40008008")
    assert htif["compatible"] == text("ucb,htif0")
    assert htif["reg"] == wide(0x4000_8008, 8, 0x4000_8000, 8)
    assert find(tree, "/chosen")["stdout-path"] == text("/soc/htif@40008008")
    bare = read(build_devicetree(BARE, plan_layout(BARE)))
    assert "stdout-path" not in find(bare, "/chosen")
    with_both = read(build_devicetree(FULL, plan_layout(FULL)))
    for tree in bare, with_both:
        (soc,) = (node for node in tree.children if node.name == "soc")
        assert not any(node.name.startswith("htif") for node in soc.children)


def test_the_same_machine_gives_the_same_bytes_and_another_seed_others():
    def blob(config):
        return build_devicetree(config, plan_layout(config))

    assert blob(FULL) == blob(msgspec.structs.replace(FULL))
    other = msgspec.structs.replace(FULL, seed=8)
    assert blob(other) != blob(FULL)
    seeds = {find(read(blob(config)), "/chosen")["rng-seed"] for config in (FULL, other, BARE)}
    assert len(seeds) == 3
    assert {len(seed) for seed in seeds} == {64}


def test_the_longest_configs_fit_the_region():
    drives = tuple(Drive(f"disk{n}", length=512) for n in range(15))
    drives += tuple(Drive(f"pmem{n}", "pmem", length=2 * MIB) for n in range(8))
    config = MachineConfig(boot=Boot(bootargs="x" * 1023), drives=drives)
    assert len(build_devicetree(config, plan_layout(config))) < 8192
