"""Which chunks of one array its readers want next, from the chunks that they have opened so far.

Pure: a frozen state and an index in, a new state and a plan out; counts chunks and observations,
never bytes or seconds. Several readers may be mixed: each walk that is recognised is a stream.
What a random reader is made to pay for guesses is bounded by `Readers.credit`.
Each read of a chunk waits for this: what an expected read does not need is not computed.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import filterfalse, islice
from types import MappingProxyType
from typing import NamedTuple

from zarrfuse.core.orders import Index, Scale, ranks_of, scales_of
from zarrfuse.core.recognise import Found, along_full_axes, inside_box, resumed
from zarrfuse.core.streams import (
    FIRST_WINDOW,
    TRACE,
    TRUST,
    Now,
    Stream,
    begun,
    filled,
    gone_on,
    horizon,
    place_in,
)

#: Streams per array; the one that was quiet the longest makes room.
MAX_STREAMS = 8
#: Distinct chunks remembered as just read: a repeat is neutral, and none of them is planned.
RECENT = 64
#: Guesses that may be open or lost while no stream is trusted.
CREDIT = 16.0
#: What each chunk that is read pays back: so much over-fetch a random reader may suffer.
CREDIT_PER_READ = 0.15
#: Strange reads in a row, after which a silent stream's plans are cancelled.
BREAK = 8
#: Reads by others, after which a silent stream is forgotten.
QUIET = 128
#: Strange reads in a row, after which a walk of the same kind elsewhere is the same reader.
MOVED = 2


class Readers(NamedTuple):
    """Everything remembered of one array's readers."""

    shape: Index
    scales: tuple[Scale, ...]
    #: In the order in which they were last read, or recognised.
    streams: tuple[Stream, ...] = ()
    #: The last distinct chunks, oldest first, with their ranks on each scale; those of a chunk
    #: that a stream expected are empty until a search for an order needs them.
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
    streams, given_up = _without_quiet(readers)
    for number, stream in enumerate(streams):
        at = place_in(stream, index)
        if at is not None:
            noted = _noted(readers, index, ())
            most = max_chunks if index in readers.planned else 0
            moved, skipped = gone_on(stream, at, _now(noted), most)
            others = streams[:number] + streams[number + 1 :]
            return _planned(noted, others, moved, given_up + skipped, max_chunks)
    noted = _noted(readers, index, ranks_of(readers.scales, index))
    return _stranger(noted, streams, given_up, max_chunks)


def _inside(index: Index, shape: Index) -> bool:
    return len(index) == len(shape) and min(index) >= 0 and all(map(operator.lt, index, shape))


def _without_quiet(readers: Readers) -> tuple[tuple[Stream, ...], tuple[Index, ...]]:
    """Without the stream whose last read is too long ago: its plans take room."""
    streams = readers.streams
    if streams and readers.clock + 1 - streams[0].clock > QUIET:
        return streams[1:], streams[0].ahead
    return streams, ()


def _noted(readers: Readers, index: Index, ranks: tuple[int, ...]) -> Readers:
    """The read in the trace, its guess settled. A stranger comes with its ranks."""
    shape, scales, streams, trace, planned, credit, clock, strangers = readers
    trace = {**trace, index: ranks}
    if len(trace) > RECENT:
        del trace[next(iter(trace))]
    if index in planned:
        planned = {**planned}
        credit += planned.pop(index)
    credit = min(CREDIT, credit + CREDIT_PER_READ)
    clock, strangers = clock + 1, strangers + bool(ranks)
    return Readers(shape, scales, streams, trace, planned, credit, clock, strangers)


def _now(readers: Readers) -> Now:
    return Now(readers.trace, readers.clock, readers.strangers)


