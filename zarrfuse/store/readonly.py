"""A bucket that may only be read: whatever would change it is refused before any request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zarrfuse.errors import ReadOnly
from zarrfuse.store.wrapper import WRITING, Call, Wrapper

T = TypeVar("T")


class ReadOnlyStore(Wrapper):
    """Raises ReadOnly (EROFS) for put, copy and delete."""

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        if call.verb in WRITING:
            raise ReadOnly(f"{call.key}: {self.describe} is mounted read-only")
        return perform()
