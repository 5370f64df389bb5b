"""The device tree a guest finds in a1: what the layout has, in the kernel's bindings."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestra.machine import layout as at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestra.machine.config import MachineConfig
    from orchestra.machine.layout import Layout, Range, VirtioSlot

__all__ = ["Node", "build_devicetree", "cells", "flatten", "text", "wide"]

TIMEBASE_FREQUENCY = 10_000_000
UART_CLOCK = 3_686_400
CACHE_BLOCK_LENGTH = 64
POWEROFF, REBOOT = 0x5555, 0x7777  # written to the power switch; 0x3333 | code << 16 is failure
M_SOFTWARE, M_TIMER, S_EXTERNAL, M_EXTERNAL = 3, 7, 9, 11  # bits of mip
INTC, PLIC, TEST = 1, 2, 3  # phandles

_MAGIC, _VERSION, _LAST_COMPATIBLE = 0xD00D_FEED, 17, 16
_BEGIN, _END, _PROPERTY, _FINISH = 1, 2, 3, 9


@dataclass(frozen=True, slots=True)
class Node:
    """A node by value: its name with unit address, its properties and children in order."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


def cells(*values: int) -> bytes:
    """32-bit numbers as a property."""
    return struct.pack(f">{len(values)}I", *values)


def wide(*values: int) -> bytes:
    """64-bit numbers as a property, two cells each: addresses and lengths here."""
    return struct.pack(f">{len(values)}Q", *values)


def text(*values: str) -> bytes:
    """Strings as a property."""
    return b"".join(value.encode() + b"\0" for value in values)


def flatten(root: Node) -> bytes:
    """Write a tree as a blob, format version 17 (Devicetree Specification 0.4, chapter 5)."""
    blob = _Blob()
    blob.add(root)
    blob.structure += cells(_FINISH)
    reservations = bytes(16)  # the entry that ends the list
    structure_offset = 40 + len(reservations)
    strings_offset = structure_offset + len(blob.structure)
    header = cells(
        _MAGIC,
        strings_offset + len(blob.strings),
        structure_offset,
        strings_offset,
        40,
        _VERSION,
        _LAST_COMPATIBLE,
        0,  # the boot hart
        len(blob.strings),
        len(blob.structure),
    )
    return header + reservations + blob.structure + blob.strings


@lru_cache(maxsize=64)
def build_devicetree(config: MachineConfig, layout: Layout, initrd: range | None = None) -> bytes:
    """Describe a machine to OpenSBI and Linux; the same machine gives the same bytes."""
    bus = {
        "#address-cells": cells(2),
        "#size-cells": cells(2),
        "compatible": text("simple-bus"),
        "ranges": b"",
        "interrupt-parent": cells(PLIC),
    }
    root = {
        "#address-cells": cells(2),
        "#size-cells": cells(2),
        "compatible": text("orchestra,machine"),
        "model": text("orchestra"),
    }
    children = (
        _chosen(config, initrd),
        _cpus(config),
        _memory(layout.range("ram")),
        Node("soc", bus, tuple(_devices(layout))),
        *_drives(config, layout),
        _switch("poweroff", POWEROFF),
        _switch("reboot", REBOOT),
    )
    blob = flatten(Node("", root, children))
    assert len(blob) <= at.DTB_LENGTH  # a config's limits keep it to a few KiB
    return blob


@dataclass(slots=True)
class _Blob:
    """The two blocks of a blob while nodes are added; equal property names share one string."""

    structure: bytearray = field(default_factory=bytearray)
    strings: bytearray = field(default_factory=bytearray)
    offsets: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        self.structure += cells(_BEGIN)
        self._pad(text(node.name))
        for name, value in node.properties.items():
            self.structure += cells(_PROPERTY, len(value), self._offset(name))
            self._pad(value)
        for child in node.children:
            self.add(child)
        self.structure += cells(_END)

    def _offset(self, name: str) -> int:
        if name not in self.offsets:
            self.offsets[name] = len(self.strings)
            self.strings += text(name)
        return self.offsets[name]

    def _pad(self, data: bytes) -> None:
        self.structure += data + bytes(-len(data) % 4)


def _chosen(config: MachineConfig, initrd: range | None) -> Node:
    seed = b"orchestra rng-seed" + config.seed.to_bytes(8, "little")
    properties = {"bootargs": text(config.boot.bootargs)}
    if config.devices.uart:
        properties["stdout-path"] = text(f"/soc/serial@{at.UART_START:x}")
    elif config.devices.htif:
        properties["stdout-path"] = text(f"/soc/htif@{at.HTIF_START + 8:x}")
    if initrd:
        properties["linux,initrd-start"] = wide(initrd.start)
        properties["linux,initrd-end"] = wide(initrd.stop)
    properties["rng-seed"] = hashlib.sha512(seed).digest()
    return Node("chosen", properties)


