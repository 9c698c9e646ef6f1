"""Every request in the log at debug; failures as warnings, once for each cause and minute.

Writes verbs, keys, sizes, times, statuses and request ids, and nothing else of a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from zarrfuse.errors import StoreError
from zarrfuse.store.base import Fetched, Store
from zarrfuse.store.counters import ANSWERS
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")

#: The same failure is a warning once in this time; a dead server would else fill the log.
_QUIET_S = 60.0


class LoggingStore(Wrapper):
    """`clock` gives seconds, monotonic."""

    def __init__(
        self, inner: Store, *, log: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        self._log = structlog.get_logger("zarrfuse.store") if log is None else log
        self._clock = clock
        self._warnings = _Seldom(_QUIET_S, clock)

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        begun = self._clock()
        try:
            result = perform()
        except StoreError as error:
            self._failed(call, error, begun)
            raise
        moved = len(result.data) if isinstance(result, Fetched) else call.sent_bytes
        self._log.debug(
            "request", verb=call.verb, key=call.key, ms=self._ms(begun), bytes=moved, status="ok"
        )
        return result

    def _failed(self, call: Call, error: StoreError, begun: float) -> None:
        kind = type(error).__name__
        answer = isinstance(error, ANSWERS)
        loud = not answer and self._warnings.may((call.verb, kind, error.status))
        (self._log.warning if loud else self._log.debug)(
            "request answered" if answer else "request failed",
            verb=call.verb,
            key=call.key,
            ms=self._ms(begun),
            status=error.status,
            kind=kind,
            request_id=error.request_id,
            error=str(error),
        )

    def _ms(self, begun: float) -> float:
        return round((self._clock() - begun) * 1000, 1)


class _Seldom:
    """Says yes to the same cause once in `quiet_s`."""

    def __init__(self, quiet_s: float, clock: Callable[[], float]) -> None:
        self._quiet_s = quiet_s
        self._clock = clock
        self._last: dict[object, float] = {}
        self._lock = threading.Lock()  # alone; held for dict operations only

    def may(self, cause: object) -> bool:
        now = self._clock()
        with self._lock:
            last = self._last.get(cause)
            if last is not None and now - last < self._quiet_s:
                return False
            self._last[cause] = now
            return True
