"""A daemon whose bucket fails as the test says: the real command with faults put under its store.

Run as `python -m tests.support.faulty_daemon FAULT mount ...`; everything else is the product's.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import zarrfuse.daemon
from zarrfuse.cli.main import main
from zarrfuse.store.base import Store
from zarrfuse.store.open import open_checked
from zarrfuse.store.wrapper import Call, Wrapper

T = TypeVar("T")


class _Faulty(Wrapper):
    """Raises `error()` for every GET (of `odd`: for every second one), as no adapter should."""

    def __init__(self, inner: Store, error: Callable[[], BaseException], every: int) -> None:
        super().__init__(inner)
        self._error = error
        self._every = every
        self._count = itertools.count()

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        if call.verb == "get" and next(self._count) % self._every == 0:
            raise self._error()
        return perform()


class _HungAhead(Wrapper):
    """Never answers a GET that nobody waits for, and says so in the log."""

    def _call(self, call: Call, perform: Callable[[], T]) -> T:
        if call.verb == "get" and threading.current_thread().name.startswith("prefetch"):
            print("fetching ahead hangs", file=sys.stderr, flush=True)
            threading.Event().wait()
        return perform()


FAULTS: dict[str, Callable[[Store], Store]] = {
    "socket-timeout": lambda store: _Faulty(store, lambda: TimeoutError("timed out"), 1),
    "second-socket-timeout": lambda store: _Faulty(store, lambda: TimeoutError("timed out"), 2),
    "no-errno": lambda store: _Faulty(store, lambda: OSError("no errno in it"), 1),
    "system-exit": lambda store: _Faulty(store, lambda: SystemExit(3), 1),
    "hung-ahead": _HungAhead,
    "defect": lambda store: _Faulty(store, lambda: ZeroDivisionError("a defect"), 1),
}


def run() -> None:
    fault = FAULTS[sys.argv.pop(1)]

    def faulty(*args: Any, **how: Any) -> Store:
        return fault(open_checked(*args, **how))

    zarrfuse.daemon.open_checked = faulty
    main()


if __name__ == "__main__":
    run()
