"""One reader's walk through a chunk grid: what it will read next, and how far it may be trusted.

Pure: a stream is a value, each function returns another. Knows nothing of other streams, nor of
what is planned; the trace of chunks just read and the counts of reads come from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from zarrfuse.core.orders import Index, Order
from zarrfuse.core.recognise import NEAR, Found, inside_box

#: Of the chunks just read, so many are searched for a new order.
TRACE = 32
#: In-order reads in a row after which a stream may plan more than the credit covers.
TRUST = 8
#: Chunks planned when a stream is recognised; doubled by hits, up to a little over its length.
FIRST_WINDOW = 4
#: A read so far ahead, or behind the furthest, still belongs to its stream.
REACH = 16
#: A stream that leaves out so many at once may be walking a part of the grid only.
JUMP = 6


class Stream(NamedTuple):
    """One reader's walk. `ahead` is what it has not read yet, in order, late chunks first."""

    order: Order
    tip: Index
    ahead: tuple[Index, ...]
    late: int
    last: Index
    window: int
    run: int
    #: Reads in order, less the strange ones between them: chance hits of a random reader add up
    #: to a run, but not to this.
    trust: int
    #: Length of this reader's walk before it moved here; 0 if not known.
    usual_run: int
    clock: int
    strangers: int


class Now(NamedTuple):
    """The moment of a read: the chunks just read, this one the last, and the counts of reads."""

    trace: Mapping[Index, object]
    clock: int
    strangers: int

    def last_read(self) -> list[Index]:
        return list(self.trace)[-TRACE:]


def place_in(stream: Stream, index: Index) -> int | None:
    """Where the stream expects this chunk soon; None if it does not."""
    near = stream.ahead[: stream.late + REACH]
    return near.index(index) if index in near else None


def gone_on(stream: Stream, at: int, now: Now, most: int) -> tuple[Stream, tuple[Index, ...]]:
    """The stream after a read of `ahead[at]`, and what it will not come back to.

    Its window may grow up to `most` chunks.
    """
    ahead, late = stream.ahead, stream.late
    moved, skipped = _claimed(stream, at, now, most)
    if skipped or at >= late + JUMP:
        return _narrowed(moved, ahead[at], skipped, now)
    return moved, skipped


def _claimed(stream: Stream, at: int, now: Now, most: int) -> tuple[Stream, tuple[Index, ...]]:
    order, tip, ahead, late, _, window, run, trust, usual_run, _, strangers = stream
    rest = ahead[1:] if at == 0 else ahead[:at] + ahead[at + 1 :]
    late = late - 1 if at < late else at
    lost = late - REACH if late > REACH else 0
    run += 1
    if window < most:
        window = max(window, min(window * 2, run + 2 * FIRST_WINDOW, most))
    trust = max(0, min(trust, TRUST) + 1 - (now.strangers - strangers))
    moved = Stream(
        order, tip, rest[lost:], late - lost, ahead[at], window, run, trust, usual_run, now.clock,
        now.strangers,
    )  # fmt: skip
    return moved, rest[:lost]


def _narrowed(
    stream: Stream, index: Index, skipped: tuple[Index, ...], now: Now
) -> tuple[Stream, tuple[Index, ...]]:
    """The stream in the part of the grid that it really walks, if it keeps leaving chunks out."""
    found = inside_box(stream.order.scale, now.last_read(), (TRACE // 2, TRACE))
    if found is None or found.order.sign != stream.order.sign:
        return stream, skipped
    return begun(found, now, stream), (*skipped, *stream.ahead)


def begun(found: Found, now: Now, old: Stream | None) -> Stream:
    """The stream of a walk just recognised; `old` is what its reader was taken to walk before."""
    goes_on = old is not None and old.last in found.steps
    usual_run = old.run if old is not None and not goes_on else 0
    ahead, late = _gap(found, now.trace)
    return Stream(
        order=found.order,
        tip=found.furthest,
        ahead=ahead,
        late=late,
        last=found.steps[-1],
        window=old.window if old is not None and goes_on else FIRST_WINDOW,
        run=old.run if old is not None and goes_on else 0,
        trust=old.trust if old is not None and goes_on else 0,
        usual_run=usual_run,
        clock=now.clock,
        strangers=now.strangers,
    )


def _gap(found: Found, trace: Mapping[Index, object]) -> tuple[tuple[Index, ...], int]:
    """What lies between the first and the furthest step and was not read: it is in flight."""
    late = []
    place: Index | None = found.first
    for _ in range(TRACE):
        if place is None or place == found.furthest:
            break
        index = found.order.scale.index(place)
        if index not in trace:
            late.append(index)
        place = found.order.after(place)
    late = late[-NEAR:]
    return tuple(late), len(late)


def filled(stream: Stream, trace: Mapping[Index, object]) -> Stream:
    """With the next steps of its order, as far as it may plan or be recognised."""
    missing = stream.late + max(stream.window, REACH) - len(stream.ahead)
    if missing <= 0:
        return stream
    order, tip = stream.order, stream.tip
    more: list[Index] = []
    while len(more) < missing:
        place = order.after(tip)
        if place is None:
            break
        tip = place
        index = order.scale.index(place)
        if index not in trace:
            more.append(index)
    return Stream(order, tip, (*stream.ahead, *more), *stream[3:])


def horizon(stream: Stream) -> int:
    """How many chunks after its late ones may be planned."""
    if not stream.usual_run:
        return stream.window
    # It may well stop where it stopped before, and needs a new proof after.
    left = stream.usual_run - stream.run
    return min(stream.window, left if left > 0 else max(FIRST_WINDOW, -2 * left))
