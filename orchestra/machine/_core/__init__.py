"""The only package that speaks to the C core: numbers and pointers in, our values and errors out.

core, running    a machine: its memory and layers; until when it runs and why it stopped
board, layer     what machines share
pool             where their memory is from
hashes           the hashes of pages
delta            what is wrong with a file, and what its first page is
isa, commit      registers, instructions, and one executed instruction of a trace
border           pointers and numbers
"""

from .board import BLOCK, EXECUTE, GUEST, RANDOM, READ, SHARED_EXTENT, WRITE, Board
from .border import DEAD_SLOT, FOREVER, PAGE_BYTES, STATE_BYTES, ZERO_PAGE
from .commit import Commit
from .core import Core
from .delta import (
    DeltaLook,
    DeltaLooks,
    checksum,
    delta_head,
    first_outside,
    page_checksums,
    state_cycle,
)
from .hashes import HASH_BYTES, Hashes
from .isa import ABI_NAMES, FLOAT_NAMES, REGISTERS, disassemble, instructions
from .layer import Layer
from .pool import Blocks, blocks_in_use
from .running import ANYTHING, CONSOLE_BYTES, Served

__all__ = [
    "ABI_NAMES",
    "ANYTHING",
    "BLOCK",
    "CONSOLE_BYTES",
    "DEAD_SLOT",
    "EXECUTE",
    "FLOAT_NAMES",
    "FOREVER",
    "GUEST",
    "HASH_BYTES",
    "PAGE_BYTES",
    "RANDOM",
    "READ",
    "REGISTERS",
    "SHARED_EXTENT",
    "STATE_BYTES",
    "WRITE",
    "ZERO_PAGE",
    "Blocks",
    "Board",
    "Commit",
    "Core",
    "DeltaLook",
    "DeltaLooks",
    "Hashes",
    "Layer",
    "Served",
    "blocks_in_use",
    "checksum",
    "delta_head",
    "disassemble",
    "first_outside",
    "instructions",
    "page_checksums",
    "state_cycle",
]
