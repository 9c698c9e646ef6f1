"""A cap on bytes per second: when the next bytes may be asked for. Decides; it never waits."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """`bytes_per_s` None: no cap. For one thread. `clock` in seconds."""

    def __init__(
        self, bytes_per_s: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at = clock()

    def pause_s(self) -> float:
        """For how long nothing more may be asked for; 0: now."""
        return max(0.0, self._free_at - self._clock())

    def take(self, count: int) -> None:
        """So many bytes are asked for now. A pause that came of itself is not made up for."""
        if self._bytes_per_s is not None:
            self._free_at = max(self._free_at, self._clock()) + count / self._bytes_per_s
