"""Which chunks of one array its readers want next, from the chunks that they have opened so far.

Pure: a frozen state and an index in, a new state and a plan out; counts chunks and observations,
never bytes or seconds. Several readers may be mixed: each walk that is recognised is a stream.
What a random reader is made to pay for guesses is bounded by `Readers.credit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from zarrfuse.core.orders import (
    NEAR,
    Found,
    Index,
    Order,
    Scale,
    along_full_axes,
    inside_box,
    ranks_of,
    resumed,
    scales_of,
)

#: Streams per array; the one that was quiet the longest makes room.
MAX_STREAMS = 8
#: Distinct chunks remembered as just read: a repeat is neutral, and none of them is planned.
RECENT = 64
#: Of those, so many are searched for a new order.
TRACE = 32
#: Guesses that may be open or lost while no stream is trusted.
CREDIT = 16.0
#: What each chunk that is read pays back: so much over-fetch a random reader may suffer.
CREDIT_PER_READ = 0.15
#: In-order reads in a row after which a stream may plan more than the credit covers.
TRUST = 8
#: Chunks planned when a stream is recognised; doubled by hits, up to a little over its length.
FIRST_WINDOW = 4
#: A read so far ahead, or behind the furthest, still belongs to its stream.
REACH = 16
#: A stream that leaves out so many at once may be walking a part of the grid only.
JUMP = 6
#: Strange reads in a row, after which a silent stream's plans are cancelled.
BREAK = 8
#: Reads by others, after which a silent stream is forgotten.
QUIET = 128
#: Strange reads in a row, after which a walk of the same kind elsewhere is the same reader.
MOVED = 2


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


class Readers(NamedTuple):
    """Everything remembered of one array's readers."""

    shape: Index
    scales: tuple[Scale, ...]
    streams: tuple[Stream, ...] = ()
    #: The last distinct chunks, oldest first, with their ranks on each scale.
    trace: Mapping[Index, tuple[int, ...]] = MappingProxyType({})
    #: Planned and not read yet, with what the guess has taken from the credit.
    planned: Mapping[Index, float] = MappingProxyType({})
    credit: float = CREDIT
    #: Reads so far, and how many of them belonged to no stream.
    clock: int = 0
    strangers: int = 0

    @classmethod
    def of(cls, shape: Index) -> Readers:
        """Nobody has read yet. `shape` is the number of chunks along each axis."""
        return cls(shape, scales_of(shape))


class Plan(NamedTuple):
    """What changes: chunks to fetch, the most urgent first, and chunks that need not be any more.

    A chunk in `cancel` was in an earlier `fetch`; one that is under way may as well be finished.
    """

    fetch: tuple[Index, ...] = ()
    cancel: tuple[Index, ...] = ()


_NOTHING = Plan()


def observe(readers: Readers, index: Index, shape: Index, max_chunks: int) -> tuple[Readers, Plan]:
    """A program opened chunk `index` of a grid of `shape`: what to have ready next.

    At most `max_chunks` are planned and unread at any time, for all readers of the array. A changed
    `shape` (the array was resized) starts anew.
    """
    if readers.shape != shape:
        fresh, plan = observe(Readers.of(shape), index, shape, max_chunks)
        return fresh, plan._replace(cancel=tuple(readers.planned))
    if index in readers.trace or not readers.scales or not _inside(index, shape):
        return readers, _NOTHING
    hit = index in readers.planned
    noted, given_up = _without_quiet(_noted(readers, index))
    for at, stream in enumerate(noted.streams):
        if index in stream.ahead[: stream.late + REACH]:
            moved, skipped = _claimed(stream, index, noted, max_chunks if hit else 0)
            if skipped or index in stream.ahead[stream.late + JUMP :]:
                moved, skipped = _narrowed(moved, skipped, noted)
            others = (*noted.streams[:at], *noted.streams[at + 1 :])
            noted = noted._replace(streams=(*others, moved))
            return _planned(noted, moved, (*given_up, *skipped), max_chunks)
    noted = noted._replace(strangers=noted.strangers + 1)
    return _stranger(noted, given_up, max_chunks)


