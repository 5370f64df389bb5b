"""The folder of a machine at reset: the files its config names, and one delta with the rest."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import msgspec

from orchestra.io.entry import identity_of, write_new
from orchestra.io.folder import Draft
from orchestra.io.lock import try_lock
from orchestra.io.reflink import clone_file, import_file

from .delta import write_delta
from .layout import DTB_START
from .record import NAME, Extent, ImageFile, Record, encode_record
from .scheme import scheme_of

if TYPE_CHECKING:
    from pathlib import Path

    from .image import ImagePlan

__all__ = ["create_folder", "image_file", "record_of_plan"]


def create_folder(plan: ImagePlan, target: Path, *, durable: bool) -> None:
    """Publish the folder of a machine at reset: its images, and one delta with the rest."""
    draft = Draft(target, durable=durable)
    draft.check()
    with draft:
        images = []
        for source in plan.sources:
            path, copy = str(source.path.resolve()), f"{draft.path}/{source.name}"
            if source.shared:
                with try_lock(path, "shared") as held:
                    clone_file(held.fileno(), copy)
                images.append(ImageFile(source.name, os.stat(copy).st_size, shared=True))
                continue
            result = import_file(path, copy, link=plan.link_images)
            images.append(image_file(source.name, copy, linked=result.method == "link"))
        pages = plan.pages()
        board = scheme_of(plan.config, plan.tohost, plan.fromhost).board
        state = board.reset_state(plan.entry, DTB_START)
        write_delta(draft.fileno(), "0.delta", list(pages), b"".join(pages.values()), state)
        record = msgspec.structs.replace(
            record_of_plan(plan), images=tuple(images), deltas=("0.delta",)
        )
        write_new(draft.fileno(), NAME, (encode_record(record),))


def image_file(name: str, path: str, *, linked: bool) -> ImageFile:
    """Describe an image that was just brought to `path`."""
    _, inode, length, modified_ns = identity_of(path)
    return ImageFile(name, length, link=(inode, modified_ns) if linked else None)


def record_of_plan(plan: ImagePlan) -> Record:
    """Say what a machine made of a plan is, but for its files."""
    return Record(
        id=secrets.token_hex(16),
        parent=None,
        cycle=0,
        reproducible=True,
        config=plan.config.detached(),
        images=(),
        extents=tuple(Extent(*extent) for extent in plan.extents),
        deltas=(),
        tohost=plan.tohost,
        fromhost=plan.fromhost,
    )
