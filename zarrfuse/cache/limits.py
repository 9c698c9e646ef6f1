"""How much disk the cache may take, and how much a new block lacks. Decisions only.

It knows sizes and free space, not what is cached nor how room is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zarrfuse.config import GIB, Cache

#: Share of the disk, and most bytes, that the cache takes if nobody says otherwise.
DEFAULT_FRACTION = 0.10
DEFAULT_MAX_BYTES = 50 * GIB


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A file system's size, and what a plain user may still write, in bytes."""

    total: int
    free: int

    @classmethod
    def of(cls, path: Path) -> DiskSpace:
        facts = os.statvfs(path)
        return cls(facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the index accounts for: stored blocks, and of `total_bytes` those that may not be
    written yet."""

    blocks: int
    total_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `size_bytes` in the cache, at least `keep_free_bytes` left on its disk."""

    size_bytes: int
    keep_free_bytes: int

    @classmethod
    def of(cls, config: Cache, space: DiskSpace) -> Limits:
        default = min(int(space.total * DEFAULT_FRACTION), DEFAULT_MAX_BYTES)
        size = default if config.size is None else int(config.size)
        return cls(size, int(space.total * config.keep_free_fraction))

    def shortfall(self, usage: Usage, free_bytes: int, wanted_bytes: int) -> int:
        """Bytes to evict before `wanted_bytes` more may be reserved; 0 or less: they fit.

        Reserved bytes count as not written yet: at worst a little more stays free.
        """
        over_size = usage.total_bytes + wanted_bytes - self.size_bytes
        over_disk = self.keep_free_bytes + usage.reserved_bytes + wanted_bytes - free_bytes
        return max(over_size, over_disk)
