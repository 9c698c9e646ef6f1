"""Room on disk that this process has booked ahead: one row of the index for many blocks.

A reservation is drawn from the booking in memory; the index is asked only when the booking is
spent. The booking is a row like a reservation, without a file: other daemons count it, and evict
it once it is stale, as that of a dead process. So it is refreshed by everything that is done with
it, and one that was lost is noticed by its next use and made again.

Knows rows and numbers; who books finds the room. `_lock` is a leaf. What `book` and `spend` change
is changed inside one transaction of the index at a time.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from zarrfuse.cache.format import NAME_BYTES
from zarrfuse.cache.rows import Row, Rows

#: Finds room for so many bytes more, evicting if need be; how many of them there is room for now.
Room = Callable[[int], int]


class Allowance:
    """Booked bytes: `drawn` ones have a block on its way, the others wait for one."""

    def __init__(self, ahead_bytes: int, *, clock_ns: Callable[[], int], fresh_ns: int) -> None:
        """Books `ahead_bytes` at once where there is room; sure of a booking for `fresh_ns`."""
        self._ahead_bytes = ahead_bytes
        self._clock_ns = clock_ns
        self._fresh_ns = fresh_ns
        self._lock = threading.Lock()
        self._name = secrets.token_bytes(NAME_BYTES)
        self._token = secrets.randbits(62)
        self._booked = 0
        self._drawn = 0
        self._refreshed_ns = 0

    def draw(self, size: int) -> bool:
        """Takes `size` of what is booked; False where that is too little, or may be lost."""
        with self._lock:
            fresh = self._clock_ns() - self._refreshed_ns < self._fresh_ns
            if not fresh or self._drawn + size > self._booked:
                return False
            self._drawn += size
            return True

    def put_back(self, size: int) -> None:
        """What was drawn is spent, or not needed."""
        with self._lock:
            self._drawn -= size

    def book(self, rows: Rows, size: int, room: Room) -> bool:
        """Draws `size`, and books for it; False, and nothing drawn, where there is no room.

        Nothing is drawn after an error either. If the transaction fails after this, put it back.
        """
        booked = self._found(rows)
        with self._lock:
            self._drawn += size  # from here on nobody else draws
            needed = self._drawn - booked
        has_room = False
        try:
            found = room(max(needed, self._ahead_bytes)) if needed > 0 else 0
            if found >= needed:
                self._write(rows, booked + found)
                has_room = True
        finally:
            if not has_room:
                self.put_back(size)
        return has_room

    def spend(self, rows: Rows, size: int, room: Room) -> bool:
        """Gives up `size` booked bytes, for rows that the caller adds in this transaction.

        They stay drawn until they are put back, after it. False where the booking was lost and
        there is no room any more.
        """
        booked = self._found(rows)
        if booked < size:
            return room(size) >= size
        self._write(rows, booked - size)
        return True

    def forget(self) -> None:
        """A transaction failed after it began: what it left is unknown, and becomes stale. Starts
        anew. Not for one that never began: its row is good, and would hold its room in vain."""
        with self._lock:
            self._name = secrets.token_bytes(NAME_BYTES)
            self._booked = 0

    def release(self, rows: Rows) -> None:
        """Gives back all that is booked."""
        self._write(rows, 0)

    def _found(self, rows: Rows) -> int:
        """What is still booked, refreshed: eviction must not meet it as stale."""
        row = rows.find(self._name)
        booked = 0 if row is None else row.bytes
        self._write(rows, booked)
        return booked

    def _write(self, rows: Rows, size: int) -> None:
        now = self._clock_ns()
        rows.remove(self._name)
        if size:
            rows.add([Row(self._name, size, now, self._token)])
        with self._lock:
            self._booked, self._refreshed_ns = size, now
