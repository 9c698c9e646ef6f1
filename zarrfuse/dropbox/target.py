"""What stands where a store would go, in words and in facts. Reads the bucket, changes nothing.

Listings of Swift may lag behind, so the few keys that decide are also asked for by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from zarrfuse.core.keys import Key, Prefix
from zarrfuse.errors import NotFound
from zarrfuse.store.base import Get, Head, ListPages

#: The attribute by which a store says which file it was made from (zarrfuse.convert.metadata).
SOURCE = "zarrfuse:source"
#: The commit of a store of ours.
COMMIT = ".zmetadata"
#: Any of these at the root makes it a Zarr store.
_ROOT_KEYS = (COMMIT, "zarr.json", ".zgroup", ".zarray")
_MAX_ATTRIBUTES_BYTES = 64 << 20


class TargetStore(Head, Get, ListPages, Protocol):
    """What is needed to see."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a store says of the file it was made from."""

    name: str
    sha256: str
    time: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Something stands at the root. `example` is one of its keys; `roots` are its root metadata
    objects; `source` is None unless a converter of ours made it."""

    example: Key
    roots: frozenset[str]
    source: Source | None
    is_object: bool

    @property
    def is_complete(self) -> bool:
        return COMMIT in self.roots

    @property
    def is_rubbish(self) -> bool:
        """What a dead converter of ours leaves: chunks and metadata, but not the commit."""
        foreign = self.roots and self.source is None
        return not (self.is_complete or foreign or self.is_object)

    @property
    def words(self) -> str:
        if self.is_object:
            return f"an object called {self.example}"
        if self.source is not None:
            half = "" if self.is_complete else " (not finished)"
            return (
                f"a Zarr store made by zarrfuse from {self.source.name} on {self.source.time}{half}"
            )
        if self.roots:
            return "a Zarr store not made by this drop box"
        return f"other objects, such as {self.example}"


def look(store: TargetStore, root: Prefix) -> Standing | None:
    """What stands under `root`, or has its name; None where the place is free."""
    found = frozenset(name for name in _ROOT_KEYS if _exists(store, root.file(name)))
    if found:
        example = root.file(min(found))
        return Standing(example, found, _source(store, root), is_object=False)
    first = _first(store, root)
    if first is not None:
        return Standing(first, found, None, is_object=False)
    if _exists(store, root.as_key):
        return Standing(root.as_key, found, None, is_object=True)
    return None


def _exists(store: Head, key: Key) -> bool:
    try:
        store.head(key)
    except NotFound:
        return False
    return True


def _first(store: ListPages, root: Prefix) -> Key | None:
    """The first object under the root; a directory marker of the root itself is none."""
    after: str | None = ""
    while after is not None:
        page = store.list_page(root, after=after, limit=2)
        keys = [row.key for row in page.objects if row.key != root.marker]
        if keys:
            return keys[0]
        after = page.next_after
    return None


def _source(store: Get, root: Prefix) -> Source | None:
    try:
        data = store.get(root.file(".zattrs"), stop=_MAX_ATTRIBUTES_BYTES).data
    except NotFound:
        return None
    try:
        document: Any = json.loads(data)[SOURCE]
        return Source(str(document["name"]), str(document["sha256"]), str(document["time"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
