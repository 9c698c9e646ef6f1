"""The alternation: in each round every session of every contestant, their order turned each round.

Round 0 is thrown away by the report: it fills caches that are not part of the comparison (the
proxy's, which all its ports share, and the interpreter's files); so it is run without a wait. What
hangs, fails or is wrong in a counted round is not run again.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .contestants import ALL
from .errors import BenchError
from .measure import Meter
from .plan import COLD, REMOUNT, Choice, Session
from .results import DONE, FAILED, LEFT_OUT, Result
from .servers import Endpoint
from .upload import Prepared
from .ways import Contestant, Scene

Begin = Callable[[Result], None]
#: Without a wait the peers show what they can in this one.
_PEERS_AT_0 = "row"


@dataclass(frozen=True)
class Extent:
    """How much of it all is run: rounds, and after how many seconds a job is ended."""

    rounds: int
    rounds_at_0: int
    peer_rounds: int
    deadline_s: float
    peer_deadline_s: float

    def deadline_of(self, name: str) -> float:
        return self.peer_deadline_s if ALL[name].is_peer() else self.deadline_s

    @property
    def spares_peers(self) -> bool:
        return self.peer_rounds < self.rounds

    def takes_part(self, name: str, session: Session, number: int, latency_ms: float) -> bool:
        """Whether this contestant does this job in this round, which counts."""
        one = ALL[name]
        rounds = min(self.rounds if latency_ms else self.rounds_at_0, session.rounds)
        if not one.states(session) or number > rounds:
            return False
        if session.kind not in one.slow or not self.spares_peers:
            return True
        if one.is_peer() and not (session.peers if latency_ms else session.name == _PEERS_AT_0):
            return False
        return number <= self.peer_rounds


def steps(choice: Choice, latencies: Sequence[float], extent: Extent) -> Iterator[Result]:
    """What will be measured, in order; the numbers are still missing."""
    yield from _discarded(choice, extent)
    for number in range(1, max(extent.rounds, extent.rounds_at_0) + 1):
        names = _turned(choice.contestants, number)
        for latency, session, name in itertools.product(latencies, choice.sessions, names):
            if extent.takes_part(name, session, number, latency):
                yield from _steps_of(name, session, number, latency, ALL[name].states(session))


def _discarded(choice: Choice, extent: Extent) -> Iterator[Result]:
    """Round 0. A peer that is spared asks once for each data set, or Swift would have to answer
    when it counts."""
    asked: set[tuple[str, str]] = set()
    for session, name in itertools.product(choice.sessions, choice.contestants):
        states = ALL[name].states(session)
        if extent.spares_peers and ALL[name].is_peer():
            if not session.peers or (name, session.dataset) in asked or not states:
                continue
            asked.add((name, session.dataset))
            states = (COLD,)
        yield from _steps_of(name, session, 0, 0.0, states)


def _steps_of(
    name: str, session: Session, number: int, latency: float, states: Iterable[str]
) -> Iterator[Result]:
    for state in states:
        yield Result(number, latency, session.name, state, name, FAILED)


class Rounds:
    """All measurements of a run, in order; `begin` is called before each step."""

    def __init__(
        self,
        choice: Choice,
        steps: Iterable[Result],
        endpoints: Iterable[Endpoint],
        data: Mapping[str, Prepared],
        work: Path,
        *,
        extent: Extent,
        begin: Begin,
    ) -> None:
        self._sessions = {session.name: session for session in choice.sessions}
        self._endpoints = {endpoint.latency_ms: endpoint for endpoint in endpoints}
        self._steps = list(steps)
        self._data = data
        self._work = work
        self._extent = extent
        self._begin = begin
        self._given_up: dict[tuple[float, str, str, str], Result] = {}

    def run(self) -> Generator[Result, None, None]:
        """Close it where it is left early: it ends the mount that stands at that moment."""
        for _, group in itertools.groupby(self._steps, _session_of):
            yield from self._session(list(group))

    def _session(self, todo: list[Result]) -> Generator[Result, None, None]:
        name, session = todo[0].contestant, self._sessions[todo[0].session]
        endpoint = self._endpoints[todo[0].latency_ms]
        place = self._work / "mounts" / name
        contestant = ALL[name](Scene(self._data[session.dataset], endpoint, place))
        meter = Meter(contestant, session, self._extent.deadline_of(name))
        try:
            for step in todo:
                self._begin(step)
                began = time.monotonic()
                meter.launch()
                result = self._known(step, contestant) or _measured(contestant, meter, step)
                result = replace(result, took_s=time.monotonic() - began)
                self._remember(result)
                yield result
                if result.outcome != DONE:
                    return
        finally:
            contestant.end()
            meter.reap()
            shutil.rmtree(place, ignore_errors=True)

    def _known(self, step: Result, contestant: Contestant) -> Result | None:
        """The result that needs no run."""
        if contestant.heads_entries and contestant.scene.dataset.rows_only:
            why = "asks for each object, and here only rows of a listing exist"
            return replace(step, outcome=LEFT_OUT, text=why)
        earlier = self._given_up.get(_place_of(step))
        return None if earlier is None else replace(earlier, round=step.round)

    def _remember(self, result: Result) -> None:
        # In the discarded round the proxy's listings came from Swift: it may do better next time.
        if result.outcome != DONE and result.round > 0:
            self._given_up[_place_of(result)] = result


def _session_of(step: Result) -> tuple[int, float, str, str]:
    return (step.round, step.latency_ms, step.session, step.contestant)


def _place_of(result: Result) -> tuple[float, str, str, str]:
    return (result.latency_ms, result.session, result.state, result.contestant)


def _turned(names: tuple[str, ...], by: int) -> tuple[str, ...]:
    by %= len(names)
    return names[by:] + names[:by]


def _measured(contestant: Contestant, meter: Meter, step: Result) -> Result:
    try:
        if step.state == COLD:
            contestant.cold()
        elif step.state == REMOUNT:
            contestant.remount()
    except BenchError as error:
        return replace(step, outcome=FAILED, text=str(error).strip().splitlines()[-1][:300])
    return meter.run(step)
