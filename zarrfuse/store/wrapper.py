"""A store around a store: every verb goes through one hook, which a wrapper overrides.

Knows no behaviour of its own. A wrapper sees what is asked (`Call`) and a thunk that performs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.errors import StoreError
from zarrfuse.store.base import Body, Fetched, Page, Store
from zarrfuse.store.bodies import size_of

T = TypeVar("T")

#: The verbs that change the bucket.
WRITING = frozenset({"put", "delete", "delete_many", "copy"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb; `key` is the prefix for a listing and the target for a copy."""

    verb: str
    key: str
    sent_bytes: int = 0


class Wrapper:
    """Passes everything on. Subclasses override `_call`, or a verb where they must."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        return perform()

    def head(self, key: Key) -> ObjectMeta:
        return self._call(Call("head", key), lambda: self._inner.head(key))

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        return self._call(
            Call("get", key),
            lambda: self._inner.get(key, start=start, stop=stop, if_match=if_match),
        )

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        return self._call(
            Call("put", key, size_of(body)),
            lambda: self._inner.put(key, body, if_absent=if_absent),
        )

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        return self._call(Call("delete", key), lambda: self._inner.delete(key, if_match=if_match))

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        first = keys[0] if keys else ""
        return self._call(Call("delete_many", first), lambda: self._inner.delete_many(keys))

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        return self._call(
            Call("list_page", prefix),
            lambda: self._inner.list_page(prefix, after=after, delimiter=delimiter, limit=limit),
        )

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        return self._call(
            Call("copy", target), lambda: self._inner.copy(source, target, if_match=if_match)
        )

    @property
    def describe(self) -> str:
        return self._inner.describe

    def close(self) -> None:
        self._inner.close()
