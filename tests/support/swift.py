"""A real Swift for tests, run by `scripts/dev-swift up --foreground` as a child of this process.

Owns that child: it ends with `stop()`, and also when the test process dies, because the child
watches the pipe that is its standard input. Looks into buckets with a plain botocore client, so
that what the tests assert never comes from the code under test. Knows nothing of zarrfuse.
"""

import os
import select
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.config
import botocore.session

DEV_SWIFT = Path(__file__).resolve().parents[2] / "scripts" / "dev-swift"

START_DEADLINE_S = 60.0
KEYSTONE_START_DEADLINE_S = 110.0
STOP_DEADLINE_S = 20.0

# Two users beside the administrator of account `test`. The first is in an account of its own that
# it may only read: every bucket is missing there (404), every write is refused (403). The second
# is in the administrator's account without any right: every request is refused (403).
READER_ACCESS_KEY, READER_SECRET_KEY = "other:reader", "reading"
GUEST_ACCESS_KEY, GUEST_SECRET_KEY = "test:guest", "guesting"


class SwiftFailed(RuntimeError):
    """The server did not start, did not stop, or is not running; the text holds what it said."""


@dataclass
class SwiftServer:
    """One Swift on loopback with a data directory of its own; `start` makes a running one."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    dir: Path
    env: dict[str, str]
    pid: int
    keystone: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _client: Any = field(default=None, repr=False)

    @classmethod
    def start(cls, directory: Path, *, port: int = 0, keystone: bool = False) -> "SwiftServer":
        """Start a server whose data is in `directory`; port 0 takes a free one."""
        process = _launch(directory, port=port, keystone=keystone)
        env = read_env(directory / "env")
        return cls(
            endpoint_url=env["AWS_ENDPOINT_URL"],
            access_key=env["AWS_ACCESS_KEY_ID"],
            secret_key=env["AWS_SECRET_ACCESS_KEY"],
            region=env["AWS_REGION"],
            dir=directory,
            env=env,
            pid=_recorded_pid(directory),
            keystone=keystone,
            _process=process,
        )

    @property
    def port(self) -> int:
        port = urlsplit(self.endpoint_url).port
        assert port is not None
        return port

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.dir / "swift.log"

    def stop(self) -> None:
        """End the server and leave its data; nothing if it is stopped already."""
        if self._process is None:
            return
        if self.running:
            # A suspended server could not act on the signal.
            self.resume()
        _end(self._process)
        self._process = None

    def restart(self) -> None:
        """Stop the server if it runs, then start it on the same port and data."""
        self.stop()
        self._process = _launch(self.dir, port=self.port, keystone=self.keystone)
        self.pid = _recorded_pid(self.dir)

    def suspend(self) -> None:
        """Freeze the server: connections are accepted by the kernel and never answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended server go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def client(self) -> Any:
        """A botocore S3 client of the administrator, for arranging and for looking."""
        if self._client is None:
            self._client = self.client_for(self.access_key, self.secret_key)
        return self._client

    def client_for(self, access_key: str, secret_key: str) -> Any:
        """A botocore S3 client with other keys, such as READER_ACCESS_KEY."""
        return botocore.session.Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 3},
                max_pool_connections=16,
            ),
        )

    def make_bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Every key of the bucket (under `prefix`), in the order of the listing."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [row["Key"] for page in pages for row in page.get("Contents", [])]

    def get(self, bucket: str, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def head(self, bucket: str, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.head_object(Bucket=bucket, Key=key)
        return answer

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Write one object; returns its ETag as S3 gives it, in quotes."""
        etag: str = self.client.put_object(Bucket=bucket, Key=key, Body=data)["ETag"]
        return etag

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)

    def delete_all(self, bucket: str, keys: Iterable[str] | None = None) -> None:
        """Delete the given keys, or every key of the bucket."""
        for key in self.keys(bucket) if keys is None else keys:
            self.delete(bucket, key)


def unique_bucket_name() -> str:
    """A name no test has had. The underscores are meant: our users' bucket is `my_bucket`."""
    return f"zf_test_{uuid.uuid4().hex[:12]}"


def read_env(path: Path) -> dict[str, str]:
    """The variables of a file of `export NAME=value` lines."""
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if word != "export")


def _launch(directory: Path, *, port: int, keystone: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(DEV_SWIFT), "up", "--foreground", "--until-eof"]
    command += ["--dir", str(directory), "--port", str(port)]
    if keystone:
        command.append("--keystone")
    directory.mkdir(parents=True, exist_ok=True)
    errors_path = directory / "up.err"
    with errors_path.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    within_s = KEYSTONE_START_DEADLINE_S if keystone else START_DEADLINE_S
    if not _said_ready(process, within_s=within_s):
        _end(process)
        raise SwiftFailed(
            f"Swift is not up after {within_s:g} s (exit code {process.returncode}): "
            f"{errors_path.read_text(errors='replace')}\nIts log is {directory / 'swift.log'}"
        )
    return process


def _said_ready(process: subprocess.Popen[bytes], *, within_s: float) -> bool:
    """True when the child has printed its first line; False at its end or the deadline."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + within_s
    said = b""
    while b"\n" not in said:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(descriptor, 4096) if ready else b""
        if not piece:
            return False
        said += piece
    return True


def _recorded_pid(directory: Path) -> int:
    return int((directory / "swift.pid").read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child: it stops its servers at SIGTERM, and they end with it in any case."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_DEADLINE_S)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
