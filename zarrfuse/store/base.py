"""One bucket, behind the narrowest protocol that serves: a verb each, and nothing of any client.

Adapters (s3, fsspec, memory) implement it; wrappers (retry, log, limit, read-only, faults) have it
on both sides. A function that only reads asks for `Get`, not for the store. All calls may come
from any thread. Errors are those of zarrfuse.errors under StoreError, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.errors import StoreError

#: What a PUT sends: bytes in memory, or the path of a local file that nobody changes meanwhile.
Body = bytes | Path


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a GET: the bytes asked for, and the version of the object they are from.

    `meta.size` is the size of the whole object, not of `data`.
    """

    meta: ObjectMeta
    data: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the order of the keys' UTF-8 bytes.

    `objects` and `prefixes` are each sorted; with a delimiter, an object and a prefix may share a
    name. `next_after` is what to pass as `after` for the page that follows, None after the last.
    """

    objects: tuple[ObjectMeta, ...]
    prefixes: tuple[Prefix, ...]
    next_after: str | None


class Head(Protocol):
    def head(self, key: Key) -> ObjectMeta:
        """Size, ETag and time of one object. NotFound where there is none."""
        ...


class Get(Protocol):
    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        """The bytes [start, stop) of one version; shorter, or empty, past the object's end.

        `stop` None means to the end. With `if_match`, bytes of that version or VersionChanged
        (also where the object is gone: NotFound is allowed there).
        """
        ...


class Put(Protocol):
    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        """Makes `body` the object `key`, whole or not at all, and answers what now stands there.

        With `if_absent`, AlreadyExists where an object of that key exists.
        """
        ...


class Delete(Protocol):
    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Removes one object. A key that is not there is no error.

        With `if_match`, VersionChanged where another version stands there.
        """
        ...


class DeleteMany(Protocol):
    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        """Removes objects in as few requests as the server allows; answers those that it kept.

        A key that is not there is no error. Raises only what concerns the bucket as a whole.
        """
        ...


class ListPages(Protocol):
    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        """The first rows that begin with `prefix` and are greater than `after`.

        With `delimiter`, keys with a further "/" are rolled up into `prefixes`; such a row stands
        in the order where its own text stands, so `after` = "a/" (or "a/x") leaves out "a/". At
        most `limit` rows, and never more than the server's own page; a page may be empty and not
        be the last.
        """
        ...


class Copy(Protocol):
    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        """Copies within the bucket, without the bytes passing through here.

        With `if_match`, VersionChanged where the source is another version.
        """
        ...


class Store(Head, Get, Put, Delete, DeleteMany, ListPages, Copy, Protocol):
    """All verbs. `describe` is the bucket as its user knows it, without secrets."""

    @property
    def describe(self) -> str: ...

    def close(self) -> None:
        """Frees connections. No call may follow."""
        ...


def list_all(store: ListPages, prefix: Prefix | str) -> Sequence[ObjectMeta]:
    """Every object under `prefix`, page after page, sorted by key."""
    rows: list[ObjectMeta] = []
    after: str | None = ""
    while after is not None:
        page = store.list_page(prefix, after=after)
        rows.extend(page.objects)
        after = page.next_after
    return rows


def delete_each(store: Delete, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
    """DeleteMany for a store that has no request for it: one after the other."""
    kept: dict[Key, StoreError] = {}
    for key in keys:
        try:
            store.delete(key)
        except StoreError as error:
            kept[key] = error
    return kept
