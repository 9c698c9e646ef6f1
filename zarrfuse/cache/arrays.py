"""The Zarr arrays whose metadata has passed through: by key, to which array and chunk it belongs.

Parses nothing itself and fetches nothing; core/zarr knows the formats.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cachetools import LRUCache

from zarrfuse.core.keys import Key, Prefix
from zarrfuse.core.zarr.keys import index_of, key_of
from zarrfuse.core.zarr.metadata import ArrayGrid, parse_array, parse_consolidated

#: Arrays remembered.
_MAX_ARRAYS = 20_000
#: Keys whose place is remembered; some 400 bytes each.
_MAX_LOCATED = 8192
#: A chunk key has at most so many components below its array ("c" and one per dimension).
_MAX_DEPTH = 12
#: Arrays of one dimension with at most so many chunks may be coordinates, which are read whole
#: when a store is opened; one LIST page tells of them all.
_FEW_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies."""

    prefix: Prefix
    grid: ArrayGrid
    index: tuple[int, ...]

    def key_of(self, index: tuple[int, ...]) -> str:
        """The key of another chunk of the array, relative to its prefix."""
        return key_of(self.grid, index)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a metadata object told: arrays with their grids, the chunks of coordinates (of the
    smallest first), or a group whose members describe themselves."""

    arrays: tuple[tuple[Prefix, ArrayGrid], ...] = ()
    small: tuple[Key, ...] = ()
    group: Prefix | None = None


class Arrays:
    """Thread-safe; the lock is a leaf."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grids: LRUCache[Prefix, ArrayGrid] = LRUCache(_MAX_ARRAYS)
        self._documents: LRUCache[Key, int] = LRUCache(_MAX_ARRAYS)
        #: What `locate` found lately, for every read asks. Emptied when it is full,
        #: and when an array is learned.
        self._located: dict[Key, Place | None] = {}

    def learn(self, key: Key, document: bytes) -> Learned:
        """Takes in a metadata object; nothing if it is the one already known."""
        with self._lock:
            if self._documents.get(key) == hash(document):
                return Learned()
            self._documents[key] = hash(document)
        own = parse_array(key.name, document)
        found = {key.parent: own} if own is not None else {}
        members = parse_consolidated(document)
        for path, grid in members.items():
            found[Prefix(f"{key.parent}{path}/") if path else key.parent] = grid
        with self._lock:
            self._grids.update(found)
            self._located = {}
        by_count = sorted(found.items(), key=lambda item: item[1].count)
        small = [Key(prefix + text) for prefix, grid in by_count for text in _few(grid)]
        is_group = key.name in (".zgroup", "zarr.json") and own is None and not members
        return Learned(
            arrays=tuple(found.items()),
            small=tuple(small),
            group=key.parent if is_group else None,
        )

    def locate(self, key: Key) -> Place | None:
        """The array and chunk that a key names, if its array is known."""
        located = self._located
        try:
            return located[key]
        except KeyError:
            place = self._locate(key)
        if len(located) >= _MAX_LOCATED:
            located.clear()
        located[key] = place  # of no use to anybody if an array was learned meanwhile
        return place

    def _locate(self, key: Key) -> Place | None:
        prefix = key.parent
        for _ in range(_MAX_DEPTH):
            with self._lock:
                grid = self._grids.get(prefix)
            if grid is not None:
                index = index_of(grid, key.under(prefix))
                return None if index is None else Place(prefix, grid, index)
            if prefix.is_root:
                return None
            prefix = prefix.parent
        return None


def _few(grid: ArrayGrid) -> list[str]:
    """The chunk keys of a coordinate."""
    if len(grid.shape) > 1 or grid.count > _FEW_CHUNKS:
        return []
    if not grid.shape:
        return [key_of(grid, ())]
    return [key_of(grid, (n,)) for n in range(grid.count)]
