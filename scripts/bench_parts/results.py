"""What a measurement is, and how it is written down. Pure, except for `load` and `save`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import BenchError

DONE, OVER, WRONG, FAILED, LEFT_OUT = "done", "over", "wrong", "failed", "left out"


@dataclass(frozen=True)
class Result:
    """One step of one contestant in one round. Times in seconds; `round` 0 is the discarded one.

    `outcome` OVER: `seconds` is the deadline, which it passed. WRONG: it read other values.
    FAILED: it ended with an error. LEFT_OUT: it was not run, `text` says why.
    """

    round: int
    latency_ms: float
    session: str
    state: str
    contestant: str
    outcome: str
    seconds: float | None = None
    open_seconds: float | None = None
    requests: int | None = None
    open_requests: int | None = None
    bytes: int | None = None
    missed: int | None = None
    errors: int | None = None
    cpu_seconds: float | None = None
    peak_rss: int | None = None
    text: str = ""
    #: Requests one after the other before the end of open_zarr: round trips.
    open_rounds: int | None = None
    #: Names that the daemon remembers at the end.
    known_keys: int | None = None
    #: The whole step: mounting, waiting, importing.
    took_s: float | None = None

    @property
    def measure(self) -> str:
        return f"{self.session} {self.state}"

    @property
    def bad(self) -> bool:
        """It gave wrong data: the benchmark as a whole has failed."""
        return self.outcome == WRONG


@dataclass(frozen=True)
class Run:
    """What one call measured; `about` says when, on what, and of which zarrfuse."""

    about: dict[str, Any]
    results: list[Result]

    @property
    def jobs(self) -> set[tuple[str, float]]:
        """Sessions and waits of which something was measured."""
        return {(r.session, r.latency_ms) for r in self.results if r.round > 0}


def joined(earlier: Iterable[Run], new: Run) -> list[Run]:
    """The earlier runs without the jobs that were measured anew: a job's contestants stay in one
    run, because only there they can be compared."""
    kept = []
    for run in earlier:
        rest = [r for r in run.results if (r.session, r.latency_ms) not in new.jobs]
        kept.append(Run(run.about, rest))
    return [run for run in (*kept, new) if run.jobs]


def save(runs: Iterable[Run], path: Path) -> None:
    raw = [{"about": run.about, "results": [asdict(r) for r in run.results]} for run in runs]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(raw, indent=1))
    part.replace(path)


def load(path: Path) -> list[Run]:
    """BenchError where the file is of another version of the benchmark."""
    raw = json.loads(path.read_text())
    try:
        return [Run(run["about"], [Result(**row) for row in run["results"]]) for run in raw]
    except (KeyError, TypeError) as error:
        text = f"{path.name} is of another version of the benchmark, move it away: {error}"
        raise BenchError(text) from error
