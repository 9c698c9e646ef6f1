"""The alternation: in each round every session of every contestant, their order turned each round.

Round 0 is thrown away by the report: it fills caches that are not part of the comparison (the
proxy's listings, the interpreter's files). What hangs, fails or is wrong in a counted round is not
run again.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
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


class Rounds:
    """All measurements of a run, in order; `begin` is called before each step."""

    def __init__(
        self,
        choice: Choice,
        endpoints: list[Endpoint],
        data: Mapping[str, Prepared],
        work: Path,
        *,
        rounds: int,
        peer_rounds: int,
        deadline_s: float,
        begin: Begin,
    ) -> None:
        self._choice = choice
        self._endpoints = endpoints
        self._data = data
        self._work = work
        self._rounds = rounds
        self._peer_rounds = peer_rounds
        self._deadline_s = deadline_s
        self._begin = begin
        self._given_up: dict[tuple[float, str, str, str], Result] = {}

    def count(self) -> int:
        """How many steps `run` takes if all of them are done."""
        return sum(len(ALL[name].states(session)) for _, _, session, name in self._order())

    def run(self) -> Generator[Result, None, None]:
        """Close it where it is left early: it ends the mount that stands at that moment."""
        for number, endpoint, session, name in self._order():
            yield from self._session(number, endpoint, session, name)

    def _order(self) -> Iterator[tuple[int, Endpoint, Session, str]]:
        for number in range(self._rounds + 1):
            names = _turned(self._choice.contestants, number)
            if number > self._peer_rounds:
                names = tuple(name for name in names if not ALL[name].slow)
            for endpoint, session in itertools.product(self._endpoints, self._choice.sessions):
                able = (name for name in names if ALL[name].states(session))
                yield from ((number, endpoint, session, name) for name in able)

    def _session(
        self, number: int, endpoint: Endpoint, session: Session, name: str
    ) -> Generator[Result, None, None]:
        place = self._work / "mounts" / name
        contestant = ALL[name](Scene(self._data[session.dataset], endpoint, place))
        meter = Meter(contestant, session, self._deadline_s)
        try:
            for state in ALL[name].states(session):
                step = Result(number, endpoint.latency_ms, session.name, state, name, FAILED)
                self._begin(step)
                result = self._known(step, contestant) or _measured(contestant, meter, step)
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
