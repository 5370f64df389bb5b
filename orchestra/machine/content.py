"""What is in an image file: its pages where it has any, and one digest of them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.io.regular import open_regular

from .merkle import Tree
from .proof import PAGE_BYTES, hash_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestra.io.regular import Regular

__all__ = ["image_digest", "image_hashes"]

READ_BYTES = 1 << 20


def image_hashes(file: Regular) -> Iterator[dict[int, bytes]]:
    """Yield page number -> hash, some hundred pages at a time; the last page is filled with zeros.

    OSError says what could not be read.
    """
    for run in file.page_segments():
        for first in range(run.start, run.stop, READ_BYTES // PAGE_BYTES):
            count = min(run.stop - first, READ_BYTES // PAGE_BYTES)
            data = file.read(first * PAGE_BYTES, count * PAGE_BYTES)
            view = memoryview(data.ljust(count * PAGE_BYTES, b"\0"))
            yield {
                first + index: hash_page(view[index * PAGE_BYTES : (index + 1) * PAGE_BYTES])
                for index in range(count)
            }


def image_digest(path: Path) -> str:
    """Hash a file, holes at no cost: the root of a tree (proof.py) of its pages at their offsets.

    Costs 0.6 s for 1 GiB of data. Raises BadImage and OSError.
    """
    tree = Tree.empty()
    with open_regular(path) as file:
        for hashes in image_hashes(file):
            tree = tree.update_hashes(hashes)
    return tree.root.hex()
