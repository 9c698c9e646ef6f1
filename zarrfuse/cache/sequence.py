"""When a large file is read on and on, how far ahead to fetch. Pure.

Nothing is fetched ahead for a first read, nor for reads that jump: the headers of HDF5 and NetCDF
files are read in small pieces here and there, and must not drag megabytes along. How far ahead
grows with what was read in one go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

KIB, MIB = 1024, 1024**2
#: A read that begins within so many of its own lengths of where the last one ended still goes on,
#: for the kernel's read-ahead brings its requests out of order; of a reader who has proved that it
#: goes on, all that the kernel has in flight (mount/kernel.READ_AHEAD_KIB, twice: the next window
#: is asked for in the middle of the last). On libfuse 2 that are sixteen requests of 128 KiB.
_SLACK_READS = 4
_SLACK_BYTES = MIB
_PROVEN_SLACK_BYTES = 2 * MIB
#: Read on for so long, a reader has proved that it goes on: an HDF5 header with its B-trees is
#: mostly shorter, and the kernel's first two requests for `cat` bring 256 and 512 kB.
_PROOF_BYTES = 512 * KIB
#: But libnetcdf reads 4 MiB of every file that it opens, and the kernel 1 MiB more: up to here so
#: few bytes ahead; from then on as far as was read already, so that at most half is for nothing.
_OPENED_BYTES = 6 * MIB
_WARY_BYTES = 2 * MIB
#: Ways through one object that are followed at once, as of a process for each part of a file.
_MAX_WAYS = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One reader's way through one object. All offsets in bytes.

    `reached`: where its last read ended; `read`: how much it read in one go; `fetched`: up to
    where was asked for, 0 for nothing yet.
    """

    reached: int
    read: int
    fetched: int = 0


#: All that is known of the readers of one object, the latest first.
Ways = tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Large:
    """An object that is read in blocks of `block_bytes`, at most `max_bytes` ahead."""

    size: int
    block_bytes: int
    max_bytes: int


def read_on(ways: Ways, start: int, stop: int, large: Large) -> tuple[Ways, tuple[int, int] | None]:
    """A reader has asked for [start, stop).

    What is known from now on, and the range of whole blocks to fetch ahead, if any.
    """
    near = (way for way in ways if abs(start - way.reached) <= _slack(way, stop - start))
    way = min(near, key=lambda way: abs(start - way.reached), default=None)
    if way is None:
        return (Way(stop, stop - start), *ways)[:_MAX_WAYS], None
    way, others = _merged(
        Way(max(way.reached, stop), way.read + stop - start, way.fetched), ways, way
    )
    ahead = _ahead(way, large) if way.read >= _PROOF_BYTES else None
    if ahead is not None:
        way = replace(way, fetched=ahead[1])
    return (way, *others), ahead


def fell_short(ways: Ways, ahead: tuple[int, int], begin: int) -> Ways:
    """Of what `read_on` gave to be fetched, there was no room for [begin, ...): the next read asks
    for it again."""
    return tuple(replace(way, fetched=begin) if way.fetched == ahead[1] else way for way in ways)


def _merged(way: Way, ways: Ways, was: Way) -> tuple[Way, Ways]:
    """Requests that came far out of order were taken for the beginnings of other ways."""
    others = []
    for other in ways:
        if other is was:
            continue
        if way.read >= _PROOF_BYTES and abs(other.reached - way.reached) <= _PROVEN_SLACK_BYTES:
            way = Way(
                max(way.reached, other.reached),
                way.read + other.read,
                max(way.fetched, other.fetched),
            )
        else:
            others.append(other)
    return way, tuple(others)


def _slack(way: Way, length: int) -> int:
    if way.read >= _PROOF_BYTES:
        return _PROVEN_SLACK_BYTES
    return min(_SLACK_READS * length, _SLACK_BYTES)


def _ahead(way: Way, large: Large) -> tuple[int, int] | None:
    block = large.block_bytes
    # The block that it stands in comes whole: its rest would be many small reads.
    begin = max(way.fetched, way.reached // block * block)
    distance = way.read if way.read >= _OPENED_BYTES else _WARY_BYTES
    distance = min(distance, large.max_bytes)
    end = way.reached + distance
    if end >= large.size:
        end = large.size
    else:
        end -= end % block
        # Small steps would be many small requests: wait until there is room for a larger one.
        if end - begin < distance // 8:
            return None
    return (begin, end) if begin < end else None
