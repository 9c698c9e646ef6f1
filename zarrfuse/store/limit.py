"""At most so many requests in flight, as many as the server bears; background ones stand back.

The limit grows while all its places are taken and answers are good, and is halved when the server
asks for fewer requests (additive increase, multiplicative decrease, as in TCP). Knows nothing of
what is asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from zarrfuse.config import Requests
from zarrfuse.errors import StoreError, Throttled, Unavailable
from zarrfuse.store.base import Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")

#: Halving goes no lower: with a single place, one long transfer would be all there is.
_FEWEST = 2
#: So many places are added when as many good answers have come as there are places: from 16 to 64
#: in 12 round trips, which at 50 ms are 0.6 s; after a halving, 64 is reached again in 8.
_MORE_PER_ROUND = 4
#: The background has at most this share of the places, so that a program finds one free.
_BACKGROUND_SHARE = 0.75
#: A background request that waits longer counts as any other: a program may wait for its bytes.
_PATIENCE_S = 1.0

_background: ContextVar[bool] = ContextVar("zarrfuse_background", default=False)


@contextmanager
def in_background() -> Iterator[None]:
    """What this thread asks for inside goes behind what programs ask for: prefetch, warming."""
    token = _background.set(True)
    try:
        yield
    finally:
        _background.reset(token)


@dataclass(eq=False, slots=True)
class _Place:
    """A request's place, or its wait for one. `cuts` is how often the limit had been halved when
    the request began."""

    background: bool
    granted: threading.Event = field(default_factory=threading.Event)
    cuts: int = 0


class RequestLimit:
    """The places of one daemon. Thread-safe; `_lock` is a leaf, and nobody waits under it."""

    def __init__(self, requests: Requests, *, patience_s: float = _PATIENCE_S) -> None:
        self._most = requests.most_at_once
        self._fewest = min(_FEWEST, requests.at_once)
        self._limit = float(requests.at_once)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._waiting: deque[_Place] = deque()
        self._waiting_background: deque[_Place] = deque()
        self._in_flight = 0
        self._in_flight_background = 0
        self._cuts = 0
        self._throttled = 0

    def run(self, perform: Callable[[], T]) -> T:
        """Performs it when there is a place, and learns from how it was answered."""
        place = self._enter(_Place(_background.get()))
        good = False
        try:
            result = perform()
            good = True
            return result
        except StoreError as error:
            good = not isinstance(error, Unavailable)  # an absent key is a good answer
            if is_throttling(error):
                self._shrink(place)
            raise
        finally:
            self._leave(place, good=good)

    def snapshot(self) -> dict[str, int]:
        """For the status report."""
        with self._lock:
            return {
                "limit": int(self._limit),
                "in_flight": self._in_flight,
                "waiting": len(self._waiting) + len(self._waiting_background),
                "throttled": self._throttled,
            }

    def _enter(self, place: _Place) -> _Place:
        with self._lock:
            (self._waiting_background if place.background else self._waiting).append(place)
            self._grant()
        try:
            if not place.granted.wait(self._patience_s if place.background else None):
                self._promote(place)
                place.granted.wait()
        except BaseException:  # Ctrl-C while it waits
            self._give_up(place)
            raise
        return place

    def _give_up(self, place: _Place) -> None:
        with self._lock:
            if not place.granted.is_set():
                (self._waiting_background if place.background else self._waiting).remove(place)
                return
        self._leave(place, good=False)

    def _promote(self, place: _Place) -> None:
        with self._lock:
            if not place.granted.is_set():
                self._waiting_background.remove(place)
                place.background = False
                self._waiting.append(place)
                self._grant()

    def _leave(self, place: _Place, *, good: bool) -> None:
        with self._lock:
            crowded = bool(self._waiting or self._waiting_background)
            if good and crowded and place.cuts == self._cuts:
                self._limit = min(self._most, self._limit + _MORE_PER_ROUND / self._limit)
            self._in_flight -= 1
            self._in_flight_background -= place.background
            self._grant()

    def _shrink(self, place: _Place) -> None:
        """Halves the limit, unless that was done since the request began: a server that has too
        much answers so to all that is in flight."""
        with self._lock:
            self._throttled += 1
            if place.cuts == self._cuts:
                self._cuts += 1
                self._limit = max(self._fewest, self._limit / 2)

    def _grant(self) -> None:
        """Gives free places away, under the lock: programs first, each in the order of coming."""
        while self._in_flight < int(self._limit):
            if self._waiting:
                place = self._waiting.popleft()
            elif self._waiting_background and self._in_flight_background < self._share():
                place = self._waiting_background.popleft()
            else:
                return
            self._in_flight += 1
            self._in_flight_background += place.background
            place.cuts = self._cuts
            place.granted.set()

    def _share(self) -> int:
        return max(1, int(self._limit * _BACKGROUND_SHARE))


def is_throttling(error: StoreError) -> bool:
    """A 503 counts whatever its words are: the answer to a HEAD has none."""
    return isinstance(error, Throttled) or error.status == 503


class LimitedStore(Wrapper):
    """Goes inside the retries, so that a pause between tries holds no place."""

    def __init__(self, inner: Store, limit: RequestLimit) -> None:
        super().__init__(inner)
        self._limit = limit

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        return self._limit.run(perform)
