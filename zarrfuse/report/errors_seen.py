"""The last errors, for status: what was tried, what went wrong, when."""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime

from zarrfuse.report.status import LastError

_KEPT = 20


class ErrorsSeen:
    """Thread-safe; keeps the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: deque[LastError] = deque(maxlen=_KEPT)

    def note(self, what: str, error: Exception) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock:
            self._errors.append(LastError(when=when, what=what, error=str(error)))

    def all(self) -> list[LastError]:
        with self._lock:
            return list(self._errors)
