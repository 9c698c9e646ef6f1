"""What Python holds for a thread of a C library, from one call to the next."""

from __future__ import annotations

import ctypes
import threading

import pytest

from zarrfuse.mount.threads import ThreadStates

#: What `dl_iterate_phdr` calls for each library that is loaded: some C function has to call in
#: several times from a thread that Python has not made.
_CALLED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_is_kept_outlives_the_call(is_kept: bool) -> None:
    library = ctypes.CDLL(None)
    states, local = ThreadStates(), threading.local()
    found: list[bool] = []

    @_CALLED
    def called(_info: int, _size: int, _data: int) -> int:
        found.append(hasattr(local, "here"))
        local.here = True
        if is_kept:
            states.keep()
        return 0

    thread = ctypes.c_ulong()
    start = library.dl_iterate_phdr
    assert library.pthread_create(ctypes.byref(thread), None, start, called) == 0
    assert library.pthread_join(thread, None) == 0
    assert len(found) >= 3
    assert found == [False, *[is_kept] * (len(found) - 1)]
