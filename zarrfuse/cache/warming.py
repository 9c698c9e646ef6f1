"""What is asked of a daemon that shall warm its cache, and what it tells meanwhile.

Values only, as they go over the daemon's socket. Paths are relative to the mount point.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ChunkBox(_Model):
    """Chunks of the array in the directory `array`, by their indices: a half-open range per axis.

    `separator`, `prefix` and `version` say how an index becomes a key; see core/zarr/metadata.
    """

    array: str
    separator: Literal[".", "/"]
    prefix: Literal["", "c"]
    version: Literal[2, 3]
    ranges: tuple[tuple[int, int], ...]


class WarmRequest(_Model):
    """`trees` must be there, files or directories; `files` may be absent, and so may chunks.

    `bytes_per_s` None: as fast as it goes. A `dry_run` only counts.
    """

    trees: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    boxes: tuple[ChunkBox, ...] = ()
    bytes_per_s: int | None = None
    dry_run: bool = False


class WarmState(StrEnum):
    """Where the work stands; the last three end it."""

    LISTING = "listing"
    FETCHING = "fetching"
    DONE = "done"
    TOO_BIG = "too big"
    GAVE_UP = "gave up"


class Missed(_Model):
    """An object that is not in the cache, and why."""

    key: str
    reason: str


class WarmProgress(_Model):
    """Counts so far. Of `objects` and `size_bytes` in all, `cached` were there before.

    `room_bytes` is the most that the cache may hold, `needed_bytes` what all of it takes there.
    `missed` names some of the `failed`, in the line that ends the work.
    """

    state: WarmState
    objects: int = 0
    size_bytes: int = 0
    cached: int = 0
    cached_bytes: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    failed: int = 0
    needed_bytes: int = 0
    room_bytes: int = 0
    missed: tuple[Missed, ...] = ()

    @property
    def is_last(self) -> bool:
        return self.state not in (WarmState.LISTING, WarmState.FETCHING)
