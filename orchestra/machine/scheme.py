"""What follows from a machine's config alone: its memory map, and a board to be copied."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ._core import BLOCK, EXECUTE, GUEST, PAGE_BYTES, RANDOM, READ, WRITE, Board
from .layout import Layout, plan_layout

if TYPE_CHECKING:
    from .config import MachineConfig

__all__ = ["Scheme", "scheme_of"]


class Scheme(NamedTuple):
    """What follows from a machine's config alone."""

    layout: Layout
    board: Board  # without extents
    bounds: tuple[int, ...]  # of memory, as page numbers; see open_delta
    places: tuple[tuple[int, int, bool], ...]  # start, end and whether it is shared, of memory


@lru_cache(maxsize=64)
def scheme_of(config: MachineConfig, tohost: int | None, fromhost: int | None) -> Scheme:
    """Lay out a machine; its board is to be copied."""
    layout = plan_layout(config)
    pages = [bound // PAGE_BYTES for item in layout.memory for bound in (item.start, item.end)]
    places = tuple((item.start, item.end, item.shared) for item in layout.memory)
    return Scheme(layout, _bare_board(config, layout, tohost, fromhost), tuple(pages), places)


def _bare_board(
    config: MachineConfig, layout: Layout, tohost: int | None, fromhost: int | None
) -> Board:
    devices = config.devices
    names = ["syscon"]
    names += [name for name in ("uart", "htif", "cmio") if getattr(devices, name)]
    board = Board(
        cycles_per_tick=config.processor.cycles_per_tick,
        devices=names,
        extensions=config.processor.extensions,
        watched=tohost,
        watched_fromhost=fromhost,
    )
    for item in layout.memory:
        flags = READ * item.readable | WRITE * (item.writable and item.name != "rx")
        flags |= EXECUTE * item.executable | GUEST * item.guest_visible
        board.add_range(item.start, item.length, flags)
    for slot in layout.virtio:
        if slot.drive is None:
            seed = (config.seed * 0x9E3779B97F4A7C15 + slot.index + 1) & (1 << 64) - 1
            board.set_virtio(slot.index, RANDOM, 0, 0, read_only=False, seed=seed)
        else:
            content = layout.range(slot.drive)
            board.set_virtio(
                slot.index,
                BLOCK,
                content.start,
                content.content_length,
                read_only=slot.read_only,
                seed=0,
            )
    return board
