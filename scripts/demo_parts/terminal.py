"""What the demo shows: numbered steps, commands as typed, what they said. Knows no step."""

import os
import sys
import time
from collections.abc import Sequence

_INDENT = "     "
_BOLD, _DIM, _GREEN, _RED, _CYAN = "1", "2", "32", "31", "36"


class Terminal:
    """Prints at once, line by line; in colours where standard output is a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._started = time.monotonic()
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def step(self, title: str) -> None:
        """The next numbered step begins."""
        self._step += 1
        self._begin(f"{self._step}/{self._steps}", title)

    def ending(self, title: str) -> None:
        """What comes after the steps, however far they came."""
        self._begin("   ", title)

    def command(self, words: str) -> None:
        """What the user would type, shown before it runs."""
        self._say(self._painted(_CYAN, f"$ {words}"))

    def output(self, lines: Sequence[str]) -> None:
        """What a command printed."""
        for line in lines:
            self._say(f"  {line}")

    def good(self, line: str) -> None:
        self._say(self._painted(_GREEN, line))

    def plain(self, line: str = "") -> None:
        print(line, flush=True)

    def error(self, line: str) -> None:
        """To standard error, after all that was shown before it."""
        sys.stdout.flush()
        print(self._painted(_RED, f"demo: {line}"), file=sys.stderr, flush=True)

    def _begin(self, number: str, title: str) -> None:
        at = self._painted(_DIM, f"[{self.elapsed_s:4.1f} s]")
        print(f"\n{number}  {self._painted(_BOLD, title)}  {at}", flush=True)

    def _say(self, line: str) -> None:
        print(f"{_INDENT}{line}".rstrip(), flush=True)

    def _painted(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text
