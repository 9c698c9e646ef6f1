"""Signals as exceptions, except where the demo must not be torn out of what it does."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from demo_parts.errors import Interrupted

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread; once is enough."""

    def __init__(self) -> None:
        self._held = 0
        self._pending: int | None = None
        # What is ignored from the start (nohup, a shell's background job) stays ignored.
        self._numbers = [n for n in _NUMBERS if signal.getsignal(n) is not signal.SIG_IGN]
        for number in self._numbers:
            signal.signal(number, self._arrived)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what stands inside finish: a signal that comes meanwhile is raised after it."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._held == 0 and self._pending is not None:
            number, self._pending = self._pending, None
            raise Interrupted(number)

    def end(self) -> None:
        """From here on signals do nothing: only the end of the clean-up ends the demo."""
        # Not SIG_IGN, which the commands of the clean-up would inherit.
        for number in self._numbers:
            signal.signal(number, lambda _number, _frame: None)

    def _arrived(self, number: int, _frame: object) -> None:
        if self._held:
            self._pending = number
            return
        raise Interrupted(number)
