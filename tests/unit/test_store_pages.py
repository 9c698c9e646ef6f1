"""Pages, parts, bodies and documents: the pure pieces below the S3 adapter."""

import hashlib
import io
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import cast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.auth.aws import Credentials
from zarrfuse.config import MIB, Config, Requests
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.errors import RequestRejected, StoreError, Throttled, Unavailable
from zarrfuse.store.limit import RequestLimit
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.open import Traffic, open_store
from zarrfuse.store.order import cut_page, roll_up
from zarrfuse.store.retry import retrying
from zarrfuse.store.s3 import S3Store
from zarrfuse.store.s3_bytes import carries
from zarrfuse.store.s3_delete import delete_document, fits_xml, kept_keys
from zarrfuse.store.s3_errors import Attempt
from zarrfuse.store.s3_listing import listing_query, parse_listing
from zarrfuse.store.s3_multipart import MAX_PARTS, Upload, plan_parts
from zarrfuse.store.s3_signed import Answer, Endpoint, SignedClient, retry_after_s

NAMES = st.text(st.sampled_from("ab/é\U0001f30a."), min_size=1, max_size=6)


def meta(key: str) -> ObjectMeta:
    return ObjectMeta(Key(key), 1, ETag("e"), 0)


@given(keys=st.sets(NAMES, max_size=20), prefix=st.text("ab/", max_size=2), limit=st.integers(1, 5))
def test_pages_of_any_size_make_the_same_listing(keys: set[str], prefix: str, limit: int) -> None:
    rows = [meta(key) for key in keys if key.startswith(prefix)]
    objects, prefixes = roll_up(rows, prefix)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = cut_page(objects, prefixes, after, limit)
        rows_here = [*(row.key for row in page.objects), *page.prefixes]
        assert len(rows_here) <= limit
        seen += sorted(rows_here)
        after = page.next_after
    assert seen == sorted([*(row.key for row in objects), *prefixes], key=str.encode)


@given(size=st.integers(1, 5 * 1024**4), least=st.integers(5 * MIB, 64 * MIB))
def test_parts_cover_the_object_and_are_few_enough(size: int, least: int) -> None:
    parts = plan_parts(size, least)
    assert 1 <= len(parts) <= MAX_PARTS
    assert (parts[0].start, parts[-1].stop) == (0, size)
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert all(part.stop - part.start >= least for part in parts[:-1])
    assert all(part.start % MIB == 0 for part in parts)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))


@pytest.mark.parametrize("key", ["", "/", ".", "..", "a/", "/a", "a//b", "a/./b", "a/..", "\x01"])
def test_what_obstore_would_send_as_something_else(key: str) -> None:
    assert not carries(key)


@pytest.mark.parametrize("key", ["a", "a/b", "...", ".a", "a b", "a%2Fb", "é", "a+b?c#d"])
def test_what_obstore_carries(key: str) -> None:
    assert carries(key)


LISTING = """<?xml version="1.0"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>
<Contents><Key>a%20b%2Bc+d</Key><LastModified>2026-11-23T02:36:38.000Z</LastModified>
<ETag>"abc-2"</ETag><Size>7</Size></Contents>
<CommonPrefixes><Prefix>p%01/</Prefix></CommonPrefixes>
<CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes></ListBucketResult>"""


def test_a_listing_document() -> None:
    page = parse_listing(LISTING.format(truncated="true").encode(), "")
    (row,) = page.objects
    assert (row.key, row.size, row.etag) == ("a b+c+d", 7, "abc-2")
    assert row.modified_ns == 1795401398 * 10**9
    assert page.prefixes == ("p\x01/", "q/")
    assert page.next_after == "q/"
    assert parse_listing(LISTING.format(truncated="false").encode(), "").next_after is None


def test_a_server_that_repeats_the_prefix_it_was_asked_to_begin_after() -> None:
    page = parse_listing(LISTING.format(truncated="true").encode(), "q/")
    assert page.prefixes == ()
    assert page.next_after is not None
    assert page.next_after > "q/zzz\U0001f30a"


@pytest.mark.parametrize("body", [b"", b"<html>", b"<html/>", b"no xml", b"<ListBucketResult><Con"])
def test_no_listing_document(body: bytes) -> None:
    with pytest.raises((ElementTree.ParseError, ValueError)):
        parse_listing(body, "")


