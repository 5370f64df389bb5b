"""The image files of a machine: where they are, and how they come into a folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from orchestra.io.entry import link_all
from orchestra.io.reflink import cannot_link, clone_file, import_file

from .create import image_file
from .record import ImageFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .flat import Flat
    from .lineage import Methods
    from .view import View

__all__ = ["Image", "bring", "images_of", "moved"]


class Image(NamedTuple):
    """An image file and where to link or copy it from."""

    file: ImageFile
    path: str
    ours: bool  # a read-only file of a machine's folder, which may be linked


def images_of(view: View) -> list[Image]:
    """List the images of a view: its folder's files, or the user's."""
    if view.record is not None:
        return [
            Image(image, f"{view.folder}/{image.file}", not image.shared)
            for image in view.record.images
        ]
    assert view.plan is not None
    return [
        Image(
            *(ImageFile(source.name, 0, source.shared), str(source.path.resolve())),
            ours=False,
        )
        for source in view.plan.sources
    ]


def moved(images: Sequence[Image], files: Sequence[ImageFile], folder: str) -> list[Image]:
    """Say where they are once they were brought to a folder."""
    return [
        image if file.shared else Image(file, f"{folder}/{file.file}", ours=True)
        for image, file in zip(images, files, strict=True)
    ]


def bring(
    images: Sequence[Image],
    view: View,
    flats: Mapping[str, Flat],
    folder: int,
    path: str,
    methods: Methods,
) -> list[ImageFile]:
    """Link, reflink or copy images into an open folder, at `path`; what its record says of them."""
    plan, files = view.plan, []
    linked = [
        image for image in images if image.ours and (plan is None or os.path.lexists(image.path))
    ]
    errors = {
        image.file.file: error
        for image, (_, error) in zip(
            linked,
            link_all(folder, [(image.path, image.file.file) for image in linked]),
            strict=True,
        )
    }
    for image in images:
        name, file = image.file.file, image.file
        target, method = f"{path}/{name}", "link"
        if file.shared:  # see Flat.copy_to
            files.append(ImageFile(name, flats[name].length, shared=True))
            continue
        if name not in errors:
            assert plan is not None
            source = next(item.path for item in plan.sources if item.name == name)
            method = import_file(source.resolve(), target, link=plan.link_images).method
            file = image_file(name, target, linked=method == "link")
        elif errors[name]:
            error = OSError(errors[name], os.strerror(errors[name]), image.path)
            if not cannot_link(error):
                raise error
            method = clone_file(image.path, target, 0o444).method
            file = msgspec.structs.replace(file, link=None)
        methods[method] = methods.get(method, 0) + 1
        files.append(file)
    return files
