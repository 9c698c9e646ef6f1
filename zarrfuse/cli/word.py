"""The one word a daemon says to the command that started it: live, or why not."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict


class Word(BaseModel):
    """`error` "" = the mount is live; else one line for the user, with the exit `code`."""

    model_config = ConfigDict(frozen=True)

    pid: int = 0
    notes: list[str] = []
    error: str = ""
    code: int = 0


class Listener:
    """Whoever waits at a pipe for the first word; what is said after it nobody hears."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def say(self, word: Word) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with os.fdopen(fd, "wb") as pipe:
                pipe.write(word.model_dump_json().encode())


def read_word(fd: int) -> Word | None:
    """Waits for it; None if the daemon ended without a word."""
    with os.fdopen(fd, "rb") as pipe:
        text = pipe.read()
    return Word.model_validate_json(text) if text else None
