"""Bytes of exactly one version of an object, or VersionChanged: the only door to the bucket.

Knows ETags and the one known case in which a listing and a HEAD name the same version differently:
Swift lists a copied multipart object with the MD5 of its bytes, but a HEAD, and If-Match, want the
multipart form. Caches nothing but that.
"""

from __future__ import annotations

import threading
from typing import Protocol

from cachetools import LRUCache

from zarrfuse.core.keys import ETag, Key, ObjectMeta, is_other_form
from zarrfuse.errors import NotFound, VersionChanged
from zarrfuse.store.base import Fetched, Get, Head

#: Versions whose right ETag is remembered; one that is forgotten costs a HEAD at worst.
_REMEMBERED = 4096
_SECOND_NS = 1_000_000_000


_Version = tuple[Key, ETag, int]


class Source(Get, Head, Protocol):
    """What reading needs of a store."""


class VersionedGet:
    """Reads ranges of the version that an ObjectMeta names.

    The first successful GET of a version settles the ETag that the server takes for it; a 412 after
    that is a change, and is never explained away. A version is (key, ETag, second) here: the same
    bytes written again, as one part, may be known by the very MD5 that a copy was listed with.
    The lock is a leaf.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._settled: LRUCache[_Version, ETag] = LRUCache(_REMEMBERED)

    def get(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        """The bytes [start, stop), which must lie inside the object.

        VersionChanged where the version is gone, deleted, or the answer is not wholly of it.
        """
        settled = self._settled_etag(meta)
        etag = settled or meta.etag
        try:
            fetched = self._ask(meta.key, start, stop, etag)
        except VersionChanged:
            if settled is not None:
                raise
            etag = self._other_form(meta)
            fetched = self._ask(meta.key, start, stop, etag)
        _check(fetched, meta, etag, stop - start)
        self._settle(meta, etag)
        return fetched.data

    def published(self, meta: ObjectMeta) -> None:
        """The version is known to be the bucket's, by the answer to a PUT."""
        with self._lock:
            self._settled[_version(meta)] = meta.etag

    def _settle(self, meta: ObjectMeta, etag: ETag) -> None:
        with self._lock:
            settled = self._settled.setdefault(_version(meta), etag)
        if settled != etag:
            raise VersionChanged(f"{meta.key}: two versions are listed with the ETag {meta.etag}")

    def _settled_etag(self, meta: ObjectMeta) -> ETag | None:
        with self._lock:
            return self._settled.get(_version(meta))

    def _ask(self, key: Key, start: int, stop: int, etag: ETag) -> Fetched:
        try:
            return self._source.get(key, start=start, stop=stop, if_match=etag)
        except NotFound as error:
            raise VersionChanged(
                f"{key}: the version {etag} is gone, with its object",
                status=error.status,
                request_id=error.request_id,
            ) from error

    def _other_form(self, meta: ObjectMeta) -> ETag:
        """The ETag that HEAD has for the same version, else VersionChanged."""
        try:
            head = self._source.head(meta.key)
        except NotFound as error:
            raise VersionChanged(f"{meta.key}: the object is gone") from error
        if not is_other_form(meta, head):
            raise VersionChanged(f"{meta.key}: {meta.etag} was replaced by {head.etag}", status=412)
        return head.etag


def _version(meta: ObjectMeta) -> _Version:
    return meta.key, meta.etag, meta.modified_ns // _SECOND_NS


def _check(fetched: Fetched, meta: ObjectMeta, etag: ETag, wanted: int) -> None:
    """Whether the answer is what was asked for, whatever the server makes of If-Match."""
    answer = fetched.meta
    if (answer.etag, answer.size, len(fetched.data)) != (etag, meta.size, wanted):
        raise VersionChanged(
            f"{meta.key}: asked for {wanted} bytes of {etag} ({meta.size} bytes), got "
            f"{len(fetched.data)} of {answer.etag} ({answer.size} bytes)"
        )
