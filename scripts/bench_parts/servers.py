"""The real Swift and the delay proxy of a run: started, found, stopped. Children of this process.

Owns both processes; ends only these, by their handles. Knows no data set and no contestant.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import nginx
from .errors import BenchError
from .install import program

REPOSITORY = Path(__file__).resolve().parents[2]
_START_S = 90.0
_STOP_S = 20.0


@dataclass(frozen=True)
class Endpoint:
    """An S3 endpoint and its keys; `log` is nginx's, None where there is no nginx before it."""

    url: str
    access_key: str
    secret_key: str
    region: str
    latency_ms: float = 0.0
    log: Path | None = None

    def env(self) -> dict[str, str]:
        """The variables that S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


class Swift:
    """`scripts/dev-swift up --foreground`; it ends with us, even when we are killed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        command = [sys.executable, str(REPOSITORY / "scripts" / "dev-swift"), "up"]
        command += ["--foreground", "--until-eof", "--dir", str(directory), "--port", "0"]
        with (directory / "up.err").open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # ^C is for us; we end it after the mounts
            )
        if not self._said_ready():
            self.stop()
            raise BenchError(f"Swift did not start: see {directory / 'up.err'}")
        words = shlex.split((directory / "env").read_text(), comments=True)
        env = dict(word.split("=", 1) for word in words if word != "export")
        self.endpoint = Endpoint(
            env["AWS_ENDPOINT_URL"],
            env["AWS_ACCESS_KEY_ID"],
            env["AWS_SECRET_ACCESS_KEY"],
            env["AWS_REGION"],
        )

    def _said_ready(self) -> bool:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        return bool(ready) and bool(self._process.stdout.readline())

    def stop(self) -> None:
        end_process(self._process)


class Proxy:
    """nginx with a cached and a direct port for each latency; the 0 ms pair always exists."""

    def __init__(self, directory: Path, swift: Endpoint, latencies_ms: Sequence[float]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._swift = swift
        wanted = [(ms, c) for ms in sorted({0.0, *latencies_ms}) for c in (True, False)]
        numbers = _free_ports(len(wanted))
        self._ports = [nginx.Port(n, ms, c) for n, (ms, c) in zip(numbers, wanted, strict=True)]
        conf = directory / "nginx.conf"
        address = urlsplit(swift.url).netloc
        conf.write_text(nginx.configuration(address, self._ports, as_root=os.geteuid() == 0))
        for port in self._ports:
            (directory / port.log).write_text("")
        command = [program("nginx"), "-c", str(conf), "-p", f"{directory}/"]
        with (directory / "up.err").open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        self._wait()

    def endpoint(self, latency_ms: float, *, cached: bool = True) -> Endpoint:
        """The endpoint whose requests wait that long."""
        port = next(p for p in self._ports if (p.latency_ms, p.cached) == (latency_ms, cached))
        return Endpoint(
            f"http://127.0.0.1:{port.number}",
            self._swift.access_key,
            self._swift.secret_key,
            self._swift.region,
            latency_ms,
            self._directory / port.log,
        )

    def stop(self) -> None:
        end_process(self._process)

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while not all(_answers(port.number) for port in self._ports):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = (self._directory / "up.err").read_text(errors="replace")
                raise BenchError(f"nginx did not start: {said}")
            time.sleep(0.05)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not help."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    """Free at this moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
