"""What went wrong with an S3 request, as an error of zarrfuse with one line for a person.

Pure: a status, a code and texts go in, an exception comes out. Knows the words of Swift, RGW and
AWS, and the exception texts of both clients; keeps only a code, a message and a request id of
them, so that nothing else of a request (a signature, a key, a stack) can reach a log.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from html import unescape
from xml.etree import ElementTree

import urllib3.exceptions as http

from zarrfuse.errors import (
    AccessRefused,
    AlreadyExists,
    BucketFull,
    BucketMissing,
    KeyRefused,
    NotFound,
    QuotaExceeded,
    RegionMismatch,
    RequestRejected,
    StoreError,
    Throttled,
    Unavailable,
    Unreachable,
    VersionChanged,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was being asked for, for the words of an error.

    `if_absent` says which condition a 412 answers.
    """

    verb: str
    bucket: str
    endpoint: str
    key: str = ""
    if_absent: bool = False

    @property
    def what(self) -> str:
        return f"{self.verb} s3://{self.bucket}/{_shown(self.key)}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's answer that is not a success; `code` and `message` are "" where it has no body.

    `retry_after_s` is its header of that name; obstore tells of no headers.
    """

    status: int
    code: str = ""
    message: str = ""
    request_id: str = ""
    region: str = ""
    retry_after_s: float | None = None

    @classmethod
    def parse(
        cls,
        status: int,
        body: str | bytes,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> Refusal:
        """From a body that may be an <Error> document, or anything else."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return cls(
            status=status,
            code=_element(text, "Code"),
            message=_element(text, "Message"),
            request_id=request_id or _element(text, "RequestId"),
            region=_element(text, "Region"),
            retry_after_s=retry_after_s,
        )


#: Codes that say what is wrong better than the status does, with the words for it.
_ACCESS_WORDS = {
    "SignatureDoesNotMatch": "the secret key, or the access key, is wrong",
    "InvalidAccessKeyId": "the access key is unknown to the server",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by more than 15 minutes",
    "ExpiredToken": "the session token has expired",
    "AccessDenied": "these keys may not do this",
}
_KEY_CODES = {"KeyTooLongError", "KeyTooLong", "InvalidURI"}
_THROTTLE_STATUS = {429, 498}
_THROTTLE_CODES = {"SlowDown", "TooManyRequests", "RequestLimitExceeded"}
_EXPECTED_REGION = re.compile(r"expecting '([^']+)'")


def error_of(attempt: Attempt, refusal: Refusal) -> StoreError:
    """The exception that a refusal is."""
    special = _by_code(attempt, refusal)
    return special if special is not None else _by_status(attempt, refusal)


def _by_code(attempt: Attempt, refusal: Refusal) -> StoreError | None:
    code = refusal.code
    if code in ("NoSuchBucket", "InvalidBucketName"):
        reason = "does not exist" if code == "NoSuchBucket" else "has a name the server refuses"
        text = f"bucket {attempt.bucket!r} {reason} at {attempt.endpoint} (for these keys)"
        return _made(BucketMissing, refusal, text)
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect") or refusal.region:
        return _region_error(attempt, refusal)
    if code in _KEY_CODES:
        text = f"{attempt.what}: the server cannot hold such a key ({code})"
        return _made(KeyRefused, refusal, text)
    if code in _ACCESS_WORDS:
        return _made(AccessRefused, refusal, f"{attempt.what}: {_ACCESS_WORDS[code]} ({code})")
    if code == "QuotaExceeded":
        return _made(QuotaExceeded, refusal, f"{attempt.what}: the quota is used up")
    return None


def _made(kind: type[StoreError], refusal: Refusal, text: str) -> StoreError:
    error = kind(text, status=refusal.status, request_id=refusal.request_id)
    if isinstance(error, Unavailable):
        error.retry_after_s = refusal.retry_after_s
    return error


def _region_error(attempt: Attempt, refusal: Refusal) -> StoreError:
    named = _EXPECTED_REGION.search(refusal.message)
    region = refusal.region or (named.group(1) if named else "")
    if not region:
        return _made(RequestRejected, refusal, f"{attempt.what}: {_named(refusal)}")
    return RegionMismatch(
        f"the region of {attempt.endpoint} is {region!r}: pass --region {region}",
        region=region,
        request_id=refusal.request_id,
    )


