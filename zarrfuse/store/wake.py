"""After a jump of the clock, a laptop's sleep most often, the connections are made anew.

Owns the noticing; who owns connections replaces them. Servers, routers and firewalls have dropped
them meanwhile without a word to us, and each would cost a request its time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from zarrfuse.store.base import Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Issue 3: after less than this nobody has dropped a connection.
_JUMP_S = 30.0


def clock_offset_s() -> float:
    """The wall clock less the monotonic one, which stands still while the machine sleeps.

    One difference for both causes: a sleep moves the first alone, and so does setting the clock.
    NTP's slewing moves both.
    """
    return time.time() - time.monotonic()


class WakingStore(Wrapper):
    """Calls `renew` before the first request after a jump; requests that come meanwhile wait.

    `_lock` is held over `renew`, which makes no request. Goes inside the retries.
    """

    def __init__(
        self,
        inner: Store,
        renew: Callable[[], None],
        offset_s: Callable[[], float] = clock_offset_s,
    ) -> None:
        super().__init__(inner)
        self._renew = renew
        self._offset_s = offset_s
        self._lock = threading.Lock()
        self._known_s = offset_s()

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        if self._jumped():
            with self._lock:
                if self._jumped():
                    jump_s = self._offset_s() - self._known_s
                    self._renew()
                    self._known_s += jump_s
                    log.info("the clock jumped: new connections", jump_s=round(jump_s))
        return perform()

    def _jumped(self) -> bool:
        return abs(self._offset_s() - self._known_s) > _JUMP_S