def _without_quiet(readers: Readers) -> tuple[Readers, tuple[Index, ...]]:
    """Without the stream that was read the longest ago, if that is too long: its plans take room.

    Streams stand in the order in which they were last read.
    """
    if not readers.streams or readers.clock - readers.streams[0].clock <= QUIET:
        return readers, ()
    return readers._replace(streams=readers.streams[1:]), readers.streams[0].ahead


def _inside(index: Index, shape: Index) -> bool:
    return len(index) == len(shape) and all(
        0 <= at < count for at, count in zip(index, shape, strict=True)
    )


def _noted(readers: Readers, index: Index) -> Readers:
    """The read in the trace, its guess settled."""
    trace = {**readers.trace, index: ranks_of(readers.scales, index)}
    if len(trace) > RECENT:
        del trace[next(iter(trace))]
    planned, charge = readers.planned, 0.0
    if index in planned:
        planned = dict(planned)
        charge = planned.pop(index)
    credit = min(CREDIT, readers.credit + charge + CREDIT_PER_READ)
    return readers._replace(trace=trace, planned=planned, credit=credit, clock=readers.clock + 1)


def _claimed(
    stream: Stream, index: Index, readers: Readers, most: int
) -> tuple[Stream, tuple[Index, ...]]:
    """The stream after a read in its order, and what it will not come back to.

    Its window may grow up to `most` chunks.
    """
    at = stream.ahead.index(index)
    late = stream.late - 1 if at < stream.late else at
    rest = stream.ahead[:at] + stream.ahead[at + 1 :]
    lost = max(0, late - REACH)
    run = stream.run + 1
    window = min(stream.window * 2, run + 2 * FIRST_WINDOW, most)
    moved = stream._replace(
        ahead=rest[lost:],
        late=late - lost,
        last=index,
        window=max(window, stream.window),
        run=run,
        trust=max(0, min(stream.trust, TRUST) + 1 - (readers.strangers - stream.strangers)),
        clock=readers.clock,
        strangers=readers.strangers,
    )
    return moved, rest[:lost]


