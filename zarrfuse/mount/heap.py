"""How this process keeps the memory it has freed, and how often it looks for more. Knows nothing
else of it. To be called before any other thread is started.

glibc gives each of many threads an arena of its own, up to eight for each processor, and blocks of
some MiB that are freed in one are not reused by another: a daemon of 256 MiB of cached blocks held
550 MiB after reading 1 GiB, with two arenas 440 MiB, at the same CPU (measured). Blocks outside of
the arenas (M_MMAP_THRESHOLD) would be 390 MiB, but half as much CPU again, for zeroing their pages.

Python looks through all objects again and again while their number grows, as it does with every
LIST page: a third of the CPU of learning 10 000 names (measured). Hardly anything here is cyclic.
"""

from __future__ import annotations

import ctypes
import gc

_ARENAS = 2
#: From malloc.h.
_M_ARENA_MAX = -8
#: New objects before the young are looked at, and rounds of that before the older are.
_COLLECT_AFTER = (50_000, 20, 50)


def bound_heap() -> None:
    """Few arenas for all threads, and few searches for garbage."""
    gc.set_threshold(*_COLLECT_AFTER)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have nothing to bound
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
