"""A reader of newc archives, written from the kernel's documentation and not from our writer."""

from typing import NamedTuple


class Entry(NamedTuple):
    """One file, folder, link or device."""

    path: str
    mode: int
    data: bytes
    device: tuple[int, int]
    number: int
    links: int


def unpack(archive: bytes) -> list[Entry]:
    """Read headers, paths and data, each padded to 4 bytes with zeros, up to the trailer."""
    entries: list[Entry] = []
    at = 0

    def take(length: int) -> bytes:
        nonlocal at
        part = archive[at : at + length]
        at += length
        assert len(part) == length
        return part

    while True:
        assert take(6) == b"070701"
        fields = [int(take(8), 16) for _ in range(13)]
        number, mode, uid, gid, links, mtime, length, _, _, major, minor, name_length, _ = fields
        path, end = take(name_length - 1), take(1)
        padding = end + take(-at % 4)
        data = take(length)
        padding += take(-at % 4)
        assert not any(padding)
        if path == b"TRAILER!!!":
            assert not any(archive[at:])
            return entries
        assert (uid, gid, mtime) == (0, 0, 0)
        entries.append(Entry(path.decode(), mode, data, (major, minor), number, links))
