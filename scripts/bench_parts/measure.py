"""One job in a child process: its deadline, its answer, and what it cost the daemon and the server.

Ends only the child it started. A child in a hung mount may not die before the mount does: `run`
then leaves it, and `reap` waits for it after the contestant has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .nginx import Request, in_a_row, traffic
from .plan import Session
from .results import DONE, FAILED, OVER, WRONG, Result
from .upload import read_log
from .ways import Contestant, clean_env

#: So long after the last line of its log nginx is taken to be idle: three waits of 50 ms.
_QUIET_S = 0.15
_QUIET_DEADLINE_S = 10.0
_REAP_S = 20.0
_MODULES = {"scan": "bench_parts.child_zarr"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of one process, from /proc."""

    cpu_seconds: float
    peak_rss: int


def usage(pid: int | None) -> Usage | None:
    """None for no process, or one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    # Fields 14 and 15 of proc(5), counted from 1 with pid and name.
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu, int(peaks[0]) * 1024) if peaks else None


class Meter:
    """Measures the steps of one contestant in one session of one round."""

    def __init__(self, contestant: Contestant, session: Session, deadline_s: float) -> None:
        self._contestant = contestant
        self._session = session
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[str] | None = None
        self._left: list[subprocess.Popen[str]] = []

    def launch(self) -> None:
        """Start the next child: it imports its libraries while the contestant gets ready."""
        module = _MODULES.get(self._session.kind, "bench_parts.child")
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            env=clean_env(self._contestant.scene),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, result: Result) -> Result:
        """The job, in the child that `launch` started; `result` names the step.

        With it comes all that was measured.
        """
        scene = self._contestant.scene
        log = scene.endpoint.log
        assert log is not None
        log_at = log.stat().st_size
        os.sync()  # what a step before has written goes to the disk on nobody's time
        before = usage(self._contestant.pid)
        answer, trouble = self._answer()
        if trouble is not None:
            result = replace(result, outcome=trouble[0], text=trouble[1])
        requests = self._requests(log, log_at)
        result = replace(result, **_cost(before, usage(self._contestant.pid)))
        result = replace(result, known_keys=self._contestant.known_keys())
        result = _with_traffic(result, requests, answer)
        if answer is None:
            limit = self._deadline_s if result.outcome == OVER else None
            return replace(result, seconds=limit)
        return _with_answer(result, answer, scene.prepared.right, self._session)

    def reap(self) -> None:
        """After the contestant's end: a child that got nothing to do, and those that hung."""
        if self._child is not None:
            self._child.kill()
            self._left.append(self._child)
            self._child = None
        for process in self._left:
            process.wait(_REAP_S)
        self._left.clear()

    def _answer(self) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
        job = {
            "kind": self._session.kind,
            "pattern": self._session.pattern,
            "dataset": self._session.dataset,
            "source": self._contestant.source(),
        }
        process, self._child = self._child, None
        assert process is not None
        try:
            said, errors = process.communicate(json.dumps(job), timeout=self._deadline_s)
        except subprocess.TimeoutExpired:
            # Its session is its own: with it goes the `ls` that it may have started.
            os.killpg(process.pid, signal.SIGKILL)
            self._left.append(process)
            return None, (OVER, f"not done after {self._deadline_s:g} s")
        if process.returncode != 0:
            return None, (FAILED, _last_line(errors) or f"code {process.returncode}")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer, None

    def _requests(self, log: Path, offset: int) -> list[Request]:
        """Also those that were under way at the end: they belong to this step, not to the next."""
        deadline = time.monotonic() + _QUIET_DEADLINE_S
        size = -1
        while size != log.stat().st_size and time.monotonic() < deadline:
            size = log.stat().st_size
            time.sleep(_QUIET_S)
        return read_log(log, offset)


def _last_line(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _cost(before: Usage | None, after: Usage | None) -> dict[str, Any]:
    if before is None or after is None:
        return {}
    return {"cpu_seconds": after.cpu_seconds - before.cpu_seconds, "peak_rss": after.peak_rss}


def _with_traffic(result: Result, requests: list[Request], answer: dict[str, Any] | None) -> Result:
    total = traffic(requests)
    opened = answer["opened"] if answer is not None else None
    return replace(
        result,
        requests=total.requests,
        open_requests=None if opened is None else traffic(requests, before=opened).requests,
        open_rounds=None if opened is None else in_a_row(requests, opened),
        bytes=total.bytes,
        missed=total.missed,
        errors=total.errors,
    )


def _with_answer(
    result: Result, answer: dict[str, Any], right: dict[str, str], session: Session
) -> Result:
    begin = answer["began"] if answer["opened"] is None else answer["opened"]
    opening = None if answer["opened"] is None else answer["opened"] - answer["began"]
    wanted = right[f"{session.kind} {session.pattern}".rstrip()]
    outcome, text = DONE, ""
    if answer["digest"] != wanted:
        outcome, text = WRONG, f"read {answer['digest']}, right is {wanted}"
    return replace(
        result,
        outcome=outcome,
        text=text,
        seconds=answer["ended"] - begin,
        open_seconds=opening,
    )
