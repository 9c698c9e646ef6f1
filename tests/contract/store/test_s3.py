"""Our own S3 adapter on a real Swift: holds every key there is."""

from collections.abc import Iterator

import pytest

from tests.contract.store.suite import StoreContract
from tests.support.stores import s3_store
from tests.support.swift import SwiftServer
from zarrfuse.store.base import Store


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, swift: SwiftServer, bucket: str) -> Iterator[Store]:
        store = s3_store(swift, bucket)
        yield store
        store.close()
