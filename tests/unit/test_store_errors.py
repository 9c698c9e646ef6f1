"""Statuses, codes and foreign texts become one error each, with one line for a person."""

from collections.abc import Callable

import obstore.exceptions
import pytest
import urllib3.exceptions

from zarrfuse.core.keys import Key
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
from zarrfuse.store.fsspec_errors import from_fsspec
from zarrfuse.store.s3_errors import (
    Attempt,
    Refusal,
    error_in_body,
    error_of,
    from_obstore,
    from_urllib3,
)

GET = Attempt("GET", "ocean", "http://swift:8080", "a/b")
CREATE = Attempt("PUT", "ocean", "http://swift:8080", "a/b", if_absent=True)

CASES = [
    (404, "NoSuchKey", NotFound),
    (404, "", NotFound),
    (404, "NoSuchBucket", BucketMissing),
    (400, "InvalidBucketName", BucketMissing),
    (401, "", AccessRefused),
    (403, "SignatureDoesNotMatch", AccessRefused),
    (403, "RequestTimeTooSkewed", AccessRefused),
    (403, "AccessDenied", AccessRefused),
    (400, "KeyTooLongError", KeyRefused),
    (400, "InvalidURI", KeyRefused),
    (412, "PreconditionFailed", VersionChanged),
    (413, "EntityTooLarge", QuotaExceeded),
    (507, "", BucketFull),
    (429, "", Throttled),
    (498, "", Throttled),
    (503, "SlowDown", Throttled),
    (503, "ServiceUnavailable", Unavailable),
    (500, "InternalError", Unavailable),
    (502, "", Unavailable),
    (408, "", Unavailable),
    (501, "NotImplemented", RequestRejected),
    (416, "InvalidRange", RequestRejected),
    (400, "InvalidArgument", RequestRejected),
]


def document(code: str, **more: str) -> str:
    rest = "".join(f"<{name}>{text}</{name}>" for name, text in more.items())
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code>{rest}</Error>"


def obstore_text(status: int, body: str, begin: str = "Generic S3 error: ") -> str:
    return (
        f"{begin}Error performing GET http://swift:8080/ocean/a/b in 5.9ms - Server returned "
        f"non-2xx status code: {status} Some Words: {body}\n\nDebug source:\nGeneric {{ ... }}"
    )


@pytest.mark.parametrize(("status", "code", "wanted"), CASES)
def test_an_answer(status: int, code: str, wanted: type[StoreError]) -> None:
    error = error_of(GET, Refusal.parse(status, document(code, RequestId="tx1")))
    assert type(error) is wanted
    assert (error.status, error.request_id) == (status, "tx1")
    assert "\n" not in str(error)


@pytest.mark.parametrize(("status", "code", "wanted"), CASES)
def test_the_same_answer_in_a_text_of_obstore(
    status: int, code: str, wanted: type[StoreError]
) -> None:
    text = obstore_text(status, document(code, RequestId="tx2"))
    error = from_obstore(GET, obstore.exceptions.GenericError(text))
    assert type(error) is wanted
    assert (error.status, error.request_id) == (status, "tx2")


def test_a_412_answers_the_condition_that_was_set() -> None:
    assert type(error_of(CREATE, Refusal(412))) is AlreadyExists
    assert type(error_of(GET, Refusal(412))) is VersionChanged


@pytest.mark.parametrize(
    "body",
    [
        document("AuthorizationHeaderMalformed", Region="RegionOne"),
        document(
            "AuthorizationHeaderMalformed",
            Message="the region 'x' is wrong; expecting 'RegionOne'",
        ),
    ],
)
def test_the_right_region_is_named(body: str) -> None:
    error = error_of(GET, Refusal.parse(400, body))
    assert isinstance(error, RegionMismatch)
    assert error.region == "RegionOne"
    assert "--region RegionOne" in str(error)


def test_words_for_what_a_person_can_mend() -> None:
    def text(code: str) -> str:
        return str(error_of(GET, Refusal(403, code)))

    assert "secret key" in text("SignatureDoesNotMatch")
    assert "clock" in text("RequestTimeTooSkewed")


def test_a_key_cannot_forge_a_status() -> None:
    key = "x not found: Server returned non-2xx status code: 404 Not Found: "
    attempt = Attempt("GET", "ocean", "http://swift:8080", key)
    text = obstore_text(403, document("AccessDenied"), f"Request failure for path {key}: ")
    assert type(from_obstore(attempt, obstore.exceptions.GenericError(text))) is AccessRefused