def _narrowed(
    stream: Stream, skipped: tuple[Index, ...], readers: Readers
) -> tuple[Stream, tuple[Index, ...]]:
    """The stream in the part of the grid that it really walks, if it keeps leaving chunks out."""
    trace = list(readers.trace)[-TRACE:]
    found = inside_box(stream.order.scale, trace, (TRACE // 2, TRACE))
    if found is None or found.order.sign != stream.order.sign:
        return stream, skipped
    return _stream(found, readers, stream), (*skipped, *stream.ahead)


def _stranger(
    readers: Readers, given_up: tuple[Index, ...], max_chunks: int
) -> tuple[Readers, Plan]:
    """A read that no stream expected: a break, another reader, or the last step of a new walk."""
    cancel = list(given_up)
    streams = []
    for stream in readers.streams:
        if readers.strangers - stream.strangers == BREAK:
            cancel += stream.ahead
            stream = stream._replace(window=max(FIRST_WINDOW, stream.window // 2))
        streams.append(stream)
    found = _recognised(readers)
    if found is None:
        return _cancelled(readers._replace(streams=tuple(streams)), cancel, ())
    old = _same_reader(streams, found, readers.strangers)
    if old is not None:
        streams.remove(old)
        cancel += old.ahead
    elif len(streams) == MAX_STREAMS:
        cancel += streams.pop(0).ahead
    new = _stream(found, readers, old)
    return _planned(readers._replace(streams=(*streams, new)), new, tuple(cancel), max_chunks)


def _recognised(readers: Readers) -> Found | None:
    """The walk whose latest step the last read is; the surest kind of proof first."""
    trace = list(readers.trace)[-TRACE:]
    ranks = list(readers.trace.values())[-TRACE:]
    found = along_full_axes(readers.scales, trace, ranks)
    if found is not None:
        return found
    scales = [readers.scales[0]]
    lengths = {4, 8, 16, TRACE}
    for stream in readers.streams[-1:]:  # the last that was read, or recognised
        scales += {stream.order.scale} - {readers.scales[0]}
        lengths |= {stream.run + 1} if 4 < stream.run < TRACE else set()
    for scale in scales:
        found = inside_box(scale, trace, sorted(lengths))
        if found is not None:
            return found
    for stream in readers.streams:
        if stream.trust >= TRUST and stream.strangers < readers.strangers - 1:
            number = readers.scales.index(stream.order.scale)
            found = resumed(stream.order, number, trace, ranks)
            if found is not None:
                return found
    return None


def _same_reader(streams: list[Stream], found: Found, strangers: int) -> Stream | None:
    """The stream whose reader now walks as found: it goes on in a better-known order, or moved."""
    for stream in reversed(streams):
        if stream.last in found.steps:
            return stream
    for stream in reversed(streams):
        same = stream.order.scale == found.order.scale and stream.order.sign == found.order.sign
        if same and strangers - stream.strangers >= MOVED:
            return stream
    return None


def _stream(found: Found, readers: Readers, old: Stream | None) -> Stream:
    goes_on = old is not None and old.last in found.steps
    usual_run = old.run if old is not None and not goes_on else 0
    ahead, late = _gap(found, readers.trace)
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
        clock=readers.clock,
        strangers=readers.strangers,
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


def _planned(
    readers: Readers, stream: Stream, cancel: tuple[Index, ...], max_chunks: int
) -> tuple[Readers, Plan]:
    """The stream, last in `readers`, filled up, and as much of it planned as it may."""
    stream = _filled(stream, readers.trace)
    readers = readers._replace(streams=(*readers.streams[:-1], stream))
    horizon = stream.window
    if stream.usual_run:  # it may well stop where it stopped before, and needs a new proof after
        left = stream.usual_run - stream.run
        horizon = min(horizon, left if left > 0 else max(FIRST_WINDOW, -2 * left))
    room = max_chunks - len(readers.planned)
    if stream.trust < TRUST:
        room = min(room, int(readers.credit))
    wanted = (
        index
        for index in stream.ahead[: stream.late + horizon]
        if index not in readers.planned and index not in readers.trace
    )
    return _cancelled(readers, cancel, tuple(islice(wanted, max(0, room))))


def _filled(stream: Stream, trace: Mapping[Index, object]) -> Stream:
    """With the next steps of its order, as far as it may plan or be recognised."""
    missing = stream.late + max(stream.window, REACH) - len(stream.ahead)
    if missing <= 0:
        return stream
    more: list[Index] = []
    tip = stream.tip
    for place in stream.order.walk(tip):
        tip = place
        index = stream.order.scale.index(place)
        if index not in trace:
            more.append(index)
        if len(more) >= missing:
            break
    return stream._replace(ahead=(*stream.ahead, *more), tip=tip)


def _cancelled(
    readers: Readers, cancel: tuple[Index, ...] | list[Index], fetch: tuple[Index, ...]
) -> tuple[Readers, Plan]:
    """Cancels what no stream wants any more, books what is to be fetched."""
    if not cancel and not fetch:
        return readers, _NOTHING
    planned = dict(readers.planned)
    dropped = []
    if cancel:
        alive = (s for s in readers.streams if readers.strangers - s.strangers < BREAK)
        wanted = {index for stream in alive for index in stream.ahead}
        dropped = [index for index in dict.fromkeys(cancel) if index not in wanted]
        dropped = [index for index in dropped if planned.pop(index, None) is not None]
    trusted = bool(readers.streams) and readers.streams[-1].trust >= TRUST
    charge = 0.0 if trusted else 1.0
    planned.update(dict.fromkeys(fetch, charge))
    credit = readers.credit - charge * len(fetch)
    return readers._replace(planned=planned, credit=credit), Plan(fetch, tuple(dropped))
