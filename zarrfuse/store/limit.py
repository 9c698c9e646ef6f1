"""At most so many requests in flight. Waits its turn; knows nothing of what is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from zarrfuse.store.base import Store
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")


class LimitedStore(Wrapper):
    """Goes inside the retries, so that a pause between tries holds no place."""

    def __init__(self, inner: Store, at_once: int) -> None:
        super().__init__(inner)
        self._places = threading.BoundedSemaphore(at_once)

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        with self._places:
            return perform()
