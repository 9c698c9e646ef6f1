"""One fetch for many readers: whoever asks first does the work, the others wait for its result.

Knows no blocks and no bucket. The lock guards the table of flights and is never held while
anybody works or waits. A claim finishes its own flights before it waits for those of others, so
two claims can never wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Claim(Generic[K, V]):
    """What one caller has to bring (`mine`) and what others are bringing already (`theirs`)."""

    def __init__(self, owner: SingleFlight[K, V], keys: Iterable[K]) -> None:
        self._owner = owner
        self.mine: dict[K, Future[V]] = {}
        self.theirs: dict[K, Future[V]] = {}
        for key in keys:
            flight, is_mine = owner._join(key)
            (self.mine if is_mine else self.theirs).setdefault(key, flight)

    def land(self, key: K, value: V) -> None:
        """Hands `value` to all who wait for `key`. Later callers start anew: keep it before."""
        self._owner._leave(key)
        self.mine[key].set_result(value)

    def crash(self, error: BaseException) -> None:
        """Hands `error` to all who wait for what has not landed."""
        for key, flight in self.mine.items():
            if not flight.done():
                self._owner._leave(key)
                flight.set_exception(error)

    def results(self) -> dict[K, V]:
        """Everything claimed, once the others have landed too; raises what they raised."""
        return {key: flight.result() for key, flight in (self.mine | self.theirs).items()}


class SingleFlight(Generic[K, V]):
    """The table of flights."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[V]] = {}

    @contextmanager
    def claim(self, keys: Iterable[K]) -> Iterator[Claim[K, V]]:
        """In the body, `land` each of `mine`. An exception reaches everybody who waits."""
        claim = Claim(self, keys)
        try:
            yield claim
        except BaseException as error:
            claim.crash(error)
            raise
        claim.crash(RuntimeError("a claimed key was never landed"))

    def is_open(self, key: K) -> bool:
        """Whether somebody brings it at this moment."""
        with self._lock:
            return key in self._flights

    def _join(self, key: K) -> tuple[Future[V], bool]:
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            return flight, True

    def _leave(self, key: K) -> None:
        with self._lock:
            del self._flights[key]
