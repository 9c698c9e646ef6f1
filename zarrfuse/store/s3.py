"""A bucket behind an S3 endpoint: OpenStack Swift first, RGW and AWS as well.

Two clients share the work: obstore carries bytes and HEADs, signed requests do everything that
obstore cannot (listings, odd keys, COPY, DELETE, large uploads). Makes one try of everything;
repeating, limiting and logging are wrappers.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

from zarrfuse.config import KIB, Requests
from zarrfuse.core.keys import ETag, Key, ObjectMeta, content_md5, is_key_text
from zarrfuse.errors import (
    AlreadyExists,
    KeyRefused,
    NotFound,
    RequestRejected,
    StoreError,
    Unavailable,
    VersionChanged,
)
from zarrfuse.store.base import Body, Fetched, Page
from zarrfuse.store.bodies import md5_of, size_of, whole_of
from zarrfuse.store.retry import retrying
from zarrfuse.store.s3_bytes import ByteClient, carries
from zarrfuse.store.s3_delete import MAX_KEYS, delete_document, fits_xml, kept_keys
from zarrfuse.store.s3_errors import Attempt, error_in_body, error_of
from zarrfuse.store.s3_listing import listing_query, parse_listing
from zarrfuse.store.s3_multipart import Performing, Upload, plan_parts
from zarrfuse.store.s3_signed import Answer, Endpoint, SignedClient

#: obstore's read timeout runs while a body is sent, too. A body that this pace cannot send within
#: `silence_s` (2 MB for 30 s) goes signed, where the timeout is for each piece.
_SLOWEST_BYTES_PER_S = 64 * KIB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def _at_once(request: Callable[[], Answer]) -> Answer:
    return request()


class S3Store:
    """One bucket. `modified_ns` of a PUT is this machine's clock, rounded up as Swift does.

    `limited` performs each part of a large upload when there is a place for it; all else is one
    request for each verb, which callers limit themselves.
    """

    def __init__(
        self, endpoint: Endpoint, requests: Requests, *, limited: Performing = _at_once
    ) -> None:
        self._endpoint = endpoint
        self._requests = requests
        self._limited = limited
        self._bytes = ByteClient(endpoint, requests)
        self._signed = SignedClient(endpoint, requests)
        self._knows_if_absent = True  # until a server (Swift before 2.36) answers 501

    @property
    def describe(self) -> str:
        return f"s3://{self._endpoint.bucket} at {self._endpoint.url}"

    def renew(self) -> None:
        """Drops all connections; those in use end with their requests."""
        self._bytes.renew()
        self._signed.renew()

    def close(self) -> None:
        self._signed.close()

    # reading

    def head(self, key: Key) -> ObjectMeta:
        return self._head(key, None)

    def _head(self, key: Key, if_match: ETag | None) -> ObjectMeta:
        attempt = self._attempt("HEAD", key)
        if carries(key):
            return self._bytes.head(key, if_match, attempt)
        headers = {"If-Match": if_match.quoted} if if_match is not None else {}
        answer = self._signed.send("HEAD", key, attempt=attempt, headers=headers)
        length = answer.headers.get("Content-Length")
        if length is None:
            raise Unavailable(f"{attempt.what}: the answer states no size")
        return _meta(key, answer, int(length))

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        attempt = self._attempt("GET", key)
        if stop is not None and stop <= start:
            return Fetched(self._head(key, if_match), b"")
        fetch = self._bytes.get if carries(key) else self._get_signed
        try:
            return fetch(key, start, stop, if_match, attempt)
        except RequestRejected as error:
            if error.status != 416:
                raise
            return self._past_end(key, start, if_match)

    def _past_end(self, key: Key, start: int, if_match: ETag | None) -> Fetched:
        """A range without a byte: empty, unless the object grew in between."""
        meta = self._head(key, if_match)
        if meta.size > start:
            raise Unavailable(f"{key}: changed while it was being read")
        return Fetched(meta, b"")

    def _get_signed(
        self, key: Key, start: int, stop: int | None, if_match: ETag | None, attempt: Attempt
    ) -> Fetched:
        headers: dict[str, str] = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_match is not None:
            headers["If-Match"] = if_match.quoted
        answer = self._signed.send("GET", key, attempt=attempt, headers=headers)
        stated = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status == 206 and stated:
            return Fetched(_meta(key, answer, int(stated.group(3))), answer.body)
        return Fetched(_meta(key, answer, len(answer.body)), answer.body[start:stop])

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        attempt = self._endpoint.attempt("LIST", prefix)
        query = listing_query(prefix, after, limit, delimiter=delimiter)
        try:
            answer = self._signed.send("GET", attempt=attempt, query=query)
            return parse_listing(answer.body, after)
        except UnicodeEncodeError:
            raise KeyRefused(f"{attempt.what}: not UTF-8") from None
        except (ParseError, ValueError, KeyError) as error:
            raise Unavailable(f"{attempt.what}: the answer is no listing ({error})") from error

    # writing

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        attempt = self._attempt("PUT", key, if_absent=if_absent)
        if if_absent and not self._knows_if_absent:
            return self._put_after_look(key, body)
        size = size_of(body)
        if self.sends_in_parts(key, body):
            etag = self._put_parts(key, body, size, attempt)
        else:
            try:
                etag = self._put_whole(key, body, size, attempt)
            except RequestRejected as error:
                if not if_absent or error.status != 501:
                    raise
                self._knows_if_absent = False
                return self._put_after_look(key, body)
        if not etag:  # a gateway that answers a PUT without one
            return self.head(key)
        return ObjectMeta(key, size, etag, math.ceil(time.time()) * 10**9)

    def sends_in_parts(self, key: Key, body: Body) -> bool:
        """Whether `put` makes many requests of it."""
        is_large = size_of(body) > self._requests.single_put_bytes
        return is_large and fits_xml(key)  # Swift answers in XML

    def _put_after_look(self, key: Key, body: Body) -> ObjectMeta:
        """If-absent for a server that has no such condition: two writers may both believe it."""
        self._refuse_existing(key)
        return self.put(key, body)

    def _refuse_existing(self, key: Key) -> None:
        try:
            self.head(key)
        except NotFound:
            return
        raise AlreadyExists(f"{key}: an object of that key exists", status=412)

    def _put_whole(self, key: Key, body: Body, size: int, attempt: Attempt) -> ETag:
        if carries(key) and size <= self._requests.silence_s * _SLOWEST_BYTES_PER_S:
            data = whole_of(body)
            md5 = md5_of(data)
            etag = self._bytes.put(key, data, attempt)
        else:
            md5 = md5_of(body)
            etag = self._put_signed(key, body, md5, attempt)
        if content_md5(etag) not in (None, md5):
            raise Unavailable(f"{attempt.what}: the server holds other bytes than were sent")
        return etag

    def _put_signed(self, key: Key, body: Body, md5: str, attempt: Attempt) -> ETag:
        headers = {"Content-MD5": base64.b64encode(bytes.fromhex(md5)).decode()}
        if attempt.if_absent:
            headers["If-None-Match"] = "*"
        if isinstance(body, bytes):
            answer = self._signed.send("PUT", key, attempt=attempt, headers=headers, body=body)
        else:
            with body.open("rb") as file:
                answer = self._signed.send("PUT", key, attempt=attempt, headers=headers, body=file)
        return ETag.parse(answer.headers.get("ETag"))

    def _put_parts(self, key: Key, body: Body, size: int, attempt: Attempt) -> ETag:
        if attempt.if_absent:  # the condition itself is only checked when all is uploaded
            self._refuse_existing(key)
        again = retrying(self._requests)
        upload = Upload(self._signed, key, body, attempt, again, self._limited)
        parts = plan_parts(size, self._requests.part_bytes)
        return upload.run(parts, if_absent=attempt.if_absent)

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        attempt = self._attempt("COPY", source)
        self._attempt("COPY", target)
        path = quote(f"/{self._endpoint.bucket}/{source}", safe="/~")
        headers = {"x-amz-copy-source": path}
        if if_match is not None:
            headers["x-amz-copy-source-if-match"] = if_match.quoted
        answer = self._signed.send("PUT", target, attempt=attempt, headers=headers)
        failure = error_in_body(answer.body)
        if failure is not None:
            raise error_of(attempt, failure)
        return self.head(target)  # a copied multipart object has another ETag in LIST

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        attempt = self._attempt("DELETE", key)
        headers = {"If-Match": if_match.quoted} if if_match is not None else {}
        try:
            self._signed.send("DELETE", key, attempt=attempt, headers=headers)
        except NotFound:
            return
        except VersionChanged:
            if self._exists(key):
                raise

    def _exists(self, key: Key) -> bool:
        try:
            self.head(key)
        except NotFound:
            return False
        return True

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        kept: dict[Key, StoreError] = {}
        together = [key for key in keys if is_key_text(key) and fits_xml(key)]
        for start in range(0, len(together), MAX_KEYS):
            kept |= self._delete_together(together[start : start + MAX_KEYS])
        for key in set(keys) - set(together):
            try:
                self.delete(key)
            except KeyRefused as error:
                kept[key] = error
        return kept

    def _delete_together(self, keys: Sequence[Key]) -> dict[Key, StoreError]:
        document = delete_document(keys)
        digest = hashlib.md5(document, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(digest).decode()}
        attempt = self._endpoint.attempt("DELETE", keys[0].parent)
        answer = self._signed.send(
            "POST", attempt=attempt, query={"delete": ""}, headers=headers, body=document
        )
        try:
            kept = kept_keys(answer.body)
        except ParseError as error:
            raise Unavailable(f"{attempt.what}: the answer is no document") from error
        errors = {
            key: error_of(self._endpoint.attempt("DELETE", key), refusal)
            for key, refusal in kept.items()
        }
        return {key: error for key, error in errors.items() if not isinstance(error, NotFound)}

    def _attempt(self, verb: str, key: Key, *, if_absent: bool = False) -> Attempt:
        """The words for this request; KeyRefused for what no server takes as a key."""
        if not is_key_text(key):
            raise KeyRefused(f"{verb} {key!a}: not UTF-8, empty, or longer than 1024 bytes")
        return self._endpoint.attempt(verb, key, if_absent=if_absent)


def _meta(key: Key, answer: Answer, size: int) -> ObjectMeta:
    when = answer.headers.get("Last-Modified")
    seconds = int(parsedate_to_datetime(when).timestamp()) if when else 0
    return ObjectMeta(key, size, ETag.parse(answer.headers.get("ETag")), seconds * 10**9)
