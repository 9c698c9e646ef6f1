"""Every error of zarrfuse, and the one table that makes errnos of them.

An exception carries facts (a key, a status, a request id); what a program sees of it is decided
here and nowhere else. Anything that is not in the tree below is a defect or a surprise: the mount
logs it with its traceback and answers EIO.

    ZarrfuseError
    ├── StoreError                 the bucket, or the way to it
    │   ├── NotFound               no object of that key (an answer, not a failure)
    │   ├── AlreadyExists          if-absent was asked for, and something is there
    │   ├── VersionChanged         if-match was asked for, and that version is gone
    │   ├── AccessRefused          401, 403: the keys are wrong or may not do this
    │   ├── BucketMissing          the bucket does not exist, or not for these keys
    │   ├── RegionMismatch         the signature names another region than the server's
    │   ├── KeyRefused             this store cannot hold an object of that key
    │   ├── QuotaExceeded          413: the bucket's or project's quota
    │   ├── BucketFull             507: the server has no room
    │   ├── RequestRejected        any other 4xx, or 501: repeating it will not help
    │   └── Unavailable            unreachable, 5xx, timed out, cut short: may be tried again
    │       ├── Throttled          429, 498, 503 SlowDown: may be tried again, slower
    │       ├── Unreachable        no connection: refused, no route, no such host, no TLS
    │       └── Offline            no answer for a whole budget: not even tried, for a few seconds
    ├── TreeError                  what a file system answers by itself
    │   ├── NoEntry, EntryExists, IsDirectory, NotDirectory, NotEmpty, ReadOnly, NotOffered,
    │   └── NotPermitted, CrossTree, NameTooLong, NameRefused, Busy, BadHandle, ContentGone
    ├── SpoolError                 the local disk under the spool
    │   └── SpoolFull
    ├── ConversionError            a file that did not become a Zarr store
    │   ├── NotNetCDF, Unsupported, ConversionCrashed, ConversionCancelled
    │   └── TargetExists           something stands where the store would go
    └── UserError                  one line for the person at the terminal, with an exit code
"""

from __future__ import annotations

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command exits with, after sysexits.h."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    OS = 71
    CANNOT_CREATE = 73
    IO = 74
    TRY_AGAIN = 75
    PERMISSION = 77
    CONFIG = 78


class ZarrfuseError(Exception):
    """Anything zarrfuse itself reports."""


class StoreError(ZarrfuseError):
    """The bucket, or the way to it, answered something else than was asked for.

    `request_id` is the server's own name for the request, for its admin's logs; "" if unknown.
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class NotFound(StoreError):
    """No object has this key."""


class AlreadyExists(StoreError):
    """An object of this key stands there already."""


class VersionChanged(StoreError):
    """The version (ETag) that was asked for is gone."""


class AccessRefused(StoreError):
    """The keys are unknown, or may not do this."""


class BucketMissing(StoreError):
    """There is no such bucket, or none that these keys may see."""


class RegionMismatch(StoreError):
    """The request was signed for another region than the server's; `region` is the right one."""

    def __init__(self, message: str, *, region: str, request_id: str = "") -> None:
        super().__init__(message, status=400, request_id=request_id)
        self.region = region


class KeyRefused(StoreError):
    """This store cannot hold an object of this key."""


class QuotaExceeded(StoreError):
    """The quota of the bucket or the project is used up."""


class BucketFull(StoreError):
    """The server has no room left."""


class RequestRejected(StoreError):
    """The server will not do this, however often it is asked."""


class Unavailable(StoreError):
    """The server could not be reached, failed, or cut its answer short. Trying again may help.

    `retry_after_s` is when the server wants to be asked again; None where it did not say.
    """

    retry_after_s: float | None = None


class Throttled(Unavailable):
    """The server asks for fewer requests."""


class Unreachable(Unavailable):
    """No connection can be had: nobody listens, the host is unknown, or it is no TLS we trust."""


class Offline(Unavailable):
    """Nobody answers there, for some time already; only a read is told so."""


class TreeError(ZarrfuseError):
    """What a file system answers by itself; the message is a path or a reason."""


class NoEntry(TreeError):
    """No file or directory of that name."""


