"""What only the S3 adapter does: large objects in parts, refusals in words, old servers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import s3_endpoint, s3_store
from tests.support.swift import GUEST_ACCESS_KEY, GUEST_SECRET_KEY, SwiftServer
from zarrfuse.auth.aws import Credentials
from zarrfuse.config import MIB, Config, Requests
from zarrfuse.core.keys import ETag, Key
from zarrfuse.errors import (
    AccessRefused,
    AlreadyExists,
    BucketMissing,
    RegionMismatch,
    Unavailable,
    VersionChanged,
)
from zarrfuse.store.base import list_all
from zarrfuse.store.open import check_store, open_store
from zarrfuse.store.s3 import S3Store
from zarrfuse.store.s3_signed import Endpoint


@pytest.fixture
def endpoint(swift: SwiftServer, bucket: str) -> Endpoint:
    return s3_endpoint(swift, bucket)


@pytest.fixture
def store(swift: SwiftServer, bucket: str) -> Iterator[S3Store]:
    store = s3_store(swift, bucket)
    yield store
    store.close()


@pytest.mark.slow
def test_a_file_of_70_mib_goes_up_in_parts(store: S3Store, tmp_path: Path) -> None:
    data = os.urandom(70 * MIB)
    path = tmp_path / "large"
    path.write_bytes(data)
    meta = store.put(Key("large"), path, if_absent=True)
    assert meta.size == len(data)
    assert meta.etag.endswith("-9")  # parts of 8 MiB
    head = store.head(Key("large"))
    assert (head.size, head.etag) == (meta.size, meta.etag)
    assert store.get(Key("large"), if_match=meta.etag).data == data
    middle = store.get(Key("large"), start=8 * MIB - 5, stop=8 * MIB + 5, if_match=meta.etag)
    assert middle.data == data[8 * MIB - 5 : 8 * MIB + 5]
    with pytest.raises(AlreadyExists):
        store.put(Key("large"), path, if_absent=True)
    copied = store.copy(Key("large"), Key("copy"), if_match=meta.etag)
    assert copied == store.head(Key("copy"))
    assert store.get(Key("copy"), stop=9, if_match=copied.etag).data == data[:9]


@pytest.mark.parametrize(
    ("key", "parts"),
    [("odd/../x", 3), ("odd//x/", 3), ("odd/\x01", None)],  # Swift starts no parts for the last
    ids=ascii,
)
def test_an_odd_key_may_be_large(
    swift: SwiftServer, bucket: str, key: str, parts: int | None
) -> None:
    store = s3_store(swift, bucket, Requests(single_put_bytes=5 * MIB, part_bytes=5 * MIB))
    data = os.urandom(11 * MIB)
    meta = store.put(Key(key), data)
    assert meta.etag.partition("-")[2] == ("" if parts is None else str(parts))
    assert store.get(Key(key), if_match=meta.etag).data == data
    assert [row.key for row in list_all(store, "")] == [key]


def test_a_large_upload_that_fails_leaves_no_parts(swift: SwiftServer, bucket: str) -> None:
    store = s3_store(swift, bucket, Requests(single_put_bytes=5 * MIB, part_bytes=5 * MIB))
    path = Path("/proc/self/mem")  # opens, states a size of zero, and fails to be read
    with pytest.raises(OSError):
        store._put_parts(Key("broken"), path, 11 * MIB, store._endpoint.attempt("PUT", "broken"))
    uploads = swift.client.list_multipart_uploads(Bucket=bucket)
    assert uploads.get("Uploads", []) == []


def test_a_body_that_is_streamed_may_be_conditional(store: S3Store, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(os.urandom(3 * MIB))
    meta = store.put(Key("streamed"), path, if_absent=True)
    assert store.get(Key("streamed"), if_match=meta.etag).data == path.read_bytes()
    with pytest.raises(AlreadyExists):
        store.put(Key("streamed"), path, if_absent=True)


@pytest.mark.slow
def test_more_than_a_thousand_are_deleted(store: S3Store) -> None:
    store.put(Key("one"), b"x")
    assert store.delete_many([*(Key(f"never/{n}") for n in range(1100)), Key("one")]) == {}
    assert list_all(store, "") == []


def test_a_missing_bucket(swift: SwiftServer) -> None:
    store = s3_store(swift, "no_such_bucket")
    with pytest.raises(BucketMissing, match="no_such_bucket"):
        check_store(store)
    with pytest.raises(BucketMissing):
        store.get(Key("k"))
    with pytest.raises(BucketMissing):
        store.put(Key("k"), b"x")
    with pytest.raises(BucketMissing):
        store.delete_many([Key("k")])


@pytest.mark.parametrize("keys", [Credentials("test:tester", "hunter2-wrong"), None], ids=repr)
def test_wrong_or_no_keys(endpoint: Endpoint, keys: Credentials | None) -> None:
    store = S3Store(Endpoint(endpoint.url, endpoint.region, endpoint.bucket, keys), Requests())
    if keys is None:  # Swift takes an unsigned request for one of its own API
        with pytest.raises(Exception, match="LIST s3://"):
            check_store(store)
        return
    for ask in (lambda: check_store(store), lambda: store.get(Key("k"))):
        with pytest.raises(AccessRefused, match="SignatureDoesNotMatch") as caught:
            ask()
        assert "hunter2" not in str(caught.value)
        assert caught.value.request_id.startswith("tx")
    with pytest.raises(AccessRefused, match="secret key"):
        store.put(Key("k"), b"x")


def test_keys_without_rights(swift: SwiftServer, endpoint: Endpoint) -> None:
    guest = Credentials(GUEST_ACCESS_KEY, GUEST_SECRET_KEY)
    store = S3Store(Endpoint(endpoint.url, endpoint.region, endpoint.bucket, guest), Requests())
    for ask in (lambda: check_store(store), lambda: store.head(Key("k"))):
        with pytest.raises(AccessRefused):
            ask()


def test_another_region(endpoint: Endpoint) -> None:
    store = S3Store(
        Endpoint(endpoint.url, "mars", endpoint.bucket, endpoint.credentials), Requests()
    )
    for ask in (lambda: check_store(store), lambda: store.get(Key("k"))):
        with pytest.raises(RegionMismatch) as caught:
            ask()
        assert caught.value.region == "RegionOne"


def test_a_region_nobody_named_is_the_servers(swift: SwiftServer, bucket: str) -> None:
    environ = {
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": swift.access_key,
        "AWS_SECRET_ACCESS_KEY": swift.secret_key,
        "AWS_ENDPOINT_URL": swift.endpoint_url,
    }
    swift.put(bucket, "under/me", b"here")
    store = open_store(f"s3://{bucket}/under", config=Config(), environ=environ)
    check_store(store)
    assert store.get(Key("me")).data == b"here"
    assert [row.key for row in list_all(store, "")] == ["me"]
    with pytest.raises(RegionMismatch, match="--region RegionOne"):
        check_store(open_store(f"s3://{bucket}", config=Config(), environ=environ, region="mars"))


def test_variables_of_the_environment_do_not_reach_around_us(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads AWS_ENDPOINT_URL_S3, AWS_SESSION_TOKEN and proxies by itself."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "not-ours")
    store = S3Store(endpoint, Requests())
    meta = store.put(Key("k"), b"value")
    assert store.get(Key("k"), if_match=meta.etag).data == b"value"
    assert [row.key for row in list_all(store, "")] == ["k"]


def test_an_unknown_version_is_told_apart_from_an_absent_object(store: S3Store) -> None:
    store.put(Key("k"), b"value")
    with pytest.raises(VersionChanged):
        store.get(Key("k"), start=1, stop=2, if_match=ETag("0" * 32))
    store.delete(Key("absent"), if_match=ETag("0" * 32))


def test_a_suspended_server_is_given_up(tmp_path: Path) -> None:
    server = SwiftServer.start(tmp_path)
    try:
        store = s3_store(server, server.make_bucket("frozen"), Requests(silence_s=0.5))
        store.put(Key("k"), b"x")
        server.suspend()
        for ask in (
            lambda: store.get(Key("k")),
            lambda: store.head(Key("k")),
            lambda: store.put(Key("k"), b"y"),
            lambda: check_store(store),
        ):
            with pytest.raises(Unavailable, match="stopped answering"):
                ask()
        server.resume()
        assert store.head(Key("k")).size == 1
    finally:
        server.stop()
