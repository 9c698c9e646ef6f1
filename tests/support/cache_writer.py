"""Another daemon on the same cache directory, as a process of its own.

    python -m tests.support.cache_writer fill  DIRECTORY LIMIT SIZE SEED COUNT
    python -m tests.support.cache_writer stall DIRECTORY LIMIT SIZE WHERE

`fill` stores COUNT blocks among 40, from 8 threads. `stall` reserves block 1, stops at WHERE
(reserved, half-written, written, renamed), says so on stdout and waits to be killed.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tests.support.cache_fakes import block_id
from zarrfuse.cache import files
from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import Limits


def fill(cache: BlockCache, size: int, seed: int, count: int) -> int:
    """Stores blocks from 8 threads; how many were kept."""

    def work(thread: int) -> int:
        random = Random(seed * 100 + thread)
        kept = 0
        for _ in range(count // 8):
            number = random.randrange(40)
            data = cache.get(block_id(number, size))
            if data not in (None, bytes([number]) * size):
                raise AssertionError(f"block {number} is another one")
            kept += cache.put(block_id(number, size), bytes([number]) * size)
        return kept

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(work, range(8), timeout=60))


def stall(cache: BlockCache, size: int, where: str) -> None:
    room = cache.reserve(block_id(1, size))
    assert room is not None
    if where == "reserved":
        _wait_for_the_end(where)
    if where == "half-written":
        files._write_all = _write_half
    if where == "written":
        cache._files.publish = lambda name, token: _wait_for_the_end(where)  # type: ignore[method-assign]
    if where == "renamed":
        publish = cache._files.publish

        def publish_and_wait(name: bytes, token: int) -> None:
            publish(name, token)
            _wait_for_the_end(where)

        cache._files.publish = publish_and_wait  # type: ignore[method-assign]
    room.store(bytes([1]) * size)
    cache.drain()


def _write_half(fd: int, head: bytes, payload: bytes) -> None:
    os.write(fd, head + payload[: len(payload) // 2])
    _wait_for_the_end("half-written")


def _wait_for_the_end(where: str) -> None:
    print(where, flush=True)
    threading.Event().wait(60)


def main(job: str, directory: str, limit: str, size: str, *rest: str) -> None:
    cache = BlockCache(Path(directory), Limits(int(limit), 0))
    if job == "fill":
        print(fill(cache, int(size), int(rest[0]), int(rest[1])), flush=True)
        cache.close()
    else:
        stall(cache, int(size), rest[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
