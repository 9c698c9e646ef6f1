"""What can be told to the kernel of a mount from outside of libfuse."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

#: The kernel reads ahead so far in one file. 128 kB by default, which also bounds a request; with
#: 1 MiB sequential reading is 1.9 (libfuse 2) to 2.5 times (libfuse 3) faster, 4 MiB gains no more.
READ_AHEAD_KIB = 1024


def raise_read_ahead(mountpoint: Path) -> None:
    """Only root may; for others the mount works as it is, with smaller requests."""
    device = mountpoint.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    setting = Path(f"/sys/class/bdi/{number}/read_ahead_kb")
    try:
        setting.write_text(str(READ_AHEAD_KIB))
    except OSError as error:
        log.debug("the kernel's read-ahead stays as it is", reason=error.strerror)
