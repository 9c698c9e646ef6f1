"""The bucket tree on a bucket in memory."""

from __future__ import annotations

import pytest

from tests.contract.tree.suite import TreeContract
from zarrfuse.store.base import Store
from zarrfuse.store.memory import MemoryStore


@pytest.fixture
def store() -> Store:
    return MemoryStore()


class TestOnMemory(TreeContract):
    pass
