"""A local directory: holds what can be a path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store.suite import (
    DOT_KEYS,
    LONG_NAME_KEYS,
    MARKER_KEYS,
    SLASH_KEYS,
    StoreContract,
)
from zarrfuse.store.base import Store
from zarrfuse.store.local import LocalStore


class TestLocalStore(StoreContract):
    refused = DOT_KEYS | SLASH_KEYS | MARKER_KEYS | LONG_NAME_KEYS
    file_beside_directory = False

    @pytest.fixture
    def store(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
        yield LocalStore(Path(tmp_path_factory.mktemp("bucket")))
