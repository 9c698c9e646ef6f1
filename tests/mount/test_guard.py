"""No exception below an operation ever reaches a program as data, as success, or as silence."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import FAST, Mount, alive, run, wait_until
from tests.support.swift import SwiftServer


@pytest.fixture
def faulty(
    request: pytest.FixtureRequest, binding: str, swift: SwiftServer, bucket: str, scratch: Path
) -> Iterator[Mount]:
    """A mount whose daemon runs with the fault that the test names, in the foreground."""
    swift.put(bucket, "file", b"x" * 1000)
    process, mount = start_faulty(request.param, binding, swift, bucket, scratch)
    try:
        wait_until(lambda: os.path.ismount(mount.path), "the mount")
        yield mount
    finally:
        run("fusermount3", "-u", mount.path)
        process.wait(30)
        mount.clean_up()


def start_faulty(
    fault: str, binding: str, swift: SwiftServer, bucket: str, scratch: Path
) -> tuple[subprocess.Popen[bytes], Mount]:
    path = scratch / f"guard-{binding}"
    path.mkdir(exist_ok=True)
    log = scratch / f"guard-{binding}-{fault}.log"
    command = [sys.executable, "-m", "tests.support.faulty_daemon", fault, "mount", "-f"]
    options = ",".join([f"mount.binding={binding}", "cache.memory=0", *FAST])
    command += [f"s3://{bucket}", str(path), "--cache-size", "0", "-o", options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=os.environ | swift.env)
    return process, Mount(f"s3://{bucket}", path, swift.env, log, process.pid)


@pytest.mark.parametrize(
    "faulty", ["socket-timeout", "no-errno", "system-exit", "defect"], indirect=True
)
def test_an_unexpected_exception_below_a_read_is_eio(faulty: Mount) -> None:
    for _ in range(8):  # fusepy's own handling gave EINVAL, EIO, ERANGE or success, at random
        with pytest.raises(OSError) as failed:
            (faulty.path / "file").read_bytes()
        assert failed.value.errno == errno.EIO
    assert run("cat", faulty.path / "file", check=False).returncode == 1
    assert alive(faulty.pid), "the daemon lives on"
    assert run("ls", faulty.path).stdout.split() == ["file", "to-zarr"]
    assert "Traceback" in faulty.log.read_text(), "a surprise is logged with its traceback"


@pytest.mark.parametrize("faulty", ["second-socket-timeout"], indirect=True)
def test_a_read_that_fails_now_and_then_gives_the_right_bytes_or_eio(faulty: Mount) -> None:
    """The kernel itself asks twice for a page that could not be read ahead."""
    for _ in range(10):
        try:
            assert (faulty.path / "file").read_bytes() == b"x" * 1000
        except OSError as error:
            assert error.errno == errno.EIO
    assert len(re.findall("unexpected error", faulty.log.read_text())) >= 1


def test_the_process_ends_though_a_fetch_ahead_hangs(
    binding: str, swift: SwiftServer, bucket: str, scratch: Path
) -> None:
    array = {"zarr_format": 2, "shape": [9], "chunks": [9], "dtype": "<f4", "fill_value": 0}
    array |= {"order": "C", "compressor": None, "filters": None}
    swift.put(bucket, "time/.zarray", json.dumps(array).encode())
    swift.put(bucket, "time/0", b"t" * 36)
    process, mount = start_faulty("hung-ahead", binding, swift, bucket, scratch)
    try:
        wait_until(lambda: os.path.ismount(mount.path), "the mount")
        (mount.path / "time/.zarray").read_bytes()
        wait_until(lambda: "fetching ahead hangs" in mount.log.read_text(), "the fetch")
        run("fusermount3", "-u", mount.path)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)
        mount.clean_up()
