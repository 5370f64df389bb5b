"""The files that a folder's memory is made of: opened, looked at and mapped in one call."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import fault
from ._os import NativeLayer
from ._os import map_layers as map_native
from .entry import irregular, translated
from .mapping import Mapping, map_open, segments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LayerFile", "map_layers"]


class LayerFile:
    """A file that was opened: mapped, if it was found sound; else open as `fd`, or refused.

    `error` is BadImage for what is no regular file, FileNotFoundError, or another OSError.
    """

    __slots__ = ("error", "facts", "fd", "head", "mapping", "path")

    def __init__(self, path: str, owner: int, layer: NativeLayer) -> None:
        self.path, self.facts, self.head, self.fd = path, layer.facts, layer.head, layer.fd
        self.mapping: Mapping | None = None
        self.error: Exception | None = None
        if layer.error:
            self.error = translated(OSError(layer.error, os.strerror(layer.error)), path)
        elif layer.map is None:
            self.error = irregular(layer.facts, path)
        else:
            segments = None
            if layer.fd >= 0:  # it has holes
                segments = segments_of(layer.fd, layer.facts)
                self._close_fd()
            self.mapping = Mapping(
                *(path, layer.facts, layer.map, owner),
                length=layer.facts.length,
                segments=segments,
            )

    def map(self) -> Mapping:
        """Map what is open."""
        if self.mapping is None:
            self.mapping = map_open(self.fd, self.path, self.facts)
            self._close_fd()
        return self.mapping

    def close(self) -> None:
        """Unmap or close it; twice is fine."""
        if self.mapping is not None:
            self.mapping.close()
        if self.fd >= 0:
            self._close_fd()

    def _close_fd(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)


def map_layers(
    folder: int,
    path: str,
    images: dict[str, int],
    others: Sequence[str],
    *,
    head_bytes: int,
    check: int,
    context: int,
) -> list[LayerFile]:
    """Map images, and others if `check` finds them sound, of an open folder, to be read.

    `path` is what comes before their names. An image is refused unless it has the length that goes
    with its name, in bytes. Of the others `head` has the first `head_bytes`; `check` is the address
    of a function as io.h describes it, `context` its first argument. The list ends at the first
    that cannot be opened, or is refused.
    """
    owner = fault.new_owner()
    found = map_native(
        folder, images, others, owner, head_bytes=head_bytes, check=check, context=context
    )
    names = (*images, *others)
    return [
        LayerFile(path + names[number], owner + number, layer) for number, layer in enumerate(found)
    ]
