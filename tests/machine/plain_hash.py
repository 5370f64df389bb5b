"""The root hash as proof.py defines it, by hashlib: an oracle for the core's tree."""

import functools
import hashlib

from orchestra.machine.proof import STATE_ADDRESS

STATE_PAGE = STATE_ADDRESS >> 12


def sha256(data):
    return hashlib.sha256(data).digest()


@functools.cache
def plain_zero(height):
    return sha256(bytes(4096)) if height == 0 else sha256(plain_zero(height - 1) * 2)


def plain_root(pages, height=52, number=0):
    """The definition, word for word: the hash of a subtree of an address space with these pages."""
    inside = {page: data for page, data in pages.items() if page >> height == number}
    if not inside:
        return plain_zero(height)
    if height == 0:
        return sha256(inside[number])
    return sha256(
        plain_root(inside, height - 1, 2 * number) + plain_root(inside, height - 1, 2 * number + 1)
    )


def root_of(machine):
    """The root hash of a machine, from its pages and its state."""
    pages = {number: bytes(page) for number, page in machine._core.collect()}
    assert STATE_PAGE not in pages
    return plain_root({**pages, STATE_PAGE: machine._core.state})