def _stranger(
    readers: Readers, streams: tuple[Stream, ...], cancel: tuple[Index, ...], max_chunks: int
) -> tuple[Readers, Plan]:
    """A read that no stream expected: a break, another reader, or the last step of a new walk."""
    if not all(list(readers.trace.values())[-TRACE:]):
        readers = _ranked(readers)
    found = _recognised(readers, streams)
    for number, stream in enumerate(streams):
        if readers.strangers - stream.strangers == BREAK:
            cancel += stream.ahead
            slower = stream._replace(window=max(FIRST_WINDOW, stream.window // 2))
            streams = (*streams[:number], slower, *streams[number + 1 :])
    if found is None:
        return _booked(readers, streams, cancel, ())
    old = _same_reader(streams, found, readers.strangers)
    if old is not None:
        streams = tuple(stream for stream in streams if stream is not old)
        cancel += old.ahead
    elif len(streams) == MAX_STREAMS:
        cancel += streams[0].ahead
        streams = streams[1:]
    return _planned(readers, streams, begun(found, _now(readers), old), cancel, max_chunks)


def _ranked(readers: Readers) -> Readers:
    """With the ranks of all that is searched."""
    scales, latest = readers.scales, list(readers.trace.items())[-TRACE:]
    new = {index: ranks_of(scales, index) for index, ranks in latest if not ranks}
    return readers._replace(trace={**readers.trace, **new})


def _recognised(readers: Readers, streams: tuple[Stream, ...]) -> Found | None:
    """The walk whose latest step the last read is; the surest kind of proof first."""
    trace = list(readers.trace)[-TRACE:]
    ranks = list(readers.trace.values())[-TRACE:]
    found = along_full_axes(readers.scales, trace, ranks)
    if found is not None:
        return found
    scales = [readers.scales[0]]
    lengths = {4, 8, 16, TRACE}
    for stream in streams[-1:]:  # the last that was read, or recognised
        scales += {stream.order.scale} - {readers.scales[0]}
        lengths |= {stream.run + 1} if 4 < stream.run < TRACE else set()
    for scale in scales:
        found = inside_box(scale, trace, sorted(lengths))
        if found is not None:
            return found
    for stream in streams:
        if stream.trust >= TRUST and stream.strangers < readers.strangers - 1:
            number = readers.scales.index(stream.order.scale)
            found = resumed(stream.order, number, trace, ranks)
            if found is not None:
                return found
    return None


def _same_reader(streams: tuple[Stream, ...], found: Found, strangers: int) -> Stream | None:
    """The stream whose reader now walks as found: it goes on in a better-known order, or moved."""
    for stream in reversed(streams):
        if stream.last in found.steps:
            return stream
    for stream in reversed(streams):
        same = stream.order.scale == found.order.scale and stream.order.sign == found.order.sign
        if same and strangers - stream.strangers >= MOVED:
            return stream
    return None


def _planned(
    readers: Readers,
    others: tuple[Stream, ...],
    stream: Stream,
    cancel: tuple[Index, ...],
    max_chunks: int,
) -> tuple[Readers, Plan]:
    """The stream, the last that was read, filled up, and as much of it planned as it may."""
    stream = filled(stream, readers.trace)
    room = max_chunks - len(readers.planned)
    if stream.trust < TRUST:
        room = min(room, int(readers.credit))
    fetch: tuple[Index, ...] = ()
    if room > 0:
        ahead = stream.ahead[: stream.late + horizon(stream)]
        new = filterfalse(readers.planned.__contains__, ahead)
        fetch = tuple(islice(filterfalse(readers.trace.__contains__, new), room))
    return _booked(readers, (*others, stream), cancel, fetch)


def _booked(
    readers: Readers,
    streams: tuple[Stream, ...],
    cancel: tuple[Index, ...],
    fetch: tuple[Index, ...],
) -> tuple[Readers, Plan]:
    """Cancels what no stream wants any more, books what is to be fetched."""
    shape, scales, _, trace, before, credit, clock, strangers = readers
    if not cancel and not fetch:
        return readers._replace(streams=streams), _NOTHING
    planned, dropped = {**before}, []
    if cancel:
        alive = (s for s in streams if strangers - s.strangers < BREAK)
        wanted = {index for stream in alive for index in stream.ahead}
        dropped = [index for index in dict.fromkeys(cancel) if index not in wanted]
        dropped = [index for index in dropped if planned.pop(index, None) is not None]
    if fetch:
        charge = 0.0 if streams[-1].trust >= TRUST else 1.0
        planned.update(dict.fromkeys(fetch, charge))
        credit -= charge * len(fetch)
    booked = Readers(shape, scales, streams, trace, planned, credit, clock, strangers)
    return booked, Plan(fetch, tuple(dropped))