def _cpus(config: MachineConfig) -> Node:
    base, *extensions = config.processor.isa.split("_")
    interrupts = {
        "#address-cells": cells(0),
        "#interrupt-cells": cells(1),
        "interrupt-controller": b"",
        "compatible": text("riscv,cpu-intc"),
        "phandle": cells(INTC),
    }
    hart = {
        "device_type": text("cpu"),
        "reg": cells(0),
        "status": text("okay"),
        "compatible": text("riscv"),
        "riscv,isa": text(config.processor.isa),
        "riscv,isa-base": text("rv64i"),
        "riscv,isa-extensions": text(*base.removeprefix("rv64"), *extensions),
        "mmu-type": text("riscv,sv39"),
    }
    for name in {"zicbom", "zicbop", "zicboz"}.intersection(extensions):
        hart[f"riscv,{name[2:]}-block-size"] = cells(CACHE_BLOCK_LENGTH)
    properties = {
        "#address-cells": cells(1),
        "#size-cells": cells(0),
        "timebase-frequency": cells(TIMEBASE_FREQUENCY),
    }
    controller = Node("interrupt-controller", interrupts)
    return Node("cpus", properties, (Node("cpu@0", hart, (controller,)),))


def _memory(ram: Range) -> Node:
    properties = {"device_type": text("memory"), "reg": wide(ram.start, ram.length)}
    return Node(f"memory@{ram.start:x}", properties)


def _devices(layout: Layout) -> Iterator[Node]:
    yield _at("test", layout.range("test"), "sifive,test1", "sifive,test0", "syscon", phandle=TEST)
    clint = _at("clint", layout.range("clint"), "sifive,clint0", "riscv,clint0")
    clint.properties["interrupts-extended"] = cells(INTC, M_SOFTWARE, INTC, M_TIMER)
    yield clint
    if "uart" in layout:
        yield _uart(layout.range("uart"))
    elif "htif" in layout:
        yield _htif()
    for slot in layout.virtio:
        yield _virtio(slot, layout.range(f"virtio{slot.index}"))
    yield _plic(layout.range("plic"))


def _at(name: str, where: Range, *compatible: str, phandle: int | None = None) -> Node:
    properties = {"compatible": text(*compatible), "reg": wide(where.start, where.length)}
    if phandle is not None:
        properties["phandle"] = cells(phandle)
    return Node(f"{name}@{where.start:x}", properties)


def _uart(where: Range) -> Node:
    node = _at("serial", where, "ns16550a")
    node.properties["clock-frequency"] = cells(UART_CLOCK)
    node.properties["reg-shift"] = cells(0)
    node.properties["reg-io-width"] = cells(1)
    node.properties["interrupts"] = cells(at.UART_IRQ)
    return node


def _htif() -> Node:
    """OpenSBI takes fromhost first, then tohost; a kernel would only be misled by it."""
    tohost, fromhost = at.HTIF_START, at.HTIF_START + 8
    properties = {"compatible": text("ucb,htif0"), "reg": wide(fromhost, 8, tohost, 8)}
    return Node(f"htif@{fromhost:x}", properties)


def _virtio(slot: VirtioSlot, where: Range) -> Node:
    node = _at("virtio_mmio", where, "virtio,mmio")
    node.properties["interrupts"] = cells(slot.irq)
    return node


def _plic(where: Range) -> Node:
    node = _at("plic", where, "sifive,plic-1.0.0", "riscv,plic0", phandle=PLIC)
    node.properties["#address-cells"] = cells(0)
    node.properties["#interrupt-cells"] = cells(1)
    node.properties["interrupt-controller"] = b""
    node.properties["interrupts-extended"] = cells(INTC, M_EXTERNAL, INTC, S_EXTERNAL)
    node.properties["riscv,ndev"] = cells(at.PLIC_SOURCES)
    return node


def _drives(config: MachineConfig, layout: Layout) -> Iterator[Node]:
    bindings = {"pmem": "pmem-region", "nvram": "generic-uio"}
    for drive in config.drives:
        if drive.kind in bindings:
            yield _at(drive.kind, layout.range(drive.name), bindings[drive.kind])


def _switch(action: str, value: int) -> Node:
    properties = {
        "compatible": text(f"syscon-{action}"),
        "regmap": cells(TEST),
        "offset": cells(0),
        "value": cells(value),
    }
    return Node(action, properties)
