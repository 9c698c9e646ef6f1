"""fsspec's memory:// file system."""

import uuid
from collections.abc import Iterator

import pytest

from tests.contract.store.suite import DOT_KEYS, MARKER_KEYS, SLASH_KEYS, StoreContract
from zarrfuse.store.base import Store
from zarrfuse.store.fsspec import FsspecStore


class TestFsspecMemory(StoreContract):
    refused = DOT_KEYS | SLASH_KEYS | MARKER_KEYS
    file_beside_directory = False

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        yield FsspecStore(f"memory://bucket-{uuid.uuid4().hex}")
