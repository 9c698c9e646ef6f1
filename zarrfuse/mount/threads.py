"""Keeps what Python holds for each of libfuse's threads from one request to the next.

Python makes a state for a thread that is not its own when it calls in, and destroys it when it goes
back, with an mmap and a munmap in each request, for which the kernel must interrupt every
processor. Knows nothing of FUSE.
"""

from __future__ import annotations

import ctypes
import threading


class ThreadStates:
    """Thread-safe. What is kept of a thread is lost when it ends, about 20 kB: only for a library
    whose threads do not end."""

    def __init__(self) -> None:
        self._local = threading.local()

    def keep(self) -> None:
        """The calling thread's state outlives the request. A second call costs nothing."""
        if not hasattr(self._local, "is_kept"):
            ctypes.pythonapi.PyGILState_Ensure()  # never released: so it is not the last one
            self._local.is_kept = True
