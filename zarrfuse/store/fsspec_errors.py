"""What a file system of fsspec raised, as an error of zarrfuse.

Pure. s3fs hides the server's answer in the chain of causes: where it is found, it is told like
an answer to our own requests. Texts of foreign exceptions are cut to their first line.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

import botocore.exceptions as boto

from zarrfuse.core.keys import Key
from zarrfuse.errors import (
    AccessRefused,
    AlreadyExists,
    BucketFull,
    KeyRefused,
    NotFound,
    QuotaExceeded,
    RequestRejected,
    StoreError,
    Throttled,
    Unavailable,
)
from zarrfuse.store.s3_errors import Attempt, Refusal, cannot_connect, error_of

#: What s3fs makes of statuses (ENOSYS of 501, EBUSY of 503), and what systems say.
_BY_ERRNO: dict[int, type[StoreError]] = {
    errno.ENOENT: NotFound,
    errno.EACCES: AccessRefused,
    errno.EPERM: AccessRefused,
    errno.EISDIR: KeyRefused,
    errno.ENOTDIR: KeyRefused,
    errno.EEXIST: KeyRefused,
    errno.ENAMETOOLONG: KeyRefused,
    errno.ENOSYS: RequestRejected,
    errno.EINVAL: RequestRejected,
    errno.EBUSY: Throttled,
    errno.ENOSPC: BucketFull,
    errno.EDQUOT: QuotaExceeded,
}

_BY_TYPE: tuple[tuple[type[BaseException], type[StoreError]], ...] = (
    (FileNotFoundError, NotFound),
    (PermissionError, AccessRefused),
    (FileExistsError, KeyRefused),
    (IsADirectoryError, KeyRefused),
    (NotADirectoryError, KeyRefused),
    (boto.ParamValidationError, KeyRefused),
    (boto.NoCredentialsError, AccessRefused),
    (ValueError, KeyRefused),
    (NotImplementedError, RequestRejected),
)


def from_fsspec(key: Key, error: Exception, *, if_absent: bool = False) -> StoreError:
    """The nearest of ours; Unavailable for what nobody has named."""
    attempt = Attempt("request for", "", "", key, if_absent)
    for cause in _chain(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, Mapping) and "Error" in answer:
            return error_of(attempt, _refusal(answer))
        if isinstance(cause, boto.EndpointConnectionError):
            endpoint = str(cause.kwargs.get("endpoint_url", "the endpoint"))
            return cannot_connect(Attempt("", "", endpoint), "no connection")
    if if_absent and isinstance(error, FileExistsError):
        return AlreadyExists(f"{key}: an object of that key exists")
    return _by_class(key, error)


def _by_class(key: Key, error: Exception) -> StoreError:
    for foreign, ours in _BY_TYPE:
        if isinstance(error, foreign):
            return ours(f"{key}: {_first_line(error)}")
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno](f"{key}: {_first_line(error)}")
    return Unavailable(f"{key}: {type(error).__name__}: {_first_line(error)}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refusal(answer: Mapping[str, Mapping[str, object]]) -> Refusal:
    said, meta = answer.get("Error", {}), answer.get("ResponseMetadata", {})
    status, code = meta.get("HTTPStatusCode"), str(said.get("Code", ""))
    if not isinstance(status, int):
        status = int(code) if code.isdigit() else 500
    return Refusal(
        status=status,
        code="" if code.isdigit() else code,
        message=str(said.get("Message", "")),
        request_id=str(meta.get("RequestId", "")),
    )


def _first_line(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text.partition("\n")[0][:200] or type(error).__name__