def test_more_without_any_row_is_not_the_end() -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    with pytest.raises(ValueError, match="more rows"):
        parse_listing(body, "a")


def test_the_query_of_a_listing() -> None:
    assert listing_query("p/", "p/a", 5000, delimiter=True) == {
        "encoding-type": "url",
        "list-type": "2",
        "max-keys": "1000",
        "prefix": "p/",
        "start-after": "p/a",
        "delimiter": "/",
    }


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda t: t.isprintable()), min_size=1))
def test_a_delete_document_carries_its_keys(texts: list[str]) -> None:
    keys = [Key(text) for text in texts if fits_xml(Key(text))]
    root = ElementTree.fromstring(delete_document(keys))
    assert [element.text for element in root.iter("Key")] == keys


def test_the_keys_that_were_kept() -> None:
    body = (
        b"<DeleteResult><Error><Key>a&amp;b</Key><Code>AccessDenied</Code><Message>no</Message>"
        b"</Error><Deleted><Key>c</Key></Deleted></DeleteResult>"
    )
    (key, refusal) = next(iter(kept_keys(body).items()))
    assert (key, refusal.status, refusal.code) == ("a&b", 403, "AccessDenied")


def test_a_clock_that_is_given() -> None:
    assert MemoryStore(clock=lambda: 12.5).put(Key("k"), b"").modified_ns == 12_500_000_000


# the adapter against servers that answer badly


