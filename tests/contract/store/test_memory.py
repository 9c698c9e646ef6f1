"""The store in memory: refuses nothing that S3 takes."""

from collections.abc import Iterator

import pytest

from tests.contract.store.suite import StoreContract
from zarrfuse.store.base import Store
from zarrfuse.store.memory import MemoryStore


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        yield MemoryStore()
