"""A store that fails when it is told to, for tests: before or after the verb took effect.

Counts calls from 1 and writes down each, so that a test can fail the n-th request for every n.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from zarrfuse.errors import StoreError
from zarrfuse.store.base import Fetched, Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the `at`-th call of `verb` (None: of any), and, if so, to all after it.

    With `after_effect` the verb is performed and its answer lost. With `tear_to` there is no
    error, but a GET's data is cut to so many bytes.
    """

    at: int
    error: StoreError | None = None
    verb: str | None = None
    and_all_after: bool = False
    after_effect: bool = False
    tear_to: int | None = None

    def hits(self, verb: str, number_of_verb: int, number: int) -> bool:
        if self.verb not in (None, verb):
            return False
        counted = number if self.verb is None else number_of_verb
        return counted == self.at or (self.and_all_after and counted > self.at)


class FaultyStore(Wrapper):
    """`calls` is everything that was asked, in order."""

    def __init__(self, inner: Store, plan: Sequence[Fault] = ()) -> None:
        super().__init__(inner)
        self.plan = list(plan)
        self.calls: list[Call] = []
        self._lock = threading.Lock()  # alone; held to count only

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        fault = self._next_fault(call)
        if fault is None:
            return perform()
        if fault.error is not None and not fault.after_effect:
            raise fault.error
        result = perform()
        if fault.error is not None:
            raise fault.error
        return _torn(result, fault.tear_to)

    def _next_fault(self, call: Call) -> Fault | None:
        with self._lock:
            self.calls.append(call)
            of_verb = sum(1 for earlier in self.calls if earlier.verb == call.verb)
            hit = (f for f in self.plan if f.hits(call.verb, of_verb, len(self.calls)))
            return next(hit, None)


def _torn(result: T, length: int | None) -> T:
    if isinstance(result, Fetched) and length is not None:
        return cast("T", replace(result, data=result.data[:length]))
    return result
