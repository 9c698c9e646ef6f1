"""A real mount for tests: the `zarrfuse` command in processes of its own, never this one.

Starts it as users do, unmounts it as users do, and fails the test whose daemon logged a warning or
a traceback that the test did not expect. Every wait has a deadline.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BINDINGS = ("mfusepy", "fusepy")
DEADLINE_S = 60.0
#: Short, so that tests see changes of other clients soon; see config.Metadata.
FAST = (
    "metadata.ttl_s=0.4",
    "ingest.deadline_s=60",
    "requests.budget_s=2",
    "requests.offline_retry_s=0",
)


def zarrfuse(
    *args: str | Path, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs the command; its output as text. AssertionError with all it said if `check` fails."""
    done = subprocess.run(
        [sys.executable, "-m", "zarrfuse", *map(str, args)],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if check:
        assert done.returncode == 0, (
            f"zarrfuse {args}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


@dataclass
class Mount:
    """One live mount. `expected` are patterns of log lines that are no defect in this test."""

    source: str
    path: Path
    env: dict[str, str]
    log: Path
    pid: int
    expected: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        source: str,
        path: Path,
        *args: str,
        env: dict[str, str],
        binding: str = "auto",
        options: Sequence[str] = FAST,
    ) -> Mount:
        path.mkdir(exist_ok=True)
        settings = [f"mount.binding={binding}", *options]
        said = zarrfuse("mount", source, path, "-o", ",".join(settings), *args, env=env).stdout
        found = re.search(r"\(pid (\d+), log (.+)\)", said)
        assert found, said
        return cls(source, path, env, Path(found[2]), int(found[1]))

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(zarrfuse("status", self.path, "--json").stdout)
        return answer

    def requests(self) -> dict[str, int]:
        """Requests so far, by verb."""
        return {verb: count["requests"] for verb, count in self.status()["requests"].items()}

    def expect(self, pattern: str) -> None:
        """Log lines that match are part of what this test does."""
        self.expected.append(pattern)

    def stop(self, *, code: int = 0) -> None:
        """Unmounts, waits for the daemon, and looks through its log."""
        done = zarrfuse("umount", self.path, "--wait", "30", check=False)
        assert done.returncode == code, f"umount: {done.returncode}\n{done.stdout}{done.stderr}"
        wait_until(lambda: not alive(self.pid), "the daemon to end")
        self.check_log()

    def kill(self) -> None:
        """SIGKILL to the daemon, and the dead mount removed."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not alive(self.pid), "the daemon to die")
        subprocess.run(["fusermount3", "-uz", str(self.path)], check=True, timeout=DEADLINE_S)

    def clean_up(self) -> None:
        """After a test, whatever became of the mount."""
        if is_mounted(self.path) or alive(self.pid):
            subprocess.run(["fusermount3", "-uz", str(self.path)], timeout=DEADLINE_S, check=False)
            if alive(self.pid):
                os.kill(self.pid, signal.SIGKILL)
                wait_until(lambda: not alive(self.pid), "the daemon to die")

    def check_log(self) -> None:
        """AssertionError for a warning or worse that was not expected."""
        bad = [line for line in self.log.read_text().splitlines() if self._is_bad(line)]
        assert not bad, "the daemon logged:\n" + "\n".join(bad)

    def _is_bad(self, line: str) -> bool:
        if any(re.search(pattern, line) for pattern in self.expected):
            return False
        try:
            entry = json.loads(line)
        except ValueError:
            return bool(line.strip())  # something wrote past the log: a crash, a library
        return entry.get("level") in ("warning", "error", "critical")


def is_mounted(path: Path) -> bool:
    """Also true of a dead mount, on which every question fails."""
    return any(
        line.split()[1] == str(path) for line in Path("/proc/mounts").read_text().splitlines()
    )


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(
    happened: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S
) -> None:
    """Polls; AssertionError with `what` at the deadline."""
    until = time.monotonic() + deadline_s
    while not happened():
        assert time.monotonic() < until, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.02)


def run(*command: str | Path, check: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
    """A program that uses a mount, with a deadline."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=how.pop("timeout", DEADLINE_S),
        check=False,
        **how,
    )
    if check:
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def shell(script: str, *, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A bash script in a directory of the mount."""
    bash = shutil.which("bash")
    assert bash is not None
    return run(bash, "-c", script, cwd=cwd, check=check)
