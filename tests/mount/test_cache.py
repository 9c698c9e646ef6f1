"""The cache through a real mount: it survives the mount, and keeps to its memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.mounts import Mount
from tests.support.swift import SwiftServer, unique_bucket_name

Start = Callable[..., Mount]
MIB = 1024 * 1024


def test_all_that_was_read_is_there_after_a_remount(
    start: Start, binding: str, swift: SwiftServer, tmp_path: Path
) -> None:
    bucket = swift.make_bucket(unique_bucket_name())
    bodies = {f"c/{number}": f"body {number} ".encode() * 1000 for number in range(60)}
    for key, body in bodies.items():
        swift.put(bucket, key, body)
    cache = ("--cache-dir", str(tmp_path))
    first = start(f"s3://{bucket}", *cache, binding=binding)
    assert {key: (first.path / key).read_bytes() for key in bodies} == bodies
    first.stop()  # at once: what was read last is still on its way to the disk
    again = start(f"s3://{bucket}", *cache, binding=binding)
    assert {key: (again.path / key).read_bytes() for key in bodies} == bodies
    assert again.requests().get("get", 0) == 0
    again.stop()


def test_memory_stays_within_its_budgets(
    start: Start, binding: str, swift: SwiftServer, tmp_path: Path
) -> None:
    """150 MiB and what is configured, for many times as much data and several readers."""
    bucket = swift.make_bucket(unique_bucket_name())
    pattern = hashlib.sha256(bucket.encode()).digest() * (MIB // 32)
    swift.put(bucket, "large", pattern * 192)
    options = ("cache.memory=16MiB", "prefetch.bytes=16MiB", "requests.budget_s=20")
    mount = start(f"s3://{bucket}", "--cache-dir", str(tmp_path), binding=binding, options=options)

    def read(first: int) -> int:
        with (mount.path / "large").open("rb") as file:
            file.seek(first * MIB)
            return sum(file.read(MIB) == pattern for _ in range(48))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(0, 192, 48), timeout=60)) == [48] * 4
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{mount.pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) / 1024 < 150 + 16 + 16
    mount.stop()
