"""A bucket in memory: the reference for what every store does, for tests and for nothing else.

Strict: refuses the keys that no server takes, and checks every condition under its one lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zarrfuse.core.keys import ETag, Key, ObjectMeta, is_key_text
from zarrfuse.errors import AlreadyExists, KeyRefused, NotFound, StoreError, VersionChanged
from zarrfuse.store.base import Body, Fetched, Page
from zarrfuse.store.bodies import md5_of, whole_of
from zarrfuse.store.order import cut_page, roll_up


@dataclass(frozen=True, slots=True)
class _Object:
    meta: ObjectMeta
    data: bytes


class MemoryStore:
    """A dict behind a lock. `clock` gives seconds since the epoch."""

    def __init__(self, *, clock: Callable[[], float] = time.time, name: str = "memory") -> None:
        self._clock = clock
        self._name = name
        self._objects: dict[Key, _Object] = {}
        self._lock = threading.Lock()  # alone; held for dict operations only

    @property
    def describe(self) -> str:
        return self._name

    def close(self) -> None:
        """Nothing to free; the objects stay for who still holds the store."""

    def head(self, key: Key) -> ObjectMeta:
        return self._find(key).meta

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        found = self._find(key)
        _require(found.meta, if_match)
        return Fetched(found.meta, found.data[start:stop])

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        _check(key)
        data = bytes(whole_of(body))
        meta = ObjectMeta(key, len(data), ETag(md5_of(data)), int(self._clock() * 10**9))
        with self._lock:
            if if_absent and key in self._objects:
                raise AlreadyExists(f"{key}: an object of that key exists", status=412)
            self._objects[key] = _Object(meta, data)
        return meta

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        _check(key)
        with self._lock:
            found = self._objects.get(key)
            if found is not None:
                _require(found.meta, if_match)
                del self._objects[key]

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        kept: dict[Key, StoreError] = {}
        for key in keys:
            try:
                self.delete(key)
            except KeyRefused as error:
                kept[key] = error
        return kept

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        with self._lock:
            rows = [found.meta for key, found in self._objects.items() if key.startswith(prefix)]
        objects, prefixes = roll_up(rows, prefix) if delimiter else (rows, [])
        return cut_page(objects, prefixes, after, limit)

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        return self.put(target, self.get(source, if_match=if_match).data)

    def _find(self, key: Key) -> _Object:
        _check(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise NotFound(f"{key}: no such object", status=404)
        return found


def _check(key: Key) -> None:
    if not is_key_text(key):
        raise KeyRefused(f"{key!a}: not UTF-8, empty, or longer than 1024 bytes")


def _require(meta: ObjectMeta, etag: ETag | None) -> None:
    if etag is not None and meta.etag != etag:
        raise VersionChanged(f"{meta.key}: is another version by now", status=412)
