"""s3fs on a real Swift, as any fsspec file system."""

from collections.abc import Iterator

import pytest

from tests.contract.store.suite import DOT_KEYS, MARKER_KEYS, SLASH_KEYS, StoreContract
from tests.support.stores import s3_store, s3fs_options
from tests.support.swift import SwiftServer
from zarrfuse.core.keys import Key
from zarrfuse.store.base import Store
from zarrfuse.store.fsspec import FsspecStore


class TestS3fs(StoreContract):
    refused = DOT_KEYS | SLASH_KEYS | MARKER_KEYS

    @pytest.fixture
    def store(self, swift: SwiftServer, bucket: str) -> Iterator[Store]:
        self.other = s3_store(swift, bucket)  # four times as fast to fill a bucket with
        yield FsspecStore(f"s3://{bucket}", s3fs_options(swift))

    def seed(self, store: Store, keys: list[Key]) -> None:
        super().seed(self.other, keys)
