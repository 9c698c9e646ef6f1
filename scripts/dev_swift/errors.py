"""The one exception of dev-swift: a line for the user and the exit code that goes with it."""

import os


class DevSwiftError(Exception):
    """Something the user can mend; `str()` of it is one line that says what."""

    def __init__(self, message: str, exit_code: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
