"""The part of a bucket under a prefix, as if it were a bucket: `s3://bucket/prefix`.

Adds the prefix to every key on the way down, and takes it off on the way up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.errors import KeyRefused, StoreError
from zarrfuse.store.base import Body, Fetched, Page, Store


class PrefixedStore:
    """What stands outside the prefix is neither shown nor touched."""

    def __init__(self, inner: Store, prefix: Prefix) -> None:
        self._inner = inner
        self._prefix = prefix

    @property
    def describe(self) -> str:
        return f"{self._inner.describe}, under {self._prefix}"

    def close(self) -> None:
        self._inner.close()

    def head(self, key: Key) -> ObjectMeta:
        return self._up(self._inner.head(self._down(key)))

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        fetched = self._inner.get(self._down(key), start=start, stop=stop, if_match=if_match)
        return replace(fetched, meta=self._up(fetched.meta))

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        return self._up(self._inner.put(self._down(key), body, if_absent=if_absent))

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        self._inner.delete(self._down(key), if_match=if_match)

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        kept = self._inner.delete_many([self._down(key) for key in keys])
        return {Key(key.under(self._prefix)): error for key, error in kept.items()}

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        page = self._inner.list_page(
            self._prefix + prefix,
            after=self._prefix + after,  # the prefix's own marker is no row
            delimiter=delimiter,
            limit=limit,
        )
        cut = len(self._prefix)
        return Page(
            objects=tuple(self._up(meta) for meta in page.objects),
            prefixes=tuple(Prefix(row[cut:]) for row in page.prefixes),
            next_after=page.next_after[cut:] if page.next_after is not None else None,
        )

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        return self._up(self._inner.copy(self._down(source), self._down(target), if_match=if_match))

    def _down(self, key: Key) -> Key:
        if not key:
            raise KeyRefused("the empty key names no object")
        return self._prefix.file(key)

    def _up(self, meta: ObjectMeta) -> ObjectMeta:
        return replace(meta, key=Key(meta.key.under(self._prefix)))
