"""How long a run will take: by what each step took before, else by a rough guess. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from .contestants import ALL
from .datasets import ALL as DATASETS
from .plan import COLD, PLAN, Session
from .results import Result
from .rounds import Extent

#: A step that was never run, on two quiet cores: mounting, a new Python with its imports, reading,
#: waiting for the last request; and one on a mount that stands.
_COLD_S, _WARM_S = 3.0, 1.5
#: What a peer takes beside that at 50 ms, by requests in flight (400 chunks), or by the job.
_PEER_SCAN_S: Mapping[int, float] = {1: 50.0, 2: 30.0, 6: 15.0}
_PEER_JOB_S: Mapping[str, float] = {"ls": 30.0, "find": 5.0, "sequential": 20.0, "random4k": 30.0}
_SESSIONS = {session.name: session for session in PLAN}

Known = Mapping[tuple[str, str, float], float]


def known(results: Iterable[Result]) -> Known:
    """Seconds of a step of this contestant, by measure and wait."""
    took: dict[tuple[str, str, float], list[float]] = {}
    for result in results:
        if result.took_s is not None:
            place = (result.contestant, result.measure, result.latency_ms)
            took.setdefault(place, []).append(result.took_s)
    return {place: statistics.median(values) for place, values in took.items()}


def seconds(steps: Iterable[Result], before: Known, extent: Extent) -> float:
    """Of all steps."""
    return sum(_one(step, before, extent) for step in steps)


def _one(step: Result, before: Known, extent: Extent) -> float:
    took = before.get((step.contestant, step.measure, step.latency_ms))
    limit = extent.deadline_of(step.contestant)
    if took is not None:
        return min(took, limit + _COLD_S)
    session = _SESSIONS[step.session]
    if ALL[step.contestant].heads_entries and DATASETS[session.dataset].rows_only:
        return 0.0
    usual = _COLD_S if step.state == COLD else _WARM_S
    return usual + (min(_peer(step, session), limit) if step.latency_ms else 0.0)


def _peer(step: Result, session: Session) -> float:
    if not ALL[step.contestant].is_peer():
        return 0.0
    if session.pattern == "random":
        return _PEER_SCAN_S[session.in_flight] / 4  # of the chunks
    whole = _PEER_SCAN_S.get(session.in_flight, 0.0) or _PEER_JOB_S[session.kind]
    return whole if step.state == COLD else whole / 2
