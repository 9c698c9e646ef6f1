"""The drop box as a directory tree: the bucket's directories, and the files that were dropped.

Zarr stores and plain files of the bucket are not shown, so that a place to drop a file is found by
its own name. Knows jobs and spool files; what a conversion does is no matter of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix, path_key
from zarrfuse.core.temporary import Temporary, temporary_by_name
from zarrfuse.core.zarr.names import NODE_NAMES
from zarrfuse.dropbox.jobs import Job, Jobs, State
from zarrfuse.errors import (
    ContentGone,
    EntryExists,
    IsDirectory,
    NoEntry,
    NotDirectory,
    NotNetCDF,
    NotOffered,
    ReadOnly,
    SpoolError,
    VersionChanged,
)
from zarrfuse.listing.listing import Listing
from zarrfuse.spool.files import SpoolFile
from zarrfuse.spool.written import OldName, WriteHandle, WrittenFiles
from zarrfuse.tree.base import Handle, Opening, ReadOnlyHandle, Tree

#: Directories are looked into so many at a time, to tell which of them are Zarr stores.
_LOOKS_AT_ONCE = 16
ERROR_ENDING = ".error.txt"


class Intake:
    """The `publish` of the drop box's written files: a job is queued, its bytes are durable."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def publish(self, key: Key, file: SpoolFile, *, if_absent: bool = False) -> ObjectMeta:
        if if_absent:
            raise NotOffered("links in the drop box")
        job = self._jobs.submit(key, file, _now_of(file))
        return _meta(job)

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        """Bytes of a dropped file while it is still one."""
        job = self._jobs.find(meta.key)
        if job is None or _version(job) != meta.etag:
            raise VersionChanged(f"{meta.key.name} was dropped again or removed")
        return read_job(job, start, stop - start)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a DropBoxTree is built from. `bucket` makes and removes the directories."""

    bucket: Tree
    listing: Listing
    written: WrittenFiles
    jobs: Jobs
    wait_s: float


class TextHandle(ReadOnlyHandle):
    """An open file of fixed bytes: an error text, or a dropped file that waits."""

    def __init__(self, job: Job, attributes: Attributes, text: bytes | None) -> None:
        self._job = job
        self._text = text
        self.attributes = attributes

    def read(self, offset: int, size: int) -> bytes:
        if self._text is not None:
            return self._text[offset : offset + size]
        return read_job(self._job, offset, size)


class DropHandle:
    """An open file that becomes a Zarr store when it is closed; close() waits for the store."""

    def __init__(self, handle: WriteHandle, jobs: Jobs, wait_s: float) -> None:
        self._handle = handle
        self._jobs = jobs
        self._wait_s = wait_s

    @property
    def attributes(self) -> Attributes:
        return self._handle.attributes

    def read(self, offset: int, size: int) -> bytes:
        return self._handle.read(offset, size)

    def write(self, offset: int, data: bytes) -> int:
        return self._handle.write(offset, data)

    def truncate(self, size: int) -> None:
        self._handle.truncate(size)

    def flush(self, caller: int) -> None:
        file = self._handle.file
        if file.temporary is not None:
            return
        if file.size == 0 and file.dirty and self._handle.is_opener(caller):
            # `cat >` and `dd` come by here too, before they write; they do not look.
            error = NotNetCDF("the file is empty")
            file.refuse(lambda spooled: self._jobs.fail(file.key, spooled, error))
            raise error
        closing = self._handle.is_closing(caller)
        self._handle.flush(caller)
        if closing:
            self._await_store(self._wait_s)

    def sync(self) -> None:
        self._handle.sync()
        if self._handle.file.temporary is None:
            self._await_store(None)

    def release(self) -> None:
        self._handle.release()

    def _await_store(self, timeout_s: float | None) -> None:
        """Raises why there is no store; returns when it is there, or when the time is over."""
        job = self._jobs.find(self._handle.file.key)
        if job is not None and job.over.wait(timeout_s) and job.error is not None:
            raise job.error


class DropBoxTree:
    """See the module. Implements tree.base.Tree."""

    def __init__(self, parts: Parts) -> None:
        self._bucket = parts.bucket
        self._listing = parts.listing
        self._written = parts.written
        self._jobs = parts.jobs
        self._wait_s = parts.wait_s

    def attributes(self, path: str) -> Attributes:
        key = path_key(path)
        file = self._written.find(key)
        if file is not None:
            return file.attributes
        job, is_text = self._job(key)
        if job is not None:
            return _text_attributes(job) if is_text else _job_attributes(job)
        if self._is_place(key.as_prefix):
            return self._bucket.attributes(path)
        raise NoEntry(path)

    def entries(self, path: str) -> Iterator[tuple[str, Attributes]]:
        prefix = path_key(path).as_prefix
        if not self._is_place(prefix):
            raise NotDirectory(path) if self._job(prefix.as_key)[0] else NoEntry(path)
        shown = {
            place.name: self._bucket.attributes(f"/{place.as_key}")
            for place in self._places(prefix)
        }
        for job in self._jobs.children(prefix):
            shown[job.key.name] = _job_attributes(job)
            if job.error is not None and job.error_shown:
                shown[job.key.name + ERROR_ENDING] = _text_attributes(job)
        for file in self._written.children(prefix):
            if file.temporary is None:
                shown[file.key.name] = file.attributes
        return iter(sorted(shown.items()))

    def open(self, path: str, how: Opening) -> Handle:
        key = path_key(path)
        if self._written.find(key) is not None:
            return self._start(key, how) if how.truncate else self._reopen(key, how)
        job, is_text = self._job(key)
        if job is None:
            raise IsDirectory(path) if self._is_place(key.as_prefix) else NoEntry(path)
        if is_text and not how.read_only:
            raise ReadOnly(path)
        if is_text:
            return TextHandle(job, _text_attributes(job), job.error_text.encode())
        if how.truncate:
            return self._start(key, how)
        if job.state is State.DONE:
            raise ContentGone(f"{key.name} has become a Zarr store")
        if how.read_only:
            return TextHandle(job, _job_attributes(job), None)
        return self._reopen(key, how)

    def create(self, path: str, how: Opening) -> Handle:
        key = path_key(path)
        if not self._is_place(key.parent):
            raise NoEntry(path)
        if self._is_place(key.as_prefix):
            raise IsDirectory(path)
        if how.exclusive and (self._written.find(key) or self._job(key)[0]):
            raise EntryExists(path)
        return self._start(key, how)

    def truncate(self, path: str, size: int) -> None:
        handle = self.open(path, Opening(read_only=False, truncate=size == 0))
        try:
            handle.truncate(size)
        finally:
            handle.release()

    def mkdir(self, path: str) -> None:
        if self._job(path_key(path))[0] or self._written.find(path_key(path)):
            raise EntryExists(path)
        self._bucket.mkdir(path)

    def rmdir(self, path: str) -> None:
        if not self._is_place(path_key(path).as_prefix):
            raise NoEntry(path)
        self._bucket.rmdir(path)

    def unlink(self, path: str) -> None:
        key = path_key(path)
        file = self._written.find(key)
        if file is not None:
            self._written.unlink(file, _no_object)
        job, is_text = self._job(key)
        if job is not None and is_text:
            job.error_shown = False
        elif job is not None:
            self._jobs.forget(key)
        elif file is None:
            raise NoEntry(path)

    def rename(self, old: str, new: str) -> None:
        """A temporary file gets its final name: queued when this returns, not converted yet."""
        source, target = path_key(old), path_key(new)
        file = self._written.find(source)
        hidden = temporary_by_name(target.name) is Temporary.CERTAIN
        if file is None and hidden and self._job(source)[0] is not None:
            self.unlink(old)  # libfuse's .fuse_hidden: removed while somebody reads it
            return
        if file is None:
            raise NotOffered("renaming what has been dropped already")
        if not self._is_place(target.parent):
            raise NoEntry(new)
        if self._is_place(target.as_prefix):
            raise IsDirectory(new)
        self._written.rename(file, target, OldName(None, self._jobs.forget))

    def link(self, existing: str, new: str) -> None:
        raise NotOffered("links in the drop box")

    def set_time(self, path: str, mtime_ns: int) -> None:
        key = path_key(path)
        file = self._written.find(key)
        if file is not None:
            file.given_mtime_ns = file.mtime_ns = mtime_ns
        job, is_text = self._job(key)
        if job is not None and not is_text:
            job.mtime_ns = mtime_ns

    def drain(self) -> None:
        self._written.drain()

    # Inside --------------------------------------------------------------------------------

    def _job(self, key: Key) -> tuple[Job | None, bool]:
        """The job that this name shows, and whether as its error text."""
        job = self._jobs.find(key)
        if job is not None or not key.endswith(ERROR_ENDING):
            return job, False
        job = self._jobs.find(Key(key.removesuffix(ERROR_ENDING)))
        shown = job is not None and job.error is not None and job.error_shown
        return (job, True) if shown else (None, False)

    def _is_place(self, prefix: Prefix) -> bool:
        """Whether a file can be dropped there: a directory that is no Zarr store."""
        if prefix.is_root:
            return True
        if temporary_by_name(prefix.name) is Temporary.CERTAIN:
            return False
        found = self._listing.is_directory(prefix, stale_ok=True)
        return found and not self._is_store(prefix)

    def _is_store(self, prefix: Prefix) -> bool:
        if prefix.name.endswith(".zarr"):
            return True
        return any(self._listing.lookup(prefix, name) is not None for name in NODE_NAMES)

    def _places(self, prefix: Prefix) -> list[Prefix]:
        listed = self._listing.children(prefix, stale_ok=True)
        found = [row for _, row in listed if isinstance(row, Prefix)]
        if not found:
            return []
        with ThreadPoolExecutor(min(_LOOKS_AT_ONCE, len(found))) as pool:
            stores = list(pool.map(self._is_store, found))
        return [place for place, is_store in zip(found, stores, strict=True) if not is_store]

    def _start(self, key: Key, how: Opening) -> Handle:
        handle = self._written.create(
            key, None, opener=how.opener, exclusive=how.exclusive, mode=how.mode
        )
        return DropHandle(handle, self._jobs, self._wait_s)

    def _reopen(self, key: Key, how: Opening) -> Handle:
        job = self._jobs.find(key)
        base = None if job is None else _meta(job)
        handle = self._written.open(key, base, opener=how.opener)
        return DropHandle(handle, self._jobs, self._wait_s)


def read_job(job: Job, offset: int, size: int) -> bytes:
    """Bytes of a dropped file that waits, or that failed."""
    if job.state is State.DONE:
        raise ContentGone(f"{job.key.name} has become a Zarr store")
    try:
        return job.file.read(offset, size)
    except SpoolError:  # it has become a store between the question and the reading
        raise ContentGone(f"{job.key.name} has become a Zarr store") from None


def _version(job: Job) -> ETag:
    return ETag(f"job-{job.number}")


def _meta(job: Job) -> ObjectMeta:
    return ObjectMeta(job.key, job.size, _version(job), job.mtime_ns)


def _no_object() -> None:
    """Its job is another matter."""


def _job_attributes(job: Job) -> Attributes:
    return Attributes(
        is_directory=False, size=job.size, mtime_ns=job.mtime_ns, version=_version(job)
    )


def _text_attributes(job: Job) -> Attributes:
    size = len(job.error_text.encode())
    version = f"text-{job.number}"
    return Attributes(False, size, job.mtime_ns, version, read_only=True)


def _now_of(file: SpoolFile) -> int:
    return file.stamp()[0]
