"""A bucket of versions for the caching reader, identities of blocks, a cache without a queue."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace

from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.format import BlockId
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.errors import NotFound, VersionChanged
from zarrfuse.store.base import Fetched

SECOND_NS = 1_000_000_000


def block_id(number: int, size: int = 1000, *, key: str = "a/0.0") -> BlockId:
    return BlockId("http://s3/bucket", Key(key), ETag("e1"), number * size, (number + 1) * size)


class DrainedCache(BlockCache):
    """A disk tier that has written a block when `put` returns, for tests that look at files."""

    def put(self, block: BlockId, data: bytes) -> bool:
        taken = super().put(block, data)
        self.drain()
        return taken and self._files.exists(block.name)


class VersionBucket:
    """Get and Head over objects that tests overwrite; remembers each request.

    `before_answer` runs inside a GET, outside of any lock; `spoil` may change an answer.
    """

    def __init__(self) -> None:
        self._objects: dict[Key, tuple[ObjectMeta, bytes]] = {}
        self._lock = threading.Lock()
        self.gets: list[tuple[Key, int, int | None]] = []
        self.heads: list[Key] = []
        self.before_answer: Callable[[Key], None] = lambda key: None
        self.spoil: Callable[[Fetched], Fetched] = lambda fetched: fetched

    def write(
        self, key: str, data: bytes, *, etag: str | None = None, at_ns: int = 5 * SECOND_NS
    ) -> ObjectMeta:
        """What a HEAD says afterwards; the ETag is the MD5 unless given."""
        text = ETag(etag or hashlib.md5(data).hexdigest())
        meta = ObjectMeta(Key(key), len(data), text, at_ns)
        with self._lock:
            self._objects[meta.key] = (meta, data)
        return meta

    def write_copied_multipart(self, key: str, data: bytes, salt: str = "") -> ObjectMeta:
        """What a LIST says afterwards: the MD5, which no GET will match."""
        digest = hashlib.md5(salt.encode() + data).hexdigest()
        head = self.write(key, data, etag=f"{digest}-2")
        return replace(head, etag=ETag(hashlib.md5(data).hexdigest()))

    def remove(self, key: str) -> None:
        with self._lock:
            del self._objects[Key(key)]

    def head(self, key: Key) -> ObjectMeta:
        self.heads.append(key)
        return self._find(key)[0]

    def get(
        self, key: Key, *, start: int = 0, stop: int | None = None, if_match: ETag | None = None
    ) -> Fetched:
        with self._lock:
            self.gets.append((key, start, stop))
        self.before_answer(key)
        meta, data = self._find(key)
        if if_match is not None and if_match != meta.etag:
            raise VersionChanged(f"{key}: 412", status=412)
        return self.spoil(Fetched(meta, data[start:stop]))

    def _find(self, key: Key) -> tuple[ObjectMeta, bytes]:
        with self._lock:
            if key not in self._objects:
                raise NotFound(f"{key}: 404", status=404)
            return self._objects[key]
