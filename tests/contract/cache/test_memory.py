"""The memory tier keeps the contract."""

from __future__ import annotations

import pytest

from tests.contract.cache.suite import Make, TierContract
from zarrfuse.cache.memory import MemoryBlocks


@pytest.fixture
def make() -> Make:
    return MemoryBlocks


class TestMemoryBlocks(TierContract):
    pass
