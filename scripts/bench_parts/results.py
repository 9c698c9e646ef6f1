"""What a measurement is, and how it is written down. Pure, except for `load` and `save`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

    @property
    def measure(self) -> str:
        return f"{self.session} {self.state}"

    @property
    def bad(self) -> bool:
        """It gave wrong data: the benchmark as a whole has failed."""
        return self.outcome == WRONG


def save(results: Iterable[Result], about: dict[str, Any], path: Path) -> None:
    raw = {"about": about, "results": [asdict(result) for result in results]}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(raw, indent=1))
    part.replace(path)


def load(path: Path) -> tuple[list[Result], dict[str, Any]]:
    raw = json.loads(path.read_text())
    return [Result(**row) for row in raw["results"]], raw["about"]
