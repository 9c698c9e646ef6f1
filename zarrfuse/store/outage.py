"""While nobody answers, reads fail at once instead of each waiting for a budget of its own.

Owns the knowledge that the bucket is offline: since when, why, and when to look again. Retries ask
it whether to go on; what is known without the bucket is for those above, who get `Offline`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from zarrfuse.errors import (
    KeyRefused,
    Offline,
    RequestRejected,
    StoreError,
    Throttled,
    Unavailable,
    Unreachable,
)
from zarrfuse.store.base import ListPages, Store
from zarrfuse.store.wrapper import WRITING, Call, Wrapper

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: What a gateway answers when nobody is behind it.
_GATEWAY = {502, 503, 504}
#: A caller waits so long for a look at a silent bucket; the look goes on, up to its own time-outs.
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Silence:
    """An outage that goes on: since when (UTC), and the words of the error that showed it."""

    since: datetime
    reason: str


class Outage:
    """Whether a bucket is offline. Thread-safe; `_lock` is a leaf. `clock`: seconds, monotonic."""

    def __init__(self, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s = retry_s
        self._clock = clock
        self._lock = threading.Lock()
        self._silence: Silence | None = None
        self._look_at = 0.0
        self._answered_at = float("-inf")

    @property
    def silence(self) -> Silence | None:
        with self._lock:
            return self._silence

    def now(self) -> float:
        return self._clock()

    def gives_up(self, call: Call) -> bool:
        """Whether a further try of this call is pointless; a write has its whole budget."""
        return call.verb not in WRITING and self.silence is not None

    def admit(self) -> bool:
        """True while the bucket answers. False for one call in `retry_s`, which goes to see whether
        the outage is over; Offline for all others."""
        with self._lock:
            silence, now = self._silence, self._clock()
            if silence is None:
                return True
            if now >= self._look_at:
                self._look_at = now + self._retry_s
                return False
        raise Offline(silence.reason)

    def answered_since(self, moment: float) -> bool:
        with self._lock:
            return self._answered_at >= moment

    def unanswered(self, reason: str) -> None:
        """The bucket is offline, or is so still."""
        with self._lock:
            begins = self._silence is None
            self._silence = self._silence or Silence(datetime.now(UTC), reason)
            self._look_at = self._clock() + self._retry_s
        if begins:
            log.warning("the bucket is offline", reason=reason)

    def answered(self) -> None:
        with self._lock:
            ended, self._silence = self._silence, None
            self._answered_at = self._clock()
        if ended is not None:
            log.info("the bucket is back", offline_since=ended.since.isoformat())


class OutageStore(Wrapper):
    """Goes outside the retries. `once` is the same store without them: one look, one try."""

    def __init__(self, inner: Store, outage: Outage, once: ListPages) -> None:
        super().__init__(inner)
        self._outage = outage
        self._once = once

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        if call.verb in WRITING or self._outage.admit():
            return self._perform(call, perform)
        look = _started(lambda: self._perform(call, perform, is_look=True))
        if not wait([look], _LOOK_S).done:
            raise Offline(f"no answer within {_LOOK_S:g} s from a bucket that is silent already")
        return look.result()

    def _perform(self, call: Call, perform: Callable[[], T], *, is_look: bool = False) -> T:
        begun = self._outage.now()
        try:
            result = perform()
        except StoreError as error:
            if is_answer(error):
                self._outage.answered()
            elif (
                is_silence(error)
                and call.verb not in WRITING
                and self._nobody_answers(error, begun, is_look=is_look)
            ):
                self._outage.unanswered(str(error))
                raise Offline(str(error), status=error.status) from error
            raise
        self._outage.answered()
        return result

    def _nobody_answers(self, error: StoreError, begun: float, *, is_look: bool) -> bool:
        """Whether it is the bucket that is silent, and not this object alone: one whose copies
        are all broken never answers either, and may be all that a program asks for."""
        if self._outage.silence is not None and not is_look:
            return True
        if not isinstance(error, Unreachable) and not self._outage.answered_since(begun):
            wait([_started(self._look)], _LOOK_S)
        return not self._outage.answered_since(begun)

    def _look(self) -> None:
        try:
            self._once.list_page("", limit=1)
        except StoreError as error:
            if not is_answer(error):
                return
        self._outage.answered()


def _started(perform: Callable[[], T]) -> Future[T]:
    """Performs it on a thread of its own, whose end nobody need wait for."""
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(perform))
        except BaseException as error:  # noqa: BLE001 (raised by who asks for the result)
            future.set_exception(error)

    threading.Thread(target=run, name="look", daemon=True).start()
    return future


def is_silence(error: StoreError) -> bool:
    """Whether nobody answered; being asked for fewer requests is an answer."""
    if isinstance(error, Throttled) or not isinstance(error, Unavailable):
        return False
    return error.status is None or error.status in _GATEWAY


def is_answer(error: StoreError) -> bool:
    """Whether the bucket said so; a key that no server takes is refused without asking one."""
    if isinstance(error, KeyRefused | RequestRejected) and error.status is None:
        return False
    return not is_silence(error)
