"""What is to be reached, as ratios in one run, and whether it was. Pure.

A goal about time is a ratio of zarrfuse to something measured in the same round; goals about round
trips and memory are numbers of zarrfuse alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zarrfuse.config import Config

from .plan import PLAN, Session
from .results import DONE, Result
from .stats import Cell, Spread, Table, seconds, spread

_SCANS = ("row", "row-v2", "reverse", "dask", "series", "tiles")
_TIMES_FASTER = {1: 15.0, 2: 7.0, 6: 2.5}
#: "Never slower than without prefetch": within what two rounds of the same differ by.
_NOT_SLOWER = 1.05
_OVERFETCH = 1.2
_RANDOM_READS = 200
#: What `ls -l` may take above 1.5 times the LIST pages: on libfuse 2 each of the 50 000 entries is
#: a getattr of its own, 4 s where readdirplus took 0.6 (measured with an empty file system).
_ABOVE_PAGES_S = {"zarrfuse": 1.0, "zarrfuse-fusepy": 4.0}
#: Python and libraries, and each key that is known; the budgets are those of the settings.
_RSS_BASE_MIB = 150
_RSS_PER_KEY = 250
_SESSIONS = {session.name: session for session in PLAN}


@dataclass(frozen=True)
class Verdict:
    """One goal at one latency. `reached` is None where something it needs was not measured;
    `met` is None where a deadline that was passed leaves it open."""

    goal: str
    latency_ms: float
    wanted: str
    reached: Spread | None
    unit: str
    met: bool | None
    miss: str = ""


def verdicts(table: Table, peers: dict[str, tuple[str, ...]], us: str) -> list[Verdict]:
    """Every goal, for zarrfuse as contestant `us`.

    `peers` are sets of mounts to be beaten, by what the report calls them.
    """
    found: list[Verdict] = []
    for latency in table.latencies:
        if latency:  # against the disk and the peers it is promised for a slow link only
            found += _of_scans(table, peers, us, latency)
            found += _of_opening(table, us, latency)
            found += _of_random(table, us, latency)
            found += _of_listings(table, us, latency)
            found.append(_of_download(table, us, latency))
        found += _of_what_is_cached(table, us, latency)
        found += _of_memory(table, us, latency)
    return [verdict for verdict in found if verdict.reached is not None]


def _of_scans(
    table: Table, peers: dict[str, tuple[str, ...]], us: str, latency: float
) -> Iterator[Verdict]:
    for session in map(_SESSIONS.__getitem__, _SCANS):
        measure = session.measure("cold")
        goal = f"cold scan, {session.title}: to ext4"
        yield _at_most(table, goal, us, "ext4", measure, 1.5, latency)
        for called, names in peers.items():
            yield _faster(table, session, called, names, us, latency)


def _faster(
    table: Table, session: Session, called: str, names: tuple[str, ...], us: str, latency: float
) -> Verdict:
    measure = session.measure("cold")
    cells = [Cell(latency, measure, name) for name in names]
    ratio = table.ratio(Cell(latency, measure, us), cells)
    reached = None if ratio is None else _inverse(ratio)
    wanted = _TIMES_FASTER[session.in_flight]
    goal = f"cold scan, {session.title} ({session.in_flight} in flight): faster than the {called}"
    return _judged(goal, latency, reached, at_least=wanted, unit="times")


def _inverse(ratio: Spread) -> Spread:
    turned = {">": "<", "<": ">"}.get(ratio.bound, ratio.bound)
    return Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low, ratio.count, turned)


def _of_what_is_cached(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    yield _at_most(table, "warm scan: to ext4", us, "ext4", "row warm", 1.1, latency)
    yield _at_most(table, "warm cat: to ext4", us, "ext4", "cat-row warm", 2.0, latency)
    yield _at_most(table, "scan after remount: to ext4", us, "ext4", "row remount", 1.3, latency)


def _of_listings(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    """`find` reads the names only, as `ls` does."""
    goal = f"{_SESSIONS['find-50000'].title} cold: to the bare LIST pages"
    yield _at_most(table, goal, us, "list-pages", "find-50000 cold", 1.5, latency)
    allowed = _ABOVE_PAGES_S[us]
    pages = table.results(Cell(latency, "ls-50000 cold", "list-pages"))
    above = []
    for number, result in table.results(Cell(latency, "ls-50000 cold", us)).items():
        ours, bare = seconds(result), seconds(pages[number]) if number in pages else None
        if ours is not None and bare is not None:
            above.append(ours - 1.5 * bare)
    goal = f"{_SESSIONS['ls-50000'].title} cold: above 1.5 times the bare LIST pages"
    yield _judged(goal, latency, spread(above), at_most=allowed, unit="s")


def _of_download(table: Table, us: str, latency: float) -> Verdict:
    cells = [Cell(latency, "sequential cold", "obstore")]
    ratio = table.ratio(Cell(latency, "sequential cold", us), cells)
    speed = None if ratio is None else _inverse(ratio)
    goal = "1 GiB sequential, cold: speed to obstore's plain download"
    return _judged(goal, latency, speed, at_least=0.8, unit="times")


def _of_random(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    """What fetching ahead costs a reader who jumps about."""
    for session in map(_SESSIONS.__getitem__, ("random", "cat-random")):
        ours = Cell(latency, session.measure("cold"), us)
        bare = [Cell(latency, session.measure("cold"), "zarrfuse-noprefetch")]
        goal = f"{session.title}: bytes to those without prefetch"
        more = table.ratio(ours, bare, _received)
        yield _judged(goal, latency, more, at_most=_OVERFETCH, unit="times")
        if us == "zarrfuse":  # the other binding is no match for it
            goal = f"{session.title}: time to that without prefetch"
            longer = table.ratio(ours, bare)
            yield _judged(goal, latency, longer, at_most=_NOT_SLOWER, unit="times")
    each = table.spread(Cell(latency, "random4k cold", us), _fetched_by_each)
    goal = "1 GiB file, random 4 KiB: fetched by each read"
    yield _judged(goal, latency, each, at_most=1024, unit="KiB")


def _received(result: Result) -> float | None:
    return result.bytes if result.outcome == DONE else None


def _fetched_by_each(result: Result) -> float | None:
    received = _received(result)
    return None if received is None else received / _RANDOM_READS / 1024


def _of_opening(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    """Requests of which each begins when another has ended.

    The store lies one directory below the bucket, which is not known yet either: 4 and 1.
    """
    for name in ("row", "row-v2"):
        cell = Cell(latency, f"{name} cold", us)
        trips = table.spread(cell, lambda r: r.open_rounds if r.outcome == DONE else None)
        goal = f"cold open_zarr ({_SESSIONS[name].title}): round trips"
        yield _judged(goal, latency, trips, at_most=5.0, unit="round trips")


def _of_memory(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    """The step that comes the closest to its limit, or exceeds it the most, for each data set."""
    worst: dict[str, tuple[float, float]] = {}
    for session in PLAN:
        for state in session.states:
            for result in table.results(Cell(latency, session.measure(state), us)).values():
                if result.outcome != DONE or result.peak_rss is None:
                    continue
                peak, limit = result.peak_rss / 2**20, _rss_limit(result)
                before = worst.get(session.dataset)
                if before is None or peak / limit > before[0] / before[1]:
                    worst[session.dataset] = (peak, limit)
    for dataset, (peak, limit) in worst.items():
        goal = f"peak RSS of the daemon, data set {dataset}"
        yield _judged(goal, latency, spread([peak]), at_most=limit, unit="MiB")


def _rss_limit(result: Result) -> float:
    """MiB: the base, the memory tier, what may be fetched and unread, and the known keys."""
    config = Config()
    budgets = (int(config.cache.memory) + int(config.prefetch.bytes)) / 2**20
    return _RSS_BASE_MIB + budgets + _RSS_PER_KEY * (result.known_keys or 0) / 2**20


def _at_most(
    table: Table, goal: str, us: str, other: str, measure: str, limit: float, latency: float
) -> Verdict:
    ratio = table.ratio(Cell(latency, measure, us), [Cell(latency, measure, other)])
    return _judged(goal, latency, ratio, at_most=limit, unit="times")


def _judged(
    goal: str,
    latency: float,
    reached: Spread | None,
    *,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Verdict:
    limit = at_most if at_most is not None else at_least
    assert limit is not None
    wanted = f"{'at most' if at_most is not None else 'at least'} {limit:.4g} {unit}"
    if reached is None:
        return Verdict(goal, latency, wanted, None, unit, None)
    decide: Callable[[float], bool] = (
        (lambda value: value <= limit) if at_most is not None else (lambda value: value >= limit)
    )
    met = decide(reached.median)
    sure = ">" if at_most is None else "<"  # the side on which a goal that is met stays met
    if reached.bound and (reached.bound == "?" or met != (reached.bound == sure)):
        return Verdict(goal, latency, wanted, reached, unit, None, "open: a deadline was passed")
    if met:
        return Verdict(goal, latency, wanted, reached, unit, met)
    if reached.median <= 0:
        return Verdict(goal, latency, wanted, reached, unit, met, "by all of it")
    factor = reached.median / limit if at_most is not None else limit / reached.median
    return Verdict(goal, latency, wanted, reached, unit, met, f"by {factor:.2g} x")
