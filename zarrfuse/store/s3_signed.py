"""S3 requests signed with botocore's signer and sent by urllib3, for any key whatever.

Owns the connections and the signature; knows verbs, headers and bodies, not objects. A key goes
into the request line byte by byte (percent-encoded, never normalised), so "..", "//" and control
characters arrive as they are. A stalled transfer fails after `silence_s`, a moving one never does.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from urllib3.connection import HTTPConnection, HTTPSConnection

from zarrfuse.auth.aws import Credentials
from zarrfuse.config import Requests
from zarrfuse.errors import StoreError
from zarrfuse.store.s3_errors import Attempt, Refusal, error_of, from_urllib3

#: A body goes out in pieces of this size: each must leave within `silence_s`.
_PIECE_BYTES = 256 * 1024
_USER_AGENT = "zarrfuse"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bucket is, and who asks: no credentials means unsigned requests."""

    url: str
    region: str
    bucket: str
    credentials: Credentials | None
    ca_bundle: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def attempt(self, verb: str, key: str = "", *, if_absent: bool = False) -> Attempt:
        return Attempt(verb, self.bucket, self.url, key, if_absent)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with a status below 300, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class SignedClient:
    """One bucket's requests. Any thread may call."""

    def __init__(self, endpoint: Endpoint, requests: Requests) -> None:
        parts = urlsplit(endpoint.url)
        self._endpoint = endpoint
        self._base = parts.path.rstrip("/") + "/" + quote(endpoint.bucket, safe="")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._signer = _signer(endpoint)
        self._requests = requests
        self._pool = _pool(endpoint, requests)

    def send(
        self,
        method: str,
        key: str = "",
        *,
        attempt: Attempt,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] = b"",
    ) -> Answer:
        """One request for one object, or for the bucket where `key` is "". No retries.

        A file is sent from its beginning. StoreError for anything but a 2xx.
        """
        target = self.target(key)
        if query:
            target += "?" + "&".join(f"{_encoded(k)}={_encoded(v)}" for k, v in query.items())
        length = _length(body)
        wanted = dict(headers or {})
        if length or method in ("PUT", "POST"):
            wanted["Content-Length"] = str(length)
        signed = self._signed(method, target, wanted, body)
        return self._exchange(method, target, signed, body if length else b"", attempt)

    def target(self, key: str) -> str:
        """The path of the request line for a key, percent-encoded."""
        return f"{self._base}/{quote(key, safe='/~')}" if key else self._base

    def renew(self) -> None:
        """New connections from now on; requests in flight end on theirs."""
        before, self._pool = self._pool, _pool(self._endpoint, self._requests)
        before.close()

    def close(self) -> None:
        self._pool.close()

    def _signed(
        self, method: str, target: str, headers: dict[str, str], body: bytes | IO[bytes]
    ) -> dict[str, str]:
        request = AWSRequest(method, self._origin + target, headers=headers, data=body)
        if self._signer is not None:
            self._signer.add_auth(request)
        return {**dict(request.headers.items()), "User-Agent": _USER_AGENT}

    def _exchange(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | IO[bytes],
        attempt: Attempt,
    ) -> Answer:
        try:
            response = self._pool.urlopen(
                method,
                target,
                body=_Pieces(body) if body else None,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=True,
                decode_content=False,
            )
            answer = Answer(response.status, response.headers, response.data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise from_urllib3(attempt, error) from error
        if answer.status >= 300:
            raise refused(attempt, answer)
        return answer


def refused(attempt: Attempt, answer: Answer) -> StoreError:
    request_id = answer.headers.get("x-amz-request-id", "")
    later_s = retry_after_s(answer.headers.get("Retry-After"))
    return error_of(attempt, Refusal.parse(answer.status, answer.body, request_id, later_s))


def retry_after_s(text: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds until the server wants to be asked again; it says seconds or a date (RFC 9110)."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except ValueError:
        return None


class _Pieces(Iterable[bytes]):
    """A body in pieces, so that the socket's timeout is for a piece and not for the whole."""

    def __init__(self, body: bytes | IO[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        stream = BytesIO(self._body) if isinstance(self._body, bytes) else self._body
        stream.seek(0)
        return iter(lambda: stream.read(_PIECE_BYTES), b"")


def _length(body: bytes | IO[bytes]) -> int:
    if isinstance(body, bytes):
        return len(body)
    length = body.seek(0, 2)
    body.seek(0)
    return length


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _signer(endpoint: Endpoint) -> Any:
    """botocore's signer, or None for an anonymous user.

    It logs what it signs at debug, the session token included: that is turned off.
    """
    keys = endpoint.credentials
    if keys is None:
        return None
    logging.getLogger("botocore.auth").setLevel(logging.INFO)
    boto = BotoCredentials(keys.access_key, keys.secret_key, keys.token)
    return S3SigV4Auth(boto, "s3", endpoint.region)


def _pool(endpoint: Endpoint, requests: Requests) -> urllib3.HTTPConnectionPool:
    """Connections without retries and without the environment's proxies.

    urllib3 sends under the connect timeout; the connection classes put `silence_s` there instead.
    """
    parts = urlsplit(endpoint.url)
    timeout = urllib3.Timeout(connect=requests.connect_s, read=requests.silence_s)
    if parts.scheme == "http":
        pool = urllib3.HTTPConnectionPool(
            parts.hostname or "", parts.port, maxsize=requests.most_at_once, timeout=timeout
        )
    else:
        pool = urllib3.HTTPSConnectionPool(
            parts.hostname or "",
            parts.port,
            maxsize=requests.most_at_once,
            timeout=timeout,
            ssl_context=_tls(endpoint.ca_bundle),
        )
    pool.ConnectionCls = _connection_class(parts.scheme, requests.silence_s)
    return pool


def _tls(ca_bundle: Path | None) -> ssl.SSLContext:
    """The system's trust store, and the bundle of AWS_CA_BUNDLE where there is one."""
    context = ssl.create_default_context()
    if ca_bundle is not None:
        context.load_verify_locations(cafile=str(ca_bundle))
    return context


def _connection_class(scheme: str, silence_s: float) -> Any:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(silence_s)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(silence_s)

    return Plain if scheme == "http" else Secure
