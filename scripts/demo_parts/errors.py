"""How the demo ends early. Each is one line for the person who started it."""

import signal


class DemoError(Exception):
    """Something went wrong; `str()` of it says what, and what to do."""


class Interrupted(Exception):
    """A signal asked the demo to end. Raised wherever the demo stands at that moment."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
