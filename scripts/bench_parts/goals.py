"""What is to be reached, as ratios in one run, and whether it was. Pure.

A goal about time is a ratio of zarrfuse to something measured in the same round; goals about round
trips and memory are numbers of zarrfuse alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .plan import PLAN, Session
from .results import DONE, Result
from .stats import Cell, Spread, Table, opening, spread

_SCANS = ("row", "row-v2", "reverse", "dask", "series", "tiles")
_TIMES_FASTER = {1: 15.0, 2: 7.0, 6: 2.5}
#: mount, RAM tier at its default; what the goal calls "the configured budgets".
RSS_BASE = (150 + 256) << 20
RSS_PER_KEY = 250
_KEYS = {"list50000": 50_000, "list5000": 5_000, "small": 30_000}
_SESSIONS = {session.name: session for session in PLAN}


@dataclass(frozen=True)
class Verdict:
    """One goal at one latency. `reached` is None where something it needs was not measured."""

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
        found += _of_scans(table, peers, us, latency)
        found += _of_other_ratios(table, us, latency)
        found += _of_opening(table, us, latency)
        found += _of_memory(table, us, latency)
    return [verdict for verdict in found if verdict.reached is not None]


def _of_scans(
    table: Table, peers: dict[str, tuple[str, ...]], us: str, latency: float
) -> Iterator[Verdict]:
    # The speed-ups are promised for a slow link only.
    if not latency:
        return
    for session in map(_SESSIONS.__getitem__, _SCANS):
        measure = session.measure("cold")
        yield _at_most(table, f"cold scan, {session.title}: to ext4", us, "ext4", measure, 1.5,
                       latency)  # fmt: skip
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


def _of_other_ratios(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    yield _at_most(table, "warm scan: to ext4", us, "ext4", "row warm", 1.1, latency)
    yield _at_most(table, "warm cat: to ext4", us, "ext4", "cat-row warm", 2.0, latency)
    yield _at_most(table, "scan after remount: to ext4", us, "ext4", "row remount", 1.3, latency)
    if not latency:
        return
    for job in ("ls-50000", "find-50000"):
        goal = f"{_SESSIONS[job].title} cold: to the bare LIST pages"
        yield _at_most(table, goal, us, "list-pages", f"{job} cold", 1.5, latency)
    cells = [Cell(latency, "sequential cold", "obstore")]
    ratio = table.ratio(Cell(latency, "sequential cold", us), cells)
    speed = None if ratio is None else _inverse(ratio)
    goal = "1 GiB sequential, cold: speed to obstore's plain download"
    yield _judged(goal, latency, speed, at_least=0.8, unit="times")


def _of_opening(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    """Round trips: the time of a cold open above that of the local disk, in units of the wait.

    The store lies one directory below the bucket, which is not known yet either: 4 and 1.
    """
    if not latency:
        return
    for measure in ("row cold", "row-v2 cold"):
        ours = table.results(Cell(latency, measure, us))
        local = table.spread(Cell(latency, measure, "ext4"), opening)
        if local is None:
            continue
        times = [t for r in ours.values() if (t := opening(r)) is not None]
        trips = spread([max(0.0, t - local.median) * 1000 / latency for t in times])
        goal = f"cold open_zarr ({_SESSIONS[measure.split()[0]].title}): round trips"
        yield _judged(goal, latency, trips, at_most=5.0, unit="round trips")


def _of_memory(table: Table, us: str, latency: float) -> Iterator[Verdict]:
    by_dataset: dict[str, list[float]] = {}
    for session in PLAN:
        for state in session.states:
            results = table.results(Cell(latency, session.measure(state), us)).values()
            peaks = [r.peak_rss / 2**20 for r in results if _has_peak(r) and r.peak_rss]
            by_dataset.setdefault(session.dataset, []).extend(peaks)
    for dataset, peaks in by_dataset.items():
        limit = (RSS_BASE + RSS_PER_KEY * _KEYS.get(dataset, 1_000)) / 2**20
        goal = f"peak RSS of the daemon, data set {dataset}"
        highest = spread([max(peaks)]) if peaks else None
        yield _judged(goal, latency, highest, at_most=limit, unit="MiB")


def _has_peak(result: Result) -> bool:
    return result.outcome == DONE and result.peak_rss is not None


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
    factor = reached.median / limit if at_most is not None else limit / max(reached.median, 1e-9)
    return Verdict(goal, latency, wanted, reached, unit, met, "" if met else f"by {factor:.2g} x")
