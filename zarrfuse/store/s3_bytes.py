"""The bytes of objects through obstore: GET, HEAD and small PUT, at a fraction of Python's cost.

Takes only keys that obstore carries unchanged (`carries`), and answers its exceptions as ours. It
never retries and never lists; who calls decides what goes here and what goes signed by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as ObstoreS3

from zarrfuse.config import Requests
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.errors import RequestRejected, StoreError, Unavailable
from zarrfuse.store.base import Fetched
from zarrfuse.store.s3_errors import Attempt, from_obstore
from zarrfuse.store.s3_signed import Endpoint

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode
    from obstore import ObjectMeta as ObstoreMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

#: obstore's own timeout covers the whole body, and a moving transfer has no limit.
_WHOLE_REQUEST = timedelta(days=7)


def carries(key: str) -> bool:
    """Whether obstore sends this key as it is: it drops, or refuses, odd slashes and dots.

    An empty key, or "/", would fetch the bucket's listing as if it were an object.
    """
    return all(part not in ("", ".", "..") for part in key.split("/")) and not any(
        char < " " or char == "\x7f" for char in key
    )


class ByteClient:
    """One bucket, for any thread. No process may fork once the first call was made."""

    def __init__(self, endpoint: Endpoint, requests: Requests) -> None:
        self._endpoint = endpoint
        self._requests = requests
        self.renew()

    def renew(self) -> None:
        """New connections from now on; requests in flight end on theirs."""
        self._store = ObstoreS3(
            self._endpoint.bucket,
            config=_config(self._endpoint),
            credential_provider=_keys_of(self._endpoint),
            client_options=_client_options(self._endpoint, self._requests),
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        )

    def head(self, key: Key, if_match: ETag | None, attempt: Attempt) -> ObjectMeta:
        options: GetOptions = {"head": True}
        if if_match is not None:
            options["if_match"] = if_match.quoted
        try:
            return _meta(key, obstore.get(self._store, key, options=options).meta)
        except (BaseError, OSError, ValueError) as error:
            raise self._told(attempt, error) from error

    def get(
        self, key: Key, start: int, stop: int | None, if_match: ETag | None, attempt: Attempt
    ) -> Fetched:
        """RequestRejected with status 416 where no byte of the object is in the range."""
        options: GetOptions = {}
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        if if_match is not None:
            options["if_match"] = if_match.quoted
        try:
            answer = obstore.get(self._store, key, options=options)
            data = answer.bytes().to_bytes()
        except (BaseError, OSError, ValueError) as error:
            raise self._told(attempt, error) from error
        first, last = answer.range
        if len(data) != last - first:
            raise Unavailable(f"{attempt.what}: {len(data)} bytes came instead of {last - first}")
        return Fetched(_meta(key, answer.meta), data)

    def put(self, key: Key, data: bytes, attempt: Attempt) -> ETag:
        """One PUT, conditional where `attempt.if_absent` says so."""
        mode: PutMode = "create" if attempt.if_absent else "overwrite"
        try:
            answer = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
        except (BaseError, OSError, ValueError) as error:
            raise self._told(attempt, error) from error
        return ETag.parse(answer["e_tag"])

    def _told(self, attempt: Attempt, error: Exception) -> StoreError:
        if isinstance(error, ValueError):
            return RequestRejected(f"{attempt.what}: the client refuses it")
        return from_obstore(attempt, error)


def _meta(key: Key, meta: ObstoreMeta) -> ObjectMeta:
    when = meta["last_modified"]
    return ObjectMeta(
        key=key,
        size=meta["size"],
        etag=ETag.parse(meta["e_tag"]),
        modified_ns=int(when.timestamp()) * 10**9 + when.microsecond * 1000,
    )


def _config(endpoint: Endpoint) -> S3Config:
    """Every setting that obstore would else take from the environment, where it stands above ours.

    The type knows only the name "endpoint", over which AWS_ENDPOINT_URL_S3 would win.
    """
    config = {
        "aws_endpoint_url_s3": endpoint.url,
        "region": endpoint.region,
        "virtual_hosted_style_request": False,
        "unsigned_payload": False,
        "skip_signature": endpoint.credentials is None,
    }
    return cast("S3Config", config)


def _keys_of(endpoint: Endpoint) -> Callable[[], S3Credential] | None:
    """As a provider, because as settings they would be joined by AWS_SESSION_TOKEN."""
    keys = endpoint.credentials
    if keys is None:
        return None
    answer: S3Credential = {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token,
        "expires_at": None,
    }
    return lambda: answer


def _client_options(endpoint: Endpoint, requests: Requests) -> ClientConfig:
    """A proxy that excludes the one host there is: the environment's proxies are not for us."""
    options: ClientConfig = {
        "allow_http": endpoint.url.startswith("http://"),
        "connect_timeout": timedelta(seconds=requests.connect_s),
        "read_timeout": timedelta(seconds=requests.silence_s),
        "timeout": _WHOLE_REQUEST,
        "user_agent": "zarrfuse",
        "proxy_url": endpoint.url,
        "proxy_excludes": urlsplit(endpoint.url).hostname or "",
    }
    if endpoint.ca_bundle is not None:
        options["root_certificate"] = endpoint.ca_bundle.read_bytes()
    return options
