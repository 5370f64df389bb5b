"""What the root hash of a machine is of, and a proof that a range of its memory goes into it.

A binary Merkle tree covers the 2**64 bytes of physical addresses. A leaf is a page of 4096 bytes:

    leaf  = SHA-256(the page)
    inner = SHA-256(left || right), 32 bytes each, left the lower addresses

Memory is at its own addresses, that of drives too; what is no memory is zeros. All of a machine
but its memory (struct `state` in core/state.h: registers, CSRs and devices, little endian) is
the page at STATE_ADDRESS, where no machine has memory: x[i] is at 8 i, f[i] at 264 + 8 i, the pc
at 520. An inner node cannot pass for a page, for the height of each is known to who verifies.

A verifier needs this file only, and the root.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Self

import msgspec
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "PAGE_LOG2_SIZE",
    "ROOT_LOG2_SIZE",
    "STATE_ADDRESS",
    "WORD_LOG2_SIZE",
    "ZEROS",
    "Proof",
    "climb",
    "hash_page",
    "hash_range",
    "raw_hash",
]

# Measured on x86-64 (2.4 us a page, 0.3 us a pair of hashes; the `blake3` package: 1.9 and 0.6): a
# changed page costs one page and 14 pairs in 64 MiB, so the hash that is always there is faster.
HASH_NAME: Final = "sha256"
raw_hash: Final = hashlib.sha256
HASH_BYTES: Final = 32

ROOT_LOG2_SIZE: Final = 64
PAGE_LOG2_SIZE: Final = 12
WORD_LOG2_SIZE: Final = 3
HEIGHT: Final = ROOT_LOG2_SIZE - PAGE_LOG2_SIZE  # of the root above the pages
PAGE_BYTES: Final = 1 << PAGE_LOG2_SIZE
STATE_ADDRESS: Final = 0


def _zeros() -> tuple[bytes, ...]:
    hashes = [raw_hash(bytes(PAGE_BYTES)).digest()]
    while len(hashes) <= HEIGHT:
        hashes.append(raw_hash(hashes[-1] * 2).digest())
    return tuple(hashes)


ZEROS: Final = _zeros()  # ZEROS[h]: the hash of 2**h pages of zeros


def hash_page(page: bytes | bytearray | memoryview) -> bytes:
    """Hash a page; ValueError when it is not 4096 bytes."""
    if len(page) != PAGE_BYTES:
        raise ValueError(f"a page of {len(page)} bytes, not {PAGE_BYTES}")
    return raw_hash(page).digest()


def hash_range(data: bytes | bytearray | memoryview) -> bytes:
    """Hash the memory of a subtree: a power of two of pages, as the tree does."""
    pages = len(data) // PAGE_BYTES
    if len(data) % PAGE_BYTES or pages.bit_count() != 1:
        raise ValueError(f"{len(data)} bytes are no power of two of pages")
    view = memoryview(data)
    hashes = [
        raw_hash(view[start : start + PAGE_BYTES]).digest()
        for start in range(0, len(data), PAGE_BYTES)
    ]
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [raw_hash(left + right).digest() for left, right in pairs]
    return hashes[0]


def climb(target: bytes, number: int, siblings: Sequence[bytes]) -> bytes:
    """Hash upwards from the `number`-th subtree of its height, past one sibling per height."""
    for sibling in siblings:
        pair = sibling + target if number & 1 else target + sibling
        target = raw_hash(pair).digest()
        number >>= 1
    return target


@dataclass(frozen=True, slots=True)
class Proof:
    """That 2**log2_size bytes at `address` hash to `target` in a tree; `verify` says which tree.

    `siblings` are the hashes beside the path from the target to the root, the target's own first.
    Of a range smaller than a page it has the `page`, and `target` is the page's hash. ValueError
    for a proof that cannot be of any tree.
    """

    address: int
    log2_size: int
    target: bytes
    siblings: tuple[bytes, ...]
    page: bytes | None = None

    def __post_init__(self) -> None:
        check_range(self.address, self.log2_size)
        if len(self.siblings) != ROOT_LOG2_SIZE - self._subtree_log2_size:
            raise ValueError(f"{len(self.siblings)} siblings of a range of 2**{self.log2_size}")
        if any(len(item) != HASH_BYTES for item in (self.target, *self.siblings)):
            raise ValueError(f"a hash that is not {HASH_BYTES} bytes")
        if (self.page is not None) != (self.log2_size < PAGE_LOG2_SIZE):
            raise ValueError("a page belongs to the proof of a smaller range, and only to that")
        if self.page is not None and len(self.page) != PAGE_BYTES:
            raise ValueError(f"a page of {len(self.page)} bytes, not {PAGE_BYTES}")

    @property
    def _subtree_log2_size(self) -> int:
        return max(self.log2_size, PAGE_LOG2_SIZE)

    @property
    def data(self) -> bytes | None:
        """The bytes of a range that is smaller than a page."""
        if self.page is None:
            return None
        start = self.address % PAGE_BYTES
        return self.page[start : start + (1 << self.log2_size)]

    def verify(self, root: bytes | str, data: bytes | None = None) -> bool:
        """Whether it holds for the tree with this root; with `data`: and these are the bytes.

        The root may be hexadecimal, as `Machine.root_hash` returns it.
        """
        if isinstance(root, str):
            root = bytes.fromhex(root)
        if self.page is not None:
            if hash_page(self.page) != self.target or data not in (None, self.data):
                return False
        elif data is not None and (
            len(data) != 1 << self.log2_size or hash_range(data) != self.target
        ):
            return False
        return climb(self.target, self.address >> self._subtree_log2_size, self.siblings) == root

    def to_json(self) -> str:
        """Write it as JSON: hashes in hexadecimal, null for those of zeros, the page in base64."""
        siblings = (
            None if sibling == ZEROS[height] else sibling.hex()
            for height, sibling in enumerate(self.siblings, self._subtree_log2_size - 12)
        )
        form = _Form(
            hash=HASH_NAME,
            address=hex(self.address),
            log2_size=self.log2_size,
            target=self.target.hex(),
            siblings=tuple(siblings),
            page=self.page,
        )
        return msgspec.json.encode(form).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; ValueError for anything else."""
        try:
            form = msgspec.json.decode(text, type=_Form)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not a proof: {error}") from error
        if form.hash != HASH_NAME:
            raise ValueError(f"a proof with {form.hash}; this orchestra has {HASH_NAME}")
        first = max(form.log2_size, PAGE_LOG2_SIZE) - PAGE_LOG2_SIZE
        if len(form.siblings) != HEIGHT - first:
            raise ValueError(f"{len(form.siblings)} siblings of a range of 2**{form.log2_size}")
        return cls(
            int(form.address, 16),
            form.log2_size,
            bytes.fromhex(form.target),
            tuple(
                ZEROS[height] if text is None else bytes.fromhex(text)
                for height, text in enumerate(form.siblings, first)
            ),
            form.page,
        )


def check_range(address: int, log2_size: int) -> None:
    """Raise ValueError unless it is a power of two of bytes, a word or more, naturally aligned."""
    if not WORD_LOG2_SIZE <= log2_size <= ROOT_LOG2_SIZE:
        raise ValueError(f"log2_size {log2_size}, not {WORD_LOG2_SIZE} to {ROOT_LOG2_SIZE}")
    if not 0 <= address < 1 << ROOT_LOG2_SIZE or address % (1 << log2_size):
        raise ValueError(f"address {address:#x} is no place for 2**{log2_size} bytes")


_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Form(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A proof as JSON has it."""

    hash: str
    address: Annotated[str, Meta(pattern=r"^0x[0-9a-f]{1,16}\Z")]
    log2_size: Annotated[int, Meta(ge=WORD_LOG2_SIZE, le=ROOT_LOG2_SIZE)]
    target: _Hash
    siblings: tuple[_Hash | None, ...]
    page: bytes | None = None
