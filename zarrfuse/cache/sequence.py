"""When a large file is read on and on, how far ahead to fetch. Pure.

Nothing is fetched ahead for a first read, nor for reads that jump: the headers of HDF5 and NetCDF
files are read in small pieces here and there, and must not drag megabytes along.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
#: A read that begins within so many bytes behind the last one still goes on: the kernel's own
#: read-ahead brings its pieces slightly out of order.
_SLACK_BYTES = 2 * MIB
#: The first step ahead, once two reads followed each other; doubled at each further one.
_FIRST_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Sequence:
    """One reader's way through one object. All offsets in bytes.

    `reached`: where its last read ended; `fetched`: up to where was asked for; `ahead`: how far
    ahead to be, 0 until the reader has proved that it goes on.
    """

    reached: int = 0
    fetched: int = 0
    ahead: int = 0


def read_on(
    before: Sequence | None, start: int, stop: int, size: int, max_bytes: int
) -> tuple[Sequence, tuple[int, int] | None]:
    """The reader has asked for [start, stop) of an object of `size` bytes.

    What is known of it from now on, and the range to fetch ahead, if any.
    """
    if (
        before is None
        or not before.reached - _SLACK_BYTES <= start <= before.reached + _SLACK_BYTES
    ):
        return Sequence(reached=stop, fetched=stop), None
    reached = max(before.reached, stop)
    ahead = min(max(before.ahead * 2, _FIRST_BYTES), max_bytes)
    begin = max(before.fetched, reached)
    end = min(reached + ahead, size)
    # Small steps would be many small requests: wait until there is room for half of the way.
    if end - begin < min(ahead // 2, size - begin) or end <= begin:
        return Sequence(reached, before.fetched, before.ahead or _FIRST_BYTES), None
    return Sequence(reached, end, ahead), (begin, end)
