"""Files: mapped, sparse, layered, cloned, locked. Knows nothing about machines.

lock      shared and exclusive locks on folders and files, in turn
folder    published whole or not at all; safe names
reflink   copies that share blocks, else skip holes and zeros
sparse    files with holes
regular   files that are files, for reading
mapping   files in memory
arena     storage that the core grows by itself
process   what a forked child leaves to its parent
fault     a page that cannot be read or written becomes BackingFault
_os       the only module that speaks to the C extension, _native (io/c)
"""

from . import fault
from ._os import BLOCK_FUNCTIONS, CLOCK_FUNCTION, check_pid, hold_at_fork, map_executable
from .arena import Arena, Chunk
from .fault import guarded
from .folder import child, publish, remove, replace_file, sweep
from .lock import Lock, lock, try_lock, wait_lock
from .mapping import Mapping, map_file
from .reflink import CloneResult, clone_file, link_file
from .sparse import PAGE, allocated_bytes, create_sparse, data_segments

__all__ = [
    "BLOCK_FUNCTIONS",
    "CLOCK_FUNCTION",
    "PAGE",
    "Arena",
    "Chunk",
    "CloneResult",
    "Lock",
    "Mapping",
    "allocated_bytes",
    "check_pid",
    "child",
    "clone_file",
    "create_sparse",
    "data_segments",
    "guarded",
    "hold_at_fork",
    "link_file",
    "lock",
    "map_executable",
    "map_file",
    "publish",
    "remove",
    "replace_file",
    "sweep",
    "try_lock",
    "wait_lock",
]

fault.install()
