"""Where zarrfuse keeps things on this machine, after the XDG base directory specification.

Answers paths; makes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """Disposable: blocks of objects."""
    return _base("XDG_CACHE_HOME", ".cache") / "zarrfuse"


def state_home() -> Path:
    """Precious: spools and logs."""
    return _base("XDG_STATE_HOME", ".local/state") / "zarrfuse"


def _base(variable: str, below_home: str) -> Path:
    """The specification has relative paths ignored."""
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else Path.home() / below_home
