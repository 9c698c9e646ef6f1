"""The endpoint goes away and comes back: what a store says meanwhile, and what a mount does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faulty_proxy import faulty_proxy
from tests.support.mounts import Mount, wait_until, zarrfuse
from tests.support.stores import s3_endpoint
from tests.support.swift import SwiftServer
from zarrfuse.config import Config
from zarrfuse.core.keys import Key
from zarrfuse.errors import Offline, Unreachable
from zarrfuse.store.open import Traffic, open_store
from zarrfuse.store.s3 import S3Store
from zarrfuse.store.s3_signed import Endpoint
from zarrfuse.store.wake import WakingStore

KEYS = ("plain", "odd/../key")  # obstore carries the one, signed requests the other
QUICK = Config().override(
    "requests", budget_s=1, unreachable_s=1, offline_retry_s=1, backoff_s=0.01
)


@pytest.mark.parametrize("key", KEYS)
def test_a_store_whose_endpoint_goes_away_and_comes_back(
    swift: SwiftServer, bucket: str, key: str
) -> None:
    traffic = Traffic(QUICK.requests)
    with faulty_proxy(swift.endpoint_url) as proxy:
        environ = swift.env | {"AWS_ENDPOINT_URL": proxy.url}
        store = open_store(f"s3://{bucket}", config=QUICK, environ=environ, traffic=traffic)
        store.put(Key(key), b"bytes")
        proxy.down()
        with pytest.raises(Offline, match="cannot connect"):
            store.get(Key(key))
        assert traffic.outage.silence is not None
        before = traffic.counters.snapshot()
        with pytest.raises(Offline):
            store.list_page("")
        assert traffic.counters.snapshot() == before
        with pytest.raises(Unreachable):
            store.put(Key(key), b"new")
        proxy.up()
        store.put(Key(key), b"newer")
        assert traffic.outage.silence is None
        assert store.get(Key(key)).data == b"newer"
        assert [row.key for row in store.list_page("").objects] == [key]


@pytest.mark.parametrize("key", KEYS)
def test_a_store_whose_endpoint_is_silent_for_a_while(
    swift: SwiftServer, bucket: str, key: str
) -> None:
    config = QUICK.override("requests", silence_s=0.5, offline_retry_s=0)
    traffic = Traffic(config.requests)
    swift.put(bucket, key, b"bytes")
    with faulty_proxy(swift.endpoint_url) as proxy:
        environ = swift.env | {"AWS_ENDPOINT_URL": proxy.url}
        store = open_store(f"s3://{bucket}", config=config, environ=environ, traffic=traffic)
        proxy.speaks.clear()
        with pytest.raises(Offline, match="stopped answering"):
            store.get(Key(key))
        with pytest.raises(Offline):
            store.get(Key(key))
        assert traffic.outage.silence is not None
        proxy.speaks.set()
        assert store.get(Key(key)).data == b"bytes"
        assert traffic.outage.silence is None


@pytest.mark.parametrize("key", KEYS)
def test_after_a_jump_of_the_clock_the_connections_are_new(
    swift: SwiftServer, bucket: str, key: str
) -> None:
    swift.put(bucket, key, b"bytes")
    offset_s = 0.0
    with faulty_proxy(swift.endpoint_url) as proxy:
        bare = s3_endpoint(swift, bucket)
        endpoint = Endpoint(proxy.url, bare.region, bare.bucket, bare.credentials)
        s3 = S3Store(endpoint, QUICK.requests)
        store = WakingStore(s3, s3.renew, lambda: offset_s)
        for _ in range(3):
            assert store.get(Key(key)).data == b"bytes"
        before = set(proxy.used)
        offset_s = 3600.0
        for _ in range(3):
            assert store.get(Key(key)).data == b"bytes"
        assert len(proxy.used) == 6
        assert before.isdisjoint(proxy.used[3:])
        store.close()


def read_past_the_kernel(path: Path) -> bytes:
    """The file's bytes from the daemon: pages that the kernel keeps are dropped first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)


def test_a_mount_whose_endpoint_goes_away_and_comes_back(
    swift: SwiftServer, bucket: str, start: Callable[..., Mount]
) -> None:
    for name in ("cached", "uncached", "d/other"):
        swift.put(bucket, name, name.encode() * 100)
    options = ("requests.budget_s=2", "requests.offline_retry_s=0.5", "metadata.ttl_s=0.4")
    with faulty_proxy(swift.endpoint_url) as proxy:
        mount = start(f"s3://{bucket}", proxy.url, "m", options)
        mount.expect("request failed|the bucket is offline")
        assert sorted(os.listdir(mount.path)) == ["cached", "d", "to-zarr", "uncached"]
        assert (mount.path / "cached").read_bytes() == b"cached" * 100
        proxy.down()
        for path in ("uncached", "d/other"):
            with pytest.raises(OSError) as failed:
                (mount.path / path).read_bytes()
            assert failed.value.errno == errno.EIO
        assert sorted(os.listdir(mount.path)) == ["cached", "d", "to-zarr", "uncached"]
        assert read_past_the_kernel(mount.path / "cached") == b"cached" * 100
        assert "cannot connect" in mount.status()["offline"]["reason"]
        assert "offline" in zarrfuse("status", mount.path).stdout
        proxy.up()

        def is_back() -> bool:
            try:
                return (mount.path / "d/other").read_bytes() == b"d/other" * 100
            except OSError as error:
                assert error.errno == errno.EIO
                return False

        wait_until(is_back, "the bucket to be read again")
        assert (mount.path / "uncached").read_bytes() == b"uncached" * 100
        assert mount.status()["offline"] is None
        mount.stop()