def _by_status(attempt: Attempt, refusal: Refusal) -> StoreError:
    status = refusal.status
    kind: type[StoreError]
    if status in (401, 403):
        kind, text = AccessRefused, "these keys may not do this"
    elif status == 404:
        kind, text = NotFound, "no such object"
    elif status == 412 and attempt.if_absent:
        kind, text = AlreadyExists, "an object of that key exists"
    elif status == 412:
        kind, text = VersionChanged, "the object is another version by now"
    elif status == 413:
        kind, text = QuotaExceeded, "the quota is used up, or the object is too large"
    elif status == 507:
        kind, text = BucketFull, "the server has no room left"
    elif status in _THROTTLE_STATUS or (status == 503 and refusal.code in _THROTTLE_CODES):
        kind, text = Throttled, f"the server asks for fewer requests ({status})"
    elif status == 408 or (status >= 500 and status != 501):
        kind, text = Unavailable, f"the server failed ({_named(refusal)})"
    else:
        kind, text = RequestRejected, f"the server refuses it ({_named(refusal)})"
    return _made(kind, refusal, f"{attempt.what}: {text}")


def _named(refusal: Refusal) -> str:
    parts = [str(refusal.status), refusal.code, refusal.message]
    return _shown(" ".join(part for part in parts if part))


# obstore: no attributes, only texts. They begin with the object's key, which may hold anything.
_OBSTORE_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})[^:]*:? ?", re.DOTALL)
_OBSTORE_CAUSES = (
    ("ConnectionRefused", "connection refused"),
    ("dns error", "the host name is not known"),
    ("ertificate", "its TLS certificate is not trusted"),
    ("InvalidContentType", "it does not speak TLS (https)"),
    ("ConnectionReset", "the connection was reset"),
    ("NetworkUnreachable", "the network is unreachable"),
    ("HostUnreachable", "the host is unreachable"),
)


def from_obstore(attempt: Attempt, error: Exception) -> StoreError:
    """From an exception of obstore, by its text."""
    text = str(error).replace(f"location {attempt.key} ", "", 1)
    text = text.replace(f"path {attempt.key}:", "", 1)
    text, _, debug = text.partition("\n\nDebug source:")
    status = _OBSTORE_STATUS.search(text)
    if status:
        refusal = Refusal.parse(int(status.group(1)), text[status.end() :])
        return error_of(attempt, refusal)
    for mark, words in _OBSTORE_CAUSES:
        if mark in debug:
            return cannot_connect(attempt, words)
    return interrupted(attempt)


def from_urllib3(attempt: Attempt, error: Exception) -> StoreError:
    """From an exception of urllib3, or of a socket below it."""
    match error:
        case http.NameResolutionError():
            return cannot_connect(attempt, "the host name is not known")
        case http.SSLError():
            return cannot_connect(attempt, _tls_words(str(error)))
        case http.NewConnectionError():
            return cannot_connect(attempt, _os_words(error))
        case http.ConnectTimeoutError():
            return cannot_connect(attempt, "no answer")
        case _:
            return interrupted(attempt)


def cannot_connect(attempt: Attempt, reason: str) -> Unreachable:
    return Unreachable(f"cannot connect to {attempt.endpoint}: {reason}")


def interrupted(attempt: Attempt) -> Unavailable:
    """The connection stood, and then nothing more came, or not all of it."""
    return Unavailable(f"{attempt.what}: {attempt.endpoint} stopped answering, or was cut off")


def _os_words(error: http.NewConnectionError) -> str:
    """The words of the system for it ("connection refused")."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, socket.gaierror):
        return "the host name is not known"
    words = cause.strerror if isinstance(cause, OSError) else None
    return words.lower() if words else "no connection"


def _tls_words(text: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its TLS certificate is not trusted"
    return "it does not speak TLS (https)"


def error_in_body(body: bytes) -> Refusal | None:
    """The <Error> that a COPY or a multipart completion may answer with status 200."""
    root = ElementTree.fromstring(body) if body.strip() else None
    if root is None or root.tag.rpartition("}")[2] != "Error":
        return None
    refusal = Refusal.parse(500, body)
    status = 503 if refusal.code in _THROTTLE_CODES else 500
    return Refusal(status, refusal.code, refusal.message, refusal.request_id)


def _element(text: str, name: str) -> str:
    """The text of the first element of that name; without a parser, the body may be cut."""
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return unescape(found.group(1)) if found else ""


def _shown(text: str) -> str:
    """On one line, whatever is in it."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
