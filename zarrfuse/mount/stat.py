"""What stat shows of a file, as the bytes of libfuse's `struct stat`. Pure.

The bindings fill that structure field by field, which costs more than the rest of a getattr does:
here its layout is read off their ctypes class once, and a stat is one call of `struct`.
"""

from __future__ import annotations

import ctypes
import struct
from operator import itemgetter
from typing import NamedTuple

#: libnetcdf, cp and Python read in pieces of this size instead of 4 kB (facts: zarr-netcdf 1.9).
BLOCK_BYTES = 1024**2
#: For a file of which small parts are wanted: Python would read 1 MiB for each inner chunk of a
#: shard (measured), because it fills a buffer of the size that it is shown.
PART_BYTES = 4096
_FIELDS = (
    *("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks"),
    *("st_atimespec", "st_mtimespec", "st_ctimespec"),
)
_CODES = {2: "H", 4: "I", 8: "q", 16: "qq"}


class Stat(NamedTuple):
    """`mode` with the type in it, `size` in bytes, the owner, `mtime_ns` since the epoch.
    `number` 0: libfuse gives one; `block_bytes`: how much programs are to read at once."""

    mode: int
    size: int
    mtime_ns: int
    uid: int
    gid: int
    links: int = 1
    number: int = 0
    block_bytes: int = BLOCK_BYTES


class StatLayout:
    """The layout of one ctypes class."""

    def __init__(self, structure: type[ctypes.Structure]) -> None:
        fields = sorted(_FIELDS, key=lambda name: int(getattr(structure, name).offset))
        text, reached, order = "=", 0, []
        for name in fields:
            field = getattr(structure, name)
            text += f"{field.offset - reached}x{_CODES[field.size]}"
            reached = field.offset + field.size
            order += [_FIELDS.index(name)] if field.size < 16 else [-2, -1]  # seconds, nanoseconds
        self.size = ctypes.sizeof(structure)
        self._struct = struct.Struct(f"{text}{self.size - reached}x")
        self._ordered = itemgetter(*order)

    def pack(self, stat: Stat) -> bytes:
        """The structure's bytes, `size` of them."""
        mode, size, mtime_ns, uid, gid, links, number, block_bytes = stat
        blocks = -(-size // 512)
        time = divmod(mtime_ns, 10**9)
        values = (number, mode, links, uid, gid, size, block_bytes, blocks, *time)
        return self._struct.pack(*self._ordered(values))
