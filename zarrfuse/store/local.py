"""A local directory as a bucket, for `file:///data`: every file below it is an object.

Writes are whole or nothing: a temporary file beside the target, then rename (link, where it must
not exist yet). Keys that are no paths are refused before anything is written. An ETag is the
file's inode, modification time and size. A directory stays when its last file goes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix, is_file_name, is_key_text
from zarrfuse.errors import (
    AccessRefused,
    AlreadyExists,
    BucketFull,
    BucketMissing,
    KeyRefused,
    NotFound,
    QuotaExceeded,
    StoreError,
    Unavailable,
    VersionChanged,
)
from zarrfuse.store.base import Body, Fetched, Page, delete_each
from zarrfuse.store.order import cut_page

#: Ours, and hidden from our listings: ".NAME.<32 hex>.partial" would be a user's right to see.
_TEMPORARY = ".zarrfuse-"

_BY_ERRNO: dict[int, type[StoreError]] = {
    errno.ENOENT: NotFound,
    errno.EISDIR: KeyRefused,
    errno.ENOTDIR: NotFound,  # a put has made its directories before
    errno.EEXIST: KeyRefused,
    errno.ENOTEMPTY: KeyRefused,
    errno.ENAMETOOLONG: KeyRefused,
    errno.EILSEQ: KeyRefused,
    errno.EINVAL: KeyRefused,
    errno.EACCES: AccessRefused,
    errno.EPERM: AccessRefused,
    errno.EROFS: AccessRefused,
    errno.ENOSPC: BucketFull,
    errno.EDQUOT: QuotaExceeded,
}


class LocalStore:
    """`root` must be a directory. Any thread may call."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def describe(self) -> str:
        return f"file://{self._root}"

    def close(self) -> None:
        """Nothing is kept open."""

    # reading

    def head(self, key: Key) -> ObjectMeta:
        with _told(key):
            return _meta(key, self._path(key).stat())

    def get(
        self,
        key: Key,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: ETag | None = None,
    ) -> Fetched:
        """One version, because a put replaces the file and the old one stays readable.

        Where another program writes into the file itself: Unavailable, so it is read again.
        """
        with _told(key), _opened(self._path(key)) as fd:
            meta = _meta(key, os.fstat(fd))
            _require(meta, if_match)
            length = max(0, (meta.size if stop is None else min(stop, meta.size)) - start)
            data = _read(fd, start, length)
            if len(data) != length or _meta(key, os.fstat(fd)) != meta:
                raise Unavailable(f"{key}: changed while it was being read")
        return Fetched(meta, data)

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        """Reads one directory, or the whole tree under the prefix without a delimiter."""
        top = Key(prefix).parent
        objects: list[ObjectMeta] = []
        prefixes: list[Prefix] = []
        with _told(Key(prefix)):
            if not self._root.is_dir():
                raise BucketMissing(f"{self.describe}: there is no such directory")
            for row in self._rows(top, deep=not delimiter):
                if not row.startswith(prefix):
                    continue
                if isinstance(row, Prefix):
                    prefixes.append(row)
                elif (meta := self._listed(row)) is not None:
                    objects.append(meta)
        return cut_page(objects, prefixes if delimiter else [], after, limit)

    def _rows(self, top: Prefix, *, deep: bool) -> Iterator[Key | Prefix]:
        """The entries of a directory; of all below it with `deep`, without following links."""
        if not all(is_file_name(part.name) for part in top.lineage() if part):
            return
        try:
            entries = list(os.scandir(self._root / top))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.is_dir(follow_symlinks=not deep):
                if not entry.name.startswith(_TEMPORARY) and is_key_text(entry.name):
                    yield top.file(entry.name)
            elif deep:
                yield from self._rows(top.directory(entry.name), deep=True)
            elif is_key_text(entry.name):
                yield top.directory(entry.name)

    def _listed(self, key: Key) -> ObjectMeta | None:
        try:
            return self.head(key)
        except NotFound:  # gone since the directory was read, or a dangling link
            return None

    # writing

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        target = self._path(key)
        temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        self._make_parent(key, target)
        with _told(key):
            if target.is_dir():
                raise KeyRefused(f"{key}: is a directory here")
            try:
                _write(temporary, body)
                meta = _meta(key, temporary.stat())
                _publish(temporary, target, if_absent=if_absent)
            finally:
                temporary.unlink(missing_ok=True)
        return meta

    def _make_parent(self, key: Key, target: Path) -> None:
        try:
            with _told(key):
                target.parent.mkdir(parents=True, exist_ok=True)
        except NotFound:  # ENOTDIR: a file stands where a directory would have to be
            raise KeyRefused(f"{key}: lies below a file") from None

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """With `if_match`, the version is looked at before: a writer in between is not seen."""
        try:
            meta = self.head(key)
        except (NotFound, KeyRefused):
            return
        _require(meta, if_match)
        with _told(key):
            self._path(key).unlink(missing_ok=True)

    def delete_many(self, keys: Sequence[Key]) -> Mapping[Key, StoreError]:
        return delete_each(self, keys)

    def copy(self, source: Key, target: Key, *, if_match: ETag | None = None) -> ObjectMeta:
        """With `if_match`, the version is looked at before and after."""
        before = self.head(source)
        _require(before, if_match)
        meta = self.put(target, self._path(source))
        if source != target:
            _require(self.head(source), before.etag)
        return meta

    def _path(self, key: Key) -> Path:
        """Where the object is; KeyRefused for a key that is no path below the root."""
        if not is_key_text(key):
            raise KeyRefused(f"{key!a}: not UTF-8, empty, or longer than 1024 bytes")
        names = [key.name, *(part.name for part in key.parent.lineage() if part)]
        if not all(is_file_name(name) for name in names) or key.name.startswith(_TEMPORARY):
            raise KeyRefused(f"{key!a}: cannot be a file's path")
        return self._root / key


def _meta(key: Key, found: os.stat_result) -> ObjectMeta:
    if stat.S_ISDIR(found.st_mode):
        raise NotFound(f"{key}: is a directory")
    etag = ETag(f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")
    return ObjectMeta(key, found.st_size, etag, found.st_mtime_ns)


def _require(meta: ObjectMeta, etag: ETag | None) -> None:
    if etag is not None and meta.etag != etag:
        raise VersionChanged(f"{meta.key}: is another version by now")


def _publish(temporary: Path, target: Path, *, if_absent: bool) -> None:
    if not if_absent:
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise AlreadyExists(f"{target.name}: a file of that name exists") from None


def _write(path: Path, body: Body) -> None:
    """The bytes in a new file, safe on the disk."""
    with path.open("xb") as file:
        if isinstance(body, bytes):
            file.write(body)
        else:
            with body.open("rb") as source:
                shutil.copyfileobj(source, file, 1024 * 1024)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, start: int, length: int) -> bytes:
    """As pread, which may answer less than was asked for."""
    pieces: list[bytes] = []
    while length and (piece := os.pread(fd, length, start)):
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return b"".join(pieces)


@contextmanager
def _told(key: Key) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except OSError as error:
        kind = _BY_ERRNO.get(error.errno or 0, Unavailable)
        raise kind(f"{key}: {(error.strerror or 'failed').lower()}") from error
