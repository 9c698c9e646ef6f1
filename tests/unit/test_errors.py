"""The one errno table: every class has an errno, none is ENOENT by accident, and exit codes fit."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import pytest

import zarrfuse.errors
from zarrfuse.errors import (
    ExitCode,
    NoEntry,
    NotFound,
    RegionMismatch,
    StoreError,
    UserError,
    ZarrfuseError,
    errno_of,
    user_error_of,
)
from zarrfuse.mount.guard import guard

EXPECTED = {
    "ZarrfuseError": errno.EIO,
    "StoreError": errno.EIO,
    "NotFound": errno.ENOENT,
    "AlreadyExists": errno.EEXIST,
    "VersionChanged": errno.ESTALE,
    "AccessRefused": errno.EACCES,
    "BucketMissing": errno.EIO,
    "RegionMismatch": errno.EIO,
    "KeyRefused": errno.EINVAL,
    "QuotaExceeded": errno.EDQUOT,
    "BucketFull": errno.ENOSPC,
    "RequestRejected": errno.EIO,
    "Unavailable": errno.EIO,
    "Throttled": errno.EIO,
    "Unreachable": errno.EIO,
    "Offline": errno.EIO,
    "TreeError": errno.EIO,
    "NoEntry": errno.ENOENT,
    "EntryExists": errno.EEXIST,
    "IsDirectory": errno.EISDIR,
    "NotDirectory": errno.ENOTDIR,
    "NotEmpty": errno.ENOTEMPTY,
    "ReadOnly": errno.EROFS,
    "NotOffered": errno.EOPNOTSUPP,
    "CrossTree": errno.EXDEV,
    "NotPermitted": errno.EPERM,
    "NameTooLong": errno.ENAMETOOLONG,
    "NameRefused": errno.EINVAL,
    "Busy": errno.EBUSY,
    "BadHandle": errno.EBADF,
    "ContentGone": errno.ENODATA,
    "SpoolError": errno.EIO,
    "SpoolFull": errno.ENOSPC,
    "ConversionError": errno.EIO,
    "NotNetCDF": errno.EINVAL,
    "Unsupported": errno.EINVAL,
    "ConversionCrashed": errno.EIO,
    "ConversionCancelled": errno.ECANCELED,
    "TargetExists": errno.EEXIST,
    "UserError": errno.EIO,
}


def classes(base: type[ZarrfuseError] = ZarrfuseError) -> Iterator[type[ZarrfuseError]]:
    if base.__module__ == zarrfuse.errors.__name__:
        yield base
    for sub in base.__subclasses__():
        yield from classes(sub)


def an(error: type[ZarrfuseError]) -> ZarrfuseError:
    if issubclass(error, RegionMismatch):
        return error("words", region="x")
    if issubclass(error, UserError):
        return error("words", ExitCode.USAGE)
    return error("words")


def test_every_class_has_an_errno_that_somebody_thought_of() -> None:
    assert {cls.__name__: errno_of(an(cls)) for cls in classes()} == EXPECTED


def test_the_picture_of_the_tree_shows_every_class() -> None:
    shown = set(re.findall(r"[A-Z][A-Za-z]+", str(zarrfuse.errors.__doc__)))
    assert {cls.__name__ for cls in classes()} <= shown


@pytest.mark.parametrize("cls", list(classes()), ids=lambda cls: cls.__name__)
def test_the_guard_gives_each_its_errno(cls: type[ZarrfuseError]) -> None:
    def operation() -> None:
        raise an(cls)

    assert guard(operation) == -errno_of(an(cls))


def test_only_an_answer_is_absence() -> None:
    absent = {cls for cls in classes() if errno_of(an(cls)) == errno.ENOENT}
    assert absent == {NotFound, NoEntry}


def test_a_new_class_takes_the_errno_of_its_base() -> None:
    class Odd(NotFound):
        """Not in the table."""

    assert errno_of(Odd("x")) == errno.ENOENT


CODES = {
    "AccessRefused": 77,
    "BucketMissing": 78,
    "RegionMismatch": 78,
    "Unavailable": 69,
    "Throttled": 69,
    "Unreachable": 69,
    "Offline": 69,
    "TargetExists": 73,
    "AlreadyExists": 73,
    "NotNetCDF": 65,
    "Unsupported": 65,
    "ConversionCrashed": 65,
    "NotFound": 66,
    "UserError": 64,
}


@pytest.mark.parametrize("cls", list(classes()), ids=lambda cls: cls.__name__)
def test_every_class_has_an_exit_code_and_one_line(cls: type[ZarrfuseError]) -> None:
    told = user_error_of(an(cls), "cannot mount")
    assert told.exit_code == CODES.get(cls.__name__, 74)
    assert "words" in str(told) and "\n" not in str(told)


def test_a_user_error_is_told_as_it_is() -> None:
    error = UserError("do this", ExitCode.CONFIG)
    assert user_error_of(error, "cannot mount") is error


def test_a_store_error_carries_its_facts() -> None:
    error = StoreError("x", status=503, request_id="tx1")
    assert (error.status, error.request_id) == (503, "tx1")
