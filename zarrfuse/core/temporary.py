"""Names that programs give to files they will rename: only the final name reaches the bucket.

Pure. The patterns come from traces of the programs named beside them (docs/SEMANTICS.md lists
them for users).
"""

from __future__ import annotations

import re
from enum import Enum


class Temporary(Enum):
    """How sure it is that a file will be renamed, linked or removed under another name."""

    CERTAIN = "certain"  # never published under this name
    LIKELY = "likely"  # published under its own name only if nobody renames it in time


_CERTAIN = re.compile(
    r"""
    .*\.[0-9a-f]{32}\.partial      # zarr-python 2 and 3, LocalStore and DirectoryStore
    | .*\.__lock                   # tensorstore
    | \.fuse_hidden[0-9a-f]+       # libfuse: removed while open
    """,
    re.VERBOSE,
)
_LIKELY = re.compile(
    r"""
    .*\.pid\d+\..*\.tmp            # NCO: x.nc.pid4997.ncks.tmp
    | \..*\.sw[a-px]               # vim
    | \.~.*                        # Jupyter's atomic writing
    """,
    re.VERBOSE,
)
_RSYNC = re.compile(r"\..*\.[A-Za-z0-9]{6}")  # rsync, from mkstemp: O_EXCL and mode 0600


def temporary_by_name(name: str) -> Temporary | None:
    """What the name alone says."""
    if _CERTAIN.fullmatch(name):
        return Temporary.CERTAIN
    if _LIKELY.fullmatch(name):
        return Temporary.LIKELY
    return None


def temporary_at_creation(name: str, *, exclusive: bool, mode: int) -> Temporary | None:
    """What name and creation say together: `.config.backup` made by `cp` is no temporary."""
    by_name = temporary_by_name(name)
    if by_name is None and exclusive and mode & 0o777 == 0o600 and _RSYNC.fullmatch(name):
        return Temporary.LIKELY
    return by_name
