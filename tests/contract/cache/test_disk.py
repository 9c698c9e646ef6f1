"""The disk tier keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.contract.cache.suite import Make, TierContract
from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import Limits


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    clock = count(10**18)
    with ExitStack() as made:

        def build(room: int) -> BlockCache:
            cache = BlockCache(tmp_path, Limits(room, 0), clock_ns=lambda: next(clock))
            made.callback(cache.close)
            return cache

        yield build


class TestBlockCache(TierContract):
    pass
