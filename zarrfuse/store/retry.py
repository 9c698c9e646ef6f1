"""Trying again, within one budget of time for each operation.

Repeats only what may succeed (Unavailable, Throttled) and only verbs that end the same however
often they are done. Whether a refused "create" was our own earlier try, it finds out by looking.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_exponential,
    wait_random,
)

from zarrfuse.config import MIB, Requests
from zarrfuse.core.keys import Key, ObjectMeta, content_md5
from zarrfuse.errors import AlreadyExists, NotFound, Unavailable, Unreachable
from zarrfuse.store.base import Body, Store
from zarrfuse.store.bodies import md5_of, piece_of, size_of
from zarrfuse.store.wrapper import WRITING, Call, Wrapper

T = TypeVar("T")
Sleep = Callable[[float], None]

#: Two versions are compared in pieces of this size.
_COMPARED_BYTES = 8 * MIB


def retrying(
    requests: Requests,
    sleep: Sleep = time.sleep,
    stop: Callable[[RetryCallState], bool] = stop_never,
) -> Retrying:
    """What repeats a call: doubling pauses with jitter, until the budget is spent or `stop` is so.

    The last error is raised as it came.
    """
    spent = stop_after_delay(requests.budget_s)
    return Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=_pause(requests),
        stop=lambda state: spent(state) or stop(state),
        sleep=sleep,
        reraise=True,
    )


def _pause(requests: Requests) -> Callable[[RetryCallState], float]:
    """Exponential and jittered, or what the server asks for if that is longer; never beyond what
    is left of the budget."""
    doubling = wait_exponential(multiplier=requests.backoff_s, max=requests.backoff_max_s)
    waiting = doubling + wait_random(0, requests.backoff_s)

    def pause(state: RetryCallState) -> float:
        left = requests.budget_s - (state.seconds_since_start or 0.0)
        error = _error_of(state)
        asked_s = (isinstance(error, Unavailable) and error.retry_after_s) or 0.0
        return max(0.0, min(max(waiting(state), asked_s), left))

    return pause


def _error_of(state: RetryCallState) -> BaseException | None:
    """What the try that has just ended failed with."""
    return None if state.outcome is None else state.outcome.exception()


def _never(call: Call) -> bool:
    return False


class RetryingStore(Wrapper):
    """A store whose passing failures are tried again.

    `gives_up` says whether a call whose try has failed need not be tried again.
    """

    def __init__(
        self,
        inner: Store,
        requests: Requests,
        *,
        gives_up: Callable[[Call], bool] = _never,
        sleep: Sleep = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._requests = requests
        self._gives_up = gives_up
        self._sleep = sleep

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        def stop(state: RetryCallState) -> bool:
            return self._gives_up(call) or (call.verb not in WRITING and self._in_vain(state))

        return retrying(self._requests, self._sleep, stop)(perform)

    def _in_vain(self, state: RetryCallState) -> bool:
        """No connection for so long: more patience helps a write, a reader wants to know."""
        spent_s = state.seconds_since_start or 0.0
        return isinstance(_error_of(state), Unreachable) and spent_s >= self._requests.unreachable_s

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        if not if_absent:
            return super().put(key, body)
        tries = _Tries()
        try:
            return retrying(self._requests, self._sleep)(
                lambda: tries.perform(lambda: self._inner.put(key, body, if_absent=True))
            )
        except AlreadyExists:
            if not tries.uncertain:
                raise
            ours = self._ours(key, body)
            if ours is None:
                raise
            return ours

    def _ours(self, key: Key, body: Body) -> ObjectMeta | None:
        """What stands there, if it is what we sent: then an earlier try had succeeded unseen."""
        try:
            meta = self.head(key)
        except NotFound:
            return None
        same = meta.size == size_of(body) and (
            content_md5(meta.etag) == md5_of(body)
            if content_md5(meta.etag)
            else self._same_bytes(meta, body)
        )
        return meta if same else None

    def _same_bytes(self, meta: ObjectMeta, body: Body) -> bool:
        """Compares piece by piece, where the ETag states no content."""
        return all(
            self.get(meta.key, start=start, stop=start + _COMPARED_BYTES, if_match=meta.etag).data
            == piece_of(body, start, start + _COMPARED_BYTES)
            for start in range(0, meta.size, _COMPARED_BYTES)
        )


class _Tries:
    """Remembers whether an earlier try failed without an answer."""

    def __init__(self) -> None:
        self.uncertain = False

    def perform(self, put: Callable[[], T]) -> T:
        try:
            return put()
        except Unavailable:
            self.uncertain = True
            raise