class EntryExists(TreeError):
    """A file or directory of that name exists."""


class IsDirectory(TreeError):
    """The path is a directory."""


class NotDirectory(TreeError):
    """A part of the path is no directory."""


class NotEmpty(TreeError):
    """The directory has entries."""


class ReadOnly(TreeError):
    """This mount, or this entry, takes no writes."""


class NotOffered(TreeError):
    """A file system feature that a bucket cannot have."""


class CrossTree(TreeError):
    """The two paths lie in different trees, or the rename is too big: copy instead."""


class NotPermitted(TreeError):
    """A change of mode that would promise more than it keeps."""


class NameTooLong(TreeError):
    """The name or the key is longer than the bucket can hold."""


class NameRefused(TreeError):
    """The name cannot be a key (it is not UTF-8, or the store refuses it)."""


class Busy(TreeError):
    """Somebody is using it."""


class BadHandle(TreeError):
    """No open file has this handle."""


class ContentGone(TreeError):
    """The file's bytes have become a Zarr store and are no longer kept as a file."""


class SpoolError(ZarrfuseError):
    """The local disk under the spool failed."""


class SpoolFull(SpoolError):
    """No room for written bytes that are not in the bucket yet."""


class ConversionError(ZarrfuseError):
    """A file that did not become a Zarr store; the message is for its owner."""


class NotNetCDF(ConversionError):
    """The file is not NetCDF, or is damaged."""


class Unsupported(ConversionError):
    """The file holds something that Zarr cannot."""


class ConversionCrashed(ConversionError):
    """The converter process died, ran out of memory or out of time."""


class ConversionCancelled(ConversionError):
    """Whoever asked for the store does not want it any more."""


class TargetExists(ConversionError):
    """Something stands where the store would go, and it is not ours to replace."""


class UserError(ZarrfuseError):
    """One line for a person: the cause and the cure."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_ERRNO: dict[type[ZarrfuseError], int] = {
    StoreError: errno.EIO,
    NotFound: errno.ENOENT,
    AlreadyExists: errno.EEXIST,
    VersionChanged: errno.ESTALE,
    AccessRefused: errno.EACCES,
    KeyRefused: errno.EINVAL,
    QuotaExceeded: errno.EDQUOT,
    BucketFull: errno.ENOSPC,
    NoEntry: errno.ENOENT,
    EntryExists: errno.EEXIST,
    IsDirectory: errno.EISDIR,
    NotDirectory: errno.ENOTDIR,
    NotEmpty: errno.ENOTEMPTY,
    ReadOnly: errno.EROFS,
    NotOffered: errno.EOPNOTSUPP,
    NotPermitted: errno.EPERM,
    CrossTree: errno.EXDEV,
    NameTooLong: errno.ENAMETOOLONG,
    NameRefused: errno.EINVAL,
    Busy: errno.EBUSY,
    BadHandle: errno.EBADF,
    ContentGone: errno.ENODATA,
    SpoolFull: errno.ENOSPC,
    NotNetCDF: errno.EINVAL,
    Unsupported: errno.EINVAL,
    ConversionCrashed: errno.EIO,
    ConversionCancelled: errno.ECANCELED,
    TargetExists: errno.EEXIST,
}


def errno_of(error: ZarrfuseError) -> int:
    """The errno a program gets for `error`: of its class, else of the nearest base, else EIO."""
    for cls in type(error).__mro__:
        if cls in _ERRNO:
            return _ERRNO[cls]
    return errno.EIO


def user_error_of(error: ZarrfuseError, what: str) -> UserError:
    """`error` as one line that says what was tried, with the exit code that fits."""
    match error:
        case UserError():
            return error
        case AccessRefused():
            code = ExitCode.PERMISSION
        case BucketMissing() | RegionMismatch():
            code = ExitCode.CONFIG
        case Unavailable():
            code = ExitCode.UNAVAILABLE
        case TargetExists() | AlreadyExists():
            code = ExitCode.CANNOT_CREATE
        case NotNetCDF() | Unsupported() | ConversionCrashed():
            code = ExitCode.DATA
        case NotFound():
            code = ExitCode.NO_INPUT
        case _:
            code = ExitCode.IO
    return UserError(f"{what}: {error}", code)
