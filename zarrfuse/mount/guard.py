"""What stands between every operation and libfuse: an error becomes an errno, always.

Our own errors go through the one table in zarrfuse.errors. Anything else, a socket's timeout
without an errno among them, is logged with its traceback and becomes EIO: never data, never
success, never a dead mount.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import structlog

from zarrfuse.errors import SpoolError, StoreError, ZarrfuseError, errno_of

log = structlog.get_logger(__name__)


def guard(operation: Callable[..., Any], *args: Any) -> int:
    """The operation's result as libfuse wants it: 0 or a count, or a negative errno."""
    try:
        return int(operation(*args) or 0)
    except ZarrfuseError as error:
        number = errno_of(error)
        if isinstance(error, StoreError | SpoolError):
            log.info(
                "operation failed",
                operation=_name(operation),
                errno=errno.errorcode[number],
                error=str(error),
            )
        return -number
    except UnicodeDecodeError:
        return -errno.EINVAL  # the name is not UTF-8 and cannot be a key
    except BaseException:
        log.exception("unexpected error in an operation", operation=_name(operation))
        return -errno.EIO


def _name(operation: Callable[..., Any]) -> str:
    return str(getattr(operation, "__name__", operation))
