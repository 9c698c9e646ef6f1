"""How many requests, errors and bytes, for each verb. Counts; decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from zarrfuse.errors import AlreadyExists, NotFound, StoreError, VersionChanged
from zarrfuse.store.base import Fetched, Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")

#: What a server answers to a question, as against what goes wrong.
ANSWERS = (NotFound, AlreadyExists, VersionChanged)


@dataclass(slots=True)
class _Count:
    requests: int = 0
    errors: int = 0
    bytes: int = 0


class Counters:
    """Sums since the start. Any thread may call."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._lock = threading.Lock()  # alone; held for additions only

    def add(self, verb: str, *, requests: int = 0, errors: int = 0, moved_bytes: int = 0) -> None:
        with self._lock:
            count = self._counts.setdefault(verb, _Count())
            count.requests += requests
            count.errors += errors
            count.bytes += moved_bytes

    def snapshot(self) -> dict[str, dict[str, int]]:
        """{"get": {"requests": 3, "errors": 0, "bytes": 61440}, ...} for the verbs used so far."""
        with self._lock:
            return {verb: asdict(count) for verb, count in sorted(self._counts.items())}


class CountingStore(Wrapper):
    """Adds each request to `counters`. An absent key is an answer, not an error."""

    def __init__(self, inner: Store, counters: Counters) -> None:
        super().__init__(inner)
        self._counters = counters

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        self._counters.add(call.verb, requests=1)
        try:
            result = perform()
        except ANSWERS:
            raise
        except StoreError:
            self._counters.add(call.verb, errors=1)
            raise
        moved = len(result.data) if isinstance(result, Fetched) else call.sent_bytes
        self._counters.add(call.verb, moved_bytes=moved)
        return result