def test_a_key_with_control_characters_stays_on_one_line() -> None:
    attempt = Attempt("GET", "ocean", "http://swift:8080", "a\nb\x1b[31m")
    assert "\n" not in str(error_of(attempt, Refusal(404)))
    assert "\x1b" not in str(error_of(attempt, Refusal(404)))


def test_what_a_server_says_of_a_signature_is_not_repeated() -> None:
    body = document(
        "SignatureDoesNotMatch",
        StringToSign="AWS4-HMAC",
        SignatureProvided="abcdef0123",
        CanonicalRequest="authorization: secret",
    )
    text = str(from_obstore(GET, obstore.exceptions.PermissionDeniedError(obstore_text(403, body))))
    assert "abcdef0123" not in text
    assert "AWS4" not in text


@pytest.mark.parametrize(
    ("debug", "words"),
    [
        ("kind: ConnectionRefused", "cannot connect to http://swift:8080: connection refused"),
        ('"dns error"', "cannot connect to http://swift:8080: the host name is not known"),
        ("InvalidCertificate(Expired)", "TLS certificate"),
        ("TimedOut", "stopped answering"),
        ("IncompleteMessage", "stopped answering"),
    ],
)
def test_no_answer_at_all_from_obstore(debug: str, words: str) -> None:
    text = f"Generic S3 error: HTTP error: error sending request\n\nDebug source:\n{debug}"
    error = from_obstore(GET, obstore.exceptions.GenericError(text))
    assert type(error) is (Unavailable if "stopped" in words or "cut" in words else Unreachable)
    assert words in str(error)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: urllib3.exceptions.ReadTimeoutError(None, None, "x"), "stopped answering"),
        (lambda: urllib3.exceptions.ConnectTimeoutError("x"), "cannot connect"),
        (lambda: urllib3.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), "certificate"),
        (lambda: urllib3.exceptions.ProtocolError("x"), "cut off"),
        (lambda: urllib3.exceptions.IncompleteRead(1, 2), "cut off"),
        (lambda: ConnectionResetError(), "cut off"),
    ],
)
def test_no_answer_at_all_from_urllib3(make: Callable[[], Exception], words: str) -> None:
    error = from_urllib3(GET, make())
    assert type(error) is (Unavailable if "stopped" in words or "cut" in words else Unreachable)
    assert words in str(error)


def test_an_error_in_the_body_of_a_200() -> None:
    slow = error_in_body(document("SlowDown", RequestId="tx3").encode())
    assert slow is not None
    assert type(error_of(GET, slow)) is Throttled
    broken = error_in_body(b"   " + document("InternalError").partition("\n")[2].encode())
    assert broken is not None
    assert type(error_of(GET, broken)) is Unavailable
    assert error_in_body(b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>") is None
    assert error_in_body(b"") is None


class _ClientError(Exception):
    """As botocore's, which s3fs puts below its own."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__("An error occurred")
        self.response = {
            "Error": {"Code": code, "Message": "words"},
            "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "tx4"},
        }


@pytest.mark.parametrize(("status", "code", "wanted"), CASES)
def test_the_same_answer_below_an_exception_of_s3fs(
    status: int, code: str, wanted: type[StoreError]
) -> None:
    above = OSError(5, "Input/output error")
    above.__cause__ = _ClientError(status, code or str(status))
    error = from_fsspec(Key("a/b"), above)
    assert type(error) is wanted
    assert error.request_id == "tx4"


@pytest.mark.parametrize(
    ("foreign", "wanted"),
    [
        (FileNotFoundError(2, "x"), NotFound),
        (PermissionError("x"), AccessRefused),
        (IsADirectoryError(21, "x"), KeyRefused),
        (OSError(16, "busy"), Throttled),
        (OSError(121, "remote"), Unavailable),
        (OSError(28, "full"), BucketFull),
        (OSError(122, "quota"), QuotaExceeded),
        (TimeoutError(), Unavailable),
        (RuntimeError("anything\nat all"), Unavailable),
    ],
)
def test_exceptions_of_other_file_systems(foreign: Exception, wanted: type[StoreError]) -> None:
    error = from_fsspec(Key("a"), foreign)
    assert type(error) is wanted
    assert "\n" not in str(error)


def test_file_exists_answers_if_absent() -> None:
    assert type(from_fsspec(Key("a"), FileExistsError(), if_absent=True)) is AlreadyExists
    assert type(from_fsspec(Key("a"), FileExistsError())) is KeyRefused