@contextmanager
def answering(*responses: bytes) -> Iterator[str]:
    """A server that gives one response to each connection, the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def serve() -> None:
        left = list(responses)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                _read_request(connection)
                connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _read_request(connection: socket.socket) -> None:
    seen = io.BytesIO()
    while b"\r\n\r\n" not in seen.getvalue():
        piece = connection.recv(65536)
        if not piece:
            return
        seen.write(piece)
    head, _, body = seen.getvalue().partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0 and (piece := connection.recv(65536)):
        missing -= len(piece)


def response(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Words",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


DATE = "Mon, 23 Nov 2026 04:05:57 GMT"


def store_at(url: str) -> S3Store:
    return S3Store(Endpoint(url, "r", "b", Credentials("id", "hidden-value")), Requests())


@pytest.mark.parametrize("key", ["plain", "odd/../key"])
def test_a_body_that_is_cut(key: str) -> None:
    cut = response(200, b"abc", length=100, ETag='"x"', Last_Modified=DATE)
    with answering(cut) as url, pytest.raises(Unavailable):
        store_at(url).get(Key(key))


@pytest.mark.parametrize("key", ["plain", "odd/../key"])
@pytest.mark.parametrize(
    ("status", "wanted"), [(498, Throttled), (429, Throttled), (502, Unavailable)]
)
def test_a_status_without_a_document(key: str, status: int, wanted: type[StoreError]) -> None:
    with answering(response(status, b"<html>", x_amz_request_id="tx7")) as url:
        for ask in (
            lambda: store_at(url).get(Key(key)),
            lambda: store_at(url).put(Key(key), b"x"),
            lambda: store_at(url).list_page(""),
        ):
            with pytest.raises(wanted) as caught:
                ask()
            assert type(caught.value) is wanted
            assert "hidden-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "wanted_s"),
    [("7", 7), ("Mon, 23 Nov 2026 04:06:07 GMT", 10), (DATE, 0), ("soon", None), (None, None)],
)
def test_when_the_server_wants_to_be_asked_again(said: str | None, wanted_s: float | None) -> None:
    now = parsedate_to_datetime(DATE).timestamp()
    assert retry_after_s(said, now=lambda: now) == wanted_s
    headers = {} if said is None else {"Retry_After": said}
    with answering(response(503, **headers)) as url, pytest.raises(Unavailable) as caught:
        store_at(url).list_page("")
    assert (caught.value.retry_after_s is None) is (wanted_s is None)


@pytest.mark.parametrize("key", ["plain", "odd/../key"])
def test_other_bytes_than_were_sent(key: str) -> None:
    with (
        answering(response(200, ETag=f'"{"0" * 32}"')) as url,
        pytest.raises(Unavailable, match="other bytes"),
    ):
        store_at(url).put(Key(key), b"what was sent")


@pytest.mark.parametrize("key", ["plain", "odd/../key"])
def test_a_server_without_conditions_is_looked_at_first(key: str) -> None:
    """Swift before 2.36 answers 501 to If-None-Match."""
    etag = '"9dd4e461268c8034f5c8564e155c67a6"'
    with answering(response(501), response(404), response(200, ETag=etag)) as url:
        store = store_at(url)
        assert store.put(Key(key), b"x", if_absent=True).size == 1
        with pytest.raises(StoreError):  # remembered: the first request is a HEAD now
            store.put(Key(key), b"x", if_absent=True)


def test_a_200_with_an_error_in_it() -> None:
    body = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"
    with answering(response(200, body)) as url, pytest.raises(Unavailable):
        store_at(url).copy(Key("a"), Key("b"))


def test_a_listing_that_is_none() -> None:
    with answering(response(200, b"<html>")) as url, pytest.raises(Unavailable):
        store_at(url).list_page("")


STARTED = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


def test_each_part_has_a_place_and_no_other_request_of_an_upload() -> None:
    """Not the completion, which may last; and a part that is refused is heard of by the limit."""
    limit = RequestLimit(Requests(at_once=2, at_most=2))
    digest = hashlib.md5(hashlib.md5(bytes(MIB), usedforsecurity=False).digest() * 6).hexdigest()
    completed = f'<Result><ETag>"{digest}-6"</ETag></Result>'.encode()
    seen: list[tuple[str, int]] = []
    refusals = [Throttled("slower", status=429)]

    class Client:
        def send(self, method: str, key: str, **how: object) -> Answer:
            seen.append((method, limit.snapshot()["in_flight"]))
            if method == "PUT" and refusals:
                raise refusals.pop()
            return Answer(200, {}, STARTED if len(seen) == 1 else completed)

    def paused(s: float) -> None:
        seen.append(("pause", 0))

    upload = Upload(
        cast("SignedClient", Client()),
        Key("k"),
        bytes(6 * MIB),
        Attempt("PUT", "b", "http://x", "k", if_absent=False),
        retrying(Requests(), sleep=paused),
        limit.run,
    )
    assert upload.run(plan_parts(6 * MIB, MIB), if_absent=False) == f"{digest}-6"
    assert seen[-1] == ("POST", 0)
    sent = [count for method, count in seen if method == "PUT"]
    assert len(sent) == 7 and set(sent) <= {1, 2}
    assert ("pause", 0) in seen
    assert limit.snapshot()["throttled"] == 1
    assert limit.snapshot()["in_flight"] == 0


def test_the_parts_of_an_upload_are_limited_in_a_store_that_was_opened() -> None:
    part = hashlib.md5(bytes(MIB), usedforsecurity=False).digest()
    etag = f"{hashlib.md5(part, usedforsecurity=False).hexdigest()}-1"
    completed = f'<Result><ETag>"{etag}"</ETag></Result>'.encode()
    config = Config().override("requests", single_put_bytes=1, backoff_s=0.001)
    traffic = Traffic(config.requests)
    environ = {
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "hidden-value",
        "AWS_REGION": "r",
    }
    answers = (response(200, STARTED), response(429), response(200), response(200, completed))
    with answering(*answers) as url:
        store = open_store(
            "s3://b", config=config, environ=environ, endpoint_url=url, traffic=traffic
        )
        assert store.put(Key("k"), bytes(MIB)).etag == etag
        store.close()
    assert traffic.limit.snapshot()["throttled"] == 1


def test_another_refusal() -> None:
    with answering(response(400)) as url, pytest.raises(RequestRejected):
        store_at(url).delete(Key("k"))


def test_no_secret_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    keys = Credentials("id", "hidden-value", "hidden-token")
    caplog.set_level(logging.DEBUG)
    with answering(response(403)) as url:
        store = S3Store(Endpoint(url, "r", "b", keys), Requests())
        for ask in (lambda: store.list_page(""), lambda: store.get(Key("k"))):
            with pytest.raises(StoreError) as caught:
                ask()
            chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
            assert "hidden" not in chain
        store.close()
    assert caplog.records  # urllib3 has said something, so it would have been seen
    assert "hidden" not in caplog.text
    assert "hidden" not in repr(Endpoint(url, "r", "b", keys))
