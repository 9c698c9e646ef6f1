"""Makes the disk tier that the configuration asks for, or says once why there is none."""

from __future__ import annotations

from pathlib import Path

import structlog

from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import DiskSpace, Limits
from zarrfuse.cache.tiers import DiskTier, NoDisk
from zarrfuse.config import Cache
from zarrfuse.places import cache_home


def cache_directory(config: Cache) -> Path:
    """Where the blocks are kept."""
    return config.directory or cache_home()


def open_disk_tier(config: Cache) -> DiskTier:
    """The tier of `config`; NoDisk for a size of 0, or where the directory cannot be used."""
    if config.size == 0:
        return NoDisk()
    directory = cache_directory(config)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return BlockCache(directory, Limits.of(config, DiskSpace.of(directory)))
    except OSError as error:
        log = structlog.get_logger("zarrfuse.cache")
        log.warning("cache.no_disk", directory=str(directory), reason=str(error))
        return NoDisk()


def room_of(config: Cache, disk: DiskTier) -> int:
    """The most bytes that `disk` may hold, by its size and by what its file system has free; 0 for
    none."""
    kept = disk.snapshot()
    if "disk_limit_bytes" not in kept:
        return 0
    space = DiskSpace.of(cache_directory(config))
    beside = space.free - Limits.of(config, space).keep_free_bytes
    return max(0, min(kept["disk_limit_bytes"], kept.get("disk_bytes", 0) + beside))
