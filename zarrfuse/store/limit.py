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
from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import StoreError, Throttled, Unavailable
from zarrfuse.store.base import Body, Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")

#: Halving goes no lower: with a single place, one long transfer would be all there is.
_FEWEST = 2
#: So many places are added when as many good answers have come as there are places: from 16 to 64
#: in 12 round trips, which at 50 ms are 0.6 s; after a halving, 64 is reached again in 8.
_MORE_PER_ROUND = 4
#: The background has at most this share of the places, so that a program finds one free.
_BACKGROUND_SHARE = 0.75
#: A background request that waits longer stands in line with the programs, one such at a time and
#: within that share: a program may wait for its bytes.
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
    """A request's place, or its wait for one. `overdue` is a background one that has no patience
    left; `cuts` is how often the limit had been halved when the request began."""

    background: bool
    overdue: bool = False
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
        self._lined_up: _Place | None = None  # of the background, in the line of the programs
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
                self._hurry(place)
                place.granted.wait()
        except BaseException:  # Ctrl-C while it waits
            self._give_up(place)
            raise
        return place

    def _give_up(self, place: _Place) -> None:
        with self._lock:
            if not place.granted.is_set():
                is_lined_up = place is self._lined_up
                self._lined_up = None if is_lined_up else self._lined_up
                in_front = is_lined_up or not place.background
                (self._waiting if in_front else self._waiting_background).remove(place)
                self._grant()
                return
        self._leave(place, good=False)

    def _hurry(self, place: _Place) -> None:
        with self._lock:
            place.overdue = True
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
        self._line_up()
        while self._in_flight < int(self._limit):
            if self._waiting:
                place = self._waiting.popleft()
            elif self._waiting_background and self._background_may():
                place = self._waiting_background.popleft()
            else:
                return
            if place is self._lined_up:
                self._lined_up = None
                if not self._background_may():  # the limit was halved meanwhile
                    self._waiting_background.appendleft(place)
                    continue
            self._in_flight += 1
            self._in_flight_background += place.background
            place.cuts = self._cuts
            place.granted.set()
            self._line_up()

    def _line_up(self) -> None:
        """Puts an overdue background place behind the programs that wait, if none is there."""
        first = self._waiting_background[0] if self._waiting_background else None
        if first and first.overdue and self._lined_up is None and self._background_may():
            self._lined_up = self._waiting_background.popleft()
            self._waiting.append(first)

    def _background_may(self) -> bool:
        share = max(1, int(self._limit * _BACKGROUND_SHARE))
        return self._in_flight_background < share


def is_throttling(error: StoreError) -> bool:
    """A 503 counts whatever its words are: the answer to a HEAD has none."""
    return isinstance(error, Throttled) or error.status == 503


def _never(key: Key, body: Body) -> bool:
    return False


class LimitedStore(Wrapper):
    """Goes inside the retries, so that a pause between tries holds no place.

    `in_parts` says which uploads the inner store sends in parts: each part takes a place there,
    and the upload, which may go on for an hour, takes none.
    """

    def __init__(
        self,
        inner: Store,
        limit: RequestLimit,
        *,
        in_parts: Callable[[Key, Body], bool] = _never,
    ) -> None:
        super().__init__(inner)
        self._limit = limit
        self._in_parts = in_parts

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        if self._in_parts(key, body):
            return self._inner.put(key, body, if_absent=if_absent)
        return super().put(key, body, if_absent=if_absent)

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        return self._limit.run(perform)
